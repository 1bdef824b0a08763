/* SPDX-License-Identifier: MIT */
/*
 * json_text.c - JSON strings: UTF-8, escapes, in both directions.
 */
#include "json_part.h"

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

const byte *kv_json_scan_escape(const byte *p, const byte *end, int *code)
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

size_t kv_json_unescaped_size(const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    size_t size = len;
    char out[4];

    while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        /* One escape, or the two of a surrogate pair. */
        size_t n = end - p < 2 ? 1 : p[1] != 'u' ? 2 : end - p < 6 ? (size_t)(end - p) : 6;
        if (n == 6 && end - p >= 12 &&
            (hex4((const byte *)p + 2, (const byte *)end) & 0xfc00) == 0xd800)
            n = 12;
        size -= n - kv_json_unescape(p, n, out);
        p += n;
    }
    return size;
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
