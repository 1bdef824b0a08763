/* SPDX-License-Identifier: MIT
 *
 * os.c - failures in words, clocks, random bytes, and everything done to an open file or a mapping.
 *
 * Directories are in os_dir.c, locks and threads in os_thread.c. Each system call asks the seam
 * first (test builds); EINTR never leaves this layer.
 */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Linux 5.14; older headers lack it, and older kernels refuse it, which is as good as ignoring. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MESSAGE_SIZE  320
#define MESSAGE_WHAT  200 /* of a path: its end, so that the cause still fits */
#define PIECE         65536u
#define MS_PER_SECOND 1000
#define NS_PER_MS     1000000

/* ---- failures ---- */

static __thread char message[MESSAGE_SIZE];

/* In the order of the codes, from KV_OK down. */
static const char *const names[] = {
    "ok",           "too_big",       "full",         "corrupt",      "io",
    "busy",         "denied",        "readonly",     "unsupported",  "not_found",
    "exists",       "conflict",      "not_a_number", "not_a_string", "not_a_boolean",
    "not_an_array", "not_an_object", "not_json",     "too_deep",     "bad_path",
    "out_of_range", "bad_cursor",    "invalid",      "no_memory"};
KV_STATIC_ASSERT(sizeof names / sizeof names[0] == 1 - KV_ENOMEM, every_code_has_a_name);

const char *kv_errname(int code)
{
    if (code > KV_OK || code < KV_ENOMEM)
        return "unknown";
    return names[-code];
}

const char *kv_message(void)
{
    return message;
}

const char *kv_version(void)
{
    return KV_VERSION;
}

int kv_fail(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return code;
}

/* strerror_r comes in two kinds: one returns the text, the other a number. */
static const char *cause(int e, char *text, size_t size)
{
    text[0] = '\0';
#ifdef __GLIBC__
    return strerror_r(e, text, size);
#else
    if (strerror_r(e, text, size) != 0)
        snprintf(text, size, "error %d", e);
    return text;
#endif
}

static int code_of(int e)
{
    switch (e) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KV_EFULL;
    case EACCES:
    case EPERM:
        return KV_EDENIED;
    case EROFS:
        return KV_EREADONLY;
    case ENOENT:
        return KV_ENOTFOUND;
    case EEXIST:
        return KV_EEXISTS;
    case ENOMEM:
        return KV_ENOMEM;
    default:
        return KV_EIO;
    }
}

int kv_fail_errno(int e, const char *call, const char *what)
{
    char text[80];
    size_t len = strlen(what);
    const char *dots = "";
    if (len > MESSAGE_WHAT) {
        what += len - MESSAGE_WHAT;
        dots = "...";
    }
    return kv_fail(code_of(e), "cannot %s%s%s%s: %s", call, len > 0 ? " " : "", dots, what,
                   cause(e, text, sizeof text));
}

/* The path of an open file, as the kernel knows it; only failures and tests pay for it. */
static const char *path_of(int fd, char *path, size_t size)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n < 0 ? 0 : n] = '\0';
    return path;
}

static KV_NOINLINE int fail_fd(int e, const char *call, int fd)
{
    char path[512];
    return kv_fail_errno(e, call, path_of(fd, path, sizeof path));
}

/* ---- the seam ---- */

#ifdef KV_TEST
int (*kv_test_syscall)(const char *call, const char *what);
int64_t kv_test_die_at;
int64_t kv_test_stores;
void (*kv_test_die)(void);
void (*kv_test_pause)(const char *point);
int64_t kv_test_fs;
char kv_test_boot[40];
int64_t kv_test_pid_ns;
static int64_t clock_offset;
static int64_t clock_frozen;

int kv_seam(const char *call, const char *what)
{
    return kv_test_syscall ? kv_test_syscall(call, what) : 0;
}

int kv_seam_fd(const char *call, int fd)
{
    char path[512];
    return kv_test_syscall ? kv_test_syscall(call, path_of(fd, path, sizeof path)) : 0;
}

/* Threads of a process count together; only the store that takes the countdown to zero dies. */
void kv_test_store(void)
{
    __atomic_fetch_add(&kv_test_stores, 1, __ATOMIC_RELAXED);
    if (kv_likely(__atomic_load_n(&kv_test_die_at, __ATOMIC_RELAXED) <= 0))
        return;
    if (__atomic_sub_fetch(&kv_test_die_at, 1, __ATOMIC_RELAXED) != 0)
        return;
    if (!kv_test_die)
        _exit(77);
    kv_test_die();
}

