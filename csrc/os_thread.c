/* SPDX-License-Identifier: MIT
 *
 * os_thread.c - the robust lock between processes, the fork guard, mutexes and the helper thread.
 *
 * The lock is a futex that the kernel hands on with a note when its owner dies; everything else
 * here is private to a process.
 */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#define MS_PER_SECOND 1000
#define NS_PER_MS     1000000
#define NS_PER_SECOND 1000000000
#define MAX_WAIT_MS   1000000000 /* 11 days; keeps the sums far from overflow */

static struct timespec deadline(clockid_t clock, int64_t ms)
{
    struct timespec t;
    clock_gettime(clock, &t);
    if (ms > MAX_WAIT_MS)
        ms = MAX_WAIT_MS;
    t.tv_sec += ms / MS_PER_SECOND;
    t.tv_nsec += ms % MS_PER_SECOND * NS_PER_MS;
    if (t.tv_nsec >= NS_PER_SECOND) {
        t.tv_sec++;
        t.tv_nsec -= NS_PER_SECOND;
    }
    return t;
}

/* ---- the helper thread gives way ---- */

static __thread int gives_way; /* not a host's threads */

/* While it sleeps: woken, it must not take the processor from a thread of the host, whose call
 * would go on only after a whole round of this one's. Not while it works, since each wait for the
 * disk would last until a processor is idle. A policy that the host chose stays. */
static void give_way(int yes)
{
    struct sched_param p = {0};

    if (gives_way)
        (void)sched_setscheduler(0, yes ? SCHED_BATCH : SCHED_OTHER, &p);
}

/* ---- the robust lock ---- */

KV_STATIC_ASSERT(sizeof(pthread_mutex_t) <= sizeof(kv_lock), lock_holds_a_mutex);

static pthread_mutex_t *mutex_of(kv_lock *l)
{
    return (pthread_mutex_t *)(void *)l;
}

uint64_t kv_lock_kind(void)
{
#ifdef __GLIBC__
    return sizeof(pthread_mutex_t) << 8 | 1;
#else
    return sizeof(pthread_mutex_t) << 8;
#endif
}

/* NORMAL: the other kinds compare thread ids, and those repeat across PID namespaces. No priority
 * inheritance: there it aborts the process. */
int kv_lock_init(kv_lock *l)
{
    pthread_mutexattr_t attr;
    int e = kv_seam("lock_init", "");
    if (e == 0)
        e = pthread_mutexattr_init(&attr);
    if (e == 0) {
        e = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_NORMAL);
        if (e == 0)
            e = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        if (e == 0)
            e = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (e == 0)
            e = pthread_mutex_init(mutex_of(l), &attr);
        pthread_mutexattr_destroy(&attr);
    }
    if (e != 0)
        return kv_fail(KV_EUNSUPPORTED, "this system has no robust locks between processes");
    return KV_OK;
}

/* glibc 2.30. The thread sanitizer does not know the call and would report races. */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 30)
#define HAS_CLOCKLOCK
#endif
#endif
#ifdef __SANITIZE_THREAD__ /* gcc */
#undef HAS_CLOCKLOCK
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) /* clang */
#undef HAS_CLOCKLOCK
#endif
#endif

/* A step of the wall clock should not end a wait early, or stretch it. */
static int timed_lock(pthread_mutex_t *m, int64_t ms)
{
#ifdef HAS_CLOCKLOCK
    struct timespec until = deadline(CLOCK_MONOTONIC, ms);
    return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &until);
#else
    struct timespec until = deadline(CLOCK_REALTIME, ms);
    return pthread_mutex_timedlock(m, &until);
#endif
}

/* Who is woken and killed before it has the lock wakes the next one (the kernel does that for it),
 * but not where somebody else has taken the lock meanwhile, who does not know of those asleep. So
 * nobody sleeps for long without a look. */
#define SLEEP 100 /* ms */

static int queue(pthread_mutex_t *m, int64_t ms)
{
    int e;

    do {
        e = timed_lock(m, ms < SLEEP ? ms : SLEEP);
        ms -= SLEEP;
    } while (e == ETIMEDOUT && ms > 0);
    return e;
}

/* A hint for who waits: a look leaves the holder its cache line, a try takes it away. */
static inline int looks_taken(const kv_lock *l)
{
#ifdef __GLIBC__ /* the futex comes first */
    return __atomic_load_n((const int *)(const void *)l, __ATOMIC_RELAXED) != 0;
#else
    (void)l;
    return 1;
#endif
}

/* The lock is held for a microsecond or two: less than it takes to sleep and be woken. */
#define SPINS 40
#define LOOKS 8     /* at most, between two tries */
#define NAP   50000 /* ns */

static int spin(kv_lock *l)
{
    int e = EBUSY, i, j;

    for (i = 0; i < SPINS && e == EBUSY; i++) {
        for (j = 0; j == 0 || (j < LOOKS && looks_taken(l)); j++)
            kv_relax();
        e = pthread_mutex_trylock(mutex_of(l));
    }
    return e;
}

