/* SPDX-License-Identifier: MIT
 *
 * log.c - segments: mapping, appending, reading, syncing, retirement. log_walk.c replays them.
 *
 * Invariant: bytes before the tail never change; bytes behind it in mapped segments are zero or
 * claimed. Nothing that was mapped is unmapped while the log is open: a retired segment's address
 * range is reused for a later segment of the same size, so that a reader who is late reads other
 * bytes and finds another id, never a hole.
 */
#include "log.h"
#include "crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

KV_STATIC_ASSERT(sizeof(kv_seg_head) <= KV_SEG_HEAD, seg_head_size);
KV_STATIC_ASSERT(offsetof(kv_seg_head, crc) == 96, seg_head_crc);
KV_STATIC_ASSERT(offsetof(kv_seg_head, mark) % 8 == 0, seg_head_mark);

#define PUNCH_BITE (1u << 20)

/* ---- private buffers ------------------------------------------------------------------ */

int kv_scratch_need(kv_scratch *s, size_t n)
{
    char *p;
    size_t cap = s->cap ? s->cap : 512;

    if (n <= s->cap)
        return KV_OK;
    while (cap < n)
        cap *= 2;
    p = malloc(cap);
    if (p == NULL)
        return kv_fail(KV_ENOMEM, "out of memory (%zu bytes)", cap);
    free(s->p);
    s->p = p;
    s->cap = cap;
    return KV_OK;
}

void kv_scratch_free(kv_scratch *s)
{
    free(s->p);
    s->p = NULL;
    s->cap = 0;
}

/* ---- names and mappings --------------------------------------------------------------- */

static void seg_name(uint32_t id, char out[24])
{
    snprintf(out, 24, "log.%08x", (unsigned)id);
}

int kv_log_parse_name(const char *name, uint32_t *id)
{
    unsigned v;
    char again[24];

    if (sscanf(name, "log.%8x", &v) != 1)
        return 0;
    seg_name(v, again);
    if (strcmp(again, name) != 0)
        return 0;
    *id = v;
    return 1;
}

static char *base_of(uint64_t mapping)
{
    return (char *)(uintptr_t)(mapping & ~(uint64_t)(KV_PAGE - 1));
}

static uint32_t size_of(uint64_t mapping)
{
    return (uint32_t)1 << (mapping & 31);
}

static uint64_t *slot_of(kv_log *l, uint32_t id)
{
    return &l->table[id & (KV_SEG_IDS - 1)].at;
}

/* With l->mutex held. */
static void set_slot(kv_log *l, uint32_t id, uint64_t mapping)
{
    uint32_t i = id & (KV_SEG_IDS - 1);

    if (l->low == l->high)
        l->low = l->high = i;
    l->low = i < l->low ? i : l->low;
    l->high = i + 1 > l->high ? i + 1 : l->high;
    __atomic_store_n(&l->table[i].seal, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&l->table[i].at, mapping, __ATOMIC_RELEASE);
}

static kv_seg_head *head_of(uint64_t mapping)
{
    return (kv_seg_head *)(void *)base_of(mapping);
}

static int log2_of(uint64_t size)
{
    return size >= KV_SEG_MIN && size <= KV_SEG_MAX && (size & (size - 1)) == 0
               ? __builtin_ctzll(size)
               : 0;
}

/* Maps segment fd, in the place of a retired one of the same size if there is one. With l->mutex
 * held. */
static int map_fd(kv_log *l, int fd, uint64_t size, uint64_t *mapping)
{
    int bits = log2_of(size), huge = l->huge && size >= KV_SEG_MIDDLE, e;
    void *p;
    uint32_t i;

    if (!bits)
        return kv_fail(KV_ECORRUPT, "%s: a log segment has a size of %llu bytes",
                       kv_dir_path(l->dir), (unsigned long long)size);
    for (i = 0; i < l->idles; i++)
        if ((l->idle[i] & 31) == (uint64_t)bits)
            break;
    if (i < l->idles) {
        e = kv_file_map(fd, 0, size, l->writable, base_of(l->idle[i]), huge, &p);
        if (e == KV_OK)
            l->idle[i] = l->idle[--l->idles];
    } else {
        e = kv_file_map(fd, 0, size, l->writable, NULL, huge, &p);
    }
    if (e == KV_OK)
        *mapping = (uint64_t)(uintptr_t)p | (uint64_t)bits;
    return e;
}

static void set_idle(kv_log *l, uint64_t mapping);

/* Whatever was freed, by whomever: its address range may be used again, and its place in the table,
 * which a later segment will have. With l->mutex held. */
static void prune(kv_log *l)
{
    uint32_t freed = (uint32_t)kv_load(&l->w[KV_LOG_FREED]);
    uint64_t *slot;

    if (l->low == l->high)
        l->pruned = freed; /* nothing is mapped yet */
    for (; l->pruned < freed; l->pruned++) {
        slot = slot_of(l, l->pruned);
        if (*slot != 0)
            set_idle(l, *slot);
        __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
    }
}

/* The mapping of segment id, mapped now if need be; 0: there is no such file, or it cannot be
 * mapped. */
static KV_NOINLINE uint64_t reach(kv_log *l, uint32_t id, int *why)
{
    char name[24];
    uint64_t m, size;
    int fd, e = KV_OK;

    kv_mutex_lock(l->mutex);
    prune(l);
    m = kv_load(slot_of(l, id));
    if (m == 0) {
        KV_PAUSE("segment: to be opened");
        seg_name(id, name);
        e = kv_file_open(l->dir, name, l->writable ? KV_FILE_WRITE : KV_FILE_READ, &fd);
        m = 0;
        if (e == KV_OK) {
            e = kv_file_size(fd, &size);
            if (e == KV_OK)
                e = map_fd(l, fd, size, &m);
            if (e == KV_OK) {
                set_slot(l, id, m);
                l->pruned = id < l->pruned ? id : l->pruned;
            }
            kv_file_close(fd);
        }
    }
    kv_mutex_unlock(l->mutex);
    if (why != NULL)
        *why = e;
    return m;
}

