-- How many bytes does a key take, beyond its own and its value's?

return function(bench)
  local clock, n = bench.clock, bench.keys
  local data = 12 + 100
  local ttl = { ttl = 86400 }

  local function beyond(store)
    local s = store:stats()
    return (s.live_bytes + s.index_bytes) / n - data, s
  end
  local function show(what, path, store)
    local each, s = beyond(store)
    bench.row(what .. ": header, lookup, order, timer", each, "bytes",
      ("log %.1f, index %.1f a key"):format(s.live_bytes / n - data, s.index_bytes / n))
    local blocks, length, files = clock.du(path)
    bench.row(what .. ": all files", blocks / n, "bytes",
      ("%.2f x key and value; %d files, lengths %.1f"):format(blocks / n / data, files, length / n))
    return each
  end

  bench.title(("bytes a key, %d keys of 12 bytes with values of 100"):format(n))
  local _, anon = clock.rss()
  local store, ns = bench.store()
  local path = bench.path "kv"
  bench.fill(ns, n, ttl)
  assert(store:sync())
  local fresh = show("fresh, with ttl", path, store)
  bench.fill(ns, n, ttl)
  -- The cleaner catches up.
  repeat until store:tick(10000) == 0
  assert(store:sync())
  local over = show("overwritten, with ttl", path, store)
  local _, anon2, file, shared = clock.rss()
  bench.row("resident: private memory", (anon2 - anon) / n, "bytes",
    ("mapped files %.1f, shared %.1f a key"):format(file / n, shared / n))
  store:close()
  bench.at_most("bytes beyond a fresh key with ttl", fresh, 80)
  bench.at_most("bytes beyond an overwritten key with ttl", over, 92)

  for _, kind in ipairs { "lmdb", "sqlite" } do
    local rival = bench.rival(kind)
    rival:load(n)
    rival:close()
    bench.row(kind .. ": all files", clock.du(bench.path(kind)) / n, "bytes")
    bench.fresh(kind)
  end

  local small, default = bench.store "kv-ten"
  for i = 1, 10 do
    assert(default:put("key" .. i, "a small value"))
  end
  assert(small:sync())
  local open_bytes = clock.du(bench.path "kv-ten")
  small:close()
  local closed_bytes = clock.du(bench.path "kv-ten")
  bench.row("a store with ten small keys", open_bytes / 1024, "KiB",
    ("closed: %.0f KiB"):format(closed_bytes / 1024))
  bench.at_most("a store with ten small keys", math.max(open_bytes, closed_bytes) / 1024, 256,
    "KiB")
end
