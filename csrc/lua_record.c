/* SPDX-License-Identifier: MIT
 *
 * lua_record.c - a record as text; lua_record.h has the forms.
 *
 * Reading works on input that may end anywhere: it looks at members one by one, each value by a
 * scan of its own, and gives up without a trace when the input ends in the middle. A value is
 * therefore as deep as the scanner allows, whatever it is wrapped in.
 */
#include "lua_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- base64 ------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t encode64(const char *bytes, size_t len, char *to)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t i, k = 0;

    for (i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)s[i] << 16 | (i + 1 < len ? (uint32_t)s[i + 1] << 8 : 0) |
                        (i + 2 < len ? s[i + 2] : 0);
        to[k++] = alphabet[bits >> 18];
        to[k++] = alphabet[bits >> 12 & 63];
        to[k++] = i + 1 < len ? alphabet[bits >> 6 & 63] : '=';
        to[k++] = i + 2 < len ? alphabet[bits & 63] : '=';
    }
    return k;
}

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* In place, padding optional. 0: it is none. */
static int decode64(char *s, size_t *len)
{
    size_t n = *len, i, k = 0;
    uint32_t bits = 0;

    while (n > 0 && *len - n < 2 && s[n - 1] == '=')
        n--;
    if (n % 4 == 1 || (n != *len && *len % 4 != 0))
        return 0;
    for (i = 0; i < n; i++) {
        int d = digit64(s[i]);
        if (d < 0)
            return 0;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 != 0)
            s[k++] = (char)(bits >> (6 - i % 4 * 2));
    }
    *len = k;
    return 1;
}

/* ---- reading: pieces ---------------------------------------------------- */

static int is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A value in the text. */
typedef struct value {
    int kind; /* KV_JSON_*; 0: not there */
    int escaped;
    char *p;
    size_t len;
} value;

static int syntax(kv_lua_fault *f, int code, size_t at)
{
    f->code = code == KV_JSON_EDEPTH ? KV_ETOODEEP : KV_ENOTJSON;
    f->syntax = 1;
    f->at = at;
    snprintf(f->why, sizeof f->why, "not JSON: %s", kv_json_strerror(code));
    return KV_TEXT_FAULT;
}

static int wrong(kv_lua_fault *f, int code, const char *why)
{
    f->code = code;
    f->syntax = 0;
    f->at = 0;
    snprintf(f->why, sizeof f->why, "%s", why);
    return KV_TEXT_FAULT;
}

static uint64_t newlines(const char *p, const char *end)
{
    uint64_t n = 0;

    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        n++;
        p++;
    }
    return n;
}

int kv_lua_text_next(kv_lua_text *t)
{
    while (t->pos < t->len) {
        char c = t->p[t->pos];
        if (!is_space(c))
            return (unsigned char)c;
        t->lines += c == '\n';
        t->pos++;
    }
    return t->final ? -2 : -1;
}

/* Passes over white space and takes one of two bytes; *got: which. */
static int take_byte(kv_lua_text *t, char a, char b, char *got, kv_lua_fault *f)
{
    int c = kv_lua_text_next(t);

    if (c == -1)
        return KV_TEXT_MORE;
    if (c == -2)
        return syntax(f, KV_JSON_EEND, t->pos);
    *got = (char)c;
    if (c != a && c != b)
        return syntax(f, KV_JSON_ESYNTAX, t->pos);
    t->pos++;
    return KV_TEXT_OK;
}

/* The kind of value that begins with this byte. */
static int kind_of(char c)
{
    switch (c) {
    case '"':
        return KV_JSON_STRING;
    case '{':
        return KV_JSON_OBJECT;
    case '[':
        return KV_JSON_ARRAY;
    case 't':
        return KV_JSON_TRUE;
    case 'f':
        return KV_JSON_FALSE;
    case 'n':
        return KV_JSON_NULL;
    default:
        return KV_JSON_NUMBER;
    }
}

