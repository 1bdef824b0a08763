/* SPDX-License-Identifier: MIT
 *
 * test_os.c - the platform layer: real and memory directories must behave alike, and every failure
 * of the system must come out as its code.
 *
 * What needs another user or a mount runs in a child process, and is left out where that is not
 * permitted.
 */
#define _GNU_SOURCE
#include "os.h"
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static char root[64];

static const kv_dir_options usual = {.create = 1, .mode = 0600};

/* ---- help ---- */

/* "<root>/<name>", in one of a few buffers, so that a call can take several. */
static const char *at(const char *name)
{
    static char buf[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(buf[turn], sizeof buf[0], "%s/%s", root, name);
    return buf[turn];
}

/* Runs f in a child; its failed checks count here, or the status it died with is returned. */
static int in_child(int (*f)(void *), void *arg)
{
    int status = -1;
    fflush(NULL);
    pid_t pid = check_fork();
    if (pid == 0) {
        int before = check_failures;
        int r = f(arg);
        check_exit(check_failures != before ? 99 : r);
    }
    if (!CHECK(pid > 0))
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    CHECK(status != 99);
    return status;
}

/* ---- the seam: the n-th call named so fails ---- */

static const char *fail_name;
static int fail_error;
static int fail_after;
static char fail_what[512];

static int fail_call(const char *call, const char *what)
{
    if (strcmp(call, fail_name) != 0 || fail_after-- != 0)
        return 0;
    snprintf(fail_what, sizeof fail_what, "%s", what);
    return fail_error;
}

static void fail_next(const char *call, int e)
{
    fail_name = call;
    fail_error = e;
    fail_after = 0;
    fail_what[0] = '\0';
    kv_test_syscall = fail_call;
}

/* Off again; 1 when the call was made at all. */
static int failed(void)
{
    kv_test_syscall = NULL;
    return fail_after < 0;
}

/* ---- words ---- */

static void words(void)
{
    char longer[1000];
    CHECK(strcmp(kv_errname(KV_OK), "ok") == 0);
    CHECK(strcmp(kv_errname(KV_ETOOBIG), "too_big") == 0);
    CHECK(strcmp(kv_errname(KV_EBUSY), "busy") == 0);
    CHECK(strcmp(kv_errname(KV_ENOTFOUND), "not_found") == 0);
    CHECK(strcmp(kv_errname(KV_ENOTNUMBER), "not_a_number") == 0);
    CHECK(strcmp(kv_errname(KV_ENOTOBJECT), "not_an_object") == 0);
    CHECK(strcmp(kv_errname(KV_EBADPATH), "bad_path") == 0);
    CHECK(strcmp(kv_errname(KV_ERANGE), "out_of_range") == 0);
    CHECK(strcmp(kv_errname(KV_EBADCURSOR), "bad_cursor") == 0);
    CHECK(strcmp(kv_errname(1), "unknown") == 0 && strcmp(kv_errname(-24), "unknown") == 0);
    CHECK(strcmp(kv_version(), KV_VERSION) == 0);

    CHECK(kv_fail(KV_ECORRUPT, "record %d of %s", 3, "log.1") == KV_ECORRUPT);
    CHECK(strcmp(kv_message(), "record 3 of log.1") == 0);
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    CHECK(kv_fail(KV_EIO, "%s", longer) == KV_EIO && strlen(kv_message()) == 319);

    static const struct {
        int e, code;
    } codes[] = {{ENOSPC, KV_EFULL},     {EDQUOT, KV_EFULL},   {EFBIG, KV_EFULL},
                 {EACCES, KV_EDENIED},   {EPERM, KV_EDENIED},  {EROFS, KV_EREADONLY},
                 {ENOENT, KV_ENOTFOUND}, {EEXIST, KV_EEXISTS}, {ENOMEM, KV_ENOMEM},
                 {EMFILE, KV_EIO},       {ENFILE, KV_EIO},     {EIO, KV_EIO},
                 {123456, KV_EIO}};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        CHECK(kv_fail_errno(codes[i].e, "open", "x") == codes[i].code);
    kv_fail_errno(EIO, "open", "/a/b");
    CHECK(strcmp(kv_message(), "cannot open /a/b: Input/output error") == 0);
    kv_fail_errno(EIO, "list", "");
    CHECK(strcmp(kv_message(), "cannot list: Input/output error") == 0);
    /* Of a long path the end is kept, and the cause with it. */
    memcpy(longer + 990, "/the.end", 9);
    kv_fail_errno(EIO, "open", longer);
    CHECK(strstr(kv_message(), "/the.end: Input/output error") != NULL);
}

/* ---- time and chance ---- */

static void clocks(void)
{
    int64_t real = kv_os_wall();
    CHECK(real > INT64_C(1700000000000));
    kv_test_clock(3600000);
    CHECK(kv_os_wall() >= real + 3600000 && kv_os_wall() < real + 3660000);
    kv_test_clock_set(12345);
    CHECK(kv_os_wall() == 12345);
    kv_test_clock(0);
    CHECK(kv_os_wall() == 12345);
    kv_test_clock_set(0);
    CHECK(kv_os_wall() >= real && kv_os_wall() < real + 60000);

    int64_t before = kv_os_monotonic();
    kv_os_sleep(20);
    int64_t took = kv_os_monotonic() - before;
    CHECK(took >= 20000000 && took < INT64_C(20000000000));
    kv_os_sleep(0);
    kv_os_sleep(-5);
}

static void chance(void)
{
    unsigned char a[300], b[300];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    CHECK(kv_os_random(a, sizeof a) == KV_OK && kv_os_random(b, sizeof b) == KV_OK);
    CHECK(memcmp(a, b, sizeof a) != 0 && memcmp(a + 100, a + 200, 100) != 0);
    CHECK(kv_os_random(a, 0) == KV_OK);
    fail_next("random", ENOSYS);
    CHECK(kv_os_random(a, 8) == KV_EIO && failed());
    fail_next("random", EINTR);
    CHECK(kv_os_random(a, 8) == KV_OK && failed());

    char id[40], again[40];
    kv_os_boot_id(id);
    kv_os_boot_id(again);
    CHECK(strlen(id) == 36 && strcmp(id, again) == 0);
    fail_next("pread", EIO);
    kv_os_boot_id(id);
    CHECK(failed() && id[0] == '\0');
    fail_next("boot_id", ENOENT);
    kv_os_boot_id(id);
    CHECK(failed() && id[0] == '\0');
}

/* ---- shared stores ---- */

static void store_bytes_sizes(void)
{
    char from[64], to[66];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (char)(i + 1);
    for (size_t n = 0; n <= sizeof from; n++) {
        memset(to, 0, sizeof to);
        int64_t before = kv_test_stores;
        kv_store_bytes(to + 1, from, n);
        CHECK(kv_test_stores == before + 3);
        CHECK(memcmp(to + 1, from, n) == 0 && to[0] == 0 && to[n + 1] == 0);
    }
    kv_store_bytes(NULL, NULL, 0);
}

static int stores_until_death(void *arg)
{
    uint64_t *shared = arg;
    char bytes[24];
    memset(bytes, 'x', sizeof bytes);
    kv_test_die_at = (int64_t)shared[0];
    kv_store(&shared[1], 1);
    kv_store_bytes(&shared[2], bytes, sizeof bytes);
    kv_store(&shared[5], 1);
    return 0;
}

static int deaths;
static void count_death(void)
{
    deaths++;
}

static void stores_that_die(void)
{
    uint64_t *s = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t full = UINT64_C(0x7878787878787878);
    /* What is there when the child died at store n: the store itself has not happened. */
    static const uint64_t shown[7][5] = {{1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}, {1, 0, 0, 0, 0},
                                         {1, 1, 0, 0, 0}, {1, 1, 1, 1, 0}, {1, 1, 1, 1, 0},
                                         {1, 1, 1, 1, 1}};
    if (!CHECK(s != MAP_FAILED))
        return;
    for (uint64_t n = 0; n <= 6; n++) {
        memset(s, 0, 64);
        s[0] = n;
        CHECK(in_child(stores_until_death, s) == (n >= 1 && n <= 5 ? 77 : 0));
        CHECK(s[1] == shown[n][0] && s[5] == shown[n][4]);
        for (int i = 1; i <= 3; i++)
            CHECK(s[1 + i] == (shown[n][i] ? full : 0));
    }
    kv_test_die = count_death;
    kv_test_die_at = 2;
    for (int i = 0; i < 5; i++)
        kv_store(s, 1);
    CHECK(deaths == 1 && kv_test_die_at == 0);
    kv_test_die = NULL;
    munmap(s, KV_PAGE);
}

/* ---- files, in both kinds of directory ---- */

struct names {
    kv_dir *d;
    int n, stop_at, remove;
    char seen[16][32];
};

static int note_name(void *arg, const char *name)
{
    struct names *l = arg;
    if (l->n < 16)
        snprintf(l->seen[l->n], sizeof l->seen[0], "%s", name);
    l->n++;
    if (l->remove)
        CHECK(kv_file_unlink(l->d, name) == KV_OK);
    return l->n == l->stop_at ? 42 : 0;
}

static int is_listed(kv_dir *d, const char *name)
{
    struct names l = {.d = d};
    CHECK(kv_dir_list(d, note_name, &l) == KV_OK);
    for (int i = 0; i < l.n && i < 16; i++)
        if (strcmp(l.seen[i], name) == 0)
            return 1;
    return 0;
}

static void opening(kv_dir *d)
{
    int fd = -7, fd2 = -7;
    uint64_t a[2], b[2];
    CHECK(kv_file_open(d, "one", KV_FILE_READ, &fd) == KV_ENOTFOUND && fd == -7);
    CHECK(strstr(kv_message(), "/one") != NULL);
    CHECK(kv_file_open(d, "one", KV_FILE_WRITE, &fd) == KV_ENOTFOUND && fd == -7);
    CHECK(kv_file_open(d, "one", KV_FILE_CREATE, &fd) == KV_OK && fd >= 3);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(kv_file_open(d, "one", KV_FILE_CREATE, &fd2) == KV_EEXISTS && fd2 == -7);
    CHECK(kv_file_open(d, "one", KV_FILE_MAKE, &fd2) == KV_OK);
    CHECK(kv_file_stat(fd, &a[0], &a[1]) == KV_OK && kv_file_stat(fd2, &b[0], &b[1]) == KV_OK);
    CHECK(a[0] == b[0] && a[1] == b[1] && fd != fd2);
    kv_file_close(fd2);
    CHECK(kv_file_open(d, "two", KV_FILE_MAKE, &fd2) == KV_OK);
    CHECK(kv_file_stat(fd2, &b[0], &b[1]) == KV_OK && a[1] != b[1]);
    CHECK(fcntl(fd2, F_GETFD) == FD_CLOEXEC);
    kv_file_close(fd2);
    kv_file_close(fd);
    kv_file_close(-1);
    CHECK(kv_file_size(9999, &a[0]) == KV_EIO);
}

static void reading(kv_dir *d)
{
    int fd;
    char out[64];
    uint64_t size = 1;
    size_t got = 7;
    if (!CHECK(kv_file_open(d, "one", KV_FILE_WRITE, &fd) == KV_OK))
        return;
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 0);
    CHECK(kv_file_read(fd, out, sizeof out, 0, &got) == KV_OK && got == 0);
    CHECK(kv_file_write(fd, "hello, world", 12, 3) == KV_OK);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 15);
    CHECK(kv_file_read(fd, out, 5, 3, &got) == KV_OK && got == 5 && !memcmp(out, "hello", 5));
    CHECK(kv_file_read(fd, out, sizeof out, 10, &got) == KV_OK && got == 5);
    CHECK(memcmp(out, "world", 5) == 0);
    CHECK(kv_file_read(fd, out, sizeof out, 99, &got) == KV_OK && got == 0);
    CHECK(kv_file_write(fd, NULL, 0, 0) == KV_OK);
    CHECK(kv_file_sync(fd) == KV_OK && kv_file_sync_all(fd) == KV_OK);
    kv_file_close(fd);
    CHECK(kv_file_read(9999, out, 1, 0, &got) == KV_EIO && got == 0);
}

