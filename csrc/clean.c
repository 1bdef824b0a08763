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
 * at, so the log settles a little above the goal. The helper thread keeps it below, so that writers
 * clean only where there is none, or it cannot keep up.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define TIMERS_A_WRITE 7
#define STEPS_A_WRITE  2
#define LOOKS_A_WRITE  64
#define STEPS_A_LOCK   32

/* Segments that are there and hold nothing anybody needs: spares, what was retired last, and what
 * waits for a sync. */
#define OTHERS 9

/* All files together are to stay within 2.2 times the data where that is possible; cleaning a log
 * that is fuller than 80 % costs more than it gives, and a small store is not worth the work: up to
 * SLACK, it may be but half full. */
#define SLACK (4u << 20)

uint64_t kv_log_goal(kv_db *s)
{
    uint64_t live = kv_load_relaxed(kv_st(s, KV_ST_LIVE)),
             data = kv_load_relaxed(kv_st(s, KV_ST_DATA));
    uint64_t slack = live * 4 / 5 < SLACK ? live * 4 / 5 : SLACK;
    uint64_t other = kv_region_bytes(&s->region) + OTHERS * (uint64_t)kv_segment_size(s),
             goal = data * 2 + data / 9;

    goal = goal > other ? goal - other : 0;
    if (goal < live + live / 4)
        goal = live + live / 4;
    if (goal > live + live * 4 / 5)
        goal = live + live * 4 / 5;
    if (slack < 4 * KV_SEG_MIN)
        slack = 4 * KV_SEG_MIN;
    return goal < live + slack ? live + slack : goal;
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
    f.near = 0;
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

/* Records that are to be taken out of the index, by the wheel or by the cleaner: what that needs is
 * fetched for all of them before the first goes, and neighbours in the key order go together. */
typedef struct leaving {
    int n;
    uint64_t time;                    /* kv_order_time */
    uint64_t last;                    /* the leaf that held the last one, as it is now */
    kv_found found[KV_CLEAN_AT_ONCE]; /* of different keys; not `there`: none */
    kv_probe key[KV_CLEAN_AT_ONCE];
} leaving;

/* Journal words with which a transaction takes no further one. */
#define LEAVING_JOURNAL (KV_JOURNAL_MAX / 2)

static void fetch_leaves(kv_db *s, leaving *l)
{
    uint64_t guess = 0;
    int i;

    l->time = kv_order_time(&s->region);
    l->last = 0;
    for (i = 0; i < l->n; i++)
        if (l->found[i].there) {
            kv_index_near(s, &l->found[i], &l->key[i], guess);
            guess = l->found[i].near;
        }
}

/* From i on as many as are neighbours: how many, or negative. Where their leaf was written anew
 * meanwhile, the last ones may know it. In a transaction, the first since fetch_leaves. */
static int forget_neighbours(kv_db *s, leaving *l, int i)
{
    uint64_t tail = kv_load_relaxed(&s->log.w[KV_LOG_TAIL]), near = l->found[i].near;
    kv_found *f = &l->found[i];
    int j, n = 1;

    while (i + n < l->n && f[n].there && f[n].near == near)
        n++;
    if (!kv_order_still(&s->region, near, l->time))
        f->near = l->last;
    n = kv_index_forget_run(s, f, &l->key[i], n);
    for (j = 0; j < n; j++)
        kv_blob_dead(s, &f[j].rec, tail);
    l->last = f->near;
    return n;
}

static int leaving_full(kv_db *s)
{
    return kv_index_short_to_clean(s) || s->region.head->journal.count > LEAVING_JOURNAL;
}

/* Timers are handled a few at a time, in one transaction: what each leads to, bucket, record and
 * leaf, is fetched for all of them before the first is looked at. Meanwhile the records of as many
 * behind them are on their way, and the buckets of as many behind those. */
#define TIMERS 14
KV_STATIC_ASSERT(TIMERS <= KV_CLEAN_AT_ONCE, at_once);

typedef struct due {
    int ahead;      /* timers: those that are handled now, and the ones behind them */
    uint64_t addrs; /* which addresses, modulo 64, the found ones have */
    kv_timer timer[3 * TIMERS];
    leaving l; /* the records that are due by the first of them */
} due;

/* What the last call has fetched is on its way. */
static void fetch(kv_db *s, const due *d)
{
    int i, records = 2 * d->l.n < d->ahead ? 2 * d->l.n : d->ahead;
    uint64_t slot;

    for (i = s->fetched_buckets; i < d->ahead; i++)
        kv_hash_prefetch(&s->region, d->timer[i].hash);
    for (i = s->fetched_records; i < records; i++) {
        slot = kv_hash_glance(&s->region, d->timer[i].hash);
        if (slot)
            kv_log_prefetch(&s->log, slot & KV_ADDR_MASK);
        else
            kv_hash_prefetch_chain(&s->region, d->timer[i].hash);
    }
    s->fetched_buckets = d->ahead;
    s->fetched_records = records;
}

/* The record that is due by a timer, unless one before it has the same. */
static void find_due(kv_db *s, due *d, int i, int64_t now)
{
    kv_found *f = &d->l.found[i];
    int j;

    f->hash = d->timer[i].hash;
    f->there = 0;
    kv_hash_start(&s->region, f->hash, &f->scan);
    while (!f->there && kv_hash_next(&s->region, &f->scan) == KV_HASH_CANDIDATE) {
        f->addr = f->scan.slot & KV_ADDR_MASK;
        if (kv_log_peek(&s->log, f->addr, &f->rec) != KV_OK)
            return; /* fired() says what is wrong */
        f->there = f->rec.kind == KV_REC_PUT && f->rec.expires != 0 && f->rec.expires <= now;
    }
    if (f->there && d->addrs >> (f->addr & 63) & 1)
        for (j = 0; f->there && j < i; j++)
            f->there = !d->l.found[j].there || d->l.found[j].addr != f->addr;
    if (f->there)
        d->addrs |= (uint64_t)1 << (f->addr & 63);
}

static void foresee(kv_db *s, int64_t now, int most, due *d)
{
    int i;

    if (most > TIMERS)
        most = TIMERS;
    d->ahead = kv_wheel_peek(&s->region, now, d->timer, 3 * most);
    d->l.n = d->ahead < most ? d->ahead : most;
    d->addrs = 0;
    fetch(s, d);
    for (i = 0; i < d->l.n; i++)
        find_due(s, d, i, now);
    fetch_leaves(s, &d->l);
}

/* Handles timers that were foreseen, and takes them off the wheel. FIRED, or negative. */
static int fire_foreseen(kv_db *s, due *d, int64_t now, int *gone)
{
    int i = 0, n, one;

    do {
        const kv_found *f = &d->l.found[i];

        if (f->there && f->scan.bucket[f->scan.index] == f->scan.slot) {
            n = forget_neighbours(s, &d->l, i);
            one = n;
        } else {
            n = fired(s, d->timer[i].hash, d->timer[i].deadline, now, &one);
            n = n == KV_OK ? 1 : n;
            d->l.last = 0;
        }
        if (n < 0)
            return n;
        *gone += one;
        i += n;
    } while (i < d->l.n && !leaving_full(s));
    s->fetched_buckets -= i;
    s->fetched_records -= i;
    return kv_wheel_take(&s->region, now, i);
}

/* Up to `most` timers in one transaction. *more: the wheel has more to do. KV_OK, KV_ECORRUPT, or
 * what kept it from looking at a record; then nothing has happened. */
static int expire_some(kv_db *s, int64_t now, int most, uint64_t *expired, int *more)
{
    int step, gone = 0;
    int64_t deadline;
    uint32_t hash;
    due d;

    foresee(s, now, most, &d);
    kv_txn_begin(&s->region);
    if (d.l.n > 0) {
        step = fire_foreseen(s, &d, now, &gone);
    } else {
        step = kv_wheel_step(&s->region, now, &hash, &deadline);
        if (step == KV_WHEEL_FIRED) {
            int e = fired(s, hash, deadline, now, &gone);

            step = e == KV_OK ? step : e;
        }
    }
    *more = step != KV_WHEEL_IDLE;
    KV_PAUSE("expire: forgotten");
    if (step < 0) {
        (void)kv_txn_undo(&s->region, NULL);
        return step;
    }
    kv_txn_end(&s->region);
    *expired += (uint64_t)gone;
    return KV_OK;
}

/* 1: did something, 0: nothing is due, negative: damage, or no memory or descriptor to look at a
 * record. What is in the way of several is left to the step that gets to it alone. */
static int expire_step(kv_db *s, int64_t now, uint64_t most, uint64_t *expired)
{
    int more, e = expire_some(s, now, most < TIMERS ? (int)most : TIMERS, expired, &more);

    if (e != KV_OK)
        e = expire_some(s, now, 1, expired, &more);
    if (e == KV_ECORRUPT)
        kv_store(kv_st(s, KV_ST_CORRUPT), 1);
    return e != KV_OK ? e : more;
}

/* A timer stays behind when its key is deleted, or put again without an expiry or with another.
 * Such ones fire in time; but where they are put in faster than that, they are looked for as soon
 * as they must be the greater part of more timers than this. */
#define TIMERS_KEPT 1024

static inline int timers_crowded(kv_db *s)
{
    uint64_t n = kv_load_relaxed(&s->region.head->wheel[KV_WHEEL_COUNT]);
    uint64_t keys = kv_load_relaxed(kv_st(s, KV_ST_KEYS));

    if (kv_likely(n <= 2 * keys + TIMERS_KEPT))
        return 0;
    if (n < s->timers_kept)
        s->timers_kept = n;
    return n > 2 * s->timers_kept + TIMERS_KEPT;
}

/* A key's timer is armed for what its record says (kv_index_arm), or was when that was in the
 * wheel's past; where the clock went back, perhaps for the time the wheel had then. */
static int timer_wanted(void *arg, uint32_t hash, int64_t deadline)
{
    kv_db *s = arg;
    int64_t wheel = (int64_t)s->region.head->wheel[KV_WHEEL_NOW];
    int back = kv_load_relaxed(kv_st(s, KV_ST_BACK)) != 0;
    kv_hash_scan scan;
    kv_rec r;
    int e, step;

    kv_hash_start(&s->region, hash, &scan);
    while ((step = kv_hash_next(&s->region, &scan)) == KV_HASH_CANDIDATE) {
        e = kv_log_peek(&s->log, scan.slot & KV_ADDR_MASK, &r);
        if (e != KV_OK)
            return e;
        if (r.kind == KV_REC_PUT && r.expires != 0 &&
            (r.expires <= wheel || (back && deadline >= r.expires) ||
             (uint64_t)deadline - (uint64_t)r.armed <= KV_WHEEL_LATE ||
             (uint64_t)deadline - (uint64_t)r.expires <= KV_WHEEL_LATE))
            return 1;
    }
    return step == KV_HASH_END ? 0 : KV_ECORRUPT;
}

static void sweep_timers(kv_db *s)
{
    const uint64_t *n = &s->region.head->wheel[KV_WHEEL_COUNT];
    uint64_t before = *n;
    int e;

    kv_txn_begin(&s->region);
    e = kv_wheel_sweep(&s->region, timer_wanted, s);
    if (e < 0) {
        (void)kv_txn_undo(&s->region, NULL);
        if (e == KV_ECORRUPT)
            kv_store(kv_st(s, KV_ST_CORRUPT), 1);
        return;
    }
    kv_txn_end(&s->region);
    s->timers_swept += before - *n;
    if (e == 1) { /* a round is complete: when it was not worth it, the next one is not soon */
        s->timers_kept = s->timers_swept < *n / 4 ? *n : 0;
        s->timers_swept = 0;
    }
}

int kv_expire_until(kv_db *s, int64_t until)
{
    uint64_t expired = 0;
    int e;

    do {
        e = kv_index_room(s, KV_MAX_KEY, 0);
        if (e == KV_OK)
            e = expire_step(s, until, 1, &expired);
    } while (e == 1);
    return e;
}

/* ---- cleaning ------------------------------------------------------------------------- */

/* Records are judged a group at a time: their buckets are fetched together, and what is current
 * goes to the head with one publication of the tail and one transaction. The helper reads and
 * judges before it takes the lock, and with it looks again at what was current: that it is not is
 * final as long as nothing is undone (kv_head, undone), since what comes into the index, but by an
 * undo, lies behind what is applied. */
#define GROUP 32

typedef struct group {
    int n, whose; /* KV_FOR_*: which reserves it may take */
    uint64_t at[GROUP], next[GROUP], hash[GROUP];
    kv_rec rec[GROUP];
    uint64_t undone;          /* as judged */
    int currents, of[GROUP];  /* records that are current */
    kv_hash_scan scan[GROUP]; /* where their slots are */
    uint64_t from[GROUP], to[GROUP];
    int gone_of[KV_CLEAN_AT_ONCE]; /* in the index, but expired or dropped */
    leaving gone;
} group;

/* Reads up to GROUP records before `end`. 1: did; 0: there is none; negative: damage. */
static int read_group(kv_db *s, group *g, uint64_t pos, uint64_t end)
{
    int i, e = 1;

    for (g->n = 0; g->n < GROUP; g->n++) {
        kv_rec *r = &g->rec[g->n];

        e = kv_log_next(&s->log, &pos, end, &g->at[g->n], r);
        if (e != 1)
            break;
        g->next[g->n] = pos;
        g->hash[g->n] = kv_index_hash(s, kv_rec_index_ns(r), r->key, r->key_len);
        kv_hash_prefetch(&s->region, g->hash[g->n]);
    }
    for (i = 0; i < g->n; i++)
        kv_hash_prefetch_chain(&s->region, g->hash[i]);
    return g->n > 0 ? 1 : e;
}

/* Finds what is current: a slot that holds just this address says so, nothing else need be read.
 * Without the lock what is not certain counts as current. */
static void judge(kv_db *s, group *g)
{
    int i;

    g->undone = kv_load(&s->region.head->undone);
    g->currents = 0;
    for (i = 0; i < g->n; i++)
        if ((g->rec[i].kind == KV_REC_PUT || g->rec[i].kind == KV_REC_NAME) &&
            kv_hash_locate(&s->region, g->hash[i], kv_pos_addr(g->at[i]), &g->scan[g->currents]) !=
                KV_HASH_END)
            g->of[g->currents++] = i;
}

/* With the lock: leaves of what was current what still is and moves, sorts out what goes, and cuts
 * the group short where the log has no room. */
static int confirm(kv_db *s, group *g, int64_t now, kv_append *a)
{
    int c, i, step, moves = 0;

    if (g->undone != kv_load(&s->region.head->undone) && !KV_IS_BUG(62))
        judge(s, g);
    g->gone.n = 0;
    for (c = 0; c < g->currents; c++) {
        kv_hash_scan *scan = &g->scan[moves];
        const kv_rec *r = &g->rec[i = g->of[c]];

        if (moves < c)
            *scan = g->scan[c];
        if (!kv_hash_is_at(scan, g->hash[i], kv_pos_addr(g->at[i]))) {
            step = kv_hash_locate(&s->region, g->hash[i], kv_pos_addr(g->at[i]), scan);
            if (step == KV_HASH_END)
                continue;
            if (step != KV_HASH_CANDIDATE)
                return kv_fail(KV_ECORRUPT, "%s: the lookup table is damaged", kv_dir_path(s->dir));
        }
        if ((r->expires != 0 && r->expires <= now) || kv_ns_state(s, r->ns) == KV_NAME_DROPPED) {
            kv_found *f = &g->gone.found[g->gone.n];

            if (g->gone.n == KV_CLEAN_AT_ONCE) {
                g->n = i;
                break;
            }
            f->there = 1;
            f->hash = g->hash[i];
            f->addr = kv_pos_addr(g->at[i]);
            f->near = 0;
            f->scan = *scan;
            f->rec = *r;
            g->gone_of[g->gone.n++] = i;
            continue;
        }
        if (!kv_log_fit(&s->log, a, r->size, g->whose)) {
            g->n = i;
            break;
        }
        g->from[moves++] = g->at[i];
    }
    g->currents = moves;
    return KV_OK;
}

/* Copies what is current to the head. */
static void move(kv_db *s, group *g)
{
    kv_append a;

    kv_log_begin(&s->log, &a);
    a.next_rev = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    a.next_ns = kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    a.time = (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK));
    kv_log_copy(&s->log, &a, g->from, g->currents, g->to);
    kv_log_commit(&s->log, &a);
    KV_PAUSE("clean: copied");
    kv_index_move(s, g->scan, g->to, g->currents, a.pos);
}

