-- SPDX-License-Identifier: MIT
--
-- values_spec.lua - put and get: every kind of value comes back as it was, in every form asked for.

local kv = require "kv"
local helper = require "helper"

local fails, raises, returns = helper.fails, helper.raises, helper.returns

describe("values", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("values")
    end)

    -- Through a new handle and, where there is one, through the file.
    local function again()
      store = new.again(store)
      return store:namespace("values")
    end

    describe("put and get", function()
      it("keep strings byte for byte", function()
        local all = {}
        for i = 0, 255 do all[#all + 1] = string.char(i) end
        local values = { "", "a", "\0", "text", table.concat(all), ("x"):rep(100000),
          ("\255\0"):rep(4096), '{"looks":"like json"}', "12", "null", "ünïcode" }
        for i, v in ipairs(values) do assert(ns:put("s" .. i, v)) end
        ns = again()
        for i, v in ipairs(values) do
          assert(v == ns:get("s" .. i), "string " .. i)
        end
      end)

      it("keep strings around every size that is treated in its own way", function()
        local sizes = {}
        for _, around in ipairs { 1, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576 } do
          for d = -2, 2 do sizes[#sizes + 1] = math.max(0, around + d) end
        end
        for _, n in ipairs(sizes) do
          local v = ("v"):rep(n)
          assert(ns:put("size", v))
          assert(ns:get("size") == v, "size " .. n)
          assert(ns:entry("size").value == v, "size " .. n)
        end
      end)

      it("keep numbers, and their kind", function()
        local numbers = { 0, 1, -1, 42, 2 ^ 31, 2 ^ 53, -2 ^ 53, 0.1, 1 / 3, -1e308, 5e-324, 1e15,
          123456789012345, 2 ^ 64, 2 ^ 53 + 2, 1.5, -0.75, 1e100 }
        if helper.integers then
          for _, n in ipairs { math.maxinteger, math.mininteger, 1.0, -3.0, 9007199254740993 } do
            numbers[#numbers + 1] = n
          end
        end
        for i, n in ipairs(numbers) do
          assert(ns:put("n" .. i, n))
          assert(ns:put("t" .. i, { n }))
        end
        ns = again()
        for i, n in ipairs(numbers) do
          local got = ns:get("n" .. i)
          assert.equal(n, got)
          assert.equal(helper.kind(n), helper.kind(got))
          assert.equal(n, ns:get("t" .. i)[1])
          assert.equal(helper.kind(n), helper.kind(ns:get("t" .. i)[1]))
        end
      end)

      it("keep the sign of zero", function()
        local zero = 0.0
        assert(ns:put("zero", -zero))
        assert.equal(-math.huge, 1 / ns:get("zero"))
        assert(ns:put("zero", zero))
        assert.equal(math.huge, 1 / ns:get("zero"))
      end)

      it("keep booleans and null", function()
        assert(ns:put("t", true))
        assert(ns:put("f", false))
        assert(ns:put("n", kv.null))
        ns = again()
        returns(true, ns:get("t"))
        returns(false, ns:get("f"))
        returns(kv.null, ns:get("n"))
        assert.is_true(ns:exists("f"))
        assert.is_true(ns:exists("n"))
      end)

      it("keep tables", function()
        local tables = {
          {}, { 1, 2, 3 }, { a = 1 }, { a = { b = { c = { 1, { d = "x" } } } } },
          { kv.null, false, "", 0 }, { [""] = "empty key" }, { ["a.b"] = 1, ["1"] = 2 },
          { text = "Größe \"quoted\" \\ / \n\0\1" }, { 0.1, 1e300, 123456789012345 },
        }
        for i, t in ipairs(tables) do assert(ns:put("t" .. i, t)) end
        ns = again()
        for i, t in ipairs(tables) do assert.same(t, ns:get("t" .. i)) end
      end)

      it("keep arrays arrays and objects objects", function()
        assert(ns:put("a", kv.array()))
        assert(ns:put("o", {}))
        assert(ns:put("in", { list = kv.array(), map = {} }))
        assert.equal("[]", ns:get("a", "text"))
        assert.equal("{}", ns:get("o", "text"))
        assert(ns:put("b", ns:get("a")))
        assert.equal("[]", ns:get("b", "text"))
        local t = ns:get("in")
        t.list[1] = nil
        assert(ns:put("in", t))
        assert.same({ list = {}, map = {} }, ns:get("in"))
        assert.truthy(ns:get("in", "text"):find('"list":[]', 1, true))
        assert.truthy(ns:get("in", "text"):find('"map":{}', 1, true))
      end)

      it("copy: what happens to a table later changes nothing", function()
        local t = { n = 1 }
        ns:put("t", t)
        t.n = 2
        assert.equal(1, ns:get("t").n)
        ns:get("t").n = 3
        assert.equal(1, ns:get("t").n)
      end)

      it("give a rev that grows with every write", function()
        local last = 0
        for i = 1, 20 do
          local rev = ns:put("k" .. i % 3, i)
          assert(rev > last and rev >= 1)
          assert.equal("number", type(rev))
          if helper.integers then assert.equal("integer", math.type(rev)) end
          assert.equal(rev, store:rev())
          last = rev
        end
      end)

      it("return one nil for a miss", function()
        returns(nil, ns:get("nothing"))
        returns(nil, ns:entry("nothing"))
        returns(false, ns:exists("nothing"))
      end)

      it("have set as another name of put", function()
        assert.equal("number", type(ns:set("k", 1)))
        assert.equal(1, ns:get("k"))
      end)
    end)

    describe("keys", function()
      it("are 1 to 512 bytes, any bytes", function()
        local keys = { "a", "\0", "\0\0", "\255", "a\0b", ("k"):rep(512), "ключ", "user:1/2.3[4]",
          ("\0"):rep(512) }
        for i, k in ipairs(keys) do assert(ns:put(k, i)) end
        ns = again()
        for i, k in ipairs(keys) do
          assert.equal(i, ns:get(k))
          assert.is_true(ns:exists(k))
        end
        assert.equal(#keys, ns:count())
      end)

      local calls = {
        get = {}, get_with_metadata = {}, entry = {}, exists = {}, ttl = {}, persist = {},
        take = {}, put = { 1 }, set = { 1 }, swap = { 1 }, delete = {}, incr = {}, expire = { 10 },
      }
      it("that are too long are too_big, in every call", function()
        for name, args in pairs(calls) do
          fails("too_big", ns[name](ns, ("k"):rep(513), helper.unpack(args)))
        end
      end)

      it("that are no strings, or empty, raise, in every call", function()
        for name, args in pairs(calls) do
          for _, key in ipairs { 5, 0.5, true, {}, print } do
            raises("'key'", ns[name], ns, key, helper.unpack(args))
          end
          raises("'key'", ns[name], ns, nil, helper.unpack(args))
          raises("'key'", ns[name], ns, "", helper.unpack(args))
        end
        assert.equal(0, ns:count())
      end)
    end)

    describe("what cannot be stored", function()
      local function refused(words, value)
        local message = raises(words, ns.put, ns, "k", value)
        assert.is_false(ns:exists("k"))
        return message
      end

      it("raises for nil, and says what to do", function()
        refused("'value'", nil)
        refused("kv.null", nil)
        raises("'value'", ns.put, ns, "k")
      end)

      it("raises for threads, userdata, and functions inside a table", function()
        refused("value", coroutine.create(function() end))
        refused("value", store)
        refused("value.x", { x = print })
      end)

      it("raises for NaN and the infinities", function()
        refused("value", 0 / 0)
        refused("value", math.huge)
        refused("value", -math.huge)
        refused("value.x", { x = 0 / 0 })
      end)

      it("raises with the place in a table", function()
        refused("value.items[3]", { items = { 1, 2, print } })
        refused("value.a.b", { a = { b = io.stdout } })
        refused("value", { 1, 2, x = 3 })
        refused("value", { [1] = 1, [3] = 3 })
        refused("value", { [true] = 1 })
        refused("value.text", { text = "\255" })
        local t = {}
        t.self = t
        refused("value", t)
        local deep = {}
        for _ = 1, 128 do deep = { deep } end
        refused("value", deep)
      end)

      it("leaves what was there", function()
        ns:put("k", "old", { metadata = { m = 1 } })
        local rev = store:rev()
        assert.is_false(pcall(ns.put, ns, "k", { print }))
        assert.equal("old", ns:get("k"))
        assert.same({ m = 1 }, ns:entry("k").metadata)
        assert.equal(rev, store:rev())
      end)
    end)

    describe("as", function()
      it("text and binary are the bytes", function()
        for _, as in ipairs { "text", "binary" } do
          local function check(expected, value)
            ns:put("k", value)
            returns(expected, ns:get("k", as))
            assert.equal(expected, ns:entry("k", as).value)
          end
          check("\0\255", "\0\255")
          check("", "")
          check("12", 12)
          check("-1", -1)
          check("0.5", 0.5)
          check("true", true)
          check("false", false)
          check("null", kv.null)
          check("{}", {})
          check("[1,2]", { 1, 2 })
          check('{"a":"b"}', { a = "b" })
          if helper.integers then check("3.0", 3.0) end
        end
      end)

      it("json decodes a string and leaves the rest as put", function()
        ns:put("k", '{"a":[1,2.5,null]}')
        assert.same({ a = { 1, 2.5, kv.null } }, ns:get("k", "json"))
        ns:put("k", " 12 ")
        returns(12, ns:get("k", "json"))
        ns:put("k", "null")
        returns(kv.null, ns:get("k", "json"))
        ns:put("k", 5)
        returns(5, ns:get("k", "json"))
        ns:put("k", { a = 1 })
        assert.same({ a = 1 }, ns:get("k", "json"))
        ns:put("k", kv.null)
        returns(kv.null, ns:get("k", "json"))
        returns(nil, ns:get("nothing", "json"))
      end)

      it("json of a string that is none fails", function()
        for _, text in ipairs { "", "text", "{", "[1,]", "01", '"\255"', "{} x" } do
          ns:put("k", text)
          fails("not_json", ns:get("k", "json"))
          fails("not_json", ns:entry("k", "json"))
        end
        ns:put("k", ("["):rep(129) .. ("]"):rep(129))
        fails("too_deep", ns:get("k", "json"))
      end)

      it("raises for another word", function()
        raises("'as'", ns.get, ns, "k", "xml")
        raises("'as'", ns.get, ns, "k", 1)
        raises("'as'", ns.get, ns, "k", {})
        raises("'as'", ns.entry, ns, "k", "TEXT")
      end)
    end)

    describe('put with as = "json"', function()
      it("stores the text as a document, byte for byte", function()
        for _, text in ipairs { '{ "b" : 1.50, "a":[ ] }', "[1e2,\n2]", ' "s" ', "12", "null",
          '{"a":1,"a":2}', '"\\u00e9"' } do
          assert(ns:put("k", text, { as = "json" }))
          returns(text, ns:get("k", "text"))
        end
        ns:put("k", '{ "b" : 1.50, "a":[ ] }', { as = "json" })
        ns = again()
        assert.same({ b = 1.5, a = {} }, ns:get("k"))
        assert.same({ b = 1.5, a = {} }, ns:get("k", "json"))
      end)

      it("refuses what is no JSON", function()
        ns:put("k", "old")
        for _, text in ipairs { "", "text", "{'a':1}", "[1,]", "nul", "1 2", '"\255"', "NaN" } do
          fails("not_json", ns:put("k", text, { as = "json" }))
          fails("not_json", ns:swap("k", text, { as = "json" }))
          fails("not_json", ns:put_many({ k = text }, { as = "json" }))
        end
        fails("too_deep", ns:put("k", ("["):rep(129) .. ("]"):rep(129), { as = "json" }))
        assert.equal("old", ns:get("k"))
      end)

      it("raises for anything but a string, and another word", function()
        raises("as=", ns.put, ns, "k", {}, { as = "json" })
        raises("as=", ns.put, ns, "k", 12, { as = "json" })
        raises("'as'", ns.put, ns, "k", "1", { as = "text" })
        raises("'as'", ns.put, ns, "k", "1", { as = true })
      end)
    end)

    describe("limits", function()
      it("a value may have 25 MiB and not a byte more", function()
        local limit = 25 * 1024 * 1024
        local value = ("x"):rep(limit)
        assert(ns:put("k", value))
        assert(ns:get("k") == value)
        value = value .. "x"
        fails("too_big", ns:put("k", value))
        fails("too_big", ns:put("other", value))
        fails("too_big", ns:swap("k", value))
        fails("too_big", ns:put_many { a = 1, k = value })
        assert.equal(limit, #ns:get("k"))
        assert.equal(1, ns:count())
      end)

      it("max_value of the store is another limit", function()
        store = new { max_value = 1000 }
        ns = store:namespace("values")
        assert(ns:put("k", ("x"):rep(1000)))
        fails("too_big", ns:put("k", ("x"):rep(1001)))
        fails("too_big", ns:put("k", { ("x"):rep(1000) }))
        assert.equal(1000, #ns:get("k"))
        if new.reopens then
          store:close()
          store = assert(kv.open(new.path))
          fails("too_big", store:namespace("values"):put("k", ("x"):rep(1001)))
          store:close()
        end
      end)

      it("metadata may have 1,024 bytes as JSON", function()
        local function metadata(n) return { m = ("x"):rep(n - 8) } end
        assert.equal(1024, #kv.encode(metadata(1024)))
        assert(ns:put("k", 1, { metadata = metadata(1024) }))
        assert.same(metadata(1024), ns:entry("k").metadata)
        fails("too_big", ns:put("k", 2, { metadata = metadata(1025) }))
        assert.equal(1, ns:get("k"))
      end)

      it("max_size of the store makes it full, not broken", function()
        store = new { max_size = 100000 }
        ns = store:namespace("values")
        local full
        for i = 1, 200 do
          local rev, message, code = ns:put("k" .. i, ("x"):rep(1000))
          if not rev then
            full = i
            fails("full", rev, message, code)
            break
          end
        end
        assert(full and full > 50 and full < 110, "full at " .. tostring(full))
        assert.equal(full - 1, ns:count())
        assert.equal(1000, #ns:get("k1"))
        assert.is_true(ns:delete("k1"))
        assert(ns:put("again", ("x"):rep(900)))
      end)
    end)

    describe("delete", function()
      it("says whether the key was there", function()
        ns:put("k", 1)
        returns(true, ns:delete("k"))
        returns(false, ns:delete("k"))
        returns(nil, ns:get("k"))
        ns = again()
        returns(nil, ns:get("k"))
      end)

      it("of the last key leaves an empty namespace", function()
        for i = 1, 100 do ns:put("k" .. i, i) end
        for i = 1, 100 do assert.is_true(ns:delete("k" .. i)) end
        assert.equal(0, ns:count())
        assert.same({}, ns:keys())
        assert(ns:put("k1", "new"))
        assert.equal("new", ns:get("k1"))
      end)
    end)
  end)
end)
