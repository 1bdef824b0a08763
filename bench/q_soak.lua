-- Does a store that is overwritten for ever stay small and quick?     SOAK = overwrites

return function(bench)
  local clock, value = bench.clock, bench.value
  local total = tonumber(os.getenv "SOAK") or 3000000
  local live = 16 * 1024 * 1024
  local n = live // 112 + 1
  bench.keys = n
  local store, ns = bench.store "kv-soak"
  local path = bench.path "kv-soak"
  bench.fill(ns)

  bench.title(("%d overwrites of 16 MiB in %d keys"):format(total, n))
  local h, idle, keys = clock.hist(), clock.hist(), {}
  local largest, done, began = 0, 0, clock.now()
  local hundred = clock.hundred
  while done < total do
    clock.keys(keys, bench.chunk, n, "random")
    for i = 1, bench.chunk do
      local key = keys[i]
      h:start()
      ns:put(key, value)
      h:stop()
    end
    -- The same with nothing to do: what the scheduler and the clock alone cost.
    for i = 1, bench.chunk do
      local key = keys[i]
      idle:start()
      hundred(key)
      idle:stop()
    end
    done = done + bench.chunk
    if done % (bench.chunk * 5) == 0 then
      largest = math.max(largest, (clock.du(path)))
    end
  end
  bench.row("an overwrite", h:mean(), "ns",
    ("%.0f s in all"):format((clock.now() - began) / 1e9))
  bench.percentiles("put", h)
  bench.percentiles("empty C function", idle)
  bench.row("all files at their largest / live data", largest / live, "x",
    ("now %.2f"):format(clock.du(path) / live))
  assert(store:check())
  store:close()
  bench.at_most(("soak: files / live data, %d M overwrites"):format(total // 1000000),
    largest / live, 2.2)
  -- What an empty call takes as long as is the scheduler's.
  bench.at_most(("soak: p99.99 of put; of an empty call %.2f ms"):format(idle:p(.9999) / 1e6),
    h:p(.9999) / 1e6, math.max(1, idle:p(.9999) / 1e6), "ms")
end
