-- SPDX-License-Identifier: MIT
--
-- helper.lua - what the specs share: stores of both kinds, the module with test hooks, other
-- processes. Every directory made here is below one of this process and goes when its block ends.

local assert = require "luassert"
local busted = require "busted"
local kv = require "kv"

-- A spec has these in its environment, a module does not.
local describe, pending, after_each, teardown =
  busted.describe, busted.pending, busted.after_each, busted.teardown

local helper = {}

-- Lua's versions -------------------------------------------------------------------------------

helper.integers = math.type ~= nil -- 5.3 and later: integers are a type of their own
helper.unpack = table.unpack or unpack -- luacheck: ignore 143

-- An integer and a float are the same number to ==, but not to a program on 5.3.
function helper.kind(n)
  return helper.integers and math.type(n) or "number"
end

-- Directories ----------------------------------------------------------------------------------

local function quote(s)
  return "'" .. s:gsub("'", "'\\''") .. "'"
end
helper.quote = quote

local base = ("%s/kv-spec-%s-%d"):format(os.getenv("TMPDIR") or "/tmp",
  tostring({}):match("0x(%x+)") or "0", os.time())
local made = 0

-- A path that nothing is at. Its parent is not there either, unless asked for.
function helper.path(with_parent)
  made = made + 1
  local path = ("%s/%d"):format(base, made)
  if with_parent then os.execute("mkdir -p " .. quote(path)) end
  return path .. "/store"
end

function helper.sweep()
  os.execute("rm -rf " .. quote(base))
end

function helper.write_file(path, bytes)
  local file = assert(io.open(path, "wb"))
  assert(file:write(bytes))
  file:close()
end

-- The module with test hooks -------------------------------------------------------------------

-- Built with -DKV_TEST: a clock that can be moved, an allocator that fails. The build is what
-- KV_TEST_CPATH says, or what require finds if that is one.
local tested
function helper.tested()
  if tested == nil then
    local core = require "kv.core"
    if not core.test_clock then
      local cpath = os.getenv("KV_TEST_CPATH")
      local load = cpath and package.loadlib(cpath:gsub("%?", "kv/core"), "luaopen_kv_core")
      core = load and load()
    end
    tested = core and { core = core, kv = helper.facade(core) } or false
  end
  return tested
end

-- A facade of its own: with another core, or with a default store that nobody chose yet.
function helper.facade(core)
  local before = {}
  for name, module in pairs(package.loaded) do
    if name == "kv" or name:match("^kv%.") then before[name] = module end
  end
  for name in pairs(before) do package.loaded[name] = nil end
  package.loaded["kv.core"] = core or before["kv.core"]
  local facade = require "kv"
  for name in pairs(package.loaded) do
    if name:match("^kv%.") then package.loaded[name] = nil end
  end
  for name, module in pairs(before) do package.loaded[name] = module end
  return facade
end

-- describe() for what needs the hooks.
function helper.with_hooks(title, body)
  local hooks = helper.tested()
  describe(title, function()
    if not hooks then
      pending("needs a build with -DKV_TEST, named by KV_TEST_CPATH")
      return
    end
    after_each(function() hooks.core.test_clock(0) end)
    body(hooks.kv, hooks.core)
  end)
end

-- Stores -----------------------------------------------------------------------------------------

-- Runs body twice, inside a describe(): with stores in memory and on disk. body gets `new`:
--   new(opts)            an empty store
--   new.again(store)     the same store, opened again where that is possible, and new.reopens
--   new.path             of the last one
-- module: the kv to use. All stores are closed after each test.
function helper.each_store(body, module)
  local open = (module or kv).open
  for _, where in ipairs { "in memory", "on disk" } do
    describe(where, function()
      local new = { reopens = where == "on disk" }
      local stores, options = {}, nil

      local function keep(store, message, code)
        if store then stores[#stores + 1] = store end
        return store, message, code
      end

      function new.again(store, opts)
        if not new.reopens then return store end
        store:close()
        return assert(keep(open(new.path, opts or options)))
      end

      setmetatable(new, { __call = function(_, opts)
        new.path = new.reopens and helper.path() or ":memory:"
        options = opts
        return assert(keep(open(new.path, opts)))
      end })

      after_each(function()
        for _, store in ipairs(stores) do store:close() end
        stores = {}
      end)
      if new.reopens then teardown(helper.sweep) end
      body(new)
    end)
  end
end

-- Expecting ------------------------------------------------------------------------------------

-- nil, message, code.
function helper.fails(code, ...)
  local result, message, got = ...
  assert.is_nil(result)
  assert.is_string(message)
  assert.equal(code, got)
  assert.equal(3, select("#", ...))
end

-- false, message, code.
function helper.refuses(code, ...)
  local result, message, got = ...
  assert.is_false(result)
  assert.is_string(message)
  assert.equal(code, got)
  assert.equal(3, select("#", ...))
end

-- Exactly one result.
function helper.returns(expected, ...)
  assert.equal(1, select("#", ...))
  assert.same(expected, (...))
end

-- f(...) raises with all the words in the message, and blames the line that called it.
function helper.raises(words, f, ...)
  local args, n = { ... }, select("#", ...)
  local ok, message = pcall(function()
    local result = f(helper.unpack(args, 1, n))
    return result
  end)
  assert(not ok, "does not raise")
  assert.is_string(message)
  for _, word in ipairs(type(words) == "table" and words or { words }) do
    assert(message:find(word, 1, true), ("%q is not in: %s"):format(word, message))
  end
  assert(message:find("helper.lua:%d+:"), "blames another line: " .. message)
  return message
end

-- Other processes --------------------------------------------------------------------------------

local interpreter
do
  local i = 0
  while arg[i - 1] do i = i - 1 end
  interpreter = arg[i]
  helper.interpreter = interpreter
end

-- A shell's command that runs the Lua code in a process of its own, with this one's module; and the
-- file the code is in. env: variables to set, false to unset.
function helper.command(code, env)
  local script = os.tmpname()
  helper.write_file(script, code)
  local command = { "env" }
  for name, value in pairs(env or {}) do
    if not value then command[#command + 1] = "-u " .. name end
  end
  for name, value in pairs(env or {}) do
    if value then command[#command + 1] = name .. "=" .. quote(value) end
  end
  command[#command + 1] = "LUA_PATH=" .. quote(package.path)
  command[#command + 1] = "LUA_CPATH=" .. quote(package.cpath)
  command[#command + 1] = quote(interpreter) .. " " .. quote(script) .. " 2>&1"
  return table.concat(command, " "), script
end

-- Runs it, and returns what it wrote.
function helper.run(code, env)
  local command, script = helper.command(code, env)
  local pipe = assert(io.popen(command))
  local output = pipe:read("*a")
  pipe:close()
  os.remove(script)
  return output
end

return helper
