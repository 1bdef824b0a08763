/* SPDX-License-Identifier: MIT
 *
 * order_list.c - the entries of a node of the key order while it is rebuilt.
 *
 * Invariant: the items of a settled list are in strict order, and any run of them that fits() can
 * be encoded into a node; where the keys lie, in nodes or on the caller's stack, is not its
 * concern.
 */
#include "order_list.h"

/* Appends a node's entries; 0: damage. */
int kv_list_gather(kv_list *l, const kv_view *v)
{
    int i = 0, from, to;

    if (l->n + v->count > KV_LIST_ITEMS)
        return 0;
    if (v->level) {
        memset(&l->it[l->n], 0, sizeof l->it[0]);
        l->it[l->n++].child = v->child[0];
    }
    for (; i < v->entries; i++) {
        kv_list_item *t = &l->it[l->n++];

        if (!kv_node_entry(v, i, &from, &to) || v->plen + to - from > KV_ORDER_KEY)
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

void kv_list_open_gap(kv_list *l, int at, int old, int fresh)
{
    memmove(&l->it[at + fresh], &l->it[at + old], (size_t)(l->n - at - old) * sizeof l->it[0]);
    l->n += fresh - old;
}

uint32_t kv_list_key(const kv_list_item *t, unsigned char *out)
{
    if (t->alen)
        memcpy(out, t->a, t->alen);
    if (t->blen)
        memcpy(out + t->alen, t->b, t->blen);
    return t->alen + t->blen;
}

int kv_list_common(const kv_list_item *x, const kv_list_item *y)
{
    unsigned char a[KV_ORDER_KEY], b[KV_ORDER_KEY];
    uint32_t alen = kv_list_key(x, a), blen = kv_list_key(y, b), n = 0;

    while (n < alen && n < blen && a[n] == b[n])
        n++;
    return (int)n;
}

static int ascending(const kv_list_item *x, const kv_list_item *y)
{
    unsigned char a[KV_ORDER_KEY], b[KV_ORDER_KEY];
    const unsigned char *p = x->b, *q = y->b;
    uint32_t plen = x->blen, qlen = y->blen;
    int c;

    if (x->a != y->a || x->alen != y->alen) {
        plen = kv_list_key(x, a);
        qlen = kv_list_key(y, b);
        p = a;
        q = b;
    }
    /* Mostly a byte decides. */
    if (plen && qlen && *p != *q)
        return *p < *q;
    c = plen && qlen ? memcmp(p, q, plen < qlen ? plen : qlen) : 0;
    return c < 0 || (c == 0 && plen < qlen);
}

/* Readies a list for kv_list_size() and kv_list_encode(). Strict order is what makes the common
 * prefix of first and last the common prefix of all, so it is checked, not believed. */
int kv_list_settle(kv_list *l)
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
int kv_list_size(const kv_list *l, int i, int j, int *prefix)
{
    int first = l->level ? i + 1 : i;
    int n = j - first;
    int bytes = KV_NODE_HEAD + (l->level ? 8 * (j - i) + KV_NODE_FIRST * n : 0);

    *prefix = 0;
    if (n == 0)
        return bytes;
    *prefix = kv_list_common(&l->it[first], &l->it[j - 1]);
    return bytes + 2 * n + (int)(l->sum[j] - l->sum[first]) - (n - 1) * *prefix;
}

int kv_list_encode(const kv_list *l, int i, int j, uint64_t *buf)
{
    unsigned char *base = (unsigned char *)buf, *p;
    unsigned char key[KV_ORDER_KEY];
    int first = l->level ? i + 1 : i;
    int prefix, bytes = kv_list_size(l, i, j, &prefix);
    int at = KV_NODE_HEAD, end = 0, t;
    unsigned char *head = NULL;
    kv_half *ends;

    kv_assert(bytes <= KV_NODE_CAP);
    if (l->level) {
        for (t = i; t < j; t++, at += 8)
            buf[at / 8] = l->it[t].child;
        head = base + at;
        at += KV_NODE_FIRST * (j - first);
    }
    ends = (kv_half *)(void *)(base + at);
    p = base + at + 2 * (j - first);
    for (t = first; t < j; t++) {
        const kv_list_item *x = &l->it[t];
        uint32_t len;

        if (t == first) {
            kv_list_key(x, key);
            memcpy(p, key, (size_t)prefix);
            p += prefix;
        }
        if (x->alen <= (uint32_t)prefix) {
            uint32_t skip = (uint32_t)prefix - x->alen;

            len = x->blen - skip;
            if (len)
                memcpy(p, x->b + skip, len);
        } else {
            len = kv_list_key(x, key) - (uint32_t)prefix;
            memcpy(p, key + prefix, len);
        }
        if (head != NULL) {
            int32_t h = kv_node_first(kv_node_eight(p, (int)len));

            memcpy(head + KV_NODE_FIRST * (t - first), &h, sizeof h);
        }
        p += len;
        end += (int)len;
        ends[t - first] = (kv_half)end;
    }
    buf[2] = kv_node_header(l->level, j - i, prefix, bytes);
    buf[KV_NODE_LOG] = 0;
    return bytes;
}

static uint32_t namespace_of(const kv_list_item *t)
{
    unsigned char key[KV_ORDER_KEY];
    uint32_t ns = 0;

    if (kv_list_key(t, key) >= 4)
        memcpy(&ns, key, 4);
    return ns;
}

/* The cut nearest to the middle (by bytes) with both halves fitting; 0: none. Where a leaf holds
 * several namespaces it is cut between two, so that keys appended to one find the end of a leaf. */
static int halve(const kv_list *l)
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
                if (kv_list_fits(l, 0, s, KV_NODE_CAP) && kv_list_fits(l, s, l->n, KV_NODE_CAP))
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
int kv_list_partition(const kv_list *l, int how, int cut[KV_LIST_RUNS + 1])
{
    int room = l->level || l->n == 1 ? 0 : how == SPLIT_TAIL ? KV_TAIL_ROOM : KV_LOG_ROOM;
    int keep = l->level ? 2 : 1; /* a new inner node starts with two children */
    int s = 0, runs = 0;

    cut[0] = 0;
    cut[1] = l->n;
    if (kv_list_fits(l, 0, l->n, KV_NODE_CAP - room))
        return 1;
    if (l->n > 2 * keep && how == SPLIT_TAIL)
        s = l->n - keep;
    if (l->n > 2 * keep && how == SPLIT_HEAD)
        s = keep;
    if (s == 0 || !kv_list_fits(l, 0, s, KV_NODE_CAP) || !kv_list_fits(l, s, l->n, KV_NODE_CAP))
        s = halve(l);
    if (s) {
        cut[1] = s;
        cut[2] = l->n;
        return 2;
    }
    for (s = 0; s < l->n; cut[++runs] = s) {
        int from = s;

        if (runs == KV_LIST_RUNS)
            return 0;
        while (s < l->n && kv_list_fits(l, from, s + 1, KV_NODE_CAP))
            s++;
        if (s == from)
            return 0;
    }
    return runs;
}
