-- Several processes on one store: how quickly one joins, what a dead writer costs the next, whether
-- readers and writers of two processes are in each other's way.

-- A process of its own: runs `body` (Lua, with kv, clock, ns, store, path, n) and returns what it
-- prints.
local function process(bench, opts, body, shell)
  local script = ([[
    local kv, clock, path, n = require "kv", require "clock", %q, %d
    local store = assert(kv.open(path, %s))
    local ns = assert(store:namespace "default")
    %s
  ]]):format(bench.path "kv", bench.keys, opts, body)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(script)
  file:close()
  -- The shell's own word on those that are killed is no news.
  local pipe = io.popen(("exec 3>&2 2>/dev/null; (%s '%s' '%s' 2>&3); rm -f '%s'"):format(
    shell or "", arg[-1], name, name))
  return function()
    local text = pipe:read "a"
    pipe:close()
    return text
  end
end

local function together(bench, count, opts, body, shell)
  local running, sum = {}, 0
  for i = 1, count do
    running[i] = process(bench, opts, body, shell)
  end
  for i = 1, count do
    local text = running[i]()
    sum = sum + assert(tonumber(text), text)
  end
  return sum
end

-- Gets a second of this thread's own time. `how`: of any key, or of 1,000 hot ones.
local function reading(how)
  return ([[
    local keys, done, spent = {}, 0, 0
    while done < 1000000 do
      clock.keys(keys, 20000, n, "%s", 0)
      local began = clock.now()
      for i = 1, 20000 do
        ns:get(keys[i])
      end
      spent = spent + clock.now() - began
      done = done + 20000
    end
    io.write(done / spent * 1e9)
  ]]):format(how)
end

-- How long the slowest get in a thousand takes, and the slowest call of an empty function.
local function waiting(how)
  return ([[
    local keys, gets, calls, empty = {}, clock.hist(), clock.hist(), clock.hundred
    for _ = 1, 50 do
      clock.keys(keys, 20000, n, "%s", 0)
      for i = 1, 20000 do
        local key = keys[i]
        gets:start()
        ns:get(key)
        gets:stop()
        calls:start()
        empty(key)
        calls:stop()
      end
    end
    io.write(gets:p(.999), " ", calls:p(.999))
  ]]):format(how)
end

-- Work that goes on until the file `stop` is there.
local function going_on(work)
  return [[
    local value, keys, cursor, done = ("w"):rep(100), {}, nil, 0
    io.open(path .. ".begun", "w"):close()
    repeat
    ]] .. work .. [[
      done = done + 1
      local stop = done % 16 == 0 and io.open(path .. ".stop")
    until stop
    io.write(done)
  ]]
end

local function writing(how)
  return going_on(([[
      clock.keys(keys, 100, n, "%s", 0)
      for i = 1, 100 do ns:put(keys[i], value) end
  ]]):format(how))
end

local listing = going_on [[
      local page = ns:list { limit = 1000, cursor = cursor }
      cursor = page.cursor
]]

-- For a second, by the wall: waiting for the disk is what is shared.
local syncing = [[
  local began, done = os.time(), 0
  while os.time() == began do end
  began = os.time()
  repeat
    ns:put("always " .. done % 100, "value")
    done = done + 1
  until os.time() >= began + 3
  io.write(done / 3)
]]

-- What measure() gives while another process does `work`; and how often that did it.
local function beside(bench, work, measure)
  local begun, stop = bench.path "kv.begun", bench.path "kv.stop"
  os.remove(begun)
  os.remove(stop)
  local ended = process(bench, "{}", work)
  repeat
    os.execute "sleep 0.01"
    local file = io.open(begun)
  until file and file:close()
  local result = measure()
  io.open(stop, "w"):close()
  return result, assert(tonumber(ended()))
end

-- Both in the reader's own processor time: on two processors a writer, its helper thread and a
-- reader do not all run at once.
local function readers_beside(bench)
  local cpu = "BENCH_CLOCK=cpu"
  local function speed(how)
    return function() return together(bench, 1, "{}", reading(how), cpu) end
  end
  for _, case in ipairs {
    { "random", writing "random", "writer", "gets of any key beside a writer of any key", .8 },
    { "hot", writing "hot", "writer", "gets of 1,000 hot keys beside their writer", .3 },
    { "random", listing, "lister", "gets beside a lister of all keys", .9 },
  } do
    local how, work, who, title, limit = table.unpack(case)
    bench.title(title)
    local alone, shared, others = {}, {}, {}
    for i = 1, bench.rounds do
      alone[i] = speed(how)()
      shared[i], others[i] = beside(bench, work, speed(how))
    end
    bench.row("alone", bench.median(alone), "/s")
    bench.row("beside a " .. who, bench.median(shared), "/s",
      ("the %s did %.0f rounds"):format(who, bench.median(others)))
    bench.at_least(title, bench.median(shared) / bench.median(alone), limit, "x")
    if who == "writer" then
      local slowest = {}
      for i = 1, bench.rounds do
        local text = beside(bench, work, function()
          return process(bench, "{}", waiting(how))()
        end)
        local get, call = text:match "^(%d+) (%d+)$"
        slowest[i] = assert(tonumber(get), text)
        bench.row("p99.9 of a get beside it", slowest[i], "ns",
          ("of an empty function %s"):format(call))
      end
      bench.at_most("p99.9 of a get, " .. how, bench.median(slowest) / 1000, 20, "us")
    end
  end
