-- SPDX-License-Identifier: MIT
--
-- parser.lua - the table of commands (commands.lua) as a parser of arguments and as help texts.

local argparse = require "argparse"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"

local parser = {}

-- Arguments that begin with '-' and are no options --------------------------------------------

-- No option is called like a number or has white space behind its '-', so such an argument is a key
-- or a value wherever it stands. argparse is kept from looking at it by a mark in front.
local MARK = "\1"

local function mark(argument)
  if argument:find "^%-%.?[%d%s]" or argument:sub(1, 1) == MARK then return MARK .. argument end
  return argument
end

local function unmark(argument)
  return argument:sub(1, 1) == MARK and argument:sub(2) or argument
end

-- Building -------------------------------------------------------------------------------------

-- Help texts mark code as `code`, which the man page prints bold.
local function plain(text)
  return (text:gsub("`", ""))
end

local function examples(command)
  local lines = {}
  for _, example in ipairs(command.examples or {}) do
    lines[#lines + 1] = "   $ " .. example[1]:gsub("\n", "\n     ")
    lines[#lines + 1] = "        " .. example[2]
  end
  return lines
end

local function epilog(command)
  local parts = {}
  if command.name then parts[1] = "--store PATH, and what else kv --help says, works here too." end
  if command.more then parts[#parts + 1] = plain(command.more) end
  local lines = examples(command)
  if #lines > 0 then parts[#parts + 1] = "Examples:\n" .. table.concat(lines, "\n") end
  return #parts > 0 and table.concat(parts, "\n\n") or nil
end

-- The text of one argument: without its mark, and as what it stands for.
local function converter(what, convert)
  return function(text)
    text = unmark(text)
    if not convert then return text end
    local value, expected = convert(text)
    if value == nil then
      return nil, ("%s: expected %s, got '%s'"):format(what, expected, text)
    end
    return value
  end
end

local function add_help(to)
  to:flag("-h --help"):description("Show this text and leave."):action(function()
    output.write(to:get_help(), "\n")
    failure.raise(0)
  end)
end

local function add_argument(to, a)
  local argument = to:argument(a.name):description(plain(a.help)):target(a.name:lower())
    :args(a.many and "*" or a.optional and "?" or 1):convert(converter(a.name, a.convert))
  if a.choices then argument:choices(a.choices) end
end

local function add_option(to, o)
  if not o.metavar then
    to:flag(o.name):description(plain(o.help))
    return
  end
  local option = to:option(o.name):description(plain(o.help)):argname(o.metavar)
    :convert(converter(o.name:match "%-%-%S+", o.convert))
  if o.choices then option:choices(o.choices) end
end

-- A message and, so that one can go on, the usage of the command in question.
local function usage_error(at, message)
  message = message:gsub(MARK, "")
  if message:find "^unknown option" then
    message = message .. "\n(a key or value that begins with '-' goes behind ' -- ')"
  end
  failure.usage(message, at:get_usage())
end

function parser.build(commands)
  local top = argparse("kv", plain(commands.about), epilog(commands))
  top:add_help(false):help_max_width(80):usage_max_width(80):help_description_margin(26)
  top:command_target "command":require_command(true)
  add_help(top)
  for _, option in ipairs(commands.options) do add_option(top, option) end
  top:flag("--version"):description("Show the version and leave."):action(function()
    output.write("kv ", require "kv"._VERSION, "\n")
    failure.raise(0)
  end)
  for _, c in ipairs(commands) do
    local sub = top:command(c.alias and c.name .. " " .. c.alias or c.name)
    sub:summary(c.summary):description(plain(c.about)):epilog(epilog(c)):hidden(c.hidden or false)
    sub:add_help(false)
    for _, a in ipairs(c.arguments or {}) do add_argument(sub, a) end
    for _, o in ipairs(c.options or {}) do add_option(sub, o) end
    add_help(sub)
  end
  top.error = usage_error
  return top
end

-- argv -> name of the command, table of its arguments. Usage errors are raised as failures.
function parser.parse(commands, argv)
  local top, marked = parser.build(commands), {}
  for i, argument in ipairs(argv) do marked[i] = mark(argument) end
  local result = top:parse(marked)
  return result.command, result
end

return parser