/* Spares are all zero, so their id word says nothing: the table is right for them because this
 * process made them or reach() looked at the file. */
static uint64_t mapping_why(kv_log *l, uint32_t id, int *why)
{
    uint64_t m = kv_load(slot_of(l, id));

    return kv_likely(m != 0) ? m : reach(l, id, why);
}

static uint64_t mapping_of(kv_log *l, uint32_t id)
{
    return mapping_why(l, id, NULL);
}

/* Why a segment that must be there has no mapping. */
static KV_NOINLINE int unmapped(kv_log *l, uint32_t id, int why)
{
    return why != KV_ENOTFOUND ? why
                               : kv_fail(KV_ECORRUPT, "%s: segment %u is missing",
                                         kv_dir_path(l->dir), (unsigned)id);
}

int kv_log_open(kv_log *l, kv_dir *dir, uint64_t *words, uint64_t store_id, int writable)
{
    memset(l, 0, sizeof *l);
    l->dir = dir;
    l->w = words;
    l->store_id = store_id;
    l->writable = writable;
    l->huge = 1;
    l->pins = -1;
    l->sync_fd = -1;
    l->table = calloc(KV_SEG_IDS, sizeof *l->table);
    l->mutex = kv_mutex_new();
    if (l->table == NULL || l->mutex == NULL) {
        kv_log_close(l);
        return kv_fail(KV_ENOMEM, "out of memory");
    }
    if (kv_os_random(&l->random, sizeof l->random) != KV_OK) {
        kv_log_close(l);
        return KV_EIO;
    }
    return KV_OK;
}

void kv_log_close(kv_log *l)
{
    uint32_t i;

    if (l->sync_fd >= 0)
        kv_file_close(l->sync_fd);
    if (l->table != NULL)
        for (i = l->low; i < l->high; i++)
            if (l->table[i].at)
                kv_file_unmap(base_of(l->table[i].at), size_of(l->table[i].at));
    for (i = 0; i < l->idles; i++)
        kv_file_unmap(base_of(l->idle[i]), size_of(l->idle[i]));
    free(l->table);
    free(l->idle);
    if (l->mutex != NULL)
        kv_mutex_free(l->mutex);
    memset(l, 0, sizeof *l);
    l->sync_fd = -1;
}

/* Others may write and retire meanwhile: each word is read before those it is not to pass. */
int kv_log_sound(kv_log *l)
{
    uint64_t oldest = kv_load(&l->w[KV_LOG_OLDEST]), clean = kv_load(&l->w[KV_LOG_CLEAN]);
    uint64_t tail = kv_load(&l->w[KV_LOG_TAIL]), spares = kv_load(&l->w[KV_LOG_SPARES]), m;
    int sound;

    if (oldest == 0 || kv_pos_id(clean) < oldest || kv_pos_id(tail) < kv_pos_id(clean) ||
        spares < kv_pos_id(tail) || spares - oldest >= KV_SEG_IDS || spares > UINT32_MAX)
        return 0;
    m = reach(l, kv_pos_id(tail), NULL);
    KV_PAUSE("attach: head mapped");
    sound = m != 0 && kv_load(&head_of(m)->id) == kv_pos_id(tail) &&
            head_of(m)->store_id == l->store_id && kv_pos_off(tail) >= KV_SEG_HEAD &&
            kv_pos_off(tail) <= size_of(m);
    kv_fence_acquire();
    /* It may be gone already, and be no head any more when it was looked at. */
    return kv_pos_id(tail) < kv_load(&l->w[KV_LOG_OLDEST]) ? kv_log_sound(l) : sound;
}

int kv_log_map(kv_log *l, uint32_t max)
{
    uint32_t id = kv_pos_id(kv_load(&l->w[KV_LOG_TAIL]));
    int e = KV_OK;

    for (; max-- > 0 && id >= kv_load(&l->w[KV_LOG_OLDEST]); id--) {
        (void)mapping_why(l, id, &e);
        if (e != KV_OK && e != KV_ENOTFOUND) /* retired meanwhile, or missed when it is read */
            return e;
    }
    return KV_OK;
}

uint32_t kv_log_mapped(const kv_log *l, uint32_t id, const char **bytes)
{
    uint64_t m = kv_load(&l->table[id & (KV_SEG_IDS - 1)].at);

    *bytes = base_of(m);
    return m != 0 && kv_load(&head_of(m)->id) == id ? size_of(m) : 0;
}

/* Once the pin is there, nothing from `oldest` on is zeroed; what was before is noticed by its id.
 */
static int pin_once(kv_log *l, const uint64_t *of, uint64_t *tail)
{
    uint64_t oldest = kv_load(&of[KV_LOG_OLDEST]);
    const char *bytes;
    uint32_t id;
    int e = l->pins < 0 ? KV_OK : kv_file_lock(l->pins, KV_PIN_BLOBS, 0, KV_RANGE_FREE);

    if (e == KV_OK && l->pins >= 0)
        e = kv_file_lock(l->pins, KV_PIN_BLOBS, 1, KV_RANGE_SHARED);
    if (e == KV_OK && l->pins >= 0)
        e = kv_file_lock(l->pins, KV_PINS + oldest, 0, KV_RANGE_SHARED);
    if (e != KV_OK)
        return e;
    kv_store(&l->w[KV_LOG_OLDEST], oldest);
    kv_store(&l->w[KV_LOG_FREED], oldest);
    *tail = kv_load(&of[KV_LOG_TAIL]);
    KV_PAUSE("pin: held");
    for (id = (uint32_t)oldest; e == KV_OK && id <= kv_pos_id(*tail); id++) {
        (void)mapping_why(l, id, &e);
        if ((e == KV_OK && kv_log_mapped(l, id, &bytes) == 0) || e == KV_ENOTFOUND)
            e = kv_load(&of[KV_LOG_OLDEST]) != oldest ? KV_EBUSY : unmapped(l, id, KV_ENOTFOUND);
    }
    return e;
}

