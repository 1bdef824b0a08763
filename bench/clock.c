/* SPDX-License-Identifier: MIT
 *
 * clock.c - what the benchmarks in Lua need from C: time, keys, the size of a directory and of this
 * process, a bare write with fdatasync, the cheapest C function that returns a value of 100 bytes,
 * and what of a call's time was the machine's. It knows nothing of kv.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "hist.h"

static int l_now(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)loop_ns());
    return 1;
}

/* hundred(key): reads its argument as a get would, and returns 100 bytes. */
static int l_hundred(lua_State *L)
{
    static const char value[101] =
        "0123456789012345678901234567890123456789012345678901234567890123456"
        "789012345678901234567890123456789";
    luaL_checklstring(L, 1, NULL);
    lua_pushlstring(L, value, 100);
    return 1;
}

/* keys(t, count, n, how, start): fills t[1..count] with keys of 0..n-1. how = "random", drawn anew
 * with each call, plus start; "hot", of 1,000 spread over n; "shuffled" or "sorted": numbers start,
 * start + 1, ... of that order. */
static int l_keys(lua_State *L)
{
    static uint64_t state = 88172645463325252u;
    static const char *const hows[] = {"random", "hot", "shuffled", "sorted", NULL};
    lua_Integer count = luaL_checkinteger(L, 2);
    uint64_t n = (uint64_t)luaL_checkinteger(L, 3);
    int how = luaL_checkoption(L, 4, NULL, hows);
    uint64_t start = (uint64_t)luaL_optinteger(L, 5, 0);
    char key[KEY_LEN];

    for (lua_Integer i = 0; i < count; i++) {
        uint64_t at = start + (uint64_t)i;
        if (how == 0)
            at = start + random64(&state) % n;
        else if (how == 1)
            at = random64(&state) % 1000 * (n / 1000 ? n / 1000 : 1);
        else if (how == 2)
            at = shuffled(at, n);
        make_key(key, at);
        lua_pushlstring(L, key, KEY_LEN);
        lua_rawseti(L, 1, i + 1);
    }
    return 0;
}

/* du(dir) -> bytes of storage below a directory, sum of file lengths, number of files */
static int l_du(lua_State *L)
{
    const char *dir = luaL_checkstring(L, 1);
    lua_Integer blocks = 0, length = 0, files = 0;
    DIR *d = opendir(dir);
    struct dirent *e;

    if (!d)
        return luaL_error(L, "%s: cannot be read", dir);
    while ((e = readdir(d))) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            blocks += (lua_Integer)st.st_blocks * 512;
            length += (lua_Integer)st.st_size;
            files++;
        }
    }
    closedir(d);
    lua_pushinteger(L, blocks);
    lua_pushinteger(L, length);
    lua_pushinteger(L, files);
    return 3;
}

/* rss() -> resident bytes of this process, of which anonymous, file, shared memory */
static int l_rss(lua_State *L)
{
    static const char *const field[] = {"VmRSS:", "RssAnon:", "RssFile:", "RssShmem:"};
    char line[256];

    for (int i = 0; i < 4; i++) {
        FILE *f = fopen("/proc/self/status", "r");
        long kib = 0;
        while (f && fgets(line, sizeof line, f))
            if (strncmp(line, field[i], strlen(field[i])) == 0)
                kib = strtol(line + strlen(field[i]), NULL, 10);
        if (f)
            fclose(f);
        lua_pushinteger(L, (lua_Integer)kib * 1024);
    }
    return 4;
}

/* forget(dir): asks the kernel to drop what it caches of the files in a directory */
static int l_forget(lua_State *L)
{
    DIR *d = opendir(luaL_checkstring(L, 1));
    struct dirent *e;

    while (d && (e = readdir(d))) {
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NONBLOCK);
        if (fd < 0)
            continue;
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    if (d)
        closedir(d);
    return 0;
}

