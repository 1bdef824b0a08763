/* SPDX-License-Identifier: MIT
 *
 * test_stream.c - values in pieces: any sizes in any pieces against the bytes they are made of;
 * conditions, limits, documents; what a reader holds on to; every bit of damage; every system call
 * failing, once and for ever; the death of a writer at every system call and every shared store.
 * What did not become a value leaves no file.
 */
#define _GNU_SOURCE
#include "check.h"
#include "state.h"

#include <signal.h>
#include <sys/wait.h>

#define CHUNK ((size_t)65536)
#define MOST  (3u << 20)

static char *bytes; /* MOST of them */
static char path[STATE_PATH];

static kv *open_store(const char *where, kv_ns **ns)
{
    kv_options o;
    kv *h = NULL;

    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    CHECK(kv_open(where, &o, &h) == KV_OK);
    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, ns) == KV_OK);
    return h;
}

static void close_store(kv *h, kv_ns *ns)
{
    kv_ns_close(ns);
    kv_close(h);
}

/* Files of large values, whole or not. */
static int files(void)
{
    DIR *d = opendir(path);
    struct dirent *f;
    int n = 0;

    while (d != NULL && (f = readdir(d)) != NULL)
        n += strncmp(f->d_name, "blob.", 5) == 0 || strncmp(f->d_name, "part.", 5) == 0;
    if (d != NULL)
        closedir(d);
    return n;
}

/* Writes n bytes from `from` on in pieces and commits. */
static int put_pieces(kv_ns *ns, const char *key, size_t from, size_t n, size_t piece,
                      const kv_write *opts, uint64_t *rev)
{
    kv_writer *w = NULL;
    size_t at, part;
    int e = kv_writer_open(ns, key, strlen(key), KV_STRING, opts, &w);

    for (at = 0; e == KV_OK && at < n; at += part) {
        part = n - at < piece ? n - at : piece;
        e = kv_writer_write(w, bytes + from + at, part);
    }
    if (e == KV_OK)
        e = kv_writer_commit(w, rev);
    kv_writer_close(w);
    return e;
}

/* 1: the key holds n bytes from `from` on; 0: something else; or a code. */
static int holds(kv_ns *ns, const char *key, size_t from, size_t n)
{
    kv_record r;
    int e = kv_get(ns, key, strlen(key), &r);

    if (e != KV_OK)
        return e;
    return r.value.type == KV_STRING && r.value.len == n &&
           (n == 0 || memcmp(r.value.data, bytes + from, n) == 0);
}

/* The same of an open reader, read in pieces from `at` on. */
static int reads(kv_reader *r, size_t from, size_t n, size_t at, size_t piece)
{
    char *to = malloc(piece);
    size_t got = 1;
    int e = KV_OK, same = kv_reader_size(r) == n;

    while (e == KV_OK && got > 0) {
        e = kv_reader_read(r, to, piece, at, &got);
        if (e == KV_OK) {
            same &= got == (at >= n          ? 0
                            : n - at < piece ? n - at
                                             : piece) &&
                    (got == 0 || memcmp(to, bytes + from + at, got) == 0);
            at += got;
        }
    }
    free(to);
    return e == KV_OK ? same : e;
}

static const size_t sizes[] = {0,         1,     1000,      16383,     16384,         16385,
                               CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7, 1000000,
                               MOST};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void test_sizes(const char *where)
{
    kv_ns *ns;
    kv *h = open_store(where, &ns);
    kv_reader *r;
    uint64_t rev = 0;
    size_t i, k;

    for (i = 0; i < SIZES; i++)
        for (k = 0; k < SIZES; k++) {
            if (sizes[k] == 0 || (sizes[k] == 1 && sizes[i] > 3 * CHUNK))
                continue;
            CHECK(put_pieces(ns, "k", i, sizes[i] - (sizes[i] == MOST ? i : 0), sizes[k], NULL,
                             &rev) == KV_OK);
            CHECK(rev == kv_rev(h));
            if (sizes[i] == MOST)
                continue;
            CHECK(holds(ns, "k", i, sizes[i]) == 1);
            CHECK(kv_reader_open(ns, "k", 1, NULL, &r) == KV_OK);
            CHECK(reads(r, i, sizes[i], 0, sizes[k]) == 1);
            CHECK(reads(r, i, sizes[i], sizes[i] / 3, sizes[k]) == 1);
            CHECK(reads(r, i, sizes[i], sizes[i] + 5, 10) == 1);
            kv_reader_close(r);
        }
    /* What is small enough for a record is one. */
    if (strcmp(where, ":memory:") != 0) {
        CHECK(files() > 1); /* those of before go when that cannot be undone any more */
        CHECK(kv_sync(h) == KV_OK && kv_tick(h, 1000, &rev) == KV_OK);
        CHECK(files() == 1);
        CHECK(put_pieces(ns, "k", 0, 1000, 10, NULL, NULL) == KV_OK);
        CHECK(kv_sync(h) == KV_OK && kv_tick(h, 1000, &rev) == KV_OK);
        CHECK(files() == 0);
    }
    CHECK(kv_check(h) == KV_OK);
    close_store(h, ns);
}

