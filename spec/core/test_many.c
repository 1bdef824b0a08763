/* SPDX-License-Identifier: MIT
 *
 * test_many.c - eight processes on one store, killed, stopped and continued at random, and a
 * checker that knows which operations were in flight. A round is one kill.
 *
 * Each key belongs to one process, which writes version after version of it: a version says whether
 * the key is there and what it holds. In memory that all share stands the version begun last and
 * the one whose call has returned; so whoever reads a key, by itself or in a listing, knows what it
 * may find, and notes what it saw: that is never taken back. Three keys of each process change in
 * one batch only, and all count on one counter. A process that follows a killed one finds what was
 * returned, or what was in flight. Every hundred rounds or so everybody is killed and the store
 * verified; every eighth time a new one begins, for what happens while an index grows. On every
 * fourth of these the processes now and then call the index damaged, so that it is built anew while
 * others use it, or are stopped in the middle of a call.
 *
 * The killer waits for some operations, not for the dead: who is killed dies when the scheduler
 * gets to it, and is followed then.
 *
 * SEED=n repeats the choices, if not the moments; KV_ROUNDS=n makes n rounds; with KEEP=1 a store
 * that failed stays.
 */
#define _GNU_SOURCE
#include "several.h"
#include "state.h"

#include <signal.h>
#include <time.h>

#define WORKERS 8
#define OWN     6 /* keys of a process that change alone; as many as BATCH more change together */
#define BATCH   3
#define KEYS    (OWN + BATCH)
#define HUNG    60 /* seconds without an operation */

#define PACE      200 /* operations of all between two rounds, at most */
#define PATIENCE  20  /* ms in which they may make them */
#define EPOCH     100 /* rounds until all are killed, on average */
#define STORE     8   /* such epochs of one store */
#define STOPPED   4   /* ms a process is stopped for, at most; LONG: now and then */
#define LONG_STOP 60

typedef struct slot {
    uint64_t begun, done, seen; /* versions; seen: a reader has found it */
} slot;

static struct {
    slot key[WORKERS][KEYS];
    struct {
        uint64_t counted, counting; /* calls of incr returned, and begun */
        uint64_t operations, ready; /* ready: has verified what the one before left */
    } worker[WORKERS];
    uint64_t failed, reads, lists, attached, followed, rebuilt;
    uint64_t spoilt; /* 1: somebody may call this store's index damaged */
    char message[300];
} * all;

static char path[STATE_PATH];

/* A process lives for milliseconds: what it has freed need not be kept for as long as elsewhere,
 * which is most of what a kill costs. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:malloc_context_size=4";
}

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void set(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

static void raise_to(uint64_t *p, uint64_t v)
{
    uint64_t old = load(p);

    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue;
}

static int fail(const char *what, int worker, int key, uint64_t a, uint64_t b, uint64_t c)
{
    if (__atomic_exchange_n(&all->failed, 1, __ATOMIC_SEQ_CST) == 0)
        snprintf(all->message, sizeof all->message,
                 "%s: key %d of process %d: %llu, may be %llu to %llu (%.120s)", what, key, worker,
                 (unsigned long long)a, (unsigned long long)b, (unsigned long long)c, kv_message());
    return 0;
}

/* A call that changes something has failed. 2: the index was called damaged, and the store is to be
 * opened anew; what the call began is in flight. */
#define REOPEN 2
static int refused(const char *what, int worker, int key, int rc, uint64_t version)
{
    if (rc == KV_ECORRUPT && load(&all->spoilt) && strstr(kv_message(), "reopen the store"))
        return REOPEN;
    return fail(what, worker, key, (uint64_t)-rc, version, version);
}

/* ---- versions ---- */

static int is_there(int key, uint64_t version)
{
    return version != 0 && (key >= OWN || version % 4 != 3);
}

static uint32_t size_of(uint64_t version)
{
    static const uint32_t sizes[] = {8, 20, 60, 200, 200, 900, 3000};

    return version % 97 == 5 ? 18000 : sizes[version * 2654435761u % 7];
}

static char bytes[1 << 15];

static kv_value value_of(int worker, int key, uint64_t version)
{
    kv_value v = {0};
    uint32_t i;

    v.type = KV_STRING;
    v.len = key < OWN ? size_of(version) : 40;
    v.data = bytes;
    memcpy(bytes, &version, 8);
    for (i = 8; i < v.len; i += 16)
        memset(bytes + i,
               (int)('a' + (version + (uint64_t)worker * 7 + (uint64_t)key * 3 + i) % 26),
               v.len - i < 16 ? v.len - i : 16);
    return v;
}

