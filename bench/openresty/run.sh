#!/bin/sh
# kv beside ngx.shared.DICT, in the workers of a real nginx: `make bench-openresty`. What is asked is
# in speed.lua and neighbour.lua.
#   KEYS, ROUNDS, BENCH_CLOCK, BENCH_DIR as for `make bench`; QUESTIONS="speed neighbour"
. "$(dirname "$0")/../../spec/hosts/lib.sh"

export KEYS="${KEYS:-1000000}" BENCH_DIR="${BENCH_DIR:-$root/build/bench}/data.$$" BENCH_GOALS="$work/goals"
export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;$root/bench/?.lua;$root/bench/openresty/?.lua;;"
export LUA_CPATH="$root/build/luajit/?.so;$root/build/bench/luajit/?.so;;"
export LUA_PATH_5_4="$root/bench/?.lua;;" LUA_CPATH_5_4="$root/build/bench/?.so;;"
port=$(free_port)
server=$(command -v nginx) || server=/usr/sbin/nginx

start() { # WORKERS
    # As many new keys as there are come in `speed`, at 256 bytes each.
    sed -e "s/@PORT@/$port/" -e "s/@WORKERS@/$1/" -e "s/@SIZE@/$((KEYS * 3 * 300 / 1000 + 10000))k/" \
        -e "s/@USER@/$(id -un) $(id -gn)/" bench/openresty/nginx.conf >"$work/nginx.conf"
    "$server" -p "$work" -c nginx.conf -e stderr &
    started=$!
    wait_for "$port"
}
# A master that is killed would leave its workers behind.
stop() {
    [ -z "$started" ] || { kill "$started" && wait "$started" || :; }
    started=
}
trap 'stop; rm -rf "$work" "$BENCH_DIR"' EXIT
mkdir -p "$BENCH_DIR"

echo "machine  $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, Linux $(uname -r), $("$server" -v 2>&1)"
for question in ${QUESTIONS:-speed neighbour}; do
    case $question in
    speed)
        start 1
        curl -sSf "http://127.0.0.1:$port/speed"
        ;;
    neighbour)
        start 2
        lua5.4 bench/openresty/neighbour.lua "$port"
        ;;
    esac
    stop
done
printf '\nGoals\n'
sed 's/^/  /' "$work/goals"
