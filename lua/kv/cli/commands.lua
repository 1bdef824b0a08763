-- SPDX-License-Identifier: MIT
--
-- commands.lua - the table of all commands. The parser, the help texts, the completions and the
-- man page are made from it.
--
-- A command: name, alias, summary (a line), about (a paragraph), arguments, options, more (what
-- else there is to know), examples ({ command line, what it does } ...), run(arguments), hidden.
-- An argument: name, help, optional, convert(text) -> value or nil and what was expected,
-- completes ("namespaces", "keys", "files"), choices,
-- many (any number of them). An option: name ("--x" or "-x --long"), metavar (none:
-- a flag), help, choices, convert, completes.

local commands = {
  about = "A durable key-value store. Every command works on one store, a directory: the one that "
    .. "--store names, else $KV_STORE, else $XDG_DATA_HOME/kv/default, else "
    .. "~/.local/share/kv/default.",
  options = {
    { name = "--store", metavar = "PATH", completes = "files",
      help = "Which store; before or after the command." },
  },
  more = "`kv COMMAND --help` says more about each command. Keys and values that begin with '-' "
    .. "and are no numbers go behind ' -- '. Exit status: 0 done, 1 not found or a condition did "
    .. "not hold, 2 wrong usage, 3 failure.",
  statuses = {
    { 0, "Done." },
    { 1, "Not found, or a condition did not hold; nothing has changed." },
    { 2, "Wrong usage: the command line is not one that any store could answer." },
    { 3, "Failure: the store or the system could not do it." },
  },
  environment = {
    { "KV_STORE", "The store, unless `--store` names one." },
    { "XDG_DATA_HOME, HOME", "Where the default store is: `$XDG_DATA_HOME/kv/default`, else "
      .. "`~/.local/share/kv/default`." },
    { "NO_COLOR", "If set and not empty, no colours." },
  },
  examples = {
    { "kv init user-preferences \"User preference storage\"", "make a namespace" },
    { "kv set user-preferences user:1 '{\"theme\":\"dark\"}' --json", "store a document" },
    { "kv get user-preferences user:1", "print it" },
  },
}

for _, group in ipairs {
  require "kv.cli.keys", require "kv.cli.fields", require "kv.cli.bulk",
  require "kv.cli.stores", require "kv.cli.itself",
} do
  for _, command in ipairs(group) do commands[#commands + 1] = command end
end

commands.by_name = {}
for _, command in ipairs(commands) do
  commands.by_name[command.name] = command
  if command.alias then commands.by_name[command.alias] = command end
end

return commands
