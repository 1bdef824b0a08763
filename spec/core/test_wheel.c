/* SPDX-License-Identifier: MIT
 *
 * test_wheel.c - the timing wheel against a plain list, with time as an argument.
 *
 * Timers are numbered; the number is their hash. The list knows when each is due, and by how much
 * it may be late: not at all, but for deadlines beyond a multiple of 2^36 ms. Time jumps by 1 ms to
 * 10 years, sometimes back. SEED=n repeats a run.
 */
#define _GNU_SOURCE
#include "wheel.h"
#include "image.h"

#define TIMERS 120000
#define YEAR   ((int64_t)31557600000)

typedef struct model {
    image m;
    int64_t now;
    int64_t due[TIMERS];  /* 0: not armed */
    int64_t late[TIMERS]; /* ms it may be */
    uint64_t armed, steps;
    uint32_t top;
    uint32_t extra; /* the first of fifty that may be armed between others; 0: none */
    int loose; /* time goes back while the wheel still does: nobody can say what is rounded when */
} model;

static void room(model *t, uint64_t n)
{
    image_room(&t->m, KV_TIMERS, n);
}

static void sound(model *t)
{
    if (!CHECK(kv_wheel_check(&t->m.r) == KV_OK)) {
        fprintf(stderr, "%s\n", kv_message());
        exit(1);
    }
}

static void begin(model *t, int64_t now)
{
    memset(t, 0, sizeof *t);
    image_open(&t->m);
    kv_wheel_init(&t->m.r, now);
    t->now = now;
    sound(t);
}

/* 1 to 2^bits - 1, all magnitudes alike. */
static int64_t magnitude(int bits)
{
    return (int64_t)(image_random() & (((uint64_t)2 << image_below((uint64_t)bits)) - 1));
}

static int64_t some_deadline(const model *t)
{
    int64_t edge = (int64_t)1 << (6 * (1 + image_below(7)));

    switch (image_below(8)) {
    case 0: /* a boundary of a level, or next to it */
        return (t->now / edge + (int64_t)image_below(3)) * edge + (int64_t)image_below(5) - 2;
    case 1: /* the past */
        return t->now - magnitude(36);
    case 2: /* all alike */
        return (t->now / 5000 + 1) * 5000;
    default: /* 1 ms to 17 years */
        return t->now + magnitude(38);
    }
}

/* Notes timer i as armed when the wheel's time was `at`. */
static void note_armed(model *t, uint32_t i, int64_t deadline, int64_t at)
{
    int64_t end = ((int64_t)1 << 48) - 1;
    int64_t due = deadline < at ? at : deadline > end ? end : deadline;

    t->due[i] = due;
    t->late[i] = t->loose || (due ^ at) >> 42 ? 1023 : (due ^ at) >> 36 ? 15 : 0;
    t->armed++;
    if (i >= t->top)
        t->top = i + 1;
}

static void arm(model *t, uint32_t i, int64_t deadline)
{
    int64_t at = (int64_t)t->m.r.head->wheel[KV_WHEEL_NOW];

    room(t, KV_WHEEL_ROOM);
    kv_txn_begin(&t->m.r);
    CHECK(kv_wheel_add(&t->m.r, i, deadline) == KV_OK);
    CHECK(t->m.r.head->journal.count < 12);
    kv_txn_end(&t->m.r);
    note_armed(t, i, deadline, at);
}

static void note_fired(model *t, uint32_t i, int64_t deadline)
{
    if (!CHECK(i < t->top && t->due[i] != 0))
        return;
    CHECK(t->due[i] <= t->now);
    CHECK(deadline >= t->due[i] && deadline <= t->due[i] + t->late[i]);
    t->due[i] = 0;
    t->armed--;
}

static uint64_t foreseen, taken;

/* Takes some of the n that were foreseen out at once, after one was armed for later, now and then:
 * how many. */