static int take_value(kv_lua_text *t, value *v, kv_lua_fault *f)
{
    kv_json_error err;
    size_t left;
    int code;

    if (kv_lua_text_next(t) == -1)
        return KV_TEXT_MORE;
    left = t->len - t->pos;
    v->p = t->p + t->pos;
    code = kv_json_span(v->p, left, &v->len, &err);
    if (code == KV_JSON_EEND && !t->final)
        return KV_TEXT_MORE;
    if (code != KV_JSON_OK)
        return syntax(f, code, t->pos + err.offset);
    v->kind = kind_of(*v->p);
    v->escaped = v->kind == KV_JSON_STRING && memchr(v->p, '\\', v->len) != NULL;
    if (v->kind == KV_JSON_NUMBER && v->len == left && !t->final)
        return KV_TEXT_MORE; /* there may be more digits */
    t->pos += v->len;
    if (v->kind == KV_JSON_OBJECT || v->kind == KV_JSON_ARRAY)
        t->lines += newlines(v->p, v->p + v->len);
    return KV_TEXT_OK;
}

/* A name and its value. */
static int take_member(kv_lua_text *t, value *name, value *v, kv_lua_fault *f)
{
    char c;
    int r = kv_lua_text_next(t);

    if (r == -1)
        return KV_TEXT_MORE;
    if (r != '"')
        return syntax(f, r == -2 ? KV_JSON_EEND : KV_JSON_ESYNTAX, t->pos);
    r = take_value(t, name, f);
    if (r == KV_TEXT_OK)
        r = take_byte(t, ':', ':', &c, f);
    return r == KV_TEXT_OK ? take_value(t, v, f) : r;
}

/* The content of a string, decoded in place. */
static void string_of(const value *v, const char **s, size_t *len)
{
    *s = v->p + 1;
    *len = v->len - 2;
    if (v->escaped)
        *len = kv_json_unescape(v->p + 1, v->len - 2, v->p + 1);
}

/* Takes white space out of a document, in place. */
static size_t compact(char *s, size_t len)
{
    size_t i, k = 0;
    int quoted = 0;

    if (memchr(s, ' ', len) == NULL && memchr(s, '\n', len) == NULL &&
        memchr(s, '\t', len) == NULL && memchr(s, '\r', len) == NULL)
        return len;
    for (i = 0; i < len; i++) {
        char c = s[i];
        if (!quoted && is_space(c))
            continue;
        if (c == '"')
            quoted = !quoted;
        else if (c == '\\' && quoted && i + 1 < len)
            s[k++] = s[i++], c = s[i];
        s[k++] = c;
    }
    return k;
}

/* ---- reading: records --------------------------------------------------- */

enum {
    KEY,
    VALUE,
    TYPE,
    METADATA,
    EXPIRATION,
    BASE64,
    KEY_BASE64,
    TEXT,
    EXPIRATION_TTL,
    MEMBERS,
    NONE = MEMBERS
};

static const struct {
    const char *name;
    size_t len;
} members[MEMBERS] = {{"key", 3},         {"value", 5},       {"type", 4},
                      {"metadata", 8},    {"expiration", 10}, {"base64", 6},
                      {"key_base64", 10}, {"text", 4},        {"expiration_ttl", 14}};

static int member_of(const value *name)
{
    int i = 0;

    while (i < MEMBERS && (name->len - 2 != members[i].len ||
                           memcmp(name->p + 1, members[i].name, members[i].len) != 0))
        i++;
    return i;
}

static const char *const types[] = {NULL, "string", "integer", "number", "boolean", "null", "json"};

/* 0: none of ours. */
static int type_of(const value *v)
{
    const char *s;
    size_t len;

    string_of(v, &s, &len);
    for (int i = KV_STRING; i <= KV_JSON; i++)
        if (strlen(types[i]) == len && memcmp(types[i], s, len) == 0)
            return i;
    return 0;
}

