/* SPDX-License-Identifier: MIT
 *
 * lua_field.c - the operations on one field of a document: json_get, json_set and their companions.
 *
 * As in lua_ns.c, all arguments are read before the core is called, and nothing can fail in Lua
 * once the core has changed something. A field that goes (json_pop) is therefore read and converted
 * first, and removed on condition that it is still the same.
 */
#include "lua_kv.h"
#include "lua_json.h"

#include <string.h>

/* ---- arguments ---------------------------------------------------------- */

/* An array of steps becomes a path's text, which it leaves on the stack. A table that is none, such
 * as options in the place of a path, must not pass for the path of the whole document. */
static int steps_to_text(lua_State *L, int i, const char **path, size_t *len)
{
    size_t n = kv_lua_items(L, i, "path"), size = 0, k, more;
    int first = lua_gettop(L) + 1;
    char *text;

    /* One more than any document has levels is enough to be refused. */
    if (n > KV_JSON_DEPTH + 1)
        n = KV_JSON_DEPTH + 1;
    luaL_checkstack(L, (int)n + LUA_MINSTACK, "path");
    for (k = 0; k < n; k++) {
        lua_rawgeti(L, i, (int)k + 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            const char *s = lua_tolstring(L, -1, &more);
            if (kv_json_escape_size(s, more, &more) != KV_JSON_OK) {
                lua_pushfstring(L, "bad path: step %d is not UTF-8", (int)k + 1);
                return kv_lua_fail_with(L, KV_EBADPATH, lua_tostring(L, -1));
            }
            size += more + 4;
        } else {
            (void)kv_lua_integer(L, first + (int)k, "path", INT64_MIN, INT64_MAX,
                                 "an array of strings and integral numbers");
            size += KV_JSON_NUMBER_MAX;
        }
    }
    text = lua_newuserdata(L, size + 1);
    *path = text;
    for (k = 0; k < n; k++) {
        *text++ = '[';
        if (lua_type(L, first + (int)k) == LUA_TSTRING) {
            const char *s = lua_tolstring(L, first + (int)k, &more);
            *text++ = '"';
            text += kv_json_escape(s, more, text);
            *text++ = '"';
        } else {
            text += kv_json_integer_format(
                kv_lua_integer(L, first + (int)k, "path", INT64_MIN, INT64_MAX, ""), text);
        }
        *text++ = ']';
    }
    *len = (size_t)(text - *path);
    lua_replace(L, first);
    lua_settop(L, first);
    return 0;
}

/* Key and path, the first two arguments. Returns 0, or results. */
static inline int read_place(lua_State *L, const kv_lua_call *c, const char **key, size_t *key_len,
                             const char **path, size_t *path_len)
{
    int n = kv_lua_key_arg(L, c, key, key_len), i = c->arg + 1;

    if (n != 0)
        return n;
    switch (lua_type(L, i)) {
    case LUA_TSTRING:
        *path = lua_tolstring(L, i, path_len);
        return 0;
    case LUA_TNONE:
    case LUA_TNIL:
        *path = "";
        *path_len = 0;
        return 0;
    case LUA_TTABLE:
        return steps_to_text(L, i, path, path_len);
    }
    return kv_lua_bad(L, "path", "a string or an array of steps", i);
}

/* An edit being asked for. */
typedef struct request {
    kv_edit e;
    const char *key;
    size_t len;
    int owner; /* stack index of what owns the operand's text; 0: none */
} request;

/* Options, at stack index i. Returns 0, or results. */
static int read_options(lua_State *L, int i, kv_edit *e)
{
    enum { CREATE = KV_LUA_WRITE_COUNT - 1 };
    static const char *const names[] = {"ttl",    "expiration", "keep_ttl", "metadata",
                                        "set_if", "if_rev",     "create",   NULL};
    int base;

    e->write.flags = KV_KEEP_TTL | KV_KEEP_META;
    if (lua_isnoneornil(L, i))
        return 0;
    base = kv_lua_opts(L, i, names, NULL);
    if (!kv_lua_boolean(L, base + CREATE, "create", 1))
        e->flags |= KV_EDIT_NO_CREATE;
    return kv_lua_write_opts(L, base, &e->write, NULL);
}

