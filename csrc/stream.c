/* SPDX-License-Identifier: MIT
 *
 * stream.c - values in pieces: written without the lock and committed as one write, read as they
 * were at one moment.
 *
 * A writer keeps in memory what would be an ordinary record and moves to a blob file when that is
 * too large for one; nothing refers to the file before the commit, so whatever ends the writer
 * (closing it, a failure, the death of the process and the next opening's sweep) leaves nothing.
 * A reader holds a small value in memory and of a large one the open file, which outlives its name.
 */
#include "json.h"
#include "write.h"

#include <stdlib.h>
#include <string.h>

/* ---- writing -------------------------------------------------------------------------- */

/* Bytes written between two hints to the kernel to begin with the disk: the sync at the end then
 * finds little left to do. */
#define FLUSH_STEP (8u << 20)

struct kv_writer {
    kv_ns *ns;
    kv_db *s;      /* as the handle had it at first; it lives as long as that */
    kv_write opts; /* metadata in `meta` */
    int type;
    int large;     /* the bytes are in `blob`, not in `bytes` */
    int ended;     /* committed, or failed to */
    int failed;    /* the code of the first failure; 0: none */
    uint64_t size; /* so far */
    uint64_t max;  /* may become */
    uint64_t flushed;
    char *bytes;
    size_t room;
    kv_blob_writer blob;
    uint32_t key_len;
    char key[KV_MAX_KEY];
    char meta[KV_MAX_META];
};

