/* SPDX-License-Identifier: MIT
 *
 * model.h - what the tests of the whole store share: a plain model of what it must hold, operations
 * that are made on both, chance, a clock that stands, and directories.
 *
 * The model is an array of records by (namespace, key), the keys sorted; an expired record is one
 * whose time has passed, nothing is ever reclaimed. Every operation says first what it expects.
 */
#ifndef KV_SPEC_MODEL_H
#define KV_SPEC_MODEL_H

#include "check.h"
#include "several.h"
#include "store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- chance ---- */

static uint64_t model_seed;

static inline uint64_t roll(uint64_t below)
{
    model_seed ^= model_seed << 13;
    model_seed ^= model_seed >> 7;
    model_seed ^= model_seed << 17;
    return (model_seed * 0x2545f4914f6cdd1dull >> 11) % below;
}

static inline void model_start(const char *name)
{
    const char *given = getenv("SEED");

    if (given)
        model_seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&model_seed, sizeof model_seed);
    model_seed |= 1;
    printf("%s: SEED=%llu\n", name, (unsigned long long)model_seed);
    fflush(stdout);
}

/* `usual` steps; less under valgrind, more when there is a night. */
static inline long model_steps(long usual)
{
    return getenv("KV_SHORT") ? usual / 20 + 1 : getenv("KV_LONG") ? usual * 20 : usual;
}

/* ---- directories ---- */

static char model_root[256];

