-- SPDX-License-Identifier: MIT
--
-- kv.protect - pcall across which a coroutine can be suspended, on every Lua.

local pcall = pcall
local create, resume, running, status, yield =
  coroutine.create, coroutine.resume, coroutine.running, coroutine.status, coroutine.yield

-- Plain Lua 5.1 alone cannot. Its name must do: to try it would resume a coroutine, and OpenResty
-- allows that in a request only where nothing of C is on the stack, as `require` is.
if _VERSION ~= "Lua 5.1" or type(rawget(_G, "jit")) == "table" then return pcall end

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
