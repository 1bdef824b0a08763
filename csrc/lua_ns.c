/* SPDX-License-Identifier: MIT
 *
 * lua_ns.c - the operations on one key.
 *
 * Arguments are read completely before the core is called, and nothing that can fail is left to do
 * in Lua once the core has changed something: an error of Lua's allocator leaves the store as it
 * was.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <string.h>

/* ---- reading ------------------------------------------------------------ */

static __attribute__((noinline)) int get_stream(lua_State *L, const kv_lua_call *c, const char *key,
                                                size_t len)
{
    int rc = kv_lua_reader(L, c, key, len, NULL);

    if (rc == KV_ENOTFOUND)
        lua_pushnil(L);
    return rc == KV_OK || rc == KV_ENOTFOUND ? 1 : kv_lua_fail(L, c, rc);
}

/* Hands back what reading a value gave: rc, and *v in the namespace's scratch. */
static __attribute__((noinline)) int give(lua_State *L, const kv_lua_call *c, const char *key,
                                          size_t len, int as, int rc, kv_value *v)
{
    char room[KV_LUA_ROOM];
    kv_record r;

    if (rc == KV_OK) {
        r.value = *v;
        r.meta_len = 0;
        rc = kv_lua_keep(L, c, key, len, &r, room);
    }
    if (rc == KV_ENOTFOUND) {
        lua_pushnil(L);
        return 1;
    }
    return rc == KV_OK ? kv_lua_push(L, &r.value, as) : kv_lua_fail(L, c, rc);
}

/* A string is copied once, from where it lies in the store to where Lua keeps it; but not by a Lua
 * that may run a finalizer before it copies, which could close the store. */
static inline __attribute__((always_inline)) int get(lua_State *L, const kv_lua_call *c,
                                                     const char *key, size_t len, int as)
{
    kv_ns *ns = kv_lua_live(L, c);
    unsigned calls = c->box->calls;
    kv_value v;
    int rc;

    if (!KV_LUA_COPIES_FIRST || as == KV_LUA_JSON)
        return give(L, c, key, len, as, kv_get_value(ns, key, len, &v), &v);
    rc = kv_peek(ns, key, len, &v);
    if (rc == KV_OK && v.type == KV_STRING) {
        lua_pushlstring(L, v.data, v.len);
        /* A finalizer that ran after the copy may have made another call, or closed the store. */
        if (calls == c->box->calls && kv_peek_held(ns))
            return 1;
        lua_pop(L, 1);
        rc = kv_get_value(kv_lua_live(L, c), key, len, &v);
    }
    return give(L, c, key, len, as, rc, &v);
}

int kv_lua_get(lua_State *L, const kv_lua_call *c, const char *key, size_t len)
{
    return get(L, c, key, len, KV_LUA_PLAIN);
}

static int op_get(lua_State *L, const kv_lua_call *c)
{
    const char *key;
    size_t len;
    int n, as = KV_LUA_PLAIN;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    if (lua_gettop(L) > c->arg && (as = kv_lua_as(L, c->arg + 1)) == KV_LUA_STREAM)
        return get_stream(L, c, key, len);
    return get(L, c, key, len, as);
}

static void set_time(lua_State *L, const char *name, int64_t ms)
{
    lua_pushnumber(L, (lua_Number)ms / 1000);
    lua_setfield(L, -2, name);
}

static void set_int(lua_State *L, const char *name, uint64_t n)
{
    kv_lua_pushint64(L, (int64_t)n);
    lua_setfield(L, -2, name);
}

/* The id is text: an identifier, not something to count with, and exact on every Lua. */
static void set_id(lua_State *L, uint64_t id)
{
    char text[KV_JSON_NUMBER_MAX];

    lua_pushlstring(L, text, kv_json_integer_format((int64_t)id, text));
    lua_setfield(L, -2, "id");
}

