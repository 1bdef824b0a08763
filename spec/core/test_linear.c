/* SPDX-License-Identifier: MIT
 *
 * test_linear.c - linearizability: four processes on few keys, some of them killed, and every call
 * written down with the times of its call and return in memory that outlives them.
 *
 * The calls come in epochs. When all have done their share the store is still; then each key's
 * history is judged (history.h), from the state that the epoch before left. Beside that: what a
 * value says of who wrote it is true and belongs to the revision that came with it; counters grow
 * by one; revisions follow the order of the calls over all keys; a batch happened wholly or not.
 *
 * The checker itself is tried first, on histories that are right and on wrong ones. SEED=n repeats
 * the choices, if not the moments; KV_CALLS=n makes that many calls.
 */
#define _GNU_SOURCE
#include "history.h"
#include "several.h"
#include "share.h"

#include <sys/prctl.h>

#define PROCESSES 4
#define PLAIN     6 /* keys that are put and deleted; then a counter and a document */
#define COUNTER   PLAIN
#define DOCUMENT  (PLAIN + 1)
#define KEYS      (PLAIN + 2)
#define EPOCH     50000 /* calls of each process */
#define CAP       (EPOCH + 64)
#define HUNG      240 /* seconds */

typedef struct log_entry {
    call c;
    uint64_t value; /* read, or written */
    uint64_t old;   /* a write: the value that it was told it replaced */
    int half;       /* the first one of a batch; the second one follows */
} log_entry;

static struct {
    uint64_t epoch, go; /* go: the epoch that may be worked on */
    uint64_t done[PROCESSES];
    uint64_t n[PROCESSES + 1]; /* the last one is the judge's */
    uint64_t failed;
    char message[300];
    log_entry log[PROCESSES + 1][CAP];
} * all;

static const char *path;
static uint64_t seed;

static uint64_t roll(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * 0x2545f4914f6cdd1dull >> 11) % below;
}

static void fail(const char *what, int rc)
{
    if (__atomic_exchange_n(&all->failed, 1, __ATOMIC_SEQ_CST) == 0)
        snprintf(all->message, sizeof all->message, "%s: %s: %.200s", what, kv_errname(rc),
                 kv_message());
}

/* ---- values: who wrote them, and as what call --------------------------------------------- */

static uint64_t value_id(uint64_t epoch, int process, uint64_t n)
{
    return epoch << 32 | (uint64_t)process << 28 | n;
}

static uint64_t id_epoch(uint64_t id)
{
    return id >> 32;
}
static int id_process(uint64_t id)
{
    return (int)(id >> 28 & 15);
}
static uint64_t id_call(uint64_t id)
{
    return id & 0xfffffff;
}

static kv_value value_of(uint64_t id, char bytes[4096])
{
    kv_value v = {0};
    uint32_t i;

    v.type = KV_STRING;
    v.data = bytes;
    v.len = id % 61 == 0 ? 3000 : 8 + (uint32_t)(id * 2654435761u % 120);
    memcpy(bytes, &id, 8);
    for (i = 8; i < v.len; i++)
        bytes[i] = (char)(id + i);
    return v;
}

/* 0: it is no value that anybody writes. */
static uint64_t id_of(const kv_value *v, int key)
{
    unsigned long long n = 0;
    uint64_t id = 0;
    static char bytes[4096];
    char text[80];
    kv_value want;

    if (key == COUNTER)
        return v->type == KV_INTEGER ? (uint64_t)v->integer : 0;
    if (key == DOCUMENT) {
        if (v->type != KV_JSON || v->len >= sizeof text)
            return 0;
        memcpy(text, v->data, v->len);
        text[v->len] = 0;
        return sscanf(text, "{\"a\":[1],\"n\":%llu}", &n) == 1 ? n : 0;
    }
    if (v->type != KV_STRING || v->len < 8)
        return 0;
    memcpy(&id, v->data, 8);
    want = value_of(id, bytes);
    return want.len == v->len && memcmp(want.data, v->data, v->len) == 0 ? id : 0;
}

/* ---- calls ------------------------------------------------------------------------------ */

