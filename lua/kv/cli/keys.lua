-- SPDX-License-Identifier: MIT
--
-- keys.lua - the commands on one key, and the list of keys.

local kv = require "kv"
local arguments = require "kv.cli.arguments"
local failure = require "kv.cli.failure"
local files = require "kv.cli.files"
local output = require "kv.cli.output"
local session = require "kv.cli.session"

local option, NS, KEY = arguments.option, arguments.NS, arguments.KEY
local call, on_key, no_key = failure.call, failure.on_key, failure.no_key

-- set ------------------------------------------------------------------------------------------

local set = {
  name = "set",
  summary = "Store a value.",
  about = "Store VALUE under KEY, over what was there. The value is text, byte for byte, unless "
    .. "--json says that it is JSON. The namespace and the store are made if they are missing.",
  arguments = { NS, KEY, { name = "VALUE", optional = true, help = "The value." } },
  options = {
    { name = "--json", help = "VALUE is JSON: store the number, boolean, null, string or document "
      .. "that it spells." },
    option("--file", "F", "Take the value from a file; - is standard input."),
    arguments.write_options[1], arguments.write_options[2], arguments.write_options[3],
    arguments.write_options[4],
    option("--if", "exist|not_exist", "Only if the key exists, or does not.", nil,
      { "exist", "not_exist" }),
    option("--if-rev", "N", "Only if the key's revision is N (kv get --meta shows it); 0: only if "
      .. "there is no such key.", arguments.integer),
  },
  more = "Exit status 1 says that a condition did not hold; then nothing has changed.",
  examples = {
    { "kv set default theme dark", "text; kv.get(\"theme\") in a program" },
    { "kv set sessions s:7f3a '{\"user\":123}' --json --ttl 3600", "a document for an hour" },
    { "kv set files logo --file logo.png", "the bytes of a file" },
    { "kv set locks job:1 \"$$\" --if not_exist --ttl 60", "who comes first has it" },
  },
}

-- What the JSON spells, and how to store it: a document as it is spelled.
local function parsed(what, text)
  local found, expected = arguments.json(text)
  if not found then failure.raise(failure.USAGE, "%s: expected %s", what, expected) end
  if type(found.value) == "table" then return text, "json" end
  return found.value
end

function set.run(given)
  if (given.value == nil) == (given.file == nil) then
    failure.raise(failure.USAGE, "say a VALUE or --file F, one of them")
  end
  local opts = arguments.write(given)
  local value = given.value
  if given.json then
    value, opts.as = parsed(value and "VALUE" or given.file, value or files.all(given.file))
  end
  local function put(what)
    local ns = session.namespace(given.ns, "create")
    on_key(given.key, ns.put, ns, given.key, what, opts)
  end
  if value ~= nil then return put(value) end
  files.read(given.file, "set", put)
end

-- get ------------------------------------------------------------------------------------------

local as_choices = { "text", "binary", "json" }

local get = {
  name = "get",
  summary = "Print a value.",
  about = "Print the value of KEY. A terminal gets documents indented and no control characters; "
    .. "a pipe or a file gets the bytes as they are, with no line feed added.",
  arguments = { NS, KEY },
  options = {
    option("--as", "text|binary|json", "text, binary: the bytes, on a terminal too. json: a text "
      .. "is read as JSON, and everything is printed as JSON.", nil, as_choices),
    { name = "--meta", help = "Print value, metadata, revision, times and expiration as one JSON "
      .. "object." },
  },
  more = "If there is no such key, nothing is printed and the exit status is 1.",
  examples = {
    { "kv get default theme", "dark" },
    { "kv get files logo >logo.png", "the bytes of a file again" },
    { "kv get sessions s:7f3a --meta", "also when it was written and when it expires" },
  },
}

