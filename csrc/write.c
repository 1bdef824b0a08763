/* SPDX-License-Identifier: MIT
 *
 * write.c - the operations that change one key: put, delete, expire, persist, incr.
 *
 * Every one has the same course: look at the key under the writer lock, let a function decide what
 * record it asks for (or which code), check the room, append, publish the tail, apply, do a bounded
 * share of the chores, unlock; then wait for the disk if the handle asks for it. Up to the
 * published tail nothing has changed; after it nothing can fail.
 */
#include "write.h"
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the course of a write ------------------------------------------------------------ */

/* What a decision sees and fills in. `rec` comes with kind PUT, the key, the namespace, the next
 * revision, both times set as for a new key or an overwrite, and neither value, expiry nor
 * metadata. */
typedef struct write {
    kv_ns *ns;
    const char *key;
    uint32_t len;
    int64_t now;
    kv_found f;
    kv_rec rec;
    int (*decide)(struct write *w,
                  void *arg); /* KV_OK: write w->rec; 1: nothing to write, done; or a code */
    void *arg;
    int drops_space; /* a delete: has a reserve of its own */
    int committed;   /* the record is in the log: what fails from there on undoes nothing */
} write;

/* The rest is set under the lock; clearing it all would cost more than it says. */
static void aim(write *w, kv_ns *ns, const char *key, size_t len, int (*decide)(write *, void *),
                void *arg)
{
    w->ns = ns;
    w->key = key;
    w->len = (uint32_t)len;
    w->decide = decide;
    w->arg = arg;
    w->drops_space = 0;
    w->committed = 0;
    w->rec.value_len = 0;
}

int kv_write_enter(kv *h)
{
    int e = kv_enter(h);

    if (e != KV_OK)
        return e;
    if (h->readonly || h->s->readonly)
        return kv_fail(KV_EREADONLY, "%s is open for reading only", kv_dir_path(h->s->dir));
    if (kv_load_relaxed(&h->s->log.w[KV_LOG_BROKEN]))
        return kv_fail(KV_EIO, "%s: an earlier sync failed; reopen the store",
                       kv_dir_path(h->s->dir));
    return KV_OK;
}

/* The running clock: moves on with the system's, holds still over small backward steps, accepts and
 * notes large ones. */
int64_t kv_write_clock(kv_db *s)
{
    int64_t now = kv_store_now(s);

    if (now != (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK)))
        kv_set_clock(s, now);
    return now;
}

void kv_write_begin(kv_db *s, kv_append *a, int64_t now)
{
    kv_log_begin(&s->log, a);
    a->next_rev = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    a->next_ns = kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    a->time = now;
}

/* Appends one record, commits and applies it. Room was checked. */
int kv_write_commit(kv_db *s, kv_append *a, kv_found *f, const kv_rec *r)
{
    uint64_t pos = kv_log_append(&s->log, a, r);

    kv_log_commit(&s->log, a);
    return kv_index_apply(s, f, r, pos, a->pos);
}

/* Bytes a user would count. */
uint64_t kv_write_user_bytes(const kv_rec *r)
{
    uint64_t ref[2] = {0, r->value_len};

    if (r->blob && r->value_len == sizeof ref)
        memcpy(ref, r->value, sizeof ref);
    return r->key_len + ref[1] + r->meta_len;
}

/* What takes no more room than before is let through, also when a limit was lowered below it. */
int kv_write_over_size(kv_db *s, uint64_t more, uint64_t less)
{
    uint64_t max = kv_load_relaxed(kv_st(s, KV_ST_MAX_SIZE));

    if (max == 0 || more <= less || kv_load_relaxed(kv_st(s, KV_ST_DATA)) + more - less <= max)
        return KV_OK;
    return kv_fail(KV_EFULL, "%s holds its max_size of %llu bytes", kv_dir_path(s->dir),
                   (unsigned long long)max);
}

/* Under the lock. *need: what must be made before another try. A missing namespace is made only
 * when there is something to write to it: a write that is refused leaves no trace. */