/* The version a value says it is; 0: it is none of this key's. */
static uint64_t version_of(const kv_value *v, int worker, int key)
{
    uint64_t version = 0;
    kv_value want;

    if (v->type != KV_STRING || v->len < 8)
        return 0;
    memcpy(&version, v->data, 8);
    want = value_of(worker, key, version);
    return is_there(key, version) && want.len == v->len && memcmp(want.data, v->data, v->len) == 0
               ? version
               : 0;
}

static uint32_t key_of(int worker, int key, char to[24])
{
    return (uint32_t)snprintf(to, 24, "key:%d:%d", worker, key);
}

/* What may be found now at the least: what has returned, and what somebody has seen. */
static uint64_t least(const slot *s)
{
    uint64_t done = load(&s->done), seen = load(&s->seen);

    return done > seen ? done : seen;
}

static int gone_between(int key, uint64_t from, uint64_t to)
{
    for (; from <= to; from++)
        if (!is_there(key, from))
            return 1;
    return 0;
}

/* ---- reading ---- */

static int read_one(kv_ns *ns, int worker, int key)
{
    slot *s = &all->key[worker][key];
    uint64_t from = least(s), to, version;
    char name[24];
    kv_value v;
    int rc = kv_get_value(ns, name, key_of(worker, key, name), &v);

    to = load(&s->begun);
    __atomic_add_fetch(&all->reads, 1, __ATOMIC_RELAXED);
    if (rc == KV_ENOTFOUND && !gone_between(key, from, to)) {
        /* Whether that lasts tells who was wrong: this reader, or a writer. */
        rc = kv_get_value(ns, name, key_of(worker, key, name), &v);
        return fail("not found", worker, key, rc == KV_OK ? version_of(&v, worker, key) : 0, from,
                    to);
    }
    if (rc == KV_ENOTFOUND)
        return 1;
    if (rc != KV_OK)
        return fail("get", worker, key, (uint64_t)-rc, from, to);
    version = version_of(&v, worker, key);
    if (version == 0)
        return fail("a wrong value", worker, key, 0, from, to);
    raise_to(&s->seen, version);
    return (version >= from && version <= to) || fail("get", worker, key, version, from, to);
}

static int list_all(kv_ns *ns, kv_iter *it)
{
    static uint64_t from[WORKERS][KEYS], found[WORKERS][KEYS];
    static int turn;
    int w, k, last = -1, rc;
    several some;
    kv_record r;

    several_begin(&some, ++turn % 2);
    for (w = 0; w < WORKERS; w++)
        for (k = 0; k < KEYS; k++) {
            from[w][k] = least(&all->key[w][k]);
            found[w][k] = 0;
        }
    if ((rc = kv_iter_init(it, ns, NULL)) != KV_OK)
        return fail("list", 0, 0, (uint64_t)-rc, 0, 0);
    while ((rc = several_next(&some, it, &r)) == KV_OK) {
        if (r.key_len == 5 && memcmp(r.key, "count", 5) == 0)
            continue;
        if (r.key_len != 7 || (w = r.key[4] - '0') < 0 || w >= WORKERS ||
            (k = r.key[6] - '0') < 0 || k >= KEYS || w * KEYS + k <= last)
            return fail("listed what never was, or out of order", 0, 0, r.key_len, 0, 0);
        last = w * KEYS + k;
        found[w][k] = version_of(&r.value, w, k);
        if (found[w][k] < from[w][k] || found[w][k] > load(&all->key[w][k].begun))
            return fail("listed", w, k, found[w][k], from[w][k], load(&all->key[w][k].begun));
        raise_to(&all->key[w][k].seen, found[w][k]);
    }
    if (rc != KV_ENOTFOUND)
        return fail("list", 0, 0, (uint64_t)-rc, 0, 0);
    for (w = 0; w < WORKERS; w++)
        for (k = 0; k < KEYS; k++)
            if (found[w][k] == 0 && !gone_between(k, from[w][k], load(&all->key[w][k].begun)))
                return fail("not listed", w, k, 0, from[w][k], load(&all->key[w][k].begun));
    __atomic_add_fetch(&all->lists, 1, __ATOMIC_RELAXED);
    return 1;
}

/* ---- writing ---- */

static int write_one(kv_ns *ns, int me, int key)
{
    slot *s = &all->key[me][key];
    uint64_t version = load(&s->done) + 1;
    char name[24];
    uint32_t len = key_of(me, key, name);
    kv_value v = value_of(me, key, version);
    int rc;

    set(&s->begun, version);
    rc = is_there(key, version) ? kv_put(ns, name, len, &v, NULL, NULL, NULL)
                                : kv_delete(ns, name, len, NULL, NULL, NULL);
    if (rc != KV_OK)
        return refused("write", me, key, rc, version);
    set(&s->done, version);
    return 1;
}

