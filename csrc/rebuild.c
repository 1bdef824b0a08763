/* SPDX-License-Identifier: MIT
 *
 * rebuild.c - a new store, and an index from the log of one: replay, what is cut off or salvaged,
 * and sweeping up what a death left.
 *
 * Damage in what was durable changes nothing and opens only readonly or with salvage. While an
 * index is rebuilt that others may use, their three locks are held: nothing is written, prepared,
 * synced or retired meanwhile, and whoever gets a lock afterwards finds that another index counts.
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the directory's other files ------------------------------------------------------ */

static int is_index(const char *name)
{
    return strncmp(name, "index.", 6) == 0;
}

typedef struct sweep {
    kv_db *s;
    uint32_t oldest;
    const uint64_t *blobs; /* ids in use, sorted */
    size_t count;
    int durable; /* 1: the log is, up to its end; -1: it is not */
    int alone;
} sweep;

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Nothing that is current refers to it. What superseded it may be in memory alone so far, and must
 * not be lost to a power cut when the file is gone. */
static int unused_blob(sweep *w, uint64_t id)
{
    if (w->count != 0 && bsearch(&id, w->blobs, w->count, sizeof id, by_id) != NULL)
        return 0;
    if (w->durable == 0)
        w->durable = kv_log_sync(&w->s->log) == KV_OK ? 1 : -1;
    return w->durable == 1;
}

/* Removes what a death left: old indexes, segments before the oldest, blobs nothing refers to. */
static int swept(void *arg, const char *name)
{
    sweep *w = arg;
    uint32_t id;
    uint64_t blob;

    if ((is_index(name) && strcmp(name, w->s->region.name) != 0) ||
        strcmp(name, KV_META_TEMP) == 0 || (kv_log_parse_name(name, &id) && id < w->oldest) ||
        (w->alone && kv_blob_parse_name(name, &blob) && unused_blob(w, blob)))
        (void)kv_file_unlink(w->s->dir, name);
    return 0;
}

/* What a death left of a value that was being written in pieces. */
static int sweep_part(void *arg, const char *name)
{
    kv_db *s = arg;

    if (kv_blob_is_part(name))
        (void)kv_file_unlink(s->dir, name);
    return 0;
}

typedef struct blob_list {
    kv_db *s;
    uint64_t *ids;
    size_t count, cap;
    int failed;
} blob_list;

static int collect_blob(void *arg, uint64_t bucket, uint64_t slot)
{
    blob_list *l = arg;
    uint64_t *more;
    kv_rec r;

    (void)bucket;
    if (kv_log_peek(&l->s->log, slot & KV_ADDR_MASK, &r) != KV_OK)
        return l->failed = 1; /* it may be one that refers to a file */
    if (!r.blob || r.value_len != 16 || kv_ns_state(l->s, r.ns) == KV_NAME_DROPPED)
        return 0;
    if (l->count == l->cap) {
        more = realloc(l->ids, (l->cap * 2 + 64) * sizeof *more);
        if (more == NULL)
            return l->failed = 1;
        l->ids = more;
        l->cap = l->cap * 2 + 64;
    }
    memcpy(&l->ids[l->count++], r.value, 8);
    return 0;
}

static int any_blob(void *arg, const char *name)
{
    uint64_t id;

    (void)arg;
    return kv_blob_parse_name(name, &id);
}

/* What another process writes just now looks like what a death left. */
static void sweep_up(kv_db *s, int alone)
{
    blob_list l = {0};
    sweep w = {0};
    int blobs;

    l.s = s;
    w.s = s;
    w.oldest = (uint32_t)kv_load(&s->log.w[KV_LOG_OLDEST]);
    /* Not knowing which files are in use, none may go. */
    blobs = alone ? kv_dir_list(s->dir, any_blob, NULL) : KV_OK;
    if (blobs == 1)
        blobs = kv_hash_each(&s->region, collect_blob, &l);
    if (blobs == KV_OK && !l.failed) {
        w.alone = alone;
        if (l.count)
            qsort(l.ids, l.count, sizeof *l.ids, by_id);
        w.blobs = l.ids;
        w.count = l.count;
        (void)kv_dir_list(s->dir, swept, &w);
    }
    free(l.ids);
}

/* ---- creating and replaying ----------------------------------------------------------- */

