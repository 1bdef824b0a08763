/* SPDX-License-Identifier: MIT
 *
 * history.h - whether what happened to one key is what an atomic register could have done.
 *
 * A history is a list of calls, each with the times of its call and of its return. Every write
 * makes a state of its own, numbered by its revision, so the order of states is known and only
 * times are to be found: state i begins at t(i), within its write's call, t(i) < t(i + 1); who read
 * state i did so at some time within his own call, and in [t(i), t(i + 1)].
 *
 * The least t(i) that the writes before and their readers allow are found in one pass, and the
 * history is linearizable if and only if each of these lies within its write's call and no later
 * than the return of each of its readers: whatever makes t(i) larger makes all that follow larger.
 *
 * A miss may be of any state without the key, a refused condition of any that refuses it. Such a
 * call is taken for one of the last state that can have begun by its return: an earlier one would
 * hold up more states behind it. As the times of states grow it may turn out to be too late for
 * that one; then it is given the one before, and the pass is made again.
 *
 * A listing promises less: never to miss what is there throughout. A key that is being deleted may
 * be gone from the order while a lookup still finds it. So a key that was not listed must not have
 * been there, or have been on its way out or in, at some time of the call; no state waits for that.
 *
 * A call whose process was killed has no return; if somebody saw what it wrote, that is the write.
 * What nobody saw may have happened or not: a delete that others missed the key for, a put that
 * made somebody's condition fail. So each is tried at each revision that no other write of the
 * store has used, if without it the history makes no sense.
 */
#ifndef KV_SPEC_HISTORY_H
#define KV_SPEC_HISTORY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER INT64_MAX

enum {
    CALL_NOTHING,
    CALL_READ,
    CALL_MISS,     /* the key was not there */
    CALL_THERE,    /* it was */
    CALL_OTHER,    /* it had not revision `rev`, or was not there */
    CALL_UNLISTED, /* a listing did not show it */
    CALL_PUT,      /* from here on they write */
    CALL_DELETE
};

typedef struct call {
    int64_t called, returned; /* NEVER: its process was killed */
    uint64_t rev;             /* of what was written or read; 0: not known */
    uint64_t before;          /* a write: the revision that it was told it replaced */
    uint32_t key;
    uint8_t kind, process;
    uint8_t told; /* `before` says something: 0 there, that the key was not there */
} call;

typedef struct history_state {
    uint64_t rev, before;
    int64_t called, returned, begins;
    int there, told;
} history_state;

static inline int history_fits(const call *c, const history_state *s)
{
    switch (c->kind) {
    case CALL_READ:
        return s->there && s->rev == c->rev;
    case CALL_MISS:
        return !s->there;
    case CALL_THERE:
        return s->there;
    default:
        return !s->there || s->rev != c->rev;
    }
}

typedef struct history {
    history_state *s; /* by revision */
    size_t states, room;
    const call **read; /* reads and misses */
    size_t reads, read_room;
    size_t *of; /* the state of each */
    const char *why;
    const call *culprit;
} history;

static inline void *history_grow(void *p, size_t *room, size_t n, size_t size)
{
    if (n < *room)
        return p;
    *room = *room * 2 + 1024;
    p = realloc(p, *room * size);
    if (p == NULL)
        abort();
    return p;
}

static inline int history_by_rev(const void *a, const void *b)
{
    const history_state *x = a, *y = b;

    return (x->rev > y->rev) - (x->rev < y->rev);
}

