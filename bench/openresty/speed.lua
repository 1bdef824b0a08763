-- In one worker: get and put of kv and of ngx.shared.DICT, in turns.

local bench = require "bench"
local fill = require "fill"

return function()
  local ns, dict = fill()
  local n, value = bench.keys, bench.value
  local count = math.min(n, 500000)

  local function kv_get(keys, batch)
    for i = 1, batch do
      ns:get(keys[i])
    end
  end
  local function dict_get(keys, batch)
    for i = 1, batch do
      dict:get(keys[i])
    end
  end
  local function kv_put(keys, batch)
    for i = 1, batch do
      ns:put(keys[i], value)
    end
  end
  local function dict_set(keys, batch)
    for i = 1, batch do
      dict:set(keys[i], value)
    end
  end

  -- Returns how many times as long the dictionary takes. start: see bench.loop.
  local function compare(what, how, kv_step, dict_step, start)
    local function entry(name, step)
      return { name, function(round)
        return bench.loop(count, how, step, start and start(round))
      end }
    end
    local took = bench.contest(what, { entry("kv", kv_step), entry("dict", dict_step) })
    return took.dict / took.kv
  end

  bench.title(("one worker, %d keys, ns a call"):format(n))
  bench.at_least("get uniform: the dictionary's time / kv's",
    compare("get", "random", kv_get, dict_get), 2)
  bench.at_least("get of 1,000 hot keys: the dictionary's time / kv's",
    compare("get hot", "hot", kv_get, dict_get), 2)
  bench.at_least("put uniform: the dictionary's time / kv's",
    compare("put", "random", kv_put, dict_set), 2)
  bench.row("put hot: the dictionary's time / kv's",
    compare("put hot", "hot", kv_put, dict_set), "times")
  bench.at_least("put of new keys: the dictionary's time / kv's",
    compare("put new", "shuffled", kv_put, dict_set, function(round)
      return n + (round - 1) * count
    end), 2)
end
