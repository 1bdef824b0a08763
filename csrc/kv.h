/* SPDX-License-Identifier: MIT
 *
 * kv.h - the key-value store as a C library, and its manual.
 *
 * A store is a directory (or private memory): namespaces of keys, each key with a typed value,
 * metadata, revision, times and an optional expiry. Every change is one append to a log; the index
 * beside the log can always be rebuilt from it. See docs/internals.md for how it works; this header
 * says what it promises.
 *
 * Conventions
 *   - Functions return KV_OK (0) or a negative KV_E* code. Out-parameters are untouched on failure
 * unless said. kv_message() gives the last failure of the calling thread as text (with path and
 * cause).
 *   - KV_EINVAL is always the caller's mistake (a value no program should pass); everything else
 * can happen to a correct program.
 *   - A `kv` handle and everything made from it belong to one thread at a time; open the same path
 * again for another thread: both handles share one mapping. Bytes handed out by a call (kv_record)
 * live until the next call on the same kv_ns, or until it is closed.
 *   - Times are milliseconds since 1970-01-01 UTC; durations are milliseconds.
 *   - After fork() a handle made before it works in the child too: its next call attaches the child
 * to the store. Never is a lock or a file position shared. A store in memory stays with the parent:
 * KV_EBUSY.
 *
 * Caveats
 *   - Never copy, edit or truncate the files of a live store: kv_backup() makes a copy that opens
 * by itself.
 *   - Whoever can write the files is trusted; damaged files are an error code, never a wrong value.
 */
#ifndef KV_H
#define KV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KV_API __attribute__((visibility("default")))

#define KV_VERSION "0.1.0"

#define KV_MAX_KEY       512               /* bytes, at least 1 */
#define KV_MAX_NAME      255               /* bytes of a namespace's name, at least 1 */
#define KV_MAX_META      1024              /* bytes of metadata, compact JSON */
#define KV_MAX_VALUE     (25u << 20)       /* default limit of a value, bytes */
#define KV_MAX_VALUE_CAP (1u << 30)        /* highest limit that may be asked for */
#define KV_MAX_TTL       1000000000000LL   /* ms: 1e9 s */
#define KV_MAX_TIME      100000000000000LL /* ms: 1e11 s since 1970 */
#define KV_MAX_CURSOR    768               /* bytes of a cursor's text */

/* Codes. kv_errname() gives the contract's word ("too_big"). KV_EINVAL and KV_ENOMEM have none
 * there: a binding raises them. */
enum {
    KV_OK = 0,
    KV_ETOOBIG = -1,      /* key, value, metadata or batch over its limit */
    KV_EFULL = -2,        /* no space on the disk, or max_size reached */
    KV_ECORRUPT = -3,     /* damaged bytes */
    KV_EIO = -4,          /* the system failed a call; or an earlier sync failed */
    KV_EBUSY = -5,        /* another owner holds the store or its lock */
    KV_EDENIED = -6,      /* no permission */
    KV_EREADONLY = -7,    /* store or handle takes no writes */
    KV_EUNSUPPORTED = -8, /* file system, format version or platform */
    KV_ENOTFOUND = -9,
    KV_EEXISTS = -10,
    KV_ECONFLICT = -11, /* if_rev did not hold */
    KV_ENOTNUMBER = -12,
    KV_ENOTSTRING = -13,
    KV_ENOTBOOLEAN = -14,
    KV_ENOTARRAY = -15,
    KV_ENOTOBJECT = -16,
    KV_ENOTJSON = -17,
    KV_ETOODEEP = -18,
    KV_EBADPATH = -19,
    KV_ERANGE = -20, /* "out_of_range" */
    KV_EBADCURSOR = -21,
    KV_EINVAL = -22, /* caller's mistake */
    KV_ENOMEM = -23  /* malloc failed; nothing changed */
};

typedef struct kv kv;       /* an open store */
typedef struct kv_ns kv_ns; /* a namespace of it */

/* ---- values --------------------------------------------------------------------------- */

enum { KV_STRING = 1, KV_INTEGER = 2, KV_NUMBER = 3, KV_BOOLEAN = 4, KV_NULL = 5, KV_JSON = 6 };

