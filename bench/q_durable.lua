-- What does a put cost that is on the disk when it returns?

return function(bench)
  local clock, value = bench.clock, bench.value
  local count = tonumber(os.getenv "DURABLE") or 3000
  local n = bench.keys

  local store, ns = bench.store("kv-always", { sync = "always" })
  local lmdb, sqlite = bench.rival "lmdb-sync", bench.rival "sqlite-full"
  lmdb:load(n // 10)
  sqlite:load(n // 10)
  local hists = {}

  bench.title "put, durable when it returns"
  local result = bench.contest("durable put", {
    { "kv, sync = \"always\"", function()
      local h = clock.hist()
      hists.kv = h
      local keys = {}
      clock.keys(keys, count, n, "random")
      for i = 1, count do
        h:start()
        ns:put(keys[i], value)
        h:stop()
      end
      return h:p(.5)
    end },
    { "write + fdatasync of 100 bytes", function()
      local h = clock.bare(bench.path "bare", count)
      hists.bare = h
      return h:p(.5)
    end },
    { "LMDB from C", function() return lmdb:latency("overwrite", count // 3, n // 10):p(.5) end },
    { "SQLite from C", function()
      return sqlite:latency("overwrite", count // 3, n // 10):p(.5)
    end },
  })
  bench.percentiles("kv", hists.kv)
  bench.percentiles("write + fdatasync", hists.bare)
  bench.at_most("durable put: kv's time / write + fdatasync's",
    result["kv, sync = \"always\""] / result["write + fdatasync of 100 bytes"], 1.3)
  lmdb:close()
  sqlite:close()
  store:close()
end
