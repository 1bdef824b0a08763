/* SPDX-License-Identifier: MIT */
/*
 * test_json.c - csrc/json: a corpus, oracles, truncations, depth, round trips.
 *
 * Every text of the corpus goes through kv_json_check and through kv_json_next, which must agree,
 * in a heap block of exactly its size, so that a sanitizer sees any read beyond it.  Random parts
 * print their seed; SEED=n in the environment repeats a run.
 */
#define _GNU_SOURCE
#include "../../csrc/json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks, failures;

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(cond)) {                                                                             \
            failures++;                                                                            \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

static uint64_t seed;

static uint64_t random64(void)
{
    uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 31)) * UINT64_C(0xd6e8feb86659fd93);
    z = (z ^ (z >> 29)) * UINT64_C(0xa3b195354a39b70d);
    return z ^ (z >> 32);
}

/* A copy without a byte to spare. */
static char *exact(const char *text, size_t len)
{
    char *copy = malloc(len + (len == 0));

    if (copy == NULL)
        abort();
    memcpy(copy, text, len);
    return copy;
}

/* Walk a text with kv_json_next; checks that tokens lie in order and that containers match. */
static int walk(const char *text, size_t len, kv_json_error *err)
{
    kv_json_scan scan;
    size_t before = 0;
    int token, depth = 0;

    kv_json_scan_init(&scan, text, len);
    while ((token = kv_json_next(&scan)) > KV_JSON_END) {
        char *out;
        int64_t i;
        double d;

        CHECK(scan.start >= before && scan.end > scan.start && scan.end <= len, "token bounds");
        before = scan.end;
        switch (token) {
        case KV_JSON_OBJECT:
        case KV_JSON_ARRAY:
            depth++;
            break;
        case KV_JSON_OBJECT_END:
        case KV_JSON_ARRAY_END:
            depth--;
            break;
        case KV_JSON_KEY:
        case KV_JSON_STRING:
            out = malloc(scan.end - scan.start);
            if (out == NULL)
                abort();
            {
                size_t n = kv_json_unescape(text + scan.start + 1, scan.end - scan.start - 2, out);
                CHECK(n <= scan.end - scan.start - 2, "unescape grows");
                CHECK(scan.escaped || n == scan.end - scan.start - 2, "escaped flag");
                CHECK(kv_json_utf8(out, n, NULL) == KV_JSON_OK, "unescaped is UTF-8");
            }
            free(out);
            break;
        case KV_JSON_NUMBER:
            CHECK(kv_json_number_parse(text + scan.start, scan.end - scan.start, &i, &d) > 0,
                  "number has a value: %.*s", (int)(scan.end - scan.start), text + scan.start);
            break;
        }
        CHECK(depth == scan.depth, "depth");
    }
    *err = scan.err;
    CHECK(kv_json_next(&scan) == token, "the end is sticky");
    return token == KV_JSON_END ? KV_JSON_OK : scan.err.code;
}

static void expect(const char *text, size_t len, int code, size_t offset)
{
    char *copy = exact(text, len);
    kv_json_error err = {-1, 0}, err2 = {-1, 0};
    int got = kv_json_check(copy, len, &err), got2 = walk(copy, len, &err2);

    CHECK(got == code, "%s instead of %s for %.*s", kv_json_strerror(got), kv_json_strerror(code),
          (int)(len > 200 ? 200 : len), text);
    CHECK(got == err.code && kv_json_check(copy, len, NULL) == got, "code in err");
    CHECK(got2 == got, "next says %s, check %s: %.*s", kv_json_strerror(got2),
          kv_json_strerror(got), (int)(len > 200 ? 200 : len), text);
    if (code != KV_JSON_OK) {
        CHECK(err.offset == offset, "offset %lu instead of %lu: %.*s", (unsigned long)err.offset,
              (unsigned long)offset, (int)(len > 200 ? 200 : len), text);
        CHECK(err2.offset == err.offset, "offset of next %lu, of check %lu: %.*s",
              (unsigned long)err2.offset, (unsigned long)err.offset, (int)(len > 200 ? 200 : len),
              text);
    }
    free(copy);
}

/* ---- corpus ------------------------------------------------------------------------------- */

struct sample {
    const char *text;
    size_t len;
    int code;
    size_t offset;
};

/* clang-format off */
#define GOOD(t)         {t, sizeof(t) - 1, KV_JSON_OK, 0}
#define BAD(t, code, o) {t, sizeof(t) - 1, KV_JSON_##code, o}
#define CUT(t)          {t, sizeof(t) - 1, KV_JSON_EEND, sizeof(t) - 1}
#define STR16           "0123456789abcdef"

