-- SPDX-License-Identifier: MIT
--
-- ops.lua - operations written in Lua, beside those of the C module: one function each, from which
-- the method of namespaces, the function of the module and the one of bound tables are made.
--
-- They are for what may have to yield, since C cannot be yielded across everywhere: whatever calls
-- a reader, a source or a sink of the program's. An operation gets a namespace object and the
-- arguments. It reads tables raw, raises by ops.raise, which blames the program's line, and lets
-- nothing of its own out: no object, no path, no function that has more than one use.

local core = require "kv.core"
local fast = require "kv.ffi"

local ops = {}

---The methods of namespaces, those of C among them.
local methods = core.methods()
ops.methods = methods
if fast then fast.methods(methods) end

local defined = {} -- name -> function(ns, ...)

---Raises a caller's mistake with the position of the line that called the module.
---@type fun(message: string)
ops.raise = core.raise

---True when the namespace object belongs to a bound table, which takes and says no path.
---@param ns kv.Namespace
---@return boolean
function ops.guarded(ns)
  return core.expect(ns)
end

---Adds an operation, or puts it before the one in C of that name.
---@param name string
---@param f fun(ns: kv.Namespace, ...): ...
function ops.define(name, f)
  defined[name] = f
  methods[name] = function(ns, ...)
    core.expect(ns, name)
    return f(ns, ...)
  end
end

---Takes one away again, and the method with it.
function ops.undefine(name)
  defined[name], methods[name] = nil, nil
end

-- What a bound table gives to code that is not trusted. It may be called with a stack as good as
-- full, and then what Lua raises names the chunk: hence one whose name is no path, and room for all
-- that f may need is made sure of first.
local bound = assert((rawget(_G, "loadstring") or load)([[
  local core, rawequal = ...
  return function(name, f, ns, t)
    return function(...)
      core.headroom()
      if rawequal((...), t) then core.misuse(name) end
      return f(ns, ...)
    end
  end
]], "=kv"))(core, rawequal)

local function opening(name, f, ns, t, opener)
  return function(...)
    if rawequal((...), t) then core.misuse(name) end
    local ready, message, code = core.ready(ns, opener)
    if not ready then return nil, message, code end
    return f(ns, ...)
  end
end

---Puts all that were defined into a table of functions. `opener` opens the store at first use.
function ops.fill(t, ns, opener)
  if fast then fast.bind(t, ns) end
  local make = opener and opening or bound
  for name, f in next, defined do t[name] = make(name, f, ns, t, opener) end
  return t
end

---A fresh plain table of all operations, for code that is not trusted with the store.
function methods.bind(ns)
  local t, handle = core.bind(ns)
  return ops.fill(t, handle)
end

return ops
