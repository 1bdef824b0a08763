-- Sessions: a document a visitor, which expires when it is not used. Fields are changed in place.

local stores = require "stores"

local sessions = {}
local Session = {}
Session.__index = Session

local function space()
  return stores.data():namespace "sessions"
end

local function new_id()
  local source = assert(io.open("/dev/urandom", "rb"))
  local bytes = source:read(16)
  source:close()
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

---The visitor's session, or a new one with its cookie.
function sessions.start(seconds)
  local ns, id = space(), ngx.var.cookie_session
  -- Renewing it is also how to find out whether it lives.
  if not (id and id:match "^%x+$" and #id == 32 and ns:expire(id, seconds)) then
    id = new_id()
    assert(ns:put(id, { visits = 0 }, { ttl = seconds }))
    ngx.header["Set-Cookie"] = "session=" .. id .. "; HttpOnly; SameSite=Lax; Path=/"
  end
  return setmetatable({ id = id, ns = ns }, Session)
end

function Session:get(path)
  return self.ns:json_get(self.id, path)
end

function Session:set(path, value)
  return assert(self.ns:json_set(self.id, path, value))
end

function Session:increment(path)
  return (assert(self.ns:json_increment(self.id, path)))
end

function Session:close()
  return self.ns:delete(self.id)
end

return sessions
