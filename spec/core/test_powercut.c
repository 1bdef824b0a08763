/* SPDX-License-Identifier: MIT
 *
 * test_powercut.c - the power fails at any moment, and the disk has kept any part of what was not
 * synced.
 *
 * The seam of the system calls tells when which file or the directory is synced; what lay in it
 * then is durable. An image of the disk is then made of: files whose sectors of 512 bytes are each
 * as they were at their last sync, as they are now, or in between; names made, removed or replaced
 * since the directory was synced, each there or not, of a file that was renamed also both or
 * neither; files whose size was never synced, empty. Cuts
 * come after operations, before system calls, and when one writer is in the middle of what another
 * does: in writing, cleaning, retiring, opening, creating and closing. Every image must open by
 * itself and be a prefix of the store's history that holds everything synced. Then life goes on
 * from such an image, with cuts of its own.
 *
 * SEED=n repeats a run; KV_ROUNDS=n: so many lives.
 */
#define _GNU_SOURCE
#include "lives.h"

#define SECTOR 512
#define FILES  64

/* ---- what the disk is certain to hold ---- */

typedef struct content {
    char *p;
    size_t size, cap;
} content;

typedef struct file {
    ino_t inode;
    content durable, middle, last;
    int synced; /* `durable` is something */
    int has_middle;
    int gone; /* no name leads there now; `last` is what it held */
} file;

typedef struct name {
    char text[32];
    ino_t inode;
} name;

static file disk[FILES];
static int files;
static name lasting[FILES], current[FILES]; /* names as of the directory's last sync, and now */
static int lastings, currents;

static void content_set(content *to, const char *p, size_t n)
{
    if (n > to->cap) {
        free(to->p);
        to->p = malloc(n);
        to->cap = n;
        if (!to->p)
            image_die("memory");
    }
    if (n)
        memcpy(to->p, p, n);
    to->size = n;
}

static void content_read(content *to, const char *path)
{
    static char bytes[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);

    if (n < 0 || n == (ssize_t)sizeof bytes)
        image_die("read");
    close(fd);
    content_set(to, bytes, (size_t)n);
}

/* The index and the lock say nothing after a power cut. */
static int matters(const char *text)
{
    return strncmp(text, "log.", 4) == 0 || strncmp(text, "blob.", 5) == 0 ||
           strncmp(text, "meta", 4) == 0;
}

static void path_of_name(char to[STATE_PATH + 40], const char *dir, const char *text)
{
    snprintf(to, STATE_PATH + 40, "%.150s/%.31s", dir, text);
}

static file *file_of(ino_t inode)
{
    int i;

    for (i = 0; i < files; i++)
        if (disk[i].inode == inode)
            return &disk[i];
    if (files == FILES) {
        /* Files that no name has ever led to again make room. */
        for (i = 0; i < files; i++) {
            int j, used = 0;

            for (j = 0; j < lastings; j++)
                used |= lasting[j].inode == disk[i].inode;
            if (disk[i].gone && !used)
                break;
        }
        if (i == files)
            image_die("too many files");
    } else {
        files++;
    }
    disk[i].inode = inode;
    disk[i].synced = disk[i].has_middle = disk[i].gone = 0;
    return &disk[i];
}

static void list_names(void)
{
    char full[STATE_PATH + 40];
    DIR *d = opendir(live);
    struct dirent *f;
    struct stat st;

    currents = 0;
    while (d && (f = readdir(d)) != NULL)
        if (matters(f->d_name)) {
            path_of_name(full, live, f->d_name);
            if (stat(full, &st) != 0)
                continue;
            if (currents == FILES)
                image_die("too many names");
            snprintf(current[currents].text, sizeof current[currents].text, "%.31s", f->d_name);
            current[currents++].inode = st.st_ino;
            file_of(st.st_ino)->gone = 0;
        }
    if (d)
        closedir(d);
}

static const name *find_name(const name *in, int n, const char *text)
{
    int i;

    for (i = 0; i < n; i++)
        if (strcmp(in[i].text, text) == 0)
            return &in[i];
    return NULL;
}

static void sync_file(const char *path)
{
    struct stat st;
    file *f;

    if (stat(path, &st) != 0)
        return;
    f = file_of(st.st_ino);
    content_read(&f->durable, path);
    f->synced = 1;
    f->has_middle = 0;
}

static void sync_names(void)
{
    list_names();
    memcpy(lasting, current, sizeof current);
    lastings = currents;
}

/* Of a segment about to be unlinked: nobody can read it under its name any more. */
static void note_last(const char *path)
{
    struct stat st;
    file *f;

    if (stat(path, &st) != 0)
        return;
    f = file_of(st.st_ino);
    content_read(&f->last, path);
    f->gone = 1;
}

/* All that lies on the disk when a life begins is durable. */
static void baseline(void)
{
    char full[STATE_PATH + 40];
    int i;

    files = lastings = 0;
    sync_names();
    for (i = 0; i < lastings; i++) {
        path_of_name(full, live, lasting[i].text);
        sync_file(full);
    }
}

