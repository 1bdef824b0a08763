-- SPDX-License-Identifier: MIT
--
-- hot_spec.lua - the operations that LuaJIT reaches through its FFI (lua/kv/ffi.lua), on every Lua:
-- called often enough to be compiled, they give what they give once, in results and in mistakes.

local kv = require "kv"
local helper = require "helper"

local raises, returns = helper.raises, helper.returns

local TIMES = 300 -- a loop is compiled long before

describe("operations called often", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("hot")
    end)

    it("give each type of value back", function()
      local values = {
        "", "text", ("x"):rep(4096), ("y"):rep(4097), ("z"):rep(100000), "\0\255", 0, 1, -1, 2 ^ 53,
        0.5, -1e300, true, false, { a = { 1, 2 } }, kv.null,
      }
      local get = ns:bind().get
      for i, value in ipairs(values) do ns:put("key" .. i, value) end
      for i, value in ipairs(values) do
        local key = "key" .. i
        for _ = 1, TIMES do
          assert.same(value, ns:get(key))
          assert.same(value, get(key))
        end
        returns(value, ns:get(key))
        returns(value, get(key))
      end
      for _ = 1, TIMES do assert.is_nil(ns:get("nothing")) end
      returns(nil, ns:get("nothing"))
    end)

    it("take numbers, text and the rest", function()
      local last = 0
      for i = 1, TIMES do
        for _, value in ipairs { i, i + 0.5, -i, tostring(i), i % 2 == 0, { i } } do
          local rev = ns:put("key", value)
          assert.is_true(rev > last)
          last = rev
          assert.same(value, ns:get("key"))
        end
        assert.is_true(ns:set("key", "again") > last)
      end
      assert.equal(helper.kind(1), helper.kind(ns:put("key", 1)))
      ns:put("key", 3)
      assert.equal(helper.kind(3), helper.kind(ns:get("key")))
      ns:put("key", 3.25)
      assert.equal(3.25, ns:get("key"))
    end)

    it("count, tell and remove", function()
      for i = 1, TIMES do
        assert.equal(i, ns:incr("n"))
        assert.equal(i * 2, ns:incr("two", 2))
        assert.equal(i / 2, ns:incr("half", 0.5))
        assert.is_true(ns:exists("n"))
        assert.is_false(ns:exists("other"))
        ns:put("gone", i)
        assert.is_true(ns:delete("gone"))
        assert.is_false(ns:delete("gone"))
      end
      returns(TIMES + 1, ns:incr("n"))
      returns(true, ns:exists("n"))
      returns(false, ns:delete("gone"))
    end)

    it("with options among those without", function()
      for i = 1, TIMES do
        assert.is_truthy(ns:put("key", i))
        assert.is_truthy(ns:put("key", tostring(i), { ttl = 100 }))
        assert.equal(tostring(i), ns:get("key", "text"))
        assert.equal(i, ns:get("key", "json"))
        assert.is_true(ns:ttl("key") > 90)
        local done, _, code = ns:put("key", i, { set_if = "not_exist" })
        assert.is_false(done)
        assert.equal("exists", code)
        done, _, code = ns:incr("limited" .. i, 5, { max = 4 })
        assert.is_nil(done)
        assert.equal("out_of_range", code)
      end
    end)

    it("refuse what cannot be done", function()
      ns:put("text", "no number")
      for _ = 1, TIMES do
        local n, message, code = ns:incr("text")
        assert.is_nil(n)
        assert.is_string(message)
        assert.equal("not_a_number", code)
        local value
        value, message, code = ns:get(("k"):rep(513))
        assert.is_nil(value)
        assert.is_string(message)
        assert.equal("too_big", code)
        value, message, code = ns:put(("k"):rep(513), 1)
        assert.is_nil(value)
        assert.is_string(message)
        assert.equal("too_big", code)
      end
    end)

    it("raise mistakes, and blame the line", function()
      local b = ns:bind()
      for i = 1, TIMES do
        for _, f in ipairs {
          function() ns:get() end, function() ns:get(1) end, function() ns:get("") end,
          function() ns:put("k") end, function() ns:put("k", 0 / 0) end,
          function() ns:put("k", 1 / 0) end, function() ns:incr("n", 0 / 0) end,
          function() ns:incr("n", "1") end, function() ns:put("k", 1, { tttl = 1 }) end,
          function() ns.get("k") end, function() ns.put(nil, "k") end, function() b:get("k") end,
          function() ns.incr(kv.null, "k") end, function() ns.exists(io.stdout, "k") end,
          function() ns.delete({}, "k") end,
        } do
          if i == 1 or i == TIMES then
            local ok, message = pcall(f)
            assert.is_false(ok)
            assert.matches("hot_spec.lua:%d+:", message)
          else
            assert.is_false((pcall(f)))
          end
        end
      end
    end)

    it("on a store that is closed meanwhile", function()
      local b = ns:bind()
      ns:put("k", "v")
      for i = 1, TIMES + 10 do
        if i == TIMES then store:close() end
        if i < TIMES then
          assert.equal("v", ns:get("k"))
          assert.equal("v", b.get("k"))
        else
          raises("closed", ns.get, ns, "k")
          raises("closed", b.get, "k")
          raises("closed", ns.put, ns, "k", 1)
          raises("closed", ns.incr, ns, "n")
          raises("closed", ns.exists, ns, "k")
          raises("closed", ns.delete, ns, "k")
        end
      end
    end)

  end)

  -- In programs of their own: when their garbage is collected depends on what else there is.
  it("while finalizers make calls of their own", function()
    for _, ballast in ipairs { 0, 1000, 10000 } do
      assert.equal("right", helper.run(([[
        local kv = require "kv"
        local ns = kv.open(":memory:"):namespace("hot")
        local ballast = {}
        for i = 1, %d do ballast[i] = {} end
        local function dying(f)
          if newproxy then
            getmetatable(newproxy(true)).__gc = f
          else
            setmetatable({}, { __gc = f })
          end
        end
        ns:put("a", ("a"):rep(2000))
        ns:put("b", ("b"):rep(1999))
        ns:put("one", 1)
        ns:put("two", 2)
        local calls, wrong, over = 0, {}, false
        local function expect(value, result)
          if result ~= value then wrong[#wrong + 1] = tostring(result):sub(1, 20) end
        end
        local function finalizer()
          if over then return end
          calls = calls + 1
          expect(("b"):rep(1999), ns:get("b"))
          expect(2, ns:get("two"))
          expect(calls, ns:incr("n"))
        end
        for i = 1, 30000 do
          dying(finalizer)
          if ns:get("a") ~= ("a"):rep(2000) then wrong[#wrong + 1] = "a" end
          expect(1, ns:get("one"))
          expect(i, ns:incr("m"))
        end
        over = true -- the rest dies with the state, when the store may be closed
        io.write(#wrong == 0 and calls > 0 and "right" or calls .. " calls, wrong: " .. #wrong)
      ]]):format(ballast)))
    end
  end)
end)
