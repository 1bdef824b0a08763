-- What each thread of states.c runs: opens the store again and again, in its own state, beside the
-- others, and lets the collector close some of it.

local kv = require "kv"

local ROUNDS = 20
local text = ("%d "):format(ME):rep(50)

kv.open(STORE):drop("of " .. ME)
for round = 1, ROUNDS do
  -- Closing waits for the disk otherwise.
  local store = assert(kv.open(STORE, { sync = round < ROUNDS and "none" or "interval" }))
  local ns = assert(store:namespace "shared")
  local mine = store:namespace("of " .. ME):bind()
  for i = 1, 25 do
    assert(ns:incr "sum")
    assert(ns:put(("key%d.%d"):format(ME, i), text))
    assert(mine.put("round", round))
    assert(mine.json_push("rounds", "", i))
    local other = ns:get(("key%d.%d"):format(i % N + 1, i))
    assert(other == nil or other == ("%d "):format(i % N + 1):rep(50))
  end
  assert(ns:put("piece" .. ME, text:rep(3000)))
  local reader = ns:get("piece" .. ME, "stream")
  assert(reader:read(#text) == text)
  local names = 0
  for _, value in ns:pairs { prefix = ("key%d."):format(ME) } do
    assert(value == text)
    names = names + 1
  end
  assert(names == 25)
  assert(mine.get "round" == round)
  assert(mine.json_length("rounds", "") == round * 25)
  if round % 3 == 0 then store:close() end
  if round % 3 == 1 then
    store, ns, mine = nil, nil, nil -- luacheck: ignore 311
    collectgarbage()
    assert(reader:read(#text) == text)
  end
  if LEAVES == 1 and ME == 1 and round == 10 then
    if not pcall(os.exit, true, true) then os.exit(0) end -- plain Lua 5.1 knows numbers only
  end
end
