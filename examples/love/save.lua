-- All that the game keeps, and where: one store in LÖVE's save directory, a namespace for each
-- kind.
--
-- A save is one put_many: the game's state and the line that the menu shows go together or not at
-- all, whatever happens to the process in between. Between two saves nothing is written but
-- single fields, each of which is one atomic step.

local kv = require "kv"

local save = {}

local store, slots, scores, settings, progress, effects, levels

function save.path()
  return love.filesystem.getSaveDirectory() .. "/save.kv"
end

function save.open()
  -- The helper thread syncs once a second, so that no frame waits for the disk.
  store = assert(kv.open(save.path(), { sync = "interval" }))
  slots = store:namespace "slots"
  scores = store:namespace "scores"
  settings = store:namespace "settings"
  progress = store:namespace "progress"
  effects = store:namespace "effects"
  levels = store:namespace "levels"
  settings:put("options", { volume = 0.8, name = "player" }, { set_if = "not_exist" })
  progress:put("achievements", { unlocked = kv.array(), caught = 0 }, { set_if = "not_exist" })
end

function save.close()
  store:close()
end

-- The game --------------------------------------------------------------------------------------

function save.game(state)
  return assert(slots:put_many {
    game = state,
    summary = { level = state.level, score = state.score, frame = state.frame },
  })
end

---@return Game? state nil when there is none, or the last one is over
---@return string? summary the line for the menu
function save.continue()
  local both = slots:get_many { "game", "summary" }
  if not both.game then return nil end
  -- Never: they were written as one.
  assert(both.summary.frame == both.game.frame and both.summary.score == both.game.score,
    "a save in two halves")
  return both.game, ("level %d, %d points"):format(both.summary.level, both.summary.score)
end

function save.finished(state)
  slots:delete_many { "game", "summary" }
  -- Highest first is smallest first: scores are listed in the order of their names.
  scores:put(("%08d:%s"):format(99999999 - state.score, os.date "!%Y%m%dT%H%M%S"),
    { score = state.score, name = save.option "name", level = state.level })
end

function save.best(count)
  local best = {}
  for _, key in ipairs(scores:list { limit = count, values = true }.keys) do
    best[#best + 1] = key.value
  end
  return best
end

---A level's wave, once the loader has made it.
function save.level(number)
  return levels:get(("level:%04d"):format(number))
end

-- Single fields ----------------------------------------------------------------------------------

function save.option(name)
  return settings:json_get("options", name)
end

function save.set_option(name, value)
  return assert(settings:json_set("options", name, value))
end

local goals = { [10] = "Ten stars", [100] = "A hundred stars", [1000] = "Stargazer" }

---One more star; returns the name of an achievement when it unlocks one.
function save.caught()
  local count = assert(progress:json_increment("achievements", "caught"))
  local unlocked = goals[count]
  if unlocked then assert(progress:json_push("achievements", "unlocked", unlocked)) end
  return unlocked
end

function save.achievements()
  return progress:get "achievements"
end

-- What lasts a while ----------------------------------------------------------------------------

-- An effect is a key that expires. It goes on counting while the game is closed; a game that wants
-- it to stand still would save the seconds left instead.
function save.start_effect(name, seconds)
  return assert(effects:put(name, true, { ttl = seconds }))
end

function save.effect(name)
  return effects:exists(name)
end

-- Housekeeping within a frame's budget ------------------------------------------------------------

---Reclaims expired keys and cleans up for at most about `seconds`. Each tick(8) is a bounded step.
function save.tick(seconds)
  local clock = love.timer.getTime
  local until_ = clock() + seconds
  repeat
    local did = assert(store:tick(8))
  until did == 0 or clock() >= until_
end

return save
