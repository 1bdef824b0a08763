-- SPDX-License-Identifier: MIT
--
-- files.lua - files, and with the name - standard input and output, as what commands read from and
-- write to.

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

-- Results of f(reader): the reader returns the next piece of the file, and nil at its end. Shows
-- how far it has come.
function files.read(path, label, f)
  local file = open(path)
  return progress.run(label, size(file), "bytes", function(bar)
    local done = 0
    return f(function()
      local chunk, message = file:read(CHUNK)
      if chunk then
        done = done + #chunk
      elseif message then
        bar:at(done) -- an interrupted read says nothing better
        failure.raise(failure.FAILED, "cannot read %s: %s", title(path), message)
      end
      bar:at(done)
      return chunk
    end)
  end)
end

-- The whole of it.
function files.all(path)
  local parts = {}
  files.read(path, "read", function(reader)
    for chunk in reader do parts[#parts + 1] = chunk end
  end)
  return table.concat(parts)
end

-- Standard output as the end of a stream, which is then closed.
function files.copy_out(stream)
  local function copy()
    while true do
      local chunk, message, code = stream:read()
      if not chunk then
        if message then failure.of_code(code, "%s", message) end
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
