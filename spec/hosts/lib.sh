# What the scripts of spec/hosts share. Each runs in the root of the clone, after `make all`.
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kv-host.XXXXXX")
started= # processes to end, by id
trap 'kill $started 2>/dev/null && sleep 0.5 || :; kill -9 $started 2>/dev/null || :; rm -rf "$work"' EXIT
cases=0

# check WHAT COMMAND...: one case.
check() {
    what=$1
    shift
    if ! "$@"; then
        echo "FAILED: $what" >&2
        exit 1
    fi
    cases=$((cases + 1))
}

same() {
    [ "$1" = "$2" ] || { printf 'is:\n%s\nnot:\n%s\n' "$1" "$2" >&2 && false; }
}

# A port of the loopback that nobody listens at just now.
free_port() {
    lua5.4 -e 'local s = require "socket".bind("127.0.0.1", 0); print((select(2, s:getsockname())))'
}

# Until somebody listens there, 10 s at most.
wait_for() {
    tries=0
    until curl -s -o /dev/null "http://127.0.0.1:$1/"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "nobody listens at $1" >&2 && exit 1; }
        sleep 0.1
    done
}

finish() {
    echo "all held, $cases cases"
}
