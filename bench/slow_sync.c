/* SPDX-License-Identifier: MIT
 *
 * slow_sync.c - a disk that takes a millisecond to sync, or $SYNC_MS of them, for LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct timespec takes = {0, 1000000};

/* At once, since a server may clear its environment. */
__attribute__((constructor)) static void set_up(void)
{
    const char *ms = getenv("SYNC_MS");

    if (ms != NULL) {
        takes.tv_sec = atol(ms) / 1000;
        takes.tv_nsec = atol(ms) % 1000 * 1000000;
    }
}

int fdatasync(int fd)
{
    int (*real)(int);

    *(void **)&real = dlsym(RTLD_NEXT, "fdatasync"); /* as dlsym's manual does it */
    nanosleep(&takes, NULL);
    return real(fd);
}