typedef struct kv_value {
    int32_t type;     /* KV_STRING ... */
    uint32_t len;     /* KV_STRING, KV_JSON: bytes at data */
    const char *data; /* KV_STRING, KV_JSON; not NUL-terminated; may be NULL when len is 0 */
    int64_t integer;  /* KV_INTEGER; KV_BOOLEAN: 0 or 1 */
    double number;    /* KV_NUMBER; never NaN or infinite */
} kv_value;

typedef struct kv_record {
    kv_value value;
    const char *key;
    uint32_t key_len;
    uint32_t meta_len; /* 0: no metadata */
    const char *meta;  /* compact JSON object */
    uint64_t rev;      /* revision of the last write, >= 1 */
    uint64_t id;       /* stays while the key lives: the revision that created it */
    int64_t created;   /* ms */
    int64_t updated;   /* ms */
    int64_t expires;   /* ms; 0: never */
} kv_record;

/* ---- stores --------------------------------------------------------------------------- */

enum { KV_SYNC_INTERVAL = 0, KV_SYNC_ALWAYS = 1, KV_SYNC_NONE = 2 };

typedef struct kv_options {
    int32_t create;   /* make the store and missing parents (default 1) */
    int32_t sync;     /* KV_SYNC_*; per handle (default KV_SYNC_INTERVAL) */
    int32_t interval; /* ms between syncs (default 1000) */
    int32_t thread; /* run the helper thread (default 1); 0: only kv_tick and kv_sync do its work */
    int32_t readonly;  /* default 0 */
    int32_t mode;      /* permission bits of new files (default 0600) */
    int32_t timeout;   /* ms to wait for a stopped writer (default 5000) */
    int32_t unsafe_fs; /* open on network file systems too (default 0) */
    int32_t salvage;   /* open a damaged store with what is whole (default 0) */
    int32_t reserved;
    uint64_t
        max_size; /* bytes of keys, values and metadata; 0: keep the store's (no limit at first) */
    uint64_t max_value; /* bytes; 0: keep the store's (KV_MAX_VALUE at first) */
} kv_options;

/* The defaults above. */
KV_API void kv_options_init(kv_options *o);

/* Opens the store at `path` (":memory:": a new private one); opts NULL: defaults.
 * KV_EBUSY: another process has been opening it for `timeout`, or uses it from another PID
 * namespace. KV_ENOTFOUND: missing, and create is 0. KV_EUNSUPPORTED: not a store, a newer format,
 * or a refused file system. KV_ECORRUPT: damage in what was durable. KV_EINVAL: a bad option. */
KV_API int kv_open(const char *path, const kv_options *opts, kv **out);

/* Makes everything durable (unless sync is none) and releases the handle and whatever was made from
 * it; NULL is fine. kv_ns handles must be closed first. */
KV_API void kv_close(kv *h);

KV_API uint64_t kv_rev(kv *h); /* last revision; one load */
KV_API int64_t kv_now(kv *h);  /* ms: the clock that expiry goes by; it holds still over small
                                  backward steps of the system's */
KV_API int kv_sync(kv *h);     /* everything written so far is durable when it returns KV_OK */
KV_API int kv_tick(kv *h, uint64_t max,
                   uint64_t *done); /* expires and cleans up to max items; and whatever
                                       the helper thread would do, if there is none */

typedef struct kv_stats {
    uint64_t rev, namespaces, keys;
    uint64_t data_bytes;  /* keys + values + metadata */
    uint64_t live_bytes;  /* log bytes of live records */
    uint64_t log_bytes;   /* bytes of log files, spare and reserve included */
    uint64_t used_bytes;  /* of them written and not yet cleaned: what is live, and what was */
    uint64_t blob_bytes;  /* bytes of large-value files */
    uint64_t index_bytes; /* bytes of index backed by storage */
    uint64_t segments, spares, segment_size;
    uint64_t timers;                   /* entries in the timing wheel */
    uint64_t buckets, overflow, nodes; /* lookup buckets, overflow buckets, order nodes in use */
    uint64_t reads_retried;
    uint64_t expired, cleaned, syncs; /* since open */
    uint64_t replayed;                /* records read at open */
    uint64_t cut_bytes;               /* torn tail cut off at open */
    int64_t clock_back;               /* ms of the largest backward clock step accepted */
    int64_t synced_rev;               /* not less than this is durable; -1 unknown */
    uint64_t max_size, max_value;     /* bytes; as kv_options, 0: no limit */
} kv_stats;

