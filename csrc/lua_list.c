/* SPDX-License-Identifier: MIT
 *
 * lua_list.c - ordered reading: list with its cursor, pairs, keys, count, get_all.
 *
 * An iterator of the core holds nothing and survives every change, so it lives in a userdata
 * without a finalizer; the loop's body may do anything, also close the store, which the next step
 * then reports.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <limits.h>
#include <string.h>

/* A page with values ends here, so that a client's `limit` cannot ask for everything at once. */
#define PAGE_BYTES (16u << 20)

typedef struct range {
    kv_range r;
    int64_t limit; /* -1: none */
    int values;
    char after[KV_MAX_KEY];
} range;

enum { PREFIX, LIMIT, CURSOR, REVERSE, START, STOP, VALUES };
#define RANGE_NAMES "prefix", "limit", "cursor", "reverse", "start", "stop"
static const char *const range_names[] = {RANGE_NAMES, NULL};
static const char *const list_names[] = {RANGE_NAMES, "values", NULL};

static void read_bound(lua_State *L, int i, const char *what, const char **s, uint32_t *len)
{
    size_t n;

    if (lua_isnil(L, i))
        return;
    if (lua_type(L, i) != LUA_TSTRING)
        kv_lua_bad(L, what, "a string", i);
    *s = lua_tolstring(L, i, &n);
    /* Longer than any key by one byte orders and matches like the whole. */
    *len = n > KV_MAX_KEY + 1 ? KV_MAX_KEY + 1 : (uint32_t)n;
}

/* Reads the options at the first argument; their strings stay on the stack. Returns 0, or results.
 */
static int read_range(lua_State *L, const kv_lua_call *c, const char *const *names, int64_t limit,
                      range *o)
{
    int base;

    memset(&o->r, 0, sizeof o->r);
    o->limit = limit;
    o->values = 0;
    base = kv_lua_opts(L, c->arg, names, "a table like {prefix=\"user:\"}");
    if (base == 0)
        return 0;
    read_bound(L, base + PREFIX, "prefix", &o->r.prefix, &o->r.prefix_len);
    read_bound(L, base + START, "start", &o->r.start, &o->r.start_len);
    read_bound(L, base + STOP, "stop", &o->r.stop, &o->r.stop_len);
    if (kv_lua_boolean(L, base + REVERSE, "reverse", 0))
        o->r.flags |= KV_REVERSE;
    if (!lua_isnil(L, base + LIMIT))
        o->limit = kv_lua_integer(L, base + LIMIT, "limit", 1, INT64_MAX, "an integer >= 1");
    if (names == list_names)
        o->values = kv_lua_boolean(L, base + VALUES, "values", 0);
    if (!lua_isnil(L, base + CURSOR)) {
        size_t len, key_len;
        const char *text;
        int rc;
        if (lua_type(L, base + CURSOR) != LUA_TSTRING)
            kv_lua_bad(L, "cursor", "a string that list returned", base + CURSOR);
        text = lua_tolstring(L, base + CURSOR, &len);
        rc = kv_cursor_read(kv_lua_live(L, c), &o->r, text, len, o->after, &key_len);
        if (rc != KV_OK)
            return kv_lua_fail(L, c, rc);
        o->r.after = o->after;
        o->r.after_len = (uint32_t)key_len;
    }
    return 0;
}

/* The core wants its iterators aligned to 16; some Luas align userdata to 8 only. */
static void *align(void *p)
{
    return (char *)p + (16 - (uintptr_t)p % 16) % 16;
}

/* For kv_iter_some, of `left` that are wanted; -1: any number. */
static int some_of(int64_t left)
{
    return left >= 0 && left < INT_MAX ? (int)left : INT_MAX;
}

/* ---- list --------------------------------------------------------------- */

/* A page while it is read. */
typedef struct page {
    int keys;  /* stack index of the table of entries */
    int names; /* and of the names of an entry's fields: cheaper than having Lua look them up */
    unsigned known; /* which of these are there, as bits: most pages take one */
    int64_t count;
    size_t bytes; /* of its values */
} page;

enum { NAME, EXPIRATION, METADATA, VALUE, FIELDS };
static const char *const field_names[FIELDS] = {"name", "expiration", "metadata", "value"};

static void begin_page(lua_State *L, page *p, int keys)
{
    p->keys = keys;
    p->names = lua_gettop(L) + 1;
    p->known = 1 << NAME;
    p->count = 0;
    p->bytes = 0;
    lua_pushstring(L, field_names[NAME]);
    lua_settop(L, p->names + FIELDS - 1);
}

static void push_name(lua_State *L, page *p, int field)
{
    if (!(p->known >> field & 1)) {
        lua_pushstring(L, field_names[field]);
        lua_replace(L, p->names + field);
        p->known |= 1u << field;
    }
    lua_pushvalue(L, p->names + field);
}