static inline void remove_files(const char *dir)
{
    char path[600];
    struct dirent *entry;
    DIR *d = opendir(dir);

    while (d != NULL && (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%.400s/%.190s", dir, entry->d_name);
        if (unlink(path) != 0)
            remove_files(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static inline void remove_root(void)
{
    if (model_root[0])
        remove_files(model_root);
}

/* A path below this test's own directory, which is made when first asked for. */
static inline char *at(const char *name)
{
    static char paths[8][400];
    static int next;
    const char *tmp = getenv("TMPDIR");
    char *p = paths[next++ % 8];

    if (!model_root[0]) {
        snprintf(model_root, sizeof model_root, "%.200s/kv-spec-XXXXXX", tmp ? tmp : "/tmp");
        if (mkdtemp(model_root) == NULL) {
            perror(model_root);
            exit(1);
        }
    }
    snprintf(p, 400, "%s/%s", model_root, name);
    return p;
}

/* Bytes and number of the files of a directory whose names begin with `prefix`. */
static inline uint64_t files_of(const char *dir, const char *prefix, int *count)
{
    char path[600];
    struct dirent *entry;
    struct stat st;
    uint64_t bytes = 0;
    DIR *d = opendir(dir);
    int n = 0;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%.400s/%.190s", dir, entry->d_name);
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || stat(path, &st) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        bytes += (uint64_t)st.st_blocks * 512;
        n++;
    }
    if (d != NULL)
        closedir(d);
    if (count != NULL)
        *count = n;
    return bytes;
}

/* ---- the model ---- */

/* Where its values lie; a test whose processes share the model says otherwise. */
#ifndef MODEL_ALLOC
#define MODEL_ALLOC(n) malloc(n)
#define MODEL_FREE(p)  free(p)
#endif

#define MODEL_NS    4
#define MODEL_KEYS  64
#define MODEL_BATCH 12

typedef struct model_rec {
    int there; /* perhaps expired */
    kv_value v;
    char *data, *meta; /* owned */
    uint32_t meta_len;
    uint64_t rev, id;
    int64_t created, updated, expires;
} model_rec;

typedef struct model_space {
    int there;
    char desc[32];
    uint32_t desc_len;
    model_rec rec[MODEL_KEYS];
} model_space;

typedef struct model {
    kv *h;
    kv_ns *ns[MODEL_NS];
    uint64_t rev;
    model_space space[MODEL_NS];
    int faults;   /* 1: a call may fail with what the system says; it must leave all as it was */
    int failed;   /* something did not hold: the run is over */
    long refused; /* calls that failed so */
    const char *op;
} model;

static char model_key[MODEL_KEYS][KV_MAX_KEY];
static uint32_t model_key_len[MODEL_KEYS];
static char model_noise[1 << 17];

static inline const char *ns_name(int i, size_t *len)
{
    static const char *const names[MODEL_NS] = {"a", "ab", "users", "\x01\xff"};

    *len = strlen(names[i]);
    return names[i];
}

static inline int bytes_order(const void *a, size_t alen, const void *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c ? c : (alen > blen) - (alen < blen);
}

/* Keys that share prefixes, hold zeros and 0xff, and are as short and as long as keys can be. */
static inline void model_keys(void)
{
    static const char letters[] = {0, 'a', 'b', (char)0xff};
    char k[KV_MAX_KEY];
    uint32_t len, i;
    int n = 0, j;

    for (i = 0; i < sizeof model_noise; i++)
        model_noise[i] = (char)roll(256);
    while (n < MODEL_KEYS) {
        len = 1 + (uint32_t)roll(6);
        if (roll(8) == 0)
            len = KV_MAX_KEY - (uint32_t)roll(4);
        for (i = 0; i < len; i++)
            k[i] = len > 6 && i < len - 3 ? 'b' : letters[roll(4)];
        for (j = 0; j < n && bytes_order(model_key[j], model_key_len[j], k, len) < 0; j++)
            continue;
        if (j < n && bytes_order(model_key[j], model_key_len[j], k, len) == 0)
            continue;
        memmove(model_key[j + 1 < MODEL_KEYS ? j + 1 : j], model_key[j],
                (size_t)(n - j) * sizeof model_key[0]);
        memmove(&model_key_len[j + 1 < MODEL_KEYS ? j + 1 : j], &model_key_len[j],
                (size_t)(n - j) * sizeof model_key_len[0]);
        memcpy(model_key[j], k, len);
        model_key_len[j] = len;
        n++;
    }
}

static inline int holds(model *m, int held, const char *what, int line)
{
    if (!check_that(held, what, m->op, line))
        m->failed = 1;
    return held;
}
#define HOLDS(m, cond) holds(m, !!(cond), #cond, __LINE__)

static inline int is_live(const model_rec *r, int64_t now)
{
    return r->there && (r->expires == 0 || r->expires > now);
}

static inline void rec_clear(model_rec *r)
{
    MODEL_FREE(r->data);
    MODEL_FREE(r->meta);
    memset(r, 0, sizeof *r);
}

static inline char *copy_of(const char *p, size_t n)
{
    char *q = MODEL_ALLOC(n + 1);

    if (q == NULL)
        abort();
    if (n)
        memcpy(q, p, n);
    return q;
}

static inline void rec_value(model_rec *r, const kv_value *v)
{
    char *data = v->type == KV_STRING || v->type == KV_JSON ? copy_of(v->data, v->len) : NULL;

    MODEL_FREE(r->data);
    r->v = *v;
    r->data = data;
    r->v.data = data;
}

static inline void rec_meta(model_rec *r, const char *meta, uint32_t len)
{
    char *copy = len ? copy_of(meta, len) : NULL;

    MODEL_FREE(r->meta);
    r->meta = copy;
    r->meta_len = len;
}

static inline void rec_copy(model_rec *to, const model_rec *from)
{
    kv_value v = from->v;
    char *meta = from->meta;

    *to = *from;
    to->data = to->meta = NULL;
    rec_value(to, &v);
    rec_meta(to, meta, from->meta_len);
}

static inline void space_clear(model_space *s)
{
    int k;

    for (k = 0; k < MODEL_KEYS; k++)
        rec_clear(&s->rec[k]);
    memset(s, 0, sizeof *s);
}

static inline void model_clear(model *m)
{
    int i;

    for (i = 0; i < MODEL_NS; i++)
        space_clear(&m->space[i]);
}

static inline void model_copy(model *to, const model *from)
{
    int i, k;

    memset(to, 0, sizeof *to);
    to->rev = from->rev;
    for (i = 0; i < MODEL_NS; i++) {
        to->space[i] = from->space[i];
        for (k = 0; k < MODEL_KEYS; k++)
            rec_copy(&to->space[i].rec[k], &from->space[i].rec[k]);
    }
}

/* ---- comparing ---- */

static inline int value_is(const kv_value *a, const kv_value *b)
{
    if (a->type != b->type)
        return 0;
    switch (a->type) {
    case KV_STRING:
    case KV_JSON:
        return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
    case KV_NUMBER:
        return memcmp(&a->number, &b->number, sizeof a->number) == 0;
    case KV_NULL:
        return 1;
    default:
        return a->integer == b->integer;
    }
}

static inline int record_is(const kv_record *got, int key, const model_rec *r)
{
    return got->key_len == model_key_len[key] &&
           memcmp(got->key, model_key[key], got->key_len) == 0 && value_is(&got->value, &r->v) &&
           got->meta_len == r->meta_len &&
           (r->meta_len == 0 || memcmp(got->meta, r->meta, r->meta_len) == 0) &&
           got->rev == r->rev && got->id == r->id && got->created == r->created &&
           got->updated == r->updated && got->expires == r->expires;
}

/* Everything there is, by key and by listing. 0: it differs. */
static inline int model_same(model *m)
{
    kv_iter *it = malloc(kv_iter_size());
    kv_record got;
    int64_t now = kv_now(m->h);
    int i, k, e, ok = 1;

    for (i = 0; i < MODEL_NS; i++) {
        model_space *s = &m->space[i];

        for (k = 0; k < MODEL_KEYS && ok; k++) {
            e = kv_get(m->ns[i], model_key[k], model_key_len[k], &got);
            ok = is_live(&s->rec[k], now) ? e == KV_OK && record_is(&got, k, &s->rec[k])
                                          : e == KV_ENOTFOUND;
            if (!ok)
                fprintf(stderr, "namespace %d, key %d: %s %s\n", i, k, kv_errname(e),
                        e ? kv_message() : "");
        }
        ok = ok && kv_iter_init(it, m->ns[i], NULL) == KV_OK;
        for (k = 0; k < MODEL_KEYS && ok; k++)
            if (is_live(&s->rec[k], now)) {
                ok = kv_iter_next(it, &got) == KV_OK && record_is(&got, k, &s->rec[k]);
                if (!ok)
                    fprintf(stderr, "namespace %d, key %d is not listed\n", i, k);
            }
        ok = ok && kv_iter_next(it, &got) == KV_ENOTFOUND;
    }
    free(it);
    return ok;
}

/* ---- operations ---- */

static inline int is_refusal(int e)
{
    return e == KV_EIO || e == KV_EFULL || e == KV_ENOMEM || e == KV_EBUSY || e == KV_EDENIED;
}

/* What an operation gave against what it should have. 1: it was done; 0: it was not, rightly.
 * `steps`: how far it moves the revision when it is done. A call that failed because the system did
 * may still have been carried out, when it was the sync that failed; the revision says so. */
static inline int outcome(model *m, int e, int expected, uint64_t before, uint64_t steps)
{
    uint64_t rev = kv_rev(m->h);

    if (m->faults && is_refusal(e)) {
        m->refused++;
        if (HOLDS(m, rev == before || (expected == KV_OK && rev == before + steps)))
            return rev != before;
        return 0;
    }
    if (e != expected)
        fprintf(stderr, "%s: %s, expected %s: %s\n", m->op, kv_errname(e), kv_errname(expected),
                kv_message());
    HOLDS(m, e == expected);
    HOLDS(m, rev == before + (expected == KV_OK ? steps : 0));
    return e == KV_OK && expected == KV_OK;
}

/* A write that has something to write makes the namespace it is meant for. */
static inline void noted_name(model *m, int i, int expected, uint64_t *before)
{
    if (m->space[i].there || expected != KV_OK || (m->faults && kv_rev(m->h) == *before))
        return;
    m->space[i].there = 1;
    m->rev++;
    ++*before;
}

typedef struct model_write {
    kv_write w;
    char meta[KV_MAX_META];
} model_write;

static inline void random_value(kv_value *v)
{
    uint64_t what = roll(100);

    memset(v, 0, sizeof *v);
    if (what < 70) {
        v->type = what < 60 ? KV_STRING : KV_JSON;
        v->len = (uint32_t)(what < 2   ? 16000 + roll(1000)
                            : what < 3 ? 60000 + roll(12000)
                                       : roll(300));
        v->data = model_noise + roll(sizeof model_noise - v->len);
    } else if (what < 80) {
        v->type = KV_INTEGER;
        v->integer = (int64_t)(roll(3) ? roll(1000) : model_seed);
    } else if (what < 90) {
        v->type = KV_NUMBER;
        v->number = (double)(int64_t)model_seed / 3;
    } else if (what < 95) {
        v->type = KV_BOOLEAN;
        v->integer = (int64_t)roll(2);
    } else {
        v->type = KV_NULL;
    }
}

static inline void random_write(model *m, int i, int k, model_write *w)
{
    const model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h);

    memset(&w->w, 0, sizeof w->w);
    if (roll(3) == 0) {
        w->w.flags |= KV_TTL;
        w->w.ttl = 1 + (int64_t)roll(roll(2) ? 2000 : 100000);
    }
    if (roll(12) == 0) {
        w->w.flags |= KV_EXPIRATION;
        w->w.expires = now + (int64_t)roll(60000) - 2000;
    }
    if (roll(6) == 0)
        w->w.flags |= KV_KEEP_TTL;
    if (roll(6) == 0) {
        w->w.flags |= KV_META;
        w->w.meta_len = (uint32_t)roll(roll(8) ? 40 : KV_MAX_META + 1);
        w->w.meta = model_noise + roll(sizeof model_noise - KV_MAX_META);
    }
    if (roll(6) == 0)
        w->w.flags |= KV_KEEP_META;
    if (roll(10) == 0)
        w->w.flags |= KV_IF_EXIST;
    if (roll(10) == 0)
        w->w.flags |= KV_IF_NOT_EXIST;
    if (roll(10) == 0) {
        w->w.flags |= KV_IF_REV;
        w->w.if_rev = roll(3) ? (is_live(r, now) ? r->rev : 0) : roll(m->rev + 2);
    }
}

static inline int expect_write(const model_rec *r, const kv_write *w, int64_t now)
{
    int live = is_live(r, now);

    if (w->flags & KV_IF_EXIST && !live)
        return KV_ENOTFOUND;
    if (w->flags & KV_IF_NOT_EXIST && live)
        return KV_EEXISTS;
    if (w->flags & KV_IF_REV && w->if_rev != (live ? r->rev : 0))
        return KV_ECONFLICT;
    if (!(w->flags & KV_TTL) && w->flags & KV_EXPIRATION && w->expires <= now)
        return KV_ERANGE;
    return KV_OK;
}

static inline void apply_write(model_rec *r, const kv_value *v, const kv_write *w, int64_t now,
                               uint64_t rev)
{
    int live = is_live(r, now);

    if (!live) {
        r->created = now;
        r->id = rev;
    }
    rec_value(r, v);
    if (w->flags & KV_TTL)
        r->expires = now + w->ttl;
    else if (w->flags & KV_EXPIRATION)
        r->expires = w->expires;
    else if (!(w->flags & KV_KEEP_TTL && live))
        r->expires = 0;
    if (w->flags & KV_META)
        rec_meta(r, w->meta, w->meta_len);
    else if (!(w->flags & KV_KEEP_META && live))
        rec_meta(r, NULL, 0);
    r->there = 1;
    r->rev = rev;
    r->updated = now;
}

static inline int old_is(const kv_record *old, int k, const model_rec *r, int64_t now)
{
    return is_live(r, now) ? record_is(old, k, r) : old->rev == 0;
}

static inline void op_put(model *m, int i, int k, const kv_value *v, const kv_write *w)
{
    model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h);
    int expected = expect_write(r, w, now), e, with_old = roll(3) == 0;
    uint64_t rev = 0, before = m->rev;
    kv_record old;

    m->op = "put";
    e = kv_put(m->ns[i], model_key[k], model_key_len[k], v, roll(2) || w->flags ? w : NULL, &rev,
               with_old ? &old : NULL);
    noted_name(m, i, expected, &before);
    if (with_old && !(m->faults && is_refusal(e)))
        HOLDS(m, old_is(&old, k, r, now));
    if (!outcome(m, e, expected, before, 1))
        return;
    m->rev++;
    HOLDS(m, e != KV_OK || rev == m->rev);
    apply_write(r, v, w, now, m->rev);
}

static inline void op_delete(model *m, int i, int k, int conditional)
{
    model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h);
    int live = is_live(r, now), expected = live ? KV_OK : KV_ENOTFOUND, e, with_old = roll(2) == 0;
    uint64_t rev = 0, before = m->rev;
    kv_write w = {0};
    kv_record old;

    m->op = "delete";
    if (conditional) {
        w.flags = KV_IF_REV;
        w.if_rev = roll(2) && live ? r->rev : roll(m->rev + 2);
        if (w.if_rev != (live ? r->rev : 0))
            expected = KV_ECONFLICT;
    }
    e = kv_delete(m->ns[i], model_key[k], model_key_len[k], conditional ? &w : NULL, &rev,
                  with_old ? &old : NULL);
    if (with_old && !(m->faults && is_refusal(e)))
        HOLDS(m, old_is(&old, k, r, now));
    if (!outcome(m, e, expected, before, 1))
        return;
    m->rev++;
    HOLDS(m, e != KV_OK || rev == m->rev);
    rec_clear(r);
}

