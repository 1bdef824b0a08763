/* SPDX-License-Identifier: MIT */
/*
 * json.c - the JSON scanner, strings and numbers.
 *
 * Invariant: no byte outside [text, text + len) is ever read, and what kv_json_check accepts is
 * exactly what kv_json_next walks through; the two share every rule below the punctuation.
 * Order: strings, numbers (text to double, double to text), check, scan.
 */
#include "json.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef unsigned char byte;

const char *kv_json_strerror(int code)
{
    switch (code) {
    case KV_JSON_OK:
        return "no error";
    case KV_JSON_EEND:
        return "unexpected end of text";
    case KV_JSON_ESYNTAX:
        return "unexpected character";
    case KV_JSON_ETAIL:
        return "something follows the value";
    case KV_JSON_ENUMBER:
        return "malformed number";
    case KV_JSON_ERANGE:
        return "number too large";
    case KV_JSON_ECONTROL:
        return "control character in a string";
    case KV_JSON_EESCAPE:
        return "invalid escape in a string";
    case KV_JSON_EUTF8:
        return "string is not UTF-8";
    case KV_JSON_EDEPTH:
        return "nested deeper than 128 levels";
    }
    return "unknown error";
}

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

/* The first special byte from p on, or end. */
static inline const byte *skip_plain(const byte *p, const byte *end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(0x20);

    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* As signed bytes, whatever is not ASCII is below the space too. */
        int m = _mm_movemask_epi8(
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)),
                         _mm_cmplt_epi8(x, space)));
        if (m != 0)
            return p + __builtin_ctz((unsigned)m);
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

int kv_json_utf8(const char *bytes, size_t len, size_t *bad)
{
    const byte *p = (const byte *)bytes, *end = p + len;

    while (p < end) {
        if (end - p >= 8) {
            uint64_t w;
            memcpy(&w, p, 8);
            if ((w & EACH(0x80)) == 0) {
                p += 8;
                continue;
            }
        }
        if (*p < 0x80) {
            p++;
        } else {
            int n = sequence(p, end);
            if (n <= 0) {
                if (bad != NULL)
                    *bad = (size_t)(p - (const byte *)bytes);
                return KV_JSON_EUTF8;
            }
            p += n;
        }
    }
    return KV_JSON_OK;
}

static inline int hex_digit(byte c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits; -1 when they are none, -2 when the text ends within. */
static int hex4(const byte *p, const byte *end)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        int digit;
        if (end - p <= i)
            return -2;
        digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The escape at p, which is a backslash: returns what follows it, or sets *code and returns p. */
static const byte *scan_escape(const byte *p, const byte *end, int *code)
{
    int unit;

    *code = KV_JSON_EEND;
    if (end - p < 2)
        return p;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        *code = KV_JSON_OK;
        return p + 2;
    case 'u':
        break;
    default:
        *code = KV_JSON_EESCAPE;
        return p;
    }
    unit = hex4(p + 2, end);
    if (unit >= 0 && (unit & 0xf800) != 0xd800) {
        *code = KV_JSON_OK;
        return p + 6;
    }
    if (unit == -2)
        return p;
    *code = KV_JSON_EESCAPE;
    if (unit == -1 || unit >= 0xdc00)
        return p;
    /* A high surrogate: only a low one may follow. */
    if ((end - p > 6 && p[6] != '\\') || (end - p > 7 && p[7] != 'u'))
        return p;
    unit = end - p > 7 ? hex4(p + 8, end) : -2;
    if (unit == -2) {
        *code = KV_JSON_EEND;
        return p;
    }
    if (unit < 0xdc00 || unit > 0xdfff)
        return p;
    *code = KV_JSON_OK;
    return p + 12;
}

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
            p = scan_escape(p, end, code);
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

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | (c >> 6));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | (c >> 12));
        *out++ = (char)(0x80 | ((c >> 6) & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | (c >> 18));
        *out++ = (char)(0x80 | ((c >> 12) & 0x3f));
        *out++ = (char)(0x80 | ((c >> 6) & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

size_t kv_json_unescape(const char *text, size_t len, char *out)
{
    const char *p = text, *end = text + len;
    char *to = out;

    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash != NULL ? slash : end) - p);
        int unit;

        memmove(to, p, plain);
        to += plain;
        p += plain;
        if (end - p < 2)
            break;
        switch (p[1]) {
        case 'b':
            *to++ = '\b';
            break;
        case 'f':
            *to++ = '\f';
            break;
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 't':
            *to++ = '\t';
            break;
        default: /* quote, backslash, slash */
            *to++ = p[1];
            break;
        case 'u':
            unit = hex4((const byte *)p + 2, (const byte *)end);
            if (unit < 0)
                return (size_t)(to - out);
            if ((unit & 0xfc00) == 0xd800 && end - p >= 12) {
                int low = hex4((const byte *)p + 8, (const byte *)end);
                if (low >= 0)
                    unit = 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
                p += 6;
            }
            to = put_utf8(to, (unsigned)unit);
            p += 4;
            break;
        }
        p += 2;
    }
    return (size_t)(to - out);
}

