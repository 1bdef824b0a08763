/* SPDX-License-Identifier: MIT
 *
 * test_meta.c - the two slots: every byte wrong, every length, every tear, every failing call; in a
 * real directory and in memory.
 *
 * What is read must be a state that was written, the newest one unless its slot was hit; anything
 * else must be a code.
 */
#define _GNU_SOURCE
#include "check.h"
#include "crc32c.h"
#include "meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT   128
#define STRIDE 4096
#define SIZE   8192

static kv_dir *dir;

/* ---- helpers ---- */

/* The state of a seq: every field follows from it, so one look says whether it is whole. */
static kv_meta state(uint64_t seq)
{
    kv_meta m;
    memset(&m, 0, sizeof m);
    m.seq = seq;
    m.store_id = 0x1122334455667788u;
    m.cursor_key[0] = seq * 3;
    m.cursor_key[1] = ~seq;
    m.oldest = seq * 7 + 1;
    m.max_size = seq << 32;
    m.max_value = 1000 + seq;
    m.created = 1700000000000 + (int64_t)seq;
    return m;
}

static int is_state(const kv_meta *m, uint64_t seq)
{
    kv_meta want = state(seq);
    return memcmp(m, &want, sizeof want) == 0;
}

/* Moves the file on to `seq`. */
static int write_state(uint64_t seq)
{
    kv_meta m = state(seq);
    m.seq = seq - 1;
    int r = kv_meta_write(dir, &m);
    return r == KV_OK && m.seq != seq ? 1 : r;
}

static void fresh(uint64_t first, uint64_t last)
{
    kv_meta m = state(first);
    CHECK(kv_file_unlink(dir, KV_META_NAME) == KV_OK);
    CHECK(kv_meta_create(dir, &m) == KV_OK);
    while (first < last)
        CHECK(write_state(++first) == KV_OK);
}

static size_t get_file(char *to, size_t cap)
{
    int fd;
    size_t got = 0;
    if (!CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_READ, &fd) == KV_OK))
        return 0;
    CHECK(kv_file_read(fd, to, cap, 0, &got) == KV_OK);
    kv_file_close(fd);
    return got;
}

static void put_file(const char *from, size_t n)
{
    int fd;
    CHECK(kv_file_unlink(dir, KV_META_NAME) == KV_OK);
    if (!CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_CREATE, &fd) == KV_OK))
        return;
    CHECK(kv_file_write(fd, from, n, 0) == KV_OK);
    kv_file_close(fd);
}

static void patch(int fd, const char *from, size_t n, uint64_t off)
{
    CHECK(kv_file_write(fd, from, n, off) == KV_OK);
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

static int fail_at, fail_forever, fail_errno, calls;
static char said[200]; /* names of the calls that bear on what lasts */

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
    note(call);
    return calls == fail_at || (fail_forever && calls > fail_at) ? fail_errno : 0;
}

static void arm(int at, int forever, int e)
{
    fail_at = at;
    fail_forever = forever;
    fail_errno = e;
    calls = 0;
    said[0] = '\0';
    kv_test_syscall = failing;
}

static void disarm(void)
{
    kv_test_syscall = NULL;
}

/* ---- tests ---- */

static void test_life(void)
{
    kv_meta m, before;
    memset(&m, 7, sizeof m);
    before = m;
    CHECK(kv_meta_read(dir, &m) == KV_ENOTFOUND);
    CHECK(memcmp(&m, &before, sizeof m) == 0);
    CHECK(kv_meta_write(dir, &m) == KV_ENOTFOUND);

    int fd;
    CHECK(kv_file_open(dir, KV_META_TEMP, KV_FILE_CREATE, &fd) == KV_OK); /* a crash left it */
    kv_file_close(fd);
    m = state(1);
    CHECK(kv_meta_create(dir, &m) == KV_OK);
    CHECK(files() == 1);
    m = state(9);
    CHECK(kv_meta_create(dir, &m) == KV_EEXISTS);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 1));

    char bytes[SIZE + 1], last[SIZE];
    CHECK(get_file(bytes, sizeof bytes) == SIZE);
    for (uint64_t seq = 2; seq < 40; seq++) {
        memcpy(last, bytes, SIZE);
        CHECK(write_state(seq) == KV_OK);
        CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, seq));
        /* Slots take turns, and nothing else is touched. */
        size_t at = seq % 2 ? 0 : STRIDE;
        CHECK(get_file(bytes, sizeof bytes) == SIZE);
        CHECK(memcmp(bytes + at, last + at, SLOT) != 0);
        memcpy(last + at, bytes + at, SLOT);
        CHECK(memcmp(bytes, last, SIZE) == 0);
    }
}