/* What a try or a wait came to. */
static int outcome(int e)
{
    switch (e) {
    case 0:
        return KV_OK;
    case EOWNERDEAD:
        return KV_LOCK_DIED;
    case EBUSY:
    case ETIMEDOUT:
        return kv_fail(KV_EBUSY, "the writer's lock is held by another process");
    case ENOTRECOVERABLE:
        return kv_fail(KV_EIO,
                       "the writer's lock was given up by a process that could not recover");
    default:
        return kv_fail_errno(e, "take the writer's lock", "");
    }
}

static KV_NOINLINE int lock_slowly(kv_lock *l, int e, int64_t timeout_ms)
{
    if (e == EBUSY && timeout_ms > 0)
        e = spin(l);
    if (e == EBUSY && timeout_ms > 0)
        e = queue(mutex_of(l), timeout_ms);
    return outcome(e);
}

int kv_lock_take(kv_lock *l, int64_t timeout_ms)
{
    int e = pthread_mutex_trylock(mutex_of(l));
    return kv_likely(e == 0) ? KV_OK : lock_slowly(l, e, timeout_ms);
}

int kv_lock_poll(kv_lock *l, int64_t timeout_ms)
{
    static const struct timespec nap = {.tv_sec = 0, .tv_nsec = NAP};
    int64_t end =
        kv_os_monotonic() + (timeout_ms < MAX_WAIT_MS ? timeout_ms : MAX_WAIT_MS) * NS_PER_MS;
    int e = pthread_mutex_trylock(mutex_of(l));

    while (e == EBUSY && (e = spin(l)) == EBUSY && kv_os_monotonic() < end) {
        give_way(1);
        (void)nanosleep(&nap, NULL);
        give_way(0);
    }
    return outcome(e);
}

void kv_lock_consistent(kv_lock *l)
{
    if (!KV_IS_BUG(49))
        pthread_mutex_consistent(mutex_of(l));
}

void kv_lock_release(kv_lock *l)
{
    int e = pthread_mutex_unlock(mutex_of(l));
    kv_assert(e == 0);
    (void)e;
}

static void *die_with(void *lock)
{
    (void)pthread_mutex_lock(lock);
    return NULL;
}

/* Emulators, sandboxes and filters of system calls have been seen that accept robust locks and then
 * let them rest with the dead. Where no thread can be had nothing is known, and all goes on. */
int kv_lock_proven(void)
{
    static int proven;
    kv_lock l;
    pthread_t thread;
    int e;

    if (proven)
        return KV_OK;
    memset(&l, 0, sizeof l);
    e = kv_lock_init(&l);
    if (e != KV_OK || pthread_create(&thread, NULL, die_with, mutex_of(&l)) != 0)
        return e;
    pthread_join(thread, NULL);
    if (kv_seam("robust", "") != 0 || pthread_mutex_trylock(mutex_of(&l)) != EOWNERDEAD)
        return kv_fail(KV_EUNSUPPORTED,
                       "this system does not tell of the death of who held a lock");
    pthread_mutex_consistent(mutex_of(&l));
    pthread_mutex_unlock(mutex_of(&l));
    proven = 1;
    return KV_OK;
}

/* ---- the process's own lock ---- */

static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void (*process_on_fork)(void);

static void process_forked(void)
{
    if (process_on_fork)
        process_on_fork();
    kv_process_unlock();
}

/* A child must not inherit it from a thread that it has not got. The only place that registers it:
 * two handlers would wait for each other. */
static void process_forks(void)
{
    pthread_atfork(kv_process_lock, kv_process_unlock, process_forked);
}

void kv_process_on_fork(void (*f)(void))
{
    process_on_fork = f;
}

void kv_process_lock(void)
{
    pthread_once(&process_once, process_forks);
    pthread_mutex_lock(&process_mutex);
}

void kv_process_unlock(void)
{
    pthread_mutex_unlock(&process_mutex);
}

/* ---- the fork guard ---- */

/* The pages that the kernel does not wipe itself (before Linux 4.14): a handler of fork does. */
static pthread_mutex_t guards_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t **guards;
static size_t guard_count, guard_room;
static int guards_registered;

static void guards_lock(void)
{
    pthread_mutex_lock(&guards_mutex);
}
static void guards_unlock(void)
{
    pthread_mutex_unlock(&guards_mutex);
}
static void guards_wipe(void)
{
    for (size_t i = 0; i < guard_count; i++)
        *guards[i] = 0;
    pthread_mutex_unlock(&guards_mutex);
}

static int guards_add(uint64_t *page)
{
    int e = 0;
    guards_lock();
    if (!guards_registered) {
        e = pthread_atfork(guards_lock, guards_unlock, guards_wipe);
        guards_registered = e == 0;
    }
    if (e == 0 && guard_count == guard_room) {
        size_t room = guard_room ? guard_room * 2 : 8;
        uint64_t **more = realloc(guards, room * sizeof *more);
        if (!more) {
            e = ENOMEM;
        } else {
            guards = more;
            guard_room = room;
        }
    }
    if (e == 0)
        guards[guard_count++] = page;
    guards_unlock();
    return e;
}

