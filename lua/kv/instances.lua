-- SPDX-License-Identifier: MIT
--
-- instances.lua - named stores under one directory.
--
-- An id is any bytes; its file name says it back. Letters, digits, "-", "_" and "." stand for
-- themselves, but capitals do not, since some file systems take them for small ones, nor does a "."
-- in front; every other byte is %xx. Where that is too long for a file name the whole id is in
-- hexadecimal behind "=". No name begins with ".": ".", ".." and what is being deleted are none.

local core = require "kv.core"

local raise = core.raise

local MAX_ID, MAX_NAME = 120, 255

local function hex(byte)
  return ("%02x"):format(byte:byte())
end

local function to_name(id)
  local name = id:gsub("[^a-z0-9_.-]", function(byte) return "%" .. hex(byte) end)
    :gsub("^%.", "%%2e")
  if #name > MAX_NAME then name = "=" .. id:gsub(".", hex) end
  return name
end

local function from_hex(digits)
  return string.char(tonumber(digits, 16))
end

-- nil for a name that is no instance's: each id has one name only.
local function to_id(name)
  local id
  if name:sub(1, 1) == "=" then
    id = name:sub(2):gsub("(%x%x)", from_hex)
  else
    id = name:gsub("%%(%x%x)", from_hex)
  end
  return #id >= 1 and #id <= MAX_ID and to_name(id) == name and id or nil
end

-- Raises, or returns nil, message, code.
local function check_id(id)
  if type(id) ~= "string" then
    raise("bad argument 'id': expected a string of 1 to 120 bytes, got "
      .. (id == nil and "no value" or "a " .. type(id)))
  end
  if id == "" then
    raise "bad argument 'id': expected a string of 1 to 120 bytes, got an empty one"
  end
  if #id > MAX_ID then return nil, "an instance's id has at most 120 bytes", "too_big" end
  return true
end

local roots = setmetatable({}, { __mode = "k" }) -- object -> directory

local function root_of(self, name)
  local root = roots[self]
  if not root then
    raise(("use instances:%s(...), not instances.%s(...): the first argument is not what "
      .. "kv.instances returned"):format(name, name))
  end
  return root
end

---@class kv.Instances
local methods = {}

---The store of that id. Missing: `nil, message, "not_found"`, unless `auto_create` is given.
---@param id string 1 to 120 bytes, any
---@param opts? kv.InstanceOptions
---@return kv.Store? store
---@return string? message
---@return kv.Code? code
function methods:open(id, opts)
  local root = root_of(self, "open")
  local ok, message, code = check_id(id)
  if not ok then return nil, message, code end
  local store
  store, message, code = core.open_instance(root .. "/" .. to_name(id), opts, id)
  if code == "not_found" then
    message = ("there is no instance '%s' (auto_create = true makes it)"):format(id)
  end
  if store then return store end
  return nil, message, code
end

---The ids of all instances, sorted.
---@return string[]? ids
---@return string? message
---@return kv.Code? code
function methods:list()
  local names, message, code = core.list_stores(root_of(self, "list"))
  if not names then
    if code == "not_found" then return {} end
    return nil, message, code
  end
  local ids = {}
  for _, name in ipairs(names) do ids[#ids + 1] = to_id(name) end
  table.sort(ids)
  return ids
end

---Removes the store and all it holds: true, or false when there was none. One that is open, here
---or in another process, stays: `nil, message, "busy"`.
---@param id string
---@return boolean? deleted
---@return string? message
---@return kv.Code? code
function methods:delete(id)
  local root = root_of(self, "delete")
  local ok, message, code = check_id(id)
  if not ok then return nil, message, code end
  ok, message, code = core.remove_store(root .. "/" .. to_name(id))
  if ok then return true end
  if code == "not_found" then return false end
  return nil, message, code
end

local meta = {
  __index = methods,
  __name = "kv.instances",
  __metatable = false,
  __tostring = function(self) return ("kv.instances '%s'"):format(root_of(self, "tostring")) end,
}

---Stores under one directory, by id. Makes nothing yet.
---@param root string
---@return kv.Instances
return function(root)
  if type(root) ~= "string" or root == "" or root:find("\0", 1, true) then
    raise "bad argument 'root': expected the path of a directory"
  end
  if root == ":memory:" then
    raise "bad argument 'root': instances live in a directory; kv.open(':memory:') is always new"
  end
  local self = setmetatable({}, meta)
  roots[self] = root
  return self
end
