/* SPDX-License-Identifier: MIT
 *
 * maint.c - the work that allocates, syncs or frees: room for writes, durability, retirement, and
 * the helper thread.
 *
 * All of it runs under one of two locks, so that whoever comes first does it for everyone: `maint`
 * for making room, `durable` for syncs, retirement and `meta`, which may take as long as the disk
 * does. Never under the writer lock, so that no writer waits for the disk on another's account.
 * Each piece is idempotent: its owner may die anywhere.
 */
#include "store.h"

#include <string.h>

#define SYNC_TIMEOUT 60000 /* ms; disks have been seen to take that long */
#define CROWD        16    /* syncs after which nobody else is expected any more */
#define CLEAN_GROUPS 32    /* that the helper cleans between two looks around: 0.1 ms */
#define CLEAN_ROUNDS 64    /* and how often before it sees to syncs and retirement */
#define IDLE         1000  /* ms without a write: time for what would have been in the way */
#define SPARES_AHEAD 2     /* beside the reserve, where segments go by quickly: in a store whose */
#define GROWN        8     /* live records fill so many of them */

/* KV_MOVED: another index has taken the place of this one, and the lock is not held. */
static int take(kv_db *s, kv_lock *lock, int64_t timeout)
{
    int e = kv_lock_take(lock, timeout);

    if (e == KV_LOCK_DIED) {
        kv_lock_consistent(lock);
        e = KV_OK;
    }
    if (e == KV_OK && kv_superseded(s)) {
        kv_lock_release(lock);
        return KV_MOVED;
    }
    if (e == KV_EBUSY)
        return kv_fail(KV_EBUSY, "%s: somebody has held the maintenance lock for too long",
                       kv_dir_path(s->dir));
    return e;
}

static int lock_maint(kv_db *s, int64_t timeout)
{
    return take(s, &s->locks->maint, timeout);
}

static void unlock_maint(kv_db *s)
{
    kv_lock_release(&s->locks->maint);
}

int kv_lock_durable(kv_db *s, int64_t timeout)
{
    return take(s, &s->locks->durable, timeout);
}

void kv_unlock_durable(kv_db *s)
{
    kv_lock_release(&s->locks->durable);
}

/* Where writers wait for each other's syncs, each begins the next one just before the others have
 * written again. So it waits for one of them, for less than it may gain. With the lock. */
static int sync_for_all(kv_db *s)
{
    int64_t began = kv_os_monotonic(), now = began;
    uint64_t synced = kv_load(kv_st(s, KV_ST_SYNCED_REV)), rev;
    int e;

    while ((rev = kv_load(kv_st(s, KV_ST_REV))) - synced < 2 && s->crowd > 0 &&
           now - began < s->sync_ns / 4) {
        kv_os_yield();
        now = kv_os_monotonic();
    }
    e = kv_log_sync(&s->log);
    s->sync_ns = kv_os_monotonic() - now;
    kv_store(kv_st(s, KV_ST_SYNCED_REV), rev);
    return e;
}

/* Durable up to `pos`, unless somebody has done that by the time it is our turn: that is how many
 * writers share one sync. */
int kv_sync_to(kv *h, uint64_t pos)
{
    kv_db *s;
    int e, waited = 0;

    do {
        s = h->s;
        if (kv_load(&s->log.w[KV_LOG_SYNCED]) >= pos)
            return KV_OK;
        e = kv_lock_durable(s, 0);
        if (e == KV_EBUSY) {
            waited = 1;
            e = kv_lock_durable(s, SYNC_TIMEOUT);
        }
        if (e == KV_MOVED && (e = kv_reenter(h)) == KV_OK)
            e = KV_MOVED;
    } while (e == KV_MOVED);
    if (e != KV_OK)
        return e;
    s->crowd = waited ? CROWD : s->crowd - (s->crowd > 0);
    if (kv_load(&s->log.w[KV_LOG_SYNCED]) < pos)
        e = sync_for_all(s);
    kv_unlock_durable(s);
    return e;
}

/* ---- sizes ---------------------------------------------------------------------------- */

