/* SPDX-License-Identifier: MIT
 *
 * lua_stream.c - values in pieces: the handles of writer() and get(key, "stream"), and put of a
 * reader.
 *
 * A handle counts as a user of its namespace's box, so it keeps its store open; an explicit close
 * of the store ends it. The loop that calls a program's reader is Lua (kv/stream.lua), because the
 * reader may yield.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 65536u /* bytes of a read that does not say how many; a chunk of a large value */
#define LINE  1024u  /* bytes looked at at a time for the end of a line */

/* The userdata. One of writer and reader is there while it is open. */
struct kv_lua_stream {
    kv_lua_ns *box; /* counted; NULL: not open yet, or finalized */
    kv_lua_stream *prev, *next;
    kv_writer *writer;
    kv_reader *reader;
    char *chunk;  /* CHUNK bytes, once needed */
    uint64_t pos; /* of the reader */
    int guarded;
};

static const char writer_meta[] = "kv.writer", reader_meta[] = "kv.reader";

/* ---- lifetimes ---------------------------------------------------------- */

static void end(kv_lua_stream *s)
{
    kv_writer_close(s->writer);
    kv_reader_close(s->reader);
    free(s->chunk);
    s->writer = NULL;
    s->reader = NULL;
    s->chunk = NULL;
}

void kv_lua_streams_end(kv_lua_ns *box)
{
    for (kv_lua_stream *s = box->streams; s != NULL; s = s->next)
        end(s);
}

/* Box first: an empty handle on the stack. */
static kv_lua_stream *new_stream(lua_State *L, const kv_lua_call *c, const char *meta)
{
    kv_lua_stream *s = lua_newuserdata(L, sizeof *s);

    memset(s, 0, sizeof *s);
    s->guarded = c->guarded;
    lua_rawgetp(L, LUA_REGISTRYINDEX, meta);
    lua_setmetatable(L, -2);
    return s;
}

/* It has a writer or reader now. */
static void attach(kv_lua_stream *s, kv_lua_ns *box)
{
    s->box = box;
    box->refs++;
    s->next = box->streams;
    if (s->next != NULL)
        s->next->prev = s;
    box->streams = s;
}

/* Upvalue 1 of every method is the metatable. */
static kv_lua_stream *self(lua_State *L, const char *name)
{
    kv_lua_stream *s = lua_touserdata(L, 1);

    if (s == NULL || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)))
        kv_lua_error(L,
                     "use stream:%s(...), not stream.%s(...): the first argument is not a stream",
                     name, name);
    lua_pop(L, 1);
    return s;
}

/* Asked right before every call of the core, like kv_lua_live. */
static kv_lua_stream *live(lua_State *L, kv_lua_stream *s)
{
    if (s->writer == NULL && s->reader == NULL)
        kv_lua_error(L, "this stream is closed");
    s->box->calls++;
    return s;
}

static int fail(lua_State *L, const kv_lua_stream *s, int rc)
{
    kv_lua_call c = {NULL, 1, 0};

    c.guarded = s->guarded;
    return kv_lua_fail(L, &c, rc);
}

static int stream_close(lua_State *L)
{
    end(self(L, "close"));
    lua_pushboolean(L, 1);
    return 1;
}

static int stream_gc(lua_State *L)
{
    kv_lua_stream *s = self(L, "close");
    kv_lua_ns *box = s->box;

    end(s);
    s->box = NULL;
    if (box == NULL)
        return 0;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        box->streams = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    kv_lua_ns_release(box);
    return 0;
}

static int stream_tostring(lua_State *L)
{
    kv_lua_stream *s = self(L, "tostring");

    lua_pushfstring(L, "kv.stream (%s)", s->writer ? "writing" : s->reader ? "reading" : "closed");
    return 1;
}

/* ---- reading ------------------------------------------------------------ */