static inline int history_find(const history *h, uint64_t rev, size_t *at)
{
    size_t lo = 0, hi = h->states;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (h->s[mid].rev < rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    *at = lo;
    return lo < h->states && h->s[lo].rev == rev;
}

static inline int history_wrong(history *h, const char *why, const call *c)
{
    h->why = why;
    h->culprit = c;
    return 0;
}

static inline void history_state_add(history *h, const call *c)
{
    history_state *s;

    h->s = history_grow(h->s, &h->room, h->states, sizeof *h->s);
    s = &h->s[h->states++];
    s->rev = c->rev;
    s->before = c->before;
    s->told = c->told;
    s->called = c->called;
    s->returned = c->returned;
    s->there = c->kind == CALL_PUT;
}

static inline int history_may_miss(const history *h, const call *c)
{
    size_t i = h->states;

    while (i-- > 0)
        if (!h->s[i].there && h->s[i].called <= c->returned)
            return i + 1 == h->states || h->s[i + 1].returned >= c->called;
    return 0;
}

/* Finds the times of states; 0: there are none; 2: a call must be of an earlier state. */
static inline int history_pass(history *h)
{
    int64_t *least = malloc((h->states + 1) * sizeof *least);
    size_t i;
    int again = 0;

    if (least == NULL)
        abort();
    /* least[i + 1]: what the readers of state i ask of the one behind it. */
    memset(least, 0, (h->states + 1) * sizeof *least);
    for (i = 0; i < h->reads; i++)
        if (h->of[i] != SIZE_MAX && h->read[i]->called > least[h->of[i] + 1])
            least[h->of[i] + 1] = h->read[i]->called;
    for (i = 0; i < h->states; i++) {
        history_state *s = &h->s[i];

        s->begins = s->called > least[i] ? s->called : least[i];
        if (i > 0 && s->begins < h->s[i - 1].begins)
            s->begins = h->s[i - 1].begins;
        if (s->begins > s->returned) {
            free(least);
            return history_wrong(h, "a write came too late for what was read after it", NULL);
        }
    }
    for (i = 0; i < h->reads; i++) {
        const call *c = h->read[i];
        size_t at = h->of[i];

        if (at == SIZE_MAX || h->s[at].begins <= c->returned)
            continue;
        while (at > 0 && (!history_fits(c, &h->s[at]) || h->s[at].begins > c->returned))
            at--;
        if (!history_fits(c, &h->s[at]) || h->s[at].begins > c->returned) {
            free(least);
            return history_wrong(h, "a call found what was not so at any time of it", c);
        }
        h->of[i] = at;
        again = 1;
    }
    free(least);
    return again ? 2 : 1;
}

static inline int history_solve(history *h)
{
    size_t i, at;
    int rc;

    qsort(h->s, h->states, sizeof *h->s, history_by_rev);
    for (i = 1; i < h->states; i++) {
        if (h->s[i].rev == h->s[i - 1].rev)
            return history_wrong(h, "two writes have one revision", NULL);
        if (h->s[i].told && h->s[i].before != (h->s[i - 1].there ? h->s[i - 1].rev : 0))
            return history_wrong(h, "a write replaced another state than it was told", NULL);
    }
    for (i = 0; i < h->reads; i++) {
        const call *c = h->read[i];

        if (c->kind == CALL_UNLISTED) {
            if (!history_may_miss(h, c))
                return history_wrong(h, "a listing missed what was there throughout", c);
            h->of[i] = SIZE_MAX;
            continue;
        }
        if (c->kind == CALL_READ && !history_find(h, c->rev, &at))
            return history_wrong(h, "a read saw what nobody wrote", c);
        /* The last state that it may be of and whose write was called by then. */
        if (c->kind != CALL_READ)
            for (at = h->states - 1; at > 0; at--)
                if (history_fits(c, &h->s[at]) && h->s[at].called <= c->returned)
                    break;
        if (!history_fits(c, &h->s[at]))
            return history_wrong(h, "a call found what never was so", c);
        h->of[i] = at;
    }
    while ((rc = history_pass(h)) == 2)
        continue;
    return rc;
}

/* With each of the lost writes at a free revision, or not at all. */
static inline int history_try(history *h, const call *const *lost, size_t losts,
                              const uint64_t *unused, size_t gaps)
{
    size_t g, at;
    call tried;

    if (losts == 0)
        return history_solve(h);
    if (history_try(h, lost + 1, losts - 1, unused, gaps))
        return 1;
    for (g = 0; g < gaps; g++) {
        if (history_find(h, unused[g], &at))
            continue;
        tried = *lost[0];
        tried.rev = unused[g];
        history_state_add(h, &tried);
        if (history_try(h, lost + 1, losts - 1, unused, gaps))
            return 1;
        (void)history_find(h, unused[g], &at);
        memmove(&h->s[at], &h->s[at + 1], (h->states - at - 1) * sizeof *h->s);
        h->states--;
    }
    return 0;
}

/* Whether the calls of one key, n of them, are a history of a register that began as `first` says:
 * a write with both times 0. The calls of killed processes that nobody saw are left out; unused:
 * the revisions that no known write has. On failure h->why says what is wrong. */
static inline int history_check(history *h, const call *first, const call *calls, size_t n,
                                const uint64_t *unused, size_t gaps)
{
    const call *lost[4];
    const call *culprit;
    const char *why;
    size_t i, losts = 0;
    int sound;

    h->states = h->reads = 0;
    h->why = NULL;
    h->culprit = NULL;
    history_state_add(h, first);
    for (i = 0; i < n; i++) {
        const call *c = &calls[i];

        if (c->kind >= CALL_PUT) {
            if (c->rev != 0)
                history_state_add(h, c);
            else if (losts < 4)
                lost[losts++] = c;
        } else if (c->kind != CALL_NOTHING) {
            h->read = history_grow(h->read, &h->read_room, h->reads, sizeof *h->read);
            h->read[h->reads++] = c;
        }
    }
    h->of = realloc(h->of, (h->reads + 1) * sizeof *h->of);
    if (h->of == NULL)
        abort();
    sound = history_solve(h);
    why = h->why;
    culprit = h->culprit;
    if (!sound)
        sound = history_try(h, lost, losts, unused, gaps);
    if (!sound) {
        h->why = why;
        h->culprit = culprit;
    }
    return sound;
}

static inline void history_free(history *h)
{
    free(h->s);
    free(h->read);
    free(h->of);
    memset(h, 0, sizeof *h);
}

#endif
