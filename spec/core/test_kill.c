/* SPDX-License-Identifier: MIT
 *
 * test_kill.c - kill -9 of a writer, then open again, some two hundred times.
 *
 * A child opens the store and does operations that follow from their number alone, noting in a page
 * shared with its parent which one it begins and which one has returned. The parent kills it at a
 * random moment (while it opens, writes, syncs, cleans or closes), opens the store and compares all
 * of it with a model: every operation that returned is there, the one under way wholly or not at
 * all, and nothing else. Nothing in here knows what a store or a system call is.
 *
 * SEED=n repeats the operations, if not the moments of death.
 */
#define _GNU_SOURCE
#include "state.h"

#include <signal.h>
#include <time.h>

#define KEYS  300
#define BATCH 6

/* What a key holds: nothing (0), a number, or the text of operation `op`. */
typedef struct cell {
    enum { NOTHING, NUMBER, TEXT } is;
    uint64_t op;
    int64_t number;
    int meta;
} cell;

typedef struct model {
    cell a[KEYS], b[KEYS]; /* of two namespaces */
} model;

enum { PUT, PUT_META, DELETE, INCR, MANY, EXPIRE, PERSIST, DROP, LARGE };

typedef struct deed {
    int kind, other; /* other: in namespace b */
    uint32_t key, size;
} deed;

static struct {
    uint64_t begun, done; /* operations; the child's */
    uint64_t opened;      /* the store was open and may be written to */
    int failed;           /* code that the child did not expect */
    char message[200];
} * told;

static char path[STATE_PATH];

/* ---- operations by their number ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static deed deed_of(uint64_t seed, uint64_t n)
{
    static const uint32_t sizes[] = {5, 20, 60, 200, 200, 1500, 7000};
    uint64_t z = mix(seed + n * 0x9e3779b97f4a7c15ull), dice = z % 1000;
    deed d;

    d.key = (uint32_t)(z >> 10) % KEYS;
    d.size = sizes[(z >> 40) % (sizeof sizes / sizeof *sizes)];
    d.other = (z >> 50) % 4 == 0;
    d.kind = dice < 480   ? PUT
             : dice < 560 ? PUT_META
             : dice < 680 ? DELETE
             : dice < 790 ? INCR
             : dice < 880 ? MANY
             : dice < 930 ? EXPIRE
             : dice < 970 ? PERSIST
             : dice < 972 ? DROP
             : dice < 980 ? LARGE
                          : PUT;
    if (d.kind == DROP)
        d.other = 1;
    if (d.kind == LARGE)
        d.size = 20000;
    if (d.kind == MANY)
        d.size = d.size < 200 ? d.size : 200;
    return d;
}

static uint32_t key_of(uint32_t n, char to[24])
{
    return (uint32_t)snprintf(to, 24, "key:%03u:%03u", (unsigned)(n * 7 % 10), (unsigned)n);
}

static uint32_t size_of_text(const deed *d)
{
    return d->size < 8 ? 8 : d->size;
}

static void text_of(uint64_t n, uint32_t size, char *to)
{
    uint32_t i;

    memcpy(to, &n, 8);
    for (i = 8; i < size; i++)
        to[i] = (char)('a' + (n + i / 32) % 26);
}

/* ---- the model ---- */

static void foresee(model *m, uint64_t seed, uint64_t n)
{
    deed d = deed_of(seed, n);
    cell *c = d.other ? m->b : m->a;
    uint32_t i;

    switch (d.kind) {
    case DELETE:
        c[d.key].is = NOTHING;
        break;
    case INCR:
        if (c[d.key].is == TEXT)
            break; /* refused */
        c[d.key].number = c[d.key].is == NUMBER ? c[d.key].number + 3 : 3;
        if (c[d.key].is == NOTHING)
            c[d.key].meta = 0;
        c[d.key].is = NUMBER;
        break;
    case MANY:
        for (i = 0; i < BATCH; i++) {
            cell *one = &c[(d.key + i * 37) % KEYS];

            one->is = TEXT;
            one->op = n;
            one->meta = 0;
        }
        break;
    case EXPIRE:
    case PERSIST:
        break;
    case DROP:
        memset(m->b, 0, sizeof m->b);
        break;
    default:
        c[d.key].is = TEXT;
        c[d.key].op = n;
        c[d.key].meta = d.kind == PUT_META;
    }
}

static int cell_is(const cell *c, uint64_t seed, kv_ns *ns, uint32_t key)
{
    static char want[1 << 15];
    kv_record r;
    char name[24];
    uint32_t len = key_of(key, name), size;
    int rc = kv_get(ns, name, len, &r);
    deed d;

    if (c->is == NOTHING)
        return rc == KV_ENOTFOUND;
    if (rc != KV_OK || (r.meta_len != 0) != (c->meta != 0))
        return 0;
    if (c->is == NUMBER)
        return r.value.type == KV_INTEGER && r.value.integer == c->number;
    d = deed_of(seed, c->op);
    size = size_of_text(&d);
    text_of(c->op, size, want);
    return r.value.type == KV_STRING && r.value.len == size &&
           memcmp(r.value.data, want, size) == 0;
}

