/* SPDX-License-Identifier: MIT */
/*
 * fuzz_json.c - libFuzzer target for csrc/json: no input may crash it, read outside, or make
 * kv_json_check and kv_json_next disagree.  Build with -fsanitize=fuzzer,address,undefined.
 */
#include "../../csrc/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int condition)
{
    if (!condition)
        abort();
}

/* What a number is printed as reads back as that number. */
static void try_number(const char *text, size_t len)
{
    char buf[KV_JSON_NUMBER_MAX];
    int64_t i = 0, i2 = 0;
    double d = 0, d2 = 0;
    int kind = kv_json_number_parse(text, len, &i, &d);

    if (kind == KV_JSON_INTEGER) {
        len = kv_json_integer_format(i, buf);
        need(kv_json_number_parse(buf, len, &i2, &d2) == KV_JSON_INTEGER && i2 == i);
    } else if (kind == KV_JSON_DOUBLE) {
        len = kv_json_number_format(d, 1, buf);
        need(kv_json_number_parse(buf, len, &i2, &d2) == KV_JSON_DOUBLE);
        need(memcmp(&d, &d2, sizeof(d)) == 0);
    }
}

/* Escaped bytes are the content of a string, and unescape to the same bytes. */
static void try_string(const char *bytes, size_t len)
{
    size_t size = 0, bad = 0;
    int code = kv_json_escape_size(bytes, len, &size);

    need(code == kv_json_utf8(bytes, len, &bad));
    if (code == KV_JSON_OK) {
        char *text = malloc(size + 2), *back = malloc(size + 1);
        need(text != NULL && back != NULL && size <= KV_JSON_ESCAPE_MAX(len));
        text[0] = text[size + 1] = '"';
        need(kv_json_escape(bytes, len, text + 1) == size);
        need(kv_json_check(text, size + 2, NULL) == KV_JSON_OK);
        need(kv_json_unescape(text + 1, size, back) == len);
        need(len == 0 || memcmp(back, bytes, len) == 0);
        free(back);
        free(text);
    } else {
        need(size == bad && bad < len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char *out = malloc(size + 1);
    kv_json_error err;
    kv_json_scan scan;
    int code = kv_json_check(text, size, &err), token;

    need(out != NULL);
    kv_json_scan_init(&scan, text, size);
    while ((token = kv_json_next(&scan)) > KV_JSON_END) {
        need(scan.start < scan.end && scan.end <= size && scan.depth >= 0);
        if (token == KV_JSON_NUMBER) {
            try_number(text + scan.start, scan.end - scan.start);
        } else if (token == KV_JSON_STRING || token == KV_JSON_KEY) {
            size_t len = kv_json_unescape(text + scan.start + 1, scan.end - scan.start - 2, out);
            need(len <= scan.end - scan.start - 2);
            try_string(out, len);
        }
    }
    need((token == KV_JSON_END) == (code == KV_JSON_OK));
    need(token == KV_JSON_END || (scan.err.code == code && scan.err.offset == err.offset));

    /* The same bytes taken as each of the other things a caller may hand in. */
    kv_json_unescape(text, size, out);
    try_number(text, size);
    try_string(text, size);
    free(out);
    return 0;
}
