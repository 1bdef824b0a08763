/* SPDX-License-Identifier: MIT
 *
 * test_open_faults.c - every way to open a store when the system says no: making it, replaying its
 * log, attaching alone and beside others, reading only, another index after damage, new files after
 * a failed sync, salvage; and check and backup. Each system call of each fails, once and from there
 * on, and each allocation.
 *
 * What fails says why and never that a sound store is damaged; it leaves nothing behind that keeps
 * the next opening from finding all of it.
 */
#define _GNU_SOURCE
#include "state.h"

/* ---- what fails ---- */

static long calls, fail_from; /* 0: none fails */
static int fail_forever, fail_with;
static char failed[200];

static int fail_call(const char *call, const char *what)
{
    long n = ++calls;

    if (fail_from == 0 || n < fail_from || (n > fail_from && !fail_forever))
        return 0;
    if (n == fail_from)
        snprintf(failed, sizeof failed, "%s %.150s", call, what);
    return fail_with;
}

/* Sanitizers have an allocator of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_FAIL_ALLOCATIONS 0
static long allocations, fail_allocation;
#else
#define CAN_FAIL_ALLOCATIONS 1
static long allocations, fail_allocation;

static int refused(void)
{
    if (fail_allocation == 0 || ++allocations < fail_allocation ||
        (!fail_forever && allocations > fail_allocation))
        return 0;
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
    return refused() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return refused() ? NULL : __libc_realloc(p, n);
}
#endif

/* ---- stores ---- */

static char base[STATE_PATH], path[STATE_PATH];
static state whole, now;
static uint64_t tail; /* of the log of `base` */
static kv_options options;

static kv_value text(const char *s, uint32_t len)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = s;
    v.len = len;
    return v;
}

/* Several segments, a large value, namespaces of which one was dropped. */
static void fill(const char *to)
{
    static char large[60000];
    char key[24];
    kv_value v;
    kv_ns *ns, *gone;
    kv *h;
    int i;

    memset(large, 'l', sizeof large);
    if (!CHECK(kv_open(to, &options, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "n", 1, "first", 5, 1, &ns) == KV_OK) ||
        !CHECK(kv_namespace(h, "gone", 4, NULL, 0, 1, &gone) == KV_OK))
        image_die("fill");
    for (i = 0; i < 250; i++) {
        snprintf(key, sizeof key, "k%d", i % 70);
        v = text(large, (uint32_t)(i * 37 % 1500));
        CHECK(kv_put(i % 9 ? ns : gone, key, strlen(key), &v, NULL, NULL, NULL) == KV_OK);
    }
    v = text(large, sizeof large);
    CHECK(kv_put(ns, "large", 5, &v, NULL, NULL, NULL) == KV_OK);
    CHECK(kv_drop(h, "gone", 4, NULL) == KV_OK);
    CHECK(kv_sync(h) == KV_OK && state_take(h, &whole) == KV_OK);
    tail = kv_load(&h->s->log.w[KV_LOG_TAIL]);
    kv_ns_close(ns);
    kv_ns_close(gone);
    kv_close(h);
}

static void flip(const char *store, const char *name, long at, int whence)
{
    char file[STATE_PATH + 40];
    unsigned char c = 0;
    FILE *f;

    snprintf(file, sizeof file, "%s/%s", store, name);
    f = fopen(file, "r+");
    if (f == NULL || fseek(f, at, whence) != 0 || fread(&c, 1, 1, f) != 1)
        image_die(file);
    c ^= 0x55;
    (void)fseek(f, -1, SEEK_CUR);
    (void)fwrite(&c, 1, 1, f);
    fclose(f);
}

/* ---- ways to open ---- */

typedef struct way {
    const char *name;
    void (*prepare)(void);
    int (*run)(void);
    void (*after)(void); /* what is still open goes */
    int readonly;        /* opened so */
    int salvage;         /* the store is damaged */
} way;

static kv *beside; /* of one that has it open already */

static void copied(void)
{
    state_copy(base, path);
}

static void nothing(void)
{
    state_remove(path);
}

static void closed(void)
{
    kv *h;

    copied();
    if (!CHECK(kv_open(path, &options, &h) == KV_OK))
        image_die("closed");
    kv_close(h);
}

