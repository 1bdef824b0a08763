/* SPDX-License-Identifier: MIT
 *
 * lua_import.c - the importer: takes the text of a file in pieces of any size, finds the records in
 * it and writes them in batches.
 *
 * The loop that reads the source is Lua (kv/transfer.lua), because a source may yield. Between two
 * pieces nothing is pending but text without its end: the items of a batch lie in the buffer, which
 * is about to move. What stands before a bad record is written before that is reported.
 */
#include "lua_kv.h"
#include "lua_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP        (256u << 10) /* bytes gathered before they are looked at */
#define BATCH       1024u        /* records of one write */
#define BATCH_BYTES (4u << 20)

enum { UNKNOWN, LINES, MEMBERS, LIST };    /* forms */
enum { FIRST, ITEM, COMMA, OVER };         /* what may come next in an object or list */
enum { MORE, RECORD, NOTHING, DONE, BAD }; /* what a step found */

typedef struct place {
    uint64_t line, record; /* from 1 */
} place;

typedef struct importer {
    kv_lua_text t; /* p: malloc */
    size_t room;
    size_t look;     /* bytes that are worth another look */
    size_t most;     /* bytes that a record may have */
    uint64_t passed; /* bytes of the file before t.p */
    int form, at;
    int begun; /* what may stand before everything was passed over */
    int values_text, go_on;
    uint64_t records, written;
    uint32_t n; /* items of the batch */
    size_t bytes;
    kv_item *items; /* BATCH; malloc */
    place *places;
    char name[]; /* of the file, or "" */
} importer;

static const char importer_meta[] = "kv.importer";

static int importer_gc(lua_State *L)
{
    importer *m = lua_touserdata(L, 1);

    free(m->t.p);
    free(m->items);
    free(m->places);
    memset(m, 0, sizeof *m);
    return 0;
}

static void read_options(lua_State *L, int i, importer *m)
{
    enum { FORMAT, VALUES, CONTINUE_ON_ERROR };
    static const char *const names[] = {"format", "values", "continue_on_error", NULL};
    int base = kv_lua_opts(L, i, names, NULL);
    const char *s;

    if (base == 0)
        return;
    s = lua_type(L, base + FORMAT) == LUA_TSTRING ? lua_tostring(L, base + FORMAT) : "";
    if (strcmp(s, "ndjson") == 0)
        m->form = LINES;
    else if (strcmp(s, "json") == 0)
        m->form = MEMBERS;
    else if (!lua_isnil(L, base + FORMAT))
        kv_lua_bad(L, "format", "\"json\" or \"ndjson\"", base + FORMAT);
    s = lua_type(L, base + VALUES) == LUA_TSTRING ? lua_tostring(L, base + VALUES) : "";
    m->values_text = strcmp(s, "text") == 0;
    if (!m->values_text && !lua_isnil(L, base + VALUES))
        kv_lua_bad(L, "values", "\"text\"", base + VALUES);
    m->go_on = kv_lua_boolean(L, base + CONTINUE_ON_ERROR, "continue_on_error", 0);
}

/* importer(ns, name, opts): made and used by kv/transfer.lua alone, like all that follows. */
static int importer_new(lua_State *L)
{
    kv_lua_call c;
    const char *name = lua_tostring(L, 2);
    kv_stats stats;
    importer *m;
    int rc;

    kv_lua_method(L, &c, "import");
    lua_settop(L, 3);
    if (name == NULL)
        name = "";
    m = lua_newuserdata(L, sizeof *m + strlen(name) + 1);
    memset(m, 0, sizeof *m);
    memcpy(m->name, name, strlen(name) + 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, importer_meta);
    lua_setmetatable(L, -2);
    read_options(L, 3, m);
    lua_settop(L, 4);
    m->items = malloc(BATCH * sizeof *m->items);
    m->places = malloc(BATCH * sizeof *m->places);
    if (m->items == NULL || m->places == NULL)
        return kv_lua_fail(L, &c, KV_ENOMEM);
    kv_lua_live(L, &c);
    rc = kv_get_stats(c.box->store->h, &stats);
    if (rc != KV_OK)
        return kv_lua_fail(L, &c, rc);
    /* A byte takes six at most; the rest is room for all that is not the value. */
    m->most = (size_t)stats.max_value * 6 + 65536;
    return 1;
}

/* ---- what cannot be written --------------------------------------------- */