/* What is durable when, in the words of the calls. */
static void test_order(void)
{
    kv_meta m = state(1);
    CHECK(kv_file_unlink(dir, KV_META_NAME) == KV_OK);
    arm(0, 0, 0);
    CHECK(kv_meta_create(dir, &m) == KV_OK);
    disarm();
    CHECK(strcmp(said, kv_dir_in_memory(dir) ? "pwrite fsync rename "
                                             : "pwrite fsync rename fsync_dir ") == 0);
    arm(0, 0, 0);
    CHECK(write_state(2) == KV_OK);
    disarm();
    CHECK(strcmp(said, "pwrite fdatasync ") == 0);
}

static void test_conflict(void)
{
    kv_meta m;
    fresh(1, 5);
    CHECK(write_state(5) == KV_ECONFLICT); /* from 4, but there is 5 */
    m = state(5);
    m.store_id++;
    CHECK(kv_meta_write(dir, &m) == KV_ECONFLICT && m.seq == 5);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 5));
}

/* What is written goes over the damaged newest slot, not over the only one that is whole. */
static void test_write_over_damage(void)
{
    kv_meta m;
    int fd;
    fresh(1, 5); /* 5 is in slot 0, 4 in slot 1 */
    CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_WRITE, &fd) == KV_OK);
    patch(fd, "x", 1, 60);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 4));
    CHECK(write_state(6) == KV_OK);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 6));
    patch(fd, "x", 1, 60);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 4));
    patch(fd, "x", 1, STRIDE + 60);
    CHECK(kv_meta_read(dir, &m) == KV_ECORRUPT);
    CHECK(write_state(7) == KV_ECORRUPT);
    kv_file_close(fd);
}

static void test_not_a_store(void)
{
    static const char text[] = "dear diary\n";
    char bytes[SIZE];
    kv_meta m;
    put_file(text, sizeof text);
    CHECK(kv_meta_read(dir, &m) == KV_EUNSUPPORTED);
    CHECK(strstr(kv_message(), "is not a kv store") != NULL);
    CHECK(strstr(kv_message(), kv_dir_path(dir)) != NULL);
    m = state(1);
    CHECK(kv_meta_write(dir, &m) == KV_EUNSUPPORTED);
    CHECK(kv_meta_create(dir, &m) == KV_EEXISTS);
    memset(bytes, 0, sizeof bytes);
    put_file(bytes, 1);
    CHECK(kv_meta_read(dir, &m) == KV_EUNSUPPORTED);
    put_file(bytes, SIZE);
    CHECK(kv_meta_read(dir, &m) == KV_EUNSUPPORTED);
    put_file(bytes, 0);
    CHECK(kv_meta_read(dir, &m) == KV_ECORRUPT);
}

static void test_newer(void)
{
    kv_meta m;
    for (int which = 1; which < 4; which++)
        for (int older = 0; older < 2; older++) {
            uint32_t format = KV_META_FORMAT + 1;
            int fd;
            fresh(1, 4 + (uint64_t)older);
            CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_WRITE, &fd) == KV_OK);
            for (int i = 0; i < 2; i++)
                if (which & 1 << i)
                    patch(fd, (const char *)&format, sizeof format, (uint64_t)i * STRIDE + 8);
            kv_file_close(fd);
            CHECK(kv_meta_read(dir, &m) == KV_EUNSUPPORTED);
            CHECK(strstr(kv_message(), "newer") && strstr(kv_message(), kv_dir_path(dir)));
            m = state(5);
            CHECK(kv_meta_write(dir, &m) == KV_EUNSUPPORTED);
        }
}

/* A whole slot with a number that no store of this format writes. */
static void test_range(void)
{
    static const struct {
        size_t at;
        uint64_t value;
    } bad[] = {{16, UINT64_MAX}, {64, (uint64_t)KV_MAX_VALUE_CAP + 1}, {8, (uint64_t)0}};
    char slot[SLOT];
    kv_meta m;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fresh(1, 1);
        CHECK(get_file(slot, SLOT) == SLOT);
        memcpy(slot + bad[i].at, &bad[i].value, sizeof bad[i].value);
        uint32_t crc = kv_crc32c(kv_crc32c(0, slot, 12), slot + 16, SLOT - 16);
        memcpy(slot + 12, &crc, sizeof crc);
        put_file(slot, SLOT);
        CHECK(kv_meta_read(dir, &m) == KV_ECORRUPT);
    }
}

/* newest and newest - 1 are in the file; where: the byte that is wrong. */
static void check_damaged(uint64_t newest, size_t where, int both)
{
    kv_meta m;
    int r = kv_meta_read(dir, &m);
    int in_slot = where % STRIDE < SLOT, in_newest = (where < STRIDE) == (newest % 2 == 1);
    if (r == KV_OK)
        CHECK(is_state(&m, newest) ? !in_slot || (!in_newest && !both)
                                   : is_state(&m, newest - 1) && in_newest && !both);
    else
        CHECK(in_slot && ((r == KV_ECORRUPT && both) ||
                          (r == KV_EUNSUPPORTED && (both || where % STRIDE < 12))));
}

