/* SPDX-License-Identifier: MIT
 *
 * test_faults.c - the whole store when the system says no: every system call of a script failing,
 * once and for ever; calls failing by chance beside the helper thread; every allocation failing. A
 * call that fails leaves all as it was, and the next opening finds it. (test_full.c: full disks.)
 */
#define _GNU_SOURCE
#include "model.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>

#define T0 1900000000000LL

static int64_t wall;

static void clock_is(int64_t ms)
{
    wall = ms;
    kv_test_clock_set(ms);
}

/* ---- system calls ---- */

static long calls, fail_from; /* 0: none fails */
static int fail_forever, fail_with;
static char failed_call[200];

static int fail_one(const char *call, const char *what)
{
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);

    if (fail_from == 0 || n < fail_from || (n > fail_from && !fail_forever))
        return 0;
    if (n == fail_from)
        snprintf(failed_call, sizeof failed_call, "%s %.150s", call, what);
    return fail_with;
}

static uint64_t chance_seed = 99;
static int chance; /* one in so many fails; 0: none */

static int fail_by_chance(const char *call, const char *what)
{
    static const int errors[] = {EIO, ENOSPC, ENOMEM, EMFILE, EDQUOT, EINTR};
    uint64_t x = __atomic_add_fetch(&chance_seed, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED);

    (void)what;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    /* A failed sync ends a store's life as far as writes go: seldom. */
    if (chance == 0 || x % (uint64_t)(strstr(call, "sync") ? chance * 40 : chance) != 0)
        return 0;
    return errors[(x >> 32) % 6];
}

/* What an open store with no faults any more must be. */
static int still_right(model *m, const char *when)
{
    int broken = (int)kv_load(&m->h->s->log.w[KV_LOG_BROKEN]), ok, e;
    kv_value v = {KV_NULL, 0, NULL, 0, 0};

    m->op = when;
    ok = HOLDS(m, model_same(m));
    e = kv_check(m->h);
    if (e != KV_OK)
        fprintf(stderr, "check: %s\n", kv_message());
    ok &= HOLDS(m, e == KV_OK);
    if (broken) {
        e = kv_put(m->ns[0], "x", 1, &v, NULL, NULL, NULL);
        ok &= HOLDS(m, e == KV_EIO && kv_rev(m->h) == m->rev);
    }
    return ok;
}

static uint64_t large_ones(model *m)
{
    int64_t now = kv_now(m->h);
    uint64_t n = 0;
    int i, k;

    for (i = 0; i < MODEL_NS; i++)
        for (k = 0; k < MODEL_KEYS; k++) {
            const model_rec *r = &m->space[i].rec[k];
            n += is_live(r, now) && (r->v.type == KV_STRING || r->v.type == KV_JSON) &&
                 r->v.len > KV_SEG_MIN / 4;
        }
    return n;
}

/* Reopens without faults, as after a reboot; everything is there, and nothing else. */
static int found_again(model *m, const char *path)
{
    static int boots;
    kv_options o;
    int files, ok;

    snprintf(kv_test_boot, sizeof kv_test_boot, "boot %d", ++boots);
    kv_options_init(&o);
    o.thread = 0;
    m->faults = 0;
    if (!HOLDS(m, model_open(m, path, &o) == KV_OK)) {
        fprintf(stderr, "reopen: %s\n", kv_message());
        return 0;
    }
    ok = still_right(m, "reopened");
    ok &= HOLDS(m, kv_rev(m->h) == m->rev);
    (void)files_of(path, "blob.", &files);
    ok &= HOLDS(m, (uint64_t)files == large_ones(m));
    return ok;
}

static void big_put(model *m, int i, int k, uint32_t len)
{
    kv_value v = {KV_STRING, 0, NULL, 0, 0};
    kv_write w = {0};

    v.data = model_noise + roll(1000);
    v.len = len;
    op_put(m, i, k, &v, &w);
}

/* ---- a script of sessions ---- */

#define SESSION 25 /* operations between opening and closing */

