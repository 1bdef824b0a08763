/* SPDX-License-Identifier: MIT
 *
 * field.c - reading and editing one field of a stored document.
 *
 * An edit reads the record into the handle's scratch, works out there what the document becomes,
 * and puts it on condition that the record is still the one that was read; if not, it starts again.
 * So the lock is held no longer than for any other put, and no edit is lost. A round that is lost
 * is one that somebody else won. The text is spliced where it lies: there is no buffer beside the
 * new document.
 */
#include "json_edit.h"
#include "write.h"

#include <stdlib.h>
#include <string.h>

KV_STATIC_ASSERT((int)KV_EDIT_SET == (int)KV_JSON_SET &&
                     (int)KV_EDIT_INCREMENT == (int)KV_JSON_INCREMENT &&
                     (int)KV_EDIT_POP == (int)KV_JSON_POP &&
                     (int)KV_EDIT_APPEND == (int)KV_JSON_APPEND,
                 operations_have_the_same_numbers);

/* The code of kv.h for one of json.h, with a message. */
static int refused(int code, size_t at)
{
    const char *what = kv_json_strerror(code);

    switch (code) {
    case KV_JSON_OK:
        return KV_OK;
    case KV_JSON_EPATH:
        return kv_fail(KV_EBADPATH, "bad path: wrong at byte %zu", at + 1);
    case KV_JSON_EMISSING:
        return kv_fail(KV_ENOTFOUND, "%s", what);
    case KV_JSON_EEXISTS:
        return kv_fail(KV_EEXISTS, "%s", what);
    case KV_JSON_EOBJECT:
        return kv_fail(KV_ENOTOBJECT, "%s", what);
    case KV_JSON_EARRAY:
        return kv_fail(KV_ENOTARRAY, "%s", what);
    case KV_JSON_ESTRING:
        return kv_fail(KV_ENOTSTRING, "%s", what);
    case KV_JSON_EBOOLEAN:
        return kv_fail(KV_ENOTBOOLEAN, "%s", what);
    case KV_JSON_EADD:
        return kv_fail(KV_ENOTNUMBER, "%s", what);
    case KV_JSON_EINDEX:
        return kv_fail(KV_ERANGE, "%s", what);
    case KV_JSON_EDEPTH:
        return kv_fail(KV_ETOODEEP, "%s", what);
    }
    return kv_fail(KV_ENOTJSON, "not JSON: %s at byte %zu", what, at + 1);
}

/* ---- documents ------------------------------------------------------------------------ */

/* A value as JSON text. Of a scalar: in `room`. */
typedef struct document {
    const char *text;
    size_t len;
    char room[KV_JSON_NUMBER_MAX];
} document;

static int document_of(const kv_value *v, document *d)
{
    kv_json_error err;

    d->text = d->room;
    switch (v->type) {
    case KV_STRING:
        if (kv_json_check(v->data, v->len, &err) != KV_JSON_OK)
            return refused(err.code, err.offset);
        /* fall through */
    case KV_JSON:
        d->text = v->data;
        d->len = v->len;
        return KV_OK;
    case KV_INTEGER:
        d->len = kv_json_integer_format(v->integer, d->room);
        return KV_OK;
    case KV_NUMBER:
        d->len = kv_json_number_format(v->number, 1, d->room);
        return KV_OK;
    case KV_BOOLEAN:
        d->len = v->integer ? 4 : 5;
        memcpy(d->room, v->integer ? "true" : "false", d->len);
        return KV_OK;
    default:
        d->len = 4;
        memcpy(d->room, "null", 4);
        return KV_OK;
    }
}

/* The reverse: a scalar is stored as what it is, so that kv_incr and the like go on working. */
static void value_of(int was, const char *text, size_t len, kv_value *v)
{
    int kind;

    memset(v, 0, sizeof *v);
    v->type = was == KV_STRING ? KV_STRING : KV_JSON;
    v->data = text;
    v->len = (uint32_t)len;
    if (was == KV_STRING || len > KV_JSON_NUMBER_MAX)
        return;
    switch (*text) {
    case 't':
    case 'f':
        v->type = KV_BOOLEAN;
        v->integer = *text == 't';
        break;
    case 'n':
        v->type = KV_NULL;
        break;
    default:
        kind = kv_json_number_parse(text, len, &v->integer, &v->number);
        if (kind > 0)
            v->type = kind == KV_JSON_INTEGER ? KV_INTEGER : KV_NUMBER;
    }
}

/* Makes room for `need` bytes from `text` on, of which `len` are there, in whichever scratch of ns
 * holds them; a text that is in neither moves to one. Returns where it is then. */