static void used(void)
{
    closed();
    if (!CHECK(kv_open(path, &options, &beside) == KV_OK))
        image_die("used");
}

static void spoilt(void)
{
    used();
    kv_store(kv_st(beside->s, KV_ST_CORRUPT), 1);
}

static int no_sync(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "fdatasync") == 0 ? EIO : 0;
}

static void broken(void)
{
    kv_value v = text("1", 1);
    kv_ns *ns;

    used();
    CHECK(kv_namespace(beside, "n", 1, NULL, 0, 0, &ns) == KV_OK);
    CHECK(kv_put(ns, "k1", 2, &v, NULL, NULL, NULL) == KV_OK);
    kv_test_syscall = no_sync;
    CHECK(kv_sync(beside) == KV_EIO);
    kv_test_syscall = NULL;
    kv_ns_close(ns);
}

static void damaged(void)
{
    copied();
    flip(path, "log.00000001", 3000, SEEK_SET);
}

static void torn(void)
{
    char name[24];

    copied();
    snprintf(name, sizeof name, "log.%08x", (unsigned)kv_pos_id(tail));
    flip(path, name, kv_pos_off(tail) + 40, SEEK_SET);
}

static int opens(void)
{
    kv *h = NULL;
    int e = kv_open(path, &options, &h);

    if (e == KV_OK)
        kv_close(h);
    return e;
}

static int opens_to_salvage(void)
{
    int e;

    options.salvage = 1;
    e = opens();
    options.salvage = 0;
    return e;
}

static int opens_readonly(void)
{
    int e;

    options.readonly = 1;
    e = opens();
    options.readonly = 0;
    return e;
}

static int opens_with_limits(void)
{
    int e;

    options.max_size = (uint64_t)1 << 30;
    options.max_value = 1 << 20;
    e = opens();
    options.max_size = options.max_value = 0;
    return e;
}

/* In a process of its own, which attaches beside this one. */
static int exits(int e)
{
    fail_from = fail_allocation = 0;
    check_exit(e == KV_OK ? 0 : e == KV_ECORRUPT ? 2 : 1);
    return 0;
}

static int elsewhere(int (*run)(void))
{
    int status;
    pid_t child;

    fflush(NULL);
    child = check_fork();
    if (child == 0)
        exits(run());
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status) == 0 ? KV_OK : WEXITSTATUS(status) == 2 ? KV_ECORRUPT : KV_EIO;
}

static int attaches(void)
{
    return elsewhere(opens);
}

static int attaches_readonly(void)
{
    return elsewhere(opens_readonly);
}

static int checks(void)
{
    return kv_check(beside);
}

static int backs_up(void)
{
    char to[STATE_PATH];
    uint64_t n;

    state_path(to, "copy");
    state_remove(to);
    return kv_backup(beside, to, &n);
}

