/* SPDX-License-Identifier: MIT
 *
 * check.c - proving that the index is what the log says, copying a live store, and counters.
 *
 * check replays the log into a private index and compares: the same keys at the same addresses, the
 * key order, a timer for everything that expires, and every counter counted again.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

/* ---- check ---------------------------------------------------------------------------- */

/* What a namespace's counters must say. */
typedef struct tally {
    uint64_t keys, data, log;
} tally;

typedef struct audit {
    kv_db *s, *other;
    int64_t now;
    int second; /* the shadow's entries are looked for in the store */
    tally all;
    uint64_t names;
    tally *ns; /* by namespace id */
    uint64_t max_ns;
    uint64_t visited, entries; /* for whoever watches */
    unsigned char *timers; /* a bit for each (hash, deadline as exact as the wheel has it) mod its
                              size that the wheel holds */
} audit;

#define TIMER_BITS   (1u << 24)
#define ANY_DEADLINE INT64_MIN
#define TAG_MASK     0x3fffffffu /* of a hash: what a slot of the lookup table tells keys by */

static uint32_t timer_bit(uint32_t hash, int64_t deadline)
{
    return (hash ^ (uint32_t)(deadline / (KV_WHEEL_LATE + 1)) * 2654435761u) % TIMER_BITS;
}

static int note_timer(void *arg, uint32_t hash, int64_t deadline)
{
    audit *a = arg;
    uint32_t b = timer_bit(hash, deadline);

    a->timers[b / 8] = (unsigned char)(a->timers[b / 8] | 1u << b % 8);
    b = timer_bit(hash & TAG_MASK, ANY_DEADLINE);
    a->timers[b / 8] = (unsigned char)(a->timers[b / 8] | 1u << b % 8);
    return 0;
}

static int has_timer(const audit *a, const kv_db *s, uint32_t hash, const kv_rec *r)
{
    int64_t wheel = (int64_t)s->region.head->wheel[KV_WHEEL_NOW],
            clock = (int64_t)*kv_st(a->s, KV_ST_CLOCK);
    uint32_t b = timer_bit(hash, r->armed), c = timer_bit(hash, r->expires),
             any = timer_bit(hash & TAG_MASK, ANY_DEADLINE);

    if (r->expires <= wheel)
        return 1; /* fired, or fires at the next step */
    return (r->armed > wheel && a->timers[b / 8] & 1u << b % 8) ||
           (a->timers[c / 8] & 1u << c % 8) != 0 ||
           /* Armed before the wheel had followed a clock that went back: it fires late. Or its
            * timer took out another due key of that tag, whose own timer is its now. */
           ((*kv_st(a->s, KV_ST_BACK) != 0 || r->expires <= clock) &&
            a->timers[any / 8] & 1u << any % 8);
}

static int damaged(kv_db *s, const char *what, const kv_rec *r)
{
    return kv_fail(KV_ECORRUPT, "%s: %s (namespace %u, key of %u bytes, revision %llu)",
                   kv_dir_path(s->dir), what, (unsigned)r->ns, (unsigned)r->key_len,
                   (unsigned long long)r->rev);
}

static int has_details(kv_db *s, uint32_t ns)
{
    const uint64_t *w = kv_ns_state_word(s, ns);

    return w != NULL && w[KV_NAME_DETAILS] != 0;
}

/* A name counts as bytes of the log only. */
static void add(tally *t, const kv_rec *r)
{
    uint64_t size = r->value_len;

    t->log += kv_rec_align(r->size);
    if (r->kind != KV_REC_PUT)
        return;
    if (r->blob && r->value_len == 16)
        memcpy(&size, r->value + 8, 8);
    t->keys++;
    t->data += r->key_len + r->meta_len + size;
}

