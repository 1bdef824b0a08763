/* SPDX-License-Identifier: MIT
 *
 * test_os_refused.c - what the kernel and the C library themselves refuse, behind the seam: each
 * call that the platform layer makes, answered with an error of its own.
 *
 * Functions here stand before those of the C library, which do the work unless one is told to
 * fail. What may be interrupted is made again, what is best effort is done without, and the rest
 * fails with the code of the cause, leaving no descriptor open and no name behind.
 */
#define _GNU_SOURCE
#include "os.h"
#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* ---- refusals ---- */

static struct {
    const char *call; /* NULL: nothing is refused; "a b": both are */
    int error, skip, times, made;
} refusal;

/* The call fails from the one after `skip` on, so many times. */
static void refuse(const char *call, int error, int skip, int times)
{
    refusal.call = call;
    refusal.error = error;
    refusal.skip = skip;
    refusal.times = times;
    refusal.made = 0;
}

/* All is as usual again; how often the call was refused. */
static int refused(void)
{
    refusal.call = NULL;
    return refusal.made;
}

static int refuses(const char *call)
{
    size_t n = strlen(call);
    const char *at = refusal.call;

    while (at != NULL && (strncmp(at, call, n) != 0 || (at[n] != 0 && at[n] != ' ')))
        at = (at = strchr(at, ' ')) != NULL ? at + 1 : NULL;
    if (at == NULL || refusal.skip-- > 0 || refusal.made == refusal.times)
        return 0;
    refusal.made++;
    errno = refusal.error;
    return 1;
}

#define REAL(name)                                                                                 \
    if (real == NULL)                                                                              \
    *(void **)(&real) = dlsym(RTLD_NEXT, #name)

/* A function of the C library, and what it returns when it fails. */
#define STAND_BEFORE(type, name, parameters, arguments, failure)                                   \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
                                                                                                   \
        REAL(name);                                                                                \
        return refuses(#name) ? (failure) : real arguments;                                        \
    }

STAND_BEFORE(int, nanosleep, (const struct timespec *t, struct timespec *left), (t, left), -1)
STAND_BEFORE(ssize_t, getrandom, (void *to, size_t n, unsigned flags), (to, n, flags), -1)
STAND_BEFORE(int, stat, (const char *path, struct stat *st), (path, st), -1)
STAND_BEFORE(int, lstat, (const char *path, struct stat *st), (path, st), -1)
STAND_BEFORE(int, fstat, (int fd, struct stat *st), (fd, st), -1)
STAND_BEFORE(int, fstatat, (int at, const char *path, struct stat *st, int flags),
             (at, path, st, flags), -1)
STAND_BEFORE(int, fstatfs, (int fd, struct statfs *st), (fd, st), -1)
STAND_BEFORE(int, getrlimit, (__rlimit_resource_t what, struct rlimit *l), (what, l), -1)
STAND_BEFORE(ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), -1)
STAND_BEFORE(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at), -1)
STAND_BEFORE(int, ftruncate, (int fd, off_t size), (fd, size), -1)
STAND_BEFORE(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), -1)
STAND_BEFORE(int, fdatasync, (int fd), (fd), -1)
STAND_BEFORE(int, fsync, (int fd), (fd), -1)
STAND_BEFORE(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t off),
             (at, n, prot, flags, fd, off), MAP_FAILED)
STAND_BEFORE(int, madvise, (void *at, size_t n, int advice), (at, n, advice), -1)
STAND_BEFORE(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1)
STAND_BEFORE(int, flock, (int fd, int how), (fd, how), -1)
STAND_BEFORE(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
STAND_BEFORE(int, fchmod, (int fd, mode_t mode), (fd, mode), -1)
STAND_BEFORE(int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid), -1)
STAND_BEFORE(int, dup3, (int fd, int to, int flags), (fd, to, flags), -1)
STAND_BEFORE(int, rename, (const char *from, const char *to), (from, to), -1)
STAND_BEFORE(int, rmdir, (const char *path), (path), -1)
STAND_BEFORE(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), -1)
STAND_BEFORE(DIR *, opendir, (const char *path), (path), NULL)
STAND_BEFORE(DIR *, fdopendir, (int fd), (fd), NULL)
STAND_BEFORE(struct dirent *, readdir, (DIR * d), (d), NULL)
STAND_BEFORE(uid_t, geteuid, (void), (), 1)
STAND_BEFORE(void *, malloc, (size_t n), (n), NULL)
STAND_BEFORE(void *, calloc, (size_t n, size_t size), (n, size), NULL)
STAND_BEFORE(void *, realloc, (void *p, size_t n), (p, n), NULL)
STAND_BEFORE(char *, strdup, (const char *text), (text), NULL)
/* These tell by what they return. */
STAND_BEFORE(int, pthread_mutexattr_init, (pthread_mutexattr_t * a), (a), errno)
STAND_BEFORE(int, pthread_mutexattr_settype, (pthread_mutexattr_t * a, int type), (a, type), errno)
STAND_BEFORE(int, pthread_mutexattr_setpshared, (pthread_mutexattr_t * a, int v), (a, v), errno)
STAND_BEFORE(int, pthread_mutexattr_setrobust, (pthread_mutexattr_t * a, int v), (a, v), errno)
STAND_BEFORE(int, pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *a), (m, a),
             errno)