/* As many from the first on as one transaction takes: how many, or negative. */
static int forget(kv_db *s, leaving *l)
{
    int i, n;

    fetch_leaves(s, l);
    kv_txn_begin(&s->region);
    for (i = 0; i < l->n && !leaving_full(s); i += n) {
        n = forget_neighbours(s, l, i);
        if (n < 0) {
            (void)kv_txn_undo(&s->region, NULL);
            kv_store(kv_st(s, KV_ST_CORRUPT), 1);
            return n;
        }
    }
    kv_txn_end(&s->region);
    return i;
}

/* Cleans what was read at CLEAN and judged. *looked += its bytes. 1: did, 0: no room, negative:
 * damage. */
static int clean_group(kv_db *s, group *g, int64_t now, uint64_t *looked)
{
    kv_append a;
    int e;

    kv_log_begin(&s->log, &a);
    e = confirm(s, g, now, &a);
    KV_PAUSE("clean: judged");
    if (e != KV_OK)
        return e;
    if (g->currents > 0)
        move(s, g);
    if (g->gone.n > 0) {
        e = forget(s, &g->gone);
        if (e < 0)
            return e;
        if (e < g->gone.n)
            g->n = g->gone_of[e];
    }
    if (g->n == 0)
        return 0;
    KV_PAUSE("clean: to be passed");
    *looked += g->next[g->n - 1] - g->at[0];
    kv_store(&s->log.w[KV_LOG_CLEAN], g->next[g->n - 1]);
    kv_store(kv_st(s, KV_ST_CLEANED), kv_load_relaxed(kv_st(s, KV_ST_CLEANED)) + (uint64_t)g->n);
    return 1;
}

