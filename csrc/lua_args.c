/* SPDX-License-Identifier: MIT
 *
 * lua_args.c - reading arguments and options, values in both directions, failures.
 *
 * Everything is read raw: no metamethod of a caller's table runs. What a caller got wrong raises
 * with the argument's name and the position of the call; what can happen to a correct program is
 * returned.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- whose mistake it was ------------------------------------------------ */

/* Where the module's own Lua code is: see kv_lua_own. */
static const char own_key = 0;

void kv_lua_own(lua_State *L, int f)
{
    static const char main[] = "init.lua";
    lua_Debug ar;
    size_t len;

    lua_pushvalue(L, f);
    lua_getinfo(L, ">S", &ar);
    len = strlen(ar.source);
    if (len > sizeof main && strcmp(ar.source + len - (sizeof main - 1), main) == 0)
        len -= sizeof main - 1;
    lua_pushlstring(L, ar.source, len);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &own_key);
}

/* Pushes the position of the program's line that called us, or "" when C did (pcall, say). Lua code
 * of our own in between is passed over: its lines help nobody, and say where we are installed. */
static void push_caller(lua_State *L)
{
    lua_Debug ar;
    const char *own;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &own_key);
    own = lua_tostring(L, -1);
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.what[0] == 't') /* a tail call, on 5.1 */
            continue;
        if ((own != NULL && strncmp(ar.source, own, strlen(own)) == 0) ||
            strcmp(ar.source, KV_LUA_AROUND) == 0)
            continue;
        if (ar.currentline <= 0)
            break;
        lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    lua_pushliteral(L, "");
}

#define ROOM_SLOTS 1000 /* several frames of the largest size */
#define ROOM_CALLS 12

static int nest(lua_State *L)
{
    lua_Integer left = lua_tointeger(L, 1);

    if (left == 0)
        return 0;
    lua_pushcfunction(L, nest);
    lua_pushinteger(L, left - 1);
    lua_call(L, 1, 0);
    return 0;
}

void kv_lua_headroom(lua_State *L)
{
    kv_lua_stack(L, ROOM_SLOTS);
    lua_pushcfunction(L, nest);
    lua_pushinteger(L, ROOM_CALLS);
    lua_call(L, 1, 0);
}

int kv_lua_error(lua_State *L, const char *format, ...)
{
    va_list args;

    if (!lua_checkstack(L, 8)) {
        lua_settop(L, 0);
        lua_pushliteral(L, "stack overflow");
        return lua_error(L);
    }
    push_caller(L);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    return lua_error(L);
}

/* ---- what is wrong with an argument ------------------------------------- */

/* Pushes how the value at i looks in a message. */
static void describe(lua_State *L, int i)
{
    switch (lua_type(L, i)) {
    case LUA_TNONE:
        lua_pushliteral(L, "no value");
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    case LUA_TNUMBER:
        lua_pushvalue(L, i);
        lua_tostring(L, -1);
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, i) ? "true" : "false");
        break;
    case LUA_TSTRING: {
        char text[40];
        size_t len, k;
        const char *s = lua_tolstring(L, i, &len);
        for (k = 0; k < len && k < sizeof text - 4; k++)
            text[k] = s[k] >= ' ' && s[k] < 127 ? s[k] : '?';
        memcpy(text + k, k < len ? "..." : "", k < len ? 4 : 1);
        lua_pushfstring(L, "'%s'", text);
        break;
    }
    default:
        lua_pushfstring(L, "a %s", luaL_typename(L, i));
    }
}

int kv_lua_bad(lua_State *L, const char *what, const char *expected, int i)
{
    if (i < 0)
        i = lua_gettop(L) + i + 1;
    describe(L, i);
    return kv_lua_error(L, "bad argument '%s': expected %s, got %s", what, expected,
                        lua_tostring(L, -1));
}

