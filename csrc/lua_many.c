/* SPDX-License-Identifier: MIT
 *
 * lua_many.c - operations on several keys: get_many, put_many, delete_many, delete_prefix, clear.
 *
 * Every key is looked at before the first is written. Strings found in a caller's table are kept in
 * one of our own while C points into them: a finalizer could take them out of his.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <stdio.h>
#include <string.h>

/* ---- lists of keys ------------------------------------------------------ */

/* Copies the array of keys at the first argument to a new table on the stack. Returns 0, or
 * results. */
static int read_keys(lua_State *L, const kv_lua_call *c, int *n)
{
    const char *key;
    char what[32];
    size_t len;
    int bad, to;

    if (lua_type(L, c->arg) != LUA_TTABLE)
        return kv_lua_bad(L, "keys", "an array of keys", c->arg);
    *n = (int)kv_lua_items(L, c->arg, "keys");
    lua_createtable(L, *n, 0);
    to = lua_gettop(L);
    for (int i = 1; i <= *n; i++) {
        lua_rawgeti(L, c->arg, i);
        if (lua_type(L, -1) != LUA_TSTRING || lua_rawlen(L, -1) - 1 >= KV_MAX_KEY) {
            snprintf(what, sizeof what, "keys[%d]", i);
            if ((bad = kv_lua_key(L, -1, what, &key, &len)) != 0)
                return bad;
        }
        lua_rawseti(L, to, i);
    }
    return 0;
}

/* Keys whose buckets and records are fetched together. */
#define GROUP 16

static int op_get_many(lua_State *L, const kv_lua_call *c)
{
    const char *key[GROUP];
    size_t len[GROUP];
    int n, count, keys, found, size;

    if ((n = read_keys(L, c, &count)) != 0)
        return n;
    luaL_checkstack(L, GROUP + 8, "get_many");
    keys = lua_gettop(L);
    lua_createtable(L, 0, count);
    found = lua_gettop(L);
    kv_lua_live(L, c);
    for (int first = 1; first <= count; first += size) {
        size = count - first < GROUP ? count - first + 1 : GROUP;
        for (int i = 0; i < size; i++) {
            lua_rawgeti(L, keys, first + i);
            key[i] = lua_tolstring(L, -1, &len[i]);
        }
        kv_prefetch_keys(kv_lua_live(L, c), key, len, (size_t)size);
        for (int i = 0; i < size; i++) {
            if ((n = kv_lua_get(L, c, key[i], len[i])) != 1)
                return n;
            if (!lua_isnil(L, -1)) {
                lua_pushvalue(L, found + 1 + i);
                lua_insert(L, -2);
                lua_rawset(L, found);
            }
            lua_settop(L, found + size); /* the owner of the value's bytes, too */
        }
        lua_settop(L, found);
    }
    return 1;
}

static int op_delete_many(lua_State *L, const kv_lua_call *c)
{
    int64_t deleted = 0;
    int n, count, keys;

    if ((n = read_keys(L, c, &count)) != 0)
        return n;
    keys = lua_gettop(L);
    for (int i = 1; i <= count; i++) {
        const char *key;
        size_t len;
        int rc;
        lua_rawgeti(L, keys, i);
        key = lua_tolstring(L, -1, &len);
        rc = kv_delete(kv_lua_live(L, c), key, len, NULL, NULL, NULL);
        if (rc != KV_OK && rc != KV_ENOTFOUND)
            return kv_lua_fail(L, c, rc);
        deleted += rc == KV_OK;
        lua_settop(L, keys);
    }
    kv_lua_pushint64(L, deleted);
    return 1;
}

static int delete_prefix(lua_State *L, const kv_lua_call *c, const char *prefix, size_t len)
{
    uint64_t n = 0;
    int rc = kv_delete_prefix(kv_lua_live(L, c), prefix, len, &n);

    if (rc != KV_OK)
        return kv_lua_fail(L, c, rc);
    kv_lua_pushint64(L, (int64_t)n);
    return 1;
}

static int op_delete_prefix(lua_State *L, const kv_lua_call *c)
{
    const char *prefix;
    size_t len;

    if (lua_type(L, c->arg) != LUA_TSTRING)
        return kv_lua_bad(L, "prefix", "a string", c->arg);
    prefix = lua_tolstring(L, c->arg, &len);
    if (len == 0)
        return kv_lua_error(L, "bad argument 'prefix': an empty prefix is everything: use clear");
    if (len > KV_MAX_KEY) { /* no key is that long */
        lua_pushinteger(L, 0);
        return 1;
    }
    return delete_prefix(L, c, prefix, len);
}

static int op_clear(lua_State *L, const kv_lua_call *c)
{
    if (!lua_isnoneornil(L, c->arg))
        return kv_lua_bad(L, "clear", "no argument (use delete_prefix for a part)", c->arg);
    return delete_prefix(L, c, "", 0);
}

/* ---- put_many ----------------------------------------------------------- */

typedef struct batch {
    kv_item *items;
    size_t n, room;
    int anchor, anchored; /* the table that keeps the strings; how many are in it */
    kv_write common;      /* the options for all */
    int as_json;
} batch;

/* Moves what is on top of the stack into the anchor. */
static void anchor(lua_State *L, batch *b)
{
    lua_rawseti(L, b->anchor, ++b->anchored);
}

