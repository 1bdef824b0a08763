/* SPDX-License-Identifier: MIT
 *
 * test_record.c - coding of log records: what goes in comes out, at every limit; a record with any
 * byte changed, cut short, moved, or of another segment is refused; forged ones stay in bounds.
 */
#define _GNU_SOURCE
#include "check.h"
#include "crc32c.h"
#include "record.h"

#include <stdlib.h>
#include <string.h>

#define ROOM (KV_REC_MAX_HEAD + KV_MAX_KEY + 4096 + KV_MAX_META + 8)

static uint64_t seed;

static uint64_t roll(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * 0x2545f4914f6cdd1dull >> 11) % below;
}

static char noise[8192];

/* Around the limits of the short forms as often as anywhere. */
static uint64_t some(uint64_t most)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     255,
                                     65535,
                                     UINT32_MAX - 1ull,
                                     UINT32_MAX,
                                     UINT32_MAX + 1ull,
                                     1ull << 40,
                                     (1ull << 40) - 1,
                                     UINT64_MAX};
    uint64_t v = roll(3) ? edges[roll(10)] : seed;

    if (roll(3) == 0)
        v = roll(1000000);
    return most == UINT64_MAX ? v : v % (most + 1);
}

static void random_record(kv_rec *r)
{
    static const int64_t times[] = {0,
                                    -1,
                                    1577836800000LL,
                                    1577836799999LL,
                                    1577836800000LL + (1LL << 40) - 1,
                                    1577836800000LL + (1LL << 40),
                                    KV_MAX_TIME,
                                    -KV_MAX_TIME,
                                    1900000000000LL};

    memset(r, 0, sizeof *r);
    r->kind = (uint8_t)(KV_REC_PUT + roll(4));
    r->type = (uint8_t)roll(8);
    r->blob = (uint8_t)roll(2);
    r->more = (uint8_t)roll(2);
    r->ns = (uint32_t)(roll(2) ? roll(300) : some(UINT32_MAX));
    r->rev = some(UINT64_MAX);
    r->id = roll(2) ? r->rev : some(r->rev);
    r->updated = roll(4) ? 1600000000000LL + (int64_t)roll(1000000000000) : times[roll(9)];
    r->created = roll(2) ? r->updated : r->updated - (int64_t)some(1ull << 50);
    if (roll(8) == 0)
        r->created = r->updated + (int64_t)roll(100000); /* the clock went back */
    if (roll(2)) {
        r->expires = r->updated + (int64_t)some(1ull << 50);
        r->expires += r->expires == 0;
        r->armed = roll(2) ? r->expires : r->updated + (int64_t)some(1ull << 45) - (int64_t)roll(5);
    }
    r->key_len = (uint32_t)(roll(4) ? roll(40) : roll(KV_MAX_KEY + 1));
    r->value_len = (uint32_t)(roll(4) ? roll(100) : roll(4096));
    r->meta_len = (uint32_t)(roll(3) ? 0 : roll(4) ? roll(60) : roll(KV_MAX_META + 1));
    r->key = noise + roll(1000);
    r->value = noise + roll(1000);
    r->meta = noise + roll(1000);
}

static int same(const kv_rec *a, const kv_rec *b)
{
    return a->kind == b->kind && a->type == b->type && a->blob == b->blob && a->more == b->more &&
           a->ns == b->ns && a->rev == b->rev && a->id == b->id && a->created == b->created &&
           a->updated == b->updated && a->expires == b->expires &&
           (a->expires == 0 || a->armed == b->armed) && a->key_len == b->key_len &&
           a->value_len == b->value_len && a->meta_len == b->meta_len &&
           memcmp(a->key, b->key, a->key_len) == 0 &&
           memcmp(a->value, b->value, a->value_len) == 0 &&
           memcmp(a->meta, b->meta, a->meta_len) == 0;
}

/* Encoded into memory that ends where the record does, so that a sanitizer sees what is read behind
 * it. */
static char *encode(kv_rec *r, uint32_t with, uint32_t *size)
{
    char *p;

    *size = kv_rec_measure(r);
    p = malloc(kv_rec_align(*size));
    if (p == NULL)
        exit(1);
    memset(p, 0xa5, kv_rec_align(*size));
    kv_rec_encode(r, with, p);
    return p;
}

static void round_trips(long n)
{
    long i, different = 0, unaligned = 0, elsewhere = 0;

    for (i = 0; i < n; i++) {
        uint32_t with = (uint32_t)roll(UINT32_MAX), size;
        kv_rec r, out;
        char *p;

        random_record(&r);
        p = encode(&r, with, &size);
        memset(&out, 0xee, sizeof out);
        different += kv_rec_decode(p, kv_rec_align(size), with, &out) != KV_OK || !same(&r, &out);
        different += kv_rec_decode(p, size, with, &out) != KV_OK || !same(&r, &out);
        different += kv_rec_peek_len(p) != size || size < KV_REC_MIN;
        for (; size % KV_REC_ALIGN; size++)
            unaligned += p[size] != 0;
        elsewhere += kv_rec_decode(p, size, with ^ 1u << roll(32), &out) == KV_OK;
        free(p);
    }
    CHECK(different == 0);
    CHECK(unaligned == 0);
    CHECK(elsewhere == 0);
}

