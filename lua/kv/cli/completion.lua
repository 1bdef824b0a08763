-- SPDX-License-Identifier: MIT
--
-- completion.lua - what could stand at the cursor. The shells' own scripts are a few lines each:
-- they ask `kv complete`, which looks into the table of commands and into the store.

local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local session = require "kv.cli.session"

local completion = {}

local KEYS = 200 -- more would help nobody

-- What is at the cursor ------------------------------------------------------------------------

local function find_option(name, ...)
  for _, options in ipairs { ... } do
    for _, option in ipairs(options) do
      for alias in option.name:gmatch "%S+" do
        if alias == name then return option end
      end
    end
  end
end

-- Reads the words before the cursor: the command, how many of its arguments are there, the first of
-- them, an option that waits for its value, and whether options are over.
local function read_words(commands, words)
  local at = { count = 0 }
  for i = 1, #words - 1 do
    local word = words[i]
    if at.option then
      if at.option.name == "--store" then at.store = word end
      at.option = nil
    elseif not at.over and word:sub(1, 1) == "-" and #word > 1 then
      local name, value = word:match "^(%-%-[^=]+)=(.*)$"
      local option = find_option(name or word, at.command and at.command.options or {},
        commands.options)
      if name == "--store" then at.store = value end
      if word == "--" then
        at.over = true
      elseif option and option.metavar and not name then
        at.option = option
      end
    elseif not at.command then
      at.command = commands.by_name[word] or { arguments = {} }
    else
      at.count = at.count + 1
      at.first = at.first or word
    end
  end
  return at
end

-- What there is --------------------------------------------------------------------------------

local found = {}

function found.namespaces(at)
  session.use(at.store)
  local list = {}
  for _, ns in ipairs(session.store "read":namespaces() or {}) do
    list[#list + 1] = { ns.name, ns.description }
  end
  return list
end

function found.keys(at, prefix)
  session.use(at.store)
  local page = session.namespace(at.first, "read"):list { prefix = prefix, limit = KEYS }
  local list = {}
  for _, key in ipairs(page and page.keys or {}) do list[#list + 1] = { key.name } end
  return list
end

local function options_of(commands, at)
  local list = { { "--help", "Show the help text." } }
  for _, options in ipairs { at.command and at.command.options or {}, commands.options } do
    for _, option in ipairs(options) do
      list[#list + 1] = { option.name:match "%-%-%S+", option.help }
    end
  end
  return list
end

local function values_of(what, at, word)
  if not what then return {} end
  if what.choices then
    local list = {}
    for i, choice in ipairs(what.choices) do list[i] = { choice } end
    return list
  end
  if what.completes == "files" then return "files" end
  return what.completes and found[what.completes](at, word) or {}
end

local function candidates(commands, words)
  local at, word = read_words(commands, words), words[#words] or ""
  if at.option then return values_of(at.option, at, word) end
  if not at.over and word:sub(1, 1) == "-" then return options_of(commands, at) end
  if at.command then return values_of((at.command.arguments or {})[at.count + 1], at, word) end
  local list = {}
  for _, command in ipairs(commands) do
    if not command.hidden then list[#list + 1] = { command.name, command.summary } end
  end
  return list
end

-- Prints a candidate and what it means on a line each, or ":files". A store that cannot be read has
-- nothing to offer, which is no reason to disturb somebody typing.
function completion.print(commands, words)
  local ok, list = pcall(candidates, commands, words)
  if not ok then
    if not failure.is(list) then error(list, 0) end
    return
  end
  if list == "files" then
    output.write ":files\n"
    return
  end
  local word = words[#words] or ""
  for _, candidate in ipairs(list) do
    local name = candidate[1]
    if name:sub(1, #word) == word and output.printable(name) == name then
      local about = output.printable(candidate[2] or "")
      output.write(name, about ~= "" and "\t" .. about or "", "\n")
    end
  end
end

return completion