/* The first key that is not as the model says, and how many the listing gave; -1: all is. */
static int compare(const model *m, uint64_t seed, kv_ns *a, kv_ns *b)
{
    uint64_t count[2], want[2] = {0, 0};
    int i;

    for (i = 0; i < KEYS; i++) {
        if (!cell_is(&m->a[i], seed, a, (uint32_t)i))
            return i;
        if (!cell_is(&m->b[i], seed, b, (uint32_t)i))
            return KEYS + i;
        want[0] += m->a[i].is != NOTHING;
        want[1] += m->b[i].is != NOTHING;
    }
    if (kv_count(a, NULL, &count[0]) != KV_OK || kv_count(b, NULL, &count[1]) != KV_OK ||
        count[0] != want[0] || count[1] != want[1])
        return 2 * KEYS;
    return -1;
}

/* ---- the writer ---- */

static int act(kv *h, kv_ns *ns[2], uint64_t seed, uint64_t n)
{
    static char bytes[1 << 15], keys[BATCH][24];
    static const char meta[] = "{\"m\":1}";
    deed d = deed_of(seed, n);
    kv_ns *in = ns[d.other];
    kv_value v = {0}, out;
    kv_write w = {0};
    kv_item items[BATCH];
    char key[24];
    uint32_t len = key_of(d.key, key), i;
    uint64_t keys_gone;
    int rc, had;

    v.type = KV_STRING;
    v.data = bytes;
    v.len = size_of_text(&d);
    text_of(n, v.len, bytes);
    switch (d.kind) {
    case DELETE:
        rc = kv_delete(in, key, len, NULL, NULL, NULL);
        return rc == KV_ENOTFOUND ? KV_OK : rc;
    case INCR:
        v.type = KV_INTEGER;
        v.integer = 3;
        rc = kv_incr(in, key, len, &v, NULL, &out, NULL);
        return rc == KV_ENOTNUMBER ? KV_OK : rc;
    case MANY:
        memset(items, 0, sizeof items);
        for (i = 0; i < BATCH; i++) {
            items[i].key = keys[i];
            items[i].len = key_of((d.key + i * 37) % KEYS, keys[i]);
            items[i].value = v;
        }
        return kv_put_many(in, items, BATCH, NULL, NULL);
    case EXPIRE:
        rc = kv_expire(in, key, len, 3600000);
        return rc == KV_ENOTFOUND ? KV_OK : rc;
    case PERSIST:
        rc = kv_persist(in, key, len, &had);
        return rc == KV_ENOTFOUND ? KV_OK : rc;
    case DROP:
        return kv_drop(h, "b", 1, &keys_gone);
    default:
        if (d.kind == PUT_META) {
            w.flags = KV_META;
            w.meta = meta;
            w.meta_len = sizeof meta - 1;
        }
        return kv_put(in, key, len, &v, &w, NULL, NULL);
    }
}

static void open_all(const kv_options *o, kv **h, kv_ns *ns[2])
{
    if (kv_open(path, o, h) == KV_OK && kv_namespace(*h, "a", 1, NULL, 0, 1, &ns[0]) == KV_OK &&
        kv_namespace(*h, "b", 1, NULL, 0, 1, &ns[1]) == KV_OK)
        return;
    told->failed = 1;
    snprintf(told->message, sizeof told->message, "%s", kv_message());
    _exit(1);
}

/* Goes on until it is killed, and now and then closes and opens. */
static void writer(uint64_t seed, uint64_t n, const kv_options *o)
{
    kv_ns *ns[2];
    kv *h;
    int i, rc;

    for (;;) {
        open_all(o, &h, ns);
        __atomic_store_n(&told->opened, 1, __ATOMIC_SEQ_CST);
        for (i = 0; i < 3000; i++, n++) {
            __atomic_store_n(&told->begun, n + 1, __ATOMIC_SEQ_CST);
            rc = act(h, ns, seed, n);
            if (rc == KV_OK && n % 64 == 0)
                rc = kv_tick(h, 100, NULL);
            if (rc != KV_OK) {
                told->failed = rc;
                snprintf(told->message, sizeof told->message, "%s", kv_message());
                _exit(1);
            }
            __atomic_store_n(&told->done, n + 1, __ATOMIC_SEQ_CST);
        }
        kv_ns_close(ns[0]);
        kv_ns_close(ns[1]);
        kv_close(h);
    }
}

/* ---- the one who kills ---- */

static void nap(uint64_t us)
{
    struct timespec t;

    t.tv_sec = 0;
    t.tv_nsec = (long)us * 1000;
    while (nanosleep(&t, &t) != 0)
        continue;
}

