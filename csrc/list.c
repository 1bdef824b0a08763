/* SPDX-License-Identifier: MIT
 *
 * list.c - reading in key order without a lock: iterators, counting.
 *
 * Invariant: as in read.c. An iterator holds a private copy of one leaf and no other state of the
 * store, so it survives every change; it finds its place again by key.
 */
#include "store.h"

#include <string.h>

/* Keys are looked up ahead, a step of several each time, so that their cache misses overlap and are
 * over when their turn comes: a bucket is fetched a step before the record that it names, and that
 * a step before it is read. A longer step asks for more lines at once than a processor waits for.
 */
#define STEP         KV_ITER_MOST
#define RING         16  /* a power of two */
#define MOST_FETCHED 256 /* bytes of a record; the processor sees by itself how it goes on */
#define SHORT        64 /* bytes of a key, its namespace included, that a place in the ring holds */

/* So many that none of the keys kv_iter_some hands out is written over as the next ones are looked
 * up ahead. */
KV_STATIC_ASSERT(RING >= 4 * STEP, ring_size);

/* A key that is looked up ahead. */
typedef struct kv_ahead {
    uint64_t hash;
    const uint64_t *slot; /* the bucket, then the slot; NULL: look properly */
    uint32_t len;
    /* Begins as all keys of the leaf do; the rest only if len <= SHORT. */
    unsigned char key[SHORT + 12];
} kv_ahead;

struct kv_iter {
    kv_ns *ns;
    const kv_db *s; /* whose slots and state are below */
    uint32_t id;
    uint32_t flags;
    int reverse;
    int done;
    int i;        /* next index in the leaf */
    int from, to; /* those of its keys that lie within the bounds: from <= i < to */
    int fresh;    /* the leaf must be read */
    /* Of the keys from i on, how many have their bucket on its way, and how many their record; in a
     * ring that begins at `turn`. */
    int buckets, records;
    unsigned turn;
    kv_ahead ring[RING];
    /* Places in the ring, as bits: what is not in a key's own bucket, but the next one of its
     * chain; of these, whose slot has not been looked for yet. */
    uint32_t chained, pending;
    uint32_t span; /* bytes of the last record: how many are fetched */
    size_t low_len, high_len;
    unsigned char low[KV_ORDER_KEY + 2], high[KV_ORDER_KEY + 2]; /* low <= key < high */
    unsigned char next[KV_ORDER_KEY + 2]; /* where the next leaf is looked for */
    size_t next_len;
    const uint64_t *state;               /* of the namespace */
    unsigned char key[KV_ORDER_KEY + 8]; /* handed out; begins as the leaf's keys do */
    kv_leaf leaf;
};

KV_STATIC_ASSERT(sizeof(kv_iter) <= KV_ITER_SIZE, iter_size);

size_t kv_iter_size(void)
{
    return (sizeof(kv_iter) + 15) & ~(size_t)15;
}

static int compare(const void *a, size_t alen, const void *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c ? c : (alen > blen) - (alen < blen);
}

/* The first byte string behind all that begin with p: its last byte that can grow does. There is
 * one, since no namespace's id begins with 0xff. */
static size_t successor(unsigned char *p, size_t len)
{
    while (p[len - 1] == 0xff)
        len--;
    p[len - 1]++;
    return len;
}

/* A bound longer than any key stands right behind its first bytes: no key comes between. */
static size_t fit(unsigned char *k, size_t n)
{
    return n > KV_ORDER_KEY ? successor(k, KV_ORDER_KEY) : n;
}

static void raise_low(kv_iter *it, const char *key, size_t len, int strictly)
{
    unsigned char k[KV_ORDER_KEY + 2];
    size_t n = kv_order_put_ns(it->id, k);

    if (len > KV_MAX_KEY)
        len = KV_MAX_KEY + 1; /* longer than any key: its first bytes decide */
    memcpy(k + n, key, len);
    n += len;
    if (strictly)
        k[n++] = 0;
    n = fit(k, n);
    if (compare(k, n, it->low, it->low_len) > 0) {
        memcpy(it->low, k, n);
        it->low_len = n;
    }
}

