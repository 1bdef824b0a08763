/* SPDX-License-Identifier: MIT
 *
 * test_field.c - kv_get_field and kv_edit_field as C programs call them, and processes that edit
 * one document, some of which are killed at it.
 */
#define _GNU_SOURCE
#include "model.h"

#include "../../csrc/json.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

static kv *handle(const char *path, kv_ns **ns)
{
    kv_options o;
    kv *h = NULL;
    int e;

    kv_options_init(&o);
    o.sync = KV_SYNC_NONE;
    e = kv_open(path, &o, &h);
    if (e == KV_OK)
        e = kv_namespace(h, "n", 1, NULL, 0, 1, ns);
    if (e != KV_OK) {
        fprintf(stderr, "%s\n", kv_message());
        check_exit(9);
    }
    return h;
}

static kv_edit edit_of(int op, const char *path, const char *json)
{
    kv_edit edit;

    memset(&edit, 0, sizeof edit);
    edit.op = op;
    edit.path = path;
    edit.path_len = (uint32_t)strlen(path);
    edit.json = json;
    edit.json_len = json != NULL ? (uint32_t)strlen(json) : 0;
    edit.by.type = KV_INTEGER;
    edit.by.integer = 1;
    edit.write.flags = KV_KEEP_TTL | KV_KEEP_META;
    return edit;
}

static int field(kv_ns *ns, const char *key, int op, const char *path, const char *json,
                 kv_edited *out)
{
    kv_edit edit = edit_of(op, path, json);

    return kv_edit_field(ns, key, strlen(key), &edit, out);
}

static int is(kv_ns *ns, const char *key, const char *path, const char *text)
{
    kv_value v;
    size_t len = strlen(text);

    return kv_get_field(ns, key, strlen(key), path, strlen(path), &v) == KV_OK &&
           v.type == KV_JSON && v.len == len && memcmp(v.data, text, len) == 0;
}

static int64_t number_at(kv_ns *ns, const char *path)
{
    kv_value v;
    int64_t i = -1;
    double d;

    if (kv_get_field(ns, "doc", 3, path, strlen(path), &v) != KV_OK)
        return -1;
    return kv_json_number_parse(v.data, v.len, &i, &d) == KV_JSON_INTEGER ? i : -1;
}

/* ---- the calls ---- */

