-- SPDX-License-Identifier: MIT
--
-- main.lua - a flow on a store of its own: `make run EXAMPLE=flow`.

local here = arg[0]:match("^(.*/)") or "./"
package.path = here .. "?.lua;" .. package.path

local kv = require "kv"
local flow = require "flow"

local store = assert(kv.open(":memory:"))
local database = { prod_123 = { name = "Lamp", price = 49 } }
local fetched = 0

local function node(name, namespace)
  return { file = here .. "nodes/" .. name .. ".lua", namespace = namespace }
end

local shop = flow.new {
  store = store,
  limit = 1000000,
  nodes = {
    preferences = node("preferences", "user-preferences"),
    set_preference = node("set_preference", "user-preferences"),
    rate_limit = node("rate_limit", "limits"),
    feature_flag = node("feature_flag", "features"),
    product = node("product", "cache"),
    login = node("login", "sessions"),
    whoami = node("whoami", "sessions"),
    cleanup = node("cleanup", "sessions"),
  },
  services = {
    fetch_product = function(id)
      fetched = fetched + 1
      return database[id]
    end,
  },
}

local function show(name, inputs)
  local result, message = shop:run(name, inputs)
  print(("%-15s %-55s %s"):format(name, kv.encode(inputs),
    result ~= nil and kv.encode(result) or message))
end

show("preferences", { user_id = "cust_abc123" })
show("set_preference", { user_id = "cust_abc123", name = "theme", value = "dark" })
show("preferences", { user_id = "cust_abc123" })

for _ = 1, 4 do
  show("rate_limit", { user_id = "u1", action = "api", limit = 3, seconds = 60 })
end

show("feature_flag", { feature = "new_checkout" })
store:namespace("features"):put("feature:new_checkout", true)
show("feature_flag", { feature = "new_checkout" })

show("product", { product_id = "prod_123" })
show("product", { product_id = "prod_123" })
show("product", { product_id = "prod_999" })
print(("the database was asked %d times"):format(fetched))

show("login", { session_id = "abc123", user_id = 123, now = os.time() })
show("whoami", { session_id = "abc123" })
show("cleanup", { user_id = 123 })
show("whoami", { session_id = "abc123" })
show("whoami", {}) -- a mistake in a node: the message names the node, no file
store:close()