static uint64_t blocks(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static int all_zero(const unsigned char *p, size_t n)
{
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n == 0;
}

/* Memory needs no space ahead. */
static int backed(kv_dir *d, int fd, uint64_t n)
{
    return kv_dir_in_memory(d) || blocks(fd) >= n;
}

/* fallback: what is done where the file system cannot punch, or the host has locked its memory. */
static void mapping(kv_dir *d, int fallback)
{
    enum { SIZE = 1 << 20, HOLE = 256 << 10 };
    int fd;
    uint64_t size = 0;
    void *v;
    CHECK(kv_file_unlink(d, "map") == KV_OK);
    if (!CHECK(kv_file_open(d, "map", KV_FILE_CREATE, &fd) == KV_OK))
        return;
    CHECK(kv_file_allocate(fd, 0, SIZE) == KV_OK);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == SIZE && backed(d, fd, SIZE));
    CHECK(kv_file_allocate(fd, 0, SIZE / 2) == KV_OK);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == SIZE);

    CHECK(kv_file_map(fd, 0, SIZE, 1, NULL, 1, &v) == KV_OK);
    unsigned char *p = v;
    CHECK(kv_map_reserve(4 * SIZE, &v) == KV_OK);
    unsigned char *reserved = v;
    /* A second mapping, read-only, in the middle of the reserved range, longer than the file. */
    CHECK(kv_file_map(fd, 0, 2 * SIZE, 0, reserved + SIZE, 0, &v) == KV_OK);
    unsigned char *q = v;
    CHECK(q == reserved + SIZE);
    kv_map_populate(p, SIZE, 0);
    kv_map_populate(p, SIZE, 1);
    CHECK(all_zero(p, SIZE));
    memset(p, 0xa5, SIZE);
    CHECK(q[0] == 0xa5 && q[SIZE - 1] == 0xa5);
    CHECK(kv_file_allocate(fd, 0, 2 * SIZE) == KV_OK);
    CHECK(p[SIZE - 1] == 0xa5 && all_zero(q + SIZE, SIZE));

    if (fallback)
        fail_next("punch", EOPNOTSUPP);
    CHECK(kv_map_punch(p + KV_PAGE, HOLE) == KV_OK);
    CHECK(!fallback || failed());
    /* Before the reads: tmpfs gives a page to a hole that is read through a mapping. */
    CHECK(fallback || blocks(fd) <= 2 * SIZE - HOLE + KV_PAGE);
    CHECK(q[KV_PAGE - 1] == 0xa5 && all_zero(q + KV_PAGE, HOLE) && q[KV_PAGE + HOLE] == 0xa5);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 2 * SIZE);

    /* Unlinked: mappings live on. */
    CHECK(kv_file_unlink(d, "map") == KV_OK);
    CHECK(kv_file_sync(fd) == KV_OK);
    kv_file_close(fd);
    CHECK(q[0] == 0xa5);
    kv_file_unmap(p, SIZE);
    kv_file_unmap(reserved, 4 * SIZE);
    kv_file_unmap(NULL, 0);
}

