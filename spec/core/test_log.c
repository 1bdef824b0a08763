/* SPDX-License-Identifier: MIT
 *
 * test_log.c - segments: what is appended is walked again, at every place a log can end; torn tails
 * and batches are cut, damage below the mark is told and changes nothing; gaps in the ids, garbage
 * in spares, segments of other logs, claims of a dead writer, retirement.
 */
#define _GNU_SOURCE
#include "log.h"
#include "region.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define STORE 0x1234567890abcdefull
#define MOST  4000

static uint64_t seed;

static uint64_t roll(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * 0x2545f4914f6cdd1dull >> 11) % below;
}

/* ---- a log in memory, and what was appended to it ---- */

typedef struct noted {
    uint64_t pos, end, rev;
    uint32_t key, len;
    uint8_t more;
} noted;

typedef struct world {
    kv_dir *dir;
    kv_log log;
    uint64_t words[KV_LOG_WORDS];
    noted rec[MOST];
    int count;
} world;

static char noise[1 << 16];

static void die(const char *what)
{
    fprintf(stderr, "cannot go on: %s: %s\n", what, kv_message());
    exit(1);
}

static void world_open(world *w)
{
    kv_dir_options o = {1, 0600, 0, 0};
    int made;

    memset(w, 0, sizeof *w);
    if (kv_dir_open(":memory:", &o, &w->dir, &made) != KV_OK ||
        kv_log_open(&w->log, w->dir, w->words, STORE, 1) != KV_OK ||
        kv_log_start(&w->log, 5, KV_SEG_MIN, 1, 1, 1000) != KV_OK)
        die("start");
}

static void world_close(world *w)
{
    kv_log_close(&w->log);
    kv_dir_close(w->dir);
}

static void fill(kv_rec *r, uint64_t rev, uint32_t key, uint32_t len, int more)
{
    static char name[4][8];
    static int at;
    char *k = name[at++ % 4];

    memset(r, 0, sizeof *r);
    memcpy(k, &key, 4);
    r->kind = KV_REC_PUT;
    r->type = KV_STRING;
    r->ns = 1;
    r->rev = r->id = rev;
    r->created = r->updated = 1900000000000LL;
    r->key = k;
    r->key_len = 4;
    r->value = noise + key % 1000;
    r->value_len = len;
    r->meta = "";
    r->more = (uint8_t)more;
}

/* n records as one batch; 0: there was no room and could not be made. */
static int append(world *w, int n, uint32_t least, uint32_t most)
{
    kv_append a;
    kv_rec r[8];
    int i;
    uint32_t len[8], key[8], size[8];
    uint64_t rev = (uint64_t)w->count + 1;

    for (i = 0; i < n; i++) {
        len[i] = least + (uint32_t)roll(most - least + 1);
        key[i] = (uint32_t)roll(1000000);
    }
again:
    kv_log_begin(&w->log, &a);
    a.next_rev = rev + (uint64_t)n;
    a.next_ns = 2;
    a.time = 1000;
    for (i = 0; i < n; i++) {
        fill(&r[i], rev + (uint64_t)i, key[i], len[i], i + 1 < n);
        size[i] = kv_rec_measure(&r[i]);
        if (!kv_log_fit(&w->log, &a, size[i], KV_FOR_PUT)) {
            if (kv_log_prepare(&w->log, KV_SEG_MIN) != KV_OK)
                return 0;
            goto again;
        }
    }
    kv_log_begin(&w->log, &a);
    for (i = 0; i < n; i++) {
        noted *x = &w->rec[w->count + i];

        fill(&r[i], rev + (uint64_t)i, key[i], len[i], i + 1 < n);
        (void)kv_rec_measure(&r[i]);
        x->pos = kv_log_append(&w->log, &a, &r[i]);
        x->end = a.pos;
        x->rev = rev + (uint64_t)i;
        x->key = key[i];
        x->len = len[i];
        x->more = i + 1 < n;
    }
    kv_log_commit(&w->log, &a);
    w->count += n;
    return 1;
}

static int is(const kv_rec *r, const noted *x)
{
    return r->rev == x->rev && r->key_len == 4 && memcmp(r->key, &x->key, 4) == 0 &&
           r->value_len == x->len && memcmp(r->value, noise + x->key % 1000, x->len) == 0 &&
           r->more == x->more;
}