typedef struct worker {
    int me;
    kv *h;
    kv_ns *ns, *filler;
    kv_iter *it;
    uint64_t rev; /* the last one seen */
} worker;

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static log_entry *begin_call(worker *w, int key, int kind)
{
    uint64_t n = all->n[w->me];
    log_entry *e = &all->log[w->me][n];

    memset(e, 0, sizeof *e);
    e->c.key = (uint32_t)key;
    e->c.kind = (uint8_t)kind;
    e->c.process = (uint8_t)w->me;
    e->c.returned = NEVER;
    e->value = value_id(all->epoch, w->me, n);
    e->c.called = kv_os_monotonic();
    __atomic_store_n(&all->n[w->me], n + 1, __ATOMIC_SEQ_CST);
    return e;
}

/* The time last: without it the call has not returned, and nothing else of it counts. */
static void end_call_at(log_entry *e, int kind, uint64_t rev, int64_t now)
{
    e->c.rev = rev;
    e->c.kind = (uint8_t)kind;
    __atomic_store_n(&e->c.returned, now, __ATOMIC_RELEASE);
}

static void end_call(log_entry *e, int kind, uint64_t rev)
{
    end_call_at(e, kind, rev, kv_os_monotonic());
}

static void told(log_entry *e, uint64_t before)
{
    e->c.before = before;
    e->c.told = 1;
}

static uint32_t key_name(int key, char to[16])
{
    return (uint32_t)snprintf(to, 16, "key%d", key);
}

static void do_get(worker *w, int key, int with_rev)
{
    log_entry *e = begin_call(w, key, CALL_READ);
    char name[16];
    uint32_t len = key_name(key, name);
    kv_record r;
    int64_t now;
    int rc;

    memset(&r, 0, sizeof r);
    rc = with_rev ? kv_get(w->ns, name, len, &r) : kv_get_value(w->ns, name, len, &r.value);
    now = kv_os_monotonic();
    if (rc == KV_OK && (e->value = id_of(&r.value, key)) == 0)
        fail("a value that nobody writes", rc);
    end_call_at(e, rc == KV_OK ? CALL_READ : CALL_MISS, rc == KV_OK ? r.rev : 0, now);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        fail("get", rc);
}

/* One listing is a call for each key, all at the same times. */
static void do_list(worker *w)
{
    log_entry *e[KEYS];
    int k, last = -1, rc, reverse = (int)roll(2);
    kv_range range = {0};
    several some;
    kv_record r;

    several_begin(&some, (int)roll(2));
    for (k = 0; k < KEYS; k++)
        e[k] = begin_call(w, k, CALL_READ);
    for (k = 0; k < KEYS; k++)
        e[k]->value = 0;
    range.flags = reverse ? KV_REVERSE : 0;
    rc = kv_iter_init(w->it, w->ns, &range);
    while (rc == KV_OK && (rc = several_next(&some, w->it, &r)) == KV_OK) {
        k = r.key_len == 4 && memcmp(r.key, "key", 3) == 0 ? r.key[3] - '0' : KEYS;
        if (k >= KEYS || (last >= 0 && (reverse ? k >= last : k <= last))) {
            fail("listed what never was, or out of order", rc);
            return;
        }
        last = k;
        e[k]->value = id_of(&r.value, k);
        e[k]->c.rev = r.rev;
        if (e[k]->value == 0)
            fail("listed a value that nobody writes", rc);
    }
    if (rc != KV_ENOTFOUND)
        fail("list", rc);
    for (k = 0; k < KEYS; k++)
        end_call(e[k], e[k]->value ? CALL_READ : CALL_UNLISTED, e[k]->c.rev);
}

