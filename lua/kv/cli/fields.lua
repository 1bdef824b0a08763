-- SPDX-License-Identifier: MIT
--
-- fields.lua - the command on one field of a document.

local kv = require "kv"
local core = require "kv.core"
local arguments = require "kv.cli.arguments"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local session = require "kv.cli.session"

local option = arguments.option

local json = {
  name = "json",
  summary = "Read or change one field of a document.",
  about = "Print the field at PATH of the document under KEY as JSON, or change it in one step: "
    .. "everything else in the document stays as it is spelled. VALUE is JSON; what is not JSON is "
    .. "refused, never taken for text, unless --text says that it is text.",
  arguments = {
    arguments.NS, arguments.KEY,
    { name = "PATH", help = "`settings.lang`, `items[0]`, `items[-1]` (the last), "
      .. "`[\"odd.key\"]`, `/items/0`; empty: the whole document." },
    { name = "VALUE", optional = true, help = "What to set the field to." },
  },
  options = {
    option("--incr", "N", "Add N to the number there and print the new one; a missing one counts "
      .. "as 0.", arguments.number),
    option("--push", "V", "Append V to the array there, made if it is missing, and print its "
      .. "length."),
    { name = "--remove", help = "Take the field out; the gap in an array closes." },
    { name = "--text", help = "VALUE, or V, is text." },
  },
  more = "Missing objects on the way, and the key itself, are made; the namespace must exist. A "
    .. "field that is not there is exit status 1.",
  examples = {
    { "kv json users user:1 settings.lang", "\"en\"" },
    { "kv json users user:1 settings.lang fr --text", "set it to the text fr" },
    { "kv json users user:1 tags --push '\"admin\"'", "add to a list" },
    { "kv json users user:1 visits --incr 1", "count" },
    { "kv json users user:1 'tags[0]' --remove", "take the first one out" },
  },
}

-- The JSON that the user wrote, as it is spelled.
local function checked(what, text)
  local value, expected = arguments.json(text)
  if value then return text:match "^[ \t\r\n]*(.-)[ \t\r\n]*$" end
  failure.raise(failure.USAGE, "%s: expected %s, got '%s' (--text if it is text)", what, expected,
    text)
end

-- Exactly one thing to do: "get", "set", "incr", "push" or "remove".
local function what_to_do(given)
  local what
  for name, there in pairs { set = given.value, incr = given.incr, push = given.push,
    remove = given.remove } do
    if there ~= nil then
      if what then failure.raise(failure.USAGE, "say one of VALUE, --incr, --push and --remove") end
      what = name
    end
  end
  return what or "get"
end

local function nothing_there(given)
  failure.of_code("not_found", ("key '%s' has no '%s'"):format(given.key, given.path))
end

local actions = {}

function actions.get(ns, given, call)
  local text = call(core.field_text, ns, given.key, given.path)
  if not text then nothing_there(given) end
  output.json(text, true)
end

function actions.set(ns, given, call)
  if given.text then return call(ns.json_set, ns, given.key, given.path, given.value) end
  call(core.field_set, ns, given.key, given.path, checked("VALUE", given.value))
end

function actions.incr(ns, given, call)
  output.write(kv.encode(call(ns.json_increment, ns, given.key, given.path, given.incr)), "\n")
end

function actions.push(ns, given, call)
  local push, value = ns.json_push, given.push
  if not given.text then push, value = core.field_push, checked("--push", value) end
  output.write(kv.encode(call(push, ns, given.key, given.path, value)), "\n")
end

function actions.remove(ns, given, call)
  if not call(ns.json_remove, ns, given.key, given.path) then
    nothing_there(given)
  end
end

function json.run(given)
  local what = what_to_do(given)
  local ns = session.namespace(given.ns, what == "get" and "read" or "write")
  actions[what](ns, given, function(f, ...) return failure.on_key(given.key, f, ...) end)
end

return { json }
