#!/bin/sh
# Everything about the text of the project that a machine can judge. `make lint` runs it after
# `make all`. Each check prints what it found; the last line says whether there was anything.
set -u
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc} CLANG=${CLANG:-clang} LUAS=${LUAS:-lua5.4}
failed=0

check() {
    name=$1
    shift
    if out=$("$@" 2>&1); then
        printf 'ok    %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n%s\n' "$name" "$out"
    fi
}

warnings='-Wall -Wextra -Werror -pedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wold-style-definition -Wpointer-arith -Wwrite-strings -Wundef -Wformat=2 -Wvla -Wcast-align
    -Wredundant-decls -Wnested-externs -Wdisabled-optimization'

# compile COMPILER FLAGS FILE...: into nothing; optimized, since some warnings need the analysis.
compile() {
    compiler=$1 flags=$2 bad=0
    shift 2
    for file in "$@"; do
        [ -f "$file" ] || continue
        # shellcheck disable=SC2086
        $compiler -std=c99 -O2 -fPIC -Icsrc -Ispec/core $warnings $flags -c -o /dev/null "$file" || bad=1
    done
    return $bad
}

core=$(ls csrc/*.c | grep -v '^csrc/lua_')
tests=$(ls spec/core/*.c 2>/dev/null)
for compiler in "$CC" "$CLANG"; do
    check "warnings: $compiler, core" compile "$compiler" '' $core
    check "warnings: $compiler, core with test hooks" compile "$compiler" -DKV_TEST $core
    check "warnings: $compiler, C tests" compile "$compiler" -DKV_TEST $tests
    for lua in $LUAS; do
        inc=/usr/include/$lua
        [ "$lua" = luajit ] && inc=/usr/include/luajit-2.1
        check "warnings: $compiler, binding for $lua" compile "$compiler" "-isystem $inc" csrc/lua_*.c
    done
    check "warnings: $compiler, benchmarks" compile "$compiler" "-isystem /usr/include/lua5.4" \
        bench/clock.c $([ -e /usr/include/lmdb.h ] && [ -e /usr/include/sqlite3.h ] && echo bench/rivals.c)
done

check 'clang-format' clang-format --dry-run -Werror csrc/*.[ch] $(ls bench/*.[ch] spec/core/*.[ch] spec/hosts/*.c examples/*/*.c)
check 'luacheck' luacheck -q --no-color . bin/kv
check 'layers' sh spec/lint/layers.sh
check 'symbols' sh spec/lint/symbols.sh
check 'platforms' env CC="$CC" CLANG="$CLANG" sh spec/lint/platforms.sh
check 'rockspec' lua5.4 spec/lint/rockspec.lua

# What .editorconfig asks for, as far as grep can see it.
text() {
    files=$(git ls-files -co --exclude-standard | grep -v '^spec/core/corpus/' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
    bad=0
    grep -nI '[[:blank:]]$' $files && bad=1
    grep -nIP '\t' $(echo "$files" | grep -Ev '(^|/)Makefile$|\.mk$|^\.git') && bad=1
    for f in $files; do
        [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ] && echo "$f: no newline at the end" && bad=1
    done
    return $bad
}
check 'white space' text

if [ $failed = 0 ]; then echo 'lint: clean'; else echo "lint: $failed checks failed" && exit 1; fi
