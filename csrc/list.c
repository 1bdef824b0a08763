/* SPDX-License-Identifier: MIT
 *
 * list.c - reading in key order without a lock: iterators, counting.
 *
 * Invariant: as in read.c. An iterator holds a private copy of one leaf and no other state of the
 * store, so it survives every change; it finds its place again by key.
 */
#include "store.h"

#include <limits.h>
#include <string.h>

/* Keys are looked up ahead, in groups, so that their cache misses overlap and are over when their
 * turn comes: while one group is read, the records of the next two are on their way, and the
 * buckets, that name their records, of the one behind them. */
#define GROUP        KV_ITER_MOST
#define GROUPS       4
#define MOST_FETCHED 192 /* bytes of a record; the processor sees by itself how it goes on */
#define SHORT        64 /* bytes of a key, its namespace included, that stays where it is looked up */

/* A key that is looked up ahead. */
typedef struct kv_ahead {
    uint64_t hash;
    const uint64_t *slot; /* the bucket, then the slot; NULL: look properly */
    uint32_t len;
    unsigned char key[SHORT + 12]; /* if len <= SHORT */
} kv_ahead;

typedef struct kv_group {
    kv_ahead key[GROUP];
    int n;
    uint32_t chained; /* keys, as bits: not in its own bucket, but the next one of its chain */
} kv_group;