static char *widen(kv_ns *ns, const char *text, size_t len, size_t need)
{
    kv_scratch *s = &ns->scratch;
    uintptr_t p = (uintptr_t)text;
    size_t before;
    char *to;

    if (p < (uintptr_t)s->p || p >= (uintptr_t)s->p + s->cap)
        s = &ns->blob;
    if (p < (uintptr_t)s->p || p >= (uintptr_t)s->p + s->cap) {
        if (kv_scratch_need(s, need) != KV_OK)
            return NULL;
        if (len > 0)
            memcpy(s->p, text, len);
        return s->p;
    }
    before = (size_t)(p - (uintptr_t)s->p);
    if (before + need > s->cap) {
        to = realloc(s->p, before + need);
        if (to == NULL) {
            (void)kv_fail(KV_ENOMEM, "out of memory (%zu bytes)", before + need);
            return NULL;
        }
        s->p = to;
        s->cap = before + need;
    }
    return s->p + before;
}

/* ---- reading -------------------------------------------------------------------------- */

int kv_get_field(kv_ns *ns, const char *key, size_t len, const char *path_text, size_t path_len,
                 kv_value *out)
{
    kv_json_path path;
    kv_json_place at;
    kv_json_error err;
    kv_value v;
    document d;
    int e, code = kv_json_path_read(path_text, path_len, &path, &err);

    if (code != KV_JSON_OK && code != KV_JSON_EDEPTH)
        return refused(code, err.offset);
    e = kv_get_value(ns, key, len, &v);
    if (e == KV_OK)
        e = document_of(&v, &d);
    if (e != KV_OK)
        return e;
    if (code == KV_JSON_EDEPTH) /* no document is that deep */
        return KV_ENOTFOUND;
    if (path.count == 0 && d.text == d.room) {
        *out = v;
        return KV_OK;
    }
    code = kv_json_find(d.text, d.len, &path, path.count, &at);
    if (code == KV_JSON_EMISSING || code == KV_JSON_EOBJECT || code == KV_JSON_EARRAY)
        return KV_ENOTFOUND;
    if (code != KV_JSON_OK)
        return refused(code, at.start);
    memset(out, 0, sizeof *out);
    out->type = KV_JSON;
    out->data = d.text + at.start;
    out->len = (uint32_t)(at.end - at.start);
    return KV_OK;
}

/* ---- editing -------------------------------------------------------------------------- */

static int too_big(kv_db *s, size_t len)
{
    kv_value v = {0};

    v.type = KV_JSON;
    v.len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
    return kv_write_check_value(s, &v);
}

/* What the document d becomes; where it lies then. */
static int merge(kv_ns *ns, const kv_edit *edit, document *d)
{
    size_t need = KV_JSON_MERGED_MAX(d->len, edit->json_len);
    char *text;
    int code;

    if (d->len == 0 && edit->flags & KV_EDIT_NO_CREATE)
        return refused(KV_JSON_EMISSING, 0);
    if (d->len == 0 && edit->write.flags & KV_IF_EXIST)
        return refused(KV_JSON_EMISSING, 0);
    if (d->len > 0 && edit->write.flags & KV_IF_NOT_EXIST)
        return refused(KV_JSON_EEXISTS, 0);
    text = widen(ns, d->text, d->len, need);
    if (text == NULL)
        return KV_ENOMEM;
    d->text = text;
    code = kv_json_merge(text, &d->len, edit->json, edit->json_len);
    return code == KV_JSON_OK ? too_big(ns->h->s, d->len) : refused(code, 0);
}

static int splice(kv_ns *ns, const kv_edit *edit, const kv_json_path *path, document *d,
                  kv_edited *out)
{
    kv_json_edit e;
    kv_json_splice s;
    size_t size;
    char *text;
    int code;

    memset(&e, 0, offsetof(kv_json_edit, digits));
    e.op = edit->op;
    e.create = !(edit->flags & KV_EDIT_NO_CREATE);
    e.exist = (edit->write.flags & KV_IF_EXIST) != 0;
    e.absent = (edit->write.flags & KV_IF_NOT_EXIST) != 0;
    e.value = edit->json;
    e.value_len = edit->json_len;
    e.index = edit->index;
    e.kind = edit->by.type == KV_NUMBER ? KV_JSON_DOUBLE : KV_JSON_INTEGER;
    e.integer = edit->by.integer;
    e.number = edit->by.number;
    code = kv_json_plan(d->text, d->len, path, &e, &s);
    if (code != KV_JSON_OK)
        return refused(code, 0);
    out->length = e.length;
    switch (edit->op) {
    case KV_EDIT_INCREMENT:
        out->value.type = e.kind == KV_JSON_INTEGER ? KV_INTEGER : KV_NUMBER;
        out->value.integer = e.integer;
        out->value.number = e.number;
        break;
    case KV_EDIT_TOGGLE:
        out->value.type = KV_BOOLEAN;
        out->value.integer = e.truth;
        break;
    }
    if (edit->flags & KV_EDIT_PEEK) {
        out->value.type = KV_JSON;
        out->value.data = d->text + e.start;
        out->value.len = (uint32_t)(e.end - e.start);
        return KV_OK;
    }
    size = d->len - s.del + s.size;
    code = size > d->len ? too_big(ns->h->s, size) : KV_OK;
    if (code != KV_OK)
        return code;
    text = widen(ns, d->text, d->len, size > d->len ? size : d->len);
    if (text == NULL)
        return KV_ENOMEM;
    d->text = text;
    d->len = e.twins > 0 ? kv_json_remove_all(text, d->len, e.holder, &path->step[path->count - 1])
                         : kv_json_splice_apply(text, d->len, &s);
    return KV_OK;
}

