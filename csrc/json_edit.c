/* SPDX-License-Identifier: MIT */
/*
 * json_edit.c - what an edit comes to, and the splice that does it.
 *
 * An edit is planned on the document as it is: where, how many bytes go, and which come. What
 * comes is put together when it is written: a comma if there are neighbours, the keys and brackets
 * of the steps that lead nowhere yet, the value, and their closing brackets. New items stand right
 * behind the last one, so white space before a closing bracket stays there.
 */
#include "json_edit.h"
#include "json_part.h"

/* ---- the splice --------------------------------------------------------------------------- */

/* The key of a step as a JSON string without its quotes: its length, written to `to` unless that
 * is NULL. */
static size_t spell_key(const kv_json_step *step, char *to)
{
    const char *p = step->name, *end = p + step->len;
    size_t size = step->len, n = 0;

    if (step->spelled == KV_JSON_QUOTED) {
        if (to != NULL)
            memcpy(to, p, size);
        return size;
    }
    for (;;) {
        const char *stop =
            step->spelled == KV_JSON_POINTER && p < end ? memchr(p, '~', (size_t)(end - p)) : NULL;
        size_t part = (size_t)((stop != NULL ? stop : end) - p);

        if (to != NULL) {
            n += kv_json_escape(p, part, to + n);
        } else {
            (void)kv_json_escape_size(p, part, &size); /* a path is UTF-8 */
            n += size;
        }
        if (stop == NULL)
            return n;
        if (to != NULL)
            to[n] = stop[1] == '1' ? '/' : '~';
        n++;
        p = stop + 2;
    }
}

/* Whether the container that is made for a step is an array. */
static int makes_array(const kv_json_step *step)
{
    return step->by == KV_JSON_BY_INDEX ||
           (step->by == KV_JSON_BY_EITHER && step->index == KV_JSON_BEHIND);
}

/* Whether the step needs a key in the container that it is made in. */
static int needs_key(const kv_json_splice *s, size_t i)
{
    return i == s->from && s->inside != 0 ? s->inside == 1 : !makes_array(&s->path->step[i]);
}

static void measure(kv_json_splice *s)
{
    size_t n = (size_t)(s->comma != 0) + (s->wrap ? 2 : 0) + s->value_len;

    for (size_t i = s->from; i < s->upto; i++) {
        if (i > s->from || s->inside == 0)
            n += 2; /* brackets */
        if (needs_key(s, i))
            n += spell_key(&s->path->step[i], NULL) + 3;
    }
    s->size = n;
}

size_t kv_json_splice_apply(char *text, size_t len, const kv_json_splice *s)
{
    char *to = text + s->at;

    memmove(to + s->size, to + s->del, len - s->at - s->del);
    if (s->comma == 1)
        *to++ = ',';
    for (size_t i = s->from; i < s->upto; i++) {
        if (i > s->from || s->inside == 0)
            *to++ = makes_array(&s->path->step[i]) ? '[' : '{';
        if (needs_key(s, i)) {
            *to++ = '"';
            to += spell_key(&s->path->step[i], to);
            *to++ = '"';
            *to++ = ':';
        }
    }
    if (s->wrap)
        *to++ = '[';
    if (s->value_len > 0)
        memcpy(to, s->value, s->value_len);
    to += s->value_len;
    if (s->wrap)
        *to++ = ']';
    for (size_t i = s->upto; i-- > s->from;) {
        if (i > s->from || s->inside == 0)
            *to++ = makes_array(&s->path->step[i]) ? ']' : '}';
    }
    if (s->comma == 2)
        *to = ',';
    return len - s->del + s->size;
}

/* ---- where it goes ------------------------------------------------------------------------ */

struct plan {
    const char *text;
    size_t len;
    const kv_json_path *path;
    kv_json_edit *e;
    kv_json_splice *s;
    kv_json_place at;
};

/* The value takes the place of text[at, at + del), below `level` containers. */
static int put(struct plan *p, size_t at, size_t del, size_t level)
{
    kv_json_splice *s = p->s;

    s->at = at;
    s->del = del;
    /* A bracket takes two bytes, so a short value needs no look. */
    if (level + s->value_len / 2 > KV_JSON_DEPTH &&
        level + kv_json_depth(s->value, s->value_len) > KV_JSON_DEPTH)
        return KV_JSON_EDEPTH;
    measure(s);
    return KV_JSON_OK;
}

