#!/bin/sh
# Real Neovims, several at a time, with the recently used files of examples/neovim.
. "$(dirname "$0")/lib.sh"

export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/build/luajit/?.so;;"
export KV_STORE="$work/recent.kv" XDG_DATA_HOME="$work/data" XDG_STATE_HOME="$work/state"
cd "$work"
for f in a b c; do seq 100 >$f.txt; done

edit() { nvim --headless -u NONE -n -c "luafile $root/examples/neovim/plugin/recent.lua" "$@" 2>&1; }
list='lua for _, f in ipairs(dofile("'$root'/examples/neovim/plugin/recent.lua").recent()) do
  io.stdout:write(vim.fn.fnamemodify(f.path, ":t"), " ", f.opens, "\n") end'

check 'a file is noted' same "$(edit -c 'edit a.txt' -c 42 -c 'qa!')" ''
check 'and found where it was' same "$(edit -c 'edit a.txt' -c 'lua io.stdout:write(vim.fn.line("."))' -c 'qa!')" 42

# Eight at once, each opening the same file 25 times; some die instead of quitting.
n=0
for i in 1 2 3 4 5 6 7 8; do
    edit -c 'lua for _ = 1, 25 do vim.cmd "edit! b.txt" end' \
        -c "$([ $((i % 2)) = 0 ] && echo 'lua vim.loop.kill(vim.loop.os_getpid(), "sigkill")' || echo 'qa!')" >"$work/nvim.$i" 2>&1 &
    pids="${pids:-} $!"
    started="$started $!"
done
for p in $pids; do wait "$p" || :; done
cat "$work"/nvim.*
sleep 1
check 'every opening counts' same "$(edit -c 'edit c.txt' -c "$list" -c 'qa!' | sort)" "$(printf 'a.txt 2\nb.txt 200\nc.txt 1')"
check 'the store is whole' same "$(lua5.4 -e '
  package.path, package.cpath = os.getenv "LUA_PATH", "'"$root"'/build/lua5.4/?.so"
  print((require "kv".open(os.getenv "KV_STORE"):check()))')" true
finish
