/* SPDX-License-Identifier: MIT
 *
 * region.h - the index image: node spaces in one shared mapping, and journaled stores.
 *
 * The image is a file (in a kv_dir) of a header and several spaces; a space is a growing array of
 * fixed-size nodes, addressed by a 32-bit id. A space consists of levels: level 0 holds FIRST
 * nodes, level l >= 1 as many as all before it. Each level gets a place in the file when
 * it is first wanted, and each process maps a level when it first needs it: no pointer is stored,
 * nothing moves, nothing is unmapped while the region is open. Only nodes below `ready` are
 * backed by allocated space; kv_region_grow raises it outside the writer lock.
 *
 * A change to a shared word of a linked node is journaled: its place and old value are noted before
 * it is changed, so that recovery can undo a transaction whose writer died. Nodes that no reader
 * can reach yet are written plainly. A transaction may name one visible word, stored last: once it
 * holds its new value the transaction counts as done.
 */
#ifndef KV_REGION_H
#define KV_REGION_H

#include "os.h"

#pragma GCC visibility push(hidden)

enum kv_space {
    KV_BUCKETS,  /* 64 B: lookup buckets, addressed by linear hashing */
    KV_OVERFLOW, /* 64 B: their overflow buckets */
    KV_NODES,    /* 1 KiB: nodes of the order tree */
    KV_TIMERS,   /* 64 B: chunks of the timing wheel's lists */
    KV_NAMES,    /* 64 B: one per namespace id: state and counters */
    KV_SPACES
};

#define KV_LEVELS 32

/* Words of the header that the modules own; each group starts a cache line. */
#define KV_HASH_WORDS  16
#define KV_ORDER_WORDS 8
#define KV_WHEEL_WORDS (16 + 8 * 64)
#define KV_LOG_WORDS   24
#define KV_STORE_WORDS 32
#define KV_BLOBS_WORDS (8 + 2 * 256)

#define KV_JOURNAL_MAX 1000

typedef struct kv_journal_entry {
    uint64_t addr; /* kv_place address of the word; bit 0: only the low half is restored and the
                      high half, a version, grows */
    uint64_t old;
} kv_journal_entry;

typedef struct kv_head {
    uint64_t magic;
    uint64_t format;      /* hashes sizes and layout of everything here */
    uint64_t clean;       /* 1: nobody uses it; `sum` holds */
    uint64_t identity[2]; /* of the file `lock` beside it, and the boot it was built under */
    char boot_id[40];
    uint64_t end;    /* where the next level gets its place in the file */
    uint64_t sum;    /* kv_region_sum when nobody used it any more */
    uint64_t grown;  /* grows with each kv_region_grow: others must map what is new */
    uint64_t undone; /* grows with each undo that took something back, when it is all back */
    uint64_t reserved[2];
    /* line */
    uint64_t hash[KV_HASH_WORDS];
    uint64_t order[KV_ORDER_WORDS];
    uint64_t log[KV_LOG_WORDS];
    uint64_t store[KV_STORE_WORDS];
    uint64_t used[8];  /* nodes handed out, by space; journaled */
    uint64_t ready[8]; /* nodes backed by space; only grows, outside transactions; not on a line
                          that puts store */
    uint64_t place[8][KV_LEVELS]; /* of each level in the file; 0: none yet, and level 0 */
    uint64_t blobs[KV_BLOBS_WORDS];
    uint64_t wheel[KV_WHEEL_WORDS];
    struct {
        uint64_t count;
        uint64_t visible_addr; /* 0: none noted */
        uint64_t visible_new;
        uint64_t reserved[5];
        kv_journal_entry entry[KV_JOURNAL_MAX];
    } journal;
} kv_head;

typedef struct kv_region {
    kv_head *head;
    void *level[KV_SPACES][KV_LEVELS]; /* NULL: not mapped yet; set once */
    /* Where node 0 would be if the level's nodes went back that far, by the number of the top bit
     * of its last id; set once, before `level`. */
    uint64_t origin[KV_SPACES][KV_LEVELS];
    uint64_t
        limit[KV_SPACES]; /* nodes this process has mapped and knows to be backed; trails `ready` */
    uint64_t grown;       /* head->grown when all that was ready was last mapped */
    uint64_t freed;       /* nodes of the key order that this process has freed; its writer's */
    kv_dir *dir;
    int fd;
    int writable;
    kv_mutex *mutex; /* guards mapping of levels and growth in this process */
    char name[32];
} kv_region;

