-- SPDX-License-Identifier: MIT
--
-- files.lua - files, and with the name - standard input and output, as what commands read from and
-- write to.

local core = require "kv.core"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local progress = require "kv.cli.progress"

local files = {}

local CHUNK = 65536

-- What messages call it.
local function title(path)
  return path == "-" and "standard input" or path
end

local function open(path)
  if path == "-" then return io.stdin end
  local file, message = io.open(path, "rb")
  if not file then failure.raise(failure.FAILED, "cannot read %s", message) end
  return file
end

-- How long it is, or nil: a pipe does not know.
local function size(file)
  local here = file:seek()
  local total = here and file:seek "end"
  if total then file:seek("set", here) end
  return total and total < 2 ^ 53 and total or nil
end

-- Results of f(reader): the reader returns the next piece of the file, nil at its end, and nil and
-- a message when it cannot be read or the user wants to stop. Shows how far it has come.
function files.read(path, label, f)
  local file = open(path)
  return progress.run(label, size(file), "bytes", function(bar)
    local done = 0
    return f(function()
      local chunk, message = file:read(CHUNK)
      done = done + (chunk and #chunk or 0)
      if not bar:show(done) then return nil, "interrupted" end
      if message then message = ("cannot read %s: %s"):format(title(path), message) end
      return chunk, message
    end)
  end)
end

-- The whole of it.
function files.all(path)
  local parts = {}
  files.read(path, "read", function(reader)
    repeat
      local chunk, message = reader()
      if message then failure.raise(failure.FAILED, "%s", message) end
      parts[#parts + 1] = chunk
    until not chunk
  end)
  return table.concat(parts)
end

-- The path of the new file that is to become `path` when it is whole, and which path that really
-- is; or nil: it is a device or a pipe, which is written to as it is.
local function replacement(path)
  local temporary, target, number = core.transfer.replacement(path)
  if number then failure.raise(failure.FAILED, "cannot write %s", target) end
  return temporary, target
end

local function must(path, ok, message)
  if not ok then failure.raise(failure.FAILED, "cannot write %s: %s", title(path), message) end
  return ok
end

local function write_file(path, f)
  local temporary, target = replacement(path)
  local file = must(path, io.open(temporary or path, "wb"))
  local ok, result = pcall(f, function(chunk)
    if chunk then must(path, file:write(chunk)) end
    return true
  end)
  local closed, message = file:close()
  if ok then
    ok, result = pcall(function()
      must(path, closed, message)
      if temporary then must(path, os.rename(temporary, target)) end
      return result
    end)
  end
  if temporary and not ok then os.remove(temporary) end
  if not ok then error(result, 0) end
  return result
end

local function count_lines(chunk)
  local n, at = 0, chunk:find("\n", 1, true) -- which is far quicker than gsub
  while at do
    n, at = n + 1, chunk:find("\n", at + 1, true)
  end
  return n
end

-- The result of f(sink): the sink takes the next piece. A file is there in full or as it was
-- before. Shows how many of `total` lines there are.
function files.write(path, label, total, f)
  return progress.run(label, total, "lines", function(bar)
    local lines = 0
    local function counted(sink)
      return f(function(chunk)
        if chunk then
          if bar.columns then lines = lines + count_lines(chunk) end
          bar:at(lines)
        end
        return sink(chunk)
      end)
    end
    if path ~= "-" then return write_file(path, counted) end
    return counted(function(chunk)
      if chunk then output.write(chunk) end
      return true
    end)
  end)
end

-- Standard output as the end of a stream, which is then closed.
function files.copy_out(stream)
  local function copy()
    while true do
      local chunk, message, code = stream:read()
      if not chunk then
        if message then failure.of_code(code, message) end
        return
      end
      output.write(chunk)
    end
  end
  local ok, problem = pcall(copy)
  stream:close()
  if not ok then error(problem, 0) end
end

return files
