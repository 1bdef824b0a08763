/* SPDX-License-Identifier: MIT
 *
 * open.c - options, opening and closing handles, and the registry of the stores this process has
 * open.
 *
 * One kv_db for each index image and process, shared by its handles. When the index is rebuilt
 * while a process is attached, its handles move, each at its next call, to a kv_db of the new one;
 * the old one stays mapped until they are closed.
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Whether a directory without `meta` may become a store: nothing in it but what a store that was
 * never finished leaves behind. */
static int foreign(void *arg, const char *name)
{
    uint32_t id;

    (void)arg;
    return !(strcmp(name, "lock") == 0 || strcmp(name, KV_META_TEMP) == 0 ||
             strncmp(name, "index.", 6) == 0 || kv_log_parse_name(name, &id));
}

static int must_be_ours(kv_dir *dir)
{
    int e = kv_dir_list(dir, foreign, NULL);
    kv_meta meta;

    /* Somebody may have made the store since we looked for its `meta`. */
    if (e > 0 && kv_meta_read(dir, &meta) != KV_ENOTFOUND)
        return KV_OK;
    return e > 0 ? kv_fail(KV_EUNSUPPORTED, "%s is not a kv store, and not empty", kv_dir_path(dir))
                 : e;
}

/* ---- one kv_db ------------------------------------------------------------------------ */

static void db_free(kv_db *s)
{
    /* What the host has closed may be a file of its own by now. */
    if (s->dir != NULL && kv_dir_usable(s->dir) != KV_OK)
        s->lock_fd = s->region.fd = s->log.sync_fd = -1;
    kv_forget_index(s, 0);
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
    uint64_t *size = kv_st(s, KV_ST_MAX_SIZE), *value = kv_st(s, KV_ST_MAX_VALUE);
    kv_meta m;
    int e;

    if (s->readonly || ((o->max_size == 0 || o->max_size == kv_load(size)) &&
                        (o->max_value == 0 || o->max_value == kv_load(value))))
        return KV_OK;
    e = kv_lock_durable(s, o->timeout);
    if (e != KV_OK)
        return e == KV_MOVED ? KV_OK : e;
    e = kv_meta_read(s->dir, &m);
    if (e == KV_OK) {
        m.max_size = o->max_size ? o->max_size : m.max_size;
        m.max_value = o->max_value ? o->max_value : m.max_value;
        e = kv_meta_write(s->dir, &m);
    }
    if (e == KV_OK) {
        kv_store(size, m.max_size);
        kv_store(value, m.max_value);
    }
    kv_unlock_durable(s);
    return e;
}

static int no_store(const kv_dir *dir)
{
    return kv_fail(KV_ENOTFOUND, "there is no store at %s", kv_dir_path(dir));
}

static int open_shared(kv_db *s, const kv_options *o, uint64_t next_rev, uint64_t next_ns,
                       int alone)
{
    uint64_t seen;
    int e = kv_meta_read(s->dir, &s->meta);

    if (e == KV_OK) {
        /* A reader has no turn: an index may have given way to another while it was mapped. */
        do {
            seen = kv_load(s->current);
            e = o->salvage && alone ? 1 : kv_share_attach(s, alone);
        } while (e == 1 && s->locks != NULL && s->readonly && kv_load(s->current) != seen);
        if (e == 1)
            e = kv_rebuild(s, o, alone);
    } else if (e == KV_ENOTFOUND && o->create && !s->readonly) {
        e = kv_create(s, o, next_rev, next_ns);
    } else if (e == KV_ENOTFOUND) {
        e = no_store(s->dir);
    }
    if (e != KV_OK)
        kv_forget_index(s, s->locks == NULL || kv_load(s->current) != s->generation);
    return e;
}

/* What a process has open already, or had before a fork, it follows to without waiting. */
static int follow(kv_db *s)
{
    int e = kv_meta_read(s->dir, &s->meta);

    if (e == KV_OK)
        e = kv_share_follow(s);
    if (e != KV_OK)
        kv_forget_index(s, 0);
    return e;
}

