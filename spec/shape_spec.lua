-- SPDX-License-Identifier: MIT
--
-- shape_spec.lua - the module, its default store, dots and colons, bound handles, and that nothing
-- leads out of one.

local kv = require "kv"
local helper = require "helper"

local fails, raises = helper.fails, helper.raises

local operations = {
  "put", "set", "get", "get_with_metadata", "entry", "exists", "delete", "list", "pairs", "keys",
  "count", "get_all", "ttl", "expire", "persist", "incr", "get_many", "put_many", "delete_many",
  "delete_prefix", "clear", "swap", "take", "writer", "import", "export",
  "json_get", "json_type", "json_length", "json_keys", "json_set", "json_increment", "json_incr",
  "json_push", "json_extend", "json_insert", "json_pop", "json_remove", "json_merge", "json_toggle",
  "json_append",
}

describe("the module", function()
  it("is what require returns, and makes no globals", function()
    assert.equal("ok", helper.run([[
      local before = {}
      for name in pairs(_G) do before[name] = true end
      local kv = require "kv"
      kv.use(":memory:")
      kv.put("k", { 1 })
      kv.get("k")
      for name in pairs(_G) do if not before[name] then print("global " .. name) end end
      io.write("ok")
    ]]))
  end)

  it("reads no global that may not be there, which a strict program forbids", function()
    assert.equal("ok", helper.run([[
      setmetatable(_G, {
        __index = function(_, name) error("no global " .. tostring(name), 2) end,
        __newindex = function(_, name) error("a new global " .. tostring(name), 2) end,
      })
      local kv = require "kv"
      local store = kv.open(":memory:")
      local ns, to = store:namespace("a"), kv.manifest(store, { "b" }).B
      local pieces = { "x", "y" }
      assert(ns:put("k", function() return table.remove(pieces, 1) end))
      local file = {}
      assert(ns:export(function(piece) file[#file + 1] = piece end) == 1)
      assert(to.import(function() return table.remove(file, 1) end) == 1)
      assert(to.get("k") == "xy" and to.incr("n") == 1)
      assert(#kv.instances("/nowhere"):list() == 0)
      io.write("ok")
    ]]))
  end)

  it("has every operation, and what a program starts with", function()
    for _, name in ipairs(operations) do assert.equal("function", type(kv[name]), name) end
    for _, name in ipairs { "open", "use", "store", "array", "encode", "decode" } do
      assert.equal("function", type(kv[name]), name)
    end
    assert.equal("userdata", type(kv.null))
    assert.truthy(kv._VERSION:match("^%d+%.%d+"))
  end)

  it("has kv.null equal to the NULL of cjson", function()
    local there, cjson = pcall(require, "cjson")
    if there then assert.equal(cjson.null, kv.null) end
    assert.truthy(tostring(kv.null))
  end)
end)

describe("the default store", function()
  teardown(helper.sweep)

  -- What a new process says; `code` has a function say.
  local function process(code, env)
    local all = { KV_STORE = false, XDG_DATA_HOME = false, HOME = false }
    for name, value in pairs(env or {}) do all[name] = value end
    return helper.run([[
      local kv = require "kv"
      local function say(...)
        for i = 1, select("#", ...) do io.write(i > 1 and " " or "", tostring((select(i, ...)))) end
        io.write("\n")
      end
      ]] .. code, all)
  end

  local function is_store(path)
    local store, message = kv.open(path, { create = false })
    assert(store, message)
    local value = store:namespace("default"):get("k")
    store:close()
    return value
  end

  it("is at $KV_STORE, else below $XDG_DATA_HOME, else below $HOME", function()
    local a, b, c = helper.path(), helper.path(), helper.path()
    assert.equal("", process('kv.put("k", "a")', { KV_STORE = a, XDG_DATA_HOME = b, HOME = c }))
    assert.equal("", process('kv.put("k", "b")', { XDG_DATA_HOME = b, HOME = c }))
    assert.equal("", process('kv.put("k", "c")', { HOME = c }))
    assert.equal("a", is_store(a))
    assert.equal("b", is_store(b .. "/kv/default"))
    assert.equal("c", is_store(c .. "/.local/share/kv/default"))
    assert.equal("c\n", process('say(kv.get("k"))',
      { KV_STORE = "", XDG_DATA_HOME = "", HOME = c }))
  end)

  it("is what kv.use says before all of these", function()
    local a, b = helper.path(), helper.path()
    assert.equal("true\n", process(([[
      say(kv.use(%q))
      kv.put("k", "used")
    ]]):format(b), { KV_STORE = a }))
    assert.equal("used", is_store(b))
    fails("not_found", kv.open(a, { create = false }))
  end)

  it("is not opened before its first use", function()
    local a = helper.path()
    assert.equal("", process(('kv.use(%q)'):format(a)))
    fails("not_found", kv.open(a, { create = false }))
  end)

  it("can be chosen again until its first use, then raises", function()
    local a, b = helper.path(), helper.path()
    local out = process(([[
      kv.use("/nowhere/at/all")
      kv.use(%q)
      kv.put("k", 1)
      say(pcall(kv.use, %q))
      say(pcall(kv.use, %q))
    ]]):format(a, b, a))
    assert.truthy(out:match("^false .-already.-\ntrue true\n$"), out)
  end)

  it("takes the options of open", function()
    local a = helper.path()
    local out = process(([[
      kv.use(%q, { max_value = 100 })
      say(select(3, kv.put("k", ("x"):rep(101))))
      say(pcall(kv.use, %q, { nonsense = 1 }))
      say(pcall(kv.use, 5))
    ]]):format(a, a))
    assert.truthy(out:match("^too_big\nfalse .-'nonsense'.-\nfalse .-'path'"), out)
  end)

  it("raises when no path can be found", function()
    local out = process([[
      say(pcall(kv.get, "k"))
      say(pcall(kv.store))
      kv.use(":memory:")
      say(kv.get("k"))
    ]])
    local first, second, third = out:match("^(.-)\n(.-)\n(.-)\n$")
    for _, line in ipairs { first, second } do
      assert.truthy(line:match("^false .*KV_STORE"), out)
    end
    assert.equal("nil", third)
  end)

  it("that cannot be opened is a failure of each call, and iterators raise", function()
    local a = helper.path(true)
    helper.write_file(a, "a file")
    local out = process([[
      say(select(3, kv.put("k", 1)))
      say(select(3, kv.get("k")))
      say(select(3, kv.store()))
      say((pcall(kv.pairs)))
    ]], { KV_STORE = a })
    assert.equal("unsupported\nunsupported\nunsupported\nfalse\n", out)
  end)

  it("is one store for kv.store() and the operations", function()
    local out = process([[
      kv.use(":memory:")
      say(kv.put("k", 1) == kv.store():rev(), kv.store() == kv.store())
      say(kv.store():namespace("default"):get("k"))
      say(kv.entry("k").namespace)
      kv.store():close()
      say(pcall(kv.get, "k"))
    ]])
    assert.truthy(out:match("^true true\n1\ndefault\nfalse .-closed"), out)
  end)

  it("works with every operation", function()
    local m = helper.facade()
    m.use(":memory:")
    local rev = m.put("a", { x = 1 })
    assert(m.set("b", 2) > rev)
    assert.same({ x = 1 }, m.get("a"))
    assert.equal("a", m.entry("a").key)
    assert.equal(":memory:", m.get_with_metadata("a").instance)
    assert.is_true(m.exists("a"))
    assert.is_true(m.delete("a"))
    assert.equal(1, #m.list().keys)
    for k, v in m.pairs { prefix = "b" } do assert.same({ "b", 2 }, { k, v }) end
    assert.same({ "b" }, m.keys())
    assert.equal(1, m.count())
    assert.same({ b = 2 }, m.get_all())
    assert.is_false(m.ttl("b"))
    assert.is_true(m.expire("b", 100))
    assert.is_true(m.persist("b"))
    assert.equal(3, m.incr("b"))
    assert.same({ b = 3 }, m.get_many { "b" })
    assert.equal(2, m.put_many { c = 1, d = 2 })
    assert.equal(1, m.delete_many { "c" })
    assert.equal(1, m.delete_prefix("d"))
    assert.equal(3, (m.swap("b", 4)))
    assert.equal(4, m.take("b"))
    assert.equal(0, m.clear())
  end)
end)

describe("a dot and a colon", function()
  it("where the other belongs raise and say so", function()
    local store = kv.open(":memory:")
    local ns = store:namespace("a")
    local bound = ns:bind()
    for _, name in ipairs(operations) do
      raises({ "ns:" .. name, "ns." .. name }, ns[name], "key", 1)
      raises({ "ns:" .. name, "ns." .. name }, ns[name])
      raises({ "ns:" .. name }, ns[name], { prefix = "a" })
      raises({ "ns:" .. name }, ns[name], store)
      raises({ "ns:" .. name }, ns[name], io.stdout)
      raises({ "ns:" .. name }, ns[name], kv.null)
      raises({ "kv." .. name, "kv:" .. name }, kv[name], kv, "key", 1)
      raises({ "." .. name, ":" .. name }, bound[name], bound, "key", 1)
    end
    for _, name in ipairs { "array", "encode", "decode" } do
      raises("kv:" .. name, kv[name], kv, "text")
      raises(":" .. name, bound[name], bound, "text")
    end
    raises("kv:open", kv.open, kv, ":memory:")
    raises("kv:use", kv.use, kv, ":memory:")
    raises("kv:store", kv.store, kv)
    raises("ns:bind", ns.bind)
    for _, name in ipairs { "namespace", "namespaces", "drop", "rev", "sync", "tick", "stats",
      "check", "backup", "close" } do
      raises({ "store:" .. name, "store." .. name }, store[name], "a")
      raises({ "store:" .. name }, store[name])
      raises({ "store:" .. name }, store[name], ns)
      raises({ "store:" .. name }, store[name], io.stdout)
    end
    store:close()
  end)

  it("in a tail call or through pcall still raise", function()
    local ns = kv.open(":memory:"):namespace("a")
    assert.is_false(pcall(ns.get, "key"))
    assert.is_false(pcall(function() return ns.get("key") end))
  end)
end)

describe("objects", function()
  it("hide their metatables and take no fields", function()
    local store = kv.open(":memory:")
    local ns = store:namespace("a")
    for _, object in ipairs { store, ns } do
      assert.is_false(getmetatable(object))
      assert.is_false(pcall(setmetatable, object, {}))
      assert.is_false(pcall(function() object.field = 1 end))
      assert.is_nil(object.nothing)
      assert.is_nil(object.__gc)
    end
    assert.truthy(tostring(store):find("kv.store", 1, true))
    assert.truthy(tostring(ns):find("'a'", 1, true))
    store:close()
    assert.truthy(tostring(store):find("closed", 1, true))
    assert.truthy(tostring(ns):find("closed", 1, true))
  end)
end)

describe("ns:bind()", function()
  local store, ns, bound

  before_each(function()
    store = kv.open(":memory:")
    ns = store:namespace("flow")
    bound = ns:bind()
  end)
  after_each(function() store:close() end)

  it("is a fresh plain table of exactly the operations", function()
    local expected = { null = "userdata", array = "function", encode = "function",
      decode = "function" }
    for _, name in ipairs(operations) do expected[name] = "function" end
    local got = {}
    for name, value in pairs(bound) do got[name] = type(value) end
    assert.same(expected, got)
    assert.is_nil(getmetatable(bound))
    assert.not_equal(bound, ns:bind())
    bound.get = nil
    assert.equal("function", type(ns:bind().get))
    assert.equal("function", type(ns.get))
  end)

  it("works on its namespace", function()
    bound.put("k", { 1 })
    assert.same({ 1 }, ns:get("k"))
    assert.equal(2, bound.incr("n", 2))
    for k, v in bound.pairs { prefix = "n" } do assert.same({ "n", 2 }, { k, v }) end
    assert.equal(2, bound.count())
    assert.equal("[1]", bound.encode(bound.get("k")))
    assert.equal("flow", bound.entry("k").namespace)
  end)

  it("keeps its store open, and is closed with it", function()
    local function make()
      local s = kv.open(":memory:")
      return s:namespace("x"):bind()
    end
    local b = make()
    for _ = 1, 5 do collectgarbage() end
    assert(b.put("k", 1))
    assert.equal(1, b.get("k"))
    bound.put("k", 1)
    store:close()
    raises("closed", bound.get, "k")
  end)

  -- Everything reachable from a value without `debug`.
  local function reach(value, seen, path, visit)
    if seen[value] then return end
    visit(value, path)
    if type(value) == "table" then
      seen[value] = true
      for k, v in next, value do
        reach(k, seen, path .. ".<key>", visit)
        reach(v, seen, path .. "." .. tostring(k), visit)
      end
    end
    local meta = type(value) ~= "string" and getmetatable(value)
    if meta then reach(meta, seen, path .. ".<meta>", visit) end
  end

  it("leads to no object, no metatable that can be changed, and no path", function()
    local path = helper.path()
    local disk = assert(kv.open(path))
    local b = disk:namespace("flow"):bind()
    local function clean(...)
      for i = 1, select("#", ...) do
        reach((select(i, ...)), {}, "result", function(value, at)
          if type(value) == "string" then
            assert(not value:find(path, 1, true), at .. " names the path: " .. value)
          elseif type(value) == "userdata" then
            assert.equal(kv.null, value)
          elseif type(value) == "table" and at:find("<meta>", 1, true) then
            error(at .. " is a metatable in reach")
          end
        end)
      end
      return ...
    end
    clean(b.put("k", { list = { 1 } }, { metadata = { m = {} } }))
    clean(b.get("k"))
    clean(b.entry("k"))
    assert.is_nil(b.entry("k").instance)
    clean(b.list { values = true })
    clean(b.keys())
    clean(b.get_all())
    clean(b.get_many { "k" })
    clean(b.pairs())
    clean(b.pairs()())
    clean(b.put("k", ("x"):rep(26 * 1024 * 1024)))
    clean(b.put(("k"):rep(513), 1))
    clean(b.put("k", 1, { expiration = 5 }))
    clean(b.put("k", 1, { if_rev = 99999 }))
    clean(b.incr("k"))
    clean(b.list { cursor = "forged" })
    clean(b.swap("k", b.array()))
    clean(b.decode("{"))
    clean(pcall(b.put, "k", print))
    clean(pcall(b.put, "k", 1, { nonsense = 1 }))
    clean(pcall(b.get))
    disk:close()
    clean(pcall(b.get, "k"))
    clean(pcall(b.pairs))
    disk = assert(kv.open(path, { readonly = true }))
    b = assert(disk:namespace("flow")):bind()
    clean(b.put("k", 1))
    clean(b.clear())
    disk:close()
    helper.sweep()
  end)

  it("runs no metamethod of what it is given", function()
    local function trap() error("a metamethod ran") end
    local meta = { __index = trap, __newindex = trap, __pairs = trap, __ipairs = trap, __len = trap,
      __tostring = trap, __eq = trap, __name = "trap", __call = trap }
    local value = setmetatable({ a = setmetatable({ 1, 2 }, meta) }, meta)
    bound.put("k", value, setmetatable({ metadata = setmetatable({ m = 1 }, meta) }, meta))
    assert.same({ a = { 1, 2 } }, bound.get("k"))
    bound.put_many(setmetatable({ x = 1 }, meta))
    bound.put_many(setmetatable({ setmetatable({ key = "y", value = 1 }, meta) }, meta))
    assert.same({ x = 1, y = 1 }, bound.get_many(setmetatable({ "x", "y" }, meta)))
    bound.list(setmetatable({ limit = 1 }, meta))
    pcall(bound.get, value)
    pcall(bound.put, "k", 1, { ttl = value })
  end)
end)
