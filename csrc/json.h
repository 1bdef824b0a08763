/* SPDX-License-Identifier: MIT */
/*
 * json.h - a scanner for JSON text (RFC 8259), and exact conversion of strings and numbers.
 *
 * Knows neither the store nor Lua.  Allocates nothing, never recurses, keeps no state between
 * calls, is independent of the process locale; any thread may call anything at any time.
 */
#ifndef KV_JSON_H
#define KV_JSON_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* Containers may be nested this deep: `[` 128 times is accepted, 129 times is KV_JSON_EDEPTH. */
#define KV_JSON_DEPTH 128

/*
 * What "valid" means is one notion for every call below: a text that kv_json_check accepts can be
 * walked by kv_json_next to its end, and each of its numbers has a value.  Therefore a number too
 * large for a double (1e999) is refused already by the check, although the grammar allows it;
 * one too small (1e-999) is 0.
 */
enum {
    KV_JSON_OK = 0,
    KV_JSON_EEND,     /* the text ends where something is still missing; offset == its length */
    KV_JSON_ESYNTAX,  /* a byte that cannot stand there */
    KV_JSON_ETAIL,    /* something follows the value */
    KV_JSON_ENUMBER,  /* a number is spelled wrongly: 1. or .5 or -x */
    KV_JSON_ERANGE,   /* a number is too large for a double */
    KV_JSON_ECONTROL, /* an unescaped control character in a string */
    KV_JSON_EESCAPE,  /* no such escape, or half of a surrogate pair; offset of its backslash */
    KV_JSON_EUTF8,    /* a string is not UTF-8; offset of the first byte of the bad sequence */
    KV_JSON_EDEPTH,   /* nested deeper than KV_JSON_DEPTH */
    /* Of paths and edits (json_edit.h): */
    KV_JSON_EPATH,    /* a path is spelled wrongly */
    KV_JSON_EMISSING, /* nothing is there, and nothing may be made */
    KV_JSON_EEXISTS,  /* something is there */
    KV_JSON_EOBJECT,  /* not an object */
    KV_JSON_EARRAY,   /* not an array */
    KV_JSON_ESTRING,  /* not a string */
    KV_JSON_EBOOLEAN, /* neither true nor false */
    KV_JSON_EADD,     /* not a number */
    KV_JSON_EINDEX    /* an index beyond the array, or a sum beyond its type */
};

/* What is wrong, and the 0-based offset of the byte where. */
typedef struct kv_json_error {
    int code;
    size_t offset;
} kv_json_error;

/* A few words of English for a code; never NULL. */
const char *kv_json_strerror(int code);

/*
 * Is the text exactly one JSON value, white space around it allowed?  Returns KV_JSON_OK or the
 * code; *err (may be NULL) is set in either case.
 */
int kv_json_check(const char *text, size_t len, kv_json_error *err);

/*
 * The same for the value that a text begins with: *span is where it ends, whatever follows. A
 * number that the text ends with may be the beginning of a longer one.
 */
int kv_json_span(const char *text, size_t len, size_t *span, kv_json_error *err);

/*
 * How many elements or members the text has, which is an array or an object and known to be valid,
 * without white space in front; quicker than a scan.  0 for anything else.
 */
size_t kv_json_count(const char *text, size_t len);

/* Tokens.  A key's token includes neither its colon nor white space. */
enum {
    KV_JSON_FAIL = -1, /* see scan.err; every further call gives the same */
    KV_JSON_END = 0,   /* the value is complete and nothing follows; so does every further call */
    KV_JSON_OBJECT,    /* { */
    KV_JSON_OBJECT_END,
    KV_JSON_ARRAY, /* [ */
    KV_JSON_ARRAY_END,
    KV_JSON_KEY, /* the colon behind it is consumed as well: a value comes next */
    KV_JSON_STRING,
    KV_JSON_NUMBER,
    KV_JSON_TRUE,
    KV_JSON_FALSE,
    KV_JSON_NULL
};

/*
 * A scan hands out a text token by token.  The text must stay where it is and unchanged.  All
 * members may be read, none written: the token is text[start .. end), with the quotes for a KEY
 * or STRING, whose content is therefore text[start+1 .. end-1).  `depth` counts the containers
 * open after the token.  Plain data: a copy of the struct is a bookmark to continue from.
 */
typedef struct kv_json_scan {
    const char *text;
    size_t len;
    size_t start, end;
    size_t pos; /* where the next token is looked for */
    int depth;
    unsigned char escaped;             /* KEY, STRING: has escapes, so needs kv_json_unescape */
    unsigned char state;               /* private: what may come next */
    unsigned char open[KV_JSON_DEPTH]; /* KV_JSON_OBJECT or KV_JSON_ARRAY, the outermost first */
    kv_json_error err;
} kv_json_scan;

void kv_json_scan_init(kv_json_scan *scan, const char *text, size_t len);
int kv_json_next(kv_json_scan *scan);

/*
 * Decode the content of a string token into out, which has room for len bytes (no escape grows)
 * and may be `text` itself.  Returns the length.  The content must be one that the scanner
 * accepted; anything else gives some bytes, but stays within both buffers.
 */
size_t kv_json_unescape(const char *text, size_t len, char *out);
size_t kv_json_unescaped_size(const char *text, size_t len); /* what that would return */

/*
 * The reverse: kv_json_escape_size checks that the bytes are UTF-8 and says how long they get
 * without the quotes (*size == len: nothing needs an escape, they can be copied as they are);
 * kv_json_escape writes them into out and returns that length, which is never more than
 * KV_JSON_ESCAPE_MAX(len).  Quotes, backslashes and control characters are escaped, the rest is
 * taken over as it is.  kv_json_escape_size gives KV_JSON_OK or KV_JSON_EUTF8, and then in *size
 * the offset of the bad sequence.
 */
#define KV_JSON_ESCAPE_MAX(len) ((size_t)6 * (len))
int kv_json_escape_size(const char *bytes, size_t len, size_t *size);
size_t kv_json_escape(const char *bytes, size_t len, char *out);

/*
 * KV_JSON_OK when the bytes are UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF),
 * else KV_JSON_EUTF8 and in *bad (may be NULL) the offset of the bad sequence.
 */
int kv_json_utf8(const char *bytes, size_t len, size_t *bad);

/* Kinds of numbers; the negated KV_JSON_E code otherwise. */
enum { KV_JSON_INTEGER = 1, KV_JSON_DOUBLE = 2 };

/*
 * The value of a number's text (all of it; no white space).  KV_JSON_INTEGER: no fraction, no
 * exponent and it fits; *i is the value and *d the double nearest to it.  KV_JSON_DOUBLE: all
 * others, and -0; *d is the correctly rounded value, *i untouched.  Otherwise -KV_JSON_ENUMBER,
 * -KV_JSON_EEND (empty or cut off) or -KV_JSON_ERANGE, with nothing set.
 */
int kv_json_number_parse(const char *text, size_t len, int64_t *i, double *d);

/*
 * The shortest digits that read back as exactly this double (at most 17), into buf, which has room
 * for KV_JSON_NUMBER_MAX; returns the length (no NUL is written), 0 for NaN and infinities, which
 * JSON cannot spell.  Integral values up to 2^53 are spelled out, with ".0" behind when as_float
 * is set, so that they read back as KV_JSON_DOUBLE; larger ones always get an exponent, because
 * the shortest digits filled up with zeros would read back as some other integer.
 */
#define KV_JSON_NUMBER_MAX 32
size_t kv_json_number_format(double value, int as_float, char *buf);
size_t kv_json_integer_format(int64_t value, char *buf);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
