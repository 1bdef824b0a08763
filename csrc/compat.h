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