/* The value becomes the last item of the container that lacks it. */
static int put_last(struct plan *p, size_t level)
{
    p->s->comma = p->at.items > 0 && (p->s->wrap || p->s->value_len > 0);
    return put(p, p->at.tail, 0, level);
}

/* Makes what `count` steps lead to, which is missing, with the value in it. */
static int make(struct plan *p, size_t count, size_t level)
{
    const kv_json_step *step = p->path->step;
    size_t i = p->at.steps;

    if (!p->e->create)
        return KV_JSON_EMISSING;
    p->s->from = i;
    p->s->upto = count;
    if (p->len > 0) {
        p->s->inside = p->text[p->at.start] == '{' ? 1 : 2;
        if (p->s->inside == 2 && step[i].index != KV_JSON_BEHIND &&
            step[i].index != (int64_t)p->at.items)
            return KV_JSON_EINDEX;
        i++;
    }
    for (; i < count; i++) {
        if (makes_array(&step[i]) && step[i].index != 0 && step[i].index != KV_JSON_BEHIND)
            return KV_JSON_EINDEX;
    }
    return p->len > 0 ? put_last(p, level) : put(p, 0, 0, level);
}

/* Looks for what `count` steps lead to; the conditions are about that. KV_JSON_EMISSING: it is not
 * there, *missing says whether that is all that is wrong. */
static int look(struct plan *p, size_t count, int *missing)
{
    int code = KV_JSON_EMISSING;

    memset(&p->at, 0, sizeof(p->at));
    if (p->len > 0)
        code = kv_json_find(p->text, p->len, p->path, count, &p->at);
    *missing = code == KV_JSON_EMISSING && !p->e->exist;
    if (code == KV_JSON_OK && p->e->absent)
        return KV_JSON_EEXISTS;
    return code;
}

/* ---- the edits ---------------------------------------------------------------------------- */

/* Without `[`, `]` and white space. */
static void elements_of(const char *text, size_t len, const char **from, size_t *size)
{
    const byte *p = (const byte *)text, *end = p + len;

    p = skip_space(p + 1, end);
    end -= end > p;
    while (end > p && end[-1] <= ' ')
        end--;
    *from = (const char *)p;
    *size = (size_t)(end - p);
}

static int plan_set(struct plan *p)
{
    int missing, code = look(p, p->path->count, &missing);

    if (code == KV_JSON_OK && p->path->count == 0)
        return put(p, 0, p->len, 0); /* with the white space around it */
    if (code == KV_JSON_OK)
        return put(p, p->at.start, p->at.end - p->at.start, p->path->count);
    return missing ? make(p, p->path->count, p->path->count) : code;
}

static int plan_increment(struct plan *p)
{
    kv_json_edit *e = p->e;
    int missing, code = look(p, p->path->count, &missing), kind = KV_JSON_INTEGER, whole = 1;
    int64_t i = 0;
    double d = 0;

    if (code != KV_JSON_OK && !missing)
        return code;
    if (code == KV_JSON_OK) {
        const char *text = p->text + p->at.start;
        size_t len = p->at.end - p->at.start;
        kind = kv_json_number_parse(text, len, &i, &d);
        if (kind < 0)
            return KV_JSON_EADD;
        for (size_t k = 0; k < len; k++)
            whole &= text[k] == '-' || (text[k] >= '0' && text[k] <= '9');
    }
    if (kind == KV_JSON_INTEGER && e->kind == KV_JSON_INTEGER) {
        if (__builtin_add_overflow(i, e->integer, &e->integer))
            return KV_JSON_EINDEX;
        p->s->value_len = kv_json_integer_format(e->integer, e->digits);
    } else {
        /* An integer of more than 64 bits is not to lose its last digits unnoticed. */
        if (kind == KV_JSON_DOUBLE && whole && d != 0 && e->kind == KV_JSON_INTEGER)
            return KV_JSON_EINDEX;
        e->number = (kind == KV_JSON_INTEGER ? (double)i : d) +
                    (e->kind == KV_JSON_INTEGER ? (double)e->integer : e->number);
        e->kind = KV_JSON_DOUBLE;
        p->s->value_len = kv_json_number_format(e->number, 1, e->digits);
        if (p->s->value_len == 0)
            return KV_JSON_EINDEX;
    }
    p->s->value = e->digits;
    if (code == KV_JSON_OK)
        return put(p, p->at.start, p->at.end - p->at.start, p->path->count);
    return make(p, p->path->count, p->path->count);
}

