/* SPDX-License-Identifier: MIT
 *
 * hash.c - point lookups: linear hashing over buckets of tagged slots.
 *
 * Invariant: every entry is in the chain of its home bucket, once. While KV_HASH_PENDING names a
 * bucket, entries that its split moved are there too, in nobody's way: no reader goes there for
 * them. A bucket is 64 bytes: slots [0..6], control word [7] = version << 32 | next overflow + 1.
 *
 * Why a reader without a lock never misses a key that is there throughout. It loads, in this order:
 * COUNT, the home bucket's version, the slots of the chain; before it believes a link or a miss it
 * loads the version again, before a miss also COUNT. All loads acquire, all stores release, so
 * whoever sees a store sees all that were made before it. An entry's place changes in two ways:
 *
 *   Split: (1) copies lie in the new bucket, (2) COUNT grows, (3) the old places are cleared, and
 *   never before (2). A reader that finds an old place cleared sees the new COUNT and starts again.
 *
 *   Compaction of a chain: (1) copy into a free slot nearer to home, (2) version, (3) unlink the
 *   emptied bucket, (4) version, (5) clear it, put it on the free list. A reader that began before
 *   (2) and has missed the copy either finds the entry in the old place, or has seen a store later
 *   than (2) and thereby a new version. One that began after (2) finds the copy.
 *   After (4) nobody new enters the bucket; who is still in there leaves at its next look at the
 *   version, so a reader never follows the free list or a reused bucket's chain.
 *
 * Undo takes these stores back in reverse order; version words go on growing there (set_low), so
 * the same argument holds with the two places exchanged.
 */
#include "hash.h"

#include <string.h>

#define SLOTS     7
#define CONTROL   7
#define CHAIN_MAX 256 /* buckets in a chain; an honest one is far from it: more is damage */
/* Journal words after which a clean-up goes on in a new transaction; one more bucket fits behind.
 */
#define TXN_WORDS (KV_JOURNAL_MAX - 40)
KV_STATIC_ASSERT(CHAIN_MAX * 2 + 8 < KV_JOURNAL_MAX, a_split_fits_the_journal);

typedef struct node {
    uint64_t *w;
    kv_place at;
} node;

/* ---- buckets ---- */

/* The 30 bits of the hash that a slot in a chain of bucket `home` stands for. */
static inline uint64_t hash_of(uint64_t slot, uint32_t home)
{
    return slot >> KV_ADDR_BITS << 6 | (home & (KV_HASH_MIN - 1));
}

static inline uint32_t low(uint64_t control)
{
    return (uint32_t)control;
}

static inline uint64_t relinked(uint64_t control, uint32_t next) /* the same version */
{
    return control >> 32 << 32 | next;
}

static inline uint64_t grown(uint64_t control, uint32_t next) /* the next version */
{
    return ((control >> 32) + 1) << 32 | next;
}

static inline int home_node(kv_region *r, uint32_t id, node *n)
{
    n->w = kv_region_node(r, KV_BUCKETS, id, KV_BUCKETS_FIRST, KV_BUCKETS_SIZE);
    n->at.ptr = (char *)n->w;
    n->at.addr = kv_region_addr(KV_BUCKETS, id);
    return n->w != NULL;
}

static inline int overflow_node(kv_region *r, uint32_t id, node *n)
{
    n->w = kv_region_node(r, KV_OVERFLOW, id, KV_OVERFLOW_FIRST, KV_OVERFLOW_SIZE);
    n->at.ptr = (char *)n->w;
    n->at.addr = kv_region_addr(KV_OVERFLOW, id);
    return n->w != NULL;
}

static inline unsigned used_slots(const uint64_t *w)
{
#define USED(i) ((unsigned)(w[i] != 0) << (i))
    return USED(0) | USED(1) | USED(2) | USED(3) | USED(4) | USED(5) | USED(6);
#undef USED
}

static inline int free_slot(const uint64_t *w) /* SLOTS: none */
{
    return __builtin_ctz(~used_slots(w));
}

static int damaged(kv_region *r, const char *what)
{
    return kv_fail(KV_ECORRUPT, "%s/%s: lookup table: %s", kv_dir_path(r->dir), r->name, what);
}

