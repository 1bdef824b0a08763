/* SPDX-License-Identifier: MIT
 *
 * wheel.c - a hierarchical timing wheel.
 *
 * Invariant: a timer lies in level l, slot d, where l is the highest base-64 digit in which its
 * deadline differs from NOW (0: none) and d is the deadline's digit there; and no deadline is
 * before NOW. Two consequences carry everything else. All digits above l are those of NOW, so level
 * and slot say what the 32 kept bits of a deadline leave open. And of two slots the one in the
 * lower level begins earlier, so "what is next" is one look at each level's bitmap.
 *
 * NOW may move from a to b, a < b, as long as no slot begins at or before b: a slot that begins at
 * S > b shares its upper digits with S and a, hence with all between, and its own digit stays above
 * that of b. It may also move to the beginning of the first slot; then that slot alone is at odds
 * with the invariant, OPEN names its level, and NOW stands still until it is empty. Adding never
 * puts anything into an open slot: what it would take has a finer place now.
 *
 * Chunk, 8 words: [0] = count << 32 | next chunk + 1 (free: 0 << 32 | next free + 1), [1..count] =
 * timers: hash << 32 | deadline bits. The words behind the count are journaled too when stored: a
 * chunk may have been emptied in the same transaction, and then undo brings its count back.
 *
 * Timers that nobody wants any more are found by a sweep (kv_wheel_sweep), chunk by chunk along a
 * slot's list. It remembers the last chunk it has left there; chunks come and go at the beginning
 * of a list only, so that one stays where it is until it is the first and taken: then the sweep
 * begins the list again.
 *
 * Rejected: timers that know their slot and can be removed (16 bytes more for each key, and a store
 * to a cold line at each overwrite); keeping a slot's timers in order (firing needs none within a
 * slot: whatever is due is due).
 */
#include "wheel.h"

#define LEVELS   8
#define PER      7 /* timers in a chunk */
#define END      (((uint64_t)1 << 48) - 1)
#define IDLE_MAX 1000 /* ms after which the wheel's time is moved on even if nothing is due */
#define BACK_MAX 8    /* chunks carried in one step back */

KV_STATIC_ASSERT((int)KV_WHEEL_WORDS >= (int)KV_WHEEL_SLOT + LEVELS * 64, wheel_words);

typedef struct slot {
    int level, digit;
} slot;

typedef struct chunk {
    uint64_t *w;
    kv_place at;
    uint32_t id;
} chunk;

/* ---- time ---- */

static inline int digit_of(uint64_t t, int level)
{
    return (int)(t >> 6 * level & 63);
}

static inline slot slot_of(uint64_t now, uint64_t deadline)
{
    uint64_t x = now ^ deadline;
    slot s;

    s.level = x ? (63 - __builtin_clzll(x)) / 6 : 0;
    s.digit = digit_of(deadline, s.level);
    return s;
}

static inline uint64_t slot_start(uint64_t now, slot s)
{
    int up = 6 * (s.level + 1);

    return now >> up << up | (uint64_t)s.digit << 6 * s.level;
}

/* Low bits of a deadline that are not kept: 6 * level bits must fit 32. */
static inline int dropped_bits(int level)
{
    return level < 6 ? 0 : level == 6 ? 4 : 10;
}

static inline uint32_t encode(int level, uint64_t deadline)
{
    return (uint32_t)(deadline >> dropped_bits(level));
}

/* The latest deadline that a timer in s may mean, so that nothing fires early; still within the
 * slot. 0: the bits contradict the slot (damage). */
static inline int decode(uint64_t now, slot s, uint32_t bits, uint64_t *deadline)
{
    uint64_t start = slot_start(now, s);
    int drop = dropped_bits(s.level);
    uint64_t low = ((uint64_t)1 << 6 * s.level) - 1;

    if (drop) {
        *deadline = start | (uint64_t)bits << drop | (((uint64_t)1 << drop) - 1);
        return 1;
    }
    *deadline = start | (bits & low);
    return (uint32_t)*deadline == bits;
}