static int write_batch(kv_ns *ns, int me)
{
    static char texts[BATCH][64];
    char names[BATCH][24];
    kv_item items[BATCH];
    uint64_t version = load(&all->key[me][OWN].done) + 1;
    int i, rc;

    memset(items, 0, sizeof items);
    for (i = 0; i < BATCH; i++) {
        items[i].key = names[i];
        items[i].len = key_of(me, OWN + i, names[i]);
        items[i].value = value_of(me, OWN + i, version);
        memcpy(texts[i], items[i].value.data, items[i].value.len);
        items[i].value.data = texts[i];
        set(&all->key[me][OWN + i].begun, version);
    }
    rc = kv_put_many(ns, items, BATCH, NULL, NULL);
    if (rc != KV_OK)
        return refused("batch", me, OWN, rc, version);
    for (i = 0; i < BATCH; i++)
        set(&all->key[me][OWN + i].done, version);
    return 1;
}

static int count_one(kv_ns *ns, int me)
{
    kv_value by = {0}, out;
    int rc;

    by.type = KV_INTEGER;
    by.integer = 1;
    set(&all->worker[me].counting, load(&all->worker[me].counting) + 1);
    rc = kv_incr(ns, "count", 5, &by, NULL, &out, NULL);
    if (rc != KV_OK)
        return refused("incr", me, 0, rc, 0);
    set(&all->worker[me].counted, load(&all->worker[me].counted) + 1);
    return 1;
}

/* Whoever was me was killed: what was in flight is there or not, a batch wholly or not, as soon as
 * somebody had the lock after it; until then it may still come. */
static int take_over(kv *h, kv_ns *ns, int me)
{
    uint64_t batch = 0;
    char name[24];
    int k, rc = kv_lock_writer(h);

    if (rc != KV_OK)
        return refused("lock", me, 0, rc, 0);
    kv_unlock_writer(h);
    for (k = 0; k < KEYS; k++) {
        slot *s = &all->key[me][k];
        uint64_t version = 0;
        kv_value v;

        if (!read_one(ns, me, k))
            return 0;
        rc = kv_get_value(ns, name, key_of(me, k, name), &v);
        if (rc == KV_OK)
            version = version_of(&v, me, k);
        else if (rc == KV_ENOTFOUND)
            version = is_there(k, least(s)) ? load(&s->begun) : least(s);
        if (k >= OWN && k > OWN && version != batch)
            return fail("half a batch", me, k, version, batch, batch);
        batch = version;
        set(&s->done, version);
        set(&s->begun, version);
    }
    return 1;
}

/* As recovery says when it finds no sense in an index: who opens the store next builds another. */
static int spoil(kv *h)
{
    int rc = kv_lock_writer(h);

    if (rc != KV_OK)
        return refused("lock", 0, 0, rc, 0);
    kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
    kv_unlock_writer(h);
    return REOPEN;
}

static int operation(kv *h, kv_ns *ns, kv_iter *it, int me)
{
    uint64_t dice = image_below(1000);
    int rc = KV_OK;

    if (dice < 350)
        return write_one(ns, me, (int)image_below(OWN));
    if (dice < 420)
        return write_batch(ns, me);
    if (dice < 470)
        return count_one(ns, me);
    if (dice < 920)
        return read_one(ns, (int)image_below(WORKERS), (int)image_below(KEYS));
    if (dice < 960)
        return list_all(ns, it);
    if (dice < 980)
        rc = kv_tick(h, 50, NULL);
    else if (dice < 982)
        rc = kv_sync(h);
    else if (dice == 982 && image_below(8) == 0)
        return load(&all->spoilt) ? spoil(h) : 1;
    return rc == KV_OK ? 1 : refused("tick or sync", me, 0, rc, 0);
}

