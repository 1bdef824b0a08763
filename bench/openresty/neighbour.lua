-- With two workers: how long do the requests to one take while the other lists all keys?
--   lua5.4 neighbour.lua PORT

local bench = require "bench"
local clock = bench.clock

local port = arg[1]
local SECONDS = 4
local COMMAND = ("taskset -c 1 wrk -t 1 -c 8 -d %ds --timeout 20s -s bench/openresty/report.lua "
  .. "'http://127.0.0.1:%d/get?of=%%s'"):format(SECONDS, port)

local function run(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "a"
  assert(pipe:close(), command)
  return said
end

-- A word of the server's dictionary `control`; nil: it is not there.
local function word(key, value)
  local said = run(("curl -sS 'http://127.0.0.1:%s/control?%s=%s'"):format(port, key, value or ""))
  said = said:match "%S+"
  return said ~= "nil" and said or nil
end

local function wait_until(key, value)
  while word(key) ~= value do
    clock.sleep(0.05)
  end
end

-- Requests that read one key of `of` from worker 1, while worker 0 is `doing` that: p99 in ns.
-- Worker 0 has a processor of its own; worker 1 and wrk share the other. So what is seen is what
-- the stores do to each other, and not who gets a processor.
local function measure(of, doing, notes)
  word("mode", doing)
  wait_until("doing", doing)
  local before = tonumber(word "listed") or 0
  local said = run(COMMAND:format(of))
  local p99, max, failed, rate = said:match "p99 (%d+) max (%d+) failed (%d+) rate (%d+)"
  assert(p99 and failed == "0", said)
  local listed = ((tonumber(word "listed") or 0) - before) / SECONDS
  if word "stray" then -- wrk came too late, and worker 0 got connections: not what was asked
    word("stray", "nil")
    word("mode", "none")
    wait_until("doing", "none")
    return measure(of, doing, notes)
  end
  notes[#notes + 1] = { max = max / 1000, rate = tonumber(rate), listed = listed }
  return p99 * 1000
end

wait_until("mode", "rest")
bench.title(("two workers, %d keys: p99 of requests to one, while the other"):format(bench.keys))
bench.rounds = bench.rounds * 2
local entries, notes = {}, {}
for i, case in ipairs {
  { "kv", "rest", "rests" }, { "kv", "kv", "lists all keys, 1,000 a page" },
  { "dict", "rest", "rests" }, { "dict", "dict", "calls get_keys(0)" },
} do
  notes[i] = {}
  entries[i] = { case[3] .. " (" .. case[1] .. ")", function()
    return measure(case[1], case[2], notes[i])
  end }
end
local p99 = bench.contest("p99", entries)
word("mode", "rest")
local rate = {}
for i, entry in ipairs(entries) do
  local function median(what)
    local values = {}
    for k, note in ipairs(notes[i]) do values[k] = note[what] end
    return bench.median(values)
  end
  rate[i] = median "rate"
  bench.row("slowest, " .. entry[1], median "max", "ms",
    ("%.0f requests/s, %.0f keys listed/s"):format(rate[i], median "listed"))
end
bench.at_most("p99 of requests: while the other worker lists / rests",
  p99[entries[2][1]] / p99[entries[1][1]], 1.2)
-- The few requests that wait a second for the dictionary are less than a hundredth of those that
-- get through in between: not p99 tells, but how many there are.
bench.row("requests/s while the other lists / rests (kv)", rate[2] / rate[1], "times")
bench.row("requests/s with get_keys(0) / at rest (dict)", rate[4] / rate[3], "times")
