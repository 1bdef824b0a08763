/* SPDX-License-Identifier: MIT
 *
 * wheel.h - a hierarchical timing wheel of key hashes; time is an argument.
 *
 * Ticks are milliseconds. Level l has 64 slots of 64^l ms; eight levels reach beyond 8,900 years. A
 * timer is 8 bytes, the low 32 bits of a key's hash and the low bits of its deadline (the rest
 * follows from the slot), in chunks of seven chained to a slot. It is never looked for and never
 * removed: when it fires, its owner looks at what the hash leads to, and arms again what is not
 * due. A timer fires at its deadline or later, never earlier. Late are those that lie beyond a
 * multiple of 2^36 ms (2.2 years) as seen from where they are armed: up to 15 ms, beyond a multiple
 * of 2^42 ms (139 years; the next is in 2109) up to 1,023 ms, since 32 bits are kept of a deadline.
 */
#ifndef KV_WHEEL_H
#define KV_WHEEL_H

#include "region.h"

#pragma GCC visibility push(hidden)

/* Words of kv_head.wheel */
enum {
    KV_WHEEL_NOW,      /* ms: all timers before this have fired */
    KV_WHEEL_COUNT,    /* timers */
    KV_WHEEL_FREE,     /* id + 1 of the first free chunk */
    KV_WHEEL_NEXT,     /* ms: before this a step does nothing but move NOW on */
    KV_WHEEL_OPEN,     /* level whose slot at NOW is being carried to finer levels; 0: none */
    KV_WHEEL_MOVES,    /* steps since a slot was opened; more than there are timers: damage */
    KV_WHEEL_SWEEP,    /* slot that the sweep is in: level * 64 + digit */
    KV_WHEEL_SWEPT,    /* id + 1 of the last chunk of it that was swept; 0: none */
    KV_WHEEL_BITS = 8, /* 8 words: a bit for each non-empty slot of a level */
    KV_WHEEL_SLOT = 16 /* 8 x 64 words: id + 1 of the first chunk */
};

/* The wheel waits for a clock that went back by less than this, and goes back with it by more. */
#define KV_WHEEL_BACK 60000 /* ms */

#define KV_WHEEL_ROOM 1 /* chunks one kv_wheel_add or kv_wheel_step needs at most in KV_TIMERS */

void kv_wheel_init(kv_region *r, int64_t now);

/* In a transaction (journaled, no visible word): arms a timer. A deadline not after the wheel's
 * time fires at the next step at or after that. KV_ECORRUPT, KV_EFULL: unchanged. */
int kv_wheel_add(kv_region *r, uint32_t hash, int64_t deadline);

enum { KV_WHEEL_IDLE = 0, KV_WHEEL_FIRED = 1, KV_WHEEL_MOVED = 2 };
/* In a transaction: one bounded step towards `now` (at most a hundred journal words). FIRED: *hash
 * and *deadline are a timer that is due, taken out. MOVED: timers were carried to finer slots; call
 * again. IDLE: nothing is due by `now`, and the wheel's time is now, or later by less than
 * KV_WHEEL_BACK. KV_ECORRUPT, KV_EFULL: nothing but the wheel's time has changed. */
int kv_wheel_step(kv_region *r, int64_t now, uint32_t *hash, int64_t *deadline);
/* In a transaction: asks `wanted` about the timers of one chunk and takes out those for which it
 * says 0; the next call goes on with the next one, round and round. What it frees is used again for
 * other timers. Nothing happens while a slot is being carried to finer ones. 1: a round is
 * complete; KV_OK; KV_ECORRUPT, or the negative that `wanted` gave. */
int kv_wheel_sweep(kv_region *r, int (*wanted)(void *arg, uint32_t hash, int64_t deadline),
                   void *arg);
/* Milliseconds by which a deadline that the wheel gives may be later than the one it was given. */
#define KV_WHEEL_LATE 1023
typedef struct kv_timer {
    int64_t deadline;
    uint32_t hash;
} kv_timer;
/* Up to `most` timers that the next steps will fire, in that order; fewer when it would take more
 * than a look. Changes nothing. */
int kv_wheel_peek(kv_region *r, int64_t now, kv_timer *timers, int most);
/* In a transaction: takes out the first n > 0 of those that kv_wheel_peek has said at `now`, as n
 * steps would; since then timers may have been armed for later than `now`, nothing else. At most
 * five journal words a timer and one. FIRED or KV_ECORRUPT. */
int kv_wheel_take(kv_region *r, int64_t now, int n);
/* True when a step would do something at `now`; two loads of one line, for the path of every write.
 * Also now and then (once in a second of `now`) when nothing is due, to move the wheel's time on.
 */
static inline int kv_wheel_due(const kv_region *r, int64_t now)
{
    int64_t at = (int64_t)kv_load_relaxed(&r->head->wheel[KV_WHEEL_NOW]);
    int64_t next = (int64_t)kv_load_relaxed(&r->head->wheel[KV_WHEEL_NEXT]);

    return now >= at ? now >= next : at - now > KV_WHEEL_BACK;
}

/* Verifies counts, chains, bits, and that each timer lies in the slot its deadline asks for. */
int kv_wheel_check(kv_region *r);
/* Visits every timer; tests and check(). */
int kv_wheel_each(kv_region *r, int (*each)(void *arg, uint32_t hash, int64_t deadline), void *arg);

#pragma GCC visibility pop
#endif
