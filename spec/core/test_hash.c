/* SPDX-License-Identifier: MIT
 *
 * test_hash.c - the lookup table against a plain array.
 *
 * Records are made up: an address is key number + 1 and a generation, so that whoever holds an
 * address knows the key. Keys hash in one of three ways: as in a store, into a handful of hashes
 * (long chains, all tags alike), or into few buckets with all tags. SEED=n repeats a run.
 */
#define _GNU_SOURCE
#include "hash.h"
#include "image.h"

#define KEYS     4096
#define KEY_BITS 13 /* of an address; keys up to 8191 */

/* The secret of the hash, where any will do. */
#define SEED0 0x9ae16a3b2f90404full
#define SEED1 0xc949c7defebe1f2bull

enum { SPREAD, ALIKE, CROWDED, WAYS };

typedef struct model {
    image m;
    int way;
    uint64_t addr[KEYS]; /* 0: not there */
    uint64_t count, generation;
} model;

/* What a body that may die is to do. */
typedef struct deed {
    model *t;
    int what;
    uint32_t key;
    uint64_t addr;
} deed;

enum { INSERT, REPLACE, REMOVE, MAINTAIN };

static uint64_t hash_of_key(const model *t, uint32_t key)
{
    uint64_t h = kv_hash_key(SEED0, SEED1, 3, &key, sizeof key);

    return t->way == ALIKE ? h % 37 * 0x10001 : t->way == CROWDED ? h & ~(uint64_t)0xf8 : h;
}

static uint64_t new_addr(model *t, uint32_t key)
{
    t->generation = (t->generation + 1) & ((1 << 20) - 1);
    return t->generation << KEY_BITS | (key + 1);
}

static uint32_t key_of(uint64_t addr)
{
    return (uint32_t)(addr & ((1 << KEY_BITS) - 1)) - 1;
}

static void begin(model *t, int way)
{
    memset(t, 0, sizeof *t);
    t->way = way;
    image_open(&t->m);
    kv_hash_init(&t->m.r, SEED0, SEED1);
}

/* CANDIDATE with c at the key's slot, or END; anything else fails. */
static int find(model *t, uint32_t key, kv_hash_scan *c)
{
    int rc;

    kv_hash_start(&t->m.r, hash_of_key(t, key), c);
    while ((rc = kv_hash_next(&t->m.r, c)) == KV_HASH_CANDIDATE) {
        CHECK((c->slot & KV_ADDR_MASK) != 0);
        if (key_of(c->slot & KV_ADDR_MASK) == key)
            break;
    }
    CHECK(rc == KV_HASH_CANDIDATE || rc == KV_HASH_END);
    return rc;
}

static uint64_t lookup(model *t, uint32_t key)
{
    kv_hash_scan c;

    return find(t, key, &c) == KV_HASH_CANDIDATE ? c.slot & KV_ADDR_MASK : 0;
}

static void perform(void *arg)
{
    deed *d = arg;
    kv_region *r = &d->t->m.r;
    kv_hash_scan c;

    if (d->what == MAINTAIN) {
        CHECK(kv_hash_maintain(r) >= 0);
        return;
    }
    if (d->what != INSERT && !CHECK(find(d->t, d->key, &c) == KV_HASH_CANDIDATE))
        return;
    kv_txn_begin(r);
    if (d->what == INSERT)
        CHECK(kv_hash_insert(r, hash_of_key(d->t, d->key), d->addr) == KV_OK);
    else if (d->what == REPLACE)
        kv_hash_replace(r, &c, d->addr);
    else
        kv_hash_remove(r, &c);
    kv_txn_end(r);
}

/* The model after the deed. */
static void note(const deed *d)
{
    model *t = d->t;

    if (d->what == MAINTAIN)
        return;
    t->count += (d->what == INSERT) - (uint64_t)(d->what == REMOVE);
    t->addr[d->key] = d->what == REMOVE ? 0 : d->addr;
}

/* A random deed; `fill` in 0..100 says how many of the keys should be there. */
static deed choose(model *t, unsigned fill)
{
    deed d;

    d.t = t;
    d.key = (uint32_t)image_below(KEYS);
    d.addr = new_addr(t, d.key);
    if (image_below(8) == 0)
        d.what = MAINTAIN;
    else if (!t->addr[d.key] == (image_below(100) < fill))
        d.what = t->addr[d.key] ? REMOVE : INSERT;
    else if (t->addr[d.key])
        d.what = REPLACE;
    else
        d.what = INSERT;
    return d;
}