/* What stands behind the backslash for a byte below 0x60 that needs one; 'u' = \u00xx. */
static inline byte short_escape(byte c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    }
    return 'u';
}

int kv_json_escape_size(const char *bytes, size_t len, size_t *size)
{
    const byte *p = (const byte *)bytes, *end = p + len;
    size_t more = 0;

    /* Most strings of a program are short and plain: two loads that may overlap see them all. */
    if (len >= 8 && len <= 16) {
        if (!(special8(p) | special8(end - 8))) {
            *size = len;
            return KV_JSON_OK;
        }
    }
    for (;;) {
        p = skip_plain(p, end);
        if (p == end) {
            *size = len + more;
            return KV_JSON_OK;
        }
        if (*p < 0x80) {
            more += short_escape(*p++) == 'u' ? 5 : 1;
        } else {
            do {
                int n = sequence(p, end);
                if (n <= 0) {
                    *size = (size_t)(p - (const byte *)bytes);
                    return KV_JSON_EUTF8;
                }
                p += n;
            } while (p < end && *p >= 0x80);
        }
    }
}

size_t kv_json_escape(const char *bytes, size_t len, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const byte *p = (const byte *)bytes, *end = p + len;
    char *to = out;

    while (p < end) {
        const byte *plain = skip_plain(p, end);
        byte c;

        while (plain < end && *plain >= 0x80)
            plain++;
        memcpy(to, p, (size_t)(plain - p));
        to += plain - p;
        p = plain;
        if (p == end || !special[*p])
            continue;
        c = short_escape(*p);
        *to++ = '\\';
        *to++ = (char)c;
        if (c == 'u') {
            *to++ = '0';
            *to++ = '0';
            *to++ = hex[*p >> 4];
            *to++ = hex[*p & 15];
        }
        p++;
    }
    return (size_t)(to - out);
}

/* ---- numbers: text to value --------------------------------------------------------------- */

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

/* Powers of ten that a double holds exactly. */
static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#define TEN_MAX 22

/* Where double arithmetic is done in doubles, one operation on exact operands rounds correctly. */
#define EXACT_DOUBLES (FLT_EVAL_METHOD == 0)

/* The x87 format: 64 bits of precision, and cheap. */
#define LONG_DOUBLES (LDBL_MANT_DIG == 64)

