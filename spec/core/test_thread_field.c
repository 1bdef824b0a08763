/* SPDX-License-Identifier: MIT
 *
 * test_thread_field.c - threads with handles of their own edit one document: no edit is lost, none
 * is made twice, and whoever reads sees a whole one. Runs under TSan too.
 */
#define _GNU_SOURCE
#include "model.h"

#include "../../csrc/json.h"

#include <pthread.h>

/* As in test_thread_store.c: what is copied is checked after that; or before, as in kv_get_value,
 * where no byte goes back to what it was (each is read once more). */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:kv_log_fetch\n"
           "race:kv_rec_look\n"
           "race:kv_rec_whole\n"
           "race:glance\n"
           "race:kv_get_value\n"
           "race:copy_node\n"
           "race:kv_order_room\n"
           "race:mapping_of\n";
}

#define EDITORS 8

typedef struct job {
    const char *path;
    int index;
    long edits;
    uint64_t bad, looks;
    uint64_t *done;
    pthread_t id;
} job;

static kv *handle(const char *path, kv_ns **ns)
{
    kv_options o;
    kv *h = NULL;
    int e;

    kv_options_init(&o);
    o.sync = KV_SYNC_NONE;
    e = kv_open(path, &o, &h);
    if (e == KV_OK)
        e = kv_namespace(h, "n", 1, NULL, 0, 1, ns);
    if (e != KV_OK) {
        fprintf(stderr, "%s\n", kv_message());
        exit(1);
    }
    return h;
}

static int field(kv_ns *ns, int op, const char *path, const char *json, kv_edited *out)
{
    kv_edit edit;

    memset(&edit, 0, sizeof edit);
    edit.op = op;
    edit.path = path;
    edit.path_len = (uint32_t)strlen(path);
    edit.json = json;
    edit.json_len = (uint32_t)strlen(json);
    edit.by.type = KV_INTEGER;
    edit.by.integer = 1;
    edit.write.flags = KV_KEEP_TTL | KV_KEEP_META;
    return kv_edit_field(ns, "doc", 3, &edit, out);
}

/* Each counts in a field of all and in one of its own, and pushes what nobody else does. */
static void *edit_on(void *arg)
{
    job *j = arg;
    kv_ns *ns;
    kv *h = handle(j->path, &ns);
    kv_edited out;
    char own[32], item[96];
    int64_t before = 0;

    snprintf(own, sizeof own, "own.editor %d", j->index);
    for (long i = 0; i < j->edits; i++) {
        snprintf(item, sizeof item, "[%d,%ld,\"so that it becomes a large value\"]", j->index, i);
        j->bad += field(ns, KV_EDIT_INCREMENT, "n", "", &out) != KV_OK ||
                  out.value.type != KV_INTEGER || out.value.integer <= before;
        before = out.value.integer;
        j->bad +=
            field(ns, KV_EDIT_INCREMENT, own, "", &out) != KV_OK || out.value.integer != i + 1;
        j->bad += field(ns, KV_EDIT_PUSH, "list", item, &out) != KV_OK;
        if (i % 16 == 0)
            j->bad += kv_expire(ns, "doc", 3, 1000000 + i) != KV_OK;
    }
    __atomic_fetch_add(j->done, 1, __ATOMIC_RELEASE);
    kv_ns_close(ns);
    kv_close(h);
    return NULL;
}

static int64_t number_at(kv_ns *ns, const char *path)
{
    kv_value v;
    int64_t i = -1;
    double d;

    if (kv_get_field(ns, "doc", 3, path, strlen(path), &v) != KV_OK)
        return -1;
    return kv_json_number_parse(v.data, v.len, &i, &d) == KV_JSON_INTEGER ? i : -1;
}

static void *look_on(void *arg)
{
    job *j = arg;
    kv_ns *ns;
    kv *h = handle(j->path, &ns);
    int64_t before = 0, now;
    kv_record r;

    while (__atomic_load_n(j->done, __ATOMIC_ACQUIRE) < EDITORS) {
        now = number_at(ns, "n");
        j->bad += now < before;
        before = now;
        j->bad += kv_get(ns, "doc", 3, &r) != KV_OK || r.meta_len != 7 ||
                  kv_json_check(r.value.data, r.value.len, NULL) != KV_JSON_OK;
        j->looks++;
    }
    kv_ns_close(ns);
    kv_close(h);
    return NULL;
}

static void together(const char *path, long edits)
{
    static const char start[] = "{\"n\":0 , \"untouched\" : [1.0, 1e2] }";
    job jobs[EDITORS + 1] = {{0}};
    kv_value v = {KV_JSON, sizeof start - 1, start, 0, 0};
    kv_write w = {0};
    uint64_t done = 0;
    char way[64];
    kv_ns *ns;
    kv *h = handle(path, &ns);
    kv_record r;
    long next[EDITORS] = {0};
    int i;

    w.flags = KV_META;
    w.meta = "{\"m\":1}";
    w.meta_len = 7;
    CHECK(kv_put(ns, "doc", 3, &v, &w, NULL, NULL) == KV_OK);
    for (i = 0; i <= EDITORS; i++) {
        jobs[i].path = path;
        jobs[i].index = i;
        jobs[i].edits = edits;
        jobs[i].done = &done;
        if (pthread_create(&jobs[i].id, NULL, i < EDITORS ? edit_on : look_on, &jobs[i]) != 0)
            exit(1);
    }
    for (i = 0; i <= EDITORS; i++) {
        pthread_join(jobs[i].id, NULL);
        CHECK(jobs[i].bad == 0);
    }
    CHECK(number_at(ns, "n") == EDITORS * edits);
    for (i = 0; i < EDITORS; i++) {
        snprintf(way, sizeof way, "own.editor %d", i);
        CHECK(number_at(ns, way) == edits);
    }
    /* Every item once, those of each editor in its order. */
    for (i = 0; i < EDITORS * edits; i++) {
        int64_t who, which;
        snprintf(way, sizeof way, "list[%d][0]", i);
        who = number_at(ns, way);
        snprintf(way, sizeof way, "/list/%d/1", i);
        which = number_at(ns, way);
        if (!CHECK(who >= 0 && who < EDITORS && which == next[who]))
            break;
        next[who]++;
    }
    CHECK(number_at(ns, "list[-1][1]") == edits - 1);
    CHECK(kv_get(ns, "doc", 3, &r) == KV_OK && r.expires != 0 && r.meta_len == 7 &&
          memcmp(r.value.data + 5 + (size_t)snprintf(NULL, 0, "%ld", EDITORS * edits),
                 " , \"untouched\" : [1.0, 1e2]", 27) == 0);
    CHECK(kv_check(h) == KV_OK);
    kv_ns_close(ns);
    kv_close(h);
}

int main(void)
{
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    model_start("test_thread_field");
    together(at("small"), model_steps(60));
    /* Long enough to become a file of its own on the way. */
    together(at("large"), model_steps(120));
    remove_root();
    return check_done("test_thread_field");
}
