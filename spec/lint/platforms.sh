#!/bin/sh
# Where kv does not run the build stops with a sentence that says what is missing, and what is
# different on platforms is told apart in csrc/os* alone.
set -u
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc} CLANG=${CLANG:-clang}
bad=0
complain() {
    echo "$1"
    bad=1
}

# says WORDS COMPILER FLAGS...: the first error is that sentence. "": none of ours.
says() {
    words=$1
    shift
    said=$("$@" -std=c99 -Icsrc -fsyntax-only csrc/os.c 2>&1 | grep 'error:' | head -n 1)
    if [ -n "$words" ]; then
        case $said in
        *"error: \"kv needs $words"*"docs/internals.md says what a port needs\""*) ;;
        *"error: #error \"kv needs $words"*"docs/internals.md says what a port needs\""*) ;;
        *) complain "$*: not 'kv needs $words', but: $said" ;;
        esac
    else
        case $said in *'kv needs'*) complain "$*: $said" ;; esac
    fi
}

# The compiler's own view of other platforms. It needs none of their headers to get that far.
says 'a 64-bit platform' "$CLANG" --target=i686-linux-gnu
says 'a 64-bit platform' "$CLANG" --target=x86_64-linux-gnux32
says 'a 64-bit platform' "$CLANG" --target=armv7-linux-gnueabihf
says 'a little-endian platform' "$CLANG" --target=s390x-linux-gnu
says 'a little-endian platform' "$CLANG" --target=powerpc64-linux-gnu
says 'robust process-shared mutexes' "$CLANG" --target=arm64-apple-macos
says 'robust process-shared mutexes' "$CLANG" --target=aarch64-linux-android
says 'Linux: ' "$CLANG" --target=x86_64-unknown-freebsd
says '' "$CLANG" --target=aarch64-linux-gnu
says '' "$CLANG" --target=x86_64-linux-musl
# And for a compiler that knows one platform alone, by the macros that tell.
says '' "$CC"
says 'a 64-bit platform' "$CC" -U__LP64__
says 'a little-endian platform' "$CC" -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__
says 'robust process-shared mutexes' "$CC" -D__ANDROID__
says 'Linux: ' "$CC" -U__linux__
# A real compilation for 32 bits, where its headers are installed.
if echo '#include <stdint.h>' | "$CC" -m32 -fsyntax-only -x c - 2>/dev/null; then
    says 'a 64-bit platform' "$CC" -m32
fi

# crc32c.c has code for the processor's own instruction, beside the portable one.
found=$(grep -nE '^[[:blank:]]*#[[:blank:]]*(el)?if.*(__linux|linux__|__unix|__APPLE__|_WIN(32|64)|__ANDROID__|BSD|__sun|__CYGWIN__|__MINGW|__x86_64|__i386|__amd64|__aarch64|__arm|__LP64__|_BYTE_ORDER|__GLIBC|__UCLIBC)' \
    csrc/*.[ch] | grep -vE '^csrc/(os[._][^:]*|crc32c\.c):')
[ -z "$found" ] || complain "platforms are told apart outside os: $found"
exit $bad
