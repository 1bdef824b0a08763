#!/bin/sh
# The tests of the tests: builds broken on purpose (KV_IS_BUG(n) in the core), each of which the
# named test must catch.   spec/core/bugs.sh [n...]
#
# Without numbers: those not marked with +, and with KV_LONG=1 all. The second half of the list is
# about several processes and threads on one store.
#
# Only the file that holds error n is compiled for it (all of the core when that is a header); the
# rest is the test build's. The tests run
# with small doses, and first without any error: what fails then proves nothing. An error that is
# not caught with one seed gets two more.
set -u
cd "$(dirname "$0")/../.." || exit 1

CC=${CC:-cc}
MAKE=${MAKE:-make}
flags="-std=c99 -fPIC -pthread -Icsrc -O1 -DKV_TEST"
dir=build/bugs

# number, test, +: only with KV_LONG=1, what is wrong
list() {
    cat <<'END'
1  test_crash     no redo of what the tail has passed
2  test_crash     an expired record is skipped at replay
3  test_powercut  segments are freed before what superseded them is synced
4  test_powercut  no chain of segment headers
5  test_crash     counters are forgotten by a rebuild
6  test_powercut  checksums of records are not looked at
7  test_crash     the visible word is not noted, so what was seen is undone
8  test_powercut  a batch is not checked for its end at replay
9  test_crash     undo leaves out the first word
10 test_crash     a word is changed before it is noted
11 test_crash     a record in a segment that is gone counts as a miss
12 test_crash     the cleaner's copy is not where the index leads
13 test_powercut  a failed sync is forgotten
14 test_powercut  the torn tail is not zeroed
15 test_crash     reads do not look at the expiry
16 test_crash     an overwrite arms no timer
17 test_powercut  a new segment's name is not synced
18 test_crash     what a dead writer claimed is not zeroed
19 test_powercut  segments are freed before meta says so
20 test_powercut  a large value is not synced before it is referred to
21 test_full      a delete may take the cleaner's reserve
30 test_read      bytes that were shown count although their segment went
31 test_crash     the visible word is not the last one to be stored
32 test_order +   a node is used again in the transaction that freed it, or at once
33 test_order     a node that is used again keeps its generation
34 test_region +   an undo takes a version back as well
35 test_share_index + a record's segment is not asked for its id again after the copy
36 test_share +   locks are made anew on the same boot
37 test_log + the oldest segment's id is stored after the segment is zeroed
38 test_region +  an index is attached to whatever its magic and format words
39 test_share_index + locks of another boot are believed
40 test_share_index + a writer who waited does not notice that the index was replaced
41 test_share +   openers do not take turns
43 test_share_index a sync counts for what was written while it ran
45 test_share     a forked child goes on with its parent's store
46 test_share +   a write leaves the store's revision as it is
48 test_share +   a reader maps the shared page for writing
49 test_share +   a lock whose owner died is not made consistent
51 test_share     who recovers has not mapped what the dead one used
52 test_share_index + bytes that were shown count although the index was replaced
53 test_share_index + segments that somebody holds are zeroed
55 test_thread_hash + a split clears the old places before the new bucket counts
56 test_hash + an emptied bucket leaves its chain without a new version
60 test_linear    a write tells another record than the one it replaced
61 test_linear    a condition on the revision is not looked at
62 test_store     what was judged without the lock is believed although something was undone
63 test_read      a namespace's first expiration or metadata is not noted
64 test_read      slots that were read count although a record with an expiration came meanwhile
65 test_log       a sync notes where a segment ends, though a batch may go on behind it
END
}

# What a test that crashes leaves behind goes with this directory.
TMPDIR=$(mktemp -d "${TMPDIR:-/dev/shm}/bugs-XXXXXX" 2>/dev/null || mktemp -d) || exit 1
export TMPDIR
chmod 711 "$TMPDIR" # a test goes on as another user in there
trap 'rm -rf "$TMPDIR"' EXIT
KV_SHORT=1
KV_ROUNDS=30
export KV_SHORT KV_ROUNDS
limit=60

binary() { # number, test
    file=$(grep -l "KV_IS_BUG($1)" csrc/*.[ch]) || return 1
    case $file in # in a header: every file of the core has it
    *.h*) file=$(ls csrc/*.c | grep -v /lua_) ;;
    esac
    objects=
    for f in $file; do
        o=$dir/bug$1-$(basename "$f" .c).o
        $CC $flags -DKV_BUG="$1" -c -o "$o" "$f" || return 1
        objects="$objects $o"
    done
    $CC -pthread -o $dir/bug"$1" build/test/spec/"$2".o $objects $(ls build/test/spec/util*.o 2>/dev/null) \
        build/test/core.a -lm
}

run() { # seed, binary
    SEED=$1 timeout -k 1 $limit "$2" >$dir/log 2>&1 </dev/null
}

wanted=${*:-$(list | awk -v all="${KV_LONG:-}" 'all || $3 != "+" { print $1 }')}
unset KV_LONG
mkdir -p $dir
tests=$(for n in $wanted; do list | awk -v n="$n" '$1 == n { print $2 }'; done | sort -u)
$MAKE --no-print-directory -s $(for t in $tests; do echo build/test/bin/"$t"; done) || exit 1

failed=0
for t in $tests; do
    if ! run 1 build/test/bin/"$t"; then
        echo "without any error, $t fails:"
        tail -n 5 $dir/log
        failed=1
    fi
done

checks=0
for n in $wanted; do
    test=$(list | awk -v n="$n" '$1 == n { print $2 }')
    what=$(list | awk -v n="$n" '$1 == n { $1 = $2 = ""; sub(/^[ +]*/, ""); print }')
    if [ -z "$test" ] || ! binary "$n" "$test"; then
        echo "error $n cannot be built"
        failed=1
        continue
    fi
    caught=
    for seed in 1 11 21; do
        run $seed $dir/bug"$n" || { caught=$seed; break; }
    done
    checks=$((checks + 1))
    if [ -n "$caught" ]; then
        echo "caught   $n by $test (SEED=$caught): $what"
    else
        echo "MISSED   $n by $test: $what"
        failed=1
    fi
    rm -f $dir/bug"$n" $dir/bug"$n"-*.o
done
[ $failed = 0 ] || exit 1
echo "bugs: $checks errors built in, $checks caught"
