/* SPDX-License-Identifier: MIT
 *
 * test_json_edit.c - paths and edits of JSON text: what the RFCs show, tables of cases, and random
 * documents with random edits against a model.
 *
 * The model is a tree that a parser of its own builds, recursive and naive. After each edit it says
 * what the document must mean, and which bytes nothing may have touched.
 */
#define _GNU_SOURCE
#include "../../csrc/json_edit.h"
#include "check.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text in memory of exactly its size, so that ASan sees every byte read beyond. */
static char *exactly(const char *text, size_t len)
{
    char *copy = calloc(len > 0 ? len : 1, 1);

    if (len > 0)
        memcpy(copy, text, len);
    return copy;
}

/* ---- the corpus ----------------------------------------------------------------------- */

static const struct {
    const char *word;
    int code;
} verdicts[] = {
    {"ok", KV_JSON_OK},
    {"end", KV_JSON_EEND},
    {"syntax", KV_JSON_ESYNTAX},
    {"tail", KV_JSON_ETAIL},
    {"number", KV_JSON_ENUMBER},
    {"range", KV_JSON_ERANGE},
    {"control", KV_JSON_ECONTROL},
    {"escape", KV_JSON_EESCAPE},
    {"utf8", KV_JSON_EUTF8},
    {"depth", KV_JSON_EDEPTH},
};

static void test_text(const char *line, int code, const char *text, size_t len, size_t blamed)
{
    char *copy = exactly(text, len);
    kv_json_error err;
    kv_json_scan scan;
    int token;

    if (!CHECK(kv_json_check(copy, len, &err) == code) || !CHECK(err.code == code) ||
        (code != KV_JSON_OK && !CHECK(err.offset == blamed)))
        fprintf(stderr, "  %.60s: %s at %zu, not %zu\n", line, kv_json_strerror(err.code),
                err.offset, blamed);
    kv_json_scan_init(&scan, copy, len);
    do
        token = kv_json_next(&scan);
    while (token > 0);
    CHECK(token == (code == KV_JSON_OK ? KV_JSON_END : KV_JSON_FAIL));
    CHECK(scan.err.code == code && (code == KV_JSON_OK || scan.err.offset == blamed));
    free(copy);
}

static void test_corpus(void)
{
    static char line[8192], text[8192];
    FILE *file = fopen("spec/json/corpus.txt", "r");
    int texts = 0;

    if (!CHECK(file != NULL))
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t n = strcspn(line, " \n"), len = 0, blamed = SIZE_MAX, k;
        const char *p;
        unsigned hex;

        if (*line == '#')
            continue;
        line[strcspn(line, "\n")] = '\0';
        for (p = line + n + (line[n] == ' '); *p != '\0'; p++) {
            if (*p != '\\') {
                text[len++] = *p;
            } else if (*++p == 'x') {
                CHECK(sscanf(p + 1, "%2x", &hex) == 1);
                text[len++] = (char)hex;
                p += 2;
            } else if (*p == '!') {
                blamed = len;
            } else {
                text[len++] = *p;
            }
        }
        line[n] = '\0';
        for (k = 0; k < sizeof(verdicts) / sizeof(*verdicts); k++) {
            if (strcmp(line, verdicts[k].word) != 0)
                continue;
            CHECK((blamed == SIZE_MAX) ==
                  (verdicts[k].code == KV_JSON_OK || verdicts[k].code == KV_JSON_EEND));
            test_text(line + n + 1, verdicts[k].code, text, len, blamed == SIZE_MAX ? len : blamed);
            texts++;
            break;
        }
        CHECK(k < sizeof(verdicts) / sizeof(*verdicts));
    }
    CHECK(texts >= 300);
    fclose(file);
}

/* ---- paths ---------------------------------------------------------------------------- */

/* What a path leads to: its text, or "-" when nothing is there, or "!n" for a bad one with its
 * offset. */
static void leads(const char *doc, const char *path_text, size_t path_len, const char *expected)
{
    size_t len = strlen(doc);
    char *copy = exactly(doc, len), *way = exactly(path_text, path_len), got[300];
    kv_json_path path;
    kv_json_place at;
    kv_json_error err;
    int code = kv_json_path_read(way, path_len, &path, &err);

    if (code != KV_JSON_OK) {
        CHECK(code == KV_JSON_EPATH);
        snprintf(got, sizeof(got), "!%zu", err.offset);
    } else {
        code = kv_json_find(copy, len, &path, path.count, &at);
        snprintf(got, sizeof(got), "%.*s", code == KV_JSON_OK ? (int)(at.end - at.start) : 1,
                 code == KV_JSON_OK ? copy + at.start : "-");
    }
    if (!CHECK(strcmp(got, expected) == 0))
        fprintf(stderr, "  %s in %s: %s, not %s\n", path_text, doc, got, expected);
    free(copy);
    free(way);
}

