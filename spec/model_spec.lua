-- SPDX-License-Identifier: MIT
--
-- model_spec.lua - random operations on a store and on a plain Lua table; every result is compared,
-- from time to time everything there is. SEED repeats a run, KV_MODEL_OPS says how many operations.
--
-- Times to live are odd multiples of 500 seconds and the clock jumps by multiples of 1,000: what
-- the run itself takes never decides whether a key is over.

local helper = require "helper"

local seed = tonumber(os.getenv("SEED")) or os.time()
local operations = tonumber(os.getenv("KV_MODEL_OPS"))
  or os.getenv("KV_SHORT") and 2000 or os.getenv("KV_LONG") and 2000000 or 62500

-- The same sequence on every Lua.
local state
local function random(n)
  state = state * 16807 % 2147483647
  return state % n + 1
end
local function chance(percent) return random(100) <= percent end
local function pick(list) return list[random(#list)] end

helper.with_hooks("a model", function(kv, core)
  local base, model, handles, store, keyspace, history
  -- Namespaces that have had no expiration and no metadata so far, and whether it is one's turn.
  local bare, plain

  -- The model ------------------------------------------------------------------------------------

  local function here(space, key)
    local record = model[space] and model[space][key]
    if record and record.expires and record.expires <= base then
      model[space][key] = nil
      return nil
    end
    return record
  end

  local function sorted(space)
    local keys = {}
    for key in pairs(model[space] or {}) do
      if here(space, key) then keys[#keys + 1] = key end
    end
    table.sort(keys)
    return keys
  end

  -- What a write leaves behind. keep: the ttl of before; "all": metadata too.
  local function write(space, key, text, kind, opts, keep)
    local old = here(space, key)
    local expires = opts.ttl and base + opts.ttl or nil
    if keep then expires = old and old.expires end
    model[space] = model[space] or {}
    model[space][key] = {
      text = text, kind = kind, expires = expires,
      metadata = keep == "all" and old and old.metadata or opts.metadata,
      id = old and old.id, created = old and old.created, rev = store:rev(),
    }
  end

  -- Random things --------------------------------------------------------------------------------

  local function random_key()
    local n = random(keyspace)
    return pick { "a:", "b:", "b", "", "\255", "c/" } .. n
  end

  local lengths = { 0, 1, 10, 100, 100, 300, 1000, 5000 }
  -- A value, the text get(key, "text") gives for it, and what it is.
  local function random_value()
    local which = random(12)
    if which <= 3 then
      local n = random(2000) - 1000
      return n, ("%d"):format(n), "number"
    elseif which == 4 then
      local n = random(1000) + 0.5
      return n, tostring(n), "number"
    elseif which == 5 then
      local b = chance(50)
      return b, tostring(b), "boolean"
    elseif which == 6 then
      return kv.null, "null", "null"
    elseif which == 7 then
      local n = ("%d"):format(random(1000))
      return n, n, "numeric"
    elseif which <= 9 then
      local text = ("x"):rep(random(20))
      return { list = { text, random(100) } }, nil, "table"
    end
    local text = ("%d:"):format(random(1000)) .. ("v"):rep(pick(lengths))
    if chance(1) and chance(20) then text = text .. ("L"):rep(200000 + random(1500000)) end
    return text, text, "string"
  end

  local function random_opts()
    local opts = {}
    if plain then return opts end
    if chance(30) then opts.ttl = random(20) * 1000 - 500 end
    if chance(20) then opts.metadata = { n = random(1000) } end
    return opts
  end

  -- Comparing ------------------------------------------------------------------------------------

  local function fail(what, expected, got)
    error(("%s: expected %s, got %s"):format(what, tostring(expected):sub(1, 200),
      tostring(got):sub(1, 200)), 0)
  end
  local function equal(what, expected, got)
    if expected ~= got then fail(what, expected, got) end
  end

  local function same_value(what, record, value)
    if not record then return equal(what, nil, value) end
    local text = value
    if type(value) == "number" then
      text = value % 1 == 0 and ("%d"):format(value) or tostring(value)
    elseif type(value) ~= "string" then
      text = kv.encode(value)
    end
    equal(what, record.text, text)
  end

  local function same_entry(space, key, record, e)
    if not record then return equal("entry", nil, e) end
    same_value("entry.value", record, e.value)
    equal("entry.metadata", record.metadata and record.metadata.n, e.metadata and e.metadata.n)
    equal("entry.namespace", space, e.namespace)
    equal("entry.key", key, e.key)
    if record.expires then
      local left = e.expiration - os.time() - record.expires
      if math.abs(left) > 400 then fail("expiration", 0, left) end
    else
      equal("expiration", nil, e.expiration)
    end
    record.id, record.created = record.id or e.id, record.created or e.created_at
    record.rev = record.rev or e.rev
    equal("id", record.id, e.id)
    equal("created_at", record.created, e.created_at)
    equal("rev", record.rev, e.rev)
  end

  local function everything()
    for space, ns in pairs(handles) do
      local keys = sorted(space)
      local got = ns:keys()
      equal("number of keys", #keys, #got)
      for i, key in ipairs(keys) do equal("key", key, got[i]) end
      equal("count", #keys, ns:count())
      local cursor, i = nil, 0
      repeat
        local page = assert(ns:list { values = true, cursor = cursor, limit = 500 })
        for _, key in ipairs(page.keys) do
          i = i + 1
          local record = here(space, keys[i])
          equal("listed", keys[i], key.name)
          same_value("listed value", record, key.value)
          equal("listed metadata", record.metadata and record.metadata.n,
            key.metadata and key.metadata.n)
          equal("listed expiration", record.expires ~= nil, key.expiration ~= nil)
        end
        cursor = page.cursor
      until not cursor
      equal("listed keys", #keys, i)
      for _, key in ipairs(keys) do
        same_entry(space, key, here(space, key), ns:entry(key))
      end
    end
  end

  -- The operations -------------------------------------------------------------------------------

  -- How a write went on condition: puts it into the model, or checks the refusal.
  local function conditional(space, key, opts, done, code)
    local old = here(space, key)
    local expected
    if opts.set_if == "exist" and not old then expected = "not_found" end
    if opts.set_if == "not_exist" and old then expected = "exists" end
    if opts.if_rev and opts.if_rev ~= (old and old.rev or 0) then expected = "conflict" end
    if expected then
      equal("refusal", false, done)
      equal("code", expected, code)
      return false
    end
    if not done then fail("write", "done", code) end
    return true
  end

  local function put_options(space, key)
    local opts = random_opts()
    if chance(10) then opts.set_if = pick { "exist", "not_exist" } end
    if not opts.set_if and chance(10) then
      local old = here(space, key)
      opts.if_rev = chance(70) and (old and old.rev or 0) or random(100)
      if old and not old.rev then opts.if_rev = nil end
    end
    if chance(10) then opts.keep_ttl = true end
    return opts
  end

  local ops = {}

  function ops.put(space, ns, key)
    local value, text, kind = random_value()
    local opts = put_options(space, key)
    local done, _, code = ns:put(key, value, opts)
    if conditional(space, key, opts, done, code) then
      write(space, key, text or kv.encode(value), kind, opts, opts.keep_ttl and not opts.ttl)
      equal("rev", done, store:rev())
    end
  end

  function ops.get(space, ns, key)
    same_value("get", here(space, key), (ns:get(key)))
    local text = ns:get(key, "text")
    equal("text", here(space, key) and here(space, key).text, text)
    equal("exists", here(space, key) ~= nil, ns:exists(key))
  end

  function ops.entry(space, ns, key)
    same_entry(space, key, here(space, key), ns:entry(key))
  end

  function ops.delete(space, ns, key)
    local old = here(space, key)
    if old and old.rev and chance(20) then
      equal("delete", false, (ns:delete(key, { if_rev = old.rev + 1 })))
      equal("delete", true, ns:delete(key, { if_rev = old.rev }))
    else
      equal("delete", old ~= nil, ns:delete(key))
    end
    if old then model[space][key] = nil end
  end

  function ops.incr(space, ns, key)
    local old = here(space, key)
    local by = pick { 1, 1, -3, 10, 0.5 }
    local opts = { init = random(10) }
    if not plain and chance(30) then opts.ttl = random(10) * 1000 - 500 end
    if chance(10) then opts.init = false end
    local n, _, code = ns:incr(key, by, opts)
    if not old and opts.init == false then return equal("incr", "not_found", code) end
    if old and old.kind ~= "number" and old.kind ~= "numeric" then
      return equal("incr", "not_a_number", code)
    end
    local expected = (old and tonumber(old.text) or opts.init) + by
    equal("incr", expected, n)
    local text = ns:get(key, "text")
    equal("incremented", expected, tonumber(text))
    write(space, key, text:gsub("%.0$", ""), old and old.kind or "number", opts, old and "all")
    if text:find("%.0$") then -- a float that is integral, on 5.3: written as an integer again
      ns:put(key, expected % 1 == 0 and math.floor(expected) or expected, { keep_ttl = true })
      local record = here(space, key)
      record.metadata, record.rev, record.kind = nil, store:rev(), "number"
    end
  end

  function ops.ttl(space, ns, key)
    local old, left = here(space, key), ns:ttl(key)
    if not old or not old.expires then return equal("ttl", old and false, left) end
    if math.abs(left - (old.expires - base)) > 400 then fail("ttl", old.expires - base, left) end
  end

  function ops.expire(space, ns, key)
    local old = here(space, key)
    local seconds = (plain or chance(5)) and -random(5) or random(20) * 1000 - 500
    equal("expire", old ~= nil, ns:expire(key, seconds))
    if old and seconds <= 0 then
      model[space][key] = nil
    elseif old then
      old.expires, old.rev = base + seconds, store:rev()
    end
  end

  function ops.persist(space, ns, key)
    local old = here(space, key)
    equal("persist", old ~= nil and old.expires ~= nil, ns:persist(key))
    if old and old.expires then old.expires, old.rev = nil, store:rev() end
  end

  function ops.swap(space, ns, key)
    local value, text, kind = random_value()
    local opts = put_options(space, key)
    local old, message, rev = ns:swap(key, value, opts)
    if message then return conditional(space, key, opts, old, rev) end
    conditional(space, key, opts, true)
    same_value("swap", here(space, key), old)
    write(space, key, text or kv.encode(value), kind, opts, opts.keep_ttl and not opts.ttl)
    equal("rev", rev, store:rev())
  end

  function ops.take(space, ns, key)
    same_value("take", here(space, key), (ns:take(key)))
    if here(space, key) then model[space][key] = nil end
  end

  function ops.list(space, ns)
    local opts = { limit = pick { 1, 2, 5, 50, 1000 }, reverse = chance(40) }
    if chance(50) then opts.prefix = pick { "a:", "b", "b:1", "", "\255", "nothing" } end
    if chance(30) then opts.start = random_key() end
    if chance(30) then opts.stop = random_key() end
    local expected = {}
    for _, key in ipairs(sorted(space)) do
      if key:sub(1, #(opts.prefix or "")) == (opts.prefix or "")
        and (not opts.start or key >= opts.start) and (not opts.stop or key < opts.stop) then
        table.insert(expected, opts.reverse and 1 or #expected + 1, key)
      end
    end
    local i, pages = 0, 0
    repeat
      local page = assert(ns:list(opts))
      for _, key in ipairs(page.keys) do
        i = i + 1
        equal("listed", expected[i], key.name)
      end
      equal("complete", i == #expected, page.list_complete)
      opts.cursor = page.cursor
      pages = pages + 1
    until not opts.cursor or pages == 5
    opts.cursor, opts.limit = nil, nil
    equal("count", #expected, ns:count(opts))
  end

  function ops.pairs(space, ns)
    local expected, i = sorted(space), 0
    for key, value in ns:pairs() do
      i = i + 1
      equal("walked", expected[i], key)
      same_value("walked value", here(space, key), value)
    end
    equal("walked keys", #expected, i)
  end

  function ops.put_many(space, ns)
    local items, common = {}, random_opts()
    for i = 1, random(20) do
      local value, text, kind = random_value()
      local opts = random_opts()
      items[i] = { key = random_key(), value = value, ttl = opts.ttl, metadata = opts.metadata }
      items[i].text, items[i].kind = text or kv.encode(value), kind
    end
    local given = {}
    for i, item in ipairs(items) do
      given[i] = { key = item.key, value = item.value, ttl = item.ttl, metadata = item.metadata }
    end
    if chance(10) then
      local last = given[#given]
      last.set_if, last.if_rev = "exist", 2 ^ 40
      equal("put_many", false, (ns:put_many(given, common)))
      return
    end
    equal("put_many", #items, (ns:put_many(given, common)))
    for _, item in ipairs(items) do
      write(space, item.key, item.text, item.kind,
        { ttl = item.ttl or common.ttl, metadata = item.metadata or common.metadata })
      model[space][item.key].rev = nil
    end
  end

  function ops.get_many(space, ns)
    local keys = {}
    for i = 1, random(20) do keys[i] = random_key() end
    local got = ns:get_many(keys)
    for _, key in ipairs(keys) do same_value("get_many", here(space, key), got[key]) end
  end

  function ops.delete_many(space, ns)
    local keys, n = {}, 0
    for i = 1, random(5) do
      keys[i] = random_key()
      if here(space, keys[i]) then
        n = n + 1
        model[space][keys[i]] = nil
      end
    end
    equal("delete_many", n, ns:delete_many(keys))
  end

  function ops.delete_prefix(space, ns)
    local prefix, n = pick { "a:1", "b:2", "c/3", "\2551", "b7", "" }, 0
    if prefix == "" and not chance(5) then return end
    for _, key in ipairs(sorted(space)) do
      if key:sub(1, #prefix) == prefix then
        n = n + 1
        model[space][key] = nil
      end
    end
    local deleted = prefix == "" and ns:clear() or ns:delete_prefix(prefix)
    equal("delete_prefix", n, deleted)
  end

  function ops.drop(space)
    if not chance(10) then return end
    local n = store:drop(space)
    if n < #sorted(space) then fail("drop", #sorted(space), n) end -- what is over may be counted
    model[space], bare[space] = nil, chance(70)
  end

  function ops.clock()
    if chance(30) then base = base + random(5) * 1000 end
    core.test_clock(base - random(50) + 1)
  end

  function ops.tick() store:tick(random(100)) end
  function ops.sync() if chance(2) then equal("sync", true, store:sync()) end end

  local weights = {
    put = 25, get = 20, entry = 5, delete = 8, incr = 8, ttl = 3, expire = 4, persist = 3, swap = 4,
    take = 3, list = 1, put_many = 2, get_many = 2, delete_many = 1, delete_prefix = 1, clock = 3,
    tick = 2, sync = 1, drop = 1,
  }
  local deck = {}
  do
    local names = {}
    for name in pairs(weights) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      for _ = 1, weights[name] do deck[#deck + 1] = name end
    end
  end

  helper.each_store(function(new)
    it(("agrees with the store for %d operations (SEED=%d)"):format(operations, seed), function()
      state, base, model, handles, history = seed % 2147483646 + 1, 0, {}, {}, {}
      bare = { two = true }
      core.test_clock(0)
      local opts = { thread = seed % 2 == 0 }
      store = new(opts)
      local function connect()
        for _, space in ipairs { "one", "two" } do handles[space] = store:namespace(space) end
      end
      connect()
      local ok, message = pcall(function()
        for i = 1, operations do
          -- Few keys for a while, so that they meet; then many, so that the order tree grows.
          if i % 4000 == 1 then keyspace = pick { 5, 30, 300 } end
          local space, name, key = chance(80) and "one" or "two", pick(deck), random_key()
          if random(500) == 1 then bare[space] = nil end
          plain = bare[space]
          history[i % 12] = ("%d %s %s %q"):format(i, space, name, key)
          ops[name](space, handles[space], key)
          if i % 5000 == 0 then
            ops.pairs(space, handles[space])
            everything()
            if new.reopens then
              store = new.again(store, opts)
              connect()
              everything()
            end
            assert(store:check())
          end
        end
        everything()
        assert(store:check())
      end)
      if not ok then
        local last = {}
        for _, line in pairs(history) do last[#last + 1] = line end
        local function number(line) return tonumber(line:match("%d+")) end
        table.sort(last, function(a, b) return number(a) < number(b) end)
        error(("SEED=%d: %s\nlast operations:\n%s"):format(seed, tostring(message),
          table.concat(last, "\n")), 0)
      end
    end)
  end, kv)
end)
