-- SPDX-License-Identifier: MIT
--
-- sandbox_spec.lua - a hostile node: whatever it does with its bound table, it gets neither to the
-- store, nor to another namespace, nor to a path, and changes nothing that others use.
--
-- The node here has all of Lua but debug, getfenv and setfenv, the loading of bytecode and the
-- host's require: more than examples/flow gives one.

local kv = require "kv"
local helper = require "helper"

local find, format = string.find, string.format -- a node below replaces them for all
local SECRET, OTHER = "the-secret-value", "the-other-namespace"
local own = debug.getinfo(require("kv.ops").define, "S").source:sub(2):match("^(.*)/[^/]*$")

-- What a node sees: all of Lua but what the border excludes.
local function environment(given)
  local env = {}
  for name, value in pairs(_G) do env[name] = value end
  for _, name in ipairs { "debug", "getfenv", "setfenv", "require", "package", "module", "load",
    "loadstring", "loadfile", "dofile", "arg" } do env[name] = nil end
  env.string = {}
  for name, value in pairs(string) do env.string[name] = value end
  env.string.dump = nil
  for name, value in pairs(given) do env[name] = value end
  env._G = env
  return env
end

local function run(text, given)
  local env = environment(given)
  local chunk
  if setfenv then -- luacheck: ignore 143
    chunk = setfenv(assert(loadstring(text, "=node")), env) -- luacheck: ignore 143
  else
    chunk = assert(load(text, "=node", "t", env))
  end
  return chunk()
end

-- What a stream handle may answer to.
local stream_methods = { read = true, lines = true, close = true, write = true, commit = true }

-- Checks everything that can be reached from a value. `known`: tables of the node's own.
local function crawl(world, value, at, known, seen)
  local kind = type(value)
  if kind == "string" then
    for _, bad in ipairs { world.path, own, SECRET, OTHER } do
      assert(not find(value, bad, 1, true), format("%s says %s: %q", at, bad, value))
    end
  elseif kind == "userdata" and value ~= kv.null then
    assert(getmetatable(value) == false, at .. " shows its metatable")
    for _, name in ipairs { "get", "put", "bind", "drop", "namespace", "store", "box", "backup",
      "__index", "__gc", "__metatable", "__call", "__close", "__name", "handle", "env" } do
      local ok, field = pcall(function() return value[name] end)
      assert(not ok or field == nil, at .. " has " .. name)
    end
    for name in pairs(stream_methods) do
      local ok, field = pcall(function() return value[name] end)
      assert(not ok or field == nil or type(field) == "function", at)
    end
    assert(not pcall(function() value.field = 1 end), at .. " takes fields")
    assert(not pcall(setmetatable, value, {}), at)
    crawl(world, tostring(value), at .. ":tostring", known, seen)
  elseif kind == "table" and not seen[value] then
    seen[value] = true
    local meta = getmetatable(value)
    assert(not known[value] and type(meta) ~= "table" or known[value],
      at .. " has a metatable in reach")
    if not known[value] then
      assert(not world.returned[value], at .. " was returned before")
      world.returned[value] = true
    end
    for k, v in next, value do
      crawl(world, k, at .. ".key", known, seen)
      crawl(world, v, at .. "." .. tostring(k), known, seen)
    end
  elseif kind == "thread" then
    assert(known[value], at .. " is a coroutine")
  end
end

local function check(world, at, known, ...)
  for i = 1, select("#", ...) do
    crawl(world, (select(i, ...)), format("%s: result %d", at, i), known or {}, {})
  end
  return ...
end