static inline void op_expire(model *m, int i, int k, int64_t ttl)
{
    model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h);
    uint64_t before = m->rev;
    int e;

    m->op = "expire";
    e = kv_expire(m->ns[i], model_key[k], model_key_len[k], ttl);
    if (!outcome(m, e, is_live(r, now) ? KV_OK : KV_ENOTFOUND, before, 1))
        return;
    r->rev = ++m->rev;
    r->expires = now + ttl;
    if (ttl <= 0)
        rec_clear(r);
}

static inline void op_persist(model *m, int i, int k)
{
    model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h);
    int live = is_live(r, now), had = 7, e;
    uint64_t before = m->rev, steps = live && r->expires;

    m->op = "persist";
    e = kv_persist(m->ns[i], model_key[k], model_key_len[k], &had);
    outcome(m, e, live ? KV_OK : KV_ENOTFOUND, before, steps);
    if (e == KV_OK)
        HOLDS(m, had == (r->expires != 0));
    if (!steps || kv_rev(m->h) == before)
        return;
    r->rev = ++m->rev;
    r->expires = 0;
}

/* Integers only; spec/core/test_store.c looks at the other kinds one by one. */
static inline void op_incr(model *m, int i, int k, int64_t by)
{
    model_rec *r = &m->space[i].rec[k];
    int64_t now = kv_now(m->h), sum = 0;
    int live = is_live(r, now), expected = KV_OK, e;
    uint64_t before = m->rev, rev = 0;
    kv_value add = {KV_INTEGER, 0, NULL, 0, 0}, got;
    kv_incr_opts o;

    m->op = "incr";
    memset(&o, 0, sizeof o);
    add.integer = by;
    if (roll(4) == 0) {
        o.flags |= KV_INCR_TTL;
        o.ttl = 1 + (int64_t)roll(5000);
    }
    if (roll(8) == 0)
        o.flags |= KV_INCR_NO_INIT;
    if (roll(4) == 0) {
        o.flags |= KV_INCR_MAX;
        o.max = add;
        o.max.integer = (int64_t)roll(100);
    }
    if (!live && o.flags & KV_INCR_NO_INIT)
        expected = KV_ENOTFOUND;
    else if (live && r->v.type != KV_INTEGER)
        return; /* a string may hold a number, a number is another sum */
    else if (__builtin_add_overflow(live ? r->v.integer : 0, by, &sum) ||
             (o.flags & KV_INCR_MAX && sum > o.max.integer))
        expected = KV_ERANGE;
    e = kv_incr(m->ns[i], model_key[k], model_key_len[k], &add, &o, &got, &rev);
    noted_name(m, i, expected, &before);
    if (!outcome(m, e, expected, before, 1))
        return;
    m->rev++;
    if (e == KV_OK)
        HOLDS(m, rev == m->rev && got.type == KV_INTEGER && got.integer == sum);
    if (!live) {
        rec_clear(r);
        r->created = now;
        r->id = m->rev;
        r->expires = o.flags & KV_INCR_TTL ? now + o.ttl : 0;
    }
    add.integer = sum;
    rec_value(r, &add);
    r->there = 1;
    r->rev = m->rev;
    r->updated = now;
}