/* Whether the page ends before this record, because of its value. */
static inline int is_full(page *p, const range *o, const kv_record *r)
{
    size_t len;

    if (!o->values)
        return 0;
    len = r->value.type == KV_STRING || r->value.type == KV_JSON ? r->value.len : 0;
    if (p->count != 0 && p->bytes + len > PAGE_BYTES)
        return 1;
    p->bytes += len;
    return 0;
}

/* Where the next page begins. */
static void end_after(range *o, const kv_record *r)
{
    o->r.after = memcpy(o->after, r->key, r->key_len);
    o->r.after_len = r->key_len;
}

/* Sets what an entry may have beside its name. Returns 1, or results of a failure. */
static int set_fields(lua_State *L, page *p, const range *o, const kv_record *r, int value)
{
    int n;

    if (r->expires != 0) {
        push_name(L, p, EXPIRATION);
        lua_pushnumber(L, (lua_Number)r->expires / 1000);
        lua_rawset(L, -3);
    }
    if (r->meta_len != 0) {
        push_name(L, p, METADATA);
        kv_lua_push_meta(L, r);
        lua_rawset(L, -3);
    }
    if (o->values) {
        push_name(L, p, VALUE);
        if (value != 0)
            lua_pushvalue(L, value);
        else if ((n = kv_lua_push(L, &r->value, KV_LUA_PLAIN)) != 1)
            return n;
        lua_rawset(L, -3);
    }
    return 1;
}

/* Adds the entry of a record whose bytes stay where they are, or whose value is at stack index
 * `value` already. Returns 1, or results of a failure. */
static inline int add_entry(lua_State *L, page *p, const range *o, const kv_record *r, int value)
{
    int fields = (r->expires != 0) + (r->meta_len != 0) + o->values, n;

    lua_createtable(L, 0, 1 + fields);
    lua_pushvalue(L, p->names + NAME);
    lua_pushlstring(L, r->key, r->key_len);
    lua_rawset(L, -3);
    if (fields != 0 && (n = set_fields(L, p, o, r, value)) != 1)
        return n;
    lua_rawseti(L, p->keys, (int)++p->count);
    return 1;
}

enum { FULL = 1 };

/* Adds the next record, whatever it is. KV_OK, KV_ENOTFOUND, FULL, or a failure's code, whose
 * results are announced by *n. */
static int add_next(lua_State *L, const kv_lua_call *c, kv_iter *it, page *p, range *o, char *room,
                    int *n)
{
    int top = lua_gettop(L), value = 0, rc;
    kv_record r; /* its key lies in the iterator, the rest where the next call of the core may */

    rc = kv_iter_next(it, (kv_lua_live(L, c), &r));
    if (rc != KV_OK)
        return rc;
    if (p->count == o->limit || is_full(p, o, &r))
        return FULL;
    end_after(o, &r);
    r.key = o->after;
    if (KV_LUA_COPIES_FIRST && r.value.type == KV_STRING && r.meta_len == 0) {
        kv_lua_push(L, &r.value, KV_LUA_PLAIN);
        value = top + 1;
    } else if (o->values || r.meta_len != 0) {
        rc = kv_lua_keep(L, c, o->after, r.key_len, &r, room);
        if (rc != KV_OK) /* KV_ENOTFOUND: gone while memory for it was found */
            return rc == KV_ENOTFOUND ? KV_OK : rc;
    }
    if ((*n = add_entry(L, p, o, &r, value)) != 1)
        return KV_ECORRUPT;
    lua_settop(L, top);
    return KV_OK;
}

/* Reads a page into the table at `keys`; KV_ENOTFOUND: that was all, KV_OK: there is more, behind
 * the key left in o->after. Results of a failure are announced by *n. */
static int read_page(lua_State *L, const kv_lua_call *c, range *o, int keys, int *n)
{
    char room[KV_LUA_ROOM], memory[KV_ITER_SIZE + 15];
    kv_iter *it = align(memory);
    kv_record r[KV_ITER_MOST];
    page p;
    int rc, i, some;

    begin_page(L, &p, keys);
    o->r.flags |= KV_NO_HISTORY;
    if (!o->values)
        o->r.flags |= KV_NO_VALUES;
    rc = kv_iter_init(it, kv_lua_live(L, c), &o->r);
    while (rc == KV_OK) {
        int64_t wanted = o->limit - p.count; /* and whether there is one more */

        kv_lua_live(L, c);
        some = kv_iter_some(it, r, some_of(wanted + (wanted < INT_MAX)), room, sizeof room);
        if (some == 0)
            rc = add_next(L, c, it, &p, o, room, n);
        for (i = 0; i < some; i++) {
            if (i == wanted || is_full(&p, o, &r[i])) {
                rc = FULL;
                break;
            }
            if ((*n = add_entry(L, &p, o, &r[i], 0)) != 1)
                return KV_ECORRUPT;
        }
        if (i != 0)
            end_after(o, &r[i - 1]);
    }
    return rc == FULL ? KV_OK : rc;
}

