-- Whose session it is. inputs: session_id

local session = kv.get("session:" .. inputs.session_id)
if not session then return { status = 401, body = "Session not found" } end
return { status = 200, body = "Welcome user " .. session.user_id }
