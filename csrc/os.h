/* SPDX-License-Identifier: MIT
 *
 * os.h - everything platform-specific: files, mapping, syncs, clocks, the robust lock, atomics.
 *
 * Nothing above this layer calls the system or uses #ifdef for a platform. All calls that can fail
 * go through one seam (KV_TEST builds), where tests make the n-th call fail, die at the n-th shared
 * store, or move the clock. Functions return KV_OK or a code of kv.h and note a message with path
 * and cause (kv_fail).
 */
#ifndef KV_OS_H
#define KV_OS_H

/* Before anything is included: a compiler for another platform may not even have the headers. No
 * macro of POSIX tells of robust mutexes; those who lack them are known by name. */
#if !defined(__LP64__)
#error                                                                                             \
    "kv needs a 64-bit platform: offsets are 64-bit words that others see whole; docs/internals.md says what a port needs"
#elif __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error                                                                                             \
    "kv needs a little-endian platform: stores are in that byte order; docs/internals.md says what a port needs"
#elif defined(__APPLE__) || defined(__ANDROID__) || defined(__OpenBSD__) || defined(__UCLIBC__)
#error                                                                                             \
    "kv needs robust process-shared mutexes, which this platform lacks; docs/internals.md says what a port needs"
#elif !defined(__linux__)
#error "kv needs Linux: OFD locks, fallocate, memfd; docs/internals.md says what a port needs"
#endif

#include <stdint.h>
#include <stddef.h>
#include "kv.h"

/* Under ThreadSanitizer every shared word is loaded as an atomic one. */
#if defined(__SANITIZE_THREAD__)
#define KV_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KV_TSAN 1
#endif
#endif
#if defined(__SSE2__) && !defined(KV_TSAN)
#include <emmintrin.h>
#endif

#pragma GCC visibility push(hidden)

#define KV_PAGE 4096u

#define kv_likely(x)    __builtin_expect(!!(x), 1)
#define kv_unlikely(x)  __builtin_expect(!!(x), 0)
#define KV_NOINLINE     __attribute__((noinline))
#define KV_PRINTF(a, b) __attribute__((format(printf, a, b)))
#define kv_prefetch(p)  __builtin_prefetch(p)
/* Into the second cache only: the first one waits for fewer lines at a time. */
#define kv_prefetch_far(p) __builtin_prefetch((p), 0, 2)
/* A value from here on unknown to the compiler, which would take another course if it knew. */
#define kv_opaque(x) __asm__("" : "+r"(x))
/* C99 has no static assertions; a negative array size does. */
#define KV_STATIC_ASSERT(cond, name) typedef char kv_assert_##name[(cond) ? 1 : -1]

#ifdef KV_TEST
/* Internal invariants only; stored or shared bytes are validated, never asserted. */
#define kv_assert(c) ((c) ? (void)0 : kv_assert_failed(#c, __FILE__, __LINE__))
void kv_assert_failed(const char *what, const char *file, int line);
#else
#define kv_assert(c) ((void)0)
#endif

/* Builds broken on purpose: KV_BUG=n makes exactly one of them; the suite must catch each. */
#ifdef KV_BUG
#define KV_IS_BUG(n) (KV_BUG == (n))
#else
#define KV_IS_BUG(n) 0
#endif

/* ---- atomics: plain loads and stores on x86-64, ordered for the compiler -------------- */

