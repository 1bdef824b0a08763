-- SPDX-License-Identifier: MIT
--
-- write_spec.lua - the options of a write: ttl, expiration, keep_ttl, metadata, set_if, if_rev; and
-- what an overwrite keeps. Here no time passes: expiry_spec.lua moves the clock.

local kv = require "kv"
local helper = require "helper"

local fails, raises, refuses, returns = helper.fails, helper.raises, helper.refuses, helper.returns

-- Between a call and the look at its result a slow machine may sleep a while.
local SLACK = 30

describe("options of a write", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("write")
    end)

    local function again()
      store = new.again(store)
      return store:namespace("write")
    end

    local function near(expected, got)
      assert(type(got) == "number" and got <= expected and got > expected - SLACK,
        ("%s is not just under %s"):format(tostring(got), tostring(expected)))
    end

    describe("ttl", function()
      it("is seconds, fractions allowed", function()
        ns:put("k", 1, { ttl = 3600 })
        near(3600, ns:ttl("k"))
        ns:put("k", 1, { ttl = 1800.5 })
        near(1800.5, ns:ttl("k"))
        ns:put("k", 1, { ttl = 1e9 })
        near(1e9, ns:ttl("k"))
        near(os.time() + 1 + 1e9, ns:entry("k").expiration) -- os.time() rounds down
      end)

      it("of almost nothing is accepted", function()
        assert(ns:put("k", 1, { ttl = 1e-6 }))
        assert(ns:put("k", 1, { ttl = 5e-324 }))
      end)

      it("raises when it is no time to live", function()
        for _, ttl in ipairs { 0, -1, 0 / 0, 1e300, math.huge, -math.huge, 1e9 + 1, "60", true, {},
          kv.null } do
          raises({ "'ttl'", "1e9" }, ns.put, ns, "k", 1, { ttl = ttl })
          raises("'ttl'", ns.put_many, ns, { k = 1 }, { ttl = ttl })
          raises("'ttl'", ns.put_many, ns, { { key = "k", value = 1, ttl = ttl } })
          raises("'ttl'", ns.swap, ns, "k", 1, { ttl = ttl })
          raises("'ttl'", ns.incr, ns, "k", 1, { ttl = ttl })
        end
        assert.equal(0, ns:count())
      end)

      it("survives reopening", function()
        ns:put("k", 1, { ttl = 5000 })
        ns = again()
        near(5000, ns:ttl("k"))
      end)
    end)

    describe("expiration", function()
      it("is a moment in Unix seconds", function()
        local at = os.time() + 5000
        ns:put("k", 1, { expiration = at })
        assert.equal(at, ns:entry("k").expiration)
        near(5000, ns:ttl("k"))
        ns:put("k", 1, { expiration = at + 0.25 })
        assert.equal(at + 0.25, ns:entry("k").expiration)
        ns = again()
        assert.equal(at + 0.25, ns:entry("k").expiration)
      end)

      it("in the past is out_of_range and changes nothing", function()
        ns:put("k", "old", { ttl = 1000 })
        local rev = store:rev()
        for _, at in ipairs { os.time() - 10, 1, 0, -5, 1e-9, -1e300 } do
          fails("out_of_range", ns:put("k", 1, { expiration = at }))
          fails("out_of_range", ns:swap("k", 1, { expiration = at }))
          fails("out_of_range", ns:put_many({ a = 1, k = 2 }, { expiration = at }))
        end
        assert.equal("old", ns:get("k"))
        assert.equal(rev, store:rev())
        assert.is_false(ns:exists("a"))
      end)

      it("raises when it can only be milliseconds", function()
        raises({ "'expiration'", "milliseconds?" }, ns.put, ns, "k", 1,
          { expiration = os.time() * 1000 })
        raises("'expiration'", ns.put, ns, "k", 1, { expiration = 1e11 + 1 })
        assert(ns:put("k", 1, { expiration = 1e11 }))
      end)

      it("raises when it is no number", function()
        for _, at in ipairs { "tomorrow", true, {}, 0 / 0, math.huge } do
          raises("'expiration'", ns.put, ns, "k", 1, { expiration = at })
        end
      end)
    end)

    describe("of the three times", function()
      it("the first given wins: ttl, expiration, keep_ttl", function()
        ns:put("k", 1, { ttl = 9000 })
        ns:put("k", 1, { ttl = 100, expiration = os.time() + 5000, keep_ttl = true })
        near(100, ns:ttl("k"))
        local at = os.time() + 5000
        ns:put("k", 1, { expiration = at, keep_ttl = true })
        assert.equal(at, ns:entry("k").expiration)
        assert(ns:put("k", 1, { ttl = 100, expiration = 5 }), "the expiration does not count")
      end)

      it("keep_ttl keeps what there is", function()
        local at = os.time() + 5000
        ns:put("k", 1, { expiration = at })
        ns:put("k", 2, { keep_ttl = true })
        assert.equal(at, ns:entry("k").expiration)
        ns:put("k", 3, { keep_ttl = false })
        returns(false, ns:ttl("k"))
        ns:put("k", 4, { keep_ttl = true })
        returns(false, ns:ttl("k"))
        ns:put("new", 1, { keep_ttl = true })
        returns(false, ns:ttl("new"))
        raises("'keep_ttl'", ns.put, ns, "k", 1, { keep_ttl = 1 })
      end)
    end)

    describe("an overwrite", function()
      it("clears ttl and metadata, and keeps created_at and id", function()
        ns:put("k", 1, { ttl = 100, metadata = { a = 1 } })
        local first = ns:entry("k")
        local rev = ns:put("k", 2)
        local second = ns:entry("k")
        assert.is_nil(second.metadata)
        assert.is_nil(second.expiration)
        returns(false, ns:ttl("k"))
        assert.equal(first.created_at, second.created_at)
        assert.equal(first.id, second.id)
        assert.equal(rev, second.rev)
        assert(second.rev > first.rev)
        assert(second.updated_at >= first.updated_at)
        ns = again()
        assert.same(second, ns:entry("k"))
      end)

      it("after a delete is another key", function()
        ns:put("k", 1)
        local id = ns:entry("k").id
        ns:delete("k")
        ns:put("k", 1)
        assert.not_equal(id, ns:entry("k").id)
      end)
    end)

    describe("metadata", function()
      it("comes back as it was put", function()
        local metadata = { source = "signup", n = 12345678901, tags = { "a" }, deep = { x = {} },
          text = "ü" }
        ns:put("k", "v", { metadata = metadata })
        assert.same(metadata, ns:entry("k").metadata)
        ns = again()
        assert.same(metadata, ns:get_with_metadata("k").metadata)
        assert.equal("v", ns:get("k"))
        ns:put("k", "v", { metadata = {} })
        assert.same({}, ns:entry("k").metadata)
      end)

      it("raises when it is no table, or cannot be JSON", function()
        for _, metadata in ipairs { "text", 1, true, print } do
          raises("'metadata'", ns.put, ns, "k", 1, { metadata = metadata })
        end
        raises("metadata.f", ns.put, ns, "k", 1, { metadata = { f = print } })
        raises("metadata.n", ns.put, ns, "k", 1, { metadata = { n = 0 / 0 } })
        assert.is_false(ns:exists("k"))
      end)

      it("is not shared with the caller's table", function()
        local metadata = { n = 1 }
        ns:put("k", 1, { metadata = metadata })
        metadata.n = 2
        assert.equal(1, ns:entry("k").metadata.n)
      end)
    end)

    describe("set_if", function()
      it("not_exist writes a missing key only", function()
        assert(ns:put("k", 1, { set_if = "not_exist" }))
        local rev = store:rev()
        refuses("exists", ns:put("k", 2, { set_if = "not_exist", ttl = 5 }))
        assert.equal(1, ns:get("k"))
        returns(false, ns:ttl("k"))
        assert.equal(rev, store:rev())
        ns:delete("k")
        assert(ns:put("k", 3, { set_if = "not_exist" }))
      end)

      it("exist writes a key only that is there", function()
        refuses("not_found", ns:put("k", 1, { set_if = "exist" }))
        assert.is_false(ns:exists("k"))
        ns:put("k", 1)
        assert(ns:put("k", 2, { set_if = "exist" }))
        assert.equal(2, ns:get("k"))
      end)

      it("raises for another word", function()
        for _, word in ipairs { "exists", "nx", true, 1 } do
          raises({ "'set_if'", "not_exist" }, ns.put, ns, "k", 1, { set_if = word })
        end
      end)
    end)

    describe("if_rev", function()
      it("writes over exactly that revision", function()
        local rev = ns:put("k", 1)
        local second = ns:put("k", 2, { if_rev = rev })
        assert(second and second > rev)
        refuses("conflict", ns:put("k", 3, { if_rev = rev }))
        assert.equal(2, ns:get("k"))
        assert.equal(second, ns:entry("k").rev)
        assert(ns:put("k", 3, { if_rev = second }))
      end)

      it("0 means: must not exist", function()
        assert(ns:put("k", 1, { if_rev = 0 }))
        refuses("conflict", ns:put("k", 2, { if_rev = 0 }))
        refuses("conflict", ns:put("other", 2, { if_rev = 1 }))
        assert.is_false(ns:exists("other"))
      end)

      it("takes integral floats", function()
        local rev = ns:put("k", 1)
        assert(ns:put("k", 2, { if_rev = rev + 0.0 }))
      end)

      it("survives reopening", function()
        local rev = ns:put("k", 1)
        ns = again()
        assert.equal(rev, ns:entry("k").rev)
        local second = assert(ns:put("k", 2, { if_rev = rev }))
        assert(second > rev)
      end)

      it("changes with expire and persist, which updated_at does not", function()
        local rev = ns:put("k", 1, { ttl = 100 })
        local updated = ns:entry("k").updated_at
        assert.is_true(ns:expire("k", 200))
        local second = ns:entry("k").rev
        assert(second > rev)
        assert.is_true(ns:persist("k"))
        local third = ns:entry("k").rev
        assert(third > second)
        assert.equal(updated, ns:entry("k").updated_at)
        refuses("conflict", ns:put("k", 2, { if_rev = rev }))
      end)

      it("raises when it is no revision", function()
        for _, rev in ipairs { -1, 0.5, "1", true, 0 / 0, 1e300 } do
          raises("'if_rev'", ns.put, ns, "k", 1, { if_rev = rev })
          raises("'if_rev'", ns.delete, ns, "k", { if_rev = rev })
          raises("'if_rev'", ns.take, ns, "k", { if_rev = rev })
        end
      end)

      it("works for delete", function()
        local rev = ns:put("k", 1)
        refuses("conflict", ns:delete("k", { if_rev = rev + 1 }))
        assert.is_true(ns:exists("k"))
        returns(true, ns:delete("k", { if_rev = rev }))
        assert.is_false(ns:exists("k"))
      end)
    end)

    describe("entry", function()
      it("has everything there is to know", function()
        local before = os.time()
        local rev = ns:put("k", { a = 1 }, { ttl = 100, metadata = { m = true } })
        local e = ns:entry("k")
        assert.same({ a = 1 }, e.value)
        assert.same({ m = true }, e.metadata)
        assert.equal(rev, e.rev)
        assert.equal("string", type(e.id))
        assert(#e.id > 0)
        assert.equal("k", e.key)
        assert.equal("write", e.namespace)
        assert.equal(new.path, e.instance)
        assert.is_nil(e.cache_status)
        for _, at in ipairs { e.created_at, e.updated_at } do
          assert(at > before - SLACK and at < before + SLACK)
        end
        near(e.created_at + 100 + 1, e.expiration)
      end)

      it("has no more fields than it has to say", function()
        ns:put("k", false)
        local names = {}
        for name in pairs(ns:get_with_metadata("k")) do names[#names + 1] = name end
        table.sort(names)
        assert.equal("created_at id instance key namespace rev updated_at value",
          table.concat(names, " "))
      end)
    end)

    describe("swap", function()
      it("returns what was there, nil, and the rev", function()
        local old, message, rev = ns:swap("k", "new")
        assert.is_nil(old)
        assert.is_nil(message)
        assert.equal(store:rev(), rev)
        old, message, rev = ns:swap("k", { a = 1 })
        assert.equal("new", old)
        assert.is_nil(message)
        assert.equal(ns:entry("k").rev, rev)
        assert.same({ a = 1 }, (ns:swap("k", false)))
        assert.is_false((ns:swap("k", kv.null)))
        assert.equal(kv.null, (ns:swap("k", 5)))
        assert.equal(3, select("#", ns:swap("k", 6)))
      end)

      it("takes the options of put", function()
        local rev = ns:put("k", 1, { ttl = 100, metadata = { a = 1 } })
        refuses("conflict", ns:swap("k", 2, { if_rev = rev + 1 }))
        refuses("exists", ns:swap("k", 2, { set_if = "not_exist" }))
        refuses("not_found", ns:swap("none", 2, { set_if = "exist" }))
        refuses("conflict", ns:swap("none", 2, { if_rev = rev }))
        -- Of two conditions that do not hold it names the one that put names.
        for _, name in ipairs { "put", "swap" } do
          refuses("exists", ns[name](ns, "k", 2, { set_if = "not_exist", if_rev = rev + 1 }))
          refuses("not_found", ns[name](ns, "none", 2, { set_if = "exist", if_rev = rev }))
          refuses("conflict", ns[name](ns, "k", 2, { set_if = "exist", if_rev = rev + 1 }))
        end
        assert.equal(1, ns:get("k"))
        assert.equal(1, (ns:swap("k", 2, { if_rev = rev, keep_ttl = true, metadata = { b = 2 } })))
        near(100, ns:ttl("k"))
        assert.same({ b = 2 }, ns:entry("k").metadata)
        assert.is_nil((ns:swap("none", 1, { if_rev = 0 })))
        assert.equal(1, (ns:swap("none", '{"x": 1}', { as = "json" })))
        assert.same({ x = 1 }, ns:get("none"))
      end)

      it("keeps created_at and id", function()
        ns:put("k", 1)
        local e = ns:entry("k")
        ns:swap("k", 2)
        assert.equal(e.id, ns:entry("k").id)
        assert.equal(e.created_at, ns:entry("k").created_at)
      end)
    end)

    describe("take", function()
      it("returns the value, which is gone", function()
        ns:put("k", { 1, 2 })
        assert.same({ 1, 2 }, ns:take("k"))
        assert.is_false(ns:exists("k"))
        returns(nil, ns:take("k"))
        ns:put("k", false)
        returns(false, ns:take("k"))
        ns:put("k", ("x"):rep(100000))
        assert.equal(100000, #ns:take("k"))
      end)

      it("works on condition", function()
        local rev = ns:put("k", 1)
        refuses("conflict", ns:take("k", { if_rev = rev + 1 }))
        assert.equal(1, ns:get("k"))
        returns(1, ns:take("k", { if_rev = rev }))
        assert.is_false(ns:exists("k"))
      end)
    end)

    describe("unknown options", function()
      local near_misses = {
        expirationTtl = "ttl", expiration_ttl = "ttl", expires = "ttl", ex = "ttl", TTL = "ttl",
        ttlInSeconds = "ttl", tll = "ttl", expire_at = "expiration", keepTtl = "keep_ttl",
        setIf = "set_if", nx = "set_if", ifRev = "if_rev", cas = "if_rev", meta = "metadata",
        metaData = "metadata",
      }
      it("raise and name the one that was meant", function()
        for given, meant in pairs(near_misses) do
          raises({ "'" .. given .. "'", "did you mean '" .. meant .. "'?" },
            ns.put, ns, "k", 1, { [given] = 1 })
        end
        raises("did you mean 'if_rev'?", ns.delete, ns, "k", { if_revision = 1 })
        raises("did you mean 'init'?", ns.incr, ns, "k", 1, { initial = 1 })
        raises("did you mean 'prefix'?", ns.list, ns, { Prefix = "a" })
        raises("did you mean 'limit'?", ns.keys, ns, { limits = 1 })
        raises("did you mean 'reverse'?", ns.count, ns, { desc = true })
        raises("did you mean 'description'?", store.namespace, store, "n", { desc = "" })
        assert.is_false(ns:exists("k"))
      end)

      it("raise and name what there is when nothing is near", function()
        raises({ "'colour'", "ttl, expiration" }, ns.put, ns, "k", 1,
          { colour = "red" })
      end)

      it("raise in every call that takes options", function()
        local bad = { nonsense = 1 }
        for name, args in pairs {
          put = { "k", 1 }, set = { "k", 1 }, swap = { "k", 1 }, delete = { "k" }, take = { "k" },
          incr = { "k", 1 }, list = {}, pairs = {}, keys = {}, count = {}, get_all = {},
          put_many = { { a = 1 } },
        } do
          args[#args + 1] = bad
          raises("'nonsense'", ns[name], ns, helper.unpack(args))
        end
        raises("'nonsense'", ns.put_many, ns, { { key = "a", value = 1, nonsense = 1 } })
        raises("'nonsense'", store.namespace, store, "n", bad)
        raises("'nonsense'", kv.open, ":memory:", bad)
        assert.equal(0, ns:count())
      end)

      it("raise when they are no table, or have no names", function()
        for _, opts in ipairs { 60, "ttl", true, print } do
          raises("'options'", ns.put, ns, "k", 1, opts)
          raises("'options'", ns.list, ns, opts)
        end
        raises("'options'", ns.put, ns, "k", 1, { 60 })
        raises("'options'", ns.put, ns, "k", 1, { [{}] = 1 })
      end)

      it("are read raw: no metamethod runs", function()
        local opts = setmetatable({}, {
          __index = function() error("index called") end,
          __pairs = function() error("pairs called") end,
        })
        assert(ns:put("k", 1, opts))
        assert(ns:put("k", 1, setmetatable({ ttl = 5 }, { __index = { metadata = { 1 } } })))
        assert.is_nil(ns:entry("k").metadata)
      end)
    end)
  end)
end)
