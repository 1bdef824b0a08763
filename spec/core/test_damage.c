/* SPDX-License-Identifier: MIT
 *
 * test_damage.c - small closed stores, damaged: bytes flipped, zeroed and set in every file, every
 * length of the log. A store opens as it was, or as it was earlier when the damage lies above what
 * was durable, or says so; it never crashes, hangs, or gives a value that was not written.
 *
 * A batch of cases runs in a child of its own, which says in shared memory where it is.
 */
#define _GNU_SOURCE
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define T0     1900000000000LL
#define STATES 64
#define FILES  16
/* A case that takes more of the processor counts as hanging; valgrind is some thirty times slower.
 * One that waits for ever is ended by WATCHDOG: on a busy machine time alone says nothing. */
#define SLOW_MS  (getenv("KV_SHORT") ? 60000 : 2000)
#define WATCHDOG 300 /* s */

static int64_t cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- what was written ---- */

typedef struct state {
    char *text;
    size_t len;
} state;

static state states[STATES]; /* after each step */
static int steps, durable;   /* states[durable..] may be what is there after damage above it */
static char *history;        /* every (namespace, key, value, revision) there ever was */
static size_t history_len;

static void append(char **to, size_t *len, const char *p, size_t n)
{
    *to = realloc(*to, *len + n);
    if (*to == NULL)
        abort();
    memcpy(*to + *len, p, n);
    *len += n;
}

/* One record as text; equal records and no others have equal text. */
static void describe(const char *ns, const kv_record *r, char **to, size_t *len)
{
    char head[300];
    int n = snprintf(head, sizeof head, "\n<%s %u %d %u %lld %.17g %u %llu %llu %lld %lld %lld>",
                     ns, (unsigned)r->key_len, (int)r->value.type, (unsigned)r->value.len,
                     (long long)r->value.integer, r->value.number, (unsigned)r->meta_len,
                     (unsigned long long)r->rev, (unsigned long long)r->id, (long long)r->created,
                     (long long)r->updated, (long long)r->expires);

    append(to, len, head, (size_t)n);
    append(to, len, r->key, r->key_len);
    if (r->value.len)
        append(to, len, r->value.data, r->value.len);
    if (r->meta_len)
        append(to, len, r->meta, r->meta_len);
}

typedef struct dump {
    char *text;
    size_t len;
    int corrupt; /* some records could not be read */
    int failed;  /* with a code that is none of damage's, or a record that never was */
} dump;

static int was_written(const char *text, size_t len)
{
    return memmem(history, history_len, text, len) != NULL;
}

static void dump_store(kv *h, dump *d, int any)
{
    static const char *const names[] = {"first", "second"};
    kv_iter *it = malloc(kv_iter_size());
    several some;
    kv_record r;
    char key[16];
    kv_ns *ns;
    size_t i, from;
    int e, k;

    memset(d, 0, sizeof *d);
    for (i = 0; i < 2; i++) {
        e = kv_namespace(h, names[i], strlen(names[i]), NULL, 0, 0, &ns);
        if (e != KV_OK) {
            d->corrupt |= e == KV_ECORRUPT;
            d->failed |= e != KV_ECORRUPT && e != KV_ENOTFOUND;
            continue;
        }
        e = kv_iter_init(it, ns, NULL);
        several_begin(&some, (int)i);
        while (e == KV_OK && (e = several_next(&some, it, &r)) == KV_OK) {
            from = d->len;
            describe(names[i], &r, &d->text, &d->len);
            if (any)
                d->failed |= !was_written(d->text + from, d->len - from);
        }
        d->corrupt |= e == KV_ECORRUPT;
        d->failed |= e != KV_ECORRUPT && e != KV_ENOTFOUND;
        for (k = 0; k < 20; k++) {
            char *text = NULL;
            size_t len = 0;

            snprintf(key, sizeof key, "key%02d", k);
            e = kv_get(ns, key, 5, &r);
            d->corrupt |= e == KV_ECORRUPT;
            d->failed |= e != KV_OK && e != KV_ECORRUPT && e != KV_ENOTFOUND;
            if (e != KV_OK)
                continue;
            describe(names[i], &r, &text, &len);
            d->failed |= !was_written(text, len);
            free(text);
        }
        kv_ns_close(ns);
    }
    free(it);
}

