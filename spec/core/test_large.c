/* SPDX-License-Identifier: MIT
 *
 * test_large.c - the files of large values go when nothing refers to them any more: after more
 * overwrites, deletes, drops and expiries than the queue of such files holds, with and without a
 * helper thread, and when a backup holds them for a while.
 */
#define _GNU_SOURCE
#include "share.h"

#define LARGE 20000 /* bytes; what goes to a file of its own in a small store */
#define MANY  (3 * KV_DEAD_BLOBS)

static const char *path;
static kv *h;
static kv_ns *ns;
static int threads; /* with a helper */

static void begin_case(const char *what)
{
    path = at(what);
    kv_test_clock_set(1000000);
    options.thread = threads;
    options.sync = KV_SYNC_NONE;
    h = open_store(path);
    ns = space(h);
}

/* Half a second is more than any helper needs. */
static void end_case(int files)
{
    int i, left = 0;

    for (i = 0; i < 100; i++) {
        CHECK(kv_sync(h) == KV_OK);
        left = count_files(path, "blob.");
        if (left == files)
            break;
        kv_os_sleep(5);
    }
    if (!CHECK(left == files))
        fprintf(stderr, "  %s: %d files, not %d\n", path, left, files);
    CHECK(kv_load(kv_st(h->s, KV_ST_LOST)) == 0);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
    remove_tree(path);
}

static kv_value large(int i)
{
    static char data[LARGE];
    kv_value v = {0};

    memcpy(data, &i, sizeof i);
    v.type = KV_STRING;
    v.data = data;
    v.len = sizeof data;
    return v;
}

static size_t name(char *to, int i)
{
    return (size_t)sprintf(to, "k%05d", i);
}

static void fill(int n, int64_t ttl)
{
    kv_write w = {0};
    kv_value v;
    char key[16];
    int i, bad = 0;

    w.flags = ttl ? KV_TTL : 0;
    w.ttl = ttl;
    for (i = 0; i < n; i++) {
        v = large(i);
        bad += kv_put(ns, key, name(key, i), &v, &w, NULL, NULL) != KV_OK;
    }
    CHECK(bad == 0 && count_files(path, "blob.") >= n);
}

static void overwritten(void)
{
    kv_value v;
    int i, bad = 0, most = 0;

    begin_case("overwritten");
    for (i = 0; i < MANY; i++) {
        v = large(i);
        bad += kv_put(ns, "k", 1, &v, NULL, NULL, NULL) != KV_OK;
        if (i % 16 == 0 && count_files(path, "blob.") > most)
            most = count_files(path, "blob.");
    }
    CHECK(bad == 0 && most <= KV_DEAD_BLOBS + 1);
    /* Nobody syncs, so a few may stay, and no more. */
    for (i = 0; i < 100 && count_files(path, "blob.") > KV_DEAD_BLOBS / 32 + 1; i++)
        kv_os_sleep(5);
    CHECK(count_files(path, "blob.") <= KV_DEAD_BLOBS / 32 + 1);
    end_case(1);
}

static void deleted(void)
{
    uint64_t n = 0;
    char key[16];
    int i, bad = 0;

    begin_case("deleted");
    fill(MANY, 0);
    for (i = 0; i < MANY / 2; i++)
        bad += kv_delete(ns, key, name(key, i), NULL, NULL, NULL) != KV_OK;
    CHECK(bad == 0 && kv_delete_prefix(ns, "k", 1, &n) == KV_OK && n == MANY - MANY / 2);
    end_case(0);
}

static void expired(void)
{
    uint64_t n = 0, all = 0;

    begin_case("expired");
    fill(MANY, 1000);
    kv_test_clock_set(1002000);
    do
        CHECK(kv_tick(h, 1000, &n) == KV_OK);
    while ((all += n) < MANY && n > 0);
    end_case(0);
}

/* The cleaner finds what was in a dropped namespace. */
static void dropped(void)
{
    uint64_t n = 0;
    int i;
    kv_ns *other;

    begin_case("dropped");
    fill(MANY, 0);
    CHECK(kv_drop(h, "n", 1, &n) == KV_OK && n == MANY);
    CHECK(kv_namespace(h, "m", 1, NULL, 0, 1, &other) == KV_OK);
    for (i = 0; i < 40; i++)
        CHECK(kv_tick(h, 1000, &n) == KV_OK && put(other, "k", "v") == KV_OK);
    kv_reclaim(h);
    kv_ns_close(other);
    end_case(0);
}

static void in_batches(void)
{
    static kv_item items[KV_DEAD_BLOBS];
    static char keys[KV_DEAD_BLOBS][16];
    int i, round;

    begin_case("batches");
    for (i = 0; i < KV_DEAD_BLOBS; i++) {
        items[i].len = name(keys[i], i);
        items[i].key = keys[i];
        items[i].value = large(0);
    }
    for (round = 0; round < 4; round++)
        CHECK(kv_put_many(ns, items, KV_DEAD_BLOBS, NULL, NULL) == KV_OK);
    end_case(KV_DEAD_BLOBS);
}

/* While somebody reads them all, none may go; writes and ticks go on, and know of what was lost. */
static void held(void)
{
    kv_value v;
    uint64_t n;
    int i, fd = -1, bad = 0;

    begin_case("held");
    fill(MANY, 1000);
    CHECK(kv_file_open(h->s->dir, "lock", KV_FILE_WRITE, &fd) == KV_OK &&
          kv_file_lock(fd, KV_PIN_BLOBS, 1, KV_RANGE_SHARED) == KV_OK);
    for (i = 0; i < KV_DEAD_BLOBS + 40; i++) {
        v = large(i);
        bad += kv_put(ns, "k00000", 6, &v, NULL, NULL, NULL) != KV_OK;
    }
    kv_test_clock_set(1002000);
    CHECK(bad == 0 && kv_tick(h, 1000, &n) == KV_OK);
    CHECK(kv_load(kv_st(h->s, KV_ST_LOST)) == 1);
    CHECK(count_files(path, "blob.") >= MANY);
    kv_file_close(fd);
    kv_ns_close(ns);
    kv_close(h);
    /* Alone, the next one sweeps. */
    h = open_store(path);
    ns = space(h);
    do
        CHECK(kv_tick(h, 1000, &n) == KV_OK);
    while (n > 0);
    end_case(1);
}

int main(void)
{
    if (!share_begin())
        return 2;
    for (threads = 0; threads < 2; threads++) {
        overwritten();
        deleted();
        expired();
        dropped();
        in_batches();
        held();
    }
    remove_tree(root);
    return check_done("test_large");
}
