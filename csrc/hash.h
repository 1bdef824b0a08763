/* SPDX-License-Identifier: MIT
 *
 * hash.h - point lookups: linear hashing over 64-byte buckets of tagged slots.
 *
 * A slot is one word: 24 bits of the key's hash (the tag) and a 40-bit record address; 0 is empty.
 * A bucket has seven slots and a control word: high half a version, low half the id + 1 of an
 * overflow bucket (0: none). One bucket splits at a time, so nothing stops for a rehash; tags hold
 * the bits that decide a split, so splitting reads no record.
 *
 * Readers take no lock. Every entry they may find is reached by one aligned word; whenever an entry
 * moves to a place that a scan may have passed, the version of the bucket grows, and a miss
 * re-checks version and bucket count.
 */
#ifndef KV_HASH_H
#define KV_HASH_H

#include "region.h"

#include <string.h>

#pragma GCC visibility push(hidden)

/* Words of kv_head.hash: a line that changes only with a split, for lookups, and one for writers.
 */
enum {
    KV_HASH_COUNT,       /* buckets in use, >= 64; published by a split */
    KV_HASH_SEED0,       /* per-store random key of the hash; set before first use */
    KV_HASH_SEED1,       /* second half of it */
    KV_HASH_ENTRIES = 8, /* used slots; journaled */
    KV_HASH_PENDING,     /* bucket + 1 whose split is published but not cleaned up yet; 0: none */
    KV_HASH_TIDY,        /* bucket + 1 whose chain may have become too long; a hint; 0: none */
    KV_HASH_FREE,        /* id + 1 of the first free overflow bucket (LIFO by control words) */
    KV_HASH_OVERFLOWS    /* overflow buckets linked */
};

/* Entries a bucket of seven slots on average, above which one splits. Of a million keys 3 % are in
 * overflow buckets then, which a lookup comes to a miss later; at 4.5 it is 7 %, in as much memory,
 * since overflow buckets are mostly empty. */
#define KV_HASH_LOAD 4

#define KV_ADDR_BITS 40
#define KV_ADDR_MASK (((uint64_t)1 << KV_ADDR_BITS) - 1)

/* The hash of (ns, key): products of 64 by 64 bits, folded, as wyhash does it. Only the low 32 bits
 * place a key. The two halves of the secret, random in each store, blind every word before it is
 * multiplied, and there are no other constants: who does not know the secret cannot choose a word
 * that makes a product zero, nor keys that meet in one bucket, and hashes are never handed out.
 * SipHash-1-3, made for that, takes 150 instructions and 16 ns for a key of twelve bytes; this 35
 * and 5. */
__extension__ typedef unsigned __int128 kv_hash_product;

static inline uint64_t kv_hash_fold(uint64_t a, uint64_t b)
{
    kv_hash_product p = (kv_hash_product)a * b;

    return (uint64_t)p ^ (uint64_t)(p >> 64);
}
static inline uint64_t kv_hash_word(const char *p)
{
    uint64_t w;

    memcpy(&w, p, 8);
    return w;
}
/* The first and the last bytes of a key, overlapping; all of one of up to 16 bytes. Together with
 * the length they tell such keys apart. */
static inline void kv_hash_ends(const char *p, size_t len, uint64_t *a, uint64_t *b)
{
    uint32_t low, high;

    if (kv_likely(len >= 8)) {
        *a = kv_hash_word(p);
        *b = kv_hash_word(p + len - 8);
    } else if (len >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + len - 4, 4);
        *a = low;
        *b = high;
    } else {
        *a = len == 0 ? 0
                      : (uint64_t)(unsigned char)p[0] << 16 |
                            (uint64_t)(unsigned char)p[len >> 1] << 8 | (unsigned char)p[len - 1];
        *b = 0;
    }
}
static inline uint64_t kv_hash_key(uint64_t seed0, uint64_t seed1, uint32_t ns, const void *key,
                                   size_t len)
{
    const char *p = key;
    uint64_t state = seed1, a, b;
    kv_hash_product m;

    if (kv_likely(len <= 16)) {
        kv_hash_ends(p, len, &a, &b);
    } else {
        const char *end = p + len;

        for (; end - p > 16; p += 16)
            state = kv_hash_fold(kv_hash_word(p) ^ seed0, kv_hash_word(p + 8) ^ state);
        a = kv_hash_word(end - 16);
        b = kv_hash_word(end - 8);
    }
    m = (kv_hash_product)(a ^ seed0) * (b ^ state);
    return kv_hash_fold((uint64_t)m ^ seed0 ^ ((uint64_t)ns << 32 | len),
                        (uint64_t)(m >> 64) ^ seed1);
}
static inline uint64_t kv_hash_tag(uint64_t hash)
{
    return (hash >> 6 & 0xffffff) << KV_ADDR_BITS;
}