static int write_locked(write *w, uint64_t *end, uint32_t *need)
{
    kv_db *s = w->ns->h->s;
    kv_append a;
    kv_rec *r = &w->rec;
    uint64_t near;
    uint32_t size;
    int e, absent;

    w->now = kv_write_clock(s);
    e = kv_name_find(w->ns, w->now);
    absent = e == KV_ENOTFOUND;
    w->f.there = w->f.live = 0;
    if (kv_likely(e == KV_OK)) {
        w->f.hash = kv_hash_key(w->ns->seed0, w->ns->seed1, w->ns->id, w->key, w->len);
        near = kv_index_fetch(s, w->ns->id, w->key, w->len, w->f.hash);
        e = kv_index_find(s, w->ns->id, w->key, w->len, w->now, &w->f);
        w->f.near = near;
    }
    if (e != KV_OK && !absent)
        return e;
    memset(r, 0, sizeof *r);
    r->kind = KV_REC_PUT;
    r->ns = w->ns->id;
    r->key = w->key;
    r->key_len = w->len;
    r->rev = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    r->id = w->f.live ? w->f.rec.id : r->rev;
    r->updated = w->now;
    r->created = w->f.live ? w->f.rec.created : w->now;
    e = w->decide(w, w->arg);
    if (e != KV_OK)
        return e == 1 ? KV_OK : e;
    if (r->kind == KV_REC_PUT) {
        kv_index_arm(s, &w->f, r);
        e = kv_unlikely(kv_load_relaxed(kv_st(s, KV_ST_MAX_SIZE)) != 0)
                ? kv_write_over_size(s, kv_write_user_bytes(r),
                                     w->f.there ? kv_write_user_bytes(&w->f.rec) : 0)
                : KV_OK;
        if (e != KV_OK)
            return e;
    }
    if (kv_unlikely(absent)) {
        e = kv_name_ensure(s, w->ns, NULL, 0, 1, w->now, need);
        return e != KV_OK || *need ? e : write_locked(w, end, need);
    }
    size = kv_rec_measure(r);
    kv_write_begin(s, &a, w->now);
    a.next_rev++;
    /* What is there has its nodes, and without an expiry no timer is armed. */
    if (w->drops_space)
        *need = kv_index_short_to_clean(s) & 1u << KV_NODES;
    else
        *need = w->f.there && r->kind == KV_REC_PUT && r->expires == 0 ? 0 : kv_index_short(s);
    if (!kv_log_fit(&s->log, &a, size, w->drops_space ? KV_FOR_DELETE : KV_FOR_PUT))
        *need |= w->drops_space ? KV_NEED_RESERVE : KV_NEED_LOG;
    if (*need)
        return KV_OK;
    kv_log_begin(&s->log, &a);
    w->committed = 1; /* also where the index cannot take it: the log has it */
    e = kv_write_commit(s, &a, &w->f, r);
    if (e != KV_OK)
        return e;
    __atomic_store_n(&s->fresh,
                     w->f.there     ? s->fresh / 2
                     : s->fresh < 3 ? s->fresh + 1
                                    : 3,
                     __ATOMIC_RELAXED);
    /* expire and persist hand the reference on. */
    if (w->f.there && !(r->blob && r->value == w->f.rec.value))
        kv_blob_dead(s, &w->f.rec, a.pos);
    *end = a.pos;
    kv_chores(s, kv_rec_align(size), w->now);
    return KV_OK;
}

/* What the write will touch is on its way before the lock is taken: the log's next lines, the key's
 * bucket, which is waited for, and the record that names, if any; but where keys are new the way
 * down the key order is what fills the wait. A hint: what there is counts later. */
static void expect(const write *w)
{
    kv_db *s = w->ns->h->s;
    uint64_t slot, hash = kv_hash_key(w->ns->seed0, w->ns->seed1, w->ns->id, w->key, w->len);

    kv_log_prefetch_tail(&s->log);
    if (__atomic_load_n(&s->fresh, __ATOMIC_RELAXED) >= 2) {
        kv_hash_prefetch(&s->region, hash);
        return;
    }
    slot = kv_hash_glance(&s->region, hash);
    if (slot)
        kv_log_prefetch(&s->log, slot & KV_ADDR_MASK);
}

/* The whole course. A full disk is reported only after the helper's work was tried. */
static int write_key(write *w)
{
    kv *h = w->ns->h;
    uint64_t end = 0;
    uint32_t need;
    int e;

    expect(w);
    for (;;) {
        need = 0;
        e = kv_lock_writer(h);
        if (e != KV_OK)
            return e;
        e = write_locked(w, &end, &need);
        kv_unlock_writer(h);
        if (e != KV_OK || need == 0)
            break;
        e = kv_make_room(h, need, !w->drops_space,
                         (uint64_t)w->rec.value_len + KV_MAX_KEY + KV_MAX_META + KV_REC_MAX_HEAD);
        if (e != KV_OK)
            return e;
    }
    if (e != KV_OK || end == 0)
        return e;
    kv_after_write(h);
    if (kv_unlikely(w->f.there && w->f.rec.blob))
        kv_after_large(h);
    return h->sync == KV_SYNC_ALWAYS ? kv_sync_to(h, end) : KV_OK;
}