static void test_flips(void)
{
    char bytes[SIZE];
    uint64_t newest = 5;
    fresh(1, newest);
    CHECK(get_file(bytes, SIZE) == SIZE);
    int fd;
    if (!CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_WRITE, &fd) == KV_OK))
        return;
    for (size_t i = 0; i < SIZE; i++) {
        if (i % STRIDE > 300 && i % 97) /* bytes nobody looks at */
            continue;
        for (int how = 0; how < 10; how++) {
            char to = how < 8 ? (char)(bytes[i] ^ 1 << how) : how == 8 ? 0 : (char)0xff;
            size_t twin = (i + STRIDE) % SIZE;
            if (to == bytes[i])
                continue;
            patch(fd, &to, 1, i);
            check_damaged(newest, i, 0);
            if (i < STRIDE && i < SLOT) {
                patch(fd, &to, to != bytes[twin], twin);
                if (to != bytes[twin])
                    check_damaged(newest, i, 1);
                patch(fd, bytes + twin, 1, twin);
            }
            patch(fd, bytes + i, 1, i);
        }
    }
    kv_file_close(fd);
}

static void test_lengths(void)
{
    char bytes[SIZE];
    kv_meta m;
    for (uint64_t newest = 4; newest < 6; newest++) {
        fresh(1, newest);
        CHECK(get_file(bytes, SIZE) == SIZE);
        for (size_t n = 0; n <= SIZE; n++) {
            if (n % STRIDE > 300 && n % 97)
                continue;
            put_file(bytes, n);
            int r = kv_meta_read(dir, &m);
            if (n < SLOT)
                CHECK(r == KV_ECORRUPT);
            else if (n < STRIDE + SLOT) /* slot 0 holds the odd ones */
                CHECK(r == KV_OK && is_state(&m, newest - !(newest & 1)));
            else
                CHECK(r == KV_OK && is_state(&m, newest));
        }
    }
}

/* A write of which only a part reached the disk: any prefix, any suffix, and a hole. */
static void test_tears(void)
{
    char before[SIZE], after[SIZE], torn[SLOT];
    kv_meta m;
    for (uint64_t seq = 2; seq < 5; seq++) {
        size_t at = seq % 2 ? 0 : STRIDE;
        int fd;
        fresh(1, seq - 1);
        CHECK(get_file(before, SIZE) == SIZE);
        CHECK(write_state(seq) == KV_OK);
        CHECK(get_file(after, SIZE) == SIZE);
        if (!CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_WRITE, &fd) == KV_OK))
            return;
        for (size_t from = 0; from <= SLOT; from += 4)
            for (size_t to = from; to <= SLOT; to += 4) {
                memcpy(torn, before + at, SLOT);
                memcpy(torn + from, after + at + from, to - from);
                patch(fd, torn, SLOT, at);
                int whole = memcmp(torn, after + at, SLOT) == 0;
                CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, whole ? seq : seq - 1));
            }
        kv_file_close(fd);
    }
}

static void test_create_faults(int e, int forever)
{
    kv_meta m, made = state(1);
    for (int at = 1;; at++) {
        CHECK(kv_file_unlink(dir, KV_META_NAME) == KV_OK);
        CHECK(kv_file_unlink(dir, KV_META_TEMP) == KV_OK);
        int before = descriptors();
        arm(at, forever, e);
        int r = kv_meta_create(dir, &made);
        disarm();
        CHECK(descriptors() == before);
        if (r == KV_OK) {
            CHECK(calls < at);
            CHECK(at > 6);
            break;
        }
        CHECK(r == (e == ENOSPC ? KV_EFULL : KV_EIO));
        if (!forever)
            CHECK(files() == 0);
        r = kv_meta_read(dir, &m);
        CHECK(r == KV_ENOTFOUND || (forever && r == KV_OK && is_state(&m, 1)));
    }
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 1) && files() == 1);
}

static void test_write_faults(int e, int forever)
{
    for (uint64_t seq = 2; seq < 4; seq++)
        for (int at = 1;; at++) {
            kv_meta m, next = state(seq), given;
            fresh(1, seq - 1);
            next.seq--;
            given = next;
            int before = descriptors();
            arm(at, forever, e);
            int r = kv_meta_write(dir, &next);
            disarm();
            CHECK(descriptors() == before);
            if (r == KV_OK) {
                CHECK(calls < at && at > 3 && next.seq == seq);
                CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, seq));
                break;
            }
            CHECK(r == (e == ENOSPC ? KV_EFULL : KV_EIO));
            CHECK(memcmp(&given, &next, sizeof next) == 0);
            CHECK(kv_meta_read(dir, &m) == KV_OK);
            CHECK(is_state(&m, seq - 1) || (forever && is_state(&m, seq)));
            if (is_state(&m, seq - 1)) {
                CHECK(kv_meta_write(dir, &next) == KV_OK);
                CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, seq));
            }
            arm(1, 0, e);
            CHECK(kv_meta_read(dir, &m) == (e == ENOSPC ? KV_EFULL : KV_EIO));
            disarm();
        }
}

