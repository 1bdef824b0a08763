/* SPDX-License-Identifier: MIT
 *
 * test_share_index.c - which index counts, and one moment of it: rebuilt while others use the old
 * one, copied directories, other boots, a failed sync, checks and backups beside writers, syncs for
 * processes that are gone.
 */
#define _GNU_SOURCE
#include "share.h"

/* ---- another index takes the place of the one that is used ----------------------------- */

static void reopens_damaged(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(stats_of(h).replayed > 0 && is(ns, "k", "1") && put(ns, "k", "2") == KV_OK && sound(h));
    set_flag(0, 1);
    await(1, 1);
    CHECK(is(ns, "k", "3") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void superseding(void)
{
    const char *path = at("superseded");
    kv_range all = {0};
    kv_record r;
    kv *h = open_store(path), *second, *reader;
    kv_ns *ns = space(h), *other, *third;
    kv_iter *it = malloc(kv_iter_size());
    uint64_t number;
    char key[16];
    pid_t child;
    int i;

    clear_flags();
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    third = space(reader);
    second = open_store(path);
    other = space(second);
    for (i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "i%03d", i);
        CHECK(put(ns, key, "v") == KV_OK);
    }
    CHECK(put(ns, "k", "1") == KV_OK && is(other, "k", "1") && is(third, "k", "1"));
    CHECK(kv_iter_init(it, other, &all) == KV_OK);
    for (i = 0; i < 100; i++)
        CHECK(kv_iter_next(it, &r) == KV_OK);
    number = h->s->generation;
    kv_store(kv_st(h->s, KV_ST_CORRUPT), 1); /* as recovery says when it finds no sense */
    CHECK(put(ns, "k", "x") == KV_ECORRUPT && is(ns, "k", "1"));
    child = begin(reopens_damaged, (void *)(uintptr_t)path);
    await(0, 1);
    /* Each handle moves at its next call, whatever that is. */
    CHECK(is(third, "k", "2"));
    for (; i < 300; i++)
        CHECK(kv_iter_next(it, &r) == KV_OK && r.key_len == 4);
    CHECK(kv_iter_next(it, &r) == KV_OK && r.key_len == 1 && kv_iter_next(it, &r) == KV_ENOTFOUND);
    CHECK(put(ns, "k", "3") == KV_OK && is(other, "k", "3") && is(third, "k", "3"));
    CHECK(h->s->generation > number && h->s == second->s && kv_rev(h) == kv_rev(second));
    set_flag(1, 1);
    CHECK(ends_well(child));
    CHECK(count_files(path, "index.") == 1 && sound(h) && sound(reader));
    /* The same where a handle of this process is what opens it anew. */
    kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
    CHECK(put(ns, "k", "x") == KV_ECORRUPT);
    kv_ns_close(other);
    kv_close(second);
    second = open_store(path);
    other = space(second);
    CHECK(stats_of(second).replayed > 0 && put(other, "k", "4") == KV_OK);
    CHECK(is(ns, "k", "4") && is(third, "k", "4") && put(ns, "k", "5") == KV_OK);
    CHECK(h->s == second->s && sound(h));
    free(it);
    kv_ns_close(other);
    kv_close(second);
    kv_ns_close(third);
    kv_close(reader);
    kv_ns_close(ns);
    kv_close(h);
}

/* A writer that waits for the lock while the index is rebuilt goes on in the new one. */
static void waits_and_writes(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "first", "1") == KV_OK); /* has mapped all there is */
    set_flag(0, 1);
    await(2, 1);
    CHECK(put(ns, "waited", "1") == KV_OK && is(ns, "k", "1"));
    CHECK(h->s->generation == flag(1));
    kv_ns_close(ns);
    kv_close(h);
}

/* Until somebody waits for the lock: the C library notes that in the first word of a mutex. */
static void await_waiter(kv_lock *lock)
{
    const uint32_t waiters = 0x80000000;
    int i;

    for (i = 0;
         i < 2000 && !(__atomic_load_n((uint32_t *)(void *)lock, __ATOMIC_SEQ_CST) & waiters); i++)
        kv_os_sleep(1);
}