static int audit_entry(void *arg, uint64_t bucket, uint64_t slot)
{
    audit *a = arg;
    kv_db *mine = a->second ? a->other : a->s, *theirs = a->second ? a->s : a->other;
    kv_found f;
    kv_rec r;
    uint32_t ns;
    int e = kv_log_peek(&mine->log, slot & KV_ADDR_MASK, &r), dropped;

    (void)bucket;
    if (++a->visited % 4096 == 0)
        kv_tell(a->other->watcher, 1, a->visited, 2 * a->entries);
    if (e != KV_OK)
        return e;
    ns = kv_rec_index_ns(&r);
    f.hash = kv_index_hash(a->s, ns, r.key, r.key_len);
    e = kv_index_find(theirs, ns, r.key, r.key_len, 0, &f);
    if (e != KV_OK)
        return e;
    dropped = kv_ns_state(a->s, r.ns) == KV_NAME_DROPPED;
    if (f.there && f.addr == (slot & KV_ADDR_MASK)) {
        if (a->second || dropped)
            return 0;
    } else if (a->second) {
        /* What expired or was dropped may be out of the index and still in the log. */
        if (!f.there && (dropped || (r.expires != 0 && r.expires <= a->now)))
            return 0;
        return damaged(a->s, "the log holds a key that the index does not", &r);
    } else {
        return dropped ? 0 : damaged(a->s, "the index leads to a record that is not current", &r);
    }
    if (r.kind == KV_REC_PUT && r.expires != 0 && !has_timer(a, a->s, (uint32_t)f.hash, &r))
        return damaged(a->s, "no timer is armed for a key that expires", &r);
    if (r.kind == KV_REC_PUT && (r.expires != 0 || r.meta_len != 0) && !has_details(a->s, r.ns))
        return damaged(a->s, "a namespace is said to have no expirations or metadata", &r);
    a->names += r.kind == KV_REC_NAME;
    add(&a->all, &r);
    if (r.ns <= a->max_ns)
        add(&a->ns[r.ns], &r);
    return 0;
}

/* Every key of the order is in the lookup table, and as many. */
static int audit_order(kv_db *s)
{
    unsigned char key[KV_ORDER_KEY], from[KV_ORDER_KEY];
    size_t len = 0, n;
    uint64_t count = 0;
    kv_leaf *leaf = malloc(sizeof *leaf);
    kv_found f;
    uint32_t ns;
    int i, e = leaf ? KV_OK : kv_fail(KV_ENOMEM, "out of memory"), more = 1;

    while (e == KV_OK && more) {
        e = kv_order_read(&s->region, from, len, 0, leaf);
        for (i = 0; e == KV_OK && i < leaf->count; i++) {
            n = kv_leaf_key(leaf, i, key);
            if (n < 5) {
                e = kv_fail(KV_ECORRUPT, "%s: the key order is damaged", kv_dir_path(s->dir));
                break;
            }
            ns = kv_order_ns(key);
            f.hash = kv_index_hash(s, ns, (char *)key + 4, (uint32_t)n - 4);
            e = kv_index_find(s, ns, (char *)key + 4, (uint32_t)n - 4, 0, &f);
            if (e == KV_OK && !f.there)
                e = kv_fail(KV_ECORRUPT, "%s: the key order holds a key that is not there",
                            kv_dir_path(s->dir));
            count++;
        }
        more = e == KV_OK && leaf->has_upper;
        if (more) {
            memcpy(from, leaf->upper, leaf->upper_len);
            len = leaf->upper_len;
        }
    }
    free(leaf);
    if (e == KV_OK && count != s->region.head->hash[KV_HASH_ENTRIES])
        e = kv_fail(KV_ECORRUPT, "%s: the key order has %llu keys, the lookup table %llu",
                    kv_dir_path(s->dir), (unsigned long long)count,
                    (unsigned long long)s->region.head->hash[KV_HASH_ENTRIES]);
    return e;
}

static int same(kv_db *s, const char *what, uint64_t counted, uint64_t noted)
{
    if (counted == noted)
        return KV_OK;
    return kv_fail(KV_ECORRUPT, "%s: %s: counted %llu, noted %llu", kv_dir_path(s->dir), what,
                   (unsigned long long)counted, (unsigned long long)noted);
}