static void do_put(worker *w, int key)
{
    static char bytes[4096];
    log_entry *e = begin_call(w, key, CALL_PUT);
    int how = (int)roll(6), kind = CALL_PUT, rc;
    char name[16];
    uint32_t len = key_name(key, name);
    kv_value v = value_of(e->value, bytes);
    kv_write o = {0};
    kv_record old;
    uint64_t rev = 0;

    old.rev = 0;
    if (how == 1) {
        o.flags = KV_IF_NOT_EXIST;
    } else if (how == 2) {
        o.flags = KV_IF_EXIST;
    } else if (how == 3) { /* what somebody else may change until then */
        rc = kv_get(w->ns, name, len, &old);
        o.flags = KV_IF_REV;
        o.if_rev = rc == KV_OK ? old.rev : 0;
        e->old = rc == KV_OK ? id_of(&old.value, key) : 0;
    }
    rc = kv_put(w->ns, name, len, &v, &o, &rev, how == 4 ? &old : NULL);
    if (rc == KV_EEXISTS && how == 1) {
        kind = CALL_THERE;
    } else if (rc == KV_ENOTFOUND && how == 2) {
        kind = CALL_MISS;
    } else if (rc == KV_ECONFLICT && how == 3) {
        kind = o.if_rev ? CALL_OTHER : CALL_THERE;
        rev = o.if_rev;
    } else if (rc != KV_OK) {
        fail("put", rc);
    } else if (how == 1) {
        told(e, 0);
    } else if (how == 3 || how == 4) {
        told(e, how == 3 ? o.if_rev : old.rev);
        if (how == 4 && old.rev)
            e->old = id_of(&old.value, key);
    }
    end_call(e, kind, rev);
}

static void do_delete(worker *w, int key)
{
    log_entry *e = begin_call(w, key, CALL_DELETE);
    int tell = roll(2) == 0, rc;
    char name[16];
    uint32_t len = key_name(key, name);
    kv_record old;
    uint64_t rev = 0;

    rc = kv_delete(w->ns, name, len, NULL, &rev, tell ? &old : NULL);
    if (rc == KV_OK && tell) {
        told(e, old.rev);
        e->old = id_of(&old.value, key);
    }
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        fail("delete", rc);
    end_call(e, rc == KV_OK ? CALL_DELETE : CALL_MISS, rev);
}

static void do_batch(worker *w)
{
    int keys[2], i, rc;
    log_entry *e[2];
    static char texts[2][4096];
    char names[2][16];
    kv_item items[2];
    uint64_t rev = 0;

    keys[0] = (int)roll(PLAIN);
    keys[1] = (keys[0] + 1 + (int)roll(PLAIN - 1)) % PLAIN;
    memset(items, 0, sizeof items);
    for (i = 0; i < 2; i++) {
        e[i] = begin_call(w, keys[i], CALL_PUT);
        e[i]->half = i == 0;
        items[i].key = names[i];
        items[i].len = key_name(keys[i], names[i]);
        items[i].value = value_of(e[i]->value, texts[i]);
    }
    rc = kv_put_many(w->ns, items, 2, &rev, NULL);
    if (rc != KV_OK)
        fail("batch", rc);
    for (i = 0; i < 2; i++)
        end_call(e[i], CALL_PUT, rev - 1 + (uint64_t)i);
}

static void do_count(worker *w, int key)
{
    log_entry *e = begin_call(w, key, CALL_PUT);
    kv_value by = {0}, sum = {0};
    kv_edit edit = {0};
    kv_edited edited = {0};
    char name[16];
    uint32_t len = key_name(key, name);
    uint64_t rev = 0;
    int rc;

    e->value = 0; /* not known before it is done */
    by.type = KV_INTEGER;
    by.integer = 1;
    if (key == COUNTER) {
        rc = kv_incr(w->ns, name, len, &by, NULL, &sum, &rev);
    } else {
        edit.op = KV_EDIT_INCREMENT;
        edit.path = "n";
        edit.path_len = 1;
        edit.by = by;
        rc = kv_edit_field(w->ns, name, len, &edit, &edited);
        sum = edited.value;
        rev = edited.rev;
    }
    if (rc != KV_OK)
        fail("count", rc);
    e->value = (uint64_t)sum.integer;
    end_call(e, CALL_PUT, rev);
}

/* What makes buckets split, leaves change and segments go; only the revisions are of interest. */
static void do_filler(worker *w)
{
    log_entry *e;
    uint64_t rev = 0;
    char name[24];
    kv_value v = text_of("a value of some length, as fillers have it, so that the log gets on");
    int rc;

    snprintf(name, sizeof name, "f%u", (unsigned)roll(3000));
    e = begin_call(w, KEYS, CALL_PUT);
    rc = roll(3) ? kv_put(w->filler, name, strlen(name), &v, NULL, &rev, NULL)
                 : kv_delete(w->filler, name, strlen(name), NULL, &rev, NULL);
    end_call(e, rc == KV_OK ? CALL_PUT : CALL_NOTHING, rev);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        fail("filler", rc);
    if (roll(200) == 0 && kv_tick(w->h, 50, NULL) != KV_OK)
        fail("tick", KV_EIO);
}

