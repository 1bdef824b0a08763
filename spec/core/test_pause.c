/* SPDX-License-Identifier: MIT
 *
 * test_pause.c - forced interleavings: a process stops between two steps whose order an argument of
 * correctness rests on (KV_PAUSE in the core), another one performs every operation, and then the
 * stopped one goes on or is killed.
 *
 * Whoever reads must never wait. Whoever needs a lock that the stopped one holds must be told
 * `busy`, and all must be well once that one has gone on or died. Readers judge what they find by
 * versions.h, and after each point the whole store is listed and checked.
 *
 * A subject is a process that does one kind of thing until it stops at the point asked for.
 * KV_LONG=1: two subjects at every two points, where the first one's locks let the second one get
 * there. POINT=text takes only the points whose names hold that text; SEED=n repeats the choices.
 */
#define _GNU_SOURCE
#include "several.h"
#include "versions.h"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SUBJECTS 2
#define FIXED    400 /* keys that are there throughout */
#define HUNG     30  /* seconds */

/* FILES: of large values that nobody refers to any more, while they are unlinked. */
enum { WRITER_LOCK = 1, MAINT_LOCK = 2, DURABLE_LOCK = 4, TURN = 8, ALL_LOCKS = 15, FILES = 16 };

/* ---- chance ---- */

static uint64_t seed;

static uint64_t roll(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * 0x2545f4914f6cdd1dull >> 11) % below;
}

/* ---- subjects --------------------------------------------------------------------------- */

enum { IDLE, RUN, STOPPED, GO, DONE, QUIT };

typedef struct subject {
    uint32_t state; /* a futex */
    int point;      /* where it is to stop */
    int tries;      /* at most */
    int failed;
    int busy; /* somebody else's lock was in the way */
    pid_t pid;
} subject;

static struct {
    subject subject[SUBJECTS];
    version_slot slots[WRITERS][KEYS];
    int64_t clock; /* ms that everybody's is ahead of the system's */
    uint64_t made; /* keys and namespaces so far, for new names */
} * shared;

static char path[200];

static uint32_t state_of(subject *s)
{
    return __atomic_load_n(&s->state, __ATOMIC_SEQ_CST);
}

static void set_state(subject *s, uint32_t state)
{
    __atomic_store_n(&s->state, state, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &s->state, FUTEX_WAKE, 8, NULL, NULL, 0);
}

static void wait_while(subject *s, uint32_t state)
{
    struct timespec t = {0, 100000000};

    while (state_of(s) == state)
        syscall(SYS_futex, &s->state, FUTEX_WAIT, state, &t, NULL, 0);
}

static subject *self;
static int self_index, reached;

static const char *point_name(int point);
static void tell_time(void);

static void stop_at(const char *name)
{
    if (reached || strcmp(name, point_name(self->point)) != 0)
        return;
    reached = 1;
    set_state(self, STOPPED);
    wait_while(self, STOPPED);
    tell_time();
}

/* ---- stores ----------------------------------------------------------------------------- */

typedef struct handle {
    kv *h;
    kv_ns *n; /* versions, and what is there throughout */
    kv_ns *c; /* what comes and goes */
    kv_ns *p; /* the same, and what is there throughout, without expirations and metadata */
    int me;   /* the writer it is */
} handle;

static kv_ns *space_of(kv *h, const char *name)
{
    kv_ns *ns = NULL;

    CHECK(kv_namespace(h, name, strlen(name), NULL, 0, 1, &ns) == KV_OK);
    return ns;
}

#define IS_BUSY 9 /* how a child ends that was told so */

static void attach(handle *a, int me, int timeout)
{
    kv_options o;
    int rc;

    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    o.timeout = timeout;
    rc = kv_open(path, &o, &a->h);
    if (rc != KV_OK) {
        if (rc != KV_EBUSY)
            fprintf(stderr, "  open: %s\n", kv_message());
        _exit(rc == KV_EBUSY ? IS_BUSY : 3);
    }
    a->n = space_of(a->h, "n");
    a->c = space_of(a->h, "c");
    a->p = space_of(a->h, "p");
    a->me = me;
}

static void detach(handle *a)
{
    kv_ns_close(a->n);
    kv_ns_close(a->c);
    kv_ns_close(a->p);
    kv_close(a->h);
}

static uint32_t fixed_key(int i, char to[24])
{
    return (uint32_t)snprintf(to, 24, "t%03d", i);
}

static kv_value bytes_of(const char *p, uint32_t len)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = p;
    v.len = len;
    return v;
}

/* ---- reading ---------------------------------------------------------------------------- */

static char *copy;

static int look_get(kv_ns *ns, const char *key, uint32_t len, kv_value *v)
{
    kv_record r;
    int rc = kv_get(ns, key, len, &r);

    if (rc == KV_OK)
        *v = r.value;
    return rc;
}

static int look_value(kv_ns *ns, const char *key, uint32_t len, kv_value *v)
{
    return kv_get_value(ns, key, len, v);
}

static int look_peek(kv_ns *ns, const char *key, uint32_t len, kv_value *v)
{
    int rc = kv_peek(ns, key, len, v);

    if (rc != KV_OK || v->type != KV_STRING)
        return rc;
    memcpy(copy, v->data, v->len);
    v->data = copy;
    return kv_peek_held(ns) ? KV_OK : kv_get_value(ns, key, len, v);
}

static int look_stream(kv_ns *ns, const char *key, uint32_t len, kv_value *v)
{
    kv_reader *r = NULL;
    kv_record rec;
    size_t got = 0;
    int rc = kv_reader_open(ns, key, len, &rec, &r);

    if (rc != KV_OK)
        return rc;
    *v = rec.value;
    v->len = (uint32_t)kv_reader_size(r);
    v->data = copy;
    rc = kv_reader_read(r, copy, v->len, 0, &got);
    CHECK(rc != KV_OK || got == v->len);
    kv_reader_close(r);
    if (rc == KV_OK && v->type == KV_INTEGER) {
        copy[got] = 0;
        v->integer = atoll(copy);
        v->len = 0;
    }
    return rc;
}

static int look_ahead(kv_ns *ns, const char *key, uint32_t len, kv_value *v)
{
    size_t n = len;

    kv_prefetch_keys(ns, &key, &n, 1);
    return look_value(ns, key, len, v);
}

typedef int look(kv_ns *ns, const char *key, uint32_t len, kv_value *v);
static look *const looks[] = {look_get, look_value, look_peek, look_stream, look_ahead};
#define LOOKS (int)(sizeof looks / sizeof looks[0])

/* The code: KV_EBUSY is passed on, for whoever may expect it; all else has been judged. */
static int read_version(handle *a, look *f, int writer, int key)
{
    uint64_t from = version_least(&versions[writer][key]);
    char name[24];
    uint32_t len = version_key(writer, key, name);
    kv_value v = {0};
    int rc = f(a->n, name, len, &v);

    if (rc != KV_EBUSY)
        CHECK(version_judge("read", rc, &v, writer, key, from));
    return rc == KV_EBUSY ? rc : KV_OK;
}