KV_API int kv_get_stats(kv *h, kv_stats *out);

/* Verifies every record, and that the index is what the log says. KV_ECORRUPT with a message that
 * says what. */
KV_API int kv_check(kv *h);

/* Writes a store of the records as of the call to directory `dir` (must not exist or be empty).
 * While this or kv_check reads, the space of what others overwrite is not used again. */
KV_API int kv_backup(kv *h, const char *dir, uint64_t *records);

/* Who is told, now and then and without any lock held, how far kv_check or kv_backup of this handle
 * is: bytes of the log, all of which are looked at twice. f NULL: nobody. f runs in the calling
 * thread and may call nothing of this library. */
typedef void (*kv_progress)(void *arg, uint64_t done, uint64_t total);
KV_API void kv_watch(kv *h, kv_progress f, void *arg);

/* How the store was found at open: "" or a sentence on what was cut off or salvaged. Lives as long
 * as h. */
KV_API const char *kv_report(kv *h);

/* ---- many stores in one directory ------------------------------------------------------ */

/* The names of the stores in directory `root`, each with a 0 behind it, in no order; no symbolic
 * link is one. *size: room at `names` before, bytes there after. KV_ERANGE: too little room, *size
 * is what it takes. KV_ENOTFOUND: no such directory. */
KV_API int kv_list_stores(const char *root, char *names, size_t *size);

/* Removes the store at `path`: renamed away in one step, so that no death leaves half a store under
 * its name, then unlinked (a later call also does what a death left of that). KV_EBUSY: somebody
 * has it open. KV_ENOTFOUND: nothing is there. KV_EUNSUPPORTED: not a store, a symbolic link, or it
 * holds other files. */
KV_API int kv_remove_store(const char *path);

/* ---- namespaces ----------------------------------------------------------------------- */

/* Opens namespace `name` (1..KV_MAX_NAME bytes). desc NULL: leave the description alone. create 0
 * and missing: KV_ENOTFOUND. Names that begin with byte 0 are reserved for callers of the C API. */
KV_API int kv_namespace(kv *h, const char *name, size_t len, const char *desc, size_t desc_len,
                        int create, kv_ns **out);
KV_API void kv_ns_close(kv_ns *ns);

/* Removes a namespace and all it holds at once; *keys = how many keys it held, 0 if there was none.
 * Handles of it see it empty; their next write creates it anew. */
KV_API int kv_drop(kv *h, const char *name, size_t len, uint64_t *keys);

typedef struct kv_ns_info {
    char name[KV_MAX_NAME + 1]; /* NUL-terminated for convenience; name_len counts */
    uint32_t name_len;
    uint32_t desc_len;
    const char *desc; /* until the next call on the same handle */
    uint64_t keys;    /* expired ones not yet reclaimed included */
    uint64_t bytes;   /* keys + values + metadata */
    int64_t created;  /* ms */
} kv_ns_info;

/* The namespace whose name follows `info->name` in byte order (name_len 0: the first) replaces
 * *info. KV_ENOTFOUND: no more. */
KV_API int kv_ns_next(kv *h, kv_ns_info *info);

/* ---- one key -------------------------------------------------------------------------- */

/* Options of a write; zero-initialise, then set. */
enum {
    KV_TTL = 1,        /* .ttl */
    KV_EXPIRATION = 2, /* .expires */
    KV_KEEP_TTL = 4,
    KV_META = 8, /* .meta, .meta_len */
    KV_KEEP_META = 16,
    KV_IF_EXIST = 32,     /* else KV_ENOTFOUND */
    KV_IF_NOT_EXIST = 64, /* else KV_EEXISTS */
    KV_IF_REV = 128       /* .if_rev (0: must not exist), else KV_ECONFLICT */
};

typedef struct kv_write {
    uint32_t flags;
    uint32_t meta_len;
    const char *meta;
    int64_t ttl;     /* ms, > 0; first given of ttl, expiration, keep_ttl wins */
    int64_t expires; /* ms; in the past: KV_ERANGE */
    uint64_t if_rev;
} kv_write;

KV_API int kv_get(kv_ns *ns, const char *key, size_t len,
                  kv_record *out); /* KV_ENOTFOUND: a miss */
