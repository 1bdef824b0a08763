#!/bin/sh
# Several Lua states in one process, in threads and in turns (states.c), on each Lua. KV_LONG=1: also
# with ASan, and with TSan.
. "$(dirname "$0")/lib.sh"

make="make --no-print-directory -s"

held() {
    LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/build/lua5.4/?.so;;" STORE="$work/store" \
        lua5.4 -e '
        local store = assert(require "kv".open(os.getenv "STORE"))
        assert(store:check())
        local n, sum = store:namespace "turns":get "n", store:namespace "shared":get "sum"
        -- 4 threads, 20 rounds, 25 a round; the second time the first one leaves in its tenth.
        assert(sum >= 2000 + 250 and sum <= 4000 - 250, sum)
        -- Three of each four steps count, and 256 orders have eight.
        assert(n > 1024 and n < 2048, n)'
}

# build LUA BUILD FLAGS: the program built with these, and that build of the module
build() {
    lua=$1 build=$2 flags=$3 what="$1 $2"
    include=/usr/include/$lua library=-l$lua
    [ "$lua" != luajit ] || { include=/usr/include/luajit-2.1 && library=-lluajit-5.1; }
    $make "$build/$lua/kv/core.so"
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c99 -O1 -g -Wall -Wextra -Werror $flags -pthread -isystem "$include" -o "$work/states" \
        spec/hosts/states.c $library -ldl
    export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/$build/$lua/?.so;;"
    rm -rf "$work/store"
    check "$what: threads" timeout 300 "$work/states" threads "$work/store" spec/hosts/states.lua 4
}

# The rest of it, with what build made.
try() {
    build "$@"
    check "$what: turns" timeout 300 "$work/states" turns "$work/store"
    # What the other threads have in hand at that moment is no leak.
    check "$what: exit" env ASAN_OPTIONS=detect_leaks=0 timeout 300 "$work/states" exit "$work/store" spec/hosts/states.lua 4
    check "$what: all counted, and whole" held
}

for lua in ${LUAS:-lua5.1 lua5.3 lua5.4 luajit}; do
    try "$lua" build ''
    [ -z "${KV_LONG:-}" ] || try "$lua" build/asan '-fsanitize=address,undefined'
done
if [ -n "${KV_LONG:-}" ]; then
    export STATES_LOAD="$root/build/tsan/lua5.4/kv/core.so"
    build lua5.4 build/tsan -fsanitize=thread
fi
finish
