/* SPDX-License-Identifier: MIT
 *
 * test_region.c - growth and following it, refusal of damage, and the journal.
 *
 * A transaction that dies at any of its stores is undone to the state before, by an undo that dies
 * at any of its own stores too; once its visible word is stored, nothing of it is undone.
 */
#define _GNU_SOURCE
#include "region.h"
#include "check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const uint32_t sizes[KV_SPACES] = {KV_BUCKETS_SIZE, KV_OVERFLOW_SIZE, KV_NODES_SIZE,
                                          KV_TIMERS_SIZE, KV_NAMES_SIZE};
static const uint32_t firsts[KV_SPACES] = {KV_BUCKETS_FIRST, KV_OVERFLOW_FIRST, KV_NODES_FIRST,
                                           KV_TIMERS_FIRST, KV_NAMES_FIRST};
static uint64_t seed = 20260101;
static kv_dir *dir;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void setup(void)
{
    kv_dir_options o = {1, 0600, 0, 0};
    const char *given = getenv("SEED");
    int made;

    if (given)
        seed = strtoull(given, NULL, 10);
    printf("test_region: SEED=%llu\n", (unsigned long long)seed);
    if (!CHECK(kv_dir_open(":memory:", &o, &dir, &made) == KV_OK))
        exit(check_done("test_region"));
}

static kv_region *fresh(const char *name)
{
    kv_region *r = malloc(sizeof *r);

    kv_file_unlink(dir, name);
    if (!CHECK(kv_region_create(r, dir, name) == KV_OK))
        exit(check_done("test_region"));
    return r;
}

static void drop(kv_region *r)
{
    kv_region_close(r);
    free(r);
}

static int refused_call;

static int refuse(const char *call, const char *what)
{
    (void)what;
    if (strcmp(call, "fallocate") == 0 && refused_call == 3) { /* once: less may still be had */
        refused_call = 0;
        return ENOSPC;
    }
    if (strcmp(call, "fallocate") == 0 && refused_call == 1)
        return ENOSPC;
    if (strcmp(call, "mmap") == 0 && refused_call == 2)
        return ENOMEM;
    return 0;
}

/* ---- making and growing ---- */

static void small(void)
{
    kv_region *r = fresh("small"), again;
    int s;

    CHECK(kv_region_bytes(r) <= 52 << 10);
    for (s = 0; s < KV_SPACES; s++) {
        CHECK(kv_region_room(r, s) == firsts[s]);
        CHECK(kv_region_place(r, s, 0).ptr && kv_region_place(r, s, firsts[s] - 1).ptr);
        CHECK(!kv_region_place(r, s, firsts[s]).ptr && !kv_region_place(r, s, 0xffffffff).ptr);
    }
    CHECK(kv_region_create(&again, dir, "small") != KV_OK);
    CHECK(kv_region_attach(&again, dir, "nothing", 1) == KV_ENOTFOUND);
    CHECK(kv_region_attach(&again, dir, "a name that is longer than a region takes", 1) ==
          KV_EINVAL);
    refused_call = 1;
    kv_test_syscall = refuse;
    CHECK(kv_region_create(&again, dir, "full") == KV_EFULL);
    refused_call = 2;
    CHECK(kv_region_create(&again, dir, "full") == KV_ENOMEM);
    CHECK(kv_region_attach(&again, dir, "small", 1) == KV_ENOMEM);
    kv_test_syscall = NULL;
    CHECK(kv_region_create(&again, dir, "full") == KV_OK); /* no file was left */
    kv_region_close(&again);
    kv_region_close(&again); /* twice is fine */
    drop(r);
}

static void mark(kv_region *r, int s, uint32_t id)
{
    kv_place p = kv_region_place(r, s, id);
    uint32_t i;

    for (i = 0; i < sizes[s]; i += 4)
        memcpy(p.ptr + i, &id, 4);
}