STAND_BEFORE(int, pthread_mutex_trylock, (pthread_mutex_t * m), (m), errno)
int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *dso);
STAND_BEFORE(int, __register_atfork,
             (void (*before)(void), void (*parent)(void), void (*child)(void), void *dso),
             (before, parent, child, dso), errno)
STAND_BEFORE(int, pthread_create,
             (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *arg),
             (t, a, f, arg), errno)

/* With a mode, or the argument of a command. */
int open(const char *path, int flags, ...)
{
    static int (*real)(const char *path, int flags, mode_t mode);
    va_list more;
    mode_t mode;

    va_start(more, flags);
    mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    REAL(open);
    return refuses("open") ? -1 : real(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    static int (*real)(int at, const char *path, int flags, mode_t mode);
    va_list more;
    mode_t mode;

    va_start(more, flags);
    mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    REAL(openat);
    return refuses("openat") ? -1 : real(at, path, flags, mode);
}

int fcntl(int fd, int command, ...)
{
    static int (*real)(int fd, int command, void *arg);
    va_list more;
    void *arg;

    va_start(more, command);
    arg = va_arg(more, void *);
    va_end(more);
    REAL(fcntl);
    return refuses("fcntl") ? -1 : real(fd, command, arg);
}

/* ---- a directory to work in ---- */

static char root[64], path[128];
static const kv_dir_options usual = {.create = 1, .mode = 0600};

static kv_dir *open_dir(const char *where)
{
    kv_dir *d = NULL;
    int made;

    if (!CHECK(kv_dir_open(where, &usual, &d, &made) == KV_OK))
        exit(check_done("test_os_refused"));
    return d;
}

static int open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static int count_name(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

/* The seam: the next call, whichever it is. */
static int interrupted_once(const char *call, const char *what)
{
    (void)call;
    (void)what;
    kv_test_syscall = NULL;
    return EINTR;
}

/* ---- clocks, chance, what the system is ---- */

static void surroundings(void)
{
    uint64_t random[2] = {0, 0};
    int64_t start = kv_os_monotonic();
    char boot[40], again[40];

    refuse("nanosleep", EINTR, 0, 2);
    kv_os_sleep(3);
    CHECK(refused() == 2 && kv_os_monotonic() - start >= 3000000);
    refuse("nanosleep", EINVAL, 0, 1);
    kv_os_sleep(100000);
    CHECK(refused() == 1);

    refuse("getrandom", EINTR, 0, 3);
    CHECK(kv_os_random(random, sizeof random) == KV_OK && refused() == 3);
    CHECK(random[0] != 0 && random[1] != 0);
    refuse("getrandom", ENOSYS, 0, 1);
    CHECK(kv_os_random(random, sizeof random) == KV_EIO && refused() == 1);

    kv_os_boot_id(boot);
    refuse("open", EINTR, 0, 1);
    kv_os_boot_id(again);
    CHECK(refused() == 1 && strcmp(boot, again) == 0);
    refuse("open", EACCES, 0, 1);
    kv_os_boot_id(again);
    CHECK(refused() == 1 && again[0] == '\0');

    CHECK(kv_os_pid_namespace() != 0);
    refuse("stat", EACCES, 0, 1);
    CHECK(kv_os_pid_namespace() == 0 && refused() == 1);
}

/* ---- one file ---- */

static int allocated(int fd, uint64_t n)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (uint64_t)st.st_size == n;
}

static void one_file(const char *where)
{
    static char bytes[8192];
    int in_memory = strcmp(where, ":memory:") == 0, fd;
    kv_dir *d = open_dir(where);
    uint64_t a, b;
    size_t got;
    void *map;

    CHECK(kv_file_open(d, "file", KV_FILE_CREATE, &fd) == KV_OK);
    refuse("fstat", EIO, 0, 1);
    CHECK(kv_file_size(fd, &a) == KV_EIO && refused() == 1);
    refuse("fstat", EIO, 0, 1);
    CHECK(kv_file_stat(fd, &a, &b) == KV_EIO && refused() == 1);

    /* Without its limits a process writes as it always did. */
    refuse("getrlimit", EPERM, 0, 9);
    CHECK(kv_file_write(fd, bytes, sizeof bytes, 0) == KV_OK && refused() > 0);
    refuse("pwrite", EINTR, 0, 2);
    CHECK(kv_file_write(fd, bytes, sizeof bytes, 0) == KV_OK && refused() == 2);
    refuse("pwrite", EDQUOT, 0, 1);
    CHECK(kv_file_write(fd, bytes, sizeof bytes, 0) == KV_EFULL && refused() == 1);
    refuse("pread", EINTR, 0, 2);
    CHECK(kv_file_read(fd, bytes, sizeof bytes, 0, &got) == KV_OK && got == sizeof bytes);
    CHECK(refused() == 2);
    refuse("pread", EIO, 0, 1);
    CHECK(kv_file_read(fd, bytes, sizeof bytes, 0, &got) == KV_EIO && refused() == 1);

    refuse("fdatasync", EIO, 0, 1);
    CHECK(kv_file_sync(fd) == KV_EIO && refused() == 1);
    refuse("fsync", EIO, 0, 1);
    CHECK(kv_file_sync_all(fd) == KV_EIO && refused() == 1);
    refuse("fcntl", EINTR, 0, 1);
    CHECK(kv_file_lock(fd, 0, 1, KV_RANGE_ALONE) == KV_OK && refused() == 1);
    refuse("fcntl", EACCES, 0, 1);
    CHECK(kv_file_lock(fd, 0, 1, KV_RANGE_ALONE) == KV_EBUSY && refused() == 1);
    refuse("fcntl", ENOLCK, 0, 1);
    CHECK(kv_file_lock(fd, 0, 1, KV_RANGE_ALONE) == KV_EIO && refused() == 1);

    refuse("mmap", ENODEV, 0, 1);
    CHECK(kv_file_map(fd, 0, KV_PAGE, 1, NULL, 0, &map) == KV_EIO && refused() == 1);
    CHECK(kv_file_map(fd, 0, KV_PAGE, 1, NULL, 0, &map) == KV_OK);
    *(char *)map = 'x';
    refuse("madvise", EINTR, 0, 1);
    CHECK(kv_map_punch(map, KV_PAGE) == KV_OK && refused() == 1 && *(char *)map == 0);
    *(char *)map = 'x';
    refuse("madvise", ENOSYS, 0, 1);
    CHECK(kv_map_punch(map, KV_PAGE) == KV_OK && refused() == 1 && *(char *)map == 0);
    *(char *)map = 'x';
    refuse("madvise", EOPNOTSUPP, 0, 1);
    CHECK(kv_map_punch(map, KV_PAGE) == KV_OK && refused() == 1 && *(char *)map == 0);
    *(char *)map = 'x';
    refuse("madvise", EPERM, 0, 1);
    CHECK(kv_map_punch(map, KV_PAGE) == KV_EDENIED && refused() == 1 && *(char *)map == 'x');
    kv_file_unmap(map, KV_PAGE);
    refuse("mmap", ENOMEM, 0, 1);
    CHECK(kv_map_reserve(KV_PAGE, &map) == KV_ENOMEM && refused() == 1);

    if (in_memory) {
        refuse("fstat", EIO, 0, 1);
        CHECK(kv_file_allocate(fd, 0, 3 * KV_PAGE) == KV_EIO && refused() == 1);
        refuse("ftruncate", ENOMEM, 0, 1);
        CHECK(kv_file_allocate(fd, 0, 3 * KV_PAGE) == KV_ENOMEM && refused() == 1);
        CHECK(kv_file_allocate(fd, 0, 3 * KV_PAGE) == KV_OK && allocated(fd, 3 * KV_PAGE));
    } else {
        /* Interrupted, it goes on in smaller pieces, of which the last is what is left. */
        refuse("fallocate", EINTR, 0, 3);
        CHECK(kv_file_allocate(fd, 0, 100001) == KV_OK && refused() == 3 && allocated(fd, 100001));
        refuse("fallocate", ENOSPC, 0, 1);
        CHECK(kv_file_allocate(fd, 0, 200000) == KV_EFULL && refused() == 1);
        refuse("fallocate", ENOSYS, 0, 1);
        CHECK(kv_file_allocate(fd, 0, 200000) == KV_OK && refused() == 1 && allocated(fd, 200000));
        refuse("fallocate", EOPNOTSUPP, 0, 1);
        CHECK(kv_file_allocate(fd, 0, 300000) == KV_OK && refused() == 1 && allocated(fd, 300000));
        /* Whether blocks are small is not known: taken for large ones. */
        refuse("fstat", EIO, 0, 1);
        CHECK(kv_file_allocate(fd, 0, KV_PAGE) == KV_OK && refused() == 1);
    }
    kv_file_close(fd);
    CHECK(kv_file_unlink(d, "file") == KV_OK);
    kv_dir_close(d);
}

/* Without fallocate, and without knowing how long the file is. */
static int no_fallocate(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "fallocate") == 0 ? EOPNOTSUPP : 0;
}

