/* SPDX-License-Identifier: MIT
 *
 * order.c - the B+tree of keys: leaves replaced by copies, child words swung, nodes reused late.
 *
 * Invariant: what a child word leads to is complete and never edited but in its own child words;
 * its generation is the word's until it is reused, and a reused node's generation grows before its
 * first byte changes. An operation writes free nodes only, then changes the shared words,
 * journaled.
 *
 *   word 0     generation; grows, is never restored
 *   word 1     queue of free nodes: id + 1 of the next younger one; means nothing elsewhere
 *   word 2     count:16 | prefix:16 | size:16 | level:8 | mark:8; level 0 is a leaf
 *   inner      count child words; then as a leaf, for the count - 1 separators
 *   leaf       2 bytes a key: where its suffix ends; the common prefix; the suffixes, in order
 *
 * Child i of an inner node holds the keys k with separator i-1 <= k < separator i. Suffixes lie in
 * key order, so an entry needs no length and an insertion is four block copies.
 */
#include "order.h"

#include <string.h>

#define HEAD 24 /* bytes before a node's content */
/* Bytes of a node that are used: eight less, so that any entry can be read eight bytes at a time.
 */
#define CAP   ((int)KV_NODES_SIZE - 8)
#define WORDS (KV_NODES_SIZE / 8)
#define MARK  0x6f

/* Most entries a node can hold, by its size alone; two nodes and a few may have to be gathered. */
#define MAX_ENTRIES ((CAP - HEAD) / 2)
#define MAX_ITEMS   (2 * MAX_ENTRIES + 8)
#define MAX_RUNS    3
#define MAX_FREED   (4 * KV_ORDER_DEPTH)

/* A reader starts again when a node was reused under it. That each time a writer went on is no
 * reason to wait for ever should memory be damaged and changing. */
#define MAX_RETRIES 100000

/* Free nodes left to rest, so that few readers start again. Not more: what is reused should still
 * be in the second-level cache (256 instead of 64 made random insertion 15 % slower). */
#define FREE_MIN 16u
#define FREE_MAX 64u

/* A leaf with one key of any length fits, an inner node with two children too; this is what bounds
 * the runs of a rebuilt node, see partition(). */
KV_STATIC_ASSERT(HEAD + 2 + KV_ORDER_KEY <= CAP, leaf_of_one);
KV_STATIC_ASSERT(HEAD + 2 * 8 + 2 + KV_ORDER_KEY <= CAP, inner_of_two);
KV_STATIC_ASSERT(KV_ORDER_FREE_COUNT < KV_ORDER_WORDS, words);

/* So that the thread sanitizer sees no race where there is none that matters. */
#if defined(__SANITIZE_THREAD__)
#define KV_ORDER_ATOMIC
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KV_ORDER_ATOMIC
#endif
#endif

typedef uint16_t __attribute__((may_alias)) half;
typedef uint16_t __attribute__((vector_size(16))) eight_halves;

/* The header of a node, taken apart and found to fit the node. */
typedef struct view {
    const unsigned char *prefix, *data;
    const half *end; /* where entry i ends in data */
    const uint64_t *child;
    int level, count, entries, plen, dlen, size;
} view;

/* A key to look for, followed by zeros so that it can be read eight bytes at a time. */
typedef struct probe {
    size_t len;
    unsigned char key[KV_ORDER_KEY + 8];
} probe;

/* An entry while nodes are rebuilt: its key in two pieces; in an inner node the separator before
 * `child` (of the first one: none, not looked at). */
typedef struct item {
    const unsigned char *a, *b;
    uint32_t alen, blen;
    uint64_t child;
} item;

typedef struct list {
    int n, level;
    item it[MAX_ITEMS];
    uint32_t sum[MAX_ITEMS + 1]; /* lengths of the keys before entry i */
} list;

typedef struct step {
    uint64_t *node;
    uint32_t id;
    int index; /* of the child taken */
    view v;
} step;

/* One insertion or removal: the way down, and what finish() will change. */
typedef struct op {
    kv_region *r;
    step path[KV_ORDER_DEPTH];
    int depth;
    uint64_t head, tail, count; /* the queue of free nodes, once nodes were taken */
    uint64_t may_take;          /* free nodes that were free before this transaction, but one */
    uint64_t rest;
    uint64_t used;
    uint32_t freed[MAX_FREED];
    int freed_count;
    kv_place swing_at; /* the word that makes it all count, and its new value */
    uint64_t *swing;
    uint64_t swing_to;
} op;

static int damaged(const char *what)
{
    return kv_fail(KV_ECORRUPT, "the index's key order is damaged: %s", what);
}

/* ---- nodes ---- */

static int view_node(const uint64_t *node, view *v)
{
    const unsigned char *base = (const unsigned char *)node;
    uint64_t h = kv_load_relaxed(&node[2]);
    int at = HEAD;

    v->count = (int)(h & 0xffff);
    v->plen = (int)(h >> 16 & 0xffff);
    v->size = (int)(h >> 32 & 0xffff);
    v->level = (int)(h >> 48 & 0xff);
    if (kv_unlikely(h >> 56 != MARK || v->count == 0 || v->level >= KV_ORDER_DEPTH ||
                    v->size > CAP || v->plen > KV_ORDER_KEY))
        return 0;
    v->entries = v->count;
    v->child = node + HEAD / 8;
    if (v->level) {
        v->entries--;
        at += 8 * v->count;
    }
    v->end = (const half *)(const void *)(base + at);
    at += 2 * v->entries;
    v->prefix = base + at;
    v->data = v->prefix + v->plen;
    v->dlen = v->size - at - v->plen;
    return v->dlen >= 0;
}

