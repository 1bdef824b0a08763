/* SPDX-License-Identifier: MIT
 *
 * log.h - the log: segments, appending, reading, replay, syncing, retirement. Knows records, not
 * the index.
 *
 * A position is segment id << 32 | offset in bytes; a record's address in the index is 40 bits:
 * segment id mod 2^18 << 22 | offset / 4. Segments are files log.<id> of a power of two bytes, 64
 * KiB to 16 MiB, consecutive ids:
 *
 *   [freed, oldest)   retired, their files waiting to become spares
 *   [oldest, clean)   judged by the cleaner, waiting to be retired
 *   [clean, head]     the log; the tail is in the head
 *   (head, spares]    allocated, all zero; the last two are reserves: one for deletes and the
 *                     cleaner, the last for the cleaner alone (kv_log_fit)
 *
 * Publishing the tail is the commit of a write: bytes behind it belong to nobody. A segment's
 * header is written when it becomes the head and names its predecessor's exact end and last
 * checksum, so that replay enters a segment only when it arrived there.
 */
#ifndef KV_LOG_H
#define KV_LOG_H

#include "record.h"

#pragma GCC visibility push(hidden)

#define KV_SEG_MIN  (64u << 10)
#define KV_SEG_MAX  (16u << 20)
#define KV_SEG_HEAD 128u /* bytes before the first record */
#define KV_SEG_MIDDLE                                                                              \
    (256u << 10)                 /* from here on it is worth asking for pages larger than 4 KiB    \
                                  */
#define KV_SEG_LARGE  (2u << 20) /* from here on a segment can lie in large pages */
#define KV_SEG_IDS    (1u << 18)
#define KV_SEG_MAGIC  0x3167657376ull /* "vseg1" */
#define KV_LOG_FORMAT 1u

/* First bytes of a segment. `id` is the word a reader re-checks: it reads as zero once the segment
 * is punched. */
typedef struct kv_seg_head {
    uint64_t id;
    uint64_t magic;
    uint32_t format, salt;
    uint64_t size;
    uint64_t store_id;
    uint64_t prev;     /* position where the predecessor ended; 0: the log begins here */
    uint32_t prev_crc; /* checksum of its last record; 0: it held none */
    uint32_t reserved;
    uint64_t linear;   /* bytes of all segments before this one, since the store began */
    uint64_t next_rev; /* counters that a rebuild could not learn from the records */
    uint64_t next_ns;
    int64_t time;      /* the store's clock, ms */
    uint64_t synced;   /* position known durable when this was written */
    uint32_t crc, pad; /* of all bytes before it */
    uint64_t mark; /* offset synced within this segment, or KV_MARK_ON | its CRC << 32; rewritten
                      now and then, and readable when the rest of the header is damaged */
} kv_seg_head;

#define KV_MARK_ON UINT32_MAX /* all of the segment, and the next one's header */

/* The CRC that belongs to a mark. */
uint32_t kv_mark_crc(uint64_t store_id, uint32_t id, uint32_t off);

/* Shared words (kv_head.log). The first line is stored by every write, the second by the cleaner
 * and by syncs, the third, which every read loads, only when a segment goes. */
enum {
    KV_LOG_TAIL,      /* position behind the last committed record */
    KV_LOG_CLAIM,     /* position up to which bytes behind the tail may be written */
    KV_LOG_LAST,      /* position of the last record; of one before it until a redo is done */
    KV_LOG_SYNCS,     /* how many there were */
    KV_LOG_CLEAN = 8, /* position the cleaner has come to */
    KV_LOG_JUDGED,    /* position the log had when the last fully judged segment was finished */
    KV_LOG_SPARES,    /* id of the last prepared segment */
    KV_LOG_SYNCED,    /* position up to which all is durable */
    KV_LOG_SYNC_FROM, /* id of the first segment with bytes not known durable */
    KV_LOG_NAMED,     /* id up to which the names are durable */
    KV_LOG_BROKEN,    /* 1: a sync failed; no writes until reopened */
    KV_LOG_FREED,     /* id of the first segment whose file is still there; trails OLDEST */
    /* id of the oldest segment; grows before a byte of the one before it is freed */
    KV_LOG_OLDEST = 16,
    KV_LOG_END
};

/* Whoever must be able to read segments that are retired meanwhile holds a shared lock on their
 * ids' range of the file `lock`, from here on: then they are unlinked without being zeroed. */
#define KV_PINS ((uint64_t)1 << 32)
/* The same for files of large values, all of them. */
#define KV_PIN_BLOBS (KV_PINS - 1)

/* What a process knows of a segment, in one place, so that reading a record touches no other line
 * of its segment. */
typedef struct kv_seg_map {
    uint64_t at;   /* address | log2 size of the mapping; 0: not mapped */
    uint64_t seal; /* id << 32 | salt, once a record was found there; else 0. Only good together
                      with a checksum: the two words may be of different times */
} kv_seg_map;

