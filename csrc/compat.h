/* SPDX-License-Identifier: MIT */
/*
 * compat.h - what differs between Lua 5.1, 5.2, 5.3, 5.4 and LuaJIT 2.1.
 *
 * Invariant: no other file tests a Lua version.  The binding is written against the 5.3 names;
 * whatever an older Lua lacks is added here, as macros and static functions only.
 */
#ifndef KV_COMPAT_H
#define KV_COMPAT_H

#include <lua.h>
#include <lauxlib.h>
#include <stdint.h>

/* 1 where integers are a type of their own; elsewhere every number is a double. */
#define KV_LUA_INTEGERS (LUA_VERSION_NUM >= 503)

/* 1 where lua_pushlstring copies the bytes before it may run a finalizer (which may free them). */
#define KV_LUA_COPIES_FIRST (LUA_VERSION_NUM >= 504)

#if LUA_VERSION_NUM == 501
#define lua_rawlen(L, i)   lua_objlen((L), (i))
#define lua_absindex(L, i) ((i) > 0 || (i) <= LUA_REGISTRYINDEX ? (i) : lua_gettop(L) + (i) + 1)

static inline void lua_rawgetp(lua_State *L, int i, const void *p)
{
    i = lua_absindex(L, i);
    lua_pushlightuserdata(L, (void *)(uintptr_t)p);
    lua_rawget(L, i);
}

static inline void lua_rawsetp(lua_State *L, int i, const void *p)
{
    i = lua_absindex(L, i);
    lua_pushlightuserdata(L, (void *)(uintptr_t)p);
    lua_insert(L, -2);
    lua_rawset(L, i);
}

#ifndef LUA_GCISRUNNING /* plain 5.1; LuaJIT 2.1 brings these along */
#define luaL_newlib(L, l)                                                                          \
    (lua_createtable((L), 0, (int)(sizeof(l) / sizeof((l)[0]) - 1)), luaL_setfuncs((L), (l), 0))
#define luaL_setmetatable(L, name) (luaL_getmetatable((L), (name)), lua_setmetatable((L), -2))

static inline void luaL_setfuncs(lua_State *L, const luaL_Reg *l, int nup)
{
    for (; l->name != NULL; l++) {
        for (int i = 0; i < nup; i++)
            lua_pushvalue(L, -nup);
        lua_pushcclosure(L, l->func, nup);
        lua_setfield(L, -(nup + 2), l->name);
    }
    lua_pop(L, nup);
}

static inline void *luaL_testudata(lua_State *L, int i, const char *name)
{
    void *u = lua_touserdata(L, i);
    int same;

    if (u == NULL || !lua_getmetatable(L, i))
        return NULL;
    luaL_getmetatable(L, name);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? u : NULL;
}
#endif
#endif

/*
 * A C function that ends with a call which may yield: kv_lua_tail(L, n) calls the function below
 * the n arguments on top of the stack (at most 3), and what that returns is returned.
 *
 * Lua 5.1 and LuaJIT cannot continue a C function after a yield. There such a C function (whose
 * own results are one, or three of which the second is not nil) must be reached through the Lua
 * function that kv_lua_around makes of it: it is handed function and arguments, behind a mark, and
 * makes the call. Messages must not blame that function, but the line that called it.
 */
#define KV_LUA_AROUND "=kv" /* its source, as the debug interface says */

#if LUA_VERSION_NUM >= 503
static inline int kv_lua_tail_done(lua_State *L, int status, lua_KContext base)
{
    (void)status;
    return lua_gettop(L) - (int)base;
}
#elif LUA_VERSION_NUM == 502
static inline int kv_lua_tail_done(lua_State *L)
{
    int base = 0;

    lua_getctx(L, &base);
    return lua_gettop(L) - base;
}
#endif

#if LUA_VERSION_NUM >= 502
static inline int kv_lua_tail(lua_State *L, int n)
{
    int base = lua_gettop(L) - n - 1;

    lua_callk(L, n, LUA_MULTRET, base, kv_lua_tail_done);
    return lua_gettop(L) - base;
}

static inline void kv_lua_around(lua_State *L)
{
    (void)L;
}
#else
static inline int kv_lua_tail(lua_State *L, int n)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, KV_LUA_AROUND);
    lua_insert(L, -n - 1);
    return n + 2;
}

/* Puts a Lua function in the place of the C function on top of the stack. */
static inline void kv_lua_around(lua_State *L)
{
    static const char code[] = "local op, mark = ...\n"
                               "return function(a, b, c, d)\n"
                               "  local r, m, x, y, z = op(a, b, c, d)\n"
                               "  if m == nil then return r end\n"
                               "  if m == mark then return r(x, y, z) end\n"
                               "  return r, m, x\n"
                               "end\n";

    lua_rawgetp(L, LUA_REGISTRYINDEX, KV_LUA_AROUND);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, KV_LUA_AROUND);
    }
    if (luaL_loadbuffer(L, code, sizeof code - 1, KV_LUA_AROUND) != 0)
        lua_error(L);
    lua_insert(L, -3);
    lua_call(L, 2, 1);
}
#endif

#if !KV_LUA_INTEGERS
#define lua_isinteger(L, i) ((void)(L), (void)(i), 0)
#endif

/* Push an integer of 64 bits; a Lua without integers gets the nearest double. */
static inline void kv_lua_pushint64(lua_State *L, int64_t n)
{
#if KV_LUA_INTEGERS
    lua_pushinteger(L, (lua_Integer)n);
#else
    lua_pushnumber(L, (lua_Number)n);
#endif
}

#endif
