-- SPDX-License-Identifier: MIT
--
-- list_spec.lua - ordered reading: list page by page, pairs, keys, count, get_all.

local helper = require "helper"

local fails, raises, returns = helper.fails, helper.raises, helper.returns

describe("listing", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("list")
    end)

    local function names(page)
      local out = {}
      for i, key in ipairs(page.keys) do out[i] = key.name end
      return out
    end

    -- All pages, one after the other; checks what every page promises.
    local function pages(opts, handle)
      local all, count, cursor = {}, 0, nil
      repeat
        local o = { cursor = cursor }
        for k, v in pairs(opts) do o[k] = v end
        local page = assert((handle or ns):list(o))
        count = count + 1
        if page.list_complete then
          assert.is_nil(page.cursor)
        else
          assert.is_string(page.cursor)
          assert.truthy(page.cursor:match("^[%w%-_=.~]+$"), "not printable: " .. page.cursor)
          assert.equal(opts.limit, #page.keys)
        end
        for _, name in ipairs(names(page)) do all[#all + 1] = name end
        cursor = page.cursor
      until not cursor
      return all, count
    end

    local function fill(n, prefix)
      local expected = {}
      for i = 1, n do
        expected[i] = ("%s%04d"):format(prefix or "", i)
        ns:put(expected[i], i)
      end
      return expected
    end

    local function reversed(t)
      local out = {}
      for i = #t, 1, -1 do out[#out + 1] = t[i] end
      return out
    end

    describe("list", function()
      it("of nothing is complete", function()
        assert.same({ keys = {}, list_complete = true }, ns:list())
        assert.same({ keys = {}, list_complete = true }, ns:list {})
        assert.same({ keys = {}, list_complete = true }, ns:list { prefix = "a", reverse = true })
      end)

      it("is in byte order, whatever the bytes", function()
        local keys = { "\0", "\0\0", "\0\1", "A", "B", "a", "a\0", "a\0b", "aa", "ab", "b", "z",
          "\127", "\128", "\194\128", "\255", "\255\0", "\255\255" }
        local shuffled = { 7, 1, 13, 18, 3, 9, 15, 5, 11, 17, 2, 8, 14, 4, 10, 16, 6, 12 }
        for _, i in ipairs(shuffled) do ns:put(keys[i], i) end
        assert.same(keys, names(ns:list()))
        assert.same(reversed(keys), names(ns:list { reverse = true }))
      end)

      it("has 1,000 keys by default", function()
        fill(1001)
        local page = ns:list()
        assert.equal(1000, #page.keys)
        assert.is_false(page.list_complete)
        page = ns:list { cursor = page.cursor }
        assert.same({ "1001" }, names(page))
        assert.is_true(page.list_complete)
        ns:delete("1001")
        assert.is_true(ns:list().list_complete)
      end)

      it("is complete exactly when nothing matched beyond the page", function()
        fill(10)
        assert.is_true(ns:list({ limit = 10 }).list_complete)
        assert.is_false(ns:list({ limit = 9 }).list_complete)
        assert.is_true(ns:list({ limit = 11 }).list_complete)
        assert.is_true(ns:list({ limit = 3, stop = "0004" }).list_complete)
        assert.is_false(ns:list({ limit = 3, stop = "0005" }).list_complete)
      end)

      it("goes page by page, either way", function()
        local expected = fill(100)
        for _, limit in ipairs { 1, 3, 10, 33, 99, 100, 101 } do
          local all, count = pages { limit = limit }
          assert.same(expected, all)
          assert.equal(math.ceil(100 / limit), count)
          assert.same(reversed(expected), (pages { limit = limit, reverse = true }))
        end
      end)

      it("gives names, expirations and metadata", function()
        local at = os.time() + 5000
        ns:put("a", 1)
        ns:put("b", 2, { expiration = at })
        ns:put("c", 3, { metadata = { m = { 1 } } })
        assert.same({ { name = "a" }, { name = "b", expiration = at },
          { name = "c", metadata = { m = { 1 } } } }, ns:list().keys)
      end)

      it("sees the first expiration or metadata of a namespace, whoever gave it", function()
        local details = { ttl = 5000, metadata = { m = 1 } }
        local ways = {
          function() ns:put("key50", 1, { ttl = 5000 }) end,
          function() ns:put("key50", 1, { metadata = { m = 1 } }) end,
          function() ns:expire("key50", 5000) end,
          function() ns:swap("key50", 1, details) end,
          function() ns:incr("new", 1, { ttl = 5000 }) end,
          function() ns:put_many({ key50 = 1 }, details) end,
          function() ns:put_many { { key = "key50", value = 1, metadata = { m = 1 } } } end,
          function() ns:json_set("new", "a", 1, { ttl = 5000 }) end,
        }
        for i, way in ipairs(ways) do
          local other = store:namespace("ways" .. i)
          for k = 1, 100 do other:put("key" .. k, k) end
          assert.equal(100, #other:list().keys)
          ns = other
          way()
          if i % 2 == 0 then
            store = new.again(store)
            ns = store:namespace("ways" .. i)
          end
          local detailed = 0
          for _, key in ipairs(ns:list().keys) do
            if key.expiration or key.metadata then
              detailed = detailed + 1
              assert.truthy(key.name == "key50" or key.name == "new", i)
            end
          end
          assert.equal(1, detailed)
        end
      end)

      it("gives values when asked", function()
        local values = { a = "text", b = 12, c = { x = { 1, 2 } }, d = false, e = "" }
        for k, v in pairs(values) do ns:put(k, v) end
        local got = {}
        for _, key in ipairs(ns:list({ values = true }).keys) do got[key.name] = key.value end
        assert.same(values, got)
        assert.is_nil(ns:list().keys[1].value)
        assert.is_nil(ns:list({ values = false }).keys[1].value)
      end)

      it("ends a page with values at 16 MiB", function()
        local value = ("x"):rep(3 * 1024 * 1024)
        for i = 1, 8 do ns:put("k" .. i, value) end
        local page = ns:list { values = true }
        assert.equal(5, #page.keys)
        assert.is_false(page.list_complete)
        page = ns:list { values = true, cursor = page.cursor }
        assert.same({ "k6", "k7", "k8" }, names(page))
        assert.is_true(page.list_complete)
        assert.equal(8, #ns:list().keys)
        ns:put("k0", ("x"):rep(20 * 1024 * 1024))
        page = ns:list { values = true }
        assert.same({ "k0" }, names(page))
        assert.is_false(page.list_complete)
      end)

      it("by prefix", function()
        for _, k in ipairs { "a", "user", "user:", "user:1", "user:2", "user;", "v", "\255",
          "\255\255", "\255\255a" } do
          ns:put(k, 1)
        end
        assert.same({ "user:", "user:1", "user:2" }, names(ns:list { prefix = "user:" }))
        assert.same({ "user:2", "user:1", "user:" },
          names(ns:list { prefix = "user:", reverse = true }))
        assert.same({ "\255", "\255\255", "\255\255a" }, names(ns:list { prefix = "\255" }))
        assert.same({ "\255\255a", "\255\255" },
          names(ns:list { prefix = "\255\255", reverse = true }))
        assert.equal(10, #ns:list({ prefix = "" }).keys)
        assert.same({}, names(ns:list { prefix = "nothing" }))
        assert.same({}, names(ns:list { prefix = ("u"):rep(600) }))
      end)

      it("start <= name < stop, in both directions", function()
        fill(20)
        local expected = { "0005", "0006", "0007" }
        assert.same(expected, names(ns:list { start = "0005", stop = "0008" }))
        assert.same(reversed(expected),
          names(ns:list { start = "0005", stop = "0008", reverse = true }))
        assert.same({ "0019", "0020" }, names(ns:list { start = "0019" }))
        assert.same({ "0001", "0002" }, names(ns:list { stop = "0003" }))
        assert.same({}, names(ns:list { start = "0008", stop = "0008" }))
        assert.same({}, names(ns:list { start = "0009", stop = "0005" }))
        assert.same({ "0010", "0011", "0012" },
          names(ns:list { prefix = "001", stop = "0013" }))
        assert.same({}, names(ns:list { prefix = "001", start = "002" }))
        assert.same({ "0020" }, names(ns:list { start = "0019\0", stop = ("9"):rep(600) }))
        assert.equal(20, #ns:list({ start = "", stop = "\255" }).keys)
        assert.same({}, names(ns:list { stop = "" }))
        assert.same({ "0005", "0006" }, (pages { start = "0005", stop = "0007", limit = 1 }))
        assert.same({ "0006", "0005" },
          (pages { start = "0005", stop = "0007", limit = 1, reverse = true }))
      end)

      it("does not see other namespaces", function()
        ns:put("mine", 1)
        store:namespace("lis"):put("t", 1)
        store:namespace("list2"):put("theirs", 1)
        assert.same({ "mine" }, names(ns:list()))
      end)

      it("raises for what is no option value", function()
        for _, limit in ipairs { 0, -1, 0.5, "10", true, 0 / 0, math.huge } do
          raises("'limit'", ns.list, ns, { limit = limit })
        end
        assert.equal(0, #ns:list({ limit = 10.0 }).keys)
        for _, name in ipairs { "prefix", "start", "stop", "cursor" } do
          raises("'" .. name .. "'", ns.list, ns, { [name] = 1 })
          raises("'" .. name .. "'", ns.list, ns, { [name] = true })
        end
        for _, name in ipairs { "reverse", "values" } do
          raises("'" .. name .. "'", ns.list, ns, { [name] = 1 })
        end
      end)
    end)

    describe("a cursor", function()
      it("resumes after a key that is gone", function()
        fill(10)
        local page = ns:list { limit = 5 }
        ns:delete("0005")
        ns:delete("0006")
        assert.same({ "0007", "0008", "0009", "0010" }, names(ns:list { cursor = page.cursor }))
        page = ns:list { limit = 2, reverse = true }
        ns:delete("0009")
        assert.same({ "0008", "0007", "0004", "0003", "0002", "0001" },
          names(ns:list { cursor = page.cursor, reverse = true }))
      end)

      it("sees what was written behind it and not what was written before it", function()
        fill(4)
        local page = ns:list { limit = 2 }
        ns:put("0001x", 1)
        ns:put("0002x", 1)
        assert.same({ "0002x", "0003", "0004" }, names(ns:list { cursor = page.cursor }))
      end)

      it("works later, with another handle and another limit", function()
        local expected = fill(10)
        local cursor = ns:list({ limit = 4 }).cursor
        store = new.again(store)
        local other = store:namespace("list")
        local page = other:list { limit = 3, cursor = cursor }
        assert.same({ expected[5], expected[6], expected[7] }, names(page))
        assert.same({ "0005" }, names(other:list { limit = 1, cursor = cursor }))
      end)

      it("of the longest key works", function()
        local long = ("\255"):rep(511)
        for i = 1, 3 do ns:put(long .. string.char(i), i) end
        local page = ns:list { limit = 1, prefix = long }
        assert.equal(long .. "\1", page.keys[1].name)
        assert.same({ long .. "\2", long .. "\3" },
          names(ns:list { cursor = page.cursor, prefix = long }))
        assert.same({ long .. "\2", long .. "\3" }, (pages { limit = 1, start = long .. "\1x" }))
        assert.same({ long .. "\1", long .. "\2" }, (pages { limit = 1, stop = long .. "\2x" }))
        assert.same({ long .. "\3", long .. "\2" },
          (pages { limit = 1, start = long .. "\1x", reverse = true }))
        ns:put(long .. "\255", 1)
        assert.is_true(ns:list({ limit = 4 }).list_complete)
        assert.same({}, names(ns:list { start = long .. "\255x" }))
      end)

      it("is bad_cursor when forged", function()
        fill(10)
        local cursor = ns:list({ limit = 5 }).cursor
        local forged = { "", "x", "0005", ("A"):rep(1000), cursor .. "A", cursor:sub(1, -2),
          cursor:sub(2), cursor .. cursor, "\0\255", cursor:reverse() }
        for i = 1, #cursor do
          local c = cursor:sub(i, i)
          c = c == "A" and "B" or "A"
          forged[#forged + 1] = cursor:sub(1, i - 1) .. c .. cursor:sub(i + 1)
        end
        for _, text in ipairs(forged) do
          if text ~= cursor then
            fails("bad_cursor", ns:list { cursor = text })
            fails("bad_cursor", ns:keys { cursor = text })
            fails("bad_cursor", ns:count { cursor = text })
            fails("bad_cursor", ns:get_all { cursor = text })
            raises("bad_cursor", ns.pairs, ns, { cursor = text })
          end
        end
        assert.equal(5, #ns:list({ cursor = cursor }).keys)
      end)

      it("is bad_cursor in another namespace, prefix or direction", function()
        fill(10, "a")
        local cursor = ns:list({ limit = 5 }).cursor
        local other = store:namespace("other")
        other:put("a0001", 1)
        other:put("a0009", 1)
        fails("bad_cursor", other:list { cursor = cursor })
        fails("bad_cursor", ns:list { cursor = cursor, prefix = "a" })
        fails("bad_cursor", ns:list { cursor = cursor, reverse = true })
        local with_prefix = ns:list({ limit = 5, prefix = "a" }).cursor
        fails("bad_cursor", ns:list { cursor = with_prefix })
        fails("bad_cursor", ns:list { cursor = with_prefix, prefix = "a0" })
        local back = ns:list({ limit = 5, reverse = true }).cursor
        fails("bad_cursor", ns:list { cursor = back })
        local elsewhere = new():namespace("list")
        elsewhere:put("a0009", 1)
        fails("bad_cursor", elsewhere:list { cursor = cursor })
      end)
    end)

    describe("pairs", function()
      it("walks keys and values in order", function()
        local expected = fill(50)
        local seen = {}
        for key, value in ns:pairs() do
          seen[#seen + 1] = key
          assert.equal(#seen, value)
        end
        assert.same(expected, seen)
        for key in ns:pairs { reverse = true, limit = 1 } do assert.equal("0050", key) end
      end)

      it("takes prefix, range, limit and direction", function()
        fill(20, "a")
        fill(20, "b")
        local function walk(opts)
          local out = {}
          for key in ns:pairs(opts) do out[#out + 1] = key end
          return out
        end
        assert.same({ "b0001", "b0002" }, walk { prefix = "b", limit = 2 })
        assert.same({ "a0020", "a0019" }, walk { prefix = "a", limit = 2, reverse = true })
        assert.same({ "a0019", "a0020", "b0001" }, walk { start = "a0019", stop = "b0002" })
        assert.same({}, walk { prefix = "c" })
      end)

      it("is one closure, with no state to tamper with", function()
        fill(3)
        assert.equal(1, select("#", ns:pairs()))
        local step = ns:pairs()
        assert.equal("function", type(step))
        assert.equal("0001", (step(print, {})))
        assert.equal("0002", (step(nil, "0009")))
        assert.equal("0003", (step()))
        assert.is_nil((step()))
        assert.is_nil((step()))
      end)

      it("allows writes inside the loop", function()
        fill(100)
        local seen = 0
        for key, value in ns:pairs() do
          seen = seen + 1
          assert(ns:put(key, value + 1000))
          if value % 2 == 0 then ns:delete(key) end
          ns:put("z" .. key, 1, { ttl = 1000 })
          if seen == 500 then break end
        end
        assert(seen >= 100 and seen <= 500)
        assert.equal(50, ns:count { prefix = "0" })
        assert.equal(1001, ns:get("0001"))
        for key in ns:pairs() do ns:delete(key) end
        assert.equal(0, ns:count())
      end)

      it("meets a key that is there throughout exactly once", function()
        fill(500)
        local seen = {}
        for key in ns:pairs { prefix = "0" } do
          seen[key] = (seen[key] or 0) + 1
          for i = 1, 3 do ns:put(("1%s%d"):format(key, i), 1) end
          ns:delete(("1%s1"):format(key))
        end
        for i = 1, 500 do assert.equal(1, seen[("%04d"):format(i)]) end
      end)

      it("may be walked several at a time", function()
        local expected = fill(30)
        local a, b, seen = ns:pairs(), ns:pairs { reverse = true }, {}
        for i = 1, 30 do
          local k, v = a()
          local back, w = b()
          seen[i] = k
          assert.equal(i, v)
          assert.equal(expected[31 - i], back)
          assert.equal(31 - i, w)
        end
        assert.same(expected, seen)
      end)

      it("goes on when nothing else refers to store and namespace", function()
        local function walk()
          local hidden = new()
          local inner = hidden:namespace("x")
          for i = 1, 10 do inner:put("k" .. i, i) end
          return inner:pairs()
        end
        local step, n = walk(), 0
        while step() do
          n = n + 1
          collectgarbage()
        end
        assert.equal(10, n)
      end)

      it("raises for a prefix without a table, with the hint", function()
        raises({ "'options'", "{prefix" }, ns.pairs, ns, "user:")
        raises({ "'options'", "{prefix" }, ns.list, ns, "user:")
        raises({ "'options'", "{prefix" }, ns.keys, ns, "user:")
        raises({ "'options'", "{prefix" }, ns.count, ns, "user:")
      end)

      it("raises when the store is closed in the loop", function()
        fill(3)
        local step = ns:pairs()
        step()
        store:close()
        raises("closed", step)
      end)
    end)

    describe("keys, count and get_all", function()
      it("say the same as list", function()
        local expected = fill(1500)
        assert.same(expected, ns:keys())
        assert.equal(1500, ns:count())
        local all = ns:get_all()
        for i, k in ipairs(expected) do assert.equal(i, all[k]) end
        assert.same({ "1491", "1492" }, ns:keys { prefix = "149", start = "1491", limit = 2 })
        assert.same({ "1500", "1499" }, ns:keys { limit = 2, reverse = true })
        assert.equal(100, ns:count { prefix = "10" })
        assert.equal(7, ns:count { limit = 7 })
        assert.equal(1, ns:count { start = "1500" })
        assert.equal(0, ns:count { prefix = "x" })
        assert.same({ ["0007"] = 7, ["0008"] = 8 }, ns:get_all { start = "0007", stop = "0009" })
      end)

      it("of nothing are empty", function()
        returns({}, ns:keys())
        returns(0, ns:count())
        returns({}, ns:get_all())
      end)

      it("take a cursor of list", function()
        fill(10)
        local cursor = ns:list({ limit = 7 }).cursor
        assert.same({ "0008", "0009", "0010" }, ns:keys { cursor = cursor })
        assert.equal(3, ns:count { cursor = cursor })
        assert.same({ ["0008"] = 8, ["0009"] = 9, ["0010"] = 10 }, ns:get_all { cursor = cursor })
        local seen = {}
        for key in ns:pairs { cursor = cursor } do seen[#seen + 1] = key end
        assert.same({ "0008", "0009", "0010" }, seen)
      end)

      it("return what was put", function()
        local values = { a = "text", b = 1.5, c = { 1, 2 }, d = true, e = ("x"):rep(10000) }
        ns:put_many(values)
        assert.same(values, ns:get_all())
      end)
    end)

    it("stays right through a thousand splits and merges", function()
      local model, order = {}, {}
      local n, step = 1500, 7919
      for i = 1, n do
        local key = ("%d"):format(i * step % 100003)
        model[key] = i
        ns:put(key, i)
      end
      for i = 1, n, 3 do
        local key = ("%d"):format(i * step % 100003)
        model[key] = nil
        ns:delete(key)
      end
      for key in pairs(model) do order[#order + 1] = key end
      table.sort(order)
      assert.same(order, ns:keys())
      assert.same(order, (pages { limit = 97 }))
      assert.same(reversed(order), (pages { limit = 101, reverse = true }))
      assert.equal(#order, ns:count())
      assert.is_true(store:check())
    end)
  end)
end)