/* Where the log `l` ends, and whether all before that is what was appended; -1: it is not. */
static int walked(world *w, kv_log *l, uint32_t first, int from, kv_tail *t, uint64_t *end)
{
    kv_walk walk;
    kv_rec r;
    int n = from, e, ok = 1;

    e = kv_walk_open(&walk, l, first, 0, 0);
    if (e != KV_OK)
        return e == KV_ECORRUPT ? -2 : -1;
    while ((e = kv_walk_next(&walk, &r)) == 1) {
        ok = ok && n < w->count && is(&r, &w->rec[n]) && walk.at == w->rec[n].pos;
        n++;
    }
    if (t != NULL)
        e |= kv_walk_tail(&walk, t);
    *end = kv_walk_pos(&walk);
    kv_walk_close(&walk);
    return ok && e == KV_OK ? n - from : -1;
}

/* ---- files, as bytes ---- */

static int file_of(world *w, uint32_t id, int how)
{
    char name[24];
    int fd;

    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    return kv_file_open(w->dir, name, how, &fd) == KV_OK ? fd : -1;
}

static char *bytes_of(world *w, uint32_t id, size_t *size)
{
    int fd = file_of(w, id, KV_FILE_READ);
    uint64_t n;
    char *p = NULL;

    *size = 0;
    if (fd < 0)
        return NULL;
    if (kv_file_size(fd, &n) != KV_OK || (p = malloc(n + 1)) == NULL ||
        kv_file_read(fd, p, n, 0, size) != KV_OK)
        die("read");
    kv_file_close(fd);
    return p;
}

/* A directory with copies of the segments, which a test may change. */
static kv_dir *copy_of(world *w, kv_log *l, uint64_t words[])
{
    kv_dir_options o = {1, 0600, 0, 0};
    kv_dir *d;
    uint32_t id;
    int made;

    if (kv_dir_open(":memory:", &o, &d, &made) != KV_OK)
        die("copy");
    for (id = (uint32_t)w->words[KV_LOG_OLDEST]; id <= w->words[KV_LOG_SPARES]; id++) {
        char name[24], *p;
        size_t n;
        int fd = -1;

        p = bytes_of(w, id, &n);
        snprintf(name, sizeof name, "log.%08x", (unsigned)id);
        if (p == NULL || kv_file_open(d, name, KV_FILE_CREATE, &fd) != KV_OK ||
            kv_file_allocate(fd, 0, n) != KV_OK || kv_file_write(fd, p, n, 0) != KV_OK)
            die("copy");
        kv_file_close(fd);
        free(p);
    }
    memset(words, 0, sizeof(uint64_t) * KV_LOG_WORDS);
    words[KV_LOG_OLDEST] = w->words[KV_LOG_OLDEST];
    if (kv_log_open(l, d, words, STORE, 1) != KV_OK)
        die("copy");
    return d;
}

static void poke(kv_dir *d, uint32_t id, uint32_t off, const void *bytes, size_t n)
{
    char name[24];
    int fd;

    snprintf(name, sizeof name, "log.%08x", (unsigned)id);
    if (kv_file_open(d, name, KV_FILE_WRITE, &fd) != KV_OK ||
        kv_file_write(fd, bytes, n, off) != KV_OK)
        die("poke");
    kv_file_close(fd);
}

static void zero_from(kv_dir *d, uint32_t id, uint32_t off)
{
    static const char zeros[KV_SEG_MIN];

    if (off < KV_SEG_MIN)
        poke(d, id, off, zeros, KV_SEG_MIN - off);
}

/* ---- tests ---- */

/* Before a byte of a segment goes, readers can see that it does. */
static const uint64_t *retiring;

static int goes_in_order(const char *call, const char *what)
{
    (void)what;
    if (strcmp(call, "punch") == 0)
        CHECK(kv_load(&retiring[KV_LOG_OLDEST]) > kv_load(&retiring[KV_LOG_FREED]));
    return 0;
}