/* The type that a value has by itself. */
static int plain_type(const value *v)
{
    switch (v->kind) {
    case KV_JSON_STRING:
        return KV_STRING;
    case KV_JSON_NUMBER:
        return KV_NUMBER;
    case KV_JSON_TRUE:
    case KV_JSON_FALSE:
        return KV_BOOLEAN;
    case KV_JSON_NULL:
        return KV_NULL;
    default:
        return KV_JSON;
    }
}

/* type: as asked for, or 0. */
static int fill_number(const value *v, int type, kv_value *out, kv_lua_fault *f)
{
    int64_t i = 0;
    double d = 0;
    int kind = kv_json_number_parse(v->p, v->len, &i, &d);

    if (kind == KV_JSON_INTEGER && type != KV_NUMBER) {
        out->type = KV_INTEGER;
        out->integer = i;
        return KV_TEXT_OK;
    }
    if (type == KV_INTEGER)
        return wrong(f, KV_ENOTNUMBER, "the value is not an integer of 64 bits");
    out->type = KV_NUMBER;
    out->number = d;
    return KV_TEXT_OK;
}

/* The bytes of a string or document. */
static int fill_bytes(int type, const char *s, size_t len, kv_value *out, kv_lua_fault *f)
{
    if (len > KV_MAX_VALUE_CAP)
        return wrong(f, KV_ETOOBIG, "a value of more than 1 GiB");
    out->type = type;
    out->data = s;
    out->len = (uint32_t)len;
    return KV_TEXT_OK;
}

/* A value as it is put. type: 0 for its own. */
static int fill_value(const value *v, int type, kv_value *out, kv_lua_fault *f)
{
    static const int codes[] = {0, KV_ENOTSTRING, KV_ENOTNUMBER, KV_ENOTNUMBER, KV_ENOTBOOLEAN};
    int own = plain_type(v);
    const char *s;
    size_t len;

    memset(out, 0, sizeof *out);
    if (type == KV_JSON) /* any value is a document */
        return fill_bytes(KV_JSON, v->p, v->len, out, f);
    if (type != 0 && type != own && !(type == KV_INTEGER && own == KV_NUMBER)) {
        wrong(f, type <= KV_BOOLEAN ? codes[type] : KV_EUNSUPPORTED, "");
        snprintf(f->why, sizeof f->why, "the value is not of type '%s'", types[type]);
        return KV_TEXT_FAULT;
    }
    switch (own) {
    case KV_STRING:
        string_of(v, &s, &len);
        return fill_bytes(KV_STRING, s, len, out, f);
    case KV_NUMBER:
        return fill_number(v, type, out, f);
    case KV_BOOLEAN:
        out->type = KV_BOOLEAN;
        out->integer = v->kind == KV_JSON_TRUE;
        return KV_TEXT_OK;
    case KV_NULL:
        out->type = KV_NULL;
        return KV_TEXT_OK;
    default:
        len = memchr(v->p, '\n', v->len) != NULL ? compact(v->p, v->len) : v->len;
        return fill_bytes(KV_JSON, v->p, len, out, f);
    }
}

static int fill_key(const value *v, int base64, kv_item *item, kv_lua_fault *f)
{
    if (v->kind == 0)
        return wrong(f, KV_EUNSUPPORTED, "the record has no key");
    if (v->kind != KV_JSON_STRING)
        return wrong(f, KV_ENOTSTRING, "the key is not a string");
    string_of(v, &item->key, &item->len);
    if (base64 && !decode64(v->p + 1, &item->len))
        return wrong(f, KV_EUNSUPPORTED, "the key is not base64");
    if (item->len == 0)
        return wrong(f, KV_EUNSUPPORTED, "the key is empty");
    if (item->len > KV_MAX_KEY)
        return wrong(f, KV_ETOOBIG, "a key has at most 512 bytes");
    return KV_TEXT_OK;
}

