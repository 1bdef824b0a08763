-- With two workers: what worker 0 does all the time while worker 1 answers the requests. The
-- dictionary `control` says what: "rest", "kv" (every key in pages) or "dict" (get_keys).

local bench = require "bench"
local clock = require "clock"
local fill = require "fill"

local lister = {}

local LONG = 0.5 -- s

local control, dict, ns = ngx.shared.control, ngx.shared.rival, nil

local doing = {}

function doing.rest()
  ngx.sleep(0.01)
end

doing.none = doing.rest

-- Between two pages the event loop has its turn. Ends early when something else is to be done.
function doing.kv()
  local cursor, keys = nil, 0
  repeat
    local page = assert(ns:list { limit = 1000, cursor = cursor })
    keys, cursor = keys + #page.keys, page.cursor
    control:incr("listed", #page.keys, 0)
    ngx.sleep(0.001)
  until cursor == nil or control:get "mode" ~= "kv"
  assert(cursor or keys == bench.keys)
end

function doing.dict()
  local keys = #dict:get_keys(0)
  assert(keys == bench.keys)
  control:incr("listed", keys, 0)
  ngx.sleep(0.001)
end

local function work(premature)
  if premature then return end
  ns = fill()
  control:set("mode", "rest")
  local last
  while not ngx.worker.exiting() do
    local mode = control:get "mode"
    if mode ~= last then
      last = mode
      control:set("doing", mode)
      -- While this worker is away the other one accepts the connections that are made.
      clock.sleep(LONG)
    end
    doing[mode]()
  end
end

function lister.start()
  if ngx.worker.id() == 0 then assert(ngx.timer.at(0, work)) end
end

local function key()
  return ("user:%07d"):format(math.random(0, bench.keys - 1))
end

-- A request.
function lister.serve(what)
  if ngx.worker.id() == 0 then control:set("stray", true) end
  if what == "dict" then
    ngx.print(assert(dict:get(key())))
  else
    ns = ns or assert(require "kv".open(bench.path "kv")):namespace "default"
    ngx.print(assert(ns:get(key())))
  end
end

return lister
