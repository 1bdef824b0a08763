/* SPDX-License-Identifier: MIT
 *
 * write.h - what write.c, names.c and batch.c share of the course of a write.
 */
#ifndef KV_WRITE_H
#define KV_WRITE_H

#include "store.h"

#pragma GCC visibility push(hidden)

/* ---- write.c -------------------------------------------------------------------------- */

/* Whether the handle may write at all. */
int kv_write_enter(kv *h);
/* The running clock, under the lock: moves on with the system's, holds still over small backward
 * steps, accepts and notes large ones. */
int64_t kv_write_clock(kv_db *s);
void kv_write_begin(kv_db *s, kv_append *a, int64_t now);
/* Appends one record, commits and applies it. Room was checked. */
int kv_write_commit(kv_db *s, kv_append *a, kv_found *f, const kv_rec *r);

/* Of what the caller gave: KV_ETOOBIG, KV_EINVAL. */
int kv_write_check_value(kv_db *s, const kv_value *v);
int kv_write_check_options(const kv_write *w);
/* Against what is there: KV_ENOTFOUND, KV_EEXISTS, KV_ECONFLICT. */
int kv_write_conditions(const kv_found *f, const kv_write *w);
/* Sets the record's expiry and metadata: first given of ttl, expiration and keep_ttl wins. */
int kv_write_options(const kv_found *f, const kv_write *w, int64_t now, kv_rec *r);
/* KV_EFULL when `more` bytes in the place of `less` pass max_size. */
int kv_write_over_size(kv_db *s, uint64_t more, uint64_t less);
uint64_t kv_write_user_bytes(const kv_rec *r); /* key, value and metadata */
/* Large values go to a file of their own before the lock is taken; ref: its id and size. */
int kv_write_is_large(kv_db *s, const kv_value *v);
int kv_write_blob(kv *h, const kv_value *v, uint64_t ref[2]);
/* kv_put of a large value whose finished file `ref` names; on failure the file is gone. */
int kv_write_reference(kv_ns *ns, const char *key, size_t len, int type, const uint64_t ref[2],
                       const kv_write *opts, uint64_t *rev);

/* ---- names.c; under the writer lock --------------------------------------------------- */

/* Whether the handle's namespace is there: KV_OK, KV_ENOTFOUND, or a failure. */
int kv_name_find(kv_ns *ns, int64_t now);
/* The same, making it when create is set; desc not NULL: it has that description afterwards. *need:
 * what kv_make_room must make first. */
int kv_name_ensure(kv_db *s, kv_ns *ns, const char *desc, size_t desc_len, int create, int64_t now,
                   uint32_t *need);

#pragma GCC visibility pop
#endif
