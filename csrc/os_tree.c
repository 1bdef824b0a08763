/* SPDX-License-Identifier: MIT
 *
 * os_tree.c - directories of stores seen from outside: which there are in one, and taking one away.
 *
 * No symbolic link is followed: what a link points to is somebody else's.
 */
#define _GNU_SOURCE
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4352 /* more than the kernel takes: a longer path is refused, never cut */

/* A directory with the file in it; neither is a link. */
static int has_file(int at, const char *name, const char *file)
{
    char path[600];
    struct stat st;

    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
        return 0;
    snprintf(path, sizeof path, "%s/%s", name, file);
    return fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

int kv_tree_list(const char *root, const char *file, int (*each)(void *arg, const char *name),
                 void *arg)
{
    const struct dirent *entry;
    DIR *stream = NULL;
    int e, r = KV_OK;

    KV_RETRY(e, kv_seam("getdents", root), !(stream = opendir(root)));
    if (e != 0)
        return kv_fail_errno(e, "list", root);
    while (r == KV_OK) {
        errno = 0;
        entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0)
                r = kv_fail_errno(errno, "list", root);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            has_file(dirfd(stream), entry->d_name, file))
            r = each(arg, entry->d_name);
    }
    closedir(stream);
    return r;
}

int kv_tree_check(const char *path, uint64_t id[2])
{
    struct stat st;
    int e;

    KV_CALL(e, kv_seam("lstat", path), lstat(path, &st) != 0);
    if (e != 0)
        return kv_fail_errno(e, "find", path);
    if (!S_ISDIR(st.st_mode))
        return kv_fail(KV_EUNSUPPORTED, "%.200s is %s, not a store", path,
                       S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
    id[0] = (uint64_t)st.st_dev;
    id[1] = (uint64_t)st.st_ino;
    return KV_OK;
}

int kv_tree_still(const kv_dir *d)
{
    uint64_t id[2];
    struct stat st;

    if (kv_dir_in_memory(d))
        return 1;
    kv_dir_identity(d, id);
    return stat(kv_dir_path(d), &st) == 0 && (uint64_t)st.st_dev == id[0] &&
           (uint64_t)st.st_ino == id[1];
}

/* The directory that path is in, or "." */
static void parent_of(const char *path, char out[PATH_SIZE])
{
    char *slash;

    snprintf(out, PATH_SIZE, "%s", path);
    slash = strrchr(out, '/');
    if (slash == NULL)
        snprintf(out, PATH_SIZE, ".");
    else
        slash[slash == out] = '\0';
}

int kv_tree_set_aside(const char *path)
{
    char parent[PATH_SIZE], to[PATH_SIZE + 40];
    uint64_t r;
    int e, fd;

    e = kv_os_random(&r, sizeof r);
    if (e != KV_OK)
        return e;
    parent_of(path, parent);
    snprintf(to, sizeof to, "%s/" KV_ASIDE "%016llx", parent, (unsigned long long)r);
    KV_CALL(e, kv_seam("rename", path), rename(path, to) != 0);
    if (e != 0)
        return kv_fail_errno(e, "rename", path);
    /* Else a power cut could bring the name back with half of its files. */
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return KV_OK;
    KV_CALL(e, kv_seam("fsync_dir", parent), fsync(fd) != 0);
    close(fd);
    return e == 0 || e == EINVAL ? KV_OK : kv_fail_errno(e, "sync", parent);
}

int kv_tree_remove(const char *path)
{
    int e;

    KV_CALL(e, kv_seam("rmdir", path), rmdir(path) != 0);
    return e == 0 || e == ENOENT ? KV_OK : kv_fail_errno(e, "remove", path);
}

int kv_tree_aside(const char *path, void (*each)(const char *aside))
{
    char parent[PATH_SIZE], found[PATH_SIZE + 256];
    const struct dirent *entry;
    DIR *stream = NULL;
    int e;

    parent_of(path, parent);
    KV_RETRY(e, kv_seam("getdents", parent), !(stream = opendir(parent)));
    if (e != 0)
        return kv_fail_errno(e, "list", parent);
    while ((entry = readdir(stream)) != NULL)
        if (strncmp(entry->d_name, KV_ASIDE, sizeof KV_ASIDE - 1) == 0) {
            snprintf(found, sizeof found, "%s/%s", parent, entry->d_name);
            each(found);
        }
    closedir(stream);
    return KV_OK;
}