static const struct sample corpus[] = {
    /* scalars */
    GOOD("null"), GOOD("true"), GOOD("false"), GOOD("0"), GOOD("1"), GOOD("-1"), GOOD("\"\""),
    GOOD("\"a\""), GOOD("[]"), GOOD("{}"), GOOD(" null "), GOOD("\t\n\r 1 \r\n\t"), GOOD(" []"),
    GOOD("{} "), GOOD("\n\n\"x\"\n"), GOOD("[ ]"), GOOD("{ }"), GOOD("[\n]"), GOOD("{\t}"),
    CUT(""), CUT(" "), CUT("\n\t \r"), CUT("n"), CUT("nu"), CUT("nul"), CUT("t"), CUT("tr"),
    CUT("tru"), CUT("f"), CUT("fa"), CUT("fal"), CUT("fals"),
    BAD("nulL", ESYNTAX, 3), BAD("Null", ESYNTAX, 0), BAD("TRUE", ESYNTAX, 0),
    BAD("True", ESYNTAX, 0), BAD("trux", ESYNTAX, 3), BAD("fulse", ESYNTAX, 1),
    BAD("nil", ESYNTAX, 1), BAD("nullx", ETAIL, 4), BAD("truefalse", ETAIL, 4),
    BAD("true false", ETAIL, 5), BAD("null null", ETAIL, 5), BAD("undefined", ESYNTAX, 0),
    BAD("NaN", ESYNTAX, 0), BAD("nan", ESYNTAX, 1), BAD("Infinity", ESYNTAX, 0),
    BAD("-Infinity", ENUMBER, 1), BAD("-NaN", ENUMBER, 1), BAD("inf", ESYNTAX, 0),
    BAD("'a'", ESYNTAX, 0), BAD("a", ESYNTAX, 0), BAD("#", ESYNTAX, 0), BAD("*", ESYNTAX, 0),
    BAD("(1)", ESYNTAX, 0), BAD("<null>", ESYNTAX, 0), BAD("\xef\xbb\xbf{}", ESYNTAX, 0),
    BAD("\xff\xfe{\0}\0", ESYNTAX, 0), BAD("\0", ESYNTAX, 0), BAD("1\0", ETAIL, 1),
    BAD("\f1", ESYNTAX, 0), BAD("\v1", ESYNTAX, 0), BAD("1\f", ETAIL, 1),
    BAD("\xc2\xa0""1", ESYNTAX, 0), BAD("\xe2\x80\xa8""1", ESYNTAX, 0), BAD("\x7f", ESYNTAX, 0),
    BAD("\\u0020", ESYNTAX, 0), BAD("// x\n1", ESYNTAX, 0), BAD("/* x */1", ESYNTAX, 0),
    BAD("1 // x", ETAIL, 2), BAD("1/**/", ETAIL, 1), BAD("1;", ETAIL, 1), BAD("1,", ETAIL, 1),
    BAD("1,2", ETAIL, 1), BAD("1 2", ETAIL, 2), BAD("\"a\"\"b\"", ETAIL, 3),
    BAD("\"a\" x", ETAIL, 4), BAD("[]]", ETAIL, 2), BAD("[][]", ETAIL, 2), BAD("{}}", ETAIL, 2),
    BAD("{}{}", ETAIL, 2), BAD("[],", ETAIL, 2), BAD("]", ESYNTAX, 0), BAD("}", ESYNTAX, 0),
    BAD(",", ESYNTAX, 0), BAD(":", ESYNTAX, 0), BAD("=", ESYNTAX, 0), BAD("\"a\":1", ETAIL, 3),

    /* numbers */
    GOOD("-0"), GOOD("10"), GOOD("1234567890"), GOOD("-1234567890"), GOOD("0.0"), GOOD("-0.0"),
    GOOD("0.5"), GOOD("1.25"), GOOD("-1.25"), GOOD("1e0"), GOOD("1E0"), GOOD("1e+0"),
    GOOD("1e-0"), GOOD("1e1"), GOOD("1E+1"), GOOD("1E-1"), GOOD("0e0"), GOOD("0E5"),
    GOOD("-0e-5"), GOOD("1.5e10"), GOOD("1.5E-10"), GOOD("1e00"), GOOD("1e007"), GOOD("1e-007"),
    GOOD("9223372036854775807"), GOOD("9223372036854775808"), GOOD("-9223372036854775808"),
    GOOD("-9223372036854775809"), GOOD("18446744073709551615"), GOOD("18446744073709551616"),
    GOOD("123456789012345678901234567890"), GOOD("0.00000000000000000000000000000001"),
    GOOD("1e308"), GOOD("1.7976931348623157e308"), GOOD("1.7976931348623158e308"),
    GOOD("179769313486231570e291"), GOOD("1e-308"), GOOD("2.2250738585072014e-308"),
    GOOD("4.9e-324"), GOOD("5e-324"), GOOD("1e-400"), GOOD("-1e-400"), GOOD("1e-99999"),
    GOOD("1e-99999999999999999999"), GOOD("0e99999"), GOOD("0e99999999999999999999999"),
    GOOD("0.0e999"), GOOD("-0e999"), GOOD("0.0001e311"), GOOD("1e+00000000000000000000001"),
    GOOD("123.456e-789"), GOOD("20e1"), GOOD("-1"), GOOD("[-0]"), GOOD("[1,-1]"),
    CUT("-"), CUT("1."), CUT("-1."), CUT("0."), CUT("1e"), CUT("1E"), CUT("1e+"), CUT("1e-"),
    CUT("1.5e"), CUT("1.5e-"), CUT("[-"), CUT("[1."), CUT("[1e"), CUT("{\"a\":-"),
    BAD("01", ETAIL, 1), BAD("00", ETAIL, 1), BAD("-01", ETAIL, 2), BAD("-00", ETAIL, 2),
    BAD("012", ETAIL, 1), BAD("+1", ESYNTAX, 0), BAD("++1", ESYNTAX, 0), BAD("--1", ENUMBER, 1),
    BAD("-+1", ENUMBER, 1), BAD("- 1", ENUMBER, 1), BAD(".5", ESYNTAX, 0),
    BAD("-.5", ENUMBER, 1), BAD("1.e5", ENUMBER, 2), BAD("1.,", ENUMBER, 2),
    BAD("1..5", ENUMBER, 2), BAD("1.5.5", ETAIL, 3), BAD("1.-5", ENUMBER, 2),
    BAD("1e5.5", ETAIL, 3), BAD("1e5e5", ETAIL, 3), BAD("1e+-5", ENUMBER, 3),
    BAD("1e ", ENUMBER, 2), BAD("1e a", ENUMBER, 2), BAD("1ea", ENUMBER, 2),
    BAD("1 e5", ETAIL, 2), BAD("1a", ETAIL, 1), BAD("0x10", ETAIL, 1), BAD("0X1", ETAIL, 1),
    BAD("0b1", ETAIL, 1), BAD("1_000", ETAIL, 1), BAD("1,000", ETAIL, 1), BAD("1f", ETAIL, 1),
    BAD("1L", ETAIL, 1), BAD("-x", ENUMBER, 1), BAD("-\"1\"", ENUMBER, 1), BAD("1\xc3\xa9", ETAIL, 1),
    BAD("[01]", ESYNTAX, 2), BAD("[1.]", ENUMBER, 3), BAD("[1.5e]", ENUMBER, 5),
    BAD("[-]", ENUMBER, 2), BAD("[+1]", ESYNTAX, 1), BAD("[1 2]", ESYNTAX, 3),
    BAD("[0e]", ENUMBER, 3), BAD("[0e+]", ENUMBER, 4), BAD("[.1]", ESYNTAX, 1),
    BAD("[1.0e+]", ENUMBER, 6), BAD("[2.e-3]", ENUMBER, 3), BAD("[-012]", ESYNTAX, 3),
    BAD("[1+2]", ESYNTAX, 2), BAD("[\xef\xbc\x91]", ESYNTAX, 1), BAD("[1\xef\xbc\x91]", ESYNTAX, 2),
    BAD("1e309", ERANGE, 0), BAD("-1e309", ERANGE, 0), BAD("1e999", ERANGE, 0),
    BAD("1.7976931348623159e308", ERANGE, 0), BAD("2e308", ERANGE, 0), BAD("1e9999999999", ERANGE, 0),
    BAD("1e99999999999999999999999", ERANGE, 0), BAD("[1, 1e999]", ERANGE, 4),
    BAD("{\"a\":-1e400}", ERANGE, 5), BAD("0.1e310", ERANGE, 0), GOOD("0.1e309"),

    /* strings */
    GOOD("\"\\\"\""), GOOD("\"\\\\\""), GOOD("\"\\/\""), GOOD("\"\\b\\f\\n\\r\\t\""),
    GOOD("\"\\u0000\""), GOOD("\"\\u0041\""), GOOD("\"\\u00e9\""), GOOD("\"\\u00E9\""),
    GOOD("\"\\uffff\""), GOOD("\"\\uFFFE\""), GOOD("\"\\ud7ff\""), GOOD("\"\\ue000\""),
    GOOD("\"\\ud83d\\ude00\""), GOOD("\"\\uD83D\\uDE00\""), GOOD("\"\\ud800\\udc00\""),
    GOOD("\"\\udbff\\udfff\""), GOOD("\"x\\ud83d\\ude00y\""), GOOD("\"/\""), GOOD("\"'\""),
    GOOD("\"\x7f\""), GOOD("\"\xc2\x80\""), GOOD("\"\xdf\xbf\""), GOOD("\"\xe0\xa0\x80\""),
    GOOD("\"\xed\x9f\xbf\""), GOOD("\"\xee\x80\x80\""), GOOD("\"\xef\xbf\xbf\""),
    GOOD("\"\xf0\x90\x80\x80\""), GOOD("\"\xf4\x8f\xbf\xbf\""), GOOD("\"\xe2\x80\xa8\xe2\x80\xa9\""),
    GOOD("\"\xef\xbb\xbf\""), GOOD("\"\xf0\x9f\x98\x80\xc3\xa9\""), GOOD("\"[{,:}]\""),
    GOOD("\"" STR16 "\""), GOOD("\"" STR16 STR16 "\""), GOOD("\"" STR16 "\xc3\xa9" STR16 "\""),
    GOOD("\"" STR16 "\\n" STR16 "\""), GOOD("\"01234567\""), GOOD("\"0123456\\n\""),
    GOOD("\"0123456789abcde\\\"\""), GOOD("\"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"\""),
    GOOD("\"\\u005c\""), GOOD("\"\\u0022\""), GOOD("\"\\u2028\\u2029\""), GOOD("\"\\u000a\""),
    CUT("\""), CUT("\"a"), CUT("\"" STR16), CUT("\"" STR16 "\\"), CUT("\"\\"), CUT("\"\\\""),
    CUT("\"\\u"), CUT("\"\\u0"), CUT("\"\\u00"), CUT("\"\\u004"), CUT("\"\\u0041"),
    CUT("\"\\ud83d"), CUT("\"\\ud83d\\"), CUT("\"\\ud83d\\u"), CUT("\"\\ud83d\\ud"),
    CUT("\"\\ud83d\\ude0"), CUT("\"\\ud83d\\ude00"), CUT("\"\xc3"), CUT("\"\xe2"),
    CUT("\"\xe2\x82"), CUT("\"\xf0"), CUT("\"\xf0\x9f"), CUT("\"\xf0\x9f\x98"), CUT("\"\xc3\xa9"),
    BAD("\"\n\"", ECONTROL, 1), BAD("\"\t\"", ECONTROL, 1), BAD("\"\0\"", ECONTROL, 1),
    BAD("\"a\x1f\"", ECONTROL, 2), BAD("\"\r\"", ECONTROL, 1), BAD("\"\b\"", ECONTROL, 1),
    BAD("\"" STR16 "\n\"", ECONTROL, 17), BAD("\"" STR16 "\x01" STR16 "\"", ECONTROL, 17),
    BAD("\"\\a\"", EESCAPE, 1), BAD("\"\\0\"", EESCAPE, 1), BAD("\"\\v\"", EESCAPE, 1),
    BAD("\"\\'\"", EESCAPE, 1), BAD("\"\\x41\"", EESCAPE, 1), BAD("\"\\U0041\"", EESCAPE, 1),
    BAD("\"\\N\"", EESCAPE, 1), BAD("\"\\\n\"", EESCAPE, 1), BAD("\"\\ \"", EESCAPE, 1),
    BAD("\"\\e\"", EESCAPE, 1), BAD("\"\\\xc3\xa9\"", EESCAPE, 1), BAD("\"\\\0\"", EESCAPE, 1),
    BAD("\"\\u\"", EESCAPE, 1), BAD("\"\\u1\"", EESCAPE, 1), BAD("\"\\u12\"", EESCAPE, 1),
    BAD("\"\\u123\"", EESCAPE, 1), BAD("\"\\u123g\"", EESCAPE, 1), BAD("\"\\u 123\"", EESCAPE, 1),
    BAD("\"\\u-123\"", EESCAPE, 1), BAD("\"\\u{41}\"", EESCAPE, 1), BAD("\"\\uG000\"", EESCAPE, 1),
    BAD("\"\\u00:0\"", EESCAPE, 1), BAD("\"\\u00@0\"", EESCAPE, 1), BAD("\"\\u00`0\"", EESCAPE, 1),
    BAD("\"\\ud800\"", EESCAPE, 1), BAD("\"\\udbff\"", EESCAPE, 1), BAD("\"\\udc00\"", EESCAPE, 1),
    BAD("\"\\udfff\"", EESCAPE, 1), BAD("\"\\ud800x\"", EESCAPE, 1), BAD("\"\\ud800\\n\"", EESCAPE, 1),
    BAD("\"\\ud800\\u0041\"", EESCAPE, 1), BAD("\"\\ud800\\ud800\"", EESCAPE, 1),
    BAD("\"\\ud800\\udbff\"", EESCAPE, 1), BAD("\"\\ud800\\ue000\"", EESCAPE, 1),
    BAD("\"\\udc00\\ud800\"", EESCAPE, 1), BAD("\"ab\\ud800\"", EESCAPE, 3),
    BAD("\"\\ud83d\\ude00\\ude00\"", EESCAPE, 13), BAD("\"\\ud83d\\ud83d\\ude00\"", EESCAPE, 1),
    BAD("\"\\ud83d\\u12\"", EESCAPE, 1), BAD("\"\\ud83d\\uxxxx\"", EESCAPE, 1),
    BAD("\"\\ud800\xc3\xa9\"", EESCAPE, 1),
    BAD("\"\x80\"", EUTF8, 1), BAD("\"\xbf\"", EUTF8, 1), BAD("\"a\x80\"", EUTF8, 2),
    BAD("\"\xc0\x80\"", EUTF8, 1), BAD("\"\xc1\xbf\"", EUTF8, 1), BAD("\"\xc2\"", EUTF8, 1),
    BAD("\"\xc2\xc2\"", EUTF8, 1), BAD("\"\xc3(\"", EUTF8, 1), BAD("\"\xe0\x80\x80\"", EUTF8, 1),
    BAD("\"\xe0\x9f\xbf\"", EUTF8, 1), BAD("\"\xe2\x82\"", EUTF8, 1), BAD("\"\xe2(\x82\"", EUTF8, 1),
    BAD("\"\xe2\x82(\"", EUTF8, 1), BAD("\"\xed\xa0\x80\"", EUTF8, 1), BAD("\"\xed\xbf\xbf\"", EUTF8, 1),
    BAD("\"\xed\xa0\xbd\xed\xb8\x80\"", EUTF8, 1), BAD("\"\xf0\x80\x80\x80\"", EUTF8, 1),
    BAD("\"\xf0\x8f\xbf\xbf\"", EUTF8, 1), BAD("\"\xf0\x9f\x98\"", EUTF8, 1),
    BAD("\"\xf0\x9f\x98(\"", EUTF8, 1), BAD("\"\xf4\x90\x80\x80\"", EUTF8, 1),
    BAD("\"\xf5\x80\x80\x80\"", EUTF8, 1), BAD("\"\xf8\x88\x80\x80\x80\"", EUTF8, 1),
    BAD("\"\xfc\x84\x80\x80\x80\x80\"", EUTF8, 1), BAD("\"\xfe\"", EUTF8, 1), BAD("\"\xff\"", EUTF8, 1),
    BAD("\"\xe9\"", EUTF8, 1), BAD("\"\xc3\xa9\xa9\"", EUTF8, 3),
    BAD("\"" STR16 "\xff" STR16 "\"", EUTF8, 17), BAD("\"\xc3\xa9" STR16 "\xc3\"", EUTF8, 19),

    /* arrays */
    GOOD("[1]"), GOOD("[1,2]"), GOOD("[ 1 , 2 ]"), GOOD("[[]]"), GOOD("[[],[]]"), GOOD("[{}]"),
    GOOD("[null,true,false,0,\"\",[],{}]"), GOOD("[\"a\",\"b\"]"), GOOD("[\r\n1,\r\n2\r\n]"),
    GOOD("[[[[[[[[[[]]]]]]]]]]"), GOOD("[1,[2,[3,[4]]]]"), GOOD("[-1,-2.5e3]"),
    CUT("["), CUT("[1"), CUT("[1,"), CUT("[1, "), CUT("[[]"), CUT("[[],"), CUT("[\"a"),
    CUT("[\"a\""), CUT("[n"), CUT("[ "), CUT("[{}"), CUT("[1 "),
    BAD("[,]", ESYNTAX, 1), BAD("[1,]", ESYNTAX, 3), BAD("[1,,2]", ESYNTAX, 3),
    BAD("[,1]", ESYNTAX, 1), BAD("[1}", ESYNTAX, 2), BAD("[}", ESYNTAX, 1), BAD("[1:2]", ESYNTAX, 2),
    BAD("[\"a\":1]", ESYNTAX, 4), BAD("[1;2]", ESYNTAX, 2), BAD("[a]", ESYNTAX, 1),
    BAD("[1 true]", ESYNTAX, 3), BAD("[1]]", ETAIL, 3), BAD("[[1]", EEND, 4), BAD("[1]x", ETAIL, 3),
    BAD("[\"a\",\n4\n,1,", EEND, 11), BAD("[1,\f2]", ESYNTAX, 3), BAD("[nul]", ESYNTAX, 4),
    BAD("[null,nul]", ESYNTAX, 9), BAD("[*]", ESYNTAX, 1), BAD("[\"\"", EEND, 3),
    BAD("[1,2,3,}", ESYNTAX, 7), BAD("[\\u0022]", ESYNTAX, 1), BAD("[1\0]", ESYNTAX, 2),
    BAD("[undefined]", ESYNTAX, 1), BAD("[...]", ESYNTAX, 1), BAD("[[}]", ESYNTAX, 2),

    /* objects */
    GOOD("{\"a\":1}"), GOOD("{ \"a\" : 1 }"), GOOD("{\"a\":1,\"b\":2}"), GOOD("{\"\":0}"),
    GOOD("{\"a\":{\"b\":{\"c\":[]}}}"), GOOD("{\"a\":1,\"a\":2}"), GOOD("{\"\\u0061\":1,\"a\":2}"),
    GOOD("{\"a\"\n:\n1\n,\n\"b\":[]}"), GOOD("{\"\xc3\xa9\":1}"), GOOD("{\"a\":[1,{\"b\":null}]}"),
    GOOD("{\"\\u0000\":1}"), GOOD("{\"" STR16 STR16 "\":\"" STR16 "\"}"), GOOD("{\"a\":{}}"),
    CUT("{"), CUT("{ "), CUT("{\""), CUT("{\"a"), CUT("{\"a\""), CUT("{\"a\" "), CUT("{\"a\":"),
    CUT("{\"a\": "), CUT("{\"a\":1"), CUT("{\"a\":1,"), CUT("{\"a\":1, "), CUT("{\"a\":{}"),
    BAD("{,}", ESYNTAX, 1), BAD("{\"a\"}", ESYNTAX, 4), BAD("{\"a\":}", ESYNTAX, 5),
    BAD("{\"a\":1,}", ESYNTAX, 7), BAD("{\"a\":1,,}", ESYNTAX, 7), BAD("{:1}", ESYNTAX, 1),
    BAD("{a:1}", ESYNTAX, 1), BAD("{'a':1}", ESYNTAX, 1), BAD("{1:1}", ESYNTAX, 1),
    BAD("{null:1}", ESYNTAX, 1), BAD("{[]:1}", ESYNTAX, 1), BAD("{{}:1}", ESYNTAX, 1),
    BAD("{\"a\" 1}", ESYNTAX, 5), BAD("{\"a\"::1}", ESYNTAX, 5), BAD("{\"a\",1}", ESYNTAX, 4),
    BAD("{\"a\"=1}", ESYNTAX, 4), BAD("{\"a\":1 \"b\":2}", ESYNTAX, 7), BAD("{\"a\":1]", ESYNTAX, 6),
    BAD("{]", ESYNTAX, 1), BAD("{\"a\":1:2}", ESYNTAX, 6), BAD("{\"a\":\"b\":1}", ESYNTAX, 8),
    BAD("{\"a\":1}}", ETAIL, 7), BAD("{\"a\":1};", ETAIL, 7), BAD("{\"a\":1}#", ETAIL, 7),
    BAD("{\"a\":1}/**/", ETAIL, 7), BAD("{\"a\":1 /**/}", ESYNTAX, 7), BAD("{\"a\":a}", ESYNTAX, 5),
    BAD("{\"\xff\":1}", EUTF8, 2), BAD("{\"\\ud800\":1}", EESCAPE, 2), BAD("{\"\n\":1}", ECONTROL, 2),
    BAD("{\"a\":01}", ESYNTAX, 6), BAD("{\"a\":nulL}", ESYNTAX, 8), BAD("{\"a\":1,2}", ESYNTAX, 7),
    BAD("{\"a\":1,\"b\"}", ESYNTAX, 10), BAD("{\"a\":[}", ESYNTAX, 6), BAD("{\"a\":[1}", ESYNTAX, 7),
    BAD("{\"a\"\0:1}", ESYNTAX, 4), BAD("{\"a\":tru}", ESYNTAX, 8),
};
/* clang-format on */