/* Lower case letters and digits only, so that expirationTtl and expiration_ttl are one word. */
static void plain(const char *s, char out[32])
{
    size_t n = 0;

    for (; *s != '\0' && n < 31; s++) {
        if (*s >= 'A' && *s <= 'Z')
            out[n++] = (char)(*s - 'A' + 'a');
        else if ((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9'))
            out[n++] = *s;
    }
    out[n] = '\0';
}

static size_t distance(const char *a, const char *b)
{
    size_t row[33], i, j, n = strlen(b);

    for (j = 0; j <= n; j++)
        row[j] = j;
    for (i = 1; a[i - 1] != '\0'; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

/* What other stores call our options, spelled as plain() leaves it. */
static const char *const aliases[][2] = {
    {"expirationttl", "ttl"},
    {"expirettl", "ttl"},
    {"expiresin", "ttl"},
    {"expirein", "ttl"},
    {"expireafter", "ttl"},
    {"expires", "ttl"},
    {"expire", "ttl"},
    {"expiry", "ttl"},
    {"exptime", "ttl"},
    {"maxage", "ttl"},
    {"seconds", "ttl"},
    {"lifetime", "ttl"},
    {"ttlinseconds", "ttl"},
    {"ttlseconds", "ttl"},
    {"ttlms", "ttl"},
    {"timetolive", "ttl"},
    {"timeout", "ttl"},
    {"ex", "ttl"},
    {"px", "ttl"},
    {"exat", "expiration"},
    {"pxat", "expiration"},
    {"expiresat", "expiration"},
    {"expireat", "expiration"},
    {"expirationtime", "expiration"},
    {"deadline", "expiration"},
    {"nx", "set_if"},
    {"xx", "set_if"},
    {"ifexist", "set_if"},
    {"ifexists", "set_if"},
    {"ifnotexist", "set_if"},
    {"ifnotexists", "set_if"},
    {"onlyif", "set_if"},
    {"condition", "set_if"},
    {"version", "if_rev"},
    {"revision", "if_rev"},
    {"rev", "if_rev"},
    {"cas", "if_rev"},
    {"ifmatch", "if_rev"},
    {"ifversion", "if_rev"},
    {"meta", "metadata"},
    {"tags", "metadata"},
    {"type", "as"},
    {"format", "as"},
    {"json", "as"},
    {"count", "limit"},
    {"max", "limit"},
    {"pagesize", "limit"},
    {"size", "limit"},
    {"top", "limit"},
    {"startswith", "prefix"},
    {"match", "prefix"},
    {"pattern", "prefix"},
    {"from", "start"},
    {"min", "start"},
    {"first", "start"},
    {"to", "stop"},
    {"end", "stop"},
    {"until", "stop"},
    {"last", "stop"},
    {"after", "cursor"},
    {"offset", "cursor"},
    {"page", "cursor"},
    {"token", "cursor"},
    {"desc", "reverse"},
    {"descending", "reverse"},
    {"backwards", "reverse"},
    {"includevalues", "values"},
    {"withvalues", "values"},
    {"default", "init"},
    {"initial", "init"},
    {"start", "init"},
    {"minimum", "min"},
    {"maximum", "max"},
    {"durability", "sync"},
    {"fsync", "sync"},
    {"createifmissing", "create"},
    {"createmissing", "create"},
    {"upsert", "create"},
    {"create", "auto_create"},
    {"createifmissing", "auto_create"},
    {"errorifmissing", "create"},
    {"mapsize", "max_size"},
    {"quota", "max_size"},
    {"permissions", "mode"},
    {"repair", "salvage"},
    {"desc", "description"},
};

static const char *nearest(const char *name, const char *const *names)
{
    char given[32], known[32];
    const char *best = NULL;
    size_t best_distance = 3, k;
    const char *const *n;

    plain(name, given);
    for (n = names; *n != NULL; n++) {
        plain(*n, known);
        if (strcmp(given, known) == 0)
            return *n;
    }
    for (k = 0; k < sizeof aliases / sizeof aliases[0]; k++)
        if (strcmp(given, aliases[k][0]) == 0)
            for (n = names; *n != NULL; n++)
                if (strcmp(*n, aliases[k][1]) == 0)
                    return *n;
    for (n = names; *n != NULL; n++) {
        size_t d;
        plain(*n, known);
        if (strlen(known) > 2 && strncmp(given, known, strlen(known)) == 0)
            return *n;
        d = distance(given, known);
        /* Two letters changed in a word of three is another word. */
        if (d < best_distance && 2 * d <= strlen(known)) {
            best = *n;
            best_distance = d;
        }
    }
    return best;
}

static int unknown_option(lua_State *L, int i, const char *const *names)
{
    const char *close;
    luaL_Buffer b;

    if (lua_type(L, i) != LUA_TSTRING)
        return kv_lua_bad(L, "options", "names of options as keys", i);
    close = nearest(lua_tostring(L, i), names);
    describe(L, i);
    if (close != NULL)
        return kv_lua_error(L, "unknown option %s: did you mean '%s'?", lua_tostring(L, -1), close);
    luaL_buffinit(L, &b);
    for (; *names != NULL; names++) {
        luaL_addstring(&b, *names);
        luaL_addstring(&b, names[1] != NULL ? ", " : "");
    }
    luaL_pushresult(&b);
    return kv_lua_error(L, "unknown option %s (there are: %s)", lua_tostring(L, -2),
                        lua_tostring(L, -1));
}

/* ---- options ------------------------------------------------------------ */

int kv_lua_opts(lua_State *L, int i, const char *const *names, const char *hint)
{
    int base, n = 0;

    if (lua_isnoneornil(L, i))
        return 0;
    if (lua_type(L, i) != LUA_TTABLE)
        return kv_lua_bad(L, "options", hint != NULL ? hint : "a table", i);
    while (names[n] != NULL)
        n++;
    kv_lua_stack(L, n + 10);
    base = lua_gettop(L) + 1;
    lua_settop(L, base + n);
    while (lua_next(L, i)) {
        int k = n;
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *name = lua_tostring(L, -2);
            for (k = 0; k < n && strcmp(name, names[k]) != 0; k++)
                ;
        }
        if (k == n)
            return unknown_option(L, lua_gettop(L) - 1, names);
        lua_replace(L, base + k);
    }
    return base;
}

int kv_lua_boolean(lua_State *L, int i, const char *what, int def)
{
    if (lua_isnil(L, i))
        return def;
    if (!lua_isboolean(L, i))
        kv_lua_bad(L, what, "true or false", i);
    return lua_toboolean(L, i);
}

/* 1 when the number at i is integral and fits into 64 bits. */
static int integral(lua_State *L, int i, int64_t *out)
{
    lua_Number n;

    if (lua_isinteger(L, i)) {
        *out = (int64_t)lua_tointeger(L, i);
        return 1;
    }
    n = lua_tonumber(L, i);
    if (!(n >= -9223372036854775808.0 && n < 9223372036854775808.0))
        return 0;
    *out = (int64_t)n;
    return (lua_Number)*out == n;
}

int64_t kv_lua_integer(lua_State *L, int i, const char *what, int64_t min, int64_t max,
                       const char *expected)
{
    int64_t n = 0;

    if (lua_type(L, i) != LUA_TNUMBER || !integral(L, i, &n) || n < min || n > max)
        kv_lua_bad(L, what, expected, i);
    return n;
}

/* Seconds to milliseconds, upwards: what is asked to live must not be born dead. */
static int64_t to_ms(lua_Number seconds)
{
    lua_Number ms = seconds * 1000;
    int64_t whole = (int64_t)ms;

    return (lua_Number)whole < ms ? whole + 1 : whole;
}

size_t kv_lua_items(lua_State *L, int i, const char *what)
{
    size_t n = lua_rawlen(L, i), k = 0;

    lua_pushnil(L);
    while (lua_next(L, i)) {
        if (lua_type(L, -2) != LUA_TNUMBER || k++ == n)
            kv_lua_bad(L, what, "an array without holes or other entries", -2);
        lua_pop(L, 1);
    }
    if (k != n)
        kv_lua_error(L, "bad argument '%s': the array has a hole", what);
    return n;
}

int64_t kv_lua_ttl_of(lua_State *L, int i)
{
    lua_Number n;
#if KV_LUA_INTEGERS
    /* By way of a double it took three times as long, beside a put. */
    int whole;
    lua_Integer k = lua_tointegerx(L, i, &whole);

    if (whole)
        return k > 0 && k <= 1000000000 ? (int64_t)k * 1000 : 0;
#endif
    n = lua_tonumber(L, i);
    return n > 0 && n <= 1e9 ? to_ms(n) : 0;
}

int64_t kv_lua_ttl(lua_State *L, int i, const char *what)
{
    int64_t ttl = lua_type(L, i) == LUA_TNUMBER ? kv_lua_ttl_of(L, i) : 0;

    if (ttl == 0)
        kv_lua_bad(L, what, "a number of seconds > 0 and <= 1e9", i);
    return ttl;
}

/* A moment of the past is 1: any will do. */
static int64_t read_expiration(lua_State *L, int i)
{
    lua_Number n = 0;

    if (lua_type(L, i) == LUA_TNUMBER)
        n = lua_tonumber(L, i);
    if (lua_type(L, i) != LUA_TNUMBER || n != n || n - n != 0)
        kv_lua_bad(L, "expiration", "a number of seconds since 1970", i);
    if (n > 1e11)
        kv_lua_bad(L, "expiration", "seconds since 1970 (milliseconds?)", i);
    return n < 0.001 ? 1 : to_ms(n);
}

int kv_lua_number_value(lua_Number n, kv_value *v)
{
    v->len = 0;
    v->data = NULL;
    v->type = KV_NUMBER;
    v->integer = 0;
    v->number = n;
    if (n != n || n - n != 0)
        return 0;
    /* Where all numbers are doubles the integral ones stand for integers, minus zero excepted. */
    if (!KV_LUA_INTEGERS && n >= -9007199254740992.0 && n <= 9007199254740992.0 &&
        (lua_Number)(int64_t)n == n && !(n == 0 && 1 / n < 0)) {
        v->type = KV_INTEGER;
        v->integer = (int64_t)n;
    }
    return 1;
}

void kv_lua_number(lua_State *L, int i, const char *what, kv_value *v)
{
    lua_Number n;

    if (lua_type(L, i) != LUA_TNUMBER)
        kv_lua_bad(L, what, "a number", i);
    if (lua_isinteger(L, i)) {
        v->type = KV_INTEGER;
        v->integer = (int64_t)lua_tointeger(L, i);
        return;
    }
    n = lua_tonumber(L, i);
    if (!kv_lua_number_value(n, v))
        kv_lua_error(L, "%s: %s cannot be stored", what, n != n ? "NaN" : "an infinite number");
}

int kv_lua_as(lua_State *L, int i)
{
    if (lua_isnoneornil(L, i))
        return KV_LUA_PLAIN;
    if (lua_type(L, i) == LUA_TSTRING) {
        const char *as = lua_tostring(L, i);
        if (strcmp(as, "text") == 0 || strcmp(as, "binary") == 0)
            return KV_LUA_TEXT;
        if (strcmp(as, "json") == 0)
            return KV_LUA_JSON;
        if (strcmp(as, "stream") == 0)
            return KV_LUA_STREAM;
    }
    return kv_lua_bad(L, "as", "\"text\", \"binary\", \"json\" or \"stream\"", i);
}

static void read_if_rev(lua_State *L, int i, kv_write *w)
{
    w->flags |= KV_IF_REV;
    w->if_rev = (uint64_t)kv_lua_integer(L, i, "if_rev", 0, INT64_MAX, "an integer >= 0");
}

void kv_lua_if_rev(lua_State *L, int i, kv_write *w)
{
    static const char *const names[] = {"if_rev", NULL};
    int base = kv_lua_opts(L, i, names, NULL);

    memset(w, 0, sizeof *w);
    if (base != 0 && !lua_isnil(L, base))
        read_if_rev(L, base, w);
}

static int read_metadata(lua_State *L, int i, kv_write *w)
{
    size_t len;
    const char *text;

    if (lua_type(L, i) != LUA_TTABLE)
        kv_lua_bad(L, "metadata", "a table", i);
    text = kv_lua_encode(L, i, "metadata", &len);
    if (len > KV_MAX_META) {
        lua_pushfstring(L, "metadata of %d bytes as JSON, more than the limit of %d", (int)len,
                        KV_MAX_META);
        return kv_lua_fail_with(L, KV_ETOOBIG, lua_tostring(L, -1));
    }
    w->flags |= KV_META;
    w->meta = text;
    w->meta_len = (uint32_t)len;
    return 0;
}

int kv_lua_write_opts(lua_State *L, int base, kv_write *w, int *as_json)
{
    enum { TTL, EXPIRATION, KEEP_TTL, METADATA, SET_IF, IF_REV, AS };
    int64_t ttl = 0, expires = 0;

    if (base == 0)
        return 0;
    /* All three are looked at, the first given counts. */
    if (!lua_isnil(L, base + TTL))
        ttl = kv_lua_ttl(L, base + TTL, "ttl");
    if (!lua_isnil(L, base + EXPIRATION))
        expires = read_expiration(L, base + EXPIRATION);
    if (ttl != 0 || expires != 0 || !lua_isnil(L, base + KEEP_TTL)) {
        int keep = kv_lua_boolean(L, base + KEEP_TTL, "keep_ttl", 0);
        w->flags &= ~(uint32_t)(KV_TTL | KV_EXPIRATION | KV_KEEP_TTL);
        if (ttl != 0)
            w->flags |= KV_TTL;
        else if (expires != 0)
            w->flags |= KV_EXPIRATION;
        else if (keep)
            w->flags |= KV_KEEP_TTL;
        w->ttl = ttl;
        w->expires = expires;
    }
    if (!lua_isnil(L, base + SET_IF)) {
        const char *cond =
            lua_type(L, base + SET_IF) == LUA_TSTRING ? lua_tostring(L, base + SET_IF) : "";
        w->flags &= ~(uint32_t)(KV_IF_EXIST | KV_IF_NOT_EXIST);
        if (strcmp(cond, "exist") == 0)
            w->flags |= KV_IF_EXIST;
        else if (strcmp(cond, "not_exist") == 0)
            w->flags |= KV_IF_NOT_EXIST;
        else
            kv_lua_bad(L, "set_if", "\"exist\" or \"not_exist\"", base + SET_IF);
    }
    if (!lua_isnil(L, base + IF_REV))
        read_if_rev(L, base + IF_REV, w);
    if (as_json != NULL && !lua_isnil(L, base + AS)) {
        if (lua_type(L, base + AS) != LUA_TSTRING ||
            strcmp(lua_tostring(L, base + AS), "json") != 0)
            kv_lua_bad(L, "as", "\"json\"", base + AS);
        *as_json = 1;
    }
    return lua_isnil(L, base + METADATA) ? 0 : read_metadata(L, base + METADATA, w);
}

/* ---- keys and values ---------------------------------------------------- */

int kv_lua_key(lua_State *L, int i, const char *what, const char **key, size_t *len)
{
    if (lua_type(L, i) != LUA_TSTRING)
        return kv_lua_bad(L, what, "a string of 1 to 512 bytes", i);
    *key = lua_tolstring(L, i, len);
    if (*len == 0)
        return kv_lua_error(
            L, "bad argument '%s': expected a string of 1 to 512 bytes, got an empty one", what);
    if (*len <= KV_MAX_KEY)
        return 0;
    lua_pushfstring(L, "%s of %d bytes, more than the limit of %d", what,
                    *len > INT32_MAX ? INT32_MAX : (int)*len, KV_MAX_KEY);
    return kv_lua_fail_with(L, KV_ETOOBIG, lua_tostring(L, -1));
}

static int too_long(lua_State *L, const char *what)
{
    lua_pushfstring(L, "%s of more than %d bytes", what, (int)KV_MAX_VALUE_CAP);
    return kv_lua_fail_with(L, KV_ETOOBIG, lua_tostring(L, -1));
}

/* nil, message, code for text that is no JSON. */
static int not_json(lua_State *L, const char *what, const kv_json_error *err)
{
    const char *code = kv_lua_json_failure(L, err);

    lua_pushfstring(L, "%s: %s", what, lua_tostring(L, -1));
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, code);
    return 3;
}

int kv_lua_value(lua_State *L, int i, const char *what, int as_json, kv_value *v)
{
    int type = lua_type(L, i);
    size_t len;

    v->type = KV_STRING;
    v->len = 0;
    v->data = NULL;
    v->integer = 0;
    v->number = 0;
    if (type == LUA_TSTRING) { /* as most are; a jump table takes longer */
        v->data = lua_tolstring(L, i, &len);
        if (len > KV_MAX_VALUE_CAP)
            return too_long(L, what);
        v->len = (uint32_t)len;
        if (as_json) {
            kv_json_error err;
            if (kv_json_check(v->data, len, &err) != KV_JSON_OK)
                return not_json(L, what, &err);
            v->type = KV_JSON;
        }
        return 0;
    }
    if (as_json)
        kv_lua_bad(L, what, "a string of JSON text, with as=\"json\"", i);
    switch (type) {
    case LUA_TNUMBER:
        kv_lua_number(L, i, what, v);
        return 0;
    case LUA_TBOOLEAN:
        v->type = KV_BOOLEAN;
        v->integer = lua_toboolean(L, i);
        return 0;
    case LUA_TNIL:
    case LUA_TNONE:
        return kv_lua_error(L,
                            "bad argument '%s': expected a value, got nil (delete removes a key, "
                            "kv.null stores a null)",
                            what);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, i) == NULL) {
            v->type = KV_NULL;
            return 0;
        }
        break;
    }
    v->data = kv_lua_encode(L, i, what, &len);
    if (len > KV_MAX_VALUE_CAP)
        return too_long(L, what);
    v->len = (uint32_t)len;
    v->type = KV_JSON;
    return 0;
}