static inline uint64_t clamp(int64_t t)
{
    return t < 0 ? 0 : t > (int64_t)END ? END : (uint64_t)t;
}

/* ---- words and chunks ---- */

static int damaged(kv_region *r, const char *what)
{
    return kv_fail(KV_ECORRUPT, "%s/%s: timing wheel: %s", kv_dir_path(r->dir), r->name, what);
}

static inline void set_head(kv_region *r, int word, uint64_t value)
{
    kv_txn_set(r, kv_head_place(r), &r->head->wheel[word], value);
}

static inline int slot_word(slot s)
{
    return KV_WHEEL_SLOT + s.level * 64 + s.digit;
}

static inline uint32_t chunk_next(const chunk *c)
{
    return (uint32_t)c->w[0];
}

static inline unsigned chunk_count(const chunk *c)
{
    return (unsigned)(c->w[0] >> 32);
}

static inline int get_chunk(kv_region *r, uint64_t link, chunk *c) /* link: id + 1 */
{
    if (!link || link > r->head->used[KV_TIMERS])
        return 0;
    c->id = (uint32_t)(link - 1);
    c->w = kv_region_node(r, KV_TIMERS, c->id, KV_TIMERS_FIRST, KV_TIMERS_SIZE);
    c->at.ptr = (char *)c->w;
    c->at.addr = kv_region_addr(KV_TIMERS, c->id);
    return c->w != NULL;
}

/* A chunk linked to a slot: it is never empty. */
static inline int get_full(kv_region *r, uint64_t link, chunk *c)
{
    return get_chunk(r, link, c) && chunk_count(c) - 1 < PER;
}

static void link_chunk(kv_region *r, slot s, const chunk *c, unsigned count)
{
    uint64_t *h = r->head->wheel;
    uint64_t bits = h[KV_WHEEL_BITS + s.level] | (uint64_t)1 << s.digit;

    kv_txn_set(r, c->at, &c->w[0], (uint64_t)count << 32 | (uint32_t)h[slot_word(s)]);
    set_head(r, slot_word(s), (uint64_t)c->id + 1);
    if (bits != h[KV_WHEEL_BITS + s.level])
        set_head(r, KV_WHEEL_BITS + s.level, bits);
}

/* Takes the first chunk, c, out of s; its own words are as they were. */
static void unlink_chunk(kv_region *r, slot s, const chunk *c)
{
    uint64_t *h = r->head->wheel;

    if (kv_unlikely(h[KV_WHEEL_SWEPT] == (uint64_t)c->id + 1))
        set_head(r, KV_WHEEL_SWEPT, 0);
    set_head(r, slot_word(s), chunk_next(c));
    if (!chunk_next(c))
        set_head(r, KV_WHEEL_BITS + s.level,
                 h[KV_WHEEL_BITS + s.level] & ~((uint64_t)1 << s.digit));
}

/* True when a timer for s needs a chunk. */
static inline int needs_chunk(kv_region *r, slot s, chunk *first)
{
    uint64_t link = r->head->wheel[slot_word(s)];

    return !link || !get_chunk(r, link, first) || chunk_count(first) >= PER;
}

/* Makes a chunk the first of s, with this timer in it. Unchanged on failure. */
static KV_NOINLINE int push_chunk(kv_region *r, slot s, uint64_t timer)
{
    uint64_t *h = r->head->wheel;
    chunk c;

    if (h[KV_WHEEL_FREE]) {
        if (!get_chunk(r, h[KV_WHEEL_FREE], &c) || chunk_count(&c))
            return damaged(r, "free list");
        set_head(r, KV_WHEEL_FREE, chunk_next(&c));
    } else {
        if (!kv_region_room(r, KV_TIMERS))
            return kv_fail(KV_EFULL, "%s/%s: no room for a timer", kv_dir_path(r->dir), r->name);
        if (!get_chunk(r, (uint64_t)kv_region_take(r, KV_TIMERS) + 1, &c))
            return damaged(r, "chunks in use");
        kv_prefetch(c.w + 1 + PER); /* probably the next one that is taken */
    }
    kv_txn_set(r, c.at, &c.w[1], timer);
    link_chunk(r, s, &c, 1);
    return KV_OK;
}

