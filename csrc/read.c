/* SPDX-License-Identifier: MIT
 *
 * read.c - reading without a lock: single keys, namespaces' names, ordered listing, cursors.
 *
 * Invariant: nothing here writes shared memory or waits. A hit is a private copy of a record whose
 * segment was still there after the copy and whose checksum is right; a miss is a scan of a stable
 * bucket. Whatever moved meanwhile means: look again.
 */
#include "store.h"

#include <string.h>

/* The system's clock, held still over backward steps of less than a minute; only writes move it on
 * for everyone. */
#define HOLD 60000

int64_t kv_store_now(kv_db *s)
{
    int64_t wall = kv_os_wall(), last = (int64_t)kv_load(kv_st(s, KV_ST_CLOCK));

    return wall < last && last - wall < HOLD ? last : wall;
}

int64_t kv_now(kv *h)
{
    return kv_store_now(h->s);
}

uint64_t kv_rev(kv *h)
{
    (void)kv_enter(h);
    return kv_load(kv_st(h->s, KV_ST_REV));
}

/* ---- one key -------------------------------------------------------------------------- */

/* Finds the record whatever its age. A scan that has to start again does so because a writer made
 * progress; the bound is against damage that looks like it. */
#define RETRIES 100000

int kv_read(kv_db *s, uint32_t ns, uint64_t hash, const char *key, uint32_t len,
            kv_scratch *scratch, kv_rec *out, uint64_t *addr)
{
    kv_hash_scan scan;
    int e, step, tries;

    for (tries = 0; tries < RETRIES; tries++) {
        kv_hash_start(&s->region, hash, &scan);
        while ((step = kv_hash_next(&s->region, &scan)) == KV_HASH_CANDIDATE) {
            e = kv_log_fetch(&s->log, scan.slot & KV_ADDR_MASK, scratch, out);
            if (e == KV_LOG_GONE && !KV_IS_BUG(11))
                break;
            if (e < 0)
                return e;
            if (out->key_len == len && kv_rec_index_ns(out) == ns &&
                memcmp(out->key, key, len) == 0) {
                if (addr != NULL)
                    *addr = scan.slot & KV_ADDR_MASK;
                return KV_OK;
            }
        }
        if (step == KV_HASH_END)
            return KV_ENOTFOUND;
        if (step == KV_HASH_DAMAGED)
            break;
        s->retried++;
    }
    return kv_fail(KV_ECORRUPT, "%s: the lookup table is damaged", kv_dir_path(s->dir));
}

static inline int live(kv_db *s, const kv_rec *r)
{
    return r->expires == 0 || r->expires > kv_store_now(s) || KV_IS_BUG(15);
}

int kv_value_read(const kv_rec *r, kv_value *v)
{
    memset(v, 0, sizeof *v);
    v->type = r->type;
    switch (r->type) {
    case KV_STRING:
    case KV_JSON:
        v->data = r->value;
        v->len = r->value_len;
        return KV_OK;
    case KV_INTEGER:
        if (r->value_len != 8)
            break;
        memcpy(&v->integer, r->value, 8);
        return KV_OK;
    case KV_NUMBER:
        if (r->value_len != 8)
            break;
        memcpy(&v->number, r->value, 8);
        return KV_OK;
    case KV_BOOLEAN:
        if (r->value_len != 1)
            break;
        v->integer = r->value[0] != 0;
        return KV_OK;
    case KV_NULL:
        return KV_OK;
    }
    return kv_fail(KV_ECORRUPT, "a record holds a value of an unknown type");
}

uint32_t kv_value_bytes(const kv_value *v, char buf[8], const char **bytes)
{
    *bytes = buf;
    switch (v->type) {
    case KV_INTEGER:
        memcpy(buf, &v->integer, 8);
        return 8;
    case KV_NUMBER:
        memcpy(buf, &v->number, 8);
        return 8;
    case KV_BOOLEAN:
        buf[0] = v->integer != 0;
        return 1;
    case KV_NULL:
        return 0;
    default:
        *bytes = v->data;
        return v->len;
    }
}

int kv_reference(kv_db *s, const kv_rec *r, uint64_t ref[2])
{
    if (r->value_len == 16) {
        memcpy(ref, r->value, 16);
        if (ref[1] <= KV_MAX_VALUE_CAP)
            return KV_OK;
    }
    return kv_fail(KV_ECORRUPT, "%s: a reference to a large value is damaged", kv_dir_path(s->dir));
}

