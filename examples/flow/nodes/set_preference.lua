-- Changes one preference and leaves the others. inputs: user_id, name, value

local key = "prefs:" .. inputs.user_id
kv.put(key, { theme = "light", notifications = true }, { set_if = "not_exist" })
assert(kv.json_set(key, { inputs.name }, inputs.value))
return kv.get(key)