static void lengthening(void)
{
    kv_dir *d = open_dir(path);
    int fd;

    CHECK(kv_file_open(d, "file", KV_FILE_CREATE, &fd) == KV_OK);
    kv_test_syscall = no_fallocate;
    refuse("fstat", EIO, 0, 1);
    CHECK(kv_file_allocate(fd, 0, KV_PAGE) == KV_EIO && refused() == 1);
    refuse("pwrite", ENOSPC, 0, 1);
    CHECK(kv_file_allocate(fd, 0, KV_PAGE) == KV_EFULL && refused() == 1);
    kv_test_syscall = NULL;
    kv_file_close(fd);
    CHECK(kv_file_unlink(d, "file") == KV_OK);
    kv_dir_close(d);
}

/* ---- directories ---- */

static void opening_a_directory(void)
{
    char deep[160];
    kv_dir *d;
    int made;

    snprintf(deep, sizeof deep, "%s/deep", path);
    refuse("openat", EINTR, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_OK && refused() == 1 && !made);
    kv_dir_close(d);
    refuse("openat", EMFILE, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_EIO && refused() == 1);
    refuse("fstat", EIO, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_EIO && refused() == 1);
    refuse("fstatfs", EINTR, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_OK && refused() == 1);
    kv_dir_close(d);
    refuse("fstatfs", ENOSYS, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_EIO && refused() == 1);
    refuse("pthread_mutex_init", ENOMEM, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_ENOMEM && refused() == 1);

    /* One that is made: what cannot be synced or given away is no reason to fail. */
    refuse("mkdir", EACCES, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_EDENIED && refused() == 1);
    refuse("fchmod", EIO, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_EIO && refused() == 1);
    CHECK(rmdir(deep) == 0);
    refuse("fchmod", EPERM, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_OK && refused() == 1 && made);
    kv_dir_close(d);
    CHECK(rmdir(deep) == 0);
    refuse("fsync", EIO, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_EIO && refused() == 1);
    CHECK(rmdir(deep) == 0);
    /* The second descriptor: of root's one of the directory, to give it away, else of its parent.
     */
    refuse("openat", EACCES, 1, 2);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_OK && refused() == 2 && made);
    kv_dir_close(d);
    CHECK(rmdir(deep) == 0);
    refuse("fstatat", EACCES, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_OK && refused() == 1 && made);
    kv_dir_close(d);
    CHECK(rmdir(deep) == 0);
}

