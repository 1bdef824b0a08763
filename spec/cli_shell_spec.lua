-- SPDX-License-Identifier: MIT
--
-- cli_shell_spec.lua - the command line and what is around it: terminals, signals, shells, the man
-- page and the installation.

local kv = require "kv"
local helper = require "helper"
local shell = require "shell"

local describe_once, no, ok, peek = shell.describe_once, shell.no, shell.ok, shell.peek
local plain, quote, says = shell.plain, helper.quote, shell.says
local sh, slurp, tty = shell.sh, shell.slurp, shell.tty
local STATS = "stats\tShow what the store holds and how full it is.\n"

shell.describe("kv in a shell", function()
  local dir, path -- of files, and of the store

  before_each(function() path, dir = shell.begin() end)

  it("check and backup tell how far they are", function()
    local term = require "kv.core".term
    local store = assert(kv.open(path))
    local ns, value = store:namespace "d", ("x"):rep(500)
    for i = 1, 10000 do ns:put(("k%05d"):format(i), value) end
    for _, call in ipairs {
      function() return store:check() end,
      function() return store:backup(dir .. "/copy") end,
    } do
      local last, all, times = 0, nil, 0
      term.watch(function(done, total)
        assert(done >= last and done <= total and total == (all or total))
        last, all, times = done, total, times + 1
      end)
      assert(call())
      assert(times > 10 and last > all * 0.9, ("%d times, up to %d of %d"):format(times, last, all))
    end
    -- Who raises is told no more, and nobody is harmed.
    local times = 0
    term.watch(function()
      times = times + 1
      error "no"
    end)
    assert.is_true(store:check())
    assert.equal(1, times)
    term.watch(nil)
    assert.is_true(store:check())
    store:close()
  end)

  describe_once("long work", function()
    it("shows how far it is, on a terminal only", function()
      local store = assert(kv.open(path))
      local items = {}
      for i = 1, 10000 do items[i] = { key = ("k%05d"):format(i), value = ("x"):rep(100) } end
      assert(store:namespace "d":put_many(items))
      store:close()
      local slowly = "kv export d - | { sleep 1; cat >/dev/null; }"
      local out = tty(slowly).out
      local percent, rate, left = plain(out):match "export +(%d+)%% .-  ([%d,]+)/s  (%d:%d%d) left"
      assert(percent and rate and left, out)
      says("\226\150\136", out)
      assert.equal("\r\27[K", out:sub(-4))
      assert.equal("", sh(slowly).err)
      out = tty [[{ echo '{"key":"a","value":1}'; sleep 1; echo; } | kv import d -]].out
      says("import 23 B", plain(out))
      says("1 record imported\n", out)
      assert.equal("10,001 keys, 1.0 MiB: whole\n", tty "kv check".out) -- too quick for a bar
    end)

    it("ends between two records when the user asks, and says what was done", function()
      ok(("kv init d; mkfifo %s/fifo"):format(dir))
      local lines = {}
      for i = 1, 10000 do lines[i] = ('{"key":"%d","value":1}\n'):format(i) end
      helper.write_file(dir .. "/in", table.concat(lines))
      local r = tty(([[
        setsid sh -c 'cat %s/in; exec sleep 3' >%s/fifo &
        kv import d %s/fifo]]):format(dir, dir, dir), nil, "sleep 1; printf '\\003'; sleep 0.5")
      local written = r.out:match "interrupted; (%d+) written"
      assert(written, r.out)
      says(dir .. "/fifo", r.out)
      assert.equal(130, r.status)
      peek(function(store) assert.equal(tonumber(written), store:namespace "d":count()) end)
      r = sh(([[
        setsid sh -c 'exec sleep 2' >%s/fifo & "$LUA" bin/kv set d b --file %s/fifo &
        sleep 0.5; kill -TERM $!; wait $!; echo $?]]):format(dir, dir))
      says("interrupted", r.err)
      says("143", r.out)
      no(1, "'b'", "kv get d b")
    end)
  end)

  describe_once("on a terminal", function()
    it("get indents documents and colours them", function()
      ok [[kv set d doc '{"a":[1,2.50,{}],"b":"x"}' --json; kv set d s text; kv set d n 5 --json]]
      local r = tty "kv get d doc"
      assert.equal(0, r.status)
      says("\27[34m\"a\"\27[0m: [", r.out)
      local text = '{\n  "a": [\n    1,\n    2.50,\n    {}\n  ],\n  "b": "x"\n}\n'
      assert.equal(text, plain(r.out))
      assert.equal(text, tty("kv get d doc", { NO_COLOR = "1" }).out)
      assert.equal(text, tty("kv get d doc", { TERM = "dumb" }).out)
      assert.equal("text\n", tty "kv get d s".out)
      assert.equal("5\n", plain(tty "kv get d n".out))
    end)

    it("nothing stored can control it", function()
      ok [[kv set d k $'\e[31mred\a\xff\xc2\x9b'; kv set d $'a\eb' v
           kv set d j $'["\x7f\xc2\x9b"]' --json]]
      assert.equal("\\x1B[31mred\\x07\\xFF\\xC2\\x9B\n", tty "kv get d k".out)
      assert.equal("a\\x1Bb\n", tty "kv keys d --limit 1 2>/dev/null".out)
      assert.equal('[\n  "\\u007f\\u009b"\n]\n', tty("kv get d j", { NO_COLOR = "1" }).out)
      says("no key '\\x1B'", plain(tty "kv get d $'\\e'".out))
    end)

    it("lists are tables with titles", function()
      ok "kv init d 'What it is'; kv set d k v --metadata '{\"a\":1}'"
      says("NAMESPACE  KEYS  BYTES  CREATED", plain(tty "kv list".out))
      says("KEY  EXPIRES  METADATA\nk    never    {\"a\":1}\n", plain(tty "kv keys d -l".out))
      local out = plain(tty "kv stats".out)
      says(("\226\150\145"):rep(30) .. "  ", out) -- nearly empty
      assert.truthy(out:find "%d+ B live, .* KiB free\n")
      says(("\226\150\136"):rep(30) .. "\n", out) -- all bytes are in this namespace
      says(("."):rep(30) .. "  ", plain(tty("kv stats", { LC_ALL = "C" }).out))
    end)

    it("a status passes through", function()
      ok "kv init d"
      local r = tty "kv get d nokey"
      assert.equal(1, r.status)
      says("\27[1;31mkv:\27[0m no key 'nokey'", r.out)
    end)
  end)

  describe_once("completion", function()
    it("knows commands, options, choices, namespaces, keys and files", function()
      ok [[kv init users 'Who is there'; kv set users u:1 a; kv set users u:2 a
           kv set users $'\e' x]]
      assert.equal(STATS, ok "kv complete -- sta")
      says("--ttl\t", ok "kv complete -- set users k --")
      assert.equal("exist\nnot_exist\n", ok "kv complete -- set users k --if ''")
      assert.equal("users\tWho is there\n", ok "kv complete -- get ''")
      assert.equal("u:1\nu:2\n", ok "kv complete -- get users ''")
      assert.equal("u:2\n", ok "kv complete -- get --as text users u:2")
      assert.equal(":files\n", ok "kv complete -- backup ''")
      assert.equal(":files\n", ok "kv complete -- --store ''")
      assert.equal("", ok "kv complete -- get nons ''")
      assert.equal("", ok(("kv complete -- --store %s/none get ''"):format(dir)))
      assert.equal("u:1\n", ok("kv complete -- --store " .. path .. " get users u:1",
        { KV_STORE = "" }))
    end)

    it("works in bash", function()
      ok "kv set users u:1 a; kv set users u:2 a; kv set users 'u:a b' a"
      local r = sh [[
        compopt() { echo "compopt $*"; }
        complete() { builtin complete "$@"; }
        eval "$(kv completion bash)"
        ask() {
          COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
          _kv kv
          printf '<%s>' "${COMPREPLY[@]}"
          echo
        }
        complete -p kv
        ask "kv sta"
        ask "kv get us"
        ask "kv get users u:"
        ask "kv set users k --i"
        ask "kv backup "
      ]]
      assert.equal("", r.err)
      assert.equal("complete -F _kv kv\n<stats>\n<users>\n<1><2><a\\ b>\n<--if><--if-rev>\n" ..
        "compopt -o default\n<>\n", r.out)
    end)

    it("works in zsh", function()
      ok "kv set users u:1 a"
      helper.write_file(dir .. "/zsh", [[
        kv() { ]] .. quote(helper.interpreter) .. [[ bin/kv "$@" }
        compdef() { echo "compdef $*" }
        _files() { echo files }
        _describe() { print -rl -- "${(@P)2}" }
        eval "$(kv completion zsh)"
        words=(kv get users u) CURRENT=4; _kv
        words=(kv sta) CURRENT=2; _kv
        words=(kv backup '') CURRENT=3; _kv
      ]])
      assert.equal("compdef _kv kv\nu\\:1\n" .. STATS:gsub("\t", ":") .. "files\n",
        ok("zsh -f " .. dir .. "/zsh"))
    end)

    it("works in fish", function()
      ok "kv set users u:1 a"
      os.execute(("mkdir %s/bin"):format(dir))
      helper.write_file(dir .. "/bin/kv",
        ("#!/bin/sh\nexec %s bin/kv \"$@\"\n"):format(quote(helper.interpreter)))
      os.execute(("chmod +x %s/bin/kv"):format(dir))
      helper.write_file(dir .. "/fish", ("set PATH %s/bin $PATH\nkv completion fish | source\n" ..
        "complete -C 'kv get users u'\ncomplete -C 'kv sta'\n"):format(dir))
      assert.equal("u:1\n" .. STATS,
        ok(("HOME=%s fish --no-config %s/fish"):format(dir, dir)))
    end)
  end)

  describe_once("make install", function()
    it("puts program, man page and completions where they are found", function()
      local r = sh("env -u MAKEFLAGS -u MAKELEVEL make -s install PREFIX=/usr DESTDIR=" .. dir ..
        "/root")
      assert.equal(0, r.status, r.err)
      local usr = dir .. "/root/usr"
      -- Found from anywhere, through a link, and with nothing but the installed files.
      local alone = "cd / && env -u LUA_PATH -u LUA_CPATH "
      assert.equal("", ok(("ln -s %s/bin/kv %s/link; %s %s/link set d k v"):format(
        usr, dir, alone, dir)))
      assert.equal("v", ok(alone .. usr .. "/bin/kv get d k"))
      assert.equal(slurp "docs/kv.1", slurp(usr .. "/share/man/man1/kv.1"))
      for name, file in pairs { bash = "bash-completion/completions/kv",
        zsh = "zsh/site-functions/_kv", fish = "fish/vendor_completions.d/kv.fish" } do
        assert.equal(ok("kv completion " .. name), slurp(usr .. "/share/" .. file))
      end
    end)
  end)

  describe_once("the man page", function()
    it("is what the commands say", function()
      assert.equal(ok "kv manual", slurp "docs/kv.1")
    end)
  end)
end)