void kv_test_clock(int64_t offset_ms)
{
    __atomic_store_n(&clock_offset, offset_ms, __ATOMIC_RELAXED);
}

void kv_test_clock_set(int64_t wall_ms)
{
    __atomic_store_n(&clock_frozen, wall_ms, __ATOMIC_RELAXED);
}

void kv_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
    abort();
}
#endif

void kv_store_bytes(void *to, const void *from, size_t n)
{
    size_t done = 0;
#ifdef KV_TEST
    kv_test_store();
    done = n / 2 & ~(size_t)7;
    if (done > 0)
        memcpy(to, from, done);
    kv_test_store();
#endif
    if (n > 0) /* both may be NULL when there is nothing to copy */
        memcpy((char *)to + done, (const char *)from + done, n - done);
    kv_test_store();
}

/* ---- time and chance ---- */

int64_t kv_os_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    int64_t ms = (int64_t)t.tv_sec * MS_PER_SECOND + t.tv_nsec / NS_PER_MS;
#ifdef KV_TEST
    int64_t frozen = __atomic_load_n(&clock_frozen, __ATOMIC_RELAXED);
    ms = frozen ? frozen : ms + __atomic_load_n(&clock_offset, __ATOMIC_RELAXED);
#endif
    return ms;
}

int64_t kv_os_monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * MS_PER_SECOND * NS_PER_MS + t.tv_nsec;
}

void kv_os_sleep(int64_t ms)
{
    if (ms <= 0)
        return;
    struct timespec t = {.tv_sec = ms / MS_PER_SECOND, .tv_nsec = ms % MS_PER_SECOND * NS_PER_MS};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

void kv_os_yield(void)
{
    sched_yield();
}

int kv_os_random(void *to, size_t n)
{
    char *p = to;
    while (n > 0) {
        ssize_t got = 0;
        int e;
        KV_RETRY(e, kv_seam("random", ""), (got = getrandom(p, n, 0)) < 0);
        if (e != 0)
            return kv_fail_errno(e, "get random bytes", "");
        p += got;
        n -= (size_t)got;
    }
    return KV_OK;
}

void kv_os_boot_id(char out[40])
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    size_t got = 0;
    int fd = -1, e;
    KV_RETRY(e, kv_seam("boot_id", path), (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0);
    if (e == 0)
        (void)kv_file_read(fd, out, 39, 0, &got);
    kv_file_close(fd);
    while (got > 0 && (unsigned char)out[got - 1] <= ' ')
        got--;
    out[got] = '\0';
#ifdef KV_TEST
    if (kv_test_boot[0])
        memcpy(out, kv_test_boot, sizeof kv_test_boot);
#endif
}

uint64_t kv_os_pid_namespace(void)
{
    struct stat st;
#ifdef KV_TEST
    if (kv_test_pid_ns)
        return (uint64_t)kv_test_pid_ns;
#endif
    return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* ---- open files ---- */

void kv_file_close(int fd)
{
    /* Whatever close says, the descriptor is gone; data that must last has been synced before. */
    if (fd >= 0)
        close(fd);
}

static int stat_fd(int fd, struct stat *st)
{
    int e;
    KV_CALL(e, kv_seam_fd("fstat", fd), fstat(fd, st) != 0);
    return e ? fail_fd(e, "stat", fd) : KV_OK;
}

int kv_file_size(int fd, uint64_t *size)
{
    struct stat st;
    int r = stat_fd(fd, &st);
    if (r == KV_OK)
        *size = (uint64_t)st.st_size;
    return r;
}

int kv_file_stat(int fd, uint64_t *dev, uint64_t *inode)
{
    struct stat st;
    int r = stat_fd(fd, &st);
    if (r == KV_OK) {
        *dev = (uint64_t)st.st_dev;
        *inode = (uint64_t)st.st_ino;
    }
    return r;
}

int kv_file_read(int fd, void *to, size_t n, uint64_t off, size_t *got)
{
    char *p = to;
    size_t done = 0;
    while (done < n) {
        ssize_t r = 0;
        int e;
        KV_RETRY(e, kv_seam_fd("pread", fd),
                 (r = pread(fd, p + done, n - done, (off_t)(off + done))) < 0);
        if (e != 0)
            return fail_fd(e, "read", fd);
        if (r == 0)
            break;
        done += (size_t)r;
    }
    *got = done;
    return KV_OK;
}

/* Growing a file over the process's limit (ulimit -f) would not only fail: the kernel sends
 * SIGXFSZ, which ends a host that never heard of it. */
static int over_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end > limit.rlim_cur;
}

/* All of it, or the errno of what stopped it. */
static int write_all(int fd, const char *p, size_t n, uint64_t off)
{
    if (over_limit(off + n))
        return EFBIG;
    while (n > 0) {
        ssize_t r = 0;
        int e;
        KV_RETRY(e, kv_seam_fd("pwrite", fd), (r = pwrite(fd, p, n, (off_t)off)) < 0);
        if (e != 0)
            return e;
        p += r;
        off += (uint64_t)r;
        n -= (size_t)r;
    }
    return 0;
}

int kv_file_write(int fd, const void *from, size_t n, uint64_t off)
{
    int e = write_all(fd, from, n, off);
    return e ? fail_fd(e, "write", fd) : KV_OK;
}

static int write_zeros(int fd, uint64_t off, uint64_t end)
{
    static const char zeros[65536];
    while (off < end) {
        size_t piece = end - off < sizeof zeros ? (size_t)(end - off) : sizeof zeros;
        int e = write_all(fd, zeros, piece, off);
        if (e != 0)
            return e;
        off += piece;
    }
    return 0;
}

/* For file systems without fallocate. Below the size everything has been allocated by an earlier
 * call, since nothing else makes a file of ours longer. */
static int lengthen(int fd, uint64_t off, uint64_t end)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    return write_zeros(fd, off < (uint64_t)st.st_size ? (uint64_t)st.st_size : off, end);
}