int kv_log_map_to(kv_log *l, uint64_t tail)
{
    uint32_t id;
    int e = KV_OK;

    for (id = (uint32_t)kv_load(&l->w[KV_LOG_OLDEST]); e == KV_OK && id <= kv_pos_id(tail); id++)
        if (mapping_why(l, id, &e) == 0)
            e = unmapped(l, id, e);
    return e;
}

int kv_log_pin(kv_log *l, const uint64_t *of, uint64_t *tail)
{
    int e, tries;

    for (tries = 0; (e = pin_once(l, of, tail)) == KV_EBUSY && tries < 1000; tries++)
        kv_os_sleep(1);
    return e == KV_EBUSY
               ? kv_fail(e, "%s: segments go faster than they can be held", kv_dir_path(l->dir))
               : e;
}

int kv_log_follow(kv_log *l)
{
    uint64_t spares = kv_load(&l->w[KV_LOG_SPARES]), known = kv_load_relaxed(&l->known);
    uint32_t id = kv_pos_id(kv_load(&l->w[KV_LOG_TAIL]));
    int e = KV_OK;

    if (id <= known && known < spares)
        id = (uint32_t)known + 1;
    for (; e == KV_OK && id <= spares; id++)
        if (kv_load(slot_of(l, id)) == 0)
            (void)reach(l, id, &e);
    /* One that is not there any more is behind somebody who got on: not our concern. */
    if (e == KV_OK || e == KV_ENOTFOUND)
        __atomic_store_n(&l->known, spares, __ATOMIC_RELAXED);
    return e == KV_ENOTFOUND ? KV_OK : e;
}

static uint64_t random64(kv_log *l)
{
    uint64_t z = l->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- segments ------------------------------------------------------------------------- */

/* One more spare is there, and mapped. */
static void announce(kv_log *l, uint32_t id)
{
    kv_store(&l->w[KV_LOG_SPARES], id);
    if (kv_load_relaxed(&l->known) == id - 1)
        __atomic_store_n(&l->known, id, __ATOMIC_RELAXED);
}

/* Small pages, so that a writer has a fault for none of them. A large one is one fault, and dirty
 * it would be written to the disk as a whole. */
static void warm(kv_log *l, uint64_t m)
{
    if (l->huge)
        kv_map_populate(base_of(m), size_of(m),
                        size_of(m) < KV_SEG_LARGE || kv_dir_in_memory(l->dir));
}

static int make_segment(kv_log *l, uint32_t size, int now)
{
    uint32_t id = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]) + 1;
    char name[24];
    uint64_t m;
    int fd, e;

    seg_name(id, name);
    e = kv_file_unlink(l->dir, name); /* left by somebody who died here */
    if (e == KV_OK)
        e = kv_file_open(l->dir, name, KV_FILE_CREATE, &fd);
    if (e != KV_OK)
        return e;
    e = kv_file_allocate(fd, 0, size);
    if (e == KV_OK) {
        KV_PAUSE("prepare: allocated");
        kv_mutex_lock(l->mutex);
        e = map_fd(l, fd, size, &m);
        if (e == KV_OK)
            set_slot(l, id, m);
        kv_mutex_unlock(l->mutex);
        if (e == KV_OK && now)
            warm(l, m);
    }
    kv_file_close(fd);
    if (e != KV_OK) {
        kv_file_unlink(l->dir, name);
        return e;
    }
    KV_PAUSE("prepare: mapped");
    announce(l, id);
    if (!now && kv_load_relaxed(&l->cold) == 0)
        __atomic_store_n(&l->cold, id, __ATOMIC_RELEASE);
    return KV_OK;
}

int kv_log_prepare(kv_log *l, uint32_t size)
{
    return make_segment(l, size, 1);
}

int kv_log_prepare_cold(kv_log *l, uint32_t size)
{
    return make_segment(l, size, 0);
}

/* Whoever makes one meanwhile has noted it, or finds that it is to be noted. What is no spare any
 * more stays as it is: touched again, a segment that was freed would take its space again. */
void kv_log_warm(kv_log *l)
{
    uint64_t id = __atomic_exchange_n(&l->cold, 0, __ATOMIC_ACQ_REL), m;
    uint64_t head = kv_pos_id(kv_load(&l->w[KV_LOG_TAIL]));

    if (id == 0)
        return;
    for (id = id > head ? id : head + 1; id <= kv_load(&l->w[KV_LOG_SPARES]); id++)
        if ((m = kv_load(slot_of(l, (uint32_t)id))) != 0)
            warm(l, m);
}

/* Syncs one segment by name, keeping the last descriptor: `always` syncs the same head again and
 * again. */
static int sync_segment(kv_log *l, uint32_t id)
{
    char name[24];
    int e;

    if (l->sync_fd < 0 || l->sync_id != id) {
        if (l->sync_fd >= 0)
            kv_file_close(l->sync_fd);
        l->sync_fd = -1;
        seg_name(id, name);
        e = kv_file_open(l->dir, name, KV_FILE_WRITE, &l->sync_fd);
        if (e != KV_OK) {
            l->sync_fd = -1;
            return e;
        }
        l->sync_id = id;
    }
    return kv_file_sync(l->sync_fd);
}

