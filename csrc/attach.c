/* SPDX-License-Identifier: MIT
 *
 * attach.c - the file `lock` of a store, shared by every process that uses it, and the index image
 * that counts.
 *
 * Openers go one at a time: they hold the first byte of `lock`. The page says for which boot and
 * which file its locks were made, and the number of the index that counts. While both are this boot
 * and this file it is never made anew, whoever died: a robust lock tells of a dead owner by itself.
 * Otherwise nobody who has it can be alive, and locks and index are made anew. The index is
 * believed when its header names the same boot and file and its words make sense; a small one that
 * nobody uses is verified as well.
 *
 * That a process uses the store is told by a lock on the directory, which lives as long as the
 * process, and is there also when `lock` is not.
 */
#include "store.h"

#include <stdio.h>
#include <string.h>

#define MAGIC  0x3173636f6c766bull /* "kvlocs1" */
#define SMALL  (1u << 20)          /* bytes, of index and log each */
#define MAPPED 256                 /* segments mapped at open */

/* Of this page and of what the C library puts into it. */
static uint64_t format(void)
{
    return kv_lock_kind() << 8 | 2;
}

/* ---- the openers' turn ---------------------------------------------------------------- */

static uint64_t progress(kv_db *s)
{
    uint64_t word = 0;
    size_t got;

    if (kv_file_read(s->lock_fd, &word, sizeof word, offsetof(kv_locks, progress), &got) != KV_OK)
        return 0;
    return word;
}

/* Another one may be rebuilding the index, which takes as long as the store is large: that is no
 * reason to give up while it gets on. */
static int take_turn(kv_db *s, int timeout)
{
    int64_t until = kv_os_monotonic() / 1000000 + timeout;
    uint64_t seen = progress(s), now;
    int e, nap = 1;

    while ((e = kv_file_lock(s->lock_fd, 0, 1, KV_RANGE_ALONE)) == KV_EBUSY) {
        now = progress(s);
        if (now != seen)
            until = kv_os_monotonic() / 1000000 + timeout;
        seen = now;
        if (kv_os_monotonic() / 1000000 >= until)
            return kv_fail(KV_EBUSY, "%s: another process has been opening it for %d ms",
                           kv_dir_path(s->dir), timeout);
        kv_os_sleep(nap);
        nap = nap < 16 ? nap * 2 : nap;
    }
    return e;
}

static void end_turn(kv_db *s)
{
    /* Not by closing: a child forked meanwhile holds the file open. */
    if (s->lock_fd >= 0)
        (void)kv_file_lock(s->lock_fd, 0, 1, KV_RANGE_FREE);
}

/* ---- the page ------------------------------------------------------------------------- */

static int map_page(kv_db *s)
{
    uint64_t size;
    void *p;
    int e = kv_file_size(s->lock_fd, &size);

    if (e == KV_OK && size < KV_PAGE) {
        if (s->readonly)
            return KV_ENOTFOUND;
        e = kv_file_allocate(s->lock_fd, 0, KV_PAGE);
    }
    if (e == KV_OK)
        e = kv_file_map(s->lock_fd, 0, KV_PAGE, !s->readonly || KV_IS_BUG(48), NULL, 0, &p);
    if (e == KV_OK) {
        s->locks = p;
        s->current = &s->locks->current;
        s->generation = kv_load(s->current);
    }
    return e;
}

/* Whether the page's locks are those of this boot and this file. With somebody else there they are
 * of this boot, also when it has no name. */
static int is_current(kv_db *s, int alone)
{
    const kv_locks *l = s->locks;
    uint64_t id[2];
    char boot[40];

    if (kv_load(&l->magic) != MAGIC || l->format != format() ||
        kv_file_stat(s->lock_fd, &id[0], &id[1]) != KV_OK || l->identity[0] != id[0] ||
        l->identity[1] != id[1])
        return 0;
    kv_os_boot_id(boot);
    return !alone || KV_IS_BUG(39) || (boot[0] != 0 && strncmp(boot, l->boot_id, sizeof boot) == 0);
}