/* Who has it, as root sees it and as somebody else would. */
static void owners(void)
{
    char deep[160];
    struct stat st;
    kv_dir *d;
    int made, fd;

    snprintf(deep, sizeof deep, "%s/deep", path);
    /* Not root (number 1), and the directory another's. */
    refuse("geteuid", 0, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_EDENIED && refused() == 1);
    /* Not root: nothing to give away. */
    refuse("geteuid", 0, 1, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_OK && refused() == 1 && made);
    kv_dir_close(d);
    CHECK(rmdir(deep) == 0);
    if (geteuid() != 0)
        return;
    CHECK(mkdir(deep, 0750) == 0 && chown(deep, 1, 1) == 0);
    refuse("geteuid", 0, 0, 1);
    CHECK(kv_dir_open(deep, &usual, &d, &made) == KV_OK && refused() == 1 && !made);
    kv_dir_close(d);
    CHECK(chown(deep, 0, 1) == 0);
    d = open_dir(deep);
    CHECK(kv_file_open(d, "given", KV_FILE_CREATE, &fd) == KV_OK);
    CHECK(fstat(fd, &st) == 0 && st.st_gid == 1 && (st.st_mode & 0777) == 0640);
    kv_file_close(fd);
    refuse("fchown", EPERM, 0, 2);
    CHECK(kv_file_open(d, "kept", KV_FILE_CREATE, &fd) == KV_OK && refused() == 2);
    CHECK(fstat(fd, &st) == 0 && st.st_gid == getegid() && (st.st_mode & 0777) == 0640);
    kv_file_close(fd);
    refuse("fchmod", EIO, 0, 1);
    CHECK(kv_file_open(d, "failed", KV_FILE_CREATE, &fd) == KV_EIO && refused() == 1);
    CHECK(kv_file_open(d, "failed", KV_FILE_READ, &fd) == KV_ENOTFOUND);
    CHECK(kv_file_unlink(d, "given") == KV_OK && kv_file_unlink(d, "kept") == KV_OK);
    kv_dir_close(d);
    CHECK(rmdir(deep) == 0);
}

static int no_third_mkdir(const char *call, const char *what)
{
    static int n;

    (void)what;
    return strcmp(call, "mkdir") == 0 && ++n == 3 ? ENOSPC : 0;
}

/* The open calls that find the directory missing, while somebody else makes it or takes it away. */
static void made_meanwhile(void)
{
    char deep[160], deeper[200];
    kv_dir *d;
    int made;

    snprintf(deep, sizeof deep, "%s/deep", path);
    snprintf(deeper, sizeof deeper, "%s/deep/er", path);
    refuse("openat", ENOENT, 0, 1);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_OK && refused() == 1 && !made);
    kv_dir_close(d);
    refuse("openat", ENOENT, 0, 2);
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_ENOTFOUND && refused() == 2);
    refuse("mkdir", EACCES, 1, 1);
    CHECK(kv_dir_open(deeper, &usual, &d, &made) == KV_EDENIED && refused() == 1);
    refuse("mkdir", EACCES, 2, 1);
    CHECK(kv_dir_open(deeper, &usual, &d, &made) == KV_EDENIED && refused() == 1);
    CHECK(rmdir(deep) == 0);
    refuse("mkdir", EEXIST, 1, 1);
    CHECK(kv_dir_open(deeper, &usual, &d, &made) == KV_ENOTFOUND && refused() == 1);
    kv_test_syscall = no_third_mkdir;
    CHECK(kv_dir_open(deeper, &usual, &d, &made) == KV_EFULL);
    kv_test_syscall = NULL;
    CHECK(rmdir(deep) == 0);
    refuse("mkdir", ENOENT, 0, 1);
    CHECK(kv_dir_open("/kv-that-is-not-there", &usual, &d, &made) == KV_ENOTFOUND);
    CHECK(refused() == 1);
}

