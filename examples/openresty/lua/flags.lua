-- Feature flags: asked at every request, changed once in a while. They have a store of their own,
-- so that its revision, one load of memory, tells each worker whether what it has in its hands is
-- still true.

local kv = require "kv"
local stores = require "stores"

local flags = {}

local store, space
local known, known_rev = {}, -1

local function open()
  store = assert(kv.open(stores.dir .. "/flags.kv", { sync = "always" }))
  space = store:namespace("flags", { description = "What is switched on" })
end

---Called in init_by_lua. What somebody has set before stays.
function flags.init(defaults)
  open()
  for name, value in pairs(defaults) do
    local rev, message, code = space:put(name, value, { set_if = "not_exist" })
    if not rev and code ~= "exists" then error(message) end
  end
end

function flags.all()
  local rev = store:rev()
  if rev ~= known_rev then
    -- The revision first: what is read after it is not older.
    known, known_rev = space:get_all(), rev
  end
  return known
end

function flags.on(name)
  return flags.all()[name] == true
end

function flags.set(name, value)
  return assert(space:put(name, value))
end

return flags
