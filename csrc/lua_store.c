/* SPDX-License-Identifier: MIT
 *
 * lua_store.c - stores: open with its options, the store object and its methods.
 *
 * A store object that is collected only lets go: the store stays open while a namespace lives.
 * close() ends it for all of them.
 */
#include "lua_kv.h"

#include <string.h>

#define SECONDS_MAX 1000000 /* of interval and timeout: they are 32 bits of milliseconds */

/* ---- opening ------------------------------------------------------------ */

static int32_t read_ms(lua_State *L, int i, const char *what, int zero)
{
    lua_Number n = -1;

    if (lua_type(L, i) == LUA_TNUMBER)
        n = lua_tonumber(L, i);
    if (!(n >= 0 && n <= SECONDS_MAX) || (n == 0 && !zero))
        kv_lua_bad(
            L, what,
            zero ? "a number of seconds >= 0 and <= 1e6" : "a number of seconds > 0 and <= 1e6", i);
    return n > 0 && n < 0.001 ? 1 : (int32_t)(n * 1000);
}

static int32_t read_mode(lua_State *L, int i)
{
    int32_t mode = 0;
    const char *s = lua_type(L, i) == LUA_TSTRING ? lua_tostring(L, i) : "";
    size_t n = strlen(s);

    if (n < 3 || n > 4 || strspn(s, "01234567") != n || (n == 4 && s[0] != '0'))
        kv_lua_bad(L, "mode", "octal digits in a string, like \"0600\"", i);
    for (; *s != '\0'; s++)
        mode = mode * 8 + (*s - '0');
    return mode;
}

static int32_t read_sync(lua_State *L, int i)
{
    const char *s = lua_type(L, i) == LUA_TSTRING ? lua_tostring(L, i) : "";

    if (strcmp(s, "interval") == 0)
        return KV_SYNC_INTERVAL;
    if (strcmp(s, "always") == 0)
        return KV_SYNC_ALWAYS;
    if (strcmp(s, "none") == 0)
        return KV_SYNC_NONE;
    return kv_lua_bad(L, "sync", "\"interval\", \"always\" or \"none\"", i);
}

static const char *read_path(lua_State *L, const char *what)
{
    size_t len;
    const char *path;

    if (lua_type(L, 1) != LUA_TSTRING)
        kv_lua_bad(L, what, "a path or \":memory:\"", 1);
    path = lua_tolstring(L, 1, &len);
    if (len == 0 || strlen(path) != len)
        kv_lua_error(L, "bad argument '%s': expected a path, got %s", what,
                     len == 0 ? "an empty string" : "one with a byte 0 in it");
    return path;
}

#define OPEN_NAMES                                                                                 \
    "sync", "interval", "thread", "readonly", "max_size", "max_value", "mode", "timeout",          \
        "unsafe_fs", "salvage", NULL

/* A store is made where there is none, an instance only when asked for. */
static const char *read_open(lua_State *L, int instance, kv_options *o)
{
    enum { CREATE, SYNC, INTERVAL, THREAD, READONLY, SIZE, VALUE, MODE, TIMEOUT, UNSAFE, SALVAGE };
    static const char *const store_names[] = {"create", OPEN_NAMES};
    static const char *const instance_names[] = {"auto_create", OPEN_NAMES};
    const char *const *names = instance ? instance_names : store_names;
    const char *path = read_path(L, "path");
    int base = kv_lua_opts(L, 2, names, NULL);

    kv_options_init(o);
    o->create = !instance;
    if (base == 0)
        return path;
    o->create = kv_lua_boolean(L, base + CREATE, names[CREATE], o->create);
    o->thread = kv_lua_boolean(L, base + THREAD, "thread", o->thread);
    o->readonly = kv_lua_boolean(L, base + READONLY, "readonly", o->readonly);
    o->unsafe_fs = kv_lua_boolean(L, base + UNSAFE, "unsafe_fs", o->unsafe_fs);
    o->salvage = kv_lua_boolean(L, base + SALVAGE, "salvage", o->salvage);
    if (!lua_isnil(L, base + SYNC))
        o->sync = read_sync(L, base + SYNC);
    if (!lua_isnil(L, base + INTERVAL))
        o->interval = read_ms(L, base + INTERVAL, "interval", 0);
    if (!lua_isnil(L, base + TIMEOUT))
        o->timeout = read_ms(L, base + TIMEOUT, "timeout", 1);
    if (!lua_isnil(L, base + MODE))
        o->mode = read_mode(L, base + MODE);
    if (!lua_isnil(L, base + SIZE))
        o->max_size = (uint64_t)kv_lua_integer(L, base + SIZE, "max_size", 1, INT64_MAX,
                                               "a number of bytes >= 1");
    if (!lua_isnil(L, base + VALUE))
        o->max_value = (uint64_t)kv_lua_integer(L, base + VALUE, "max_value", 1, KV_MAX_VALUE_CAP,
                                                "a number of bytes >= 1 and <= 1 GiB");
    return path;
}

