-- SPDX-License-Identifier: MIT
--
-- kv.protect - pcall across which a coroutine can be suspended, on every Lua.

local pcall = pcall
local create, resume, running, status, yield =
  coroutine.create, coroutine.resume, coroutine.running, coroutine.status, coroutine.yield

-- Plain Lua 5.1 alone cannot; ask rather than read its name.
local probe = create(function() pcall(yield) end)
resume(probe)
if status(probe) == "suspended" then return pcall end

local function go_on(co, ok, ...)
  if not ok then return false, (...) end
  if status(co) == "suspended" then return go_on(co, resume(co, yield(...))) end
  return true, ...
end

-- The call runs in a coroutine of its own, whose yields are handed on. f must be a Lua function.
return function(f, ...)
  if not running() then return pcall(f, ...) end
  local co = create(f)
  return go_on(co, resume(co, ...))
end
