-- SPDX-License-Identifier: MIT
--
-- flow.lua - runs nodes: files of Lua code, each with the operations of one namespace as `kv`.
--
-- What crosses between host and node is plain data, copied: inputs on the way in, the result on the
-- way out. Neither side ever holds a table of the other's.

local kv = require "kv"
local sandbox = require "sandbox"

local flow = {}

---@class flow.Node
---@field file string
---@field namespace string

---@class flow.Options
---@field store kv.Store
---@field nodes table<string, flow.Node>
---@field services? table<string, function> what nodes may call of the host's, as `services.x`
---@field limit? integer instructions a run may take

local methods = {}
methods.__index = methods

---@param options flow.Options
function flow.new(options)
  local self = { nodes = {}, services = options.services or {}, limit = options.limit }
  for name, node in pairs(options.nodes) do
    local file = assert(io.open(node.file, "rb"))
    local text = file:read("*a")
    file:close()
    self.nodes[name] = {
      text = text,
      namespace = assert(options.store:namespace(node.namespace)),
    }
  end
  return setmetatable(self, methods)
end

-- A copy without metatables, or nil, message.
local function plain(value)
  if value == nil then return nil end
  local ok, text = pcall(kv.encode, value)
  if not ok then return nil, text end
  return kv.decode(text)
end

---Runs a node.
---@param name string
---@param inputs? table
---@return any result
---@return string? message why there is none
function methods:run(name, inputs)
  local node = assert(self.nodes[name], "there is no such node")
  local services = {}
  for service, f in pairs(self.services) do services[service] = f end
  local ok, result = sandbox.run(node.text, name, {
    kv = node.namespace:bind(), -- a fresh one, since a node may change it
    inputs = assert(plain(inputs or {})),
    services = services,
  }, self.limit)
  if ok then return plain(result) end
  -- An error object is the node's: looking at it could run its code.
  return nil, type(result) == "string" and result or name .. ": failed"
end

return flow