static void cut_high(kv_iter *it, const unsigned char *k, size_t n)
{
    if (compare(k, n, it->high, it->high_len) < 0) {
        memcpy(it->high, k, n);
        it->high_len = n;
    }
}

static void lower_high(kv_iter *it, const char *key, size_t len)
{
    unsigned char k[KV_ORDER_KEY + 2];
    size_t n = kv_order_put_ns(it->id, k);

    if (len > KV_MAX_KEY)
        len = KV_MAX_KEY + 1;
    memcpy(k + n, key, len);
    cut_high(it, k, fit(k, n + len));
}

int kv_iter_init(kv_iter *it, kv_ns *ns, const kv_range *r)
{
    static const kv_range everything;
    unsigned char k[KV_ORDER_KEY + 2];
    size_t n;
    int64_t id;
    int e = kv_enter(ns->h);

    if (e != KV_OK)
        return e;
    if (r == NULL)
        r = &everything;
    if (r->after != NULL && (r->after_len == 0 || r->after_len > KV_MAX_KEY))
        return kv_fail(KV_EINVAL, "the key to resume after has 1 to %d bytes", KV_MAX_KEY);
    id = kv_ns_resolve(ns);
    if (id < 0)
        return (int)id;
    it->ns = ns;
    it->s = ns->h->s;
    it->id = (uint32_t)id;
    it->flags = r->flags;
    it->reverse = (r->flags & KV_REVERSE) != 0;
    it->state = kv_ns_state_word(ns->h->s, it->id);
    it->done = id == 0 || it->state == NULL;
    it->fresh = 1;
    it->i = it->buckets = it->records = 0;
    it->chained = it->pending = 0;
    it->span = 192;
    it->pending = 0;
    it->turn = 0;
    it->low_len = kv_order_put_ns(it->id, it->low);
    it->high_len = successor(it->high, kv_order_put_ns(it->id, it->high));
    if (r->prefix != NULL && r->prefix_len) {
        if (r->prefix_len > KV_MAX_KEY) {
            it->done = 1;
            return KV_OK;
        }
        raise_low(it, r->prefix, r->prefix_len, 0);
        n = kv_order_put_ns(it->id, k);
        memcpy(k + n, r->prefix, r->prefix_len);
        cut_high(it, k, successor(k, n + r->prefix_len));
    }
    if (r->start != NULL)
        raise_low(it, r->start, r->start_len, 0);
    if (r->stop != NULL)
        lower_high(it, r->stop, r->stop_len);
    if (r->after != NULL && it->reverse)
        lower_high(it, r->after, r->after_len);
    if (r->after != NULL && !it->reverse)
        raise_low(it, r->after, r->after_len, 1);
    if (compare(it->low, it->low_len, it->high, it->high_len) >= 0)
        it->done = 1;
    it->next_len = it->reverse ? it->high_len : it->low_len;
    memcpy(it->next, it->reverse ? it->high : it->low, it->next_len);
    return KV_OK;
}

static int damaged_order(const kv_iter *it)
{
    return kv_fail(KV_ECORRUPT, "%s: the key order is damaged", kv_dir_path(it->ns->h->s->dir));
}

/* Index of the leaf's first key >= bound. In a damaged leaf none is found: the last one tells. */
static int find(kv_iter *it, const unsigned char *bound, size_t len, int *at)
{
    size_t n;

    *at = kv_leaf_find(&it->leaf, bound, len);
    if (*at < it->leaf.count || it->leaf.count == 0)
        return KV_OK;
    n = kv_leaf_key(&it->leaf, it->leaf.count - 1, it->key);
    return n == 0 || compare(it->key, n, bound, len) >= 0 ? damaged_order(it) : KV_OK;
}

