-- A user's preferences, with a default for who has none. inputs: user_id

return kv.get("prefs:" .. inputs.user_id) or { theme = "light", notifications = true }
