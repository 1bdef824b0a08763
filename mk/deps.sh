#!/bin/sh
# Install what a target needs and this machine has not got:   mk/deps.sh build|run|test|lint|bench|hosts|all
#
# A need is "what proves it is there | Debian package". Nothing is fetched when nothing is missing,
# so every target can ask first.
set -u

build='gcc|gcc
make|make
/usr/include/stdlib.h|libc6-dev
/usr/include/lua5.1/lua.h|liblua5.1-0-dev
/usr/include/lua5.3/lua.h|liblua5.3-dev
/usr/include/lua5.4/lua.h|liblua5.4-dev
/usr/include/luajit-2.1/lua.h|libluajit2-5.1-dev'
run='gcc|gcc
/usr/include/stdlib.h|libc6-dev
lua5.4|lua5.4
/usr/include/lua5.4/lua.h|liblua5.4-dev
cjson:lua5.4|lua-cjson
/usr/share/iso-codes/json/iso_639-3.json|iso-codes'
test="$build
lua5.1|lua5.1
lua5.3|lua5.3
lua5.4|lua5.4
luajit|luajit2
busted|lua-busted
cjson:lua5.4|lua-cjson
argparse:lua5.4|lua-argparse
script|bsdutils
/usr/share/i18n/locales/de_DE|locales
zsh|zsh
fish|fish
/usr/share/iso-codes/json/iso_639-3.json|iso-codes"
lint="$build
lua5.4|lua5.4
luacheck|lua-check
nm|binutils
clang|clang
clang-format|clang-format"
bench="$build
lua5.4|lua5.4
/usr/include/lmdb.h|liblmdb-dev
/usr/include/sqlite3.h|libsqlite3-dev"
hosts="$build
lua5.1|lua5.1
lua5.3|lua5.3
lua5.4|lua5.4
luajit|luajit2
busted|lua-busted
cjson:lua5.4|lua-cjson
argparse:lua5.4|lua-argparse
luarocks|luarocks
pkg-config|pkgconf
love|love
haproxy|haproxy
nginx|nginx
/usr/lib/nginx/modules/ngx_http_lua_module.so|libnginx-mod-http-lua
/usr/share/lua/5.1/resty/core.lua|lua-resty-core
wrk|wrk
pgrep|procps
nvim|neovim
curl|curl
socket:lua5.4|lua-socket"
all="$test
$lint
$bench
$run
$hosts
valgrind|valgrind
libfuzzer|libclang-rt-dev"

has() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *:*) "${1#*:}" -e "require '${1%%:*}'" 2>/dev/null ;;
    libfuzzer) [ -e "$(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a" 2>/dev/null)" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

case ${1:-all} in
build | run | test | lint | bench | hosts | all) eval "needs=\$${1:-all}" ;;
*) echo "usage: $0 build|run|test|lint|bench|hosts|all" >&2 && exit 2 ;;
esac

missing=''
for need in $needs; do
    has "${need%%|*}" || missing="$missing ${need#*|}"
done
[ -z "$missing" ] && exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')

as_root=''
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 && as_root='sudo -n'
fi
if ! command -v apt-get >/dev/null 2>&1 || { [ "$(id -u)" != 0 ] && [ -z "$as_root" ]; }; then
    echo "missing: $missing(names of Debian packages; install them and run this again)" >&2
    exit 1
fi
echo "installing: $missing"
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >/dev/null
}
# The second try is for package lists that are older than the archive, or not there at all.
apt install --no-install-recommends $missing 2>/dev/null ||
    { apt update && apt install --no-install-recommends $missing; } || {
    echo "could not install: $missing" >&2
    exit 1
}
