/* SPDX-License-Identifier: MIT
 *
 * check.h - the whole test framework of the C tests: CHECK counts, and names file and line when it
 * fails.
 *
 * A failed check does not stop the test, so one run shows everything; return on CHECK's value (1
 * held, 0 not) where going on makes no sense. main ends with: return check_done("test_x");
 */
#ifndef KV_CHECK_H
#define KV_CHECK_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int check_count;
static int check_failures;

/* A message on stderr, also while stdout is a pipe that nobody reads. */
static inline int check_that(int held, const char *what, const char *file, int line)
{
    check_count++;
    if (!held) {
        check_failures++;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    }
    return held;
}

#define CHECK(cond) check_that(!!(cond), #cond, __FILE__, __LINE__)

/* Of a coverage build. */
void __gcov_dump(void) __attribute__((weak));

#if defined(__SANITIZE_ADDRESS__)
#define CHECK_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECK_ASAN
#endif
#endif

/* Threads of this process but for the caller that do not sleep. */
static inline int check_awake(void)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *one;
    char path[300], state;
    int awake = 0;
    FILE *f;

    while (d && (one = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", one->d_name);
        f = one->d_name[0] == '.' || atol(one->d_name) == gettid() ? NULL : fopen(path, "r");
        if (f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1)
            awake += state != 'S';
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return awake;
}

/* fork(). ASan's allocator keeps the locks that another thread, a store's helper, holds at that
 * moment, and the child would wait for them for ever: so it is done while the others sleep. */
static inline pid_t check_fork(void)
{
#ifdef CHECK_ASAN
    int tries;

    for (tries = 0; tries < 2000 && check_awake() > 0; tries++)
        usleep(500);
#endif
    return fork();
}

/* How a forked child of a test leaves: nothing that was set up before the fork happens twice. */
static inline void check_exit(int status)
{
    if (__gcov_dump)
        __gcov_dump();
    _exit(status);
}

static inline int check_done(const char *name)
{
    if (check_failures > 0) {
        fprintf(stderr, "%s: %d of %d checks failed\n", name, check_failures, check_count);
        return 1;
    }
    printf("%s: %d checks\n", name, check_count);
    return 0;
}

#endif