/* ---- the store, and copies of its files ---- */

typedef struct image {
    char name[64];
    char *bytes;
    size_t size;
} image;

static image files[FILES];
static int file_count;
static char store[400], master[400];

static char *path_in(const char *dir, const char *name)
{
    static char path[500];

    snprintf(path, sizeof path, "%.380s/%.100s", dir, name);
    return path;
}

static void load_files(const char *dir)
{
    struct dirent *entry;
    DIR *d = opendir(dir);

    file_count = 0;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        image *f = &files[file_count];
        struct stat st;
        int fd;

        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "index", 5) == 0 ||
            file_count == FILES)
            continue;
        snprintf(f->name, sizeof f->name, "%.60s", entry->d_name);
        fd = open(path_in(dir, f->name), O_RDONLY);
        if (fd < 0 || fstat(fd, &st) != 0)
            exit(1);
        f->size = (size_t)st.st_size;
        f->bytes = malloc(f->size + 1);
        if (f->bytes == NULL || pread(fd, f->bytes, f->size, 0) != (ssize_t)f->size)
            exit(1);
        close(fd);
        file_count++;
    }
    closedir(d);
}

static image *file_named(const char *prefix)
{
    int i;

    for (i = 0; i < file_count; i++)
        if (strncmp(files[i].name, prefix, strlen(prefix)) == 0)
            return &files[i];
    fprintf(stderr, "no file %s\n", prefix);
    exit(1);
}

static void write_file(const image *f)
{
    int fd = open(path_in(store, f->name), O_RDWR | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || pwrite(fd, f->bytes, f->size, 0) != (ssize_t)f->size)
        exit(3);
    close(fd);
}

/* Whether the file is what the image says. */
static int is_whole(const image *f)
{
    static char bytes[1 << 20];
    struct stat st;
    ssize_t n;
    int fd;

    if (lstat(path_in(store, f->name), &st) != 0 || !S_ISREG(st.st_mode) ||
        (size_t)st.st_size != f->size || (fd = open(path_in(store, f->name), O_RDONLY)) < 0)
        return 0;
    n = pread(fd, bytes, sizeof bytes, 0);
    close(fd);
    return n == (ssize_t)f->size && memcmp(bytes, f->bytes, f->size) == 0;
}

static void restore_all(void)
{
    struct dirent *entry;
    DIR *d;
    int i;

    if (mkdir(store, 0700) != 0 && errno != EEXIST)
        exit(3);
    d = opendir(store);
    while (d != NULL && (entry = readdir(d)) != NULL) {
        for (i = 0; i < file_count && strcmp(files[i].name, entry->d_name) != 0; i++)
            continue;
        if (entry->d_name[0] != '.' && (i == file_count || !is_whole(&files[i])))
            (void)unlink(path_in(store, entry->d_name));
    }
    closedir(d);
    for (i = 0; i < file_count; i++)
        if (!is_whole(&files[i]))
            write_file(&files[i]);
}

