-- SPDX-License-Identifier: MIT
--
-- many_spec.lua - get_many, put_many, delete_many, delete_prefix, clear.

local kv = require "kv"
local helper = require "helper"

local fails, raises, refuses, returns = helper.fails, helper.raises, helper.refuses, helper.returns

describe("many keys", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("many")
    end)

    describe("get_many", function()
      it("returns what is there", function()
        ns:put_many { a = 1, b = "text", c = { x = 1 }, d = false, e = kv.null }
        returns({ a = 1, c = { x = 1 }, d = false, e = kv.null },
          ns:get_many { "a", "nothing", "c", "d", "e" })
        returns({}, ns:get_many { "nothing" })
        returns({}, ns:get_many {})
        returns({ a = 1 }, ns:get_many { "a", "a", "a" })
      end)

      it("of many and large values", function()
        local keys = {}
        for i = 1, 500 do
          keys[i] = "k" .. i
          ns:put(keys[i], ("x"):rep(i * 20))
        end
        local got = ns:get_many(keys)
        for i, key in ipairs(keys) do assert.equal(i * 20, #got[key]) end
      end)
    end)

    describe("put_many of a map", function()
      it("writes all and returns how many", function()
        returns(3, ns:put_many { a = 1, b = "two", c = { 3 } })
        assert.same({ a = 1, b = "two", c = { 3 } }, ns:get_all())
        returns(0, ns:put_many {})
      end)

      it("applies the options to all", function()
        ns:put_many({ a = 1, b = 2 }, { ttl = 1000, metadata = { m = 1 } })
        for _, key in ipairs { "a", "b" } do
          assert(ns:ttl(key) > 900)
          assert.same({ m = 1 }, ns:entry(key).metadata)
        end
        ns:put_many({ a = "[1]", c = "{}" }, { as = "json", keep_ttl = true })
        assert.same({ 1 }, ns:get("a"))
        assert.same({}, ns:get("c"))
        assert(ns:ttl("a") > 900)
        returns(false, ns:ttl("c"))
      end)

      it("overwrites as put does", function()
        ns:put("a", 1, { ttl = 1000, metadata = { m = 1 } })
        local id = ns:entry("a").id
        ns:put_many { a = 2 }
        local e = ns:entry("a")
        assert.equal(id, e.id)
        assert.is_nil(e.metadata)
        assert.is_nil(e.expiration)
      end)
    end)

    describe("put_many of a list", function()
      it("takes options for each, over those for all", function()
        local at = os.time() + 5000
        returns(4, ns:put_many({
          { key = "a", value = 1 },
          { key = "b", value = 2, ttl = 1000 },
          { key = "c", value = 3, expiration = at, metadata = { own = true } },
          { key = "d", value = "[4]", as = "json" },
        }, { ttl = 50000, metadata = { common = true } }))
        assert(ns:ttl("a") > 40000)
        assert(ns:ttl("b") <= 1000)
        assert.equal(at, ns:entry("c").expiration)
        assert.same({ common = true }, ns:entry("a").metadata)
        assert.same({ own = true }, ns:entry("c").metadata)
        assert.same({ 4 }, ns:get("d"))
      end)

      it("lets the last of a key win", function()
        returns(3, ns:put_many { { key = "a", value = 1 }, { key = "b", value = 2 },
          { key = "a", value = 3 } })
        assert.same({ a = 3, b = 2 }, ns:get_all())
        assert.equal(2, ns:count())
      end)

      it("writes one after the other: later conditions see earlier writes", function()
        refuses("exists", ns:put_many { { key = "a", value = 1 },
          { key = "a", value = 2, set_if = "not_exist" } })
        assert.is_false(ns:exists("a"))
        returns(2, ns:put_many { { key = "a", value = 1 },
          { key = "a", value = 2, set_if = "exist" } })
        assert.equal(2, ns:get("a"))
      end)

      it("takes a few thousand", function()
        local items = {}
        for i = 1, 3000 do items[i] = { key = ("k%05d"):format(i), value = { i = i } } end
        returns(3000, ns:put_many(items))
        store = new.again(store)
        ns = store:namespace("many")
        assert.equal(3000, ns:count())
        for i = 1, 3000, 171 do assert.equal(i, ns:get(("k%05d"):format(i)).i) end
        assert.is_true(store:check())
      end)
    end)

    describe("put_many is all or nothing:", function()
      local rev
      before_each(function()
        ns:put("there", "old")
        rev = store:rev()
      end)
      after_each(function()
        assert.same({ there = "old" }, ns:get_all())
        assert.equal(rev, store:rev())
      end)

      it("a condition that does not hold", function()
        local function items(cond)
          return { { key = "a", value = 1 }, cond, { key = "z", value = 1 } }
        end
        local function check(code, item, key)
          refuses(code, ns:put_many(items(item)))
          local _, message = ns:put_many(items(item))
          assert.truthy(message:find(key, 1, true), message)
        end
        check("exists", { key = "there", value = 1, set_if = "not_exist" }, "there")
        check("not_found", { key = "missing", value = 1, set_if = "exist" }, "missing")
        check("conflict", { key = "there", value = 1, if_rev = 0 }, "there")
        check("conflict", { key = "missing", value = 1, if_rev = 12345 }, "missing")
        refuses("exists", ns:put_many({ a = 1, there = 2 }, { set_if = "not_exist" }))
      end)

      it("something too big", function()
        fails("too_big", ns:put_many { a = 1, [("k"):rep(513)] = 2 })
        fails("too_big", ns:put_many { { key = "a", value = 1 },
          { key = "b", value = 1, metadata = { ("m"):rep(1024) } } })
      end)

      it("an expiration in the past", function()
        fails("out_of_range", ns:put_many { { key = "a", value = 1 },
          { key = "b", value = 1, expiration = 5 } })
      end)

      it("text that is no JSON", function()
        fails("not_json", ns:put_many { { key = "a", value = 1 },
          { key = "b", value = "{", as = "json" } })
      end)

      it("a caller's mistake, which raises and says where", function()
        raises("items[2]", ns.put_many, ns, { { key = "a", value = 1 }, { key = "b" } })
        raises("items[2].key", ns.put_many, ns, { { key = "a", value = 1 },
          { key = 5, value = 1 } })
        raises("items[1].key", ns.put_many, ns, { { key = "", value = 1 } })
        raises("items[1].value.x", ns.put_many, ns, { { key = "a", value = { x = print } } })
        raises("items[2]", ns.put_many, ns, { { key = "a", value = 1 }, "b" })
        raises("'ttl'", ns.put_many, ns, { { key = "a", value = 1, ttl = -1 } })
        raises("'b'", ns.put_many, ns, { b = { x = print } })
        raises("'b'", ns.put_many, ns, { b = 0 / 0 })
        raises("'items'", ns.put_many, ns, { a = 1, { key = "b", value = 1 } })
        raises("'items'", ns.put_many, ns, { [1] = { key = "a", value = 1 },
          [3] = { key = "b", value = 1 } })
        raises("'items'", ns.put_many, ns, { [true] = 1 })
        raises("key", ns.put_many, ns, { [""] = 1 })
        raises("'items'", ns.put_many, ns)
        raises("'items'", ns.put_many, ns, "a")
      end)
    end)

    describe("delete_many", function()
      it("returns how many were there", function()
        ns:put_many { a = 1, b = 2, c = 3 }
        returns(2, ns:delete_many { "a", "nothing", "c" })
        assert.same({ b = 2 }, ns:get_all())
        returns(1, ns:delete_many { "b", "b" })
        returns(0, ns:delete_many {})
      end)
    end)

    describe("get_many and delete_many", function()
      it("raise for what is no array of keys, and touch nothing", function()
        ns:put("a", 1)
        for _, name in ipairs { "get_many", "delete_many" } do
          raises("'keys'", ns[name], ns)
          raises("'keys'", ns[name], ns, "a")
          raises("'keys'", ns[name], ns, { a = 1 })
          raises("'keys'", ns[name], ns, { "a", x = 1 })
          raises("keys[2]", ns[name], ns, { "a", 5 })
          raises("keys[2]", ns[name], ns, { "a", "" })
          fails("too_big", ns[name](ns, { "a", ("k"):rep(513) }))
        end
        assert.equal(1, ns:get("a"))
      end)
    end)

    describe("delete_prefix and clear", function()
      it("return how many they deleted", function()
        ns:put_many { a = 1, ["user:1"] = 1, ["user:2"] = 2, ["user"] = 3, ["v"] = 4 }
        returns(2, ns:delete_prefix("user:"))
        assert.same({ "a", "user", "v" }, ns:keys())
        returns(0, ns:delete_prefix("user:"))
        returns(0, ns:delete_prefix(("u"):rep(600)))
        returns(3, ns:clear())
        returns(0, ns:clear())
        assert.same({}, ns:keys())
      end)

      it("go through thousands", function()
        local items = {}
        for i = 1, 5000 do items[("%d:%d"):format(i % 2, i)] = i end
        ns:put_many(items)
        returns(2500, ns:delete_prefix("1:"))
        assert.equal(2500, ns:count())
        assert.equal(2500, ns:count { prefix = "0:" })
        store = new.again(store)
        ns = store:namespace("many")
        assert.equal(2500, ns:count())
        returns(2500, ns:clear())
        assert.equal(0, ns:count())
        assert.is_true(store:check())
      end)

      it("leave other namespaces alone", function()
        local other = store:namespace("other")
        other:put("a", 1)
        ns:put("a", 1)
        ns:clear()
        assert.equal(1, other:get("a"))
      end)

      it("raise for an empty prefix, and for what is no string", function()
        ns:put("a", 1)
        raises({ "'prefix'", "clear" }, ns.delete_prefix, ns, "")
        raises("'prefix'", ns.delete_prefix, ns)
        raises("'prefix'", ns.delete_prefix, ns, 5)
        raises("'prefix'", ns.delete_prefix, ns, { prefix = "a" })
        raises("delete_prefix", ns.clear, ns, "a")
        assert.equal(1, ns:count())
      end)
    end)
  end)
end)
