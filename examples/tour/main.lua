-- A guided tour of kv on real data: every subdivision of every country (ISO 3166-2) and every
-- language (ISO 639-3), from Debian's package iso-codes.
--
--   lua5.4 examples/tour/main.lua [STORE]      (what make run does; the store stays)

local kv = require "kv"

local codes = os.getenv("ISO_CODES") or "/usr/share/iso-codes/json"
local path, part = arg[1] or "build/tour.kv", arg[2]

-- Telling --------------------------------------------------------------------------------------

local function say(text, ...)
  io.write((select("#", ...) > 0 and text:format(...) or text), "\n")
  io.flush()
end

local chapter_number = 0
local function chapter(title)
  chapter_number = chapter_number + 1
  say("\n%d. %s", chapter_number, title)
end

-- What a step costs is processor time; a step that waits on purpose says so itself.
local function timed(count, step, ...)
  local began = os.clock()
  local result = step(...)
  local took = os.clock() - began
  if count > 1 then
    say("   That took %.0f ms for %d records: %.1f microseconds each.", took * 1e3, count,
      took / count * 1e6)
  elseif took < 1e-3 then
    say("   That took %.0f microseconds.", took * 1e6)
  else
    say("   That took %.1f ms.", took * 1e3)
  end
  return result
end

local function wait(seconds)
  say("   ... waiting %.1f seconds ...", seconds)
  os.execute("sleep " .. seconds)
end

local function check(condition, text)
  if not condition then
    say("\nThis should not happen: %s", text)
    os.exit(1)
  end
end

-- The steps ------------------------------------------------------------------------------------

local function read_iso(name)
  local file = assert(io.open(codes .. "/iso_" .. name .. ".json", "rb"))
  local text = file:read("*a")
  file:close()
  return assert(kv.decode(text))[name]
end

local function load_places(places, records)
  for _, r in ipairs(records) do
    assert(places:put(r.code, { name = r.name, type = r.type, parent = r.parent },
      { metadata = { source = "ISO 3166-2", country = r.code:sub(1, 2) } }))
  end
end