end

local function joining(bench, kv, clock)
  local path = bench.path "kv"
  local function open()
    local began = clock.now()
    local store = assert(kv.open(path))
    local took = clock.now() - began
    assert(store:stats().replayed == 0, "it was replayed")
    return took, store
  end
  local function elsewhere()
    return tonumber(process(bench, "{}", [[
      store:close()
      local began = clock.now()
      store = assert(kv.open(path))
      io.write(clock.now() - began)
    ]])())
  end
  bench.title(("join a store of %d keys"):format(bench.keys))
  local keeper
  local r = bench.contest("open", {
    { "that another process has open", function()
      keeper = assert(kv.open(path))
      local took = elsewhere()
      keeper:close()
      return took
    end },
    { "after a close", function()
      local took, store = open()
      store:close()
      return took
    end },
    { "after its only user was killed", function()
      process(bench, "{}", [[
        for i = 1, 1000 do ns:put("killed" .. i, "value") end
        os.execute "kill -9 $PPID"
      ]])()
      local took, store = open()
      store:close()
      return took
    end },
  })
  for name, took in pairs(r) do
    bench.at_most("open " .. name, took / 1e6, 5, "ms")
  end
end

-- A writer puts for 10 ms and is killed in the middle of it, in turns with one that ends by itself.
-- Each time the next put is that of a process that has had the store open all along. What the two
-- have in common is the price of a first put after many of somebody else's: pages of the log that
-- are not mapped here yet, a segment to be made, the disk to be waited for where it is far behind.
-- What the machine adds is told apart: a put waits for a processor, or for a lock while its owner
-- (mostly this process's own helper, busy since the put before) waits for one.
local function first_puts(bench, kv)
  local clock, rounds = bench.clock, 200
  local store = assert(kv.open(bench.path "kv"))
  local ns = store:namespace "default"
  local clocks = { "by the wall", "less waits for a processor", "processor time" }
  local writers = {
    { "was killed", [[
      os.execute "(sleep 0.01; kill -9 $PPID) &"
      local i = 0
      while true do i = i + 1; ns:put("killed" .. i % 1000, "value") end
    ]] },
    { "ended by itself", [[
      os.execute "sleep 0.01 &"
      local i, ended = 0, clock.now() + 10000000
      while clock.now() < ended do i = i + 1; ns:put("killed" .. i % 1000, "value") end
      os.exit()
    ]] },
  }
  for _ = 1, rounds do
    for _, writer in ipairs(writers) do
      process(bench, "{ thread = false }", writer[2])()
      local took = table.pack(clock.taken(ns.put, ns, "survivor", "value"))
      assert(took[4], took[5])
      for i = 1, #clocks do
        writer[clocks[i]] = writer[clocks[i]] or {}
        table.insert(writer[clocks[i]], took[i])
      end
    end
  end
  for _, writer in ipairs(writers) do
    bench.title(("the first put after another writer %s, %d times"):format(writer[1], rounds))
    for _, name in ipairs(clocks) do
      table.sort(writer[name])
      local all = writer[name]
      bench.row(name .. ", median", bench.median(all), "ns",
        ("p99 %.0f, worst %.0f"):format(all[math.ceil(#all * .99)], all[#all]))
    end
  end
  for _, name in ipairs { "by the wall", "processor time" } do
    local all = writers[1][name]
    bench.at_most("first put after a dead writer, worst, " .. name, all[#all] / 1e6, 1, "ms")
  end
  store:close()
end

return function(bench)
  local clock, kv = bench.clock, require "kv"
  local store, ns = bench.store()
  bench.fill(ns)
  assert(store:sync())
  store:close()
  joining(bench, kv, clock)
  first_puts(bench, kv)

  bench.title "gets a second, by processes that read"
  local one, two = {}, {}
  for i = 1, bench.rounds do
    one[i] = together(bench, 1, "{}", reading "random")
    two[i] = together(bench, 2, "{}", reading "random")
  end
  bench.row("one process", bench.median(one), "/s")
  bench.row("two processes", bench.median(two), "/s")
  bench.at_least("two reading processes", bench.median(two) / bench.median(one), 1.8, "x one")

  readers_beside(bench)

  bench.title "puts a second with sync = \"always\", by processes that write"
  local slow = "LD_PRELOAD=build/bench/slow_sync.so"
  for _, disk in ipairs { "bare", "slow" } do
    local shell = disk == "slow" and slow or nil
    local w1, w2, per = {}, {}, {}
    store = assert(kv.open(bench.path "kv"))
    for i = 1, bench.rounds do
      w1[i] = together(bench, 1, "{ sync = 'always' }", syncing, shell)
      local syncs, rev = store:stats().syncs, store:rev()
      w2[i] = together(bench, 2, "{ sync = 'always' }", syncing, shell)
      per[i] = (store:rev() - rev) / (store:stats().syncs - syncs)
    end
    store:close()
    bench.row(disk .. " disk, one process", bench.median(w1), "/s")
    bench.row(disk .. " disk, two processes", bench.median(w2), "/s",
      ("%.2f writes a sync"):format(bench.median(per)))
    bench.at_least("two always writers, " .. disk .. " disk",
      bench.median(w2) / bench.median(w1), disk == "slow" and 1.5 or 1, "x one")
    if disk == "slow" then
      bench.at_least("writes a sync", bench.median(per), 1.5, "")
    end
  end
end