/* A file system without fallocate gets zeros written, and keeps what was there. */
static void allocate_without(kv_dir *d)
{
    int fd;
    uint64_t size = 0;
    char out[8];
    size_t got = 0;
    CHECK(kv_file_open(d, "alloc", KV_FILE_CREATE, &fd) == KV_OK);
    CHECK(kv_file_write(fd, "keep", 4, 0) == KV_OK);
    fail_next("fallocate", EOPNOTSUPP);
    CHECK(kv_file_allocate(fd, 0, 300000) == KV_OK && failed());
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 300000 && backed(d, fd, 299000));
    CHECK(kv_file_read(fd, out, 8, 0, &got) == KV_OK && memcmp(out, "keep\0\0\0\0", 8) == 0);
    fail_next("fallocate", ENOSYS);
    CHECK(kv_file_allocate(fd, 300000, 1) == KV_OK && failed());
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 300001);
    fail_next("fallocate", EOPNOTSUPP);
    CHECK(kv_file_allocate(fd, 0, 5) == KV_OK && failed());
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 300001);
    CHECK(kv_file_allocate(fd, 300001, 0) == KV_OK);
    /* Interrupted: it goes on, in smaller pieces. */
    fail_next("fallocate", EINTR);
    CHECK(kv_file_allocate(fd, 0, 1 << 20) == KV_OK && failed());
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 1 << 20 && backed(d, fd, 1 << 20));
    kv_file_close(fd);
    CHECK(kv_file_unlink(d, "alloc") == KV_OK);
}

static void naming(kv_dir *d)
{
    int fd;
    char out[8] = "";
    size_t got;
    CHECK(kv_file_open(d, "from", KV_FILE_CREATE, &fd) == KV_OK);
    CHECK(kv_file_write(fd, "moved", 5, 0) == KV_OK);
    kv_file_close(fd);
    CHECK(kv_file_open(d, "to", KV_FILE_CREATE, &fd) == KV_OK);
    kv_file_close(fd);
    CHECK(kv_file_rename(d, "from", "to") == KV_OK);
    CHECK(!is_listed(d, "from") && is_listed(d, "to"));
    CHECK(kv_file_open(d, "to", KV_FILE_READ, &fd) == KV_OK);
    CHECK(kv_file_read(fd, out, 8, 0, &got) == KV_OK && got == 5 && !memcmp(out, "moved", 5));
    kv_file_close(fd);
    CHECK(kv_file_rename(d, "to", "to") == KV_OK && is_listed(d, "to"));
    CHECK(kv_file_rename(d, "nowhere", "to") == KV_ENOTFOUND && is_listed(d, "to"));
    CHECK(kv_file_unlink(d, "to") == KV_OK && !is_listed(d, "to"));
    CHECK(kv_file_unlink(d, "to") == KV_OK);
}

static void listing(kv_dir *d)
{
    int fd;
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "log.%d", i);
        CHECK(kv_file_open(d, name, KV_FILE_CREATE, &fd) == KV_OK);
        kv_file_close(fd);
    }
    struct names l = {.d = d, .stop_at = 3};
    CHECK(kv_dir_list(d, note_name, &l) == 42 && l.n == 3);
    l = (struct names){.d = d, .remove = 1};
    CHECK(kv_dir_list(d, note_name, &l) == KV_OK && l.n == 42);
    l = (struct names){.d = d};
    CHECK(kv_dir_list(d, note_name, &l) == KV_OK && l.n == 0);
    CHECK(kv_dir_sync(d) == KV_OK);
}