static void appending(void)
{
    world *w = calloc(1, sizeof *w);
    kv_scratch s = {0};
    uint64_t end, pos, at;
    kv_tail t;
    kv_rec r;
    int i, bad = 0, e;

    world_open(w);
    CHECK(walked(w, &w->log, 5, 0, &t, &end) == 0 && end == kv_pos(5, KV_SEG_HEAD) && t.cut == 0);
    for (i = 0; i < 300; i++)
        CHECK(append(w, 1 + (int)roll(5), 0, roll(5) ? 300 : 16000));
    CHECK(w->words[KV_LOG_TAIL] >> 32 > 8);
    CHECK(kv_log_sync(&w->log) == KV_OK && w->words[KV_LOG_SYNCED] == w->words[KV_LOG_TAIL]);
    CHECK(walked(w, &w->log, 5, 0, &t, &end) == w->count && end == w->words[KV_LOG_TAIL]);
    CHECK(t.cut == 0 && t.durable == end && t.last_id == w->words[KV_LOG_SPARES]);
    for (i = 0; i < w->count; i++) {
        bad += kv_log_fetch(&w->log, kv_pos_addr(w->rec[i].pos), &s, &r) != KV_OK ||
               !is(&r, &w->rec[i]);
        bad += kv_log_peek(&w->log, kv_pos_addr(w->rec[i].pos), &r) != KV_OK || !is(&r, &w->rec[i]);
        bad += kv_addr_pos(kv_pos_addr(w->rec[i].pos), 5) != w->rec[i].pos;
        /* Between records there is none. */
        bad += kv_log_fetch(&w->log, kv_pos_addr(w->rec[i].pos + 4), &s, &r) == KV_OK;
    }
    CHECK(bad == 0);
    pos = kv_pos(5, KV_SEG_HEAD);
    for (i = 0; (e = kv_log_next(&w->log, &pos, w->words[KV_LOG_TAIL], &at, &r)) == 1; i++)
        bad += at != w->rec[i].pos || !is(&r, &w->rec[i]);
    CHECK(e == 0 && i == w->count && bad == 0);

    /* Retired segments are gone, for readers too; what is left is a log. */
    {
        uint32_t upto = kv_pos_id(w->rec[w->count / 2].pos);
        uint64_t before = kv_log_bytes(&w->log);

        for (i = 0; kv_pos_id(w->rec[i].pos) < upto; i++)
            continue;
        retiring = w->words;
        kv_test_syscall = goes_in_order;
        CHECK(kv_log_retire(&w->log, upto, 0) == KV_OK);
        kv_test_syscall = NULL;
        CHECK(kv_log_bytes(&w->log) == before - (uint64_t)(upto - 5) * KV_SEG_MIN);
        CHECK(kv_log_fetch(&w->log, kv_pos_addr(w->rec[0].pos), &s, &r) == KV_LOG_GONE);
        CHECK(walked(w, &w->log, upto, i, &t, &end) == w->count - i);
        CHECK(walked(w, &w->log, 5, 0, NULL, &end) == -2);
        for (; i < w->count; i++)
            bad += kv_log_fetch(&w->log, kv_pos_addr(w->rec[i].pos), &s, &r) != KV_OK ||
                   !is(&r, &w->rec[i]);
        CHECK(bad == 0);
        /* Their places are used again. */
        for (i = 0; i < 100; i++)
            CHECK(append(w, 1, 5000, 16000));
        CHECK(kv_log_fetch(&w->log, kv_pos_addr(w->rec[0].pos), &s, &r) == KV_LOG_GONE);
    }
    kv_scratch_free(&s);
    world_close(w);
    free(w);
}

/* The batch that holds record i begins at record.. */
static int batch_start(const world *w, int i)
{
    while (i > 0 && w->rec[i - 1].more)
        i--;
    return i;
}

/* Records whose bytes lie wholly before `pos`, whole batches only. */
static int whole_before(const world *w, uint64_t pos)
{
    int n = 0;

    while (n < w->count && w->rec[n].end <= pos)
        n++;
    return n < w->count ? batch_start(w, n) : n;
}

static int all_zero(const char *p, size_t n)
{
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n == 0;
}

/* Pages of a retired segment that were not given back; -1: it is not mapped here any more. */
static int kept(world *w, uint32_t id)
{
    int fd = file_of(w, id, KV_FILE_READ), n = -1;
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0)
        n = (int)(st.st_blocks * 512 / KV_PAGE);
    if (fd >= 0)
        kv_file_close(fd);
    return n;
}