static void room(model *t)
{
    image_room(&t->m, KV_OVERFLOW, KV_HASH_ROOM + 40);
    if (kv_hash_wants_room(&t->m.r))
        image_room(&t->m, KV_BUCKETS, kv_region_room(&t->m.r, KV_BUCKETS) + 64);
}

static int visit(void *arg, uint64_t bucket, uint64_t slot)
{
    model *t = arg;
    uint64_t addr = slot & KV_ADDR_MASK;
    uint32_t key = key_of(addr);

    (void)bucket;
    if (!CHECK(key < KEYS))
        return 1;
    CHECK(kv_hash_tag(hash_of_key(t, key)) == (slot & ~KV_ADDR_MASK));
    CHECK(t->addr[key] == addr);
    t->count--;
    return 0;
}

/* The table holds what the model holds, each once. */
static void compare(model *t)
{
    uint64_t count = t->count;

    CHECK(kv_hash_each(&t->m.r, visit, t) == 0);
    CHECK(t->count == 0);
    t->count = count;
}

static void sound(model *t)
{
    if (!CHECK(kv_hash_check(&t->m.r) == KV_OK))
        image_die("check");
}

/* ---- the hash function ---- */

/* a * b by halves: *high and the result are the product's two words. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t mid = a1 * b0 + (a0 * b0 >> 32), low = a0 * b1 + (uint32_t)mid;

    *high = a1 * b1 + (mid >> 32) + (low >> 32);
    return a * b;
}

static uint64_t bytes(const unsigned char *p, size_t n)
{
    uint64_t w = 0;

    while (n-- > 0)
        w = w << 8 | p[n];
    return w;
}

/* What hash.h says, byte by byte. */
static uint64_t slow_hash(uint64_t k0, uint64_t k1, uint32_t ns, const unsigned char *p, size_t len)
{
    uint64_t state = k1, a, b, low, high;
    size_t at = 0;

    while (len - at > 16) {
        low = multiply(bytes(p + at, 8) ^ k0, bytes(p + at + 8, 8) ^ state, &high);
        state = low ^ high;
        at += 16;
    }
    if (len >= 8) {
        a = bytes(len > 16 ? p + len - 16 : p, 8);
        b = bytes(p + len - 8, 8);
    } else if (len >= 4) {
        a = bytes(p, 4);
        b = bytes(p + len - 4, 4);
    } else {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[len / 2] << 8 | p[len - 1];
        b = 0;
    }
    low = multiply(a ^ k0, b ^ state, &high);
    low = multiply(low ^ k0 ^ ((uint64_t)ns << 32 | len), high ^ k1, &high);
    return low ^ high;
}

static void test_key(void)
{
    unsigned char text[80];
    size_t len, i;

    for (len = 1; len <= sizeof text; len++) {
        uint64_t k0 = image_random() << 20, k1 = ~image_random();
        uint32_t ns = (uint32_t)image_random();
        unsigned char *key = malloc(len); /* so that reading beyond it shows */

        for (i = 0; i < len; i++)
            key[i] = (unsigned char)image_random();
        CHECK(kv_hash_key(k0, k1, ns, key, len) == slow_hash(k0, k1, ns, key, len));
        free(key);
    }
}

/* Key n of a family that programs use, or that a weak function would not spread. */
static size_t family_key(int family, uint32_t n, char *key)
{
    switch (family) {
    case 0:
        return (size_t)sprintf(key, "user:%07u", (unsigned)n);
    case 1:
        return (size_t)sprintf(key, "%u", (unsigned)n);
    case 2:
        memcpy(key, &n, 4);
        return 4;
    case 3: /* in the last bytes of a long one */
        return (size_t)sprintf(key, "a/rather/long/path/to/an/object/%06x", (unsigned)n);
    case 4: /* in its first */
        return (size_t)sprintf(key, "%06x/a/rather/long/path/to/an/object", (unsigned)n);
    case 5: /* the two words multiplied are alike */
        memset(key, 0, 16);
        memcpy(key, &n, 4);
        memcpy(key + 8, &n, 4);
        return 16;
    default: /* two bits of 64 bytes; 0: there is no such pair */
        memset(key, 0, 64);
        key[n % 64] = (char)(1 << n / 64 % 8);
        key[n / 512 % 64] ^= (char)(1 << n / 512 / 64);
        return n % 512 < n / 512 ? 64 : 0;
    }
}

/* Keys of each family fall into 65,536 places as if drawn by lot: by the bits that place a key, and
 * by those that make its tag. */