static kv *live(lua_State *L, kv_lua_owner *o);

int kv_lua_check_open(lua_State *L)
{
    kv_options o;

    read_open(L, 0, &o);
    return 0;
}

static int open_store(lua_State *L, const char *path, const kv_options *o, const char *id,
                      size_t id_len)
{
    kv_lua_owner *owner = kv_lua_new_owner(L);
    kv_lua_store *s = kv_lua_store_new(path, id, id_len);
    int rc;

    if (s == NULL)
        return kv_lua_fail(L, NULL, KV_ENOMEM);
    rc = kv_open(path, o, &s->h);
    if (rc != KV_OK) {
        kv_lua_store_release(s);
        return kv_lua_fail(L, NULL, rc);
    }
    owner->box = s;
    return 1;
}

int kv_lua_open(lua_State *L)
{
    kv_options o;
    const char *path;

    if (lua_type(L, 1) == LUA_TTABLE && lua_rawequal(L, 1, lua_upvalueindex(1)))
        return kv_lua_misuse_bound(L, "open");
    path = read_open(L, 0, &o);
    return open_store(L, path, &o, NULL, 0);
}

/* expect_store(value, what): raises unless it is an open store. */
int kv_lua_expect_store(lua_State *L)
{
    kv_lua_owner *o = kv_lua_to_owner(L, 1);

    if (o == NULL)
        return kv_lua_bad(L, lua_tostring(L, 2), "a store", 1);
    live(L, o);
    return 0;
}

/* ---- instances ---------------------------------------------------------- */

int kv_lua_open_instance(lua_State *L)
{
    kv_options o;
    const char *path, *id;
    size_t len;

    id = lua_tolstring(L, 3, &len);
    path = read_open(L, 1, &o);
    return open_store(L, path, &o, id, len);
}

int kv_lua_list_stores(lua_State *L)
{
    const char *root = lua_tostring(L, 1);
    size_t room = 4096, size;
    char *names;
    int rc, n = 0;

    for (;;) {
        lua_settop(L, 1);
        names = lua_newuserdata(L, room);
        size = room;
        rc = kv_list_stores(root, names, &size);
        if (rc != KV_ERANGE)
            break;
        room = size + 4096;
    }
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    lua_newtable(L);
    for (size_t at = 0; at < size; at += strlen(names + at) + 1) {
        lua_pushstring(L, names + at);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

int kv_lua_remove_store(lua_State *L)
{
    int rc = kv_remove_store(lua_tostring(L, 1));

    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- the object --------------------------------------------------------- */

kv_lua_owner *kv_lua_to_owner(lua_State *L, int i)
{
    kv_lua_owner *o = lua_touserdata(L, i);
    int same;

    if (o == NULL || lua_rawlen(L, i) != sizeof *o || !lua_getmetatable(L, i))
        return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, kv_lua_store_meta);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? o : NULL;
}

/* Upvalue 1 of every method is the metatable. */
static kv_lua_owner *self(lua_State *L, const char *name)
{
    kv_lua_owner *o = lua_touserdata(L, 1);

    if (o == NULL || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)) ||
        lua_rawlen(L, 1) != sizeof *o)
        kv_lua_error(L, "use store:%s(...), not store.%s(...): the first argument is not a store",
                     name, name);
    lua_pop(L, 1);
    return o;
}

