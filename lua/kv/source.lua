-- SPDX-License-Identifier: MIT
--
-- kv.source - what is read from and written to outside the store: functions in LTN12's manner, and
-- objects like file handles.

local core = require "kv.core"

local able, raise = core.transfer.able, core.raise

local source = {}

local tostring, type = tostring, type

-- Calls what is the program's. When that is a function of C, its error names the chunk it was
-- called from: not ours, whose name says where we are installed.
local call = assert((rawget(_G, "loadstring") or load)([[
  return function(f, ...)
    local x, y, z = f(...)
    return x, y, z
  end
]], "=kv"))()

local CHUNK = 65536 -- bytes asked for at a time

-- The codes that another part of kv may have given; any other failure is one of input or output.
local codes = {}
for code in ([[too_big full corrupt io busy denied readonly unsupported not_found exists conflict
  not_json too_deep]]):gmatch("%S+") do codes[code] = true end

-- What the system calls its errors, by the numbers that Lua's io functions return.
local numbers = {
  [2] = "not_found", [20] = "not_found", [13] = "denied", [28] = "full", [122] = "full",
}

function source.code(code)
  return codes[code] and code or numbers[code] or "io"
end

-- An object is not asked how it wants to be read: that would run code in the middle of ours.
local function text(message)
  local kind = type(message)
  if kind == "string" or kind == "number" then return tostring(message) end
  return "failed with a " .. kind
end

local function checked(what, chunk, message, code)
  if chunk == nil then
    if message == nil then return nil end
    return nil, text(message), source.code(code)
  end
  if type(chunk) ~= "string" then
    raise(("bad argument '%s': a reader must return strings and then nil, not a %s")
      :format(what, type(chunk)))
  end
  return chunk
end

-- A function that gives the next chunk, nil at the end, or nil, message, code. what: the argument's
-- name. size: bytes that an object is asked for at a time.
function source.open(from, what, size)
  if type(from) == "function" then
    return function() return checked(what, call(from)) end
  end
  size = size or CHUNK
  return function() return checked(what, call(from.read, from, size)) end
end

-- A sink that returns nothing has taken the chunk; LTN12's return 1.
local function taken(ok, message, code)
  if ok or (ok == nil and message == nil) then return true end
  return nil, message == nil and "the sink refused" or text(message), source.code(code)
end

-- Two functions, write(chunk) and finish(), both true, or nil, message, code. After a failure of
-- the program's own finish is called with the message.
function source.sink(to)
  if type(to) == "function" then
    return function(chunk) return taken(call(to, chunk)) end,
      function(failure) return taken(call(to, nil, failure)) end
  end
  return function(chunk) return taken(call(to.write, to, chunk)) end, function()
    if able(to, "flush") then return taken(call(to.flush, to)) end
    return true
  end
end

return source