static void test_spread(void)
{
    enum { PLACES = 65536 };
    static uint32_t count[2][PLACES];
    char key[80];
    int family, way;
    uint32_t n, i;

    for (family = 0; family < 7; family++) {
        uint64_t k0 = image_random() << 21 ^ image_random(), k1 = image_random() << 21 ^ k0 >> 3;
        uint32_t each = 0;

        memset(count, 0, sizeof count);
        for (n = 0; n < 4 * PLACES; n++) {
            size_t len = family_key(family, n, key);
            uint64_t h = kv_hash_key(k0, k1, 7, key, len);

            if (len == 0)
                continue;
            each++;
            count[0][h % PLACES]++;
            count[1][(kv_hash_tag(h) >> KV_ADDR_BITS >> 6) % PLACES]++;
        }
        for (way = 0; way < 2; way++) {
            double mean = (double)each / PLACES, chi = 0;

            for (i = 0; i < PLACES; i++)
                chi += (count[way][i] - mean) * (count[way][i] - mean) / mean;
            /* PLACES - 1 on average, with a deviation of 362. */
            if (!CHECK(chi < PLACES + 8 * 362.0))
                fprintf(stderr, "family %d, bits %d: %.0f\n", family, way, chi);
        }
    }
}

/* Each bit of a key changes each bit of the hash that counts in half the cases, and so does the
 * secret's. */
static void test_avalanche(void)
{
    static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 32, 33, 64};
    enum { TIMES = 300 };
    unsigned char key[64];
    size_t l, bit, i;
    int t, k, flips;

    for (l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (bit = 0; bit < 8 * lengths[l] + 128; bit++) {
            size_t len = lengths[l];

            flips = 0;
            for (t = 0; t < TIMES; t++) {
                uint64_t seed[2], a;

                for (i = 0; i < len; i++)
                    key[i] = (unsigned char)image_random();
                seed[0] = image_random() << 21 ^ image_random();
                seed[1] = image_random() << 21 ^ image_random();
                a = kv_hash_key(seed[0], seed[1], 1, key, len);
                if (bit < 8 * len)
                    key[bit / 8] ^= (unsigned char)(1 << bit % 8);
                else
                    seed[(bit - 8 * len) / 64] ^= (uint64_t)1 << (bit - 8 * len) % 64;
                for (a ^= kv_hash_key(seed[0], seed[1], 1, key, len), k = 0; k < 30; k++)
                    flips += a >> k & 1;
            }
            /* 4500 on average, with a deviation of 47. */
            if (!CHECK(flips > 4500 - 9 * 47 && flips < 4500 + 9 * 47))
                fprintf(stderr, "length %zu, bit %zu: %d of 9000\n", len, bit, flips);
        }
    /* Zeros more or less make another key, and another namespace too. */
    memset(key, 0, sizeof key);
    for (i = 1; i <= 40; i++)
        for (l = 1; l < i; l++)
            CHECK(kv_hash_key(SEED0, SEED1, 1, key, i) != kv_hash_key(SEED0, SEED1, 1, key, l) &&
                  kv_hash_key(SEED0, SEED1, 1, key, i) != kv_hash_key(SEED0, SEED1, 2, key, i));
}

/* ---- the table ---- */

static void test_model(int way, int steps, int check_every)
{
    static model t;
    unsigned fill = 50;
    int i, splits = 0;
    uint32_t key;

    begin(&t, way);
    for (i = 0; i < steps; i++) {
        deed d = choose(&t, fill);

        if (i % (steps / 6 + 1) == 0)
            fill = (unsigned)image_below(3) * 45 + 5;
        room(&t);
        perform(&d);
        note(&d);
        if (image_below(3)) {
            int did = kv_hash_maintain(&t.m.r);

            splits += did;
            CHECK(did >= 0);
        }
        key = (uint32_t)image_below(KEYS);
        CHECK(lookup(&t, key) == t.addr[key]);
        CHECK(lookup(&t, d.key) == t.addr[d.key]);
        CHECK(t.m.r.head->hash[KV_HASH_ENTRIES] == t.count);
        if (i % check_every == 0) {
            sound(&t);
            compare(&t);
        }
    }
    CHECK(splits > 0 || steps < 3000);
    for (key = 0; key < KEYS; key++)
        CHECK(lookup(&t, key) == t.addr[key]);
    /* Emptied, it gives back every overflow bucket. */
    for (key = 0; key < KEYS; key++)
        if (t.addr[key]) {
            deed d = {&t, REMOVE, key, 0};

            perform(&d);
            note(&d);
            while (kv_hash_maintain(&t.m.r) > 0)
                continue;
        }
    sound(&t);
    compare(&t);
    CHECK(t.m.r.head->hash[KV_HASH_OVERFLOWS] == 0);
    image_close(&t.m);
}

