/* SPDX-License-Identifier: MIT
 *
 * test_turns.c - the model test with two processes that take turns on one store, each of which has
 * it open all the while.
 *
 * The model lies in memory that both share, and so do the clock that stands and the state of
 * chance: whoever has the turn goes on where the other one stopped, through a handle of his own.
 * Now and then one closes the store and opens it again beside the other, or is killed and followed
 * by another process, and both compare all there is, by key and by listing; sometimes the store is
 * checked. Helper threads of both run beside all that. SEED=n runs one again; KV_STEPS=n makes that
 * many operations.
 */
#define _GNU_SOURCE
#include <stddef.h>

static void *turns_alloc(size_t n);
static void turns_free(void *p);
#define MODEL_ALLOC(n) turns_alloc(n)
#define MODEL_FREE(p)  turns_free(p)

#include "model.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define CLASSES 20
#define ARENA   ((size_t)256 << 20)
#define TURN    64 /* most operations of one */

typedef struct block {
    struct block *next;
    uint64_t size_class;
} block;

static struct {
    uint32_t turn, over; /* whose it is: a futex; over: nobody's any more */
    int bad;
    uint64_t seed, operations, turns, opened, compared, checked, killed;
    int64_t clock;
    model m; /* its handles are those of whoever has the turn */
    block *free[CLASSES];
    size_t used;
    block first; /* blocks follow each other from here on */
    char arena[ARENA];
} * all;

/* ---- memory that both have at one address; only who has the turn asks for it ---------------- */

static void *turns_alloc(size_t n)
{
    int c = 0;
    block *b;

    while (((size_t)16 << c) < n)
        c++;
    b = c < CLASSES ? all->free[c] : NULL;
    if (b != NULL) {
        all->free[c] = b->next;
        return b + 1;
    }
    n = sizeof *b + ((size_t)16 << c);
    if (c >= CLASSES || all->used + n > ARENA)
        return NULL;
    b = (block *)(void *)(all->arena + all->used);
    all->used += n;
    b->size_class = (uint64_t)c;
    return b + 1;
}

static void turns_free(void *p)
{
    block *b = p;

    if (p == NULL)
        return;
    b--;
    b->next = all->free[b->size_class];
    all->free[b->size_class] = b;
}

/* ---- turns ------------------------------------------------------------------------------ */

static const char *path;
static uint64_t want;

static void pass_on(uint32_t to)
{
    __atomic_store_n(&all->turn, to, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &all->turn, FUTEX_WAKE, 8, NULL, NULL, 0);
}

static void await_turn(uint32_t me)
{
    struct timespec t = {0, 100000000};
    uint32_t now;

    while ((now = __atomic_load_n(&all->turn, __ATOMIC_SEQ_CST)) != me && !all->over)
        syscall(SYS_futex, &all->turn, FUTEX_WAIT, now, &t, NULL, 0);
}

static void open_it(model *m)
{
    kv_options o;
    int e;

    kv_options_init(&o);
    o.sync = roll(16) == 0 ? KV_SYNC_ALWAYS : roll(2) ? KV_SYNC_NONE : KV_SYNC_INTERVAL;
    o.interval = 20;
    o.timeout = 60000;
    o.thread = (int)roll(2);
    e = model_open(m, path, &o);
    if (!HOLDS(m, e == KV_OK))
        fprintf(stderr, "  %s\n", kv_message());
    all->opened++;
}

/* One turn through my handles, which the model has while it lasts. */
static void take_turn(model *m, int first)
{
    uint64_t n = 1 + roll(TURN), dice = roll(4000);

    kv_test_clock_set(all->clock += (int64_t)roll(400));
    if (first || dice < 20) {
        if (!first)
            model_close(m);
        open_it(m);
    }
    if (first || dice < 60) {
        m->op = "compare";
        HOLDS(m, !m->failed && model_same(m));
        all->compared++;
    }
    if (dice >= 60 && dice < 66) {
        m->op = "check";
        if (!HOLDS(m, kv_check(m->h) == KV_OK))
            fprintf(stderr, "  %s\n", kv_message());
        all->checked++;
    }
    for (; n > 0 && !m->failed; n--, all->operations++)
        random_op(m);
    all->turns++;
}

static void player(int me)
{
    model *m = &all->m;
    kv_ns *ns[MODEL_NS] = {NULL};
    kv *h = NULL;
    int first = 1, dies, i;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check_failures = 0;
    for (;;) {
        await_turn((uint32_t)me);
        if (all->over)
            break;
        model_seed = all->seed;
        m->h = h;
        memcpy(m->ns, ns, sizeof ns);
        take_turn(m, first);
        h = m->h;
        memcpy(ns, m->ns, sizeof ns);
        first = 0;
        dies = roll(8000) == 0;
        all->seed = model_seed;
        if (m->failed || check_failures || all->operations >= want) {
            all->bad |= m->failed || check_failures;
            all->over = 1;
        }
        if (dies && !all->over) {
            all->killed++;
            kill(getpid(), SIGKILL); /* who follows goes on with this turn */
        }
        pass_on((uint32_t)!me);
    }
    for (i = 0; i < MODEL_NS; i++)
        kv_ns_close(ns[i]);
    kv_close(h);
    check_exit(0);
}

static pid_t start(int me)
{
    pid_t child;

    fflush(NULL);
    child = check_fork();
    if (child == 0)
        player(me);
    CHECK(child > 0);
    return child;
}

int main(void)
{
    const char *steps = getenv("KV_STEPS");
    int64_t began = kv_os_monotonic();
    pid_t child[2], ended;
    double seconds;
    int i, status, left = 2;
    model *m;

    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0); /* where syncs cost nothing */
    model_start("test_turns");
    want = steps                ? strtoull(steps, NULL, 10)
           : getenv("KV_SHORT") ? 10000
           : getenv("KV_LONG")  ? 100000000
                                : 200000;
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return 2;
    path = at("store");
    model_keys();
    all->seed = model_seed;
    all->clock = kv_os_wall();
    for (i = 0; i < 2; i++)
        child[i] = start(i);
    while (left > 0 && (ended = wait(&status)) > 0) {
        i = ended == child[1];
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !all->over) {
            child[i] = start(i);
            continue;
        }
        left--;
        if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
            all->over = 1;
            fprintf(stderr, "  a process ended with status %x\n", (unsigned)status);
        }
    }
    CHECK(!all->bad);
    /* And what both have left, found by somebody who opens it alone. */
    m = &all->m;
    model_seed = all->seed;
    kv_test_clock_set(all->clock);
    if (!all->bad) {
        open_it(m);
        CHECK(model_same(m) && kv_check(m->h) == KV_OK && !m->failed);
        model_close(m);
    }
    seconds = (double)(kv_os_monotonic() - began) / 1e9;
    printf("%llu operations (%.0f a second) in %llu turns; %llu times opened, compared %llu times, "
           "checked %llu times, %llu killed\n",
           (unsigned long long)all->operations, (double)all->operations / seconds,
           (unsigned long long)all->turns, (unsigned long long)all->opened,
           (unsigned long long)all->compared, (unsigned long long)all->checked,
           (unsigned long long)all->killed);
    remove_root();
    return check_done("test_turns");
}