static void test_corpus(void)
{
    for (size_t n = 0; n < sizeof(corpus) / sizeof(*corpus); n++) {
        const struct sample *s = &corpus[n];
        char room[256];

        expect(s->text, s->len, s->code, s->offset);
        /* The same one level down, where a comma or bracket follows. */
        if (s->code == KV_JSON_OK) {
            size_t len = s->len + 4;
            room[0] = '[';
            memcpy(room + 1, s->text, s->len);
            memcpy(room + 1 + s->len, ",0]", 3);
            expect(room, len, KV_JSON_OK, 0);
        }
    }
}

/* ---- truncation, mutation, depth ---------------------------------------------------------- */

static const char document[] =
    " {\"name\" : \"J\\u00f6hn \xc3\xa9\\ud83d\\ude00\\n\", \"list\":[1, -2.5e+10,0.125, true "
    ",false,"
    "null,[],{}],\n\"nested\":{\"a\":[[[{\"b\":\"0123456789abcdef0123456789abcdef\"}]]]},\"\":-0}";

static void test_truncations(void)
{
    size_t len = sizeof(document) - 1;

    expect(document, len, KV_JSON_OK, 0);
    for (size_t n = 0; n < len; n++)
        expect(document, n, KV_JSON_EEND, n);
}

/* Whatever a text is turned into: check and next agree, and nothing is read outside. */
static void test_mutations(void)
{
    static const char alphabet[] =
        "{}[]:,\"\\/bfnrtu0123456789aAdDeE.+- \t\n\xc3\xa9\xed\xa0\xf4\xff";
    size_t len = sizeof(document) - 1;

    for (int round = 0; round < 40000; round++) {
        char *copy = exact(document, len);
        size_t cut = 1 + (size_t)(random64() % len);
        kv_json_error a = {-1, 0}, b = {-1, 0};
        int times = 1 + (int)(random64() % 4);
        char *shorter;

        while (times-- > 0)
            copy[random64() % len] = alphabet[random64() % (sizeof(alphabet) - 1)];
        shorter = exact(copy, round % 4 ? len : cut);
        len = round % 4 ? len : cut;
        kv_json_check(shorter, len, &a);
        walk(shorter, len, &b);
        CHECK(a.code == b.code && (a.code == KV_JSON_OK || a.offset == b.offset),
              "check %d at %lu, next %d at %lu: %.*s", a.code, (unsigned long)a.offset, b.code,
              (unsigned long)b.offset, (int)len, shorter);
        CHECK(a.code == KV_JSON_OK || a.offset <= len, "offset inside");
        free(shorter);
        free(copy);
        len = sizeof(document) - 1;
    }
}