typedef struct kv_log {
    kv_dir *dir;
    uint64_t *w;       /* the shared words */
    kv_seg_map *table; /* by id mod KV_SEG_IDS */
    uint64_t store_id;
    int writable;
    int huge;        /* map with large pages; not where single records are synced */
    int pins;        /* descriptor of the file `lock`, the owner's; -1: nobody pins */
    kv_mutex *mutex; /* guards mapping and `idle` */
    uint64_t
        *idle; /* address | log2 size of mappings whose segments were retired; reused in place */
    uint32_t idles, idle_cap;
    uint32_t low, high; /* entries of the table that were ever set: [low, high) */
    uint32_t pruned;    /* mappings of segments before this id wait for reuse */
    uint64_t known;     /* KV_LOG_SPARES when all up to there was last mapped */
    uint64_t cold;      /* id of the first segment whose pages kv_log_warm is to touch; 0: none */
    uint64_t largest;   /* KV_LOG_SPARES << 32 | size of the largest segment then */
    uint64_t roomy[3];  /* by enum kv_room: head << 32 | KV_LOG_SPARES that were found to hold the
                           reserves; that stays so, as these only shrink */
    int sync_fd;        /* of segment sync_id, kept open; -1 */
    uint32_t sync_id;
    uint64_t random;
} kv_log;

static inline uint64_t kv_pos(uint32_t id, uint32_t off)
{
    return (uint64_t)id << 32 | off;
}
static inline uint32_t kv_pos_id(uint64_t pos)
{
    return (uint32_t)(pos >> 32);
}
static inline uint32_t kv_pos_off(uint64_t pos)
{
    return (uint32_t)pos;
}
static inline uint64_t kv_pos_addr(uint64_t pos)
{
    return (uint64_t)(kv_pos_id(pos) & (KV_SEG_IDS - 1)) << 22 | kv_pos_off(pos) >> 2;
}
/* The position of an address in a log whose oldest segment is `oldest`. */
static inline uint64_t kv_addr_pos(uint64_t addr, uint32_t oldest)
{
    uint32_t id = oldest + (((uint32_t)(addr >> 22) - oldest) & (KV_SEG_IDS - 1));
    return kv_pos(id, (uint32_t)(addr & 0x3fffff) << 2);
}

/* A growable private buffer; owned by whoever holds it. */
typedef struct kv_scratch {
    char *p;
    size_t cap;
} kv_scratch;
int kv_scratch_need(kv_scratch *s,
                    size_t n); /* KV_ENOMEM: unchanged. Contents are lost when it grows */
void kv_scratch_free(kv_scratch *s);

int kv_log_open(kv_log *l, kv_dir *dir, uint64_t *words, uint64_t store_id, int writable);
void kv_log_close(kv_log *l);
/* Whether the words of an index that somebody else made can be those of this log. */
int kv_log_sound(kv_log *l);
/* Maps the newest `max` segments at once, so that a store of the usual size needs no descriptor
 * once it is open. */
int kv_log_map(kv_log *l, uint32_t max);
/* Pins and maps what the log `of` holds by now; l->pins is a descriptor of the file `lock` of its
 * own, or -1. *tail: where `of` ended. Sets the words OLDEST and FREED of l. KV_EBUSY. */
int kv_log_pin(kv_log *l, const uint64_t *of, uint64_t *tail);
/* Maps on up to a later end; the pin holds these as well. */
int kv_log_map_to(kv_log *l, uint64_t tail);
/* Bytes of segment `id` as l has it mapped, its name being gone; 0: it has not. */
uint32_t kv_log_mapped(const kv_log *l, uint32_t id, const char **bytes);
/* Maps what others have prepared since. Before a writer goes on: then it need not under the lock.
 */
int kv_log_follow(kv_log *l);
static inline int kv_log_behind(const kv_log *l)
{
    return kv_load_relaxed(&l->w[KV_LOG_SPARES]) != kv_load_relaxed(&l->known);
}

/* ---- segments; prepare under the lock of room, the others under that of durability ----- */

/* Allocates segment spares + 1, and touches its pages unless that is left to kv_log_warm. KV_EFULL
 * and others: nothing changed. */
int kv_log_prepare(kv_log *l, uint32_t size);
int kv_log_prepare_cold(kv_log *l, uint32_t size);
/* Touches what was left. Needs no lock; one thread at a time, and not beside kv_log_close. */
void kv_log_warm(kv_log *l);
/* Makes everything up to the tail durable. A failure sets KV_LOG_BROKEN for everyone. */
int kv_log_sync(kv_log *l);
/* The same up to pos at least, which is or was the tail. */
int kv_log_sync_past(kv_log *l, uint64_t pos);
/* Notes durably how far the log is durable, when the store is closed in order. */
void kv_log_mark(kv_log *l);
/* Frees segments before `id`, which meta already names as the oldest, durably. The files of the
 * last `keep` of them stay, for kv_log_recycle. */