/* Pushes where a record is and what is the matter with it. */
static void push_message(lua_State *L, const importer *m, const place *at, const char *why)
{
    char text[700];

    snprintf(text, sizeof text, "%.300s%sline %llu: %.280s (record %llu)", m->name,
             m->name[0] ? ": " : "", (unsigned long long)at->line, why,
             (unsigned long long)at->record);
    lua_pushstring(L, text);
}

/* Ends the import: nil, message, code, and how many were written. */
static int give_up(lua_State *L, const importer *m, const place *at, int code, const char *why)
{
    char count[40];

    snprintf(count, sizeof count, "; %llu written", (unsigned long long)m->written);
    lua_pushnil(L);
    push_message(L, m, at, why);
    lua_pushstring(L, count);
    lua_concat(L, 2);
    lua_pushstring(L, kv_errname(code));
    return 3;
}

static void set_number(lua_State *L, const char *name, uint64_t n)
{
    kv_lua_pushint64(L, (int64_t)n);
    lua_setfield(L, -2, name);
}

/* A record that is wrong in itself. Returns 0 when the import goes on, the record being described
 * in the table at `bad`; else how many results there are. */
static int refuse(lua_State *L, const importer *m, const place *at, int code, const char *why,
                  int bad)
{
    if (!m->go_on)
        return give_up(L, m, at, code, why);
    lua_createtable(L, 0, 4);
    set_number(L, "line", at->line);
    set_number(L, "record", at->record);
    push_message(L, m, at, why);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, kv_errname(code));
    lua_setfield(L, -2, "code");
    lua_rawseti(L, bad, (int)lua_rawlen(L, bad) + 1);
    return 0;
}

/* ---- writing ------------------------------------------------------------ */

/* Returns 0, or results. */
static int write_one(lua_State *L, const kv_lua_call *c, importer *m, uint32_t i, int bad)
{
    const kv_item *it = &m->items[i];
    char why[300];
    int rc = kv_put(kv_lua_live(L, c), it->key, it->len, &it->value, &it->write, NULL, NULL);

    m->written += rc == KV_OK;
    if (rc == KV_OK || rc == KV_ERANGE) /* expired meanwhile */
        return 0;
    kv_lua_fail(L, c, rc); /* raises, or has the words */
    snprintf(why, sizeof why, "%s", lua_tostring(L, -2));
    lua_pop(L, 3);
    return rc == KV_ETOOBIG ? refuse(L, m, &m->places[i], rc, why, bad)
                            : give_up(L, m, &m->places[i], rc, why);
}

/* Items i to n - 1, as a batch if that can be; if not, those before the one that stands in the way
 * as a batch and that one by itself, or all one by one. */
static int write_items(lua_State *L, const kv_lua_call *c, importer *m, uint32_t i, uint32_t n,
                       int bad)
{
    int r = 0, batch = 1;

    while (i < n && r == 0) {
        size_t failed = 0;
        int rc = KV_OK;
        if (batch && n - i > 1) {
            rc = kv_put_many(kv_lua_live(L, c), m->items + i, n - i, NULL, &failed);
            if (rc == KV_OK) {
                m->written += n - i;
                break;
            }
            batch = rc == KV_ETOOBIG || rc == KV_ERANGE;
            if (!batch)
                failed = 0;
        }
        if (failed > 0)
            r = write_items(L, c, m, i, i + (uint32_t)failed, bad);
        i += (uint32_t)failed;
        if (r == 0)
            r = write_one(L, c, m, i++, bad);
    }
    return r;
}

static int flush(lua_State *L, const kv_lua_call *c, importer *m, int bad)
{
    uint32_t n = m->n;

    m->n = 0;
    m->bytes = 0;
    return n > 0 ? write_items(L, c, m, 0, n, bad) : 0;
}

/* ---- reading ------------------------------------------------------------ */

static int broken(kv_lua_fault *f, const char *why, size_t at)
{
    f->code = KV_ENOTJSON;
    f->syntax = 1;
    f->at = at;
    snprintf(f->why, sizeof f->why, "not JSON: %s", why);
    return BAD;
}

static void add_position(kv_lua_fault *f, uint64_t byte)
{
    size_t n = strlen(f->why);

    snprintf(f->why + n, sizeof f->why - n, " at byte %llu", (unsigned long long)byte);
}

static int found(int r)
{
    return r == KV_TEXT_OK ? RECORD : r == KV_TEXT_MORE ? MORE : BAD;
}

