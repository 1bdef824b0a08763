/* SPDX-License-Identifier: MIT
 *
 * order.c - changing the B+tree of keys: leaves that log what comes and goes, nodes replaced by
 * copies, child words swung, nodes reused late. order_node.h has a node's layout, order_read.c
 * reads without a lock.
 *
 * Invariant: what a child word leads to is complete and never edited but in its own child words and
 * in the log of a leaf; its generation is the word's until it is reused, and a reused node's
 * generation grows before its first byte changes. An operation writes free nodes and behind the end
 * of a log only, then changes the shared words, journaled.
 */
#include "order_list.h"

#define MAX_FREED (4 * KV_ORDER_DEPTH)

/* Free nodes left to rest, so that few readers start again. Not more: what is reused should still
 * be in the second-level cache (256 instead of 64 made random insertion 15 % slower). */
#define FREE_MIN 16u
#define FREE_MAX 64u

KV_STATIC_ASSERT(KV_ORDER_FREE_COUNT < KV_ORDER_WORDS, words);

typedef struct step {
    uint64_t *node;
    uint32_t id;
    int index; /* of the child taken, or where a leaf's own keys stop being smaller */
    kv_view v;
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
    uint64_t leaf[KV_NODE_WORDS]; /* path's leaf with its log merged */
    uint64_t side[KV_NODE_WORDS]; /* a neighbour's */
} op;

static int damaged(const char *what)
{
    return kv_fail(KV_ECORRUPT, "the index's key order is damaged: %s", what);
}

/* ---- the writer's way down ---- */

/* A search sees many lines of a node, one after the other. */
static void fetch_node(const uint64_t *node)
{
    int i;

    for (i = 0; i < KV_NODE_CAP; i += 64)
        kv_prefetch((const char *)node + i);
}

static int descend(op *o, const kv_probe *k, int *pos, int *equal)
{
    uint64_t word = o->r->head->order[KV_ORDER_ROOT];
    int level = -1;
    step *s;

    for (;;) {
        s = &o->path[o->depth];
        s->id = (uint32_t)word - 1;
        s->node = kv_region_node(o->r, KV_NODES, s->id, KV_NODES_FIRST, KV_NODES_SIZE);
        if (!s->node)
            return damaged("a link leads nowhere");
        kv_prefetch((char *)s->node + 64);
        if (level == 1)
            fetch_node(s->node);
        if (s->node[0] != word >> 32 || !kv_node_view(s->node, &s->v))
            return damaged("not a node");
        if (level >= 0 && s->v.level != level - 1)
            return damaged("a node of the wrong level");
        level = s->v.level; /* below KV_ORDER_DEPTH and falling: the path holds it */
        o->depth++;
        if (level == 0)
            break;
        s->index = kv_node_way(&s->v, k, 0);
        if (s->index < 0)
            return damaged("an entry out of bounds");
        word = s->v.child[s->index];
    }
    if (!kv_node_search(&s->v, k, &s->index, equal))
        return damaged("an entry out of bounds");
    *pos = s->index;
    return KV_OK;
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
    uint64_t i, addr, n = 0;

    /* The helper asks without the writer lock, for an estimate. */
    for (i = 0; i < kv_load_relaxed(&r->head->journal.count); i++) {
        const kv_journal_entry *e = &r->head->journal.entry[i];

        addr = kv_load_relaxed(&e->addr);
        n += (addr & space_mask) == link || (addr == head && kv_load_relaxed(&e->old) == 0);
    }
    return n;
}

static void begin(op *o, kv_region *r)
{
    o->r = r;
    o->depth = 0;
}