/* Unchanged on failure. Inline because every put with a time to live takes it. */
static inline int push(kv_region *r, slot s, uint64_t timer)
{
    uint64_t link = r->head->wheel[slot_word(s)];
    chunk c;

    if (!link)
        return push_chunk(r, s, timer);
    if (kv_unlikely(!get_full(r, link, &c)))
        return damaged(r, "a slot's chunk");
    if (chunk_count(&c) == PER)
        return push_chunk(r, s, timer);
    kv_txn_set(r, c.at, &c.w[chunk_count(&c) + 1], timer);
    kv_txn_set(r, c.at, &c.w[0], c.w[0] + ((uint64_t)1 << 32));
    return KV_OK;
}

static void free_chunk(kv_region *r, const chunk *c)
{
    kv_txn_set(r, c->at, &c->w[0], (uint32_t)r->head->wheel[KV_WHEEL_FREE]);
    set_head(r, KV_WHEEL_FREE, (uint64_t)c->id + 1);
}

/* Takes the last n timers out of c, the first chunk of s, which holds so many. */
static void pop(kv_region *r, slot s, const chunk *c, unsigned n)
{
    chunk next;

    if (chunk_count(c) > n) {
        if (chunk_count(c) == PER && get_chunk(r, chunk_next(c), &next))
            kv_prefetch(next.w);
        kv_txn_set(r, c->at, &c->w[0], c->w[0] - ((uint64_t)n << 32));
        return;
    }
    unlink_chunk(r, s, c);
    free_chunk(r, c);
}

/* ---- arming ---- */

void kv_wheel_init(kv_region *r, int64_t now)
{
    kv_store(&r->head->wheel[KV_WHEEL_NOW], clamp(now));
    kv_store(&r->head->wheel[KV_WHEEL_NEXT], clamp(now));
}

int kv_wheel_add(kv_region *r, uint32_t hash, int64_t deadline)
{
    uint64_t *h = r->head->wheel;
    uint64_t now = h[KV_WHEEL_NOW], t = clamp(deadline), start;
    slot s;
    int rc;

    if (now > END)
        return damaged(r, "time");
    if (t < now)
        t = now;
    s = slot_of(now, t);
    rc = push(r, s, (uint64_t)hash << 32 | encode(s.level, t));
    if (rc != KV_OK)
        return rc;
    set_head(r, KV_WHEEL_COUNT, h[KV_WHEEL_COUNT] + 1);
    start = slot_start(now, s);
    if (start < h[KV_WHEEL_NEXT])
        set_head(r, KV_WHEEL_NEXT, start);
    return KV_OK;
}

/* ---- stepping ---- */

/* The first slot in time but an open one; 0: there is none. */
static int first_slot(const uint64_t *h, slot *s)
{
    uint64_t now = h[KV_WHEEL_NOW];
    int level;

    for (level = 0; level < LEVELS; level++) {
        /* Level 0 may hold timers of this very millisecond. */
        uint64_t m = h[KV_WHEEL_BITS + level] & ~(uint64_t)0 << digit_of(now, level) << (level > 0);

        if (m) {
            s->level = level;
            s->digit = __builtin_ctzll(m);
            return 1;
        }
    }
    return 0;
}

/* level 0: closes. */
static void open_slot(kv_region *r, int level)
{
    set_head(r, KV_WHEEL_OPEN, (uint64_t)level);
    if (r->head->wheel[KV_WHEEL_MOVES])
        set_head(r, KV_WHEEL_MOVES, 0);
}