/* A line of its own. */
static int read_line(importer *m, int64_t now, kv_item *item, kv_lua_fault *f)
{
    kv_lua_text *t = &m->t, line;
    char *end = memchr(t->p + t->pos, '\n', t->len - t->pos);
    int r;

    if (t->pos == t->len)
        return t->final ? DONE : MORE;
    if (end == NULL && !t->final) {
        /* Not for ever: whoever feeds zeros has no newline to offer. */
        if (m->go_on || t->len - t->pos < 4 * STEP || !kv_lua_text_is_broken(t, f))
            return MORE;
        return BAD;
    }
    line.p = t->p + t->pos;
    line.len = end != NULL ? (size_t)(end - line.p) : t->len - t->pos;
    line.pos = 0;
    line.lines = 0;
    line.final = 1;
    t->pos += line.len + (end != NULL);
    t->lines += end != NULL;
    if (kv_lua_text_next(&line) == -2)
        return NOTHING;
    r = found(kv_lua_record_read(&line, now, item, f));
    if (r == RECORD && kv_lua_text_next(&line) != -2)
        r = broken(f, kv_json_strerror(KV_JSON_ETAIL), line.pos);
    if (r == BAD && f->syntax) {
        add_position(f, f->at + 1);
        f->syntax = 0; /* the next line is another record */
    }
    return r;
}

/* What comes next in an object or a list. */
static int read_item(importer *m, int64_t now, kv_item *item, place *at, kv_lua_fault *f)
{
    kv_lua_text *t = &m->t;
    int c = kv_lua_text_next(t), r, state = m->at;

    at->line = t->lines + 1;
    if (state == OVER && c >= 0)
        return broken(f, kv_json_strerror(KV_JSON_ETAIL), t->pos);
    if (c == -1 || state == OVER)
        return c == -1 ? MORE : DONE;
    if (c == (m->form == LIST ? ']' : '}') && state != ITEM) {
        t->pos++;
        m->at = OVER;
        return NOTHING;
    }
    if (c == ',' && state == COMMA) {
        t->pos++;
        m->at = ITEM;
        return NOTHING;
    }
    if (c == -2 || state == COMMA)
        return broken(f, kv_json_strerror(c == -2 ? KV_JSON_EEND : KV_JSON_ESYNTAX), t->pos);
    r = found(m->form == LIST ? kv_lua_record_read(t, now, item, f)
                              : kv_lua_member_read(t, m->values_text, item, f));
    if (r != MORE)
        m->at = COMMA;
    return r;
}

/* Passes over what stands before the first record and finds out what form it has. */
static int begin(importer *m, kv_lua_fault *f)
{
    kv_lua_text *t = &m->t;
    int c, r = KV_TEXT_OK;

    if (t->len < 3 && !t->final)
        return MORE;
    if (t->pos == 0 && m->passed == 0 && t->len >= 3 && memcmp(t->p, "\xef\xbb\xbf", 3) == 0)
        t->pos = 3; /* a byte order mark */
    c = kv_lua_text_next(t);
    if (c < 0)
        return c == -1 ? MORE : DONE; /* nothing at all: no records */
    if (m->form == UNKNOWN && c == '{')
        r = kv_lua_text_is_record(t);
    if (r == KV_TEXT_MORE)
        return MORE;
    if (m->form == UNKNOWN)
        m->form = c == '[' ? LIST : c == '{' && r == KV_TEXT_FAULT ? MEMBERS : LINES;
    else if (m->form == MEMBERS && c == '[')
        m->form = LIST;
    if (m->form == MEMBERS && c != '{')
        return broken(f, "neither an object nor a list", t->pos);
    if (m->form != LINES)
        t->pos++;
    m->begun = 1;
    return NOTHING;
}

/* A record goes to the batch, unless it is over. Returns 0, or results. */
static int take(lua_State *L, const kv_lua_call *c, importer *m, const place *at, int64_t now,
                int bad)
{
    const kv_item *it = &m->items[m->n];

    if (it->write.flags & KV_EXPIRATION && it->write.expires <= now)
        return 0;
    m->places[m->n++] = *at;
    m->bytes += it->value.len;
    return m->n == BATCH || m->bytes >= BATCH_BYTES ? flush(L, c, m, bad) : 0;
}