static int take(model *t, const kv_timer *ahead, int n)
{
    int some = 1 + (int)image_below((uint32_t)n), i;
    uint32_t another = t->extra + (uint32_t)image_below(50);

    if (t->extra && image_below(2) && !t->due[another] && t->now < (int64_t)1 << 47)
        arm(t, another, t->now + 1 + magnitude(30));
    kv_txn_begin(&t->m.r);
    CHECK(kv_wheel_take(&t->m.r, t->now, some) == KV_WHEEL_FIRED);
    CHECK(t->m.r.head->journal.count <= 1 + 5 * (uint64_t)some);
    kv_txn_end(&t->m.r);
    for (i = 0; i < some; i++)
        note_fired(t, ahead[i].hash, ahead[i].deadline);
    taken += (uint64_t)some;
    return some;
}

/* Steps until nothing is due. What is foreseen happens. */
static void drain(model *t, int check)
{
    uint64_t steps = 0, fired = 0, armed = t->armed;
    int64_t deadline = -1;
    kv_timer ahead[14];
    uint32_t i = ~0u;
    int rc, at = 0, n = 0;

    for (;;) {
        uint64_t used = t->m.r.head->used[KV_TIMERS];

        if (at == n) {
            n = kv_wheel_peek(&t->m.r, t->now, ahead, 1 + (int)(t->steps % 14));
            at = 0;
            if (n > 0 && image_below(2)) {
                fired += (uint64_t)take(t, ahead, n);
                n = 0;
                continue;
            }
        }
        room(t, KV_WHEEL_ROOM);
        kv_txn_begin(&t->m.r);
        rc = kv_wheel_step(&t->m.r, t->now, &i, &deadline);
        CHECK(t->m.r.head->journal.count <= 100);
        kv_txn_end(&t->m.r);
        CHECK(t->m.r.head->used[KV_TIMERS] - used <= KV_WHEEL_ROOM);
        if (check)
            sound(t);
        if (at < n) {
            CHECK(rc == KV_WHEEL_FIRED && i == ahead[at].hash && deadline == ahead[at].deadline);
            at++;
            foreseen++;
        }
        if (rc == KV_WHEEL_FIRED) {
            note_fired(t, i, deadline);
            fired++;
        } else if (rc != KV_WHEEL_MOVED) {
            break;
        }
        if (!CHECK(steps++ < 20 * armed + 1000))
            break;
    }
    CHECK(rc == KV_WHEEL_IDLE);
    CHECK(!kv_wheel_due(&t->m.r, t->now));
    t->steps += steps - fired;
}

/* Nothing that is overdue is left. A clock a little behind the wheel makes it wait. */
static void nothing_left(model *t)
{
    int64_t at = (int64_t)t->m.r.head->wheel[KV_WHEEL_NOW];
    uint32_t i;

    CHECK(at - t->now <= KV_WHEEL_BACK);
    CHECK(t->m.r.head->wheel[KV_WHEEL_COUNT] == t->armed);
    for (i = 0; i < t->top && at <= t->now; i++)
        if (t->due[i])
            CHECK(t->due[i] + t->late[i] > t->now);
}

static int any_due(const model *t)
{
    uint32_t i;

    for (i = 0; i < t->top; i++)
        if (t->due[i] && t->due[i] + t->late[i] <= t->now)
            return 1;
    return 0;
}

static void jump(model *t, int back)
{
    int64_t by = magnitude(39), max = 10 * YEAR;
    uint32_t i;

    if (by > max)
        by = max;
    if (image_below(3) || t->now > (int64_t)1 << 46)
        by &= 0xfff;
    if (image_below(4) == 0 && t->top > 0) { /* exactly to a timer, or right before it */
        i = (uint32_t)image_below(t->top);
        if (t->due[i] > t->now)
            by = t->due[i] - t->now - (int64_t)image_below(2);
    }
    if (back && image_below(8) == 0) {
        int64_t at = (int64_t)t->m.r.head->wheel[KV_WHEEL_NOW];

        t->now = by >= t->now ? 1 : t->now - by;
        if (at - t->now <= KV_WHEEL_BACK)
            return;
        /* Going back over a boundary of 2^36 costs the low bits. */
        for (i = 0; i < t->top; i++)
            if (t->due[i]) {
                int64_t late = (t->now ^ at) >> 42 ? 1023 : (t->now ^ at) >> 36 ? 15 : 0;

                if (late > t->late[i])
                    t->late[i] = late;
            }
        return;
    }
    t->now += by;
}