uint32_t kv_mark_crc(uint64_t store_id, uint32_t id, uint32_t off)
{
    return kv_crc32c((uint32_t)(store_id ^ store_id >> 32) ^ id, &off, sizeof off);
}

/* The mark says in a segment's header how far it is durable. It is written after the sync that made
 * it true and reaches the disk with a later one, so it may lag and never lies. */
static void set_mark(kv_log *l, uint32_t id, uint32_t off)
{
    uint64_t m = mapping_of(l, id);
    uint64_t mark = off | (uint64_t)kv_mark_crc(l->store_id, id, off) << 32;

    if (m != 0 && head_of(m)->id == id && kv_load(&head_of(m)->mark) != mark)
        kv_store(&head_of(m)->mark, mark);
}

/* Has the file system write several segments at once before each is synced: then the first sync
 * commits for all, where each alone would wait for a commit of its own. */
static void flush_segments(kv_log *l, uint32_t from, uint32_t to)
{
    char name[24];
    uint32_t id;
    int fd, wait;

    for (wait = 0; wait < 2; wait++)
        for (id = from; id <= to; id++) {
            seg_name(id, name);
            if (kv_file_open(l->dir, name, KV_FILE_WRITE, &fd) != KV_OK)
                return; /* the sync says why */
            kv_file_flush(fd, wait);
            kv_file_close(fd);
        }
}

/* Before the file system writes a page it takes the right to store to it from whoever maps it, and
 * interrupts their processors for it, page by page: writers beside it take half as long again. So
 * this process gives up what it has filled, all pages of a segment in one step; who reads them has
 * them back from the kernel's cache, several at once. A large page is one already. */
static void release(kv_log *l, uint32_t from, uint32_t to)
{
    uint64_t m;

    for (; from <= to; from++) {
        m = mapping_of(l, from);
        if (m != 0 && !(l->huge && size_of(m) >= KV_SEG_LARGE))
            kv_map_release(base_of(m), size_of(m));
    }
}

/* Syncs the segments up to `last`, all of them full but for the head, and notes that the log is
 * durable up to `end`. That is or was its tail: no batch lies across it. */
static int sync_to(kv_log *l, uint64_t end, uint32_t last, int full)
{
    uint64_t old = kv_load(&l->w[KV_LOG_SYNCED]), syncs;
    uint32_t id = (uint32_t)kv_load(&l->w[KV_LOG_SYNC_FROM]),
             oldest = (uint32_t)kv_load(&l->w[KV_LOG_OLDEST]);
    uint32_t named = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]);
    int e = KV_OK;

    if (kv_load(&l->w[KV_LOG_BROKEN]))
        return kv_fail(KV_EIO, "%s: an earlier sync failed; reopen the store", kv_dir_path(l->dir));
    if (old >= end)
        return KV_OK;
    /* No sync has failed: somebody else who has the store open can still make one. */
    if (kv_dir_usable(l->dir) != KV_OK)
        return KV_EIO;
    if (id < oldest)
        id = oldest;
    if (last > id || full)
        release(l, id, last);
    if (last > id + 1)
        flush_segments(l, id, last);
    for (; e == KV_OK && id <= last; id++)
        e = sync_segment(l, id);
    if (e == KV_OK && kv_load(&l->w[KV_LOG_NAMED]) < last) {
        e = KV_IS_BUG(17) ? KV_OK : kv_dir_sync(l->dir);
        if (e == KV_OK)
            kv_store(&l->w[KV_LOG_NAMED], named);
    }
    if (e != KV_OK) {
        /* The kernel may have dropped the pages and would say "fine" to a second try: never sync
         * again. */
        kv_store(&l->w[KV_LOG_BROKEN], !KV_IS_BUG(13));
        return kv_fail(KV_EIO, "%s: writing to the disk failed; reopen the store",
                       kv_dir_path(l->dir));
    }
    KV_PAUSE("sync: done");
    syncs = kv_load(&l->w[KV_LOG_SYNCS]) + 1;
    kv_store(&l->w[KV_LOG_SYNCS], syncs);
    kv_store(&l->w[KV_LOG_SYNC_FROM], full ? last + 1 : last);
    kv_store(&l->w[KV_LOG_SYNCED], KV_IS_BUG(43) ? kv_load(&l->w[KV_LOG_TAIL]) : end);
    if (full)
        return KV_OK; /* the header of the next segment says so */
    /* So that the loss of the whole head does not look like a log that ended before it. */
    if (last > oldest)
        set_mark(l, last - 1, KV_MARK_ON);
    if (kv_pos_id(old) != last || end - old >= KV_SEG_MIN / 4 || syncs % 64 == 0)
        set_mark(l, last, kv_pos_off(end));
    return KV_OK;
}

int kv_log_sync(kv_log *l)
{
    uint64_t tail = kv_load(&l->w[KV_LOG_TAIL]);

    return sync_to(l, tail, kv_pos_id(tail), 0);
}

/* Once a page goes to the disk, the next store to it is a fault, to a large page one that takes a
 * tenth of a millisecond: the head is left alone where it need not be durable. */
int kv_log_sync_past(kv_log *l, uint64_t pos)
{
    uint32_t head = kv_pos_id(kv_load(&l->w[KV_LOG_TAIL]));

    if (kv_pos_id(pos) >= head)
        return kv_log_sync(l);
    return sync_to(l, KV_IS_BUG(65) ? head_of(mapping_of(l, head))->prev : pos, head - 1, 1);
}

void kv_log_mark(kv_log *l)
{
    uint64_t synced = kv_load(&l->w[KV_LOG_SYNCED]);

    set_mark(l, kv_pos_id(synced), kv_pos_off(synced));
    if (sync_segment(l, kv_pos_id(kv_load(&l->w[KV_LOG_SYNCED]))) != KV_OK)
        kv_store(&l->w[KV_LOG_BROKEN], 1);
}

