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
  bench.percentiles("empty C function", measure(function(k) return hundred(k) end))
  bench.percentiles("kv get", measure(function(k) return ns:get(k) end))
  bench.percentiles("LMDB get from C", lmdb:latency("get", count, n))
  bench.percentiles("kv put, overwrite", measure(function(k) return ns:put(k, value) end))
  bench.percentiles("LMDB put from C", lmdb:latency("overwrite", count, n))
  bench.percentiles("kv incr", measure(function(k) return ns:incr("hits:" .. k:sub(-3)) end))
  store:close()
  lmdb:close()
end