/* Whether the directory is what the images say but for file `but`, which is as in `changed`. */
static int unchanged(const image *but, const char *changed, size_t size)
{
    struct dirent *entry;
    DIR *d = opendir(store);
    static char p[1 << 20];
    int i, n = 0, same = 1;

    while (d != NULL && (entry = readdir(d)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(d);
    for (i = 0; i < file_count && same; i++) {
        const char *want = &files[i] == but ? changed : files[i].bytes;
        size_t len = &files[i] == but ? size : files[i].size;
        int fd = open(path_in(store, files[i].name), O_RDONLY);

        if (strcmp(files[i].name, "lock") == 0) {
            close(fd); /* whoever has the store writes it */
            continue;
        }
        same = fd >= 0 && pread(fd, p, 1 << 20, 0) == (ssize_t)len && memcmp(p, want, len) == 0;
        close(fd);
    }
    return same && n == file_count;
}

/* ---- building ---- */

static void note(kv *h)
{
    dump d;

    if (steps == STATES)
        abort();
    /* So that each state's records are in the history before they are looked for in it. */
    dump_store(h, &d, 0);
    append(&history, &history_len, d.text ? d.text : "", d.len);
    states[steps].text = d.text;
    states[steps++].len = d.len;
}

static kv_value text(const char *s, size_t len)
{
    kv_value v = {KV_STRING, 0, NULL, 0, 0};

    v.data = s;
    v.len = (uint32_t)len;
    return v;
}

/* Some of everything a log can hold. filler: bytes of values that move on to another segment. Steps
 * from `sync_at` on are only in memory when the files are copied. */
static void build(size_t filler, int sync_at, int copy_open)
{
    static const kv_value numbers[] = {
        {KV_INTEGER, 0, NULL, -7, 0}, {KV_NUMBER, 0, NULL, 0, 1.5}, {KV_NULL, 0, NULL, 0, 0}};
    kv_options o;
    kv_write w = {0};
    kv_item items[4];
    kv_ns *a, *b, *c;
    kv_value v;
    uint64_t n;
    kv *h;
    int i;
    char key[16];

    for (i = 0; i < steps; i++)
        free(states[i].text);
    for (i = 0; i < file_count; i++)
        free(files[i].bytes);
    free(history);
    history = NULL;
    history_len = 0;
    steps = durable = file_count = 0;
    snprintf(master, sizeof master, "%s", at("master"));
    snprintf(store, sizeof store, "%s", at("store"));
    remove_files(master);
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    if (kv_open(master, &o, &h) != KV_OK || kv_namespace(h, "first", 5, "d", 1, 1, &a) != KV_OK ||
        kv_namespace(h, "second", 6, NULL, 0, 1, &b) != KV_OK ||
        kv_namespace(h, "third", 5, NULL, 0, 1, &c) != KV_OK) {
        fprintf(stderr, "%s\n", kv_message());
        exit(1);
    }
    note(h);
    for (i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "key%02d", i);
        v = text(model_noise + i * 10, (size_t)i * 9);
        w.flags = i % 2 ? KV_META : 0;
        w.meta = "{\"m\":1}";
        w.meta_len = 7;
        CHECK(kv_put(i % 2 ? a : b, key, 5, &v, &w, NULL, NULL) == KV_OK);
        note(h);
    }
    for (; filler > 0; filler = filler > 9000 ? filler - 9000 : 0) {
        v = text(model_noise + filler % 5000, filler > 9000 ? 9000 : filler);
        CHECK(kv_put(b, "filler", 6, &v, NULL, NULL, NULL) == KV_OK);
        note(h);
    }
    CHECK(kv_put(c, "gone", 4, &numbers[0], NULL, NULL, NULL) == KV_OK);
    note(h);
    CHECK(kv_drop(h, "third", 5, &n) == KV_OK);
    note(h);
    v = text(model_noise, 17000);
    CHECK(kv_put(a, "key10", 5, &v, NULL, NULL, NULL) == KV_OK);
    note(h);
    if (sync_at) {
        CHECK(kv_sync(h) == KV_OK);
        kv_log_mark(&h->s->log); /* what a later sync would have written */
        durable = steps - 1;
    }
    for (i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "key%02d", i);
        w.flags = KV_TTL;
        w.ttl = 1000000 + i;
        CHECK(kv_put(a, key, 5, &numbers[i], &w, NULL, NULL) == KV_OK);
        note(h);
    }
    CHECK(kv_expire(a, "key01", 5, 5000000) == KV_OK);
    note(h);
    CHECK(kv_delete(b, "key02", 5, NULL, NULL, NULL) == KV_OK);
    note(h);
    memset(items, 0, sizeof items);
    for (i = 0; i < 4; i++) {
        items[i].key = i == 3 ? "key00" : i == 2 ? "key13" : i == 1 ? "key12" : "key11";
        items[i].len = 5;
        items[i].value = text(model_noise + 100, 20 + (size_t)i);
    }
    CHECK(kv_put_many(a, items, 4, NULL, NULL) == KV_OK);
    note(h);
    v = text("last", 4);
    CHECK(kv_put(a, "key00", 5, &v, NULL, NULL, NULL) == KV_OK);
    note(h);
    kv_ns_close(a);
    kv_ns_close(b);
    kv_ns_close(c);
    if (copy_open) {
        load_files(master);
        kv_close(h);
    } else {
        CHECK(kv_sync(h) == KV_OK);
        durable = steps - 1;
        /* Not as a sync=none handle would: closed in order. */
        h->sync = KV_SYNC_INTERVAL;
        kv_close(h);
        load_files(master);
    }
    restore_all();
}