/* Remembers that nobody needs a mapping any more. When there is no memory to note it, its addresses
 * stay taken: harmless. */
static void set_idle(kv_log *l, uint64_t mapping)
{
    uint64_t *more;

    if (l->idles == l->idle_cap) {
        more = realloc(l->idle, (l->idle_cap + 64) * sizeof *more);
        if (more == NULL)
            return;
        l->idle = more;
        l->idle_cap += 64;
    }
    l->idle[l->idles++] = mapping;
}

/* Whether somebody reads the segment privately; else nobody will until unpin(). */
static int pinned(kv_log *l, uint32_t id)
{
    return l->pins >= 0 && !KV_IS_BUG(53) &&
           kv_file_lock(l->pins, KV_PINS + id, 1, KV_RANGE_ALONE) != KV_OK;
}

static void unpin(kv_log *l, uint32_t id)
{
    if (l->pins >= 0)
        (void)kv_file_lock(l->pins, KV_PINS + id, 1, KV_RANGE_FREE);
}

/* Goes on where somebody died. */
int kv_log_retire(kv_log *l, uint32_t id, uint32_t keep)
{
    uint32_t i = (uint32_t)kv_load(&l->w[KV_LOG_FREED]), off, bite;
    char name[24];
    uint64_t m;

    for (; i + keep < id; i++) {
        m = mapping_of(l, i);
        KV_PAUSE("retire: begun");
        if (kv_load(&l->w[KV_LOG_OLDEST]) <= i && !KV_IS_BUG(37))
            kv_store(&l->w[KV_LOG_OLDEST], i + 1);
        KV_PAUSE("retire: not the oldest");
        kv_fence_release(); /* who reads a zero from here on finds that stored */
        if (m != 0) {
            /* Unlinked, it would keep its space for as long as anybody has it mapped. */
            if (pinned(l, i))
                break;
            /* Zero first what readers re-check, then give the space back in bites that do not hold
             * the file system up. Where the kernel has to split a larger page for that, it would
             * interrupt the others for each small one that is mapped (see release). */
            kv_map_release(base_of(m), size_of(m));
            for (off = 0; off < size_of(m); off += bite) {
                bite = off == 0                        ? KV_PAGE
                       : size_of(m) - off < PUNCH_BITE ? size_of(m) - off
                                                       : PUNCH_BITE;
                (void)kv_map_punch(base_of(m) + off, bite);
            }
            unpin(l, i);
        }
        if (KV_IS_BUG(37))
            kv_store(&l->w[KV_LOG_OLDEST], i + 1);
        KV_PAUSE("retire: zeroed");
        seg_name(i, name);
        (void)kv_file_unlink(l->dir, name);
        KV_PAUSE("retire: unlinked");
        kv_store(&l->w[KV_LOG_FREED], i + 1);
    }
    if (kv_load(&l->w[KV_LOG_OLDEST]) < id)
        kv_store(&l->w[KV_LOG_OLDEST], id);
    kv_mutex_lock(l->mutex);
    /* Mappings that wait for reuse leave the table: one place owns each. */
    prune(l);
    kv_mutex_unlock(l->mutex);
    return KV_OK;
}

/* Readers who are late find another id, as when the file is punched. After a power cut its former
 * bytes may be there again, all or some, under the new name: a header of another id is none, a mark
 * of another id has another checksum, and so has each record, whose offset is the same and whose
 * salt is not. Whoever died behind the renaming has left a file that nobody counts, and
 * kv_log_prepare removes it. */
int kv_log_recycle(kv_log *l, uint32_t size)
{
    uint32_t i = (uint32_t)kv_load(&l->w[KV_LOG_FREED]);
    uint32_t id = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]) + 1;
    char from[24], to[24];
    uint64_t m;
    int e;

#ifdef KV_TSAN
    /* A late reader of bytes that are written again is a race by C's rules, as in every sequence
     * lock; TSan cannot tell it from a fault. Under TSan each segment is freed instead. */
    return 0;
#endif
    if (i >= kv_load(&l->w[KV_LOG_OLDEST]))
        return 0;
    m = mapping_of(l, i);
    if (m == 0 || size_of(m) != size || pinned(l, i))
        return 0;
    kv_fence_release(); /* who reads a zero from here on finds OLDEST stored */
    kv_map_populate(base_of(m), size, 1);
    kv_map_zero(base_of(m), size);
    KV_PAUSE("recycle: zeroed");
    unpin(l, i);
    seg_name(i, from);
    seg_name(id, to);
    e = kv_file_rename(l->dir, from, to);
    if (e != KV_OK)
        return 0;
    KV_PAUSE("recycle: renamed");
    kv_mutex_lock(l->mutex);
    __atomic_store_n(slot_of(l, i), 0, __ATOMIC_RELEASE);
    set_slot(l, id, m);
    kv_mutex_unlock(l->mutex);
    kv_store(&l->w[KV_LOG_FREED], i + 1);
    announce(l, id);
    return 1;
}

/* Writes the header that makes spare `id` the head. `before` is the position where the predecessor
 * ends, 0 if none. */