/* Who has a segment pinned reads on; it is freed when he is gone, and what follows it too. */
static void pinned(void)
{
    world *w = calloc(1, sizeof *w);
    int fd, i;
    kv_scratch s = {0};
    kv_rec r;

    world_open(w);
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 9)
        CHECK(append(w, 1, 100, 3000));
    CHECK(kv_log_sync(&w->log) == KV_OK);
    CHECK(kv_file_open(w->dir, "lock", KV_FILE_MAKE, &w->log.pins) == KV_OK);
    CHECK(kv_file_open(w->dir, "lock", KV_FILE_WRITE, &fd) == KV_OK);
    CHECK(kv_file_lock(fd, KV_PINS + 6, 1, KV_RANGE_SHARED) == KV_OK);
    for (i = 0; kv_pos_id(w->rec[i].pos) < 6; i++)
        continue;
    CHECK(kv_log_retire(&w->log, 8, 0) == KV_OK);
    CHECK(w->words[KV_LOG_OLDEST] == 8 && w->words[KV_LOG_FREED] == 6);
    CHECK(file_of(w, 5, KV_FILE_READ) < 0 && kept(w, 6) > 0 && kept(w, 7) > 0);
    CHECK(kv_log_fetch(&w->log, kv_pos_addr(w->rec[i].pos), &s, &r) == KV_OK && is(&r, &w->rec[i]));
    CHECK(!kv_log_recycle(&w->log, KV_SEG_MIN));
    kv_file_close(fd);
    CHECK(kv_log_retire(&w->log, 8, 0) == KV_OK && w->words[KV_LOG_FREED] == 8);
    CHECK(kept(w, 6) < 0 && kept(w, 7) < 0);
    CHECK(kv_log_fetch(&w->log, kv_pos_addr(w->rec[i].pos), &s, &r) == KV_LOG_GONE);
    kv_file_close(w->log.pins);
    w->log.pins = -1;
    free(s.p);
    world_close(w);
    free(w);
}

/* Retired segments become spares, under a reader who has them mapped; and after a power cut their
 * former bytes, in any part of them that was not synced, are nobody's records. */
static void recycling(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t words[KV_LOG_WORDS], at = 0, end, old_addr, in_use;
    uint32_t head, spare, off;
    int i, found, bad = 0, cases = 0;
    kv_log other, l;
    kv_scratch s = {0};
    char *was, *is_now, *mixed;
    size_t n, m;
    kv_tail t;
    kv_rec r;
    kv_dir *d;

    world_open(w);
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 9)
        CHECK(append(w, 1, 100, 3000));
    CHECK(kv_log_sync(&w->log) == KV_OK);
    CHECK(kv_log_open(&other, w->dir, w->words, STORE, 1) == KV_OK);
    for (i = 0; kv_pos_id(w->rec[i].pos) < 6; i++)
        continue;
    old_addr = kv_pos_addr(w->rec[i].pos);
    CHECK(kv_log_fetch(&other, old_addr, &s, &r) == KV_OK && is(&r, &w->rec[i]));
    CHECK(!kv_log_recycle(&w->log, KV_SEG_MIN)); /* nothing is retired */
    CHECK(kv_log_retire(&w->log, 8, 2) == KV_OK);
    CHECK(w->words[KV_LOG_OLDEST] == 8 && w->words[KV_LOG_FREED] == 6);
    CHECK(file_of(w, 5, KV_FILE_READ) < 0);
    was = bytes_of(w, 6, &n);
    CHECK(was != NULL && n == KV_SEG_MIN && !all_zero(was, n));
    CHECK(!kv_log_recycle(&w->log, 2 * KV_SEG_MIN));
    spare = (uint32_t)w->words[KV_LOG_SPARES] + 1;
    CHECK(kv_log_recycle(&w->log, KV_SEG_MIN));
    CHECK(w->words[KV_LOG_SPARES] == spare && w->words[KV_LOG_FREED] == 7);
    CHECK(file_of(w, 6, KV_FILE_READ) < 0);
    is_now = bytes_of(w, spare, &m);
    CHECK(is_now != NULL && m == n && all_zero(is_now, m));
    free(is_now);
    CHECK(kv_log_fetch(&other, old_addr, &s, &r) == KV_LOG_GONE);
    CHECK(kv_log_fetch(&w->log, old_addr, &s, &r) == KV_LOG_GONE);
    CHECK(kv_log_recycle(&w->log, KV_SEG_MIN) && !kv_log_recycle(&w->log, KV_SEG_MIN));
    CHECK(w->words[KV_LOG_FREED] == 8);
    for (i = 0; kv_pos_id(w->rec[i].pos) < 8; i++)
        continue;
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < spare || kv_pos_off(w->words[KV_LOG_TAIL]) < 40000)
        CHECK(append(w, 1, 100, 3000));
    CHECK(walked(w, &w->log, 8, i, &t, &end) == w->count - i && t.cut == 0);
    CHECK(kv_log_fetch(&other, old_addr, &s, &r) == KV_LOG_GONE);
    in_use = w->rec[w->count - 1].pos;
    CHECK(kv_pos_id(in_use) == spare && kv_log_fetch(&other, kv_pos_addr(in_use), &s, &r) == KV_OK);

    head = kv_pos_id(w->words[KV_LOG_TAIL]);
    is_now = bytes_of(w, head, &m);
    mixed = malloc(KV_SEG_MIN);
    for (off = 0; off <= 44000; off += off < 2048 ? 64 : 509) {
        d = copy_of(w, &l, words);
        memcpy(mixed, was, KV_SEG_MIN);
        memcpy(mixed, is_now, off);
        poke(d, head, 0, mixed, KV_SEG_MIN);
        found = walked(w, &l, 8, i, &t, &at);
        n = (size_t)whole_before(w, off < KV_SEG_HEAD ? kv_pos(head, 0) : kv_pos(head, off));
        /* What was there before may end a record just so. */
        bad += found != (int)n - i && !(found == (int)n - i + 1 && at <= kv_pos(head, off + 8));
        cases++;
        kv_log_close(&l);
        kv_dir_close(d);
    }
    CHECK(bad == 0 && cases > 100);
    free(was);
    free(is_now);
    free(mixed);
    kv_scratch_free(&s);
    kv_log_close(&other);
    world_close(w);
    free(w);
}