/* A member that is true or false; absent counts as false. */
static int flag(const value *v, const char *why, int *out, kv_lua_fault *f)
{
    *out = v->kind == KV_JSON_TRUE;
    if (v->kind == 0 || v->kind == KV_JSON_TRUE || v->kind == KV_JSON_FALSE)
        return KV_TEXT_OK;
    return wrong(f, KV_ENOTBOOLEAN, why);
}

/* Seconds; null counts as absent. */
static int seconds(const value *v, const char *why, double max, int64_t *ms, kv_lua_fault *f)
{
    int64_t i = 0;
    double d = 0;

    *ms = 0;
    if (v->kind == 0 || v->kind == KV_JSON_NULL)
        return KV_TEXT_OK;
    if (v->kind != KV_JSON_NUMBER)
        return wrong(f, KV_ENOTNUMBER, why);
    (void)kv_json_number_parse(v->p, v->len, &i, &d);
    if (!(d > 0 && d <= max))
        return wrong(f, KV_ERANGE, why);
    *ms = (int64_t)(d * 1000 + 0.5);
    if (*ms == 0)
        *ms = 1;
    return KV_TEXT_OK;
}

static int fill_options(const value *m, int64_t now, kv_write *w, kv_lua_fault *f)
{
    const value *meta = &m[METADATA];
    int64_t ttl, expires;
    int r = seconds(&m[EXPIRATION], "expiration is not a number of seconds since 1970", 1e11,
                    &expires, f);

    if (r == KV_TEXT_OK)
        r = seconds(&m[EXPIRATION_TTL], "expiration_ttl is not a number of seconds > 0", 1e9, &ttl,
                    f);
    if (r != KV_TEXT_OK)
        return r;
    memset(w, 0, sizeof *w);
    if (ttl != 0)
        expires = now + ttl;
    if (expires != 0) {
        w->flags |= KV_EXPIRATION;
        w->expires = expires;
    }
    if (meta->kind == 0 || meta->kind == KV_JSON_NULL)
        return KV_TEXT_OK;
    if (meta->kind != KV_JSON_OBJECT && meta->kind != KV_JSON_ARRAY)
        return wrong(f, KV_ENOTOBJECT, "metadata is not an object or array");
    w->flags |= KV_META;
    w->meta = meta->p;
    w->meta_len = (uint32_t)compact(meta->p, meta->len);
    if (w->meta_len > KV_MAX_META)
        return wrong(f, KV_ETOOBIG, "metadata has at most 1024 bytes");
    return KV_TEXT_OK;
}

/* The document that a record holds as a string. */
static int fill_text(value *v, kv_value *out, kv_lua_fault *f)
{
    kv_json_error err;
    const char *s;
    size_t len;

    if (v->kind != KV_JSON_STRING)
        return wrong(f, KV_ENOTSTRING, "text is not a string");
    string_of(v, &s, &len);
    if (kv_json_check(s, len, &err) != KV_JSON_OK)
        return wrong(f, err.code == KV_JSON_EDEPTH ? KV_ETOODEEP : KV_ENOTJSON, "text is not JSON");
    memset(out, 0, sizeof *out);
    return fill_bytes(KV_JSON, s, len, out, f);
}

