-- SPDX-License-Identifier: MIT
--
-- itself.lua - the commands about the command line: completions and the man page.

local completion = require "kv.cli.completion"
local manual = require "kv.cli.manual"
local output = require "kv.cli.output"
local scripts = require "kv.cli.scripts"

-- The table of commands is made of files like this one, so it is asked for late.
local function commands()
  return require "kv.cli.commands"
end

local script = {
  name = "completion",
  summary = "Print a script that completes commands in a shell.",
  about = "Print the script that lets a shell complete commands, options, namespaces and keys.",
  arguments = {
    { name = "SHELL", help = "bash, zsh or fish.", choices = { "bash", "zsh", "fish" } },
  },
  examples = {
    { "eval \"$(kv completion bash)\"", "in ~/.bashrc" },
    { "kv completion zsh >~/.zfunc/_kv", "with ~/.zfunc in $fpath" },
    { "kv completion fish >~/.config/fish/completions/kv.fish", "fish finds it there" },
  },
}

function script.run(given)
  output.write(scripts[given.shell])
end

local complete = {
  name = "complete", hidden = true,
  summary = "Print what could stand at the cursor.",
  about = "Print what could stand in place of the last WORD: a candidate on each line, and behind "
    .. "a tab what it means. The scripts of kv completion ask this.",
  arguments = { { name = "WORD", optional = true, many = true, help = "What was typed so far." } },
}

function complete.run(given)
  completion.print(commands(), given.word)
end

local page = {
  name = "manual", hidden = true,
  summary = "Print the man page.",
  about = "Print the source of the man page kv(1).",
}

function page.run()
  output.write(manual.page(commands(), require "kv"._VERSION))
end

return { script, complete, page }
