#!/bin/sh
# What the compiled files need and offer: the core needs nothing of Lua, the pure layers neither
# locks, clocks, I/O nor malloc, and the module exports kv.h and its entry, nothing else.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
complain() {
    echo "$1" | sed 's/^/    /'
    bad=1
}
undefined() {
    [ -f "build/core/$1.o" ] && nm -u "build/core/$1.o" | awk '{ print $2 }'
}

for o in build/core/*.o; do
    [ -f "csrc/$(basename "$o" .o).c" ] || continue
    found=$(nm -u "$o" | grep -E ' luaL?_') && complain "$o needs Lua: $found"
done

system='pthread_|clock_|gettimeofday$|time$|nanosleep$|open|close$|read$|write$|pread|pwrite|mmap|munmap'
system="$system|msync|fsync|fdatasync|fallocate|unlink|kv_os_(lock|unlock|wall|monotonic|sleep|file|map|open)"
heap='malloc$|calloc$|realloc$|free$|posix_memalign$|kv_os_(alloc|malloc|free)'
for module in hash order wheel json json_text json_num json_path json_edit record; do
    found=$(undefined $module | grep -E "^($system)") && complain "$module does I/O, locks or reads a clock: $found"
done
for module in region hash order wheel json json_text json_num json_path json_edit record; do
    found=$(undefined $module | grep -E "^($heap)") && complain "$module allocates: $found"
done

for so in build/lua*/kv/core.so; do
    [ -f "$so" ] || continue
    offered=$(nm -D --defined-only "$so" | awk '{ print $3 }' | sed 's/@.*//')
    found=$(echo "$offered" | grep -vE '^(kv_[a-z0-9_]+|luaopen_kv_core)$') && complain "$so exports $found"
    for name in $(echo "$offered" | grep '^kv_'); do
        grep -qE "KV_API.*[ *]$name\(|^ *\*?$name\(" csrc/kv.h || complain "$so exports $name, which kv.h does not declare"
    done
    declared=$(grep -v '^#' csrc/kv.h | tr '\n' ' ' | grep -oE 'KV_API [^;(]*\(' | sed 's/.*[ *]\(kv_[a-z0-9_]*\)($/\1/')
    for name in $declared; do
        echo "$offered" | grep -qx "$name" || complain "$so lacks $name, which kv.h declares"
    done
done
exit $bad
