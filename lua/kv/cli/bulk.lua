-- SPDX-License-Identifier: MIT
--
-- bulk.lua - the commands on many keys at a time.

local kv = require "kv"
local arguments = require "kv.cli.arguments"
local failure = require "kv.cli.failure"
local files = require "kv.cli.files"
local output = require "kv.cli.output"
local progress = require "kv.cli.progress"
local session = require "kv.cli.session"

local NS = arguments.NS
local call = failure.call

-- JSON from an argument, or with - from standard input.
local function parse(argument, expected)
  local text = argument == "-" and files.all "-" or argument
  local value, message = kv.decode(text)
  if type(value) ~= "table" then
    failure.raise(argument == "-" and failure.FAILED or failure.USAGE, "%s: expected %s%s",
      argument == "-" and "standard input" or "JSON", expected,
      value == nil and (": %s"):format(message) or "")
  end
  return value
end

local JSON = { name = "JSON", help = "The text, or - for standard input." }

local STEP = 1000 -- keys deleted between two looks at the clock

local delete_bulk = {
  name = "delete-bulk",
  summary = "Delete many keys.",
  about = "Delete the keys in a JSON array of strings and say how many there were. Keys that are "
    .. "not there do no harm.",
  arguments = { NS, JSON },
  examples = {
    { "kv delete-bulk users '[\"user:1\",\"user:2\"]'", "two keys" },
    { "kv delete-bulk users - <keys.json", "as many as you like" },
  },
}

-- An item may also be an object that names the key, as list and get --meta print one.
local function key_of(item, i)
  if type(item) == "table" then item = item.key or item.name end
  if type(item) == "string" and item ~= "" then return item end
  failure.raise(failure.USAGE, "JSON: item %d of the array is no key", i)
end

function delete_bulk.run(given)
  local ns = session.namespace(given.ns, "write")
  local list = parse(given.json, "an array of keys")
  if #list == 0 and next(list) ~= nil then
    failure.raise(failure.USAGE, "JSON: expected an array of keys, got an object")
  end
  for i, item in ipairs(list) do list[i] = key_of(item, i) end
  local deleted = progress.run("delete", #list, "keys", function(bar)
    local n = 0
    for i = 1, #list, STEP do
      local part = {}
      for j = i, math.min(i + STEP - 1, #list) do part[#part + 1] = list[j] end
      n = n + call(ns.delete_many, ns, part)
      bar:at(i + #part - 1)
    end
    return n
  end)
  output.write(output.plural(deleted, "key"), " deleted\n")
end

return { delete_bulk }