static int fill(value *m, int64_t now, kv_item *item, kv_lua_fault *f)
{
    int type = 0, base64 = 0, key64 = 0;
    int r = flag(&m[BASE64], "base64 is not true or false", &base64, f);

    if (r == KV_TEXT_OK)
        r = flag(&m[KEY_BASE64], "key_base64 is not true or false", &key64, f);
    if (r == KV_TEXT_OK)
        r = fill_key(&m[KEY], key64, item, f);
    if (r != KV_TEXT_OK)
        return r;
    if (m[TYPE].kind != 0) {
        type = m[TYPE].kind == KV_JSON_STRING ? type_of(&m[TYPE]) : 0;
        if (type == 0)
            return wrong(f, KV_EUNSUPPORTED, "type is none that there is");
    }
    if ((m[VALUE].kind != 0) == (m[TEXT].kind != 0))
        return wrong(f, KV_EUNSUPPORTED,
                     m[TEXT].kind != 0 ? "the record has two values" : "the record has no value");
    if (m[TEXT].kind != 0 && (type == 0 || type == KV_JSON))
        r = fill_text(&m[TEXT], &item->value, f);
    else if (m[TEXT].kind != 0)
        r = wrong(f, KV_EUNSUPPORTED, "text is for documents");
    else
        r = fill_value(&m[VALUE], type, &item->value, f);
    if (r == KV_TEXT_OK && base64) {
        size_t len = item->value.len;
        if (item->value.type != KV_STRING)
            return wrong(f, KV_ENOTSTRING, "base64 is for strings");
        if (!decode64(m[VALUE].p + 1, &len))
            return wrong(f, KV_EUNSUPPORTED, "the value is not base64");
        item->value.len = (uint32_t)len;
    }
    return r == KV_TEXT_OK ? fill_options(m, now, &item->write, f) : r;
}

int kv_lua_record_read(kv_lua_text *t, int64_t now, kv_item *item, kv_lua_fault *f)
{
    value m[MEMBERS], name, v;
    kv_lua_fault first;
    char c;
    int r = take_byte(t, '{', '{', &c, f), which, bad = 0;

    if (r == KV_TEXT_FAULT && f->code == KV_ENOTJSON && f->at < t->len) {
        /* Another value, whole, is only not a record. */
        r = take_value(t, &v, f);
        return r == KV_TEXT_OK ? wrong(f, KV_ENOTOBJECT, "a record is an object") : r;
    }
    if (r != KV_TEXT_OK)
        return r;
    memset(m, 0, sizeof m);
    if (kv_lua_text_next(t) == '}') {
        t->pos++;
        return wrong(f, KV_EUNSUPPORTED, "the record has no key");
    }
    do {
        r = take_member(t, &name, &v, f);
        if (r == KV_TEXT_OK) {
            which = member_of(&name);
            if (!bad && (which == NONE || m[which].kind != 0)) {
                bad = 1; /* but the record goes on */
                wrong(&first, KV_EUNSUPPORTED, "");
                snprintf(first.why, sizeof first.why, "%s member '%.*s'",
                         which == NONE ? "unknown" : "a second",
                         name.len - 2 < 40 ? (int)name.len - 2 : 40, name.p + 1);
            }
            if (which != NONE)
                m[which] = v;
            r = take_byte(t, ',', '}', &c, f);
        }
        if (r != KV_TEXT_OK)
            return r;
    } while (c == ',');
    if (bad) {
        *f = first;
        return KV_TEXT_FAULT;
    }
    return fill(m, now, item, f);
}

int kv_lua_member_read(kv_lua_text *t, int as_text, kv_item *item, kv_lua_fault *f)
{
    value name, v;
    int r = take_member(t, &name, &v, f);

    if (r != KV_TEXT_OK)
        return r;
    memset(&item->write, 0, sizeof item->write);
    r = fill_key(&name, 0, item, f);
    if (r != KV_TEXT_OK)
        return r;
    if (!as_text)
        return fill_value(&v, 0, &item->value, f);
    memset(&item->value, 0, sizeof item->value);
    return fill_bytes(KV_STRING, v.p, v.len, &item->value, f);
}

int kv_lua_text_is_broken(const kv_lua_text *text, kv_lua_fault *f)
{
    kv_lua_text t = *text;
    value v;

    return kv_lua_text_next(&t) >= 0 && take_value(&t, &v, f) == KV_TEXT_FAULT;
}

