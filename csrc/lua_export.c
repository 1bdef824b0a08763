/* SPDX-License-Identifier: MIT
 *
 * lua_export.c - the exporter: the records of a namespace as the text of a file, in pieces; and
 * what writing that file needs of the system.
 *
 * The loop that calls the sink is Lua (kv/transfer.lua), because a sink may yield. A record is
 * encoded as soon as the core hands it out: nothing of Lua's, and so no finalizer, comes in
 * between.
 */
#define _GNU_SOURCE
#include "lua_kv.h"
#include "lua_record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (64u << 10) /* bytes of text handed out at a time, about */

typedef struct exporter {
    kv_iter *it; /* behind the strings */
    kv_lua_out out;
    size_t given; /* bytes of out that were handed out */
    uint64_t records;
    int members; /* an object of keys and values, not lines */
    int begun, ended;
    kv_range range;
    char strings[3][KV_MAX_KEY + 1];
} exporter;

static const char exporter_meta[] = "kv.exporter";

static int exporter_gc(lua_State *L)
{
    exporter *x = lua_touserdata(L, 1);

    free(x->out.p);
    memset(&x->out, 0, sizeof x->out);
    x->ended = 1;
    return 0;
}

static void bound(lua_State *L, int i, const char *what, char *to, const char **s, uint32_t *len)
{
    size_t n;
    const char *from;

    if (lua_isnil(L, i))
        return;
    if (lua_type(L, i) != LUA_TSTRING)
        kv_lua_bad(L, what, "a string", i);
    from = lua_tolstring(L, i, &n);
    if (n > KV_MAX_KEY + 1)
        n = KV_MAX_KEY + 1; /* longer than any key */
    memcpy(to, from, n);
    *s = to;
    *len = (uint32_t)n;
}

static void read_options(lua_State *L, int i, exporter *x)
{
    enum { FORMAT, PREFIX, START, STOP };
    static const char *const names[] = {"format", "prefix", "start", "stop", NULL};
    int base = kv_lua_opts(L, i, names, NULL);
    const char *s;

    if (base == 0)
        return;
    s = lua_type(L, base + FORMAT) == LUA_TSTRING ? lua_tostring(L, base + FORMAT) : "";
    if (!lua_isnil(L, base + FORMAT)) {
        x->members = strcmp(s, "json") == 0;
        if (!x->members && strcmp(s, "ndjson") != 0)
            kv_lua_bad(L, "format", "\"json\" or \"ndjson\"", base + FORMAT);
    }
    bound(L, base + PREFIX, "prefix", x->strings[0], &x->range.prefix, &x->range.prefix_len);
    bound(L, base + START, "start", x->strings[1], &x->range.start, &x->range.start_len);
    bound(L, base + STOP, "stop", x->strings[2], &x->range.stop, &x->range.stop_len);
}

/* exporter(ns, members, opts): made and used by kv/transfer.lua alone, like all that follows. */
static int exporter_new(lua_State *L)
{
    kv_lua_call c;
    exporter *x;
    int rc;

    kv_lua_method(L, &c, "export");
    lua_settop(L, 3);
    x = lua_newuserdata(L, sizeof *x + kv_iter_size() + 15);
    memset(x, 0, sizeof *x);
    x->it = (kv_iter *)(void *)((char *)(x + 1) + (16 - (uintptr_t)(x + 1) % 16) % 16);
    lua_rawgetp(L, LUA_REGISTRYINDEX, exporter_meta);
    lua_setmetatable(L, -2);
    x->members = lua_toboolean(L, 2);
    read_options(L, 3, x);
    lua_settop(L, 4);
    rc = kv_iter_init(x->it, kv_lua_live(L, &c), &x->range);
    return rc == KV_OK ? 1 : kv_lua_fail(L, &c, rc);
}

/* Text of the next record, or of the end. */
static int add_record(exporter *x, kv_record *r, int rc, const char **what)
{
    int e = KV_OK;

    *what = NULL;
    if (x->members && rc == KV_OK)
        e = kv_lua_out_add(&x->out, x->begun ? ",\n" : "{\n", 2);
    else if (x->members)
        e = kv_lua_out_add(&x->out, x->begun ? "\n}\n" : "{}\n", 3);
    x->begun = 1;
    if (rc == KV_ENOTFOUND)
        x->ended = 1;
    else if (e == KV_OK)
        e = x->members ? kv_lua_member_write(&x->out, r, what) : kv_lua_record_write(&x->out, r);
    x->records += rc == KV_OK && e == KV_OK;
    return e;
}