static void test_paths(void)
{
    /* RFC 6901, section 5. */
    static const char rfc[] = "{\n"
                              "  \"foo\": [\"bar\", \"baz\"],\n"
                              "  \"\": 0,\n"
                              "  \"a/b\": 1,\n"
                              "  \"c%d\": 2,\n"
                              "  \"e^f\": 3,\n"
                              "  \"g|h\": 4,\n"
                              "  \"i\\\\j\": 5,\n"
                              "  \"k\\\"l\": 6,\n"
                              "  \" \": 7,\n"
                              "  \"m~n\": 8\n"
                              "}";
    static const char *const pointers[][2] = {
        {"/foo", "[\"bar\", \"baz\"]"},
        {"/foo/0", "\"bar\""},
        {"/", "0"},
        {"/a~1b", "1"},
        {"/c%d", "2"},
        {"/e^f", "3"},
        {"/g|h", "4"},
        {"/i\\j", "5"},
        {"/k\"l", "6"},
        {"/ ", "7"},
        {"/m~0n", "8"},
        {"", rfc},
        /* and what it says elsewhere */
        {"/foo/-", "-"},
        {"/foo/2", "-"},
        {"/foo/01", "-"},
        {"/foo/00", "-"},
        {"/foo/ 0", "-"},
        {"/foo/0x", "-"},
        {"/foo/1e0", "-"},
        {"/foo/-1", "\"baz\""},
        {"/foo/-2", "\"bar\""},
        {"/foo/-3", "-"},
        {"/foo/-0", "-"},
        {"/foo/99999999999999999999999999", "-"},
        {"/m~1n", "-"},
        {"/m~", "!2"},
        {"/m~2", "!2"},
        {"/~", "!1"},
        {"/foo/~/0", "!5"},
    };
    static const char names[] =
        "{\"a\":{\"b\":{\"c\":1}},\"l\":[10,[20,21],{\"x\":30}],\"0\":\"zero\",\"a.b\":2,"
        "\"$\":3,\"*\":4,\"a b\":5,\"\\u00e9\":6,\"q\\\"\":7,\"back\\\\slash\":8,\"~\":9,\"\":10,"
        "\"\xf0\x9f\x98\x80\":11,\"x/y\":12,\"-\":13,\"\\/"
        "\":14,\"\\ud83d\\ude01\":15,\"n\\nl\":16}";
    static const char *const ways[][2] = {
        {"a.b.c", "1"},
        {"a.b", "{\"c\":1}"},
        {"l[0]", "10"},
        {"l[-1].x", "30"},
        {"l[1][0]", "20"},
        {"l[1][-2]", "20"},
        {"l[3]", "-"},
        {"l[-4]", "-"},
        {"0", "\"zero\""},
        {"[0]", "-"},
        {"l.0", "-"},
        {"$", "3"},
        {"*", "4"},
        {"a b", "5"},
        {"\xc3\xa9", "6"},
        {"[\"\\u00e9\"]", "6"},
        {"[\"\xc3\xa9\"]", "6"},
        {"[\"a.b\"]", "2"},
        {"[\"q\\\"\"]", "7"},
        {"back\\slash", "8"},
        {"[\"back\\\\slash\"]", "8"},
        {"~", "9"},
        {"[\"\"]", "10"},
        {"\xf0\x9f\x98\x80", "11"},
        {"[\"\\ud83d\\ude00\"]", "11"},
        {"[\"\\ud83d\\ude01\"]", "15"},
        {"\xf0\x9f\x98\x81", "15"},
        {"x/y", "12"},
        {"-", "13"},
        {"[\"/\"]", "14"},
        {"[\"\\/\"]", "14"},
        {"[\"n\\nl\"]", "16"},
        {"[\"n\\u000al\"]", "16"},
        {"[\"a\"].b[\"c\"]", "1"},
        {"[\"a\"][\"b\"].c", "1"},
        {"a[\"b\"][\"c\"]", "1"},
        {"a:b", "-"},
        {"/a/b/c", "1"},
        {"/0", "\"zero\""},
        {"/l/1/1", "21"},
        {"/-", "13"},
        {"//", "-"},
        /* wrong, and where */
        {".", "!0"},
        {".a", "!0"},
        {"a.", "!2"},
        {"a..b", "!2"},
        {"a.b.", "!4"},
        {"[", "!1"},
        {"[]", "!1"},
        {"[0", "!2"},
        {"[01]", "!1"},
        {"[00]", "!1"},
        {"[-0]", "!1"},
        {"[-]", "!1"},
        {"[+1]", "!1"},
        {"[ 1]", "!1"},
        {"[1 ]", "!2"},
        {"[1.5]", "!2"},
        {"[1]a", "!3"},
        {"[1].", "!4"},
        {"[1]..a", "!4"},
        {"[a]", "!1"},
        {"[*]", "!1"},
        {"a]", "!1"},
        {"]", "!0"},
        {"a\"b", "!1"},
        {"\"a\"", "!0"},
        {"a.[0]", "!2"},
        {"[\"a]", "!4"},
        {"[\"a\"", "!4"},
        {"[\"a\"x]", "!4"},
        {"[\"\\q\"]", "!2"},
        {"[\"\\ud800\"]", "!2"},
        {"['a']", "!1"},
        {"[\"a\nb\"]", "!3"},
        {"a./b", "!2"},
        {"a\xff", "!1"},
        {"/a\xff", "!2"},
        {"[\"\xc3\"]", "!2"},
        {"l[0][", "!5"},
    };
    size_t i;

    for (i = 0; i < sizeof(pointers) / sizeof(*pointers); i++)
        leads(rfc, pointers[i][0], strlen(pointers[i][0]), pointers[i][1]);
    for (i = 0; i < sizeof(ways) / sizeof(*ways); i++)
        leads(names, ways[i][0], strlen(ways[i][0]), ways[i][1]);
    leads("{\"a\\u0000b\":1}", "a\0b", 3, "1");
    leads("{\"a\\u0000b\":1}", "/a\0b", 4, "1");
    leads("[1,2]", "[1]", 3, "2");
    leads(" [ 1 , 2 ] ", "[-1]", 4, "2");
    leads(" 5 ", "", 0, "5");
    /* Keys that are no strings, in texts that nobody checked. */
    leads("{\"\\ud8dd-z\":1,\"a\":2}", "a", 1, "2");
    leads("{\"\\ud8dd-zzzz\":1}", "[\"\\u00e9\"]", 10, "-");
    leads("{\"\\u12\":1,\"\\q\":2,\"a\\\":3}", "a", 1, "-");
    leads("{\"a\":1,\"a\":2}", "a", 1, "2");
    leads("{\"a\":{\"b\":1},\"a\":{\"c\":2}}", "a.b", 3, "-");
    leads("{\"a\":{\"b\":1},\"a\":5}", "a.b", 3, "-");
}

