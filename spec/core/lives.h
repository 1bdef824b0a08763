/* SPDX-License-Identifier: MIT
 *
 * lives.h - what the tests of power cuts share: two processes' worth of handles that write to one
 * store, its history, and cuts, each of which must open to a part of that history.
 *
 * The second handle has descriptors and mappings of its own, as another process would. Operations
 * take turns, and in the middle of one, before a system call, the other handle may do some too. A
 * cut comes after an operation or before a system call; what it opens to must be the state after
 * some operation that is not before the last one known durable.
 *
 * The test says how a cut is made and opened: cut_make, cut_open, cut_drop, and before_call, which
 * learns of every watched system call.
 */
#ifndef KV_SPEC_LIVES_H
#define KV_SPEC_LIVES_H

#include "state.h"

#define OPS     40
#define STATES  3 /* that an operation adds at most: two around one in its middle, its own */
#define PENDING 400

typedef struct cut {
    char path[STATE_PATH];
    int low;  /* states from here on, */
    int high; /* to here; -1: of the operation under way */
    char when[40];
} cut;

/* ---- of the test ---- */

static void cut_make(const cut *c);
static int cut_open(const cut *c, const kv_options *o, kv **h);
static void cut_drop(const cut *c); /* after it was closed */
enum call { CALL_SYNC, CALL_SYNC_NAMES, CALL_UNLINK, CALL_RENAME, CALL_OTHER };
static void before_call(enum call call, const char *what);

/* ---- history ---- */

static char live[STATE_PATH]; /* the store */
static kv *writer[2];
static kv_ns *main_of[2];
static int mode[2]; /* KV_SYNC_* */
static state history[OPS * STATES + 4];
static int now_at, synced_at; /* the last state; the last one durable for certain */
static int64_t clock_ms = 1750000000000;
static int creating; /* there was no store when this life began */
static int watching; /* system calls are looked at */
static int inside;   /* the writer whose operation is under way, if the other may do one; else -1 */
static int cut_odds = 2, cut_after = 1; /* one in so many calls, and operations */
static uint64_t cuts, cuts_reported, in_middle;
static cut waiting[PENDING];
static int waitings;

static void clock_by(uint64_t ms)
{
    clock_ms += (int64_t)image_below(ms);
    kv_test_clock_set(clock_ms);
}

/* Notes what everybody sees now. */
static int remember(kv *h)
{
    if (now_at + 1 == (int)(sizeof history / sizeof *history))
        image_die("too long a history");
    return CHECK(state_take(h, &history[++now_at]) == KV_OK);
}

static void cut_here(const char *when, int high)
{
    cut *c;

    if (waitings == PENDING)
        return;
    c = &waiting[waitings];
    snprintf(c->path, sizeof c->path, "%.60s/cut%d", state_base, waitings);
    c->low = synced_at;
    c->high = high;
    snprintf(c->when, sizeof c->when, "%.39s", when);
    cut_make(c);
    cuts++;
    waitings++;
}

static int operate(kv *h, kv_ns *ns, int nested, int *is_sync);

/* The other one does something while this one is in the middle of it, and waits for nothing. */
static int in_the_middle(const char *call)
{
    int other = !inside, is_sync, rc;

    inside = -1;
    if (!remember(writer[other]))
        return 0;
    in_middle++;
    rc = operate(writer[other], main_of[other], 1, &is_sync);
    if (!CHECK(rc == KV_OK || rc == KV_EBUSY) || !remember(writer[other])) {
        fprintf(stderr, "  in the middle of %s: %s\n", call, kv_message());
        return 0;
    }
    if (image_below(2))
        cut_here("the middle of a call", -1);
    return 1;
}

static int on_call(const char *call, const char *what)
{
    static const char *const others[] = {"punch", "pwrite", "fallocate"};
    enum call kind = strcmp(call, "fdatasync") == 0 || strcmp(call, "fsync") == 0 ? CALL_SYNC
                     : strcmp(call, "fsync_dir") == 0                             ? CALL_SYNC_NAMES
                     : strcmp(call, "unlink") == 0                                ? CALL_UNLINK
                     : strcmp(call, "rename") == 0                                ? CALL_RENAME
                                                                                  : CALL_OTHER;
    int goes = kind == CALL_UNLINK || kind == CALL_RENAME, i;

    if (!watching)
        return 0;
    if (kind == CALL_OTHER) {
        for (i = 0; i < 3 && strcmp(call, others[i]) != 0; i++)
            continue;
        if (i == 3)
            return 0;
    }
    if (strcmp(call, "punch") != 0 && strncmp(what, live, strlen(live)) != 0)
        return 0;
    watching = 0;
    if (image_below((uint64_t)cut_odds) == 0)
        cut_here(call, -1);
    /* What comes in the middle of a sync is not durable by it; a file goes after it. */
    if (!goes)
        before_call(kind, what);
    watching = 1;
    if (inside >= 0 && mode[!inside] != KV_SYNC_ALWAYS && image_below(4) == 0)
        (void)in_the_middle(call);
    watching = 0;
    if (goes)
        before_call(kind, what);
    watching = 1;
    return 0;
}