static void guards_remove(const uint64_t *page)
{
    guards_lock();
    for (size_t i = 0; i < guard_count; i++)
        if (guards[i] == page)
            guards[i--] = guards[--guard_count];
    if (guard_count == 0) {
        free(guards);
        guards = NULL;
        guard_room = 0;
    }
    guards_unlock();
}

int kv_guard_init(kv_guard *g)
{
    int e, prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *page = NULL;
    KV_CALL(e, kv_seam("mmap", ""), (page = mmap(NULL, KV_PAGE, prot, flags, -1, 0)) == MAP_FAILED);
    if (e != 0)
        return kv_fail_errno(e, "map a page", "");
    if (!KV_IS_BUG(45) &&
        (kv_seam("wipeonfork", "") != 0 || madvise(page, KV_PAGE, MADV_WIPEONFORK) != 0)) {
        e = guards_add(page);
        if (e != 0) {
            munmap(page, KV_PAGE);
            return kv_fail_errno(e, "register a fork handler", "");
        }
    }
    g->page = page;
    kv_guard_adopt(g);
    return KV_OK;
}

void kv_guard_free(kv_guard *g)
{
    if (!g->page)
        return;
    guards_remove(g->page);
    munmap(g->page, KV_PAGE);
    g->page = NULL;
}

void kv_guard_adopt(kv_guard *g)
{
    __atomic_store_n(g->page, 1, __ATOMIC_RELAXED);
}

/* ---- mutexes ---- */

struct kv_mutex {
    pthread_mutex_t m;
};

kv_mutex *kv_mutex_new(void)
{
    kv_mutex *m = malloc(sizeof *m);
    if (m && pthread_mutex_init(&m->m, NULL) != 0) {
        free(m);
        m = NULL;
    }
    return m;
}

void kv_mutex_free(kv_mutex *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->m);
    free(m);
}

void kv_mutex_lock(kv_mutex *m)
{
    int e = pthread_mutex_lock(&m->m);
    kv_assert(e == 0);
    (void)e;
}

void kv_mutex_unlock(kv_mutex *m)
{
    int e = pthread_mutex_unlock(&m->m);
    kv_assert(e == 0);
    (void)e;
}

/* ---- the helper thread ---- */

struct kv_thread {
    void (*body)(void *arg, kv_thread *t);
    void *arg;
    int woken; /* set by kv_thread_wake, taken by kv_thread_wait; atomic */
    int stop;  /* under the mutex */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

static void *run(void *arg)
{
    kv_thread *t = arg;
    pthread_setname_np(pthread_self(), "kv");
    gives_way = sched_getscheduler(0) == SCHED_OTHER;
    t->body(t->arg, t);
    return NULL;
}

/* A host's signal handlers run on the host's threads. Faults stay deliverable: blocked, they would
 * kill the process without the report a host may have set up. */
static int create_quiet(kv_thread *t)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return e;
}

int kv_thread_start(void (*body)(void *arg, kv_thread *t), void *arg, kv_thread **out)
{
    pthread_condattr_t attr;
    kv_thread *t = calloc(1, sizeof *t);
    if (!t)
        return kv_fail(KV_ENOMEM, "out of memory");
    t->body = body;
    t->arg = arg;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    int e = kv_seam("thread", "");
    if (e == 0)
        e = create_quiet(t);
    if (e != 0) {
        kv_thread_forget(t);
        return kv_fail_errno(e, "start a thread", "");
    }
    *out = t;
    return KV_OK;
}

/* An exchange, not a load: it sees the thread's last take, and the thread's next take sees what was
 * written before this. With a plain load a wake-up could be lost between the two. */
void kv_thread_wake(kv_thread *t)
{
    if (__atomic_exchange_n(&t->woken, 1, __ATOMIC_SEQ_CST))
        return;
    /* It sleeps by now, or has yet to look. Woken before the mutex is free, it would run into it.
     */
    pthread_mutex_lock(&t->mutex);
    pthread_mutex_unlock(&t->mutex);
    pthread_cond_signal(&t->changed);
}

int kv_thread_wait(kv_thread *t, int64_t ms)
{
    struct timespec until = deadline(CLOCK_MONOTONIC, ms > 0 ? ms : 0);
    int e = 0, slept = 0;
    pthread_mutex_lock(&t->mutex);
    while (!t->stop && !__atomic_exchange_n(&t->woken, 0, __ATOMIC_SEQ_CST) && e != ETIMEDOUT) {
        if (!slept)
            give_way(1);
        slept = 1;
        e = pthread_cond_timedwait(&t->changed, &t->mutex, &until);
    }
    int on = !t->stop;
    pthread_mutex_unlock(&t->mutex);
    if (slept)
        give_way(0);
    return on;
}

void kv_thread_stop(kv_thread *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->mutex);
    t->stop = 1;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

/* Neither destroyed: the condition still counts a waiter that does not exist here. */
void kv_thread_forget(kv_thread *t)
{
    free(t);
}
