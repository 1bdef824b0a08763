/* SPDX-License-Identifier: MIT
 *
 * test_thread_order.c - readers of the key order beside a writer that also dies and is undone.
 *
 * A key that is there throughout is met exactly once by every listing, in order, in both
 * directions; one that never was is not met. The writer is kept short of nodes, so that they are
 * reused at once.
 */
#define _GNU_SOURCE
#include "order.h"
#include "check.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

/* Of four keys the first stays, the second and third come and go, the fourth never was. */
#define KEYS 6000

static uint64_t seed = 20260101;
static uint64_t stopping, lists;
static kv_dir *dir;
static kv_region *region;
static jmp_buf death;
static unsigned char there[KEYS];
static int dead_at = -1;              /* the key whose change died */
static volatile sig_atomic_t reached; /* by a listing */

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static size_t make_key(unsigned char *out, int i)
{
    memcpy(out, "\0\0\0\1", 4);
    return 4 + (size_t)sprintf((char *)out + 4, "%d:%0*d", i / 100, 1 + i % 100 / 3, i);
}

static int number(const unsigned char *key, size_t len)
{
    unsigned char again[KV_ORDER_KEY];
    char text[KV_ORDER_KEY + 1], *colon;
    int i;

    if (len < 5)
        return -1;
    memcpy(text, key + 4, len - 4);
    text[len - 4] = 0;
    colon = strchr(text, ':');
    i = colon ? (int)strtol(colon + 1, NULL, 10) : -1;
    if (i < 0 || i >= KEYS || make_key(again, i) != len || memcmp(again, key, len) != 0)
        return -1;
    return i;
}

/* One listing; 0: it broke the promise. */
static int list(kv_region *r, int before)
{
    static const unsigned char none[1];
    unsigned char bound[KV_ORDER_KEY], out[KV_ORDER_KEY], last[KV_ORDER_KEY];
    size_t len = 0, last_len = 0;
    int stayed = 0, more = 1;
    kv_leaf leaf;

    while (more) {
        const unsigned char *from = len ? bound : before ? NULL : none;
        int i, at;

        if (kv_order_read(r, from, len, before, &leaf) != KV_OK) {
            fprintf(stderr, "%s\n", kv_message());
            return 0;
        }
        /* The leaf may reach beyond the bound, should two have become one meanwhile. */
        at = len ? kv_leaf_find(&leaf, bound, len) : before ? leaf.count : 0;
        for (i = before ? at - 1 : at; before ? i >= 0 : i < leaf.count; i += before ? -1 : 1) {
            size_t n = kv_leaf_key(&leaf, i, out);
            int k = number(out, n), c;

            if (k < 0 || k % 4 == 3)
                return 0;
            if (r == region)
                reached = k;
            c = memcmp(last, out, last_len < n ? last_len : n);
            if (c == 0)
                c = (last_len > n) - (last_len < n);
            if (last_len && (before ? c <= 0 : c >= 0))
                return 0;
            memcpy(last, out, n);
            last_len = n;
            stayed += k % 4 == 0;
        }
        more = before ? leaf.has_lower : leaf.has_upper;
        len = before ? leaf.lower_len : leaf.upper_len;
        if (more)
            memcpy(bound, before ? leaf.lower : leaf.upper, len);
    }
    return stayed == KEYS / 4;
}

static void *read_all(void *own)
{
    kv_region mine, *r = region;
    uint64_t bad = 0;

    /* One reader as another process would have it, one on the writer's own mapping. */
    if (own) {
        if (kv_region_attach(&mine, dir, "order", 0) != KV_OK)
            return (void *)1;
        r = &mine;
    }
    while (!kv_load(&stopping)) {
        bad += !list(r, 0);
        bad += !list(r, 1);
        __atomic_fetch_add(&lists, 2, __ATOMIC_RELAXED);
    }
    if (own)
        kv_region_close(&mine);
    return bad ? (void *)1 : NULL;
}

static void die(void)
{
    longjmp(death, 1);
}

/* Undoes what a death left, and finds out whether it had happened. */
static int settle(void)
{
    unsigned char key[KV_ORDER_KEY], out[KV_ORDER_KEY];
    size_t len;
    kv_leaf leaf;
    int at;

    if (dead_at < 0)
        return 1;
    len = make_key(key, dead_at);
    if (kv_txn_undo(region, NULL) != KV_OK || kv_order_read(region, key, len, 0, &leaf) != KV_OK)
        return 0;
    at = kv_leaf_find(&leaf, key, len);
    there[dead_at] =
        at < leaf.count && kv_leaf_key(&leaf, at, out) == len && memcmp(out, key, len) == 0;
    dead_at = -1;
    return 1;
}