static int read_fixed(handle *a, look *f, int i)
{
    char name[24];
    uint32_t len = fixed_key(i, name);
    kv_value v = {0};
    int rc = f(a->n, name, len, &v);

    if (rc == KV_EBUSY)
        return rc;
    if (!CHECK(rc == KV_OK && v.len == len && memcmp(v.data, name, len) == 0))
        fprintf(stderr, "  %s: %d %s\n", name, rc, kv_message());
    return KV_OK;
}

static int read_missing(handle *a, look *f, int i)
{
    char name[24];
    uint32_t len = (uint32_t)snprintf(name, 24, "never%d", i);
    kv_value v;
    int rc = f(a->n, name, len, &v);

    CHECK(rc == KV_ENOTFOUND || rc == KV_EBUSY);
    return rc == KV_EBUSY ? rc : KV_OK;
}

static int read_all(handle *a, look *f)
{
    int w, k, rc = KV_OK;

    for (w = 0; w < WRITERS; w++)
        for (k = 0; k < KEYS && rc == KV_OK; k++)
            rc = read_version(a, f, w, k);
    for (k = 0; k < 20 && rc == KV_OK; k++) {
        rc = read_fixed(a, f, (int)roll(FIXED));
        if (rc == KV_OK)
            rc = read_missing(a, f, (int)roll(100));
    }
    return rc;
}

typedef struct listing {
    uint64_t from[WRITERS][KEYS];
    char found[WRITERS][KEYS];
    char last[24];
    uint32_t last_len;
    int fixed, reverse;
} listing;

static void list_begin(listing *l, int reverse)
{
    int w, k;

    memset(l, 0, sizeof *l);
    l->reverse = reverse;
    for (w = 0; w < WRITERS; w++)
        for (k = 0; k < KEYS; k++)
            l->from[w][k] = version_least(&versions[w][k]);
}

static int list_one(listing *l, const kv_record *r)
{
    int c, w, k;

    if (!CHECK(r->key_len < sizeof l->last))
        return 0;
    c = memcmp(r->key, l->last, r->key_len < l->last_len ? r->key_len : l->last_len);
    c = c ? c : (r->key_len > l->last_len) - (r->key_len < l->last_len);
    if (l->last_len && !CHECK(l->reverse ? c < 0 : c > 0))
        return 0;
    memcpy(l->last, r->key, r->key_len);
    l->last_len = r->key_len;
    l->last[l->last_len] = 0;
    if (r->key[0] == 't') {
        k = atoi(l->last + 1);
        if (!CHECK(k == (l->reverse ? FIXED - 1 - l->fixed : l->fixed) && r->value.len == 4 &&
                   memcmp(r->value.data, r->key, 4) == 0))
            fprintf(stderr, "  listed %s as %d\n", l->last, l->fixed);
        l->fixed++;
        return 1;
    }
    if (!CHECK(sscanf(l->last, "k:%d:%d", &w, &k) == 2 && w < WRITERS && k < KEYS))
        return 0;
    l->found[w][k] = 1;
    return CHECK(version_judge("listed", KV_OK, &r->value, w, k, l->from[w][k]));
}

static void list_end(listing *l)
{
    int w, k;

    if (!CHECK(l->fixed == FIXED))
        fprintf(stderr, "  listed %d of %d\n", l->fixed, FIXED);
    for (w = 0; w < WRITERS; w++)
        for (k = 0; k < KEYS; k++)
            if (!l->found[w][k])
                CHECK(version_judge("not listed", KV_ENOTFOUND, NULL, w, k, l->from[w][k]));
}

/* page: so many at a time, each page led to by a cursor; 0: all, several keys at once if told. */
static int list_some(handle *a, int reverse, int page, int many)
{
    kv_iter *it = malloc(kv_iter_size());
    char text[KV_MAX_CURSOR], key[KV_MAX_KEY];
    kv_range range = {0};
    kv_record r;
    several some;
    listing l;
    size_t n;
    int rc, left = page;

    range.flags = reverse ? KV_REVERSE : 0;
    list_begin(&l, reverse);
    several_begin(&some, many);
    rc = kv_iter_init(it, a->n, &range);
    while (rc == KV_OK && (rc = several_next(&some, it, &r)) == KV_OK && list_one(&l, &r)) {
        if (page == 0 || --left > 0)
            continue;
        left = page;
        n = kv_cursor_make(a->n, &range, r.key, r.key_len, text);
        CHECK(kv_cursor_read(a->n, &range, text, n, key, &n) == KV_OK);
        range.after = key;
        range.after_len = (uint32_t)n;
        rc = kv_iter_init(it, a->n, &range);
        range.after = NULL;
    }
    free(it);
    if (rc == KV_EBUSY)
        return rc;
    if (!CHECK(rc == KV_ENOTFOUND))
        fprintf(stderr, "  list: %s: %s\n", kv_errname(rc), kv_message());
    else
        list_end(&l);
    return KV_OK;
}

static int list_all(handle *a, int reverse, int page)
{
    return list_some(a, reverse, page, 0);
}

/* Names alone, of a namespace where no record needs to be read for them. */
static int list_names(handle *a, int reverse)
{
    kv_iter *it = malloc(kv_iter_size());
    int rc, fixed = 0;
    kv_range range = {0};
    kv_record r;
    several some;
    char name[24];

    range.flags = KV_NO_VALUES | KV_NO_HISTORY | (reverse ? KV_REVERSE : 0);
    several_begin(&some, 1);
    rc = kv_iter_init(it, a->p, &range);
    while (rc == KV_OK && (rc = several_next(&some, it, &r)) == KV_OK) {
        if (r.key[0] != 't') {
            CHECK(r.key_len == 14);
            continue;
        }
        fixed_key(reverse ? FIXED - 1 - fixed : fixed, name);
        if (!CHECK(r.key_len == 4 && memcmp(r.key, name, 4) == 0))
            fprintf(stderr, "  listed %.4s for %s\n", r.key, name);
        fixed++;
    }
    free(it);
    if (rc != KV_EBUSY && !CHECK(rc == KV_ENOTFOUND && fixed == FIXED))
        fprintf(stderr, "  names: %s: %d of %d\n", kv_errname(rc), fixed, FIXED);
    return rc == KV_EBUSY ? rc : KV_OK;
}

/* ---- writing ---------------------------------------------------------------------------- */

