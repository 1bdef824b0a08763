/* SPDX-License-Identifier: MIT
 *
 * test_read.c - the quick ways of reading a key against the thorough one: values of every type and
 * of sizes around each limit, in a store in memory and on disk, while segments come and go.
 * SEED=n repeats a run.
 */
#define _GNU_SOURCE
#include "check.h"
#include "several.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define KEYS 400

static uint64_t seed;
static kv_ns *ns, *other;
static kv *h;
static int64_t now; /* where the clock stands, ms */

static uint64_t any(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * 0x2545f4914f6cdd1dull >> 11) % n;
}

/* Keys of 1 to KV_MAX_KEY bytes, different ones for different numbers. */
static size_t key_of(unsigned n, char *key)
{
    size_t len = (size_t)n % 40 + 1, i;

    if (n % 40 == 39)
        len = KV_MAX_KEY - n / 40;
    else if (n % 40 == 38) /* about as many as a listing keeps beside it */
        len = 55 + n / 40;
    else if (len < 3 && n >= 3)
        len += 20;
    for (i = 0; i < len; i++)
        key[i] = (char)(n * 31 + i * 7);
    key[0] = (char)n;
    if (len > 1)
        key[len - 1] = (char)(n >> 8);
    return len;
}

static void put_any(unsigned n)
{
    static const uint32_t sizes[] = {0, 1, 7, 8, 100, 1000, 16000, 70000, 300000, 1100000};
    static char bytes[1100000];
    char key[KV_MAX_KEY];
    size_t len = key_of(n, key), i;
    kv_write w = {0};
    kv_value v = {0};

    v.type = (int32_t)any(KV_JSON) + 1;
    if (v.type == KV_STRING || v.type == KV_JSON) {
        v.len = sizes[any(20) ? any(7) : any(10)];
        v.data = bytes;
        for (i = 0; i < v.len; i += 61)
            bytes[i] = (char)any(256);
    } else {
        v.integer = v.type == KV_BOOLEAN ? (int64_t)any(2) : (int64_t)any(1u << 30) << 30;
        v.number = (double)any(1000) / 8;
    }
    if (any(4) == 0) {
        w.flags |= KV_TTL;
        w.ttl = any(2) ? 1000 + (int64_t)any(5000) : KV_MAX_TTL / 2;
    }
    if (any(4) == 0) {
        w.flags |= KV_META;
        w.meta = "{\"a\":1}";
        w.meta_len = 7;
    }
    CHECK(kv_put(ns, key, len, &v, &w, NULL, NULL) == KV_OK);
}

static int same(const kv_value *a, const kv_value *b)
{
    if (a->type != b->type)
        return 0;
    switch (a->type) {
    case KV_STRING:
    case KV_JSON:
        return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
    case KV_NUMBER:
        return memcmp(&a->number, &b->number, sizeof a->number) == 0;
    case KV_NULL:
        return 1;
    default:
        return a->integer == b->integer;
    }
}

/* A value of the namespace's scratch, kept. */
static kv_value kept(const kv_value *v)
{
    static char *bytes;
    kv_value copy = *v;

    free(bytes);
    bytes = malloc(v->len + 1);
    if (v->type == KV_STRING || v->type == KV_JSON) {
        memcpy(bytes, v->data, v->len);
        copy.data = bytes;
    }
    return copy;
}

/* All ways of reading key n agree. */
static void compare(unsigned n)
{
    char key[KV_MAX_KEY];
    size_t len = key_of(n, key);
    kv_value quick, thorough;
    kv_record r;
    int e, there = kv_get(ns, key, len, &r);

    CHECK(there == KV_OK || there == KV_ENOTFOUND);
    if (there == KV_OK)
        thorough = kept(&r.value);
    CHECK(kv_exists(ns, key, len) == there);
    e = kv_get_value(ns, key, len, &quick);
    CHECK(e == there && (e != KV_OK || same(&quick, &thorough)));
    e = kv_peek(ns, key, len, &quick);
    CHECK(e == there && (e != KV_OK || (same(&quick, &thorough) && kv_peek_held(ns))));
}

static void compare_all(void)
{
    static char bytes[KEYS][KV_MAX_KEY];
    const char *keys[KEYS];
    size_t lens[KEYS];
    unsigned n;

    for (n = 0; n < KEYS; n++) {
        lens[n] = key_of(n, bytes[n]);
        keys[n] = bytes[n];
    }
    /* Only a hint, for any number of keys. */
    kv_prefetch_keys(ns, keys, lens, any(KEYS + 1));
    for (n = 0; n < KEYS; n++)
        compare(n);
}

