-- SPDX-License-Identifier: MIT
--
-- kv.ffi - the hot operations through LuaJIT's FFI: compiled code calls the C functions directly,
-- where one of Lua's C API would end the trace.
--
-- Each stands before the operation of the C API and hands over to it, with the arguments as they
-- came, whatever is not plain: options, other types, mistakes, a store not open yet. So results
-- and errors are the same. Returns false where there is no FFI, or nothing would be compiled.

local core = require "kv.core"

local jit = rawget(_G, "jit")
local found, ffi = pcall(require, "ffi")
if not found or type(jit) ~= "table" or not jit.status() then return false end

local OK, BUSY, MISS, OTHER = 0, -5, -9, -1000
local STRING, NUMBER, BOOL = 1, 2, 3

-- As in csrc/lua_jit.c. Without names, so that nothing is in the way of a second copy.
local out_type = ffi.typeof [[struct {
  uint32_t calls, len;
  double number;
  char bytes[4096];
}]]
local api_type = ffi.typeof [[struct {
  uint32_t size, out_size;
  int (*get)(void *, const char *, size_t, void *);
  int (*exists)(void *, const char *, size_t);
  double (*put)(void *, const char *, size_t, const char *, size_t);
  double (*put_number)(void *, const char *, size_t, double);
  double (*incr)(void *, const char *, size_t, double);
  int (*del)(void *, const char *, size_t);
}]]

local api = ffi.cast(ffi.typeof("const $ *", api_type), core.jit())
if api.size ~= ffi.sizeof(api_type) or api.out_size ~= ffi.sizeof(out_type) then return false end

local c_get, c_exists, c_put, c_put_number, c_incr, c_delete =
  api.get, api.exists, api.put, api.put_number, api.incr, api.del
local out = out_type()
local bytes = out.bytes
local failed = core.jit_failed -- (handle, code): what the C API returns or raises for it
local string_of, type, HUGE = ffi.string, type, math.huge

-- Each gets the handle `o`, its pointer `p` and the arguments, and returns how many results there
-- are, 1 or 3, and these; 0: the call is one for the C API.

-- A finalizer may run between any two steps in here, also between a call and the first look at what
-- it left, and make a call of its own. Then `out` has counted more than one, and the call is made
-- again by the C API.
local function get(o, p, key, as)
  if type(key) == "string" and as == nil then
    local calls = out.calls + 1
    local kind = c_get(p, key, #key, out)
    if kind == STRING then
      local value = string_of(bytes, out.len)
      if out.calls == calls then return 1, value end
    elseif kind == NUMBER then
      local value = out.number
      if out.calls == calls then return 1, value end
    elseif kind == BOOL then
      local value = out.number ~= 0
      if out.calls == calls then return 1, value end
    elseif kind == MISS then
      return 1, nil
    elseif kind ~= OTHER then
      return 3, failed(o, kind)
    end
  end
  return 0
end

local function exists(o, p, key)
  if type(key) == "string" then
    local rc = c_exists(p, key, #key)
    if rc == OK then return 1, true end
    if rc == MISS then return 1, false end
    if rc ~= OTHER then return 3, failed(o, rc) end
  end
  return 0
end

local function put(o, p, key, value, opts)
  if type(key) == "string" and opts == nil then
    local rev = OTHER
    if type(value) == "string" then
      rev = c_put(p, key, #key, value, #value)
    elseif type(value) == "number" then
      rev = c_put_number(p, key, #key, value)
    end
    if rev > 0 then return 1, rev end
    if rev ~= OTHER then return 3, failed(o, rev) end
  end
  return 0
end

-- What is done cannot be done again, so the sum is what the call returns; no sum is infinite.
local function incr(o, p, key, by, opts)
  if by == nil then by = 1 end
  if type(key) == "string" and type(by) == "number" and opts == nil then
    local sum = c_incr(p, key, #key, by)
    if sum == -HUGE then return 3, failed(o, BUSY) end
    if sum ~= HUGE then return 1, sum end
  end
  return 0
end

local function delete(o, p, key, opts)
  if type(key) == "string" and opts == nil then
    local rc = c_delete(p, key, #key)
    if rc == OK then return 1, true end
    if rc == MISS then return 1, false end
    if rc ~= OTHER then return 3, failed(o, rc) end
  end
  return 0
end

local hot = { get = get, exists = exists, put = put, set = put, incr = incr, delete = delete }

local function pointer_of(o)
  return ffi.cast("void *", o)
end

-- Of the namespace objects used so far: what is a key in here is one.
local pointers = setmetatable({}, { __mode = "k" })

local function method(name, fast, slow)
  return function(o, ...)
    local p = pointers[o]
    if p == nil then
      core.expect(o, name)
      p = pointer_of(o)
      pointers[o] = p
    end
    local n, a, b, c = fast(o, p, ...)
    if n == 1 then return a end
    if n == 3 then return a, b, c end
    return slow(o, ...)
  end
end

-- A colon where a dot belongs gives a key that is a table: that is for the C API.
local function bound(fast, slow, o)
  local p = pointer_of(o)
  return function(...)
    local n, a, b, c = fast(o, p, ...)
    if n == 1 then return a end
    if n == 3 then return a, b, c end
    return slow(...)
  end
end

local M = {}

---Puts the hot operations before those in the table of methods.
function M.methods(methods)
  for name, fast in next, hot do methods[name] = method(name, fast, methods[name]) end
end

---The same in a table of functions bound to the handle `o`.
function M.bind(t, o)
  for name, fast in next, hot do t[name] = bound(fast, t[name], o) end
end

return M