/* The index of a readonly store is private memory, so that no permission is needed. */
static int make_index(kv_db *s, int64_t now)
{
    static const kv_dir_options memory = {1, 0600, 0, 0};
    kv_dir *dir = s->dir;
    uint64_t seed[2];
    char name[32];
    int made, e;

    e = kv_os_random(seed, sizeof seed);
    if (e == KV_OK && s->readonly)
        e = kv_dir_open(":memory:", &memory, &dir, &made);
    if (e != KV_OK)
        return e;
    s->apart = s->readonly;
    s->generation = kv_load(s->current) + !s->readonly;
    snprintf(name, sizeof name, "index.%llu", (unsigned long long)s->generation);
    if (!s->readonly)
        (void)kv_file_unlink(dir, name); /* of somebody who died here */
    e = kv_region_create(&s->region, dir, name);
    if (e != KV_OK) {
        if (s->readonly)
            kv_dir_close(dir);
        return e;
    }
    e = kv_log_open(&s->log, s->dir, s->region.head->log, s->meta.store_id, !s->readonly);
    if (e != KV_OK)
        return e;
    s->log.pins = s->lock_fd;
    kv_index_init(s, seed[0], seed[1], now);
    kv_store(kv_st(s, KV_ST_MAX_SIZE), s->meta.max_size);
    kv_store(kv_st(s, KV_ST_MAX_VALUE), s->meta.max_value);
    kv_store(kv_st(s, KV_ST_SYNCED_AT), (uint64_t)(kv_os_monotonic() / 1000000));
    return KV_OK;
}

int kv_create(kv_db *s, const kv_options *o, uint64_t next_rev, uint64_t next_ns)
{
    int64_t now = kv_os_wall();
    uint64_t r[3];
    int e = kv_os_random(r, sizeof r);

    if (e != KV_OK)
        return e;
    s->meta.store_id = r[0];
    s->meta.cursor_key[0] = r[1];
    s->meta.cursor_key[1] = r[2];
    s->meta.oldest = 1;
    s->meta.max_size = o->max_size;
    s->meta.max_value = o->max_value ? o->max_value : KV_MAX_VALUE;
    s->meta.created = now;
    e = make_index(s, now);
    if (e == KV_OK)
        e = kv_log_start(&s->log, 1, KV_SEG_MIN, next_rev, next_ns, now);
    if (e != KV_OK)
        return e;
    kv_store(kv_st(s, KV_ST_REV), next_rev - 1);
    kv_store(kv_st(s, KV_ST_NEXT_NS), next_ns);
    kv_store(kv_st(s, KV_ST_APPLIED), kv_load(&s->log.w[KV_LOG_TAIL]));
    /* The store exists from here on. */
    e = kv_meta_create(s->dir, &s->meta);
    kv_store(kv_st(s, KV_ST_USERS), 1);
    if (e == KV_OK)
        kv_share_publish(s);
    return e;
}

/* Rewrites what a salvaging replay found into fresh segments behind all others, and forgets those.
 */
typedef struct mover {
    kv_db *s;
    uint64_t *pos;
    size_t count, cap;
} mover;

static int collect_pos(void *arg, uint64_t bucket, uint64_t slot)
{
    mover *m = arg;
    uint64_t *more;

    (void)bucket;
    if (m->count == m->cap) {
        more = realloc(m->pos, (m->cap * 2 + 1024) * sizeof *more);
        if (more == NULL)
            return kv_fail(KV_ENOMEM, "out of memory");
        m->pos = more;
        m->cap = m->cap * 2 + 1024;
    }
    m->pos[m->count++] =
        kv_addr_pos(slot & KV_ADDR_MASK, (uint32_t)kv_load(&m->s->log.w[KV_LOG_OLDEST]));
    return 0;
}

