/* SPDX-License-Identifier: MIT */
/*
 * lua_json.c - Lua values to JSON text and back, exactly.
 *
 * Invariant: decode(encode(v)) equals v, or encode raises and names the place.  While encoding,
 * the table of level n is at stack slot root + 2n, its key one above, its value two above; so the
 * way to any value can be read off the stack when a message needs it and costs nothing before.
 */
#include "lua_json.h"
#include "lua_kv.h"

#include <string.h>

typedef char double_check[sizeof(lua_Number) == sizeof(double) ? 1 : -1];

/* Addresses are the keys into the registry: the tag of arrays, the buffer kept for encoding. */
static const char tag_key = 0, buffer_key = 0;

/* ---- the tag of arrays -------------------------------------------------------------------- */

/* Only its identity counts.  __metatable keeps programs from changing it or taking it off. */
void kv_lua_json_setup(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &tag_key);
    if (lua_isnil(L, -1)) {
        lua_createtable(L, 0, 1);
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_rawsetp(L, LUA_REGISTRYINDEX, &tag_key);
    }
    lua_pop(L, 1);
}

void kv_lua_tag_array(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &tag_key);
    lua_setmetatable(L, -2);
}

enum { TAG_NONE, TAG_ARRAY, TAG_EMPTY_ARRAY };

/* Push a field of a loaded module, read raw; nil when there is no such thing. */
static void push_loaded(lua_State *L, const char *module, const char *field)
{
    const char *way[3];

    way[0] = "_LOADED";
    way[1] = module;
    way[2] = field;
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    for (int i = 0; i < 3; i++) {
        if (lua_istable(L, -1)) {
            lua_pushstring(L, way[i]);
            lua_rawget(L, -2);
        } else {
            lua_pushnil(L);
        }
        lua_remove(L, -2);
    }
}

/*
 * lua-cjson's marks, where its version has them.  Whoever put one on a value has loaded it, so
 * looking there, and only when an unknown mark turns up, is enough.
 */
static int cjson_mark(lua_State *L, const void *mark, const char *field)
{
    static const char *const modules[] = {"cjson", "cjson.safe"};
    int same = 0;

    for (int i = 0; i < 2 && !same; i++) {
        push_loaded(L, modules[i], field);
        same = !lua_isnil(L, -1) && lua_topointer(L, -1) == mark;
        lua_pop(L, 1);
    }
    return same;
}

/* What the metatable on top of the stack means; pops it. */
static int tag_of(lua_State *L)
{
    const void *mark = lua_topointer(L, -1);
    int tag = TAG_NONE;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &tag_key);
    if (lua_rawequal(L, -1, -2))
        tag = TAG_ARRAY;
    else if (cjson_mark(L, mark, "array_mt"))
        tag = TAG_ARRAY;
    else if (cjson_mark(L, mark, "empty_array_mt"))
        tag = TAG_EMPTY_ARRAY;
    lua_pop(L, 2);
    return tag;
}

int kv_lua_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else {
        if (lua_type(L, 1) != LUA_TTABLE)
            kv_lua_bad(L, "t", "a table", 1);
        lua_settop(L, 1);
        if (lua_getmetatable(L, 1)) {
            /* Replacing a class by the tag would break the program's object. */
            int tag = tag_of(L);
            if (tag == TAG_NONE)
                kv_lua_error(L, "bad argument 't': the table has a metatable of its own");
            if (tag == TAG_ARRAY)
                return 1;
        }
    }
    kv_lua_tag_array(L);
    return 1;
}

/* ---- encode: the buffer ------------------------------------------------------------------- */

/*
 * The text grows in a userdata, so that Lua frees it whatever happens.  One is kept in the
 * registry; `busy` marks it as taken, because a finalizer may encode while we do, and because a
 * caller may hold two texts.
 */
struct buffer {
    size_t size; /* bytes behind the header */
    size_t busy;
};