local function load_languages(languages, records)
  local batch = {}
  for i, r in ipairs(records) do
    batch[#batch + 1] = { key = r.alpha_3, value = r, metadata = { source = "ISO 639-3" } }
    if #batch == 500 or i == #records then
      assert(languages:put_many(batch))
      batch = {}
    end
  end
end

local function list_pages(places, prefix, limit)
  local cursor, total, pages = nil, 0, 0
  repeat
    local page = assert(places:list {
      prefix = prefix, limit = limit, cursor = cursor, values = true,
    })
    pages = pages + 1
    local names = {}
    for _, key in ipairs(page.keys) do
      names[#names + 1] = key.name .. " " .. key.value.name
    end
    say("   page %d: %s", pages, table.concat(names, ", "))
    total, cursor = total + #page.keys, page.cursor
  until page.list_complete
  return total, pages
end

local function first_process()
  say("kv keeps keys and values in a directory of files; this program uses it as a library.")
  say("The store is %s. You may run this tour as often as you like.", path)

  chapter("Open a store")
  local store = timed(1, function()
    return assert(kv.open(path, { sync = "interval" }))
  end)
  local visits = assert(store:namespace("tour", { description = "About this tour" }):incr("visits"))
  say("   This is visit number %s: a counter in the store has counted them.", tostring(visits))

  chapter("Read the subdivisions of all countries and store each under its code")
  local places = store:namespace("places", { description = "ISO 3166-2 subdivisions" })
  say("   First kv.decode reads the file, 500 kB of JSON.")
  local subdivisions = timed(1, read_iso, "3166-2")
  say("   Then each record is put by itself, with metadata.")
  timed(#subdivisions, load_places, places, subdivisions)

  chapter("Read all languages and store them in batches of 500")
  local languages = store:namespace("languages", { description = "ISO 639-3 languages" })
  say("   Reading 870 kB of JSON:")
  local iso639 = timed(1, read_iso, "639-3")
  say("   Putting them; a batch is stored whole or not at all:")
  timed(#iso639, load_languages, languages, iso639)
  local deu = assert(languages:get("deu"))
  say("   The language \"deu\" is called %s.", deu.name)

  chapter("One country's subdivisions: every key that begins with \"CH-\", ten at a time")
  local total, pages
  timed(1, function()
    total, pages = list_pages(places, "CH-", 10)
  end)
  say("   %d cantons on %d pages. A page ends with a cursor, and the next one begins there.",
    total, pages)
  local entry = assert(places:entry("CH-ZH"))
  say("   Beside the value of CH-ZH lies its metadata: source %s, country %s.",
    entry.metadata.source, entry.metadata.country)

  chapter("A session that ends by itself after one second")
  local sessions = store:namespace("sessions", { description = "Who is logged in" })
  assert(sessions:put("session:7f3a", { user = "ada", cart = kv.array { 17, 4 } }, { ttl = 1 }))
  local before = sessions:get("session:7f3a")
  check(before and before.user == "ada", "a new session was not there")
  say("   now:   user %s, %.1f seconds left", before.user, sessions:ttl("session:7f3a"))
  wait(1.1)
  local session = sessions:get("session:7f3a")
  say("   later: %s", session == nil and "gone" or "still there")
  check(session == nil, "an expired session was still there")

  chapter("A rate limit: three requests a second, counted by incr with a ttl")
  local limits = store:namespace("limits", { description = "Requests in the current window" })
  local function request(i)
    local n, why, code = limits:incr("client:10.0.0.7", 1, { ttl = 1, max = 3 })
    if n then
      say("   request %d: allowed, number %s in this window", i, tostring(n))
    else
      say("   request %d: refused, %s (%s)", i, why, code)
    end
    return n
  end
  -- A counter of a tour that was run a moment ago would still be in its window.
  limits:delete("client:10.0.0.7")
  for i = 1, 4 do
    check((request(i) == nil) == (i > 3), "the limit let the wrong request through")
  end
  wait(1.1)
  check(request(5) == 1, "the window did not begin anew")

  chapter("A write with a condition, which is refused")
  local done, message, code = places:put("CH-ZH", { name = "Elsewhere" }, { set_if = "not_exist" })
  say("   put CH-ZH if it does not exist:      %s, \"%s\" (%s)", tostring(done), message, code)
  check(done == false and code == "exists", "a put over an existing key was not refused")
  local rev = places:entry("CH-ZH").rev
  assert(places:put("CH-ZH", places:get("CH-ZH"), { keep_ttl = true,
    metadata = { source = "ISO 3166-2", country = "CH", checked = true } }))
  done, message, code = places:put("CH-ZH", { name = "Elsewhere" }, { if_rev = rev })
  say("   put CH-ZH if nobody changed it since: %s, \"%s\" (%s)", tostring(done), message, code)
  check(done == false and code == "conflict", "a put over a newer revision was not refused")
  say("   CH-ZH is still %s.", places:get("CH-ZH").name)

  chapter("Close the store, and open it again from a second process")
  timed(1, function()
    assert(store:sync())
    store:close()
  end)

  local command = ("'%s' '%s' '%s' again 2>&1"):format(arg[-1], arg[0], path)
  local second = assert(io.popen(command))
  local last
  for line in second:lines() do
    say("   | %s", (line:gsub("^ +", "")))
    last = line
  end
  second:close()
  check(last == "everything is there", "the second process did not find what the first one stored")

  local du = io.popen(("du -sk '%s' 2>/dev/null"):format(path))
  local kib = du:read("*a"):match("%d+")
  du:close()
  say("\nDone. The store is %s, %s KiB on disk. Look at examples/tour/main.lua to see how little",
    path, kib or "?")
  say("it takes, and at README.md for everything else.")
end

-- Run by the first process, in a process of its own.
local function second_process()
  say("another process opens %s", path)
  local store = timed(1, function()
    return assert(kv.open(path, { create = false }))
  end)
  for _, ns in ipairs(store:namespaces()) do
    say("namespace %s: %s keys, %s", ns.name, tostring(ns.keys), ns.description or "no description")
  end
  local places, languages = store:namespace("places"), store:namespace("languages")
  check(places:count() == #read_iso("3166-2"), "subdivisions are missing")
  check(languages:count() == #read_iso("639-3"), "languages are missing")
  say("IS-1 is %s", places:get("IS-1").name)
  say("haw is %s", languages:get("haw").name)
  say("CH-ZH was checked: %s", tostring(places:entry("CH-ZH").metadata.checked))
  check(places:entry("CH-ZH").metadata.checked == true, "the metadata is not what was stored")
  assert(store:check())
  say("every record and its checksum were verified")
  store:close()
  say("everything is there")
end

if part == "again" then
  second_process()
else
  first_process()
end
