-- SPDX-License-Identifier: MIT
--
-- json_model_spec.lua - random documents and random edits, against decoding the document, changing
-- the table and encoding it. SEED repeats a run, KV_JSON_EDITS says how many edits.

local kv = require "kv"
local helper = require "helper"

local seed = tonumber(os.getenv("SEED")) or os.time()
local edits = tonumber(os.getenv("KV_JSON_EDITS")) or os.getenv("KV_SHORT") and 500
  or os.getenv("KV_LONG") and 500000 or 12000

-- The same sequence on every Lua.
local state
local function random(n)
  state = state * 16807 % 2147483647
  return state % n + 1
end
local function pick(list) return list[random(#list)] end

local array_tag = getmetatable(kv.array()) -- false: it is hidden

local function is_array(t)
  return type(t) == "table" and (t[1] ~= nil or kv.encode(t) == "[]")
end

-- One spelling for all that is equal.
local function spell(value)
  if type(value) ~= "table" then
    if value == kv.null then return "null" end
    if type(value) == "number" then return ("%.17g"):format(value) end
    return type(value) .. kv.encode(value)
  end
  local parts = {}
  if is_array(value) then
    for i = 1, #value do parts[i] = spell(value[i]) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, item in pairs(value) do parts[#parts + 1] = kv.encode(name) .. ":" .. spell(item) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Random values and paths ----------------------------------------------------------------------

local names = { "a", "b", "c", "d", "x.y", "0", "1", "", "~", "a/b", "-", "q\"", "é", "tab\t" }
local scalars = { 0, 1, -1, 42, 0.5, -2.25, 1e100, true, false, kv.null, "", "text", "é\n\"", "\0" }

local function some_value(depth)
  if depth == 0 or random(3) == 1 then return pick(scalars) end
  local t = {}
  if random(2) == 1 then
    for i = 1, random(4) - 1 do t[i] = some_value(depth - 1) end
    return kv.array(t)
  end
  for _ = 1, random(4) - 1 do t[pick(names)] = some_value(depth - 1) end
  return t
end

local function names_of(t)
  local list = {}
  for name in pairs(t) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function some_steps(value)
  local steps = {}
  while random(7) > 1 and #steps < 8 do
    if type(value) == "table" and is_array(value) and random(20) > 1 then
      local i = random(#value + 2) - 1
      if random(3) == 1 then i = i - #value - 1 end
      steps[#steps + 1] = i
      value = value[(i < 0 and i + #value or i) + 1]
    else
      local name = pick(names)
      if type(value) == "table" and not is_array(value) and next(value) and random(4) > 1 then
        name = pick(names_of(value))
      end
      steps[#steps + 1] = name
      value = type(value) == "table" and not is_array(value) and value[name] or nil
    end
    if type(value) ~= "table" and random(3) > 1 then break end
  end
  return steps
end

-- Array, dotted or pointer; a pointer is no good for numbers where the document has an object.
local function spell_path(steps)
  local form = random(3)
  if form == 1 then return steps end
  if form == 2 then
    local out = {}
    for i, step in ipairs(steps) do
      if type(step) == "number" then
        out[i] = "[" .. step .. "]"
      elseif step:find("^[^%.%[%]\"/][^%.%[%]\"]*$") then
        out[i] = (i > 1 and "." or "") .. step
      else
        out[i] = "[" .. kv.encode(step) .. "]"
      end
    end
    return table.concat(out)
  end
  for _, step in ipairs(steps) do
    if type(step) == "number" or step:find("^%-?%d*$") then return steps end
  end
  return #steps > 0 and "/" .. table.concat(steps, "/"):gsub("~", "~0") and (function()
    local out = {}
    for i, step in ipairs(steps) do out[i] = step:gsub("~", "~0"):gsub("/", "~1") end
    return "/" .. table.concat(out, "/")
  end)() or ""
end

-- The model --------------------------------------------------------------------------------------

local missing = {}

-- The value, or missing, or nil and a code; and the container and place of the last step.
local function follow(root, steps, count)
  local value, holder, place = root, nil, nil
  for i = 1, count do
    local step = steps[i]
    if value == missing then return missing, nil, nil, i end
    if type(step) == "number" then
      if not is_array(value) then return nil, "not_an_array" end
      if step < 0 then step = step + #value end
      holder, place, value = value, step + 1, value[step + 1]
    else
      if type(value) ~= "table" or is_array(value) then return nil, "not_an_object" end
      holder, place, value = value, step, value[step]
    end
    if value == nil then return missing, holder, place, i end
  end
  return value, holder, place, count
end

-- Puts value where the steps lead; what is missing is made. Returns the new root, or nil and a
-- code.
local function put(root, steps, count, value)
  local there, holder, place, reached = follow(root, steps, count)
  if there == nil then return nil, holder end
  if there ~= missing then
    if count == 0 then return value end
    holder[place] = value
    return root
  end
  if root == missing then reached = 0 end
  for i = count, reached + 1, -1 do
    local step = steps[i]
    if type(step) == "number" then
      if step ~= 0 then return nil, "out_of_range" end
      value = kv.array { value }
    else
      value = { [step] = value }
    end
  end
  if root == missing then return value end
  if type(place) == "number" and place ~= #holder + 1 then return nil, "out_of_range" end
  holder[place] = value
  return root
end

local model = {}

function model.json_set(root, steps, value)
  return put(root, steps, #steps, value)
end

function model.json_increment(root, steps, by)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then there = 0 end
  if type(there) ~= "number" then return nil, "not_a_number" end
  local result
  root, result = put(root, steps, #steps, there + by)
  return root, result or there + by
end

function model.json_push(root, steps, value)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then
    root, code = put(root, steps, #steps, kv.array { value })
    return root, code or 1
  end
  if not is_array(there) then return nil, "not_an_array" end
  there[#there + 1] = value
  return root, #there
end

function model.json_extend(root, steps, list)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then
    root, code = put(root, steps, #steps, kv.array(list))
    return root, code or #list
  end
  if not is_array(there) then return nil, "not_an_array" end
  for _, item in ipairs(list) do there[#there + 1] = item end
  return root, #there
end

function model.json_insert(root, steps, value)
  local index = steps[#steps]
  if type(index) ~= "number" then return nil, "bad_path" end
  local there, code = follow(root, steps, #steps - 1)
  if there == nil then return nil, code end
  if there == missing then
    if index ~= 0 then return nil, "out_of_range" end
    root, code = put(root, steps, #steps - 1, kv.array { value })
    return root, code or 1
  end
  if not is_array(there) then return nil, "not_an_array" end
  if index < 0 then index = index + #there end
  if index < 0 or index > #there then return nil, "out_of_range" end
  table.insert(there, index + 1, value)
  return root, #there
end

function model.json_pop(root, steps, index)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then return root, nil, "nothing" end
  if not is_array(there) then return nil, "not_an_array" end
  if index < 0 then index = index + #there end
  if there[index + 1] == nil then return root, nil, "nothing" end
  return root, table.remove(there, index + 1)
end

function model.json_remove(root, steps)
  if #steps == 0 then return missing, root ~= missing, root == missing and "nothing" or nil end
  local there, holder, place = follow(root, steps, #steps)
  if there == nil then return nil, holder end
  if there == missing then return root, false, "nothing" end
  if type(place) == "number" then
    table.remove(holder, place)
  else
    holder[place] = nil
  end
  return root, true
end

function model.json_toggle(root, steps)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then there = false end
  if type(there) ~= "boolean" then return nil, "not_a_boolean" end
  root, code = put(root, steps, #steps, not there)
  if root == nil then return nil, code end
  return root, not there
end

function model.json_append(root, steps, text)
  local there, code = follow(root, steps, #steps)
  if there == nil then return nil, code end
  if there == missing then there = "" end
  if type(there) ~= "string" then return nil, "not_a_string" end
  root, code = put(root, steps, #steps, there .. text)
  return root, code or #there + #text
end

local function merged(target, patch)
  if type(patch) ~= "table" or is_array(patch) then return patch end
  if type(target) ~= "table" or is_array(target) then target = {} end
  for name, value in pairs(patch) do
    if value == kv.null then
      target[name] = nil
    else
      target[name] = merged(target[name], value)
    end
  end
  return target
end

local operations = { "json_set", "json_set", "json_increment", "json_push", "json_extend",
  "json_insert", "json_pop", "json_remove", "json_toggle", "json_append", "json_merge" }

local function operand(name)
  if name == "json_increment" then return pick { 1, -1, 5, 0.5 } end
  if name == "json_pop" then return random(5) - 3 end
  if name == "json_append" then return pick { "x", "", "é\n", "\"" } end
  if name == "json_extend" then
    local list = {}
    for i = 1, random(3) - 1 do list[i] = some_value(1) end
    return list
  end
  if name == "json_set" or name == "json_push" or name == "json_insert" or name == "json_merge" then
    return some_value(2)
  end
end

describe("random edits", function()
  helper.each_store(function(new)
    it("do what decoding, changing and encoding does", function()
      assert.is_false(array_tag)
      state = seed % 2147483646 + 1
      print(("json_model_spec: SEED=%d"):format(seed))
      local store = new()
      local ns = store:namespace("model")
      local text
      for i = 1, edits do
        if text and #text > 500 or random(text and 40 or 2) == 1 then
          text = kv.encode(some_value(3))
          -- In a string half of the time: that is edited just the same.
          if random(2) == 1 then ns:put("k", text) else ns:put("k", text, { as = "json" }) end
        end
        local name, root = pick(operations), missing
        if text ~= nil then root = kv.decode(text) end
        local steps, value = some_steps(root ~= missing and root or nil), operand(name)
        local path = spell_path(steps)
        local rev = store:rev()
        local after, result, extra, got, message, third
        -- The model works on a copy, and its values are its own.
        local copy = value
        if type(value) == "table" then copy = kv.decode(kv.encode(value)) end
        if name == "json_merge" then
          after = merged(root ~= missing and root or nil, copy)
          got, message, third = ns:json_merge("k", value)
        else
          after, result, extra = model[name](root, steps, copy)
          if name == "json_remove" or name == "json_toggle" then
            got, message, third = ns[name](ns, "k", path)
          else
            got, message, third = ns[name](ns, "k", path, value)
          end
        end
        local function context()
          return ("edit %d: %s %s %s on %s: %s %s %s"):format(i, name, kv.encode(kv.array(steps)),
            value == nil and "" or kv.encode(value), tostring(text), tostring(got),
            tostring(message), tostring(third))
        end
        local stored = ns:get("k", "text")
        if after == nil then
          assert(got == nil and third == result, context())
          assert(stored == text and store:rev() == rev, context())
        elseif extra == "nothing" then
          assert(not got and message == nil and store:rev() == rev, context())
        else
          assert(store:rev() == rev + 1, context())
          if after == missing then
            assert(stored == nil, context())
          else
            assert(stored and spell(kv.decode(stored)) == spell(after), context())
          end
          if name == "json_set" or name == "json_merge" then
            assert(got == rev + 1, context())
          else
            assert(spell(got) == spell(result) and message == nil and third == rev + 1, context())
          end
        end
        text = stored
      end
      assert.is_true(store:check())
    end)
  end)
end)
