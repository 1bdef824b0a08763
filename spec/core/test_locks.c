/* SPDX-License-Identifier: MIT
 *
 * test_locks.c - the locks of a store where processes are more than siblings: in other PID
 * namespaces, of another user, forked and left behind, replaced by another program, and in a copy
 * of the directory.
 *
 * Each owner of the locks is killed with all of them held, and whoever comes next goes on. What
 * cannot be played here for want of permission says so. (test_share*.c: the same among siblings.)
 */
#define _GNU_SOURCE
#include "share.h"

#include <sched.h>

static int left_out;

/* Writes, takes every lock of the store, and waits to be killed. */
static void dies_with_locks(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "of the dead") == KV_OK);
    CHECK(kv_lock_take(&h->s->locks->maint, 1000) == KV_OK && kv_lock_durable(h->s, 0) == KV_OK &&
          kv_lock_writer(h) == KV_OK);
    set_flag(0, check_failures ? 2 : 1);
    pause();
}

/* Goes on where such a one died. */
static void goes_on(const char *path)
{
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    uint64_t done;

    CHECK(is(ns, "k", "of the dead") && put(ns, "k", "of the living") == KV_OK);
    CHECK(kv_sync(h) == KV_OK && kv_tick(h, 10, &done) == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void goes_on_in_child(void *arg)
{
    goes_on(arg);
}

/* ---- what the system promises -------------------------------------------------------------- */

static int robust_fails(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "robust") == 0 ? EIO : 0;
}

/* A lock that stays with the dead would stop everybody for ever: no store is opened then. What was
 * was found is not remembered, only that all is well. */
static void meets_no_robust_locks(void *arg)
{
    kv *h = NULL;

    kv_test_syscall = robust_fails;
    CHECK(kv_open(arg, &options, &h) == KV_EUNSUPPORTED && strstr(kv_message(), "death") != NULL);
    CHECK(kv_open(":memory:", &options, &h) == KV_OK);
    kv_close(h);
    CHECK(kv_open(arg, &options, &h) == KV_EUNSUPPORTED);
    kv_test_syscall = NULL;
    h = open_store(arg);
    kv_test_syscall = robust_fails; /* once is enough */
    kv_close(h);
    h = open_store(arg);
    kv_close(h);
}

/* ---- PID namespaces --------------------------------------------------------------------- */

typedef struct inside {
    const char *path;
    void (*body)(void *);
} inside;

/* The body runs as the first process of a namespace, whose death ends all others in it. */
static void in_namespace(void *arg)
{
    inside *i = arg;
    int status;
    pid_t child;

    if (unshare(CLONE_NEWPID) != 0)
        _exit(9);
    child = check_fork();
    if (child == 0) {
        CHECK(getpid() == 1);
        i->body((void *)(uintptr_t)i->path);
        _exit(check_failures ? 1 : 0);
    }
    set_flag(9, (uint64_t)child);
    CHECK(waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 0);
}

static void is_refused(void *arg)
{
    kv *h = NULL;

    CHECK(kv_open(arg, &options, &h) == KV_EBUSY && strstr(kv_message(), "namespace") != NULL);
    options.readonly = 1;
    h = open_store(arg);
    kv_close(h);
    options.readonly = 0;
}

static void writes_a_word(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "a word") == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* Two in one namespace: the one is killed with the locks, the other goes on. */
static void two_inside(void *arg)
{
    pid_t child;

    clear_flags();
    child = begin(dies_with_locks, arg);
    await(0, 1);
    CHECK(flag(0) == 1);
    kill_it(child);
    goes_on(arg);
}

static void namespaces(void)
{
    const char *path = at("namespaces");
    inside refused = {path, is_refused}, word = {path, writes_a_word}, two = {path, two_inside},
           dies = {path, dies_with_locks};
    int status = status_of(begin(in_namespace, &word));
    pid_t outer;
    kv *h;
    kv_ns *ns;

    if (WIFEXITED(status) && WEXITSTATUS(status) == 9) {
        printf("test_locks: SKIPPED: PID namespaces need root\n");
        left_out++;
        return;
    }
    CHECK(status == 0);
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "k", "a word") && stats_of(h).replayed == 0);
    CHECK(in_child(in_namespace, &refused));
    CHECK(put(ns, "k", "outside") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    CHECK(in_child(in_namespace, &two));
    /* Killed in there with the locks: the next one is outside, and the other way round. */
    clear_flags();
    outer = begin(in_namespace, &dies);
    await(0, 1);
    CHECK(flag(0) == 1);
    CHECK(kv_open(path, &options, &h) == KV_EBUSY);
    kill((pid_t)flag(9), SIGKILL);
    CHECK(ends_well(outer));
    goes_on(path);
    clear_flags();
    outer = begin(dies_with_locks, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(in_child(in_namespace, &refused));
    kill_it(outer);
    two.body = goes_on_in_child;
    CHECK(in_child(in_namespace, &two));
}

/* ---- fork --------------------------------------------------------------------------------- */

/* Opens, forks a child that never touches the store, and is killed; the child lives on. */
static void leaves_a_child(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    pid_t child;

    CHECK(put(ns, "k", "of the dead") == KV_OK);
    child = check_fork();
    if (child == 0) {
        alarm(60);
        set_flag(1, 1);
        await(2, 1);
        _exit(0);
    }
    set_flag(3, (uint64_t)child);
    CHECK(kv_lock_writer(h) == KV_OK);
    set_flag(0, check_failures ? 2 : 1);
    pause();
}

/* The child has copies of its parent's descriptors, and would hold its file locks for ever. */
static void forked_and_left(void)
{
    const char *path = at("left");
    pid_t parent;
    kv *h;

    clear_flags();
    parent = begin(leaves_a_child, (void *)(uintptr_t)path);
    await(0, 1);
    await(1, 1);
    /* While the parent lives it is not alone, */
    kv_test_pid_ns = 4711;
    CHECK(kv_open(path, &options, &h) == KV_EBUSY);
    kill_it(parent);
    /* then whoever comes is, in whatever namespace. */
    CHECK(kill((pid_t)flag(3), 0) == 0);
    h = NULL;
    if (CHECK(kv_open(path, &options, &h) == KV_OK)) {
        CHECK(*kv_st(h->s, KV_ST_USERS) == 1);
        kv_close(h);
    }
    kv_test_pid_ns = 0;
    goes_on(path);
    set_flag(2, 1);
}

/* A child forked in the middle of a check has the descriptor of its pins, and keeps nothing. */
static void forked_in_a_check(void)
{
    const char *path = at("pinned");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    static kv_db *shadow; /* the child still has it */
    static char large[40001];
    uint64_t tail;
    pid_t child;
    int i;

    clear_flags();
    shadow = calloc(1, sizeof *shadow);
    memset(large, 'x', sizeof large - 1);
    CHECK(put(ns, "large", large) == KV_OK);
    CHECK(kv_shadow_open(h->s, shadow, &tail) == KV_OK);
    child = check_fork();
    if (child == 0) {
        alarm(60);
        set_flag(1, 1);
        await(2, 1);
        _exit(0);
    }
    await(1, 1);
    kv_shadow_close(shadow);
    free(shadow);
    for (i = 0; i < 20; i++)
        CHECK(put(ns, "large", large) == KV_OK);
    CHECK(put(ns, "large", "small") == KV_OK && kv_sync(h) == KV_OK);
    for (i = 0; i < 2000 && count_files(path, "blob.") > 0; i++) {
        (void)kv_maintain(h->s, 1000, 1);
        kv_os_sleep(1);
    }
    CHECK(count_files(path, "blob.") == 0);
    set_flag(2, 1);
    CHECK(status_of(child) == 0);
    kv_ns_close(ns);
    kv_close(h);
}

/* Parent and child both use it; one is killed with the locks, the other goes on. */
static void child_of_user(void *arg)
{
    kv *h = arg;
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "of the dead") == KV_OK && kv_lock_durable(h->s, 0) == KV_OK &&
          kv_lock_writer(h) == KV_OK);
    set_flag(0, 1);
    pause();
}

