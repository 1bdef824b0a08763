-- Runs the questions named as arguments ("all": every one), each in a process of its own, and sums
-- up which goals were met.     KEYS, ROUNDS, SOAK, BENCH_DIR: see bench/README.md

local questions = {
  "get", "put", "durable", "list", "expire", "reopen", "size", "json", "import", "latency", "share",
  "soak",
}

if arg[1] == "--one" then
  local bench = require "bench"
  require("q_" .. arg[2])(bench)
  return
end

local wanted = #arg > 0 and arg[1] ~= "all" and arg or questions
local known = {}
for _, name in ipairs(questions) do
  known[name] = true
end
for _, name in ipairs(wanted) do
  if not known[name] then
    io.stderr:write(("no question '%s'; there are: %s\n"):format(name,
      table.concat(questions, " ")))
    os.exit(2)
  end
end

local function first_line(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local line = pipe:read "l"
  pipe:close()
  return line or "?"
end

-- A directory of its own for each run, inside BENCH_DIR.
local pid = first_line "echo $PPID"
local dir = (os.getenv "BENCH_DIR" or "build/bench") .. "/data." .. pid
local goals = dir .. "/goals"
assert(os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(dir, dir)))
print(("machine  %s, %s cores, Linux %s"):format(
  first_line "sed -n 's/^model name.*: //p' /proc/cpuinfo", first_line "nproc",
  first_line "uname -r"))
print(("store    %s (%s)"):format(dir, first_line(("stat -f -c %%T '%s'"):format(dir))))
if os.getenv "BENCH_CLOCK" == "cpu" then
  print "clock    processor time of the thread"
end
print(("keys     %s, rounds %s; medians, and in the last column the range of the rounds")
  :format(os.getenv "KEYS" or 1000000, os.getenv "ROUNDS" or 3))

local failed = 0
for _, name in ipairs(wanted) do
  local began = os.time()
  local ok = os.execute(("BENCH_DIR='%s' BENCH_GOALS='%s' '%s' bench/run.lua --one %s"):format(dir,
    goals, arg[-1], name))
  if not ok then
    failed = failed + 1
    print(("  question '%s' could not be answered"):format(name))
  end
  print(("  (%d s)"):format(os.time() - began))
end
local file = io.open(goals)
if file then
  print "\nGoals"
  for line in file:lines() do
    print("  " .. line)
  end
  file:close()
end
os.execute(("rm -rf '%s'"):format(dir))
os.exit(failed == 0)