static void test_options(void)
{
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    kv_write w = {0};
    kv_record rec;
    kv_writer *s;
    uint64_t rev = 0, again = 0;

    w.flags = KV_TTL | KV_META;
    w.ttl = 60000;
    w.meta = "{\"a\":1}";
    w.meta_len = 7;
    CHECK(put_pieces(ns, "k", 0, 500000, 7777, &w, &rev) == KV_OK);
    CHECK(kv_get(ns, "k", 1, &rec) == KV_OK && rec.meta_len == 7 && rec.rev == rev);
    CHECK(rec.expires >= rec.updated + 60000 && memcmp(rec.meta, "{\"a\":1}", 7) == 0);

    memset(&w, 0, sizeof w);
    w.flags = KV_IF_NOT_EXIST;
    CHECK(put_pieces(ns, "k", 0, 500000, 7777, &w, NULL) == KV_EEXISTS);
    CHECK(put_pieces(ns, "k", 0, 5, 7777, &w, NULL) == KV_EEXISTS);
    w.flags = KV_IF_EXIST;
    CHECK(put_pieces(ns, "l", 0, 500000, 7777, &w, NULL) == KV_ENOTFOUND);
    w.flags = KV_IF_REV;
    w.if_rev = rev + 1;
    CHECK(put_pieces(ns, "k", 0, 500000, 7777, &w, NULL) == KV_ECONFLICT);
    CHECK(files() == 1);
    w.if_rev = rev;
    CHECK(put_pieces(ns, "k", 1, 500000, 7777, &w, &again) == KV_OK && again == rev + 1);
    w.flags = KV_EXPIRATION;
    w.expires = 1;
    CHECK(put_pieces(ns, "k", 0, 500000, 7777, &w, NULL) == KV_ERANGE);
    CHECK(holds(ns, "k", 1, 500000) == 1);

    /* The condition counts when the value does. */
    w.flags = KV_IF_REV;
    w.if_rev = again;
    CHECK(kv_writer_open(ns, "k", 1, KV_STRING, &w, &s) == KV_OK);
    CHECK(kv_writer_write(s, bytes, 400000) == KV_OK);
    CHECK(put_pieces(ns, "k", 2, 10, 10, NULL, NULL) == KV_OK);
    CHECK(kv_writer_commit(s, NULL) == KV_ECONFLICT);
    CHECK(kv_writer_commit(s, NULL) == KV_EINVAL && kv_writer_write(s, "x", 1) == KV_EINVAL);
    kv_writer_close(s);
    CHECK(holds(ns, "k", 2, 10) == 1);

    /* Mistakes. */
    CHECK(kv_writer_open(ns, "", 0, KV_STRING, NULL, &s) == KV_EINVAL);
    CHECK(kv_writer_open(ns, bytes, KV_MAX_KEY + 1, KV_STRING, NULL, &s) == KV_ETOOBIG);
    CHECK(kv_writer_open(ns, "k", 1, KV_INTEGER, NULL, &s) == KV_EINVAL);
    w.flags = KV_TTL;
    w.ttl = 0;
    CHECK(kv_writer_open(ns, "k", 1, KV_STRING, &w, &s) == KV_EINVAL);
    kv_writer_close(NULL);
    kv_reader_close(NULL);
    CHECK(kv_sync(h) == KV_OK && kv_tick(h, 1000, &rev) == KV_OK);
    CHECK(files() == 0 && kv_check(h) == KV_OK);
    close_store(h, ns);
}

