/* SPDX-License-Identifier: MIT
 *
 * clean.c - expiry and the cleaner: the bounded work that writes do beside themselves, and tick.
 *
 * The cleaner walks the log from its oldest record. What is current it appends again at the head;
 * everything else, tombstones included, is simply left behind: nothing older is left that a
 * tombstone would have to hide. A segment it has passed is freed by maint.c once a sync covers the
 * log's end as it was when its last record was judged, because what made its records dead must not
 * be less durable than they were.
 *
 * How much: the log may hold GOAL bytes. Above it, a write of n bytes makes the cleaner look at 2n
 * to 8n, growing with the overshoot; a segment with a live share u yields 1 - u of what is looked
 * at, so the log settles a little above the goal.
 */
#include "store.h"

#include <string.h>

#define TIMERS_A_WRITE 4
#define LOOKS_A_WRITE  64
#define STEPS_A_LOCK   32

/* All files together are to stay within 2.2 times the data where that is possible; cleaning a log
 * that is fuller than 80 % costs more than it gives, and a small store is not worth the work. */
uint64_t kv_log_goal(kv_db *s)
{
    uint64_t live = kv_load_relaxed(kv_st(s, KV_ST_LIVE)),
             data = kv_load_relaxed(kv_st(s, KV_ST_DATA));
    uint64_t seg = kv_segment_size(s), other = kv_region_bytes(&s->region) + 5 * seg,
             goal = data * 2;

    goal = goal > other ? goal - other : 0;
    if (goal < live + live / 4)
        goal = live + live / 4;
    if (goal > live + live * 4 / 5)
        goal = live + live * 4 / 5;
    return goal < live + 4 * KV_SEG_MIN ? live + 4 * KV_SEG_MIN : goal;
}

void kv_blob_dead(kv_db *s, const kv_rec *r, uint64_t after)
{
    uint64_t id, n, *w;

    if (!r->blob || r->value_len != 16)
        return;
    memcpy(&id, r->value, 8);
    if (kv_blobs_dead(s) >= KV_DEAD_BLOBS) {
        /* The file stays until somebody opens the store alone, who sweeps as after a death. */
        kv_store(kv_st(s, KV_ST_LOST), 1);
        return;
    }
    w = s->region.head->blobs;
    n = w[KV_BLOBS_ADDED];
    kv_store(&w[KV_BLOBS_QUEUE + n % KV_DEAD_BLOBS * 2], id);
    kv_store(&w[KV_BLOBS_QUEUE + n % KV_DEAD_BLOBS * 2 + 1], after);
    kv_store(&w[KV_BLOBS_ADDED], n + 1);
}

/* ---- expiry --------------------------------------------------------------------------- */

/* A timer fired for this hash: takes out one record that is due, or arms again one that is not. In
 * a transaction. */
static int fired(kv_db *s, uint32_t hash, int64_t deadline, int64_t now, int *expired)
{
    kv_found f;
    int e, step;

    *expired = 0;
    f.hash = hash;
    kv_hash_start(&s->region, hash, &f.scan);
    while ((step = kv_hash_next(&s->region, &f.scan)) == KV_HASH_CANDIDATE) {
        f.addr = f.scan.slot & KV_ADDR_MASK;
        e = kv_log_peek(&s->log, f.addr, &f.rec);
        if (e != KV_OK)
            return e;
        if (f.rec.kind != KV_REC_PUT || f.rec.expires == 0)
            continue;
        if (f.rec.expires <= now) {
            kv_blob_dead(s, &f.rec, kv_load_relaxed(&s->log.w[KV_LOG_TAIL]));
            *expired = 1;
            return kv_index_forget(s, &f);
        }
        /* A timer after this one has fired already or will, and does it then. Never at `armed`: the
         * wheel's time may still be before it, and would fire it again and again. Another key may
         * share the hash; arming for it as well only costs a timer. */
        if (f.rec.armed <= deadline) {
            e = kv_wheel_add(&s->region, hash, f.rec.expires);
            if (e != KV_OK)
                return e;
        }
    }
    return step == KV_HASH_END ? KV_OK : KV_ECORRUPT;
}

/* One step of the wheel in one transaction. 1: did something, 0: nothing is due, negative: damage.
 */
