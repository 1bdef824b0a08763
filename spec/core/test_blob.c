/* SPDX-License-Identifier: MIT
 *
 * test_blob.c - large values: what goes in comes out, in any pieces; every byte wrong, every
 * length, exchanged chunks, every failing call, a full disk; in a real directory and in memory.
 */
#define _GNU_SOURCE
#include "blob.h"
#include "check.h"
#include "crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STORE 0xfeedfacecafebeefu
#define ID    0x123456789abcu
#define CHUNK KV_BLOB_CHUNK
#define STEP  (CHUNK + 4)
#define MOST  (20 * CHUNK) /* more than the writer of a whole value buffers */

static kv_dir *dir;
static char *value; /* MOST bytes of noise */
static uint64_t dice = 88172645463325252u;

/* ---- helpers ---- */

static uint64_t roll(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

static int count_name(void *arg, const char *name)
{
    int *n = arg;
    (void)name;
    ++*n;
    return 0;
}

static int files(void)
{
    int n = 0;
    CHECK(kv_dir_list(dir, count_name, &n) == KV_OK);
    return n;
}

/* Open descriptors, without those that files in memory consist of. */
static int descriptors(void)
{
    int n = kv_dir_in_memory(dir) ? -files() : 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static int open_raw(uint64_t id, int how)
{
    char name[KV_BLOB_NAME];
    int fd = -1;
    kv_blob_name(id, name);
    CHECK(kv_file_open(dir, name, how, &fd) == KV_OK);
    return fd;
}

/* The whole file, in memory of its own. */
static char *get_file(uint64_t id, size_t *size)
{
    uint64_t bytes = 0;
    int fd = open_raw(id, KV_FILE_READ);
    CHECK(kv_file_size(fd, &bytes) == KV_OK);
    char *p = malloc(bytes + 1);
    CHECK(kv_file_read(fd, p, bytes, 0, size) == KV_OK && *size == bytes);
    kv_file_close(fd);
    return p;
}

static void put_file(uint64_t id, const char *from, size_t n)
{
    CHECK(kv_blob_unlink(dir, id) == KV_OK);
    int fd = open_raw(id, KV_FILE_CREATE);
    CHECK(kv_file_write(fd, from, n, 0) == KV_OK);
    kv_file_close(fd);
}

static void patch(int fd, const char *from, size_t n, uint64_t off)
{
    CHECK(kv_file_write(fd, from, n, off) == KV_OK);
}

/* One range, into memory that ends where the range does. 1: right, 0: wrong, or the code. */
static int read_range(kv_blob_reader *r, size_t n, uint64_t off)
{
    char *to = malloc(n ? n : 1);
    int e = kv_blob_read(r, to, n, off);
    if (e == KV_OK)
        e = memcmp(to, value + off, n) == 0;
    free(to);
    return e;
}

/* Opens, reads a range, closes. */
static int try_range(uint64_t id, uint64_t size, size_t n, uint64_t off)
{
    kv_blob_reader r;
    int e = kv_blob_open(dir, STORE, id, size, &r);
    if (e != KV_OK)
        return e;
    e = read_range(&r, n, off);
    kv_blob_close(&r);
    return e;
}

static int try_all(uint64_t id, uint64_t size)
{
    return try_range(id, size, size, 0);
}

static int fail_at, fail_forever, fail_errno, calls, preads;
static char said[400]; /* names of the calls that bear on what lasts */

static void note(const char *call)
{
    static const char *const names[] = {"fallocate", "pwrite", "fsync",
                                        "fdatasync", "rename", "fsync_dir"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(call, names[i]) == 0 && strlen(said) + strlen(call) + 2 < sizeof said)
            strcat(strcat(said, call), " ");
}

static int failing(const char *call, const char *what)
{
    (void)what;
    calls++;
    preads += strcmp(call, "pread") == 0;
    note(call);
    return calls == fail_at || (fail_forever && calls > fail_at) ? fail_errno : 0;
}

static void arm(int at, int forever, int e)
{
    fail_at = at;
    fail_forever = forever;
    fail_errno = e;
    calls = preads = 0;
    said[0] = '\0';
    kv_test_syscall = failing;
}

static void disarm(void)
{
    kv_test_syscall = NULL;
}

/* The value's first n bytes as a stream, in pieces of up to `piece` bytes (0: of any size). */
static int stream(uint64_t id, size_t n, size_t piece)
{
    kv_blob_writer w;
    uint64_t size = 1;
    int r = kv_blob_create(dir, STORE, id, &w);
    if (r != KV_OK)
        return r;
    for (size_t at = 0; at < n && r == KV_OK;) {
        size_t part = piece ? piece : (size_t)roll(2 * CHUNK);
        if (part > n - at)
            part = n - at;
        r = kv_blob_append(&w, value + at, part);
        at += part;
    }
    if (r != KV_OK) {
        kv_blob_abort(&w);
        return r;
    }
    r = kv_blob_finish(&w, &size);
    CHECK(r != KV_OK || size == n);
    CHECK(kv_blob_abort(&w) == KV_OK); /* ended: nothing happens */
    return r;
}

static int write_whole(uint64_t id, size_t n)
{
    return kv_blob_write(dir, STORE, id, value, n);
}

static int write_stream(uint64_t id, size_t n)
{
    return stream(id, n, 30000);
}

/* ---- tests ---- */

static void test_names(void)
{
    static const char *const bad[] = {"",
                                      "blob",
                                      "blob.",
                                      "blob.1",
                                      "blob.000000000000000",
                                      "blob.00000000000000000",
                                      "blob.000000000000000g",
                                      "blob.000000000000000A",
                                      "blob.0x00000000000001",
                                      "blob.-000000000000001",
                                      "Blob.0000000000000001",
                                      "log.00000000000000001",
                                      "blob.0000000000000001.new"};
    static const uint64_t ids[] = {0, 1, 0x0123456789abcdefu, UINT64_MAX};
    char name[KV_BLOB_NAME];
    uint64_t id = 42;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(kv_blob_parse_name(bad[i], &id) == 0 && id == 42);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        kv_blob_name(ids[i], name);
        CHECK(kv_blob_parse_name(name, &id) == 1 && id == ids[i]);
    }
    CHECK(strcmp(name, "blob.ffffffffffffffff") == 0);
}

static void test_size(size_t n)
{
    char *whole, *streamed;
    size_t bytes = 0, bytes2 = 0;
    kv_blob_reader r;

    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    CHECK(files() == 1);
    whole = get_file(ID, &bytes);
    CHECK(bytes == kv_blob_file_size(n));
    CHECK(try_all(ID, n) == 1);

    /* Any pieces make the same file. */
    for (size_t piece = n < 5000 ? 1 : 4999, round = 0; round < 4; round++) {
        CHECK(kv_blob_unlink(dir, ID) == KV_OK);
        CHECK(stream(ID, n, piece) == KV_OK);
        streamed = get_file(ID, &bytes2);
        CHECK(bytes2 == bytes && memcmp(whole, streamed, bytes) == 0);
        free(streamed);
        piece = round == 0 ? CHUNK : round == 1 ? n + 1 : 0;
    }
    free(whole);

    if (!CHECK(kv_blob_open(dir, STORE, ID, n, &r) == KV_OK))
        return;
    for (int i = 0; i < 200; i++) {
        uint64_t off = roll(n + 1);
        CHECK(read_range(&r, (size_t)roll(n - off + 1), off) == 1);
    }
    for (uint64_t off = 0; off <= n; off += CHUNK)
        for (int by = -2; by <= 2; by++)
            for (size_t len = 0; len < 5; len++)
                if ((by >= 0 || off > 1) && off + (uint64_t)by + len <= n)
                    CHECK(read_range(&r, len, off + (uint64_t)by) == 1);
    char byte;
    CHECK(kv_blob_read(&r, &byte, 1, n) == KV_EINVAL);
    CHECK(kv_blob_read(&r, &byte, 0, n) == KV_OK);
    CHECK(kv_blob_read(&r, &byte, 0, n + 1) == KV_EINVAL);
    CHECK(kv_blob_read(&r, &byte, SIZE_MAX, 1) == KV_EINVAL);
    CHECK(kv_blob_read(&r, &byte, 1, UINT64_MAX) == KV_EINVAL);
    /* Unlinked, it can still be read by who has it open. */
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
    CHECK(read_range(&r, n, 0) == 1);
    kv_blob_close(&r);
    kv_blob_close(&r);
    CHECK(kv_blob_read(&r, &byte, 0, 0) == KV_EINVAL);
    CHECK(kv_blob_open(dir, STORE, ID, n, &r) == KV_ENOTFOUND);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
    CHECK(files() == 0);
}

static void test_sizes(void)
{
    static const size_t sizes[] = {
        0,         1,         100,    CHUNK - 4,      CHUNK - 1,  CHUNK,
        CHUNK + 1, 2 * CHUNK, 200000, 15 * CHUNK + 5, 16 * CHUNK, 16 * CHUNK + 1,
        MOST};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        test_size(sizes[i]);
}

/* How often the disk is asked. */
static void test_economy(void)
{
    size_t n = 5 * CHUNK + 2000;
    kv_blob_reader r;
    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    if (!CHECK(kv_blob_open(dir, STORE, ID, n, &r) == KV_OK))
        return;
    arm(0, 0, 0);
    CHECK(read_range(&r, n, 0) == 1);
    CHECK(preads == 7); /* one a chunk; the last checksum has no room behind the value */
    CHECK(r.chunk == NULL);
    arm(0, 0, 0);
    for (size_t at = 0; at < n; at += 1000)
        CHECK(read_range(&r, n - at < 1000 ? n - at : 1000, at) == 1);
    CHECK(preads == 6);
    arm(0, 0, 0);
    for (size_t at = 10; at < n; at += CHUNK)
        CHECK(read_range(&r, n - at < CHUNK ? n - at : CHUNK, at) == 1);
    CHECK(preads == 6);
    arm(0, 0, 0);
    CHECK(read_range(&r, 2000, 5 * CHUNK) == 1);
    CHECK(preads == 0); /* a whole chunk that is held */
    disarm();
    kv_blob_close(&r);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

/* What is durable when, in the words of the calls. */
static void test_order(void)
{
    int real = !kv_dir_in_memory(dir);
    arm(0, 0, 0);
    CHECK(write_whole(ID, 17 * CHUNK) == KV_OK);
    disarm();
    CHECK(strcmp(said, real ? "fallocate pwrite pwrite fsync fsync_dir "
                            : "fallocate pwrite pwrite fsync ") == 0);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
    arm(0, 0, 0);
    CHECK(write_stream(ID, CHUNK + 1) == KV_OK);
    disarm();
    CHECK(strcmp(said, real ? "pwrite pwrite fsync rename fsync_dir "
                            : "pwrite pwrite fsync rename ") == 0);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

static void test_misuse(void)
{
    kv_blob_writer w;
    kv_blob_reader r;
    uint64_t size = 7;

    CHECK(kv_blob_write(dir, STORE, ID, value, 1000) == KV_OK);
    CHECK(kv_blob_write(dir, STORE, ID, value, 10) == KV_EEXISTS);
    CHECK(try_all(ID, 1000) == 1);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);

    CHECK(kv_blob_write(dir, STORE, ID, value, (size_t)KV_MAX_VALUE_CAP + 1) == KV_ETOOBIG);
    CHECK(kv_blob_create(dir, STORE, ID, &w) == KV_OK);
    CHECK(kv_blob_append(&w, value, 10) == KV_OK);
    CHECK(kv_blob_append(&w, value, KV_MAX_VALUE_CAP - 9) == KV_ETOOBIG);
    CHECK(kv_blob_append(&w, value, 1) == KV_ETOOBIG);
    CHECK(kv_blob_finish(&w, &size) == KV_ETOOBIG && size == 7);
    CHECK(files() == 0);
    CHECK(kv_blob_append(&w, value, 1) == KV_EINVAL);
    CHECK(kv_blob_finish(&w, &size) == KV_EINVAL);

    CHECK(kv_blob_create(dir, STORE, ID, &w) == KV_OK);
    CHECK(kv_blob_append(&w, value, MOST) == KV_OK);
    CHECK(files() == 1);
    CHECK(kv_blob_abort(&w) == KV_OK);
    CHECK(files() == 0);
    CHECK(kv_blob_abort(&w) == KV_OK);

    CHECK(kv_blob_open(dir, STORE, ID, UINT64_MAX, &r) == KV_ECORRUPT);
    kv_blob_close(&r);
}

/* Another blob's or store's file, exchanged chunks, another size. */
static void test_mixed_up(void)
{
    size_t n = 2 * CHUNK + 100, bytes = 0;
    kv_blob_reader r;
    char *p, *q;

    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    p = get_file(ID, &bytes);
    put_file(ID + 1, p, bytes);
    CHECK(kv_blob_open(dir, STORE, ID + 1, n, &r) == KV_ECORRUPT);
    CHECK(kv_blob_open(dir, STORE + 1, ID, n, &r) == KV_ECORRUPT);
    CHECK(kv_blob_open(dir, STORE, ID, n + 1, &r) == KV_ECORRUPT);
    CHECK(try_all(ID, n - 1) == KV_ECORRUPT);
    CHECK(try_all(ID, n - 100) == 1); /* whole chunks of it are right as such */

    /* The data of another blob behind this one's header. */
    CHECK(kv_blob_write(dir, STORE, ID + 2, value, n) == KV_OK);
    q = get_file(ID + 2, &bytes);
    memcpy(q, p, KV_BLOB_HEAD);
    put_file(ID, q, bytes);
    CHECK(try_all(ID, n) == KV_ECORRUPT);

    memcpy(q, p, bytes);
    memcpy(q + KV_BLOB_HEAD, p + KV_BLOB_HEAD + STEP, STEP);
    memcpy(q + KV_BLOB_HEAD + STEP, p + KV_BLOB_HEAD, STEP);
    put_file(ID, q, bytes);
    CHECK(try_range(ID, n, 1, 0) == KV_ECORRUPT);
    CHECK(try_range(ID, n, 1, CHUNK) == KV_ECORRUPT);
    CHECK(try_range(ID, n, 100, 2 * CHUNK) == 1);

    memset(q, 0, bytes);
    put_file(ID, q, bytes);
    CHECK(try_all(ID, n) == KV_ECORRUPT);
    memcpy(q, p, KV_BLOB_HEAD);
    put_file(ID, q, bytes);
    CHECK(try_all(ID, n) == KV_ECORRUPT);

    uint32_t format = KV_BLOB_FORMAT + 1;
    memcpy(q + 8, &format, sizeof format);
    uint32_t crc = kv_crc32c(kv_crc32c(0, q, 12), q + 16, KV_BLOB_HEAD - 16);
    memcpy(q + 12, &crc, sizeof crc);
    put_file(ID, q, bytes);
    CHECK(try_all(ID, n) == KV_EUNSUPPORTED);

    free(p);
    free(q);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(kv_blob_unlink(dir, ID + i) == KV_OK);
}

/* A reader that met damage does not hand it out the second time, and goes on elsewhere. */
static void test_after_damage(void)
{
    size_t n = 3 * CHUNK;
    kv_blob_reader r;
    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    int fd = open_raw(ID, KV_FILE_WRITE);
    char byte = (char)~value[CHUNK + 7];
    patch(fd, &byte, 1, KV_BLOB_HEAD + STEP + 7);
    if (CHECK(kv_blob_open(dir, STORE, ID, n, &r) == KV_OK)) {
        for (int round = 0; round < 2; round++) {
            CHECK(read_range(&r, 10, 5) == 1);
            CHECK(read_range(&r, 10, CHUNK + 100) == KV_ECORRUPT);
            CHECK(strstr(kv_message(), "blob.") != NULL);
            CHECK(read_range(&r, 20, CHUNK - 10) == KV_ECORRUPT);
            CHECK(read_range(&r, n, 0) == KV_ECORRUPT);
            CHECK(read_range(&r, 10, 2 * CHUNK) == 1);
        }
        kv_blob_close(&r);
    }
    kv_file_close(fd);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

/* Every byte that is a multiple of stride, and all near the header and the chunks' borders. */
static void test_flips(size_t n, size_t stride)
{
    size_t bytes = 0;
    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    char *p = get_file(ID, &bytes);
    int fd = open_raw(ID, KV_FILE_WRITE);
    for (size_t i = 0; i < bytes; i++) {
        size_t in_chunk = (i - KV_BLOB_HEAD) % STEP;
        if (i >= KV_BLOB_HEAD && i % stride && in_chunk > 1 && in_chunk < CHUNK - 1)
            continue;
        for (int how = 0; how < 10; how++) {
            char to = how < 8 ? (char)(p[i] ^ 1 << how) : how == 8 ? 0 : (char)0xff;
            if (to == p[i] || (i >= KV_BLOB_HEAD && stride > 1 && how % 3))
                continue;
            patch(fd, &to, 1, i);
            CHECK(try_all(ID, n) == KV_ECORRUPT);
            patch(fd, p + i, 1, i);
        }
    }
    CHECK(try_all(ID, n) == 1);
    kv_file_close(fd);
    free(p);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

static void test_lengths(size_t n, size_t stride)
{
    size_t bytes = 0;
    CHECK(kv_blob_write(dir, STORE, ID, value, n) == KV_OK);
    char *p = get_file(ID, &bytes);
    for (size_t len = 0; len < bytes; len++) {
        if (len > KV_BLOB_HEAD && len % stride && (len - KV_BLOB_HEAD) % STEP > 2)
            continue;
        put_file(ID, p, len);
        CHECK(try_all(ID, n) == KV_ECORRUPT);
    }
    p[bytes] = 'x';
    put_file(ID, p, bytes + 1); /* more than needed is no harm */
    CHECK(try_all(ID, n) == 1);

    /* Cut while it is open: no tool does that, but the answer is a code all the same. */
    kv_blob_reader r;
    CHECK(kv_blob_open(dir, STORE, ID, n, &r) == KV_OK);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", r.fd);
    if (CHECK(truncate(path, (off_t)bytes - 2) == 0))
        CHECK(n == 0 ||
              (read_range(&r, n, 0) == KV_ECORRUPT && read_range(&r, 1, n - 1) == KV_ECORRUPT));
    kv_blob_close(&r);
    free(p);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

/* What could not be unlinked, whichever name it had by then. */
static void clear_up(void)
{
    char name[KV_BLOB_NAME];

    kv_blob_name(ID, name);
    memcpy(name, "part", 4);
    CHECK(kv_blob_is_part(name));
    CHECK(kv_file_unlink(dir, name) == KV_OK && kv_blob_unlink(dir, ID) == KV_OK);
}

static void test_write_faults(int (*write)(uint64_t id, size_t n), size_t n, int e, int forever)
{
    for (int at = 1;; at++) {
        int before = descriptors();
        arm(at, forever, e);
        int r = write(ID, n);
        disarm();
        CHECK(descriptors() == before);
        if (r == KV_OK) {
            CHECK(calls < at && at > 3);
            break;
        }
        CHECK(r == (e == ENOSPC ? KV_EFULL : KV_EIO));
        if (forever)
            clear_up();
        if (!CHECK(files() == 0))
            return;
    }
    CHECK(try_all(ID, n) == 1);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

/* Nothing is written behind a hole, even when the disk works again. */
static void test_failed_stream(void)
{
    kv_blob_writer w;
    CHECK(kv_blob_create(dir, STORE, ID, &w) == KV_OK);
    arm(1, 0, ENOSPC);
    CHECK(kv_blob_append(&w, value, 2 * CHUNK) == KV_EFULL);
    CHECK(kv_blob_append(&w, value, 1) == KV_EFULL);
    CHECK(kv_blob_finish(&w, NULL) == KV_EFULL);
    disarm();
    CHECK(files() == 0);
}

static void test_read_faults(size_t n)
{
    CHECK(write_whole(ID, n) == KV_OK);
    for (int at = 1;; at++) {
        int before = descriptors();
        arm(at, 0, EIO);
        int r = try_all(ID, n);
        disarm();
        CHECK(descriptors() == before);
        if (r == 1) {
            CHECK(calls < at && at > 3);
            break;
        }
        CHECK(r == KV_EIO);
    }
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

/* A limit on the size of files stands in for a disk that is full. */
static void test_full(void)
{
    struct rlimit old, small;
    if (!CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0))
        return;
    small = old;
    small.rlim_cur = 3 * CHUNK;
    if (!CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0))
        return;
    CHECK(write_whole(ID, 3 * CHUNK) == KV_EFULL);
    CHECK(write_whole(ID, MOST) == KV_EFULL);
    CHECK(write_stream(ID, 3 * CHUNK) == KV_EFULL);
    CHECK(files() == 0);
    CHECK(write_whole(ID, 2 * CHUNK) == KV_OK);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(try_all(ID, 2 * CHUNK) == 1);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

static void test_readonly(const char *path)
{
    kv_dir_options o = {.readonly = 1, .unsafe_fs = 1};
    kv_dir *d, *keep = dir;
    int made;
    CHECK(write_whole(ID, 100000) == KV_OK);
    if (!CHECK(kv_dir_open(path, &o, &d, &made) == KV_OK))
        return;
    dir = d;
    CHECK(write_whole(ID + 1, 10) == KV_EREADONLY);
    CHECK(try_all(ID, 100000) == 1);
    dir = keep;
    kv_dir_close(d);
    CHECK(kv_blob_unlink(dir, ID) == KV_OK);
}

static void test_all(void)
{
    int before = descriptors();
    size_t stride = getenv("KV_LONG") ? 1 : getenv("KV_SHORT") ? 20011 : 499;
    test_names();
    test_sizes();
    test_economy();
    test_order();
    test_misuse();
    test_mixed_up();
    test_after_damage();
    test_flips(300, 1);
    test_flips(2 * CHUNK + 10, stride);
    test_lengths(0, 1);
    test_lengths(300, 1);
    test_lengths(CHUNK, stride);
    test_lengths(2 * CHUNK + 10, stride);
    for (int forever = 0; forever < 2; forever++) {
        test_write_faults(write_whole, MOST, EIO, forever);
        test_write_faults(write_whole, 300, ENOSPC, forever);
        test_write_faults(write_stream, 3 * CHUNK + 1, ENOSPC, forever);
        test_write_faults(write_stream, 0, EIO, forever);
    }
    test_failed_stream();
    test_read_faults(3 * CHUNK);
    test_full();
    CHECK(files() == 0);
    CHECK(descriptors() == before);
}

int main(void)
{
    kv_dir_options o = {.create = 1, .mode = 0600, .unsafe_fs = 1};
    const char *tmp = getenv("TMPDIR");
    char path[512];
    int made;

    value = malloc(MOST);
    if (!CHECK(value != NULL))
        return check_done("test_blob");
    for (size_t i = 0; i < MOST; i++)
        value[i] = (char)roll(256);
    snprintf(path, sizeof path, "%s/kv-blob-XXXXXX", tmp ? tmp : "/tmp");
    if (!CHECK(mkdtemp(path) != NULL))
        return check_done("test_blob");
    if (CHECK(kv_dir_open(path, &o, &dir, &made) == KV_OK)) {
        test_all();
        test_readonly(path);
        kv_dir_close(dir);
    }
    CHECK(rmdir(path) == 0);
    if (CHECK(kv_dir_open(":memory:", &o, &dir, &made) == KV_OK)) {
        test_all();
        kv_dir_close(dir);
    }
    free(value);
    return check_done("test_blob");
}
