/* SPDX-License-Identifier: MIT
 *
 * test_share.c - one store for several processes: attaching, growth while others have it mapped,
 * deaths, an index that is superseded, copies, other boots, readers without permission, fork.
 *
 * Children do what another process would; what they find wrong is their exit status.
 */
#define _GNU_SOURCE
#include "check.h"
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[64];

/* ---- directories ---------------------------------------------------------------------- */

static void remove_tree(const char *path)
{
    char name[600];
    DIR *d = opendir(path);
    struct dirent *f;

    while (d && (f = readdir(d)) != NULL)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) {
            snprintf(name, sizeof name, "%.300s/%.255s", path, f->d_name);
            if (unlink(name) != 0)
                remove_tree(name);
        }
    if (d)
        closedir(d);
    rmdir(path);
}

static const char *at(const char *name)
{
    static char path[8][200];
    static int i;
    char *p = path[i++ % 8];

    snprintf(p, sizeof path[0], "%.60s/%.100s", root, name);
    return p;
}

static int count_files(const char *path, const char *prefix)
{
    DIR *d = opendir(path);
    struct dirent *f;
    int n = 0;

    while (d && (f = readdir(d)) != NULL)
        n += strncmp(f->d_name, prefix, strlen(prefix)) == 0;
    if (d)
        closedir(d);
    return n;
}

/* ---- stores --------------------------------------------------------------------------- */

static kv_options options;

static kv *open_store(const char *path)
{
    kv *h = NULL;

    if (!CHECK(kv_open(path, &options, &h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        exit(3);
    }
    return h;
}

static kv_ns *space(kv *h)
{
    kv_ns *ns = NULL;

    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK);
    return ns;
}

static kv_value text_of(const char *s)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = s;
    v.len = (uint32_t)strlen(s);
    return v;
}

static int put(kv_ns *ns, const char *key, const char *value)
{
    kv_value v = text_of(value);

    return kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL);
}

/* Whether the key holds just this; NULL: is not there. */
static int is(kv_ns *ns, const char *key, const char *value)
{
    kv_value v;
    int e = kv_get_value(ns, key, strlen(key), &v);

    if (value == NULL)
        return e == KV_ENOTFOUND;
    return e == KV_OK && v.len == strlen(value) && memcmp(v.data, value, v.len) == 0;
}

static int sound(kv *h)
{
    int e = kv_check(h);

    if (e != KV_OK)
        fprintf(stderr, "  check: %s\n", kv_message());
    return e == KV_OK;
}

static kv_stats stats_of(kv *h)
{
    kv_stats s;

    CHECK(kv_get_stats(h, &s) == KV_OK);
    return s;
}

/* ---- other processes ------------------------------------------------------------------ */

static pid_t begin(void (*body)(void *), void *arg)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(60);
        check_failures = 0;
        body(arg);
        _exit(check_failures ? 1 : 0); /* the parent's leaks are not the child's */
    }
    CHECK(child > 0);
    return child;
}