static void test_depth(void)
{
    static const int depths[] = {1, 2, 64, 127, 128, 129, 130, 1000, 100000};

    for (size_t n = 0; n < sizeof(depths) / sizeof(*depths); n++) {
        size_t d = (size_t)depths[n];
        char *text = malloc(d * 7);
        size_t len;

        if (text == NULL)
            abort();
        memset(text, '[', d);
        memset(text + d, ']', d);
        expect(text, d * 2, d <= 128 ? KV_JSON_OK : KV_JSON_EDEPTH, 128);
        expect(text, d, d <= 128 ? KV_JSON_EEND : KV_JSON_EDEPTH, d <= 128 ? d : 128);
        len = 0;
        for (size_t i = 0; i < d; i++) {
            if (i + 1 < d) {
                memcpy(text + len, i % 2 ? "[" : "{\"\":", i % 2 ? 1 : 4);
                len += i % 2 ? 1 : 4;
            } else {
                memcpy(text + len, "[", 1);
                len++;
            }
        }
        for (size_t i = d; i-- > 0;)
            text[len++] = i + 1 < d && i % 2 == 0 ? '}' : ']';
        /* 64 pairs of { and [ : 5 bytes each */
        expect(text, len, d <= 128 ? KV_JSON_OK : KV_JSON_EDEPTH, 320);
        free(text);
    }
}