/* Up to n bytes from where the reader is: a string, or nil at the end. */
static int read_some(lua_State *L, kv_lua_stream *s, uint64_t n)
{
    uint64_t left = kv_reader_size(live(L, s)->reader);
    size_t got = 0;
    char *to;
    int rc;

    left = s->pos < left ? left - s->pos : 0;
    if (left == 0) {
        lua_pushnil(L);
        return 1;
    }
    if (n > left)
        n = left;
    if (n <= CHUNK && s->chunk == NULL && (s->chunk = malloc(CHUNK)) == NULL)
        return kv_lua_error(L, "not enough memory");
    to = n <= CHUNK ? s->chunk : lua_newuserdata(L, (size_t)n);
    rc = kv_reader_read(live(L, s)->reader, to, (size_t)n, s->pos, &got);
    if (rc != KV_OK)
        return fail(L, s, rc);
    lua_pushlstring(L, to, got);
    s->pos += got;
    return 1;
}

static int reader_read(lua_State *L)
{
    kv_lua_stream *s = self(L, "read");
    int64_t n = CHUNK;

    if (!lua_isnoneornil(L, 2))
        n = kv_lua_integer(L, 2, "n", 0, INT64_MAX, "a number of bytes >= 0");
    return read_some(L, s, (uint64_t)n);
}

/* The same as an LTN12 source, whatever it is called with. */
static int reader_call(lua_State *L)
{
    return read_some(L, self(L, "read"), CHUNK);
}

