/* SPDX-License-Identifier: MIT
 *
 * write.c - the operations that change something: put, delete, expire, incr, batches, namespaces.
 *
 * Every one has the same course: look at the key under the writer lock, let a function decide what
 * record it asks for (or which code), check the room, append, publish the tail, apply, do a bounded
 * share of the chores, unlock; then wait for the disk if the handle asks for it. Up to the
 * published tail nothing has changed; after it nothing can fail.
 */
#include "json.h"
#include "store.h"

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
    int drops_space; /* may take the reserve: it deletes */
    int committed;   /* the record is in the log: what fails from there on undoes nothing */
} write;

static int check_key(const char *key, size_t len)
{
    if (key == NULL || len == 0)
        return kv_fail(KV_EINVAL, "a key must have at least one byte");
    if (len > KV_MAX_KEY)
        return kv_fail(KV_ETOOBIG, "a key has at most %d bytes, this one %zu", KV_MAX_KEY, len);
    return KV_OK;
}

static int enter_write(kv *h)
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
static int64_t tick_clock(kv_db *s)
{
    int64_t now = kv_store_now(s), last = (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK));

    if (now == last)
        return now;
    if (now < last && (uint64_t)(last - now) > kv_load_relaxed(kv_st(s, KV_ST_BACK)))
        kv_store(kv_st(s, KV_ST_BACK), (uint64_t)(last - now));
    kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)now);
    return now;
}

static void prepare_append(kv_db *s, kv_append *a, int64_t now)
{
    kv_log_begin(&s->log, a);
    a->next_rev = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    a->next_ns = kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    a->time = now;
}

/* Appends one record, commits and applies it. Room was checked. */
static int commit_one(kv_db *s, kv_append *a, kv_found *f, const kv_rec *r)
{
    uint64_t pos = kv_log_append(&s->log, a, r);

    kv_log_commit(&s->log, a);
    return kv_index_apply(s, f, r, pos, a->pos);
}

/* The namespace's id under the lock, made if it is not there; *size: 0, or of the record that was
 * committed for it. */
static int name_record(kv_db *s, kv_ns *ns, const char *desc, size_t desc_len, int64_t now,
                       kv_found *f, kv_rec *r)
{
    int e;

    f->hash = kv_index_hash(s, 0, ns->name, ns->name_len);
    e = kv_index_find(s, 0, ns->name, ns->name_len, now, f);
    if (e != KV_OK)
        return e;
    memset(r, 0, sizeof *r);
    r->kind = KV_REC_NAME;
    r->type = KV_STRING;
    r->key = ns->name;
    r->key_len = ns->name_len;
    r->rev = r->id = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    r->created = r->updated = now;
    r->value = desc;
    r->value_len = (uint32_t)desc_len;
    r->ns = (uint32_t)kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    if (f->there && kv_ns_state(s, f->rec.ns) == KV_NAME_LIVE) {
        r->ns = f->rec.ns;
        r->id = f->rec.id;
        r->created = f->rec.created;
        return 1;
    }
    return KV_OK;
}

static void adopt_name(kv_db *s, kv_ns *ns, uint32_t id)
{
    ns->id = id;
    ns->state = kv_ns_state_word(s, id);
}

/* Makes sure the namespace exists; desc not NULL: has that description. Holds the lock throughout;
 * *need as kv_make_room. */