static int op_list(lua_State *L, const kv_lua_call *c)
{
    range o;
    int rc, n = 0, result;

    if ((n = read_range(L, c, list_names, 1000, &o)) != 0)
        return n;
    lua_createtable(L, 0, 3);
    result = lua_gettop(L);
    lua_createtable(L, o.limit > 0 && o.limit <= 128 ? (int)o.limit : 0, 0);
    rc = read_page(L, c, &o, result + 1, &n);
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return n > 1 ? n : kv_lua_fail(L, c, rc);
    lua_pushvalue(L, result + 1);
    lua_setfield(L, result, "keys");
    lua_pushboolean(L, rc == KV_ENOTFOUND);
    lua_setfield(L, result, "list_complete");
    if (rc == KV_OK) {
        char text[KV_MAX_CURSOR];
        size_t len = kv_cursor_make(kv_lua_live(L, c), &o.r, o.after, o.r.after_len, text);
        lua_pushlstring(L, text, len);
        lua_setfield(L, result, "cursor");
    }
    lua_settop(L, result);
    return 1;
}

/* The next keys, `left` of them at most, at least 1 or -1: any number. 0: none, *rc says why. They
 * stay until the next call for *it. */
static int next_keys(kv_iter *it, int64_t left, kv_record *r, char *room, int *rc)
{
    int n = kv_iter_some(it, r, some_of(left), room, KV_LUA_ROOM);

    return n != 0 ? n : (*rc = kv_iter_next(it, r)) == KV_OK;
}

static int op_keys(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM], memory[KV_ITER_SIZE + 15];
    kv_iter *it = align(memory);
    kv_record r[KV_ITER_MOST];
    range o;
    int n, rc, keys, i;
    int64_t count = 0;

    if ((n = read_range(L, c, range_names, -1, &o)) != 0)
        return n;
    o.r.flags |= KV_KEYS_ONLY;
    lua_newtable(L);
    keys = lua_gettop(L);
    rc = kv_iter_init(it, kv_lua_live(L, c), &o.r);
    while (rc == KV_OK && o.limit != 0) {
        kv_lua_live(L, c);
        n = next_keys(it, o.limit, r, room, &rc);
        for (i = 0; i < n; i++) {
            lua_pushlstring(L, r[i].key, r[i].key_len);
            lua_rawseti(L, keys, (int)++count);
        }
        o.limit -= o.limit < 0 ? 0 : n;
    }
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    lua_settop(L, keys);
    return 1;
}

static int op_count(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM], memory[KV_ITER_SIZE + 15];
    kv_iter *it = align(memory);
    kv_record r[KV_ITER_MOST];
    range o;
    uint64_t count = 0;
    int n, rc;

    if ((n = read_range(L, c, range_names, -1, &o)) != 0)
        return n;
    o.r.flags |= KV_KEYS_ONLY;
    if (o.limit < 0) {
        rc = kv_count(kv_lua_live(L, c), &o.r, &count);
    } else {
        rc = kv_iter_init(it, kv_lua_live(L, c), &o.r);
        for (; rc == KV_OK && o.limit != 0; o.limit -= n) {
            n = next_keys(it, o.limit, r, room, &rc);
            count += (uint64_t)n;
        }
    }
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    kv_lua_pushint64(L, (int64_t)count);
    return 1;
}

/* Reads the next record, its bytes kept in room or on the stack; its key is left in `key`. */
static int next_record(lua_State *L, const kv_lua_call *c, kv_iter *it, kv_record *r, char *key,
                       char *room)
{
    int rc;

    do {
        kv_lua_live(L, c);
        rc = kv_iter_next(it, r);
        if (rc != KV_OK)
            return rc;
        memcpy(key, r->key, r->key_len);
        r->meta_len = 0;
        rc = kv_lua_keep(L, c, key, r->key_len, r, room);
    } while (rc == KV_ENOTFOUND);
    return rc;
}

/* Reads the next record into r[0], its bytes kept, or several whose bytes stay in room; their
 * number or, 0, why there is none in *rc. The key of one is left in `key`. */
static int next_records(lua_State *L, const kv_lua_call *c, kv_iter *it, int64_t left, kv_record *r,
                        char *key, char *room, int *rc)
{
    int n;

    kv_lua_live(L, c);
    n = kv_iter_some(it, r, some_of(left), room, KV_LUA_ROOM);
    if (n != 0)
        return n;
    *rc = next_record(L, c, it, r, key, room);
    r->key = key;
    return *rc == KV_OK;
}

