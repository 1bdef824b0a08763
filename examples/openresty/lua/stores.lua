-- The store of everything that requests change, opened by each worker at its first use. All
-- workers, the workers of the next reload and a shell's `kv` see the same one.

local kv = require "kv"

local stores = {}

stores.dir = os.getenv "KV_DIR" or ngx.config.prefix() .. "data"

local data

function stores.data()
  if not data then
    data = assert(kv.open(stores.dir .. "/data.kv"))
  end
  return data
end

return stores