/* A file that is there when it is to be made, and gone when it is to be opened, for ever. */
static int coming_and_going(const char *call, const char *what)
{
    static int turn;

    if (strcmp(call, "open") != 0 || strstr(what, "/flickering") == NULL)
        return 0;
    return (turn ^= 1) ? EEXIST : ENOENT;
}

/* The directory's descriptor: the only one open on it. */
static int descriptor_of(const kv_dir *d)
{
    uint64_t id[2];
    struct stat st;
    int fd;

    kv_dir_identity(d, id);
    for (fd = 3; fd < 100; fd++)
        if (fstat(fd, &st) == 0 && st.st_dev == id[0] && st.st_ino == id[1])
            return fd;
    return -1;
}

/* A host that closed all descriptors and opened others: nothing is done to those, and the path
 * leads back if it is still the same directory. */
static void replaced_descriptor(void)
{
    char other[160];
    kv_dir *d = open_dir(path), *again;
    int fd, mine = descriptor_of(d), kept = dup(mine), n = 0, e, i;

    CHECK(mine >= 0 && kept >= 0);
    snprintf(other, sizeof other, "%s/other", path);
    CHECK(mkdir(other, 0700) == 0);
    for (i = 0; i < 2; i++) {
        /* On another device, and on the same. */
        fd = open(i == 0 ? "/proc/self" : other, O_RDONLY | O_DIRECTORY);
        CHECK(fd >= 0 && dup2(fd, mine) == mine);
        close(fd);
        CHECK(kv_dir_usable(d) == KV_EIO && kv_dir_list(d, count_name, &n) == KV_EIO && n == 0);
        CHECK(kv_dir_sync(d) == KV_EIO && kv_file_open(d, "a", KV_FILE_MAKE, &fd) == KV_EIO);
        CHECK(kv_file_unlink(d, "a") == KV_EIO && kv_file_rename(d, "a", "b") == KV_EIO);
        CHECK(!kv_dir_forked(d));
        CHECK(kv_dir_again(d, &again) == KV_OK);
        kv_dir_close(again);
    }
    refuse("openat", EINTR, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_OK && refused() == 1);
    kv_dir_close(again);
    refuse("openat", EMFILE, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_EIO && refused() == 1);
    kv_test_syscall = interrupted_once;
    CHECK(kv_dir_again(d, &again) == KV_OK && kv_test_syscall == NULL);
    kv_dir_close(again);
    CHECK(rmdir(other) == 0);
    snprintf(other, sizeof other, "%s.away", path);
    CHECK(rename(path, other) == 0 && mkdir(path, 0700) == 0);
    e = kv_dir_again(d, &again);
    CHECK(e == KV_ENOTFOUND);
    CHECK(rmdir(path) == 0 && rename(other, path) == 0);
    CHECK(dup2(kept, mine) == mine && kv_dir_usable(d) == KV_OK);
    close(kept);
    kv_dir_close(d);
}