static size_t value_bytes(const kv_record *r)
{
    return r->value.type == KV_STRING || r->value.type == KV_JSON ? r->value.len : 0;
}

int kv_lua_keep(lua_State *L, const kv_lua_call *c, const char *key, size_t len, kv_record *r,
                char *room)
{
    size_t need = value_bytes(r);

    if (need + r->meta_len > KV_LUA_ROOM) {
        for (;;) {
            unsigned calls = c->box->calls;
            size_t size = need + r->meta_len;
            int rc;
            room = lua_newuserdata(L, size);
            if (calls == c->box->calls)
                break;
            lua_pop(L, 1);
            rc = kv_get(kv_lua_live(L, c), key, len, r);
            if (rc != KV_OK)
                return rc;
            need = value_bytes(r);
        }
    }
    if (need != 0) {
        memcpy(room, r->value.data, need);
        r->value.data = room;
    }
    if (r->meta_len != 0) {
        memcpy(room + need, r->meta, r->meta_len);
        r->meta = room + need;
    }
    return KV_OK;
}

static int push_decoded(lua_State *L, const kv_value *v)
{
    kv_json_error err;

    if (kv_lua_decode(L, v->data, v->len, &err) == KV_JSON_OK)
        return 1;
    if (v->type == KV_STRING)
        return not_json(L, "value", &err);
    /* It was valid when it was stored. */
    return kv_lua_fail_with(L, KV_ECORRUPT, "a stored document is not JSON");
}

