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
      argument == "-" and "standard input" or "argument JSON", expected,
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
  failure.raise(failure.USAGE, "argument JSON: item %d of the array is no key", i)
end

function delete_bulk.run(given)
  local ns = session.namespace(given.ns, "write")
  local list = parse(given.json, "an array of keys")
  if #list == 0 and next(list) ~= nil then
    failure.raise(failure.USAGE, "argument JSON: expected an array of keys, got an object")
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

-- import, set-bulk -----------------------------------------------------------------------------

local continue = { name = "--continue-on-error", help = "Leave out what is wrong, say so on "
  .. "standard error, and go on; the exit status is 3 all the same." }

local FORMATS = "What is read is found out: NDJSON as `kv export` writes it, a JSON object of keys "
  .. "and values, or a JSON array of objects with key, value, expiration, expiration_ttl, metadata "
  .. "and base64. An object is merged into what is there: other keys stay."

local import = {
  name = "import",
  summary = "Store what a file holds.",
  about = "Store the records of FILE, and say how many. What is wrong with a file is said with its "
    .. "line; what stands before it is stored, and the file can be imported again.",
  arguments = { NS, { name = "FILE", help = "The file, or - for standard input.",
    completes = "files" } },
  options = {
    continue,
    arguments.option("--format", "json|ndjson", "What the file is, if it must not be found out.",
      nil, { "json", "ndjson" }),
    { name = "--text", help = "Keep each value of a JSON object as its JSON text." },
  },
  more = FORMATS,
  examples = {
    { "kv import users users.ndjson", "12,345 records imported" },
    { "gzip -dc users.ndjson.gz | kv import users -", "from a pipe" },
  },
}

-- Says which records were wrong. bad: nil or an array.
local function complain(bad, title)
  for _, record in ipairs(bad or {}) do
    output.complain(("%s: %s"):format(title, record.message), record.code)
  end
  if bad and #bad > 0 then
    failure.raise(failure.FAILED, "%s: %s left out", title, output.plural(#bad, "record"))
  end
end

-- What the reader gives becomes records. title: where it comes from.
local function store_records(given, reader, title)
  local ns = session.namespace(given.ns, "write")
  local n, message, third = failure.try(ns.import, ns, reader, {
    format = given.format, values = given.text and "text" or nil,
    continue_on_error = given.continue_on_error,
  })
  if n then return n, third end
  if not message:find(title, 1, true) then message = ("%s: %s"):format(title, message) end
  failure.of_code(third, message, failure.FAILED)
end

local function import_file(given, path)
  local title = path == "-" and "standard input" or path
  local n, bad = files.read(path, "import", function(reader)
    return store_records(given, reader, title)
  end)
  output.write(output.plural(n, "record"), " imported\n")
  complain(bad, title)
end

function import.run(given)
  session.namespace(given.ns, "write") -- before anything is read
  import_file(given, given.file)
end

local set_bulk = {
  name = "set-bulk",
  summary = "Store many values.",
  about = "Store the keys and values of a JSON text, and say how many.",
  arguments = { NS, JSON },
  options = { continue },
  more = FORMATS,
  examples = {
    { "kv set-bulk users '{\"user:1\":{\"name\":\"Ada\"},\"user:2\":{\"name\":\"Bob\"}}'",
      "two documents" },
    { "kv set-bulk users '[{\"key\":\"user:3\",\"value\":\"text\",\"expiration_ttl\":60}]'",
      "with a time to live" },
    { "kv set-bulk users - <users.json", "from standard input" },
  },
}

function set_bulk.run(given)
  session.namespace(given.ns, "write")
  if given.json == "-" then return import_file(given, "-") end
  local text = given.json
  local n, bad = store_records(given, function()
    local all = text
    text = nil
    return all
  end, "argument JSON")
  output.write(output.plural(n, "record"), " imported\n")
  complain(bad, "argument JSON")
end

-- export ---------------------------------------------------------------------------------------

local export = {
  name = "export",
  summary = "Write a namespace to a file.",
  about = "Write the records of NS to FILE. The file is there when it is whole; until then what "
    .. "was there before stays.",
  arguments = { NS, { name = "FILE", help = "The file, or - for standard output.",
    completes = "files" } },
  options = {
    arguments.option("--format", "json|ndjson", "ndjson keeps everything: types, bytes, metadata, "
      .. "expiration, a record on each line. json is one object of keys and values, which is all "
      .. "that it can carry. Unless given: json for a FILE that ends in .json.", nil,
      { "json", "ndjson" }),
    arguments.option("--prefix", "P", "Only keys that begin with P."),
  },
  more = "Each record is whole and current when it is written. The file as a whole is one moment "
    .. "only if nobody else writes; `kv backup` is.",
  examples = {
    { "kv export users users.ndjson", "everything, to be imported again" },
    { "kv export users - --prefix user: | gzip >users.ndjson.gz", "through a pipe" },
    { "kv export users users.json", "a plain object, for other programs" },
  },
}

-- How many keys there are about to be, for the bar.
local function count(name)
  for _, ns in ipairs(call(session.store("read").namespaces, session.store "read")) do
    if ns.name == name then return ns.keys end
  end
end

function export.run(given)
  local ns = session.namespace(given.ns, "read")
  local path = given.file
  local total = not given.prefix and count(given.ns) or nil
  local n = files.write(path, "export", total, function(sink)
    return call(ns.export, ns, sink, {
      format = given.format or path:find "%.json$" and "json" or nil, prefix = given.prefix,
    })
  end)
  if path ~= "-" then output.write(output.plural(n, "record"), " exported\n") end
end

return { set_bulk, delete_bulk, export, import }