static void write_head(kv_log *l, uint32_t id, uint64_t before, const kv_append *a)
{
    uint64_t m = mapping_of(l, id), pm;
    kv_seg_head h;

    memset(&h, 0, sizeof h);
    h.id = id;
    h.magic = KV_SEG_MAGIC;
    h.format = KV_LOG_FORMAT;
    h.salt = (uint32_t)random64(l);
    h.size = size_of(m);
    h.store_id = l->store_id;
    if (before != 0) {
        pm = mapping_of(l, kv_pos_id(before));
        h.prev = before;
        if (kv_pos_id(a->last) == kv_pos_id(before) && kv_pos_off(a->last) < kv_pos_off(before))
            memcpy(&h.prev_crc, base_of(pm) + kv_pos_off(a->last), 4);
        h.linear = head_of(pm)->linear + size_of(pm);
    }
    h.next_rev = a->next_rev;
    h.next_ns = a->next_ns;
    h.time = a->time;
    h.synced = kv_load(&l->w[KV_LOG_SYNCED]);
    h.crc = kv_crc32c(0, &h, offsetof(kv_seg_head, crc));
    kv_store_bytes(head_of(m), &h, sizeof h);
}

int kv_log_start(kv_log *l, uint32_t id, uint32_t size, uint64_t next_rev, uint64_t next_ns,
                 int64_t time)
{
    uint64_t pos = kv_pos(id, KV_SEG_HEAD);
    kv_append a;
    int e;

    kv_store(&l->w[KV_LOG_SPARES], id - 1);
    e = kv_log_prepare(l, size);
    if (e == KV_OK)
        e = kv_log_prepare(l, size);
    if (e != KV_OK)
        return e;
    memset(&a, 0, sizeof a);
    a.next_rev = next_rev;
    a.next_ns = next_ns;
    a.time = time;
    kv_store(&l->w[KV_LOG_SYNCED], 0);
    write_head(l, id, 0, &a);
    kv_store(&l->w[KV_LOG_OLDEST], id);
    kv_store(&l->w[KV_LOG_FREED], id);
    kv_store(&l->w[KV_LOG_CLEAN], pos);
    kv_store(&l->w[KV_LOG_SYNC_FROM], id);
    kv_store(&l->w[KV_LOG_CLAIM], pos);
    kv_store(&l->w[KV_LOG_LAST], 0);
    kv_store(&l->w[KV_LOG_TAIL], pos);
    return kv_log_sync(l);
}

/* ---- appending ------------------------------------------------------------------------ */

void kv_log_begin(kv_log *l, kv_append *a)
{
    a->pos = kv_load_relaxed(&l->w[KV_LOG_TAIL]);
    a->last = kv_load_relaxed(&l->w[KV_LOG_LAST]);
}

/* While all lies in one segment there is nothing to clean, and its tombstones are not larger than
 * what they delete: one reserve is enough, and a small store stays small. */
uint32_t kv_log_reserve(kv_log *l, uint32_t head)
{
    return head > kv_load_relaxed(&l->w[KV_LOG_OLDEST]) ? 2 : 1;
}

/* The word is this process's, and more than one thread may find it outdated. */
uint32_t kv_log_largest(kv_log *l)
{
    uint64_t seen = __atomic_load_n(&l->largest, __ATOMIC_RELAXED);
    uint32_t spares = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]), largest = 0, id, size;

    if (kv_likely(seen >> 32 == spares))
        return (uint32_t)seen;
    for (id = (uint32_t)kv_load(&l->w[KV_LOG_OLDEST]); id <= spares; id++) {
        size = kv_log_size_of(l, id);
        if (size > largest)
            largest = size;
    }
    __atomic_store_n(&l->largest, (uint64_t)spares << 32 | largest, __ATOMIC_RELAXED);
    return largest;
}

/* The spares of a full disk may be smaller than what the cleaner meets: it is their bytes that
 * count, since it frees a segment only when all that is current in it has found a place. */
int kv_log_holds(kv_log *l, uint32_t id, uint32_t n)
{
    uint32_t spares = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]);
    uint64_t wanted = (uint64_t)n * kv_log_largest(l), behind = 0;

    if (id > spares)
        return 0;
    while (behind < wanted && id < spares)
        behind += kv_log_size_of(l, ++id);
    return behind >= wanted;
}

int kv_log_fit(kv_log *l, kv_append *a, uint32_t size, enum kv_room who)
{
    uint32_t id = kv_pos_id(a->pos), spares = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]);
    uint64_t m = mapping_of(l, id);

    size = kv_rec_align(size);
    while (m != 0 && size_of(m) - kv_pos_off(a->pos) < size) {
        if (++id > spares || (m = mapping_of(l, id)) == 0)
            return 0;
        a->pos = kv_pos(id, KV_SEG_HEAD);
        if (size_of(m) - KV_SEG_HEAD < size)
            return 0; /* prepared when values were smaller: the caller asks for a larger one */
    }
    a->pos += size;
    if (kv_likely(l->roomy[who] == ((uint64_t)id << 32 | spares)))
        return m != 0;
    if (m == 0 ||
        !kv_log_holds(l, id,
                      who == KV_FOR_PUT                        ? kv_log_reserve(l, id)
                      : who == KV_FOR_DELETE && !KV_IS_BUG(21) ? kv_log_reserve(l, id - 1) - 1
                                                               : 0))
        return 0;
    l->roomy[who] = (uint64_t)id << 32 | spares;
    return 1;
}

/* Claims room for `size` aligned bytes at a->pos, in the next segment when they do not fit this
 * one.
 */
static char *claim(kv_log *l, kv_append *a, uint32_t size, uint32_t *seed)
{
    uint32_t id = kv_pos_id(a->pos), off = kv_pos_off(a->pos);
    uint64_t m = mapping_of(l, id), before = a->pos;

    if (kv_unlikely(size_of(m) - off < size)) {
        m = mapping_of(l, ++id);
        kv_store(&l->w[KV_LOG_CLAIM], kv_pos(id, KV_SEG_HEAD));
        if (!KV_IS_BUG(4))
            write_head(l, id, before, a);
        else
            write_head(l, id, 0, a);
        KV_PAUSE("append: next segment");
        off = KV_SEG_HEAD;
    }
    a->last = kv_pos(id, off);
    a->pos = a->last + size;
    kv_store(&l->w[KV_LOG_CLAIM], a->pos);
    *seed = kv_rec_seed(head_of(m)->salt, off);
    return base_of(m) + off;
}