/* A batch; the model of the namespace is tried on a copy, since it is all or nothing. */
static inline void op_batch(model *m, int i, int n)
{
    kv_item items[MODEL_BATCH];
    model_write writes[MODEL_BATCH];
    int keys[MODEL_BATCH], j, k, expected = KV_OK, e;
    int64_t now = kv_now(m->h);
    uint64_t before = m->rev, rev = 0;
    size_t failed = 999, fails = 999;
    model_rec *tried = calloc(MODEL_KEYS, sizeof *tried);

    m->op = "put_many";
    for (k = 0; k < MODEL_KEYS; k++)
        rec_copy(&tried[k], &m->space[i].rec[k]);
    for (j = 0; j < n; j++) {
        keys[j] = (int)roll(MODEL_KEYS);
        random_value(&items[j].value);
        random_write(m, i, keys[j], &writes[j]);
        if (roll(4))
            writes[j].w.flags &= ~(uint32_t)(KV_IF_EXIST | KV_IF_NOT_EXIST | KV_IF_REV);
        items[j].key = model_key[keys[j]];
        items[j].len = model_key_len[keys[j]];
        items[j].write = writes[j].w;
        if (expected != KV_OK)
            continue;
        expected = expect_write(&tried[keys[j]], &items[j].write, now);
        if (expected == KV_OK)
            apply_write(&tried[keys[j]], &items[j].value, &items[j].write, now, 0);
        else
            fails = (size_t)j;
        /* Its revision is known when the namespace's is. */
        tried[keys[j]].rev = expected ? tried[keys[j]].rev : UINT64_MAX - (uint64_t)j;
        if (tried[keys[j]].id == 0)
            tried[keys[j]].id = UINT64_MAX - (uint64_t)j;
    }
    e = kv_put_many(m->ns[i], items, (size_t)n, &rev, &failed);
    if (n)
        noted_name(m, i, expected, &before);
    if (outcome(m, e, expected, before, (uint64_t)n)) {
        HOLDS(m, e != KV_OK || rev == before + (uint64_t)n);
        m->rev += (uint64_t)n;
        for (k = 0; k < MODEL_KEYS; k++) {
            model_rec swap = m->space[i].rec[k];

            m->space[i].rec[k] = tried[k];
            tried[k] = swap;
            if (m->space[i].rec[k].rev > UINT64_MAX - MODEL_BATCH)
                m->space[i].rec[k].rev = before + 1 + (UINT64_MAX - m->space[i].rec[k].rev);
            if (m->space[i].rec[k].id > UINT64_MAX - MODEL_BATCH)
                m->space[i].rec[k].id = before + 1 + (UINT64_MAX - m->space[i].rec[k].id);
        }
    } else if (e == expected && e != KV_OK) {
        HOLDS(m, failed == fails);
    }
    for (k = 0; k < MODEL_KEYS; k++)
        rec_clear(&tried[k]);
    free(tried);
}

