/* SPDX-License-Identifier: MIT
 *
 * os_dir.c - a store's directory: a real one, or names and memory files that behave like one.
 *
 * Whoever can write the directory can replace the store, so it is refused when strangers can; new
 * files follow its owner, group and mode, so that who may use it is said in one place.
 */
#define _GNU_SOURCE
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Linux 6.3: without it a system may refuse, or warn of, memory files that could be executed. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

#define READ_BITS  0444
#define RW_BITS    0666
#define OWNER_BITS 0600
#define FIRST_FD   3 /* 0 to 2 get written to by whoever believes them to be the terminal */
#define PATH_SIZE  4352

struct memory_file {
    char *name;
    int fd;
};

struct kv_dir {
    char *path;
    int fd; /* -1: in memory */
    int readonly;
    mode_t file_mode;
    int owned; /* uid and gid are to be given to new files */
    uid_t uid;
    gid_t gid;
    uint64_t id[2];
    pthread_mutex_t mutex; /* guards the three below, used only in memory */
    struct memory_file *files;
    size_t count, room;
};

/* ---- file systems ---- */

static const struct {
    uint32_t type;
    const char *name;
} refused[] = {
    {0x6969, "NFS"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"},     {0x517b, "SMB"},
    {0x65735546, "FUSE"},   {0x01021997, "9p"},   {0x6a656a63, "virtiofs"}, {0x00c36400, "Ceph"},
    {0x5346414f, "AFS"},    {0x6b414653, "AFS"},  {0x73757245, "Coda"},     {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"},   {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"},    {0x19830326, "BeeGFS"},
    {0x786f4256, "vboxsf"},
};

/* Mappings of these are not coherent between machines, or not at all, and locks do not cross. */
static int check_file_system(int fd, const char *path)
{
    struct statfs fs;
    int e;
    KV_RETRY(e, kv_seam("statfs", path), fstatfs(fd, &fs) != 0);
    if (e != 0)
        return kv_fail_errno(e, "find the file system of", path);
    uint32_t type = (uint32_t)fs.f_type;
#ifdef KV_TEST
    if (kv_test_fs)
        type = (uint32_t)kv_test_fs;
#endif
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (refused[i].type == type)
            return kv_fail(KV_EUNSUPPORTED,
                           "%.150s is on %s, where shared mappings are not safe (the option "
                           "unsafe_fs opens it all the same)",
                           path, refused[i].name);
    return KV_OK;
}

/* ---- descriptors ---- */

/* The same open file at 3 or above; -1 and errno when that fails, and then fd is closed. */
static int above_standard(int fd)
{
    if (fd < 0 || fd >= FIRST_FD)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    int e = errno;
    close(fd);
    errno = e;
    return high;
}

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    return above_standard(openat(at, path, flags | O_CLOEXEC | O_NOCTTY, mode));
}

/* Where name is, for messages and tests. */
static const char *path_in(const kv_dir *d, const char *name, char *buf)
{
    snprintf(buf, PATH_SIZE, "%s/%s", d->path, name);
    return buf;
}

static KV_NOINLINE int fail_at(int e, const char *call, const kv_dir *d, const char *name)
{
    char buf[PATH_SIZE];
    return kv_fail_errno(e, call, path_in(d, name, buf));
}

#ifdef KV_TEST
static int seam_at(const char *call, const kv_dir *d, const char *name)
{
    char buf[PATH_SIZE];
    return kv_test_syscall ? kv_seam(call, path_in(d, name, buf)) : 0;
}
#else
#define seam_at(call, d, name) ((void)(d), (void)(name), 0)
#endif

/* ---- a directory in memory ---- */

static int open_memory(kv_dir *d)
{
    static uint64_t made;
    d->fd = -1;
    /* No device has number 0, so this is nobody else's identity. */
    d->id[0] = 0;
    d->id[1] = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    return KV_OK;
}

