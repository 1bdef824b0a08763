/* SPDX-License-Identifier: MIT
 *
 * lua_term.c - kv.core.term: what the command line needs of the system and plain Lua cannot do.
 *
 * Nothing of a store is in here. Asking a shell instead (`test -t`, `stty`) would cost a process
 * for each question, needs the shell to be there, and cannot answer for signals and the clock.
 */
#define _POSIX_C_SOURCE 200809L
#include "lua_kv.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS 80 /* of a terminal that does not say */

/* The signals that a user ends a program with. */
static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDING = sizeof ending / sizeof ending[0] };

static volatile sig_atomic_t asked;

static void on_ending(int signo)
{
    asked = signo;
}

/* columns(fd): the width of the terminal at a file descriptor, or nil: it is none. */
static int term_columns(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    struct winsize size;

    if (!isatty(fd))
        return 0;
    memset(&size, 0, sizeof size);
    lua_pushinteger(L,
                    ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : COLUMNS);
    return 1;
}

/* clock(): seconds that pass evenly, from some moment on. */
static int term_clock(lua_State *L)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec * 1e-9);
    return 1;
}

/* signals(ask): SIGINT, SIGTERM and SIGHUP end the process at once, as they would without Lua's
 * interpreter; or, asked politely, are only noted, once: the second one ends it. A write into a
 * broken pipe is an error of that write and no signal, so that a store can be closed. */
static int term_signals(lua_State *L)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    action.sa_handler = lua_toboolean(L, 1) ? on_ending : SIG_DFL;
    action.sa_flags = (int)SA_RESETHAND;
    for (int i = 0; i < ENDING; i++)
        sigaction(ending[i], &action, NULL);
    return 0;
}

/* asked(): the number of the signal noted, or nil. */
static int term_asked(lua_State *L)
{
    if (asked == 0)
        return 0;
    lua_pushinteger(L, asked);
    return 1;
}

/* die(signal): ends as that signal ends a program, which a shell can tell from an exit status. */
static int term_die(lua_State *L)
{
    struct sigaction action;
    int signo = (int)luaL_checkinteger(L, 1);

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_DFL;
    sigaction(signo, &action, NULL);
    raise(signo);
    return 0;
}

/* ---- how far check and backup are ---------------------------------------- */

static const char watcher_key = 0; /* of the registry: the function */

/* Who raises is told no more; nothing may be thrown through the core. */
static void tell(void *arg, uint64_t done, uint64_t total)
{
    lua_State *L = arg;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &watcher_key);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushnumber(L, (lua_Number)done);
    lua_pushnumber(L, (lua_Number)total);
    if (lua_pcall(L, 2, 0, 0) != 0) {
        lua_pop(L, 1);
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &watcher_key);
    }
}

void kv_lua_watch(lua_State *L, kv *h)
{
    int there;

    luaL_checkstack(L, 8, "kv");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &watcher_key);
    there = !lua_isnil(L, -1);
    lua_pop(L, 1);
    kv_watch(h, there ? tell : NULL, L);
}

/* watch(f): from now on f(done, total) is called now and then while a store is checked or copied.
 * It may call nothing of kv. nil: no more. */
static int term_watch(lua_State *L)
{
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &watcher_key);
    return 0;
}

void kv_lua_term(lua_State *L)
{
    static const luaL_Reg functions[] = {{"columns", term_columns},
                                         {"clock", term_clock},
                                         {"signals", term_signals},
                                         {"asked", term_asked},
                                         {"die", term_die},
                                         {"watch", term_watch},
                                         {NULL, NULL}};

    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pushinteger(L, SIGPIPE);
    lua_setfield(L, -2, "SIGPIPE");
}