static int expire_step(kv_db *s, int64_t now, uint64_t *expired)
{
    int64_t deadline;
    uint32_t hash;
    int step, e = KV_OK, one = 0;

    kv_txn_begin(&s->region);
    step = kv_wheel_step(&s->region, now, &hash, &deadline);
    if (step == KV_WHEEL_FIRED)
        e = fired(s, hash, deadline, now, &one);
    if (step < 0 || e != KV_OK) {
        (void)kv_txn_undo(&s->region, NULL);
        if (e != KV_OK && e != KV_ECORRUPT)
            return e; /* no memory or descriptor to look at the record: another time */
        kv_store(kv_st(s, KV_ST_CORRUPT), 1);
        return KV_ECORRUPT;
    }
    kv_txn_end(&s->region);
    *expired += (uint64_t)one;
    return step != KV_WHEEL_IDLE;
}

/* ---- cleaning ------------------------------------------------------------------------- */

/* Copies the current record f to the head. 0: no room for it. */
static int move(kv_db *s, kv_found *f)
{
    kv_append a;
    kv_rec r = f->rec;
    uint64_t pos;

    r.more = 0; /* a batch is whole by now; alone, the record must not wait for another */
    kv_log_begin(&s->log, &a);
    a.next_rev = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    a.next_ns = kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    a.time = (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK));
    if (!kv_log_fit(&s->log, &a, r.size, KV_FOR_CLEANER))
        return 0;
    kv_log_begin(&s->log, &a);
    pos = kv_log_append(&s->log, &a, &r);
    kv_log_commit(&s->log, &a);
    kv_index_move(s, f, pos, a.pos);
    return 1;
}

/* Judges the record at `at`. 1: judged, 0: no room, negative: damage. A slot that holds just this
 * address makes it current: nothing else need be read. */
static int judge(kv_db *s, const kv_rec *r, uint64_t hash, uint64_t at, int64_t now)
{
    kv_found f;
    int e;

    if (r->kind != KV_REC_PUT && r->kind != KV_REC_NAME)
        return 1;
    e = kv_index_locate(s, hash, kv_pos_addr(at), &f);
    if (e != KV_OK)
        return e;
    if (!f.there)
        return 1;
    f.rec = *r;
    if ((r->expires == 0 || r->expires > now) && kv_ns_state(s, r->ns) != KV_NAME_DROPPED)
        return move(s, &f);
    if (kv_index_short_to_clean(s))
        return 0;
    kv_blob_dead(s, r, kv_load_relaxed(&s->log.w[KV_LOG_TAIL]));
    kv_txn_begin(&s->region);
    e = kv_index_forget(s, &f);
    if (e != KV_OK) {
        (void)kv_txn_undo(&s->region, NULL);
        kv_store(kv_st(s, KV_ST_CORRUPT), 1);
        return e;
    }
    kv_txn_end(&s->region);
    return 1;
}

/* Records are read a few at a time, and their buckets fetched together. */
#define GROUP 8

/* Looks at up to GROUP records. *looked += their bytes. 1: did, 0: nothing to clean or no room,
 * negative: damage. */
static int clean_step(kv_db *s, int64_t now, uint64_t *looked)
{
    uint64_t pos = kv_load_relaxed(&s->log.w[KV_LOG_CLEAN]);
    uint64_t tail = kv_load_relaxed(&s->log.w[KV_LOG_TAIL]);
    uint64_t at[GROUP], next[GROUP], hash[GROUP], end;
    kv_rec r[GROUP];
    int e = 1, i, n;

    if (kv_pos_id(pos) >= kv_pos_id(tail))
        return 0;
    end = kv_pos(kv_pos_id(pos) + 1, KV_SEG_HEAD);
    for (n = 0; n < GROUP && (e = kv_log_next(&s->log, &pos, end, &at[n], &r[n])) == 1; n++) {
        next[n] = pos;
        hash[n] = kv_index_hash(s, kv_rec_index_ns(&r[n]), r[n].key, r[n].key_len);
        kv_hash_prefetch(&s->region, hash[n]);
    }
    if (e < 0)
        return e;
    for (i = 0; i < n; i++) {
        e = judge(s, &r[i], hash[i], at[i], now);
        if (e != 1)
            return e;
        *looked += next[i] - at[i];
        kv_store(&s->log.w[KV_LOG_CLEAN], next[i]);
        kv_store(kv_st(s, KV_ST_CLEANED), kv_load_relaxed(kv_st(s, KV_ST_CLEANED)) + 1);
    }
    if (n == 0) {
        kv_store(&s->log.w[KV_LOG_JUDGED], tail);
        kv_store(&s->log.w[KV_LOG_CLEAN], end);
    }
    return 1;
}