static inline void op_drop(model *m, int i)
{
    model_space *s = &m->space[i];
    uint64_t keys = 99, before = m->rev;
    size_t len;
    const char *name = ns_name(i, &len);
    int there = s->there, e;

    m->op = "drop";
    e = kv_drop(m->h, name, len, &keys);
    if (!outcome(m, e, KV_OK, before, (uint64_t)there))
        return;
    if (!there)
        HOLDS(m, keys == 0);
    m->rev += (uint64_t)there;
    space_clear(s);
}

static inline void op_describe(model *m, int i, const char *desc, uint32_t len)
{
    model_space *s = &m->space[i];
    uint64_t before = m->rev, steps;
    size_t name_len;
    const char *name = ns_name(i, &name_len);
    kv_ns *again = NULL;
    int e;

    m->op = "namespace";
    steps = !s->there || s->desc_len != len || memcmp(s->desc, desc, len) != 0;
    e = kv_namespace(m->h, name, name_len, desc, len, 1, &again);
    if (e == KV_OK) {
        kv_ns_close(m->ns[i]);
        m->ns[i] = again;
    }
    outcome(m, e, KV_OK, before, steps);
    if (kv_rev(m->h) == before && steps)
        return;
    m->rev = kv_rev(m->h);
    s->there = 1;
    memcpy(s->desc, desc, len);
    s->desc_len = len;
}

