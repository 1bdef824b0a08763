-- Begins a session of a day. inputs: session_id, user_id, now

assert(kv.put("session:" .. inputs.session_id,
  { user_id = inputs.user_id, login_time = inputs.now },
  { ttl = 24 * 60 * 60, metadata = { user_id = inputs.user_id } }))
return { ok = true }