/* Whatever every edit begins with; `opts` is the position of the options among the arguments. */
static inline int begin(lua_State *L, const kv_lua_call *c, request *r, int op, int opts)
{
    const char *path;
    size_t path_len;
    int n;

    memset(&r->e, 0, sizeof r->e);
    r->e.op = op;
    r->owner = 0;
    if (op == KV_EDIT_MERGE) {
        n = kv_lua_key_arg(L, c, &r->key, &r->len);
    } else {
        if (lua_gettop(L) < c->arg + opts)
            lua_settop(L, c->arg + opts); /* what is pushed comes behind the arguments */
        n = read_place(L, c, &r->key, &r->len, &path, &path_len);
        if (n == 0) {
            if (path_len > UINT32_MAX) {
                lua_pushliteral(L, "a path of more than 4 GiB");
                return kv_lua_fail_with(L, KV_EBADPATH, lua_tostring(L, -1));
            }
            r->e.path = path;
            r->e.path_len = (uint32_t)path_len;
        }
    }
    return n != 0 ? n : read_options(L, c->arg + opts, &r->e);
}

/* The edit's JSON. Returns 0, or results. */
static int operand_text(lua_State *L, request *r, const char *text, size_t len, const char *what)
{
    if (len > KV_MAX_VALUE_CAP) {
        lua_pushfstring(L, "%s of more than %d bytes", what, (int)KV_MAX_VALUE_CAP);
        return kv_lua_fail_with(L, KV_ETOOBIG, lua_tostring(L, -1));
    }
    r->e.json = text;
    r->e.json_len = (uint32_t)len;
    return 0;
}

/* The same, from the value at i. */
static int operand(lua_State *L, request *r, int i, const char *what)
{
    const char *text;
    size_t len;

    if (lua_isnoneornil(L, i))
        return kv_lua_error(L,
                            "bad argument '%s': expected a value, got nil (json_remove removes a "
                            "field, kv.null stores a null)",
                            what);
    text = kv_lua_encode(L, i, what, &len);
    r->owner = lua_gettop(L);
    return operand_text(L, r, text, len, what);
}

/* ---- results ------------------------------------------------------------ */

/* nil, message, code, or with false in front when a condition did not hold. */
static int failed(lua_State *L, const kv_lua_call *c, int rc)
{
    if (!kv_lua_is_condition(rc))
        return kv_lua_fail(L, c, rc);
    lua_pushboolean(L, 0);
    lua_pushstring(L, rc == KV_ENOTFOUND ? "no such field"
                      : rc == KV_EEXISTS ? "the field exists"
                                         : "the key has another revision");
    lua_pushstring(L, kv_errname(rc));
    return 3;
}

static inline int run(lua_State *L, const kv_lua_call *c, request *r, kv_edited *out)
{
    int rc = kv_edit_field(kv_lua_live(L, c), r->key, r->len, &r->e, out);

    if (r->owner != 0)
        kv_lua_encode_done(L, r->owner);
    return rc;
}

/* The result on top of the stack, and what comes behind it. */
static int with_rev(lua_State *L, const kv_edited *out)
{
    lua_pushnil(L);
    kv_lua_pushint64(L, (int64_t)out->rev);
    return 3;
}

static int finish_rev(lua_State *L, const kv_lua_call *c, request *r)
{
    kv_edited out;
    int rc = run(L, c, r, &out);

    if (rc != KV_OK)
        return failed(L, c, rc);
    kv_lua_pushint64(L, (int64_t)out.rev);
    return 1;
}

static int finish_length(lua_State *L, const kv_lua_call *c, request *r)
{
    kv_edited out;
    int rc = run(L, c, r, &out);

    if (rc != KV_OK)
        return failed(L, c, rc);
    kv_lua_pushint64(L, (int64_t)out.length);
    return with_rev(L, &out);
}

static int finish_value(lua_State *L, const kv_lua_call *c, request *r)
{
    kv_edited out;
    int rc = run(L, c, r, &out);

    if (rc != KV_OK)
        return failed(L, c, rc);
    (void)kv_lua_push(L, &out.value, KV_LUA_PLAIN);
    return with_rev(L, &out);
}