/* All kinds of operations, another segment now and then, large values. */
static void session(model *m, const char *path, int sync, int ops, int number)
{
    kv_options o;
    uint64_t done;
    int i, e;

    kv_options_init(&o);
    o.thread = 0;
    o.sync = sync;
    o.interval = 1;
    m->op = "open";
    if (model_open(m, path, &o) != KV_OK) {
        m->refused++;
        return;
    }
    for (i = 0; i < ops && !m->failed; i++) {
        if (i % 3 == 0)
            big_put(m, i % MODEL_NS, (int)roll(MODEL_KEYS), 7000);
        else if (i == 7)
            big_put(m, 1, 3, 20000);
        else if (i == 13)
            op_expire(m, 1, 3, 100000);
        else if (i == 15)
            big_put(m, 1, 3, 18000);
        else if (i == 17)
            op_batch(m, 2, MODEL_BATCH);
        else if (i == 19)
            op_drop(m, number % MODEL_NS);
        else
            random_op(m);
        if (i == 20) {
            clock_is(wall + 2500);
            m->op = "tick";
            e = kv_tick(m->h, 50, &done);
            HOLDS(m, e == KV_OK || is_refusal(e));
        }
    }
    /* Some that cannot fail while the system does not: there is nothing to write. */
    op_list(m, 0);
    model_close(m);
}

/* Where a session begins: the files and all that decides what it does. */
typedef struct start {
    char files[400]; /* none: there is no store yet */
    model model;
    uint64_t seed;
    int64_t wall;
} start;

/* But for the index and the lock, which a copy has no use for. */
static void copy_files(const char *from, const char *to)
{
    static char bytes[1 << 20];
    char name[2][700];
    struct dirent *entry;
    DIR *d = opendir(from);
    ssize_t n;
    int in, out;

    remove_files(to);
    if (d == NULL)
        return;
    CHECK(mkdir(to, 0700) == 0);
    while ((entry = readdir(d)) != NULL) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "index.", 6) == 0 ||
            strcmp(entry->d_name, "lock") == 0)
            continue;
        snprintf(name[0], sizeof name[0], "%.400s/%.200s", from, entry->d_name);
        snprintf(name[1], sizeof name[1], "%.400s/%.200s", to, entry->d_name);
        in = open(name[0], O_RDONLY);
        out = open(name[1], O_WRONLY | O_CREAT, 0600);
        n = read(in, bytes, sizeof bytes);
        CHECK(n >= 0 && n < (ssize_t)sizeof bytes && write(out, bytes, (size_t)n) == n);
        close(in);
        close(out);
    }
    closedir(d);
}

static void begin_at(const start *s, model *m, const char *path)
{
    copy_files(s->files, path);
    model_copy(m, &s->model);
    model_seed = s->seed;
    clock_is(s->wall);
}

static void end_at(start *s, model *m, const char *path)
{
    copy_files(path, s->files);
    model_clear(&s->model);
    model_copy(&s->model, m);
    s->seed = model_seed;
    s->wall = wall;
}

/* A session in which a call fails, and a few operations of the next one, in which a call may, too.
 */
static void one_fault(const start *s, const char *path, int number, int sync, long at_call,
                      int forever, int error)
{
    model *m = calloc(1, sizeof *m);

    begin_at(s, m, path);
    m->faults = 1;
    calls = 0;
    fail_from = at_call;
    fail_forever = forever;
    fail_with = error;
    failed_call[0] = 0;
    kv_test_syscall = fail_one;
    session(m, path, sync, SESSION, number);
    session(m, path, sync, 5, number + 1);
    fail_from = 0;
    kv_test_syscall = NULL;
    if (!m->failed) {
        /* A life without faults after it. */
        (void)found_again(m, path);
        if (m->h != NULL)
            model_close(m);
    }
    if (m->failed)
        fprintf(stderr, "call %ld (%s) %s, %s, sync %d, session %d\n", at_call, failed_call,
                forever ? "for ever" : "once", strerror(error), sync, number);
    model_clear(m);
    free(m);
}

/* Also what is there right after the call failed, in the same life. */
static void faults_in_life(const char *path, uint64_t seed, long steps)
{
    static const int errors[] = {EIO, ENOSPC, ENOMEM, EMFILE, EDQUOT, EINTR};
    model *m = calloc(1, sizeof *m);
    kv_options o;
    long i, hurt = 0;

    remove_files(path);
    model_seed = seed;
    clock_is(T0);
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    CHECK(model_open(m, path, &o) == KV_OK);
    m->faults = 1;
    kv_test_syscall = fail_one;
    for (i = 0; i < steps && !m->failed; i++) {
        calls = 0;
        fail_from = 1 + (long)roll(3);
        fail_forever = (int)roll(2);
        fail_with = errors[roll(6)];
        if (fail_with == EINTR)
            fail_forever = 0; /* that would be a program nobody can stop signalling */
        if (roll(3) == 0)
            big_put(m, (int)roll(MODEL_NS), (int)roll(MODEL_KEYS), 5000 + (uint32_t)roll(14000));
        else
            random_op(m);
        fail_from = 0;
        hurt += calls > 0;
        if (i % 50 == 0)
            (void)still_right(m, "after a fault");
        if (kv_load(&m->h->s->log.w[KV_LOG_BROKEN]) || i % 400 == 399) {
            model_close(m);
            if (!found_again(m, path))
                break;
            m->faults = 1;
            /* model_open's handle syncs by interval, which is when told to: as good as none. */
        }
    }
    kv_test_syscall = NULL;
    if (m->failed)
        fprintf(stderr, "faults in life: step %ld, %s, SEED=%llu\n", i, failed_call,
                (unsigned long long)seed);
    CHECK(hurt > steps / 20);
    model_close(m);
    model_clear(m);
    free(m);
}