local function make_world()
  local world = { path = helper.path(), returned = setmetatable({}, { __mode = "k" }) }
  world.store = assert(kv.open(world.path, { sync = "none" }))
  world.other = world.store:namespace(OTHER, { description = SECRET })
  world.other:put("secret", SECRET, { metadata = { s = SECRET } })
  world.mine = world.store:namespace("mine")
  world.bound = world.mine:bind()
  -- Nothing of the other's has changed, and no other namespace came into being.
  function world.intact()
    assert.equal(1, world.other:count())
    assert.equal(SECRET, world.other:get("secret"))
    assert.same({ s = SECRET }, world.other:entry("secret").metadata)
    local names = {}
    for _, info in ipairs(world.store:namespaces()) do names[#names + 1] = info.name end
    assert.same({ "mine", OTHER }, names)
  end
  return world
end

describe("a hostile node", function()
  local world

  before_each(function() world = make_world() end)
  after_each(function()
    world.intact()
    assert.is_true(world.store:check())
    world.store:close()
  end)
  teardown(helper.sweep)

  -- Runs the node; what it returns must be clean.
  local function attack(text, given)
    local all = { kv = world.bound }
    for name, value in pairs(given or {}) do all[name] = value end
    return check(world, "the node", nil, run(text, all))
  end

  it("has no kv but its operations", function()
    local allowed = { null = true, array = true, encode = true, decode = true, writer = true,
      import = true, export = true }
    for name in ([[put set get get_with_metadata entry exists delete list pairs keys count get_all
      ttl expire persist incr get_many put_many delete_many delete_prefix clear swap take
      json_get json_type json_length json_keys json_set json_increment json_incr json_push
      json_extend json_insert json_pop json_remove json_merge json_toggle json_append
    ]]):gmatch("%S+") do
      allowed[name] = true
      assert.equal("function", type(world.bound[name]), name)
    end
    for name in pairs(world.bound) do assert(allowed[name], name) end
    assert.is_nil(getmetatable(world.bound))
  end)

  it("finds nothing behind metatables", function()
    attack [[
      kv.put("k", "v")
      local streams = { kv.writer("w"), kv.get("k", "stream") }
      for _, value in ipairs { kv, kv.null, kv.put, kv.array(), kv.get_all(), kv.list(),
        kv.entry("k"), streams[1], streams[2], kv.pairs(), coroutine.create(function() end) } do
        local meta = getmetatable(value)
        assert(not meta, type(value))
      end
      for _, value in ipairs { kv.array(), streams[1], streams[2], kv.null } do
        assert(not pcall(setmetatable, value, { __index = function() return 1 end }))
      end
      return kv.array()
    ]]
  end)

  it("learns nothing from an error", function()
    attack [[
      local seen = {}
      local bad = { nil, false, true, 0, -1, 1.5, "", "k", ("x"):rep(600), {}, { 1 }, { a = 1 },
        { limit = -1 }, { prefix = 1 }, { if_rev = -1 }, { nonsense = 1 }, type,
        coroutine.create(function() end), { [{}] = 1 }, { cursor = "forged" }, { ttl = 0 },
        { [1] = "a", [3] = "b" } }
      for name, f in pairs(kv) do
        if type(f) == "function" then
          for i = 1, 22 do
            for j = 1, 22 do
              local ok, message = pcall(f, bad[i], bad[j])
              if not ok then seen[#seen + 1] = message end
              ok, message = pcall(function() return f("k", bad[i], bad[j]) end)
              if not ok then seen[#seen + 1] = message end
              if not ok and type(message) ~= "string" then error("an object was raised") end
            end
          end
        end
      end
      return seen
    ]]
  end)

  it("learns nothing from errors with a full stack, or few C calls left", function()
    local seen = attack [[
      local seen = {}
      -- deep(n, f) calls f with n of the stack's slots taken, or n calls, whatever is quicker here.
      local deep, highest
      if _VERSION == "Lua 5.1" then
        highest = 0
        function deep(n, f)
          if n > 0 then return 1 + deep(n - 1, f) end
          return f()
        end
        local function measure()
          highest = highest + 1
          return 1 + measure()
        end
        pcall(measure)
      else
        local function fill(f, ...)
          local result = f()
          return result
        end
        function deep(n, f) return fill(f, table.unpack({}, 1, n)) end
        local low, high = 1000, 2000000
        while high - low > 1 do
          local middle = math.floor((low + high) / 2)
          if pcall(deep, middle, function() end) then low = middle else high = middle end
        end
        highest = low
      end
      kv.put("k", "v")
      local reader = function() return nil end
      local calls = {
        function() return kv.get("k") end, function() return kv.put("k", { 1 }) end,
        function() return kv.put("k", reader) end, function() return kv.get(5) end,
        function() return kv.pairs()() end, function() return kv.list({ limit = 0 }) end,
        function() return kv.get("k", "stream"):read() end,
        function() return kv.import and kv.import(reader) end,
        function() return kv.export and kv.export(function() return 1 end) end,
      }
      for i = 1, #calls do
        for left = 0, 150, 15 do
          local ok, message = pcall(deep, highest + 20 - left, calls[i])
          if not ok then seen[#seen + 1] = message end
        end
        local function nested(n)
          local ok, message
          if n < 110 then
            ok, message = pcall(calls[i])
            if not ok then seen[#seen + 1] = message end
          end
          if n == 0 then return end
          local co = coroutine.wrap(nested)
          ok, message = pcall(co, n - 1)
          if not ok then seen[#seen + 1] = message end
        end
        pcall(nested, 250)
        -- A reader within a reader within a reader ...
        local function again()
          local ok, message = pcall(kv.put, "r", function() again() return nil end)
          if not ok then seen[#seen + 1] = message end
        end
        pcall(again)
      end
      local short = {}
      for i = 1, #seen do
        if type(seen[i]) == "string" and not short[seen[i] ] then
          short[seen[i] ] = true
          short[#short + 1] = seen[i]
        end
      end
      return short
    ]]
    assert(#seen > 0)
  end)

  it("gets no other namespace by a name, a prefix, a range or a cursor", function()
    world.other:put("secret2", SECRET)
    local page = world.other:list { limit = 1 }
    world.other:delete("secret2")
    assert.is_string(page.cursor)
    attack([[
      kv.put("a", 1)
      kv.put("b", 2)
      kv.put("c", 3)
      local found = {}
      for _, key in ipairs { "secret", OTHER, OTHER .. "\0secret", "../" .. OTHER .. "/secret",
        "\0" .. OTHER, "\2\0\0\0secret", "mine\0k" } do
        assert(not kv.exists(key))
        assert(kv.get(key) == nil)
        found[#found + 1] = kv.take(key)
        assert(kv.delete(key) == false)
        assert(kv.ttl(key) == nil)
      end
      for _, range in ipairs { {}, { prefix = "" }, { start = "" }, { stop = ("\255"):rep(512) },
        { start = "", stop = ("\255"):rep(513) }, { reverse = true }, { prefix = "secret" } } do
        for k in kv.pairs(range) do assert(k == "a" or k == "b" or k == "c") end
        for _, k in ipairs(kv.keys(range)) do assert(#k == 1) end
        assert(kv.count(range) == (range.prefix == "secret" and 0 or 3))
      end
      local own = kv.list { limit = 1 }.cursor
      for _, cursor in ipairs { CURSOR, own:sub(1, -2), own .. "A", ("A"):rep(#own),
        CURSOR:sub(1, 8) .. own:sub(9), own:sub(1, 8) .. CURSOR:sub(9), "" } do
        local got, message, code = kv.list { limit = 1, cursor = cursor }
        assert(got == nil and code == "bad_cursor", tostring(code))
        assert(not pcall(kv.pairs, { cursor = cursor }))
        assert(select(3, kv.keys { cursor = cursor }) == "bad_cursor")
      end
      -- Every single byte changed.
      for i = 1, #own do
        local forged = own:sub(1, i - 1) .. (own:sub(i, i) == "A" and "B" or "A") .. own:sub(i + 1)
        local _, _, code = kv.list { limit = 1, cursor = forged }
        assert(code == "bad_cursor", forged)
      end
      kv.clear()
      kv.delete_prefix("s")
      return found
    ]], { OTHER = OTHER, CURSOR = page.cursor })
  end)

  it("has no metamethod run, so nothing is read twice or called in the middle", function()
    attack [[
      local ran = 0
      local function trap() ran = ran + 1 error("a metamethod ran", 0) end
      local meta = { __index = trap, __newindex = trap, __pairs = trap, __ipairs = trap,
        __len = trap,
        __tostring = trap, __eq = trap, __call = trap, __concat = trap, __lt = trap, __le = trap,
        __unm = trap, __add = trap, __close = trap, __name = "trap", __metatable = "trap" }
      local function T(t) return setmetatable(t or {}, meta) end
      for name, f in pairs(kv) do
        if type(f) == "function" then
          pcall(f, T(), T(), T(), T())
          pcall(f, "k", T(), T(), T())
          pcall(f, "k", "a", T(), T())
          pcall(f, "k", T { "a" }, T { a = T { 1 } }, T { ttl = 1 })
          pcall(f, T { "k" }, T { ttl = 1, metadata = T { a = T() } })
          pcall(f, T { T { key = "k", value = T(), metadata = T() } })
          pcall(f, T { prefix = "a", limit = 1 })
          pcall(f, "k", "v", T { ttl = 1, metadata = T { T() }, set_if = "exist", if_rev = 0 })
          pcall(f, "k", "a", 1, T { ttl = 1, metadata = T { T() } })
        end
      end
      assert(ran == 0, ran .. " metamethods ran")
    ]]
  end)

  it("cannot change what others use by what it gets", function()
    local again = world.mine:bind()
    attack [[
      kv.put("list", kv.array { 1, 2 })
      local a = kv.get("list")
      assert(not pcall(setmetatable, a, {}))
      a.x, a[1] = 1, "changed"
      for k in pairs(kv) do kv[k] = nil end
      local string_meta = getmetatable("")
      return kv
    ]]
    assert.same({ 1, 2 }, again.get("list"))
    assert.equal("function", type(world.mine:bind().get))
    assert.equal("[]", again.encode(again.array()))
  end)

  it("gets nothing from the string library it can change for all", function()
    local before = {}
    for name, f in pairs(string) do before[name] = f end
    local ok, message = pcall(attack, [[
      local got = {}
      local strings = getmetatable("").__index
      for name, f in pairs(strings) do
        strings[name] = function(...)
          for i = 1, select("#", ...) do got[#got + 1] = (select(i, ...)) end
          return f(...)
        end
      end
      for name, f in pairs(kv) do
        if type(f) == "function" then
          pcall(f, "k", "v") pcall(f, "k", function() return 5 end)
          pcall(f, function() return nil, {} end)
          local left = 2
          pcall(f, function() left = left - 1 return left > 0 and "{" or nil end)
          pcall(f, { "k" }) pcall(f, { k = 1 }) pcall(f, 5)
        end
      end
      return got
    ]])
    for name, f in pairs(before) do string[name] = f end -- luacheck: ignore 122
    assert(ok, message)
  end)

  it("gets nothing from stream handles, also through each other's methods", function()
    local host_writer = world.other:writer("w")
    local host_reader = world.other:get("secret", "stream")
    attack([[
      kv.put("k", ("line\n"):rep(100000))
      local w, r = kv.writer("w"), kv.get("k", "stream")
      local result = {}
      for _, object in ipairs { w, r, kv.null, kv, "x", 5, io.stdout, {},
        coroutine.create(function() end) } do
        for _, from in ipairs { w, r } do
          for _, name in ipairs { "read", "lines", "close", "write", "commit" } do
            local f = from[name]
            if f and object ~= from then
              local ok, message = pcall(f, object, "x")
              result[#result + 1] = message
              assert(not ok, name)
            end
          end
        end
      end
      assert(not pcall(function() return r.write end) or r.write == nil)
      assert(r:read(4) == "line")
      for line in r:lines() do assert(line == "" or line == "line") break end
      assert(w:write("abc"))
      result[#result + 1] = assert(w:commit())
      result[#result + 1] = select(2, pcall(w.write, w, "x"))
      r:close()
      result[#result + 1] = select(2, pcall(r.read, r))
      assert(kv.get("w") == "abc")
      -- Handles of before still belong to the namespace, and only to it.
      kv.put("big", ("b"):rep(3000000))
      local big = kv.get("big", "stream")
      kv.delete("big")
      assert(#big:read(3000001) == 3000000)
      return result
    ]])
    assert.equal(SECRET, host_reader:read())
    host_reader:close()
    host_writer:close()
  end)

  it("gets nothing by import and export but its own keys, and names no file", function()
    if not world.bound.import then return end
    helper.write_file(world.path .. "-file", '{"k": "' .. SECRET .. '"}')
    attack([[
      local messages = {}
      for _, path in ipairs { FILE, "/etc/passwd", "x.json", "", "\0", "/dev/stdin" } do
        for _, name in ipairs { "import", "export" } do
          local ok, message = pcall(kv[name], path)
          assert(not ok, name .. " took a path")
          messages[#messages + 1] = message
          ok, message = pcall(kv[name], path, { format = "json" })
          assert(not ok, name .. " took a path")
        end
      end
      assert(kv.count() == 0)
      kv.put("a", { 1 })
      local parts = {}
      local function sink(chunk)
        parts[#parts + 1] = chunk
        return 1
      end
      assert(kv.export(sink) == 1)
      kv.clear()
      local i = 0
      assert(kv.import(function() i = i + 1 return parts[i] end) == 1)
      assert(kv.get("a")[1] == 1)
      for _, bad in ipairs { "{", "[", '{"a":', "\0", "null", '{"key":1}\n', ("["):rep(1000) } do
        local given = false
        local function source() if not given then given = true return bad end end
        messages[#messages + 1] = { pcall(kv.import, source) }
        given = false
        messages[#messages + 1] = { pcall(kv.import, source, { format = "ndjson" }) }
      end
      messages[#messages + 1] = { pcall(kv.export, function() return nil, "sink's own" end) }
      messages[#messages + 1] = { pcall(kv.export, function() error({}) end) }
      messages[#messages + 1] = { pcall(kv.import, function() error("mine", 0) end) }
      for i = 1, #messages do
        if type(messages[i]) == "table" then
          for j = 1, #messages[i] do
            if type(messages[i][j]) == "table" then messages[i][j] = "an object of its own" end
          end
        end
      end
      return messages
    ]], { FILE = world.path .. "-file" })
  end)

  it("gets nothing from coroutines, readers and iterators that leave in the middle", function()
    attack [[
      local seen = {}
      for i = 1, 10 do kv.put("k" .. i, i) end
      -- A reader that yields, raises, ends, or uses kv itself.
      local co = coroutine.create(function()
        return kv.put("r", function()
          seen[#seen + 1] = coroutine.yield("first")
          error({ "an object of its own" })
        end)
      end)
      local ok, what = coroutine.resume(co)
      assert(ok, tostring(what))
      local raised = select(2, coroutine.resume(co, "second"))
      assert(type(raised) == "table" and raised[1] == "an object of its own")
      assert(not kv.exists("r"))
      -- One that is left hanging, and found again by the collector.
      for _ = 1, 20 do
        local hanging = coroutine.wrap(function()
          return kv.put("h", function() coroutine.yield() return "x" end)
        end)
        pcall(hanging)
      end
      collectgarbage() collectgarbage()
      assert(not kv.exists("h"))
      seen[#seen + 1] = select(2, pcall(kv.put, "x", function() kv.clear() return 5 end))
      local step = kv.pairs()
      kv.put("z", 1)
      while step(kv, {}) do end
      assert(step() == nil)
      seen[#seen + 1] = select(2, pcall(kv.pairs, { prefix = {} }))
      -- The same function as a reader of itself.
      local depth = 0
      local function own()
        depth = depth + 1
        if depth < 50 then seen[#seen + 1] = select(2, pcall(kv.put, "own" .. depth, own)) end
        return nil
      end
      kv.put("own", own)
      return seen
    ]]
  end)

  it("gets nothing in a finalizer, nor after the store was closed", function()
    run([[
      local function last()
        KEEP[#KEEP + 1] = { pcall(kv.get, "k") }
        KEEP[#KEEP + 1] = { pcall(kv.put, "k", 2) }
        KEEP[#KEEP + 1] = { pcall(kv.entry, "k") }
        KEEP[#KEEP + 1] = { pcall(kv.list) }
        KEEP[#KEEP + 1] = { pcall(kv.put, "k", function() return nil end) }
      end
      kv.put("k", 1)
      STREAM = kv.get("k", "stream")
      if newproxy then
        getmetatable(newproxy(true)).__gc = last
      else
        setmetatable({}, { __gc = last })
      end
      KEEP.stream = kv.get("k", "stream")
      KEEP.writer = kv.writer("k2")
      KEEP.step = kv.pairs()
      KEEP.kv = kv
    ]], { kv = world.bound, KEEP = world })
    local before = #world
    for _ = 1, 4 do collectgarbage() end
    assert(#world > before, "no finalizer ran")
    world.store:close()
    check(world, "closed", nil, pcall(world.stream.read, world.stream))
    check(world, "closed", nil, pcall(world.writer.write, world.writer, "x"))
    check(world, "closed", nil, pcall(world.writer.commit, world.writer))
    check(world, "closed", nil, pcall(world.step))
    for name, f in pairs(world.bound) do
      if type(f) == "function" then
        check(world, name, nil, pcall(f, "k", "x"))
        check(world, name, nil, pcall(f, { "k" }))
      end
    end
    for i = 1, #world do check(world, "finalizer", nil, world[i]) end
    local again = assert(kv.open(world.path))
    world.store = again
    world.other = again:namespace(OTHER)
  end)

  it("learns no path when the store fails", function()
    world.store:close()
    world.store = assert(kv.open(world.path, { readonly = true }))
    world.bound = world.store:namespace("mine"):bind()
    world.other = world.store:namespace(OTHER)
    local codes = attack [[
      local all, codes = {}, {}
      for name, f in pairs(kv) do
        if type(f) == "function" then
          local one = { pcall(f, "k", "v") }
          all[#all + 1] = one
          if one[4] then codes[one[4] ] = true end
          all[#all + 1] = { pcall(f, { k = "v" }) }
          all[#all + 1] = { pcall(f, "k", function() return nil end) }
          all[#all + 1] = { pcall(f) }
        end
      end
      for i = 1, #all do
        for k, v in pairs(all[i]) do
          if type(v) == "function" then all[i][k] = nil end
        end
      end
      all.codes = codes
      return all
    ]].codes
    assert.is_true(codes.readonly)
  end)

  it("at random gets nowhere (seed printed)", function()
    local seed = tonumber(os.getenv("SEED")) or os.time()
    io.write("seed ", seed, "\n")
    math.randomseed(seed)
    local random = math.random
    local rounds = os.getenv("KV_LONG") and 200000 or 4000

    local ran = 0
    local function trap()
      ran = ran + 1
      error("a metamethod ran", 0)
    end
    local meta = { __index = trap, __newindex = trap, __pairs = trap, __len = trap, __eq = trap,
      __tostring = trap, __call = trap, __concat = trap, __lt = trap, __name = "trap" }

    local mine = setmetatable({}, { __mode = "k" }) -- tables and coroutines of the node's own
    local kept = {} -- what calls returned, to be given to others
    local names = {}
    for name, f in pairs(world.bound) do
      if type(f) == "function" then names[#names + 1] = name end
    end
    table.sort(names)
    local options = { "ttl", "expiration", "keep_ttl", "metadata", "set_if", "if_rev", "as",
      "prefix", "start", "stop", "limit", "cursor", "reverse", "values", "init", "min", "max",
      "create", "key", "value", "format", "continue_on_error" }
    local strings = { "a", "b", "c", "k1", "k2", "", "secret", "json", "text", "stream",
      "binary", "exist", "not_exist", "a.b", "[0]", "/a/0", "$", "{}", "[1,2]", '{"a":[1]}', "1",
      "\0", "\255", ("x"):rep(513), "ndjson", "../x", "/tmp" }
    world.other:put("secret2", 1)
    strings[#strings + 1] = world.other:list({ limit = 1 }).cursor
    world.other:delete("secret2")

    local value
    local function some_table(depth)
      local t = {}
      mine[t] = true
      for _ = 1, random(0, 3) do
        local which = random(4)
        local item = value(depth + 1)
        if which == 1 then
          t[#t + 1] = item
        elseif which == 2 and item ~= nil then
          t[options[random(#options)]] = item
        elseif item ~= nil then
          t[strings[random(6)]] = item
        end
      end
      return random(3) == 1 and setmetatable(t, meta) or t
    end
    function value(depth)
      local which = random(depth > 3 and 9 or 13)
      if which <= 4 then return strings[random(#strings)] end
      if which == 5 then return random(-5, 5) end
      if which == 6 then return ({ 0 / 0, 1 / 0, 1e300, 0.5, -0.0, 2 ^ 53, 1e11 })[random(7)] end
      if which == 7 then return random(2) == 1 end
      if which == 8 then return nil end
      if which == 9 then return kept[random(#kept + 1)] end
      if which == 10 then
        local left = random(0, 3)
        return function()
          left = left - 1
          if left == 0 and random(4) == 1 then error("mine", 0) end
          if left >= 0 then return strings[random(#strings)] end
        end
      end
      if which == 11 then
        local co = coroutine.create(trap)
        mine[co] = true
        return co
      end
      return some_table(depth)
    end

    -- What a node was given is its own from then on.
    local function own_all(t)
      if type(t) ~= "table" or mine[t] then return end
      mine[t] = true
      for k, v in next, t do
        own_all(k)
        own_all(v)
      end
    end

    local function keep(...)
      for i = 1, select("#", ...) do
        local got = select(i, ...)
        if got ~= nil then
          if #kept > 200 then table.remove(kept, random(#kept)) end
          kept[#kept + 1] = got
          own_all(got)
          if type(got) == "table" and random(2) == 1 then
            for _, inner in next, got do keep(inner) end
          end
        end
      end
    end

    for i = 1, rounds do
      local name = names[random(#names)]
      local args, n = {}, random(0, 4)
      if n > 0 then args[1] = random(2) == 1 and strings[random(5)] or value(0) end
      for a = 2, n do args[a] = value(0) end
      local f = world.bound[name]
      -- Now and then something that an earlier call returned is called instead.
      local handle = kept[random(#kept + 1)]
      if random(10) == 1 and type(handle) == "userdata" and handle ~= kv.null then
        local method = ({ "read", "lines", "close", "write", "commit" })[random(5)]
        local ok, m = pcall(function() return handle[method] end)
        if ok and m then
          f = m
          if random(5) > 1 then
            table.insert(args, 1, handle)
            n = n + 1
          end
        end
      elseif random(20) == 1 and type(handle) == "function" then
        f = handle
      end
      local results = { check(world, ("round %d, %s"):format(i, name), mine,
        pcall(f, helper.unpack(args, 1, n))) }
      keep(helper.unpack(results, 2, 5))
      if i % 500 == 0 then
        world.intact()
        kept = {}
        collectgarbage()
      end
    end
    assert.equal(0, ran)
  end)
end)

describe("the flow example", function()
  local loaded = package.path
  local store, sandbox

  setup(function()
    package.path = "examples/flow/?.lua;" .. package.path
    sandbox = require "sandbox"
  end)
  teardown(function() package.path = loaded end)
  before_each(function() store = kv.open(":memory:") end)
  after_each(function() store:close() end)

  it("runs, and its patterns do what they say", function()
    local out = helper.run(([[
      arg = { [0] = "examples/flow/main.lua" }
      dofile(arg[0])
    ]]))
    for _, words in ipairs { '"allowed":false', "the database was asked 2 times",
      "Welcome user 123",
      '"ended":1', '"status":401', "whoami:3: attempt to" } do
      assert(out:find(words, 1, true), words .. " is not in:\n" .. out)
    end
    assert.equal(3, select(2, out:gsub('"allowed":true', "")))
    assert(not out:find("nodes/", 1, true), out)
  end)

  it("gives a node no way out", function()
    local ns = store:namespace("mine")
    local ok, result = sandbox.run([==[
      local found = {}
      for _, name in ipairs { "debug", "io", "load", "loadstring", "loadfile", "dofile", "require",
        "package", "getfenv", "setfenv", "newproxy", "collectgarbage", "module", "print", "arg",
        "jit",
        "ffi", "bit" } do
        if _G[name] ~= nil then found[#found + 1] = name end
      end
      for _, name in ipairs { "execute", "exit", "getenv", "remove", "rename", "tmpname" } do
        if os[name] ~= nil then found[#found + 1] = "os." .. name end
      end
      if string.dump then found[#found + 1] = "string.dump" end
      if getmetatable("") ~= nil then found[#found + 1] = "the metatable of strings" end
      if pcall(setmetatable, {}, { __gc = function() end }) then found[#found + 1] = "__gc" end
      string.rep, math.floor, os.time = nil, nil, nil
      x = 1
      return found
    ]==], "node", { kv = ns:bind() })
    assert(ok, result)
    assert.same({}, result)
    assert.is_nil(rawget(_G, "x"))
    assert.equal("function", type(string.rep))
    assert.equal("function", type(os.time))
  end)

  it("runs no bytecode", function()
    local ok, message = sandbox.run(string.dump(function() return 1 end), "node", {})
    assert.is_false(ok)
    assert.truthy(message:find("bytecode", 1, true))
  end)

  it("stops a node that runs for too long, whatever it tries", function()
    for _, text in ipairs {
      "while true do end",
      "while true do pcall(function() while true do end end) end",
      "local function f() return f() end return f()",
      "coroutine.wrap(function() while true do end end)()",
      "while true do pcall(coroutine.wrap(function() while true do end end)) end",
      "local function f() while true do end end local co = coroutine.create(f) "
        .. "repeat coroutine.resume(co) co = coroutine.create(f) until false",
      "local function f() while true do end end while true do xpcall(f, f) end",
      "local function f() while true do end end while true do pcall(string.gsub, 'x', 'x', f) end",
      "local function f() while true do end end while true do pcall(table.sort, {1, 2, 3}, f) end",
    } do
      local ok, message = sandbox.run(text, "node", {}, 100000)
      assert(not ok, text)
      assert.is_string(message)
    end
    local ok, result = sandbox.run("local n = 0 for i = 1, 1000 do n = n + i end return n",
      "node", {}, 100000)
    assert(ok, result)
    assert.equal(500500, result)
  end)
end)