static void test_depth(void)
{
    char way[3 * 130], doc[2 * 130 + 1];
    kv_json_path path;
    kv_json_place at;
    int n;

    for (n = 0; n < 130; n++)
        memcpy(way + 3 * n, "[0]", 3);
    CHECK(kv_json_path_read(way, 3 * 128, &path, NULL) == KV_JSON_OK && path.count == 128);
    CHECK(kv_json_path_read(way, 3 * 129, &path, NULL) == KV_JSON_EDEPTH);
    memset(doc, '[', 128);
    doc[128] = '1';
    memset(doc + 129, ']', 128);
    CHECK(kv_json_path_read(way, 3 * 128, &path, NULL) == KV_JSON_OK);
    CHECK(kv_json_find(doc, 257, &path, 128, &at) == KV_JSON_OK && at.start == 128 &&
          at.end == 129);
    for (n = 0; n < 130; n++)
        memcpy(way + 2 * n, "/0", 2);
    CHECK(kv_json_path_read(way, 2 * 128, &path, NULL) == KV_JSON_OK && path.count == 128);
    CHECK(kv_json_path_read(way, 2 * 129, &path, NULL) == KV_JSON_EDEPTH);
    for (n = 0; n < 128; n++)
        memcpy(way + 2 * n, "a.", 2);
    CHECK(kv_json_path_read(way, 2 * 128 - 1, &path, NULL) == KV_JSON_OK && path.count == 128);
    CHECK(kv_json_depth(doc, 257) == 128);
    CHECK(kv_json_depth("1", 1) == 0);
    CHECK(kv_json_depth("[\"[[[[\",{\"]\":[]}]", 18) == 3);
}

/* ---- edits, one by one ---------------------------------------------------------------- */

static const struct {
    const char *name;
    int op;
} operations[] = {{"set", KV_JSON_SET},    {"inc", KV_JSON_INCREMENT},
                  {"push", KV_JSON_PUSH},  {"ext", KV_JSON_EXTEND},
                  {"ins", KV_JSON_INSERT}, {"pop", KV_JSON_POP},
                  {"rem", KV_JSON_REMOVE}, {"tog", KV_JSON_TOGGLE},
                  {"app", KV_JSON_APPEND}, {"merge", 0}};