static int rewrite(kv_db *s, uint64_t pos)
{
    kv_append a;
    kv_found f;
    kv_rec r;
    int e = kv_log_peek(&s->log, kv_pos_addr(pos), &r);

    if (e != KV_OK)
        return e;
    f.hash = kv_index_hash(s, kv_rec_index_ns(&r), r.key, r.key_len);
    e = kv_index_find(s, kv_rec_index_ns(&r), r.key, r.key_len, 0, &f);
    if (e != KV_OK || !f.there || f.addr != kv_pos_addr(pos))
        return e ? e : KV_ECORRUPT;
    if (kv_ns_state(s, r.ns) == KV_NAME_DROPPED) {
        /* Its drop is not among what is rewritten. */
        kv_txn_begin(&s->region);
        e = kv_index_forget(s, &f);
        kv_txn_end(&s->region);
        return e;
    }
    r.more = 0;
    for (;;) {
        kv_log_begin(&s->log, &a);
        a.next_rev = *kv_st(s, KV_ST_REV) + 1;
        a.next_ns = *kv_st(s, KV_ST_NEXT_NS);
        a.time = (int64_t)*kv_st(s, KV_ST_CLOCK);
        if (kv_log_fit(&s->log, &a, r.size, KV_FOR_PUT))
            break;
        e = kv_log_prepare(&s->log, kv_segment_size(s));
        if (e != KV_OK)
            return e;
    }
    kv_log_begin(&s->log, &a);
    pos = kv_log_append(&s->log, &a, &r);
    kv_log_commit(&s->log, &a);
    kv_index_move(s, &f.scan, &pos, 1, a.pos);
    return KV_OK;
}

static int salvage(kv_db *s, const kv_walk *w, const kv_tail *t)
{
    uint64_t oldest = kv_load(&s->log.w[KV_LOG_OLDEST]);
    uint32_t first = t->last_id + 1, id, size = KV_SEG_MIN;
    mover m = {0};
    size_t i;
    int e;

    (void)w;
    m.s = s;
    /* Whatever fitted a segment of old fits one of the same size. */
    for (id = (uint32_t)oldest; id < first; id++)
        if (kv_log_size_of(&s->log, id) > size)
            size = kv_log_size_of(&s->log, id);
    e = kv_hash_each(&s->region, collect_pos, &m);
    if (e == KV_OK && m.count)
        qsort(m.pos, m.count, sizeof *m.pos, by_id);
    if (e == KV_OK)
        e = kv_log_start(&s->log, first, size, *kv_st(s, KV_ST_REV) + 1, *kv_st(s, KV_ST_NEXT_NS),
                         (int64_t)*kv_st(s, KV_ST_CLOCK));
    if (e == KV_OK) {
        /* The old ones are still needed for reading. */
        kv_store(&s->log.w[KV_LOG_OLDEST], oldest);
        kv_store(&s->log.w[KV_LOG_FREED], oldest);
        kv_store(kv_st(s, KV_ST_APPLIED), kv_load(&s->log.w[KV_LOG_TAIL]));
    }
    for (i = 0; e == KV_OK && i < m.count; i++)
        e = rewrite(s, m.pos[i]);
    free(m.pos);
    if (e == KV_OK)
        e = kv_log_sync(&s->log);
    if (e != KV_OK) {
        /* Nothing has changed but files behind the damage, which the next salvage finds again. */
        for (id = (uint32_t)kv_load(&s->log.w[KV_LOG_SPARES]); id >= first; id--) {
            char name[24];

            snprintf(name, sizeof name, "log.%08x", (unsigned)id);
            (void)kv_file_unlink(s->dir, name);
        }
        return e;
    }
    s->meta.oldest = first;
    e = kv_meta_write(s->dir, &s->meta);
    if (e == KV_OK)
        e = kv_log_retire(&s->log, first, 0);
    return e;
}

/* The log's clock against the system's: small steps back are held over, as while running. */
static void set_clock(kv_db *s)
{
    int64_t now = kv_store_now(s), last = (int64_t)kv_load(kv_st(s, KV_ST_CLOCK));

    if (now < last)
        snprintf(s->report, sizeof s->report, "the clock went back by %llu ms",
                 (unsigned long long)(last - now));
    kv_set_clock(s, now);
}

static void report(kv_db *s, const kv_walk *w, const kv_tail *t, int damaged)
{
    size_t n = strlen(s->report), left = sizeof s->report - n;
    const char *and = n ? "; " : "";

    if (damaged)
        snprintf(s->report + n, left, "%sdamaged in segment %u at %u: %llu bytes skipped", and,
                 (unsigned)w->id, (unsigned)w->off, (unsigned long long)w->skipped);
    else if (t->cut)
        snprintf(s->report + n, left, "%s%llu bytes of an unfinished tail cut off", and,
                 (unsigned long long)t->cut);
}