/* The number of the index goes on from what is there, so that whoever reads it sees a change. */
static int make_locks(kv_db *s)
{
    kv_locks *l = s->locks;
    int e;

    kv_store(&l->magic, 0);
    e = kv_file_stat(s->lock_fd, &l->identity[0], &l->identity[1]);
    if (e == KV_OK)
        e = kv_lock_init(&l->writer);
    if (e == KV_OK)
        e = kv_lock_init(&l->maint);
    if (e == KV_OK)
        e = kv_lock_init(&l->durable);
    if (e != KV_OK)
        return e;
    l->format = format();
    kv_os_boot_id(l->boot_id);
    kv_store(&l->current, l->current + 1);
    kv_store(&l->magic, MAGIC);
    return KV_OK;
}

/* The kernel hands a lock on by thread ids, which mean nothing in another PID namespace. */
static int same_namespace(kv_db *s, int alone)
{
    uint64_t mine = kv_os_pid_namespace(), theirs = kv_load(&s->locks->pid_ns);

    if (!alone && mine != 0 && theirs != 0 && mine != theirs)
        return kv_fail(KV_EBUSY,
                       "%s is in use in another PID namespace (a container?): locks do not work "
                       "across them",
                       kv_dir_path(s->dir));
    if (alone || theirs == 0)
        kv_store(&s->locks->pid_ns, mine);
    return KV_OK;
}

int kv_share_begin(kv_db *s, int timeout, int *alone)
{
    int how = s->readonly && !KV_IS_BUG(48) ? KV_FILE_READ : KV_FILE_MAKE;
    int e = kv_file_open(s->dir, "lock", how, &s->lock_fd);

    *alone = s->readonly;
    if (e != KV_OK) {
        s->lock_fd = -1;
        return s->readonly && (e == KV_ENOTFOUND || e == KV_EDENIED) ? KV_OK : e;
    }
    if (s->readonly) {
        e = map_page(s);
        return e == KV_ENOTFOUND ? KV_OK : e;
    }
    e = kv_dir_in_memory(s->dir) ? KV_OK : kv_lock_proven();
    if (e == KV_OK && !KV_IS_BUG(41))
        e = take_turn(s, timeout);
    if (e != KV_OK)
        return e;
    *alone = kv_dir_hold(s->dir, KV_RANGE_ALONE) == KV_OK;
    e = kv_dir_hold(s->dir, KV_RANGE_SHARED);
    if (e == KV_OK)
        e = map_page(s);
    if (e == KV_OK && (KV_IS_BUG(36) || !is_current(s, *alone))) {
        e = *alone || KV_IS_BUG(36)
                ? make_locks(s)
                : kv_fail(KV_EBUSY,
                          "%s is in use by a process whose locks are of another kind (another "
                          "version, or `lock` was replaced)",
                          kv_dir_path(s->dir));
        s->generation = kv_load(s->current);
    }
    if (e == KV_OK)
        e = same_namespace(s, *alone);
    if (e != KV_OK)
        end_turn(s);
    KV_PAUSE("attach: turn taken");
    return e;
}

int kv_share_follow(kv_db *s)
{
    uint64_t seen;
    int e = kv_file_open(s->dir, "lock", KV_FILE_WRITE, &s->lock_fd);

    if (e == KV_OK)
        e = kv_dir_hold(s->dir, KV_RANGE_SHARED);
    if (e == KV_OK)
        e = map_page(s);
    if (e != KV_OK)
        return e;
    do {
        seen = kv_load(s->current);
        e = kv_share_attach(s, 0);
    } while (e == 1 && kv_load(s->current) != seen);
    return e;
}

void kv_share_opened(kv_db *s)
{
    if (!s->readonly)
        end_turn(s);
}

/* ---- the index ------------------------------------------------------------------------ */

void kv_share_publish(kv_db *s)
{
    kv_head *h = s->region.head;

    memcpy(h->boot_id, s->locks->boot_id, sizeof h->boot_id);
    h->identity[0] = s->locks->identity[0];
    h->identity[1] = s->locks->identity[1];
    kv_store(&s->locks->current, s->generation);
}

static int same_key(kv_db *s)
{
    const kv_head *h = s->region.head;

    return memcmp(h->boot_id, s->locks->boot_id, sizeof h->boot_id) == 0 &&
           h->identity[0] == s->locks->identity[0] && h->identity[1] == s->locks->identity[1];
}

/* What is read in a millisecond is verified whenever nobody is there to vouch for it, and what a
 * death left in it is swept up. */
static int is_small(kv_db *s)
{
    return kv_region_bytes(&s->region) <= SMALL && kv_log_used(&s->log) <= SMALL;
}