static void forked_and_used(void)
{
    const char *path = at("used");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    pid_t child;
    int i;

    for (i = 0; i < 3; i++) {
        clear_flags();
        child = begin(child_of_user, h);
        await(0, 1);
        h->timeout = 10;
        CHECK(put(ns, "k", "mine") == KV_EBUSY && is(ns, "k", "of the dead"));
        h->timeout = 5000;
        kill_it(child);
        CHECK(put(ns, "k", "mine") == KV_OK && kv_sync(h) == KV_OK && sound(h));
    }
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- exec ----------------------------------------------------------------------------------- */

/* What is run from a process that has stores open inherits none of it. */
static void runs_another(void *arg)
{
    char command[300];
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "of the dead") == KV_OK && kv_lock_writer(h) == KV_OK);
    snprintf(command, sizeof command,
             "for f in /proc/$$/fd/*; do case $(readlink $f) in %s*) exit 1;; esac; done", root);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(9);
}

static void replaced_by_a_shell(void)
{
    const char *path = at("exec");

    CHECK(in_child(runs_another, (void *)(uintptr_t)path));
    goes_on(path);
}

/* ---- another user --------------------------------------------------------------------------- */

static void as_nobody(void (*body)(void *), void *arg)
{
    if (setgid(65534) != 0 || setuid(65534) != 0)
        _exit(9);
    body(arg);
}

