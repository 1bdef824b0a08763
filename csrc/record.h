/* SPDX-License-Identifier: MIT
 *
 * record.h - one log record: its layout, coding and checksum. Pure functions on bytes.
 *
 *   OFFSET SIZE
 *        0    4  CRC32C of bytes 4..len, xor a word of the segment's salt and the record's offset
 *        4    3  len, the record's bytes without padding
 *        7    1  kind (low 3 bits), value type (next 3), KV_REC_BLOB, KV_REC_MORE
 *        8    1  flags KV_REC_*
 *        9  1|2  key length
 *           1|4  namespace id
 *           4|8  revision
 *           5|8  updated, ms since 2020-01-01 (8: since 1970)
 *           4|8  [EXPIRES]  expires - updated, ms
 *           4|8  [ARMED]    earliest timer armed for the key - updated, when it is not `expires`
 *           4|8  [BIRTH]    updated - created, ms
 *           4|8  [BIRTH]    revision - id
 *             2  [META]     metadata length
 *                key, value (the rest), metadata
 *
 * The wide forms are taken when a field does not fit: LONG for key length and namespace, WIDE for
 * revision, updated and birth, WIDE_EXPIRES for the two of expiry. Records start at multiples of
 * four bytes; the gap is zero. Zero is no kind, so that allocated space never reads as a record.
 */
#ifndef KV_RECORD_H
#define KV_RECORD_H

#include "crc32c.h"
#include "kv.h"
#include "os.h"

#include <string.h>

#pragma GCC visibility push(hidden)

enum {
    KV_REC_PUT = 1,    /* a key's value */
    KV_REC_DELETE = 2, /* tombstone of a key */
    KV_REC_NAME = 3,   /* namespace `ns` is called `key`, described by the value */
    KV_REC_DROP = 4    /* namespace `ns` (called `key`) and all it held are gone */
};

/* Beside kind and kv.h's value type in the byte at offset 7: */
#define KV_REC_BLOB 0x40 /* the value is a reference: u64 blob id, u64 size */
#define KV_REC_MORE 0x80 /* the batch goes on in the next record */

#define KV_REC_EPOCH    1577836800000LL /* 2020-01-01, ms */
#define KV_REC_ALIGN    4u
#define KV_REC_MIN      20u
#define KV_REC_MAX_HEAD (15u + 8 + 8 + 8 + 8 + 8 + 8 + 2)
#define KV_REC_MAX      ((1u << 24) - 4)

typedef struct kv_rec {
    uint8_t kind;
    uint8_t type; /* kv.h's value type */
    uint8_t blob, more;
    uint8_t flags; /* KV_REC_*, for kv_rec_encode; set with `size` */
    uint32_t ns;
    uint64_t rev, id;
    int64_t created, updated;
    int64_t expires; /* 0: never */
    int64_t armed;   /* deadline of the earliest timer; equals expires when there is nothing else to
                        say */
    const char *key, *value, *meta;
    uint32_t key_len, value_len, meta_len;
    uint32_t size; /* bytes on the log, without padding; set by decoding and by kv_rec_measure */
} kv_rec;

static inline uint32_t kv_rec_align(uint32_t n)
{
    return (n + (KV_REC_ALIGN - 1)) & ~(KV_REC_ALIGN - 1);
}
/* The word that ties a record to its place. Added to the checksum behind the bytes instead of going
 * before them as a seed: that tells places apart as well, the checksum being linear, and a record
 * is moved without computing it anew. */
static inline uint32_t kv_rec_seed(uint32_t salt, uint32_t off)
{
    return salt ^ off * 2654435761u;
}
static inline uint32_t kv_rec_crc(const char *p, uint32_t size, uint32_t seed)
{
    return kv_crc32c(0, p + 4, size - 4) ^ seed;
}
/* len as the header says, without any check. */
static inline uint32_t kv_rec_peek_len(const char *p)
{
    return __atomic_load_n((const uint32_t *)(const void *)(p + 4), __ATOMIC_RELAXED) & 0xffffff;
}

/* Sets and returns the size of the encoded record; 0: over KV_REC_MAX. */
uint32_t kv_rec_measure(kv_rec *r);
/* Encodes into `to` a record that was measured: kv_rec_align(size) bytes, the padding zeroed. */
void kv_rec_encode(const kv_rec *r, uint32_t seed, char *to);
/* Copies the encoded record of `size` bytes at `from`, known to be whole, for another place,
 * without KV_REC_MORE; `seed` of the one place xor that of the other. */
void kv_rec_copy(const char *from, uint32_t size, uint32_t seeds, char *to);
/* Reads the record that begins at p; avail: bytes readable there. KV_OK, or KV_ECORRUPT when it is
 * none. Pointers lead into p. */
int kv_rec_decode(const char *p, uint32_t avail, uint32_t seed, kv_rec *out);
/* Bytes before the key, by flags. */
extern const uint8_t kv_rec_head_size[128];

enum {
    KV_REC_META = 1,
    KV_REC_EXPIRES = 2,
    KV_REC_WIDE_EXPIRES = 4,
    KV_REC_BIRTH = 8,
    KV_REC_WIDE = 16,
    KV_REC_ARMED = 32,
    KV_REC_LONG = 64,
    KV_REC_FLAGS = 127
};

