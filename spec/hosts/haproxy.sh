#!/bin/sh
# The real HAProxy with the limit of examples/haproxy: exactly 100 requests of a client get through,
# whatever happens to HAProxy between them.
. "$(dirname "$0")/lib.sh"

export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/build/lua5.3/?.so;;"
export KV_STORE="$work/limits.kv"
port=$(free_port)
cd examples/haproxy
sed "s/:8089/:$port/" haproxy.cfg >"$work/haproxy.cfg"

start() {
    haproxy -db -f "$work/haproxy.cfg" >"$work/log" 2>&1 &
    pid=$!
    started="$pid"
    wait_for "$port"
}
status() { curl -s -o /dev/null -w '%{http_code}\n' -H "X-Client: $1" "http://127.0.0.1:$port/"; }
# ask CLIENT N: how many of N got through
ask() {
    n=0
    while [ $n -lt "$2" ]; do
        status "$1"
        n=$((n + 1))
    done | grep -c '^200$' || :
}

start
check 'a first request' same "$(status early)" 200
check '60 of 60' same "$(ask ann 60)" 60
kill -9 "$pid"
wait "$pid" 2>/dev/null || :
start
check '40 of 60 after a crash' same "$(ask ann 60)" 40
check 'another client' same "$(ask bob 5)" 5
check 'when to come back' sh -c 'curl -s -i -H "X-Client: ann" "http://127.0.0.1:$0/" | grep -iq "^retry-after: [1-6]"' "$port"
kill "$pid"
wait "$pid" 2>/dev/null || :
check 'a script sees the counts' same "$(LUA_CPATH="$root/build/lua5.4/?.so;;" lua5.4 -e '
  print((require "kv".open(os.getenv "KV_STORE"):namespace "limits":get "ann"))')" 100
start
check 'none after a restart' same "$(ask ann 3)" 0
kill "$pid"
wait "$pid" 2>/dev/null || :
finish