static void files(const char *path)
{
    kv_dir *d = NULL;
    int made = -1;
    if (!CHECK(kv_dir_open(path, &usual, &d, &made) == KV_OK))
        return;
    CHECK(made == 1 && strcmp(kv_dir_path(d), path) == 0);
    CHECK(kv_dir_in_memory(d) == (strcmp(path, ":memory:") == 0));
    opening(d);
    reading(d);
    mapping(d, 0);
    mapping(d, 1);
    allocate_without(d);
    naming(d);
    listing(d);
    kv_dir_close(d);
    kv_dir_close(NULL);
}

/* ---- directories ---- */

static mode_t mode_of(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

/* Opens, makes file `name` in it and closes; the code of the open, -100 for trouble with the file.
 */
static int make_in(const char *path, const kv_dir_options *o, const char *name, int *made)
{
    kv_dir *d;
    int fd, m = 0, r = kv_dir_open(path, o, &d, &m);
    if (made)
        *made = m;
    if (r != KV_OK)
        return r;
    if (name) {
        if (kv_file_open(d, name, KV_FILE_CREATE, &fd) == KV_OK)
            kv_file_close(fd);
        else
            r = -100;
    }
    kv_dir_close(d);
    return r;
}

static void making(void)
{
    kv_dir_options o = usual;
    kv_dir *d = NULL;
    int made = -1;
    o.create = 0;
    CHECK(kv_dir_open(at("new/a/b"), &o, &d, &made) == KV_ENOTFOUND && !d && made == -1);
    o.create = o.readonly = 1;
    CHECK(kv_dir_open(at("new/a/b"), &o, &d, &made) == KV_ENOTFOUND && !d);
    CHECK(make_in(at("new/a//b///"), &usual, NULL, &made) == KV_OK && made == 1);
    CHECK(mode_of(at("new/a/b")) == 0700);
    CHECK(make_in(at("new/a/b"), &usual, "x", &made) == KV_OK && made == 0);
    CHECK(kv_dir_open("", &usual, &d, &made) == KV_ENOTFOUND && !d);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(here >= 0 && chdir(root) == 0);
    CHECK(make_in("beside", &usual, "x", &made) == KV_OK && made &&
          mode_of(at("beside/x")) == 0600);
    CHECK(make_in("./beside/", &usual, NULL, &made) == KV_OK && !made);
    CHECK(make_in("/", &usual, NULL, &made) == (geteuid() == 0 ? KV_OK : KV_EDENIED) && !made);
    CHECK(fchdir(here) == 0 && close(here) == 0);

    /* Reading only: nothing is made, what is there can be read. */
    CHECK(kv_dir_open(at("new/a/b"), &o, &d, &made) == KV_OK);
    int fd;
    CHECK(kv_file_open(d, "y", KV_FILE_MAKE, &fd) == KV_EREADONLY);
    CHECK(kv_file_open(d, "x", KV_FILE_READ, &fd) == KV_OK);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    kv_file_close(fd);
    kv_dir_close(d);
}

static void identity(void)
{
    kv_dir *a, *b, *m, *n;
    int made;
    uint64_t ia[2], ib[2], im[2], in[2];
    CHECK(kv_dir_open(at("id"), &usual, &a, &made) == KV_OK);
    CHECK(kv_dir_open(at("id/../id/."), &usual, &b, &made) == KV_OK && !made);
    CHECK(kv_dir_open(":memory:", &usual, &m, &made) == KV_OK && made);
    CHECK(kv_dir_open(":memory:", &usual, &n, &made) == KV_OK && made);
    kv_dir_identity(a, ia);
    kv_dir_identity(b, ib);
    kv_dir_identity(m, im);
    kv_dir_identity(n, in);
    CHECK(ia[0] == ib[0] && ia[1] == ib[1]);
    CHECK(memcmp(ia, im, sizeof ia) != 0 && memcmp(im, in, sizeof im) != 0);
    kv_dir_close(a);
    kv_dir_close(b);
    kv_dir_close(m);
    kv_dir_close(n);
}

static void modes(void)
{
    static const struct {
        int asked;
        mode_t dir, file;
    } rows[] = {{0600, 0700, 0600}, {0640, 0750, 0640}, {0660, 0770, 0660},
                {0644, 0755, 0644}, {0, 0700, 0600},    {07777, 0777, 0666}};
    mode_t before = umask(077);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kv_dir_options o = {.create = 1, .mode = rows[i].asked};
        CHECK(make_in(at("mode"), &o, "f", NULL) == KV_OK);
        CHECK(mode_of(at("mode")) == rows[i].dir && mode_of(at("mode/f")) == rows[i].file);
        unlink(at("mode/f"));
        rmdir(at("mode"));
    }
    /* A directory that was there has the say, unless it is open to everyone. */
    CHECK(mkdir(at("mode"), 0700) == 0 && chmod(at("mode"), 0750) == 0);
    CHECK(make_in(at("mode"), &usual, "g", NULL) == KV_OK && mode_of(at("mode/g")) == 0640);
    CHECK(chmod(at("mode"), 01777) == 0);
    CHECK(make_in(at("mode"), &usual, "h", NULL) == KV_OK && mode_of(at("mode/h")) == 0600);
    CHECK(chmod(at("mode"), 0777) == 0);
    CHECK(make_in(at("mode"), &usual, "i", NULL) == KV_EDENIED);
    CHECK(strstr(kv_message(), "writable by everyone") != NULL);
    umask(before);
}

static void not_stores(void)
{
    kv_dir_options o = usual;
    CHECK(make_in(at("place"), &usual, "file", NULL) == KV_OK);
    CHECK(make_in(at("place/file"), &usual, NULL, NULL) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "not a directory") != NULL);
    CHECK(make_in(at("place/file/deeper"), &usual, NULL, NULL) == KV_EUNSUPPORTED);
    o.create = 0;
    CHECK(make_in(at("place/file"), &o, NULL, NULL) == KV_EUNSUPPORTED);

    kv_test_fs = 0x6969;
    CHECK(make_in(at("place"), &usual, NULL, NULL) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "NFS") && strstr(kv_message(), "unsafe_fs"));
    kv_test_fs = 0x65735546;
    CHECK(make_in(at("place"), &usual, NULL, NULL) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "FUSE") != NULL);
    kv_test_fs = INT64_C(0xff534d42);
    CHECK(make_in(at("place"), &usual, NULL, NULL) == KV_EUNSUPPORTED);
    o = usual;
    o.unsafe_fs = 1;
    CHECK(make_in(at("place"), &o, NULL, NULL) == KV_OK);
    kv_test_fs = 0;
    CHECK(make_in(at("place"), &usual, NULL, NULL) == KV_OK);
}