/* ---- one case ---- */

typedef struct shared {
    long at, opened, earlier, corrupt, told, bad;
    int64_t slowest;
    char what[200];
} shared;

static shared *now_at;

static void bad_case(const char *what, const char *why)
{
    if (now_at->bad++ < 5)
        fprintf(stderr, "%s: %s (%s)\n", what, why, kv_message());
}

/* The store's dump is one of states[from..], or could not be read in places. */
static int is_state(const dump *d, int from)
{
    int i;

    for (i = steps - 1; i >= from; i--)
        if (states[i].len == d->len &&
            (d->len == 0 || memcmp(states[i].text, d->text, d->len) == 0))
            return i;
    return -1;
}

/* file `f` is as it is now; what: for messages. `any`: as bytes it has on disk. */
static void try_open(const image *f, const char *bytes, size_t size, const char *what, int thorough)
{
    kv_options o;
    dump d;
    kv *h;
    int e, i, opened;
    int64_t began = cpu_ms();

    alarm(WATCHDOG);
    kv_options_init(&o);
    o.thread = 0;
    o.create = 0;
    o.sync = KV_SYNC_NONE;
    e = kv_open(store, &o, &h);
    opened = e == KV_OK;
    if (e == KV_OK) {
        dump_store(h, &d, 1);
        i = d.corrupt ? steps : is_state(&d, durable);
        if (d.failed || i < 0)
            bad_case(what, "opened with wrong data");
        if (i >= 0 && i < steps - 1) {
            now_at->earlier++;
            if (kv_report(h)[0] == 0)
                bad_case(what, "an earlier state, and no report");
        }
        e = kv_check(h);
        if (e != (d.corrupt ? KV_ECORRUPT : KV_OK))
            bad_case(what, "check");
        if (d.corrupt)
            now_at->told++;
        now_at->opened++;
        free(d.text);
        /* It takes writes, and is found again. */
        if (thorough && !d.corrupt) {
            kv_ns *ns;
            kv_record r;
            kv_value v = text("more", 4);

            if (kv_namespace(h, "first", 5, NULL, 0, 1, &ns) != KV_OK)
                bad_case(what, "namespace");
            for (i = 0; i < 40; i++) {
                v.data = model_noise + i;
                v.len = 4000;
                if (kv_put(ns, "more", 4, &v, NULL, NULL, NULL) != KV_OK)
                    bad_case(what, "put");
            }
            kv_ns_close(ns);
            kv_close(h);
            e = kv_open(store, &o, &h);
            if (e != KV_OK) {
                bad_case(what, "second opening");
                h = NULL;
            } else {
                if (kv_namespace(h, "first", 5, NULL, 0, 1, &ns) != KV_OK ||
                    kv_get(ns, "more", 4, &r) != KV_OK || r.value.len != 4000 ||
                    memcmp(r.value.data, v.data, 4000) != 0)
                    bad_case(what, "what was written later");
                kv_ns_close(ns);
            }
        }
        kv_close(h);
    } else if (e == KV_ECORRUPT || e == KV_EUNSUPPORTED) {
        now_at->corrupt++;
        if (!unchanged(f, bytes, size))
            bad_case(what, "refused, and changed all the same");
    } else {
        bad_case(what, kv_errname(e));
    }
    if (!opened && thorough) {
        /* Readonly and salvage: what can be read was written. */
        o.readonly = 1;
        e = kv_open(store, &o, &h);
        if (e == KV_OK) {
            dump_store(h, &d, 1);
            if (d.failed)
                bad_case(what, "readonly gave what was never written");
            free(d.text);
            kv_close(h);
            if (!unchanged(f, bytes, size))
                bad_case(what, "readonly changed something");
        } else if (e != KV_ECORRUPT && e != KV_EUNSUPPORTED) {
            bad_case(what, "readonly");
        }
        o.readonly = 0;
        o.salvage = 1;
        e = kv_open(store, &o, &h);
        if (e == KV_OK) {
            dump_store(h, &d, 1);
            if (d.failed)
                bad_case(what, "salvage gave what was never written");
            if (!d.corrupt && kv_check(h) != KV_OK)
                bad_case(what, "salvage left something unsound");
            free(d.text);
            kv_close(h);
            o.salvage = 0;
            e = kv_open(store, &o, &h);
            if (e != KV_OK)
                bad_case(what, "a salvaged store does not open");
            else
                kv_close(h);
        } else if (e != KV_ECORRUPT && e != KV_EUNSUPPORTED) {
            bad_case(what, "salvage");
        }
        opened = 1;
    }
    began = cpu_ms() - began;
    if (began > now_at->slowest)
        now_at->slowest = began;
    if (began > SLOW_MS)
        bad_case(what, "took too long");
    if (opened)
        restore_all();
    else
        write_file(f);
    alarm(0);
}