static int marked(kv_region *r, int s, uint32_t id)
{
    kv_place p = kv_region_place(r, s, id);
    uint32_t i;

    for (i = 0; p.ptr && i < sizes[s]; i += 4)
        if (memcmp(p.ptr + i, &id, 4) != 0)
            return 0;
    return p.ptr != NULL;
}

/* Nodes keep their bytes, do not overlap, and a second mapping follows, also a readonly one. */
static void growth(void)
{
    kv_region *r = fresh("growth"), b, c;
    uint32_t marks[KV_SPACES] = {0};
    int s, i, bad = 0;
    uint32_t id;

    CHECK(kv_region_attach(&b, dir, "growth", 1) == KV_OK);
    for (i = 0; i < 60; i++) {
        uint64_t more = 1 + chance() % 700, room, ready;

        s = (int)(chance() % KV_SPACES);
        room = kv_region_room(r, s);
        ready = r->head->ready[s];
        CHECK(kv_region_grow(r, s, more) == KV_OK);
        CHECK(kv_region_room(r, s) >= more && r->head->ready[s] * sizes[s] % KV_PAGE == 0);
        if (more > room)
            CHECK(r->head->ready[s] >= ready + ready / 8);
        else
            CHECK(r->head->ready[s] == ready);
        for (; more > 0; more--) {
            kv_txn_begin(r);
            id = kv_region_take(r, s);
            kv_txn_end(r);
            bad += id != marks[s];
            mark(r, s, marks[s]++);
        }
    }
    CHECK(kv_region_attach(&c, dir, "growth", 0) == KV_OK);
    for (s = 0; s < KV_SPACES; s++) {
        for (id = 0; id < marks[s]; id++)
            bad += !marked(r, s, id) + !marked(&b, s, id) + !marked(&c, s, id);
        CHECK(!kv_region_place(&b, s, (uint32_t)r->head->ready[s]).ptr);
        CHECK(kv_region_place(&b, s, (uint32_t)r->head->ready[s] - 1).ptr != NULL);
    }
    CHECK(bad == 0);
    kv_region_close(&b);
    kv_region_close(&c);
    drop(r);
}

/* Into the levels that are mapped with large pages. */
static void large(void)
{
    kv_region *r = fresh("large"), b;
    uint64_t most = getenv("KV_SHORT") ? (uint64_t)5 << 20 : (uint64_t)14 << 20, n;
    uint32_t id, to[KV_SPACES];
    int s, bad = 0;

    for (n = (uint64_t)1 << 20; n <= most; n += (uint64_t)3 << 19) {
        for (s = 0; s < KV_SPACES; s++) {
            to[s] = (uint32_t)(n / KV_NODES_SIZE * (s == KV_NODES ? 1 : 8));
            CHECK(kv_region_grow(r, s, to[s]) == KV_OK && kv_region_room(r, s) >= to[s]);
        }
    }
    /* On a full disk, too, by whole large pages: the kernel would want the rest of one at a store.
     */
    kv_test_syscall = refuse;
    for (s = 0; s < KV_SPACES; s++) {
        refused_call = 3;
        (void)kv_region_grow(r, s, kv_region_room(r, s) + 1);
        CHECK(refused_call == 0 && r->head->ready[s] * sizes[s] % ((uint64_t)2 << 20) == 0);
    }
    kv_test_syscall = NULL;
    for (s = 0; s < KV_SPACES; s++)
        for (id = 0; id < r->head->ready[s]; id++)
            mark(r, s, id);
    CHECK(kv_region_attach(&b, dir, "large", 0) == KV_OK);
    for (s = 0; s < KV_SPACES; s++)
        for (id = 0; id < r->head->ready[s]; id++)
            bad += !marked(&b, s, id);
    CHECK(bad == 0);
    kv_region_close(&b);
    drop(r);
}