static void worker(int me, uint64_t chance)
{
    kv_iter *it = malloc(kv_iter_size());
    kv_options o;
    kv_ns *ns;
    kv *h;
    int i, rc, good;

    image_seed = chance | 1;
    kv_options_init(&o);
    o.sync = chance % 8 == 0 ? KV_SYNC_ALWAYS : chance % 2 ? KV_SYNC_NONE : KV_SYNC_INTERVAL;
    o.interval = 5;
    o.timeout = 30000;
    o.thread = chance % 3 != 0;
    for (;;) {
        rc = kv_open(path, &o, &h);
        if (rc != KV_OK) {
            fail("open", me, 0, (uint64_t)-rc, 0, 0);
            _exit(1);
        }
        __atomic_add_fetch(&all->attached, 1, __ATOMIC_RELAXED);
        if (h->s->replayed) {
            __atomic_add_fetch(&all->rebuilt, 1, __ATOMIC_RELAXED);
            if (!load(&all->spoilt) && !fail("a sound index was not believed", me, 0, 0, 0, 0))
                _exit(1);
        }
        rc = kv_namespace(h, "n", 1, NULL, 0, 1, &ns);
        good = rc == KV_OK ? take_over(h, ns, me) : refused("namespace", me, 0, rc, 0);
        if (good == 1 && !load(&all->worker[me].ready)) {
            __atomic_add_fetch(&all->followed, 1, __ATOMIC_RELAXED);
            set(&all->worker[me].ready, 1);
        }
        for (i = 0; good == 1 && i < 2000; i++) {
            good = operation(h, ns, it, me);
            set(&all->worker[me].operations, load(&all->worker[me].operations) + 1);
        }
        if (rc == KV_OK)
            kv_ns_close(ns);
        kv_close(h);
        if (!good)
            _exit(1);
    }
}

/* ---- the one who kills ---- */

static struct {
    pid_t pid;
    int dying;       /* killed, not yet dead */
    int64_t stopped; /* ns of the monotonic clock when it may go on; 0: it runs */
} child[WORKERS];

static uint64_t kills, stops, stores;
static int rounds;

static void nap(long us)
{
    struct timespec t;

    t.tv_sec = 0;
    t.tv_nsec = us * 1000;
    (void)nanosleep(&t, NULL);
}

static void begin(int w)
{
    uint64_t chance = image_random();

    set(&all->worker[w].ready, 0);
    child[w].dying = 0;
    child[w].stopped = 0;
    child[w].pid = check_fork();
    if (child[w].pid == 0) {
        (void)!nice(1); /* the killer comes first */
        worker(w, chance);
    }
    if (child[w].pid < 0)
        image_die("fork");
}

static void kill_one(int w)
{
    kills++;
    kill(child[w].pid, SIGKILL);
    child[w].dying = 1;
    child[w].stopped = 0;
}

/* Somebody is dead. 0: by itself, as none should. */
static int bury(pid_t pid, int status, int *w)
{
    for (*w = 0; *w < WORKERS && child[*w].pid != pid; ++*w)
        continue;
    if (*w == WORKERS)
        image_die("waitpid");
    child[*w].pid = 0;
    if (CHECK(child[*w].dying && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        return 1;
    fprintf(stderr, "  process %d: status %x; %s\n", *w, (unsigned)status, all->message);
    return 0;
}

/* Those who are dead by now are followed. */
static int follow(void)
{
    int status, w;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!bury(pid, status, &w))
            return 0;
        begin(w);
    }
    return 1;
}

static int kill_all(void)
{
    int status, w, good = 1;
    pid_t pid;

    for (w = 0; w < WORKERS; w++)
        if (child[w].pid != 0 && !child[w].dying)
            kill_one(w);
    while ((pid = waitpid(-1, &status, 0)) > 0)
        good = bury(pid, status, &w) && good;
    return good;
}

static uint64_t operations(void)
{
    uint64_t n = 0;
    int w;

    for (w = 0; w < WORKERS; w++)
        n += load(&all->worker[w].operations);
    return n;
}

