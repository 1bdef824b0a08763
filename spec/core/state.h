/* SPDX-License-Identifier: MIT
 *
 * state.h - what the tests of whole stores share: a directory for stores, copies of one, and the
 * state of a store as a reader sees it, so that two can be compared.
 *
 * Everything a program draws by chance, the store's own salts and seeds included, comes from SEED:
 * getrandom is replaced, so that a failure can be repeated.
 */
#ifndef KV_SPEC_STATE_H
#define KV_SPEC_STATE_H

#include "image.h"
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

ssize_t getrandom(void *to, size_t n, unsigned flags)
{
    unsigned char *p = to;
    size_t i;

    (void)flags;
    if (image_seed == 0) { /* image_start itself asks: the clock is chance enough */
        image_seed = (uint64_t)kv_os_monotonic() * 2654435761u ^ (uint64_t)getpid();
        image_seed += image_seed == 0;
    }
    for (i = 0; i < n; i++)
        p[i] = (unsigned char)(image_random() >> 8);
    return (ssize_t)n;
}

/* ---- directories ---- */

#define STATE_PATH 160

static char state_base[64]; /* a directory of this program's own, removed at the end */

static inline void state_remove(const char *path)
{
    char name[STATE_PATH + 300];
    DIR *d = opendir(path);
    struct dirent *f;

    while (d && (f = readdir(d)) != NULL)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) {
            snprintf(name, sizeof name, "%.150s/%.255s", path, f->d_name);
            if (unlink(name) != 0 && errno == EISDIR)
                state_remove(name);
        }
    if (d)
        closedir(d);
    rmdir(path);
}

static inline void state_clear(void)
{
    if (state_base[0])
        state_remove(state_base);
}

/* Where files cost least: in memory if there is such a file system. */
static inline void state_begin(const char *name)
{
    const char *given = getenv("TMPDIR");
    const char *where[3];
    int i;

    image_start(name);
    /* The table of each log that is opened is large and hardly used: fresh pages, not cleared ones.
     */
    mallopt(M_MMAP_THRESHOLD, 1 << 18);
    where[0] = given ? given : "/dev/shm";
    where[1] = "/dev/shm";
    where[2] = "/tmp";
    for (i = 0; i < 3; i++) {
        snprintf(state_base, sizeof state_base, "%.30s/%.20s-XXXXXX", where[i], name);
        if (mkdtemp(state_base))
            return;
    }
    image_die("no directory for a store");
}

static inline void state_path(char to[STATE_PATH], const char *name)
{
    snprintf(to, STATE_PATH, "%s/%s", state_base, name);
}

static inline void state_copy_file(const char *from, const char *to)
{
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC),
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stat st;
    ssize_t n;

    if (in < 0 || out < 0 || fstat(in, &st) != 0 || ftruncate(out, st.st_size) != 0)
        image_die("copy");
    while ((n = read(in, bytes, sizeof bytes)) > 0)
        if (write(out, bytes, (size_t)n) != n)
            image_die("copy");
    close(in);
    close(out);
}

/* What a process that opens the store after this one's death would find. The index is a cache of
 * a process, and `lock` only that. */
static inline void state_copy(const char *from, const char *to)
{
    char a[STATE_PATH + 300], b[STATE_PATH + 300];
    DIR *d = opendir(from);
    struct dirent *f;

    state_remove(to);
    if (!d || mkdir(to, 0700) != 0)
        image_die("copy");
    while ((f = readdir(d)) != NULL)
        if (f->d_name[0] != '.' && strncmp(f->d_name, "index", 5) != 0 &&
            strcmp(f->d_name, "lock") != 0) {
            snprintf(a, sizeof a, "%.150s/%.255s", from, f->d_name);
            snprintf(b, sizeof b, "%.150s/%.255s", to, f->d_name);
            state_copy_file(a, b);
        }
    closedir(d);
}

/* A handle as another process would have it, with descriptors and mappings of its own: what this
 * process has open (mine; some may be NULL) counts as its parent's. */
static inline int state_open_apart(const char *path, const kv_options *o, kv *const *mine, int n,
                                   kv **to)
{
    int i, rc;

    for (i = 0; i < n; i++)
        if (mine[i])
            *mine[i]->s->guard.page = 0;
    rc = kv_open(path, o, to);
    for (i = 0; i < n; i++)
        if (mine[i])
            kv_guard_adopt(&mine[i]->s->guard);
    return rc;
}

/* ---- states ---- */

/* A namespace is "name" and a zero, a key of it that and the key: in the order of the bytes. */
#define STATE_KEY 320

typedef struct state_entry {
    uint32_t len;
    char key[STATE_KEY];
    uint64_t digest; /* of all a reader is told of it; never 0 */
    int64_t expires;
} state_entry;

typedef struct state {
    uint64_t rev;
    size_t n, cap;
    state_entry *e;
    int torn; /* times that listing, looking up and the clock did not agree */
} state;

