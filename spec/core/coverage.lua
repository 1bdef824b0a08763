-- Branch coverage of the core:   lua spec/core/coverage.lua DIR
--
-- DIR holds what `gcov -b -c` wrote for the files of csrc. Prints a line for each file and the
-- sum, and fails when a branch that no test takes has no reason in spec/core/uncovered.txt, or
-- fewer than LEAST per cent are taken. LIST=1 prints such branches in the form of that file, to be
-- given a reason.
--
-- A branch of an inline function counts once, whichever of its copies takes it. What exists in test
-- builds only (assertions, the seam, errors built in on purpose) does not count.

local LEAST = 88 -- the aim is 95
local dir = arg[1]

-- file -> text of a line -> how many branches of such lines may go untaken, and why
local function explained()
  local list = {}
  for line in io.lines("spec/core/uncovered.txt") do
    local why, n, file, text = line:match("^(%u) (%d+) (%S+) (.+)$")
    if why then
      list[file] = list[file] or {}
      list[file][text] = { n = tonumber(n), why = why, used = 0 }
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
-- { text =, copies = { { taken?, ... } } }.
local function read(path)
  local name, lines, skipped = nil, {}, {}
  local depth = 0 -- of #if inside #ifdef KV_TEST; 0: outside
  local copy
  for line in io.lines(path) do
    local n, source = line:match("^%s*[^:]+:%s*(%d+):(.*)$")
    local how = line:match("^branch%s+%d+ (.*)$")
    if n == "0" then
      name = source:match("^Source:(.+)$") or name
    elseif n then
      if source:find("^#%s*if") then
        depth = (depth > 0 or source:find("KV_TEST")) and depth + 1 or 0
      elseif source:find("^#%s*else") and depth == 1 then
        depth = 0
      elseif source:find("^#%s*endif") and depth > 0 then
        depth = depth - 1
      end
      n = tonumber(n)
      skipped[n] = skipped[n] or depth > 0
      lines[n] = lines[n] or { text = source:match("^%s*(.-)%s*$"), copies = {} }
      copy = nil
      if not skipped[n] and not for_tests(source) then
        copy = {}
        table.insert(lines[n].copies, copy)
      end
    elseif how and copy then
      local count = how:match("^taken (%d+)")
      table.insert(copy, count ~= nil and count ~= "0")
    end
  end
  return name, lines
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

local reasons = explained()
local files, sums = {}, {}
local listing = os.getenv("LIST")
local bare_all, taken, all = 0, 0, 0
local pipe = assert(io.popen("ls " .. dir .. "/*.gcov"))
for path in pipe:lines() do
  local name, lines = read(path)
  if name and name:find("^csrc/") then
    local s = { untaken = 0, all = 0, bare = 0 }
    local numbers, found, order = {}, {}, {}
    for n in pairs(lines) do
      numbers[#numbers + 1] = n
    end
    table.sort(numbers)
    for _, n in ipairs(numbers) do
      local text = lines[n].text
      local branches, untaken = count(lines[n].copies)
      s.all, s.untaken = s.all + branches, s.untaken + untaken
      if untaken > 0 then
        local e = reasons[name] and reasons[name][text]
        local bare = untaken
        if e then
          e.used = e.used + untaken
          bare = math.max(0, math.min(untaken, e.used - e.n))
        end
        s.bare = s.bare + bare
        if listing then
          if not found[text] then
            order[#order + 1] = text
          end
          found[text] = (found[text] or 0) + untaken
        elseif bare > 0 then
          print(("%s:%d: %d branches that no test takes: %s"):format(name, n, bare, text))
        end
      end
    end
    for _, text in ipairs(order) do
      local e = reasons[name] and reasons[name][text]
      print(("%s %d %s %s"):format(e and e.why or "?", found[text], name, text))
    end
    files[#files + 1], sums[name] = name, s
    bare_all, taken, all = bare_all + s.bare, taken + s.all - s.untaken, all + s.all
  end
end
pipe:close()
if listing then
  return
end

for _, name in ipairs(files) do
  local s = sums[name]
  if s.all > 0 then
    local bare = s.bare > 0 and (", %d without a reason"):format(s.bare) or ""
    print(("%-20s %5.1f %%  %4d of %4d branches not taken%s"):format(name,
      100 * (1 - s.untaken / s.all), s.untaken, s.all, bare))
  end
end
print(("coverage: %.1f %% of %d branches; %d not taken, %d of them without a reason"):format(
  100 * taken / all, all, all - taken, bare_all))
os.exit(bare_all == 0 and 100 * taken / all >= LEAST)
