-- Rate limits that hold across all workers, reloads and restarts.

local stores = require "stores"

local limits = {}

local function space()
  return stores.data():namespace "limits"
end

---At most `count` in each window of `seconds`. One atomic step: the window begins with the first
---request in it, and its end is the key's.
---@return integer|false|nil left  how many more; false: too many; nil: failed, with message
---@return number|string|nil retry seconds until the next one has a chance
function limits.window(key, count, seconds)
  local ns = space()
  local n, message, code = ns:incr("w:" .. key, 1, { ttl = seconds, max = count })
  if n then return count - n end
  if code == "out_of_range" then return false, ns:ttl("w:" .. key) or seconds end
  return nil, message
end

---A token bucket: `rate` a second for ever, `burst` at once. Kept as one number, the time at which
---the bucket will be full again (GCRA, ITU-T I.371), changed only if nobody else did meanwhile.
function limits.bucket(key, rate, burst)
  local ns = space()
  key = "b:" .. key
  for _ = 1, 100 do
    local entry = ns:entry(key)
    ngx.update_time()
    local now = ngx.now()
    local full = math.max(entry and entry.value or now, now) + 1 / rate
    local wait = full - now - burst / rate
    if wait > 1e-9 then return false, wait end
    local rev, message, code = ns:put(key, full,
      { if_rev = entry and entry.rev or 0, ttl = full - now + 1 })
    if rev then return math.floor((burst / rate - (full - now)) * rate + 1e-6) end
    if code ~= "conflict" then return nil, message end
  end
  return nil, "too many writers of one key"
end

---Ends the request with 429, or lets it go on. A limiter that fails lets everyone in, and says so.
function limits.answer(left, retry)
  if left then
    ngx.header["X-RateLimit-Remaining"] = left
  elseif left == false then
    ngx.header["Retry-After"] = math.ceil(retry)
    return ngx.exit(429)
  else
    ngx.log(ngx.ERR, "rate limit: ", retry)
  end
end

return limits
