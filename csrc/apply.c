/* SPDX-License-Identifier: MIT
 *
 * apply.c - the index follows the log: applying records, undo and redo after a writer's death.
 *
 * Invariant: the index equals the log's records from the oldest segment to APPLIED, applied in
 * order; APPLIED <= TAIL, and they are equal whenever the writer lock is free. A record is applied
 * in one journaled transaction whose last, visible store is the key's slot; APPLIED is among its
 * journaled words. So a half-done transaction can be undone unless a reader may have seen its
 * result, and everything the log's tail has passed is applied again after that: what was read once
 * is never taken back.
 */
#include "store.h"

#include <string.h>

/* ---- namespaces' nodes ---------------------------------------------------------------- */

static uint64_t *names_node(kv_db *s, uint32_t id, kv_place *at)
{
    at->ptr = kv_region_node(&s->region, KV_NAMES, id, KV_NAMES_FIRST, KV_NAMES_SIZE);
    at->addr = kv_region_addr(KV_NAMES, id);
    return (uint64_t *)(void *)at->ptr;
}

uint32_t kv_ns_state(kv_db *s, uint32_t ns)
{
    kv_place at;
    uint64_t *w = ns <= KV_MAX_NAMES ? names_node(s, 2 * ns, &at) : NULL;

    return w ? (uint32_t)kv_load(&w[KV_NAME_STATE]) : KV_NAME_UNUSED;
}

const uint64_t *kv_ns_state_word(kv_db *s, uint32_t ns)
{
    kv_place at;
    uint64_t *w = ns <= KV_MAX_NAMES ? names_node(s, 2 * ns, &at) : NULL;

    return w ? &w[KV_NAME_STATE] : NULL;
}

uint64_t *kv_ns_words(kv_db *s, uint32_t ns, kv_place *at)
{
    return ns <= KV_MAX_NAMES ? names_node(s, 2 * ns + 1, at) : NULL;
}

/* ---- finding -------------------------------------------------------------------------- */

uint64_t kv_index_hash(kv_db *s, uint32_t ns, const char *key, uint32_t len)
{
    return kv_hash_key(s->region.head->hash[KV_HASH_SEED0], s->region.head->hash[KV_HASH_SEED1], ns,
                       key, len);
}

static int expired(const kv_rec *r, int64_t now)
{
    return r->expires != 0 && r->expires <= now;
}

int kv_index_find(kv_db *s, uint32_t ns, const char *key, uint32_t len, int64_t now, kv_found *f)
{
    int e, step;

    f->there = f->live = 0;
    f->near = 0;
    kv_hash_start(&s->region, f->hash, &f->scan);
    while ((step = kv_hash_next(&s->region, &f->scan)) == KV_HASH_CANDIDATE) {
        f->addr = f->scan.slot & KV_ADDR_MASK;
        e = kv_log_peek(&s->log, f->addr, &f->rec);
        if (e != KV_OK)
            return e;
        if (kv_rec_index_ns(&f->rec) == ns && f->rec.key_len == len &&
            memcmp(f->rec.key, key, len) == 0) {
            f->there = 1;
            f->live = !expired(&f->rec, now);
            return KV_OK;
        }
    }
    if (step != KV_HASH_END)
        return kv_fail(KV_ECORRUPT, "%s: the lookup table is damaged", kv_dir_path(s->dir));
    return KV_OK;
}

static size_t compose(uint32_t ns, const char *key, uint32_t len, unsigned char *out)
{
    size_t n = kv_order_put_ns(ns, out);

    memcpy(out + n, key, len);
    return n + len;
}

/* A new key waits for its bucket and then for its leaf, each a miss of the cache: better for both
 * at once. A wrong guess costs some steps through nodes that are in it. */
uint64_t kv_index_leaf(kv_db *s, uint32_t ns, const char *key, uint32_t len)
{
    unsigned char k[KV_ORDER_KEY];

    return kv_order_near(&s->region, k, compose(ns, key, len, k));
}

uint64_t kv_index_fetch(kv_db *s, uint32_t ns, const char *key, uint32_t len, uint64_t hash)
{
    if (s->fresh < 2)
        return 0;
    kv_hash_prefetch(&s->region, hash);
    return kv_index_leaf(s, ns, key, len);
}

/* Deadline of the timer that is pending for the key, 0: none for certain. One that has fired was
 * armed again at what the record said then. The wheel's time may trail: what lies between it and
 * the clock may have fired or not. */