/* The queue as it is, before nodes are taken from it or added. */
static void take_queue(op *o)
{
    kv_region *r = o->r;
    const uint64_t *w = r->head->order;
    uint64_t kept;

    o->freed_count = 0;
    o->head = w[KV_ORDER_FREE_HEAD];
    o->tail = w[KV_ORDER_FREE_TAIL];
    o->count = w[KV_ORDER_FREE_COUNT];
    o->used = r->head->used[KV_NODES];
    o->rest = o->used / 8 < FREE_MIN ? FREE_MIN : o->used / 8 > FREE_MAX ? FREE_MAX : o->used / 8;
    kept = freed_before(r) + 1; /* one always stays: head and tail then change on their own */
    if (KV_IS_BUG(32))
        kept = o->rest = 0;
    o->may_take = o->count > kept ? o->count - kept : 0;
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
    generation = (node[0] + !KV_IS_BUG(33)) & 0xffffffff;
    kv_store(&node[0], generation);
    kv_fence_release();
    if (!fresh)
        KV_PAUSE("order: node to be reused");
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
    r->freed += (uint64_t)o->freed_count;
    set_word(o, KV_ORDER_FREE_HEAD, o->head);
    set_word(o, KV_ORDER_FREE_TAIL, o->tail);
    set_word(o, KV_ORDER_FREE_COUNT, o->count);
    if (o->used != r->head->used[KV_NODES])
        kv_txn_set(r, kv_head_place(r), &r->head->used[KV_NODES], o->used);
    set_word(o, KV_ORDER_COUNT, keys);
    KV_PAUSE("order: to be swung");
    kv_txn_set(r, o->swing_at, o->swing, o->swing_to);
    KV_PAUSE("order: swung");
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
        o->swing = &s->node[KV_NODE_HEAD / 8 + s->index];
    }
    o->swing_to = word;
}

/* ---- rebuilding nodes ---- */

/* Joins a node that has become small, whose entries l holds and which is path[d], with a neighbour
 * under the same parent, if they fill less than three quarters of a node. Sets the children that l
 * then replaces. */
