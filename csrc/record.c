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

enum {
    HAS_META = 1,
    HAS_EXPIRES = 2,
    WIDE_EXPIRES = 4,
    HAS_BIRTH = 8,
    WIDE = 16,
    HAS_ARMED = 32,
    ALL_FLAGS = 63
};

#define EPOCH_2020 1577836800000LL

static int fits32(int64_t v)
{
    return v >= 0 && v <= (int64_t)UINT32_MAX;
}

static uint8_t flags_of(const kv_rec *r)
{
    uint8_t f = 0;
    int64_t since = r->updated - EPOCH_2020;

    if (r->meta_len)
        f |= HAS_META;
    if (r->expires) {
        f |= HAS_EXPIRES;
        if (r->armed != r->expires)
            f |= HAS_ARMED;
        if (!fits32(r->expires - r->updated) || !fits32(r->armed - r->updated))
            f |= WIDE_EXPIRES;
    }
    if (r->created != r->updated || r->id != r->rev)
        f |= HAS_BIRTH;
    if (r->rev > UINT32_MAX || since < 0 || since >> 40 || !fits32(r->updated - r->created) ||
        r->rev - r->id > UINT32_MAX)
        f |= WIDE;
    return f;
}

static uint32_t head_size(uint8_t f)
{
    uint32_t n = 16 + (f & WIDE ? 16 : 9);

    if (f & HAS_EXPIRES)
        n += f & WIDE_EXPIRES ? 8 : 4;
    if (f & HAS_ARMED)
        n += f & WIDE_EXPIRES ? 8 : 4;
    if (f & HAS_BIRTH)
        n += f & WIDE ? 16 : 8;
    if (f & HAS_META)
        n += 2;
    return n;
}

uint32_t kv_rec_size(const kv_rec *r)
{
    uint64_t n = (uint64_t)head_size(flags_of(r)) + r->key_len + r->value_len + r->meta_len;

    return n > KV_REC_MAX ? 0 : (uint32_t)n;
}

static char *put(char *p, uint64_t v, unsigned bytes)
{
    memcpy(p, &v, bytes);
    return p + bytes;
}

static uint64_t take(const char **p, unsigned bytes)
{
    uint64_t v = 0;

    memcpy(&v, *p, bytes);
    *p += bytes;
    return v;
}

/* The header is built in a local buffer, so that the shared bytes are written once, in order. */
void kv_rec_encode(const kv_rec *r, uint32_t size, uint32_t seed, char *to)
{
    char head[KV_REC_MAX_HEAD];
    uint8_t f = flags_of(r);
    unsigned wide = f & WIDE ? 8 : 4, wide_exp = f & WIDE_EXPIRES ? 8 : 4;
    char *p = head + 4;
    uint32_t crc, n;

    p = put(p, size | (uint32_t)r->kind << 24, 4);
    *p++ = (char)f;
    *p++ = (char)(r->type | (r->blob ? KV_REC_BLOB : 0) | (r->more ? KV_REC_MORE : 0));
    p = put(p, r->key_len, 2);
    p = put(p, r->ns, 4);
    p = put(p, r->rev, wide);
    if (f & WIDE)
        p = put(p, (uint64_t)r->updated, 8);
    else
        p = put(p, (uint64_t)(r->updated - EPOCH_2020), 5);
    if (f & HAS_EXPIRES)
        p = put(p, (uint64_t)(r->expires - r->updated), wide_exp);
    if (f & HAS_ARMED)
        p = put(p, (uint64_t)(r->armed - r->updated), wide_exp);
    if (f & HAS_BIRTH) {
        p = put(p, (uint64_t)(r->updated - r->created), wide);
        p = put(p, r->rev - r->id, wide);
    }
    if (f & HAS_META)
        p = put(p, r->meta_len, 2);
    n = (uint32_t)(p - head);
    kv_test_store();
    memcpy(to + n, r->key, r->key_len);
    if (r->value_len)
        memcpy(to + n + r->key_len, r->value, r->value_len);
    if (r->meta_len)
        memcpy(to + n + r->key_len + r->value_len, r->meta, r->meta_len);
    kv_test_store(); /* a writer may die with any part of this done */
    memcpy(to + 4, head + 4, n - 4);
    memset(to + size, 0, kv_rec_align(size) - size);
    crc = kv_crc32c(seed, to + 4, size - 4);
    memcpy(to, &crc, 4);
}

int kv_rec_decode(const char *at, uint32_t avail, uint32_t seed, kv_rec *r)
{
    const char *p = at;
    uint32_t crc, word, size, n;
    uint8_t f, type;
    unsigned wide, wide_exp;

    if (avail < KV_REC_MIN)
        return KV_ECORRUPT;
    crc = (uint32_t)take(&p, 4);
    word = (uint32_t)take(&p, 4);
    size = word & 0xffffff;
    if (size < KV_REC_MIN || size > avail)
        return KV_ECORRUPT;
    if (!KV_IS_BUG(6) && kv_crc32c(seed, at + 4, size - 4) != crc)
        return KV_ECORRUPT;
    r->kind = (uint8_t)(word >> 24);
    f = (uint8_t)*p++;
    type = (uint8_t)*p++;
    r->key_len = (uint32_t)take(&p, 2);
    r->ns = (uint32_t)take(&p, 4);
    n = head_size(f);
    if (r->kind < KV_REC_PUT || r->kind > KV_REC_DROP || f & ~ALL_FLAGS ||
        (f & HAS_ARMED && !(f & HAS_EXPIRES)) || r->key_len > KV_MAX_KEY || n + r->key_len > size)
        return KV_ECORRUPT;
    wide = f & WIDE ? 8 : 4;
    wide_exp = f & WIDE_EXPIRES ? 8 : 4;
    r->type = type & 15;
    r->blob = (type & KV_REC_BLOB) != 0;
    r->more = (type & KV_REC_MORE) != 0;
    r->rev = take(&p, wide);
    r->updated = f & WIDE ? (int64_t)take(&p, 8) : (int64_t)take(&p, 5) + EPOCH_2020;
    /* Sums wrap rather than overflow: a forged record must not be undefined behaviour. */
    r->expires = f & HAS_EXPIRES ? (int64_t)((uint64_t)r->updated + take(&p, wide_exp)) : 0;
    r->armed = f & HAS_ARMED ? (int64_t)((uint64_t)r->updated + take(&p, wide_exp)) : r->expires;
    r->created = r->updated;
    r->id = r->rev;
    if (f & HAS_BIRTH) {
        r->created = (int64_t)((uint64_t)r->updated - take(&p, wide));
        r->id = r->rev - take(&p, wide);
    }
    r->meta_len = f & HAS_META ? (uint32_t)take(&p, 2) : 0;
    if (n + r->key_len + r->meta_len > size || r->meta_len > KV_MAX_META)
        return KV_ECORRUPT;
    r->value_len = size - n - r->key_len - r->meta_len;
    r->key = p;
    r->value = p + r->key_len;
    r->meta = r->value + r->value_len;
    return KV_OK;
}
