/* SPDX-License-Identifier: MIT
 *
 * log_walk.c - replay: walking the log's files record by record, finding where it ends, and cutting
 * it there.
 *
 * A record counts iff its checksum (seeded with its segment's salt and its offset) is right and it
 * lies directly behind the one before; a segment counts iff its header is whole and names exactly
 * the end and the last checksum of the one before; a batch counts iff its last record is there. The
 * first place where that stops is the end of the log.
 */
#include "log.h"
#include "crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads segment id into buf. KV_OK with *size 0: no such file, or no whole header of this store; *h
 * is what there is of one. *size is less than h->size when the file is cut short. */
static int load(kv_log *l, uint32_t id, kv_scratch *buf, kv_seg_head *h, uint32_t *size)
{
    char name[24];
    const char *pinned;
    uint64_t n;
    size_t got;
    int fd, e;

    *size = 0;
    memset(h, 0, sizeof *h);
    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    e = kv_file_open(l->dir, name, KV_FILE_READ, &fd);
    if (e == KV_OK) {
        e = kv_file_size(fd, &n);
        if (e == KV_OK && n > KV_SEG_MAX)
            n = KV_SEG_MAX;
        if (e == KV_OK)
            e = kv_scratch_need(buf, n ? n : 1);
        if (e == KV_OK)
            e = kv_file_read(fd, buf->p, n, 0, &got);
        kv_file_close(fd);
    } else if (e == KV_ENOTFOUND && (n = kv_log_mapped(l, id, &pinned)) != 0) {
        /* Retired since it was pinned. */
        e = kv_scratch_need(buf, n);
        got = n;
        if (e == KV_OK)
            memcpy(buf->p, pinned, n);
    }
    if (e != KV_OK)
        return e == KV_ENOTFOUND ? KV_OK : e;
    if (got < KV_SEG_HEAD)
        return KV_OK;
    memcpy(h, buf->p, sizeof *h);
    if (h->magic != KV_SEG_MAGIC || h->id != id || h->store_id != l->store_id ||
        h->format != KV_LOG_FORMAT || h->crc != kv_crc32c(0, h, offsetof(kv_seg_head, crc)) ||
        n > h->size)
        return KV_OK;
    *size = (uint32_t)got;
    return KV_OK;
}

static int decode_at(const kv_walk *w, uint32_t off, kv_rec *out)
{
    uint32_t end = w->size;

    if (w->limit && w->id == kv_pos_id(w->limit) && kv_pos_off(w->limit) < end)
        end = kv_pos_off(w->limit);
    if (off >= end)
        return KV_ECORRUPT;
    return kv_rec_decode(w->seg.p + off, end - off, kv_rec_seed(w->head.salt, off), out);
}

/* Salvage: a segment that was cut short gets its size again, so that it can be mapped. */
static int lengthen(kv_log *l, uint32_t id, uint32_t size, const kv_seg_head *h)
{
    char name[24];
    int fd, e;

    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    e = kv_file_open(l->dir, name, KV_FILE_WRITE, &fd);
    if (e == KV_OK) {
        e = kv_file_allocate(fd, size, h->size - size);
        kv_file_close(fd);
    }
    return e;
}

/* Goes on to the next segment, if the chain leads there. 1: did; 0: it does not. */
static int enter_next(kv_walk *w)
{
    kv_scratch swap;
    kv_seg_head h;
    uint32_t size, id = w->id + 1;
    int e;

    if (w->limit && id > kv_pos_id(w->limit))
        return 0;
    if (!w->salvage && w->size != w->head.size)
        return 0; /* cut short: it cannot be mapped as it is */
    e = load(w->log, id, &w->ahead, &h, &size);
    if (e != KV_OK)
        return e;
    if (size == 0)
        return 0;
    if (!KV_IS_BUG(4) && !w->salvage &&
        (h.prev != kv_pos(w->id, w->off) || h.prev_crc != w->last_crc))
        return 0;
    if (w->salvage && w->log->writable && size < h.size)
        e = lengthen(w->log, id, size, &h);
    if (e != KV_OK)
        return e;
    swap = w->seg;
    w->seg = w->ahead;
    w->ahead = swap;
    w->head = h;
    w->id = id;
    w->size = size;
    w->off = KV_SEG_HEAD;
    w->last_crc = 0;
    return 1;
}

int kv_walk_open(kv_walk *w, kv_log *l, uint32_t id, uint64_t limit, int salvage)
{
    int e;

    memset(w, 0, sizeof *w);
    w->log = l;
    w->limit = limit;
    w->salvage = salvage;
    w->id = id;
    w->off = KV_SEG_HEAD;
    e = load(l, id, &w->seg, &w->head, &w->size);
    if (e == KV_OK && salvage && l->writable && w->size != 0 && w->size < w->head.size)
        e = lengthen(l, id, w->size, &w->head);
    if (e == KV_OK && w->size == 0 && !salvage)
        e = kv_fail(KV_ECORRUPT, "%s: the oldest log segment, %u, is missing or damaged",
                    kv_dir_path(l->dir), (unsigned)id);
    if (e != KV_OK)
        kv_walk_close(w);
    return e;
}