#define BUFFER_FIRST 1000
#define BUFFER_KEPT  (64 * 1024) /* a larger one is left to the collector */

struct encoder {
    lua_State *L;
    char *text;
    size_t len, size;
    const char *where;
    int slot; /* of the buffer */
    int root; /* of the outermost value */
};

static struct buffer *push_buffer(lua_State *L, size_t size)
{
    struct buffer *b;

    if (size > (size_t)-1 - sizeof(*b))
        kv_lua_error(L, "not enough memory");
    b = lua_newuserdata(L, sizeof(*b) + size);
    b->size = size;
    b->busy = 1;
    return b;
}

/* Push a buffer that nobody else uses. */
static struct buffer *take_buffer(lua_State *L)
{
    struct buffer *b;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &buffer_key);
    b = lua_touserdata(L, -1);
    if (b != NULL && !b->busy) {
        b->busy = 1;
        return b;
    }
    lua_pop(L, 1);
    b = push_buffer(L, BUFFER_FIRST);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &buffer_key);
    return b;
}

void kv_lua_encode_done(lua_State *L, int idx)
{
    struct buffer *b = lua_touserdata(L, idx);

    if (b->size > BUFFER_FIRST && b->size <= BUFFER_KEPT) {
        /* It has grown: the larger one takes the place of the one it grew from. */
        lua_pushvalue(L, idx);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &buffer_key);
    }
    b->busy = 0;
}

static void grow(struct encoder *e, size_t more)
{
    size_t size = e->size * 2;
    struct buffer *b;

    if (size < e->len + more)
        size = e->len + more;
    b = push_buffer(e->L, size);
    memcpy(b + 1, e->text, e->len);
    lua_replace(e->L, e->slot);
    e->text = (char *)(b + 1);
    e->size = size;
}

/* Room for n more bytes. */
static inline char *room(struct encoder *e, size_t n)
{
    if (e->size - e->len < n)
        grow(e, n);
    return e->text + e->len;
}

static inline void put(struct encoder *e, const char *bytes, size_t n)
{
    memcpy(room(e, n), bytes, n);
    e->len += n;
}

static inline void put_byte(struct encoder *e, char c)
{
    *room(e, 1) = c;
    e->len++;
}

/* ---- encode: messages --------------------------------------------------------------------- */

/* A container being encoded.  index > 0: the place in it is an index, else its key's slot says. */
struct level {
    const struct level *up;
    int slot;
    lua_Integer index;
};

#define NAME_SHOWN 60 /* bytes of one key that a message shows */

static int is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int is_name(const char *s, size_t len)
{
    if (len == 0 || len > NAME_SHOWN || !is_letter((unsigned char)*s))
        return 0;
    for (size_t i = 1; i < len; i++)
        if (!is_letter((unsigned char)s[i]) && !(s[i] >= '0' && s[i] <= '9'))
            return 0;
    return 1;
}

static void add_key(luaL_Buffer *b, const char *s, size_t len)
{
    int utf8 = kv_json_utf8(s, len, NULL) == KV_JSON_OK;

    if (is_name(s, len)) {
        luaL_addchar(b, '.');
        luaL_addlstring(b, s, len);
        return;
    }
    luaL_addstring(b, "[\"");
    for (size_t i = 0; i < len && i < NAME_SHOWN; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && (!utf8 || len > NAME_SHOWN))) {
            luaL_addchar(b, '\\');
            luaL_addchar(b, (char)('0' + c / 100));
            luaL_addchar(b, (char)('0' + c / 10 % 10));
            luaL_addchar(b, (char)('0' + c % 10));
        } else {
            if (c == '"' || c == '\\')
                luaL_addchar(b, '\\');
            luaL_addchar(b, (char)c);
        }
    }
    luaL_addstring(b, len > NAME_SHOWN ? "...\"]" : "\"]");
}

