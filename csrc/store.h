/* SPDX-License-Identifier: MIT
 *
 * store.h - what the files of the store layer share: open.c, attach.c, rebuild.c, replay.c,
 * apply.c, read.c, list.c, cursor.c, write.c, names.c, batch.c, clean.c, check.c, maint.c.
 *
 * One kv_db per directory and process, shared by its handles (kv). Writes: take the writer lock,
 * look, check room, append to the log, publish the tail (the commit), apply to the index in one
 * journaled transaction per record, unlock. Whatever allocates, opens, syncs or frees files happens
 * under the maintenance lock instead, never under the writer lock.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "blob.h"
#include "hash.h"
#include "log.h"
#include "meta.h"
#include "order.h"
#include "wheel.h"

#pragma GCC visibility push(hidden)

/* Words of kv_head.store. The first line is stored by every write, the others rarely. */
enum {
    KV_ST_REV,     /* last revision */
    KV_ST_APPLIED, /* position up to which the log is in the index */
    KV_ST_LIVE,    /* log bytes of current records */
    KV_ST_DATA,    /* bytes of keys, values and metadata */
    KV_ST_KEYS,
    KV_ST_CLOCK = 8, /* ms: the running clock was here */
    KV_ST_BACK,      /* ms: the largest backward step accepted */
    KV_ST_EXPIRED,
    KV_ST_CLEANED,
    KV_ST_NEXT_NS = 16, /* next namespace id */
    KV_ST_NAMESPACES,
    KV_ST_CORRUPT,  /* 1: the index made no sense to recovery; it must be rebuilt */
    KV_ST_MAX_SIZE, /* as `meta` says */
    KV_ST_MAX_VALUE,
    KV_ST_SYNCED_AT,  /* ms of the monotonic clock: the last sync by interval, of whichever process
                       */
    KV_ST_USERS,      /* processes that attached and have not left; the dead stay counted */
    KV_ST_LOST,       /* 1: there are blob files that nobody will unlink */
    KV_ST_SYNCED_REV, /* the last revision by when a writer's sync began; for kv_sync_to */
    KV_ST_PEAK,       /* ms: where the clock was before a backward step, at its furthest */
    KV_ST_WORDS
};
KV_STATIC_ASSERT(KV_ST_WORDS <= KV_STORE_WORDS && KV_LOG_END <= KV_LOG_WORDS, words);

/* Words of kv_head.blobs: blob files that nothing current refers to, unlinked once what superseded
 * them is durable. A queue: the writer lock's owner adds, that of durability removes. */
#define KV_DEAD_BLOBS 256
/* Records at most that are taken out between two looks at whether there is room for more. */
#define KV_CLEAN_AT_ONCE 16
enum { KV_BLOBS_ADDED, KV_BLOBS_REMOVED, KV_BLOBS_QUEUE = 8 }; /* then pairs of id and position */

/* A namespace has two nodes in KV_NAMES, so that the line every lookup loads is not the one that
 * writes change. */
enum { KV_NAME_UNUSED = 0, KV_NAME_LIVE = 1, KV_NAME_DROPPED = 2 };
/* Node 2 * id: its state; 1: a key of it has or had an expiration or metadata, so that names cannot
 * be listed without looking at records. */
enum { KV_NAME_STATE = 0, KV_NAME_DETAILS = 1 };
enum { KV_NAME_KEYS = 0, KV_NAME_BYTES = 1, KV_NAME_LOG = 2 }; /* node 2 * id + 1 */
#define KV_MAX_NAMES 0x3fffffffu

/* The file `lock`; its layout never changes. The first byte of the file is locked by whoever opens
 * the store, while it does; KV_PINS and up are segments pinned. */
typedef struct kv_locks {
    uint64_t magic;
    uint64_t format; /* of what follows, the C library's mutexes included */
    char boot_id[40];
    uint64_t identity[2]; /* of this file, so that a copy is told from it */
    uint64_t pid_ns;      /* of those who use it; 0: unknown */
    uint64_t current;     /* number of the index that counts; only grows */
    uint64_t progress;    /* grows while somebody opens and others wait */
    uint64_t reserved[4];
    kv_lock writer;
    kv_lock maint;
    kv_lock durable; /* may be taken under `maint`, never the other way round */
} kv_locks;