static void names_in_a_directory(void)
{
    kv_dir *d = open_dir(path), *again;
    int fd, before, n = 0;

    before = open_files();
    refuse("openat", EINTR, 0, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_MAKE, &fd) == KV_OK && refused() == 1);
    kv_file_close(fd);
    refuse("openat", EINTR, 0, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_READ, &fd) == KV_OK && refused() == 1);
    kv_file_close(fd);
    /* There and then not there, each time anew. */
    refuse("openat", ENOENT, 0, 1000);
    CHECK(kv_file_open(d, "a", KV_FILE_MAKE, &fd) == KV_ENOTFOUND && refused() == 1);
    refuse("fstat", EIO, 1, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_READ, &fd) == KV_EIO && refused() == 1);
    refuse("fstat", EIO, 1, 1);
    CHECK(kv_file_open(d, "b", KV_FILE_CREATE, &fd) == KV_EIO && refused() == 1);
    CHECK(kv_file_open(d, "b", KV_FILE_READ, &fd) == KV_ENOTFOUND);
    refuse("unlinkat", EIO, 0, 1);
    CHECK(kv_file_unlink(d, "a") == KV_EIO && refused() == 1);

    refuse("openat", EINTR, 0, 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_OK && refused() == 1 && n == 1);
    refuse("openat", EMFILE, 0, 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_EIO && refused() == 1 && n == 1);
    refuse("fdopendir", ENOMEM, 0, 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_ENOMEM && refused() == 1 && n == 1);
    refuse("readdir", EIO, 0, 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_EIO && refused() == 1 && n == 1);

    refuse("fsync", EINVAL, 0, 1);
    CHECK(kv_dir_sync(d) == KV_OK && refused() == 1);
    refuse("fsync", EIO, 0, 1);
    CHECK(kv_dir_sync(d) == KV_EIO && refused() == 1);
    refuse("flock", EINTR, 0, 1);
    CHECK(kv_dir_hold(d, KV_RANGE_ALONE) == KV_OK && refused() == 1);
    refuse("flock", ENOLCK, 0, 1);
    CHECK(kv_dir_hold(d, KV_RANGE_FREE) == KV_EIO && refused() == 1);

    refuse("openat", EINTR, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_OK && refused() == 1);
    kv_dir_close(again);
    refuse("openat", EMFILE, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_EIO && refused() == 1);
    refuse("pthread_mutex_init", ENOMEM, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_ENOMEM && refused() == 1);
    refuse("strdup", ENOMEM, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_ENOMEM && refused() == 1);
    /* Its own descriptor is not to be known: by the path, as in a daemon's child. */
    refuse("fstat", EBADF, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_OK && refused() == 1);
    kv_dir_close(again);

    CHECK(kv_dir_forked(d));
    kv_test_syscall = interrupted_once;
    CHECK(kv_dir_forked(d) && kv_test_syscall == NULL);
    kv_test_syscall = interrupted_once;
    CHECK(kv_dir_again(d, &again) == KV_OK && kv_test_syscall == NULL);
    kv_dir_close(again);
    refuse("calloc", ENOMEM, 0, 1);
    CHECK(kv_dir_again(d, &again) == KV_ENOMEM && refused() == 1);
    refuse("openat", EINTR, 0, 1);
    CHECK(kv_dir_forked(d) && refused() == 1);
    refuse("openat", EMFILE, 0, 1);
    CHECK(!kv_dir_forked(d) && refused() == 1);
    refuse("dup3", EBUSY, 0, 1);
    CHECK(!kv_dir_forked(d) && refused() == 1);
    refuse("fstat", EBADF, 0, 1);
    CHECK(!kv_dir_forked(d) && refused() == 1);
    kv_test_syscall = coming_and_going;
    CHECK(kv_file_open(d, "flickering", KV_FILE_MAKE, &fd) == KV_ENOTFOUND);
    kv_test_syscall = NULL;
    CHECK(open_files() == before);
    CHECK(kv_file_unlink(d, "a") == KV_OK);
    kv_dir_close(d);
}

static void names_in_memory(void)
{
    kv_dir *d = open_dir(":memory:");
    int fd, before = open_files(), n = 0;

    refuse("memfd_create", EINVAL, 0, 1);
    CHECK(kv_file_open(d, "old kernel", KV_FILE_CREATE, &fd) == KV_OK && refused() == 1);
    kv_file_close(fd);
    CHECK(kv_file_unlink(d, "old kernel") == KV_OK);
    kv_test_syscall = interrupted_once;
    CHECK(kv_file_open(d, "old kernel", KV_FILE_MAKE, &fd) == KV_OK && kv_test_syscall == NULL);
    kv_file_close(fd);
    CHECK(kv_file_unlink(d, "old kernel") == KV_OK);
    refuse("memfd_create", EMFILE, 0, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_CREATE, &fd) == KV_EIO && refused() == 1);
    refuse("strdup", ENOMEM, 0, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_CREATE, &fd) == KV_ENOMEM && refused() == 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_OK && n == 0);
    /* Without /proc a duplicate does; and where that cannot be had either, the file stays. */
    refuse("openat", ENOENT, 0, 1);
    CHECK(kv_file_open(d, "a", KV_FILE_CREATE, &fd) == KV_OK && refused() == 1);
    kv_file_close(fd);
    CHECK(kv_file_open(d, "a", KV_FILE_READ, &fd) == KV_OK);
    kv_file_close(fd);
    refuse("openat fcntl", EMFILE, 0, 2);
    CHECK(kv_file_open(d, "a", KV_FILE_READ, &fd) == KV_EIO && refused() == 2);
    CHECK(!kv_dir_forked(d));
    refuse("realloc", ENOMEM, 0, 1);
    for (n = 0; n < 16 && refusal.made == 0; n++) {
        char name[24];

        snprintf(name, sizeof name, "more %d", n);
        if (kv_file_open(d, name, KV_FILE_CREATE, &fd) == KV_OK)
            kv_file_close(fd);
    }
    CHECK(refused() == 1 && n == 16);
    for (n = 0; n < 16; n++) {
        char name[24];

        snprintf(name, sizeof name, "more %d", n);
        CHECK(kv_file_unlink(d, name) == KV_OK);
    }
    refuse("malloc", ENOMEM, 0, 1);
    CHECK(kv_dir_list(d, count_name, &n) == KV_ENOMEM && refused() == 1);
    refuse("strdup", ENOMEM, 0, 1);
    CHECK(kv_file_rename(d, "a", "b") == KV_ENOMEM && refused() == 1);
    CHECK(kv_file_rename(d, "c", "b") == KV_ENOTFOUND);
    CHECK(kv_file_unlink(d, "a") == KV_OK && open_files() == before);
    kv_dir_close(d);
}

/* ---- directories of stores ---- */

static char aside[200];

static void note_aside(const char *name)
{
    snprintf(aside, sizeof aside, "%s", name);
}

static char long_aside[4600];

