/* SPDX-License-Identifier: MIT
 *
 * image.h - what tests of the index's modules share: an image in memory, copies of it, chance, and
 * death at the n-th store to shared memory.
 *
 * A death is either a child that exits (image_fork: the honest one) or a jump out of the code
 * (image_jump: thousands of times faster, and possible beside reader threads). Both leave shared
 * memory as it was before the n-th store, and nothing else that could matter: the modules keep no
 * state of their own.
 */
#ifndef KV_SPEC_IMAGE_H
#define KV_SPEC_IMAGE_H

#include "check.h"
#include "region.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- chance ---- */

static uint64_t image_seed;

static inline uint64_t image_random(void)
{
    image_seed ^= image_seed << 13;
    image_seed ^= image_seed >> 7;
    image_seed ^= image_seed << 17;
    return image_seed * 0x2545f4914f6cdd1dull >> 11;
}

static inline uint64_t image_below(uint64_t n)
{
    return image_random() % n;
}

/* From SEED in the environment, or a new one; printed, so that a failure can be repeated. */
static inline void image_start(const char *name)
{
    const char *given = getenv("SEED");

    if (given)
        image_seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&image_seed, sizeof image_seed);
    image_seed |= 1;
    printf("%s: SEED=%llu\n", name, (unsigned long long)image_seed);
    fflush(stdout);
}

/* `usual` steps; less under valgrind, more when there is a night. */
static inline int image_steps(int usual)
{
    return getenv("KV_SHORT") ? usual / 20 + 1 : getenv("KV_LONG") ? usual * 20 : usual;
}

/* ---- the image ---- */

typedef struct image {
    kv_dir *dir;
    kv_region r;
} image;

static inline void image_die(const char *what)
{
    fprintf(stderr, "cannot go on: %s: %s\n", what, kv_message());
    exit(1);
}

static inline void image_open(image *m)
{
    kv_dir_options o = {1, 0600, 0, 0};
    int made;

    if (kv_dir_open(":memory:", &o, &m->dir, &made) != KV_OK ||
        kv_region_create(&m->r, m->dir, "index") != KV_OK)
        image_die("image");
}

static inline void image_close(image *m)
{
    kv_region_close(&m->r);
    kv_dir_close(m->dir);
}

/* Makes sure that n nodes may be taken. */
static inline void image_room(image *m, int space, uint64_t n)
{
    if (kv_region_room(&m->r, space) < n && kv_region_grow(&m->r, space, n) != KV_OK)
        image_die("grow");
}

/* ---- copies ---- */

typedef struct image_copy {
    char *bytes;
    uint64_t ready[KV_SPACES];
    size_t size, all;
} image_copy;

static const uint32_t image_size[KV_SPACES] = {KV_BUCKETS_SIZE, KV_OVERFLOW_SIZE, KV_NODES_SIZE,
                                               KV_TIMERS_SIZE, KV_NAMES_SIZE};

/* Words, not bytes: readers may look on. */
static inline void image_words(uint64_t *to, const uint64_t *from, size_t bytes)
{
    size_t i;

    for (i = 0; i < bytes / 8; i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

static inline void image_save(image *m, image_copy *c)
{
    size_t at = sizeof(kv_head), all = at;
    uint64_t id;
    int s;

    for (s = 0; s < KV_SPACES; s++) {
        c->ready[s] = m->r.head->ready[s];
        all += c->ready[s] * image_size[s];
    }
    if (all > c->all) {
        free(c->bytes);
        c->bytes = malloc(all);
        c->all = all;
    }
    memcpy(c->bytes, m->r.head, sizeof(kv_head));
    for (s = 0; s < KV_SPACES; s++)
        for (id = 0; id < c->ready[s]; id++, at += image_size[s])
            memcpy(c->bytes + at, kv_region_place(&m->r, s, (uint32_t)id).ptr, image_size[s]);
    c->size = at;
}

/* Back to the copy; what has grown since stays grown. */
static inline void image_restore(image *m, const image_copy *c)
{
    uint64_t ready[KV_SPACES];
    size_t at = sizeof(kv_head);
    uint64_t id;
    int s;

    memcpy(ready, m->r.head->ready, sizeof ready);
    image_words((uint64_t *)(void *)m->r.head, (const uint64_t *)(void *)c->bytes, sizeof(kv_head));
    memcpy(m->r.head->ready, ready, sizeof ready);
    for (s = 0; s < KV_SPACES; s++)
        for (id = 0; id < c->ready[s]; id++, at += image_size[s])
            image_words((uint64_t *)(void *)kv_region_place(&m->r, s, (uint32_t)id).ptr,
                        (const uint64_t *)(void *)(c->bytes + at), image_size[s]);
}

static inline void image_forget(image_copy *c)
{
    free(c->bytes);
    memset(c, 0, sizeof *c);
}

/* ---- death ---- */

static jmp_buf image_grave;

static void image_bury(void)
{
    longjmp(image_grave, 1);
}

/* Runs body(arg), which dies before its n-th store. 1: it did not have so many. */
static inline int image_jump(int64_t n, void (*body)(void *arg), void *arg)
{
    kv_test_die = image_bury;
    if (setjmp(image_grave)) {
        kv_test_die_at = 0;
        return 0;
    }
    kv_test_die_at = n;
    body(arg);
    kv_test_die_at = 0;
    return 1;
}

static inline int image_fork(int64_t n, void (*body)(void *arg), void *arg)
{
    int status = 0;
    pid_t child = check_fork();

    if (child == 0) {
        kv_test_die = NULL;
        kv_test_die_at = n;
        body(arg);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        image_die("child");
    return WEXITSTATUS(status) != 77;
}

/* Undoes what a death has left, dying at each store of the undoing, too. */
static void image_undo_body(void *arg)
{
    if (kv_txn_undo(&((image *)arg)->r, NULL) != KV_OK)
        image_die("undo");
}

static inline void image_recover(image *m, int dying)
{
    int64_t n;

    for (n = 1; dying && !image_jump(n, image_undo_body, m); n++)
        continue;
    image_undo_body(m);
    kv_txn_end(&m->r);
}

#endif