/* Whom to tell how far a call is that reads the whole log (of `bytes`) in two passes. */
typedef struct kv_watcher {
    kv_progress f; /* NULL: nobody */
    void *arg;
    uint64_t bytes;
} kv_watcher;

/* Pass 0 or 1 has done `part` of `whole`. */
static inline void kv_tell(const kv_watcher *w, int pass, uint64_t part, uint64_t whole)
{
    double share = whole > part ? (double)part / (double)whole : 1;

    if (w != NULL && w->f != NULL)
        w->f(w->arg, (uint64_t)((pass + share) * (double)w->bytes), 2 * w->bytes);
}

typedef struct kv_db {
    struct kv_db *next; /* registry of this process */
    uint64_t identity[2];
    int refs;
    kv_dir *dir;
    int lock_fd;
    kv_locks *locks;         /* NULL: a readonly store without the file */
    const uint64_t *current; /* locks->current, or an own word */
    uint64_t generation;     /* the value of *current that this kv_db belongs to */
    kv_region region;
    kv_log log;
    kv_meta meta; /* store_id and cursor_key count; the rest is as it was at open */
    int readonly;
    int apart;    /* readonly, with a private index of its own */
    int interval; /* ms */
    kv_guard guard;
    kv_mutex *mutex; /* starting the helper */
    kv_thread *thread;
    uint64_t unclean; /* bytes appended since the cleaner had its share; under the writer lock */
    uint64_t page;    /* of the log's tail when a write last looked at what runs low */
    uint64_t timers_swept; /* in this round of the sweep of the wheel; under the writer lock, as */
    uint64_t timers_kept;  /* timers after a round that found few, else 0 */
    int fetched_buckets;   /* of the next timers that are due, so many have been fetched: a hint; */
    int fetched_records;   /* under the writer lock, too */
    uint32_t fresh; /* of the last writes, how many made a key, 0 to 3; a guess without the lock */
    uint64_t wants_sync; /* 1: some handle syncs by interval */
    int crowd;       /* > 0: lately others synced as well; under the lock of durability, as is */
    int64_t sync_ns; /* how long the last sync took */
    uint64_t retried, replayed, cut_bytes;
    char report[320];
    const kv_watcher *watcher; /* of a shadow; else NULL */
} kv_db;

/* Keys that a handle has a guess for where their record is. */
#define KV_GUESSES 4096

struct kv {
    kv_db *s;
    int sync;
    int timeout;
    int thread;
    int readonly;
    kv_ns *spaces; /* open ones */
    kv_db **past;  /* what it has moved away from: streams still use files of theirs */
    size_t pasts;
    kv_scratch scratch;
    char report[320];
    kv_watcher watcher;
    /* Addresses at which reads found records, by the low bits of the key's hash; the high half of
     * the last one stands for those of all. Nothing relies on them: see by_guess in read.c. */
    uint64_t guess_high;
    uint32_t guess[KV_GUESSES];
};

struct kv_ns {
    kv *h;
    kv_ns *next, **link; /* among the handle's */
    uint64_t seed0, seed1;
    const uint64_t *state; /* of namespace id; never unmapped while the store is open */
    uint32_t id;           /* 0: not there when last looked */
    /* What kv_peek showed (p NULL: it lies in scratch), of how many bytes a record, and of how many
     * bytes the last value was. */
    kv_log_spot peeked;
    uint32_t peeked_size, peeked_len;
    uint32_t name_len;
    char name[KV_MAX_NAME + 1];
    kv_scratch scratch; /* the record handed out */
    kv_scratch blob;    /* its large value */
};

static inline uint64_t *kv_st(kv_db *s, int word)
{
    return &s->region.head->store[word];
}

static inline uint64_t kv_max_value(kv_db *s)
{
    uint64_t max = kv_load_relaxed(kv_st(s, KV_ST_MAX_VALUE));

    return max ? max : KV_MAX_VALUE;
}