static int put_as(handle *a, int key, const char *name, uint32_t len, const kv_value *v, int how)
{
    kv_writer *w = NULL;
    kv_edit edit = {0};
    kv_write o = {0};
    kv_record old;
    int rc;

    if (key == COUNTER) {
        kv_value by = {0}, sum;

        by.type = KV_INTEGER;
        by.integer = 1;
        rc = kv_incr(a->n, name, len, &by, NULL, &sum, NULL);
        CHECK(rc != KV_OK || sum.integer == v->integer);
        return rc;
    }
    if (key == DOCUMENT && how != 0) {
        edit.op = KV_EDIT_INCREMENT;
        edit.path = "v";
        edit.path_len = 1;
        edit.by.type = KV_INTEGER;
        edit.by.integer = 1;
        kv_edited done;

        return kv_edit_field(a->n, name, len, &edit, &done);
    }
    switch (how) {
    case 1: /* in pieces */
        rc = kv_writer_open(a->n, name, len, v->type, NULL, &w);
        if (rc == KV_OK)
            rc = kv_writer_write(w, v->data, v->len);
        if (rc == KV_OK)
            rc = kv_writer_commit(w, NULL);
        kv_writer_close(w);
        return rc;
    case 2: /* telling what was there */
        return kv_put(a->n, name, len, v, NULL, NULL, &old);
    case 3: /* if it is still that */
        rc = kv_get(a->n, name, len, &old);
        o.flags = KV_IF_REV;
        o.if_rev = rc == KV_OK ? old.rev : 0;
        return rc == KV_OK || rc == KV_ENOTFOUND ? kv_put(a->n, name, len, v, &o, NULL, NULL) : rc;
    default:
        if (key == TIMED) {
            o.flags = KV_TTL;
            o.ttl = 100000000;
        }
        return kv_put(a->n, name, len, v, &o, NULL, NULL);
    }
}

/* The next version of one of my keys. */
static int write_version(handle *a, int key, int how)
{
    version_slot *s = &versions[a->me][key];
    uint64_t version = version_load(&s->done) + 1;
    char name[24];
    uint32_t len = version_key(a->me, key, name);
    kv_value v = version_value(a->me, key, version);
    int rc;

    version_store(&s->begun, version);
    if (version_there(key, version))
        rc = put_as(a, key, name, len, &v, version == 1 ? 0 : how);
    else if (key == TIMED)
        rc = kv_expire(a->n, name, len, 0);
    else
        rc = kv_delete(a->n, name, len, NULL, NULL, NULL);
    if (rc == KV_OK)
        version_store(&s->done, version);
    return rc;
}

static int write_pair(handle *a)
{
    uint64_t version = version_load(&versions[a->me][FIRST].done) + 1;
    char names[2][24], texts[2][64];
    kv_item items[2];
    int i, rc;

    memset(items, 0, sizeof items);
    for (i = 0; i < 2; i++) {
        items[i].key = names[i];
        items[i].len = version_key(a->me, FIRST + i, names[i]);
        items[i].value = version_value(a->me, FIRST + i, version);
        memcpy(texts[i], items[i].value.data, items[i].value.len);
        items[i].value.data = texts[i];
        version_store(&versions[a->me][FIRST + i].begun, version);
    }
    rc = kv_put_many(a->n, items, 2, NULL, NULL);
    for (i = 0; rc == KV_OK && i < 2; i++)
        version_store(&versions[a->me][FIRST + i].done, version);
    return rc;
}

static int write_every(handle *a, int how)
{
    int k, rc = KV_OK;

    for (k = 0; k < KEYS && rc == KV_OK; k++)
        if (k != FIRST && k != SECOND)
            rc = write_version(a, k, how);
    return rc;
}

static int put_small(handle *a)
{
    int k, rc = KV_OK;

    for (k = SMALL; k <= LONG && rc == KV_OK; k++)
        rc = write_version(a, k, 0);
    return rc;
}

/* ---- what makes things move ------------------------------------------------------------- */

static void tell_time(void)
{
    kv_test_clock(shared->clock);
}

static int put_c(handle *a, const char *name, uint32_t bytes, int64_t ttl)
{
    static const char text[2000];
    kv_value v = bytes_of(text, bytes);
    kv_write o = {0};

    if (ttl) {
        o.flags = KV_TTL;
        o.ttl = ttl;
    }
    return kv_put(a->c, name, strlen(name), &v, &o, NULL, NULL);
}

static const char *new_name(void)
{
    static char name[40];
    uint64_t n = __atomic_add_fetch(&shared->made, 1, __ATOMIC_SEQ_CST);

    /* In no order, so that leaves split everywhere. */
    snprintf(name, sizeof name, "%08llx%06llu", (unsigned long long)(n * 2654435761u & 0xffffffffu),
             (unsigned long long)n);
    return name;
}

static int put_name(handle *a, const char *name)
{
    kv_value v = bytes_of(name, 3);

    return kv_put(a->p, name, strlen(name), &v, NULL, NULL, NULL);
}

/* Keys, and some of them go again: buckets split and overflow, leaves too; chains get shorter. */
static int grow(handle *a, int keys, int leave)
{
    char names[64][40];
    int i, j, rc = KV_OK;

    for (i = 0; i < keys && rc == KV_OK; i += 64) {
        for (j = 0; j < 64 && rc == KV_OK; j++) {
            snprintf(names[j], sizeof names[j], "%s", new_name());
            rc = j % 8 ? put_c(a, names[j], 20, 0) : put_name(a, names[j]);
        }
        for (j = leave; j < 64 && rc == KV_OK; j++)
            rc = kv_delete(j % 8 ? a->c : a->p, names[j], strlen(names[j]), NULL, NULL, NULL);
    }
    return rc;
}

/* Keys that meet in the bucket of one that is there throughout, and most go again: a chain gets
 * long and short. */
static int chain(handle *a)
{
    enum { CHAIN = 24 };
    char names[CHAIN][40], fixed[24];
    int i, n, rc = KV_OK;
    uint32_t len = fixed_key((int)roll(FIXED), fixed);
    const uint64_t same = 511;
    uint64_t home;
    kv_db *s;

    if (kv_enter(a->h) != KV_OK || kv_ns_resolve(a->n) <= 0 || kv_ns_resolve(a->c) <= 0)
        return KV_EBUSY;
    s = a->h->s;
    home = kv_index_hash(s, a->n->id, fixed, len) & same;
    for (n = 0; n < CHAIN && rc == KV_OK; n++) {
        do
            snprintf(names[n], sizeof names[n], "%s", new_name());
        while ((kv_index_hash(s, a->c->id, names[n], (uint32_t)strlen(names[n])) & same) != home);
        rc = put_c(a, names[n], 20, 0);
    }
    for (i = 0; i < n && rc == KV_OK; i++)
        rc = kv_delete(a->c, names[i], strlen(names[i]), NULL, NULL, NULL);
    return rc;
}

/* Overwrites: the log is cleaned, segments go and come. */
static int churn(handle *a, int writes)
{
    char name[16];
    int i, rc = KV_OK;

    for (i = 0; i < writes && rc == KV_OK; i++) {
        snprintf(name, sizeof name, "z%d", i % 30);
        rc = put_c(a, name, 1500, 0);
        if (rc == KV_OK && i % 32 == 31)
            rc = kv_tick(a->h, 500, NULL);
    }
    return rc;
}

/* Another process finds the index damaged and builds another. */
static void rebuild_and_leave(void *arg)
{
    kv_options o;
    kv *h = NULL;
    int rc;

    (void)arg;
    kv_test_pause = NULL;
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    o.timeout = 1;
    rc = kv_open(path, &o, &h);
    if (rc == KV_EBUSY)
        _exit(IS_BUSY);
    if (rc != KV_OK)
        fprintf(stderr, "  %s\n", kv_message());
    _exit(rc == KV_OK && stats_of(h).replayed > 0 ? 0 : 1);
}