static uint32_t head_id(kv_db *s)
{
    return kv_pos_id(kv_load_relaxed(&s->log.w[KV_LOG_TAIL]));
}

static uint32_t head_size(kv_db *s)
{
    uint32_t size = kv_log_size_of(&s->log, head_id(s));

    return size ? size : KV_SEG_MIN;
}

/* A hundredth to a fiftieth of the live log, so that spares and the reserve weigh little; never
 * smaller than the head, so that the reserve holds whatever the cleaner must move out of one
 * segment. */
uint32_t kv_segment_size(kv_db *s)
{
    uint64_t live = kv_load_relaxed(kv_st(s, KV_ST_LIVE));
    uint32_t size = head_size(s);

    while (size < KV_SEG_MAX && size <= live / 96)
        size *= 2;
    return size;
}

uint32_t kv_blob_limit(kv_db *s)
{
    uint32_t size = head_size(s) / 4;

    return size < (1u << 20) ? size : 1u << 20;
}

static uint32_t spares(kv_db *s)
{
    return (uint32_t)kv_load_relaxed(&s->log.w[KV_LOG_SPARES]) - head_id(s);
}

/* The reserves, as kv_log_fit has them, for a log whose head is the present one. */
static uint32_t reserve(kv_db *s)
{
    return kv_log_reserve(&s->log, head_id(s));
}

/* How many bytes the cleaner may have passed that the disk has not yet caught up with. */
static uint64_t passable(kv_db *s)
{
    return kv_load_relaxed(kv_st(s, KV_ST_DATA)) / 32 + 4 * (uint64_t)head_size(s);
}

static int behind(kv_db *s)
{
    return kv_log_passed(&s->log) > passable(s);
}

/* The reserves, what the next head will want from the moment this one is half full, and some in
 * hand where segments go by quickly. */
static uint32_t spares_wanted(kv_db *s)
{
    uint32_t size = head_size(s), off = kv_pos_off(kv_load_relaxed(&s->log.w[KV_LOG_TAIL]));
    uint32_t ahead =
        kv_load_relaxed(kv_st(s, KV_ST_LIVE)) >= GROWN * (uint64_t)size ? SPARES_AHEAD : 0;

    if (behind(s))
        return reserve(s); /* who needs one helps to catch up first: kv_make_room */
    return (off > size / 2 ? 3 : reserve(s)) + ahead;
}

/* ---- room ----------------------------------------------------------------------------- */

/* plenty: some more, so that it is seldom asked for. */
static uint64_t nodes_wanted(kv_db *s, int space, uint64_t writes, uint64_t bytes, int plenty)
{
    kv_region *r = &s->region;

    switch (space) {
    case KV_NODES:
        /* A larger store gets enough for kv_index_short to answer at once. */
        return kv_order_room(r, writes > 0 ? 2 : 1) +
               (!plenty                                          ? 0
                : kv_load_relaxed(&r->head->used[KV_NODES]) > 64 ? 128
                                                                 : 4) +
               (writes > 1 ? 256 + (bytes + 12 * writes) * 3 / 1024 : 0);
    case KV_OVERFLOW:
        return KV_HASH_ROOM * writes + 4;
    case KV_TIMERS:
        return 2 * KV_WHEEL_ROOM + writes + 4;
    case KV_NAMES:
        return 2 * kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS)) + 4;
    default:
        return 1;
    }
}

static int grow(kv_db *s, uint32_t need, uint64_t writes, uint64_t bytes, int plenty)
{
    int space, e = KV_OK;
    uint64_t want;

    for (space = 0; e == KV_OK && space < KV_SPACES; space++)
        if (need & 1u << space) {
            want = nodes_wanted(s, space, writes, bytes, plenty);
            if (space == KV_NAMES || kv_region_room(&s->region, space) < want)
                e = kv_region_grow(&s->region, space, want);
            if (e == KV_EFULL)
                e = kv_region_grow(&s->region, space, nodes_wanted(s, space, writes, bytes, 0));
        }
    if (e == KV_OK && kv_hash_wants_room(&s->region))
        (void)kv_region_grow(&s->region, KV_BUCKETS, 1);
    return e;
}