/* Runs cases first, first + 1, ... of a kind in children; `one` returns 0 behind the last. */
static void run(const char *kind, int (*one)(long n))
{
    enum { BATCH = 300 };
    long first = 0, total;
    int more = 1, status;

    now_at->opened = now_at->earlier = now_at->corrupt = now_at->told = now_at->bad = 0;
    now_at->slowest = 0;
    while (more) {
        pid_t child = check_fork();

        if (child == 0) {
            long n;

            for (n = first; n < first + BATCH; n++) {
                now_at->at = n;
                if (!one(n))
                    check_exit(1);
            }
            check_exit(0);
        }
        if (!CHECK(child > 0 && waitpid(child, &status, 0) == child))
            return;
        if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1)) {
            fprintf(stderr, "%s: case %ld, %s: status %x\n", kind, now_at->at, now_at->what,
                    (unsigned)status);
            restore_all();
            first = now_at->at + 1;
            continue;
        }
        more = WEXITSTATUS(status) == 0;
        first += BATCH;
    }
    total = now_at->opened + now_at->corrupt;
    CHECK(now_at->bad == 0);
    check_count += (int)total;
    if (getenv("VERBOSE"))
        fprintf(stderr,
                "%s: %ld cases: %ld opened (%ld as they were earlier, %ld say corrupt later), %ld "
                "refused; slowest %lld ms\n",
                kind, total, now_at->opened, now_at->earlier, now_at->told, now_at->corrupt,
                (long long)now_at->slowest);
}

/* ---- kinds of damage ---- */

static const image *target;
static size_t *places; /* offsets to damage, each in CHANGES ways */
static size_t place_count;
static int thorough_every = 97;

enum { CHANGES = 10 };

