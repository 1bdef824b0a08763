/* SPDX-License-Identifier: MIT
 *
 * test_order.c - the tree of keys against a sorted array: content, shape, deaths, damage.
 *
 * After every operation the tree verifies and lists what the array holds, in both directions; a
 * transaction that dies at any store is undone to the tree before; damaged nodes give an error or
 * wrong keys, but no crash, no loop and no change.
 */
#define _GNU_SOURCE
#include "order_list.h"
#include "check.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define MAX_KEYS 20000

typedef struct key {
    uint32_t len;
    unsigned char bytes[KV_ORDER_KEY];
} key;

typedef struct model {
    key **at;
    int n;
} model;

static uint64_t seed = 20260101;
static kv_dir *dir;
static kv_region *region;
static model keys;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(chance() % n);
}

static int dose(int usual)
{
    return getenv("KV_SHORT") ? usual / 10 + 1 : getenv("KV_LONG") ? usual * 20 : usual;
}

/* ---- the array ---- */

static int compare(const key *a, const key *b)
{
    int c = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* First index whose key is >= k. */
static int find(const key *k, int *equal)
{
    int lo = 0, hi = keys.n;

    while (lo < hi) {
        int mid = (lo + hi) / 2;

        if (compare(keys.at[mid], k) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *equal = lo < keys.n && compare(keys.at[lo], k) == 0;
    return lo;
}

static void model_insert(const key *k)
{
    int equal, i = find(k, &equal);
    key *copy;

    if (equal)
        return;
    copy = malloc(sizeof *copy);
    *copy = *k;
    memmove(&keys.at[i + 1], &keys.at[i], (size_t)(keys.n - i) * sizeof keys.at[0]);
    keys.at[i] = copy;
    keys.n++;
}

static void model_remove(const key *k)
{
    int equal, i = find(k, &equal);

    if (!equal)
        return;
    free(keys.at[i]);
    keys.n--;
    memmove(&keys.at[i], &keys.at[i + 1], (size_t)(keys.n - i) * sizeof keys.at[0]);
}

/* ---- the tree ---- */

static void start(void)
{
    region = malloc(sizeof *region);
    if (!CHECK(kv_region_create(region, dir, "order") == KV_OK))
        exit(check_done("test_order"));
    kv_order_init(region);
}

static void stop(void)
{
    kv_region_close(region);
    kv_file_unlink(dir, "order");
    free(region);
    while (keys.n > 0)
        free(keys.at[--keys.n]);
}

static void make_room(uint64_t need)
{
    if (kv_region_room(region, KV_NODES) < need)
        CHECK(kv_region_grow(region, KV_NODES, need) == KV_OK);
}

static struct {
    uint64_t left, keys;
    int longest;
} runs;

/* One operation, with no more room than is promised to do. */
static int change(const key *k, int insert)
{
    uint64_t *ready = &region->head->ready[KV_NODES], real;
    uint64_t near = chance() % 2 ? kv_order_near(region, k->bytes, k->len) : 0;
    int rc;

    make_room(kv_order_room(region, 1));
    real = *ready;
    *ready = region->head->used[KV_NODES] + kv_order_room(region, 1);
    kv_txn_begin(region);
    rc = insert ? kv_order_insert_near(region, k->bytes, k->len, near)
                : kv_order_remove_near(region, k->bytes, k->len, &near);
    kv_txn_end(region);
    *ready = real;
    return rc;
}

/* Neighbours go, from index i on, or back from it, or whoever: how many did. */
static int change_run(int i)
{
    uint64_t *ready = &region->head->ready[KV_NODES], real, near;
    kv_probe probe[KV_ORDER_RUN + 4];
    int n = 1 + (int)below(KV_ORDER_RUN + 4), by = (int)below(3) - 1, j, rc;

    near = below(2) ? kv_order_near(region, keys.at[i]->bytes, keys.at[i]->len) : 0;
    for (j = 0; j < n; j++) {
        int at = by ? i + by * j : (i + (int)below(30)) % keys.n;

        if (at < 0 || at >= keys.n)
            n = j;
        else
            kv_probe_set(&probe[j], keys.at[at]->bytes, keys.at[at]->len);
    }
    make_room(kv_order_room(region, 1));
    real = *ready;
    *ready = region->head->used[KV_NODES] + kv_order_room(region, 1);
    kv_txn_begin(region);
    rc = kv_order_remove_run(region, probe, n, &near);
    CHECK(region->head->journal.count <= 110);
    kv_txn_end(region);
    *ready = real;
    CHECK(rc <= n && rc <= KV_ORDER_RUN);
    for (j = 0; j < rc; j++) {
        key k;

        memcpy(k.bytes, probe[j].key, k.len = probe[j].len);
        model_remove(&k);
        runs.longest = rc > runs.longest ? rc : runs.longest;
    }
    runs.left += rc > 0;
    runs.keys += (uint64_t)(rc > 0 ? rc : 0);
    return rc;
}

static int is(const key *k, const unsigned char *bytes, size_t len)
{
    return k->len == len && memcmp(k->bytes, bytes, len) == 0;
}

/* Every leaf forwards, and again backwards; each key lies within its leaf's bounds. */
static int lists(void)
{
    unsigned char out[KV_ORDER_KEY];
    key bound;
    kv_leaf leaf;
    int i, at = 0, more = 1;

    bound.len = 0;
    while (more) {
        if (kv_order_read(region, bound.bytes, bound.len, 0, &leaf) != KV_OK)
            return 0;
        if (leaf.has_lower != (bound.len > 0) ||
            (leaf.has_lower && !is(&bound, leaf.lower, leaf.lower_len)))
            return 0;
        for (i = 0; i < leaf.count; i++, at++) {
            size_t len = kv_leaf_key(&leaf, i, out);

            if (at >= keys.n || !is(keys.at[at], out, len) || kv_leaf_find(&leaf, out, len) != i)
                return 0;
            if (i == 0 && leaf.has_lower && compare(keys.at[at], &bound) < 0)
                return 0;
        }
        more = leaf.has_upper;
        if (more) {
            bound.len = leaf.upper_len;
            memcpy(bound.bytes, leaf.upper, leaf.upper_len);
            if (at == 0 || compare(keys.at[at - 1], &bound) >= 0)
                return 0;
        }
    }
    if (at != keys.n || kv_order_read(region, NULL, 0, 1, &leaf) != KV_OK)
        return 0;
    for (;;) {
        for (i = leaf.count; i-- > 0;) {
            size_t len = kv_leaf_key(&leaf, i, out);

            if (--at < 0 || !is(keys.at[at], out, len))
                return 0;
        }
        if (!leaf.has_lower)
            return at == 0;
        bound.len = leaf.lower_len;
        memcpy(bound.bytes, leaf.lower, leaf.lower_len);
        if (kv_order_read(region, bound.bytes, bound.len, 1, &leaf) != KV_OK || !leaf.has_upper ||
            !is(&bound, leaf.upper, leaf.upper_len))
            return 0;
    }
}

/* A key's leaf is where it must be, seen from either side. */
static int found(const key *k)
{
    unsigned char out[KV_ORDER_KEY];
    int equal, i = find(k, &equal), at;
    kv_leaf leaf;
    size_t len;

    if (kv_order_read(region, k->bytes, k->len, 0, &leaf) != KV_OK)
        return 0;
    at = kv_leaf_find(&leaf, k->bytes, k->len);
    len = at < leaf.count ? kv_leaf_key(&leaf, at, out) : 0;
    if (len ? i >= keys.n || !is(keys.at[i], out, len) : equal)
        return 0;
    if (kv_order_read(region, k->bytes, k->len, 1, &leaf) != KV_OK)
        return 0;
    at = kv_leaf_find(&leaf, k->bytes, k->len);
    len = at > 0 ? kv_leaf_key(&leaf, at - 1, out) : 0;
    return !len || (i > 0 && is(keys.at[i - 1], out, len));
}

static int whole(void)
{
    if (kv_order_check(region) == KV_OK && lists())
        return 1;
    fprintf(stderr, "%d keys: %s\n", keys.n, kv_message());
    return 0;
}

/* ---- kinds of keys ---- */

enum { DIGITS, ANY, DEEP, LARGE, MIXED, SPACES, TINY, HALVES, PAIRS, KINDS };

static void make_key(key *k, int kind)
{
    uint32_t ns = 1, i, len = 0;
    unsigned char *b = k->bytes + 4;

    switch (kind) {
    case DIGITS: /* as many programs have them */
        len = (uint32_t)sprintf((char *)b, "user:%07u", below(100000));
        break;
    case ANY: /* any length, few different bytes, the extreme ones among them */
        len = 1 + below(below(4) ? 20 : KV_MAX_KEY);
        for (i = 0; i < len; i++)
            b[i] = (unsigned char)("\0\1a\xff"[below(4)]);
        break;
    case DEEP: /* a long common prefix */
        len = 480 + below(33);
        memset(b, 'p', len);
        for (i = 480; i < len; i++)
            b[i] = (unsigned char)('a' + below(2));
        break;
    case LARGE: /* no key of the same leaf shares much */
        len = KV_MAX_KEY - below(3);
        for (i = 0; i < len; i++)
            b[i] = (unsigned char)chance();
        break;
    case MIXED: /* one large key among many small ones */
        len = below(8) ? 1 + below(6) : KV_MAX_KEY;
        for (i = 0; i < len; i++)
            b[i] = (unsigned char)(i < 2 ? below(256) : 'a' + below(3));
        break;
    case SPACES: /* many namespaces */
        ns = 1 + below(below(2) ? 5 : 300);
        len = (uint32_t)sprintf((char *)b, "%u", below(50));
        break;
    case HALVES: /* two fit a leaf, one more in between makes three leaves */
        len = below(3) ? 475 + below(10) : KV_MAX_KEY;
        for (i = 0; i < len; i++)
            b[i] = (unsigned char)chance();
        break;
    case PAIRS: /* separators that are long and share nothing */
        len = KV_MAX_KEY - below(30);
        b[0] = (unsigned char)below(60);
        memset(b + 1, b[0], len - 1);
        for (i = len - 4; i < len; i++)
            b[i] = (unsigned char)('a' + below(2));
        break;
    default: /* as many as possible in a node */
        len = 1 + below(2);
        b[0] = (unsigned char)chance();
        b[1] = (unsigned char)chance();
    }
    k->bytes[0] = (unsigned char)(ns >> 24);
    k->bytes[1] = (unsigned char)(ns >> 16);
    k->bytes[2] = (unsigned char)(ns >> 8);
    k->bytes[3] = (unsigned char)ns;
    k->len = 4 + len;
}

/* Mostly a key that is there, when one is to be removed. */
static void pick(key *k, int kind, int insert)
{
    if (!insert && keys.n && below(8))
        *k = *keys.at[below((uint32_t)keys.n)];
    else
        make_key(k, kind);
}

/* ---- content and shape ---- */

static int step(int kind, int insert)
{
    int equal, rc, want;
    key k;

    if (!insert && keys.n > 0 && below(4) == 0) {
        k = *keys.at[below((uint32_t)keys.n)];
        return change_run(find(&k, &equal)) > 0 && found(&k);
    }
    pick(&k, kind, insert);
    find(&k, &equal);
    want = insert ? (equal ? KV_EEXISTS : KV_OK) : equal ? KV_OK : KV_ENOTFOUND;
    rc = change(&k, insert);
    if (rc != want) {
        fprintf(stderr, "kind %d, %s: %d instead of %d: %s\n", kind, insert ? "insert" : "remove",
                rc, want, kv_message());
        return 0;
    }
    if (insert)
        model_insert(&k);
    else
        model_remove(&k);
    return found(&k);
}

/* Up to `most` keys, down to none, twice; everything verified after each step. */
static void random_steps(int kind, int most)
{
    int phase, i, ok = 1;

    start();
    for (phase = 0; phase < 4 && ok; phase++) {
        int insert = phase % 2 == 0;

        for (i = 0; ok && i < 4 * most && (insert ? keys.n < most : keys.n > 0); i++)
            ok = step(kind, below(8) ? insert : !insert) && whole();
    }
    CHECK(ok);
    while (ok && keys.n > 0)
        ok = step(kind, 0);
    CHECK(ok && whole());
    CHECK(!ok || (region->head->order[KV_ORDER_ROOT] == 0 &&
                  region->head->order[KV_ORDER_FREE_COUNT] == region->head->used[KV_NODES]));
    stop();
}

static uint64_t nodes_in_tree(void)
{
    return region->head->used[KV_NODES] - region->head->order[KV_ORDER_FREE_COUNT];
}

/* What is inserted in order fills its leaves. */
static void in_order(int reverse)
{
    int i, bad = 0, n = MAX_KEYS / 2;
    double bytes;
    key k;

    start();
    for (i = 0; i < n; i++) {
        make_key(&k, DIGITS);
        sprintf((char *)k.bytes + 4, "user:%07d", reverse ? n - i : i);
        bad += change(&k, 1) != KV_OK;
        model_insert(&k);
    }
    CHECK(bad == 0 && whole());
    bytes = (double)nodes_in_tree() * KV_NODES_SIZE / n;
    printf("test_order: %s: %.2f bytes a key\n", reverse ? "in reverse order" : "in order", bytes);
    CHECK(bytes < 7);
    for (i = 0; i < n; i++) {
        sprintf((char *)k.bytes + 4, "user:%07d", reverse ? n - i : i);
        bad += change(&k, 0) != KV_OK;
        model_remove(&k);
        if (i % 500 == 0)
            CHECK(whole());
    }
    CHECK(bad == 0 && whole() && nodes_in_tree() == 0);
    stop();
}

/* Two namespaces appended to in turn: each finds the end of a leaf of its own. */
static void in_turn(void)
{
    int i, bad = 0, n = MAX_KEYS / 2;
    key k;

    start();
    for (i = 0; i < n; i++) {
        make_key(&k, DIGITS);
        k.bytes[3] = (unsigned char)(1 + i % 3);
        sprintf((char *)k.bytes + 4, "user:%07d", i);
        bad += change(&k, 1) != KV_OK;
        model_insert(&k);
    }
    CHECK(bad == 0 && whole());
    CHECK((double)nodes_in_tree() * KV_NODES_SIZE / n < 8);
    stop();
}

/* Random order: the promised memory; and a tree that was emptied to a tenth is small again. */
static void dense(void)
{
    int i, bad = 0;
    uint64_t most;
    key k;

    start();
    while (keys.n < MAX_KEYS - 1) {
        int equal;

        make_key(&k, DIGITS);
        find(&k, &equal);
        bad += change(&k, 1) != (equal ? KV_EEXISTS : KV_OK);
        model_insert(&k);
    }
    most = nodes_in_tree();
    printf("test_order: at random: %.2f bytes a key\n", (double)most * KV_NODES_SIZE / keys.n);
    CHECK(bad == 0 && whole() && most * KV_NODES_SIZE / (uint64_t)keys.n < 12);
    for (i = 0; keys.n > MAX_KEYS / 10; i++) {
        k = *keys.at[below((uint32_t)keys.n)];
        bad += change(&k, 0) != KV_OK;
        model_remove(&k);
    }
    CHECK(bad == 0 && whole() && nodes_in_tree() < most / 3);
    stop();
}

static void empty(void)
{
    kv_leaf leaf;
    key k;

    start();
    make_key(&k, DIGITS);
    CHECK(whole());
    CHECK(kv_order_read(region, k.bytes, k.len, 0, &leaf) == KV_OK && leaf.count == 0);
    CHECK(!leaf.has_lower && !leaf.has_upper && kv_leaf_find(&leaf, k.bytes, k.len) == 0);
    CHECK(kv_leaf_key(&leaf, 0, k.bytes) == 0);
    CHECK(kv_order_read(region, NULL, 0, 1, &leaf) == KV_OK && leaf.count == 0);
    CHECK(change(&k, 0) == KV_ENOTFOUND && nodes_in_tree() == 0);
    CHECK(kv_order_insert(region, k.bytes, KV_ORDER_KEY + 1) == KV_EINVAL);
    CHECK(kv_order_insert(region, k.bytes, 0) == KV_EINVAL);
    CHECK(kv_order_remove(region, k.bytes, KV_ORDER_KEY + 1) == KV_EINVAL);
    CHECK(kv_order_read(region, k.bytes, KV_ORDER_KEY + 1, 0, &leaf) == KV_EINVAL);
    CHECK(whole());
    stop();
}

/* Without room an operation fails and changes nothing; removal needs none once nodes are free. */
static void no_room(void)
{
    uint64_t words[KV_ORDER_WORDS];
    int i, rc = KV_OK;
    key k;

    start();
    for (i = 0; i < 100000 && rc != KV_EFULL; i++) {
        make_key(&k, DIGITS);
        memcpy(words, region->head->order, sizeof words);
        kv_txn_begin(region);
        rc = kv_order_insert(region, k.bytes, k.len);
        if (rc == KV_EFULL)
            CHECK(region->head->journal.count == 0 &&
                  memcmp(words, region->head->order, sizeof words) == 0);
        kv_txn_end(region);
        if (rc == KV_OK)
            model_insert(&k);
    }
    CHECK(rc == KV_EFULL && keys.n > 100 && whole());
    for (rc = KV_OK; keys.n > 0 && rc == KV_OK;) {
        k = *keys.at[below((uint32_t)keys.n)];
        kv_txn_begin(region);
        rc = kv_order_remove(region, k.bytes, k.len);
        kv_txn_end(region);
        model_remove(&k);
    }
    CHECK(rc == KV_OK && whole());
    stop();
}

/* ---- deaths ---- */

#define MOST_OPS 12

static struct {
    int n, runs, insert[MOST_OPS], rc[MOST_OPS];
    key k[MOST_OPS];
} plan;

/* What goes was looked for before anything changed, as expiry does; several go at once where they
 * can. */
static void run_plan(void)
{
    uint64_t near[MOST_OPS], last = 0, since = kv_order_time(region);
    kv_probe probe[MOST_OPS];
    int i, n;

    for (i = 0; i < plan.n; i++) {
        kv_probe_set(&probe[i], plan.k[i].bytes, plan.k[i].len);
        near[i] = kv_order_near_probe(region, &probe[i]);
    }
    kv_txn_begin(region);
    for (i = 0; i < plan.n; i++) {
        if (plan.insert[i]) {
            plan.rc[i] = kv_order_insert(region, plan.k[i].bytes, plan.k[i].len);
            last = 0;
            continue;
        }
        if (!kv_order_still(region, near[i], since))
            near[i] = last;
        last = near[i];
        for (n = 1; plan.runs && i + n < plan.n && !plan.insert[i + n];)
            n++;
        n = kv_order_remove_run(region, &probe[i], n, &last);
        plan.rc[i] = n > 0 ? KV_OK : n;
        for (; n > 1; n--)
            plan.rc[++i] = KV_OK;
    }
    kv_txn_end(region);
}

static void undo(void)
{
    CHECK(kv_txn_undo(region, NULL) == KV_OK);
}

static jmp_buf death;

static void die(void)
{
    longjmp(death, 1);
}

static int until(void (*f)(void), int64_t n)
{
    int died = 1;

    kv_test_die = die;
    if (setjmp(death) == 0) {
        kv_test_die_at = n;
        f();
        died = 0;
    }
    kv_test_die_at = 0;
    kv_test_die = NULL;
    return died;
}

static void make_plan(int kind, int insert, int ops)
{
    int i;

    plan.n = ops;
    plan.runs = (int)below(2);
    for (i = 0; i < ops; i++) {
        int equal, at = i > 0 ? find(&plan.k[i - 1], &equal) + 1 : keys.n;

        plan.insert[i] = below(8) ? insert : !insert;
        pick(&plan.k[i], kind, plan.insert[i]);
        if (!plan.insert[i] && at < keys.n && below(8) && plan.runs)
            plan.k[i] = *keys.at[at];
    }
}

/* Several operations a transaction: nodes that it freed must not be reused by it. */
static int transaction_dies(int real)
{
    uint64_t words[KV_ORDER_WORDS], used = region->head->used[KV_NODES];
    int64_t n;
    int ok = 1, i, noted;

    memcpy(words, region->head->order, sizeof words);
    make_room(plan.n > 1 ? 20 * (uint64_t)plan.n : kv_order_room(region, 1));
    for (n = 1; ok; n++) {
        if (real) {
            int status = 0;
            pid_t child = check_fork();

            if (child == 0) {
                kv_test_die_at = n;
                run_plan();
                _exit(0);
            }
            ok = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
            if (WEXITSTATUS(status) == 0)
                break;
            ok = ok && WEXITSTATUS(status) == 77;
        } else if (!until(run_plan, n)) {
            break;
        }
        noted = region->head->journal.count > 0;
        while (until(undo, 1 + below(30)) && below(3))
            ;
        undo();
        /* The last store but one ends the transaction: it is done. What came and went may leave
         * these words as they were; then only the empty journal says so. */
        if (memcmp(words, region->head->order, sizeof words) != 0)
            continue;
        ok = ok && used == region->head->used[KV_NODES] && kv_order_check(region) == KV_OK &&
             (n % 7 || !noted || lists());
    }
    if (real)
        for (i = 0; i < plan.n; i++)
            plan.rc[i] = KV_OK; /* happened elsewhere */
    for (i = 0; i < plan.n; i++) {
        if (plan.rc[i] == KV_ECORRUPT || plan.rc[i] == KV_EFULL) {
            fprintf(stderr, "operation %d of %d: %d: %s\n", i, plan.n, plan.rc[i], kv_message());
            ok = 0;
        }
        if (plan.insert[i])
            model_insert(&plan.k[i]);
        else
            model_remove(&plan.k[i]);
    }
    return ok && whole();
}

static void deaths(int kind, int most, int ops, int real)
{
    int phase, i, ok = 1;

    start();
    for (phase = 0; phase < 2 && ok; phase++) {
        for (i = 0; ok && i < 4 * most && (phase ? keys.n > 0 : keys.n < most); i++) {
            make_plan(kind, phase == 0, ops == 1 ? 1 : 1 + (int)below((uint32_t)ops));
            ok = transaction_dies(real);
        }
    }
    CHECK(ok);
    stop();
}

/* ---- the order of stores ---- */

#define WATCHED 200

static uint64_t before_change[WATCHED][KV_NODES_SIZE / 8];
static int too_early, grown;

/* Bytes of a node that a reader may look at. */
static int in_view(const uint64_t *node)
{
    kv_view v;

    return kv_node_view(node, &v) ? v.size + v.log_bytes : (int)KV_NODES_SIZE;
}

/* At each store: a node that has changed in more than one word, which a child word may be or the
 * one that makes a log grow, has a new generation already; and a log that has grown is whole. */
static void watch(void)
{
    uint32_t id;

    for (id = 0; id < WATCHED; id++) {
        const uint64_t *node =
            (const uint64_t *)(const void *)kv_region_place(region, KV_NODES, id).ptr;
        int i, changed = 0, end = in_view(before_change[id]);
        uint64_t merged[KV_NODE_WORDS];
        kv_view v;

        for (i = 2; 8 * i < end; i++)
            changed += memcmp(&node[i], &before_change[id][i],
                              (size_t)(end - 8 * i < 8 ? end - 8 * i : 8)) != 0;
        too_early += changed > 1 && node[0] == before_change[id][0];
        if (node[0] == before_change[id][0] &&
            node[KV_NODE_LOG] != before_change[id][KV_NODE_LOG] && kv_node_view(node, &v)) {
            grown++;
            too_early += v.logged > 0 && !kv_leaf_merge(&v, merged);
        }
    }
    kv_test_die_at = 1;
}

static void generation_first(int kind)
{
    uint32_t id;
    int i;
    key k;

    start();
    CHECK(kv_region_grow(region, KV_NODES, 2 * WATCHED) == KV_OK);
    for (i = 0; i < dose(400); i++) {
        for (id = 0; id < WATCHED; id++)
            memcpy(before_change[id], kv_region_place(region, KV_NODES, id).ptr, KV_NODES_SIZE);
        pick(&k, kind, i % 3 != 2);
        kv_test_die = watch;
        kv_test_die_at = 1;
        change(&k, i % 3 != 2);
        kv_test_die_at = 0;
        kv_test_die = NULL;
        if (i % 3 != 2)
            model_insert(&k);
        else
            model_remove(&k);
    }
    CHECK(too_early == 0 && grown > 0 && whole());
    stop();
}

/* ---- damage ---- */

static void fill(int kind, int n)
{
    int i;

    start();
    for (i = 0; keys.n < n && i < 10 * n; i++)
        if (!step(kind, below(6) > 0)) {
            CHECK(!"a step failed");
            return;
        }
}

/* Lists as far as it gets. Bounds move on at every step, so there are not more steps than entries.
 */
static void wander(void)
{
    unsigned char out[KV_ORDER_KEY], bound[KV_ORDER_KEY];
    int before, i, steps;
    size_t len;
    kv_leaf leaf;
    key k;

    for (before = 0; before < 2; before++) {
        make_key(&k, (int)below(KINDS));
        len = below(2) ? k.len : 0;
        memcpy(bound, k.bytes, len);
        for (steps = 0; steps < 100000; steps++) {
            int rc = kv_order_read(region, len || !before ? bound : NULL, len, before, &leaf);

            if (rc != KV_OK) {
                CHECK(rc == KV_ECORRUPT);
                break;
            }
            for (i = 0; i < leaf.count; i++)
                kv_leaf_key(&leaf, i, out);
            kv_leaf_find(&leaf, k.bytes, k.len);
            if (before ? !leaf.has_lower : !leaf.has_upper)
                break;
            len = before ? leaf.lower_len : leaf.upper_len;
            memcpy(bound, before ? leaf.lower : leaf.upper, len);
        }
        CHECK(steps < 100000);
    }
}

/* Changes may do anything within the nodes, but say so or succeed. */
static void stumble(int kind)
{
    uint64_t words[KV_ORDER_WORDS];
    uint64_t near;
    int i, rc, insert, run = keys.n > 0 && below(2) ? (int)below((uint32_t)keys.n) : -1;
    key k;

    for (i = 0; i < 30; i++) {
        insert = run < 0 && (int)below(2);
        pick(&k, kind, insert);
        if (run >= 0) /* of neighbours, so that nodes become small and are joined */
            k = *keys.at[run++ % keys.n];
        memcpy(words, region->head->order, sizeof words);
        near = below(2) ? kv_order_near(region, k.bytes, k.len)
                        : (uint64_t)below(2) << 32 | below(200);
        /* With a lost root room is asked for far too much; that is the caller's to refuse. */
        if (kv_region_room(region, KV_NODES) < 12 && kv_region_grow(region, KV_NODES, 12) != KV_OK)
            return;
        kv_txn_begin(region);
        if (run >= 0 && below(2)) {
            kv_probe probe[8];
            int j;

            for (j = 0; j < 8; j++) /* the first one twice */
                kv_probe_set(&probe[j], keys.at[(run - 1 + j % 7) % keys.n]->bytes,
                             keys.at[(run - 1 + j % 7) % keys.n]->len);
            rc = kv_order_remove_run(region, probe, 8, &near);
            rc = rc > 0 ? KV_OK : rc;
        } else {
            rc = insert ? kv_order_insert_near(region, k.bytes, k.len, near)
                        : kv_order_remove_near(region, k.bytes, k.len, &near);
        }
        if (rc == KV_ECORRUPT || rc == KV_EFULL)
            CHECK(region->head->journal.count == 0 &&
                  memcmp(words, region->head->order, sizeof words) == 0);
        else
            CHECK(rc == KV_OK || rc == KV_EEXISTS || rc == KV_ENOTFOUND);
        kv_txn_end(region);
    }
}

/* What a field of a node is made of: near what it is, at an end of what it may be, or another's. */
static void spoil_half(unsigned char *node, uint32_t within)
{
    uint16_t *half = (uint16_t *)(void *)node, v;
    uint32_t i = below(within / 2);

    v = half[i];
    switch (below(6)) {
    case 0:
        v++;
        break;
    case 1:
        v--;
        break;
    case 2:
        v = 0;
        break;
    case 3:
        v ^= KV_LEAF_GONE;
        break;
    case 4:
        v = (uint16_t)(KV_NODE_CAP + (int)below(3) - 1);
        break;
    default:
        v = below(2) ? half[below(within / 2)] : (uint16_t)(v + below(600));
    }
    half[i] = v;
}

/* Position or length of an entry of a leaf's log, its other entries left alone. */
static void spoil_log(unsigned char *node)
{
    uint16_t w[2];
    kv_view v;
    int at = 0, n;

    if (!kv_node_view((const uint64_t *)(const void *)node, &v) || v.logged == 0)
        return;
    for (n = (int)below((uint32_t)v.logged);; n--) {
        if (at + KV_LEAF_ENTRY > v.log_bytes)
            return;
        memcpy(w, v.log + at, sizeof w);
        if (n == 0)
            break;
        at += KV_LEAF_ENTRY + w[1];
    }
    switch (below(5)) {
    case 0:
        w[0] ^= KV_LEAF_GONE;
        break;
    case 1:
        w[0] = (uint16_t)((w[0] & KV_LEAF_GONE) | below((uint32_t)v.entries + 2));
        break;
    case 2:
        w[1] = (uint16_t)(w[1] + below(3) - 1);
        break;
    default: /* the same as the one before, or as the next: twice in the log */
        if (at + 2 * KV_LEAF_ENTRY + 2 * w[1] <= v.log_bytes)
            memcpy(node + v.size + at + KV_LEAF_ENTRY + w[1], node + v.size + at,
                   (size_t)KV_LEAF_ENTRY + w[1]);
    }
    memcpy(node + v.size + at, w, sizeof w);
}

/* Of all nodes, or of the inner ones, if there are any: they are few. */
static uint32_t any_node(uint32_t used)
{
    uint32_t id = below(used), i, inner = below(2);

    for (i = 0; inner && i < used; i++) {
        const uint64_t *w = (const uint64_t *)(void *)kv_region_place(region, KV_NODES, id).ptr;

        if ((w[2] >> 48 & 0xff) > 0)
            break;
        id = (id + 1) % used;
    }
    return id;
}

static void damage(int kind, int n, int rounds)
{
    uint32_t used, i, id;
    unsigned char *copy;
    kv_head *head = malloc(sizeof *head);
    int round, flips;

    fill(kind, n);
    kv_region_grow(region, KV_NODES, 2000);
    used = (uint32_t)region->head->used[KV_NODES];
    copy = malloc((size_t)used * KV_NODES_SIZE);
    for (i = 0; i < used; i++)
        memcpy(copy + (size_t)i * KV_NODES_SIZE, kv_region_place(region, KV_NODES, i).ptr,
               KV_NODES_SIZE);
    *head = *region->head;
    for (round = 0; round < rounds; round++) {
        int kinds = (int)below(4);

        for (flips = 1 + (int)below(6); flips > 0; flips--) {
            id = any_node(used);
            if (below(8) == 0) {
                unsigned char *b = (unsigned char *)region->head->order;

                b[below(8 * 5)] ^= (unsigned char)(1 << below(8));
            } else {
                unsigned char *b = (unsigned char *)kv_region_place(region, KV_NODES, id).ptr;

                uint32_t within = kinds == 0   ? 32
                                  : kinds == 1 ? 64
                                  : kinds == 2 ? 256
                                               : KV_NODES_SIZE;

                if (below(3) == 0) {
                    spoil_log(b);
                    continue;
                }
                if (below(2)) {
                    spoil_half(b, within);
                    continue;
                }
                b += below(within);
                *b = below(2) ? (unsigned char)chance() : (unsigned char)(*b ^ 1 << below(8));
            }
        }
        wander();
        kv_order_room(region, 1);
        kv_order_check(region);
        stumble(kind);
        wander();
        kv_order_check(region);
        for (i = 0; i < used; i++)
            memcpy(kv_region_place(region, KV_NODES, i).ptr, copy + (size_t)i * KV_NODES_SIZE,
                   KV_NODES_SIZE);
        memcpy(region->head->order, head->order, sizeof head->order);
        memcpy(region->head->used, head->used, sizeof head->used);
        memset(&region->head->journal, 0, sizeof head->journal);
    }
    CHECK(whole());
    free(copy);
    free(head);
    stop();
}

/* A link to a node that has moved on, with nobody writing, is damage and not a reason to wait. */
static void stale(void)
{
    kv_leaf leaf;
    uint64_t *root, link;
    key k;

    fill(DIGITS, 1000);
    root = (uint64_t *)(void *)kv_region_place(region, KV_NODES,
                                               (uint32_t)region->head->order[KV_ORDER_ROOT] - 1)
               .ptr;
    ++*root;
    CHECK(kv_order_read(region, NULL, 0, 1, &leaf) == KV_ECORRUPT);
    CHECK(kv_order_check(region) == KV_ECORRUPT);
    --*root;
    CHECK(whole());
    /* A node that leads to itself. */
    link = root[KV_NODE_HEAD / 8];
    root[KV_NODE_HEAD / 8] = region->head->order[KV_ORDER_ROOT];
    CHECK(kv_order_read(region, "", 0, 0, &leaf) == KV_ECORRUPT);
    memset(k.bytes, 0, 5);
    k.len = 5;
    CHECK(change(&k, 1) == KV_ECORRUPT && change(&k, 0) == KV_ECORRUPT);
    CHECK(kv_order_check(region) == KV_ECORRUPT);
    root[KV_NODE_HEAD / 8] = link;
    CHECK(whole());
    /* What check is there to find. */
    ++region->head->order[KV_ORDER_COUNT];
    CHECK(kv_order_check(region) == KV_ECORRUPT);
    --region->head->order[KV_ORDER_COUNT];
    ++region->head->used[KV_NODES];
    CHECK(kv_order_check(region) == KV_ECORRUPT);
    --region->head->used[KV_NODES];
    CHECK(whole());
    stop();
}

/* A node that is in use and free at once, for every node of the tree. */
static void in_use_and_free(void)
{
    uint64_t *w, head, *free_node, link;
    uint32_t id, caught = 0, nodes = 0;

    fill(DIGITS, 3000);
    w = region->head->order;
    head = w[KV_ORDER_FREE_HEAD];
    free_node = (uint64_t *)(void *)kv_region_place(region, KV_NODES, (uint32_t)head - 1).ptr;
    for (id = 0; id < region->head->used[KV_NODES]; id++) {
        uint64_t *node = (uint64_t *)(void *)kv_region_place(region, KV_NODES, id).ptr;

        /* It takes the place of the queue's head. */
        link = node[1];
        node[1] = free_node[1];
        w[KV_ORDER_FREE_HEAD] = id + 1;
        caught += kv_order_check(region) == KV_ECORRUPT;
        nodes++;
        node[1] = link;
    }
    w[KV_ORDER_FREE_HEAD] = head;
    CHECK(caught == nodes - 1); /* only the head itself is fine there */
    CHECK(whole());
    stop();
}

/* A leaf that one more key leaves in three: it fits beside neither neighbour. */
static void three_leaves(void)
{
    static const struct {
        char first;
        uint32_t len;
    } parts[] = {{'a', 470}, {'g', 458}, {'e', 40}, {'c', 512}};
    int i, before = 0;
    key k;

    start();
    for (i = 0; i < 4; i++) {
        memset(k.bytes, 0, 4);
        memset(k.bytes + 4, parts[i].first, parts[i].len);
        k.len = 4 + parts[i].len;
        before = nodes_in_tree();
        CHECK(change(&k, 1) == KV_OK);
        model_insert(&k);
    }
    CHECK(before == 1 && nodes_in_tree() == 4 && whole());
    stop();
}

/* What no caller should ask for, and what is known of a leaf beyond its time. */
static void odd_questions(void)
{
    unsigned char out[KV_ORDER_KEY];
    uint64_t root, near, head, tail, missing = 0;
    kv_probe probe;
    kv_leaf leaf;
    key k;

    fill(DIGITS, 3000);
    k = *keys.at[1000];
    root = region->head->order[KV_ORDER_ROOT];
    near = kv_order_near(region, k.bytes, k.len);
    CHECK(near != 0 && kv_order_near(region, k.bytes, 0) == 0);
    CHECK(kv_order_near(region, k.bytes, KV_ORDER_KEY + 1) == 0);
    kv_probe_set(&probe, k.bytes, k.len);
    CHECK(kv_order_maybe(region, &probe, near));
    CHECK(!kv_order_maybe(region, &probe, 0));
    CHECK(!kv_order_maybe(region, &probe, near + ((uint64_t)1 << 32)));
    CHECK(!kv_order_maybe(region, &probe, root));
    CHECK(kv_order_remove_near(region, k.bytes, 0, &missing) == KV_EINVAL);
    CHECK(kv_order_read(region, NULL, 7, 0, &leaf) == KV_OK && !leaf.has_lower);
    CHECK(kv_order_read(region, k.bytes, k.len, 0, &leaf) == KV_OK);
    CHECK(kv_leaf_find(&leaf, k.bytes, KV_ORDER_KEY + 1) == leaf.count);
    CHECK(kv_leaf_key(&leaf, -1, out) == 0 && kv_leaf_key(&leaf, leaf.count, out) == 0);
    leaf.node[2] = 0;
    CHECK(kv_leaf_find(&leaf, k.bytes, k.len) == leaf.count);

    /* Of a queue that has got longer than a transaction makes it, or leads nowhere. */
    head = region->head->order[KV_ORDER_FREE_HEAD];
    tail = region->head->order[KV_ORDER_FREE_TAIL];
    CHECK(kv_order_still(region, near, tail) && !kv_order_still(region, near, 0));
    region->head->order[KV_ORDER_FREE_TAIL] = 0;
    CHECK(!kv_order_still(region, near, UINT32_MAX));
    ((uint64_t *)(void *)kv_region_place(region, KV_NODES, (uint32_t)tail - 1).ptr)[1] = head;
    CHECK(!kv_order_still(region, near, head));
    region->head->order[KV_ORDER_FREE_TAIL] = tail;
    CHECK(whole());
    stop();
}

/* ---- a writer between two steps of a reader ---- */

static struct {
    uint64_t *word, add;
    int times, seen;
} meddling;

/* The node that is being copied changes under the reader; a node that was reused is found under
 * its new generation afterwards. */
static void meddle(const char *point)
{
    if (strcmp(point, "order: node copied") == 0 && meddling.times != 0) {
        meddling.times -= meddling.times > 0;
        meddling.seen++;
        *meddling.word += meddling.add;
        if (meddling.add == 1)
            region->head->order[KV_ORDER_ROOT] += (uint64_t)1 << 32;
    }
}

static void changing_under_a_reader(void)
{
    uint64_t *root;
    kv_leaf leaf;
    key k;

    fill(DIGITS, 1000);
    k = *keys.at[500];
    root = (uint64_t *)(void *)kv_region_place(region, KV_NODES,
                                               (uint32_t)region->head->order[KV_ORDER_ROOT] - 1)
               .ptr;
    kv_test_pause = meddle;
    meddling.word = root;
    meddling.add = 1;
    meddling.times = 3;
    CHECK(found(&k) && meddling.seen == 3);
    /* An undo, which makes the version of a log grow. */
    meddling.word = root + KV_NODE_LOG;
    meddling.add = (uint64_t)1 << 32;
    meddling.times = 3;
    CHECK(found(&k) && meddling.seen == 6);
    /* One that never ends is damage, and no reason to wait. */
    meddling.times = -1;
    CHECK(kv_order_read(region, k.bytes, k.len, 0, &leaf) == KV_ECORRUPT && leaf.count == 0);
    kv_test_pause = NULL;
    *meddling.word &= 0xffffffff;
    CHECK(whole());
    stop();
}

/* A search in a leaf whose keys are in no order, as damage may leave it: beside the place it finds
 * is a key that is before on the left, and one that is not on the right, or the end. */
static void no_order(void)
{
    uint64_t buf[KV_NODE_WORDS] = {0};
    unsigned char *p = (unsigned char *)buf + KV_NODE_HEAD, what[2];
    int n, i, round, pos, equal, bad = 0;
    kv_probe k;
    kv_view v;

    for (round = 0; round < 20000; round++) {
        n = 1 + (int)below(70);
        for (i = 0; i < n; i++) {
            ((kv_half *)(void *)p)[i] = (kv_half)(2 * (i + 1));
            p[2 * n + 2 * i] = (unsigned char)below(round % 2 ? 8 : 256);
            p[2 * n + 2 * i + 1] = (unsigned char)below(4);
        }
        buf[2] = kv_node_header(0, n, 0, KV_NODE_HEAD + 4 * n);
        what[0] = (unsigned char)below(round % 2 ? 8 : 256);
        what[1] = (unsigned char)below(4);
        kv_probe_set(&k, what, 2);
        if (!CHECK(kv_node_view(buf, &v) && kv_node_search(&v, &k, &pos, &equal)))
            return;
        bad += pos < 0 || pos > n || (pos > 0 && memcmp(v.data + 2 * (pos - 1), what, 2) >= 0) ||
               (pos < n && memcmp(v.data + 2 * pos, what, 2) < 0);
    }
    CHECK(bad == 0);
}

static int key_order(const void *x, const void *y)
{
    const key *a = x, *b = y;
    int c = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Few bytes of few values: zeros at ends, and heads that are the same. */
static void any_key(key *k, uint32_t longest, uint32_t values)
{
    uint32_t i;

    k->len = 3 + below(longest);
    memset(k->bytes, 'p', 3);
    for (i = below(40) ? 3 : 2; i < k->len; i++)
        k->bytes[i] = (unsigned char)(below(values) * 255 / (values - 1));
}

/* The way an inner node shows, by its heads, is what its separators say one after the other. */
static void ways(void)
{
    static key keys_of[64];
    static kv_list l;
    uint64_t buf[KV_NODE_WORDS];
    int round, i, n, before, way, want, bad = 0, lost = 0;
    kv_probe p;
    kv_view v;
    key k;

    for (round = 0; round < 6000; round++) {
        uint32_t longest = 1 + below(9), values = 2 + below(round % 3 ? 5 : 200);

        n = 1 + (int)below(50);
        for (i = 0; i < n; i++)
            any_key(&keys_of[i], longest, values);
        qsort(keys_of, (size_t)n, sizeof keys_of[0], key_order);
        l.n = l.level = 1;
        memset(&l.it[0], 0, sizeof l.it[0]);
        for (i = 0; i < n; i++) {
            kv_list_item *t = &l.it[l.n];

            if (i > 0 && key_order(&keys_of[i - 1], &keys_of[i]) == 0)
                continue;
            memset(t, 0, sizeof *t);
            t->a = keys_of[i].bytes;
            t->alen = (uint32_t)keys_of[i].len;
            t->child = (uint64_t)++l.n;
        }
        if (!CHECK(kv_list_settle(&l) && kv_list_encode(&l, 0, l.n, buf) <= KV_NODE_CAP &&
                   kv_node_view(buf, &v)))
            return;
        for (i = 0; i < 40; i++) {
            if (below(3))
                any_key(&k, longest + 1, values);
            else
                k = keys_of[below((uint32_t)n)];
            kv_probe_set(&p, k.bytes, k.len);
            for (before = 0; before < 2; before++) {
                for (want = 0; want < l.n - 1; want++) {
                    key separator;

                    separator.len = kv_list_key(&l.it[want + 1], separator.bytes);
                    if (key_order(&separator, &k) > -before)
                        break;
                }
                bad += kv_node_way(&v, &p, before) != want;
            }
        }
        /* Heads that mean nothing lead nowhere outside of it. */
        for (i = 0; i < 10; i++) {
            ((unsigned char *)(uintptr_t)v.head)[below((uint32_t)(4 * v.entries))] ^=
                (unsigned char)(1 + below(255));
            way = kv_node_way(&v, &p, i % 2);
            lost += way < -1 || way > v.entries;
        }
    }
    CHECK(bad == 0 && lost == 0);
}

/* What a listing takes of a leaf: lengths that damage may have made are told apart. */
static void lengths(void)
{
    static const struct {
        uint16_t from, to;
        uint32_t len; /* with a prefix of 3 bytes, of 5 to 20 in all */
    } ends[] = {{0, 0, 0},    {0, 1, 0},   {0, 2, 5},        {7, 9, 5}, {0, 8, 11},
                {0, 9, 12},   {5, 22, 20}, {5, 23, 0},       {9, 8, 0}, {1000, 2, 0},
                {43, 50, 10}, {44, 51, 0}, {65000, 65010, 0}};
    unsigned char *base, out[64];
    kv_leaf_keys keys_of;
    kv_leaf leaf;
    size_t i, k;

    memset(&leaf, 0, sizeof leaf);
    base = (unsigned char *)leaf.node;
    leaf.count = 2;
    leaf.ends = 32;
    leaf.plen = 3;
    leaf.data = 32 + 4 + 3;
    leaf.dlen = 50;
    for (i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        for (k = 0; k < 64; k++)
            base[leaf.data + k] = (unsigned char)k;
        memcpy(base + leaf.ends, &ends[i].from, 2);
        memcpy(base + leaf.ends + 2, &ends[i].to, 2);
        keys_of = kv_leaf_short_keys(&leaf, 5, 20);
        memset(out, 0xee, sizeof out);
        CHECK(kv_leaf_short(&keys_of, 1, out) == ends[i].len);
        for (k = 3; k < ends[i].len; k++)
            CHECK(out[k] == ends[i].from + k - 3);
    }
    leaf.plen = 21; /* all are longer */
    keys_of = kv_leaf_short_keys(&leaf, 5, 20);
    for (i = 0; i < 3; i++) {
        uint16_t to = (uint16_t)i;

        memset(base + leaf.ends, 0, 2);
        memcpy(base + leaf.ends + 2, &to, 2);
        CHECK(kv_leaf_short(&keys_of, 1, out) == 0);
    }
}

int main(void)
{
    kv_dir_options o = {1, 0600, 0, 0};
    const char *given = getenv("SEED");
    int made, kind;

    if (given)
        seed = strtoull(given, NULL, 10);
    printf("test_order: SEED=%llu\n", (unsigned long long)seed);
    keys.at = malloc((MAX_KEYS + 1) * sizeof keys.at[0]);
    if (!CHECK(kv_dir_open(":memory:", &o, &dir, &made) == KV_OK))
        return check_done("test_order");
    empty();
    lengths();
    no_order();
    ways();
    no_room();
    for (kind = 0; kind < KINDS; kind++)
        random_steps(kind, dose(kind == LARGE || kind == DEEP || kind >= HALVES ? 250 : 500));
    in_order(0);
    in_order(1);
    in_turn();
    dense();
    for (kind = 0; kind < KINDS; kind++) {
        deaths(kind, dose(60), 1, 0);
        deaths(kind, dose(100), MOST_OPS, 0);
    }
    generation_first(DIGITS);
    generation_first(ANY);
    deaths(MIXED, 5, 1, 1);
    deaths(LARGE, 5, 3, 1);
    for (kind = 0; kind < KINDS; kind++)
        damage(kind, kind == DIGITS || kind == TINY ? 1500 : 150, dose(300));
    stale();
    three_leaves();
    odd_questions();
    changing_under_a_reader();
    in_use_and_free();
    printf("test_order: %llu keys in %llu runs of up to %d\n", (unsigned long long)runs.keys,
           (unsigned long long)runs.left, runs.longest);
    CHECK(runs.longest == KV_ORDER_RUN && runs.keys > 2 * runs.left);
    kv_dir_close(dir);
    free(keys.at);
    return check_done("test_order");
}
