/* SPDX-License-Identifier: MIT
 *
 * cursor.c - cursors of a listing as text: base64url of a MAC and the key.
 *
 * The MAC binds namespace, prefix, direction and key, so that nothing but a key of this listing can
 * be smuggled in. It is handed out, so it is SipHash: what a client sees must not tell him the key.
 */
#include "store.h"

#include <string.h>

/* ---- SipHash-1-3 ---- */

#define ROTL(x, n) ((x) << (n) | (x) >> (64 - (n)))

#define SIP_ROUND(a, b, c, d)                                                                      \
    do {                                                                                           \
        (a) += (b);                                                                                \
        (c) += (d);                                                                                \
        (b) = ROTL(b, 13) ^ (a);                                                                   \
        (d) = ROTL(d, 16) ^ (c);                                                                   \
        (a) = ROTL(a, 32);                                                                         \
        (c) += (b);                                                                                \
        (a) += (d);                                                                                \
        (b) = ROTL(b, 17) ^ (c);                                                                   \
        (d) = ROTL(d, 21) ^ (a);                                                                   \
        (c) = ROTL(c, 32);                                                                         \
    } while (0)

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint64_t load32(const unsigned char *p)
{
    uint32_t x;

    memcpy(&x, p, sizeof x);
    return x;
}

/* The message is `first` (4 bytes, little-endian) and the bytes. The last block's bytes are loaded
 * as the end of a longer word, so that no byte loop runs for keys of four bytes and more. */
uint64_t kv_siphash(uint64_t seed0, uint64_t seed1, uint32_t first, const void *bytes, size_t len)
{
    uint64_t a = seed0 ^ 0x736f6d6570736575ull;
    uint64_t b = seed1 ^ 0x646f72616e646f6dull;
    uint64_t c = seed0 ^ 0x6c7967656e657261ull;
    uint64_t d = seed1 ^ 0x7465646279746573ull;
    const unsigned char *p = bytes;
    uint64_t m, last = (uint64_t)(len + 4) << 56;
    size_t left;

    if (kv_likely(len >= 4)) {
        m = first | load32(p) << 32;
        d ^= m;
        SIP_ROUND(a, b, c, d);
        a ^= m;
        for (left = len - 4, p += 4; left >= 8; left -= 8, p += 8) {
            m = load64(p);
            d ^= m;
            SIP_ROUND(a, b, c, d);
            a ^= m;
        }
        if (left > 0)
            last |= len >= 8 ? load64(p + left - 8) >> (64 - 8 * left)
                             : load32(p + left - 4) >> (32 - 8 * left);
    } else {
        last |= first;
        for (left = 0; left < len; left++)
            last |= (uint64_t)p[left] << (32 + 8 * left);
    }
    d ^= last;
    SIP_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

/* ---- text ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Binds namespace, prefix, direction and key; the lengths keep them apart. */
static uint64_t mac(kv_ns *ns, const kv_range *r, const char *key, size_t len)
{
    const kv_meta *m = &ns->h->s->meta;
    char buf[KV_MAX_KEY];
    uint32_t plen = r && r->prefix ? r->prefix_len : 0,
             reverse = r && r->flags & KV_REVERSE ? 1u << 31 : 0;
    uint64_t h =
        kv_siphash(m->cursor_key[0], m->cursor_key[1], ns->name_len, ns->name, ns->name_len);

    if (plen > KV_MAX_KEY)
        plen = KV_MAX_KEY;
    if (plen)
        memcpy(buf, r->prefix, plen);
    h = kv_siphash(m->cursor_key[0] ^ h, m->cursor_key[1], plen | reverse, buf, plen);
    return kv_siphash(m->cursor_key[0] ^ h, m->cursor_key[1], (uint32_t)len, key, len);
}

size_t kv_cursor_make(kv_ns *ns, const kv_range *range, const char *key, size_t len, char *out)
{
    unsigned char raw[8 + KV_MAX_KEY];
    uint64_t h;
    size_t n = 8 + len, i, k = 0;
    uint32_t bits;

    if (len > KV_MAX_KEY)
        return 0;
    h = mac(ns, range, key, len);
    memcpy(raw, &h, 8);
    memcpy(raw + 8, key, len);
    for (i = 0; i < n; i += 3) {
        bits = (uint32_t)raw[i] << 16 | (i + 1 < n ? (uint32_t)raw[i + 1] << 8 : 0) |
               (i + 2 < n ? raw[i + 2] : 0);
        out[k++] = alphabet[bits >> 18];
        out[k++] = alphabet[bits >> 12 & 63];
        if (i + 1 < n)
            out[k++] = alphabet[bits >> 6 & 63];
        if (i + 2 < n)
            out[k++] = alphabet[bits & 63];
    }
    return k;
}

int kv_cursor_read(kv_ns *ns, const kv_range *range, const char *text, size_t text_len, char *key,
                   size_t *len)
{
    unsigned char raw[8 + KV_MAX_KEY + 4];
    char again[KV_MAX_CURSOR];
    const char *found;
    uint32_t bits = 0;
    size_t i, n = 0, have = 0;

    if (text_len > (8 + KV_MAX_KEY) * 4 / 3 + 1)
        return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
    for (i = 0; i < text_len; i++) {
        found = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (found == NULL)
            return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
        bits = bits << 6 | (uint32_t)(found - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            raw[n++] = (unsigned char)(bits >> have);
        }
    }
    /* One spelling only: whatever decodes to a key must be what was given out for it. */
    if (n < 9 || kv_cursor_make(ns, range, (char *)raw + 8, n - 8, again) != text_len ||
        memcmp(again, text, text_len) != 0)
        return kv_fail(KV_EBADCURSOR, "not a cursor of this listing");
    memcpy(key, raw + 8, n - 8);
    *len = n - 8;
    return KV_OK;
}
