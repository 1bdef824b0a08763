/* SPDX-License-Identifier: MIT
 *
 * blob.c - large values in files of their own; blob.h has the layout.
 *
 * Invariant: a file whose writer finished holds the whole value and survives a power cut under its
 * name; a file whose writer failed or was aborted is gone (one whose process died is an orphan, for
 * the store to unlink). No byte is handed out before the checksum of its chunk has been verified.
 *
 * Checksums stand between the chunks, not in a table at the end, so that a stream of unknown length
 * needs no second buffer. Data and checksum go out in one write: a write costs more than the copy.
 */
#include "blob.h"
#include "crc32c.h"

#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#define CRC_SIZE   4u
#define STEP       (KV_BLOB_CHUNK + CRC_SIZE)
#define ID_DIGITS  16
#define NOT_HELD   UINT64_MAX
#define BIG_CHUNKS 16u /* buffered at a time when the whole value is at hand: a third faster */

static const char magic[8] = {'k', 'v', 'b', 'l', 'o', 'b', '\r', '\n'};
static const char prefix[] = "blob.", part_prefix[] = "part.";

typedef struct header {
    char magic[8];
    uint32_t format;
    uint32_t crc;
    uint64_t id;
    uint64_t store_id;
    uint64_t zero[4];
} header;
KV_STATIC_ASSERT(sizeof(header) == KV_BLOB_HEAD, header_size);
KV_STATIC_ASSERT(offsetof(header, crc) == 12 && offsetof(header, store_id) == 24, header_fields);
KV_STATIC_ASSERT(sizeof prefix + ID_DIGITS <= KV_BLOB_NAME, name_fits);
KV_STATIC_ASSERT(sizeof prefix == sizeof part_prefix, part_name_fits);

static uint64_t chunk_offset(uint64_t index)
{
    return KV_BLOB_HEAD + index * STEP;
}

static uint32_t header_crc(const header *h)
{
    const char *p = (const char *)h;
    uint32_t crc = kv_crc32c(0, p, offsetof(header, crc));

    return kv_crc32c(crc, p + offsetof(header, id), sizeof *h - offsetof(header, id));
}

static uint32_t chunk_crc(uint64_t store_id, uint64_t id, uint64_t index, const void *p, size_t n)
{
    uint64_t place[3];

    place[0] = store_id;
    place[1] = id;
    place[2] = index;
    return kv_crc32c(kv_crc32c(0, place, sizeof place), p, n);
}

/* ---- names ---- */

void kv_blob_name(uint64_t id, char name[KV_BLOB_NAME])
{
    snprintf(name, KV_BLOB_NAME, "%s%016llx", prefix, (unsigned long long)id);
}

static void part_name(uint64_t id, char name[KV_BLOB_NAME])
{
    snprintf(name, KV_BLOB_NAME, "%s%016llx", part_prefix, (unsigned long long)id);
}

/* Only what kv_blob_name writes: no capitals, no other length, so that a name stands for one id and
 * an id for one name. */
static int parse_name(const char *name, const char *begins, uint64_t *id)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = name, *digit;
    uint64_t v = 0;

    if (strncmp(p, begins, sizeof prefix - 1) != 0)
        return 0;
    p += sizeof prefix - 1;
    if (strlen(p) != ID_DIGITS)
        return 0;
    for (; *p; p++) {
        digit = strchr(digits, *p);
        if (!digit)
            return 0;
        v = v << 4 | (uint64_t)(digit - digits);
    }
    *id = v;
    return 1;
}

int kv_blob_parse_name(const char *name, uint64_t *id)
{
    return parse_name(name, prefix, id);
}

int kv_blob_is_part(const char *name)
{
    uint64_t id;

    return parse_name(name, part_prefix, &id);
}

int kv_blob_unlink(kv_dir *d, uint64_t id)
{
    char name[KV_BLOB_NAME];

    kv_blob_name(id, name);
    return kv_file_unlink(d, name);
}

/* ---- writing ---- */

static int begin(kv_dir *d, uint64_t store_id, uint64_t id, int part, size_t chunks,
                 kv_blob_writer *w)
{
    char name[KV_BLOB_NAME];
    header h;
    int r;

    memset(w, 0, sizeof *w);
    w->fd = -1;
    w->dir = d;
    w->store_id = store_id;
    w->id = id;
    w->part = part;
    w->room = KV_BLOB_HEAD + chunks * STEP;
    w->buffer = malloc(w->room);
    if (!w->buffer)
        return kv_fail(KV_ENOMEM, "no memory for a large value");
    if (part)
        part_name(id, name);
    else
        kv_blob_name(id, name);
    r = kv_file_open(d, name, KV_FILE_CREATE, &w->fd);
    if (r != KV_OK) {
        free(w->buffer);
        w->buffer = NULL;
        w->fd = -1;
        return r;
    }
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof magic);
    h.format = KV_BLOB_FORMAT;
    h.id = id;
    h.store_id = store_id;
    h.crc = header_crc(&h);
    memcpy(w->buffer, &h, sizeof h);
    w->used = sizeof h;
    return KV_OK;
}