/* Each step from or into an open slot handles a timer at least; only going to and fro makes it more
 * often than once. Damaged links could make it go on for ever: a chunk in two slots. */
static int moved(kv_region *r)
{
    uint64_t *h = r->head->wheel;

    set_head(r, KV_WHEEL_MOVES, h[KV_WHEEL_MOVES] + 1);
    return KV_WHEEL_MOVED;
}

static inline int endless(const uint64_t *h)
{
    return h[KV_WHEEL_MOVES] / 4 > h[KV_WHEEL_COUNT] + 16;
}

static int idle(kv_region *r, uint64_t now, uint64_t next)
{
    uint64_t *h = r->head->wheel;

    if (next > now + IDLE_MAX)
        next = now + IDLE_MAX;
    if (h[KV_WHEEL_NOW] != now)
        set_head(r, KV_WHEEL_NOW, now);
    if (h[KV_WHEEL_NEXT] != next)
        set_head(r, KV_WHEEL_NEXT, next);
    return KV_WHEEL_IDLE;
}

static int fire(kv_region *r, slot s, const chunk *c, uint64_t t, uint32_t *hash, int64_t *deadline)
{
    uint64_t *h = r->head->wheel;

    if (!h[KV_WHEEL_COUNT])
        return damaged(r, "timers are counted wrong");
    *hash = (uint32_t)(c->w[chunk_count(c)] >> 32);
    *deadline = (int64_t)t;
    pop(r, s, c, 1);
    set_head(r, KV_WHEEL_COUNT, h[KV_WHEEL_COUNT] - 1);
    return KV_WHEEL_FIRED;
}

/* A slot that has ended: all in it is due, and NOW may stay where it is. */
static int fire_from(kv_region *r, slot s, uint32_t *hash, int64_t *deadline)
{
    uint64_t *h = r->head->wheel;
    uint64_t t;
    chunk c;

    if (!get_full(r, h[slot_word(s)], &c) ||
        !decode(h[KV_WHEEL_NOW], s, (uint32_t)c.w[chunk_count(&c)], &t))
        return damaged(r, "a slot's chunk");
    return fire(r, s, &c, t, hash, deadline);
}

/* Carries the last timer of c, the first chunk of s, to where it belongs now. *spare: new chunks
 * that may be taken. 1: done; 0: would need another one. */
static int carry(kv_region *r, slot s, const chunk *c, uint64_t t, int *spare)
{
    unsigned n = chunk_count(c);
    slot to = slot_of(r->head->wheel[KV_WHEEL_NOW], t);
    uint64_t timer = c->w[n] >> 32 << 32 | encode(to.level, t);
    chunk first;
    int rc;

    if (to.level >= s.level)
        return damaged(r, "a timer in the wrong slot");
    if (needs_chunk(r, to, &first)) {
        if (n == 1) { /* the chunk moves, so the last timer needs no room */
            if (c->w[1] != timer)
                kv_txn_set(r, c->at, &c->w[1], timer);
            unlink_chunk(r, s, c);
            link_chunk(r, to, c, 1);
            return 1;
        }
        if (!*spare)
            return 0;
        --*spare;
    }
    rc = push(r, to, timer);
    if (rc != KV_OK)
        return rc;
    pop(r, s, c, 1);
    return 1;
}

/* Empties the open slot: fires one timer that is due, or carries up to a chunk's worth of others. A
 * failure is reported only when nothing was carried before it. */
