/* SPDX-License-Identifier: MIT
 *
 * lua_kv.c - the module kv.core: boxes and their lifetimes, methods and bound functions, luaopen.
 *
 * Box first: a userdata with its metatable exists, empty, before anything is acquired for it, so
 * that an error thrown by Lua at any point leaves nothing behind that a finalizer does not reach.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <stdlib.h>
#include <string.h>

const char kv_lua_ns_meta[] = "kv.namespace", kv_lua_store_meta[] = "kv.store";

/* ---- boxes -------------------------------------------------------------- */

#ifdef KV_TEST
static int boxes; /* tests look for one left behind */
#define COUNT_BOXES(n) __atomic_fetch_add(&boxes, (n), __ATOMIC_RELAXED)
#else
#define COUNT_BOXES(n) ((void)0)
#endif

kv_lua_store *kv_lua_store_new(const char *path, const char *id, size_t id_len)
{
    size_t len = strlen(path);
    kv_lua_store *s = malloc(sizeof *s + len + 1 + (id != NULL ? id_len : 0));

    if (s == NULL)
        return NULL;
    s->h = NULL;
    s->spaces = NULL;
    s->refs = 1;
    memcpy(s->path, path, len + 1);
    s->id = NULL;
    s->id_len = id_len;
    if (id != NULL)
        s->id = memcpy(s->path + len + 1, id, id_len);
    COUNT_BOXES(1);
    return s;
}

int kv_lua_attach(kv_lua_handle *o, kv_lua_store *s, const char *name, size_t len, const char *desc,
                  size_t desc_len, int create)
{
    kv_lua_ns *b = malloc(sizeof *b + len + 1);
    int rc;

    if (b == NULL)
        return KV_ENOMEM;
    rc = kv_namespace(s->h, name, len, desc, desc_len, create, &b->ns);
    if (rc != KV_OK) {
        free(b);
        return rc;
    }
    memcpy(b->name, name, len);
    b->name[len] = '\0';
    b->name_len = len;
    b->refs = 1;
    b->calls = 0;
    b->streams = NULL;
    b->store = s;
    s->refs++;
    b->prev = NULL;
    b->next = s->spaces;
    if (b->next != NULL)
        b->next->prev = b;
    s->spaces = b;
    o->box = b;
    COUNT_BOXES(1);
    return KV_OK;
}

void kv_lua_store_close(kv_lua_store *s)
{
    kv *h = s->h;

    for (kv_lua_ns *b = s->spaces; b != NULL; b = b->next) {
        kv_lua_streams_end(b);
        if (b->ns != NULL)
            kv_ns_close(b->ns);
        b->ns = NULL;
        b->calls++; /* the scratch is gone as well */
    }
    s->h = NULL;
    kv_close(h);
}

void kv_lua_store_release(kv_lua_store *s)
{
    if (--s->refs != 0)
        return;
    kv_lua_store_close(s);
    COUNT_BOXES(-1);
    free(s);
}

void kv_lua_ns_release(kv_lua_ns *b)
{
    kv_lua_store *s = b->store;

    if (--b->refs != 0)
        return;
    if (b->ns != NULL)
        kv_ns_close(b->ns);
    if (b->prev != NULL)
        b->prev->next = b->next;
    else
        s->spaces = b->next;
    if (b->next != NULL)
        b->next->prev = b->prev;
    COUNT_BOXES(-1);
    free(b);
    kv_lua_store_release(s);
}

const char kv_lua_seal = 0;

kv_lua_handle *kv_lua_new_handle(lua_State *L)
{
    kv_lua_handle *o = lua_newuserdata(L, sizeof *o);

    o->seal = KV_LUA_SEAL(o);
    o->box = NULL;
    o->guarded = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, kv_lua_ns_meta);
    lua_setmetatable(L, -2);
    return o;
}

kv_lua_owner *kv_lua_new_owner(lua_State *L)
{
    kv_lua_owner *o = lua_newuserdata(L, sizeof *o);

    o->box = NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, kv_lua_store_meta);
    lua_setmetatable(L, -2);
    return o;
}

/* ---- calls -------------------------------------------------------------- */

int kv_lua_misuse(lua_State *L, const char *name)
{
    return kv_lua_error(L, "use ns:%s(...), not ns.%s(...): the first argument is not a namespace",
                        name, name);
}

