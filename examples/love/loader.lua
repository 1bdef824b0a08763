-- A thread of LÖVE's, which is a Lua of its own: it opens the same store and shares its mapping. It
-- makes the waves of the levels ahead and leaves them in the store; the game takes them from there.
-- What was made once is there at the next start.

local path, first, count = ...

local kv = require "kv"

local store = assert(kv.open(path))
local levels = store:namespace "levels"

-- The same level is the same for everyone: its own generator, seeded with its number.
local function random(seed)
  local state = seed * 7919 % 2147483647
  return function(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end
end

local function wave(number)
  local pick, drops = random(number), kv.array()
  local gap = math.max(20, 60 - 4 * number)
  for i = 1, 15 + 5 * number do
    drops[i] = { at = i * gap, x = 20 + pick(440), kind = pick(10) == 1 and "gold" or "star" }
  end
  return { drops = drops, frames = (#drops + 1) * gap, speed = 3 + 0.5 * number }
end

for number = first, first + count - 1 do
  local key = ("level:%04d"):format(number)
  if not levels:exists(key) then
    assert(levels:put(key, wave(number), { set_if = "not_exist" }))
  end
end
store:close()