/* ---- strings ------------------------------------------------------------------------------ */

static void unescapes(const char *text, size_t len, const char *want, size_t want_len)
{
    char *copy = exact(text, len), *out = malloc(len + 1);
    size_t got;

    if (out == NULL)
        abort();
    got = kv_json_unescape(copy, len, out);
    CHECK(got == want_len && memcmp(out, want, want_len) == 0, "unescape %.*s", (int)len, text);
    got = kv_json_unescape(copy, len, copy);
    CHECK(got == want_len && memcmp(copy, want, want_len) == 0, "in place %.*s", (int)len, text);
    free(out);
    free(copy);
}

#define UNESCAPES(a, b) unescapes(a, sizeof(a) - 1, b, sizeof(b) - 1)

static void test_strings(void)
{
    UNESCAPES("", "");
    UNESCAPES("plain", "plain");
    UNESCAPES("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t");
    UNESCAPES("a\\u0000b", "a\0b");
    UNESCAPES("\\u0041\\u00e9\\u20ac", "A\xc3\xa9\xe2\x82\xac");
    UNESCAPES("\\u007f\\u0080\\u07ff\\u0800\\uffff",
              "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf");
    UNESCAPES("\\ud83d\\ude00!", "\xf0\x9f\x98\x80!");
    UNESCAPES("\\ud800\\udc00\\uDBFF\\uDFFF", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    UNESCAPES("\xc3\xa9\\n\xc3\xa9", "\xc3\xa9\n\xc3\xa9");

    /* Rubbish stays inside the buffers. */
    {
        static const char *const rubbish[] = {
            "\\",         "\\u",           "\\u1",         "\\u12x4", "\\ud800",
            "\\ud800\\u", "\\ud800xxxxxx", "\\ud800\\u00", "a\\"};
        for (size_t n = 0; n < sizeof(rubbish) / sizeof(*rubbish); n++) {
            size_t len = strlen(rubbish[n]);
            char *copy = exact(rubbish[n], len), *out = malloc(len);
            CHECK(out != NULL && kv_json_unescape(copy, len, out) <= len, "rubbish");
            free(out);
            free(copy);
        }
    }

    /* Every code point there and back, and every one that is none. */
    for (unsigned c = 0; c <= 0x10ffff; c++) {
        char utf8[4], text[16], out[16];
        size_t len, size;

        if (c >= 0xd800 && c < 0xe000)
            continue;
        if (c < 0x10000)
            len = (size_t)snprintf(text, sizeof(text), "\\u%04x", c);
        else
            len =
                (size_t)snprintf(text, sizeof(text), "\\u%04X\\u%04X",
                                 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
        len = kv_json_unescape(text, len, utf8);
        if (kv_json_utf8(utf8, len, NULL) != KV_JSON_OK || len != (size_t)(c < 0x80      ? 1
                                                                           : c < 0x800   ? 2
                                                                           : c < 0x10000 ? 3
                                                                                         : 4))
            CHECK(0, "code point %x", c);
        if (kv_json_escape_size(utf8, len, &size) != KV_JSON_OK ||
            kv_json_escape(utf8, len, out) != size || size > KV_JSON_ESCAPE_MAX(len) ||
            kv_json_unescape(out, size, out) != len || memcmp(out, utf8, len) != 0)
            CHECK(0, "escape of code point %x", c);
    }
    CHECK(1, "code points");

    /* Random bytes: size and text agree, the result is a valid string, and comes back equal. */
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)(random64() % 70), size = 0, bad = 0;
        char *bytes = malloc(len + 1), text[70 * 6 + 2], back[70 * 6];

        if (bytes == NULL)
            abort();
        for (size_t n = 0; n < len; n++)
            bytes[n] = (char)(random64() % 40 == 0 ? random64() % 0x80 : 0x20 + random64() % 0x5f);
        if (len >= 4 && round % 3 == 0)
            memcpy(bytes + random64() % (len - 3), "\xf0\x9f\x98\x80", 4);
        bytes = realloc(bytes, len + (len == 0));
        CHECK(kv_json_escape_size(bytes, len, &size) == KV_JSON_OK, "ASCII");
        CHECK(kv_json_utf8(bytes, len, NULL) == KV_JSON_OK, "ASCII");
        CHECK(kv_json_escape(bytes, len, text + 1) == size, "escape size");
        text[0] = text[size + 1] = '"';
        CHECK(kv_json_check(text, size + 2, NULL) == KV_JSON_OK, "escaped text is valid");
        CHECK(kv_json_unescape(text + 1, size, back) == len && memcmp(back, bytes, len) == 0,
              "escape and back");
        if (len > 0) {
            size_t at = (size_t)(random64() % len);
            bytes[at] = (char)0xff;
            CHECK(kv_json_escape_size(bytes, len, &size) == KV_JSON_EUTF8 && size <= at,
                  "bad byte");
            CHECK(kv_json_utf8(bytes, len, &bad) == KV_JSON_EUTF8 && bad == size, "same place");
        }
        free(bytes);
    }
    {
        char out[16];
        size_t n = kv_json_escape("\x01\x1f\x7f", 3, out);
        CHECK(n == 13 && memcmp(out, "\\u0001\\u001f\x7f", n) == 0, "control characters");
    }
}