int kv_lua_push(lua_State *L, const kv_value *v, int as)
{
    char text[KV_JSON_NUMBER_MAX];

    switch (v->type) {
    case KV_STRING:
        if (as == KV_LUA_JSON)
            return push_decoded(L, v);
        lua_pushlstring(L, v->len != 0 ? v->data : "", v->len);
        return 1;
    case KV_JSON:
        if (as != KV_LUA_TEXT)
            return push_decoded(L, v);
        lua_pushlstring(L, v->data, v->len);
        return 1;
    case KV_INTEGER:
        if (as == KV_LUA_TEXT)
            lua_pushlstring(L, text, kv_json_integer_format(v->integer, text));
        else
            kv_lua_pushint64(L, v->integer);
        return 1;
    case KV_NUMBER:
        if (as == KV_LUA_TEXT)
            lua_pushlstring(L, text, kv_json_number_format(v->number, 1, text));
        else
            lua_pushnumber(L, v->number);
        return 1;
    case KV_BOOLEAN:
        if (as == KV_LUA_TEXT)
            lua_pushstring(L, v->integer != 0 ? "true" : "false");
        else
            lua_pushboolean(L, v->integer != 0);
        return 1;
    case KV_NULL:
        if (as == KV_LUA_TEXT)
            lua_pushliteral(L, "null");
        else
            lua_pushlightuserdata(L, NULL);
        return 1;
    }
    return kv_lua_fail_with(L, KV_ECORRUPT, "a stored value is of no known type");
}