/* KV_ENOTFOUND: the blob is gone, because the record was superseded meanwhile. */
static int read_blob(kv_db *s, const kv_rec *r, kv_scratch *blob, kv_value *v)
{
    kv_blob_reader reader;
    uint64_t ref[2];
    int e = kv_reference(s, r, ref);

    if (e == KV_OK)
        e = kv_scratch_need(blob, (size_t)ref[1] + 1);
    if (e == KV_OK)
        e = kv_blob_open(s->dir, s->meta.store_id, ref[0], ref[1], &reader);
    if (e != KV_OK)
        return e;
    e = kv_blob_read(&reader, blob->p, (size_t)ref[1], 0);
    kv_blob_close(&reader);
    memset(v, 0, sizeof *v);
    v->type = r->type;
    v->data = blob->p;
    v->len = (uint32_t)ref[1];
    return e;
}

int kv_record_fill(kv_db *s, const kv_rec *r, kv_scratch *blob, kv_record *out)
{
    int e = r->blob ? read_blob(s, r, blob, &out->value) : kv_value_read(r, &out->value);

    if (e != KV_OK)
        return e;
    out->key = r->key;
    out->key_len = r->key_len;
    out->meta = r->meta;
    out->meta_len = r->meta_len;
    out->rev = r->rev;
    out->id = r->id;
    out->created = r->created;
    out->updated = r->updated;
    out->expires = r->expires;
    return KV_OK;
}

/* Large values' buffers are not kept from call to call. */
static void shrink(kv_scratch *s)
{
    if (s->cap > (1u << 20))
        kv_scratch_free(s);
}

int kv_check_key(const char *key, size_t len)
{
    if (key == NULL || len == 0)
        return kv_fail(KV_EINVAL, "a key must have at least one byte");
    if (len > KV_MAX_KEY)
        return kv_fail(KV_ETOOBIG, "a key has at most %d bytes, this one %zu", KV_MAX_KEY, len);
    return KV_OK;
}

static int current(kv_ns *ns, const char *key, size_t len, kv_rec *r)
{
    int64_t id;
    int e = kv_unlikely(key == NULL || len - 1 >= KV_MAX_KEY) ? kv_check_key(key, len) : KV_OK;

    if (kv_unlikely(e != KV_OK || (e = kv_enter(ns->h)) != KV_OK))
        return e;
    id = kv_ns_resolve(ns);
    if (kv_unlikely(id <= 0))
        return id ? (int)id : KV_ENOTFOUND;
    e = kv_read(ns->h->s, (uint32_t)id, kv_hash_key(ns->seed0, ns->seed1, (uint32_t)id, key, len),
                key, (uint32_t)len, &ns->scratch, r, NULL);
    return kv_likely(e == KV_OK) && !live(ns->h->s, r) ? KV_ENOTFOUND : e;
}

int kv_current(kv_ns *ns, const char *key, size_t len, kv_rec *r)
{
    return current(ns, key, len, r);
}

/* A large value may have been superseded and its file be gone: then another record is there when
 * the key is looked up again, else the file is missing. */
static KV_NOINLINE int get_blob(kv_ns *ns, const char *key, size_t len, kv_rec *r, kv_record *out)
{
    kv_record got;
    uint64_t rev = 0;
    int e = KV_OK;

    while (e == KV_OK && r->rev != rev) {
        rev = r->rev;
        e = kv_record_fill(ns->h->s, r, &ns->blob, &got);
        if (e == KV_OK)
            *out = got;
        if (e != KV_ENOTFOUND)
            return e;
        e = current(ns, key, len, r);
    }
    return e != KV_OK ? e
                      : kv_fail(KV_ECORRUPT, "%s: the file of a large value is missing",
                                kv_dir_path(ns->h->s->dir));
}

int kv_get(kv_ns *ns, const char *key, size_t len, kv_record *out)
{
    kv_rec r;
    int e;

    shrink(&ns->scratch);
    shrink(&ns->blob);
    e = current(ns, key, len, &r);
    if (kv_unlikely(e != KV_OK))
        return e;
    return kv_unlikely(r.blob) ? get_blob(ns, key, len, &r, out)
                               : kv_record_fill(ns->h->s, &r, &ns->blob, out);
}

/* The usual case in one piece: the key's record is where its home bucket says, in a mapped segment,
 * plain, and the value fits the scratch buffer. Everything else takes the way of kv_get. */
