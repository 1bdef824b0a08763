#!/bin/sh
# The rock as its users get it: made and packed from the rockspec of the release, installed from a
# server directory into an empty tree, and then used and tested from that tree alone; on each Lua.
. "$(dirname "$0")/lib.sh"

# What the rock depends on is Debian's.
cat >"$work/config.lua" <<'LUA'
rocks_provided = { ["lua-cjson"] = "2.1.0-1", argparse = "0.7.1-1" }
LUA
export LUAROCKS_CONFIG="$work/config.lua"

# Builds in the tree of the rock's sources leave objects behind: a copy of what git knows.
mkdir "$work/src"
git ls-files -co --exclude-standard | while read -r f; do [ -f "$f" ] && echo "$f"; done |
    tar -cf - -T - | tar -xf - -C "$work/src"

for lua in ${LUAS:-lua5.1 lua5.3 lua5.4 luajit}; do
    version=${lua#lua} include=/usr/include/$lua
    [ "$lua" = luajit ] && version=5.1 include=/usr/include/luajit-2.1
    # A rock made for LuaJIT starts its command with LuaJIT.
    [ "$lua" != luajit ] || echo 'lua_interpreter = "luajit" variables = { LUA = "/usr/bin/luajit" }' >>"$work/config.lua"
    server=$work/$lua/server tree=$work/$lua/tree
    mkdir -p "$server"
    rocks() { luarocks --lua-version "$version" "$@" >"$work/$lua/log" 2>&1 || { cat "$work/$lua/log" >&2 && false; }; }

    cd "$work/src"
    check "$lua: luarocks make" rocks --tree "$work/$lua/made" LUA_INCDIR="$include" make rockspec/kv-[0-9]*.rockspec
    find . -name '*.o' -delete
    cd "$server"
    check "$lua: luarocks pack" rocks --tree "$work/$lua/made" pack kv
    luarocks-admin --lua-version "$version" make-manifest . >/dev/null
    check "$lua: luarocks install" rocks --tree "$tree" --only-server "$server" install kv

    LUA_PATH="$tree/share/lua/$version/?.lua;$tree/share/lua/$version/?/init.lua;./spec/?.lua;;"
    LUA_CPATH="$tree/lib/lua/$version/?.so;;"
    export LUA_PATH LUA_CPATH
    cd "$work/src"
    check "$lua: require" same "$("$lua" -e 'print(require "kv"._VERSION)')" \
        "$(sed -n 's/^#define KV_VERSION *"\(.*\)"/\1/p' csrc/kv.h)"
    if [ -e "$tree/bin/kv" ]; then
        check "$lua: kv set" "$tree/bin/kv" --store "$work/$lua/store" init default
        check "$lua: kv set" "$tree/bin/kv" --store "$work/$lua/store" set default greeting hello
        check "$lua: kv get" same "$("$tree/bin/kv" --store "$work/$lua/store" get default greeting)" hello
    fi
    # The specs of what a Lua program sees, without the clone's own build.
    for spec in ${KV_SPECS:-spec/values_spec.lua spec/write_spec.lua spec/list_spec.lua spec/json_field_spec.lua}; do
        "$lua" spec/start.lua -o plainTerminal "$spec" >"$work/$lua/log" 2>&1 || tail -n 60 "$work/$lua/log" >&2
        check "$lua: $spec" grep -q '^[1-9][0-9]* successes / 0 failures / 0 errors' "$work/$lua/log"
    done
    unset LUA_PATH LUA_CPATH
done
finish