/* A member that no record has decides; so does the end, and that an object is not on one line: with
 * members named like a record's it is one of keys and values all the same. An error of syntax
 * counts as a line's when another line begins like a record. */
int kv_lua_text_is_record(const kv_lua_text *text)
{
    kv_lua_text t = *text;
    kv_lua_fault f = {0};
    value name, v;
    unsigned seen = 0;
    char c;
    int r = take_byte(&t, '{', '{', &c, &f), which;

    if (r == KV_TEXT_OK && kv_lua_text_next(&t) == '}')
        return KV_TEXT_FAULT;
    while (r == KV_TEXT_OK) {
        r = take_member(&t, &name, &v, &f);
        if (r != KV_TEXT_OK)
            break;
        which = member_of(&name);
        if (which == NONE || (which == KEY && v.kind != KV_JSON_STRING))
            return KV_TEXT_FAULT;
        seen |= 1u << which;
        r = take_byte(&t, ',', '}', &c, &f);
        if (r == KV_TEXT_OK && c == '}')
            return seen & 1u << KEY && seen & (1u << VALUE | 1u << TEXT) && t.lines == text->lines
                       ? KV_TEXT_OK
                       : KV_TEXT_FAULT;
    }
    if (r == KV_TEXT_FAULT) {
        char *line = memchr(text->p + text->pos, '\n', text->len - text->pos);
        t.pos = line != NULL ? (size_t)(line - t.p) : t.len;
        which = kv_lua_text_next(&t);
        if (which == -1)
            return KV_TEXT_MORE;
        return seen & 1u << KEY || which == '{' ? KV_TEXT_OK : KV_TEXT_FAULT;
    }
    return r;
}

/* ---- writing ------------------------------------------------------------ */

/* Room for n more bytes, or NULL. */
static char *room(kv_lua_out *o, size_t n)
{
    size_t size = o->room ? o->room : 4096;
    char *p;

    if (n <= o->room - o->len)
        return o->p + o->len;
    while (size - o->len < n)
        size *= 2;
    p = realloc(o->p, size);
    if (p == NULL)
        return NULL;
    o->p = p;
    o->room = size;
    return p + o->len;
}

int kv_lua_out_add(kv_lua_out *o, const char *s, size_t len)
{
    char *to = room(o, len);

    if (to == NULL)
        return KV_ENOMEM;
    memcpy(to, s, len);
    o->len += len;
    return KV_OK;
}

#define ADD(o, literal) kv_lua_out_add((o), literal, sizeof literal - 1)

/* A string with its quotes; *utf8 = 0 and nothing is written when it cannot be one. */
static int add_string(kv_lua_out *o, const char *s, size_t len, int *utf8)
{
    size_t size = 0;
    char *to;

    *utf8 = kv_json_escape_size(s, len, &size) == KV_JSON_OK;
    if (!*utf8)
        return KV_OK;
    to = room(o, size + 2);
    if (to == NULL)
        return KV_ENOMEM;
    *to++ = '"';
    if (size == len)
        memcpy(to, s, len);
    else
        kv_json_escape(s, len, to);
    to[size] = '"';
    o->len += size + 2;
    return KV_OK;
}

static int add_base64(kv_lua_out *o, const char *s, size_t len)
{
    char *to = room(o, len / 3 * 4 + 6);

    if (to == NULL)
        return KV_ENOMEM;
    *to++ = '"';
    to += encode64(s, len, to);
    *to++ = '"';
    o->len = (size_t)(to - o->p);
    return KV_OK;
}

/* A string as it is or as base64. */
static int add_bytes(kv_lua_out *o, const char *s, size_t len, int *utf8)
{
    int e = add_string(o, s, len, utf8);

    return e == KV_OK && !*utf8 ? add_base64(o, s, len) : e;
}

