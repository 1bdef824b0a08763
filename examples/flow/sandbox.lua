-- SPDX-License-Identifier: MIT
--
-- sandbox.lua - what a node's code sees of Lua, and how it is loaded, run and stopped.
--
-- A node gets copies of the harmless parts of the standard library and what the runner gives it,
-- in an environment that is new for each run. It has no debug, no io, no load, no require, no way
-- to the metatable of strings, and no finalizers.

local sandbox = {}

local create, resume, status, sethook =
  coroutine.create, coroutine.resume, coroutine.status, debug.sethook
local unpack = table.unpack or unpack
local STEP = 1000 -- instructions between two looks at the limit

-- What of each library is harmless. A node gets a copy: what it changes there, nobody else sees.
local allowed = {
  string = { "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep",
    "reverse", "sub", "upper", "pack", "packsize", "unpack" },
  table = { "concat", "insert", "move", "pack", "remove", "sort", "unpack" },
  math = { "abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge",
    "log", "max", "maxinteger", "min", "mininteger", "modf", "pi", "rad", "random", "sin", "sqrt",
    "tan", "tointeger", "type", "ult" },
  os = { "clock", "date", "difftime", "time" },
  utf8 = { "char", "charpattern", "codepoint", "codes", "len", "offset" },
  coroutine = { "isyieldable", "resume", "running", "status", "yield" },
}
local plain = { "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
  "rawlen", "rawset", "select", "tonumber", "tostring", "type", "_VERSION" }

-- Only of tables: the metatable of strings leads to the library that everybody uses.
local function safe_getmetatable(value)
  if type(value) == "table" then return getmetatable(value) end
end

-- A finalizer would run when no limit holds, in the middle of somebody else's code.
local function safe_setmetatable(t, meta)
  if type(t) ~= "table" then
    error("bad argument #1 to 'setmetatable' (table expected, got " .. type(t) .. ")", 2)
  end
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then error("no finalizers here", 2) end
  return setmetatable(t, meta)
end

-- The real one calls the handler where the error is raised. Where that is the limit's own hook no
-- limit holds: here the handler comes afterwards.
local function safe_xpcall(f, handler, ...)
  local function handled(ok, ...)
    if ok then return true, ... end
    return false, handler(...)
  end
  return handled(pcall(f, ...))
end

local function results_of(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- A new environment with what is given in it. `made` is called with every coroutine the node makes.
local function environment(given, made)
  local env = {}
  for _, name in ipairs(plain) do env[name] = _G[name] end
  for library, names in pairs(allowed) do
    if _G[library] then
      env[library] = {}
      for _, name in ipairs(names) do env[library][name] = _G[library][name] end
    end
  end
  env.table.unpack, env.unpack = unpack, unpack
  env.getmetatable, env.setmetatable = safe_getmetatable, safe_setmetatable
  env.xpcall = safe_xpcall
  function env.coroutine.create(f)
    local co = create(f)
    made(co)
    return co
  end
  function env.coroutine.wrap(f)
    local co = env.coroutine.create(f)
    return function(...) return results_of(resume(co, ...)) end
  end
  for name, value in pairs(given) do env[name] = value end
  env._G = env
  return env
end

-- A function that gives a coroutine a hook, which raises once so many instructions were run in all
-- of them. From then on it does at every one, so that no pcall outruns it.
local function limiter(limit)
  local left, limited = limit, setmetatable({}, { __mode = "k" })
  local function hook()
    -- LuaJIT has one hook for all coroutines, the host's own among them.
    if not limited[coroutine.running() or 0] then return end
    left = left - STEP
    if left < 0 then
      sethook(hook, "", 1)
      error("the node ran for too long", 0)
    end
  end
  return function(co)
    limited[co] = true
    sethook(co, hook, "", STEP)
  end
end

-- The chunk with that environment: 5.1 and LuaJIT set it, later Lua compiles it in.
local function with_environment(text, name, env)
  if text:sub(1, 1) == "\27" then return nil, name .. ": bytecode is not run" end
  if setfenv then
    local chunk, message = loadstring(text, "=" .. name)
    return chunk and setfenv(chunk, env), message
  end
  return load(text, "=" .. name, "t", env)
end

---Runs a node: source text only, never bytecode, which could do anything.
---@param text string
---@param name string stands for the file in messages
---@param given table globals of the node
---@param limit? integer instructions it may run; LuaJIT then interprets it
---@return boolean ok
---@return any result what the node returned, or raised
function sandbox.run(text, name, given, limit)
  local made = limit and limiter(limit) or function() end
  local chunk, message = with_environment(text, name, environment(given, made))
  if not chunk then return false, message end
  local before, mask, count = debug.gethook()
  if limit and jit then jit.off(chunk, true) end -- compiled code has no hooks
  local co = create(chunk)
  made(co)
  local ok, result = resume(co)
  if limit and jit then sethook(before, mask, count) end
  if ok and status(co) == "suspended" then return false, name .. ": a node may not yield" end
  return ok, result
end

return sandbox