static void add_index(luaL_Buffer *b, lua_Number n)
{
    char text[KV_JSON_NUMBER_MAX];

    luaL_addchar(b, '[');
    luaL_addlstring(b, text, kv_json_number_format((double)n, 0, text));
    luaL_addchar(b, ']');
}

static void add_place(luaL_Buffer *b, lua_State *L, const struct level *l)
{
    size_t len;
    const char *s;

    if (l == NULL)
        return;
    add_place(b, L, l->up);
    if (l->index > 0) {
        add_index(b, (lua_Number)l->index);
    } else if (lua_type(L, l->slot + 1) == LUA_TSTRING) {
        s = lua_tolstring(L, l->slot + 1, &len);
        add_key(b, s, len);
    } else if (lua_type(L, l->slot + 1) == LUA_TNUMBER) {
        add_index(b, lua_tonumber(L, l->slot + 1));
    }
}

#define PLACE_SHOWN 300
#define PLACE_HEAD  160
#define PLACE_TAIL  100

/* Raise "place: what"; the place is the one in level l at which it stands just now. */
static int refuse(struct encoder *e, const struct level *l, const char *what)
{
    lua_State *L = e->L;
    const char *place;
    luaL_Buffer b;
    size_t len;

    kv_lua_stack(L, LUA_MINSTACK);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, e->where);
    add_place(&b, L, l);
    luaL_pushresult(&b);
    place = lua_tolstring(L, -1, &len);
    if (len > PLACE_SHOWN) {
        lua_pushlstring(L, place, PLACE_HEAD);
        lua_pushliteral(L, " ... ");
        lua_pushlstring(L, place + len - PLACE_TAIL, PLACE_TAIL);
        lua_concat(L, 3);
        place = lua_tostring(L, -1);
    }
    return kv_lua_error(L, "%s: %s", place, what);
}

/*
 * The table at `slot` would be one level too many, perhaps because it is inside itself.  Looking
 * for that only here keeps the way down free of any bookkeeping.
 */
static void refuse_depth(struct encoder *e, const struct level *up, int slot)
{
    const struct level *l;

    for (int inner = e->root + 2; inner <= slot; inner += 2) {
        for (int outer = e->root; outer < inner; outer += 2) {
            if (!lua_rawequal(e->L, outer, inner))
                continue;
            for (l = up; l->slot != inner - 2; l = l->up)
                continue;
            refuse(e, l, "the table contains itself");
        }
    }
    refuse(e, up, "nested deeper than 128 levels");
}

static void refuse_type(struct encoder *e, const struct level *l, int type)
{
    char what[64] = "";

    if (type <= LUA_TNIL)
        refuse(e, l, "nil cannot be stored");
    if (type == LUA_TLIGHTUSERDATA || type == LUA_TUSERDATA)
        refuse(e, l, "userdata cannot be stored");
    /* "cdata" of LuaJIT is a type without a name in lua.h */
    strcpy(what, "a ");
    strncat(what, lua_typename(e->L, type), 20);
    strcat(what, " cannot be stored");
    refuse(e, l, what);
}

/* ---- encode: values ----------------------------------------------------------------------- */

static void put_string(struct encoder *e, const struct level *l, int slot, const char *what)
{
    size_t len, size;
    const char *s = lua_tolstring(e->L, slot, &len);
    char *to;

    if (kv_json_escape_size(s, len, &size) != KV_JSON_OK)
        refuse(e, l, what);
    to = room(e, size + 2);
    *to++ = '"';
    if (size == len)
        memcpy(to, s, len);
    else
        kv_json_escape(s, len, to);
    to[size] = '"';
    e->len += size + 2;
}

