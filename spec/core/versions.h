/* SPDX-License-Identifier: MIT
 *
 * versions.h - keys that several processes read while one of them writes each: what a reader may
 * find.
 *
 * A key belongs to one process, which writes version after version of it; a version says whether
 * the key is there and what it holds. In memory that all share stands the version begun last and
 * the one whose call has returned. So whoever reads a key, by itself or in a listing, knows what it
 * may find, and notes what it saw: that is never taken back.
 */
#ifndef KV_SPEC_VERSIONS_H
#define KV_SPEC_VERSIONS_H

#include "share.h"

enum { SMALL, PLAIN, SHORT, LONG, LARGE, COUNTER, DOCUMENT, FIRST, SECOND, TIMED, KEYS };
#define WRITERS 3

typedef struct version_slot {
    uint64_t begun, done, seen; /* seen: a reader has found it */
} version_slot;

static version_slot (*versions)[KEYS]; /* by writer; shared */

static inline uint64_t version_load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline void version_store(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

static inline void version_raise(uint64_t *p, uint64_t v)
{
    uint64_t old = version_load(p);

    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue;
}

/* What may be found now at the least: what has returned, and what somebody has seen. */
static inline uint64_t version_least(const version_slot *s)
{
    uint64_t done = version_load(&s->done), seen = version_load(&s->seen);

    return done > seen ? done : seen;
}

/* The first four keys and the timed one go and come. */
static inline int version_there(int key, uint64_t version)
{
    return version != 0 && ((key > LONG && key != TIMED) || version % 4 != 3);
}

static inline int version_gone(int key, uint64_t from, uint64_t to)
{
    for (; from <= to; from++)
        if (!version_there(key, from))
            return 1;
    return 0;
}

static inline uint32_t version_key(int writer, int key, char to[24])
{
    return (uint32_t)snprintf(to, 24, "k:%d:%d", writer, key);
}

/* Lives until the next call. */
static inline kv_value version_value(int writer, int key, uint64_t version)
{
    static const uint32_t sizes[KEYS] = {20, 60, 8, 900, 18000, 0, 0, 40, 40, 100};
    static char bytes[1 << 15];
    kv_value v = {0};
    uint32_t i;

    v.type = key == COUNTER ? KV_INTEGER : key == DOCUMENT ? KV_JSON : KV_STRING;
    if (key == COUNTER) {
        v.integer = (int64_t)version;
        return v;
    }
    v.data = bytes;
    if (key == DOCUMENT) {
        v.len = (uint32_t)snprintf(bytes, sizeof bytes, "{\"w\":%d,\"v\":%llu,\"more\":[1,2]}",
                                   writer, (unsigned long long)version);
        return v;
    }
    v.len = sizes[key];
    memcpy(bytes, &version, 8);
    for (i = 8; i < v.len; i++)
        bytes[i] = (char)('a' + (version + (uint64_t)writer * 7 + (uint64_t)key * 3 + i / 16) % 26);
    return v;
}

/* The version a value says it is; 0: it is none of this key's. */
static inline uint64_t version_of(const kv_value *v, int writer, int key)
{
    unsigned long long told = 0;
    uint64_t version = 0;
    kv_value want;
    char text[80];

    if (key == COUNTER) {
        version = (uint64_t)v->integer;
    } else if (key == DOCUMENT && v->type == KV_JSON && v->len < sizeof text) {
        memcpy(text, v->data, v->len);
        text[v->len] = 0;
        if (sscanf(text, "{\"w\":%*d,\"v\":%llu", &told) == 1)
            version = told;
    } else if (v->type == KV_STRING && v->len >= 8) {
        memcpy(&version, v->data, 8);
    }
    want = version_value(writer, key, version);
    if (!version_there(key, version) || want.type != v->type)
        return 0;
    if (key == COUNTER)
        return version;
    return want.len == v->len && memcmp(want.data, v->data, v->len) == 0 ? version : 0;
}

static inline int version_wrong(const char *what, int writer, int key, uint64_t a, uint64_t from,
                                uint64_t to)
{
    fprintf(stderr, "  %s: key %d of writer %d: %llu, may be %llu to %llu (%s)\n", what, key,
            writer, (unsigned long long)a, (unsigned long long)from, (unsigned long long)to,
            kv_message());
    return 0;
}

/* Judges what a read gave that began when version_least was `from`. */
static inline int version_judge(const char *what, int rc, const kv_value *v, int writer, int key,
                                uint64_t from)
{
    version_slot *s = &versions[writer][key];
    uint64_t to = version_load(&s->begun), version;

    if (rc == KV_ENOTFOUND)
        return version_gone(key, from, to) || version_wrong(what, writer, key, 0, from, to);
    if (rc != KV_OK)
        return version_wrong(what, writer, key, (uint64_t)-rc, from, to);
    version = version_of(v, writer, key);
    if (version < from || version > to || version == 0)
        return version_wrong(what, writer, key, version, from, to);
    version_raise(&s->seen, version);
    return 1;
}

/* Whoever was this writer was killed: what was in flight is there or not. */
static inline int version_take_over(kv_ns *ns, int writer)
{
    uint64_t pair = 0;
    char name[24];
    int k, rc;

    for (k = 0; k < KEYS; k++) {
        version_slot *s = &versions[writer][k];
        uint64_t version = 0, from = version_least(s);
        kv_value v;

        rc = kv_get_value(ns, name, version_key(writer, k, name), &v);
        if (!version_judge("after a death", rc, &v, writer, k, from))
            return 0;
        if (rc == KV_OK)
            version = version_of(&v, writer, k);
        else
            version = version_there(k, from) ? version_load(&s->begun) : from;
        if (k == SECOND && version != pair)
            return version_wrong("half a batch", writer, k, version, pair, pair);
        pair = version;
        version_store(&s->done, version);
        version_store(&s->begun, version);
    }
    return 1;
}

#endif
