/* SPDX-License-Identifier: MIT
 *
 * blob.h - large values, each in a file `blob.<id>` (16 hexadecimal digits) of its own.
 *
 * Written once, durable before a log record refers to it, never changed, unlinked when nothing
 * refers to it any more. Its size is in that record, not here. Integers are little-endian:
 *
 *   OFFSET            SIZE
 *        0               8  "kvblob\r\n"
 *        8               4  format, 1
 *       12               4  CRC32C of the header without these four bytes
 *       16               8  id
 *       24               8  store id
 *       32              32  zero
 *       64 + i * 65540   n  chunk i of the value: 65536 bytes, the last one what is left
 *                        4  CRC32C of the chunk, seeded with store id, id and i, so that chunks
 *                           cannot change places
 *
 * Reader and writer belong to one thread at a time and may live on the stack; each holds a file
 * descriptor and at most one buffer of a chunk.
 */
#ifndef KV_BLOB_H
#define KV_BLOB_H

#include "kv.h"
#include "os.h"

#pragma GCC visibility push(hidden)

#define KV_BLOB_FORMAT 1u
#define KV_BLOB_HEAD   64u
#define KV_BLOB_CHUNK  65536u
#define KV_BLOB_NAME   24 /* bytes of a name's buffer */

/* Bytes of the file that holds a value of `size`. */
static inline uint64_t kv_blob_file_size(uint64_t size)
{
    return KV_BLOB_HEAD + size + (size + KV_BLOB_CHUNK - 1) / KV_BLOB_CHUNK * 4;
}

void kv_blob_name(uint64_t id, char name[KV_BLOB_NAME]);
/* 1 and *id when it is the name of a blob file, else 0. */
int kv_blob_parse_name(const char *name, uint64_t *id);
/* Whether it is the name of a file that kv_blob_create began and whose writer has not ended: what a
 * death leaves of it is told from a value's file without knowing what is referred to. */
int kv_blob_is_part(const char *name);

typedef struct kv_blob_writer {
    kv_dir *dir; /* must outlive it */
    uint64_t store_id, id;
    uint64_t size; /* bytes appended */
    char *buffer;  /* header and whole chunks not yet in the file, then the chunk being filled */
    size_t used, room; /* bytes of it */
    uint64_t flushed;  /* bytes in the file */
    uint32_t filled;   /* bytes of the last chunk */
    int part;          /* the file has not its own name yet */
    int fd;            /* -1: ended */
    int failed;        /* the code of the first failure; only aborting helps then */
} kv_blob_writer;

/* Begins a new file, under the name of a part until it is finished; id: one that was never used. On
 * failure there is nothing to abort or finish. */
int kv_blob_create(kv_dir *d, uint64_t store_id, uint64_t id, kv_blob_writer *w);
/* KV_ETOOBIG: over KV_MAX_VALUE_CAP bytes in all. After any failure only kv_blob_abort helps. */
int kv_blob_append(kv_blob_writer *w, const void *data, size_t n);
/* Makes file and name durable and ends the writer, also on failure: then the file is gone. *size
 * (may be NULL): bytes of the value. */
int kv_blob_finish(kv_blob_writer *w, uint64_t *size);
/* Ends the writer and unlinks the file. Does nothing to a writer that has ended. */
int kv_blob_abort(kv_blob_writer *w);
/* Ends the writer and leaves the file, which is another process's. */
void kv_blob_forget(kv_blob_writer *w);

/* All of it in one go: the durable file, or on failure none. A full disk is found before anything
 * is written. */
int kv_blob_write(kv_dir *d, uint64_t store_id, uint64_t id, const void *data, size_t n);

typedef struct kv_blob_reader {
    kv_dir *dir; /* must outlive it */
    uint64_t store_id, id;
    uint64_t size;
    char *chunk;   /* holds chunk `held`; NULL until a part of a chunk is asked for */
    uint64_t held; /* UINT64_MAX: none */
    int fd;        /* -1: closed */
} kv_blob_reader;

/* size: as the log's record says. KV_ENOTFOUND: no such file. KV_ECORRUPT: the header is damaged or
 * of another blob, or the file is too short. KV_EUNSUPPORTED: a newer format. The reader goes on
 * when the file is unlinked. On failure there is nothing to close. */
int kv_blob_open(kv_dir *d, uint64_t store_id, uint64_t id, uint64_t size, kv_blob_reader *r);
/* Any range within the size (KV_EINVAL). KV_ECORRUPT: a chunk that it touches is damaged. On
 * failure the bytes at `to` are garbage. In-order reading loads each chunk once; whole chunks go
 * straight to `to`. */
int kv_blob_read(kv_blob_reader *r, void *to, size_t n, uint64_t off);
/* Safe on a closed one. */
void kv_blob_close(kv_blob_reader *r);

/* Missing is fine. Who has it open can still read it. */
int kv_blob_unlink(kv_dir *d, uint64_t id);

#pragma GCC visibility pop
#endif