static int take_turn(kv_db *s, const kv_options *o, uint64_t next_rev, uint64_t next_ns)
{
    int alone = 1, e = kv_share_begin(s, o->timeout, &alone);

    /* Removed (kv_remove_store) between our finding it and our lock. */
    if (e == KV_OK && !kv_tree_still(s->dir))
        e = kv_fail(KV_ENOTFOUND, "%s was removed meanwhile", kv_dir_path(s->dir));
    if (e == KV_OK) {
        e = open_shared(s, o, next_rev, next_ns, alone);
        kv_share_opened(s);
    }
    return e;
}

static int db_open(kv_dir *dir, const kv_options *o, uint64_t next_rev, uint64_t next_ns,
                   int following, kv_db **out)
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
    s->current = &s->generation;
    s->readonly = o->readonly && !kv_dir_in_memory(dir);
    s->interval = o->interval;
    s->refs = 1;
    kv_dir_identity(dir, s->identity);
    s->mutex = kv_mutex_new();
    e = s->mutex ? kv_guard_init(&s->guard) : kv_fail(KV_ENOMEM, "out of memory");
    /* Before the first file is made in it: a directory of something else stays as it is, and so
     * does one where no store is to be made. */
    if (e == KV_OK && (e = kv_meta_read(dir, &s->meta)) == KV_ENOTFOUND) {
        e = must_be_ours(dir);
        if (e == KV_OK && (!o->create || s->readonly))
            e = no_store(dir);
    }
    KV_PAUSE("open: meta read");
    if (e == KV_OK)
        e = following && !s->readonly ? follow(s) : take_turn(s, o, next_rev, next_ns);
    if (e == KV_OK)
        e = adopt_limits(s, o);
    if (e != KV_OK) {
        db_free(s);
        return e;
    }
    *out = s;
    return KV_OK;
}

/* With the process's lock held. A store opened before fork() is the parent's: passed over, as is
 * one that has been superseded or must be opened anew. One that can be written serves readers as
 * well. */
static kv_db *registered(const uint64_t id[2], int readonly)
{
    kv_db *s, *found = NULL;

    for (s = registry; s != NULL; s = s->next)
        if (s->identity[0] == id[0] && s->identity[1] == id[1] && !kv_guard_forked(&s->guard) &&
            !kv_superseded(s) && !kv_load(&s->log.w[KV_LOG_BROKEN]) &&
            !kv_load(kv_st(s, KV_ST_CORRUPT)) && kv_dir_usable(s->dir) == KV_OK &&
            (!s->readonly || (readonly && found == NULL)))
            found = s;
    return found;
}

/* The parent's locks on files are not the child's, which might keep them when the parent is long
 * dead: then nobody would be alone with the store, and everybody who comes is told that somebody
 * uses it. */
static void forked(void)
{
    kv_db *s;

    for (s = registry; s != NULL; s = s->next)
        if (kv_dir_forked(s->dir) && s->lock_fd >= 0) {
            kv_file_close(s->lock_fd);
            s->lock_fd = s->log.pins = -1;
        }
}

static void registry_add(kv_db *s)
{
    kv_process_on_fork(forked);
    s->next = registry;
    registry = s;
}

/* With the process's lock held. */
static void db_release(kv_db *s)
{
    kv_db **link;

    /* The parent's: this process has a copy of its memory, and no part in it. */
    if (kv_guard_forked(&s->guard) || --s->refs != 0)
        return;
    for (link = &registry; *link != NULL; link = &(*link)->next)
        if (*link == s) {
            *link = s->next;
            break;
        }
    kv_helper_stop(s);
    if (!s->readonly && !kv_superseded(s))
        kv_share_leave(s);
    db_free(s);
}

/* ---- handles -------------------------------------------------------------------------- */