uint64_t kv_log_append(kv_log *l, kv_append *a, const kv_rec *r)
{
    uint32_t seed;
    char *to = claim(l, a, kv_rec_align(r->size), &seed);

    kv_rec_encode(r, seed, to);
    return a->last;
}

void kv_log_copy(kv_log *l, kv_append *a, const uint64_t *from, int n, uint64_t *to)
{
    uint64_t m = mapping_of(l, kv_pos_id(from[0]));
    uint32_t salt = head_of(m)->salt, size, seed;
    const char *p;
    char *q;
    int i;

    for (i = 0; i < n; i++) {
        p = base_of(m) + kv_pos_off(from[i]);
        size = kv_rec_peek_len(p);
        q = claim(l, a, kv_rec_align(size), &seed);
        kv_rec_copy(p, size, seed ^ kv_rec_seed(salt, kv_pos_off(from[i])), q);
        to[i] = a->last;
    }
}

void kv_log_commit(kv_log *l, kv_append *a)
{
    KV_PAUSE("append: written");
    kv_store(&l->w[KV_LOG_TAIL], a->pos);
    KV_PAUSE("append: committed");
    kv_store(&l->w[KV_LOG_LAST], a->last);
}

/* Zeroes claimed bytes from the far end back, so that a death in here leaves a shorter claim of the
 * same kind. */
int kv_log_recover(kv_log *l)
{
    uint64_t tail = kv_load(&l->w[KV_LOG_TAIL]), claim = kv_load(&l->w[KV_LOG_CLAIM]), m;
    uint32_t id, off, end;
    int why = KV_OK;

    for (id = kv_pos_id(claim); id >= kv_pos_id(tail) && id != 0; id--) {
        m = mapping_why(l, id, &why);
        if (m == 0)
            return unmapped(l, id, why);
        off = id == kv_pos_id(tail) ? kv_pos_off(tail) : 0;
        end = id == kv_pos_id(claim) ? kv_pos_off(claim) : size_of(m);
        if (off < end && end <= size_of(m) && !KV_IS_BUG(18)) {
            kv_test_store();
            memset(base_of(m) + off, 0, end - off);
            kv_test_store();
        }
    }
    kv_store(&l->w[KV_LOG_CLAIM], tail);
    return KV_OK;
}

/* Asked without a lock, too, whether there is something to clean: the segment may be recycled
 * meanwhile, and the answer be wrong once. */
static uint64_t linear(kv_log *l, uint64_t pos)
{
    uint64_t m = mapping_of(l, kv_pos_id(pos));

    return m ? kv_load_relaxed(&head_of(m)->linear) + kv_pos_off(pos) : 0;
}

uint64_t kv_log_used(kv_log *l)
{
    return linear(l, kv_load(&l->w[KV_LOG_TAIL])) - linear(l, kv_load(&l->w[KV_LOG_CLEAN]));
}

uint64_t kv_log_passed(kv_log *l)
{
    uint64_t oldest = kv_load(&l->w[KV_LOG_OLDEST]),
             clean = kv_pos_id(kv_load(&l->w[KV_LOG_CLEAN]));
    uint64_t from, to;

    if (clean <= oldest)
        return 0;
    from = linear(l, kv_pos((uint32_t)oldest, 0));
    to = linear(l, kv_pos((uint32_t)clean, 0));
    return from < to ? to - from : 0;
}

uint32_t kv_log_size_of(kv_log *l, uint32_t id)
{
    uint64_t m = mapping_of(l, id);

    return m ? size_of(m) : 0;
}

uint64_t kv_log_bytes(kv_log *l)
{
    uint32_t id = (uint32_t)kv_load(&l->w[KV_LOG_FREED]),
             spares = (uint32_t)kv_load(&l->w[KV_LOG_SPARES]);
    uint64_t n = 0;

    for (; id <= spares; id++)
        n += kv_log_size_of(l, id);
    return n;
}

/* ---- reading -------------------------------------------------------------------------- */

/* While an index is built there is no tail yet, and nothing is retired either. */
static KV_NOINLINE uint64_t reach_addr(kv_log *l, uint64_t addr, int *why)
{
    uint64_t oldest = kv_load(&l->w[KV_LOG_OLDEST]), tail = kv_load(&l->w[KV_LOG_TAIL]), m;
    uint32_t id = kv_pos_id(kv_addr_pos(addr, (uint32_t)oldest));

    *why = KV_LOG_GONE;
    if (tail != 0 && id > kv_pos_id(tail))
        return 0;
    m = reach(l, id, why);
    if (m == 0 && oldest != kv_load(&l->w[KV_LOG_OLDEST]))
        *why = KV_LOG_GONE;
    else if (m == 0)
        *why = unmapped(l, id, *why);
    return m;
}

/* 0: *why is KV_LOG_GONE, or what keeps it from being mapped. */
static uint64_t mapping_of_addr(kv_log *l, uint64_t addr, int *why)
{
    uint64_t m = kv_load(&l->table[addr >> 22 & (KV_SEG_IDS - 1)].at);

    return kv_unlikely(m == 0) ? reach_addr(l, addr, why) : m;
}

static int same_segment(uint64_t mapping, uint64_t addr)
{
    uint64_t id = kv_load(&head_of(mapping)->id);

    return id != 0 && (id & (KV_SEG_IDS - 1)) == (addr >> 22 & (KV_SEG_IDS - 1));
}