/* ---- values, expiry, conditions ------------------------------------------------------- */

int kv_write_check_value(kv_db *s, const kv_value *v)
{
    uint64_t max = kv_max_value(s);

    switch (v->type) {
    case KV_STRING:
    case KV_JSON:
        if (v->len > max)
            return kv_fail(KV_ETOOBIG, "a value has at most %llu bytes here, this one %u",
                           (unsigned long long)max, (unsigned)v->len);
        return KV_OK;
    case KV_NUMBER:
        if (!isfinite(v->number))
            return kv_fail(KV_EINVAL, "NaN and infinities cannot be stored");
        return KV_OK;
    case KV_INTEGER:
    case KV_BOOLEAN:
    case KV_NULL:
        return KV_OK;
    }
    return kv_fail(KV_EINVAL, "a value of unknown type %d", (int)v->type);
}

int kv_write_check_options(const kv_write *w)
{
    if (w == NULL)
        return KV_OK;
    if (w->flags & KV_TTL && (w->ttl <= 0 || w->ttl > KV_MAX_TTL))
        return kv_fail(KV_EINVAL, "a ttl is more than 0 and at most 1e9 seconds");
    if (w->flags & KV_EXPIRATION && !(w->flags & KV_TTL) && w->expires > KV_MAX_TIME)
        return kv_fail(KV_EINVAL, "an expiration beyond the year 5138: milliseconds?");
    if (w->flags & KV_META && w->meta_len > KV_MAX_META)
        return kv_fail(KV_ETOOBIG, "metadata has at most %d bytes as JSON, this one %u",
                       KV_MAX_META, (unsigned)w->meta_len);
    return KV_OK;
}

int kv_write_conditions(const kv_found *f, const kv_write *w)
{
    if (w == NULL)
        return KV_OK;
    if (w->flags & KV_IF_EXIST && !f->live)
        return kv_fail(KV_ENOTFOUND, "the key does not exist");
    if (w->flags & KV_IF_NOT_EXIST && f->live)
        return kv_fail(KV_EEXISTS, "the key exists");
    if (w->flags & KV_IF_REV && w->if_rev != (f->live ? f->rec.rev : 0) && !KV_IS_BUG(61))
        return kv_fail(KV_ECONFLICT, "the key has another revision");
    return KV_OK;
}

/* First given of ttl, expiration and keep_ttl wins. */
int kv_write_options(const kv_found *f, const kv_write *w, int64_t now, kv_rec *r)
{
    if (w == NULL)
        return KV_OK;
    if (w->flags & KV_TTL) {
        r->expires = now + w->ttl;
    } else if (w->flags & KV_EXPIRATION) {
        if (w->expires <= now)
            return kv_fail(KV_ERANGE, "the expiration lies in the past");
        r->expires = w->expires;
    } else if (w->flags & KV_KEEP_TTL && f->live) {
        r->expires = f->rec.expires;
    }
    if (w->flags & KV_META) {
        r->meta = w->meta;
        r->meta_len = w->meta_len;
    } else if (w->flags & KV_KEEP_META && f->live) {
        r->meta = f->rec.meta;
        r->meta_len = f->rec.meta_len;
    }
    return KV_OK;
}

/* ---- put, delete ---------------------------------------------------------------------- */

/* For calls that hand out what was there: it is read without the lock, and the write counts only if
 * it still is. */
typedef struct before {
    kv_record *out;
    int there;
    uint64_t rev;
    int changed; /* 1: it was another by then; look again */
} before;

static int read_before(kv_ns *ns, const char *key, size_t len, before *b)
{
    int e;

    b->changed = 0;
    if (b->out == NULL)
        return KV_OK;
    e = kv_get(ns, key, len, b->out);
    b->there = e == KV_OK;
    if (e == KV_ENOTFOUND) {
        memset(b->out, 0, sizeof *b->out);
        e = KV_OK;
    }
    b->rev = b->there ? b->out->rev : 0;
    return e;
}

static int still_before(const kv_found *f, before *b)
{
    b->changed = b->out != NULL && b->rev != (f->live ? f->rec.rev : 0) && !KV_IS_BUG(60);
    return b->changed;
}

