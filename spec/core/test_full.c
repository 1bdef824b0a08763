/* SPDX-License-Identifier: MIT
 *
 * test_full.c - full disks: small file systems of our own (tmpfs, and ext4 in an image) that the
 * store and a neighbour fill.
 *
 * Each round draws the size of the disk, of keys and of values, who does the helper's work and in
 * which order keys go. Whatever it is: a put that finds no room says `full` and changes nothing,
 * all that was written is there, every delete works, writes resume when there is room again, and
 * nothing dies of SIGBUS. Needs root for the mounts; without, it says that it was skipped.
 *
 * SEED=n repeats a run, ONLY=n its n-th round alone; KV_ROUNDS=n makes n rounds.
 */
#define _GNU_SOURCE
#include "disk.h"
#include "model.h"

#include <sys/wait.h>

enum { TMPFS, EXT4 };
enum { FORTH, BACK, MIXED };

typedef struct scene {
    int disk, thread, order, keep; /* every keep-th key stays */
    unsigned kib, key_len, value_len;
    int value_mixed;
} scene;

static char key[KV_MAX_KEY];

/* Every key has the length asked for, at least that of its number. */
static size_t key_of(const scene *s, long n)
{
    memset(key, 'k', sizeof key);
    (void)snprintf(key, sizeof key, "%08ld", n % 100000000);
    key[8] = 'k';
    return s->key_len;
}

static uint32_t value_len(const scene *s, long n)
{
    return s->value_mixed ? (uint32_t)((uint64_t)n * 2654435761u % (2 * s->value_len + 1))
                          : s->value_len;
}

static kv_value value_of(const scene *s, long n)
{
    kv_value v = {KV_STRING, 0, NULL, 0, 0};

    v.len = value_len(s, n);
    v.data = model_noise + n % 1000;
    return v;
}

static int is_there(kv_ns *ns, const scene *s, long n)
{
    kv_value v = value_of(s, n);
    kv_record r;

    return kv_get(ns, key, key_of(s, n), &r) == KV_OK && value_is(&r.value, &v);
}

/* Keys from `from` on until it is full; the first one that did not fit. */
static long fill(kv_ns *ns, const scene *s, long from, int *e)
{
    kv_value v;
    long i;

    for (i = from; i < from + 1000000; i++) {
        v = value_of(s, i);
        *e = kv_put(ns, key, key_of(s, i), &v, NULL, NULL, NULL);
        if (*e != KV_OK)
            return i;
    }
    return i;
}

static void neighbour(const char *path, int grows)
{
    static const char zeros[65536];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    size_t n;

    if (fd < 0)
        return;
    if (!grows)
        (void)unlink(path);
    for (n = sizeof zeros; grows && n >= 4096;)
        if (write(fd, zeros, n) != (ssize_t)n)
            n /= 2;
    close(fd);
}

static long nth(const scene *s, long i, long n)
{
    return s->order == FORTH ? i : s->order == BACK ? n - 1 - i : (i * 7919 + 13) % n;
}

/* The order MIXED visits each once only when n is no multiple of 7919. */
static int delete_most(kv_ns *ns, const scene *s, long n, char *gone)
{
    long i, k;

    for (i = 0; i < n; i++) {
        k = nth(s, i, n);
        if (k % s->keep == 0 || gone[k])
            continue;
        if (!CHECK(kv_delete(ns, key, key_of(s, k), NULL, NULL, NULL) == KV_OK)) {
            fprintf(stderr, "  delete %ld of %ld: %s\n", i, n, kv_message());

            return 0;
        }
        gone[k] = 1;
    }
    return 1;
}

/* The index does not shrink. */
static int mostly_index(const scene *s)
{
    return s->value_len < 100 + 2 * s->key_len;
}

static int sound(kv *h, const char *when)
{
    if (CHECK(kv_check(h) == KV_OK))
        return 1;
    fprintf(stderr, "  %s: %s\n", when, kv_message());
    return 0;
}