static int child_code(void (*body)(void *))
{
    int status = status_of(begin(body, NULL));

    if (WIFEXITED(status) && WEXITSTATUS(status) == IS_BUSY)
        return KV_EBUSY;
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        fprintf(stderr, "  a child ended with status %x\n", (unsigned)status);
    return KV_OK;
}

static int supersede(handle *a)
{
    uint64_t *corrupt;
    int rc = kv_enter(a->h);

    if (rc != KV_OK)
        return rc;
    corrupt = kv_st(a->h->s, KV_ST_CORRUPT);
    kv_store(corrupt, 1);
    rc = child_code(rebuild_and_leave);
    if (rc != KV_OK)
        kv_store(corrupt, 0);
    return rc;
}

/* ---- what a subject does until it stops ------------------------------------------------- */

static int do_put(handle *a, int i)
{
    int rc = write_version(a, i % 4, 0);

    return rc == KV_OK && i % 8 == 7 ? write_version(a, TIMED, 0) : rc;
}

static int do_other(handle *a, int i)
{
    return i % 3 ? write_every(a, 1 + i % 3) : write_pair(a);
}

static int do_grow(handle *a, int i)
{
    return grow(a, 64, i % 2 ? 60 : 10);
}

static int do_chain(handle *a, int i)
{
    (void)i;
    return chain(a);
}

static int do_churn(handle *a, int i)
{
    (void)i;
    return churn(a, 64);
}

static int do_names(handle *a, int i)
{
    uint64_t n = __atomic_add_fetch(&shared->made, 1, __ATOMIC_SEQ_CST), keys;
    kv_ns *ns = NULL;
    char name[24];
    int rc;

    (void)i;
    snprintf(name, sizeof name, "g%llu", (unsigned long long)n);
    rc = kv_namespace(a->h, name, strlen(name), NULL, 0, 1, &ns);
    if (rc == KV_OK)
        rc = put(ns, "k", "v");
    kv_ns_close(ns);
    return rc == KV_OK ? kv_drop(a->h, name, strlen(name), &keys) : rc;
}

static int do_timers(handle *a, int i)
{
    int j, rc = KV_OK;

    (void)i;
    for (j = 0; j < 12 && rc == KV_OK; j++)
        rc = put_c(a, new_name(), 10, 1 + (int64_t)roll(roll(3) ? 9000 : 400000));
    shared->clock += 2500;
    tell_time();
    return rc == KV_OK ? kv_tick(a->h, 500, NULL) : rc;
}

static int do_back(handle *a, int i)
{
    int j, rc = KV_OK;

    (void)i;
    for (j = 0; j < 12 && rc == KV_OK; j++)
        rc = put_c(a, new_name(), 10, 1 + (int64_t)roll(9000));
    shared->clock -= 70000;
    tell_time();
    return rc == KV_OK ? kv_tick(a->h, 500, NULL) : rc;
}

static int do_read(handle *a, int i)
{
    look *f = looks[i % LOOKS];
    int rc = read_version(a, f, (int)roll(WRITERS), (int)roll(KEYS));

    if (rc == KV_OK)
        rc = read_fixed(a, f, (int)roll(FIXED));
    return rc == KV_OK ? read_missing(a, f, (int)roll(200)) : rc;
}

static int do_list(handle *a, int i)
{
    return i % 3 == 2 ? list_names(a, i % 2) : list_some(a, i % 2, 0, i / 2 % 2);
}

static int do_last_name(handle *a, int i)
{
    kv_ns *ns = NULL;
    int rc = kv_namespace(a->h, "last", 4, NULL, 0, 0, &ns);

    (void)i;
    if (rc == KV_OK)
        kv_ns_close(ns);
    return rc == KV_ENOTFOUND ? KV_OK : rc;
}

static int do_large(handle *a, int i)
{
    (void)i;
    return read_version(a, i % 2 ? look_get : look_value, 0, LARGE);
}

static int do_free(handle *a, int i)
{
    int rc = write_version(a, LARGE, 0);

    (void)i;
    if (rc == KV_OK)
        rc = kv_sync(a->h);
    return rc == KV_OK ? kv_maintain(a->h->s, 1000, 1) : rc;
}

static int do_sync(handle *a, int i)
{
    int rc = write_version(a, i % 4, 0);

    return rc == KV_OK ? kv_sync(a->h) : rc;
}

static int do_open(handle *a, int i)
{
    handle b = *a;

    (void)i;
    detach(&b);
    attach(a, b.me, 20);
    CHECK(stats_of(a->h).replayed == 0);
    return KV_OK;
}

static int do_rebuild(handle *a, int i)
{
    handle b = *a;

    (void)i;
    if (kv_enter(a->h) != KV_OK)
        return KV_EBUSY;
    kv_store(kv_st(a->h->s, KV_ST_CORRUPT), 1);
    detach(&b);
    attach(a, b.me, 20);
    CHECK(stats_of(a->h).replayed > 0);
    return KV_OK;
}

static int do_move(handle *a, int i)
{
    int rc = supersede(a);

    (void)i;
    return rc == KV_OK ? read_version(a, look_get, 0, SMALL) : rc;
}

static int do_check(handle *a, int i)
{
    int rc = kv_check(a->h);

    (void)i;
    if (rc != KV_EBUSY && !CHECK(rc == KV_OK))
        fprintf(stderr, "  %s\n", kv_message());
    return rc == KV_EBUSY ? rc : KV_OK;
}

static int do_backup(handle *a, int i)
{
    char to[200], name[40];
    uint64_t records = 0;
    int rc;

    (void)i;
    snprintf(name, sizeof name, "backup-%d-%llu", a->me,
             (unsigned long long)__atomic_add_fetch(&shared->made, 1, __ATOMIC_SEQ_CST));
    snprintf(to, sizeof to, "%.150s", at(name));
    rc = kv_backup(a->h, to, &records);
    if (rc != KV_EBUSY && !CHECK(rc == KV_OK && records >= FIXED))
        fprintf(stderr, "  %d: %s\n", rc, kv_message());
    remove_tree(to);
    return rc == KV_EBUSY ? rc : KV_OK;
}

/* What a helper thread does, here in the process's only one. */
static int do_help(handle *a, int i)
{
    int rc = churn(a, 31);

    (void)i;
    if (rc != KV_OK)
        return rc;
    kv_mend(a->h->s);
    rc = kv_maintain(a->h->s, 1, 1);
    (void)kv_clean_ahead(a->h->s, 4, 0);
    return rc;
}

/* A namespace whose id lies beyond what others have mapped. */
static int before_name(handle *a)
{
    uint64_t ready = kv_load(&a->h->s->region.head->ready[KV_NAMES]), keys;
    int i, rc = KV_OK;

    for (i = 0; rc == KV_OK && ready == kv_load(&a->h->s->region.head->ready[KV_NAMES]); i++)
        rc = do_names(a, i);
    while (rc == KV_OK && 2 * kv_load(kv_st(a->h->s, KV_ST_NEXT_NS)) <= ready)
        rc = do_names(a, i);
    if (rc == KV_OK)
        rc = kv_drop(a->h, "last", 4, &keys);
    return rc == KV_OK ? (kv_ns_close(space_of(a->h, "last")), KV_OK) : rc;
}