/* Index of name, or count. Stores have tens of files: a table would gain nothing. */
static size_t memory_find(const kv_dir *d, const char *name)
{
    size_t i = 0;
    while (i < d->count && strcmp(d->files[i].name, name) != 0)
        i++;
    return i;
}

static void memory_remove(kv_dir *d, size_t i)
{
    free(d->files[i].name);
    close(d->files[i].fd);
    d->files[i] = d->files[--d->count];
}

/* Adds an empty file; nothing changes on failure. */
static int memory_add(kv_dir *d, const char *name)
{
    if (d->count == d->room) {
        size_t room = d->room ? d->room * 2 : 16;
        struct memory_file *files = realloc(d->files, room * sizeof *files);
        if (!files)
            return ENOMEM;
        d->files = files;
        d->room = room;
    }
    char *copy = strdup(name);
    if (!copy)
        return ENOMEM;
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fd = above_standard(fd);
    if (fd < 0) {
        int e = errno;
        free(copy);
        return e;
    }
    d->files[d->count].name = copy;
    d->files[d->count].fd = fd;
    d->count++;
    return 0;
}

static int memory_open_file(kv_dir *d, const char *name, int how, int *fd)
{
    int e;
    KV_RETRY(e, seam_at("open", d, name), 0);
    if (e != 0)
        return fail_at(e, "open", d, name);
    pthread_mutex_lock(&d->mutex);
    size_t i = memory_find(d, name);
    if (i < d->count) {
        e = how == KV_FILE_CREATE ? EEXIST : 0;
    } else if (how == KV_FILE_CREATE || how == KV_FILE_MAKE) {
        e = seam_at("memfd", d, name);
        if (e == 0)
            e = memory_add(d, name);
    } else {
        e = ENOENT;
    }
    if (e == 0) {
        /* Opened anew, so that each has locks of its own; without /proc they share them. */
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", d->files[i].fd);
        int copy = open_at(AT_FDCWD, link, how == KV_FILE_READ ? O_RDONLY : O_RDWR, 0);
        if (copy < 0)
            copy = fcntl(d->files[i].fd, F_DUPFD_CLOEXEC, FIRST_FD);
        if (copy < 0)
            e = errno;
        else
            *fd = copy;
    }
    pthread_mutex_unlock(&d->mutex);
    return e ? fail_at(e, "open", d, name) : KV_OK;
}

/* The names first: the callback may add and remove files. */
static int memory_list(kv_dir *d, int (*each)(void *arg, const char *name), void *arg)
{
    size_t size = 0, at = 0;
    pthread_mutex_lock(&d->mutex);
    for (size_t i = 0; i < d->count; i++)
        size += strlen(d->files[i].name) + 1;
    char *names = malloc(size + 1);
    for (size_t i = 0; names && i < d->count; i++) {
        size_t len = strlen(d->files[i].name) + 1;
        memcpy(names + at, d->files[i].name, len);
        at += len;
    }
    pthread_mutex_unlock(&d->mutex);
    if (!names)
        return fail_at(ENOMEM, "list", d, "");
    int r = KV_OK;
    for (at = 0; r == KV_OK && at < size; at += strlen(names + at) + 1)
        r = each(arg, names + at);
    free(names);
    return r;
}

/* ---- a real directory ---- */

/* EINVAL: a file system that has nothing to sync here. */
static int sync_directory(int fd, const char *path)
{
    int e;
    KV_CALL(e, kv_seam("fsync_dir", path), fsync(fd) != 0);
    return e == EINVAL ? 0 : e;
}

/* Makes a new name durable. A parent that may not be read cannot be synced; the directory itself
 * was made all the same. */
