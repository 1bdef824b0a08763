/* SPDX-License-Identifier: MIT
 *
 * test_remount.c - the power fails under a real file system: two writers' store lies on an ext4 in
 * an image file; the image is copied while they write, and the copy is mounted and opened on
 * another boot.
 *
 * The copy is what the disk held at one moment: nothing was written to the device meanwhile, or it
 * is made again. It must open by itself and be a prefix of the store's history that holds
 * everything synced (lives.h). Every other life begins on such a copy. Needs root for the mounts;
 * without, it says that it was skipped.
 *
 * SEED=n repeats a run as far as the kernel does; KV_ROUNDS=n: so many copies.
 */
#define _GNU_SOURCE
#include "disk.h"
#include "lives.h"

#include <sys/wait.h>

#define DISK_KIB 8192

static char mounted_on[STATE_PATH], other_mount[STATE_PATH], disk[STATE_PATH], fresh[STATE_PATH];
static char device[32];
static char boot[40]; /* of this life */
static uint64_t again;

static void copy_image(const char *from, const char *to)
{
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC),
        out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t at = 0, hole;
    ssize_t n;

    if (in < 0 || out < 0 || ftruncate(out, DISK_KIB * 1024) != 0)
        image_die("copy");
    while ((at = lseek(in, at, SEEK_DATA)) >= 0) {
        hole = lseek(in, at, SEEK_HOLE);
        for (; at < hole; at += n) {
            n = pread(in, bytes,
                      hole - at < (off_t)sizeof bytes ? (size_t)(hole - at) : sizeof bytes, at);
            if (n <= 0 || pwrite(out, bytes, (size_t)n, at) != n)
                image_die("copy");
        }
    }
    close(in);
    close(out);
}

/* What the kernel has counted of writes to the device, and whether one is under way. */
static uint64_t device_writes(int *busy)
{
    char path[64], text[256];
    unsigned long long f[9] = {0};
    FILE *stat;

    snprintf(path, sizeof path, "/sys/block/%s/stat", device + strlen("/dev/"));
    stat = fopen(path, "r");
    if (!stat || !fgets(text, sizeof text, stat) ||
        sscanf(text, "%llu %llu %llu %llu %llu %llu %llu %llu %llu", &f[0], &f[1], &f[2], &f[3],
               &f[4], &f[5], &f[6], &f[7], &f[8]) != 9)
        image_die("no statistics of the device");
    fclose(stat);
    *busy = f[8] != 0;
    return f[4];
}

static void cut_make(const cut *c)
{
    uint64_t before, after;
    int busy, still;

    do {
        before = device_writes(&busy);
        copy_image(disk, c->path);
        after = device_writes(&still);
        again += busy || still || before != after;
    } while (busy || still || before != after);
}

static void next_boot(void)
{
    static int boots;

    snprintf(kv_test_boot, sizeof kv_test_boot, "boot %d", ++boots);
}

static int cut_open(const cut *c, const kv_options *o, kv **h)
{
    char store[STATE_PATH + 8];
    kv_options options = *o;
    int rc;

    if (!CHECK(disk_mount(c->path, other_mount, "", NULL)))
        image_die("mount");
    snprintf(store, sizeof store, "%s/store", other_mount);
    options.create = 1; /* the directory may not have been durable, if nothing was */
    next_boot();
    rc = kv_open(store, &options, h);
    snprintf(kv_test_boot, sizeof kv_test_boot, "%s", boot);
    return rc;
}

static void cut_drop(const cut *c)
{
    if (umount2(other_mount, 0) != 0)
        image_die("unmount");
    unlink(c->path);
}

static void before_call(enum call call, const char *what)
{
    (void)call;
    (void)what;
}

static void between(void)
{
}

static int one_life(int on_copy)
{
    cut next;
    int good;

    if (!on_copy)
        copy_image(fresh, disk);
    if (!CHECK(disk_mount(disk, mounted_on, image_below(2) ? "" : "data=journal", device)))
        return 0;
    creating = 1;
    next_boot();
    snprintf(boot, sizeof boot, "%s", kv_test_boot);
    good = begin_life() && live_on(between);
    if (!good)
        return 0;
    snprintf(next.path, sizeof next.path, "%.100s.next", disk);
    cut_make(&next);
    good = end_life(1);
    if (umount2(mounted_on, 0) != 0)
        image_die("unmount");
    if (rename(next.path, disk) != 0)
        image_die("rename");
    return good;
}

int main(void)
{
    uint64_t wanted = getenv("KV_ROUNDS")  ? (uint64_t)atoi(getenv("KV_ROUNDS"))
                      : getenv("KV_LONG")  ? 2000
                      : getenv("KV_SHORT") ? 2
                                           : 20;
    int64_t began = kv_os_monotonic();
    int i, good = 1;

    state_begin("test_remount");
    state_path(mounted_on, "live");
    state_path(other_mount, "cut");
    state_path(disk, "disk");
    state_path(fresh, "fresh");
    snprintf(live, sizeof live, "%.100s/store", mounted_on);
    cut_odds = 60;
    cut_after = 30;
    if (getuid() != 0 || !disk_begin() || !disk_format(fresh, DISK_KIB) ||
        !disk_mount(fresh, mounted_on, "", device) || umount2(mounted_on, 0) != 0) {
        printf("test_remount: SKIPPED, it needs root and loop mounts\n");
        state_clear();
        return 0;
    }
    for (i = 0; good && cuts < wanted; i++)
        good = one_life(i % 2);
    if (!good) {
        (void)umount2(mounted_on, MNT_DETACH);
        (void)umount2(other_mount, MNT_DETACH);
    }
    state_clear();
    printf("%llu copies of the disk in %d lives, %llu tails cut off, %llu operations in the middle "
           "of others, %llu copied again; %.1f a second\n",
           (unsigned long long)cuts, i, (unsigned long long)cuts_reported,
           (unsigned long long)in_middle, (unsigned long long)again,
           (double)cuts * 1e9 / (double)(kv_os_monotonic() - began + 1));
    return check_done("test_remount");
}