static int64_t pending(kv_db *s, const kv_found *f)
{
    int64_t wheel = (int64_t)kv_load_relaxed(&s->region.head->wheel[KV_WHEEL_NOW]);
    int64_t clock = (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK));

    if (!f->there || f->rec.expires == 0)
        return 0;
    if (f->rec.armed > wheel)
        return f->rec.armed > clock ? f->rec.armed : 0;
    return f->rec.expires > wheel ? f->rec.expires : 0;
}

/* A timer stays when its key is put again, so an overwrite arms one only when none is pending that
 * fires early enough. */
void kv_index_arm(kv_db *s, const kv_found *f, kv_rec *r)
{
    int64_t at = pending(s, f);

    r->armed = at != 0 && at <= r->expires ? at : r->expires;
}

static int arm(kv_db *s, const kv_found *f, const kv_rec *r)
{
    int64_t wheel = (int64_t)kv_load_relaxed(&s->region.head->wheel[KV_WHEEL_NOW]);

    if (r->expires == 0 || pending(s, f) == r->armed || (KV_IS_BUG(16) && f->there))
        return KV_OK;
    return kv_wheel_add(&s->region, (uint32_t)f->hash, r->armed > wheel ? r->armed : r->expires);
}

/* ---- one transaction a record --------------------------------------------------------- */

static void set_head(kv_db *s, uint64_t *word, uint64_t value)
{
    kv_txn_set(&s->region, kv_head_place(&s->region), word, value);
}

static void add_head(kv_db *s, int word, int64_t n)
{
    if (n != 0)
        set_head(s, kv_st(s, word), *kv_st(s, word) + (uint64_t)n);
}

static void add_ns(kv_db *s, uint32_t ns, int64_t keys, int64_t bytes, int64_t log)
{
    kv_place at;
    uint64_t *w;

    /* As when a value gives way to one of its size. */
    if ((keys | bytes | log) == 0 || (w = kv_ns_words(s, ns, &at)) == NULL)
        return;
    if (keys)
        kv_txn_set(&s->region, at, &w[KV_NAME_KEYS], w[KV_NAME_KEYS] + (uint64_t)keys);
    if (bytes)
        kv_txn_set(&s->region, at, &w[KV_NAME_BYTES], w[KV_NAME_BYTES] + (uint64_t)bytes);
    if (log)
        kv_txn_set(&s->region, at, &w[KV_NAME_LOG], w[KV_NAME_LOG] + (uint64_t)log);
}

static size_t order_key(const kv_rec *r, unsigned char *out)
{
    return compose(kv_rec_index_ns(r), r->key, r->key_len, out);
}

static uint64_t blob_size(const kv_rec *r)
{
    uint64_t size;

    if (!r->blob || r->value_len != 16)
        return 0;
    memcpy(&size, r->value + 8, 8);
    return size;
}

/* Bytes a user would count: key, value, metadata. */
static int64_t data_bytes(const kv_rec *r)
{
    return (int64_t)(r->key_len + (r->blob ? blob_size(r) : r->value_len) + r->meta_len);
}

static int64_t log_bytes(const kv_rec *r)
{
    return (int64_t)kv_rec_align(r->size);
}

/* Counters that change when `was` (NULL: nothing) gives way to `is` (NULL: nothing) in a namespace.
 */
static void count(kv_db *s, uint32_t ns, const kv_rec *was, const kv_rec *is)
{
    int64_t keys = (is != NULL) - (was != NULL), data = 0, log = 0;

    if (was != NULL) {
        data -= data_bytes(was);
        log -= log_bytes(was);
    }
    if (is != NULL) {
        data += data_bytes(is);
        log += log_bytes(is);
    }
    add_ns(s, ns, keys, data, log);
    add_head(s, KV_ST_KEYS, keys);
    add_head(s, KV_ST_DATA, data);
    add_head(s, KV_ST_LIVE, log);
}

static void done_to(kv_db *s, const kv_rec *r, uint64_t next)
{
    if (r->rev > *kv_st(s, KV_ST_REV) && !KV_IS_BUG(46))
        set_head(s, kv_st(s, KV_ST_REV), r->rev);
    set_head(s, kv_st(s, KV_ST_APPLIED), next);
}