/* Every two and three byte combination against a plain reading of the definition. */
static int plain_utf8(const unsigned char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
        unsigned c = s[i];
        size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
        if (n == 0 || i + n > len)
            return 0;
        if (n > 1)
            c &= 0x7fU >> n;
        for (size_t k = 1; k < n; k++) {
            if (s[i + k] >> 6 != 2)
                return 0;
            c = c << 6 | (s[i + k] & 0x3f);
        }
        if (c < least[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
            return 0;
        i += n;
    }
    return 1;
}

static void test_utf8(void)
{
    unsigned char s[6];
    size_t size;

    for (unsigned c = 0; c < 0x1000000; c += c < 0x800000 ? 257 : 1 + (c & 0xff) / 0xc0 * 0x40) {
        s[0] = (unsigned char)(c >> 16);
        s[1] = (unsigned char)(c >> 8);
        s[2] = (unsigned char)c;
        s[3] = 0x80;
        for (size_t len = 1; len <= 4; len++) {
            int want = plain_utf8(s, len);
            if ((kv_json_utf8((char *)s, len, NULL) == KV_JSON_OK) != want ||
                (kv_json_escape_size((char *)s, len, &size) == KV_JSON_OK) != want)
                CHECK(0, "utf8 %02x%02x%02x%02x of %d", s[0], s[1], s[2], s[3], (int)len);
        }
    }
    CHECK(1, "utf8");
}

/* ---- numbers ------------------------------------------------------------------------------ */

static int same(double a, double b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static void parses(const char *text, int kind, int64_t want_i, double want_d)
{
    char *copy = exact(text, strlen(text));
    int64_t i = 77;
    double d = 77;
    int got = kv_json_number_parse(copy, strlen(text), &i, &d);

    CHECK(got == kind, "%s is of kind %d", text, got);
    if (kind == KV_JSON_INTEGER)
        CHECK(i == want_i && same(d, (double)want_i), "%s", text);
    else if (kind == KV_JSON_DOUBLE)
        CHECK(i == 77 && same(d, want_d), "%s gives %.17g", text, d);
    else
        CHECK(i == 77 && d == 77, "%s sets nothing", text);
    free(copy);
}

static void formats(double d, int as_float, const char *want)
{
    char *buf = malloc(KV_JSON_NUMBER_MAX);
    size_t len;

    if (buf == NULL)
        abort();
    len = kv_json_number_format(d, as_float, buf);
    CHECK(len == strlen(want) && memcmp(buf, want, len) == 0, "%.*s instead of %s", (int)len, buf,
          want);
    free(buf);
}

static void round_trip(double d)
{
    char buf[KV_JSON_NUMBER_MAX], decimal[40];
    double back = 0;
    int64_t i = 0;
    size_t len = kv_json_number_format(d, 1, buf);
    int kind = kv_json_number_parse(buf, len, &i, &back);

    if (kind != KV_JSON_DOUBLE || !same(back, d))
        CHECK(0, "%.17g became %.*s", d, (int)len, buf);
    len = kv_json_number_format(d, 0, buf);
    kind = kv_json_number_parse(buf, len, &i, &back);
    if (kind < 0 || !same(back, d)) {
        CHECK(0, "%.17g became %.*s", d, (int)len, buf);
    } else if (kind == KV_JSON_INTEGER) {
        CHECK((double)i == d && fabs(d) <= 9007199254740992.0, "%.17g as an integer", d);
    }
    /* 17 digits must be read correctly whatever was printed, and be needed when printed. */
    len = (size_t)snprintf(decimal, sizeof(decimal), "%.16e", d);
    if (kv_json_number_parse(decimal, len, &i, &back) != KV_JSON_DOUBLE || !same(back, d))
        CHECK(0, "%s read as %.17g", decimal, back);
    snprintf(decimal, sizeof(decimal), "%.15g", d);
    if (fabs(d) < 1e18 && same(strtod(decimal, NULL), d)) {
        int digits = 0;
        len = kv_json_number_format(d, 0, buf);
        for (size_t n = 0; n < len && buf[n] != 'e'; n++)
            digits += buf[n] >= '0' && buf[n] <= '9' && !(digits == 0 && buf[n] == '0');
        if (digits > 15 && d != (double)(int64_t)d)
            CHECK(0, "%.*s is not the shortest, %s would do", (int)len, buf, decimal);
    }
    checks++;
}

static void test_numbers(void)
{
    static const char *const wrong[] = {"01",  "1.",  ".5",  "+1",  "1e",  "-",
                                        " 1",  "1 ",  "1x",  "0x1", "nan", "inf",
                                        "--1", "1,5", "1e+", "-e1", "1.e1"};
    double d;

    parses("0", KV_JSON_INTEGER, 0, 0);
    parses("-0", KV_JSON_DOUBLE, 0, -0.0);
    parses("-0.0", KV_JSON_DOUBLE, 0, -0.0);
    parses("-0e5", KV_JSON_DOUBLE, 0, -0.0);
    parses("0.0", KV_JSON_DOUBLE, 0, 0.0);
    parses("1", KV_JSON_INTEGER, 1, 0);
    parses("-1", KV_JSON_INTEGER, -1, 0);
    parses("1.0", KV_JSON_DOUBLE, 0, 1);
    parses("1e2", KV_JSON_DOUBLE, 0, 100);
    parses("9007199254740993", KV_JSON_INTEGER, INT64_C(9007199254740993), 0);
    parses("9223372036854775807", KV_JSON_INTEGER, INT64_MAX, 0);
    parses("-9223372036854775807", KV_JSON_INTEGER, -INT64_MAX, 0);
    parses("-9223372036854775808", KV_JSON_INTEGER, INT64_MIN, 0);
    parses("9223372036854775808", KV_JSON_DOUBLE, 0, 9223372036854775808.0);
    parses("-9223372036854775809", KV_JSON_DOUBLE, 0, -9223372036854775808.0);
    parses("18446744073709551609", KV_JSON_DOUBLE, 0, 18446744073709551616.0);
    parses("18446744073709551610", KV_JSON_DOUBLE, 0, 18446744073709551616.0);
    parses("18446744073709551615", KV_JSON_DOUBLE, 0, 18446744073709551616.0);
    parses("184467440737095516150", KV_JSON_DOUBLE, 0, 184467440737095516160.0);
    parses("100000000000000000000000", KV_JSON_DOUBLE, 0, 1e23);
    parses("0.1", KV_JSON_DOUBLE, 0, 0.1);
    parses("1e23", KV_JSON_DOUBLE, 0, 1e23);
    parses("8.5e22", KV_JSON_DOUBLE, 0, 8.5e22);
    parses("9007199254740993.0", KV_JSON_DOUBLE, 0, 9007199254740992.0);
    parses("9007199254740993.00000000000000000000000000000001", KV_JSON_DOUBLE, 0,
           9007199254740994.0);
    parses("9007199254740992.99999999999999999999999999999999", KV_JSON_DOUBLE, 0,
           9007199254740992.0);
    parses("1.7976931348623157e308", KV_JSON_DOUBLE, 0, DBL_MAX);
    parses("1.7976931348623158e308", KV_JSON_DOUBLE, 0, DBL_MAX);
    parses("1.7976931348623159e308", -KV_JSON_ERANGE, 0, 0);
    parses("-1.7976931348623159e308", -KV_JSON_ERANGE, 0, 0);
    parses("1e309", -KV_JSON_ERANGE, 0, 0);
    parses("1e999999999999999999999", -KV_JSON_ERANGE, 0, 0);
    parses("2.2250738585072014e-308", KV_JSON_DOUBLE, 0, DBL_MIN);
    parses("2.2250738585072011e-308", KV_JSON_DOUBLE, 0, 2.2250738585072011e-308);
    parses("5e-324", KV_JSON_DOUBLE, 0, 4.9406564584124654e-324);
    parses("2.4703282292062327e-324", KV_JSON_DOUBLE, 0, 0);
    parses("2.4703282292062328e-324", KV_JSON_DOUBLE, 0, 4.9406564584124654e-324);
    parses("1e-400", KV_JSON_DOUBLE, 0, 0);
    parses("-1e-400", KV_JSON_DOUBLE, 0, -0.0);
    parses("1e-99999999999999999999", KV_JSON_DOUBLE, 0, 0);
    parses("0e99999999999999999999", KV_JSON_DOUBLE, 0, 0);
    parses("", -KV_JSON_EEND, 0, 0);
    for (size_t n = 0; n < sizeof(wrong) / sizeof(*wrong); n++) {
        int64_t i;
        char *copy = exact(wrong[n], strlen(wrong[n]));
        CHECK(kv_json_number_parse(copy, strlen(wrong[n]), &i, &d) < 0, "%s", wrong[n]);
        free(copy);
    }

    /* Long spellings: many zeros in front, behind, and digits beyond what decides. */
    {
        char text[3000];
        int64_t i;
        memset(text, '0', sizeof(text));
        text[1] = '.';
        text[2000] = '1';
        memcpy(text + 2001, "e1999", 5);
        CHECK(kv_json_number_parse(text, 2006, &i, &d) == KV_JSON_DOUBLE && d == 1,
              "0.0...01e1999");
        memset(text, '0', sizeof(text));
        text[0] = '1';
        memcpy(text + 1000, "e-999", 5);
        CHECK(kv_json_number_parse(text, 1005, &i, &d) == KV_JSON_DOUBLE && d == 1, "10...0e-999");
        CHECK(kv_json_number_parse(text, 309, &i, &d) == KV_JSON_DOUBLE && d == 1e308,
              "1e308 spelled");
        CHECK(kv_json_number_parse(text, 310, &i, &d) == -KV_JSON_ERANGE, "1e309 spelled out");
        expect(text, 309, KV_JSON_OK, 0);
        expect(text, 310, KV_JSON_ERANGE, 0);
        /* 2^53 + 1 lies half-way; a digit a thousand places further decides. */
        memset(text, '0', sizeof(text));
        memcpy(text, "9007199254740993.", 17);
        text[2500] = '1';
        CHECK(kv_json_number_parse(text, 2500, &i, &d) == KV_JSON_DOUBLE && d == 9007199254740992.0,
              "half-way");
        CHECK(kv_json_number_parse(text, 2501, &i, &d) == KV_JSON_DOUBLE && d == 9007199254740994.0,
              "above half-way");
    }

    formats(0.0, 0, "0");
    formats(0.0, 1, "0.0");
    formats(-0.0, 1, "-0.0");
    formats(-0.0, 0, "-0");
    formats(1, 0, "1");
    formats(1, 1, "1.0");
    formats(-100, 0, "-100");
    formats(-100, 1, "-100.0");
    formats(0.1, 1, "0.1");
    formats(0.3, 0, "0.3");
    formats(0.30000000000000004, 0, "0.30000000000000004");
    formats(1.0 / 3, 0, "0.3333333333333333");
    formats(2.0 / 3, 0, "0.6666666666666666");
    formats(100.25, 0, "100.25");
    formats(19.99, 0, "19.99");
    formats(-1.5, 1, "-1.5");
    formats(123456789.125, 0, "123456789.125");
    formats(0.00001, 0, "0.00001");
    formats(0.000001, 0, "1e-6");
    formats(1.5e-7, 0, "1.5e-7");
    formats(1e15, 0, "1000000000000000");
    formats(9007199254740991.0, 1, "9007199254740991.0");
    formats(9007199254740992.0, 0, "9007199254740992");
    formats(-9007199254740992.0, 1, "-9007199254740992.0");
    formats(9007199254740994.0, 0, "9.007199254740994e15");
    formats(1e16, 0, "1e16");
    formats(1e17, 1, "1e17");
    formats(1152921504606846976.0, 1, "1.152921504606847e18");
    formats(1e21, 0, "1e21");
    formats(1e22, 0, "1e22");
    formats(1e23, 0, "1e23");
    formats(1e100, 0, "1e100");
    formats(DBL_MAX, 0, "1.7976931348623157e308");
    formats(-DBL_MAX, 1, "-1.7976931348623157e308");
    formats(DBL_MIN, 0, "2.2250738585072014e-308");
    formats(4.9406564584124654e-324, 0, "5e-324");
    formats(1e-320, 0, "1e-320");
    formats(5.684341886080802e-14, 0, "5.684341886080802e-14"); /* 2^-44 */
    formats(1e-7, 0, "1e-7");
    formats(9.5, 0, "9.5");
    formats(0.9999999999999999, 0, "0.9999999999999999");
    formats(9.999999999999998, 0, "9.999999999999998");
    formats(999999999999999.9, 0, "999999999999999.9");
    formats(4503599627370495.5, 0, "4503599627370495.5");
    formats((double)INFINITY, 0, "");
    formats(-(double)INFINITY, 1, "");
    formats((double)NAN, 1, "");

    for (int e = -1074; e < 1024; e++) {
        d = ldexp(1, e);
        round_trip(d);
        round_trip(nextafter(d, 0));
        round_trip(nextafter(d, DBL_MAX));
    }
    for (int e = -323; e <= 308; e++) {
        char text[16];
        snprintf(text, sizeof(text), "1e%d", e);
        d = strtod(text, NULL);
        round_trip(d);
        round_trip(nextafter(d, 0));
        round_trip(nextafter(d, DBL_MAX));
    }
    for (int n = 0; n < 60000; n++) {
        uint64_t bits = random64();
        memcpy(&d, &bits, sizeof(d));
        if (d == d && d >= -DBL_MAX && d <= DBL_MAX)
            round_trip(d);
        round_trip((double)(int64_t)bits);
        round_trip((double)(bits >> 11) / 9007199254740992.0);
        round_trip((double)(bits % 10000000) / 100);
        round_trip((double)(bits % 1000000) / 1000 * 1e-6);
        round_trip((double)(bits >> 11) / 1024 * (n & 1 ? 1e3 : 1e-9));
    }

    /* Random decimals of every length against strtod. */
    for (int n = 0; n < 60000; n++) {
        char text[64];
        size_t len = 0;
        int digits = 1 + (int)(random64() % 25), point = (int)(random64() % 25);
        int64_t i;
        double want;
        for (int k = 0; k < digits; k++) {
            text[len++] = (char)(k == 0 && digits > 1 && point != 1 ? '1' + random64() % 9
                                                                    : '0' + random64() % 10);
            if (k + 1 == point && k + 1 < digits)
                text[len++] = '.';
        }
        if (n % 2)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "e%d",
                                    (int)(random64() % (n % 3 ? 60 : 600)) - (n % 3 ? 30 : 320));
        text[len] = '\0';
        want = strtod(text, NULL);
        if (want > DBL_MAX)
            continue;
        if (kv_json_number_parse(text, len, &i, &d) < 0 || !same(d, want))
            CHECK(0, "%s read as %.17g, not %.17g", text, d, want);
        checks++;
    }

    for (int n = 0; n < 20000; n++) {
        int64_t want = (int64_t)random64() >> (random64() % 64), i = 0;
        char buf[KV_JSON_NUMBER_MAX], plain[32];
        size_t len;
        if (n == 0)
            want = INT64_MIN;
        if (n == 1)
            want = INT64_MAX;
        len = kv_json_integer_format(want, buf);
        snprintf(plain, sizeof(plain), "%lld", (long long)want);
        if (len != strlen(plain) || memcmp(buf, plain, len) != 0 ||
            kv_json_number_parse(buf, len, &i, &d) != KV_JSON_INTEGER || i != want)
            CHECK(0, "integer %s", plain);
        checks++;
    }
}

/* A locale with a decimal comma: one that is installed, or one made in `dir` for this test alone.
 */
static int decimal_comma(const char *dir)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "nl_NL.UTF-8", "de_DE"};
    char make[256];

    for (int made = 0; made < 2; made++) {
        for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++)
            if (setlocale(LC_ALL, names[n]) != NULL && *localeconv()->decimal_point == ',')
                return 1;
        snprintf(make, sizeof(make), "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null", dir);
        if (made || system(make) != 0 || setenv("LOCPATH", dir, 1) != 0)
            break;
    }
    setlocale(LC_ALL, "C");
    return 0;
}