static int drain(kv_region *r, uint64_t now, uint32_t *hash, int64_t *deadline)
{
    uint64_t *h = r->head->wheel;
    int n, rc, spare = KV_WHEEL_ROOM;
    uint64_t t;
    chunk c;
    slot s;

    if (endless(h))
        return damaged(r, "a slot without end");
    s.level = (int)h[KV_WHEEL_OPEN];
    s.digit = digit_of(h[KV_WHEEL_NOW], s.level);
    for (n = 0; n < PER && h[slot_word(s)]; n++) {
        if (!get_full(r, h[slot_word(s)], &c) ||
            !decode(h[KV_WHEEL_NOW], s, (uint32_t)c.w[chunk_count(&c)], &t))
            return n ? moved(r) : damaged(r, "a slot's chunk");
        if (t <= now)
            return n ? moved(r) : fire(r, s, &c, t, hash, deadline);
        rc = carry(r, s, &c, t, &spare);
        KV_PAUSE("wheel: carried");
        if (rc <= 0)
            return n ? moved(r) : rc;
    }
    if (h[slot_word(s)])
        return moved(r);
    open_slot(r, 0);
    return KV_WHEEL_MOVED;
}

/* Rewrites what is kept of the deadlines in c, of slot s, for another level. Damage: unchanged. */
static int recode(kv_region *r, slot s, const chunk *c, int level)
{
    uint64_t now = r->head->wheel[KV_WHEEL_NOW], t;
    unsigned i;

    for (i = 1; i <= chunk_count(c); i++)
        if (!decode(now, s, (uint32_t)c->w[i], &t))
            return damaged(r, "a timer in the wrong slot");
    if (dropped_bits(level) == dropped_bits(s.level))
        return KV_OK;
    for (i = 1; i <= chunk_count(c); i++) {
        (void)decode(now, s, (uint32_t)c->w[i], &t);
        kv_txn_set(r, c->at, &c->w[i], c->w[i] >> 32 << 32 | encode(level, t));
    }
    return KV_OK;
}

/* Time goes back to `now`. With L the highest digit in which the two differ, timers of level L and
 * above stay where they are; all below have NOW's digit L and belong into that slot of L. It is
 * filled as an open slot, which is sound at each step (going on forward would empty it again), and
 * then NOW makes it an ordinary one. */
static int go_back(kv_region *r, uint64_t now, uint32_t *hash, int64_t *deadline)
{
    uint64_t *h = r->head->wheel;
    uint64_t at = h[KV_WHEEL_NOW];
    int level = slot_of(now, at).level, carried = 0, rc;
    slot to, from;
    chunk c;

    if (h[KV_WHEEL_OPEN] && h[KV_WHEEL_OPEN] != (uint64_t)level)
        return drain(r, now, hash, deadline);
    if (endless(h))
        return damaged(r, "a slot without end");
    if (!h[KV_WHEEL_OPEN])
        open_slot(r, level);
    if (h[KV_WHEEL_NEXT] > at) /* in case it goes forward from here */
        set_head(r, KV_WHEEL_NEXT, at);
    to.level = level;
    to.digit = digit_of(at, level);
    for (from.level = 0; from.level < level; from.level++)
        while (h[KV_WHEEL_BITS + from.level]) {
            if (carried++ == BACK_MAX)
                return moved(r);
            from.digit = __builtin_ctzll(h[KV_WHEEL_BITS + from.level]);
            if (!get_full(r, h[slot_word(from)], &c))
                return damaged(r, "a slot's chunk");
            rc = recode(r, from, &c, level);
            if (rc != KV_OK)
                return rc;
            unlink_chunk(r, from, &c);
            link_chunk(r, to, &c, chunk_count(&c));
            KV_PAUSE("wheel: carried back");
        }
    set_head(r, KV_WHEEL_NOW, now);
    set_head(r, KV_WHEEL_NEXT, now);
    open_slot(r, 0);
    return KV_WHEEL_MOVED;
}

