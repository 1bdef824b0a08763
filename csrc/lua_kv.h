/* SPDX-License-Identifier: MIT
 *
 * lua_kv.h - what the files of the Lua binding share: boxes, calls, arguments, failures.
 *
 * A userdata holds a pointer to a counted box in C memory, never the core's object itself, so that
 * finalizers may run in any order and a store stays open for as long as anything made from it
 * lives.
 */
#ifndef KV_LUA_KV_H
#define KV_LUA_KV_H

#include "compat.h"
#include "json.h"
#include "kv.h"

#pragma GCC visibility push(hidden)

typedef struct kv_lua_ns kv_lua_ns;
typedef struct kv_lua_stream kv_lua_stream; /* lua_stream.c */

/* An open store. `refs` counts the store objects and namespaces; the last one to go closes it. */
typedef struct kv_lua_store {
    kv *h;             /* NULL: closed */
    kv_lua_ns *spaces; /* all namespaces made from it: an explicit close ends them first */
    unsigned refs;
    const char *id; /* of an instance (kv.instances), behind the path; NULL: none */
    size_t id_len;
    char path[]; /* as it was given */
} kv_lua_store;

/* A namespace; `refs` counts the userdata that share it, streams included. */
struct kv_lua_ns {
    kv_ns *ns; /* NULL: closed */
    kv_lua_store *store;
    kv_lua_ns *prev, *next;
    kv_lua_stream *streams; /* an explicit close of the store ends them first */
    unsigned refs;
    unsigned calls; /* of the core: tells whether a finalizer used the scratch meanwhile */
    size_t name_len;
    char name[];
};

/* The userdata. */
typedef struct kv_lua_handle {
    uintptr_t seal; /* KV_LUA_SEAL of its own address: makes a userdata of this size a handle */
    kv_lua_ns *box; /* NULL: not open yet (the default namespace), or finalized */
    int guarded;    /* made by bind(): nothing it says may name a path */
} kv_lua_handle;

typedef struct kv_lua_owner {
    kv_lua_store *box; /* NULL: finalized, or open failed */
} kv_lua_owner;

/* Cheaper than comparing metatables, which costs four calls of Lua's API. No other module's
 * userdata holds its own address combined with one of this module's. */
extern const char kv_lua_seal;
#define KV_LUA_SEAL(o) ((uintptr_t)(o) ^ (uintptr_t)&kv_lua_seal)

/* One call of an operation on a namespace. */
typedef struct kv_lua_call {
    kv_lua_ns *box;
    int arg;     /* stack index of the first argument */
    int guarded; /* see kv_lua_handle */
} kv_lua_call;

/* ---- lua_kv.c: boxes ---------------------------------------------------- */

/* Addresses serve as registry keys of the two metatables. */
extern const char kv_lua_ns_meta[], kv_lua_store_meta[];

/* Fills a fresh handle; a KV_E* code leaves it empty. No Lua call inside. */
int kv_lua_attach(kv_lua_handle *o, kv_lua_store *s, const char *name, size_t len, const char *desc,
                  size_t desc_len, int create);
/* A closed box with one reference, or NULL. id NULL: not an instance. */
kv_lua_store *kv_lua_store_new(const char *path, const char *id, size_t id_len);
void kv_lua_store_close(kv_lua_store *s);
void kv_lua_store_release(kv_lua_store *s);
void kv_lua_ns_release(kv_lua_ns *b);

/* Pushes an empty userdata with its metatable. */
kv_lua_handle *kv_lua_new_handle(lua_State *L);
kv_lua_owner *kv_lua_new_owner(lua_State *L);

/* Pushes the name of a namespace as a person reads it. */
void kv_lua_push_name(lua_State *L, const kv_lua_ns *b);

/* Names of scopes begin with byte 0 and this. */
enum { KV_LUA_APP = 'a', KV_LUA_GLOBAL = 'g' };

/* The slow parts of the two below. */
int kv_lua_misuse(lua_State *L, const char *name);
int kv_lua_misuse_bound(lua_State *L, const char *name);
int kv_lua_open_default(lua_State *L, kv_lua_handle *o, int opener);
int kv_lua_closed(lua_State *L, const kv_lua_call *c);

/* A method. luaL_checkudata would look the metatable up by name for every call, at half the price
 * of a whole get. */
static inline void kv_lua_method(lua_State *L, kv_lua_call *c, const char *name)
{
    kv_lua_handle *o = lua_touserdata(L, 1);

    if (o == NULL || lua_rawlen(L, 1) != sizeof *o || o->seal != KV_LUA_SEAL(o))
        kv_lua_misuse(L, name);
    c->box = o->box;
    c->arg = 2;
    c->guarded = o->guarded;
}

/* A bound function: upvalue 1 is the namespace, 2 the table it was put into, 3 what opens the store
 * at first use. Returns 0, or how many results (a failed open) are on the stack. */