static void release(kv_blob_writer *w)
{
    kv_file_close(w->fd);
    w->fd = -1;
    free(w->buffer);
    w->buffer = NULL;
}

static int flush(kv_blob_writer *w)
{
    int r = kv_file_write(w->fd, w->buffer, w->used, w->flushed);

    if (r != KV_OK) {
        w->failed = r;
        return r;
    }
    w->flushed += w->used;
    w->used = 0;
    return KV_OK;
}

/* The chunk that ends at `used` is complete, or the last one. */
static int end_chunk(kv_blob_writer *w)
{
    uint64_t index = (w->size - 1) / KV_BLOB_CHUNK;
    const char *p = w->buffer + w->used - w->filled;
    uint32_t crc = chunk_crc(w->store_id, w->id, index, p, w->filled);

    memcpy(w->buffer + w->used, &crc, CRC_SIZE);
    w->used += CRC_SIZE;
    w->filled = 0;
    return w->room - w->used < STEP ? flush(w) : KV_OK;
}

static int writable(kv_blob_writer *w)
{
    if (w->fd < 0)
        return kv_fail(KV_EINVAL, "the large value's writer has ended");
    if (w->failed)
        return kv_fail(w->failed, "an earlier write of this large value failed");
    return KV_OK;
}

int kv_blob_create(kv_dir *d, uint64_t store_id, uint64_t id, kv_blob_writer *w)
{
    return begin(d, store_id, id, 1, 1, w);
}

int kv_blob_append(kv_blob_writer *w, const void *data, size_t n)
{
    const char *p = data;
    int r = writable(w);

    if (r == KV_OK && n > KV_MAX_VALUE_CAP - w->size) {
        w->failed = KV_ETOOBIG;
        r = kv_fail(KV_ETOOBIG, "a value of more than %u bytes", KV_MAX_VALUE_CAP);
    }
    while (r == KV_OK && n > 0) {
        size_t part = KV_BLOB_CHUNK - w->filled;

        if (part > n)
            part = n;
        memcpy(w->buffer + w->used, p, part);
        p += part;
        n -= part;
        w->used += part;
        w->filled += (uint32_t)part;
        w->size += part;
        if (w->filled == KV_BLOB_CHUNK)
            r = end_chunk(w);
    }
    return r;
}

int kv_blob_finish(kv_blob_writer *w, uint64_t *size)
{
    char from[KV_BLOB_NAME], to[KV_BLOB_NAME];
    int r = writable(w);

    if (r == KV_OK && w->filled > 0)
        r = end_chunk(w);
    if (r == KV_OK && w->used > 0)
        r = flush(w);
    if (r == KV_OK && !KV_IS_BUG(20))
        r = kv_file_sync_all(w->fd);
    if (r == KV_OK && w->part) {
        part_name(w->id, from);
        kv_blob_name(w->id, to);
        r = kv_file_rename(w->dir, from, to);
        w->part = r != KV_OK;
    }
    if (r == KV_OK)
        r = kv_dir_sync(w->dir);
    if (r != KV_OK) {
        kv_blob_abort(w);
        return r;
    }
    release(w);
    if (size)
        *size = w->size;
    return KV_OK;
}

int kv_blob_abort(kv_blob_writer *w)
{
    char name[KV_BLOB_NAME];

    if (w->fd < 0)
        return KV_OK;
    release(w);
    if (!w->part)
        return kv_blob_unlink(w->dir, w->id);
    part_name(w->id, name);
    return kv_file_unlink(w->dir, name);
}

void kv_blob_forget(kv_blob_writer *w)
{
    if (w->fd >= 0)
        release(w);
}

int kv_blob_write(kv_dir *d, uint64_t store_id, uint64_t id, const void *data, size_t n)
{
    kv_blob_writer w;
    size_t chunks = n / KV_BLOB_CHUNK + 1;
    int r;

    if (n > KV_MAX_VALUE_CAP)
        return kv_fail(KV_ETOOBIG, "a value of more than %u bytes", KV_MAX_VALUE_CAP);
    r = begin(d, store_id, id, 0, chunks < BIG_CHUNKS ? chunks : BIG_CHUNKS, &w);
    if (r != KV_OK)
        return r;
    r = kv_file_allocate(w.fd, 0, kv_blob_file_size(n));
    if (r == KV_OK)
        r = kv_blob_append(&w, data, n);
    if (r == KV_OK)
        return kv_blob_finish(&w, NULL);
    kv_blob_abort(&w);
    return r;
}

/* ---- reading ---- */