static void one_call(worker *w)
{
    uint64_t dice = roll(100), rev;
    int key = (int)roll(PLAIN);

    if (dice < 38)
        do_get(w, (int)roll(KEYS), dice % 2 != 0);
    else if (dice < 40)
        do_list(w);
    else if (dice < 62)
        do_put(w, key);
    else if (dice < 72)
        do_delete(w, key);
    else if (dice < 76)
        do_batch(w);
    else if (dice < 82)
        do_count(w, COUNTER + (int)(dice % 2));
    else if (dice < 97)
        do_filler(w);
    else {
        rev = kv_rev(w->h);
        if (rev < w->rev)
            fail("the revision went back", KV_OK);
        w->rev = rev;
    }
}

static void open_worker(worker *w, int me)
{
    kv_options o;

    kv_options_init(&o);
    o.sync = KV_SYNC_NONE;
    o.timeout = 60000;
    o.thread = me % 2;
    w->me = me;
    w->rev = 0;
    w->it = malloc(kv_iter_size());
    if (kv_open(path, &o, &w->h) != KV_OK ||
        kv_namespace(w->h, "n", 1, NULL, 0, 1, &w->ns) != KV_OK ||
        kv_namespace(w->h, "f", 1, NULL, 0, 1, &w->filler) != KV_OK)
        fail("open", KV_EIO);
}

static void work(int me, uint64_t chance)
{
    uint64_t epoch;
    worker w;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    seed = chance | 1;
    open_worker(&w, me);
    while (!all->failed) {
        epoch = load(&all->go);
        if (load(&all->done[me]) >= epoch) {
            kv_os_sleep(1);
            continue;
        }
        while (all->n[me] < EPOCH && !all->failed)
            one_call(&w);
        __atomic_store_n(&all->done[me], epoch, __ATOMIC_SEQ_CST);
    }
    _exit(1);
}

/* ---- judging ---------------------------------------------------------------------------- */

static struct {
    call first; /* the state with which the epoch began */
    uint64_t value;
} state[KEYS];

static uint64_t base, judged, seen_lost; /* base: the last revision of the epoch before */

static int complain(const char *what, const log_entry *e)
{
    fprintf(stderr, "  %s: key %u, process %u, kind %u, revision %llu, value %llx\n", what,
            e->c.key, e->c.process, e->c.kind, (unsigned long long)e->c.rev,
            (unsigned long long)e->value);
    return 0;
}

/* The write whose value this is; NULL: that is from before the epoch. */
static log_entry *writer_of(uint64_t id)
{
    if (id_epoch(id) != all->epoch || id_process(id) >= PROCESSES ||
        id_call(id) >= all->n[id_process(id)])
        return NULL;
    return &all->log[id_process(id)][id_call(id)];
}

/* What was seen of a key that holds its writers' names: adds what is known of revisions. */
static int resolve(log_entry *e)
{
    log_entry *w = writer_of(e->value);

    if (w == NULL) {
        if (e->value != state[e->c.key].value || state[e->c.key].first.kind != CALL_PUT)
            return complain("a value that nobody wrote", e);
        if (e->c.rev == 0)
            e->c.rev = state[e->c.key].first.rev;
        return e->c.rev == state[e->c.key].first.rev || complain("a value of another revision", e);
    }
    if (w->c.key != e->c.key || w->c.kind != CALL_PUT)
        return complain("a value of another key, or that was refused", e);
    if (w->c.rev == 0) {
        w->c.rev = e->c.rev; /* its process was killed, but it was written */
        seen_lost += e->c.rev != 0;
    }
    if (e->c.rev == 0)
        e->c.rev = w->c.rev;
    if (e->c.rev == 0)
        e->c.kind = CALL_NOTHING; /* nobody who saw it knows its revision */
    return e->c.rev == w->c.rev || complain("a value of another revision", e);
}

/* The same for what a write was told that it replaced. */
static int resolve_old(const log_entry *e)
{
    log_entry seen;

    if (!e->c.told || e->c.before == 0)
        return 1;
    memset(&seen, 0, sizeof seen);
    seen.value = e->old;
    seen.c = e->c;
    seen.c.kind = CALL_READ;
    seen.c.rev = e->c.before;
    return resolve(&seen);
}