static uint64_t header(int level, int count, int plen, int size)
{
    return (uint64_t)MARK << 56 | (uint64_t)level << 48 | (uint64_t)size << 32 |
           (uint64_t)plen << 16 | (uint64_t)count;
}

/* Bounds of entry i in data; 0: damage. */
static inline int entry(const view *v, int i, int *from, int *to)
{
    *from = i ? v->end[i - 1] : 0;
    *to = v->end[i];
    return *from <= *to && *to <= v->dlen;
}

static inline uint64_t eight(const unsigned char *p)
{
    uint64_t w;

    memcpy(&w, p, 8);
    return __builtin_bswap64(w);
}

/* Where a key that has not the prefix lies beside all that have it; 0: it has it. */
static inline int beside_prefix(const view *v, const probe *k)
{
    int i = 0, rest = v->plen;

    if (kv_unlikely(k->len < (size_t)v->plen))
        return memcmp(k->key, v->prefix, k->len) > 0 ? 1 : -1;
    for (; rest > 0; i += 8, rest -= 8) {
        uint64_t a = eight(k->key + i), b = eight(v->prefix + i);

        if (rest < 8) {
            a &= ~(~(uint64_t)0 >> (8 * rest));
            b &= ~(~(uint64_t)0 >> (8 * rest));
        }
        if (a != b)
            return a < b ? -1 : 1;
    }
    return 0;
}

/* Sets *pos to the first entry >= key (beyond 0), or > key (beyond 1); *equal when an entry is the
 * key. Whatever the node holds: entries at *pos - 1 and *pos were compared with the key, so bounds
 * taken from them lie strictly on their side of it and a listing always gets on. 0: damage. */
static int search(const view *v, const probe *k, int beyond, int *pos, int *equal)
{
    const unsigned char *key = k->key + v->plen;
    size_t klen = k->len - (size_t)v->plen;
    int c, lo = 0, n = v->entries;
    uint64_t first;

    *equal = 0;
    c = beside_prefix(v, k);
    if (kv_unlikely(c != 0)) {
        *pos = c > 0 ? n : 0;
        return 1;
    }
    first = eight(key);
    while (n > 0) {
        int half_n = n >> 1, mid = lo + half_n, from, to;
        size_t len;
        uint64_t e;

        if (kv_unlikely(!entry(v, mid, &from, &to)))
            return 0;
        len = (size_t)(to - from);
        e = eight(v->data + from);
        if (len < 8)
            e &= ~(~(uint64_t)0 >> (8 * len));
        if (kv_likely(e != first)) {
            c = e < first ? -1 : 1;
        } else {
            /* Up to eight bytes the shorter one is padded with zeros: equal means that the longer
             * one only adds bytes. */
            size_t least = len < klen ? len : klen;

            c = least > 8 ? memcmp(v->data + from + 8, key + 8, least - 8) : 0;
            if (c == 0)
                c = (len > klen) - (len < klen);
            *equal |= c == 0;
        }
        if (c < beyond) {
            lo = mid + 1;
            n -= half_n + 1;
        } else {
            n = half_n;
        }
    }
    *pos = lo;
    return 1;
}

static void probe_set(probe *k, const void *key, size_t len)
{
    k->len = len;
    memcpy(k->key, key, len);
    memset(k->key + len, 0, 8);
}

/* Copies a key's entry out, KV_ORDER_KEY bytes of room; 0: damage. */
static size_t entry_key(const view *v, int i, unsigned char *out)
{
    int from, to;

    if (i < 0 || i >= v->entries || !entry(v, i, &from, &to) || v->plen + to - from > KV_ORDER_KEY)
        return 0;
    memcpy(out, v->prefix, (size_t)v->plen);
    memcpy(out + v->plen, v->data + from, (size_t)(to - from));
    return (size_t)(v->plen + to - from);
}

/* The node of a child word, as the writer sees it: no one else changes it. NULL: damage. */
static uint64_t *child_node(kv_region *r, uint64_t word, view *v)
{
    uint64_t *node;

    node = kv_region_node(r, KV_NODES, (uint32_t)word - 1, KV_NODES_FIRST, KV_NODES_SIZE);
    if (!node || node[0] != word >> 32 || !view_node(node, v))
        return NULL;
    return node;
}

/* ---- the writer's way down ---- */

static int descend(op *o, const probe *k, int *pos, int *equal)
{
    uint64_t word = o->r->head->order[KV_ORDER_ROOT];
    int level = -1;

    for (;;) {
        step *s = &o->path[o->depth];
        int i;

        s->id = (uint32_t)word - 1;
        s->node = kv_region_node(o->r, KV_NODES, s->id, KV_NODES_FIRST, KV_NODES_SIZE);
        if (!s->node)
            return damaged("a link leads nowhere");
        /* Of a leaf all will be copied, of other nodes a search sees little. */
        for (i = 64; i < (level == 1 ? CAP : 128); i += 64)
            kv_prefetch((char *)s->node + i);
        if (s->node[0] != word >> 32 || !view_node(s->node, &s->v))
            return damaged("not a node");
        if (level >= 0 && s->v.level != level - 1)
            return damaged("a node of the wrong level");
        level = s->v.level; /* below KV_ORDER_DEPTH and falling: the path holds it */
        o->depth++;
        if (!search(&s->v, k, level > 0, &s->index, equal))
            return damaged("an entry out of bounds");
        if (level == 0) {
            *pos = s->index;
            return KV_OK;
        }
        word = s->v.child[s->index];
    }
}