/* Looks at up to GROUP records. 1: did, 0: nothing to clean or no room, negative: damage. */
static int clean_step(kv_db *s, int64_t now, uint64_t *looked)
{
    uint64_t pos = kv_load_relaxed(&s->log.w[KV_LOG_CLEAN]);
    uint64_t tail = kv_load_relaxed(&s->log.w[KV_LOG_TAIL]), end;
    group g;
    int e;

    if (kv_pos_id(pos) >= kv_pos_id(tail))
        return 0;
    end = kv_pos(kv_pos_id(pos) + 1, KV_SEG_HEAD);
    g.whose = KV_FOR_CLEANER;
    e = read_group(s, &g, pos, end);
    if (e < 0)
        return e;
    if (e > 0) {
        judge(s, &g);
        return clean_group(s, &g, now, looked);
    }
    kv_store(&s->log.w[KV_LOG_JUDGED], tail);
    KV_PAUSE("clean: segment judged");
    kv_store(&s->log.w[KV_LOG_CLEAN], end);
    return 1;
}

/* ---- ahead of the writers --------------------------------------------------------------- */

/* The helper thread keeps the log a sixty-fourth below the goal, and cleans as much more when it
 * is at it: then writers need not. */
#define AHEAD 64

int kv_clean_due(kv_db *s)
{
    uint64_t goal = kv_log_goal(s);

    return kv_log_used(&s->log) > goal - goal / AHEAD;
}