/* ---- reading ------------------------------------------------------------ */

/* The field's text, in `room` or in a userdata that it leaves on the stack: creating one may run a
 * finalizer that uses the scratch that the core hands out. KV_OK or a code of the core. */
static int read_field(lua_State *L, const kv_lua_call *c, kv_value *v, char *room)
{
    const char *key, *path;
    size_t len, path_len;
    int n = read_place(L, c, &key, &len, &path, &path_len), rc;

    if (n != 0)
        return n; /* more than any code, which are 0 and below */
    for (;;) {
        unsigned calls;
        char *to = room;
        rc = kv_get_field(kv_lua_live(L, c), key, len, path, path_len, v);
        if (rc != KV_OK || (v->type != KV_JSON && v->type != KV_STRING))
            return rc;
        calls = c->box->calls;
        if (v->len > KV_LUA_ROOM)
            to = lua_newuserdata(L, v->len);
        if (calls == c->box->calls) {
            memcpy(to, v->data, v->len);
            v->data = to;
            return KV_OK;
        }
        lua_pop(L, 1);
    }
}

/* What every read begins with: 0 and the value, or how many results there are instead. */
#define READ(L, c, v, room)                                                                        \
    do {                                                                                           \
        int rc_ = read_field(L, c, v, room);                                                       \
        if (rc_ > 0)                                                                               \
            return rc_;                                                                            \
        if (rc_ == KV_ENOTFOUND) {                                                                 \
            lua_pushnil(L);                                                                        \
            return 1;                                                                              \
        }                                                                                          \
        if (rc_ != KV_OK)                                                                          \
            return kv_lua_fail(L, c, rc_);                                                         \
    } while (0)

static int op_json_get(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    kv_value v;

    READ(L, c, &v, room);
    return kv_lua_push(L, &v, KV_LUA_PLAIN);
}

static int op_json_type(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    const char *name = "number";
    kv_value v;
    int64_t i;
    double d;

    READ(L, c, &v, room);
    switch (v.type) {
    case KV_INTEGER:
        name = "integer";
        break;
    case KV_BOOLEAN:
        name = "boolean";
        break;
    case KV_NULL:
        name = "null";
        break;
    case KV_JSON:
        switch (*v.data) {
        case '{':
            name = "object";
            break;
        case '[':
            name = "array";
            break;
        case '"':
            name = "string";
            break;
        case 't':
        case 'f':
            name = "boolean";
            break;
        case 'n':
            name = "null";
            break;
        default:
            if (kv_json_number_parse(v.data, v.len, &i, &d) == KV_JSON_INTEGER)
                name = "integer";
        }
    }
    lua_pushstring(L, name);
    return 1;
}

/* The names in the object's text: their number; with `list`, the stack index of a table, each is
 * put there at its first appearance. A name that is there twice is one, as for whoever decodes it.
 */
static lua_Integer names_of(lua_State *L, const kv_value *v, int list)
{
    kv_json_scan scan;
    lua_Integer n = 0;
    int seen;

    lua_newtable(L);
    seen = lua_gettop(L);
    kv_json_scan_init(&scan, v->data, v->len);
    for (;;) {
        int token = kv_json_next(&scan);
        if (token == KV_JSON_FAIL || token == KV_JSON_END)
            break;
        if (token != KV_JSON_KEY || scan.depth != 1)
            continue;
        kv_lua_push_token(L, &scan);
        lua_pushvalue(L, -1);
        lua_rawget(L, seen);
        if (lua_isnil(L, -1)) {
            n++;
            if (list != 0) {
                lua_pushvalue(L, -2);
                lua_rawseti(L, list, (int)n);
            }
            lua_pop(L, 1);
            lua_pushboolean(L, 1);
            lua_rawset(L, seen);
        } else {
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
    return n;
}

static int op_json_length(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    kv_value v;
    int64_t n = -1;

    READ(L, c, &v, room);
    if (v.type == KV_JSON) {
        if (*v.data == '{')
            n = names_of(L, &v, 0);
        else if (*v.data == '[')
            n = (int64_t)kv_json_count(v.data, v.len);
        else if (*v.data == '"')
            n = (int64_t)kv_json_unescaped_size(v.data + 1, v.len - 2);
    }
    if (n >= 0)
        kv_lua_pushint64(L, n);
    else
        lua_pushnil(L);
    return 1;
}

static int op_json_keys(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    kv_value v;

    READ(L, c, &v, room);
    if (v.type != KV_JSON || *v.data != '{') {
        lua_pushnil(L);
        return 1;
    }
    lua_newtable(L);
    kv_lua_tag_array(L);
    (void)names_of(L, &v, lua_gettop(L));
    return 1;
}

/* ---- editing ------------------------------------------------------------ */

static int op_json_set(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_SET, 3);

    if (n != 0 || (n = operand(L, &r, c->arg + 2, "value")) != 0)
        return n;
    return finish_rev(L, c, &r);
}

static int op_json_increment(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_INCREMENT, 3);

    if (n != 0)
        return n;
    r.e.by.type = KV_INTEGER;
    r.e.by.integer = 1;
    if (!lua_isnil(L, c->arg + 2))
        kv_lua_number(L, c->arg + 2, "by", &r.e.by);
    return finish_value(L, c, &r);
}

