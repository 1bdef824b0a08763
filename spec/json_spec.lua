-- SPDX-License-Identifier: MIT
--
-- json_spec.lua - kv.encode, kv.decode, kv.array, kv.null: Lua values <-> JSON text, exactly.
-- What was encoded reads back equal, or encode raises and names the place.
-- Random parts print their seed; SEED=n in the environment repeats a run.

local kv = require "kv"
local has_cjson, cjson = pcall(require, "cjson")

local integers = math.type ~= nil -- 5.3 and later: integers are a type of their own
local seed = tonumber(os.getenv("SEED")) or os.time()

local function kind(n)
  return integers and math.type(n) or "number"
end

-- Equal in every respect a program could see, down to 1 against 1.0 and 0 against -0.
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == "number" then
    return kind(a) == kind(b) and a == b and (a ~= 0 or 1 / a == 1 / b)
  end
  if type(a) ~= "table" then return a == b end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

-- Equal as JSON understands it: what lua-cjson, which has floats only, can be compared by.
local function alike(a, b)
  if type(a) == "table" and type(b) == "table" then
    for k, v in pairs(a) do
      if not alike(v, b[k]) then return false end
    end
    for k in pairs(b) do
      if a[k] == nil then return false end
    end
    return true
  end
  return a == b
end

local function refusal(value)
  local ok, message = pcall(kv.encode, value)
  assert.is_false(ok)
  assert.is_string(message)
  return message
end

local function raises(place, value)
  local message = refusal(value)
  assert(message:find(place .. ": ", 1, true) == 1, "the message names another place: " .. message)
  return message
end

local function nested(levels)
  local t = {}
  for _ = 2, levels do t = { t } end
  return t
end