#if LONG_DOUBLES
static const long double ten_long[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,
                                       1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
                                       1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L,
                                       1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
#define TEN_LONG_MAX 27
#endif

/* digits * 10^exponent, correctly rounded, where that is quick; 0 when it is not. */
static inline int make_double(uint64_t digits, int64_t exponent, double *value)
{
    if (EXACT_DOUBLES && digits <= UINT64_C(1) << 53 && exponent >= -TEN_MAX &&
        exponent <= TEN_MAX) {
        double d = (double)(int64_t)digits;
        *value = exponent < 0 ? d / ten[-exponent] : d * ten[exponent];
        return 1;
    }
#if LONG_DOUBLES
    if (digits < UINT64_C(1) << 63 && exponent >= -TEN_LONG_MAX && exponent <= TEN_LONG_MAX) {
        long double d = (long double)(int64_t)digits;
        uint64_t bits;
        d = exponent < 0 ? d / ten_long[-exponent] : d * ten_long[exponent];
        memcpy(&bits, &d, sizeof(bits));
        /*
         * d is the true value rounded to 64 bits.  Rounding it on to 53 goes wrong only if d lies
         * exactly between two doubles and the true value beside it.
         */
        if ((bits & 0x7ff) == 0x400)
            return 0;
        *value = (double)d;
        return 1;
    }
#endif
    return 0;
}

/*
 * A double is told from its neighbours by 768 digits at most; of what follows only matters
 * whether it is zero.
 */
#define DIGITS_MAX 768

/*
 * The long way: strtod, which rounds correctly, on a spelling without a decimal point (the
 * locale's cannot differ then).  `p` is the text behind the sign, known to be a number.
 */
static double slow_double(const byte *p, const byte *end)
{
    char spelled[DIGITS_MAX + 32], *to = spelled;
    int64_t exponent = 0, power = 0;
    int point = 0, rest = 0, negative = 0, saved = errno;
    double value;

    for (; p < end && (IS_DIGIT(*p) || *p == '.'); p++) {
        if (*p == '.') {
            point = 1;
            continue;
        }
        exponent -= point;
        if (to == spelled && *p == '0')
            continue;
        if (to - spelled < DIGITS_MAX) {
            *to++ = (char)*p;
        } else {
            rest |= *p != '0';
            exponent++;
        }
    }
    if (p < end) { /* the e */
        p++;
        negative = *p == '-';
        if (!IS_DIGIT(*p))
            p++;
        for (; p < end; p++)
            if (power < INT64_C(1000000000000))
                power = power * 10 + (*p - '0');
    }
    if (to == spelled)
        return 0;
    if (rest) {
        *to++ = '1';
        exponent--;
    }
    exponent += negative ? -power : power;
    if (exponent > 20000)
        exponent = 20000;
    if (exponent < -20000)
        exponent = -20000;
    *to++ = 'e';
    to += kv_json_integer_format(exponent, to);
    *to = '\0';
    value = strtod(spelled, NULL);
    errno = saved;
    return value;
}

/* The value of [p, end), which scan_number accepted; as kv_json_number_parse. */
static inline int number_value(const byte *p, const byte *end, int64_t *i, double *d)
{
    const byte *unsigned_part;
    uint64_t digits = 0;
    int64_t exponent = 0, power = 0;
    int negative = *p == '-', integer = 1, exact = 1;
    double value;

    p += negative;
    unsigned_part = p;
    for (; p < end && IS_DIGIT(*p); p++) {
        /* Ten times less than this, plus a digit, stays below 2^64. */
        if (digits < UINT64_C(1844674407370955161))
            digits = digits * 10 + (uint64_t)(*p - '0');
        else
            exact = 0;
    }
    if (p < end) {
        integer = 0;
        if (*p == '.') {
            for (p++; p < end && IS_DIGIT(*p); p++) {
                if (digits < UINT64_C(1844674407370955161)) {
                    digits = digits * 10 + (uint64_t)(*p - '0');
                    exponent--;
                } else {
                    exact = 0;
                }
            }
        }
        if (p < end) {
            int minus;
            p++;
            minus = *p == '-';
            if (!IS_DIGIT(*p))
                p++;
            for (; p < end; p++)
                if (power < INT64_C(1000000000000))
                    power = power * 10 + (*p - '0');
            exponent += minus ? -power : power;
        }
    }
    if (integer && exact && digits <= (UINT64_C(1) << 63) - !negative && (digits || !negative)) {
        *i = negative ? (int64_t)(0 - digits) : (int64_t)digits;
        *d = (double)*i;
        return KV_JSON_INTEGER;
    }
    if (exact && digits == 0)
        value = 0;
    else if (!exact || !make_double(digits, exponent, &value))
        value = slow_double(unsigned_part, end);
    if (value > DBL_MAX)
        return -KV_JSON_ERANGE;
    *d = negative ? -value : value;
    return KV_JSON_DOUBLE;
}

static int too_large(const byte *p, const byte *end)
{
    int64_t i;
    double d;

    return number_value(p, end, &i, &d) < 0;
}

int kv_json_number_parse(const char *text, size_t len, int64_t *i, double *d)
{
    const byte *p = (const byte *)text, *end = p + len;
    byte large = 0;
    int code = KV_JSON_OK;

    if (len == 0)
        return -KV_JSON_EEND;
    if (scan_number(p, end, &large, &code) != end && code == KV_JSON_OK)
        return -KV_JSON_ENUMBER;
    if (code != KV_JSON_OK)
        return -code;
    return number_value(p, end, i, d);
}

/* ---- numbers: value to text --------------------------------------------------------------- */

/* Write the decimal digits of n, return how many. */
static inline size_t put_digits(uint64_t n, char *out)
{
    static const char pairs[] = "0001020304050607080910111213141516171819"
                                "2021222324252627282930313233343536373839"
                                "4041424344454647484950515253545556575859"
                                "6061626364656667686970717273747576777879"
                                "8081828384858687888990919293949596979899";
    char digits[20], *p = digits + sizeof(digits);
    size_t len;

    if (n < 10) {
        *out = (char)('0' + n);
        return 1;
    }
    while (n >= 100) {
        p -= 2;
        memcpy(p, pairs + n % 100 * 2, 2);
        n /= 100;
    }
    if (n >= 10) {
        p -= 2;
        memcpy(p, pairs + n * 2, 2);
    } else {
        *--p = (char)('0' + n);
    }
    len = (size_t)(digits + sizeof(digits) - p);
    memcpy(out, p, len);
    return len;
}

size_t kv_json_integer_format(int64_t value, char *buf)
{
    if (value >= 0)
        return put_digits((uint64_t)value, buf);
    *buf = '-';
    return 1 + put_digits(0 - (uint64_t)value, buf + 1);
}

/* A decimal number: digits * 10^exponent. */
struct decimal {
    uint64_t digits;
    int exponent;
};

/* The decimal exponent of a value in [1e-11, 1e23): 10^n <= value < 10^(n+1); one off is possible
 * beside a negative power of ten, which costs the callers speed only. */
static int decimal_exponent(double value, int binary)
{
    int n = binary >= 0 ? binary * 1233 / 4096 : -((-binary * 1233 + 4095) / 4096);

    if (n + 1 >= 0 ? value >= ten[n + 1] : value * ten[-(n + 1)] >= 1)
        n++;
    return n;
}

/*
 * The shortest decimal that reads back as value, which is finite and above 0.
 *
 * Up to 15 digits survive a double unharmed: if scaling to 15 digits and back, with one correct
 * rounding each way, meets the value, then these digits, without their trailing zeros, are the
 * shortest.  16 and 17 digits are guessed in long doubles and verified the same way.  What is left
 * (far exponents, other machines, doubts) is asked from printf and verified with strtod.  A
 * table-driven algorithm would be quicker only there, at the price of 10 KiB of tables.
 */
static struct decimal shortest(double value)
{
    struct decimal r;
    uint64_t bits;
    int binary, from = 15, power_of_two;
    double back;

    memcpy(&bits, &value, sizeof(bits));
    binary = (int)(bits >> 52) - 1023;
    power_of_two = (bits & ((UINT64_C(1) << 52) - 1)) == 0;

    if (EXACT_DOUBLES && value >= 1e-7 && value < 1e21) {
        int n = decimal_exponent(value, binary);
        double scaled;
        r.exponent = n - 14;
        scaled = n > 14 ? value / ten[n - 14] : value * ten[14 - n];
        r.digits = (uint64_t)(int64_t)(scaled + 0.5);
        if (make_double(r.digits, r.exponent, &back) && back == value)
            return r;
#if LONG_DOUBLES
        for (int k = 15; k <= 16; k++) {
            long double wide =
                n > k ? (long double)value / ten_long[n - k] : (long double)value * ten_long[k - n];
            r.exponent = n - k;
            r.digits = (uint64_t)(int64_t)(wide + 0.5L);
            if (!make_double(r.digits, r.exponent, &back))
                break;
            if (back == value)
                return r;
            /* The gap above a power of two is twice the one below it: there the next decimal
             * upwards can do although the nearest one does not. */
            if (power_of_two) {
                r.digits++;
                if (make_double(r.digits, r.exponent, &back) && back == value)
                    return r;
            }
        }
#endif
    }

    if (binary == -1023)
        from = 1; /* subnormal: less precision than 15 digits */
    for (int n = from;; n++) {
        char text[64], again[32], *p;
        int exponent, printed = snprintf(text, sizeof(text), "%.*e", n - 1, value);
        size_t len;

        (void)printed;
        r.digits = 0;
        for (p = text; *p != 'e'; p++) /* whatever the locale's decimal point looks like */
            if (IS_DIGIT((byte)*p))
                r.digits = r.digits * 10 + (uint64_t)(*p - '0');
        exponent = (int)strtol(p + 1, NULL, 10);
        r.exponent = exponent - (n - 1);
        for (int up = 0; up <= power_of_two; up++) {
            r.digits += (uint64_t)up;
            len = put_digits(r.digits, again);
            again[len++] = 'e';
            len += kv_json_integer_format(r.exponent, again + len);
            back = slow_double((byte *)again, (byte *)again + len);
            if (back == value)
                return r;
        }
        if (n >= 17)
            return r;
    }
}

size_t kv_json_number_format(double value, int as_float, char *buf)
{
    char digits[20], *p = buf;
    struct decimal r;
    int count, point;

    if (!(value >= -DBL_MAX && value <= DBL_MAX))
        return 0;
    if (signbit(value)) {
        *p++ = '-';
        value = -value;
    }
    if (value <= 9007199254740992.0 && value == (double)(int64_t)value) {
        p += put_digits((uint64_t)value, p);
        if (as_float) {
            *p++ = '.';
            *p++ = '0';
        }
        return (size_t)(p - buf);
    }
    r = shortest(value);
    for (int zeros = 8; zeros > 0; zeros /= 2) {
        static const uint64_t unit[] = {0, 10, 100, 0, 10000, 0, 0, 0, 100000000};
        while (r.digits % unit[zeros] == 0) {
            r.digits /= unit[zeros];
            r.exponent += zeros;
        }
    }
    count = (int)put_digits(r.digits, digits);
    point = count + r.exponent; /* digits before the point */
    if (value < 9007199254740992.0 && point > 0) {
        memcpy(p, digits, (size_t)point);
        p += point;
        *p++ = '.';
        memcpy(p, digits + point, (size_t)(count - point));
        p += count - point;
    } else if (point <= 0 && point > -5) {
        *p++ = '0';
        *p++ = '.';
        memset(p, '0', (size_t)-point);
        p += -point;
        memcpy(p, digits, (size_t)count);
        p += count;
    } else {
        *p++ = digits[0];
        if (count > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)count - 1);
            p += count - 1;
        }
        *p++ = 'e';
        p += kv_json_integer_format(point - 1, p);
    }
    return (size_t)(p - buf);
}