static void damage_byte(size_t off, int change)
{
    char b = target->bytes[off], was = b;
    char *copy;
    int fd;

    b = change < 8 ? (char)(b ^ 1 << change) : change == 8 ? 0 : (char)0xff;
    if (b == was)
        return;
    snprintf(now_at->what, sizeof now_at->what, "%s, byte %zu: %02x to %02x", target->name, off,
             (unsigned char)was, (unsigned char)b);
    copy = malloc(target->size);
    memcpy(copy, target->bytes, target->size);
    copy[off] = b;
    fd = open(path_in(store, target->name), O_RDWR);
    if (fd < 0 || pwrite(fd, &b, 1, (off_t)off) != 1)
        exit(3);
    close(fd);
    try_open(target, copy, target->size, now_at->what,
             (off + (size_t)change) % (size_t)thorough_every == 0);
    free(copy);
}

static int each_byte(long n)
{
    if ((size_t)n >= place_count * CHANGES)
        return 0;
    if (getenv("KV_SHORT") && n % 173 != 0)
        return 1;
    damage_byte(places[(size_t)n / CHANGES], (int)(n % CHANGES));
    return 1;
}

/* One change at each place. */
static int each_byte_once(long n)
{
    if ((size_t)n >= place_count)
        return 0;
    if (getenv("KV_SHORT") && n % 29 != 0)
        return 1;
    damage_byte(places[n], (int)((n * 7 + (long)(model_seed % 10)) % CHANGES));
    return 1;
}

static void cut_to(size_t size)
{
    snprintf(now_at->what, sizeof now_at->what, "%s, cut to %zu bytes", target->name, size);
    if (truncate(path_in(store, target->name), (off_t)size) != 0)
        exit(3);
    try_open(target, target->bytes, size, now_at->what, (int)(size % (size_t)thorough_every) == 0);
}

static int each_length(long n)
{
    if ((size_t)n >= place_count)
        return 0;
    if (getenv("KV_SHORT") && n % 53 != 0)
        return 1;
    cut_to(places[n]);
    return 1;
}

/* Blocks of 512 bytes zeroed, and filled with another's. */
static int each_block(long n)
{
    size_t blocks = target->size / 512, i = (size_t)n / 2;
    char *copy;

    if (i >= blocks || i * 512 >= places[0])
        return 0;
    if (getenv("KV_SHORT") && n % 37 != 0)
        return 1;
    snprintf(now_at->what, sizeof now_at->what, "%s, block %zu %s", target->name, i,
             n % 2 ? "of another" : "zero");
    copy = malloc(target->size);
    memcpy(copy, target->bytes, target->size);
    if (n % 2)
        memcpy(copy + i * 512, target->bytes + (i + 1) % blocks * 512, 512);
    else
        memset(copy + i * 512, 0, 512);
    if (memcmp(copy, target->bytes, target->size) != 0) {
        image changed = *target;

        changed.bytes = copy;
        write_file(&changed);
        try_open(target, copy, target->size, now_at->what, 1);
    }
    free(copy);
    return 1;
}

static void every_place(const image *f, size_t used, size_t then_each)
{
    size_t i;

    target = f;
    free(places);
    places = malloc((f->size + 1) * sizeof *places);
    place_count = 0;
    for (i = 0; i < f->size; i += i < used ? 1 : then_each)
        places[place_count++] = i;
}

static size_t used_of(const image *f)
{
    size_t n = f->size;

    while (n > 0 && f->bytes[n - 1] == 0)
        n--;
    return n;
}

static void closed_store(void)
{
    image *log, *meta;
    size_t used, i, n;
    int all = getenv("KV_LONG") != NULL;

    build(0, 0, 0);
    log = file_named("log.00000001");
    used = used_of(log);
    every_place(log, used, 3001);
    run("log, every byte", each_byte);
    every_place(log, used + 8, getenv("KV_LONG") ? 4 : 1009);
    run("log, every length", each_length);
    places[0] = used + 512;
    run("log, every block", each_block);
    every_place(file_named("log.00000002"), 0, 4099);
    run("spare", each_byte_once);
    run("spare, lengths", each_length);
    meta = file_named("meta");
    every_place(meta, all ? meta->size : 130, 97);
    for (i = 0, n = place_count; !all && i < 130; i++)
        places[n++] = KV_PAGE + i; /* its other slot */
    place_count = n;
    run("meta, every byte", each_byte);
    every_place(meta, 140, 211);
    run("meta, lengths", each_length);
    every_place(file_named("lock"), all ? KV_PAGE : 256, 61);
    run("lock", each_byte);
    every_place(file_named("blob."), all ? file_named("blob.")->size : 80, 331);
    run("blob", each_byte);
    run("blob, lengths", each_length);
}