/* Where blocks are smaller than pages (an ext4 of less than 512 MiB), the first store to a page of
 * allocated space makes several blocks of its file "written", which may ask for a block more to
 * note that; on a full disk this is a SIGBUS. It is better asked for by a write, which can fail. */
static int has_small_blocks(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_blksize < (blksize_t)KV_PAGE;
}

/* A failure may leave part of the space allocated; it is never cut off again (a mapping may reach
 * there), and the next try goes on from it.
 *
 * tmpfs undoes a call that a signal interrupts. A host with a profiling timer would so never finish
 * a large one: each EINTR halves the pieces. */
/* A memfd of a directory in memory (files of a tmpfs are sealed against seals). There is no disk to
 * run full, and pages that come with the first touch can be large ones. */
static int is_memory(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && !(seals & F_SEAL_SEAL);
}

static int extend(int fd, uint64_t end)
{
    struct stat st;
    return fstat(fd, &st) != 0 || ((uint64_t)st.st_size < end && ftruncate(fd, (off_t)end) != 0);
}

int kv_file_allocate(int fd, uint64_t off, uint64_t n)
{
    uint64_t end = off + n, at = off, step = n;
    int e = over_limit(end) ? EFBIG : 0, memory = is_memory(fd);
    while (e == 0 && at < end) {
        if (step > end - at)
            step = end - at;
        KV_CALL(e, kv_seam_fd("fallocate", fd),
                memory ? extend(fd, at + step) : fallocate(fd, 0, (off_t)at, (off_t)step) != 0);
        if (e == 0) {
            at += step;
        } else if (e == EINTR) {
            step = step > PIECE ? step / 2 : step;
            e = 0;
        }
    }
    if (e == EOPNOTSUPP || e == ENOSYS)
        e = lengthen(fd, off, end);
    else if (e == 0 && !memory && has_small_blocks(fd))
        e = write_zeros(fd, off, end);
    else if (e == 0 && !memory && n >= PIECE)
        /* What the kernel read ahead while this was a hole lies in small pages. */
        posix_fadvise(fd, (off_t)off, (off_t)n, POSIX_FADV_DONTNEED);
    return e ? fail_fd(e, "allocate space for", fd) : KV_OK;
}

int kv_file_sync(int fd)
{
    int e;
    /* EINTR here is a failed sync like any other: what was written so far is not known. */
    KV_CALL(e, kv_seam_fd("fdatasync", fd), fdatasync(fd) != 0);
    return e ? fail_fd(e, "sync", fd) : KV_OK;
}

void kv_file_flush(int fd, int wait)
{
    unsigned flags = SYNC_FILE_RANGE_WRITE;
    if (wait)
        flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    (void)sync_file_range(fd, 0, 0, flags);
}

