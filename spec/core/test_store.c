/* SPDX-License-Identifier: MIT
 *
 * test_store.c - the whole store: every call with its errors and edges, and random operations with
 * clock jumps and reopens against the model of model.h, with kv_check() on the way; in memory and
 * on disk.
 */
#define _GNU_SOURCE
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define T0 1900000000000LL /* ms; where the clock stands at first */

static int64_t wall;

static void clock_is(int64_t ms)
{
    wall = ms;
    kv_test_clock_set(ms);
}

static kv *open_at(const char *path, const kv_options *o)
{
    kv *h = NULL;
    int e = kv_open(path, o, &h);

    if (e != KV_OK)
        fprintf(stderr, "open %s: %s\n", path, kv_message());
    CHECK(e == KV_OK);
    if (h == NULL)
        exit(1);
    return h;
}

static kv *open_quiet(const char *path)
{
    kv_options o;

    kv_options_init(&o);
    o.thread = 0;
    return open_at(path, &o);
}

static kv_ns *space_of(kv *h, const char *name)
{
    kv_ns *ns = NULL;

    if (!CHECK(kv_namespace(h, name, strlen(name), NULL, 0, 1, &ns) == KV_OK)) {
        fprintf(stderr, "%s\n", kv_message());
        exit(1);
    }
    return ns;
}

static kv_value text(const char *s)
{
    kv_value v = {KV_STRING, 0, NULL, 0, 0};

    v.len = (uint32_t)strlen(s);
    v.data = s;
    return v;
}

static kv_value bytes(const char *p, size_t n)
{
    kv_value v = {KV_STRING, 0, NULL, 0, 0};

    v.len = (uint32_t)n;
    v.data = p;
    return v;
}

static kv_value integer(int64_t i)
{
    kv_value v = {KV_INTEGER, 0, NULL, 0, 0};

    v.integer = i;
    return v;
}

static kv_value number(double d)
{
    kv_value v = {KV_NUMBER, 0, NULL, 0, 0};

    v.number = d;
    return v;
}

static int put(kv_ns *ns, const char *key, const char *value)
{
    kv_value v = text(value);

    return kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL);
}

static int is(kv_ns *ns, const char *key, const char *value)
{
    kv_record r;
    int e = kv_get(ns, key, strlen(key), &r);

    if (value == NULL)
        return e == KV_ENOTFOUND;
    return e == KV_OK && r.value.type == KV_STRING && r.value.len == strlen(value) &&
           memcmp(r.value.data, value, r.value.len) == 0;
}

static kv_stats stats_of(kv *h)
{
    kv_stats s;

    memset(&s, 0, sizeof s);
    CHECK(kv_get_stats(h, &s) == KV_OK);
    return s;
}

static int sound(kv *h)
{
    int e = kv_check(h);

    if (e != KV_OK)
        fprintf(stderr, "check: %s\n", kv_message());
    return e == KV_OK;
}

/* ---- random operations against the model ---- */

static void random_options(kv_options *o, int thread)
{
    kv_options_init(o);
    o->thread = thread;
    o->interval = thread ? 1 : 1000;
    o->sync = (int)roll(8) ? KV_SYNC_NONE + (int)roll(2) * (KV_SYNC_INTERVAL - KV_SYNC_NONE)
                           : KV_SYNC_ALWAYS;
}

/* Small steps back are held over; large ones have a test of their own, since they may or may not
 * bring back what had expired. */
static void jump(void)
{
    switch (roll(6)) {
    case 0:
        clock_is(wall - (int64_t)roll(30000));
        break;
    case 1:
        clock_is(wall + (int64_t)roll(3600000));
        break;
    case 2:
        if (roll(20) == 0)
            clock_is(wall + (int64_t)roll(86400000LL * 3650));
        break;
    default:
        clock_is(wall + (int64_t)roll(3000));
    }
}

/* The high-water mark of the clock: a step back may not pass what the store has held by a minute,
 * jumps behind one another could. */
static int64_t high;

static void random_run(const char *path, long steps, long every, int thread, long reopen_every)
{
    uint64_t seed = model_seed;
    model *m = calloc(1, sizeof *m);
    kv_options o;
    int on_disk = strcmp(path, ":memory:") != 0;
    long i;

    clock_is(T0);
    high = wall;
    model_keys();
    random_options(&o, thread);
    if (!CHECK(model_open(m, path, &o) == KV_OK))
        exit(1);
    for (i = 1; i <= steps && !m->failed; i++) {
        if (roll(40) == 0) {
            jump();
            if (wall > high)
                high = wall;
            if (wall < high - 50000)
                clock_is(high - 50000);
        }
        random_op(m);
        if (i % every == 0) {
            m->op = "check";
            HOLDS(m, sound(m->h));
            if (every > 1)
                HOLDS(m, model_same(m));
        }
        if (on_disk && roll((uint64_t)reopen_every) == 0) {
            /* What is not written to holds the clock no longer than the log remembers it. */
            uint64_t done;
            m->op = "before closing";
            op_expire(m, 0, 0, 30000);
            HOLDS(m, kv_tick(m->h, UINT64_MAX, &done) == KV_OK);
            model_close(m);
            random_options(&o, thread);
            m->op = "reopen";
            if (!HOLDS(m, model_open(m, path, &o) == KV_OK)) {
                fprintf(stderr, "%s\n", kv_message());
                exit(1);
            }
            HOLDS(m, kv_rev(m->h) == m->rev);
            HOLDS(m, kv_report(m->h)[0] == 0 || strstr(kv_report(m->h), "clock"));
            HOLDS(m, model_same(m));
        }
    }
    if (m->failed) {
        fprintf(stderr, "%s: SEED=%llu broke at step %ld, in %s\n", path, (unsigned long long)seed,
                i - 1, m->op);
    } else {
        uint64_t done, want = 0;
        int64_t now;
        int n, k;

        m->op = "the end";
        HOLDS(m, kv_tick(m->h, UINT64_MAX, &done) == KV_OK);
        now = kv_now(m->h);
        for (n = 0; n < MODEL_NS; n++)
            for (k = 0; k < MODEL_KEYS; k++)
                want += is_live(&m->space[n].rec[k], now);
        HOLDS(m, stats_of(m->h).keys == want);
        HOLDS(m, model_same(m));
        HOLDS(m, sound(m->h));
    }
    model_close(m);
    model_clear(m);
    free(m);
}