static int64_t some_start(void)
{
    switch (image_below(4)) {
    case 0:
        return ((int64_t)1 << 42) - (int64_t)image_below(100000); /* 2109 */
    case 1:
        return 26 * ((int64_t)1 << 36) - (int64_t)image_below(100000);
    case 2:
        return 1 + (int64_t)image_below(100000);
    default:
        return 1790000000000 + (int64_t)image_below(1000000000);
    }
}

static void test_list(int rounds, uint32_t timers, int back, int check)
{
    static model t;
    uint64_t due = 0, fired = 0;
    int round;
    uint32_t i;

    begin(&t, some_start());
    t.extra = timers;
    for (round = 0; round < rounds; round++) {
        for (i = (uint32_t)image_below(timers / 4 + 1); i > 0; i--) {
            uint32_t k = (uint32_t)image_below(timers);

            if (!t.due[k]) {
                arm(&t, k, some_deadline(&t));
                if (check)
                    sound(&t);
            }
        }
        jump(&t, back);
        if (any_due(&t) && t.now >= (int64_t)t.m.r.head->wheel[KV_WHEEL_NOW]) {
            CHECK(kv_wheel_due(&t.m.r, t.now));
            due++;
        }
        fired += t.armed;
        if (kv_wheel_due(&t.m.r, t.now) || image_below(2))
            drain(&t, check);
        fired -= t.armed;
        nothing_left(&t);
        /* What falls due just now, and again at this very time. */
        if (image_below(4) == 0) {
            for (i = 0; i < timers && t.due[i]; i++)
                continue;
            if (i < timers) {
                arm(&t, i, t.now);
                if ((int64_t)t.m.r.head->wheel[KV_WHEEL_NOW] <= t.now)
                    CHECK(kv_wheel_due(&t.m.r, t.now));
                drain(&t, check);
                if ((int64_t)t.m.r.head->wheel[KV_WHEEL_NOW] <= t.now)
                    CHECK(!t.due[i] || t.late[i]);
            }
        }
    }
    sound(&t);
    t.now = ((int64_t)1 << 48) - 1;
    drain(&t, 0);
    CHECK(t.armed == 0);
    sound(&t);
    CHECK(due > 0 && fired > 0);
    image_close(&t.m);
}

/* Every millisecond of some hours, as a busy server would see them: nothing late, little work. */
static void test_real_time(int64_t span)
{
    static model t;
    int64_t *list = calloc(TIMERS, sizeof *list);
    uint64_t i, idle = 0;

    begin(&t, 1790000000000);
    for (i = 0; i < TIMERS; i++)
        arm(&t, (uint32_t)i, t.now + 1 + (int64_t)image_below((uint64_t)span));
    for (; t.armed; t.now++)
        if (kv_wheel_due(&t.m.r, t.now)) {
            uint64_t armed = t.armed;

            drain(&t, 0);
            idle += t.armed == armed;
        }
    CHECK(t.now <= 1790000000000 + span + 1);
    CHECK(t.steps < TIMERS * 8);
    for (i = 0; i < TIMERS; i++)
        CHECK(t.due[i] == 0);
    sound(&t);
    /* With nothing near it still says due now and then, to move on; once a second. */
    arm(&t, 0, t.now + YEAR);
    for (i = 0, idle = 0; i < 60000; i++, t.now++)
        if (kv_wheel_due(&t.m.r, t.now)) {
            drain(&t, 0);
            idle++;
        }
    CHECK(idle <= 61 && idle >= 59);
    free(list);
    image_close(&t.m);
}

static void test_equal(void)
{
    static model t;
    uint32_t i;

    begin(&t, 1790000000000);
    for (i = 0; i < 100000; i++)
        arm(&t, i, t.now + 3600000);
    sound(&t);
    t.now += 3599999;
    drain(&t, 0);
    CHECK(t.armed == 100000);
    sound(&t);
    t.now++;
    drain(&t, 0);
    CHECK(t.armed == 0);
    sound(&t);
    image_close(&t.m);
}