/* What a listing says of each key is what a get says; with and without values, one by one and
 * several at once. */
static void compare_listing(uint32_t flags, int many)
{
    kv_iter *it = malloc(kv_iter_size());
    uint64_t count = 0, listed = 0;
    kv_range range = {0};
    kv_record r, got;
    char key[KV_MAX_KEY];
    several some;
    int e;

    range.flags = flags;
    several_begin(&some, many);
    CHECK(kv_iter_init(it, ns, &range) == KV_OK);
    while ((e = several_next(&some, it, &r)) == KV_OK) {
        kv_value value = kept(&r.value);
        int64_t expires = r.expires, created = r.created, updated = r.updated;
        uint32_t len = r.key_len, meta = r.meta_len;
        uint64_t rev = r.rev, id = r.id;

        listed++;
        memcpy(key, r.key, len);
        CHECK(meta == 0 || memcmp(r.meta, "{\"a\":1}", 7) == 0);
        if (CHECK(kv_get(ns, key, len, &got) == KV_OK) && !(flags & KV_KEYS_ONLY)) {
            CHECK(got.expires == expires && got.meta_len == meta);
            if (flags & KV_NO_HISTORY)
                CHECK(rev == 0 && id == 0 && created == 0 && updated == 0);
            else
                CHECK(got.rev == rev && got.id == id && got.created == created &&
                      got.updated == updated);
            CHECK(flags & KV_NO_VALUES ? value.type == KV_NULL : same(&value, &got.value));
        }
    }
    CHECK(e == KV_ENOTFOUND);
    CHECK(kv_count(ns, NULL, &count) == KV_OK && count == listed);
    free(it);
}

static int open_at(const char *path)
{
    kv_options o;

    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    if (CHECK(kv_open(path, &o, &h) == KV_OK &&
              kv_namespace(h, "first", 5, NULL, 0, 1, &ns) == KV_OK &&
              kv_namespace(h, "other", 5, NULL, 0, 1, &other) == KV_OK))
        return 1;
    fprintf(stderr, "%s\n", kv_message());
    return 0;
}

static void close_all(void)
{
    kv_ns_close(ns);
    kv_ns_close(other);
    kv_close(h);
}

/* ---- names of a namespace without expirations and metadata, whose records nobody reads ---- */

static int at_pause; /* what happens when the slots of some names have been read */
static kv_ns *bare;

enum { NOTHING, EXPIRES, HAS_METADATA, IS_OVERWRITTEN, GOES };

static void put_bare(unsigned n, uint64_t flags)
{
    char key[KV_MAX_KEY];
    kv_value v = {0};
    kv_write w = {0};

    v.type = KV_NULL;
    w.flags = (uint32_t)flags;
    w.ttl = 1000;
    w.meta = "{}";
    w.meta_len = 2;
    CHECK(kv_put(bare, key, key_of(n, key), &v, &w, NULL, NULL) == KV_OK);
}

static void slots_read(const char *point)
{
    char key[KV_MAX_KEY];
    int what = at_pause;

    if (what == NOTHING || strcmp(point, "list: slots read") != 0)
        return;
    at_pause = NOTHING;
    if (what == GOES)
        CHECK(kv_delete(bare, key, key_of(0, key), NULL, NULL, NULL) == KV_OK);
    else
        put_bare(0, what == EXPIRES ? KV_TTL : what == HAS_METADATA ? KV_META : 0);
}

/* Lists the names; what happens meanwhile happens to key 0, which is the first. How many have an
 * expiration or metadata; *n: how many there are. */
static int list_bare(uint32_t flags, int many, int happens, int *n)
{
    kv_iter *it = malloc(kv_iter_size());
    char last[KV_MAX_KEY];
    kv_range range = {0};
    uint32_t last_len = 0;
    int e, details = 0;
    several some;
    kv_record r;

    *n = 0;
    range.flags = flags;
    several_begin(&some, many);
    at_pause = happens;
    CHECK(kv_iter_init(it, bare, &range) == KV_OK);
    while ((e = several_next(&some, it, &r)) == KV_OK) {
        int c = memcmp(last, r.key, last_len < r.key_len ? last_len : r.key_len);

        c = c ? c : (last_len > r.key_len) - (last_len < r.key_len);
        CHECK(last_len == 0 || (flags & KV_REVERSE ? c > 0 : c < 0));
        memcpy(last, r.key, last_len = r.key_len);
        CHECK(r.value.type == KV_NULL && r.rev == 0 && r.created == 0);
        details += r.expires != 0 || r.meta_len != 0;
        ++*n;
    }
    CHECK(e == KV_ENOTFOUND);
    free(it);
    return details;
}

