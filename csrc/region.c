/* SPDX-License-Identifier: MIT
 *
 * region.c - the index image: where nodes lie in the file, growth, and the journal of old words.
 *
 * Invariant: a node below `ready` lies in allocated file space; a word that a transaction changed
 * has its place and old value in the journal, counted before the word was stored; so whoever finds
 * count > 0 can restore the state before, any number of times, and dying while doing so is
 * harmless.
 *
 * Layout: the header in whole pages, level 0 of each space, then each further level where the file
 * ended when its first node was wanted (kv_head.place). So the file is as long as what is used, but
 * for the part of each space's last level that is not allocated yet.
 *
 * Levels of 2 MiB (of buckets) and more are mapped with large pages, which a lookup among millions
 * of keys needs most: they begin at multiples of 2 MiB and grow by as much, because the kernel
 * treats a large page as one and would allocate what is missing of it at a store, or fail it with a
 * signal.
 */
#include "region.h"
#include "crc32c.h"

#include <stdio.h>
#include <string.h>

#define MAGIC      0x6765722d78766b01ull
#define LAYOUT     9 /* grows with any change of what words and nodes mean that no size shows */
#define HEAD_BYTES (((uint64_t)sizeof(kv_head) + KV_PAGE - 1) / KV_PAGE * KV_PAGE)
/* An id + 1 must fit 32 bits. Far beyond what a file system takes. */
#define MAX_NODES (((uint64_t)1 << 32) - KV_PAGE)
#define HUGE      ((uint64_t)2 << 20)
#define HUGE_FROM ((uint64_t)2 << 20)

/* Node size and nodes of level 0, by space. */
static const uint32_t space_size[KV_SPACES] = {KV_BUCKETS_SIZE, KV_OVERFLOW_SIZE, KV_NODES_SIZE,
                                               KV_TIMERS_SIZE, KV_NAMES_SIZE};
static const uint32_t space_first[KV_SPACES] = {KV_BUCKETS_FIRST, KV_OVERFLOW_FIRST, KV_NODES_FIRST,
                                                KV_TIMERS_FIRST, KV_NAMES_FIRST};

KV_STATIC_ASSERT(sizeof(kv_journal_entry) == 16, entry);
KV_STATIC_ASSERT(offsetof(kv_head, hash) % 64 == 0, hash_line);
KV_STATIC_ASSERT(offsetof(kv_head, order) % 64 == 0, order_line);
KV_STATIC_ASSERT(offsetof(kv_head, log) % 64 == 0, log_line);
KV_STATIC_ASSERT(offsetof(kv_head, store) % 64 == 0, store_line);
KV_STATIC_ASSERT(offsetof(kv_head, used) % 64 == 0, used_line);
KV_STATIC_ASSERT(offsetof(kv_head, ready) % 64 == 0, ready_line);
KV_STATIC_ASSERT(offsetof(kv_head, blobs) % 64 == 0, blobs_line);
KV_STATIC_ASSERT(offsetof(kv_head, wheel) % 64 == 0, wheel_line);
KV_STATIC_ASSERT(offsetof(kv_head, journal) % 64 == 0, journal_line);
KV_STATIC_ASSERT(KV_SPACES <= 8, spaces);
KV_STATIC_ASSERT(sizeof(kv_head) < HUGE, head_before_huge);
/* The other levels of a huge one's number are multiples of 2 MiB as well. */
KV_STATIC_ASSERT(KV_NODES_SIZE *KV_NODES_FIRST % (KV_BUCKETS_SIZE * KV_BUCKETS_FIRST) == 0, alike);
/* All words that may be journaled are in reach of a 16-bit offset. */
KV_STATIC_ASSERT(sizeof(kv_head) <= 65536, head_range);

/* ---- where things lie ---- */

static uint64_t level_start(int space, int level) /* id of its first node */
{
    return level ? (uint64_t)space_first[space] << (level - 1) : 0;
}

static uint64_t level_nodes(int space, int level)
{
    return (uint64_t)space_first[space] << (level ? level - 1 : 0);
}

