-- Ends all sessions of a user, page by page. inputs: user_id
--
-- Expired sessions need no cleaning: they are not listed, and their space comes back by itself. The
-- cursor holds while keys are deleted.

local ended, cursor = 0, nil
repeat
  local page = assert(kv.list { prefix = "session:", limit = 100, cursor = cursor })
  for _, key in ipairs(page.keys) do
    if key.metadata and key.metadata.user_id == inputs.user_id and kv.delete(key.name) then
      ended = ended + 1
    end
  end
  cursor = page.cursor
until page.list_complete
return { ended = ended }