/* Puts a key or takes it away; dies at store n. */
static int toggle(int i, int64_t n)
{
    unsigned char key[KV_ORDER_KEY];
    size_t len = make_key(key, i);
    uint64_t *ready = &region->head->ready[KV_NODES], real;
    volatile int rc = KV_OK;

    if (!settle())
        return 0;
    if (kv_region_room(region, KV_NODES) < kv_order_room(region, 1))
        rc = kv_region_grow(region, KV_NODES, kv_order_room(region, 1));
    real = kv_load(ready);
    __atomic_store_n(ready, region->head->used[KV_NODES] + kv_order_room(region, 1),
                     __ATOMIC_RELEASE);
    if (rc == KV_OK && setjmp(death) == 0) {
        kv_test_die_at = n;
        kv_txn_begin(region);
        rc = there[i] ? kv_order_remove(region, key, len) : kv_order_insert(region, key, len);
        kv_txn_end(region);
        kv_test_die_at = 0;
        there[i] = !there[i];
    } else {
        dead_at = i;
    }
    __atomic_store_n(ready, real, __ATOMIC_RELEASE);
    return rc == KV_OK;
}

/* ---- interrupted readers ---- */

static volatile sig_atomic_t interrupts, enough, failures;

/* Asked for anew at the end of each, so that the reader gets on however slow all is; mostly by a
 * few instructions only, for what matters happens within few. */
static void ask(void)
{
    struct itimerval soon = {{0, 0}, {0, 1}};

    if (chance() % 8 == 0)
        soon.it_value.tv_usec = 1 + (int)(chance() % 100);
    setitimer(ITIMER_REAL, &soon, NULL);
}

static void interrupt(int sig)
{
    int at = reached, i, k, n = 8 + (int)(chance() % 12);

    (void)sig;
    interrupts++;
    /* A node that becomes free is written again some twelve changes later. */
    for (i = 0; i < n;) {
        k = (at + KEYS + (int)(chance() % 30) - 15) % KEYS;
        if (k % 4 == 0 || k % 4 == 3)
            continue;
        /* The first stores are those that write a node that a reader may be on its way to. */
        i++;
        failures += !toggle(k, i < n ? 0 : 1 + (int64_t)(chance() % (chance() % 2 ? 6 : 25)));
    }
    if (interrupts < enough)
        ask();
}

static void interrupted(int most)
{
    int64_t until = kv_os_monotonic() + (int64_t)60 * 1000000000;
    struct sigaction act;
    int bad = 0, n;

    memset(&act, 0, sizeof act);
    act.sa_handler = interrupt;
    act.sa_flags = SA_RESTART;
    enough = most;
    CHECK(sigaction(SIGALRM, &act, NULL) == 0);
    ask();
    for (n = 0; interrupts < most && !bad && kv_os_monotonic() < until; n++)
        bad += !list(region, n % 2);
    enough = 0;
    act.sa_handler = SIG_IGN;
    CHECK(sigaction(SIGALRM, &act, NULL) == 0);
    printf("test_thread_order: %d interrupts in %d listings\n", (int)interrupts, n);
    CHECK(bad == 0);
    CHECK(failures == 0);
    CHECK(settle() && kv_order_check(region) == KV_OK);
}

int main(void)
{
    kv_dir_options o = {1, 0600, 0, 0};
    const char *given = getenv("SEED");
    int made, i, bad = 0, steps = getenv("KV_SHORT") ? 3000 : getenv("KV_LONG") ? 5000000 : 100000;
    pthread_t thread[2];
    void *failed;

    if (given)
        seed = strtoull(given, NULL, 10);
    printf("test_thread_order: SEED=%llu\n", (unsigned long long)seed);
    region = malloc(sizeof *region);
    if (!CHECK(kv_dir_open(":memory:", &o, &dir, &made) == KV_OK) ||
        !CHECK(kv_region_create(region, dir, "order") == KV_OK))
        return check_done("test_thread_order");
    kv_order_init(region);
    kv_test_die = die;
    for (i = 0; i < KEYS; i += 4)
        while (!there[i])
            bad += !toggle(i, 0);
    if (!UNDER_TSAN) /* which delivers signals when it likes */
        interrupted(getenv("KV_SHORT") ? 500 : getenv("KV_LONG") ? 2000000 : 80000);
    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, read_all, i ? &death : NULL) == 0);
    for (i = 0; i < steps && !bad; i++) {
        /* Waves: the tree grows to three times its size and shrinks again. */
        int k = (int)(chance() % KEYS), grow = i / 5000 % 2 == 0;

        if ((k % 4 == 1 || k % 4 == 2) && (there[k] != grow || chance() % 4 == 0))
            bad += !toggle(k, chance() % 4 == 0 ? 1 + (int64_t)(chance() % 40) : 0);
    }
    CHECK(bad == 0 && settle());
    while (kv_load(&lists) < 4)
        kv_os_sleep(1);
    kv_store(&stopping, 1);
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(thread[i], &failed) == 0);
        CHECK(failed == NULL);
    }
    CHECK(kv_order_check(region) == KV_OK);
    printf("test_thread_order: %llu listings\n", (unsigned long long)lists);
    kv_test_die = NULL;
    kv_region_close(region);
    kv_dir_close(dir);
    free(region);
    return check_done("test_thread_order");
}
