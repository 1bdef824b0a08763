-- SPDX-License-Identifier: MIT
--
-- stores.lua - the commands on namespaces and on the store as a whole.

local kv = require "kv"
local arguments = require "kv.cli.arguments"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local progress = require "kv.cli.progress"
local session = require "kv.cli.session"

local NS = arguments.NS
local call = failure.call

local init = {
  name = "init",
  summary = "Make a namespace, and the store if it is missing.",
  about = "Make the namespace NS, and the store if it is missing. An existing one stays as it is "
    .. "and takes the description, if one is given.",
  arguments = {
    { name = "NS", help = "1 to 255 bytes; case matters." },
    { name = "DESCRIPTION", optional = true, help = "What it is for." },
  },
  examples = { { "kv init user-preferences \"User preference storage\"", "a new namespace" } },
}

function init.run(given)
  local store = session.store "create"
  call(store.namespace, store, given.ns, { description = given.description })
end

local function date(time)
  return output.columns and os.date("%Y-%m-%d %H:%M", math.floor(time)) or ("%.3f"):format(time)
end

-- A pipe gets plain numbers.
local function human(n, show)
  return output.columns and show(n) or ("%.0f"):format(n)
end

local namespaces = {
  name = "namespaces", alias = "list",
  summary = "List the namespaces.",
  about = "Print the namespaces of the store with their number of keys, bytes of keys, values and "
    .. "metadata, time of creation and description; between tabs in a pipe.",
  options = { { name = "--json", help = "As a JSON array, for programs." } },
  examples = {
    { "kv namespaces", "a table" },
    { "kv namespaces | cut -f 1", "the names alone" },
  },
}

-- What JSON can carry: a name of other bytes is shown as a terminal would.
local function text(bytes)
  return output.is_utf8(bytes) and bytes or output.printable(bytes)
end

local function plain(list)
  local out = kv.array {}
  for i, ns in ipairs(list) do
    out[i] = { name = text(ns.name), description = text(ns.description or ""), keys = ns.keys,
      bytes = ns.bytes, created_at = ns.created_at }
  end
  return out
end

function namespaces.run(given)
  local store = session.store "read"
  local list = call(store.namespaces, store)
  if given.json then return output.json(kv.encode(plain(list)), true) end
  local rows = {}
  for i, ns in ipairs(list) do
    rows[i] = { ns.name, human(ns.keys, output.count), human(ns.bytes, output.bytes),
      date(ns.created_at), ns.description or "" }
  end
  output.table({ { "NAMESPACE" }, { "KEYS", right = true }, { "BYTES", right = true },
    { "CREATED" }, { "DESCRIPTION" } }, rows)
end

local drop = {
  name = "drop",
  summary = "Remove a namespace and all it holds.",
  about = "Remove the namespace NS and all its keys, at once for every reader, and say how many "
    .. "keys it held. It does not ask.",
  arguments = { NS },
  examples = { { "kv drop sessions", "everybody is logged out" } },
}

function drop.run(given)
  session.namespace(given.ns, "write") -- is it there?
  local store = session.store "write"
  local n = call(store.drop, store, given.ns)
  output.write(output.plural(n, "key"), " dropped\n")
end

-- stats ----------------------------------------------------------------------------------------

local stats = {
  name = "stats",
  summary = "Show what the store holds and how full it is.",
  about = "Show the namespaces, how full the files of the store are, and how many keys wait for "
    .. "their time to be over.",
  options = { { name = "--json", help = "Every counter as one JSON object, for programs." } },
  more = "The log of the store is cut into segments. What was overwritten, deleted or expired "
    .. "stays in them until it is cleaned up, which later writes do beside their own work.",
  examples = {
    { "kv stats", "tables and bars" },
    { "kv stats --json", "for a monitor" },
  },
}

local BAR = 30 -- characters

local function row(label, ...)
  output.write(output.paint(("%-10s"):format(label), "name"), " ", table.concat({ ... }), "\n")
end

local function show_namespaces(list)
  local all = 0
  for _, ns in ipairs(list) do all = all + ns.bytes end
  local rows = {}
  for i, ns in ipairs(list) do
    rows[i] = { ns.name, output.count(ns.keys), output.bytes(ns.bytes),
      output.bar(BAR, all, ns.bytes) }
  end
  output.table({ { "NAMESPACE" }, { "KEYS", right = true }, { "BYTES", right = true },
    { "SHARE OF BYTES", ready = true } }, rows, true)
end

function stats.run(given)
  local store = session.store "read"
  local s = call(store.stats, store)
  local list = call(store.namespaces, store)
  if given.json then
    s.path, s.namespace_list = text(session.path()), plain(list)
    s.report = text(s.report)
    return output.json(kv.encode(s), true)
  end
  row("store", output.printable(session.path()))
  row("revision", output.count(s.rev), "; durable up to ", output.count(s.synced_rev))
  row("keys", output.count(s.keys), " in ", output.plural(#list, "namespace"), ", ",
    output.bytes(s.data_bytes))
  row("segments", output.count(s.segments), " of ", output.bytes(s.segment_size), ", ",
    output.count(s.spares), " spare")
  row("", output.bar(BAR, s.log_bytes, s.live_bytes, s.used_bytes - s.live_bytes), "  ",
    output.bytes(s.live_bytes), " live, ", output.bytes(s.used_bytes - s.live_bytes),
    " to be cleaned up, ", output.bytes(s.log_bytes - s.used_bytes), " free")
  row("large", output.bytes(s.blob_bytes), " in files of their own")
  row("index", output.bytes(s.index_bytes), ", ", output.plural(s.buckets, "bucket"), ", ",
    output.plural(s.nodes, "order node"))
  row("timers", output.count(s.timers), " waiting to expire")
  if s.report ~= "" then row("opened", s.report) end
  if #list > 0 then
    output.write "\n"
    show_namespaces(list)
  end
end

-- check, backup --------------------------------------------------------------------------------

local check = {
  name = "check",
  summary = "Verify every record.",
  about = "Read everything, verify every checksum, and compare the index with the log. Damage is "
    .. "exit status 3 and a sentence that says where. Nothing is changed.",
  examples = { { "kv check", "12,345 keys, 1.2 MiB: whole" } },
}

local function contents(store)
  local s = call(store.stats, store)
  return output.plural(s.keys, "key") .. ", " .. output.bytes(s.data_bytes)
end

function check.run()
  local store = session.store "read"
  progress.watch("check", function() call(store.check, store) end)
  output.write(contents(store), ": whole\n")
end

local backup = {
  name = "backup",
  summary = "Copy the store as of now.",
  about = "Write a store of the records as of this moment into DIR, which must be missing or "
    .. "empty. The store may be in use meanwhile. The copy opens like any store.",
  arguments = { { name = "DIR", help = "Where to.", completes = "files" } },
  examples = { { "kv backup app-$(date +%F).kv", "a copy a day" } },
}

function backup.run(given)
  local store = session.store "read"
  local n = progress.watch("backup", function()
    return call(store.backup, store, given.dir)
  end)
  output.write(output.plural(n, "record"), " in ", given.dir, "\n")
end

return { init, namespaces, drop, stats, check, backup }