/* Timers beyond 2109, and the first step beyond it: the wheel keeps a second of them. */
static void far_away(void)
{
    static const int64_t years[] = {2106, 2109, 2110, 2300, 5100};
    kv_value v = {KV_STRING, 1, "v", 0, 0};
    kv_write w = {0};
    uint64_t done;
    kv *h = NULL;
    kv_ns *ns = NULL;
    char key[8];
    size_t i;

    clock_is(T0);
    CHECK(kv_open(":memory:", NULL, &h) == KV_OK);
    ns = space_of(h, "far");
    w.flags = KV_EXPIRATION;
    for (i = 0; i < sizeof years / sizeof years[0]; i++) {
        snprintf(key, sizeof key, "%d", (int)years[i]);
        w.expires = (years[i] - 1970) * INT64_C(31556952000) + (int64_t)i * 77;
        CHECK(kv_put(ns, key, 4, &v, &w, NULL, NULL) == KV_OK && kv_check(h) == KV_OK);
    }
    clock_is(INT64_C(140) * 31556952000);
    CHECK(kv_put(ns, "now", 3, &v, &w, NULL, NULL) == KV_OK && kv_check(h) == KV_OK);
    CHECK(kv_tick(h, UINT64_MAX, &done) == KV_OK && kv_check(h) == KV_OK);
    CHECK(stats_of(h).keys == 4); /* of 2110, 2300, 5100, and the one of now */
    CHECK(kv_exists(ns, "2109", 4) == KV_ENOTFOUND && kv_exists(ns, "2300", 4) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    clock_is(T0);
}

static void random_runs(void)
{
    random_run(":memory:", model_steps(400), 1, 0, 1);
    random_run(at("small"), model_steps(400), 1, 0, 60);
    random_run(":memory:", model_steps(12000), 1000, 0, 1);
    random_run(at("long"), model_steps(12000), 1000, 0, 800);
    random_run(at("thread"), model_steps(6000), 1000, 1, 1000);
}

/* ---- every call, its errors and edges ---- */

static void opening(void)
{
    kv_options o;
    kv *h = NULL, *second = NULL;
    FILE *f;

    CHECK(kv_open(NULL, NULL, &h) == KV_EINVAL);
    CHECK(kv_open("", NULL, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.sync = 3;
    CHECK(kv_open(at("bad"), &o, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.interval = 0;
    CHECK(kv_open(at("bad"), &o, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.mode = 01000;
    CHECK(kv_open(at("bad"), &o, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.timeout = -1;
    CHECK(kv_open(at("bad"), &o, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.max_value = KV_MAX_VALUE_CAP + 1ull;
    CHECK(kv_open(at("bad"), &o, &h) == KV_EINVAL);
    kv_options_init(&o);
    o.create = 0;
    CHECK(kv_open(at("bad"), &o, &h) == KV_ENOTFOUND);
    CHECK(access(at("bad"), F_OK) != 0);
    o.create = 1;
    o.readonly = 1;
    CHECK(kv_open(at("bad"), &o, &h) == KV_ENOTFOUND);
    CHECK(access(at("bad"), F_OK) != 0 && h == NULL);

    /* Neither a file nor somebody's directory becomes a store. */
    f = fopen(at("file"), "w");
    CHECK(f != NULL && fclose(f) == 0);
    CHECK(kv_open(at("file"), NULL, &h) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "file") != NULL);
    CHECK(mkdir(at("theirs"), 0700) == 0);
    f = fopen(at("theirs/letter"), "w");
    CHECK(f != NULL && fclose(f) == 0);
    CHECK(kv_open(at("theirs"), NULL, &h) == KV_EUNSUPPORTED);
    CHECK(access(at("theirs/letter"), F_OK) == 0);
    CHECK(mkdir(at("empty"), 0700) == 0);
    kv_options_init(&o);
    o.create = 0;
    CHECK(kv_open(at("empty"), &o, &h) == KV_EUNSUPPORTED ||
          kv_open(at("empty"), &o, &h) == KV_ENOTFOUND);
    o.create = 1;
    CHECK(kv_open(at("empty"), &o, &h) == KV_OK);
    kv_close(h);
    kv_close(NULL);

    /* Missing parents are made; a store is found again by other spellings of its path. */
    h = open_at(at("deep/er/still"), NULL);
    CHECK(kv_open(at("deep//er/../er/still/"), NULL, &second) == KV_OK);
    CHECK(kv_report(h)[0] == 0 && kv_rev(h) == 0);
    kv_close(second);
    kv_close(h);

    /* A file system where mappings are not coherent. */
    kv_test_fs = 0x6969;
    CHECK(kv_open(at("nfs"), NULL, &h) == KV_EUNSUPPORTED);
    kv_options_init(&o);
    o.unsafe_fs = 1;
    CHECK(kv_open(at("nfs"), &o, &h) == KV_OK);
    kv_close(h);
    kv_test_fs = 0;

    /* A newer format, in either slot. */
    h = open_quiet(at("newer"));
    kv_close(h);
    f = fopen(at("newer/meta"), "r+");
    CHECK(f != NULL && fseek(f, 8, SEEK_SET) == 0 && fputc(9, f) == 9 && fclose(f) == 0);
    CHECK(kv_open(at("newer"), NULL, &h) == KV_EUNSUPPORTED);

    CHECK(strcmp(kv_errname(KV_ETOOBIG), "too_big") == 0);
    CHECK(strcmp(kv_version(), KV_VERSION) == 0);
}

static void keys_and_values(kv *h)
{
    static const kv_value odd[] = {{7, 0, NULL, 0, 0}, {0, 0, NULL, 0, 0}, {-1, 0, NULL, 0, 0}};
    char big[KV_MAX_KEY + 1];
    kv_ns *ns = space_of(h, "values");
    kv_record r = {{0, 0, NULL, 0, 0}, NULL, 0, 0, NULL, 0, 0, 0, 0, 0};
    kv_value v = text("x");
    uint64_t rev = kv_rev(h);
    size_t i;

    memset(big, 'k', sizeof big);
    CHECK(kv_put(ns, big, 0, &v, NULL, NULL, NULL) == KV_EINVAL);
    CHECK(kv_put(ns, NULL, 3, &v, NULL, NULL, NULL) == KV_EINVAL);
    CHECK(kv_put(ns, big, sizeof big, &v, NULL, NULL, NULL) == KV_ETOOBIG);
    CHECK(kv_get(ns, big, 0, &r) == KV_EINVAL);
    CHECK(kv_get(ns, big, sizeof big, &r) == KV_ETOOBIG);
    CHECK(kv_exists(ns, big, 0) == KV_EINVAL);
    CHECK(kv_delete(ns, big, 0, NULL, NULL, NULL) == KV_EINVAL);
    CHECK(kv_expire(ns, big, sizeof big, 5) == KV_ETOOBIG);
    CHECK(kv_put(ns, big, KV_MAX_KEY, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, big, KV_MAX_KEY, &r) == KV_OK && r.key_len == KV_MAX_KEY);
    CHECK(kv_get(ns, big, KV_MAX_KEY - 1, &r) == KV_ENOTFOUND);
    for (i = 0; i < sizeof odd / sizeof odd[0]; i++)
        CHECK(kv_put(ns, "o", 1, &odd[i], NULL, NULL, NULL) == KV_EINVAL);
    v = number(NAN);
    CHECK(kv_put(ns, "o", 1, &v, NULL, NULL, NULL) == KV_EINVAL);
    v = number(-INFINITY);
    CHECK(kv_put(ns, "o", 1, &v, NULL, NULL, NULL) == KV_EINVAL);
    CHECK(kv_rev(h) == rev + 1);

    v = integer(INT64_MIN);
    CHECK(kv_put(ns, "i", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "i", 1, &r) == KV_OK && r.value.type == KV_INTEGER &&
          r.value.integer == INT64_MIN);
    v = number(-0.0);
    CHECK(kv_put(ns, "n", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "n", 1, &r) == KV_OK && r.value.type == KV_NUMBER && signbit(r.value.number));
    v = number(5e-324);
    CHECK(kv_put(ns, "n", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "n", 1, &r) == KV_OK && r.value.number == 5e-324);
    v = bytes(NULL, 0);
    CHECK(kv_put(ns, "e", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "e", 1, &r) == KV_OK && r.value.type == KV_STRING && r.value.len == 0);
    v.type = KV_NULL;
    CHECK(kv_put(ns, "\0", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "\0", 1, &r) == KV_OK && r.value.type == KV_NULL);
    kv_ns_close(ns);
}

/* Each limit of a value: what is allowed, and one more. */
static void sizes(const char *path)
{
    kv_options o;
    kv *h;
    kv_ns *ns;
    kv_value v;
    kv_record r;
    kv_item item;
    size_t failed = 9, n;
    char *p = calloc(1, KV_MAX_VALUE + 1u);
    static const size_t edges[] = {0,     1,     2,     3,     4,     16383,
                                   16384, 16385, 65535, 65536, 65537, 1 << 20};
    size_t i;

    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    h = open_at(path, &o);
    ns = space_of(h, "sizes");
    for (n = 0; n <= KV_MAX_VALUE; n++)
        p[n] = (char)(n * 31 >> 3);
    for (i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        v = bytes(p, edges[i]);
        CHECK(kv_put(ns, "v", 1, &v, NULL, NULL, NULL) == KV_OK);
        CHECK(kv_get(ns, "v", 1, &r) == KV_OK && r.value.len == edges[i] &&
              memcmp(r.value.data, p, edges[i]) == 0);
    }
    v = bytes(p, KV_MAX_VALUE);
    CHECK(kv_put(ns, "max", 3, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "max", 3, &r) == KV_OK && r.value.len == KV_MAX_VALUE &&
          memcmp(r.value.data, p, KV_MAX_VALUE) == 0);
    v.len++;
    CHECK(kv_put(ns, "max", 3, &v, NULL, NULL, NULL) == KV_ETOOBIG);
    memset(&item, 0, sizeof item);
    item.key = "max";
    item.len = 3;
    item.value = v;
    CHECK(kv_put_many(ns, &item, 1, NULL, &failed) == KV_ETOOBIG && failed == 0);
    CHECK(kv_get(ns, "max", 3, &r) == KV_OK && r.value.len == KV_MAX_VALUE);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);

    /* The store's own limit, given later. */
    o.max_value = 100;
    if (strcmp(path, ":memory:") != 0) {
        h = open_at(path, &o);
        ns = space_of(h, "sizes");
        v = bytes(p, 100);
        CHECK(kv_put(ns, "small", 5, &v, NULL, NULL, NULL) == KV_OK);
        v = bytes(p, 101);
        CHECK(kv_put(ns, "small", 5, &v, NULL, NULL, NULL) == KV_ETOOBIG);
        CHECK(kv_get(ns, "max", 3, &r) == KV_OK && r.value.len == KV_MAX_VALUE);
        kv_ns_close(ns);
        kv_close(h);
        h = open_quiet(path);
        ns = space_of(h, "sizes");
        CHECK(kv_put(ns, "small", 5, &v, NULL, NULL, NULL) == KV_ETOOBIG);
        CHECK(sound(h));
        kv_ns_close(ns);
        kv_close(h);
    }
    free(p);
}

static void options(kv *h)
{
    static char meta[KV_MAX_META + 1];
    kv_ns *ns = space_of(h, "options");
    kv_value v = text("x");
    kv_record r, old;
    kv_write w;
    uint64_t rev, id, before = kv_rev(h);
    int64_t created;

    memset(&w, 0, sizeof w);
    w.flags = KV_TTL;
    for (w.ttl = -1; w.ttl <= 0; w.ttl++)
        CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_EINVAL);
    w.ttl = KV_MAX_TTL + 1;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_EINVAL);
    w.flags = KV_EXPIRATION;
    w.expires = KV_MAX_TIME + 1;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_EINVAL);
    w.expires = wall;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ERANGE);
    w.expires = -5;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ERANGE);
    w.flags = KV_META;
    w.meta = meta;
    w.meta_len = KV_MAX_META + 1;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ETOOBIG);
    CHECK(kv_rev(h) == before && is(ns, "k", NULL));

    /* created and id stay, ttl and metadata do not. */
    w.flags = KV_META | KV_TTL;
    w.meta_len = KV_MAX_META;
    w.ttl = KV_MAX_TTL;
    memset(&old, 1, sizeof old);
    CHECK(kv_put(ns, "k", 1, &v, &w, &rev, &old) == KV_OK && old.rev == 0);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.meta_len == KV_MAX_META && r.rev == rev &&
          r.id == rev && r.created == wall && r.updated == wall && r.expires == wall + KV_MAX_TTL);
    id = r.id;
    created = r.created;
    clock_is(wall + 10);
    CHECK(put(ns, "k", "y") == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.meta_len == 0 && r.rev == rev + 1 && r.id == id &&
          r.created == created && r.updated == wall && r.expires == 0);
    /* The first of ttl, expiration, keep_ttl wins. */
    w.flags = KV_TTL | KV_EXPIRATION | KV_KEEP_TTL;
    w.ttl = 1000;
    w.expires = wall + 5000;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.expires == wall + 1000);
    w.flags = KV_EXPIRATION | KV_KEEP_TTL;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.expires == wall + 5000);
    w.flags = KV_KEEP_TTL | KV_META;
    w.meta = "{}";
    w.meta_len = 2;
    clock_is(wall + 10);
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.expires == wall + 4990 && r.meta_len == 2);
    w.flags = KV_KEEP_META;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.expires == 0 && r.meta_len == 2);

    /* expire and persist change the revision, not `updated`. */
    clock_is(wall + 10);
    CHECK(kv_expire(ns, "k", 1, KV_MAX_TTL + 1) == KV_EINVAL);
    CHECK(kv_expire(ns, "none", 4, 5) == KV_ENOTFOUND);
    rev = r.rev;
    CHECK(kv_expire(ns, "k", 1, 77) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.rev == rev + 1 && r.updated == wall - 10 &&
          r.expires == wall + 77 && r.meta_len == 2 && r.id == id);
    {
        int had = 5;
        CHECK(kv_persist(ns, "none", 4, &had) == KV_ENOTFOUND && had == 5);
        CHECK(kv_persist(ns, "k", 1, &had) == KV_OK && had == 1);
        CHECK(kv_persist(ns, "k", 1, &had) == KV_OK && had == 0);
        CHECK(kv_rev(h) == rev + 2);
    }
    CHECK(kv_expire(ns, "k", 1, 0) == KV_OK && is(ns, "k", NULL));
    CHECK(kv_expire(ns, "k", 1, -1) == KV_ENOTFOUND);

    /* To the millisecond. */
    w.flags = KV_TTL;
    w.ttl = 1;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK && kv_exists(ns, "k", 1) == KV_OK);
    clock_is(wall + 1);
    CHECK(kv_exists(ns, "k", 1) == KV_ENOTFOUND);
    w.flags = KV_IF_EXIST;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ENOTFOUND);
    w.flags = KV_IF_NOT_EXIST;
    CHECK(kv_put(ns, "k", 1, &v, &w, &rev, &old) == KV_OK && old.rev == 0);
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, &old) == KV_EEXISTS && old.rev == rev);
    CHECK(kv_get(ns, "k", 1, &r) == KV_OK && r.id == rev && r.created == wall);
    w.flags = KV_IF_REV;
    w.if_rev = 0;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ECONFLICT);
    CHECK(kv_put(ns, "l", 1, &v, &w, NULL, NULL) == KV_OK);
    w.if_rev = rev;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_ECONFLICT);
    CHECK(kv_delete(ns, "k", 1, &w, NULL, NULL) == KV_ECONFLICT);
    CHECK(kv_delete(ns, "none", 4, &w, NULL, NULL) == KV_ECONFLICT);
    w.if_rev = 0;
    CHECK(kv_delete(ns, "none", 4, &w, NULL, NULL) == KV_ENOTFOUND);
    memset(&old, 1, sizeof old);
    CHECK(kv_delete(ns, "none", 4, NULL, NULL, &old) == KV_ENOTFOUND && old.rev == 0);
    CHECK(kv_delete(ns, "k", 1, NULL, NULL, &old) == KV_OK && old.value.len == 1);
    kv_ns_close(ns);
}

static void incrementing(kv *h)
{
    kv_ns *ns = space_of(h, "incr");
    kv_value by = integer(1), out = integer(0), v;
    kv_incr_opts o;
    kv_record r;
    uint64_t rev;

    memset(&o, 0, sizeof o);
    CHECK(kv_incr(ns, "n", 1, &by, NULL, &out, &rev) == KV_OK && out.type == KV_INTEGER &&
          out.integer == 1 && rev == kv_rev(h));
    by = integer(INT64_MAX);
    CHECK(kv_incr(ns, "n", 1, &by, NULL, &out, NULL) == KV_ERANGE && out.integer == 1);
    by = integer(INT64_MAX - 1);
    CHECK(kv_incr(ns, "n", 1, &by, NULL, &out, NULL) == KV_OK && out.integer == INT64_MAX);
    by = number(0.5);
    CHECK(kv_incr(ns, "f", 1, &by, NULL, &out, NULL) == KV_OK && out.type == KV_NUMBER &&
          out.number == 0.5);
    by = number(1e308);
    CHECK(kv_incr(ns, "f", 1, &by, NULL, &out, NULL) == KV_OK);
    CHECK(kv_incr(ns, "f", 1, &by, NULL, &out, NULL) == KV_ERANGE);
    by = number(NAN);
    CHECK(kv_incr(ns, "f", 1, &by, NULL, &out, NULL) == KV_EINVAL);
    by = text("1");
    CHECK(kv_incr(ns, "f", 1, &by, NULL, &out, NULL) == KV_EINVAL);

    /* A string that is one JSON number stays a string. */
    CHECK(put(ns, "s", "41") == KV_OK);
    by = integer(1);
    CHECK(kv_incr(ns, "s", 1, &by, NULL, &out, NULL) == KV_OK && out.integer == 42 &&
          is(ns, "s", "42"));
    CHECK(put(ns, "s", "1.5") == KV_OK);
    CHECK(kv_incr(ns, "s", 1, &by, NULL, &out, NULL) == KV_OK && out.number == 2.5 &&
          is(ns, "s", "2.5"));
    {
        static const char *const bad[] = {"", " 1", "1 ", "0x10", "+1", "01", "NaN", "1e", "one"};
        size_t i;
        for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            CHECK(put(ns, "s", bad[i]) == KV_OK);
            CHECK(kv_incr(ns, "s", 1, &by, NULL, &out, NULL) == KV_ENOTNUMBER);
            CHECK(is(ns, "s", bad[i]));
        }
    }
    /* A document that is one becomes that number. */
    v = text(" \t\r\n41 \n");
    v.type = KV_JSON;
    CHECK(kv_put(ns, "j", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_incr(ns, "j", 1, &by, NULL, &out, NULL) == KV_OK && out.type == KV_INTEGER &&
          out.integer == 42);
    CHECK(kv_incr(ns, "j", 1, &by, NULL, &out, NULL) == KV_OK && out.integer == 43);
    v = text("[1]");
    v.type = KV_JSON;
    CHECK(kv_put(ns, "j", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_incr(ns, "j", 1, &by, NULL, &out, NULL) == KV_ENOTNUMBER);
    v = integer(1);
    v.type = KV_BOOLEAN;
    CHECK(kv_put(ns, "b", 1, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_incr(ns, "b", 1, &by, NULL, &out, NULL) == KV_ENOTNUMBER);

    o.flags = KV_INCR_NO_INIT;
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ENOTFOUND);
    o.flags = KV_INCR_MIN | KV_INCR_MAX | KV_INCR_TTL;
    o.min = integer(0);
    o.max = number(12.5);
    o.init = integer(10);
    o.ttl = 500;
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK && out.integer == 11);
    CHECK(kv_get(ns, "m", 1, &r) == KV_OK && r.expires == wall + 500);
    clock_is(wall + 100);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK && out.integer == 12);
    CHECK(kv_get(ns, "m", 1, &r) == KV_OK && r.expires == wall + 400);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE && out.integer == 12);
    by = integer(-13);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    clock_is(wall + 400);
    by = integer(1);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK && out.integer == 11);
    /* Integers and doubles are compared exactly. */
    o.flags = KV_INCR_MIN | KV_INCR_MAX;
    o.min = number(-9007199254740992.0);
    o.max = number(9007199254740992.0);
    by = integer(INT64_C(9007199254740992) - 11);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK);
    by = integer(1);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    by = integer(INT64_C(-9007199254740992) * 2 - 1);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    by = integer(INT64_C(-9007199254740992));
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK && out.integer == 0);
    o.min = number(-0.5);
    o.max = number(1e300);
    by = integer(-1);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    by = integer(0);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_OK);
    o.min = number(0.5);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    o.min = number(-1e300);
    o.max = number(-0.5);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    o.max = integer(0);
    by = number(0.5);
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_ERANGE);
    by = integer(1);
    o.flags |= KV_INCR_TTL;
    o.ttl = 0;
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_EINVAL);
    o.ttl = 1;
    o.min = text("x");
    CHECK(kv_incr(ns, "m", 1, &by, &o, &out, NULL) == KV_EINVAL);
    kv_ns_close(ns);
}