/* The store fills the disk by itself, and empties it. */
static int by_itself(kv *h, kv_ns *ns, const scene *s, const char *dir, long *first, long *end)
{
    char *gone;
    long n, more, i, left;
    uint64_t counted;
    int e, good;

    n = fill(ns, s, 0, &e);
    if (!CHECK(e == KV_EFULL && n > 10) || !CHECK(strstr(kv_message(), dir) != NULL)) {
        fprintf(stderr, "  %ld keys, then %s: %s\n", n, kv_errname(e), kv_message());
        return 0;
    }
    for (i = 0; i < n; i++)
        if (!CHECK(is_there(ns, s, i)))
            return 0;
    if (!CHECK(kv_count(ns, NULL, &counted) == KV_OK && counted == (uint64_t)n) ||
        !sound(h, "filled"))
        return 0;
    gone = calloc((size_t)n, 1);
    good = delete_most(ns, s, n, gone) && sound(h, "most deleted");
    for (i = left = 0; good && i < n; i++) {
        good = CHECK(is_there(ns, s, i) == !gone[i]);
        left += !gone[i];
    }
    free(gone);
    if (!good || !CHECK(kv_count(ns, NULL, &counted) == KV_OK && counted == (uint64_t)left))
        return 0;
    more = fill(ns, s, n, &e) - n;
    if (!CHECK(e == KV_EFULL && more > (mostly_index(s) ? 0 : (n - left) / 3)))
        fprintf(stderr, "  %ld of %ld keys fit in the place of %ld\n", more, n, n - left);
    *first = n;
    *end = n + more;
    return sound(h, "filled again");
}

/* A neighbour takes what is left, also what cleaning frees, and goes. */
static int beside_another(kv *h, kv_ns *ns, const scene *s, const char *other, long first, long end)
{
    uint64_t n, dropped;
    int e, had;
    long i;

    neighbour(other, 1);
    (void)fill(ns, s, end, &e);
    CHECK(e == KV_EFULL);
    neighbour(other, 1);
    if (!CHECK(is_there(ns, s, first)) ||
        !CHECK(kv_persist(ns, key, key_of(s, first), &had) == KV_OK && !had))
        return 0;
    for (i = first; i < end; i += 2)
        if (!CHECK(kv_delete(ns, key, key_of(s, i), NULL, NULL, NULL) == KV_OK)) {
            fprintf(stderr, "  delete %ld of %ld beside a neighbour: %s\n", i, end, kv_message());
            return 0;
        }
    CHECK(kv_count(ns, NULL, &n) == KV_OK && n > 0);
    if (!CHECK(kv_drop(h, "n", 1, &dropped) == KV_OK && dropped == n) ||
        !CHECK(kv_count(ns, NULL, &n) == KV_OK && n == 0) || !sound(h, "dropped"))
        return 0;
    neighbour(other, 0);
    return 1;
}

/* Opened on the full disk: it is all there to be read, and deletes work. */
static int opened_again(const char *path, const char *other, const scene *s, kv_options *o, long n)
{
    uint64_t counted;
    kv_ns *ns;
    kv *h = NULL;
    long i, deleted = 0;
    int e = kv_open(path, o, &h);

    if (!CHECK(e == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return 0;
    }
    if (!CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK))
        return 0;
    CHECK(kv_count(ns, NULL, &counted) == KV_OK && counted == (uint64_t)n);
    for (i = 0; i < n; i += 3, deleted++) {
        e = kv_delete(ns, key, key_of(s, i), NULL, NULL, NULL);
        if (e == KV_EFULL && mostly_index(s))
            break; /* the new index is larger than the former one was: it took the reserves */
        if (!CHECK(e == KV_OK)) {
            fprintf(stderr, "  delete %ld of %ld after opening: %s\n", i, n, kv_message());
            break;
        }
    }
    (void)sound(h, "opened on a full disk");
    kv_ns_close(ns);
    kv_close(h);
    /* With not a page left only reading may work. */
    neighbour(other, 1);
    e = kv_open(path, o, &h);
    CHECK(e == KV_OK || e == KV_EFULL);
    if (e == KV_OK)
        kv_close(h);
    o->readonly = 1;
    if (!CHECK(kv_open(path, o, &h) == KV_OK))
        return 0;
    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK);
    CHECK(kv_count(ns, NULL, &counted) == KV_OK && counted == (uint64_t)(n - deleted));
    kv_ns_close(ns);
    kv_close(h);
    return 1;
}

static void on_a_full_disk(const char *dir, const scene *s)
{
    char path[400], other[400];
    long first, end;
    kv_options o;
    kv_ns *ns;
    kv *h = NULL;
    int e, good;

    snprintf(path, sizeof path, "%.380s/store", dir);
    snprintf(other, sizeof other, "%.380s/other", dir);
    kv_options_init(&o);
    o.thread = s->thread;
    o.sync = KV_SYNC_NONE;
    if (!CHECK(kv_open(path, &o, &h) == KV_OK) ||
        !CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK))
        return;
    good = by_itself(h, ns, s, dir, &first, &end) && beside_another(h, ns, s, other, first, end);
    end = good ? fill(ns, s, 0, &e) : 0;
    if (good && !CHECK(e == KV_EFULL && end > 10))
        fprintf(stderr, "  %ld keys after the neighbour went: %s\n", end, kv_message());
    good = good && sound(h, "filled a third time");
    kv_ns_close(ns);
    kv_close(h);
    if (good)
        (void)opened_again(path, other, s, &o, end);
}

