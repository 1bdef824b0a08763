-- How long does it take to open a store of a million keys?

return function(bench)
  local clock, n = bench.clock, bench.keys
  local kv = require "kv"
  local store, ns = bench.store()
  bench.fill(ns)
  assert(store:sync())
  store:close()
  local path = bench.path "kv"

  local function reopen(cold)
    return function()
      -- Without its index a store is rebuilt from its log.
      os.execute(("rm -f '%s'/index.*"):format(path))
      if cold then
        clock.forget(path)
      end
      local began = clock.now()
      local again = assert(kv.open(path))
      local took = clock.now() - began
      local keys = again:namespace("default"):count()
      assert(keys == n, "after the reopen keys are missing")
      again:close()
      return took / n
    end
  end
  bench.title(("open a store of %d keys, a record each"):format(n))
  local r = bench.contest("replay", {
    { "files cached by the kernel", reopen(false) },
    { "files not cached", reopen(true) },
  })
  bench.at_least("replay of a cold store", 1000 / r["files not cached"], 1, "M/s")
  bench.contest("open", {
    { "after a close, a key", function()
      local began = clock.now()
      local again = assert(kv.open(path))
      local took = clock.now() - began
      again:close()
      return took / n
    end },
  })
end