describe("kv.encode", function()
  it("spells scalars", function()
    assert.equal("null", kv.encode(kv.null))
    assert.equal("true", kv.encode(true))
    assert.equal("false", kv.encode(false))
    assert.equal("1", kv.encode(1))
    assert.equal("-17", kv.encode(-17))
    assert.equal("0.5", kv.encode(0.5))
    assert.equal('"text"', kv.encode("text"))
    assert.equal('""', kv.encode(""))
    assert.equal('"12"', kv.encode("12"))
  end)

  it("escapes what must be and nothing else", function()
    assert.equal([["\"\\/\b\f\n\r\t"]], kv.encode('"\\/\b\f\n\r\t'))
    assert.equal([["\u0000\u0001\u001f]] .. '\127"', kv.encode("\0\1\31\127"))
    assert.equal('"Größe 😀"', kv.encode("Größe 😀"))
    assert.equal('{"a\\nb":"\\u0000"}', kv.encode({ ["a\nb"] = "\0" }))
    for n = 0, 70 do
      local s = ("x"):rep(n)
      assert.equal('"' .. s .. '"', kv.encode(s))
      assert.equal('"' .. s .. '\\n' .. s .. '"', kv.encode(s .. "\n" .. s))
      assert.equal('"' .. s .. 'é' .. s .. '"', kv.encode(s .. "é" .. s))
    end
  end)

  it("takes 1..n for an array, names for an object, nothing for an object", function()
    assert.equal("[1,2,3]", kv.encode({ 1, 2, 3 }))
    assert.equal('{"a":1}', kv.encode({ a = 1 }))
    assert.equal("{}", kv.encode({}))
    assert.equal('[[],{},[{"a":[false]}]]', kv.encode({ kv.array(), {}, { { a = { false } } } }))
  end)

  it("finds arrays however the table was built", function()
    local t = {}
    for i = 20, 1, -1 do t[i] = i end
    assert.equal("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]", kv.encode(t))
    t = { x = 1, y = 2, z = 3 }
    t[3], t[1], t[2] = "c", "a", "b"
    t.x, t.y, t.z = nil, nil, nil
    assert.equal('["a","b","c"]', kv.encode(t))
    t = { 1, 2, 3, 4, 5 }
    t[5], t[4] = nil, nil
    assert.equal("[1,2,3]", kv.encode(t))
    t = {}
    t[2.0], t[1.0] = "two", "one"
    assert.equal('["one","two"]', kv.encode(t))
    for n = 1, 300 do
      t = {}
      for i = 1, n do t[(i * 7) % n + 1] = true end
      for i = 1, n do t[i] = i end
      assert.equal("[" .. (function()
        local s = {}
        for i = 1, n do s[i] = tostring(i) end
        return table.concat(s, ",")
      end)() .. "]", kv.encode(t))
    end
  end)

  it("writes every number so that it reads back equal", function()
    local inputs = { 0, 1, -1, 0.1, 1 / 3, 2 / 3, 0.1 + 0.2, 1e15, 1e16, 1e17, 1e21, 1e22, 1e23,
      1e100, 1e-5, 1e-6, 1e-7, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2 ^ 31,
      2 ^ 32, 2 ^ 53, 2 ^ 53 - 1, 2 ^ 53 + 2, 2 ^ 63, 2 ^ 64, -2 ^ 63, 123456789012345,
      1234567890123456, 19.99, 100.25, 4503599627370495.5, 2 ^ -44, 0.0, 3.0, -3.0 }
    for _, n in ipairs(inputs) do
      assert(same(n, kv.decode(kv.encode(n))), kv.encode(n))
      assert(same(-n, kv.decode(kv.encode(-n))), kv.encode(-n))
      assert(same({ n }, kv.decode(kv.encode({ n }))))
    end
    local zero = 0.0
    assert.equal(-math.huge, 1 / kv.decode(kv.encode(-zero)))
    assert.equal("0.30000000000000004", kv.encode(0.1 + 0.2))
    assert.equal("0.3333333333333333", kv.encode(1 / 3))
  end)

  if integers then
    it("keeps integers and floats apart", function()
      assert.equal("1.0", kv.encode(1.0))
      assert.equal("1", kv.encode(1))
      assert.equal("9007199254740992.0", kv.encode(2.0 ^ 53))
      assert.equal("9223372036854775807", kv.encode(math.maxinteger))
      assert.equal("-9223372036854775808", kv.encode(math.mininteger))
      assert.equal("9007199254740993", kv.encode(9007199254740993))
      assert(same(math.maxinteger, kv.decode("9223372036854775807")))
      assert(same(math.mininteger, kv.decode("-9223372036854775808")))
      assert(same(2.0 ^ 63, kv.decode("9223372036854775808")))
    end)
  else
    it("writes integral numbers up to 2^53 as integers", function()
      assert.equal("1", kv.encode(1.0))
      assert.equal("9007199254740992", kv.encode(2 ^ 53))
      assert.equal("-9007199254740992", kv.encode(-2 ^ 53))
      assert.equal("9.007199254740994e15", kv.encode(2 ^ 53 + 2))
      assert.equal(2 ^ 63, kv.decode("9223372036854775807"))
    end)
  end

  it("names the place of what it refuses", function()
    raises("value", 0 / 0)
    raises("value", math.huge)
    raises("value", -math.huge)
    raises("value", print)
    raises("value", coroutine.create(function() end))
    raises("value", io.stdout)
    raises("value", "\255")
    raises("value", nil)
    assert.matches("NaN", raises("value.items[3]", { items = { 1, 2, 0 / 0 } }))
    assert.matches("infinity", raises("value.a.b", { a = { b = math.huge } }))
    assert.matches("function", raises("value[2]", { 1, print }))
    assert.matches("userdata", raises("value.f", { f = io.stdout }))
    assert.matches("thread", raises("value.t", { t = coroutine.create(function() end) }))
    assert.matches("UTF%-8", raises('value["odd key"]', { ["odd key"] = "\200" }))
    raises('value["a.b"][1].c', { ["a.b"] = { { c = print } } })
    raises('value[""]', { [""] = print })
    raises('value["\\"\\\\"]', { ['"\\'] = print })
    raises('value["1"]', { ["1"] = print })
    raises('value["\\000\\010"]', { ["\0\n"] = print })
    raises('value["größe"]', { ["größe"] = print })
    raises("value[1][1][1].x", { { { { x = print } } } })
  end)

  it("refuses every kind of text that is not UTF-8, in values and in keys", function()
    for _, s in ipairs({ "\128", "\191", "\192\128", "\193\191", "\194", "\195(",
      "\224\128\128", "\226\130", "\237\160\128", "\240\128\128\128", "\240\159\152",
      "\244\144\128\128", "\245\128\128\128", "\255" }) do
      raises("value", s)
      raises("value", ("x"):rep(40) .. s .. ("x"):rep(40))
      raises("value[1]", { "a" .. s .. "b" })
      assert.matches('^value%[".+"%]: the key is not UTF%-8$', refusal({ [s] = 1 }))
    end
  end)

  it("refuses holes, mixed keys and other keys", function()
    raises("value[3]", { 1, 2, nil, 4 })
    raises("value[1]", { [2] = 1 })
    raises("value[1]", { [1e6] = 1 })
    raises("value.list[2]", { list = { 1, [3] = 3 } })
    raises("value[0]", { [0] = 1 })
    raises("value[0]", { [0] = 1, 2 })
    raises("value[-1]", { [-1] = 1 })
    raises("value[1.5]", { [1.5] = 1 })
    raises("value.x", { 1, 2, x = 3 })
    raises("value.a", { a = { [true] = 1 } })
    assert.matches("boolean", raises("value", { [false] = 1 }))
    assert.matches("table", raises("value", { [{}] = 1 }))
    assert.matches("function", raises("value", { 1, [print] = 1 }))
    assert.is_false((pcall(kv.encode, { [1] = "a", one = "b" })))
    assert.is_false((pcall(kv.encode, { [2 ^ 53] = 1 })))
    assert.is_false((pcall(kv.encode, { [math.huge] = 1 })))
    assert.is_false((pcall(kv.encode, { [-math.huge] = 1, 2 })))
  end)

  it("refuses cycles and says where they close", function()
    local t = {}
    t.self = t
    assert.matches("itself", raises("value.self", t))
    t = { a = { b = {} } }
    t.a.b[1] = t.a
    assert.matches("itself", raises("value.a.b[1]", t))
    t = { 1, 2 }
    t[3] = { x = t }
    assert.matches("itself", raises("value[3].x", t))
    t = nested(100)
    t[1] = t
    assert.matches("itself", raises("value[1]", t))
  end)

  it("allows 128 levels and a table in two places", function()
    local shared = { 1 }
    assert.equal("[[1],[1],[[1]]]", kv.encode({ shared, shared, { shared } }))
    assert.equal(("["):rep(127) .. "{}" .. ("]"):rep(127), kv.encode(nested(128)))
    assert.matches("^value%[1%].*%[1%]: .*128 levels$", refusal(nested(129)))
    assert.matches("^value%[1%].*%[1%]: .*128 levels$", refusal(nested(5000)))
  end)

  it("keeps messages short", function()
    local t = print
    for i = 1, 100 do t = { [("long name, "):rep(20) .. i] = t } end
    assert(#refusal(t) < 500)
  end)

  it("reads tables raw", function()
    local function forbidden() error("a metamethod ran") end
    local t = setmetatable({ a = 1 }, { __index = forbidden, __pairs = forbidden, __metatable = 1,
      __len = forbidden, __ipairs = forbidden, __tostring = forbidden, __call = forbidden })
    assert.equal('{"a":1}', kv.encode(t))
    assert.equal("{}", kv.encode(setmetatable({}, { __index = { a = 1 } })))
    assert.equal("[1]", kv.encode(setmetatable({ 1 }, { __index = { [2] = 2 } })))
  end)

  it("needs an argument", function()
    assert.has_error(function() kv.encode() end)
  end)

  it("survives an encode inside an encode, from a finalizer", function()
    local runs = 0
    local function finalizer()
      runs = runs + 1
      assert(kv.encode({ x = ("y"):rep(3000) }) == '{"x":"' .. ("y"):rep(3000) .. '"}')
    end
    local want = {}
    for i = 1, 3000 do want[i] = "item number " .. i end
    local text = kv.encode(want)
    for _ = 1, 20 do
      for _ = 1, 20 do
        if newproxy then -- luacheck: ignore
          getmetatable(newproxy(true)).__gc = finalizer -- luacheck: ignore
        else
          setmetatable({}, { __gc = finalizer })
        end
      end
      assert.equal(text, kv.encode(want))
    end
    collectgarbage()
    assert(runs > 0)
    assert.equal(text, kv.encode(want))
  end)

  it("goes on after errors", function()
    for i = 1, 2000 do
      assert.is_false((pcall(kv.encode, { ("x"):rep(i), { print } })))
    end
    assert.equal("[1]", kv.encode({ 1 }))
  end)

  it("works in a coroutine", function()
    local co = coroutine.wrap(function(v) coroutine.yield(kv.encode(kv.decode(kv.encode(v)))) end)
    assert.equal(kv.encode(nested(128)), co(nested(128)))
  end)
end)

describe("kv.decode", function()
  it("reads scalars", function()
    assert.equal(kv.null, kv.decode("null"))
    assert.equal(true, kv.decode("true"))
    assert.equal(false, kv.decode(" false "))
    assert.equal("a", kv.decode('"a"'))
    assert(same(1, kv.decode("1")))
    assert(same(-0.5, kv.decode("-0.5")))
    assert.equal(2, select("#", kv.decode("1"), 1))
  end)

  it("tells integers from floats by their spelling", function()
    if integers then
      assert.equal("integer", math.type(kv.decode("1")))
      for _, s in ipairs({ "1.0", "1e0", "1E2", "-0", "-0.0", "9223372036854775808", "1e-5" }) do
        assert.equal("float", math.type(kv.decode(s)))
      end
    end
    assert.equal(100, kv.decode("1e2"))
    assert.equal(-math.huge, 1 / kv.decode("-0"))
    assert.equal(-math.huge, 1 / kv.decode("[-0.0]")[1])
    assert.equal(math.huge, 1 / kv.decode("0"))
  end)

  it("decodes every escape", function()
    assert.equal('"\\/\b\f\n\r\t', kv.decode([["\"\\\/\b\f\n\r\t"]]))
    assert.equal("\0A\195\169\226\130\172", kv.decode([["\u0000\u0041\u00e9\u20AC"]]))
    assert.equal("😀", kv.decode([["\ud83d\ude00"]]))
    assert.equal(1, kv.decode([[{"\u0000\n":1}]])["\0\n"])
    for _, n in ipairs({ 1, 100, 511, 512, 513, 5000, 100000 }) do
      assert.equal(("x"):rep(n) .. "\n", kv.decode('"' .. ("x"):rep(n) .. '\\n"'))
      assert.equal(("\t"):rep(n), kv.decode('"' .. ("\\t"):rep(n) .. '"'))
      assert.equal(1, kv.decode('{"' .. ("\\t"):rep(n) .. '":1}')[("\t"):rep(n)])
    end
  end)

  it("keeps arrays arrays and objects objects", function()
    for _, s in ipairs({ "[]", "{}", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}', "[[],{},[1]]",
      '["x",null,false]' }) do
      assert.equal(s, kv.encode(kv.decode(s)))
    end
    local t = kv.decode("[1]")
    t[1] = nil
    assert.equal("[]", kv.encode(t))
  end)

  it("lets the last of duplicate members win", function()
    assert.equal(2, kv.decode('{"a":1,"a":2}').a)
    assert.equal(kv.null, kv.decode('{"a":1,"\\u0061":null}').a)
  end)

  it("reads null as kv.null, equal to the light userdata of others", function()
    local t = kv.decode('{"a":null,"b":[null,null]}')
    assert.equal(kv.null, t.a)
    assert.equal(kv.null, t.b[2])
    if has_cjson then assert.equal(cjson.null, t.a) end
  end)

  it("fails with nil, message, code", function()
    for text, byte in pairs({
      [""] = 1, [" "] = 2, ["nul"] = 4, ["[1,]"] = 4, ["{"] = 2, ['{"a"}'] = 5, ["01"] = 2,
      ["1."] = 3, ["'a'"] = 1, ['"\\x"'] = 2, ['"\255"'] = 2, ['"a\nb"'] = 3, ['"\\ud800"'] = 2,
      ["[1] x"] = 5, ["NaN"] = 1, ["0x10"] = 2, ["1e999"] = 1, ["[1e999]"] = 2, ["{'a':1}"] = 2,
      ["// x"] = 1, ['"\0"'] = 2,
    }) do
      local value, message, code = kv.decode(text)
      assert.is_nil(value)
      assert.equal("not_json", code)
      assert.matches("byte " .. byte .. "$", message)
    end
  end)

  it("has the limit of 128 levels for every kind of nesting", function()
    for _, pair in ipairs({ { "[", "]" }, { '{"a":', "}", "1" }, { '[{"b":', "}]", "1", 2 } }) do
      local n = 128 / (pair[4] or 1)
      local text = pair[1]:rep(n) .. (pair[3] or "") .. pair[2]:rep(n)
      assert.equal(text, kv.encode(assert(kv.decode(text))))
      local value, message, code = kv.decode("[" .. text .. "]")
      assert.is_nil(value)
      assert.is_string(message)
      assert.equal("too_deep", code)
    end
    assert.equal("too_deep", select(3, kv.decode(("["):rep(100000))))
    assert.equal("not_json", select(3, kv.decode(("["):rep(128))))
  end)

  it("refuses every truncation", function()
    local text = '{"name":"J\\u00f6 \\ud83d\\ude00é","list":[1,-2.5e+10,true,null,[],{}],"":-0}'
    assert(kv.decode(text))
    for n = 0, #text - 1 do
      local value, message, code = kv.decode(text:sub(1, n))
      assert.is_nil(value)
      assert.equal("not_json", code)
      assert.matches("byte " .. (n + 1) .. "$", message)
    end
  end)

  it("takes strings only", function()
    for _, v in ipairs({ 1, true, {}, print }) do
      assert.has_error(function() kv.decode(v) end)
    end
    assert.has_error(function() kv.decode() end)
    assert.has_error(function() kv.decode(nil) end)
  end)

  it("reads large documents", function()
    local t = {}
    for i = 1, 20000 do t[i] = { id = i, name = "name " .. i, tags = { "a", "b" }, x = i / 8 } end
    local text = kv.encode(t)
    assert(same(t, kv.decode(text)))
    local big = ("é\n"):rep(100000)
    assert.equal(big, kv.decode(kv.encode({ big }))[1])
  end)
end)

describe("kv.array", function()
  it("makes an empty table an array", function()
    assert.equal("[]", kv.encode(kv.array()))
    assert.equal("[]", kv.encode(kv.array({})))
    assert.equal("[]", kv.encode(kv.array(nil)))
    local t = {}
    assert.equal(t, kv.array(t))
    assert.equal(t, kv.array(t))
    t[1] = 5
    assert.equal("[5]", kv.encode(t))
    assert.equal('{"list":[]}', kv.encode({ list = kv.array() }))
  end)

  it("holds to it: names and holes raise", function()
    raises("value.x", kv.array({ x = 1 }))
    raises("value.x", kv.array({ 1, x = 1 }))
    raises("value.list[2]", { list = kv.array({ 1, nil, 3 }) })
    raises("value[1]", kv.array({ [5] = 1 }))
  end)

  it("hides the tag", function()
    local t = kv.array()
    assert.equal(false, getmetatable(t))
    assert.equal(false, getmetatable(kv.decode("[]")))
    assert.is_nil(getmetatable(kv.decode("{}")))
    assert.has_error(function() setmetatable(t, {}) end)
    assert.has_error(function() setmetatable(t, nil) end)
  end)

  it("takes tables only, and leaves classes alone", function()
    assert.has_error(function() kv.array(1) end)
    assert.has_error(function() kv.array("x") end)
    assert.has_error(function() kv.array(setmetatable({}, {})) end)
  end)
end)

describe("lua-cjson", function()
  local function documents()
    return { "[]", "[1,2,3]", '{"a":1}', '{"a":{"b":[1,{"c":null}]}}', "[true,false,null]",
      '["\\u00e9\\ud83d\\ude00\\n\\t\\"\\\\"]', "[0.5,-1.25,1e3,123456789]", '{"":""}', '[" x "]',
      "[[[[[]]]]]", "[-17]", "[0.1,0.2,19.99]" }
  end

  it("reads and is read alike where it is exact", function()
    if not has_cjson then return pending("lua-cjson is not installed") end
    for _, text in ipairs(documents()) do
      local theirs, ours = cjson.decode(text), kv.decode(text)
      assert(alike(theirs, ours), text)
      assert(alike(cjson.decode(kv.encode(ours)), ours), text)
      assert(alike(kv.decode(cjson.encode(theirs)), theirs), text)
    end
  end)

  it("shares null", function()
    if not has_cjson then return pending("lua-cjson is not installed") end
    assert.equal("[null]", kv.encode({ cjson.null }))
    assert.equal("[null]", cjson.encode({ kv.null }))
  end)

  -- The marks are those of newer versions: stand-ins are put into whatever is loaded as "cjson".
  it("has its array marks understood", function()
    local loaded = package.loaded["cjson"]
    local array_mt, empty_array_mt = {}, {}
    package.loaded["cjson"] = { array_mt = array_mt, empty_array_mt = empty_array_mt }
    local ok, message = pcall(function()
      assert.equal("[]", kv.encode(setmetatable({}, array_mt)))
      assert.equal("[]", kv.encode(setmetatable({}, empty_array_mt)))
      assert.equal("[1]", kv.encode(setmetatable({ 1 }, array_mt)))
      assert.equal('{"a":1}', kv.encode(setmetatable({ a = 1 }, empty_array_mt)))
      raises("value.a", setmetatable({ a = 1 }, array_mt))
      assert.equal("{}", kv.encode(setmetatable({}, {})))
      local t = setmetatable({}, array_mt)
      assert.equal(t, kv.array(t))
      assert.equal(array_mt, getmetatable(t))
      assert.equal("[]", kv.encode(kv.array(setmetatable({}, empty_array_mt))))
      package.loaded["cjson"] = "not a table"
      assert.equal("{}", kv.encode(setmetatable({}, array_mt)))
      package.loaded["cjson"] = setmetatable({}, { __index = function() error("not raw") end })
      assert.equal("{}", kv.encode(setmetatable({}, array_mt)))
    end)
    package.loaded["cjson"] = loaded
    if not ok then error(message, 0) end
  end)

  it("has its own marks understood, where it has them", function()
    if not has_cjson then return pending("lua-cjson is not installed") end
    if cjson.empty_array ~= nil then
      assert.equal("[[]]", kv.encode({ cjson.empty_array }))
    end
    if cjson.array_mt ~= nil then
      assert.equal("[]", kv.encode(setmetatable({}, cjson.array_mt)))
    end
    assert.equal("{}", kv.encode(setmetatable({}, {})))
  end)
end)

describe("random values", function()
  local function random_string()
    local pool = { "a", "z", "0", " ", '"', "\\", "\n", "\0", "\31", "\127", "é", "€", "😀", "/",
      "plain words" }
    local parts = {}
    for i = 1, math.random(0, 12) do parts[i] = pool[math.random(#pool)] end
    return table.concat(parts)
  end

  local function random_number()
    local n = math.random(7)
    if n == 1 then return math.random(-1000, 1000) end
    if n == 2 then return math.random() end
    if n == 3 then return math.random(0, 100000) / 100 end
    if n == 4 then return (math.random() - 0.5) * 10 ^ math.random(-300, 300) end
    if n == 5 then return math.random(0, 2 ^ 31 - 1) * 2 ^ math.random(0, 40) end
    if n == 6 then return math.random(0, 2 ^ 31 - 1) * (2 ^ 20) + math.random(0, 2 ^ 20) end
    return -math.random(0, 2 ^ 31 - 1) / 2 ^ math.random(0, 60)
  end

  local function random_value(depth)
    local n = math.random(depth > 0 and 8 or 5)
    if n == 1 then return random_string() end
    if n <= 3 then return random_number() end
    if n == 4 then return math.random(2) == 1 end
    if n == 5 then return kv.null end
    local t = {}
    if n == 6 then
      for i = 1, math.random(0, 12) do t[i] = random_value(depth - 1) end
      return kv.array(t)
    end
    for _ = 1, math.random(0, 12) do t[random_string()] = random_value(depth - 1) end
    return t
  end

  it("come back equal (SEED=" .. seed .. ")", function()
    math.randomseed(seed % 2 ^ 31)
    for _ = 1, 2000 do
      local value = random_value(5)
      local text = kv.encode(value)
      local back = kv.decode(text)
      if not same(value, back) then error("SEED=" .. seed .. ": " .. text) end
      local again = kv.encode(back)
      if #again ~= #text then error("SEED=" .. seed .. ": " .. text .. " then " .. again) end
      if has_cjson and type(value) == "table" and not alike(cjson.decode(text), back) then
        error("SEED=" .. seed .. ": cjson reads otherwise: " .. text)
      end
    end
  end)
end)