/* Makes i the next key's index. KV_ENOTFOUND: the end. */
static int settle(kv_iter *it)
{
    kv_region *r = &it->ns->h->s->region;
    int e, i;

    for (;;) {
        if (it->done)
            return KV_ENOTFOUND;
        if (it->fresh) {
            e = kv_order_read(r, it->next, it->next_len, it->reverse, &it->leaf);
            if (e != KV_OK)
                return e;
            it->i = kv_leaf_find(&it->leaf, it->next, it->next_len) - it->reverse;
            it->from = 0;
            it->to = it->leaf.count;
            e = it->reverse ? find(it, it->low, it->low_len, &it->from)
                            : find(it, it->high, it->high_len, &it->to);
            if (e != KV_OK)
                return e;
            it->fresh = 0;
            it->buckets = it->records = 0;
            it->pending = 0;
            kv_leaf_prefix(&it->leaf, it->key);
            for (i = 0; i < RING && it->leaf.plen <= SHORT; i++)
                memcpy(it->ring[i].key, it->key, SHORT);
            KV_PAUSE("list: leaf read");
        }
        if (it->i >= it->from && it->i < it->to)
            return KV_OK;
        it->fresh = 1;
        if (it->reverse) {
            it->done = !it->leaf.has_lower ||
                       compare(it->leaf.lower, it->leaf.lower_len, it->low, it->low_len) <= 0;
            it->next_len = it->done ? 0 : it->leaf.lower_len;
            memcpy(it->next, it->leaf.lower, it->next_len);
        } else {
            it->done = !it->leaf.has_upper ||
                       compare(it->leaf.upper, it->leaf.upper_len, it->high, it->high_len) >= 0;
            it->next_len = it->done ? 0 : it->leaf.upper_len;
            memcpy(it->next, it->leaf.upper, it->next_len);
        }
    }
}

/* How many keys of the leaf are left, at most n. */
static inline int left(const kv_iter *it, int n)
{
    int left = it->reverse ? it->i - it->from + 1 : it->to - it->i;

    return left < n ? left : n;
}

/* The place of the key that is the i-th from the next one on. */
static inline kv_ahead *place(kv_iter *it, int i)
{
    return &it->ring[(it->turn + (unsigned)i) % RING];
}

/* The length of key i of the leaf, which is long and goes where the last one handed out was, or
 * damaged: 0. */
static KV_NOINLINE size_t long_key(kv_iter *it, int i)
{
    return kv_leaf_rest(&it->leaf, i, it->key);
}

/* Finds the buckets of the next n keys, as far as that has not been done. Each of these loops is
 * short: what a processor has in view at a time bounds how many waits overlap. */
static void find_buckets(kv_iter *it, int n)
{
    kv_region *r = &it->ns->h->s->region;
    uint64_t seed0 = it->ns->seed0, seed1 = it->ns->seed1;
    int from = it->buckets, step = it->reverse ? -1 : 1, i = it->i + from * step, j;
    kv_ahead *a;

    for (j = from; j < n; j++, i += step) {
        a = place(it, j);
        a->len = (uint32_t)kv_leaf_short(&it->leaf, i, a->key, SHORT);
    }
    for (j = from; j < n; j++) {
        const unsigned char *key;

        a = place(it, j);
        key = a->key;
        if (kv_unlikely(a->len == 0)) {
            a->len = (uint32_t)long_key(it, it->i + j * step);
            key = it->key;
            if (a->len < 4)
                break; /* damage: whose turn it is will tell */
        }
        a->hash = kv_hash_key(seed0, seed1, it->id, key + 4, a->len - 4);
        a->slot = kv_hash_bucket(r, a->hash);
        it->pending &= ~(1u << (it->turn + (unsigned)j) % RING);
    }
    it->buckets = j;
}

/* Where the record lies that a slot names; NULL: not known. */
static inline const char *record_of(const kv_log *l, uint64_t slot)
{
    const char *p = kv_log_look(l, slot & KV_ADDR_MASK).base;

    return p == NULL ? NULL : p + ((slot & 0x3fffff) << 2);
}

static inline void fetch_record(const char *p, uint32_t span)
{
    const char *end = p + span;

    if (p == NULL)
        return;
    for (p = (const char *)((uintptr_t)p & ~(uintptr_t)63); p < end; p += 64)
        kv_prefetch_far(p);
}

/* Fetches the buckets that were found, from that of key `cold` on. */
static inline void fetch_buckets(kv_iter *it, int cold)
{
    for (; cold < it->buckets; cold++)
        kv_prefetch_far(place(it, cold)->slot);
}

