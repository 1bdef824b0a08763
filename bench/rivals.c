/* SPDX-License-Identifier: MIT
 *
 * rivals.c - LMDB and SQLite, each driven from C in loops of its own, for the benchmarks.
 *
 *   r = rivals.open("lmdb" | "lmdb-sync" | "sqlite" | "sqlite-full", dir)
 *   r:load(n)                     keys 0..n-1 in shuffled order, one transaction
 *   r:run(op, count, n [, start]) -> ns an operation
 *   r:latency(op, count, n)       -> histogram (module clock must be loaded)
 *   r:close()
 *
 * op: "new" (numbers start.. of the shuffled order), "get", "hot" (of 1,000 keys), "overwrite",
 * "incr" (of 1,000 counters), "list" (100 keys by a prefix). Every operation is a transaction.
 * Keys are made in chunks outside the measured time, so that a loop does nothing but its operation.
 *
 * Each rival is set up as its users would for speed: LMDB with NOSYNC and WRITEMAP and a read
 * transaction that is renewed, SQLite with prepared statements, WAL, a large cache and mmap.
 * LMDB hands out pointers; its value is copied, since a get gives the caller the bytes.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <lauxlib.h>
#include <lmdb.h>
#include <lua.h>
#include <sqlite3.h>

#include "hist.h"

#define CHUNK    1000
#define VAL_LEN  100
#define LIST_LEN 100
#define PREFIX   10 /* "user:" and five digits: 100 keys share it */

enum { GET, PUT, INCR, LIST };

typedef struct rival {
    int is_lmdb, in_bulk;
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader, *bulk;
    sqlite3 *db;
    sqlite3_stmt *stmt[4];
    uint64_t sink;    /* keeps the compiler from dropping reads */
    uint64_t written; /* at the front of each value: SQLite skips writing what is there already */
    char keys[CHUNK][KEY_LEN];
    char value[VAL_LEN];
} rival;

static int check_lmdb(lua_State *L, int rc)
{
    return rc ? luaL_error(L, "lmdb: %s", mdb_strerror(rc)) : 0;
}

static int check_sqlite(lua_State *L, rival *r, int rc)
{
    if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE)
        return 0;
    return luaL_error(L, "sqlite: %s", r->db ? sqlite3_errmsg(r->db) : "cannot open");
}

static void lmdb_one(lua_State *L, rival *r, int op, const char *key)
{
    MDB_val k = {KEY_LEN, (void *)(uintptr_t)key}, v = {VAL_LEN, r->value};
    char copy[VAL_LEN];

    if (op == GET || op == LIST) {
        check_lmdb(L, mdb_txn_renew(r->reader));
        if (op == GET) {
            check_lmdb(L, mdb_get(r->reader, r->dbi, &k, &v));
            memcpy(copy, v.mv_data, v.mv_size < VAL_LEN ? v.mv_size : VAL_LEN);
            r->sink += (unsigned char)copy[r->sink % 8];
        } else {
            MDB_cursor *c;
            k.mv_size = PREFIX;
            check_lmdb(L, mdb_cursor_open(r->reader, r->dbi, &c));
            for (int i = 0, rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
                 i < LIST_LEN && rc == 0 && memcmp(k.mv_data, key, PREFIX) == 0;
                 i++, rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
                memcpy(copy, k.mv_data, KEY_LEN);
                r->sink += (unsigned char)copy[11];
            }
            mdb_cursor_close(c);
        }
        mdb_txn_reset(r->reader);
        return;
    }

    MDB_txn *txn = r->bulk;
    uint64_t n = 0;
    if (!r->bulk)
        check_lmdb(L, mdb_txn_begin(r->env, NULL, 0, &txn));
    if (op == INCR) {
        if (mdb_get(txn, r->dbi, &k, &v) == 0)
            memcpy(&n, v.mv_data, sizeof n);
        n++;
        v.mv_size = sizeof n;
        v.mv_data = &n;
    }
    check_lmdb(L, mdb_put(txn, r->dbi, &k, &v, 0));
    if (!r->bulk)
        check_lmdb(L, mdb_txn_commit(txn));
}