static long every_call_of(const start *s, const char *path, int number, int sync)
{
    static const int errors[] = {EIO, ENOSPC, ENOMEM, EMFILE, EDQUOT, EINTR};
    long stride = getenv("KV_SHORT") ? 29 : 1, total, n, done = 0;
    int all = getenv("KV_LONG") != NULL, e;

    one_fault(s, path, number, sync, 0, 0, 0);
    total = calls;
    CHECK(total > 50);
    /* The kinds of failure take turns, unless there is time for all. One that never ends may not be
     * EINTR: that would be a program nobody can stop signalling. */
    for (n = 1; n <= total && check_failures == 0; n += stride)
        for (e = 0; e < 6; e++) {
            if (all || e == n % 6)
                one_fault(s, path, number, sync, n, 0, errors[e]), done++;
            if (errors[e] != EINTR && (all || e == (n + number) % 5))
                one_fault(s, path, number, sync, n, 1, errors[e]), done++;
        }
    return done;
}

static void every_call(void)
{
    static const int syncs[] = {KV_SYNC_NONE, KV_SYNC_ALWAYS};
    int sessions = getenv("KV_LONG") ? 500 / SESSION : 50 / SESSION, s, i;
    uint64_t seed = model_seed;
    start *from = calloc(1, sizeof *from);
    model *m = calloc(1, sizeof *m);
    char path[400];
    long done = 0;

    snprintf(path, sizeof path, "%s", at("faults"));
    snprintf(from->files, sizeof from->files, "%s", at("start"));
    for (s = 0; s < 2; s++) {
        remove_files(from->files);
        model_clear(&from->model);
        memset(&from->model, 0, sizeof from->model);
        from->seed = seed;
        from->wall = T0;
        for (i = 0; i < sessions && check_failures == 0; i++) {
            done += every_call_of(from, path, i, syncs[s]);
            begin_at(from, m, path);
            session(m, path, syncs[s], SESSION, i);
            end_at(from, m, path);
            model_clear(m);
        }
    }
    model_clear(&from->model);
    free(from);
    free(m);
    printf("%ld faults in scripts of %d operations\n", done, sessions * SESSION);
    for (i = 0; i < 3 && check_failures == 0; i++)
        faults_in_life(path, seed + (uint64_t)i * 1000, model_steps(1500));
    model_seed = seed + 1;
}

/* By chance, with the helper thread at work. */
static void beside_the_helper(void)
{
    char path[400];
    model *m = calloc(1, sizeof *m);
    kv_options o;
    long i, steps = model_steps(3000);

    snprintf(path, sizeof path, "%s", at("helper"));
    clock_is(T0);
    kv_options_init(&o);
    o.interval = 1;
    CHECK(model_open(m, path, &o) == KV_OK);
    m->faults = 1;
    kv_test_syscall = fail_by_chance;
    __atomic_store_n(&chance, 8, __ATOMIC_RELAXED);
    for (i = 0; i < steps && !m->failed; i++) {
        if (roll(4) == 0)
            big_put(m, (int)roll(MODEL_NS), (int)roll(MODEL_KEYS), 3000 + (uint32_t)roll(15000));
        else
            random_op(m);
        if (roll(100) == 0)
            clock_is(wall + (int64_t)roll(3000));
        if (kv_load(&m->h->s->log.w[KV_LOG_BROKEN]) || i % 1000 == 999) {
            __atomic_store_n(&chance, 0, __ATOMIC_RELAXED);
            model_close(m);
            if (!found_again(m, path))
                break;
            model_close(m);
            if (!HOLDS(m, model_open(m, path, &o) == KV_OK))
                break;
            m->faults = 1;
            __atomic_store_n(&chance, 8, __ATOMIC_RELAXED);
        }
    }
    __atomic_store_n(&chance, 0, __ATOMIC_RELAXED);
    if (m->failed)
        fprintf(stderr, "beside the helper: step %ld\n", i);
    CHECK(m->refused > 0);
    model_close(m);
    kv_test_syscall = NULL;
    model_clear(m);
    free(m);
}