/* ---- file systems --------------------------------------------------------------------- */

/* 1: mounted; 0: this cannot be done here. */
static int mounted(const char *dir, const scene *s)
{
    char image[420];

    if (s->disk == TMPFS)
        return disk_tmpfs(dir, s->kib);
    snprintf(image, sizeof image, "%s.img", dir);
    return disk_format(image, s->kib) && disk_mount(image, dir, "", NULL);
}

enum { HELD = 0, FAILED = 1, NOT_HERE = 9 };

static int one_round(const scene *s, int number)
{
    char dir[400], image[420];
    int status = 0;
    pid_t child;

    snprintf(dir, sizeof dir, "%s", at("disk"));
    child = check_fork();
    if (child == 0) {
        check_failures = check_count = 0;
        if (!disk_begin() || !mounted(dir, s))
            check_exit(NOT_HERE);
        alarm(600);
        on_a_full_disk(dir, s);
        (void)umount2(dir, MNT_DETACH);
        check_exit(check_failures ? FAILED : HELD);
    }
    if (!CHECK(child > 0 && waitpid(child, &status, 0) == child))
        return FAILED;
    snprintf(image, sizeof image, "%s.img", dir);
    (void)unlink(image);
    (void)rmdir(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE)
        return NOT_HERE;
    if (CHECK(WIFEXITED(status) && WEXITSTATUS(status) == HELD))
        return HELD;
    fprintf(stderr,
            "  round %d: status %x, %s of %u KiB, helper %d, keys of %u, values of %u%s, order %d, "
            "every %d-th stays\n",
            number, (unsigned)status, s->disk == EXT4 ? "ext4" : "tmpfs", s->kib, s->thread,
            s->key_len, s->value_len, s->value_mixed ? " on average" : "", s->order, s->keep);
    return FAILED;
}

static scene any_scene(int number, int ext4)
{
    static const unsigned sizes[] = {1024, 1500, 1024, 2048, 4096};
    static const unsigned keys[] = {8, 8, 20, 100, 511};
    static const unsigned values[] = {0, 10, 100, 900, 900, 4000, 12000};
    scene s;

    s.disk = ext4 && number % (getenv("KV_LONG") ? 10 : 50) == 9 ? EXT4 : TMPFS;
    s.thread = (int)roll(2);
    s.key_len = keys[roll(5)];
    s.value_len = values[roll(7)];
    /* Many small records take their time. */
    s.kib = s.disk == EXT4 ? 8192 : s.value_len < 100 ? sizes[roll(2)] : sizes[roll(5)];
    s.value_mixed = s.value_len > 0 && roll(2);
    s.order = (int)roll(3);
    s.keep = 2 + (int)roll(4);
    /* What was found once: deletes that were stuck. */
    if (number == 0 || (number == 9 && ext4)) {
        static const scene stuck[] = {{TMPFS, 0, FORTH, 4, 4096, 8, 900, 0},
                                      {EXT4, 0, 2, 2, 8192, 100, 900, 1}};
        s = stuck[number != 0];
    }
    return s;
}

int main(void)
{
    long rounds, i, done = 0, ext4 = 0;
    int has_ext4 = getenv("KV_SHORT") == NULL, got = HELD;
    int64_t began;
    scene s;

    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    model_start("test_full");
    model_keys();
    began = kv_os_monotonic();
    rounds = getenv("KV_ROUNDS") ? atol(getenv("KV_ROUNDS")) : getenv("KV_LONG") ? 5000 : 50;
    if (getenv("KV_SHORT"))
        rounds = 3;
    if (getuid() != 0) {
        printf("test_full: SKIPPED, it needs root\n");
        return 0;
    }
    for (i = 0; i < rounds && got != FAILED; i++) {
        s = any_scene((int)i, has_ext4);
        if (getenv("ONLY") && atol(getenv("ONLY")) != i)
            continue;
        got = one_round(&s, (int)i);
        if (got == NOT_HERE && s.disk == TMPFS) {
            printf("test_full: SKIPPED, mounting is not allowed here\n");
            remove_root();
            return 0;
        }
        if (got == NOT_HERE)
            has_ext4 = 0;
        done += got == HELD;
        ext4 += got == HELD && s.disk == EXT4;
    }
    remove_root();
    printf("%ld disks filled, %ld of them ext4%s; %.1f a second\n", done, ext4,
           has_ext4 || ext4 ? "" : " (SKIPPED: no loop mounts here)",
           (double)done * 1e9 / (double)(kv_os_monotonic() - began + 1));
    return check_done("test_full");
}