int kv_log_retire(kv_log *l, uint32_t id, uint32_t keep);
/* Makes a spare of the file of a retired segment, if the next one has that size and nobody reads it
 * privately; with both locks. It is mapped, allocated and in memory: to make another would cost a
 * hundred times as much. 1: did. */
int kv_log_recycle(kv_log *l, uint32_t size);

/* Starts a log whose first segment is `id` (empty tail in it), with one spare behind it; for a new
 * store, or behind a salvaged one. Words are set. Durable on return. */
int kv_log_start(kv_log *l, uint32_t id, uint32_t size, uint64_t next_rev, uint64_t next_ns,
                 int64_t time);

/* ---- appending; under the writer lock ------------------------------------------------- */

typedef struct kv_append {
    uint64_t pos;               /* where the next record goes */
    uint64_t last;              /* position of the last record written */
    uint64_t next_rev, next_ns; /* for a header, when one must be written */
    int64_t time;
} kv_append;

void kv_log_begin(kv_log *l, kv_append *a);
/* Who asks for room. On a full disk a put must leave room for deletes, and a delete for the
 * cleaner, which with one empty segment can always empty the oldest one and so gain another. */
enum kv_room { KV_FOR_PUT, KV_FOR_DELETE, KV_FOR_CLEANER };
/* Whether a record of `size` bytes fits behind a->pos; moves a->pos behind it. */
int kv_log_fit(kv_log *l, kv_append *a, uint32_t size, enum kv_room who);
/* Spare segments that are kept from puts while the head is `head`, each as large as any segment. */
uint32_t kv_log_reserve(kv_log *l, uint32_t head);
/* Whether segment `id` is there, and behind it spares of together `n` times the largest one. */
int kv_log_holds(kv_log *l, uint32_t id, uint32_t n);
uint32_t kv_log_largest(kv_log *l);
/* Writes a record behind the tail, invisible; returns its position. The caller has checked that it
 * fits. */
uint64_t kv_log_append(kv_log *l, kv_append *a, const kv_rec *r);
/* The same for n > 0 records of one segment, byte by byte; copies belong to no batch. */
void kv_log_copy(kv_log *l, kv_append *a, const uint64_t *from, int n, uint64_t *to);
/* Publishes the tail: everything appended since kv_log_begin is committed. */
void kv_log_commit(kv_log *l, kv_append *a);
/* After a writer's death: zeroes what was claimed but not published. Idempotent, may be
 * interrupted. */
int kv_log_recover(kv_log *l);
/* Bytes of log in use: from the cleaner's position to the tail. */
uint64_t kv_log_used(kv_log *l);
/* Bytes of segments that the cleaner has passed and that are not retired yet. Without a lock: wrong
 * once in a while. */
uint64_t kv_log_passed(kv_log *l);
/* Bytes of files: every segment from the first whose file is there to the last spare. */
uint64_t kv_log_bytes(kv_log *l);
uint32_t kv_log_size_of(kv_log *l, uint32_t id); /* 0: not there */

/* ---- reading -------------------------------------------------------------------------- */

#define KV_LOG_GONE 1 /* the segment was retired: whatever led there has changed, look again */

void kv_log_prefetch(kv_log *l, uint64_t addr);
/* Fetches the lines that the next record will be written to. */
void kv_log_prefetch_tail(kv_log *l);
/* The same for as many bytes as will be written behind what others write meanwhile. */
void kv_log_prefetch_room(kv_log *l, uint32_t bytes);
/* Copies the record at an index address into s and decodes it there. Without the lock. KV_OK,
 * KV_LOG_GONE, KV_ECORRUPT, KV_ENOMEM, or why its segment cannot be mapped. */
int kv_log_fetch(kv_log *l, uint64_t addr, kv_scratch *s, kv_rec *out);

/* A segment as this process knows it, to read a record in place. The record is there if its
 * checksum is right, and was there all the time until kv_log_still says so. */
typedef struct kv_log_view {
    const char *base; /* NULL: look with kv_log_fetch */
    uint32_t size, salt, id;
} kv_log_view;

static inline kv_log_view kv_log_look(const kv_log *l, uint64_t addr)
{
    const kv_seg_map *m = &l->table[addr >> 22 & (KV_SEG_IDS - 1)];
    uint64_t at = kv_load(&m->at), seal = kv_load(&m->seal);
    kv_log_view v;

    v.base = (const char *)(uintptr_t)(at & ~(uint64_t)(KV_PAGE - 1));
    v.size = (uint32_t)1 << (at & 31);
    v.salt = (uint32_t)seal;
    v.id = (uint32_t)(seal >> 32);
    return v;
}
static inline int kv_log_still(const kv_log *l, uint32_t id)
{
    kv_fence_acquire();
    return kv_load(&l->w[KV_LOG_OLDEST]) <= id;
}
/* Where a record lies, for whoever asks kv_log_still of its segment after all was read. */
typedef struct kv_log_spot {
    const char *p; /* NULL: take kv_log_fetch */
    uint32_t seed; /* of kv_rec_whole */
    uint32_t id;   /* of the segment */
} kv_log_spot;

