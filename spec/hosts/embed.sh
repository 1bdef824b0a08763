#!/bin/sh
# make install into an empty tree, and the C program of examples/embed against what it put there.
. "$(dirname "$0")/lib.sh"

make --no-print-directory -s install PREFIX="$work/kv" LUA_VERSION=5.4 >/dev/null
export PKG_CONFIG_PATH="$work/kv/lib/pkgconfig"
export LUA_PATH="$work/kv/share/lua/5.4/?.lua;$work/kv/share/lua/5.4/?/init.lua" LUA_CPATH="$work/none/?.so"
cp -r examples/embed "$work/embed"
cd "$work/embed"
make -s CFLAGS='-O2 -Wall -Wextra -Werror'

check 'one version' same "$(pkg-config --modversion kv)" \
    "$(sed -n 's/^#define KV_VERSION *"\(.*\)"/\1/p' "$root/csrc/kv.h")"
said() { printf 'C:   volume is 7, and this is start number %s\nLua: volume is 7\nC:   Lua left "hello from Lua 5.4, start %s"' "$1" "$1"; }
check 'C and Lua share a store' same "$(./embed s.kv script.lua)" "$(said 1)"
check 'and it stays' same "$(./embed s.kv script.lua)" "$(said 2)"

# A program of the core alone is linked without Lua.
cat >core.c <<'C'
#include <kv.h>
int main(void)
{
    kv *h;
    return kv_open(":memory:", 0, &h) ? 1 : (kv_close(h), 0);
}
C
check 'the core needs no Lua' cc -std=c99 -o core core.c $(pkg-config --cflags --libs kv)
check 'and runs' ./core

# The command of the installed tree, for each version of Lua that the module can be installed for.
cd "$root"
for version in 5.1 5.3 5.4; do
    make --no-print-directory -s install PREFIX="$work/kv" LUA_VERSION=$version >/dev/null
    export LUA_PATH="$work/kv/share/lua/$version/?.lua;$work/kv/share/lua/$version/?/init.lua;;"
    export LUA_CPATH="$work/kv/lib/lua/$version/?.so;;" KV_STORE="$work/store$version"
    check "$version: kv is for that Lua" same "$(head -n 1 "$work/kv/bin/kv")" "#!/usr/bin/env lua$version"
    check "$version: kv init" "$work/kv/bin/kv" init default
    check "$version: kv set" "$work/kv/bin/kv" set default greeting hello
    check "$version: kv get" same "$("$work/kv/bin/kv" get default greeting)" hello
done
check 'its manual page' grep -q '^\.TH' "$work/kv/share/man/man1/kv.1"
unset LUA_PATH LUA_CPATH KV_STORE

# DESTDIR moves the files, not what they say.
cd "$root"
make --no-print-directory -s install DESTDIR="$work/dest" PREFIX=/usr LUA_VERSION=5.4 >/dev/null
check 'DESTDIR' grep -qx 'prefix=/usr' "$work/dest/usr/lib/pkgconfig/kv.pc"
check 'the module is there' test -f "$work/dest/usr/lib/lua/5.4/kv/core.so"
finish