/* ---- a reader beside a writer ---- */

static uint64_t beside_last;

static void write_on(void *arg, kv_thread *t)
{
    uint64_t rounds = *(uint64_t *)arg;
    (void)t;
    for (uint64_t seq = 2; seq <= rounds; seq++)
        if (write_state(seq) != KV_OK)
            break;
        else
            __atomic_store_n(&beside_last, seq, __ATOMIC_RELEASE);
}

static void test_beside(uint64_t rounds)
{
    kv_thread *t;
    uint64_t seen = 1;
    fresh(1, 1);
    __atomic_store_n(&beside_last, 1, __ATOMIC_RELEASE);
    if (!CHECK(kv_thread_start(write_on, &rounds, &t) == KV_OK))
        return;
    for (int64_t end = kv_os_monotonic() + 20000000000; seen < rounds;) {
        uint64_t least = __atomic_load_n(&beside_last, __ATOMIC_ACQUIRE);
        kv_meta m;
        if (!CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, m.seq) && m.seq >= least) ||
            !CHECK(kv_os_monotonic() < end))
            break;
        seen = m.seq;
    }
    kv_thread_stop(t);
}

/* The same without luck: the first look finds slot 0 as it was before seq 5 and slot 1 torn by the
 * write of seq 6; by the second look both writes have ended. */
static char ended[SIZE];
static int looks, ended_fd;

static int end_writes(const char *call, const char *what)
{
    (void)what;
    if (strcmp(call, "pread") == 0 && ++looks == 2)
        CHECK(kv_file_write(ended_fd, ended, SIZE, 0) == KV_OK);
    return 0;
}

static void test_settles(void)
{
    kv_meta m;
    fresh(1, 6);
    CHECK(get_file(ended, SIZE) == SIZE);
    fresh(1, 4);
    if (!CHECK(kv_file_open(dir, KV_META_NAME, KV_FILE_WRITE, &ended_fd) == KV_OK))
        return;
    patch(ended_fd, ended + STRIDE, 40, STRIDE);
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 3)); /* if it stays like that */
    looks = 0;
    kv_test_syscall = end_writes;
    CHECK(kv_meta_read(dir, &m) == KV_OK && is_state(&m, 6));
    disarm();
    kv_file_close(ended_fd);
}

static void test_readonly(const char *path)
{
    kv_dir_options o = {.readonly = 1, .unsafe_fs = 1};
    kv_meta m = state(1);
    kv_dir *d;
    int made;
    fresh(1, 1);
    if (!CHECK(kv_dir_open(path, &o, &d, &made) == KV_OK))
        return;
    CHECK(kv_meta_write(d, &m) == KV_EREADONLY);
    CHECK(kv_meta_read(d, &m) == KV_OK && is_state(&m, 1));
    kv_dir_close(d);
}

static void test_all(void)
{
    int before = descriptors();
    test_life();
    test_order();
    test_conflict();
    test_write_over_damage();
    test_not_a_store();
    test_newer();
    test_range();
    test_flips();
    test_lengths();
    test_tears();
    for (int forever = 0; forever < 2; forever++) {
        test_create_faults(EIO, forever);
        test_create_faults(ENOSPC, forever);
        test_write_faults(EIO, forever);
        test_write_faults(ENOSPC, forever);
    }
    test_settles();
    test_beside(kv_dir_in_memory(dir) && !getenv("KV_SHORT") ? 5000 : 200);
    CHECK(descriptors() == before);
}

int main(void)
{
    kv_dir_options o = {.create = 1, .mode = 0600, .unsafe_fs = 1};
    const char *tmp = getenv("TMPDIR");
    char path[512];
    int made;

    snprintf(path, sizeof path, "%s/kv-meta-XXXXXX", tmp ? tmp : "/tmp");
    if (!CHECK(mkdtemp(path) != NULL))
        return check_done("test_meta");
    if (CHECK(kv_dir_open(path, &o, &dir, &made) == KV_OK)) {
        test_all();
        test_readonly(path);
        CHECK(kv_file_unlink(dir, KV_META_NAME) == KV_OK);
        CHECK(files() == 0);
        kv_dir_close(dir);
    }
    CHECK(rmdir(path) == 0);
    if (CHECK(kv_dir_open(":memory:", &o, &dir, &made) == KV_OK)) {
        test_all();
        kv_dir_close(dir);
    }
    return check_done("test_meta");
}
