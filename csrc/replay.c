/* SPDX-License-Identifier: MIT
 *
 * replay.c - building an index from the log: at open, and privately for check and backup.
 *
 * Invariant: an index is what applying the log's records, oldest first, makes of an empty one. The
 * same kv_index_replay serves here and after a writer's death, so there is one meaning of a record.
 */
#include "store.h"

#include <string.h>

/* Counters that records alone would not bring back: deletes and dropped namespaces used some too.
 */
static void learn(kv_db *s, const kv_seg_head *h)
{
    if (KV_IS_BUG(5))
        return;
    if (h->next_rev > *kv_st(s, KV_ST_REV) + 1)
        kv_store(kv_st(s, KV_ST_REV), h->next_rev - 1);
    if (h->next_ns > *kv_st(s, KV_ST_NEXT_NS))
        kv_store(kv_st(s, KV_ST_NEXT_NS), h->next_ns);
    if (h->time > (int64_t)*kv_st(s, KV_ST_CLOCK))
        kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)h->time);
}

/* What replaying a record will look at is on its way some records before: its bucket, then the
 * record before it or, if there is none, the leaf of the key order. */
#define FAR  16
#define NEAR 4

typedef struct scout {
    uint32_t id, off;            /* where it has come to */
    uint64_t seen, looked, done; /* records of this segment: whose bucket, whose record or leaf is
                                    fetched, and that are replayed */
    struct {
        uint32_t off;
        kv_glimpse key;
        uint64_t hash;
        uint64_t leaf;  /* 0, or what kv_index_leaf said */
        uint64_t freed; /* nodes of the key order, by then */
    } ahead[FAR];
} scout;

static void look_far(kv_db *s, const kv_walk *w, scout *c)
{
    while (c->seen - c->done < FAR) {
        uint64_t i = c->seen % FAR;

        c->ahead[i].off = c->off;
        if (!kv_walk_glimpse(w, &c->off, &c->ahead[i].key))
            break;
        c->ahead[i].hash =
            kv_index_hash(s, c->ahead[i].key.ns, c->ahead[i].key.key, c->ahead[i].key.key_len);
        kv_hash_prefetch(&s->region, c->ahead[i].hash);
        c->seen++;
    }
}

static void look_near(kv_db *s, scout *c)
{
    for (; c->looked < c->seen && c->looked - c->done < NEAR; c->looked++) {
        uint64_t i = c->looked % FAR, slot = kv_hash_glance(&s->region, c->ahead[i].hash);

        c->ahead[i].leaf = 0;
        c->ahead[i].freed = s->region.freed;
        if (slot)
            kv_log_prefetch(&s->log, slot & KV_ADDR_MASK);
        else
            c->ahead[i].leaf =
                kv_index_leaf(s, c->ahead[i].key.ns, c->ahead[i].key.key, c->ahead[i].key.key_len);
    }
}

/* For the record that the walk has returned: the leaf it seems to belong into, or 0. A leaf that is
 * none any more still looks like one, so it counts only if no node was freed since. */
static uint64_t scout_for(kv_db *s, const kv_walk *w, scout *c)
{
    uint32_t off = kv_pos_off(w->at);
    uint64_t i = c->done % FAR;

    if (c->id != w->id || c->done == c->seen || c->ahead[i].off != off) {
        c->id = w->id;
        c->off = off;
        c->seen = c->looked = c->done = 0;
    }
    look_far(s, w, c);
    look_near(s, c);
    if (c->done == c->looked)
        return 0;
    i = c->done++ % FAR;
    return c->ahead[i].freed == s->region.freed ? c->ahead[i].leaf : 0;
}