/* The value alone: what most reads want, and quicker. */
KV_API int kv_get_value(kv_ns *ns, const char *key, size_t len, kv_value *out);
/* The same without copying a string: its bytes may lie in the store's own memory, from where they
 * can go at any time (never to an address that cannot be read). Who has copied them asks
 * kv_peek_held, before any other call on the same kv_ns: 0 means that the copy is worth nothing;
 * ask kv_get_value then. Values of other types are as kv_get_value gives them. */
KV_API int kv_peek(kv_ns *ns, const char *key, size_t len, kv_value *out);
KV_API int kv_peek_held(const kv_ns *ns);
KV_API int kv_exists(kv_ns *ns, const char *key, size_t len); /* KV_OK or KV_ENOTFOUND */

/* A hint that a write of this key follows at once: its place in the index is fetched meanwhile. */
KV_API void kv_expect(kv_ns *ns, const char *key, size_t len);
/* Stores a value. w NULL: no options. rev, old may be NULL. With old: the record before (old->rev
 * 0: there was none), also when a condition failed. An overwrite clears ttl and metadata unless
 * told otherwise, and keeps created and id. */
KV_API int kv_put(kv_ns *ns, const char *key, size_t len, const kv_value *v, const kv_write *w,
                  uint64_t *rev, kv_record *old);

/* KV_ENOTFOUND: was not there. Only KV_IF_REV is looked at in w. */
KV_API int kv_delete(kv_ns *ns, const char *key, size_t len, const kv_write *w, uint64_t *rev,
                     kv_record *old);

/* Sets the time to live (<= 0: deletes the key). KV_ENOTFOUND. Changes rev, not updated. */
KV_API int kv_expire(kv_ns *ns, const char *key, size_t len, int64_t ttl);
/* Removes it: *had = 1 when there was one. KV_ENOTFOUND. */
KV_API int kv_persist(kv_ns *ns, const char *key, size_t len, int *had);

enum { KV_INCR_NO_INIT = 1, KV_INCR_MIN = 2, KV_INCR_MAX = 4, KV_INCR_TTL = 8 };

typedef struct kv_incr_opts {
    uint32_t flags;
    uint32_t reserved;
    kv_value init; /* KV_INTEGER or KV_NUMBER: value of a missing key before adding (default integer
                      0); KV_INCR_NO_INIT: a missing key is KV_ENOTFOUND */
    kv_value min;  /* with KV_INCR_MIN; outside: KV_ERANGE */
    kv_value max;
    int64_t ttl; /* ms; with KV_INCR_TTL; only when the key is created */
} kv_incr_opts;

/* Adds `by` to a number, also one that was put as a document (or to a string that is one JSON
 * number, which stays a string). Integer + integer stays integer, overflow is KV_ERANGE. *out: the
 * new number. o NULL: defaults. rev may be NULL. */
KV_API int kv_incr(kv_ns *ns, const char *key, size_t len, const kv_value *by,
                   const kv_incr_opts *o, kv_value *out, uint64_t *rev);

/* ---- one field of a document ---------------------------------------------------------- */

/* A key whose value is KV_JSON, or a KV_STRING that holds JSON text (it stays a string), is a
 * document; a number, boolean or null is one that consists of just that. Every edit is one atomic
 * step, whoever else edits, and leaves all bytes outside the edited place as they are. It is
 * computed without the lock and written if the record is still the same, else computed again.
 *
 * A KV_JSON value that was put must be valid JSON: it is not checked again here.
 *
 * Paths are text: `name.name[0]["any key"]`, or an RFC 6901 pointer when they begin with a slash;
 * length 0: the document. Indexes count from 0, and below 0 from the end: -1 is the last. See
 * docs/json.md.
 *
 * Codes: KV_EBADPATH, KV_ENOTJSON (a string that is none), KV_ETOODEEP, those of wrong types
 * (KV_ENOTOBJECT and KV_ENOTARRAY also for steps), KV_ERANGE (an index beyond the array, a sum
 * beyond its type), KV_ENOTFOUND, and those of kv_put. The document is unchanged then. */

/* What the path leads to: JSON text (KV_JSON) inside the document, or with an empty path the value
 * of a number, boolean or null. KV_ENOTFOUND: the key or the field is not there. */
KV_API int kv_get_field(kv_ns *ns, const char *key, size_t len, const char *path, size_t path_len,
                        kv_value *out);