/* Replays with or without skipping damage; *damaged: there is some below what was durable. */
static int replay_once(kv_db *s, int skip, kv_walk *w, kv_tail *t, int *damaged)
{
    int64_t now = kv_os_wall();
    int e = make_index(s, now);

    memset(w, 0, sizeof *w);
    if (e != KV_OK)
        return e;
    kv_store(kv_st(s, KV_ST_CLOCK), 0);
    kv_store(&s->log.w[KV_LOG_OLDEST], s->meta.oldest);
    kv_store(&s->log.w[KV_LOG_FREED], s->meta.oldest);
    kv_store(&s->log.w[KV_LOG_CLEAN], kv_pos((uint32_t)s->meta.oldest, KV_SEG_HEAD));
    e = kv_replay(s, 0, skip, now, w);
    if (e == KV_ECORRUPT && w->size == 0) {
        *damaged = 1; /* the oldest segment itself */
        return KV_OK;
    }
    if (e == KV_OK)
        e = kv_walk_tail(w, t);
    *damaged = e == KV_OK && kv_walk_pos(w) < t->durable;
    return e;
}

void kv_forget_index(kv_db *s, int unlink)
{
    kv_dir *dir = s->region.dir;

    kv_log_close(&s->log);
    if (s->region.head == NULL)
        return;
    if (unlink && !s->readonly)
        (void)kv_file_unlink(dir, s->region.name);
    kv_region_close(&s->region);
    if (s->apart)
        kv_dir_close(dir);
    s->apart = 0;
}

static int replay(kv_db *s, const kv_options *o)
{
    int damaged = 0, again, e;
    uint32_t id = 0, off = 0;
    int64_t been;
    kv_walk w;
    kv_tail t;

    memset(&t, 0, sizeof t);
    e = replay_once(s, 0, &w, &t, &damaged);
    /* The index that is built now may want more room than the former one had. */
    if (e == KV_EFULL && !s->readonly && kv_log_drop_spares(s->dir, (uint32_t)s->meta.oldest)) {
        kv_walk_close(&w);
        kv_forget_index(s, 1);
        e = replay_once(s, 0, &w, &t, &damaged);
    }
    if (e == KV_OK && damaged) {
        id = w.id;
        off = w.off;
        kv_walk_close(&w);
        if (!o->salvage && !s->readonly)
            return kv_fail(KV_ECORRUPT,
                           "%s: damaged in segment %u at %u, below what was durable; open it "
                           "readonly or with salvage=true",
                           kv_dir_path(s->dir), (unsigned)id, (unsigned)off);
        kv_forget_index(s, 1);
        e = replay_once(s, 1, &w, &t, &again);
    }
    s->replayed = w.records;
    s->cut_bytes = t.cut;
    if (e == KV_OK) {
        been = (int64_t)kv_load(kv_st(s, KV_ST_CLOCK));
        set_clock(s);
        if (damaged && !s->readonly)
            e = salvage(s, &w, &t);
        else if (!s->readonly)
            e = kv_log_cut(&s->log, &w, &t);
        else
            kv_store(&s->log.w[KV_LOG_TAIL], kv_walk_pos(&w));
        /* The clock went back: what was over is not there again. */
        if (e == KV_OK && been > (int64_t)kv_load(kv_st(s, KV_ST_CLOCK)))
            e = kv_expire_until(s, been);
        if (damaged) {
            w.id = id;
            w.off = off;
        }
        report(s, &w, &t, damaged);
    }
    kv_walk_close(&w);
    if (e != KV_OK)
        return e;
    kv_store(kv_st(s, KV_ST_APPLIED), kv_load(&s->log.w[KV_LOG_TAIL]));
    if (s->readonly)
        return KV_OK;
    /* A store on a full disk still opens: reading and deleting work without a spare. */
    if (kv_load(&s->log.w[KV_LOG_SPARES]) == kv_pos_id(kv_load(&s->log.w[KV_LOG_TAIL])))
        e = kv_log_prepare(&s->log, kv_segment_size(s));
    return e == KV_EFULL ? KV_OK : e;
}

void kv_attached_alone(kv_db *s, int swept)
{
    set_clock(s);
    (void)kv_dir_list(s->dir, sweep_part, s);
    /* Blobs only where the index is complete: a dead writer's last record may not be in it yet. */
    if (swept) {
        kv_store(kv_st(s, KV_ST_LOST), 0);
        sweep_up(s, kv_load(kv_st(s, KV_ST_APPLIED)) == kv_load(&s->log.w[KV_LOG_TAIL]) &&
                        s->region.head->journal.count == 0);
    }
}

