/* SPDX-License-Identifier: MIT
 *
 * meta.c - the two slots of the file `meta`; meta.h has the layout.
 *
 * Invariant: at every instant, also after a power cut, one slot is whole: the file appears complete
 * (written and synced under another name), and a write goes to the slot that does not hold the
 * newest state, in one sector, and is synced before the next one may begin.
 */
#include "meta.h"
#include "crc32c.h"

#include <stddef.h>
#include <string.h>

#define SLOT_STRIDE 4096u /* a page each: no block of a disk holds both */
#define FILE_SIZE   (2 * SLOT_STRIDE)
#define MAX_READS   1000
#define MAX_SEQ     (UINT64_MAX >> 1) /* so that the next one is always greater */

static const char magic[8] = {'k', 'v', 's', 't', 'o', 'r', 'e', '\n'};

typedef struct slot {
    char magic[8];
    uint32_t format;
    uint32_t crc;
    uint64_t seq;
    uint64_t store_id;
    uint64_t cursor_key[2];
    uint64_t oldest;
    uint64_t max_size, max_value;
    int64_t created;
    uint64_t zero[6];
} slot;
KV_STATIC_ASSERT(sizeof(slot) == 128, slot_is_128_bytes);
KV_STATIC_ASSERT(offsetof(slot, crc) == 12 && offsetof(slot, seq) == 16, slot_head);
KV_STATIC_ASSERT(offsetof(slot, oldest) == 48 && offsetof(slot, created) == 72, slot_fields);

enum { FOREIGN, DAMAGED, NEWER, WHOLE };

typedef struct pair {
    slot at[2]; /* zeros where the file ends early */
    int state[2];
    int newest;
    size_t got; /* bytes of the file */
} pair;

static uint32_t checksum(const slot *s)
{
    const char *p = (const char *)s;
    uint32_t crc = kv_crc32c(0, p, offsetof(slot, crc));

    return kv_crc32c(crc, p + offsetof(slot, seq), sizeof *s - offsetof(slot, seq));
}

static void encode(const kv_meta *m, uint64_t seq, slot *s)
{
    kv_assert(seq <= MAX_SEQ && m->max_value <= KV_MAX_VALUE_CAP);
    memset(s, 0, sizeof *s);
    memcpy(s->magic, magic, sizeof magic);
    s->format = KV_META_FORMAT;
    s->seq = seq;
    s->store_id = m->store_id;
    memcpy(s->cursor_key, m->cursor_key, sizeof s->cursor_key);
    s->oldest = m->oldest;
    s->max_size = m->max_size;
    s->max_value = m->max_value;
    s->created = m->created;
    s->crc = checksum(s);
}

/* got: how many bytes of it the file has. A newer format is believed without its checksum, which
 * may lie anywhere: refusing a store with a damaged number is better than going on beside one. */
static int judge(const slot *s, size_t got)
{
    if (got == 0 || memcmp(s->magic, magic, got < sizeof magic ? got : sizeof magic) != 0)
        return FOREIGN;
    if (got >= offsetof(slot, crc) && s->format > KV_META_FORMAT)
        return NEWER;
    if (got < sizeof *s || s->format != KV_META_FORMAT || s->crc != checksum(s) ||
        s->seq > MAX_SEQ || s->max_value > KV_MAX_VALUE_CAP)
        return DAMAGED;
    return WHOLE;
}

static int fetch(int fd, pair *p)
{
    char bytes[SLOT_STRIDE + sizeof(slot)];
    size_t got = 0, second;
    int r;

    memset(bytes, 0, sizeof bytes);
    r = kv_file_read(fd, bytes, sizeof bytes, 0, &got);
    if (r != KV_OK)
        return r;
    second = got > SLOT_STRIDE ? got - SLOT_STRIDE : 0;
    memcpy(&p->at[0], bytes, sizeof(slot));
    memcpy(&p->at[1], bytes + SLOT_STRIDE, sizeof(slot));
    p->state[0] = judge(&p->at[0], got < sizeof(slot) ? got : sizeof(slot));
    p->state[1] = judge(&p->at[1], second);
    p->got = got;
    return KV_OK;
}

/* A slot that looks damaged may be one that is being written, and the other one older than it was
 * when the reading began (two writes, one read). What is the same when read again is neither: the
 * write that tore it had not yet ended, so the other slot holds the last one that had. */
static int fetch_settled(int fd, pair *p)
{
    int r = fetch(fd, p), same = 0;

    for (int reads = 1; r == KV_OK && !same && reads < MAX_READS; reads++) {
        pair before = *p;

        if (p->state[0] != DAMAGED && p->state[1] != DAMAGED)
            break;
        r = fetch(fd, p);
        same = r == KV_OK && memcmp(before.at, p->at, sizeof p->at) == 0;
    }
    return r;
}

