-- SPDX-License-Identifier: MIT
--
-- manifest.lua - declared namespaces of a store as bound tables under upper-snake names.

local core = require "kv.core"

local raise = core.raise

-- Raises unless it is a name that makes an identifier.
local function checked(name, i)
  if type(name) ~= "string" then
    raise(("bad argument 'names[%d]': expected a string, got a %s"):format(i, type(name)))
  end
  if #name > 255 or not name:find("^[A-Za-z][A-Za-z0-9_.-]*$") then
    raise(("bad argument 'names[%d]': expected a letter, then letters, digits, '-', '_' or '.', "
      .. "at most 255 bytes, got '%s'"):format(i, name:sub(1, 40):gsub("[^ -~]", "?")))
  end
  return (name:upper():gsub("[.-]", "_"))
end

---Opens the namespaces, and gives their bound tables: "demo-cache" is `env.DEMO_CACHE`.
---@param store kv.Store
---@param names string[]
---@return table<string, kv.Bound>? env
---@return string? message
---@return kv.Code? code
return function(store, names)
  core.expect_store(store, "store")
  if type(names) ~= "table" then
    raise("bad argument 'names': expected an array of strings, got "
      .. (names == nil and "no value" or "a " .. type(names)))
  end
  local count, list, seen = 0, {}, {}
  for _ in next, names do count = count + 1 end
  for i = 1, count do
    local name = rawget(names, i)
    if name == nil then
      raise "bad argument 'names': expected an array of strings, without holes or other keys"
    end
    local upper = checked(name, i)
    if seen[upper] then
      raise(("bad argument 'names': '%s' and '%s' are both %s"):format(seen[upper], name, upper))
    end
    seen[upper] = name
    list[i] = { upper = upper, name = name }
  end
  local env = {}
  for i = 1, count do
    local ns, message, code = store:namespace(list[i].name)
    if not ns then return nil, message, code end
    env[list[i].upper] = ns:bind()
  end
  return env
end