/* In portions, so that most writes do nothing here. */
#define PORTION 2048

static void clean_share(kv_db *s, uint32_t bytes, int64_t now)
{
    uint64_t used, goal, over, budget, looked = 0;
    int n;

    s->unclean += bytes;
    if (kv_likely(s->unclean < PORTION))
        return;
    bytes = s->unclean > UINT32_MAX ? UINT32_MAX : (uint32_t)s->unclean;
    s->unclean = 0;
    used = kv_log_used(&s->log);
    goal = kv_log_goal(s);
    if (used <= goal)
        return;
    over = (used - goal) * 64 / (goal | 1);
    budget = (uint64_t)bytes * (2 + (over > 6 ? 6 : over));
    for (n = 0; looked < budget && n < LOOKS_A_WRITE; n++)
        if (clean_step(s, now, &looked) != 1)
            break;
}

void kv_chores(kv_db *s, uint32_t bytes, int64_t now)
{
    uint64_t expired = 0;
    int i;

    for (i = 0; i < TIMERS_A_WRITE && kv_wheel_due(&s->region, now); i++)
        if (kv_index_short_to_clean(s) || expire_step(s, now, &expired) != 1)
            break;
    if (expired)
        kv_store(kv_st(s, KV_ST_EXPIRED), kv_load_relaxed(kv_st(s, KV_ST_EXPIRED)) + expired);
    (void)kv_hash_maintain(&s->region);
    clean_share(s, bytes, now);
}

/* ---- tick ----------------------------------------------------------------------------- */

/* A short hold of the lock. *more: there is more to do. */
static int tick_locked(kv_db *s, uint64_t max, int all, uint64_t *done, int *more, uint32_t *need)
{
    int64_t now = kv_store_now(s);
    uint64_t expired = 0, cleaned = kv_load_relaxed(kv_st(s, KV_ST_CLEANED)), looked = 0;
    int i, e = KV_OK;

    *more = 0;
    if (now > (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK)))
        kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)now);
    for (i = 0; i < STEPS_A_LOCK && expired < max; i++) {
        *need = kv_index_short_to_clean(s);
        if (*need && !all)
            break;
        e = !*need && kv_wheel_due(&s->region, now) ? expire_step(s, now, &expired) : 0;
        if (e < 0)
            return e;
        if (e == 1) {
            *more = 1;
            continue;
        }
        e = kv_hash_maintain(&s->region);
        if (e == 0 && expired + kv_load_relaxed(kv_st(s, KV_ST_CLEANED)) - cleaned < max &&
            (all || kv_log_used(&s->log) > kv_log_goal(s)))
            e = clean_step(s, now, &looked);
        if (e < 0)
            return e;
        *more = e == 1;
        if (e == 0)
            break;
    }
    if (expired)
        kv_store(kv_st(s, KV_ST_EXPIRED), kv_load_relaxed(kv_st(s, KV_ST_EXPIRED)) + expired);
    *done += expired + kv_load_relaxed(kv_st(s, KV_ST_CLEANED)) - cleaned;
    return KV_OK;
}

int kv_tick_steps(kv *h, uint64_t max, int all, uint64_t *done)
{
    uint32_t need = 0;
    int e, more = 1;

    *done = 0;
    while (more && *done < max) {
        e = kv_lock_writer(h);
        if (e != KV_OK)
            return e;
        e = tick_locked(h->s, max - *done, all, done, &more, &need);
        kv_unlock_writer(h);
        if (e == KV_OK && need && all)
            return KV_OK; /* kv_make_room asks: it could not make that either */
        if (e == KV_OK && need) {
            e = kv_make_room(h, need, 1, 0);
            more = 1;
        }
        if (e != KV_OK)
            return e;
        need = 0;
    }
    return KV_OK;
}
