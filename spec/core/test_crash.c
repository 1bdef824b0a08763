/* SPDX-License-Identifier: MIT
 *
 * test_crash.c - death between any two stores to shared memory, in every operation, and in what
 * mends it.
 *
 * For each operation of a script, and each n, somebody runs it and dies before its n-th store: a
 * child process on the inherited handle, or a jump out of the code, which leaves shared memory the
 * same, the notes of the dead on the locks included. (What makes or frees files always dies in a
 * child, and at system calls, too.) Then a reader without the lock finds every key as it was or as
 * it will be. Then another process recovers, or a handle that shares nothing but the store with the
 * dead one: mostly a neighbour that has had it attached all the time, sometimes a stranger who
 * opens it only now. The state is the one before or the one after, nothing seen is taken back, and
 * the index is what the log says. Every other n with one death of the neighbour in the recovery
 * too, and now and then a copy of the files is opened as a process after everybody's death would.
 * Then everything is put back, and n + 1 is next.
 *
 * SEED=n repeats a run; ONLY=n lets nobody die but in operation n. KV_SHORT: a sample of n.
 * KV_LONG: ten times the operations, and for every 48th n a death at each store of the recovery.
 */
#define _GNU_SOURCE
#include "state.h"

#include <pthread.h>
#include <linux/futex.h>

#define SPACES 3 /* namespaces with a handle */
#define LONG   150

static const char *const names[SPACES] = {"a", "bb", "c"};

static kv *h, *reader; /* two handles of one store; the second takes no writes */
static kv *neighbour;  /* a handle of it that has nothing in common with those */
static kv_ns *ns[SPACES];
static char path[STATE_PATH], copy_path[STATE_PATH];
static int64_t clock_ms = 1750000000000;
static int all_pairs; /* every so many n with every death of the recovery; 0: none */
static uint64_t all_stores, deaths, pairs, reopened, strangers;

/* What a child has to say. */
static struct {
    int64_t stores;
    int rc;
    uint64_t digest; /* of all that a stranger has found */
} * told;

/* Memory that was freed is held back by the sanitizer; a fork copies the tables of its pages. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1";
}

/* ---- operations ----------------------------------------------------------------------- */

enum kind {
    PUT,
    PUT_TTL,
    PUT_META,
    PUT_KEEP,
    PUT_NEW_ONLY,
    DELETE,
    EXPIRE,
    PERSIST,
    INCR,
    INCR_TTL,
    PUT_MANY,
    DELETE_PREFIX,
    NS_CREATE,
    NS_DESCRIBE,
    DROP,
    TICK,
    SYNC,
    CLEAN,
    GROW,
    MAINTAIN,
    KINDS
};

static const char *const kind_name[KINDS] = {
    "put",      "put ttl",       "put meta",  "put keep_ttl", "put if_not_exist",
    "delete",   "expire",        "persist",   "incr",         "incr ttl",
    "put_many", "delete_prefix", "namespace", "describe",     "drop",
    "tick",     "sync",          "clean",     "grow",         "maintain"};

typedef struct op {
    int kind, ns, count;
    int steps; /* 1: each of its changes counts by itself; 2: the namespace, then the rest */
    uint32_t key, size;
    int64_t ttl, advance;
    uint32_t serial;
} op;

#define KEY_MAX 260

/* Keys from 1000 on are long: few of them make the order split. */
static uint32_t key_text(uint32_t n, char to[KEY_MAX])
{
    uint32_t len = (uint32_t)snprintf(to, KEY_MAX, "k%04u", (unsigned)n);

    if (n >= 1000) {
        memset(to + len, 'x', LONG);
        len += LONG;
    }
    return len;
}

static char *filler(uint32_t serial, uint32_t size)
{
    static char bytes[1 << 16];
    uint32_t i;

    for (i = 0; i < size; i++)
        bytes[i] = (char)('a' + (serial * 7 + i / 16 * 5 + i) % 26);
    return bytes;
}

static kv_value text(uint32_t serial, uint32_t size)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = filler(serial, size);
    v.len = size;
    return v;
}

static int run_put(const op *o)
{
    static const char meta[] = "{\"a\":[1,2,3]}";
    kv_value v = text(o->serial, o->size);
    kv_write w = {0};
    char key[KEY_MAX];
    uint32_t len = key_text(o->key, key);

    if (o->kind == PUT_TTL || o->ttl) {
        w.flags |= KV_TTL;
        w.ttl = o->ttl;
    }
    if (o->kind == PUT_META) {
        w.flags |= KV_META;
        w.meta = meta;
        w.meta_len = sizeof meta - 1;
    }
    if (o->kind == PUT_KEEP)
        w.flags |= KV_KEEP_TTL | KV_KEEP_META | KV_IF_EXIST;
    if (o->kind == PUT_NEW_ONLY)
        w.flags |= KV_IF_NOT_EXIST;
    return kv_put(ns[o->ns], key, len, &v, &w, NULL, NULL);
}

static int run_incr(const op *o)
{
    kv_incr_opts opts = {0};
    kv_value by = {0}, out;
    char key[KEY_MAX];
    uint32_t len = key_text(o->key, key);

    by.type = KV_INTEGER;
    by.integer = 1 + o->serial % 5;
    if (o->kind == INCR_TTL) {
        opts.flags = KV_INCR_TTL;
        opts.ttl = o->ttl;
    }
    return kv_incr(ns[o->ns], key, len, &by, &opts, &out, NULL);
}

static int run_many(const op *o)
{
    kv_item items[32];
    char keys[32][KEY_MAX];
    int i;

    memset(items, 0, sizeof items);
    for (i = 0; i < o->count; i++) {
        items[i].key = keys[i];
        items[i].len = key_text(o->key + (uint32_t)i, keys[i]);
        items[i].value = text(o->serial, o->size);
        if (i % 3 == 2) {
            items[i].write.flags = KV_TTL;
            items[i].write.ttl = 1500 + 100 * i;
        }
    }
    return kv_put_many(ns[o->ns], items, (size_t)o->count, NULL, NULL);
}

static int run_name(const op *o)
{
    kv_ns *made = NULL;
    char name[32], desc[64];
    int n = snprintf(name, sizeof name, "n%u", (unsigned)o->key), d, rc;

    d = snprintf(desc, sizeof desc, "description %u", (unsigned)o->serial);
    rc =
        kv_namespace(h, name, (size_t)n, o->kind == NS_DESCRIBE ? desc : NULL, (size_t)d, 1, &made);
    kv_ns_close(made);
    return rc;
}