/* Cut the log at every place in its last two segments: exactly what was whole before is there. */
static void torn_tails(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t pos, tail, end, *words = calloc(KV_LOG_WORDS, sizeof *words);
    kv_log l;
    kv_tail t;
    kv_walk walk;
    kv_rec r;
    kv_dir *d;
    int n, found, cases = 0, bad = 0, e;
    uint32_t id, step = getenv("KV_SHORT") ? 23 : 1;

    world_open(w);
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 7)
        CHECK(append(w, 1 + (int)roll(4), 0, 4000));
    for (n = 0; n < 12; n++)
        CHECK(append(w, 1 + (int)roll(4), 0, 60));
    tail = w->words[KV_LOG_TAIL];
    for (pos = kv_pos(6, 60000); pos < tail; pos += kv_pos_id(pos) == 6 ? 37 : step) {
        if (kv_pos_off(pos) >= KV_SEG_MIN)
            pos = kv_pos(7, 0);
        d = copy_of(w, &l, words);
        zero_from(d, kv_pos_id(pos), kv_pos_off(pos));
        for (id = kv_pos_id(pos) + 1; id <= 7; id++)
            zero_from(d, id, 0);
        n = whole_before(w, pos);
        found = walked(w, &l, 5, 0, &t, &end);
        /* A record that ends in zeros may be whole although its end was cut. */
        if (found != n && !(found > n && found <= whole_before(w, pos + 8))) {
            if (bad++ < 5)
                fprintf(stderr, "cut at %u:%u: %d records, should be %d\n",
                        (unsigned)kv_pos_id(pos), (unsigned)kv_pos_off(pos), found, n);
        }
        /* Appending goes on from there. */
        if (cases % 7 == 0) {
            e = kv_walk_open(&walk, &l, 5, 0, 0);
            while (e == KV_OK && (found = kv_walk_next(&walk, &r)) == 1)
                continue;
            bad += kv_walk_tail(&walk, &t) != KV_OK || kv_log_cut(&l, &walk, &t) != KV_OK;
            end = kv_walk_pos(&walk);
            kv_walk_close(&walk);
            /* What is all zero behind the end stays as a spare. */
            bad += words[KV_LOG_TAIL] != end || words[KV_LOG_SPARES] < kv_pos_id(end) ||
                   words[KV_LOG_SPARES] > kv_pos_id(end) + 2;
            bad += kv_log_prepare(&l, KV_SEG_MIN) != KV_OK;
            {
                world *v = calloc(1, sizeof *v);

                v->dir = d;
                v->log = l;
                memcpy(v->words, words, KV_LOG_WORDS * sizeof *words);
                v->log.w = v->words;
                memcpy(v->rec, w->rec, sizeof v->rec);
                v->count = whole_before(w, end);
                for (n = 0; n < 6; n++)
                    bad += !append(v, 2, 100, 12000);
                bad += walked(v, &v->log, 5, 0, &t, &end) != v->count || t.cut != 0 ||
                       end != v->words[KV_LOG_TAIL];
                l = v->log;
                memcpy(words, v->words, KV_LOG_WORDS * sizeof *words);
                l.w = words;
                free(v);
            }
        }
        kv_log_close(&l);
        kv_dir_close(d);
        cases++;
    }
    CHECK(bad == 0);
    check_count += cases;
    world_close(w);
    free(w);
    free(words);
}

