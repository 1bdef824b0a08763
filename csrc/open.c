/* SPDX-License-Identifier: MIT
 *
 * open.c - opening, creating and closing a store, and the registry of those this process has open.
 *
 * One process at a time has a store open: it holds the file `lock`. The first handle of a process
 * replays the log into a fresh index and cuts off a torn tail; further handles share what is there.
 * Damage in what was durable changes nothing and opens only readonly or with salvage.
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCKS_MAGIC 0x3173636f6c766bull /* "kvlocs1" */

static kv_db *registry; /* under the process's lock */

void kv_options_init(kv_options *o)
{
    memset(o, 0, sizeof *o);
    o->create = 1;
    o->sync = KV_SYNC_INTERVAL;
    o->interval = 1000;
    o->thread = 1;
    o->mode = 0600;
    o->timeout = 5000;
}

static int check_options(const kv_options *o)
{
    if (o->sync < KV_SYNC_INTERVAL || o->sync > KV_SYNC_NONE)
        return kv_fail(KV_EINVAL, "sync is one of interval, always and none");
    if (o->interval < 1)
        return kv_fail(KV_EINVAL, "interval is at least 1 ms");
    if (o->timeout < 0)
        return kv_fail(KV_EINVAL, "timeout is not negative");
    if (o->mode < 0 || o->mode > 0777)
        return kv_fail(KV_EINVAL, "mode is 0 to 0777");
    if (o->max_value > KV_MAX_VALUE_CAP)
        return kv_fail(KV_EINVAL, "max_value is at most %u bytes", KV_MAX_VALUE_CAP);
    return KV_OK;
}

int kv_forked(kv *h)
{
    return kv_fail(KV_EBUSY, "%s was opened before fork(): open it again in this process",
                   kv_dir_path(h->s->dir));
}

/* ---- the directory's other files ------------------------------------------------------ */

static int is_index(const char *name)
{
    return strncmp(name, "index.", 6) == 0;
}

/* Whether a directory without `meta` may become a store: nothing in it but what a store that was
 * never finished leaves behind. */
static int foreign(void *arg, const char *name)
{
    uint32_t id;

    (void)arg;
    return !(strcmp(name, "lock") == 0 || strcmp(name, KV_META_TEMP) == 0 || is_index(name) ||
             kv_log_parse_name(name, &id));
}

static int must_be_ours(kv_dir *dir)
{
    int e = kv_dir_list(dir, foreign, NULL);

    return e > 0 ? kv_fail(KV_EUNSUPPORTED, "%s is not a kv store, and not empty", kv_dir_path(dir))
                 : e;
}

typedef struct sweep {
    kv_db *s;
    uint32_t oldest;
    const uint64_t *blobs; /* ids in use, sorted */
    size_t count;
    int durable; /* 1: the log is, up to its end; -1: it is not */
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
        (kv_blob_parse_name(name, &blob) && unused_blob(w, blob)))
        (void)kv_file_unlink(w->s->dir, name);
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

static void sweep_up(kv_db *s)
{
    blob_list l = {0};
    sweep w = {0};
    int blobs;

    l.s = s;
    w.s = s;
    w.oldest = (uint32_t)kv_load(&s->log.w[KV_LOG_OLDEST]);
    /* Not knowing which files are in use, none may go. */
    blobs = kv_dir_list(s->dir, any_blob, NULL);
    if (blobs == 1)
        blobs = kv_hash_each(&s->region, collect_blob, &l);
    if (blobs == KV_OK && !l.failed) {
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
    uint32_t n;
    int made, e;

    e = kv_os_random(seed, sizeof seed);
    if (e == KV_OK && s->readonly)
        e = kv_dir_open(":memory:", &memory, &dir, &made);
    if (e != KV_OK)
        return e;
    for (n = (uint32_t)seed[0] & 0xffff, e = KV_EEXISTS; e == KV_EEXISTS; n++) {
        snprintf(name, sizeof name, "index.%u", (unsigned)n);
        if (!s->readonly)
            (void)kv_file_unlink(dir, name);
        e = kv_region_create(&s->region, dir, name);
    }
    if (e != KV_OK) {
        if (s->readonly)
            kv_dir_close(dir);
        return e;
    }
    e = kv_log_open(&s->log, s->dir, s->region.head->log, s->meta.store_id, !s->readonly);
    if (e == KV_OK)
        kv_index_init(s, seed[0], seed[1], now);
    return e;
}

static int create(kv_db *s, const kv_options *o, uint64_t next_rev, uint64_t next_ns)
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
    return kv_meta_create(s->dir, &s->meta);
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
        if (kv_log_fit(&s->log, &a, r.size, 0))
            break;
        e = kv_log_prepare(&s->log, kv_segment_size(s));
        if (e != KV_OK)
            return e;
    }
    kv_log_begin(&s->log, &a);
    pos = kv_log_append(&s->log, &a, &r);
    kv_log_commit(&s->log, &a);
    kv_index_move(s, &f, pos, a.pos);
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
        e = kv_log_retire(&s->log, first);
    return e;
}