/* A clock that was years ahead is set right: what is armed then fires in time. */
static void test_back(void)
{
    static model t;
    int64_t true_time = 1790000000000;
    uint32_t i;

    begin(&t, true_time + 12 * YEAR);
    for (i = 0; i < 1000; i++)
        arm(&t, i, t.now + magnitude(36));
    t.now += 5000;
    drain(&t, 1);
    t.now = true_time;
    for (i = 0; i < 1000; i++)
        t.late[i] = 15;
    CHECK(kv_wheel_due(&t.m.r, t.now));
    drain(&t, 1);
    CHECK(t.m.r.head->wheel[KV_WHEEL_NOW] == (uint64_t)true_time);
    for (i = 1000; i < 2000; i++)
        arm(&t, i, t.now + 1 + (int64_t)(i % 100));
    t.now += 100;
    drain(&t, 1);
    for (i = 1000; i < 2000; i++)
        CHECK(t.due[i] == 0);
    nothing_left(&t);
    /* A little behind: it waits. */
    arm(&t, 1000, t.now + 10);
    t.now += 60000;
    drain(&t, 1);
    arm(&t, 1000, t.now);
    t.now -= 50000;
    CHECK(!kv_wheel_due(&t.m.r, t.now));
    drain(&t, 1);
    CHECK(t.due[1000] != 0);
    t.now += 50000;
    drain(&t, 1);
    CHECK(t.due[1000] == 0);
    image_close(&t.m);
}

/* ---- death ---- */

/* A transaction of several steps and adds, as a store may make of them: what fires is armed again
 * an hour later, others are armed besides; and some of it is swept. */
typedef struct deed {
    model *t;
    int steps, adds, sweeps;
    int at_once;    /* timers that are taken at once where they are foreseen; 0: each is stepped */
    uint32_t first; /* numbers of the adds */
    int64_t deadline[8];
    int64_t at[8]; /* the wheel's time when they were made */
    int ended;     /* the transaction may count */
    int fired;
    uint32_t which[8 * 8];
} deed;

static void add(deed *d, int i)
{
    kv_region *r = &d->t->m.r;

    d->at[i] = (int64_t)r->head->wheel[KV_WHEEL_NOW];
    CHECK(kv_wheel_add(r, d->first + (uint32_t)i, d->deadline[i]) == KV_OK);
}

static int all_wanted(void *arg, uint32_t hash, int64_t deadline)
{
    (void)arg;
    (void)hash;
    (void)deadline;
    return 1;
}

static void perform(void *arg)
{
    deed *d = arg;
    kv_region *r = &d->t->m.r;
    int i, adds = 0;

    d->fired = 0;
    d->ended = 0;
    kv_txn_begin(r);
    for (i = 0; i < d->steps; i++) {
        uint32_t hash = 0;
        int64_t deadline = 0;
        kv_timer ahead[8];
        int rc, j, n = kv_wheel_peek(r, d->t->now, ahead, d->at_once);

        if (n > 0) {
            CHECK(kv_wheel_take(r, d->t->now, n) == KV_WHEEL_FIRED);
            for (j = 0; j < n; j++)
                d->which[d->fired++] = ahead[j].hash;
            continue;
        }
        rc = kv_wheel_step(r, d->t->now, &hash, &deadline);
        CHECK(rc >= 0);
        if (rc == KV_WHEEL_FIRED) {
            d->which[d->fired++] = hash;
            if (adds < d->adds)
                add(d, adds++);
        }
    }
    while (adds < d->adds)
        add(d, adds++);
    for (i = 0; i < d->sweeps; i++) /* what is wanted is only put together */
        CHECK(kv_wheel_sweep(r, all_wanted, NULL) >= 0);
    d->ended = 1;
    kv_txn_end(r);
}

typedef struct seen {
    model *t;
    uint64_t count;
    int wrong;
    unsigned char met[TIMERS];
} seen;

static int visit(void *arg, uint32_t hash, int64_t deadline)
{
    seen *s = arg;

    if (hash >= TIMERS || s->met[hash] || !s->t->due[hash] || deadline < s->t->due[hash] ||
        deadline > s->t->due[hash] + s->t->late[hash])
        s->wrong++;
    else
        s->met[hash] = 1;
    s->count++;
    return 0;
}

/* The wheel holds what the model holds. */
static int same(model *t)
{
    static seen s;

    memset(&s, 0, sizeof s);
    s.t = t;
    CHECK(kv_wheel_each(&t->m.r, visit, &s) == KV_OK);
    return s.count == t->armed && !s.wrong;
}

