-- SPDX-License-Identifier: MIT
--
-- json.lua - JSON text for people: spread over lines, coloured, its numbers and strings untouched;
-- and for programs that read lines: on one.
--
-- It works on text, not on Lua values, so that the order of members and the spelling of numbers
-- stay as they are stored.

local json = {}

-- What a terminal might take for a command, as JSON spells it.
local function escape(text)
  text = text:gsub("\127", "\\u007f")
  return (text:gsub("\194([\128-\159])", function(c) return ("\\u%04x"):format(c:byte()) end))
end

local function string_end(text, i)
  repeat
    i = text:find('["\\]', i + 1)
    local escaped = text:sub(i, i) == "\\"
    if escaped then i = i + 1 end
  until not escaped
  return i
end

-- JSON, checked before, without the white space in it: one line.
function json.compact(text)
  local out, i = {}, 1
  repeat
    local quote = text:find('"', i, true)
    out[#out + 1] = text:sub(i, (quote or 0) - 1):gsub("[ \t\r\n]+", "")
    if quote then
      i = string_end(text, quote) + 1
      out[#out + 1] = text:sub(quote, i - 1)
    end
  until not quote
  return table.concat(out)
end

-- text: JSON, checked before. paint(text, style) colours.
function json.indent(text, paint)
  local out, depth, i, empty = {}, 0, 1, false
  local function put(piece) out[#out + 1] = piece end
  local function fresh() put("\n" .. ("  "):rep(depth)) end
  while true do
    i = text:find("[^ \t\r\n]", i)
    if not i then return table.concat(out) end
    local c = text:sub(i, i)
    local closes = c == "}" or c == "]"
    if empty and not closes then fresh() end
    if c == "{" or c == "[" then
      depth = depth + 1
      put(c)
    elseif closes then
      depth = depth - 1
      if not empty then fresh() end
      put(c)
    elseif c == "," then
      put(c)
      fresh()
    elseif c == ":" then
      put(": ")
    elseif c == '"' then
      local last = string_end(text, i)
      local name = text:find("^[ \t\r\n]*:", last + 1)
      put(paint(escape(text:sub(i, last)), name and "key" or "string"))
      i = last
    else
      local word = text:match("^[^ \t\r\n,:%[%]{}]+", i)
      put(paint(word, word:find "^[-%d]" and "number" or "literal"))
      i = i + #word - 1
    end
    empty = c == "{" or c == "["
    i = i + 1
  end
end

return json