/* ---- reading ---- */

void kv_hash_prefetch(kv_region *r, uint64_t hash)
{
    node n;

    if (home_node(r, kv_hash_home(hash, kv_load(&r->head->hash[KV_HASH_COUNT])), &n))
        kv_prefetch(n.w);
}

void kv_hash_prefetch_chain(kv_region *r, uint64_t hash)
{
    const uint64_t *w = kv_hash_bucket(r, hash);
    uint32_t next = w ? low(kv_load(&w[CONTROL])) : 0;
    node n;

    if (next && overflow_node(r, next - 1, &n))
        kv_prefetch(n.w);
}

static void start_at(kv_hash_scan *c, uint64_t hash, uint64_t count, uint32_t home, uint64_t *w)
{
    c->hash = hash;
    c->count = count;
    c->home = c->bucket = w;
    c->place.ptr = (char *)w;
    c->place.addr = kv_region_addr(KV_BUCKETS, home);
    c->version = w ? kv_load(&w[CONTROL]) >> 32 : 0;
    c->index = -1;
    c->hops = 0;
}

/* Slow halves stand apart, so that the fast ones save no registers. */
static KV_NOINLINE void start_slowly(kv_region *r, uint64_t hash, kv_hash_scan *c, uint64_t count)
{
    node n;

    home_node(r, kv_hash_home(hash, count), &n);
    start_at(c, hash, count, kv_hash_home(hash, count), n.w);
}

void kv_hash_start(kv_region *r, uint64_t hash, kv_hash_scan *c)
{
    uint64_t count = kv_load(&r->head->hash[KV_HASH_COUNT]);
    uint32_t home = kv_hash_home(hash, count);

    if (kv_unlikely(home >= kv_load(&r->limit[KV_BUCKETS])))
        start_slowly(r, hash, c, count);
    else
        start_at(c, hash, count, home,
                 kv_region_at(r, KV_BUCKETS, home, KV_BUCKETS_FIRST, KV_BUCKETS_SIZE));
}

/* Looks at the slots of the current bucket from `index` on. */
static inline __attribute__((always_inline)) int scan_bucket(kv_hash_scan *c, unsigned passed)
{
    uint64_t tag = kv_hash_tag(c->hash);
    unsigned m = kv_hash_matching(c->bucket, tag) & ~passed;

    for (; m; m &= m - 1) {
        int i = __builtin_ctz(m);
        uint64_t slot = kv_load(&c->bucket[i]);

        /* Loaded again: it may have changed, and empty ones match tag 0. */
        if (kv_likely(slot && (slot ^ tag) <= KV_ADDR_MASK)) {
            c->slot = slot;
            c->index = i;
            return 1;
        }
    }
    return 0;
}

/* Goes on behind a bucket's slots. */
static KV_NOINLINE int next_bucket(kv_region *r, kv_hash_scan *c)
{
    uint32_t next;
    node n;

    if (!c->bucket)
        return KV_HASH_DAMAGED;
    for (;;) {
        next = low(kv_load(&c->bucket[CONTROL]));
        KV_PAUSE("lookup: link read");
        if (kv_load(&c->home[CONTROL]) >> 32 != c->version)
            return KV_HASH_AGAIN;
        if (!next)
            break;
        KV_PAUSE("lookup: link taken");
        if (++c->hops >= CHAIN_MAX || !overflow_node(r, next - 1, &n))
            return KV_HASH_DAMAGED;
        c->bucket = n.w;
        c->place = n.at;
        if (scan_bucket(c, 0))
            return KV_HASH_CANDIDATE;
    }
    KV_PAUSE("lookup: chain ended");
    return kv_load(&r->head->hash[KV_HASH_COUNT]) == c->count ? KV_HASH_END : KV_HASH_AGAIN;
}

int kv_hash_next(kv_region *r, kv_hash_scan *c)
{
    if (kv_likely(c->bucket) && scan_bucket(c, (1u << (c->index + 1)) - 1))
        return KV_HASH_CANDIDATE;
    return next_bucket(r, c);
}