typedef struct put_args {
    const kv_value *value; /* of a large one only the type counts */
    const kv_write *w;
    before old;
    uint64_t ref[2];
    int blob;
    char buf[8];
    uint64_t rev;
} put_args;

static int decide_put(write *w, void *arg)
{
    put_args *p = arg;
    int e;

    if (still_before(&w->f, &p->old))
        return 1;
    e = kv_write_conditions(&w->f, p->w);
    if (e == KV_OK)
        e = kv_write_options(&w->f, p->w, w->now, &w->rec);
    if (e != KV_OK)
        return e;
    w->rec.type = (uint8_t)p->value->type;
    w->rec.blob = (uint8_t)p->blob;
    if (p->blob) {
        w->rec.value = (const char *)p->ref;
        w->rec.value_len = 16;
    } else {
        w->rec.value_len = kv_value_bytes(p->value, p->buf, &w->rec.value);
    }
    p->rev = w->rec.rev;
    return KV_OK;
}

static int write_blob(kv_db *s, const kv_value *v, uint64_t ref[2])
{
    int e = kv_os_random(&ref[0], sizeof ref[0]);

    ref[1] = v->len;
    return e == KV_OK ? kv_blob_write(s->dir, s->meta.store_id, ref[0], v->data, v->len) : e;
}

int kv_write_blob(kv *h, const kv_value *v, uint64_t ref[2])
{
    int e = write_blob(h->s, v, ref);

    return e == KV_EFULL && kv_reclaim(h) ? write_blob(h->s, v, ref) : e;
}

int kv_write_is_large(kv_db *s, const kv_value *v)
{
    return (v->type == KV_STRING || v->type == KV_JSON) && v->len > kv_blob_limit(s);
}

static int put(kv_ns *ns, const char *key, size_t len, put_args *p, uint64_t *rev)
{
    write w;
    int e;

    aim(&w, ns, key, len, decide_put, p);
    do {
        e = read_before(ns, key, len, &p->old);
        if (e == KV_OK)
            e = write_key(&w);
    } while (e == KV_OK && p->old.changed);
    /* When only the sync failed the record is there, and with it the reference. */
    if (e != KV_OK && p->blob && !w.committed)
        (void)kv_blob_unlink(ns->h->s->dir, p->ref[0]);
    if (e == KV_OK && rev != NULL)
        *rev = p->rev;
    return e;
}

int kv_write_reference(kv_ns *ns, const char *key, size_t len, int type, const uint64_t ref[2],
                       const kv_write *opts, uint64_t *rev)
{
    put_args p = {0};
    kv_value v = {0};
    int e = kv_write_enter(ns->h);

    if (e != KV_OK) {
        (void)kv_blob_unlink(ns->h->s->dir, ref[0]);
        return e;
    }
    v.type = type;
    p.value = &v;
    p.w = opts;
    p.blob = 1;
    memcpy(p.ref, ref, sizeof p.ref);
    return put(ns, key, len, &p, rev);
}

int kv_put(kv_ns *ns, const char *key, size_t len, const kv_value *v, const kv_write *opts,
           uint64_t *rev, kv_record *old)
{
    put_args p = {0};
    int e = kv_write_enter(ns->h);

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e == KV_OK)
        e = kv_write_check_value(ns->h->s, v);
    if (e == KV_OK)
        e = kv_write_check_options(opts);
    if (e != KV_OK)
        return e;
    p.value = v;
    p.w = opts;
    p.old.out = old;
    if (kv_write_is_large(ns->h->s, v)) {
        e = kv_write_blob(ns->h, v, p.ref);
        if (e != KV_OK)
            return e;
        p.blob = 1;
    }
    return put(ns, key, len, &p, rev);
}

typedef struct delete_args {
    const kv_write *w;
    before old;
    uint64_t rev;
} delete_args;

static int decide_delete(write *w, void *arg)
{
    delete_args *d = arg;
    int e;

    if (still_before(&w->f, &d->old))
        return 1;
    if (d->w != NULL && d->w->flags & KV_IF_REV && d->w->if_rev != (w->f.live ? w->f.rec.rev : 0))
        return kv_fail(KV_ECONFLICT, "the key has another revision");
    e = w->f.live ? KV_OK : KV_ENOTFOUND;
    if (e != KV_OK)
        return e;
    w->rec.kind = KV_REC_DELETE;
    w->rec.created = w->rec.updated;
    w->rec.id = w->rec.rev;
    d->rev = w->rec.rev;
    return KV_OK;
}

