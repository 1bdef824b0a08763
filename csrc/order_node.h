/* SPDX-License-Identifier: MIT
 *
 * order_node.h - one node of the key order: its layout, searching it, and the log of a leaf. Knows
 * nothing of the tree; for order.c and order_read.c.
 *
 *   word 0     generation; grows, is never restored
 *   word 1     queue of free nodes: id + 1 of the next younger one; means nothing elsewhere
 *   word 2     count:16 | prefix:16 | size:16 | level:8 | mark:8; level 0 is a leaf
 *   word 3     of a leaf: version:32 | entries of its log:16 | bytes of them:16
 *   inner      count child words; 4 bytes a separator, its head; then as a leaf, for the count - 1
 *              separators
 *   leaf       2 bytes a key: where its suffix ends; the common prefix; the suffixes, in order;
 *              from `size` on the log
 *
 * Child i of an inner node holds the keys k with separator i-1 <= k < separator i. Suffixes lie in
 * key order, so an entry needs no length. A head is the first four bytes of a separator's suffix,
 * in an order that a processor compares four of at once: one pass over them, in which nothing waits
 * for anything else, mostly leaves no entry to be looked at.
 *
 * The log of a leaf is what has come and gone since the leaf was written: position | gone, length,
 * suffix. The position is the number of the leaf's own keys that are smaller. It grows by one store
 * of word 3, whose version grows when an undo takes that back: so whoever copied the bytes between
 * two looks at the same version has a leaf that was there. Replacing a leaf for each key instead
 * cost a copy of it, a node from the queue and six journaled words: twice as much.
 */
#ifndef KV_ORDER_NODE_H
#define KV_ORDER_NODE_H

#include "order.h"

#include <string.h>

#pragma GCC visibility push(hidden)

#define KV_NODE_HEAD 32 /* bytes before a node's content */
/* Bytes of a node that are used: eight less, so that any entry can be read eight bytes at a time.
 */
#define KV_NODE_CAP   ((int)KV_NODES_SIZE - 8)
#define KV_NODE_WORDS (KV_NODES_SIZE / 8)
#define KV_NODE_MARK  0x70
#define KV_NODE_LOG   3 /* the word */
#define KV_NODE_FIRST 4 /* bytes of a head */

/* Most entries a log holds, and the bytes of one beside its suffix. */
#define KV_LEAF_LOG   16
#define KV_LEAF_ENTRY 4
#define KV_LEAF_GONE  0x8000u
/* Most that kv_leaf_merge takes: those, and the keys of a run that go. */
#define KV_LEAF_EDITS (KV_LEAF_LOG + KV_ORDER_RUN)

/* A leaf with one key of any length fits, an inner node with two children too; this is what bounds
 * the runs of a rebuilt node, see partition() in order.c. */
KV_STATIC_ASSERT(KV_NODE_HEAD + 2 + KV_ORDER_KEY <= KV_NODE_CAP, leaf_of_one);
KV_STATIC_ASSERT(KV_NODE_HEAD + 2 * 8 + KV_NODE_FIRST + 2 + KV_ORDER_KEY <= KV_NODE_CAP,
                 inner_of_two);

/* So that the thread sanitizer sees no race where there is none that matters. */
#ifdef KV_TSAN
#define KV_ORDER_ATOMIC
#endif

typedef uint16_t __attribute__((may_alias)) kv_half;

/* The header of a node, taken apart and found to fit the node. */
typedef struct kv_view {
    const unsigned char *prefix, *data;
    const kv_half *end;        /* where entry i ends in data */
    const unsigned char *head; /* of an inner node */
    const uint64_t *child;
    const unsigned char *log;
    int level, count, entries, plen, dlen, size;
    int logged, log_bytes;
} kv_view;

static inline uint64_t kv_node_header(int level, int count, int plen, int size)
{
    return (uint64_t)KV_NODE_MARK << 56 | (uint64_t)level << 48 | (uint64_t)size << 32 |
           (uint64_t)plen << 16 | (uint64_t)count;
}

/* 0: it makes no sense. */
static inline int kv_node_view(const uint64_t *node, kv_view *v)
{
    const unsigned char *base = (const unsigned char *)node;
    uint64_t h = kv_load_relaxed(&node[2]), log = kv_load_relaxed(&node[KV_NODE_LOG]);
    int at = KV_NODE_HEAD;

    v->count = (int)(h & 0xffff);
    v->plen = (int)(h >> 16 & 0xffff);
    v->size = (int)(h >> 32 & 0xffff);
    v->level = (int)(h >> 48 & 0xff);
    v->logged = v->log_bytes = 0;
    if (kv_unlikely(h >> 56 != KV_NODE_MARK || v->count == 0 || v->level >= KV_ORDER_DEPTH ||
                    v->size > KV_NODE_CAP || v->plen > KV_ORDER_KEY))
        return 0;
    v->entries = v->count;
    v->child = node + KV_NODE_HEAD / 8;
    if (v->level) {
        v->entries--;
        at += 8 * v->count;
        v->head = base + at;
        at += KV_NODE_FIRST * v->entries;
    } else {
        v->log_bytes = (int)(log & 0xffff);
        v->logged = (int)(log >> 16 & 0xffff);
        v->log = base + v->size;
        if (kv_unlikely(v->size + v->log_bytes > KV_NODE_CAP || v->logged > KV_LEAF_LOG))
            return 0;
    }
    v->end = (const kv_half *)(const void *)(base + at);
    at += 2 * v->entries;
    v->prefix = base + at;
    v->data = v->prefix + v->plen;
    v->dlen = v->size - at - v->plen;
    return v->dlen >= 0;
}

