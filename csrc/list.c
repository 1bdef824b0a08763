/* SPDX-License-Identifier: MIT
 *
 * list.c - reading in key order without a lock: iterators, counting.
 *
 * Invariant: as in read.c. An iterator holds a private copy of one leaf and no other state of the
 * store, so it survives every change; it finds its place again by key.
 */
#include "store.h"

#include <string.h>

/* Keys are looked up ahead, so that their cache misses overlap and are over when their turn comes:
 * each time so many, and a bucket is fetched that many keys before the record that it names. */
#define STEP 4
#define RING 16 /* a power of two, at least three steps */

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
    uint64_t hash[RING];
    const uint64_t *slot[RING]; /* the bucket, then the slot; NULL: look properly */
    size_t low_len, high_len;
    unsigned char low[KV_ORDER_KEY + 2], high[KV_ORDER_KEY + 2]; /* low <= key < high */
    unsigned char next[KV_ORDER_KEY + 2]; /* where the next leaf is looked for */
    size_t next_len;
    const uint64_t *state; /* of the namespace */
    /* Handed out, and the last one of those ahead; both begin as the leaf's keys do. */
    unsigned char key[KV_ORDER_KEY + 8], ahead[KV_ORDER_KEY + 8];
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
    int e;

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
            kv_leaf_prefix(&it->leaf, it->key);
            kv_leaf_prefix(&it->leaf, it->ahead);
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

/* Another step of each, as far as there are keys in the leaf. */
static KV_NOINLINE void look_ahead(kv_iter *it)
{
    kv_db *s = it->ns->h->s;
    uint64_t seed0 = it->ns->seed0, seed1 = it->ns->seed1, hash, word;
    int i, n, step = it->reverse ? -1 : 1,
              left = it->reverse ? it->i - it->from + 1 : it->to - it->i;
    const uint64_t *slot;
    unsigned k;
    size_t len;

    left = left < 3 * STEP ? left : 3 * STEP;
    for (n = it->buckets, i = it->i + n * step; n < left; n++, i += step) {
        len = kv_leaf_rest(&it->leaf, i, it->ahead);
        if (len < 4)
            break;
        hash = kv_hash_key(seed0, seed1, it->id, it->ahead + 4, len - 4);
        slot = kv_hash_bucket(&s->region, hash);
        kv_prefetch(slot);
        k = (it->turn + (unsigned)n) % RING;
        it->hash[k] = hash;
        it->slot[k] = slot;
    }
    it->buckets = n;
    for (i = n, n = it->records; n < i && n < 2 * STEP; n++) {
        k = (it->turn + (unsigned)n) % RING;
        hash = it->hash[k];
        slot = kv_hash_slot(it->slot[k], hash);
        it->slot[k] = slot;
        word = kv_hash_peek(slot, hash);
        if (word != 0)
            kv_log_prefetch(&s->log, word & KV_ADDR_MASK);
    }
    it->records = n;
}

/* The usual case, as in glance of read.c: the key's record is plain and where its home bucket says.
 * What the iterator's flags ask for is copied. 0: it is not so. */
static inline int read_plainly(kv_iter *it, const char *key, uint32_t len, kv_record *out)
{
    kv_db *s = it->ns->h->s;
    kv_scratch *to = &it->ns->scratch;
    uint64_t slot = kv_hash_peek(it->slot[it->turn], it->hash[it->turn]);
    kv_rec_plain plain;
    const char *at;
    uint32_t id;
    kv_rec r;

    at = slot ? kv_log_value(&s->log, slot & KV_ADDR_MASK, it->id, key, len, &plain, &id) : NULL;
    if (kv_unlikely(at == NULL || (plain.expires != 0 && plain.expires <= kv_store_now(s))))
        return 0;
    KV_PAUSE("list: record to be taken");
    memset(out, 0, sizeof *out);
    out->key = key;
    out->key_len = len;
    if (it->flags & KV_KEYS_ONLY)
        return kv_still(s, id);
    out->expires = plain.expires;
    kv_rec_history(at, &out->rev, &out->id, &out->created, &out->updated);
    r.value_len = it->flags & KV_NO_VALUES ? 0 : plain.value_len;
    r.type = it->flags & KV_NO_VALUES ? KV_NULL : (uint8_t)plain.type;
    out->meta_len = plain.meta_len;
    if (r.value_len + out->meta_len != 0) {
        if (r.value_len + out->meta_len > to->cap &&
            kv_scratch_need(to, r.value_len + out->meta_len) != KV_OK)
            return 0;
        memcpy(to->p, plain.meta - r.value_len, r.value_len + out->meta_len);
    }
    r.value = to->p;
    out->meta = to->p + r.value_len;
    if (r.type == KV_NULL)
        out->value.type = KV_NULL;
    else if (kv_value_read(&r, &out->value) != KV_OK)
        return 0;
    return kv_still(s, id);
}

/* Whatever it is. */
static int read_next(kv_iter *it, const char *key, uint32_t len, kv_rec *r)
{
    return kv_read(it->ns->h->s, it->id, it->hash[it->turn], key, len, &it->ns->scratch, r, NULL);
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
    return kv_record_fill(it->ns->h->s, r, &it->ns->blob, out);
}

static void advance(kv_iter *it)
{
    it->i += it->reverse ? -1 : 1;
    it->turn = (it->turn + 1) % RING;
    it->buckets--;
    it->records--;
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

    if (kv_unlikely(it->s != s) && !it->done) { /* another index */
        it->s = s;
        it->state = kv_ns_state_word(s, it->id);
        it->done = it->state == NULL;
        it->buckets = it->records = 0;
    }
    kv_scratch_shrink(&it->ns->scratch);
    kv_scratch_shrink(&it->ns->blob);
    for (;; advance(it)) {
        if (!it->done && kv_load(it->state) != KV_NAME_LIVE)
            it->done = 1; /* dropped at once, though its entries go later */
        e = settle(it);
        if (e != KV_OK)
            return e;
        if (it->records <= STEP)
            look_ahead(it);
        n = kv_leaf_rest(&it->leaf, it->i, it->key);
        if (kv_unlikely(n < 5 || it->records <= 0))
            return damaged_order(it);
        if (kv_likely(read_plainly(it, key, (uint32_t)n - 4, out))) {
            advance(it);
            return KV_OK;
        }
        e = read_next(it, key, (uint32_t)n - 4, &r);
        for (rev = 0; e == KV_OK && kv_rec_live(s, &r) && r.rev != rev;) {
            rev = r.rev;
            e = fill_next(it, &r, &got);
            if (e == KV_OK) {
                *out = got;
                advance(it);
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