static int compare(kv_db *s, audit *a)
{
    kv_place at;
    uint64_t *w, id;
    int e = kv_hash_check(&s->region);

    if (e == KV_OK)
        e = kv_order_check(&s->region);
    if (e == KV_OK)
        e = kv_wheel_check(&s->region);
    if (e == KV_OK)
        e = kv_wheel_each(&s->region, note_timer, a);
    if (e == KV_OK)
        e = audit_order(s);
    if (e == KV_OK)
        e = kv_hash_each(&s->region, audit_entry, a);
    a->second = 1;
    if (e == KV_OK)
        e = kv_hash_each(&a->other->region, audit_entry, a);
    if (e == KV_OK)
        e = same(s, "keys", a->all.keys, *kv_st(s, KV_ST_KEYS));
    if (e == KV_OK)
        e = same(s, "bytes of data", a->all.data, *kv_st(s, KV_ST_DATA));
    if (e == KV_OK)
        e = same(s, "bytes of live log", a->all.log, *kv_st(s, KV_ST_LIVE));
    if (e == KV_OK)
        e = same(s, "namespaces", a->names, *kv_st(s, KV_ST_NAMESPACES));
    if (e == KV_OK)
        e = same(s, "last revision", *kv_st(a->other, KV_ST_REV), *kv_st(s, KV_ST_REV));
    if (e == KV_OK)
        e = same(s, "next namespace id", *kv_st(a->other, KV_ST_NEXT_NS), *kv_st(s, KV_ST_NEXT_NS));
    for (id = 1; e == KV_OK && id <= a->max_ns; id++) {
        w = kv_ns_words(s, (uint32_t)id, &at);
        if (w == NULL || kv_ns_state(s, (uint32_t)id) != KV_NAME_LIVE)
            continue;
        e = same(s, "keys of a namespace", a->ns[id].keys, w[KV_NAME_KEYS]);
        if (e == KV_OK)
            e = same(s, "bytes of a namespace", a->ns[id].data, w[KV_NAME_BYTES]);
        if (e == KV_OK)
            e = same(s, "bytes of a namespace's log", a->ns[id].log, w[KV_NAME_LOG]);
    }
    return e;
}

/* Passes over a large value, a chunk in memory at a time: its bytes go to `to`, or, when that is
 * NULL, are verified and no more. */
static int pass_blob(kv_db *s, const kv_rec *r, kv_blob_writer *to)
{
    kv_blob_reader from;
    uint64_t ref[2], at = 0;
    char *chunk;
    size_t n;
    int e = kv_reference(s, r, ref);

    if (e == KV_OK)
        e = kv_blob_open(s->dir, s->meta.store_id, ref[0], ref[1], &from);
    if (e != KV_OK)
        return e;
    chunk = malloc(KV_BLOB_CHUNK);
    if (chunk == NULL)
        e = kv_fail(KV_ENOMEM, "out of memory");
    for (; e == KV_OK && at < ref[1]; at += n) {
        n = ref[1] - at < KV_BLOB_CHUNK ? (size_t)(ref[1] - at) : KV_BLOB_CHUNK;
        e = kv_blob_read(&from, chunk, n, at);
        if (e == KV_OK && to != NULL)
            e = kv_blob_append(to, chunk, n);
    }
    free(chunk);
    kv_blob_close(&from);
    return e;
}

/* What expired or was dropped may have lost its file and still be in the log. */
static int audit_blob(void *arg, uint64_t bucket, uint64_t slot)
{
    audit *a = arg;
    kv_rec r;
    int e = kv_log_peek(&a->other->log, slot & KV_ADDR_MASK, &r);

    (void)bucket;
    if (e == KV_OK && r.blob && kv_ns_state(a->s, r.ns) != KV_NAME_DROPPED &&
        (r.expires == 0 || r.expires > a->now))
        e = pass_blob(a->other, &r, NULL);
    return e == KV_ENOTFOUND ? kv_fail(KV_ECORRUPT, "%s: the file of a large value is missing",
                                       kv_dir_path(a->s->dir))
                             : e;
}

/* A copy of the index, taken in one hold of the writer lock; *tail: the log's end by then. With the
 * lock of durability: no index takes the place of this one, and no segment goes. */
static int snapshot(kv *h, kv_db *shadow, kv_db *copy, uint64_t *tail)
{
    kv_db *s = h->s;
    int e = kv_private_region(&copy->region), done = 0;

    while (e == KV_OK && !done) {
        e = kv_region_copy_room(&copy->region, &s->region);
        if (e == KV_OK)
            e = kv_lock_writer(h);
        if (e != KV_OK)
            break;
        done = kv_region_copy(&copy->region, &s->region);
        *tail = kv_load(&s->log.w[KV_LOG_TAIL]);
        kv_unlock_writer(h);
    }
    KV_PAUSE("check: index copied");
    if (e == KV_OK)
        e = kv_log_map_to(&shadow->log, *tail);
    copy->dir = s->dir;
    copy->meta = s->meta;
    copy->current = &copy->generation;
    copy->log = shadow->log; /* the same segments, other words */
    if (copy->region.head != NULL)
        copy->log.w = copy->region.head->log;
    return e;
}

