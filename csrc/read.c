/* SPDX-License-Identifier: MIT
 *
 * read.c - reading without a lock: single keys, and namespaces' names.
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

void kv_set_clock(kv_db *s, int64_t now)
{
    int64_t last = (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK));

    if (now < last) {
        if ((uint64_t)(last - now) > kv_load_relaxed(kv_st(s, KV_ST_BACK)))
            kv_store(kv_st(s, KV_ST_BACK), (uint64_t)(last - now));
        if (last > (int64_t)kv_load_relaxed(kv_st(s, KV_ST_PEAK)))
            kv_store(kv_st(s, KV_ST_PEAK), (uint64_t)last);
    }
    kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)now);
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
 * progress; the bound is against damage that looks like it. An index that has been replaced does
 * not change any more, though segments go: its reader begins again (kv_again). */
#define RETRIES 100000

int kv_read(kv_db *s, uint32_t ns, uint64_t hash, const char *key, uint32_t len,
            kv_scratch *scratch, kv_rec *out, uint64_t *addr)
{
    kv_hash_scan scan;
    int e, step, tries;

    for (tries = 0; tries < RETRIES; tries++) {
        kv_hash_start(&s->region, hash, &scan);
        KV_PAUSE("lookup: begun");
        while ((step = kv_hash_next(&s->region, &scan)) == KV_HASH_CANDIDATE) {
            KV_PAUSE("lookup: slot read");
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
        if (step == KV_HASH_DAMAGED || kv_superseded(s))
            break;
        s->retried++;
    }
    return kv_fail(KV_ECORRUPT, "%s: the lookup table is damaged", kv_dir_path(s->dir));
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
    KV_PAUSE("get: file to be opened");
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
    do {
        id = kv_ns_resolve(ns);
        if (kv_unlikely(id <= 0))
            return id ? (int)id : KV_ENOTFOUND;
        e = kv_read(ns->h->s, (uint32_t)id,
                    kv_hash_key(ns->seed0, ns->seed1, (uint32_t)id, key, len), key, (uint32_t)len,
                    &ns->scratch, r, NULL);
    } while (kv_again(ns->h, &e));
    return kv_likely(e == KV_OK) && !kv_rec_live(ns->h->s, r) ? KV_ENOTFOUND : e;
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

    kv_scratch_shrink(&ns->scratch);
    kv_scratch_shrink(&ns->blob);
    e = current(ns, key, len, &r);
    if (kv_unlikely(e != KV_OK))
        return e;
    return kv_unlikely(r.blob) ? get_blob(ns, key, len, &r, out)
                               : kv_record_fill(ns->h->s, &r, &ns->blob, out);
}

/* The same as kv_hash_glance for the bucket behind the home bucket, where there is one. */
static KV_NOINLINE uint64_t glance_behind(kv_region *r, uint64_t hash)
{
    const uint64_t *bucket = kv_hash_chained(r, kv_hash_bucket(r, hash));

    return bucket != NULL ? kv_hash_pick(bucket, hash) : 0;
}

/* addr, by way of a guess. A processor that expects the guess to be right, as it is for keys that
 * are read again and again, fetches the record without waiting for the bucket; what counts is the
 * address that the bucket gave. */
static inline __attribute__((always_inline)) uint64_t by_guess(kv *h, uint64_t hash, uint64_t addr)
{
    uint32_t *low = &h->guess[hash % KV_GUESSES];
    uint64_t guess = h->guess_high | *low, same = guess;

    kv_opaque(same); /* else the compiler would take addr in both cases, and wait for it */
    if (kv_likely(guess == addr))
        return same;
    *low = (uint32_t)addr;
    h->guess_high = addr >> 32 << 32;
    return addr;
}

/* The usual case in one piece: the key's record is where its home bucket says, or the one behind
 * that, in a mapped segment, plain and not expired. What it finds lies in the store's own memory
 * and counts only if kv_rec_whole says so and, after all of it was read, kv_still of its segment.
 * p NULL: take the way of kv_get. */
static inline __attribute__((always_inline)) kv_log_spot spy(kv_ns *ns, const char *key, size_t len,
                                                             kv_rec_plain *out)
{
    kv_log_spot at = {NULL, 0, 0};
    kv_db *s = ns->h->s;
    uint64_t hash, addr;

    if (kv_unlikely(key == NULL || len - 1 >= KV_MAX_KEY || !kv_fresh(ns->h) || ns->state == NULL ||
                    kv_load(ns->state) != KV_NAME_LIVE))
        return at;
    hash = kv_hash_key(ns->seed0, ns->seed1, ns->id, key, len);
    addr = kv_hash_glance(&s->region, hash);
    if (kv_unlikely(addr == 0))
        addr = glance_behind(&s->region, hash);
    addr = by_guess(ns->h, hash, addr);
    KV_PAUSE("glance: slot read");
    at = kv_log_spy(&s->log, addr, ns->id, key, (uint32_t)len, out);
    if (kv_likely(at.p != NULL) &&
        kv_unlikely(out->expires != 0 && out->expires <= kv_store_now(s)))
        at.p = NULL;
    return at;
}

/* The same where it is whole. */
static inline int glance(kv_ns *ns, const char *key, size_t len, kv_rec_plain *out, uint32_t *id)
{
    kv_log_spot at = spy(ns, key, len, out);

    *id = at.id;
    return kv_likely(at.p != NULL) && kv_rec_whole(at.p, out->size, at.seed);
}

/* The value that spy found, strings and documents left where they lie. 0: it is no such value.
 */
static inline int value_of(const kv_rec_plain *r, kv_value *out)
{
    out->type = r->type;
    out->len = r->value_len;
    out->data = r->value;
    if (kv_likely(r->type == KV_STRING || r->type == KV_JSON))
        return 1;
    if (r->value_len != 8)
        return 0;
    memcpy(r->type == KV_INTEGER ? (void *)&out->integer : (void *)&out->number, r->value, 8);
    return r->type == KV_INTEGER || r->type == KV_NUMBER;
}

void kv_expect(kv_ns *ns, const char *key, size_t len)
{
    const uint64_t *bucket;

    if (kv_unlikely(key == NULL || len - 1 >= KV_MAX_KEY || ns->state == NULL || !kv_fresh(ns->h)))
        return;
    bucket = kv_hash_bucket(&ns->h->s->region, kv_hash_key(ns->seed0, ns->seed1, ns->id, key, len));
    if (kv_likely(bucket != NULL))
        kv_prefetch(bucket);
}

static KV_NOINLINE int get_slowly(kv_ns *ns, const char *key, size_t len, kv_value *out)
{
    kv_record r;
    int e = kv_get(ns, key, len, &r);

    if (e == KV_OK)
        *out = r.value;
    return e;
}

static KV_NOINLINE int peek_slowly(kv_ns *ns, const char *key, size_t len, kv_value *out)
{
    ns->peeked.p = NULL;
    return get_slowly(ns, key, len, out);
}

int kv_get_value(kv_ns *ns, const char *key, size_t len, kv_value *out)
{
    kv_rec_plain r;
    uint32_t id;

    kv_scratch_shrink(&ns->scratch);
    /* Not `<=`: an empty value must not be copied to a scratch that is not there yet. */
    if (kv_likely(glance(ns, key, len, &r, &id)) && r.value_len < ns->scratch.cap &&
        value_of(&r, out)) {
        KV_PAUSE("glance: to be copied");
        memcpy(ns->scratch.p, r.value, r.value_len);
        out->data = ns->scratch.p;
        if (kv_likely(kv_still(ns->h->s, id)))
            return KV_OK;
    }
    return get_slowly(ns, key, len, out);
}

/* A string is looked at for being whole only once it has been copied: a processor does not wait for
 * its bytes then to find memory for the copy, if its length is the last one's, as it takes it to be
 * (by_guess has the like). */
int kv_peek(kv_ns *ns, const char *key, size_t len, kv_value *out)
{
    kv_rec_plain r;
    uint32_t same = ns->peeked_len;

    ns->peeked = spy(ns, key, len, &r);
    if (kv_unlikely(ns->peeked.p == NULL || !value_of(&r, out)))
        return peek_slowly(ns, key, len, out);
    ns->peeked_size = r.size;
    if (kv_unlikely(r.type != KV_STRING) && !kv_peek_held(ns))
        return peek_slowly(ns, key, len, out);
    kv_opaque(same);
    if (kv_likely(out->len == same))
        out->len = same;
    else
        ns->peeked_len = out->len;
    return KV_OK;
}

int kv_peek_held(const kv_ns *ns)
{
    const kv_log_spot *at = &ns->peeked;

    if (kv_unlikely(at->p == NULL) || KV_IS_BUG(30))
        return 1;
    if (kv_unlikely(!kv_rec_whole(at->p, ns->peeked_size, at->seed)))
        return 0;
    return kv_still(ns->h->s, at->id) || (KV_IS_BUG(52) && kv_log_still(&ns->h->s->log, at->id));
}

int kv_exists(kv_ns *ns, const char *key, size_t len)
{
    kv_rec_plain plain;
    kv_rec r;
    uint32_t id;

    if (kv_likely(glance(ns, key, len, &plain, &id) && kv_still(ns->h->s, id)))
        return KV_OK;
    return current(ns, key, len, &r);
}

/* In rounds over all of them, so that their cache misses overlap: buckets, slots, records. */
void kv_prefetch_keys(kv_ns *ns, const char *const *keys, const size_t *lens, size_t n)
{
    enum { MOST = 32 };
    kv_db *s = ns->h->s;
    const uint64_t *at[MOST];
    uint64_t hash[MOST], addr;
    size_t i;

    if (!kv_fresh(ns->h) || ns->id == 0)
        return;
    n = n < MOST ? n : MOST;
    for (i = 0; i < n; i++) {
        hash[i] = kv_hash_key(ns->seed0, ns->seed1, ns->id, keys[i], lens[i]);
        at[i] = kv_hash_bucket(&s->region, hash[i]);
        kv_prefetch(at[i]);
    }
    for (i = 0; i < n; i++) {
        addr = kv_hash_peek(kv_hash_slot(at[i], hash[i]), hash[i]);
        if (addr != 0)
            kv_log_prefetch(&s->log, addr);
    }
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
    do
        e = read_name(ns->h->s, ns->name, ns->name_len, &ns->scratch, &r);
    while (kv_again(ns->h, &e));
    ns->id = e == KV_OK ? r.ns : 0;
    ns->state = e == KV_OK ? kv_ns_state_word(ns->h->s, ns->id) : NULL;
    return e == KV_OK || e == KV_ENOTFOUND ? (int64_t)ns->id : e;
}

static int next_name(kv *h, kv_ns_info *info)
{
    unsigned char from[KV_ORDER_KEY + 1] = {0}, key[KV_ORDER_KEY];
    size_t len = 4, n;
    kv_leaf leaf;
    kv_place at;
    kv_rec r;
    uint64_t *w;
    int e, i;

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

int kv_ns_next(kv *h, kv_ns_info *info)
{
    int e = kv_enter(h);

    if (e != KV_OK)
        return e;
    do
        e = next_name(h, info);
    while (kv_again(h, &e));
    return e;
}