/* Counters: a number belongs to one revision, and the next number to the next one. */
typedef struct counted {
    uint64_t value;
    log_entry *e;
} counted;

static int by_value(const void *a, const void *b)
{
    const counted *x = a, *y = b;

    return (x->value > y->value) - (x->value < y->value);
}

static int resolve_counter(int key)
{
    counted *c = malloc((PROCESSES + 1) * CAP * sizeof *c), find, *at;
    size_t n = 0, i, missing, lost = 0;
    int p, good = 1;
    uint64_t j, last = state[key].value, rev = state[key].first.rev;
    log_entry *e;

    for (p = 0; p < PROCESSES; p++)
        for (j = 0; j < all->n[p]; j++) {
            e = &all->log[p][j];
            if (e->c.key != (uint32_t)key || e->c.kind != CALL_PUT)
                continue;
            if (e->c.returned == NEVER) {
                lost++;
                continue;
            }
            c[n].value = e->value;
            c[n++].e = e;
        }
    qsort(c, n, sizeof *c, by_value);
    for (i = missing = 0; i < n && good; i++) {
        if (c[i].value <= last || c[i].e->c.rev <= rev)
            good = complain("a counter went back, or counted twice", c[i].e);
        missing += c[i].value - last - 1;
        last = c[i].value;
        rev = c[i].e->c.rev;
    }
    if (good && missing > lost)
        good = complain("a counter jumped", c[n - 1].e);
    for (p = 0; p <= PROCESSES && good; p++)
        for (j = 0; j < all->n[p] && good; j++) {
            e = &all->log[p][j];
            if (e->c.key != (uint32_t)key || e->c.kind != CALL_READ || e->c.returned == NEVER)
                continue;
            find.value = e->value;
            at = bsearch(&find, c, n, sizeof *c, by_value);
            if (at == NULL && e->value == state[key].value)
                rev = state[key].first.rev;
            else if (at != NULL)
                rev = at->e->c.rev;
            else if (lost > 0 && e->value > state[key].value && e->value <= last + lost)
                rev = 0, e->c.kind = CALL_NOTHING; /* of somebody who was killed */
            else
                good = complain("a number that nobody counted", e);
            if (rev && e->c.rev == 0)
                e->c.rev = rev;
            if (rev && e->c.rev != rev)
                good = complain("a number of another revision", e);
        }
    free(c);
    return good;
}

/* Over all keys: who was called after another had returned has the higher revision. *unused: those
 * of nobody. */
static int judge_revisions(uint64_t top, uint64_t **unused, size_t *gaps)
{
    uint64_t j, rev;
    log_entry **at, *e;
    size_t room = 0;
    int64_t latest = 0;
    int p, good = 1;

    at = calloc(top - base + 1, sizeof *at);
    for (p = 0; p < PROCESSES && good; p++)
        for (j = 0; j < all->n[p] && good; j++) {
            e = &all->log[p][j];
            if (e->c.kind < CALL_PUT || e->c.rev == 0)
                continue;
            if (e->c.rev <= base || e->c.rev > top || at[e->c.rev - base] != NULL)
                good = complain("a revision twice, or out of bounds", e);
            else
                at[e->c.rev - base] = e;
        }
    *gaps = 0;
    for (rev = base + 1; rev <= top && good; rev++) {
        e = at[rev - base];
        if (e == NULL) {
            *unused = history_grow(*unused, &room, *gaps, sizeof **unused);
            (*unused)[(*gaps)++] = rev;
            continue;
        }
        if (e->c.returned < latest)
            good = complain("revisions in another order than the calls", e);
        if (e->c.called > latest)
            latest = e->c.called;
    }
    free(at);
    return good;
}

/* Both halves of a batch, or neither: of those who were killed as far as somebody saw them. */
static int judge_batches(void)
{
    int p;
    uint64_t j;

    for (p = 0; p < PROCESSES; p++)
        for (j = 0; j + 1 < all->n[p]; j++) {
            const log_entry *e = &all->log[p][j], *f = e + 1;

            if (e->half && e->c.rev && f->c.rev && f->c.rev != e->c.rev + 1)
                return complain("half a batch", e);
        }
    return 1;
}