static int op_get_with_metadata(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    kv_record r;
    const char *key;
    size_t len;
    int n, rc, as;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    as = kv_lua_as(L, c->arg + 1);
    if (as == KV_LUA_STREAM) {
        rc = kv_lua_reader(L, c, key, len, &r);
    } else {
        rc = kv_get(kv_lua_live(L, c), key, len, &r);
        if (rc == KV_OK)
            rc = kv_lua_keep(L, c, key, len, &r, room);
    }
    if (rc == KV_ENOTFOUND) {
        lua_pushnil(L);
        return 1;
    }
    if (rc != KV_OK)
        return kv_lua_fail(L, c, rc);
    lua_createtable(L, 0, 10);
    if (as == KV_LUA_STREAM)
        lua_pushvalue(L, -2);
    else if ((n = kv_lua_push(L, &r.value, as)) != 1)
        return n;
    lua_setfield(L, -2, "value");
    if (r.meta_len != 0) {
        kv_lua_push_meta(L, &r);
        lua_setfield(L, -2, "metadata");
    }
    set_int(L, "rev", r.rev);
    set_id(L, r.id);
    set_time(L, "created_at", r.created);
    set_time(L, "updated_at", r.updated);
    if (r.expires != 0)
        set_time(L, "expiration", r.expires);
    lua_pushlstring(L, c->box->name, c->box->name_len);
    lua_setfield(L, -2, "namespace");
    lua_pushvalue(L, c->arg);
    lua_setfield(L, -2, "key");
    if (c->box->store->id != NULL)
        lua_pushlstring(L, c->box->store->id, c->box->store->id_len);
    else if (!c->guarded)
        lua_pushstring(L, c->box->store->path);
    else
        lua_pushnil(L); /* a path is not for everybody */
    lua_setfield(L, -2, "instance");
    return 1;
}

#define op_entry op_get_with_metadata

static int op_exists(lua_State *L, const kv_lua_call *c)
{
    const char *key;
    size_t len;
    int n, rc;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    rc = kv_exists(kv_lua_live(L, c), key, len);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    lua_pushboolean(L, rc == KV_OK);
    return 1;
}

static int op_ttl(lua_State *L, const kv_lua_call *c)
{
    kv_record r;
    const char *key;
    size_t len;
    int64_t left;
    int n, rc;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    rc = kv_get(kv_lua_live(L, c), key, len, &r);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    left = rc == KV_OK && r.expires != 0 ? r.expires - kv_now(c->box->store->h) : 0;
    if (rc == KV_OK && r.expires == 0)
        lua_pushboolean(L, 0);
    else if (left > 0)
        lua_pushnumber(L, (lua_Number)left / 1000);
    else
        lua_pushnil(L);
    return 1;
}

/* ---- writing ------------------------------------------------------------ */

static const char *const write_names[] = {KV_LUA_WRITE_NAMES, NULL};

/* A ttl and nothing else is what most options are: read without a place for each that there might
 * be, which cost more than the timer, and in as few calls of Lua's API as it takes. 0: they are
 * others, or wrong. */
static int only_ttl(lua_State *L, int i, kv_write *w)
{
    const char *name;
    size_t len;

    lua_pushnil(L);
    if (!lua_next(L, i))
        return 0;
    if (lua_type(L, -1) == LUA_TNUMBER) {
        name = lua_tolstring(L, -2, &len); /* of a number: it stays as it is in the table */
        if (name != NULL && len == 3 && memcmp(name, "ttl", 3) == 0) {
            w->ttl = kv_lua_ttl_of(L, -1);
            lua_pop(L, 1);
            if (!lua_next(L, i)) {
                w->flags = w->ttl != 0 ? KV_TTL : 0;
                return w->ttl != 0;
            }
        }
    }
    lua_pop(L, 2);
    return 0;
}