/* ---- memory ---- */

/* These stand before the C library's (or a sanitizer's), which do the work. A compiler that links
 * its sanitizer into the program leaves no room for them. */
#if !defined(__clang__)
#define CAN_FAIL 1

static volatile long allocations, fail_at; /* of the calling thread's; fail_at 0: none */
static int fail_after;

static int fails(void)
{
    if (fail_at == 0)
        return 0;
    allocations++;
    if (allocations != fail_at && !(fail_after && allocations > fail_at))
        return 0;
    errno = ENOMEM;
    return 1;
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

void *malloc(size_t n)
{
    static void *(*real)(size_t);

    if (real == NULL)
        *(void **)(&real) = next("malloc");
    return fails() ? NULL : real(n);
}

void *calloc(size_t n, size_t size)
{
    static void *(*real)(size_t, size_t);

    if (real == NULL)
        *(void **)(&real) = next("calloc");
    return fails() ? NULL : real(n, size);
}

void *realloc(void *p, size_t n)
{
    static void *(*real)(void *, size_t);

    if (real == NULL)
        *(void **)(&real) = next("realloc");
    return fails() ? NULL : real(p, n);
}

char *strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = malloc(n);

    return p != NULL ? memcpy(p, s, n) : NULL;
}
#else
#define CAN_FAIL 0
static long allocations, fail_at;
static int fail_after;
#endif

/* Valgrind puts its own allocator before everybody's. */
static int can_fail(void)
{
    void *volatile p;

    if (!CAN_FAIL)
        return 0;
    allocations = 0;
    fail_at = 1;
    p = malloc(1);
    fail_at = 0;
    free(p);
    return p == NULL;
}

typedef struct scene {
    char path[400];
    kv_options o;
    kv *h;
    kv_ns *ns;
    int round;
} scene;

static kv_value large(void)
{
    kv_value v = {KV_STRING, 40000, NULL, 0, 0};

    v.data = model_noise;
    return v;
}

static int do_open(scene *s)
{
    kv *h = NULL;
    int e;

    kv_close(s->h);
    s->h = NULL;
    e = kv_open(s->path, &s->o, &h);
    s->h = h;
    return e;
}

static int do_open_readonly(scene *s)
{
    kv_options o = s->o;
    kv *h = NULL;
    int e;

    o.readonly = 1;
    e = kv_open(s->path, &o, &h);
    kv_close(h);
    return e;
}

static int do_open_memory(scene *s)
{
    kv *h = NULL;
    int e = kv_open(":memory:", &s->o, &h);

    kv_close(h);
    return e;
}

static int do_open_new(scene *s)
{
    kv *h = NULL;
    char path[440];
    int e;

    snprintf(path, sizeof path, "%.380s-%d", s->path, s->round);
    e = kv_open(path, &s->o, &h);
    kv_close(h);
    return e;
}

static int do_namespace(scene *s)
{
    kv_ns *ns = NULL;
    int e = kv_namespace(s->h, "fresh", 5, "text", 4, 1, &ns);

    kv_ns_close(ns);
    return e;
}

static int do_put(scene *s)
{
    kv_value v = {KV_STRING, 9, "something", 0, 0};
    kv_record old;

    return kv_put(s->ns, "large", 5, &v, NULL, NULL, &old);
}

static int do_put_large(scene *s)
{
    kv_value v = large();

    return kv_put(s->ns, "large2", 6, &v, NULL, NULL, NULL);
}

static int do_put_segment(scene *s)
{
    kv_value v = {KV_STRING, 16000, NULL, 0, 0};
    int e = KV_OK, i;

    v.data = model_noise;
    /* As one: the model of this is that the first that fails ends it. */
    for (i = 0; i < 8 && e == KV_OK; i++)
        e = kv_put(s->ns, "segment", 7, &v, NULL, NULL, NULL);
    return e;
}

static int do_delete(scene *s)
{
    kv_record old;

    return kv_delete(s->ns, "large", 5, NULL, NULL, &old);
}

