-- SPDX-License-Identifier: MIT
--
-- arguments.lua - what several commands take: the arguments of the command table, and what the text
-- of one stands for.

local kv = require "kv"

local arguments = {}

-- Converters: the value, or nil and what was expected.

-- A number as JSON spells it: exact, and nothing else that tonumber() takes, such as 0x10.
function arguments.number(text)
  local value = kv.decode(text)
  if type(value) == "number" then return value end
  return nil, "a number"
end

function arguments.integer(text)
  local value = text:find "^%-?%d+$" and kv.decode(text)
  if type(value) == "number" then return value end
  return nil, "an integer"
end

function arguments.json(text)
  local value, message = kv.decode(text)
  if value ~= nil then return { value = value, text = text } end
  return nil, "JSON (" .. tostring(message) .. ")"
end

function arguments.object(text)
  local value = kv.decode(text)
  if type(value) == "table" and text:find "^%s*{" then return value end
  return nil, "a JSON object"
end

-- Where --name takes a value.
local function option(name, metavar, help, convert, choices)
  return { name = name, metavar = metavar, help = help, convert = convert, choices = choices }
end
arguments.option = option

arguments.NS = { name = "NS", help = "The namespace.", completes = "namespaces" }
arguments.KEY = { name = "KEY", help = "The key: 1 to 512 bytes.", completes = "keys" }

-- What --ttl and its like mean, and what becomes of them.
arguments.write_options = {
  option("--ttl", "S", "Forget the key after S seconds.", arguments.number),
  option("--expiration", "T", "Forget the key at T, a Unix time.", arguments.number),
  { name = "--keep-ttl",
    help = "Keep the time to live that the key has; otherwise it never expires." },
  option("--metadata", "JSON", "A JSON object kept beside the value.", arguments.object),
}

function arguments.write(given)
  return {
    ttl = given.ttl, expiration = given.expiration, keep_ttl = given.keep_ttl,
    metadata = given.metadata, set_if = given["if"], if_rev = given.if_rev,
  }
end

return arguments
