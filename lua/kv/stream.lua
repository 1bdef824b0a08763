-- SPDX-License-Identifier: MIT
--
-- kv.stream - put of a reader: the loop that calls it, in Lua and not in C because a reader may
-- yield.
--
-- Whatever happens, the writer is closed when the loop ends: what was not committed is gone.

local source = require "kv.source"
local protect = require "kv.protect"
local error = error

local function feed(writer, from)
  local next_chunk = source.open(from, "value")
  while true do
    local chunk, message, code = next_chunk()
    if not chunk then
      if message then return nil, message, code end
      return writer:commit()
    end
    local ok, why, what = writer:write(chunk)
    if not ok then return nil, why, what end
  end
end

local function finish(writer, ok, ...)
  writer:close()
  if not ok then error((...), 0) end
  return ...
end

-- rev; or false or nil, message, code.
return function(writer, from)
  return finish(writer, protect(feed, writer, from))
end