/* Nearly all are in their home bucket. */
int kv_hash_locate(kv_region *r, uint64_t hash, uint64_t addr, kv_hash_scan *c)
{
    uint64_t slot = kv_hash_tag(hash) | addr;
    int step;

    kv_hash_start(r, hash, c);
    if (kv_likely(c->bucket)) {
        const uint64_t *w = c->bucket;
#define SAME(i) ((unsigned)(kv_load(&w[i]) == slot) << (i))
        unsigned m = SAME(0) | SAME(1) | SAME(2) | SAME(3) | SAME(4) | SAME(5) | SAME(6);
#undef SAME
        if (m) {
            c->index = __builtin_ctz(m);
            c->slot = slot;
            return KV_HASH_CANDIDATE;
        }
        c->index = SLOTS - 1;
    }
    do
        step = kv_hash_next(r, c);
    while (step == KV_HASH_CANDIDATE && c->slot != slot);
    return step;
}

/* ---- one entry ---- */

void kv_hash_init(kv_region *r, uint64_t seed0, uint64_t seed1)
{
    uint64_t *h = r->head->hash;

    kv_store(&h[KV_HASH_SEED0], seed0);
    kv_store(&h[KV_HASH_SEED1], seed1);
    kv_store(&r->head->used[KV_BUCKETS], KV_HASH_MIN);
    kv_store(&h[KV_HASH_COUNT], KV_HASH_MIN);
}

static void set_head(kv_region *r, int word, uint64_t value)
{
    kv_txn_set(r, kv_head_place(r), &r->head->hash[word], value);
}

/* An overflow bucket nobody can reach, linked to nothing, its slots left as they were; its control
 * word may be stored plainly from here on, since the journal has it when it came from the free list
 * (undo needs the link there). Unchanged on failure. */
static int take_overflow(kv_region *r, uint32_t *id, node *n)
{
    uint64_t *h = r->head->hash;
    uint64_t first = h[KV_HASH_FREE];

    if (first) {
        *id = (uint32_t)(first - 1);
        if (first > r->head->used[KV_OVERFLOW] || !overflow_node(r, *id, n))
            return damaged(r, "free list");
        set_head(r, KV_HASH_FREE, low(n->w[CONTROL]));
        kv_txn_set_low(r, n->at, &n->w[CONTROL], grown(n->w[CONTROL], 0));
        return KV_OK;
    }
    if (!kv_region_room(r, KV_OVERFLOW) ||
        !overflow_node(r, (uint32_t)r->head->used[KV_OVERFLOW], n))
        return kv_fail(KV_EFULL, "%s/%s: no overflow bucket left", kv_dir_path(r->dir), r->name);
    *id = kv_region_take(r, KV_OVERFLOW);
    kv_store(&n->w[CONTROL], 0);
    return KV_OK;
}

void kv_hash_replace(kv_region *r, kv_hash_scan *c, uint64_t addr)
{
    kv_assert(addr && addr <= KV_ADDR_MASK);
    kv_txn_visible(r, c->place, &c->bucket[c->index], (c->slot & ~KV_ADDR_MASK) | addr);
}

void kv_hash_shift(kv_region *r, kv_hash_scan *c, uint64_t addr)
{
    kv_assert(addr && addr <= KV_ADDR_MASK);
    kv_txn_set(r, c->place, &c->bucket[c->index], (c->slot & ~KV_ADDR_MASK) | addr);
}

