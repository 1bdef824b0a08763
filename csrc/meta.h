/* SPDX-License-Identifier: MIT
 *
 * meta.h - the file `meta` of a store directory: what the store is, and where its log begins.
 *
 * Two slots, at offsets 0 and 4096; the valid one with the higher seq counts, so that a write torn
 * by a power cut leaves the state before it. Integers are little-endian. A slot (the rest of its
 * page is zero and not looked at):
 *
 *   OFFSET SIZE
 *        0    8  "kvstore\n"
 *        8    4  format, 1
 *       12    4  CRC32C of the slot without these four bytes
 *       16    8  seq, one more with each write
 *       24    8  store id
 *       32   16  key of the cursors' check
 *       48    8  id of the oldest log segment
 *       56    8  max_size
 *       64    8  max_value
 *       72    8  created, ms since 1970
 *       80   48  zero
 *
 * Every future format keeps the first twelve bytes, so that an old program refuses a new store
 * instead of falling back to its other slot.
 */
#ifndef KV_META_H
#define KV_META_H

#include "kv.h"
#include "os.h"

#pragma GCC visibility push(hidden)

#define KV_META_NAME   "meta"
#define KV_META_TEMP   "meta.new" /* left by a crash in kv_meta_create; may be unlinked */
#define KV_META_FORMAT 1u

typedef struct kv_meta {
    uint64_t seq;
    uint64_t store_id; /* random; in the headers of all other files too */
    uint64_t cursor_key[2];
    uint64_t oldest; /* id of the oldest log segment */
    uint64_t max_size, max_value;
    int64_t created;
} kv_meta;

/* Reads the newest valid slot. KV_ENOTFOUND: no such file. KV_EUNSUPPORTED: not a store's, or a
 * newer format in either slot. KV_ECORRUPT: no slot is whole. Beside a kv_meta_write of another
 * process it gives the state before or after. When the newest slot has been damaged it is the state
 * before, whose `oldest` may be retired by now: the log has to find that out. */
int kv_meta_read(kv_dir *d, kv_meta *m);

/* Makes the file: complete and durable when KV_OK, else not there. KV_EEXISTS: it is there already.
 * m->seq may be anything. */
int kv_meta_create(kv_dir *d, const kv_meta *m);

/* Replaces the state by *m under the next seq, durably, and sets m->seq. *m must come from
 * kv_meta_read, kv_meta_create or the last write, under a lock that keeps other writers out:
 * KV_ECONFLICT when the file has moved on since. On failure *m and the state before it stay (after
 * a failed sync the disk may hold either). */
int kv_meta_write(kv_dir *d, kv_meta *m);

#pragma GCC visibility pop
#endif