/* Nobody is left: the store holds what it must, and is sound. */
static int verify(void)
{
    uint64_t counted = 0, counting = 0;
    kv_value v = {0};
    kv_options o;
    kv_ns *ns;
    kv *h;
    int w, k, rc, good = 1;

    kv_options_init(&o);
    o.thread = 0;
    if (!CHECK(kv_open(path, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return 0;
    }
    for (w = 0; w < WORKERS; w++) {
        for (k = 0; good && k < KEYS; k++)
            good = read_one(ns, w, k);
        counted += all->worker[w].counted;
        counting += all->worker[w].counting;
    }
    rc = kv_get_value(ns, "count", 5, &v);
    if (good && rc == KV_ENOTFOUND ? counted != 0
                                   : v.integer < (int64_t)counted || v.integer > (int64_t)counting)
        good = fail("the counter", 0, 0, (uint64_t)v.integer, counted, counting);
    /* Who comes next counts on from here. */
    for (w = 0; w < WORKERS; w++)
        all->worker[w].counted = all->worker[w].counting = 0;
    all->worker[0].counted = all->worker[0].counting = (uint64_t)v.integer;
    if (!CHECK(good))
        fprintf(stderr, "  %s\n", all->message);
    if (!CHECK((rc = kv_check(h)) == KV_OK)) {
        fprintf(stderr, "  check: %s\n", kv_message());
        good = 0;
    }
    kv_ns_close(ns);
    kv_close(h);
    return good;
}

static void begin_store(void)
{
    int w;

    if (stores > 0)
        state_remove(path);
    memset(all->key, 0, sizeof all->key);
    for (w = 0; w < WORKERS; w++)
        all->worker[w].counted = all->worker[w].counting = 0;
    all->spoilt = ++stores % 4 == 0;
    state_path(path, "store");
}

/* All are killed, what they left is verified, and all begin again. */
static int next_epoch(void)
{
    static int epochs;
    int w, good = kill_all() && verify();

    if (good && ++epochs % STORE == 0)
        begin_store();
    for (w = 0; good && w < WORKERS; w++)
        begin(w);
    return good;
}

/* Everybody goes on, sooner or later. */
static int alive(void)
{
    static uint64_t last;
    static int64_t since;
    uint64_t now = operations();

    if (now != last || since == 0) {
        last = now;
        since = kv_os_monotonic();
    }
    if (CHECK(kv_os_monotonic() - since < (int64_t)HUNG * 1000000000) &&
        CHECK(load(&all->failed) == 0))
        return 1;
    fprintf(stderr, "  round %d: %s\n", rounds, all->failed ? all->message : "all hang");
    return 0;
}

static void go_on(int64_t now)
{
    int w;

    for (w = 0; w < WORKERS; w++)
        if (child[w].stopped != 0 && child[w].stopped <= now) {
            kill(child[w].pid, SIGCONT);
            child[w].stopped = 0;
        }
}

/* Until there were some operations; meanwhile the dead are followed. */
static int let_them(void)
{
    uint64_t until = operations() + (image_below(4) ? image_below(PACE) : 0);
    int64_t late = kv_os_monotonic() + PATIENCE * 1000000;

    do {
        if (operations() < until)
            nap(200);
        go_on(kv_os_monotonic());
        if (!follow() || !alive())
            return 0;
    } while (operations() < until && kv_os_monotonic() < late);
    return 1;
}

static int one_round(void)
{
    uint64_t dice;
    int w, good;

    while ((good = let_them()) && (dice = image_below(100)) < 25) {
        w = (int)image_below(WORKERS);
        if (child[w].dying || child[w].stopped)
            continue;
        stops++;
        kill(child[w].pid, SIGSTOP);
        child[w].stopped = kv_os_monotonic() +
                           (int64_t)image_below((image_below(8) ? STOPPED : LONG_STOP) * 1000000) +
                           1;
    }
    if (!good)
        return 0;
    if (image_below(EPOCH) == 0)
        return next_epoch();
    /* Mostly one who has verified what the one before left. */
    w = (int)image_below(WORKERS);
    if (child[w].dying || (!load(&all->worker[w].ready) && image_below(8)))
        return 1;
    kill_one(w);
    return 1;
}

int main(void)
{
    int most, w, good = 1;
    int64_t began;
    double seconds;

    state_begin("test_many");
    most = getenv("KV_ROUNDS")  ? atoi(getenv("KV_ROUNDS"))
           : getenv("KV_SHORT") ? 200
           : getenv("KV_LONG")  ? 200000
                                : 2000;
    all = mmap(NULL, (sizeof *all + KV_PAGE) / KV_PAGE * KV_PAGE, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    began = kv_os_monotonic();
    begin_store();
    for (w = 0; w < WORKERS; w++)
        begin(w);
    for (; good && kills < (uint64_t)most; rounds++)
        good = one_round();
    good = kill_all() && good;
    if (!verify() || !CHECK(all->failed == 0))
        good = 0;
    if (good || !getenv("KEEP"))
        state_clear();
    seconds = (double)(kv_os_monotonic() - began) / 1e9;
    printf("%llu kills (%.0f a second), %llu followed and verified; %llu stops, %llu operations, "
           "%llu reads and %llu listings judged; %llu stores opened %llu times, %llu of them with "
           "another index\n",
           (unsigned long long)kills, (double)kills / seconds, (unsigned long long)all->followed,
           (unsigned long long)stops, (unsigned long long)operations(),
           (unsigned long long)all->reads, (unsigned long long)all->lists,
           (unsigned long long)stores, (unsigned long long)all->attached,
           (unsigned long long)all->rebuilt);
    return check_done("test_many");
}