/* The model after the deed. */
static void note(const deed *d)
{
    int i;

    for (i = 0; i < d->fired; i++)
        if (CHECK(d->t->due[d->which[i]] != 0)) {
            d->t->due[d->which[i]] = 0;
            d->t->armed--;
        }
    for (i = 0; i < d->adds; i++)
        note_armed(d->t, d->first + (uint32_t)i, d->deadline[i], d->at[i]);
}

static void test_death(int rounds, int (*kill)(int64_t n, void (*)(void *), void *))
{
    static model t;
    static image_copy copy;
    uint64_t deaths = 0;
    uint32_t next = 0;
    int round, i;

    begin(&t, some_start());
    t.loose = 1;
    for (round = 0; round < rounds && next < TIMERS - 100; round++) {
        deed d;
        int64_t n;

        for (i = (int)image_below(20); i > 0 && t.armed < 60; i--)
            arm(&t, next++, t.now + magnitude(image_below(2) ? 38 : 12));
        if (image_below(3))
            jump(&t, 1);
        memset(&d, 0, sizeof d);
        d.t = &t;
        d.steps = (int)image_below(8);
        d.at_once = image_below(2) ? (int)image_below(8) : 0;
        d.adds = (int)image_below(8);
        d.sweeps = (int)image_below(4);
        d.first = next;
        next += 8;
        for (i = 0; i < d.adds; i++) /* future, so that what is armed does not fire in `steps` */
            d.deadline[i] = t.now + 3600000 + magnitude(12);
        room(&t, 32);
        image_save(&t.m, &copy);
        for (n = 1; !kill(n, perform, &d); n++) {
            int after;

            deaths++;
            image_recover(&t.m, n % 5 == 0);
            sound(&t);
            after = !same(&t);
            if (after) { /* so late that it counts */
                static model undone;

                CHECK(kill == image_fork || d.ended);
                undone = t;
                if (kill == image_jump) {
                    note(&d);
                    CHECK(same(&t));
                }
                image_restore(&t.m, &copy);
                memcpy(t.due, undone.due, sizeof t.due);
                memcpy(t.late, undone.late, sizeof t.late);
                t.armed = undone.armed;
                t.top = undone.top;
            }
        }
        if (kill == image_fork) { /* what fired only the child knew */
            image_restore(&t.m, &copy);
            perform(&d);
        }
        note(&d);
        sound(&t);
        if (!CHECK(same(&t)))
            break;
    }
    CHECK(deaths > (rounds < 100 ? 0 : (uint64_t)rounds * 3));
    image_forget(&copy);
    image_close(&t.m);
}

/* ---- sweeping ---- */

static uint64_t asked;

static int even(void *arg, uint32_t hash, int64_t deadline)
{
    model *t = arg;

    asked++;
    CHECK(hash < t->top && deadline >= t->due[hash] && deadline <= t->due[hash] + t->late[hash]);
    if (hash % 2 == 0)
        return 1;
    CHECK(t->due[hash] != 0);
    t->due[hash] = 0;
    t->armed--;
    return 0;
}

static int refuse(void *arg, uint32_t hash, int64_t deadline)
{
    (void)arg;
    (void)deadline;
    return hash % 5 == 0 ? KV_EIO : hash % 3 != 0;
}

/* One call; *round: a round of it is complete. */
static void sweep(model *t, int *round)
{
    uint64_t armed = t->armed;
    int rc;

    kv_txn_begin(&t->m.r);
    rc = kv_wheel_sweep(&t->m.r, even, t);
    CHECK(t->m.r.head->journal.count <= 32);
    kv_txn_end(&t->m.r);
    CHECK((rc == 0 || rc == 1) && armed - t->armed <= 7);
    *round = rc;
}

/* Beside arming, firing and clocks that jump the sweep gets round, meets every timer there is, and
 * takes what nobody wants; the chunks are as few as they can be afterwards. */
