-- Plays instead of a player and a display when KV_HEADLESS is set: "play" as fast as it goes,
-- with a save at every frame, until somebody kills it; "frames" measures what a hundred
-- operations cost in one frame, and quits.

local save = require "save"

local bot = {}

local function measure()
  local costs = {}
  for i = 1, 300 do
    local began = love.timer.getTime()
    for n = 1, 20 do
      save.effect "wide"
      save.option "volume"
      save.set_option("volume", n / 20)
      save.caught()
      save.start_effect("spark:" .. n, 1)
    end
    costs[i] = (love.timer.getTime() - began) * 1e3
  end
  table.sort(costs)
  print(("100 operations in a frame: median %.3f ms, worst of 300 %.3f ms"):format(costs[150],
    costs[300]))
end

function bot.update(step, state)
  if os.getenv "KV_HEADLESS" == "frames" then
    measure()
    love.event.quit()
    return
  end
  step()
  print(("saved %d %d %d"):format(state.level, state.frame, state.score))
end

return bot