/* The node of a child word, as the writer sees it: no one else changes it. NULL: damage. */
static inline uint64_t *kv_node_child(kv_region *r, uint64_t word, kv_view *v)
{
    uint64_t *node;

    node = kv_region_node(r, KV_NODES, (uint32_t)word - 1, KV_NODES_FIRST, KV_NODES_SIZE);
    if (!node || node[0] != word >> 32 || !kv_node_view(node, v))
        return NULL;
    return node;
}

/* Bounds of entry i in data; 0: damage. */
static inline int kv_node_entry(const kv_view *v, int i, int *from, int *to)
{
    *from = i ? v->end[i - 1] : 0;
    *to = v->end[i];
    return *from <= *to && *to <= v->dlen;
}

static inline uint64_t kv_eight(const unsigned char *p)
{
    uint64_t w;

    memcpy(&w, p, 8);
    return __builtin_bswap64(w);
}

/* Of a suffix of which eight bytes can be read: these, zeros where it is shorter. */
static inline uint64_t kv_node_eight(const unsigned char *suffix, int len)
{
    return kv_eight(suffix) & (len < 8 ? ~(~(uint64_t)0 >> (8 * len)) : ~(uint64_t)0);
}

/* The head of a suffix whose first eight bytes are these, zeros where it is shorter. */
static inline int32_t kv_node_first(uint64_t eight)
{
    return (int32_t)(uint32_t)(eight >> 32 ^ 0x80000000u);
}

/* Where a key that has not the prefix lies beside all that have it; 0: it has it. */
static inline int kv_node_beside(const kv_view *v, const kv_probe *k)
{
    int i = 0, rest = v->plen;

    if (kv_unlikely(k->len < (size_t)v->plen))
        return memcmp(k->key, v->prefix, k->len) > 0 ? 1 : -1;
    for (; rest > 0; i += 8, rest -= 8) {
        uint64_t a = kv_eight(k->key + i), b = kv_eight(v->prefix + i);

        if (rest < 8) {
            a &= ~(~(uint64_t)0 >> (8 * rest));
            b &= ~(~(uint64_t)0 >> (8 * rest));
        }
        if (a != b)
            return a < b ? -1 : 1;
    }
    return 0;
}

/* Sets *pos to a leaf's first entry >= key, *equal when an entry is the key. Whatever the node
 * holds: entries at *pos - 1 and *pos were compared with the key. The log is not looked at. 0:
 * damage. */
int kv_node_search(const kv_view *v, const kv_probe *k, int *pos, int *equal);
/* The child of an inner node that holds the key; before: what is right below the key. -1: damage.
 */
int kv_node_way(const kv_view *v, const kv_probe *k, int before);

/* Whether entry i is the key, which has the node's prefix. */
static inline int kv_node_is(const kv_view *v, int i, const kv_probe *k)
{
    int from, to, len = (int)k->len - v->plen;

    return i >= 0 && i < v->entries && kv_node_entry(v, i, &from, &to) && to - from == len &&
           memcmp(v->data + from, k->key + v->plen, (size_t)len) == 0;
}

/* Copies a key's entry out, KV_ORDER_KEY bytes of room; 0: damage. */
size_t kv_node_key(const kv_view *v, int i, unsigned char *out);

/* Copies n ends, adding to each. */
void kv_node_ends(kv_half *to, const kv_half *from, int n, int add);

/* Copies a leaf, not its log, with a key more at pos; returns its size. 0: it does not fit as it
 * is, or would leave a log less than `room`. Words 0 and 1 are not set. */
int kv_leaf_with(const kv_view *v, const kv_probe *k, int pos, int room, uint64_t *buf);

/* Looks in the log for a key of which kv_node_search said `pos`, and which has the leaf's prefix.
 * *there: 1 it came, 0 it went, -1 it is not mentioned. *count: keys of leaf and log. 0: damage. */
int kv_leaf_look(const kv_view *v, const kv_probe *k, int pos, int *there, int *count);
/* Which positions, modulo 64, the log mentions; damage hides none that kv_leaf_look would find. */
uint64_t kv_leaf_mentions(const kv_view *v);
/* Writes an entry, KV_LEAF_ENTRY + KV_ORDER_KEY bytes of room, for a key that has the leaf's prefix
 * and of which kv_node_search said `pos`; gone: 0 or KV_LEAF_GONE. Returns its bytes. */
int kv_leaf_entry(const kv_view *v, const kv_probe *k, int pos, unsigned gone, unsigned char *out);
/* Writes the leaf of both into `out`, without a log; its words 0 and 1 are not set. Of a view whose
 * log has been lengthened, by a run at most, too. 0: damage, or there is no key left. */
int kv_leaf_merge(const kv_view *v, uint64_t *out);

#pragma GCC visibility pop
#endif