static int load(kv_dir *d, int fd, pair *p)
{
    const char *path = kv_dir_path(d);
    int *state = p->state, r = fetch_settled(fd, p);

    if (r != KV_OK)
        return r;
    if (state[0] == NEWER || state[1] == NEWER)
        return kv_fail(KV_EUNSUPPORTED, "%.200s was written by a newer version (format %u)", path,
                       (unsigned)p->at[state[0] == NEWER ? 0 : 1].format);
    if (state[0] != WHOLE && state[1] != WHOLE) {
        if (p->got > 0 && state[0] == FOREIGN && state[1] == FOREIGN)
            return kv_fail(KV_EUNSUPPORTED, "%.200s is not a kv store", path);
        return kv_fail(KV_ECORRUPT, "%.200s/" KV_META_NAME " is damaged", path);
    }
    p->newest = state[0] != WHOLE || (state[1] == WHOLE && p->at[1].seq > p->at[0].seq);
    return KV_OK;
}

int kv_meta_read(kv_dir *d, kv_meta *m)
{
    pair p;
    const slot *s;
    int fd, r = kv_file_open(d, KV_META_NAME, KV_FILE_READ, &fd);

    if (r != KV_OK)
        return r;
    r = load(d, fd, &p);
    kv_file_close(fd);
    if (r != KV_OK)
        return r;
    s = &p.at[p.newest];
    m->seq = s->seq;
    m->store_id = s->store_id;
    memcpy(m->cursor_key, s->cursor_key, sizeof m->cursor_key);
    m->oldest = s->oldest;
    m->max_size = s->max_size;
    m->max_value = s->max_value;
    m->created = s->created;
    return KV_OK;
}

static int make_temp(kv_dir *d, const kv_meta *m)
{
    char bytes[FILE_SIZE];
    slot s;
    int fd, r = kv_file_unlink(d, KV_META_TEMP); /* of a creation that a crash ended */

    if (r != KV_OK)
        return r;
    memset(bytes, 0, sizeof bytes);
    encode(m, m->seq, &s);
    memcpy(bytes, &s, sizeof s);
    r = kv_file_open(d, KV_META_TEMP, KV_FILE_CREATE, &fd);
    if (r != KV_OK)
        return r;
    r = kv_file_write(fd, bytes, sizeof bytes, 0);
    if (r == KV_OK)
        r = kv_file_sync_all(fd);
    kv_file_close(fd);
    return r;
}

int kv_meta_create(kv_dir *d, const kv_meta *m)
{
    int fd, r = kv_file_open(d, KV_META_NAME, KV_FILE_READ, &fd);

    if (r == KV_OK) {
        kv_file_close(fd);
        return kv_fail(KV_EEXISTS, "%.200s/" KV_META_NAME " exists", kv_dir_path(d));
    }
    if (r != KV_ENOTFOUND)
        return r;
    r = make_temp(d, m);
    if (r == KV_OK)
        r = kv_file_rename(d, KV_META_TEMP, KV_META_NAME);
    if (r != KV_OK) {
        kv_file_unlink(d, KV_META_TEMP);
        return r;
    }
    r = kv_dir_sync(d);
    if (r != KV_OK)
        kv_file_unlink(d, KV_META_NAME);
    return r;
}

/* What failed is taken back as far as that is possible, so that the state before is the newest
 * again for whoever reads the file until it is synced some day. */
static int replace(int fd, const slot *old, const slot *new, uint64_t off)
{
    int r = kv_file_write(fd, new, sizeof *new, off);

    if (r == KV_OK)
        r = kv_file_sync(fd);
    if (r != KV_OK)
        kv_file_write(fd, old, sizeof *old, off);
    return r;
}

int kv_meta_write(kv_dir *d, kv_meta *m)
{
    pair p;
    slot next;
    int fd, to, r = kv_file_open(d, KV_META_NAME, KV_FILE_WRITE, &fd);

    if (r != KV_OK)
        return r;
    r = load(d, fd, &p);
    /* The newest may be older than *m: its slot has been damaged since. Then that slot is the one
     * to write, and the older state stays the one to fall back on. */
    if (r == KV_OK && (p.at[p.newest].seq > m->seq || p.at[p.newest].store_id != m->store_id))
        r = kv_fail(KV_ECONFLICT, "%.200s/" KV_META_NAME " was changed meanwhile", kv_dir_path(d));
    if (r == KV_OK) {
        to = !p.newest;
        encode(m, m->seq + 1, &next);
        r = replace(fd, &p.at[to], &next, (uint64_t)to * SLOT_STRIDE);
    }
    kv_file_close(fd);
    if (r == KV_OK)
        m->seq++;
    return r;
}
