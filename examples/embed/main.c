/* SPDX-License-Identifier: MIT
 *
 * main.c - a C program that keeps its settings in a kv store and lets Lua scripts see the same
 * store. The module is linked in: no core.so, no search for one.
 *
 *   embed STORE SCRIPT.lua
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <kv.h>

#include <stdio.h>
#include <stdlib.h>

/* The entry of the module that libkv.a holds beside the core. */
int luaopen_kv_core(lua_State *L);

static void must(int e, const char *what)
{
    if (e == KV_OK)
        return;
    fprintf(stderr, "%s: %s (%s)\n", what, kv_message(), kv_errname(e));
    exit(1);
}

/* package.preload["kv.core"] = luaopen_kv_core: `require "kv"` finds it without looking. */
static void preload(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_kv_core);
    lua_setfield(L, -2, "kv.core");
    lua_pop(L, 2);
}

static void run(const char *script, const char *store)
{
    lua_State *L = luaL_newstate();

    if (L == NULL) {
        fprintf(stderr, "no memory for Lua\n");
        exit(1);
    }
    luaL_openlibs(L);
    preload(L);
    lua_pushstring(L, store);
    lua_setglobal(L, "STORE");
    if (luaL_loadfile(L, script) || lua_pcall(L, 0, 0, 0)) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        exit(1);
    }
    lua_close(L);
}

int main(int argc, char **argv)
{
    kv *store;
    kv_ns *settings;
    kv_value volume = {KV_INTEGER, 0, NULL, 7, 0}, by = {KV_INTEGER, 0, NULL, 1, 0}, starts, said;

    if (argc != 3) {
        fprintf(stderr, "usage: %s STORE SCRIPT.lua\n", argv[0]);
        return 2;
    }
    must(kv_open(argv[1], NULL, &store), "open");
    must(kv_namespace(store, "settings", 8, NULL, 0, 1, &settings), "namespace");
    must(kv_put(settings, "volume", 6, &volume, NULL, NULL, NULL), "put");
    must(kv_incr(settings, "starts", 6, &by, NULL, &starts, NULL), "incr");
    printf("C:   volume is 7, and this is start number %lld\n", (long long)starts.integer);
    fflush(stdout);

    /* Two handles of one process share one mapping. */
    run(argv[2], argv[1]);

    must(kv_get_value(settings, "greeting", 8, &said), "get");
    printf("C:   Lua left \"%.*s\"\n", (int)said.len, said.data);
    kv_ns_close(settings);
    kv_close(store);
    return 0;
}
