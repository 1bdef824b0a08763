/* SPDX-License-Identifier: MIT */
/*
 * json_path.c - paths: reading them, and following them into a JSON text.
 *
 * A document that was checked once is not checked again.  Following a path has only to find the
 * ends of values, and of a container that is not entered nothing matters but quotes, backslashes
 * and brackets, which are looked for in 64 bytes at once.  Objects are walked to their end, since
 * the last one of several members with the same key is the one that counts; a level costs one pass
 * over the container, so that a value inside it is passed once for each level above it.
 *
 * Nothing is believed all the same: a text that is no JSON leads to an error or to some place
 * inside the text.
 */
#include "json_edit.h"
#include "json_part.h"

/* ---- reading a path ----------------------------------------------------------------------- */

/* An index without leading zeros: returns what follows it, or NULL. */
static const byte *read_index(const byte *p, const byte *end, int64_t *index)
{
    int negative = p < end && *p == '-';
    int64_t n = 0;

    p += negative;
    if (p == end || !IS_DIGIT(*p) || (*p == '0' && (negative || (end - p > 1 && IS_DIGIT(p[1])))))
        return NULL;
    for (; p < end && IS_DIGIT(*p); p++) {
        /* Beyond any array either way. */
        if (n < INT64_MAX / 100)
            n = n * 10 + (*p - '0');
    }
    *index = negative ? -n : n;
    return p;
}

static int read_pointer(const byte *text, const byte *end, kv_json_path *path, const byte **at)
{
    const byte *p = text;

    while (p < end) {
        kv_json_step *step;
        const byte *start = ++p; /* behind the slash */

        for (; p < end && *p != '/'; p++) {
            if (*p == '~' && (end - p < 2 || (p[1] != '0' && p[1] != '1'))) {
                *at = p;
                return KV_JSON_EPATH;
            }
        }
        if (path->count == KV_JSON_DEPTH) {
            *at = start;
            return KV_JSON_EDEPTH;
        }
        step = &path->step[path->count++];
        step->name = (const char *)start;
        step->len = (size_t)(p - start);
        step->spelled = KV_JSON_PLAIN;
        if (memchr(start, '~', step->len) != NULL)
            step->spelled = KV_JSON_POINTER;
        step->by = KV_JSON_BY_KEY;
        if (step->len == 1 && *start == '-') {
            step->by = KV_JSON_BY_EITHER;
            step->index = KV_JSON_BEHIND;
        } else if (step->len > 0 && read_index(start, p, &step->index) == p) {
            step->by = KV_JSON_BY_EITHER;
        }
    }
    return KV_JSON_OK;
}

static int read_names(const byte *text, const byte *end, kv_json_path *path, const byte **at)
{
    const byte *p = text;

    while (p < end) {
        kv_json_step *step = &path->step[path->count];
        const byte *start;

        *at = p;
        if (path->count == KV_JSON_DEPTH)
            return KV_JSON_EDEPTH;
        if (*p != '[') {
            if (p != text && *p++ != '.')
                return KV_JSON_EPATH;
            start = p;
            while (p < end && *p != '.' && *p != '[' && *p != ']' && *p != '"')
                p++;
            *at = p;
            if (p == start || (p < end && (*p == ']' || *p == '"')))
                return KV_JSON_EPATH;
            *at = start;
            if (*start == '/')
                return KV_JSON_EPATH;
            step->by = KV_JSON_BY_KEY;
            step->spelled = KV_JSON_PLAIN;
            step->name = (const char *)start;
            step->len = (size_t)(p - start);
        } else if (end - p > 1 && p[1] == '"') {
            byte escaped = 0;
            int code = KV_JSON_OK;
            start = p + 2;
            p = scan_string(start, end, &escaped, &code);
            *at = p;
            if (code != KV_JSON_OK)
                return KV_JSON_EPATH;
            step->by = KV_JSON_BY_KEY;
            step->spelled = escaped ? KV_JSON_QUOTED : KV_JSON_PLAIN;
            step->name = (const char *)start;
            step->len = (size_t)(p++ - start);
            *at = p;
            if (p == end || *p++ != ']')
                return KV_JSON_EPATH;
        } else {
            *at = p + 1;
            p = read_index(p + 1, end, &step->index);
            if (p == NULL)
                return KV_JSON_EPATH;
            *at = p;
            if (p == end || *p++ != ']')
                return KV_JSON_EPATH;
            step->by = KV_JSON_BY_INDEX;
        }
        path->count++;
    }
    return KV_JSON_OK;
}