int kv_wheel_step(kv_region *r, int64_t time, uint32_t *hash, int64_t *deadline)
{
    uint64_t *h = r->head->wheel;
    uint64_t now = clamp(time), start;
    slot s;

    if (kv_unlikely(h[KV_WHEEL_NOW] > END || h[KV_WHEEL_OPEN] >= LEVELS))
        return damaged(r, "time");
    if (kv_unlikely(now < h[KV_WHEEL_NOW]))
        return h[KV_WHEEL_NOW] - now > KV_WHEEL_BACK ? go_back(r, now, hash, deadline)
                                                     : KV_WHEEL_IDLE;
    if (h[KV_WHEEL_OPEN])
        return drain(r, now, hash, deadline);
    if (!first_slot(h, &s))
        return idle(r, now, now + IDLE_MAX);
    start = slot_start(h[KV_WHEEL_NOW], s);
    if (start > now)
        return idle(r, now, start);
    if (start + ((uint64_t)1 << 6 * s.level) - 1 <= now)
        return fire_from(r, s, hash, deadline);
    set_head(r, KV_WHEEL_NOW, start);
    open_slot(r, s.level);
    return drain(r, now, hash, deadline);
}

/* The slot whose timers a step fires without moving any: an open one, of which those that are due
 * fire, or one that has ended. 0: there is none. */
static int firing_slot(const uint64_t *h, uint64_t now, slot *s)
{
    uint64_t at = h[KV_WHEEL_NOW];

    if (at > END || now < at || h[KV_WHEEL_OPEN] >= LEVELS)
        return 0;
    s->level = (int)h[KV_WHEEL_OPEN];
    s->digit = digit_of(at, s->level);
    return s->level > 0 ||
           (first_slot(h, s) && slot_start(at, *s) + ((uint64_t)1 << 6 * s->level) - 1 <= now);
}

int kv_wheel_peek(kv_region *r, int64_t time, kv_timer *timers, int most)
{
    const uint64_t *h = r->head->wheel;
    uint64_t now = clamp(time), at = h[KV_WHEEL_NOW], t, link;
    int n = 0;
    chunk c;
    slot s;

    if (!firing_slot(h, now, &s))
        return 0;
    for (link = h[slot_word(s)]; link && n < most; link = chunk_next(&c)) {
        unsigned i;

        if (!get_full(r, link, &c))
            return n;
        for (i = chunk_count(&c); i > 0 && n < most; i--, n++) {
            uint64_t w = c.w[i];

            if (!decode(at, s, (uint32_t)w, &t) || t > now)
                return n;
            timers[n].hash = (uint32_t)(w >> 32);
            timers[n].deadline = (int64_t)t;
        }
    }
    return n;
}

int kv_wheel_take(kv_region *r, int64_t time, int n)
{
    uint64_t *h = r->head->wheel;
    chunk c;
    slot s;

    if (!firing_slot(h, clamp(time), &s))
        return damaged(r, "time");
    if (h[KV_WHEEL_COUNT] < (uint64_t)n)
        return damaged(r, "timers are counted wrong");
    set_head(r, KV_WHEEL_COUNT, h[KV_WHEEL_COUNT] - (uint64_t)n);
    while (n > 0) {
        unsigned some;

        if (!get_full(r, h[slot_word(s)], &c))
            return damaged(r, "a slot's chunk");
        some = chunk_count(&c) < (unsigned)n ? chunk_count(&c) : (unsigned)n;
        pop(r, s, &c, some);
        n -= (int)some;
    }
    return KV_WHEEL_FIRED;
}

/* ---- sweeping ---- */

/* The next slot after `from`, round and round, that holds something. 0: there is none. *wrapped: it
 * is not behind that one. */
static int next_slot(const uint64_t *h, int from, slot *s, int *wrapped)
{
    int i;

    for (i = 1; i <= LEVELS * 64; i++) {
        int n = (from + i) % (LEVELS * 64);

        if (h[KV_WHEEL_BITS + n / 64] >> n % 64 & 1) {
            s->level = n / 64;
            s->digit = n % 64;
            *wrapped = n <= from;
            return 1;
        }
    }
    return 0;
}

