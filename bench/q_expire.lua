-- What does a key cost when it falls due, and does any single call take long because of it?

return function(bench)
  local clock, n, value = bench.clock, bench.keys, bench.value

  -- All keys fall due within one second, in key order or shuffled, well after they were put.
  local function due_store(how)
    local store, ns = bench.store("kv-due")
    -- Three microseconds a key are enough to load them, or the machine is too busy to measure.
    local base = clock.time() + 1 + n * 3e-6
    local opts, done = {}, 0
    local each = 1 / n
    bench.loop(n, "sorted", function(keys, batch)
      for i = 1, batch do
        local at = done + i - 1
        if how == "random" then
          at = at * 2654435761 % n
        end
        opts.expiration = base + at * each
        if not ns:put(keys[i], value, opts) then
          error(select(2, ns:put(keys[i], value, opts)))
        end
      end
      done = done + batch
    end)
    local left = base + 1.5 - clock.time()
    if left < 1.5 then
      error "the keys fell due while they were put; try fewer (KEYS=...)"
    end
    clock.sleep(left)
    return store, ns
  end

  local function by_tick(how)
    local store = due_store(how)
    local h = clock.hist()
    local began = clock.now()
    repeat
      h:start()
      local some = store:tick(1000)
      h:stop()
    until store:stats().keys == 0 or some == 0
    local each = (clock.now() - began) / n
    bench.row(("by tick(1000), due in %s order"):format(how), each, "ns",
      ("one call at most %.0f us"):format(h:max() / 1000))
    assert(store:stats().keys == 0 and store:namespace("default"):count() == 0)
    began = clock.now()
    repeat until store:tick(1000) == 0
    bench.row("  what is left to clean up after that", (clock.now() - began) / n, "ns")
    store:close()
    return each
  end

  -- Writes of one and the same key; what they cost beyond the same writes with nothing due.
  local function by_writes(how)
    local store, ns = due_store(how)
    local h, writes, quiet = clock.hist(), 0, clock.hist()
    local began = clock.now()
    repeat
      for _ = 1, 1000 do
        h:start()
        ns:put("writer", value)
        h:stop()
      end
      writes = writes + 1000
    until store:stats().keys <= 1 or writes > 4 * n
    local took = clock.now() - began
    began = clock.now()
    for _ = 1, writes do
      quiet:start()
      ns:put("writer", value)
      quiet:stop()
    end
    local each = (took - (clock.now() - began)) / n
    bench.row(("by writes, due in %s order"):format(how), each, "ns",
      ("%d writes; p99.99 %.0f us, with nothing due %.0f us"):format(writes, h:p(.9999) / 1000,
        quiet:p(.9999) / 1000))
    bench.percentiles("a put while keys fall due", h)
    bench.percentiles("the same, nothing due", quiet)
    store:close()
    return each, h:max(), quiet:max()
  end

  bench.title(("%d keys falling due"):format(n))
  local limits = { key = 300, random = 700 }
  for _, how in ipairs { "key", "random" } do
    local tick = by_tick(how)
    local write, worst, quiet = by_writes(how)
    bench.at_most(("expire by tick, %s order"):format(how), tick, limits[how], "ns")
    bench.at_most(("expire by writes, %s order"):format(how), write, limits[how], "ns")
    -- What the machine does to the same calls with nothing due is not the store's.
    bench.at_most(("expire by writes, %s order: worst call"):format(how), worst / 1e6,
      math.max(1, quiet / 1e6), "ms")
  end
  bench.fresh "kv-due"
end