/* Those, and the records of the next n keys, if their slots are in their own buckets; else the next
 * bucket of the chain. All at once: the waits for address translation overlap then. */
static void fetch_records(kv_iter *it, int n, int cold)
{
    kv_db *s = it->ns->h->s;
    const char *record[RING];
    uint64_t slot;
    int found = 0, i;
    const uint64_t *own;
    kv_ahead *a;

    n = n < it->buckets ? n : it->buckets;
    for (i = it->records; i < n; i++) {
        uint32_t bit = 1u << (it->turn + (unsigned)i) % RING;

        a = place(it, i);
        own = a->slot;
        a->slot = kv_hash_slot(own, a->hash);
        slot = kv_hash_peek(a->slot, a->hash);
        it->chained &= ~bit;
        if (kv_likely(slot != 0)) {
            record[found++] = record_of(&s->log, slot);
        } else {
            a->slot = kv_hash_chained(&s->region, own);
            kv_prefetch(a->slot);
            it->chained |= bit;
            it->pending |= bit;
        }
    }
    it->records = i;
    fetch_buckets(it, cold);
    for (i = 0; i < found; i++)
        fetch_record(record[i], it->span);
}

/* And the records that those name. */
static inline void fetch_chained(kv_iter *it)
{
    kv_ahead *a;
    uint64_t slot;

    for (; kv_unlikely(it->pending); it->pending &= it->pending - 1) {
        a = &it->ring[__builtin_ctz(it->pending)];
        a->slot = kv_hash_slot(a->slot, a->hash);
        slot = kv_hash_peek(a->slot, a->hash);
        if (slot != 0)
            fetch_record(record_of(&it->ns->h->s->log, slot), it->span);
    }
}

/* Another step of each, as far as there are keys in the leaf and as n are wanted. */
static void look_ahead(kv_iter *it, int n)
{
    int begun = it->records > 0, cold = it->buckets;

    find_buckets(it, left(it, n < 3 * STEP ? n : 3 * STEP));
    if (!begun) {
        fetch_buckets(it, cold);
        cold = it->buckets;
    }
    fetch_records(it, 2 * STEP, cold);
    if (!begun)
        fetch_chained(it); /* else after this step's records were read */
    /* No more in this leaf, and it is not the last one. */
    if (it->buckets < n && it->leaf.beside != 0 &&
        (it->reverse ? it->from == 0 : it->to == it->leaf.count)) {
        kv_order_prefetch(&it->ns->h->s->region, it->leaf.beside);
        it->leaf.beside = 0;
    }
}

/* The usual case, as in glance of read.c: a plain record, with what the iterator's flags ask for.
 * *now: the time, or 0 until it is needed. Returns where the record lies, which counts if kv_still
 * says so of segment *id after all was read; NULL: it is not so. */
static inline __attribute__((always_inline)) const char *find_plain(kv_iter *it, const kv_ahead *a,
                                                                    const char *key, uint32_t len,
                                                                    kv_rec_plain *out, uint32_t *id,
                                                                    int64_t *now)
{
    kv_db *s = it->ns->h->s;
    uint64_t slot = kv_hash_peek(a->slot, a->hash);
    const char *at;

    at = slot ? kv_log_value(&s->log, slot & KV_ADDR_MASK, it->id, key, len, out, id) : NULL;
    if (kv_unlikely(at == NULL))
        return NULL;
    it->span = (uint32_t)(out->meta + out->meta_len - at);
    it->span = it->span < MOST_FETCHED ? it->span : MOST_FETCHED;
    if (out->expires != 0) {
        *now = *now ? *now : kv_store_now(s);
        if (out->expires <= *now)
            return NULL;
    }
    if (it->flags & (KV_KEYS_ONLY | KV_NO_VALUES)) {
        out->value_len = 0;
        out->type = KV_NULL;
    }
    if (it->flags & KV_KEYS_ONLY)
        out->meta_len = 0;
    KV_PAUSE("list: record to be taken");
    return at;
}