/* Asked right before each call of the core, like kv_lua_live. */
static kv *live(lua_State *L, kv_lua_owner *o)
{
    if (o->box == NULL || o->box->h == NULL)
        kv_lua_error(L, "the store is closed");
    return o->box->h;
}

/* The name of a namespace at i: raises, or returns 3 results when it is too long, or 0. */
static int read_name(lua_State *L, int i, const char **name, size_t *len)
{
    static const char expected[] = "a string of 1 to 255 bytes";

    if (lua_type(L, i) != LUA_TSTRING)
        return kv_lua_bad(L, "name", expected, i);
    *name = lua_tolstring(L, i, len);
    if (*len == 0)
        return kv_lua_error(L, "bad argument 'name': expected %s, got an empty one", expected);
    if ((*name)[0] == '\0')
        return kv_lua_error(L, "bad argument 'name': names that begin with byte 0 are reserved");
    if (*len > KV_MAX_NAME)
        return kv_lua_fail_with(L, KV_ETOOBIG, "a namespace's name has at most 255 bytes");
    return 0;
}

static int store_namespace(lua_State *L)
{
    enum { DESCRIPTION, CREATE };
    static const char *const names[] = {"description", "create", NULL};
    kv_lua_owner *o = self(L, "namespace");
    kv_lua_handle *handle;
    const char *name, *desc = NULL;
    size_t len, desc_len = 0;
    int base, n, rc, create = 1;

    live(L, o);
    if ((n = read_name(L, 2, &name, &len)) != 0)
        return n;
    base = kv_lua_opts(L, 3, names, NULL);
    if (base != 0) {
        create = kv_lua_boolean(L, base + CREATE, "create", 1);
        if (!lua_isnil(L, base + DESCRIPTION)) {
            if (lua_type(L, base + DESCRIPTION) != LUA_TSTRING)
                kv_lua_bad(L, "description", "a string", base + DESCRIPTION);
            desc = lua_tolstring(L, base + DESCRIPTION, &desc_len);
        }
    }
    handle = kv_lua_new_handle(L);
    live(L, o);
    rc = kv_lua_attach(handle, o->box, name, len, desc, desc_len, create);
    return rc == KV_OK ? 1 : kv_lua_fail(L, NULL, rc);
}

/* ---- scopes: namespaces for the installations of an app ----------------- */

#define MAX_ID 100 /* two of them fit a name */

/* An id at i: raises, or returns 3 results when it is too long, or 0. */
static int read_id(lua_State *L, int i, const char *what, const char **id, size_t *len)
{
    static const char expected[] = "a string of 1 to 100 bytes";

    if (lua_type(L, i) != LUA_TSTRING)
        return kv_lua_bad(L, what, expected, i);
    *id = lua_tolstring(L, i, len);
    if (*len == 0)
        return kv_lua_error(L, "bad argument '%s': expected %s, got an empty one", what, expected);
    if (*len > MAX_ID) {
        lua_pushfstring(L, "%s has at most %d bytes", what, MAX_ID);
        return kv_lua_fail_with(L, KV_ETOOBIG, lua_tostring(L, -1));
    }
    return 0;
}

static int scope(lua_State *L, kv_lua_owner *o, const char *name, size_t len)
{
    kv_lua_handle *handle = kv_lua_new_handle(L);
    int rc;

    live(L, o);
    rc = kv_lua_attach(handle, o->box, name, len, NULL, 0, 1);
    return rc == KV_OK ? 1 : kv_lua_fail(L, NULL, rc);
}