/* Applies it to a text of exactly the size it needs; returns the new one, or NULL and the code. */
static char *apply(const char *doc, size_t len, const kv_json_path *path, kv_json_edit *e,
                   size_t *new_len, int *code)
{
    kv_json_splice s;
    char *old = exactly(doc, len), *text;
    size_t size;

    *code = kv_json_plan(old, len, path, e, &s);
    if (*code == KV_JSON_OK)
        CHECK(len == 0 || memcmp(old, doc, len) == 0);
    free(old);
    if (*code != KV_JSON_OK)
        return NULL;
    size = len - s.del + s.size;
    text = malloc((size > len ? size : len) + 1);
    if (len > 0)
        memcpy(text, doc, len);
    if (e->twins > 0)
        *new_len = kv_json_remove_all(text, len, e->holder, &path->step[path->count - 1]);
    else
        *new_len = kv_json_splice_apply(text, len, &s);
    if (e->twins == 0)
        CHECK(*new_len == size);
    text[*new_len] = '\0';
    return text;
}

static void edits(const char *name, const char *doc, const char *way, const char *value,
                  const char *expected)
{
    kv_json_path path;
    kv_json_edit e;
    size_t len = strlen(doc), k, new_len = 0;
    char *text = NULL, code_text[8];
    int code;

    for (k = 0; strcmp(operations[k].name, name) != 0; k++)
        ;
    CHECK(kv_json_path_read(way, strlen(way), &path, NULL) == KV_JSON_OK);
    memset(&e, 0, sizeof(e));
    e.op = operations[k].op;
    e.create = 1;
    e.value = value;
    e.value_len = strlen(value);
    if (e.op == KV_JSON_INCREMENT)
        e.kind = kv_json_number_parse(value, e.value_len, &e.integer, &e.number);
    if (e.op == KV_JSON_POP)
        e.index = strtoll(value, NULL, 10);
    if (e.op == 0) {
        new_len = len;
        text = malloc(KV_JSON_MERGED_MAX(len, e.value_len) + 1);
        memcpy(text, doc, len);
        code = kv_json_merge(text, &new_len, value, e.value_len);
        text[new_len] = '\0';
        CHECK(new_len <= KV_JSON_MERGED_MAX(len, e.value_len));
    } else {
        text = apply(doc, len, &path, &e, &new_len, &code);
    }
    snprintf(code_text, sizeof(code_text), "!%d", code);
    if (!CHECK(strcmp(code == KV_JSON_OK ? text : code_text, expected) == 0))
        fprintf(stderr, "  %s %s %s %s: %s, not %s\n", name, doc, way, value,
                code == KV_JSON_OK ? text : code_text, expected);
    free(text);
}