static void test_bare(const char *path)
{
    const uint32_t names = KV_NO_VALUES | KV_NO_HISTORY;
    unsigned k;
    int happens, many, n, read;
    uint64_t count, keys;

    kv_test_pause = slots_read;
    for (happens = NOTHING; happens <= GOES; happens++) {
        if (!CHECK(kv_namespace(h, "bare", 4, NULL, 0, 1, &bare) == KV_OK))
            return;
        for (k = 0; k < KEYS; k++)
            put_bare(k, 0);
        for (many = 0; many < 2; many++) {
            CHECK(list_bare(names, many, NOTHING, &n) == 0 && n == KEYS);
            CHECK(list_bare(KV_KEYS_ONLY, many, NOTHING, &n) == 0 && n == KEYS);
            CHECK(list_bare(names | KV_REVERSE, many, NOTHING, &n) == 0 && n == KEYS);
        }
        /* It happens between reading slots and what is made of them. */
        read = list_bare(names, 1, happens, &n);
        CHECK(at_pause == NOTHING || happens == NOTHING);
        CHECK(n >= KEYS - 1 && read == (happens == EXPIRES || happens == HAS_METADATA));
        read = list_bare(names, 1, NOTHING, &n);
        CHECK(n == KEYS - (happens == GOES) &&
              read == (happens == EXPIRES || happens == HAS_METADATA));
        now += 1500;
        kv_test_clock_set(now);
        for (many = 0; many < 2; many++) {
            read = list_bare(names, many, NOTHING, &n);
            CHECK(read == (happens == HAS_METADATA));
            CHECK(n == KEYS - (happens == GOES || happens == EXPIRES));
        }
        CHECK(kv_count(bare, NULL, &count) == KV_OK && (int)count == n);
        CHECK(kv_check(h) == KV_OK);
        if (strcmp(path, ":memory:") != 0) {
            /* An index made of the log knows it as well. */
            uint64_t left = (uint64_t)n;

            kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
            kv_ns_close(bare);
            close_all();
            if (!open_at(path) || !CHECK(kv_namespace(h, "bare", 4, NULL, 0, 0, &bare) == KV_OK))
                return;
            CHECK(list_bare(names, 1, NOTHING, &n) == read && (uint64_t)n == left);
            CHECK(kv_check(h) == KV_OK);
        }
        kv_ns_close(bare);
        CHECK(kv_drop(h, "bare", 4, &keys) == KV_OK && (keys == count || happens == EXPIRES));
    }
    kv_test_pause = NULL;
}

/* Long ones, of which a listing's room does not hold as many as it reads at once. */
static void test_long_names(void)
{
    char key[KV_MAX_KEY];
    kv_value v = {0};
    uint64_t keys;
    int i, n, many;

    if (!CHECK(kv_namespace(h, "long", 4, NULL, 0, 1, &bare) == KV_OK))
        return;
    v.type = KV_NULL;
    memset(key, 'k', sizeof key);
    for (i = 0; i < 40; i++) {
        key[sizeof key - 1] = (char)('a' + i); /* so that many are in a leaf */
        CHECK(kv_put(bare, key, sizeof key, &v, NULL, NULL, NULL) == KV_OK);
    }
    for (many = 0; many < 2; many++) {
        CHECK(list_bare(KV_NO_VALUES | KV_NO_HISTORY, many, NOTHING, &n) == 0 && n == 40);
        CHECK(list_bare(KV_KEYS_ONLY | KV_REVERSE, many, NOTHING, &n) == 0 && n == 40);
    }
    kv_ns_close(bare);
    CHECK(kv_drop(h, "long", 4, &keys) == KV_OK && keys == 40);
}

