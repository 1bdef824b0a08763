-- How long does a put take: a new key, an overwrite, a counter, with and without a time to live?

-- How many times as long puts of new keys take with these options, the median of all pairs: what a
-- ttl adds is less than what a machine's mood changes from one second to the next, so two stores
-- grow side by side, some thousand keys at a time.
local function side_by_side(bench, n, opts)
  local step = math.min(n, 10000)
  local ratios = {}
  for _ = 1, bench.rounds do
    local store, ns = bench.store("kv-side")
    local other, other_ns = bench.store("kv-side-opts")
    for at = 0, n - step, step do
      local plain, with
      if at // step % 2 == 0 then
        plain, with = bench.fill(ns, step, nil, at), bench.fill(other_ns, step, opts, at)
      else
        with, plain = bench.fill(other_ns, step, opts, at), bench.fill(ns, step, nil, at)
      end
      ratios[#ratios + 1] = with / plain
    end
    store:close()
    other:close()
  end
  return bench.median(ratios)
end

return function(bench)
  local n = bench.keys
  local count = math.min(n, 500000)
  local value = bench.value
  local ttl = { ttl = 3600 }

  -- Every round loads everything anew; SQLite, the slowest by far, only overwrites in a full table.
  bench.title(("put, %d new keys in shuffled order, sync = \"interval\""):format(n))
  local sqlite = bench.rival "sqlite"
  sqlite:load(n)
  local kept, kept_ttl = {}, {}
  local function filled(keep, name, opts)
    if keep.store then
      keep.store:close()
    end
    keep.store, keep.ns = bench.store(name)
    return bench.fill(keep.ns, n, opts)
  end
  local _, ratio = bench.contest("put new", {
    { "kv", function() return filled(kept, "kv") end },
    { "kv with ttl", function() return filled(kept_ttl, "kv-ttl", ttl) end },
    { "LMDB from C", function()
      local lmdb = bench.rival "lmdb"
      local ns_per_key = lmdb:run("new", n, n, 0)
      lmdb:close()
      return ns_per_key
    end },
    { "SQLite from C, overwrite", function() return sqlite:run("overwrite", n // 20, n) end },
    { "Lua table", function()
      local t = {}
      local each = bench.loop(n, "shuffled", function(keys, batch)
        for i = 1, batch do
          t[keys[i]] = value
        end
      end)
      assert(next(t))
      return each
    end },
  })
  bench.at_least("put new: LMDB's time / kv's", ratio("LMDB from C", "kv"), 2.5)
  bench.at_most("put new: extra for a ttl", (side_by_side(bench, n, ttl) - 1) * 100, 15, "%")

  -- In stores made for it each round, for where the system puts a store's pages makes up to a
  -- fifth of its times; and once without a clock, since until the log is as large as it will be
  -- nothing is cleaned, but segments are made.
  bench.title(("put, overwrite, %d keys, uniform"):format(n))
  local function overwritten(keep, name, opts)
    filled(keep, name, opts)
    local put, each = keep.ns:bind().put, nil
    for _ = 1, 2 do
      each = bench.loop(count, "random", function(keys, batch)
        for i = 1, batch do
          put(keys[i], value, opts)
        end
      end)
    end
    return each
  end
  local lmdb
  _, ratio = bench.contest("overwrite", {
    { "kv", function() return overwritten(kept, "kv") end },
    { "kv with ttl, of keys with one", function()
      return overwritten(kept_ttl, "kv-ttl", ttl)
    end },
    { "LMDB from C", function()
      if lmdb then
        lmdb:close()
      end
      lmdb = bench.rival "lmdb"
      lmdb:load(n)
      lmdb:run("overwrite", count, n)
      return lmdb:run("overwrite", count, n)
    end },
    { "SQLite from C", function() return sqlite:run("overwrite", count // 10, n) end },
  })
  bench.at_least("overwrite: LMDB's time / kv's", ratio("LMDB from C", "kv"), 2.5)

  kept_ttl.store:close()
  local counters = assert(kept.store:namespace "counters")
  bench.title "incr of 1,000 counters"
  bench.contest("incr", {
    { "kv", function()
      return bench.loop(count, "hot", function(keys, batch)
        for i = 1, batch do
          counters:incr(keys[i])
        end
      end)
    end },
    { "LMDB from C", function() return lmdb:run("incr", count, n) end },
    { "SQLite from C", function() return sqlite:run("incr", count // 10, n) end },
  })

  bench.title "put_many, 1,000 keys a call"
  bench.contest("put_many", {
    { "kv, each", function()
      local items = {}
      for i = 1, 1000 do
        items[i] = { value = value }
      end
      local have = 0
      return bench.loop(count, "random", function(keys, batch)
        for i = 1, batch do
          items[have + i].key = keys[i]
        end
        have = (have + batch) % #items
        if have == 0 then
          assert(kept.ns:put_many(items))
        end
      end)
    end },
  })
  lmdb:close()
  sqlite:close()
  kept.store:close()

  -- Where segments go by quickly: what is done once for each of them shows.
  bench.keys = math.min(n, 10000)
  bench.title(("put, overwrite, %d keys"):format(bench.keys))
  local store, ns = bench.store "kv-small"
  bench.fill(ns)
  lmdb = bench.rival "lmdb"
  lmdb:load(bench.keys)
  local put = ns:bind().put
  bench.contest("overwrite", {
    { "kv", function()
      return bench.loop(count, "random", function(keys, batch)
        for i = 1, batch do
          put(keys[i], value)
        end
      end)
    end },
    { "LMDB from C", function() return lmdb:run("overwrite", count, bench.keys) end },
  })
  bench.keys = n
  lmdb:close()
  store:close()
end