/* Whether the log's records lead to its tail. */
static int log_whole(kv_db *s)
{
    uint64_t tail = kv_load(&s->log.w[KV_LOG_TAIL]);
    kv_walk w;
    kv_rec r;
    int e = kv_walk_open(&w, &s->log, (uint32_t)kv_load(&s->log.w[KV_LOG_OLDEST]), tail, 0);

    if (e != KV_OK)
        return 0;
    while ((e = kv_walk_next(&w, &r)) == 1)
        ;
    e = e == 0 && kv_walk_pos(&w) == tail;
    kv_walk_close(&w);
    return e;
}

static int verified(kv_db *s)
{
    kv_head *h = s->region.head;
    uint64_t tail = kv_load(&s->log.w[KV_LOG_TAIL]);

    if (!is_small(s))
        return 1;
    if ((!kv_load(&h->clean) || h->sum == kv_region_sum(&s->region)) && log_whole(s))
        return 1;
    /* For a reader who does not hold the openers' turn: somebody writes by now. */
    return s->readonly && (!kv_load(&h->clean) || tail != kv_load(&s->log.w[KV_LOG_TAIL]));
}

/* Whether it is what its users left behind. */
static int believed(kv_db *s, int alone)
{
    if (!same_key(s) || !kv_log_sound(&s->log) || (alone && !verified(s)))
        return 0;
    if (s->readonly)
        return kv_load(kv_st(s, KV_ST_CORRUPT)) == 0;
    kv_mend(s);
    /* After a failed sync, too, the store is opened anew. */
    return kv_load(kv_st(s, KV_ST_CORRUPT)) == 0 && kv_load(&s->log.w[KV_LOG_BROKEN]) == 0;
}

/* Who follows to another index counts himself without a turn. */
static void count_users(uint64_t *users, int by)
{
    kv_test_store();
    __atomic_add_fetch(users, (uint64_t)(int64_t)by, __ATOMIC_SEQ_CST);
}

int kv_share_attach(kv_db *s, int alone)
{
    char name[32];
    uint64_t *users;
    int e;

    if (s->locks == NULL || !is_current(s, alone))
        return 1;
    s->generation = kv_load(s->current);
    snprintf(name, sizeof name, "index.%llu", (unsigned long long)s->generation);
    e = kv_region_attach(&s->region, s->dir, name, !s->readonly);
    if (e == KV_ENOTFOUND || e == KV_ECORRUPT)
        return 1;
    if (e == KV_OK)
        e = kv_log_open(&s->log, s->dir, s->region.head->log, s->meta.store_id, !s->readonly);
    if (e != KV_OK)
        return e;
    s->log.pins = s->lock_fd;
    KV_PAUSE("attach: mapped");
    if (!believed(s, alone)) {
        kv_forget_index(s, 0);
        return 1;
    }
    e = kv_log_map(&s->log, MAPPED);
    if (e != KV_OK || s->readonly)
        return e;
    users = kv_st(s, KV_ST_USERS);
    KV_PAUSE("attach: to be counted");
    if (alone)
        kv_attached_alone(s, kv_load(users) != 0 || kv_load(kv_st(s, KV_ST_LOST)) || is_small(s));
    if (alone)
        kv_store(users, 1);
    else
        count_users(users, 1);
    kv_store(&s->region.head->clean, 0);
    return KV_OK;
}

void kv_share_leave(kv_db *s)
{
    kv_head *h = s->region.head;
    uint64_t *users = kv_st(s, KV_ST_USERS);
    int broken = kv_load(&s->log.w[KV_LOG_BROKEN]) != 0;

    if (!broken)
        (void)kv_maintain(s, 1000, 0);
    if (take_turn(s, 0) != KV_OK)
        return; /* counts as a death, which costs whoever is alone next a look around */
    if (kv_load(users) > 0)
        count_users(users, -1);
    KV_PAUSE("leave: counted");
    if (kv_dir_hold(s->dir, KV_RANGE_ALONE) == KV_OK && !kv_superseded(s)) {
        if (!broken && kv_load(&s->log.w[KV_LOG_SYNCED]) != 0 &&
            kv_load(&s->log.w[KV_LOG_SYNCED]) == kv_load(&s->log.w[KV_LOG_TAIL]))
            kv_log_mark(&s->log);
        if (is_small(s))
            kv_store(&h->sum, kv_region_sum(&s->region));
        kv_store(&h->clean, 1);
    }
    (void)kv_dir_hold(s->dir, KV_RANGE_FREE);
    end_turn(s);
}