/* The log's first segments, made when the store was small, lie in small pages for as long as their
 * records live; in a store of a million keys half of all reads would go there. */
int kv_clean_small(kv_db *s)
{
    uint32_t id = kv_pos_id(kv_load(&s->log.w[KV_LOG_CLEAN]));

    return __atomic_load_n(&s->log.huge, __ATOMIC_RELAXED) && kv_segment_size(s) >= KV_SEG_LARGE &&
           id < kv_pos_id(kv_load(&s->log.w[KV_LOG_TAIL])) &&
           kv_log_size_of(&s->log, id) < KV_SEG_LARGE;
}

static uint32_t bytes_of(const group *g)
{
    uint32_t bytes = 0;
    int c;

    for (c = 0; c < g->currents; c++)
        bytes += kv_rec_align(g->rec[g->of[c]].size);
    return bytes;
}

/* Records are read and judged without the lock. That the cleaner's position has not moved
 * meanwhile, seen with the lock held, says that nothing of it was retired: what was read is what is
 * there. All of its segment is applied when what is applied ends in a later one: a group of the
 * cleaner's that spans segments began in one that lies behind the cleaner's position. */
static int ahead(kv_db *s, int small, int *more)
{
    uint64_t pos = kv_load(&s->log.w[KV_LOG_CLEAN]), looked = 0;
    uint64_t applied = kv_load(kv_st(s, KV_ST_APPLIED));
    uint64_t goal = kv_log_goal(s);
    int read, e = KV_OK;
    group g;

    *more = 0;
    if (kv_load_relaxed(&s->log.w[KV_LOG_BROKEN]) || kv_pos_id(pos) >= kv_pos_id(applied) ||
        (small ? !kv_clean_small(s) : kv_log_used(&s->log) <= goal - 2 * (goal / AHEAD)))
        return 0;
    /* The reserves are for those who must: on a full disk a delete would miss them. */
    g.whose = KV_FOR_PUT;
    read = read_group(s, &g, pos, kv_pos(kv_pos_id(pos) + 1, KV_SEG_HEAD));
    KV_PAUSE("helper: group read");
    if (read > 0) {
        judge(s, &g);
        kv_log_prefetch_room(&s->log, bytes_of(&g));
    }
    KV_PAUSE("helper: group judged");
    if (!kv_lock_index(s, 100))
        return 0;
    *more = 1;
    if (kv_load_relaxed(&s->log.w[KV_LOG_CLEAN]) != pos)
        e = 1; /* somebody else was here */
    else if (read > 0)
        e = clean_group(s, &g, (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK)), &looked);
    else
        e = clean_step(s, (int64_t)kv_load_relaxed(kv_st(s, KV_ST_CLOCK)), &looked);
    kv_unlock_index(s);
    return e == 1;
}