int kv_json_path_read(const char *text, size_t len, kv_json_path *path, kv_json_error *err)
{
    const byte *p = (const byte *)text, *end = p + len, *at = p;
    size_t bad = 0;
    int code = KV_JSON_OK;

    path->count = 0;
    if (kv_json_utf8(text, len, &bad) != KV_JSON_OK) {
        code = KV_JSON_EPATH;
        at = p + bad;
    } else if (len > 0) {
        code = *p == '/' ? read_pointer(p, end, path, &at) : read_names(p, end, path, &at);
    }
    if (err != NULL) {
        err->code = code;
        err->offset = code == KV_JSON_OK ? 0 : (size_t)(at - p);
    }
    return code;
}

/* ---- comparing keys ----------------------------------------------------------------------- */

/* A key, byte by byte, however it is spelled. */
struct letters {
    const byte *p, *end;
    int spelled;
    char kept[4]; /* what an escape stands for */
    size_t at, have;
};

/* -1: there is none any more. */
static int next_letter(struct letters *l)
{
    if (l->at < l->have)
        return (byte)l->kept[l->at++];
    if (l->p == l->end)
        return -1;
    if (l->spelled == KV_JSON_QUOTED && *l->p == '\\') {
        int code;
        const byte *next = kv_json_scan_escape(l->p, l->end, &code);
        if (code != KV_JSON_OK) { /* of a text that nobody checked: equal to nothing */
            l->p = l->end;
            return -2;
        }
        l->at = 0;
        l->have = kv_json_unescape((const char *)l->p, (size_t)(next - l->p), l->kept);
        l->p = next;
        return next_letter(l);
    }
    if (l->spelled == KV_JSON_POINTER && *l->p == '~') {
        l->p += 2;
        return l->p[-1] == '1' ? '/' : '~';
    }
    return *l->p++;
}

static int same_letters(const byte *key, size_t len, const kv_json_step *step)
{
    struct letters a = {0}, b = {0};
    int c;

    a.p = key;
    a.end = key + len;
    a.spelled = KV_JSON_QUOTED;
    b.p = (const byte *)step->name;
    b.end = b.p + step->len;
    b.spelled = step->spelled;
    do {
        c = next_letter(&a);
        if (c != next_letter(&b))
            return 0;
    } while (c >= 0);
    return 1;
}

/* ---- passing values ----------------------------------------------------------------------- */

static inline int ones(uint64_t x)
{
    /* The instruction is not there on every x86-64. */
    x -= x >> 1 & EACH(0x55);
    x = (x & EACH(0x33)) + (x >> 2 & EACH(0x33));
    x = (x + (x >> 4)) & EACH(0x0f);
    return (int)(x * EACH(1) >> 56);
}

/* The brackets outside strings, 64 bytes at a time. */
struct brackets {
    const byte *text;
    size_t at, len;       /* text[at, len) is still to be looked at */
    uint64_t in_string;   /* all ones: the bytes so far end within a string */
    uint64_t escaped;     /* 1: the byte at `at` is behind a backslash */
    uint64_t open, close; /* bit i: the byte at - 64 + i */
};

static inline void next_brackets(struct brackets *b)
{
    struct marks m;
    uint64_t in;

    if (b->len - b->at >= 64) {
        mark64(b->text + b->at, &m);
    } else {
        byte last[64];
        memset(last, ' ', sizeof(last));
        memcpy(last, b->text + b->at, b->len - b->at);
        mark64(last, &m);
    }
    b->at += 64;
    if ((m.slash | b->escaped) != 0) {
        uint64_t escaped = b->escaped, left = m.slash & ~escaped;
        b->escaped = 0;
        while (left != 0) {
            int i = __builtin_ctzll(left);
            left &= left - 1;
            if (i == 63) {
                b->escaped = 1;
                break;
            }
            escaped |= UINT64_C(2) << i;
            left &= ~(UINT64_C(2) << i);
        }
        m.quote &= ~escaped;
    }
    /* Bit i of the product with all ones is the parity of the quotes up to i. */
    in = m.quote;
    in ^= in << 1;
    in ^= in << 2;
    in ^= in << 4;
    in ^= in << 8;
    in ^= in << 16;
    in ^= in << 32;
    in ^= b->in_string;
    b->in_string = 0 - (in >> 63);
    b->open = m.open & ~in;
    b->close = m.close & ~in;
}

/* From behind an opening bracket: returns what follows the bracket that closes it, or NULL. */
static const byte *pass_container(const byte *p, const byte *end)
{
    struct brackets b = {0};
    int64_t depth = 1;

    b.text = p;
    b.len = (size_t)(end - p);
    while (b.at < b.len) {
        next_brackets(&b);
        if ((b.open | b.close) == 0)
            continue;
        if (ones(b.close) < depth) {
            depth += ones(b.open) - ones(b.close);
            continue;
        }
        for (uint64_t m = b.open | b.close; m != 0; m &= m - 1) {
            uint64_t bit = m & (0 - m);
            if ((b.open & bit) != 0)
                depth++;
            else if (--depth == 0)
                return p + (b.at - 64) + __builtin_ctzll(bit) + 1;
        }
    }
    return NULL;
}

