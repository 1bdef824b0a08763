/* SPDX-License-Identifier: MIT
 *
 * test_crc32c.c - CRC-32C against published values, a bit-by-bit model, and itself in pieces.
 *
 * What this processor uses, what a lesser one would and the portable code must agree for each
 * length, alignment and seed.
 */
#define _GNU_SOURCE
#include "crc32c.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

#define BUFFER 8192

static uint64_t seed = 20260101;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* The definition, a bit at a time. */
static uint32_t model(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static int agree(uint32_t crc, const unsigned char *p, size_t n)
{
    uint32_t want = model(crc, p, n);
    return kv_crc32c(crc, p, n) == want && kv_crc32c_portable(crc, p, n) == want &&
           (kv_test_crc32c_plain == NULL || kv_test_crc32c_plain(crc, p, n) == want);
}

/* RFC 3720, B.4, and the usual check value. */
static void published(void)
{
    unsigned char b[32];
    CHECK(kv_crc32c(0, "123456789", 9) == 0xe3069283u);
    CHECK(kv_crc32c_portable(0, "123456789", 9) == 0xe3069283u);
    memset(b, 0, sizeof b);
    CHECK(kv_crc32c(0, b, 32) == 0x8a9136aau && agree(0, b, 32));
    memset(b, 0xff, sizeof b);
    CHECK(kv_crc32c(0, b, 32) == 0x62a8ab43u && agree(0, b, 32));
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)i;
    CHECK(kv_crc32c(0, b, 32) == 0x46dd794eu && agree(0, b, 32));
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)(31 - i);
    CHECK(kv_crc32c(0, b, 32) == 0x113fdb5cu && agree(0, b, 32));
}

static void nothing(void)
{
    CHECK(kv_crc32c(0, NULL, 0) == 0);
    CHECK(kv_crc32c_portable(0, NULL, 0) == 0);
    CHECK(kv_crc32c(0x12345678u, NULL, 0) == 0x12345678u);
    CHECK(kv_crc32c_portable(0x12345678u, NULL, 0) == 0x12345678u);
}

/* Each on a heap block of its own size, so that a sanitizer sees a read past the end. */
static void short_lengths(const unsigned char *random)
{
    for (size_t n = 0; n <= 300; n++) {
        unsigned char *exact = malloc(n + 1);
        if (!CHECK(exact != NULL))
            return;
        memcpy(exact + 1, random, n);
        CHECK(agree((uint32_t)chance(), exact + 1, n));
        free(exact);
    }
}

/* Every length, so every way of dealing words out to lanes; each wanted value from the last by one
 * byte more. */
static void every_length(const unsigned char *random)
{
    static const uint32_t seeds[] = {0, 0xffffffffu, 0x80000000u, 1, 0x5bd1e995u};
    static const size_t at[] = {0, 4, 1, 7, 59};
    for (int k = 0; k < 5; k++) {
        const unsigned char *p = random + at[k];
        uint32_t want = seeds[k];
        size_t wrong = 0;
        for (size_t n = 0; n <= 4200; n++) {
            wrong += kv_crc32c(seeds[k], p, n) != want;
            want = kv_crc32c_portable(want, p + n, 1);
        }
        CHECK(wrong == 0 && want == kv_crc32c_portable(seeds[k], p, 4201));
    }
}

/* Around where turns of the lanes begin, of either code, once and several times. */
static void lanes(const unsigned char *random)
{
    for (size_t turns = 1; turns <= 3; turns++)
        for (size_t n = turns * 1536 - 9; n <= turns * 1536 + 9; n++)
            CHECK(agree((uint32_t)chance(), random + n % 8, n) &&
                  agree((uint32_t)chance(), random + n % 8, n + turns * 48));
}

static void any_length(const unsigned char *random)
{
    for (int i = 0; i < 2000; i++) {
        size_t at = chance() % 64, n = chance() % (BUFFER - 64);
        CHECK(agree((uint32_t)chance(), random + at, n));
    }
}

static void pieces(const unsigned char *random)
{
    uint32_t whole = kv_crc32c(7, random, BUFFER);
    for (int i = 0; i < 200; i++) {
        uint32_t crc = 7, portable = 7;
        for (size_t at = 0, n; at < BUFFER; at += n) {
            n = 1 + chance() % 4000;
            if (n > BUFFER - at)
                n = BUFFER - at;
            crc = kv_crc32c(crc, random + at, n);
            portable = kv_crc32c_portable(portable, random + at, n);
        }
        CHECK(crc == whole && portable == whole);
    }
}

static void every_bit_counts(unsigned char *random)
{
    uint32_t before = kv_crc32c(0, random, 2000);
    for (size_t bit = 0; bit < 2000 * 8; bit += 7) {
        random[bit / 8] ^= (unsigned char)(1u << bit % 8);
        CHECK(kv_crc32c(0, random, 2000) != before);
        random[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK(kv_crc32c(0, random, 2000) == before);
}

int main(void)
{
    static unsigned char random[BUFFER];
    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (unsigned char)chance();
    published();
    nothing();
    short_lengths(random);
    every_length(random);
    lanes(random);
    any_length(random);
    pieces(random);
    every_bit_counts(random);
    return check_done("test_crc32c");
}