static int before_churn(handle *a)
{
    return churn(a, 100) == KV_OK ? write_every(a, 0) : KV_EBUSY;
}

/* ---- the points ------------------------------------------------------------------------- */

typedef struct point {
    const char *name;
    int (*act)(handle *a, int i);
    int locks;
    int (*before)(handle *a); /* of another process */
} point;

static const point points[] = {
    {"append: next segment", do_churn, WRITER_LOCK, NULL},
    {"append: written", do_put, WRITER_LOCK, NULL},
    {"append: committed", do_put, WRITER_LOCK, NULL},
    {"apply: to be seen", do_other, WRITER_LOCK, NULL},
    {"apply: seen", do_other, WRITER_LOCK, NULL},
    {"delete: to be seen", do_put, WRITER_LOCK, NULL},
    {"drop: to be seen", do_names, WRITER_LOCK, NULL},
    {"batch: one applied", do_other, WRITER_LOCK, NULL},
    {"insert: overflow to be linked", do_chain, WRITER_LOCK, NULL},
    {"split: built", do_grow, WRITER_LOCK, NULL},
    {"split: counted", do_grow, WRITER_LOCK, NULL},
    {"split: ended", do_grow, WRITER_LOCK, NULL},
    {"split: cleared", do_grow, WRITER_LOCK, NULL},
    {"compact: copied", do_chain, WRITER_LOCK, NULL},
    {"compact: announced", do_chain, WRITER_LOCK, NULL},
    {"compact: unlinked", do_chain, WRITER_LOCK, NULL},
    {"compact: freed", do_chain, WRITER_LOCK, NULL},
    {"order: entry to be counted", do_grow, WRITER_LOCK, NULL},
    {"order: node to be reused", do_grow, WRITER_LOCK, NULL},
    {"order: to be swung", do_grow, WRITER_LOCK, NULL},
    {"order: swung", do_grow, WRITER_LOCK, NULL},
    {"wheel: carried", do_timers, WRITER_LOCK, NULL},
    {"wheel: carried back", do_back, WRITER_LOCK, NULL},
    {"expire: forgotten", do_timers, WRITER_LOCK, NULL},
    {"clean: judged", do_churn, WRITER_LOCK, NULL},
    {"clean: copied", do_churn, WRITER_LOCK, NULL},
    {"clean: moved", do_churn, WRITER_LOCK, NULL},
    {"clean: to be passed", do_churn, WRITER_LOCK, NULL},
    {"clean: segment judged", do_churn, WRITER_LOCK, NULL},
    {"helper: group read", do_help, 0, NULL},
    {"helper: group judged", do_help, 0, NULL},
    {"prepare: allocated", do_churn, MAINT_LOCK, NULL},
    {"prepare: mapped", do_churn, MAINT_LOCK, NULL},
    {"grow: allocated", do_names, MAINT_LOCK, NULL},
    {"grow: ready", do_names, MAINT_LOCK, NULL},
    {"sync: done", do_sync, DURABLE_LOCK, NULL},
    {"retire: meta written", do_churn, DURABLE_LOCK, NULL},
    {"retire: begun", do_churn, DURABLE_LOCK, NULL},
    {"retire: not the oldest", do_churn, DURABLE_LOCK, NULL},
    {"retire: zeroed", do_churn, DURABLE_LOCK, NULL},
    {"retire: unlinked", do_churn, DURABLE_LOCK, NULL},
    {"recycle: zeroed", do_churn, MAINT_LOCK | DURABLE_LOCK, NULL},
    {"recycle: renamed", do_churn, MAINT_LOCK | DURABLE_LOCK, NULL},
    {"retire: file unlinked", do_free, DURABLE_LOCK | FILES, NULL},
    {"call: entered", do_read, 0, NULL},
    {"lookup: begun", do_read, 0, NULL},
    {"lookup: slot read", do_read, 0, NULL},
    {"lookup: link read", do_read, 0, NULL},
    {"lookup: link taken", do_read, 0, NULL},
    {"lookup: chain ended", do_read, 0, NULL},
    {"node: to be mapped", do_last_name, 0, before_name},
    {"segment: to be opened", do_read, 0, before_churn},
    {"fetch: mapped", do_read, 0, NULL},
    {"fetch: copied", do_read, 0, NULL},
    {"glance: slot read", do_read, 0, NULL},
    {"glance: to be copied", do_read, 0, NULL},
    {"get: file to be opened", do_large, 0, NULL},
    {"order: link read", do_list, 0, NULL},
    {"order: node copied", do_list, 0, NULL},
    {"list: leaf read", do_list, 0, NULL},
    {"list: record to be taken", do_list, 0, NULL},
    {"list: slots read", do_list, 0, NULL},
    {"open: meta read", do_open, 0, NULL},
    {"attach: turn taken", do_open, TURN, NULL},
    {"attach: head mapped", do_open, TURN, NULL},
    {"attach: mapped", do_open, TURN, NULL},
    {"attach: to be counted", do_open, TURN, NULL},
    {"leave: counted", do_open, TURN, NULL},
    {"rebuild: locked", do_rebuild, ALL_LOCKS, NULL},
    {"replay: next segment", do_rebuild, ALL_LOCKS, NULL},
    {"rebuild: replayed", do_rebuild, ALL_LOCKS, NULL},
    {"rebuild: published", do_rebuild, ALL_LOCKS, NULL},
    {"move: begun", do_move, 0, NULL},
    {"pin: to be held", do_backup, 0, NULL},
    {"pin: held", do_backup, 0, NULL},
    {"check: index copied", do_check, DURABLE_LOCK, NULL},
};
#define POINTS (int)(sizeof points / sizeof points[0])

static const char *point_name(int p)
{
    return points[p].name;
}

/* ---- the operations --------------------------------------------------------------------- */

static int op_get(handle *a)
{
    return read_all(a, look_get);
}
static int op_get_value(handle *a)
{
    return read_all(a, look_value);
}
static int op_peek(handle *a)
{
    return read_all(a, look_peek);
}
static int op_read_stream(handle *a)
{
    return read_all(a, look_stream);
}
static int op_get_many(handle *a)
{
    return read_all(a, look_ahead);
}

static int op_exists(handle *a)
{
    int w, k, rc;
    char name[24];

    for (w = 0; w < WRITERS; w++)
        for (k = 0; k < KEYS; k++) {
            uint64_t from = version_least(&versions[w][k]), to, v;
            int may_be = 0;

            rc = kv_exists(a->n, name, version_key(w, k, name));
            if (rc == KV_EBUSY)
                return rc;
            to = version_load(&versions[w][k].begun);
            for (v = from; v <= to; v++)
                may_be |= version_there(k, v);
            CHECK(rc == KV_OK ? may_be : rc == KV_ENOTFOUND && version_gone(k, from, to));
        }
    return KV_OK;
}