static inline int has_prefix(int k, const char *p, size_t len)
{
    return model_key_len[k] >= len && memcmp(model_key[k], p, len) == 0;
}

static inline void op_delete_prefix(model *m, int i, const char *p, size_t len)
{
    int64_t now = kv_now(m->h);
    uint64_t n = 99, want = 0, went;
    int k, e;

    m->op = "delete_prefix";
    for (k = 0; k < MODEL_KEYS; k++)
        want += is_live(&m->space[i].rec[k], now) && has_prefix(k, p, len);
    e = kv_delete_prefix(m->ns[i], p, len, &n);
    went = kv_rev(m->h) - m->rev;
    if (m->faults && is_refusal(e)) {
        m->refused++;
        HOLDS(m, went <= want);
    } else {
        HOLDS(m, e == KV_OK && n == want && went == want);
    }
    for (k = 0; k < MODEL_KEYS && went > 0; k++)
        if (is_live(&m->space[i].rec[k], now) && has_prefix(k, p, len)) {
            rec_clear(&m->space[i].rec[k]);
            m->rev++;
            went--;
        }
}

/* ---- listing ---- */

typedef struct model_bounds {
    kv_range r;
    char bytes[4][KV_MAX_KEY + 8];
} model_bounds;

static inline uint32_t random_bound(char *out)
{
    int k = (int)roll(MODEL_KEYS);
    uint32_t len = model_key_len[k];

    memcpy(out, model_key[k], len);
    if (roll(3) == 0)
        len = 1 + (uint32_t)roll(len);
    if (roll(4) == 0)
        out[roll(len)] = (char)roll(256);
    if (roll(6) == 0)
        out[len++] = (char)(roll(2) ? 0 : 0xff);
    return len;
}