/* ---- images ---- */

static uint64_t torn_files;

static uint64_t bytes_at(const char *p, size_t off)
{
    uint64_t word;

    memcpy(&word, p + off, sizeof word);
    return word;
}

static void write_sectors(int fd, const file *f, const content *now)
{
    static char bytes[1 << 18];
    uint64_t kind = image_below(8), keep = image_below(now->size / SECTOR + 1);
    size_t unit = image_below(2) ? SECTOR : KV_PAGE, off, n;
    size_t size = now->size;

    if (!f->synced && image_below(4) == 0)
        size = 0;
    for (off = 0; off < size; off += n) {
        const content *from = now;
        int dice;

        n = size - off < unit ? size - off : unit;
        dice = kind == 0   ? 0
               : kind == 1 ? 2
               : kind == 2 ? (off / SECTOR < keep ? 2 : 0)
               : kind == 3 ? (off / SECTOR < keep ? 0 : 2)
                           : (int)image_below(3);
        if (dice == 0)
            from = f->synced ? &f->durable : NULL;
        else if (dice == 1)
            from = f->has_middle ? &f->middle : f->synced ? &f->durable : NULL;
        memset(bytes + off, 0, n);
        if (from && off < from->size)
            memcpy(bytes + off, from->p + off, from->size - off < n ? from->size - off : n);
    }
    for (n = size; n >= 8 && n % 8 == 0 && !bytes_at(bytes, n - 8);)
        n -= 8; /* most of a segment is not written yet */
    if (ftruncate(fd, (off_t)size) != 0 || (n && pwrite(fd, bytes, n, 0) != (ssize_t)n))
        image_die("image");
}

static void make_file(const char *dir, const char *text, ino_t inode)
{
    static content now;
    char full[STATE_PATH + 40];
    const char *called = text;
    file *f = file_of(inode);
    int fd, i;

    if (f->gone) {
        content_set(&now, f->last.p, f->last.size);
    } else {
        for (i = 0; i < currents; i++) /* it may have another name by now */
            if (current[i].inode == inode)
                called = current[i].text;
        path_of_name(full, live, called);
        content_read(&now, full);
    }
    path_of_name(full, dir, text);
    fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        image_die("image");
    write_sectors(fd, f, &now);
    close(fd);
    if (!f->synced || now.size != f->durable.size ||
        (now.size && memcmp(now.p, f->durable.p, now.size) != 0))
        torn_files++;
}

/* The name leads to what it did when the directory was synced, or to what it does now. */
static void make_image(const char *dir)
{
    const name *n;
    int i;

    list_names();
    state_remove(dir);
    if (mkdir(dir, 0700) != 0)
        image_die("image");
    for (i = 0; i < currents; i++) {
        n = find_name(lasting, lastings, current[i].text);
        if (n && n->inode == current[i].inode)
            make_file(dir, n->text, n->inode);
        else if (image_below(2))
            make_file(dir, current[i].text, current[i].inode);
        else if (n)
            make_file(dir, n->text, n->inode);
    }
    for (i = 0; i < lastings; i++)
        if (!find_name(current, currents, lasting[i].text) && image_below(2))
            make_file(dir, lasting[i].text, lasting[i].inode);
}

static void cut_make(const cut *c)
{
    make_image(c->path);
}

static int cut_open(const cut *c, const kv_options *o, kv **h)
{
    return kv_open(c->path, o, h);
}

static void cut_drop(const cut *c)
{
    state_remove(c->path);
}

static void before_call(enum call call, const char *what)
{
    char full[STATE_PATH + 40];

    if (call == CALL_SYNC && matters(strrchr(what, '/') + 1))
        sync_file(what);
    else if (call == CALL_SYNC_NAMES)
        sync_names();
    else if (call == CALL_UNLINK && matters(strrchr(what, '/') + 1))
        note_last(what);
    else if (call == CALL_RENAME) { /* what had the name */
        path_of_name(full, live, "meta");
        note_last(full);
    }
}

/* Between the last sync and now: what a write of the kernel's own may have caught. */
static void note_middle(void)
{
    char full[STATE_PATH + 40];
    file *f;
    int i;

    list_names();
    for (i = 0; i < currents; i++)
        if (strncmp(current[i].text, "log.", 4) == 0 && image_below(3) == 0) {
            path_of_name(full, live, current[i].text);
            f = file_of(current[i].inode);
            content_read(&f->middle, full);
            f->has_middle = 1;
        }
}

/* ---- a life --------------------------------------------------------------------------- */

static int one_life(int number)
{
    char next[STATE_PATH];
    int early = (int)image_below(2), good;

    baseline();
    good = begin_life() && live_on(note_middle);
    if (!good)
        return 0;
    snprintf(next, sizeof next, "%.60s/life%d", state_base, number);
    if (early)
        make_image(next);
    good = end_life(!early);
    if (!early)
        make_image(next);
    state_remove(live);
    snprintf(live, sizeof live, "%s", next);
    return good;
}