int kv_hash_insert(kv_region *r, uint64_t hash, uint64_t addr)
{
    uint64_t *h = r->head->hash;
    uint64_t slot = kv_hash_tag(hash) | addr;
    uint32_t id, next;
    int i, rc, hops = 0;
    node n, x;

    kv_assert(addr && addr <= KV_ADDR_MASK);
    if (!home_node(r, kv_hash_home(hash, h[KV_HASH_COUNT]), &n))
        return damaged(r, "bucket count");
    while ((i = free_slot(n.w)) == SLOTS && (next = low(n.w[CONTROL])) != 0)
        if (++hops >= CHAIN_MAX || !overflow_node(r, next - 1, &n))
            return damaged(r, "chain");
    if (i < SLOTS) {
        set_head(r, KV_HASH_ENTRIES, h[KV_HASH_ENTRIES] + 1);
        kv_txn_visible(r, n.at, &n.w[i], slot);
        return KV_OK;
    }
    if (hops + 1 >= CHAIN_MAX)
        return damaged(r, "chain");
    rc = take_overflow(r, &id, &x);
    if (rc != KV_OK)
        return rc;
    kv_store(&x.w[0], slot);
    for (i = 1; i < SLOTS; i++)
        kv_store(&x.w[i], 0);
    set_head(r, KV_HASH_ENTRIES, h[KV_HASH_ENTRIES] + 1);
    set_head(r, KV_HASH_OVERFLOWS, h[KV_HASH_OVERFLOWS] + 1);
    KV_PAUSE("insert: overflow to be linked");
    kv_txn_visible_low(r, n.at, &n.w[CONTROL], relinked(n.w[CONTROL], id + 1));
    return KV_OK;
}

/* Moving an entry from further down the chain into the hole would have to be visible twice, so that
 * is left to maintain, which TIDY tells where to look. */
static void left_hole(kv_region *r, const kv_hash_scan *c)
{
    if (low(c->home[CONTROL]))
        set_head(r, KV_HASH_TIDY, (uint64_t)kv_hash_home(c->hash, c->count) + 1);
}

void kv_hash_erased(kv_region *r, uint64_t n)
{
    uint64_t entries = r->head->hash[KV_HASH_ENTRIES];

    set_head(r, KV_HASH_ENTRIES, entries > n ? entries - n : 0);
}

void kv_hash_remove(kv_region *r, kv_hash_scan *c)
{
    kv_hash_erased(r, 1);
    left_hole(r, c);
    kv_txn_visible(r, c->place, &c->bucket[c->index], 0);
}

void kv_hash_erase(kv_region *r, kv_hash_scan *c)
{
    left_hole(r, c);
    kv_txn_set(r, c->place, &c->bucket[c->index], 0);
}

/* ---- chains ---- */

/* Walks the chain of a bucket before anything relies on it: its buckets, its entries, and how many
 * of these belong to the last of `count` buckets instead; to any other is damage. */
static int survey(kv_region *r, uint32_t home, uint64_t count, unsigned *buckets, unsigned *entries,
                  unsigned *moved)
{
    node n;
    int i;
    uint32_t next;

    *buckets = *entries = *moved = 0;
    if (!count || !home_node(r, home, &n))
        return damaged(r, "bucket count");
    for (;;) {
        ++*buckets;
        for (i = 0; i < SLOTS; i++)
            if (n.w[i]) {
                uint32_t b = kv_hash_home(hash_of(n.w[i], home), count);

                if (b != home && b != count - 1)
                    return damaged(r, "an entry is in the wrong bucket");
                *moved += b != home;
                ++*entries;
            }
        next = low(n.w[CONTROL]);
        if (!next)
            return KV_OK;
        if (*buckets >= CHAIN_MAX || next > r->head->used[KV_OVERFLOW] ||
            !overflow_node(r, next - 1, &n))
            return damaged(r, "chain");
    }
}

/* The bucket after n in a surveyed chain; 0 at the end. */
static int follow(kv_region *r, const node *n, uint32_t *id, node *to)
{
    uint32_t next = low(n->w[CONTROL]);

    if (!next)
        return 0;
    *id = next - 1;
    return overflow_node(r, *id, to);
}

/* Clears what a split has moved away. Not journaled: until PENDING is cleared it is done again, and
 * an entry once cleared stays so. No version: readers that look for these see COUNT. */
static void drop_moved(kv_region *r, uint32_t home, uint64_t count)
{
    uint32_t id;
    node n;
    int i, more = home_node(r, home, &n);

    for (; more; more = follow(r, &n, &id, &n))
        for (i = 0; i < SLOTS; i++)
            if (n.w[i] && kv_hash_home(hash_of(n.w[i], home), count) != home)
                kv_store(&n.w[i], 0);
}