static int plan_push(struct plan *p)
{
    kv_json_edit *e = p->e;
    kv_json_place value = {0};
    int missing, code = look(p, p->path->count, &missing);

    if (code != KV_JSON_OK && !missing)
        return code;
    if (code == KV_JSON_OK && p->text[p->at.start] != '[')
        return KV_JSON_EARRAY;
    value.items = 1;
    if (e->op == KV_JSON_EXTEND &&
        (*e->value != '[' || kv_json_items(e->value, e->value_len, &value) != KV_JSON_OK))
        return KV_JSON_EARRAY;
    e->length = value.items;
    if (e->op == KV_JSON_EXTEND)
        elements_of(e->value, e->value_len, &p->s->value, &p->s->value_len);
    if (code != KV_JSON_OK) {
        p->s->wrap = 1;
        return make(p, p->path->count, p->path->count + 1);
    }
    code = kv_json_items(p->text, p->len, &p->at);
    e->length += p->at.items;
    return code == KV_JSON_OK ? put_last(p, p->path->count + 1) : code;
}

static int plan_insert(struct plan *p)
{
    size_t count = p->path->count;
    const kv_json_step *last;
    kv_json_place array;
    int missing, code;

    if (count == 0)
        return KV_JSON_EPATH;
    last = &p->path->step[count - 1];
    if (last->by == KV_JSON_BY_KEY)
        return KV_JSON_EPATH;
    code = look(p, count - 1, &missing);
    if (missing) {
        if (last->index != 0 && last->index != KV_JSON_BEHIND)
            return p->e->create ? KV_JSON_EINDEX : KV_JSON_EMISSING;
        p->s->wrap = 1;
        p->e->length = 1;
        return make(p, count - 1, count);
    }
    if (code != KV_JSON_OK)
        return code;
    if (p->text[p->at.start] != '[')
        return KV_JSON_EARRAY;
    array = p->at;
    code = kv_json_items(p->text, p->len, &array);
    if (code != KV_JSON_OK)
        return code;
    p->e->length = array.items + 1;
    if (last->index == KV_JSON_BEHIND || last->index == (int64_t)array.items) {
        p->at = array;
        return put_last(p, count);
    }
    code = kv_json_element(p->text, p->len, last->index, &p->at);
    if (code != KV_JSON_OK)
        return code == KV_JSON_EMISSING ? KV_JSON_EINDEX : code;
    p->s->comma = 2;
    return put(p, p->at.item, 0, count);
}

/* The item at p->at, and one of the commas beside it. */
static int take_out(struct plan *p)
{
    kv_json_splice *s = p->s;
    const kv_json_place *at = &p->at;

    s->value_len = 0;
    s->at = at->after == 0 && at->before != 0 ? at->before : at->item;
    s->del = (at->after != 0 ? at->after : at->end) - s->at;
    s->size = 0;
    p->e->start = at->start;
    p->e->end = at->end;
    p->e->twins = at->twins;
    p->e->holder = at->holder;
    return KV_JSON_OK;
}

static int plan_pop(struct plan *p)
{
    int missing, code = look(p, p->path->count, &missing);

    if (code != KV_JSON_OK)
        return code;
    if (p->text[p->at.start] != '[')
        return KV_JSON_EARRAY;
    code = kv_json_element(p->text, p->len, p->e->index, &p->at);
    return code == KV_JSON_OK ? take_out(p) : code;
}

static int plan_remove(struct plan *p)
{
    int missing, code = look(p, p->path->count, &missing);

    return code == KV_JSON_OK ? take_out(p) : code;
}

static int plan_toggle(struct plan *p)
{
    int missing, code = look(p, p->path->count, &missing);
    char c = code == KV_JSON_OK ? p->text[p->at.start] : 'f';

    if (code != KV_JSON_OK && !missing)
        return code;
    if (c != 't' && c != 'f')
        return KV_JSON_EBOOLEAN;
    p->e->truth = c == 'f';
    p->s->value = p->e->truth ? "true" : "false";
    p->s->value_len = p->e->truth ? 4 : 5;
    if (code != KV_JSON_OK)
        return make(p, p->path->count, p->path->count);
    return put(p, p->at.start, p->at.end - p->at.start, p->path->count);
}