/* Where the record of an address lies, and how many bytes from there on to the end of its segment;
 * it is fetched. */
static inline __attribute__((always_inline)) kv_log_spot kv_log_find(const kv_log *l, uint64_t addr,
                                                                     uint32_t *avail)
{
    kv_log_view v = kv_log_look(l, addr);
    uint32_t off = (uint32_t)(addr & 0x3fffff) << 2;
    kv_log_spot at = {NULL, kv_rec_seed(v.salt, off), v.id};

    *avail = v.size - off;
    /* Of no segment v.size is 1. */
    if (kv_unlikely(off < KV_SEG_HEAD || off + KV_REC_MIN > v.size))
        return at;
    at.p = v.base + off;
    kv_prefetch(at.p + 64); /* before its length is known */
    kv_prefetch(at.p + 128);
    return at;
}

/* The plain record of a key, if it is at this address; kv_rec_whole has not been asked. */
static inline __attribute__((always_inline)) kv_log_spot kv_log_spy(const kv_log *l, uint64_t addr,
                                                                    uint32_t ns, const char *key,
                                                                    uint32_t len, kv_rec_plain *out)
{
    uint32_t avail;
    kv_log_spot at = kv_log_find(l, addr, &avail);

    if (kv_likely(at.p != NULL) && kv_unlikely(!kv_rec_look(at.p, avail, ns, key, len, out)))
        at.p = NULL;
    return at;
}
/* Decodes it in place, under the writer lock (nothing that is current is retired then). */
int kv_log_peek(kv_log *l, uint64_t addr, kv_rec *out);
/* The record at position *pos, in place, before `end`; *pos moves behind it and *at is where it
 * was. 1: one is in *out; 0: the end; KV_ECORRUPT. Under the writer lock. */
int kv_log_next(kv_log *l, uint64_t *pos, uint64_t end, uint64_t *at, kv_rec *out);

/* A walk over the files, reading into private memory, so that a disk error is a code and not a
 * signal. */
typedef struct kv_walk {
    kv_log *log;
    uint64_t limit; /* stop before this position; 0: where the log ends */
    int salvage;    /* skip what is damaged instead of ending there */
    uint32_t id, size, off;
    kv_scratch seg, ahead;
    kv_seg_head head;
    uint64_t at; /* position of the record returned */
    uint32_t last_crc;
    uint64_t batch_end; /* records before this position belong to a batch known to be whole */
    uint64_t records, skipped; /* skipped: bytes */
} kv_walk;

int kv_walk_open(kv_walk *w, kv_log *l, uint32_t id, uint64_t limit, int salvage);
/* 1: a record (pointers live until the next call); 0: the end; negative: failure. A batch that is
 * not whole is the end. */
int kv_walk_next(kv_walk *w, kv_rec *out);
void kv_walk_close(kv_walk *w);
/* Whose record seems to lie at *off of the segment the walk is in, which moves behind it: for who
 * wants to fetch what belongs to it. Nothing is verified but bounds. 0: none. */
typedef struct kv_glimpse {
    const char *key;
    uint32_t key_len, ns; /* as in the index */
} kv_glimpse;
int kv_walk_glimpse(const kv_walk *w, uint32_t *off, kv_glimpse *g);
static inline uint64_t kv_walk_pos(const kv_walk *w)
{
    return kv_pos(w->id, w->off);
}

typedef struct kv_tail {
    uint64_t durable;   /* the highest position any header says is durable */
    uint64_t cut;       /* bytes that are not zero behind the end */
    uint32_t last_id;   /* highest segment file there is */
    uint32_t last_head; /* highest with a valid header */
} kv_tail;
/* What lies behind the walk's end. */
int kv_walk_tail(kv_walk *w, kv_tail *t);
/* Before the log is walked: gives up the spares behind it; how many. For an index that on a full
 * disk finds no room otherwise. */
int kv_log_drop_spares(kv_dir *dir, uint32_t oldest);
/* Cuts the log there: removes later segments, newest first, zeroes the rest of the last; sets the
 * words so that appending goes on at the walk's end, with the spares that were there, at most two,
 * behind it. Durable on return.
 */
int kv_log_cut(kv_log *l, kv_walk *w, const kv_tail *t);

int kv_log_parse_name(const char *name, uint32_t *id);

#pragma GCC visibility pop
#endif