/* Reads and writes what is there. Returns 0, or results. */
static int run(lua_State *L, const kv_lua_call *c, importer *m, int bad)
{
    kv_lua_fault f;
    int64_t now;
    place at;
    int r = 0, what = NOTHING;

    kv_lua_live(L, c);
    now = kv_now(c->box->store->h);
    while (r == 0) {
        size_t from = m->t.pos;
        uint64_t lines = m->t.lines;
        at.line = lines + 1;
        at.record = m->records + 1;
        what = !m->begun          ? begin(m, &f)
               : m->form == LINES ? read_line(m, now, &m->items[m->n], &f)
                                  : read_item(m, now, &m->items[m->n], &at, &f);
        if (what == MORE) {
            m->t.pos = from;
            m->t.lines = lines;
        }
        if (what == MORE || what == DONE)
            break;
        m->records += what == RECORD || what == BAD;
        if (what == RECORD) {
            r = take(L, c, m, &at, now, bad);
        } else if (what == BAD) {
            r = flush(L, c, m, bad);
            if (r == 0 && f.syntax) {
                add_position(&f, m->passed + f.at + 1);
                r = give_up(L, m, &at, f.code, f.why);
            } else if (r == 0) {
                r = refuse(L, m, &at, f.code, f.why, bad);
            }
        }
    }
    if (r == 0)
        r = flush(L, c, m, bad);
    if (r == 0 && what == MORE && m->t.len - m->t.pos > m->most)
        r = give_up(L, m, &at, KV_ETOOBIG, "a record that is larger than any value may be");
    return r;
}

/* Puts n more bytes behind what is left. */
static int gather(importer *m, const char *s, size_t n)
{
    size_t left = m->t.len - m->t.pos, room = m->room ? m->room : 2 * STEP;
    char *p;

    if (m->t.pos > 0) {
        memmove(m->t.p, m->t.p + m->t.pos, left);
        m->passed += m->t.pos;
        m->t.pos = 0;
        m->t.len = left;
    }
    while (room - left < n)
        room *= 2;
    if (room != m->room) {
        p = realloc(m->t.p, room);
        if (p == NULL)
            return KV_ENOMEM;
        m->t.p = p;
        m->room = room;
    }
    memcpy(m->t.p + left, s, n);
    m->t.len += n;
    return KV_OK;
}

/* feed(ns, importer, chunk, bad): true, or nil, message, code. */
static int importer_feed(lua_State *L)
{
    kv_lua_call c;
    importer *m = lua_touserdata(L, 2);
    size_t len, n;
    const char *s = lua_tolstring(L, 3, &len);
    int r;

    kv_lua_method(L, &c, "import");
    while (len > 0) {
        n = len < STEP ? len : STEP;
        if (gather(m, s, n) != KV_OK)
            return kv_lua_fail(L, &c, KV_ENOMEM);
        s += n;
        len -= n;
        if (m->t.len < m->look)
            continue;
        if ((r = run(L, &c, m, 4)) != 0)
            return r;
        /* Twice as much, so that a large record is looked at a few times only. */
        n = m->t.len - m->t.pos;
        m->look = 2 * n > STEP ? 2 * n : STEP;
        if (m->look > m->most)
            m->look = m->most + 1;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* finish(ns, importer, bad): how many were written, or nil, message, code. */
static int importer_finish(lua_State *L)
{
    kv_lua_call c;
    importer *m = lua_touserdata(L, 2);
    int r;

    kv_lua_method(L, &c, "import");
    m->t.final = 1;
    if (gather(m, "", 0) != KV_OK)
        return kv_lua_fail(L, &c, KV_ENOMEM);
    if ((r = run(L, &c, m, 3)) != 0)
        return r;
    kv_lua_pushint64(L, (int64_t)m->written);
    return 1;
}

/* drain(ns, importer, bad): writes what is whole; how many were written, or nil, message, code. */
static int importer_drain(lua_State *L)
{
    kv_lua_call c;
    importer *m = lua_touserdata(L, 2);
    int r;

    kv_lua_method(L, &c, "import");
    if ((r = run(L, &c, m, 3)) != 0)
        return r;
    kv_lua_pushint64(L, (int64_t)m->written);
    return 1;
}

/* goes_on(importer): whether bad records were asked for. */
static int importer_goes_on(lua_State *L)
{
    lua_pushboolean(L, ((importer *)lua_touserdata(L, 1))->go_on);
    return 1;
}

/* able(value, method): whether it is a function or an object that has the method. */
static int able(lua_State *L)
{
    int type = lua_type(L, 1);

    lua_pushboolean(L, type == LUA_TFUNCTION || ((type == LUA_TTABLE || type == LUA_TUSERDATA) &&
                                                 kv_lua_has(L, 1, lua_tostring(L, 2))));
    return 1;
}

void kv_lua_import_setup(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, importer_gc);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, importer_meta);
}

void kv_lua_import_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {{"importer", importer_new},
                                         {"feed", importer_feed},
                                         {"drain", importer_drain},
                                         {"finish", importer_finish},
                                         {"goes_on", importer_goes_on},
                                         {"able", able},
                                         {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