static int op_get_field(handle *a)
{
    uint64_t from = version_least(&versions[1][DOCUMENT]), to, got;
    char name[24];
    kv_value v;
    int rc = kv_get_field(a->n, name, version_key(1, DOCUMENT, name), "v", 1, &v);

    to = version_load(&versions[1][DOCUMENT].begun);
    if (rc == KV_EBUSY)
        return rc;
    if (rc == KV_ENOTFOUND) {
        CHECK(from == 0);
        return KV_OK;
    }
    got = rc == KV_OK ? strtoull(v.data, NULL, 10) : 0;
    CHECK(got >= from && got <= to);
    return KV_OK;
}

static int op_list(handle *a)
{
    return list_all(a, 0, 0);
}
static int op_list_back(handle *a)
{
    return list_all(a, 1, 0);
}
static int op_list_several(handle *a)
{
    return list_some(a, 0, 0, 1);
}
static int op_list_names(handle *a)
{
    return list_names(a, 0);
}
static int op_pages(handle *a)
{
    return list_all(a, 0, 37);
}

static int op_count(handle *a)
{
    kv_range r = {0};
    uint64_t n = 0;
    int rc;

    r.prefix = "t";
    r.prefix_len = 1;
    rc = kv_count(a->n, &r, &n);
    CHECK(rc == KV_EBUSY || (rc == KV_OK && n == FIXED));
    return rc;
}

static int op_stats(handle *a)
{
    kv_stats s;
    int rc = kv_get_stats(a->h, &s);

    CHECK(rc == KV_EBUSY || (rc == KV_OK && s.keys >= FIXED && s.rev >= FIXED));
    return rc;
}

static int op_names(handle *a)
{
    kv_ns_info info;
    int rc, found = 0;

    info.name_len = 0;
    while ((rc = kv_ns_next(a->h, &info)) == KV_OK)
        found += strcmp(info.name, "n") == 0 || strcmp(info.name, "c") == 0;
    CHECK(rc == KV_EBUSY || (rc == KV_ENOTFOUND && found == 2));
    return rc == KV_ENOTFOUND ? KV_OK : rc;
}

static int op_rev(handle *a)
{
    uint64_t rev = kv_rev(a->h);

    CHECK(rev >= FIXED && kv_now(a->h) > 0);
    return KV_OK;
}

static int op_put(handle *a)
{
    return put_small(a);
}
static int op_put_large(handle *a)
{
    return write_version(a, LARGE, 0);
}
static int op_put_stream(handle *a)
{
    return write_version(a, LARGE, 1);
}
static int op_put_old(handle *a)
{
    return write_version(a, PLAIN, 2);
}
static int op_put_if(handle *a)
{
    return write_version(a, LONG, 3);
}
static int op_incr(handle *a)
{
    return write_version(a, COUNTER, 0);
}
static int op_edit(handle *a)
{
    return write_version(a, DOCUMENT, 1);
}
static int op_batch(handle *a)
{
    return write_pair(a);
}
static int op_timed(handle *a)
{
    return write_version(a, TIMED, 0);
}

static int op_delete(handle *a)
{
    int rc = KV_OK;

    do
        rc = write_version(a, SMALL, 0);
    while (rc == KV_OK && version_there(SMALL, version_load(&versions[a->me][SMALL].done)));
    return rc;
}

static int op_expire(handle *a)
{
    int rc = put_c(a, "ttl", 10, 0), had = 0;

    if (rc == KV_OK)
        rc = kv_expire(a->c, "ttl", 3, 60000);
    if (rc == KV_OK)
        rc = kv_persist(a->c, "ttl", 3, &had);
    CHECK(rc != KV_OK || had);
    return rc;
}

static int op_delete_prefix(handle *a)
{
    uint64_t n = 0;
    int rc = put_c(a, "prefix:1", 10, 0);

    if (rc == KV_OK)
        rc = put_c(a, "prefix:2", 10, 0);
    if (rc == KV_OK)
        rc = kv_delete_prefix(a->c, "prefix:", 7, &n);
    CHECK(rc != KV_OK || n == 2);
    return rc;
}

static int op_describe(handle *a)
{
    char desc[24];
    kv_ns *ns = NULL;
    int rc;

    snprintf(desc, sizeof desc, "%llu",
             (unsigned long long)__atomic_add_fetch(&shared->made, 1, __ATOMIC_SEQ_CST));
    rc = kv_namespace(a->h, "n", 1, desc, strlen(desc), 1, &ns);
    if (rc == KV_OK)
        kv_ns_close(ns);
    return rc;
}

static int op_drop(handle *a)
{
    return do_names(a, 0);
}
static int op_grow(handle *a)
{
    return grow(a, 256, 20);
}
static int op_churn(handle *a)
{
    int rc = churn(a, 300);

    return rc == KV_OK ? write_every(a, 0) : rc;
}
static int op_timers(handle *a)
{
    return do_timers(a, 0);
}
static int op_tick(handle *a)
{
    return kv_tick(a->h, 100, NULL);
}
static int op_sync(handle *a)
{
    return kv_sync(a->h);
}
static int op_maintain(handle *a)
{
    return kv_maintain(a->h->s, 1, 1);
}

static int op_clean(handle *a)
{
    (void)kv_clean_ahead(a->h->s, 8, 0);
    return KV_OK;
}

static int op_check(handle *a)
{
    return do_check(a, 0);
}
static int op_backup(handle *a)
{
    return do_backup(a, 0);
}

static int left_alone; /* no lock is held by a subject */

static void opens(void *arg)
{
    handle b;

    (void)arg;
    attach(&b, WRITERS, 1);
    CHECK(read_all(&b, look_get) == KV_OK && list_all(&b, 0, 0) == KV_OK);
    if (left_alone) { /* else leaving waits for a while */
        CHECK(churn(&b, 20) == KV_OK);
        detach(&b);
    }
}

