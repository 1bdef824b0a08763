/* SPDX-License-Identifier: MIT
 *
 * test_lua_record.c - records as text, without Lua: what is written is read back; a text that ends
 * too early is told from one that is wrong; nothing is read beyond the text.
 *
 * Texts are mutated by chance and cut everywhere. What is said of a beginning must hold for the
 * whole: only MORE may become something else when more comes. SEED=n repeats a run.
 */
#define _GNU_SOURCE
#include "check.h"
#include "image.h"
#include "lua_record.c" /* of the binding, but it knows nothing of Lua */

static const char *const seeds[] = {
    "{\"key\":\"k\",\"type\":\"string\",\"value\":\"v\\u00e9\\ud83d\\ude00\\n\",\"metadata\":{"
    "\"a\" : [1, "
    "2]},\"expiration\":4102444800.125}",
    "{\"key\":\"YWI=\",\"key_base64\":true,\"value\":\"AAH/\",\"base64\":true,\"type\":\"string\"}",
    "{ \"key\" : \"n\" , \"type\" : \"integer\" , \"value\" : -9223372036854775808 }",
    "{\"key\":\"f\",\"type\":\"number\",\"value\":1.5e-7}",
    "{\"key\":\"d\",\"type\":\"json\",\"value\":{\"a\":[1,{\"b\":null}],\"c\":\"\\\\\\\"\"}}",
    "{\"key\":\"t\",\"type\":\"json\",\"text\":\" {\\n\\\"a\\\": 1}\"}",
    "{\"key\":\"w\",\"value\":true,\"expiration_ttl\":60,\"metadata\":null}",
    "{\"value\":null,\"key\":\"\xc3\xa9\"}",
    "5",
    "[1,2]",
    "{}",
};
#define SEEDS (sizeof seeds / sizeof seeds[0])

typedef struct verdict {
    int r, code, syntax;
    size_t pos;
    uint64_t lines;
    kv_item item;
} verdict;

/* Reads the first n bytes of a text, in memory of just that size, which *copy owns then. */
static verdict look(const char *text, size_t n, int final, int member, char **copy)
{
    kv_lua_text t = {0};
    kv_lua_fault f = {0};
    verdict v;

    memset(&v, 0, sizeof v);
    t.p = malloc(n ? n : 1);
    if (t.p == NULL)
        abort();
    memcpy(t.p, text, n);
    t.len = n;
    t.final = final;
    v.r = member ? kv_lua_member_read(&t, member > 1, &v.item, &f)
                 : kv_lua_record_read(&t, 1000, &v.item, &f);
    if (v.r == KV_TEXT_FAULT) {
        v.code = f.code;
        v.syntax = f.syntax;
    }
    v.pos = v.r == KV_TEXT_OK || !v.syntax ? t.pos : 0;
    v.lines = v.r == KV_TEXT_OK ? t.lines : 0;
    *copy = t.p;
    return v;
}

static int same_bytes(const char *a, size_t n, const char *b, size_t m)
{
    return n == m && (n == 0 || memcmp(a, b, n) == 0);
}

static int same(const verdict *a, const verdict *b)
{
    const kv_value *x = &a->item.value, *y = &b->item.value;

    if (a->r != b->r || a->code != b->code || a->syntax != b->syntax || a->pos != b->pos)
        return 0;
    if (a->r != KV_TEXT_OK)
        return 1;
    return a->lines == b->lines && same_bytes(a->item.key, a->item.len, b->item.key, b->item.len) &&
           x->type == y->type && x->integer == y->integer &&
           memcmp(&x->number, &y->number, 8) == 0 && same_bytes(x->data, x->len, y->data, y->len) &&
           a->item.write.flags == b->item.write.flags &&
           a->item.write.expires == b->item.write.expires &&
           same_bytes(a->item.write.meta, a->item.write.meta_len, b->item.write.meta,
                      b->item.write.meta_len);
}

/* Every beginning of the text says MORE or what the whole says. */
static void cut_everywhere(const char *text, size_t n, int member)
{
    char *whole_copy, *copy;
    verdict whole = look(text, n, 1, member, &whole_copy), part;
    size_t at;

    CHECK(whole.r != KV_TEXT_MORE && whole.pos <= n);
    for (at = 0; at <= n; at++) {
        part = look(text, at, 0, member, &copy);
        if (part.r != KV_TEXT_MORE && !CHECK(same(&part, &whole)))
            fprintf(stderr, "  %zu of: %.*s\n", at, (int)n, text);
        free(copy);
    }
    free(whole_copy);
}