/* Takes out what is not wanted of c, a chunk of s; *left: how many stay, in the first places. */
static int winnow(kv_region *r, slot s, const chunk *c, unsigned *left,
                  int (*wanted)(void *arg, uint32_t hash, int64_t deadline), void *arg)
{
    unsigned i;
    uint64_t t;
    int keep;

    *left = chunk_count(c);
    for (i = *left; i > 0; i--) {
        if (!decode(r->head->wheel[KV_WHEEL_NOW], s, (uint32_t)c->w[i], &t))
            return damaged(r, "a timer in the wrong slot");
        keep = wanted(arg, (uint32_t)(c->w[i] >> 32), (int64_t)t);
        if (keep < 0)
            return keep;
        if (keep)
            continue;
        if (i != *left)
            kv_txn_set(r, c->at, &c->w[i], c->w[*left]);
        --*left;
    }
    return KV_OK;
}

int kv_wheel_sweep(kv_region *r, int (*wanted)(void *arg, uint32_t hash, int64_t deadline),
                   void *arg)
{
    uint64_t *h = r->head->wheel;
    unsigned left, before, fill = 0;
    int rc, wrapped = 0;
    uint64_t link;
    chunk c, prev = {0};
    slot s;

    if (h[KV_WHEEL_NOW] > END || h[KV_WHEEL_SWEEP] >= LEVELS * 64)
        return damaged(r, "time");
    if (h[KV_WHEEL_OPEN])
        return KV_OK;
    s.level = (int)h[KV_WHEEL_SWEEP] / 64;
    s.digit = (int)h[KV_WHEEL_SWEEP] % 64;
    if (h[KV_WHEEL_SWEPT] && !get_full(r, h[KV_WHEEL_SWEPT], &prev))
        return damaged(r, "a slot's chunk");
    link = h[KV_WHEEL_SWEPT] ? chunk_next(&prev) : h[slot_word(s)];
    if (!link) {
        if (!next_slot(h, (int)h[KV_WHEEL_SWEEP], &s, &wrapped))
            return 1;
        set_head(r, KV_WHEEL_SWEEP, (uint64_t)s.level * 64 + (uint64_t)s.digit);
        set_head(r, KV_WHEEL_SWEPT, 0);
        link = h[slot_word(s)];
    }
    if (!get_full(r, link, &c))
        return damaged(r, "a slot's chunk");
    before = chunk_count(&c);
    rc = winnow(r, s, &c, &left, wanted, arg);
    if (rc != KV_OK)
        return rc;
    set_head(r, KV_WHEEL_COUNT, h[KV_WHEEL_COUNT] - (before - left));
    /* What is left goes where there is room before it. */
    if (h[KV_WHEEL_SWEPT])
        for (fill = chunk_count(&prev); left > 0 && fill < PER; left--)
            kv_txn_set(r, prev.at, &prev.w[++fill], c.w[left]);
    if (left > 0)
        kv_txn_set(r, c.at, &c.w[0], (uint64_t)left << 32 | chunk_next(&c));
    if (h[KV_WHEEL_SWEPT])
        kv_txn_set(r, prev.at, &prev.w[0],
                   (uint64_t)fill << 32 | (left > 0 ? c.id + 1 : chunk_next(&c)));
    else if (left == 0)
        unlink_chunk(r, s, &c);
    if (left == 0)
        free_chunk(r, &c);
    else
        set_head(r, KV_WHEEL_SWEPT, (uint64_t)c.id + 1);
    return wrapped;
}

/* ---- all of it ---- */