static void opens_readonly(void *arg)
{
    handle b;
    kv_options o;

    (void)arg;
    kv_options_init(&o);
    o.readonly = 1;
    if (!CHECK(kv_open(path, &o, &b.h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return;
    }
    b.n = space_of(b.h, "n");
    b.c = space_of(b.h, "c");
    b.p = space_of(b.h, "p");
    b.me = WRITERS;
    CHECK(read_all(&b, look_get) == KV_OK && list_all(&b, 0, 0) == KV_OK);
    detach(&b);
}

static int op_open(handle *a)
{
    (void)a;
    return child_code(opens);
}

static int op_readonly(handle *a)
{
    (void)a;
    return child_code(opens_readonly);
}

/* An index takes this one's place, and then all that moves moves. */
static int op_supersede(handle *a)
{
    int rc = supersede(a);

    if (rc == KV_OK)
        rc = churn(a, 300);
    if (rc == KV_OK)
        rc = grow(a, 128, 20);
    return rc == KV_OK ? write_every(a, 0) : rc;
}

typedef struct operation {
    const char *name;
    int (*f)(handle *a);
    int needs; /* locks without which it is busy */
    int may;   /* and such as it may need */
} operation;

#define W      WRITER_LOCK
#define OTHERS (MAINT_LOCK | DURABLE_LOCK)

static const operation operations[] = {
    {"get", op_get, 0, 0},
    {"get_value", op_get_value, 0, 0},
    {"peek", op_peek, 0, 0},
    {"read_stream", op_read_stream, 0, 0},
    {"get_many", op_get_many, 0, 0},
    {"exists", op_exists, 0, 0},
    {"get_field", op_get_field, 0, 0},
    {"list", op_list, 0, 0},
    {"list_back", op_list_back, 0, 0},
    {"list_several", op_list_several, 0, 0},
    {"list_names", op_list_names, 0, 0},
    {"pages", op_pages, 0, 0},
    {"count", op_count, 0, 0},
    {"stats", op_stats, 0, 0},
    {"names", op_names, 0, 0},
    {"rev", op_rev, 0, 0},
    {"put", op_put, W, OTHERS},
    {"put_large", op_put_large, W, OTHERS},
    {"put_stream", op_put_stream, W, OTHERS},
    {"put_old", op_put_old, W, OTHERS},
    {"put_if", op_put_if, W, OTHERS},
    {"incr", op_incr, W, OTHERS},
    {"edit", op_edit, W, OTHERS},
    {"batch", op_batch, W, OTHERS},
    {"timed", op_timed, W, OTHERS},
    {"delete", op_delete, W, OTHERS},
    {"expire", op_expire, W, OTHERS},
    {"delete_prefix", op_delete_prefix, W, OTHERS},
    {"describe", op_describe, W, OTHERS},
    {"drop", op_drop, W, OTHERS},
    {"timers", op_timers, W, OTHERS},
    {"tick", op_tick, W, OTHERS},
    {"grow", op_grow, W, OTHERS},
    {"churn", op_churn, W, OTHERS},
    {"maintain", op_maintain, 0, OTHERS},
    {"clean", op_clean, 0, 0},
    {"sync", op_sync, 0, OTHERS},
    {"readonly", op_readonly, 0, 0},
    {"open", op_open, TURN, 0},
    {"check", op_check, W | DURABLE_LOCK, 0},
    {"backup", op_backup, FILES, 0},
    {"supersede", op_supersede, ALL_LOCKS, 0},
};
#define OPERATIONS (int)(sizeof operations / sizeof operations[0])

/* What takes another process or a copy of all. */
static int is_dear(const operation *o)
{
    return o->f == op_open || o->f == op_readonly || o->f == op_supersede || o->f == op_backup ||
           o->f == op_check;
}

/* Performs one beside subjects that hold these locks. */
static void perform(handle *a, const operation *o, int locks)
{
    int before = check_failures, rc;

    /* These would wait as long as a slow disk may take, or the helper's tenth of a second. */
    if ((o->f == op_sync && locks & DURABLE_LOCK) || (o->f == op_clean && locks & WRITER_LOCK))
        return;
    left_alone = locks == 0;
    tell_time();
    rc = o->f(a);
    if (locks & o->needs)
        CHECK(rc == KV_EBUSY);
    else
        CHECK(rc == KV_OK || (rc == KV_EBUSY && locks & o->may));
    if (check_failures != before)
        fprintf(stderr, "  %s gave %s: %s\n", o->name, rc ? kv_errname(rc) : "ok",
                rc ? kv_message() : "");
}

/* ---- the test --------------------------------------------------------------------------- */

static void subject_main(int i, uint64_t chance)
{
    handle a;
    int n, rc;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    self = &shared->subject[i];
    self_index = i;
    seed = chance | 1;
    check_failures = 0;
    kv_test_pause = NULL;
    attach(&a, 1 + i, 20);
    CHECK(version_take_over(a.n, a.me));
    set_state(self, DONE);
    for (;;) {
        wait_while(self, DONE);
        if (state_of(self) == QUIT)
            break;
        reached = self->busy = 0;
        tell_time();
        kv_test_pause = stop_at;
        for (n = 0; n < self->tries && !reached && !self->busy && !check_failures; n++) {
            rc = points[self->point].act(&a, n);
            if (rc == KV_EBUSY)
                self->busy = 1;
            else if (!CHECK(rc == KV_OK))
                fprintf(stderr, "  %s: %s\n", kv_errname(rc), kv_message());
        }
        kv_test_pause = NULL;
        self->failed = check_failures;
        set_state(self, DONE);
    }
    detach(&a);
    _exit(check_failures != 0);
}

static void spawn(int i)
{
    subject *s = &shared->subject[i];
    uint64_t chance = roll(UINT64_MAX);
    pid_t child;

    memset(s, 0, sizeof *s);
    s->state = IDLE;
    fflush(NULL);
    child = check_fork();
    if (child == 0)
        subject_main(i, chance);
    CHECK(child > 0);
    s->pid = child;
}

/* Until it has stopped or is done. 0: it is dead, or hangs. */
static int await_subject(int i)
{
    subject *s = &shared->subject[i];
    int64_t until = kv_os_monotonic() + (int64_t)HUNG * 1000000000;
    struct timespec t = {0, 100000000};
    int status;

    uint32_t now;

    while ((now = state_of(s)) != STOPPED && now != DONE) {
        syscall(SYS_futex, &s->state, FUTEX_WAIT, now, &t, NULL, 0);
        if (state_of(s) == now && waitpid(s->pid, &status, WNOHANG) == s->pid) {
            fprintf(stderr, "  a subject ended with status %x\n", (unsigned)status);
            s->pid = 0;
            return CHECK(!"a subject that lives");
        }
        if (!CHECK(kv_os_monotonic() < until))
            return 0;
    }
    return 1;
}

/* 1: it has stopped at the point; 0: it has not, or something failed. */
static int run_to(int i, int p, int tries)
{
    subject *s = &shared->subject[i];

    s->point = p;
    s->tries = tries;
    set_state(s, RUN);
    if (!await_subject(i))
        return 0;
    CHECK(s->failed == 0);
    return state_of(s) == STOPPED;
}

static int let_go(int i)
{
    subject *s = &shared->subject[i];

    set_state(s, GO);
    return await_subject(i) && CHECK(s->failed == 0);
}

static void end_subject(int i, int by_force)
{
    subject *s = &shared->subject[i];
    int status = 0;

    if (s->pid == 0)
        return;
    if (by_force)
        kill(s->pid, SIGKILL);
    else
        set_state(s, QUIT);
    CHECK(waitpid(s->pid, &status, 0) == s->pid);
    CHECK(by_force ? WIFSIGNALED(status) : status == 0);
    s->pid = 0;
}

static void make_store(handle *a)
{
    char name[24];
    kv_value v;
    int i;

    memset(shared, 0, sizeof *shared);
    tell_time();
    snprintf(path, sizeof path, "%s", at("store"));
    attach(a, 0, 1);
    for (i = 0; i < FIXED; i++) {
        v = bytes_of(name, fixed_key(i, name));
        CHECK(kv_put(a->n, name, v.len, &v, NULL, NULL, NULL) == KV_OK &&
              put_name(a, name) == KV_OK);
    }
    for (i = 0; i < 6; i++)
        CHECK(write_every(a, 0) == KV_OK && write_pair(a) == KV_OK);
}

static void verify(handle *a)
{
    tell_time();
    CHECK(read_all(a, look_get) == KV_OK && list_all(a, 0, 0) == KV_OK &&
          list_all(a, 1, 0) == KV_OK && list_names(a, 1) == KV_OK && do_check(a, 0) == KV_OK);
}

/* Lets the first subject get there, with another process's help if need be. */
static int bring_to(handle *a, int p)
{
    int i;

    if (points[p].before == NULL)
        return run_to(0, p, 4000);
    for (i = 0; i < 20; i++)
        if (!CHECK(points[p].before(a) == KV_OK) || run_to(0, p, 400))
            return check_failures == 0;
    return 0;
}

static void one_point(int p, int thorough)
{
    const point *x = &points[p];
    int before = check_failures, i;
    handle a;

    make_store(&a);
    spawn(0);
    if (!await_subject(0))
        return;
    for (i = 0; i < OPERATIONS && check_failures == before; i++) {
        if (!CHECK(bring_to(&a, p)))
            break;
        perform(&a, &operations[i], x->locks);
        if (check_failures != before)
            fprintf(stderr, "  %s, beside: %s\n", operations[i].name, x->name);
        if (!let_go(0))
            fprintf(stderr, "  %s, going on from: %s\n", operations[i].name, x->name);
        else if (thorough)
            verify(&a);
        op_rev(&a); /* it follows to whatever index counts now */
    }
    if (check_failures == before)
        verify(&a);
    /* Once more, and it dies there. */
    if (check_failures == before) {
        CHECK(bring_to(&a, p));
        end_subject(0, 1);
        if (x->act == do_rebuild) /* as whoever comes next does */
            CHECK(op_open(&a) == KV_OK);
        for (i = 0; i < OPERATIONS && check_failures == before; i++)
            if (thorough || operations[i].f == op_open || !is_dear(&operations[i]))
                perform(&a, &operations[i], 0);
        CHECK(version_take_over(a.n, 1));
        verify(&a);
    }
    if (check_failures != before)
        fprintf(stderr, "  at: %s\n", x->name);
    end_subject(0, check_failures != before);
    detach(&a);
    remove_tree(path);
}

/* ---- two at a time ---- */

static long pairs, hindered;

/* Both stopped; then they go on or die, in any order. */
static int release_pair(handle *a, int p, int q)
{
    int first = points[p].act == do_open && points[q].locks & TURN ? 1 : (int)roll(2),
        deaths = (int)roll(4), i, died = 0;

    for (i = 0; i < 2; i++) {
        int who = first ^ i;

        if (deaths >> who & 1) {
            end_subject(who, 1);
            died |= 1 << who;
        } else if (!let_go(who)) {
            return 0;
        }
    }
    if (died)
        CHECK(op_open(a) == KV_OK);
    for (i = 0; i < 2; i++)
        if (died >> i & 1) {
            CHECK(version_take_over(a->n, 1 + i));
            spawn(i);
            if (!await_subject(i))
                return 0;
        }
    return 1;
}

/* Whether the second one would find the door shut that it comes back by, or wait for a disk. */
static int shut_out(int p, int q)
{
    return (points[q].act == do_rebuild && points[p].locks) ||
           ((points[q].act == do_free || points[q].act == do_sync) &&
            points[p].locks & DURABLE_LOCK) ||
           (points[q].act == do_open && points[p].locks & TURN);
}

static void one_pair(handle *a, int p, int q)
{
    int before = check_failures, i;

    if (shut_out(p, q)) {
        hindered++;
        return;
    }
    if (!CHECK(run_to(0, p, 4000))) {
        fprintf(stderr, "  never at: %s\n", points[p].name);
        return;
    }
    op_rev(a);
    if (run_to(1, q, 200)) {
        pairs++;
        for (i = 0; i < OPERATIONS && check_failures == before; i++)
            perform(a, &operations[i], points[p].locks | points[q].locks);
        if (check_failures == before && release_pair(a, p, q))
            verify(a);
    } else {
        hindered++;
        if (let_go(0))
            verify(a);
    }
    if (check_failures != before)
        fprintf(stderr, "  at: %s, and: %s\n", points[p].name, points[q].name);
}

/* A store that has grown grows seldom: so many points, and then a new one. */
#define POINTS_A_STORE 8

static int pairs_from(int p, int from, int every)
{
    int before = check_failures, i, n = 0, chosen[POINTS_A_STORE];
    handle a;

    for (i = from; i < POINTS && i < from + POINTS_A_STORE; i++)
        if (points[i].before == NULL && roll((uint64_t)every) == 0)
            chosen[n++] = i;
    if (n == 0)
        return 1;
    make_store(&a);
    for (i = 0; i < 2; i++) {
        spawn(i);
        if (!await_subject(i))
            return 0;
    }
    for (i = 0; i < n && check_failures == before; i++)
        one_pair(&a, p, chosen[i]);
    for (i = 0; i < 2; i++)
        end_subject(i, check_failures != before);
    detach(&a);
    remove_tree(path);
    return check_failures == before;
}

static void pairs_of(int p, int every)
{
    int q;

    for (q = 0; points[p].before == NULL && q < POINTS; q += POINTS_A_STORE)
        if (!pairs_from(p, q, every))
            return;
}

int main(void)
{
    const char *given = getenv("SEED"), *only = getenv("POINT");
    int p, before, lengthy = getenv("KV_LONG") != NULL, brief = getenv("KV_SHORT") != NULL;
    int64_t began = kv_os_monotonic();

    if (!share_begin())
        return 2;
    if (given)
        seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&seed, sizeof seed);
    seed |= 1;
    printf("test_pause: SEED=%llu\n", (unsigned long long)seed);
    copy = malloc(1 << 16);
    shared = mmap(NULL, (sizeof *shared + KV_PAGE) / KV_PAGE * KV_PAGE, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || copy == NULL)
        return 2;
    versions = shared->slots;
    for (p = 0; p < POINTS; p++)
        if ((only == NULL || strstr(points[p].name, only)) && (!brief || p % 8 == 0)) {
            before = check_failures;
            one_point(p, lengthy);
            if (getenv("KV_TIMES"))
                printf("%6.1f s  %s%s\n", (double)(kv_os_monotonic() - began) / 1e9, points[p].name,
                       check_failures == before ? "" : "  FAILED");
        }
    for (p = 0; p < POINTS && !brief; p++)
        if (only == NULL || strstr(points[p].name, only))
            pairs_of(p, lengthy ? 1 : 2 * POINTS);
    remove_tree(root);
    printf("%d points, %d operations, %ld pairs of points (%ld more that exclude each other)\n",
           POINTS, OPERATIONS, pairs, hindered);
    return check_done("test_pause");
}
