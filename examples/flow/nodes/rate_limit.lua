-- At most inputs.limit calls in inputs.seconds. inputs: user_id, action, limit, seconds
--
-- One step: two calls at the same moment cannot both be the last one allowed, and the window is the
-- first call's, whatever happens to the process in between.

local key = "ratelimit:" .. inputs.user_id .. ":" .. inputs.action
local count, message, code = kv.incr(key, 1, { ttl = inputs.seconds, max = inputs.limit })
if count then return { allowed = true, left = inputs.limit - count } end
if code ~= "out_of_range" then error(message, 0) end
return { allowed = false, retry_after = kv.ttl(key) or 0 }