static inline int kv_lua_bound(lua_State *L, kv_lua_call *c, const char *name)
{
    kv_lua_handle *o = lua_touserdata(L, lua_upvalueindex(1));
    int n;

    if (lua_type(L, 1) == LUA_TTABLE && lua_rawequal(L, 1, lua_upvalueindex(2)))
        kv_lua_misuse_bound(L, name);
    if (o->box == NULL && (n = kv_lua_open_default(L, o, lua_upvalueindex(3))) != 0)
        return n;
    c->box = o->box;
    c->arg = 1;
    c->guarded = o->guarded;
    return 0;
}

/* Asked right before every call of the core: reading arguments can run a finalizer that closes. */
static inline kv_ns *kv_lua_live(lua_State *L, const kv_lua_call *c)
{
    if (c->box == NULL || c->box->ns == NULL)
        kv_lua_closed(L, c);
    c->box->calls++;
    return c->box->ns;
}

/* An operation is written once, op_x(L, c), and compiled as a method and as a bound function. */
typedef struct kv_lua_op {
    const char *name;
    lua_CFunction method, bound;
} kv_lua_op;

#define KV_LUA_OP(x)                                                                               \
    static int method_##x(lua_State *L)                                                            \
    {                                                                                              \
        kv_lua_call c;                                                                             \
        kv_lua_method(L, &c, #x);                                                                  \
        return op_##x(L, &c);                                                                      \
    }                                                                                              \
    static int bound_##x(lua_State *L)                                                             \
    {                                                                                              \
        kv_lua_call c;                                                                             \
        int n = kv_lua_bound(L, &c, #x);                                                           \
        return n != 0 ? n : op_##x(L, &c);                                                         \
    }

extern const kv_lua_op kv_lua_key_ops[];    /* lua_ns.c */
extern const kv_lua_op kv_lua_put_ops[];    /* the same; they may end in kv_lua_tail */
extern const kv_lua_op kv_lua_list_ops[];   /* lua_list.c */
extern const kv_lua_op kv_lua_many_ops[];   /* lua_many.c */
extern const kv_lua_op kv_lua_stream_ops[]; /* lua_stream.c */
extern const kv_lua_op kv_lua_field_ops[];  /* lua_field.c */

/* Puts every operation, array, encode, decode and null into the table at `t`, bound to the handle
 * at `handle`; `opener` is the index of a function or 0. */
void kv_lua_bind(lua_State *L, int t, int handle, int opener);

/* Pushes a function of the part of the binding that is Lua; kv.core.provide was given them by name.
 */
void kv_lua_push_part(lua_State *L, const char *name);

/* lua_stream.c */
void kv_lua_stream_setup(lua_State *L);
void kv_lua_streams_end(kv_lua_ns *box);
/* Whether the table or userdata at i has a method of this name. */
int kv_lua_has(lua_State *L, int i, const char *name);
/* put, its value being one. */
int kv_lua_put_reader(lua_State *L, const kv_lua_call *c);
/* Pushes a handle that reads the key's value, as get(key, "stream") does; its metadata is in r as
 * long as it is open. KV_OK, or a code. */
int kv_lua_reader(lua_State *L, const kv_lua_call *c, const char *key, size_t len, kv_record *r);

/* lua_import.c, lua_export.c: what kv/transfer.lua is made of; functions go into the table on top
 */
void kv_lua_import_setup(lua_State *L);
void kv_lua_import_functions(lua_State *L);
void kv_lua_export_setup(lua_State *L);
void kv_lua_export_functions(lua_State *L);

/* lua_store.c */
void kv_lua_store_setup(lua_State *L);  /* makes the metatable of stores */
int kv_lua_open(lua_State *L);          /* open(path, opts); upvalue 1: the module */
int kv_lua_open_instance(lua_State *L); /* open(path, opts, id) */
int kv_lua_expect_store(lua_State *L);
int kv_lua_list_stores(lua_State *L);  /* the file names in a directory, or a failure */
int kv_lua_remove_store(lua_State *L); /* true, or a failure */
int kv_lua_check_open(lua_State *L);   /* raises what open would raise, opens nothing */
kv_lua_owner *kv_lua_to_owner(lua_State *L, int i); /* NULL: not a store */

/* lua_field.c: for the command line */
int kv_lua_field_text(lua_State *L);
int kv_lua_field_set(lua_State *L);
int kv_lua_field_push(lua_State *L);

/* lua_term.c: for the command line */
void kv_lua_term(lua_State *L);         /* pushes the table kv.core.term */
void kv_lua_watch(lua_State *L, kv *h); /* before a long call: whom to tell how far it is */

/* lua_jit.c: jit() returns the address of the functions for LuaJIT's FFI; jit_failed(ns, code) what
 * the operation returns or raises for a code. */
int kv_lua_jit(lua_State *L);
int kv_lua_jit_failed(lua_State *L);

/* ---- lua_args.c: arguments and results ---------------------------------- */

/* Raises a message that begins with the position of the program's line that called the module,
 * whether C or Lua of ours lies between. %s, %d as lua_pushfstring. */
int kv_lua_error(lua_State *L, const char *format, ...);
/* Raises unless there is room for all that Lua code of ours may take, on the stack and of nested C
 * calls: Lua's own message for a stack that is full would name the file that code is in. */
void kv_lua_headroom(lua_State *L);
/* Takes the Lua function at f for one of init.lua: its directory is where our Lua code is. */
void kv_lua_own(lua_State *L, int f);
/* Room for n more values on the stack; raises. */
static inline void kv_lua_stack(lua_State *L, int n)
{
    if (!lua_checkstack(L, n))
        kv_lua_error(L, "stack overflow");
}

/* Raises "bad argument 'what': expected ..., got ..." for the value at i. */
int kv_lua_bad(lua_State *L, const char *what, const char *expected, int i);

/* nil, message, code; or raises when the code means a caller's mistake. c may be NULL. */
int kv_lua_fail(lua_State *L, const kv_lua_call *c, int rc);
int kv_lua_fail_with(lua_State *L, int rc, const char *message);
/* The same with false in front: a condition did not hold. */
int kv_lua_refuse(lua_State *L, int rc);
/* 1 when rc says that a condition of a write did not hold. */
static inline int kv_lua_is_condition(int rc)
{
    return rc == KV_ENOTFOUND || rc == KV_EEXISTS || rc == KV_ECONFLICT;
}

/* Reads the option table at i raw, for the names given (NULL ends them). Returns the stack index
 * where the value of names[0] is, the others follow, nil where absent; or 0 when there is no table
 * at i. The values being on the stack, nothing that happens to the table later matters. */
int kv_lua_opts(lua_State *L, int i, const char *const *names, const char *hint);

int kv_lua_boolean(lua_State *L, int i, const char *what, int def);
int64_t kv_lua_integer(lua_State *L, int i, const char *what, int64_t min, int64_t max,
                       const char *expected);
/* How many items the array at i has. Raises when it has holes or other entries; what each of the
 * items is remains to be looked at. */
size_t kv_lua_items(lua_State *L, int i, const char *what);
int64_t kv_lua_ttl(lua_State *L, int i, const char *what); /* ms, > 0 */
int64_t kv_lua_ttl_of(lua_State *L, int i);                /* of a number; 0: it is none */
void kv_lua_number(lua_State *L, int i, const char *what, kv_value *v);
/* A number that is no integer of Lua's as a value; 0: it is NaN or infinite. */
int kv_lua_number_value(lua_Number n, kv_value *v);

/* A key: raises unless it is a non-empty string; returns 0, or 3 results when it is too long. */
int kv_lua_key(lua_State *L, int i, const char *what, const char **key, size_t *len);
static inline int kv_lua_key_arg(lua_State *L, const kv_lua_call *c, const char **key, size_t *len)
{
    if (lua_type(L, c->arg) == LUA_TSTRING) {
        *key = lua_tolstring(L, c->arg, len);
        if (*len - 1 < KV_MAX_KEY)
            return 0;
    }
    return kv_lua_key(L, c->arg, "key", key, len);
}

/* A value to store. May leave the owner of its bytes on the stack. Returns 0, or results. */
int kv_lua_value(lua_State *L, int i, const char *what, int as_json, kv_value *v);

/* Options of a write: names in this order, wherever they are part of a list. */
#define KV_LUA_WRITE_NAMES "ttl", "expiration", "keep_ttl", "metadata", "set_if", "if_rev", "as"
enum { KV_LUA_WRITE_COUNT = 7 };
/* Reads them from the stack at `base` (0: none given) over what is in *w and *as_json already. May
 * leave the owner of the metadata's bytes on the stack. Returns 0, or results. as_json NULL: the
 * list has another name in that place. */
int kv_lua_write_opts(lua_State *L, int base, kv_write *w, int *as_json);
/* The table {if_rev=} at i. */
void kv_lua_if_rev(lua_State *L, int i, kv_write *w);

/* What get hands back: as put, as bytes, with strings decoded, or a handle to read from. */
enum { KV_LUA_PLAIN, KV_LUA_TEXT, KV_LUA_JSON, KV_LUA_STREAM };
int kv_lua_as(lua_State *L, int i);

/* The core hands out bytes in the namespace's scratch, good until its next call; but creating a Lua
 * object may run a finalizer that makes one. kv_lua_keep moves value and metadata of the record
 * just read for `key` into `room`, or into a userdata that it leaves on the stack. KV_OK, or the
 * code of reading the record again, which it does if such a finalizer was faster. */
#define KV_LUA_ROOM 4096
int kv_lua_keep(lua_State *L, const kv_lua_call *c, const char *key, size_t len, kv_record *r,
                char *room);
/* Pushes the value of a key (nil: a miss): 1, or 3 for nil, message, code. */
int kv_lua_get(lua_State *L, const kv_lua_call *c, const char *key, size_t len); /* lua_ns.c */
/* Pushes a value whose bytes stay: 1, or 3 for nil, message, code. */
int kv_lua_push(lua_State *L, const kv_value *v, int as);
/* Pushes metadata. */
void kv_lua_push_meta(lua_State *L, const kv_record *r);

#pragma GCC visibility pop
#endif