static int ensure_name(kv_db *s, kv_ns *ns, const char *desc, size_t desc_len, int create,
                       int64_t now, uint32_t *need)
{
    kv_append a;
    kv_found f;
    kv_rec r;
    uint32_t size;
    int e = name_record(s, ns, desc, desc_len, now, &f, &r);

    if (e < 0)
        return e;
    if (e == KV_OK && !create)
        return KV_ENOTFOUND;
    if (e == KV_OK && r.ns > KV_MAX_NAMES)
        return kv_fail(KV_EFULL, "%s: no namespace ids are left", kv_dir_path(s->dir));
    if (e == 1 && (desc == NULL || (f.rec.value_len == desc_len &&
                                    (desc_len == 0 || memcmp(f.rec.value, desc, desc_len) == 0)))) {
        adopt_name(s, ns, r.ns);
        return KV_OK;
    }
    prepare_append(s, &a, now);
    a.next_rev++;
    a.next_ns = r.ns >= a.next_ns ? (uint64_t)r.ns + 1 : a.next_ns;
    size = kv_rec_measure(&r);
    *need = kv_index_needs(s, 1, KV_MAX_NAME);
    if (!kv_log_fit(&s->log, &a, size, 0))
        *need |= KV_NEED_LOG;
    if (*need)
        return KV_OK;
    kv_log_begin(&s->log, &a);
    e = commit_one(s, &a, &f, &r);
    if (e == KV_OK)
        adopt_name(s, ns, r.ns);
    return e;
}

/* Bytes a user would count. */
static uint64_t user_bytes(const kv_rec *r)
{
    uint64_t ref[2] = {0, r->value_len};

    if (r->blob && r->value_len == sizeof ref)
        memcpy(ref, r->value, sizeof ref);
    return r->key_len + ref[1] + r->meta_len;
}

/* What takes no more room than before is let through, also when a limit was lowered below it. */
static int over_size(kv_db *s, uint64_t more, uint64_t less)
{
    uint64_t max = s->meta.max_size;

    if (max == 0 || more <= less || kv_load_relaxed(kv_st(s, KV_ST_DATA)) + more - less <= max)
        return KV_OK;
    return kv_fail(KV_EFULL, "%s holds its max_size of %llu bytes", kv_dir_path(s->dir),
                   (unsigned long long)max);
}

/* Whether the namespace is missing; KV_OK: it is there, KV_ENOTFOUND: it is not, or a failure. */
static int find_name(kv_ns *ns, int64_t now)
{
    uint32_t need = 0;
    int e;

    if (kv_likely(ns->state != NULL && kv_load(ns->state) == KV_NAME_LIVE))
        return KV_OK;
    e = ensure_name(ns->h->s, ns, NULL, 0, 0, now, &need);
    if (e == KV_ENOTFOUND) {
        ns->id = 0;
        ns->state = NULL;
    }
    return e;
}

/* Under the lock. *need: what must be made before another try. A missing namespace is made only
 * when there is something to write to it: a write that is refused leaves no trace. */
static int write_locked(write *w, uint64_t *end, uint32_t *need)
{
    kv_db *s = w->ns->h->s;
    kv_append a;
    kv_rec *r = &w->rec;
    uint32_t size;
    int e, absent;

    w->now = tick_clock(s);
    e = find_name(w->ns, w->now);
    absent = e == KV_ENOTFOUND;
    w->f.there = w->f.live = 0;
    if (kv_likely(e == KV_OK)) {
        w->f.hash = kv_hash_key(w->ns->seed0, w->ns->seed1, w->ns->id, w->key, w->len);
        e = kv_index_find(s, w->ns->id, w->key, w->len, w->now, &w->f);
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
        e = kv_unlikely(s->meta.max_size)
                ? over_size(s, user_bytes(r), w->f.there ? user_bytes(&w->f.rec) : 0)
                : KV_OK;
        if (e != KV_OK)
            return e;
    }
    if (kv_unlikely(absent)) {
        e = ensure_name(s, w->ns, NULL, 0, 1, w->now, need);
        return e != KV_OK || *need ? e : write_locked(w, end, need);
    }
    size = kv_rec_measure(r);
    prepare_append(s, &a, w->now);
    a.next_rev++;
    *need = kv_index_short(s);
    if (!kv_log_fit(&s->log, &a, size, w->drops_space))
        *need |= w->drops_space ? KV_NEED_RESERVE : KV_NEED_LOG;
    if (*need)
        return KV_OK;
    kv_log_begin(&s->log, &a);
    e = commit_one(s, &a, &w->f, r);
    if (e != KV_OK)
        return e;
    /* expire and persist hand the reference on. */
    if (w->f.there && !(r->blob && r->value == w->f.rec.value))
        kv_blob_dead(s, &w->f.rec, a.pos);
    *end = a.pos;
    w->committed = 1;
    kv_chores(s, kv_rec_align(size), w->now);
    return KV_OK;
}