int kv_lua_misuse_bound(lua_State *L, const char *name)
{
    return kv_lua_error(L, "use kv.%s(...), not kv:%s(...): a dot, not a colon", name, name);
}

void kv_lua_push_name(lua_State *L, const kv_lua_ns *b)
{
    if (b->name[0] != '\0') {
        lua_pushliteral(L, "'");
        lua_pushlstring(L, b->name, b->name_len);
    } else if (b->name[1] == KV_LUA_APP) {
        const char *app = b->name + 3;
        size_t len = (unsigned char)b->name[2];
        lua_pushliteral(L, "of app '");
        lua_pushlstring(L, app, len);
        lua_pushliteral(L, "', installation '");
        lua_pushlstring(L, app + len, b->name_len - 3 - len);
        lua_concat(L, 3);
    } else {
        lua_pushliteral(L, "of all installations of app '");
        lua_pushlstring(L, b->name + 2, b->name_len - 2);
    }
    lua_pushliteral(L, "'");
    lua_concat(L, 3);
}

int kv_lua_closed(lua_State *L, const kv_lua_call *c)
{
    if (c->box == NULL)
        return kv_lua_error(L, "this namespace is closed");
    kv_lua_stack(L, 8);
    kv_lua_push_name(L, c->box);
    return kv_lua_error(L, "namespace %s is closed: its store was closed", lua_tostring(L, -1));
}

/* The module's functions work on a store that is opened by the first of them. */
int kv_lua_open_default(lua_State *L, kv_lua_handle *o, int opener)
{
    kv_lua_owner *s;
    int rc;

    if (lua_type(L, opener) != LUA_TFUNCTION)
        return 0; /* finalized: kv_lua_live says so */
    kv_lua_stack(L, 8);
    lua_pushvalue(L, opener);
    lua_call(L, 0, 3);
    s = kv_lua_to_owner(L, -3);
    if (s == NULL) {
        if (!lua_isnil(L, -1))
            return 3;
        return kv_lua_error(L, "%s", lua_tostring(L, -2));
    }
    if (s->box == NULL || s->box->h == NULL)
        return kv_lua_error(L, "the default store is closed");
    /* The function just called could have come here as well. */
    rc = o->box != NULL ? KV_OK : kv_lua_attach(o, s->box, "default", 7, NULL, 0, 1);
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    lua_pop(L, 3);
    return 0;
}

/* ---- the object --------------------------------------------------------- */

/* Metamethods are reached by Lua only (the metatable is hidden), but debug.getmetatable exists. */
static kv_lua_handle *self(lua_State *L)
{
    kv_lua_handle *o = lua_touserdata(L, 1);

    if (o == NULL || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)) ||
        lua_rawlen(L, 1) != sizeof *o)
        kv_lua_misuse(L, "method");
    lua_pop(L, 1);
    return o;
}

static int ns_gc(lua_State *L)
{
    kv_lua_handle *o = self(L);
    kv_lua_ns *b = o->box;

    o->box = NULL;
    if (b != NULL)
        kv_lua_ns_release(b);
    return 0;
}

static int ns_tostring(lua_State *L)
{
    kv_lua_handle *o = self(L);

    if (o->box == NULL) {
        lua_pushliteral(L, "kv.namespace (not open)");
        return 1;
    }
    lua_pushliteral(L, "kv.namespace ");
    kv_lua_push_name(L, o->box);
    lua_pushstring(L, o->box->ns != NULL ? "" : " (closed)");
    lua_concat(L, 3);
    return 1;
}

/* bind(ns): a table of the operations, and behind it the handle they work on, which is one of its
 * own on the same box. */
static int core_bind(lua_State *L)
{
    kv_lua_call c;
    kv_lua_handle *o;

    kv_lua_method(L, &c, "bind");
    kv_lua_live(L, &c);
    o = kv_lua_new_handle(L);
    o->guarded = 1;
    o->box = c.box;
    c.box->refs++;
    lua_newtable(L);
    kv_lua_bind(L, lua_gettop(L), lua_gettop(L) - 1, 0);
    lua_insert(L, -2);
    return 2;
}