/* What is no regular file is not followed, not waited for and not used. */
static void strange_files(void)
{
    kv_dir *d;
    int fd, made;
    CHECK(make_in(at("strange"), &usual, "real", NULL) == KV_OK);
    CHECK(symlink("real", at("strange/link")) == 0 && symlink("no", at("strange/dangling")) == 0);
    CHECK(mkfifo(at("strange/fifo"), 0600) == 0 && mkdir(at("strange/dir"), 0700) == 0);
    CHECK(kv_dir_open(at("strange"), &usual, &d, &made) == KV_OK);
    CHECK(kv_file_open(d, "link", KV_FILE_READ, &fd) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "symbolic link") != NULL);
    CHECK(kv_file_open(d, "link", KV_FILE_MAKE, &fd) == KV_EUNSUPPORTED);
    CHECK(kv_file_open(d, "dangling", KV_FILE_MAKE, &fd) == KV_EUNSUPPORTED);
    CHECK(kv_file_open(d, "dangling", KV_FILE_CREATE, &fd) == KV_EEXISTS);
    CHECK(kv_file_open(d, "fifo", KV_FILE_READ, &fd) == KV_EUNSUPPORTED);
    CHECK(kv_file_open(d, "fifo", KV_FILE_MAKE, &fd) == KV_EUNSUPPORTED);
    CHECK(kv_file_open(d, "dir", KV_FILE_READ, &fd) == KV_EUNSUPPORTED);
    CHECK(kv_file_open(d, "dir", KV_FILE_WRITE, &fd) == KV_EIO);
    kv_dir_close(d);
}

/* The standard descriptors stay free: a stray message must not end up in a store. */
static int without_standard_files(void *arg)
{
    kv_dir *d;
    int fd, made;
    close(0);
    close(1);
    if (kv_dir_open(arg, &usual, &d, &made) != KV_OK)
        return 1;
    for (int i = 0; i < 4; i++) {
        const char name[] = {'f', (char)('0' + i), 0};
        if (kv_file_open(d, name, KV_FILE_CREATE, &fd) != KV_OK || fd < 3 ||
            fcntl(fd, F_GETFD) != FD_CLOEXEC)
            return 2;
    }
    int r = fcntl(0, F_GETFD) != -1 || fcntl(1, F_GETFD) != -1 ? 3 : 0;
    kv_dir_close(d);
    return r;
}

/* ---- other users ---- */

static int as_nobody(void *arg)
{
    (void)arg;
    if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return 1;
    CHECK(make_in(at("roots"), &usual, NULL, NULL) == KV_EDENIED);
    CHECK(strstr(kv_message(), "another user") != NULL);
    CHECK(make_in(at("sticky"), &usual, NULL, NULL) == KV_EDENIED);
    CHECK(make_in(at("closed"), &usual, NULL, NULL) == KV_EDENIED);
    CHECK(make_in(at("roots/below"), &usual, NULL, NULL) == KV_EDENIED);
    /* What root made in a directory of ours is ours. */
    kv_dir *d;
    int fd, made;
    CHECK(kv_dir_open(at("theirs"), &usual, &d, &made) == KV_OK && !made);
    CHECK(kv_file_open(d, "by_root", KV_FILE_WRITE, &fd) == KV_OK);
    kv_file_close(fd);
    CHECK(kv_file_open(d, "by_nobody", KV_FILE_CREATE, &fd) == KV_OK);
    kv_file_close(fd);
    kv_dir_close(d);
    return 0;
}

static void other_users(void)
{
    struct stat st;
    if (geteuid() != 0)
        return;
    CHECK(chmod(root, 0755) == 0);
    CHECK(mkdir(at("roots"), 0755) == 0 && mkdir(at("closed"), 0700) == 0);
    CHECK(mkdir(at("sticky"), 0755) == 0 && chmod(at("sticky"), 01777) == 0);
    CHECK(mkdir(at("theirs"), 0770) == 0 && chmod(at("theirs"), 0770) == 0);
    if (chown(at("theirs"), NOBODY, NOBODY) != 0)
        return;
    CHECK(make_in(at("theirs"), &usual, "by_root", NULL) == KV_OK);
    CHECK(stat(at("theirs/by_root"), &st) == 0);
    CHECK(st.st_uid == NOBODY && st.st_gid == NOBODY && (st.st_mode & 07777) == 0660);
    /* So is a store that root makes there, with all that lies between. */
    CHECK(make_in(at("theirs/below/store"), &usual, "by_root", NULL) == KV_OK);
    CHECK(stat(at("theirs/below"), &st) == 0 && st.st_uid == NOBODY && st.st_gid == NOBODY);
    CHECK(stat(at("theirs/below/store"), &st) == 0 && st.st_uid == NOBODY);
    CHECK(stat(at("theirs/below/store/by_root"), &st) == 0 && st.st_uid == NOBODY);
    /* What lies in a directory open to everyone is root's own. */
    CHECK(make_in(at("sticky/store"), &usual, "by_root", NULL) == KV_OK);
    CHECK(stat(at("sticky/store/by_root"), &st) == 0 && st.st_uid == 0);
    CHECK(in_child(as_nobody, NULL) == 0);
}

/* ---- space ---- */

/* Stores into what a failed allocate left would be a SIGBUS. */
static int on_a_full_disk(void *arg)
{
    kv_dir *d;
    int fd, fd2, made;
    void *p;
    (void)arg;
    mkdir(at("small"), 0700);
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", at("small"), "tmpfs", 0, "size=1m,mode=700") != 0)
        return 50;
    CHECK(kv_dir_open(at("small/s"), &usual, &d, &made) == KV_OK);
    CHECK(kv_file_open(d, "a", KV_FILE_CREATE, &fd) == KV_OK);
    CHECK(kv_file_allocate(fd, 0, 768 << 10) == KV_OK);
    CHECK(kv_file_open(d, "b", KV_FILE_CREATE, &fd2) == KV_OK);
    CHECK(kv_file_allocate(fd2, 0, 512 << 10) == KV_EFULL);
    CHECK(strstr(kv_message(), "/b: ") && strstr(kv_message(), "No space"));
    fail_next("fallocate", EOPNOTSUPP);
    CHECK(kv_file_allocate(fd2, 0, 512 << 10) == KV_EFULL && failed());
    CHECK(kv_file_map(fd, 0, 768 << 10, 1, NULL, 0, &p) == KV_OK);
    memset(p, 1, 768 << 10);
    CHECK(kv_map_punch(p, 768 << 10) == KV_OK);
    CHECK(kv_file_allocate(fd2, 0, 512 << 10) == KV_OK);
    kv_dir_close(d);
    return 0;
}