/* Key at `k`, value at `v`, options of its own from `base` (0: none). Returns 0, or results. */
static int add_item(lua_State *L, batch *b, int k, int v, int base, const char *what)
{
    kv_item *item = &b->items[b->n];
    int as_json = b->as_json, n, top = lua_gettop(L);
    char name[KV_MAX_KEY + 16];

    if (b->n == b->room)
        return kv_lua_error(L, "bad argument 'items': the table was changed meanwhile");
    snprintf(name, sizeof name, *what != '\0' ? "%s.key" : "%skey", what);
    if ((n = kv_lua_key(L, k, name, &item->key, &item->len)) != 0)
        return n;
    lua_pushvalue(L, k);
    anchor(L, b);
    item->write = b->common;
    if ((n = kv_lua_write_opts(L, base, &item->write, &as_json)) != 0)
        return n;
    if (lua_gettop(L) > top)
        anchor(L, b);
    if (*what != '\0')
        snprintf(name, sizeof name, "%s.value", what);
    else
        snprintf(name, sizeof name, "value of '%s'", item->key);
    if ((n = kv_lua_value(L, v, name, as_json, &item->value)) != 0)
        return n;
    if (lua_gettop(L) == top)
        lua_pushvalue(L, v);
    anchor(L, b);
    b->n++;
    return 0;
}

static int read_map(lua_State *L, const kv_lua_call *c, batch *b)
{
    int n, top = lua_gettop(L);

    lua_pushnil(L);
    while (lua_next(L, c->arg)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            return kv_lua_bad(L, "items", "keys that are strings", -2);
        if ((n = add_item(L, b, top + 1, top + 2, 0, "")) != 0)
            return n;
        lua_settop(L, top + 1);
    }
    return 0;
}

static int read_list(lua_State *L, const kv_lua_call *c, batch *b, int count)
{
    static const char *const names[] = {KV_LUA_WRITE_NAMES, "key", "value", NULL};
    enum { KEY = KV_LUA_WRITE_COUNT, VALUE };
    int n, top = lua_gettop(L);
    char what[32];

    for (int i = 1; i <= count; i++) {
        int base;
        snprintf(what, sizeof what, "items[%d]", i);
        lua_rawgeti(L, c->arg, i);
        if (lua_type(L, -1) != LUA_TTABLE)
            return kv_lua_bad(L, what, "a table {key =, value =, ...}", -1);
        base = kv_lua_opts(L, top + 1, names, NULL);
        if ((n = add_item(L, b, base + KEY, base + VALUE, base, what)) != 0)
            return n;
        lua_settop(L, top);
    }
    return 0;
}

/* How many entries the table of items has, and how many of them under integral keys. */
static int measure(lua_State *L, int i, size_t *n)
{
    int numbers = 0;

    *n = 0;
    lua_pushnil(L);
    while (lua_next(L, i)) {
        ++*n;
        numbers += lua_type(L, -2) == LUA_TNUMBER;
        lua_pop(L, 1);
    }
    return numbers;
}

static int op_put_many(lua_State *L, const kv_lua_call *c)
{
    static const char *const names[] = {KV_LUA_WRITE_NAMES, NULL};
    batch b;
    size_t failed = (size_t)-1;
    int n, rc, numbers, base;

    if (lua_type(L, c->arg) != LUA_TTABLE)
        return kv_lua_bad(L, "items", "a table of keys and values, or a list of tables", c->arg);
    memset(&b, 0, sizeof b);
    base = kv_lua_opts(L, c->arg + 1, names, NULL);
    if ((n = kv_lua_write_opts(L, base, &b.common, &b.as_json)) != 0)
        return n;
    numbers = measure(L, c->arg, &b.room);
    if (numbers != 0 && ((size_t)numbers != b.room || lua_rawlen(L, c->arg) != b.room))
        return kv_lua_error(L,
                            "bad argument 'items': expected a list without holes, or a table whose "
                            "keys are strings");
    if (b.room == 0) {
        kv_lua_live(L, c);
        lua_pushinteger(L, 0);
        return 1;
    }
    kv_lua_stack(L, 24);
    b.items = lua_newuserdata(L, b.room * sizeof *b.items);
    lua_newtable(L);
    b.anchor = lua_gettop(L);
    n = numbers != 0 ? read_list(L, c, &b, numbers) : read_map(L, c, &b);
    if (n != 0)
        return n;
    rc = kv_put_many(kv_lua_live(L, c), b.items, b.n, NULL, &failed);
    if (rc != KV_OK) {
        n = kv_lua_is_condition(rc) ? kv_lua_refuse(L, rc) : kv_lua_fail(L, c, rc);
        if (failed < b.n) {
            lua_pushlstring(L, b.items[failed].key, b.items[failed].len);
            lua_pushfstring(L, "%s (key '%s')", lua_tostring(L, -3), lua_tostring(L, -1));
            lua_replace(L, -4);
            lua_pop(L, 1);
        }
        return n;
    }
    kv_lua_pushint64(L, (int64_t)b.n);
    return 1;
}

KV_LUA_OP(get_many)
KV_LUA_OP(put_many)
KV_LUA_OP(delete_many)
KV_LUA_OP(delete_prefix)
KV_LUA_OP(clear)

#define OP(x)                                                                                      \
    {                                                                                              \
#x, method_##x, bound_##x                                                                  \
    }
const kv_lua_op kv_lua_many_ops[] = {
    OP(get_many), OP(put_many), OP(delete_many), OP(delete_prefix), OP(clear), {NULL, NULL, NULL},
};