/* Puts r's address where the key's slot is, or makes one: the visible store. */
static int swing(kv_db *s, kv_found *f, uint64_t pos)
{
    KV_PAUSE("apply: to be seen");
    if (f->there) {
        kv_hash_replace(&s->region, &f->scan, kv_pos_addr(pos));
        return KV_OK;
    }
    return kv_hash_insert(&s->region, f->hash, kv_pos_addr(pos));
}

/* Before r can be seen: who sees a key's slot and then no details has seen a record without. */
static void note_details(kv_db *s, const kv_rec *r)
{
    kv_place at;
    uint64_t *w;

    if (r->expires == 0 && r->meta_len == 0)
        return;
    w = names_node(s, 2 * r->ns, &at);
    if (w != NULL && w[KV_NAME_DETAILS] == 0 && !KV_IS_BUG(63))
        kv_txn_set(&s->region, at, &w[KV_NAME_DETAILS], 1);
}

static int apply_put(kv_db *s, kv_found *f, const kv_rec *r, uint64_t pos, uint64_t next)
{
    unsigned char key[KV_ORDER_KEY];
    int e = KV_OK;

    if (!f->there)
        e = kv_order_insert_near(&s->region, key, order_key(r, key), f->near);
    if (e == KV_OK)
        e = arm(s, f, r);
    if (e != KV_OK)
        return e;
    if (KV_IS_BUG(31) && (e = swing(s, f, pos)) != KV_OK)
        return e;
    note_details(s, r);
    count(s, r->ns, f->there ? &f->rec : NULL, r);
    done_to(s, r, next);
    return KV_IS_BUG(31) ? KV_OK : swing(s, f, pos);
}

static int apply_delete(kv_db *s, kv_found *f, const kv_rec *r, uint64_t next)
{
    unsigned char key[KV_ORDER_KEY];
    int e = KV_OK;

    if (f->there)
        e = kv_order_remove(&s->region, key, order_key(r, key));
    if (e != KV_OK)
        return e;
    if (f->there)
        count(s, r->ns, &f->rec, NULL);
    done_to(s, r, next);
    KV_PAUSE("delete: to be seen");
    if (f->there)
        kv_hash_remove(&s->region, &f->scan);
    return KV_OK;
}

static int apply_name(kv_db *s, kv_found *f, const kv_rec *r, uint64_t pos, uint64_t next)
{
    unsigned char key[KV_ORDER_KEY];
    kv_place at;
    uint64_t *state = names_node(s, 2 * r->ns, &at);
    int64_t log;
    int e = KV_OK;

    if (state == NULL)
        return kv_fail(KV_ECORRUPT, "%s: namespace id %u is out of bounds", kv_dir_path(s->dir),
                       (unsigned)r->ns);
    if (!f->there)
        e = kv_order_insert(&s->region, key, order_key(r, key));
    if (e != KV_OK)
        return e;
    if (*state != KV_NAME_LIVE) {
        kv_txn_set(&s->region, at, &state[KV_NAME_STATE], KV_NAME_LIVE);
        add_head(s, KV_ST_NAMESPACES, 1);
    }
    /* A name counts with its namespace's records; what an earlier namespace of that name left
     * behind was taken off when it was dropped. */
    log = log_bytes(r) - (f->there && f->rec.ns == r->ns ? log_bytes(&f->rec) : 0);
    add_ns(s, r->ns, 0, 0, log);
    add_head(s, KV_ST_LIVE, log);
    if (r->ns >= *kv_st(s, KV_ST_NEXT_NS))
        set_head(s, kv_st(s, KV_ST_NEXT_NS), (uint64_t)r->ns + 1);
    done_to(s, r, next);
    return swing(s, f, pos);
}

/* One visible word makes all the namespace's keys go; the entries are taken out when the cleaner or
 * the wheel meets them. */
static int apply_drop(kv_db *s, const kv_rec *r, uint64_t next)
{
    kv_place at, counters;
    uint64_t *state = names_node(s, 2 * r->ns, &at), *w = kv_ns_words(s, r->ns, &counters);

    if (state == NULL || w == NULL)
        return kv_fail(KV_ECORRUPT, "%s: namespace id %u is out of bounds", kv_dir_path(s->dir),
                       (unsigned)r->ns);
    if (*state == KV_NAME_LIVE)
        add_head(s, KV_ST_NAMESPACES, -1);
    if (*state != KV_NAME_DROPPED) {
        add_head(s, KV_ST_KEYS, -(int64_t)w[KV_NAME_KEYS]);
        add_head(s, KV_ST_DATA, -(int64_t)w[KV_NAME_BYTES]);
        add_head(s, KV_ST_LIVE, -(int64_t)w[KV_NAME_LOG]);
    }
    if (r->ns >= *kv_st(s, KV_ST_NEXT_NS))
        set_head(s, kv_st(s, KV_ST_NEXT_NS), (uint64_t)r->ns + 1);
    done_to(s, r, next);
    KV_PAUSE("drop: to be seen");
    kv_txn_visible(&s->region, at, &state[KV_NAME_STATE], KV_NAME_DROPPED);
    return KV_OK;
}

