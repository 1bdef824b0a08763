-- SPDX-License-Identifier: MIT
--
-- docs_spec.lua - the documents say what is there: every public call, found in the running module,
-- has its `syntax:` line in docs/reference.md and its annotation in lua/kv/types.lua, every
-- `syntax:` line is of a call that exists, and the code that is marked runs and gives what it says.

local kv = require "kv"
local helper = require "helper"

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- The public calls -------------------------------------------------------------------------------

-- kind -> set of names. The metatables are hidden from programs, not from debug.
local function public()
  local store = assert(kv.open ":memory:")
  local ns = assert(store:namespace "n")
  local calls = { kv = {}, store = {}, ns = {}, bound = {} }
  local function methods(kind, object)
    local list = calls[kind] or {}
    calls[kind] = list
    for name in pairs(debug.getmetatable(object).__index) do list[name] = true end
  end
  methods("store", store)
  methods("ns", ns)
  methods("instances", kv.instances "none")
  methods("writer", assert(ns:writer "k"))
  ns:put("k", "v")
  methods("reader", assert(ns:get("k", "stream")))
  for name in pairs(kv) do calls.kv[name] = true end
  for name in pairs(ns:bind()) do calls.bound[name] = true end
  store:close()
  return calls
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("docs/reference.md", function()
  local calls = public()
  local text = slurp "docs/reference.md"
  local said = {} -- "ns:put" -> true
  for line in text:gmatch "\nsyntax: ([^\n]+)" do
    for call in line:gmatch "[%a_]+[%.:][%a_]+" do said[call] = true end
  end

  it("has a syntax: line for every method", function()
    for _, kind in ipairs(sorted(calls)) do
      for _, name in ipairs(kind ~= "kv" and kind ~= "bound" and sorted(calls[kind]) or {}) do
        assert(said[kind .. ":" .. name], ("no 'syntax:' line has %s:%s"):format(kind, name))
      end
    end
  end)

  it("has one for every function of the module and of bound tables", function()
    for _, kind in ipairs { "kv", "bound" } do
      for _, name in ipairs(sorted(calls[kind])) do
        assert(calls.ns[name] or said["kv." .. name],
          ("no 'syntax:' line has kv.%s or ns:%s"):format(name, name))
      end
    end
  end)

  it("has none for what is not there", function()
    for call in pairs(said) do
      local kind, name = call:match "^(.-)[%.:](.*)$"
      assert(calls[kind] and calls[kind][name], call .. " does not exist")
    end
  end)

  it("writes methods with a colon and functions with a dot", function()
    for call in pairs(said) do
      assert.equal(call:find "^kv" and "." or ":", call:match "[%.:]")
    end
  end)

  it("has every counter of stats, and every field of an entry", function()
    local store = assert(kv.open ":memory:")
    local ns = store:namespace "n"
    ns:put("k", "v", { ttl = 1, metadata = { a = 1 } })
    for _, fields in ipairs { store:stats(), store:namespaces()[1], ns:entry "k" } do
      for name in pairs(fields) do
        assert(text:find("[`{, ]" .. name .. "[`}, ]"), "no " .. name)
      end
    end
    store:close()
  end)

  it("has every error code, and every command", function()
    local codes = slurp "lua/kv/types.lua":match "alias kv%.Code\n(.-)\n\n" .. "\n"
    for code in codes:gmatch '%-%-%-| "([%a_]+)" # ' do
      assert(text:find("`" .. code .. "`", 1, true), "no " .. code)
    end
    if not pcall(require, "argparse") then return end
    for _, command in ipairs(require "kv.cli.commands") do
      assert(command.hidden or text:find("`kv " .. command.name, 1, true), "no " .. command.name)
    end
  end)
end)

describe("lua/kv/types.lua", function()
  local calls = public()
  local text = slurp "lua/kv/types.lua"

  it("annotates every call", function()
    for _, kind in ipairs(sorted(calls)) do
      for _, name in ipairs(kind ~= "bound" and sorted(calls[kind]) or {}) do
        local there = text:find(("\nfunction %s[%%.:]%s%%("):format(kind, name))
          or kind == "instances" and slurp "lua/kv/instances.lua"
            :find(("\nfunction methods:%s%%("):format(name)) -- annotated where it is written
          or text:find(("\n%s%%.%s = "):format(kind, name))
          or kind == "kv" and text:find(("\n%%-%%-%%-@field %s "):format(name))
          or kind == "kv" and slurp "lua/kv/init.lua":find(("\nfunction kv%%.%s%%("):format(name))
        assert(there, ("%s.%s is not annotated"):format(kind, name))
      end
    end
  end)

  it("annotates every counter of stats", function()
    local store = assert(kv.open ":memory:")
    local class = text:match "class kv%.Stats\n(.-)\n\n"
    for name in pairs(store:stats()) do
      assert(class:find("field " .. name .. " "), name .. " is not annotated")
    end
    store:close()
  end)

  it("is Lua that says nothing when it is loaded", function()
    assert(loadfile "lua/kv/types.lua")
  end)
end)

