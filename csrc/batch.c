/* SPDX-License-Identifier: MIT
 *
 * batch.c - many keys: put_many in one step, delete_prefix in bounded ones.
 *
 * Invariant: the records of a batch lie behind each other, all but the last say that more follow,
 * and one publication of the tail makes all of them count; replay passes over a batch without its
 * end.
 */
#include "write.h"

#include <stdlib.h>
#include <string.h>

/* ---- many keys ------------------------------------------------------------------------ */

/* A batch is decided item by item against the store and the items before it, then written as
 * records of which all but the last say that more follow, under one publication of the tail. */
typedef struct batch {
    const kv_item *items;
    size_t n;
    kv_rec *recs;
    uint32_t *sizes;
    size_t *prev; /* index + 1 of the item before with the same key, 0: none */
    const kv_item **order;
    uint64_t (*refs)[2]; /* blobs written */
    char (*bufs)[8];
    uint64_t *hash; /* of the keys, once the namespace is there */
    uint64_t *pos;  /* where the records are in the log */
    uint64_t key_bytes;
    size_t large; /* items that take the place of a large value */
    int waited;   /* the queue of such values' files was looked after */
    size_t failed;
} batch;

static int by_key(const void *a, const void *b)
{
    const kv_item *x = *(const kv_item *const *)a, *y = *(const kv_item *const *)b;
    int c;

    c = memcmp(x->key, y->key, x->len < y->len ? x->len : y->len);
    if (c == 0)
        c = (x->len > y->len) - (x->len < y->len);
    return c ? c : (x > y) - (x < y);
}

static int batch_open(batch *b, const kv_item *items, size_t n)
{
    size_t i;

    memset(b, 0, sizeof *b);
    b->items = items;
    b->n = n;
    b->recs = calloc(n, sizeof *b->recs);
    b->sizes = calloc(n, sizeof *b->sizes);
    b->prev = calloc(n, sizeof *b->prev);
    b->order = calloc(n, sizeof *b->order);
    b->refs = calloc(n, sizeof *b->refs);
    b->bufs = calloc(n, sizeof *b->bufs);
    b->hash = calloc(n, sizeof *b->hash);
    b->pos = calloc(n, sizeof *b->pos);
    if (!b->recs || !b->sizes || !b->prev || !b->order || !b->refs || !b->bufs || !b->hash ||
        !b->pos)
        return kv_fail(KV_ENOMEM, "out of memory for a batch of %zu", n);
    for (i = 0; i < n; i++)
        b->order[i] = &items[i];
    qsort(b->order, n, sizeof *b->order, by_key);
    for (i = 1; i < n; i++) {
        const kv_item *x = b->order[i - 1], *y = b->order[i];

        if (x->len == y->len && memcmp(x->key, y->key, x->len) == 0)
            b->prev[y - items] = (size_t)(x - items) + 1;
    }
    return KV_OK;
}

static void batch_close(kv_db *s, batch *b, int unlink)
{
    size_t i;

    for (i = 0; unlink && b->refs != NULL && i < b->n; i++)
        if (b->refs[i][1])
            (void)kv_blob_unlink(s->dir, b->refs[i][0]);
    free(b->recs);
    free(b->sizes);
    free(b->prev);
    free(b->order);
    free(b->refs);
    free(b->bufs);
    free(b->hash);
    free(b->pos);
}

static int batch_check(kv_ns *ns, batch *b)
{
    uint64_t total = 0;
    size_t i;
    int e = KV_OK;

    for (i = 0; i < b->n; i++) {
        b->failed = i;
        e = kv_check_key(b->items[i].key, b->items[i].len);
        if (e == KV_OK)
            e = kv_write_check_value(ns->h->s, &b->items[i].value);
        if (e == KV_OK)
            e = kv_write_check_options(&b->items[i].write);
        if (e != KV_OK)
            return e;
        b->key_bytes += b->items[i].len;
        total +=
            b->items[i].len + b->items[i].value.len + b->items[i].write.meta_len + KV_REC_MAX_HEAD;
    }
    if (total > KV_MAX_BATCH)
        return kv_fail(KV_ETOOBIG, "a batch has at most %u bytes, this one %llu", KV_MAX_BATCH,
                       (unsigned long long)total);
    for (i = 0; i < b->n; i++)
        if (kv_write_is_large(ns->h->s, &b->items[i].value)) {
            b->failed = i;
            e = kv_write_blob(ns->h, &b->items[i].value, b->refs[i]);
            if (e != KV_OK) {
                b->refs[i][1] = 0;
                return e;
            }
        }
    return KV_OK;
}