static uint64_t level_bytes(int space, int level)
{
    return level_nodes(space, level) * space_size[space];
}

/* Alike for all spaces: their levels of one number are neighbours. */
static int is_huge(int level)
{
    return level_bytes(KV_BUCKETS, level) >= HUGE_FROM;
}

static uint64_t level_offset(const kv_region *r, int space,
                             int level) /* in the file; 0: nowhere yet */
{
    uint64_t off = HEAD_BYTES;
    int s;

    if (level > 0)
        return kv_load(&r->head->place[space][level]);
    for (s = 0; s < space; s++)
        off += level_bytes(s, 0);
    return off;
}

/* Gives a level its place, behind all others. One process at a time, as growth is. */
static uint64_t place_level(kv_region *r, int space, int level)
{
    uint64_t off = level_offset(r, space, level);

    if (off == 0) {
        off = kv_load(&r->head->end);
        if (is_huge(level))
            off = (off + HUGE - 1) / HUGE * HUGE;
        kv_store(&r->head->end, off + level_bytes(space, level));
        kv_store(&r->head->place[space][level], off);
    }
    return off;
}

/* Where the first `nodes` nodes end, > 0. */
static uint64_t node_end(const kv_region *r, int space, uint64_t nodes)
{
    int level = kv_level_of((uint32_t)(nodes - 1), space_first[space]);

    return level_offset(r, space, level) + (nodes - level_start(space, level)) * space_size[space];
}

static uint64_t format_hash(void)
{
    const uint64_t part[] = {LAYOUT,
                             sizeof(kv_head),
                             offsetof(kv_head, hash),
                             offsetof(kv_head, order),
                             offsetof(kv_head, log),
                             offsetof(kv_head, store),
                             offsetof(kv_head, used),
                             offsetof(kv_head, ready),
                             offsetof(kv_head, wheel),
                             offsetof(kv_head, journal),
                             offsetof(kv_head, place),
                             offsetof(kv_head, blobs),
                             KV_SPACES,
                             KV_JOURNAL_MAX,
                             KV_HASH_WORDS,
                             KV_ORDER_WORDS,
                             KV_WHEEL_WORDS,
                             KV_LOG_WORDS,
                             KV_STORE_WORDS,
                             KV_BLOBS_WORDS,
                             KV_PAGE,
                             KV_MAX_KEY};
    uint64_t h = 14695981039346656037ull;
    size_t i;
    int s;

    for (i = 0; i < sizeof part / sizeof part[0]; i++)
        h = (h ^ part[i]) * 1099511628211ull;
    for (s = 0; s < KV_SPACES; s++)
        h = (h ^ ((uint64_t)space_size[s] << 32 | space_first[s])) * 1099511628211ull;
    return h ^ h >> 29;
}

/* ---- mapping ---- */

/* Maps the levels that hold the first `nodes` nodes. With r->mutex held (or r not shared yet). */
static int map_levels(kv_region *r, int space, uint64_t nodes)
{
    int top = kv_level_of((uint32_t)(nodes - 1), space_first[space]);
    int level, rc = kv_dir_usable(r->dir);
    void *p;

    if (rc != KV_OK)
        return rc;
    for (level = 0; level <= top; level++) {
        uint64_t bytes = level_bytes(space, level), start;

        if (r->level[space][level])
            continue;
        if (level_offset(r, space, level) == 0)
            return kv_fail(KV_ECORRUPT, "%s/%s: index space %d has no place", kv_dir_path(r->dir),
                           r->name, space);
        rc = kv_file_map(r->fd, level_offset(r, space, level), bytes, r->writable, NULL,
                         is_huge(level), &p);
        if (rc != KV_OK)
            return rc;
        start = level_start(space, level);
        __atomic_store_n(
            &r->origin[space][kv_top_bit((uint32_t)(start | (space_first[space] - 1)))],
            (uint64_t)(uintptr_t)p - start * space_size[space], __ATOMIC_RELEASE);
        kv_store_ptr(&r->level[space][level], p);
    }
    return KV_OK;
}

