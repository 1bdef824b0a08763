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
    remove_tree(root);
    return check_done("test_share");
}