static int decide_item(kv_ns *ns, batch *b, size_t i, uint64_t rev, int64_t now, uint64_t *more,
                       uint64_t *less)
{
    const kv_item *it = &b->items[i];
    kv_rec *r = &b->recs[i];
    kv_found f;
    int e;

    if (b->prev[i]) {
        f.there = f.live = 1;
        f.rec = b->recs[b->prev[i] - 1];
        e = KV_OK;
    } else if (ns->id == 0) {
        f.there = f.live = 0; /* no namespace, no key */
        e = KV_OK;
    } else {
        f.hash = b->hash[i];
        e = kv_index_find(ns->h->s, ns->id, it->key, (uint32_t)it->len, now, &f);
    }
    if (e == KV_OK)
        e = kv_write_conditions(&f, &it->write);
    if (e != KV_OK)
        return e;
    memset(r, 0, sizeof *r);
    r->kind = KV_REC_PUT;
    r->ns = ns->id;
    r->key = it->key;
    r->key_len = (uint32_t)it->len;
    r->rev = rev;
    r->id = f.live ? f.rec.id : rev;
    r->updated = now;
    r->created = f.live ? f.rec.created : now;
    r->type = (uint8_t)it->value.type;
    r->more = i + 1 < b->n;
    if (b->refs[i][1]) {
        r->blob = 1;
        r->value = (const char *)b->refs[i];
        r->value_len = 16;
    } else {
        r->value_len = kv_value_bytes(&it->value, b->bufs[i], &r->value);
    }
    e = kv_write_options(&f, &it->write, now, r);
    if (e != KV_OK)
        return e;
    kv_index_arm(ns->h->s, &f, r);
    *more += kv_write_user_bytes(r);
    *less += f.there ? kv_write_user_bytes(&f.rec) : 0;
    b->large += f.there && f.rec.blob;
    return KV_OK;
}

/* Buckets and records of the items to come are on their way while one is looked at. */
#define AHEAD 8

static void hash_keys(kv_ns *ns, batch *b)
{
    size_t i;

    for (i = 0; i < b->n; i++)
        b->hash[i] = kv_hash_key(ns->seed0, ns->seed1, ns->id, b->items[i].key, b->items[i].len);
}

static void warm(kv_db *s, const batch *b, size_t i)
{
    uint64_t slot;

    if (i + 2 * AHEAD < b->n)
        kv_hash_prefetch(&s->region, b->hash[i + 2 * AHEAD]);
    if (i + AHEAD < b->n) {
        slot = kv_hash_glance(&s->region, b->hash[i + AHEAD]);
        if (slot)
            kv_log_prefetch(&s->log, slot & KV_ADDR_MASK);
    }
}

