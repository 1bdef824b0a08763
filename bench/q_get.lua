-- How long does a get take, over all keys and over few?

return function(bench)
  local clock, n = bench.clock, bench.keys
  local store, ns = bench.store()
  bench.fill(ns)
  local lmdb, sqlite = bench.rival "lmdb", bench.rival "sqlite"
  lmdb:load(n)
  sqlite:load(n)
  local count = math.min(n, 500000)

  local function kv_get(keys, batch)
    for i = 1, batch do
      ns:get(keys[i])
    end
  end
  local bound = ns:bind().get
  local function kv_bound_get(keys, batch)
    for i = 1, batch do
      bound(keys[i])
    end
  end
  local hundred = clock.hundred
  local function empty(keys, batch)
    for i = 1, batch do
      hundred(keys[i])
    end
  end

  for _, how in ipairs { "random", "hot" } do
    bench.loop(count, how, kv_get)
    lmdb:run(how == "hot" and "hot" or "get", count, n)
  end

  bench.title(("get, %d keys, uniform"):format(n))
  local _, ratio = bench.contest("get", {
    { "kv", function() return bench.loop(count, "random", kv_bound_get) end },
    { "kv, as a method", function() return bench.loop(count, "random", kv_get) end },
    { "LMDB from C", function() return lmdb:run("get", count, n) end },
    { "SQLite from C", function() return sqlite:run("get", count // 10, n) end },
  })
  bench.at_least("get uniform: LMDB's time / kv's", ratio("LMDB from C", "kv"), 1.8)

  bench.title "get, 1,000 hot keys"
  _, ratio = bench.contest("get hot", {
    { "kv", function() return bench.loop(count, "hot", kv_bound_get) end },
    { "kv, as a method", function() return bench.loop(count, "hot", kv_get) end },
    { "empty C function", function() return bench.loop(count, "hot", empty) end },
    { "LMDB from C", function() return lmdb:run("hot", count, n) end },
    { "SQLite from C", function() return sqlite:run("hot", count // 10, n) end },
  })
  bench.at_most("get hot: kv's time / empty C function's", ratio("kv", "empty C function"), 2)

  bench.title "other reads"
  bench.contest("get", {
    { "a miss", function()
      return bench.loop(count, "random", kv_get, n)
    end },
    { "exists", function()
      return bench.loop(count, "random", function(keys, batch)
        for i = 1, batch do
          ns:exists(keys[i])
        end
      end)
    end },
    { "get_many of 100, each", function()
      local many = {}
      return bench.loop(count, "random", function(keys, batch)
        for at = 0, batch - 100, 100 do
          table.move(keys, at + 1, at + 100, 1, many)
          ns:get_many(many)
        end
      end)
    end },
  })
  lmdb:close()
  sqlite:close()
  store:close()

  -- Last, since a table of a million strings would weigh on the collector in all of the above.
  bench.title "a plain Lua table"
  local t = {}
  bench.loop(n, "shuffled", function(keys, batch)
    for i = 1, batch do
      t[keys[i]] = keys[i] .. ("v"):rep(88)
    end
  end)
  bench.contest("get", {
    { "Lua table", function()
      return bench.loop(count, "random", function(keys, batch)
        local v
        for i = 1, batch do
          v = t[keys[i]]
        end
        return v
      end)
    end },
  })
end