/* Several segments: the headers that chain them. */
static void chained_store(void)
{
    static const char *const names[] = {"log.00000001", "log.00000002", "log.00000003"};
    image *log;
    size_t i;

    build(100000, 0, 0);
    for (i = 0; i < 2; i++) {
        log = file_named(names[i]);
        every_place(log, i == 0 && getenv("KV_LONG") ? used_of(log) : 150, 1499);
        run(names[i], each_byte);
        every_place(log, 200, 491);
        run("lengths", each_length);
        places[0] = log->size;
        run("blocks", each_block);
    }
}

/* Copied while it was open: what was synced must be there, the rest as it was at some time. */
static void torn_store(void)
{
    image *log;
    size_t used;

    build(0, 1, 1);
    log = file_named("log.00000001");
    used = used_of(log);
    every_place(log, used, 3001);
    run("torn, every byte", each_byte_once);
    every_place(log, used + 8, 1009);
    run("torn, every length", each_length);
    places[0] = used + 512;
    run("torn, every block", each_block);
}

/* Files that are missing, exchanged, or of something else. */
static void other_files(void)
{
    int i, fd;

    build(100000, 0, 0);
    for (i = 0; i < file_count; i++) {
        kv_options o;
        kv *h = NULL;
        dump d;
        int e;

        kv_options_init(&o);
        o.thread = 0;
        restore_all();
        CHECK(unlink(path_in(store, files[i].name)) == 0);
        e = kv_open(store, &o, &h);
        if (e == KV_OK) {
            dump_store(h, &d, 1);
            CHECK(!d.failed && (d.corrupt || is_state(&d, durable) >= 0));
            free(d.text);
            kv_close(h);
        } else {
            CHECK(e == KV_ECORRUPT || e == KV_EUNSUPPORTED);
        }
        /* A symbolic link and a fifo in a file's place lead nowhere. */
        restore_all();
        CHECK(unlink(path_in(store, files[i].name)) == 0);
        CHECK(symlink("/dev/zero", path_in(store, files[i].name)) == 0);
        e = kv_open(store, &o, &h);
        if (e == KV_OK)
            kv_close(h);
        else
            CHECK(e == KV_ECORRUPT || e == KV_EUNSUPPORTED);
        restore_all();
        CHECK(unlink(path_in(store, files[i].name)) == 0);
        CHECK(mkfifo(path_in(store, files[i].name), 0600) == 0);
        alarm(WATCHDOG);
        e = kv_open(store, &o, &h);
        alarm(0);
        if (e == KV_OK)
            kv_close(h);
        else
            CHECK(e == KV_ECORRUPT || e == KV_EUNSUPPORTED);
    }
    /* Segments that changed places, and one of another store. */
    restore_all();
    CHECK(rename(path_in(store, "log.00000001"), at("swap")) == 0);
    fd = open(path_in(store, "log.00000001"), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && pwrite(fd, file_named("log.00000002")->bytes, 65536, 0) == 65536);
    close(fd);
    {
        kv_options o;
        kv *h;
        kv_options_init(&o);
        CHECK(kv_open(store, &o, &h) == KV_ECORRUPT);
    }
}

/* ---- a live store whose memory changes ---- */

