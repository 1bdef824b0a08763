/* SPDX-License-Identifier: MIT */
/*
 * json_edit.h - finding a place in a JSON text by its path, and changing the text there.
 *
 * Whatever the edit, it is one splice: some bytes go, others come, all the rest stays as it is.
 * As json.h: no allocation, no recursion, no state.  The documents given are taken to be valid, as
 * kv_json_check says; for one that is not, the result is some text or some error, but nothing
 * outside the text is read or written.
 */
#ifndef KV_JSON_EDIT_H
#define KV_JSON_EDIT_H

#include "json.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* ---- paths ------------------------------------------------------------------------------ */

enum {
    KV_JSON_BY_KEY,   /* a member of an object */
    KV_JSON_BY_INDEX, /* an element of an array */
    KV_JSON_BY_EITHER /* of a pointer: an index where there is an array, else a key */
};

/* How a key is spelled in a path: as it is, as in a JSON string, or with ~0 and ~1. */
enum { KV_JSON_PLAIN, KV_JSON_QUOTED, KV_JSON_POINTER };

/* The index behind the last element: `-` of a pointer. No other index is that large. */
#define KV_JSON_BEHIND INT64_MAX

typedef struct kv_json_step {
    const char *name; /* KEY, EITHER; leads into the path's text */
    size_t len;
    int64_t index; /* INDEX, EITHER; below 0: from the end */
    unsigned char by, spelled;
} kv_json_step;

typedef struct kv_json_path {
    size_t count;
    kv_json_step step[KV_JSON_DEPTH];
} kv_json_path;

/*
 * Reads a path, which must stay where it is while *path is used:
 *   name.name[0]["any string"]   names of bytes other than . [ ] ", not beginning with a slash
 *   /pointer/of/RFC 6901         "" is the document in either form
 * KV_JSON_EPATH and the offset of what cannot stand there, or KV_JSON_EDEPTH: more steps than any
 * document has levels.
 */
int kv_json_path_read(const char *text, size_t len, kv_json_path *path, kv_json_error *err);

/* ---- places ----------------------------------------------------------------------------- */

/* All offsets into the text. */
typedef struct kv_json_place {
    size_t steps;      /* so many steps of the path lead somewhere: */
    size_t start, end; /* to this value */

    /* The last of these steps led to an item, in the container that holds it: */
    size_t item;   /* where it begins: its key's quote, or the value */
    size_t before; /* the end of the item before it; 0: it is the first */
    size_t after;  /* the start of the next one; 0: it is the last */
    size_t holder; /* the container's bracket */
    size_t twins;  /* members before it with the same key, which no reader sees */

    /* When the next step leads nowhere because [start, end), a container, has no such item: */
    size_t items; /* how many it has */
    size_t tail;  /* the end of the last one; or what follows the opening bracket */
} kv_json_place;

/*
 * Follows the first `count` steps.  KV_JSON_OK: they lead to [start, end).  KV_JSON_EMISSING: they
 * lead to a container without the next.  KV_JSON_EOBJECT, KV_JSON_EARRAY: they lead to something
 * that has no keys or no indexes.  In each case *place says how far.  Another code: the text is no
 * JSON.
 */
int kv_json_find(const char *text, size_t len, const kv_json_path *path, size_t count,
                 kv_json_place *place);

/* One more step, into the array at place->start. */
int kv_json_element(const char *text, size_t len, int64_t index, kv_json_place *place);

/* Sets `items` and `tail` for the container at place->start. */
int kv_json_items(const char *text, size_t len, kv_json_place *place);

/* How many containers are open at most within the text. */
size_t kv_json_depth(const char *text, size_t len);

/* ---- edits ------------------------------------------------------------------------------ */

/* text[at, at + del) is to become `size` other bytes. The rest is for kv_json_splice_apply. */
typedef struct kv_json_splice {
    size_t at, del, size;
    const kv_json_path *path; /* steps from `from` on are made, around the value */
    size_t from, upto;
    unsigned char inside; /* the container of the first of them is there: 1 an object, 2 an array */
    unsigned char comma;  /* 1: one in front, 2: one behind */
    unsigned char wrap;   /* brackets around the value */
    const char *value;
    size_t value_len;
} kv_json_splice;

/* Does it; text has room for len - del + size bytes. Returns that length. */
size_t kv_json_splice_apply(char *text, size_t len, const kv_json_splice *s);

enum {
    KV_JSON_SET = 1,
    KV_JSON_INCREMENT,
    KV_JSON_PUSH,
    KV_JSON_EXTEND, /* by the elements of `value`, an array */
    KV_JSON_INSERT, /* before the element that the path leads to */
    KV_JSON_POP,    /* of the array that the path leads to, element `index` */
    KV_JSON_REMOVE, /* all members with the key; at least one step */
    KV_JSON_TOGGLE,
    KV_JSON_APPEND /* to a string the content of `value`, a JSON string */
};

typedef struct kv_json_edit {
    int op;
    int create;        /* what is missing may be made; counts as 0, [], "" or false */
    int exist, absent; /* else KV_JSON_EMISSING, KV_JSON_EEXISTS */
    const char *value; /* JSON text, without white space around it */
    size_t value_len;
    int64_t index;
    int kind; /* INCREMENT: KV_JSON_INTEGER or KV_JSON_DOUBLE, and the number to add; then the sum
               */
    int64_t integer;
    double number;

    /* What it comes to: */
    size_t length;     /* PUSH, EXTEND, INSERT: elements; APPEND: bytes */
    int truth;         /* TOGGLE */
    size_t start, end; /* POP, REMOVE: the value that goes */
    size_t twins;      /* REMOVE: others to remove, with kv_json_remove_all and not the splice */
    size_t holder;     /* in the object here */
    char digits[KV_JSON_NUMBER_MAX];
} kv_json_edit;

/*
 * What the edit comes to on this document (len 0: there is none yet).  The text is not changed.
 * The splice refers to path, value and *e.  KV_JSON_OK or one of the codes: KV_JSON_EMISSING
 * (also: nothing to pop or remove), KV_JSON_EEXISTS, KV_JSON_EDEPTH, KV_JSON_EPATH (INSERT: the
 * last step is no index), the E of a wrong type, KV_JSON_EINDEX.
 */
int kv_json_plan(const char *text, size_t len, const kv_json_path *path, kv_json_edit *e,
                 kv_json_splice *s);

/* Takes every member with the key of the path's last step out of the object at text[holder].
 * Returns the new length. */
size_t kv_json_remove_all(char *text, size_t len, size_t holder, const kv_json_step *step);

/*
 * RFC 7396: merges the patch into the text (len 0: none), which has room for
 * KV_JSON_MERGED_MAX(len, patch_len) bytes.  KV_JSON_OK and the new length in *len, or a code of
 * the scanner for one of the two: nothing was done if it is about the patch, which is checked
 * first; if it is about the text, some of it may be.
 */
#define KV_JSON_MERGED_MAX(len, patch_len) ((len) + (patch_len) + 2)
int kv_json_merge(char *text, size_t *len, const char *patch, size_t patch_len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