int kv_clean_ahead(kv_db *s, int groups, int small)
{
    int more = 0;

    while (groups-- > 0)
        if (!ahead(s, small, &more))
            return 0;
    return more;
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

    for (i = 0; i < STEPS_A_WRITE && expired == 0 && kv_wheel_due(&s->region, now); i++)
        if (kv_index_short_to_clean(s) || expire_step(s, now, TIMERS_A_WRITE, &expired) != 1)
            break;
    if (expired)
        kv_store(kv_st(s, KV_ST_EXPIRED), kv_load_relaxed(kv_st(s, KV_ST_EXPIRED)) + expired);
    if (kv_unlikely(timers_crowded(s)))
        sweep_timers(s);
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
        e = !*need && kv_wheel_due(&s->region, now) ? expire_step(s, now, max - expired, &expired)
                                                    : 0;
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
            more = need != KV_NEED_QUEUE || !kv_blobs_short(h->s, KV_CLEAN_AT_ONCE);
        }
        if (e != KV_OK)
            return e;
        need = 0;
    }
    return KV_OK;
}

/* ---- large values of a dropped namespace ------------------------------------------------ */

static int any_blob(void *arg, const char *name)
{
    uint64_t id;

    (void)arg;
    return kv_blob_parse_name(name, &id);
}