static void live_store(void)
{
    kv_options o;
    kv *h;
    kv_ns *a;
    kv_iter *it = malloc(kv_iter_size());
    kv_record r;
    kv_value v = text("new", 3);
    char *base, key[16], *seen;
    size_t used, off;
    int change, k, e, bad = 0, corrupt = 0, fine = 0;
    image *log;
    size_t seen_len;
    int64_t began;

    build(0, 0, 0);
    log = file_named("log.00000001");
    used = used_of(log);
    kv_options_init(&o);
    o.thread = 0;
    o.sync = KV_SYNC_NONE;
    if (!CHECK(kv_open(store, &o, &h) == KV_OK &&
               kv_namespace(h, "first", 5, NULL, 0, 1, &a) == KV_OK))
        return;
    base = (char *)(uintptr_t)(h->s->log.table[1].at & ~(uint64_t)4095);
    CHECK(memcmp(base + KV_SEG_HEAD, log->bytes + KV_SEG_HEAD, used - KV_SEG_HEAD) == 0);
    for (off = 0; off < used; off += getenv("KV_SHORT") ? 31 : off < KV_SEG_HEAD ? 5 : 1)
        for (change = (int)(off % 3); change < 8; change += 3) {
            base[off] = (char)(base[off] ^ 1 << change);
            began = cpu_ms();
            for (k = 0; k < 14; k++) {
                snprintf(key, sizeof key, "key%02d", k);
                e = kv_get(a, key, 5, &r);
                corrupt += e == KV_ECORRUPT;
                fine += e == KV_OK;
                bad += e != KV_OK && e != KV_ECORRUPT && e != KV_ENOTFOUND;
                if (e == KV_OK) {
                    seen = NULL;
                    seen_len = 0;
                    describe("first", &r, &seen, &seen_len);
                    bad += !was_written(seen, seen_len);
                    free(seen);
                }
                if (off < KV_SEG_HEAD)
                    k += 6;
            }
            /* Refused or carried out, never a crash; damage leaves no trace in what it did. */
            e = kv_iter_init(it, a, NULL);
            while (e == KV_OK)
                e = kv_iter_next(it, &r);
            bad += e != KV_ECORRUPT && e != KV_ENOTFOUND;
            if (off % 13 == 0 && off >= KV_SEG_HEAD) {
                e = kv_check(h);
                bad += e != KV_ECORRUPT && !(e == KV_OK && log->bytes[off] == 0); /* a gap */
            }
            bad += cpu_ms() - began > SLOW_MS;
            base[off] = (char)(base[off] ^ 1 << change);
            if (bad && ++check_failures) {
                fprintf(stderr, "live: byte %zu, bit %d\n", off, change);
                goto out;
            }
        }
    CHECK(getenv("KV_SHORT") || (corrupt > 900 && fine > 1000));
    CHECK(kv_check(h) == KV_OK);
    /* A write that meets the damage says so, and the store goes on when it is gone. */
    for (off = KV_SEG_HEAD; off < used; off += 3) {
        base[off] = (char)(base[off] ^ 0x10);
        e = kv_put(a, "key01", 5, &v, NULL, NULL, NULL);
        bad += e != KV_OK && e != KV_ECORRUPT;
        base[off] = (char)(base[off] ^ 0x10);
        if (e == KV_ECORRUPT)
            bad += kv_put(a, "key01", 5, &v, NULL, NULL, NULL) != KV_OK;
    }
    CHECK(bad == 0);
    CHECK(kv_check(h) == KV_OK);
out:
    kv_ns_close(a);
    kv_close(h);
    free(it);
}

int main(void)
{
    /* Memory, where there is some: thousands of stores are written and synced. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    model_start("test_damage");
    model_keys();
    kv_test_clock_set(T0);
    now_at = mmap(NULL, sizeof *now_at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (now_at == MAP_FAILED)
        return 1;
    closed_store();
    chained_store();
    torn_store();
    other_files();
    live_store();
    for (int i = 0; i < steps; i++)
        free(states[i].text);
    for (int i = 0; i < file_count; i++)
        free(files[i].bytes);
    free(history);
    free(places);
    remove_root();
    return check_done("test_damage");
}