/* ---- what is behind a cut is gone for good -------------------------------------------- */

static int put_short(kv_ns *ns, const char *key, const char *text)
{
    kv_value v = {0};

    v.type = KV_STRING;
    v.data = text;
    v.len = (uint32_t)strlen(text);
    return kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL);
}

/* The first of three records is damaged, and cut off with the two behind it. One of the same size
 * takes its place: the two must not follow it. */
static int old_tail(void)
{
    char full[STATE_PATH + 40], segment[32];
    uint64_t pos;
    kv_options o;
    kv_ns *ns;
    kv *h;
    int fd, good;

    snprintf(live, sizeof live, "%.60s/tail", state_base);
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    kv_test_clock_set(clock_ms);
    if (!CHECK(kv_open(live, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "main", 4, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    pos = kv_load(&h->s->log.w[KV_LOG_TAIL]);
    good = CHECK(put_short(ns, "k1", "first") == KV_OK) &&
           CHECK(put_short(ns, "k2", "second") == KV_OK) &&
           CHECK(put_short(ns, "k3", "third") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    snprintf(segment, sizeof segment, "log.%08x", (unsigned)kv_pos_id(pos));
    path_of_name(full, live, segment);
    fd = open(full, O_WRONLY | O_CLOEXEC);
    good = good && CHECK(pwrite(fd, "\xff\xff", 2, kv_pos_off(pos) + 26) == 2);
    close(fd);
    if (!good || !CHECK(kv_open(live, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "main", 4, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    good = CHECK(kv_report(h)[0] != 0) && CHECK(kv_exists(ns, "k1", 2) == KV_ENOTFOUND) &&
           CHECK(kv_exists(ns, "k2", 2) == KV_ENOTFOUND) &&
           CHECK(put_short(ns, "k1", "other") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    /* On the same boot the index would be believed; only a replay meets what is left. */
    snprintf(kv_test_boot, sizeof kv_test_boot, "another");
    if (!good || !CHECK(kv_open(live, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "main", 4, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    good = CHECK(kv_exists(ns, "k1", 2) == KV_OK) &&
           CHECK(kv_exists(ns, "k2", 2) == KV_ENOTFOUND) &&
           CHECK(kv_exists(ns, "k3", 2) == KV_ENOTFOUND) && CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    kv_test_boot[0] = 0;
    state_remove(live);
    return good;
}

/* ---- a sync that failed --------------------------------------------------------------- */

static int failing;

static int fail_sync(const char *call, const char *what)
{
    (void)what;
    return failing && (strcmp(call, "fdatasync") == 0 || strcmp(call, "fsync") == 0) ? EIO : 0;
}

/* The kernel may have dropped what it could not write and would say "fine" to the next sync:
 * nothing is taken for durable, and nothing written, until the store is opened again. */
static int failed_sync(void)
{
    kv_options o;
    kv_ns *ns;
    kv *h;
    int good;

    snprintf(live, sizeof live, "%.60s/broken", state_base);
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    if (!CHECK(kv_open(live, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "main", 4, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    kv_test_syscall = fail_sync;
    good = CHECK(put_short(ns, "k1", "text") == KV_OK);
    failing = 1;
    good = good && CHECK(kv_sync(h) == KV_EIO);
    failing = 0;
    good = good && CHECK(kv_sync(h) == KV_EIO) && CHECK(put_short(ns, "k2", "text") == KV_EIO) &&
           CHECK(kv_exists(ns, "k1", 2) == KV_OK) && CHECK(kv_exists(ns, "k2", 2) == KV_ENOTFOUND);
    kv_ns_close(ns);
    kv_close(h);
    kv_test_syscall = NULL;
    if (!good || !CHECK(kv_open(live, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "main", 4, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    good = CHECK(put_short(ns, "k2", "text") == KV_OK) && CHECK(kv_sync(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    state_remove(live);
    return good;
}

int main(void)
{
    int lives, i, good = 1;

    state_begin("test_powercut");
    lives = getenv("KV_ROUNDS") ? atoi(getenv("KV_ROUNDS"))
            : getenv("KV_LONG") ? 14000
                                : image_steps(150); /* some 70 images each */
    if (getenv("KV_SHORT")) {                       /* more lives of the same time */
        cut_odds = 4;
        cut_after = 3;
    }
    good = old_tail() && failed_sync();
    for (i = 0; i < lives && good; i++) {
        if (i % 15 == 0) {
            creating = 1;
            state_remove(live);
            snprintf(live, sizeof live, "%.60s/first%d", state_base, i);
            if (mkdir(live, 0700) != 0)
                image_die("mkdir");
        }
        good = one_life(i);
    }
    state_clear();
    printf("%llu images of %d lives, %llu files torn, %llu tails cut off, %llu operations in the "
           "middle of others\n",
           (unsigned long long)cuts, i, (unsigned long long)torn_files,
           (unsigned long long)cuts_reported, (unsigned long long)in_middle);
    return check_done("test_powercut");
}
