/* SPDX-License-Identifier: MIT
 *
 * order.h - key order for `list`: one B+tree over (namespace id, key), for readers without a lock.
 *
 * A node is 1 KiB. Leaves hold the keys (their common prefix once) and a short log of what has come
 * and gone since, which grows by one store; else they are never edited but replaced by a copy, and
 * one child word of the parent (or the root word) swings to it. Inner nodes hold separators and
 * child words; a child word is edited in place (that swing), anything else replaces the node. A
 * child word is generation << 32 | id + 1; a node's first word is its generation, which grows each
 * time the node is reused. Freed nodes wait in a queue and are reused late, so that a reader who
 * copied a node and finds the generation unchanged has a state that was true when it followed the
 * word to it. Touched only when a key appears or goes, never by an overwrite.
 *
 * Keys here are the composite: 4 bytes namespace id, big-endian, then the key: at most KV_ORDER_KEY
 * bytes. Order is memcmp, a prefix before its extensions.
 */
#ifndef KV_ORDER_H
#define KV_ORDER_H

#include "region.h"

#include <string.h>

#pragma GCC visibility push(hidden)

#define KV_ORDER_KEY   (4 + KV_MAX_KEY)
#define KV_ORDER_DEPTH 24

/* Words of kv_head.order */
enum {
    KV_ORDER_ROOT,      /* child word of the root, 0: empty tree */
    KV_ORDER_COUNT,     /* keys; journaled */
    KV_ORDER_FREE_HEAD, /* queue of freed nodes: id + 1 of the oldest */
    KV_ORDER_FREE_TAIL, /* id + 1 of the newest */
    KV_ORDER_FREE_COUNT
};

/* A key to look for, followed by zeros so that it can be read eight bytes at a time. */
typedef struct kv_probe {
    size_t len;
    unsigned char key[KV_ORDER_KEY + 8];
} kv_probe;

static inline void kv_probe_set(kv_probe *k, const void *key, size_t len)
{
    k->len = len;
    memcpy(k->key, key, len);
    memset(k->key + len, 0, 8);
}

void kv_order_init(kv_region *r);

/* ---- under the writer lock, in a transaction; journaled, no visible word of their own - */

/* Fresh nodes that so many inserts or removes need at most in KV_NODES for the tree as it is. */
uint64_t kv_order_room(const kv_region *r, unsigned operations);
/* KV_OK; KV_EEXISTS (unchanged); KV_ECORRUPT (unchanged). */
int kv_order_insert(kv_region *r, const void *key, size_t len);
/* The same in two halves, so that the leaf can be fetched while something else waits for memory.
 * kv_order_near gives what kv_order_insert_near may be told as long as the tree does not change; 0:
 * nothing. It needs no transaction. */
uint64_t kv_order_near(kv_region *r, const void *key, size_t len);
uint64_t kv_order_near_probe(kv_region *r, const kv_probe *k);
int kv_order_insert_near(kv_region *r, const void *key, size_t len, uint64_t near);
/* Here it may be a guess, if only the leaf is still in the tree. *near becomes the leaf that held
 * the key, as it is now, or 0. */
int kv_order_remove_near(kv_region *r, const void *key, size_t len, uint64_t *near);
/* Takes out several keys that lie in one leaf, with one change of it: of the n of k, all different
 * and none empty, as many from the first on as are there. How many, at least 1; or as above. */
#define KV_ORDER_RUN 16
int kv_order_remove_run(kv_region *r, const kv_probe *k, int n, uint64_t *near);
/* 0 when it is no more: `since` was kv_order_time before kv_order_near, and one transaction at most
 * has begun since then. */
int kv_order_still(kv_region *r, uint64_t near, uint64_t since);
static inline uint64_t kv_order_time(const kv_region *r)
{
    return r->head->order[KV_ORDER_FREE_TAIL];
}
/* Whether the leaf that `near` means might hold the key; a quick look. */
int kv_order_maybe(kv_region *r, const kv_probe *k, uint64_t near);
/* KV_OK; KV_ENOTFOUND (unchanged); KV_ECORRUPT (unchanged). */
int kv_order_remove(kv_region *r, const void *key, size_t len);

/* ---- reading, without a lock ---------------------------------------------------------- */