/* Sets up an empty table (64 buckets) in a fresh region. */
void kv_hash_init(kv_region *r, uint64_t seed0, uint64_t seed1);

/* Warms the bucket of a hash; and the one behind it, waiting for the first. */
void kv_hash_prefetch(kv_region *r, uint64_t hash);
void kv_hash_prefetch_chain(kv_region *r, uint64_t hash);

#define KV_HASH_MIN ((uint64_t)64)
#define KV_HASH_MAX ((uint64_t)1 << 30)

/* Linear hashing: the low bits that number `count` buckets; who names a bucket not split off yet
 * has one bit less. No branch: it would be a guess. Any count gives some number; kv_region_node
 * judges it. */
static inline uint32_t kv_hash_home(uint64_t hash, uint64_t count)
{
    uint64_t mask = ~(uint64_t)0 >> __builtin_clzll((count - 1) | (KV_HASH_MIN - 1));
    uint64_t b = hash & (KV_HASH_MAX - 1) & mask;

    return (uint32_t)(b & mask >> (b >= count));
}

/* Bit i: slot i has this tag, or is empty and the tag is 0. */
static inline unsigned kv_hash_matching(const uint64_t *w, uint64_t tag)
{
    unsigned m = kv_match_tags(w, (uint32_t)(tag >> KV_ADDR_BITS)) & 0x7f;

    kv_fence_acquire(); /* what a slot leads to is read after it */
    return m;
}

/* The home bucket of a hash among so many; NULL: not mapped yet. */
static inline __attribute__((always_inline)) const uint64_t *
kv_hash_bucket_of(kv_region *r, uint64_t hash, uint64_t count)
{
    uint32_t home = kv_hash_home(hash, count);

    if (kv_unlikely(home >= kv_load(&r->limit[KV_BUCKETS])))
        return NULL;
    return kv_region_at(r, KV_BUCKETS, home, KV_BUCKETS_FIRST, KV_BUCKETS_SIZE);
}
static inline __attribute__((always_inline)) const uint64_t *kv_hash_bucket(kv_region *r,
                                                                            uint64_t hash)
{
    return kv_hash_bucket_of(r, hash, kv_load(&r->head->hash[KV_HASH_COUNT]));
}
/* The first slot in a bucket that a hash's tag matches; NULL: none there. Only a hint: what the
 * slot leads to must prove itself. */
static inline __attribute__((always_inline)) const uint64_t *kv_hash_slot(const uint64_t *bucket,
                                                                          uint64_t hash)
{
    unsigned m = bucket != NULL ? kv_hash_matching(bucket, kv_hash_tag(hash)) : 0;

    return m ? &bucket[__builtin_ctz(m)] : NULL;
}
/* The bucket after one in its chain; NULL: there is none, or it is not mapped yet. A hint as well.
 */
static inline const uint64_t *kv_hash_chained(kv_region *r, const uint64_t *bucket)
{
    uint32_t next = bucket != NULL ? (uint32_t)kv_load(&bucket[7]) : 0;

    if (next == 0 || next - 1 >= kv_load(&r->limit[KV_OVERFLOW]))
        return NULL;
    return kv_region_at(r, KV_OVERFLOW, next - 1, KV_OVERFLOW_FIRST, KV_OVERFLOW_SIZE);
}
/* The address that slot holds now, if it is still for that tag, else 0. */
static inline uint64_t kv_hash_peek(const uint64_t *slot, uint64_t hash)
{
    uint64_t addr = slot != NULL ? kv_load(slot) ^ kv_hash_tag(hash) : 0;

    return kv_likely(addr <= KV_ADDR_MASK) ? addr : 0;
}
static inline uint64_t kv_hash_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
/* The address in a slot of the bucket that the hash's tag matches; 0: none there. A hint as well.
 * The tag taken off every slot, such a one is the least of all: a processor comes to that sooner
 * than to which slot it is and what it holds. In pairs, of which a compiler would make a row. */
