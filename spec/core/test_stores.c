/* SPDX-License-Identifier: MIT
 *
 * test_stores.c - listing and removing stores: every failing call, a death at every call, openers
 * and removers at the same time.
 *
 * Under its name a store is there whole or not at all, whatever happens, and nothing that is not
 * the store's is touched.
 */
#define _GNU_SOURCE
#include "check.h"
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64], path[128];

/* ---- helpers ---- */

static int calls, fail_at, error;

static int failing(const char *call, const char *what)
{
    (void)call;
    (void)what;
    return ++calls == fail_at ? error : 0;
}

static int dying(const char *call, const char *what)
{
    (void)call;
    (void)what;
    if (++calls == fail_at)
        check_exit(77);
    return 0;
}

static void make(void)
{
    static char large[2 << 20];
    kv_options o;
    kv_value v;
    kv_ns *ns;
    kv *h;

    kv_options_init(&o);
    o.sync = KV_SYNC_NONE;
    o.thread = 0;
    if (!CHECK(kv_open(path, &o, &h) == KV_OK))
        return;
    memset(&v, 0, sizeof v);
    v.type = KV_STRING;
    v.data = "v";
    v.len = 1;
    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK);
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_OK);
    memset(large, 'x', sizeof large);
    v.data = large;
    v.len = sizeof large;
    CHECK(kv_put(ns, "large", 5, &v, NULL, NULL, NULL) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

/* 1: there and whole, 0: gone, -1: anything else. */
static int there(void)
{
    kv_options o;
    kv_record r;
    kv_ns *ns;
    kv *h;
    int e;

    kv_options_init(&o);
    o.create = 0;
    o.thread = 0;
    e = kv_open(path, &o, &h);
    if (e != KV_OK)
        return e == KV_ENOTFOUND ? 0 : -1;
    e = kv_namespace(h, "n", 1, NULL, 0, 0, &ns);
    if (e == KV_OK) {
        e = kv_get(ns, "large", 5, &r);
        e = e == KV_OK && r.value.len == 2 << 20 ? kv_check(h) : KV_ECORRUPT;
        kv_ns_close(ns);
    }
    kv_close(h);
    return e == KV_OK ? 1 : -1;
}

static int entries_of(const char *dir)
{
    char command[256];
    FILE *pipe;
    int n = 0;

    snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
    pipe = popen(command, "r");
    if (pipe == NULL || fscanf(pipe, "%d", &n) != 1)
        n = -1;
    if (pipe != NULL)
        pclose(pipe);
    return n;
}

static void shell(const char *before, const char *name, const char *after)
{
    char command[256];

    snprintf(command, sizeof command, "%s%s%s", before, name, after);
    CHECK(system(command) == 0);
}

/* ---- tests ---- */

static void test_removing(void)
{
    kv *h;

    CHECK(kv_remove_store(path) == KV_ENOTFOUND);
    make();
    CHECK(there() == 1);
    CHECK(kv_open(path, NULL, &h) == KV_OK);
    CHECK(kv_remove_store(path) == KV_EBUSY);
    kv_close(h);
    CHECK(there() == 1);
    CHECK(kv_remove_store(path) == KV_OK);
    CHECK(there() == 0);
    CHECK(entries_of(root) == 0);
    CHECK(kv_remove_store("") == KV_EINVAL);
    CHECK(kv_remove_store(":memory:") == KV_EINVAL);
    CHECK(kv_remove_store("/dev/null") == KV_EUNSUPPORTED);
}

static void test_foreign(void)
{
    char link[160];

    make();
    shell("echo x >", path, "/mine");
    CHECK(kv_remove_store(path) == KV_EUNSUPPORTED);
    shell("rm ", path, "/mine");
    shell("mkdir ", path, "/sub");
    CHECK(kv_remove_store(path) == KV_EUNSUPPORTED);
    shell("rmdir ", path, "/sub");
    CHECK(there() == 1);
    snprintf(link, sizeof link, "%s-link", path);
    CHECK(symlink(path, link) == 0);
    CHECK(kv_remove_store(link) == KV_EUNSUPPORTED);
    strcat(link, "/");
    CHECK(kv_remove_store(link) == KV_EUNSUPPORTED);
    link[strlen(link) - 1] = '\0';
    CHECK(unlink(link) == 0);
    CHECK(there() == 1);
    /* A name of the store's may be a link: it goes, not what it points to. */
    shell("echo precious >", path, "-target");
    snprintf(link, sizeof link, "%s/log.000000ff", path);
    CHECK(symlink("../a-target", link) == 0);
    CHECK(kv_remove_store(path) == KV_OK);
    CHECK(entries_of(root) == 1);
    shell("rm ", path, "-target");
    shell("mkdir ", path, "");
    CHECK(kv_remove_store(path) == KV_ENOTFOUND);
    shell("rmdir ", path, "");
}

/* What was set aside and cannot go, because somebody put a file there, stays with that file. */
static void test_aside(void)
{
    CHECK(kv_remove_store(NULL) == KV_EINVAL);
    make();
    shell("mkdir ", root, "/.kv-deleted-0123456789abcdef");
    shell("echo precious >", root, "/.kv-deleted-0123456789abcdef/mine");
    /* A stream that was never committed goes with the store. */
    shell("touch ", path, "/part.0123456789abcdef");
    CHECK(kv_remove_store(path) == KV_OK);
    CHECK(there() == 0 && entries_of(root) == 1);
    shell("grep -q precious ", root, "/.kv-deleted-0123456789abcdef/mine");
    shell("rm -r ", root, "/.kv-deleted-0123456789abcdef");
}

/* Each call of the system fails once: what the result says is so. */
static void test_failing_calls(void)
{
    static const int errors[] = {EIO, EACCES, ENOSPC, EINTR};
    int e = -1, n, gone;

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        error = errors[i];
        for (n = 1;; n++) {
            make();
            calls = 0;
            fail_at = n;
            kv_test_syscall = failing;
            e = kv_remove_store(path);
            kv_test_syscall = NULL;
            gone = there();
            if (!CHECK(gone == 0 || gone == 1) || !CHECK(e != KV_OK || gone == 0))
                fprintf(stderr, "call %d, %s: %d, %d\n", n, strerror(error), e, gone);
            if (calls < n)
                break;
            if (gone == 1)
                CHECK(kv_remove_store(path) == KV_OK);
        }
        CHECK(n > 10);
        /* Whatever a failure left behind, the next removal takes along. */
        make();
        CHECK(kv_remove_store(path) == KV_OK);
        CHECK(entries_of(root) == 0);
    }
}