int kv_index_room(kv_db *s, uint32_t key_len, uint32_t ns)
{
    uint32_t need = kv_index_needs(s, 1, key_len);
    int e;

    if (ns > KV_MAX_NAMES)
        return kv_fail(KV_ECORRUPT, "%s: namespace id %u is out of bounds", kv_dir_path(s->dir),
                       (unsigned)ns);
    if (kv_unlikely(kv_load_relaxed(&s->region.head->ready[KV_NAMES]) < 2 * (uint64_t)ns + 2)) {
        e = kv_region_grow(&s->region, KV_NAMES, 2 * (uint64_t)ns + 4);
        if (e != KV_OK)
            return e;
    }
    if (kv_likely(need == 0 && !kv_hash_wants_room(&s->region)))
        return KV_OK;
    return grow(s, need, 1, key_len, 1);
}

/* Retired segments whose files are kept, to become spares as soon as some are wanted: as many as
 * are retired at once where segments go by quickly. */
static uint32_t recyclable(kv_db *s)
{
    return head_size(s) > 2 * KV_SEG_MIN ? 3 : 1;
}

/* Whether segments wait to be retired that cannot be without a sync of the head. */
static int wants_head(kv_db *s)
{
    uint64_t judged = kv_load_relaxed(&s->log.w[KV_LOG_JUDGED]);

    return kv_pos_id(kv_load_relaxed(&s->log.w[KV_LOG_CLEAN])) >
               kv_load_relaxed(&s->log.w[KV_LOG_OLDEST]) &&
           kv_load_relaxed(&s->log.w[KV_LOG_SYNCED]) < judged && kv_pos_id(judged) >= head_id(s);
}

/* Retires what the cleaner has passed, and frees it but for the files of the last `keep` segments.
 * Their last records were judged when the log ended at JUDGED; all up to there must be durable
 * first: what was copied, and what made the rest dead. With the lock of durability. */
static int retire(kv_db *s, uint32_t keep)
{
    uint32_t id = kv_pos_id(kv_load(&s->log.w[KV_LOG_CLEAN]));
    uint64_t *q = s->region.head->blobs, n;
    kv_meta m;
    int fd, e = KV_OK;

    if (id > kv_load(&s->log.w[KV_LOG_OLDEST])) {
        if (!KV_IS_BUG(3))
            e = kv_load(&s->log.w[KV_LOG_SYNCED]) < kv_load(&s->log.w[KV_LOG_JUDGED])
                    ? kv_log_sync_past(&s->log, kv_load(&s->log.w[KV_LOG_JUDGED]))
                    : KV_OK;
        if (e == KV_OK)
            e = kv_meta_read(s->dir, &m);
        m.oldest = id;
        if (e == KV_OK && KV_IS_BUG(19))
            e = kv_log_retire(&s->log, id, keep);
        if (e == KV_OK)
            e = kv_meta_write(s->dir, &m);
        if (e != KV_OK)
            return e;
        KV_PAUSE("retire: meta written");
        e = kv_log_retire(&s->log, id, keep);
    } else if (id > kv_load(&s->log.w[KV_LOG_FREED]) + keep) {
        e = kv_log_retire(&s->log, id, keep);
    }
    /* A descriptor for this alone: a lock outlives whoever dies with it while a process forked
     * before has the same descriptor open. */
    if (e != KV_OK || kv_blobs_dead(s) == 0 ||
        kv_file_open(s->dir, "lock", KV_FILE_WRITE, &fd) != KV_OK)
        return e;
    if (kv_file_lock(fd, KV_PIN_BLOBS, 1, KV_RANGE_ALONE) != KV_OK) {
        kv_file_close(fd);
        return e;
    }
    for (n = kv_load(&q[KV_BLOBS_REMOVED]);
         n != kv_load(&q[KV_BLOBS_ADDED]) &&
         q[KV_BLOBS_QUEUE + n % KV_DEAD_BLOBS * 2 + 1] <= kv_load(&s->log.w[KV_LOG_SYNCED]);
         n++) {
        e = kv_blob_unlink(s->dir, q[KV_BLOBS_QUEUE + n % KV_DEAD_BLOBS * 2]);
        if (e != KV_OK)
            break;
        KV_PAUSE("retire: file unlinked");
        kv_store(&q[KV_BLOBS_REMOVED], n + 1);
    }
    (void)kv_file_lock(fd, KV_PIN_BLOBS, 1, KV_RANGE_FREE);
    kv_file_close(fd);
    return e;
}

