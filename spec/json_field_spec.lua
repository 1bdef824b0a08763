-- SPDX-License-Identifier: MIT
--
-- json_field_spec.lua - one field of a stored document: every call with its results, conditions,
-- options, and what it leaves alone.

local kv = require "kv"
local helper = require "helper"

local fails, raises, refuses, returns = helper.fails, helper.raises, helper.refuses, helper.returns

-- value, nil, rev; the revision is the store's last.
local function gives(store, expected, ...)
  local value, middle, rev = ...
  assert.equal(3, select("#", ...))
  assert.same(expected, value)
  assert.is_nil(middle)
  assert.equal(store:rev(), rev)
end

describe("JSON fields", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new()
      ns = store:namespace("documents")
    end)

    -- Puts JSON text as a document, byte for byte.
    local function put(text, opts)
      opts = opts or {}
      opts.as = "json"
      assert(ns:put("k", text, opts))
    end

    local function text()
      return ns:get("k", "text")
    end

    -- A failed call changes nothing.
    local function unchanged(check, code, name, ...)
      local before, rev = text(), store:rev()
      check(code, ns[name](ns, ...))
      assert.equal(before, text())
      assert.equal(rev, store:rev())
    end

    describe("json_get", function()
      it("returns the value a path leads to", function()
        put '{"a":{"b":[1,2,{"c":"x"}]},"n":null,"f":false,"s":"t","e":[],"o":{}}'
        returns(1, ns:json_get("k", "a.b[0]"))
        returns("x", ns:json_get("k", "a.b[2].c"))
        returns("x", ns:json_get("k", "a.b[-1].c"))
        returns(2, ns:json_get("k", "a.b[-2]"))
        returns(kv.null, ns:json_get("k", "n"))
        returns(false, ns:json_get("k", "f"))
        returns("t", ns:json_get("k", "s"))
        returns({ 1, 2, { c = "x" } }, ns:json_get("k", "a.b"))
        assert.equal("[]", kv.encode(ns:json_get("k", "e")))
        assert.equal("{}", kv.encode(ns:json_get("k", "o")))
      end)

      it("gives nil for what is not there, and for a step through something else", function()
        put '{"a":{"b":[1]},"s":"t"}'
        for _, path in ipairs { "x", "a.x", "a.b[1]", "a.b[-2]", "a.b.c", "a[0]", "s.t", "s[0]",
          "a.b[0].x", "a.b[0][0]", "x.y.z", "[0]", "/a/b/-", "/a/b/1", "/s/0", "/a/b/00" } do
          returns(nil, ns:json_get("k", path))
          returns(nil, ns:json_type("k", path))
          returns(nil, ns:json_length("k", path))
          returns(nil, ns:json_keys("k", path))
        end
        returns(nil, ns:json_get("missing", "a"))
        returns(nil, ns:json_get("missing"))
        returns(nil, store:namespace("other", { create = true }):json_get("k", "a"))
      end)

      it("takes \"\" and nil for the document", function()
        put '{"a":1}'
        returns({ a = 1 }, ns:json_get("k"))
        returns({ a = 1 }, ns:json_get("k", ""))
        returns({ a = 1 }, ns:json_get("k", nil))
        returns({ a = 1 }, ns:json_get("k", {}))
      end)

      it("reads numbers, booleans and null as documents of their own", function()
        for _, value in ipairs { 42, -1.5, true, false, kv.null } do
          ns:put("v", value)
          returns(value, ns:json_get("v"))
          returns(nil, ns:json_get("v", "a"))
          returns(nil, ns:json_get("v", "[0]"))
        end
        ns:put("v", 42)
        returns("integer", ns:json_type("v"))
        ns:put("v", 1.5)
        returns("number", ns:json_type("v"))
        ns:put("v", true)
        returns("boolean", ns:json_type("v"))
        ns:put("v", kv.null)
        returns("null", ns:json_type("v"))
        returns(nil, ns:json_length("v"))
        returns(nil, ns:json_keys("v"))
      end)

      it("reads a string that holds JSON text, and refuses one that does not", function()
        ns:put("s", '{"a":[1,{"b":2}]}')
        returns(2, ns:json_get("s", "a[1].b"))
        returns("object", ns:json_type("s"))
        for _, bad in ipairs { "", "hello", "{", "[1,]", "{'a':1}", "nan", '"\255"', "1 2" } do
          ns:put("s", bad)
          for _, name in ipairs { "json_get", "json_type", "json_length", "json_keys" } do
            fails("not_json", ns[name](ns, "s", "a"))
            fails("not_json", ns[name](ns, "s"))
          end
        end
        ns:put("s", ("["):rep(100000))
        fails("too_deep", ns:json_get("s", "a"))
        ns:put("s", ("["):rep(128) .. ("]"):rep(128))
        returns("array", ns:json_type("s", ("[0]"):rep(127)))
        ns:put("s", ("["):rep(129) .. ("]"):rep(129))
        fails("too_deep", ns:json_get("s", "[0]"))
      end)

      it("gives integers in full and floats exactly", function()
        put('{"i":9223372036854775807,"m":-9223372036854775808,"b":9007199254740993,"f":0.1,'
          .. '"e":1e300}')
        if helper.integers then
          returns(math.maxinteger, ns:json_get("k", "i"))
          returns(math.mininteger, ns:json_get("k", "m"))
          assert.equal("9007199254740993", ("%d"):format(ns:json_get("k", "b")))
        else
          returns(2 ^ 63, ns:json_get("k", "i"))
        end
        returns(0.1, ns:json_get("k", "f"))
        returns(1e300, ns:json_get("k", "e"))
      end)

      it("counts the last one of members with the same name", function()
        put '{"a":1,"b":{"c":1},"a":2,"b":{"d":5},"\\u0061":3}'
        returns(3, ns:json_get("k", "a"))
        returns(5, ns:json_get("k", "b.d"))
        returns(nil, ns:json_get("k", "b.c"))
        returns(2, ns:json_length("k"))
        returns({ "a", "b" }, ns:json_keys("k"))
      end)

      it("reads a large value", function()
        local long = ("x"):rep(300000)
        put('{"long":"' .. long .. '","list":[' .. ("1,"):rep(100000) .. '7],"last":5}')
        returns(5, ns:json_get("k", "last"))
        returns(long, ns:json_get("k", "long"))
        returns(7, ns:json_get("k", "list[-1]"))
        returns(7, ns:json_get("k", "list[100000]"))
        returns(100001, ns:json_length("k", "list"))
        returns(300000, ns:json_length("k", "long"))
      end)
    end)

    it("json_type names what is there", function()
      put('{"o":{},"a":[],"s":"","i":1,"n":1.0,"e":1e2,"big":12345678901234567890,'
        .. '"t":true,"z":null}')
      local types = { o = "object", a = "array", s = "string", i = "integer", n = "number",
        e = "number", big = "number", t = "boolean", z = "null" }
      for path, name in pairs(types) do
        returns(name, ns:json_type("k", path))
      end
      returns("object", ns:json_type("k"))
      returns(nil, ns:json_type("k", "x"))
    end)

    it("json_length counts elements, members and bytes", function()
      put('{"o":{"a":1,"b":{"c":2}},"a":[1,[2,3],{}],"s":"h\\u00e9\\n\\ud83d\\ude00",'
        .. '"u":"hé","n":5}')
      returns(2, ns:json_length("k", "o"))
      returns(3, ns:json_length("k", "a"))
      returns(#"hé\n😀", ns:json_length("k", "s"))
      returns(3, ns:json_length("k", "u"))
      returns(5, ns:json_length("k"))
      returns(nil, ns:json_length("k", "n"))
    end)

    it("json_keys lists the names in the document's order", function()
      put '{"z":1,"a":{"x":1},"\\u00e9":2,"":3,"m.n":4}'
      returns({ "z", "a", "é", "", "m.n" }, ns:json_keys("k"))
      returns({ "x" }, ns:json_keys("k", "a"))
      returns(nil, ns:json_keys("k", "z"))
      put '{"e":{},"a":[1]}'
      assert.equal("[]", kv.encode(ns:json_keys("k", "e")))
      returns(nil, ns:json_keys("k", "a"))
    end)

    describe("json_set", function()
      it("replaces a value and returns the revision", function()
        put '{"a":1,"b":[1,2]}'
        returns(store:rev() + 1, ns:json_set("k", "a", "x"))
        returns(store:rev() + 1, ns:json_set("k", "b[1]", { c = true }))
        returns(store:rev() + 1, ns:json_set("k", "b[-2]", kv.null))
        assert.equal('{"a":"x","b":[null,{"c":true}]}', text())
        assert.equal(store:rev(), ns:entry("k").rev)
      end)

      it("creates the field, missing objects on the way, and the key itself", function()
        ns:json_set("k", "a.b.c", 1)
        assert.equal('{"a":{"b":{"c":1}}}', text())
        ns:json_set("k", "a.d", 2)
        assert.equal('{"a":{"b":{"c":1},"d":2}}', text())
        ns:json_set("new", "", { 1 })
        returns({ 1 }, ns:get("new"))
        ns:json_set("other", '["odd.key"]', 1)
        assert.equal('{"odd.key":1}', ns:get("other", "text"))
      end)

      it("makes a missing parent of index 0 an array", function()
        ns:json_set("k", "list[0].x", 1)
        assert.equal('{"list":[{"x":1}]}', text())
        ns:json_set("k", "m[0][0]", 2)
        assert.equal('{"list":[{"x":1}],"m":[[2]]}', text())
        ns:json_set("root", "[0]", "a")
        assert.equal('["a"]', ns:get("root", "text"))
        unchanged(fails, "out_of_range", "json_set", "k", "new[1]", 1)
        unchanged(fails, "out_of_range", "json_set", "k", "new[-1]", 1)
        unchanged(fails, "out_of_range", "json_set", "k", "new[0][1]", 1)
        fails("out_of_range", ns:json_set("none", "[1]", 1))
        assert.is_false(ns:exists("none"))
      end)

      it("appends at index == length, and no further", function()
        put '{"a":[1]}'
        ns:json_set("k", "a[1]", 2)
        ns:json_set("k", "/a/2", 3)
        ns:json_set("k", "/a/-", 4)
        assert.equal('{"a":[1,2,3,4]}', text())
        unchanged(fails, "out_of_range", "json_set", "k", "a[5]", 1)
        unchanged(fails, "out_of_range", "json_set", "k", "a[-5]", 1)
        unchanged(fails, "out_of_range", "json_set", "k", "/a/99", 1)
        unchanged(fails, "out_of_range", "json_set", "k", "a[99999999999999999999999]", 1)
      end)

      it("replaces the whole document with an empty path", function()
        put '{"a":1}'
        ns:json_set("k", "", { b = 2 })
        assert.equal('{"b":2}', text())
        ns:json_set("k", nil, 5)
        returns(5, ns:get("k"))
        returns(6, ns:incr("k"))
        ns:json_set("k", {}, "text")
        returns("text", ns:get("k"))
        returns("text", ns:json_get("k"))
        returns("string", ns:json_type("k"))
        ns:json_set("k", "", true)
        returns(true, ns:get("k"))
        ns:json_set("k", "", kv.null)
        returns(kv.null, ns:get("k"))
        ns:json_set("k", "", 1.5)
        returns(1.5, ns:get("k"))
        ns:json_set("k", "", kv.array {})
        assert.equal("[]", text())
      end)

      it("refuses to go through a scalar or the wrong container", function()
        put '{"n":5,"s":"x","a":[1],"o":{"b":1},"z":null}'
        for _, path in ipairs { "n.x", "s.x", "a.x", "z.x", "a[0].x", "n.x.y", "/a/x", "/a/01" } do
          unchanged(fails, "not_an_object", "json_set", "k", path, 1)
        end
        for _, path in ipairs { "n[0]", "o[0]", "[0]", "o.b[0]", "z[0].x" } do
          unchanged(fails, "not_an_array", "json_set", "k", path, 1)
        end
        ns:put("v", 5)
        fails("not_an_object", ns:json_set("v", "a", 1))
        returns(5, ns:get("v"))
      end)

      it("leaves all other bytes as they are", function()
        put(' {"a" : 1.0 ,"b":1e2,\t"c":12345678901234567890,"d":[ 1 , 2 ], '
          .. '"e":"\\u00e9\\/","x":0}\n')
        ns:json_set("k", "x", 7)
        assert.equal(' {"a" : 1.0 ,"b":1e2,\t"c":12345678901234567890,"d":[ 1 , 2 ], '
          .. '"e":"\\u00e9\\/","x":7}\n', text())
        ns:json_set("k", "d[2]", 3)
        ns:json_set("k", "y", { 1 })
        assert.equal(' {"a" : 1.0 ,"b":1e2,\t"c":12345678901234567890,"d":[ 1 , 2,3 ], '
          .. '"e":"\\u00e9\\/","x":7,"y":[1]}\n', text())
        put '{\n  "a": 1\n}'
        ns:json_set("k", "b", 2)
        assert.equal('{\n  "a": 1,"b":2\n}', text())
        put '{ }'
        ns:json_set("k", "b", 2)
        assert.equal('{"b":2 }', text())
      end)

      it("edits the last one of members with the same name", function()
        put '{"a":1,"b":0,"a":2}'
        ns:json_set("k", "a", 9)
        assert.equal('{"a":1,"b":0,"a":9}', text())
        put '{"\\u0061":1,"a":2,"\\u0061":3}'
        ns:json_set("k", "a", 9)
        assert.equal('{"\\u0061":1,"a":2,"\\u0061":9}', text())
      end)

      it("writes every kind of value", function()
        ns:json_set("k", "f", 1.5)
        ns:json_set("k", "i", 42)
        ns:json_set("k", "e", kv.array())
        ns:json_set("k", "o", {})
        ns:json_set("k", "s", 'q"\n\0')
        ns:json_set("k", "t", { { a = { 1, 2 } } })
        assert.equal('{"f":1.5,"i":42,"e":[],"o":{},"s":"q\\"\\n\\u0000","t":[{"a":[1,2]}]}',
          text())
        returns('q"\n\0', ns:json_get("k", "s"))
        if helper.integers then
          ns:json_set("k", "i", math.mininteger)
          returns(math.mininteger, ns:json_get("k", "i"))
          ns:json_set("k", "f", 2.0)
          assert.equal("float", math.type(ns:json_get("k", "f")))
        end
      end)
    end)

    describe("json_increment", function()
      it("adds 1 or what is given, and returns the number and the revision", function()
        put '{"n":41}'
        gives(store, 42, ns:json_increment("k", "n"))
        gives(store, 52, ns:json_increment("k", "n", 10))
        gives(store, 50, ns:json_incr("k", "n", -2))
        assert.equal('{"n":50}', text())
        gives(store, 50.5, ns:json_increment("k", "n", 0.5))
        assert.equal('{"n":50.5}', text())
      end)

      it("counts what is missing as 0", function()
        gives(store, 1, ns:json_increment("k", "a.n"))
        gives(store, 5, ns:json_increment("k", "b[0]", 5))
        assert.equal('{"a":{"n":1},"b":[5]}', text())
        gives(store, 2.5, ns:json_increment("root", "", 2.5))
        returns(2.5, ns:get("root"))
        gives(store, 3.5, ns:json_increment("root"))
      end)

      it("is exact to 64 bits, and refuses an overflow", function()
        put '{"n":9223372036854775806,"m":-9223372036854775807,"h":9007199254740992}'
        ns:json_increment("k", "n")
        ns:json_increment("k", "m", -1)
        ns:json_increment("k", "h")
        assert.equal('{"n":9223372036854775807,"m":-9223372036854775808,"h":9007199254740993}',
          text())
        unchanged(fails, "out_of_range", "json_increment", "k", "n")
        unchanged(fails, "out_of_range", "json_increment", "k", "m", -1)
        gives(store, ns:json_get("k", "m") + 5, ns:json_increment("k", "m", 5))
        if helper.integers then
          gives(store, 4, ns:json_increment("k", "m", math.maxinteger))
        end
        put '{"n":1e308,"i":12345678901234567890,"j":-12345678901234567890}'
        unchanged(fails, "out_of_range", "json_increment", "k", "n", 1e308 + 5e307)
        -- More digits than 64 bits hold would be lost.
        unchanged(fails, "out_of_range", "json_increment", "k", "i")
        unchanged(fails, "out_of_range", "json_increment", "k", "j")
      end)

      it("keeps a float a float, in the shortest spelling", function()
        put '{"a":1.0,"b":1e2,"c":0.1,"d":-0}'
        ns:json_increment("k", "a")
        ns:json_increment("k", "b")
        ns:json_increment("k", "c", 0.2)
        ns:json_increment("k", "d")
        assert.equal('{"a":2.0,"b":101.0,"c":0.30000000000000004,"d":1.0}', text())
      end)

      it("refuses what is no number", function()
        put '{"s":"1","t":true,"z":null,"a":[1],"o":{}}'
        for _, path in ipairs { "s", "t", "z", "a", "o", "" } do
          unchanged(fails, "not_a_number", "json_increment", "k", path)
        end
        unchanged(fails, "not_an_object", "json_increment", "k", "s.x")
        unchanged(fails, "not_an_array", "json_increment", "k", "o[0]")
        unchanged(fails, "out_of_range", "json_increment", "k", "a[2]")
      end)
    end)

    describe("json_push and json_extend", function()
      it("append and return the length", function()
        put '{"a":[ ]}'
        gives(store, 1, ns:json_push("k", "a", "x"))
        gives(store, 2, ns:json_push("k", "a", { 1, 2 }))
        gives(store, 4, ns:json_extend("k", "a", { true, kv.null }))
        gives(store, 4, ns:json_extend("k", "a", {}))
        gives(store, 4, ns:json_extend("k", "a", kv.array()))
        assert.equal('{"a":["x",[1,2],true,null ]}', text())
      end)

      it("create a missing array", function()
        gives(store, 1, ns:json_push("k", "a.b", 1))
        gives(store, 2, ns:json_extend("k", "c", { 1, 2 }))
        gives(store, 0, ns:json_extend("k", "d", {}))
        assert.equal('{"a":{"b":[1]},"c":[1,2],"d":[]}', text())
        gives(store, 1, ns:json_push("root", "", "x"))
        gives(store, 2, ns:json_push("root", nil, "y"))
        assert.equal('["x","y"]', ns:get("root", "text"))
        gives(store, 1, ns:json_push("deep", "a[0]", "x"))
        assert.equal('{"a":[["x"]]}', ns:get("deep", "text"))
      end)

      it("refuse what is no array", function()
        put '{"o":{},"n":1}'
        for _, path in ipairs { "o", "n", "" } do
          unchanged(fails, "not_an_array", "json_push", "k", path, 1)
          unchanged(fails, "not_an_array", "json_extend", "k", path, { 1 })
        end
        raises({ "array" }, ns.json_extend, ns, "k", "a", "text")
        raises({ "array" }, ns.json_extend, ns, "k", "a", { x = 1 })
        raises({ "array" }, ns.json_extend, ns, "k", "a")
      end)
    end)

    describe("json_insert", function()
      it("puts before the index", function()
        put '{"a":[ 1 , 2 ]}'
        gives(store, 3, ns:json_insert("k", "a[0]", 0))
        gives(store, 4, ns:json_insert("k", "a[-1]", 1.5))
        gives(store, 5, ns:json_insert("k", "a[4]", 3))
        gives(store, 6, ns:json_insert("k", "/a/-", 4))
        gives(store, 7, ns:json_insert("k", "/a/1", "x"))
        gives(store, 8, ns:json_insert("k", { "a", 1 }, "y"))
        assert.equal('{"a":[ 0,"y","x",1 , 1.5,2,3,4 ]}', text())
      end)

      it("works on an empty array and creates a missing one", function()
        put '{"e":[]}'
        gives(store, 1, ns:json_insert("k", "e[0]", 1))
        gives(store, 1, ns:json_insert("k", "f[0]", 1))
        gives(store, 1, ns:json_insert("k", "/g/0", 1))
        assert.equal('{"e":[1],"f":[1],"g":[1]}', text())
        gives(store, 1, ns:json_insert("root", "[0]", 1))
        assert.equal('[1]', ns:get("root", "text"))
      end)

      it("refuses what is out of range, no array or no index", function()
        put '{"a":[1,2],"o":{},"e":[]}'
        for _, path in ipairs { "a[3]", "a[-3]", "e[1]", "e[-1]", "x[1]", "x[-1]" } do
          unchanged(fails, "out_of_range", "json_insert", "k", path, 1)
        end
        unchanged(fails, "not_an_array", "json_insert", "k", "o[0]", 1)
        unchanged(fails, "not_an_array", "json_insert", "k", "/o/0", 1)
        unchanged(fails, "bad_path", "json_insert", "k", "o.x", 1)
        unchanged(fails, "bad_path", "json_insert", "k", "/a/x", 1)
        unchanged(fails, "bad_path", "json_insert", "k", "", 1)
      end)
    end)

    describe("json_pop", function()
      it("takes out the last element, or the one with the index", function()
        put '{"a":[1,"two",[3],{"four":4},5]}'
        gives(store, 5, ns:json_pop("k", "a"))
        gives(store, 1, ns:json_pop("k", "a", 0))
        gives(store, { 3 }, ns:json_pop("k", "a", 1))
        gives(store, "two", ns:json_pop("k", "a", -2))
        gives(store, { four = 4 }, ns:json_pop("k", "a"))
        assert.equal('{"a":[]}', text())
        local rev = store:rev()
        returns(nil, ns:json_pop("k", "a"))
        returns(nil, ns:json_pop("k", "x"))
        returns(nil, ns:json_pop("k", "x.y"))
        returns(nil, ns:json_pop("missing", "a"))
        assert.equal(rev, store:rev())
      end)

      it("closes the gap and leaves the rest", function()
        put '{"a":[ 1 , 2 , 3 ]}'
        ns:json_pop("k", "a", 1)
        assert.equal('{"a":[ 1 , 3 ]}', text())
        ns:json_pop("k", "a")
        assert.equal('{"a":[ 1 ]}', text())
        ns:json_pop("k", "a")
        assert.equal('{"a":[  ]}', text())
      end)

      it("gives nil for an index that is not there, and refuses what is no array", function()
        put '{"a":[1,2],"o":{}}'
        returns(nil, ns:json_pop("k", "a", 2))
        returns(nil, ns:json_pop("k", "a", -3))
        unchanged(fails, "not_an_array", "json_pop", "k", "o")
        unchanged(fails, "not_an_array", "json_pop", "k", "")
        unchanged(fails, "not_an_array", "json_pop", "k", "a[0]")
        ns:put("root", "[1,2]")
        gives(store, 2, ns:json_pop("root"))
        returns("[1]", ns:get("root"))
      end)

      it("gives what it takes also when it is large", function()
        local long = ("y"):rep(100000)
        ns:json_push("k", "a", long)
        ns:json_push("k", "a", 1)
        gives(store, long, ns:json_pop("k", "a", 0))
        assert.equal('{"a":[1]}', text())
      end)
    end)

    describe("json_remove", function()
      it("removes a member or an element and closes the gap", function()
        put '{"a":1,"b":{"c":2,"d":3},"e":[1,2,3]}'
        gives(store, true, ns:json_remove("k", "a"))
        gives(store, true, ns:json_remove("k", "b.d"))
        gives(store, true, ns:json_remove("k", "e[1]"))
        gives(store, true, ns:json_remove("k", "e[-1]"))
        assert.equal('{"b":{"c":2},"e":[1]}', text())
        gives(store, true, ns:json_remove("k", "b"))
        gives(store, true, ns:json_remove("k", "e"))
        assert.equal('{}', text())
      end)

      it("gives false when there is nothing", function()
        put '{"a":[1]}'
        local rev = store:rev()
        returns(false, ns:json_remove("k", "x"))
        returns(false, ns:json_remove("k", "x.y"))
        returns(false, ns:json_remove("k", "a[1]"))
        returns(false, ns:json_remove("k", "/a/-"))
        returns(false, ns:json_remove("missing", "x"))
        returns(false, ns:json_remove("missing", ""))
        assert.equal(rev, store:rev())
        unchanged(fails, "not_an_object", "json_remove", "k", "a.x")
        unchanged(fails, "not_an_array", "json_remove", "k", "[0]")
      end)

      it("removes the key with an empty path", function()
        put '{"a":1}'
        gives(store, true, ns:json_remove("k", ""))
        assert.is_false(ns:exists("k"))
        ns:put("k", 5)
        gives(store, true, ns:json_remove("k"))
        assert.is_false(ns:exists("k"))
      end)

      it("removes all members with the name", function()
        put '{"a":1, "b":0 ,"a":2 , "\\u0061":3 }'
        gives(store, true, ns:json_remove("k", "a"))
        assert.equal('{"b":0 }', text())
        returns(nil, ns:json_get("k", "a"))
        put '{ "a":1,"a":2 }'
        ns:json_remove("k", "a")
        assert.equal('{  }', text())
        put('{' .. ('"x":{"a":1},"a":2,'):rep(20000) .. '"z":1}')
        gives(store, true, ns:json_remove("k", "a"))
        assert.equal('{' .. ('"x":{"a":1},'):rep(20000) .. '"z":1}', text())
      end)

      it("leaves white space where it was", function()
        put '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}'
        ns:json_remove("k", "b")
        assert.equal('{\n  "a": 1,\n  "c": 3\n}', text())
        ns:json_remove("k", "c")
        assert.equal('{\n  "a": 1\n}', text())
      end)
    end)

    describe("json_toggle", function()
      it("turns a boolean around", function()
        put '{"t":true,"f":false}'
        gives(store, false, ns:json_toggle("k", "t"))
        gives(store, true, ns:json_toggle("k", "f"))
        assert.equal('{"t":false,"f":true}', text())
        ns:put("b", true)
        gives(store, false, ns:json_toggle("b"))
        returns(false, ns:get("b"))
      end)

      it("counts what is missing as false", function()
        gives(store, true, ns:json_toggle("k", "a.b"))
        assert.equal('{"a":{"b":true}}', text())
      end)

      it("refuses what is no boolean", function()
        put '{"n":1,"s":"true","z":null,"a":[true]}'
        for _, path in ipairs { "n", "s", "z", "a", "" } do
          unchanged(fails, "not_a_boolean", "json_toggle", "k", path)
        end
      end)
    end)

    describe("json_append", function()
      it("appends to a string and returns its bytes", function()
        put '{"s":"a\\u00e9"}'
        gives(store, 5, ns:json_append("k", "s", "bc"))
        gives(store, 8, ns:json_append("k", "s", '"\n\\'))
        gives(store, 8, ns:json_append("k", "s", ""))
        gives(store, 12, ns:json_append("k", "s", "😀"))
        assert.equal('{"s":"a\\u00e9bc\\"\\n\\\\😀"}', text())
        returns('aébc"\n\\😀', ns:json_get("k", "s"))
        returns(12, ns:json_length("k", "s"))
      end)

      it("creates a missing string", function()
        gives(store, 2, ns:json_append("k", "log[0]", "hi"))
        assert.equal('{"log":["hi"]}', text())
        gives(store, 1, ns:json_append("root", "", "x"))
        gives(store, 2, ns:json_append("root", "", "y"))
        returns("xy", ns:get("root"))
      end)

      it("refuses what is no string, and text that is none", function()
        put '{"n":1,"a":["x"]}'
        for _, path in ipairs { "n", "a", "" } do
          unchanged(fails, "not_a_string", "json_append", "k", path, "x")
        end
        raises({ "text", "string" }, ns.json_append, ns, "k", "s", 5)
        raises({ "text", "string" }, ns.json_append, ns, "k", "s")
        raises({ "text", "UTF-8" }, ns.json_append, ns, "k", "s", "\255")
      end)
    end)

    describe("json_merge", function()
      -- RFC 7396, appendix A: original, patch, result.
      local appendix = {
        { '{"a":"b"}', '{"a":"c"}', '{"a":"c"}' },
        { '{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}' },
        { '{"a":"b"}', '{"a":null}', '{}' },
        { '{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}' },
        { '{"a":["b"]}', '{"a":"c"}', '{"a":"c"}' },
        { '{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}' },
        { '{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}' },
        { '{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}' },
        { '["a","b"]', '["c","d"]', '["c","d"]' },
        { '{"a":"b"}', '["c"]', '["c"]' },
        { '{"a":"foo"}', 'null', 'null' },
        { '{"a":"foo"}', '"bar"', '"bar"' },
        { '{"e":null}', '{"a":1}', '{"e":null,"a":1}' },
        { '[1,2]', '{"a":"b","c":null}', '{"a":"b"}' },
        { '{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}' },
      }

      it("does what appendix A of RFC 7396 shows", function()
        for i, case in ipairs(appendix) do
          put(case[1])
          returns(store:rev() + 1, ns:json_merge("k", kv.decode(case[2])))
          assert.same(kv.decode(case[3]), ns:json_get("k"), "case " .. i)
          if case[3] ~= '"bar"' then assert.equal(case[3], text()) end
          ns:put("k", case[1])
          ns:json_merge("k", kv.decode(case[2]))
          assert.equal(case[3], ns:get("k"), "case " .. i .. " in a string")
        end
      end)

      it("creates the key, and keeps every byte that the patch does not name", function()
        ns:json_merge("k", { a = { b = 1, c = kv.null }, d = kv.null })
        assert.equal('{"a":{"b":1}}', text())
        put '{ "a" : 1.0, "b" : { "c" : 1e2 , "d":[ 1 ] }, "e":null }'
        ns:json_merge("k", { b = { c = 5 } })
        assert.equal('{ "a" : 1.0, "b" : { "c" : 5 , "d":[ 1 ] }, "e":null }', text())
        ns:json_merge("k", {})
        assert.equal('{ "a" : 1.0, "b" : { "c" : 5 , "d":[ 1 ] }, "e":null }', text())
        ns:put("n", 5)
        ns:json_merge("n", {})
        returns({}, ns:get("n"))
      end)

      it("removes every member of the name, and edits the last", function()
        put '{"a":1,"b":{"x":1},"a":2,"b":{"y":1}}'
        ns:json_merge("k", { a = kv.null, b = { y = 2, z = 3 } })
        local doc = ns:get("k")
        assert.same({ b = { y = 2, z = 3 } }, doc)
      end)

      it("obeys the options", function()
        refuses("not_found", ns:json_merge("k", { a = 1 }, { create = false }))
        refuses("not_found", ns:json_merge("k", { a = 1 }, { set_if = "exist" }))
        ns:json_merge("k", { a = 1 }, { set_if = "not_exist", ttl = 100 })
        refuses("exists", ns:json_merge("k", { a = 2 }, { set_if = "not_exist" }))
        refuses("conflict", ns:json_merge("k", { a = 2 }, { if_rev = 999 }))
        assert.equal('{"a":1}', text())
        assert(ns:ttl("k") > 90)
      end)
    end)

    describe("options", function()
      it("keep ttl and metadata unless given", function()
        put('{"a":1}', { ttl = 1000, metadata = { m = 1 } })
        local before = ns:entry("k")
        ns:json_set("k", "a", 2)
        ns:json_increment("k", "a")
        ns:json_push("k", "l", 1)
        ns:json_pop("k", "l")
        ns:json_remove("k", "l")
        ns:json_merge("k", { b = 1 })
        ns:json_toggle("k", "t")
        ns:json_append("k", "s", "x")
        local after = ns:entry("k")
        assert.same(before.metadata, after.metadata)
        assert.equal(before.expiration, after.expiration)
        assert.equal(before.id, after.id)
        assert.equal(before.created_at, after.created_at)
        assert.equal(store:rev(), after.rev)
        assert(after.updated_at >= before.updated_at)
      end)

      it("set ttl and metadata", function()
        put('{"a":1}', { ttl = 1000, metadata = { m = 1 } })
        ns:json_set("k", "a", 2, { ttl = 50 })
        assert(ns:ttl("k") <= 50)
        ns:json_set("k", "a", 2, { metadata = { n = 2 } })
        assert.same({ n = 2 }, ns:entry("k").metadata)
        assert(ns:ttl("k") <= 50)
        ns:json_set("k", "a", 2, { keep_ttl = false })
        returns(false, ns:ttl("k"))
        ns:json_increment("k", "a", 1, { expiration = os.time() + 500 })
        assert(ns:ttl("k") > 400)
        assert.same({ n = 2 }, ns:entry("k").metadata)
        unchanged(fails, "out_of_range", "json_set", "k", "a", 3, { expiration = 1 })
        unchanged(fails, "too_big", "json_set", "k", "a", 3, { metadata = { ("x"):rep(1100) } })
        ns:json_set("new", "a", 1, { ttl = 10, metadata = { x = 1 } })
        assert(ns:ttl("new") <= 10)
      end)

      it("set_if means the field", function()
        put '{"a":1,"l":[1]}'
        unchanged(refuses, "exists", "json_set", "k", "a", 2, { set_if = "not_exist" })
        unchanged(refuses, "not_found", "json_set", "k", "b", 2, { set_if = "exist" })
        unchanged(refuses, "not_found", "json_set", "k", "l[1]", 2, { set_if = "exist" })
        unchanged(refuses, "exists", "json_set", "k", "l[0]", 2, { set_if = "not_exist" })
        ns:json_set("k", "a", 3, { set_if = "exist" })
        ns:json_set("k", "b", 4, { set_if = "not_exist" })
        ns:json_set("k", "l[1]", 5, { set_if = "not_exist" })
        assert.equal('{"a":3,"l":[1,5],"b":4}', text())
        unchanged(refuses, "not_found", "json_increment", "k", "c", 1, { set_if = "exist" })
        unchanged(refuses, "exists", "json_increment", "k", "a", 1, { set_if = "not_exist" })
        unchanged(refuses, "exists", "json_push", "k", "l", 1, { set_if = "not_exist" })
        unchanged(refuses, "not_found", "json_append", "k", "s", "x", { set_if = "exist" })
        unchanged(refuses, "not_found", "json_toggle", "k", "t", { set_if = "exist" })
        unchanged(refuses, "not_found", "json_remove", "k", "t", { set_if = "exist" })
        unchanged(refuses, "not_found", "json_pop", "k", "t", -1, { set_if = "exist" })
        refuses("not_found", ns:json_set("missing", "a", 1, { set_if = "exist" }))
        refuses("not_found", ns:json_set("missing", "", 1, { set_if = "exist" }))
        refuses("exists", ns:json_set("k", "", 1, { set_if = "not_exist" }))
      end)

      it("create = false makes nothing", function()
        put '{"a":{},"l":[]}'
        local no = { create = false }
        unchanged(refuses, "not_found", "json_set", "k", "a.b", 1, no)
        unchanged(refuses, "not_found", "json_set", "k", "x.y", 1, no)
        unchanged(refuses, "not_found", "json_set", "k", "l[0]", 1, no)
        unchanged(refuses, "not_found", "json_increment", "k", "n", 1, no)
        unchanged(refuses, "not_found", "json_push", "k", "m", 1, no)
        unchanged(refuses, "not_found", "json_extend", "k", "m", { 1 }, no)
        unchanged(refuses, "not_found", "json_insert", "k", "m[0]", 1, no)
        unchanged(refuses, "not_found", "json_toggle", "k", "t", no)
        unchanged(refuses, "not_found", "json_append", "k", "s", "x", no)
        refuses("not_found", ns:json_set("missing", "a", 1, no))
        refuses("not_found", ns:json_set("missing", "", 1, no))
        assert.is_false(ns:exists("missing"))
        ns:json_set("k", "a", 1, no)
        gives(store, 1, ns:json_push("k", "l", 1, no))
        assert.equal('{"a":1,"l":[1]}', text())
      end)

      it("if_rev means the record", function()
        put '{"a":1}'
        local rev = store:rev()
        unchanged(refuses, "conflict", "json_set", "k", "a", 2, { if_rev = rev + 1 })
        unchanged(refuses, "conflict", "json_set", "k", "a", 2, { if_rev = 0 })
        unchanged(refuses, "conflict", "json_pop", "k", "a", -1, { if_rev = 0 })
        unchanged(refuses, "conflict", "json_remove", "k", "a", { if_rev = 0 })
        unchanged(refuses, "conflict", "json_remove", "k", "", { if_rev = 0 })
        refuses("conflict", ns:json_set("new", "a", 2, { if_rev = rev }))
        rev = assert(ns:json_set("k", "a", 2, { if_rev = rev }))
        gives(store, 3, ns:json_increment("k", "a", 1, { if_rev = rev }))
        ns:json_set("new", "a", 1, { if_rev = 0 })
        put '{"l":[1,2]}'
        gives(store, 2, ns:json_pop("k", "l", -1, { if_rev = store:rev() }))
        gives(store, true, ns:json_remove("k", "", { if_rev = store:rev() }))
      end)

      it("are checked, with a hint for near misses", function()
        raises({ "unknown option 'expirationTtl'", "'ttl'" }, ns.json_set, ns, "k", "a", 1,
          { expirationTtl = 1 })
        raises({ "unknown option 'if_version'", "'if_rev'" }, ns.json_increment, ns, "k", "a", 1,
          { if_version = 1 })
        raises({ "unknown option 'craete'", "'create'" }, ns.json_push, ns, "k", "a", 1,
          { craete = false })
        raises({ "unknown option 'nx'", "'set_if'" }, ns.json_set, ns, "k", "a", 1, { nx = true })
        raises({ "unknown option 'as'" }, ns.json_set, ns, "k", "a", 1, { as = "json" })
        raises({ "create", "true or false" }, ns.json_set, ns, "k", "a", 1, { create = "no" })
        raises({ "set_if" }, ns.json_set, ns, "k", "a", 1, { set_if = "maybe" })
        raises({ "ttl" }, ns.json_set, ns, "k", "a", 1, { ttl = -1 })
        raises({ "options" }, ns.json_set, ns, "k", "a", 1, "ttl")
        raises({ "milliseconds" }, ns.json_set, ns, "k", "a", 1, { expiration = 1e12 })
        assert.is_false(ns:exists("k"))
      end)
    end)

    describe("a string that holds JSON text", function()
      it("is edited and stays a string", function()
        ns:put("k", ' {"n":1,"l":[]} ', { metadata = { a = 1 } })
        gives(store, 2, ns:json_increment("k", "n"))
        gives(store, 1, ns:json_push("k", "l", "x"))
        ns:json_set("k", "m", true)
        returns(' {"n":2,"l":["x"],"m":true} ', ns:get("k"))
        assert.same({ a = 1 }, ns:entry("k").metadata)
        ns:json_set("k", "", 5)
        returns("string", type(ns:get("k")))
        ns:json_set("k", "", { a = 1 })
        returns('{"a":1}', ns:get("k"))
        ns:put("n", "41")
        gives(store, 42, ns:json_increment("n", ""))
        returns("42", ns:get("n"))
      end)

      it("is refused when it is no JSON", function()
        for _, bad in ipairs { "", "hello", '{"a":1', '{"a":1}x', "{'a':1}", "NaN", '{"a":01}',
          '{"a":"\1"}', '{"a":1e999}' } do
          ns:put("k", bad)
          unchanged(fails, "not_json", "json_set", "k", "a", 1)
          unchanged(fails, "not_json", "json_set", "k", "", 1)
          unchanged(fails, "not_json", "json_increment", "k", "a")
          unchanged(fails, "not_json", "json_push", "k", "a", 1)
          unchanged(fails, "not_json", "json_pop", "k", "a")
          unchanged(fails, "not_json", "json_remove", "k", "a")
          unchanged(fails, "not_json", "json_remove", "k", "")
          unchanged(fails, "not_json", "json_merge", "k", { a = 1 })
          unchanged(fails, "not_json", "json_toggle", "k", "a")
          unchanged(fails, "not_json", "json_append", "k", "a", "x")
        end
        ns:put("k", ("["):rep(100000))
        unchanged(fails, "too_deep", "json_set", "k", "[0]", 1)
      end)
    end)

    describe("bad input", function()
      it("raises for arguments of the wrong type", function()
        put '{"a":1}'
        raises({ "key" }, ns.json_set, ns, 5, "a", 1)
        raises({ "key" }, ns.json_set, ns, "", "a", 1)
        raises({ "path" }, ns.json_set, ns, "k", 5, 1)
        raises({ "path" }, ns.json_get, ns, "k", true)
        raises({ "path" }, ns.json_get, ns, "k", { "a", 1.5 })
        raises({ "path" }, ns.json_get, ns, "k", { "a", {} })
        raises({ "path" }, ns.json_get, ns, "k", { true })
        -- no path of the whole document, which would go
        raises({ "path", "if_rev" }, ns.json_remove, ns, "k", { if_rev = 1 })
        raises({ "path" }, ns.json_set, ns, "k", { "a", x = 1 }, 1)
        raises({ "path" }, ns.json_get, ns, "k", { "a", nil, "b" })
        raises({ "path" }, ns.json_get, ns, "k", { nil, "b" })
        raises({ "value", "nil" }, ns.json_set, ns, "k", "a")
        raises({ "value", "nil" }, ns.json_push, ns, "k", "a", nil)
        raises({ "by" }, ns.json_increment, ns, "k", "a", "1")
        raises({ "by", "NaN" }, ns.json_increment, ns, "k", "a", 0 / 0)
        raises({ "by", "infinite" }, ns.json_increment, ns, "k", "a", 1 / 0)
        raises({ "index" }, ns.json_pop, ns, "k", "a", 1.5)
        raises({ "index" }, ns.json_pop, ns, "k", "a", "0")
        raises({ "patch", "nil" }, ns.json_merge, ns, "k")
        raises({ "ns:json_set" }, ns.json_set, "k", "a", 1)
        assert.equal('{"a":1}', text())
      end)

      it("raises for values that JSON cannot carry, and names the place", function()
        put '{"a":1}'
        local cycle = {}
        cycle.inside = { cycle }
        raises({ "NaN" }, ns.json_set, ns, "k", "a", 0 / 0)
        raises({ "infinity" }, ns.json_set, ns, "k", "a", -1 / 0)
        raises({ "value.x[2]", "NaN" }, ns.json_set, ns, "k", "a", { x = { 1, 0 / 0 } })
        raises({ "value", "contains itself" }, ns.json_set, ns, "k", "a", cycle)
        raises({ "patch", "contains itself" }, ns.json_merge, ns, "k", cycle)
        raises({ "value", "UTF-8" }, ns.json_set, ns, "k", "a", "\255")
        raises({ "value", "function" }, ns.json_set, ns, "k", "a", print)
        raises({ "value" }, ns.json_push, ns, "k", "a", { 1, nil, 3, x = 1 })
        assert.equal('{"a":1}', text())
      end)

      it("refuses keys and documents that are too big", function()
        fails("too_big", ns:json_set(("k"):rep(513), "a", 1))
        fails("too_big", ns:json_get(("k"):rep(513), "a"))
        local small = new({ max_value = 1000 }):namespace("small")
        small:json_set("k", "a", ("x"):rep(900))
        local before = small:get("k", "text")
        fails("too_big", small:json_set("k", "b", ("x"):rep(900)))
        fails("too_big", small:json_push("k", "b", ("x"):rep(900)))
        fails("too_big", small:json_append("k", "a", ("x"):rep(100)))
        fails("too_big", small:json_merge("k", { c = ("x"):rep(900) }))
        assert.equal(before, small:get("k", "text"))
        -- 91 bytes are left, and {"b":...} takes some of them.
        assert(small:json_append("k", "a", ("y"):rep(1000 - #before)))
        assert.equal(1000, #small:get("k", "text"))
        fails("too_big", small:json_append("k", "a", "z"))
        assert(small:json_set("k", "a", 1))
      end)

      it("refuses what would be nested deeper than 128 levels", function()
        local deepest = ("[0]"):rep(128)
        ns:json_set("k", deepest, 1)
        assert.equal(("["):rep(128) .. "1" .. ("]"):rep(128), text())
        unchanged(fails, "too_deep", "json_set", "k", deepest, {})
        unchanged(fails, "too_deep", "json_set", "k", deepest, kv.array())
        unchanged(fails, "too_deep", "json_set", "k", ("[0]"):rep(129), 1)
        unchanged(fails, "too_deep", "json_set", "k", ("[0]"):rep(100000), 1)
        unchanged(fails, "not_an_array", "json_push", "k", deepest, 1)
        ns:json_set("k", ("[0]"):rep(127), kv.array())
        unchanged(fails, "too_deep", "json_push", "k", ("[0]"):rep(127), {})
        gives(store, 1, ns:json_push("k", ("[0]"):rep(127), 1))
        fails("too_deep", ns:json_push("new", deepest, 1))
        fails("too_deep", ns:json_insert("new", ("[0]"):rep(128), {}))
        returns(nil, ns:json_get("k", ("[0]"):rep(129)))
        local nested = {}
        for _ = 1, 127 do nested = { nested } end
        ns:json_set("k", "", nested)
        unchanged(fails, "too_deep", "json_set", "k", "[0]", nested)
        raises({ "patch.a", "128 levels" }, ns.json_merge, ns, "k", { a = nested })
      end)
    end)

    it("moves a document between the log and a file of its own", function()
      local long = ("x"):rep(100000)
      put '{"a":"","n":1}'
      ns:json_set("k", "a", long)
      gives(store, 2, ns:json_increment("k", "n"))
      assert.equal(#long, ns:json_length("k", "a"))
      assert.equal('{"a":"' .. long .. '","n":2}', text())
      ns:json_append("k", "a", long)
      assert.equal(2 * #long, ns:json_length("k", "a"))
      ns:json_set("k", "a", "short")
      assert.equal('{"a":"short","n":2}', text())
      assert.is_true(store:check())
      ns:put("s", '"' .. long .. '"')
      gives(store, #long + 1, ns:json_append("s", "", "y"))
      returns('"' .. long .. 'y"', ns:get("s"))
      store = new.again(store)
      ns = store:namespace("documents")
      assert.equal('{"a":"short","n":2}', text())
      returns('"' .. long .. 'y"', ns:get("s"))
      assert.is_true(store:check())
    end)

    it("works on a bound namespace, whose messages name nothing", function()
      local bound = ns:bind()
      gives(store, 1, bound.json_increment("k", "n"))
      returns(1, bound.json_get("k", "n"))
      for _, name in ipairs { "json_get", "json_type", "json_length", "json_keys", "json_set",
        "json_increment", "json_incr", "json_push", "json_extend", "json_insert", "json_pop",
        "json_remove", "json_merge", "json_toggle", "json_append" } do
        assert.is_function(bound[name])
        assert.is_function(kv[name])
        assert.is_function(ns[name])
      end
      fails("bad_path", bound.json_set("k", "a..b", 1))
      raises({ "kv.json_set" }, bound.json_set, bound, "k", "a", 1)
      fails("not_an_object", bound.json_set("k", "n.x", 1))
    end)

    it("is the same after opening again", function()
      ns:json_set("k", "a.b", { 1, 2 })
      ns:json_increment("k", "n", 0.5)
      store = new.again(store)
      ns = store:namespace("documents")
      assert.equal('{"a":{"b":[1,2]},"n":0.5}', text())
      gives(store, 3, ns:json_push("k", "a.b", 3))
    end)

    it("reads and refuses to edit what is open for reading only", function()
      if not new.reopens then return end
      put '{"a":1}'
      local readonly = new.again(store, { readonly = true })
      local same = readonly:namespace("documents", { create = false })
      returns(1, same:json_get("k", "a"))
      fails("readonly", same:json_set("k", "a", 2))
      fails("readonly", same:json_increment("k", "a"))
      fails("readonly", same:json_pop("k", "a"))
      fails("readonly", same:json_remove("k", ""))
      returns(1, same:json_get("k", "a"))
    end)

    it("sees a dropped namespace empty, and makes it anew", function()
      put '{"a":1}'
      store:drop("documents")
      returns(nil, ns:json_get("k", "a"))
      returns(false, ns:json_remove("k", "a"))
      gives(store, 1, ns:json_increment("k", "a"))
      assert.equal('{"a":1}', text())
    end)
  end)
end)

helper.with_hooks("JSON fields and time", function(hooked, core)
  helper.each_store(function(new)
    it("an expired document is not there", function()
      local ns = new():namespace("n")
      ns:put("k", { n = 5, list = { 1 } }, { ttl = 10, metadata = { m = 1 } })
      local id = ns:entry("k").id
      returns(5, ns:json_get("k", "n"))
      core.test_clock(20)
      returns(nil, ns:json_get("k", "n"))
      returns(nil, ns:json_pop("k", "list"))
      returns(false, ns:json_remove("k", "n"))
      refuses("not_found", ns:json_set("k", "n", 1, { create = false }))
      assert.equal(1, (ns:json_increment("k", "n")))
      local entry = ns:entry("k")
      assert.same({ n = 1 }, entry.value)
      assert.is_nil(entry.expiration)
      assert.is_nil(entry.metadata)
      assert.not_equal(id, entry.id)
    end)
  end, hooked)
end)