/* By words: of a memset compilers make a string instruction, which takes longer to begin. */
static inline void clear(kv_record *out)
{
    out->value.type = KV_NULL;
    out->value.len = 0;
    out->value.data = NULL;
    out->value.integer = 0;
    out->value.number = 0;
    out->key = out->meta = NULL;
    out->key_len = out->meta_len = 0;
    out->rev = out->id = 0;
    out->created = out->updated = out->expires = 0;
}

/* Copies its bytes to `to`, where there is room for them. 0: it is no such value. */
static inline int take_plain(const kv_iter *it, const char *at, const kv_rec_plain *plain, char *to,
                             const char *key, uint32_t len, kv_record *out)
{
    kv_rec r;

    clear(out);
    out->key = key;
    out->key_len = len;
    if (it->flags & KV_KEYS_ONLY)
        return 1;
    out->expires = plain->expires;
    if (!(it->flags & KV_NO_HISTORY)) {
        kv_rec_history(at, &r.rev, &r.id, &r.created, &r.updated);
        out->rev = r.rev;
        out->id = r.id;
        out->created = r.created;
        out->updated = r.updated;
    }
    if (plain->value_len + plain->meta_len != 0)
        memcpy(to, plain->meta - plain->value_len, plain->value_len + plain->meta_len);
    out->meta_len = plain->meta_len;
    out->meta = to + plain->value_len;
    if (plain->type == KV_NULL)
        return 1;
    r.type = (uint8_t)plain->type;
    r.value = to;
    r.value_len = plain->value_len;
    return kv_value_read(&r, &out->value) == KV_OK;
}

/* A loop may write between two calls, and must see it then. So no slot in another bucket of a chain
 * is believed from one call to the next: that bucket may have been freed, taken for a split and,
 * when that was undone, left as it was. */
static inline int read_plainly(kv_iter *it, const char *key, uint32_t len, kv_record *out)
{
    kv_scratch *to = &it->ns->scratch;
    int64_t now = 0;
    kv_rec_plain plain;
    uint32_t id;
    const char *at;

    if (kv_unlikely(it->chained >> it->turn & 1))
        return 0;
    at = find_plain(it, place(it, 0), key, len, &plain, &id, &now);
    if (kv_unlikely(at == NULL))
        return 0;
    if (plain.value_len + plain.meta_len > to->cap &&
        kv_scratch_need(to, plain.value_len + plain.meta_len) != KV_OK)
        return 0;
    return take_plain(it, at, &plain, to->p, key, len, out) && kv_still(it->ns->h->s, id);
}

/* Whatever it is. */
static int read_next(kv_iter *it, const char *key, uint32_t len, kv_rec *r)
{
    return kv_read(it->ns->h->s, it->id, place(it, 0)->hash, key, len, &it->ns->scratch, r, NULL);
}

static int fill_next(kv_iter *it, kv_rec *r, kv_record *out)
{
    r->key = (const char *)it->key + 4;
    if (it->flags & KV_KEYS_ONLY) {
        memset(out, 0, sizeof *out);
        out->key = r->key;
        out->key_len = r->key_len;
        return KV_OK;
    }
    if (it->flags & KV_NO_VALUES) {
        r->type = KV_NULL;
        r->blob = 0;
    }
    if (it->flags & KV_NO_HISTORY) {
        r->rev = r->id = 0;
        r->created = r->updated = 0;
    }
    return kv_record_fill(it->ns->h->s, r, &it->ns->blob, out);
}

static void advance(kv_iter *it, int n)
{
    it->i += it->reverse ? -n : n;
    it->turn = (it->turn + (unsigned)n) % RING;
    it->buckets -= n;
    it->records -= n;
}

/* What may have changed since the last call: the index, the namespace. Makes i the next key's
 * index. KV_ENOTFOUND: the end. */
static int resume(kv_iter *it)
{
    kv_db *s = it->ns->h->s;

    if (kv_unlikely(it->s != s) && !it->done) { /* another index */
        it->s = s;
        it->state = kv_ns_state_word(s, it->id);
        it->done = it->state == NULL;
        it->buckets = it->records = 0;
        it->pending = 0;
    }
    if (!it->done && kv_load(it->state) != KV_NAME_LIVE)
        it->done = 1; /* dropped at once, though its entries go later */
    return settle(it);
}