static void test_edits(void)
{
    static const char *const cases[][5] = {
        {"set", "{\"a\":1}", "a", "2", "{\"a\":2}"},
        {"set", "{\"a\":1}", "b", "2", "{\"a\":1,\"b\":2}"},
        {"set", "{}", "a", "2", "{\"a\":2}"},
        {"set", "{ }", "a", "2", "{\"a\":2 }"},
        {"set", "{ \"a\" : 1 , \"b\" : 2 }", "a", "{}", "{ \"a\" : {} , \"b\" : 2 }"},
        {"set", "{ \"a\" : 1 }", "b", "2", "{ \"a\" : 1,\"b\":2 }"},
        {"set", "", "a.b", "1", "{\"a\":{\"b\":1}}"},
        {"set", "", "", "1", "1"},
        {"set", "", "[0]", "1", "[1]"},
        {"set", "", "[1]", "1", "!18"},
        {"set", "", "[-1]", "1", "!18"},
        {"set", "", "/-", "1", "[1]"},
        {"set", "", "/0", "1", "{\"0\":1}"},
        {"set", "", "/a/-/-/b", "1", "{\"a\":[[{\"b\":1}]]}"},
        {"set", "", "/", "1", "{\"\":1}"},
        {"set", "", "/~0~1~01/x", "1", "{\"~/~1\":{\"x\":1}}"},
        {"set", "", "[\"a\\u0062\\n\"]", "1", "{\"a\\u0062\\n\":1}"},
        {"set", "", "a\\b\x01", "1", "{\"a\\\\b\\u0001\":1}"},
        {"set", " 5 ", "", "6", "6"},
        {"set", "{}", "a[0].b[0][0]", "1", "{\"a\":[{\"b\":[[1]]}]}"},
        {"set", "{}", "a[0].b[0][1]", "1", "!18"},
        {"set", "[]", "[0]", "1", "[1]"},
        {"set", "[ ]", "[0]", "1", "[1 ]"},
        {"set", "[1 ,2 ]", "[2].x", "1", "[1 ,2,{\"x\":1} ]"},
        {"set", "[1,2]", "[3]", "1", "!18"},
        {"set", "[1,2]", "/0", "9", "[9,2]"},
        {"set", "[1,2]", "/2", "9", "[1,2,9]"},
        {"set", "[1,2]", "/a", "9", "!13"},
        {"set", "{\"a\":5}", "a.b", "1", "!13"},
        {"set", "{\"a\":5}", "a[0]", "1", "!14"},
        {"set", "{\"a\":5}", "[0]", "1", "!14"},
        {"set", "{\"a\":1,\"a\":2}", "a", "3", "{\"a\":1,\"a\":3}"},
        {"set", "{\"a\":1,\"\\u0061\":2}", "a", "3", "{\"a\":1,\"\\u0061\":3}"},
        {"inc", "{\"n\":1}", "n", "1", "{\"n\":2}"},
        {"inc", "{\"n\":9223372036854775807}", "n", "1", "!18"},
        {"inc", "{\"n\":9223372036854775807}", "n", "-1", "{\"n\":9223372036854775806}"},
        {"inc", "{\"n\":-9223372036854775808}", "n", "-1", "!18"},
        {"inc", "{\"n\":-9223372036854775808}", "n", "9223372036854775807", "{\"n\":-1}"},
        {"inc", "{\"n\":9223372036854775807}", "n", "-9223372036854775808", "{\"n\":-1}"},
        {"inc", "{\"n\":9223372036854775808}", "n", "1", "!18"},
        {"inc", "{\"n\":9223372036854775808}", "n", "1.0", "{\"n\":9.223372036854776e18}"},
        {"inc", "{\"n\":-0}", "n", "1", "{\"n\":1.0}"},
        {"inc", "{\"n\":1e2}", "n", "1", "{\"n\":101.0}"},
        {"inc", "{\"n\":0.1}", "n", "0.2", "{\"n\":0.30000000000000004}"},
        {"inc", "{\"n\":1.7976931348623157e308}", "n", "1e308", "!18"},
        {"inc", "{}", "n", "5", "{\"n\":5}"},
        {"inc", "", "", "5", "5"},
        {"inc", "{\"n\":\"1\"}", "n", "1", "!17"},
        {"inc", "{\"n\":null}", "n", "1", "!17"},
        {"push", "{\"a\":[]}", "a", "1", "{\"a\":[1]}"},
        {"push", "{\"a\":[ 1 ]}", "a", "[2]", "{\"a\":[ 1,[2] ]}"},
        {"push", "{\"b\":1}", "a.c", "1", "{\"b\":1,\"a\":{\"c\":[1]}}"},
        {"push", "", "", "1", "[1]"},
        {"push", "{}", "", "1", "!14"},
        {"ext", "[1]", "", "[ 2 , 3 ]", "[1,2 , 3]"},
        {"ext", "[1]", "", "[ ]", "[1]"},
        {"ext", "[]", "", "[2]", "[2]"},
        {"ext", "{\"b\":1}", "a", "[ ]", "{\"b\":1,\"a\":[]}"},
        {"ext", "[1]", "", "{}", "!14"},
        {"ins", "[1,2]", "[0]", "0", "[0,1,2]"},
        {"ins", "[ 1 , 2 ]", "[1]", "0", "[ 1 , 0,2 ]"},
        {"ins", "[1,2]", "[2]", "0", "[1,2,0]"},
        {"ins", "[1,2]", "[-1]", "0", "[1,0,2]"},
        {"ins", "[1,2]", "[-2]", "0", "[0,1,2]"},
        {"ins", "[1,2]", "[-3]", "0", "!18"},
        {"ins", "[1,2]", "[3]", "0", "!18"},
        {"ins", "[]", "[0]", "0", "[0]"},
        {"ins", "[]", "[-1]", "0", "!18"},
        {"ins", "{}", "a[0]", "0", "{\"a\":[0]}"},
        {"ins", "{}", "/a/0", "0", "{\"a\":[0]}"},
        {"ins", "{}", "a[1]", "0", "!18"},
        {"ins", "{}", "a", "0", "!10"},
        {"ins", "[1]", "", "0", "!10"},
        {"ins", "", "", "0", "!10"},
        {"ins", "{\"a\":{}}", "/a/0", "0", "!14"},
        {"pop", "[1,2,3]", "", "-1", "[1,2]"},
        {"pop", "[1,2,3]", "", "0", "[2,3]"},
        {"pop", "[1 , 2 , 3]", "", "1", "[1 , 3]"},
        {"pop", "[ 1 ]", "", "0", "[  ]"},
        {"pop", "[]", "", "-1", "!11"},
        {"pop", "[1]", "", "1", "!11"},
        {"pop", "{}", "", "0", "!14"},
        {"rem", "{\"a\":1,\"b\":2,\"c\":3}", "b", "", "{\"a\":1,\"c\":3}"},
        {"rem", "{\"a\":1,\"b\":2}", "a", "", "{\"b\":2}"},
        {"rem", "{\"a\":1,\"b\":2}", "b", "", "{\"a\":1}"},
        {"rem", "{ \"a\" : 1 }", "a", "", "{  }"},
        {"rem", "{\"a\":1,\"a\":2}", "a", "", "{}"},
        {"rem", "{\"b\":0,\"a\":1 , \"b\":3,\"a\":2 }", "a", "", "{\"b\":0 , \"b\":3 }"},
        {"rem", "{ \"a\":1, \"b\":2, \"a\":3 , \"c\":4 }", "a", "", "{ \"b\":2 , \"c\":4 }"},
        {"rem", "{}", "a", "", "!11"},
        {"tog", "{\"a\":true}", "a", "", "{\"a\":false}"},
        {"tog", "{\"a\":false}", "a", "", "{\"a\":true}"},
        {"tog", "{}", "a", "", "{\"a\":true}"},
        {"tog", "{\"a\":1}", "a", "", "!16"},
        {"app", "{\"a\":\"x\"}", "a", "\"y\\n\"", "{\"a\":\"xy\\n\"}"},
        {"app", "{\"a\":\"\"}", "a", "\"\"", "{\"a\":\"\"}"},
        {"app", "{}", "a", "\"y\"", "{\"a\":\"y\"}"},
        {"app", "{\"a\":1}", "a", "\"y\"", "!15"},
        /* RFC 7396, appendix A */
        {"merge", "{\"a\":\"b\"}", "", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"merge", "{\"a\":\"b\"}", "", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"merge", "{\"a\":\"b\"}", "", "{\"a\":null}", "{}"},
        {"merge", "{\"a\":\"b\",\"b\":\"c\"}", "", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"merge", "{\"a\":[\"b\"]}", "", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"merge", "{\"a\":\"c\"}", "", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"merge", "{\"a\":{\"b\":\"c\"}}", "", "{\"a\":{\"b\":\"d\",\"c\":null}}",
         "{\"a\":{\"b\":\"d\"}}"},
        {"merge", "{\"a\":[{\"b\":\"c\"}]}", "", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"merge", "[\"a\",\"b\"]", "", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"merge", "{\"a\":\"b\"}", "", "[\"c\"]", "[\"c\"]"},
        {"merge", "{\"a\":\"foo\"}", "", "null", "null"},
        {"merge", "{\"a\":\"foo\"}", "", "\"bar\"", "\"bar\""},
        {"merge", "{\"e\":null}", "", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"merge", "[1,2]", "", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"merge", "{}", "", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        /* and more */
        {"merge", "", "", "{\"a\":{\"b\":null,\"c\":1}}", "{\"a\":{\"c\":1}}"},
        {"merge", "5", "", "{}", "{}"},
        {"merge", "{\"a\":{}}", "", "{\"a\":{ \"b\" : { } , \"c\" : [ {\"x\":null} ] } }",
         "{\"a\":{\"b\":{},\"c\":[ {\"x\":null} ]}}"},
        {"merge", "{\"a\":1,\"b\":2,\"a\":3}", "", "{\"a\":null}", "{\"b\":2}"},
        {"merge", "{\"a\":1,\"b\":2,\"a\":{}}", "", "{\"a\":{\"x\":1}}",
         "{\"a\":1,\"b\":2,\"a\":{\"x\":1}}"},
        {"merge", "{}", "", "{\"a\\u0062\":1,\"ab\":2}", "{\"a\\u0062\":2}"},
        {"merge", "{}", "", "{\"a\":1", "!1"},
        {"merge", "{}", "", "[1,2", "!1"},
        {"merge", "", "", "{\"\":{\"\":{\"\":{\"", "!1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        edits(cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4]);
}

static void test_conditions(void)
{
    static const char doc[] = "{\"a\":1}";
    kv_json_splice s;
    kv_json_path there, missing;
    kv_json_edit e;

    kv_json_path_read("a", 1, &there, NULL);
    kv_json_path_read("b.c", 3, &missing, NULL);
    memset(&e, 0, sizeof(e));
    e.op = KV_JSON_SET;
    e.value = "2";
    e.value_len = 1;
    CHECK(kv_json_plan(doc, 7, &there, &e, &s) == KV_JSON_OK);
    CHECK(kv_json_plan(doc, 7, &missing, &e, &s) == KV_JSON_EMISSING);
    CHECK(kv_json_plan("", 0, &missing, &e, &s) == KV_JSON_EMISSING);
    e.create = 1;
    CHECK(kv_json_plan(doc, 7, &missing, &e, &s) == KV_JSON_OK);
    e.exist = 1;
    CHECK(kv_json_plan(doc, 7, &there, &e, &s) == KV_JSON_OK);
    CHECK(kv_json_plan(doc, 7, &missing, &e, &s) == KV_JSON_EMISSING);
    e.exist = 0;
    e.absent = 1;
    CHECK(kv_json_plan(doc, 7, &there, &e, &s) == KV_JSON_EEXISTS);
    CHECK(kv_json_plan(doc, 7, &missing, &e, &s) == KV_JSON_OK);
}

/* Strings and brackets at every place of the blocks of 64 that a container is passed by. */
static void test_blocks(void)
{
    static const char *const inside[] = {"\"]}\"",        "\"\\\"]\"",       "\"\\\\\",[]",
                                         "\"\\\\\\\"}\"", "[{\"]\":\"[\"}]", "\"\xc3\xa9\\u005d\""};
    char doc[512], *copy;
    kv_json_path path;
    kv_json_place at;
    size_t len;

    kv_json_path_read("[1]", 3, &path, NULL);
    for (size_t k = 0; k < sizeof(inside) / sizeof(*inside); k++) {
        for (int pad = 0; pad < 140; pad++) {
            for (int more = 0; more < 140; more += 23) {
                len = (size_t)snprintf(doc, sizeof(doc), "[[%*s%s%*s],7]", pad, "", inside[k], more,
                                       "");
                copy = exactly(doc, len);
                CHECK(kv_json_check(copy, len, NULL) == KV_JSON_OK);
                CHECK(kv_json_find(copy, len, &path, 1, &at) == KV_JSON_OK && at.start == len - 2);
                free(copy);
            }
        }
    }
    /* A run of backslashes over the border of two blocks. */
    for (size_t pad = 0; pad < 70; pad++) {
        for (size_t run = 0; run < 70; run += 2) {
            len = 0;
            memcpy(doc, "[[\"", 3);
            len = 3;
            memset(doc + len, 'x', pad);
            len += pad;
            memset(doc + len, '\\', run);
            len += run;
            memcpy(doc + len, "\\\"]\"],7]", 8);
            len += 8;
            copy = exactly(doc, len);
            CHECK(kv_json_check(copy, len, NULL) == KV_JSON_OK);
            CHECK(kv_json_find(copy, len, &path, 1, &at) == KV_JSON_OK && at.start == len - 2);
            free(copy);
        }
    }
}

/* A text that is no JSON gives an error or some place inside it, and no access outside: every
 * prefix and every single byte changed. */
static void test_garbage(void)
{
    static const char doc[] =
        "{\"a\":[1,{\"b\":\"c\\\"\"},[]],\"d\":{\"e\":-1.5e3,\"f\":true} , \"a\":[2]}";
    static const char *const ways[] = {"a[0]", "a[-1]", "d.e", "d.x", "/a/-", "x", ""};
    static const char bytes[] = "\"\\[]{},: x1\0\xff";
    kv_json_path path;
    kv_json_place at;

    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        kv_json_path_read(ways[w], strlen(ways[w]), &path, NULL);
        for (size_t len = 0; len < sizeof(doc); len++) {
            for (size_t k = 0; k < sizeof(bytes); k++) {
                char *copy = exactly(doc, len), *text;
                size_t new_len;
                int code;
                if (len > 0)
                    copy[len - 1 - (k % len) / 2] = bytes[k];
                code = kv_json_find(copy, len, &path, path.count, &at);
                CHECK(code != KV_JSON_OK || (at.start <= at.end && at.end <= len));
                for (int op = KV_JSON_SET; op <= KV_JSON_APPEND; op++) {
                    kv_json_edit e;
                    memset(&e, 0, sizeof(e));
                    e.op = op;
                    e.create = 1;
                    e.value = op == KV_JSON_APPEND ? "\"x\"" : "[1]";
                    e.value_len = 3;
                    e.kind = KV_JSON_INTEGER;
                    if (op == KV_JSON_REMOVE && path.count == 0)
                        continue;
                    text = apply(copy, len, &path, &e, &new_len, &code);
                    free(text);
                }
                text = malloc(KV_JSON_MERGED_MAX(len, 30));
                memcpy(text, copy, len);
                new_len = len;
                kv_json_merge(text, &new_len, "{\"a\":null,\"d\":{\"e\":5,\"f\":{}}}", 30);
                CHECK(new_len <= KV_JSON_MERGED_MAX(len, 30));
                free(text);
                free(copy);
            }
        }
    }
}

/* What the functions beside the edits make of the same. */
static void test_garbage_aside(void)
{
    char text[64];
    kv_json_path path;
    kv_json_place at;
    kv_json_step step;
    kv_json_edit e;
    kv_json_splice s;
    size_t n;

    CHECK(kv_json_count("", 0) == 0 && kv_json_count("5", 1) == 0 && kv_json_count("[1", 2) == 0);
    CHECK(kv_json_count("[]", 2) == 0 && kv_json_count("[1,[2,3]]", 9) == 2);
    CHECK(kv_json_count("{\"a\":[2,3]}", 11) == 1);

    memset(&at, 0, sizeof(at));
    CHECK(kv_json_element("[1", 2, -1, &at) == KV_JSON_ESYNTAX);
    CHECK(kv_json_element("[1 2]", 5, 0, &at) == KV_JSON_ESYNTAX);
    memset(&at, 0, sizeof(at));
    CHECK(kv_json_element("[1,2]", 5, -1, &at) == KV_JSON_OK && at.start == 3);

    memset(&step, 0, sizeof(step));
    step.by = KV_JSON_BY_KEY;
    step.name = "a";
    step.len = 1;
    memcpy(text, "{}", 2);
    CHECK(kv_json_remove_all(text, 2, 0, &step) == 2);
    memcpy(text, "{a}", 3);
    CHECK(kv_json_remove_all(text, 3, 0, &step) == 3);
    memcpy(text, "{\"a\":1 2}", 9);
    n = kv_json_remove_all(text, 9, 0, &step);
    CHECK(n <= 9);

    /* Edits that no one asks for, and those whose value is no JSON. */
    kv_json_path_read("a", 1, &path, NULL);
    memset(&e, 0, sizeof(e));
    e.op = KV_JSON_APPEND + 1;
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_EPATH);
    e.op = KV_JSON_EXTEND;
    e.value = "[1";
    e.value_len = 2;
    CHECK(kv_json_plan("{\"a\":[]}", 8, &path, &e, &s) == KV_JSON_EARRAY);
    e.op = KV_JSON_INSERT;
    kv_json_path_read("[1]", 3, &path, NULL);
    CHECK(kv_json_plan("[1", 2, &path, &e, &s) == KV_JSON_ESYNTAX);
    kv_json_path_read("a[1]", 4, &path, NULL);
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_EMISSING);
    e.create = 1;
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_EINDEX);

    /* Escapes that the text ends in. */
    CHECK(kv_json_unescaped_size("\\", 1) <= 1 && kv_json_unescaped_size("\\u12", 4) <= 4);
    CHECK(kv_json_unescaped_size("\\u0041", 6) == 1 && kv_json_unescaped_size("\\n", 2) == 1);
    CHECK(kv_json_unescaped_size("\\ud83d\\ude00", 12) == 4);
}