/* What one look at a bucket tells, against looking at its slots one by one. */
static void test_pick(void)
{
    static model t;
    uint64_t w[8], least, limit;
    int i, n;

    for (n = 0; n < 20000; n++) {
        uint64_t hash = (uint64_t)image_below(3) << 6 | image_below(64), tag = kv_hash_tag(hash);

        for (i = 0; i < 8; i++)
            w[i] = image_below(4) == 0 ? 0
                                       : kv_hash_tag((uint64_t)image_below(6) << 6) |
                                             (image_below(KV_ADDR_MASK) + 1);
        for (i = 0, least = KV_ADDR_MASK + 1; i < 7; i++)
            if ((w[i] & ~KV_ADDR_MASK) == tag && (w[i] & KV_ADDR_MASK) < least)
                least = w[i] & KV_ADDR_MASK;
        CHECK(kv_hash_pick(w, hash) == (least > KV_ADDR_MASK ? 0 : least));
    }
    begin(&t, SPREAD);
    room(&t);
    for (n = 0; n < 100; n++) {
        deed d = {&t, INSERT, (uint32_t)n, new_addr(&t, (uint32_t)n)};

        perform(&d);
        note(&d);
    }
    for (n = 0; n < 100; n++)
        CHECK(kv_hash_glance(&t.m.r, hash_of_key(&t, (uint32_t)n)) == t.addr[n]);
    limit = t.m.r.limit[KV_BUCKETS];
    t.m.r.limit[KV_BUCKETS] = 0; /* this process has mapped none of them */
    CHECK(kv_hash_glance(&t.m.r, hash_of_key(&t, 1)) == 0);
    t.m.r.limit[KV_BUCKETS] = limit;
    image_close(&t.m);
}

/* No maintenance for a long time: chains as long as they get, cleaned in several transactions each.
 * Beyond that an insert refuses, and changes nothing. */
static void test_long_chains(void)
{
    static model t;
    kv_region *r = &t.m.r;
    uint64_t count = (uint64_t)KV_MAX_KEY * 150, n;
    kv_hash_scan c;
    int rc = KV_OK;

    begin(&t, SPREAD);
    for (n = 0; n < count; n++) {
        image_room(&t.m, KV_OVERFLOW, KV_HASH_ROOM);
        kv_txn_begin(r);
        CHECK(kv_hash_insert(r, kv_hash_key(SEED0, SEED1, 3, &n, 8), n + 1) == KV_OK);
        kv_txn_end(r);
    }
    CHECK(r->head->hash[KV_HASH_COUNT] == 64);
    sound(&t);
    image_room(&t.m, KV_OVERFLOW, 200);
    image_room(&t.m, KV_BUCKETS, count / 4);
    while ((rc = kv_hash_maintain(r)) > 0)
        if (image_below(500) == 0)
            sound(&t);
    CHECK(rc == 0);
    sound(&t);
    CHECK(r->head->hash[KV_HASH_COUNT] * KV_HASH_LOAD >= count);
    CHECK(r->head->hash[KV_HASH_ENTRIES] == count);
    for (n = 0; n < count; n++) {
        kv_hash_start(r, kv_hash_key(SEED0, SEED1, 3, &n, 8), &c);
        while ((rc = kv_hash_next(r, &c)) == KV_HASH_CANDIDATE && (c.slot & KV_ADDR_MASK) != n + 1)
            continue;
        CHECK(rc == KV_HASH_CANDIDATE);
    }
    /* One hash for all. */
    for (n = 0; rc >= 0 && n < 3000; n++) {
        image_room(&t.m, KV_OVERFLOW, KV_HASH_ROOM);
        kv_txn_begin(r);
        rc = kv_hash_insert(r, 5, n + 1);
        kv_txn_end(r);
    }
    CHECK(rc == KV_ECORRUPT && n > 1500);
    sound(&t);
    CHECK(r->head->hash[KV_HASH_ENTRIES] == count + n - 1);
    image_close(&t.m);
}