static void test_documents(void)
{
    static const char good[] = "{\"a\":[1,2,{\"b\":null}]}", bad[] = "{\"a\":[1,2,{\"b\":nul}]}";
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    kv_writer *w;
    kv_record r;
    char deep[300];
    size_t i, n;

    for (i = 0; i < 2; i++) {
        const char *text = i ? bad : good;
        CHECK(kv_writer_open(ns, "d", 1, KV_JSON, NULL, &w) == KV_OK);
        for (n = 0; n < strlen(text); n += 3)
            CHECK(kv_writer_write(w, text + n, strlen(text) - n < 3 ? strlen(text) - n : 3) ==
                  KV_OK);
        CHECK(kv_writer_commit(w, NULL) == (i ? KV_ENOTJSON : KV_OK));
        kv_writer_close(w);
    }
    CHECK(kv_get(ns, "d", 1, &r) == KV_OK && r.value.type == KV_JSON);
    CHECK(r.value.len == strlen(good) && memcmp(r.value.data, good, strlen(good)) == 0);
    memset(deep, '[', sizeof deep);
    CHECK(kv_writer_open(ns, "d", 1, KV_JSON, NULL, &w) == KV_OK);
    CHECK(kv_writer_write(w, deep, sizeof deep) == KV_OK);
    CHECK(kv_writer_commit(w, NULL) == KV_ETOODEEP);
    kv_writer_close(w);
    CHECK(kv_writer_open(ns, "d", 1, KV_JSON, NULL, &w) == KV_OK);
    CHECK(kv_writer_commit(w, NULL) == KV_ENOTJSON);
    kv_writer_close(w);
    /* Long ones, too. */
    CHECK(kv_writer_open(ns, "d", 1, KV_JSON, NULL, &w) == KV_OK);
    CHECK(kv_writer_write(w, "[", 1) == KV_OK);
    for (i = 0; i < 400000; i++)
        CHECK(kv_writer_write(w, "1,", 2) == KV_OK);
    CHECK(kv_writer_write(w, "2]", 2) == KV_OK && kv_writer_commit(w, NULL) == KV_OK);
    kv_writer_close(w);
    CHECK(kv_get(ns, "d", 1, &r) == KV_OK && r.value.len == 800003 && files() == 1);
    close_store(h, ns);
}

static void test_limits(void)
{
    kv_options o;
    kv_ns *ns = NULL;
    kv_writer *w;
    kv *h = NULL;
    int i;

    kv_options_init(&o);
    o.thread = 0;
    o.max_value = 300000;
    o.max_size = 900000;
    CHECK(kv_open(path, &o, &h) == KV_OK && kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK);
    CHECK(kv_writer_open(ns, "k", 1, KV_STRING, NULL, &w) == KV_OK);
    CHECK(kv_writer_write(w, bytes, 299999) == KV_OK && kv_writer_write(w, bytes, 1) == KV_OK);
    CHECK(kv_writer_write(w, bytes, 1) == KV_ETOOBIG);
    CHECK(kv_writer_write(w, bytes, 1) == KV_ETOOBIG && kv_writer_commit(w, NULL) == KV_ETOOBIG);
    kv_writer_close(w);
    CHECK(files() == 0);
    CHECK(put_pieces(ns, "1", 0, 300000, 1000, NULL, NULL) == KV_OK);
    for (i = 0; i < 3; i++)
        CHECK(put_pieces(ns, i ? "2" : "1", 0, 300000, 1000, NULL, NULL) == KV_OK);
    CHECK(put_pieces(ns, "3", 0, 299990, 1000, NULL, NULL) == KV_OK);
    CHECK(put_pieces(ns, "4", 0, 300000, 1000, NULL, NULL) == KV_EFULL);
    CHECK(holds(ns, "4", 0, 0) == KV_ENOTFOUND && kv_check(h) == KV_OK);
    close_store(h, ns);
    state_remove(path);
}