/* Another index has taken the place of this one: the handle must move over. Two loads. */
static inline int kv_superseded(const kv_db *s)
{
    return kv_unlikely(kv_load(s->current) != s->generation);
}

/* ---- open.c --------------------------------------------------------------------------- */

/* Every call begins here: it may replace h->s, and does so in a forked child (KV_EBUSY for a store
 * in memory). */
static inline int kv_enter(kv *h);
static inline int kv_fresh(const kv *h); /* kv_enter would do nothing */
int kv_reenter(kv *h);
/* kv_open for a new store that begins with these counters; a backup. */
int kv_open_new(const char *path, const kv_options *o, uint64_t next_rev, uint64_t next_ns,
                kv **out);

/* ---- attach.c: the file `lock`, and the index that counts ------------------------------ */

/* Opens `lock` and keeps other openers out until kv_share_opened. *alone: no other process uses the
 * store. */
int kv_share_begin(kv_db *s, int timeout, int *alone);
void kv_share_opened(kv_db *s);
/* For a process that uses the store already: opens `lock` and attaches to the index that counts,
 * without waiting for a turn, since somebody may have been stopped in his. It is not alone, and the
 * page is as it should be. 1: there is no index that can be used, so that it takes a turn. */
int kv_share_follow(kv_db *s);
/* Attaches to the index that counts. 1: there is none that can be used, negative: failure. */
int kv_share_attach(kv_db *s, int alone);
/* The index this process has built counts from now on, and others move over to it. */
void kv_share_publish(kv_db *s);
/* At the last close in this process: notes in the index whether nobody else uses it. */
void kv_share_leave(kv_db *s);

/* ---- rebuild.c: a new store, and an index from the log ---------------------------------- */

int kv_create(kv_db *s, const kv_options *o, uint64_t next_rev, uint64_t next_ns);
/* alone: nobody else uses the store, so that large values nothing refers to may go. */
int kv_rebuild(kv_db *s, const kv_options *o, int alone);
void kv_forget_index(kv_db *s, int unlink);
/* After attaching where nobody else is: the clock; swept: what a death left goes. */
void kv_attached_alone(kv_db *s, int swept);
/* Grows the index until one more key fits; outside any lock others wait for. */
int kv_index_room(kv_db *s, uint32_t key_len, uint32_t ns);

/* ---- replay.c: a private index of a store's log, for opening, check and backup ----------- */

/* Replays the log of `s` (its words OLDEST and store id set, its index empty) from the oldest
 * segment up to `limit` (0: its end); walk stays open for the caller to close, also on failure. */
int kv_replay(kv_db *s, uint64_t limit, int salvage, int64_t now, kv_walk *walk);
/* One moment of a live store: a kv_db over its log as it is by now, up to *tail, held until it is
 * closed whatever others do; its private index is empty until the replay. No record counts as
 * expired. KV_EBUSY: also when s is superseded. */
int kv_shadow_open(kv_db *s, kv_db *shadow, uint64_t *tail);
int kv_shadow_replay(kv_db *shadow, uint64_t tail);
void kv_shadow_close(kv_db *shadow);
/* An index image in private memory, in a directory of its own (r->dir). */
int kv_private_region(kv_region *r);

/* ---- apply.c: the index follows the log ----------------------------------------------- */

/* What the index knows of a key, under the writer lock. */
typedef struct kv_found {
    int there; /* a record is in the index, perhaps expired */
    int live;  /* and not expired */
    uint64_t hash;
    uint64_t addr;
    uint64_t near; /* 0, or what kv_order_near said */
    kv_hash_scan scan;
    kv_rec rec; /* in place */
} kv_found;

uint64_t kv_index_hash(kv_db *s, uint32_t ns, const char *key, uint32_t len);
/* Finds (ns, key). KV_OK also when it is not there; KV_ECORRUPT. */
int kv_index_find(kv_db *s, uint32_t ns, const char *key, uint32_t len, int64_t now, kv_found *f);
/* Where the last writes brought new keys: fetches what adding one will look at. What it returns is
 * for f->near, after kv_index_find. */
