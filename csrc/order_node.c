/* SPDX-License-Identifier: MIT
 *
 * order_node.c - searching a node of the key order, and the log of a leaf.
 *
 * Invariant: whatever bytes a node holds, nothing here reads or writes outside of it; what does not
 * fit together is found out or gives some order of some keys.
 */
#include "order_node.h"

typedef uint16_t __attribute__((vector_size(16))) eight_halves;
typedef int32_t __attribute__((vector_size(16))) four_heads;

/* One step of the log in place among others: before the leaf's own key `at`, or that key gone. */
typedef struct edit {
    const unsigned char *p;
    int at, len, gone;
} edit;

/* Beyond eight equal bytes, and where zeros stand for bytes that are not there. */
static KV_NOINLINE int compare_rest(const unsigned char *e, int elen, const unsigned char *key,
                                    int klen)
{
    int n = elen < klen ? elen : klen;
    int c = n > 8 ? memcmp(e + 8, key + 8, (size_t)n - 8) : 0;

    return c ? c : (elen > klen) - (elen < klen);
}

/* Among n entries from lo on, the first that is not before the key (beyond = 1: nor is it);
 * negative: damage. Half of the comparisons on the way would be guessed wrong, so that the usual
 * step has no branch to guess: an entry's first eight bytes decide. Also of entries that are in no
 * order it finds a place with one that is before the key on its left and one that is not on its
 * right, so that whoever goes from bound to bound gets on. */
static inline __attribute__((always_inline)) int
search_entries(const kv_view *v, const kv_probe *k, int beyond, int lo, int n, int *equal)
{
    const unsigned char *key = k->key + v->plen, *p;
    uint64_t first = kv_eight(key), e;
    int klen = (int)k->len - v->plen, half, at, from, to, before, rest;

    for (; n > 0; n = half - ((~n & 1) & before)) {
        half = n >> 1;
        at = lo + half;
        from = at ? v->end[at - 1] : 0;
        to = v->end[at];
        if (kv_unlikely(((v->dlen - to) | (to - from)) < 0))
            return -1;
        p = v->data + from;
        e = kv_node_eight(p, to - from);
        before = e < first;
        if (kv_unlikely(e == first)) {
            rest = compare_rest(p, to - from, key, klen);
            *equal |= rest == 0;
            before = rest < beyond;
        }
        lo += (half + 1) & -before;
    }
    return lo;
}

int kv_node_search(const kv_view *v, const kv_probe *k, int *pos, int *equal)
{
    int c = kv_node_beside(v, k);

    *equal = 0;
    if (kv_unlikely(c != 0)) {
        *pos = c > 0 ? v->entries : 0;
        return 1;
    }
    *pos = search_entries(v, k, 0, 0, v->entries, equal);
    return *pos >= 0;
}

/* Among n separators from lo on, whose heads are the key's. */
static KV_NOINLINE int search_run(const kv_view *v, const kv_probe *k, int beyond, int lo, int n)
{
    int equal = 0;

    return search_entries(v, k, beyond, lo, n, &equal);
}

static inline int32_t head_of(const kv_view *v, int i)
{
    int32_t h;

    memcpy(&h, v->head + KV_NODE_FIRST * i, sizeof h);
    return h;
}

/* How many heads are smaller. It looks at up to four words behind them, which lie in the node: of
 * eight entries the ends follow. */
static inline int count_smaller(const kv_view *v, int32_t first)
{
    static const int32_t some[8] = {-1, -1, -1, -1};
    four_heads key = {first, first, first, first}, count = {0}, h, of;
    const unsigned char *head = v->head;
    uint64_t sum[2];
    int n = v->entries;

    for (; n >= 4; n -= 4, head += sizeof h) {
        memcpy(&h, head, sizeof h);
        count -= h < key;
    }
    memcpy(&h, head, sizeof h);
    memcpy(&of, some + 4 - n, sizeof of);
    count -= (h < key) & of;
    memcpy(sum, &count, sizeof sum);
    sum[0] += sum[1];
    return (int)((sum[0] + (sum[0] >> 32)) & 0xffffffff);
}

int kv_node_way(const kv_view *v, const kv_probe *k, int before)
{
    int n, lo, c = kv_node_beside(v, k);
    int32_t first;

    if (kv_unlikely(c != 0))
        return c > 0 ? v->entries : 0;
    first = kv_node_first(kv_eight(k->key + v->plen));
    lo = count_smaller(v, first);
    if (kv_likely(lo == v->entries || head_of(v, lo) != first))
        return lo;
    for (n = 1; lo + n < v->entries && head_of(v, lo + n) == first; n++)
        continue;
    return search_run(v, k, !before, lo, n);
}