/* Key length and namespace of the record at p; returns the offset of what follows, the revision. */
static inline uint32_t kv_rec_names(const char *p, uint32_t *key_len, uint32_t *ns)
{
    uint16_t n;

    if (kv_likely(!(p[8] & KV_REC_LONG))) {
        *key_len = (uint8_t)p[9];
        *ns = (uint8_t)p[10];
        return 11;
    }
    memcpy(&n, p + 9, 2);
    *key_len = n;
    memcpy(ns, p + 11, 4);
    return 15;
}

/* Whether two keys of len bytes are the same; without a call for short ones. */
static inline int kv_same_key(const char *a, const char *b, size_t len)
{
    uint64_t a0, a1, b0, b1;

    if (kv_unlikely(len - 8 > 8))
        return memcmp(a, b, len) == 0;
    memcpy(&a0, a, 8);
    memcpy(&b0, b, 8);
    memcpy(&a1, a + len - 8, 8);
    memcpy(&b1, b + len - 8, 8);
    return ((a0 ^ b0) | (a1 ^ b1)) == 0;
}

/* Whether the record at p, whose second word that is, is plain and of a key of this length and
 * namespace; *rest: the offset of what follows these, the revision. There is one form for each. */
static inline __attribute__((always_inline)) int
kv_rec_is(const char *p, uint64_t word, uint32_t ns, uint32_t len, uint32_t *rest)
{
    uint64_t mask =
        (7 | KV_REC_BLOB) << 24 | (uint64_t)(KV_REC_WIDE | KV_REC_WIDE_EXPIRES | KV_REC_LONG) << 32;
    uint64_t plain = KV_REC_PUT << 24;
    uint32_t their_len, their_ns;

    if (kv_likely((ns | len) <= UINT8_MAX)) {
        mask |= (uint64_t)UINT16_MAX << 40;
        plain |= (uint64_t)(len | ns << 8) << 40;
        *rest = 11;
        return ((word ^ plain) & mask) == 0;
    }
    if (((word ^ (plain | (uint64_t)KV_REC_LONG << 32)) & mask) != 0)
        return 0;
    *rest = kv_rec_names(p, &their_len, &their_ns);
    return their_len == len && their_ns == ns;
}

/* The record at p as its bytes say, if it is one of just this key, plain (no blob) and without wide
 * fields: the usual case of a read, in as few steps as it takes. 0: decode it properly. Whether it
 * is whole kv_rec_whole says; all that is in *out until then is that it lies within p[0..avail). */
typedef struct kv_rec_plain {
    const char *value, *meta; /* neighbours */
    uint32_t value_len, meta_len;
    uint32_t size;
    int type;
    int64_t expires;
} kv_rec_plain;

static inline __attribute__((always_inline)) int kv_rec_look(const char *p, uint32_t avail,
                                                             uint32_t ns, const char *key,
                                                             uint32_t len, kv_rec_plain *out)
{
    uint32_t n, ttl, head, rest;
    uint64_t since = 0, word;
    uint16_t meta = 0;

    memcpy(&word, p + 4, 8); /* length, kind, flags, key length, namespace */
    n = word & 0xffffff;
    if (kv_unlikely(!kv_rec_is(p, word, ns, len, &rest) || n > avail))
        return 0;
    head = kv_rec_head_size[word >> 32 & KV_REC_FLAGS];
    if (kv_unlikely(head + len > n || !kv_same_key(p + head, key, len)))
        return 0;
    if (word & (uint64_t)KV_REC_META << 32) {
        memcpy(&meta, p + head - 2, 2);
        if (kv_unlikely(meta > n - head - len))
            return 0;
    }
    out->value = p + head + len;
    out->value_len = n - head - len - meta;
    out->meta = p + n - meta;
    out->meta_len = meta;
    out->type = word >> 27 & 7;
    out->expires = 0;
    if (word & (uint64_t)KV_REC_EXPIRES << 32) {
        memcpy(&since, p + rest + 4, 5);
        memcpy(&ttl, p + rest + 9, 4);
        out->expires = (int64_t)since + KV_REC_EPOCH + ttl;
    }
    out->size = n;
    return 1;
}

static inline int kv_rec_whole(const char *p, uint32_t size, uint32_t seed)
{
    uint32_t crc;

    memcpy(&crc, p, 4);
    return kv_likely(kv_rec_crc(p, size, seed) == crc);
}

/* What else there is to know of a record of which kv_rec_look said 1. */
static inline void kv_rec_history(const char *p, uint64_t *rev, uint64_t *id, int64_t *created,
                                  int64_t *updated)
{
    uint64_t since = 0;
    uint32_t f = (uint8_t)p[8], n, unused;

    p += kv_rec_names(p, &unused, &unused);
    memcpy(&n, p, 4);
    memcpy(&since, p + 4, 5);
    *rev = *id = n;
    *created = *updated = (int64_t)since + KV_REC_EPOCH;
    if (f & KV_REC_BIRTH) {
        p += 9 + (f & KV_REC_EXPIRES ? 4 : 0) + (f & KV_REC_ARMED ? 4 : 0);
        memcpy(&n, p, 4);
        *created -= n;
        memcpy(&n, p + 4, 4);
        *id -= n;
    }
}

/* The namespace id under which the index holds it. */
static inline uint32_t kv_rec_index_ns(const kv_rec *r)
{
    return r->kind == KV_REC_NAME ? 0 : r->ns;
}

#pragma GCC visibility pop
#endif
