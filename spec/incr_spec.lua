-- SPDX-License-Identifier: MIT
--
-- incr_spec.lua - counters: one atomic step on a number, integers exactly.

local kv = require "kv"
local helper = require "helper"

local fails, raises, refuses, returns = helper.fails, helper.raises, helper.refuses, helper.returns

describe("incr", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("counters")
    end)

    it("adds one, or what is asked for, and returns the new number", function()
      returns(1, ns:incr("n"))
      returns(2, ns:incr("n"))
      returns(12, ns:incr("n", 10))
      returns(7, ns:incr("n", -5))
      returns(7, ns:incr("n", 0))
      assert.equal(7, ns:get("n"))
      store = new.again(store)
      ns = store:namespace("counters")
      returns(8, ns:incr("n"))
    end)

    it("stays an integer between integers", function()
      ns:incr("n")
      if helper.integers then
        assert.equal("integer", math.type(ns:incr("n")))
        assert.equal("integer", math.type(ns:get("n")))
        assert.equal("float", math.type(ns:incr("n", 1.0)))
        assert.equal("float", math.type(ns:incr("n", 1)))
      end
      assert.equal("number", type(ns:get("n")))
    end)

    it("adds fractions", function()
      returns(0.5, ns:incr("n", 0.5))
      returns(1.5, ns:incr("n"))
      ns:put("m", 2.25)
      returns(1.25, ns:incr("m", -1))
    end)

    it("writes a new revision, and keeps ttl, metadata, id and created_at", function()
      ns:put("n", 1, { ttl = 1000, metadata = { a = 1 } })
      local before = ns:entry("n")
      ns:incr("n", 1, { ttl = 5 })
      local after = ns:entry("n")
      assert.equal(2, after.value)
      assert.same(before.metadata, after.metadata)
      assert.equal(before.expiration, after.expiration)
      assert.equal(before.id, after.id)
      assert.equal(before.created_at, after.created_at)
      assert(after.rev > before.rev)
      assert.equal(store:rev(), after.rev)
    end)

    it("increments a string that is one JSON number, which stays a string", function()
      ns:put("n", "41")
      returns(42, ns:incr("n"))
      returns("42", ns:get("n"))
      ns:put("n", "1.5")
      returns(2, ns:incr("n", 0.5))
      assert.equal("string", type(ns:get("n")))
      assert.equal(2, tonumber(ns:get("n")))
      ns:put("n", "-7")
      returns(-8, ns:incr("n", -1))
      returns("-8", ns:get("n"))
    end)

    it("refuses what is no number", function()
      local values = { "", "abc", "1 2", "0x10", "01", "+1", "1.", "nan", "inf", "1e999", "null",
        "[1]", true, false, kv.null, {}, { 1 } }
      for _, value in ipairs(values) do
        ns:put("k", value)
        local rev = store:rev()
        fails("not_a_number", ns:incr("k"))
        assert.same(value, ns:get("k"))
        assert.equal(rev, store:rev())
      end
    end)

    describe("init", function()
      it("is the value before adding", function()
        returns(101, ns:incr("a", 1, { init = 100 }))
        returns(102, ns:incr("a", 1, { init = 100 }))
        returns(1.75, ns:incr("b", 0.25, { init = 1.5 }))
        returns(0, ns:incr("c", 1, { init = -1 }))
      end)

      it("false: a missing key is not_found", function()
        refuses("not_found", ns:incr("n", 1, { init = false }))
        assert.is_false(ns:exists("n"))
        ns:put("n", 1)
        returns(2, ns:incr("n", 1, { init = false }))
      end)

      it("raises when it is neither number nor false", function()
        for _, init in ipairs { true, "1", {}, 0 / 0, math.huge } do
          raises("init", ns.incr, ns, "n", 1, { init = init })
        end
      end)
    end)

    it("applies ttl only when it creates the key", function()
      ns:incr("n", 1, { ttl = 1000 })
      local expiration = ns:entry("n").expiration
      assert(expiration and ns:ttl("n") <= 1000 and ns:ttl("n") > 900)
      ns:incr("n", 1, { ttl = 5 })
      assert.equal(expiration, ns:entry("n").expiration)
      ns:put("m", 1)
      ns:incr("m", 1, { ttl = 5 })
      returns(false, ns:ttl("m"))
    end)

    it("stays within min and max", function()
      local o = { min = 0, max = 3 }
      returns(1, ns:incr("n", 1, o))
      returns(3, ns:incr("n", 2, o))
      local rev = store:rev()
      fails("out_of_range", ns:incr("n", 1, o))
      fails("out_of_range", ns:incr("n", -4, o))
      returns(3, ns:get("n"))
      assert.equal(rev, store:rev())
      returns(0, ns:incr("n", -3, o))
      fails("out_of_range", ns:incr("new", 5, o))
      assert.is_false(ns:exists("new"))
      fails("out_of_range", ns:incr("new", 0.5, { max = 0.25 }))
      returns(0.5, ns:incr("new", 0.5, { max = 0.5, min = 0.5 }))
      for _, name in ipairs { "min", "max" } do
        raises(name, ns.incr, ns, "n", 1, { [name] = "1" })
        raises(name, ns.incr, ns, "n", 1, { [name] = 0 / 0 })
      end
    end)

    it("refuses to overflow", function()
      if helper.integers then
        ns:put("n", math.maxinteger)
        fails("out_of_range", ns:incr("n"))
        assert.equal(math.maxinteger, ns:get("n"))
        returns(math.maxinteger - 1, ns:incr("n", -1))
        returns(math.maxinteger, ns:incr("n"))
        ns:put("n", math.mininteger)
        fails("out_of_range", ns:incr("n", -1))
        returns(math.mininteger + 1, ns:incr("n"))
        ns:put("s", "9223372036854775807")
        fails("out_of_range", ns:incr("s"))
        assert.equal("9223372036854775807", ns:get("s"))
      end
      ns:put("f", 1.7e308)
      fails("out_of_range", ns:incr("f", 1.7e308))
      assert.equal(1.7e308, ns:get("f"))
    end)

    it("counts exactly where doubles do not", function()
      if not helper.integers then return end
      ns:put("n", 9007199254740992)
      returns(9007199254740993, ns:incr("n"))
      ns:put("s", "9007199254740993")
      returns(9007199254740994, ns:incr("s"))
      assert.equal("9007199254740994", ns:get("s"))
    end)

    it("compares with min and max exactly", function()
      if not helper.integers then return end
      ns:put("n", 9007199254740992)
      fails("out_of_range", ns:incr("n", 1, { max = 2 ^ 53 }))
      ns:put("n", -9007199254740992)
      fails("out_of_range", ns:incr("n", -1, { min = -2.0 ^ 53 }))
      returns(-9007199254740993, ns:incr("n", -1, { min = -2.0 ^ 54, max = 2.0 ^ 64 }))
    end)

    it("raises when `by` is no finite number", function()
      for _, by in ipairs { "1", true, {}, 0 / 0, math.huge, -math.huge } do
        raises("by", ns.incr, ns, "n", by)
      end
      assert.is_false(ns:exists("n"))
    end)

    it("works on a document that is one number", function()
      for _, text in ipairs { "5", " 5\n" } do
        ns:put("n", text, { as = "json", ttl = 1000, metadata = { a = 1 } })
        returns(6, ns:incr("n"))
        returns(6, ns:get("n"))
        returns(7, ns:incr("n"))
        assert.equal(1, ns:entry("n").metadata.a)
        assert(ns:ttl("n") > 900)
      end
      ns:put("n", "1.5", { as = "json" })
      returns(2, ns:incr("n", 0.5))
      ns:put("n", " [5] ", { as = "json" })
      fails("not_a_number", ns:incr("n"))
      returns(" [5] ", ns:get("n", "text"))
    end)
  end)
end)