static int status_of(pid_t child)
{
    int status = 0;

    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static int ends_well(pid_t child)
{
    int status = status_of(child);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 1;
    fprintf(stderr, "  a child ended with status %x\n", (unsigned)status);
    return 0;
}

static int in_child(void (*body)(void *), void *arg)
{
    return ends_well(begin(body, arg));
}

static void kill_it(pid_t child)
{
    kill(child, SIGKILL);
    (void)status_of(child);
}

/* Words shared by the test's processes. */
static uint64_t *flags;

static void set_flag(int i, uint64_t v)
{
    __atomic_store_n(&flags[i], v, __ATOMIC_SEQ_CST);
}

static uint64_t flag(int i)
{
    return __atomic_load_n(&flags[i], __ATOMIC_SEQ_CST);
}

static void await(int i, uint64_t v)
{
    int n;

    for (n = 0; flag(i) < v; n++) {
        kv_os_sleep(1);
        if (n > 30000) {
            CHECK(flag(i) >= v);
            exit(4);
        }
    }
}

static void clear_flags(void)
{
    memset(flags, 0, KV_PAGE);
}

/* ---- attaching ------------------------------------------------------------------------ */

static void other_writes(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(is(ns, "mine", "1") && is(ns, "yours", NULL));
    CHECK(put(ns, "yours", "2") == KV_OK && put(ns, "both", "b") == KV_OK);
    CHECK(stats_of(h).replayed == 0);
    kv_ns_close(ns);
    kv_close(h);
}

static void attaching(void)
{
    const char *path = at("attach");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    uint64_t rev;

    CHECK(put(ns, "mine", "1") == KV_OK && put(ns, "both", "a") == KV_OK);
    rev = kv_rev(h);
    CHECK(in_child(other_writes, (void *)(uintptr_t)path));
    CHECK(is(ns, "yours", "2") && is(ns, "both", "b") && kv_rev(h) == rev + 2);
    CHECK(put(ns, "both", "c") == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
    /* Nobody has it open, and nothing need be replayed. */
    CHECK(count_files(path, "index.") == 1);
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "both", "c") && is(ns, "yours", "2") && stats_of(h).replayed == 0 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* Several processes write and read as fast as they can, and the store grows from nothing. */
#define CROWD 4
#define EACH  3000

typedef struct crowd {
    const char *path;
    int number;
} crowd;

static void one_of_many(void *arg)
{
    crowd *c = arg;
    kv *h = open_store(c->path);
    kv_ns *ns = space(h);
    kv_value by = {0}, sum;
    char key[24], value[120];
    int i, j;

    by.type = KV_INTEGER;
    by.integer = 1;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (i = 0; i < EACH; i++) {
        snprintf(key, sizeof key, "%d-%d", c->number, i);
        CHECK(put(ns, key, value) == KV_OK);
        CHECK(kv_incr(ns, "sum", 3, &by, NULL, &sum, NULL) == KV_OK);
        j = (int)(((unsigned)i * 2654435761u) % (unsigned)(i + 1));
        snprintf(key, sizeof key, "%d-%d", c->number, j);
        CHECK(is(ns, key, value));
    }
    kv_ns_close(ns);
    kv_close(h);
}

static void growing(void)
{
    const char *path = at("grow");
    crowd c[CROWD];
    pid_t child[CROWD];
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_range all = {0};
    kv_value v;
    uint64_t n;
    int i;

    for (i = 0; i < CROWD; i++) {
        c[i].path = path;
        c[i].number = i;
        child[i] = begin(one_of_many, &c[i]);
    }
    for (i = 0; i < CROWD; i++)
        CHECK(ends_well(child[i]));
    CHECK(kv_get_value(ns, "sum", 3, &v) == KV_OK && v.integer == CROWD * EACH);
    CHECK(kv_count(ns, &all, &n) == KV_OK && n == CROWD * EACH + 1);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- deaths --------------------------------------------------------------------------- */

static void writes_for_ever(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    char key[16], value[80];
    uint64_t i;

    for (i = flag(0) + 1;; i++) {
        snprintf(key, sizeof key, "k%u", (unsigned)(i % 50));
        snprintf(value, sizeof value, "%064u", (unsigned)i);
        if (put(ns, key, value) != KV_OK)
            _exit(5);
        set_flag(0, i);
    }
}

/* The only user is killed again and again; what it had been told was written is there. */
static void killing(void)
{
    const char *path = at("kill");
    kv *h;
    kv_ns *ns;
    char key[16], value[80], next[80];
    uint64_t done, from;
    int round;
    pid_t child;

    clear_flags();
    for (round = 0; round < 60; round++) {
        from = flag(0);
        child = begin(writes_for_ever, (void *)(uintptr_t)path);
        await(0, from + 1 + (uint64_t)(round * 37 % 200));
        kill_it(child);
        done = flag(0);
        h = open_store(path);
        ns = space(h);
        snprintf(key, sizeof key, "k%u", (unsigned)(done % 50));
        snprintf(value, sizeof value, "%064u", (unsigned)done);
        snprintf(next, sizeof next, "%064u", (unsigned)done + 50);
        CHECK(is(ns, key, value));
        CHECK(put(ns, "after", value) == KV_OK && is(ns, "after", value));
        if (round % 10 == 0)
            CHECK(sound(h));
        kv_ns_close(ns);
        kv_close(h);
    }
}

/* ---- another index takes the place of the one that is used ----------------------------- */

static void reopens_damaged(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(stats_of(h).replayed > 0 && is(ns, "k", "1") && put(ns, "k", "2") == KV_OK && sound(h));
    set_flag(0, 1);
    await(1, 1);
    CHECK(is(ns, "k", "3") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void superseding(void)
{
    const char *path = at("superseded");
    kv_range all = {0};
    kv_record r;
    kv *h = open_store(path), *second, *reader;
    kv_ns *ns = space(h), *other, *third;
    kv_iter *it = malloc(kv_iter_size());
    uint64_t number;
    char key[16];
    pid_t child;
    int i;

    clear_flags();
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    third = space(reader);
    second = open_store(path);
    other = space(second);
    for (i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "i%03d", i);
        CHECK(put(ns, key, "v") == KV_OK);
    }
    CHECK(put(ns, "k", "1") == KV_OK && is(other, "k", "1") && is(third, "k", "1"));
    CHECK(kv_iter_init(it, other, &all) == KV_OK);
    for (i = 0; i < 100; i++)
        CHECK(kv_iter_next(it, &r) == KV_OK);
    number = h->s->generation;
    kv_store(kv_st(h->s, KV_ST_CORRUPT), 1); /* as recovery says when it finds no sense */
    CHECK(put(ns, "k", "x") == KV_ECORRUPT && is(ns, "k", "1"));
    child = begin(reopens_damaged, (void *)(uintptr_t)path);
    await(0, 1);
    /* Each handle moves at its next call, whatever that is. */
    CHECK(is(third, "k", "2"));
    for (; i < 300; i++)
        CHECK(kv_iter_next(it, &r) == KV_OK && r.key_len == 4);
    CHECK(kv_iter_next(it, &r) == KV_OK && r.key_len == 1 && kv_iter_next(it, &r) == KV_ENOTFOUND);
    CHECK(put(ns, "k", "3") == KV_OK && is(other, "k", "3") && is(third, "k", "3"));
    CHECK(h->s->generation > number && h->s == second->s && kv_rev(h) == kv_rev(second));
    set_flag(1, 1);
    CHECK(ends_well(child));
    CHECK(count_files(path, "index.") == 1 && sound(h) && sound(reader));
    free(it);
    kv_ns_close(other);
    kv_close(second);
    kv_ns_close(third);
    kv_close(reader);
    kv_ns_close(ns);
    kv_close(h);
}

/* A writer that waits for the lock while the index is rebuilt goes on in the new one. */
static void waits_and_writes(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    set_flag(0, 1);
    CHECK(put(ns, "waited", "1") == KV_OK && is(ns, "k", "1"));
    CHECK(h->s->generation == flag(1));
    kv_ns_close(ns);
    kv_close(h);
}

static void superseded_while_waiting(void)
{
    const char *path = at("waiting");
    char command[500];
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    uint64_t n = h->s->generation;
    pid_t child;

    clear_flags();
    set_flag(1, n + 1);
    CHECK(put(ns, "k", "1") == KV_OK && kv_lock_writer(h) == KV_OK);
    child = begin(waits_and_writes, (void *)(uintptr_t)path);
    await(0, 1);
    kv_os_sleep(50);
    /* What a rebuild does, with the lock held throughout. */
    snprintf(command, sizeof command, "cp '%s/index.%u' '%s/index.%u'", path, (unsigned)n, path,
             (unsigned)n + 1);
    CHECK(system(command) == 0);
    kv_store(&h->s->locks->current, n + 1);
    kv_unlock_writer(h);
    CHECK(ends_well(child));
    CHECK(is(ns, "waited", "1") && h->s->generation == n + 1 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- copies, other boots --------------------------------------------------------------- */

static void copy_tree(const char *from, const char *to)
{
    char command[500];

    snprintf(command, sizeof command, "cp -a '%s' '%s'", from, to);
    CHECK(system(command) == 0);
}

static void copying(void)
{
    const char *path = at("original"), *copy = at("copy"), *late = at("late");
    kv *h = open_store(path), *c;
    kv_ns *ns = space(h), *cns;
    uint64_t rev;

    CHECK(put(ns, "k", "1") == KV_OK);
    /* While the lock is held, as it would lie in a copy for ever. */
    CHECK(kv_lock_writer(h) == KV_OK);
    copy_tree(path, copy);
    kv_unlock_writer(h);
    c = open_store(copy);
    cns = space(c);
    CHECK(stats_of(c).replayed > 0 && is(cns, "k", "1") && put(cns, "k", "copy") == KV_OK);
    CHECK(is(ns, "k", "1") && put(ns, "k", "2") == KV_OK && is(cns, "k", "copy"));
    CHECK(sound(c) && sound(h));
    kv_ns_close(cns);
    kv_close(c);
    rev = kv_rev(h);
    kv_ns_close(ns);
    kv_close(h);
    copy_tree(path, late);
    c = open_store(late);
    CHECK(stats_of(c).replayed > 0 && kv_rev(c) == rev && sound(c));
    kv_close(c);
}

static void dies_with_all_locks(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "2") == KV_OK);
    CHECK(kv_lock_durable(h->s, 0) == KV_OK && kv_lock_writer(h) == KV_OK);
    kv_store(kv_st(h->s, KV_ST_KEYS), 12345); /* so that only a replay brings it right */
    set_flag(0, 1);
    pause();
}

/* The image of a boot that is over, its locks held by nobody that ever comes back. */
static void rebooting(void)
{
    const char *path = at("reboot");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_locks *l;
    char stale[sizeof(kv_lock)];
    pid_t child;

    clear_flags();
    CHECK(put(ns, "k", "1") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    child = begin(dies_with_all_locks, (void *)(uintptr_t)path);
    await(0, 1);
    {
        char name[300];
        int fd;

        snprintf(name, sizeof name, "%s/lock", path);
        fd = open(name, O_RDWR);
        l = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    memcpy(stale, &l->writer, sizeof stale);
    kill_it(child);
    memcpy(&l->writer, stale, sizeof stale); /* a power cut hands no lock on */
    munmap(l, KV_PAGE);
    snprintf(kv_test_boot, sizeof kv_test_boot, "the next boot");
    h = open_store(path);
    ns = space(h);
    CHECK(stats_of(h).replayed > 0 && is(ns, "k", "2") && put(ns, "k", "3") == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
    h = open_store(path);
    CHECK(stats_of(h).replayed == 0);
    kv_close(h);
    kv_test_boot[0] = 0;
}

/* A reader of before a reboot's first writer follows once there is one. */
static void reading_before(void)
{
    const char *path = at("before");
    kv *h = open_store(path), *reader;
    kv_ns *ns = space(h), *there;

    CHECK(put(ns, "k", "1") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    snprintf(kv_test_boot, sizeof kv_test_boot, "another boot");
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    there = space(reader);
    CHECK(reader->s->apart && is(there, "k", "1") && sound(reader));
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "2") == KV_OK && is(there, "k", "2") && !reader->s->apart);
    CHECK(put(ns, "k", "3") == KV_OK && is(there, "k", "3"));
    kv_ns_close(ns);
    kv_close(h);
    CHECK(is(there, "k", "3") && sound(reader));
    kv_ns_close(there);
    kv_close(reader);
    kv_test_boot[0] = 0;
}

static void in_other_namespace(void *arg)
{
    kv *h = NULL;

    kv_test_pid_ns = 4711;
    CHECK(kv_open(arg, &options, &h) == KV_EBUSY && strstr(kv_message(), "namespace") != NULL);
    options.readonly = 1;
    h = open_store(arg);
    kv_close(h);
    options.readonly = 0;
    set_flag(0, 1);
    await(1, 1);
    h = open_store(arg);
    CHECK(stats_of(h).replayed == 0 && sound(h));
    kv_close(h);
}

static void namespaces_of_processes(void)
{
    const char *path = at("container");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    pid_t child;

    clear_flags();
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(in_other_namespace, (void *)(uintptr_t)path);
    await(0, 1);
    kv_ns_close(ns);
    kv_close(h);
    set_flag(1, 1);
    CHECK(ends_well(child));
}

/* `lock` taken away, or the index, while they are used. */
static void tampering(void)
{
    const char *path = at("tampered");
    char name[300];
    kv *h = open_store(path), *c = NULL;
    kv_ns *ns = space(h);
    pid_t child;

    CHECK(put(ns, "k", "1") == KV_OK);
    snprintf(name, sizeof name, "%s/index.%llu", path, (unsigned long long)h->s->generation);
    CHECK(unlink(name) == 0);
    clear_flags();
    child = begin(reopens_damaged, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "3") == KV_OK);
    set_flag(1, 1);
    CHECK(ends_well(child) && sound(h));
    snprintf(name, sizeof name, "%s/lock", path);
    CHECK(unlink(name) == 0);
    fflush(NULL);
    child = fork();
    if (child == 0)
        _exit(kv_open(path, &options, &c) == KV_EBUSY ? 0 : 1);
    CHECK(status_of(child) == 0);
    CHECK(put(ns, "k", "4") == KV_OK && is(ns, "k", "4"));
    kv_ns_close(ns);
    kv_close(h);
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "k", "4") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- a failed sync ---------------------------------------------------------------------- */

static int fail_syncs(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "fdatasync") == 0 ? EIO : 0;
}

static void meets_broken(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    set_flag(0, 1);
    await(1, 1);
    CHECK(put(ns, "no", "1") == KV_EIO && is(ns, "unsure", "1") && is(ns, "k", "1"));
    set_flag(2, 1);
    await(3, 1);
    CHECK(put(ns, "yes", "1") == KV_OK && is(ns, "unsure", "1") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void failing_sync(void)
{
    const char *path = at("broken");
    kv *h, *again;
    kv_ns *ns, *other;
    uint64_t dev, ino[2];
    char name[300];
    int i, fd;
    pid_t child;

    clear_flags();
    options.sync = KV_SYNC_ALWAYS;
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(meets_broken, (void *)(uintptr_t)path);
    await(0, 1);
    snprintf(name, sizeof name, "%s/log.00000001", path);
    kv_test_syscall = fail_syncs;
    CHECK(put(ns, "unsure", "1") == KV_EIO);
    kv_test_syscall = NULL;
    set_flag(1, 1);
    await(2, 1);
    CHECK(put(ns, "no", "2") == KV_EIO);
    /* Opened again, here or elsewhere, it takes writes for everybody: what was not known durable
     * has been written to a file of its own. */
    for (i = 0; i < 2; i++) {
        fd = open(name, O_RDONLY);
        CHECK(fd >= 0 && kv_file_stat(fd, &dev, &ino[i]) == KV_OK);
        close(fd);
        if (i == 0)
            again = open_store(path);
    }
    CHECK(ino[0] != ino[1]);
    other = space(again);
    CHECK(put(other, "yes", "2") == KV_OK && is(other, "unsure", "1") && is(other, "no", NULL));
    set_flag(3, 1);
    CHECK(ends_well(child));
    CHECK(put(ns, "yes", "3") == KV_OK && is(other, "yes", "3") && sound(h));
    options.sync = KV_SYNC_INTERVAL;
    kv_ns_close(other);
    kv_close(again);
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- one moment of a live store --------------------------------------------------------- */

static void overwrites_for_ever(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    char key[24], *value = calloc(1, 40001);
    kv_value v = text_of("");
    uint64_t i;

    v.data = value;
    for (i = 1; !flag(1); i++) {
        snprintf(key, sizeof key, "o%u", (unsigned)(i * 2654435761u % 400));
        v.len = i % 50 == 0 ? 40000 : 200; /* large ones have files */
        memset(value, 'a' + (int)(i % 26), v.len);
        CHECK(kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL) == KV_OK);
        set_flag(0, i);
    }
    free(value);
    kv_ns_close(ns);
    kv_close(h);
}

/* All of each value is of one write. */
static int uniform(kv *h, uint64_t *n)
{
    kv_ns *ns = space(h);
    kv_iter *it = malloc(kv_iter_size());
    kv_range all = {0};
    kv_record r;
    int e = kv_iter_init(it, ns, &all), same = 1;
    uint32_t i;

    for (*n = 0; e == KV_OK && (e = kv_iter_next(it, &r)) == KV_OK; ++*n)
        for (i = 1; i < r.value.len; i++)
            same &= r.value.data[i] == r.value.data[0];
    free(it);
    kv_ns_close(ns);
    if (e != KV_ENOTFOUND)
        fprintf(stderr, "  %s\n", kv_message());
    return same && e == KV_ENOTFOUND;
}

static void moments(void)
{
    const char *path = at("moments"), *to;
    kv *h = open_store(path), *copy, *reader;
    uint64_t records, n, oldest, before;
    char name[40];
    pid_t child;
    int i;

    clear_flags();
    child = begin(overwrites_for_ever, (void *)(uintptr_t)path);
    await(0, 2000);
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    oldest = kv_load(&h->s->log.w[KV_LOG_OLDEST]);
    for (i = 0; i < 6; i++) {
        CHECK(sound(h) && sound(reader));
        before = flag(0);
        snprintf(name, sizeof name, "backup-%d", i);
        to = at(name);
        CHECK(kv_backup(i % 2 ? reader : h, to, &records) == KV_OK);
        copy = open_store(to);
        CHECK(uniform(copy, &n) && n == records && n == 400 && sound(copy));
        kv_close(copy);
        await(0, before + 1000);
    }
    /* Segments went by meanwhile: the moments were held, and nobody for longer. */
    CHECK(kv_load(&h->s->log.w[KV_LOG_OLDEST]) > oldest);
    set_flag(1, 1);
    CHECK(ends_well(child));
    CHECK(uniform(h, &n) && n == 400 && sound(h));
    kv_close(reader);
    kv_close(h);
    h = open_store(path);
    CHECK(sound(h) && uniform(h, &n) && n == 400);
    kv_close(h);
}

/* Segments that go while somebody holds them keep their bytes; the next ones do not. */
static void holding(void)
{
    const char *path = at("held");
    kv *h;
    kv_ns *ns;
    kv_db *shadow = calloc(1, sizeof *shadow);
    uint64_t tail, done;
    uint32_t first;
    const char *bytes;
    char key[16], value[400];
    int i;

    options.thread = 0;
    h = open_store(path);
    ns = space(h);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    CHECK(put(ns, "0", "first") == KV_OK);
    CHECK(kv_shadow_open(h->s, shadow, &tail) == KV_OK);
    first = (uint32_t)kv_load(&h->s->log.w[KV_LOG_OLDEST]);
    for (i = 0; i < 4000; i++) {
        snprintf(key, sizeof key, "%d", i % 20);
        CHECK(put(ns, key, value) == KV_OK);
        if (i % 100 == 0)
            CHECK(kv_tick(h, 1000, &done) == KV_OK);
    }
    CHECK(kv_load(&h->s->log.w[KV_LOG_FREED]) > first + 3);
    CHECK(kv_log_mapped(&shadow->log, first, &bytes) != 0);
    CHECK(kv_shadow_replay(shadow, tail) == KV_OK && *kv_st(shadow, KV_ST_KEYS) == 1);
    kv_shadow_close(shadow);
    free(shadow);
    options.thread = 1;
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- syncs for others -------------------------------------------------------------------- */

static void writes_and_dies(void *arg)
{
    kv *h;
    kv_ns *ns;

    options.thread = 0;
    h = open_store(arg);
    ns = space(h);
    CHECK(put(ns, "k", "left") == KV_OK);
    _exit(check_failures ? 1 : 0); /* without closing */
}

static int comes_true(kv *h)
{
    int i;

    for (i = 0; i < 5000; i++) {
        if (kv_load(&h->s->log.w[KV_LOG_SYNCED]) == kv_load(&h->s->log.w[KV_LOG_TAIL]))
            return 1;
        kv_os_sleep(1);
    }
    return 0;
}

static void syncing_for_others(void)
{
    const char *path = at("synced");
    kv *h;
    kv_ns *ns;

    options.interval = 20;
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK && comes_true(h));
    /* Its own helper has nothing of its own to do. */
    CHECK(in_child(writes_and_dies, (void *)(uintptr_t)path) && comes_true(h));
    kv_ns_close(ns);
    kv_close(h);
    CHECK(in_child(writes_and_dies, (void *)(uintptr_t)path));
    h = open_store(path);
    CHECK(comes_true(h)); /* whoever opens next */
    kv_close(h);
    options.interval = 1000;
}

/* ---- forks ------------------------------------------------------------------------------ */

static void forking(void)
{
    const char *path = at("fork");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    int round, status;
    pid_t child;

    for (round = 0; round < 20; round++) {
        CHECK(put(ns, "k", "parent") == KV_OK);
        fflush(NULL);
        child = fork();
        if (child == 0) {
            kv *mine;
            kv_ns *space_of_mine;

            alarm(20);
            check_failures = 0;
            /* The handle of before attaches this process when it is used; or it is closed. */
            if (round % 3 != 0)
                CHECK(is(ns, "k", "parent") && put(ns, "k", "parent") == KV_OK);
            if (round % 2) {
                kv_ns_close(ns);
                kv_close(h);
            }
            mine = open_store(path);
            space_of_mine = space(mine);
            CHECK(is(space_of_mine, "k", "parent") && put(space_of_mine, "k", "child") == KV_OK);
            CHECK(sound(mine));
            kv_ns_close(space_of_mine);
            kv_close(mine);
            _exit(check_failures ? 1 : 0);
        }
        status = status_of(child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(is(ns, "k", "child"));
    }
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* A host that closes every descriptor it does not know: the mappings go on, and nobody who comes
 * meanwhile makes the locks anew. */
static void closes_descriptors(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    int fd;

    CHECK(put(ns, "k", "1") == KV_OK);
    for (fd = 3; fd < 256; fd++)
        close(fd);
    CHECK(kv_lock_writer(h) == KV_OK);
    set_flag(0, 1);
    await(1, 1);
    kv_unlock_writer(h);
    CHECK(put(ns, "k", "2") == KV_OK && is(ns, "k", "2"));
    set_flag(2, 1);
    await(3, 1);
    CHECK(is(ns, "k", "4"));
    _exit(check_failures ? 1 : 0);
}

static void closed_descriptors(void)
{
    const char *path = at("closed");
    kv_value v = text_of("3");
    kv *h;
    kv_ns *ns;
    pid_t child;

    clear_flags();
    child = begin(closes_descriptors, (void *)(uintptr_t)path);
    await(0, 1);
    options.timeout = 100;
    h = open_store(path);
    options.timeout = 5000;
    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK && is(ns, "k", "1"));
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_EBUSY);
    set_flag(1, 1);
    await(2, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "4") == KV_OK);
    set_flag(3, 1);
    CHECK(ends_well(child) && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- stopped, replaced, without permission ----------------------------------------------- */

static void stopped(void)
{
    const char *path = at("stopped");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_value v = text_of("x");
    pid_t child;
    int i, e, busy = 0;

    clear_flags();
    h->timeout = 20;
    child = begin(writes_for_ever, (void *)(uintptr_t)path);
    for (i = 0; i < 40; i++) {
        await(0, flag(0) + 3);
        kill(child, SIGSTOP);
        kv_os_sleep(2);
        CHECK(kv_get_value(ns, "k1", 2, &v) == KV_OK || flag(0) < 50);
        v = text_of("x");
        e = kv_put(ns, "mine", 4, &v, NULL, NULL, NULL);
        CHECK(e == KV_OK || e == KV_EBUSY);
        busy += e == KV_EBUSY;
        kill(child, SIGCONT);
    }
    kill_it(child);
    CHECK(put(ns, "mine", "y") == KV_OK && sound(h));
    (void)busy;
    kv_ns_close(ns);
    kv_close(h);
}

static void becomes_another(void *arg)
{
    kv *h = open_store(arg);

    CHECK(kv_lock_writer(h) == KV_OK && kv_lock_durable(h->s, 0) == KV_OK);
    execl("/bin/true", "true", (char *)NULL);
    _exit(9);
}

static void replaced(void)
{
    const char *path = at("exec");
    kv *h = open_store(path);
    kv_ns *ns = space(h);

    CHECK(in_child(becomes_another, (void *)(uintptr_t)path));
    CHECK(put(ns, "k", "1") == KV_OK && kv_sync(h) == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void reads_as_somebody_else(void *arg)
{
    kv *h, *w = NULL;
    kv_ns *ns;

    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(7);
    CHECK(kv_open(arg, &options, &w) == KV_EDENIED);
    options.readonly = 1;
    h = open_store(arg);
    ns = space(h);
    CHECK(!h->s->apart && is(ns, "k", "1") && sound(h));
    set_flag(0, 1);
    await(1, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "3") == KV_EREADONLY);
    kv_ns_close(ns);
    kv_close(h);
}

static void without_permission(void)
{
    const char *path = at("permitted");
    char command[900];
    kv *h;
    kv_ns *ns;
    pid_t child;

    if (getuid() != 0)
        return; /* somebody else cannot be played */
    clear_flags();
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK);
    snprintf(command, sizeof command,
             "chmod 755 %s; chown -R 65534:65534 %s; chmod 444 %s/*; chmod 555 %s", root, path,
             path, path);
    CHECK(system(command) == 0);
    child = begin(reads_as_somebody_else, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(put(ns, "k", "2") == KV_OK);
    set_flag(1, 1);
    CHECK(ends_well(child));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- opening and closing ---------------------------------------------------------------- */

static void comes_and_goes(void *arg)
{
    kv_value by = {0}, sum;
    int i;

    by.type = KV_INTEGER;
    by.integer = 1;
    for (i = 0; i < 60; i++) {
        kv *h = open_store(arg);
        kv_ns *ns = space(h);

        CHECK(kv_incr(ns, "sum", 3, &by, NULL, &sum, NULL) == KV_OK);
        kv_ns_close(ns);
        kv_close(h);
    }
}

static void coming_and_going(void)
{
    const char *path = at("doors");
    pid_t child[CROWD];
    kv_value v;
    kv *h;
    kv_ns *ns;
    int i;

    for (i = 0; i < CROWD; i++)
        child[i] = begin(comes_and_goes, (void *)(uintptr_t)path);
    for (i = 0; i < CROWD; i++)
        CHECK(ends_well(child[i]));
    h = open_store(path);
    ns = space(h);
    CHECK(kv_get_value(ns, "sum", 3, &v) == KV_OK && v.integer == CROWD * 60);
    CHECK(sound(h) && *kv_st(h->s, KV_ST_USERS) == 1 && count_files(path, "index.") == 1);
    kv_ns_close(ns);
    kv_close(h);
}

/* An opener that dies at any store to shared memory and at any system call, while the store is
 * made, attached to, or rebuilt: the next one finds it right. */
static int count_call(const char *call, const char *what)
{
    (void)call;
    (void)what;
    kv_test_store();
    return 0;
}

typedef struct death {
    const char *path;
    int64_t at;
    int boot; /* 1: the first of another boot */
    int hurt; /* 1: the index is damaged */
} death;

static void opens_and_dies(void *arg)
{
    death *d = arg;
    kv *h;

    if (d->boot)
        snprintf(kv_test_boot, sizeof kv_test_boot, "boot %lld", (long long)d->at);
    if (d->hurt) {
        h = open_store(d->path);
        kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
        kv_close(h);
    }
    kv_test_syscall = count_call;
    kv_test_die_at = d->at;
    if (kv_open(d->path, &options, &h) == KV_OK)
        kv_close(h);
    kv_test_die_at = 0;
    kv_test_syscall = NULL;
}

static void dying_openers(void)
{
    death d;
    kv *h;
    kv_ns *ns;
    int kind, status, deaths;
    int64_t step = getenv("KV_LONG") ? 1 : 97, seed = 1;

    if (step > 1) { /* others each time */
        seed = getenv("SEED") ? atoll(getenv("SEED")) : kv_os_monotonic() / 1000 % 97;
        printf("test_share: SEED=%lld\n", (long long)seed);
    }
    options.thread = 0;
    for (kind = 0; kind < 4; kind++) {
        if (step > 1)
            step = kind == 1 ? 5 : 97; /* attaching stores little */
        d.path = at(kind == 0   ? "die-new"
                    : kind == 1 ? "die-attach"
                    : kind == 2 ? "die-boot"
                                : "die-hurt");
        d.boot = kind == 2;
        d.hurt = kind == 3;
        if (kind != 0) {
            h = open_store(d.path);
            ns = space(h);
            CHECK(put(ns, "k", "1") == KV_OK);
            kv_ns_close(ns);
            kv_close(h);
        }
        for (deaths = 0, d.at = 1 + (seed + kind * 31) % step;; d.at += step) {
            status = status_of(begin(opens_and_dies, &d));
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                break;
            if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 77))
                break;
            deaths++;
            if (d.boot)
                snprintf(kv_test_boot, sizeof kv_test_boot, "boot %lld", (long long)d.at);
            h = open_store(d.path);
            ns = space(h);
            CHECK((kind == 0 || is(ns, "k", "1")) && put(ns, "more", "2") == KV_OK);
            if (!CHECK(sound(h)))
                fprintf(stderr, "  kind %d, death at %lld\n", kind, (long long)d.at);
            kv_ns_close(ns);
            kv_close(h);
            CHECK(count_files(d.path, "index.") == 1);
            if (kind == 0)
                remove_tree(d.path);
        }
        CHECK(deaths > 0);
        kv_test_boot[0] = 0;
    }
    options.thread = 1;
}

int main(void)
{
    const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(root, sizeof root, "%s/kv-share-XXXXXX", tmp);
    if (mkdtemp(root) == NULL)
        return 2;
    flags = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    kv_options_init(&options);
    attaching();
    growing();
    killing();
    superseding();
    superseded_while_waiting();
    copying();
    rebooting();
    reading_before();
    namespaces_of_processes();
    tampering();
    failing_sync();
    moments();
    holding();
    syncing_for_others();
    forking();
    closed_descriptors();
    stopped();
    replaced();
    without_permission();
    coming_and_going();
    dying_openers();
    remove_tree(root);
    return check_done("test_share");
}