/* The log's clock against the system's: small steps back are held over, as while running. */
static void set_clock(kv_db *s)
{
    int64_t now = kv_store_now(s), last = (int64_t)kv_load(kv_st(s, KV_ST_CLOCK));

    if (now < last)
        kv_store(kv_st(s, KV_ST_BACK), (uint64_t)(last - now));
    kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)now);
}

static void report(kv_db *s, const kv_walk *w, const kv_tail *t, int damaged)
{
    size_t n = 0;

    if (damaged)
        n = (size_t)snprintf(s->report, sizeof s->report,
                             "damaged in segment %u at %u: %llu bytes skipped; ", (unsigned)w->id,
                             (unsigned)w->off, (unsigned long long)w->skipped);
    else if (t->cut)
        n = (size_t)snprintf(s->report, sizeof s->report,
                             "%llu bytes of an unfinished tail cut off; ",
                             (unsigned long long)t->cut);
    if (kv_load(kv_st(s, KV_ST_BACK)) && n < sizeof s->report)
        snprintf(s->report + n, sizeof s->report - n, "the clock went back by %llu ms; ",
                 (unsigned long long)kv_load(kv_st(s, KV_ST_BACK)));
    n = strlen(s->report);
    if (n >= 2)
        s->report[n - 2] = 0;
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

static void forget_index(kv_db *s)
{
    kv_dir *dir = s->region.dir;

    kv_log_close(&s->log);
    if (s->region.head == NULL)
        return;
    if (!s->readonly)
        (void)kv_file_unlink(dir, s->region.name);
    kv_region_close(&s->region);
    if (s->readonly)
        kv_dir_close(dir);
}

static int replay(kv_db *s, const kv_options *o)
{
    int damaged = 0, again, e;
    uint32_t id = 0, off = 0;
    kv_walk w;
    kv_tail t;

    memset(&t, 0, sizeof t);
    e = replay_once(s, 0, &w, &t, &damaged);
    if (e == KV_OK && damaged) {
        id = w.id;
        off = w.off;
        kv_walk_close(&w);
        if (!o->salvage && !s->readonly)
            return kv_fail(KV_ECORRUPT,
                           "%s: damaged in segment %u at %u, below what was durable; open it "
                           "readonly or with salvage=true",
                           kv_dir_path(s->dir), (unsigned)id, (unsigned)off);
        forget_index(s);
        e = replay_once(s, 1, &w, &t, &again);
    }
    s->replayed = w.records;
    s->cut_bytes = t.cut;
    if (e == KV_OK) {
        set_clock(s);
        if (damaged && !s->readonly)
            e = salvage(s, &w, &t);
        else if (!s->readonly)
            e = kv_log_cut(&s->log, &w, &t);
        else
            kv_store(&s->log.w[KV_LOG_TAIL], kv_walk_pos(&w));
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
    sweep_up(s);
    /* A store on a full disk still opens: reading and deleting work without a spare. */
    e = damaged ? KV_OK : kv_log_prepare(&s->log, kv_segment_size(s));
    return e == KV_EFULL ? KV_OK : e;
}

/* ---- one kv_db ------------------------------------------------------------------------ */

static int open_locks(kv_db *s)
{
    uint64_t size;
    void *p;
    int e;

    e = kv_file_open(s->dir, "lock", s->readonly ? KV_FILE_READ : KV_FILE_MAKE, &s->lock_fd);
    if (e != KV_OK) {
        s->lock_fd = -1;
        return s->readonly && e == KV_ENOTFOUND ? KV_OK : e;
    }
    e = s->readonly ? kv_file_lock_shared(s->lock_fd) : kv_file_lock(s->lock_fd);
    if (e == KV_EBUSY)
        return kv_fail(KV_EBUSY, "%s is open in another process", kv_dir_path(s->dir));
    if (e != KV_OK || s->readonly)
        return e;
    e = kv_file_size(s->lock_fd, &size);
    if (e == KV_OK && size < KV_PAGE)
        e = kv_file_allocate(s->lock_fd, 0, KV_PAGE);
    if (e == KV_OK)
        e = kv_file_map(s->lock_fd, 0, KV_PAGE, 1, NULL, 0, &p);
    if (e != KV_OK)
        return e;
    s->locks = p;
    /* Nobody else has the store: whatever a former owner left in the locks is void. */
    s->locks->magic = LOCKS_MAGIC;
    s->locks->format = 1;
    kv_os_boot_id(s->locks->boot_id);
    kv_dir_identity(s->dir, s->locks->identity);
    e = kv_lock_init(&s->locks->writer);
    if (e == KV_OK)
        e = kv_lock_init(&s->locks->maint);
    return e == KV_OK ? kv_lock_init(&s->locks->durable) : e;
}

static void db_free(kv_db *s)
{
    forget_index(s);
    if (s->locks != NULL)
        kv_file_unmap(s->locks, KV_PAGE);
    if (s->lock_fd >= 0)
        kv_file_close(s->lock_fd);
    if (s->guard.page != NULL)
        kv_guard_free(&s->guard);
    if (s->mutex != NULL)
        kv_mutex_free(s->mutex);
    if (s->dir != NULL)
        kv_dir_close(s->dir);
    free(s);
}

/* max_size and max_value belong to the store: given at a later open they replace what it has. */
static int adopt_limits(kv_db *s, const kv_options *o)
{
    uint64_t size = o->max_size ? o->max_size : s->meta.max_size;
    uint64_t value = o->max_value ? o->max_value : s->meta.max_value;
    kv_meta m;
    int e;

    if (s->readonly || (size == s->meta.max_size && value == s->meta.max_value))
        return KV_OK;
    e = kv_lock_durable(s, 5000);
    if (e != KV_OK)
        return e;
    m = s->meta;
    m.max_size = size;
    m.max_value = value;
    e = kv_meta_write(s->dir, &m);
    if (e == KV_OK)
        s->meta = m;
    kv_unlock_durable(s);
    return e;
}

static int db_open(kv_dir *dir, int made, const kv_options *o, uint64_t next_rev, uint64_t next_ns,
                   kv_db **out)
{
    kv_db *s = calloc(1, sizeof *s);
    int e;

    if (s == NULL) {
        kv_dir_close(dir);
        return kv_fail(KV_ENOMEM, "out of memory");
    }
    s->dir = dir;
    s->lock_fd = -1;
    s->log.sync_fd = -1;
    s->readonly = o->readonly && !kv_dir_in_memory(dir);
    s->interval = o->interval;
    s->refs = 1;
    kv_dir_identity(dir, s->identity);
    s->mutex = kv_mutex_new();
    e = s->mutex ? kv_guard_init(&s->guard) : kv_fail(KV_ENOMEM, "out of memory");
    /* Before the first file is made in it: a directory of something else stays as it is. */
    if (e == KV_OK && (e = kv_meta_read(dir, &s->meta)) == KV_ENOTFOUND)
        e = must_be_ours(dir);
    if (e == KV_OK)
        e = open_locks(s);
    /* Removed (kv_remove_store) between our finding it and our lock. */
    if (e == KV_OK && !kv_tree_still(dir))
        e = kv_fail(KV_ENOTFOUND, "%s was removed meanwhile", kv_dir_path(dir));
    if (e == KV_OK) {
        e = kv_meta_read(dir, &s->meta);
        if (e == KV_OK)
            e = replay(s, o);
        else if (e == KV_ENOTFOUND && o->create && !s->readonly)
            e = create(s, o, next_rev, next_ns);
        else if (e == KV_ENOTFOUND)
            e = kv_fail(made ? KV_ENOTFOUND : KV_EUNSUPPORTED, "%s is not a kv store",
                        kv_dir_path(dir));
    }
    if (e == KV_OK)
        e = adopt_limits(s, o);
    if (e != KV_OK) {
        db_free(s);
        return e;
    }
    s->synced_at = kv_os_monotonic();
    *out = s;
    return KV_OK;
}

/* With the process's lock held. A store opened before fork() is the parent's: passed over. */
static kv_db *registered(const uint64_t id[2])
{
    kv_db *s;

    for (s = registry; s != NULL; s = s->next)
        if (s->identity[0] == id[0] && s->identity[1] == id[1] && !kv_guard_forked(&s->guard))
            return s;
    return NULL;
}

int kv_open_new(const char *path, const kv_options *opts, uint64_t next_rev, uint64_t next_ns,
                kv **out)
{
    kv_dir_options d = {0};
    kv_options o;
    uint64_t id[2];
    kv_dir *dir;
    kv_db *s = NULL;
    kv *h;
    int made, e;

    if (opts != NULL)
        o = *opts;
    else
        kv_options_init(&o);
    e = check_options(&o);
    if (e != KV_OK)
        return e;
    d.create = o.create && !o.readonly;
    d.mode = o.mode;
    d.unsafe_fs = o.unsafe_fs;
    d.readonly = o.readonly;
    h = calloc(1, sizeof *h);
    if (h == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    kv_process_lock();
    e = kv_dir_open(path, &d, &dir, &made);
    if (e == KV_OK) {
        kv_dir_identity(dir, id);
        s = registered(id);
        if (s != NULL && s->readonly && !o.readonly)
            e = kv_fail(KV_EBUSY, "%s is open for reading only in this process", path);
        else if (s != NULL)
            e = adopt_limits(s, &o);
        if (s != NULL) {
            kv_dir_close(dir);
            if (e == KV_OK)
                s->refs++;
        } else if (e == KV_OK) {
            e = db_open(dir, made, &o, next_rev, next_ns, &s);
            if (e == KV_OK) {
                s->next = registry;
                registry = s;
            }
        }
    }
    kv_process_unlock();
    if (e != KV_OK) {
        free(h);
        return e;
    }
    h->s = s;
    h->sync = o.sync;
    h->timeout = o.timeout;
    h->thread = o.thread;
    h->readonly = o.readonly;
    /* A sync writes the whole of a large page for one record. */
    if (o.sync == KV_SYNC_ALWAYS)
        s->log.huge = 0;
    if (o.sync == KV_SYNC_INTERVAL && !s->readonly && !kv_dir_in_memory(s->dir))
        __atomic_store_n(&s->wants_sync, 1, __ATOMIC_SEQ_CST);
    *out = h;
    return KV_OK;
}

int kv_open(const char *path, const kv_options *opts, kv **out)
{
    if (path == NULL || path[0] == 0)
        return kv_fail(KV_EINVAL, "a path is needed");
    return kv_open_new(path, opts, 1, 1, out);
}

const char *kv_report(kv *h)
{
    return h->s->report;
}

void kv_close(kv *h)
{
    kv_db *s, **link;
    int last;

    if (h == NULL)
        return;
    s = h->s;
    kv_scratch_free(&h->scratch);
    if (kv_guard_forked(&s->guard)) {
        free(h); /* the rest is the parent's */
        return;
    }
    if (!s->readonly && !h->readonly && h->sync != KV_SYNC_NONE)
        (void)kv_sync_to(h, kv_load(&s->log.w[KV_LOG_TAIL]));
    kv_process_lock();
    last = --s->refs == 0;
    for (link = &registry; last && *link != NULL; link = &(*link)->next)
        if (*link == s) {
            *link = s->next;
            break;
        }
    if (last) {
        kv_helper_stop(s);
        if (!s->readonly && !kv_load(&s->log.w[KV_LOG_BROKEN])) {
            (void)kv_maintain(s, 1000, 0);
            if (h->sync != KV_SYNC_NONE && kv_load(&s->log.w[KV_LOG_SYNCED]) != 0)
                kv_log_mark(&s->log);
        }
        db_free(s);
    }
    kv_process_unlock();
    free(h);
}