static int sync_parent(const char *path)
{
    char buf[PATH_SIZE];
    snprintf(buf, sizeof buf, "%s", path);
    char *slash = strrchr(buf, '/');
    if (!slash)
        snprintf(buf, sizeof buf, ".");
    else
        slash[slash == buf] = '\0';
    int fd = open_at(AT_FDCWD, buf, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return 0;
    int e = sync_directory(fd, buf);
    close(fd);
    return e;
}

/* What root makes belongs to whom its parent belongs to, as it would had that user made it: a
 * server that opens a store before it changes to that user finds it its own afterwards. */
static void inherit_owner(const char *path)
{
    struct stat st;
    int fd;

    if (geteuid() != 0 || (fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)) < 0)
        return;
    if (fstatat(fd, "..", &st, 0) == 0 && !(st.st_mode & S_IWOTH) && st.st_uid != 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
    close(fd);
}

/* mkdir -p. path is written to on the way and left as it was. EEXIST: it was there. */
static int make_path(char *path, mode_t mode)
{
    int e;
    KV_CALL(e, kv_seam("mkdir", path), mkdir(path, mode) != 0);
    char *slash = strrchr(path, '/');
    if (e == ENOENT && slash && slash != path) {
        *slash = '\0';
        e = make_path(path, 0777);
        *slash = '/';
        if (e == 0 || e == EEXIST)
            KV_CALL(e, kv_seam("mkdir", path), mkdir(path, mode) != 0);
    }
    if (e != 0)
        return e;
    inherit_owner(path);
    return sync_parent(path);
}

/* Without trailing and doubled slashes, so that the last name is behind the last slash. */
static char *tidy(const char *path)
{
    char *out = malloc(strlen(path) + 1);
    size_t n = 0;
    if (!out)
        return NULL;
    for (const char *p = path; *p; p++)
        if (*p != '/' || n == 0 || out[n - 1] != '/')
            out[n++] = *p;
    if (n > 1 && out[n - 1] == '/')
        n--;
    out[n] = '\0';
    return out;
}

/* The rights to search that go with rights to read. */
static mode_t directory_mode(mode_t files)
{
    return files | (files & READ_BITS) >> 2;
}

static int check_owner(const char *path, const struct stat *st, uid_t me)
{
    if ((st->st_mode & S_IWOTH) && !(st->st_mode & S_ISVTX))
        return kv_fail(KV_EDENIED, "%.200s is writable by everyone", path);
    if (me != 0 && st->st_uid != me)
        return kv_fail(KV_EDENIED, "%.200s belongs to another user", path);
    return KV_OK;
}

/* What new files get. A directory that was there says who may use the store; one open to everyone
 * (like /tmp) says nothing. */
static void follow_directory(kv_dir *d, const struct stat *st)
{
    if (!(st->st_mode & S_IWOTH))
        d->file_mode = (st->st_mode & RW_BITS) | OWNER_BITS;
}

static int open_directory(kv_dir *d, const kv_dir_options *o, int *made)
{
    struct stat st;
    uid_t me = geteuid();
    int e, flags = O_RDONLY | O_DIRECTORY;
    KV_RETRY(e, kv_seam("open", d->path), (d->fd = open_at(AT_FDCWD, d->path, flags, 0)) < 0);
    if (e == ENOENT && o->create && !o->readonly) {
        /* Less than asked for until the owner is known: a umask must not have the last word. */
        e = make_path(d->path, directory_mode(d->file_mode) & 0700);
        *made = e == 0;
        if (e == 0 || e == EEXIST)
            KV_RETRY(e, kv_seam("open", d->path),
                     (d->fd = open_at(AT_FDCWD, d->path, flags, 0)) < 0);
    }
    if (e == ENOTDIR)
        return kv_fail(KV_EUNSUPPORTED, "%.200s is not a directory, so it is not a store", d->path);
    if (e != 0)
        return kv_fail_errno(e, "open", d->path);

    KV_CALL(e, kv_seam("fstat", d->path), fstat(d->fd, &st) != 0);
    if (e != 0)
        return kv_fail_errno(e, "stat", d->path);
    int r = check_owner(d->path, &st, me);
    if (r == KV_OK && !o->unsafe_fs)
        r = check_file_system(d->fd, d->path);
    if (r != KV_OK)
        return r;
    d->id[0] = (uint64_t)st.st_dev;
    d->id[1] = (uint64_t)st.st_ino;
    d->uid = st.st_uid;
    d->gid = st.st_gid;
    d->owned = st.st_uid != me || st.st_gid != getegid();
    if (!*made)
        follow_directory(d, &st);
    else
        KV_CALL(e, kv_seam("fchmod", d->path), fchmod(d->fd, directory_mode(d->file_mode)) != 0);
    if (e != 0 && e != EPERM)
        return kv_fail_errno(e, "set the mode of", d->path);
    return KV_OK;
}

/* ---- public ---- */

static int is_ours(const kv_dir *d, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (uint64_t)st.st_dev == d->id[0] &&
           (uint64_t)st.st_ino == d->id[1];
}

int kv_dir_open(const char *path, const kv_dir_options *o, kv_dir **out, int *made)
{
    int created = 0;
    kv_dir *d = calloc(1, sizeof *d);
    char *name = tidy(path);
    if (!d || !name || pthread_mutex_init(&d->mutex, NULL) != 0) {
        free(d);
        free(name);
        return kv_fail(KV_ENOMEM, "out of memory");
    }
    d->path = name;
    d->fd = -1;
    d->readonly = o->readonly;
    d->file_mode = ((mode_t)o->mode & RW_BITS) | OWNER_BITS;
    int r;
    if (strcmp(path, ":memory:") == 0) {
        created = 1;
        r = open_memory(d);
    } else {
        r = open_directory(d, o, &created);
    }
    if (r != KV_OK) {
        kv_dir_close(d);
        return r;
    }
    *out = d;
    *made = created;
    return KV_OK;
}

void kv_dir_close(kv_dir *d)
{
    if (!d)
        return;
    while (d->count > 0)
        memory_remove(d, d->count - 1);
    /* Not what it has become since (kv_dir_usable); while opening it, nothing is known to compare.
     */
    if (d->fd >= 0 && (d->id[1] == 0 || is_ours(d, d->fd)))
        close(d->fd);
    pthread_mutex_destroy(&d->mutex);
    free(d->files);
    free(d->path);
    free(d);
}

const char *kv_dir_path(const kv_dir *d)
{
    return d->path;
}

int kv_dir_in_memory(const kv_dir *d)
{
    return d->fd < 0;
}

void kv_dir_identity(const kv_dir *d, uint64_t id[2])
{
    id[0] = d->id[0];
    id[1] = d->id[1];
}

int kv_dir_usable(const kv_dir *d)
{
    if (d->fd < 0 || is_ours(d, d->fd))
        return KV_OK;
    return kv_fail(KV_EIO, "%.200s: its files were closed by the program: open it again", d->path);
}

int kv_dir_forked(kv_dir *d)
{
    int fd = -1, e;

    if (d->fd < 0 || !is_ours(d, d->fd))
        return 0;
    KV_RETRY(e, kv_seam("open", d->path),
             (fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0);
    if (e != 0)
        return 0;
    /* In its place: streams and paths of the parent's go by the number. */
    e = dup3(fd, d->fd, O_CLOEXEC) < 0;
    close(fd);
    return !e;
}

int kv_dir_list(kv_dir *d, int (*each)(void *arg, const char *name), void *arg)
{
    if (d->fd < 0)
        return memory_list(d, each, arg);
    if (kv_dir_usable(d) != KV_OK)
        return KV_EIO;
    /* Opened anew: a duplicate would share its position with other lists. */
    int r = KV_OK, fd = -1, e;
    DIR *stream = NULL;
    KV_RETRY(e, kv_seam("getdents", d->path),
             (fd = open_at(d->fd, ".", O_RDONLY | O_DIRECTORY, 0)) < 0);
    if (e == 0)
        KV_CALL(e, kv_seam("fdopendir", d->path), !(stream = fdopendir(fd)));
    if (e != 0) {
        kv_file_close(fd);
        return kv_fail_errno(e, "list", d->path);
    }
    while (r == KV_OK) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno != 0)
                r = kv_fail_errno(errno, "list", d->path);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = each(arg, entry->d_name);
    }
    closedir(stream);
    return r;
}