static inline uint64_t kv_load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline uint64_t kv_load_relaxed(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline void *kv_load_ptr(void *const *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void kv_store_ptr(void **p, void *v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
/* Fetches a line that is to be written. On x86-64 compilers use the instruction only where they are
 * told it exists; where it does not it does nothing. */
static inline void kv_prefetch_to_store(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
    __builtin_prefetch(p, 1);
#endif
}
/* Between two looks at what another processor is about to change. */
static inline void kv_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
static inline void kv_fence_acquire(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}
static inline void kv_fence_release(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

/* Bit i: the high 24 bits of word i are `tag`; of eight words that begin a cache line. Each aligned
 * word is loaded whole, also as half of a vector. */
static inline unsigned kv_match_tags(const uint64_t *w, uint32_t tag)
{
#if defined(__SSE2__) && !defined(KV_TSAN)
    const __m128 *v = (const __m128 *)(const void *)w;
    __m128i t = _mm_set1_epi32((int)tag);
    /* The high halves of four words at a time. */
    __m128i a = _mm_castps_si128(_mm_shuffle_ps(v[0], v[1], 0xdd));
    __m128i b = _mm_castps_si128(_mm_shuffle_ps(v[2], v[3], 0xdd));
    a = _mm_cmpeq_epi32(_mm_srli_epi32(a, 8), t);
    b = _mm_cmpeq_epi32(_mm_srli_epi32(b, 8), t);
    return (unsigned)_mm_movemask_ps(_mm_castsi128_ps(a)) |
           (unsigned)_mm_movemask_ps(_mm_castsi128_ps(b)) << 4;
#else
    unsigned m = 0;
    int i;

    for (i = 7; i >= 0; i--)
        m += m + (__atomic_load_n(&w[i], __ATOMIC_ACQUIRE) >> 40 == tag);
    return m;
#endif
}

/* The one helper for stores to shared memory that another process may see or that recovery depends
 * on: a test build counts them and can die between any two. */
#ifdef KV_TEST
void kv_test_store(void); /* counts; dies when told to */
#else
static inline void kv_test_store(void)
{
}
#endif

static inline void kv_store(uint64_t *p, uint64_t v)
{
    kv_test_store();
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* A place between two steps whose order an argument of correctness rests on: a test build can stop
 * a thread there for as long as it likes. docs/internals.md lists them. */
#ifdef KV_TEST
extern void (*kv_test_pause)(const char *point);
#define KV_PAUSE(point) (kv_likely(!kv_test_pause) ? (void)0 : kv_test_pause(point))
#else
#define KV_PAUSE(point) ((void)0)
#endif

/* Copies bytes that become visible or durable later (log records, nodes not yet linked). A test
 * build may die before, half way and after. */
void kv_store_bytes(void *to, const void *from, size_t n);

/* ---- failures ------------------------------------------------------------------------- */

/* Notes the message of this thread and returns code. */
int kv_fail(int code, const char *fmt, ...) KV_PRINTF(2, 3);
/* The same for errno value e of a call on `what` (a path): chooses the code (ENOSPC, EDQUOT: full;
 * EACCES, EPERM: denied; EROFS: readonly; ENOENT: not_found; ENOMEM: ENOMEM; EMFILE, ENFILE, EIO
 * and the rest: io). */
int kv_fail_errno(int e, const char *call, const char *what);

/* ---- time ----------------------------------------------------------------------------- */

int64_t kv_os_wall(void);      /* ms since 1970; coarse clock, a few ns */
int64_t kv_os_monotonic(void); /* ns */
void kv_os_sleep(int64_t ms);
void kv_os_yield(void);
int kv_os_random(void *to, size_t n);
void kv_os_boot_id(char out[40]);   /* text, NUL-terminated; "" when unknown */
uint64_t kv_os_pid_namespace(void); /* 0 when unknown */

/* ---- directories and files ------------------------------------------------------------ */

/* A store's directory: a real one, or a private one in memory (names -> memfd), so that both kinds
 * run the same code. Thread-safe. */
typedef struct kv_dir kv_dir;

typedef struct kv_dir_options {
    int create;    /* make it and missing parents */
    int mode;      /* of files; the directory gets the x bits that go with the r bits */
    int unsafe_fs; /* accept NFS, CIFS, FUSE, 9p, virtiofs */
    int readonly;
} kv_dir_options;

/* path ":memory:" gives a private directory in memory. *made = 1 when it was created (or is in
 * memory). Files made later take owner, group and mode from the directory where permitted. Refuses:
 * a path that is a file (unsupported), a world-writable directory or one owned by another user when
 * not root (denied), network and FUSE file systems (unsupported). The directory fd is never below 3
 * and close-on-exec, as are all here. */
int kv_dir_open(const char *path, const kv_dir_options *o, kv_dir **out, int *made);
void kv_dir_close(kv_dir *d);
const char *kv_dir_path(const kv_dir *d);
int kv_dir_in_memory(const kv_dir *d);
void kv_dir_identity(const kv_dir *d, uint64_t id[2]); /* device and inode; unique also in memory */
int kv_dir_list(kv_dir *d, int (*each)(void *arg, const char *name),
                void *arg); /* stops at non-zero, returns it */
int kv_dir_sync(kv_dir *d);
/* The directory once more, wherever the process has gone since. */
int kv_dir_again(const kv_dir *d, kv_dir **out);
/* KV_EIO once the host has closed the directory's descriptor, as daemons do with all they have:
 * then no descriptor of the store is to be trusted, whatever it leads to now. */
int kv_dir_usable(const kv_dir *d);
/* In a forked child: its descriptor shares no lock with the parent's any more. 0: kv_dir_usable
 * would fail, or it cannot be had. */
int kv_dir_forked(kv_dir *d);

enum {
    KV_FILE_READ = 0,
    KV_FILE_WRITE = 1,
    KV_FILE_CREATE = 2 /* fails when it exists */,
    KV_FILE_MAKE = 3 /* open or create */
};
int kv_file_open(kv_dir *d, const char *name, int how, int *fd);
void kv_file_close(int fd);
int kv_file_size(int fd, uint64_t *size);
int kv_file_stat(int fd, uint64_t *dev, uint64_t *inode);
int kv_file_read(int fd, void *to, size_t n, uint64_t off,
                 size_t *got); /* short only at the end of the file */
int kv_file_write(int fd, const void *from, size_t n, uint64_t off); /* all of it */
int kv_file_allocate(int fd, uint64_t off, uint64_t n); /* real space, zeros (nothing is there yet);
                                                         extends the size */
int kv_file_sync(int fd);                               /* fdatasync */
void kv_file_flush(int fd,
                   int wait); /* starts writing what is dirty, or waits for it; no promise */
int kv_file_sync_all(int fd); /* fsync: allocation and size too */
/* Locks between open files on n bytes from `at` on (0: to the end), whether there or not. Nobody
 * waits: KV_EBUSY. Gone when fd closes. */
enum { KV_RANGE_FREE, KV_RANGE_SHARED, KV_RANGE_ALONE };
int kv_file_lock(int fd, uint64_t at, uint64_t n, int how);
/* Tells other processes that this one uses the directory (KV_RANGE_SHARED), until d is closed.
 * KV_RANGE_ALONE: KV_EBUSY when another one does; what d held before is then given up. Nobody
 * waits.
 */
int kv_dir_hold(kv_dir *d, int how);
int kv_file_unlink(kv_dir *d, const char *name); /* missing is fine */
int kv_file_rename(kv_dir *d, const char *from, const char *to);

/* os_tree.c: directories of stores, by path. Calls each for those in root that hold `file`. */
int kv_tree_list(const char *root, const char *file, int (*each)(void *arg, const char *name),
                 void *arg);                         /* stops at non-zero, returns it */
int kv_tree_check(const char *path, uint64_t id[2]); /* a directory, not a link; its identity */
int kv_tree_still(const kv_dir *d);                  /* 1: its path still leads to it */
/* Renames path, within its parent, to a name that begins with this and was not there: durably gone
 * when KV_OK. kv_tree_aside finds what has such a name. */
#define KV_ASIDE ".kv-deleted-"
int kv_tree_set_aside(const char *path);
int kv_tree_aside(const char *path, void (*each)(const char *aside));
int kv_tree_remove(const char *path); /* an empty directory; missing is fine */

/* Maps shared. at NULL: anywhere; else over the mapping there (which stays readable until
 * replaced). huge: advise large pages. The range may go beyond the allocated part; only allocated
 * space may be touched. */
int kv_file_map(int fd, uint64_t off, size_t n, int writable, void *at, int huge, void **out);
void kv_file_unmap(void *p, size_t n);
int kv_map_reserve(size_t n, void **out); /* address space only, no access */
/* Pre-faults pages, for reading or for writing (which makes them dirty); best effort. */
void kv_map_populate(void *p, size_t n, int write);
/* Takes the pages out of this process's page table, where they come back with the next access; what
 * was stored to them stays stored. Only what kv_file_map made. Best effort. */
void kv_map_release(void *p, size_t n);
/* Frees the file space behind [p, p+n): readers of any mapping see zeros, no fault. */
int kv_map_punch(void *p, size_t n);
/* The same without giving the space back: stores zeros, those of the first page first. */
void kv_map_zero(void *p, size_t n);

/* ---- the robust lock ------------------------------------------------------------------ */

/* Lives in shared memory; never destroyed. NORMAL, robust, process-shared; no priority inheritance.
 */
typedef struct kv_lock {
    uint64_t opaque[8];
} kv_lock;

#define KV_LOCK_DIED                                                                               \
    1 /* taken, but the last owner died holding it: recover, then kv_lock_consistent */

uint64_t kv_lock_kind(void); /* what the C library makes of one; equal means: they can be shared */
int kv_lock_init(kv_lock *l);
/* Whether the kernel does tell of a dead owner: a thread dies with a lock, once in a process (50
 * us). With the process's own lock held. KV_EUNSUPPORTED: it does not, and a death would stop all.
 */
int kv_lock_proven(void);
int kv_lock_take(kv_lock *l, int64_t timeout_ms); /* KV_OK, KV_LOCK_DIED, KV_EBUSY; 0 ms: try */
/* The same for the helper thread: it looks again now and then instead of queueing, so that whoever
 * has the lock need not wake it, which might cost him the processor. */
int kv_lock_poll(kv_lock *l, int64_t timeout_ms);
void kv_lock_consistent(kv_lock *l);
void kv_lock_release(kv_lock *l);

/* True in a process forked after the guard was made. One load. */
typedef struct kv_guard {
    uint64_t *page; /* a page the kernel wipes in the child */
} kv_guard;
int kv_guard_init(kv_guard *g);
void kv_guard_free(kv_guard *g);
static inline int kv_guard_forked(const kv_guard *g)
{
    return __atomic_load_n(g->page, __ATOMIC_RELAXED) == 0;
}
void kv_guard_adopt(kv_guard *g); /* tests: let the child use it */

/* ---- threads of this process ---------------------------------------------------------- */

typedef struct kv_mutex kv_mutex; /* plain, not shared between processes */
kv_mutex *kv_mutex_new(void);     /* NULL: no memory */
void kv_mutex_free(kv_mutex *m);
void kv_mutex_lock(kv_mutex *m);
void kv_mutex_unlock(kv_mutex *m);

/* The one lock of this process for what all stores share (their registry). */
void kv_process_lock(void);
void kv_process_unlock(void);
/* f is called in every child that fork() makes of this process, with that lock held. */
void kv_process_on_fork(void (*f)(void));

typedef struct kv_thread kv_thread; /* a helper thread with a wake-up; signals blocked */
/* Runs body(arg, t) once; body loops on kv_thread_wait until it says stop. */
int kv_thread_start(void (*body)(void *arg, kv_thread *t), void *arg, kv_thread **out);
void kv_thread_wake(kv_thread *t); /* cheap when already awake */
int kv_thread_wait(kv_thread *t,
                   int64_t ms);      /* in the body: 1 = go on (woken or ms passed), 0 = stop */
void kv_thread_stop(kv_thread *t);   /* asks, wakes, joins, frees */
void kv_thread_forget(kv_thread *t); /* in a forked child: frees what can be freed */

/* ---- the seam (test builds) ----------------------------------------------------------- */

#ifdef KV_TEST
/* Called before each system call with its name ("fallocate", "fdatasync", "mmap", "open", "pread",
 * ...) and the path or "": a non-zero errno makes the call fail with it. */
extern int (*kv_test_syscall)(const char *call, const char *what);
KV_API void kv_test_clock(int64_t offset_ms);   /* added to kv_os_wall */
KV_API void kv_test_clock_set(int64_t wall_ms); /* freezes kv_os_wall at this; 0: real again */
/* Dies with _exit(77) at the n-th shared store from now (1: the next); 0: never. */
extern int64_t kv_test_die_at;
extern int64_t kv_test_stores;    /* counted so far */
extern void (*kv_test_die)(void); /* replaces _exit when set */
extern int64_t kv_test_fs;        /* the type that statfs reports; 0: the truth */
extern char kv_test_boot[40];     /* the boot id; "": the true one */
extern int64_t kv_test_pid_ns;    /* the PID namespace; 0: the true one */
/* For the os files: what kv_test_syscall says, 0 without one. */
int kv_seam(const char *call, const char *what);
int kv_seam_fd(const char *call, int fd);
#else
#define kv_seam(call, what)  ((void)(what), 0)
#define kv_seam_fd(call, fd) ((void)(fd), 0)
#endif
/* e = 0, or the errno of the seam or of a call that failed (an expression that makes it and is true
 * when it failed). KV_RETRY makes it again after EINTR. */
#define KV_CALL(e, seam, failed)                                                                   \
    do {                                                                                           \
        (e) = (seam);                                                                              \
        if ((e) == 0 && (failed))                                                                  \
            (e) = errno;                                                                           \
    } while (0)
#define KV_RETRY(e, seam, failed)                                                                  \
    do                                                                                             \
        KV_CALL(e, seam, failed);                                                                  \
    while ((e) == EINTR)

#pragma GCC visibility pop
#endif
