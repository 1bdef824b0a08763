/* SPDX-License-Identifier: MIT
 *
 * order_read.c - reading the key order without a lock, and verifying it.
 *
 * Invariant: a leaf handed out is one that the tree held, with its log merged, at some time since
 * the walk began; a reader never waits and believes nothing that it has not checked.
 */
#include "order_node.h"

/* A reader starts again when a node was reused under it. That each time a writer went on is no
 * reason to wait for ever should memory be damaged and changing. */
#define MAX_RETRIES 100000

static int damaged(const char *what)
{
    return kv_fail(KV_ECORRUPT, "the index's key order is damaged: %s", what);
}

/* ---- reading ---- */

/* By words, each of which may be a child word that swings now; by four, which is quicker. */
static void take_words(uint64_t *to, const uint64_t *from, size_t n)
{
    for (; n >= 4; n -= 4, to += 4, from += 4) {
        uint64_t a = kv_load_relaxed(from), b = kv_load_relaxed(from + 1);
        uint64_t c = kv_load_relaxed(from + 2), d = kv_load_relaxed(from + 3);

        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (; n > 0; n--)
        *to++ = kv_load_relaxed(from++);
}

/* Copies what a child word leads to. 1: it is that; 0: it was reused; -1: damage; 2: an undo
 * changed it. The sizes read first may be torn; they only bound the copy. */
static int copy_node(kv_region *r, uint64_t word, uint64_t *to)
{
    const uint64_t *node;
    uint32_t i, words;

    node = kv_region_node(r, KV_NODES, (uint32_t)word - 1, KV_NODES_FIRST, KV_NODES_SIZE);
    if (!node)
        return -1;
    for (i = 64; i < (uint32_t)KV_NODE_CAP; i += 64)
        kv_prefetch((const char *)node + i);
    KV_PAUSE("order: link read");
    to[0] = kv_load(&node[0]);
    if (to[0] != word >> 32)
        return 0;
    to[1] = 0;
    to[2] = kv_load_relaxed(&node[2]);
    to[KV_NODE_LOG] = kv_load(&node[KV_NODE_LOG]);
    words = (uint32_t)(to[2] >> 32 & 0xffff);
    if ((to[2] >> 48 & 0xff) == 0)
        words += (uint32_t)(to[KV_NODE_LOG] & 0xffff);
    words = (words + 7) / 8;
    if (words > KV_NODE_WORDS)
        words = KV_NODE_WORDS;
    if (words > KV_NODE_LOG + 1)
        take_words(to + KV_NODE_LOG + 1, node + KV_NODE_LOG + 1, words - KV_NODE_LOG - 1);
    KV_PAUSE("order: node copied");
    kv_fence_acquire();
    if (kv_load_relaxed(&node[0]) != to[0])
        return 0;
    return (kv_load_relaxed(&node[KV_NODE_LOG]) ^ to[KV_NODE_LOG]) >> 32 ? 2 : 1;
}

/* Merges the log of a leaf that was copied. 0: damage. */
static int merge_log(uint64_t *node, const kv_view *v)
{
    uint64_t merged[KV_NODE_WORDS];

    if (!kv_leaf_merge(v, merged))
        return 0;
    memcpy(node + 2, merged + 2, (size_t)(merged[2] >> 32 & 0xffff) - 16);
    return 1;
}

/* Takes the bounds of child i from an inner node. */
static int narrow(kv_leaf *leaf, const kv_view *v, int i)
{
    if (i > 0) {
        leaf->has_lower = 1;
        leaf->lower_len = (uint32_t)kv_node_key(v, i - 1, leaf->lower);
        if (leaf->lower_len == 0)
            return 0;
    }
    if (i < v->entries) {
        leaf->has_upper = 1;
        leaf->upper_len = (uint32_t)kv_node_key(v, i, leaf->upper);
        if (leaf->upper_len == 0)
            return 0;
    }
    return 1;
}

static int compare(const unsigned char *a, size_t alen, const unsigned char *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c ? c : (alen > blen) - (alen < blen);
}

/* Whether a leaf answers for a key, or for what is right below it: heads do not show that the ways
 * they led are those of separators. So whoever goes from bound to bound gets on. */
static int answers_for(const kv_leaf *leaf, const kv_probe *k, int before)
{
    if (leaf->has_lower && compare(leaf->lower, leaf->lower_len, k->key, k->len) > -before)
        return 0;
    return !leaf->has_upper || compare(k->key, k->len, leaf->upper, leaf->upper_len) < before;
}

/* One walk from the root. 1: leaf is filled; 0: *word was reused; -1: damage; 2: again. */
static int walk(kv_region *r, const kv_probe *k, int before, kv_leaf *leaf, uint64_t *word)
{
    int level = -1, got, i;
    kv_view v;

    leaf->count = leaf->plen = leaf->has_lower = leaf->has_upper = 0;
    leaf->beside = 0;
    *word = kv_load(&r->head->order[KV_ORDER_ROOT]);
    if (*word == 0)
        return 1;
    for (;;) {
        got = copy_node(r, *word, leaf->node);
        if (got != 1)
            return got;
        if (!kv_node_view(leaf->node, &v) || (level >= 0 && v.level != level - 1))
            return -1;
        level = v.level;
        if (level == 0) {
            if (k && !answers_for(leaf, k, before))
                return -1;
            if (v.logged && (!merge_log(leaf->node, &v) || !kv_node_view(leaf->node, &v)))
                return -1;
            leaf->node[KV_NODE_LOG] = 0;
            leaf->count = v.count;
            leaf->ends = (int)((const char *)v.end - (const char *)leaf->node);
            leaf->data = (int)((const char *)v.data - (const char *)leaf->node);
            leaf->dlen = v.dlen;
            leaf->plen = v.plen;
            return 1;
        }
        i = v.entries;
        if (k && (i = kv_node_way(&v, k, before)) < 0)
            return -1;
        if (!narrow(leaf, &v, i))
            return -1;
        *word = v.child[i];
        i += before ? -1 : 1;
        leaf->beside = i >= 0 && i < v.count ? v.child[i] : 0;
    }
}

void kv_order_prefetch(kv_region *r, uint64_t beside)
{
    uint32_t id = (uint32_t)beside - 1, i;
    const char *node;

    if (id >= kv_load(&r->limit[KV_NODES]))
        return;
    node = kv_region_at(r, KV_NODES, id, KV_NODES_FIRST, KV_NODES_SIZE);
    for (i = 0; i < (uint32_t)KV_NODE_CAP; i += 64)
        kv_prefetch(node + i);
}

int kv_order_read(kv_region *r, const void *key, size_t len, int before, kv_leaf *leaf)
{
    uint64_t word, stale = 0;
    int got, tries;
    kv_probe k;

    if (len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    if (!key && !before)
        len = 0;
    if (key || !before)
        kv_probe_set(&k, key ? key : "", len);
    for (tries = 0; tries < MAX_RETRIES; tries++) {
        got = walk(r, key || !before ? &k : NULL, before, leaf, &word);
        if (got == 1)
            return KV_OK;
        if (got == 2)
            continue;
        /* Each word of a walk was part of the tree at some time since the walk began, and led to a
         * node of its generation then. One that was found reused before that time never did: no
         * writer is at work here, it is damage. */
        if (got < 0 || word == stale)
            break;
        stale = word;
    }
    leaf->count = 0;
    return damaged("a node makes no sense");
}

int kv_leaf_find(const kv_leaf *leaf, const void *key, size_t len)
{
    int pos = 0, equal;
    kv_probe k;
    kv_view v;

    if (leaf->count == 0 || len > KV_ORDER_KEY)
        return leaf->count;
    kv_probe_set(&k, key, len);
    if (!kv_node_view(leaf->node, &v) || !kv_node_search(&v, &k, &pos, &equal))
        return leaf->count;
    return pos;
}

size_t kv_leaf_key(const kv_leaf *leaf, int i, unsigned char *out)
{
    unsigned char key[KV_ORDER_KEY + 8];
    size_t n;

    if (leaf->count == 0)
        return 0;
    kv_leaf_prefix(leaf, key);
    n = kv_leaf_rest(leaf, i, key);
    memcpy(out, key, n);
    return n;
}

/* ---- verification ---- */

typedef struct bound {
    const unsigned char *key; /* NULL: none */
    size_t len;
} bound;

static int head_fits(const kv_view *v, int i, const unsigned char *key, size_t len)
{
    unsigned char suffix[8] = {0};
    size_t n = len - (size_t)v->plen;
    int32_t head;

    memcpy(suffix, key + v->plen, n < sizeof suffix ? n : sizeof suffix);
    memcpy(&head, v->head + KV_NODE_FIRST * i, sizeof head);
    return head == kv_node_first(kv_eight(suffix));
}

/* Counts keys and nodes below a word. */
static int check_node(kv_region *r, uint64_t word, int level, bound lower, bound upper,
                      uint64_t *keys, uint64_t *nodes)
{
    unsigned char key[2][KV_ORDER_KEY];
    uint64_t merged[KV_NODE_WORDS];
    bound b[2];
    size_t len = 0;
    int i, turn = 0, rc;
    kv_view v;

    if (!kv_node_child(r, word, &v))
        return damaged("not a node");
    if (v.logged && (!kv_leaf_merge(&v, merged) || !kv_node_view(merged, &v)))
        return damaged("a leaf's log");
    if (v.log_bytes)
        return damaged("a leaf's log");
    if ((uint32_t)word > kv_load(&r->head->used[KV_NODES]))
        return damaged("a node that is not in use");
    if (level >= 0 && v.level != level)
        return damaged("a node of the wrong level");
    if (v.entries ? v.end[v.entries - 1] != v.dlen : v.dlen != 0 || v.plen != 0)
        return damaged("a node of the wrong size");
    ++*nodes;
    b[0] = lower;
    for (i = 0; i < v.entries; i++) {
        turn ^= 1;
        len = kv_node_key(&v, i, key[turn]);
        if (len == 0)
            return damaged("an entry out of bounds");
        if (v.level && !head_fits(&v, i, key[turn], len))
            return damaged("a head that is not its key's");
        b[1].key = key[turn];
        b[1].len = len;
        if (i == 0 && lower.key) {
            /* A leaf's first key may be its lower bound; a separator is above it. */
            rc = compare(lower.key, lower.len, key[turn], len);
            if (v.level ? rc >= 0 : rc > 0)
                return damaged("a key below its bound");
        }
        if (i > 0 && compare(key[turn ^ 1], b[0].len, key[turn], len) >= 0)
            return damaged("keys out of order");
        if (v.level) {
            rc = check_node(r, v.child[i], v.level - 1, b[0], b[1], keys, nodes);
            if (rc != KV_OK)
                return rc;
        }
        b[0] = b[1];
    }
    if (v.entries && upper.key && compare(key[turn], len, upper.key, upper.len) >= 0)
        return damaged("a key above its bound");
    if (v.level)
        return check_node(r, v.child[v.count - 1], v.level - 1, b[0], upper, keys, nodes);
    *keys += (uint64_t)v.count;
    return KV_OK;
}

/* Whether node id lies below word; for what no key leads to. */
static int below(kv_region *r, uint64_t word, uint32_t id)
{
    kv_view v;
    int i;

    if ((uint32_t)word - 1 == id)
        return 1;
    if (kv_node_child(r, word, &v) && v.level)
        for (i = 0; i < v.count; i++)
            if (below(r, v.child[i], id))
                return 1;
    return 0;
}

/* Whether a node of the queue is also in the (verified) tree. Were it, its first key would lead to
 * it: so that is where to look. */
static int in_tree(kv_region *r, uint32_t id, const uint64_t *node)
{
    uint64_t word = r->head->order[KV_ORDER_ROOT];
    unsigned char key[KV_ORDER_KEY];
    kv_probe k;
    size_t len;
    int i;
    kv_view v;

    if (word == 0 || !kv_node_view(node, &v))
        return 0; /* every node of the tree can be viewed */
    if (v.entries == 0)
        return below(r, word, id);
    len = kv_node_key(&v, 0, key);
    if (len == 0)
        return 0;
    kv_probe_set(&k, key, len);
    for (;;) {
        if ((uint32_t)word - 1 == id)
            return 1;
        if (!kv_node_child(r, word, &v) || v.level == 0 || (i = kv_node_way(&v, &k, 0)) < 0)
            return 0;
        word = v.child[i];
    }
}

int kv_order_check(kv_region *r)
{
    const uint64_t *w = r->head->order;
    uint64_t keys = 0, nodes = 0, i, id_1 = w[KV_ORDER_FREE_HEAD];
    bound none = {NULL, 0};
    int rc;

    if (w[KV_ORDER_ROOT]) {
        rc = check_node(r, w[KV_ORDER_ROOT], -1, none, none, &keys, &nodes);
        if (rc != KV_OK)
            return rc;
    }
    if (keys != w[KV_ORDER_COUNT])
        return damaged("the number of keys");
    if (nodes + w[KV_ORDER_FREE_COUNT] != r->head->used[KV_NODES])
        return damaged("a node is lost");
    /* The tail at the end and not before: no node comes twice. */
    for (i = 0; i < w[KV_ORDER_FREE_COUNT]; i++) {
        uint32_t id = (uint32_t)id_1 - 1;
        const uint64_t *node;

        if (id_1 == 0 || id_1 > r->head->used[KV_NODES])
            return damaged("the queue of free nodes");
        node = kv_region_node(r, KV_NODES, id, KV_NODES_FIRST, KV_NODES_SIZE);
        if (!node || (id_1 == w[KV_ORDER_FREE_TAIL]) != (i == w[KV_ORDER_FREE_COUNT] - 1))
            return damaged("the queue of free nodes");
        if (in_tree(r, id, node))
            return damaged("a node is in use and free");
        id_1 = node[1];
    }
    return KV_OK;
}