int kv_writer_open(kv_ns *ns, const char *key, size_t len, int type, const kv_write *opts,
                   kv_writer **out)
{
    kv_writer *w;
    int e = kv_write_enter(ns->h);

    if (e == KV_OK)
        e = kv_check_key(key, len);
    if (e == KV_OK)
        e = kv_write_check_options(opts);
    if (e == KV_OK && type != KV_STRING && type != KV_JSON)
        e = kv_fail(KV_EINVAL, "what is written in pieces is a string or a document");
    if (e != KV_OK)
        return e;
    w = calloc(1, sizeof *w);
    if (w == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    w->ns = ns;
    w->s = ns->h->s;
    w->type = type;
    w->max = kv_max_value(ns->h->s);
    w->key_len = (uint32_t)len;
    memcpy(w->key, key, len);
    if (opts != NULL) {
        w->opts = *opts;
        if (opts->flags & KV_META)
            memcpy(w->meta, opts->meta, opts->meta_len);
        w->opts.meta = w->meta;
    }
    *out = w;
    return KV_OK;
}

static int keep(kv_writer *w, const void *data, size_t n)
{
    size_t room = w->room ? w->room : 4096, need = (size_t)w->size + n;
    char *p;

    while (room < need)
        room *= 2;
    if (room != w->room) {
        p = realloc(w->bytes, room);
        if (p == NULL)
            return kv_fail(KV_ENOMEM, "out of memory (%zu bytes)", room);
        w->bytes = p;
        w->room = room;
    }
    memcpy(w->bytes + w->size, data, n);
    return KV_OK;
}

static void forget_bytes(kv_writer *w)
{
    free(w->bytes);
    w->bytes = NULL;
    w->room = 0;
}

/* What was kept so far goes to a file. */
static int become_large(kv_writer *w)
{
    kv_db *s = w->s;
    uint64_t id;
    int e = kv_os_random(&id, sizeof id);

    if (e == KV_OK)
        e = kv_blob_create(s->dir, s->meta.store_id, id, &w->blob);
    if (e != KV_OK)
        return e;
    w->large = 1;
    if (w->size > 0)
        e = kv_blob_append(&w->blob, w->bytes, (size_t)w->size);
    forget_bytes(w);
    return e;
}

static int append(kv_writer *w, const void *data, size_t n)
{
    int e = KV_OK;

    /* A document is kept whole, because it is checked whole. */
    if (w->type == KV_JSON || (!w->large && w->size + n <= kv_blob_limit(w->ns->h->s)))
        return keep(w, data, n);
    if (!w->large)
        e = become_large(w);
    if (e == KV_OK)
        e = kv_blob_append(&w->blob, data, n);
    if (e == KV_OK && w->size + n - w->flushed >= FLUSH_STEP) {
        w->flushed = w->size + n;
        kv_file_flush(w->blob.fd, 0);
    }
    return e;
}

/* A child of fork shares the file and its position in the value with its parent: it is the
 * parent's. */
static int usable(kv_writer *w)
{
    if (kv_guard_forked(&w->s->guard))
        return kv_fail(KV_EBUSY, "a stream is written by the process that began it");
    if (w->ended)
        return kv_fail(KV_EINVAL, "the stream has been committed");
    if (w->failed)
        return kv_fail(w->failed, "an earlier write to this stream failed");
    return KV_OK;
}

int kv_writer_write(kv_writer *w, const void *data, size_t n)
{
    int e = usable(w);

    if (e != KV_OK || n == 0)
        return e;
    if (n > w->max - w->size)
        e = kv_fail(KV_ETOOBIG, "a value has at most %llu bytes here, this stream more",
                    (unsigned long long)w->max);
    else
        e = append(w, data, n);
    if (e == KV_OK)
        w->size += n;
    else
        w->failed = e;
    return e;
}

static int check_document(const kv_writer *w)
{
    kv_json_error err;

    if (kv_json_check(w->bytes != NULL ? w->bytes : "", (size_t)w->size, &err) == KV_JSON_OK)
        return KV_OK;
    return kv_fail(err.code == KV_JSON_EDEPTH ? KV_ETOODEEP : KV_ENOTJSON,
                   "not JSON: %s at byte %zu", kv_json_strerror(err.code), err.offset + 1);
}

int kv_writer_commit(kv_writer *w, uint64_t *rev)
{
    kv_value v = {0};
    uint64_t ref[2];
    int e = usable(w);

    if (e != KV_OK)
        return e;
    w->ended = 1;
    if (w->large) {
        ref[0] = w->blob.id;
        e = kv_blob_finish(&w->blob, &ref[1]);
        return e == KV_OK
                   ? kv_write_reference(w->ns, w->key, w->key_len, w->type, ref, &w->opts, rev)
                   : e;
    }
    if (w->type == KV_JSON)
        e = check_document(w);
    v.type = w->type;
    v.len = (uint32_t)w->size;
    v.data = w->bytes;
    if (e == KV_OK)
        e = kv_put(w->ns, w->key, w->key_len, &v, &w->opts, rev, NULL);
    forget_bytes(w);
    return e;
}

void kv_writer_close(kv_writer *w)
{
    if (w == NULL)
        return;
    if (w->large && kv_guard_forked(&w->s->guard))
        kv_blob_forget(&w->blob);
    else if (w->large)
        (void)kv_blob_abort(&w->blob);
    free(w->bytes);
    free(w);
}

/* ---- reading -------------------------------------------------------------------------- */

struct kv_reader {
    uint64_t size;
    int large;           /* the value is in `blob`, not behind the metadata */
    kv_blob_reader blob; /* when large */
    uint32_t meta_len;
    char bytes[]; /* metadata, and a small value */
};

/* A scalar is read as its JSON spelling. */
static int spell(const kv_rec *r, char buf[KV_JSON_NUMBER_MAX], const char **text, size_t *len)
{
    kv_value v;
    int e = kv_value_read(r, &v);

    *text = buf;
    *len = 0;
    if (e != KV_OK)
        return e;
    switch (v.type) {
    case KV_INTEGER:
        *len = kv_json_integer_format(v.integer, buf);
        break;
    case KV_NUMBER:
        *len = kv_json_number_format(v.number, 1, buf);
        break;
    case KV_BOOLEAN:
        *text = v.integer ? "true" : "false";
        *len = strlen(*text);
        break;
    case KV_NULL:
        *text = "null";
        *len = 4;
        break;
    default:
        *text = v.data;
        *len = v.len;
    }
    return KV_OK;
}

static int make_reader(kv_ns *ns, const kv_rec *r, kv_reader **out)
{
    kv_db *s = ns->h->s;
    char buf[KV_JSON_NUMBER_MAX];
    const char *text = NULL;
    size_t len = 0;
    uint64_t ref[2] = {0, 0};
    kv_reader *reader;
    int e = r->blob ? kv_reference(s, r, ref) : spell(r, buf, &text, &len);

    if (e != KV_OK)
        return e;
    reader = malloc(sizeof *reader + r->meta_len + len);
    if (reader == NULL)
        return kv_fail(KV_ENOMEM, "out of memory (%zu bytes)", len);
    reader->large = r->blob;
    reader->size = r->blob ? ref[1] : len;
    reader->meta_len = r->meta_len;
    if (r->meta_len)
        memcpy(reader->bytes, r->meta, r->meta_len);
    if (len)
        memcpy(reader->bytes + r->meta_len, text, len);
    if (r->blob)
        e = kv_blob_open(s->dir, s->meta.store_id, ref[0], ref[1], &reader->blob);
    if (e != KV_OK) {
        free(reader);
        return e;
    }
    *out = reader;
    return KV_OK;
}

int kv_reader_open(kv_ns *ns, const char *key, size_t len, kv_record *out, kv_reader **reader)
{
    kv_reader *made = NULL;
    uint64_t seen = 0;
    kv_rec r;
    int e = kv_current(ns, key, len, &r);

    /* As in kv_get: the file is gone when the record was superseded meanwhile. */
    while (e == KV_OK && r.rev != seen) {
        seen = r.rev;
        e = make_reader(ns, &r, &made);
        if (e != KV_ENOTFOUND)
            break;
        e = kv_current(ns, key, len, &r);
    }
    if (e == KV_OK && made == NULL)
        e = kv_fail(KV_ECORRUPT, "%s: the file of a large value is missing",
                    kv_dir_path(ns->h->s->dir));
    if (e != KV_OK)
        return e;
    if (out != NULL) {
        memset(out, 0, sizeof *out);
        out->value.type = r.type;
        out->value.len = (uint32_t)made->size;
        out->key = key;
        out->key_len = (uint32_t)len;
        out->meta = made->bytes;
        out->meta_len = made->meta_len;
        out->rev = r.rev;
        out->id = r.id;
        out->created = r.created;
        out->updated = r.updated;
        out->expires = r.expires;
    }
    *reader = made;
    return KV_OK;
}

int kv_reader_read(kv_reader *r, void *to, size_t n, uint64_t off, size_t *got)
{
    int e = KV_OK;

    if (off >= r->size)
        n = 0;
    else if (n > r->size - off)
        n = (size_t)(r->size - off);
    if (n > 0 && r->large)
        e = kv_blob_read(&r->blob, to, n, off);
    else if (n > 0)
        memcpy(to, r->bytes + r->meta_len + off, n);
    if (e == KV_OK)
        *got = n;
    return e;
}

uint64_t kv_reader_size(const kv_reader *r)
{
    return r->size;
}

void kv_reader_close(kv_reader *r)
{
    if (r == NULL)
        return;
    if (r->large)
        kv_blob_close(&r->blob);
    free(r);
}
