/* SPDX-License-Identifier: MIT
 *
 * test_thread_os.c - the platform layer between threads: the helper thread, mutexes, a memory
 * directory used by several, the robust lock.
 *
 * Runs under TSan too, so whatever threads share here is atomic or guarded by what is tested.
 */
#define _GNU_SOURCE
#include "os.h"
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG_WAIT 60000 /* ms; who waits so long has missed a wake-up */

static uint64_t get(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static void set(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* TSan does not follow threads started in a forked child. */
#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

/* ---- the helper thread ---- */

struct work {
    uint64_t asked, answered, waits, ended;
    int64_t ms;
};

static void answer(void *arg, kv_thread *t)
{
    struct work *w = arg;
    while (kv_thread_wait(t, w->ms)) {
        set(&w->answered, get(&w->asked));
        set(&w->waits, w->waits + 1);
    }
    set(&w->ended, 1);
}

static int reached(const uint64_t *p, uint64_t v)
{
    int64_t until = kv_os_monotonic() + INT64_C(20000000000);
    while (get(p) < v && kv_os_monotonic() < until)
        sched_yield();
    return get(p) >= v;
}

static void wake_ups(void)
{
    struct work w = {.ms = LONG_WAIT};
    kv_thread *t;
    int64_t before = kv_os_monotonic();
    uint64_t rounds = getenv("KV_SHORT") ? 500 : 20000, i = 1;
    if (!CHECK(kv_thread_start(answer, &w, &t) == KV_OK))
        return;
    /* The thread is sometimes asleep, sometimes about to be: none may be lost. */
    for (; i <= rounds; i++) {
        set(&w.asked, i);
        kv_thread_wake(t);
        if (i % 16 == 0)
            kv_thread_wake(t);
        if (!reached(&w.answered, i))
            break;
    }
    CHECK(i == rounds + 1);
    kv_thread_stop(t);
    CHECK(get(&w.ended) == 1);
    CHECK(kv_os_monotonic() - before < LONG_WAIT * INT64_C(1000000));
}

static void passing_time(void)
{
    struct work w = {.ms = 5};
    kv_thread *t;
    int64_t before = kv_os_monotonic();
    CHECK(kv_thread_start(answer, &w, &t) == KV_OK);
    CHECK(reached(&w.waits, 4));
    CHECK(kv_os_monotonic() - before >= 20000000);
    kv_thread_stop(t);
    kv_thread_stop(NULL);

    /* Stopped while it sleeps, and before it ever ran. */
    w = (struct work){.ms = LONG_WAIT};
    CHECK(kv_thread_start(answer, &w, &t) == KV_OK);
    kv_os_sleep(20);
    kv_thread_stop(t);
    CHECK(w.ended == 1 && w.waits == 0);
    for (int i = 0; i < 200; i++) {
        w.ended = 0;
        CHECK(kv_thread_start(answer, &w, &t) == KV_OK);
        kv_thread_stop(t);
        CHECK(w.ended == 1);
    }
    CHECK(kv_os_monotonic() - before < LONG_WAIT * INT64_C(1000000));
}

/* The host's signals stay with the host's threads; faults do not wait. */
static void look_at_signals(void *arg, kv_thread *t)
{
    struct work *w = arg;
    sigset_t mask;
    (void)t;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    set(&w->asked, sigismember(&mask, SIGTERM) && sigismember(&mask, SIGCHLD) &&
                       sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGALRM));
    set(&w->answered, !sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGBUS));
}

static void signals(void)
{
    struct work w = {0};
    kv_thread *t;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    CHECK(kv_thread_start(look_at_signals, &w, &t) == KV_OK);
    kv_thread_stop(t);
    CHECK(w.asked == 1 && w.answered == 1);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < 32; s++)
        CHECK(sigismember(&before, s) == sigismember(&after, s));
}

/* Asleep it gives way to whoever wakes it, unless the host has chosen a policy; at work it does
 * not.
 */
struct look {
    uint64_t tid, at_work, asleep;
};

static void look_at_policy(void *arg, kv_thread *t)
{
    struct look *l = arg;
    set(&l->tid, (uint64_t)gettid());
    while (kv_thread_wait(t, LONG_WAIT))
        set(&l->at_work, (uint64_t)sched_getscheduler(0));
}

static void *look(void *arg)
{
    struct look *l = arg;
    struct sched_param p = {0};
    int64_t until = kv_os_monotonic() + INT64_C(20000000000);
    int policy = l->asleep == SCHED_IDLE ? SCHED_IDLE : SCHED_BATCH;
    kv_thread *t;
    if (policy == SCHED_IDLE && sched_setscheduler(0, SCHED_IDLE, &p) != 0)
        return NULL;
    set(&l->at_work, UINT64_MAX);
    if (kv_thread_start(look_at_policy, l, &t) != KV_OK)
        return NULL;
    (void)reached(&l->tid, 1);
    while (sched_getscheduler((pid_t)get(&l->tid)) != policy && kv_os_monotonic() < until)
        sched_yield();
    l->asleep = (uint64_t)sched_getscheduler((pid_t)get(&l->tid));
    kv_thread_wake(t);
    while (get(&l->at_work) == UINT64_MAX && kv_os_monotonic() < until)
        sched_yield();
    kv_thread_stop(t);
    return NULL;
}