static int take(kv_db *s, kv_lock *lock, int timeout)
{
    int e = kv_lock_take(lock, timeout);

    if (e == KV_LOCK_DIED) {
        kv_lock_consistent(lock); /* what it left behind is in the index that is replaced */
        e = KV_OK;
    }
    return e == KV_EBUSY
               ? kv_fail(e, "%s: somebody has held a lock for %d ms", kv_dir_path(s->dir), timeout)
               : e;
}

/* A file of its own for a segment, byte for byte. */
static int renew_segment(kv_db *s, uint32_t id)
{
    static const char temp[] = "index.renew"; /* swept up as an old index is */
    char name[24], *bytes;
    uint64_t size;
    size_t got = 0;
    int fd = -1, e;

    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    e = kv_file_open(s->dir, name, KV_FILE_READ, &fd);
    if (e != KV_OK)
        return e;
    e = kv_file_size(fd, &size);
    if (e == KV_OK && size > KV_SEG_MAX)
        e = KV_ECORRUPT;
    bytes = e == KV_OK ? malloc(size ? size : 1) : NULL;
    if (e == KV_OK)
        e = bytes ? kv_file_read(fd, bytes, size, 0, &got)
                  : kv_fail(KV_ENOMEM, "out of memory (%llu bytes)", (unsigned long long)size);
    kv_file_close(fd);
    fd = -1;
    if (e == KV_OK)
        e = kv_file_unlink(s->dir, temp);
    if (e == KV_OK)
        e = kv_file_open(s->dir, temp, KV_FILE_CREATE, &fd);
    if (e == KV_OK) {
        e = kv_file_allocate(fd, 0, size);
        while (got > 0 && bytes[got - 1] == 0)
            got--;
        if (e == KV_OK)
            e = kv_file_write(fd, bytes, got, 0);
        if (e == KV_OK)
            e = kv_file_sync_all(fd);
        kv_file_close(fd);
        if (e == KV_OK)
            e = kv_file_rename(s->dir, temp, name);
    }
    free(bytes);
    return e;
}

/* After a failed sync the kernel calls pages clean that never reached the disk, and no second sync
 * would write them. So each segment that is not known durable is copied, from memory as long as
 * that lasts, into a file of its own and takes the old one's place: the same bytes, so that it does
 * not matter who dies when. With the three locks. */
static int renew(kv_db *s)
{
    kv_region old;
    uint64_t *w, from, to, id;
    char name[32];
    int e;

    snprintf(name, sizeof name, "index.%llu", (unsigned long long)kv_load(s->current));
    e = kv_region_attach(&old, s->dir, name, 0);
    if (e != KV_OK)
        return KV_OK; /* nobody knows any more: the log's own marks are all there is */
    w = old.head->log;
    from = kv_load(&w[KV_LOG_SYNC_FROM]);
    to = kv_pos_id(kv_load(&w[KV_LOG_TAIL]));
    if (from < kv_load(&w[KV_LOG_OLDEST]))
        from = kv_load(&w[KV_LOG_OLDEST]);
    if (kv_load(&w[KV_LOG_BROKEN]) && from != 0 && to - from < KV_SEG_IDS) {
        for (id = from; e == KV_OK && id <= to; id++)
            e = renew_segment(s, (uint32_t)id);
        if (e == KV_OK)
            e = kv_dir_sync(s->dir);
    }
    kv_region_close(&old);
    return e;
}

int kv_rebuild(kv_db *s, const kv_options *o, int alone)
{
    kv_lock *locks[3];
    int e = KV_OK, n;

    if (s->readonly)
        return replay(s, o);
    locks[0] = &s->locks->maint;
    locks[1] = &s->locks->durable;
    locks[2] = &s->locks->writer;
    for (n = 0; n < 3 && e == KV_OK; n += e == KV_OK)
        e = take(s, locks[n], o->timeout);
    /* Until now others may have retired segments: which is the oldest is certain only here. */
    if (e == KV_OK)
        e = kv_meta_read(s->dir, &s->meta);
    if (e == KV_OK)
        e = renew(s);
    KV_PAUSE("rebuild: locked");
    if (e == KV_OK)
        e = replay(s, o);
    if (e == KV_OK) {
        kv_store(kv_st(s, KV_ST_USERS), 1);
        KV_PAUSE("rebuild: replayed");
        kv_share_publish(s);
        KV_PAUSE("rebuild: published");
        sweep_up(s, alone);
        if (alone)
            (void)kv_dir_list(s->dir, sweep_part, s);
    }
    while (n-- > 0)
        kv_lock_release(locks[n]);
    return e;
}