static inline void random_range(model_bounds *b)
{
    memset(&b->r, 0, sizeof b->r);
    b->r.flags = (roll(2) ? KV_REVERSE : 0) | (roll(4) ? 0 : KV_KEYS_ONLY);
    if (roll(2)) {
        b->r.prefix = b->bytes[0];
        b->r.prefix_len = random_bound(b->bytes[0]);
        if (b->r.prefix_len > 3)
            b->r.prefix_len = (uint32_t)roll(4);
    }
    if (roll(2)) {
        b->r.start = b->bytes[1];
        b->r.start_len = random_bound(b->bytes[1]);
    }
    if (roll(2)) {
        b->r.stop = b->bytes[2];
        b->r.stop_len = random_bound(b->bytes[2]);
    }
    if (roll(3) == 0) {
        b->r.after = b->bytes[3];
        b->r.after_len = random_bound(b->bytes[3]);
        if (b->r.after_len > KV_MAX_KEY)
            b->r.after_len = KV_MAX_KEY;
    }
}

static inline int in_range(int k, const kv_range *r)
{
    const char *key = model_key[k];
    uint32_t len = model_key_len[k];
    int c;

    if (r->prefix && !has_prefix(k, r->prefix, r->prefix_len))
        return 0;
    if (r->start && bytes_order(key, len, r->start, r->start_len) < 0)
        return 0;
    if (r->stop && bytes_order(key, len, r->stop, r->stop_len) >= 0)
        return 0;
    c = r->after ? bytes_order(key, len, r->after, r->after_len) : 0;
    return r->after == NULL || (r->flags & KV_REVERSE ? c < 0 : c > 0);
}

static inline void op_list(model *m, int i)
{
    kv_iter *it = malloc(kv_iter_size());
    int64_t now = kv_now(m->h);
    uint64_t count = 0, n = 0;
    model_bounds b;
    kv_record got;
    int j, k, e, limit;
    char text[KV_MAX_CURSOR], key[KV_MAX_KEY];
    several some;
    size_t text_len, key_len;

    m->op = "list";
    random_range(&b);
    limit = roll(2) ? MODEL_KEYS : (int)roll(6);
    e = kv_iter_init(it, m->ns[i], &b.r);
    HOLDS(m, e == KV_OK);
    several_begin(&some, (int)roll(2));
    for (j = 0; j < MODEL_KEYS && !m->failed; j++) {
        k = b.r.flags & KV_REVERSE ? MODEL_KEYS - 1 - j : j;
        if (!is_live(&m->space[i].rec[k], now) || !in_range(k, &b.r))
            continue;
        count++;
        if (limit == 0)
            continue;
        e = several_next(&some, it, &got);
        if (m->faults && is_refusal(e)) {
            free(it);
            return;
        }
        if (!HOLDS(m, e == KV_OK))
            break;
        if (b.r.flags & KV_KEYS_ONLY)
            HOLDS(m, got.key_len == model_key_len[k] &&
                         memcmp(got.key, model_key[k], got.key_len) == 0 && got.rev == 0);
        else
            HOLDS(m, record_is(&got, k, &m->space[i].rec[k]));
        if (--limit == 0) {
            /* The page ends here; a cursor leads on. */
            text_len = kv_cursor_make(m->ns[i], &b.r, model_key[k], model_key_len[k], text);
            HOLDS(m, text_len > 0 && text_len <= KV_MAX_CURSOR);
            HOLDS(m, kv_cursor_read(m->ns[i], &b.r, text, text_len, key, &key_len) == KV_OK &&
                         key_len == model_key_len[k] && memcmp(key, model_key[k], key_len) == 0);
            b.r.after = key;
            b.r.after_len = (uint32_t)key_len;
            HOLDS(m, kv_iter_init(it, m->ns[i], &b.r) == KV_OK);
            several_begin(&some, (int)roll(2));
            b.r.after = NULL;
            limit = roll(2) ? MODEL_KEYS : 1 + (int)roll(6);
            /* Where it led on from is no bound of the listing, so it is not one of the count. */
            count = UINT64_MAX / 2;
        }
    }
    if (limit && !m->failed)
        HOLDS(m, several_next(&some, it, &got) == KV_ENOTFOUND &&
                     kv_iter_next(it, &got) == KV_ENOTFOUND);
    if (count < UINT64_MAX / 2)
        HOLDS(m, kv_count(m->ns[i], &b.r, &n) == KV_OK && n == count);
    free(it);
}