static void batches(kv *h)
{
    kv_ns *ns = space_of(h, "batch");
    kv_item items[3];
    uint64_t rev = 0, before;
    size_t failed = 9;
    kv_record r;

    memset(items, 0, sizeof items);
    CHECK(kv_put_many(ns, NULL, 0, &rev, &failed) == KV_OK && rev == kv_rev(h) && failed == 9);
    items[0].key = items[2].key = "a";
    items[1].key = "b";
    items[0].len = items[1].len = items[2].len = 1;
    items[0].value = text("1");
    items[1].value = text("2");
    items[2].value = text("3");
    before = kv_rev(h);
    CHECK(kv_put_many(ns, items, 3, &rev, NULL) == KV_OK && rev == before + 3);
    CHECK(is(ns, "a", "3") && is(ns, "b", "2"));
    CHECK(kv_get(ns, "a", 1, &r) == KV_OK && r.rev == before + 3 && r.id == before + 1);
    /* One that fails leaves all as they were; later ones see earlier ones. */
    items[2].write.flags = KV_IF_NOT_EXIST;
    CHECK(kv_put_many(ns, items, 3, &rev, &failed) == KV_EEXISTS && failed == 2);
    items[2].len = 0;
    CHECK(kv_put_many(ns, items, 3, &rev, &failed) == KV_EINVAL && failed == 2);
    items[2].len = 1;
    items[2].write.flags = KV_EXPIRATION;
    items[2].write.expires = 3;
    CHECK(kv_put_many(ns, items, 3, &rev, &failed) == KV_ERANGE && failed == 2);
    CHECK(is(ns, "a", "3") && kv_rev(h) == before + 3);
    kv_ns_close(ns);
}

/* A batch of many segments, and one with large values. */
static void long_batch(const char *path)
{
    kv *h = open_quiet(path);
    kv_ns *ns = space_of(h, "many");
    size_t n = 5000, i;
    kv_item *items = calloc(n, sizeof *items);
    char(*keys)[16] = calloc(n, sizeof *keys);
    char *big = calloc(1, 100000);
    uint64_t rev;
    kv_record r;

    for (i = 0; i < n; i++) {
        snprintf(keys[i], sizeof keys[i], "k%07zu", i * 7919 % n);
        items[i].key = keys[i];
        items[i].len = 8;
        items[i].value = bytes(model_noise + i, 100);
    }
    items[n / 2].value = bytes(big, 100000);
    CHECK(kv_put_many(ns, items, n, &rev, NULL) == KV_OK && rev == n + 1);
    CHECK(stats_of(h).keys == n);
    CHECK(sound(h));
    for (i = 0; i < n; i++)
        if (!CHECK(kv_get(ns, keys[i], 8, &r) == KV_OK && value_is(&r.value, &items[i].value)))
            break;
    kv_ns_close(ns);
    kv_close(h);
    if (strcmp(path, ":memory:") != 0) {
        h = open_quiet(path);
        ns = space_of(h, "many");
        CHECK(kv_rev(h) == n + 1 && stats_of(h).keys == n && sound(h));
        CHECK(kv_delete_prefix(ns, "k000", 4, &rev) == KV_OK && rev == n);
        CHECK(kv_delete_prefix(ns, "k", 1, &rev) == KV_OK && rev == 0);
        CHECK(stats_of(h).keys == 0 && sound(h));
        kv_ns_close(ns);
        kv_close(h);
    }
    free(big);
    free(items);
    free(keys);
}

static void names(kv *h)
{
    char long_name[KV_MAX_NAME + 1];
    kv_ns *ns = NULL, *b;
    kv_ns_info info;
    uint64_t n = 0, keys, first;
    int found = 0;

    memset(long_name, 'n', sizeof long_name);
    CHECK(kv_namespace(h, "", 0, NULL, 0, 1, &ns) == KV_EINVAL);
    CHECK(kv_namespace(h, long_name, sizeof long_name, NULL, 0, 1, &ns) == KV_ETOOBIG);
    CHECK(kv_namespace(h, "none", 4, NULL, 0, 0, &ns) == KV_ENOTFOUND && ns == NULL);
    CHECK(kv_namespace(h, "none", 4, long_name, 5000, 1, &ns) == KV_ETOOBIG);
    CHECK(kv_namespace(h, long_name, KV_MAX_NAME, "what it is for", 14, 1, &ns) == KV_OK);
    first = kv_rev(h);
    CHECK(kv_namespace(h, long_name, KV_MAX_NAME, NULL, 0, 1, &b) == KV_OK && kv_rev(h) == first);
    CHECK(put(ns, "k", "v") == KV_OK && is(b, "k", "v"));
    for (memset(&info, 0, sizeof info); kv_ns_next(h, &info) == KV_OK; n++)
        if (info.name_len == KV_MAX_NAME) {
            found = 1;
            CHECK(info.desc_len == 14 && memcmp(info.desc, "what it is for", 14) == 0);
            CHECK(info.keys == 1 && info.bytes == 2 && strlen(info.name) == KV_MAX_NAME);
        }
    CHECK(found && n == stats_of(h).namespaces);

    CHECK(kv_drop(h, "", 0, &keys) == KV_EINVAL);
    keys = 5;
    CHECK(kv_drop(h, "none", 4, &keys) == KV_OK && keys == 0);
    CHECK(kv_drop(h, long_name, KV_MAX_NAME, &keys) == KV_OK && keys == 1);
    CHECK(is(ns, "k", NULL) && is(b, "k", NULL) &&
          kv_delete(ns, "k", 1, NULL, NULL, NULL) == KV_ENOTFOUND);
    CHECK(kv_namespace(h, long_name, KV_MAX_NAME, NULL, 0, 0, &b) == KV_ENOTFOUND);
    CHECK(put(ns, "l", "w") == KV_OK && is(b, "k", NULL) && is(b, "l", "w"));
    CHECK(sound(h));
    kv_ns_close(b);
    kv_ns_close(ns);
    kv_ns_close(NULL);
}

static void cursors(kv *h)
{
    kv_ns *ns = space_of(h, "cursors"), *other = space_of(h, "cursor");
    char token[KV_MAX_CURSOR], long_key[KV_MAX_KEY], key[KV_MAX_KEY], forged[KV_MAX_CURSOR];
    kv_range r = {0}, p = {0};
    size_t n, len, i, bit;
    int taken = 0;

    memset(long_key, 0xfe, sizeof long_key);
    n = kv_cursor_make(ns, NULL, long_key, sizeof long_key, token);
    CHECK(n > 0 && n <= KV_MAX_CURSOR);
    CHECK(kv_cursor_read(ns, NULL, token, n, key, &len) == KV_OK && len == sizeof long_key);
    n = kv_cursor_make(ns, &r, "key", 3, token);
    CHECK(kv_cursor_read(ns, &r, token, n, key, &len) == KV_OK && len == 3 &&
          memcmp(key, "key", 3) == 0);
    CHECK(kv_cursor_read(other, &r, token, n, key, &len) == KV_EBADCURSOR);
    p.prefix = "k";
    p.prefix_len = 1;
    CHECK(kv_cursor_read(ns, &p, token, n, key, &len) == KV_EBADCURSOR);
    r.flags = KV_REVERSE;
    CHECK(kv_cursor_read(ns, &r, token, n, key, &len) == KV_EBADCURSOR);
    r.flags = KV_KEYS_ONLY;
    CHECK(kv_cursor_read(ns, &r, token, n, key, &len) == KV_OK);
    for (i = 0; i < n; i++)
        for (bit = 0; bit < 8; bit++) {
            memcpy(forged, token, n);
            forged[i] = (char)(forged[i] ^ 1 << bit);
            taken += kv_cursor_read(ns, &r, forged, n, key, &len) != KV_EBADCURSOR;
        }
    for (i = 0; i < n; i++)
        taken += kv_cursor_read(ns, &r, token, i, key, &len) != KV_EBADCURSOR;
    memset(forged, 'A', sizeof forged);
    for (i = 0; i <= sizeof forged; i++)
        taken += kv_cursor_read(ns, &r, forged, i, key, &len) != KV_EBADCURSOR;
    CHECK(taken == 0);
    kv_ns_close(other);
    kv_ns_close(ns);
}

/* Listing while keys come and go: what is there throughout is met once, the rest never twice. */
static void list_beside_changes(kv *h)
{
    kv_ns *ns = space_of(h, "moving"), *mine = space_of(h, "moving");
    kv_iter *it = malloc(kv_iter_size());
    int i, round, back, met[2000], bad = 0;
    char key[16];
    kv_record r;
    kv_range range;

    for (i = 0; i < 2000; i += 2) {
        snprintf(key, sizeof key, "%05d", i);
        CHECK(put(ns, key, "v") == KV_OK);
    }
    for (round = 0; round < 6; round++) {
        memset(met, 0, sizeof met);
        memset(&range, 0, sizeof range);
        back = round % 2;
        range.flags = back ? KV_REVERSE : 0;
        CHECK(kv_iter_init(it, mine, &range) == KV_OK);
        while (kv_iter_next(it, &r) == KV_OK) {
            i = atoi(memcpy(memset(key, 0, sizeof key), r.key, r.key_len));
            met[i]++;
            i = (int)roll(1000) * 2 + 1;
            snprintf(key, sizeof key, "%05d", i);
            if (kv_exists(ns, key, 5) == KV_OK)
                bad += kv_delete(ns, key, 5, NULL, NULL, NULL) != KV_OK;
            else
                bad += put(ns, key, "odd") != KV_OK;
        }
        for (i = 0; i < 2000; i++)
            bad += i % 2 ? met[i] > 1 : met[i] != 1;
    }
    CHECK(bad == 0);
    free(it);
    kv_ns_close(mine);
    kv_ns_close(ns);
}

/* ---- cleaning, expiry, large values ---- */

static void tick_all(kv *h)
{
    uint64_t done;

    CHECK(kv_tick(h, UINT64_MAX, &done) == KV_OK);
}

/* A small set overwritten again and again stays small. */
static void cleaning(const char *path, int thread)
{
    kv_options o;
    kv *h;
    kv_ns *ns;
    kv_stats s;
    kv_record r;
    kv_value v;
    char key[16];
    long n = model_steps(60000), i, worst = 0;
    int keys = 400, on_disk = strcmp(path, ":memory:") != 0, bad = 0;
    static uint32_t last[400];

    kv_options_init(&o);
    o.thread = thread;
    o.sync = KV_SYNC_NONE;
    h = open_at(path, &o);
    ns = space_of(h, "c");
    memset(last, 0, sizeof last);
    for (i = 0; i < n; i++) {
        int k = (int)roll((uint64_t)keys);

        last[k] = (uint32_t)roll(60000);
        snprintf(key, sizeof key, "key%04d", k);
        v = bytes(model_noise + last[k], 40 + last[k] % 200);
        bad += kv_put(ns, key, 7, &v, NULL, NULL, NULL) != KV_OK;
        if (!thread && i % 500 == 0)
            tick_all(h);
        if (i % 1000 == 999) {
            s = stats_of(h);
            if ((long)s.log_bytes > worst)
                worst = (long)s.log_bytes;
        }
    }
    CHECK(bad == 0);
    tick_all(h);
    CHECK(kv_sync(h) == KV_OK);
    s = stats_of(h);
    CHECK(s.cleaned > 0);
    CHECK(s.keys <= (uint64_t)keys);
    /* The goal of a small store is four segments beyond what lives; the head, spares and what waits
     * for a sync come on top. A helper thread may be late. */
    if (!thread)
        CHECK(worst < 12 * (long)KV_SEG_MIN);
    CHECK(s.log_bytes < (thread ? 24u : 12u) * KV_SEG_MIN);
    if (on_disk) {
        int files, tries = 0;

        /* A helper that is not done yet may make a file between the two looks. */
        while (files_of(path, "log.", &files) > s.log_bytes + 4096 && thread && tries++ < 1000) {
            kv_os_sleep(10);
            s = stats_of(h);
        }
        CHECK(files_of(path, "log.", &files) <= s.log_bytes + 4096);
        CHECK(thread || (uint64_t)files == s.segments + s.spares);
    }
    CHECK(sound(h));
    for (i = 0; i < keys; i++) {
        snprintf(key, sizeof key, "key%04d", (int)i % keys);
        if (kv_get(ns, key, 7, &r) != KV_OK)
            continue;
        bad += r.value.len != 40 + last[i] % 200 ||
               memcmp(r.value.data, model_noise + last[i], r.value.len) != 0;
    }
    CHECK(bad == 0);
    kv_ns_close(ns);
    kv_close(h);
    if (on_disk) {
        h = open_quiet(path);
        CHECK(stats_of(h).keys == s.keys && kv_rev(h) == s.rev && sound(h));
        kv_close(h);
    }
}