static int add_number(kv_lua_out *o, const kv_value *v)
{
    char *to = room(o, KV_JSON_NUMBER_MAX);

    if (to == NULL)
        return KV_ENOMEM;
    o->len += v->type == KV_INTEGER ? kv_json_integer_format(v->integer, to)
                                    : kv_json_number_format(v->number, 1, to);
    return KV_OK;
}

static int add_scalar(kv_lua_out *o, const kv_value *v)
{
    switch (v->type) {
    case KV_BOOLEAN:
        return v->integer ? ADD(o, "true") : ADD(o, "false");
    case KV_NULL:
        return ADD(o, "null");
    default:
        return add_number(o, v);
    }
}

/* Milliseconds as seconds. */
static int add_seconds(kv_lua_out *o, int64_t ms)
{
    char *to = room(o, 32);
    int n;

    if (to == NULL)
        return KV_ENOMEM;
    n = ms % 1000 != 0 ? snprintf(to, 32, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000))
                       : snprintf(to, 32, "%lld", (long long)(ms / 1000));
    o->len += (size_t)n;
    return KV_OK;
}

/* Whether a document would not come back as it is from the middle of a line. */
static int breaks(const kv_value *v)
{
    return v->type == KV_JSON &&
           (is_space(v->data[0]) || is_space(v->data[v->len - 1]) ||
            memchr(v->data, '\n', v->len) != NULL || memchr(v->data, '\r', v->len) != NULL);
}

/* ,"value":... or ,"text":... */
static int add_value(kv_lua_out *o, const kv_value *v, int *utf8)
{
    int apart = breaks(v), e = apart ? ADD(o, ",\"text\":") : ADD(o, ",\"value\":");

    *utf8 = 1;
    if (e != KV_OK)
        return e;
    if (apart || v->type == KV_STRING)
        return add_bytes(o, v->len != 0 ? v->data : "", v->len, utf8);
    return v->type == KV_JSON ? kv_lua_out_add(o, v->data, v->len) : add_scalar(o, v);
}

int kv_lua_record_write(kv_lua_out *o, const kv_record *r)
{
    const char *type = types[r->value.type];
    int key_utf8, utf8 = 1, e = ADD(o, "{\"key\":");

    if (e == KV_OK)
        e = add_bytes(o, r->key, r->key_len, &key_utf8);
    if (e == KV_OK)
        e = ADD(o, ",\"type\":\"");
    if (e == KV_OK)
        e = kv_lua_out_add(o, type, strlen(type));
    if (e == KV_OK)
        e = ADD(o, "\"");
    if (e == KV_OK)
        e = add_value(o, &r->value, &utf8);
    if (e == KV_OK && !utf8)
        e = ADD(o, ",\"base64\":true");
    if (e == KV_OK && !key_utf8)
        e = ADD(o, ",\"key_base64\":true");
    if (e == KV_OK && r->meta_len != 0) {
        e = ADD(o, ",\"metadata\":");
        if (e == KV_OK)
            e = kv_lua_out_add(o, r->meta, r->meta_len);
    }
    if (e == KV_OK && r->expires != 0) {
        e = ADD(o, ",\"expiration\":");
        if (e == KV_OK)
            e = add_seconds(o, r->expires);
    }
    return e == KV_OK ? ADD(o, "}\n") : e;
}

int kv_lua_member_write(kv_lua_out *o, const kv_record *r, const char **what)
{
    int utf8, e = add_string(o, r->key, r->key_len, &utf8);

    *what = "key";
    if (e == KV_OK && utf8) {
        *what = "value";
        e = ADD(o, ":");
        if (e != KV_OK)
            return e;
        if (r->value.type == KV_STRING)
            e = add_string(o, r->value.len != 0 ? r->value.data : "", r->value.len, &utf8);
        else if (r->value.type == KV_JSON)
            e = kv_lua_out_add(o, r->value.data, r->value.len);
        else
            e = add_scalar(o, &r->value);
    }
    return e == KV_OK && !utf8 ? KV_EUNSUPPORTED : e;
}
