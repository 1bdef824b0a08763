-- How long do the slowest of a million calls take?

return function(bench)
  local clock, n, value = bench.clock, bench.keys, bench.value
  local count = math.min(n, 1000000)
  local store, ns = bench.store()
  bench.fill(ns)
  local lmdb = bench.rival "lmdb"
  lmdb:load(n)

  local function measure(step)
    local h, keys = clock.hist(), {}
    for _ = 1, count // bench.chunk do
      clock.keys(keys, bench.chunk, n, "random")
      for i = 1, bench.chunk do
        local key = keys[i]
        h:start()
        step(key)
        h:stop()
      end
    end
    return h
  end

  bench.title(("latency of %d calls, clock included"):format(count))
  local hundred = clock.hundred
  local idle = measure(function(k) return hundred(k) end)
  bench.percentiles("empty C function", idle)
  bench.percentiles("kv get", measure(function(k) return ns:get(k) end))
  bench.percentiles("LMDB get from C", lmdb:latency("get", count, n))
  local put = measure(function(k) return ns:put(k, value) end)
  bench.percentiles("kv put, overwrite", put)
  bench.percentiles("LMDB put from C", lmdb:latency("overwrite", count, n))
  bench.percentiles("kv incr", measure(function(k) return ns:incr("hits:" .. k:sub(-3)) end))
  store:close()
  lmdb:close()
  bench.at_most(("latency: p99.99 of put; of an empty call %.2f ms"):format(idle:p(.9999) / 1e6),
    put:p(.9999) / 1e6, math.max(1, idle:p(.9999) / 1e6), "ms")
end
