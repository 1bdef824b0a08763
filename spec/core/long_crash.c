/* SPDX-License-Identifier: MIT
 *
 * long_crash.c - test_crash with more operations, and a death at every store of every recovery.
 *
 * Takes hours; part of `make torture`.
 */
#define CRASH_LONG 1
#define CRASH_NAME "long_crash"
#include "test_crash.c"