static void test_sweep(int rounds)
{
    static model t;
    uint64_t swept = 0, was, chunks;
    int round, done, i, turns;

    begin(&t, some_start());
    t.loose = 1;
    for (round = 0; round < rounds; round++) {
        for (i = (int)image_below(60); i > 0; i--) {
            uint32_t k = (uint32_t)image_below(3000);

            if (!t.due[k])
                arm(&t, k, t.now + magnitude(image_below(3) ? 38 : 12));
        }
        if (image_below(3) == 0) {
            jump(&t, image_below(4) == 0);
            if (image_below(3))
                drain(&t, 0);
        }
        was = t.armed;
        for (i = (int)image_below(30); i > 0; i--)
            sweep(&t, &done);
        swept += was - t.armed;
        /* What was begun and then undone is as it was. */
        kv_txn_begin(&t.m.r);
        (void)kv_wheel_sweep(&t.m.r, refuse, NULL);
        CHECK(kv_txn_undo(&t.m.r, NULL) == KV_OK);
        sound(&t);
        CHECK(same(&t));
    }
    CHECK(swept > (uint64_t)rounds);
    drain(&t, 0);
    for (i = 0; i < 1000; i++)
        if (!t.due[i])
            arm(&t, (uint32_t)i, t.now + 3600000 + magnitude(20));
    for (turns = 0; turns < 3;) {
        sweep(&t, &done);
        turns += done;
    }
    sound(&t);
    CHECK(same(&t));
    for (i = 1; i < 3000; i += 2)
        CHECK(t.due[i] == 0);
    CHECK(t.armed >= 500);
    /* All that are wanted fire. */
    t.now = ((int64_t)1 << 48) - 1;
    drain(&t, 0);
    CHECK(t.armed == 0);
    sound(&t);
    image_close(&t.m);

    /* Of a slot with one in twenty wanted: the other chunks are free. */
    begin(&t, 1790000000000);
    for (i = 0; i < 20000; i++)
        arm(&t, (uint32_t)i * 20 % 19 ? 2 * (uint32_t)i + 1 : 2 * (uint32_t)i, t.now + 3600000);
    chunks = t.m.r.head->used[KV_TIMERS];
    asked = 0;
    for (turns = 0; turns < 2;) {
        sweep(&t, &done);
        turns += done;
    }
    CHECK(asked >= 20000 && t.armed < 20000 / 15);
    sound(&t);
    for (i = 0; i < 18000; i++)
        arm(&t, 50000 + (uint32_t)i, t.now + 3600000);
    CHECK(t.m.r.head->used[KV_TIMERS] == chunks);
    sound(&t);
    image_close(&t.m);
}

/* ---- damage and lack ---- */

static int count_visits(void *arg, uint32_t hash, int64_t deadline)
{
    (void)hash;
    (void)deadline;
    ++*(uint64_t *)arg;
    return 0;
}

static void scribble(model *t)
{
    kv_head *h = t->m.r.head;
    int n = 1 + (int)image_below(4);

    while (n-- > 0) {
        uint64_t used = h->used[KV_TIMERS];
        uint64_t *word = &h->wheel[image_below(4) ? image_below(16) : image_below(KV_WHEEL_WORDS)];
        uint64_t value = image_below(2) ? image_random() << image_below(40) : image_below(used + 2);

        if (image_below(3)) {
            kv_place p = kv_region_place(&t->m.r, KV_TIMERS, (uint32_t)image_below(used));

            word = (uint64_t *)(void *)p.ptr + (image_below(2) ? 0 : image_below(8));
            if (image_below(2)) /* a plausible link */
                value = (1 + image_below(7)) << 32 | image_below(used + 2);
        }
        if (image_below(3) == 0)
            value = *word ^ (uint64_t)1 << image_below(64);
        *word = value;
    }
}

