/* SPDX-License-Identifier: MIT
 *
 * names.c - namespaces: found, made, described and dropped.
 *
 * A namespace is a record in namespace 0 whose key is its name; its id is never used again. It is
 * made when it is opened for writing or first written to, never by a write that is refused.
 */
#include "write.h"

#include <stdlib.h>
#include <string.h>

/* The namespace's id under the lock, made if it is not there; *size: 0, or of the record that was
 * committed for it. */
static int name_record(kv_db *s, kv_ns *ns, const char *desc, size_t desc_len, int64_t now,
                       kv_found *f, kv_rec *r)
{
    int e;

    f->hash = kv_index_hash(s, 0, ns->name, ns->name_len);
    e = kv_index_find(s, 0, ns->name, ns->name_len, now, f);
    if (e != KV_OK)
        return e;
    memset(r, 0, sizeof *r);
    r->kind = KV_REC_NAME;
    r->type = KV_STRING;
    r->key = ns->name;
    r->key_len = ns->name_len;
    r->rev = r->id = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    r->created = r->updated = now;
    r->value = desc;
    r->value_len = (uint32_t)desc_len;
    r->ns = (uint32_t)kv_load_relaxed(kv_st(s, KV_ST_NEXT_NS));
    if (f->there && kv_ns_state(s, f->rec.ns) == KV_NAME_LIVE) {
        r->ns = f->rec.ns;
        r->id = f->rec.id;
        r->created = f->rec.created;
        return 1;
    }
    return KV_OK;
}

static void adopt_name(kv_db *s, kv_ns *ns, uint32_t id)
{
    ns->id = id;
    ns->state = kv_ns_state_word(s, id);
}

/* Makes sure the namespace exists; desc not NULL: has that description. Holds the lock throughout;
 * *need as kv_make_room. */
int kv_name_ensure(kv_db *s, kv_ns *ns, const char *desc, size_t desc_len, int create, int64_t now,
                   uint32_t *need)
{
    kv_append a;
    kv_found f;
    kv_rec r;
    uint32_t size;
    int e = name_record(s, ns, desc, desc_len, now, &f, &r);

    if (e < 0)
        return e;
    if (e == KV_OK && !create)
        return KV_ENOTFOUND;
    if (e == KV_OK && r.ns > KV_MAX_NAMES)
        return kv_fail(KV_EFULL, "%s: no namespace ids are left", kv_dir_path(s->dir));
    if (e == 1 && (desc == NULL || (f.rec.value_len == desc_len &&
                                    (desc_len == 0 || memcmp(f.rec.value, desc, desc_len) == 0)))) {
        adopt_name(s, ns, r.ns);
        return KV_OK;
    }
    kv_write_begin(s, &a, now);
    a.next_rev++;
    a.next_ns = r.ns >= a.next_ns ? (uint64_t)r.ns + 1 : a.next_ns;
    size = kv_rec_measure(&r);
    *need = kv_index_needs(s, 1, KV_MAX_NAME);
    if (!kv_log_fit(&s->log, &a, size, KV_FOR_PUT))
        *need |= KV_NEED_LOG;
    if (*need)
        return KV_OK;
    kv_log_begin(&s->log, &a);
    e = kv_write_commit(s, &a, &f, &r);
    if (e == KV_OK)
        adopt_name(s, ns, r.ns);
    return e;
}

/* Whether the namespace is missing; KV_OK: it is there, KV_ENOTFOUND: it is not, or a failure. */
int kv_name_find(kv_ns *ns, int64_t now)
{
    uint32_t need = 0;
    int e;

    if (kv_likely(ns->state != NULL && kv_load(ns->state) == KV_NAME_LIVE))
        return KV_OK;
    e = kv_name_ensure(ns->h->s, ns, NULL, 0, 0, now, &need);
    if (e == KV_ENOTFOUND) {
        ns->id = 0;
        ns->state = NULL;
    }
    return e;
}

/* ---- namespaces ----------------------------------------------------------------------- */

