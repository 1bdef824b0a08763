/* SPDX-License-Identifier: MIT
 *
 * order_list.h - the entries of one or two nodes of the key order, to be cut and encoded anew; for
 * order.c.
 */
#ifndef KV_ORDER_LIST_H
#define KV_ORDER_LIST_H

#include "order_node.h"

#pragma GCC visibility push(hidden)

/* Bytes for the log that a leaf written anew is to have, beside its tail; and at the tree's or a
 * namespace's end, where nothing is inserted between what is there. */
#define KV_LOG_ROOM  128
#define KV_TAIL_ROOM 48

/* Most entries a node can hold, by its size alone; two nodes and a few may have to be gathered. */
#define KV_LIST_ENTRIES ((KV_NODE_CAP - KV_NODE_HEAD) / 2)
#define KV_LIST_ITEMS   (2 * KV_LIST_ENTRIES + 8)
#define KV_LIST_RUNS    3

/* An entry while nodes are rebuilt: its key in two pieces; in an inner node the separator before
 * `child` (of the first one: none, not looked at). */
typedef struct kv_list_item {
    const unsigned char *a, *b;
    uint32_t alen, blen;
    uint64_t child;
} kv_list_item;

typedef struct kv_list {
    int n, level;
    kv_list_item it[KV_LIST_ITEMS];
    uint32_t sum[KV_LIST_ITEMS + 1]; /* lengths of the keys before entry i */
} kv_list;

enum { SPLIT_EVEN, SPLIT_TAIL, SPLIT_HEAD };

/* Appends a node's entries, not a log's; 0: damage. */
int kv_list_gather(kv_list *l, const kv_view *v);
/* Lets `fresh` items, unset, take the place of `old` ones. */
void kv_list_open_gap(kv_list *l, int at, int old, int fresh);
/* Writes an item's key, KV_ORDER_KEY bytes of room; returns its length. */
uint32_t kv_list_key(const kv_list_item *t, unsigned char *out);
/* Bytes that two keys begin with alike. */
int kv_list_common(const kv_list_item *x, const kv_list_item *y);
/* Before the others below; 0: the items are not in order. */
int kv_list_settle(kv_list *l);
/* Bytes of a node of the items [i, j), and their common prefix; that they are at most `most`. */
int kv_list_size(const kv_list *l, int i, int j, int *prefix);
static inline int kv_list_fits(const kv_list *l, int i, int j, int most)
{
    int prefix;

    return kv_list_size(l, i, j, &prefix) <= most;
}
/* Writes that node, words 0 and 1 excepted; returns its size. */
int kv_list_encode(const kv_list *l, int i, int j, uint64_t *buf);
/* Cuts the list into runs that fit a node each: run i is [cut[i], cut[i + 1]). Returns their
 * number, 0 for damage. */
int kv_list_partition(const kv_list *l, int how, int cut[KV_LIST_RUNS + 1]);

#pragma GCC visibility pop
#endif