/* A reader keeps what it was opened on, whatever becomes of the key and of the log. */
static void test_moment(const char *where)
{
    kv_ns *ns;
    kv *h = open_store(where, &ns);
    kv_reader *r[5];
    kv_record rec;
    uint64_t n;
    int i, large;

    for (large = 0; large < 2; large++) {
        size_t len = large ? 700000 : 5000;
        CHECK(put_pieces(ns, "k", 3, len, 999, NULL, NULL) == KV_OK);
        for (i = 0; i < 5; i++)
            CHECK(kv_reader_open(ns, "k", 1, &rec, &r[i]) == KV_OK);
        CHECK(rec.value.len == len && rec.value.type == KV_STRING && rec.rev == kv_rev(h));
        CHECK(put_pieces(ns, "k", 9, len, 999, NULL, NULL) == KV_OK);
        CHECK(reads(r[0], 3, len, 0, 1234) == 1);
        CHECK(kv_delete(ns, "k", 1, NULL, NULL, NULL) == KV_OK);
        CHECK(kv_reader_open(ns, "k", 1, NULL, &r[0]) == KV_ENOTFOUND);
        CHECK(reads(r[1], 3, len, 0, CHUNK) == 1);
        CHECK(kv_drop(h, "n", 1, &n) == KV_OK);
        CHECK(reads(r[2], 3, len, 0, 100000) == 1);
        for (i = 0; i < 300; i++)
            CHECK(put_pieces(ns, i % 2 ? "a" : "b", (size_t)i, 9000, 9000, NULL, NULL) == KV_OK);
        CHECK(kv_sync(h) == KV_OK && kv_tick(h, UINT64_MAX, &n) == KV_OK);
        CHECK(reads(r[3], 3, len, 0, 65) == 1);
        CHECK(reads(r[4], 3, len, len - 10, 100) == 1);
        for (i = 0; i < 5; i++)
            kv_reader_close(r[i]);
    }
    CHECK(kv_check(h) == KV_OK);
    close_store(h, ns);
}

static void test_spelling(void)
{
    static const char *const texts[] = {"-7", "1.5", "2.0", "true", "false", "null"};
    kv_value v[6] = {{KV_INTEGER, 0, NULL, -7, 0}, {KV_NUMBER, 0, NULL, 0, 1.5},
                     {KV_NUMBER, 0, NULL, 0, 2},   {KV_BOOLEAN, 0, NULL, 1, 0},
                     {KV_BOOLEAN, 0, NULL, 0, 0},  {KV_NULL, 0, NULL, 0, 0}};
    kv_ns *ns;
    kv *h = open_store(":memory:", &ns);
    kv_reader *r;
    char to[32];
    size_t got;
    int i;

    for (i = 0; i < 6; i++) {
        CHECK(kv_put(ns, "k", 1, &v[i], NULL, NULL, NULL) == KV_OK);
        CHECK(kv_reader_open(ns, "k", 1, NULL, &r) == KV_OK);
        CHECK(kv_reader_read(r, to, sizeof to, 0, &got) == KV_OK && got == strlen(texts[i]));
        CHECK(memcmp(to, texts[i], got) == 0);
        kv_reader_close(r);
    }
    close_store(h, ns);
}

/* The one file of a large value. */
static void file_name(char name[STATE_PATH + 40])
{
    DIR *d = opendir(path);
    struct dirent *f;

    while (d != NULL && (f = readdir(d)) != NULL)
        if (strncmp(f->d_name, "blob.", 5) == 0)
            snprintf(name, STATE_PATH + 40, "%s/%.30s", path, f->d_name);
    if (d != NULL)
        closedir(d);
}