/* ---- taking and freeing nodes ---- */

static uint64_t link_addr(uint64_t id_1)
{
    return kv_region_addr(KV_NODES, (uint32_t)id_1 - 1) | 8;
}

/* Nodes this transaction has freed so far. They are the youngest of the queue and must stay as they
 * are, for an undo links them again. Each freeing journals one link, or the head of an empty queue.
 */
static uint64_t freed_before(const kv_region *r)
{
    const uint64_t head = KV_HEAD_ADDR + offsetof(kv_head, order) + 8 * KV_ORDER_FREE_HEAD;
    const uint64_t space_mask = (uint64_t)0xffff << 48 | 0xffff;
    const uint64_t link = link_addr(1) & space_mask;
    uint64_t i, n = 0;

    for (i = 0; i < r->head->journal.count; i++) {
        const kv_journal_entry *e = &r->head->journal.entry[i];

        n += (e->addr & space_mask) == link || (e->addr == head && e->old == 0);
    }
    return n;
}

static void begin(op *o, kv_region *r)
{
    const uint64_t *w = r->head->order;
    uint64_t kept;

    o->r = r;
    o->depth = 0;
    o->freed_count = 0;
    o->head = w[KV_ORDER_FREE_HEAD];
    o->tail = w[KV_ORDER_FREE_TAIL];
    o->count = w[KV_ORDER_FREE_COUNT];
    o->used = r->head->used[KV_NODES];
    o->rest = o->used / 8 < FREE_MIN ? FREE_MIN : o->used / 8 > FREE_MAX ? FREE_MAX : o->used / 8;
    kept = freed_before(r) + 1; /* one always stays: head and tail then change on their own */
    o->may_take = o->count > kept ? o->count - kept : 0;
    if (o->head)
        kv_prefetch(
            kv_region_node(r, KV_NODES, (uint32_t)o->head - 1, KV_NODES_FIRST, KV_NODES_SIZE));
}