describe("the documents", function()
  it("say what became of every call and option of the four stores", function()
    local text = slurp "docs/migrating.md"
    for word in ([[
      setAppValue getAppValue deleteAppValue getAllAppValues setGlobalValue getGlobalValue
      deleteGlobalValue getAllGlobalValues setAppJsonValue incrementAppJsonValue pushAppJsonValue
      removeAppJsonValue setGlobalJsonValue incrementGlobalJsonValue pushGlobalJsonValue
      removeGlobalJsonValue ttlInSeconds setIf
      kv_store put get getWithMetadata list delete expirationTtl expiration metadata text json
      arrayBuffer stream cacheStatus prefix limit cursor list_complete name DEMO_CACHE
      kvStore.set kvStore.get kvStore.delete autoCreateInstance instanceId success error exists
      createdAt updatedAt requestId timestamp expiresAt
      init set delete-key keys set-bulk delete-bulk export import kv.get kv.set
    ]]):gmatch "%S+" do
      assert(text:find(word, 1, true), word)
    end
  end)

  it("link to what is there", function()
    local pipe = io.popen "ls README.md CHANGELOG.md */README.md docs/*.md"
    for path in pipe:lines() do
      local dir, text = path:match "^(.*/)" or "", slurp(path)
      for link in text:gmatch "%]%(([^%s%)]+)%)" do
        local file, anchor = link:match "^([^#]*)#?(.*)$"
        if not link:find "^%a+:" then
          local target = file == "" and path or dir .. file
          local there = io.open(target)
          assert(there, ("%s links to %s"):format(path, link))
          if anchor ~= "" then
            local found = false
            for title in ("\n" .. there:read "*a"):gmatch "\n#+ ([^\n]+)" do
              title = title:lower():gsub("[^%w_ -]", ""):gsub(" ", "-")
              found = found or title == anchor
            end
            assert(found, ("%s links to %s"):format(path, link))
          end
          there:close()
        end
      end
    end
    pipe:close()
  end)
end)

-- The code ---------------------------------------------------------------------------------------

-- In front of the marked blocks of a document. `--> text` behind an expression says what it gives:
-- results between commas, "..." any string, ... anything. Behind a print() it is what that prints.
local prelude = [==[
local kv = require "kv"
local printed
local print = function(...)
  local words = {}
  for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
  printed = table.concat(words, " ")
end
local function spell(value)
  if value == nil then return "nil" end
  if type(value) == "table" or type(value) == "number" then return kv.encode(value) end
  return type(value) == "string" and ("%q"):format(value):gsub("\\\n", "\\n") or tostring(value)
end
local function expect(line, expected, ...)
  local n = select("#", ...)
  local got = {}
  for i = 1, n do got[i] = spell((select(i, ...))) end
  local said = n == 0 and printed or table.concat(got, ", ")
  said, expected = said:gsub("%s+", " "), expected:gsub("%s+", " ")
  local pattern = expected:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  pattern = pattern:gsub('"%%%.%%%.%%%."', '"[^"]*"'):gsub("%%%.%%%.%%%.", ".*")
  if said:find("^" .. pattern .. "$") or n == 1 and (...) == expected then return end
  io.write(("line %d: gives %s, not %s\n"):format(line, said, expected))
end
]==]

local function check_line(line, number)
  local code, expected = line:match "^%s*(.-)%s*%-%->%s*(.-)%s*$"
  if not code then return line end
  expected = expected:gsub(";.*", "") -- what follows is for the reader
  if code:find "^print%s*%(" then
    return ("%s expect(%d, %q)"):format(code, number, expected)
  end
  local target = code:match "^local ([%a_][%w_, ]*) = "
  if target then return ("%s expect(%d, %q, %s)"):format(code, number, expected, target) end
  return ("expect(%d, %q, %s)"):format(number, expected, code)
end

-- The marked blocks of a document as one program, each line where it is in the document.
local function program(path)
  local lines, number, on, count = {}, 0, nil, 0
  for line in slurp(path):gmatch "(.-)\n" do
    number = number + 1
    local out = ""
    if line == "<!-- run -->" then
      on = "next"
    elseif on == "next" and line == "```lua" then
      on, count = "code", count + 1
    elseif line == "```" then
      on = nil
    elseif on == "code" then
      out = check_line(line, number)
    end
    lines[number] = out
  end
  return prelude:gsub("%s*\n%s*", " ") .. table.concat(lines, "\n"), count
end

local function absolute(paths, root)
  return (paths:gsub("%f[^;%z]%./", root .. "/"):gsub("^%./", root .. "/"))
end

describe("the code of", function()
  teardown(helper.sweep)
  local pwd = io.popen "pwd"
  local root = pwd:read "*l"
  pwd:close()

  for _, path in ipairs { "README.md", "docs/guide.md", "docs/json.md", "docs/reference.md",
    "docs/migrating.md" } do
    it(path .. " does what it says", function()
      local code, count = program(path)
      assert(count > 0, "no block is marked <!-- run -->")
      assert((loadstring or load)(code, "=" .. path)) -- luacheck: ignore
      local dir = helper.path(true):match "^(.*)/"
      helper.write_file(dir .. "/program.lua", code)
      local run = "cd %s && HOME=%s LUA_PATH=%s LUA_CPATH=%s %s program.lua 2>&1"
      local pipe = io.popen(run:format(dir, dir, helper.quote(absolute(package.path, root)),
        helper.quote(absolute(package.cpath, root)), helper.quote(helper.interpreter)))
      local output = pipe:read "*a"
      pipe:close()
      assert.equal("", output)
    end)
  end
end)