/* Without room there are no splits and, once it comes to that, no inserts; nothing breaks. */
static void test_no_room(void)
{
    static model t;
    kv_region *r = &t.m.r;
    uint64_t n;
    int rc = KV_OK;

    begin(&t, SPREAD);
    CHECK(!kv_hash_wants_room(r));
    for (n = 0; rc == KV_OK && n < 10000; n++) {
        kv_txn_begin(r);
        rc = kv_hash_insert(r, kv_hash_key(SEED0, SEED1, 3, &n, 8), n + 1);
        kv_txn_end(r);
        CHECK(kv_hash_maintain(r) == 0);
    }
    CHECK(rc == KV_EFULL && n > 64 * 7);
    CHECK(kv_hash_wants_room(r));
    sound(&t);
    /* Buckets, but no overflow buckets: splits go on as far as they need none; then all the way. */
    image_room(&t.m, KV_BUCKETS, 300);
    while (kv_hash_maintain(r) > 0)
        sound(&t);
    image_room(&t.m, KV_OVERFLOW, 3);
    while (kv_hash_maintain(r) > 0)
        sound(&t);
    CHECK(r->head->hash[KV_HASH_COUNT] * KV_HASH_LOAD >= r->head->hash[KV_HASH_ENTRIES]);
    image_close(&t.m);
}

static void test_big(uint64_t count)
{
    static model t;
    kv_region *r = &t.m.r;
    kv_hash_scan c;
    uint64_t n, candidates = 0;
    int rc;

    begin(&t, SPREAD);
    for (n = 0; n < count; n++) {
        image_room(&t.m, KV_OVERFLOW, KV_HASH_ROOM + 8);
        if (kv_hash_wants_room(r))
            image_room(&t.m, KV_BUCKETS,
                       kv_region_room(r, KV_BUCKETS) + r->head->ready[KV_BUCKETS] / 8);
        kv_txn_begin(r);
        CHECK(kv_hash_insert(r, kv_hash_key(SEED0, SEED1, 3, &n, 8), n + 1) == KV_OK);
        kv_txn_end(r);
        CHECK(kv_hash_maintain(r) >= 0);
    }
    sound(&t);
    CHECK(r->head->hash[KV_HASH_COUNT] * KV_HASH_LOAD + KV_HASH_LOAD >= count);
    CHECK(count < 1000 || r->head->hash[KV_HASH_COUNT] * KV_HASH_LOAD <= count + KV_HASH_LOAD);
    for (n = 0; n < count * 2; n++) {
        kv_hash_start(r, kv_hash_key(SEED0, SEED1, 3, &n, 8), &c);
        while ((rc = kv_hash_next(r, &c)) == KV_HASH_CANDIDATE) {
            candidates += n >= count;
            if ((c.slot & KV_ADDR_MASK) == n + 1)
                break;
        }
        CHECK(rc == (n < count ? KV_HASH_CANDIDATE : KV_HASH_END));
    }
    CHECK(candidates < count / 100); /* tags tell strangers */
    image_close(&t.m);
}

/* ---- death ---- */

/* After recovery: the deed is done, or not at all; which, the table says. 1: done. */
static int settle(model *t, const deed *d, int dying)
{
    deed clean = {t, MAINTAIN, 0, 0};
    uint64_t got;
    int done;

    image_recover(&t->m, dying);
    sound(t);
    /* Readers find everything before the clean-up, too. */
    got = d->what == MAINTAIN ? 0 : lookup(t, d->key);
    if (t->m.r.head->hash[KV_HASH_PENDING]) {
        if (dying) {
            int64_t n = 1 + (int64_t)image_below(40);

            while (!image_jump(n, perform, &clean)) {
                image_recover(&t->m, 0);
                sound(t);
                n += 3;
            }
        } else {
            perform(&clean);
        }
        CHECK(t->m.r.head->hash[KV_HASH_PENDING] == 0);
    }
    if (d->what == MAINTAIN) {
        done = 1;
    } else {
        uint64_t after = d->what == REMOVE ? 0 : d->addr;

        CHECK(got == after || got == t->addr[d->key]);
        done = got == after;
        if (done)
            note(d);
    }
    sound(t);
    compare(t);
    return done;
}

static void test_death(int way, int steps, int (*kill)(int64_t n, void (*)(void *), void *))
{
    static model t, before;
    static image_copy copy;
    unsigned fill = 70;
    uint64_t deaths = 0;
    int i, lived, maintained = 0;

    begin(&t, way);
    for (i = 0; i < 1500; i++) { /* nothing maintained: enough to split for a while */
        deed d = choose(&t, fill);

        room(&t);
        if (d.what == MAINTAIN)
            continue;
        perform(&d);
        note(&d);
    }
    for (i = 0; i < steps; i++) {
        deed d = choose(&t, fill);
        int64_t n;

        if (i % 25 == 0)
            fill = fill == 20 ? 80 : 20;
        if (i % 3 == 0 || t.m.r.head->hash[KV_HASH_TIDY])
            d.what = MAINTAIN;
        room(&t);
        image_save(&t.m, &copy);
        before = t;
        for (n = 1;; n++) {
            lived = kill(n, perform, &d);
            maintained += d.what == MAINTAIN;
            if (lived)
                break;
            deaths++;
            /* Often on from here, with the same or another deed: it meets what the death left. */
            if (!settle(&t, &d, n % 7 == 0) || d.what == MAINTAIN) {
                if (image_below(12) == 0)
                    break;
                if (image_below(2))
                    continue;
            }
            image_restore(&t.m, &copy);
            memcpy(t.addr, before.addr, sizeof t.addr);
            t.count = before.count;
        }
        if (lived)
            note(&d);
        sound(&t);
        compare(&t);
    }
    CHECK(deaths > (steps < 100 ? 0 : (uint64_t)steps));
    CHECK(maintained > 0 || steps < 10);
    image_forget(&copy);
    image_close(&t.m);
}