/* Moves the entries of `from` into the first holes of the chain and frees it. */
static void empty_out(kv_region *r, const node *home, const node *prev, const node *from,
                      uint32_t id, node *hole)
{
    uint64_t *h = r->head->hash;
    uint64_t *version = &home->w[CONTROL];
    uint32_t next = low(from->w[CONTROL]), at;
    int i, j;

    for (i = 0; i < SLOTS; i++) {
        if (!from->w[i])
            continue;
        while ((j = free_slot(hole->w)) == SLOTS)
            if (!follow(r, hole, &at, hole))
                return; /* cannot be: the caller has counted the holes */
        kv_txn_set(r, hole->at, &hole->w[j], from->w[i]);
    }
    KV_PAUSE("compact: copied");
    if (prev->w == home->w) {
        /* (2), (3), (4) in one */
        kv_txn_set_low(r, home->at, version,
                       KV_IS_BUG(56) ? relinked(*version, next) : grown(*version, next));
    } else {
        kv_txn_set_low(r, home->at, version, grown(*version, low(*version)));
        KV_PAUSE("compact: announced");
        kv_txn_set_low(r, prev->at, &prev->w[CONTROL], relinked(prev->w[CONTROL], next));
        kv_txn_set_low(r, home->at, version, grown(*version, low(*version)));
    }
    KV_PAUSE("compact: unlinked");
    for (i = 0; i < SLOTS; i++)
        if (from->w[i])
            kv_txn_set(r, from->at, &from->w[i], 0);
    kv_txn_set_low(r, from->at, &from->w[CONTROL], grown(from->w[CONTROL], low(h[KV_HASH_FREE])));
    set_head(r, KV_HASH_FREE, (uint64_t)id + 1);
    set_head(r, KV_HASH_OVERFLOWS, h[KV_HASH_OVERFLOWS] - (h[KV_HASH_OVERFLOWS] > 0));
    KV_PAUSE("compact: freed");
}

/* Frees every overflow bucket whose entries fit into the holes before it. What is kept had more
 * entries than holes were before it, so fewer than 7 holes stay before any kept bucket's end: at
 * most one bucket more than needed remains. 0: the transaction is full. */
static int compact(kv_region *r, const node *home)
{
    unsigned n, holes = SLOTS - (unsigned)__builtin_popcount(used_slots(home->w));
    node prev = *home, hole = *home, cur;
    uint32_t id;

    while (follow(r, &prev, &id, &cur)) {
        n = (unsigned)__builtin_popcount(used_slots(cur.w));
        if (n > holes) {
            holes += SLOTS - n;
            prev = cur;
            continue;
        }
        if (r->head->journal.count >= TXN_WORDS)
            return 0;
        empty_out(r, home, &prev, &cur, id, &hole);
        holes -= n;
    }
    return 1;
}

/* Drops what has moved, compacts, and clears `word` (PENDING or TIDY). Usually one transaction; a
 * very long chain takes several, each leaving a sound table that still has the word set. */
static int clean_surveyed(kv_region *r, uint32_t home, uint64_t count, int word, unsigned buckets,
                          unsigned moved)
{
    int done;
    node n;

    if (moved)
        drop_moved(r, home, count);
    KV_PAUSE("split: cleared");
    if (buckets > 1) {
        home_node(r, home, &n);
        do {
            kv_txn_begin(r);
            done = compact(r, &n);
            kv_txn_end(r);
        } while (!done);
    }
    kv_store(&r->head->hash[word], 0);
    return 1;
}

static int clean(kv_region *r, uint32_t home, uint64_t count, int word)
{
    unsigned buckets, entries, moved;
    int rc = survey(r, home, count, &buckets, &entries, &moved);

    return rc == KV_OK ? clean_surveyed(r, home, count, word, buckets, moved) : rc;
}

/* ---- splitting ---- */

/* Copies the entries of the old chain that belong to bucket `count` into it and as many overflow
 * buckets as they fill; nobody can reach these before COUNT says so. */
