-- SPDX-License-Identifier: MIT
--
-- kv - a durable key-value store inside a Lua program.
--
-- The facade: which store is the default one. All operations are functions of the C module, which
-- puts them into this table, each bound to the namespace "default" of the default store; the first
-- call opens it.

local core = require "kv.core"
local default_path = require "kv.default"
local ops = require "kv.ops"
require "kv.transfer" -- defines import and export

---@type kv
local kv = {}

local open -- kv.open, whatever a program puts there later
local chosen, chosen_opts -- by kv.use
local store, store_path   -- open

-- Called from C by the first operation: the store, or nil, message, code, or nil, message.
local function default_store()
  if store then return store end
  local path = chosen or default_path()
  if not path then
    return nil, "no default store: call kv.use(path), or set KV_STORE or HOME"
  end
  local opened, message, code = open(path, chosen_opts)
  if not opened then return nil, message, code end
  store, store_path = opened, path
  return store
end

core.provide { pump = require "kv.stream" }
ops.fill(kv, core.install(kv, default_store), default_store)
open = kv.open

---Choose the default store. Opens nothing; raises once another one is in use.
---@param path string
---@param opts? kv.OpenOptions
---@return true
function kv.use(path, opts)
  if rawequal(path, kv) then core.misuse "use" end
  core.check_open(path, opts)
  if store then
    if path ~= store_path then
      core.raise(("the default store is '%s' already: kv.use comes before the first use")
        :format(store_path))
    end
    return true
  end
  chosen, chosen_opts = path, nil
  if opts then
    chosen_opts = {}
    for name, value in next, opts do chosen_opts[name] = value end
  end
  return true
end

-- What takes arguments with a dot, once and for all.
local function with_a_dot(name, f)
  kv[name] = function(...)
    if rawequal((...), kv) then core.misuse(name) end
    return f(...)
  end
end

with_a_dot("instances", require "kv.instances")
with_a_dot("manifest", require "kv.manifest")

---The default store's object, opened at first use.
---@return kv.Store? store
---@return string? message
---@return string? code
function kv.store(...)
  if rawequal((...), kv) then core.misuse "store" end
  local found, message, code = default_store()
  if not found and not code then core.raise(message) end
  if found then return found end
  return nil, message, code
end

return kv