/* The large values among the keys of one leaf that begin with `at`'s namespace, from `at` on, which
 * moves behind what was done. 1: there is more; *need: not for want of that. */
static int drop_in_leaf(kv_db *s, kv_leaf *leaf, unsigned char *at, size_t *len, uint32_t *need)
{
    uint32_t ns = kv_order_ns(at);
    leaving l;
    kv_found *f = &l.found[0];
    int i, e = kv_order_read(&s->region, at, *len, 0, leaf);

    for (i = e == KV_OK ? kv_leaf_find(leaf, at, *len) : 0; e == KV_OK && i < leaf->count; i++) {
        *len = kv_leaf_key(leaf, i, at);
        if (*len <= 4 || kv_order_ns(at) != ns)
            return 0;
        *need = kv_index_short_to_clean(s);
        if (*need)
            return 1;
        f->hash = kv_index_hash(s, ns, (char *)at + 4, (uint32_t)*len - 4);
        e = kv_index_find(s, ns, (char *)at + 4, (uint32_t)*len - 4, 0, f);
        l.n = 1;
        if (e == KV_OK && f->there && f->rec.blob && (e = forget(s, &l)) > 0)
            e = KV_OK;
    }
    if (e != KV_OK || !leaf->has_upper)
        return e;
    memcpy(at, leaf->upper, leaf->upper_len);
    *len = leaf->upper_len;
    return *len >= 4 && kv_order_ns(at) == ns;
}

int kv_clean_dropped(kv *h, uint32_t ns)
{
    unsigned char at[KV_ORDER_KEY];
    size_t len = kv_order_put_ns(ns, at);
    kv_leaf *leaf;
    uint32_t need;
    int e = kv_dir_list(h->s->dir, any_blob, NULL);

    if (e != 1)
        return e;
    leaf = malloc(sizeof *leaf);
    if (leaf == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    do {
        need = 0;
        e = kv_lock_writer(h);
        if (e != KV_OK)
            break;
        e = drop_in_leaf(h->s, leaf, at, &len, &need);
        kv_unlock_writer(h);
        if (e == 1 && need) {
            e = kv_make_room(h, need, 0, 0);
            /* Somebody holds the files: they are the cleaner's. */
            e = e == KV_OK && !(need & kv_blobs_short(h->s, KV_CLEAN_AT_ONCE));
        }
    } while (e == 1);
    free(leaf);
    return e;
}