/* What differs, for whoever looks into a failure. */
static void explain(const model *m, uint64_t seed, kv_ns *ns[2], uint64_t n)
{
    deed d = deed_of(seed, n);
    kv_record r;
    char name[24];
    int i, rc, shown = 0;

    fprintf(stderr, "  the operation under way: kind %d, namespace %d, key %u\n", d.kind, d.other,
            (unsigned)d.key);
    for (i = 0; i < 2 * KEYS && shown < 8; i++) {
        const cell *c = i < KEYS ? &m->a[i] : &m->b[i - KEYS];

        if (cell_is(c, seed, ns[i >= KEYS], (uint32_t)(i % KEYS)))
            continue;
        memset(&r, 0, sizeof r);
        rc = kv_get(ns[i >= KEYS], name, key_of((uint32_t)(i % KEYS), name), &r);
        fprintf(stderr,
                "  key %d: %s, type %d, revision %llu; the model has %d of operation %llu\n", i,
                rc == KV_OK ? "there" : kv_message(), r.value.type, (unsigned long long)r.rev,
                (int)c->is, (unsigned long long)c->op);
        shown++;
    }
}

static uint64_t verified, cut, in_flight;

static int verify(model *m, uint64_t seed, uint64_t *n, int round)
{
    uint64_t begun = told->begun, done = told->done;
    static model next;
    kv_options o;
    kv_stats st;
    kv_ns *ns[2];
    kv *h;
    int before, after = -1, good;

    for (; *n < done; ++*n)
        foresee(m, seed, *n);
    kv_options_init(&o);
    o.thread = 0;
    if (!CHECK(kv_open(path, &o, &h) == KV_OK)) {
        fprintf(stderr, "  %s\n", kv_message());
        return 0;
    }
    if (!CHECK(kv_namespace(h, "a", 1, NULL, 0, 1, &ns[0]) == KV_OK) ||
        !CHECK(kv_namespace(h, "b", 1, NULL, 0, 1, &ns[1]) == KV_OK))
        return 0;
    before = compare(m, seed, ns[0], ns[1]);
    if (before >= 0 && begun > done) {
        next = *m;
        foresee(&next, seed, done);
        after = compare(&next, seed, ns[0], ns[1]);
        if (after < 0) {
            *m = next;
            ++*n;
            in_flight++;
        }
    }
    good = CHECK(before < 0 || (begun > done && after < 0));
    if (!good) {
        explain(m, seed, ns, done);
        fprintf(stderr,
                "  round %d: operation %llu done, %llu begun; not as the model says: key %d, %d "
                "(%s)\n",
                round, (unsigned long long)done, (unsigned long long)begun, before, after,
                kv_report(h));
    }
    if (!CHECK(kv_check(h) == KV_OK)) {
        fprintf(stderr, "  round %d: %s\n", round, kv_message());
        good = 0;
    }
    if (kv_get_stats(h, &st) == KV_OK)
        cut += st.cut_bytes != 0;
    verified += *n;
    kv_ns_close(ns[0]);
    kv_ns_close(ns[1]);
    kv_close(h);
    return good;
}

static int round_of_it(int round, uint64_t seed, uint64_t *n, model *m)
{
    kv_options o;
    pid_t child;
    int status = 0;

    memset(told, 0, sizeof *told);
    told->begun = told->done = *n;
    kv_options_init(&o);
    o.sync = round % 3 == 0 ? KV_SYNC_ALWAYS : round % 3 == 1 ? KV_SYNC_INTERVAL : KV_SYNC_NONE;
    o.interval = 5;
    o.thread = round % 4 != 3;
    child = check_fork();
    if (child == 0) {
        image_seed = mix(seed ^ *n) | 1; /* not what its parent and the next child will draw */
        writer(seed, *n, &o);
    }
    if (child < 0)
        image_die("fork");
    /* Some die while they open, most later. */
    if (image_below(5) != 0) {
        while (!__atomic_load_n(&told->opened, __ATOMIC_SEQ_CST) && !told->failed)
            nap(200);
        nap(image_below(image_below(4) ? 15000 : 60000));
    } else {
        nap(image_below(8000));
    }
    kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child)
        image_die("waitpid");
    if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        fprintf(stderr, "  round %d: the writer failed: %d %s\n", round, told->failed,
                told->message);
        return 0;
    }
    return verify(m, seed, n, round);
}

int main(void)
{
    static model m;
    uint64_t seed, n = 0;
    int rounds, i, good = 1;

    state_begin("test_kill");
    seed = image_random();
    rounds = getenv("KV_ROUNDS") ? atoi(getenv("KV_ROUNDS")) : image_steps(200);
    state_path(path, "store");
    told = mmap(NULL, KV_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (i = 0; i < rounds && good; i++)
        good = round_of_it(i, seed, &n, &m);
    state_clear();
    printf("%d kills, %llu operations, %llu in flight were kept, %llu tails cut off\n", i,
           (unsigned long long)n, (unsigned long long)in_flight, (unsigned long long)cut);
    return check_done("test_kill");
}
