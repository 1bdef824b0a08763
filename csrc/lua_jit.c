/* SPDX-License-Identifier: MIT
 *
 * lua_jit.c - the hot operations as plain C functions, for LuaJIT's FFI (lua/kv/ffi.lua).
 *
 * A compiled trace calls these directly, where a function of Lua's C API would end it. They never
 * call Lua. What they do not do themselves they leave alone and answer KV_JIT_OTHER: then the
 * operation of the C API is called with the same arguments.
 */
#include "lua_kv.h"

#include <math.h>
#include <string.h>

#define KV_JIT_OTHER  (-1000) /* ask the C API; nothing has happened */
#define KV_JIT_STRING 1
#define KV_JIT_NUMBER 2
#define KV_JIT_BOOL   3
#define KV_JIT_ROOM   4096

/* Where jit_get leaves what it read. One for each Lua: a finalizer that reads in between is told by
 * `calls`. lua/kv/ffi.lua declares the same. */
typedef struct kv_jit_out {
    uint32_t calls;
    uint32_t len;  /* KV_JIT_STRING: of bytes */
    double number; /* KV_JIT_NUMBER; KV_JIT_BOOL: 0 or 1 */
    char bytes[KV_JIT_ROOM];
} kv_jit_out;

/* The namespace of a handle; NULL: closed, not open yet, or of another copy of this module. */
static kv_ns *live(kv_lua_handle *o, size_t len)
{
    if (o->seal != KV_LUA_SEAL(o) || o->box == NULL || o->box->ns == NULL || len - 1 >= KV_MAX_KEY)
        return NULL;
    o->box->calls++;
    return o->box->ns;
}

/* A KV_JIT_* type, KV_ENOTFOUND for a miss, or another code. */
static int jit_get(kv_lua_handle *o, const char *key, size_t len, kv_jit_out *out)
{
    kv_ns *ns = live(o, len);
    kv_value v;
    int rc;

    if (ns == NULL)
        return KV_JIT_OTHER;
    out->calls++;
    rc = kv_peek(ns, key, len, &v);
    if (rc != KV_OK)
        return rc;
    switch (v.type) {
    case KV_STRING:
        if (v.len > KV_JIT_ROOM)
            return KV_JIT_OTHER;
        memcpy(out->bytes, v.data, v.len);
        out->len = v.len;
        return kv_peek_held(ns) ? KV_JIT_STRING : KV_JIT_OTHER;
    case KV_INTEGER:
        out->number = (double)v.integer;
        return KV_JIT_NUMBER;
    case KV_NUMBER:
        out->number = v.number;
        return KV_JIT_NUMBER;
    case KV_BOOLEAN:
        out->number = v.integer != 0;
        return KV_JIT_BOOL;
    default:
        return KV_JIT_OTHER;
    }
}

/* KV_OK: it is there. */
static int jit_exists(kv_lua_handle *o, const char *key, size_t len)
{
    kv_ns *ns = live(o, len);

    return ns == NULL ? KV_JIT_OTHER : kv_exists(ns, key, len);
}

/* The revision, or a code. */
static double put(kv_ns *ns, const char *key, size_t len, const kv_value *v)
{
    uint64_t rev;
    int rc = kv_put(ns, key, len, v, NULL, &rev, NULL);

    return rc == KV_OK ? (double)rev : rc;
}

static double jit_put(kv_lua_handle *o, const char *key, size_t len, const char *bytes, size_t size)
{
    kv_ns *ns = live(o, len);
    kv_value v;

    if (ns == NULL || size > KV_MAX_VALUE_CAP)
        return KV_JIT_OTHER;
    memset(&v, 0, sizeof v);
    v.type = KV_STRING;
    v.data = bytes;
    v.len = (uint32_t)size;
    return put(ns, key, len, &v);
}

static double jit_put_number(kv_lua_handle *o, const char *key, size_t len, double n)
{
    kv_ns *ns = live(o, len);
    kv_value v;

    if (ns == NULL || !kv_lua_number_value(n, &v))
        return KV_JIT_OTHER;
    return put(ns, key, len, &v);
}

/* The sum, or what no sum is: INFINITY, ask the C API, which says what is wrong as nothing has
 * changed; -INFINITY, KV_EBUSY, for which nobody should wait twice. */
static double jit_incr(kv_lua_handle *o, const char *key, size_t len, double by)
{
    kv_ns *ns = live(o, len);
    kv_value v, sum;
    int rc;

    if (ns == NULL || !kv_lua_number_value(by, &v))
        return INFINITY;
    rc = kv_incr(ns, key, len, &v, NULL, &sum, NULL);
    if (rc == KV_OK)
        return sum.type == KV_INTEGER ? (double)sum.integer : sum.number;
    return rc == KV_EBUSY ? -INFINITY : INFINITY;
}

static int jit_delete(kv_lua_handle *o, const char *key, size_t len)
{
    kv_ns *ns = live(o, len);
    kv_write w;

    memset(&w, 0, sizeof w);
    return ns == NULL ? KV_JIT_OTHER : kv_delete(ns, key, len, &w, NULL, NULL);
}

/* What lua/kv/ffi.lua looks at before anything else is the size. */
typedef struct kv_jit_api {
    uint32_t size, out_size;
    int (*get)(kv_lua_handle *, const char *, size_t, kv_jit_out *);
    int (*exists)(kv_lua_handle *, const char *, size_t);
    double (*put)(kv_lua_handle *, const char *, size_t, const char *, size_t);
    double (*put_number)(kv_lua_handle *, const char *, size_t, double);
    double (*incr)(kv_lua_handle *, const char *, size_t, double);
    int (*del)(kv_lua_handle *, const char *, size_t);
} kv_jit_api;

static const kv_jit_api api = {
    sizeof api, sizeof(kv_jit_out), jit_get,  jit_exists,
    jit_put,    jit_put_number,     jit_incr, jit_delete,
};

int kv_lua_jit(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&api);
    return 1;
}

int kv_lua_jit_failed(lua_State *L)
{
    kv_lua_handle *o = lua_touserdata(L, 1);
    kv_lua_call c;

    c.box = o->box;
    c.arg = 2;
    c.guarded = o->guarded;
    return kv_lua_fail(L, &c, (int)lua_tonumber(L, 2));
}