void kv_log_prefetch(kv_log *l, uint64_t addr)
{
    uint64_t m = kv_load(&l->table[addr >> 22 & (KV_SEG_IDS - 1)].at);
    char *p = base_of(m) + ((addr & 0x3fffff) << 2);

    if (m != 0) {
        kv_prefetch(p);
        kv_prefetch(p + 64);
        kv_prefetch(p + 128);
    }
}

void kv_log_prefetch_tail(kv_log *l)
{
    uint64_t pos = kv_load_relaxed(&l->w[KV_LOG_TAIL]), m = kv_load(slot_of(l, kv_pos_id(pos)));
    char *p = base_of(m) + kv_pos_off(pos);

    if (m != 0) {
        kv_prefetch_to_store(p);
        kv_prefetch_to_store(p + 64);
        kv_prefetch_to_store(p + 128);
    }
}

#define MEANWHILE 384 /* bytes; some writes */

void kv_log_prefetch_room(kv_log *l, uint32_t bytes)
{
    uint64_t pos = kv_load_relaxed(&l->w[KV_LOG_TAIL]), m = kv_load(slot_of(l, kv_pos_id(pos)));
    uint32_t off = kv_pos_off(pos) + MEANWHILE, end;

    if (m == 0)
        return;
    end = off + bytes < size_of(m) ? off + bytes : size_of(m);
    for (; off < end; off += 64)
        kv_prefetch_to_store(base_of(m) + off);
}

/* Notes what reads in place need. Another thread may have given the entry to another segment since:
 * then no checksum fits, and who finds that comes here again. */
static void seal(kv_log *l, uint64_t addr, uint64_t word)
{
    uint64_t *p = &l->table[addr >> 22 & (KV_SEG_IDS - 1)].seal;

    if (kv_unlikely(kv_load(p) != word))
        __atomic_store_n(p, word, __ATOMIC_RELEASE);
}

int kv_log_fetch(kv_log *l, uint64_t addr, kv_scratch *s, kv_rec *out)
{
    int e = KV_OK;
    uint64_t m = mapping_of_addr(l, addr, &e);
    uint32_t off = (uint32_t)(addr & 0x3fffff) << 2, n, salt;
    const char *p;

    if (m == 0)
        return e;
    KV_PAUSE("fetch: mapped");
    p = base_of(m) + off;
    salt = head_of(m)->salt;
    if (off < KV_SEG_HEAD || off + KV_REC_MIN > size_of(m))
        return same_segment(m, addr)
                   ? kv_fail(KV_ECORRUPT, "%s: an address leads out of its segment",
                             kv_dir_path(l->dir))
                   : KV_LOG_GONE;
    n = kv_rec_peek_len(p);
    if (n > size_of(m) - off)
        n = 0;
    if (n > s->cap) {
        e = kv_scratch_need(s, n);
        if (e != KV_OK)
            return e;
    }
    if (n > 0)
        memcpy(s->p, p, n);
    KV_PAUSE("fetch: copied");
    /* From here on the copy is what counts: it was this record's if the segment still is. */
    kv_fence_acquire();
    if (!same_segment(m, addr) && !KV_IS_BUG(35))
        return KV_LOG_GONE;
    if (kv_rec_decode(s->p, n, kv_rec_seed(salt, off), out) != KV_OK)
        return kv_fail(KV_ECORRUPT, "%s: damaged record in segment %u at %u", kv_dir_path(l->dir),
                       (unsigned)head_of(m)->id, (unsigned)off);
    seal(l, addr, head_of(m)->id << 32 | salt);
    return KV_OK;
}

int kv_log_peek(kv_log *l, uint64_t addr, kv_rec *out)
{
    int e = KV_OK;
    uint64_t m = mapping_of_addr(l, addr, &e);
    uint32_t off = (uint32_t)(addr & 0x3fffff) << 2;

    if (m == 0 && e < 0)
        return e;
    if (m == 0 || !same_segment(m, addr) || off < KV_SEG_HEAD || off >= size_of(m) ||
        kv_rec_decode(base_of(m) + off, size_of(m) - off, kv_rec_seed(head_of(m)->salt, off),
                      out) != KV_OK)
        return kv_fail(KV_ECORRUPT, "%s: damaged record at address %llx", kv_dir_path(l->dir),
                       (unsigned long long)addr);
    return KV_OK;
}

int kv_log_next(kv_log *l, uint64_t *pos, uint64_t end, uint64_t *at, kv_rec *out)
{
    uint32_t id = kv_pos_id(*pos), off = kv_pos_off(*pos), limit;
    uint64_t m;
    int why = KV_OK;

    for (;;) {
        if (kv_pos(id, off) >= end)
            return 0;
        m = mapping_why(l, id, &why);
        if (m == 0)
            return unmapped(l, id, why);
        limit = id == kv_pos_id(end) ? kv_pos_off(end) : size_of(m);
        if (limit > size_of(m))
            limit = size_of(m);
        if (off < limit && kv_rec_decode(base_of(m) + off, limit - off,
                                         kv_rec_seed(head_of(m)->salt, off), out) == KV_OK) {
            *at = kv_pos(id, off);
            *pos = *at + kv_rec_align(kv_rec_peek_len(base_of(m) + off));
            return 1;
        }
        /* No record here: the segment's end, if the next one says so. */
        why = KV_ENOTFOUND;
        m = id < kv_pos_id(end) ? mapping_why(l, id + 1, &why) : 0;
        if (m == 0 && why != KV_ENOTFOUND)
            return why;
        if (m == 0 || (head_of(m)->prev != kv_pos(id, off) && !KV_IS_BUG(4)))
            return kv_fail(KV_ECORRUPT, "%s: damaged record in segment %u at %u",
                           kv_dir_path(l->dir), (unsigned)id, (unsigned)off);
        id++;
        off = KV_SEG_HEAD;
    }
}
