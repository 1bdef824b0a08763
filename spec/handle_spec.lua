-- SPDX-License-Identifier: MIT
--
-- handle_spec.lua - who keeps a store open: close, garbage, order of finalizers, several states.

local kv = require "kv"
local helper = require "helper"

local raises, returns = helper.raises, helper.returns

local seed = tonumber(os.getenv("SEED")) or os.time()

-- random(n) of its own: busted draws from math.random, too, and not the same on each Lua.
local function generator()
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end
end

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
  -- How it ends. Plain 5.1's os.exit knows numbers only, and never closes the state.
  local ways = {
    [""] = "io.write('ok')",
    [" by os.exit"] = [[
      io.write('ok') io.stdout:flush()
      if not pcall(os.exit, true) then os.exit(0) end
    ]],
    [" by os.exit that closes the state"] = [[
      io.write('ok') io.stdout:flush()
      if not pcall(os.exit, true, true) then os.exit(0) end
    ]],
    [" by os.exit in a coroutine"] = [[
      io.write('ok') io.stdout:flush()
      coroutine.wrap(function()
        for _ in kv.open(path):namespace("a"):pairs() do
          if not pcall(os.exit, true, true) then os.exit(0) end
        end
      end)()
    ]],
    [" by os.exit in the middle of a stream"] = [[
      io.write('ok') io.stdout:flush()
      kv.open(path):namespace("a"):put("s", function()
        if not pcall(os.exit, true, true) then os.exit(0) end
      end)
    ]],
    [" by an error"] = "io.write('ok') error('the end')",
  }
  local function each_end(f)
    for what, code in pairs(ends) do
      for way, last in pairs(ways) do
        if way == "" or way:find("closes") or what:find("every kind") or what:find("many") then
          f(what .. way, code, last)
        end
      end
    end
  end
  each_end(function(what, code, last)
    it("when " .. what .. ", nothing breaks and nothing is lost", function()
      local path = helper.path()
      local command, script = helper.command(([[
        local kv = require "kv"
        local path = %q
        kv.open(path):namespace("a"):put("k", 1)
        %s
        %s
      ]]):format(path, code, last))
      local pipe = assert(io.popen(command .. "; echo \" $?\""))
      local out = pipe:read("*a")
      pipe:close()
      os.remove(script)
      -- Lua writes of an error to stderr before what it had in hand for stdout.
      assert.equal(last:find("error(", 1, true) and "ok 1\n" or "ok 0\n", out:match("ok %d+\n$"))
      local store = assert(kv.open(path))
      assert.equal(1, store:namespace("a"):get("k"))
      assert.is_nil(store:namespace("a"):get("s"))
      assert.is_true(store:check())
      store:close()
      helper.sweep()
    end)
  end)
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

