/* SPDX-License-Identifier: MIT
 *
 * record.c - coding of log records; record.h has the layout.
 *
 * Invariant: decode(encode(r)) == r for every record, and decode of any other bytes fails or stays
 * inside them: every length is checked against the record's, the record's against what is readable,
 * and the checksum covers all of it.
 */
#include "record.h"
#include "crc32c.h"

#include <string.h>

static int fits32(int64_t v)
{
    return v >= 0 && v <= (int64_t)UINT32_MAX;
}

static uint8_t flags_of(const kv_rec *r)
{
    uint8_t f = 0;
    int64_t since = r->updated - KV_REC_EPOCH;

    if (kv_unlikely(r->key_len > UINT8_MAX || r->ns > UINT8_MAX))
        f |= KV_REC_LONG;
    if (r->meta_len)
        f |= KV_REC_META;
    if (r->expires) {
        f |= KV_REC_EXPIRES;
        if (r->armed != r->expires)
            f |= KV_REC_ARMED;
        if (!fits32(r->expires - r->updated) || !fits32(r->armed - r->updated))
            f |= KV_REC_WIDE_EXPIRES;
    }
    if (r->created != r->updated || r->id != r->rev)
        f |= KV_REC_BIRTH;
    if (r->rev > UINT32_MAX || since < 0 || since >> 40 || !fits32(r->updated - r->created) ||
        r->rev - r->id > UINT32_MAX)
        f |= KV_REC_WIDE;
    return f;
}

#define HEAD_OF(f)                                                                                 \
    (11 + ((f)&KV_REC_LONG ? 4 : 0) + ((f)&KV_REC_WIDE ? 16 : 9) +                                 \
     ((f)&KV_REC_EXPIRES ? ((f)&KV_REC_WIDE_EXPIRES ? 8 : 4) : 0) +                                \
     ((f)&KV_REC_ARMED ? ((f)&KV_REC_WIDE_EXPIRES ? 8 : 4) : 0) +                                  \
     ((f)&KV_REC_BIRTH ? ((f)&KV_REC_WIDE ? 16 : 8) : 0) + ((f)&KV_REC_META ? 2 : 0))
#define HEADS_4(f)  HEAD_OF(f), HEAD_OF((f) + 1), HEAD_OF((f) + 2), HEAD_OF((f) + 3)
#define HEADS_16(f) HEADS_4(f), HEADS_4((f) + 4), HEADS_4((f) + 8), HEADS_4((f) + 12)

const uint8_t kv_rec_head_size[128] = {HEADS_16(0),  HEADS_16(16), HEADS_16(32), HEADS_16(48),
                                       HEADS_16(64), HEADS_16(80), HEADS_16(96), HEADS_16(112)};

uint32_t kv_rec_measure(kv_rec *r)
{
    uint64_t n;

    r->flags = flags_of(r);
    n = (uint64_t)kv_rec_head_size[r->flags] + r->key_len + r->value_len + r->meta_len;
    return r->size = n > KV_REC_MAX ? 0 : (uint32_t)n;
}

/* Stores eight bytes, of which `bytes` count: the next ones go over the rest. */
static char *put(char *p, uint64_t v, unsigned bytes)
{
    memcpy(p, &v, 8);
    return p + bytes;
}

static uint64_t load(const char *p, int wide)
{
    uint64_t v = 0;

    if (wide)
        memcpy(&v, p, 8);
    else
        memcpy(&v, p, 4);
    return v;
}

/* The header is built in a local buffer, so that the shared bytes are written once, in order. */
void kv_rec_encode(const kv_rec *r, uint32_t seed, char *to)
{
    char head[KV_REC_MAX_HEAD + 8];
    uint8_t f = r->flags;
    unsigned wide = f & KV_REC_WIDE ? 8 : 4, wide_exp = f & KV_REC_WIDE_EXPIRES ? 8 : 4;
    uint32_t crc, n, size = r->size;
    char *p;

    put(head + 4,
        size | (uint32_t)(r->kind | r->type << 3 | (r->blob ? KV_REC_BLOB : 0) |
                          (r->more ? KV_REC_MORE : 0))
                   << 24,
        4);
    head[8] = (char)f;
    p = put(head + 9, r->key_len, f & KV_REC_LONG ? 2 : 1);
    p = put(p, r->ns, f & KV_REC_LONG ? 4 : 1);
    p = put(p, r->rev, wide);
    p = kv_likely(!(f & KV_REC_WIDE)) ? put(p, (uint64_t)(r->updated - KV_REC_EPOCH), 5)
                                      : put(p, (uint64_t)r->updated, 8);
    if (f & KV_REC_EXPIRES)
        p = put(p, (uint64_t)(r->expires - r->updated), wide_exp);
    if (f & KV_REC_ARMED)
        p = put(p, (uint64_t)(r->armed - r->updated), wide_exp);
    if (f & KV_REC_BIRTH) {
        p = put(p, (uint64_t)(r->updated - r->created), wide);
        p = put(p, r->rev - r->id, wide);
    }
    if (f & KV_REC_META)
        p = put(p, r->meta_len, 2);
    n = (uint32_t)(p - head);
    kv_test_store();
    memset(to + kv_rec_align(size) - KV_REC_ALIGN, 0, KV_REC_ALIGN); /* the gap, if there is one */
    memcpy(to + n, r->key, r->key_len);
    if (r->value_len)
        memcpy(to + n + r->key_len, r->value, r->value_len);
    if (r->meta_len)
        memcpy(to + n + r->key_len + r->value_len, r->meta, r->meta_len);
    kv_test_store(); /* a writer may die with any part of this done */
    memcpy(to + 4, head + 4, n - 4);
    crc = kv_rec_crc(to, size, seed);
    memcpy(to, &crc, 4);
}