/* Up to the damaged chunk every byte is right, from there on none is handed out. */
static void test_damage(void)
{
    size_t n = 3 * CHUNK + 100, got = 0, at, where, chunk;
    char name[STATE_PATH + 40], *to = malloc(n), was, bad;
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    kv_reader *r;
    int fd, e, i;

    CHECK(put_pieces(ns, "k", 0, n, 5000, NULL, NULL) == KV_OK);
    file_name(name);
    fd = open(name, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    for (i = 0; i < 300; i++) {
        /* Ends and checksums of chunks, and places by chance. */
        where = 64 + (i < 8 ? (size_t)(i / 2) * 65540 + (i % 2) * 65535 % 100
                            : (size_t)image_below(kv_blob_file_size(n) - 64));
        chunk = (where - 64) / 65540;
        CHECK(pread(fd, &was, 1, (off_t)where) == 1);
        bad = (char)(was ^ 1 << image_below(8));
        CHECK(pwrite(fd, &bad, 1, (off_t)where) == 1);
        CHECK(kv_reader_open(ns, "k", 1, NULL, &r) == KV_OK);
        for (at = 0, e = KV_OK; e == KV_OK && at < n; at += e == KV_OK ? got : 0) {
            e = kv_reader_read(r, to, 10000, at, &got);
            if (e == KV_OK)
                CHECK(memcmp(to, bytes + at, got) == 0 && (at + got - 1) / CHUNK < chunk);
        }
        CHECK(e == KV_ECORRUPT && at / CHUNK <= chunk && (at + 9999) / CHUNK >= chunk);
        CHECK(kv_reader_read(r, to, n, 0, &got) == KV_ECORRUPT);
        if (chunk < 3)
            CHECK(kv_reader_read(r, to, 100, 3 * CHUNK, &got) == KV_OK && got == 100);
        kv_reader_close(r);
        CHECK(pwrite(fd, &was, 1, (off_t)where) == 1);
    }
    CHECK(holds(ns, "k", 0, n) == 1);
    CHECK(ftruncate(fd, 2 * 65540) == 0);
    CHECK(kv_reader_open(ns, "k", 1, NULL, &r) == KV_ECORRUPT);
    close(fd);
    unlink(name);
    CHECK(kv_reader_open(ns, "k", 1, NULL, &r) == KV_ECORRUPT);
    close_store(h, ns);
    free(to);
    state_remove(path);
}

/* ---- faults and deaths ---- */

#define LARGE 250000u

static long calls, fail_at; /* 0: none */
static int fail_with, fail_forever, dying;

static int on_call(const char *call, const char *what)
{
    (void)call;
    (void)what;
    calls++;
    if (fail_at == 0 || calls < fail_at || (calls > fail_at && !fail_forever))
        return 0;
    if (dying)
        _exit(77);
    return fail_with;
}

static void arm(long at, int e, int forever)
{
    calls = 0;
    fail_at = at;
    fail_with = e;
    fail_forever = forever;
    kv_test_syscall = on_call;
}

static void disarm(void)
{
    fail_at = 0;
    kv_test_syscall = NULL;
}

/* A value of before, small or large itself, and its files. */
static void before(kv_ns *ns, int large)
{
    CHECK(put_pieces(ns, "k", 7, large ? LARGE : 100, 60000, NULL, NULL) == KV_OK);
    CHECK(kv_sync(ns->h) == KV_OK);
}

static void test_faults(int e, int forever, int large)
{
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    uint64_t n;
    long at;
    int r, done = 0;

    before(ns, large);
    for (at = 1; !done; at++) {
        arm(at, e, forever);
        r = put_pieces(ns, "k", 1, LARGE, 50000, NULL, NULL);
        done = calls < fail_at;
        disarm();
        CHECK(r == KV_OK || (!done && holds(ns, "k", 7, large ? LARGE : 100) == 1));
        if (r != KV_OK)
            CHECK(r == (e == ENOSPC ? KV_EFULL : e == ENOMEM ? KV_ENOMEM : KV_EIO));
        if (r == KV_OK) {
            CHECK(holds(ns, "k", 1, LARGE) == 1);
            before(ns, large);
            CHECK(kv_tick(h, 1000, &n) == KV_OK);
        }
        if (!forever)
            CHECK(files() == large);
        if (at > 500) {
            CHECK(0);
            break;
        }
    }
    CHECK(at > 6 && kv_check(h) == KV_OK);
    close_store(h, ns);
    h = open_store(path, &ns);
    CHECK(files() == large && holds(ns, "k", 7, large ? LARGE : 100) == 1);
    close_store(h, ns);
    state_remove(path);
}

/* What a reader is told when the disk fails, and that it goes on afterwards. */
static void test_read_faults(void)
{
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    kv_reader *r = NULL;
    char *to = malloc(LARGE);
    size_t got = 0;
    long at;
    int e, opened;

    CHECK(put_pieces(ns, "k", 0, LARGE, 60000, NULL, NULL) == KV_OK);
    for (at = 1;; at++) {
        arm(at, EIO, 0);
        e = kv_reader_open(ns, "k", 1, NULL, &r);
        opened = e == KV_OK;
        if (e == KV_OK)
            e = kv_reader_read(r, to, LARGE, 0, &got);
        disarm();
        CHECK(e == KV_OK || e == KV_EIO);
        if (opened) {
            CHECK(reads(r, 0, LARGE, 0, 30000) == 1);
            kv_reader_close(r);
        }
        if (e == KV_OK || at > 100)
            break;
    }
    CHECK(at > 5 && at < 100);
    close_store(h, ns);
    free(to);
    state_remove(path);
}

/* A child that puts in pieces and dies at its n-th system call or, from the commit on, at its n-th
 * store to shared memory. 1: it lived. */
static int child(long at_call, int64_t at_store, int always)
{
    pid_t pid = check_fork();
    int status = 0;

    if (pid == 0) {
        kv_options o;
        kv_writer *w;
        kv_ns *ns;
        kv *h;
        size_t n;
        kv_options_init(&o);
        o.thread = 0;
        o.sync = always ? KV_SYNC_ALWAYS : KV_SYNC_NONE;
        if (kv_open(path, &o, &h) != KV_OK || kv_namespace(h, "n", 1, NULL, 0, 1, &ns) != KV_OK)
            _exit(1);
        dying = 1;
        arm(at_call, 0, 0);
        if (kv_writer_open(ns, "k", 1, KV_STRING, NULL, &w) != KV_OK)
            _exit(2);
        for (n = 0; n < LARGE; n += 50000)
            if (kv_writer_write(w, bytes + 1 + n, 50000) != KV_OK)
                _exit(3);
        kv_test_stores = 0;
        kv_test_die_at = at_store;
        if (kv_writer_commit(w, NULL) != KV_OK)
            _exit(4);
        kv_writer_close(w);
        check_exit(0);
    }
    if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)))
        return 1;
    CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77);
    return WEXITSTATUS(status) == 0;
}