uint64_t kv_index_fetch(kv_db *s, uint32_t ns, const char *key, uint32_t len, uint64_t hash);
/* The leaf the key would be in, fetched, for f->near; 0: not known. */
uint64_t kv_index_leaf(kv_db *s, uint32_t ns, const char *key, uint32_t len);
/* The timer a new record for the key must name, given what is there. */
void kv_index_arm(kv_db *s, const kv_found *f, kv_rec *r);
/* Applies the record at `pos` (its end: `next`) in one transaction. f is what kv_index_find said
 * for its key. */
int kv_index_apply(kv_db *s, kv_found *f, const kv_rec *r, uint64_t pos, uint64_t next);
/* The same after looking the key up; replay and redo. leaf: what kv_index_leaf said, or 0. */
int kv_index_replay(kv_db *s, const kv_rec *r, uint64_t pos, uint64_t next, int64_t now,
                    uint64_t leaf);
/* Takes an expired or dropped record out of the index; in a transaction that the caller began and
 * ends. */
int kv_index_forget(kv_db *s, kv_found *f);
/* The same for several, with one change where they are neighbours in the key order: of n of
 * different keys, k[i] what kv_index_near said of f[i], as many from the first on as lie beside it.
 * How many, at least 1, or negative. f->near of the first may be 0, and becomes the leaf they were
 * in, as it is now, or 0. */
int kv_index_forget_run(kv_db *s, kv_found *f, const kv_probe *k, int n);
/* Sets f->near and the key for a record that is to be forgotten, and fetches what that needs;
 * guess: of a record before it, or 0. */
void kv_index_near(kv_db *s, kv_found *f, kv_probe *k, uint64_t guess);
/* The cleaner moved n records, c[i] to pos[i]: swings their slots in one transaction. */
void kv_index_move(kv_db *s, kv_hash_scan *c, const uint64_t *pos, int n, uint64_t next);
uint32_t kv_ns_state(kv_db *s, uint32_t ns);
const uint64_t *kv_ns_state_word(kv_db *s, uint32_t ns);    /* at KV_NAME_STATE; NULL: damage */
uint64_t *kv_ns_words(kv_db *s, uint32_t ns, kv_place *at); /* counters; NULL: damage */
void kv_index_init(kv_db *s, uint64_t seed0, uint64_t seed1, int64_t now);

/* Bits of what must be made before a write can go on. */
enum { KV_NEED_LOG = 1 << 8, KV_NEED_RESERVE = 1 << 9, KV_NEED_QUEUE = 1 << 10 };
/* Nodes for `writes` more keys whose keys have `bytes` bytes in all and for a delete after them, or
 * (writes 0) for taking entries out: 0, or a mask of 1 << space. */
uint32_t kv_index_needs(kv_db *s, uint64_t writes, uint64_t bytes);
/* The same for one more key, in a few loads where there is plenty. */
static inline uint32_t kv_index_short(kv_db *s)
{
    kv_region *r = &s->region;

    if (kv_likely(kv_region_room(r, KV_NODES) >= 96 && kv_region_room(r, KV_OVERFLOW) >= 4 &&
                  kv_region_room(r, KV_TIMERS) >= 8 &&
                  kv_load_relaxed(&r->limit[KV_NAMES]) >=
                      2 * kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS)) + 2))
        return 0;
    return kv_index_needs(s, 1, KV_MAX_KEY);
}
/* How many files of large values wait for being unlinked, and whether `more` would be too many to
 * note: 0 or KV_NEED_QUEUE. */
static inline uint64_t kv_blobs_dead(kv_db *s)
{
    const uint64_t *w = s->region.head->blobs;

    return kv_load(&w[KV_BLOBS_ADDED]) - kv_load(&w[KV_BLOBS_REMOVED]);
}
static inline uint32_t kv_blobs_short(kv_db *s, uint64_t more)
{
    return kv_unlikely(kv_blobs_dead(s) + more > KV_DEAD_BLOBS) ? KV_NEED_QUEUE : 0;
}
/* For taking entries out and for firing timers, some at a time: less than a key asks for, so that
 * where the disk has no room for more keys these still go on. */