static int judge_key(int key, history *h, const uint64_t *unused, size_t gaps, call *calls)
{
    size_t n = 0;
    uint64_t j;
    int p;

    for (p = 0; p <= PROCESSES; p++)
        for (j = 0; j < all->n[p]; j++) {
            const call *c = &all->log[p][j].c;

            if (c->key == (uint32_t)key && (c->returned != NEVER || c->kind >= CALL_PUT))
                calls[n++] = *c;
        }
    judged += n;
    if (history_check(h, &state[key].first, calls, n, unused, gaps))
        return 1;
    fprintf(stderr, "  key %d, %zu revisions of nobody: %s", key, gaps, h->why);
    if (h->culprit)
        fprintf(stderr, " (process %u, kind %u, revision %llu, %lld to %lld)", h->culprit->process,
                h->culprit->kind, (unsigned long long)h->culprit->rev,
                (long long)h->culprit->called, (long long)h->culprit->returned);
    fputc('\n', stderr);
    return 0;
}

static int judge(worker *me)
{
    static call *calls;
    static history h;
    uint64_t *unused = NULL, j;
    size_t gaps = 0;
    int p, k, pass, good = 1;
    log_entry *e;

    if (calls == NULL)
        calls = malloc((PROCESSES + 1) * CAP * sizeof *calls);
    /* What the epoch ended with is read by the judge, as one more process. */
    all->n[PROCESSES] = 0;
    for (k = 0; k < KEYS; k++)
        do_get(me, k, 1);
    for (k = PLAIN; k < KEYS; k++)
        good = good && resolve_counter(k);
    /* Twice: a revision that is learnt late may be wanted by somebody before. */
    for (pass = 0; pass < 2; pass++)
        for (p = 0; p <= PROCESSES && good; p++)
            for (j = 0; j < all->n[p] && good; j++) {
                e = &all->log[p][j];
                if (e->c.key >= PLAIN || e->c.returned == NEVER)
                    continue;
                if (e->c.kind == CALL_READ && (e->c.rev == 0) == pass)
                    good = resolve(e);
                else if (e->c.kind >= CALL_PUT && pass == 0)
                    good = resolve_old(e);
            }
    good = good && judge_revisions(kv_rev(me->h), &unused, &gaps) && judge_batches();
    for (k = 0; k < KEYS && good; k++)
        good = judge_key(k, &h, unused, gaps, calls);
    for (k = 0; k < KEYS; k++) {
        e = &all->log[PROCESSES][k];
        memset(&state[k].first, 0, sizeof state[k].first);
        state[k].first.key = (uint32_t)k;
        state[k].first.kind = e->c.kind == CALL_MISS ? CALL_DELETE : CALL_PUT;
        state[k].first.rev = e->c.kind == CALL_MISS ? 0 : e->c.rev;
        state[k].value = e->c.kind == CALL_MISS ? 0 : e->value;
    }
    base = kv_rev(me->h);
    free(unused);
    return good;
}

/* ---- the checker on histories that are known ---------------------------------------------- */

static int verdict(const call *calls, size_t n, const uint64_t *unused, size_t gaps)
{
    history h;
    call first = {0};
    int sound;

    memset(&h, 0, sizeof h);
    first.kind = CALL_DELETE;
    sound = history_check(&h, &first, calls, n, unused, gaps);
    history_free(&h);
    return sound;
}

#define PUT(from, to, r)                                                                           \
    {                                                                                              \
        from, to, r, 0, 0, CALL_PUT, 0, 0                                                          \
    }
#define REMOVE(from, to, r)                                                                        \
    {                                                                                              \
        from, to, r, 0, 0, CALL_DELETE, 0, 0                                                       \
    }
#define READ(from, to, r)                                                                          \
    {                                                                                              \
        from, to, r, 0, 0, CALL_READ, 0, 0                                                         \
    }
#define MISS(from, to)                                                                             \
    {                                                                                              \
        from, to, 0, 0, 0, CALL_MISS, 0, 0                                                         \
    }
#define UNLISTED(from, to)                                                                         \
    {                                                                                              \
        from, to, 0, 0, 0, CALL_UNLISTED, 0, 0                                                     \
    }
#define THERE(from, to)                                                                            \
    {                                                                                              \
        from, to, 0, 0, 0, CALL_THERE, 0, 0                                                        \
    }