/* Value and options of put and swap, at the second argument. Returns 0, or results. */
static int read_write(lua_State *L, const kv_lua_call *c, kv_value *v, kv_write *w)
{
    int n, as_json = 0, type = lua_type(L, c->arg + 2);

    memset(w, 0, sizeof *w);
    if (type > LUA_TNIL && (type != LUA_TTABLE || !only_ttl(L, c->arg + 2, w))) {
        int base = kv_lua_opts(L, c->arg + 2, write_names, NULL);
        if ((n = kv_lua_write_opts(L, base, w, &as_json)) != 0)
            return n;
    }
    return kv_lua_value(L, c->arg + 1, "value", as_json, v);
}

/* A function or an object with `read` is a stream. A plain table, which is none, is told quickly.
 */
static inline int is_reader(lua_State *L, int i)
{
    int type = lua_type(L, i), found;

    if (type != LUA_TTABLE)
        return type == LUA_TFUNCTION || (type == LUA_TUSERDATA && kv_lua_has(L, i, "read"));
    lua_pushliteral(L, "read");
    lua_rawget(L, i);
    found = lua_type(L, -1) == LUA_TFUNCTION;
    lua_pop(L, 1);
    if (found || !lua_getmetatable(L, i))
        return found;
    lua_pop(L, 1);
    return kv_lua_has(L, i, "read");
}

static int op_put(lua_State *L, const kv_lua_call *c)
{
    kv_value v;
    kv_write w;
    const char *key;
    size_t len;
    uint64_t rev;
    int n, rc;

    if (is_reader(L, c->arg + 1))
        return kv_lua_put_reader(L, c);
    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    if (c->box != NULL && c->box->ns != NULL)
        kv_expect(c->box->ns, key, len);
    if ((n = read_write(L, c, &v, &w)) != 0)
        return n;
    rc = kv_put(kv_lua_live(L, c), key, len, &v, &w, &rev, NULL);
    if (v.type == KV_JSON && lua_type(L, c->arg + 1) != LUA_TSTRING)
        kv_lua_encode_done(L, lua_gettop(L));
    if (rc != KV_OK)
        return kv_lua_is_condition(rc) ? kv_lua_refuse(L, rc) : kv_lua_fail(L, c, rc);
    kv_lua_pushint64(L, (int64_t)rev);
    return 1;
}

#define op_set op_put

static int op_delete(lua_State *L, const kv_lua_call *c)
{
    kv_write w;
    const char *key;
    size_t len;
    int n, rc;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    kv_lua_if_rev(L, c->arg + 1, &w);
    rc = kv_delete(kv_lua_live(L, c), key, len, &w, NULL, NULL);
    if (rc == KV_ECONFLICT)
        return kv_lua_refuse(L, rc);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    lua_pushboolean(L, rc == KV_OK);
    return 1;
}

/* swap and take give back what they replace. Turning it into a Lua value may fail for want of
 * memory, so it is read and converted first, and the change made on condition that it is still the
 * same; the core's way of handing out the old record would have changed the store already. */
static int old_value(lua_State *L, const kv_lua_call *c, const char *key, size_t len, uint64_t *rev)
{
    char room[KV_LUA_ROOM];
    kv_record r;
    int rc = kv_get(kv_lua_live(L, c), key, len, &r);

    if (rc == KV_OK) {
        r.meta_len = 0;
        rc = kv_lua_keep(L, c, key, len, &r, room);
    }
    *rev = 0;
    if (rc == KV_ENOTFOUND) {
        lua_pushnil(L);
        return 1;
    }
    if (rc != KV_OK)
        return kv_lua_fail(L, c, rc);
    *rev = r.rev;
    return kv_lua_push(L, &r.value, KV_LUA_PLAIN);
}

/* What put says of a key at another revision than the one asked for; 0: it is not there. */
static int put_refusal(const kv_write *w, uint64_t rev)
{
    if (w->flags & KV_IF_EXIST && rev == 0)
        return KV_ENOTFOUND;
    return w->flags & KV_IF_NOT_EXIST && rev != 0 ? KV_EEXISTS : KV_ECONFLICT;
}