static void test_deaths(int by_store, int large)
{
    kv_ns *ns;
    kv *h;
    uint64_t n;
    int at, lived = 0, r, others = 0;

    for (at = 1; !lived && at < 2000; at++) {
        h = open_store(path, &ns);
        before(ns, large);
        CHECK(kv_tick(h, 1000, &n) == KV_OK);
        close_store(h, ns);
        lived = child(by_store ? 0 : at, by_store ? at : 0, at % 2);
        h = open_store(path, &ns);
        r = holds(ns, "k", 1, LARGE) == 1;
        CHECK(r || (!lived && holds(ns, "k", 7, large ? LARGE : 100) == 1));
        others += r && !lived;
        CHECK(kv_check(h) == KV_OK);
        close_store(h, ns);
        CHECK(files() == (r || large));
    }
    CHECK(lived && at > 10);
    if (by_store)
        CHECK(others > 0); /* the commit stands from the tail on */
    state_remove(path);
}

/* A child of fork has no part in what its parent writes; it may read what its parent reads. */
static void test_fork(void)
{
    kv_ns *ns;
    kv *h = open_store(path, &ns);
    kv_writer *w;
    kv_reader *r;
    size_t got;
    char c;
    pid_t pid;
    int status = 0, ok;

    CHECK(put_pieces(ns, "r", 0, LARGE, LARGE, NULL, NULL) == KV_OK);
    CHECK(kv_reader_open(ns, "r", 1, NULL, &r) == KV_OK);
    CHECK(kv_writer_open(ns, "k", 1, KV_STRING, NULL, &w) == KV_OK);
    CHECK(kv_writer_write(w, bytes, LARGE) == KV_OK);
    pid = check_fork();
    if (pid == 0) {
        ok = kv_writer_write(w, "x", 1) == KV_EBUSY && kv_writer_commit(w, NULL) == KV_EBUSY &&
             kv_reader_read(r, &c, 1, 0, &got) == KV_OK && c == bytes[0];
        kv_writer_close(w);
        kv_reader_close(r);
        check_exit(ok ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(reads(r, 0, LARGE, 0, 1000) == 1);
    kv_reader_close(r);
    CHECK(kv_writer_commit(w, NULL) == KV_OK);
    kv_writer_close(w);
    CHECK(holds(ns, "k", 0, LARGE) == 1);
    close_store(h, ns);
    state_remove(path);
}

int main(void)
{
    size_t i;
    int large;

    state_begin("test_stream");
    state_path(path, "store");
    bytes = malloc(MOST + 64);
    if (!CHECK(bytes != NULL))
        return check_done("test_stream");
    for (i = 0; i < MOST + 64; i++)
        bytes[i] = (char)image_below(256);
    test_sizes(path);
    test_sizes(":memory:");
    state_remove(path);
    test_options();
    state_remove(path);
    test_documents();
    state_remove(path);
    test_limits();
    test_moment(path);
    state_remove(path);
    test_moment(":memory:");
    test_spelling();
    test_damage();
    for (large = 0; large < 2; large++) {
        test_faults(EIO, 0, large);
        test_faults(ENOSPC, 0, large);
        test_faults(EIO, 1, large);
        test_deaths(0, large);
        test_deaths(1, large);
    }
    test_read_faults();
    test_fork();
    free(bytes);
    state_clear();
    return check_done("test_stream");
}
