-- The same keys and values in a new store and in the dictionary.

local bench = require "bench"

assert(package.loaded["resty.core.shdict"], "the dictionary is not the one of lua-resty-core")

---@return kv.Namespace ns, table dict
return function()
  local _, ns = bench.store()
  local dict, value = ngx.shared.rival, bench.value
  bench.fill(ns)
  bench.loop(bench.keys, "shuffled", function(keys, batch)
    for i = 1, batch do
      assert(dict:safe_set(keys[i], value))
    end
  end)
  return ns, dict
end
