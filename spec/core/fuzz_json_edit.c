/* SPDX-License-Identifier: MIT
 *
 * fuzz_json_edit.c - libFuzzer target for csrc/json_path and csrc/json_edit: path and document
 * together. Whatever they are, nothing is read or written outside; what is valid stays valid, and
 * an edit changes nothing but what its splice says.
 *
 * The input: an operation and its options, the path's length, the path, the length of the value,
 * the value, and the document.
 */
#include "../../csrc/json_edit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int condition)
{
    if (!condition)
        abort();
}

/* In memory of exactly its size. */
static char *copy(const uint8_t *from, size_t len, size_t room)
{
    char *p = malloc(room > 0 ? room : 1);

    if (len > 0)
        memcpy(p, from, len);
    return p;
}

static void try_merge(const char *doc, size_t len, const char *value, size_t value_len)
{
    size_t merged = len;
    char *text = copy((const uint8_t *)doc, len, KV_JSON_MERGED_MAX(len, value_len));
    int code = kv_json_merge(text, &merged, value, value_len);

    need(merged <= KV_JSON_MERGED_MAX(len, value_len));
    if (code == KV_JSON_OK && kv_json_check(value, value_len, NULL) == KV_JSON_OK &&
        (len == 0 || kv_json_check(doc, len, NULL) == KV_JSON_OK))
        need(kv_json_check(text, merged, NULL) == KV_JSON_OK);
    free(text);
}

static void try_edit(const char *doc, size_t len, const kv_json_path *path, kv_json_edit *e)
{
    kv_json_splice s;
    kv_json_place at;
    char *text;
    size_t new_len;

    if (kv_json_plan(doc, len, path, e, &s) != KV_JSON_OK)
        return;
    need(s.at <= len && s.del <= len - s.at);
    new_len = len - s.del + s.size;
    text = copy((const uint8_t *)doc, len, new_len > len ? new_len : len);
    if (e->twins > 0) {
        size_t left = kv_json_remove_all(text, len, e->holder, &path->step[path->count - 1]);
        need(left <= len);
        new_len = left;
    } else {
        need(kv_json_splice_apply(text, len, &s) == new_len);
        need(memcmp(text, doc, s.at) == 0);
        need(memcmp(text + s.at + s.size, doc + s.at + s.del, len - s.at - s.del) == 0);
    }
    if (len > 0 && kv_json_check(doc, len, NULL) != KV_JSON_OK) {
        free(text);
        return;
    }
    need(kv_json_check(text, new_len, NULL) == KV_JSON_OK);
    if (e->op == KV_JSON_REMOVE && path->step[path->count - 1].by == KV_JSON_BY_KEY)
        need(kv_json_find(text, new_len, path, path->count, &at) == KV_JSON_EMISSING);
    /* What was set is there; behind the last one is never anything. */
    if (e->op == KV_JSON_SET) {
        size_t k = 0;
        while (k < path->count &&
               (path->step[k].by == KV_JSON_BY_KEY || path->step[k].index != KV_JSON_BEHIND))
            k++;
        if (k == path->count)
            need(kv_json_find(text, new_len, path, path->count, &at) == KV_JSON_OK &&
                 at.end - at.start == e->value_len &&
                 memcmp(text + at.start, e->value, e->value_len) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kv_json_path path;
    kv_json_edit e;
    kv_json_error err;
    char *way, *value, *doc;
    size_t way_len, value_len;
    int valid;

    if (size < 4)
        return 0;
    memset(&e, 0, sizeof(e));
    e.op = data[0] % 11;
    e.create = (data[1] & 1) == 0;
    e.exist = (data[1] & 6) == 2;
    e.absent = (data[1] & 6) == 4;
    e.index = (int64_t)(data[1] >> 3) - 16;
    way_len = data[2];
    value_len = data[3];
    data += 4;
    size -= 4;
    if (way_len > size)
        way_len = size;
    way = copy(data, way_len, way_len);
    data += way_len;
    size -= way_len;
    if (value_len > size)
        value_len = size;
    value = copy(data, value_len, value_len);
    data += value_len;
    size -= value_len;
    doc = copy(data, size, size);

    valid = kv_json_check(value, value_len, NULL) == KV_JSON_OK;
    if (kv_json_path_read(way, way_len, &path, &err) != KV_JSON_OK) {
        need(err.offset <= way_len);
    } else {
        kv_json_place at;
        int code = kv_json_find(doc, size, &path, path.count, &at);
        need(at.start <= size && (code != KV_JSON_OK || (at.start < at.end && at.end <= size)));
        if (code == KV_JSON_OK && kv_json_check(doc, size, NULL) == KV_JSON_OK)
            need(kv_json_check(doc + at.start, at.end - at.start, NULL) == KV_JSON_OK);
        e.value = value;
        e.value_len = value_len;
        e.kind = kv_json_number_parse(value, value_len, &e.integer, &e.number);
        if (e.op == 0 || e.op == 10)
            try_merge(doc, size, value, value_len);
        else if (e.op == KV_JSON_POP || (e.op == KV_JSON_REMOVE && path.count > 0) ||
                 e.op == KV_JSON_TOGGLE || (e.op == KV_JSON_INCREMENT && e.kind > 0) ||
                 (valid && value[0] > ' ' && value[value_len - 1] > ' ' && e.op != KV_JSON_REMOVE &&
                  e.op != KV_JSON_INCREMENT && (e.op != KV_JSON_APPEND || *value == '"')))
            try_edit(doc, size, &path, &e);
    }
    free(way);
    free(value);
    free(doc);
    return 0;
}