/* Shared bytes are written once, in order, but for the checksum, which makes them a record. */
void kv_rec_copy(const char *from, uint32_t size, uint32_t seeds, char *to)
{
    uint32_t crc;

    kv_test_store();
    memcpy(to + 4, from + 4, kv_rec_align(size) - 4); /* the gap is zero there, too */
    kv_test_store();
    memcpy(&crc, from, 4);
    crc ^= seeds;
    if (kv_unlikely(from[7] & KV_REC_MORE)) {
        crc ^= kv_rec_crc(to, size, 0);
        to[7] &= (char)~KV_REC_MORE;
        crc ^= kv_rec_crc(to, size, 0);
    }
    memcpy(to, &crc, 4);
}

int kv_rec_decode(const char *at, uint32_t avail, uint32_t seed, kv_rec *r)
{
    uint32_t crc, word, size, n, key_len;
    uint8_t f, what;
    const char *p;

    if (kv_unlikely(avail < KV_REC_MIN))
        return KV_ECORRUPT;
    memcpy(&crc, at, 4);
    memcpy(&word, at + 4, 4);
    size = word & 0xffffff;
    if (kv_unlikely(size < KV_REC_MIN || size > avail))
        return KV_ECORRUPT;
    if (kv_unlikely(!KV_IS_BUG(6) && kv_rec_crc(at, size, seed) != crc))
        return KV_ECORRUPT;
    f = (uint8_t)at[8];
    what = (uint8_t)(word >> 24);
    p = at + kv_rec_names(at, &key_len, &r->ns);
    r->kind = what & 7;
    if (kv_unlikely((unsigned)r->kind - KV_REC_PUT > KV_REC_DROP - KV_REC_PUT || f > KV_REC_FLAGS ||
                    (f & (KV_REC_ARMED | KV_REC_EXPIRES)) == KV_REC_ARMED || key_len > KV_MAX_KEY))
        return KV_ECORRUPT;
    n = kv_rec_head_size[f];
    if (kv_unlikely(n + key_len > size))
        return KV_ECORRUPT;
    r->flags = f;
    r->type = what >> 3 & 7;
    r->blob = what / KV_REC_BLOB & 1;
    r->more = what / KV_REC_MORE;
    r->size = size;
    r->key_len = key_len;
    r->rev = load(p, f & KV_REC_WIDE);
    if (kv_likely(!(f & KV_REC_WIDE))) {
        r->updated = (int64_t)(load(p + 4, 0) | (uint64_t)(uint8_t)p[8] << 32) + KV_REC_EPOCH;
        p += 9;
    } else {
        r->updated = (int64_t)load(p + 8, 1);
        p += 16;
    }
    r->created = r->updated;
    r->id = r->rev;
    r->expires = 0;
    r->armed = 0;
    r->meta_len = 0;
    /* Sums wrap rather than overflow: a forged record must not be undefined behaviour. */
    if (f & KV_REC_EXPIRES) {
        r->armed = r->expires = (int64_t)((uint64_t)r->updated + load(p, f & KV_REC_WIDE_EXPIRES));
        p += f & KV_REC_WIDE_EXPIRES ? 8 : 4;
        if (f & KV_REC_ARMED) {
            r->armed = (int64_t)((uint64_t)r->updated + load(p, f & KV_REC_WIDE_EXPIRES));
            p += f & KV_REC_WIDE_EXPIRES ? 8 : 4;
        }
    }
    if (f & KV_REC_BIRTH) {
        r->created = (int64_t)((uint64_t)r->updated - load(p, f & KV_REC_WIDE));
        r->id = r->rev - load(p + (f & KV_REC_WIDE ? 8 : 4), f & KV_REC_WIDE);
        p += f & KV_REC_WIDE ? 16 : 8;
    }
    if (f & KV_REC_META) {
        uint16_t meta_len;

        memcpy(&meta_len, p, 2);
        r->meta_len = meta_len;
        if (n + key_len + meta_len > size || meta_len > KV_MAX_META)
            return KV_ECORRUPT;
    }
    r->value_len = size - n - key_len - r->meta_len;
    r->key = at + n;
    r->value = r->key + key_len;
    r->meta = r->value + r->value_len;
    return KV_OK;
}