/* A private copy of one leaf, and the bounds it answers for. */
typedef struct kv_leaf {
    uint64_t node[KV_NODES_SIZE / 8]; /* zero before the first end, as if one came before it */
    int count;                        /* keys in it */
    int ends, data, dlen;     /* offsets in it of where its keys' ends and bytes are; how many */
    int plen;                 /* bytes that all begin with; they lie before `data` */
    int has_lower, has_upper; /* lower <= keys < upper; without: unbounded */
    uint64_t beside;          /* its neighbour in the direction read, a hint; 0: not known */
    uint32_t lower_len, upper_len;
    unsigned char lower[KV_ORDER_KEY], upper[KV_ORDER_KEY];
} kv_leaf;

/* Copies the leaf that covers `key` (before: the leaf that covers the keys just below `key`; key
 * NULL with before: the last leaf). KV_OK, also with count 0 for an empty tree (no bounds).
 * KV_ECORRUPT: damage. The next leaf is the one that covers `upper`; the previous one is the one
 * before `lower`. Never waits; starts again by itself when a node was reused. */
int kv_order_read(kv_region *r, const void *key, size_t len, int before, kv_leaf *leaf);
/* Fetches the lines of a leaf's neighbour. */
void kv_order_prefetch(kv_region *r, uint64_t beside);
/* First index whose key is >= key; count when none. */
int kv_leaf_find(const kv_leaf *leaf, const void *key, size_t len);
/* Writes key i (KV_ORDER_KEY bytes of room), returns its length; 0: damage. */
size_t kv_leaf_key(const kv_leaf *leaf, int i, unsigned char *out);
/* The same where the bytes that all keys begin with are in place (kv_leaf_prefix). Eight bytes more
 * may be written than the key has. */
static inline void kv_leaf_prefix(const kv_leaf *leaf, unsigned char *out)
{
    if (leaf->plen)
        memcpy(out, (const char *)leaf->node + leaf->data - leaf->plen, (size_t)leaf->plen);
}
static inline size_t kv_leaf_rest(const kv_leaf *leaf, int i, unsigned char *out)
{
    const unsigned char *base = (const unsigned char *)leaf->node;
    uint16_t from, to;
    int len;

    if (kv_unlikely(i < 0 || i >= leaf->count))
        return 0;
    memcpy(&from, base + leaf->ends + 2 * i - 2, 2);
    memcpy(&to, base + leaf->ends + 2 * i, 2);
    len = to - from;
    if (kv_unlikely(len < 0 || to > leaf->dlen || leaf->plen + len > KV_ORDER_KEY))
        return 0;
    if (kv_likely(len <= 8)) /* a node ends with eight bytes that are not used */
        memcpy(out + leaf->plen, base + leaf->data + from, 8);
    else
        memcpy(out + leaf->plen, base + leaf->data + from, (size_t)len);
    return (size_t)(leaf->plen + len);
}
/* The same for many keys, which are no longer than `most`: what that takes of the leaf. */
typedef struct kv_leaf_keys {
    const unsigned char *ends, *data;
    int plen, dlen;
    uint32_t least, range; /* a key has from `least` on less than `range` bytes beside the prefix */
} kv_leaf_keys;

static inline kv_leaf_keys kv_leaf_short_keys(const kv_leaf *leaf, int least, int most)
{
    kv_leaf_keys k;

    k.ends = (const unsigned char *)leaf->node + leaf->ends;
    k.data = (const unsigned char *)leaf->node + leaf->data;
    k.plen = leaf->plen;
    k.dlen = leaf->dlen;
    k.least = leaf->plen < least ? (uint32_t)(least - leaf->plen) : 0;
    k.range = leaf->plen <= most ? (uint32_t)(most - leaf->plen + 1) - k.least : 0;
    return k;
}
/* Of key i, one of the leaf's. 0: it is longer or shorter, or damaged. */
static inline uint32_t kv_leaf_short(const kv_leaf_keys *k, int i, unsigned char *out)
{
    uint16_t from, to;
    uint32_t len;

    memcpy(&from, k->ends + 2 * i - 2, 2);
    memcpy(&to, k->ends + 2 * i, 2);
    len = (uint32_t)to - from;
    if (kv_unlikely(len - k->least >= k->range || to > k->dlen))
        return 0;
    memcpy(out + k->plen, k->data + from, 8);
    if (kv_unlikely(len > 8))
        memcpy(out + k->plen + 8, k->data + from + 8, len - 8);
    return (uint32_t)k->plen + len;
}

/* Verifies the tree: order, bounds, counts, depth, generations, free queue disjoint. Not concurrent
 * with writers. */
int kv_order_check(kv_region *r);

#pragma GCC visibility pop
#endif