/* ---- the whole ---- */

static inline void model_close(model *m)
{
    int i;

    for (i = 0; i < MODEL_NS; i++) {
        kv_ns_close(m->ns[i]);
        m->ns[i] = NULL;
    }
    kv_close(m->h);
    m->h = NULL;
}

/* Opens the store and its namespaces; those not there are made. */
static inline int model_open(model *m, const char *path, const kv_options *o)
{
    int i, e = kv_open(path, o, &m->h);
    size_t len;
    const char *name;

    m->op = "open";
    if (e != KV_OK)
        return e;
    for (i = 0; i < MODEL_NS; i++) {
        name = ns_name(i, &len);
        e = kv_namespace(m->h, name, len, NULL, 0, 1, &m->ns[i]);
        if (!m->space[i].there && kv_rev(m->h) > m->rev) {
            m->space[i].there = 1;
            m->rev++;
        }
        if (e != KV_OK) {
            model_close(m);
            return e;
        }
    }
    return KV_OK;
}

static inline void random_op(model *m)
{
    int i = (int)roll(MODEL_NS), k = (int)roll(MODEL_KEYS);
    uint64_t what = roll(1000);
    model_write w;
    kv_value v;
    uint64_t done;

    if (what < 380) {
        random_value(&v);
        random_write(m, i, k, &w);
        op_put(m, i, k, &v, &w.w);
    } else if (what < 480) {
        op_delete(m, i, k, roll(4) == 0);
    } else if (what < 540) {
        op_expire(m, i, k, roll(10) ? 1 + (int64_t)roll(30000) : -(int64_t)roll(3));
    } else if (what < 580) {
        op_persist(m, i, k);
    } else if (what < 680) {
        op_incr(m, i, (int)roll(8), roll(10) ? (int64_t)roll(9) - 4 : (int64_t)model_seed);
    } else if (what < 720) {
        op_batch(m, i, (int)roll(MODEL_BATCH + 1));
    } else if (what < 724) {
        op_drop(m, i);
    } else if (what < 730) {
        op_describe(m, i, model_noise + roll(100), (uint32_t)roll(30));
    } else if (what < 735) {
        op_delete_prefix(m, i, model_key[k], roll(3));
    } else if (what < 800) {
        op_list(m, i);
    } else if (what < 820) {
        m->op = "tick";
        int e = kv_tick(m->h, 1 + roll(100), &done);
        HOLDS(m, e == KV_OK || (m->faults && is_refusal(e)));
    } else if (what < 830) {
        m->op = "sync";
        int e = kv_sync(m->h);
        HOLDS(m, e == KV_OK || (m->faults && is_refusal(e)));
    } else {
        kv_record got;
        int64_t now = kv_now(m->h);
        int live = is_live(&m->space[i].rec[k], now), e;

        m->op = "get";
        e = kv_get(m->ns[i], model_key[k], model_key_len[k], &got);
        if (m->faults && is_refusal(e))
            return;
        HOLDS(m, live ? e == KV_OK && record_is(&got, k, &m->space[i].rec[k]) : e == KV_ENOTFOUND);
        HOLDS(m,
              kv_exists(m->ns[i], model_key[k], model_key_len[k]) == (live ? KV_OK : KV_ENOTFOUND));
    }
}

#endif