#define IS(...)                                                                                    \
    verdict((const call[]){__VA_ARGS__}, sizeof((const call[]){__VA_ARGS__}) / sizeof(call), NULL, \
            0)

static void known_histories(void)
{
    static const uint64_t free_ones[] = {2, 4};
    const call lost[] = {PUT(1, 2, 1), REMOVE(3, NEVER, 0), MISS(5, 6), PUT(7, 8, 3),
                         READ(9, 10, 3)};
    const call hindering[] = {PUT(1, NEVER, 0), THERE(2, 3), REMOVE(4, 5, 3)};
    const call found[] = {PUT(1, 2, 1), REMOVE(3, NEVER, 0), MISS(5, 6), READ(7, 8, 1)};

    CHECK(IS(PUT(1, 2, 1), READ(3, 4, 1)));
    CHECK(IS(MISS(1, 2), PUT(1, 2, 1)));
    CHECK(!IS(PUT(1, 2, 1), MISS(3, 4)));                                 /* lost */
    CHECK(!IS(READ(1, 2, 1), PUT(3, 4, 1)));                              /* foreseen */
    CHECK(!IS(PUT(1, 2, 1), READ(3, 4, 9)));                              /* never written */
    CHECK(!IS(PUT(1, 2, 1), PUT(3, 4, 2), READ(5, 6, 1)));                /* stale */
    CHECK(IS(PUT(1, 2, 1), PUT(3, 6, 2), READ(4, 5, 1)));                 /* not yet */
    CHECK(IS(PUT(1, 2, 1), PUT(3, 6, 2), READ(4, 5, 2)));                 /* already */
    CHECK(!IS(PUT(1, 2, 1), PUT(3, 9, 2), READ(4, 5, 2), READ(6, 7, 1))); /* taken back */
    CHECK(IS(PUT(1, 2, 1), PUT(3, 9, 2), READ(4, 7, 2), READ(6, 8, 1)));
    CHECK(!IS(PUT(1, 2, 2), PUT(3, 4, 1))); /* revisions the wrong way round */
    CHECK(!IS(PUT(1, 2, 1), PUT(3, 4, 1))); /* one for two */
    CHECK(IS(PUT(1, 9, 1), READ(2, 3, 1), REMOVE(4, 5, 2), MISS(6, 7)));
    CHECK(!IS(PUT(1, 9, 1), READ(2, 3, 1), REMOVE(4, 5, 2), READ(6, 7, 1)));
    CHECK(!IS(PUT(1, 2, 1), REMOVE(3, 8, 2), MISS(4, 5), READ(6, 7, 1)));
    CHECK(IS(PUT(1, 2, 1), REMOVE(3, 8, 2), MISS(4, 7), READ(6, 7, 1)));
    CHECK(!IS(PUT(1, 2, 1), REMOVE(3, 4, 2), THERE(5, 6)));
    CHECK(IS(PUT(1, 2, 1), REMOVE(3, 6, 2), THERE(4, 5)));
    CHECK(!IS(PUT(1, 2, 1), UNLISTED(3, 4), REMOVE(5, 6, 2)));
    CHECK(IS(PUT(1, 2, 1), REMOVE(3, 8, 2), UNLISTED(4, 5), READ(6, 7, 1)));
    CHECK(!IS(PUT(1, 2, 1), REMOVE(3, 4, 2), PUT(5, 6, 3), UNLISTED(7, 8)));
    /* Misses that leave each other no room: the key was there from 4 to 9 at the least. */
    CHECK(!IS(PUT(1, 3, 1), REMOVE(10, 12, 2), READ(9, 13, 1), MISS(4, 8)));
    /* A miss that only fits the first of two gaps, as the second one comes too late for it. */
    CHECK(IS(PUT(1, 2, 1), REMOVE(3, 4, 2), PUT(5, 6, 3), REMOVE(5, 20, 4), READ(10, 11, 3),
             MISS(4, 7)));
    /* A delete whose process was killed: it may have happened, but only if it had a revision, and
     * what it hid does not come back. */
    CHECK(verdict(lost, 5, free_ones, 2) && !verdict(lost, 5, NULL, 0));
    CHECK(!verdict(found, 4, free_ones, 2));
    CHECK(verdict(hindering, 3, free_ones, 2) && !verdict(hindering, 3, NULL, 0));
    {
        call told_wrong[] = {PUT(1, 2, 1), PUT(3, 4, 2), PUT(5, 6, 3)};

        told_wrong[2].told = 1;
        told_wrong[2].before = 2;
        CHECK(verdict(told_wrong, 3, NULL, 0));
        told_wrong[2].before = 1;
        CHECK(!verdict(told_wrong, 3, NULL, 0));
    }
}