/* Above the mark a flipped byte ends the log, below it the walk stops short of what is durable. */
static void damage(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t pos, tail, mark, end, *words = calloc(KV_LOG_WORDS, sizeof *words);
    kv_log l;
    kv_tail t;
    kv_dir *d;
    char *seg;
    size_t size;
    int found, bad = 0, n, cases = 0, below = 0;
    uint32_t step = getenv("KV_SHORT") ? 23 : 1;

    world_open(w);
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 6)
        CHECK(append(w, 1 + (int)roll(4), 0, 4000));
    for (n = 0; n < 8; n++)
        CHECK(append(w, 1 + (int)roll(4), 0, 60));
    CHECK(kv_log_sync(&w->log) == KV_OK);
    kv_log_mark(&w->log);
    mark = w->words[KV_LOG_TAIL];
    for (n = 0; n < 8; n++)
        CHECK(append(w, 1 + (int)roll(4), 0, 60));
    tail = w->words[KV_LOG_TAIL];
    seg = bytes_of(w, 6, &size);
    for (pos = kv_pos(6, 0); pos < tail; pos += step) {
        uint32_t off = kv_pos_off(pos);
        char b = (char)(seg[off] ^ 1 << roll(8));

        if (off >= sizeof(kv_seg_head) - 8 && off < KV_SEG_HEAD)
            continue; /* the mark itself, and what is behind the header */
        if (off >= 100 && off < 104)
            continue; /* padding of it */
        d = copy_of(w, &l, words);
        poke(d, 6, off, &b, 1);
        found = walked(w, &l, 5, 0, &t, &end);
        n = off < KV_SEG_HEAD ? whole_before(w, kv_pos(6, KV_SEG_HEAD)) : whole_before(w, pos);
        bad += found < n || t.durable != mark;
        if (pos < mark && found < w->count) {
            bad += end >= t.durable;
            below++;
        } else if (found < w->count) {
            bad += t.cut == 0;
        }
        if (bad && ++cases && bad < 5)
            fprintf(stderr, "byte %u: %d records of %d, end %llx, durable %llx\n", (unsigned)off,
                    found, n, (unsigned long long)end, (unsigned long long)t.durable);
        kv_log_close(&l);
        kv_dir_close(d);
        cases++;
    }
    CHECK(bad == 0);
    CHECK(below > 200 / (int)step);
    check_count += cases;
    free(seg);
    world_close(w);
    free(w);
    free(words);
}

/* A segment that the chain does not lead to is none: of another store, another life, another id. */
static void chains(void)
{
    world *w = calloc(1, sizeof *w), *v = calloc(1, sizeof *v);
    uint64_t end, *words = calloc(KV_LOG_WORDS, sizeof *words);
    kv_log l;
    kv_tail t;
    kv_dir *d;
    char *mine, *theirs;
    size_t size;
    int n, in_five;

    world_open(w);
    world_open(v);
    seed = 12345; /* both the same, but for their salts */
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 8)
        CHECK(append(w, 1, 3000, 9000));
    seed = 12345;
    while (kv_pos_id(v->words[KV_LOG_TAIL]) < 8)
        CHECK(append(v, 1, 3000, 9000));
    CHECK(w->count == v->count && w->words[KV_LOG_TAIL] == v->words[KV_LOG_TAIL]);
    for (in_five = 0; kv_pos_id(w->rec[in_five].pos) == 5; in_five++)
        continue;
    mine = bytes_of(w, 7, &size);
    theirs = bytes_of(v, 6, &size);

    /* Another life's segment 6, with the same records at the same places. */
    d = copy_of(w, &l, words);
    poke(d, 6, 0, theirs, size);
    CHECK(walked(w, &l, 5, 0, &t, &end) == in_five && kv_pos_id(end) == 5);
    kv_log_close(&l);
    kv_dir_close(d);
    /* Segment 7 in the place of 6. */
    d = copy_of(w, &l, words);
    poke(d, 6, 0, mine, size);
    CHECK(walked(w, &l, 5, 0, &t, &end) == in_five && kv_pos_id(end) == 5);
    kv_log_close(&l);
    kv_dir_close(d);
    /* 6 is missing: what is behind it does not count, and is cut newest first. */
    d = copy_of(w, &l, words);
    CHECK(kv_file_unlink(d, "log.00000006") == KV_OK);
    CHECK(walked(w, &l, 5, 0, &t, &end) == in_five && t.last_head == 8 && t.cut > 0);
    kv_log_close(&l);
    /* Of another store. */
    memset(words, 0, KV_LOG_WORDS * sizeof *words);
    CHECK(kv_log_open(&l, d, words, STORE + 1, 1) == KV_OK);
    CHECK(walked(w, &l, 5, 0, NULL, &end) == -2);
    kv_log_close(&l);
    kv_dir_close(d);
    /* Garbage in a spare. */
    d = copy_of(w, &l, words);
    for (n = 0; n < 100; n++)
        poke(d, (uint32_t)w->words[KV_LOG_SPARES], (uint32_t)roll(KV_SEG_MIN - 8), "garbage", 7);
    CHECK(walked(w, &l, 5, 0, &t, &end) == w->count && end == w->words[KV_LOG_TAIL]);
    kv_log_close(&l);
    kv_dir_close(d);
    free(mine);
    free(theirs);
    world_close(w);
    world_close(v);
    free(w);
    free(v);
    free(words);
}