#define op_json_incr op_json_increment

static int op_json_push(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_PUSH, 3);

    if (n != 0 || (n = operand(L, &r, c->arg + 2, "value")) != 0)
        return n;
    return finish_length(L, c, &r);
}

static int op_json_extend(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_EXTEND, 3);

    if (n != 0 || (n = operand(L, &r, c->arg + 2, "array")) != 0)
        return n;
    /* What is empty is an empty array here, whether tagged or not. */
    if (r.e.json_len == 2 && *r.e.json == '{')
        r.e.json = "[]";
    if (*r.e.json != '[')
        return kv_lua_bad(L, "array", "an array", c->arg + 2);
    return finish_length(L, c, &r);
}

static int op_json_insert(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_INSERT, 3);

    if (n != 0 || (n = operand(L, &r, c->arg + 2, "value")) != 0)
        return n;
    return finish_length(L, c, &r);
}

static int op_json_pop(lua_State *L, const kv_lua_call *c)
{
    char room[KV_LUA_ROOM];
    kv_edited out;
    request r;
    int n = begin(L, c, &r, KV_EDIT_POP, 3), rc, conditional, top, again;

    if (n != 0)
        return n;
    r.e.index = -1;
    if (!lua_isnil(L, c->arg + 2))
        r.e.index = kv_lua_integer(L, c->arg + 2, "index", INT64_MIN, INT64_MAX, "an integer");
    conditional = (r.e.write.flags & KV_IF_REV) != 0;
    top = lua_gettop(L);
    do {
        unsigned calls;
        char *to = room;
        lua_settop(L, top);
        r.e.flags |= KV_EDIT_PEEK;
        if (!conditional)
            r.e.write.flags &= ~(uint32_t)KV_IF_REV;
        rc = kv_edit_field(kv_lua_live(L, c), r.key, r.len, &r.e, &out);
        again = 0;
        if (rc != KV_OK)
            break;
        calls = c->box->calls;
        if (out.value.len > KV_LUA_ROOM)
            to = lua_newuserdata(L, out.value.len);
        again = calls != c->box->calls; /* a finalizer used the scratch */
        if (again)
            continue;
        memcpy(to, out.value.data, out.value.len);
        out.value.data = to;
        if ((n = kv_lua_push(L, &out.value, KV_LUA_PLAIN)) != 1)
            return n;
        r.e.flags &= ~(uint32_t)KV_EDIT_PEEK;
        r.e.write.flags |= KV_IF_REV;
        r.e.write.if_rev = out.rev;
        rc = kv_edit_field(kv_lua_live(L, c), r.key, r.len, &r.e, &out);
    } while (again || (rc == KV_ECONFLICT && !conditional));
    if (rc == KV_OK)
        return with_rev(L, &out);
    if (rc != KV_ENOTFOUND || r.e.write.flags & KV_IF_EXIST)
        return failed(L, c, rc);
    lua_pushnil(L);
    return 1;
}