/* Every bit, every length. */
static void refusals(long n)
{
    long i, taken = 0, cases = 0;

    for (i = 0; i < n; i++) {
        uint32_t with = (uint32_t)roll(UINT32_MAX), size, off, len;
        kv_rec r, out;
        char *p, *q;
        int bit;

        random_record(&r);
        r.value_len %= 50;
        r.key_len %= 20;
        r.meta_len %= 20;
        p = encode(&r, with, &size);
        for (off = 0; off < size; off++)
            for (bit = 0; bit < 8; bit++, cases++) {
                p[off] = (char)(p[off] ^ 1 << bit);
                taken += kv_rec_decode(p, size, with, &out) == KV_OK;
                p[off] = (char)(p[off] ^ 1 << bit);
            }
        for (off = 0; off < size; off++, cases += 2) {
            char was = p[off];

            p[off] = 0;
            taken += was != 0 && kv_rec_decode(p, size, with, &out) == KV_OK;
            p[off] = (char)0xff;
            taken += was != (char)0xff && kv_rec_decode(p, size, with, &out) == KV_OK;
            p[off] = was;
        }
        for (len = 0; len < size; len++, cases++) {
            q = malloc(len ? len : 1);
            memcpy(q, p, len);
            taken += kv_rec_decode(q, len, with, &out) == KV_OK;
            free(q);
        }
        /* The same bytes at another place. */
        for (off = 4; off < 400; off += 4, cases++)
            taken += kv_rec_decode(p, size, kv_rec_seed(with, off), &out) == KV_OK &&
                     kv_rec_seed(with, off) != with;
        free(p);
    }
    CHECK(taken == 0);
    check_count += (int)(cases > 1000000000 ? 1000000000 : cases);
}

/* Bytes whose checksum is right and whose contents are not: in bounds, whatever they say. */
static void forged(long n)
{
    long i, taken = 0, outside = 0;

    for (i = 0; i < n; i++) {
        uint32_t with = (uint32_t)roll(UINT32_MAX), size = KV_REC_MIN + (uint32_t)roll(200), word,
                 k;
        uint32_t crc;
        kv_rec out;
        char *p = malloc(size);

        if (p == NULL)
            exit(1);
        for (k = 0; k < size; k++)
            p[k] = (char)roll(256);
        word = size | (uint32_t)roll(8) << 24;
        memcpy(p + 4, &word, 4);
        p[8] = (char)roll(roll(8) ? 128 : 256);
        if (roll(2))
            p[p[8] & KV_REC_LONG ? 10 : 9] = 0; /* a short key */
        crc = kv_rec_crc(p, size, with);
        memcpy(p, &crc, 4);
        if (kv_rec_decode(p, size, with, &out) == KV_OK) {
            taken++;
            outside += out.key < p || out.key + out.key_len > p + size || out.value < p ||
                       out.value + out.value_len > p + size || out.meta < p ||
                       out.meta + out.meta_len > p + size || out.key_len > KV_MAX_KEY ||
                       out.meta_len > KV_MAX_META || out.kind < KV_REC_PUT ||
                       out.kind > KV_REC_DROP;
        }
        free(p);
    }
    CHECK(taken > n / 100);
    CHECK(outside == 0);
}

static void limits(void)
{
    static char zeros[4096];
    kv_rec r, out;
    uint32_t size, n;
    char *big = calloc(1, KV_REC_MAX + 8u), *p;

    /* Space that was allocated and never written is no record, whatever its seed. */
    for (n = 0; n < 100; n++)
        CHECK(kv_rec_decode(zeros, sizeof zeros, (uint32_t)roll(UINT32_MAX), &out) == KV_ECORRUPT);
    CHECK(kv_rec_decode(zeros, 0, 0, &out) == KV_ECORRUPT);

    memset(&r, 0, sizeof r);
    r.kind = KV_REC_PUT;
    r.type = KV_STRING;
    r.rev = r.id = 1;
    r.created = r.updated = 1900000000000LL;
    r.key = "k";
    r.key_len = 1;
    r.value = r.meta = "";
    CHECK(kv_rec_measure(&r) == KV_REC_MIN + 1);
    /* As large as a record can be, and one more. */
    r.value = big;
    r.value_len = KV_REC_MAX - KV_REC_MIN - 1;
    p = encode(&r, 7, &size);
    CHECK(size == KV_REC_MAX && kv_rec_decode(p, size, 7, &out) == KV_OK && same(&r, &out));
    free(p);
    r.value_len++;
    CHECK(kv_rec_measure(&r) == 0);
    r.value_len = UINT32_MAX;
    CHECK(kv_rec_measure(&r) == 0);
    free(big);

    /* What nearly all records are stays small. */
    r.value_len = 0;
    r.expires = r.armed = r.updated + 3600000;
    CHECK(kv_rec_measure(&r) == KV_REC_MIN + 5);
    r.id = 0;
    CHECK(kv_rec_measure(&r) == KV_REC_MIN + 13);
    /* A revision that is short, of a record whose first one is far from it. */
    r.rev = 7;
    r.id = (uint64_t)1 << 40;
    p = encode(&r, 7, &size);
    CHECK(kv_rec_decode(p, size, 7, &out) == KV_OK && out.rev == r.rev && out.id == r.id);
    free(p);
    r.rev = (uint64_t)1 << 20;
    r.id = 0;
    CHECK(kv_rec_index_ns(&r) == r.ns);
    r.kind = KV_REC_NAME;
    r.ns = 9;
    CHECK(kv_rec_index_ns(&r) == 0);
}

int main(void)
{
    const char *given = getenv("SEED");
    long scale = getenv("KV_SHORT") ? 1 : getenv("KV_LONG") ? 400 : 20;
    size_t i;

    if (given)
        seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&seed, sizeof seed);
    seed |= 1;
    printf("test_record: SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (i = 0; i < sizeof noise; i++)
        noise[i] = (char)roll(256);
    limits();
    round_trips(5000 * scale);
    refusals(25 * scale);
    forged(20000 * scale);
    return check_done("test_record");
}
