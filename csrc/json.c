/* SPDX-License-Identifier: MIT */
/*
 * json.c - the JSON scanner.
 *
 * Invariant: no byte outside [text, text + len) is ever read, and what kv_json_check accepts is
 * exactly what kv_json_next walks through; the two share every rule below the punctuation, which
 * is in json_part.h.
 */
#include "json_part.h"

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
    case KV_JSON_EPATH:
        return "not a path";
    case KV_JSON_EMISSING:
        return "no such field";
    case KV_JSON_EEXISTS:
        return "the field exists";
    case KV_JSON_EOBJECT:
        return "not an object";
    case KV_JSON_EARRAY:
        return "not an array";
    case KV_JSON_ESTRING:
        return "not a string";
    case KV_JSON_EBOOLEAN:
        return "not a boolean";
    case KV_JSON_EADD:
        return "not a number";
    case KV_JSON_EINDEX:
        return "out of range";
    }
    return "unknown error";
}

/* ---- check and scan ----------------------------------------------------------------------- */

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
 * kv_json_next in a loop would do; written out, with position and container in registers, one jump
 * for what comes next, and short cuts for the tokens that most documents are made of, it is far
 * quicker, and every string that is edited passes here.  A token costs some ten cycles: what limits
 * it is their number, not that of the bytes.
 */
int kv_json_span(const char *text, size_t len, size_t *span, kv_json_error *err)
{
    /* The words by the low bits of their first letters, and where their last four letters begin. */
    static const char words[16][5] = {
        ['t' & 15] = "true", ['f' & 15] = "alse", ['n' & 15] = "null"};
    static const byte begins[16] = {['f' & 15] = 1};
    const byte *p = (const byte *)text, *end = p + len, *q;
    byte open[KV_JSON_DEPTH];
    byte ignored = 0, large = 0, inside = 0; /* open[depth - 1], in a register */
    int depth = 0, code = KV_JSON_OK;

/* Whatever is not white space comes next, or the text ends. */
#define NEXT                                                                                       \
    do {                                                                                           \
        if (p == end)                                                                              \
            goto cut;                                                                              \
        if (*p <= ' ') {                                                                           \
            p = skip_space(p, end);                                                                \
            if (p == end)                                                                          \
                goto cut;                                                                          \
        }                                                                                          \
    } while (0)

/* q becomes the closing quote of the string at p. */
#define STRING                                                                                     \
    do {                                                                                           \
        q = short_string(p + 1, end);                                                              \
        if (q == NULL) {                                                                           \
            q = scan_string(p + 1, end, &ignored, &code);                                          \
            if (code != KV_JSON_OK)                                                                \
                goto fail_at_q;                                                                    \
        }                                                                                          \
    } while (0)

value:
    NEXT;
value_here:
    switch (*p) {
    case '"':
        STRING;
        p = q + 1;
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
        q = short_number(p, end);
        if (q == NULL) {
            q = scan_number(p, end, &large, &code);
            if (code != KV_JSON_OK)
                goto fail_at_q;
            if (large) {
                large = 0;
                if (kv_json_too_large(p, q)) {
                    code = KV_JSON_ERANGE;
                    goto fail;
                }
            }
        }
        p = q;
        break;
    case '{':
        if (depth == KV_JSON_DEPTH)
            goto deep;
        open[depth++] = inside = '}';
        p++;
        NEXT;
        if (*p == '}')
            goto close;
        goto key;
    case '[':
        if (depth == KV_JSON_DEPTH)
            goto deep;
        open[depth++] = inside = ']';
        p++;
        NEXT;
        if (*p == ']')
            goto close;
        goto value_here;
    case 't':
    case 'f':
    case 'n':
        /* One way for the three of them: which it is cannot be foreseen. */
        q = p + begins[*p & 15];
        if (end - q < 4 || memcmp(q, words[*p & 15], 4) != 0) {
            p = scan_word(p, end, *p == 't' ? "true" : *p == 'f' ? "false" : "null", &code);
            goto fail;
        }
        p = q + 4;
        break;
    default:
        goto odd;
    }
after:
    /* The usual: another member, and no white space. */
    if (inside == '}' && end - p >= 2 && p[0] == ',' && p[1] == '"') {
        p++;
        goto key;
    }
    if (depth == 0)
        goto done;
    NEXT;
    if (*p == ',') {
        p++;
        if (inside == ']')
            goto value;
        NEXT;
    key:
        if (*p != '"')
            goto odd;
        STRING;
        p = q + 1;
        if (p == end || *p != ':') {
            NEXT;
            if (*p != ':')
                goto odd;
        }
        p++;
        goto value;
    }
    if (*p != inside)
        goto odd;
close:
    p++;
    depth--;
    inside = depth > 0 ? open[depth - 1] : 0;
    goto after;

done:
    *span = (size_t)(p - (const byte *)text);
    goto fail;
cut:
    code = KV_JSON_EEND;
    goto fail;
odd:
    code = KV_JSON_ESYNTAX;
    goto fail;
deep:
    code = KV_JSON_EDEPTH;
    goto fail;
fail_at_q:
    p = q;
fail:
    if (err != NULL) {
        err->code = code;
        err->offset = (size_t)(p - (const byte *)text);
    }
    return code;
#undef NEXT
#undef STRING
}

int kv_json_check(const char *text, size_t len, kv_json_error *err)
{
    const byte *p, *end = (const byte *)text + len;
    size_t span = 0;
    int code = kv_json_span(text, len, &span, err);

    if (code != KV_JSON_OK)
        return code;
    p = skip_space((const byte *)text + span, end);
    if (p != end)
        code = KV_JSON_ETAIL;
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
        if (code == KV_JSON_OK && large && kv_json_too_large(p, q)) {
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
