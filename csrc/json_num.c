/* SPDX-License-Identifier: MIT */
/*
 * json_num.c - JSON numbers: text to value, correctly rounded, and value to the shortest text.
 *
 * Independent of the process locale.
 */
#include "json_part.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- text to value ------------------------------------------------------------------------ */

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

int kv_json_too_large(const byte *p, const byte *end)
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

/* ---- value to text ------------------------------------------------------------------------ */

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
