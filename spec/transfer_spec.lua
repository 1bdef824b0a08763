-- SPDX-License-Identifier: MIT
--
-- import and export: what one writes the other reads back, in every form, from everywhere; and what
-- is said of files that are wrong.

-- luacheck: ignore 631 -- texts and what is said of them stand in one line

local helper = require "helper"
local kv = require "kv"

local fails, raises, returns = helper.fails, helper.raises, helper.returns

-- A source of the text in pieces of n bytes (all at once).
local function source(text, n)
  local at = 1
  n = n or #text
  return function()
    if at > #text then return nil end
    at = at + n
    return text:sub(at - n, at - 1)
  end
end

local function text_of(ns, opts)
  local parts = {}
  local count = assert(ns:export(function(chunk)
    parts[#parts + 1] = chunk
    return 1
  end, opts))
  return table.concat(parts), count
end

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function list(dir)
  local names = {}
  local pipe = io.popen("ls -A " .. helper.quote(dir))
  for name in pipe:lines() do names[#names + 1] = name end
  pipe:close()
  return names
end

-- Everything that there is to know about a namespace but revisions and times.
local function image(ns)
  local all = {}
  for _, key in ipairs(ns:keys()) do
    local entry = ns:entry(key)
    all[#all + 1] = { key, ns:get(key, "text"), type(entry.value),
      helper.kind(entry.value), kv.encode(entry.metadata or {}), entry.expiration }
  end
  return all
end

local function values(ns)
  return ns:get_all()
end

describe("import and export", function()
  helper.each_store(function(new)
    local store, ns, other

    before_each(function()
      store = new { max_value = 1024 * 1024 }
      ns, other = store:namespace "a", store:namespace "b"
    end)

    local function whole()
      assert.is_true(store:check())
    end

    -- One of everything.
    local function fill()
      ns:put("string", "text with \"quotes\", \\ and \n\r\t\1 in it")
      ns:put("empty", "")
      ns:put("utf8", "Grüße, 世界 \240\159\152\128")
      ns:put("bytes", "\0\1\2\254\255")
      ns:put("cut utf8", "Gr\195")
      ns:put("\0key\255", "binary key", { metadata = { a = 1 } })
      ns:put("ключ", 1)
      ns:put("true", true)
      ns:put("false", false)
      ns:put("null", kv.null)
      ns:put("0", 0)
      ns:put("-7", -7)
      ns:put("0.1", 0.1)
      ns:put("1e300", 1e300)
      ns:put("-2.5e-8", -2.5e-8)
      ns:put("array", kv.array {})
      ns:put("object", {})
      ns:put("document", { a = { b = kv.array { 1, "x", kv.null, { c = true } } }, ["ü"] = "ß" })
      ns:put("raw", '{"z": 1.50,"a":[ ],"z":2}', { as = "json" })
      ns:put("lines", ' {\n  "a": 1\r\n}\n', { as = "json" })
      ns:put("spaces", " 1", { as = "json" })
      ns:put("a string document", '"\\u00e9"', { as = "json" })
      ns:put("a number document", "1.0", { as = "json" })
      ns:put("deep", ("["):rep(128) .. ("]"):rep(128), { as = "json" })
      ns:put("big", ("0123456789\255"):rep(60000))
      ns:put("big text", ("Zeile\n"):rep(100000))
      ns:put("ttl", 1, { ttl = 1000.125 })
      ns:put("expiration", 1, { expiration = os.time() + 5000 + 0.001, metadata = { who = "Ada", n = 1.5 } })
      ns:put("metadata {}", 1, { metadata = {} })
      ns:put("metadata []", 1, { metadata = kv.array {} })
      ns:put("metadata array", 1, { metadata = { "a", { 1, kv.null } } })
      for i, text in ipairs { "9223372036854775807", "-9223372036854775808", "9007199254740993" } do
        ns:put("large" .. i, text, { as = "json" })
        if helper.integers then ns:put("integer" .. i, math.tointeger(text)) end
      end
      ns:put("float", helper.integers and 3.0 or 3.5)
      return ns:count()
    end

    it("give back everything, as it was", function()
      local count = fill()
      local text, exported = text_of(ns)
      assert.equal(count, exported)
      for _, n in ipairs { #text, 100000, 1000 } do
        other:clear()
        returns(count, other:import(source(text, n)))
        assert.same(image(ns), image(other))
        assert(text_of(other) == text)
      end
      whole()
    end)

    it("read a text that comes byte by byte", function()
      ns:put_many { a = "\240\159\152\128\n", b = { 1, 2.5, { "x" } }, c = "\255" }
      local text = text_of(ns)
      returns(3, other:import(source(text, 1)))
      assert.same(image(ns), image(other))
      local flat = '{"a":"\\ud83d\\ude00","b":[1,2.5,["x"]],"c":12345}'
      other:clear()
      returns(3, other:import(source(flat, 1)))
      assert.same({ a = "\240\159\152\128", b = { 1, 2.5, { "x" } }, c = 12345 }, values(other))
    end)

    it("write a record a line", function()
      ns:put("k", "v", { metadata = { m = 1 }, expiration = 4102444800.25 })
      ns:put("l", { 1 })
      ns:put("m", "\255")
      assert.equal('{"key":"k","type":"string","value":"v","metadata":{"m":1},"expiration":4102444800.250}\n'
        .. '{"key":"l","type":"json","value":[1]}\n'
        .. '{"key":"m","type":"string","value":"/w==","base64":true}\n', (text_of(ns)))
    end)

    it("know Lux's flat form", function()
      ns:put("user:1", { name = "Alice" })
      ns:put("n", 5)
      ns:put("s", 'a "string"', { ttl = 100, metadata = { x = 1 } })
      ns:put("t", true)
      ns:put("z", kv.null)
      local text, count = text_of(ns, { format = "json" })
      assert.equal(5, count)
      assert.equal('{\n"n":5,\n"s":"a \\"string\\"",\n"t":true,\n"user:1":{"name":"Alice"},\n"z":null\n}\n', text)
      assert.is_table(kv.decode(text))
      returns(5, other:import(source(text)))
      assert.same(values(ns), values(other))
      assert.equal("{}\n", (text_of(store:namespace "none", { format = "json" })))
      returns(2, other:import(source [[
        {
          "user:1": {"name": "Alice", "theme": "dark"},
          "user:2": {
            "name": "Bob"
          }
        }
      ]]))
      assert.same({ name = "Alice", theme = "dark" }, other:get "user:1")
      assert.equal('{"name":"Bob"}', other:get("user:2", "text"))
    end)

    it("refuse in the flat form what is not UTF-8, naming the key", function()
      ns:put("fine", 1)
      ns:put("odd", "\255")
      local result, message, code = ns:export(function() end, { format = "json" })
      assert.same({ nil, "unsupported" }, { result, code })
      assert.matches("value of 'odd'", message)
      ns:delete "odd"
      ns:put("odd\255", 1)
      result, message, code = ns:export(function() end, { format = "json" })
      assert.same({ nil, "unsupported" }, { result, code })
      assert.matches("key of 'odd\\xff'", message)
    end)

    it("keep flat values as text with values = text", function()
      returns(4, other:import(source '{"a": {"x": [1, 2]}, "b": "s\\n", "c": 1.50, "d": null}', { values = "text" }))
      assert.same({ a = '{"x": [1, 2]}', b = '"s\\n"', c = "1.50", d = "null" }, values(other))
    end)

    it("read wrangler's list", function()
      local now = os.time()
      returns(6, other:import(source(([[
        [ { "key": "a", "value": "plain" },
          { "key": "b", "value": "aGVsbG8=", "base64": true },
          { "key": "c", "value": "{\"x\":1}", "expiration": %d, "metadata": { "m": [ 1 ] } },
          { "value": "ttl", "key": "d", "expiration_ttl": 60, "expiration": 1 , "base64" : false },
          { "key": "gone", "value": "x", "expiration": 1000 },
          { "key": "e", "value": { "not": "a string" }, "metadata": null, "expiration": null },
          {"key":"f","value":""}]
      ]]):format(now + 100))))
      assert.same({ a = "plain", b = "hello", c = '{"x":1}', d = "ttl", e = { ["not"] = "a string" }, f = "" },
        values(other))
      assert.equal(now + 100, other:entry("c").expiration)
      assert.same({ m = { 1 } }, other:entry("c").metadata)
      assert.is_true(other:ttl "d" > 58 and other:ttl "d" <= 60)
    end)

    it("read numbers for what they are", function()
      returns(7, other:import(source [[
        {"a":9223372036854775807,"b":-9223372036854775808,"c":1.0,"d":-0.0,"e":1e2,"f":9223372036854775808,"g":7}
      ]]))
      assert.equal("9223372036854775807", other:get("a", "text"))
      assert.equal("-9223372036854775808", other:get("b", "text"))
      assert.equal("1.0", other:get("c", "text"))
      assert.equal("-0.0", other:get("d", "text"))
      assert.equal(9223372036854775808, other:get "f")
      assert.equal(helper.kind(7), helper.kind(other:get "g"))
      returns(2, other:import(source '{"key":"h","type":"number","value":5}\n{"key":"i","type":"integer","value":5}'))
      assert.equal("5.0", other:get("h", "text"))
      assert.equal("5", other:get("i", "text"))
    end)

    describe("tell the form", function()
      for _, case in ipairs {
        { "", 0 }, { " \n\t\r\n", 0 }, { "{}", 0 }, { " { } ", 0 }, { "[]", 0 }, { "[ ]\n", 0 },
        { '\239\187\191{"a":1}', 1 }, { '\239\187\191', 0 },
        { '{"key":"k"}', 1, "key" }, { '{"key":"k","other":1}', 2, "key" }, { '{"value":1}', 1, "value" },
        { '{"key":5,"value":1}', 2, "key" }, { '{"key":"k","value":1}', 1, "k" },
        { '{"value":1,"key":"k"}', 1, "k" }, { '{"key":"k","value":1}\r\n\r\n{"key":"l","value":1}\r\n', 2, "l" },
        { '\n\n{"key":"k","value":1}\n\n', 1, "k" }, { '{"type":"x","key":"k"}', 2, "type" },
        { '[{"key":"k","value":1}]', 1, "k" }, { '{\n"key":"k","value":1\n}', 2, "value" },
        { '{"key":"k",\n"value":1}', 2, "value" }, { '{"key":"k","value":[\n]}', 2, "value" },
      } do
        it(("of %q"):format(case[1]), function()
          local count, message = other:import(source(case[1]))
          assert.equal(case[2], count, message)
          if case[3] then assert.is_true(other:exists(case[3])) end
        end)
      end

      it("of an object whose keys are named like the members of a record, as it was exported", function()
        for _, value in ipairs { { key = "k", value = 1 }, { key = "k", text = "x", metadata = {} } } do
          ns:clear()
          other:clear()
          ns:put_many(value)
          local count = ns:count()
          returns(count, other:import(source((text_of(ns, { format = "json" })))))
          assert.same(values(ns), values(other))
        end
      end)

      it("as asked for", function()
        returns(2, other:import(source '{"key":"k","value":1}', { format = "json" }))
        assert.equal("k", other:get "key")
        returns(1, other:import(source '[{"key":"k","value":1}]', { format = "json" }))
        fails("unsupported", other:import(source '{"a":1}', { format = "ndjson" }))
      end)
    end)

    describe("say where the mistake is", function()
      -- text, code, words of the message, records written
      local good = '{"key":"a","value":1}\n'
      local cases = {
        { good .. "garbage\n" .. good, "not_json", "line 2: not JSON", 1 },
        { good .. '\n\n{"key":"b","value":1}\n{', "not_json", "line 5: not JSON: unexpected end", 2 },
        { good .. '{"key":"b","value":1', "not_json", "line 2: not JSON: unexpected end", 1 },
        { good .. '{"key":"b","value":"x', "not_json", "line 2: not JSON: unexpected end", 1 },
        { good .. '{"key":"b","value":1}}\n', "not_json", "line 2: not JSON: something follows", 1 },
        { good .. '{"key":"b","value":"\0"}\n', "not_json", "line 2: not JSON: control character", 1 },
        { good .. '{"key":"b","value":"\255"}\n', "not_json", "line 2: not JSON: string is not UTF%-8", 1 },
        { good .. '{"key":"b","value":1e999}\n', "not_json", "line 2: not JSON: number too large", 1 },
        { good .. '{"key":"b","value":' .. ("["):rep(129) .. ("]"):rep(129) .. "}\n", "too_deep", "line 2", 1 },
        { good .. "5\n", "not_an_object", "line 2: a record is an object", 1 },
        { good .. "[1]\n", "not_an_object", "line 2", 1 },
        { good .. '{"value":1}\n', "unsupported", "line 2: the record has no key", 1 },
        { good .. "{}\n", "unsupported", "line 2: the record has no key", 1 },
        { good .. '{"key":"b"}\n', "unsupported", "line 2: the record has no value", 1 },
        { good .. '{"key":5,"value":1}\n', "not_a_string", "line 2: the key is not a string", 1 },
        { good .. '{"key":"","value":1}\n', "unsupported", "line 2: the key is empty", 1 },
        { good .. '{"key":"b","value":1,"key":"c"}\n', "unsupported", "line 2: a second member 'key'", 1 },
        { good .. '{"key":"b","value":1,"expirationTtl":5}\n', "unsupported",
          "line 2: unknown member 'expirationTtl'", 1 },
        { good .. '{"key":"b","value":1,"text":"1"}\n', "unsupported", "two values", 1 },
        { good .. '{"key":"b","type":"json","text":"{"}\n', "not_json", "text is not JSON", 1 },
        { good .. '{"key":"b","type":"string","text":"1"}\n', "unsupported", "text is for", 1 },
        { good .. '{"key":"b","type":"odd","value":1}\n', "unsupported", "line 2: type", 1 },
        { good .. '{"key":"b","type":"string","value":1}\n', "not_a_string", "'string'", 1 },
        { good .. '{"key":"b","type":"integer","value":1.5}\n', "not_a_number", "integer", 1 },
        { good .. '{"key":"b","type":"number","value":"1"}\n', "not_a_number", "'number'", 1 },
        { good .. '{"key":"b","type":"boolean","value":1}\n', "not_a_boolean", "'boolean'", 1 },
        { good .. '{"key":"b","value":"a=b","base64":true}\n', "unsupported", "base64", 1 },
        { good .. '{"key":"b","value":"abcde","base64":true}\n', "unsupported", "base64", 1 },
        { good .. '{"key":"b","value":1,"base64":true}\n', "not_a_string", "base64", 1 },
        { good .. '{"key":"b","value":"aaaa","base64":1}\n', "not_a_boolean", "base64", 1 },
        { good .. '{"key":"b","value":1,"metadata":"m"}\n', "not_an_object", "metadata", 1 },
        { good .. '{"key":"b","value":1,"metadata":{"a":"' .. ("x"):rep(1024) .. '"}}\n', "too_big", "metadata", 1 },
        { good .. '{"key":"b","value":1,"expiration":"x"}\n', "not_a_number", "expiration", 1 },
        { good .. '{"key":"b","value":1,"expiration":1e12}\n', "out_of_range", "expiration", 1 },
        { good .. '{"key":"b","value":1,"expiration_ttl":-1}\n', "out_of_range", "expiration_ttl", 1 },
        { good .. '{"key":"' .. ("k"):rep(513) .. '","value":1}\n', "too_big", "line 2: a key has at most", 1 },
        { good .. '{"key":"b","value":"' .. ("x"):rep(1048577) .. '"}\n' .. good, "too_big", "line 2: a value has at most", 1 },
        { '{"a":1,\n"b":2,\n"c":nope}', "not_json", "line 3: not JSON: .* at byte 21 ", 2 },
        { '{"a":1,\n"b":2\n"c":3}', "not_json", "line 3: not JSON: unexpected character at byte 15", 2 },
        { '{"a":1,"b":2', "not_json", "unexpected end", 2 },
        { '{"a":1,"b":2,', "not_json", "unexpected end", 2 },
        { '{"a":1,"b":', "not_json", "unexpected end", 1 },
        { '{"a":1,"b":12', "not_json", "unexpected end", 2 },
        { '{"a":1}{"b":1}', "not_json", "something follows", 1 },
        { '{"a":1,}', "not_json", "unexpected character", 1 },
        { '{,"a":1}', "not_json", "unexpected character", 0 },
        { '{"a" 1}', "not_json", "unexpected character", 0 },
        { '{"a":1,"":2}', "unsupported", "the key is empty", 1 },
        { '{"a":1,"b":"\0"}', "not_json", "control character", 1 },
        { '[{"key":"a","value":1},\n{"key":"b"}]', "unsupported", "line 2: the record has no value %(record 2%)", 1 },
        { '[{"key":"a","value":1},\n5]', "not_an_object", "line 2: a record is an object", 1 },
        { '[{"key":"a","value":1} {"key":"b","value":1}]', "not_json", "unexpected character", 1 },
        { '[{"key":"a","value":1},', "not_json", "unexpected end", 1 },
        { "nonsense", "not_json", "line 1: not JSON", 0 },
        { "5", "not_an_object", "line 1: a record is an object", 0 },
        { ("\0"):rep(5000), "not_json", "line 1: not JSON", 0 },
        { ("\0"):rep(3000000), "not_json", "line 1: not JSON", 0 },
        { '"' .. ("x"):rep(8 * 1024 * 1024), "too_big", "line 1", 0 },
        { '{"a":"' .. ("x"):rep(8 * 1024 * 1024), "too_big", "line 1", 0 },
      }
      for i, case in ipairs(cases) do
        it(("number %d, %q"):format(i, case[1]:sub(-40)), function()
          local result, message, code = other:import(source(case[1], 70000))
          assert.is_nil(result)
          assert.equal(case[2], code)
          assert.matches(case[3], message)
          assert.matches(("; %d written$"):format(case[4]), message)
          assert.equal(case[4], other:count())
          whole()
        end)
      end

      it("and take the last of two", function()
        returns(2, other:import(source '{"a":1,"a":2}'))
        returns(2, other:import(source '{"key":"b","value":1}\n{"key":"b","value":2}\n'))
        assert.same({ a = 2, b = 2 }, values(other))
      end)

      it("and go on if asked to", function()
        local lines = {}
        for i = 1, 3000 do lines[i] = ('{"key":"k%d","value":%d}'):format(i, i) end
        lines[1] = "no record"
        lines[1000] = '{"key":"x"}'
        lines[1500] = ('{"key":"x","value":"%s"}'):format(("x"):rep(1048577))
        lines[1501] = '{"key":"gone","value":1,"expiration":5}'
        lines[2999] = ""
        lines[3000] = '{"key":"y","value":1'
        local count, none, bad = other:import(source(table.concat(lines, "\n"), 70000), { continue_on_error = true })
        assert.equal(2994, count)
        assert.is_nil(none)
        assert.equal(2994, other:count())
        assert.equal(4, #bad)
        for i, expected in ipairs { { 1, "not_json" }, { 1000, "unsupported" }, { 1500, "too_big" }, { 3000, "not_json" } } do
          assert.same(expected, { bad[i].line, bad[i].code })
          assert.matches("^line " .. expected[1] .. ": ", bad[i].message)
        end
        assert.equal(2999, bad[4].record) -- an empty line is none
        whole()
        count, none, bad = other:import(source '[5,{"key":"a","value":1},{"key":"b"},{"key":"c","value":1}]',
          { continue_on_error = true })
        assert.same({ 2, nil, 2 }, { count, none, #bad })
        count, none, bad = other:import(source "{}", { continue_on_error = true })
        assert.same({ 0, nil, {} }, { count, none, bad })
        -- What cannot be passed over ends it.
        local result, message, code = other:import(source '{"a":1,"":2,"c"}', { continue_on_error = true })
        assert.same({ nil, "not_json" }, { result, code })
        assert.matches("1 written", message)
      end)

      it("and can be run again", function()
        local text = good .. '{"key":"b","value":2}\nbad\n{"key":"c","value":3}\n'
        fails("not_json", other:import(source(text)))
        returns(3, other:import(source((text:gsub("bad\n", "")))))
        assert.same({ a = 1, b = 2, c = 3 }, values(other))
      end)
    end)

    describe("of functions", function()
      it("that fail, pass the failure on", function()
        local n = 0
        local result, message, code = other:import(function()
          n = n + 1
          if n <= 3 then return ('{"key":"k%d","value":1}\n{"key":'):format(n):sub(1, n < 3 and 23 or -1) end
          return nil, "the line went dead"
        end)
        assert.same({ nil, "the line went dead; 3 written", "io" }, { result, message, code })
        assert.equal(3, other:count())
        local thrown = {}
        local ok, err = pcall(other.import, other, function() error(thrown) end)
        assert.is_false(ok)
        assert.equal(thrown, err)
        ns:put("a", 1)
        result, message, code = ns:export(function() return nil, "no more room", "full" end)
        assert.same({ nil, "no more room", "full" }, { result, message, code })
        ok, err = pcall(ns.export, ns, function() error(thrown) end)
        assert.is_false(ok)
        assert.equal(thrown, err)
        ok, err = pcall(other.import, other, function() return 5 end)
        assert.is_false(ok)
        assert.matches("'source'.*must return strings", err)
      end)

      it("get nil at the end, as LTN12 has it", function()
        ns:put("a", 1)
        local calls = {}
        returns(1, ns:export(function(chunk, err)
          calls[#calls + 1] = { chunk or "end", err }
          return 1
        end))
        assert.equal("end", calls[#calls][1])
        assert.equal(2, #calls)
        ns:put("b", "\255")
        calls = {}
        fails("unsupported", ns:export(function(chunk, err)
          calls[#calls + 1] = { chunk or "end", err }
          return 1
        end, { format = "json" }))
        assert.matches("UTF%-8", calls[#calls][2])
      end)

      it("may yield", function()
        fill()
        local text = text_of(ns)
        for _, space in ipairs { other, "bound" } do
          other:clear()
          local bound = other:bind()
          local co = coroutine.create(function()
            local from = function() return coroutine.yield "more" end
            if space == "bound" then return bound.import(from) end
            return other:import(from)
          end)
          local _, asked = assert(coroutine.resume(co))
          for chunk in source(text, 50000) do
            assert.equal("more", asked)
            _, asked = assert(coroutine.resume(co, chunk))
          end
          local ok, count = coroutine.resume(co, nil)
          assert.is_true(ok)
          assert.equal(ns:count(), count)
          assert.same(image(ns), image(other))
          local parts, result = {}, nil
          co = coroutine.create(function()
            local to = function(chunk) return coroutine.yield(chunk) end
            if space == "bound" then return bound.export(to) end
            return other:export(to)
          end)
          ok, result = coroutine.resume(co)
          while ok and coroutine.status(co) == "suspended" do
            parts[#parts + 1] = result
            ok, result = coroutine.resume(co, 1)
          end
          assert.is_true(ok)
          assert.equal(count, result)
          assert(table.concat(parts) == text)
        end
      end)
    end)

    describe("of files", function()
      local dir, path

      before_each(function()
        dir = helper.path(true):gsub("/store$", "")
        path = dir .. "/file.ndjson"
      end)

      it("by path or handle", function()
        local count = fill()
        returns(count, ns:export(path))
        returns(count, other:import(path))
        assert.same(image(ns), image(other))
        local file = assert(io.open(path, "rb"))
        other:clear()
        returns(count, other:import(file))
        file:close()
        local again = assert(io.open(dir .. "/again", "wb"))
        returns(count, other:export(again))
        assert.equal("file", io.type(again))
        again:close()
        assert(read_file(dir .. "/again") == read_file(path))
        assert.same({ "again", "file.ndjson" }, list(dir))
      end)

      it("whose name says json, are", function()
        ns:put("a", { 1 })
        returns(1, ns:export(dir .. "/x.json"))
        assert.equal('{\n"a":[1]\n}\n', read_file(dir .. "/x.json"))
        returns(1, ns:export(dir .. "/x.json", { format = "ndjson" }))
        assert.equal('{"key":"a","type":"json","value":[1]}\n', read_file(dir .. "/x.json"))
        returns(1, ns:export(path, { format = "json" }))
        assert.equal('{\n"a":[1]\n}\n', read_file(path))
      end)

      it("replace what was there only when they are complete, and keep its permissions", function()
        helper.write_file(path, "before")
        os.execute("chmod 640 " .. helper.quote(path))
        ns:put("a", "\255")
        fails("unsupported", ns:export(path, { format = "json" }))
        assert.equal("before", read_file(path))
        assert.same({ "file.ndjson" }, list(dir))
        returns(1, ns:export(path))
        assert.same({ "file.ndjson" }, list(dir))
        local pipe = io.popen("stat -c %a " .. helper.quote(path))
        assert.equal("640", pipe:read "*l")
        pipe:close()
        os.execute(("ln -s file.ndjson %s/link"):format(helper.quote(dir)))
        ns:put("b", 1)
        returns(2, ns:export(dir .. "/link"))
        local _, lines = read_file(path):gsub("\n", "")
        assert.equal(2, lines)
      end)

      it("that are devices and pipes are written to as they are", function()
        ns:put("a", 1)
        returns(1, ns:export("/dev/null"))
        local result, message, code = ns:export("/dev/full")
        assert.same({ nil, "full" }, { result, code })
        assert.matches("/dev/full", message)
        os.execute("mkfifo " .. helper.quote(dir .. "/pipe"))
        local reader = io.popen(("cat %s/pipe > %s/copy; echo done"):format(helper.quote(dir), helper.quote(dir)))
        returns(1, ns:export(dir .. "/pipe"))
        assert.equal("done", reader:read "*l")
        reader:close()
        assert.equal('{"key":"a","type":"integer","value":1}\n', read_file(dir .. "/copy"))
        assert.same({ "copy", "pipe" }, list(dir))
      end)

      it("that end early, in a pipe, keep what was whole", function()
        local pipe = io.popen [[printf '{"key":"a","value":1}\n{"key":"b","val']]
        local result, message, code = other:import(pipe)
        pipe:close()
        assert.same({ nil, "not_json" }, { result, code })
        assert.matches("line 2: not JSON: unexpected end .*; 1 written", message)
        assert.same({ a = 1 }, values(other))
      end)

      it("that cannot be read are named", function()
        local result, message, code = other:import(dir .. "/none")
        assert.same({ nil, "not_found" }, { result, code })
        assert.matches("none: No such file", message)
        result, message, code = other:import(dir)
        assert.same({ nil, "io" }, { result, code })
        assert.truthy(message:find(dir, 1, true))
        helper.write_file(path, "{\n  oops")
        result, message, code = other:import(path)
        assert.same({ nil, "not_json" }, { result, code })
        assert.truthy(message:find(path .. ": line 2: not JSON", 1, true) or
          message:find(path .. ": line 1: not JSON", 1, true), message)
      end)

      it("that cannot be written are named", function()
        fails("not_found", ns:export(dir .. "/none/x"))
        local result, message, code = ns:export(dir)
        assert.same({ nil, "io" }, { result, code })
        assert.matches("directory", message)
      end)
    end)

    it("stop when the store is full, with what fits written", function()
      store = new { max_size = 20000 }
      other = store:namespace "b"
      local lines = {}
      for i = 1, 2000 do lines[i] = ('{"key":"k%04d","value":"%s"}'):format(i, ("x"):rep(95)) end
      local result, message, code = other:import(source(table.concat(lines, "\n")), { continue_on_error = true })
      assert.same({ nil, "full" }, { result, code })
      assert.matches("line 201: .*; 200 written$", message)
      assert.equal(200, other:count())
      assert.is_true(other:exists "k0200")
      whole()
    end)

    it("take a part by prefix, start and stop", function()
      ns:put_many { a = 1, b1 = 2, b2 = 3, c = 4 }
      assert.equal(2, select(2, text_of(ns, { prefix = "b" })))
      assert.equal(3, select(2, text_of(ns, { start = "b1" })))
      assert.equal(1, select(2, text_of(ns, { start = "b2", stop = "c" })))
    end)

    it("leave out what expired", function()
      ns:put("a", 1, { ttl = 0.01 })
      ns:put("b", 1)
      local stop = os.clock() + 1
      while ns:exists "a" and os.clock() < stop do end -- luacheck: ignore 542
      assert.equal('{"key":"b","type":"integer","value":1}\n', (text_of(ns)))
    end)

    it("raise for a caller's mistakes", function()
      for _, name in ipairs { "import", "export" } do
        local f, what = ns[name], name == "import" and "'source'" or "'sink'"
        raises(what, f, ns)
        raises(what, f, ns, 5)
        raises(what, f, ns, {})
        raises(what, f, ns, "")
        raises(what, f, ns, "a\0b")
        raises({ "formt", "format" }, f, ns, print, { formt = "json" })
        raises("'format'", f, ns, print, { format = "xml" })
        raises("'options'", f, ns, print, "json")
        raises("use ns:" .. name, f, print)
      end
      raises("'values'", ns.import, ns, print, { values = "json" })
      raises("'continue_on_error'", ns.import, ns, print, { continue_on_error = 1 })
      raises("'prefix'", ns.export, ns, print, { prefix = 1 })
      store:close()
      raises("closed", ns.import, ns, print)
      raises("closed", ns.export, ns, print)
    end)

    it("take no path from a bound handle, and say none", function()
      local bound = other:bind()
      raises({ "'source'", "path" }, bound.import, "/tmp/x")
      raises({ "'sink'", "path" }, bound.export, "/tmp/x")
      raises("use kv.import", bound.import, bound, print)
      returns(1, bound.import(source '{"a":1}'))
      local parts = {}
      returns(1, bound.export(function(chunk) parts[#parts + 1] = chunk end))
      assert.equal('{"key":"a","type":"integer","value":1}\n', table.concat(parts))
      local file = assert(io.tmpfile())
      returns(1, bound.export(file))
      file:seek "set"
      returns(1, bound.import(file))
      file:close()
    end)

    it("end when the store is closed meanwhile", function()
      local text = source(('{"key":"a","value":1}\n'):rep(50000), 30000)
      local ok, message = pcall(other.import, other, function()
        local chunk = text()
        if chunk and #chunk < 30000 then store:close() end
        return chunk
      end)
      assert.is_false(ok)
      assert.matches("closed", message)
    end)

    it("go into a key and come from one", function()
      ns:put_many { a = 1, b = { 2 }, c = "three" }
      local writer = other:writer "copy"
      returns(3, ns:export(writer))
      assert(writer:commit())
      ns:clear()
      returns(3, ns:import(other:get("copy", "stream")))
      assert.same({ a = 1, b = { 2 }, c = "three" }, values(ns))
    end)
  end)

  -- A file system of its own, of 4 MiB, which a process of its own fills.
  it("stop on a full disk, with what fits written, and leave the store whole", function()
    local dir = helper.path(true):gsub("/store$", "")
    local may = os.execute("unshare -m mount -t tmpfs -o size=4m none " .. helper.quote(dir)
      .. " 2>/dev/null")
    if not (may == true or may == 0) then
      pending "needs the right to mount"
      return
    end
    helper.write_file(dir .. "/script.lua", ([[
      local kv = require "kv"
      local store = assert(kv.open(%q .. "/disk/store", { thread = false }))
      local ns = store:namespace "a"
      local n = 0
      local count, message, code = ns:import(function()
        n = n + 1
        return ('{"key":"k%%06d","value":"%%s"}\n'):format(n, ("x"):rep(1000))
      end, { continue_on_error = true })
      local written = tonumber(message:match "; (%%d+) written$")
      io.write(tostring(count), " ", code, " ", tostring(message:match "^line (%%d+): " == tostring(written + 1)),
        " ", tostring(written > 500), " ", tostring(ns:count() == written), " ", tostring(store:check()))
      assert(ns:delete "k000001")
      store:close()
      store = assert(kv.open(%q .. "/disk/store"))
      io.write(" ", tostring(store:namespace "a":count() == written - 1), " ", tostring(store:check()))
      store:close()
    ]]):format(dir, dir))
    os.execute("mkdir " .. helper.quote(dir .. "/disk"))
    local pipe = io.popen(("unshare -m sh -c 'mount -t tmpfs -o size=4m none %s/disk && "
      .. "LUA_PATH=\"%s\" LUA_CPATH=\"%s\" exec %s %s/script.lua' 2>&1"):format(dir, package.path,
      package.cpath, helper.interpreter, dir))
    assert.equal("nil full true true true true true true", pipe:read "*a")
    pipe:close()
    helper.sweep()
  end)

  it("work on the module", function()
    assert.equal("2 2 2", helper.run [[
      local kv = require "kv"
      kv.use ":memory:"
      kv.put_many { a = 1, b = 2 }
      local parts = {}
      io.write(kv.export(function(c) parts[#parts + 1] = c end), " ")
      kv.clear()
      io.write(kv.import(function() return table.remove(parts, 1) end), " ", kv.count())
    ]])
  end)
end)
