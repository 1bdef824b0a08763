/* SPDX-License-Identifier: MIT
 *
 * slow_sync.c - a disk that takes a millisecond to sync, for LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
    struct timespec ms = {0, 1000000};
    int (*real)(int);

    *(void **)&real = dlsym(RTLD_NEXT, "fdatasync"); /* as dlsym's manual does it */
    nanosleep(&ms, NULL);
    return real(fd);
}