static void settle(kv *h, kv_db *s, int sync)
{
    h->s = s;
    snprintf(h->report, sizeof h->report, "%s", s->report);
    /* A sync writes the whole of a large page for one record. */
    if (sync == KV_SYNC_ALWAYS)
        __atomic_store_n(&s->log.huge, 0, __ATOMIC_RELAXED);
    if (sync == KV_SYNC_INTERVAL && !s->readonly && !kv_dir_in_memory(s->dir))
        __atomic_store_n(&s->wants_sync, 1, __ATOMIC_SEQ_CST);
    /* What somebody left who was killed, nobody else may be there to sync. */
    if (h->thread && !h->readonly && kv_load(&s->wants_sync) &&
        kv_load(&s->log.w[KV_LOG_SYNCED]) != kv_load(&s->log.w[KV_LOG_TAIL]))
        kv_helper_start(s);
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
        s = registered(id, o.readonly);
        if (s != NULL) {
            kv_dir_close(dir);
            e = adopt_limits(s, &o);
            if (e == KV_OK)
                s->refs++;
        } else {
            e = db_open(dir, &o, next_rev, next_ns, 0, &s);
            if (e == KV_OK)
                registry_add(s);
        }
    }
    kv_process_unlock();
    if (e != KV_OK) {
        free(h);
        return e;
    }
    h->sync = o.sync;
    h->timeout = o.timeout;
    h->thread = o.thread;
    h->readonly = o.readonly;
    settle(h, s, o.sync);
    *out = h;
    return KV_OK;
}

int kv_open(const char *path, const kv_options *opts, kv **out)
{
    if (path == NULL || path[0] == 0)
        return kv_fail(KV_EINVAL, "a path is needed");
    return kv_open_new(path, opts, 1, 1, out);
}

/* The handle's store anew, in another index or in a process forked since: what its namespaces have
 * learnt belongs to the old one. */
static int move_over(kv *h)
{
    kv_db *old = h->s, *s, **past;
    kv_options o;
    kv_dir *dir;
    kv_ns *ns;
    int e = KV_OK;

    KV_PAUSE("move: begun");
    past = realloc(h->past, (h->pasts + 1) * sizeof *past);
    if (past == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    h->past = past;
    kv_process_lock();
    s = registered(old->identity, old->readonly);
    if (s != NULL) {
        s->refs++;
    } else {
        kv_options_init(&o);
        o.create = 0;
        o.readonly = old->readonly;
        o.interval = old->interval;
        o.timeout = h->timeout;
        e = kv_dir_again(old->dir, &dir);
        if (e == KV_OK && db_open(dir, &o, 1, 1, 1, &s) != KV_OK &&
            (e = kv_dir_again(old->dir, &dir)) == KV_OK)
            e = db_open(dir, &o, 1, 1, 0, &s);
        if (e == KV_OK)
            registry_add(s);
    }
    if (e == KV_OK) {
        settle(h, s, h->sync);
        for (ns = h->spaces; ns != NULL; ns = ns->next) {
            ns->seed0 = s->region.head->hash[KV_HASH_SEED0];
            ns->seed1 = s->region.head->hash[KV_HASH_SEED1];
            ns->state = NULL;
            ns->id = 0;
        }
        h->past[h->pasts++] = old;
    }
    kv_process_unlock();
    return e;
}

int kv_reenter(kv *h)
{
    int e = KV_OK;

    while (e == KV_OK && !kv_fresh(h)) {
        if (kv_guard_forked(&h->s->guard) && kv_dir_in_memory(h->s->dir))
            return kv_fail(KV_EBUSY, "a store in memory stays with the process that made it");
        e = move_over(h);
    }
    return e;
}

const char *kv_report(kv *h)
{
    return h->report;
}

void kv_close(kv *h)
{
    kv_db *s;

    if (h == NULL)
        return;
    s = h->s;
    kv_scratch_free(&h->scratch);
    if (!kv_guard_forked(&s->guard) && !s->readonly && !h->readonly && h->sync != KV_SYNC_NONE &&
        kv_enter(h) == KV_OK)
        (void)kv_sync_to(h, kv_load(&h->s->log.w[KV_LOG_TAIL]));
    kv_process_lock();
    db_release(h->s);
    while (h->pasts > 0)
        db_release(h->past[--h->pasts]);
    kv_process_unlock();
    free(h->past);
    free(h);
}
