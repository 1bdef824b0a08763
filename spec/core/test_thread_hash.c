/* SPDX-License-Identifier: MIT
 *
 * test_thread_hash.c - readers without a lock beside a writer that splits, compacts, and dies.
 *
 * Even keys are there throughout: no reader may ever miss one. Odd keys come and go. Keys 0 and 1
 * modulo 4 are replaced all the time; an even key's address only ever counts up. The table is
 * filled and emptied in waves, so that chains grow long and are cut again. SEED=n repeats the
 * writer's side of a run.
 */
#define _GNU_SOURCE
#include "hash.h"
#include "image.h"

#include <pthread.h>

#define SEED0    0x9ae16a3b2f90404full /* the secret of the hash: any will do */
#define SEED1    0xc949c7defebe1f2bull
#define KEYS     20000
#define KEY_BITS 15
#define READERS  2

typedef struct shared {
    image m;
    int way;
    uint64_t stop;
    uint64_t addr[KEYS]; /* the writer's model */
} shared;

typedef struct reader {
    shared *t;
    kv_region *r;       /* the writer's (then TSan sees both sides), or */
    kv_region attached; /* a mapping of its own, as in another process */
    uint64_t seed, lookups, retried, missed, wrong;
    uint64_t last[KEYS];
} reader;

enum { INSERT, REPLACE, REMOVE, MAINTAIN };

typedef struct deed {
    shared *t;
    int what;
    uint32_t key;
    uint64_t addr;
} deed;

static uint64_t hash_of_key(const shared *t, uint32_t key)
{
    uint64_t h = kv_hash_key(SEED0, SEED1, 3, &key, sizeof key);

    return t->way ? h & ~(uint64_t)0xe0 : h;
}

static uint32_t key_of(uint64_t addr)
{
    return (uint32_t)(addr & ((1 << KEY_BITS) - 1)) - 1;
}

/* ---- readers ---- */

static void look(reader *me, uint32_t key)
{
    uint64_t hash = hash_of_key(me->t, key), addr = 0;
    kv_hash_scan c;
    int rc;

    do {
        kv_hash_start(me->r, hash, &c);
        while ((rc = kv_hash_next(me->r, &c)) == KV_HASH_CANDIDATE)
            if (key_of(c.slot & KV_ADDR_MASK) == key) {
                addr = c.slot & KV_ADDR_MASK;
                break;
            }
        me->retried += rc == KV_HASH_AGAIN;
    } while (rc == KV_HASH_AGAIN);
    me->lookups++;
    me->wrong += rc == KV_HASH_DAMAGED;
    if (key % 2)
        return;
    if (!addr)
        me->missed++;
    else if (addr >> KEY_BITS < me->last[key])
        me->wrong++; /* went back */
    else
        me->last[key] = addr >> KEY_BITS;
}

static void *read_on(void *arg)
{
    reader *me = arg;

    while (!kv_load(&me->t->stop)) {
        me->seed = me->seed * 6364136223846793005ull + 1442695040888963407ull;
        look(me, (uint32_t)((me->seed >> 33) % KEYS));
    }
    return NULL;
}

/* ---- the writer ---- */

static void perform(void *arg)
{
    deed *d = arg;
    kv_region *r = &d->t->m.r;
    kv_hash_scan c;
    int rc;

    if (d->what == MAINTAIN) {
        CHECK(kv_hash_maintain(r) >= 0);
        return;
    }
    if (d->what != INSERT) {
        kv_hash_start(r, hash_of_key(d->t, d->key), &c);
        while ((rc = kv_hash_next(r, &c)) == KV_HASH_CANDIDATE)
            if (key_of(c.slot & KV_ADDR_MASK) == d->key)
                break;
        if (!CHECK(rc == KV_HASH_CANDIDATE))
            return;
    }
    kv_txn_begin(r);
    if (d->what == INSERT)
        CHECK(kv_hash_insert(r, hash_of_key(d->t, d->key), d->addr) == KV_OK);
    else if (d->what == REPLACE)
        kv_hash_replace(r, &c, d->addr);
    else
        kv_hash_remove(r, &c);
    kv_txn_end(r);
}

/* Performs, dying now and then. A deed that was undone is done again, as a store would from its
 * log. */
