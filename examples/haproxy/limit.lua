-- http-request lua.limit COUNT SECONDS: at most COUNT requests of a client in each window.
--
-- Sets txn.left, how many more there may be, or txn.retry, in how many seconds one may. A store
-- that fails lets everyone through, and says so in the log.

local kv = require "kv"

-- HAProxy may fork after it has read its configuration: opened at the first request instead.
local counts
local function space()
  if not counts then
    local path = os.getenv "KV_STORE" or "limits.kv"
    counts = assert(kv.open(path)):namespace("limits", { description = "Requests of a client" })
  end
  return counts
end

core.register_action("limit", { "http-req" }, function(txn, count, seconds)
  local client = txn.sf:req_hdr "X-Client"
  if client == "" then client = txn.sf:src() end
  local n, message, code = space():incr(client, 1,
    { ttl = tonumber(seconds), max = tonumber(count) })
  if n then
    txn:set_var("txn.left", tonumber(count) - n)
  elseif code == "out_of_range" then
    txn:set_var("txn.retry", math.ceil(space():ttl(client) or tonumber(seconds)))
  else
    core.log(core.err, "kv: " .. message)
  end
end, 2)
