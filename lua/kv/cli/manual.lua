-- SPDX-License-Identifier: MIT
--
-- manual.lua - the man page kv(1), made from the table of commands. docs/kv.1 is its output.

local manual = {}

local function escape(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-")
  return (text:gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1"))
end

-- `code` becomes bold.
local function prose(text)
  return (escape(text):gsub("`([^`]+)`", "\\fB%1\\fR"))
end

local function synopsis(command)
  local out = { "\\fBkv " .. escape(command.name) .. "\\fR" }
  for _, a in ipairs(command.arguments or {}) do
    out[#out + 1] = a.optional and ("[\\fI%s\\fR]"):format(a.name) or ("\\fI%s\\fR"):format(a.name)
  end
  for _, o in ipairs(command.options or {}) do
    local name = escape((o.name:gsub(" ", ", ")))
    out[#out + 1] = o.metavar and ("[\\fB%s\\fR \\fI%s\\fR]"):format(name, escape(o.metavar))
      or ("[\\fB%s\\fR]"):format(name)
  end
  return table.concat(out, " ")
end

local function arguments(put, list)
  for _, a in ipairs(list or {}) do
    put ".TP"
    put(("\\fI%s\\fR"):format(escape(a.name)))
    put(prose(a.help))
  end
end

local function options(put, list)
  for _, o in ipairs(list or {}) do
    local name = escape((o.name:gsub(" ", ", ")))
    put ".TP"
    put(o.metavar and ("\\fB%s\\fR \\fI%s\\fR"):format(name, escape(o.metavar))
      or ("\\fB%s\\fR"):format(name))
    put(prose(o.help))
  end
end

local function examples(put, list)
  for _, example in ipairs(list or {}) do
    put ".TP"
    put(("\\fB%s\\fR"):format(escape(example[1])))
    put(prose(example[2]))
  end
end

function manual.page(commands, version)
  local lines = {}
  local function put(line) lines[#lines + 1] = line end
  put(('.TH KV 1 "" "kv %s" "User Commands"'):format(version))
  put ".SH NAME"
  put "kv \\- a durable key-value store on the command line"
  put ".SH SYNOPSIS"
  put "\\fBkv\\fR [\\fB\\-\\-store\\fR \\fIPATH\\fR] \\fICOMMAND\\fR ..."
  put ".SH DESCRIPTION"
  put(prose(commands.about))
  put ".PP"
  put(prose(commands.more))
  put ".SH OPTIONS"
  options(put, commands.options)
  put ".TP"
  put "\\fB\\-h, \\-\\-help\\fR"
  put "Show a help text, of a command if one is named, and leave."
  put ".TP"
  put "\\fB\\-\\-version\\fR"
  put "Show the version and leave."
  put ".SH COMMANDS"
  for _, command in ipairs(commands) do
    if not command.hidden then
      put(".SS " .. synopsis(command))
      put(prose(command.about))
      if command.alias then
        put(("\\fBkv %s\\fR is the same."):format(escape(command.alias)))
      end
      if command.more then
        put ".PP"
        put(prose(command.more))
      end
      arguments(put, command.arguments)
      options(put, command.options)
      put ".PP"
      put "Examples:"
      examples(put, command.examples)
    end
  end
  put ".SH EXIT STATUS"
  for _, status in ipairs(commands.statuses) do
    put ".TP"
    put(("\\fB%d\\fR"):format(status[1]))
    put(prose(status[2]))
  end
  put "A command that is interrupted, or whose output nobody reads any more, ends by that signal."
  put ".SH ENVIRONMENT"
  for _, variable in ipairs(commands.environment) do
    put ".TP"
    put(("\\fB%s\\fR"):format(variable[1]))
    put(prose(variable[2]))
  end
  put ".SH EXAMPLES"
  examples(put, commands.examples)
  return table.concat(lines, "\n") .. "\n"
end

return manual