static void sqlite_one(lua_State *L, rival *r, int op, const char *key)
{
    sqlite3_stmt *s = r->stmt[op];
    char copy[VAL_LEN], end[PREFIX];
    int rc;

    sqlite3_bind_blob(s, 1, key, op == LIST ? PREFIX : KEY_LEN, SQLITE_STATIC);
    if (op == PUT)
        sqlite3_bind_blob(s, 2, r->value, VAL_LEN, SQLITE_STATIC);
    if (op == LIST) {
        memcpy(end, key, PREFIX);
        end[PREFIX - 1]++;
        sqlite3_bind_blob(s, 2, end, PREFIX, SQLITE_STATIC);
    }
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        int len = sqlite3_column_bytes(s, 0);
        const void *data = sqlite3_column_blob(s, 0);
        if (data && len > 0 && len <= VAL_LEN) {
            memcpy(copy, data, (size_t)len);
            r->sink += (unsigned char)copy[0];
        }
    }
    check_sqlite(L, r, rc);
    sqlite3_reset(s);
}

static void bulk(lua_State *L, rival *r, int begin)
{
    if (r->is_lmdb && begin) {
        check_lmdb(L, mdb_txn_begin(r->env, NULL, 0, &r->bulk));
    } else if (r->is_lmdb) {
        MDB_txn *txn = r->bulk;
        r->bulk = NULL;
        check_lmdb(L, mdb_txn_commit(txn));
    } else {
        check_sqlite(L, r, sqlite3_exec(r->db, begin ? "BEGIN" : "COMMIT", NULL, NULL, NULL));
    }
}

/* Runs count operations; each into h, unless it is NULL. Returns all their ns. */
static uint64_t loop(lua_State *L, rival *r, const char *name, uint64_t count, uint64_t n,
                     uint64_t start, hist *h)
{
    static const char *const names[] = {"new", "get", "hot", "overwrite", "incr", "list", NULL};
    static const int ops[] = {PUT, GET, GET, PUT, INCR, LIST};
    static uint64_t state = 88172645463325252u;
    uint64_t spent = 0, done = 0;
    int which = 0;

    while (names[which] && strcmp(names[which], name) != 0)
        which++;
    if (!names[which])
        luaL_error(L, "no operation '%s'", name);
    while (done < count) {
        uint64_t batch = count - done < CHUNK ? count - done : CHUNK, began;
        for (uint64_t i = 0; i < batch; i++) {
            uint64_t at = random64(&state) % n;
            if (which == 0)
                at = shuffled(start + done + i, n);
            else if (which == 2 || which == 4)
                at = at % 1000 * (n / 1000 ? n / 1000 : 1);
            make_key(r->keys[i], at);
            if (ops[which] == INCR)
                memcpy(r->keys[i], "hits:", 5);
        }
        began = loop_ns();
        for (uint64_t i = 0; i < batch; i++) {
            uint64_t then = h ? clock_ns() : 0;
            r->written++;
            memcpy(r->value, &r->written, sizeof r->written);
            if (r->is_lmdb)
                lmdb_one(L, r, ops[which], r->keys[i]);
            else
                sqlite_one(L, r, ops[which], r->keys[i]);
            if (h)
                hist_add(h, clock_ns() - then);
        }
        spent += loop_ns() - began;
        done += batch;
    }
    return spent;
}

static void open_lmdb(lua_State *L, rival *r, const char *dir, int synced)
{
    MDB_txn *txn;

    r->is_lmdb = 1;
    check_lmdb(L, mdb_env_create(&r->env));
    check_lmdb(L, mdb_env_set_mapsize(r->env, (size_t)4 << 30));
    check_lmdb(L, mdb_env_open(r->env, dir, synced ? 0 : MDB_NOSYNC | MDB_WRITEMAP, 0600));
    check_lmdb(L, mdb_txn_begin(r->env, NULL, 0, &txn));
    check_lmdb(L, mdb_dbi_open(txn, NULL, 0, &r->dbi));
    check_lmdb(L, mdb_txn_commit(txn));
    check_lmdb(L, mdb_txn_begin(r->env, NULL, MDB_RDONLY, &r->reader));
    mdb_txn_reset(r->reader);
}

