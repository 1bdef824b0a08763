-- SPDX-License-Identifier: MIT
--
-- session.lua - the store a command works on, from its first use to the end of the command.
--
-- A command that reads makes nothing; one that writes needs a store that is there. Only `set` and
-- `init` create.

local kv = require "kv"
local default_path = require "kv.default"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"

local session = {}

local path, store

-- What --store said, or nil.
function session.use(given)
  if given == "" then failure.raise(failure.USAGE, "--store needs a path") end
  path = given
end

-- how: "read", "write" or "create".
function session.store(how)
  if store then return store end
  path = path or default_path()
  if not path then
    failure.raise(failure.USAGE, "no store: say --store PATH, or set KV_STORE or HOME")
  end
  if path == ":memory:" then
    failure.raise(failure.USAGE, "a store in memory would be gone when the command ends")
  end
  local opened, message, code = failure.try(kv.open, path, { create = how == "create" })
  if not opened and how == "read" and (code == "denied" or code == "readonly") then
    opened, message, code = failure.try(kv.open, path, { create = false, readonly = true })
  end
  if code == "not_found" then
    failure.of_code(code, ("no store at %s; kv init and kv set make one"):format(path))
  end
  if not opened then
    if not message:find(path, 1, true) then message = ("%s: %s"):format(path, message) end
    failure.of_code(code, message)
  end
  store = opened
  local report = store:stats().report
  if report and report ~= "" then output.note("%s: %s", path, report) end
  return store
end

-- how: as above; "create" makes the namespace too.
function session.namespace(name, how)
  local opened = session.store(how)
  local ns, message, code =
    failure.try(opened.namespace, opened, name, { create = how == "create" })
  if ns then return ns end
  if code == "not_found" then
    message = ("no namespace '%s' in %s; kv init makes one"):format(name, path)
  end
  failure.of_code(code, message)
end

function session.path()
  return path
end

-- Everything written is durable when this returns.
function session.close()
  local open_one = store
  store = nil
  if open_one then open_one:close() end
end

return session
