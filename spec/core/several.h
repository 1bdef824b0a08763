/* SPDX-License-Identifier: MIT
 *
 * several.h - a listing whose records are read one by one, or several at once and handed out so.
 */
#ifndef KV_SEVERAL_H
#define KV_SEVERAL_H

#include "kv.h"

typedef struct several {
    int many; /* several at once */
    int asks; /* how often it was asked for the next ones */
    int n, i; /* read, handed out */
    kv_record r[KV_ITER_MOST];
    char room[2048];
} several;

static inline void several_begin(several *s, int many)
{
    s->many = many;
    s->n = s->i = s->asks = 0;
}

/* As kv_iter_next. Now many are wanted, now few, or just one. */
static inline int several_next(several *s, kv_iter *it, kv_record *out)
{
    if (s->i == s->n) {
        s->i = 0;
        s->asks++;
        s->n = s->many && s->asks % 5 != 0
                   ? kv_iter_some(it, s->r, 1 + s->asks * 7 % 40, s->room, sizeof s->room)
                   : 0;
        if (s->n == 0)
            return kv_iter_next(it, out);
    }
    *out = s->r[s->i++];
    return KV_OK;
}

#endif