static void put_number(struct encoder *e, const struct level *l, int slot)
{
    char *to = room(e, KV_JSON_NUMBER_MAX);
    lua_Number n;
    size_t len;

    if (lua_isinteger(e->L, slot)) {
        e->len += kv_json_integer_format((int64_t)lua_tointeger(e->L, slot), to);
        return;
    }
    n = lua_tonumber(e->L, slot);
    /* -0 would be the integer 0 without the fraction. */
    len = kv_json_number_format((double)n, KV_LUA_INTEGERS || n == 0, to);
#if !KV_LUA_INTEGERS
    if (n == 0 && *to == '0')
        len = 1;
#endif
    if (len == 0)
        refuse(e, l, n != n ? "NaN cannot be stored" : "infinity cannot be stored");
    e->len += len;
}

static void put_table(struct encoder *e, const struct level *up, int slot);

static void put_value(struct encoder *e, const struct level *l, int slot)
{
    lua_State *L = e->L;
    int type = lua_type(L, slot);
    const void *p;

    switch (type) {
    case LUA_TSTRING:
        put_string(e, l, slot, "the string is not UTF-8");
        break;
    case LUA_TNUMBER:
        put_number(e, l, slot);
        break;
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, slot))
            put(e, "true", 4);
        else
            put(e, "false", 5);
        break;
    case LUA_TTABLE:
        put_table(e, l, slot);
        break;
    case LUA_TLIGHTUSERDATA:
        p = lua_touserdata(L, slot);
        if (p == NULL)
            put(e, "null", 4);
        else if (cjson_mark(L, p, "empty_array"))
            put(e, "[]", 2);
        else
            refuse_type(e, l, type);
        break;
    default:
        refuse_type(e, l, type);
    }
}

/* Is the key at slot the index n? */
static inline int is_index(lua_State *L, int slot, lua_Integer n)
{
#if KV_LUA_INTEGERS
    return lua_isinteger(L, slot) && lua_tointeger(L, slot) == n;
#else
    return lua_type(L, slot) == LUA_TNUMBER && lua_tonumber(L, slot) == (lua_Number)n;
#endif
}

static void refuse_key(struct encoder *e, struct level *l, const char *what)
{
    l->index = 0;
    if (lua_type(e->L, l->slot + 1) == LUA_TSTRING || lua_type(e->L, l->slot + 1) == LUA_TNUMBER)
        refuse(e, l, what);
    lua_pushfstring(e->L, "a key that is a %s cannot be stored", luaL_typename(e->L, l->slot + 1));
    refuse(e, l->up, lua_tostring(e->L, -1));
}

/*
 * Some indexes came out of the table in another order than 1, 2, 3...: make sure that they are
 * 1..n all the same, and encode those behind the first `done`.
 */
static void put_unordered(struct encoder *e, struct level *l, lua_Integer done, int tag)
{
    lua_State *L = e->L;
    int slot = l->slot;
    lua_Integer count = 0;
    lua_Number most = 0;

    lua_settop(L, slot);
    lua_pushnil(L);
    while (lua_next(L, slot)) {
        lua_Number n = lua_type(L, slot + 1) == LUA_TNUMBER ? lua_tonumber(L, slot + 1) : 0;
        if (lua_type(L, slot + 1) != LUA_TNUMBER)
            refuse_key(e, l,
                       tag == TAG_ARRAY ? "a name in a table tagged as an array"
                                        : "a name in a table with indexes");
        /* Only 2^53 and above could round here, and no table has that many items. */
        if (!(n >= 1 && n < 9007199254740992.0 && n == (lua_Number)(int64_t)n))
            refuse_key(e, l, "not an index from 1 to n");
        if (n > most)
            most = n;
        count++;
        lua_pop(L, 1);
    }
    if (most != (lua_Number)count) {
        for (count = 1;; count++) {
            lua_pushnumber(L, (lua_Number)count);
            lua_rawget(L, slot);
            if (lua_isnil(L, -1))
                break;
            lua_pop(L, 1);
        }
        l->index = count;
        refuse(e, l, "missing (an array must not have holes)");
    }
    lua_pushnil(L); /* where the key would be */
    for (lua_Integer i = done + 1; i <= count; i++) {
        if (i > 1)
            put_byte(e, ',');
        lua_pushnumber(L, (lua_Number)i);
        lua_rawget(L, slot);
        l->index = i;
        put_value(e, l, slot + 2);
        lua_settop(L, slot + 1);
    }
}

