-- SPDX-License-Identifier: MIT
--
-- progress.lua - long work: a bar with rate and time left on standard error, when that is a
-- terminal, and Ctrl-C, which ends the work between two steps.

local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local term = require "kv.core".term

local progress = {}

local DELAY = 0.4 -- seconds: shorter work shows no bar
local EVERY = 0.1

local Bar = {}
Bar.__index = Bar

local function draw(bar, now)
  local elapsed = now - bar.began
  local rate = elapsed > 0 and bar.done / elapsed or 0
  local text = ("%s/s"):format(bar.unit == "bytes" and output.bytes(rate) or output.count(rate))
  if not bar.total then
    local done = bar.unit == "bytes" and output.bytes(bar.done) or output.count(bar.done)
    text = ("%s %s  %s"):format(bar.label, done, text)
  else
    local share = bar.total > 0 and math.min(1, bar.done / bar.total) or 1
    local left = rate > 0 and ("  %s left"):format(
      output.duration(math.max(0, bar.total - bar.done) / rate)) or ""
    text = ("%s%s"):format(text, left)
    local room = bar.columns - #bar.label - #text - 10
    if room >= 5 then
      text = output.bar(math.min(room, 40), 1, share, nil, 2) .. "  " .. text
    end
    text = ("%s %3.0f%% %s"):format(bar.label, share * 100, text)
  end
  io.stderr:write("\r", text, "\27[K")
  io.stderr:flush()
  bar.drawn = now
end

-- done: how much of the total, in all. False when the user asked to stop.
function Bar:show(done)
  self.done = done
  if term.asked() then return false end
  if self.columns then
    local now = term.clock()
    if now - (self.drawn or self.began + DELAY - EVERY) >= EVERY then draw(self, now) end
  end
  return true
end

-- The same, for work that can simply end here.
function Bar:at(done)
  if not self:show(done) then failure.signal(term.asked(), "interrupted") end
end

local function clear(bar)
  if bar.drawn then
    io.stderr:write("\r\27[K")
    io.stderr:flush()
  end
end

-- Whatever became of work that was to stop, it ends the program as the signal would have.
local function ended(bar, ok, ...)
  clear(bar)
  local signal, problem = term.asked(), ...
  term.signals(false)
  if signal and (ok or failure.is(problem)) then
    failure.signal(signal, not ok and problem.message or "interrupted")
  end
  if not ok then error(problem, 0) end
  return ...
end

local function new(label, total, unit)
  return setmetatable({
    label = label, total = total, unit = unit, done = 0, began = term.clock(),
    columns = os.getenv "TERM" ~= "dumb" and term.columns(2) or nil,
  }, Bar)
end

-- Results of f(bar). total: nil when nobody knows. unit: "bytes", or anything else for a count.
function progress.run(label, total, unit, f)
  local bar = new(label, total, unit)
  term.signals(true)
  return ended(bar, pcall(f, bar))
end

local function unwatched(bar, ok, ...)
  term.watch(nil)
  clear(bar)
  if not ok then error((...), 0) end
  return ...
end

-- Results of f(), which checks or copies a store in one call; that one tells how far it is. It can
-- be killed at any time, which harms no store, so that nobody is asked.
function progress.watch(label, f)
  local bar = new(label, nil, "bytes")
  if not bar.columns then return f() end
  term.watch(function(done, total)
    bar.total = total
    bar:show(done)
  end)
  return unwatched(bar, pcall(f))
end

return progress