int kv_dir_sync(kv_dir *d)
{
    if (d->fd < 0)
        return KV_OK;
    if (kv_dir_usable(d) != KV_OK)
        return KV_EIO;
    int e = sync_directory(d->fd, d->path);
    return e ? kv_fail_errno(e, "sync", d->path) : KV_OK;
}

/* Only a lock of its own on the directory tells who is there: `lock` may be missing, or be a copy.
 */
int kv_dir_hold(kv_dir *d, int how)
{
    static const int kind[] = {LOCK_UN, LOCK_SH, LOCK_EX};
    int e;
    if (d->fd < 0)
        return KV_OK;
    KV_RETRY(e, kv_seam("flock", d->path), flock(d->fd, kind[how] | LOCK_NB) != 0);
    if (e == EWOULDBLOCK)
        return kv_fail(KV_EBUSY, "%.200s is in use by another process", d->path);
    return e ? kv_fail_errno(e, "lock", d->path) : KV_OK;
}

int kv_dir_again(const kv_dir *d, kv_dir **out)
{
    kv_dir *copy = calloc(1, sizeof *copy);
    int e = 0;
    if (copy)
        *copy = *d;
    if (copy && (!(copy->path = strdup(d->path)) || pthread_mutex_init(&copy->mutex, NULL) != 0)) {
        free(copy->path);
        free(copy);
        copy = NULL;
    }
    if (!copy)
        return kv_fail(KV_ENOMEM, "out of memory");
    copy->files = NULL;
    copy->count = copy->room = 0;
    /* Not a duplicate: that would share the lock of kv_dir_hold. A daemon's child has closed what
     * it inherited, and goes by the path. */
    if (is_ours(d, d->fd))
        KV_RETRY(e, kv_seam("open", d->path),
                 (copy->fd = open_at(d->fd, ".", O_RDONLY | O_DIRECTORY, 0)) < 0);
    else
        KV_RETRY(e, kv_seam("open", d->path),
                 (copy->fd = open_at(AT_FDCWD, d->path, O_RDONLY | O_DIRECTORY, 0)) < 0);
    if (e == 0 && !is_ours(d, copy->fd)) {
        close(copy->fd);
        copy->fd = -1;
        kv_dir_close(copy);
        return kv_fail(KV_ENOTFOUND, "%.200s is another directory now", d->path);
    }
    if (e != 0) {
        copy->fd = -1;
        kv_dir_close(copy);
        return kv_fail_errno(e, "open", d->path);
    }
    *out = copy;
    return KV_OK;
}