static void superseded_while_waiting(void)
{
    const char *path = at("waiting");
    char command[500];
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    uint64_t n = h->s->generation;
    pid_t child;

    clear_flags();
    set_flag(1, n + 1);
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(waits_and_writes, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(kv_lock_writer(h) == KV_OK);
    set_flag(2, 1);
    await_waiter(&h->s->locks->writer);
    /* What a rebuild does, with the lock held throughout. */
    snprintf(command, sizeof command, "cp '%s/index.%u' '%s/index.%u'", path, (unsigned)n, path,
             (unsigned)n + 1);
    CHECK(system(command) == 0);
    kv_store(&h->s->locks->current, n + 1);
    kv_unlock_writer(h);
    CHECK(ends_well(child));
    CHECK(is(ns, "waited", "1") && h->s->generation == n + 1 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* A reader is stopped in the middle of a call: the index is replaced, and what it was about to read
 * goes. Flags that count: 4, it is to be made ready for that; 1, it is; 0, it is to be done; 3, it
 * was. Flag 2: that is all; 5: the index stays. */
static char filler[9000];

static void replaces_and_retires(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    uint64_t turn, last, done;

    memset(filler, 'x', sizeof filler - 1);
    for (turn = 0; await(4, turn + 1), !flag(2); turn++) {
        last = kv_pos_id(kv_load(&h->s->log.w[KV_LOG_TAIL]));
        /* The next ones are mapped as spares. */
        while (kv_pos_id(kv_load(&h->s->log.w[KV_LOG_TAIL])) < last + 4)
            CHECK(put(ns, "filler", filler) == KV_OK);
        CHECK(put(ns, "late", "early") == KV_OK);
        last = kv_pos_id(kv_load(&h->s->log.w[KV_LOG_TAIL]));
        set_flag(1, turn + 1);
        await(0, turn + 1);
        if (!flag(5)) {
            CHECK(kv_lock_writer(h) == KV_OK);
            kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
            kv_unlock_writer(h);
            kv_ns_close(ns);
            kv_close(h);
            h = open_store(arg);
            ns = space(h);
            CHECK(stats_of(h).replayed > 0);
        }
        CHECK(put(ns, "late", "late") == KV_OK);
        while (kv_load(&h->s->log.w[KV_LOG_FREED]) <= last)
            CHECK(put(ns, "filler", filler) == KV_OK && kv_sync(h) == KV_OK &&
                  kv_tick(h, 1000, &done) == KV_OK);
        set_flag(3, turn + 1);
    }
    kv_ns_close(ns);
    kv_close(h);
}

static uint64_t replaced; /* times */
static const char *stop_at, *stop_what;

static int stop_once(const char *call, const char *what)
{
    if (stop_at && strcmp(call, stop_at) == 0 && strstr(what, stop_what)) {
        stop_at = NULL;
        set_flag(0, ++replaced);
        await(3, replaced);
    }
    return 0;
}

/* The next call named so is the moment; before it there is a key in a segment this process does not
 * know. */
static void stop_before(const char *call, const char *what)
{
    set_flag(4, replaced + 1);
    await(1, replaced + 1);
    stop_at = call;
    stop_what = what;
}

static void superseded_in_a_call(void)
{
    const char *path = at("stopped"), *copied = at("stopped-copy");
    kv_ns_info info;
    uint64_t n;
    kv_value v;
    kv_iter *it = malloc(kv_iter_size());
    kv_record r;
    kv *h, *copy;
    kv_ns *ns, *again;
    pid_t child;
    int i;

    clear_flags();
    replaced = 0;
    options.thread = 0;
    options.sync = KV_SYNC_NONE;
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(replaces_and_retires, (void *)(uintptr_t)path);
    kv_test_syscall = stop_once;
    for (i = 0; i < 2; i++) { /* both the usual and the thorough way */
        stop_before("open", "log.");
        CHECK(i ? kv_get(ns, "late", 4, &r) == KV_OK && memcmp(r.value.data, "late", 4) == 0
                : is(ns, "late", "late"));
        CHECK(stop_at == NULL);
    }
    stop_before("open", "log.");
    CHECK(kv_exists(ns, "late", 4) == KV_OK && stop_at == NULL);
    stop_before("open", "log.");
    CHECK(kv_iter_init(it, ns, NULL) == KV_OK);
    for (n = 0; (i = kv_iter_next(it, &r)) == KV_OK; n++)
        if (r.key_len == 4)
            CHECK(r.value.len == 4 && memcmp(r.value.data, "late", 4) == 0);
    CHECK(i == KV_ENOTFOUND && n == 3 && stop_at == NULL);
    /* A namespace's name lies there. */
    stop_before("open", "log.");
    again = NULL;
    CHECK(kv_namespace(h, "late", 4, NULL, 0, 0, &again) == KV_ENOTFOUND);
    info.name_len = 0;
    CHECK(kv_ns_next(h, &info) == KV_OK && info.name_len == 1);
    CHECK(is(ns, "late", "late") && stop_at == NULL);
    /* One moment of the store: of the index that counts. */
    stop_before("flock", "lock");
    CHECK(kv_backup(h, copied, &n) == KV_OK && n >= 3 && stop_at == NULL);
    copy = open_store(copied);
    again = space(copy);
    CHECK(is(again, "late", "late") && is(again, "k", "1"));
    kv_ns_close(again);
    kv_close(copy);
    /* The same where the index stays: a segment goes when its file is open already. */
    set_flag(5, 1);
    stop_before("mmap", "log.");
    CHECK(is(ns, "late", "late") && stop_at == NULL);
    set_flag(5, 0);
    /* What lies in the store's own memory is no longer what was seen. */
    stop_before(NULL, NULL);
    CHECK(is(ns, "late", "early") && is(ns, "late", "early"));
    CHECK(kv_peek(ns, "late", 4, &v) == KV_OK && v.len == 5 && memcmp(v.data, "early", 5) == 0 &&
          kv_peek_held(ns) && ns->peeked.p != NULL);
    set_flag(0, ++replaced);
    await(3, replaced);
    CHECK(memcmp(v.data, "early", 5) != 0 && !kv_peek_held(ns));
    CHECK(is(ns, "late", "late") && is(ns, "k", "1"));
    set_flag(2, 1);
    set_flag(4, replaced + 1);
    CHECK(ends_well(child));
    kv_test_syscall = NULL;
    CHECK(sound(h));
    options.thread = 1;
    options.sync = KV_SYNC_INTERVAL;
    free(it);
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- copies, other boots --------------------------------------------------------------- */

static void copy_tree(const char *from, const char *to)
{
    char command[500];

    snprintf(command, sizeof command, "cp -a '%s' '%s'", from, to);
    CHECK(system(command) == 0);
}

static void copying(void)
{
    const char *path = at("original"), *copy = at("copy"), *late = at("late");
    kv *h = open_store(path), *c;
    kv_ns *ns = space(h), *cns;
    uint64_t rev;

    CHECK(put(ns, "k", "1") == KV_OK);
    /* While the lock is held, as it would lie in a copy for ever. */
    CHECK(kv_lock_writer(h) == KV_OK);
    copy_tree(path, copy);
    kv_unlock_writer(h);
    c = open_store(copy);
    cns = space(c);
    CHECK(stats_of(c).replayed > 0 && is(cns, "k", "1") && put(cns, "k", "copy") == KV_OK);
    CHECK(is(ns, "k", "1") && put(ns, "k", "2") == KV_OK && is(cns, "k", "copy"));
    CHECK(sound(c) && sound(h));
    kv_ns_close(cns);
    kv_close(c);
    rev = kv_rev(h);
    kv_ns_close(ns);
    kv_close(h);
    copy_tree(path, late);
    c = open_store(late);
    CHECK(stats_of(c).replayed > 0 && kv_rev(c) == rev && sound(c));
    kv_close(c);
}

static void dies_with_all_locks(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "2") == KV_OK);
    CHECK(kv_lock_durable(h->s, 0) == KV_OK && kv_lock_writer(h) == KV_OK);
    kv_store(kv_st(h->s, KV_ST_KEYS), 12345); /* so that only a replay brings it right */
    set_flag(0, 1);
    pause();
}

/* The image of a boot that is over, its locks held by nobody that ever comes back. */
static void rebooting(void)
{
    const char *path = at("reboot");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_locks *l;
    char stale[sizeof(kv_lock)];
    pid_t child;

    clear_flags();
    CHECK(put(ns, "k", "1") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    child = begin(dies_with_all_locks, (void *)(uintptr_t)path);
    await(0, 1);
    {
        char name[300];
        int fd;

        snprintf(name, sizeof name, "%s/lock", path);
        fd = open(name, O_RDWR);
        l = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    memcpy(stale, &l->writer, sizeof stale);
    kill_it(child);
    memcpy(&l->writer, stale, sizeof stale); /* a power cut hands no lock on */
    munmap(l, KV_PAGE);
    snprintf(kv_test_boot, sizeof kv_test_boot, "the next boot");
    h = open_store(path);
    ns = space(h);
    CHECK(stats_of(h).replayed > 0 && is(ns, "k", "2") && put(ns, "k", "3") == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
    h = open_store(path);
    CHECK(stats_of(h).replayed == 0);
    kv_close(h);
    kv_test_boot[0] = 0;
}

/* A reader of before a reboot's first writer follows once there is one. */
static void reading_before(void)
{
    const char *path = at("before");
    kv *h = open_store(path), *reader;
    kv_ns *ns = space(h), *there;

    CHECK(put(ns, "k", "1") == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
    snprintf(kv_test_boot, sizeof kv_test_boot, "another boot");
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    there = space(reader);
    CHECK(reader->s->apart && is(there, "k", "1") && sound(reader));
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "2") == KV_OK && is(there, "k", "2") && !reader->s->apart);
    CHECK(put(ns, "k", "3") == KV_OK && is(there, "k", "3"));
    kv_ns_close(ns);
    kv_close(h);
    CHECK(is(there, "k", "3") && sound(reader));
    kv_ns_close(there);
    kv_close(reader);
    kv_test_boot[0] = 0;
}

static void in_other_namespace(void *arg)
{
    kv *h = NULL;

    kv_test_pid_ns = 4711;
    CHECK(kv_open(arg, &options, &h) == KV_EBUSY && strstr(kv_message(), "namespace") != NULL);
    options.readonly = 1;
    h = open_store(arg);
    kv_close(h);
    options.readonly = 0;
    set_flag(0, 1);
    await(1, 1);
    h = open_store(arg);
    CHECK(stats_of(h).replayed == 0 && sound(h));
    kv_close(h);
}

static void namespaces_of_processes(void)
{
    const char *path = at("container");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    pid_t child;

    clear_flags();
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(in_other_namespace, (void *)(uintptr_t)path);
    await(0, 1);
    kv_ns_close(ns);
    kv_close(h);
    set_flag(1, 1);
    CHECK(ends_well(child));
}

/* `lock` taken away, or the index, while they are used. */
static void tampering(void)
{
    const char *path = at("tampered");
    char name[300];
    kv *h = open_store(path), *c = NULL;
    kv_ns *ns = space(h);
    pid_t child;

    CHECK(put(ns, "k", "1") == KV_OK);
    snprintf(name, sizeof name, "%s/index.%llu", path, (unsigned long long)h->s->generation);
    CHECK(unlink(name) == 0);
    clear_flags();
    child = begin(reopens_damaged, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "3") == KV_OK);
    set_flag(1, 1);
    CHECK(ends_well(child) && sound(h));
    snprintf(name, sizeof name, "%s/lock", path);
    CHECK(unlink(name) == 0);
    fflush(NULL);
    child = check_fork();
    if (child == 0)
        _exit(kv_open(path, &options, &c) == KV_EBUSY ? 0 : 1);
    CHECK(status_of(child) == 0);
    CHECK(put(ns, "k", "4") == KV_OK && is(ns, "k", "4"));
    kv_ns_close(ns);
    kv_close(h);
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "k", "4") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- a failed sync ---------------------------------------------------------------------- */

static int fail_syncs(const char *call, const char *what)
{
    (void)what;
    return strcmp(call, "fdatasync") == 0 ? EIO : 0;
}

static void meets_broken(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    set_flag(0, 1);
    await(1, 1);
    CHECK(put(ns, "no", "1") == KV_EIO && is(ns, "unsure", "1") && is(ns, "k", "1"));
    set_flag(2, 1);
    await(3, 1);
    CHECK(put(ns, "yes", "1") == KV_OK && is(ns, "unsure", "1") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void failing_sync(void)
{
    const char *path = at("broken");
    kv *h, *again = NULL;
    kv_ns *ns, *other;
    uint64_t dev, ino[2];
    char name[300];
    int i, fd;
    pid_t child;

    clear_flags();
    options.sync = KV_SYNC_ALWAYS;
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK);
    child = begin(meets_broken, (void *)(uintptr_t)path);
    await(0, 1);
    snprintf(name, sizeof name, "%s/log.00000001", path);
    kv_test_syscall = fail_syncs;
    CHECK(put(ns, "unsure", "1") == KV_EIO);
    kv_test_syscall = NULL;
    set_flag(1, 1);
    await(2, 1);
    CHECK(put(ns, "no", "2") == KV_EIO);
    /* Opened again, here or elsewhere, it takes writes for everybody: what was not known durable
     * has been written to a file of its own. */
    for (i = 0; i < 2; i++) {
        fd = open(name, O_RDONLY);
        CHECK(fd >= 0 && kv_file_stat(fd, &dev, &ino[i]) == KV_OK);
        close(fd);
        if (i == 0)
            again = open_store(path);
    }
    CHECK(ino[0] != ino[1]);
    other = space(again);
    CHECK(put(other, "yes", "2") == KV_OK && is(other, "unsure", "1") && is(other, "no", NULL));
    set_flag(3, 1);
    CHECK(ends_well(child));
    CHECK(put(ns, "yes", "3") == KV_OK && is(other, "yes", "3") && sound(h));
    options.sync = KV_SYNC_INTERVAL;
    kv_ns_close(other);
    kv_close(again);
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- one moment of a live store --------------------------------------------------------- */

static void overwrites_for_ever(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    char key[24], *value = calloc(1, 40001);
    kv_value v = text_of("");
    uint64_t i;

    v.data = value;
    for (i = 1; !flag(1); i++) {
        snprintf(key, sizeof key, "o%u", (unsigned)(i * 2654435761u % 400));
        v.len = i % 50 == 0 ? 40000 : 200; /* large ones have files */
        memset(value, 'a' + (int)(i % 26), v.len);
        CHECK(kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL) == KV_OK);
        set_flag(0, i);
    }
    free(value);
    kv_ns_close(ns);
    kv_close(h);
}

/* All of each value is of one write. */
static int uniform(kv *h, uint64_t *n)
{
    kv_ns *ns = space(h);
    kv_iter *it = malloc(kv_iter_size());
    kv_range all = {0};
    kv_record r;
    int e = kv_iter_init(it, ns, &all), same = 1;
    uint32_t i;

    for (*n = 0; e == KV_OK && (e = kv_iter_next(it, &r)) == KV_OK; ++*n)
        for (i = 1; i < r.value.len; i++)
            same &= r.value.data[i] == r.value.data[0];
    free(it);
    kv_ns_close(ns);
    if (e != KV_ENOTFOUND)
        fprintf(stderr, "  %s\n", kv_message());
    return same && e == KV_ENOTFOUND;
}

static void moments(void)
{
    const char *path = at("moments"), *to;
    kv *h = open_store(path), *copy, *reader;
    uint64_t records, n, oldest, before;
    char name[40];
    pid_t child;
    int i;

    clear_flags();
    child = begin(overwrites_for_ever, (void *)(uintptr_t)path);
    await(0, 2000);
    options.readonly = 1;
    reader = open_store(path);
    options.readonly = 0;
    oldest = kv_load(&h->s->log.w[KV_LOG_OLDEST]);
    for (i = 0; i < 6; i++) {
        CHECK(sound(h) && sound(reader));
        before = flag(0);
        snprintf(name, sizeof name, "backup-%d", i);
        to = at(name);
        CHECK(kv_backup(i % 2 ? reader : h, to, &records) == KV_OK);
        copy = open_store(to);
        CHECK(uniform(copy, &n) && n == records && n == 400 && sound(copy));
        kv_close(copy);
        await(0, before + 1000);
    }
    /* Segments went by meanwhile: the moments were held, and nobody for longer. */
    CHECK(kv_load(&h->s->log.w[KV_LOG_OLDEST]) > oldest);
    set_flag(1, 1);
    CHECK(ends_well(child));
    CHECK(uniform(h, &n) && n == 400 && sound(h));
    kv_close(reader);
    kv_close(h);
    h = open_store(path);
    CHECK(sound(h) && uniform(h, &n) && n == 400);
    kv_close(h);
}

/* Segments that go while somebody holds them keep their bytes, and are freed when he is done. */
static void holding(void)
{
    const char *path = at("held");
    kv *h;
    kv_ns *ns;
    kv_db *shadow = calloc(1, sizeof *shadow);
    uint64_t tail, done;
    uint32_t first;
    const char *bytes;
    char key[16], value[400];
    int i;

    options.thread = 0;
    h = open_store(path);
    ns = space(h);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    CHECK(put(ns, "0", "first") == KV_OK);
    CHECK(kv_shadow_open(h->s, shadow, &tail) == KV_OK);
    first = (uint32_t)kv_load(&h->s->log.w[KV_LOG_OLDEST]);
    for (i = 0; i < 4000; i++) {
        snprintf(key, sizeof key, "%d", i % 20);
        CHECK(put(ns, key, value) == KV_OK);
        if (i % 100 == 0)
            CHECK(kv_tick(h, 1000, &done) == KV_OK);
    }
    CHECK(kv_load(&h->s->log.w[KV_LOG_OLDEST]) > first + 3);
    CHECK(kv_load(&h->s->log.w[KV_LOG_FREED]) == first);
    CHECK(kv_log_mapped(&shadow->log, first, &bytes) != 0);
    CHECK(kv_shadow_replay(shadow, tail) == KV_OK && *kv_st(shadow, KV_ST_KEYS) == 1);
    kv_shadow_close(shadow);
    CHECK(kv_maintain(h->s, 1000, 0) == KV_OK);
    CHECK(kv_load(&h->s->log.w[KV_LOG_FREED]) > first + 3);
    free(shadow);
    options.thread = 1;
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- syncs for others -------------------------------------------------------------------- */

static void writes_and_dies(void *arg)
{
    kv *h;
    kv_ns *ns;

    options.thread = 0;
    h = open_store(arg);
    ns = space(h);
    CHECK(put(ns, "k", "left") == KV_OK);
    _exit(check_failures ? 1 : 0); /* without closing */
}

static int comes_true(kv *h)
{
    int i;

    for (i = 0; i < 5000; i++) {
        if (kv_load(&h->s->log.w[KV_LOG_SYNCED]) == kv_load(&h->s->log.w[KV_LOG_TAIL]))
            return 1;
        kv_os_sleep(1);
    }
    return 0;
}

static void syncing_for_others(void)
{
    const char *path = at("synced");
    kv *h;
    kv_ns *ns;

    options.interval = 20;
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK && comes_true(h));
    /* Its own helper has nothing of its own to do. */
    CHECK(in_child(writes_and_dies, (void *)(uintptr_t)path) && comes_true(h));
    kv_ns_close(ns);
    kv_close(h);
    CHECK(in_child(writes_and_dies, (void *)(uintptr_t)path));
    h = open_store(path);
    CHECK(comes_true(h)); /* whoever opens next */
    kv_close(h);
    options.interval = 1000;
}

/* A sync is good for what was there when it began, and for nothing that came meanwhile. */
static void writes_meanwhile(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    set_flag(2, 1);
    await(0, 1);
    CHECK(put(ns, "late", "1") == KV_OK);
    set_flag(1, 1);
    await(0, 2);
    kv_ns_close(ns);
    kv_close(h);
}

static int while_syncing(const char *call, const char *what)
{
    (void)what;
    if (strcmp(call, "fdatasync") == 0 && flag(0) == 0) {
        set_flag(0, 1);
        await(1, 1);
    }
    return 0;
}

static void writing_while_syncing(void)
{
    const char *path = at("meanwhile");
    uint64_t *w, tail;
    kv *h;
    kv_ns *ns;
    pid_t child;

    clear_flags();
    options.thread = 0;
    options.sync = KV_SYNC_NONE;
    h = open_store(path);
    ns = space(h);
    w = h->s->log.w;
    CHECK(put(ns, "k", "1") == KV_OK);
    tail = kv_load(&w[KV_LOG_TAIL]);
    child = begin(writes_meanwhile, (void *)(uintptr_t)path);
    await(2, 1);
    kv_test_syscall = while_syncing;
    CHECK(kv_sync(h) == KV_OK && flag(1) == 1);
    kv_test_syscall = NULL;
    CHECK(kv_load(&w[KV_LOG_SYNCED]) == tail && kv_load(&w[KV_LOG_TAIL]) > tail);
    CHECK(stats_of(h).synced_rev == -1);
    CHECK(kv_sync(h) == KV_OK && kv_load(&w[KV_LOG_SYNCED]) == kv_load(&w[KV_LOG_TAIL]));
    set_flag(0, 2);
    CHECK(ends_well(child) && is(ns, "late", "1"));
    options.thread = 1;
    options.sync = KV_SYNC_INTERVAL;
    kv_ns_close(ns);
    kv_close(h);
}

int main(void)
{
    if (!share_begin())
        return 2;
    superseding();
    superseded_while_waiting();
    superseded_in_a_call();
    copying();
    rebooting();
    reading_before();
    namespaces_of_processes();
    tampering();
    failing_sync();
    moments();
    holding();
    syncing_for_others();
    writing_while_syncing();
    remove_tree(root);
    return check_done("test_share_index");
}