static void open_sqlite(lua_State *L, rival *r, const char *dir, int synced)
{
    static const char *const text[] = {
        "SELECT v FROM kv WHERE k = ?1",
        "INSERT INTO kv VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2",
        "INSERT INTO kv VALUES (?1, 1) ON CONFLICT (k) DO UPDATE SET v = v + 1",
        "SELECT k FROM kv WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT 100",
    };
    char path[4096];

    snprintf(path, sizeof path, "%s/data.sqlite", dir);
    check_sqlite(L, r, sqlite3_open(path, &r->db));
    check_sqlite(L, r,
                 sqlite3_exec(r->db,
                              "PRAGMA journal_mode = WAL; PRAGMA cache_size = -262144;"
                              "PRAGMA mmap_size = 4294967296;"
                              "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v) WITHOUT ROWID",
                              NULL, NULL, NULL));
    check_sqlite(L, r,
                 sqlite3_exec(r->db,
                              synced ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF",
                              NULL, NULL, NULL));
    for (int i = 0; i < 4; i++)
        check_sqlite(
            L, r,
            sqlite3_prepare_v3(r->db, text[i], -1, SQLITE_PREPARE_PERSISTENT, &r->stmt[i], NULL));
}

static int l_open(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1), *dir = luaL_checkstring(L, 2);
    rival *r = lua_newuserdata(L, sizeof *r);

    memset(r, 0, sizeof *r);
    memset(r->value, 'v', VAL_LEN);
    luaL_setmetatable(L, "bench.rival");
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return luaL_error(L, "%s: %s", dir, strerror(errno));
    if (strncmp(what, "lmdb", 4) == 0)
        open_lmdb(L, r, dir, strcmp(what, "lmdb-sync") == 0);
    else
        open_sqlite(L, r, dir, strcmp(what, "sqlite-full") == 0);
    return 1;
}

static int l_close(lua_State *L)
{
    rival *r = luaL_checkudata(L, 1, "bench.rival");

    if (r->bulk)
        mdb_txn_abort(r->bulk);
    if (r->reader)
        mdb_txn_abort(r->reader);
    if (r->env)
        mdb_env_close(r->env);
    for (int i = 0; i < 4; i++)
        sqlite3_finalize(r->stmt[i]);
    sqlite3_close(r->db);
    memset(r, 0, sizeof *r);
    return 0;
}

static rival *check_open(lua_State *L)
{
    rival *r = luaL_checkudata(L, 1, "bench.rival");
    if (!r->env && !r->db)
        luaL_error(L, "this rival is closed");
    return r;
}

static int l_load(lua_State *L)
{
    rival *r = check_open(L);
    uint64_t n = (uint64_t)luaL_checkinteger(L, 2);

    bulk(L, r, 1);
    loop(L, r, "new", n, n, 0, NULL);
    bulk(L, r, 0);
    return 0;
}

static int l_run(lua_State *L)
{
    rival *r = check_open(L);
    const char *op = luaL_checkstring(L, 2);
    uint64_t count = (uint64_t)luaL_checkinteger(L, 3), n = (uint64_t)luaL_checkinteger(L, 4);
    uint64_t start = (uint64_t)luaL_optinteger(L, 5, 0);

    lua_pushnumber(L, (lua_Number)loop(L, r, op, count, n, start, NULL) / (lua_Number)count);
    return 1;
}

static int l_latency(lua_State *L)
{
    rival *r = check_open(L);
    const char *op = luaL_checkstring(L, 2);
    uint64_t count = (uint64_t)luaL_checkinteger(L, 3), n = (uint64_t)luaL_checkinteger(L, 4);
    hist *h = lua_newuserdata(L, sizeof *h);

    memset(h, 0, sizeof *h);
    luaL_setmetatable(L, "bench.hist");
    loop(L, r, op, count, n, 0, h);
    return 1;
}

int luaopen_rivals(lua_State *L);

int luaopen_rivals(lua_State *L)
{
    static const luaL_Reg methods[] = {{"load", l_load},       {"run", l_run},
                                       {"latency", l_latency}, {"close", l_close},
                                       {"__gc", l_close},      {NULL, NULL}};
    static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};

    luaL_newmetatable(L, "bench.rival");
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