static int plan_append(struct plan *p)
{
    kv_json_edit *e = p->e;
    int missing, code = look(p, p->path->count, &missing);

    if (code != KV_JSON_OK && !missing)
        return code;
    e->length = kv_json_unescaped_size(e->value + 1, e->value_len - 2);
    if (code != KV_JSON_OK)
        return make(p, p->path->count, p->path->count);
    if (p->text[p->at.start] != '"' || p->at.end - p->at.start < 2)
        return KV_JSON_ESTRING;
    e->length += kv_json_unescaped_size(p->text + p->at.start + 1, p->at.end - p->at.start - 2);
    p->s->value++;
    p->s->value_len -= 2;
    return put(p, p->at.end - 1, 0, 0);
}

int kv_json_plan(const char *text, size_t len, const kv_json_path *path, kv_json_edit *e,
                 kv_json_splice *s)
{
    struct plan p;

    p.text = text;
    p.len = len;
    p.path = path;
    p.e = e;
    p.s = s;
    memset(s, 0, sizeof(*s));
    s->path = path;
    s->value = e->value;
    s->value_len = e->value_len;
    e->twins = 0;
    switch (e->op) {
    case KV_JSON_SET:
        return plan_set(&p);
    case KV_JSON_INCREMENT:
        return plan_increment(&p);
    case KV_JSON_PUSH:
    case KV_JSON_EXTEND:
        return plan_push(&p);
    case KV_JSON_INSERT:
        return plan_insert(&p);
    case KV_JSON_POP:
        return plan_pop(&p);
    case KV_JSON_REMOVE:
        return plan_remove(&p);
    case KV_JSON_TOGGLE:
        return plan_toggle(&p);
    case KV_JSON_APPEND:
        return plan_append(&p);
    }
    return KV_JSON_EPATH;
}

/* ---- merging ------------------------------------------------------------------------------ */

/* One of the two things that a patch does at a place. */
static int merge_one(char *text, size_t *len, const kv_json_path *path, int op, const char *value,
                     size_t value_len)
{
    kv_json_splice s;
    kv_json_edit e;
    int code;

    memset(&e, 0, sizeof(e));
    e.op = op;
    e.create = 1;
    e.value = value;
    e.value_len = value_len;
    code = kv_json_plan(text, *len, path, &e, &s);
    if (code == KV_JSON_EMISSING) /* nothing to remove */
        return KV_JSON_OK;
    if (code != KV_JSON_OK)
        return code;
    *len = e.twins > 0 ? kv_json_remove_all(text, *len, e.holder, &path->step[path->count - 1])
                       : kv_json_splice_apply(text, *len, &s);
    return KV_JSON_OK;
}

/* An object of the patch is merged into an object, whatever is there now. */
static int merge_into_object(char *text, size_t *len, const kv_json_path *path)
{
    kv_json_place at;

    if (*len > 0 && kv_json_find(text, *len, path, path->count, &at) == KV_JSON_OK &&
        text[at.start] == '{')
        return KV_JSON_OK;
    return merge_one(text, len, path, KV_JSON_SET, "{}", 2);
}

int kv_json_merge(char *text, size_t *len, const char *patch, size_t patch_len)
{
    kv_json_path path;
    kv_json_scan scan;
    kv_json_step *step;
    size_t start;
    int code = kv_json_check(patch, patch_len, NULL), token, depth;

    path.count = 0;
    kv_json_scan_init(&scan, patch, patch_len);
    while (code == KV_JSON_OK) {
        token = kv_json_next(&scan);
        start = scan.start;
        switch (token) {
        case KV_JSON_END:
            return KV_JSON_OK;
        case KV_JSON_FAIL:
            return scan.err.code;
        case KV_JSON_OBJECT:
            code = merge_into_object(text, len, &path);
            /* Room for the keys of this object. */
            if (code == KV_JSON_OK)
                path.count++;
            continue;
        case KV_JSON_OBJECT_END:
            path.count--;
            continue;
        case KV_JSON_KEY:
            step = &path.step[path.count - 1];
            step->by = KV_JSON_BY_KEY;
            step->spelled = scan.escaped ? KV_JSON_QUOTED : KV_JSON_PLAIN;
            step->name = patch + scan.start + 1;
            step->len = scan.end - scan.start - 2;
            continue;
        case KV_JSON_ARRAY:
            for (depth = scan.depth - 1; scan.depth > depth;) {
                if (kv_json_next(&scan) == KV_JSON_FAIL)
                    return scan.err.code;
            }
            break;
        case KV_JSON_NULL:
            if (path.count > 0) {
                code = merge_one(text, len, &path, KV_JSON_REMOVE, NULL, 0);
                continue;
            }
        }
        code = merge_one(text, len, &path, KV_JSON_SET, patch + start, scan.end - start);
    }
    return code;
}
