/* SPDX-License-Identifier: MIT */
/*
 * json_part.h - what the files of json share: looking at bytes, many at a time where the processor
 * can, and the rules of strings and numbers that the scanner has inlined.
 *
 * The only file of json that knows a processor.  -DKV_JSON_PORTABLE leaves the plain C.
 */
#ifndef KV_JSON_PART_H
#define KV_JSON_PART_H

#include "json.h"

#include <string.h>

#if defined(__SSE2__) && !defined(KV_JSON_PORTABLE)
#define KV_JSON_SSE2 1
#include <emmintrin.h>
#else
#define KV_JSON_SSE2 0
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

typedef unsigned char byte;

/* ---- strings ---------------------------------------------------------------------------- */

/* 1 = a byte a string's scan has to look at: control, quote, backslash, not ASCII. */
/* clang-format off */
static const byte special[256] = {
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
};
/* clang-format on */

#define EACH(b) (UINT64_C(0x0101010101010101) * (b))

/* Not 0 when one of eight bytes is special: each term sets a high bit at the first that is. */
static inline uint64_t special8(const byte *p)
{
    uint64_t w, quote, slash;

    memcpy(&w, p, 8);
    quote = w ^ EACH('"');
    slash = w ^ EACH('\\');
    return (((w - EACH(0x20)) & ~w) | ((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash) |
            w) &
           EACH(0x80);
}

#if KV_JSON_SSE2
/* Bit i: byte i of the 16 is special. As signed bytes, whatever is not ASCII is below the space
 * too. */
static inline unsigned specials16(__m128i x)
{
    __m128i quote = _mm_cmpeq_epi8(x, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'));
    __m128i low = _mm_cmplt_epi8(x, _mm_set1_epi8(0x20));

    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), low));
}
#endif