static void test_damage(int rounds)
{
    static model t;
    static image_copy copy;
    kv_region *r = &t.m.r;
    uint64_t visits = 0, found = 0;
    int64_t start;
    int i, round, rc;

    begin(&t, some_start());
    for (i = 0; i < 500; i++)
        arm(&t, (uint32_t)i, some_deadline(&t));
    t.now += 1000;
    drain(&t, 0);
    room(&t, 5000);
    image_save(&t.m, &copy);
    start = t.now;
    for (round = 0; round < rounds; round++) {
        int64_t now = start, deadline;
        uint32_t hash;
        int steps = 0;

        scribble(&t);
        rc = kv_wheel_check(r);
        CHECK(rc == KV_OK || rc == KV_ECORRUPT);
        found += rc == KV_ECORRUPT;
        (void)kv_wheel_each(r, count_visits, &visits);
        for (i = 0; i < 30; i++) {
            now += image_below(4) ? magnitude(38) : -magnitude(38);
            do {
                kv_txn_begin(r);
                rc = kv_wheel_step(r, now, &hash, &deadline);
                kv_txn_end(r);
            } while (rc > 0 && steps++ < 1000000);
            (void)kv_wheel_due(r, now);
            kv_txn_begin(r);
            (void)kv_wheel_add(r, 7, now + magnitude(38));
            kv_txn_end(r);
        }
        if (!CHECK(steps < 1000000))
            break;
        image_restore(&t.m, &copy);
    }
    CHECK(found > (uint64_t)rounds / 3);
    sound(&t);
    image_forget(&copy);
    image_close(&t.m);
}

/* What chance does not hit upon. */
static void test_damaged_links(void)
{
    static model t;
    kv_region *r = &t.m.r;
    int64_t deadline;
    uint32_t hash;
    uint64_t *w;
    int rc, steps = 0;

    /* A chunk that follows itself: carried down, it is in two slots, and never gets empty. */
    begin(&t, 1790000000000);
    arm(&t, 1, t.now + 300000);
    w = (uint64_t *)(void *)kv_region_place(r, KV_TIMERS, 0).ptr;
    w[0] |= 1;
    CHECK(kv_wheel_check(r) == KV_ECORRUPT);
    do {
        kv_txn_begin(r);
        rc = kv_wheel_step(r, t.now + 299999, &hash, &deadline);
        kv_txn_end(r);
    } while (rc > 0 && ++steps < 10000);
    CHECK(rc == KV_ECORRUPT && steps > 0);
    image_close(&t.m);

    /* A deadline that does not belong into its slot. */
    begin(&t, 1790000000000);
    arm(&t, 1, t.now + 300000);
    w = (uint64_t *)(void *)kv_region_place(r, KV_TIMERS, 0).ptr;
    w[1] ^= 1 << 20;
    CHECK(kv_wheel_check(r) == KV_ECORRUPT);
    kv_txn_begin(r);
    CHECK(kv_wheel_step(r, t.now + 3000000, &hash, &deadline) == KV_ECORRUPT);
    kv_txn_end(r);
    image_close(&t.m);
}

/* Words that no wheel has: nothing is foreseen, and a sweep says so or begins anew. */
static int never_wanted(void *arg, uint32_t hash, int64_t deadline)
{
    (void)arg;
    (void)hash;
    (void)deadline;
    return 0;
}

static int one_error(void *arg, uint32_t hash, int64_t deadline)
{
    (void)hash;
    (void)deadline;
    return --*(int *)arg == 0 ? KV_EIO : 1;
}

static void test_damaged_words(void)
{
    static model t;
    kv_region *r = &t.m.r;
    uint64_t *h, kept[16];
    kv_timer timers[4];
    int rc, i, n = 2;

    begin(&t, 1790000000000);
    for (i = 0; i < 100; i++)
        arm(&t, (uint32_t)i, t.now + 1000 + i * 700);
    h = r->head->wheel;
    memcpy(kept, h, sizeof kept);
    h[KV_WHEEL_NOW] = UINT64_MAX;
    CHECK(kv_wheel_peek(r, t.now, timers, 4) == 0);
    kv_txn_begin(r);
    CHECK(kv_wheel_take(r, t.now, 1) == KV_ECORRUPT && r->head->journal.count == 0);
    kv_txn_end(r);
    memcpy(h, kept, sizeof kept);
    CHECK(kv_wheel_peek(r, t.now - 1000000, timers, 4) == 0);
    h[KV_WHEEL_OPEN] = 99;
    CHECK(kv_wheel_peek(r, t.now, timers, 4) == 0);
    memcpy(h, kept, sizeof kept);
    for (i = 0; i < 4; i++) {
        kv_txn_begin(r);
        h[KV_WHEEL_NOW] = i == 0 ? UINT64_MAX : h[KV_WHEEL_NOW];
        h[KV_WHEEL_SWEEP] = i == 1 ? 100000 : h[KV_WHEEL_SWEEP];
        h[KV_WHEEL_SWEPT] = i == 2 ? 0xfffffff0u : h[KV_WHEEL_SWEPT];
        rc = kv_wheel_sweep(r, never_wanted, NULL);
        CHECK(rc == KV_ECORRUPT || i > 1);
        (void)kv_txn_undo(r, NULL);
        kv_txn_end(r);
        memcpy(h, kept, sizeof kept);
    }
    /* Who judges them may fail. */
    for (i = 0; i < 1000 && n > 0; i++) {
        kv_txn_begin(r);
        rc = kv_wheel_sweep(r, one_error, &n);
        if (rc < 0)
            (void)kv_txn_undo(r, NULL);
        kv_txn_end(r);
    }
    CHECK(rc == KV_EIO);
    image_close(&t.m);
}