static void calls(void)
{
    kv_ns *ns;
    kv *h = handle(":memory:", &ns);
    kv_edited out, before;
    kv_edit edit;
    kv_record r;
    kv_value v, five = {KV_INTEGER, 0, NULL, 5, 0};
    uint64_t rev;

    CHECK(kv_get_field(ns, "doc", 3, "a", 1, &v) == KV_ENOTFOUND);
    CHECK(kv_get_field(ns, "doc", 3, "a..b", 4, &v) == KV_EBADPATH);
    CHECK(kv_get_field(ns, "", 0, "a", 1, &v) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_SET, "a.l", "[1,\"two\"]", &out) == KV_OK &&
          out.rev == kv_rev(h));
    CHECK(is(ns, "doc", "", "{\"a\":{\"l\":[1,\"two\"]}}"));
    CHECK(is(ns, "doc", "a.l[-1]", "\"two\""));
    CHECK(kv_get(ns, "doc", 3, &r) == KV_OK && r.value.type == KV_JSON && r.rev == out.rev);
    CHECK(field(ns, "doc", KV_EDIT_PUSH, "a.l", "3", &out) == KV_OK && out.length == 3);
    CHECK(field(ns, "doc", KV_EDIT_INCREMENT, "n", NULL, &out) == KV_OK &&
          out.value.type == KV_INTEGER && out.value.integer == 1);
    edit = edit_of(KV_EDIT_INCREMENT, "n", NULL);
    edit.by.type = KV_NUMBER;
    edit.by.number = 0.5;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_OK && out.value.type == KV_NUMBER &&
          out.value.number == 1.5);
    CHECK(field(ns, "doc", KV_EDIT_TOGGLE, "t", NULL, &out) == KV_OK &&
          out.value.type == KV_BOOLEAN && out.value.integer == 1);
    CHECK(field(ns, "doc", KV_EDIT_APPEND, "s", "\"\\u00e9\"", &out) == KV_OK && out.length == 2);
    CHECK(
        is(ns, "doc", "", "{\"a\":{\"l\":[1,\"two\",3]},\"n\":1.5,\"t\":true,\"s\":\"\\u00e9\"}"));

    /* Looking at what would go changes nothing. */
    rev = kv_rev(h);
    edit = edit_of(KV_EDIT_POP, "a.l", NULL);
    edit.index = 1;
    edit.flags = KV_EDIT_PEEK;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &before) == KV_OK && before.rev == rev &&
          before.value.type == KV_JSON && before.value.len == 5 &&
          memcmp(before.value.data, "\"two\"", 5) == 0 && kv_rev(h) == rev);
    edit.flags = 0;
    edit.write.flags |= KV_IF_REV;
    edit.write.if_rev = before.rev - 1;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_ECONFLICT && kv_rev(h) == rev);
    edit.write.if_rev = before.rev;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_OK && out.rev == rev + 1);
    CHECK(is(ns, "doc", "a.l", "[1,3]"));
    edit = edit_of(KV_EDIT_REMOVE, "a", NULL);
    edit.flags = KV_EDIT_PEEK;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_OK && out.value.len == 11);
    edit = edit_of(KV_EDIT_REMOVE, "", NULL);
    edit.flags = KV_EDIT_PEEK;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_OK && out.value.type == KV_JSON);
    CHECK(field(ns, "doc", KV_EDIT_MERGE, "", "{\"a\":null,\"s\":5}", &out) == KV_OK);
    CHECK(is(ns, "doc", "", "{\"n\":1.5,\"t\":true,\"s\":5}"));
    CHECK(field(ns, "doc", KV_EDIT_REMOVE, "", NULL, &out) == KV_OK && out.rev == kv_rev(h));
    CHECK(field(ns, "doc", KV_EDIT_REMOVE, "", NULL, &out) == KV_ENOTFOUND);
    CHECK(kv_exists(ns, "doc", 3) == KV_ENOTFOUND);

    /* A scalar is a document that stays what it is. */
    CHECK(kv_put(ns, "doc", 3, &five, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get_field(ns, "doc", 3, "", 0, &v) == KV_OK && v.type == KV_INTEGER && v.integer == 5);
    CHECK(field(ns, "doc", KV_EDIT_INCREMENT, "", NULL, &out) == KV_OK && out.value.integer == 6);
    CHECK(kv_get(ns, "doc", 3, &r) == KV_OK && r.value.type == KV_INTEGER && r.value.integer == 6);
    CHECK(field(ns, "doc", KV_EDIT_SET, "", "[]", &out) == KV_OK && is(ns, "doc", "", "[]"));

    /* What no program should ask for. */
    rev = kv_rev(h);
    CHECK(field(ns, "doc", 0, "a", "1", &out) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_MERGE + 1, "a", "1", &out) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_SET, "a", "", &out) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_APPEND, "a", "5", &out) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_APPEND, "a", "55", &out) == KV_EINVAL);
    CHECK(field(ns, "doc", KV_EDIT_MERGE, "a", "{}", &out) == KV_EINVAL);
    edit = edit_of(KV_EDIT_SET, "a", "1");
    edit.flags = KV_EDIT_PEEK;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EINVAL);
    edit = edit_of(KV_EDIT_INCREMENT, "a", NULL);
    edit.by.type = KV_STRING;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EINVAL);
    edit.by.type = KV_NUMBER;
    edit.by.number = (double)INFINITY;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EINVAL);
    edit = edit_of(KV_EDIT_SET, "a", "1");
    edit.write.flags = KV_TTL;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EINVAL);
    CHECK(kv_rev(h) == rev && kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* What nobody checked when it was put is no JSON: an error or some text, and nothing worse. */
static void unchecked(void)
{
    static const char *const texts[] = {
        "",     " ",  "{",    "[",   "{\"a\"",    "\"", "{\"a\":", "[1,",   "{\"a\":1,\"a", "]",
        "[[[[", "{]", "\"\\", "nul", "{\"a\":[}", "-",  "1 2",     "[1 2]", "{\"a\" 1}",    "\xff"};
    kv_ns *ns;
    kv *h = handle(":memory:", &ns);
    kv_edited out;
    kv_value v = {KV_JSON, 0, NULL, 0, 0}, got;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (int op = KV_EDIT_SET; op <= KV_EDIT_MERGE; op++) {
            const char *path = op == KV_EDIT_INSERT ? "a[0]" : op == KV_EDIT_MERGE ? "" : "a";
            const char *json = op == KV_EDIT_APPEND  ? "\"x\""
                               : op == KV_EDIT_MERGE ? "{\"a\":{}}"
                                                     : "[1]";
            v.data = texts[i];
            v.len = (uint32_t)strlen(texts[i]);
            CHECK(kv_put(ns, "doc", 3, &v, NULL, NULL, NULL) == KV_OK);
            (void)kv_get_field(ns, "doc", 3, path, strlen(path), &got);
            (void)field(ns, "doc", op, path, json, &out);
            CHECK(kv_get(ns, "doc", 3, &(kv_record){0}) == KV_OK || op == KV_EDIT_REMOVE);
        }
    }
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* What is refused, each with its code and nothing changed, and what is allowed beside it. */
static void refusals(void)
{
    static const char deep[] = "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
                               "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
                               "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
                               "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
                               "a.a";
    static char nested[2 * KV_JSON_DEPTH + 1];
    static const struct {
        int op;
        const char *path, *json;
        int code;
    } cases[] = {
        {KV_EDIT_INCREMENT, "s", NULL, KV_ENOTNUMBER}, {KV_EDIT_TOGGLE, "s", NULL, KV_ENOTBOOLEAN},
        {KV_EDIT_APPEND, "n", "\"x\"", KV_ENOTSTRING}, {KV_EDIT_PUSH, "n", "1", KV_ENOTARRAY},
        {KV_EDIT_SET, "n.x", "1", KV_ENOTOBJECT},      {KV_EDIT_SET, "l[9]", "1", KV_ERANGE},
        {KV_EDIT_SET, "a..b", "1", KV_EBADPATH},       {KV_EDIT_SET, deep, "1", KV_ETOODEEP},
        {KV_EDIT_SET, "n", nested, KV_ETOODEEP},       {KV_EDIT_MERGE, "", "{", KV_ENOTJSON},
    };
    kv_ns *ns;
    kv *h = handle(":memory:", &ns);
    kv_edited out;
    kv_edit edit;
    kv_value v, text = {KV_STRING, 0, NULL, 0, 0};
    uint64_t rev;

    memset(nested, '[', KV_JSON_DEPTH);
    memset(nested + KV_JSON_DEPTH, ']', KV_JSON_DEPTH);
    CHECK(field(ns, "doc", KV_EDIT_SET, "", "{\"n\":1,\"s\":\"\",\"l\":[1]}", &out) == KV_OK);
    rev = kv_rev(h);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK(field(ns, "doc", cases[i].op, cases[i].path, cases[i].json, &out) == cases[i].code);
    CHECK(kv_get_field(ns, "doc", 3, deep, strlen(deep), &v) == KV_ENOTFOUND);
    CHECK(kv_get_field(ns, "doc", 3, "n.x", 3, &v) == KV_ENOTFOUND);
    CHECK(kv_get_field(ns, "doc", 3, "n[0]", 4, &v) == KV_ENOTFOUND);
    edit = edit_of(KV_EDIT_SET, "new", "1");
    edit.flags = KV_EDIT_NO_CREATE;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_ENOTFOUND);
    edit = edit_of(KV_EDIT_SET, "n", "1");
    edit.write.flags |= KV_IF_NOT_EXIST;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EEXISTS);
    edit = edit_of(KV_EDIT_REMOVE, "", NULL);
    edit.write.flags |= KV_IF_NOT_EXIST;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EEXISTS);
    CHECK(kv_edit_field(ns, "none", 4, &edit, &out) == KV_ENOTFOUND);
    edit = edit_of(KV_EDIT_MERGE, "", "{\"m\":1}");
    edit.flags = KV_EDIT_NO_CREATE;
    CHECK(kv_edit_field(ns, "none", 4, &edit, &out) == KV_ENOTFOUND);
    edit.flags = 0;
    edit.write.flags |= KV_IF_EXIST;
    CHECK(kv_edit_field(ns, "none", 4, &edit, &out) == KV_ENOTFOUND);
    edit = edit_of(KV_EDIT_MERGE, "", "{\"m\":1}");
    edit.write.flags |= KV_IF_NOT_EXIST;
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EEXISTS);
    edit = edit_of(KV_EDIT_MERGE, "", "");
    CHECK(kv_edit_field(ns, "doc", 3, &edit, &out) == KV_EINVAL);
    CHECK(kv_rev(h) == rev && kv_exists(ns, "none", 4) == KV_ENOTFOUND);

    /* Scalars: a document each, and stored as what they are. */
    CHECK(field(ns, "one", KV_EDIT_SET, "", "true", &out) == KV_OK);
    CHECK(kv_get_value(ns, "one", 3, &v) == KV_OK && v.type == KV_BOOLEAN && v.integer == 1);
    CHECK(field(ns, "one", KV_EDIT_TOGGLE, "", NULL, &out) == KV_OK && out.value.integer == 0);
    CHECK(field(ns, "one", KV_EDIT_TOGGLE, "", NULL, &out) == KV_OK && out.value.integer == 1);
    CHECK(field(ns, "one", KV_EDIT_SET, "", "null", &out) == KV_OK);
    CHECK(kv_get_value(ns, "one", 3, &v) == KV_OK && v.type == KV_NULL);
    CHECK(field(ns, "one", KV_EDIT_MERGE, "", "2.5", &out) == KV_OK);
    CHECK(kv_get_value(ns, "one", 3, &v) == KV_OK && v.type == KV_NUMBER && v.number == 2.5);
    edit = edit_of(KV_EDIT_INCREMENT, "", NULL);
    CHECK(kv_edit_field(ns, "one", 3, &edit, &out) == KV_OK && out.value.number == 3.5);

    /* A string is a document if its text is one, and stays a string. */
    text.data = "{\"a\":1}";
    text.len = 7;
    CHECK(kv_put(ns, "text", 4, &text, NULL, NULL, NULL) == KV_OK);
    CHECK(is(ns, "text", "a", "1"));
    CHECK(field(ns, "text", KV_EDIT_SET, "a", "2", &out) == KV_OK);
    CHECK(kv_get_value(ns, "text", 4, &v) == KV_OK && v.type == KV_STRING && v.len == 7 &&
          memcmp(v.data, "{\"a\":2}", 7) == 0);
    text.data = "{a}";
    text.len = 3;
    CHECK(kv_put(ns, "text", 4, &text, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_get_field(ns, "text", 4, "a", 1, &v) == KV_ENOTJSON);
    CHECK(field(ns, "text", KV_EDIT_SET, "a", "2", &out) == KV_ENOTJSON);

    /* All members of a name go. */
    text.type = KV_JSON;
    text.data = "{\"a\":1,\"b\":2,\"a\":3}";
    text.len = 19;
    CHECK(kv_put(ns, "twins", 5, &text, NULL, NULL, NULL) == KV_OK);
    CHECK(field(ns, "twins", KV_EDIT_REMOVE, "a", NULL, &out) == KV_OK);
    CHECK(is(ns, "twins", "", "{\"b\":2}"));
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- processes ---- */

#define EDITORS 8

/* In a child: counts in a field of all and in one of its own, and pushes what nobody else does. */
static void edit_on(const char *path, int index, long edits)
{
    kv_ns *ns;
    kv *h = handle(path, &ns);
    kv_edited out;
    char own[32], item[64];
    long i, bad = 0;

    snprintf(own, sizeof own, "own[%d]", index);
    for (i = 0; i < edits; i++) {
        snprintf(item, sizeof item, "[%d,%ld]", index, i);
        bad += field(ns, "doc", KV_EDIT_PUSH, "list", item, &out) != KV_OK;
        bad += field(ns, "doc", KV_EDIT_INCREMENT, own, NULL, &out) != KV_OK ||
               out.value.integer != i + 1;
        bad += field(ns, "doc", KV_EDIT_INCREMENT, "n", NULL, &out) != KV_OK;
    }
    kv_ns_close(ns);
    kv_close(h);
    check_exit(bad != 0);
}

/* killed: the last editors edit for ever and are killed; what they count in their own fields says
 * how far each came. */
static void together(const char *path, long edits, int killed)
{
    static const char start[] = "{\"n\":0, \"own\":[0,0,0,0,0,0,0,0] ,\"list\":[]}";
    kv_value v = {KV_JSON, sizeof start - 1, start, 0, 0};
    long next[EDITORS] = {0}, items = 0, n = 0;
    pid_t child[EDITORS];
    char way[64];
    kv_ns *ns;
    kv *h = handle(path, &ns);
    int i, status;

    CHECK(kv_put(ns, "doc", 3, &v, NULL, NULL, NULL) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    for (i = 0; i < EDITORS; i++) {
        child[i] = check_fork();
        if (child[i] < 0)
            exit(1);
        if (child[i] == 0)
            edit_on(path, i, i < EDITORS - killed ? edits : 1000000);
    }
    h = handle(path, &ns);
    for (i = EDITORS - 1; i >= 0; i--) {
        if (i >= EDITORS - killed) {
            /* At some moment after its first edit. */
            snprintf(way, sizeof way, "own[%d]", i);
            while (number_at(ns, way) <= (int64_t)roll(4))
                usleep(100);
            usleep((unsigned)roll(3000));
            kill(child[i], SIGKILL);
        }
        CHECK(waitpid(child[i], &status, 0) == child[i]);
        CHECK(i >= EDITORS - killed ? WIFSIGNALED(status) || WEXITSTATUS(status) == 0
                                    : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    items = number_at(ns, "list[-1][1]") < 0 ? 0 : 1;
    CHECK(items == 1);
    /* Every item once, those of each editor in its order. */
    for (items = 0;; items++) {
        int64_t who, which;
        snprintf(way, sizeof way, "list[%ld][0]", items);
        who = number_at(ns, way);
        snprintf(way, sizeof way, "list[%ld][1]", items);
        which = number_at(ns, way);
        if (who < 0)
            break;
        if (!CHECK(who < EDITORS && which == next[who]))
            break;
        next[who]++;
    }
    for (i = 0; i < EDITORS; i++) {
        int64_t own;
        snprintf(way, sizeof way, "own[%d]", i);
        own = number_at(ns, way);
        /* The three edits of a round come in this order; a death leaves some of them out. */
        if (i < EDITORS - killed)
            CHECK(own == edits && next[i] == edits);
        else
            CHECK(own > 0 && next[i] - own >= 0 && next[i] - own <= 1);
        n += own;
    }
    CHECK(number_at(ns, "n") <= n && number_at(ns, "n") >= n - killed);
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

int main(void)
{
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    model_start("test_field");
    calls();
    unchecked();
    refusals();
    together(at("processes"), model_steps(100), 0);
    for (int i = 0; i < model_steps(6); i++)
        together(at("killed"), model_steps(30), 4);
    remove_root();
    return check_done("test_field");
}