/* A value may hold what looks like a record: a segment inside a value is no segment. */
static void records_in_records(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t end;
    kv_tail t;
    char *seg;
    size_t size;
    kv_append a;
    kv_rec r;

    world_open(w);
    CHECK(append(w, 4, 100, 200));
    seg = bytes_of(w, 5, &size);
    kv_log_begin(&w->log, &a);
    a.next_rev = 100;
    a.next_ns = 2;
    a.time = 1;
    fill(&r, 5, 1, 0, 0);
    r.value = seg;
    r.value_len = 2000;
    CHECK(kv_log_fit(&w->log, &a, kv_rec_measure(&r), KV_FOR_PUT));
    kv_log_begin(&w->log, &a);
    (void)kv_log_append(&w->log, &a, &r);
    /* Written, and never published: the walk sees it, since the files alone say where a log ends;
     * recovery by the index takes it away. */
    CHECK(walked(w, &w->log, 5, 0, &t, &end) == -1);
    CHECK(kv_log_recover(&w->log) == KV_OK && w->words[KV_LOG_CLAIM] == w->words[KV_LOG_TAIL]);
    CHECK(walked(w, &w->log, 5, 0, &t, &end) == 4 && t.cut == 0 && end == w->words[KV_LOG_TAIL]);
    free(seg);
    world_close(w);
    free(w);
}

/* A writer that dies before any of its stores leaves nothing, or all of it. */
static void dying_writers(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t end;
    kv_tail t;
    int64_t before;
    int i, bad = 0, n;

    world_open(w);
    for (i = 0; i < 60; i++)
        CHECK(append(w, 1 + (int)roll(4), 0, 9000));
    /* As a death leaves it: claimed, partly written, not published, over a segment's end. */
    for (i = 0; i < 200; i++) {
        uint64_t words[KV_LOG_WORDS];
        int count = w->count;

        memcpy(words, w->words, sizeof words);
        before = kv_test_stores;
        n = 1 + (int)roll(6);
        if (!append(w, n, 0, 9000)) {
            bad++;
            break;
        }
        CHECK(kv_test_stores > before);
        if (roll(2))
            continue; /* it lived */
        w->words[KV_LOG_TAIL] = words[KV_LOG_TAIL];
        w->words[KV_LOG_LAST] = words[KV_LOG_LAST];
        w->count = count;
        bad += kv_log_recover(&w->log) != KV_OK;
        bad += w->words[KV_LOG_CLAIM] != w->words[KV_LOG_TAIL];
        if (i % 10 == 0)
            bad += walked(w, &w->log, 5, 0, &t, &end) != w->count || t.cut != 0 ||
                   end != w->words[KV_LOG_TAIL];
    }
    CHECK(bad == 0);
    CHECK(walked(w, &w->log, 5, 0, &t, &end) == w->count && end == w->words[KV_LOG_TAIL]);
    world_close(w);
    free(w);
}

static int fails_sync(const char *call, const char *what)
{
    (void)what;
    return strstr(call, "sync") != NULL ? 5 : 0; /* EIO */
}

static void failed_sync(void)
{
    world *w = calloc(1, sizeof *w);

    world_open(w);
    CHECK(append(w, 1, 10, 10));
    kv_test_syscall = fails_sync;
    CHECK(kv_log_sync(&w->log) == KV_EIO);
    kv_test_syscall = NULL;
    /* Once is for ever: a second try would lie. */
    CHECK(w->words[KV_LOG_BROKEN] == 1 && kv_log_sync(&w->log) == KV_EIO);
    CHECK(w->words[KV_LOG_SYNCED] < w->words[KV_LOG_TAIL]);
    world_close(w);
    free(w);
}

