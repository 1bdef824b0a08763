/* SPDX-License-Identifier: MIT
 *
 * share.h - what the tests of stores shared by processes have in common: directories, stores and
 * single keys in few words, and children that do what another process would. What a child finds
 * wrong is its exit status.
 */
#ifndef KV_SPEC_SHARE_H
#define KV_SPEC_SHARE_H

#include "check.h"
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[64];

/* ---- directories ---------------------------------------------------------------------- */

static inline void remove_tree(const char *path)
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

static inline const char *at(const char *name)
{
    static char path[8][200];
    static int i;
    char *p = path[i++ % 8];

    snprintf(p, sizeof path[0], "%.60s/%.100s", root, name);
    return p;
}

static inline int count_files(const char *path, const char *prefix)
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

static inline kv *open_store(const char *path)
{
    kv *h = NULL;

    if (!CHECK(kv_open(path, &options, &h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        exit(3);
    }
    return h;
}

static inline kv_ns *space(kv *h)
{
    kv_ns *ns = NULL;

    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK);
    return ns;
}

static inline kv_value text_of(const char *s)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = s;
    v.len = (uint32_t)strlen(s);
    return v;
}

static inline int put(kv_ns *ns, const char *key, const char *value)
{
    kv_value v = text_of(value);

    return kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL);
}

/* Whether the key holds just this; NULL: is not there. */
static inline int is(kv_ns *ns, const char *key, const char *value)
{
    kv_value v;
    int e = kv_get_value(ns, key, strlen(key), &v);

    if (value == NULL)
        return e == KV_ENOTFOUND;
    return e == KV_OK && v.len == strlen(value) && memcmp(v.data, value, v.len) == 0;
}

static inline int sound(kv *h)
{
    int e = kv_check(h);

    if (e != KV_OK)
        fprintf(stderr, "  check: %s\n", kv_message());
    return e == KV_OK;
}

static inline kv_stats stats_of(kv *h)
{
    kv_stats s;

    CHECK(kv_get_stats(h, &s) == KV_OK);
    return s;
}

/* ---- other processes ------------------------------------------------------------------ */

static inline pid_t begin(void (*body)(void *), void *arg)
{
    pid_t child;

    fflush(NULL);
    child = check_fork();
    if (child == 0) {
        alarm(240);
        check_failures = 0;
        body(arg);
        check_exit(check_failures ? 1 : 0); /* the parent's leaks are not the child's */
    }
    CHECK(child > 0);
    return child;
}

static inline int status_of(pid_t child)
{
    int status = 0;

    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static inline int ends_well(pid_t child)
{
    int status = status_of(child);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 1;
    fprintf(stderr, "  a child ended with status %x\n", (unsigned)status);
    return 0;
}

static inline int in_child(void (*body)(void *), void *arg)
{
    return ends_well(begin(body, arg));
}

static inline void kill_it(pid_t child)
{
    kill(child, SIGKILL);
    (void)status_of(child);
}

/* Words shared by the test's processes. */
static uint64_t *flags;

static inline void set_flag(int i, uint64_t v)
{
    __atomic_store_n(&flags[i], v, __ATOMIC_SEQ_CST);
}

static inline uint64_t flag(int i)
{
    return __atomic_load_n(&flags[i], __ATOMIC_SEQ_CST);
}

static inline void await(int i, uint64_t v)
{
    int n;

    for (n = 0; flag(i) < v; n++) {
        kv_os_sleep(1);
        if (n > 120000) {
            CHECK(flag(i) >= v);
            exit(4);
        }
    }
}

static inline void clear_flags(void)
{
    memset(flags, 0, KV_PAGE);
}

/* ---- the whole -------------------------------------------------------------------------- */

static inline int share_begin(void)
{
    const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(root, sizeof root, "%s/kv-share-XXXXXX", tmp);
    if (mkdtemp(root) == NULL)
        return 0;
    flags = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    kv_options_init(&options);
    return flags != MAP_FAILED;
}

#endif
