#!/bin/sh
# The layers of csrc: who may include whom, and what the pure ones may not call.
#
# Each file may include headers of its own and of earlier rows; `but` names earlier rows it may not
# know all the same. docs/internals.md explains the order.
set -u
cd "$(dirname "$0")/../.." || exit 1

awk '
BEGIN {
    # module [but ...]
    n = split("kv;os;crc32c;region;hash but crc32c;order but hash crc32c;" \
        "wheel but hash order crc32c;record but region hash order wheel;" \
        "meta but region hash order wheel;blob but region hash order wheel;" \
        "log but region hash order wheel;json but kv os crc32c region hash order wheel record meta blob log;" \
        "store;maint", row, ";")
    for (i = 1; i <= n; i++) {
        words = split(row[i], word, " ")
        rank[word[1]] = i
        for (w = 3; w <= words; w++)
            deny[word[1], word[w]] = 1
    }
    # The store is cut into files that share store.h.
    split("open attach rebuild replay apply read list cursor write names batch field stream clean check stores", part, " ")
    for (i in part)
        same[part[i]] = "store"
    # store and maint call each other: one starts the thread, the other does its work for it.
    allow["store", "maint"] = 1
}
function complain(text) { print FILENAME ":" FNR ": " text; bad = 1 }
FNR == 1 {
    me = FILENAME
    sub(/.*\//, "", me)
    sub(/\.[ch]$/, "", me)
    binding = me ~ /^lua_/ || me == "compat"
    # A layer may be cut into <layer>_<part>.c.
    layer = me
    if (!(me in rank))
        sub(/_.*/, "", layer)
    if (layer in same)
        layer = same[layer]
    if (!binding && !(layer in rank))
        complain(me " is in no row of spec/lint/layers.sh")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    it = part[2]
    sub(/\.h$/, "", it)
    of = it
    if (!(of in rank))
        sub(/_.*/, "", of)
    if (of in same)
        of = same[of]
    if (binding) {
        if (it != "kv" && it != "json" && it != "compat" && it !~ /^lua_/)
            complain("the binding may not see " it ".h")
    } else if (it ~ /^lua_/ || it == "compat") {
        complain("the core may not see the binding (" it ".h)")
    } else if (!(of in rank)) {
        complain(it ".h is in no row of spec/lint/layers.sh")
    } else if (of != layer && (rank[of] > rank[layer] || (layer, of) in deny) && !((layer, of) in allow)) {
        complain(layer " may not include " it ".h")
    }
}
/^[ \t]*#[ \t]*include[ \t]*<(lua|lauxlib|lualib|luajit)/ && !binding { complain("the core may not see Lua") }
/^[ \t]*#[ \t]*include[ \t]*<(pthread|time|unistd|fcntl|dirent|sys\/[a-z]+)\.h>/ &&
    me ~ /^(region|hash|order|wheel|record|json)(_|$)/ { complain(me " may not lock, read a clock or do I/O") }
/LUA_VERSION_NUM/ && me != "compat" && !/KV_LUA/ { complain("only compat.h tests the version of Lua") }
/[^a-z_]lua_[a-z]+ *\(/ && !binding { complain("the core may not call Lua") }
END { exit bad }
' csrc/*.[ch]