/* A value that is deep enough to be too deep where it goes. */
static void test_too_deep(void)
{
    char value[2 * KV_JSON_DEPTH];
    kv_json_path path;
    kv_json_edit e;
    kv_json_splice s;

    memset(value, '[', KV_JSON_DEPTH);
    memset(value + KV_JSON_DEPTH, ']', KV_JSON_DEPTH);
    memset(&e, 0, sizeof(e));
    e.op = KV_JSON_SET;
    e.create = 1;
    e.value = value;
    e.value_len = sizeof(value);
    kv_json_path_read("", 0, &path, NULL);
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_OK);
    kv_json_path_read("a", 1, &path, NULL);
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_EDEPTH);
    e.value++;
    e.value_len -= 2;
    CHECK(kv_json_plan("{}", 2, &path, &e, &s) == KV_JSON_OK);
}

/* Each code has words of its own, and so has what is none. */
static void test_words(void)
{
    int code, other;

    for (code = KV_JSON_OK; code <= KV_JSON_EINDEX + 1; code++)
        for (other = KV_JSON_OK; other < code; other++)
            CHECK(strcmp(kv_json_strerror(code), kv_json_strerror(other)) != 0);
}

#ifndef MODEL_EDITS
#define MODEL_EDITS 1000000
#endif
#include "json_model.h"

int main(void)
{
    test_corpus();
    test_paths();
    test_depth();
    test_edits();
    test_conditions();
    test_blocks();
    test_garbage();
    test_garbage_aside();
    test_too_deep();
    test_words();
    test_model();
    return check_done("test_json_edit");
}