/* A store that has grown large leaves the small segments it began with, while nobody writes. */
static void large_pages(int thread)
{
    enum { SIZE = 12000, KEYS = 101 * 1024 * 1024 / SIZE };
    kv_options o;
    kv_record r;
    char key[16];
    int i, tries, bad = 0;
    uint64_t id;
    kv_ns *ns;
    kv *h;

    kv_options_init(&o);
    o.thread = thread;
    h = open_at(":memory:", &o);
    ns = space_of(h, "l");
    for (i = 0; i < KEYS; i++) {
        kv_value v = bytes(model_noise + i, SIZE);

        bad += kv_put(ns, key, (size_t)snprintf(key, sizeof key, "%d", i), &v, NULL, NULL, NULL);
    }
    CHECK(bad == 0 && kv_segment_size(h->s) >= KV_SEG_LARGE && kv_clean_small(h->s));
    for (tries = 0; tries < 1000 && kv_clean_small(h->s); tries++) {
        if (!thread) {
            (void)kv_clean_ahead(h->s, 100, 1);
            CHECK(kv_maintain(h->s, 1000, 1) == KV_OK);
        } else {
            kv_os_sleep(10);
        }
    }
    CHECK(!kv_clean_small(h->s));
    for (id = kv_load(&h->s->log.w[KV_LOG_OLDEST]);
         !thread && id <= kv_load(&h->s->log.w[KV_LOG_SPARES]); id++)
        CHECK(kv_log_size_of(&h->s->log, (uint32_t)id) >= KV_SEG_LARGE);
    for (i = 0; i < KEYS; i++)
        bad += kv_get(ns, key, (size_t)snprintf(key, sizeof key, "%d", i), &r) != KV_OK ||
               r.value.len != SIZE || memcmp(r.value.data, model_noise + i, SIZE) != 0;
    CHECK(bad == 0 && stats_of(h).keys == KEYS && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* While the helper judges, another writer's transaction takes a current record out of the index and
 * is undone: it is still the cleaner's to move. */
static struct {
    kv_db *s;
    kv_rec rec;
    kv_found f;
    int erased, undone;
} undoing;

static void undo_meanwhile(const char *point)
{
    kv_db *s = undoing.s;
    uint64_t pos = kv_load(&s->log.w[KV_LOG_CLEAN]), at;
    kv_rec *r = &undoing.rec;
    kv_found *f = &undoing.f;

    if (strcmp(point, "helper: group read") == 0) {
        while (!undoing.erased &&
               kv_log_next(&s->log, &pos, kv_pos(kv_pos_id(pos) + 1, KV_SEG_HEAD), &at, r) == 1) {
            f->hash = kv_index_hash(s, kv_rec_index_ns(r), r->key, r->key_len);
            if (r->kind != KV_REC_PUT ||
                kv_index_find(s, r->ns, r->key, r->key_len, 0, f) != KV_OK || !f->there ||
                f->addr != kv_pos_addr(at))
                continue;
            kv_txn_begin(&s->region);
            kv_hash_erase(&s->region, &f->scan);
            undoing.erased = 1;
        }
    } else if (strcmp(point, "helper: group judged") == 0 && undoing.erased && !undoing.undone) {
        CHECK(kv_txn_undo(&s->region, &undoing.undone) == KV_OK);
    }
}

static void undone_meanwhile(void)
{
    kv_options o;
    kv_value v = bytes(model_noise, 300);
    char key[16];
    kv_ns *ns;
    kv_rec r;
    uint64_t was;
    kv *h;
    int i, n = 0;

    kv_options_init(&o);
    o.thread = 0;
    h = open_at(":memory:", &o);
    ns = space_of(h, "u");
    for (i = 0; i < 200000 && !(i > 20000 && kv_clean_due(h->s)); i++)
        n += kv_put(ns, key,
                    (size_t)snprintf(key, sizeof key, "%d",
                                     (int)(((unsigned)i * 2654435761u >> 7) % 5003)),
                    &v, NULL, NULL, NULL) != KV_OK;
    CHECK(n == 0 && kv_clean_due(h->s));
    memset(&undoing, 0, sizeof undoing);
    undoing.s = h->s;
    kv_test_pause = undo_meanwhile;
    for (i = 0; i < 20 && !undoing.undone; i++)
        (void)kv_clean_ahead(h->s, 1, 0);
    kv_test_pause = NULL;
    CHECK(undoing.erased && undoing.undone);
    r = undoing.rec;
    was = undoing.f.addr;
    CHECK(kv_index_find(h->s, r.ns, r.key, r.key_len, 0, &undoing.f) == KV_OK && undoing.f.there &&
          undoing.f.addr != was);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static long mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    long n = 0;
    int c;

    while (f != NULL && (c = getc(f)) != EOF)
        n += c == '\n';
    if (f != NULL)
        fclose(f);
    return n;
}

static int descriptors(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

/* Opened, filled, cleaned and closed again and again, a store leaves nothing in the process. */
static void leaving_nothing(const char *path)
{
    long maps = 0;
    int fds = descriptors(), i, round;
    kv_value v = bytes(model_noise, 3000);

    for (round = 0; round < 12; round++) {
        kv *h = open_quiet(path);
        kv_ns *ns = space_of(h, "n");

        for (i = 0; i < 600; i++)
            CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_OK);
        tick_all(h);
        CHECK(stats_of(h).cleaned > 0);
        kv_ns_close(ns);
        kv_close(h);
        if (round == 3)
            maps = mappings();
    }
    CHECK(mappings() <= maps + 4); /* the heap may have grown */
    CHECK(descriptors() == fds);
}

/* By ticks and by what ordinary writes do beside themselves. */
static void expiring(const char *path, int by_writes)
{
    kv *h = open_quiet((clock_is(T0), path));
    kv_ns *ns = space_of(h, "e"), *other = space_of(h, "o");
    kv_value v = text("value");
    kv_write w = {0};
    int n = 3000, i, puts = 0;
    uint64_t done = 0, sum = 0;
    char key[16];
    kv_record r;

    w.flags = KV_TTL;
    for (i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%06d", i * 7919 % n);
        w.ttl = 1 + (int64_t)roll(5000);
        if (i % 10 == 0)
            w.ttl = 100000;
        CHECK(kv_put(ns, key, 6, &v, &w, NULL, NULL) == KV_OK);
    }
    CHECK(stats_of(h).keys == (uint64_t)n && stats_of(h).timers == (uint64_t)n);
    CHECK(sound(h));
    clock_is(wall + 5000);
    CHECK(kv_count(ns, NULL, &done) == KV_OK && done == (uint64_t)n / 10);
    if (by_writes) {
        for (; puts < 3 * n && stats_of(h).expired < (uint64_t)n * 9 / 10; puts++)
            CHECK(put(other, "x", "y") == KV_OK);
        CHECK(puts <= n);
    } else {
        while (kv_tick(h, 100, &done) == KV_OK && done > 0) {
            CHECK(done <= 100);
            sum += done;
            if (!CHECK(sound(h)))
                break;
        }
        CHECK(sum >= (uint64_t)n * 9 / 10);
    }
    CHECK(stats_of(h).expired == (uint64_t)n * 9 / 10);
    CHECK(stats_of(h).keys == (uint64_t)n / 10 + (puts > 0));
    CHECK(sound(h));
    clock_is(wall + 200000);
    tick_all(h);
    CHECK(stats_of(h).keys == (uint64_t)(puts > 0) && stats_of(h).timers == 0);
    CHECK(kv_get(ns, "000010", 6, &r) == KV_ENOTFOUND && sound(h));
    kv_ns_close(other);
    kv_ns_close(ns);
    kv_close(h);
}

/* A key that comes and goes leaves a timer each time; they do not pile up, and those that are
 * wanted stay. */
static void coming_and_going(const char *path)
{
    kv *h = open_quiet((clock_is(T0), path));
    kv_ns *ns = space_of(h, "locks");
    kv_value v = text("locked");
    kv_write w = {0};
    int n = 200, i, how, had, bad = 0;
    uint64_t worst = 0;
    char key[16];

    w.flags = KV_TTL;
    w.ttl = 1000000000;
    for (i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%06d", i);
        CHECK(kv_put(ns, key, 6, &v, &w, NULL, NULL) == KV_OK);
    }
    for (how = 0; how < 3; how++) {
        for (i = 0; i < 10000; i++) {
            w.ttl = how == 2 ? 1 + (int64_t)roll(900000000) : 86400000;
            snprintf(key, sizeof key, "lock%d", how == 2 ? (int)roll(50) : 0);
            bad += kv_put(ns, key, strlen(key), &v, &w, NULL, NULL) != KV_OK;
            if (how == 1)
                bad += kv_persist(ns, key, strlen(key), &had) != KV_OK;
            else if (roll(4))
                bad += kv_delete(ns, key, strlen(key), NULL, NULL, NULL) != KV_OK;
            if (i % 3 == 0)
                clock_is(wall + 1);
            if (i % 100 == 0 && stats_of(h).timers > worst)
                worst = stats_of(h).timers;
        }
        CHECK(sound(h));
    }
    CHECK(bad == 0 && worst > 1000 && worst <= 2 * ((uint64_t)n + 51) + 1024 + 100);
    clock_is(wall + 1000000000);
    tick_all(h);
    CHECK(stats_of(h).keys <= 1 && stats_of(h).timers == 0 && sound(h));
    CHECK(is(ns, "000010", NULL));
    kv_ns_close(ns);
    kv_close(h);
}

/* Refreshing a session costs no timers. */
static void refreshing(const char *path)
{
    kv *h = open_quiet((clock_is(T0), path));
    kv_ns *ns = space_of(h, "sessions");
    kv_value v = text("session");
    kv_write w = {0};
    long n = model_steps(50000), i; /* a million, when there is a night */
    uint64_t worst = 0, done;
    int bad = 0;

    w.flags = KV_TTL;
    w.ttl = 1800000;
    for (i = 0; i < n; i++) {
        if (i % 3)
            bad += kv_put(ns, "sid", 3, &v, &w, NULL, NULL) != KV_OK;
        else if (i > 0)
            bad += kv_expire(ns, "sid", 3, w.ttl) != KV_OK;
        else
            bad += kv_put(ns, "sid", 3, &v, &w, NULL, NULL) != KV_OK;
        if (i % 100 == 0)
            clock_is(wall + 1000);
        if (i % 1000 == 0) {
            if (stats_of(h).timers > worst)
                worst = stats_of(h).timers;
            bad += kv_tick(h, 1000, &done) != KV_OK;
        }
    }
    CHECK(bad == 0 && worst <= 2);
    CHECK(stats_of(h).keys == 1 && sound(h));
    CHECK(kv_expire(ns, "sid", 3, w.ttl) == KV_OK);
    clock_is(wall + w.ttl - 1);
    tick_all(h);
    CHECK(is(ns, "sid", "session"));
    clock_is(wall + 1);
    CHECK(is(ns, "sid", NULL));
    tick_all(h);
    CHECK(stats_of(h).keys == 0 && stats_of(h).timers == 0 && sound(h));
    /* An earlier deadline does add one. */
    CHECK(kv_put(ns, "sid", 3, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_expire(ns, "sid", 3, 10) == KV_OK);
    clock_is(wall + 10);
    tick_all(h);
    CHECK(stats_of(h).keys == 0 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static int blobs_in(kv *h, const char *path)
{
    int n = 0;

    if (path == NULL)
        return stats_of(h).blob_bytes != 0;
    (void)files_of(path, "blob.", &n);
    return n;
}

static void large_values(const char *name)
{
    const char *path = name ? at(name) : ":memory:";
    char dir[400];
    kv *h;
    kv_ns *ns;
    kv_value v = bytes(model_noise, 100000), w = bytes(model_noise + 7, 16385);
    kv_record r, old;
    kv_write o = {0};
    uint64_t n;
    int had;

    snprintf(dir, sizeof dir, "%s", path);
    path = name ? dir : NULL;
    clock_is(T0);
    h = open_quiet(dir);
    ns = space_of(h, "l");
    CHECK(kv_put(ns, "big", 3, &v, NULL, NULL, NULL) == KV_OK && blobs_in(h, path) == 1);
    CHECK(kv_get(ns, "big", 3, &r) == KV_OK && value_is(&r.value, &v));
    CHECK(stats_of(h).data_bytes == 100003);

    /* Superseded: gone after a sync, not before. */
    CHECK(kv_put(ns, "big", 3, &w, NULL, NULL, &old) == KV_OK && value_is(&old.value, &v));
    if (path)
        CHECK(blobs_in(h, path) == 2);
    CHECK(kv_sync(h) == KV_OK && blobs_in(h, path) == 1);
    CHECK(kv_get(ns, "big", 3, &r) == KV_OK && value_is(&r.value, &w));
    CHECK(sound(h));

    /* A new expiry keeps the value where it is. */
    CHECK(kv_expire(ns, "big", 3, 50000) == KV_OK);
    CHECK(kv_sync(h) == KV_OK && blobs_in(h, path) == 1);
    tick_all(h);
    CHECK(kv_get(ns, "big", 3, &r) == KV_OK && value_is(&r.value, &w));
    CHECK(kv_persist(ns, "big", 3, &had) == KV_OK && had == 1);
    CHECK(kv_sync(h) == KV_OK && blobs_in(h, path) == 1);
    CHECK(kv_get(ns, "big", 3, &r) == KV_OK && value_is(&r.value, &w));
    CHECK(sound(h));

    /* A refused write leaves no file. */
    o.flags = KV_IF_NOT_EXIST;
    CHECK(kv_put(ns, "big", 3, &v, &o, NULL, NULL) == KV_EEXISTS && blobs_in(h, path) == 1);
    {
        kv_item items[2];
        memset(items, 0, sizeof items);
        items[0].key = "other";
        items[0].len = 5;
        items[0].value = v;
        items[1].key = "big";
        items[1].len = 3;
        items[1].value = v;
        items[1].write = o;
        CHECK(kv_put_many(ns, items, 2, NULL, NULL) == KV_EEXISTS && blobs_in(h, path) == 1);
    }
    CHECK(kv_delete(ns, "big", 3, NULL, NULL, &old) == KV_OK && value_is(&old.value, &w));
    CHECK(kv_sync(h) == KV_OK && blobs_in(h, path) == 0 && stats_of(h).data_bytes == 0);

    /* Expired. */
    o.flags = KV_TTL;
    o.ttl = 1000;
    CHECK(kv_put(ns, "big", 3, &v, &o, NULL, NULL) == KV_OK && blobs_in(h, path) == 1);
    clock_is(wall + 1000);
    tick_all(h);
    CHECK(put(ns, "x", "y") == KV_OK && kv_sync(h) == KV_OK && blobs_in(h, path) == 0);
    CHECK(kv_get(ns, "big", 3, &r) == KV_ENOTFOUND);
    CHECK(sound(h));

    /* Dropped, then cleaned. */
    CHECK(kv_put(ns, "big", 3, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_drop(h, "l", 1, &n) == KV_OK && n == 2 && sound(h));
    CHECK(kv_sync(h) == KV_OK && sound(h));
    if (path) {
        FILE *f;
        char orphan[440];

        kv_ns_close(ns);
        kv_close(h);
        snprintf(orphan, sizeof orphan, "%s/blob.0123456789abcdef", dir);
        f = fopen(orphan, "w");
        CHECK(f != NULL && fclose(f) == 0);
        h = open_quiet(dir);
        CHECK(access(orphan, F_OK) != 0);
        CHECK(sound(h));
        ns = space_of(h, "l");
        CHECK(kv_put(ns, "big", 3, &v, NULL, NULL, NULL) == KV_OK);
        kv_ns_close(ns);
        kv_close(h);
        h = open_quiet(dir);
        ns = space_of(h, "l");
        CHECK(blobs_in(h, path) == 1 && kv_get(ns, "big", 3, &r) == KV_OK &&
              value_is(&r.value, &v));
    }
    kv_ns_close(ns);
    kv_close(h);
}

/* Random large values with expiry, syncs, reopens: never one file too few, nor at the end too many.
 */
static void many_large_values(void)
{
    char path[400], key[4];
    kv *h;
    kv_ns *ns;
    kv_record r;
    kv_value v;
    kv_write o = {0};
    uint32_t from[20], len[20];
    int64_t due[20];
    int i, k, e, bad = 0, there, had;

    snprintf(path, sizeof path, "%s", at("blobs"));
    clock_is(T0);
    memset(len, 0, sizeof len);
    memset(due, 0, sizeof due);
    h = open_quiet(path);
    ns = space_of(h, "b");
    for (i = 0; i < model_steps(600) && !bad; i++) {
        k = (int)roll(20);
        snprintf(key, sizeof key, "%02d", k);
        there = len[k] && (due[k] == 0 || due[k] > wall);
        switch (roll(8)) {
        case 0:
            e = kv_delete(ns, key, 2, NULL, NULL, NULL);
            bad += e != (there ? KV_OK : KV_ENOTFOUND);
            len[k] = 0;
            break;
        case 1:
            e = kv_expire(ns, key, 2, 3000);
            bad += e != (there ? KV_OK : KV_ENOTFOUND);
            due[k] = wall + 3000;
            len[k] = there ? len[k] : 0;
            break;
        case 2:
            e = kv_persist(ns, key, 2, &had);
            bad += e != (there ? KV_OK : KV_ENOTFOUND);
            due[k] = 0;
            len[k] = there ? len[k] : 0;
            break;
        case 3:
            clock_is(wall + (int64_t)roll(1500));
            tick_all(h);
            break;
        case 4:
            bad += kv_sync(h) != KV_OK;
            if (roll(4) == 0)
                bad += !sound(h);
            break;
        case 5:
            if (roll(4) == 0) {
                kv_ns_close(ns);
                kv_close(h);
                h = open_quiet(path);
                ns = space_of(h, "b");
            }
            break;
        default:
            len[k] = 16000 + (uint32_t)roll(2000);
            from[k] = (uint32_t)roll(50000);
            v = bytes(model_noise + from[k], len[k]);
            o.flags = roll(2) ? KV_TTL : 0;
            o.ttl = 1 + (int64_t)roll(6000);
            due[k] = o.flags ? wall + o.ttl : 0;
            bad += kv_put(ns, key, 2, &v, &o, NULL, NULL) != KV_OK;
        }
        there = len[k] && (due[k] == 0 || due[k] > wall);
        e = kv_get(ns, key, 2, &r);
        if (there)
            bad += e != KV_OK || r.value.len != len[k] ||
                   memcmp(r.value.data, model_noise + from[k], len[k]) != 0;
        else
            bad += e != KV_ENOTFOUND;
        if (bad)
            fprintf(stderr, "large values: step %d, key %d: %s %s\n", i, k, kv_errname(e),
                    kv_message());
    }
    CHECK(bad == 0 && sound(h));
    clock_is(wall + 10000);
    tick_all(h);
    CHECK(put(ns, "x", "y") == KV_OK && kv_sync(h) == KV_OK);
    CHECK(kv_delete_prefix(ns, NULL, 0, NULL) == KV_OK && kv_sync(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    h = open_quiet(path);
    CHECK(blobs_in(h, path) == 0);
    kv_close(h);
}

static void dropping(const char *path)
{
    kv *h = open_quiet(path);
    kv_ns *ns = space_of(h, "d"), *stay = space_of(h, "stay");
    kv_stats s;
    char key[16];
    uint64_t keys;
    int i, round;

    for (round = 0; round < 20; round++) {
        kv_write w = {0};
        kv_value v = bytes(model_noise, 100);

        w.flags = round % 2 ? KV_TTL : 0;
        w.ttl = 100000;
        for (i = 0; i < 1000; i++) {
            snprintf(key, sizeof key, "%05d", i);
            CHECK(kv_put(i % 100 ? ns : stay, key, 5, &v, &w, NULL, NULL) == KV_OK);
        }
        CHECK(kv_drop(h, "d", 1, &keys) == KV_OK && keys == 990);
        CHECK(kv_count(ns, NULL, &keys) == KV_OK && keys == 0);
        s = stats_of(h);
        CHECK(s.keys == 10 && s.namespaces == 1);
        if (round % 5 == 0)
            CHECK(sound(h));
        tick_all(h);
        if (round % 5 == 0)
            CHECK(sound(h));
    }
    s = stats_of(h);
    CHECK(s.log_bytes < 16 * KV_SEG_MIN);
    clock_is(wall + 200000);
    tick_all(h);
    CHECK(sound(h));
    kv_ns_close(stay);
    kv_ns_close(ns);
    kv_close(h);
    if (strcmp(path, ":memory:") != 0) {
        h = open_quiet(path);
        CHECK(stats_of(h).namespaces == 1 && sound(h));
        kv_close(h);
    }
}

/* ---- backup, readonly, salvage, limits ---- */

static void backing_up(void)
{
    char from[400], to[400];
    model *m = calloc(1, sizeof *m), *copy = calloc(1, sizeof *copy);
    kv_options o;
    uint64_t records = 0, want = 0;
    kv_ns_info info = {{0}, 0, 0, NULL, 0, 0, 0};
    int i, k;
    long step;

    snprintf(from, sizeof from, "%s", at("original"));
    snprintf(to, sizeof to, "%s", at("copies/first"));
    clock_is(T0);
    kv_options_init(&o);
    o.thread = 0;
    o.max_value = 1 << 20;
    CHECK(model_open(m, from, &o) == KV_OK);
    for (step = 0; step < model_steps(6000) && !m->failed; step++)
        random_op(m);
    for (i = 0; i < MODEL_NS; i++) /* all are there, so that opening the copy makes none */
        op_describe(m, i, "described", 9);
    clock_is(wall + 3000);
    for (i = 0; i < MODEL_NS; i++)
        for (k = 0; k < MODEL_KEYS; k++)
            want += is_live(&m->space[i].rec[k], wall);
    CHECK(kv_backup(m->h, to, &records) == KV_OK && records == want);
    CHECK(kv_backup(m->h, to, &records) == KV_EEXISTS);
    CHECK(kv_backup(m->h, from, &records) == KV_EEXISTS);
    CHECK(kv_backup(m->h, ":memory:", &records) == KV_EINVAL);
    CHECK(kv_backup(m->h, NULL, &records) == KV_EINVAL);
    CHECK(kv_backup(m->h, at("file/x"), &records) < 0);
    CHECK(model_same(m) && sound(m->h));

    /* The copy opens by itself and is the same: revisions, ids, times. */
    model_copy(copy, m);
    kv_options_init(&o);
    o.thread = 0;
    CHECK(model_open(copy, to, &o) == KV_OK);
    CHECK(kv_rev(copy->h) == copy->rev && kv_rev(copy->h) == kv_rev(m->h));
    CHECK(model_same(copy) && sound(copy->h));
    info.name_len = 1;
    info.name[0] = 'a';
    CHECK(kv_ns_next(copy->h, &info) == KV_OK && info.desc_len == 9 &&
          memcmp(info.desc, "described", 9) == 0);
    {
        static char big[(1 << 20) + 1];
        kv_value v = bytes(big, sizeof big);
        CHECK(kv_put(copy->ns[0], "b", 1, &v, NULL, NULL, NULL) == KV_ETOOBIG);
    }
    /* And goes its own way. */
    for (step = 0; step < 500 && !copy->failed; step++)
        random_op(copy);
    CHECK(model_same(copy) && sound(copy->h) && model_same(m));
    model_close(copy);
    model_close(m);
    model_clear(copy);
    model_clear(m);
    free(copy);
    free(m);
}

static void refuses_writes(kv *h, kv_ns *ns)
{
    kv_value v = text("x"), by = integer(1), out;
    kv_item item;
    kv_ns *none;
    uint64_t n;
    int had;

    memset(&item, 0, sizeof item);
    item.key = "k";
    item.len = 1;
    item.value = v;
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_EREADONLY);
    CHECK(kv_delete(ns, "k", 1, NULL, NULL, NULL) == KV_EREADONLY);
    CHECK(kv_expire(ns, "k", 1, 5) == KV_EREADONLY);
    CHECK(kv_persist(ns, "k", 1, &had) == KV_EREADONLY);
    CHECK(kv_incr(ns, "k", 1, &by, NULL, &out, NULL) == KV_EREADONLY);
    CHECK(kv_put_many(ns, &item, 1, NULL, NULL) == KV_EREADONLY);
    CHECK(kv_delete_prefix(ns, NULL, 0, &n) == KV_EREADONLY);
    CHECK(kv_drop(h, "a", 1, &n) == KV_EREADONLY);
    CHECK(kv_tick(h, 1, &n) == KV_EREADONLY);
    CHECK(kv_namespace(h, "a", 1, "new", 3, 1, &none) == KV_EREADONLY);
    CHECK(kv_namespace(h, "missing", 7, NULL, 0, 0, &none) == KV_ENOTFOUND);
    CHECK(kv_namespace(h, "missing", 7, NULL, 0, 1, &none) == KV_OK && is(none, "k", NULL));
    kv_ns_close(none);
    CHECK(kv_sync(h) == KV_OK);
}

static void reading_only(void)
{
    char path[400];
    model *m = calloc(1, sizeof *m);
    kv_options o;
    kv *h = NULL;
    kv_ns *ns;
    uint64_t bytes_before, records;
    int i, status = 0, files;
    pid_t child;
    long step;

    snprintf(path, sizeof path, "%s", at("read"));
    clock_is(T0);
    kv_options_init(&o);
    o.thread = 0;
    CHECK(model_open(m, path, &o) == KV_OK);
    for (step = 0; step < model_steps(3000) && !m->failed; step++)
        random_op(m);
    op_describe(m, 0, "d", 1);

    /* A readonly handle beside a writing one of the same process. */
    o.readonly = 1;
    CHECK(kv_open(path, &o, &h) == KV_OK);
    ns = space_of(h, "a");
    refuses_writes(h, ns);
    o.readonly = 0;
    kv_ns_close(ns);
    kv_close(h);
    model_close(m);

    bytes_before = files_of(path, "", &files);
    o.readonly = 1;
    CHECK(model_open(m, path, &o) == KV_OK);
    CHECK(model_same(m) && sound(m->h));
    refuses_writes(m->h, m->ns[0]);
    CHECK(kv_backup(m->h, at("from-readonly"), &records) == KV_OK);
    o.readonly = 0;
    model_close(m);
    CHECK(files_of(path, "", &i) == bytes_before && i == files);

    /* Without permission to write, as somebody else. */
    child = check_fork();
    if (child == 0) {
        check_failures = 0;
        if (chmod(model_root, 0755) != 0 || chmod(path, 0555) != 0)
            check_exit(2);
        DIR *d = opendir(path);
        struct dirent *entry;
        char file[700];
        while ((entry = readdir(d)) != NULL) {
            snprintf(file, sizeof file, "%.400s/%.190s", path, entry->d_name);
            if (entry->d_name[0] != '.' && chmod(file, 0444) != 0)
                check_exit(3);
        }
        closedir(d);
        if (getuid() == 0 &&
            (chown(path, 65534, 65534) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
            check_exit(4);
        CHECK(kv_open(path, &o, &h) == KV_EDENIED);
        o.readonly = 1;
        CHECK(model_open(m, path, &o) == KV_OK);
        CHECK(m->h != NULL && model_same(m) && sound(m->h));
        refuses_writes(m->h, m->ns[0]);
        model_close(m);
        model_clear(m);
        free(m);
        check_exit(check_failures ? 1 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)chmod(path, 0755);
    model_clear(m);
    free(m);
}

/* One byte in the middle of what was durable. */
static void salvaging(void)
{
    char path[400], log[440], key[16], value[40];
    kv_options o;
    kv *h = NULL;
    kv_ns *ns;
    kv_record r;
    int fd, i, lost = 0, wrong = 0, was;
    char byte = 0;
    uint64_t rev;

    snprintf(path, sizeof path, "%s", at("damaged"));
    h = open_quiet(path);
    ns = space_of(h, "s");
    for (i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "%05d", i);
        snprintf(value, sizeof value, "value of %d, some bytes long", i);
        CHECK(put(ns, key, value) == KV_OK);
    }
    rev = kv_rev(h);
    kv_ns_close(ns);
    kv_close(h);
    snprintf(log, sizeof log, "%s/log.00000001", path);
    fd = open(log, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, 20000) == 1);
    byte ^= 4;
    CHECK(pwrite(fd, &byte, 1, 20000) == 1 && close(fd) == 0);
    was = 0;
    (void)files_of(path, "", &was);

    kv_options_init(&o);
    o.thread = 0;
    CHECK(kv_open(path, &o, &h) == KV_ECORRUPT && strstr(kv_message(), "salvage") != NULL);
    (void)files_of(path, "", &i);
    CHECK(i == was);
    o.readonly = 1;
    CHECK(kv_open(path, &o, &h) == KV_OK && strstr(kv_report(h), "damaged") != NULL);
    kv_close(h);
    o.readonly = 0;
    CHECK(kv_open(path, &o, &h) == KV_ECORRUPT);
    o.salvage = 1;
    CHECK(kv_open(path, &o, &h) == KV_OK && strstr(kv_report(h), "damaged") != NULL);
    for (;;) {
        CHECK(sound(h));
        ns = space_of(h, "s");
        CHECK(kv_rev(h) >= rev);
        for (i = 0, lost = 0; i < 3000; i++) {
            snprintf(key, sizeof key, "%05d", i);
            snprintf(value, sizeof value, "value of %d, some bytes long", i);
            if (kv_get(ns, key, 5, &r) != KV_OK)
                lost++;
            else
                wrong += !is(ns, key, value);
        }
        CHECK(lost == 1 && wrong == 0);
        CHECK(put(ns, "00000", "value of 0, some bytes long") == KV_OK);
        kv_ns_close(ns);
        kv_close(h);
        if (o.salvage == 0)
            break;
        o.salvage = 0;
        CHECK(kv_open(path, &o, &h) == KV_OK && kv_report(h)[0] == 0);
    }
}

static void limits(void)
{
    kv_options o;
    kv *h;
    kv_ns *ns;
    kv_value v = bytes(model_noise, 100), big = bytes(model_noise, 60000);
    kv_write w = {0};
    char key[16], path[400];
    int i, e = KV_OK, had;
    kv_stats s;
    kv_item item;

    snprintf(path, sizeof path, "%s", at("limited"));
    kv_options_init(&o);
    o.thread = 0;
    o.max_size = 100000;
    h = open_at(path, &o);
    ns = space_of(h, "m");
    CHECK(kv_put(ns, "big", 3, &big, NULL, NULL, NULL) == KV_OK);
    w.flags = KV_META;
    w.meta = "{\"a\":1}";
    w.meta_len = 7;
    for (i = 0; i < 2000 && e == KV_OK; i++) {
        snprintf(key, sizeof key, "%05d", i);
        e = kv_put(ns, key, 5, &v, &w, NULL, NULL);
    }
    CHECK(e == KV_EFULL && i == 1 + (100000 - 60003) / 112);
    s = stats_of(h);
    CHECK(s.data_bytes <= 100000);
    memset(&item, 0, sizeof item);
    item.key = "more";
    item.len = 4;
    item.value = v;
    CHECK(kv_put_many(ns, &item, 1, NULL, NULL) == KV_EFULL);
    /* What takes no more space than before goes on; so do deletes. */
    CHECK(kv_put(ns, "00000", 5, &v, &w, NULL, NULL) == KV_OK);
    CHECK(kv_expire(ns, "00000", 5, 100000) == KV_OK);
    CHECK(kv_persist(ns, "00000", 5, &had) == KV_OK && had);
    CHECK(kv_expire(ns, "big", 3, 100000) == KV_OK);
    CHECK(kv_put(ns, "big", 3, &big, NULL, NULL, NULL) == KV_OK);
    item.key = "00000";
    item.len = 5;
    item.write = w;
    CHECK(kv_put_many(ns, &item, 1, NULL, NULL) == KV_OK);
    CHECK(kv_delete(ns, "00001", 5, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_put(ns, "00001", 5, &v, &w, NULL, NULL) == KV_OK);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
    o.max_size = 0; /* keeps the store's */
    h = open_at(path, &o);
    ns = space_of(h, "m");
    CHECK(kv_put(ns, "more", 4, &v, NULL, NULL, NULL) == KV_EFULL);
    kv_ns_close(ns);
    kv_close(h);
    o.max_size = 200000;
    h = open_at(path, &o);
    ns = space_of(h, "m");
    CHECK(kv_put(ns, "more", 4, &v, NULL, NULL, NULL) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- handles, processes, time ---- */

static void syncing(void)
{
    static const int modes[] = {KV_SYNC_ALWAYS, KV_SYNC_INTERVAL, KV_SYNC_NONE};
    char name[16];
    kv_options o;
    kv *h;
    kv_ns *ns;
    kv_stats s;
    int i, k;

    for (i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "sync%d", i);
        kv_options_init(&o);
        o.sync = modes[i % 3];
        o.thread = i < 3;
        o.interval = 1;
        h = open_at(at(name), &o);
        ns = space_of(h, "s");
        for (k = 0; k < 200; k++)
            CHECK(put(ns, "k", "v") == KV_OK);
        s = stats_of(h);
        if (o.sync == KV_SYNC_ALWAYS)
            CHECK(s.syncs >= 200 && s.synced_rev == (int64_t)s.rev);
        if (o.sync == KV_SYNC_INTERVAL) {
            for (k = 0; k < 5000 && stats_of(h).synced_rev != (int64_t)s.rev; k++) {
                kv_os_sleep(1);
                if (!o.thread)
                    tick_all(h);
            }
            CHECK(stats_of(h).synced_rev == (int64_t)s.rev);
        }
        if (o.sync == KV_SYNC_NONE) {
            CHECK(s.synced_rev != (int64_t)s.rev);
            CHECK(kv_sync(h) == KV_OK);
            CHECK(stats_of(h).synced_rev == (int64_t)s.rev);
        }
        CHECK(sound(h));
        kv_ns_close(ns);
        kv_close(h);
        h = open_quiet(at(name));
        ns = space_of(h, "s");
        CHECK(is(ns, "k", "v") && kv_rev(h) == s.rev);
        kv_ns_close(ns);
        kv_close(h);
    }
}

static void two_handles(void)
{
    kv_options o;
    kv *a, *b, *m;
    kv_ns *x, *y, *z;
    int i;

    kv_options_init(&o);
    a = open_at(at("two"), &o);
    o.sync = KV_SYNC_ALWAYS;
    o.thread = 0;
    b = open_at(at("two"), &o);
    m = open_at(":memory:", &o);
    x = space_of(a, "n");
    y = space_of(b, "n");
    z = space_of(m, "n");
    for (i = 0; i < 100; i++) {
        CHECK(put(x, "k", i % 2 ? "odd" : "even") == KV_OK && is(y, "k", i % 2 ? "odd" : "even"));
        CHECK(put(y, "l", i % 3 ? "a" : "b") == KV_OK && is(x, "l", i % 3 ? "a" : "b"));
    }
    CHECK(kv_rev(a) == kv_rev(b) && is(z, "k", NULL));
    CHECK(sound(a) && sound(b));
    kv_ns_close(x);
    kv_close(a);
    CHECK(put(y, "k", "still") == KV_OK && is(y, "k", "still") && sound(b));
    a = open_at(at("two"), NULL);
    x = space_of(a, "n");
    CHECK(is(x, "k", "still"));
    kv_ns_close(y);
    kv_close(b);
    kv_ns_close(x);
    kv_close(a);
    kv_ns_close(z);
    kv_close(m);
}

static void processes(void)
{
    char path[400];
    kv *h, *other = NULL, *memory;
    kv_ns *ns, *none = NULL, *mine;
    kv_options o;
    int status = 0, thread;
    pid_t child;

    snprintf(path, sizeof path, "%s", at("forked"));
    for (thread = 0; thread < 2; thread++) {
        kv_options_init(&o);
        o.thread = thread;
        h = open_at(path, &o);
        ns = space_of(h, "p");
        CHECK(put(ns, "k", "parent") == KV_OK);
        memory = open_at(":memory:", &o);
        mine = space_of(memory, "m");
        CHECK(put(mine, "k", "parent") == KV_OK);
        child = check_fork();
        if (child == 0) {
            kv_value v = text("child");
            kv_record r;
            uint64_t n;

            check_failures = 0;
            /* The parent's handle is the child's as well. */
            CHECK(kv_get(ns, "k", 1, &r) == KV_OK && is(ns, "k", "parent"));
            CHECK(put(ns, "more", "of the child") == KV_OK);
            CHECK(kv_count(ns, NULL, &n) == KV_OK && n == 2);
            CHECK(kv_namespace(h, "q", 1, NULL, 0, 1, &none) == KV_OK);
            kv_ns_close(none);
            CHECK(kv_sync(h) == KV_OK && kv_tick(h, 1, &n) == KV_OK && kv_check(h) == KV_OK);
            /* And so is one of its own. */
            CHECK(kv_open(path, &o, &other) == KV_OK);
            none = space_of(other, "p");
            CHECK(is(none, "k", "parent") && put(none, "k", "child") == KV_OK);
            CHECK(is(ns, "k", "child"));
            kv_ns_close(none);
            kv_close(other);
            /* What is private stays so. */
            CHECK(kv_get(mine, "k", 1, &r) == KV_EBUSY);
            CHECK(kv_put(mine, "k", 1, &v, NULL, NULL, NULL) == KV_EBUSY);
            kv_ns_close(mine);
            kv_close(memory);
            kv_ns_close(ns);
            kv_close(h);
            _exit(check_failures ? 1 : 0); /* the parent's leaks are not the child's */
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(is(ns, "k", "child") && put(ns, "k", "again") == KV_OK && sound(h));
        CHECK(is(ns, "more", "of the child"));
        CHECK(is(mine, "k", "parent") && put(mine, "k", "again") == KV_OK);
        kv_ns_close(mine);
        kv_close(memory);
        kv_ns_close(ns);
        kv_close(h);
        child = check_fork();
        if (child == 0) {
            check_failures = 0;
            h = open_at(path, &o);
            ns = space_of(h, "p");
            CHECK(is(ns, "k", "again") && put(ns, "k", "parent") == KV_OK);
            kv_ns_close(ns);
            kv_close(h);
            _exit(check_failures ? 1 : 0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
}

/* As a daemon does; what it opens then gets the numbers that the store's files had. */
static void close_all(int *first, int *last)
{
    int fd;

    for (fd = 3; fd < 256; fd++)
        close(fd);
    *first = open(at("hosts"), O_RDWR | O_CREAT, 0600);
    for (fd = *first; fd < 40; fd = *last)
        *last = dup(*first);
}

static void a_daemon(const char *path, kv *h, kv_ns *ns)
{
    int first, last = 0, fd, forked = check_fork();
    kv *again = NULL;
    kv_ns *none;
    kv_record r;
    uint64_t n;

    if (forked != 0) {
        /* The one that lets its child go on; it has closed its files as well. */
        close_all(&first, &last);
        CHECK(kv_get(ns, "k", 1, &r) == KV_OK);
        CHECK(put(ns, "late", "kept") == KV_OK);
        CHECK(kv_sync(h) == KV_EIO && strstr(kv_message(), "closed by the program") != NULL);
        CHECK(kv_backup(h, at("none"), &n) == KV_EIO);
        CHECK(kv_open(path, NULL, &again) == KV_OK);
        none = space_of(again, "d");
        CHECK(is(none, "late", "kept") && put(none, "again", "opened") == KV_OK);
        CHECK(kv_sync(again) == KV_OK && kv_check(again) == KV_OK);
        kv_ns_close(none);
        kv_close(again);
        CHECK(waitpid(forked, &fd, 0) == forked && WIFEXITED(fd) && WEXITSTATUS(fd) == 0);
    } else {
        check_failures = 0;
        close_all(&first, &last);
        CHECK(is(ns, "k", "v") && put(ns, "child", "kept") == KV_OK);
        CHECK(kv_sync(h) == KV_OK && kv_check(h) == KV_OK);
    }
    kv_ns_close(ns);
    kv_close(h);
    for (fd = first; fd <= last; fd++)
        CHECK(fcntl(fd, F_GETFD) != -1);
    CHECK(lseek(first, 0, SEEK_END) == 0);
    _exit(check_failures ? 1 : 0);
}

static void closed_descriptors(void)
{
    char path[400];
    pid_t child;
    int status = 0;
    kv *h;
    kv_ns *ns;

    snprintf(path, sizeof path, "%s", at("daemon"));
    child = check_fork();
    if (child == 0) {
        check_failures = 0;
        h = open_at(path, NULL);
        ns = space_of(h, "d");
        CHECK(put(ns, "k", "v") == KV_OK && kv_sync(h) == KV_OK);
        a_daemon(path, h, ns);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    h = open_at(path, NULL);
    ns = space_of(h, "d");
    CHECK(is(ns, "late", "kept") && is(ns, "again", "opened") && is(ns, "child", "kept"));
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* A large step back is taken and told; nothing else may suffer. */
static void clock_back(const char *path)
{
    kv *h;
    kv_ns *ns;
    kv_value v = text("x");
    kv_write w = {0};
    kv_record r;
    int i;
    char key[16];

    clock_is(T0);
    h = open_quiet(path);
    ns = space_of(h, "t");
    w.flags = KV_TTL;
    w.ttl = 10000;
    CHECK(kv_put(ns, "k", 1, &v, &w, NULL, NULL) == KV_OK);
    clock_is(T0 + 5000);
    CHECK(put(ns, "p", "q") == KV_OK);
    clock_is(T0 - 50000);
    CHECK(kv_now(h) == T0 + 5000 && put(ns, "p", "q") == KV_OK && kv_now(h) == T0 + 5000);
    CHECK(kv_get(ns, "p", 1, &r) == KV_OK && r.updated == T0 + 5000 && stats_of(h).clock_back == 0);
    clock_is(T0 - 86400000);
    CHECK(put(ns, "p", "q") == KV_OK && kv_now(h) == wall);
    CHECK(stats_of(h).clock_back == 86405000);
    CHECK(kv_exists(ns, "k", 1) == KV_OK && sound(h));
    for (i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%d", i);
        w.ttl = 1 + (int64_t)roll(100000);
        CHECK(kv_put(ns, key, strlen(key), &v, &w, NULL, NULL) == KV_OK);
    }
    clock_is(wall + 100000);
    tick_all(h);
    CHECK(stats_of(h).keys == 2 && sound(h));
    clock_is(T0 + 10000);
    tick_all(h);
    CHECK(stats_of(h).keys == 1 && is(ns, "k", NULL) && sound(h));
    /* Wild ones. */
    for (i = 0; i < 300; i++) {
        clock_is(T0 + (int64_t)roll(86400000LL * 365 * (i % 7 ? 1 : 100)));
        snprintf(key, sizeof key, "%d", (int)roll(50));
        w.ttl = 1 + (int64_t)roll(KV_MAX_TTL);
        CHECK(kv_put(ns, key, strlen(key), &v, &w, NULL, NULL) == KV_OK);
        CHECK(kv_get(ns, key, strlen(key), &r) == KV_OK && r.expires == kv_now(h) + w.ttl);
        if (i % 10 == 0) {
            tick_all(h);
            CHECK(sound(h));
        }
    }
    kv_ns_close(ns);
    kv_close(h);
    if (strcmp(path, ":memory:") == 0)
        return;
    clock_is(T0 - 3600000);
    h = open_quiet(path);
    CHECK(strstr(kv_report(h), "clock") != NULL && sound(h));
    kv_close(h);
    clock_is(T0);
}

/* What is over stays in the log for a while, however often the clock goes back after that. */
static void clock_back_again(const char *path)
{
    kv *h;
    kv_ns *ns;
    kv_value v = text("x");
    kv_write w = {0};
    int i;

    clock_is(T0);
    h = open_quiet(path);
    ns = space_of(h, "t");
    w.flags = KV_TTL;
    w.ttl = 1000;
    CHECK(kv_put(ns, "e", 1, &v, &w, NULL, NULL) == KV_OK);
    clock_is(T0 + 5000);
    tick_all(h);
    CHECK(stats_of(h).keys == 0);
    for (i = 0; i < 3; i++) {
        clock_is(wall - 70000);
        CHECK(put(ns, "p", "q") == KV_OK && kv_now(h) == wall && sound(h));
    }
    CHECK(stats_of(h).clock_back == 70000);
    kv_ns_close(ns);
    kv_close(h);
    clock_is(T0);
}

/* What was over is not there again when the store is opened with a clock that went far back, and an
 * index has to be built. */
static void clock_back_at_opening(void)
{
    char path[400];
    char key[16], file[500];
    kv_value v = text("x");
    kv_write w = {0};
    struct dirent *f;
    kv_ns *ns;
    DIR *d;
    kv *h;
    int i;

    snprintf(path, sizeof path, "%s", at("back"));
    clock_is(T0);
    h = open_quiet(path);
    ns = space_of(h, "t");
    w.flags = KV_TTL;
    for (i = 0; i < 100; i++) {
        w.ttl = i < 50 ? 10000 : 50000;
        snprintf(key, sizeof key, "%d", i);
        CHECK(kv_put(ns, key, strlen(key), &v, &w, NULL, NULL) == KV_OK);
    }
    clock_is(T0 + 20000);
    CHECK(put(ns, "p", "q") == KV_OK); /* so the log knows of that time; most are not reclaimed */
    CHECK(stats_of(h).keys > 60);
    kv_ns_close(ns);
    kv_close(h);
    for (d = opendir(path); d != NULL && (f = readdir(d)) != NULL;)
        if (strncmp(f->d_name, "index", 5) == 0 || strcmp(f->d_name, "lock") == 0) {
            snprintf(file, sizeof file, "%.300s/%.100s", path, f->d_name);
            CHECK(unlink(file) == 0);
        }
    if (d != NULL)
        closedir(d);
    clock_is(T0 - 3600000);
    h = open_quiet(path);
    ns = space_of(h, "t");
    for (i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%d", i);
        CHECK(kv_exists(ns, key, strlen(key)) == (i < 50 ? KV_ENOTFOUND : KV_OK));
    }
    CHECK(stats_of(h).keys == 51 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
    clock_is(T0);
}

static void each(const char *path)
{
    kv *h;

    clock_is(T0);
    h = open_quiet(path);
    keys_and_values(h);
    options(h);
    incrementing(h);
    batches(h);
    names(h);
    cursors(h);
    list_beside_changes(h);
    CHECK(sound(h));
    kv_close(h);
}

static int64_t began;

/* What no program should ask for, and what few do: each has its answer, and leaves no trace. */
static void odd_calls(const char *path)
{
    static char long_text[KV_MAX_KEY + 100], megabyte[1 << 20];
    char cursor[KV_MAX_CURSOR + 10], key[KV_MAX_KEY];
    kv *h = open_quiet(path), *reader, *bad = NULL;
    kv_ns *ns = space_of(h, "odd"), *other = NULL;
    kv_incr_opts incr;
    kv_options o;
    kv_record r, old;
    kv_range range = {0};
    kv_value v, one = integer(1), half = number(0.5), out;
    kv_write w = {0};
    kv_item item, *items;
    kv_edit edit = {0};
    kv_edited edited;
    kv_iter *it = malloc(kv_iter_size());
    uint64_t rev, n;
    size_t len, i;
    int e;

    CHECK(put(ns, "k", "v") == KV_OK && kv_put(ns, "i", 1, &one, NULL, NULL, NULL) == KV_OK);
    rev = kv_rev(h);
    CHECK(kv_get(ns, NULL, 0, &r) == KV_EINVAL && kv_get_value(ns, NULL, 0, &v) == KV_EINVAL);
    CHECK(kv_peek(ns, NULL, 0, &v) == KV_EINVAL && kv_exists(ns, NULL, 0) == KV_EINVAL);
    CHECK(kv_get_value(ns, "", 0, &v) == KV_EINVAL);
    edit.op = KV_EDIT_TOGGLE;
    edit.path = "";
    CHECK(kv_edit_field(ns, "", 0, &edit, &edited) == KV_EINVAL);
    CHECK(kv_put(ns, NULL, 0, &one, NULL, NULL, NULL) == KV_EINVAL);
    CHECK(kv_get_value(ns, long_text, sizeof long_text, &v) == KV_ETOOBIG);

    /* Ranges and cursors. */
    range.after = "x";
    CHECK(kv_iter_init(it, ns, &range) == KV_EINVAL);
    range.after_len = KV_MAX_KEY + 1;
    CHECK(kv_iter_init(it, ns, &range) == KV_EINVAL);
    memset(&range, 0, sizeof range);
    range.prefix = long_text;
    range.prefix_len = sizeof long_text;
    CHECK(kv_iter_init(it, ns, &range) == KV_OK && kv_iter_next(it, &r) == KV_ENOTFOUND);
    CHECK(kv_count(ns, &range, &n) == KV_OK && n == 0);
    len = kv_cursor_make(ns, &range, "k", 1, cursor);
    CHECK(len > 0 && kv_cursor_read(ns, &range, cursor, len, key, &i) == KV_OK && i == 1);
    CHECK(kv_cursor_make(ns, NULL, long_text, KV_MAX_KEY + 1, cursor) == 0);
    cursor[0] = 0;
    CHECK(kv_cursor_read(ns, &range, cursor, len, key, &i) == KV_EBADCURSOR);
    memset(cursor, 'A', sizeof cursor);
    CHECK(kv_cursor_read(ns, NULL, cursor, 694, key, &i) == KV_EBADCURSOR);
    CHECK(kv_cursor_read(ns, NULL, cursor, 695, key, &i) == KV_EBADCURSOR);
    memset(long_text, 0xff, sizeof long_text);
    range.prefix_len = KV_MAX_KEY;
    CHECK(kv_count(ns, &range, &n) == KV_OK && n == 0);

    /* Options of writes. */
    CHECK(kv_delete(ns, "none", 4, &w, NULL, &old) == KV_ENOTFOUND);
    w.flags = KV_IF_REV;
    CHECK(kv_delete(ns, "none", 4, &w, NULL, NULL) == KV_ENOTFOUND);
    w.if_rev = 1;
    CHECK(kv_delete(ns, "none", 4, &w, NULL, NULL) == KV_ECONFLICT);
    memset(&incr, 0, sizeof incr);
    incr.flags = KV_INCR_MAX;
    incr.max.type = KV_STRING;
    CHECK(kv_incr(ns, "i", 1, &one, &incr, &out, NULL) == KV_EINVAL);
    incr.flags = KV_INCR_MIN;
    CHECK(kv_incr(ns, "i", 1, &one, &incr, &out, NULL) == KV_EINVAL);
    incr.flags = 0;
    incr.init.type = KV_JSON;
    CHECK(kv_incr(ns, "i", 1, &one, &incr, &out, NULL) == KV_EINVAL);
    memset(&incr, 0, sizeof incr);
    incr.flags = KV_INCR_TTL;
    CHECK(kv_incr(ns, "new", 3, &one, &incr, &out, NULL) == KV_EINVAL);
    incr.ttl = KV_MAX_TTL + 1;
    CHECK(kv_incr(ns, "new", 3, &one, &incr, &out, NULL) == KV_EINVAL);
    CHECK(kv_rev(h) == rev);
    /* Bounds of another type than the sum. */
    memset(&incr, 0, sizeof incr);
    incr.flags = KV_INCR_MIN | KV_INCR_MAX;
    incr.min = number(0.25);
    incr.max = number(2.5);
    CHECK(kv_incr(ns, "i", 1, &one, &incr, &out, NULL) == KV_OK && out.integer == 2);
    CHECK(kv_incr(ns, "i", 1, &one, &incr, &out, NULL) == KV_ERANGE);
    incr.max = integer(3);
    CHECK(kv_incr(ns, "i", 1, &half, &incr, &out, NULL) == KV_OK && out.number == 2.5);
    incr.flags = 0;
    incr.init = number(1.5);
    CHECK(kv_incr(ns, "f", 1, &one, &incr, &out, NULL) == KV_OK && out.number == 2.5);

    /* A batch too large as a whole, and one whose revision nobody asks for. */
    memset(&item, 0, sizeof item);
    item.key = "k";
    item.len = 1;
    item.value = text("w");
    CHECK(kv_put_many(ns, &item, 0, NULL, NULL) == KV_OK);
    items = calloc(1100, sizeof *items);
    for (i = 0; i < 1100; i++) {
        items[i].key = "k";
        items[i].len = 1;
        items[i].value = bytes(megabyte, sizeof megabyte);
    }
    CHECK(kv_put_many(ns, items, 1100, NULL, &len) == KV_ETOOBIG);
    free(items);
    CHECK(kv_put_many(ns, &item, 0, &rev, NULL) == KV_OK && rev == kv_rev(h));
    CHECK(kv_put_many(ns, &item, 1, NULL, NULL) == KV_OK && is(ns, "k", "w"));

    /* Of a store that can be written a handle that may not. */
    if (strcmp(path, ":memory:") != 0) {
        kv_options_init(&o);
        o.readonly = 1;
        o.thread = 0;
        CHECK(kv_open(path, &o, &reader) == KV_OK);
        CHECK(kv_namespace(reader, "odd", 3, NULL, 0, 0, &other) == KV_OK);
        rev = kv_rev(h);
        CHECK(put(other, "k", "x") == KV_EREADONLY);
        CHECK(kv_delete(other, "k", 1, NULL, NULL, NULL) == KV_EREADONLY);
        CHECK(kv_put_many(other, &item, 1, NULL, NULL) == KV_EREADONLY);
        CHECK(kv_drop(reader, "odd", 3, NULL) == KV_EREADONLY);
        CHECK(kv_edit_field(other, "k", 1, &edit, &edited) == KV_EREADONLY);
        CHECK(kv_sync(reader) == KV_OK && kv_tick(reader, 10, &n) <= KV_OK);
        kv_ns_close(other);
        /* It serves a reader who may come first. */
        CHECK(kv_namespace(reader, "made", 4, NULL, 0, 1, &other) == KV_OK);
        CHECK(kv_exists(other, "k", 1) == KV_ENOTFOUND);
        kv_ns_close(other);
        CHECK(kv_namespace(reader, "made", 4, "d", 1, 1, &other) == KV_EREADONLY);
        kv_close(reader);
        CHECK(kv_rev(h) == rev && is(ns, "k", "w"));
    }
    CHECK(kv_check(h) == KV_OK);
    free(it);
    kv_ns_close(ns);
    kv_close(h);
    kv_close(NULL);

    kv_options_init(&o);
    for (e = 0; e < 8; e++) {
        kv_options_init(&o);
        o.sync = e == 0 ? -1 : e == 1 ? KV_SYNC_NONE + 1 : o.sync;
        o.mode = e == 2 ? -1 : e == 3 ? 01000 : o.mode;
        o.interval = e == 4 ? 0 : o.interval;
        o.timeout = e == 5 ? -1 : o.timeout;
        o.max_value = e == 6 ? (uint64_t)KV_MAX_VALUE_CAP + 1 : 0;
        if (e < 7)
            CHECK(kv_open(path, &o, &bad) == KV_EINVAL && bad == NULL);
    }
    /* A new store in memory has nothing to read. */
    kv_options_init(&o);
    o.readonly = 1;
    e = kv_open(":memory:", &o, &bad);
    CHECK(e <= KV_OK);
    if (e == KV_OK)
        kv_close(bad);
}

/* Between what a call says was there and its lock somebody else writes: it looks again. */
static struct {
    kv_ns *ns;
    int times;
} meddler;

static void meddle(const char *point)
{
    if (strcmp(point, "lookup: slot read") != 0 || meddler.times == 0)
        return;
    meddler.times--;
    kv_test_pause = NULL;
    CHECK(put(meddler.ns, "k", meddler.times ? "one" : "two") == KV_OK);
    kv_test_pause = meddle;
}

static void changed_meanwhile(void)
{
    kv *h = open_quiet(":memory:");
    kv_ns *ns = space_of(h, "n");
    kv_value v = text("new");
    kv_record old;

    meddler.ns = space_of(h, "n");
    CHECK(put(ns, "k", "zero") == KV_OK);
    kv_test_pause = meddle;
    meddler.times = 2;
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, &old) == KV_OK && meddler.times == 0);
    CHECK(old.value.len == 3 && memcmp(old.value.data, "two", 3) == 0);
    meddler.times = 2;
    CHECK(kv_delete(ns, "k", 1, NULL, NULL, &old) == KV_OK && meddler.times == 0);
    CHECK(old.value.len == 3 && memcmp(old.value.data, "two", 3) == 0);
    kv_test_pause = NULL;
    CHECK(kv_exists(ns, "k", 1) == KV_ENOTFOUND && kv_check(h) == KV_OK);
    kv_ns_close(meddler.ns);
    kv_ns_close(ns);
    kv_close(h);
}

/* A child has no part in its parent's store in memory, and may close what it inherited. */
static void forked_from_memory(void)
{
    kv *h = open_quiet(":memory:");
    kv_ns *ns = space_of(h, "n");
    kv_record r;
    int status;
    pid_t child;

    CHECK(put(ns, "k", "v") == KV_OK);
    fflush(NULL);
    child = check_fork();
    if (child == 0) {
        int bad = put(ns, "k", "w") != KV_EBUSY || kv_get(ns, "k", 1, &r) != KV_EBUSY ||
                  kv_sync(h) != KV_EBUSY;

        kv_ns_close(ns);
        kv_close(h);
        check_exit(bad);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(is(ns, "k", "v") && kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* Readers of one process share what they have open, and a writer among them has his own. */
static void readers_and_a_writer(const char *path)
{
    kv *h = open_quiet(path), *reader[3], *writer;
    kv_ns *ns = space_of(h, "n");
    kv_options o;
    kv_stats stats;
    int i;

    CHECK(put(ns, "k", "v") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    kv_options_init(&o);
    o.readonly = 1;
    o.thread = 0;
    CHECK(kv_open(path, &o, &reader[0]) == KV_OK && kv_open(path, &o, &reader[1]) == KV_OK);
    CHECK(reader[0]->s == reader[1]->s);
    CHECK(kv_get_stats(reader[0], &stats) == KV_OK && stats.keys == 1);
    writer = open_quiet(path);
    CHECK(writer->s != reader[0]->s && kv_open(path, &o, &reader[2]) == KV_OK);
    CHECK(reader[2]->s == writer->s);
    for (i = 0; i < 3; i++) {
        CHECK(kv_namespace(reader[i], "n", 1, NULL, 0, 0, &ns) == KV_OK && is(ns, "k", "v"));
        kv_ns_close(ns);
        kv_close(reader[i]);
    }
    CHECK(kv_check(writer) == KV_OK);
    kv_close(writer);
}

static void done(const char *what)
{
    if (getenv("VERBOSE"))
        fprintf(stderr, "%6lld ms  %s\n", (long long)((kv_os_monotonic() - began) / 1000000), what);
}

/* Keys that the lookup table cannot tell by their slots, due at different times: the timer of one
 * may take out the other, whatever `check` looks at in between. */
typedef struct tagged {
    uint32_t tag, i;
} tagged;

static int by_tag(const void *a, const void *b)
{
    uint32_t x = ((const tagged *)a)->tag, y = ((const tagged *)b)->tag;

    return (x > y) - (x < y);
}

static void same_tag(void)
{
    enum { KEYS = 200000 };
    tagged *all = malloc(KEYS * sizeof *all);
    kv *h = open_quiet(":memory:");
    kv_ns *ns = space_of(h, "t");
    kv_value v = bytes("v", 1);
    kv_write w = {0};
    char key[2][16];
    uint64_t n;
    int i, order, pairs = 0;

    clock_is(T0);
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_OK);
    for (i = 0; all && i < KEYS; i++) {
        all[i].i = (uint32_t)i;
        snprintf(key[0], sizeof key[0], "%08d", i);
        all[i].tag = (uint32_t)kv_index_hash(h->s, ns->id, key[0], 8) & 0x3fffffff;
    }
    if (CHECK(all != NULL))
        qsort(all, KEYS, sizeof *all, by_tag);
    w.flags = KV_TTL;
    for (i = 1; all && i < KEYS; i++) {
        if (all[i].tag != all[i - 1].tag)
            continue;
        pairs++;
        for (order = 0; order < 4; order++) {
            snprintf(key[0], sizeof key[0], "%08d", (int)all[i - order % 2].i);
            snprintf(key[1], sizeof key[1], "%08d", (int)all[i - 1 + order % 2].i);
            w.ttl = order < 2 ? 1000 : 90000;
            CHECK(kv_put(ns, key[0], 8, &v, &w, NULL, NULL) == KV_OK);
            w.ttl = order < 2 ? 90000 : 1000;
            CHECK(kv_put(ns, key[1], 8, &v, &w, NULL, NULL) == KV_OK);
            clock_is(wall + 100000);
            do
                CHECK(kv_tick(h, 1, &n) == KV_OK && sound(h));
            while (n > 0);
            CHECK(stats_of(h).keys == 1 && stats_of(h).timers == 0);
        }
    }
    CHECK(pairs > 0);
    free(all);
    kv_ns_close(ns);
    kv_close(h);
}

/* Whether this process has all pages of segment `id`, so that no write waits for the first touch.
 */
static int is_warm(kv_db *s, uint64_t id)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), all;
    const char *bytes = NULL;
    uint64_t entry, off, size = kv_log_size_of(&s->log, (uint32_t)id);

    (void)kv_log_mapped(&s->log, (uint32_t)id, &bytes);
    all = fd >= 0 && size > 0;
    for (off = 0; all && off < size; off += KV_PAGE)
        all = pread(fd, &entry, 8, (off_t)(((uintptr_t)bytes + off) / KV_PAGE * 8)) == 8 &&
              entry >> 63 == 1;
    close(fd);
    return all;
}

static uint64_t last_spare(kv *h)
{
    return kv_load(&h->s->log.w[KV_LOG_SPARES]);
}

/* A segment that a write needs is made with all its pages, or by the helper, later. */
static void segments_for_writes(const char *path)
{
    kv *h = open_quiet(path);
    kv_options o;
    kv_ns *ns;
    kv_value v = text("value");
    uint64_t id = last_spare(h);
    int64_t until;

    CHECK(kv_make_room(h, KV_NEED_LOG, 1, 100) == KV_OK && last_spare(h) > id);
    CHECK(is_warm(h->s, last_spare(h)));
    id = last_spare(h) + 1;
    CHECK(kv_log_prepare_cold(&h->s->log, 16 * KV_SEG_MIN) == KV_OK && last_spare(h) == id);
    CHECK(kv_log_prepare_cold(&h->s->log, 16 * KV_SEG_MIN) == KV_OK && last_spare(h) == id + 1);
    CHECK(!is_warm(h->s, id) && !is_warm(h->s, id + 1));
    kv_log_warm(&h->s->log);
    CHECK(is_warm(h->s, id) && is_warm(h->s, id + 1));
    kv_close(h);

    kv_options_init(&o);
    h = open_at(path, &o);
    ns = space_of(h, "x");
    CHECK(kv_put(ns, "key", 3, &v, NULL, NULL, NULL) == KV_OK);
    id = last_spare(h);
    CHECK(kv_make_room(h, KV_NEED_LOG, 1, 100) == KV_OK && last_spare(h) > id);
    for (until = kv_os_monotonic() + INT64_C(20000000000);
         !is_warm(h->s, last_spare(h)) && kv_os_monotonic() < until;)
        kv_os_sleep(1);
    CHECK(is_warm(h->s, last_spare(h)));
    kv_ns_close(ns);
    kv_close(h);
}

int main(void)
{
    model_start("test_store");
    began = kv_os_monotonic();
    model_keys();
    opening();
    segments_for_writes(":memory:");
    segments_for_writes(at("segments"));
    each(":memory:");
    each(at("each"));
    odd_calls(":memory:");
    odd_calls(at("odd"));
    changed_meanwhile();
    readers_and_a_writer(at("readers"));
    if (!getenv("KV_VALGRIND"))
        forked_from_memory();
    done("calls");
    sizes(":memory:");
    sizes(at("sizes"));
    long_batch(":memory:");
    long_batch(at("batch"));
    done("sizes");
    large_values(NULL);
    large_values("large");
    many_large_values();
    done("large values");
    cleaning(":memory:", 0);
    cleaning(at("clean"), 0);
    cleaning(at("clean-thread"), 1);
    if (!getenv("KV_SHORT")) {
        large_pages(0);
        large_pages(1);
    }
    undone_meanwhile();
    leaving_nothing(":memory:");
    leaving_nothing(at("again"));
    done("cleaning");
    expiring(":memory:", 0);
    expiring(at("ticks"), 0);
    expiring(at("writes"), 1);
    coming_and_going(":memory:");
    refreshing(":memory:");
    dropping(":memory:");
    dropping(at("drop"));
    clock_back(":memory:");
    clock_back(at("time"));
    clock_back_again(":memory:");
    clock_back_again(at("time again"));
    clock_back_at_opening();
    same_tag();
    far_away();
    done("expiry");
    backing_up();
    reading_only();
    salvaging();
    limits();
    done("backup, readonly, salvage, limits");
    syncing();
    two_handles();
    if (!getenv("KV_VALGRIND")) { /* which knows nothing of what other processes write */
        processes();
        closed_descriptors();
    }
    done("handles");
    random_runs();
    done("random runs");
    remove_root();
    return check_done("test_store");
}
