/* SPDX-License-Identifier: MIT
 *
 * test_share.c - processes that come and go: attaching, growth while others have it mapped, deaths,
 * forks, hosts that close descriptors, stopped writers, readers without permission, openers who
 * die.
 *
 * KV_LONG: openers die at every store and system call, and not at some.
 */
#define _GNU_SOURCE
#include "share.h"

/* ---- attaching ------------------------------------------------------------------------ */

static void other_writes(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);

    CHECK(is(ns, "mine", "1") && is(ns, "yours", NULL));
    CHECK(put(ns, "yours", "2") == KV_OK && put(ns, "both", "b") == KV_OK);
    CHECK(stats_of(h).replayed == 0);
    kv_ns_close(ns);
    kv_close(h);
}

static void attaching(void)
{
    const char *path = at("attach");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    uint64_t rev;

    CHECK(put(ns, "mine", "1") == KV_OK && put(ns, "both", "a") == KV_OK);
    rev = kv_rev(h);
    CHECK(in_child(other_writes, (void *)(uintptr_t)path));
    CHECK(is(ns, "yours", "2") && is(ns, "both", "b") && kv_rev(h) == rev + 2);
    CHECK(put(ns, "both", "c") == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
    /* Nobody has it open, and nothing need be replayed. */
    CHECK(count_files(path, "index.") == 1);
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "both", "c") && is(ns, "yours", "2") && stats_of(h).replayed == 0 && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* Several processes write and read as fast as they can, and the store grows from nothing. */
#define CROWD 4
#define EACH  3000

typedef struct crowd {
    const char *path;
    int number;
} crowd;

static void one_of_many(void *arg)
{
    crowd *c = arg;
    kv *h = open_store(c->path);
    kv_ns *ns = space(h);
    kv_value by = {0}, sum;
    char key[24], value[120];
    int i, j;

    by.type = KV_INTEGER;
    by.integer = 1;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (i = 0; i < EACH; i++) {
        snprintf(key, sizeof key, "%d-%d", c->number, i);
        CHECK(put(ns, key, value) == KV_OK);
        CHECK(kv_incr(ns, "sum", 3, &by, NULL, &sum, NULL) == KV_OK);
        j = (int)(((unsigned)i * 2654435761u) % (unsigned)(i + 1));
        snprintf(key, sizeof key, "%d-%d", c->number, j);
        CHECK(is(ns, key, value));
    }
    kv_ns_close(ns);
    kv_close(h);
}

static void growing(void)
{
    const char *path = at("grow");
    crowd c[CROWD];
    pid_t child[CROWD];
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_range all = {0};
    kv_value v;
    uint64_t n;
    int i;

    for (i = 0; i < CROWD; i++) {
        c[i].path = path;
        c[i].number = i;
        child[i] = begin(one_of_many, &c[i]);
    }
    for (i = 0; i < CROWD; i++)
        CHECK(ends_well(child[i]));
    CHECK(kv_get_value(ns, "sum", 3, &v) == KV_OK && v.integer == CROWD * EACH);
    CHECK(kv_count(ns, &all, &n) == KV_OK && n == CROWD * EACH + 1);
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- deaths --------------------------------------------------------------------------- */

static void put_due(kv_ns *ns, const char *key, int64_t ttl)
{
    kv_value v = text_of("v");
    kv_write w = {0};

    w.flags = KV_TTL;
    w.ttl = ttl;
    CHECK(kv_put(ns, key, strlen(key), &v, &w, NULL, NULL) == KV_OK);
}

static void die_now(void)
{
    _exit(7);
}

#define DAY 86400000 /* ms; slots of the wheel so far away are hours long */

/* Fills the first level of the wheel's chunks, all of one slot, has it grow, and dies at the n-th
 * store of a write that takes a chunk of what is new. */
static void grows_and_dies(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    uint64_t *head = h->s->region.head->wheel, *used = &h->s->region.head->used[KV_TIMERS];
    char key[24];
    int n;

    for (n = 0; kv_load(used) < KV_TIMERS_FIRST || kv_load(&head[KV_WHEEL_COUNT]) % 7 != 0; n++) {
        snprintf(key, sizeof key, "%d", n);
        put_due(ns, key, DAY);
    }
    kv_test_die = die_now;
    kv_test_die_at = (int64_t)flag(0);
    put_due(ns, "last", DAY);
    _exit(check_failures ? 1 : 0);
}

/* Who recovers may not have mapped yet what the dead one used. */
static void mending_ahead(void)
{
    const char *path;
    char name[24];
    kv *h;
    kv_ns *ns;
    int status, lived = 0, n, grown = 0;

    clear_flags();
    options.thread = 0;
    for (n = 1; !lived && n < 200; n++) {
        snprintf(name, sizeof name, "ahead-%d", n);
        path = at(name);
        h = open_store(path);
        ns = space(h);
        set_flag(0, (uint64_t)n);
        status = status_of(begin(grows_and_dies, (void *)(uintptr_t)path));
        lived = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        CHECK(lived || (WIFEXITED(status) && WEXITSTATUS(status) == 7));
        CHECK(kv_region_room(&h->s->region, KV_TIMERS) == 0);
        if (!CHECK(put(ns, "mine", "1") == KV_OK))
            fprintf(stderr, "  death %d: %s\n", n, kv_message());
        CHECK(is(ns, "mine", "1") && kv_load(kv_st(h->s, KV_ST_CORRUPT)) == 0 && sound(h));
        grown += kv_load(&h->s->region.head->used[KV_TIMERS]) > KV_TIMERS_FIRST;
        kv_ns_close(ns);
        kv_close(h);
        remove_tree(path);
    }
    CHECK(lived && grown > 1);
    options.thread = 1;
}

static void writes_for_ever(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    char key[16], value[80];
    uint64_t i;

    for (i = flag(0) + 1;; i++) {
        snprintf(key, sizeof key, "k%u", (unsigned)(i % 50));
        snprintf(value, sizeof value, "%064u", (unsigned)i);
        if (put(ns, key, value) != KV_OK)
            _exit(5);
        set_flag(0, i);
    }
}

/* The only user is killed again and again; what it had been told was written is there. */
static void killing(void)
{
    const char *path = at("kill");
    kv *h;
    kv_ns *ns;
    char key[16], value[80], next[80];
    uint64_t done, from;
    int round;
    pid_t child;

    clear_flags();
    for (round = 0; round < 60; round++) {
        from = flag(0);
        child = begin(writes_for_ever, (void *)(uintptr_t)path);
        await(0, from + 1 + (uint64_t)(round * 37 % 200));
        kill_it(child);
        done = flag(0);
        h = open_store(path);
        ns = space(h);
        snprintf(key, sizeof key, "k%u", (unsigned)(done % 50));
        snprintf(value, sizeof value, "%064u", (unsigned)done);
        snprintf(next, sizeof next, "%064u", (unsigned)done + 50);
        CHECK(is(ns, key, value));
        CHECK(put(ns, "after", value) == KV_OK && is(ns, "after", value));
        if (round % 10 == 0)
            CHECK(sound(h));
        kv_ns_close(ns);
        kv_close(h);
    }
}

/* ---- forks ------------------------------------------------------------------------------ */

static void forking(void)
{
    const char *path = at("fork");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    int round, status;
    pid_t child;

    for (round = 0; round < 20; round++) {
        CHECK(put(ns, "k", "parent") == KV_OK);
        fflush(NULL);
        child = check_fork();
        if (child == 0) {
            kv *mine;
            kv_ns *space_of_mine;

            alarm(20);
            check_failures = 0;
            /* The handle of before attaches this process when it is used; or it is closed. */
            if (round % 3 != 0)
                CHECK(is(ns, "k", "parent") && put(ns, "k", "parent") == KV_OK);
            if (round % 2) {
                kv_ns_close(ns);
                kv_close(h);
            }
            mine = open_store(path);
            space_of_mine = space(mine);
            CHECK(is(space_of_mine, "k", "parent") && put(space_of_mine, "k", "child") == KV_OK);
            CHECK(sound(mine));
            kv_ns_close(space_of_mine);
            kv_close(mine);
            _exit(check_failures ? 1 : 0);
        }
        status = status_of(child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(is(ns, "k", "child"));
    }
    CHECK(sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* A host that closes every descriptor it does not know: the mappings go on, and nobody who comes
 * meanwhile makes the locks anew. */
static void closes_descriptors(void *arg)
{
    kv *h = open_store(arg);
    kv_ns *ns = space(h);
    int fd;

    CHECK(put(ns, "k", "1") == KV_OK);
    for (fd = 3; fd < 256; fd++)
        close(fd);
    CHECK(kv_lock_writer(h) == KV_OK);
    set_flag(0, 1);
    await(1, 1);
    kv_unlock_writer(h);
    CHECK(put(ns, "k", "2") == KV_OK && is(ns, "k", "2"));
    set_flag(2, 1);
    await(3, 1);
    CHECK(is(ns, "k", "4"));
    _exit(check_failures ? 1 : 0);
}

static void closed_descriptors(void)
{
    const char *path = at("closed");
    kv_value v = text_of("3");
    kv *h;
    kv_ns *ns;
    pid_t child;

    clear_flags();
    child = begin(closes_descriptors, (void *)(uintptr_t)path);
    await(0, 1);
    options.timeout = 100;
    h = open_store(path);
    options.timeout = 5000;
    CHECK(kv_namespace(h, "n", 1, NULL, 0, 1, &ns) == KV_OK && is(ns, "k", "1"));
    CHECK(kv_put(ns, "k", 1, &v, NULL, NULL, NULL) == KV_EBUSY);
    set_flag(1, 1);
    await(2, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "4") == KV_OK);
    set_flag(3, 1);
    CHECK(ends_well(child) && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* The same, and then the host opens files of its own, which get the numbers the store's had.
 * Nothing of the store's goes there, nothing is called durable that is not, and the end of the
 * store closes none of them. */
#define OTHERS 40

static void reuses_numbers(void *arg)
{
    const char *others = at("others");
    char bytes[1000], key[16], name[300];
    struct stat mine[OTHERS], now;
    int fd[OTHERS], i, n = 0, e = KV_OK, files = 0;
    kv_value v = {0};
    kv_ns *ns;
    kv *h;

    options.thread = 0;
    h = open_store(arg);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK && kv_sync(h) == KV_OK && put(ns, "k", "2") == KV_OK);
    for (i = 3; i < 256; i++)
        close(i);
    CHECK(mkdir(others, 0700) == 0);
    for (i = 0; i < OTHERS; i++) {
        snprintf(name, sizeof name, "%.200s/%d", others, i);
        fd[i] = i % 2 ? open(others, O_RDONLY | O_DIRECTORY) : open(name, O_RDWR | O_CREAT, 0600);
        files += i % 2 == 0;
        CHECK(fd[i] >= 0 && fstat(fd[i], &mine[i]) == 0);
    }
    memset(bytes, 'x', sizeof bytes);
    v.type = KV_STRING;
    v.data = bytes;
    v.len = sizeof bytes;
    for (n = 0; e == KV_OK && n < 10000; n++) {
        snprintf(key, sizeof key, "key%d", n);
        e = kv_put(ns, key, strlen(key), &v, NULL, NULL, NULL);
    }
    /* What is mapped takes some; then there is no way to more. */
    CHECK(e == KV_EIO && n > 1 && kv_sync(h) == KV_EIO);
    CHECK(is(ns, "k", "2") && is(ns, key, NULL));
    v.len = 1 << 20;
    v.data = calloc(1, v.len);
    CHECK(v.data != NULL && kv_put(ns, "large", 5, &v, NULL, NULL, NULL) == KV_EIO);
    CHECK(kv_backup(h, at("never"), NULL) != KV_OK);
    free((void *)(uintptr_t)v.data);
    kv_ns_close(ns);
    kv_close(h);
    for (i = 0; i < OTHERS; i++)
        CHECK(fstat(fd[i], &now) == 0 && now.st_ino == mine[i].st_ino &&
              (i % 2 || now.st_size == 0));
    CHECK(count_files(others, "") == files + 2); /* . and .. */
    /* Opened again it is as any other. */
    h = open_store(arg);
    ns = space(h);
    snprintf(key, sizeof key, "key%d", n - 2);
    CHECK(kv_exists(ns, key, strlen(key)) == KV_OK && put(ns, "k", "3") == KV_OK);
    CHECK(kv_sync(h) == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void reused_numbers(void)
{
    const char *path = at("reused");
    kv *h;
    kv_ns *ns;

    CHECK(in_child(reuses_numbers, (void *)(uintptr_t)path));
    h = open_store(path);
    ns = space(h);
    CHECK(is(ns, "k", "3") && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- stopped, replaced, without permission ----------------------------------------------- */

static void stopped(void)
{
    const char *path = at("stopped");
    kv *h = open_store(path);
    kv_ns *ns = space(h);
    kv_value v = text_of("x");
    pid_t child;
    int i, e, busy = 0;

    clear_flags();
    h->timeout = 20;
    child = begin(writes_for_ever, (void *)(uintptr_t)path);
    for (i = 0; i < 40; i++) {
        await(0, flag(0) + 3);
        kill(child, SIGSTOP);
        kv_os_sleep(2);
        CHECK(kv_get_value(ns, "k1", 2, &v) == KV_OK || flag(0) < 50);
        v = text_of("x");
        e = kv_put(ns, "mine", 4, &v, NULL, NULL, NULL);
        CHECK(e == KV_OK || e == KV_EBUSY);
        busy += e == KV_EBUSY;
        kill(child, SIGCONT);
    }
    kill_it(child);
    CHECK(put(ns, "mine", "y") == KV_OK && sound(h));
    (void)busy;
    kv_ns_close(ns);
    kv_close(h);
}

static void becomes_another(void *arg)
{
    kv *h = open_store(arg);

    CHECK(kv_lock_writer(h) == KV_OK && kv_lock_durable(h->s, 0) == KV_OK);
    execl("/bin/true", "true", (char *)NULL);
    _exit(9);
}

static void replaced(void)
{
    const char *path = at("exec");
    kv *h = open_store(path);
    kv_ns *ns = space(h);

    CHECK(in_child(becomes_another, (void *)(uintptr_t)path));
    CHECK(put(ns, "k", "1") == KV_OK && kv_sync(h) == KV_OK && sound(h));
    kv_ns_close(ns);
    kv_close(h);
}

static void reads_as_somebody_else(void *arg)
{
    kv *h, *w = NULL;
    kv_ns *ns;

    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(7);
    CHECK(kv_open(arg, &options, &w) == KV_EDENIED);
    options.readonly = 1;
    h = open_store(arg);
    ns = space(h);
    CHECK(!h->s->apart && is(ns, "k", "1") && sound(h));
    set_flag(0, 1);
    await(1, 1);
    CHECK(is(ns, "k", "2") && put(ns, "k", "3") == KV_EREADONLY);
    kv_ns_close(ns);
    kv_close(h);
}

static void without_permission(void)
{
    const char *path = at("permitted");
    char command[900];
    kv *h;
    kv_ns *ns;
    pid_t child;

    if (getuid() != 0)
        return; /* somebody else cannot be played */
    clear_flags();
    h = open_store(path);
    ns = space(h);
    CHECK(put(ns, "k", "1") == KV_OK);
    snprintf(command, sizeof command,
             "chmod 755 %s; chown -R 65534:65534 %s; chmod 444 %s/*; chmod 555 %s", root, path,
             path, path);
    CHECK(system(command) == 0);
    child = begin(reads_as_somebody_else, (void *)(uintptr_t)path);
    await(0, 1);
    CHECK(put(ns, "k", "2") == KV_OK);
    set_flag(1, 1);
    CHECK(ends_well(child));
    kv_ns_close(ns);
    kv_close(h);
}

/* ---- opening and closing ---------------------------------------------------------------- */

/* How many mappings of files below `path` this process may write to. */
static int writable_mappings(const char *path)
{
    char line[600];
    FILE *f = fopen("/proc/self/maps", "r");
    char rights[8];
    int n = 0;

    while (f && fgets(line, sizeof line, f))
        if (strstr(line, path) && sscanf(line, "%*s %7s", rights) == 1)
            n += rights[1] == 'w';
    if (f)
        fclose(f);
    return n;
}

static void reads_and_maps(void *arg)
{
    kv *h;
    kv_ns *ns;

    options.readonly = 1;
    h = open_store(arg);
    ns = space(h);
    CHECK(is(ns, "k", "1") && put(ns, "k", "2") == KV_EREADONLY && !h->s->apart);
    CHECK(writable_mappings(arg) == 0);
    kv_ns_close(ns);
    kv_close(h);
}

/* What reads only cannot even by mistake change what others use. */
static void mapped_for_reading(void)
{
    const char *path = at("mapped");
    kv *h = open_store(path);
    kv_ns *ns = space(h);

    CHECK(put(ns, "k", "1") == KV_OK && writable_mappings(path) > 2);
    kv_ns_close(ns);
    kv_close(h);
    CHECK(writable_mappings(path) == 0);
    reads_and_maps((void *)(uintptr_t)path);
    options.readonly = 0;
}

static void comes_and_goes(void *arg)
{
    kv_value by = {0}, sum;
    int i;

    by.type = KV_INTEGER;
    by.integer = 1;
    for (i = 0; i < 60; i++) {
        kv *h = open_store(arg);
        kv_ns *ns = space(h);

        CHECK(kv_incr(ns, "sum", 3, &by, NULL, &sum, NULL) == KV_OK);
        kv_ns_close(ns);
        kv_close(h);
    }
}

static void coming_and_going(void)
{
    const char *path = at("doors");
    pid_t child[CROWD];
    kv_value v;
    kv *h;
    kv_ns *ns;
    int i;

    for (i = 0; i < CROWD; i++)
        child[i] = begin(comes_and_goes, (void *)(uintptr_t)path);
    for (i = 0; i < CROWD; i++)
        CHECK(ends_well(child[i]));
    h = open_store(path);
    ns = space(h);
    CHECK(kv_get_value(ns, "sum", 3, &v) == KV_OK && v.integer == CROWD * 60);
    CHECK(sound(h) && *kv_st(h->s, KV_ST_USERS) == 1 && count_files(path, "index.") == 1);
    kv_ns_close(ns);
    kv_close(h);
}

/* An opener that dies at any store to shared memory and at any system call, while the store is
 * made, attached to, or rebuilt: the next one finds it right. */
static int count_call(const char *call, const char *what)
{
    (void)call;
    (void)what;
    kv_test_store();
    return 0;
}

typedef struct death {
    const char *path;
    int64_t at;
    int boot; /* 1: the first of another boot */
    int hurt; /* 1: the index is damaged */
} death;

static void opens_and_dies(void *arg)
{
    death *d = arg;
    kv *h;

    if (d->boot)
        snprintf(kv_test_boot, sizeof kv_test_boot, "boot %lld", (long long)d->at);
    if (d->hurt) {
        h = open_store(d->path);
        kv_store(kv_st(h->s, KV_ST_CORRUPT), 1);
        kv_close(h);
    }
    kv_test_syscall = count_call;
    kv_test_die_at = d->at;
    if (kv_open(d->path, &options, &h) == KV_OK)
        kv_close(h);
    kv_test_die_at = 0;
    kv_test_syscall = NULL;
}

static void dying_openers(void)
{
    death d;
    kv *h;
    kv_ns *ns;
    int kind, status, deaths;
    int64_t step = getenv("KV_LONG") ? 1 : 97, seed = 1;

    if (step > 1) { /* others each time */
        seed = getenv("SEED") ? atoll(getenv("SEED")) : kv_os_monotonic() / 1000 % 97;
        printf("test_share: SEED=%lld\n", (long long)seed);
    }
    options.thread = 0;
    for (kind = 0; kind < 4; kind++) {
        if (step > 1)
            step = kind == 1 ? 5 : 97; /* attaching stores little */
        d.path = at(kind == 0   ? "die-new"
                    : kind == 1 ? "die-attach"
                    : kind == 2 ? "die-boot"
                                : "die-hurt");
        d.boot = kind == 2;
        d.hurt = kind == 3;
        if (kind != 0) {
            h = open_store(d.path);
            ns = space(h);
            CHECK(put(ns, "k", "1") == KV_OK);
            kv_ns_close(ns);
            kv_close(h);
        }
        for (deaths = 0, d.at = 1 + (seed + kind * 31) % step;; d.at += step) {
            status = status_of(begin(opens_and_dies, &d));
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                break;
            if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 77))
                break;
            deaths++;
            if (d.boot)
                snprintf(kv_test_boot, sizeof kv_test_boot, "boot %lld", (long long)d.at);
            h = open_store(d.path);
            ns = space(h);
            CHECK((kind == 0 || is(ns, "k", "1")) && put(ns, "more", "2") == KV_OK);
            if (!CHECK(sound(h)))
                fprintf(stderr, "  kind %d, death at %lld\n", kind, (long long)d.at);
            kv_ns_close(ns);
            kv_close(h);
            CHECK(count_files(d.path, "index.") == 1);
            if (kind == 0)
                remove_tree(d.path);
        }
        CHECK(deaths > 0);
        kv_test_boot[0] = 0;
    }
    options.thread = 1;
}

int main(void)
{
    if (!share_begin())
        return 2;
    attaching();
    growing();
    mending_ahead();
    killing();
    forking();
    closed_descriptors();
    reused_numbers();
    stopped();
    replaced();
    without_permission();
    mapped_for_reading();
    coming_and_going();
    dying_openers();
    remove_tree(root);
    return check_done("test_share");
}
