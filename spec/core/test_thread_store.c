/* SPDX-License-Identifier: MIT
 *
 * test_thread_store.c - threads with handles of their own on one store: readers beside writers, the
 * helper thread, cleaning, expiry, large values, drops; and while the index is replaced. Runs under
 * TSan too.
 *
 * Every value says which key it belongs to and how often that key was written, so that a reader can
 * tell a wrong value, a torn one, and one older than what it has seen or what was finished before
 * it looked.
 */
#define _GNU_SOURCE
#include "model.h"

#include <pthread.h>

/* TSan cannot see what makes these sound. Records and nodes are copied and the copy is checked
 * after that; the room in the order tree is an estimate when the helper asks; a spare's id word,
 * zero or the id it gets, says the same either way. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:kv_log_fetch\n"
           "race:copy_node\n"
           "race:kv_order_room\n"
           "race:mapping_of\n";
}

#define KEYS    200
#define WRITERS 2
#define READERS 2
#define LARGE   40000

typedef struct shared {
    const char *path;
    uint64_t done;        /* writers that have ended */
    uint64_t begun[KEYS]; /* version whose write was begun last */
    uint64_t ended[KEYS]; /* and ended */
    uint64_t drops, bad, reads, hits, listed;
    long writes;
    int large, drop, thread, spoil;
} shared;