static void nobody_dies(void *arg)
{
    as_nobody(dies_with_locks, arg);
}

static void nobody_goes_on(void *arg)
{
    as_nobody(goes_on_in_child, arg);
}

static void nobody_writes(void *arg)
{
    as_nobody(writes_a_word, arg);
}

/* Root and the owner of a store use it together. */
static void another_user(void)
{
    const char *home = at("home");
    char path[220];
    pid_t child;

    if (getuid() != 0) {
        printf("test_locks: SKIPPED: another user cannot be played\n");
        left_out++;
        return;
    }
    snprintf(path, sizeof path, "%s/store", home);
    CHECK(chmod(root, 0755) == 0 && mkdir(home, 0755) == 0 && chown(home, 65534, 65534) == 0);
    CHECK(in_child(nobody_writes, path));
    clear_flags();
    child = begin(nobody_dies, path);
    await(0, 1);
    CHECK(flag(0) == 1);
    kill_it(child);
    goes_on(path);
    clear_flags();
    child = begin(dies_with_locks, path);
    await(0, 1);
    CHECK(flag(0) == 1);
    kill_it(child);
    CHECK(in_child(nobody_goes_on, path));
}

/* ---- copies and other boots ------------------------------------------------------------------ */

/* Copied while somebody holds every lock, who is killed, or not, before the copy is opened: its
 * locks are its own. Then the same on the next boot, where no kernel hands them on. */
static void copied_and_rebooted(void)
{
    const char *path = at("original"), *copy[2];
    char command[500];
    pid_t child;
    int i;

    copy[0] = at("copy of the living");
    copy[1] = at("copy of the dead");
    clear_flags();
    child = begin(dies_with_locks, (void *)(uintptr_t)path);
    await(0, 1);
    for (i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "cp -a '%s' '%s'", path, copy[i]);
        CHECK(system(command) == 0);
        if (i == 0)
            goes_on(copy[0]);
    }
    kill_it(child);
    goes_on(copy[1]);
    /* As the first copy lies there, with its locks held, after a reboot. */
    snprintf(command, sizeof command, "rm -r '%s'; cp -a '%s' '%s'", copy[0], path, copy[0]);
    CHECK(system(command) == 0);
    snprintf(kv_test_boot, sizeof kv_test_boot, "the next boot");
    goes_on(copy[0]);
    goes_on(path);
    kv_test_boot[0] = 0;
}

int main(void)
{
    if (!share_begin())
        return 2;
    CHECK(in_child(meets_no_robust_locks, (void *)(uintptr_t)at("not robust")));
    namespaces();
    forked_and_left();
    forked_in_a_check();
    forked_and_used();
    replaced_by_a_shell();
    another_user();
    copied_and_rebooted();
    remove_tree(root);
    if (left_out)
        printf("test_locks: %d of 7 kinds left out\n", left_out);
    return check_done("test_locks");
}
