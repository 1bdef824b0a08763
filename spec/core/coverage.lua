-- Branch coverage of the core:   lua spec/core/coverage.lua DIR
--
-- DIR holds what `gcov -b -c` wrote for the files of csrc. Prints a line for each file and the sum.
-- Fails when fewer than LEAST per cent are taken, when a branch is not taken and has no reason in
-- spec/core/uncovered.txt, and when one that has a reason is taken or gone. LIST=1 prints all such
-- branches in the form of that file instead, those without a reason with "?".
--
-- A branch is told by its file, its function ("inline" in a header) and the text of its line, so
-- that edits elsewhere do not matter. One of an inline function counts once, whichever of its
-- copies takes it. What exists in test builds only (assertions, the seam, errors built in on
-- purpose) does not count.

local LEAST = 95
local LISTED = "spec/core/uncovered.txt"
-- Reasons of branches that a run may happen to take.
local BY_CHANCE = { R = true }

-- "file function: text" -> how many branches of such lines go untaken, and why
local function explained()
  local list = {}
  for line in io.lines(LISTED) do
    local why, n, key = line:match("^(%u) (%d+) (%S+ [%w_]+: .+)$")
    if why then
      assert(not list[key], key .. " is listed twice")
      list[key] = { n = tonumber(n), why = why, untaken = 0 }
    end
  end
  return list
end

local function for_tests(text)
  for _, mark in ipairs({ "kv_assert(", "KV_IS_BUG", "KV_PAUSE", "kv_test_" }) do
    if text:find(mark, 1, true) then
      return true
    end
  end
  return false
end

-- What gcov says of one source: its name, and by line number
-- { text =, fn =, copies = { { taken?, ... } } }; added to `lines`.
local function read(path, lines)
  local name, fn, copy = nil, "", nil
  local depth = 0 -- of #if inside #ifdef KV_TEST; 0: outside
  for line in io.lines(path) do
    local n, source = line:match("^%s*[^:]+:%s*(%d+):(.*)$")
    local how = line:match("^branch%s+%d+ (.*)$")
    fn = line:match("^function ([%w_]+)") or fn
    if n == "0" then
      name = source:match("^Source:(.+)$") or name
      if source:find("^Source:") then
        lines[name] = lines[name] or {}
      end
    elseif n then
      if source:find("^#%s*if") then
        depth = (depth > 0 or source:find("KV_TEST")) and depth + 1 or 0
      elseif source:find("^#%s*else") and depth == 1 then
        depth = 0
      elseif source:find("^#%s*endif") and depth > 0 then
        depth = depth - 1
      end
      n = tonumber(n)
      local all = lines[name]
      -- gcov shows the code of a header once for each function that has it inlined, in any order.
      all[n] = all[n] or { text = source:match("^%s*(.-)%s*$"),
        fn = name:find("%.h$") and "inline" or fn, copies = {} }
      copy = nil
      if depth == 0 and not for_tests(source) then
        copy = {}
        table.insert(all[n].copies, copy)
      end
    elseif how and copy then
      local count = how:match("^taken (%d+)")
      table.insert(copy, count ~= nil and count ~= "0")
    end
  end
end

-- Branches of a line, and how many of them no copy takes.
local function count(copies)
  local least, untaken = math.huge, 0
  for _, copy in ipairs(copies) do
    if #copy > 0 then
      least = math.min(least, #copy)
    end
  end
  if least == math.huge then
    return 0, 0
  end
  for i = 1, least do
    local taken = false
    for _, copy in ipairs(copies) do
      for j = i, #copy, least do
        taken = taken or copy[j]
      end
    end
    untaken = untaken + (taken and 0 or 1)
  end
  return least, untaken
end

local function sorted(t)
  local keys = {}
  for k in pairs(t) do
    keys[#keys + 1] = k
  end
  table.sort(keys)
  return keys
end

local lines = {}
local pipe = assert(io.popen("ls " .. arg[1] .. "/*.gcov"))
for path in pipe:lines() do
  read(path, lines)
end
pipe:close()

local reasons = explained()
local listing = os.getenv("LIST")
local taken, all, wrong = 0, 0, 0
local summary = {}

for _, name in ipairs(sorted(lines)) do
  if name:find("^csrc/") then
    local s = { all = 0, untaken = 0, bare = 0 }
    local order, found = {}, {}
    for _, n in ipairs(sorted(lines[name])) do
      local line = lines[name][n]
      local branches, untaken = count(line.copies)
      s.all, s.untaken = s.all + branches, s.untaken + untaken
      if untaken > 0 then
        local key = ("%s %s: %s"):format(name, line.fn, line.text)
        local e = reasons[key]
        if not found[key] then
          order[#order + 1] = key
        end
        found[key] = (found[key] or 0) + untaken
        local bare = untaken
        if e then
          e.untaken = e.untaken + untaken
          bare = math.max(0, math.min(untaken, e.untaken - e.n))
        end
        s.bare = s.bare + bare
        if bare > 0 and not listing then
          print(("%s:%d: %d branches that no test takes: %s"):format(name, n, bare, line.text))
        end
      end
    end
    for _, key in ipairs(listing and order or {}) do
      print(("%s %d %s"):format(reasons[key] and reasons[key].why or "?", found[key], key))
    end
    if s.all > 0 then
      local bare = s.bare > 0 and (", %d without a reason"):format(s.bare) or ""
      summary[#summary + 1] = ("%-20s %5.1f %%  %4d of %4d branches not taken%s"):format(name,
        100 * (1 - s.untaken / s.all), s.untaken, s.all, bare)
    end
    taken, all, wrong = taken + s.all - s.untaken, all + s.all, wrong + s.bare
  end
end
if listing then
  return
end

for _, key in ipairs(sorted(reasons)) do
  local e = reasons[key]
  if e.untaken < e.n and not BY_CHANCE[e.why] then
    wrong = wrong + 1
    print(("%s: %d listed, %d not taken: %s"):format(LISTED, e.n, e.untaken, key))
  end
end
print(table.concat(summary, "\n"))
local percent = 100 * taken / all
print(("coverage: %.1f %% of %d branches; %d not taken, %d differences from %s"):format(
  percent, all, all - taken, wrong, LISTED))
os.exit(wrong == 0 and percent >= LEAST)