int kv_delete(kv_ns *ns, const char *key, size_t len, const kv_write *opts, uint64_t *rev,
              kv_record *old)
{
    delete_args d = {0};
    write w;
    int e = kv_write_enter(ns->h);

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e != KV_OK)
        return e;
    d.w = opts;
    d.old.out = old;
    aim(&w, ns, key, len, decide_delete, &d);
    w.drops_space = 1;
    do {
        e = read_before(ns, key, len, &d.old);
        if (e == KV_OK)
            e = write_key(&w);
    } while (e == KV_OK && d.old.changed);
    if (e == KV_ENOTFOUND && opts != NULL && opts->flags & KV_IF_REV && opts->if_rev != 0)
        return kv_fail(KV_ECONFLICT, "the key has another revision");
    if (e == KV_OK && rev != NULL)
        *rev = d.rev;
    return e;
}

/* ---- expiry of a key ------------------------------------------------------------------ */

/* The same record with another expiry. */
static void keep(write *w)
{
    const kv_rec *old = &w->f.rec;

    w->rec.type = old->type;
    w->rec.blob = old->blob;
    w->rec.value = old->value;
    w->rec.value_len = old->value_len;
    w->rec.meta = old->meta;
    w->rec.meta_len = old->meta_len;
    w->rec.updated = old->updated;
}

static int decide_expire(write *w, void *arg)
{
    const int64_t *ttl = arg;

    if (!w->f.live)
        return KV_ENOTFOUND;
    keep(w);
    w->rec.expires = w->now + *ttl;
    return KV_OK;
}

int kv_expire(kv_ns *ns, const char *key, size_t len, int64_t ttl)
{
    write w;
    int e = kv_write_enter(ns->h);

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e == KV_OK && ttl > KV_MAX_TTL)
        e = kv_fail(KV_EINVAL, "a ttl is at most 1e9 seconds");
    if (e != KV_OK)
        return e;
    if (ttl <= 0)
        return kv_delete(ns, key, len, NULL, NULL, NULL);
    aim(&w, ns, key, len, decide_expire, &ttl);
    return write_key(&w);
}

static int decide_persist(write *w, void *arg)
{
    int *had = arg;

    if (!w->f.live)
        return KV_ENOTFOUND;
    *had = w->f.rec.expires != 0;
    if (!*had)
        return 1;
    keep(w);
    return KV_OK;
}

int kv_persist(kv_ns *ns, const char *key, size_t len, int *had)
{
    write w;
    int e = kv_write_enter(ns->h), found = 0;

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e != KV_OK)
        return e;
    aim(&w, ns, key, len, decide_persist, &found);
    e = write_key(&w);
    if (e == KV_OK)
        *had = found;
    return e;
}

/* ---- incr ----------------------------------------------------------------------------- */

typedef struct incr_args {
    const kv_value *by;
    const kv_incr_opts *o;
    kv_value result;
    char buf[32];
    uint64_t rev;
} incr_args;

static double as_double(const kv_value *v)
{
    return v->type == KV_INTEGER ? (double)v->integer : v->number;
}

/* -1, 0, 1 as i < d, i == d, i > d; exact, where i as a double would be rounded. */
static int order_mixed(int64_t i, double d)
{
    int64_t whole;

    if (d >= 9223372036854775808.0)
        return -1;
    if (d < -9223372036854775808.0)
        return 1;
    whole = (int64_t)d;
    if (i != whole)
        return i < whole ? -1 : 1;
    return ((double)whole > d) - ((double)whole < d);
}

/* -1, 0, 1 as a < b, a == b, a > b; of finite numbers. */
static int order(const kv_value *a, const kv_value *b)
{
    if (a->type == KV_INTEGER && b->type == KV_INTEGER)
        return (a->integer > b->integer) - (a->integer < b->integer);
    if (a->type == KV_INTEGER)
        return order_mixed(a->integer, b->number);
    if (b->type == KV_INTEGER)
        return -order_mixed(b->integer, a->number);
    return (a->number > b->number) - (a->number < b->number);
}

static int add(const kv_value *a, const kv_value *b, kv_value *sum)
{
    memset(sum, 0, sizeof *sum);
    if (a->type == KV_INTEGER && b->type == KV_INTEGER) {
        sum->type = KV_INTEGER;
        if (__builtin_add_overflow(a->integer, b->integer, &sum->integer))
            return kv_fail(KV_ERANGE, "the sum does not fit 64 bits");
        return KV_OK;
    }
    sum->type = KV_NUMBER;
    sum->number = as_double(a) + as_double(b);
    return isfinite(sum->number) ? KV_OK : kv_fail(KV_ERANGE, "the sum is not a finite number");
}