/* Gives a new file the directory's owner, group and mode. What may not be given is no failure (nor
 * what a file system like FAT has not got): the file works for whoever made it. */
static int adopt(kv_dir *d, int fd, const struct stat *st)
{
    int e = 0;
    if (d->owned && fchown(fd, d->uid, d->gid) != 0)
        (void)!fchown(fd, (uid_t)-1, d->gid);
    if ((st->st_mode & 0777) != d->file_mode)
        KV_CALL(e, seam_at("fchmod", d, "."), fchmod(fd, d->file_mode) != 0);
    return e == EPERM ? 0 : e;
}

/* Opens or makes the file, whichever `how` asks for; 0 or an errno. The two are told apart, since
 * only what was made gets the owner and mode. */
static int open_or_make(kv_dir *d, const char *name, int how, int *fd, int *made)
{
    /* O_NONBLOCK: a fifo that somebody put here must not stop us. */
    int flags = (how == KV_FILE_READ ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK;
    int e = 0;
    for (int tries = 0; tries < 100; tries++) {
        if (how == KV_FILE_CREATE || how == KV_FILE_MAKE) {
            KV_RETRY(e, seam_at("open", d, name),
                     (*fd = open_at(d->fd, name, flags | O_CREAT | O_EXCL, OWNER_BITS)) < 0);
            *made = e == 0;
            if (how == KV_FILE_CREATE || e != EEXIST)
                return e;
        }
        KV_RETRY(e, seam_at("open", d, name), (*fd = open_at(d->fd, name, flags, 0)) < 0);
        /* Removed between the two: make it again. */
        if (how != KV_FILE_MAKE || e != ENOENT)
            break;
    }
    return e;
}

int kv_file_open(kv_dir *d, const char *name, int how, int *fd)
{
    int f = -1, made = 0, e;
    struct stat st;
    kv_assert(!strchr(name, '/'));
    if (d->readonly && how != KV_FILE_READ)
        return kv_fail(KV_EREADONLY, "%.200s is open for reading only", d->path);
    if (d->fd < 0)
        return memory_open_file(d, name, how, fd);
    if (kv_dir_usable(d) != KV_OK)
        return KV_EIO;
    e = open_or_make(d, name, how, &f, &made);
    if (e == ELOOP)
        return kv_fail(KV_EUNSUPPORTED, "%.150s/%.100s is a symbolic link", d->path, name);
    if (e == 0) {
        KV_CALL(e, seam_at("fstat", d, name), fstat(f, &st) != 0);
        if (e == 0 && !S_ISREG(st.st_mode)) {
            close(f);
            return kv_fail(KV_EUNSUPPORTED, "%.150s/%.100s is not a regular file", d->path, name);
        }
        if (e == 0 && made)
            e = adopt(d, f, &st);
        if (e != 0) {
            if (made)
                unlinkat(d->fd, name, 0);
            close(f);
        }
    }
    if (e != 0)
        return fail_at(e, "open", d, name);
    *fd = f;
    return KV_OK;
}

static void memory_unlink(kv_dir *d, const char *name)
{
    pthread_mutex_lock(&d->mutex);
    size_t i = memory_find(d, name);
    if (i < d->count)
        memory_remove(d, i);
    pthread_mutex_unlock(&d->mutex);
}

int kv_file_unlink(kv_dir *d, const char *name)
{
    int e;
    if (kv_dir_usable(d) != KV_OK)
        return KV_EIO;
    e = seam_at("unlink", d, name);
    if (e == 0) {
        if (d->fd < 0)
            memory_unlink(d, name);
        else if (unlinkat(d->fd, name, 0) != 0)
            e = errno;
    }
    return e && e != ENOENT ? fail_at(e, "unlink", d, name) : KV_OK;
}

static int memory_rename(kv_dir *d, const char *from, const char *to)
{
    int e = 0;
    pthread_mutex_lock(&d->mutex);
    char *copy = strdup(to);
    size_t i = memory_find(d, from);
    if (!copy)
        e = ENOMEM;
    else if (i == d->count)
        e = ENOENT;
    if (e != 0) {
        free(copy);
    } else {
        free(d->files[i].name);
        d->files[i].name = copy;
        for (size_t j = d->count; j-- > 0;)
            if (j != i && strcmp(d->files[j].name, to) == 0) {
                memory_remove(d, j);
                break;
            }
    }
    pthread_mutex_unlock(&d->mutex);
    return e;
}

int kv_file_rename(kv_dir *d, const char *from, const char *to)
{
    int e;
    if (kv_dir_usable(d) != KV_OK)
        return KV_EIO;
    e = seam_at("rename", d, from);
    if (e == 0) {
        if (d->fd < 0)
            e = memory_rename(d, from, to);
        else if (renameat(d->fd, from, d->fd, to) != 0)
            e = errno;
    }
    return e ? fail_at(e, "rename", d, from) : KV_OK;
}