int kv_file_sync_all(int fd)
{
    int e;
    KV_CALL(e, kv_seam_fd("fsync", fd), fsync(fd) != 0);
    return e ? fail_fd(e, "sync", fd) : KV_OK;
}

/* An OFD lock: unlike a classic one it is not lost when some other descriptor of the same file is
 * closed somewhere in this process. */
int kv_file_lock(int fd, uint64_t at, uint64_t n, int how)
{
    static const short type[] = {F_UNLCK, F_RDLCK, F_WRLCK};
    struct flock l;
    memset(&l, 0, sizeof l);
    l.l_type = type[how];
    l.l_whence = SEEK_SET;
    l.l_start = (off_t)at;
    l.l_len = (off_t)n;
    int e;
    KV_RETRY(e, kv_seam_fd("flock", fd), fcntl(fd, F_OFD_SETLK, &l) != 0);
    if (e == EAGAIN || e == EACCES) {
        char path[512];
        return kv_fail(KV_EBUSY, "%.*s is locked by another process", MESSAGE_WHAT,
                       path_of(fd, path, sizeof path));
    }
    return e ? fail_fd(e, "lock", fd) : KV_OK;
}

/* ---- mappings ---- */

int kv_file_map(int fd, uint64_t off, size_t n, int writable, void *at, int huge, void **out)
{
    int e, prot = PROT_READ | (writable ? PROT_WRITE : 0),
           flags = MAP_SHARED | (at ? MAP_FIXED : 0);
    void *p = NULL;
    KV_CALL(e, kv_seam_fd("mmap", fd),
            (p = mmap(at, n, prot, flags, fd, (off_t)off)) == MAP_FAILED);
    if (e != 0)
        return fail_fd(e, "map", fd);
    if (huge)
        madvise(p, n, MADV_HUGEPAGE);
    *out = p;
    return KV_OK;
}

void kv_file_unmap(void *p, size_t n)
{
    if (p)
        munmap(p, n);
}

int kv_map_reserve(size_t n, void **out)
{
    int e, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *p = NULL;
    KV_CALL(e, kv_seam("mmap", ""), (p = mmap(NULL, n, PROT_NONE, flags, -1, 0)) == MAP_FAILED);
    if (e != 0)
        return kv_fail_errno(e, "reserve address space", "");
    *out = p;
    return KV_OK;
}

void kv_map_populate(void *p, size_t n, int write)
{
    madvise(p, n, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void kv_map_release(void *p, size_t n)
{
    madvise(p, n, MADV_DONTNEED);
}

/* Past the caches, where that can be said: a segment's worth of zeros, not to be written over
 * before some others are full, would drive out what is in use. zeros_done orders such stores, too.
 * The thread sanitizer knows nothing of them. */
#if defined(__x86_64__) && defined(__SSE2__) && !defined(KV_TSAN)
static inline void zero_word(uint64_t *to)
{
    _mm_stream_si64((long long *)(void *)to, 0);
}
static inline void zeros_done(void)
{
    _mm_sfence();
}
#else
static inline void zero_word(uint64_t *to)
{
    __atomic_store_n(to, 0, __ATOMIC_RELAXED);
}
static inline void zeros_done(void)
{
    kv_fence_release();
}
#endif

/* The first page holds a segment's id and goes first: who copied zeros from behind it must see it
 * gone. */
void kv_map_zero(void *p, size_t n)
{
    uint64_t *word = p;
    size_t words = n / sizeof *word;

    kv_test_store();
    for (size_t i = 0; i < words; i++) {
        zero_word(&word[i]);
        if (i == KV_PAGE / sizeof *word - 1)
            zeros_done();
    }
    zeros_done();
}

int kv_map_punch(void *p, size_t n)
{
    kv_assert((uintptr_t)p % KV_PAGE == 0 && n % KV_PAGE == 0);
    int e;
    KV_RETRY(e, kv_seam("punch", ""), madvise(p, n, MADV_REMOVE) != 0);
    if (e == EINVAL || e == EOPNOTSUPP || e == ENOSYS) {
        /* For file systems that cannot punch, and for a host that locks its memory (mlockall): the
         * promise to readers holds, the space comes back with the unlink. */
        kv_map_zero(p, n);
        e = 0;
    }
    return e ? kv_fail_errno(e, "free file space", "") : KV_OK;
}
