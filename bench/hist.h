/* SPDX-License-Identifier: MIT
 *
 * hist.h - the clock of the benchmarks, and a histogram of what it says.
 *
 * Buckets grow by 1/32: below 32 ns one for each, then 32 in each power of two. A percentile is the
 * upper end of its bucket, so it is never too low and at most 3 % too high.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HIST_SUB     32
#define HIST_BUCKETS (HIST_SUB * 60)

typedef struct hist {
    uint64_t begun, count, sum, max;
    uint64_t bucket[HIST_BUCKETS];
} hist;

static inline uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What loops are timed with: with BENCH_CLOCK=cpu the time this thread was running, for machines
 * that do other things meanwhile. It leaves out waiting, so it says nothing of syncs. */
static inline uint64_t loop_ns(void)
{
    static int id = -1;
    struct timespec t;
    if (id < 0) {
        const char *wish = getenv("BENCH_CLOCK");
        id = wish && strcmp(wish, "cpu") == 0 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    }
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void hist_add(hist *h, uint64_t ns)
{
    unsigned i = (unsigned)ns;
    if (ns >= HIST_SUB) {
        unsigned shift = 58u - (unsigned)__builtin_clzll(ns); /* keeps the top 6 bits: 32..63 */
        i = (shift + 1) * HIST_SUB + (unsigned)(ns >> shift) - HIST_SUB;
    }
    if (i >= HIST_BUCKETS)
        i = HIST_BUCKETS - 1;
    h->bucket[i]++;
    h->count++;
    h->sum += ns;
    if (ns > h->max)
        h->max = ns;
}

/* The value that a share p (0..1) of all values does not exceed; 0 when there are none. */
static inline uint64_t hist_percentile(const hist *h, double p)
{
    uint64_t seen = 0, want = (uint64_t)(p * (double)h->count);
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > want || (seen == h->count && seen > 0)) {
            uint64_t top = i;
            if (i >= HIST_SUB)
                top = (((uint64_t)(i % HIST_SUB) + HIST_SUB + 1) << (i / HIST_SUB - 1)) - 1;
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

/* The i-th of n numbers in an order that visits each once and looks random. n < 2^32. */
static inline uint64_t shuffled(uint64_t i, uint64_t n)
{
    return n % 2654435761u ? i * 2654435761u % n : i;
}

/* xorshift64*; the state must not be 0. */
static inline uint64_t random64(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 2685821657736338717u;
}

#define KEY_LEN 12

/* "user:" and seven digits. */
static inline void make_key(char *out, uint64_t i)
{
    memcpy(out, "user:", 5);
    for (int at = KEY_LEN - 1; at >= 5; at--, i /= 10)
        out[at] = (char)('0' + i % 10);
}

#endif