/* array, encode and decode take a table as they please; the module itself must be a colon. */
#define CONVERSION(name, function)                                                                 \
    static int bound_##name(lua_State *L)                                                          \
    {                                                                                              \
        if (lua_type(L, 1) == LUA_TTABLE && lua_rawequal(L, 1, lua_upvalueindex(2)))               \
            return kv_lua_misuse_bound(L, #name);                                                  \
        return function(L);                                                                        \
    }
CONVERSION(array, kv_lua_array)
CONVERSION(encode, kv_lua_json_encode)
CONVERSION(decode, kv_lua_json_decode)

static const kv_lua_op conversions[] = {
    {"array", NULL, bound_array},
    {"encode", NULL, bound_encode},
    {"decode", NULL, bound_decode},
    {NULL, NULL, NULL},
};

/* tail: they may end in kv_lua_tail. */
static const struct {
    const kv_lua_op *ops;
    int tail;
} all_ops[] = {{kv_lua_key_ops, 0},  {kv_lua_put_ops, 1},    {kv_lua_list_ops, 0},
               {kv_lua_many_ops, 0}, {kv_lua_stream_ops, 0}, {kv_lua_field_ops, 0}};
enum { GROUPS = sizeof all_ops / sizeof all_ops[0] };

static void put_bound(lua_State *L, const kv_lua_op *op, int tail, int t, int handle, int opener)
{
    for (; op->name != NULL; op++) {
        lua_pushstring(L, op->name);
        lua_pushvalue(L, handle);
        lua_pushvalue(L, t);
        if (opener != 0)
            lua_pushvalue(L, opener);
        else
            lua_pushnil(L);
        lua_pushcclosure(L, op->bound, 3);
        if (tail)
            kv_lua_around(L);
        lua_rawset(L, t);
    }
}

void kv_lua_bind(lua_State *L, int t, int handle, int opener)
{
    kv_lua_stack(L, 8);
    for (int i = 0; i < GROUPS; i++)
        put_bound(L, all_ops[i].ops, all_ops[i].tail, t, handle, opener);
    put_bound(L, conversions, 0, t, handle, 0);
    lua_pushliteral(L, "null");
    lua_pushlightuserdata(L, NULL);
    lua_rawset(L, t);
}

/* ---- the module --------------------------------------------------------- */

/* methods(): the table behind every namespace object. Operations written in Lua go in here. */
static int core_methods(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, kv_lua_ns_meta);
    lua_getfield(L, -1, "__index");
    return 1;
}

/* expect(ns, name): raises unless ns is a namespace; returns whether it belongs to a bound table.
 */
static int core_expect(lua_State *L)
{
    kv_lua_call c;

    kv_lua_method(L, &c, lua_tostring(L, 2));
    lua_pushboolean(L, c.guarded);
    return 1;
}

/* ready(handle, opener): true once the default store is open, or nil, message, code. */
static int core_ready(lua_State *L)
{
    kv_lua_handle *o = lua_touserdata(L, 1);
    int n = o->box == NULL ? kv_lua_open_default(L, o, 2) : 0;

    if (n != 0)
        return n;
    lua_pushboolean(L, 1);
    return 1;
}

/* raise(message): an error that blames the program's line; misuse(name): that of a colon. */
static int core_raise(lua_State *L)
{
    return kv_lua_error(L, "%s", lua_tostring(L, 1));
}

static int core_headroom(lua_State *L)
{
    kv_lua_headroom(L);
    return 0;
}

static int core_misuse(lua_State *L)
{
    return kv_lua_misuse_bound(L, lua_tostring(L, 1));
}

static const char parts_key = 0;

void kv_lua_push_part(lua_State *L, const char *name)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &parts_key);
    if (lua_type(L, -1) != LUA_TTABLE)
        kv_lua_error(L, "kv.core alone cannot do this: require \"kv\"");
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

/* provide(parts): for kv_lua_push_part. */
static int core_provide(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &parts_key);
    return 0;
}

/* install(module, opener): what of the module is written in C. `opener` returns the default
 * store, or nil, message, code, or nil, message when that is the caller's mistake. Returns the
 * handle that the operations work on. */
static int core_install(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    kv_lua_own(L, 2);
    kv_lua_new_handle(L);
    kv_lua_bind(L, 1, 3, 2);
    lua_pushliteral(L, "open");
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, kv_lua_open, 1);
    lua_rawset(L, 1);
    lua_pushliteral(L, "_VERSION");
    lua_pushstring(L, kv_version());
    lua_rawset(L, 1);
    return 1;
}