static int merge(op *o, kv_list *l, int d, int *from, int *replaced)
{
    kv_list both;
    const step *up;
    int side, prefix, mine, rc;

    if (d == 0 || l->n == 0)
        return KV_OK;
    mine = kv_list_size(l, 0, l->n, &prefix);
    if (mine >= KV_NODE_CAP / 4)
        return KV_OK;
    up = &o->path[d - 1];
    for (side = -1; side <= 1; side += 2) {
        int left = side < 0 ? up->index - 1 : up->index; /* its separator lies between */
        int at, f, t;
        kv_view v;

        if (left < 0 || left >= up->v.entries)
            continue;
        if (!kv_node_child(o->r, up->v.child[up->index + side], &v) || v.level != l->level)
            return damaged("not a node");
        if (v.logged && (!kv_leaf_merge(&v, o->side) || !kv_node_view(o->side, &v)))
            return damaged("a leaf's log");
        if (mine + v.size - KV_NODE_HEAD - v.plen > KV_NODE_CAP * 3 / 4)
            continue;
        both.n = 0;
        both.level = l->level;
        if (side < 0 && !kv_list_gather(&both, &v))
            return damaged("an entry out of bounds");
        at = side < 0 ? both.n : l->n;
        memcpy(&both.it[both.n], l->it, (size_t)l->n * sizeof l->it[0]);
        both.n += l->n;
        if (side > 0 && !kv_list_gather(&both, &v))
            return damaged("an entry out of bounds");
        if (l->level) {
            kv_list_item *x = &both.it[at];

            if (!kv_node_entry(&up->v, left, &f, &t) || up->v.plen + t - f > KV_ORDER_KEY)
                return damaged("an entry out of bounds");
            x->a = up->v.prefix;
            x->alen = (uint32_t)up->v.plen;
            x->b = up->v.data + f;
            x->blen = (uint32_t)(t - f);
        }
        if (!kv_list_settle(&both))
            return damaged("keys out of order");
        if (!kv_list_fits(&both, 0, both.n, KV_NODE_CAP * 3 / 4))
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
    kv_view v;

    for (;;) {
        if (!kv_node_child(o->r, word, &v))
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
static int write_runs(op *o, const kv_list *l, int how, kv_list_item out[KV_LIST_RUNS],
                      unsigned char seps[KV_LIST_RUNS][KV_ORDER_KEY], int *runs)
{
    uint64_t buf[KV_NODE_WORDS];
    int cut[KV_LIST_RUNS + 1];
    int i, rc, bytes;

    *runs = l->n ? kv_list_partition(l, how, cut) : 0;
    if (l->n && *runs == 0)
        return damaged("a node that cannot be cut");
    memset(out, 0, KV_LIST_RUNS * sizeof out[0]);
    for (i = 0; i < *runs; i++) {
        bytes = kv_list_encode(l, cut[i], cut[i + 1], buf);
        rc = write_node(o, buf, bytes, &out[i].child);
        if (rc != KV_OK)
            return rc;
        if (i == 0)
            continue;
        out[i].a = seps[i];
        out[i].alen = kv_list_key(&l->it[cut[i]], seps[i]);
        /* Of two neighbouring leaves the shortest key that is above the left one's: any works, and
         * no reader knew one here. */
        if (l->level == 0)
            out[i].alen = (uint32_t)kv_list_common(&l->it[cut[i] - 1], &l->it[cut[i]]) + 1;
    }
    return KV_OK;
}

/* Replaces path[d] by nodes for l, whose entries are sound, going up as far as needed. */
static int rebuild(op *o, kv_list *l, int how)
{
    unsigned char seps[2][KV_LIST_RUNS][KV_ORDER_KEY]; /* of the level being read, and written */
    kv_list_item out[KV_LIST_RUNS];
    int d = o->depth - 1, turn = 0, runs, rc;

    for (;; turn ^= 1) {
        int from = d > 0 ? o->path[d - 1].index : 0, replaced = 1;

        if (!kv_list_settle(l))
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
        if (!kv_list_gather(l, &o->path[d].v))
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
        kv_list_open_gap(l, from, replaced, runs);
        memcpy(&l->it[from], out, (size_t)runs * sizeof out[0]);
    }
    /* The root was replaced: by nothing, by a node, or by several below a new root. */
    while (runs > 1) {
        if (l->level + 1 >= KV_ORDER_DEPTH)
            return damaged("too deep");
        l->level++;
        l->n = runs;
        memcpy(l->it, out, (size_t)runs * sizeof out[0]);
        if (!kv_list_settle(l))
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
static KV_NOINLINE int rebuild_with(op *o, const kv_probe *k, int pos)
{
    kv_list l;

    l.n = l.level = 0;
    if (o->depth && !kv_list_gather(&l, &o->path[o->depth - 1].v))
        return damaged("an entry out of bounds");
    kv_list_open_gap(&l, pos, 0, 1);
    memset(&l.it[pos], 0, sizeof l.it[pos]);
    l.it[pos].a = k->key;
    l.it[pos].alen = (uint32_t)k->len;
    return rebuild(o, &l, pos == l.n - 1 ? SPLIT_TAIL : pos == 0 ? SPLIT_HEAD : SPLIT_EVEN);
}

/* The path's leaf, which has become small; left: it has keys at all. */
static KV_NOINLINE int rebuild_small(op *o, int left)
{
    kv_list l;

    l.n = l.level = 0;
    if (left && !kv_list_gather(&l, &o->path[o->depth - 1].v))
        return damaged("an entry out of bounds");
    return rebuild(o, &l, SPLIT_EVEN);
}

/* ---- the quickest way: more entries in the log of a leaf ---- */

/* Bytes behind the end of a log, beside others that a reader may be copying. */
static void put_bytes(char *node, int off, const unsigned char *from, int n)
{
#ifdef KV_ORDER_ATOMIC
    uint64_t *w = (uint64_t *)(void *)node;
    int i;

    for (i = off / 8; i <= (off + n - 1) / 8; i++) {
        uint64_t v = kv_load_relaxed(&w[i]);
        int b = i * 8 < off ? off - i * 8 : 0, e = off + n - i * 8 < 8 ? off + n - i * 8 : 8;

        memcpy((char *)&v + b, from + i * 8 + b - off, (size_t)(e - b));
        __atomic_store_n(&w[i], v, __ATOMIC_RELAXED);
    }
#else
    kv_store_bytes(node + off, from, (size_t)n);
#endif
}

/* Whether the log of the path's leaf has room for so many entries. */
static inline int loggable(const op *o, int entries, int bytes)
{
    const kv_view *v = &o->path[o->depth - 1].v;

    return v->logged + entries <= KV_LEAF_LOG && v->size + v->log_bytes + bytes <= KV_NODE_CAP;
}

/* There is room. One store makes them all count. */
static void log_entries(op *o, const unsigned char *e, int entries, int bytes, uint64_t keys)
{
    step *s = &o->path[o->depth - 1];
    kv_place at;

    put_bytes((char *)s->node, s->v.size + s->v.log_bytes, e, bytes);
    KV_PAUSE("order: entry to be counted");
    kv_txn_set(o->r, kv_head_place(o->r), &o->r->head->order[KV_ORDER_COUNT], keys);
    at.ptr = (char *)s->node;
    at.addr = kv_region_addr(KV_NODES, s->id);
    kv_txn_set_low(o->r, at, &s->node[KV_NODE_LOG],
                   s->node[KV_NODE_LOG] + ((uint64_t)entries << 16) + (uint64_t)bytes);
}

/* 0: there is no room for it. */
static int log_key(op *o, const kv_probe *k, int pos, uint64_t keys)
{
    const kv_view *v = &o->path[o->depth - 1].v;
    unsigned char e[KV_LEAF_ENTRY + KV_ORDER_KEY];
    int bytes = KV_LEAF_ENTRY + (int)k->len - v->plen;

    if (!loggable(o, 1, bytes))
        return 0;
    kv_leaf_entry(v, k, pos, 0, e);
    log_entries(o, e, 1, bytes, keys);
    return 1;
}

/* Lets the path end in the leaf with its log merged, and looks for the key in that. */
static int merge_log(op *o, const kv_probe *k, int *pos, int *equal)
{
    step *s = &o->path[o->depth - 1];

    if (s->v.logged == 0)
        return KV_OK;
    if (!kv_leaf_merge(&s->v, o->leaf) || !kv_node_view(o->leaf, &s->v) ||
        !kv_node_search(&s->v, k, pos, equal))
        return damaged("a leaf's log");
    return KV_OK;
}

/* ---- the quick way: a copy of a leaf ---- */

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

/* Three nodes a level, three of new roots: see kv_list_partition(). What lies in the queue serves
 * too. Each write asks: of the root it looks at the level alone. */
uint64_t kv_order_room(const kv_region *r, unsigned operations)
{
    uint64_t root = kv_load_relaxed(&r->head->order[KV_ORDER_ROOT]);
    uint64_t have = kv_load_relaxed(&r->head->order[KV_ORDER_FREE_COUNT]);
    uint64_t need = 3, kept, level = KV_ORDER_DEPTH;
    const uint64_t *node;

    if (root) {
        node = kv_region_node((kv_region *)r, KV_NODES, (uint32_t)root - 1, KV_NODES_FIRST,
                              KV_NODES_SIZE);
        if (node)
            level = kv_load_relaxed(&node[2]) >> 48 & 0xff;
        need += 3 * (level < KV_ORDER_DEPTH ? level + 1 : KV_ORDER_DEPTH);
    }
    need *= operations;
    kept = freed_before(r) + 1;
    have = have > kept ? have - kept : 0;
    return need > have ? need - have : 0;
}

/* The way to the key's leaf, whether the key is there, whether the log may mention it, and then how
 * many keys there are. */
static int look(op *o, const kv_probe *k, int *pos, int *there, int *within, int *count)
{
    const kv_view *v;
    int logged = -1, rc = descend(o, k, pos, there);

    if (rc != KV_OK)
        return rc;
    v = &o->path[o->depth - 1].v;
    *within = kv_node_beside(v, k) == 0;
    if (*within && !kv_leaf_look(v, k, *pos, &logged, count))
        return damaged("a leaf's log");
    if (logged >= 0)
        *there = logged;
    return KV_OK;
}

static int insert(op *o, const kv_probe *k)
{
    uint64_t buf[KV_NODE_WORDS], keys = o->r->head->order[KV_ORDER_COUNT] + 1;
    int pos = 0, there, within, count, bytes = 0, room, rc;

    if (o->r->head->order[KV_ORDER_ROOT]) {
        rc = look(o, k, &pos, &there, &within, &count);
        if (rc != KV_OK)
            return rc;
        if (there)
            return KV_EEXISTS;
        if (within && log_key(o, k, pos, keys))
            return KV_OK;
        rc = merge_log(o, k, &pos, &there);
        if (rc != KV_OK)
            return rc;
        room = pos == o->path[o->depth - 1].v.count ? KV_TAIL_ROOM : KV_LOG_ROOM;
        bytes = kv_leaf_with(&o->path[o->depth - 1].v, k, pos, room, buf);
    }
    take_queue(o);
    rc = bytes ? replace_leaf(o, buf, bytes) : rebuild_with(o, k, pos);
    return rc == KV_OK ? finish(o, keys) : rc;
}

/* Keys that are to leave one leaf, as the entries of its log would be. */
typedef struct run {
    int n, bytes;
    int pos[KV_ORDER_RUN], at[KV_ORDER_RUN]; /* where in the leaf, and of each one's entry in e */
    unsigned char e[KV_NODE_CAP + KV_ORDER_RUN * KV_LEAF_ENTRY];
} run;

/* 0: it is the same key as one before it. */
static int is_another(const run *g, const unsigned char *e, int pos, int bytes)
{
    int i;

    for (i = 0; i < g->n; i++)
        if (g->pos[i] == pos && memcmp(g->e + g->at[i], e, (size_t)bytes) == 0)
            return 0;
    return 1;
}

/* Whether the key is in the leaf, and where; it may well be the neighbour, by *by, of what is at
 * *pos. */
static int is_there(const kv_view *v, const kv_probe *k, uint64_t mentions, int *pos, int *by)
{
    int logged, count, there = 1;

    if (kv_node_beside(v, k) != 0)
        return 0;
    if (!kv_node_is(v, *pos + *by, k))
        *by = -*by;
    if (kv_node_is(v, *pos + *by, k))
        *pos += *by;
    else if (!kv_node_search(v, k, pos, &there))
        return 0;
    if (!(mentions >> (*pos & 63) & 1))
        return there;
    return kv_leaf_look(v, k, *pos, &logged, &count) && (logged < 0 ? there : logged);
}

/* The first of k is in the path's leaf, at its index; how many of the n are. */
static void find_run(const op *o, const kv_probe *k, int n, run *g)
{
    const step *s = &o->path[o->depth - 1];
    const kv_view *v = &s->v;
    uint64_t mentions = n > 1 ? kv_leaf_mentions(v) : 0;
    int pos = s->index, bytes, by = 1;

    g->n = g->bytes = 0;
    do {
        bytes = KV_LEAF_ENTRY + (int)k[g->n].len - v->plen;
        if (g->bytes + bytes > (int)sizeof g->e)
            return;
        kv_leaf_entry(v, &k[g->n], pos, KV_LEAF_GONE, g->e + g->bytes);
        if (!is_another(g, g->e + g->bytes, pos, bytes))
            return;
        g->pos[g->n] = pos;
        g->at[g->n] = g->bytes;
        g->bytes += bytes;
        g->n++;
    } while (g->n < n && g->n < KV_ORDER_RUN && is_there(v, &k[g->n], mentions, &pos, &by));
}

/* Writes the path's leaf without them; its log is merged, as if they were its last entries. None
 * becomes empty; one that is too small is joined with a neighbour, if they are small enough for
 * one. To try that for each key of a leaf that shrinks beside a full one would cost more than all
 * else. */
static int leave(op *o, const run *g, int left, uint64_t keys)
{
    unsigned char log[2 * KV_NODE_CAP + KV_ORDER_RUN * KV_LEAF_ENTRY];
    kv_view *v = &o->path[o->depth - 1].v;
    int i, rc, down = g->pos[0] > g->pos[g->n - 1];

    if (left) {
        memcpy(log, v->log, (size_t)v->log_bytes);
        for (i = 0; i < g->n; i++) { /* sorted quickly when they ascend */
            int x = down ? g->n - 1 - i : i;
            int bytes = (x + 1 < g->n ? g->at[x + 1] : g->bytes) - g->at[x];

            memcpy(log + v->log_bytes, g->e + g->at[x], (size_t)bytes);
            v->log_bytes += bytes;
        }
        v->log = log;
        v->logged += g->n;
        if (!kv_leaf_merge(v, o->leaf) || !kv_node_view(o->leaf, v))
            return damaged("a leaf's log");
    }
    take_queue(o);
    rc = left && v->size >= (o->depth > 1 ? KV_NODE_CAP / 4 : 0) ? replace_leaf(o, o->leaf, v->size)
                                                                 : rebuild_small(o, left);
    return rc == KV_OK ? finish(o, keys) : rc;
}

uint64_t kv_order_near(kv_region *r, const void *key, size_t len)
{
    kv_probe k;

    if (len == 0 || len > KV_ORDER_KEY)
        return 0;
    kv_probe_set(&k, key, len);
    return kv_order_near_probe(r, &k);
}

uint64_t kv_order_near_probe(kv_region *r, const kv_probe *k)
{
    uint64_t word = r->head->order[KV_ORDER_ROOT], *node;
    int i, level = KV_ORDER_DEPTH;
    kv_view v;

    while (word != 0) {
        node = kv_region_node(r, KV_NODES, (uint32_t)word - 1, KV_NODES_FIRST, KV_NODES_SIZE);
        if (!node)
            return 0;
        if (level == 1) {
            fetch_node(node);
            return word;
        }
        if (level != KV_ORDER_DEPTH) /* the root is at hand */
            fetch_node(node);
        if (node[0] != word >> 32 || !kv_node_view(node, &v) || v.level == 0 || v.level >= level ||
            (i = kv_node_way(&v, k, 0)) < 0)
            return 0;
        level = v.level;
        word = v.child[i];
    }
    return 0;
}

/* The path is the leaf that `near` means. *there: whether it holds the key. 0: it is not known. */
static int look_near(op *o, const kv_probe *k, uint64_t near, int *there, int *count)
{
    step *s = &o->path[0];
    int logged;

    s->id = (uint32_t)near - 1;
    s->node = near ? kv_node_child(o->r, near, &s->v) : NULL;
    if (!s->node || s->v.level != 0 || kv_node_beside(&s->v, k) != 0 ||
        !kv_node_search(&s->v, k, &s->index, there) ||
        !kv_leaf_look(&s->v, k, s->index, &logged, count))
        return 0;
    if (logged >= 0)
        *there = logged;
    o->depth = 1;
    return 1;
}

/* 1: done by one more entry in the log of the leaf; 0: not so. */
static int insert_quickly(op *o, const kv_probe *k, uint64_t near)
{
    int there, count;

    return look_near(o, k, near, &there, &count) && !there &&
           log_key(o, k, o->path[0].index, o->r->head->order[KV_ORDER_COUNT] + 1);
}

/* What a transaction frees is queued behind the tail that was, which is not taken in it. */
int kv_order_still(kv_region *r, uint64_t near, uint64_t since)
{
    const uint64_t *w = r->head->order, *node;
    uint64_t id_1 = since, n;

    if (since == w[KV_ORDER_FREE_TAIL])
        return 1;
    if (since == 0)
        return 0;
    for (n = 0; id_1 != w[KV_ORDER_FREE_TAIL] && n < MAX_FREED; n++) {
        node = kv_region_node(r, KV_NODES, (uint32_t)id_1 - 1, KV_NODES_FIRST, KV_NODES_SIZE);
        if (!node)
            return 0;
        id_1 = node[1];
        if (id_1 == (uint32_t)near)
            return 0;
    }
    return n < MAX_FREED;
}

int kv_order_maybe(kv_region *r, const kv_probe *k, uint64_t near)
{
    kv_view v;

    return near != 0 && kv_node_child(r, near, &v) && v.level == 0 && kv_node_beside(&v, k) == 0;
}

int kv_order_insert_near(kv_region *r, const void *key, size_t len, uint64_t near)
{
    kv_probe k;
    op o;

    if (len == 0 || len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    kv_probe_set(&k, key, len);
    begin(&o, r);
    if (insert_quickly(&o, &k, near))
        return KV_OK;
    begin(&o, r);
    return insert(&o, &k);
}

int kv_order_insert(kv_region *r, const void *key, size_t len)
{
    return kv_order_insert_near(r, key, len, 0);
}

int kv_order_remove(kv_region *r, const void *key, size_t len)
{
    uint64_t near = 0;

    return kv_order_remove_near(r, key, len, &near);
}

int kv_order_remove_near(kv_region *r, const void *key, size_t len, uint64_t *near)
{
    kv_probe k;
    int n;

    if (len == 0 || len > KV_ORDER_KEY)
        return kv_fail(KV_EINVAL, "a key of %zu bytes", len);
    kv_probe_set(&k, key, len);
    n = kv_order_remove_run(r, &k, 1, near);
    return n > 0 ? KV_OK : n;
}

/* A key is in one leaf only: where it is found, that is the one, and its log can be lengthened
 * without knowing the way there. */
int kv_order_remove_run(kv_region *r, const kv_probe *k, int n, uint64_t *near)
{
    uint64_t keys = r->head->order[KV_ORDER_COUNT], leaf = *near;
    int pos, there, within, count, rc, known;
    run g;
    op o;

    if (!r->head->order[KV_ORDER_ROOT])
        return KV_ENOTFOUND;
    begin(&o, r);
    known = look_near(&o, k, leaf, &there, &count) && there;
    if (known) {
        find_run(&o, k, n, &g);
        if (count > g.n && loggable(&o, g.n, g.bytes)) {
            log_entries(&o, g.e, g.n, g.bytes, keys - (uint64_t)g.n);
            return g.n;
        }
    }
    *near = 0;
    begin(&o, r);
    rc = look(&o, k, &pos, &there, &within, &count);
    if (rc != KV_OK)
        return rc;
    if (!there)
        return KV_ENOTFOUND;
    if (!known || o.path[o.depth - 1].id != (uint32_t)leaf - 1)
        find_run(&o, k, n, &g);
    keys -= (uint64_t)g.n;
    if (count > g.n && loggable(&o, g.n, g.bytes)) {
        log_entries(&o, g.e, g.n, g.bytes, keys);
        *near = o.path[o.depth - 1].node[0] << 32 | (uint64_t)(o.path[o.depth - 1].id + 1);
        return g.n;
    }
    rc = leave(&o, &g, count > g.n, keys);
    return rc == KV_OK ? g.n : rc;
}
