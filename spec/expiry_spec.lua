-- SPDX-License-Identifier: MIT
--
-- expiry_spec.lua - what time does to keys. The clock is moved, not waited for (a build with test
-- hooks); real time adds a little to every moved one, so each check stays away from the edge.

local helper = require "helper"

local fails, refuses, returns = helper.fails, helper.refuses, helper.returns

helper.with_hooks("expiry", function(kv, core)
  helper.each_store(function(new)
    local store, ns, offset

    -- The clock goes on by so many seconds from where it was moved last.
    local function pass(seconds)
      offset = offset + seconds
      core.test_clock(offset)
    end

    before_each(function()
      offset = 0
      core.test_clock(0)
      store = new()
      ns = store:namespace("expiry")
    end)

    local function again()
      store = new.again(store)
      return store:namespace("expiry")
    end

    local function gone(key)
      returns(nil, ns:get(key))
      returns(nil, ns:entry(key))
      returns(false, ns:exists(key))
      returns(nil, ns:ttl(key))
    end

    it("ends a key when its ttl is over, for every way to look", function()
      ns:put("k", 1, { ttl = 100 })
      ns:put("stays", 2)
      pass(50)
      assert.equal(1, ns:get("k"))
      assert(ns:ttl("k") <= 50 and ns:ttl("k") > 20)
      pass(100)
      gone("k")
      assert.same({ "stays" }, ns:keys())
      assert.equal(1, ns:count())
      assert.same({ stays = 2 }, ns:get_all())
      assert.same({ { name = "stays" } }, ns:list().keys)
      assert.is_true(ns:list({ limit = 1 }).list_complete)
      for k in ns:pairs() do assert.equal("stays", k) end
      assert.same({}, ns:get_many { "k" })
      returns(false, ns:delete("k"))
      returns(nil, ns:take("k"))
      returns(false, ns:expire("k", 5))
      returns(false, ns:persist("k"))
      assert.is_true(store:check())
    end)

    it("treats what is over as not there, for every way to write", function()
      for i = 1, 8 do ns:put("k" .. i, 5, { ttl = 10, metadata = { old = true } }) end
      local id, created = ns:entry("k1").id, ns:entry("k1").created_at
      pass(20)
      assert(ns:put("k1", 1, { set_if = "not_exist" }))
      assert.not_equal(id, ns:entry("k1").id)
      assert(ns:entry("k1").created_at > created + 10)
      refuses("not_found", ns:put("k2", 1, { set_if = "exist" }))
      assert(ns:put("k3", 1, { if_rev = 0 }))
      returns(1, ns:incr("k4"))
      assert.is_nil(ns:entry("k4").metadata)
      assert.is_nil((ns:swap("k5", 1)))
      assert(ns:put("k6", 1, { keep_ttl = true }))
      returns(false, ns:ttl("k6"))
      refuses("not_found", ns:incr("k7", 1, { init = false }))
      returns(1, ns:put_many { { key = "k8", value = 1, set_if = "not_exist" } })
      assert.same({ "k1", "k3", "k4", "k5", "k6", "k8" }, ns:keys())
      assert.is_true(store:check())
    end)

    it("follows expiration", function()
      ns:put("k", 1, { expiration = os.time() + 100 })
      pass(50)
      assert.equal(1, ns:get("k"))
      pass(100)
      gone("k")
      fails("out_of_range", ns:put("k", 1, { expiration = os.time() + 100 }))
    end)

    it("is extended by an overwrite, expire and persist", function()
      for _, k in ipairs { "a", "b", "c", "d" } do ns:put(k, 1, { ttl = 100 }) end
      pass(60)
      ns:put("a", 2, { ttl = 100 })
      ns:put("b", 2)
      returns(true, ns:expire("c", 100))
      returns(true, ns:persist("d"))
      returns(false, ns:persist("d"))
      pass(60)
      assert.same({ "a", "b", "c", "d" }, ns:keys())
      pass(60)
      assert.same({ "b", "d" }, ns:keys())
      returns(false, ns:ttl("b"))
      returns(false, ns:ttl("d"))
    end)

    it("comes earlier when asked", function()
      ns:put("k", 1, { ttl = 1000 })
      ns:expire("k", 10)
      ns:put("forever", 1)
      ns:expire("forever", 10)
      pass(20)
      gone("k")
      gone("forever")
    end)

    it("by expire with seconds <= 0 is at once", function()
      ns:put("k", 1, { ttl = 1000 })
      returns(true, ns:expire("k", 0))
      gone("k")
      ns:put("k", 1)
      returns(true, ns:expire("k", -5))
      gone("k")
      returns(false, ns:expire("k", 0))
      returns(false, ns:expire("k", -1e300))
      for _, seconds in ipairs { "5", true, {}, 0 / 0, math.huge, -math.huge, 1e9 + 1 } do
        helper.raises("'seconds'", ns.expire, ns, "k", seconds)
      end
      helper.raises("'seconds'", ns.expire, ns, "k")
    end)

    it("keeps metadata, id and updated_at over expire and persist", function()
      ns:put("k", 1, { metadata = { m = 1 }, ttl = 100 })
      local before = ns:entry("k")
      pass(10)
      ns:expire("k", 500)
      ns:persist("k")
      local after = ns:entry("k")
      assert(after.rev > before.rev)
      before.rev, after.rev, before.expiration = nil, nil, nil
      assert.same(before, after)
    end)

    it("is kept by keep_ttl and incr", function()
      ns:put("k", 1, { ttl = 100 })
      ns:put("n", 1, { ttl = 100 })
      pass(60)
      ns:put("k", 2, { keep_ttl = true })
      ns:incr("n", 1, { ttl = 1000 })
      pass(60)
      gone("k")
      gone("n")
    end)

    it("makes a rate limiter's window", function()
      local function hit() return ns:incr("client", 1, { ttl = 60 }) end
      assert.equal(1, hit())
      pass(30)
      assert.equal(2, hit())
      pass(40)
      assert.equal(1, hit())
    end)

    it("goes on while the store is closed", function()
      ns:put("short", 1, { ttl = 100 })
      ns:put("long", 1, { ttl = 1000 })
      ns:put("forever", 1)
      if new.reopens then store:close() end
      pass(500)
      ns = again()
      assert.same({ "forever", "long" }, ns:keys())
      assert(ns:ttl("long") <= 500 and ns:ttl("long") > 470)
      gone("short")
      ns = again()
      assert.equal(2, ns:count())
      assert.is_true(store:check())
    end)

    it("is never taken back: what is over stays over after reopening", function()
      ns:put("k", "old")
      ns:put("k", "new", { ttl = 10 })
      pass(20)
      gone("k")
      ns = again()
      gone("k")
      ns:put("other", 1)
      ns = again()
      gone("k")
      assert.is_true(store:check())
    end)

    it("is reclaimed by tick", function()
      for i = 1, 1000 do ns:put("k" .. i, ("x"):rep(100), { ttl = i % 2 == 0 and 10 or 100000 }) end
      pass(50)
      assert.equal(500, ns:count())
      local done = 0
      for _ = 1, 100 do
        local n = store:tick(1000)
        done = done + n
        if n == 0 then break end
      end
      assert(done >= 500, done .. " done")
      assert.equal(500, store:stats().keys)
      assert.equal(500, ns:count())
      assert.is_true(store:check())
    end)

    it("is reclaimed by tick in bounded steps", function()
      for i = 1, 1000 do ns:put("k" .. i, i, { ttl = 10 }) end
      pass(50)
      local n = store:tick(10)
      assert(n <= 10, n .. " done")
      while store:tick(100) > 0 do end -- luacheck: ignore 542
      assert.equal(0, store:stats().keys)
    end)

    it("is reclaimed by other writes", function()
      for i = 1, 500 do ns:put("k" .. i, i, { ttl = 10 }) end
      pass(50)
      for i = 1, 2000 do ns:put("other" .. i % 10, i) end
      assert(store:stats().keys < 20, store:stats().keys .. " left")
      assert.is_true(store:check())
    end)

    it("works over ten years", function()
      local spans = { 60, 600, 3600, 86400, 86400 * 30, 86400 * 365, 86400 * 3650 }
      for i, span in ipairs(spans) do ns:put("k" .. i, span, { ttl = span }) end
      for i, span in ipairs(spans) do
        pass(span / 2 - offset)
        assert.equal(span, ns:get("k" .. i))
        pass(span / 2 + 30)
        gone("k" .. i)
        store:tick(1000)
        assert.equal(#spans - i, store:stats().keys)
      end
      ns = again()
      assert.equal(0, ns:count())
      assert.equal(0, store:stats().keys)
      assert.is_true(store:check())
    end)

    it("holds still while the clock steps back less than a minute", function()
      ns:put("k", 1, { ttl = 100 })
      pass(50)
      ns:get("k")
      local left = ns:ttl("k")
      ns:put("touch", 1) -- the running clock is noted by writes
      pass(-30)
      assert(ns:ttl("k") <= left + 0.001)
      ns:put("fresh", 1, { ttl = 100 })
      assert(ns:entry("fresh").created_at >= ns:entry("touch").created_at)
      assert(ns:ttl("fresh") <= 100.001)
      pass(30 + 60)
      gone("k")
      assert.equal(1, ns:get("fresh"))
    end)

    it("accepts a larger backward step, and says so", function()
      ns:put("early", 1)
      pass(86400)
      ns:put("k", 1, { ttl = 100 })
      pass(-86400)
      ns:put("now", 1, { ttl = 100 })
      assert(ns:entry("now").created_at < ns:entry("k").created_at - 80000)
      assert(ns:ttl("now") <= 100)
      assert(store:stats().clock_back > 80000)
      assert.equal(1, ns:get("k"))
      pass(200)
      gone("now")
      assert.equal(1, ns:get("k"))
      pass(86400)
      gone("k")
      assert.is_true(store:check())
    end)

    it("gives the times of the moved clock", function()
      pass(1000)
      ns:put("k", 1)
      local created = ns:entry("k").created_at
      assert(created > os.time() + 960 and created < os.time() + 1040)
      pass(1000)
      ns:put("k", 2)
      local e = ns:entry("k")
      assert.equal(created, e.created_at)
      assert(e.updated_at > created + 900)
    end)
  end, kv)
end)