static int build(kv_region *r, uint32_t old, uint64_t count)
{
    node from, to, x;
    int i, rc, fill = 0, more = home_node(r, old, &from);
    uint32_t id;

    if (!home_node(r, (uint32_t)count, &to) || kv_region_take(r, KV_BUCKETS) != count)
        return damaged(r, "bucket count");
    kv_store(&to.w[CONTROL], 0);
    for (; more; more = follow(r, &from, &id, &from))
        for (i = 0; i < SLOTS; i++) {
            if (!from.w[i] || kv_hash_home(hash_of(from.w[i], old), count + 1) == old)
                continue;
            if (fill == SLOTS) {
                rc = take_overflow(r, &id, &x);
                if (rc != KV_OK)
                    return rc;
                kv_store(&to.w[CONTROL], relinked(to.w[CONTROL], id + 1));
                to = x;
                fill = 0;
            }
            kv_store(&to.w[fill++], from.w[i]);
        }
    while (fill < SLOTS)
        kv_store(&to.w[fill++], 0);
    return KV_OK;
}

static int split(kv_region *r, uint64_t count)
{
    uint64_t *h = r->head->hash;
    uint32_t old = (uint32_t)(count - ((uint64_t)1 << (63 - __builtin_clzll(count))));
    unsigned buckets, entries, moved, extra;
    int rc = survey(r, old, count + 1, &buckets, &entries, &moved);

    if (rc != KV_OK)
        return rc;
    extra = moved ? (moved - 1) / SLOTS : 0;
    if (extra > r->head->used[KV_OVERFLOW] - h[KV_HASH_OVERFLOWS] + kv_region_room(r, KV_OVERFLOW))
        return 0;
    kv_txn_begin(r);
    rc = build(r, old, count);
    if (rc != KV_OK) {
        (void)kv_txn_undo(r, NULL);
        kv_txn_end(r);
        return rc;
    }
    set_head(r, KV_HASH_PENDING, (uint64_t)old + 1);
    if (extra)
        set_head(r, KV_HASH_OVERFLOWS, h[KV_HASH_OVERFLOWS] + extra);
    if (KV_IS_BUG(55))
        drop_moved(r, old, count + 1);
    KV_PAUSE("split: built");
    kv_txn_visible(r, kv_head_place(r), &h[KV_HASH_COUNT], count + 1);
    KV_PAUSE("split: counted");
    kv_txn_end(r);
    KV_PAUSE("split: ended");
    return clean_surveyed(r, old, count + 1, KV_HASH_PENDING, buckets, moved);
}

/* The next split's buckets follow this one's: they will be needed a few writes from now. */
static void warm_next(kv_region *r, uint64_t count)
{
    node n;

    if (count < kv_load(&r->limit[KV_BUCKETS])) {
        home_node(r, (uint32_t)count, &n);
        __builtin_prefetch(n.w, 1);
        home_node(r, (uint32_t)(count - ((uint64_t)1 << (63 - __builtin_clzll(count)))), &n);
        __builtin_prefetch(n.w, 1);
    }
}

/* And shortly before it the second bucket of the chain, which the first one names. */
static void warm_chain(kv_region *r, uint64_t count)
{
    uint32_t next;
    node n;

    home_node(r, (uint32_t)(count - ((uint64_t)1 << (63 - __builtin_clzll(count)))), &n);
    next = low(n.w[CONTROL]);
    if (next && overflow_node(r, next - 1, &n))
        __builtin_prefetch(n.w, 1);
}

/* A chain that removals left with two slots to spare beyond one bucket less is made shorter; with
 * fewer, the next insert could make it grow again at once. */
static int shorten(kv_region *r, uint64_t count)
{
    uint64_t *h = r->head->hash;
    uint64_t id = h[KV_HASH_TIDY] - 1;
    unsigned buckets, entries, moved;
    int rc;

    if (id < count) {
        rc = survey(r, (uint32_t)id, count, &buckets, &entries, &moved);
        if (rc != KV_OK)
            return rc;
        if (moved)
            return damaged(r, "an entry is in the wrong bucket");
        if (buckets > 1 && entries + 2 <= SLOTS * (buckets - 1))
            return clean(r, (uint32_t)id, count, KV_HASH_TIDY);
    }
    kv_store(&h[KV_HASH_TIDY], 0);
    return 0;
}