/* The limit is a code, not a signal that ends the program. */
static int over_the_limit(void *arg)
{
    kv_dir *d;
    int fd, made;
    uint64_t size;
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};
    CHECK(kv_dir_open(arg, &usual, &d, &made) == KV_OK);
    CHECK(kv_file_open(d, "limited", KV_FILE_MAKE, &fd) == KV_OK);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(kv_file_allocate(fd, 0, 100001) == KV_EFULL);
    CHECK(kv_file_write(fd, "xy", 2, 99999) == KV_EFULL);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == 0);
    CHECK(kv_file_allocate(fd, 0, 100000) == KV_OK);
    CHECK(kv_file_write(fd, "xy", 2, 99998) == KV_OK);
    kv_file_close(fd);
    kv_dir_close(d);
    return 0;
}

static void no_handler(int sig)
{
    (void)sig;
}

/* Under a profiler's timer, where tmpfs (of older kernels) starts over each time. */
static int interrupted(void *arg)
{
    enum { SIZE = 48 << 20 };
    struct itimerval often = {.it_interval = {.tv_usec = 2000}, .it_value = {.tv_usec = 2000}};
    struct sigaction sa = {.sa_handler = no_handler};
    kv_dir *d;
    int fd, made;
    uint64_t size;
    (void)arg;
    sigaction(SIGALRM, &sa, NULL);
    CHECK(kv_dir_open(":memory:", &usual, &d, &made) == KV_OK);
    CHECK(kv_file_open(d, "x", KV_FILE_CREATE, &fd) == KV_OK);
    setitimer(ITIMER_REAL, &often, NULL);
    CHECK(kv_file_allocate(fd, 0, SIZE) == KV_OK);
    int64_t before = kv_os_monotonic();
    kv_os_sleep(50);
    CHECK(kv_os_monotonic() - before >= 50000000);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0}}, NULL);
    CHECK(kv_file_size(fd, &size) == KV_OK && size == SIZE);
    kv_file_close(fd);
    kv_dir_close(d);
    return 0;
}

/* ---- file locks ---- */

static int lock_is_busy(void *arg)
{
    kv_dir *d;
    int fd, made;
    if (kv_dir_open(arg, &usual, &d, &made) != KV_OK ||
        kv_file_open(d, "lock", KV_FILE_MAKE, &fd) != KV_OK)
        return 1;
    int r = kv_file_lock(fd, 0, 0, KV_RANGE_ALONE);
    kv_file_close(fd);
    kv_dir_close(d);
    return r == KV_OK ? 2 : r == KV_EBUSY ? 0 : 3;
}

static void file_locks(void)
{
    kv_dir *d;
    int a, b, c, made;
    char path[64];
    snprintf(path, sizeof path, "%s", at("locks"));
    CHECK(kv_dir_open(path, &usual, &d, &made) == KV_OK);
    CHECK(kv_file_open(d, "lock", KV_FILE_MAKE, &a) == KV_OK);
    CHECK(kv_file_open(d, "lock", KV_FILE_MAKE, &b) == KV_OK);
    CHECK(kv_file_lock(a, 0, 0, KV_RANGE_ALONE) == KV_OK);
    CHECK(kv_file_lock(a, 0, 0, KV_RANGE_ALONE) == KV_OK);
    CHECK(kv_file_lock(b, 0, 0, KV_RANGE_ALONE) == KV_EBUSY &&
          strstr(kv_message(), "/locks/lock is locked"));
    CHECK(in_child(lock_is_busy, path) == 0);
    /* Another descriptor of the file closing does not take it away. */
    CHECK(kv_file_open(d, "lock", KV_FILE_READ, &c) == KV_OK);
    kv_file_close(c);
    CHECK(in_child(lock_is_busy, path) == 0);
    kv_file_close(a);
    CHECK(kv_file_lock(b, 0, 0, KV_RANGE_ALONE) == KV_OK);
    kv_file_close(b);
    CHECK(in_child(lock_is_busy, path) == 2);
    kv_dir_close(d);
}

/* ---- every call failing ---- */

/* Runs everything once; the code of the first thing that failed. */
static int everything(const char *path)
{
    kv_dir *d = NULL;
    int fd = -1, made, r = kv_dir_open(path, &usual, &d, &made);
    uint64_t size;
    size_t got;
    char byte;
    void *p = NULL;
    if (r != KV_OK)
        return r;
    r = kv_file_open(d, "a", KV_FILE_MAKE, &fd);
    if (r == KV_OK)
        r = kv_file_allocate(fd, 0, KV_PAGE);
    if (r == KV_OK)
        r = kv_file_size(fd, &size);
    if (r == KV_OK)
        r = kv_file_write(fd, "x", 1, 0);
    if (r == KV_OK)
        r = kv_file_read(fd, &byte, 1, 0, &got);
    if (r == KV_OK)
        r = kv_file_lock(fd, 0, 0, KV_RANGE_ALONE);
    if (r == KV_OK)
        r = kv_file_map(fd, 0, KV_PAGE, 1, NULL, 0, &p);
    if (r == KV_OK)
        r = kv_file_sync(fd);
    if (r == KV_OK)
        r = kv_file_sync_all(fd);
    if (r == KV_OK)
        r = kv_map_punch(p, KV_PAGE);
    if (r == KV_OK)
        r = kv_file_rename(d, "a", "b");
    if (r == KV_OK)
        r = kv_dir_sync(d);
    if (r == KV_OK)
        r = kv_dir_list(d, note_name, &(struct names){.d = d});
    if (r == KV_OK)
        r = kv_file_unlink(d, "b");
    kv_file_unmap(p, KV_PAGE);
    kv_file_close(fd);
    kv_dir_close(d);
    return r;
}

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* Interrupted, these are made again; the others fail. */
static int is_retried(const char *call)
{
    static const char *const retried[] = {"open",  "fallocate", "pread", "pwrite",
                                          "flock", "statfs",    "punch", "getdents"};
    for (size_t i = 0; i < sizeof retried / sizeof retried[0]; i++)
        if (strcmp(call, retried[i]) == 0)
            return 1;
    return 0;
}