/* bare(path, count) -> histogram: a write of 100 bytes at the end of a file, then fdatasync */
static int l_bare(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lua_Integer count = luaL_checkinteger(L, 2);
    hist *h = lua_newuserdata(L, sizeof *h);
    char bytes[100];
    int fd;

    memset(h, 0, sizeof *h);
    luaL_setmetatable(L, "bench.hist");
    memset(bytes, 'x', sizeof bytes);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return luaL_error(L, "%s: %s", path, strerror(errno));
    for (lua_Integer i = 0; i < count; i++) {
        uint64_t began = clock_ns();
        if (write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes || fdatasync(fd) != 0) {
            close(fd);
            return luaL_error(L, "%s: %s", path, strerror(errno));
        }
        hist_add(h, clock_ns() - began);
    }
    close(fd);
    return 1;
}

/* ns that this thread was ready to run and others did, as the kernel counts it; 0: it does not. */
static uint64_t waited_ns(void)
{
    static int fd = -1;
    char text[96];
    unsigned long long ran = 0, waited = 0;
    ssize_t n;

    if (fd < 0)
        fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

static uint64_t ran_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* taken(f, ...) -> ns that a call of f took by the wall, the same less the time that this thread
 * waited for a processor, ns that it ran. Then what f returned. */
static int l_taken(lua_State *L)
{
    uint64_t waited = waited_ns(), began = clock_ns(), ran = ran_ns();
    int args = lua_gettop(L) - 1;

    lua_call(L, args, LUA_MULTRET);
    ran = ran_ns() - ran;
    uint64_t wall = clock_ns() - began, apart;
    waited = waited_ns() - waited;
    /* A wait just outside of the call is counted with those inside. */
    apart = wall > waited ? wall - waited : 0;
    lua_pushinteger(L, (lua_Integer)wall);
    lua_insert(L, 1);
    lua_pushinteger(L, (lua_Integer)(apart > ran ? apart : ran));
    lua_insert(L, 2);
    lua_pushinteger(L, (lua_Integer)ran);
    lua_insert(L, 3);
    return lua_gettop(L);
}

static int l_hist(lua_State *L)
{
    hist *h = lua_newuserdata(L, sizeof *h);
    memset(h, 0, sizeof *h);
    luaL_setmetatable(L, "bench.hist");
    return 1;
}

/* h:start() ... h:stop() adds the time between the two */
static int l_start(lua_State *L)
{
    hist *h = luaL_checkudata(L, 1, "bench.hist");
    h->begun = clock_ns();
    return 0;
}

static int l_stop(lua_State *L)
{
    uint64_t now = clock_ns();
    hist *h = luaL_checkudata(L, 1, "bench.hist");
    hist_add(h, now - h->begun);
    return 0;
}

/* h:p(share) in ns; h:max(), h:mean(), h:count() */
static int l_p(lua_State *L)
{
    hist *h = luaL_checkudata(L, 1, "bench.hist");
    lua_pushnumber(L, (lua_Number)hist_percentile(h, luaL_checknumber(L, 2)));
    return 1;
}

static int l_max(lua_State *L)
{
    hist *h = luaL_checkudata(L, 1, "bench.hist");
    lua_pushnumber(L, (lua_Number)h->max);
    return 1;
}

static int l_mean(lua_State *L)
{
    hist *h = luaL_checkudata(L, 1, "bench.hist");
    lua_pushnumber(L, h->count ? (lua_Number)h->sum / (lua_Number)h->count : 0);
    return 1;
}

static int l_sleep(lua_State *L)
{
    lua_Number s = luaL_checknumber(L, 1);
    struct timespec t;
    t.tv_sec = (time_t)floor(s);
    t.tv_nsec = (long)((s - floor(s)) * 1e9);
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
    return 0;
}

/* time() -> Unix seconds with fractions */
static int l_time(lua_State *L)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
    return 1;
}

int luaopen_clock(lua_State *L);

int luaopen_clock(lua_State *L)
{
    static const luaL_Reg methods[] = {{"start", l_start}, {"stop", l_stop}, {"p", l_p},
                                       {"max", l_max},     {"mean", l_mean}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"now", l_now},   {"time", l_time}, {"sleep", l_sleep}, {"hundred", l_hundred},
        {"keys", l_keys}, {"du", l_du},     {"rss", l_rss},     {"forget", l_forget},
        {"bare", l_bare}, {"hist", l_hist}, {"taken", l_taken}, {NULL, NULL}};

    luaL_newmetatable(L, "bench.hist");
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