int kv_index_apply(kv_db *s, kv_found *f, const kv_rec *r, uint64_t pos, uint64_t next)
{
    int e = KV_ECORRUPT;

    kv_txn_begin(&s->region);
    switch (r->kind) {
    case KV_REC_PUT:
        e = apply_put(s, f, r, pos, next);
        break;
    case KV_REC_DELETE:
        e = apply_delete(s, f, r, next);
        break;
    case KV_REC_NAME:
        e = apply_name(s, f, r, pos, next);
        break;
    case KV_REC_DROP:
        e = apply_drop(s, r, next);
        break;
    }
    if (e != KV_OK) {
        (void)kv_txn_undo(&s->region, NULL);
        kv_store(kv_st(s, KV_ST_CORRUPT), 1);
        /* The key order does not agree with the lookup table. */
        return e == KV_EEXISTS || e == KV_ENOTFOUND
                   ? kv_fail(KV_ECORRUPT, "%s: the index is damaged", kv_dir_path(s->dir))
                   : e;
    }
    KV_PAUSE("apply: seen");
    kv_txn_end(&s->region);
    return KV_OK;
}

static void probe_of(const kv_rec *r, kv_probe *k)
{
    k->len = order_key(r, k->key);
    memset(k->key + k->len, 0, 8);
}

/* Takes the n records off the counters, those of one namespace together. */
static void uncount(kv_db *s, const kv_found *f, int n)
{
    int64_t keys = 0, data = 0, log = 0, all = 0, all_data = 0, all_log = 0;
    int i, counts = 0;

    for (i = 0; i < n; i++) {
        const kv_rec *r = &f[i].rec;

        if (i == 0 || r->ns != f[i - 1].rec.ns)
            counts = kv_ns_state(s, r->ns) != KV_NAME_DROPPED;
        if (counts && r->kind == KV_REC_PUT) {
            keys++;
            data += data_bytes(r);
            log += log_bytes(r);
        }
        if (i + 1 < n && f[i + 1].rec.ns == r->ns)
            continue;
        add_ns(s, r->ns, -keys, -data, -log);
        all += keys;
        all_data += data;
        all_log += log;
        keys = data = log = 0;
    }
    add_head(s, KV_ST_KEYS, -all);
    add_head(s, KV_ST_DATA, -all_data);
    add_head(s, KV_ST_LIVE, -all_log);
}

/* Their slots are no visible words, so that several can go in one transaction: what has expired or
 * is dropped is a miss, in the index or not. */
int kv_index_forget_run(kv_db *s, kv_found *f, const kv_probe *k, int n)
{
    int i, done = kv_order_remove_run(&s->region, k, n, &f->near);

    if (done < 0)
        return done;
    uncount(s, f, done);
    for (i = 0; i < done; i++)
        kv_hash_erase(&s->region, &f[i].scan);
    kv_hash_erased(&s->region, (uint64_t)done);
    return done;
}

int kv_index_forget(kv_db *s, kv_found *f)
{
    kv_probe k;
    int done;

    probe_of(&f->rec, &k);
    done = kv_index_forget_run(s, f, &k, 1);
    return done > 0 ? KV_OK : done;
}

void kv_index_near(kv_db *s, kv_found *f, kv_probe *k, uint64_t guess)
{
    probe_of(&f->rec, k);
    f->near = kv_order_maybe(&s->region, k, guess) ? guess : kv_order_near_probe(&s->region, k);
}

/* None is the visible word: old and new address lead to the same, so a swing that was seen may be
 * undone. */
