-- SPDX-License-Identifier: MIT
--
-- default.lua - where the default store is when nobody chose one: the same for a program and for
-- the command line, so that a shell and a script meet.

-- What an empty variable means is nothing, as in a shell's ${X:-}.
local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

-- A path, or nil.
return function()
  if env "KV_STORE" then return env "KV_STORE" end
  local data = env "XDG_DATA_HOME"
  if data and data:sub(1, 1) == "/" then return data .. "/kv/default" end
  local home = env "HOME"
  return home and home .. "/.local/share/kv/default"
end