static inline int glance(kv_ns *ns, const char *key, uint32_t len, kv_value *out)
{
    kv_db *s = ns->h->s;
    uint64_t hash = kv_hash_key(ns->seed0, ns->seed1, ns->id, key, len), addr;
    uint32_t off, size, value_len;
    const char *base, *value;
    int64_t expires;
    int type;

    addr = kv_hash_glance(&s->region, hash) & KV_ADDR_MASK;
    base = kv_log_view(&s->log, addr, &size);
    off = (uint32_t)(addr & 0x3fffff) << 2;
    if (kv_unlikely(base == NULL || off < KV_SEG_HEAD || off + KV_REC_MIN > size))
        return 0;
    if (kv_unlikely(!kv_rec_value(base + off, size - off,
                                  kv_rec_seed(((const kv_seg_head *)(const void *)base)->salt, off),
                                  ns->id, key, len, &type, &value, &value_len, &expires)))
        return 0;
    /* Not `>`: an empty value must not be copied to a scratch that is not there yet. */
    if (kv_unlikely(value_len >= ns->scratch.cap || (expires != 0 && expires <= kv_store_now(s))))
        return 0;
    out->type = type;
    out->len = value_len;
    out->data = ns->scratch.p;
    if (kv_likely(type == KV_STRING || type == KV_JSON)) {
        memcpy(ns->scratch.p, value, value_len);
    } else if (type == KV_INTEGER && value_len == 8) {
        memcpy(&out->integer, value, 8);
    } else if (type == KV_NUMBER && value_len == 8) {
        memcpy(&out->number, value, 8);
    } else {
        return 0;
    }
    return kv_log_still(base, addr);
}

int kv_get_value(kv_ns *ns, const char *key, size_t len, kv_value *out)
{
    kv_record r;
    int e;

    shrink(&ns->scratch);
    if (kv_likely(key != NULL && len - 1 < KV_MAX_KEY && kv_fresh(ns->h) && ns->state != NULL &&
                  kv_load(ns->state) == KV_NAME_LIVE) &&
        kv_likely(glance(ns, key, (uint32_t)len, out)))
        return KV_OK;
    e = kv_get(ns, key, len, &r);
    if (e == KV_OK)
        *out = r.value;
    return e;
}

int kv_exists(kv_ns *ns, const char *key, size_t len)
{
    kv_rec r;

    return current(ns, key, len, &r);
}

/* ---- names ---------------------------------------------------------------------------- */

static int read_name(kv_db *s, const char *name, uint32_t len, kv_scratch *scratch, kv_rec *r)
{
    int e = kv_read(s, 0, kv_index_hash(s, 0, name, len), name, len, scratch, r, NULL);

    if (e == KV_OK && kv_ns_state(s, r->ns) != KV_NAME_LIVE)
        e = KV_ENOTFOUND;
    return e;
}

int64_t kv_ns_resolve(kv_ns *ns)
{
    kv_rec r;
    int e;

    if (kv_likely(ns->state != NULL && kv_load(ns->state) == KV_NAME_LIVE))
        return ns->id;
    e = read_name(ns->h->s, ns->name, ns->name_len, &ns->scratch, &r);
    ns->id = e == KV_OK ? r.ns : 0;
    ns->state = e == KV_OK ? kv_ns_state_word(ns->h->s, ns->id) : NULL;
    return e == KV_OK || e == KV_ENOTFOUND ? (int64_t)ns->id : e;
}

int kv_ns_next(kv *h, kv_ns_info *info)
{
    unsigned char from[KV_ORDER_KEY + 1] = {0}, key[KV_ORDER_KEY];
    size_t len = 4, n;
    kv_leaf leaf;
    kv_place at;
    kv_rec r;
    uint64_t *w;
    int e = kv_enter(h), i;

    if (e != KV_OK)
        return e;
    memcpy(from + 4, info->name, info->name_len);
    len += info->name_len;
    if (info->name_len)
        from[len++] = 0; /* strictly after it */
    for (;;) {
        e = kv_order_read(&h->s->region, from, len, 0, &leaf);
        if (e != KV_OK)
            return e;
        for (i = kv_leaf_find(&leaf, from, len); i < leaf.count; i++) {
            n = kv_leaf_key(&leaf, i, key);
            if (n < 4)
                return kv_fail(KV_ECORRUPT, "%s: the key order is damaged", kv_dir_path(h->s->dir));
            if (memcmp(key, "\0\0\0\0", 4) != 0)
                return KV_ENOTFOUND;
            e = n - 4 > KV_MAX_NAME
                    ? KV_ECORRUPT
                    : read_name(h->s, (char *)key + 4, (uint32_t)n - 4, &h->scratch, &r);
            if (e == KV_ENOTFOUND)
                continue;
            if (e != KV_OK)
                return e;
            memset(info, 0, sizeof *info);
            memcpy(info->name, r.key, r.key_len);
            info->name_len = r.key_len;
            info->desc = r.value;
            info->desc_len = r.value_len;
            info->created = r.created;
            w = kv_ns_words(h->s, r.ns, &at);
            info->keys = w ? kv_load(&w[KV_NAME_KEYS]) : 0;
            info->bytes = w ? kv_load(&w[KV_NAME_BYTES]) : 0;
            return KV_OK;
        }
        if (!leaf.has_upper)
            return KV_ENOTFOUND;
        memcpy(from, leaf.upper, leaf.upper_len);
        len = leaf.upper_len;
    }
}