static int op_swap(lua_State *L, const kv_lua_call *c)
{
    kv_value v;
    kv_write w;
    const char *key;
    size_t len;
    uint64_t rev, asked;
    int n, rc, top, conditional;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0 || (n = read_write(L, c, &v, &w)) != 0)
        return n;
    conditional = (w.flags & KV_IF_REV) != 0;
    asked = w.if_rev;
    w.flags |= KV_IF_REV;
    top = lua_gettop(L);
    do {
        lua_settop(L, top);
        if ((n = old_value(L, c, key, len, &w.if_rev)) != 1)
            return n;
        if (conditional && w.if_rev != asked)
            return kv_lua_refuse(L, put_refusal(&w, w.if_rev));
        rc = kv_put(kv_lua_live(L, c), key, len, &v, &w, &rev, NULL);
    } while (rc == KV_ECONFLICT && !conditional);
    if (rc != KV_OK)
        return kv_lua_is_condition(rc) ? kv_lua_refuse(L, rc) : kv_lua_fail(L, c, rc);
    lua_pushnil(L);
    kv_lua_pushint64(L, (int64_t)rev);
    return 3;
}

static int op_take(lua_State *L, const kv_lua_call *c)
{
    kv_write w;
    const char *key;
    size_t len;
    uint64_t asked;
    int n, rc, top, conditional;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    kv_lua_if_rev(L, c->arg + 1, &w);
    conditional = (w.flags & KV_IF_REV) != 0;
    asked = w.if_rev;
    w.flags |= KV_IF_REV;
    top = lua_gettop(L);
    do {
        lua_settop(L, top);
        if ((n = old_value(L, c, key, len, &w.if_rev)) != 1)
            return n;
        if (conditional && w.if_rev != asked)
            return kv_lua_refuse(L, KV_ECONFLICT);
        if (w.if_rev == 0)
            return 1;
        rc = kv_delete(kv_lua_live(L, c), key, len, &w, NULL, NULL);
        if (rc == KV_ENOTFOUND)
            rc = KV_ECONFLICT; /* gone since: look again */
    } while (rc == KV_ECONFLICT && !conditional);
    if (rc == KV_OK)
        return 1;
    return rc == KV_ECONFLICT ? kv_lua_refuse(L, rc) : kv_lua_fail(L, c, rc);
}

static int op_expire(lua_State *L, const kv_lua_call *c)
{
    const char *key;
    size_t len;
    lua_Number seconds;
    int64_t ms = 0;
    int n, rc, i = c->arg + 1;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    seconds = lua_type(L, i) == LUA_TNUMBER ? lua_tonumber(L, i) : 1e300;
    if (!(seconds - seconds == 0 && seconds <= 1e9))
        return kv_lua_bad(L, "seconds", "a number of seconds <= 1e9", i);
    if (seconds > 0)
        ms = kv_lua_ttl(L, i, "seconds");
    rc = kv_expire(kv_lua_live(L, c), key, len, ms);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    lua_pushboolean(L, rc == KV_OK);
    return 1;
}

static int op_persist(lua_State *L, const kv_lua_call *c)
{
    const char *key;
    size_t len;
    int n, rc, had = 0;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    rc = kv_persist(kv_lua_live(L, c), key, len, &had);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    lua_pushboolean(L, rc == KV_OK && had);
    return 1;
}

static void read_incr(lua_State *L, int i, kv_incr_opts *o)
{
    enum { INIT, TTL, MIN, MAX };
    static const char *const names[] = {"init", "ttl", "min", "max", NULL};
    int base = kv_lua_opts(L, i, names, NULL);

    memset(o, 0, sizeof *o);
    o->init.type = KV_INTEGER;
    if (base == 0)
        return;
    if (lua_isboolean(L, base + INIT) && !lua_toboolean(L, base + INIT))
        o->flags |= KV_INCR_NO_INIT;
    else if (lua_isboolean(L, base + INIT))
        kv_lua_bad(L, "init", "a number or false", base + INIT);
    else if (!lua_isnil(L, base + INIT))
        kv_lua_number(L, base + INIT, "init", &o->init);
    if (!lua_isnil(L, base + TTL)) {
        o->flags |= KV_INCR_TTL;
        o->ttl = kv_lua_ttl(L, base + TTL, "ttl");
    }
    if (!lua_isnil(L, base + MIN)) {
        o->flags |= KV_INCR_MIN;
        kv_lua_number(L, base + MIN, "min", &o->min);
    }
    if (!lua_isnil(L, base + MAX)) {
        o->flags |= KV_INCR_MAX;
        kv_lua_number(L, base + MAX, "max", &o->max);
    }
}