/* What was peeked at is good until its segment goes, and not after. */
static void test_held(void)
{
    static const char filler[9000] = "x";
    char key[] = {'?', 'h', 'e', 'l', 'd'};
    kv_value v = {0}, seen;
    uint64_t done;
    int i, held = 1;

    v.type = KV_STRING;
    v.data = "value";
    v.len = 5;
    /* The first look may be the one that learns of the segment, and a key may be where only the
     * thorough way finds it. */
    for (i = 0; i < 20; i++) {
        key[0] = (char)('a' + i);
        CHECK(kv_put(ns, key, sizeof key, &v, NULL, NULL, NULL) == KV_OK);
        CHECK(kv_peek(ns, key, sizeof key, &seen) == KV_OK && same(&seen, &v));
        CHECK(kv_peek(ns, key, sizeof key, &seen) == KV_OK && same(&seen, &v));
        CHECK(kv_peek_held(ns));
        if (ns->peeked.p != NULL)
            break;
    }
    CHECK(i < 20);
    /* A string is not looked at for being whole before it was copied. */
    ((char *)(uintptr_t)seen.data)[2] ^= 4;
    CHECK(kv_peek(ns, key, sizeof key, &seen) == KV_OK && !kv_peek_held(ns));
    CHECK(kv_get_value(ns, key, sizeof key, &v) == KV_ECORRUPT);
    ((char *)(uintptr_t)seen.data)[2] ^= 4;
    CHECK(kv_peek_held(ns));
    v.type = KV_STRING;
    v.data = filler;
    v.len = sizeof filler;
    for (i = 0; held && i < 20000; i++) {
        CHECK(kv_put(other, "filler", 6, &v, NULL, NULL, NULL) == KV_OK);
        if (i % 16 == 0) {
            CHECK(kv_sync(h) == KV_OK);
            CHECK(kv_tick(h, 1000, &done) == KV_OK);
        }
        held = kv_peek_held(ns);
        if (held) /* only together with this do the bytes mean something */
            CHECK(memcmp(seen.data, "value", 5) == 0 || !kv_peek_held(ns));
    }
    CHECK(!held);
    CHECK(kv_get_value(ns, key, sizeof key, &seen) == KV_OK && seen.len == 5 &&
          memcmp(seen.data, "value", 5) == 0);
}

/* A hint changes nothing, whatever is given to it. */
static void test_expected(void)
{
    static const char long_key[KV_MAX_KEY + 1] = "x";
    unsigned n;
    uint64_t rev;
    kv_value v = {0};
    kv_ns *lazy;

    if (!CHECK(kv_namespace(h, "lazy", 4, NULL, 0, 1, &lazy) == KV_OK))
        return;
    rev = kv_rev(h);
    for (n = 0; n < KEYS; n++) {
        char key[KV_MAX_KEY];
        size_t len = key_of(n, key);

        kv_expect(ns, key, len);
        kv_expect(lazy, key, len);
    }
    kv_expect(ns, NULL, 1);
    kv_expect(ns, "", 0);
    kv_expect(ns, long_key, sizeof long_key);
    CHECK(kv_rev(h) == rev);
    v.type = KV_NULL;
    kv_expect(lazy, "a", 1);
    CHECK(kv_put(lazy, "a", 1, &v, NULL, NULL, NULL) == KV_OK);
    kv_ns_close(lazy);
}

static void test_in(const char *path)
{
    int i, k, many, rounds = getenv("KV_SHORT") ? 3 : 12;

    now = 1900000000000;
    kv_test_clock_set(now);
    if (!open_at(path))
        return;
    compare_all();
    for (i = 0; i < rounds; i++) {
        for (k = 0; k < KEYS / 2; k++) {
            unsigned n = (unsigned)any(KEYS);
            char key[KV_MAX_KEY];

            if (any(5) == 0) {
                int e = kv_delete(ns, key, key_of(n, key), NULL, NULL, NULL);
                CHECK(e == KV_OK || e == KV_ENOTFOUND);
            } else {
                put_any(n);
            }
        }
        now += 700;
        kv_test_clock_set(now);
        compare_all();
        for (many = 0; many < 2; many++) {
            compare_listing(0, many);
            compare_listing(KV_NO_VALUES, many);
            compare_listing(KV_NO_HISTORY, many);
            compare_listing(KV_NO_HISTORY | KV_NO_VALUES | KV_REVERSE, many);
            compare_listing(KV_KEYS_ONLY | KV_REVERSE, many);
        }
    }
    test_held();
    test_expected();
    test_bare(path);
    test_long_names();
    compare_all();
    CHECK(kv_check(h) == KV_OK);
    close_all();
}

int main(void)
{
    const char *given = getenv("SEED");
    char dir[] = "/dev/shm/test_read-XXXXXX", path[64], command[80];

    seed = given ? strtoull(given, NULL, 10) : (uint64_t)kv_os_monotonic() | 1;
    printf("test_read: SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    test_in(":memory:");
    if (CHECK(mkdtemp(dir) != NULL)) {
        snprintf(path, sizeof path, "%s/store", dir);
        test_in(path);
        snprintf(command, sizeof command, "rm -rf '%s'", dir);
        CHECK(system(command) == 0);
    }
    return check_done("test_read");
}