size_t kv_node_key(const kv_view *v, int i, unsigned char *out)
{
    int from, to;

    if (i < 0 || i >= v->entries || !kv_node_entry(v, i, &from, &to) ||
        v->plen + to - from > KV_ORDER_KEY)
        return 0;
    memcpy(out, v->prefix, (size_t)v->plen);
    memcpy(out + v->plen, v->data + from, (size_t)(to - from));
    return (size_t)(v->plen + to - from);
}

/* Eight at a time. */
void kv_node_ends(kv_half *to, const kv_half *from, int n, int add)
{
    eight_halves w;

    for (; n >= 8; n -= 8, to += 8, from += 8) {
        memcpy(&w, from, sizeof w);
        w += (kv_half)add;
        memcpy(to, &w, sizeof w);
    }
    for (; n > 0; n--)
        *to++ = (kv_half)(*from++ + add);
}

/* ---- a leaf with one key more ---- */

int kv_leaf_with(const kv_view *v, const kv_probe *k, int pos, int room, uint64_t *buf)
{
    unsigned char *p = (unsigned char *)buf + KV_NODE_HEAD;
    int n = v->count, len = (int)k->len - v->plen;
    int from = pos ? v->end[pos - 1] : 0;
    int bytes = v->size + 2 + len;

    if (len < 0 || bytes > KV_NODE_CAP - room || from > v->dlen || v->end[n - 1] != v->dlen ||
        kv_node_beside(v, k) != 0)
        return 0;
    kv_node_ends((kv_half *)(void *)p, v->end, pos, 0);
    ((kv_half *)(void *)p)[pos] = (kv_half)(from + len);
    kv_node_ends((kv_half *)(void *)p + pos + 1, v->end + pos, n - pos, len);
    p += 2 * (n + 1);
    memcpy(p, v->prefix, (size_t)(v->plen + from));
    p += v->plen + from;
    memcpy(p, k->key + v->plen, (size_t)len);
    memcpy(p + len, v->data + from, (size_t)(v->dlen - from));
    buf[2] = kv_node_header(0, n + 1, v->plen, bytes);
    buf[KV_NODE_LOG] = 0;
    return bytes;
}

/* ---- the log of a leaf ---- */

/* The entry at *at of the log; 0: damage. */
static inline int next_entry(const kv_view *v, int *at, edit *e)
{
    uint16_t w[2];

    if (v->log_bytes - *at < KV_LEAF_ENTRY)
        return 0;
    memcpy(w, v->log + *at, sizeof w);
    e->gone = (w[0] & KV_LEAF_GONE) != 0;
    e->at = w[0] & (int)~KV_LEAF_GONE;
    e->len = w[1];
    e->p = v->log + *at + KV_LEAF_ENTRY;
    *at += KV_LEAF_ENTRY + e->len;
    return *at <= v->log_bytes && e->at <= v->entries && v->plen + e->len <= KV_ORDER_KEY;
}

int kv_leaf_look(const kv_view *v, const kv_probe *k, int pos, int *there, int *count)
{
    const unsigned char *p = v->log, *end = p + v->log_bytes;
    int i, len = (int)k->len - v->plen, n = v->count;
    uint16_t w[2];

    *there = -1;
    for (i = 0; i < v->logged; i++, p += KV_LEAF_ENTRY + w[1]) {
        if (kv_unlikely(end - p < KV_LEAF_ENTRY))
            return 0;
        memcpy(w, p, sizeof w);
        n += w[0] & KV_LEAF_GONE ? -1 : 1;
        if (kv_unlikely((w[0] & ~KV_LEAF_GONE) == (unsigned)pos) && w[1] == len &&
            end - p >= KV_LEAF_ENTRY + len &&
            memcmp(p + KV_LEAF_ENTRY, k->key + v->plen, (size_t)len) == 0)
            *there = !(w[0] & KV_LEAF_GONE);
    }
    *count = n;
    return p == end;
}

uint64_t kv_leaf_mentions(const kv_view *v)
{
    const unsigned char *p = v->log, *end = p + v->log_bytes;
    uint64_t mask = 0;
    uint16_t w[2];
    int i;

    for (i = 0; i < v->logged && end - p >= KV_LEAF_ENTRY; i++, p += KV_LEAF_ENTRY + w[1]) {
        memcpy(w, p, sizeof w);
        mask |= (uint64_t)1 << (w[0] & 63);
    }
    return mask;
}