struct kv_iter {
    kv_ns *ns;
    const kv_db *s; /* whose slots and state are below */
    uint32_t id;
    uint32_t flags;
    int names; /* no more is asked for than what a namespace without details has of each key */
    int bare;  /* and it is such a namespace: nobody needs its records */
    int reverse;
    int done;
    int i;        /* next index in the leaf */
    int from, to; /* those of its keys that lie within the bounds: from <= i < to */
    int fresh;    /* the leaf must be read */
    int ahead;    /* the first index behind those that are in a group */
    int at;       /* where key i is in the first group */
    unsigned first;
    kv_group group[GROUPS]; /* in a ring */
    uint32_t span;          /* bytes of the last record: how many are fetched */
    size_t low_len, high_len;
    unsigned char low[KV_ORDER_KEY + 2], high[KV_ORDER_KEY + 2]; /* low <= key < high */
    unsigned char next[KV_ORDER_KEY + 2]; /* where the next leaf is looked for */
    size_t next_len;
    const uint64_t *state;               /* of the namespace; behind it, whether it has details */
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

/* The group so many behind the first one. */
static inline kv_group *group(kv_iter *it, unsigned n)
{
    return &it->group[(it->first + n) % GROUPS];
}

static void forget_groups(kv_iter *it)
{
    it->ahead = it->i;
    it->at = group(it, 0)->n = group(it, 1)->n = 0;
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
    it->names = (r->flags & KV_KEYS_ONLY) != 0 ||
                (r->flags & (KV_NO_VALUES | KV_NO_HISTORY)) == (KV_NO_VALUES | KV_NO_HISTORY);
    it->bare = 0;
    it->reverse = (r->flags & KV_REVERSE) != 0;
    it->state = kv_ns_state_word(ns->h->s, it->id);
    it->done = id == 0 || it->state == NULL;
    it->fresh = 1;
    it->i = 0;
    it->first = 0;
    forget_groups(it);
    it->span = MOST_FETCHED;
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
            forget_groups(it);
            kv_leaf_prefix(&it->leaf, it->key);
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

/* The length of key i of the leaf, which is long and goes where the last one handed out was; 0: it
 * is damaged. */
static KV_NOINLINE uint32_t long_key(kv_iter *it, int i)
{
    size_t n = kv_leaf_rest(&it->leaf, i, it->key);

    return n < 5 ? 0 : (uint32_t)n;
}

/* Puts the next keys of the leaf into a group, as long as less than n are ahead, and fetches their
 * buckets. Each of these loops is short: what a processor has in view at a time bounds how many
 * waits overlap. A bucket that has been split meanwhile does not hold the key, or still its slot.
 */
static void fetch_buckets(kv_iter *it, kv_group *g, int n)
{
    kv_region *r = &it->ns->h->s->region;
    uint64_t seed0 = it->ns->seed0, seed1 = it->ns->seed1;
    uint64_t count = kv_load(&r->head->hash[KV_HASH_COUNT]);
    kv_leaf_keys keys = kv_leaf_short_keys(&it->leaf, 5, SHORT);
    int step = it->reverse ? -1 : 1, i = it->ahead, k;
    int left = it->reverse ? i - it->from + 1 : it->to - i;
    kv_ahead *a;

    n -= (i - it->i) * step;
    n = n < left ? n : left;
    n = n < GROUP ? n : GROUP;
    for (k = 0, a = g->key; k < n; k++, a++, i += step) {
        memcpy(a->key, it->key, SHORT);
        a->len = kv_leaf_short(&keys, i, a->key);
    }
    for (k = 0, a = g->key; k < n; k++, a++) {
        const unsigned char *key = a->key;

        if (kv_unlikely(a->len == 0)) {
            a->len = long_key(it, it->ahead + k * step);
            key = it->key;
            if (a->len == 0)
                break; /* damage: whose turn it is will tell */
        }
        a->hash = kv_hash_key(seed0, seed1, it->id, key + 4, a->len - 4);
        a->slot = kv_hash_bucket_of(r, a->hash, count);
        kv_prefetch_far(a->slot);
    }
    it->ahead += k * step;
    g->n = k;
    g->chained = 0;
}

/* Where the record may lie that a slot names. */
static inline const char *record_of(const kv_log *l, uint64_t slot)
{
    return kv_log_look(l, slot).base + ((slot & 0x3fffff) << 2);
}

static inline void fetch_record(const kv_iter *it, uint64_t slot, uint32_t last)
{
    const char *p;

    if (it->bare)
        return;
    p = record_of(&it->ns->h->s->log, slot);
    kv_prefetch_far(p);
    kv_prefetch_far(p + (last < 64 ? last : 64));
    kv_prefetch_far(p + (last < 128 ? last : 128));
    kv_prefetch_far(p + last);
}

/* Fetches a group's records, if their slots are in their own buckets, else the next bucket of the
 * chain; and of the group before it (may be NULL) the records that such buckets name. All at once:
 * the waits for address translation overlap then. */
static void fetch_records(kv_iter *it, kv_group *g, kv_group *before)
{
    kv_db *s = it->ns->h->s;
    uint32_t last = it->span - 1, m;
    int n = g->n, k;
    kv_ahead *a;

    for (k = 0, a = g->key; k < n; k++, a++) {
        const uint64_t *slot = kv_hash_slot(a->slot, a->hash);

        if (kv_likely(slot != NULL)) {
            fetch_record(it, kv_load(slot), last);
        } else {
            slot = kv_hash_chained(&s->region, a->slot);
            kv_prefetch_far(slot);
            g->chained |= 1u << k;
        }
        a->slot = slot;
    }
    for (m = before != NULL ? before->chained : 0; kv_unlikely(m); m &= m - 1) {
        a = &before->key[__builtin_ctz(m)];
        a->slot = kv_hash_slot(a->slot, a->hash);
        if (a->slot != NULL)
            fetch_record(it, kv_load(a->slot), last);
    }
}

/* If the first group is done with: another step of each, as far as there are keys in the leaf and
 * as n are wanted. */
static void look_ahead(kv_iter *it, int n)
{
    unsigned k, begun;

    if (it->at < group(it, 0)->n)
        return;
    it->at = 0;
    it->first++;
    begun = group(it, 0)->n != 0;
    if (!begun)
        it->ahead = it->i; /* some may be in a group behind it, since fewer were wanted then */
    for (k = begun ? GROUPS - 1 : 0; k < GROUPS; k++)
        fetch_buckets(it, group(it, k), n);
    /* No more in this leaf, and it is not the last one. */
    if (it->leaf.beside != 0 && it->ahead == (it->reverse ? -1 : it->leaf.count)) {
        kv_order_prefetch(&it->ns->h->s->region, it->leaf.beside);
        it->leaf.beside = 0;
    }
    for (k = begun ? GROUPS - 2 : 0; k < GROUPS - 1; k++)
        fetch_records(it, group(it, k), k > 0 ? group(it, k - 1) : NULL);
}

/* A record where it lies. */
typedef struct found_plain {
    kv_log_spot at;
    uint32_t size; /* at first, how many bytes it may have */
} found_plain;

/* Of all that are wanted before the first is looked at: they come from the second cache to the
 * first together, in a loop too short to hold that up. */
static inline void locate(const kv_log *l, const kv_ahead *a, found_plain *f)
{
    f->at = kv_log_find(l, kv_hash_peek(a->slot, a->hash), &f->size);
    kv_prefetch(f->at.p);
}

static inline int is_whole(const found_plain *f)
{
    return kv_rec_whole(f->at.p, f->size, f->at.seed);
}

/* The usual case, as in glance of read.c: a plain record that is not expired. Takes what the
 * iterator's flags ask for; its bytes go to *to, which moves behind them, before `end` (not where
 * there is no room at all, even if they are none). 0: it is not so. Counts if is_whole says so of
 * *f, and kv_still of its segment after all was read. *now: the time, or 0 until it is needed. Of
 * `out` all is zero. */
static inline __attribute__((always_inline)) int take_plain(kv_iter *it, const char *key,
                                                            uint32_t len, char **to,
                                                            const char *end, kv_record *out,
                                                            found_plain *f, int64_t *now)
{
    kv_db *s = it->ns->h->s;
    uint32_t flags = it->flags;
    kv_rec_plain plain;
    kv_rec r;

    if (kv_unlikely(f->at.p == NULL || !kv_rec_look(f->at.p, f->size, it->id, key, len, &plain)))
        return 0;
    f->size = plain.size;
    if (plain.expires != 0) {
        *now = *now ? *now : kv_store_now(s);
        if (plain.expires <= *now)
            return 0;
    }
    KV_PAUSE("list: record to be taken");
    out->value.type = KV_NULL;
    out->key = key;
    out->key_len = len;
    if (flags & KV_KEYS_ONLY)
        return 1;
    out->expires = plain.expires;
    if (!(flags & KV_NO_HISTORY))
        kv_rec_history(f->at.p, &out->rev, &out->id, &out->created, &out->updated);
    if (plain.meta_len != 0) {
        if (plain.meta_len >= end - *to)
            return 0;
        out->meta_len = plain.meta_len;
        out->meta = memcpy(*to, plain.meta, plain.meta_len);
        *to += plain.meta_len;
    }
    if (!(flags & KV_NO_VALUES) && plain.type != KV_NULL) {
        if (plain.value_len >= end - *to)
            return 0;
        r.type = (uint8_t)plain.type;
        r.value = memcpy(*to, plain.value, plain.value_len);
        r.value_len = plain.value_len;
        *to += plain.value_len;
        return kv_value_read(&r, &out->value) == KV_OK;
    }
    return 1;
}

/* A loop may write between two calls, and must see it then. So no slot in another bucket of a chain
 * is believed from one call to the next: that bucket may have been freed, taken for a split and,
 * when that was undone, left as it was. */
static inline int read_plainly(kv_iter *it, const char *key, uint32_t len, kv_record *out)
{
    const kv_scratch *room = &it->ns->scratch;
    kv_group *g = group(it, 0);
    char *to = room->p;
    int64_t now = 0;
    found_plain f;

    memset(out, 0, sizeof *out);
    if (g->chained >> it->at & 1)
        return 0;
    locate(&it->ns->h->s->log, &g->key[it->at], &f);
    if (!take_plain(it, key, len, &to, to + room->cap, out, &f, &now))
        return 0;
    it->span = f.size < MOST_FETCHED ? f.size : MOST_FETCHED;
    return is_whole(&f) && kv_still(it->ns->h->s, f.at.id);
}

/* Whatever it is. */
static int read_next(kv_iter *it, const char *key, uint32_t len, kv_rec *r)
{
    return kv_read(it->ns->h->s, it->id, group(it, 0)->key[it->at].hash, key, len, &it->ns->scratch,
                   r, NULL);
}

static int fill_next(kv_iter *it, kv_rec *r, kv_record *out)
{
    r->key = (const char *)it->key + 4;
    if (it->flags & KV_KEYS_ONLY) {
        memset(out, 0, sizeof *out);
        out->value.type = KV_NULL;
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

/* Asked before its keys' slots are read, it says what need not be fetched; afterwards, that they
 * are without. */
static inline int has_no_details(const kv_iter *it)
{
    return kv_load(&it->state[KV_NAME_DETAILS]) == 0;
}

static void advance(kv_iter *it, int n)
{
    it->i += it->reverse ? -n : n;
    it->at += n;
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
        forget_groups(it);
    }
    if (!it->done) {
        it->done = kv_load(it->state) != KV_NAME_LIVE; /* at once, though its entries go later */
        it->bare = it->names && has_no_details(it);
    }
    return settle(it);
}

static int next(kv_iter *it, kv_record *out)
{
    const char *key = (const char *)it->key + 4;
    kv_record got;
    kv_rec r;
    uint64_t rev;
    uint32_t n;
    int e;
    kv_db *s = it->ns->h->s;

    kv_scratch_shrink(&it->ns->scratch);
    kv_scratch_shrink(&it->ns->blob);
    for (;; advance(it, 1)) {
        e = resume(it);
        if (e != KV_OK)
            return e;
        look_ahead(it, INT_MAX);
        n = long_key(it, it->i);
        if (kv_unlikely(n == 0 || group(it, 0)->n == 0))
            return damaged_order(it);
        n -= 4;
        if (kv_likely(read_plainly(it, key, n, out))) {
            advance(it, 1);
            return KV_OK;
        }
        e = read_next(it, key, n, &r);
        for (rev = 0; e == KV_OK && kv_rec_live(s, &r) && r.rev != rev;) {
            rev = r.rev;
            e = fill_next(it, &r, &got);
            if (e == KV_OK) {
                *out = got;
                advance(it, 1);
                return KV_OK;
            }
            if (e == KV_ENOTFOUND) /* as get_blob */
                e = read_next(it, key, n, &r);
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

/* The key m behind the next one, with its namespace. A short one stays where it was looked up
 * ahead; others go into the room at *to, which moves behind them. NULL: there is not enough. */
static inline const char *key_ahead(kv_iter *it, int m, char **to, const char *end)
{
    const kv_ahead *a = &group(it, 0)->key[it->at + m];
    char *key;

    if (kv_likely(a->len <= SHORT))
        return (const char *)a->key;
    if (end - *to < (ptrdiff_t)sizeof it->key)
        return NULL;
    long_key(it, it->reverse ? it->i - m : it->i + m);
    key = memcpy(*to, it->key, a->len);
    *to += a->len;
    return key;
}

/* How many of the next n are there, of which nothing but the keys is asked for and known to be
 * needed. That a key has a slot is enough: in a namespace without details nothing expires. The
 * leaf told that there was such a key, so a tag that only looks like its own (one in 16 million) is
 * that of a key that went or came just now. */
static inline int some_bare(kv_iter *it, kv_record *out, int n, char *to, const char *end)
{
    const kv_ahead *a = &group(it, 0)->key[it->at];
    const char *key;
    int m;

    for (m = 0; m < n && kv_hash_peek(a[m].slot, a[m].hash) != 0; m++) {
        key = key_ahead(it, m, &to, end);
        if (kv_unlikely(key == NULL))
            break;
        out[m].value.type = KV_NULL;
        out[m].key = key + 4;
        out[m].key_len = a[m].len - 4;
    }
    KV_PAUSE("list: slots read");
    if (KV_IS_BUG(64))
        return m;
    return has_no_details(it) && !kv_superseded(it->ns->h->s) ? m : 0;
}

/* How many of the next n are there, their records plain and whole. */
static inline int some_plain(kv_iter *it, kv_record *out, int n, char *to, const char *end)
{
    const kv_log *l = &it->ns->h->s->log;
    const kv_ahead *a = &group(it, 0)->key[it->at];
    found_plain found[GROUP];
    uint32_t oldest = UINT32_MAX;
    int64_t now = 0;
    const char *key;
    int i, m;

    for (m = 0; m < n; m++)
        locate(l, &a[m], &found[m]);
    for (m = 0; m < n; m++) {
        key = key_ahead(it, m, &to, end);
        if (kv_unlikely(key == NULL ||
                        !take_plain(it, key + 4, a[m].len - 4, &to, end, &out[m], &found[m], &now)))
            break;
    }
    for (i = 0; i < m && is_whole(&found[i]); i++)
        oldest = found[i].at.id < oldest ? found[i].at.id : oldest;
    if (kv_unlikely(i == 0 || !kv_still(it->ns->h->s, oldest)))
        return 0;
    it->span = found[i - 1].size < MOST_FETCHED ? found[i - 1].size : MOST_FETCHED;
    return i;
}

int kv_iter_some(kv_iter *it, kv_record *out, int n, void *room, size_t size)
{
    char *to = room;
    kv_group *g;

    if (kv_enter(it->ns->h) != KV_OK || resume(it) != KV_OK)
        return 0; /* kv_iter_next says why */
    look_ahead(it, n);
    g = group(it, 0);
    n = n < g->n - it->at ? n : g->n - it->at;
    memset(out, 0, (size_t)n * sizeof *out);
    n = it->bare ? some_bare(it, out, n, to, to + size) : some_plain(it, out, n, to, to + size);
    advance(it, n);
    return n;
}

int kv_count(kv_ns *ns, const kv_range *range, uint64_t *n)
{
    static const kv_range everything;
    kv_range r = range ? *range : everything;
    kv_record rec[KV_ITER_MOST];
    char room[KV_ITER_MOST * (KV_ORDER_KEY + 8)];
    kv_iter it;
    uint64_t count = 0;
    int e, some;

    r.flags |= KV_KEYS_ONLY;
    e = kv_iter_init(&it, ns, &r);
    while (e == KV_OK) {
        some = kv_iter_some(&it, rec, INT_MAX, room, sizeof room);
        if (some == 0 && (e = kv_iter_next(&it, rec)) == KV_OK)
            some = 1;
        count += (uint64_t)some;
    }
    if (e != KV_ENOTFOUND)
        return e;
    *n = count;
    return KV_OK;
}