-- Only documents are indented, and only for people.
local function print_value(ns, key, as)
  if as ~= "json" and (as or not output.columns) then
    local stream = on_key(key, ns.get, ns, key, "stream")
    if not stream then no_key(key) end
    return files.copy_out(stream)
  end
  local value = on_key(key, ns.get, ns, key, as)
  if value == nil then no_key(key) end
  if type(value) == "string" and not as then
    output.write(output.printable(value, true), "\n")
  else
    -- The text of a number or a document is what the store has, not what this Lua makes of it.
    local text = not as and on_key(key, ns.get, ns, key, "text")
    output.json(text and kv.decode(text) ~= nil and text or kv.encode(value))
  end
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- Times are for people as well: seconds with milliseconds.
local function print_entry(ns, key, as)
  local entry = on_key(key, ns.entry, ns, key, as)
  if not entry then no_key(key) end
  local shown = {}
  for _, field in ipairs { "namespace", "key", "value", "metadata", "rev", "id", "created_at",
    "updated_at", "expiration" } do
    local value = entry[field]
    if type(value) == "string" and not output.is_utf8(value) then
      field, value = field .. "_hex", hex(value)
    end
    if value ~= nil then shown[#shown + 1] = kv.encode(field) .. ":" .. kv.encode(value) end
  end
  output.json("{" .. table.concat(shown, ",") .. "}", true)
end

function get.run(given)
  local ns = session.namespace(given.ns, "read")
  if given.meta then return print_entry(ns, given.key, given.as) end
  print_value(ns, given.key, given.as)
end

-- delete-key, ttl, incr --------------------------------------------------------------------------

local delete_key = {
  name = "delete-key",
  summary = "Delete a key.",
  about = "Delete KEY and its value. If it was not there, the exit status is 1.",
  arguments = { NS, KEY },
  options = { option("--if-rev", "N", "Only if the key's revision is N.", arguments.integer) },
  examples = { { "kv delete-key sessions s:7f3a", "log somebody out" } },
}

function delete_key.run(given)
  local ns = session.namespace(given.ns, "write")
  local there = on_key(given.key, ns.delete, ns, given.key, { if_rev = given.if_rev })
  if not there then no_key(given.key) end
end

local ttl = {
  name = "ttl",
  summary = "Print how long a key has to live.",
  about = "Print the seconds until KEY expires, or `never`.",
  arguments = { NS, KEY },
  examples = { { "kv ttl sessions s:7f3a", "3599.98" } },
}

function ttl.run(given)
  local ns = session.namespace(given.ns, "read")
  local seconds = on_key(given.key, ns.ttl, ns, given.key)
  if seconds == nil then no_key(given.key) end
  output.write(seconds and ("%.3f"):format(seconds) or "never", "\n")
end

local incr = {
  name = "incr",
  summary = "Add to a number.",
  about = "Add BY to the number under KEY and print the new one: one step, whoever else counts. A "
    .. "missing key counts as 0; its time to live and metadata stay.",
  arguments = { NS, KEY, { name = "BY", optional = true, help = "What to add: 1 unless given.",
    convert = arguments.number } },
  more = "The namespace must exist. What is no number, and a sum beyond 64 bits, is refused with "
    .. "exit status 3.",
  examples = {
    { "kv incr stats visits", "1, 2, 3 ..." },
    { "kv incr stock apples -5", "take five away" },
  },
}

function incr.run(given)
  local ns = session.namespace(given.ns, "write")
  local n = on_key(given.key, ns.incr, ns, given.key, given.by or 1)
  output.write(kv.encode(n), "\n")
end

-- keys -----------------------------------------------------------------------------------------

local keys = {
  name = "keys",
  summary = "List the keys of a namespace.",
  about = "Print the keys of NS in byte order, one on a line.",
  arguments = { NS },
  options = {
    option("--prefix", "P", "Only keys that begin with P."),
    option("--limit", "N", "At most N keys. If there are more, standard error says how to go on.",
      arguments.integer),
    option("--cursor", "C", "Go on where an earlier list ended; with the same --prefix and "
      .. "--reverse."),
    { name = "--reverse", help = "From the last key to the first." },
    { name = "-l --long", help = "Expiration and metadata too, between tabs in a pipe." },
    { name = "-z --null", help = "End each key with a byte 0 instead of a line feed, for "
      .. "xargs -0." },
  },
  examples = {
    { "kv keys default --prefix user:", "all keys of users" },
    { "kv keys default --limit 100", "the first hundred" },
    { "kv keys tmp -z | xargs -0 -n 1 kv delete-key tmp --", "delete them one by one" },
  },
}

local PAGE = 1000 -- keys asked for at a time

local function expiration(time)
  if not time then return "never" end
  return output.columns and os.date("%Y-%m-%d %H:%M:%S", math.floor(time)) or ("%.3f"):format(time)
end

-- Rows for --long are collected, as columns need to know the widest.
local function print_page(page, given, rows)
  for _, key in ipairs(page.keys) do
    if given.null then
      output.write(key.name, "\0")
    elseif rows then
      rows[#rows + 1] = { key.name, expiration(key.expiration),
        key.metadata and kv.encode(key.metadata) or "" }
    else
      output.line(key.name)
    end
  end
end

function keys.run(given)
  local ns = session.namespace(given.ns, "read")
  local rows = given.long and not given.null and {} or nil
  local left, cursor = given.limit or math.huge, given.cursor
  if left < 1 then failure.raise(failure.USAGE, "--limit: expected a number of keys >= 1") end
  local page
  repeat
    page = call(ns.list, ns, { prefix = given.prefix, reverse = given.reverse, cursor = cursor,
      limit = math.min(PAGE, left) })
    print_page(page, given, rows)
    left, cursor = left - #page.keys, page.cursor
  until page.list_complete or left < 1
  if rows then
    output.table({ { "KEY" }, { "EXPIRES" }, { "METADATA" } }, rows)
  end
  if not page.list_complete then output.note("there are more: --cursor %s", cursor) end
end

return { set, get, delete_key, keys, incr, ttl }