/* A failed growth changes nothing, and the next one goes on. */
static void full(void)
{
    kv_region *r = fresh("full2");
    uint64_t bytes = kv_region_bytes(r);
    int s;

    kv_test_syscall = refuse;
    for (s = 0; s < KV_SPACES; s++) {
        refused_call = 1;
        CHECK(kv_region_grow(r, s, 1000) == KV_EFULL);
        refused_call = 2;
        CHECK(kv_region_grow(r, s, 1000) == KV_ENOMEM);
        CHECK(kv_region_grow(r, s, (uint64_t)1 << 33) == KV_EFULL);
        CHECK(kv_region_room(r, s) == firsts[s] && kv_region_bytes(r) == bytes);
        refused_call = 0;
        CHECK(kv_region_grow(r, s, 1000) == KV_OK && kv_region_room(r, s) >= 1000);
        mark(r, s, 999);
        CHECK(marked(r, s, 999));
        bytes = kv_region_bytes(r);
    }
    kv_test_syscall = NULL;
    drop(r);
}

/* ---- refusal of damage ---- */

static void expect_refusal(uint64_t *at, uint64_t value)
{
    uint64_t old = *at;
    kv_region b;

    *at = value;
    if (!CHECK(kv_region_attach(&b, dir, "damage", 1) == KV_ECORRUPT))
        kv_region_close(&b);
    *at = old;
    CHECK(kv_region_attach(&b, dir, "damage", 1) == KV_OK);
    kv_region_close(&b);
}

static void damage(void)
{
    kv_region *r = fresh("damage"), b;
    int s, fd;

    expect_refusal(&r->head->magic, 0);
    expect_refusal(&r->head->format, r->head->format + 1);
    for (s = 0; s < KV_SPACES; s++) {
        expect_refusal(&r->head->ready[s], 0);
        expect_refusal(&r->head->ready[s], 1 << 20);
        expect_refusal(&r->head->ready[s], (uint64_t)1 << 32);
        expect_refusal(&r->head->ready[s], ~(uint64_t)0);
        expect_refusal(&r->head->used[s], r->head->ready[s] + 1);
    }
    /* A space that claims more while it is mapped is not followed. */
    r->head->ready[KV_NAMES] = 1 << 20;
    CHECK(!kv_region_place(r, KV_NAMES, 70).ptr && kv_region_place(r, KV_NAMES, 60).ptr);
    r->head->ready[KV_NAMES] = ~(uint64_t)0;
    CHECK(!kv_region_place(r, KV_NAMES, 70).ptr);
    CHECK(kv_region_grow(r, KV_NAMES, 1) == KV_ECORRUPT);
    drop(r);
    CHECK(kv_file_open(dir, "short", KV_FILE_CREATE, &fd) == KV_OK);
    CHECK(kv_file_write(fd, "short", 5, 0) == KV_OK);
    kv_file_close(fd);
    CHECK(kv_region_attach(&b, dir, "short", 1) == KV_ECORRUPT);
}

/* ---- the journal ---- */

#define WORDS 12
#define SETS  30

typedef struct change {
    int word, low;
    uint64_t value;
} change;

static kv_region *region;
static kv_place place[WORDS];
static uint64_t *word[WORDS];
static change plan[SETS];
static int plan_sets, plan_visible; /* index of the visible one, or -1 */

static void pick_words(void)
{
    kv_region *r = region;
    int i;

    for (i = 0; i < WORDS; i++) {
        int s = (int)(chance() % KV_SPACES);

        place[i] = kv_region_place(r, s, (uint32_t)(chance() % firsts[s]));
        word[i] = (uint64_t *)(void *)place[i].ptr + chance() % (sizes[s] / 8);
    }
    place[0] = place[1] = place[2] = place[3] = kv_head_place(r);
    word[0] = &r->head->order[0];
    word[1] = &r->head->wheel[KV_WHEEL_WORDS - 1];
    word[2] = &r->head->used[KV_NODES];
    word[3] = &r->head->store[KV_STORE_WORDS - 1];
}

/* Versions only grow, so a word is changed by halves always or never. */
static int is_low(int w)
{
    return w >= 8;
}