/* A spare that need not be made: one of the segments retired last. */
static int recycle(kv_db *s)
{
    int done = 0;

    if (kv_load(&s->log.w[KV_LOG_FREED]) < kv_load(&s->log.w[KV_LOG_OLDEST]) &&
        kv_lock_durable(s, 0) == KV_OK) {
        done = kv_log_recycle(&s->log, kv_segment_size(s));
        kv_unlock_durable(s);
    }
    return done;
}

/* One more segment; helped: touching its pages, which takes longer than all the rest, is left to
 * the helper, since it is not the next one to be written. On a full disk a smaller one will do,
 * such as cleaning gives back; half of the largest one still holds any record. */
static int prepare(kv_db *s, int helped)
{
    uint32_t size = kv_segment_size(s);
    int e = recycle(s) ? KV_OK
            : helped   ? kv_log_prepare_cold(&s->log, size)
                       : kv_log_prepare(&s->log, size);

    while (e == KV_EFULL && size > KV_SEG_MIN && size > kv_log_largest(&s->log) / 2)
        e = kv_log_prepare(&s->log, size /= 2);
    return e;
}

/* Segments for `bytes` more and `keep` more of them after these. */
static int prepare_log(kv_db *s, uint64_t bytes, uint32_t keep, int helped)
{
    uint32_t size = kv_segment_size(s), head = head_id(s), id;
    uint64_t room = 0;
    int e = KV_OK;

    /* What does not fit any more at a segment's end is lost: count each as a quarter smaller. */
    for (id = head + 1; id <= kv_load(&s->log.w[KV_LOG_SPARES]); id++)
        room += kv_log_size_of(&s->log, id) / 4 * 3;
    do {
        e = prepare(s, helped);
        room += size / 4 * 3;
    } while (e == KV_OK &&
             (room < bytes + keep * (uint64_t)size || !kv_log_holds(&s->log, head + 1, keep)));
    return e;
}

/* The reserves that are not used first, lest on a full disk the index takes the space they need.
 * Nor does it take more than it must where the log is short as well, or the disk was full just now
 * (scarce): the rest would be the next segment's. */
static int make(kv *h, uint32_t need, uint64_t writes, uint64_t bytes, int scarce)
{
    kv_db *s = h->s;
    int plenty = !scarce && !(need & (KV_NEED_LOG | KV_NEED_RESERVE));
    int helped = h->thread && kv_load_ptr((void *const *)&s->thread) != NULL;
    int e = lock_maint(s, h->timeout);

    if (e != KV_OK)
        return e;
    while (e == KV_OK && !kv_log_holds(&s->log, head_id(s), reserve(s) - (writes == 0)))
        e = prepare(s, helped);
    if (e == KV_OK)
        e = grow(s, need, writes, bytes, plenty);
    if (e == KV_OK && need & KV_NEED_LOG)
        e = prepare_log(s, bytes, 2, helped);
    else if (e == KV_OK && need & KV_NEED_RESERVE) {
        e = prepare_log(s, 0, 1, helped);
        /* The helper may have made, meanwhile, what was wanted. */
        if (e == KV_EFULL && kv_log_holds(&s->log, head_id(s) + 1, reserve(s) - 1))
            e = KV_OK;
    }
    unlock_maint(s);
    if (helped && kv_load_relaxed(&s->log.cold) != 0)
        kv_thread_wake(s->thread);
    return e;
}

/* Frees what the cleaner has passed, or waits for who is about it. */
static void free_passed(kv *h)
{
    if (kv_lock_durable(h->s, h->timeout) != KV_OK)
        return;
    /* The file of a large value goes when what superseded it is durable. */
    if (kv_blobs_dead(h->s) == 0 || kv_log_sync(&h->s->log) == KV_OK)
        (void)retire(h->s, 0);
    /* Some file systems hand out what was freed only after a commit. */
    (void)kv_dir_sync(h->s->dir);
    kv_unlock_durable(h->s);
}