void kv_index_move(kv_db *s, kv_hash_scan *c, const uint64_t *pos, int n, uint64_t next)
{
    int i;

    kv_txn_begin(&s->region);
    set_head(s, kv_st(s, KV_ST_APPLIED), next);
    for (i = 0; i < n; i++)
        if (!KV_IS_BUG(12))
            kv_hash_shift(&s->region, &c[i], kv_pos_addr(pos[i]));
    KV_PAUSE("clean: moved");
    kv_txn_end(&s->region);
}

/* A record whose time has passed is a delete: skipping it would bring back what it had replaced. It
 * has used its revision all the same. */
int kv_index_replay(kv_db *s, const kv_rec *r, uint64_t pos, uint64_t next, int64_t now,
                    uint64_t leaf)
{
    kv_found f;
    kv_rec gone;
    int e;

    if (kv_unlikely(kv_load_relaxed(&s->region.head->hash[KV_HASH_PENDING]) != 0) &&
        (e = kv_hash_maintain(&s->region)) < 0)
        return e;
    f.hash = kv_index_hash(s, kv_rec_index_ns(r), r->key, r->key_len);
    e = kv_index_find(s, kv_rec_index_ns(r), r->key, r->key_len, now, &f);
    if (e != KV_OK)
        return e;
    f.near = leaf;
    if (r->kind == KV_REC_PUT && kv_ns_state(s, r->ns) == KV_NAME_DROPPED) {
        kv_txn_begin(&s->region);
        done_to(s, r, next);
        kv_txn_end(&s->region);
        return KV_OK;
    }
    if (r->kind == KV_REC_PUT && expired(r, now)) {
        if (KV_IS_BUG(2)) {
            kv_txn_begin(&s->region);
            done_to(s, r, next);
            kv_txn_end(&s->region);
            return KV_OK;
        }
        gone = *r;
        gone.kind = KV_REC_DELETE;
        return kv_index_apply(s, &f, &gone, pos, next);
    }
    return kv_index_apply(s, &f, r, pos, next);
}

void kv_index_init(kv_db *s, uint64_t seed0, uint64_t seed1, int64_t now)
{
    kv_hash_init(&s->region, seed0, seed1);
    kv_order_init(&s->region);
    kv_wheel_init(&s->region, now);
    kv_store(kv_st(s, KV_ST_NEXT_NS), 1);
    kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)now);
}

/* ---- room ----------------------------------------------------------------------------- */

uint32_t kv_index_needs(kv_db *s, uint64_t writes, uint64_t bytes)
{
    kv_region *r = &s->region;
    uint64_t next_ns = kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    uint32_t need = 0;

    /* A leaf is at least a third full after a split; freed nodes wait before they are used again. A
     * delete must always be possible after a put; the nodes it takes it gives back. */
    if (kv_region_room(r, KV_NODES) < kv_order_room(r, writes > 0 ? 2 : 1) +
                                          (writes > 1 ? 256 + (bytes + 12 * writes) * 3 / 1024 : 0))
        need |= 1u << KV_NODES;
    if (kv_region_room(r, KV_OVERFLOW) < KV_HASH_ROOM * writes)
        need |= 1u << KV_OVERFLOW;
    if (kv_region_room(r, KV_TIMERS) < 2 * KV_WHEEL_ROOM + writes)
        need |= 1u << KV_TIMERS;
    if (kv_load_relaxed(&r->limit[KV_NAMES]) < 2 * next_ns + 2)
        need |= 1u << KV_NAMES;
    return need;
}

/* ---- the lock, and what its owner may have left --------------------------------------- */

/* Applies what the tail has passed. Room was checked before the tail moved. The dead one noted his
 * last record after that, or did not; before APPLIED says that there is nothing to redo, it is. */
static int redo(kv_db *s)
{
    uint64_t pos = kv_load(kv_st(s, KV_ST_APPLIED)), tail = kv_load(&s->log.w[KV_LOG_TAIL]), at;
    kv_rec r;
    int e;

    while ((e = kv_log_next(&s->log, &pos, tail, &at, &r)) == 1) {
        kv_store(&s->log.w[KV_LOG_LAST], at);
        e = kv_index_replay(s, &r, at, pos, (int64_t)kv_load(kv_st(s, KV_ST_CLOCK)), 0);
        if (e != KV_OK)
            return e;
    }
    return e;
}

/* What fails for want of memory or descriptors is left to whoever takes the lock next. The dead one
 * may have used what was made since this process last mapped anything. */