static void test_deaths(void)
{
    int n, status;

    for (n = 1;; n++) {
        pid_t child;
        make();
        child = check_fork();
        if (child == 0) {
            fail_at = n;
            calls = 0;
            kv_test_syscall = dying;
            check_exit(kv_remove_store(path) == KV_OK ? 0 : 1);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        if (WEXITSTATUS(status) != 77)
            break;
        CHECK(there() >= 0);
    }
    CHECK(WEXITSTATUS(status) == 0 && n > 10);
    make();
    CHECK(kv_remove_store(path) == KV_OK);
    CHECK(entries_of(root) == 0);
}

/* Children open (making it), write and remove; whoever has it open finds what it wrote. */
static void test_at_once(void)
{
    enum { CHILDREN = 3, ROUNDS = 40 };
    pid_t child[CHILDREN];
    int status;

    for (int c = 0; c < CHILDREN; c++) {
        child[c] = check_fork();
        if (child[c] != 0)
            continue;
        for (int i = 0; i < ROUNDS; i++) {
            kv_options o;
            kv_value v;
            kv_record r;
            kv_ns *ns;
            kv *h;
            int e;

            kv_options_init(&o);
            o.sync = KV_SYNC_NONE;
            o.thread = 0;
            e = kv_open(path, &o, &h);
            if (e == KV_OK) {
                memset(&v, 0, sizeof v);
                v.type = KV_INTEGER;
                v.integer = i;
                if (kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK) {
                    if (kv_put(ns,
                               c == 0   ? "a"
                               : c == 1 ? "b"
                                        : "c",
                               1, &v, NULL, NULL, NULL) != KV_OK ||
                        kv_get(ns,
                               c == 0   ? "a"
                               : c == 1 ? "b"
                                        : "c",
                               1, &r) != KV_OK ||
                        r.value.integer != i)
                        check_exit(1);
                    kv_ns_close(ns);
                }
                kv_close(h);
            } else if (e != KV_EBUSY && e != KV_ENOTFOUND) {
                fprintf(stderr, "open: %s\n", kv_message());
                check_exit(2);
            }
            e = kv_remove_store(path);
            if (e != KV_OK && e != KV_EBUSY && e != KV_ENOTFOUND) {
                fprintf(stderr, "remove: %s\n", kv_message());
                check_exit(3);
            }
        }
        check_exit(0);
    }
    for (int c = 0; c < CHILDREN; c++) {
        CHECK(waitpid(child[c], &status, 0) == child[c]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    if (there() == 0)
        make();
    CHECK(kv_remove_store(path) == KV_OK);
    CHECK(entries_of(root) == 0);
}

static void test_listing(void)
{
    char names[64];
    size_t size = sizeof names;

    CHECK(kv_list_stores("/dev/null/none", names, &size) == KV_EIO);
    CHECK(kv_list_stores("/none/at/all", names, &size) == KV_ENOTFOUND);
    CHECK(kv_list_stores(root, names, &size) == KV_OK && size == 0);
    make();
    shell("mkdir ", path, "-other");
    shell("touch ", path, "-file");
    size = 1;
    CHECK(kv_list_stores(root, names, &size) == KV_ERANGE && size == 2);
    size = sizeof names;
    CHECK(kv_list_stores(root, names, &size) == KV_OK && size == 2 && strcmp(names, "a") == 0);
    shell("rm ", path, "-file");
    shell("rmdir ", path, "-other");
    CHECK(kv_remove_store(path) == KV_OK);
}

int main(void)
{
    /* Memory where there is some: hundreds of stores are made, each with its syncs. */
    snprintf(root, sizeof root, "%s/kv-stores-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!CHECK(mkdtemp(root) != NULL))
        return check_done("test_stores");
    snprintf(path, sizeof path, "%s/a", root);
    test_removing();
    test_foreign();
    test_aside();
    test_listing();
    test_failing_calls();
    test_deaths();
    test_at_once();
    CHECK(rmdir(root) == 0);
    return check_done("test_stores");
}