void kv_lua_push_meta(lua_State *L, const kv_record *r)
{
    kv_json_error err;

    if (kv_lua_decode(L, r->meta, r->meta_len, &err) != KV_JSON_OK)
        lua_pushnil(L);
}

/* ---- failures ----------------------------------------------------------- */

/* What a guarded handle says instead of the core's message, which may name a path. */
static const char *in_general(int rc)
{
    switch (rc) {
    case KV_ETOOBIG:
        return "over the limit";
    case KV_EFULL:
        return "no space left";
    case KV_ECORRUPT:
        return "damaged data";
    case KV_EIO:
        return "the system failed to read or write";
    case KV_EBUSY:
        return "in use elsewhere";
    case KV_EDENIED:
        return "no permission";
    case KV_EREADONLY:
        return "no writes are taken";
    case KV_EUNSUPPORTED:
        return "not supported here";
    case KV_ENOTFOUND:
        return "no such key";
    case KV_EEXISTS:
        return "the key exists";
    case KV_ECONFLICT:
        return "the key has another revision";
    case KV_ENOTNUMBER:
        return "the value is not a number";
    case KV_ENOTSTRING:
        return "not a string";
    case KV_ENOTBOOLEAN:
        return "not a boolean";
    case KV_ENOTARRAY:
        return "not an array";
    case KV_ENOTOBJECT:
        return "not an object";
    case KV_ENOTJSON:
        return "not JSON";
    case KV_ETOODEEP:
        return "nested deeper than 128 levels";
    case KV_EBADPATH:
        return "not a path";
    case KV_ERANGE:
        return "out of range";
    case KV_EBADCURSOR:
        return "not a cursor of this listing";
    case KV_EINVAL:
        return "invalid argument";
    default:
        return "failed";
    }
}

int kv_lua_fail_with(lua_State *L, int rc, const char *message)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, kv_errname(rc));
    return 3;
}

int kv_lua_fail(lua_State *L, const kv_lua_call *c, int rc)
{
    char message[1024];

    if (rc == KV_ENOMEM)
        return kv_lua_error(L, "not enough memory");
    /* Copied, because pushing it may run a finalizer that fails in the core as well. */
    snprintf(message, sizeof message, "%s",
             c != NULL && c->guarded ? in_general(rc) : kv_message());
    if (message[0] == '\0')
        snprintf(message, sizeof message, "%s", in_general(rc));
    if (rc == KV_EINVAL)
        return kv_lua_error(L, "%s", message);
    return kv_lua_fail_with(L, rc, message);
}

/* The core's words are kept for failures: a condition that does not hold is ordinary, and its
 * message would be the last failure's. */
int kv_lua_refuse(lua_State *L, int rc)
{
    lua_pushboolean(L, 0);
    lua_pushstring(L, in_general(rc));
    lua_pushstring(L, kv_errname(rc));
    return 3;
}