size_t kv_json_depth(const char *text, size_t len)
{
    struct brackets b = {0};
    int64_t depth = 0, most = 0;

    b.text = (const byte *)text;
    b.len = len;
    while (b.at < b.len) {
        next_brackets(&b);
        for (uint64_t m = b.open | b.close; m != 0; m &= m - 1) {
            depth += (b.open & m & (0 - m)) != 0 ? 1 : -1;
            if (depth > most)
                most = depth;
        }
    }
    return (size_t)most;
}

/* From behind the opening quote: returns what follows the closing one, or NULL. */
static inline const byte *pass_string(const byte *p, const byte *end, int *escaped)
{
    for (;;) {
        p = find_quote(p, end);
        if (p == end)
            return NULL;
        if (*p == '"')
            return p + 1;
        *escaped = 1;
        if (end - p < 2)
            return NULL;
        p += 2;
    }
}

static inline const byte *pass_value(const byte *p, const byte *end)
{
    const byte *start = p;
    int escaped = 0;

    if (p == end)
        return NULL;
    switch (*p) {
    case '"':
        return pass_string(p + 1, end, &escaped);
    case '{':
    case '[':
        return pass_container(p + 1, end);
    }
    while (p<end && * p> ' ' && *p != ',' && *p != ']' && *p != '}')
        p++;
    return p == start ? NULL : p;
}

/* ---- items of a container ----------------------------------------------------------------- */

/* One walk over a container. */
struct walk {
    const byte *end;  /* of the text */
    const byte *item; /* the current one: its key or itself; NULL: there is none any more */
    const byte *key;  /* behind its quote; objects only */
    size_t key_len;
    int escaped;
    const byte *value, *value_end;
    byte close; /* what ends the container */
};

/* Reads the item at w->item. 0: the text is no JSON. */
static inline int read_item(struct walk *w)
{
    const byte *p = w->item, *end = w->end;

    if (w->close == '}') {
        if (*p != '"')
            return 0;
        w->key = ++p;
        w->escaped = 0;
        p = pass_string(p, end, &w->escaped);
        if (p == NULL)
            return 0;
        w->key_len = (size_t)(p - w->key) - 1;
        p = skip_space(p, end);
        if (p == end || *p != ':')
            return 0;
        p = skip_space(p + 1, end);
    }
    w->value = p;
    w->value_end = pass_value(p, end);
    return w->value_end != NULL;
}

/* To the first item of the container at p. 0: no JSON. */
static inline int first_item(struct walk *w, const byte *p, const byte *end)
{
    w->end = end;
    w->close = *p == '[' ? ']' : '}';
    w->item = p = skip_space(p + 1, end);
    if (p == end)
        return 0;
    if (*p == w->close) {
        w->item = NULL;
        return 1;
    }
    return read_item(w);
}

/* Where the next item begins; NULL: there is none. 0: no JSON. */
static inline int next_start(const struct walk *w, const byte **start)
{
    const byte *p = skip_space(w->value_end, w->end);

    *start = NULL;
    if (p == w->end || (*p != ',' && *p != w->close))
        return 0;
    if (*p == ',') {
        *start = skip_space(p + 1, w->end);
        return *start != w->end;
    }
    return 1;
}

static inline int next_item(struct walk *w)
{
    return next_start(w, &w->item) && (w->item == NULL || read_item(w));
}

static inline int is_key(const struct walk *w, const kv_json_step *step)
{
    if (!w->escaped && step->spelled == KV_JSON_PLAIN)
        return w->key_len == step->len && memcmp(w->key, step->name, step->len) == 0;
    return same_letters(w->key, w->key_len, step);
}

int kv_json_items(const char *text, size_t len, kv_json_place *place)
{
    const byte *base = (const byte *)text, *tail = base + place->start + 1;
    struct walk w;
    size_t n = 0;
    int fine = first_item(&w, base + place->start, base + len);

    while (fine && w.item != NULL) {
        n++;
        tail = w.value_end;
        fine = next_item(&w);
    }
    place->items = n;
    place->tail = (size_t)(tail - base);
    return fine ? KV_JSON_OK : KV_JSON_ESYNTAX;
}

size_t kv_json_count(const char *text, size_t len)
{
    kv_json_place place = {0};

    if (len == 0 || (*text != '[' && *text != '{') ||
        kv_json_items(text, len, &place) != KV_JSON_OK)
        return 0;
    return place.items;
}

/* ---- finding ------------------------------------------------------------------------------ */