/* One round: the record as it is, what becomes of it, and the condition that it is still that. */
static int edit_once(kv_ns *ns, const char *key, size_t len, const kv_edit *edit,
                     const kv_json_path *path, kv_edited *out)
{
    kv_record r;
    kv_write w = edit->write;
    kv_value v;
    document d;
    int e = kv_get(ns, key, len, &r), was = 0;

    if (e != KV_OK && e != KV_ENOTFOUND)
        return e;
    memset(out, 0, sizeof *out);
    out->rev = e == KV_OK ? r.rev : 0;
    if (w.flags & KV_IF_REV && w.if_rev != out->rev)
        return kv_fail(KV_ECONFLICT, "the key has another revision");
    d.len = 0;
    d.text = d.room;
    if (e == KV_OK) {
        was = r.value.type;
        e = document_of(&r.value, &d);
        if (e != KV_OK)
            return e;
    }
    w.flags &= ~(uint32_t)(KV_IF_EXIST | KV_IF_NOT_EXIST);
    w.flags |= KV_IF_REV;
    w.if_rev = out->rev;
    if (edit->op == KV_EDIT_REMOVE && path->count == 0) {
        if (was != 0 && edit->write.flags & KV_IF_NOT_EXIST)
            return refused(KV_JSON_EEXISTS, 0);
        if (was == 0)
            return refused(KV_JSON_EMISSING, 0);
        if (edit->flags & KV_EDIT_PEEK) {
            out->value = r.value;
            return KV_OK;
        }
        e = kv_delete(ns, key, len, &w, &out->rev, NULL);
        return e == KV_ENOTFOUND ? KV_ECONFLICT : e;
    }
    e = edit->op == KV_EDIT_MERGE ? merge(ns, edit, &d) : splice(ns, edit, path, &d, out);
    if (e != KV_OK || edit->flags & KV_EDIT_PEEK)
        return e;
    value_of(was, d.text, d.len, &v);
    return kv_put(ns, key, len, &v, &w, &out->rev, NULL);
}

/* Of what the caller gave. */
static int check_edit(const kv_edit *edit)
{
    int e = kv_write_check_options(&edit->write), bad = 0;

    switch (edit->op) {
    case KV_EDIT_INCREMENT:
        bad = edit->by.type != KV_INTEGER &&
              (edit->by.type != KV_NUMBER || edit->by.number - edit->by.number != 0);
        break;
    case KV_EDIT_APPEND:
        bad = edit->json_len < 2 || *edit->json != '"';
        break;
    case KV_EDIT_MERGE:
        bad = edit->json_len == 0 || edit->path_len != 0;
        break;
    case KV_EDIT_SET:
    case KV_EDIT_PUSH:
    case KV_EDIT_EXTEND:
    case KV_EDIT_INSERT:
        bad = edit->json_len == 0;
        break;
    case KV_EDIT_POP:
    case KV_EDIT_REMOVE:
    case KV_EDIT_TOGGLE:
        break;
    default:
        bad = 1;
    }
    if (edit->flags & KV_EDIT_PEEK && edit->op != KV_EDIT_POP && edit->op != KV_EDIT_REMOVE)
        bad = 1;
    return bad ? kv_fail(KV_EINVAL, "not an edit of a field") : e;
}

int kv_edit_field(kv_ns *ns, const char *key, size_t len, const kv_edit *edit, kv_edited *out)
{
    kv_json_path path;
    kv_json_error err;
    kv_edited done;
    int e = kv_write_enter(ns->h), code;

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e == KV_OK)
        e = check_edit(edit);
    if (e != KV_OK)
        return e;
    code = kv_json_path_read(edit->path, edit->path_len, &path, &err);
    if (code != KV_JSON_OK)
        return refused(code, err.offset);
    do {
        e = edit_once(ns, key, len, edit, &path, &done);
    } while (e == KV_ECONFLICT && !(edit->write.flags & KV_IF_REV));
    if (e == KV_OK)
        *out = done;
    return e;
}