int kv_namespace(kv *h, const char *name, size_t len, const char *desc, size_t desc_len, int create,
                 kv_ns **out)
{
    kv_ns *ns;
    int64_t id;
    uint32_t need;
    int e = kv_enter(h);

    if (e != KV_OK)
        return e;
    if (len == 0)
        return kv_fail(KV_EINVAL, "a namespace's name has at least one byte");
    if (len > KV_MAX_NAME)
        return kv_fail(KV_ETOOBIG, "a namespace's name has at most %d bytes, this one %zu",
                       KV_MAX_NAME, len);
    if (desc == NULL)
        desc_len = 0;
    if (desc_len > 4096)
        return kv_fail(KV_ETOOBIG, "a description has at most 4096 bytes");
    ns = calloc(1, sizeof *ns);
    if (ns == NULL)
        return kv_fail(KV_ENOMEM, "out of memory");
    ns->h = h;
    ns->seed0 = h->s->region.head->hash[KV_HASH_SEED0];
    ns->seed1 = h->s->region.head->hash[KV_HASH_SEED1];
    memcpy(ns->name, name, len);
    ns->name_len = (uint32_t)len;
    ns->next = h->spaces;
    ns->link = &h->spaces;
    if (ns->next != NULL)
        ns->next->link = &ns->next;
    h->spaces = ns;
    id = kv_ns_resolve(ns);
    e = id < 0 ? (int)id : KV_OK;
    if (e == KV_OK && (id == 0 || desc != NULL)) {
        if (h->readonly || h->s->readonly) {
            /* It cannot be made here; a handle that finds nothing serves a reader who may come
             * first. */
            if (desc != NULL)
                e = kv_write_enter(h);
            else if (!create)
                e = kv_fail(KV_ENOTFOUND, "there is no such namespace");
        } else {
            do {
                need = 0;
                e = kv_write_enter(h);
                if (e == KV_OK)
                    e = kv_lock_writer(h);
                if (e != KV_OK)
                    break;
                e = kv_name_ensure(h->s, ns, desc, desc_len, create, kv_write_clock(h->s), &need);
                kv_unlock_writer(h);
                if (e == KV_OK && need)
                    e = kv_make_room(h, need, 1, 8192);
            } while (e == KV_OK && need);
            if (e == KV_ENOTFOUND)
                kv_fail(e, "there is no such namespace");
            if (e == KV_OK) {
                kv_after_write(h);
                if (h->sync == KV_SYNC_ALWAYS)
                    e = kv_sync_to(h, kv_load(&h->s->log.w[KV_LOG_TAIL]));
            }
        }
    }
    if (e != KV_OK) {
        kv_ns_close(ns);
        return e;
    }
    *out = ns;
    return KV_OK;
}

void kv_ns_close(kv_ns *ns)
{
    if (ns == NULL)
        return;
    *ns->link = ns->next;
    if (ns->next != NULL)
        ns->next->link = ns->link;
    kv_scratch_free(&ns->scratch);
    kv_scratch_free(&ns->blob);
    free(ns);
}

static int drop_locked(kv *h, const char *name, uint32_t len, uint32_t *id, uint64_t *keys,
                       uint64_t *end, uint32_t *need)
{
    kv_db *s = h->s;
    int64_t now = kv_write_clock(s);
    uint64_t *words;
    kv_append a;
    kv_found f;
    kv_place at;
    kv_rec r;
    uint32_t size;
    int e;

    f.hash = kv_index_hash(s, 0, name, len);
    e = kv_index_find(s, 0, name, len, now, &f);
    if (e != KV_OK || !f.there || kv_ns_state(s, f.rec.ns) != KV_NAME_LIVE)
        return e;
    memset(&r, 0, sizeof r);
    r.kind = KV_REC_DROP;
    r.type = KV_NULL;
    r.ns = f.rec.ns;
    r.key = name;
    r.key_len = len;
    r.rev = r.id = kv_load_relaxed(kv_st(s, KV_ST_REV)) + 1;
    r.created = r.updated = now;
    size = kv_rec_measure(&r);
    kv_write_begin(s, &a, now);
    a.next_rev++;
    if (!kv_log_fit(&s->log, &a, size, KV_FOR_DELETE)) {
        *need = KV_NEED_RESERVE;
        return KV_OK;
    }
    words = kv_ns_words(s, r.ns, &at);
    *keys = words ? words[KV_NAME_KEYS] : 0;
    *id = r.ns;
    kv_log_begin(&s->log, &a);
    e = kv_write_commit(s, &a, &f, &r);
    *end = a.pos;
    return e;
}

int kv_drop(kv *h, const char *name, size_t len, uint64_t *keys)
{
    uint64_t n = 0, end = 0;
    uint32_t id = 0, need;
    int e = kv_write_enter(h);

    if (e == KV_OK && (len == 0 || len > KV_MAX_NAME))
        e = kv_fail(KV_EINVAL, "a namespace's name has 1 to %d bytes", KV_MAX_NAME);
    do {
        need = 0;
        if (e == KV_OK)
            e = kv_lock_writer(h);
        if (e != KV_OK)
            return e;
        e = drop_locked(h, name, (uint32_t)len, &id, &n, &end, &need);
        kv_unlock_writer(h);
        if (e == KV_OK && need)
            e = kv_make_room(h, need, 1, 8192);
    } while (e == KV_OK && need);
    if (e == KV_OK && end != 0) {
        kv_after_write(h);
        if (h->sync == KV_SYNC_ALWAYS)
            e = kv_sync_to(h, end);
        /* The namespace is gone; what keeps its files from going is the cleaner's to deal with. */
        (void)kv_clean_dropped(h, id);
    }
    if (e == KV_OK && keys != NULL)
        *keys = n;
    return e;
}