/* Whether cleaning may still help on a full disk: there is a segment's worth of what nobody needs.
 * For a delete the cleaner goes through all of the log as it was (to `end`) if it must; a put gives
 * up after some segments, for it would copy all of a full store to gain one. */
static int worth_cleaning(kv_db *s, uint32_t need, int tries, uint64_t end)
{
    uint64_t used = kv_log_used(&s->log), live = kv_load(kv_st(s, KV_ST_LIVE));

    if (need & KV_NEED_LOG && tries >= 3 && used < live + live / 4)
        return 0;
    return used >= live + head_size(s) && kv_load(&s->log.w[KV_LOG_CLEAN]) < end;
}

int kv_make_room(kv *h, uint32_t need, uint64_t writes, uint64_t bytes)
{
    kv_db *s = h->s;
    uint64_t end = kv_load(&s->log.w[KV_LOG_TAIL]), done;
    int e, tries;

    if (need & KV_NEED_QUEUE)
        free_passed(h);
    if (need == KV_NEED_QUEUE)
        return KV_OK; /* as far as that goes: somebody may hold the files */
    if (need & KV_NEED_LOG && behind(s) && kv_lock_durable(s, h->timeout) == KV_OK) {
        if (behind(s))
            (void)retire(s, recyclable(s));
        kv_unlock_durable(s);
    }
    for (tries = 0;; tries++) {
        e = make(h, need, writes, bytes, tries > 0);
        if (e == KV_EFULL) {
            free_passed(h);
            e = make(h, need, writes, bytes, 1);
        }
        if (e != KV_EFULL || !worth_cleaning(h->s, need, tries, end))
            return e == KV_MOVED ? KV_OK : e; /* moved: the caller looks again */
        /* Cleans as much as there is room for, and tries again. */
        if (kv_tick_steps(h, 1u << 16, 1, &done) != KV_OK || (done == 0 && tries > 2))
            return e;
    }
}

int kv_reclaim(kv *h)
{
    uint64_t end = kv_load(&h->s->log.w[KV_LOG_TAIL]), done = 1;
    int something = kv_blobs_dead(h->s) > 0;

    for (;;) {
        free_passed(h);
        (void)make(h, 0, 1, 0, 1);
        if (done == 0 || !worth_cleaning(h->s, 0, 0, end) ||
            kv_tick_steps(h, 1u << 16, 1, &done) != KV_OK)
            return something;
        something = 1;
    }
}

/* ---- durability ----------------------------------------------------------------------- */

int kv_sync(kv *h)
{
    int e = kv_enter(h);

    if (e != KV_OK || h->readonly || h->s->readonly)
        return e;
    e = kv_sync_to(h, kv_load(&h->s->log.w[KV_LOG_TAIL]));
    if (e == KV_OK && (!h->thread || kv_blobs_dead(h->s) > 0))
        e = kv_maintain(h->s, h->timeout, 0);
    return e;
}

/* ---- the helper ----------------------------------------------------------------------- */

static uint32_t runs_low(kv_db *s)
{
    kv_region *r = &s->region;
    uint64_t *used = r->head->used;
    uint32_t need = 0;

    if (kv_region_room(r, KV_NODES) <
        2 * kv_order_room(r, 1) + kv_load_relaxed(&used[KV_NODES]) / 32)
        need |= 1u << KV_NODES;
    if (kv_region_room(r, KV_OVERFLOW) <
        KV_HASH_ROOM + 4 + kv_load_relaxed(&used[KV_OVERFLOW]) / 32)
        need |= 1u << KV_OVERFLOW;
    if (kv_region_room(r, KV_TIMERS) < 4 + kv_load_relaxed(&used[KV_TIMERS]) / 32)
        need |= 1u << KV_TIMERS;
    if (kv_hash_wants_room(r))
        need |= 1u << KV_BUCKETS;
    return need;
}