/* `limit` is raised only after the levels are stored, so whoever sees the limit sees the levels. */
static void raise_limit(kv_region *r, int space, uint64_t nodes)
{
    if (nodes > kv_load_relaxed(&r->limit[space]))
        __atomic_store_n(&r->limit[space], nodes, __ATOMIC_RELEASE);
}

/* Takes note of what is ready now. `ready` is read before the size: space is allocated before it is
 * announced, so a size too small for it means damage. With r->mutex held. */
static int follow(kv_region *r, int space)
{
    uint64_t ready = kv_load(&r->head->ready[space]);
    uint64_t size;
    int rc;

    if (ready <= kv_load_relaxed(&r->limit[space]))
        return KV_OK;
    if (ready > MAX_NODES)
        return kv_fail(KV_ECORRUPT, "%s/%s: impossible size of index space %d", kv_dir_path(r->dir),
                       r->name, space);
    rc = kv_file_size(r->fd, &size);
    if (rc != KV_OK)
        return rc;
    if (node_end(r, space, ready) > size)
        return kv_fail(KV_ECORRUPT, "%s/%s: index space %d lies beyond the end of the file",
                       kv_dir_path(r->dir), r->name, space);
    rc = map_levels(r, space, ready);
    if (rc == KV_OK)
        raise_limit(r, space, ready);
    return rc;
}

int kv_region_follow(kv_region *r)
{
    uint64_t grown = kv_load(&r->head->grown);
    int s, rc = KV_OK;

    kv_mutex_lock(r->mutex);
    for (s = 0; rc == KV_OK && s < KV_SPACES; s++)
        rc = follow(r, s);
    if (rc == KV_OK)
        __atomic_store_n(&r->grown, grown, __ATOMIC_RELAXED);
    kv_mutex_unlock(r->mutex);
    return rc;
}

KV_NOINLINE int kv_region_reach(kv_region *r, int space, uint32_t id)
{
    /* Damaged links may ask for anything: what is not ready costs one load, no lock, no call. */
    if (id >= kv_load(&r->head->ready[space]))
        return 0;
    KV_PAUSE("node: to be mapped");
    kv_mutex_lock(r->mutex);
    (void)follow(r, space);
    kv_mutex_unlock(r->mutex);
    return id < kv_load(&r->limit[space]);
}

kv_place kv_region_place(kv_region *r, int space, uint32_t id)
{
    kv_place p;

    p.ptr = kv_region_node(r, space, id, space_first[space], space_size[space]);
    p.addr = kv_region_addr(space, id);
    return p;
}

/* ---- making, opening, closing ---- */

static int begin(kv_region *r, kv_dir *dir, const char *name, int how, int writable)
{
    int rc;

    memset(r, 0, sizeof *r);
    r->fd = -1;
    if (strlen(name) >= sizeof r->name)
        return kv_fail(KV_EINVAL, "%s: name too long", name);
    snprintf(r->name, sizeof r->name, "%s", name);
    r->dir = dir;
    r->writable = writable;
    r->mutex = kv_mutex_new();
    if (!r->mutex)
        return kv_fail(KV_ENOMEM, "out of memory");
    rc = kv_file_open(dir, name, how, &r->fd);
    if (rc != KV_OK)
        r->fd = -1;
    return rc;
}

static int map_head(kv_region *r)
{
    void *p;
    int rc = kv_file_map(r->fd, 0, HEAD_BYTES, r->writable, NULL, 0, &p);

    if (rc == KV_OK)
        r->head = p;
    return rc;
}