static inline uint32_t kv_index_short_to_clean(kv_db *s)
{
    return (kv_likely(kv_index_short(s) == 0)
                ? 0
                : kv_index_needs(s, 0, 0) & (1u << KV_NODES | 1u << KV_TIMERS)) |
           kv_blobs_short(s, KV_CLEAN_AT_ONCE);
}
/* Keys of the order begin with their namespace's id, big-endian, so that each has a range. */
static inline size_t kv_order_put_ns(uint32_t ns, unsigned char *out)
{
    out[0] = (unsigned char)(ns >> 24);
    out[1] = (unsigned char)(ns >> 16);
    out[2] = (unsigned char)(ns >> 8);
    out[3] = (unsigned char)ns;
    return 4;
}
static inline uint32_t kv_order_ns(const unsigned char *key)
{
    return (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 | key[3];
}

/* Takes the writer lock, recovering from a dead owner or an unfinished transaction. It may replace
 * h->s, and what its namespaces know. */
int kv_lock_writer(kv *h);
void kv_unlock_writer(kv *h);
/* Recovers when a dead writer left something half done, as nobody may come to take the lock. */
void kv_mend(kv_db *s);
/* The writer lock for who has no handle, recovering if need be. 0: not to be had, or this process
 * is to follow what another one has made first. */
int kv_lock_index(kv_db *s, int64_t timeout);
void kv_unlock_index(kv_db *s);
/* Undo, zero what was claimed, redo. Harmless on a consistent store. */
int kv_recover(kv_db *s);

/* ---- clean.c: expiry and cleaning; bounded steps under the writer lock ---------------- */

/* Takes out all that is over at `until`; while nobody else has the store, for it is not bounded. */
int kv_expire_until(kv_db *s, int64_t until);
/* What a write does beside itself: due timers, a bucket split, and cleaning in proportion to the
 * `bytes` it appended. */
void kv_chores(kv_db *s, uint32_t bytes, int64_t now);
/* Up to max items expired or cleaned, in short holds of the lock. all: cleans everything before the
 * head, needed or not. */
int kv_tick_steps(kv *h, uint64_t max, int all, uint64_t *done);
uint64_t kv_log_goal(kv_db *s); /* bytes of log above which writers clean */
/* Whether the helper thread should clean, for space or (small), while nobody writes, to have what
 * lies in small segments in large ones; and its share of that: up to `groups` short holds of the
 * writer lock. 1: there is more to do. */
int kv_clean_due(kv_db *s);
int kv_clean_small(kv_db *s);
int kv_clean_ahead(kv_db *s, int groups, int small);
/* Takes the large values of a dropped namespace out, in short holds of the lock: the cleaner, which
 * takes out the rest, may never get to them in a log that hardly grows. */
int kv_clean_dropped(kv *h, uint32_t ns);
/* Notes r's blob, if it has one, which nothing current refers to. Under the writer lock. */
void kv_blob_dead(kv_db *s, const kv_rec *r, uint64_t after);

/* ---- maint.c: whatever allocates, syncs or frees -------------------------------------- */

/* Makes what `need` asks for: nodes for that many keys, a segment that holds a record of `bytes`.
 * Not under the writer lock. */
int kv_make_room(kv *h, uint32_t need, uint64_t writes, uint64_t bytes);
/* Cleans and frees what nobody needs, on a full disk. 0: that was nothing. */
int kv_reclaim(kv *h);
/* After a write: wakes (and starts) the helper when something runs low or must be synced. */
void kv_after_write(kv *h);
/* After a write that may have put a large value's file into the queue: sees to it that there is
 * room for the next one. */
void kv_after_large(kv *h);
/* Starts the helper of this process, if it does not run. */
void kv_helper_start(kv_db *s);
/* Durable up to `pos`; waits for whoever syncs, and does not sync again what is covered. */
int kv_sync_to(kv *h, uint64_t pos);
/* The lock of syncs, retirement and meta: who has it keeps every segment that is there. KV_MOVED: s
 * is superseded, and the lock not taken. */
#define KV_MOVED 2
int kv_lock_durable(kv_db *s, int64_t timeout);
void kv_unlock_durable(kv_db *s);
/* One round of the helper's work: grows what runs low, syncs if asked, retires what was cleaned. */
int kv_maintain(kv_db *s, int64_t timeout, int sync);
void kv_helper_stop(kv_db *s);
uint32_t kv_segment_size(kv_db *s); /* of the next segment */
uint32_t kv_blob_limit(kv_db *s);   /* values above this go to a blob file */

/* ---- read.c --------------------------------------------------------------------------- */

int kv_check_key(const char *key, size_t len); /* KV_EINVAL, KV_ETOOBIG */
/* The clock that expiry goes by. */
int64_t kv_store_now(kv_db *s);
/* Moves the running clock; a backward step is noted. With the writer lock. */
void kv_set_clock(kv_db *s, int64_t now);
/* Copies the current record of (ns, key) into scratch. KV_OK, KV_ENOTFOUND, ...; *addr may be NULL.
 */
int kv_read(kv_db *s, uint32_t ns, uint64_t hash, const char *key, uint32_t len,
            kv_scratch *scratch, kv_rec *out, uint64_t *addr);
/* The namespace's id if it lives; looks the name up again when it was dropped or not there. 0: it
 * is not there. Negative: failure. It may replace h->s. */
int64_t kv_ns_resolve(kv_ns *ns);
/* Fills a public record from a log record, reading a large value into *blob. */
int kv_record_fill(kv_db *s, const kv_rec *r, kv_scratch *blob, kv_record *out);
/* The key's record in ns's scratch, if it is there and not expired: KV_OK, KV_ENOTFOUND, ... */
int kv_current(kv_ns *ns, const char *key, size_t len, kv_rec *r);
/* The id of a large value's file and the bytes of the value. */
int kv_reference(kv_db *s, const kv_rec *r, uint64_t ref[2]);
/* The value types and their bytes. */
uint32_t kv_value_bytes(const kv_value *v, char buf[8], const char **bytes);
int kv_value_read(const kv_rec *r, kv_value *v);

/* Whether what was read in place in segment `id` was there until now. In an index that has been
 * replaced nobody notes what has gone since. */
static inline int kv_still(const kv_db *s, uint32_t id)
{
    return kv_log_still(&s->log, id) && !kv_superseded(s);
}
/* A read has failed: whether it is to begin again, because that was in an index that has been
 * replaced meanwhile. *e: why it cannot, else. */
static inline int kv_again(kv *h, int *e)
{
    if (kv_likely(*e >= 0 || *e == KV_ENOTFOUND) || !kv_superseded(h->s))
        return 0;
    *e = kv_reenter(h);
    return *e == KV_OK;
}

/* ---- cursor.c ------------------------------------------------------------------------- */

/* SipHash-1-3 of (first, bytes): the MAC of cursors. */
uint64_t kv_siphash(uint64_t seed0, uint64_t seed1, uint32_t first, const void *bytes, size_t len);

/* Large values' buffers are not kept from call to call. */
static inline void kv_scratch_shrink(kv_scratch *s)
{
    if (kv_unlikely(s->cap > (1u << 20)))
        kv_scratch_free(s);
}
/* Whether reads may show it. */
static inline int kv_rec_live(kv_db *s, const kv_rec *r)
{
    return r->expires == 0 || r->expires > kv_store_now(s) || KV_IS_BUG(15);
}

static inline int kv_fresh(const kv *h)
{
    return kv_likely(!kv_guard_forked(&h->s->guard) && !kv_superseded(h->s));
}

static inline int kv_enter(kv *h)
{
    int e = kv_fresh(h) ? KV_OK : kv_reenter(h);

    KV_PAUSE("call: entered");
    return e;
}

#pragma GCC visibility pop
#endif