/* How many files of large values may wait for a sync before there is one for their sake. Where
 * there is none by interval they would fill the disk, or memory, for nothing. */
static uint64_t blobs_wait(kv_db *s)
{
    return kv_load(&s->wants_sync) ? KV_DEAD_BLOBS / 2 : KV_DEAD_BLOBS / 32;
}

/* patient: rather waits for the head to be full than syncs it for this alone. */
static int retires(kv_db *s, int patient)
{
    uint64_t oldest = kv_load_relaxed(&s->log.w[KV_LOG_OLDEST]);

    if (patient && wants_head(s) && !behind(s))
        return 0;
    return kv_pos_id(kv_load_relaxed(&s->log.w[KV_LOG_CLEAN])) > oldest ||
           oldest > kv_load_relaxed(&s->log.w[KV_LOG_FREED]) + recyclable(s) ||
           kv_blobs_dead(s) > blobs_wait(s);
}

static int maintain(kv_db *s, int64_t timeout, int sync, int patient)
{
    uint32_t need, i;
    int e = kv_dir_usable(s->dir);

    if (e == KV_OK)
        e = lock_maint(s, timeout);
    if (e != KV_OK)
        return e == KV_MOVED ? KV_OK : e;
    /* On a full disk the reserves come first: with them cleaning goes on, and makes room. */
    while (e == KV_OK && !kv_log_holds(&s->log, head_id(s), reserve(s)))
        e = prepare(s, 0);
    need = e == KV_OK ? runs_low(s) : 0;
    /* So does the next head, or the index might take its space. */
    if (need && spares(s) <= reserve(s))
        e = prepare(s, 0);
    if (e != KV_OK)
        need = 0;
    for (i = 0; i < KV_SPACES; i++)
        if (need & 1u << i)
            (void)kv_region_grow(&s->region, (int)i,
                                 kv_load_relaxed(&s->region.head->used[i]) / 8 + 8);
    while (e == KV_OK && spares(s) < spares_wanted(s))
        e = prepare(s, 0);
    unlock_maint(s);
    if (kv_load(&s->log.w[KV_LOG_BROKEN]) || !(sync || retires(s, patient) || kv_blobs_dead(s)))
        return KV_OK;
    e = kv_lock_durable(s, timeout);
    if (e != KV_OK)
        return e == KV_MOVED ? KV_OK : e;
    if (sync || kv_blobs_dead(s) > blobs_wait(s)) {
        e = kv_log_sync(&s->log);
        kv_store(kv_st(s, KV_ST_SYNCED_AT), (uint64_t)(kv_os_monotonic() / 1000000));
    }
    if (e == KV_OK && (retires(s, patient) || kv_blobs_dead(s)))
        e = retire(s, recyclable(s));
    kv_unlock_durable(s);
    return e;
}

int kv_maintain(kv_db *s, int64_t timeout, int sync)
{
    return maintain(s, timeout, sync, 0);
}

static int unsynced(kv_db *s)
{
    return kv_load(&s->wants_sync) &&
           kv_load(&s->log.w[KV_LOG_SYNCED]) != kv_load(&s->log.w[KV_LOG_TAIL]) &&
           !kv_load(&s->log.w[KV_LOG_BROKEN]);
}

/* ms until the next sync by interval; not above 0: it is due. */
static int64_t until_sync(kv_db *s)
{
    return (int64_t)kv_load(kv_st(s, KV_ST_SYNCED_AT)) + s->interval - kv_os_monotonic() / 1000000;
}

/* Until there is enough room or something else to do: as it retires what it has passed long before
 * that is too much, a writer that wants a segment need not wait for the disk. 1: there may be more
 * to clean, once there is a spare to clean into. */
static int clean_for_a_while(kv_db *s, int small)
{
    uint64_t from = kv_load(&s->log.w[KV_LOG_CLEAN]);
    int i;

    for (i = 0; i < CLEAN_ROUNDS; i++) {
        if (!kv_clean_ahead(s, CLEAN_GROUPS, small))
            return small && kv_load(&s->log.w[KV_LOG_CLEAN]) != from;
        if (spares(s) < spares_wanted(s) || runs_low(s) || kv_log_passed(&s->log) > passable(s) / 2)
            break;
    }
    return 1;
}