int kv_hash_maintain(kv_region *r)
{
    uint64_t *h = r->head->hash;
    uint64_t count = h[KV_HASH_COUNT];
    int rc, did = 0;

    if (kv_unlikely(h[KV_HASH_PENDING])) {
        if (count < KV_HASH_MIN || h[KV_HASH_PENDING] > count)
            return damaged(r, "pending split");
        return clean(r, (uint32_t)(h[KV_HASH_PENDING] - 1), count, KV_HASH_PENDING);
    }
    if (h[KV_HASH_TIDY]) {
        did = shorten(r, count);
        if (did < 0)
            return did;
    }
    if (kv_likely(h[KV_HASH_ENTRIES] <= count * KV_HASH_LOAD)) {
        if (h[KV_HASH_ENTRIES] == count * KV_HASH_LOAD - 1 && count >= KV_HASH_MIN)
            warm_chain(r, count);
        return did;
    }
    if (count < KV_HASH_MIN || count != r->head->used[KV_BUCKETS])
        return damaged(r, "bucket count");
    if (count >= KV_HASH_MAX || !kv_region_room(r, KV_BUCKETS))
        return did;
    rc = split(r, count);
    if (rc > 0)
        warm_next(r, count + 1);
    return rc != 0 ? rc : did;
}

int kv_hash_wants_room(const kv_region *r)
{
    const uint64_t *h = r->head->hash;
    uint64_t count = kv_load_relaxed(&h[KV_HASH_COUNT]);
    uint64_t wanted = kv_load_relaxed(&h[KV_HASH_ENTRIES]) / KV_HASH_LOAD + count / 16;

    return count < KV_HASH_MAX && wanted > kv_load_relaxed(&r->head->ready[KV_BUCKETS]);
}

/* ---- all of it ---- */

int kv_hash_each(kv_region *r, int (*each)(void *arg, uint64_t bucket, uint64_t slot), void *arg)
{
    uint64_t count = kv_load(&r->head->hash[KV_HASH_COUNT]);
    uint64_t b;

    for (b = 0; b < count; b++) {
        node n;
        uint32_t next;
        int i, rc, hops = 0;

        if (!home_node(r, (uint32_t)b, &n))
            return damaged(r, "bucket count");
        for (;;) {
            for (i = 0; i < SLOTS; i++) {
                uint64_t slot = kv_load(&n.w[i]);

                /* What a pending split has left behind is met in its new place. */
                if (!slot || kv_hash_home(hash_of(slot, (uint32_t)b), count) != b)
                    continue;
                rc = each(arg, b, slot);
                if (rc != 0)
                    return rc;
            }
            next = low(kv_load(&n.w[CONTROL]));
            if (!next)
                break;
            if (++hops >= CHAIN_MAX || !overflow_node(r, next - 1, &n))
                return damaged(r, "chain");
        }
    }
    return KV_OK;
}

int kv_hash_check(kv_region *r)
{
    const uint64_t *h = r->head->hash;
    uint64_t count = h[KV_HASH_COUNT], used = r->head->used[KV_OVERFLOW];
    uint64_t b, total = 0, overflows = 0, free = 0;
    uint64_t id;
    node n;

    if (count < KV_HASH_MIN || count > KV_HASH_MAX || count != r->head->used[KV_BUCKETS] ||
        h[KV_HASH_PENDING] > count)
        return damaged(r, "bucket count");
    for (b = 0; b < count; b++) {
        unsigned buckets, entries, moved;
        int rc = survey(r, (uint32_t)b, count, &buckets, &entries, &moved);

        if (rc != KV_OK)
            return rc;
        if (moved && b + 1 != h[KV_HASH_PENDING])
            return damaged(r, "an entry is in the wrong bucket");
        total += entries - moved;
        overflows += buckets - 1;
        if (overflows > used)
            return damaged(r, "an overflow bucket is linked twice");
    }
    for (id = h[KV_HASH_FREE]; id; id = low(n.w[CONTROL]))
        if (id > used || ++free > used || !overflow_node(r, (uint32_t)(id - 1), &n))
            return damaged(r, "free list");
    if (total != h[KV_HASH_ENTRIES])
        return damaged(r, "entries are counted wrong");
    if (overflows != h[KV_HASH_OVERFLOWS] || overflows + free != used)
        return damaged(r, "overflow buckets are counted wrong");
    return KV_OK;
}