static int op_get_all(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM], memory[KV_ITER_SIZE + 15], key[KV_MAX_KEY];
    kv_iter *it = align(memory);
    kv_record r[KV_ITER_MOST];
    range o;
    int n, rc, all, top, i;

    if ((n = read_range(L, c, range_names, -1, &o)) != 0)
        return n;
    o.r.flags |= KV_NO_HISTORY;
    lua_newtable(L);
    all = top = lua_gettop(L);
    rc = kv_iter_init(it, kv_lua_live(L, c), &o.r);
    while (rc == KV_OK && o.limit != 0) {
        n = next_records(L, c, it, o.limit, r, key, room, &rc);
        for (i = 0; i < n; i++) {
            int pushed;

            lua_pushlstring(L, r[i].key, r[i].key_len);
            if ((pushed = kv_lua_push(L, &r[i].value, KV_LUA_PLAIN)) != 1)
                return pushed;
            lua_rawset(L, all);
        }
        lua_settop(L, top);
        o.limit -= o.limit < 0 ? 0 : n;
    }
    if (rc != KV_OK && rc != KV_ENOTFOUND)
        return kv_lua_fail(L, c, rc);
    return 1;
}

/* ---- pairs -------------------------------------------------------------- */

/* What the closure keeps: the range's strings are copied in behind, the core's iterator comes last.
 */
typedef struct walk {
    range o;
    kv_iter *it;
    char strings[3][KV_MAX_KEY + 1];
} walk;

/* Raises what kv_lua_fail would return: a loop has nowhere to put it. */
static int raise_failure(lua_State *L, const kv_lua_call *c, int rc)
{
    kv_lua_fail(L, c, rc);
    return kv_lua_error(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
}

/* Upvalues: the handle, the walk. What is passed to it (state and control of `for`) is not looked
 * at. */
static int pairs_next(lua_State *L)
{
    char room[KV_LUA_ROOM], key[KV_MAX_KEY];
    kv_lua_handle *handle = lua_touserdata(L, lua_upvalueindex(1));
    walk *w = align(lua_touserdata(L, lua_upvalueindex(2)));
    kv_lua_call c;
    kv_record r;
    int rc;

    c.box = handle->box;
    c.arg = 1;
    c.guarded = handle->guarded;
    if (w->o.limit == 0) {
        lua_pushnil(L);
        return 1;
    }
    rc = next_record(L, &c, w->it, &r, key, room);
    if (rc == KV_ENOTFOUND) {
        w->o.limit = 0;
        lua_pushnil(L);
        return 1;
    }
    if (rc != KV_OK)
        return raise_failure(L, &c, rc);
    w->o.limit -= w->o.limit > 0;
    lua_pushlstring(L, key, r.key_len);
    if (kv_lua_push(L, &r.value, KV_LUA_PLAIN) != 1)
        return kv_lua_error(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
    return 2;
}

static void own(char *to, const char **s, uint32_t len)
{
    if (*s == NULL)
        return;
    memcpy(to, *s, len);
    *s = to;
}

static int make_pairs(lua_State *L, const kv_lua_call *c, int handle)
{
    range o;
    walk *w;
    int rc;

    if (read_range(L, c, range_names, -1, &o) != 0)
        return kv_lua_error(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
    lua_pushvalue(L, handle);
    w = align(lua_newuserdata(L, sizeof *w + kv_iter_size() + 30));
    w->o = o;
    w->it = align(w + 1);
    own(w->strings[0], &w->o.r.prefix, o.r.prefix_len);
    own(w->strings[1], &w->o.r.start, o.r.start_len);
    own(w->strings[2], &w->o.r.stop, o.r.stop_len);
    if (o.r.after != NULL)
        w->o.r.after = w->o.after;
    rc = kv_iter_init(w->it, kv_lua_live(L, c), &w->o.r);
    if (rc != KV_OK)
        return raise_failure(L, c, rc);
    lua_pushcclosure(L, pairs_next, 2);
    return 1;
}

/* Not by KV_LUA_OP: the iterator has to hold the handle, which is in another place each time. */
static int method_pairs(lua_State *L)
{
    kv_lua_call c;

    kv_lua_method(L, &c, "pairs");
    return make_pairs(L, &c, 1);
}

static int bound_pairs(lua_State *L)
{
    kv_lua_call c;

    if (kv_lua_bound(L, &c, "pairs") != 0)
        return kv_lua_error(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
    return make_pairs(L, &c, lua_upvalueindex(1));
}

KV_LUA_OP(list)
KV_LUA_OP(keys)
KV_LUA_OP(count)
KV_LUA_OP(get_all)

#define OP(x)                                                                                      \
    {                                                                                              \
#x, method_##x, bound_##x                                                                  \
    }
const kv_lua_op kv_lua_list_ops[] = {
    OP(list), OP(pairs), OP(keys), OP(count), OP(get_all), {NULL, NULL, NULL},
};