int kv_region_create(kv_region *r, kv_dir *dir, const char *name)
{
    int rc = begin(r, dir, name, KV_FILE_CREATE, 1);
    int made = rc == KV_OK;
    int s;

    uint64_t end = HEAD_BYTES;

    /* Header and level 0 of all spaces follow each other: one call. */
    for (s = 0; s < KV_SPACES; s++)
        end += level_bytes(s, 0);
    if (rc == KV_OK)
        rc = kv_file_allocate(r->fd, 0, end);
    if (rc == KV_OK)
        rc = map_head(r);
    for (s = 0; s < KV_SPACES && rc == KV_OK; s++)
        rc = map_levels(r, s, space_first[s]);
    if (rc != KV_OK) {
        kv_region_close(r);
        if (made)
            kv_file_unlink(dir, name);
        return rc;
    }
    r->head->format = format_hash();
    kv_store(&r->head->end, end);
    for (s = 0; s < KV_SPACES; s++) {
        kv_store(&r->head->ready[s], space_first[s]);
        raise_limit(r, s, space_first[s]);
    }
    kv_store(&r->head->magic, MAGIC);
    return KV_OK;
}

static int examine(kv_region *r)
{
    uint64_t used;
    int s, rc;

    r->grown = kv_load(&r->head->grown); /* before what has grown: it may be less, never more */
    if ((kv_load(&r->head->magic) != MAGIC || r->head->format != format_hash()) && !KV_IS_BUG(38))
        return kv_fail(KV_ECORRUPT, "%s/%s: not an index of this version", kv_dir_path(r->dir),
                       r->name);
    for (s = 0; s < KV_SPACES; s++) {
        used = kv_load(&r->head->used[s]); /* first: it trails ready */
        rc = follow(r, s);
        if (rc != KV_OK)
            return rc;
        if (used > r->limit[s] || r->limit[s] < space_first[s])
            return kv_fail(KV_ECORRUPT, "%s/%s: impossible use of index space %d",
                           kv_dir_path(r->dir), r->name, s);
    }
    return KV_OK;
}

int kv_region_attach(kv_region *r, kv_dir *dir, const char *name, int writable)
{
    int rc = begin(r, dir, name, writable ? KV_FILE_WRITE : KV_FILE_READ, writable);
    uint64_t size = 0;

    if (rc == KV_OK)
        rc = kv_file_size(r->fd, &size);
    if (rc == KV_OK && size < HEAD_BYTES)
        rc = kv_fail(KV_ECORRUPT, "%s/%s: too short", kv_dir_path(dir), name);
    if (rc == KV_OK)
        rc = map_head(r);
    if (rc == KV_OK)
        rc = examine(r);
    if (rc != KV_OK)
        kv_region_close(r);
    return rc;
}