void kv_walk_close(kv_walk *w)
{
    kv_scratch_free(&w->seg);
    kv_scratch_free(&w->ahead);
}

/* Salvage: the next whole record in this segment, else the next segment there is (ids may be
 * missing in between). */
static int skip_damage(kv_walk *w, kv_rec *out)
{
    uint32_t start = w->off;
    int r, tries;

    for (; w->off + KV_REC_MIN <= w->size; w->off += KV_REC_ALIGN)
        if (decode_at(w, w->off, out) == KV_OK) {
            w->skipped += w->off - start;
            return 1;
        }
    w->off = w->size;
    for (tries = 0; tries < 1024; tries++) {
        r = enter_next(w);
        if (r != 0)
            return r < 0 ? r : 2;
        w->id++;
        w->size = 0;
    }
    return 0;
}

/* A record that begins a batch counts only if the batch's last one is there: looks ahead with a
 * walk of its own. */
static int batch_whole(kv_walk *w, uint32_t off)
{
    kv_walk look;
    kv_rec r;
    int e;

    if (w->salvage || KV_IS_BUG(8))
        return 1;
    e = kv_walk_open(&look, w->log, w->id, w->limit, 0);
    if (e != KV_OK)
        return e;
    look.off = off;
    look.last_crc = w->last_crc;
    look.batch_end = UINT64_MAX; /* do not look ahead again */
    do {
        e = kv_walk_next(&look, &r);
    } while (e == 1 && r.more);
    if (e == 1)
        w->batch_end = kv_pos(look.id, look.off);
    kv_walk_close(&look);
    return e;
}

int kv_walk_next(kv_walk *w, kv_rec *out)
{
    uint32_t n;
    int e;

    while (decode_at(w, w->off, out) != KV_OK) {
        e = w->salvage ? skip_damage(w, out) : enter_next(w);
        if (e <= 0)
            return e;
        if (w->salvage && e == 1)
            break;
    }
    if (out->more && kv_pos(w->id, w->off) >= w->batch_end) {
        e = batch_whole(w, w->off);
        if (e != 1)
            return e;
    }
    w->at = kv_pos(w->id, w->off);
    memcpy(&w->last_crc, w->seg.p + w->off, 4);
    n = kv_rec_peek_len(w->seg.p + w->off);
    w->off += kv_rec_align(n);
    w->records++;
    return 1;
}

int kv_walk_glimpse(const kv_walk *w, uint32_t *off, kv_glimpse *g)
{
    const char *p = w->seg.p + *off;
    uint32_t n, head, key_len;

    if (*off + KV_REC_MIN > w->size)
        return 0;
    n = kv_rec_peek_len(p);
    head = kv_rec_head_size[p[8] & KV_REC_FLAGS];
    (void)kv_rec_names(p, &key_len, &g->ns);
    if (n < KV_REC_MIN || n > w->size - *off || head + key_len > n || key_len > KV_MAX_KEY)
        return 0;
    g->ns = (p[7] & 7) == KV_REC_NAME ? 0 : g->ns;
    g->key = p + head;
    g->key_len = key_len;
    *off += kv_rec_align(n);
    return 1;
}

/* ---- the end of the log --------------------------------------------------------------- */

static int highest(void *arg, const char *name)
{
    uint32_t id, *max = arg;

    if (kv_log_parse_name(name, &id) && id > *max)
        *max = id;
    return 0;
}

/* What the header of segment id says is durable; whole: it is not damaged. */
static uint64_t durable(const kv_log *l, uint32_t id, const kv_seg_head *h, int whole)
{
    uint32_t off = (uint32_t)h->mark;
    uint64_t pos = 0;

    if (h->mark != 0 && (uint32_t)(h->mark >> 32) == kv_mark_crc(l->store_id, id, off))
        pos = off == KV_MARK_ON ? kv_pos(id + 1, KV_SEG_HEAD) : kv_pos(id, off);
    return whole && h->synced > pos ? h->synced : pos;
}

static uint64_t nonzero(const char *p, uint32_t n)
{
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n;
}

