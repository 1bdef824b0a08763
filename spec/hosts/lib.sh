# What the scripts of spec/hosts share. Each runs in the root of the clone, after `make all`.
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kv-host.XXXXXX")
trap 'rm -rf "$work"' EXIT
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

finish() {
    echo "all held, $cases cases"
}
