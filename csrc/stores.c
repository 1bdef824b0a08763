/* SPDX-License-Identifier: MIT
 *
 * stores.c - stores as a whole: which there are in a directory, and removing one.
 *
 * A store is removed in the openers' turn while nobody uses it, and an opener looks once more under
 * its path when it is its turn (kv_tree_still): whoever came first has won.
 */
#include "store.h"

#include <string.h>

/* ---- listing -------------------------------------------------------------------------- */

typedef struct list {
    char *at;
    size_t room, need;
} list;

static int add_name(void *arg, const char *name)
{
    list *l = arg;
    size_t n = strlen(name) + 1;

    if (l->need + n <= l->room)
        memcpy(l->at + l->need, name, n);
    l->need += n;
    return 0;
}

int kv_list_stores(const char *root, char *names, size_t *size)
{
    list l;
    int e;

    l.at = names;
    l.room = *size;
    l.need = 0;
    e = kv_tree_list(root, KV_META_NAME, add_name, &l);
    if (e != KV_OK)
        return e;
    *size = l.need;
    return l.need > l.room ? kv_fail(KV_ERANGE, "%zu bytes are needed", l.need) : KV_OK;
}

/* ---- removing ------------------------------------------------------------------------- */

static int is_ours(const char *name)
{
    uint64_t blob;
    uint32_t id;

    return strcmp(name, KV_META_NAME) == 0 || strcmp(name, KV_META_TEMP) == 0 ||
           strcmp(name, "lock") == 0 || strncmp(name, "index.", 6) == 0 ||
           kv_log_parse_name(name, &id) || kv_blob_parse_name(name, &blob) || kv_blob_is_part(name);
}

static int not_ours(void *arg, const char *name)
{
    (void)arg;
    return !is_ours(name);
}

static int unlink_ours(void *dir, const char *name)
{
    return is_ours(name) ? kv_file_unlink(dir, name) : 0;
}

static const kv_dir_options as_is = {0, 0600, 1, 0};

/* What cannot be removed now may be at the next time: the store itself is gone already. */
static void empty(const char *path)
{
    uint64_t id[2];
    kv_dir *dir;
    int made, tries;

    if (kv_tree_check(path, id) != KV_OK || kv_dir_open(path, &as_is, &dir, &made) != KV_OK)
        return;
    /* An opener who found the directory before it was renamed may still put a file into it, which
     * it then leaves. */
    for (tries = 0; tries < 3; tries++) {
        if (kv_dir_list(dir, unlink_ours, dir) == KV_OK && kv_tree_remove(path) == KV_OK)
            break;
    }
    kv_dir_close(dir);
}

/* That nobody uses it or opens it, until *fd and dir are closed. */
static int only_ours(kv_dir *dir, int *fd)
{
    int e = kv_file_open(dir, "lock", KV_FILE_MAKE, fd);

    if (e != KV_OK)
        return e;
    e = kv_file_lock(*fd, 0, 1, KV_RANGE_ALONE);
    if (e == KV_OK)
        e = kv_dir_hold(dir, KV_RANGE_ALONE);
    return e == KV_EBUSY ? kv_fail(e, "%s is open", kv_dir_path(dir)) : e;
}

static int remove_dir(const char *path, kv_dir *dir)
{
    kv_meta meta;
    int fd = -1, e = kv_meta_read(dir, &meta);

    int there = e != KV_ENOTFOUND;

    /* A damaged one may go. */
    if (there && e != KV_OK && e != KV_ECORRUPT)
        return e;
    e = kv_dir_list(dir, not_ours, NULL);
    if (e > 0)
        e = kv_fail(KV_EUNSUPPORTED, "%s holds files that are no store's", path);
    else if (e == KV_OK && !there)
        e = kv_fail(KV_ENOTFOUND, "no store is at %s", path);
    if (e == KV_OK)
        e = only_ours(dir, &fd);
    if (e == KV_OK && !kv_tree_still(dir))
        e = kv_fail(KV_ENOTFOUND, "%s was removed meanwhile", path);
    if (e == KV_OK)
        e = kv_tree_set_aside(path);
    if (e == KV_OK)
        (void)kv_tree_aside(path, empty);
    (void)kv_dir_hold(dir, KV_RANGE_FREE);
    if (fd >= 0)
        kv_file_close(fd);
    return e;
}

int kv_remove_store(const char *path)
{
    uint64_t id[2], found[2];
    kv_dir *dir;
    int made, e;

    if (path == NULL || path[0] == 0 || strcmp(path, ":memory:") == 0)
        return kv_fail(KV_EINVAL, "a path is needed");
    e = kv_dir_open(path, &as_is, &dir, &made);
    if (e != KV_OK)
        return e;
    kv_dir_identity(dir, found);
    e = kv_tree_check(kv_dir_path(dir), id);
    if (e == KV_OK && (found[0] != id[0] || found[1] != id[1]))
        e = kv_fail(KV_EBUSY, "%s is being exchanged", path);
    if (e == KV_OK)
        e = remove_dir(kv_dir_path(dir), dir);
    kv_dir_close(dir);
    return e;
}
