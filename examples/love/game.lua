-- The rules of the game, and nothing else: no drawing, no storing. A state is a plain table, so
-- that it can be saved as it is.

local game = { width = 480, height = 640, basket = 64, lives = 3 }

---@class Game
---@field level integer
---@field frame integer
---@field score integer
---@field caught integer
---@field missed integer
---@field x number              the basket's middle
---@field stars { x: number, y: number, kind: string }[]
function game.new()
  return { level = 1, frame = 0, score = 0, caught = 0, missed = 0, x = game.width / 2,
    stars = {} }
end

-- A wave is what the loader made for a level: when, where and what falls, and how fast.
function game.level_over(state, wave)
  return state.frame >= wave.frames and #state.stars == 0
end

function game.over(state)
  return state.missed >= game.lives
end

---One frame of 1/60 s. `move` is -1, 0 or 1, `wide` a wider basket.
---@return string? event "caught", "gold" or "missed"
function game.step(state, wave, move, wide)
  local event
  state.x = math.max(0, math.min(game.width, state.x + move * 6))
  for _, drop in ipairs(wave.drops) do
    if drop.at == state.frame then
      state.stars[#state.stars + 1] = { x = drop.x, y = 0, kind = drop.kind }
    end
  end
  state.frame = state.frame + 1
  local reach = game.basket * (wide and 1 or 0.5)
  for i = #state.stars, 1, -1 do
    local star = state.stars[i]
    star.y = star.y + wave.speed
    if star.y >= game.height - 20 then
      table.remove(state.stars, i)
      if math.abs(star.x - state.x) <= reach then
        state.caught = state.caught + 1
        state.score = state.score + (star.kind == "gold" and 50 or 10)
        event = star.kind == "gold" and "gold" or "caught"
      else
        state.missed = state.missed + 1
        event = "missed"
      end
    end
  end
  return event
end

-- Where a bot would go: below the star that is due first.
function game.bot(state)
  local lowest
  for _, star in ipairs(state.stars) do
    if not lowest or star.y > lowest.y then lowest = star end
  end
  if not lowest or math.abs(lowest.x - state.x) < 6 then return 0 end
  return lowest.x > state.x and 1 or -1
end

return game