static void test_pieces(int rounds)
{
    static const char odd[] = "{}[]\",:\\u0\n tfn-1.e+5\xc3\xa9\xff\0b";
    char text[512];
    size_t n, i;
    int round, changes;

    for (round = 0; round < rounds; round++) {
        const char *seed = seeds[image_below(SEEDS)];
        n = strlen(seed);
        memcpy(text, seed, n);
        for (changes = (int)image_below(4); changes > 0; changes--) {
            i = (size_t)image_below(n);
            switch (image_below(4)) {
            case 0:
                text[i] = odd[image_below(sizeof odd)];
                break;
            case 1:
                memmove(text + i, text + i + 1, n - i - 1);
                n -= n > 1;
                break;
            case 2:
                memmove(text + i + 1, text + i, n - i);
                text[i] = odd[image_below(sizeof odd)];
                n++;
                break;
            default:
                text[i] = (char)(text[i] ^ 1 << image_below(8));
            }
        }
        cut_everywhere(text, n, 0);
        if (round % 4 == 0 && n > 1) /* the members of an object, from behind its bracket */
            cut_everywhere(text + 1, n - 1, 1 + (round & 1));
    }
}

/* Any record, written and read, is the same. */
static void test_round_trip(int rounds)
{
    static const char *const documents[] = {"{}", "[1, 2]", " 1", "\"s\"", "{\"a\":\n1}", "null\r"};
    char key[40], bytes[300];
    kv_lua_out o = {0};
    kv_lua_text t;
    kv_lua_fault f;
    kv_record r;
    kv_item item;
    size_t i;
    int round;

    for (round = 0; round < rounds; round++) {
        int utf8 = round % 3 != 0;
        memset(&r, 0, sizeof r);
        r.key = key;
        r.key_len = 1 + (uint32_t)image_below(sizeof key);
        for (i = 0; i < sizeof key; i++)
            key[i] = (char)image_below(utf8 ? 128 : 256);
        for (i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)image_below(round % 5 ? 128 : 256);
        r.value.type = 1 + (int)image_below(6);
        r.value.integer =
            r.value.type == KV_BOOLEAN ? (int64_t)image_below(2) : (int64_t)image_random();
        r.value.number = (double)(int64_t)image_random() / 1024;
        r.value.data = bytes;
        r.value.len = (uint32_t)image_below(sizeof bytes);
        if (r.value.type == KV_JSON) {
            r.value.data = documents[image_below(6)];
            r.value.len = (uint32_t)strlen(r.value.data);
        }
        if (image_below(2)) {
            r.meta = "{\"m\":\"x y\"}";
            r.meta_len = 11;
        }
        if (image_below(2))
            r.expires = 1 + (int64_t)image_below(KV_MAX_TIME);
        o.len = 0;
        CHECK(kv_lua_record_write(&o, &r) == KV_OK);
        CHECK(o.p[o.len - 1] == '\n' && memchr(o.p, '\n', o.len) == o.p + o.len - 1);
        memset(&t, 0, sizeof t);
        t.p = o.p;
        t.len = o.len;
        t.final = 1;
        if (!CHECK(kv_lua_record_read(&t, 0, &item, &f) == KV_TEXT_OK)) {
            fprintf(stderr, "  %s\n", f.why);
            continue;
        }
        CHECK(same_bytes(item.key, item.len, r.key, r.key_len));
        CHECK(item.value.type == r.value.type);
        if (r.value.type == KV_STRING || r.value.type == KV_JSON)
            CHECK(same_bytes(item.value.data, item.value.len, r.value.data, r.value.len));
        if (r.value.type == KV_INTEGER || r.value.type == KV_BOOLEAN)
            CHECK(item.value.integer == r.value.integer);
        if (r.value.type == KV_NUMBER)
            CHECK(memcmp(&item.value.number, &r.value.number, 8) == 0);
        CHECK(same_bytes(item.write.meta, item.write.meta_len, r.meta, r.meta_len));
        CHECK((item.write.flags & KV_EXPIRATION ? item.write.expires : 0) == r.expires);
    }
    free(o.p);
}

int main(void)
{
    image_start("test_lua_record");
    test_pieces(image_steps(20000));
    test_round_trip(image_steps(50000));
    return check_done("test_lua_record");
}
