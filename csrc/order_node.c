/* SPDX-License-Identifier: MIT
 *
 * order_node.c - searching a node of the key order, and the log of a leaf.
 *
 * Invariant: whatever bytes a node holds, nothing here reads or writes outside of it; what does not
 * fit together is found out or gives some order of some keys.
 */
#include "order_node.h"

typedef uint16_t __attribute__((vector_size(16))) eight_halves;

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

/* A search: the key behind the node's prefix, and what it has found. */
typedef struct search {
    const kv_view *v;
    const unsigned char *key;
    uint64_t first; /* its first eight bytes, zeros where it is shorter */
    int len, beyond, same;
} search;

/* 1: the entry is before the key. Its first eight bytes decide, unless they are the same. */
static inline __attribute__((always_inline)) int is_before(search *s, int from, int len)
{
    const unsigned char *p = s->v->data + from;
    uint64_t e = kv_eight(p) & (len < 8 ? ~(~(uint64_t)0 >> (8 * len)) : ~(uint64_t)0);
    int rest;

    if (kv_likely(e != s->first))
        return e < s->first;
    rest = compare_rest(p, len, s->key, s->len);
    s->same |= rest == 0;
    return rest < s->beyond;
}

/* How many of the entries a, b and c, from the first on, are before the key; negative: damage. */
static inline __attribute__((always_inline)) int count_before(search *s, int a, int b, int c)
{
    const kv_half *end = s->v->end;
    int dlen = s->v->dlen, to_a = end[a], to_b = end[b], to_c = end[c];
    int from_a = a ? end[a - 1] : 0, from_b = b ? end[b - 1] : 0, from_c = c ? end[c - 1] : 0;

    if (kv_unlikely(((dlen - to_a) | (dlen - to_b) | (dlen - to_c) | (to_a - from_a) |
                     (to_b - from_b) | (to_c - from_c)) < 0))
        return -1;
    a = is_before(s, from_a, to_a - from_a);
    b = a & is_before(s, from_b, to_b - from_b);
    c = b & is_before(s, from_c, to_c - from_c);
    return a + b + c;
}

static inline int least(int a, int b)
{
    return a < b ? a : b;
}

/* Half of the comparisons on the way to a leaf would be guessed wrong, so that the usual step has
 * no branch to guess; and each step waits for the one before it, so that it makes three at once. In
 * the last one entries may be looked at twice, or beyond those in question: they do not count. Also
 * of entries that are in no order it finds a place with one that is before the key on its left and
 * one that is not on its right, so that whoever goes from bound to bound gets on. */
int kv_node_search(const kv_view *v, const kv_probe *k, int beyond, int *pos, int *equal)
{
    int lo = 0, n = v->entries, last = n - 1, q, c = kv_node_beside(v, k);
    search s;

    *equal = 0;
    if (kv_unlikely(c != 0 || n == 0)) {
        *pos = c > 0 ? n : 0;
        return 1;
    }
    s.v = v;
    s.key = k->key + v->plen;
    s.first = kv_eight(s.key);
    s.len = (int)k->len - v->plen;
    s.beyond = beyond;
    s.same = 0;
    for (; n > 3; n = c == 3 ? n - 3 * q - 1 : q - (c > 0)) {
        q = n >> 2;
        c = count_before(&s, lo + q, lo + 2 * q, lo + 3 * q);
        if (kv_unlikely(c < 0))
            return 0;
        lo += c * q + (c > 0);
    }
    c = count_before(&s, least(lo, last), least(lo + 1, last), least(lo + 2, last));
    if (kv_unlikely(c < 0))
        return 0;
    *equal = s.same;
    *pos = lo + least(c, n);
    return 1;
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
