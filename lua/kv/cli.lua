-- SPDX-License-Identifier: MIT
--
-- cli.lua - one run of the command line: find the command, run it, leave with the right status.
--
-- 0 done, 1 not found or a condition that did not hold, 2 the user's mistake, 3 failure; killed by
-- its signal where a signal ends it.

local commands = require "kv.cli.commands"
local failure = require "kv.cli.failure"
local output = require "kv.cli.output"
local parser = require "kv.cli.parser"
local session = require "kv.cli.session"
local term = require "kv.core".term

local cli = {}

local function complain(problem)
  if problem.text then io.stderr:write(problem.text, "\n\n") end
  output.complain(problem.message, problem.code)
end

-- What a command raises, as a failure. Anything unforeseen is an error of this program: say where.
local function explain(raised)
  if failure.is(raised) then return raised end
  return { status = failure.FAILED, message = debug.traceback(tostring(raised), 2) }
end

local function run(argv)
  local name, arguments = parser.parse(commands, argv)
  session.use(arguments.store)
  commands.by_name[name].run(arguments)
end

-- nil, or the failure that f ended with.
local function attempt(f)
  local ok, problem = xpcall(f, explain)
  if not ok then return problem end
end

-- argv as Lua's interpreter gives it. Returns the exit status.
function cli.main(argv)
  term.signals(false)
  local problem = attempt(function() run(argv) end)
  -- Also after a failure: what was written stays, and becomes durable now.
  local later = attempt(session.close) or attempt(output.flush)
  if not problem or problem.status == 0 then problem = later or problem end
  if not problem then return 0 end
  if problem.message then complain(problem) end
  if problem.signal then
    term.die(problem.signal)
    return 128 + problem.signal
  end
  return problem.status
end

return cli
