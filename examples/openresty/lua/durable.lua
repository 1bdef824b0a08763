-- For an answer that must not go out before what it says is on the disk. The store's helper thread
-- syncs once an interval anyhow; this waits for it, and the event loop goes on meanwhile.

local durable = {}

---@param store kv.Store
---@param seconds? number  to wait at most (10)
---@return true|nil ok, string? message, string? code
function durable.wait(store, seconds)
  local before = store:stats()
  local tries = (seconds or 10) / 0.01
  repeat
    local now = store:stats()
    -- All of it is there, or a sync that began after our write is over: the second from now, since
    -- the first may have been under way.
    if now.synced_rev >= before.rev or now.syncs >= before.syncs + 2 then return true end
    ngx.sleep(0.01)
    tries = tries - 1
  until tries < 0
  -- Nobody syncs, or the disk fails: this says what is wrong.
  return store:sync()
end

return durable