/* The first special byte from p on, or end. */
static inline const byte *skip_plain(const byte *p, const byte *end)
{
#if KV_JSON_SSE2
    while (end - p >= 16) {
        unsigned m = specials16(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (m != 0)
            return p + __builtin_ctz(m);
        p += 16;
    }
    if (end - p >= 8 && !special8(p))
        p += 8;
#else
    while (end - p >= 8 && !special8(p))
        p += 8;
#endif
    while (p < end && !special[*p])
        p++;
    return p;
}

/*
 * Length of the UTF-8 sequence at p, whose first byte is not ASCII; 0 when it is none, -1 when
 * the text ends before that can be told.  Overlong forms, surrogates and what is above U+10FFFF
 * all show in the second byte.
 */
static inline int sequence(const byte *p, const byte *end)
{
    unsigned c = *p, low = 0x80, high = 0xbf;
    int n;

    if (c >= 0xc2 && c < 0xe0) {
        n = 2;
    } else if (c >= 0xe0 && c < 0xf0) {
        n = 3;
        if (c == 0xe0)
            low = 0xa0;
        else if (c == 0xed)
            high = 0x9f;
    } else if (c >= 0xf0 && c < 0xf5) {
        n = 4;
        if (c == 0xf0)
            low = 0x90;
        else if (c == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    if (end - p < 2)
        return -1;
    if (p[1] < low || p[1] > high)
        return 0;
    for (int i = 2; i < n; i++) {
        if (end - p <= i)
            return -1;
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

/* The escape at p, which is a backslash: returns what follows it, or sets *code and returns p. */
const byte *kv_json_scan_escape(const byte *p, const byte *end, int *code);

/*
 * The rest of a string, from behind its opening quote: returns its closing quote, or sets *code
 * and returns the offending byte.  *escaped becomes 1 when there is an escape.
 */
static inline const byte *scan_string(const byte *p, const byte *end, byte *escaped, int *code)
{
    for (;;) {
        p = skip_plain(p, end);
        if (p == end) {
            *code = KV_JSON_EEND;
            return p;
        }
        if (*p == '"')
            return p;
        if (*p == '\\') {
            *escaped = 1;
            p = kv_json_scan_escape(p, end, code);
            if (*code != KV_JSON_OK)
                return *code == KV_JSON_EEND ? end : p;
        } else if (*p < 0x20) {
            *code = KV_JSON_ECONTROL;
            return p;
        } else {
            do {
                int n = sequence(p, end);
                if (n <= 0) {
                    *code = n < 0 ? KV_JSON_EEND : KV_JSON_EUTF8;
                    return n < 0 ? end : p;
                }
                p += n;
            } while (p < end && *p >= 0x80);
        }
    }
}

/* The closing quote of a string that is plain and ends within 16 bytes, as most do; else NULL,
 * which says nothing. */
static inline const byte *short_string(const byte *p, const byte *end)
{
#if KV_JSON_SSE2
    if (end - p >= 16) {
        unsigned m = specials16(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (m != 0 && p[__builtin_ctz(m)] == '"')
            return p + __builtin_ctz(m);
    }
#else
    (void)p;
    (void)end;
#endif
    return NULL;
}

/* The first quote or backslash from p on, or end: all there is to see in a string known to be
 * valid. */
static inline const byte *find_quote(const byte *p, const byte *end)
{
#if KV_JSON_SSE2
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');

    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        int m = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)));
        if (m != 0)
            return p + __builtin_ctz((unsigned)m);
        p += 16;
    }
#endif
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* Where in 64 bytes there is what; bit i is byte i. */
struct marks {
    uint64_t quote, slash, open, close;
};

#if KV_JSON_SSE2
static inline uint64_t equal16(__m128i x, char c)
{
    return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8(c)));
}
#endif

static inline void mark64(const byte *p, struct marks *m)
{
    m->quote = m->slash = m->open = m->close = 0;
#if KV_JSON_SSE2
    for (int i = 0; i < 64; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        /* [ and { differ in this bit, and so do ] and }. */
        __m128i y = _mm_or_si128(x, _mm_set1_epi8(0x20));
        m->quote |= equal16(x, '"') << i;
        m->slash |= equal16(x, '\\') << i;
        m->open |= equal16(y, '{') << i;
        m->close |= equal16(y, '}') << i;
    }
#else
    for (int i = 0; i < 64; i++) {
        uint64_t bit = UINT64_C(1) << i;
        switch (p[i]) {
        case '"':
            m->quote |= bit;
            break;
        case '\\':
            m->slash |= bit;
            break;
        case '[':
        case '{':
            m->open |= bit;
            break;
        case ']':
        case '}':
            m->close |= bit;
        }
    }
#endif
}

/* ---- numbers ------------------------------------------------------------------------------ */

#define IS_DIGIT(c) ((unsigned)(c) - '0' < 10)

/*
 * The number at p, which is a digit or a minus: returns what follows it, or sets *code and
 * returns the offending byte.  *large becomes 1 when its value must be looked at, because only a
 * number with 300 digits or an exponent of three can be too large.
 */
static inline const byte *scan_number(const byte *p, const byte *end, byte *large, int *code)
{
    const byte *start = p;

    if (*p == '-' && ++p == end)
        goto cut;
    if (*p == '0')
        p++;
    else if (IS_DIGIT(*p))
        do
            p++;
        while (p < end && IS_DIGIT(*p));
    else
        goto wrong;
    if (p < end && *p == '.') {
        if (++p == end)
            goto cut;
        if (!IS_DIGIT(*p))
            goto wrong;
        do
            p++;
        while (p < end && IS_DIGIT(*p));
    }
    if (p < end && (*p | 0x20) == 'e') {
        const byte *digits;
        if (++p < end && (*p == '+' || *p == '-'))
            p++;
        if (p == end)
            goto cut;
        if (!IS_DIGIT(*p))
            goto wrong;
        digits = p;
        do
            p++;
        while (p < end && IS_DIGIT(*p));
        if (p - digits > 2)
            *large = 1;
    }
    if (p - start >= 300)
        *large = 1;
    return p;
cut:
    *code = KV_JSON_EEND;
    return end;
wrong:
    *code = KV_JSON_ENUMBER;
    return p;
}

/* What follows the number at p, when it is one of the usual: up to 16 digits, and up to 16 behind a
 * point; else NULL, which says nothing. */
static inline const byte *short_number(const byte *p, const byte *end)
{
    const byte *start;

    if (end - p < 40)
        return NULL;
    p += *p == '-';
    start = p;
    while (IS_DIGIT(*p) && p - start < 17)
        p++;
    if (p == start || p - start > 16 || (*start == '0' && p - start > 1))
        return NULL;
    if (*p == '.') {
        start = ++p;
        while (IS_DIGIT(*p) && p - start < 17)
            p++;
        if (p == start || p - start > 16)
            return NULL;
    }
    return (*p | 0x20) != 'e' ? p : NULL;
}

/* Whether the number [p, end), which scan_number accepted, is too large for a double. */
int kv_json_too_large(const byte *p, const byte *end);

/* ---- white space -------------------------------------------------------------------------- */

static inline const byte *skip_space(const byte *p, const byte *end)
{
    while (p < end && *p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
