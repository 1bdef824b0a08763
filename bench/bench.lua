-- What every question of the benchmark shares: rounds, medians, keys, rivals, rows.
--
-- A question is a file bench/q_<name>.lua that returns function(bench). It runs in a process of its
-- own (bench/run.lua starts them). Whatever is compared is measured in turns, round by round,
-- so that a slow minute of the machine hits all alike; what is printed is the median.

local clock = require "clock"

local unpack = table.unpack or unpack -- luacheck: ignore 113

local bench = {
  clock = clock,
  keys = tonumber(os.getenv "KEYS") or 1000000,
  rounds = tonumber(os.getenv "ROUNDS") or 3,
  dir = os.getenv "BENCH_DIR" or "build/bench",
  chunk = 200,
  value = ("v"):rep(100),
}

-- Not print, which is the server's log in nginx.
local function say(text)
  io.write(text, "\n")
  io.flush()
end

-- Rows go to the terminal for people, and to $BENCH_GOALS for the summary of run.lua.
function bench.row(what, value, unit, note)
  local digits = (unit == "ns" or value >= 1000) and "%.0f" or "%.2f"
  say(("  %-46s %10s %-8s %s"):format(what, digits:format(value), unit, note or ""))
end

function bench.title(text)
  say("\n" .. text)
end

-- A figure with a goal: met when value <= limit (at_most) or value >= limit (at_least).
local function goal(what, value, sign, limit, unit)
  local met = sign == "<=" and value <= limit or sign == ">=" and value >= limit
  local line = ("%-58s %9.2f %-6s %s %-7g %s"):format(what, value, unit or "", sign, limit,
    met and "met" or "NOT MET")
  say("  goal: " .. line)
  local path = os.getenv "BENCH_GOALS"
  if path then
    local file = assert(io.open(path, "a"))
    file:write(line, "\n")
    file:close()
  end
end

function bench.at_most(what, value, limit, unit)
  goal(what, value, "<=", limit, unit)
end

function bench.at_least(what, value, limit, unit)
  goal(what, value, ">=", limit, unit)
end

function bench.median(values)
  local v = { unpack(values) }
  table.sort(v)
  local middle = math.floor((#v + 1) / 2)
  return #v % 2 == 1 and v[middle] or (v[middle] + v[middle + 1]) / 2
end

-- contest { {name, function(round) -> ns}, ... } runs them in turns; returns name -> median, and
-- prints a row for each. Second result: ratio(a, b), the median of what a took to what b took in
-- the same round.
function bench.contest(what, entries)
  local results = {}
  for round = 1, bench.rounds do
    for i = 1, #entries do
      -- Each round begins with another one and every other goes backwards, so that nobody always
      -- comes behind the same one, whose pages the kernel may still be writing.
      local turn = round % 2 == 1 and i - 1 or 1 - i
      local entry = entries[(round - 1 + turn) % #entries + 1]
      collectgarbage()
      os.execute "sync" -- what others wrote is not left to be written beside this one
      local list = results[entry[1]] or {}
      results[entry[1]] = list
      list[#list + 1] = entry[2](round)
    end
  end
  local medians = {}
  for _, entry in ipairs(entries) do
    local list = results[entry[1]]
    medians[entry[1]] = bench.median(list)
    bench.row(what .. ", " .. entry[1], medians[entry[1]], "ns",
      ("%.0f .. %.0f"):format(math.min(unpack(list)), math.max(unpack(list))))
  end
  return medians, function(a, b)
    local ratios = {}
    for round, ns in ipairs(results[a]) do
      ratios[round] = ns / results[b][round]
    end
    return bench.median(ratios)
  end
end

-- Runs step(keys, first, last) over count keys, chunk by chunk; returns ns a key. The keys are made
-- outside the measured time, few at a time so that they do not weigh on the garbage collector: with
-- a thousand at a time Lua's table of short strings grows and shrinks all the time, which costs any
-- call 40 ns, an empty one as well.
-- how = "random" (start is added) | "hot" (of 1,000) | "shuffled" | "sorted" (both count from
-- start); made: makes of the keys what step takes.
function bench.loop(count, how, step, start, made)
  local spent, done, keys = 0, 0, {}
  local n = bench.keys
  while done < count do
    local batch = math.min(bench.chunk, count - done)
    local ordered = how == "shuffled" or how == "sorted"
    clock.keys(keys, batch, n, how, (start or 0) + (ordered and done or 0))
    if made then
      made(keys, batch)
    end
    local began = clock.now()
    step(keys, batch)
    spent = spent + (clock.now() - began)
    done = done + batch
  end
  return spent / count
end

function bench.path(name)
  return bench.dir .. "/" .. name
end

-- A new directory for the rival or store `name`; what was there goes.
function bench.fresh(name)
  local path = bench.path(name)
  assert(os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(path, bench.dir)))
  return path
end

function bench.rival(kind, name)
  return require "rivals".open(kind, bench.fresh(name or kind))
end

function bench.store(name, opts)
  local store = assert(require "kv".open(bench.fresh(name or "kv"), opts))
  return store, assert(store:namespace "default")
end

-- Puts count keys of the shuffled order, beginning at start; returns ns a key.
function bench.fill(ns, count, opts, start)
  local put, value = ns:bind().put, bench.value
  return bench.loop(count or bench.keys, "shuffled", function(keys, batch)
    for i = 1, batch do
      if not put(keys[i], value, opts) then
        error(select(2, put(keys[i], value, opts)))
      end
    end
  end, start)
end

function bench.percentiles(what, hist)
  say(("  %-30s p50 %7.0f  p99 %8.0f  p99.9 %9.0f  p99.99 %9.0f  max %10.0f ns"):format(what,
    hist:p(.5), hist:p(.99), hist:p(.999), hist:p(.9999), hist:max()))
end

return bench
