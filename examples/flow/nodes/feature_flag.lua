-- Whether a feature is on: what is not set is off. inputs: feature

return { enabled = kv.get("feature:" .. inputs.feature) == true }