enum {
    KV_EDIT_SET = 1,
    KV_EDIT_INCREMENT, /* by `by`; missing counts as 0 */
    KV_EDIT_PUSH,      /* behind the last element; missing counts as [] */
    KV_EDIT_EXTEND,    /* by the elements of `json`, an array */
    KV_EDIT_INSERT,    /* before the element that the path leads to */
    KV_EDIT_POP,       /* element `index` of the array; KV_ENOTFOUND: it has none */
    KV_EDIT_REMOVE,    /* an empty path removes the key; KV_ENOTFOUND: nothing there */
    KV_EDIT_TOGGLE,    /* missing counts as false */
    KV_EDIT_APPEND,    /* the content of `json`, a JSON string; missing counts as "" */
    KV_EDIT_MERGE      /* `json` as RFC 7396 says; the path must be empty */
};

enum {
    KV_EDIT_NO_CREATE = 1, /* what is missing is KV_ENOTFOUND, and not made */
    KV_EDIT_PEEK = 2       /* POP, REMOVE: changes nothing, says what would go */
};

typedef struct kv_edit {
    int32_t op;
    uint32_t flags;
    const char *path;
    const char *json; /* SET, PUSH, EXTEND, INSERT, APPEND, MERGE: valid JSON text */
    uint32_t path_len, json_len;
    int64_t index;  /* POP */
    kv_value by;    /* INCREMENT: KV_INTEGER or KV_NUMBER */
    kv_write write; /* KV_IF_EXIST and KV_IF_NOT_EXIST mean the field, KV_IF_REV the record; without
                       KV_KEEP_TTL and KV_KEEP_META ttl and metadata go, as in kv_put */
} kv_edit;

typedef struct kv_edited {
    uint64_t rev;    /* with KV_EDIT_PEEK: of the record as it is */
    uint64_t length; /* PUSH, EXTEND, INSERT: elements; APPEND: bytes of the string */
    kv_value value;  /* INCREMENT: the sum; TOGGLE: KV_BOOLEAN; KV_EDIT_PEEK: KV_JSON */
} kv_edited;

KV_API int kv_edit_field(kv_ns *ns, const char *key, size_t len, const kv_edit *edit,
                         kv_edited *out);

/* ---- many keys ------------------------------------------------------------------------ */

typedef struct kv_item {
    const char *key;
    size_t len;
    kv_value value;
    kv_write write;
} kv_item;

/* A hint: begins to fetch from memory what gets of these keys (each of 1 to KV_MAX_KEY bytes) will
 * read, all at once. Worth it for 4 to some 30 keys, right before they are read. */
KV_API void kv_prefetch_keys(kv_ns *ns, const char *const *keys, const size_t *lens, size_t n);

/* All or nothing, also over a crash. *failed (may be NULL) = index of the item whose condition or
 * limit failed. Later items see earlier ones (the same key twice: the last one wins). KV_ETOOBIG:
 * over KV_MAX_BATCH bytes. */
#define KV_MAX_BATCH (1u << 30)
KV_API int kv_put_many(kv_ns *ns, const kv_item *items, size_t n, uint64_t *rev, size_t *failed);

/* Deletes every key with the prefix (len 0: all) in bounded steps; *n = how many were there. */
KV_API int kv_delete_prefix(kv_ns *ns, const char *prefix, size_t len, uint64_t *n);

/* ---- streams: values in pieces -------------------------------------------------------- */

/* A value written piece by piece, without any lock: it appears whole when it is committed, as one
 * write, or not at all. Pieces go to a file as soon as they are too large for a record, so that no
 * more than a chunk of 64 KiB is in memory. After fork() it is the parent's: KV_EBUSY in the child.
 * Close it before its kv_ns. */
typedef struct kv_writer kv_writer;

/* type: KV_STRING, or KV_JSON (which is kept in memory and checked when it is committed). Key,
 * options and metadata are copied. */
KV_API int kv_writer_open(kv_ns *ns, const char *key, size_t len, int type, const kv_write *w,
                          kv_writer **out);
/* KV_ETOOBIG as soon as all of it is more than max_value. After a failure the writer only fails. */
KV_API int kv_writer_write(kv_writer *w, const void *data, size_t n);
/* As kv_put would with the whole value: conditions are looked at and a ttl begins now. KV_ENOTJSON,
 * KV_ETOODEEP: of KV_JSON. Ends the writer, also when it fails: then nothing is left behind. */
