-- A product, from the cache if it is there, else from the database. inputs: product_id

local key = "cache:product:" .. inputs.product_id
local product = kv.get(key)
if product == nil then
  product = services.fetch_product(inputs.product_id)
  if product == nil then return { found = false } end
  assert(kv.put(key, product, { ttl = 300 }))
end
return { found = true, product = product }
