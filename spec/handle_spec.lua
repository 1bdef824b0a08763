-- SPDX-License-Identifier: MIT
--
-- handle_spec.lua - who keeps a store open: close, garbage, order of finalizers, several states.

local kv = require "kv"
local helper = require "helper"

local raises, returns = helper.raises, helper.returns

local function collect()
  for _ = 1, 4 do collectgarbage() end
end

describe("a closed store", function()
  local store, ns

  before_each(function()
    store = kv.open(":memory:")
    ns = store:namespace("a")
    ns:put("k", 1)
  end)
  after_each(function() store:close() end)

  it("raises for everything but close", function()
    local bound, step = ns:bind(), ns:pairs()
    returns(true, store:close())
    returns(true, store:close())
    for name, args in pairs { namespace = { "a" }, namespaces = {}, drop = { "a" }, rev = {},
      sync = {}, tick = { 1 }, stats = {}, check = {}, backup = { "/tmp/never" } } do
      raises("closed", store[name], store, helper.unpack(args))
    end
    for name, args in pairs { get = { "k" }, entry = { "k" }, exists = { "k" }, ttl = { "k" },
      put = { "k", 1 }, delete = { "k" }, swap = { "k", 1 }, take = { "k" }, expire = { "k", 1 },
      persist = { "k" }, incr = { "k" }, list = {}, pairs = {}, keys = {}, count = {}, get_all = {},
      get_many = { { "k" } }, put_many = { { k = 1 } }, delete_many = { { "k" } },
      delete_prefix = { "k" }, clear = {} } do
      raises("closed", ns[name], ns, helper.unpack(args))
      raises("closed", bound[name], helper.unpack(args))
    end
    raises("closed", ns.bind, ns)
    raises("closed", step)
  end)

  it("is closed at the end of its scope, on 5.4", function()
    local chunk = (loadstring or load)([[
      local store = ...
      local ns = store:namespace("b")
      do local s <close> = store end
      return ns
    ]])
    if not chunk then return end
    raises("closed", chunk(store).get, chunk and ns, "k")
  end)
end)

describe("a store stays open", function()
  it("while a namespace lives", function()
    local function make() return kv.open(":memory:"):namespace("a") end
    local ns = make()
    collect()
    assert(ns:put("k", 1))
    assert.equal(1, ns:get("k"))
  end)

  it("while an iterator lives", function()
    local function make()
      local ns = kv.open(":memory:"):namespace("a")
      for i = 1, 5 do ns:put("k" .. i, i) end
      return ns:pairs()
    end
    local step = make()
    collect()
    for i = 1, 5 do
      local k, v = step()
      assert.equal("k" .. i, k)
      assert.equal(i, v)
      collect()
    end
  end)

  it("and not longer", function()
    local path = helper.path()
    local function use() kv.open(path):namespace("a"):put("k", 1) end
    for _ = 1, 20 do
      use()
      collect()
    end
    -- Were it still open here, another process could not open it.
    assert.equal("1", helper.run(([[
      local kv = require "kv"
      io.write(tostring(assert(kv.open(%q)):namespace("a"):get("k")))
    ]]):format(path)))
    helper.sweep()
  end)
end)

helper.with_hooks("boxes", function(tested, core)
  it("are all gone with their objects", function()
    collect()
    local before = core.test_boxes()
    local function use()
      local store = tested.open(":memory:")
      local a, b = store:namespace("a"), store:namespace("b")
      local bound, step = a:bind(), b:pairs()
      bound.put("k", 1)
      step()
      assert(core.test_boxes() >= before + 3)
      local other = tested.open(":memory:")
      other:namespace("x")
      other:close()
      tested.open("/dev/null/never")
    end
    use()
    collect()
    assert.equal(before, core.test_boxes())
  end)
end)