static int do_many(scene *s)
{
    kv_item items[3];
    int i;

    memset(items, 0, sizeof items);
    for (i = 0; i < 3; i++) {
        items[i].key = i == 0 ? "one" : i == 1 ? "two" : "large";
        items[i].len = strlen(items[i].key);
        items[i].value = large();
    }
    return kv_put_many(s->ns, items, 3, NULL, NULL);
}

static int do_incr(scene *s)
{
    kv_value by = {KV_INTEGER, 0, NULL, 3, 0}, out;

    return kv_incr(s->ns, "n", 1, &by, NULL, &out, NULL);
}

/* A document that does not fit the record it was, put and then edited. */
static int do_edit(scene *s)
{
    static char text[40002];
    kv_value v = {KV_JSON, 7, "{\"n\":1}", 0, 0};
    kv_edit edit = {0};
    kv_edited out;
    int e = kv_put(s->ns, "doc", 3, &v, NULL, NULL, NULL);

    memset(text, 'x', sizeof text);
    text[0] = text[sizeof text - 1] = '"';
    edit.op = KV_EDIT_SET;
    edit.path = "a.b";
    edit.path_len = 3;
    edit.json = text;
    edit.json_len = sizeof text;
    if (e == KV_OK)
        e = kv_edit_field(s->ns, "doc", 3, &edit, &out);
    edit.op = KV_EDIT_APPEND;
    if (e == KV_OK)
        e = kv_edit_field(s->ns, "doc", 3, &edit, &out);
    edit.op = KV_EDIT_MERGE;
    edit.path_len = 0;
    edit.json = "{\"a\":null,\"n\":{\"x\":1}}";
    edit.json_len = (uint32_t)strlen(edit.json);
    return e == KV_OK ? kv_edit_field(s->ns, "doc", 3, &edit, &out) : e;
}

static int do_get_field(scene *s)
{
    kv_value v;
    int e = kv_get_field(s->ns, "large", 5, "a", 1, &v);

    return e == KV_ENOTJSON ? KV_OK : e;
}

static int do_expire(scene *s)
{
    return kv_expire(s->ns, "large", 5, 100000);
}

static int do_get(scene *s)
{
    kv_record r;

    return kv_get(s->ns, "large", 5, &r);
}

static int do_list(scene *s)
{
    kv_iter *it = NULL;
    static char room[16384];
    kv_record r;
    int e;

    if (kv_iter_size() > sizeof room)
        return KV_EINVAL;
    it = (kv_iter *)(void *)(room + (16 - (uintptr_t)room % 16));
    e = kv_iter_init(it, s->ns, NULL);
    while (e == KV_OK)
        e = kv_iter_next(it, &r);
    return e == KV_ENOTFOUND ? KV_OK : e;
}

static int do_count(scene *s)
{
    uint64_t n;

    return kv_count(s->ns, NULL, &n);
}

static int do_names(scene *s)
{
    kv_ns_info info;
    int e;

    memset(&info, 0, sizeof info);
    do {
        e = kv_ns_next(s->h, &info);
    } while (e == KV_OK);
    return e == KV_ENOTFOUND ? KV_OK : e;
}

static int do_prefix(scene *s)
{
    uint64_t n;

    return kv_delete_prefix(s->ns, "k", 1, &n);
}

static int do_drop(scene *s)
{
    return kv_drop(s->h, "n", 1, NULL);
}

static int do_check(scene *s)
{
    return kv_check(s->h);
}

static int do_backup(scene *s)
{
    char path[440];
    uint64_t n;

    snprintf(path, sizeof path, "%.380s-copy%d", s->path, s->round);
    return kv_backup(s->h, path, &n);
}

static int do_tick(scene *s)
{
    uint64_t n;

    return kv_tick(s->h, 1000, &n);
}

static int do_sync(scene *s)
{
    return kv_sync(s->h);
}

static void set_up(scene *s)
{
    kv_value v = large(), small = {KV_STRING, 5, "small", 0, 0};
    kv_write w = {0};
    char key[8];
    int i;

    remove_files(s->path);
    s->h = NULL;
    if (!CHECK(kv_open(s->path, &s->o, &s->h) == KV_OK &&
               kv_namespace(s->h, "n", 1, NULL, 0, 1, &s->ns) == KV_OK))
        exit(1);
    kv_ns_close(s->ns);
    CHECK(kv_namespace(s->h, "n", 1, NULL, 0, 1, &s->ns) == KV_OK);
    CHECK(kv_put(s->ns, "large", 5, &v, NULL, NULL, NULL) == KV_OK);
    w.flags = KV_TTL;
    w.ttl = 1000;
    for (i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "k%02d", i % 100);
        CHECK(kv_put(s->ns, key, 3, &small, i % 3 ? NULL : &w, NULL, NULL) == KV_OK);
    }
    /* Buffers as they are at first. */
    kv_ns_close(s->ns);
    CHECK(kv_namespace(s->h, "n", 1, NULL, 0, 1, &s->ns) == KV_OK);
    clock_is(wall + 1500);
}