static int audit_all(kv_db *shadow, uint64_t tail, audit *a)
{
    int e = kv_shadow_replay(shadow, tail);

    /* Of an index that others change and this process may not hold still, the log alone. */
    if (e == KV_OK && a->s != shadow) {
        a->max_ns = *kv_st(a->s, KV_ST_NEXT_NS);
        a->max_ns = a->max_ns > 1u << 24 ? 1u << 24 : a->max_ns;
        a->entries = shadow->region.head->hash[KV_HASH_ENTRIES];
        a->ns = calloc(a->max_ns + 1, sizeof *a->ns);
        e = a->ns ? compare(a->s, a) : kv_fail(KV_ENOMEM, "out of memory");
    }
    if (e == KV_OK)
        e = kv_hash_each(&shadow->region, audit_blob, a);
    free(a->ns);
    return e;
}

static int hold_moment(kv *h, kv_db *shadow, uint64_t *tail)
{
    int e;

    do
        e = kv_shadow_open(h->s, shadow, tail);
    while (kv_again(h, &e));
    return e;
}

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The log is held and replayed, and compared with a copy of the index: writers and syncs wait for
 * that copy and for nothing else. */
int kv_check(kv *h)
{
    uint64_t tail = 0;
    audit a;
    int e = kv_enter(h), held;
    kv_db *s = h->s, *shadow, *copy;
    kv_dir *dir;

    if (e != KV_OK)
        return e;
    memset(&a, 0, sizeof a);
    shadow = calloc(2, sizeof *shadow);
    a.timers = calloc(TIMER_BITS / 8, 1);
    e = shadow && a.timers ? KV_OK : kv_fail(KV_ENOMEM, "out of memory");
    while (e == KV_OK && !s->readonly && (e = kv_lock_durable(s, h->timeout)) == KV_MOVED) {
        e = kv_reenter(h);
        s = h->s;
    }
    held = e == KV_OK && !s->readonly;
    if (e == KV_OK)
        e = hold_moment(h, shadow, &tail);
    if (held && e != KV_OK)
        kv_unlock_durable(s);
    s = h->s;
    if (e == KV_OK) {
        copy = shadow + 1;
        h->watcher.bytes = kv_log_used(&s->log);
        shadow->watcher = &h->watcher;
        a.other = shadow;
        a.s = s->readonly ? (s->apart ? s : shadow) : copy;
        if (!s->readonly)
            e = snapshot(h, shadow, copy, &tail);
        if (held)
            kv_unlock_durable(s);
        dir = copy->region.dir;
        copy->region.dir = s->dir; /* in messages */
        /* The clock has been here, whatever it says now; a step back is noted by the next write. */
        a.now = latest(kv_store_now(s), (int64_t)kv_load(kv_st(s, KV_ST_CLOCK)));
        a.now = latest(a.now, (int64_t)kv_load(kv_st(s, KV_ST_PEAK)));
        if (e == KV_OK)
            e = audit_all(shadow, tail, &a);
        if (copy->region.head != NULL) {
            kv_region_close(&copy->region);
            kv_dir_close(dir);
        }
        kv_shadow_close(shadow);
    }
    free(a.timers);
    free(shadow);
    return e;
}

/* ---- backup --------------------------------------------------------------------------- */

typedef struct copier {
    kv_db *from;
    kv *to;
    uint64_t *pos;
    size_t count, cap;
} copier;

static int collect(void *arg, uint64_t bucket, uint64_t slot)
{
    copier *c = arg;
    uint64_t *more;

    (void)bucket;
    if (c->count == c->cap) {
        more = realloc(c->pos, (c->cap * 2 + 1024) * sizeof *more);
        if (more == NULL)
            return kv_fail(KV_ENOMEM, "out of memory");
        c->pos = more;
        c->cap = c->cap * 2 + 1024;
    }
    c->pos[c->count++] =
        kv_addr_pos(slot & KV_ADDR_MASK, (uint32_t)kv_load(&c->from->log.w[KV_LOG_OLDEST]));
    return 0;
}