/*
 * lua_next hands out an array in order, nearly always, so one pass both proves that it is one and
 * encodes it.
 */
static void put_items(struct encoder *e, struct level *l, int tag)
{
    lua_State *L = e->L;
    int slot = l->slot;
    lua_Integer n = 0;

    put_byte(e, '[');
    do {
        if (!is_index(L, slot + 1, n + 1)) {
            put_unordered(e, l, n, tag);
            break;
        }
        if (n++ > 0)
            put_byte(e, ',');
        l->index = n;
        put_value(e, l, slot + 2);
        lua_settop(L, slot + 1);
    } while (lua_next(L, slot));
    put_byte(e, ']');
}

static void put_members(struct encoder *e, struct level *l)
{
    lua_State *L = e->L;
    int slot = l->slot;
    char before = '{';

    do {
        if (lua_type(L, slot + 1) != LUA_TSTRING)
            refuse_key(e, l, "an index in a table with names");
        put_byte(e, before);
        before = ',';
        put_string(e, l, slot + 1, "the key is not UTF-8");
        put_byte(e, ':');
        put_value(e, l, slot + 2);
        lua_settop(L, slot + 1);
    } while (lua_next(L, slot));
    put_byte(e, '}');
}

/* The table at slot, which is the top of the stack. */
static void put_table(struct encoder *e, const struct level *up, int slot)
{
    lua_State *L = e->L;
    struct level l;
    int tag = TAG_NONE;

    if (slot >= e->root + 2 * KV_JSON_DEPTH)
        refuse_depth(e, up, slot);
    if ((slot - e->root) % 16 == 0)
        kv_lua_stack(L, 16 + LUA_MINSTACK);
    if (lua_getmetatable(L, slot))
        tag = tag_of(L);
    l.up = up;
    l.slot = slot;
    l.index = 0;
    lua_pushnil(L);
    if (!lua_next(L, slot)) {
        put(e, tag == TAG_NONE ? "{}" : "[]", 2);
    } else if (lua_type(L, slot + 1) != LUA_TSTRING) {
        put_items(e, &l, tag);
    } else {
        if (tag == TAG_ARRAY)
            refuse_key(e, &l, "a name in a table tagged as an array");
        put_members(e, &l);
    }
}

const char *kv_lua_encode(lua_State *L, int idx, const char *where, size_t *len)
{
    struct encoder e;
    struct buffer *b;

    idx = lua_absindex(L, idx);
    kv_lua_stack(L, LUA_MINSTACK);
    b = take_buffer(L);
    e.L = L;
    e.text = (char *)(b + 1);
    e.len = 0;
    e.size = b->size;
    e.where = where;
    e.slot = lua_gettop(L);
    e.root = e.slot + 1;
    lua_pushvalue(L, idx);
    put_value(&e, NULL, e.root);
    lua_settop(L, e.slot);
    *len = e.len;
    return e.text;
}

int kv_lua_json_encode(lua_State *L)
{
    const char *text;
    size_t len;

    if (lua_type(L, 1) == LUA_TNONE)
        kv_lua_bad(L, "value", "a value", 1);
    lua_settop(L, 1);
    text = kv_lua_encode(L, 1, "value", &len);
    lua_pushlstring(L, text, len);
    kv_lua_encode_done(L, 2);
    return 1;
}

/* ---- decode ------------------------------------------------------------------------------- */

#define UNESCAPE_SMALL 512

