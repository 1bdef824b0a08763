-- SPDX-License-Identifier: MIT
--
-- output.lua - standard output and standard error: what a terminal gets, and what a pipe gets.
--
-- A terminal gets colours, aligned tables and nothing that could control it; a pipe gets the bytes.

local failure = require "kv.cli.failure"
local json = require "kv.cli.json"
local term = require "kv.core".term

local output = {}

output.columns = term.columns(1) -- nil: not a terminal
local error_columns = term.columns(2)

-- Writing --------------------------------------------------------------------------------------

-- A reader that has gone is no error to speak of: the program ends as the signal would end it.
local function wrote(ok, message, number)
  if ok then return end
  if number == 32 or tostring(message):find "Broken pipe" then failure.signal(term.SIGPIPE) end
  failure.raise(failure.FAILED, "cannot write to standard output: %s", tostring(message))
end

function output.write(...)
  wrote(io.stdout:write(...))
end

function output.flush()
  wrote(io.stdout:flush())
end

local function say(style, text)
  io.stderr:write(output.paint("kv:", style, 2), " ",
    error_columns and output.printable(text, true) or text, "\n")
end

-- A sentence for the user, beside whatever the output is.
function output.note(text, ...)
  say("name", select("#", ...) > 0 and text:format(...) or text)
end

-- Why a command did not succeed. code: one of kv's, or nil.
function output.complain(text, code)
  say("error", code and ("%s (%s)"):format(text, code) or text)
end

-- Colours --------------------------------------------------------------------------------------

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local dumb = env "NO_COLOR" or env "TERM" == "dumb"
local codes = {
  name = "1", error = "1;31", faint = "2", bar = "36",
  key = "34", string = "32", number = "36", literal = "35",
}

-- fd: 1 unless given.
function output.paint(text, style, fd)
  if text == "" then return "" end
  local there = output.columns
  if fd == 2 then there = error_columns end
  if dumb or not there then return text end
  return ("\27[%sm%s\27[0m"):format(codes[style], text)
end

-- Whether the terminal can be trusted with characters beyond ASCII.
local locale = env "LC_ALL" or env "LC_CTYPE" or env "LANG" or ""
output.utf8 = locale:lower():find "utf%-?8" ~= nil

-- Text that is safe to show --------------------------------------------------------------------

local function hex(byte)
  return ("\\x%02X"):format(byte:byte())
end

-- How long the UTF-8 sequence at i is, or nil. Bounds of the second byte leave out overlong
-- spellings, surrogates and what is beyond Unicode.
local function sequence(s, i)
  local a, b = s:byte(i, i + 1)
  if not b or b < 0x80 or b > 0xBF then return nil end
  local n = a >= 0xC2 and a <= 0xDF and 2 or a >= 0xE0 and a <= 0xEF and 3
    or a >= 0xF0 and a <= 0xF4 and 4
  if not n or a == 0xE0 and b < 0xA0 or a == 0xED and b > 0x9F or a == 0xF0 and b < 0x90
    or a == 0xF4 and b > 0x8F then return nil end
  for j = i + 2, i + n - 1 do
    local c = s:byte(j)
    if not c or c < 0x80 or c > 0xBF then return nil end
  end
  return n, a == 0xC2 and b < 0xA0
end