static int op_incr(lua_State *L, const kv_lua_call *c)
{
    kv_value by, out;
    kv_incr_opts o;
    const char *key;
    size_t len;
    int n, rc;

    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    memset(&by, 0, sizeof by);
    by.type = KV_INTEGER;
    by.integer = 1;
    if (!lua_isnoneornil(L, c->arg + 1))
        kv_lua_number(L, c->arg + 1, "by", &by);
    read_incr(L, c->arg + 2, &o);
    rc = kv_incr(kv_lua_live(L, c), key, len, &by,
                 o.flags != 0 || o.init.integer != 0 || o.init.type != KV_INTEGER ? &o : NULL, &out,
                 NULL);
    if (rc == KV_ENOTFOUND)
        return kv_lua_refuse(L, rc);
    return rc == KV_OK ? kv_lua_push(L, &out, KV_LUA_PLAIN) : kv_lua_fail(L, c, rc);
}

static int method_get(lua_State *L)
{
    kv_lua_call c;
    size_t len;
    const char *key;

    kv_lua_method(L, &c, "get");
    if (lua_type(L, 2) == LUA_TSTRING && lua_gettop(L) == 2) {
        key = lua_tolstring(L, 2, &len);
        if (c.box != NULL && len - 1 < KV_MAX_KEY)
            return get(L, &c, key, len, KV_LUA_PLAIN);
    }
    return op_get(L, &c);
}

/* As KV_LUA_OP has it; before that the usual call, a key and nothing else of a store that is open,
 * in as few calls of Lua's API as it takes, the key first: a processor fetches its bytes meanwhile.
 */
static int bound_get(lua_State *L)
{
    kv_lua_call c;
    kv_lua_handle *o;
    size_t len;
    const char *key;
    int n;

    if (lua_type(L, 1) == LUA_TSTRING && lua_gettop(L) == 1) {
        key = lua_tolstring(L, 1, &len);
        o = lua_touserdata(L, lua_upvalueindex(1));
        c.box = o->box;
        c.arg = 1;
        c.guarded = o->guarded;
        if (c.box != NULL && len - 1 < KV_MAX_KEY)
            return get(L, &c, key, len, KV_LUA_PLAIN);
    }
    n = kv_lua_bound(L, &c, "get");
    return n != 0 ? n : op_get(L, &c);
}

KV_LUA_OP(get_with_metadata)
KV_LUA_OP(entry)
KV_LUA_OP(exists)
KV_LUA_OP(ttl)
KV_LUA_OP(put)
KV_LUA_OP(set)
KV_LUA_OP(delete)
KV_LUA_OP(swap)
KV_LUA_OP(take)
KV_LUA_OP(expire)
KV_LUA_OP(persist)
KV_LUA_OP(incr)

#define OP(x)                                                                                      \
    {                                                                                              \
#x, method_##x, bound_##x                                                                  \
    }
const kv_lua_op kv_lua_key_ops[] = {
    OP(get),    OP(get_with_metadata),
    OP(entry),  OP(exists),
    OP(ttl),    OP(delete),
    OP(swap),   OP(take),
    OP(expire), OP(persist),
    OP(incr),   {NULL, NULL, NULL},
};

const kv_lua_op kv_lua_put_ops[] = {OP(put), OP(set), {NULL, NULL, NULL}};