static int op_json_remove(lua_State *L, const kv_lua_call *c)
{
    kv_edited out;
    request r;
    int n = begin(L, c, &r, KV_EDIT_REMOVE, 2), rc;

    if (n != 0)
        return n;
    rc = run(L, c, &r, &out);
    if (rc == KV_OK) {
        lua_pushboolean(L, 1);
        return with_rev(L, &out);
    }
    if (rc != KV_ENOTFOUND || r.e.write.flags & KV_IF_EXIST)
        return failed(L, c, rc);
    lua_pushboolean(L, 0);
    return 1;
}

static int op_json_merge(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n;

    if (lua_gettop(L) < c->arg + 2)
        lua_settop(L, c->arg + 2);
    if ((n = begin(L, c, &r, KV_EDIT_MERGE, 2)) != 0 ||
        (n = operand(L, &r, c->arg + 1, "patch")) != 0)
        return n;
    return finish_rev(L, c, &r);
}

static int op_json_toggle(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_TOGGLE, 2);

    return n != 0 ? n : finish_value(L, c, &r);
}

static int op_json_append(lua_State *L, const kv_lua_call *c)
{
    request r;
    int n = begin(L, c, &r, KV_EDIT_APPEND, 3);

    if (n != 0)
        return n;
    if (lua_type(L, c->arg + 2) != LUA_TSTRING)
        return kv_lua_bad(L, "text", "a string", c->arg + 2);
    if ((n = operand(L, &r, c->arg + 2, "text")) != 0)
        return n;
    return finish_length(L, c, &r);
}

/* ---- for the command line ------------------------------------------------ */

/* What a shell is given and gives is text: numbers and the order of members stay as they are
 * spelled, which Lua's values would not keep. */

/* field_text(ns, key, path): the field's JSON text. */
int kv_lua_field_text(lua_State *L)
{
    char room[KV_LUA_ROOM];
    kv_lua_call c;
    kv_value v;

    kv_lua_method(L, &c, "json_get");
    READ(L, &c, &v, room);
    return kv_lua_push(L, &v, KV_LUA_TEXT);
}

static int with_text(lua_State *L, const char *name, int op,
                     int (*finish)(lua_State *, const kv_lua_call *, request *))
{
    kv_lua_call c;
    kv_json_error err;
    request r;
    const char *text;
    size_t len;
    int n;

    kv_lua_method(L, &c, name);
    text = luaL_checklstring(L, c.arg + 2, &len);
    if (kv_json_check(text, len, &err) != KV_JSON_OK)
        return luaL_argerror(L, c.arg + 2, "JSON expected");
    n = begin(L, &c, &r, op, 3);
    return n != 0 || (n = operand_text(L, &r, text, len, "value")) != 0 ? n : finish(L, &c, &r);
}

/* field_set, field_push(ns, key, path, text): json_set and json_push of what the text spells. */
int kv_lua_field_set(lua_State *L)
{
    return with_text(L, "json_set", KV_EDIT_SET, finish_rev);
}

int kv_lua_field_push(lua_State *L)
{
    return with_text(L, "json_push", KV_EDIT_PUSH, finish_length);
}

KV_LUA_OP(json_get)
KV_LUA_OP(json_type)
KV_LUA_OP(json_length)
KV_LUA_OP(json_keys)
KV_LUA_OP(json_set)
KV_LUA_OP(json_increment)
KV_LUA_OP(json_incr)
KV_LUA_OP(json_push)
KV_LUA_OP(json_extend)
KV_LUA_OP(json_insert)
KV_LUA_OP(json_pop)
KV_LUA_OP(json_remove)
KV_LUA_OP(json_merge)
KV_LUA_OP(json_toggle)
KV_LUA_OP(json_append)

#define OP(x)                                                                                      \
    {                                                                                              \
#x, method_##x, bound_##x                                                                  \
    }
const kv_lua_op kv_lua_field_ops[] = {
    OP(json_get),    OP(json_type),   OP(json_length),    OP(json_keys),
    OP(json_set),    OP(json_push),   OP(json_increment), OP(json_incr),
    OP(json_extend), OP(json_insert), OP(json_pop),       OP(json_remove),
    OP(json_merge),  OP(json_toggle), OP(json_append),    {NULL, NULL, NULL},
};