/* All chunks in use, a timer in each: carrying needs no other, whatever the place. */
static void test_last_chunk(void)
{
    static model t;
    kv_region *r = &t.m.r;
    int64_t deadline;
    uint32_t i, hash, fired = 0;
    int rc;

    begin(&t, 1790000000000 >> 24 << 24);
    for (i = 0; i < KV_TIMERS_FIRST; i++) {
        kv_txn_begin(r);
        CHECK(kv_wheel_add(r, i, t.now + (((int64_t)i % 60 + 1) << (i < 60 ? 12 : 18)) + 77) ==
              KV_OK);
        kv_txn_end(r);
    }
    CHECK(kv_region_room(r, KV_TIMERS) == 0);
    for (; fired < KV_TIMERS_FIRST; t.now += 50) {
        do {
            kv_txn_begin(r);
            rc = kv_wheel_step(r, t.now, &hash, &deadline);
            kv_txn_end(r);
            fired += rc == KV_WHEEL_FIRED;
        } while (rc > 0);
        if (!CHECK(rc == KV_WHEEL_IDLE))
            break;
    }
    sound(&t);
    image_close(&t.m);
}

/* Without a free chunk an add says full and changes nothing; stepping still gets on. */
static void test_full(void)
{
    static model t;
    kv_region *r = &t.m.r;
    int64_t deadline;
    uint32_t i, hash, fired = 0;
    int rc;

    begin(&t, 1790000000000);
    for (i = 0, rc = KV_OK; rc == KV_OK; i++) {
        kv_txn_begin(r);
        rc = kv_wheel_add(r, i, t.now + magnitude(35));
        kv_txn_end(r);
        sound(&t);
    }
    CHECK(rc == KV_EFULL && i >= KV_TIMERS_FIRST);
    CHECK(r->head->wheel[KV_WHEEL_COUNT] == i - 1);
    while (fired < i - 1) {
        t.now += magnitude(30);
        do {
            kv_txn_begin(r);
            rc = kv_wheel_step(r, t.now, &hash, &deadline);
            kv_txn_end(r);
            sound(&t);
            fired += rc == KV_WHEEL_FIRED;
            if (rc == KV_EFULL)
                t.now += (int64_t)1 << 36; /* all of the slot is due then, and needs no place */
        } while (rc != KV_WHEEL_IDLE);
    }
    CHECK(r->head->wheel[KV_WHEEL_COUNT] == 0);
    image_close(&t.m);
}

int main(void)
{
    int i;

    image_start("test_wheel");
    for (i = 0; i < image_steps(20); i++) {
        test_list(300, 30, i % 2, 1);
        test_list(300, 400, i % 2, 0);
    }
    test_list(image_steps(2000), 5000, 0, 0);
    test_list(image_steps(2000), 5000, 1, 0);
    test_real_time(3600000 / (getenv("KV_SHORT") ? 10 : 1));
    test_equal();
    test_back();
    test_sweep(image_steps(1500));
    test_full();
    test_last_chunk();
    test_damaged_links();
    test_damaged_words();
    test_death(image_steps(300), image_jump);
    test_death(image_steps(300), image_jump);
    test_death(image_steps(12), image_fork);
    test_damage(image_steps(2000));
    CHECK(foreseen > 0 && taken > 0);
    return check_done("test_wheel");
}