static uint64_t get(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static void set(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static void add(uint64_t *p, uint64_t n)
{
    __atomic_fetch_add(p, n, __ATOMIC_RELAXED);
}

static int complain(shared *s, const char *what, int e)
{
    if (__atomic_fetch_add(&s->bad, 1, __ATOMIC_RELAXED) < 5)
        fprintf(stderr, "%s: %s: %s\n", what, kv_errname(e), e ? kv_message() : "");
    return 0;
}

static uint64_t dice(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state * 0x2545f4914f6cdd1dull >> 11) % below;
}

/* key and version, and a tail that both decide. */
static uint32_t compose(int key, uint64_t version, int large, char *out)
{
    uint32_t len = 16 + (uint32_t)((uint64_t)key * 31 + version * 7) % 200, i;
    uint64_t word[2];

    if (large && (key + (int)version) % 16 == 0)
        len = LARGE - len;
    word[0] = (uint64_t)key;
    word[1] = version;
    memcpy(out, word, 16);
    for (i = 16; i < len; i++)
        out[i] = (char)((uint64_t)key + version * 3 + i);
    return len;
}

static int right(int key, const kv_value *v, int large, char *buf, uint64_t *version)
{
    uint64_t word[2];

    if (v->type != KV_STRING || v->len < 16)
        return 0;
    memcpy(word, v->data, 16);
    *version = word[1];
    return word[0] == (uint64_t)key && compose(key, word[1], large, buf) == v->len &&
           memcmp(buf, v->data, v->len) == 0;
}

static kv *handle(shared *s, kv_ns **ns)
{
    kv_options o;
    kv *h = NULL;
    int e;

    kv_options_init(&o);
    o.thread = s->thread;
    o.interval = 1;
    e = kv_open(s->path, &o, &h);
    if (e == KV_OK)
        e = kv_namespace(h, "n", 1, NULL, 0, 1, ns);
    if (e != KV_OK) {
        fprintf(stderr, "%s\n", kv_message());
        exit(1);
    }
    return h;
}

/* As recovery says when it finds no sense in an index: who opens the store next builds another. */
static void spoil(kv *h)
{
    if (kv_lock_writer(h) == KV_OK) {
        kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
        kv_unlock_writer(h);
    }
}

/* The write was refused because of that: once more, with the store opened anew. */
static int again(shared *s, int e, kv **h, kv_ns **ns)
{
    if (!s->spoil || e != KV_ECORRUPT)
        return 0;
    kv_ns_close(*ns);
    kv_close(*h);
    *h = handle(s, ns);
    return 1;
}

typedef struct worker {
    shared *s;
    int index;
    uint64_t seed;
    pthread_t id;
} worker;

static void *write_on(void *arg)
{
    worker *w = arg;
    shared *s = w->s;
    char *buf = malloc(LARGE), key[8];
    kv_ns *ns;
    kv *h = handle(s, &ns);
    uint64_t done;
    long i;

    for (i = 0; i < s->writes; i++) {
        int k = (int)dice(&w->seed, KEYS / WRITERS) * WRITERS + w->index, e;
        uint64_t version = s->begun[k] + 1;
        kv_value v = {KV_STRING, 0, buf, 0, 0};
        kv_write o = {0};

        snprintf(key, sizeof key, "%05d", k % 100000);
        v.len = compose(k, version, s->large, buf);
        set(&s->begun[k], version);
        /* Odd keys may go, even ones are there for good. */
        o.flags = k / WRITERS % 2 && dice(&w->seed, 2) ? KV_TTL : 0;
        o.ttl = 1 + (int64_t)dice(&w->seed, 4);
        do
            e = kv_put(ns, key, 5, &v, &o, NULL, NULL);
        while (again(s, e, &h, &ns));
        if (e != KV_OK)
            complain(s, "put", e);
        set(&s->ended[k], version);
        if (k / WRITERS % 2 && dice(&w->seed, 8) == 0) {
            do
                e = kv_delete(ns, key, 5, NULL, NULL, NULL);
            while (again(s, e, &h, &ns));
            if (e != KV_OK && e != KV_ENOTFOUND)
                complain(s, "delete", e);
        }
        if (s->spoil && dice(&w->seed, 300) == 0)
            spoil(h);
        if (dice(&w->seed, 500) == 0 && (e = kv_tick(h, 200, &done)) != KV_OK &&
            !again(s, e, &h, &ns))
            complain(s, "tick", e);
        if (dice(&w->seed, 2000) == 0 && (e = kv_sync(h)) != KV_OK)
            complain(s, "sync", e);
        if (s->drop && dice(&w->seed, 300) == 0) {
            kv_ns *other = NULL;
            e = kv_namespace(h, "short", 5, NULL, 0, 1, &other);
            if (e == KV_OK)
                e = kv_put(other, key, 5, &v, NULL, NULL, NULL);
            if (e == KV_OK)
                e = kv_drop(h, "short", 5, NULL);
            kv_ns_close(other);
            if (e != KV_OK)
                complain(s, "drop", e);
        }
    }
    kv_ns_close(ns);
    kv_close(h);
    free(buf);
    add(&s->done, 1);
    return NULL;
}

static int number_in(const kv_record *r)
{
    char text[8] = {0};

    return r->key_len == 5 ? atoi(memcpy(text, r->key, 5)) : -1;
}

/* What a list promises: order, each key once, and all that are there for good. */
static void list_once(shared *s, kv_ns *ns, kv_iter *it, int back, int many, char *buf,
                      int all_there)
{
    kv_range range = {0};
    kv_record r;
    several some;
    uint64_t version;
    int last = back ? KEYS : -1, met = 0, e, k;

    range.flags = back ? KV_REVERSE : 0;
    e = kv_iter_init(it, ns, &range);
    several_begin(&some, many);
    while (e == KV_OK && (e = several_next(&some, it, &r)) == KV_OK) {
        k = number_in(&r);
        if (k < 0 || k >= KEYS || (back ? k >= last : k <= last)) {
            complain(s, "listed out of order", e);
            return;
        }
        if (!right(k, &r.value, s->large, buf, &version))
            complain(s, "a wrong value in a list", e);
        met += k / WRITERS % 2 == 0;
        last = k;
    }
    if (e != KV_ENOTFOUND)
        complain(s, "list", e);
    else if (all_there && met != KEYS / 2)
        complain(s, "a list missed a key", e);
    add(&s->listed, 1);
}

static void *read_on(void *arg)
{
    worker *w = arg;
    shared *s = w->s;
    uint64_t seen[KEYS] = {0};
    kv_iter *it = malloc(kv_iter_size());
    char *buf = malloc(LARGE), key[8];
    kv_ns *ns;
    kv *h = handle(s, &ns);
    int all_there = 0, k, e;

    while (get(&s->done) < WRITERS) {
        uint64_t before, version = 0;
        kv_record r;

        k = (int)dice(&w->seed, KEYS);
        snprintf(key, sizeof key, "%05d", k % 100000);
        before = get(&s->ended[k]);
        e = kv_get(ns, key, 5, &r);
        add(&s->reads, 1);
        if (e == KV_OK) {
            add(&s->hits, 1);
            if (!right(k, &r.value, s->large, buf, &version))
                complain(s, "a wrong value", e);
            else if (version < before || version < seen[k] || version > get(&s->begun[k]))
                complain(s, "a value of another time", e);
            seen[k] = version;
        } else if (e != KV_ENOTFOUND || (k / WRITERS % 2 == 0 && before > 0)) {
            complain(s, "get", e);
        }
        if (!all_there && dice(&w->seed, 100) == 0)
            for (all_there = 1, k = 0; k < KEYS; k++)
                all_there &= k / WRITERS % 2 || get(&s->ended[k]) > 0;
        if (dice(&w->seed, 200) == 0)
            list_once(s, ns, it, (int)dice(&w->seed, 2), (int)dice(&w->seed, 2), buf, all_there);
        if (dice(&w->seed, 5000) == 0) {
            /* Handles come and go. */
            kv_ns_close(ns);
            kv_close(h);
            h = handle(s, &ns);
        }
    }
    list_once(s, ns, it, 0, 0, buf, all_there);
    kv_ns_close(ns);
    kv_close(h);
    free(buf);
    free(it);
    return NULL;
}

static void beside(const char *path, int large, int drop, int thread, int spoilt, long writes)
{
    worker w[WRITERS + READERS];
    shared *s = calloc(1, sizeof *s);
    kv_ns *ns;
    kv_record r;
    kv *h;
    char *buf = malloc(LARGE), key[8];
    uint64_t version;
    int i, k;

    s->path = path;
    s->large = large;
    s->drop = drop;
    s->thread = thread;
    s->spoil = spoilt;
    s->writes = writes;
    h = handle(s, &ns);
    for (i = 0; i < WRITERS + READERS; i++) {
        w[i].s = s;
        w[i].index = i;
        w[i].seed = model_seed + (uint64_t)i * 77 + 1;
        if (pthread_create(&w[i].id, NULL, i < WRITERS ? write_on : read_on, &w[i]) != 0)
            exit(1);
    }
    for (i = 0; i < WRITERS + READERS; i++)
        pthread_join(w[i].id, NULL);
    CHECK(s->bad == 0);
    CHECK(s->hits > 0 && s->listed > 0);
    for (k = 0; k < KEYS; k += 1) {
        snprintf(key, sizeof key, "%05d", k % 100000);
        if (k / WRITERS % 2 || s->ended[k] == 0)
            continue;
        CHECK(kv_get(ns, key, 5, &r) == KV_OK && right(k, &r.value, large, buf, &version) &&
              version == s->ended[k]);
    }
    if (!CHECK(kv_check(h) == KV_OK))
        fprintf(stderr, "%s\n", kv_message());
    kv_ns_close(ns);
    kv_close(h);
    h = handle(s, &ns);
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    free(buf);
    free(s);
}

/* Each thread a store of its own, opened and closed again and again. */
static void *own_store(void *arg)
{
    worker *w = arg;
    long i;

    for (i = 0; i < w->s->writes; i++) {
        shared mine = {0};
        kv_ns *ns;
        kv *h;
        kv_value v = {KV_STRING, 5, "value", 0, 0};

        mine.path = w->index % 2 ? ":memory:" : w->s->path;
        mine.thread = w->index < 2;
        h = handle(&mine, &ns);
        if (kv_put(ns, "k", 1, &v, NULL, NULL, NULL) != KV_OK || kv_exists(ns, "k", 1) != KV_OK)
            complain(w->s, "a store of its own", -1);
        kv_ns_close(ns);
        kv_close(h);
    }
    return NULL;
}

static void opened_together(void)
{
    worker w[4];
    shared s = {0};
    int i;

    s.path = at("together");
    s.writes = model_steps(60);
    for (i = 0; i < 4; i++) {
        w[i].s = &s;
        w[i].index = i;
        if (pthread_create(&w[i].id, NULL, own_store, &w[i]) != 0)
            exit(1);
    }
    for (i = 0; i < 4; i++)
        pthread_join(w[i].id, NULL);
    CHECK(s.bad == 0);
}

/* Counting from all threads loses nothing. */
static void *count_on(void *arg)
{
    worker *w = arg;
    kv_value one = {KV_INTEGER, 0, NULL, 1, 0}, sum;
    kv_ns *ns;
    kv *h = handle(w->s, &ns);
    long i;

    for (i = 0; i < w->s->writes; i++)
        if (kv_incr(ns, "sum", 3, &one, NULL, &sum, NULL) != KV_OK)
            complain(w->s, "incr", -1);
    kv_ns_close(ns);
    kv_close(h);
    return NULL;
}

static void counting(void)
{
    worker w[4];
    shared s = {0};
    kv_record r;
    kv_ns *ns;
    kv *h;
    int i;

    s.path = at("count");
    s.writes = model_steps(5000);
    s.thread = 1;
    for (i = 0; i < 4; i++) {
        w[i].s = &s;
        if (pthread_create(&w[i].id, NULL, count_on, &w[i]) != 0)
            exit(1);
    }
    for (i = 0; i < 4; i++)
        pthread_join(w[i].id, NULL);
    h = handle(&s, &ns);
    CHECK(s.bad == 0 && kv_get(ns, "sum", 3, &r) == KV_OK && r.value.integer == 4 * s.writes);
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

int main(void)
{
    model_start("test_thread_store");
    (void)at("x");
    beside(at("plain"), 0, 0, 1, 0, model_steps(40000));
    beside(at("no-helper"), 0, 1, 0, 0, model_steps(15000));
    beside(at("large"), 1, 1, 1, 0, model_steps(3000));
    beside(at("replaced"), 0, 0, 1, 1, model_steps(5000));
    opened_together();
    counting();
    remove_root();
    return check_done("test_thread_store");
}