/* A node with its address, what the journaled stores need. */
typedef struct kv_place {
    char *ptr;
    uint64_t addr; /* space and id, see kv_region_addr */
} kv_place;

/* Makes a new image file `name` (must not exist) with every space at `ready` = its first level (or
 * less), everything else zero. */
int kv_region_create(kv_region *r, kv_dir *dir, const char *name);
/* Maps an existing one; KV_ECORRUPT when magic, format or sizes do not fit. */
int kv_region_attach(kv_region *r, kv_dir *dir, const char *name, int writable);
void kv_region_close(kv_region *r);
/* Backs at least `more` nodes beyond `used` (rounded up to at least an eighth of what there is).
 * Not under the writer lock; one process at a time (the caller's maintenance lock). KV_EFULL,
 * KV_EIO: unchanged. */
int kv_region_grow(kv_region *r, int space, uint64_t more);
uint64_t kv_region_bytes(const kv_region *r); /* backed by space */
/* Maps everything that has become ready. Before a writer goes on: then nothing under the lock needs
 * the system. */
int kv_region_follow(kv_region *r);
static inline int kv_region_behind(const kv_region *r)
{
    return kv_load_relaxed(&r->head->grown) != kv_load_relaxed(&r->grown);
}
/* Makes room in a private image for a copy of another; then copies it, without the system: 1. 0: it
 * has grown meanwhile. */
int kv_region_copy_room(kv_region *to, kv_region *from);
int kv_region_copy(kv_region *to, kv_region *from);
/* A checksum of an image that nobody changes, the words at its beginning left out. */
uint64_t kv_region_sum(kv_region *r);

/* Sizes of a node and of level 0 (a page, except for nodes: two) of each space. */
#define KV_BUCKETS_SIZE   64u
#define KV_BUCKETS_FIRST  64u
#define KV_OVERFLOW_SIZE  64u
#define KV_OVERFLOW_FIRST 64u
#define KV_NODES_SIZE     1024u
#define KV_NODES_FIRST    8u
#define KV_TIMERS_SIZE    64u
#define KV_TIMERS_FIRST   64u
#define KV_NAMES_SIZE     64u
#define KV_NAMES_FIRST    64u
/* Maps what has become ready since; 1 when id is now below the limit. Thread-safe. */
KV_NOINLINE int kv_region_reach(kv_region *r, int space, uint32_t id);

static inline uint64_t kv_region_addr(int space, uint32_t id)
{
    return (uint64_t)(space + 1) << 48 | (uint64_t)id << 16;
}
#define KV_HEAD_ADDR ((uint64_t)0xff << 48)

static inline kv_place kv_head_place(kv_region *r)
{
    kv_place p;
    p.ptr = (char *)r->head;
    p.addr = KV_HEAD_ADDR;
    return p;
}
kv_place kv_region_place(kv_region *r, int space, uint32_t id); /* ptr NULL as kv_region_node */

/* Nodes that may be taken without growing, of those this process has mapped. */
static inline uint64_t kv_region_room(const kv_region *r, int space)
{
    uint64_t limit = kv_load_relaxed(&r->limit[space]);
    uint64_t used = kv_load_relaxed(&r->head->used[space]);

    return kv_likely(limit > used) ? limit - used : 0;
}
/* Takes the next fresh node (journaled). The caller has checked kv_region_room. Its bytes are zero
 * or garbage of an undone transaction. */
uint32_t kv_region_take(kv_region *r, int space);

/* ---- journaled stores; under the writer lock only ------------------------------------- */

static inline void kv_txn_begin(kv_region *r);
/* Changes a word of a linked node or of the header (word lies within 64 KiB of at.ptr; 32 KiB for
 * the header). */
static inline void kv_txn_set(kv_region *r, kv_place at, uint64_t *word, uint64_t value);
/* The same for a word whose high half is a version: undo restores the low half and makes the
 * version grow. */