/* KV_ST_CLOCK ends as the latest time the log knows of. */
int kv_replay(kv_db *s, uint64_t limit, int salvage, int64_t now, kv_walk *w)
{
    uint32_t id = (uint32_t)kv_load(&s->log.w[KV_LOG_OLDEST]), seen = 0;
    uint64_t from = 0, leaf;
    scout c = {0};
    kv_rec r;
    int e = kv_walk_open(w, &s->log, id, limit, salvage), room;

    if (e != KV_OK)
        return e;
    while ((e = kv_walk_next(w, &r)) == 1) {
        if (w->id != seen) {
            KV_PAUSE("replay: next segment");
            from = seen ? from : w->head.linear;
            seen = w->id;
            learn(s, &w->head);
            if (s->watcher != NULL)
                kv_tell(s->watcher, 0, w->head.linear - from, s->watcher->bytes);
            if (s->locks != NULL && !s->readonly)
                kv_store(&s->locks->progress, s->locks->progress + 1);
        }
        leaf = scout_for(s, w, &c);
        room = kv_index_room(s, r.key_len, r.ns);
        if (room == KV_OK)
            room = kv_index_replay(s, &r, w->at, kv_walk_pos(w), now, leaf);
        if (room == KV_OK && kv_hash_maintain(&s->region) < 0)
            room = KV_ECORRUPT;
        if (room != KV_OK)
            return room;
        if (r.updated > (int64_t)*kv_st(s, KV_ST_CLOCK))
            kv_store(kv_st(s, KV_ST_CLOCK), (uint64_t)r.updated);
    }
    if (w->size)
        learn(s, &w->head);
    return e;
}

void kv_shadow_close(kv_db *shadow)
{
    kv_dir *private_dir = shadow->region.dir;

    kv_log_close(&shadow->log);
    if (shadow->region.head != NULL)
        kv_region_close(&shadow->region);
    if (private_dir != NULL)
        kv_dir_close(private_dir);
    if (shadow->mutex != NULL)
        kv_mutex_free(shadow->mutex);
    /* Not by closing: a child forked meanwhile has the descriptor, too. */
    if (shadow->lock_fd >= 0) {
        (void)kv_file_lock(shadow->lock_fd, 0, 0, KV_RANGE_FREE);
        kv_file_close(shadow->lock_fd);
    }
    memset(shadow, 0, sizeof *shadow);
    shadow->lock_fd = -1;
}

int kv_private_region(kv_region *r)
{
    static const kv_dir_options memory = {1, 0600, 0, 0};
    kv_dir *dir;
    int made, e = kv_dir_open(":memory:", &memory, &dir, &made);

    if (e != KV_OK)
        return e;
    e = kv_region_create(r, dir, "index");
    if (e != KV_OK) {
        memset(r, 0, sizeof *r);
        kv_dir_close(dir);
    }
    return e;
}

int kv_shadow_open(kv_db *s, kv_db *shadow, uint64_t *tail)
{
    int e;

    memset(shadow, 0, sizeof *shadow);
    shadow->lock_fd = -1;
    e = kv_private_region(&shadow->region);
    if (e != KV_OK)
        return e;
    shadow->dir = s->dir;
    shadow->current = &shadow->generation;
    shadow->meta = s->meta;
    shadow->mutex = kv_mutex_new();
    e = shadow->mutex ? KV_OK : kv_fail(KV_ENOMEM, "out of memory");
    if (e == KV_OK)
        e = kv_log_open(&shadow->log, s->dir, shadow->region.head->log, s->meta.store_id, 0);
    /* Of its own: locks of one descriptor do not keep each other out. */
    if (e == KV_OK && s->locks != NULL)
        e = kv_file_open(s->dir, "lock", KV_FILE_READ, &shadow->lock_fd);
    shadow->log.pins = shadow->lock_fd;
    KV_PAUSE("pin: to be held");
    if (e == KV_OK)
        e = kv_log_pin(&shadow->log, s->log.w, tail);
    if (e == KV_OK)
        kv_index_init(shadow, s->region.head->hash[KV_HASH_SEED0],
                      s->region.head->hash[KV_HASH_SEED1], 0);
    /* Files of large values that went before the pin, under another index, this one still names. */
    if (e == KV_OK && kv_superseded(s))
        e = KV_EBUSY;
    if (e != KV_OK)
        kv_shadow_close(shadow);
    return e;
}

int kv_shadow_replay(kv_db *shadow, uint64_t tail)
{
    kv_walk w;
    int e;

    memset(&w, 0, sizeof w);
    e = kv_replay(shadow, tail, 0, 0, &w);
    if (e == KV_OK && kv_walk_pos(&w) != tail)
        e = kv_fail(KV_ECORRUPT, "%s: the log is damaged in segment %u at %u",
                    kv_dir_path(shadow->dir), (unsigned)w.id, (unsigned)w.off);
    kv_walk_close(&w);
    return e;
}
