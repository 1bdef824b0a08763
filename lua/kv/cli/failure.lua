-- SPDX-License-Identifier: MIT
--
-- failure.lua - how a command ends when it does not succeed.
--
-- Whatever goes wrong is raised as a table that says what to print and which exit status to leave
-- with; kv.cli.main catches it. Anything else that is raised is an error in the program.

local failure = {}

failure.USAGE = 2
failure.FAILED = 3
local UNMET = 1 -- not found, or a condition did not hold

-- Codes of kv that are not simply failures: answers, and arguments no store could do anything with.
local statuses = {
  not_found = UNMET, exists = UNMET, conflict = UNMET,
  bad_path = failure.USAGE, bad_cursor = failure.USAGE,
}

local meta = {}

function failure.raise(status, message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  error(setmetatable({ status = status, message = message }, meta), 0)
end

-- The user's mistake, with a text that shows how it is done.
function failure.usage(message, text)
  error(setmetatable({ status = failure.USAGE, message = message, text = text }, meta), 0)
end

-- Ends as a signal ends a program. message: nil says nothing.
function failure.signal(number, message)
  error(setmetatable({ signal = number, message = message }, meta), 0)
end

function failure.is(value)
  return type(value) == "table" and getmetatable(value) == meta
end

-- What a call of kv gave as nil, message, code. The code is shown as well: scripts look for it.
-- status: another one than the code's own.
function failure.of_code(code, message, status)
  error(setmetatable({
    status = status or statuses[code] or failure.FAILED, message = message, code = code,
  }, meta), 0)
end

local function tried(ok, first, ...)
  if ok or failure.is(first) then
    if ok then return first, ... end
    error(first, 0)
  end
  first = tostring(first)
  if first:find("not enough memory", 1, true) then failure.raise(failure.FAILED, first) end
  failure.raise(failure.USAGE, "%s", (first:gsub("^[^\n]-%.lua:%d+: ", "")))
end

-- The results of f(...), a call of kv. What kv raises is something the user should not have asked
-- for.
function failure.try(f, ...)
  return tried(pcall(f, ...))
end

-- Only a condition that did not hold is `false`; that something is in the way, such as a directory
-- that is not empty, is `nil`.
local function checked(first, message, code, ...)
  if not first and type(message) == "string" and code then
    failure.of_code(code, message, first == nil and code == "exists" and failure.FAILED or nil)
  end
  return first, message, code, ...
end

-- The same, and a call that failed, or whose condition did not hold, ends the command.
function failure.call(f, ...)
  return checked(failure.try(f, ...))
end

function failure.no_key(key)
  failure.of_code("not_found", ("no key '%s'"):format(key))
end

local function checked_key(key, first, message, code, ...)
  if not first and type(message) == "string" and code then
    if code == "not_found" then failure.no_key(key) end
    failure.of_code(code, ("key '%s': %s"):format(key, message))
  end
  return first, message, code, ...
end

-- The same for a call on one key, which messages then name.
function failure.on_key(key, f, ...)
  return checked_key(key, failure.try(f, ...))
end

return failure
