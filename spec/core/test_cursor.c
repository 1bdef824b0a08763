/* SPDX-License-Identifier: MIT
 *
 * test_cursor.c - the MAC of cursors against SipHash as its authors describe it. What cursors do is
 * in test_store.c.
 */
#define _GNU_SOURCE
#include "check.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

/* SipHash-c-d as its authors describe it, byte by byte. */
static uint64_t sip(int c, int d, uint64_t k0, uint64_t k1, const unsigned char *p, size_t len)
{
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull,
                     k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull};
    size_t at = 0;
    int i, last = 0;

    while (!last) {
        uint64_t m = 0;
        int rounds = c;

        for (i = 0; i < 8 && at < len; i++)
            m |= (uint64_t)p[at++] << 8 * i;
        if (i < 8) {
            m |= (uint64_t)len << 56;
            last = 1;
        }
        v[3] ^= m;
        for (;;) {
            for (i = 0; i < rounds; i++) {
                v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
                v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
                v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
                v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
            }
            if (rounds == d && last == 2)
                break;
            v[0] ^= m;
            if (!last)
                break;
            v[2] ^= 0xff;
            rounds = d;
            last = 2;
            m = 0;
        }
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int main(void)
{
    unsigned char text[80];
    uint64_t state = 88172645463325252u;
    uint32_t first;
    size_t len, i;

    for (i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)i;
    /* The example in the paper. */
    CHECK(sip(2, 4, 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull, text, 15) ==
          0xa129ca6149be45e5ull);
    for (len = 4; len <= sizeof text; len++) {
        unsigned char *key = malloc(len - 4 + 1); /* so that reading beyond it shows */

        for (i = 0; i < sizeof text; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text[i] = (unsigned char)(state >> 32);
        }
        memcpy(&first, text, 4);
        memcpy(key, text + 4, len - 4);
        key = realloc(key, len - 4 ? len - 4 : 1);
        CHECK(kv_siphash(len, ~len, first, key, len - 4) == sip(1, 3, len, ~len, text, len));
        free(key);
    }
    return check_done("test_cursor");
}