static void note_long_aside(const char *name)
{
    snprintf(long_aside, sizeof long_aside, "%s", name);
}

static int stop_at_first(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 7;
}

static void trees(void)
{
    static char name[9000];
    char store[160], file[200], here[4096];
    kv_dir *d;
    uint64_t id[2];
    int fd, n = 0;

    snprintf(store, sizeof store, "%s/store", path);
    snprintf(file, sizeof file, "%s/elsewhere", path);
    d = open_dir(store);
    CHECK(kv_file_open(d, "meta", KV_FILE_CREATE, &fd) == KV_OK);
    kv_file_close(fd);
    refuse("opendir", EINTR, 0, 1);
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_OK && refused() == 1 && n == 1);
    refuse("opendir", EACCES, 0, 1);
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_EDENIED && refused() == 1 && n == 1);
    refuse("readdir", EIO, 0, 1);
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_EIO && refused() == 1 && n == 1);
    refuse("fstatat", ENOENT, 0, 9);
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_OK && refused() > 0 && n == 1);
    refuse("lstat", EIO, 0, 1);
    CHECK(kv_tree_check(store, id) == KV_EIO && refused() == 1);
    CHECK(kv_tree_check("/proc/self/exe", id) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "symbolic link") != NULL);
    CHECK(kv_tree_check(file, id) == KV_ENOTFOUND);
    CHECK(kv_tree_still(d));
    refuse("stat", ENOENT, 0, 1);
    CHECK(!kv_tree_still(d) && refused() == 1);
    CHECK(rename(store, file) == 0 && mkdir(store, 0700) == 0);
    CHECK(!kv_tree_still(d));
    CHECK(rmdir(store) == 0 && rename(file, store) == 0);
    CHECK(kv_tree_still(d));
    /* A link to another device stands under the path. */
    CHECK(rename(store, file) == 0 && symlink("/proc", store) == 0);
    CHECK(!kv_tree_still(d));
    CHECK(unlink(store) == 0 && rename(file, store) == 0);
    /* What has the name, but is no file. */
    CHECK(kv_file_unlink(d, "meta") == KV_OK);
    kv_dir_close(d);
    snprintf(file, sizeof file, "%s/meta", store);
    CHECK(mkdir(file, 0700) == 0);
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_OK && n == 1);
    CHECK(rmdir(file) == 0);
    CHECK(kv_tree_list(path, ".", stop_at_first, &n) == KV_OK && n == 1);
    CHECK(close(open("/dev/null", O_RDONLY)) == 0);
    CHECK((fd = open(file, O_CREAT | O_RDWR, 0600)) >= 0 && close(fd) == 0);
    CHECK(kv_tree_list(path, "meta", stop_at_first, &n) == 7 && n == 2);
    CHECK(kv_tree_check(file, id) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "is a file") != NULL);
    CHECK(unlink(file) == 0);

    n = 1;
    kv_test_syscall = interrupted_once;
    CHECK(kv_tree_list(path, "meta", count_name, &n) == KV_OK && kv_test_syscall == NULL);
    kv_test_syscall = interrupted_once;
    CHECK(kv_tree_aside(store, note_aside) == KV_OK && kv_test_syscall == NULL);

    refuse("getrandom", EIO, 0, 1);
    CHECK(kv_tree_set_aside(store) == KV_EIO && refused() == 1);
    refuse("rename", EBUSY, 0, 1);
    CHECK(kv_tree_set_aside(store) == KV_EIO && refused() == 1);
    CHECK(kv_tree_check(store, id) == KV_OK);
    refuse("fsync", EIO, 0, 1);
    CHECK(kv_tree_set_aside(store) == KV_EIO && refused() == 1);
    refuse("opendir", EINTR, 0, 1);
    CHECK(kv_tree_aside(store, note_aside) == KV_OK && refused() == 1);
    CHECK(strstr(aside, KV_ASIDE) != NULL && rename(aside, store) == 0);
    refuse("opendir", EMFILE, 0, 1);
    CHECK(kv_tree_aside(store, note_aside) == KV_EIO && refused() == 1);
    /* A parent that may not be read cannot be synced. */
    refuse("open", EACCES, 0, 1);
    CHECK(kv_tree_set_aside(store) == KV_OK && refused() == 1);
    CHECK(kv_tree_aside(store, note_aside) == KV_OK && rename(aside, store) == 0);
    refuse("rmdir", EBUSY, 0, 1);
    CHECK(kv_tree_remove(store) == KV_EIO && refused() == 1);

    /* By a path as long as there are, whose beginning leads elsewhere; and a longer one. */
    CHECK(getcwd(here, sizeof here) != NULL && chdir(path) == 0);
    for (n = 0; n < 4000; n += 2)
        memcpy(name + n, "./", 2);
    snprintf(name + n, sizeof name - (size_t)n, "d/store");
    CHECK(mkdir("d", 0700) == 0 && rename("store", "d/store") == 0);
    CHECK(kv_tree_set_aside(name) == KV_OK);
    CHECK(kv_tree_aside(name, note_long_aside) == KV_OK);
    CHECK(strncmp(long_aside, name, 4002) == 0 && rename(long_aside, "store") == 0);
    CHECK(rmdir("d") == 0);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    CHECK(kv_tree_set_aside(name) == KV_EIO);

    /* By a name alone. */
    refuse("fsync", EINVAL, 0, 1);
    CHECK(kv_tree_set_aside("store") == KV_OK && refused() == 1);
    CHECK(kv_tree_aside("store", note_aside) == KV_OK);
    CHECK(kv_tree_remove(aside) == KV_OK && kv_tree_remove(aside) == KV_OK);
    CHECK(chdir(here) == 0);
}