describe("at the end of a process", function()
  local ends = {
    ["objects of every kind are alive"] = [[
      store = kv.open(path) ns = store:namespace("a") bound = ns:bind() step = ns:pairs()
    ]],
    ["only a namespace is"] = [[ ns = kv.open(path):namespace("a") ]],
    ["only a bound table is"] = [[ bound = kv.open(path):namespace("a"):bind() bound.put("k", 1) ]],
    ["the store was closed"] = [[
      local store = kv.open(path) ns = store:namespace("a") store:close()
    ]],
    ["an object's own finalizer still uses it"] = [[
      local ns = kv.open(path):namespace("a")
      local function last() pcall(function() ns:put("last", 1) end) pcall(ns.get, ns, "k") end
      if newproxy then
        keep = newproxy(true)
        getmetatable(keep).__gc = last
      else
        keep = setmetatable({}, { __gc = last })
      end
    ]],
    ["there are many"] = [[
      all = {}
      for i = 1, 50 do
        local store = kv.open(i % 2 == 0 and path or ":memory:")
        all[i] = { store:namespace("a"), store, store:namespace("b"):bind() }
        all[i][1]:put("k" .. i, i)
      end
    ]],
  }
  for what, code in pairs(ends) do
    it("when " .. what .. ", nothing breaks and nothing is lost", function()
      local path = helper.path()
      local out = helper.run(([[
        local kv = require "kv"
        local path = %q
        kv.open(path):namespace("a"):put("k", 1)
        %s
        io.write("ok")
      ]]):format(path, code))
      assert.equal("ok", out)
      local store = assert(kv.open(path))
      assert.equal(1, store:namespace("a"):get("k"))
      assert.is_true(store:check())
      store:close()
      helper.sweep()
    end)
  end
end)

describe("finalizers that use the store in the middle of a call", function()
  -- Lua runs them at any allocation, so also while a call turns a record into Lua values.
  local function on_collect(f)
    local function safely() pcall(f) end
    if newproxy then -- luacheck: ignore 113
      local p = newproxy(true) -- luacheck: ignore 113
      getmetatable(p).__gc = safely
    else
      setmetatable({}, { __gc = safely })
    end
  end

  it("do not disturb it", function()
    local store = kv.open(":memory:")
    local ns = store:namespace("a")
    local values = {
      small = "s", text = ("t"):rep(500), large = ("L"):rep(100000),
      doc = { a = { 1, 2, { b = ("d"):rep(300) } } }, document = { text = ("D"):rep(20000) },
    }
    for k, v in pairs(values) do ns:put(k, v, { metadata = { of = k } }) end
    local runs = 0
    local function disturb()
      runs = runs + 1
      ns:put("noise", ("n"):rep(runs % 300 * 500))
      ns:get("large")
      ns:get("noise")
      ns:pairs({ limit = 2 })()
    end
    for _ = 1, 100 do
      for _ = 1, 50 do on_collect(disturb) end
      for k, v in pairs(values) do
        assert(kv.encode(v) == kv.encode(ns:get(k)), k)
        local e = ns:entry(k)
        assert(kv.encode(v) == kv.encode(e.value), k)
        assert.equal(k, e.metadata.of)
      end
      for _, key in ipairs(ns:list({ values = true, stop = "n" }).keys) do
        assert(kv.encode(values[key.name]) == kv.encode(key.value), key.name)
        assert.equal(key.name, key.metadata.of)
      end
      local old = ns:swap("large", values.large, { metadata = { of = "large" } })
      assert(old == values.large)
      assert(ns:json_get("document", { "text" }) == values.document.text)
      assert(ns:json_get("doc", "a[2].b") == values.doc.a[3].b)
      ns:json_push("pushed", "list", values.large)
      ns:json_push("pushed", "list", { "small" })
      assert.same({ "small" }, (ns:json_pop("pushed", "list")))
      assert(ns:json_pop("pushed", "list") == values.large)
    end
    collect()
    assert(runs > 1000, runs .. " runs")
    store:close()
  end)

  it("may close it: the call raises or is done", function()
    for i = 1, 60 do
      local store = kv.open(":memory:")
      local ns = store:namespace("a")
      for k = 1, 50 do ns:put("k" .. k, { text = ("x"):rep(k * 200) }) end
      on_collect(function() store:close() end)
      collectgarbage("step", i)
      local ok, result = pcall(function()
        local all = ns:get_all()
        return all, ns:list({ values = true })
      end)
      assert(ok or tostring(result):find("closed", 1, true), tostring(result))
      store:close()
    end
  end)
end)

describe("coroutines", function()
  it("may call everything", function()
    local ns = kv.open(":memory:"):namespace("a")
    local co = coroutine.wrap(function()
      for i = 1, 5 do
        ns:put("k" .. i, i)
        coroutine.yield(ns:get("k" .. i))
      end
      for k, v in ns:pairs() do coroutine.yield(k .. v) end
    end)
    for i = 1, 5 do assert.equal(i, co()) end
    for i = 1, 5 do assert.equal("k" .. i .. i, co()) end
  end)
end)