/* The whole course. A full disk is reported only after the helper's work was tried. */
static int write_key(write *w)
{
    kv *h = w->ns->h;
    uint64_t end = 0;
    uint32_t need;
    int e;

    for (;;) {
        need = 0;
        e = kv_lock_writer(h);
        if (e != KV_OK)
            return e;
        e = write_locked(w, &end, &need);
        kv_unlock_writer(h);
        if (e != KV_OK || need == 0)
            break;
        e = kv_make_room(h, need, 1,
                         (uint64_t)w->rec.value_len + KV_MAX_KEY + KV_MAX_META + KV_REC_MAX_HEAD);
        if (e != KV_OK)
            return e;
    }
    if (e != KV_OK || end == 0)
        return e;
    kv_after_write(h);
    return h->sync == KV_SYNC_ALWAYS ? kv_sync_to(h, end) : KV_OK;
}

/* ---- values, expiry, conditions ------------------------------------------------------- */

static int check_value(kv_db *s, const kv_value *v)
{
    uint64_t max = s->meta.max_value ? s->meta.max_value : KV_MAX_VALUE;

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

static int check_write(const kv_write *w)
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

static int conditions(const kv_found *f, const kv_write *w)
{
    if (w == NULL)
        return KV_OK;
    if (w->flags & KV_IF_EXIST && !f->live)
        return kv_fail(KV_ENOTFOUND, "the key does not exist");
    if (w->flags & KV_IF_NOT_EXIST && f->live)
        return kv_fail(KV_EEXISTS, "the key exists");
    if (w->flags & KV_IF_REV && w->if_rev != (f->live ? f->rec.rev : 0))
        return kv_fail(KV_ECONFLICT, "the key has another revision");
    return KV_OK;
}

/* First given of ttl, expiration and keep_ttl wins. */
static int options(const kv_found *f, const kv_write *w, int64_t now, kv_rec *r)
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
    b->changed = b->out != NULL && b->rev != (f->live ? f->rec.rev : 0);
    return b->changed;
}