/* ---- check and scan ----------------------------------------------------------------------- */

static inline const byte *skip_space(const byte *p, const byte *end)
{
    while (p < end && *p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* One of the three words at p: returns what follows, or sets *code and returns the odd byte. */
static const byte *scan_word(const byte *p, const byte *end, const char *word, int *code)
{
    for (; *word != '\0'; word++, p++) {
        if (p == end) {
            *code = KV_JSON_EEND;
            return p;
        }
        if (*p != (byte)*word) {
            *code = KV_JSON_ESYNTAX;
            return p;
        }
    }
    return p;
}

/*
 * kv_json_next in a loop would do; written out, with the position in a register and one jump for
 * what comes next, it is about twice as fast, and every stored document passes here.
 */
int kv_json_check(const char *text, size_t len, kv_json_error *err)
{
    const byte *p = (const byte *)text, *end = p + len, *start;
    byte open[KV_JSON_DEPTH];
    byte ignored = 0, large = 0;
    int depth = 0, code = KV_JSON_OK;

value:
    p = skip_space(p, end);
value_here:
    if (p == end)
        goto cut;
    switch (*p) {
    case '"':
        p = scan_string(p + 1, end, &ignored, &code);
        if (code != KV_JSON_OK)
            goto fail;
        p++;
        break;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        start = p;
        p = scan_number(p, end, &large, &code);
        if (code != KV_JSON_OK)
            goto fail;
        if (large) {
            large = 0;
            if (too_large(start, p)) {
                p = start;
                code = KV_JSON_ERANGE;
                goto fail;
            }
        }
        break;
    case '{':
        if (depth == KV_JSON_DEPTH)
            goto deep;
        open[depth++] = KV_JSON_OBJECT;
        p = skip_space(p + 1, end);
        if (p < end && *p == '}')
            goto close;
        goto key;
    case '[':
        if (depth == KV_JSON_DEPTH)
            goto deep;
        open[depth++] = KV_JSON_ARRAY;
        p = skip_space(p + 1, end);
        if (p < end && *p == ']')
            goto close;
        goto value_here;
    case 't':
        p = scan_word(p, end, "true", &code);
        break;
    case 'f':
        p = scan_word(p, end, "false", &code);
        break;
    case 'n':
        p = scan_word(p, end, "null", &code);
        break;
    default:
        goto odd;
    }
    if (code != KV_JSON_OK)
        goto fail;
after:
    if (depth == 0)
        goto done;
    p = skip_space(p, end);
    if (p == end)
        goto cut;
    if (*p == ',') {
        p++;
        if (open[depth - 1] == KV_JSON_ARRAY)
            goto value;
        p = skip_space(p, end);
    key:
        if (p == end)
            goto cut;
        if (*p != '"')
            goto odd;
        p = scan_string(p + 1, end, &ignored, &code);
        if (code != KV_JSON_OK)
            goto fail;
        p = skip_space(p + 1, end);
        if (p == end)
            goto cut;
        if (*p != ':')
            goto odd;
        p++;
        goto value;
    }
    /* The closing brackets are two above the opening ones in ASCII. */
    if (*p != (open[depth - 1] == KV_JSON_ARRAY ? ']' : '}'))
        goto odd;
close:
    p++;
    depth--;
    goto after;

done:
    p = skip_space(p, end);
    if (p != end)
        code = KV_JSON_ETAIL;
    goto fail;
cut:
    code = KV_JSON_EEND;
    goto fail;
odd:
    code = KV_JSON_ESYNTAX;
    goto fail;
deep:
    code = KV_JSON_EDEPTH;
fail:
    if (err != NULL) {
        err->code = code;
        err->offset = (size_t)(p - (const byte *)text);
    }
    return code;
}

/* What a scan expects. */
enum {
    AT_VALUE,       /* a value */
    AT_FIRST_VALUE, /* a value or the end of the array just begun */
    AT_FIRST_KEY,   /* a key or the end of the object just begun */
    AT_AFTER,       /* behind a value: comma, bracket or the end */
    AT_FAILED
};

void kv_json_scan_init(kv_json_scan *scan, const char *text, size_t len)
{
    scan->text = text;
    scan->len = len;
    scan->start = scan->end = scan->pos = 0;
    scan->depth = 0;
    scan->escaped = 0;
    scan->state = AT_VALUE;
    scan->err.code = KV_JSON_OK;
    scan->err.offset = 0;
}

static int fail(kv_json_scan *scan, int code, const byte *p)
{
    scan->state = AT_FAILED;
    scan->err.code = code;
    scan->err.offset = scan->start = scan->end = (size_t)(p - (const byte *)scan->text);
    return KV_JSON_FAIL;
}

/* The token [start, end) is found; the next is looked for at pos. */
static inline int found(kv_json_scan *scan, int token, int state, const byte *start,
                        const byte *end, const byte *pos)
{
    const byte *text = (const byte *)scan->text;

    scan->start = (size_t)(start - text);
    scan->end = (size_t)(end - text);
    scan->pos = (size_t)(pos - text);
    scan->state = (byte)state;
    return token;
}

static inline int open_container(kv_json_scan *scan, int token, const byte *p)
{
    if (scan->depth == KV_JSON_DEPTH)
        return fail(scan, KV_JSON_EDEPTH, p);
    scan->open[scan->depth++] = (byte)token;
    return found(scan, token, token == KV_JSON_ARRAY ? AT_FIRST_VALUE : AT_FIRST_KEY, p, p + 1,
                 p + 1);
}

int kv_json_next(kv_json_scan *scan)
{
    const byte *text = (const byte *)scan->text, *p, *q, *end = text + scan->len;
    byte large = 0;
    int code = KV_JSON_OK, token;

    if (scan->state == AT_FAILED)
        return KV_JSON_FAIL;
    p = skip_space(text + scan->pos, end);

    if (scan->state == AT_AFTER && scan->depth == 0) {
        if (p != end)
            return fail(scan, KV_JSON_ETAIL, p);
        return found(scan, KV_JSON_END, AT_AFTER, p, p, p);
    }
    if (p == end)
        return fail(scan, KV_JSON_EEND, end);

    switch (scan->state) {
    case AT_AFTER:
        token = scan->open[scan->depth - 1];
        if (*p == ',') {
            p = skip_space(p + 1, end);
            if (p == end)
                return fail(scan, KV_JSON_EEND, end);
            if (token == KV_JSON_OBJECT)
                goto key;
            break;
        }
        if (*p != (token == KV_JSON_ARRAY ? ']' : '}'))
            return fail(scan, KV_JSON_ESYNTAX, p);
        scan->depth--;
        return found(scan, token + 1, AT_AFTER, p, p + 1, p + 1);
    case AT_FIRST_KEY:
        if (*p != '}')
            goto key;
        scan->depth--;
        return found(scan, KV_JSON_OBJECT_END, AT_AFTER, p, p + 1, p + 1);
    case AT_FIRST_VALUE:
        if (*p != ']')
            break;
        scan->depth--;
        return found(scan, KV_JSON_ARRAY_END, AT_AFTER, p, p + 1, p + 1);
    }

    switch (*p) {
    case '"':
        scan->escaped = 0;
        q = scan_string(p + 1, end, &scan->escaped, &code);
        if (code != KV_JSON_OK)
            return fail(scan, code, q);
        return found(scan, KV_JSON_STRING, AT_AFTER, p, q + 1, q + 1);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        q = scan_number(p, end, &large, &code);
        if (code == KV_JSON_OK && large && too_large(p, q)) {
            code = KV_JSON_ERANGE;
            q = p;
        }
        token = KV_JSON_NUMBER;
        break;
    case '{':
        return open_container(scan, KV_JSON_OBJECT, p);
    case '[':
        return open_container(scan, KV_JSON_ARRAY, p);
    case 't':
        q = scan_word(p, end, "true", &code);
        token = KV_JSON_TRUE;
        break;
    case 'f':
        q = scan_word(p, end, "false", &code);
        token = KV_JSON_FALSE;
        break;
    case 'n':
        q = scan_word(p, end, "null", &code);
        token = KV_JSON_NULL;
        break;
    default:
        return fail(scan, KV_JSON_ESYNTAX, p);
    }
    if (code != KV_JSON_OK)
        return fail(scan, code, q);
    return found(scan, token, AT_AFTER, p, q, q);

key:
    if (*p != '"')
        return fail(scan, KV_JSON_ESYNTAX, p);
    scan->escaped = 0;
    q = scan_string(p + 1, end, &scan->escaped, &code);
    if (code != KV_JSON_OK)
        return fail(scan, code, q);
    text = skip_space(q + 1, end);
    if (text == end)
        return fail(scan, KV_JSON_EEND, end);
    if (*text != ':')
        return fail(scan, KV_JSON_ESYNTAX, text);
    return found(scan, KV_JSON_KEY, AT_VALUE, p, q + 1, text + 1);
}