static int count_visits(void *arg, uint64_t bucket, uint64_t slot)
{
    (void)bucket;
    (void)slot;
    ++*(uint64_t *)arg;
    return 0;
}

/* A split that died has left its entries in a bucket it gave back; who takes that next must not
 * inherit them. */
static void test_leftovers(void)
{
    static model t;
    static image_copy copy;
    kv_region *r = &t.m.r;
    deed split = {&t, MAINTAIN, 0, 0};
    uint64_t addr = 0, seen;
    int64_t n;
    int i;

    begin(&t, SPREAD);
    image_room(&t.m, KV_OVERFLOW, 300);
    image_room(&t.m, KV_BUCKETS, 10);
    for (i = 0; i < 20 + 7 + 300; i++) { /* bucket 0, its twin to be; bucket 1, full; others */
        kv_txn_begin(r);
        CHECK(kv_hash_insert(r, i < 20 ? 64 : i < 27 ? 1 : 2 + (uint64_t)i % 62, ++addr) == KV_OK);
        kv_txn_end(r);
    }
    image_save(&t.m, &copy);
    for (n = 1; !image_jump(n, perform, &split); n++) {
        image_recover(&t.m, 0);
        while (r->head->hash[KV_HASH_PENDING])
            perform(&split);
        kv_txn_begin(r);
        CHECK(kv_hash_insert(r, 1, addr + 1) == KV_OK);
        kv_txn_end(r);
        sound(&t);
        seen = 0;
        CHECK(kv_hash_each(r, count_visits, &seen) == 0 && seen == addr + 1);
        image_restore(&t.m, &copy);
    }
    CHECK(n > 40);
    image_forget(&copy);
    image_close(&t.m);
}

/* ---- readers between any two stores ---- */

/*
 * The hook of the store helper runs readers in the middle of the writer's work. All keys of a group
 * have one hash, so a scan for it returns each of them, and may be held at each: walkers start,
 * advance and finish at every store there is, also those of an undo. One that ends well must have
 * met all keys that are there throughout.
 */
#define WALKERS 1500
#define GROUPS  2

typedef struct walker {
    kv_hash_scan c;
    uint64_t seen;
    int group, rc;
} walker;

static struct {
    kv_region *r;
    walker *walkers;
    int count, dying;
    uint64_t hash[GROUPS], lasting[GROUPS]; /* keys 0..63, as bits */
    uint64_t ended, again, missed, damaged;
} yard;

static void walk(walker *w, int steps)
{
    while (w->rc == KV_HASH_CANDIDATE && steps-- > 0) {
        w->rc = kv_hash_next(yard.r, &w->c);
        if (w->rc == KV_HASH_CANDIDATE && (w->c.slot & KV_ADDR_MASK) <= 64)
            w->seen |= (uint64_t)1 << ((w->c.slot & KV_ADDR_MASK) - 1);
    }
}

static void finish(const walker *at)
{
    walker w = *at;

    walk(&w, 10000);
    yard.ended += w.rc == KV_HASH_END;
    yard.again += w.rc == KV_HASH_AGAIN;
    yard.damaged += w.rc == KV_HASH_DAMAGED || w.rc == KV_HASH_CANDIDATE;
    yard.missed += w.rc == KV_HASH_END && (yard.lasting[w.group] & ~w.seen) != 0;
}