static void carry_out(deed *d, int dying)
{
    image *m = &d->t->m;
    int64_t n = dying ? 1 + (int64_t)image_below(30) : 0;
    deed clean = {d->t, MAINTAIN, 0, 0};

    while (n && !image_jump(n, perform, d)) {
        image_recover(m, 0);
        while (m->r.head->hash[KV_HASH_PENDING])
            perform(&clean);
        n += 3;
        if (d->what != MAINTAIN) {
            kv_hash_scan c;
            uint64_t now = 0;

            kv_hash_start(&m->r, hash_of_key(d->t, d->key), &c);
            while (kv_hash_next(&m->r, &c) == KV_HASH_CANDIDATE)
                if (key_of(c.slot & KV_ADDR_MASK) == d->key)
                    now = c.slot & KV_ADDR_MASK;
            if (now == (d->what == REMOVE ? 0 : d->addr))
                return;
        }
    }
    if (!n)
        perform(d);
}

static void write_on(shared *t, int rounds, int dying)
{
    uint64_t generation = 1;
    unsigned fill = 95;
    int i;

    for (i = 0; i < rounds; i++) {
        uint32_t key = (uint32_t)image_below(KEYS);
        deed d = {t, INSERT, key, generation << KEY_BITS | (key + 1)};
        deed clean = {t, MAINTAIN, 0, 0};

        if (i % 20000 == 0)
            fill = 100 - fill;
        generation++;
        image_room(&t->m, KV_OVERFLOW, KV_HASH_ROOM + 40);
        if (kv_hash_wants_room(&t->m.r))
            image_room(&t->m, KV_BUCKETS, kv_region_room(&t->m.r, KV_BUCKETS) + 64);
        if (t->addr[key])
            d.what = key % 2 && image_below(100) >= fill ? REMOVE : REPLACE;
        else if (key % 2 && image_below(100) >= fill)
            continue;
        carry_out(&d, dying && image_below(8) == 0);
        t->addr[key] = d.what == REMOVE ? 0 : d.addr;
        carry_out(&clean, dying && image_below(8) == 0);
    }
}

static void test_beside(int way, int rounds, int dying)
{
    static shared t;
    static reader readers[READERS];
    pthread_t thread[READERS];
    uint64_t lookups = 0, retried = 0;
    uint32_t key;
    int i;

    memset(&t, 0, sizeof t);
    t.way = way;
    image_open(&t.m);
    kv_hash_init(&t.m.r, SEED0, SEED1);
    for (key = 0; key < KEYS; key += 2) {
        deed d = {&t, INSERT, key, key + 1};

        image_room(&t.m, KV_OVERFLOW, KV_HASH_ROOM);
        perform(&d);
        t.addr[key] = d.addr;
    }
    memset(readers, 0, sizeof readers);
    for (i = 0; i < READERS; i++) {
        readers[i].t = &t;
        readers[i].seed = image_random();
        readers[i].r = i ? &readers[i].attached : &t.m.r;
        if (i && kv_region_attach(readers[i].r, t.m.dir, "index", 0) != KV_OK)
            image_die("attach");
        if (pthread_create(&thread[i], NULL, read_on, &readers[i]) != 0)
            image_die("thread");
    }
    write_on(&t, rounds, dying);
    __atomic_store_n(&t.stop, 1, __ATOMIC_RELEASE);
    for (i = 0; i < READERS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(readers[i].missed == 0);
        CHECK(readers[i].wrong == 0);
        lookups += readers[i].lookups;
        retried += readers[i].retried;
        if (i)
            kv_region_close(readers[i].r);
    }
    CHECK(lookups > 0);
    CHECK(kv_hash_check(&t.m.r) == KV_OK);
    printf("way %d%s: %llu lookups, %llu retried, %llu buckets, %llu overflow\n", way,
           dying ? ", dying" : "", (unsigned long long)lookups, (unsigned long long)retried,
           (unsigned long long)t.m.r.head->hash[KV_HASH_COUNT],
           (unsigned long long)t.m.r.head->hash[KV_HASH_OVERFLOWS]);
    image_close(&t.m);
}

int main(void)
{
    int way;

    image_start("test_thread_hash");
    for (way = 0; way < 2; way++) {
        test_beside(way, image_steps(400000), 0);
        test_beside(way, image_steps(400000), 1);
    }
    return check_done("test_thread_hash");
}