static int run(const op *o)
{
    kv_db *s = h->s;
    char key[KEY_MAX];
    uint32_t len = key_text(o->key, key);
    uint64_t n;
    int had;

    switch (o->kind) {
    case DELETE:
        return kv_delete(ns[o->ns], key, len, NULL, NULL, NULL);
    case EXPIRE:
        return kv_expire(ns[o->ns], key, len, o->ttl);
    case PERSIST:
        return kv_persist(ns[o->ns], key, len, &had);
    case INCR:
    case INCR_TTL:
        return run_incr(o);
    case PUT_MANY:
        return run_many(o);
    case DELETE_PREFIX:
        return kv_delete_prefix(ns[o->ns], key, (size_t)o->count, &n);
    case NS_CREATE:
    case NS_DESCRIBE:
        return run_name(o);
    case DROP:
        return kv_drop(h, names[o->ns], strlen(names[o->ns]), &n);
    case TICK:
        return kv_tick_steps(h, (uint64_t)o->count, 0, &n);
    case SYNC:
        return kv_sync_to(h, kv_load(&s->log.w[KV_LOG_TAIL]));
    case CLEAN:
        return kv_tick_steps(h, (uint64_t)o->count, 1, &n);
    case GROW:
        return kv_make_room(h, ((1u << KV_SPACES) - 1) | KV_NEED_LOG, 40, 100);
    case MAINTAIN:
        return kv_maintain(s, 1000, 1);
    default:
        return run_put(o);
    }
}

/* ---- putting everything back ---------------------------------------------------------- */

typedef struct kept_file {
    char name[32];
    ino_t inode;
    size_t size, cap;
    char *bytes;
    char *map; /* the file that has this inode; NULL: none */
    size_t mapped;
} kept_file;

#define FILES_MAX 200

typedef struct kept {
    kept_file f[FILES_MAX];
    int files;
    kv_head head;
    char *pages[KV_SPACES];
    uint64_t ready[KV_SPACES], room[KV_SPACES];
    kv_meta meta;
    uint32_t ns[SPACES];
} kept;

static kept before;

static const uint32_t a_page[KV_SPACES] = {KV_PAGE / KV_BUCKETS_SIZE, KV_PAGE / KV_OVERFLOW_SIZE,
                                           KV_PAGE / KV_NODES_SIZE, KV_PAGE / KV_TIMERS_SIZE,
                                           KV_PAGE / KV_NAMES_SIZE};

static int is_kept(const char *name)
{
    return strncmp(name, "log.", 4) == 0 || strncmp(name, "blob.", 5) == 0 ||
           strcmp(name, "meta") == 0;
}

static void full_name(char to[STATE_PATH + 40], const char *name)
{
    snprintf(to, STATE_PATH + 40, "%s/%.32s", path, name);
}