static uint64_t syncs;

static int counts_syncs(const char *call, const char *what)
{
    (void)what;
    syncs += strcmp(call, "fdatasync") == 0;
    return 0;
}

/* A sync past a place leaves the head alone, and says no more than it must: a batch that goes on in
 * the head may be lost, and is then a torn tail, not damage. */
static void sync_past(void)
{
    world *w = calloc(1, sizeof *w);
    uint64_t pos, end, *words = calloc(KV_LOG_WORDS, sizeof *words);
    int last, n;
    kv_log l;
    kv_tail t;
    kv_dir *d;

    world_open(w);
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 7)
        CHECK(append(w, 1, 3000, 4000));
    pos = w->words[KV_LOG_TAIL];
    do {
        last = w->count;
        CHECK(append(w, 8, 3000, 4000));
    } while (kv_pos_id(w->rec[last].pos) == kv_pos_id(w->words[KV_LOG_TAIL]) ||
             kv_pos_id(w->words[KV_LOG_TAIL]) < 8);
    CHECK(kv_pos_id(w->rec[last].pos) == 7 && kv_pos_id(w->words[KV_LOG_TAIL]) == 8);
    syncs = 0;
    kv_test_syscall = counts_syncs;
    CHECK(kv_log_sync_past(&w->log, pos) == KV_OK);
    CHECK(syncs == 3 && w->words[KV_LOG_SYNCED] == pos && w->words[KV_LOG_SYNC_FROM] == 8);
    /* What was synced is not synced again, whatever of it is asked for. */
    CHECK(kv_log_sync_past(&w->log, pos) == KV_OK && syncs == 3);
    CHECK(kv_log_sync_past(&w->log, w->rec[last - 1].end) == KV_OK && syncs == 3);
    CHECK(w->words[KV_LOG_SYNCED] == w->rec[last - 1].end);
    n = w->count;
    while (kv_pos_id(w->words[KV_LOG_TAIL]) < 9)
        CHECK(append(w, 1, 3000, 4000));
    /* The power fails: the head of then is lost but for its header, the next one is there. */
    d = copy_of(w, &l, words);
    zero_from(d, 8, KV_SEG_HEAD);
    CHECK(walked(w, &l, 5, 0, &t, &end) == last && end >= t.durable && end == w->rec[last].pos);
    CHECK(t.durable == w->rec[last - 1].end);
    kv_log_close(&l);
    kv_dir_close(d);
    /* In the head it syncs all, and the loss of the head is then found. */
    CHECK(n < w->count && kv_log_sync_past(&w->log, w->words[KV_LOG_TAIL]) == KV_OK && syncs == 5);
    kv_test_syscall = NULL;
    CHECK(w->words[KV_LOG_SYNCED] == w->words[KV_LOG_TAIL] && w->words[KV_LOG_SYNC_FROM] == 9);
    d = copy_of(w, &l, words);
    zero_from(d, 9, 0);
    CHECK(walked(w, &l, 5, 0, &t, &end) < w->count && end < t.durable);
    kv_log_close(&l);
    kv_dir_close(d);
    world_close(w);
    free(w);
    free(words);
}

static void names(void)
{
    static const char *const bad[] = {"",
                                      "log",
                                      "log.",
                                      "log.1",
                                      "log.00000001x",
                                      "log.0000000g",
                                      "log.000000001",
                                      "log.0000000A",
                                      "LOG.00000001",
                                      "blob.00000001",
                                      "log.+0000001",
                                      "log. 0000001"};
    uint32_t id = 7;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!kv_log_parse_name(bad[i], &id) && id == 7);
    CHECK(kv_log_parse_name("log.00000001", &id) && id == 1);
    CHECK(kv_log_parse_name("log.ffffffff", &id) && id == UINT32_MAX);
}

int main(void)
{
    const char *given = getenv("SEED");
    size_t i;

    if (given)
        seed = strtoull(given, NULL, 10);
    else
        (void)kv_os_random(&seed, sizeof seed);
    seed |= 1;
    printf("test_log: SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (i = 0; i < sizeof noise; i++)
        noise[i] = (char)roll(256);
    names();
    appending();
    pinned();
    recycling();
    torn_tails();
    damage();
    records_in_records();
    dying_writers();
    failed_sync();
    sync_past();
    chains();
    return check_done("test_log");
}