int kv_walk_tail(kv_walk *w, kv_tail *t)
{
    kv_seg_head h;
    uint32_t id, size;
    uint64_t pos;
    int e;

    memset(t, 0, sizeof *t);
    /* A walk that skipped damage has looked for segments far behind the last one. */
    t->last_id = w->size ? w->id : (uint32_t)kv_load(&w->log->w[KV_LOG_OLDEST]);
    t->last_head = w->id;
    e = kv_dir_list(w->log->dir, highest, &t->last_id);
    if (e != KV_OK)
        return e;
    if (w->off < w->size)
        t->cut = nonzero(w->seg.p + w->off, w->size - w->off);
    if (w->size && w->size < w->head.size)
        t->cut += w->head.size - w->size;
    t->durable = w->size ? durable(w->log, w->id, &w->head, 1) : 0;
    for (id = w->id + 1; id <= t->last_id; id++) {
        e = load(w->log, id, &w->ahead, &h, &size);
        if (e != KV_OK)
            return e;
        pos = durable(w->log, id, &h, size != 0);
        if (pos > t->durable)
            t->durable = pos;
        if (size == 0)
            continue;
        t->last_head = id;
        t->cut += nonzero(w->ahead.p, size);
    }
    return KV_OK;
}

/* Behind the end all is zero, and the segment has its size again. */
static int zero_rest(kv_log *l, const kv_walk *w)
{
    static const char zeros[KV_PAGE];
    char name[24];
    uint32_t off = w->off, n;
    int fd, e;

    snprintf(name, sizeof name, "log.%08x", (unsigned)w->id);
    e = kv_file_open(l->dir, name, KV_FILE_WRITE, &fd);
    if (e != KV_OK)
        return e;
    for (; e == KV_OK && off < w->size; off += n) {
        n = KV_PAGE - off % KV_PAGE;
        if (n > w->size - off)
            n = w->size - off;
        if (nonzero(w->seg.p + off, n))
            e = kv_file_write(fd, zeros, n, off);
    }
    if (e == KV_OK && w->size < w->head.size)
        e = kv_file_allocate(fd, w->size, w->head.size - w->size);
    if (e == KV_OK)
        e = kv_file_sync(fd);
    kv_file_close(fd);
    return e;
}

/* Whether segment id is a spare as kv_log_prepare leaves it: of a size, allocated, all zero. */
static int is_spare(kv_dir *dir, uint32_t id, kv_scratch *buf)
{
    char name[24];
    uint64_t n;
    size_t got;
    int fd, good;

    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    if (kv_file_open(dir, name, KV_FILE_WRITE, &fd) != KV_OK)
        return 0;
    good = kv_file_size(fd, &n) == KV_OK && n >= KV_SEG_MIN && n <= KV_SEG_MAX &&
           (n & (n - 1)) == 0 && kv_scratch_need(buf, n) == KV_OK &&
           kv_file_read(fd, buf->p, n, 0, &got) == KV_OK && got == n &&
           nonzero(buf->p, (uint32_t)n) == 0 && kv_file_allocate(fd, 0, n) == KV_OK;
    kv_file_close(fd);
    return good;
}

int kv_log_drop_spares(kv_dir *dir, uint32_t oldest)
{
    uint32_t id = oldest;
    kv_scratch buf = {0};
    char name[24];
    int n = 0;

    if (kv_dir_list(dir, highest, &id) != KV_OK)
        return 0;
    for (; id > oldest && is_spare(dir, id, &buf); id--, n++) {
        snprintf(name, sizeof name, "log.%08x", (unsigned)id);
        if (kv_file_unlink(dir, name) != KV_OK)
            break;
    }
    kv_scratch_free(&buf);
    return n;
}

int kv_log_cut(kv_log *l, kv_walk *w, const kv_tail *t)
{
    uint64_t pos = kv_walk_pos(w);
    char name[24];
    uint32_t id, spares = w->id;
    int e = KV_OK;

    /* The reserves stay: on a full disk there might be no others. */
    while (spares < w->id + 2 && spares < t->last_id && is_spare(l->dir, spares + 1, &w->ahead))
        spares++;
    /* Newest first, so that a death in between never leaves a chain that leads past a hole. */
    for (id = t->last_id; e == KV_OK && id > spares; id--) {
        snprintf(name, sizeof name, "log.%08x", (unsigned)id);
        e = kv_file_unlink(l->dir, name);
    }
    if (e == KV_OK && t->last_head > w->id)
        e = kv_dir_sync(l->dir);
    if (e == KV_OK && !KV_IS_BUG(14))
        e = zero_rest(l, w);
    if (e != KV_OK)
        return e;
    kv_store(&l->w[KV_LOG_SPARES], spares);
    /* What is not known durable may still be in the page cache alone. */
    kv_store(&l->w[KV_LOG_SYNC_FROM], kv_pos_id(t->durable));
    kv_store(&l->w[KV_LOG_SYNCED], t->durable);
    kv_store(&l->w[KV_LOG_CLAIM], pos);
    kv_store(&l->w[KV_LOG_LAST], w->last_crc ? w->at : 0);
    kv_store(&l->w[KV_LOG_TAIL], pos);
    kv_store(&l->w[KV_LOG_NAMED], 0);
    return KV_OK;
}