static void between_stores(void)
{
    int i, group, steps;

    kv_test_die_at = 0;
    for (i = 0; i < yard.count; i++) {
        if (image_below(16) == 0)
            walk(&yard.walkers[i], 1 + (int)image_below(8));
        finish(&yard.walkers[i]);
    }
    for (group = 0; group < GROUPS; group++)
        for (steps = (int)image_below(3); steps < 24; steps += 3) {
            walker *w =
                &yard.walkers[yard.count < WALKERS ? yard.count++ : (int)image_below(WALKERS)];

            memset(w, 0, sizeof *w);
            w->group = group;
            w->rc = KV_HASH_CANDIDATE;
            kv_hash_start(yard.r, yard.hash[group], &w->c);
            walk(w, steps);
            finish(w);
        }
    if (yard.dying && image_below(40) == 0)
        longjmp(image_grave, 1);
    kv_test_die_at = 1; /* the next store, too */
}

/* As image_jump, with the hook in place. */
static int watched(void (*body)(void *), void *arg, int dying)
{
    int lived = 1;

    yard.dying = dying;
    kv_test_die = between_stores;
    if (setjmp(image_grave)) {
        lived = 0;
    } else {
        kv_test_die_at = 1;
        body(arg);
    }
    kv_test_die_at = 0;
    return lived;
}

typedef struct errand {
    kv_region *r;
    int what;
    uint64_t hash, addr;
} errand;

static void run_errand(void *arg)
{
    errand *e = arg;
    kv_hash_scan c;
    int rc;

    if (e->what == MAINTAIN) {
        CHECK(kv_hash_maintain(e->r) >= 0);
        return;
    }
    if (e->what == REMOVE) {
        kv_hash_start(e->r, e->hash, &c);
        while ((rc = kv_hash_next(e->r, &c)) == KV_HASH_CANDIDATE &&
               (c.slot & KV_ADDR_MASK) != e->addr)
            continue;
        if (rc != KV_HASH_CANDIDATE)
            return; /* a second attempt after a death */
    }
    kv_txn_begin(e->r);
    if (e->what == INSERT)
        CHECK(kv_hash_insert(e->r, e->hash, e->addr) == KV_OK);
    else
        kv_hash_remove(e->r, &c);
    kv_txn_end(e->r);
}

static void undo_watched(void *arg)
{
    CHECK(kv_txn_undo(arg, NULL) == KV_OK);
    kv_txn_end(arg);
}

static void do_errand(kv_region *r, int what, uint64_t hash, uint64_t addr, int dying)
{
    errand e = {r, what, hash, addr}, clean = {r, MAINTAIN, 0, 0};

    while (!watched(run_errand, &e, dying)) {
        while (!watched(undo_watched, r, dying))
            continue;
        while (r->head->hash[KV_HASH_PENDING] && !watched(run_errand, &clean, 0))
            continue;
        if (what == INSERT && addr > 64)
            return; /* a stranger: there or not */
        CHECK(what != INSERT);
    }
}

static void test_interleaved(int rounds)
{
    int i, j, round;

    yard.walkers = calloc(WALKERS, sizeof *yard.walkers);
    for (round = 0; round < rounds; round++) {
        image m;
        kv_region *r = &m.r;
        uint64_t key, strangers = 1000, gone = 0;

        image_open(&m);
        kv_hash_init(r, SEED0, SEED1);
        image_room(&m, KV_OVERFLOW, 100);
        image_room(&m, KV_BUCKETS, 100);
        yard.r = r;
        yard.count = 0;
        yard.hash[0] = 128; /* both in bucket 0; the first split moves group 1 to bucket 64 */
        yard.hash[1] = 128 | 64;
        yard.lasting[0] = yard.lasting[1] = 0;
        for (i = round % 2 ? 300 : 0; i > 0; i--) { /* so many that it splits */
            errand e = {r, INSERT, 2 + image_below(62), ++strangers};

            run_errand(&e);
        }
        for (key = 0; key < 10 + image_below(54); key++) {
            int group = (int)image_below(3) > 0;
            errand e = {r, INSERT, yard.hash[group], key + 1};

            run_errand(&e);
            yard.lasting[group] |= (uint64_t)1 << key;
        }
        for (i = (int)image_below(50); i > 0; i--) { /* holes */
            int group = (int)image_below(2);
            uint64_t bit = (uint64_t)1 << image_below(64);
            errand e = {r, REMOVE, yard.hash[group], (uint64_t)__builtin_ctzll(bit) + 1};

            if (yard.lasting[group] & bit) {
                run_errand(&e);
                yard.lasting[group] &= ~bit;
            }
        }
        for (i = 0; i < 6; i++) { /* keys that go while others look */
            int group = (int)image_below(2);
            uint64_t bit = (uint64_t)1 << image_below(64);

            do_errand(r, MAINTAIN, 0, 0, round % 4 > 1);
            if (yard.lasting[group] & bit) {
                yard.lasting[group] &= ~bit;
                gone++;
                do_errand(r, REMOVE, yard.hash[group], (uint64_t)__builtin_ctzll(bit) + 1,
                          round % 4 > 1);
            }
            /* Others take what was freed, and come into the chain. */
            for (j = (int)image_below(10); j > 0; j--)
                do_errand(r, INSERT, image_below(3) ? 1 : yard.hash[image_below(2)], ++strangers,
                          round % 4 > 1);
        }
        CHECK(kv_hash_check(r) == KV_OK);
        image_close(&m);
    }
    CHECK(yard.missed == 0);
    CHECK(yard.damaged == 0);
    CHECK(yard.ended > 0);
    CHECK(yard.again > 0);
    printf("interleaved: %llu walks ended, %llu had to start again\n",
           (unsigned long long)yard.ended, (unsigned long long)yard.again);
    free(yard.walkers);
}

