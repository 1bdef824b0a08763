/* SPDX-License-Identifier: MIT
 *
 * test_spoilt.c - an open store whose index goes bad under its users: each part of the shared index
 * spoilt in each way, and then each call; and records in the log that no version of kv has written.
 *
 * A call says what is wrong or gives what is right; it neither crashes nor hangs, and never harms
 * the log, from which the next opening builds an index that checks.
 */
#define _GNU_SOURCE
#include "several.h"
#include "state.h"
#include "write.h"

#define T0   1900000000000LL
#define KEYS 160

static char base[STATE_PATH], path[STATE_PATH], other[STATE_PATH];
static kv_options options;
static char large[70000];

static kv_value text(const char *s, uint32_t len)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = s;
    v.len = len;
    return v;
}

/* ---- a store ---- */

static kv *h;
static kv_ns *ns;

static const char *key_of(int i)
{
    static char key[24];

    snprintf(key, sizeof key, "k%03d", i);
    return key;
}

static void fill(void)
{
    kv_ns *gone;
    kv_write w = {0};
    kv_value v, one = {KV_INTEGER, 0, NULL, 1, 0};
    int i;

    memset(large, 'l', sizeof large);
    if (kv_open(base, &options, &h) != KV_OK || kv_namespace(h, "n", 1, "d", 1, 1, &ns) != KV_OK ||
        kv_namespace(h, "gone", 4, NULL, 0, 1, &gone) != KV_OK)
        image_die("fill");
    for (i = 0; i < KEYS; i++) {
        memset(&w, 0, sizeof w);
        if (i % 4 == 1) {
            w.flags = KV_TTL;
            w.ttl = 5000 + i;
        }
        v = i % 5 == 2 ? one : text(large, (uint32_t)(i * 37 % 900));
        CHECK(kv_put(i % 8 == 3 ? gone : ns, key_of(i), 4, &v, &w, NULL, NULL) == KV_OK);
    }
    v = text(large, sizeof large);
    CHECK(kv_put(ns, "large", 5, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_put(gone, "large", 5, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_drop(h, "gone", 4, NULL) == KV_OK);
    kv_ns_close(ns);
    kv_ns_close(gone);
    kv_close(h);
}

static int begin(void)
{
    kv_test_clock_set(T0);
    state_copy(base, path);
    return CHECK(kv_open(path, &options, &h) == KV_OK) &&
           CHECK(kv_namespace(h, "n", 1, NULL, 0, 0, &ns) == KV_OK);
}

/* Without the index that was spoilt. */
static int finish(void)
{
    kv_options o = options;
    char name[STATE_PATH + 300];
    DIR *d;
    struct dirent *f;
    int e;

    kv_ns_close(ns);
    kv_close(h);
    d = opendir(path);
    while (d && (f = readdir(d)) != NULL)
        if (strncmp(f->d_name, "index", 5) == 0) {
            snprintf(name, sizeof name, "%.150s/%.255s", path, f->d_name);
            (void)unlink(name);
        }
    closedir(d);
    e = kv_open(path, &o, &h);
    if (e == KV_OK) {
        e = kv_check(h);
        kv_close(h);
    }
    return e;
}

/* ---- what is spoilt ---- */

static uint64_t *node(int space, uint32_t id)
{
    return (uint64_t *)(void *)kv_region_place(&h->s->region, space, id).ptr;
}

static kv_head *head(void)
{
    return h->s->region.head;
}

/* Each bucket's chain. */
static void link_chains(uint64_t to)
{
    uint64_t i;

    for (i = 0; i < head()->used[KV_BUCKETS]; i++)
        node(KV_BUCKETS, (uint32_t)i)[7] = to;
    node(KV_OVERFLOW, 0)[7] = to;
}

static void endless_chains(void)
{
    link_chains(1);
}

static void lost_chains(void)
{
    link_chains(0xfffffff0u);
}

/* Each slot's address. */
static void move_slots(uint64_t by)
{
    uint64_t i, *w;
    int k;

    for (i = 0; i < head()->used[KV_BUCKETS]; i++) {
        w = node(KV_BUCKETS, (uint32_t)i);
        for (k = 0; k < 7; k++)
            if (w[k])
                w[k] = (w[k] & ~KV_ADDR_MASK) | ((w[k] + by) & KV_ADDR_MASK);
    }
}

static void slots_beside(void)
{
    move_slots(2);
}

static void slots_elsewhere(void)
{
    move_slots((uint64_t)77 << 22);
}

/* Each slot leads to another key's record. */
static void slots_exchanged(void)
{
    uint64_t i, *w, before = 0, addr;
    int k, turn;

    for (turn = 0; turn < 2; turn++)
        for (i = 0; i < head()->used[KV_BUCKETS]; i++) {
            w = node(KV_BUCKETS, (uint32_t)i);
            for (k = 0; k < 7; k++)
                if (w[k]) {
                    addr = w[k] & KV_ADDR_MASK;
                    if (before)
                        w[k] = (w[k] & ~KV_ADDR_MASK) | before;
                    before = addr;
                }
        }
}

static void slots_gone(void)
{
    uint64_t i;

    for (i = 0; i < head()->used[KV_BUCKETS]; i++)
        memset(node(KV_BUCKETS, (uint32_t)i), 0, 56);
}

static void no_buckets(void)
{
    head()->hash[KV_HASH_COUNT] = 0;
    head()->hash[KV_HASH_ENTRIES] = 100000;
}

static void too_many_buckets(void)
{
    head()->hash[KV_HASH_COUNT] = (uint64_t)1 << 33;
}

static void pending_split(void)
{
    head()->hash[KV_HASH_PENDING] = (uint64_t)1 << 40;
}

static void crowded(void)
{
    head()->hash[KV_HASH_ENTRIES] = 100000;
    link_chains(0xfffffff0u);
}

static void order_lost(void)
{
    head()->order[KV_ORDER_ROOT] = 0xfffffff0u;
}

static void order_empty(void)
{
    head()->order[KV_ORDER_ROOT] = 0;
}

static void order_queue(void)
{
    head()->order[KV_ORDER_FREE_HEAD] = head()->order[KV_ORDER_FREE_TAIL] = 0xfffffff0u;
    head()->order[KV_ORDER_FREE_COUNT] = 1000;
}

static void order_leaves(void)
{
    uint64_t i;

    for (i = 0; i < head()->used[KV_NODES]; i++)
        node(KV_NODES, (uint32_t)i)[2] ^= 0xff;
}

/* All keys of a leaf stand before the namespace's. */
static void order_of_others(void)
{
    uint64_t i;
    int b;

    for (i = 0; i < head()->used[KV_NODES]; i++) {
        unsigned char *p = (unsigned char *)node(KV_NODES, (uint32_t)i);

        for (b = 32; b < (int)(node(KV_NODES, (uint32_t)i)[2] >> 32 & 0xffff); b++)
            if (p[b] == 'k')
                p[b] = 'a';
    }
}

static void names_lost(void)
{
    head()->ready[KV_NAMES] = 0;
    h->s->region.limit[KV_NAMES] = 0;
}

static void counters(void)
{
    uint64_t i;

    for (i = 1; i < 8; i += 2)
        node(KV_NAMES, (uint32_t)i)[0] += 1000;
    *kv_st(h->s, KV_ST_KEYS) += 5;
}

static void wheel_links(void)
{
    int i;

    for (i = 16; i < KV_WHEEL_WORDS; i++)
        if (head()->wheel[i])
            head()->wheel[i] |= 0xfffffff0u;
}

static void wheel_time(void)
{
    head()->wheel[KV_WHEEL_NOW] = UINT64_MAX;
}

/* A record's bytes change: the checksum tells. */
static void records(void)
{
    uint64_t i, *w, id = 0;
    int k;

    for (i = 0; i < head()->used[KV_BUCKETS]; i++) {
        w = node(KV_BUCKETS, (uint32_t)i);
        for (k = 0; k < 7; k++)
            if (w[k] && id++ % 2)
                w[k] = (w[k] & ~KV_ADDR_MASK) | ((w[k] & KV_ADDR_MASK) + 1);
    }
}

/* Somebody dies with the writer's lock, whose recovery finds something. */
static void die_with_the_lock(void)
{
    int status;
    pid_t child;

    fflush(NULL);
    child = check_fork();
    if (child == 0) {
        (void)kv_lock_take(&h->s->locks->writer, 1000);
        check_exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void dead_journal(void)
{
    head()->journal.count = KV_JOURNAL_MAX + 1;
    die_with_the_lock();
}

static void dead_split(void)
{
    pending_split();
    die_with_the_lock();
}

static void dead_chains(void)
{
    head()->store[KV_ST_APPLIED] -= 200;
    lost_chains();
    die_with_the_lock();
}

static void marked(void)
{
    kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
}

static void fine(void)
{
}

static const struct spoil {
    const char *name;
    void (*f)(void);
} spoils[] = {
    {"nothing", fine},
    {"endless chains", endless_chains},
    {"lost chains", lost_chains},
    {"slots beside records", slots_beside},
    {"slots into nowhere", slots_elsewhere},
    {"slots exchanged", slots_exchanged},
    {"slots gone", slots_gone},
    {"no buckets", no_buckets},
    {"too many buckets", too_many_buckets},
    {"a pending split", pending_split},
    {"to be split, lost chains", crowded},
    {"order lost", order_lost},
    {"order empty", order_empty},
    {"queue of nodes", order_queue},
    {"leaves", order_leaves},
    {"other keys", order_of_others},
    {"names lost", names_lost},
    {"counters", counters},
    {"timers' links", wheel_links},
    {"timers' time", wheel_time},
    {"half the slots", records},
    {"a dead one's journal", dead_journal},
    {"a dead one's split", dead_split},
    {"a dead one's record, chains", dead_chains},
    {"known to be corrupt", marked},
};

/* ---- calls ---- */

static int any(int i)
{
    kv_record r;

    return kv_get(ns, key_of(i), 4, &r);
}

static int do_get(void)
{
    kv_record r;
    int e = any(0), f = any(1), g = kv_get(ns, "large", 5, &r);

    return e < f ? e : f < g ? f : g;
}

static int do_get_value(void)
{
    kv_value v;
    int e = kv_get_value(ns, key_of(2), 4, &v);

    return e == KV_OK ? kv_peek(ns, key_of(4), 4, &v) : e;
}

static int do_exists(void)
{
    return kv_exists(ns, key_of(6), 4);
}

static int do_put(void)
{
    kv_value v = text("new", 3);
    int e = kv_put(ns, "a new key", 9, &v, NULL, NULL, NULL);

    return e == KV_OK ? kv_put(ns, key_of(0), 4, &v, NULL, NULL, NULL) : e;
}

static int do_put_with_time(void)
{
    kv_write w = {0};
    kv_value v = text("new", 3);

    w.flags = KV_TTL;
    w.ttl = 1000;
    return kv_put(ns, key_of(4), 4, &v, &w, NULL, NULL);
}

static int do_put_large(void)
{
    kv_value v = text(large, 66000);

    return kv_put(ns, "large", 5, &v, NULL, NULL, NULL);
}

static int do_delete(void)
{
    return kv_delete(ns, key_of(4), 4, NULL, NULL, NULL);
}

static int do_expire(void)
{
    int had, e = kv_expire(ns, key_of(8), 4, 500);

    return e == KV_OK ? kv_persist(ns, key_of(8), 4, &had) : e;
}

static int do_incr(void)
{
    kv_value by = {KV_INTEGER, 0, NULL, 1, 0}, out;

    return kv_incr(ns, key_of(2), 4, &by, NULL, &out, NULL);
}

static int do_many(void)
{
    kv_item items[40];
    int i;

    memset(items, 0, sizeof items);
    for (i = 0; i < 40; i++) {
        items[i].key = i % 2 ? "same" : "large";
        items[i].len = i % 2 ? 4 : 5;
        items[i].value = i == 38 ? text(large, 69000) : text("batch", 5);
    }
    return kv_put_many(ns, items, 40, NULL, NULL);
}

static int do_delete_prefix(void)
{
    uint64_t n;

    return kv_delete_prefix(ns, "k", 1, &n);
}

static int do_list(int reverse, int many)
{
    several some;
    kv_iter *it = malloc(kv_iter_size());
    kv_range range = {0};
    kv_record r;
    int e, n;

    range.flags = reverse ? KV_REVERSE : 0;
    e = kv_iter_init(it, ns, &range);
    several_begin(&some, many);
    for (n = 0; e == KV_OK && n < 10 * KEYS; n++)
        e = several_next(&some, it, &r);
    CHECK(n < 10 * KEYS);
    free(it);
    return e == KV_ENOTFOUND ? KV_OK : e;
}

static int do_forwards(void)
{
    return do_list(0, 0);
}

static int do_backwards(void)
{
    return do_list(1, 0);
}

static int do_several(void)
{
    return do_list(0, 1);
}

static int do_count(void)
{
    uint64_t n;

    return kv_count(ns, NULL, &n);
}

static int do_names(void)
{
    kv_ns_info info;
    int e, n;

    info.name_len = 0;
    for (n = 0, e = KV_OK; e == KV_OK && n < 10; n++)
        e = kv_ns_next(h, &info);
    return e == KV_ENOTFOUND ? KV_OK : e;
}

static int do_namespace(void)
{
    kv_ns *made;
    int e = kv_namespace(h, "made", 4, "new", 3, 1, &made);

    if (e == KV_OK)
        kv_ns_close(made);
    return e;
}

static int do_drop(void)
{
    uint64_t keys;

    return kv_drop(h, "n", 1, &keys);
}

static int do_tick(void)
{
    uint64_t done;

    kv_test_clock_set(T0 + 6000);
    return kv_tick(h, 1000, &done);
}

/* So much that everything is cleaned. */
static int do_fill(void)
{
    kv_value v = text(large, 9000);
    uint64_t done;
    int i, e = KV_OK;

    for (i = 0; i < 60 && e == KV_OK; i++)
        e = kv_put(ns, i % 2 ? "x" : "y", 1, &v, NULL, NULL, NULL);
    return e == KV_OK ? kv_tick(h, 100000, &done) : e;
}

static int do_check(void)
{
    return kv_check(h);
}

static int do_backup(void)
{
    state_remove(other);
    return kv_backup(h, other, NULL);
}

static int do_stats(void)
{
    kv_stats s;

    return kv_get_stats(h, &s);
}

static int do_edit(void)
{
    kv_edit edit = {0};
    kv_edited out;

    edit.op = KV_EDIT_SET;
    edit.path = "a";
    edit.path_len = 1;
    edit.json = "1";
    edit.json_len = 1;
    return kv_edit_field(ns, "document", 8, &edit, &out);
}

static int do_stream(void)
{
    kv_writer *w;
    kv_reader *r;
    kv_record rec;
    char bytes[100];
    size_t got;
    int e = kv_writer_open(ns, "stream", 6, KV_STRING, NULL, &w);

    if (e == KV_OK) {
        e = kv_writer_write(w, large, 69000);
        if (e == KV_OK)
            e = kv_writer_commit(w, NULL);
        kv_writer_close(w);
    }
    if (e == KV_OK)
        e = kv_reader_open(ns, "large", 5, &rec, &r);
    if (e == KV_OK) {
        e = kv_reader_read(r, bytes, sizeof bytes, 100, &got);
        kv_reader_close(r);
    }
    return e;
}

static int do_sync(void)
{
    return kv_sync(h);
}

static const struct call {
    const char *name;
    int (*f)(void);
} calls[] = {
    {"get", do_get},
    {"get value", do_get_value},
    {"exists", do_exists},
    {"put", do_put},
    {"put with a time", do_put_with_time},
    {"put large", do_put_large},
    {"delete", do_delete},
    {"expire", do_expire},
    {"incr", do_incr},
    {"put many", do_many},
    {"delete prefix", do_delete_prefix},
    {"list", do_forwards},
    {"list backwards", do_backwards},
    {"list several at once", do_several},
    {"count", do_count},
    {"names", do_names},
    {"namespace", do_namespace},
    {"drop", do_drop},
    {"tick", do_tick},
    {"fill", do_fill},
    {"check", do_check},
    {"backup", do_backup},
    {"stats", do_stats},
    {"edit", do_edit},
    {"stream", do_stream},
    {"sync", do_sync},
};

static size_t step = 1; /* every so many calls */

#define SPOILS (sizeof spoils / sizeof spoils[0])
#define CALLS  (sizeof calls / sizeof calls[0])

/* A second call meets what the first one left. */
static void one(const struct spoil *s, const struct call *c, const struct call *then)
{
    int e, f = KV_OK, g;

    if (!begin())
        return;
    s->f();
    alarm(60);
    e = c->f();
    if (then != NULL)
        f = then->f();
    alarm(0);
    g = finish();
    if (!CHECK(e == KV_OK || e == KV_ECORRUPT || e == KV_ENOTFOUND ||
               (e == KV_EFULL && s->f != fine)) ||
        !CHECK(s->f != fine || e == KV_OK) || !CHECK(g == KV_OK))
        fprintf(stderr, "  %s, %s: %d, then %s: %d; opened again: %d: %s\n", s->name, c->name, e,
                then != NULL ? then->name : "nothing", f, g, kv_message());
}

static void each_spoilt(void)
{
    size_t i, k;

    for (i = 0; i < SPOILS; i++)
        for (k = i % step; k < CALLS; k += step)
            one(&spoils[i], &calls[k], i == 0 ? NULL : &calls[image_below(CALLS)]);
}

/* ---- the words of a log ---- */

static void retire_all(const char *point)
{
    if (strcmp(point, "attach: head mapped") == 0)
        h->s->log.w[KV_LOG_OLDEST] = kv_pos_id(h->s->log.w[KV_LOG_TAIL]) + 1;
}

/* An index is not attached to when they contradict each other or lead to no segment. */
static void log_words(void)
{
    static const uint32_t at[] = {
        0, KV_SEG_HEAD - 4, KV_SEG_HEAD + 4, KV_SEG_MIN - 8, KV_SEG_MIN + 8, KV_SEG_MAX - 4};
    uint64_t kept[KV_LOG_END], *w, oldest, tail;
    const char *bytes;
    size_t i;

    if (!begin())
        return;
    w = h->s->log.w;
    memcpy(kept, w, sizeof kept);
    oldest = w[KV_LOG_OLDEST];
    tail = w[KV_LOG_TAIL];
    {
        const struct {
            int word;
            uint64_t value;
        } bad[] = {
            {KV_LOG_OLDEST, 0},
            {KV_LOG_CLEAN, 0},
            {KV_LOG_CLEAN, tail + ((uint64_t)1 << 32)},
            {KV_LOG_TAIL, 0},
            {KV_LOG_TAIL, tail + ((uint64_t)100 << 32)},
            {KV_LOG_TAIL, (tail >> 32 << 32) | 8},
            {KV_LOG_TAIL, (tail >> 32 << 32) | (64u << 20)},
            {KV_LOG_SPARES, oldest - 1},
            {KV_LOG_SPARES, oldest + KV_SEG_IDS},
            {KV_LOG_SPARES, (uint64_t)1 << 32},
        };

        CHECK(kv_log_sound(&h->s->log));
        for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            w[bad[i].word] = bad[i].value;
            CHECK(!kv_log_sound(&h->s->log));
            memcpy(w, kept, sizeof kept);
        }
    }
    /* Ids near the end of their range. */
    w[KV_LOG_OLDEST] = UINT32_MAX;
    w[KV_LOG_CLEAN] = w[KV_LOG_TAIL] = (uint64_t)UINT32_MAX << 32;
    w[KV_LOG_SPARES] = (uint64_t)UINT32_MAX + 1;
    CHECK(!kv_log_sound(&h->s->log));
    w[KV_LOG_SPARES] = UINT32_MAX;
    CHECK(!kv_log_sound(&h->s->log));
    memcpy(w, kept, sizeof kept);
    h->s->log.store_id++;
    CHECK(!kv_log_sound(&h->s->log));
    h->s->log.store_id--;
    /* Retired while it was looked at. */
    kv_test_pause = retire_all;
    CHECK(!kv_log_sound(&h->s->log));
    kv_test_pause = NULL;
    memcpy(w, kept, sizeof kept);
    CHECK(kv_log_sound(&h->s->log));
    /* Addresses that lead to no record. */
    for (i = 0; i < sizeof at / sizeof at[0]; i++) {
        kv_rec r;
        kv_scratch scratch = {0};
        uint64_t addr = kv_pos_addr((tail >> 32 << 32) | at[i]);

        CHECK(kv_log_peek(&h->s->log, addr, &r) == KV_ECORRUPT);
        CHECK(kv_log_fetch(&h->s->log, addr, &scratch, &r) < 0);
        kv_scratch_free(&scratch);
    }
    CHECK(kv_log_mapped(&h->s->log, (uint32_t)oldest, &bytes) > 0);
    CHECK(kv_log_mapped(&h->s->log, (uint32_t)oldest + KV_SEG_IDS, &bytes) == 0);
    CHECK(finish() == KV_OK);
}

/* Who wants to salvage what others use attaches to it like anybody. */
static void salvage_beside(void)
{
    kv_options o = options;
    kv *apart;

    if (!begin())
        return;
    o.salvage = 1;
    if (CHECK(state_open_apart(path, &o, &h, 1, &apart) == KV_OK)) {
        CHECK(kv_check(apart) == KV_OK && kv_report(apart)[0] == 0);
        kv_close(apart);
    }
    CHECK(finish() == KV_OK);
}

/* ---- records that nobody has written ---- */

/* Their checksums are right. */
static const struct odd {
    const char *name;
    int kind, type, blob;
    uint32_t ns, len; /* ns 0: that of the store; len: bytes of the value */
} odds[] = {
    {"an unknown type", KV_REC_PUT, 9, 0, 0, 5},
    {"a short integer", KV_REC_PUT, KV_INTEGER, 0, 0, 3},
    {"a long number", KV_REC_PUT, KV_NUMBER, 0, 0, 12},
    {"a long boolean", KV_REC_PUT, KV_BOOLEAN, 0, 0, 2},
    {"an eight-byte boolean", KV_REC_PUT, KV_BOOLEAN, 0, 0, 8},
    {"a short reference", KV_REC_PUT, KV_STRING, 1, 0, 15},
    {"a reference to too much", KV_REC_PUT, KV_STRING, 1, 0, 16},
    {"a namespace that is not there", KV_REC_PUT, KV_STRING, 0, 20, 5},
    {"a namespace that cannot be", KV_REC_PUT, KV_STRING, 0, KV_MAX_NAMES + 1, 5},
    {"a name that cannot be", KV_REC_NAME, 0, 0, KV_MAX_NAMES + 1, 5},
    {"a drop of what cannot be", KV_REC_DROP, 0, 0, KV_MAX_NAMES + 1, 0},
    {"a drop of what is not there", KV_REC_DROP, 0, 0, 20, 0},
    {"a second drop", KV_REC_DROP, 0, 0, 2, 0},
    {"an unknown kind", 7, 0, 0, 0, 5},
    {"a delete of nothing", KV_REC_DELETE, 0, 0, 0, 0},
};

#define ODDS (sizeof odds / sizeof odds[0])

/* Into the log and, as far as that takes it, into the index. */
static void append(const struct odd *o)
{
    static const char bytes[16] =
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    kv_db *s = h->s;
    kv_append a;
    kv_found f;
    kv_rec r;

    if (!CHECK(kv_lock_writer(h) == KV_OK))
        return;
    memset(&r, 0, sizeof r);
    r.kind = (uint8_t)o->kind;
    r.type = (uint8_t)o->type;
    r.blob = (uint8_t)o->blob;
    r.ns = o->ns ? o->ns : ns->id;
    r.key = "k000";
    r.key_len = 4;
    r.value = bytes;
    r.value_len = o->len;
    r.rev = r.id = kv_load(kv_st(s, KV_ST_REV)) + 1;
    r.created = r.updated = T0;
    f.hash = kv_index_hash(s, kv_rec_index_ns(&r), r.key, r.key_len);
    CHECK(kv_index_find(s, kv_rec_index_ns(&r), r.key, r.key_len, T0, &f) == KV_OK);
    kv_write_begin(s, &a, T0);
    a.next_rev++;
    if (CHECK(kv_log_fit(&s->log, &a, kv_rec_measure(&r), KV_FOR_PUT))) {
        kv_log_begin(&s->log, &a);
        (void)kv_write_commit(s, &a, &f, &r);
    }
    kv_unlock_writer(h);
}

static void each_odd(void)
{
    size_t i, k;
    int e, g;

    for (i = 0; i < ODDS; i++)
        for (k = i % step; k < CALLS && begin(); k += step) {
            append(&odds[i]);
            alarm(60);
            e = calls[k].f();
            alarm(0);
            g = finish();
            if (!CHECK(e == KV_OK || e == KV_ECORRUPT || e == KV_ENOTFOUND || e == KV_ENOTNUMBER) ||
                !CHECK(g == KV_OK || g == KV_ECORRUPT))
                fprintf(stderr, "  %s, %s: %d; opened again: %d: %s\n", odds[i].name, calls[k].name,
                        e, g, kv_message());
        }
}

int main(void)
{
    state_begin("test_spoilt");
    kv_options_init(&options);
    options.thread = 0;
    options.sync = KV_SYNC_NONE;
    options.timeout = 50;
    if (getenv("KV_SHORT"))
        step = 8;
    state_path(base, "base");
    state_path(path, "store");
    state_path(other, "copy");
    kv_test_clock_set(T0);
    fill();
    each_spoilt();
    each_odd();
    log_words();
    salvage_beside();
    state_clear();
    return check_done("test_spoilt");
}