static void make_plan(void)
{
    int i;

    plan_sets = 1 + (int)(chance() % SETS);
    plan_visible = chance() % 2 ? (int)(chance() % WORDS) : -1;
    for (i = 0; i < plan_sets; i++) {
        plan[i].word = (int)(chance() % WORDS);
        plan[i].low = is_low(plan[i].word);
        plan[i].value = chance() % 4;
    }
    if (plan_visible >= 0) {
        plan[plan_sets - 1].word = plan_visible;
        plan[plan_sets - 1].low = is_low(plan_visible);
        plan[plan_sets - 1].value = chance() % 4;
    }
}

static void run_plan(void)
{
    int i;

    kv_txn_begin(region);
    for (i = 0; i < plan_sets; i++) {
        const change *c = &plan[i];
        uint64_t *w = word[c->word];
        uint64_t v = c->low ? ((*w >> 32) + 1) << 32 | c->value : c->value;
        int last = plan_visible >= 0 && i == plan_sets - 1;

        if (last && c->low)
            kv_txn_visible_low(region, place[c->word], w, v);
        else if (last)
            kv_txn_visible(region, place[c->word], w, v);
        else if (c->low)
            kv_txn_set_low(region, place[c->word], w, v);
        else
            kv_txn_set(region, place[c->word], w, v);
    }
    kv_txn_end(region);
}

static void copy_words(uint64_t *to)
{
    int i;

    for (i = 0; i < WORDS; i++)
        to[i] = *word[i];
}

static void restore_words(const uint64_t *from)
{
    int i;

    for (i = 0; i < WORDS; i++)
        *word[i] = from[i];
    memset(&region->head->journal, 0, sizeof region->head->journal);
}

/* As before, but versions may have grown. */
static int same(const uint64_t *was)
{
    int i;

    for (i = 0; i < WORDS; i++) {
        if (!is_low(i) && *word[i] != was[i])
            return 0;
        if (is_low(i) && ((uint32_t)*word[i] != (uint32_t)was[i] || *word[i] >> 32 < was[i] >> 32))
            return 0;
    }
    return 1;
}

static jmp_buf death;

static void die(void)
{
    longjmp(death, 1);
}

/* Runs f until its n-th store; 1: it died there. */
static int until(void (*f)(void), int64_t n)
{
    int died = 1;

    kv_test_die = die;
    if (setjmp(death) == 0) {
        kv_test_die_at = n;
        f();
        died = 0;
    }
    kv_test_die_at = 0;
    kv_test_die = NULL;
    return died;
}

static void undo(void)
{
    CHECK(kv_txn_undo(region, NULL) == KV_OK);
}

/* Distinct words: an overlap would make the model wrong, not the region. */
static int distinct(void)
{
    int i, j;

    for (i = 0; i < WORDS; i++)
        for (j = 0; j < i; j++)
            if (word[i] == word[j])
                return 0;
    return 1;
}

static void deaths(int rounds)
{
    uint64_t before[WORDS], after[WORDS], dead[WORDS];
    kv_journal_entry *dead_journal = malloc(sizeof region->head->journal);
    int bad = 0, round;
    int64_t n, m;

    region = fresh("journal");
    for (round = 0; round < rounds; round++) {
        int64_t stores;

        do
            pick_words();
        while (!distinct());
        for (n = 0; n < WORDS; n++)
            *word[n] = chance() % 4 | (is_low((int)n) ? chance() % 9 << 32 : 0);
        copy_words(before);
        make_plan();
        kv_test_stores = 0;
        run_plan();
        stores = kv_test_stores;
        copy_words(after);
        for (n = 1; n <= stores; n++) {
            int done, undone = -1;

            restore_words(before);
            bad += !until(run_plan, n);
            /* The visible store comes third from the end; death is before a store. */
            done = plan_visible >= 0 ? n >= stores - 1 : n >= stores;
            copy_words(dead);
            memcpy(dead_journal, &region->head->journal, sizeof region->head->journal);
            if (round % 8 == 0)
                for (m = 1;; m++) {
                    restore_words(dead);
                    memcpy(&region->head->journal, dead_journal, sizeof region->head->journal);
                    if (!until(undo, m))
                        break;
                    undo();
                    if (plan_visible < 0 || n != stores - 2)
                        bad += !same(done ? after : before);
                }
            restore_words(dead);
            memcpy(&region->head->journal, dead_journal, sizeof region->head->journal);
            CHECK(kv_txn_undo(region, &undone) == KV_OK);
            /* A visible word that has its new value already is as good as stored. */
            if (plan_visible >= 0 && n == stores - 2 && same(after) && !undone)
                done = 1;
            bad += !same(done ? after : before);
            bad += region->head->journal.count || region->head->journal.visible_addr;
            undone = -1;
            CHECK(kv_txn_undo(region, &undone) == KV_OK && undone == 0);
        }
        if (bad) {
            CHECK(!"a death was not undone");
            break;
        }
    }
    CHECK(bad == 0);
    free(dead_journal);
    drop(region);
}

