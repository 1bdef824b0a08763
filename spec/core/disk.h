/* SPDX-License-Identifier: MIT
 *
 * disk.h - small file systems of a test's own: tmpfs, and ext4 in an image file behind a loop
 * device. They need root, and vanish with the process: its mounts are nobody else's.
 */
#ifndef KV_SPEC_DISK_H
#define KV_SPEC_DISK_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Mounts of this process from now on are its own. 0: not allowed. */
static inline int disk_begin(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "", MS_REC | MS_PRIVATE, "") == 0;
}

static inline int disk_tmpfs(const char *dir, unsigned kib)
{
    char text[64];

    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return 0;
    snprintf(text, sizeof text, "size=%uk,mode=700", kib);
    return mount("none", dir, "tmpfs", 0, text) == 0;
}

/* An ext4 file system with the smallest journal. 0: this cannot be done here. */
static inline int disk_format(const char *image, unsigned kib)
{
    char text[2000];

    snprintf(text, sizeof text,
             "truncate -s 0 '%s' && truncate -s %uk '%s' && "
             "mkfs.ext4 -q -F -m 0 -O ^resize_inode -J size=1 '%s' 2>/dev/null",
             image, kib, image, image);
    return system(text) == 0;
}

/* A device over the image, which goes when nobody uses it any more. The number is told, and the
 * open descriptor returned; -1: none. */
static inline int disk_loop(const char *image, char name[32])
{
    struct loop_config c;
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1, tries, n;

    memset(&c, 0, sizeof c);
    c.fd = (unsigned)open(image, O_RDWR | O_CLOEXEC);
    c.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    for (tries = 0; control >= 0 && (int)c.fd >= 0 && tries < 100; tries++) {
        n = ioctl(control, LOOP_CTL_GET_FREE);
        snprintf(name, 32, "/dev/loop%d", n);
        loop = n < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
        if (loop < 0 || ioctl(loop, LOOP_CONFIGURE, &c) == 0)
            break;
        close(loop); /* somebody else was quicker */
        loop = -1;
        if (errno != EBUSY)
            break;
    }
    if ((int)c.fd >= 0)
        close((int)c.fd);
    if (control >= 0)
        close(control);
    return loop;
}

/* device: NULL, or where its name goes. */
static inline int disk_mount(const char *image, const char *dir, const char *how, char *device)
{
    char name[32];
    int loop, ok;

    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return 0;
    loop = disk_loop(image, name);
    if (loop < 0)
        return 0;
    ok = mount(name, dir, "ext4", 0, how) == 0;
    close(loop);
    if (device)
        memcpy(device, name, sizeof name);
    return ok;
}

#endif