/* Walks one slot's chunks, which are at most *chunks more. each NULL: none. */
static int walk(kv_region *r, slot s, uint64_t *chunks, uint64_t *timers,
                int (*each)(void *arg, uint32_t hash, int64_t deadline), void *arg)
{
    const uint64_t *h = r->head->wheel;
    uint64_t link = h[slot_word(s)], t;
    unsigned i;
    chunk c;
    int rc;

    for (; link; link = chunk_next(&c)) {
        if (!get_full(r, link, &c) || !*chunks)
            return damaged(r, "a slot's chunk");
        --*chunks;
        *timers += chunk_count(&c);
        for (i = 1; i <= chunk_count(&c); i++) {
            if (!decode(h[KV_WHEEL_NOW], s, (uint32_t)c.w[i], &t))
                return damaged(r, "a timer in the wrong slot");
            rc = each ? each(arg, (uint32_t)(c.w[i] >> 32), (int64_t)t) : 0;
            if (rc != 0)
                return rc;
        }
    }
    return KV_OK;
}

int kv_wheel_each(kv_region *r, int (*each)(void *arg, uint32_t hash, int64_t deadline), void *arg)
{
    uint64_t chunks = r->head->used[KV_TIMERS], timers = 0;
    slot s;
    int rc;

    if (r->head->wheel[KV_WHEEL_NOW] > END)
        return damaged(r, "time");
    for (s.level = 0; s.level < LEVELS; s.level++)
        for (s.digit = 0; s.digit < 64; s.digit++) {
            rc = walk(r, s, &chunks, &timers, each, arg);
            if (rc != 0)
                return rc;
        }
    return KV_OK;
}

/* Where a slot with something in it may be, and that NEXT announces it. */
static int sound_slot(const uint64_t *h, slot s)
{
    uint64_t now = h[KV_WHEEL_NOW], start = slot_start(now, s);
    int digit = digit_of(now, s.level);

    if (s.digit == digit && (s.level == 0 || h[KV_WHEEL_OPEN] == (uint64_t)s.level))
        return h[KV_WHEEL_NEXT] <= now;
    return s.digit > digit && h[KV_WHEEL_NEXT] <= start;
}

/* The chunk that the sweep remembers is in the slot it is in. */
static int sound_sweep(kv_region *r)
{
    const uint64_t *h = r->head->wheel;
    uint64_t chunks = r->head->used[KV_TIMERS], link;
    chunk c;

    if (h[KV_WHEEL_SWEEP] >= LEVELS * 64)
        return 0;
    if (!h[KV_WHEEL_SWEPT])
        return 1;
    for (link = h[KV_WHEEL_SLOT + h[KV_WHEEL_SWEEP]]; link && chunks; link = chunk_next(&c)) {
        if (link == h[KV_WHEEL_SWEPT])
            return 1;
        if (!get_full(r, link, &c))
            return 0;
        --chunks;
    }
    return 0;
}

int kv_wheel_check(kv_region *r)
{
    const uint64_t *h = r->head->wheel;
    uint64_t chunks = r->head->used[KV_TIMERS], timers = 0, link;
    chunk c;
    slot s;
    int rc;

    if (h[KV_WHEEL_NOW] > END || h[KV_WHEEL_OPEN] >= LEVELS)
        return damaged(r, "time");
    for (s.level = 0; s.level < LEVELS; s.level++)
        for (s.digit = 0; s.digit < 64; s.digit++) {
            int bit = (int)(h[KV_WHEEL_BITS + s.level] >> s.digit & 1);

            if (bit != (h[slot_word(s)] != 0))
                return damaged(r, "a bit is wrong");
            if (bit && !sound_slot(h, s))
                return damaged(r, "a slot of the past, or one not announced");
            rc = walk(r, s, &chunks, &timers, NULL, NULL);
            if (rc != KV_OK)
                return rc;
        }
    for (link = h[KV_WHEEL_FREE]; link; link = chunk_next(&c)) {
        if (!get_chunk(r, link, &c) || chunk_count(&c) || !chunks)
            return damaged(r, "free list");
        --chunks;
    }
    if (chunks)
        return damaged(r, "a chunk is lost");
    if (timers != h[KV_WHEEL_COUNT])
        return damaged(r, "timers are counted wrong");
    return sound_sweep(r) ? KV_OK : damaged(r, "the sweep has lost its way");
}