/* The real thing: another process dies, this one undoes through the mapping they share. */
static void processes(void)
{
    uint64_t before[WORDS];
    int64_t n, stores;
    int status;

    region = fresh("processes");
    do
        pick_words();
    while (!distinct());
    plan_visible = -1;
    make_plan();
    copy_words(before);
    kv_test_stores = 0;
    run_plan();
    stores = kv_test_stores;
    restore_words(before);
    for (n = 1; n < stores; n++) {
        pid_t child = check_fork();

        if (child == 0) {
            kv_test_die_at = n;
            run_plan();
            _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 77);
        if (plan_visible >= 0 && n >= stores - 2)
            break;
        undo();
        CHECK(same(before));
    }
    drop(region);
}

/* The version of a word that was changed has grown after an undo. */
static void versions(void)
{
    kv_place p;
    uint64_t *w;
    int undone;

    region = fresh("versions");
    p = kv_region_place(region, KV_BUCKETS, 5);
    w = (uint64_t *)(void *)p.ptr + 7;
    *w = (uint64_t)41 << 32 | 7;
    kv_txn_begin(region);
    kv_txn_set_low(region, p, w, (uint64_t)42 << 32 | 8);
    CHECK(kv_txn_undo(region, &undone) == KV_OK && undone == 1);
    CHECK((uint32_t)*w == 7 && *w >> 32 == 43);
    *w = (uint64_t)0xffffffff << 32 | 7;
    kv_txn_begin(region);
    kv_txn_set_low(region, p, w, 8);
    CHECK(kv_txn_undo(region, &undone) == KV_OK && (uint32_t)*w == 7 && *w >> 32 == 1);
    drop(region);
}

/* An undo that was interrupted goes on where it was: what has its oldest value keeps it. */
static void onwards(void)
{
    kv_place p;
    uint64_t *w, i;
    int64_t n, m;

    region = fresh("onwards");
    p = kv_region_place(region, KV_BUCKETS, 5);
    w = (uint64_t *)(void *)p.ptr;
    for (n = 1;; n++) {
        *w = 1;
        kv_txn_begin(region);
        for (i = 2; i <= 5; i++)
            kv_txn_set(region, p, w, i);
        if (!until(undo, n))
            break;
        for (m = 1, i = *w; until(undo, m); m++) {
            if (!CHECK(*w <= i))
                break;
            i = *w;
        }
        CHECK(*w == 1);
    }
    drop(region);
}

