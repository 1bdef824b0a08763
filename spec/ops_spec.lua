-- SPDX-License-Identifier: MIT
--
-- ops_spec.lua - operations written in Lua: one function, called in three ways, and whom it blames.

local kv = require "kv"
local ops = require "kv.ops"
local helper = require "helper"

local raises = helper.raises

describe("an operation written in Lua", function()
  local store, ns

  before_each(function()
    store = kv.open(":memory:")
    ns = store:namespace("a")
    -- Under the name of a file of the module's, since it matters whose line it is.
    local own = debug.getinfo(ops.define, "S").source
    ops.define("spec_op", assert((loadstring or load)([[
      local ops = ...
      return function(space, key, ...)
        if key == "raise" then ops.raise("bad argument 'key': so it is") end
        if key == "number" then
          local value = space:get(5)
          return value
        end
        if key == "yield" then return coroutine.yield(...) end
        return space:get(key), ops.guarded(space), ...
      end
    ]], own))(ops))
    ns:put("k", "v")
  end)
  after_each(function()
    ops.undefine("spec_op")
    store:close()
  end)

  local function all(...) return { n = select("#", ...), ... } end

  it("is a method, a function of bound tables, and one of the module", function()
    assert.same({ n = 4, "v", false, nil, 2 }, all(ns:spec_op("k", nil, 2)))
    assert.same({ n = 2, "v", true }, all(ns:bind().spec_op("k")))
    local function run(path)
      return helper.run(([[
        require("kv.ops").define("spec_op", function(space, key) return space:get(key) end)
        local kv = require "kv"
        kv.use(%q)
        kv.put("k", 5)
        io.write(tostring((kv.spec_op("k"))), " ", tostring((select(3, kv.spec_op("k")))), " ",
          tostring(pcall(kv.spec_op, kv)))
      ]]):format(path))
    end
    assert.equal("5 nil false", run(":memory:"))
    assert.equal("nil unsupported false", run("/dev/null"))
  end)

  it("knows a dot from a colon", function()
    raises({ "ns:spec_op", "ns.spec_op" }, ns.spec_op, "k")
    raises({ "ns:spec_op" }, ns.spec_op, store)
    local bound = ns:bind()
    raises({ ".spec_op", ":spec_op" }, bound.spec_op, bound, "k")
  end)

  it("blames the line that called it, also for what C raises", function()
    for _, key in ipairs { "raise", "number" } do
      raises("'key'", ns.spec_op, ns, key)
      raises("'key'", ns:bind().spec_op, key)
      local ok, message = pcall(ns.spec_op, ns, key)
      assert(not ok and message:find("^bad argument 'key'"), message)
      ok, message = pcall(function() return ns:spec_op(key) end)
      assert(not ok and not message:find("ops.lua", 1, true), message)
    end
  end)

  it("may yield", function()
    local bound = ns:bind()
    local co = coroutine.wrap(function()
      return ns:spec_op("yield", 1), bound.spec_op("yield", 2)
    end)
    assert.equal(1, co())
    assert.equal(2, co("a"))
    local a, b = co("b")
    assert.same({ "a", "b" }, { a, b })
  end)
end)
