-- A timer in each worker that reclaims what expired, a little at a time. Syncs are not its
-- business: they happen in the store's own helper thread.

local stores = require "stores"

local housekeeping = {}

function housekeeping.start(seconds)
  assert(ngx.timer.every(seconds, function(premature)
    if premature then return end
    local done, message = stores.data():tick(1000)
    if not done then ngx.log(ngx.ERR, "tick: ", message) end
  end))
end

return housekeeping