static int next_line(lua_State *L)
{
    kv_lua_stream *s = lua_touserdata(L, lua_upvalueindex(1));
    char piece[LINE];
    const char *newline = NULL;
    size_t got = 0, len;
    luaL_Buffer b;
    int rc, some = 0;

    luaL_buffinit(L, &b);
    while (newline == NULL) {
        rc = kv_reader_read(live(L, s)->reader, piece, sizeof piece, s->pos, &got);
        if (rc != KV_OK) {
            fail(L, s, rc);
            return kv_lua_error(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
        }
        if (got == 0)
            break;
        newline = memchr(piece, '\n', got);
        len = newline != NULL ? (size_t)(newline - piece) : got;
        s->pos += len + (newline != NULL);
        some = 1;
        luaL_addlstring(&b, piece, len);
    }
    luaL_pushresult(&b);
    if (!some)
        lua_pushnil(L);
    return 1;
}

static int reader_lines(lua_State *L)
{
    live(L, self(L, "lines"));
    lua_settop(L, 1);
    lua_pushcclosure(L, next_line, 1);
    return 1;
}

int kv_lua_reader(lua_State *L, const kv_lua_call *c, const char *key, size_t len, kv_record *r)
{
    kv_lua_stream *s = new_stream(L, c, reader_meta);
    int rc = kv_reader_open(kv_lua_live(L, c), key, len, r, &s->reader);

    if (rc == KV_OK)
        attach(s, c->box);
    return rc;
}

/* ---- writing ------------------------------------------------------------ */

static int write_pieces(lua_State *L, kv_lua_stream *s, int from)
{
    int top = lua_gettop(L), rc;
    const char *piece;
    size_t len;

    for (int i = from; i <= top; i++)
        if (lua_type(L, i) != LUA_TSTRING)
            return kv_lua_bad(L, "chunk", "a string", i);
    for (int i = from; i <= top; i++) {
        piece = lua_tolstring(L, i, &len);
        rc = kv_writer_write(live(L, s)->writer, piece, len);
        if (rc != KV_OK)
            return fail(L, s, rc);
    }
    lua_settop(L, 1);
    return 1;
}

static int writer_write(lua_State *L)
{
    kv_lua_stream *s = live(L, self(L, "write"));

    if (lua_gettop(L) < 2)
        return kv_lua_bad(L, "chunk", "a string", 2);
    return write_pieces(L, s, 2);
}

static int commit(lua_State *L, kv_lua_stream *s)
{
    uint64_t rev = 0;
    int rc = kv_writer_commit(live(L, s)->writer, &rev), n = 1;

    if (rc == KV_OK)
        kv_lua_pushint64(L, (int64_t)rev);
    else
        n = kv_lua_is_condition(rc) ? kv_lua_refuse(L, rc) : fail(L, s, rc);
    end(s);
    return n;
}

static int writer_commit(lua_State *L)
{
    return commit(L, self(L, "commit"));
}

/* As an LTN12 sink: a chunk, nil at the end, nil and an error when the source failed. */
static int writer_call(lua_State *L)
{
    kv_lua_stream *s = live(L, self(L, "write"));

    if (!lua_isnoneornil(L, 2)) {
        lua_settop(L, 2);
        return write_pieces(L, s, 2);
    }
    if (lua_isnoneornil(L, 3))
        return commit(L, s);
    end(s);
    lua_pushboolean(L, 1);
    return 1;
}

static const char *const write_names[] = {KV_LUA_WRITE_NAMES, NULL};

/* A writer for the key with the options at `opts`, on the stack. Returns 1, or 3 for a failure. */
static int open_writer(lua_State *L, const kv_lua_call *c, int opts)
{
    kv_lua_stream *s;
    kv_write w;
    const char *key;
    size_t len;
    int n, rc, as_json = 0;

    memset(&w, 0, sizeof w);
    if ((n = kv_lua_key_arg(L, c, &key, &len)) != 0)
        return n;
    n = kv_lua_write_opts(L, kv_lua_opts(L, opts, write_names, NULL), &w, &as_json);
    if (n != 0)
        return n;
    s = new_stream(L, c, writer_meta);
    rc = kv_writer_open(kv_lua_live(L, c), key, len, as_json ? KV_JSON : KV_STRING, &w, &s->writer);
    if (rc != KV_OK)
        return kv_lua_fail(L, c, rc);
    attach(s, c->box);
    return 1;
}

static int op_writer(lua_State *L, const kv_lua_call *c)
{
    return open_writer(L, c, c->arg + 1);
}

/* Raw, as all values are read: what a table itself or the tables behind its metatable's __index
 * hold. A userdata is asked in the ordinary way: it cannot be a value. */
int kv_lua_has(lua_State *L, int i, const char *name)
{
    int top = lua_gettop(L), found = 0;

    if (lua_type(L, i) == LUA_TUSERDATA) {
        if (luaL_getmetafield(L, i, "__index")) {
            lua_getfield(L, i, name);
            found = lua_isfunction(L, -1);
        }
        lua_settop(L, top);
        return found;
    }
    lua_pushvalue(L, i);
    for (int depth = 0; depth < 16 && lua_type(L, -1) == LUA_TTABLE; depth++) {
        lua_pushstring(L, name);
        lua_rawget(L, -2);
        found = lua_isfunction(L, -1);
        lua_pop(L, 1);
        if (found || !lua_getmetatable(L, -1))
            break;
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
        lua_replace(L, top + 1);
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
    return found;
}

int kv_lua_put_reader(lua_State *L, const kv_lua_call *c)
{
    int n;

    kv_lua_headroom(L);
    n = open_writer(L, c, c->arg + 2);
    if (n != 1)
        return n;
    kv_lua_push_part(L, "pump");
    lua_insert(L, -2);
    lua_pushvalue(L, c->arg + 1);
    return kv_lua_tail(L, 2);
}

/* ---- setup -------------------------------------------------------------- */

KV_LUA_OP(writer)

const kv_lua_op kv_lua_stream_ops[] = {
    {"writer", method_writer, bound_writer},
    {NULL, NULL, NULL},
};

static void make_meta(lua_State *L, const char *meta, lua_CFunction call, const luaL_Reg *methods)
{
    static const luaL_Reg common[] = {{"__gc", stream_gc},
                                      {"__close", stream_close},
                                      {"__tostring", stream_tostring},
                                      {NULL, NULL}};

    lua_newtable(L);
    lua_pushvalue(L, -1);
    luaL_setfuncs(L, common, 1);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, call, 1);
    lua_setfield(L, -2, "__call");
    lua_pushstring(L, meta);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_rawsetp(L, LUA_REGISTRYINDEX, meta);
}

void kv_lua_stream_setup(lua_State *L)
{
    static const luaL_Reg writing[] = {
        {"write", writer_write}, {"commit", writer_commit}, {"close", stream_close}, {NULL, NULL}};
    static const luaL_Reg reading[] = {
        {"read", reader_read}, {"lines", reader_lines}, {"close", stream_close}, {NULL, NULL}};

    make_meta(L, writer_meta, writer_call, writing);
    make_meta(L, reader_meta, reader_call, reading);
}