static void watch(int on)
{
    watching = on;
    kv_test_syscall = on ? on_call : NULL; /* its arguments take a while to find */
}

/* As a reader sees it at this time. */
static void filter(state *to, const state *from)
{
    size_t i;

    to->n = 0;
    to->rev = from->rev;
    for (i = 0; i < from->n; i++)
        if (from->e[i].expires == 0 || from->e[i].expires > clock_ms)
            *state_append(to) = from->e[i];
}

static int in_history(const state *got, int low, int high)
{
    static state then;
    int i;

    for (i = high; i >= low; i--) {
        filter(&then, &history[i]);
        if (state_same_but_rev(&then, got) && got->rev >= then.rev)
            return 1;
    }
    return 0;
}

static void disagree(const cut *c, const state *got, int high)
{
    static state then;

    fprintf(stderr,
            "  cut before or after %s: durable %d, done %d, sync modes %d and %d, creating %d\n",
            c->when, c->low, high, mode[0], mode[1], creating);
    filter(&then, &history[c->low]);
    state_explain("what was durable, against it", &then, got);
    filter(&then, &history[high]);
    state_explain("what was last, against it", &then, got);
}

static int verify(const cut *c)
{
    static state got;
    kv_options o;
    kv *h;
    int high = c->high < 0 ? now_at : c->high, good;

    kv_options_init(&o);
    o.thread = 0;
    o.create = creating;
    if (!CHECK(cut_open(c, &o, &h) == KV_OK)) {
        fprintf(stderr, "  cut at %s, durable %d, done %d, sync modes %d and %d: %s\n", c->when,
                c->low, high, mode[0], mode[1], kv_message());
        return 0;
    }
    cuts_reported += kv_report(h)[0] != 0;
    good = CHECK(state_take(h, &got) == KV_OK) && CHECK(got.torn == 0);
    if (good && !CHECK(in_history(&got, c->low, high))) {
        disagree(c, &got, high);
        good = 0;
    }
    if (good && image_below(4) == 0 && !CHECK(kv_check(h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        good = 0;
    }
    kv_close(h);
    return good;
}

static int verify_all(void)
{
    int i, good = 1;

    for (i = 0; i < waitings; i++) {
        good = good && verify(&waiting[i]);
        cut_drop(&waiting[i]);
    }
    waitings = 0;
    return good;
}

/* ---- operations ----------------------------------------------------------------------- */

static uint64_t serial;

static kv_value some_text(uint32_t size)
{
    static char bytes[1 << 15];
    kv_value v = {0};
    uint32_t i;

    serial++;
    for (i = 0; i < size; i++)
        bytes[i] = (char)('a' + (serial + i / 64) % 26);
    if (size >= 8)
        memcpy(bytes, &serial, 8);
    v.type = KV_STRING;
    v.data = bytes;
    v.len = size;
    return v;
}

static int put_some(kv_ns *ns, const char *key, int ttl)
{
    static const uint32_t sizes[] = {10, 30, 100, 400, 400, 2000, 6000, 12000, 17000};
    kv_value v = some_text(sizes[image_below(sizeof sizes / sizeof *sizes)]);
    kv_write w = {0};

    if (ttl) {
        w.flags = KV_TTL;
        w.ttl = 100 + (int64_t)image_below(3000);
    }
    return kv_put(ns, key, strlen(key), &v, &w, NULL, NULL);
}

static int put_batch(kv_ns *ns)
{
    kv_item items[8];
    char keys[8][16];
    kv_value v = some_text(10 + (uint32_t)image_below(4000));
    size_t i, n = 2 + image_below(7);

    memset(items, 0, sizeof items);
    for (i = 0; i < n; i++) {
        items[i].len =
            (size_t)snprintf(keys[i], sizeof keys[i], "k%02u", (unsigned)image_below(50));
        items[i].key = keys[i];
        items[i].value = v;
    }
    return kv_put_many(ns, items, n, NULL, NULL);
}

/* is_sync: what there was before is durable now. In the middle of another operation this one makes
 * no namespaces and syncs nothing. */
static int operate(kv *h, kv_ns *ns, int nested, int *is_sync)
{
    uint64_t dice = image_below(nested ? 81 : 100), n;
    kv_value by = {0}, out;
    kv_ns *other;
    char key[16];
    int rc, had;

    snprintf(key, sizeof key, "k%02u", (unsigned)image_below(50));
    by.type = KV_INTEGER;
    by.integer = 1;
    if (dice < 45)
        rc = put_some(ns, key, 0);
    else if (dice < 53)
        rc = put_some(ns, key, 1);
    else if (dice < 63)
        rc = kv_delete(ns, key, strlen(key), NULL, NULL, NULL);
    else if (dice < 68)
        rc = kv_incr(ns, "count", 5, &by, NULL, &out, NULL);
    else if (dice < 76)
        rc = put_batch(ns);
    else if (dice < 79)
        rc = kv_expire(ns, key, strlen(key), 500);
    else if (dice < 81)
        rc = kv_persist(ns, key, strlen(key), &had);
    else if (dice < 83)
        rc = kv_drop(h, "other", 5, &n);
    else if (dice < 86) {
        rc = kv_namespace(h, "other", 5, "text", image_below(2) ? 4 : 3, 1, &other);
        if (rc == KV_OK)
            kv_ns_close(other);
    } else if (dice < 96)
        rc = kv_tick(h, 50, NULL);
    else
        rc = kv_sync(h);
    *is_sync = dice >= 96 && rc == KV_OK;
    return rc == KV_ENOTFOUND || rc == KV_ENOTNUMBER ? KV_OK : rc;
}

/* ---- a life ---- */

/* Of writer w, from state `from` on: what is known durable after it. Its own write came between a
 * state of its own and the one before; after a state that it noted for the other one comes that
 * one's. */
static void note_durable(int w, int from, int is_sync)
{
    int i;

    if (is_sync && synced_at < from)
        synced_at = from;
    if (mode[w] != KV_SYNC_ALWAYS)
        return;
    for (i = from + 1; i <= now_at; i += 2)
        if (history[i].rev > history[i - 1].rev) {
            if (synced_at < i)
                synced_at = i;
            return;
        }
}

/* What `between` does comes after each operation. */
static int live_on(void (*between)(void))
{
    int w, from, is_sync, rc, done;

    for (done = 0; done < OPS; done++) {
        clock_by(200);
        w = (int)image_below(2);
        from = now_at;
        inside = w;
        watch(1);
        rc = operate(writer[w], main_of[w], 0, &is_sync);
        watch(0);
        inside = -1;
        if (!CHECK(rc == KV_OK)) {
            fprintf(stderr, "  %s\n", kv_message());
            return 0;
        }
        if (!remember(writer[image_below(2)]))
            return 0;
        note_durable(w, from, is_sync);
        if (image_below((uint64_t)cut_after) == 0)
            cut_here("an operation", now_at);
        if (!verify_all())
            return 0;
        between();
    }
    return 1;
}

static int begin_life(void)
{
    static state first;
    kv_options o;
    int i, rc;

    kv_options_init(&o);
    o.interval = 1;
    o.thread = 0;
    o.create = creating;
    o.timeout = 0; /* nobody waits for who is in the middle of something */
    now_at = synced_at = 0;
    inside = -1;
    state_free(&history[0]);
    clock_by(2000);
    /* What it opens to is known only after it is open; what is cut out meanwhile waits. */
    for (i = 0; i < 2; i++) {
        mode[i] = o.sync = (int)image_below(3);
        watch(1);
        rc = state_open_apart(live, &o, writer, i, &writer[i]);
        watch(0);
        if (!CHECK(rc == KV_OK)) {
            fprintf(stderr, "  %s\n", kv_message());
            return 0;
        }
        if (i == 0 && !CHECK(state_take(writer[0], &first) == KV_OK))
            return 0;
        if (i == 0)
            state_assign(&history[0], &first);
        if (!verify_all())
            return 0;
        creating = o.create = 0;
    }
    for (i = 0; i < 2; i++) {
        watch(1);
        rc = kv_namespace(writer[i], "main", 4, NULL, 0, 1, &main_of[i]);
        watch(0);
        /* Whether it was new or not, it is there or not. */
        if (!CHECK(rc == KV_OK) || !remember(writer[i]) || !verify_all())
            return 0;
    }
    return 1;
}

/* Closes both; cuts go on meanwhile when asked to. */
static int end_life(int watched)
{
    int i, good = 1;

    for (i = 0; i < 2; i++) {
        kv_ns_close(main_of[i]);
        watch(watched);
        kv_close(writer[i]);
        watch(0);
        writer[i] = NULL;
        if (watched && mode[i] != KV_SYNC_NONE)
            synced_at = now_at;
        good = verify_all() && good;
    }
    return good;
}

#endif
