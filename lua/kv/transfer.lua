-- SPDX-License-Identifier: MIT
--
-- kv.transfer - import and export: where the bytes come from and go to. What they mean is the
-- business of the C module; this is the loop around it, in Lua because sources and sinks may yield.

local core = require "kv.core"
local ops = require "kv.ops"
local protect = require "kv.protect"
local source = require "kv.source"

local c = core.transfer
local error, type = error, type
local open, remove, rename = io.open, os.remove, os.rename

local FILE_CHUNK = 262144 -- bytes read from a file at a time

-- Opens what a path names, or hands on anything else. Raises a caller's mistake.
local function check(ns, what, method, value)
  if type(value) == "string" then
    if ops.guarded(ns) then
      ops.raise(("bad argument '%s': a path is not allowed here, a function or file handle is")
        :format(what))
    end
    if value == "" or value:find("\0", 1, true) then
      ops.raise(("bad argument '%s': expected a path, got %s"):format(what,
        value == "" and "an empty string" or "one with a byte 0 in it"))
    end
  elseif not c.able(value, method) then
    ops.raise(("bad argument '%s': expected a path, a file handle or a function, got %s")
      :format(what, value == nil and "no value" or "a " .. type(value)))
  end
end

local function open_file(path, mode)
  local file, message, number = open(path, mode)
  if file then return file end
  return nil, message, source.code(number)
end

-- Hands on the results of a protected call.
local function results(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- import -----------------------------------------------------------------------------------------

-- The source failed: what came before that is written all the same.
local function broken_off(ns, importer, name, bad, message, code)
  local written, why, what = c.drain(ns, importer, bad)
  if not written then return nil, why, what end
  if name and not message:find(name, 1, true) then message = name .. ": " .. message end
  return nil, ("%s; %d written"):format(message, written), code
end

local function pour(ns, importer, from, name)
  local next_chunk = source.open(from, "source", FILE_CHUNK)
  local bad = {}
  while true do
    local chunk, message, code = next_chunk()
    if not chunk then
      if message then return broken_off(ns, importer, name, bad, message, code) end
      local count, why, what = c.finish(ns, importer, bad)
      if not count then return nil, why, what end
      if c.goes_on(importer) then return count, nil, bad end
      return count
    end
    local ok, why, what = c.feed(ns, importer, chunk, bad)
    if not ok then return nil, why, what end
  end
end

local function close_after(file, ...)
  file:close()
  return results(...)
end

ops.define("import", function(ns, from, opts)
  check(ns, "source", "read", from)
  local path = type(from) == "string" and from or nil
  local importer, message, code = c.importer(ns, path, opts)
  if not importer then return nil, message, code end
  if not path then return results(protect(pour, ns, importer, from)) end
  local file
  file, message, code = open_file(path, "rb")
  if not file then return nil, message, code end
  return close_after(file, protect(pour, ns, importer, file, path))
end)

-- export -----------------------------------------------------------------------------------------

local function drain(ns, exporter, to)
  local write, finish = source.sink(to)
  while true do
    local chunk, message, count = c.next(ns, exporter)
    local ok, why, what
    if chunk then
      ok, why, what = write(chunk)
      if not ok then return nil, why, what end
    elseif message then
      finish(message)
      return nil, message, count -- the code
    else
      ok, why, what = finish()
      if not ok then return nil, why, what end
      return count
    end
  end
end

-- The file is there in full or as it was before.
local function conclude(file, temporary, path, target, ok, count, message, code)
  local closed, why, number = file:close()
  if ok and count and not closed then
    count, message, code = nil, ("%s: %s"):format(path, why), source.code(number)
  elseif ok and not count then
    message = ("%s: %s"):format(path, message)
  end
  if temporary and ok and count then
    local renamed
    renamed, why, number = rename(temporary, target)
    if not renamed then count, message, code = nil, why, source.code(number) end
  end
  if temporary and not (ok and count) then remove(temporary) end
  if not ok then error(count, 0) end
  if count then return count end
  return nil, message, code
end

ops.define("export", function(ns, to, opts)
  check(ns, "sink", "write", to)
  local path = type(to) == "string" and to or nil
  local exporter, message, code = c.exporter(ns, path and path:find "%.json$" ~= nil, opts)
  if not exporter then return nil, message, code end
  if not path then return results(protect(drain, ns, exporter, to)) end
  local temporary, target, number = c.replacement(path)
  if number then return nil, target, source.code(number) end
  local file
  file, message, code = open_file(temporary or path, "wb")
  if not file then
    if temporary then remove(temporary) end
    return nil, message, code
  end
  return conclude(file, temporary, path, target, protect(drain, ns, exporter, file))
end)
