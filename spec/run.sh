#!/bin/sh
# Run jobs, several at a time, and add up:   spec/run.sh [job...]
#
# A job is the name of a C test program (test_log), specs-<lua>, bugs (the test of the tests) or
# host-<name> (spec/hosts/<name>.sh). Without any: the specs on each of LUAS.
#
# Each job leaves build/log/<job>.log and build/log/<job>.sum ("passed failed"). A C program counts
# or a host counts as one, unless it says `N cases`; a spec counts each `it`. The last line is
# `N passed, N failed`.
#
# LUAS         the interpreters for the specs        JOBS        how many jobs at a time (2)
# KV_FLAVOUR   test, asan: which build of the module; without: what users get
# KV_PRELOAD   LD_PRELOAD for the interpreters       KV_PREFIX   a command to run them under
# KV_SPECS     spec files (all)                      TEST_TIMEOUT  seconds a job may take (540)
set -u
cd "$(dirname "$0")/.." || exit 1

LUAS=${LUAS-"lua5.1 lua5.3 lua5.4 luajit"}
JOBS=${JOBS:-2}
limit=${TEST_TIMEOUT:-540}
[ -n "${KV_LONG:-}" ] && limit=86400
log=build/log
export LUAS JOBS KV_FLAVOUR="${KV_FLAVOUR:-}" KV_PRELOAD="${KV_PRELOAD:-}" KV_PREFIX="${KV_PREFIX:-}"

# One Lua's specs, without the launcher of busted so that KV_PREFIX can stand before the Lua.
specs() {
    lua=$1
    dir=build${KV_FLAVOUR:+/$KV_FLAVOUR}
    LUA_PATH="./lua/?.lua;./lua/?/init.lua;./spec/?.lua;;" \
        LUA_CPATH="./$dir/$lua/?.so;;" KV_TEST_CPATH="./build/${KV_FLAVOUR:-test}/$lua/?.so" \
        LD_PRELOAD="$KV_PRELOAD" timeout -k 5 "$limit" $KV_PREFIX "$lua" spec/start.lua \
        -o plainTerminal ${KV_SPECS:-spec}
}

# "3 successes / 1 failure / 0 errors / 0 pending : ..." -> "3 1"; nothing printed -> "0 1".
count_specs() {
    awk '/ success(es)? \/ .* failures? \/ .* errors? \//{ p += $1; f += $4 + $7; seen = 1 }
         END { if (!seen) f = 1; print p + 0, f + 0 }' "$1"
}

job() {
    name=$1
    out=$log/$name.log
    began=$(date +%s)
    case $name in
    specs-*)
        specs "${name#specs-}" >"$out" 2>&1 </dev/null
        status=$?
        set -- $(count_specs "$out")
        ;;
    bugs)
        timeout -k 5 "$limit" sh spec/core/bugs.sh >"$out" 2>&1 </dev/null
        status=$?
        set -- $([ $status = 0 ] && echo 1 0 || echo 0 1)
        ;;
    *)
        case $name in
        host-*) timeout -k 5 "$limit" sh "spec/hosts/${name#host-}.sh" >"$out" 2>&1 </dev/null ;;
        *) timeout -k 5 "$limit" build/asan/bin/"$name" >"$out" 2>&1 </dev/null ;;
        esac
        status=$?
        cases=$(sed -n 's/.*[^0-9]\([0-9][0-9]*\) cases.*/\1/p' "$out" | tail -n 1)
        set -- $([ $status = 0 ] && echo "${cases:-1}" 0 || echo 0 1)
        ;;
    esac
    [ "$status" != 0 ] && [ "$2" = 0 ] && set -- "$1" 1
    echo "$1 $2" >"$log/$name.sum"
    took=$(($(date +%s) - began))
    if [ "$2" = 0 ]; then
        said=$(grep -v '^ *$' "$out" | tail -n 1)
        case $name in specs-*) said="$1 specs" ;; esac
        printf 'ok    %-22s %4ss  %s\n' "$name" "$took" "$said"
    else
        { printf 'FAIL  %-22s %4ss  status %s\n' "$name" "$took" "$status" && tail -n 200 "$out"; }
    fi
}

if [ "${1:-}" = --job ]; then
    job "$2"
    exit 0
fi

mkdir -p $log && rm -f $log/*.sum
[ $# = 0 ] && set -- $(for lua in $LUAS; do echo "specs-$lua"; done)
printf '%s\n' "$@" >$log/jobs
xargs -P "$JOBS" -n 1 sh spec/run.sh --job <$log/jobs

lost=0
while read -r name; do
    [ -f "$log/$name.sum" ] || lost=$((lost + 1))
done <$log/jobs
cat $log/*.sum 2>/dev/null | awk -v lost=$lost '{ p += $1; f += $2 }
    END { f += lost; printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }'