static int next(kv_iter *it, kv_record *out)
{
    const char *key = (const char *)it->key + 4;
    kv_record got;
    kv_rec r;
    uint64_t rev;
    size_t n;
    int e;
    kv_db *s = it->ns->h->s;

    kv_scratch_shrink(&it->ns->scratch);
    kv_scratch_shrink(&it->ns->blob);
    for (;; advance(it, 1)) {
        e = resume(it);
        if (e != KV_OK)
            return e;
        if (it->records <= STEP)
            look_ahead(it, 3 * STEP);
        n = kv_leaf_rest(&it->leaf, it->i, it->key);
        if (kv_unlikely(n < 5 || it->records <= 0))
            return damaged_order(it);
        if (kv_likely(read_plainly(it, key, (uint32_t)n - 4, out))) {
            advance(it, 1);
            fetch_chained(it);
            return KV_OK;
        }
        e = read_next(it, key, (uint32_t)n - 4, &r);
        for (rev = 0; e == KV_OK && kv_rec_live(s, &r) && r.rev != rev;) {
            rev = r.rev;
            e = fill_next(it, &r, &got);
            if (e == KV_OK) {
                *out = got;
                advance(it, 1);
                return KV_OK;
            }
            if (e == KV_ENOTFOUND) /* as get_blob */
                e = read_next(it, key, (uint32_t)n - 4, &r);
        }
        if (e == KV_OK && kv_rec_live(s, &r))
            return kv_fail(KV_ECORRUPT, "%s: the file of a large value is missing",
                           kv_dir_path(s->dir));
        if (e != KV_OK && e != KV_ENOTFOUND)
            return e; /* the same key once more, should there be a next call */
    }
}

int kv_iter_next(kv_iter *it, kv_record *out)
{
    int e = kv_enter(it->ns->h);

    if (kv_unlikely(e != KV_OK))
        return e;
    do
        e = next(it, out);
    while (kv_again(it->ns->h, &e));
    return e;
}

/* Short keys stay where they were looked up ahead, others go into the room before them. */
int kv_iter_some(kv_iter *it, kv_record *out, int n, void *room, size_t size)
{
    char *to = room, *end = to + size;
    const char *at, *key;
    uint32_t id, oldest = UINT32_MAX, len, bytes;
    int64_t now = 0;
    kv_rec_plain plain;
    kv_ahead *a;
    int i, step = it->reverse ? -1 : 1;

    if (kv_enter(it->ns->h) != KV_OK || resume(it) != KV_OK)
        return 0; /* kv_iter_next says why */
    look_ahead(it, n);
    n = n < STEP ? n : STEP;
    n = n < it->records ? n : it->records;
    for (i = 0; i < n; i++) {
        a = place(it, i);
        key = (const char *)a->key;
        len = a->len;
        if (kv_unlikely(len > SHORT)) {
            if (end - to < (ptrdiff_t)sizeof it->key)
                break;
            long_key(it, it->i + i * step);
            key = memcpy(to, it->key, len);
            to += len;
        }
        key += 4;
        len -= 4;
        at = find_plain(it, a, key, len, &plain, &id, &now);
        if (kv_unlikely(at == NULL))
            break;
        bytes = plain.value_len + plain.meta_len;
        if (kv_unlikely(bytes > (size_t)(end - to) ||
                        !take_plain(it, at, &plain, to, key, len, &out[i])))
            break;
        to += bytes;
        oldest = id < oldest ? id : oldest;
    }
    fetch_chained(it);
    if (kv_unlikely(i == 0 || !kv_still(it->ns->h->s, oldest)))
        return 0;
    advance(it, i);
    return i;
}

int kv_count(kv_ns *ns, const kv_range *range, uint64_t *n)
{
    static const kv_range everything;
    kv_range r = range ? *range : everything;
    kv_record rec;
    kv_iter it;
    uint64_t count = 0;
    int e;

    r.flags |= KV_KEYS_ONLY;
    e = kv_iter_init(&it, ns, &r);
    while (e == KV_OK && (e = kv_iter_next(&it, &rec)) == KV_OK)
        count++;
    if (e != KV_ENOTFOUND)
        return e;
    *n = count;
    return KV_OK;
}
