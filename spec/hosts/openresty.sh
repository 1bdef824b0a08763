#!/bin/sh
# The real nginx with the Lua module and examples/openresty: counters and limits are exact across
# workers, and reloads, killed workers and an upgrade of the binary lose nothing and fail no request.
# RELOADS and KILLS say how much of it; KV_LONG=1: more.
. "$(dirname "$0")/lib.sh"

export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/build/luajit/?.so;;"
export KV_DIR="$work/data"
reloads=${RELOADS:-${KV_LONG:+2000}} kills=${KILLS:-${KV_LONG:+1200}}
reloads=${reloads:-200} kills=${kills:-50}
port=$(free_port)
url=http://127.0.0.1:$port
prefix=$work/nginx
mkdir -p "$prefix/logs" "$prefix/tmp" "$KV_DIR"
# Workers of a master that is root are another user's; what it opens for them must be theirs.
[ "$(id -u)" != 0 ] || { chmod 755 "$work" && chown nobody: "$KV_DIR"; }
cp -r examples/openresty/lua "$prefix/lua"

start() { # WORKERS [SED SCRIPT]
    sed -e "${2:-}" -e "/^        listen /a include $root/spec/hosts/openresty.conf;" -e "s/127.0.0.1:8088/127.0.0.1:$port/" -e "s/^worker_processes .*/worker_processes $1;/" \
        examples/openresty/nginx.conf >"$prefix/nginx.conf"
    "$(command -v nginx)" -p "$prefix" -c nginx.conf -e logs/error.log
    wait_for "$port"
    started="$started $(master)"
}
master() { cat "$prefix/logs/nginx.pid"; }
workers() { pgrep -P "$(master)" || :; }
stop() {
    pid=$(master)
    kill -QUIT "$pid"
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo 'nginx does not stop' >&2 && exit 1; }
        sleep 0.05
    done
}
get() { curl -s "$url$1"; }
# ask PATH N: how many of N got through, four at a time
ask() { seq "$2" | xargs -P 4 -I {} curl -s -o /dev/null -w '%{http_code}\n' "$url$1" | grep -c '^200$' || :; }
# under load: requests that wrk counted, those that failed
# A worker that leaves closes connections that are kept alive, in every nginx: a new one each time.
load() { wrk -t 2 -c 16 -d "$1" -H 'Connection: close' ${3:-} "$url$2" >"$work/wrk" 2>&1; }
requests() { awk '/ requests in /{ print $1 }' "$work/wrk"; }
failed() { awk '/Non-2xx/{ n += $NF } /Socket errors/{ gsub(",", ""); n += $4 + $6 + $8 + $10 } END { print n + 0 }' "$work/wrk"; }
count() { lua5.4 -e 'package.path, package.cpath = os.getenv "LUA_PATH", "'"$root"'/build/lua5.4/?.so"
    print(require "kv".open("'"$KV_DIR"'/data.kv"):namespace "counters":get "'"$1"'" or 0)'; }

for n in 2 4; do
    start $n
    check "$n workers" same "$(workers | wc -l)" $n
    load 3s "/count?name=exact$n"
    check "$n workers: nothing failed" same "$(failed)" 0
    # wrk leaves requests behind that it no longer counts, one a connection at the most.
    sleep 0.2
    counted=$(get "/count?name=exact$n")
    check "$n workers: every request counted once" test $((counted - 1 - $(requests))) -ge 0 -a $((counted - 1 - $(requests))) -le 16
    check "$n workers: exact" same "$(ask "/count?name=few$n" 400; get "/count?name=few$n")" "$(printf '400\n401')"
    check "$n workers: 100 in a window" same "$(ask "/window?key=w$n" 150)" 100
    # 20 at once, and 10 more in each second that it took.
    began=$(date +%s)
    in=$(ask "/bucket?key=b$n" 80)
    check "$n workers: a bucket of 20 ($in in)" test "$in" -ge 20 -a "$in" -le $((20 + 10 * ($(date +%s) - began + 1)))
    check "$n workers: a flag" same "$(curl -s -X PUT -d true "$url/flag?name=f$n")" true
    for _ in 1 2 3 4 5 6 7 8; do check "$n workers: all see it" same "$(get "/flag?name=f$n")" true; done
    visits=$(for _ in 1 2 3 4 5; do curl -s -b "$work/jar" -c "$work/jar" "$url/session"; done | tail -n 1)
    check "$n workers: a session" same "$visits" 5
    rm -f "$work/jar"
    before=$(count origin)
    seq 40 | xargs -P 8 -I {} curl -s -o /dev/null "$url/page/p$n?ttl=60"
    check "$n workers: a page is made once" same "$(($(count origin) - before))" 1
    stop
done

# What a process has of the stores, in descriptors and in mappings.
descriptors() { ls -l "/proc/$1/fd" | grep -c "$KV_DIR" || :; }
mappings() { grep -c "$KV_DIR" "/proc/$1/maps" || :; }
leaked() { # PROCESS DESCRIPTORS MAPPINGS: those it may have
    d=$(descriptors "$1") m=$(mappings "$1")
    [ "$d" -gt "$2" ] || [ "$m" -gt "$3" ] || return 1
    echo "$1 has $d descriptors and $m mappings of the stores, not $2 and $3" >&2
}
nothing_leaked() { # DESCRIPTORS MAPPINGS of the master; a worker has one store more
    ! leaked "$(master)" "$1" "$2" || return 1
    for pid in $(workers); do ! leaked "$pid" $(($1 + 12)) $(($2 + 40)) || return 1; done
    # Nobody holds on to what is gone.
    ! ls -l /proc/"$(master)"/fd | grep "$KV_DIR.*deleted"
}

# Reloads under load. What is mapped and open afterwards is what was before, within a little.
start 2
get "/count?name=reload" >"$work/first"
load 2s "/count?name=warm"
kill -HUP "$(master)" && sleep 1
fd=$(descriptors "$(master)") maps=$(mappings "$(master)")
check "the master has the store of flags open ($fd descriptors, $maps mappings)" test "$fd" -gt 0 -a "$maps" -gt 0
load $((reloads / 20 + 2))s "/count?name=reload" &
loader=$!
n=0
while [ $n -lt "$reloads" ]; do
    kill -HUP "$(master)"
    sleep 0.05
    n=$((n + 1))
done
wait $loader
check 'reloads: nothing failed' same "$(failed)" 0
# Until the workers of the last but one are gone.
sleep 6
counted=$(get "/count?name=reload")
lag=$((counted - 2 - $(requests)))
check "reloads: nothing lost or counted twice ($lag)" test $lag -ge 0 -a $lag -le 32
check 'reloads: two workers' same "$(workers | wc -l)" 2
check 'reloads: nothing leaked' nothing_leaked $((fd + 2)) $((maps + 4))
for _ in 1 2 3 4 5 6 7 8; do get "/count?name=warm" >"$work/first"; done
check 'reloads: nothing leaked by workers in use' nothing_leaked $((fd + 2)) $((maps + 4))

# Workers killed under load: the requests they had in hand get no answer, and no other fails; what
# was answered is counted.
load $((kills / 8 + 2))s "/count?name=killed" &
loader=$!
n=0 killed=0
while [ $n -lt "$kills" ]; do
    n=$((n + 1))
    # One, then the other.
    pid=$(workers | sed -n "$((n % 2 + 1))p")
    if [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null; then killed=$((killed + 1)); fi
    sleep 0.1
done
wait $loader
counted=$(($(get "/count?name=killed") - 1))
lost=$(failed)
check "killed workers: $killed of $kills" test $killed -gt $((kills / 2))
check 'killed workers: no answer says that something failed' sh -c '! grep Non-2xx "$0"' "$work/wrk"
check "killed workers: $counted counted, $(requests) answered" test "$counted" -ge "$(requests)"
# One at the most in the hands of each worker, and those of wrk's connections at its end.
check "killed workers: $counted counted, $(requests) answered, $killed killed" \
    test "$counted" -le $(($(requests) + killed + 32))
check "killed workers: at most what they had in hand ($lost)" test "$lost" -le $((killed * 16))
check 'killed workers: nothing leaked' nothing_leaked $((fd + 2)) $((maps + 4))
check 'killed workers: the store is whole' same "$(lua5.4 -e '
  package.path, package.cpath = os.getenv "LUA_PATH", "'"$root"'/build/lua5.4/?.so"
  print((require "kv".open("'"$KV_DIR"'/data.kv"):check()))')" true

# Another binary takes over while requests come in.
load 6s "/count?name=upgrade" &
loader=$!
sleep 1
old=$(master)
kill -USR2 "$old"
sleep 1.5
check 'upgrade: a new master' test "$(master)" != "$old"
started="$started $(master)"
kill -QUIT "$old"
wait $loader
check 'upgrade: nothing failed' same "$(failed)" 0
check 'upgrade: the new master has what the old one had' nothing_leaked $((fd + 2)) $((maps + 4))
lag=$(($(get "/count?name=upgrade") - 1 - $(requests)))
check "upgrade: nothing lost ($lag)" test $lag -ge 0 -a $lag -le 32
last=$(get "/count?name=stays")
stop
start 2
check 'a full stop and start' same "$(get "/count?name=stays")" $((last + 1))
stop

# A server that has kv loaded, and the store opened, by its first request.
start 2 '/init_.*by_lua_block/,/^    }/d'
check 'loaded in a request' same "$(get "/count?name=late"; get "/count?name=late")" "$(printf '1\n2')"
check 'light threads share a handle' same "$(get /threads)" 8
check 'a value from a cosocket' same "$(get /piped | md5sum)" \
    "$(lua5.4 -e 'for i = 1, 20 do io.write(("%d"):format(i % 10):rep(500)) end' | md5sum)"
stop

# On a disk that takes 0.4 s to sync one worker answers all the same, also while answers wait for the
# disk; only a sync of its own stops it. Some 700 writes a second: with as many as it can take, the log
# outruns any such disk, which syncs a segment at a time, and then a write does wait for room.
printf 'function delay() return 20 end\n' >"$work/pause.lua"
slowest() { awk '/Latency /{ print $4 }' "$work/wrk" | awk '/us$/{ print 0 } /ms$/{ print int($1) } /[0-9]s$/{ print int($1 * 1000) }'; }
nine_of_ten() { awk '/ 90% /{ print $2 }' "$work/wrk" | awk '/us$/{ print 0 } /ms$/{ print int($1) } /[0-9]s$/{ print int($1 * 1000) }'; }
export LD_PRELOAD="$root/build/bench/slow_sync.so" SYNC_MS=400
start 1
unset LD_PRELOAD
load 4s "/count?name=slow" "--latency -s $work/pause.lua" &
loader=$!
began=$(date +%s%N)
check 'on the disk' same "$(get "/durable?name=written")" 1
took=$((($(date +%s%N) - began) / 1000000))
wait $loader
check "it waited for the disk ($took ms)" test $took -ge 400
check "nobody else did ($(nine_of_ten) ms)" test "$(nine_of_ten)" -lt 200
check 'a slow disk: nothing failed' same "$(failed)" 0
load 5s "/count?name=slow" "-s $work/pause.lua" &
loader=$!
for _ in 1 2 3; do
    sleep 0.7
    check 'a sync' same "$(get /sync)" synced
done
wait $loader
check "of its own stops the worker ($(slowest) ms)" test "$(slowest)" -ge 300
stop
check 'nothing in the log' sh -c '! grep -E "\[(alert|crit|emerg|error)\]" "$0" | grep -v "exited on signal 9" | grep .' "$prefix/logs/error.log"
finish