/* ---- damage ---- */

static void scribble(model *t)
{
    static const int words[] = {KV_HASH_COUNT, KV_HASH_ENTRIES, KV_HASH_PENDING,
                                KV_HASH_TIDY,  KV_HASH_FREE,    KV_HASH_OVERFLOWS};
    kv_head *h = t->m.r.head;
    uint64_t *word;
    int n = 1 + (int)image_below(4);

    while (n-- > 0) {
        uint64_t id = image_random(), kind = image_below(10);
        uint64_t value = image_below(2) ? image_random() << image_below(40) : image_below(300);

        if (kind == 0)
            word = &h->hash[words[image_below(6)]];
        else if (kind < 5)
            word = (uint64_t *)(void *)kv_region_place(&t->m.r, KV_BUCKETS,
                                                       (uint32_t)(id % h->used[KV_BUCKETS]))
                       .ptr +
                   image_below(8);
        else
            word = (uint64_t *)(void *)kv_region_place(&t->m.r, KV_OVERFLOW,
                                                       (uint32_t)(id % h->ready[KV_OVERFLOW]))
                       .ptr +
                   (image_below(2) ? 7 : image_below(8));
        if (image_below(3) == 0)
            value = *word ^ (uint64_t)1 << image_below(64);
        *word = value;
    }
}

static void test_damage(int way, int rounds)
{
    static model t;
    static image_copy copy;
    kv_region *r = &t.m.r;
    uint64_t seen = 0, found = 0;
    int i, j, k;

    begin(&t, way);
    for (i = 0; i < 4000; i++) {
        deed d = choose(&t, 60);

        room(&t);
        perform(&d);
        note(&d);
    }
    image_save(&t.m, &copy);
    for (i = 0; i < rounds; i++) {
        scribble(&t);
        found += kv_hash_check(r) == KV_ECORRUPT;
        (void)kv_hash_each(r, count_visits, &seen);
        for (j = 0; j < 100; j++) {
            uint64_t hash = hash_of_key(&t, (uint32_t)image_below(KEYS));
            kv_hash_scan c;
            int rc;

            kv_hash_prefetch(r, hash);
            kv_hash_start(r, hash, &c);
            for (k = 0; (rc = kv_hash_next(r, &c)) == KV_HASH_CANDIDATE && k < 5000; k++)
                if (image_below(10) == 0)
                    break;
            CHECK(k < 5000);
            kv_txn_begin(r);
            if (rc == KV_HASH_CANDIDATE && image_below(2))
                kv_hash_remove(r, &c);
            else if (rc == KV_HASH_CANDIDATE)
                kv_hash_replace(r, &c, 77);
            else
                (void)kv_hash_insert(r, hash, 78);
            kv_txn_end(r);
            (void)kv_hash_maintain(r);
            (void)kv_hash_wants_room(r);
        }
        image_restore(&t.m, &copy);
    }
    CHECK(found > (uint64_t)rounds / 2);
    sound(&t);
    compare(&t);
    image_forget(&copy);
    image_close(&t.m);
}

int main(void)
{
    int way;

    image_start("test_hash");
    test_key();
    test_spread();
    test_avalanche();
    test_pick();
    for (way = 0; way < WAYS; way++) {
        test_model(way, image_steps(4000), 1);
        test_model(way, image_steps(60000), 1000);
        test_death(way, image_steps(120), image_jump);
        test_death(way, image_steps(6), image_fork);
        test_damage(way, image_steps(400));
    }
    test_leftovers();
    test_interleaved(image_steps(60));
    test_long_chains();
    test_no_room();
    test_big((uint64_t)image_steps(1000000) > 1000000 ? 20000000 : (uint64_t)image_steps(1000000));
    return check_done("test_hash");
}