typedef struct put_args {
    const kv_value *value;
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
    e = conditions(&w->f, p->w);
    if (e == KV_OK)
        e = options(&w->f, p->w, w->now, &w->rec);
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

static int is_large(kv_db *s, const kv_value *v)
{
    return (v->type == KV_STRING || v->type == KV_JSON) && v->len > kv_blob_limit(s);
}

int kv_put(kv_ns *ns, const char *key, size_t len, const kv_value *v, const kv_write *opts,
           uint64_t *rev, kv_record *old)
{
    put_args p = {0};
    write w = {0};
    int e = enter_write(ns->h);

    if (e == KV_OK)
        e = check_key(key, len);
    if (e == KV_OK)
        e = check_value(ns->h->s, v);
    if (e == KV_OK)
        e = check_write(opts);
    if (e != KV_OK)
        return e;
    p.value = v;
    p.w = opts;
    p.old.out = old;
    if (is_large(ns->h->s, v)) {
        e = write_blob(ns->h->s, v, p.ref);
        if (e != KV_OK)
            return e;
        p.blob = 1;
    }
    w.ns = ns;
    w.key = key;
    w.len = (uint32_t)len;
    w.decide = decide_put;
    w.arg = &p;
    do {
        e = read_before(ns, key, len, &p.old);
        if (e == KV_OK)
            e = write_key(&w);
    } while (e == KV_OK && p.old.changed);
    /* When only the sync failed the record is there, and with it the reference. */
    if (e != KV_OK && p.blob && !w.committed)
        (void)kv_blob_unlink(ns->h->s->dir, p.ref[0]);
    if (e == KV_OK && rev != NULL)
        *rev = p.rev;
    return e;
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
    write w = {0};
    int e = enter_write(ns->h);

    if (e == KV_OK)
        e = check_key(key, len);
    if (e != KV_OK)
        return e;
    d.w = opts;
    d.old.out = old;
    w.ns = ns;
    w.key = key;
    w.len = (uint32_t)len;
    w.decide = decide_delete;
    w.arg = &d;
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
    write w = {0};
    int e = enter_write(ns->h);

    if (e == KV_OK)
        e = check_key(key, len);
    if (e == KV_OK && ttl > KV_MAX_TTL)
        e = kv_fail(KV_EINVAL, "a ttl is at most 1e9 seconds");
    if (e != KV_OK)
        return e;
    if (ttl <= 0)
        return kv_delete(ns, key, len, NULL, NULL, NULL);
    w.ns = ns;
    w.key = key;
    w.len = (uint32_t)len;
    w.decide = decide_expire;
    w.arg = &ttl;
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
    write w = {0};
    int e = enter_write(ns->h), found = 0;

    if (e == KV_OK)
        e = check_key(key, len);
    if (e != KV_OK)
        return e;
    w.ns = ns;
    w.key = key;
    w.len = (uint32_t)len;
    w.decide = decide_persist;
    w.arg = &found;
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

/* -1, 0, 1 as a < b, a == b, a > b; exact for two integers. */
static int order(const kv_value *a, const kv_value *b)
{
    double x, y;

    if (a->type == KV_INTEGER && b->type == KV_INTEGER)
        return (a->integer > b->integer) - (a->integer < b->integer);
    x = as_double(a);
    y = as_double(b);
    return (x > y) - (x < y);
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

static int number_of(const kv_rec *r, kv_value *v)
{
    int e = kv_value_read(r, v), kind;
    int64_t i = 0;
    double d = 0;

    if (e != KV_OK)
        return e;
    if (v->type == KV_INTEGER || v->type == KV_NUMBER)
        return KV_OK;
    if (v->type == KV_STRING && !r->blob) {
        kind = kv_json_number_parse(v->data, v->len, &i, &d);
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
    write w = {0};
    int e = enter_write(ns->h);

    if (e == KV_OK)
        e = check_key(key, len);
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
    w.ns = ns;
    w.key = key;
    w.len = (uint32_t)len;
    w.decide = decide_incr;
    w.arg = &a;
    e = write_key(&w);
    if (e == KV_OK) {
        *out = a.result;
        if (rev != NULL)
            *rev = a.rev;
    }
    return e;
}

/* ---- namespaces ----------------------------------------------------------------------- */

int kv_namespace(kv *h, const char *name, size_t len, const char *desc, size_t desc_len, int create,
                 kv_ns **out)
{
    kv_ns *ns;
    int64_t id;
    uint32_t need;
    int e = kv_enter(h);

    if (e != KV_OK)
        return e;
    if (len == 0)
        return kv_fail(KV_EINVAL, "a namespace's name has at least one byte");
    if (len > KV_MAX_NAME)
        return kv_fail(KV_ETOOBIG, "a namespace's name has at most %d bytes, this one %zu",
                       KV_MAX_NAME, len);
    if (desc == NULL)
        desc_len = 0;
    if (desc_len > 4096)
        return kv_fail(KV_ETOOBIG, "a description has at most 4096 bytes");
    ns = calloc(1, sizeof *ns);
    if (ns == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    ns->h = h;
    ns->seed0 = h->s->region.head->hash[KV_HASH_SEED0];
    ns->seed1 = h->s->region.head->hash[KV_HASH_SEED1];
    memcpy(ns->name, name, len);
    ns->name_len = (uint32_t)len;
    id = kv_ns_resolve(ns);
    e = id < 0 ? (int)id : KV_OK;
    if (e == KV_OK && (id == 0 || desc != NULL)) {
        if (h->readonly || h->s->readonly) {
            /* It cannot be made here; a handle that finds nothing serves a reader who may come
             * first. */
            if (desc != NULL)
                e = enter_write(h);
            else if (!create)
                e = kv_fail(KV_ENOTFOUND, "there is no such namespace");
        } else {
            do {
                need = 0;
                e = enter_write(h);
                if (e == KV_OK)
                    e = kv_lock_writer(h);
                if (e != KV_OK)
                    break;
                e = ensure_name(h->s, ns, desc, desc_len, create, tick_clock(h->s), &need);
                kv_unlock_writer(h);
                if (e == KV_OK && need)
                    e = kv_make_room(h, need, 1, 8192);
            } while (e == KV_OK && need);
            if (e == KV_ENOTFOUND)
                kv_fail(e, "there is no such namespace");
            if (e == KV_OK) {
                kv_after_write(h);
                if (h->sync == KV_SYNC_ALWAYS)
                    e = kv_sync_to(h, kv_load(&h->s->log.w[KV_LOG_TAIL]));
            }
        }
    }
    if (e != KV_OK) {
        kv_ns_close(ns);
        return e;
    }
    *out = ns;
    return KV_OK;
}

void kv_ns_close(kv_ns *ns)
{
    if (ns == NULL)
        return;
    kv_scratch_free(&ns->scratch);
    kv_scratch_free(&ns->blob);
    free(ns);
}

static int drop_locked(kv *h, const char *name, uint32_t len, uint64_t *keys, uint64_t *end,
                       uint32_t *need)
{
    kv_db *s = h->s;
    int64_t now = tick_clock(s);
    uint64_t *words;
    kv_append a;
    kv_found f;
    kv_place at;
    kv_rec r;
    uint32_t size;
    int e;

    f.hash = kv_index_hash(s, 0, name, len);
    e = kv_index_find(s, 0, name, len, now, &f);
    if (e != KV_OK || !f.there || kv_ns_state(s, f.rec.ns) != KV_NAME_LIVE)
        return e;
    memset(&r, 0, sizeof r);
    r.kind = KV_REC_DROP;
    r.type = KV_NULL;
    r.ns = f.rec.ns;
    r.key = name;
    r.key_len = len;
    r.rev = r.id = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    r.created = r.updated = now;
    size = kv_rec_measure(&r);
    prepare_append(s, &a, now);
    a.next_rev++;
    if (!kv_log_fit(&s->log, &a, size, 1)) {
        *need = KV_NEED_RESERVE;
        return KV_OK;
    }
    words = kv_ns_words(s, r.ns, &at);
    *keys = words ? words[KV_NAME_KEYS] : 0;
    kv_log_begin(&s->log, &a);
    e = commit_one(s, &a, &f, &r);
    *end = a.pos;
    return e;
}

int kv_drop(kv *h, const char *name, size_t len, uint64_t *keys)
{
    uint64_t n = 0, end = 0;
    uint32_t need;
    int e = enter_write(h);

    if (e == KV_OK && (len == 0 || len > KV_MAX_NAME))
        e = kv_fail(KV_EINVAL, "a namespace's name has 1 to %d bytes", KV_MAX_NAME);
    do {
        need = 0;
        if (e == KV_OK)
            e = kv_lock_writer(h);
        if (e != KV_OK)
            return e;
        e = drop_locked(h, name, (uint32_t)len, &n, &end, &need);
        kv_unlock_writer(h);
        if (e == KV_OK && need)
            e = kv_make_room(h, need, 1, 8192);
    } while (e == KV_OK && need);
    if (e == KV_OK && end != 0) {
        kv_after_write(h);
        if (h->sync == KV_SYNC_ALWAYS)
            e = kv_sync_to(h, end);
    }
    if (e == KV_OK && keys != NULL)
        *keys = n;
    return e;
}

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
    uint64_t key_bytes;
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
    if (!b->recs || !b->sizes || !b->prev || !b->order || !b->refs || !b->bufs)
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
}

static int batch_check(kv_ns *ns, batch *b)
{
    uint64_t total = 0;
    size_t i;
    int e = KV_OK;

    for (i = 0; i < b->n; i++) {
        b->failed = i;
        e = check_key(b->items[i].key, b->items[i].len);
        if (e == KV_OK)
            e = check_value(ns->h->s, &b->items[i].value);
        if (e == KV_OK)
            e = check_write(&b->items[i].write);
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
        if (is_large(ns->h->s, &b->items[i].value)) {
            b->failed = i;
            e = write_blob(ns->h->s, &b->items[i].value, b->refs[i]);
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
        f.hash = kv_hash_key(ns->seed0, ns->seed1, ns->id, it->key, it->len);
        e = kv_index_find(ns->h->s, ns->id, it->key, (uint32_t)it->len, now, &f);
    }
    if (e == KV_OK)
        e = conditions(&f, &it->write);
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
    e = options(&f, &it->write, now, r);
    if (e != KV_OK)
        return e;
    kv_index_arm(ns->h->s, &f, r);
    *more += user_bytes(r);
    *less += f.there ? user_bytes(&f.rec) : 0;
    return KV_OK;
}

static int batch_locked(kv_ns *ns, batch *b, uint64_t *rev, uint64_t *end, uint32_t *need)
{
    kv_db *s = ns->h->s;
    int64_t now = tick_clock(s);
    uint64_t more = 0, less = 0, pos, next, written = 0;
    kv_append a;
    kv_found f;
    kv_rec r;
    size_t i;
    int e = find_name(ns, now), absent = e == KV_ENOTFOUND;

    if (e != KV_OK && !absent)
        return e;
    prepare_append(s, &a, now);
    *rev = a.next_rev;
    a.next_rev += b->n;
    *need = kv_index_needs(s, b->n, b->key_bytes);
    for (i = 0; i < b->n; i++) {
        b->failed = i;
        e = decide_item(ns, b, i, *rev + i, now, &more, &less);
        if (e != KV_OK)
            return e;
        b->sizes[i] = kv_rec_measure(&b->recs[i]);
        written += kv_rec_align(b->sizes[i]);
        if (!(*need & KV_NEED_LOG) && !kv_log_fit(&s->log, &a, b->sizes[i], 0))
            *need |= KV_NEED_LOG;
    }
    e = over_size(s, more, less);
    if (e == KV_OK && absent && !*need) {
        e = ensure_name(s, ns, NULL, 0, 1, now, need);
        if (e == KV_OK && !*need)
            return batch_locked(ns, b, rev, end, need);
    }
    if (e != KV_OK || *need)
        return e;
    kv_log_begin(&s->log, &a);
    pos = a.pos;
    for (i = 0; i < b->n; i++)
        kv_log_append(&s->log, &a, &b->recs[i]);
    kv_log_commit(&s->log, &a);
    /* From the log, as recovery would: the records are where they are, also across segments. */
    for (next = pos; e == KV_OK && (e = kv_log_next(&s->log, &next, a.pos, &pos, &r)) == 1;) {
        f.hash = kv_hash_key(ns->seed0, ns->seed1, ns->id, r.key, r.key_len);
        e = kv_index_find(s, ns->id, r.key, r.key_len, now, &f);
        if (e == KV_OK)
            e = kv_index_apply(s, &f, &r, pos, next);
        if (e == KV_OK && f.there)
            kv_blob_dead(s, &f.rec, a.pos);
        if (e == KV_OK && kv_hash_maintain(&s->region) < 0)
            e = KV_ECORRUPT;
    }
    if (e < 0)
        return e;
    *rev += b->n - 1;
    *end = a.pos;
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
    int e = enter_write(h);

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
    batch_close(h->s, &b, e != KV_OK && end == 0);
    if (e != KV_OK)
        return e;
    if (rev != NULL)
        *rev = last;
    kv_after_write(h);
    return h->sync == KV_SYNC_ALWAYS ? kv_sync_to(h, end) : KV_OK;
}

int kv_delete_prefix(kv_ns *ns, const char *prefix, size_t len, uint64_t *n)
{
    kv_range range = {0};
    kv_record rec;
    char key[KV_MAX_KEY];
    uint64_t count = 0;
    kv_iter *it;
    int e = enter_write(ns->h);

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
