-- Does a page of 100 keys cost the same in a small and in a large store?

return function(bench)
  local n = bench.keys
  local small = math.min(10000, n)
  local count = 5000
  local store = bench.store()
  local few, many = store:namespace "few", store:namespace "many"
  bench.fill(many)
  local all = bench.keys
  bench.keys = small
  bench.fill(few)
  bench.keys = all
  local lmdb, sqlite = bench.rival "lmdb", bench.rival "sqlite"
  lmdb:load(n)
  sqlite:load(n)

  -- A prefix of five digits is shared by 100 keys.
  local function prefixes(keys, batch)
    for i = 1, batch do
      keys[i] = keys[i]:sub(1, 10)
    end
  end
  local function pages(ns, size, opts)
    local list = ns:bind().list
    bench.keys = size
    local spent = bench.loop(count, "random", function(keys, batch)
      for i = 1, batch do
        opts.prefix = keys[i]
        list(opts)
      end
    end, 0, prefixes)
    bench.keys = n
    return spent
  end
  local page = few:list { prefix = "user:00012", limit = 100 }
  assert(#page.keys == 100 and page.list_complete, "a prefix does not give the 100 keys it should")

  bench.title "list, 100 keys by a prefix"
  local opts = { limit = 100 }
  pages(many, n, opts)
  local r = bench.contest("list", {
    { ("kv, %d keys"):format(small), function() return pages(few, small, opts) end },
    { ("kv, %d keys"):format(n), function() return pages(many, n, opts) end },
    { "kv with values", function() return pages(many, n, { limit = 100, values = true }) end },
    { "LMDB from C, keys", function() return lmdb:run("list", count, n) end },
    { "SQLite from C, keys", function() return sqlite:run("list", count, n) end },
  })
  local of_few, of_many = r[("kv, %d keys"):format(small)], r[("kv, %d keys"):format(n)]
  bench.at_most(("list: time at %d keys / at %d"):format(n, small), of_many / of_few, 2)
  bench.at_most("list: a page of 100 keys", math.max(of_few, of_many) / 1000, 25, "us")
  lmdb:close()
  sqlite:close()
  store:close()
end