static inline void kv_txn_set_low(kv_region *r, kv_place at, uint64_t *word, uint64_t value);
/* The transaction's last store. */
static inline void kv_txn_visible(kv_region *r, kv_place at, uint64_t *word, uint64_t value);
static inline void kv_txn_visible_low(kv_region *r, kv_place at, uint64_t *word, uint64_t value);
static inline void kv_txn_end(kv_region *r);
/* Undoes an unfinished transaction unless its visible word is stored. Idempotent, may itself be
 * interrupted at any store. KV_ECORRUPT: the journal makes no sense (rebuild). *undone (may be
 * NULL): 1 when something was undone. */
int kv_txn_undo(kv_region *r, int *undone);

/* ---- inline --------------------------------------------------------------------------- */

static inline uint32_t kv_top_bit(uint32_t n) /* its number; n > 0 */
{
    return 31 ^ (uint32_t)__builtin_clz(n);
}
static inline int kv_level_of(uint32_t id, uint32_t first)
{
    /* first > 1 is a compile-time power of two wherever it matters */
    return (int)kv_top_bit(id | (first - 1)) - (int)kv_top_bit(first) + 1;
}

/* The address of a node below r->limit. */
static inline void *kv_region_at(kv_region *r, int space, uint32_t id, uint32_t first,
                                 uint32_t size)
{
    return (void *)(uintptr_t)(kv_load(&r->origin[space][kv_top_bit(id | (first - 1))]) +
                               (uint64_t)id * size);
}

/* The node's address in this process; NULL when id is out of bounds (damage) or cannot be mapped.
 * Inline because every lookup takes it; `first` and `size` are the space's, as constants. */
static inline void *kv_region_node(kv_region *r, int space, uint32_t id, uint32_t first,
                                   uint32_t size)
{
    if (kv_unlikely(id >= kv_load(&r->limit[space])) && !kv_region_reach(r, space, id))
        return NULL;
    return kv_region_at(r, space, id, first, size);
}

/* ---- inline: the journal; every write changes a dozen words through it ------------------ */

static inline uint64_t kv_txn_addr(kv_place at, const uint64_t *word)
{
    uint64_t off = (uint64_t)((const char *)word - at.ptr);

    kv_assert(off < 65536 && off % 8 == 0);
    return at.addr | off;
}

/* The entry is complete before it counts, and counts before the word changes. */
static inline void kv_txn_change(kv_region *r, uint64_t addr, uint64_t *word, uint64_t value)
{
    kv_head *h = r->head;
    uint64_t n = h->journal.count;

    kv_assert(n < KV_JOURNAL_MAX);
    if (KV_IS_BUG(10))
        kv_store(word, value);
    kv_store(&h->journal.entry[n].addr, addr);
    kv_store(&h->journal.entry[n].old, *word);
    kv_store(&h->journal.count, n + 1);
    kv_store(word, value);
}

static inline void kv_txn_begin(kv_region *r)
{
    (void)r;
    kv_assert(r->head->journal.count == 0 && r->head->journal.visible_addr == 0);
}

static inline void kv_txn_set(kv_region *r, kv_place at, uint64_t *word, uint64_t value)
{
    kv_txn_change(r, kv_txn_addr(at, word), word, value);
}

static inline void kv_txn_set_low(kv_region *r, kv_place at, uint64_t *word, uint64_t value)
{
    kv_txn_change(r, kv_txn_addr(at, word) | 1, word, value);
}

/* Needs no entry: while the word has its old value there is nothing to restore, and once it has the
 * new one nothing may be. */
static inline void kv_txn_visible(kv_region *r, kv_place at, uint64_t *word, uint64_t value)
{
    kv_store(&r->head->journal.visible_new, value);
    if (!KV_IS_BUG(7))
        kv_store(&r->head->journal.visible_addr, kv_txn_addr(at, word));
    kv_store(word, value);
}

/* Never restored, so there is no version to grow: the same. */
static inline void kv_txn_visible_low(kv_region *r, kv_place at, uint64_t *word, uint64_t value)
{
    kv_txn_visible(r, at, word, value);
}

/* The visible address goes last: without it, entries that still count would be undone. */
static inline void kv_txn_end(kv_region *r)
{
    kv_store(&r->head->journal.count, 0);
    kv_store(&r->head->journal.visible_addr, 0);
}

#pragma GCC visibility pop
#endif