static int batch_locked(kv_ns *ns, batch *b, uint64_t *rev, uint64_t *end, uint32_t *need)
{
    kv_db *s = ns->h->s;
    int64_t now = kv_write_clock(s);
    uint64_t more = 0, less = 0, written = 0;
    kv_append a;
    kv_found f;
    size_t i;
    int e = kv_name_find(ns, now), absent = e == KV_ENOTFOUND;

    if (e != KV_OK && !absent)
        return e;
    kv_write_begin(s, &a, now);
    *rev = a.next_rev;
    a.next_rev += b->n;
    *need = kv_index_needs(s, b->n, b->key_bytes);
    b->large = 0;
    if (!absent)
        hash_keys(ns, b);
    for (i = 0; i < b->n; i++) {
        b->failed = i;
        if (!absent)
            warm(s, b, i);
        e = decide_item(ns, b, i, *rev + i, now, &more, &less);
        if (e != KV_OK)
            return e;
        b->sizes[i] = kv_rec_measure(&b->recs[i]);
        written += kv_rec_align(b->sizes[i]);
        if (!(*need & KV_NEED_LOG) && !kv_log_fit(&s->log, &a, b->sizes[i], KV_FOR_PUT))
            *need |= KV_NEED_LOG;
    }
    if (b->large > 0 && !b->waited) {
        *need |= kv_blobs_short(s, b->large);
        b->waited = 1;
    }
    e = kv_write_over_size(s, more, less);
    if (e == KV_OK && absent && !*need) {
        e = kv_name_ensure(s, ns, NULL, 0, 1, now, need);
        if (e == KV_OK && !*need)
            return batch_locked(ns, b, rev, end, need);
    }
    if (e != KV_OK || *need)
        return e;
    kv_log_begin(&s->log, &a);
    for (i = 0; i < b->n; i++)
        b->pos[i] = kv_log_append(&s->log, &a, &b->recs[i]);
    kv_log_commit(&s->log, &a);
    *end = a.pos; /* also where the index cannot take it: the log has it, and its large values */
    for (i = 0; i < b->n && e == KV_OK; i++) {
        kv_rec *r = &b->recs[i];
        f.hash = b->hash[i];
        e = kv_index_find(s, ns->id, r->key, r->key_len, now, &f);
        if (e == KV_OK)
            e = kv_index_apply(s, &f, r, b->pos[i], b->pos[i] + kv_rec_align(b->sizes[i]));
        KV_PAUSE("batch: one applied");
        if (e == KV_OK && f.there)
            kv_blob_dead(s, &f.rec, a.pos);
        if (e == KV_OK && kv_hash_maintain(&s->region) < 0)
            e = KV_ECORRUPT;
    }
    if (e != KV_OK)
        return e;
    *rev += b->n - 1;
    kv_chores(s, written > 65536 ? 65536 : (uint32_t)written, now);
    return KV_OK;
}

int kv_put_many(kv_ns *ns, const kv_item *items, size_t n, uint64_t *rev, size_t *failed)
{
    kv *h = ns->h;
    uint64_t last = 0, end = 0, bytes;
    uint32_t need;
    size_t i;
    batch b;
    int e = kv_write_enter(h), large;

    if (e != KV_OK)
        return e;
    if (n == 0) {
        if (rev != NULL)
            *rev = kv_rev(h);
        return KV_OK;
    }
    e = batch_open(&b, items, n);
    if (e == KV_OK)
        e = batch_check(ns, &b);
    while (e == KV_OK) {
        need = 0;
        e = kv_lock_writer(h);
        if (e != KV_OK)
            break;
        e = batch_locked(ns, &b, &last, &end, &need);
        kv_unlock_writer(h);
        if (e != KV_OK || !need)
            break;
        for (bytes = 0, i = 0; i < n; i++)
            bytes += b.sizes[i] ? kv_rec_align(b.sizes[i]) : KV_MAX_NAME + KV_REC_MAX_HEAD;
        e = kv_make_room(h, need, n, bytes > b.key_bytes ? bytes : b.key_bytes);
    }
    if (e != KV_OK && failed != NULL)
        *failed = b.failed;
    large = b.large > 0;
    batch_close(h->s, &b, e != KV_OK && end == 0);
    if (e != KV_OK)
        return e;
    if (rev != NULL)
        *rev = last;
    kv_after_write(h);
    if (large)
        kv_after_large(h);
    return h->sync == KV_SYNC_ALWAYS ? kv_sync_to(h, end) : KV_OK;
}

int kv_delete_prefix(kv_ns *ns, const char *prefix, size_t len, uint64_t *n)
{
    kv_range range = {0};
    kv_record rec;
    char key[KV_MAX_KEY];
    uint64_t count = 0;
    kv_iter *it;
    int e = kv_write_enter(ns->h);

    if (e != KV_OK)
        return e;
    it = malloc(kv_iter_size());
    if (it == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    range.prefix = prefix;
    range.prefix_len = (uint32_t)len;
    range.flags = KV_KEYS_ONLY;
    e = kv_iter_init(it, ns, &range);
    while (e == KV_OK && (e = kv_iter_next(it, &rec)) == KV_OK) {
        uint32_t key_len = rec.key_len;

        memcpy(key, rec.key, key_len);
        e = kv_delete(ns, key, key_len, NULL, NULL, NULL);
        if (e == KV_OK)
            count++;
        if (e == KV_ENOTFOUND)
            e = KV_OK;
    }
    free(it);
    if (n != NULL)
        *n = count;
    return e == KV_ENOTFOUND ? KV_OK : e;
}