/* The length of the first id keeps ("a", "bc") and ("ab", "c") apart. */
static int store_app(lua_State *L)
{
    kv_lua_owner *o = self(L, "app");
    char name[KV_MAX_NAME] = {0, KV_LUA_APP};
    const char *app, *installation;
    size_t a, b;
    int n;

    live(L, o);
    if ((n = read_id(L, 2, "app_id", &app, &a)) != 0 ||
        (n = read_id(L, 3, "installation_id", &installation, &b)) != 0)
        return n;
    name[2] = (char)a;
    memcpy(name + 3, app, a);
    memcpy(name + 3 + a, installation, b);
    return scope(L, o, name, 3 + a + b);
}

static int store_global(lua_State *L)
{
    kv_lua_owner *o = self(L, "global");
    char name[KV_MAX_NAME] = {0, KV_LUA_GLOBAL};
    const char *app;
    size_t len;
    int n;

    live(L, o);
    if ((n = read_id(L, 2, "app_id", &app, &len)) != 0)
        return n;
    memcpy(name + 2, app, len);
    return scope(L, o, name, 2 + len);
}

/* ---- the store's other methods ------------------------------------------ */

static void push_info(lua_State *L, const kv_ns_info *info, const char *desc)
{
    lua_createtable(L, 0, 5);
    lua_pushlstring(L, info->name, info->name_len);
    lua_setfield(L, -2, "name");
    lua_pushlstring(L, desc, info->desc_len);
    lua_setfield(L, -2, "description");
    kv_lua_pushint64(L, (int64_t)info->keys);
    lua_setfield(L, -2, "keys");
    kv_lua_pushint64(L, (int64_t)info->bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushnumber(L, (lua_Number)info->created / 1000);
    lua_setfield(L, -2, "created_at");
}

/* Descriptions live until the next call on the store, which a finalizer may make at any allocation:
 * there is a buffer before each is asked for, and a larger one when it was too small. */
static int store_namespaces(lua_State *L)
{
    kv_lua_owner *o = self(L, "namespaces");
    kv_ns_info info, at;
    size_t room = 1024;
    char *desc;
    int n = 0;

    lua_settop(L, 1);
    lua_newtable(L);
    desc = lua_newuserdata(L, room);
    memset(&at, 0, sizeof at);
    for (;;) {
        int rc;
        info = at;
        rc = kv_ns_next(live(L, o), &info);
        if (rc == KV_ENOTFOUND)
            break;
        if (rc != KV_OK)
            return kv_lua_fail(L, NULL, rc);
        if (info.desc_len > room) {
            room = info.desc_len;
            lua_settop(L, 2);
            desc = lua_newuserdata(L, room);
            continue;
        }
        at = info;
        /* Scopes are not listed: their names are not for store:namespace. */
        if (info.name[0] == '\0')
            continue;
        if (info.desc_len != 0)
            memcpy(desc, info.desc, info.desc_len);
        push_info(L, &info, desc);
        lua_rawseti(L, 2, ++n);
    }
    lua_settop(L, 2);
    return 1;
}

static int store_drop(lua_State *L)
{
    kv_lua_owner *o = self(L, "drop");
    const char *name;
    size_t len;
    uint64_t keys;
    int n, rc;

    if ((n = read_name(L, 2, &name, &len)) != 0)
        return n;
    rc = kv_drop(live(L, o), name, len, &keys);
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    kv_lua_pushint64(L, (int64_t)keys);
    return 1;
}

static int store_rev(lua_State *L)
{
    kv_lua_owner *o = self(L, "rev");

    kv_lua_pushint64(L, (int64_t)kv_rev(live(L, o)));
    return 1;
}

static int done(lua_State *L, int rc)
{
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    lua_pushboolean(L, 1);
    return 1;
}

static int store_sync(lua_State *L)
{
    return done(L, kv_sync(live(L, self(L, "sync"))));
}

static int store_check(lua_State *L)
{
    kv *h = live(L, self(L, "check"));

    kv_lua_watch(L, h);
    return done(L, kv_check(h));
}

static int store_tick(lua_State *L)
{
    kv_lua_owner *o = self(L, "tick");
    uint64_t max = UINT64_MAX, n = 0;
    int rc;

    if (!lua_isnoneornil(L, 2))
        max = (uint64_t)kv_lua_integer(L, 2, "max", 0, INT64_MAX, "an integer >= 0");
    rc = kv_tick(live(L, o), max, &n);
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    kv_lua_pushint64(L, (int64_t)n);
    return 1;
}

static int store_stats(lua_State *L)
{
    kv_lua_owner *o = self(L, "stats");
    kv_stats s;
    int rc = kv_get_stats(live(L, o), &s);

    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    lua_createtable(L, 0, 26);
#define FIELD(name) (kv_lua_pushint64(L, (int64_t)s.name), lua_setfield(L, -2, #name))
    FIELD(rev);
    FIELD(namespaces);
    FIELD(keys);
    FIELD(data_bytes);
    FIELD(live_bytes);
    FIELD(log_bytes);
    FIELD(used_bytes);
    FIELD(blob_bytes);
    FIELD(index_bytes);
    FIELD(segments);
    FIELD(spares);
    FIELD(segment_size);
    FIELD(timers);
    FIELD(buckets);
    FIELD(overflow);
    FIELD(nodes);
    FIELD(reads_retried);
    FIELD(expired);
    FIELD(cleaned);
    FIELD(syncs);
    FIELD(replayed);
    FIELD(cut_bytes);
    FIELD(synced_rev);
    FIELD(max_size);
    FIELD(max_value);
#undef FIELD
    lua_pushnumber(L, (lua_Number)s.clock_back / 1000);
    lua_setfield(L, -2, "clock_back");
    lua_pushstring(L, kv_report(live(L, o)));
    lua_setfield(L, -2, "report");
    return 1;
}

static int store_backup(lua_State *L)
{
    kv_lua_owner *o = self(L, "backup");
    const char *dir;
    uint64_t records;
    size_t len;
    int rc;

    if (lua_type(L, 2) != LUA_TSTRING)
        return kv_lua_bad(L, "dir", "the path of a directory", 2);
    dir = lua_tolstring(L, 2, &len);
    if (len == 0 || strlen(dir) != len)
        return kv_lua_error(L, "bad argument 'dir': expected the path of a directory, got %s",
                            len == 0 ? "an empty string" : "one with a byte 0 in it");
    kv_lua_watch(L, live(L, o));
    rc = kv_backup(live(L, o), dir, &records);
    if (rc != KV_OK)
        return kv_lua_fail(L, NULL, rc);
    kv_lua_pushint64(L, (int64_t)records);
    return 1;
}

/* Also __close, which passes an error as well. */
static int store_close(lua_State *L)
{
    kv_lua_owner *o = self(L, "close");

    if (o->box != NULL && o->box->h != NULL)
        kv_lua_store_close(o->box);
    lua_pushboolean(L, 1);
    return 1;
}

static int store_gc(lua_State *L)
{
    kv_lua_owner *o = self(L, "close");
    kv_lua_store *s = o->box;

    o->box = NULL;
    if (s != NULL)
        kv_lua_store_release(s);
    return 0;
}

static int store_tostring(lua_State *L)
{
    kv_lua_owner *o = self(L, "tostring");

    if (o->box == NULL)
        lua_pushliteral(L, "kv.store (closed)");
    else
        lua_pushfstring(L, "kv.store '%s'%s", o->box->path, o->box->h != NULL ? "" : " (closed)");
    return 1;
}

void kv_lua_store_setup(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", store_gc}, {"__close", store_close}, {"__tostring", store_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"namespace", store_namespace},
                                       {"namespaces", store_namespaces},
                                       {"app", store_app},
                                       {"global", store_global},
                                       {"drop", store_drop},
                                       {"rev", store_rev},
                                       {"sync", store_sync},
                                       {"tick", store_tick},
                                       {"stats", store_stats},
                                       {"check", store_check},
                                       {"backup", store_backup},
                                       {"close", store_close},
                                       {NULL, NULL}};

    lua_newtable(L);
    lua_pushvalue(L, -1);
    luaL_setfuncs(L, meta, 1);
    lua_pushstring(L, kv_lua_store_meta);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_rawsetp(L, LUA_REGISTRYINDEX, kv_lua_store_meta);
}