KV_API int kv_writer_commit(kv_writer *w, uint64_t *rev);
/* Frees it, and drops what was not committed; NULL is fine. */
KV_API void kv_writer_close(kv_writer *w);

/* A value as it is when the reader is opened, whatever happens to the key later. Holds a small
 * value, or the open file of a large one and a chunk of it. Close it before its kv_ns. */
typedef struct kv_reader kv_reader;

/* KV_ENOTFOUND: a miss. A number, boolean or null is read as its JSON spelling. out (may be NULL):
 * the record, its value without bytes (len counts them), its metadata until the reader is closed;
 * its key is `key`. */
KV_API int kv_reader_open(kv_ns *ns, const char *key, size_t len, kv_record *out, kv_reader **r);
/* The n bytes from `off` on; *got is less only at the end. KV_ECORRUPT: a part of the value that
 * they lie in is damaged; the bytes at `to` are garbage then. Reading in order loads each chunk
 * once. */
KV_API int kv_reader_read(kv_reader *r, void *to, size_t n, uint64_t off, size_t *got);
KV_API uint64_t kv_reader_size(const kv_reader *r); /* bytes of the value */
KV_API void kv_reader_close(kv_reader *r);          /* NULL is fine */

/* ---- ordered listing ------------------------------------------------------------------ */

enum {
    KV_REVERSE = 1,
    KV_KEYS_ONLY = 2, /* records carry only the key; expired ones are still left out */
    KV_NO_VALUES = 4, /* all but the value, which is KV_NULL: no large one is read */
    KV_NO_HISTORY = 8 /* rev, id, created and updated are 0 */
};

/* Byte order; start <= key < stop in both directions; NULL: no bound. All must stay valid while
 * iterating. */
typedef struct kv_range {
    const char *prefix, *start, *stop;
    uint32_t prefix_len, start_len, stop_len;
    uint32_t flags;
    const char *
        after; /* resume strictly after this key (before it in reverse); NULL: from the beginning */
    uint32_t after_len;
    uint32_t reserved;
} kv_range;

typedef struct kv_iter kv_iter;
KV_API size_t
kv_iter_size(void);       /* bytes a caller provides for one (aligned to 16); nothing to free */
#define KV_ITER_SIZE 8192 /* enough, for one on the stack */
/* Takes no lock, holds nothing, and survives any change to the store: a key there throughout is met
 * once, one never there is not met. Takes ns's scratch at each step, as kv_get does. */
KV_API int kv_iter_init(kv_iter *it, kv_ns *ns, const kv_range *range);
KV_API int kv_iter_next(kv_iter *it, kv_record *out); /* KV_ENOTFOUND: the end */
/* The next ones at once, as long as nothing out of the ordinary is to be said of them and their
 * values and metadata, and keys that do not stay in *it, fit into `room`, where they are put: at
 * most KV_ITER_MOST, and n, which is how many are wanted now and later. Nothing but the next call
 * for *it touches either. Each is as it was at some time since kv_iter_init. Returns
 * how many it was; 0: kv_iter_next says what comes. */
enum { KV_ITER_MOST = 8 };
KV_API int kv_iter_some(kv_iter *it, kv_record *out, int n, void *room, size_t size);
KV_API int kv_count(kv_ns *ns, const kv_range *range, uint64_t *n);

/* A printable token that resumes `range` of this namespace after `key`, in any process, also later.
 * Writes at most KV_MAX_CURSOR bytes; returns the length. */
KV_API size_t kv_cursor_make(kv_ns *ns, const kv_range *range, const char *key, size_t len,
                             char *out);
/* Reads it back into key (KV_MAX_KEY bytes). KV_EBADCURSOR: forged, or of another namespace, prefix
 * or direction. */
KV_API int kv_cursor_read(kv_ns *ns, const kv_range *range, const char *text, size_t text_len,
                          char *key, size_t *len);

/* ---- words ---------------------------------------------------------------------------- */

KV_API const char *kv_errname(int code); /* "too_big", ... */
KV_API const char *kv_message(void);     /* the calling thread's last failure, in words */
KV_API const char *kv_version(void);

#ifdef __cplusplus
}
#endif
#endif