/* A handle that has to move over to an index somebody else has built. */
static void replaced(void)
{
    int status;
    pid_t child;

    spoilt();
    fflush(NULL);
    child = check_fork();
    if (child == 0)
        exits(opens());
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static int moves_over(void)
{
    kv_ns *ns;
    kv_value v = text("1", 1);
    int e = kv_namespace(beside, "n", 1, NULL, 0, 0, &ns);

    if (e == KV_OK) {
        e = kv_exists(ns, "large", 5);
        if (e == KV_OK && (e = kv_put(ns, "k1", 2, &v, NULL, NULL, NULL)) == KV_OK)
            e = kv_delete(ns, "k1", 2, NULL, NULL, NULL);
        kv_ns_close(ns);
    }
    return e;
}

static void closes(void)
{
    kv_close(beside);
    beside = NULL;
}

static const way ways[] = {
    {"making", nothing, opens, NULL, 0, 0},
    {"replaying", copied, opens, NULL, 0, 0},
    {"replaying readonly", copied, opens_readonly, NULL, 1, 0},
    {"a torn tail", torn, opens, NULL, 0, 0},
    {"attaching alone", closed, opens, NULL, 0, 0},
    {"new limits", closed, opens_with_limits, NULL, 0, 0},
    {"attaching readonly", closed, opens_readonly, NULL, 1, 0},
    {"attaching", used, attaches, closes, 0, 0},
    {"attaching readonly beside", used, attaches_readonly, closes, 1, 0},
    {"another index", spoilt, opens, closes, 0, 0},
    {"moving over", replaced, moves_over, closes, 0, 0},
    {"after a failed sync", broken, opens, closes, 0, 0},
    {"salvage", damaged, opens_to_salvage, NULL, 0, 1},
    {"check", used, checks, closes, 0, 0},
    {"backup", used, backs_up, closes, 0, 0},
};

/* ---- all of it ---- */

static int differs_in_k1_only(const state *a, const state *b)
{
    size_t i, other = 0;

    for (i = 0; i < a->n; i++)
        other += state_of(b, &a->e[i]) != a->e[i].digest;
    return other <= 1 && b->n <= a->n && b->n + 1 >= a->n;
}

/* Without faults: all is there. */
static void verify(const way *w)
{
    kv *h = NULL;
    int e;

    options.salvage = w->salvage;
    e = kv_open(path, &options, &h);
    options.salvage = 0;
    if (CHECK(e == KV_OK)) {
        CHECK(state_take(h, &now) == KV_OK && now.torn == 0);
        if (w->run == moves_over || w->prepare == broken)
            CHECK(differs_in_k1_only(&whole, &now));
        else if (w->prepare != nothing && !w->salvage && !CHECK(state_same_but_rev(&whole, &now)))
            state_explain(failed, &whole, &now);
        if (w->salvage)
            CHECK(now.n > whole.n / 2);
        CHECK(kv_check(h) == KV_OK);
        kv_close(h);
    }
    if (e != KV_OK)
        fprintf(stderr, "  %s, after %s: %s\n", w->name, failed, kv_message());
}

/* The n-th call (or allocation) fails. 0: there are not so many. */
static int one(const way *w, long n, int forever, int of_memory)
{
    static const int codes[] = {EIO, ENOSPC, ENOMEM, EMFILE, EDQUOT, EINTR};
    long made;
    int e, before = check_failures;

    w->prepare();
    calls = allocations = 0;
    fail_forever = forever;
    fail_with = codes[(n + forever * 3) % (forever ? 5 : 6)]; /* EINTR for ever is no failure */
    failed[0] = 0;
    if (of_memory)
        fail_allocation = n;
    else
        fail_from = n;
    kv_test_syscall = fail_call;
    e = w->run();
    kv_test_syscall = NULL;
    made = of_memory ? allocations : calls;
    fail_from = fail_allocation = 0;
    CHECK(e != KV_ECORRUPT);
    if (w->after)
        w->after();
    verify(w);
    if (check_failures != before)
        fprintf(stderr, "  %s: %s %ld fails%s (%s): %s\n", w->name,
                of_memory ? "allocation" : "call", n, forever ? " for ever" : "", failed,
                kv_message());
    return made >= n || w->run == attaches || w->run == attaches_readonly;
}

int main(void)
{
    size_t i;
    long n, most = getenv("KV_SHORT") ? 8 : getenv("KV_LONG") ? 100000 : 12, tried = 0;
    int forever;

    state_begin("test_open_faults");
    kv_options_init(&options);
    options.thread = 0;
    options.timeout = 50;
    state_path(base, "base");
    state_path(path, "store");
    fill(base);
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++)
        for (forever = 0; forever < 2; forever++) {
            /* A child's calls cannot be counted from here: as many as attaching makes. */
            long last = ways[i].run == attaches || ways[i].run == attaches_readonly ? 60 : 1000000;

            for (n = 1; n <= last && n <= most * 100 && one(&ways[i], n, forever, 0);
                 n += n < most ? 1 : n / most + 1)
                tried++;
            for (n = 1; CAN_FAIL_ALLOCATIONS && n <= last && n <= most * 100 &&
                        one(&ways[i], n, forever, 1);
                 n += n < most ? 1 : n / most + 1)
                tried++;
        }
    state_free(&whole);
    state_free(&now);
    state_clear();
    printf("%ld failures\n", tried);
    return check_done("test_open_faults");
}