/* ---- ordered listing ------------------------------------------------------------------ */

/* Keys looked up ahead, so that their cache misses overlap. */
#define AHEAD 8

struct kv_iter {
    kv_ns *ns;
    const kv_db *s; /* whose hashes are in `hash` */
    uint32_t id;
    uint32_t flags;
    int reverse;
    int done;
    int i;     /* next index in the leaf */
    int fresh; /* the leaf must be read */
    int warm;  /* keys from i on whose hashes are known and whose records are on their way */
    int cold;  /* index of i's hash */
    uint64_t hash[AHEAD];
    size_t low_len, high_len;
    int has_high;
    unsigned char low[KV_ORDER_KEY + 2], high[KV_ORDER_KEY + 2]; /* low <= key < high */
    unsigned char next[KV_ORDER_KEY + 2]; /* where the next leaf is looked for */
    size_t next_len;
    kv_leaf leaf;
};

size_t kv_iter_size(void)
{
    return (sizeof(kv_iter) + 15) & ~(size_t)15;
}

static size_t put_id(uint32_t id, unsigned char *out)
{
    out[0] = (unsigned char)(id >> 24);
    out[1] = (unsigned char)(id >> 16);
    out[2] = (unsigned char)(id >> 8);
    out[3] = (unsigned char)id;
    return 4;
}

static int compare(const void *a, size_t alen, const void *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c ? c : (alen > blen) - (alen < blen);
}

/* The first byte string behind all that begin with p: its last byte that can grow does. 0: there is
 * none. */
static size_t successor(unsigned char *p, size_t len)
{
    while (len > 0 && p[len - 1] == 0xff)
        len--;
    if (len > 0)
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
    size_t n = put_id(it->id, k);

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
    if (!it->has_high || compare(k, n, it->high, it->high_len) < 0) {
        memcpy(it->high, k, n);
        it->high_len = n;
        it->has_high = 1;
    }
}

static void lower_high(kv_iter *it, const char *key, size_t len)
{
    unsigned char k[KV_ORDER_KEY + 2];
    size_t n = put_id(it->id, k);

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
    it->done = id == 0;
    it->fresh = 1;
    it->i = it->warm = 0;
    it->low_len = put_id(it->id, it->low);
    it->has_high = 0;
    n = put_id(it->id, k);
    n = successor(k, n);
    if (n)
        cut_high(it, k, n);
    if (r->prefix != NULL && r->prefix_len) {
        if (r->prefix_len > KV_MAX_KEY) {
            it->done = 1;
            return KV_OK;
        }
        raise_low(it, r->prefix, r->prefix_len, 0);
        n = put_id(it->id, k);
        memcpy(k + n, r->prefix, r->prefix_len);
        n = successor(k, n + r->prefix_len);
        if (n)
            cut_high(it, k, n);
    }
    if (r->start != NULL)
        raise_low(it, r->start, r->start_len, 0);
    if (r->stop != NULL)
        lower_high(it, r->stop, r->stop_len);
    if (r->after != NULL && it->reverse)
        lower_high(it, r->after, r->after_len);
    if (r->after != NULL && !it->reverse)
        raise_low(it, r->after, r->after_len, 1);
    if (it->has_high && compare(it->low, it->low_len, it->high, it->high_len) >= 0)
        it->done = 1;
    it->next_len = it->reverse ? (it->has_high ? it->high_len : 0) : it->low_len;
    memcpy(it->next, it->reverse ? it->high : it->low, it->next_len);
    return KV_OK;
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
            e = kv_order_read(r, it->next_len ? it->next : NULL, it->next_len, it->reverse,
                              &it->leaf);
            if (e != KV_OK)
                return e;
            it->i = it->reverse && !it->next_len ? it->leaf.count
                                                 : kv_leaf_find(&it->leaf, it->next, it->next_len);
            if (it->reverse)
                it->i--;
            it->fresh = 0;
            it->warm = 0;
        }
        if (it->i >= 0 && it->i < it->leaf.count)
            return KV_OK;
        it->fresh = 1;
        if (it->reverse) {
            it->done = !it->leaf.has_lower ||
                       compare(it->leaf.lower, it->leaf.lower_len, it->low, it->low_len) <= 0;
            it->next_len = it->done ? 0 : it->leaf.lower_len;
            memcpy(it->next, it->leaf.lower, it->next_len);
        } else {
            it->done = !it->leaf.has_upper ||
                       (it->has_high &&
                        compare(it->leaf.upper, it->leaf.upper_len, it->high, it->high_len) >= 0);
            it->next_len = it->done ? 0 : it->leaf.upper_len;
            memcpy(it->next, it->leaf.upper, it->next_len);
        }
    }
}