describe("handles of every kind", function()
  local trials = os.getenv("KV_LONG") and 1000 or 25
  local big = ("0123456789"):rep(20000)

  -- Things made from one another, as they are: each has `of`, the store it was made from.
  local function life(path, random)
    local model = { a = {}, b = {} }
    local closed = {}
    local live = {}
    local puts = 0

    local function any(kind)
      local found = {}
      for _, thing in ipairs(live) do
        if not kind or thing.kind == kind then found[#found + 1] = thing end
      end
      return found[1] and found[random(#found)]
    end
    local function keep(kind, object, of, name)
      live[#live + 1] = { kind = kind, object = object, of = of, name = name }
      return live[#live]
    end
    -- Writes one key and reads another, by functions put(key, value) and get(key).
    local function write_and_read(name, put, get)
      puts = puts + 1
      local key = "k" .. puts % 50
      assert(put(key, puts))
      model[name][key] = puts
      key = "k" .. random(50)
      assert(get(key) == model[name][key])
    end

    local use = {
      store = function(thing) assert(thing.object:rev() >= 0) end,
      ns = function(thing)
        local ns = thing.object
        write_and_read(thing.name, function(k, v) return ns:put(k, v) end,
          function(k) return ns:get(k) end)
      end,
      bound = function(thing)
        write_and_read(thing.name, thing.object.put, thing.object.get)
      end,
      step = function(thing)
        local key, value = thing.object()
        thing.over = key == nil
        assert(key == nil or key == "big" or model[thing.name][key] == value)
      end,
      reader = function(thing)
        local piece = thing.object:read(1000)
        assert(piece == nil or piece == big:sub(1, 1000))
      end,
      writer = function(thing) assert(thing.object:write(big)) end,
    }
    local make = {
      store = function()
        local store = assert(kv.open(path, { sync = "none" }))
        keep("store", store, store)
      end,
      ns = function()
        local store = any("store")
        if not store or closed[store.of] then return end
        local name = random(2) == 1 and "a" or "b"
        keep("ns", assert(store.object:namespace(name)), store.of, name)
      end,
    }
    for kind, from in pairs {
      bound = function(ns) return ns:bind() end,
      step = function(ns) return (ns:pairs()) end,
      reader = function(ns) return ns:get("big", "stream") end,
      writer = function(ns) return ns:writer("w") end,
    } do
      make[kind] = function()
        local ns = any("ns")
        if not ns or closed[ns.of] then return end
        keep(kind, assert(from(ns.object)), ns.of, ns.name)
      end
    end
    local kinds = { "store", "ns", "bound", "step", "reader", "writer" }

    for _ = 1, 150 do
      local what, thing = random(10), any()
      if what <= 3 or not thing then
        make[kinds[random(#kinds)]]()
      elseif what <= 6 then
        if closed[thing.of] then
          local ok, message = pcall(use[thing.kind], thing)
          assert(thing.over or not ok and tostring(message):find("closed", 1, true),
            thing.kind .. " of a closed store: " .. tostring(message))
        else
          use[thing.kind](thing)
        end
      elseif what <= 8 then
        table.remove(live, random(#live))
      elseif what == 9 then
        collectgarbage(random(2) == 1 and "collect" or "step")
      elseif random(4) == 1 then
        thing.of:close()
        closed[thing.of] = true
      end
    end
    -- What is left goes one by one, or all at once.
    while #live > 0 and random(20) > 1 do
      table.remove(live, random(#live))
      if random(3) == 1 then collectgarbage() end
    end
    return model
  end

  it("may be collected in any order (SEED=" .. seed .. ")", function()
    local random = generator()
    for trial = 1, trials do
      local path = helper.path()
      local store = assert(kv.open(path, { sync = "none" }))
      for _, name in ipairs { "a", "b" } do store:namespace(name):put("big", big) end
      store:close()
      local ok, model = pcall(life, path, random)
      if not ok then error(("SEED=%d, trial %d: %s"):format(seed, trial, tostring(model))) end
      collect()
      store = assert(kv.open(path))
      for name, keys in pairs(model) do
        keys.big = big
        assert.same(keys, store:namespace(name):get_all())
      end
      assert.is_true(store:check())
      store:close()
      helper.sweep()
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

  -- Each is suspended in the middle of something, while others go on with the same handle.
  helper.each_store(function(new)
    it("take turns with one handle (SEED=" .. seed .. ")", function()
      local ns = new():namespace("a")
      local random, yield = generator(), coroutine.yield
      local piece = ("0123456789"):rep(3000)
      local imported, exported = 0, 0
      local ways = {
        function(i) -- a value in pieces, from a reader that is suspended
          local left = 10
          assert(ns:put("piped" .. i, function()
            yield()
            left = left - 1
            return left >= 0 and piece or nil
          end))
          assert.equal(300000, #ns:get("piped" .. i))
        end,
        function(i) -- and by pushing
          local writer = assert(ns:writer("pushed" .. i))
          for _ = 1, 10 do
            assert(writer:write(piece))
            yield()
          end
          assert(writer:commit())
        end,
        function(i)
          ns:put("read" .. i, piece:rep(5))
          local bytes = 0
          for chunk in ns:get("read" .. i, "stream") do
            bytes = bytes + #chunk
            yield()
          end
          assert.equal(5 * #piece, bytes)
        end,
        function()
          local last
          for key in ns:pairs() do
            assert(not last or key > last)
            last = key
            yield()
          end
        end,
        function(i)
          local left = 20
          assert.equal(20, ns:import(function()
            yield()
            left = left - 1
            return left >= 0 and ('{"key":"in%d.%d","value":%d}\n'):format(i, left, i) or nil
          end))
          imported = imported + 20
        end,
        function()
          ns:export(function()
            exported = exported + 1
            yield()
            return true
          end)
        end,
        function(i)
          for n = 1, 20 do
            assert(ns:incr "sum")
            yield()
            assert.equal(n, ns:json_push("list" .. i, "", n))
          end
        end,
      }
      local running, turns = {}, 0
      for i = 1, 28 do running[i] = coroutine.create(ways[(i - 1) % #ways + 1]) end
      while #running > 0 do
        local at = random(#running)
        local ok, message = coroutine.resume(running[at], turns)
        if not ok then error(("SEED=%d: %s"):format(seed, tostring(message))) end
        if coroutine.status(running[at]) == "dead" then table.remove(running, at) end
        turns = turns + 1
        if turns % 50 == 0 then collectgarbage() end
      end
      assert.equal(80, ns:get "sum")
      assert.equal(80, imported)
      assert(exported > 0)
      assert.equal(80, ns:count { prefix = "in" })
    end)

    it("are left in the middle and collected", function()
      local store = new()
      local ns = store:namespace("a")
      ns:put("big", ("x"):rep(200000))
      for i = 1, 30 do
        local co = coroutine.create(function()
          if i % 3 == 0 then
            ns:put("never", function() return coroutine.yield() end)
          elseif i % 3 == 1 then
            local writer = ns:writer("never")
            writer:write(("y"):rep(100000))
            coroutine.yield()
          else
            for _ in ns:get("big", "stream") do coroutine.yield() end
          end
        end)
        assert(coroutine.resume(co))
        if i % 3 == 0 then assert(coroutine.resume(co, ("z"):rep(100000))) end
        co = nil -- luacheck: ignore 311
        if i % 5 == 0 then collect() end
      end
      collect()
      assert.is_nil(ns:get("never"))
      assert.same({ "big" }, ns:keys())
      assert.is_true(store:check())
    end)
  end)
end)