/* What a reader may be copying at the same time; it throws the copy away. */
static void put_words(uint64_t *to, const uint64_t *from, size_t n)
{
#ifdef KV_ORDER_ATOMIC
    size_t i;

    for (i = 0; i < n; i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
#else
    kv_store_bytes(to, from, 8 * n);
#endif
}

/* Writes a node that nobody reaches yet; words 0 and 1 of buf are not looked at. Sets *word to its
 * child word. Nothing counts before finish(): until then a fresh node is not used, and one from the
 * queue still lies in it, its link intact. */
static int write_node(op *o, const uint64_t *buf, int size, uint64_t *word)
{
    int rested = o->may_take > 0 && o->count > o->rest;
    int fresh = !rested && o->used < kv_load_relaxed(&o->r->limit[KV_NODES]);
    uint64_t id_1, *node, generation;

    if (!fresh && o->may_take == 0)
        return kv_fail(KV_EFULL, "no room for a node of the key order");
    id_1 = fresh ? o->used + 1 : o->head;
    node = kv_region_node(o->r, KV_NODES, (uint32_t)id_1 - 1, KV_NODES_FIRST, KV_NODES_SIZE);
    if (!node || id_1 == 0)
        return damaged("the queue of free nodes");
    if (fresh) {
        o->used++;
    } else {
        o->head = node[1];
        o->count--;
        o->may_take--;
    }
    /* Whoever still reads the node's former content must find the generation grown as soon as a
     * byte of it has changed. */
    generation = (node[0] + 1) & 0xffffffff;
    kv_store(&node[0], generation);
    kv_fence_release();
    put_words(node + 2, buf + 2, (size_t)(size + 7) / 8 - 2);
    *word = generation << 32 | id_1;
    return KV_OK;
}

static int set_free(op *o, uint32_t id)
{
    if (o->freed_count == MAX_FREED)
        return damaged("too deep");
    o->freed[o->freed_count++] = id;
    return KV_OK;
}

static void set_word(op *o, int word, uint64_t value)
{
    uint64_t *w = &o->r->head->order[word];

    if (*w != value)
        kv_txn_set(o->r, kv_head_place(o->r), w, value);
}

/* All that an operation changes for others. */
static int finish(op *o, uint64_t keys)
{
    kv_region *r = o->r;
    int i;

    for (i = 0; i < o->freed_count; i++) {
        uint64_t id_1 = (uint64_t)o->freed[i] + 1;

        if (o->count++ == 0) {
            o->head = id_1;
        } else {
            kv_place tail;

            /* The tail may be damaged; found out before the first change. */
            tail = kv_region_place(r, KV_NODES, (uint32_t)o->tail - 1);
            if (!tail.ptr)
                return damaged("the queue of free nodes");
            kv_txn_set(r, tail, (uint64_t *)(void *)tail.ptr + 1, id_1);
        }
        o->tail = id_1;
    }
    set_word(o, KV_ORDER_FREE_HEAD, o->head);
    set_word(o, KV_ORDER_FREE_TAIL, o->tail);
    set_word(o, KV_ORDER_FREE_COUNT, o->count);
    if (o->used != r->head->used[KV_NODES])
        kv_txn_set(r, kv_head_place(r), &r->head->used[KV_NODES], o->used);
    set_word(o, KV_ORDER_COUNT, keys);
    kv_txn_set(r, o->swing_at, o->swing, o->swing_to);
    return KV_OK;
}

/* Lets the word that leads to path[d] lead to `word`. */
static void swing(op *o, int d, uint64_t word)
{
    if (d == 0) {
        o->swing_at = kv_head_place(o->r);
        o->swing = &o->r->head->order[KV_ORDER_ROOT];
    } else {
        step *s = &o->path[d - 1];

        o->swing_at.ptr = (char *)s->node;
        o->swing_at.addr = kv_region_addr(KV_NODES, s->id);
        o->swing = &s->node[HEAD / 8 + s->index];
    }
    o->swing_to = word;
}

/* ---- rebuilding nodes ---- */

/* Appends a node's entries; 0: damage. */
static int gather(list *l, const view *v)
{
    int i = 0, from, to;

    if (l->n + v->count > MAX_ITEMS)
        return 0;
    if (v->level) {
        memset(&l->it[l->n], 0, sizeof l->it[0]);
        l->it[l->n++].child = v->child[0];
    }
    for (; i < v->entries; i++) {
        item *t = &l->it[l->n++];

        if (!entry(v, i, &from, &to) || v->plen + to - from > KV_ORDER_KEY)
            return 0;
        t->a = v->prefix;
        t->alen = (uint32_t)v->plen;
        t->b = v->data + from;
        t->blen = (uint32_t)(to - from);
        t->child = v->level ? v->child[i + 1] : 0;
    }
    l->level = v->level;
    return 1;
}

static void open_gap(list *l, int at, int old, int fresh)
{
    memmove(&l->it[at + fresh], &l->it[at + old], (size_t)(l->n - at - old) * sizeof l->it[0]);
    l->n += fresh - old;
}

static uint32_t item_key(const item *t, unsigned char *out)
{
    if (t->alen)
        memcpy(out, t->a, t->alen);
    if (t->blen)
        memcpy(out + t->alen, t->b, t->blen);
    return t->alen + t->blen;
}

static int common(const item *x, const item *y)
{
    unsigned char a[KV_ORDER_KEY], b[KV_ORDER_KEY];
    uint32_t alen = item_key(x, a), blen = item_key(y, b), n = 0;

    while (n < alen && n < blen && a[n] == b[n])
        n++;
    return (int)n;
}

static int ascending(const item *x, const item *y)
{
    unsigned char a[KV_ORDER_KEY], b[KV_ORDER_KEY];
    const unsigned char *p = x->b, *q = y->b;
    uint32_t plen = x->blen, qlen = y->blen;
    int c;

    if (x->a != y->a || x->alen != y->alen) {
        plen = item_key(x, a);
        qlen = item_key(y, b);
        p = a;
        q = b;
    }
    /* Mostly a byte decides. */
    if (plen && qlen && *p != *q)
        return *p < *q;
    c = plen && qlen ? memcmp(p, q, plen < qlen ? plen : qlen) : 0;
    return c < 0 || (c == 0 && plen < qlen);
}

/* Readies a list for size() and encode(). Strict order is what makes the common prefix of first and
 * last the common prefix of all, so it is checked, not believed. */
static int settle(list *l)
{
    int i, first = l->level > 0;

    l->sum[0] = 0;
    for (i = 0; i < l->n; i++) {
        l->sum[i + 1] = l->sum[i] + l->it[i].alen + l->it[i].blen;
        if (i > first && !ascending(&l->it[i - 1], &l->it[i]))
            return 0;
    }
    return 1;
}

/* Bytes of a node of the items [i, j). Taking an item from either end never makes it larger. */
static int size(const list *l, int i, int j, int *prefix)
{
    int first = l->level ? i + 1 : i;
    int n = j - first;
    int bytes = HEAD + (l->level ? 8 * (j - i) : 0);

    *prefix = 0;
    if (n == 0)
        return bytes;
    *prefix = common(&l->it[first], &l->it[j - 1]);
    return bytes + 2 * n + (int)(l->sum[j] - l->sum[first]) - (n - 1) * *prefix;
}

static int fits(const list *l, int i, int j, int most)
{
    int prefix;

    return size(l, i, j, &prefix) <= most;
}

static int encode(const list *l, int i, int j, uint64_t *buf)
{
    unsigned char *base = (unsigned char *)buf, *p;
    unsigned char key[KV_ORDER_KEY];
    int first = l->level ? i + 1 : i;
    int prefix, bytes = size(l, i, j, &prefix);
    int at = HEAD, end = 0, t;
    half *ends;

    kv_assert(bytes <= CAP);
    if (l->level)
        for (t = i; t < j; t++, at += 8)
            buf[at / 8] = l->it[t].child;
    ends = (half *)(void *)(base + at);
    p = base + at + 2 * (j - first);
    for (t = first; t < j; t++) {
        const item *x = &l->it[t];
        uint32_t len;

        if (t == first) {
            item_key(x, key);
            memcpy(p, key, (size_t)prefix);
            p += prefix;
        }
        if (x->alen <= (uint32_t)prefix) {
            uint32_t skip = (uint32_t)prefix - x->alen;

            len = x->blen - skip;
            if (len)
                memcpy(p, x->b + skip, len);
        } else {
            len = item_key(x, key) - (uint32_t)prefix;
            memcpy(p, key + prefix, len);
        }
        p += len;
        end += (int)len;
        ends[t - first] = (half)end;
    }
    buf[2] = header(l->level, j - i, prefix, bytes);
    return bytes;
}

enum { SPLIT_EVEN, SPLIT_TAIL, SPLIT_HEAD };

static uint32_t namespace_of(const item *t)
{
    unsigned char key[KV_ORDER_KEY];
    uint32_t ns = 0;

    if (item_key(t, key) >= 4)
        memcpy(&ns, key, 4);
    return ns;
}

/* The cut nearest to the middle (by bytes) with both halves fitting; 0: none. Where a leaf holds
 * several namespaces it is cut between two, so that keys appended to one find the end of a leaf. */
static int halve(const list *l)
{
    int mid = 1, apart = l->level == 0 && namespace_of(&l->it[0]) != namespace_of(&l->it[l->n - 1]);
    int d, side, s;

    while (mid < l->n - 1 && l->sum[mid] + 2 * (uint32_t)mid < l->sum[l->n] / 2 + (uint32_t)l->n)
        mid++;
    for (; apart >= 0; apart--) {
        for (d = 0; d < l->n; d++) {
            for (side = 0; side < 2; side++) {
                s = side ? mid - d : mid + d;
                if (s < 1 || s >= l->n)
                    continue;
                if (apart && namespace_of(&l->it[s - 1]) == namespace_of(&l->it[s]))
                    continue;
                if (fits(l, 0, s, CAP) && fits(l, s, l->n, CAP))
                    return s;
            }
        }
    }
    return 0;
}

/* Cuts a list into runs that fit a node each: run i is [cut[i], cut[i + 1]). Returns their number,
 * 0 for damage. Three do: with [x, y) new in a node that did fit, what is before x and the first
 * new one, or the last new one and what follows, is no more than it was; at most one child lies
 * between. As parts of what fits do fit, filling node after node finds the least number. */
static int partition(const list *l, int how, int cut[MAX_RUNS + 1])
{
    int keep = l->level ? 2 : 1; /* a new inner node starts with two children */
    int s = 0, runs = 0;

    cut[0] = 0;
    cut[1] = l->n;
    if (fits(l, 0, l->n, CAP))
        return 1;
    if (l->n > 2 * keep && how == SPLIT_TAIL)
        s = l->n - keep;
    if (l->n > 2 * keep && how == SPLIT_HEAD)
        s = keep;
    if (s == 0 || !fits(l, 0, s, CAP) || !fits(l, s, l->n, CAP))
        s = halve(l);
    if (s) {
        cut[1] = s;
        cut[2] = l->n;
        return 2;
    }
    for (s = 0; s < l->n; cut[++runs] = s) {
        int from = s;

        if (runs == MAX_RUNS)
            return 0;
        while (s < l->n && fits(l, from, s + 1, CAP))
            s++;
        if (s == from)
            return 0;
    }
    return runs;
}

/* Joins a node that has become small, whose entries l holds and which is path[d], with a neighbour
 * under the same parent, if they fill less than three quarters of a node. Sets the children that l
 * then replaces. */
static int merge(op *o, list *l, int d, int *from, int *replaced)
{
    list both;
    const step *up;
    int side, prefix, mine, rc;

    if (d == 0 || l->n == 0)
        return KV_OK;
    mine = size(l, 0, l->n, &prefix);
    if (mine >= CAP / 4)
        return KV_OK;
    up = &o->path[d - 1];
    for (side = -1; side <= 1; side += 2) {
        int left = side < 0 ? up->index - 1 : up->index; /* its separator lies between */
        int at, f, t;
        view v;

        if (left < 0 || left >= up->v.entries)
            continue;
        if (!child_node(o->r, up->v.child[up->index + side], &v) || v.level != l->level)
            return damaged("not a node");
        if (mine + v.size - HEAD - v.plen > CAP * 3 / 4)
            continue;
        both.n = 0;
        both.level = l->level;
        if (side < 0 && !gather(&both, &v))
            return damaged("an entry out of bounds");
        at = side < 0 ? both.n : l->n;
        memcpy(&both.it[both.n], l->it, (size_t)l->n * sizeof l->it[0]);
        both.n += l->n;
        if (side > 0 && !gather(&both, &v))
            return damaged("an entry out of bounds");
        if (l->level) {
            item *x = &both.it[at];

            if (!entry(&up->v, left, &f, &t) || up->v.plen + t - f > KV_ORDER_KEY)
                return damaged("an entry out of bounds");
            x->a = up->v.prefix;
            x->alen = (uint32_t)up->v.plen;
            x->b = up->v.data + f;
            x->blen = (uint32_t)(t - f);
        }
        if (!settle(&both))
            return damaged("keys out of order");
        if (!fits(&both, 0, both.n, CAP * 3 / 4))
            continue;
        rc = set_free(o, (uint32_t)up->v.child[up->index + side] - 1);
        memcpy(l, &both, sizeof *l);
        *from = left;
        *replaced = 2;
        return rc;
    }
    return KV_OK;
}

/* Makes the only child of a root the root, as often as that is the case. */
static int collapse(op *o, uint64_t word)
{
    view v;

    for (;;) {
        if (!child_node(o->r, word, &v))
            return damaged("not a node");
        if (v.level == 0 || v.count > 1)
            break;
        if (set_free(o, (uint32_t)word - 1) != KV_OK)
            return KV_ECORRUPT;
        word = v.child[0];
    }
    swing(o, 0, word);
    return KV_OK;
}

/* Writes nodes for the runs of l. Items of the level above: the first keeps the separator that is
 * there; those of the others are built in seps. */
static int write_runs(op *o, const list *l, int how, item out[MAX_RUNS],
                      unsigned char seps[MAX_RUNS][KV_ORDER_KEY], int *runs)
{
    uint64_t buf[WORDS];
    int cut[MAX_RUNS + 1];
    int i, rc, bytes;

    *runs = l->n ? partition(l, how, cut) : 0;
    if (l->n && *runs == 0)
        return damaged("a node that cannot be cut");
    memset(out, 0, MAX_RUNS * sizeof out[0]);
    for (i = 0; i < *runs; i++) {
        bytes = encode(l, cut[i], cut[i + 1], buf);
        rc = write_node(o, buf, bytes, &out[i].child);
        if (rc != KV_OK)
            return rc;
        if (i == 0)
            continue;
        out[i].a = seps[i];
        out[i].alen = item_key(&l->it[cut[i]], seps[i]);
        /* Of two neighbouring leaves the shortest key that is above the left one's: any works, and
         * no reader knew one here. */
        if (l->level == 0)
            out[i].alen = (uint32_t)common(&l->it[cut[i] - 1], &l->it[cut[i]]) + 1;
    }
    return KV_OK;
}

/* Replaces path[d] by nodes for l, whose entries are sound, going up as far as needed. */
static int rebuild(op *o, list *l, int how)
{
    unsigned char seps[2][MAX_RUNS][KV_ORDER_KEY]; /* of the level being read, and written */
    item out[MAX_RUNS];
    int d = o->depth - 1, turn = 0, runs, rc;

    for (;; turn ^= 1) {
        int from = d > 0 ? o->path[d - 1].index : 0, replaced = 1;

        if (!settle(l))
            return damaged("keys out of order");
        if (o->depth) {
            rc = set_free(o, o->path[d].id);
            if (rc != KV_OK)
                return rc;
            if (d == 0 && l->level && l->n == 1)
                return collapse(o, l->it[0].child);
            rc = merge(o, l, d, &from, &replaced);
            if (rc != KV_OK)
                return rc;
        }
        rc = write_runs(o, l, how, out, seps[turn], &runs);
        if (rc != KV_OK)
            return rc;
        if (d <= 0)
            break;
        if (runs == 1 && replaced == 1) {
            swing(o, d, out[0].child);
            return KV_OK;
        }
        d--;
        l->n = 0;
        if (!gather(l, &o->path[d].v))
            return damaged("an entry out of bounds");
        how = SPLIT_EVEN;
        if (from + replaced == l->n)
            how = SPLIT_TAIL;
        else if (from == 0)
            how = SPLIT_HEAD;
        if (runs) {
            out[0].a = l->it[from].a;
            out[0].alen = l->it[from].alen;
            out[0].b = l->it[from].b;
            out[0].blen = l->it[from].blen;
        }
        open_gap(l, from, replaced, runs);
        memcpy(&l->it[from], out, (size_t)runs * sizeof out[0]);
    }
    /* The root was replaced: by nothing, by a node, or by several below a new root. */
    while (runs > 1) {
        if (l->level + 1 >= KV_ORDER_DEPTH)
            return damaged("too deep");
        l->level++;
        l->n = runs;
        memcpy(l->it, out, (size_t)runs * sizeof out[0]);
        if (!settle(l))
            return damaged("keys out of order");
        turn ^= 1;
        rc = write_runs(o, l, SPLIT_EVEN, out, seps[turn], &runs);
        if (rc != KV_OK)
            return rc;
    }
    swing(o, 0, runs ? out[0].child : 0);
    return KV_OK;
}

/* Out of line: the lists are large, and most operations need none. */
static KV_NOINLINE int rebuild_with(op *o, const probe *k, int pos)
{
    list l;

    l.n = l.level = 0;
    if (o->depth && !gather(&l, &o->path[o->depth - 1].v))
        return damaged("an entry out of bounds");
    open_gap(&l, pos, 0, 1);
    memset(&l.it[pos], 0, sizeof l.it[pos]);
    l.it[pos].a = k->key;
    l.it[pos].alen = (uint32_t)k->len;
    return rebuild(o, &l, pos == l.n - 1 ? SPLIT_TAIL : pos == 0 ? SPLIT_HEAD : SPLIT_EVEN);
}

static KV_NOINLINE int rebuild_without(op *o, int pos)
{
    list l;

    l.n = 0;
    if (!gather(&l, &o->path[o->depth - 1].v))
        return damaged("an entry out of bounds");
    open_gap(&l, pos, 1, 0);
    return rebuild(o, &l, SPLIT_EVEN);
}

/* ---- the quick way: a copy of a leaf with one entry more or less ---- */

/* Eight at a time. */
static void copy_ends(half *to, const half *from, int n, int add)
{
    eight_halves w;

    for (; n >= 8; n -= 8, to += 8, from += 8) {
        memcpy(&w, from, sizeof w);
        w += (half)add;
        memcpy(to, &w, sizeof w);
    }
    for (; n > 0; n--)
        *to++ = (half)(*from++ + add);
}

/* 0: does not fit as it is. */
static int copy_with(const view *v, const probe *k, int pos, uint64_t *buf)
{
    unsigned char *p = (unsigned char *)buf + HEAD;
    int n = v->count, len = (int)k->len - v->plen;
    int from = pos ? v->end[pos - 1] : 0;
    int bytes = v->size + 2 + len;

    if (len < 0 || bytes > CAP || from > v->dlen || v->end[n - 1] != v->dlen ||
        beside_prefix(v, k) != 0)
        return 0;
    copy_ends((half *)(void *)p, v->end, pos, 0);
    ((half *)(void *)p)[pos] = (half)(from + len);
    copy_ends((half *)(void *)p + pos + 1, v->end + pos, n - pos, len);
    p += 2 * (n + 1);
    memcpy(p, v->prefix, (size_t)(v->plen + from));
    p += v->plen + from;
    memcpy(p, k->key + v->plen, (size_t)len);
    memcpy(p + len, v->data + from, (size_t)(v->dlen - from));
    buf[2] = header(0, n + 1, v->plen, bytes);
    return bytes;
}

/* 0: nothing or too little is left, or it is damaged. */
static int copy_without(const view *v, int pos, int least, uint64_t *buf)
{
    unsigned char *p = (unsigned char *)buf + HEAD;
    int n = v->count, from, to, bytes;

    if (n == 1 || !entry(v, pos, &from, &to) || v->end[n - 1] != v->dlen)
        return 0;
    bytes = v->size - 2 - (to - from);
    if (bytes < least)
        return 0;
    copy_ends((half *)(void *)p, v->end, pos, 0);
    copy_ends((half *)(void *)p + pos, v->end + pos + 1, n - pos - 1, from - to);
    p += 2 * (n - 1);
    memcpy(p, v->prefix, (size_t)(v->plen + from));
    memcpy(p + v->plen + from, v->data + to, (size_t)(v->dlen - to));
    buf[2] = header(0, n - 1, v->plen, bytes);
    return bytes;
}

static int replace_leaf(op *o, const uint64_t *buf, int bytes)
{
    uint64_t word;
    int rc = write_node(o, buf, bytes, &word);

    if (rc == KV_OK)
        rc = set_free(o, o->path[o->depth - 1].id);
    swing(o, o->depth - 1, word);
    return rc;
}

/* ---- public ---- */

void kv_order_init(kv_region *r)
{
    int i;

    for (i = 0; i < KV_ORDER_WORDS; i++)
        kv_store(&r->head->order[i], 0);
}

/* Three nodes a level, three of new roots: see partition(). What lies in the queue serves too. */
uint64_t kv_order_room(const kv_region *r, unsigned operations)
{
    uint64_t root = kv_load_relaxed(&r->head->order[KV_ORDER_ROOT]);
    uint64_t have = kv_load_relaxed(&r->head->order[KV_ORDER_FREE_COUNT]);
    uint64_t need = 3, kept;
    view v;

    if (root)
        need += child_node((kv_region *)r, root, &v) ? 3 * ((uint64_t)v.level + 1)
                                                     : 3 * (uint64_t)KV_ORDER_DEPTH;
    need *= operations;
    kept = freed_before(r) + 1;
    have = have > kept ? have - kept : 0;
    return need > have ? need - have : 0;
}

int kv_order_insert(kv_region *r, const void *key, size_t len)
{
    uint64_t buf[WORDS];
    int rc = KV_OK, pos = 0, equal = 0, bytes = 0;
    probe k;
    op o;

    if (len == 0 || len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    probe_set(&k, key, len);
    begin(&o, r);
    if (r->head->order[KV_ORDER_ROOT]) {
        rc = descend(&o, &k, &pos, &equal);
        if (rc != KV_OK)
            return rc;
        if (equal)
            return KV_EEXISTS;
        bytes = copy_with(&o.path[o.depth - 1].v, &k, pos, buf);
    }
    rc = bytes ? replace_leaf(&o, buf, bytes) : rebuild_with(&o, &k, pos);
    return rc == KV_OK ? finish(&o, r->head->order[KV_ORDER_COUNT] + 1) : rc;
}

int kv_order_remove(kv_region *r, const void *key, size_t len)
{
    uint64_t buf[WORDS];
    int rc, pos, equal, bytes;
    probe k;
    op o;

    if (len == 0 || len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    if (!r->head->order[KV_ORDER_ROOT])
        return KV_ENOTFOUND;
    probe_set(&k, key, len);
    begin(&o, r);
    rc = descend(&o, &k, &pos, &equal);
    if (rc != KV_OK)
        return rc;
    if (!equal)
        return KV_ENOTFOUND;
    bytes = copy_without(&o.path[o.depth - 1].v, pos, o.depth > 1 ? CAP / 4 : 0, buf);
    rc = bytes ? replace_leaf(&o, buf, bytes) : rebuild_without(&o, pos);
    return rc == KV_OK ? finish(&o, r->head->order[KV_ORDER_COUNT] - 1) : rc;
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

/* Copies what a child word leads to. 1: it is that; 0: it was reused; -1: damage. The size read
 * first may be torn; it only bounds the copy. */
static int copy_node(kv_region *r, uint64_t word, uint64_t *to)
{
    const uint64_t *node;
    uint32_t i, words;

    node = kv_region_node(r, KV_NODES, (uint32_t)word - 1, KV_NODES_FIRST, KV_NODES_SIZE);
    if (!node)
        return -1;
    for (i = 64; i < (uint32_t)CAP; i += 64)
        kv_prefetch((const char *)node + i);
    to[0] = kv_load(&node[0]);
    if (to[0] != word >> 32)
        return 0;
    to[1] = 0;
    to[2] = kv_load_relaxed(&node[2]);
    words = ((uint32_t)(to[2] >> 32 & 0xffff) + 7) / 8;
    if (words > WORDS)
        words = WORDS;
    if (words > 3)
        take_words(to + 3, node + 3, words - 3);
    kv_fence_acquire();
    return kv_load_relaxed(&node[0]) == to[0];
}

/* Takes the bounds of child i from an inner node. */
static int narrow(kv_leaf *leaf, const view *v, int i)
{
    if (i > 0) {
        leaf->has_lower = 1;
        leaf->lower_len = (uint32_t)entry_key(v, i - 1, leaf->lower);
        if (leaf->lower_len == 0)
            return 0;
    }
    if (i < v->entries) {
        leaf->has_upper = 1;
        leaf->upper_len = (uint32_t)entry_key(v, i, leaf->upper);
        if (leaf->upper_len == 0)
            return 0;
    }
    return 1;
}

/* One walk from the root. 1: leaf is filled; 0: *word was reused; -1: damage. */
static int walk(kv_region *r, const probe *k, int before, kv_leaf *leaf, uint64_t *word)
{
    int level = -1, got, i, equal;
    view v;

    leaf->count = leaf->has_lower = leaf->has_upper = 0;
    *word = kv_load(&r->head->order[KV_ORDER_ROOT]);
    if (*word == 0)
        return 1;
    for (;;) {
        got = copy_node(r, *word, leaf->node);
        if (got != 1)
            return got;
        if (!view_node(leaf->node, &v) || (level >= 0 && v.level != level - 1))
            return -1;
        level = v.level;
        if (level == 0) {
            leaf->count = v.count;
            return 1;
        }
        i = v.entries;
        if (k && !search(&v, k, !before, &i, &equal))
            return -1;
        if (!narrow(leaf, &v, i))
            return -1;
        *word = v.child[i];
    }
}

int kv_order_read(kv_region *r, const void *key, size_t len, int before, kv_leaf *leaf)
{
    uint64_t word, stale = 0;
    int got, tries;
    probe k;

    if (len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    if (!key && !before)
        len = 0;
    if (key || !before)
        probe_set(&k, key ? key : "", len);
    for (tries = 0; tries < MAX_RETRIES; tries++) {
        got = walk(r, key || !before ? &k : NULL, before, leaf, &word);
        if (got > 0)
            return KV_OK;
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
    probe k;
    view v;

    if (leaf->count == 0 || len > KV_ORDER_KEY)
        return leaf->count;
    probe_set(&k, key, len);
    if (!view_node(leaf->node, &v) || !search(&v, &k, 0, &pos, &equal))
        return leaf->count;
    return pos;
}

size_t kv_leaf_key(const kv_leaf *leaf, int i, unsigned char *out)
{
    view v;

    if (leaf->count == 0 || !view_node(leaf->node, &v))
        return 0;
    return entry_key(&v, i, out);
}

/* ---- verification ---- */

typedef struct bound {
    const unsigned char *key; /* NULL: none */
    size_t len;
} bound;

static int compare(const unsigned char *a, size_t alen, const unsigned char *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c ? c : (alen > blen) - (alen < blen);
}

/* Counts keys and nodes below a word. */
static int check_node(kv_region *r, uint64_t word, int level, bound lower, bound upper,
                      uint64_t *keys, uint64_t *nodes)
{
    unsigned char key[2][KV_ORDER_KEY];
    bound b[2];
    size_t len = 0;
    int i, turn = 0, rc;
    view v;

    if (!child_node(r, word, &v))
        return damaged("not a node");
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
        len = entry_key(&v, i, key[turn]);
        if (len == 0)
            return damaged("an entry out of bounds");
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
    view v;
    int i;

    if ((uint32_t)word - 1 == id)
        return 1;
    if (child_node(r, word, &v) && v.level)
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
    probe k;
    size_t len;
    int i, equal;
    view v;

    if (word == 0 || !view_node(node, &v))
        return 0; /* every node of the tree can be viewed */
    if (v.entries == 0)
        return below(r, word, id);
    len = entry_key(&v, 0, key);
    if (len == 0)
        return 0;
    probe_set(&k, key, len);
    for (;;) {
        if ((uint32_t)word - 1 == id)
            return 1;
        if (!child_node(r, word, &v) || v.level == 0 || !search(&v, &k, 1, &i, &equal))
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