int kv_recover(kv_db *s)
{
    int e = KV_IS_BUG(51) ? KV_OK : kv_region_follow(&s->region);

    if (e == KV_OK)
        e = kv_log_follow(&s->log);
    if (e == KV_OK)
        e = kv_txn_undo(&s->region, NULL);
    if (e == KV_OK)
        e = kv_log_recover(&s->log);
    if (e == KV_OK && kv_load(&s->region.head->hash[KV_HASH_PENDING]) != 0)
        e = kv_hash_maintain(&s->region) < 0 ? KV_ECORRUPT : KV_OK;
    if (e == KV_OK && !KV_IS_BUG(1))
        e = redo(s);
    if (e == KV_ECORRUPT)
        kv_store(kv_st(s, KV_ST_CORRUPT), 1);
    return e;
}

/* Something is half done: the last owner died, or a recovery did not come to its end. */
static inline int unfinished(kv_db *s)
{
    uint64_t tail = kv_load_relaxed(&s->log.w[KV_LOG_TAIL]);

    return kv_unlikely((kv_load_relaxed(&s->region.head->journal.count) |
                        kv_load_relaxed(&s->region.head->journal.visible_addr)) != 0 ||
                       kv_load_relaxed(kv_st(s, KV_ST_APPLIED)) != tail ||
                       kv_load_relaxed(&s->log.w[KV_LOG_CLAIM]) != tail);
}

int kv_lock_index(kv_db *s, int64_t timeout)
{
    int e = kv_lock_poll(&s->locks->writer, timeout), died = e == KV_LOCK_DIED;

    if (e != KV_OK && !died)
        return 0;
    e = KV_OK;
    if (!kv_superseded(s) && (died || unfinished(s)))
        e = kv_recover(s);
    if (died)
        kv_lock_consistent(&s->locks->writer);
    if (e == KV_OK && !kv_superseded(s) && kv_load_relaxed(kv_st(s, KV_ST_CORRUPT)) == 0 &&
        !kv_region_behind(&s->region) && !kv_log_behind(&s->log))
        return 1;
    kv_lock_release(&s->locks->writer);
    return 0;
}

void kv_unlock_index(kv_db *s)
{
    kv_lock_release(&s->locks->writer);
}

void kv_mend(kv_db *s)
{
    if (unfinished(s) && kv_lock_index(s, 0))
        kv_unlock_index(s);
}

static int fail_busy(kv *h)
{
    return kv_fail(KV_EBUSY, "%s: another writer has held the lock for %d ms",
                   kv_dir_path(h->s->dir), h->timeout);
}

/* With the lock held, which is given up on failure. KV_MOVED: once more. */
static KV_NOINLINE int lock_slowly(kv *h, int died)
{
    kv_db *s = h->s;
    int e = KV_OK, moved = kv_superseded(s);

    if (!moved && (died || unfinished(s)))
        e = kv_recover(s);
    if (died)
        kv_lock_consistent(&s->locks->writer);
    if (e == KV_OK && !moved && !kv_region_behind(&s->region) && !kv_log_behind(&s->log)) {
        if (kv_load_relaxed(kv_st(s, KV_ST_CORRUPT)) == 0)
            return KV_OK;
        e = kv_fail(KV_ECORRUPT, "%s: the index is damaged; reopen the store to rebuild it",
                    kv_dir_path(s->dir));
    }
    kv_lock_release(&s->locks->writer);
    if (e == KV_OK)
        e = moved ? kv_reenter(h) : kv_region_follow(&s->region);
    if (e == KV_OK && !moved)
        e = kv_log_follow(&s->log);
    return e == KV_OK ? KV_MOVED : e;
}

int kv_lock_writer(kv *h)
{
    kv_db *s;
    int e;

    do {
        s = h->s;
        e = kv_lock_take(&s->locks->writer, h->timeout);
        if (kv_unlikely(e != KV_OK && e != KV_LOCK_DIED))
            return e == KV_EBUSY ? fail_busy(h) : e;
        if (kv_unlikely(e != KV_OK || (kv_superseded(s) && !KV_IS_BUG(40)) || unfinished(s) ||
                        kv_region_behind(&s->region) || kv_log_behind(&s->log) ||
                        kv_load_relaxed(kv_st(s, KV_ST_CORRUPT)) != 0))
            e = lock_slowly(h, e == KV_LOCK_DIED);
    } while (kv_unlikely(e == KV_MOVED));
    return e;
}

void kv_unlock_writer(kv *h)
{
    kv_lock_release(&h->s->locks->writer);
}