static void policy(void)
{
    struct look l = {0}, idle = {.asleep = SCHED_IDLE};
    pthread_t other;
    if (!CHECK(sched_getscheduler(0) == SCHED_OTHER))
        return;
    look(&l);
    CHECK(l.asleep == SCHED_BATCH && l.at_work == SCHED_OTHER);
    if (!CHECK(pthread_create(&other, NULL, look, &idle) == 0))
        return;
    pthread_join(other, NULL);
    CHECK(idle.asleep == SCHED_IDLE && idle.at_work == SCHED_IDLE);
}

static int no_thread(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "thread") == 0 ? EAGAIN : 0;
}

static void no_more_threads(void)
{
    struct work w = {0};
    kv_thread *t = NULL;
    kv_test_syscall = no_thread;
    CHECK(kv_thread_start(answer, &w, &t) == KV_EIO && !t);
    kv_test_syscall = NULL;
    CHECK(strstr(kv_message(), "thread") != NULL);
}

/* The child has no such thread; it must not wait for it. */
static void forked(void)
{
    struct work w = {.ms = LONG_WAIT};
    kv_thread *t;
    int status = -1;
    CHECK(kv_thread_start(answer, &w, &t) == KV_OK);
    kv_os_sleep(10);
    pid_t pid = check_fork();
    if (pid == 0) {
        alarm(30);
        kv_thread_forget(t);
        struct work own = {.ms = LONG_WAIT};
        if (UNDER_TSAN)
            _exit(0);
        if (kv_thread_start(answer, &own, &t) != KV_OK)
            _exit(1);
        kv_thread_stop(t);
        _exit(own.ended == 1 ? 0 : 2);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    kv_thread_stop(t);
    CHECK(w.ended == 1);
}

/* ---- what several threads use at once ---- */

struct shared {
    kv_mutex *mutex;
    kv_lock lock;
    kv_dir *dir;
    uint64_t by_mutex, by_lock, failures, number;
};

static int nothing(void *arg, const char *name)
{
    (void)arg;
    return name[0] == '\0';
}

static void *use(void *arg)
{
    struct shared *s = arg;
    uint64_t me = __atomic_add_fetch(&s->number, 1, __ATOMIC_RELAXED), bad = 0;
    char name[32], text[32], out[32];
    int fd, rounds = getenv("KV_SHORT") ? 50 : 1000;
    for (int i = 0; i < rounds; i++) {
        kv_mutex_lock(s->mutex);
        s->by_mutex++;
        kv_mutex_unlock(s->mutex);
        bad += kv_lock_take(&s->lock, 20000) != KV_OK;
        s->by_lock++;
        kv_lock_release(&s->lock);

        size_t got = 0;
        uint64_t n = me * 1000000 + (uint64_t)i;
        snprintf(name, sizeof name, "f%d", (int)(n % 3));
        snprintf(text, sizeof text, "own.%d", (int)me);
        bad += kv_file_open(s->dir, name, KV_FILE_MAKE, &fd) != KV_OK;
        bad += kv_file_write(fd, &n, sizeof n, 0) != KV_OK;
        kv_file_close(fd);
        bad += kv_file_open(s->dir, text, KV_FILE_CREATE, &fd) != KV_OK;
        bad += kv_file_write(fd, &n, sizeof n, 0) != KV_OK;
        bad += kv_file_read(fd, out, sizeof out, 0, &got) != KV_OK;
        bad += got != sizeof n || memcmp(out, &n, sizeof n) != 0;
        kv_file_close(fd);
        bad += kv_dir_list(s->dir, nothing, NULL) != KV_OK;
        bad += kv_file_unlink(s->dir, text) != KV_OK;
        if (i % 10 == 0)
            bad += kv_file_unlink(s->dir, name) != KV_OK;

        kv_fail(KV_EIO, "message of %d", (int)me);
        snprintf(text, sizeof text, "message of %d", (int)me);
        sched_yield();
        bad += strcmp(kv_message(), text) != 0;
    }
    __atomic_add_fetch(&s->failures, bad, __ATOMIC_RELAXED);
    return NULL;
}

static void together(void)
{
    enum { THREADS = 4 };
    static const kv_dir_options usual = {.create = 1, .mode = 0600};
    static struct shared s;
    pthread_t threads[THREADS];
    int made;
    uint64_t each = getenv("KV_SHORT") ? 50 : 1000;
    s.mutex = kv_mutex_new();
    if (!CHECK(s.mutex && kv_lock_init(&s.lock) == KV_OK &&
               kv_dir_open(":memory:", &usual, &s.dir, &made) == KV_OK))
        return;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, use, &s) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(s.failures == 0);
    CHECK(s.by_mutex == THREADS * each && s.by_lock == THREADS * each);
    kv_dir_close(s.dir);
    kv_mutex_free(s.mutex);
    kv_mutex_free(NULL);
}

/* A thread that ends with the lock is a dead owner as well. */
static void *end_holding(void *arg)
{
    return kv_lock_take(arg, 1000) == KV_OK ? arg : NULL;
}

static void dead_thread(void)
{
    static kv_lock l;
    pthread_t thread;
    void *r = NULL;
    CHECK(kv_lock_init(&l) == KV_OK);
    CHECK(pthread_create(&thread, NULL, end_holding, &l) == 0);
    pthread_join(thread, &r);
    CHECK(r == &l);
    CHECK(kv_lock_take(&l, 1000) == KV_LOCK_DIED);
    kv_lock_consistent(&l);
    kv_lock_release(&l);
    CHECK(kv_lock_take(&l, 0) == KV_OK);
    kv_lock_release(&l);
}

int main(void)
{
    wake_ups();
    passing_time();
    signals();
    policy();
    no_more_threads();
    forked();
    together();
    dead_thread();
    return check_done("test_thread_os");
}