/* ---- locks and threads ---- */

static void nothing(void *arg, kv_thread *t)
{
    (void)arg;
    /* Longer than there are days. */
    while (kv_thread_wait(t, INT64_MAX))
        ;
}

/* A process that forks before it has opened any store. */
static void forks(void)
{
    int status;
    pid_t child;

    kv_process_lock();
    kv_process_unlock();
    fflush(NULL);
    child = check_fork();
    if (child == 0) {
        kv_process_lock();
        kv_process_unlock();
        check_exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void locks_and_threads(void)
{
    static const char *const steps[] = {"pthread_mutexattr_init", "pthread_mutexattr_settype",
                                        "pthread_mutexattr_setpshared",
                                        "pthread_mutexattr_setrobust", "pthread_mutex_init"};
    kv_thread *t;
    kv_guard g;
    kv_lock l;
    size_t i;

    memset(&l, 0, sizeof l);
    for (i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        refuse(steps[i], ENOTSUP, 0, 1);
        CHECK(kv_lock_init(&l) == KV_EUNSUPPORTED && refused() == 1);
    }
    CHECK(kv_lock_init(&l) == KV_OK);
    refuse("pthread_mutex_trylock", EAGAIN, 0, 1);
    CHECK(kv_lock_take(&l, 0) == KV_EIO && refused() == 1);
    refuse("pthread_mutex_trylock", EAGAIN, 0, 1);
    CHECK(kv_lock_poll(&l, 0) == KV_EIO && refused() == 1);
    CHECK(kv_lock_take(&l, 0) == KV_OK);
    kv_lock_release(&l);

    /* Nothing is known of the dead where none can be had. */
    kv_process_lock();
    refuse("pthread_mutex_init", ENOTSUP, 0, 1);
    CHECK(kv_lock_proven() == KV_EUNSUPPORTED && refused() == 1);
    refuse("pthread_create", EAGAIN, 0, 1);
    CHECK(kv_lock_proven() == KV_OK && refused() == 1);
    refuse("pthread_mutex_trylock", EBUSY, 0, 1);
    CHECK(kv_lock_proven() == KV_EUNSUPPORTED && refused() == 1);
    CHECK(kv_lock_proven() == KV_OK && kv_lock_proven() == KV_OK);
    kv_process_unlock();

    refuse("pthread_mutex_init", ENOMEM, 0, 1);
    CHECK(kv_mutex_new() == NULL && refused() == 1);
    kv_mutex_free(NULL);
    refuse("mmap", ENOMEM, 0, 1);
    CHECK(kv_guard_init(&g) == KV_ENOMEM && refused() == 1);
    /* Where pages are not wiped, a handler of fork does it, if it can be had. */
    refuse("madvise __register_atfork", ENOMEM, 0, 2);
    CHECK(kv_guard_init(&g) == KV_ENOMEM && refused() == 2);
    refuse("madvise realloc", ENOMEM, 0, 2);
    CHECK(kv_guard_init(&g) == KV_ENOMEM && refused() == 2);
    refuse("madvise", EINVAL, 0, 1);
    CHECK(kv_guard_init(&g) == KV_OK && refused() == 1 && !kv_guard_forked(&g));
    kv_guard_free(&g);

    refuse("pthread_create", EAGAIN, 0, 1);
    CHECK(kv_thread_start(nothing, NULL, &t) != KV_OK && refused() == 1);
    refuse("calloc", ENOMEM, 0, 1);
    CHECK(kv_thread_start(nothing, NULL, &t) == KV_ENOMEM && refused() == 1);
    refuse("malloc", ENOMEM, 0, 1);
    CHECK(kv_mutex_new() == NULL && refused() == 1);
    kv_thread_stop(NULL);
    CHECK(kv_thread_start(nothing, NULL, &t) == KV_OK);
    kv_thread_stop(t);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    int before;

    snprintf(root, sizeof root, "%.40s/kv-refused-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root)) {
        perror(root);
        return 1;
    }
    snprintf(path, sizeof path, "%s/d", root);
    kv_dir_close(open_dir(path));
    before = open_files();
    surroundings();
    one_file(path);
    one_file(":memory:");
    lengthening();
    opening_a_directory();
    owners();
    made_meanwhile();
    replaced_descriptor();
    names_in_a_directory();
    names_in_memory();
    trees();
    forks();
    locks_and_threads();
    CHECK(open_files() == before);
    CHECK(rmdir(path) == 0 && rmdir(root) == 0);
    return check_done("test_os_refused");
}
