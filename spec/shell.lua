-- SPDX-License-Identifier: MIT
--
-- shell.lua - the command line as its users run it: through a real shell, and through a
-- pseudo-terminal that `script` makes.

local assert = require "luassert"
local busted = require "busted"
local kv = require "kv"
local helper = require "helper"

-- What the spec files have in their environment, this one does not.
local describe, pending, teardown = busted.describe, busted.pending, busted.teardown

local quote = helper.quote
local shell = {}

function shell.slurp(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "*a"
  file:close()
  return bytes
end

local dir, path -- of files, and of the store, of this test

-- Before each test: the path of a store that is not there yet, and of a directory for files.
function shell.begin()
  path = helper.path(true)
  dir = path:match "^(.*)/"
  return path, dir
end

-- Writes the script that a shell is to run: `kv` stands for the program. Returns its path.
local function script(command, env)
  local settings = { KV_STORE = path, NO_COLOR = "", LC_ALL = "C.UTF-8", TERM = "xterm" }
  for name, value in pairs(env or {}) do settings[name] = value end
  local lines = {}
  for name, value in pairs(settings) do
    lines[#lines + 1] = ("export %s=%s"):format(name, quote(value))
  end
  lines[#lines + 1] = ("export LUA=%s"):format(quote(helper.interpreter))
  lines[#lines + 1] = 'kv() { "$LUA" bin/kv "$@"; }'
  lines[#lines + 1] = command
  helper.write_file(dir .. "/script", table.concat(lines, "\n") .. "\n")
  return dir .. "/script"
end

-- What the command writes to standard output and error, and its status as a shell sees it.
function shell.sh(command, env)
  os.execute(("bash %s >%s/out 2>%s/err </dev/null; echo $? >%s/status")
    :format(script(command, env), dir, dir, dir))
  return {
    out = shell.slurp(dir .. "/out"), err = shell.slurp(dir .. "/err"),
    status = tonumber(shell.slurp(dir .. "/status")),
  }
end

-- The same on a pseudo-terminal: everything it shows, as bytes. keys: a shell command that types.
function shell.tty(command, env, keys)
  local typing = keys and ("{ %s; } |"):format(keys) or "</dev/null"
  os.execute(("%s script -qec 'bash %s' /dev/null >%s/out 2>&1; echo $? >%s/status"):format(
    typing, script(command, env), dir, dir))
  local shown = shell.slurp(dir .. "/out"):gsub("\r\n", "\n")
  return { out = shown, status = tonumber(shell.slurp(dir .. "/status")) }
end

function shell.plain(text)
  return (text:gsub("\27%[[%d;]*[mK]", ""))
end

function shell.says(words, text)
  assert(text:find(words, 1, true), ("%q is not in: %s"):format(words, text))
end

-- Status 0 and nothing on standard error.
function shell.ok(command, env)
  local r = shell.sh(command, env)
  assert.equal("", r.err)
  assert.equal(0, r.status)
  return r.out
end

-- Nothing on standard output, words on standard error.
function shell.no(status, words, command, env)
  local r = shell.sh(command, env)
  assert.equal("", r.out)
  shell.says(words, r.err)
  assert(r.err:find "^kv: " or r.err:find "\nkv: ", r.err)
  assert.is_nil(r.err:find("traceback", 1, true))
  assert.equal(status, r.status)
end

-- Looks into the store from this process.
function shell.peek(f)
  local store = assert(kv.open(path, { create = false }))
  local result = f(store)
  assert(store:check())
  store:close()
  return result
end

-- The program is the same on every Lua, and a process for each line takes its time: the other Luas
-- get a few lines that go through all of it.
local whole = helper.interpreter:find "lua5.4" or os.getenv "KV_LONG"
function shell.describe_once(title, body)
  if whole then describe(title, body) end
end

-- describe() for what needs the command line.
function shell.describe(title, body)
  describe(title, function()
    if not pcall(require, "argparse") then
      pending("needs argparse")
      return
    end
    body()
    teardown(helper.sweep)
  end)
end

return shell
