/* SPDX-License-Identifier: MIT
 *
 * lua_record.h - a record as text: what a file of export looks like, and what import understands.
 *
 * Three forms. "ndjson", lossless, a record a line (members in this order, the last five only when
 * there is something to say):
 *
 *   {"key":"k","type":"string","value":"v","base64":true,"key_base64":true,"metadata":{},"expiration":1.5}
 *
 *   type        "string" "integer" "number" "boolean" "null" "json"
 *   value       a string; a document as it is; base64 of a string that is not UTF-8, with "base64"
 *   text        instead of value: a document with line breaks or space around it, as a string
 *   key         base64 of one that is not UTF-8, with "key_base64"
 *   expiration  seconds since 1970
 *
 * "json", Lux's: {"k":"v"}, members of one object. The wrangler list: an array of objects like
 * those of ndjson, in which type is usually missing and "expiration_ttl" (seconds) may be there.
 *
 * Pure functions on bytes that call neither Lua nor the store.
 */
#ifndef KV_LUA_RECORD_H
#define KV_LUA_RECORD_H

#include "json.h"
#include "kv.h"

#pragma GCC visibility push(hidden)

/* Input as far as it has come. Strings are decoded in place, so what was read once is not there to
 * be read again. */
typedef struct kv_lua_text {
    char *p;
    size_t len, pos;
    uint64_t lines; /* line breaks before pos */
    int final;      /* nothing follows p[len - 1] */
} kv_lua_text;

/* What is wrong with it. */
typedef struct kv_lua_fault {
    int code;     /* KV_E* */
    int syntax;   /* where the record ends is not known */
    size_t at;    /* offset of the byte, with `syntax` */
    char why[96]; /* in words */
} kv_lua_fault;

/* What reading gives: MORE means that it must be tried again, from where it began, when there is
 * more input. On FAULT pos is behind the record, unless the fault is one of syntax. */
enum { KV_TEXT_MORE, KV_TEXT_OK, KV_TEXT_FAULT };

/* An object that is a record; what the item points to lies in the text. now: ms, what a ttl counts
 * from. */
int kv_lua_record_read(kv_lua_text *t, int64_t now, kv_item *item, kv_lua_fault *f);
/* A member of an object of keys and values; as_text: the value's JSON text as a string. */
int kv_lua_member_read(kv_lua_text *t, int as_text, kv_item *item, kv_lua_fault *f);
/* Passes over white space; the next byte, or MORE: -1, or at the end: -2. */
int kv_lua_text_next(kv_lua_text *t);
/* Whether the object at the beginning of the text is a record and not one of keys and values:
 * KV_TEXT_OK, KV_TEXT_FAULT (it is not), or MORE. */
int kv_lua_text_is_record(const kv_lua_text *t);

/* Whether what is there, though it has no end yet, can no longer become JSON. */
int kv_lua_text_is_broken(const kv_lua_text *t, kv_lua_fault *f);

/* Text being made. */
typedef struct kv_lua_out {
    char *p; /* malloc */
    size_t len, room;
} kv_lua_out;

/* KV_OK, KV_ENOMEM; of a member also KV_EUNSUPPORTED: key or value is not UTF-8 (what: which). */
int kv_lua_out_add(kv_lua_out *o, const char *s, size_t len);
int kv_lua_record_write(kv_lua_out *o, const kv_record *r);
int kv_lua_member_write(kv_lua_out *o, const kv_record *r, const char **what);

#pragma GCC visibility pop
#endif