static void clear_path(void)
{
    unlink(at("fails/s/a"));
    unlink(at("fails/s/b"));
    rmdir(at("fails/s"));
    rmdir(at("fails"));
}

static void every_call_fails(void)
{
    static const char *const calls[] = {"open",     "mkdir",     "fallocate", "mmap",   "fdatasync",
                                        "fsync",    "fsync_dir", "rename",    "unlink", "pread",
                                        "pwrite",   "flock",     "fstat",     "statfs", "punch",
                                        "getdents", "fchmod"};
    static const struct {
        int e, code;
    } ways[] = {
        {EIO, KV_EIO}, {ENOSPC, KV_EFULL}, {ENOMEM, KV_ENOMEM}, {EMFILE, KV_EIO}, {EINTR, KV_EIO}};
    char path[64];
    /* Tighter than the mode asked for, so that it has to be set. */
    mode_t mask = umask(0277);
    snprintf(path, sizeof path, "%s", at("fails/s"));
    int before = open_files();
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
        for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++)
            for (int n = 0; n < 20; n++) {
                int want = ways[w].e == EINTR && is_retried(calls[c]) ? KV_OK : ways[w].code;
                clear_path();
                CHECK(mkdir(at("fails"), 0700) == 0 && chmod(at("fails"), 0700) == 0);
                fail_next(calls[c], ways[w].e);
                fail_after = n;
                int r = everything(path);
                if (!failed()) {
                    CHECK(r == KV_OK && n > 0);
                    break;
                }
                CHECK(r == want);
                CHECK(strstr(fail_what, root) || strcmp(calls[c], "punch") == 0);
                CHECK(want == KV_OK || access(at("fails/s/a"), F_OK) != 0 ||
                      strcmp(calls[c], "fchmod") != 0);
            }
    for (int n = 0; n < 2; n++) {
        umask(n == 0 ? 022 : 0277);
        clear_path();
        CHECK(mkdir(at("fails"), 0700) == 0 && chmod(at("fails"), 0700) == 0);
        CHECK(n == 0 || (mkdir(path, 0700) == 0 && chmod(path, 0700) == 0));
        fail_next("fchmod", EPERM);
        CHECK(everything(path) == KV_OK && failed());
    }
    umask(mask);
    CHECK(open_files() == before);

    kv_dir *d;
    int fd, made;
    void *p;
    CHECK(kv_dir_open(":memory:", &usual, &d, &made) == KV_OK);
    fail_next("memfd", EMFILE);
    CHECK(kv_file_open(d, "x", KV_FILE_MAKE, &fd) == KV_EIO && failed());
    CHECK(strcmp(fail_what, ":memory:/x") == 0);
    CHECK(!is_listed(d, "x"));
    CHECK(kv_file_open(d, "x", KV_FILE_MAKE, &fd) == KV_OK);
    kv_file_close(fd);
    kv_dir_close(d);
    fail_next("mmap", ENOMEM);
    CHECK(kv_map_reserve(1 << 20, &p) == KV_ENOMEM && failed());
}

/* ---- the robust lock ---- */

static int die_holding(void *arg)
{
    return kv_lock_take(arg, 1000) == KV_OK ? 0 : 1;
}

static int die_recovering(void *arg)
{
    return kv_lock_take(arg, 1000) == KV_LOCK_DIED ? 0 : 1;
}

static int give_up(void *arg)
{
    if (kv_lock_take(arg, 1000) != KV_LOCK_DIED)
        return 1;
    kv_lock_release(arg);
    return 0;
}

static int busy_for(int (*take)(kv_lock *, int64_t), kv_lock *l)
{
    if (take(l, 0) != KV_EBUSY)
        return 1;
    int64_t before = kv_os_monotonic();
    if (take(l, 50) != KV_EBUSY)
        return 2;
    int64_t took = kv_os_monotonic() - before;
    return took < 50000000 || took > INT64_C(20000000000) ? 3 : 0;
}

static int find_busy(void *arg)
{
    int e = busy_for(kv_lock_take, arg);
    return e ? e : busy_for(kv_lock_poll, arg);
}

/* Who polls is not waited for: its holder has nobody to wake. */
static void polling_queues_nobody(kv_lock *l)
{
    CHECK(kv_lock_take(l, 0) == KV_OK);
    pid_t pid = check_fork();
    if (pid == 0)
        _exit(kv_lock_poll(l, 20000) == KV_OK ? 0 : 1);
    for (int i = 0; i < 50; i++) {
        kv_os_sleep(1);
#ifdef __GLIBC__
        CHECK(!(__atomic_load_n((int *)(void *)l, __ATOMIC_RELAXED) & (int)0x80000000));
#endif
    }
    kv_lock_release(l);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(status == 0);
    CHECK(kv_lock_poll(l, 1000) == KV_LOCK_DIED); /* it took it along */
    kv_lock_consistent(l);
    kv_lock_release(l);
}

/* Where the note that somebody sleeps is lost, as it is when the one that was woken is killed while
 * another takes the lock, nobody is woken. */
static void lost_wake(kv_lock *l)
{
#ifdef __GLIBC__
    int *word = (int *)(void *)l, i, status = -1;
    CHECK(kv_lock_take(l, 0) == KV_OK);
    pid_t pid = check_fork();
    if (pid == 0)
        _exit(kv_lock_take(l, 3000) == KV_OK ? 0 : 1);
    for (i = 0; i < 20000 && !(__atomic_load_n(word, __ATOMIC_SEQ_CST) & (int)0x80000000); i++)
        kv_os_sleep(1);
    __atomic_fetch_and(word, 0x7fffffff, __ATOMIC_SEQ_CST);
    kv_lock_release(l);
    waitpid(pid, &status, 0);
    CHECK(status == 0);
    CHECK(kv_lock_take(l, 1000) == KV_LOCK_DIED);
    kv_lock_consistent(l);
    kv_lock_release(l);
#else
    (void)l;
#endif
}

struct polling {
    kv_lock *lock;
    int tid, result, after; /* atomic; after: its policy with the lock */
};