/* The next keys in three rounds over all of them, so that their cache misses overlap: buckets,
 * slots, records. */
static void warm(kv_iter *it)
{
    kv_db *s = it->ns->h->s;
    unsigned char key[KV_ORDER_KEY];
    uint64_t slot;
    size_t n;
    int k, i, step = it->reverse ? -1 : 1;

    for (k = 0; k < AHEAD; k++) {
        i = it->i + k * step;
        n = i >= 0 && i < it->leaf.count ? kv_leaf_key(&it->leaf, i, key) : 0;
        if (n < 4)
            break;
        it->hash[k] = kv_hash_key(it->ns->seed0, it->ns->seed1, it->id, key + 4, n - 4);
        kv_hash_prefetch(&s->region, it->hash[k]);
    }
    it->warm = k;
    it->cold = 0;
    for (i = 0; i < k; i++) {
        slot = kv_hash_glance(&s->region, it->hash[i]);
        if (slot)
            kv_log_prefetch(&s->log, slot & KV_ADDR_MASK);
    }
}

/* The record of the key at i; the usual case without a full scan, as in glance. */
static int read_next(kv_iter *it, const char *key, uint32_t len, kv_rec *r)
{
    kv_db *s = it->ns->h->s;
    uint64_t hash = it->hash[it->cold], slot = kv_hash_glance(&s->region, hash);

    if (slot && kv_log_fetch(&s->log, slot & KV_ADDR_MASK, &it->ns->scratch, r) == KV_OK &&
        r->key_len == len && r->kind == KV_REC_PUT && r->ns == it->id &&
        memcmp(r->key, key, len) == 0)
        return KV_OK;
    return kv_read(s, it->id, hash, key, len, &it->ns->scratch, r, NULL);
}

static int fill_next(kv_iter *it, const kv_rec *r, kv_record *out)
{
    kv_rec bare;

    if (it->flags & KV_KEYS_ONLY) {
        memset(out, 0, sizeof *out);
        out->key = r->key;
        out->key_len = r->key_len;
        return KV_OK;
    }
    if (it->flags & KV_NO_VALUES) {
        bare = *r;
        bare.type = KV_NULL;
        bare.blob = 0;
        r = &bare;
    }
    return kv_record_fill(it->ns->h->s, r, &it->ns->blob, out);
}

static void advance(kv_iter *it)
{
    it->i += it->reverse ? -1 : 1;
    it->warm--;
    it->cold++;
}