/* Looks again after an interval, whether it was woken or not: another process may have written and
 * be gone. */
static void helper(void *arg, kv_thread *t)
{
    kv_db *s = arg;
    int64_t wait = s->interval, due, now, since = 0;
    uint64_t rev, seen = 0;
    int small, lagged;

    while (kv_thread_wait(t, wait)) {
        wait = 3600000;
        if (kv_superseded(s))
            continue;
        kv_mend(s);
        kv_log_warm(&s->log);
        rev = kv_load(kv_st(s, KV_ST_REV));
        now = kv_os_monotonic() / 1000000;
        since = rev == seen ? since : now;
        seen = rev;
        lagged = behind(s);
        (void)maintain(s, 1000, unsynced(s) && until_sync(s) <= 0, now - since < IDLE);
        if (lagged && !behind(s))
            (void)maintain(s, 1000, 0, 1); /* the spares that had to wait for that */
        if (kv_load(&s->wants_sync)) {
            due = unsynced(s) ? until_sync(s) : s->interval;
            wait = due > 1 ? due : 1;
        }
        small = kv_clean_small(s);
        if ((small || wants_head(s)) && wait > IDLE)
            wait = IDLE;
        if (kv_clean_due(s) ? clean_for_a_while(s, 0)
                            : small && now - since >= IDLE && clean_for_a_while(s, 1))
            wait = 0;
    }
}

void kv_helper_start(kv_db *s)
{
    kv_thread *t;

    kv_mutex_lock(s->mutex);
    /* When it fails writers do its work themselves, as with thread=false. */
    if (s->thread == NULL && kv_thread_start(helper, s, &t) == KV_OK)
        kv_store_ptr((void **)&s->thread, t);
    kv_mutex_unlock(s->mutex);
}

/* What runs low is looked at once for each page of log, and once for each segment whether there are
 * large ones now. */
void kv_after_write(kv *h)
{
    kv_db *s = h->s;
    uint64_t page, before;

    if (!h->thread)
        return;
    if (kv_unlikely(kv_load_ptr((void *const *)&s->thread) == NULL)) {
        kv_helper_start(s);
        if (kv_load_ptr((void *const *)&s->thread) == NULL)
            return;
    }
    page = kv_load_relaxed(&s->log.w[KV_LOG_TAIL]) / KV_PAGE;
    before = kv_load_relaxed(&s->page);
    if (kv_likely(page == before))
        return;
    __atomic_store_n(&s->page, page, __ATOMIC_RELAXED);
    if (spares(s) < spares_wanted(s) || runs_low(s) || retires(s, 1) || kv_clean_due(s) ||
        (kv_pos_id((page ^ before) * KV_PAGE) && kv_clean_small(s)))
        kv_thread_wake(s->thread);
}

void kv_after_large(kv *h)
{
    kv_db *s = h->s;
    int helped = kv_load_ptr((void *const *)&s->thread) != NULL;
    int many = kv_blobs_dead(s) > blobs_wait(s);

    if (kv_blobs_short(s, KV_DEAD_BLOBS / 8) || (many && !helped))
        free_passed(h);
    else if (many)
        kv_thread_wake(s->thread);
}

void kv_helper_stop(kv_db *s)
{
    if (s->thread != NULL)
        kv_thread_stop(s->thread);
    s->thread = NULL;
}

int kv_tick(kv *h, uint64_t max, uint64_t *done)
{
    uint64_t n = 0;
    int e = kv_enter(h);

    if (e == KV_OK && (h->readonly || h->s->readonly))
        e = kv_fail(KV_EREADONLY, "%s is open for reading only", kv_dir_path(h->s->dir));
    if (e != KV_OK)
        return e;
    e = kv_tick_steps(h, max, 0, &n);
    if (e == KV_OK && !h->thread)
        e = kv_maintain(h->s, h->timeout, h->sync == KV_SYNC_INTERVAL && until_sync(h->s) <= 0);
    if (e == KV_OK && done != NULL)
        *done = n;
    return e;
}