static void map_file(kept_file *f, int fd, ino_t inode)
{
    if (f->map)
        munmap(f->map, f->mapped);
    f->inode = inode;
    f->mapped = f->size;
    f->map = mmap(NULL, f->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (f->map == MAP_FAILED)
        image_die("map");
}

static void keep_file(kept_file *f, const char *name)
{
    char full[STATE_PATH + 40];
    struct stat st;
    int fd;

    full_name(full, name);
    fd = open(full, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        image_die("keep");
    snprintf(f->name, sizeof f->name, "%.31s", name);
    f->size = (size_t)st.st_size;
    map_file(f, fd, st.st_ino);
    if (f->size > f->cap) {
        free(f->bytes);
        f->bytes = malloc(f->size);
        f->cap = f->size;
    }
    if (pread(fd, f->bytes, f->size, 0) != (ssize_t)f->size)
        image_die("keep");
    close(fd);
}

static void keep(void)
{
    kv_region *r = &h->s->region;
    DIR *d = opendir(path);
    struct dirent *f;
    uint64_t id;
    int s;

    before.files = 0;
    while (d && (f = readdir(d)) != NULL)
        if (is_kept(f->d_name)) {
            if (before.files == FILES_MAX)
                image_die("too many files");
            keep_file(&before.f[before.files++], f->d_name);
        }
    closedir(d);
    memcpy(&before.head, r->head, sizeof before.head);
    for (s = 0; s < KV_SPACES; s++) {
        before.ready[s] = r->head->ready[s];
        if (before.ready[s] > before.room[s]) {
            free(before.pages[s]);
            before.room[s] = before.ready[s];
            before.pages[s] = malloc(before.room[s] / a_page[s] * KV_PAGE);
        }
        for (id = 0; id < before.ready[s]; id += a_page[s])
            memcpy(before.pages[s] + id / a_page[s] * KV_PAGE,
                   kv_region_place(r, s, (uint32_t)id).ptr, KV_PAGE);
    }
    before.meta = h->s->meta;
    for (s = 0; s < SPACES; s++)
        before.ns[s] = ns[s]->id;
}

static void unmap_from(kv_log *l, uint32_t id)
{
    uint64_t *slot = &l->table[id & (KV_SEG_IDS - 1)].at;

    if (*slot)
        kv_file_unmap((void *)(uintptr_t)(*slot & ~(uint64_t)(KV_PAGE - 1)),
                      (size_t)1 << (*slot & 31));
    *slot = 0;
    if (l->sync_fd >= 0)
        kv_file_close(l->sync_fd);
    l->sync_fd = -1;
}

/* The mappings of a segment whose file is another one now. */
static void unmap_segment(const char *name)
{
    uint32_t id;

    if (kv_log_parse_name(name, &id)) {
        unmap_from(&h->s->log, id);
        unmap_from(&neighbour->s->log, id);
    }
}

static void put_back_pages(char *to, const char *from, size_t n)
{
    size_t i, bite;

    for (i = 0; i < n; i += bite) {
        bite = n - i < KV_PAGE ? n - i : KV_PAGE;
        if (memcmp(to + i, from + i, bite) != 0)
            memcpy(to + i, from + i, bite);
    }
}

static void put_back_file(kept_file *f)
{
    char full[STATE_PATH + 40];
    struct stat st;
    int fd;

    full_name(full, f->name);
    if (stat(full, &st) == 0 && st.st_ino == f->inode) {
        put_back_pages(f->map, f->bytes, f->size);
        return;
    }
    unmap_segment(f->name);
    fd = open(full, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, f->bytes, f->size, 0) != (ssize_t)f->size || fstat(fd, &st) != 0)
        image_die("put back");
    map_file(f, fd, st.st_ino);
    close(fd);
}

/* What one who has the store attached knows of what was put back. */
static void forget(kv_db *s)
{
    const kv_head *head = &before.head;
    int i;

    for (i = 0; i < KV_SPACES; i++)
        if (s->region.limit[i] > head->ready[i])
            s->region.limit[i] = head->ready[i];
    if (s->region.grown > head->grown)
        s->region.grown = head->grown;
    if (s->log.known > head->log[KV_LOG_SPARES])
        s->log.known = head->log[KV_LOG_SPARES];
    s->meta = before.meta;
}

static void put_back(void)
{
    kv_region *r = &h->s->region;
    DIR *d = opendir(path);
    struct dirent *f;
    char full[STATE_PATH + 40];
    uint64_t id, ready;
    int s, i;

    while (d && (f = readdir(d)) != NULL) {
        if (!is_kept(f->d_name) && strcmp(f->d_name, "meta.new") != 0)
            continue;
        for (i = 0; i < before.files && strcmp(before.f[i].name, f->d_name) != 0; i++)
            continue;
        if (i == before.files) {
            unmap_segment(f->d_name);
            full_name(full, f->d_name);
            unlink(full);
        }
    }
    closedir(d);
    for (i = 0; i < before.files; i++)
        put_back_file(&before.f[i]);
    for (s = 0; s < KV_SPACES; s++) {
        ready = r->head->ready[s];
        for (id = 0; id < ready; id += a_page[s]) {
            char *page = kv_region_place(r, s, (uint32_t)id).ptr;

            if (id < before.ready[s])
                put_back_pages(page, before.pages[s] + id / a_page[s] * KV_PAGE, KV_PAGE);
            else
                memset(page, 0, KV_PAGE);
        }
    }
    /* Where levels lie stays: this process has mapped them. */
    before.head.end = r->head->end;
    memcpy(before.head.place, r->head->place, sizeof before.head.place);
    memcpy(r->head, &before.head, sizeof before.head);
    forget(h->s);
    forget(neighbour->s);
    for (s = 0; s < SPACES; s++)
        ns[s]->id = before.ns[s];
}

/* What a process that was there before the death learns from the files once several may share a
 * store; today nobody lives to learn it, but the test goes on in the same process. */
static void adopt(void)
{
    if (kv_meta_read(h->s->dir, &h->s->meta) != KV_OK)
        image_die("meta");
}

/* ---- dying ---------------------------------------------------------------------------- */

static jmp_buf grave;
static int calls_too; /* system calls count as stores */

void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static int count_call(const char *call, const char *what)
{
    (void)call;
    (void)what;
    kv_test_store();
    return 0;
}

static void bury(void)
{
    longjmp(grave, 1);
}

/* A process's own lock, which ends with it. Whoever died in this thread held it or not. */
static void let_go(kv_mutex *lock)
{
    (void)pthread_mutex_trylock((pthread_mutex_t *)(void *)lock);
    (void)pthread_mutex_unlock((pthread_mutex_t *)(void *)lock);
}

/* As the kernel does for who dies with the lock: it is free, and says that its owner died. */
static void die_with(kv_lock *lock)
{
    pthread_mutex_t *m = (pthread_mutex_t *)(void *)lock;
    int e = pthread_mutex_trylock(m);

    if (e == EOWNERDEAD) /* of somebody before: still not mended */
        (void)pthread_mutex_consistent(m);
    (void)pthread_mutex_unlock(m);
    if (e == 0)
        return;
    __atomic_fetch_or((int *)(void *)m, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
    if (pthread_mutex_trylock(m) != EOWNERDEAD)
        image_die("a dead owner's lock is of another form here");
    (void)pthread_mutex_consistent(m);
    (void)pthread_mutex_unlock(m);
    __atomic_fetch_or((int *)(void *)m, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
}

/* A real death: a child exits. */
static int lives_forked(int64_t n, int (*body)(const op *o), const op *o)
{
    int status = 0;
    pid_t child = check_fork();

    if (child == 0) {
        int64_t began = kv_test_stores;
        int rc;

        alarm(60);
        kv_guard_adopt(&h->s->guard);
        kv_test_syscall = calls_too ? count_call : NULL;
        kv_test_die_at = n;
        rc = body(o);
        kv_test_die_at = 0;
        told->stores = kv_test_stores - began;
        told->rc = rc;
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        image_die("child");
    if (!CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77))) {
        fprintf(stderr, "  status %x\n", (unsigned)status);
        return -1;
    }
    return WEXITSTATUS(status) == 0;
}

/* The same to shared memory, and a hundred times faster: a jump out of the operation. */
static int lives_buried(kv_db *s, int64_t n, int (*body)(const op *o), const op *o)
{
    if (__lsan_disable)
        __lsan_disable();
    kv_test_die = bury;
    if (setjmp(grave) == 0) {
        kv_test_die_at = n;
        (void)body(o);
        kv_test_die_at = 0;
        kv_test_die = NULL;
        if (__lsan_enable)
            __lsan_enable();
        return 1;
    }
    kv_test_die_at = 0;
    kv_test_die = NULL;
    if (__lsan_enable)
        __lsan_enable();
    let_go(s->mutex);
    let_go(s->region.mutex);
    let_go(s->log.mutex);
    die_with(&s->locks->durable);
    die_with(&s->locks->maint);
    die_with(&s->locks->writer);
    return 0;
}

static int lives(int forked, int64_t n, int (*body)(const op *o), const op *o)
{
    return forked ? lives_forked(n, body, o) : lives_buried(h->s, n, body, o);
}

/* As whoever takes the lock next. */
static int mend_by(kv *who)
{
    int rc = kv_lock_writer(who);

    if (rc == KV_OK)
        kv_unlock_writer(who);
    return rc;
}

static int mend(const op *o)
{
    (void)o;
    return mend_by(h);
}

static int neighbour_mends(const op *o)
{
    (void)o;
    return mend_by(neighbour);
}

/* ---- who comes by ----------------------------------------------------------------------- */

static uint64_t digest_of(const state *s)
{
    uint64_t d = state_mix(3, &s->rev, 8);
    size_t i;

    for (i = 0; i < s->n; i++)
        d = state_mix(d, &s->e[i].digest, 8);
    return d;
}

static int open_apart(kv **to)
{
    kv *mine[] = {h, neighbour};
    kv_options o;

    kv_options_init(&o);
    o.thread = 0;
    o.create = 0;
    return state_open_apart(path, &o, mine, 2, to);
}

/* A stranger opens the store, looks, and closes it. Opening is to mend: nothing is left to do, and
 * nothing had to be built anew. */
static int visit(void)
{
    state all = {0};
    kv *visitor;
    int rc = open_apart(&visitor);

    if (rc != KV_OK)
        return rc;
    rc = state_take(visitor, &all);
    if (rc == KV_OK && (all.torn || visitor->s->replayed))
        rc = KV_ECORRUPT;
    told->digest = digest_of(&all);
    state_free(&all);
    if (rc == KV_OK)
        rc = kv_check(visitor);
    kv_close(visitor);
    return rc;
}

static int visit_as_child(const op *o)
{
    (void)o;
    return visit();
}

/* ---- what must hold ------------------------------------------------------------------- */

typedef struct trial {
    const op *o;
    int forked; /* each death is a child's */
    int brief;  /* this time only some entries are looked at: what changes, and a few others */
    const state *old, *new;
    state mid, end;
    state whole[2], some[2]; /* old and new */
    int after_all;           /* opened anew: a header may know of a revision that nothing has */
    int saw_new;             /* a reader has seen something of the new state */
    uint64_t saw_rev;
    unsigned char *of; /* by entry of new, then of old: it was seen as it is there */
} trial;

static int differ(const trial *t, const state_entry *e)
{
    return state_of(t->old, e) != state_of(t->new, e);
}

static uint64_t look_up(const state_entry *e)
{
    size_t name = strlen(e->key);
    kv_ns *n;
    kv_record r;
    uint64_t digest = 0;

    if (kv_namespace(reader, e->key, name, NULL, 0, 0, &n) != KV_OK)
        return 0;
    if (kv_get(n, e->key + name + 1, e->len - name - 1, &r) == KV_OK)
        digest = state_digest(&r);
    kv_ns_close(n);
    return digest;
}

/* One entry that the operation changes: as it was or as it will be, and the latter for good. Only a
 * listing may show the key again until the recovery is done: it is left out of the order before its
 * slot says that it is gone, and a recovery that dies may have undone the one alone. */
enum { GOT = 1, LISTED = 2 };

static int seen_well(trial *t, const state_entry *e, unsigned char *was_new)
{
    uint64_t was = state_of(t->old, e), is = state_of(t->new, e), listed = state_of(&t->mid, e);
    uint64_t got = strlen(e->key) + 1 == e->len ? listed : look_up(e);

    if (!CHECK(listed == was || listed == is) || !CHECK(got == was || got == is))
        return 0;
    if (*was_new & GOT && !CHECK(got == is))
        return 0;
    if (got == is)
        *was_new |= GOT;
    if (listed == is)
        *was_new |= LISTED;
    t->saw_new |= *was_new;
    return 1;
}

static int take(const trial *t, kv *from, state *s)
{
    const state_entry *e;
    size_t i = 0, j = 0;
    uint64_t digest;
    int c;

    if (!t->brief)
        return state_take(from, s);
    s->n = 0;
    s->torn = 0;
    s->rev = kv_rev(from);
    while (i < t->old->n || j < t->new->n) {
        c = i == t->old->n ? 1 : j == t->new->n ? -1 : state_order(&t->old->e[i], &t->new->e[j]);
        e = c <= 0 ? &t->old->e[i] : &t->new->e[j];
        i += c <= 0;
        j += c >= 0;
        digest = look_up(e);
        if (digest)
            *state_append(s) = *e, s->e[s->n - 1].digest = digest;
    }
    return KV_OK;
}

/* What the operation changes and a few entries more; none when namespaces change. */
static void choose_some(trial *t)
{
    int s;
    size_t i;

    for (s = 0; s < 2; s++) {
        state *all = &t->whole[s], *other = &t->whole[!s], *some = &t->some[s];

        some->n = 0;
        some->rev = all->rev;
        for (i = 0; i < all->n; i++) {
            int name = strlen(all->e[i].key) + 1 == all->e[i].len;
            int changes = state_of(other, &all->e[i]) != all->e[i].digest;

            if (name && changes) {
                t->some[0].n = t->some[1].n = 0;
                return;
            }
            if (!name && (changes || all->e[i].digest / 2 % 16 == t->o->serial % 16))
                *state_append(some) = all->e[i];
        }
    }
}

/* Reads as a reader without the lock does, while the writer lies dead. */
static int look(trial *t)
{
    int64_t stores = kv_test_stores;
    size_t i;
    int rc = take(t, reader, &t->mid);

    if (!CHECK(rc == KV_OK) || !CHECK(t->mid.torn == 0))
        return 0;
    for (i = 0; i < t->new->n; i++) {
        const state_entry *e = &t->new->e[i];

        if (!differ(t, e)) {
            if (!CHECK(state_of(&t->mid, e) == e->digest))
                return 0;
        } else if (!seen_well(t, e, &t->of[i])) {
            return 0;
        }
    }
    for (i = 0; i < t->old->n; i++)
        if (!state_find(t->new, &t->old->e[i]) &&
            !seen_well(t, &t->old->e[i], &t->of[t->new->n + i]))
            return 0;
    for (i = 0; i < t->mid.n; i++)
        if (!CHECK(state_find(t->old, &t->mid.e[i]) || state_find(t->new, &t->mid.e[i])))
            return 0;
    if (!CHECK(kv_test_stores == stores)) /* it stored nothing */
        return 0;
    if (t->mid.rev > t->saw_rev)
        t->saw_rev = t->mid.rev;
    return 1;
}

/* Whether `got` is new up to some change and old from there on, in the order of the keys. */
static int is_between(const trial *t, const state *got)
{
    size_t i = 0, j = 0, changes = 0, done = 0, k;
    int over = 0;

    while (i < t->old->n || j < t->new->n) {
        const state_entry *e;
        uint64_t is;
        int c = i == t->old->n   ? 1
                : j == t->new->n ? -1
                                 : state_order(&t->old->e[i], &t->new->e[j]);

        e = c <= 0 ? &t->old->e[i] : &t->new->e[j];
        i += c <= 0;
        j += c >= 0;
        is = state_of(got, e);
        if (!differ(t, e)) {
            if (is != e->digest)
                return 0;
            continue;
        }
        changes++;
        if (is == state_of(t->new, e) && !over)
            done++;
        else if (is == state_of(t->old, e))
            over = 1;
        else
            return 0;
    }
    for (k = 0; k < got->n; k++)
        if (!state_find(t->old, &got->e[k]) && !state_find(t->new, &got->e[k]))
            return 0;
    if (t->o->steps == 2)
        return done <= 1 || done == changes;
    return got->rev == t->old->rev + done || (t->after_all && got->rev == t->old->rev + done + 1);
}

static int is_legal(const trial *t, const state *got)
{
    return state_same(got, t->old) || state_same(got, t->new) ||
           (t->after_all && got->rev <= t->new->rev &&state_same_but_rev(got, t->old)) ||
           (t->o->steps && is_between(t, got));
}

/* What was seen is there. */
static int not_taken_back(const trial *t, const state *got)
{
    size_t i;

    for (i = 0; i < t->new->n; i++)
        if (t->of[i] && state_of(got, &t->new->e[i]) != t->new->e[i].digest)
            return 0;
    for (i = 0; i < t->old->n; i++)
        if (t->of[t->new->n + i] && state_find(got, &t->old->e[i]))
            return 0;
    return got->rev >= t->saw_rev;
}

static int judge_state(const trial *t, const state *got, const char *where)
{
    if (CHECK(got->torn == 0) && CHECK(is_legal(t, got)) && CHECK(not_taken_back(t, got)))
        return 1;
    fprintf(stderr, "  %s, saw_new %d\n", where, t->saw_new);
    state_explain("old against it", t->old, got);
    state_explain("new against it", t->new, got);
    return 0;
}

/* Opens a copy of the files, as whoever comes after everybody's death. */
static int reopen(trial *t, const state *exactly)
{
    kv_options o;
    state got = {0};
    kv *again;
    int rc, good;

    reopened++;
    kv_options_init(&o);
    o.thread = 0;
    o.create = 0;
    state_copy(path, copy_path);
    rc = kv_open(copy_path, &o, &again);
    if (!CHECK(rc == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return 0;
    }
    rc = state_take(again, &got);
    t->after_all = exactly == NULL;
    good = CHECK(rc == KV_OK) && judge_state(t, &got, "opened again");
    t->after_all = 0;
    if (good && exactly)
        good = CHECK(state_same(&got, exactly));
    if (good)
        good = CHECK(kv_check(again) == KV_OK) || (fprintf(stderr, "  %s\n", kv_message()), 0);
    kv_close(again);
    state_free(&got);
    return good;
}

/* ---- an iterator that was under way --------------------------------------------------- */

typedef struct walk {
    kv_iter *it;
    kv_ns *n;
    int ns;
    state met;
    int rc;
} walk;

static void walk_begin(walk *w, int which)
{
    memset(w, 0, sizeof *w);
    w->ns = which;
    w->it = malloc(kv_iter_size());
    w->rc = kv_namespace(h, names[which], strlen(names[which]), NULL, 0, 0, &w->n);
    if (w->rc == KV_OK)
        w->rc = kv_iter_init(w->it, w->n, NULL);
}

static void walk_on(walk *w, uint64_t steps)
{
    kv_record r;

    while (w->rc == KV_OK && steps-- > 0 && (w->rc = kv_iter_next(w->it, &r)) == KV_OK)
        state_add(&w->met, names[w->ns], strlen(names[w->ns]), r.key, r.key_len)->digest =
            state_digest(&r);
}

/* What was there throughout was met once, what never was was not. */
static int walk_end(walk *w, const trial *t)
{
    size_t i, name = strlen(names[w->ns]) + 1;
    int good = 1;

    walk_on(w, UINT64_MAX);
    if (t->o->kind != DROP)
        good = CHECK(w->rc == KV_ENOTFOUND);
    for (i = 0; good && i < w->met.n; i++) {
        good = CHECK(i == 0 || state_order(&w->met.e[i - 1], &w->met.e[i]) < 0) &&
               CHECK(state_of(t->old, &w->met.e[i]) == w->met.e[i].digest ||
                     state_of(t->new, &w->met.e[i]) == w->met.e[i].digest);
    }
    for (i = 0; good && i < t->old->n; i++)
        if (t->old->e[i].len > name && memcmp(t->old->e[i].key, names[w->ns], name) == 0 &&
            state_find(t->new, &t->old->e[i]))
            good = CHECK(state_find(&w->met, &t->old->e[i]) != NULL);
    return good;
}

static void walk_free(walk *w)
{
    state_free(&w->met);
    kv_ns_close(w->n);
    free(w->it);
}

/* ---- one death ------------------------------------------------------------------------ */

enum { VISITS = 124, CHILD_VISITS = 127, DICE = 128 };

/* Whoever comes next. Mostly the neighbour, sometimes a stranger, and this handle when a child has
 * died. */
static int somebody_mends(trial *t, uint64_t dice, int forked)
{
    int rc;

    adopt();
    strangers += dice >= VISITS;
    if (dice >= CHILD_VISITS)
        rc = lives_forked(0, visit_as_child, NULL) == 1 ? told->rc : KV_ECORRUPT;
    else if (dice >= VISITS)
        rc = visit();
    else
        rc = forked && dice % 2 ? mend(t->o) : neighbour_mends(t->o);
    adopt(); /* who closed the store may have freed segments */
    if (!CHECK(rc == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return 0;
    }
    return CHECK(take(t, h, &t->end) == KV_OK) && judge_state(t, &t->end, "recovered") &&
           CHECK(dice < VISITS || told->digest == digest_of(&t->end));
}

/* The next segment's header will name it: the record that ends at the tail. */
static int last_is_noted(kv_log *l)
{
    uint64_t tail = kv_load(&l->w[KV_LOG_TAIL]), last = kv_load(&l->w[KV_LOG_LAST]);
    uint64_t end = last, at = 0;
    kv_rec r;

    return last == 0 ? kv_pos_off(tail) == KV_SEG_HEAD
                     : kv_log_next(l, &end, tail, &at, &r) == 1 && at == last && end == tail;
}

/* What the dead one had begun behind the tail is zero again, or would be found as a record. */
static int none_is_behind(kv_log *l)
{
    uint64_t tail = kv_load(&l->w[KV_LOG_TAIL]);
    const char *bytes;
    uint32_t size = kv_log_mapped(l, kv_pos_id(tail), &bytes), off = kv_pos_off(tail);

    return size != 0 && (off == size || (bytes[off] == 0 && memcmp(bytes + off, bytes + off + 1,
                                                                   size - off - 1) == 0));
}

/* Dies at store n of the operation, then, if m is not 0, at store m of the recovery; 2 when there
 * were not so many stores, 1 when all held, 0 when not. */
static int die_and_mend(trial *t, int64_t n, int64_t m)
{
    uint64_t dice = image_below(DICE);
    int forked = t->forked || dice == 5, rc, good, last = 0, ended = 0, walking = dice % 32 == 1;
    walk w;

    deaths++;
    t->brief = t->some[0].n + t->some[1].n && !walking && dice >= 8 && dice < VISITS;
    t->old = t->brief ? &t->some[0] : &t->whole[0];
    t->new = t->brief ? &t->some[1] : &t->whole[1];
    t->saw_new = 0;
    t->saw_rev = 0;
    memset(t->of, 0, t->new->n + t->old->n + 1);
    if (walking) {
        walk_begin(&w, t->o->ns);
        walk_on(&w, image_below(40));
    }
    rc = lives(forked, n, run, t->o);
    if (rc == 1)
        ended = 1; /* this process knows more files by now, so that fewer calls are made */
    good = rc >= 0 && look(t);
    if (walking)
        walk_on(&w, 1);
    if (good && dice == 2)
        good = reopen(t, NULL);
    if (good && m) {
        pairs++;
        rc = forked ? lives_forked(m, mend, t->o)
                    : lives_buried(neighbour->s, m, neighbour_mends, t->o);
        last = rc == 1;
        good = rc >= 0 && look(t);
        if (good && dice == 3)
            good = reopen(t, NULL);
    }
    good = good && somebody_mends(t, dice, forked);
    good = good && CHECK(last_is_noted(&h->s->log)) && CHECK(none_is_behind(&h->s->log));
    if (good && walking)
        good = walk_end(&w, t);
    if (walking)
        walk_free(&w);
    if (good && dice < 6 && !CHECK(kv_check(h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        good = 0;
    }
    if (good && dice == 4)
        good = reopen(t, &t->end);
    if (good && ended)
        good = CHECK(state_same(&t->end, t->new));
    return good ? 1 + (last || ended) : 0;
}

static int every_death(trial *t, int64_t stores)
{
    int64_t step = getenv("KV_SHORT") ? 7 : 1, n, m;
    int held, all;

    for (n = 1 + (int64_t)image_below((uint64_t)step); n <= stores; n += step) {
        all = all_pairs && (n + t->o->serial) % all_pairs == 0;
        m = all ? 1 : n % 2 ? (int64_t)image_below(60) : 0;
        do {
            held = die_and_mend(t, n, m);
            if (!held) {
                fprintf(stderr, "  dying at store %lld of %lld, then at %lld of the recovery\n",
                        (long long)n, (long long)stores, (long long)m);
                return 0;
            }
            put_back();
            m++;
        } while (all && held != 2);
    }
    return 1;
}

/* ---- one operation -------------------------------------------------------------------- */

static int operation(const op *o)
{
    static trial t;
    static state end;
    state *old = &t.whole[0], *new = &t.whole[1];
    int64_t stores;
    int rc, wanted, good;

    clock_ms += o->advance;
    kv_test_clock_set(clock_ms);
    t.o = o;
    rc = state_take(h, old);
    if (!CHECK(rc == KV_OK) || !CHECK(old->torn == 0))
        return 0;
    keep();
    /* Undisturbed, to know what is to come and how many stores it takes. */
    t.forked = o->kind >= SYNC || o->size > 16000;
    calls_too = t.forked;
    good = CHECK(lives_forked(0, run, o) == 1);
    stores = told->stores;
    all_stores += (uint64_t)stores;
    if (getenv("TELL"))
        fprintf(stderr, "%u %s: %lld stores\n", (unsigned)o->serial, kind_name[o->kind],
                (long long)stores);
    wanted = told->rc;
    adopt();
    if (good)
        good = CHECK(state_take(h, new) == KV_OK) && CHECK(kv_check(h) == KV_OK);
    put_back();
    t.of = malloc(old->n + new->n + 1);
    choose_some(&t);
    if (good && (getenv("ONLY") == NULL || (uint32_t)atoi(getenv("ONLY")) == o->serial))
        good = every_death(&t, stores);
    if (good) {
        rc = run(o);
        good = CHECK(rc == wanted) && CHECK(state_take(h, &end) == KV_OK) &&
               CHECK(state_same(new, &end)) && CHECK(kv_check(h) == KV_OK);
    }
    if (!good)
        fprintf(stderr, "  in operation %u: %s, namespace %d, key %u, %u bytes, count %d: %s\n",
                (unsigned)o->serial, kind_name[o->kind], o->ns, (unsigned)o->key, (unsigned)o->size,
                o->count, kv_message());
    free(t.of);
    return good;
}

/* ---- the script ----------------------------------------------------------------------- */

static uint32_t serial;

static int step(int kind, int space, uint32_t key, uint32_t size, int64_t ttl, int count)
{
    op o = {0};

    o.kind = kind;
    o.ns = space;
    o.key = key;
    o.size = size;
    o.ttl = ttl;
    o.count = count;
    o.serial = ++serial;
    o.steps = kind == DELETE_PREFIX;
    if (kind == TICK || kind == PUT_KEEP)
        o.advance = 700;
    return operation(&o);
}

/* A write to a namespace that is gone makes it anew first. */
static int step_anew(int kind, int space, uint32_t key, uint32_t size, int count)
{
    op o = {0};

    o.kind = kind;
    o.ns = space;
    o.key = key;
    o.size = size;
    o.count = count;
    o.serial = ++serial;
    o.steps = kind == PUT_MANY ? 2 : 1;
    return operation(&o);
}

static void open_store(const char *name)
{
    kv_options o;
    int i;

    state_path(path, name);
    state_path(copy_path, "copy");
    kv_options_init(&o);
    o.thread = 0;
    kv_test_clock_set(clock_ms);
    if (kv_open(path, &o, &h) != KV_OK)
        image_die("open");
    o.readonly = 1;
    if (kv_open(path, &o, &reader) != KV_OK)
        image_die("open");
    for (i = 0; i < SPACES; i++)
        if (kv_namespace(h, names[i], strlen(names[i]), NULL, 0, 1, &ns[i]) != KV_OK)
            image_die("namespace");
    if (open_apart(&neighbour) != KV_OK)
        image_die("open");
}

static void close_store(void)
{
    int i;

    for (i = 0; i < SPACES; i++)
        kv_ns_close(ns[i]);
    kv_close(neighbour);
    neighbour = NULL;
    kv_close(reader);
    kv_close(h);
    state_remove(path);
}

/* What used the last revision and the last namespace id is cleaned away: only headers of segments
 * know of them, and a rebuild must not use them again. */
static int counters(void)
{
    uint64_t revision, next_ns, n;
    kv_options o;
    kv_ns *gone;
    kv *again;
    int i, good;

    if (!CHECK(kv_namespace(h, "gone", 4, NULL, 0, 1, &gone) == KV_OK) ||
        !CHECK(kv_drop(h, "gone", 4, &n) == KV_OK))
        return 0;
    kv_ns_close(gone);
    for (i = 0; i < 8; i++)
        if (!CHECK(kv_tick_steps(h, 1000, 1, &n) == KV_OK) ||
            !CHECK(kv_maintain(h->s, 1000, 1) == KV_OK))
            return 0;
    revision = kv_rev(h);
    next_ns = *kv_st(h->s, KV_ST_NEXT_NS);
    kv_options_init(&o);
    o.thread = 0;
    state_copy(path, copy_path);
    if (!CHECK(kv_open(copy_path, &o, &again) == KV_OK))
        return 0;
    good = CHECK(kv_rev(again) == revision) && CHECK(*kv_st(again->s, KV_ST_NEXT_NS) == next_ns);
    kv_close(again);
    return good;
}

static int armed;

/* While a reader is on its way from the slot to the record, another process cleans the segment and
 * frees it. */
static int free_meanwhile(const char *call, const char *what)
{
    uint64_t n;
    pid_t child;
    int i;

    if (!armed || strcmp(call, "open") != 0 || strstr(what, "/log.") == NULL)
        return 0;
    armed = 0;
    child = check_fork();
    if (child == 0) {
        kv_test_syscall = NULL;
        kv_guard_adopt(&h->s->guard);
        let_go(h->s->log.mutex); /* the reader's, which maps the segment */
        for (i = 0; i < 4; i++)
            if (kv_tick_steps(h, 1000, 1, &n) != KV_OK || kv_maintain(h->s, 1000, 1) != KV_OK)
                _exit(1);
        _exit(0);
    }
    if (!CHECK(child > 0 && waitpid(child, &i, 0) == child && i == 0))
        return EIO;
    return 0;
}

/* A segment that is gone is no miss: the record has moved. */
static int gone_segment(void)
{
    kv_scratch scratch = {0};
    char key[KEY_MAX];
    uint32_t len = key_text(900, key), oldest = (uint32_t)kv_load(&h->s->log.w[KV_LOG_OLDEST]);
    uint64_t hash, addr = 0;
    op o = {0};
    kv_record r;
    kv_rec rec;
    int i, good = 1;

    o.kind = PUT;
    for (i = 0; good && i < 30; i++) {
        o.key = i ? 901 : 900;
        o.size = i ? 9000 : 50;
        good = CHECK(run(&o) == KV_OK);
    }
    hash = kv_index_hash(h->s, ns[0]->id, key, len);
    good = good && CHECK(kv_read(h->s, ns[0]->id, hash, key, len, &scratch, &rec, &addr) == KV_OK);
    kv_scratch_free(&scratch);
    unmap_from(&h->s->log, kv_pos_id(kv_addr_pos(addr, oldest)));
    kv_test_syscall = free_meanwhile;
    armed = 1;
    good = good && CHECK(kv_get(ns[0], key, len, &r) == KV_OK) && CHECK(r.value.len == 50) &&
           CHECK(!armed);
    kv_test_syscall = NULL;
    adopt();
    return good && CHECK(kv_load(&h->s->log.w[KV_LOG_OLDEST]) > oldest) &&
           CHECK(kv_check(h) == KV_OK);
}

/* Every operation once and more, on a store that begins empty. */
static int small_store(void)
{
    return step(PUT, 0, 1, 20, 0, 0) && step(PUT, 0, 1, 300, 0, 0) && step(PUT, 1, 1, 20, 0, 0) &&
           step(PUT_TTL, 0, 2, 20, 1000, 0) && step(PUT_META, 0, 2, 20, 2000, 0) &&
           step(PUT_KEEP, 0, 2, 30, 0, 0) && step(PUT_NEW_ONLY, 0, 2, 30, 0, 0) &&
           step(PUT_NEW_ONLY, 0, 3, 30, 0, 0) && step(PUT_KEEP, 0, 99, 30, 0, 0) &&
           step(EXPIRE, 0, 1, 0, 5000, 0) && step(EXPIRE, 0, 1, 0, 600, 0) &&
           step(PERSIST, 0, 1, 0, 0, 0) && step(PERSIST, 0, 1, 0, 0, 0) &&
           step(EXPIRE, 0, 98, 0, 1000, 0) && step(INCR, 0, 10, 0, 0, 0) &&
           step(INCR, 0, 10, 0, 0, 0) && step(INCR_TTL, 0, 11, 0, 900, 0) &&
           step(INCR, 0, 11, 0, 0, 0) && step(INCR, 0, 3, 0, 0, 0) &&
           step(PUT_MANY, 0, 20, 50, 0, 7) && step(PUT_MANY, 0, 18, 40, 0, 9) &&
           step(DELETE, 0, 20, 0, 0, 0) && step(DELETE, 0, 20, 0, 0, 0) &&
           step(TICK, 0, 0, 0, 0, 100) && step(PUT, 0, 30, 17000, 0, 0) &&
           step(PUT, 0, 30, 18000, 0, 0) && step(PUT_TTL, 0, 30, 17000, 1000, 0) &&
           step(EXPIRE, 0, 30, 0, 700, 0) && step(TICK, 0, 0, 0, 0, 1) &&
           step(TICK, 0, 0, 0, 0, 100) && step(NS_CREATE, 0, 1, 0, 0, 0) &&
           step(NS_DESCRIBE, 0, 1, 0, 0, 0) && step(NS_DESCRIBE, 0, 2, 0, 0, 0) &&
           step(SYNC, 0, 0, 0, 0, 0) && step(PUT_MANY, 2, 40, 30, 0, 5) &&
           step(DROP, 2, 0, 0, 0, 0) && step(DROP, 2, 0, 0, 0, 0) && step(DELETE, 2, 40, 0, 0, 0) &&
           step_anew(PUT, 2, 41, 30, 0) && step(DROP, 2, 0, 0, 0, 0) &&
           step_anew(PUT_MANY, 2, 40, 30, 5) && step(PUT_TTL, 0, 1000, 20, 400, 0) &&
           step(PUT, 0, 1001, 20, 0, 0) && step(PUT, 0, 1002, 20, 0, 0) &&
           step(PUT, 0, 1003, 20, 0, 0) && step(PUT, 0, 1004, 20, 0, 0) &&
           step(PUT, 0, 1005, 20, 0, 0) && step(PUT, 0, 1006, 20, 0, 0) &&
           step(TICK, 0, 0, 0, 0, 100) && step(PUT_MANY, 0, 1007, 20, 0, 5) &&
           step(GROW, 0, 0, 0, 0, 0) && step(CLEAN, 0, 0, 0, 0, 5) &&
           step(PUT, 0, 1008, 9000, 0, 0) && step(PUT, 0, 1008, 9001, 0, 0) &&
           step(PUT, 0, 1008, 9002, 0, 0) && step(PUT, 0, 1008, 9003, 0, 0) &&
           step(PUT, 0, 1008, 9004, 0, 0) && step(PUT, 0, 1008, 9005, 0, 0) &&
           step(PUT, 0, 1008, 9006, 0, 0) && step(PUT_MANY, 0, 60, 9000, 0, 6) &&
           step(MAINTAIN, 0, 0, 0, 0, 0) && step(CLEAN, 0, 0, 0, 0, 20) &&
           step(CLEAN, 0, 0, 0, 0, 20) && step(CLEAN, 0, 0, 0, 0, 20) &&
           step(MAINTAIN, 0, 0, 0, 0, 0) && step(PUT_MANY, 0, 60, 9000, 0, 8) && counters() &&
           gone_segment() && step(DELETE_PREFIX, 0, 1000, 0, 0, 4) &&
           step(DELETE_PREFIX, 0, 0, 0, 0, 1);
}

/* So many keys and so much garbage that every few writes split something, change segments and clean
 * what others left. */
static void fill(void)
{
    op o = {0};
    uint32_t i;

    for (i = 0; i < 285; i++) {
        o.kind = i % 5 == 4 ? PUT_TTL : PUT;
        o.key = i % 7 == 6 ? 1000 + i : i;
        o.ns = i % 11 == 3;
        o.ttl = i % 5 == 4 ? 100 + 37 * (int64_t)i : 0;
        o.size = 20 + i % 40;
        o.serial = ++serial;
        if (run(&o) != KV_OK)
            image_die("fill");
    }
    memset(&o, 0, sizeof o);
    o.kind = PUT;
    for (i = 0; i < 60; i++) {
        o.key = 2000 + i % 3;
        o.size = 9000;
        if (run(&o) != KV_OK)
            image_die("fill");
    }
    if (kv_maintain(h->s, 1000, 1) != KV_OK)
        image_die("fill");
}

static int any_step(void)
{
    static const uint32_t sizes[] = {10, 30, 80, 300, 3000, 9000, 15000};
    uint32_t size = sizes[image_below(sizeof sizes / sizeof *sizes)], key;
    uint64_t dice = image_below(100);

    key = image_below(2) ? (uint32_t)image_below(400) : 1000 + (uint32_t)image_below(300);
    if (dice < 35)
        return step(PUT, (int)image_below(2), key, size, 0, 0);
    if (dice < 45)
        return step(PUT_TTL, (int)image_below(2), key, size, 100 + (int64_t)image_below(5000), 0);
    if (dice < 55)
        return step(DELETE, (int)image_below(2), key, 0, 0, 0);
    if (dice < 60)
        return step(INCR_TTL, 0, 500 + (uint32_t)image_below(3), 0, 800, 0);
    if (dice < 68)
        return step(PUT_MANY, (int)image_below(2), key, size / 4, 0, 3 + (int)image_below(5));
    if (dice < 73)
        return step(EXPIRE, 0, key % 285, 0, 100 + (int64_t)image_below(3000), 0);
    if (dice < 76)
        return step(PERSIST, 0, key % 285, 0, 0, 0);
    if (dice < 82)
        return step(TICK, 0, 0, 0, 0, 3);
    if (dice < 90)
        return step(CLEAN, 0, 0, 0, 0, 4);
    if (dice < 93)
        return step(MAINTAIN, 0, 0, 0, 0, 0);
    if (dice < 96)
        return step(NS_DESCRIBE, 0, (uint32_t)image_below(4), 0, 0, 0);
    return step(PUT_META, 0, key, size, 0, 0);
}

int main(void)
{
    int i, long_run = getenv("KV_LONG") != NULL, steps = long_run ? 1932 : 132, good;

    state_begin("test_crash");
    all_pairs = long_run ? 48 : 0;
    told = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    open_store("small");
    good = small_store();
    close_store();
    fprintf(stderr, "small: %u operations, %llu deaths\n", (unsigned)serial,
            (unsigned long long)deaths);
    open_store("large");
    if (good)
        fill();
    for (i = 0; good && i < steps; i++)
        good = any_step();
    close_store();
    state_clear();
    printf("%llu deaths at %llu stores, %llu more in the recovery, %llu strangers recovered, %llu "
           "copies opened\n",
           (unsigned long long)deaths, (unsigned long long)all_stores, (unsigned long long)pairs,
           (unsigned long long)strangers, (unsigned long long)reopened);
    return check_done("test_crash");
}