void kv_region_close(kv_region *r)
{
    int s, l;

    for (s = 0; s < KV_SPACES; s++)
        for (l = 0; l < KV_LEVELS; l++)
            if (r->level[s][l])
                kv_file_unmap(r->level[s][l], level_bytes(s, l));
    if (r->head)
        kv_file_unmap(r->head, HEAD_BYTES);
    if (r->fd >= 0)
        kv_file_close(r->fd);
    if (r->mutex)
        kv_mutex_free(r->mutex);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

/* ---- growth ---- */

/* Allocates the nodes [from, to), level by level. Space allocated before a failure is not lost: the
 * next attempt covers it again. */
static int allocate(kv_region *r, int space, uint64_t from, uint64_t to)
{
    uint32_t size = space_size[space];
    int rc = kv_dir_usable(r->dir);

    while (rc == KV_OK && from < to) {
        int level = kv_level_of((uint32_t)from, space_first[space]);
        uint64_t start = level_start(space, level);
        uint64_t end = start + level_nodes(space, level);

        if (end > to)
            end = to;
        rc = kv_file_allocate(r->fd, place_level(r, space, level) + (from - start) * size,
                              (end - from) * size);
        from = end;
    }
    return rc;
}

/* First touches happen here, not under the writer lock. */
static void populate(kv_region *r, int space, uint64_t from, uint64_t to)
{
    uint32_t size = space_size[space];

    while (from < to) {
        int level = kv_level_of((uint32_t)from, space_first[space]);
        uint64_t start = level_start(space, level);
        uint64_t end = start + level_nodes(space, level);

        if (end > to)
            end = to;
        kv_map_populate((char *)r->level[space][level] + (from - start) * size, (end - from) * size,
                        1);
        from = end;
    }
}

/* The next number of nodes that ends with a page of the level they end in. */
static uint64_t whole_pages(int space, uint64_t nodes)
{
    int level = kv_level_of((uint32_t)(nodes - 1), space_first[space]);
    uint64_t page = (is_huge(level) ? HUGE : KV_PAGE) / space_size[space];

    return (nodes + page - 1) / page * page;
}

int kv_region_grow(kv_region *r, int space, uint64_t more)
{
    uint64_t ready = kv_load(&r->head->ready[space]);
    uint64_t used = kv_load(&r->head->used[space]);
    uint64_t to = ready + ready / 8, least;
    int rc = kv_region_follow(r); /* it may have grown in another process */

    if (rc != KV_OK)
        return rc;
    if (used > ready || ready > MAX_NODES || more > MAX_NODES - used)
        return kv_fail(KV_EFULL, "%s/%s: index space %d is full", kv_dir_path(r->dir), r->name,
                       space);
    if (used + more <= ready)
        return KV_OK;
    least = whole_pages(space, used + more);
    to = whole_pages(space, to < used + more ? used + more : to);
    if (to > MAX_NODES)
        to = MAX_NODES;
    if (least > to)
        least = to;
    rc = allocate(r, space, ready, to);
    if (rc == KV_EFULL && least < to)
        rc = allocate(r, space, ready, to = least);
    if (rc != KV_OK)
        return rc;
    kv_mutex_lock(r->mutex);
    rc = map_levels(r, space, to);
    kv_mutex_unlock(r->mutex);
    if (rc != KV_OK)
        return rc;
    populate(r, space, ready, to);
    KV_PAUSE("grow: allocated");
    kv_mutex_lock(r->mutex);
    kv_store(&r->head->ready[space], to);
    KV_PAUSE("grow: ready");
    kv_store(&r->head->grown, r->head->grown + 1);
    __atomic_store_n(&r->grown, r->head->grown, __ATOMIC_RELAXED);
    raise_limit(r, space, to);
    kv_mutex_unlock(r->mutex);
    return KV_OK;
}

uint64_t kv_region_bytes(const kv_region *r)
{
    uint64_t bytes = HEAD_BYTES;
    int s;

    for (s = 0; s < KV_SPACES; s++)
        bytes += kv_load_relaxed(&r->head->ready[s]) * space_size[s];
    return bytes;
}

int kv_region_copy_room(kv_region *to, kv_region *from)
{
    int s, rc = kv_region_follow(from);

    for (s = 0; rc == KV_OK && s < KV_SPACES; s++)
        rc = kv_region_grow(to, s, kv_load(&from->limit[s]));
    return rc;
}

int kv_region_copy(kv_region *to, kv_region *from)
{
    const size_t word = offsetof(kv_head, hash);
    kv_head *h = to->head;
    const uint64_t *words = (const uint64_t *)(const void *)from->head;
    uint64_t ready[8], place[8][KV_LEVELS], nodes[KV_SPACES];
    size_t i;
    int s, level;

    /* The helper may make more of them at any moment; what is in use stays below `ready`. */
    for (s = 0; s < KV_SPACES; s++) {
        nodes[s] = kv_load(&to->limit[s]);
        if (kv_load(&from->head->ready[s]) > nodes[s] || kv_region_behind(from))
            return 0;
        if (kv_load(&from->limit[s]) < nodes[s])
            nodes[s] = kv_load(&from->limit[s]);
    }
    memcpy(ready, h->ready, sizeof ready);
    memcpy(place, h->place, sizeof place);
    /* By words: the helper's change without the lock. */
    for (i = word / 8; i < sizeof *h / 8; i++)
        ((uint64_t *)(void *)h)[i] = kv_load_relaxed(&words[i]);
    memcpy(h->ready, ready, sizeof ready);
    memcpy(h->place, place, sizeof place);
    for (s = 0; s < KV_SPACES; s++)
        for (level = 0; level_start(s, level) < nodes[s]; level++) {
            uint64_t n = level_nodes(s, level), left = nodes[s] - level_start(s, level);

            memcpy(to->level[s][level], from->level[s][level],
                   (n < left ? n : left) * space_size[s]);
        }
    return 1;
}

uint64_t kv_region_sum(kv_region *r)
{
    const size_t from = offsetof(kv_head, hash);
    uint32_t crc = kv_crc32c(0, (const char *)r->head + from, sizeof *r->head - from);
    int s, level;

    for (s = 0; s < KV_SPACES; s++) {
        uint64_t ready = kv_load(&r->limit[s]);

        for (level = 0; level_start(s, level) < ready; level++) {
            uint64_t n = level_nodes(s, level), left = ready - level_start(s, level);

            crc = kv_crc32c(crc, r->level[s][level], (n < left ? n : left) * space_size[s]);
        }
    }
    return crc;
}

uint32_t kv_region_take(kv_region *r, int space)
{
    uint64_t id = r->head->used[space];

    kv_assert(id < kv_load(&r->head->ready[space]));
    kv_txn_set(r, kv_head_place(r), &r->head->used[space], id + 1);
    return (uint32_t)id;
}

/* ---- the journal ---- */

/* The word an address names, or NULL: damage. */
static uint64_t *resolve(kv_region *r, uint64_t addr)
{
    uint64_t space = addr >> 48;
    uint32_t id = (uint32_t)(addr >> 16);
    uint32_t off = (uint32_t)(addr & 0xfffe);
    char *node;

    if (off % 8)
        return NULL;
    if (space == KV_HEAD_ADDR >> 48) {
        if (id || !((off >= offsetof(kv_head, hash) && off < offsetof(kv_head, ready)) ||
                    (off >= offsetof(kv_head, wheel) && off < offsetof(kv_head, journal))))
            return NULL;
        return (uint64_t *)(void *)((char *)r->head + off);
    }
    if (space < 1 || space > KV_SPACES || off >= space_size[space - 1])
        return NULL;
    node = kv_region_place(r, (int)space - 1, id).ptr;
    return node ? (uint64_t *)(void *)(node + off) : NULL;
}

static int no_sense(kv_region *r)
{
    return kv_fail(KV_ECORRUPT, "%s/%s: the index's journal is damaged", kv_dir_path(r->dir),
                   r->name);
}

int kv_txn_undo(kv_region *r, int *undone)
{
    uint64_t n = kv_load(&r->head->journal.count);
    uint64_t addr = kv_load(&r->head->journal.visible_addr);
    int done = 0;
    uint64_t i;

    if (n > KV_JOURNAL_MAX)
        return no_sense(r);
    for (i = 0; i < n; i++)
        if (!resolve(r, r->head->journal.entry[i].addr))
            return no_sense(r);
    if (addr) {
        uint64_t *word = resolve(r, addr);

        if (!word || addr & 1)
            return no_sense(r);
        done = *word == r->head->journal.visible_new;
    }
    if (undone)
        *undone = n && !done;
    if (done) {
        kv_txn_end(r);
        return KV_OK;
    }
    /* Forget the visible word first: restoring could give it the new value by chance, which a
     * second attempt would take for done. The count follows each entry, so that a second attempt
     * does not run through older states again. */
    if (addr)
        kv_store(&r->head->journal.visible_addr, 0);
    for (i = n; i-- > (KV_IS_BUG(9) ? 1 : 0);) {
        const kv_journal_entry *e = &r->head->journal.entry[i];
        uint64_t *word = resolve(r, e->addr);
        uint64_t old = e->old;

        if (e->addr & 1 && !KV_IS_BUG(34))
            old = ((*word >> 32) + 1) << 32 | (old & 0xffffffff);
        kv_store(word, old);
        if (i == 0)
            kv_store(&r->head->undone, r->head->undone + 1);
        kv_store(&r->head->journal.count, i);
    }
    return KV_OK;
}