int kv_iter_next(kv_iter *it, kv_record *out)
{
    unsigned char key[KV_ORDER_KEY];
    kv_record got;
    kv_rec r;
    uint64_t rev;
    size_t n;
    int e = kv_enter(it->ns->h);
    kv_db *s = it->ns->h->s;

    if (kv_unlikely(it->s != s)) { /* another index: hashes mean something else */
        it->s = s;
        it->warm = 0;
    }
    shrink(&it->ns->scratch);
    shrink(&it->ns->blob);
    for (; e == KV_OK; advance(it)) {
        if (!it->done && kv_ns_state(s, it->id) != KV_NAME_LIVE)
            it->done = 1; /* dropped at once, though its entries go later */
        e = settle(it);
        if (e != KV_OK)
            return e;
        n = kv_leaf_key(&it->leaf, it->i, key);
        if (n < 5)
            return kv_fail(KV_ECORRUPT, "%s: the key order is damaged", kv_dir_path(s->dir));
        if (it->reverse ? compare(key, n, it->low, it->low_len) < 0
                        : it->has_high && compare(key, n, it->high, it->high_len) >= 0) {
            it->done = 1;
            return KV_ENOTFOUND;
        }
        if (it->warm <= 0)
            warm(it);
        e = read_next(it, (char *)key + 4, (uint32_t)n - 4, &r);
        for (rev = 0; e == KV_OK && live(s, &r) && r.rev != rev;) {
            rev = r.rev;
            e = fill_next(it, &r, &got);
            if (e == KV_OK) {
                *out = got;
                advance(it);
                return KV_OK;
            }
            if (e == KV_ENOTFOUND) /* as get_blob */
                e = read_next(it, (char *)key + 4, (uint32_t)n - 4, &r);
        }
        if (e == KV_OK && live(s, &r))
            return kv_fail(KV_ECORRUPT, "%s: the file of a large value is missing",
                           kv_dir_path(s->dir));
        if (e == KV_ENOTFOUND)
            e = KV_OK;
    }
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

/* ---- cursors: base64url of a MAC and the key, so that nothing but a key of this listing can be
 * smuggled in  */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Binds namespace, prefix, direction and key; the lengths keep them apart. */
static uint64_t mac(kv_ns *ns, const kv_range *r, const char *key, size_t len)
{
    const kv_meta *m = &ns->h->s->meta;
    char buf[KV_MAX_KEY];
    uint32_t plen = r && r->prefix ? r->prefix_len : 0,
             reverse = r && r->flags & KV_REVERSE ? 1u << 31 : 0;
    uint64_t h =
        kv_hash_key(m->cursor_key[0], m->cursor_key[1], ns->name_len, ns->name, ns->name_len);

    if (plen > KV_MAX_KEY)
        plen = KV_MAX_KEY;
    if (plen)
        memcpy(buf, r->prefix, plen);
    h = kv_hash_key(m->cursor_key[0] ^ h, m->cursor_key[1], plen | reverse, buf, plen);
    return kv_hash_key(m->cursor_key[0] ^ h, m->cursor_key[1], (uint32_t)len, key, len);
}

size_t kv_cursor_make(kv_ns *ns, const kv_range *range, const char *key, size_t len, char *out)
{
    unsigned char raw[8 + KV_MAX_KEY];
    uint64_t h;
    size_t n = 8 + len, i, k = 0;
    uint32_t bits;

    if (len > KV_MAX_KEY)
        return 0;
    h = mac(ns, range, key, len);
    memcpy(raw, &h, 8);
    memcpy(raw + 8, key, len);
    for (i = 0; i < n; i += 3) {
        bits = (uint32_t)raw[i] << 16 | (i + 1 < n ? (uint32_t)raw[i + 1] << 8 : 0) |
               (i + 2 < n ? raw[i + 2] : 0);
        out[k++] = alphabet[bits >> 18];
        out[k++] = alphabet[bits >> 12 & 63];
        if (i + 1 < n)
            out[k++] = alphabet[bits >> 6 & 63];
        if (i + 2 < n)
            out[k++] = alphabet[bits & 63];
    }
    return k;
}

int kv_cursor_read(kv_ns *ns, const kv_range *range, const char *text, size_t text_len, char *key,
                   size_t *len)
{
    unsigned char raw[8 + KV_MAX_KEY + 4];
    char again[KV_MAX_CURSOR];
    const char *found;
    uint32_t bits = 0;
    size_t i, n = 0, have = 0;

    if (text_len > (8 + KV_MAX_KEY) * 4 / 3 + 1)
        return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
    for (i = 0; i < text_len; i++) {
        found = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (found == NULL)
            return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
        bits = bits << 6 | (uint32_t)(found - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            raw[n++] = (unsigned char)(bits >> have);
        }
    }
    /* One spelling only: whatever decodes to a key must be what was given out for it. */
    if (n < 9 || n > 8 + KV_MAX_KEY ||
        kv_cursor_make(ns, range, (char *)raw + 8, n - 8, again) != text_len ||
        memcmp(again, text, text_len) != 0)
        return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
    memcpy(key, raw + 8, n - 8);
    *len = n - 8;
    return KV_OK;
}
