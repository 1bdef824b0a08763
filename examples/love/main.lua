-- Star Catcher: move the basket with the arrow keys, catch stars, drop three and it is over.
--
-- The game may be closed, killed or lose its battery at any moment: it continues where the last
-- save was, at most AUTOSAVE frames ago. game.lua has the rules, save.lua all that is kept,
-- loader.lua makes levels in a thread.

local game = require "game"
local save = require "save"

local headless = os.getenv "KV_HEADLESS"
local bot = headless and require "bot"
local AUTOSAVE = headless and 1 or 60 -- frames between saves
local BUDGET = 0.0005                 -- seconds a frame may spend on housekeeping
local AHEAD = 3                       -- levels the loader makes in advance

local state, wave, message

local function say(text)
  message = text
  if headless then print(text) end
end

local function load_ahead(first)
  local thread = love.thread.newThread "loader.lua"
  thread:start(save.path(), first, AHEAD)
  return thread
end

-- The loader is ahead of the game; only the very first level is ever waited for.
local function take_level(number)
  local thread = load_ahead(number)
  local found = save.level(number)
  while not found do
    local err = thread:getError()
    if err then error(err) end
    love.timer.sleep(0.001)
    found = save.level(number)
  end
  return found
end

local function begin()
  local summary
  state, summary = save.continue()
  say(state and "continued: " .. summary or "a new game")
  state = state or game.new()
  wave = take_level(state.level)
end

function love.load()
  io.stdout:setvbuf "line"
  save.open()
  begin()
end

local function move()
  if headless then return game.bot(state) end
  local down = love.keyboard.isDown
  return (down "right" and 1 or 0) - (down "left" and 1 or 0)
end

local function step()
  local event = game.step(state, wave, move(), save.effect "wide")
  if event == "gold" then
    save.start_effect("wide", 5)
  end
  if event == "gold" or event == "caught" then
    local unlocked = save.caught()
    if unlocked then
      say("achievement: " .. unlocked)
    end
  end
  if game.over(state) then
    say(("over: %d points"):format(state.score))
    save.finished(state)
    begin()
  elseif game.level_over(state, wave) then
    state.level, state.frame = state.level + 1, 0
    wave = take_level(state.level)
  end
  if state.frame % AUTOSAVE == 0 then
    save.game(state)
  end
  save.tick(BUDGET)
end

local owed = 0
function love.update(dt)
  if headless then
    bot.update(step, state)
    return
  end
  -- Frames of the game are 1/60 s, whatever the screen does.
  owed = math.min(owed + dt, 0.25)
  while owed >= 1 / 60 do
    owed = owed - 1 / 60
    step()
  end
end

function love.keypressed(key)
  if key == "escape" then
    love.event.quit()
  elseif key == "-" or key == "=" then
    local volume = save.option "volume" + (key == "=" and 0.1 or -0.1)
    save.set_option("volume", math.max(0, math.min(1, volume)))
  end
end

function love.quit()
  save.game(state)
  save.close()
end

if not headless then
  function love.draw()
    local g = love.graphics
    for _, star in ipairs(state.stars) do
      if star.kind == "gold" then g.setColor(1, 0.8, 0.1) else g.setColor(0.7, 0.8, 1) end
      g.circle("fill", star.x, star.y, 8)
    end
    g.setColor(0.9, 0.9, 0.9)
    local width = game.basket * (save.effect "wide" and 2 or 1)
    g.rectangle("fill", state.x - width / 2, game.height - 20, width, 10)
    g.print(("level %d   %d points   %d lives   volume %d%%"):format(state.level, state.score,
      game.lives - state.missed, save.option "volume" * 100 + 0.5), 10, 10)
    g.print(message, 10, 28)
    for i, best in ipairs(save.best(3)) do
      g.print(("%d. %d  %s"):format(i, best.score, best.name), 380, 10 + 16 * i)
    end
  end
end