/* Notes the current item of the walk as where the step led; `before` ends the one in front. */
static void note(kv_json_place *at, const struct walk *w, const byte *text, const byte *before)
{
    at->item = (size_t)(w->item - text);
    at->before = before != NULL ? (size_t)(before - text) : 0;
    at->start = (size_t)(w->value - text);
    at->end = (size_t)(w->value_end - text);
    at->after = 0;
}

/* A step into the object at place->start: the last member with the key. */
static int find_member(const byte *text, const byte *end, const kv_json_step *step,
                       kv_json_place *place)
{
    kv_json_place at = *place;
    const byte *before = NULL;
    struct walk w;
    size_t items = 0, found = 0;
    int latest = 0, fine = first_item(&w, text + place->start, end);

    while (fine && w.item != NULL) {
        items++;
        if (latest)
            at.after = (size_t)(w.item - text);
        latest = is_key(&w, step);
        if (latest) {
            note(&at, &w, text, before);
            found++;
        }
        before = w.value_end;
        fine = next_item(&w);
    }
    if (!fine)
        return KV_JSON_ESYNTAX;
    place->items = items;
    place->tail = before != NULL ? (size_t)(before - text) : place->start + 1;
    if (found == 0)
        return KV_JSON_EMISSING;
    at.holder = place->start;
    at.twins = found - 1;
    at.steps++;
    *place = at;
    return KV_JSON_OK;
}

int kv_json_element(const char *text, size_t len, int64_t index, kv_json_place *place)
{
    const byte *base = (const byte *)text, *end = base + len, *before = NULL, *next;
    struct walk w;
    int64_t n = 0;
    int fine;

    if (index < 0) {
        if (kv_json_items(text, len, place) != KV_JSON_OK)
            return KV_JSON_ESYNTAX;
        index += (int64_t)place->items; /* still below 0: passes them all */
    }
    for (fine = first_item(&w, base + place->start, end); fine && w.item != NULL;
         fine = next_item(&w)) {
        if (n++ == index) {
            place->holder = place->start;
            place->twins = 0;
            place->steps++;
            note(place, &w, base, before);
            if (!next_start(&w, &next))
                return KV_JSON_ESYNTAX;
            if (next != NULL)
                place->after = (size_t)(next - base);
            return KV_JSON_OK;
        }
        before = w.value_end;
    }
    if (!fine)
        return KV_JSON_ESYNTAX;
    place->items = (size_t)n;
    place->tail = before != NULL ? (size_t)(before - base) : place->start + 1;
    return KV_JSON_EMISSING;
}

int kv_json_find(const char *text, size_t len, const kv_json_path *path, size_t count,
                 kv_json_place *place)
{
    const byte *base = (const byte *)text, *end = base + len, *p;
    int code = KV_JSON_OK;

    memset(place, 0, sizeof(*place));
    p = skip_space(base, end);
    while (end > p && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')))
        end--;
    if (p == end)
        return KV_JSON_EEND;
    place->start = (size_t)(p - base);
    place->end = (size_t)(end - base);
    while (code == KV_JSON_OK && place->steps < count) {
        const kv_json_step *step = &path->step[place->steps];
        /* The last step's bounds do for the next one's end: nothing behind them is looked at. */
        const byte *stop = base + place->end;
        byte c = base[place->start];

        if (c == '{')
            code = step->by == KV_JSON_BY_INDEX ? KV_JSON_EARRAY
                                                : find_member(base, stop, step, place);
        else if (c == '[')
            code = step->by == KV_JSON_BY_KEY
                       ? KV_JSON_EOBJECT
                       : kv_json_element(text, place->end, step->index, place);
        else
            code = step->by == KV_JSON_BY_INDEX ? KV_JSON_EARRAY : KV_JSON_EOBJECT;
    }
    return code;
}

/* ---- many at once ------------------------------------------------------------------------- */

/* Splicing them out one by one would move the rest of the text for each: a document made of twins
 * would take for ever. */
size_t kv_json_remove_all(char *text, size_t len, size_t holder, const kv_json_step *step)
{
    const byte *base = (const byte *)text, *end = base + len, *done;
    struct walk w;
    char *to, *first;
    int fine = first_item(&w, base + holder, end);

    if (!fine || w.item == NULL)
        return len;
    done = w.item;
    to = first = text + (w.item - base);
    while (fine && w.item != NULL) {
        /* What is between two items goes with the later one, if there is one before it. */
        const byte *from = to == first ? w.item : done;
        int keep = !is_key(&w, step);

        done = w.value_end;
        fine = next_item(&w); /* before its bytes move */
        if (keep) {
            memmove(to, from, (size_t)(done - from));
            to += done - from;
        }
    }
    memmove(to, done, (size_t)(end - done));
    return (size_t)(to - text) + (size_t)(end - done);
}