/* ---- the test --------------------------------------------------------------------------- */

static pid_t pids[PROCESSES];
static uint64_t kills;

static void start(int p)
{
    uint64_t chance = roll(UINT64_MAX);

    fflush(NULL);
    pids[p] = check_fork();
    if (pids[p] == 0)
        work(p, chance);
    CHECK(pids[p] > 0);
}

static int finished(void)
{
    int p;

    for (p = 0; p < PROCESSES; p++)
        if (load(&all->done[p]) < all->epoch)
            return 0;
    return 1;
}

/* Somebody is killed now and then; who follows goes on with his share. */
static int one_epoch(worker *me)
{
    int64_t until = kv_os_monotonic() + (int64_t)HUNG * 1000000000;
    int p, deaths = 0;

    all->epoch++;
    memset(all->n, 0, sizeof all->n);
    __atomic_store_n(&all->go, all->epoch, __ATOMIC_SEQ_CST);
    while (!finished() && !all->failed) {
        kv_os_sleep(2);
        if (!CHECK(kv_os_monotonic() < until))
            return 0;
        p = (int)roll(PROCESSES);
        if (deaths < 6 && roll(6) == 0 && load(&all->done[p]) < all->epoch) {
            kill(pids[p], SIGKILL);
            CHECK(WIFSIGNALED(status_of(pids[p])));
            start(p);
            deaths++;
            kills++;
        }
    }
    return CHECK(all->failed == 0) && CHECK(judge(me));
}

int main(void)
{
    const char *given = getenv("SEED"), *calls = getenv("KV_CALLS");
    uint64_t want = calls                ? strtoull(calls, NULL, 10)
                    : getenv("KV_SHORT") ? 100000
                    : getenv("KV_LONG")  ? 50000000
                                         : 500000;
    kv_value one = {0};
    double seconds;
    int64_t began = kv_os_monotonic();
    worker me;
    int p, good = 1;

    known_histories();
    if (!share_begin())
        return 2;
    if (given)
        seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&seed, sizeof seed);
    seed |= 1;
    printf("test_linear: SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    path = at("store");
    all = mmap(NULL, (sizeof *all + KV_PAGE) / KV_PAGE * KV_PAGE, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return 2;
    open_worker(&me, PROCESSES);
    one.type = KV_INTEGER;
    one.integer = 1;
    CHECK(kv_put(me.ns, "key6", 4, &one, NULL, &state[COUNTER].first.rev, NULL) == KV_OK);
    one.type = KV_JSON;
    one.data = "{\"a\":[1],\"n\":1}";
    one.len = 15;
    CHECK(kv_put(me.ns, "key7", 4, &one, NULL, &state[DOCUMENT].first.rev, NULL) == KV_OK);
    for (p = 0; p < KEYS; p++)
        state[p].first.kind = p < PLAIN ? CALL_DELETE : CALL_PUT;
    state[COUNTER].value = state[DOCUMENT].value = 1;
    base = kv_rev(me.h);
    for (p = 0; p < PROCESSES; p++)
        start(p);
    while (good && judged < want)
        good = one_epoch(&me);
    if (all->failed)
        fprintf(stderr, "  %s\n", all->message);
    for (p = 0; p < PROCESSES; p++)
        kill_it(pids[p]);
    CHECK(sound(me.h));
    kv_ns_close(me.ns);
    kv_ns_close(me.filler);
    kv_close(me.h);
    free(me.it);
    remove_tree(root);
    seconds = (double)(kv_os_monotonic() - began) / 1e9;
    printf("%llu calls judged (%.0f a second), %llu kills, %llu writes of the dead were seen\n",
           (unsigned long long)judged, (double)judged / seconds, (unsigned long long)kills,
           (unsigned long long)seen_lost);
    return check_done("test_linear");
}