int kv_leaf_entry(const kv_view *v, const kv_probe *k, int pos, unsigned gone, unsigned char *out)
{
    int len = (int)k->len - v->plen;
    uint16_t w[2];

    w[0] = (uint16_t)((unsigned)pos | gone);
    w[1] = (uint16_t)len;
    memcpy(out, w, sizeof w);
    memcpy(out + KV_LEAF_ENTRY, k->key + v->plen, (size_t)len);
    return KV_LEAF_ENTRY + len;
}

static int compare(const edit *a, const edit *b)
{
    int c = memcmp(a->p, b->p, (size_t)(a->len < b->len ? a->len : b->len));

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Whether the leaf's own key e->at is that of e. */
static int is_own(const kv_view *v, const edit *e)
{
    int from, to;

    return e->at < v->entries && kv_node_entry(v, e->at, &from, &to) && to - from == e->len &&
           memcmp(v->data + from, e->p, (size_t)e->len) == 0;
}

/* Brings the log into order: keys that have come, each followed by the gone ones of the leaf that
 * they stand before. What came and went is not in it. Returns how many; -1: damage. */
static int sort_log(const kv_view *v, edit *e)
{
    int n = 0, at = 0, i, t, c = 1;
    edit x;

    for (i = 0; i < v->logged; i++) {
        if (!next_entry(v, &at, &x))
            return -1;
        for (t = n; t > 0; t--) {
            if (e[t - 1].at != x.at) {
                c = 1;
                if (e[t - 1].at < x.at)
                    break;
                continue;
            }
            c = e[t - 1].gone ? 1 : compare(&e[t - 1], &x);
            if (c <= 0)
                break;
        }
        if (t > 0 && e[t - 1].at == x.at && !e[t - 1].gone && c == 0) {
            if (!x.gone)
                return -1;
            n--;
            memmove(&e[t - 1], &e[t], (size_t)(n - t + 1) * sizeof *e);
            continue;
        }
        if (x.gone) {
            if (!is_own(v, &x))
                return -1;
            while (t < n && e[t].at == x.at)
                if (e[t++].gone)
                    return -1;
        }
        if (t < n)
            memmove(&e[t + 1], &e[t], (size_t)(n - t) * sizeof *e);
        e[t] = x;
        n++;
    }
    return at == v->log_bytes ? n : -1;
}

/* A leaf while it is written. */
typedef struct output {
    kv_half *end;
    unsigned char *data, *limit;
    int n, used, most;
} output;

/* The leaf's own keys [from, to). */
static int put_run(const kv_view *v, output *o, int from, int to)
{
    int a = from ? v->end[from - 1] : 0, b = to ? v->end[to - 1] : 0;

    if (a > b || b > v->dlen || o->n + to - from > o->most ||
        o->data + o->used + (b - a) > o->limit)
        return 0;
    kv_node_ends(o->end + o->n, v->end + from, to - from, o->used - a);
    memcpy(o->data + o->used, v->data + a, (size_t)(b - a));
    o->n += to - from;
    o->used += b - a;
    return 1;
}

static int put_one(output *o, const edit *e)
{
    if (o->n == o->most || o->data + o->used + e->len > o->limit)
        return 0;
    memcpy(o->data + o->used, e->p, (size_t)e->len);
    o->used += e->len;
    o->end[o->n++] = (kv_half)o->used;
    return 1;
}

int kv_leaf_merge(const kv_view *v, uint64_t *out)
{
    unsigned char *p = (unsigned char *)out;
    edit e[KV_LEAF_EDITS];
    int n = sort_log(v, e), i, own = 0;
    output o;

    if (n < 0)
        return 0;
    o.most = v->count;
    for (i = 0; i < n; i++)
        o.most += e[i].gone ? -1 : 1;
    if (o.most <= 0 || KV_NODE_HEAD + 2 * o.most + v->plen > KV_NODE_CAP)
        return 0;
    o.end = (kv_half *)(void *)(p + KV_NODE_HEAD);
    o.data = p + KV_NODE_HEAD + 2 * o.most + v->plen;
    o.limit = p + KV_NODE_CAP;
    o.n = o.used = 0;
    memcpy(o.data - v->plen, v->prefix, (size_t)v->plen);
    for (i = 0; i < n; i++) {
        if (e[i].at < own || !put_run(v, &o, own, e[i].at))
            return 0;
        own = e[i].at + e[i].gone;
        if (!e[i].gone && !put_one(&o, &e[i]))
            return 0;
    }
    if (!put_run(v, &o, own, v->count) || o.n != o.most)
        return 0;
    out[KV_NODE_LOG] = 0;
    out[2] = kv_node_header(0, o.n, v->plen, (int)(o.data - p) + o.used);
    return 1;
}