void kv_lua_push_token(lua_State *L, const kv_json_scan *scan)
{
    const char *s = scan->text + scan->start + 1;
    size_t len = scan->end - scan->start - 2;
    char small[UNESCAPE_SMALL], *out = small;

    if (!scan->escaped) {
        lua_pushlstring(L, s, len);
        return;
    }
    if (len > sizeof(small))
        out = lua_newuserdata(L, len);
    lua_pushlstring(L, out, kv_json_unescape(s, len, out));
    if (out != small)
        lua_remove(L, -2);
}

int kv_lua_decode(lua_State *L, const char *text, size_t len, kv_json_error *err)
{
    kv_json_scan scan;
    lua_Integer count[KV_JSON_DEPTH + 1]; /* items so far of the array at each depth; -1: object */
    int top = lua_gettop(L), depth = 0;
    int64_t i = 0;
    double d = 0;

    kv_lua_stack(L, LUA_MINSTACK);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &tag_key);
    kv_json_scan_init(&scan, text, len);
    count[0] = -2;
    for (;;) {
        switch (kv_json_next(&scan)) {
        case KV_JSON_KEY:
            kv_lua_push_token(L, &scan);
            continue;
        case KV_JSON_OBJECT:
            if (++depth % 8 == 0) /* a level takes two slots, the container and a key */
                kv_lua_stack(L, 16 + LUA_MINSTACK);
            lua_newtable(L);
            count[depth] = -1;
            continue;
        case KV_JSON_ARRAY:
            if (++depth % 8 == 0)
                kv_lua_stack(L, 16 + LUA_MINSTACK);
            lua_newtable(L);
            lua_pushvalue(L, top + 1);
            lua_setmetatable(L, -2);
            count[depth] = 0;
            continue;
        case KV_JSON_OBJECT_END:
        case KV_JSON_ARRAY_END:
            depth--;
            break;
        case KV_JSON_STRING:
            kv_lua_push_token(L, &scan);
            break;
        case KV_JSON_NUMBER:
            if (kv_json_number_parse(text + scan.start, scan.end - scan.start, &i, &d) ==
                KV_JSON_INTEGER)
                kv_lua_pushint64(L, i);
            else
                lua_pushnumber(L, (lua_Number)d);
            break;
        case KV_JSON_TRUE:
            lua_pushboolean(L, 1);
            break;
        case KV_JSON_FALSE:
            lua_pushboolean(L, 0);
            break;
        case KV_JSON_NULL:
            lua_pushlightuserdata(L, NULL);
            break;
        case KV_JSON_END:
            lua_remove(L, top + 1);
            err->code = KV_JSON_OK;
            err->offset = len;
            return KV_JSON_OK;
        default:
            lua_settop(L, top);
            *err = scan.err;
            return err->code;
        }
        /* A value is complete and on top, above the container (and key) it belongs to. */
        if (count[depth] >= 0)
#if KV_LUA_INTEGERS
            lua_rawseti(L, -2, ++count[depth]);
#else
            lua_rawseti(L, -2, (int)++count[depth]);
#endif
        else if (count[depth] == -1)
            lua_rawset(L, -3);
    }
}

const char *kv_lua_json_failure(lua_State *L, const kv_json_error *err)
{
    char at[KV_JSON_NUMBER_MAX];
    size_t len = kv_json_integer_format((int64_t)err->offset + 1, at);

    lua_pushfstring(L, "not JSON: %s at byte ", kv_json_strerror(err->code));
    lua_pushlstring(L, at, len);
    lua_concat(L, 2);
    return err->code == KV_JSON_EDEPTH ? "too_deep" : "not_json";
}

int kv_lua_json_decode(lua_State *L)
{
    kv_json_error err;
    const char *text;
    size_t len;

    if (lua_type(L, 1) != LUA_TSTRING) /* a number is not coerced */
        kv_lua_bad(L, "text", "a string", 1);
    text = lua_tolstring(L, 1, &len);
    if (kv_lua_decode(L, text, len, &err) == KV_JSON_OK)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, kv_lua_json_failure(L, &err));
    return 3;
}