static int by_pos(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static int copy_blob(kv_db *from, kv_db *to, kv_rec *r, uint64_t ref[2])
{
    kv_blob_writer w;
    int e = kv_os_random(&ref[0], sizeof ref[0]);

    if (e == KV_OK)
        e = kv_blob_create(to->dir, to->meta.store_id, ref[0], &w);
    if (e != KV_OK)
        return e;
    e = pass_blob(from, r, &w);
    if (e == KV_OK)
        e = kv_blob_finish(&w, &ref[1]);
    else
        (void)kv_blob_abort(&w);
    r->value = (const char *)ref;
    return e;
}

/* The record as it is, revision, times and all. */
static int copy_record(copier *c, uint64_t pos)
{
    kv_db *to = c->to->s;
    uint64_t ref[2];
    kv_append a;
    kv_found f;
    kv_rec r;
    uint32_t size;
    int e = kv_log_peek(&c->from->log, kv_pos_addr(pos), &r);

    if (e == KV_OK && r.blob)
        e = copy_blob(c->from, to, &r, ref);
    if (e != KV_OK)
        return e;
    r.more = 0;
    r.armed = r.expires;
    size = kv_rec_measure(&r);
    e = kv_index_room(to, r.key_len, r.ns);
    for (; e == KV_OK;) {
        kv_log_begin(&to->log, &a);
        a.next_rev = *kv_st(to, KV_ST_REV) + 1;
        a.next_ns = *kv_st(to, KV_ST_NEXT_NS);
        a.time = (int64_t)*kv_st(to, KV_ST_CLOCK);
        if (kv_log_fit(&to->log, &a, size, KV_FOR_PUT))
            break;
        e = kv_log_prepare(&to->log, kv_segment_size(to));
    }
    if (e != KV_OK)
        return e;
    f.hash = kv_index_hash(to, kv_rec_index_ns(&r), r.key, r.key_len);
    e = kv_index_find(to, kv_rec_index_ns(&r), r.key, r.key_len, 0, &f);
    if (e != KV_OK)
        return e;
    kv_log_begin(&to->log, &a);
    pos = kv_log_append(&to->log, &a, &r);
    kv_log_commit(&to->log, &a);
    e = kv_index_apply(to, &f, &r, pos, a.pos);
    if (e == KV_OK && kv_hash_maintain(&to->region) < 0)
        e = KV_ECORRUPT;
    return e;
}

static int copy_all(kv_db *s, kv_db *shadow, const char *dir, uint64_t *records)
{
    kv_options o;
    copier c;
    uint64_t n = 0;
    size_t i;
    kv_rec r;
    int e;

    memset(&c, 0, sizeof c);
    c.from = shadow;
    kv_options_init(&o);
    o.thread = 0;
    o.max_size = kv_load(kv_st(s, KV_ST_MAX_SIZE));
    o.max_value = kv_max_value(s);
    e = kv_open_new(dir, &o, *kv_st(shadow, KV_ST_REV) + 1, *kv_st(shadow, KV_ST_NEXT_NS), &c.to);
    if (e != KV_OK)
        return e;
    e = kv_hash_each(&shadow->region, collect, &c);
    if (e == KV_OK && c.count)
        qsort(c.pos, c.count, sizeof *c.pos, by_pos);
    for (i = 0; e == KV_OK && i < c.count; i++) {
        e = kv_log_peek(&shadow->log, kv_pos_addr(c.pos[i]), &r);
        if (e != KV_OK || kv_ns_state(shadow, r.ns) == KV_NAME_DROPPED ||
            (r.expires != 0 && r.expires <= kv_store_now(s)))
            continue;
        n += r.kind == KV_REC_PUT;
        e = copy_record(&c, c.pos[i]);
        if (i % 1024 == 0)
            kv_tell(shadow->watcher, 1, i, c.count);
    }
    free(c.pos);
    if (e == KV_OK)
        e = kv_sync(c.to);
    kv_close(c.to);
    if (e == KV_OK && records != NULL)
        *records = n;
    return e;
}

static int any_file(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 1;
}

static int must_be_empty(const char *path)
{
    kv_dir_options o = {0};
    kv_dir *d;
    int made, e;

    o.create = 1;
    o.mode = 0600;
    e = kv_dir_open(path, &o, &d, &made);
    if (e != KV_OK)
        return e;
    e = kv_dir_list(d, any_file, NULL);
    kv_dir_close(d);
    return e == 1 ? kv_fail(KV_EEXISTS, "%s is not empty", path) : e;
}

/* Readers and writers go on, and segments that are retired meanwhile are held. */
int kv_backup(kv *h, const char *dir, uint64_t *records)
{
    uint64_t tail;
    int e = kv_enter(h);
    kv_db *s, *shadow;

    if (e == KV_OK && (dir == NULL || dir[0] == 0 || strcmp(dir, ":memory:") == 0))
        e = kv_fail(KV_EINVAL, "a directory is needed");
    if (e == KV_OK)
        e = must_be_empty(dir);
    if (e != KV_OK)
        return e;
    shadow = calloc(1, sizeof *shadow);
    if (shadow == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    e = hold_moment(h, shadow, &tail);
    s = h->s;
    if (e == KV_OK) {
        h->watcher.bytes = kv_log_used(&s->log);
        shadow->watcher = &h->watcher;
        e = kv_shadow_replay(shadow, tail);
        if (e == KV_OK)
            e = copy_all(s, shadow, dir, records);
        kv_shadow_close(shadow);
    }
    free(shadow);
    return e;
}

/* ---- counters ------------------------------------------------------------------------- */

static int add_blob(void *arg, const char *name)
{
    void **two = arg;
    kv_db *s = two[0];
    uint64_t *sum = two[1], size, id;
    int fd;

    if (kv_blob_parse_name(name, &id) && kv_file_open(s->dir, name, KV_FILE_READ, &fd) == KV_OK) {
        if (kv_file_size(fd, &size) == KV_OK)
            *sum += size;
        kv_file_close(fd);
    }
    return 0;
}

void kv_watch(kv *h, kv_progress f, void *arg)
{
    h->watcher.f = f;
    h->watcher.arg = arg;
}

int kv_get_stats(kv *h, kv_stats *o)
{
    int e = kv_enter(h);
    kv_db *s = h->s;
    kv_head *head = s->region.head;
    void *two[2];

    if (e != KV_OK)
        return e;
    memset(o, 0, sizeof *o);
    o->rev = kv_rev(h);
    o->namespaces = kv_load(kv_st(s, KV_ST_NAMESPACES));
    o->keys = kv_load(kv_st(s, KV_ST_KEYS));
    o->data_bytes = kv_load(kv_st(s, KV_ST_DATA));
    o->live_bytes = kv_load(kv_st(s, KV_ST_LIVE));
    o->log_bytes = kv_log_bytes(&s->log);
    o->used_bytes = kv_log_used(&s->log);
    two[0] = s;
    two[1] = &o->blob_bytes;
    (void)kv_dir_list(s->dir, add_blob, two);
    o->index_bytes = kv_region_bytes(&s->region);
    o->segments =
        kv_pos_id(kv_load(&s->log.w[KV_LOG_TAIL])) - kv_load(&s->log.w[KV_LOG_OLDEST]) + 1;
    if (!s->readonly)
        o->spares = kv_load(&s->log.w[KV_LOG_SPARES]) - kv_pos_id(kv_load(&s->log.w[KV_LOG_TAIL])) +
                    kv_load(&s->log.w[KV_LOG_OLDEST]) - kv_load(&s->log.w[KV_LOG_FREED]);
    o->segment_size = kv_segment_size(s);
    o->timers = kv_load(&head->wheel[KV_WHEEL_COUNT]);
    o->buckets = kv_load(&head->hash[KV_HASH_COUNT]);
    o->overflow = kv_load(&head->hash[KV_HASH_OVERFLOWS]);
    o->nodes = kv_load(&head->used[KV_NODES]) - kv_load(&head->order[KV_ORDER_FREE_COUNT]);
    o->reads_retried = s->retried;
    o->expired = kv_load(kv_st(s, KV_ST_EXPIRED));
    o->cleaned = kv_load(kv_st(s, KV_ST_CLEANED));
    o->syncs = kv_load(&s->log.w[KV_LOG_SYNCS]);
    o->replayed = s->replayed;
    o->cut_bytes = s->cut_bytes;
    o->clock_back = (int64_t)kv_load(kv_st(s, KV_ST_BACK));
    o->max_size = kv_load(kv_st(s, KV_ST_MAX_SIZE));
    o->max_value = kv_max_value(s);
    o->synced_rev =
        kv_load(&s->log.w[KV_LOG_SYNCED]) == kv_load(&s->log.w[KV_LOG_TAIL]) ? (int64_t)o->rev : -1;
    return KV_OK;
}