/* A journal that makes no sense is refused, and nothing is changed. */
static void nonsense(void)
{
    const uint64_t order0 = KV_HEAD_ADDR + offsetof(kv_head, order);
    const uint64_t bad[] = {
        0,
        1,
        KV_HEAD_ADDR,
        KV_HEAD_ADDR + offsetof(kv_head, magic),
        KV_HEAD_ADDR + offsetof(kv_head, clean),
        KV_HEAD_ADDR + offsetof(kv_head, ready),
        KV_HEAD_ADDR + offsetof(kv_head, journal),
        KV_HEAD_ADDR + offsetof(kv_head, wheel) + 2,
        order0 + 4,
        order0 + 6,
        order0 | (uint64_t)1 << 16,
        kv_region_addr(KV_NODES, 0) + KV_NODES_SIZE,
        kv_region_addr(KV_NODES, KV_NODES_FIRST),
        kv_region_addr(KV_NODES, 0xffffffff),
        kv_region_addr(KV_NODES, 0) + 12,
        kv_region_addr(KV_NAMES, 0) + KV_NAMES_SIZE,
        kv_region_addr(KV_SPACES, 0),
        (uint64_t)0xfe << 48,
        ~(uint64_t)0,
    };
    size_t i;
    kv_head *h;

    region = fresh("nonsense");
    h = region->head;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        h->order[0] = 5;
        h->journal.entry[0].addr = bad[i];
        h->journal.entry[0].old = 99;
        h->journal.entry[1].addr = order0;
        h->journal.entry[1].old = 4;
        h->journal.count = 2;
        CHECK(kv_txn_undo(region, NULL) == KV_ECORRUPT);
        CHECK(h->order[0] == 5 && h->journal.count == 2);
        h->journal.entry[0].addr = order0;
        h->journal.visible_addr = bad[i];
        h->journal.visible_new = 1;
        if (bad[i] != 0)
            CHECK(kv_txn_undo(region, NULL) == KV_ECORRUPT && h->order[0] == 5);
        h->journal.visible_addr = 0;
    }
    h->journal.count = KV_JOURNAL_MAX + 1;
    CHECK(kv_txn_undo(region, NULL) == KV_ECORRUPT);
    h->journal.count = ~(uint64_t)0;
    CHECK(kv_txn_undo(region, NULL) == KV_ECORRUPT);
    drop(region);
}

/* ---- damaged counts, and what grows meanwhile ---- */

static void damaged_counts(void)
{
    kv_region *r = fresh("counts"), *copy = fresh("copy");
    uint64_t *ready = &r->head->ready[KV_NODES], *used = &r->head->used[KV_NODES], was = *ready;

    *used = was + 1;
    CHECK(kv_region_grow(r, KV_NODES, 1) != KV_OK);
    *used = 0;
    CHECK(kv_region_grow(r, KV_NODES, UINT64_MAX) == KV_EFULL);
    CHECK(kv_region_grow(r, KV_NODES, 1) == KV_OK && *ready == was);
    CHECK(kv_region_grow(r, KV_NODES, was + 1) == KV_OK && *ready > was);

    /* A level without a place. */
    r->level[KV_NODES][1] = NULL;
    r->limit[KV_NODES] = KV_NODES_FIRST;
    r->head->place[KV_NODES][1] = 0;
    CHECK(kv_region_reach(r, KV_NODES, KV_NODES_FIRST) == 0);

    /* A copy for which there is not room enough, or of one that has not followed. */
    CHECK(kv_region_copy(copy, copy) == 1);
    r->head->ready[KV_TIMERS] = copy->limit[KV_TIMERS] + 1;
    CHECK(kv_region_copy(copy, r) == 0);
    r->head->ready[KV_TIMERS] = KV_TIMERS_FIRST;
    r->head->grown++;
    CHECK(kv_region_copy(copy, r) == 0);

    /* A visible word whose address makes no sense. */
    copy->head->journal.visible_addr = KV_HEAD_ADDR | 1;
    CHECK(kv_txn_undo(copy, NULL) == KV_ECORRUPT);
    copy->head->journal.visible_addr = (uint64_t)99 << 48;
    CHECK(kv_txn_undo(copy, NULL) == KV_ECORRUPT);
    drop(r);
    drop(copy);
}

int main(void)
{
    int rounds = getenv("KV_SHORT") ? 20 : getenv("KV_LONG") ? 10000 : 300;

    setup();
    small();
    growth();
    large();
    full();
    damage();
    deaths(rounds);
    processes();
    versions();
    onwards();
    nonsense();
    damaged_counts();
    kv_dir_close(dir);
    return check_done("test_region");
}