/* A key for a message. */
static void show(const char *key, size_t len, char to[80])
{
    size_t i, n = 0;

    for (i = 0; i < len && n < 70; i++) {
        unsigned char c = (unsigned char)key[i];
        n += (size_t)snprintf(to + n, 80 - n, c < ' ' || c > '~' ? "\\x%02x" : "%c", c);
    }
    if (i < len)
        snprintf(to + n, 80 - n, "...");
}

/* next(ns, exporter): a piece of the file; nil, nil, count at its end; or nil, message, code. */
static int exporter_next(lua_State *L)
{
    kv_lua_call c;
    exporter *x = lua_touserdata(L, 2);
    const char *what;
    char key[80], text[200];
    kv_record r;
    size_t n;
    int rc;

    kv_lua_method(L, &c, "export");
    if (x->given == x->out.len)
        x->given = x->out.len = 0;
    while (!x->ended && x->out.len - x->given < PIECE) {
        rc = kv_iter_next(x->it, (kv_lua_live(L, &c), &r));
        if (rc != KV_OK && rc != KV_ENOTFOUND)
            return kv_lua_fail(L, &c, rc);
        rc = add_record(x, &r, rc, &what);
        if (rc == KV_EUNSUPPORTED) {
            show(r.key, r.key_len, key);
            snprintf(text, sizeof text,
                     "the %s of '%s' is not UTF-8, which \"json\" cannot carry (\"ndjson\" can)",
                     what, key);
            return kv_lua_fail_with(L, rc, text);
        }
        if (rc != KV_OK)
            return kv_lua_fail(L, &c, rc);
    }
    n = x->out.len - x->given;
    if (n > 2 * PIECE)
        n = 2 * PIECE;
    if (n > 0) {
        lua_pushlstring(L, x->out.p + x->given, n);
        x->given += n;
        return 1;
    }
    lua_pushnil(L);
    lua_pushnil(L);
    kv_lua_pushint64(L, (int64_t)x->records);
    return 3;
}

/* ---- the file ----------------------------------------------------------- */

static int fail_errno(lua_State *L, int e, const char *path)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, strerror(e));
    lua_pushinteger(L, e);
    return 3;
}

/* replacement(path): the path of a new empty file beside the one at `path`, with the same
 * permissions, and the path it is to be renamed to; or nothing, when what is there has to be
 * written to directly: a device, a pipe, what /dev or /proc name. nil, message, errno. */
static int replacement(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    char *target, *temporary;
    struct stat st;
    int there = stat(path, &st) == 0, tries = 0, fd, e, n;

    if (there && S_ISDIR(st.st_mode))
        return fail_errno(L, EISDIR, path);
    if ((there && !S_ISREG(st.st_mode)) || strncmp(path, "/dev/", 5) == 0 ||
        strncmp(path, "/proc/", 6) == 0)
        return 0;
    target = lua_newuserdata(L, PATH_MAX);
    temporary = lua_newuserdata(L, PATH_MAX);
    /* Through symbolic links, so that it is the file that is replaced. */
    if (!there || realpath(path, target) == NULL)
        n = snprintf(target, PATH_MAX, "%s", path);
    else
        n = (int)strlen(target);
    if (n + 16 >= PATH_MAX)
        return fail_errno(L, ENAMETOOLONG, path);
    do
        snprintf(temporary, PATH_MAX, "%s.%05x", target,
                 (unsigned)(getpid() + 7 * tries) & 0xfffff);
    while ((fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0 &&
           errno == EEXIST && ++tries < 1000);
    if (fd < 0)
        return fail_errno(L, errno, path);
    /* Best effort for the owner: only root can. */
    e = there && fchown(fd, st.st_uid, st.st_gid) != 0 && geteuid() == 0 ? errno : 0;
    if (e == 0 && there && fchmod(fd, st.st_mode & 07777) != 0)
        e = errno;
    close(fd);
    if (e != 0) {
        unlink(temporary);
        return fail_errno(L, e, path);
    }
    lua_pushstring(L, temporary);
    lua_pushstring(L, target);
    return 2;
}

void kv_lua_export_setup(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, exporter_gc);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, exporter_meta);
}

void kv_lua_export_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {{"exporter", exporter_new},
                                         {"next", exporter_next},
                                         {"replacement", replacement},
                                         {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
