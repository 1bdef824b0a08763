/* SPDX-License-Identifier: MIT
 *
 * states.c - a host with several Lua states in one process, each in a thread of its own, as LÖVE
 * and lua-lanes have them; and with two that take turns in one thread.
 *
 *   states threads STORE SCRIPT N   N threads run the script with STORE, ME (1..N) and N set
 *   states turns STORE              two states of one thread open and lose the store in all orders
 *   states exit STORE SCRIPT N      the same threads, while the first one calls os.exit(true, true)
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16

typedef struct one {
    const char *store, *script;
    int me, n, leaves;
    int failed;
} one;

static lua_State *state(void)
{
    lua_State *L = luaL_newstate();

    if (L == NULL)
        abort();
    luaL_openlibs(L);
    return L;
}

static void set(lua_State *L, const char *name, int value)
{
    lua_pushinteger(L, value);
    lua_setglobal(L, name);
}

static void *run(void *arg)
{
    one *o = arg;
    lua_State *L = state();

    lua_pushstring(L, o->store);
    lua_setglobal(L, "STORE");
    set(L, "ME", o->me);
    set(L, "N", o->n);
    set(L, "LEAVES", o->leaves);
    if (luaL_loadfile(L, o->script) || lua_pcall(L, 0, 0, 0)) {
        fprintf(stderr, "%d: %s\n", o->me, lua_tostring(L, -1));
        o->failed = 1;
    }
    lua_close(L);
    return NULL;
}

static int threads(const char *store, const char *script, int n, int leaves)
{
    pthread_t thread[MOST];
    one all[MOST];
    int i, failed = 0;

    for (i = 0; i < n; i++) {
        one o = {store, script, i + 1, n, leaves, 0};
        all[i] = o;
        if (pthread_create(&thread[i], NULL, run, &all[i]) != 0)
            abort();
    }
    for (i = 0; i < n; i++) {
        pthread_join(thread[i], NULL);
        failed |= all[i].failed;
    }
    return failed;
}

static int does(lua_State *L, const char *code)
{
    if (luaL_loadstring(L, code) == 0 && lua_pcall(L, 0, 0, 0) == 0)
        return 1;
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    return 0;
}

/* What each state does until it is closed: `order` has a digit for each step, of state 0 or 1. */
static int turns(const char *store)
{
    static const char *const steps[] = {
        "kv = require 'kv' s = assert(kv.open(STORE, { sync = 'none' })) "
        "ns = s:namespace 'turns' ns:incr 'n'",
        "step = ns:pairs() step() reader = (ns:put('big', ('x'):rep(100000)) and "
        "ns:get('big', 'stream')) assert(#reader:read(10) == 10)",
        "s = nil collectgarbage() collectgarbage() assert(ns:incr 'n' > 1)",
        "assert(#reader:read(5) == 5) step() bound = ns:bind() ns = nil collectgarbage() "
        "assert(bound.incr 'n' > 2)",
    };
    int order, i, failed = 0;

    for (order = 0; order < 256; order++) {
        lua_State *L[2] = {state(), state()};
        int at[2] = {0, 0};

        for (i = 0; i < 2; i++) {
            lua_pushstring(L[i], store);
            lua_setglobal(L[i], "STORE");
        }
        for (i = 0; i < 8; i++) {
            int who = order >> i & 1;
            if (at[who] == 4) { /* it is over: the next one begins */
                lua_close(L[who]);
                L[who] = state();
                lua_pushstring(L[who], store);
                lua_setglobal(L[who], "STORE");
                at[who] = 0;
            }
            failed |= !does(L[who], steps[at[who]++]);
        }
        lua_close(L[order & 1]);
        lua_close(L[!(order & 1)]);
    }
    return failed;
}

int main(int argc, char **argv)
{
    /* For TSan, which does not see that a library's constructors are over when it is loaded. */
    if (getenv("STATES_LOAD") != NULL && dlopen(getenv("STATES_LOAD"), RTLD_NOW) == NULL)
        return 3;
    if (argc == 5 && atoi(argv[4]) <= MOST && strcmp(argv[1], "threads") == 0)
        return threads(argv[2], argv[3], atoi(argv[4]), 0);
    if (argc == 5 && atoi(argv[4]) <= MOST && strcmp(argv[1], "exit") == 0)
        return threads(argv[2], argv[3], atoi(argv[4]), 1);
    if (argc == 3 && strcmp(argv[1], "turns") == 0)
        return turns(argv[2]);
    fprintf(stderr, "usage: states threads|exit STORE SCRIPT N, or states turns STORE\n");
    return 2;
}