static int is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The number that a value is, or that its text is: all of a string's, of a document's but for white
 * space around it. */
static int number_of(const kv_rec *r, kv_value *v)
{
    int e = kv_value_read(r, v), kind;
    int64_t i = 0;
    double d = 0;

    if (e != KV_OK)
        return e;
    if (v->type == KV_INTEGER || v->type == KV_NUMBER)
        return KV_OK;
    if ((v->type == KV_STRING || v->type == KV_JSON) && !r->blob) {
        const char *text = v->data;
        size_t len = v->len;
        while (v->type == KV_JSON && len > 0 && is_space(*text))
            text++, len--;
        while (v->type == KV_JSON && len > 0 && is_space(text[len - 1]))
            len--;
        kind = kv_json_number_parse(text, len, &i, &d);
        if (kind == KV_JSON_INTEGER || kind == KV_JSON_DOUBLE) {
            v->type = kind == KV_JSON_INTEGER ? KV_INTEGER : KV_NUMBER;
            v->integer = i;
            v->number = d;
            return KV_OK;
        }
    }
    return kv_fail(KV_ENOTNUMBER, "the value is not a number");
}

static int decide_incr(write *w, void *arg)
{
    static const kv_incr_opts defaults;
    incr_args *a = arg;
    const kv_incr_opts *o = a->o ? a->o : &defaults;
    kv_rec *r = &w->rec;
    kv_value base = {0};
    int e;

    base.type = KV_INTEGER;
    if (w->f.live)
        e = number_of(&w->f.rec, &base);
    else
        e = o->flags & KV_INCR_NO_INIT ? kv_fail(KV_ENOTFOUND, "the key does not exist") : KV_OK;
    if (!w->f.live && (o->init.type == KV_INTEGER || o->init.type == KV_NUMBER))
        base = o->init;
    if (e == KV_OK)
        e = add(&base, a->by, &a->result);
    if (e != KV_OK)
        return e;
    if ((o->flags & KV_INCR_MIN && order(&a->result, &o->min) < 0) ||
        (o->flags & KV_INCR_MAX && order(&a->result, &o->max) > 0))
        return kv_fail(KV_ERANGE, "the sum would pass the given bound");
    r->type = (uint8_t)a->result.type;
    r->value = a->buf;
    if (w->f.live && w->f.rec.type == KV_STRING) {
        r->type = KV_STRING;
        r->value_len = (uint32_t)(a->result.type == KV_INTEGER
                                      ? kv_json_integer_format(a->result.integer, a->buf)
                                      : kv_json_number_format(a->result.number, 1, a->buf));
    } else {
        r->value_len = kv_value_bytes(&a->result, a->buf, &r->value);
    }
    if (w->f.live) {
        r->expires = w->f.rec.expires;
        r->meta = w->f.rec.meta;
        r->meta_len = w->f.rec.meta_len;
    } else if (o->flags & KV_INCR_TTL) {
        r->expires = w->now + o->ttl;
    }
    a->rev = r->rev;
    return KV_OK;
}

static int is_number(const kv_value *v)
{
    return v->type == KV_INTEGER || (v->type == KV_NUMBER && isfinite(v->number));
}

int kv_incr(kv_ns *ns, const char *key, size_t len, const kv_value *by, const kv_incr_opts *o,
            kv_value *out, uint64_t *rev)
{
    incr_args a = {0};
    write w;
    int e = kv_write_enter(ns->h);

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e != KV_OK)
        return e;
    if (!is_number(by) || (o && o->flags & KV_INCR_MIN && !is_number(&o->min)) ||
        (o && o->flags & KV_INCR_MAX && !is_number(&o->max)) ||
        (o && o->init.type != 0 && !is_number(&o->init)))
        return kv_fail(KV_EINVAL, "by, init, min and max are finite numbers");
    if (o && o->flags & KV_INCR_TTL && (o->ttl <= 0 || o->ttl > KV_MAX_TTL))
        return kv_fail(KV_EINVAL, "a ttl is more than 0 and at most 1e9 seconds");
    a.by = by;
    a.o = o;
    aim(&w, ns, key, len, decide_incr, &a);
    e = write_key(&w);
    if (e == KV_OK) {
        *out = a.result;
        if (rev != NULL)
            *rev = a.rev;
    }
    return e;
}