local function beyond_ascii(run)
  local out, i = {}, 1
  while i <= #run do
    local n, control = sequence(run, i)
    local piece = run:sub(i, i + (n or 1) - 1)
    out[#out + 1] = n and not control and piece or piece:gsub(".", hex)
    i = i + #piece
  end
  return table.concat(out)
end

-- The text with control characters and bytes that are no UTF-8 spelled \xNN. lines: line feeds and
-- tabs may stay.
function output.printable(text, lines)
  text = text:gsub(lines and "[%z\1-\8\11-\31\127]" or "[%z\1-\31\127]", hex)
  return (text:gsub("[\128-\255]+", beyond_ascii))
end

-- Is it UTF-8 throughout?
function output.is_utf8(text)
  local i = text:find "[\128-\255]"
  while i do
    local n = sequence(text, i)
    if not n then return false end
    i = text:find("[\128-\255]", i + n)
  end
  return true
end

-- A name as one line of output.
function output.line(name)
  output.write(output.columns and output.printable(name) or name, "\n")
end

-- JSON text: over several lines for people; for programs one line, or as it is.
function output.json(text, line)
  if output.columns then
    output.write(json.indent(text, output.paint), "\n")
  else
    output.write(line and json.compact(text) .. "\n" or text)
  end
end

-- Numbers --------------------------------------------------------------------------------------

-- 1234567 -> "1,234,567"
function output.count(n)
  local digits = ("%.0f"):format(n)
  local head = #digits % 3
  local text = digits:sub(1, head) .. digits:sub(head + 1):gsub("%d%d%d", ",%0")
  return (text:gsub("^,", ""))
end

function output.plural(n, one, many)
  return ("%s %s"):format(output.count(n), n == 1 and one or many or one .. "s")
end

local units = { "KiB", "MiB", "GiB", "TiB" }

function output.bytes(n)
  if n < 1024 then return ("%.0f B"):format(n) end
  local unit = 0
  while n >= 1023.95 and unit < #units do
    n, unit = n / 1024, unit + 1
  end
  return ("%.1f %s"):format(n, units[unit])
end

-- 3725 -> "1:02:05"
function output.duration(seconds)
  local s = math.floor(seconds + 0.5)
  local h, m = math.floor(s / 3600), math.floor(s / 60) % 60
  if h > 0 then return ("%d:%02d:%02d"):format(h, m, s % 60) end
  return ("%d:%02d"):format(m, s % 60)
end

-- Bars and tables --------------------------------------------------------------------------------

local solid, half, empty = "#", "+", "."
if output.utf8 then solid, half, empty = "\226\150\136", "\226\150\146", "\226\150\145" end

-- A bar of `width` characters for the share part of whole, and perhaps another behind it. fd: where
-- it goes, 1 unless given.
function output.bar(width, whole, part, other, fd)
  local function characters(n)
    return whole > 0 and math.floor(math.max(0, math.min(1, n / whole)) * width + 0.5) or 0
  end
  local a = characters(part)
  local b = other and math.min(characters(part + other) - a, width - a) or 0
  return output.paint(solid:rep(a), "bar", fd) .. output.paint(half:rep(b), "bar", fd)
    .. output.paint(empty:rep(width - a - b), "faint", fd)
end

-- Characters, for aligning; wide ones count as one.
local function width(text)
  local _, n = text:gsub("[^\128-\191]", "")
  return n
end

-- columns: { {title, right = true, ready = true} ... }, ready: its cells, the last ones of their
-- rows, may hold colours; rows: arrays of text. A pipe gets the fields between tabs
-- and no titles, unless it is to look like a terminal.
function output.table(columns, rows, always)
  if not output.columns and not always then
    for _, row in ipairs(rows) do output.write(table.concat(row, "\t"), "\n") end
    return
  end
  local widths, shown = {}, {}
  for r, row in ipairs(rows) do
    shown[r] = {}
    for i, cell in ipairs(row) do
      shown[r][i] = columns[i].ready and cell or output.printable(cell)
    end
  end
  for i, column in ipairs(columns) do
    widths[i] = width(column[1])
    for _, row in ipairs(shown) do widths[i] = math.max(widths[i], width(row[i])) end
  end
  local function line(cells, style)
    local out = {}
    for i, cell in ipairs(cells) do
      local gap = (" "):rep(widths[i] - width(cell))
      if style then cell = output.paint(cell, style) end
      out[i] = columns[i].right and gap .. cell or i < #cells and cell .. gap or cell
    end
    output.write(table.concat(out, "  "), "\n")
  end
  local titles = {}
  for i, column in ipairs(columns) do titles[i] = column[1] end
  line(titles, "name")
  for _, row in ipairs(shown) do line(row) end
end

return output