/* Every allocation of each call fails, once and from there on. */
static void every_allocation(void)
{
    static const struct {
        const char *name;
        int (*call)(scene *s);
        int writes; /* revisions it may have moved when it fails: those of a prefix of it */
    } all[] = {
        {"open", do_open, 0},
        {"open readonly", do_open_readonly, 0},
        {"open in memory", do_open_memory, 0},
        {"open new", do_open_new, 0},
        {"namespace", do_namespace, 0},
        {"put", do_put, 0},
        {"put large", do_put_large, 0},
        {"put a segment", do_put_segment, 8},
        {"delete", do_delete, 0},
        {"put_many", do_many, 0},
        {"incr", do_incr, 0},
        {"edit", do_edit, 4},
        {"get a field", do_get_field, 0},
        {"expire", do_expire, 0},
        {"get", do_get, 0},
        {"list", do_list, 0},
        {"count", do_count, 0},
        {"names", do_names, 0},
        {"delete_prefix", do_prefix, 30},
        {"drop", do_drop, 0},
        {"check", do_check, 0},
        {"backup", do_backup, 0},
        {"tick", do_tick, 0},
        {"sync", do_sync, 0},
    };
    scene *s = calloc(1, sizeof *s);
    uint64_t rev;
    size_t i;
    long n, hit, failed = 0;
    int e, after;

    if (!can_fail()) {
        free(s);
        return;
    }
    snprintf(s->path, sizeof s->path, "%s", at("memory"));
    clock_is(T0);
    kv_options_init(&s->o);
    s->o.thread = 0;
    s->o.sync = KV_SYNC_NONE;
    for (i = 0; i < sizeof all / sizeof all[0]; i++)
        for (after = 0; after < 2; after++)
            for (n = 1, hit = 1; hit; n++) {
                set_up(s);
                s->round++;
                rev = kv_rev(s->h);
                if (all[i].call == do_open || all[i].call == do_open_readonly) {
                    kv_ns_close(s->ns);
                    kv_close(s->h);
                    s->h = NULL;
                    s->ns = NULL;
                }
                allocations = 0;
                fail_after = after;
                fail_at = n;
                e = all[i].call(s);
                hit = allocations >= n;
                fail_at = 0;
                failed += hit;
                if (!CHECK(e == KV_ENOMEM || e == KV_OK) || !CHECK(hit || e == KV_OK)) {
                    fprintf(stderr, "%s, allocation %ld%s: %s: %s\n", all[i].name, n,
                            after ? " and all after it" : "", kv_errname(e), kv_message());
                    hit = 0;
                }
                if (s->h == NULL)
                    CHECK(kv_open(s->path, &s->o, &s->h) == KV_OK);
                if (e == KV_ENOMEM)
                    CHECK(kv_rev(s->h) >= rev && kv_rev(s->h) <= rev + (uint64_t)all[i].writes);
                if (!CHECK(kv_check(s->h) == KV_OK)) {
                    fprintf(stderr, "%s, allocation %ld: %s\n", all[i].name, n, kv_message());
                    hit = 0;
                }
                kv_ns_close(s->ns);
                s->ns = NULL;
                rev = kv_rev(s->h);
                kv_close(s->h);
                CHECK(kv_open(s->path, &s->o, &s->h) == KV_OK && kv_rev(s->h) == rev &&
                      kv_check(s->h) == KV_OK);
                kv_close(s->h);
                s->h = NULL;
            }
    CHECK(failed > 50);
    if (getenv("VERBOSE"))
        fprintf(stderr, "%ld failed allocations\n", failed);
    free(s);
}

static int64_t began;

static void done(const char *what)
{
    if (getenv("VERBOSE"))
        fprintf(stderr, "%6lld ms  %s\n", (long long)((kv_os_monotonic() - began) / 1000000), what);
}

int main(void)
{
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    model_start("test_faults");
    began = kv_os_monotonic();
    model_keys();
    every_allocation();
    done("allocations");
    every_call();
    done("system calls");
    beside_the_helper();
    done("beside the helper");
    remove_root();
    return check_done("test_faults");
}