#ifdef KV_TEST
KV_API void kv_test_clock(int64_t offset_ms);

/* test_clock(seconds): moves the system's clock, as far as the store can tell. */
static int core_test_clock(lua_State *L)
{
    kv_test_clock((int64_t)(luaL_checknumber(L, 1) * 1000));
    return 0;
}

/* test_boxes(): how many boxes exist in this process. */
static int core_test_boxes(lua_State *L)
{
    lua_pushinteger(L, boxes);
    return 1;
}

typedef struct failing {
    lua_Alloc alloc;
    void *ud;
    int64_t left; /* this many may still succeed */
    int failed;
} failing;

static void *failing_alloc(void *ud, void *p, size_t old, size_t size)
{
    failing *f = ud;

    if (size != 0 && (p == NULL || size > old) && f->left-- <= 0) {
        f->failed = 1;
        return NULL;
    }
    return f->alloc(f->ud, p, old, size);
}

/* test_memory(n, f): calls f with an allocator that gives memory n times and then no more. Returns
 * what pcall would of its first result, and behind it whether memory was refused. */
static int core_test_memory(lua_State *L)
{
    failing f;
    int rc;

    f.left = (int64_t)luaL_checknumber(L, 1);
    f.failed = 0;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    f.alloc = lua_getallocf(L, &f.ud);
    lua_setallocf(L, failing_alloc, &f);
    rc = lua_pcall(L, 0, 1, 0);
    lua_setallocf(L, f.alloc, f.ud);
    lua_pushboolean(L, rc == 0);
    lua_insert(L, 2);
    lua_pushboolean(L, f.failed);
    return 3;
}
#endif

static void ns_setup(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", ns_gc}, {"__tostring", ns_tostring}, {NULL, NULL}};

    lua_newtable(L);
    lua_pushvalue(L, -1);
    luaL_setfuncs(L, meta, 1);
    lua_pushstring(L, kv_lua_ns_meta);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    for (int i = 0; i < GROUPS; i++)
        for (const kv_lua_op *op = all_ops[i].ops; op->name != NULL; op++) {
            lua_pushvalue(L, -2);
            lua_pushcclosure(L, op->method, 1);
            if (all_ops[i].tail)
                kv_lua_around(L);
            lua_setfield(L, -2, op->name);
        }
    lua_setfield(L, -2, "__index");
    lua_rawsetp(L, LUA_REGISTRYINDEX, kv_lua_ns_meta);
}

KV_API int luaopen_kv_core(lua_State *L);

int luaopen_kv_core(lua_State *L)
{
    static const luaL_Reg functions[] = {{"install", core_install},
                                         {"jit", kv_lua_jit},
                                         {"jit_failed", kv_lua_jit_failed},
                                         {"provide", core_provide},
                                         {"methods", core_methods},
                                         {"bind", core_bind},
                                         {"expect", core_expect},
                                         {"ready", core_ready},
                                         {"raise", core_raise},
                                         {"misuse", core_misuse},
                                         {"headroom", core_headroom},
                                         {"check_open", kv_lua_check_open},
                                         {"open_instance", kv_lua_open_instance},
                                         {"expect_store", kv_lua_expect_store},
                                         {"list_stores", kv_lua_list_stores},
                                         {"remove_store", kv_lua_remove_store},
                                         {"field_text", kv_lua_field_text},
                                         {"field_set", kv_lua_field_set},
                                         {"field_push", kv_lua_field_push},
#ifdef KV_TEST
                                         {"test_clock", core_test_clock},
                                         {"test_boxes", core_test_boxes},
                                         {"test_memory", core_test_memory},
#endif
                                         {NULL, NULL}};

    /* A state may load the module again; the objects of before stay what they are. */
    lua_rawgetp(L, LUA_REGISTRYINDEX, kv_lua_ns_meta);
    if (lua_isnil(L, -1)) {
        kv_lua_json_setup(L);
        kv_lua_store_setup(L);
        kv_lua_stream_setup(L);
        kv_lua_import_setup(L);
        kv_lua_export_setup(L);
        ns_setup(L);
    }
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_newtable(L);
    kv_lua_import_functions(L);
    kv_lua_export_functions(L);
    lua_setfield(L, -2, "transfer");
    kv_lua_term(L);
    lua_setfield(L, -2, "term");
    return 1;
}