static inline __attribute__((always_inline)) uint64_t kv_hash_pick(const uint64_t *bucket,
                                                                   uint64_t hash)
{
    uint64_t tag = kv_hash_tag(hash), a, b, c;

    a = kv_hash_least(kv_load_relaxed(&bucket[0]) ^ tag, kv_load_relaxed(&bucket[1]) ^ tag);
    b = kv_hash_least(kv_load_relaxed(&bucket[2]) ^ tag, kv_load_relaxed(&bucket[3]) ^ tag);
    c = kv_hash_least(kv_load_relaxed(&bucket[4]) ^ tag, kv_load_relaxed(&bucket[5]) ^ tag);
    kv_opaque(a);
    kv_opaque(b);
    kv_opaque(c);
    a = kv_hash_least(a, b);
    c = kv_hash_least(c, kv_load_relaxed(&bucket[6]) ^ tag);
    kv_opaque(c);
    a = kv_hash_least(a, c);
    kv_fence_acquire(); /* what a slot leads to is read after it */
    return kv_likely(a <= KV_ADDR_MASK) ? a : 0;
}
/* The same of the hash's home bucket: what just one glance tells. */
static inline __attribute__((always_inline)) uint64_t kv_hash_glance(kv_region *r, uint64_t hash)
{
    const uint64_t *bucket = kv_hash_bucket(r, hash);

    return kv_likely(bucket != NULL) ? kv_hash_pick(bucket, hash) : 0;
}

/* A scan over the slots whose tag matches a hash. */
typedef struct kv_hash_scan {
    uint64_t hash, count, version;
    uint64_t *bucket; /* current 64-byte bucket */
    uint64_t *home;   /* first of the chain */
    kv_place place;   /* of `bucket` */
    uint64_t slot;    /* the slot's content as last read */
    int index;        /* of the slot, -1 before the first */
    int hops;
} kv_hash_scan;

enum { KV_HASH_END = 0, KV_HASH_CANDIDATE = 1, KV_HASH_AGAIN = 2, KV_HASH_DAMAGED = 3 };
void kv_hash_start(kv_region *r, uint64_t hash, kv_hash_scan *c);
/* CANDIDATE: c->slot & KV_ADDR_MASK is a record that may be the key's. END: no (more) candidates,
 * and the scan saw a stable chain. AGAIN: something moved; start again. DAMAGED: an id out of
 * bounds or a loop. */
int kv_hash_next(kv_region *r, kv_hash_scan *c);
/* Finds the slot that leads to just this record: as the two above, without looking at a record. */
int kv_hash_locate(kv_region *r, uint64_t hash, uint64_t addr, kv_hash_scan *c);
/* Whether it is still where c has found it; with the writer lock. */
static inline int kv_hash_is_at(const kv_hash_scan *c, uint64_t hash, uint64_t addr)
{
    return c->index >= 0 && kv_load(&c->bucket[c->index]) == (kv_hash_tag(hash) | addr);
}

/* ---- under the writer lock, in a transaction ------------------------------------------ */

/* Nodes that a write needs at most in KV_OVERFLOW. */
#define KV_HASH_ROOM 2

/* Replaces the address in the scan's current slot: the transaction's visible store. */
void kv_hash_replace(kv_region *r, kv_hash_scan *c, uint64_t addr);
/* The same for an address of the same record, so that nothing changes for readers: journaled. */
void kv_hash_shift(kv_region *r, kv_hash_scan *c, uint64_t addr);
/* Adds a slot: the transaction's visible store. Damage: KV_ECORRUPT before anything is changed. */
int kv_hash_insert(kv_region *r, uint64_t hash, uint64_t addr);
/* Empties the scan's current slot: the transaction's visible store. */
void kv_hash_remove(kv_region *r, kv_hash_scan *c);
/* The same for a record that no reader takes for there any more: journaled. Such are counted
 * together: kv_hash_erased says how many they were. */
void kv_hash_erase(kv_region *r, kv_hash_scan *c);
void kv_hash_erased(kv_region *r, uint64_t n);

/* Own transactions: splits one bucket when the table is loaded enough and has room, shortens a
 * chain that removals left too long, or finishes a split whose clean-up a death interrupted. 1: did
 * something. 0: nothing to do. KV_ECORRUPT. Recovery must call it before anything else here while
 * KV_HASH_PENDING is not 0: until then moved entries are in two places. */
int kv_hash_maintain(kv_region *r);
/* 1 when more buckets are wanted, or soon will be, than are backed: the helper should grow
 * KV_BUCKETS. A split may also need KV_OVERFLOW nodes (one, rarely two); without room it waits. */
int kv_hash_wants_room(const kv_region *r);

/* Visits every address; tests, check(). Not concurrent with writers. each returns non-zero to stop.
 */
int kv_hash_each(kv_region *r, int (*each)(void *arg, uint64_t bucket, uint64_t slot), void *arg);
/* Verifies the structure: entries counted right, every slot's tag belongs to its bucket, chains
 * end, free list sound. */
int kv_hash_check(kv_region *r);

#pragma GCC visibility pop
#endif