static void poll_once(void *arg, kv_thread *t)
{
    struct polling *p = arg;
    (void)t;
    __atomic_store_n(&p->tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    p->result = kv_lock_poll(p->lock, 20000);
    p->after = sched_getscheduler(0);
    if (p->result == KV_OK)
        kv_lock_release(p->lock);
}

/* Woken, the helper does not take the processor from the host; at work it is like any other. */
static void polling_gives_way(kv_lock *l)
{
    struct polling p = {l, 0, -1, -1};
    int i, given = 0, tid;
    kv_thread *t;

    if (sched_getscheduler(0) != SCHED_OTHER)
        return;
    CHECK(kv_lock_take(l, 0) == KV_OK);
    if (!CHECK(kv_thread_start(poll_once, &p, &t) == KV_OK))
        return;
    for (i = 0; i < 20000 && !given; i++) {
        tid = __atomic_load_n(&p.tid, __ATOMIC_SEQ_CST);
        given = tid != 0 && sched_getscheduler(tid) == SCHED_BATCH;
        if (!given)
            kv_os_yield();
    }
    kv_lock_release(l);
    kv_thread_stop(t);
    CHECK(given && p.result == KV_OK && p.after == SCHED_OTHER);
}

/* Waits for the lock while its holder dies. */
static void death_of_holder_wakes(kv_lock *l)
{
    pid_t pid = check_fork();
    if (pid == 0) {
        if (kv_lock_take(l, 1000) != KV_OK)
            _exit(1);
        kv_os_sleep(50);
        raise(SIGKILL);
    }
    int r;
    while ((r = kv_lock_take(l, 0)) == KV_OK) {
        kv_lock_release(l);
        kv_os_sleep(1);
    }
    if (r == KV_EBUSY)
        r = kv_lock_take(l, 20000);
    CHECK(r == KV_LOCK_DIED);
    kv_lock_consistent(l);
    kv_lock_release(l);
    waitpid(pid, NULL, 0);
}

struct counted {
    kv_lock lock;
    uint64_t n;
};

static int count_up(void *arg)
{
    struct counted *c = arg;
    for (int i = 0; i < 20000; i++) {
        if ((i % 2 ? kv_lock_take : kv_lock_poll)(&c->lock, 20000) != KV_OK)
            return 1;
        c->n++;
        kv_lock_release(&c->lock);
    }
    return 0;
}

static void locks(void)
{
    struct counted *c =
        mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(c != MAP_FAILED))
        return;
    kv_lock *l = &c->lock;
    fail_next("lock_init", ENOTSUP);
    CHECK(kv_lock_init(l) == KV_EUNSUPPORTED && failed());
    CHECK(kv_lock_init(l) == KV_OK);
    CHECK(kv_lock_take(l, 0) == KV_OK);
    CHECK(kv_lock_take(l, 0) == KV_EBUSY && kv_lock_take(l, 10) == KV_EBUSY);
    CHECK(in_child(find_busy, l) == 0);
    kv_lock_release(l);

    CHECK(in_child(die_holding, l) == 0);
    CHECK(in_child(die_recovering, l) == 0);
    CHECK(kv_lock_take(l, -1) == KV_LOCK_DIED);
    kv_lock_consistent(l);
    kv_lock_release(l);
    CHECK(kv_lock_take(l, INT64_MAX) == KV_OK);
    kv_lock_release(l);
    CHECK(kv_lock_poll(l, INT64_MAX) == KV_OK);
    kv_lock_release(l);
    death_of_holder_wakes(l);
    polling_queues_nobody(l);
    lost_wake(l);
    polling_gives_way(l);

    pid_t pid = check_fork();
    if (pid == 0)
        _exit(count_up(c));
    CHECK(count_up(c) == 0);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(status == 0 && c->n == 40000);

    CHECK(in_child(die_holding, l) == 0);
    CHECK(in_child(give_up, l) == 0);
    CHECK(kv_lock_take(l, 1000) == KV_EIO && strstr(kv_message(), "recover"));
    munmap(c, KV_PAGE);
}

/* ---- the guard ---- */

static int guard_in_child(void *arg)
{
    kv_guard *g = arg;
    if (!kv_guard_forked(g))
        return 1;
    kv_guard_adopt(g);
    if (kv_guard_forked(g))
        return 2;
    kv_guard_free(g);
    kv_guard fresh;
    if (kv_guard_init(&fresh) != KV_OK || kv_guard_forked(&fresh))
        return 3;
    kv_guard_free(&fresh);
    return 0;
}

static void guards(int by_handler)
{
    kv_guard g[20];
    for (int i = 0; i < 20; i++) {
        if (by_handler)
            fail_next("wipeonfork", EINVAL);
        CHECK(kv_guard_init(&g[i]) == KV_OK && !kv_guard_forked(&g[i]));
        CHECK(!by_handler || failed());
    }
    kv_guard_free(&g[4]);
    CHECK(g[4].page == NULL);
    kv_guard_free(&g[4]);
    for (int i = 0; i < 20; i++) {
        if (i == 4)
            continue;
        CHECK(in_child(guard_in_child, &g[i]) == 0);
        CHECK(!kv_guard_forked(&g[i]));
    }
    for (int i = 0; i < 20; i++)
        kv_guard_free(&g[i]);
    fail_next("mmap", ENOMEM);
    CHECK(kv_guard_init(&g[0]) == KV_ENOMEM && failed());
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.40s/kv-os-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root)) {
        perror(root);
        return 1;
    }
    words();
    clocks();
    chance();
    store_bytes_sizes();
    stores_that_die();
    files(":memory:");
    files(at("files"));
    making();
    identity();
    modes();
    not_stores();
    strange_files();
    CHECK(in_child(without_standard_files, (void *)at("standard")) == 0);
    other_users();
    int full = in_child(on_a_full_disk, NULL);
    CHECK(full == 0 || full == 50);
    CHECK(in_child(over_the_limit, (void *)at("limit")) == 0);
    CHECK(in_child(over_the_limit, (void *)":memory:") == 0);
    CHECK(in_child(interrupted, NULL) == 0);
    file_locks();
    every_call_fails();
    locks();
    guards(0);
    guards(1);

    char clean[80];
    snprintf(clean, sizeof clean, "rm -rf '%s'", root);
    CHECK(system(clean) == 0);
    return check_done("test_os");
}