static int damaged(const kv_blob_reader *r, const char *what)
{
    char name[KV_BLOB_NAME];

    kv_blob_name(r->id, name);
    return kv_fail(KV_ECORRUPT, "%.200s/%s: %s", kv_dir_path(r->dir), name, what);
}

static int check_header(const kv_blob_reader *r)
{
    header h;
    size_t got = 0;
    int e = kv_file_read(r->fd, &h, sizeof h, 0, &got);

    if (e != KV_OK)
        return e;
    if (got < sizeof h || memcmp(h.magic, magic, sizeof magic) != 0 || h.crc != header_crc(&h))
        return damaged(r, "the header is damaged");
    if (h.format > KV_BLOB_FORMAT)
        return kv_fail(KV_EUNSUPPORTED, "%.200s: a large value of a newer version (format %u)",
                       kv_dir_path(r->dir), (unsigned)h.format);
    if (h.format != KV_BLOB_FORMAT || h.id != r->id || h.store_id != r->store_id)
        return damaged(r, "belongs to another record or store");
    return KV_OK;
}

int kv_blob_open(kv_dir *d, uint64_t store_id, uint64_t id, uint64_t size, kv_blob_reader *r)
{
    char name[KV_BLOB_NAME];
    uint64_t bytes = 0;
    int e;

    memset(r, 0, sizeof *r);
    r->fd = -1;
    r->dir = d;
    r->store_id = store_id;
    r->id = id;
    r->size = size;
    r->held = NOT_HELD;
    if (size > KV_MAX_VALUE_CAP)
        return damaged(r, "a size no value can have");
    kv_blob_name(id, name);
    e = kv_file_open(d, name, KV_FILE_READ, &r->fd);
    if (e != KV_OK) {
        r->fd = -1;
        return e;
    }
    e = check_header(r);
    if (e == KV_OK)
        e = kv_file_size(r->fd, &bytes);
    if (e == KV_OK && bytes < kv_blob_file_size(size))
        e = damaged(r, "the file is too short");
    if (e != KV_OK)
        kv_blob_close(r);
    return e;
}

/* Reads chunk `index` of n bytes to `to`. The checksum comes in the same call when there is room
 * for it behind the chunk (room: bytes that may be overwritten). */
static int load(const kv_blob_reader *r, uint64_t index, char *to, size_t n, size_t room)
{
    uint64_t off = chunk_offset(index);
    size_t want = room < n + CRC_SIZE ? n : n + CRC_SIZE, got = 0, got_crc = CRC_SIZE;
    uint32_t crc = 0;
    int e = kv_file_read(r->fd, to, want, off, &got);

    if (e == KV_OK && want == n)
        e = kv_file_read(r->fd, &crc, CRC_SIZE, off + n, &got_crc);
    else if (e == KV_OK && got == want)
        memcpy(&crc, to + n, CRC_SIZE);
    if (e != KV_OK)
        return e;
    if (got != want || got_crc != CRC_SIZE)
        return damaged(r, "the file is too short");
    if (crc != chunk_crc(r->store_id, r->id, index, to, n))
        return damaged(r, "the data is damaged");
    return KV_OK;
}

/* Into the reader's buffer. */
static int hold(kv_blob_reader *r, uint64_t index, size_t n)
{
    int e;

    if (!r->chunk)
        r->chunk = malloc(STEP);
    if (!r->chunk)
        return kv_fail(KV_ENOMEM, "no memory to read a large value");
    r->held = NOT_HELD;
    e = load(r, index, r->chunk, n, STEP);
    if (e == KV_OK)
        r->held = index;
    return e;
}

int kv_blob_read(kv_blob_reader *r, void *to, size_t n, uint64_t off)
{
    char *p = to;

    if (r->fd < 0 || off > r->size || n > r->size - off)
        return kv_fail(KV_EINVAL, "a range outside the large value");
    while (n > 0) {
        uint64_t index = off / KV_BLOB_CHUNK, left = r->size - index * KV_BLOB_CHUNK;
        size_t len = left < KV_BLOB_CHUNK ? (size_t)left : KV_BLOB_CHUNK;
        size_t skip = (size_t)(off % KV_BLOB_CHUNK), part = len - skip < n ? len - skip : n;
        int whole = part == len && index != r->held, e = KV_OK;

        if (whole)
            e = load(r, index, p, len, n);
        else if (index != r->held)
            e = hold(r, index, len);
        if (e != KV_OK)
            return e;
        if (!whole)
            memcpy(p, r->chunk + skip, part);
        p += part;
        n -= part;
        off += part;
    }
    return KV_OK;
}

void kv_blob_close(kv_blob_reader *r)
{
    kv_file_close(r->fd);
    r->fd = -1;
    free(r->chunk);
    r->chunk = NULL;
    r->held = NOT_HELD;
}