/* Conversions do not look at the locale. */
static void test_locale(void)
{
    char dir[] = "/tmp/kv-locale-XXXXXX", drop[64];
    int set;

    if (mkdtemp(dir) == NULL) {
        CHECK(0, "no directory for a locale");
        return;
    }
    set = decimal_comma(dir);
    snprintf(drop, sizeof(drop), "rm -rf %s", dir);
    if (system(drop) != 0)
        CHECK(0, "%s is left", dir);
    if (!set) {
        printf("test_json: no decimal comma: neither such a locale nor what makes one is here\n");
        return;
    }
    parses("1.5", KV_JSON_DOUBLE, 0, 1.5);
    parses("1,5", -KV_JSON_ENUMBER, 0, 0);
    parses("1.2345678901234567e-300", KV_JSON_DOUBLE, 0, 12345678901234567e-316);
    parses("0.12345678901234567890123", KV_JSON_DOUBLE, 0, 0.12345678901234567890123);
    formats(1.5, 0, "1.5");
    formats(DBL_MIN, 0, "2.2250738585072014e-308");
    formats(DBL_MAX, 0, "1.7976931348623157e308");
    formats(4.9406564584124654e-324, 0, "5e-324");
    formats(0.30000000000000004, 1, "0.30000000000000004");
    setlocale(LC_ALL, "C");
    printf("test_json: decimal comma tried\n");
}

int main(void)
{
    const char *given = getenv("SEED");

    seed = given != NULL ? strtoull(given, NULL, 10) : UINT64_C(20240607);
    printf("test_json: SEED=%llu\n", (unsigned long long)seed);
    CHECK(sizeof(corpus) / sizeof(*corpus) >= 300, "corpus of %d",
          (int)(sizeof(corpus) / sizeof(*corpus)));
    test_corpus();
    test_truncations();
    test_mutations();
    test_depth();
    test_strings();
    test_utf8();
    test_numbers();
    test_locale();
    printf("test_json: %lu checks\n", checks);
    if (failures > 0)
        printf("test_json: %lu FAILED\n", failures);
    return failures > 0;
}