static inline uint64_t state_mix(uint64_t h, const void *p, size_t n)
{
    const unsigned char *c = p;
    size_t i;

    for (i = 0; i + 8 <= n; i += 8) {
        uint64_t w;

        memcpy(&w, c + i, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    for (; i < n; i++)
        h = (h ^ c[i]) * 1099511628211ull;
    return (h ^ n) * 0x9e3779b97f4a7c15ull;
}

static inline uint64_t state_digest(const kv_record *r)
{
    uint64_t h = state_mix(1, &r->rev, 8);

    h = state_mix(h, &r->id, 8);
    h = state_mix(h, &r->created, 8);
    h = state_mix(h, &r->updated, 8);
    h = state_mix(h, &r->expires, 8);
    h = state_mix(h, &r->value.type, 4);
    h = state_mix(h, &r->value.integer, 8);
    h = state_mix(h, &r->value.number, 8);
    if (r->value.len)
        h = state_mix(h, r->value.data, r->value.len);
    if (r->meta_len)
        h = state_mix(h, r->meta, r->meta_len);
    return h | 1;
}

static inline state_entry *state_append(state *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap * 2 + 64;
        s->e = realloc(s->e, s->cap * sizeof *s->e);
        if (s->e == NULL)
            image_die("memory");
    }
    return &s->e[s->n++];
}

static inline state_entry *state_add(state *s, const char *name, size_t name_len, const char *key,
                                     size_t len)
{
    state_entry *e = state_append(s);

    if (name_len + 1 + len > STATE_KEY)
        image_die("a key too long for this test");
    memcpy(e->key, name, name_len);
    e->key[name_len] = 0;
    memcpy(e->key + name_len + 1, key, len);
    e->len = (uint32_t)(name_len + 1 + len);
    return e;
}

static inline int state_order(const state_entry *a, const state_entry *b)
{
    int c = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static inline int state_read_ns(kv *h, const kv_ns_info *info, state *s)
{
    kv_iter *it = malloc(kv_iter_size());
    kv_record r, again;
    state_entry *e;
    kv_ns *ns = NULL, *other = NULL;
    int rc;

    if (it == NULL)
        image_die("memory");
    rc = kv_namespace(h, info->name, info->name_len, NULL, 0, 0, &ns);
    if (rc == KV_OK)
        rc = kv_namespace(h, info->name, info->name_len, NULL, 0, 0, &other);
    if (rc == KV_OK)
        rc = kv_iter_init(it, ns, NULL);
    while (rc == KV_OK && (rc = kv_iter_next(it, &r)) == KV_OK) {
        e = state_add(s, info->name, info->name_len, r.key, r.key_len);
        e->digest = state_digest(&r);
        e->expires = r.expires;
        if (r.expires != 0 && r.expires <= kv_now(h))
            s->torn++;
        rc = kv_get(other, r.key, r.key_len, &again);
        if (rc == KV_ENOTFOUND || (rc == KV_OK && state_digest(&again) != e->digest)) {
            s->torn++;
            rc = KV_OK;
        }
    }
    kv_ns_close(ns);
    kv_ns_close(other);
    free(it);
    return rc == KV_ENOTFOUND ? KV_OK : rc;
}

/* Everything there is, read as any reader would. A negative code: the store's. */
static inline int state_take(kv *h, state *s)
{
    kv_ns_info info;
    state_entry *e;
    int rc;

    s->n = 0;
    s->torn = 0;
    s->rev = kv_rev(h);
    info.name_len = 0;
    while ((rc = kv_ns_next(h, &info)) == KV_OK) {
        e = state_add(s, info.name, info.name_len, "", 0);
        e->digest = state_mix(2, &info.created, 8);
        e->digest = state_mix(e->digest, info.desc, info.desc_len) | 1;
        e->expires = 0;
        rc = state_read_ns(h, &info, s);
        if (rc != KV_OK)
            return rc;
    }
    return rc == KV_ENOTFOUND ? KV_OK : rc;
}

static inline const state_entry *state_find(const state *s, const state_entry *key)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = state_order(&s->e[mid], key);

        if (c == 0)
            return &s->e[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static inline uint64_t state_of(const state *s, const state_entry *key)
{
    const state_entry *e = state_find(s, key);

    return e ? e->digest : 0;
}

static inline int state_same_but_rev(const state *a, const state *b)
{
    size_t i;

    if (a->n != b->n)
        return 0;
    for (i = 0; i < a->n; i++)
        if (a->e[i].digest != b->e[i].digest || state_order(&a->e[i], &b->e[i]) != 0)
            return 0;
    return 1;
}

static inline int state_same(const state *a, const state *b)
{
    return a->rev == b->rev && state_same_but_rev(a, b);
}

static inline void state_print_key(const state_entry *e)
{
    uint32_t i;

    for (i = 0; i < e->len && i < 60; i++)
        fputc(e->key[i] >= ' ' && e->key[i] < 127 ? e->key[i] : '/', stderr);
    if (e->len > 60)
        fprintf(stderr, "...(%u)", (unsigned)e->len);
}

/* What differs, for whoever looks into a failure. */
static inline void state_explain(const char *what, const state *a, const state *b)
{
    size_t i, shown = 0;

    fprintf(stderr, "  %s: revision %llu, %zu entries, against revision %llu, %zu\n", what,
            (unsigned long long)a->rev, a->n, (unsigned long long)b->rev, b->n);
    for (i = 0; i < a->n && shown < 5; i++)
        if (state_of(b, &a->e[i]) != a->e[i].digest) {
            fprintf(stderr, "    %s ", state_of(b, &a->e[i]) ? "other " : "gone  ");
            state_print_key(&a->e[i]);
            fputc('\n', stderr);
            shown++;
        }
    for (i = 0; i < b->n && shown < 10; i++)
        if (state_of(a, &b->e[i]) == 0) {
            fprintf(stderr, "    new    ");
            state_print_key(&b->e[i]);
            fputc('\n', stderr);
            shown++;
        }
}

static inline void state_assign(state *to, const state *from)
{
    if (to->cap < from->n) {
        free(to->e);
        to->e = malloc(from->cap * sizeof *to->e);
        to->cap = from->cap;
        if (to->e == NULL)
            image_die("memory");
    }
    if (from->n)
        memcpy(to->e, from->e, from->n * sizeof *from->e);
    to->n = from->n;
    to->rev = from->rev;
    to->torn = from->torn;
}

static inline void state_free(state *s)
{
    free(s->e);
    memset(s, 0, sizeof *s);
}

#endif
