/* SPDX-License-Identifier: MIT
 *
 * json_model.h - random documents, random paths and random edits of them, against a tree.
 *
 * For each edit the tree says which code it must end in, what the document must mean afterwards,
 * and between which two offsets it may have changed at all. Included by test_json_edit.c.
 */

/* ---- chance --------------------------------------------------------------------------- */

static uint64_t model_state;

static uint64_t roll(uint64_t below)
{
    model_state ^= model_state << 13;
    model_state ^= model_state >> 7;
    model_state ^= model_state << 17;
    return (model_state * UINT64_C(0x2545f4914f6cdd1d) >> 11) % below;
}

/* ---- trees ---------------------------------------------------------------------------- */

typedef struct node {
    char type;             /* { [ " 0 t f n */
    const char *raw;       /* its text */
    size_t raw_len, at;    /* and where that begins in the document */
    size_t item;           /* where its key begins, if it has one */
    const char *key, *str; /* decoded */
    size_t key_len, str_len;
    struct node *first, *last, *next;
    int count;
} node;

static char arena[1 << 20];
static size_t arena_used;

static void *take(size_t size)
{
    void *p = arena + arena_used;

    arena_used += (size + 15) & ~(size_t)15;
    if (arena_used > sizeof(arena))
        abort();
    return p;
}

static const char *parse_text; /* of the parser */
static size_t parse_at;

static void blanks(void)
{
    while (parse_text[parse_at] != '\0' && strchr(" \t\r\n", parse_text[parse_at]) != NULL)
        parse_at++;
}

static unsigned parse_hex(const char *p)
{
    unsigned u = 0;

    sscanf(p, "%4x", &u);
    return u;
}

static const char *parse_string(size_t *len)
{
    const char *p = parse_text + parse_at + 1;
    char *out = take(strlen(p)), *to = out;

    for (; *p != '"'; p++) {
        unsigned u;
        if (*p != '\\') {
            *to++ = *p;
            continue;
        }
        switch (*++p) {
        case 'n':
            *to++ = '\n';
            break;
        case 't':
            *to++ = '\t';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 'b':
            *to++ = '\b';
            break;
        case 'f':
            *to++ = '\f';
            break;
        case 'u':
            u = parse_hex(p + 1);
            p += 4;
            if (u >= 0xd800 && u < 0xdc00) {
                u = 0x10000 + ((u - 0xd800) << 10) + (parse_hex(p + 3) - 0xdc00);
                p += 6;
            }
            if (u < 0x80) {
                *to++ = (char)u;
            } else if (u < 0x800) {
                *to++ = (char)(0xc0 + (u >> 6));
                *to++ = (char)(0x80 + (u & 63));
            } else if (u < 0x10000) {
                *to++ = (char)(0xe0 + (u >> 12));
                *to++ = (char)(0x80 + (u >> 6 & 63));
                *to++ = (char)(0x80 + (u & 63));
            } else {
                *to++ = (char)(0xf0 + (u >> 18));
                *to++ = (char)(0x80 + (u >> 12 & 63));
                *to++ = (char)(0x80 + (u >> 6 & 63));
                *to++ = (char)(0x80 + (u & 63));
            }
            break;
        default:
            *to++ = *p;
        }
    }
    *len = (size_t)(to - out);
    parse_at = (size_t)(p + 1 - parse_text);
    return out;
}

static void add(node *to, node *n)
{
    n->next = NULL;
    if (to->last != NULL)
        to->last->next = n;
    else
        to->first = n;
    to->last = n;
    to->count++;
}

static node *parse_value(void)
{
    node *n = take(sizeof(*n));
    const char *key;
    size_t key_len, item;

    memset(n, 0, sizeof(*n));
    blanks();
    n->at = parse_at;
    n->type = parse_text[parse_at];
    switch (n->type) {
    case '{':
    case '[':
        parse_at++;
        for (;;) {
            node *child;
            blanks();
            if (parse_text[parse_at] == ']' || parse_text[parse_at] == '}')
                break;
            if (parse_text[parse_at] == ',') {
                parse_at++;
                blanks();
            }
            item = parse_at;
            key = NULL;
            key_len = 0;
            if (n->type == '{') {
                key = parse_string(&key_len);
                blanks();
                parse_at++;
            }
            child = parse_value();
            child->key = key;
            child->key_len = key_len;
            child->item = item;
            if (key == NULL)
                child->item = child->at;
            add(n, child);
        }
        parse_at++;
        break;
    case '"':
        n->str = parse_string(&n->str_len);
        break;
    case 't':
    case 'n':
        parse_at += 4;
        break;
    case 'f':
        parse_at += 5;
        break;
    default:
        n->type = '0';
        while (parse_text[parse_at] != '\0' && strchr("+-.eE0123456789", parse_text[parse_at]))
            parse_at++;
    }
    n->raw = parse_text + n->at;
    n->raw_len = parse_at - n->at;
    return n;
}

static node *parse(const char *text)
{
    parse_text = text;
    parse_at = 0;
    return parse_value();
}

static int same_key(const node *a, const char *key, size_t len)
{
    return a->key_len == len && memcmp(a->key, key, len) == 0;
}

/* Of several members with the key the last one. */
static node *member(const node *n, const char *key, size_t len)
{
    node *found = NULL;

    for (node *c = n->first; c != NULL; c = c->next)
        if (same_key(c, key, len))
            found = c;
    return found;
}

static node *element(const node *n, int64_t i)
{
    node *c = n->first;

    if (i < 0)
        i += n->count;
    if (i < 0)
        return NULL;
    while (c != NULL && i-- > 0)
        c = c->next;
    return c;
}

static void drop(node *n, const node *which)
{
    node *c = n->first;

    n->first = n->last = NULL;
    n->count = 0;
    while (c != NULL) {
        node *next = c->next;
        if (c != which)
            add(n, c);
        c = next;
    }
}

static void drop_key(node *n, const char *key, size_t len)
{
    node *c;

    while ((c = member(n, key, len)) != NULL)
        drop(n, c);
}

/* What `with` is, `n` becomes; its key stays. */
static void become(node *n, const node *with)
{
    n->type = with->type;
    n->raw = with->raw;
    n->raw_len = with->raw_len;
    n->str = with->str;
    n->str_len = with->str_len;
    n->first = with->first;
    n->last = with->last;
    n->count = with->count;
}

/* One spelling for all that means the same; numbers as they are spelled. */
static char *spell(const node *n, char *to)
{
    char before = n->type;

    switch (n->type) {
    case '{':
    case '[':
        for (const node *c = n->first; c != NULL; c = c->next) {
            if (n->type == '{' && member(n, c->key, c->key_len) != c)
                continue;
            *to++ = before;
            before = ',';
            if (n->type == '{') {
                to += sprintf(to, "%zu:", c->key_len);
                memcpy(to, c->key, c->key_len);
                to += c->key_len;
            }
            to = spell(c, to);
        }
        if (before != ',')
            *to++ = n->type;
        *to++ = n->type == '{' ? '}' : ']';
        return to;
    case '"':
        to += sprintf(to, "\"%zu:", n->str_len);
        memcpy(to, n->str, n->str_len);
        return to + n->str_len;
    case '0':
        memcpy(to, n->raw, n->raw_len);
        return to + n->raw_len;
    }
    *to++ = n->type;
    return to;
}

/* ---- random texts --------------------------------------------------------------------- */

static char *some(char *to, const char *text)
{
    size_t n = strlen(text);

    memcpy(to, text, n);
    return to + n;
}

static char *some_space(char *to)
{
    while (roll(8) == 0)
        *to++ = " \n\t\r"[roll(4)];
    return to;
}

static const char *const pieces[] = {
    "a",
    "b",
    "c",
    "xyz",
    "0",
    "1",
    "-",
    ".",
    "/",
    "~",
    "\\\"",
    "\\\\",
    "\\/",
    "\\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    " ",
    "\\u0061",
    "\xc3\xa9",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\xf0\x9f\x98\x80",
    "\\u0000",
    "~0",
    "~1",
    "$",
    "abcdefghijklmnopqrstuvwxyz",
};

static char *some_string(char *to)
{
    *to++ = '"';
    for (uint64_t n = roll(4); n > 0; n--)
        to = some(to, pieces[roll(sizeof(pieces) / sizeof(*pieces))]);
    *to++ = '"';
    return to;
}

static const char *const keys[] = {"a",       "b",    "c",   "d",        "0",       "1",
                                   "\\u0061", "",     "a.b", "~",        "/",       "-",
                                   "e\\\"",   "\\\\", "[0]", "\xc3\xa9", "\\u00e9", "x y"};

static char *some_key(char *to)
{
    *to++ = '"';
    to = some(to, keys[roll(roll(3) ? 6 : sizeof(keys) / sizeof(*keys))]);
    *to++ = '"';
    return to;
}

static char *some_number(char *to)
{
    static const char *const numbers[] = {
        "0",
        "-0",
        "1",
        "-1",
        "42",
        "1.0",
        "1e2",
        "-1.5",
        "0.1",
        "1E5",
        "1e-7",
        "10.0",
        "-0.0",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "12345678901234567890",
        "1.7976931348623157e308",
        "5e-324",
        "123456789.123456789",
    };

    return some(to, numbers[roll(sizeof(numbers) / sizeof(*numbers))]);
}

static char *some_json(char *to, int depth)
{
    uint64_t kind = roll(depth > 0 ? 10 : 6), n;

    switch (kind) {
    case 0:
        return some(to, roll(2) ? "true" : "false");
    case 1:
        return some(to, "null");
    case 2:
    case 3:
        return some_number(to);
    case 4:
    case 5:
        return some_string(to);
    }
    *to++ = kind < 8 ? '{' : '[';
    to = some_space(to);
    n = roll(5);
    for (uint64_t i = 0; i < n; i++) {
        if (i > 0) {
            *to++ = ',';
            to = some_space(to);
        }
        if (kind < 8) {
            to = some_key(to);
            to = some_space(to);
            *to++ = ':';
            to = some_space(to);
        }
        to = some_json(to, depth - 1);
        to = some_space(to);
    }
    *to++ = kind < 8 ? '}' : ']';
    return to;
}

/* ---- random paths --------------------------------------------------------------------- */

typedef struct way {
    int count, pointer;
    struct {
        const char *key; /* decoded; NULL: an index only */
        size_t len;
        int64_t index;
        int by;
    } step[12];
    char text[4000];
    size_t len;
} way;

/* Decodes a key of the table above. */
static void set_key(way *w, const char *quoted)
{
    const char *text = parse_text;
    size_t at = parse_at, len;

    parse_text = quoted;
    parse_at = 0;
    w->step[w->count].key = parse_string(&len);
    w->step[w->count].len = len;
    w->step[w->count].by = KV_JSON_BY_KEY;
    parse_text = text;
    parse_at = at;
}

static char *spell_quoted(const char *key, size_t len, char *to)
{
    *to++ = '[';
    *to++ = '"';
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)key[i] < 0x20 || (key[i] > 0 && roll(6) == 0))
            to += sprintf(to, "\\u%04x", (unsigned char)key[i]);
        else if (key[i] == '"' || key[i] == '\\')
            to += sprintf(to, "\\%c", key[i]);
        else
            *to++ = key[i];
    }
    *to++ = '"';
    *to++ = ']';
    return to;
}

static int is_name(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (key[i] != '\0' && strchr(".[]\"", key[i]) != NULL)
            return 0;
    return len > 0 && key[0] != '/';
}

static void spell_way(way *w)
{
    char *to = w->text;

    for (int i = 0; i < w->count; i++) {
        const char *key = w->step[i].key;
        size_t len = w->step[i].len;
        if (w->pointer) {
            *to++ = '/';
            if (key == NULL) {
                to += w->step[i].index == KV_JSON_BEHIND
                          ? sprintf(to, "-")
                          : sprintf(to, "%" PRId64, w->step[i].index);
                continue;
            }
            for (size_t k = 0; k < len; k++) {
                if (key[k] == '~' || key[k] == '/')
                    to += sprintf(to, "~%d", key[k] == '/');
                else
                    *to++ = key[k];
            }
        } else if (key == NULL) {
            to += sprintf(to, "[%" PRId64 "]", w->step[i].index);
        } else if (is_name(key, len) && roll(3)) {
            if (i > 0)
                *to++ = '.';
            memcpy(to, key, len);
            to += len;
        } else {
            to = spell_quoted(key, len, to);
        }
    }
    w->len = (size_t)(to - w->text);
}

/* In a pointer what looks like an index is either. */
static void settle_pointer(way *w)
{
    for (int i = 0; i < w->count && w->pointer; i++) {
        char text[32];
        const char *key = w->step[i].key;
        size_t len = w->step[i].len, k;
        int digits;
        if (key == NULL) {
            len = (size_t)(w->step[i].index == KV_JSON_BEHIND
                               ? sprintf(text, "-")
                               : sprintf(text, "%" PRId64, w->step[i].index));
            key = memcpy(take(len), text, len);
            w->step[i].key = key;
            w->step[i].len = len;
        }
        w->step[i].by = KV_JSON_BY_KEY;
        if (len == 1 && *key == '-') {
            w->step[i].by = KV_JSON_BY_EITHER;
            w->step[i].index = KV_JSON_BEHIND;
            continue;
        }
        k = len > 1 && *key == '-';
        digits = k < len && (key[k] != '0' || len == 1);
        for (; k < len; k++)
            digits = digits && key[k] >= '0' && key[k] <= '9';
        if (digits && len < 20) {
            memcpy(text, key, len);
            text[len] = '\0';
            w->step[i].by = KV_JSON_BY_EITHER;
            w->step[i].index = strtoll(text, NULL, 10);
        }
    }
}

static void some_way(const node *n, way *w)
{
    char quoted[64];

    w->count = 0;
    w->pointer = roll(3) == 0;
    while (w->count < 12 && roll(8) != 0) {
        int as_key = n == NULL ? roll(3) != 0 : n->type == '{' ? roll(30) != 0 : roll(30) == 0;
        if (n != NULL && n->type != '{' && n->type != '[' && roll(6) != 0)
            break;
        if (as_key) {
            node *c = n != NULL && n->count > 0 && roll(5) != 0
                          ? element(n, (int64_t)roll((uint64_t)n->count))
                          : NULL;
            if (c != NULL && c->key != NULL) {
                w->step[w->count].key = c->key;
                w->step[w->count].len = c->key_len;
                w->step[w->count].by = KV_JSON_BY_KEY;
            } else {
                *some_key(quoted) = '\0';
                set_key(w, quoted);
            }
            n = n != NULL && n->type == '{'
                    ? member(n, w->step[w->count].key, w->step[w->count].len)
                    : NULL;
        } else {
            int64_t count = n != NULL ? n->count : 0;
            w->step[w->count].key = NULL;
            w->step[w->count].by = KV_JSON_BY_INDEX;
            w->step[w->count].index =
                (int64_t)roll((uint64_t)count + 2) - (roll(4) == 0 ? count + 1 : 0);
            if (w->pointer && roll(6) == 0)
                w->step[w->count].index = KV_JSON_BEHIND;
            if (n == NULL && roll(2))
                w->step[w->count].index = 0;
            n = n != NULL && n->type == '[' && w->step[w->count].index != KV_JSON_BEHIND
                    ? element(n, w->step[w->count].index)
                    : NULL;
        }
        w->count++;
        if (n == NULL && roll(2))
            break;
    }
    spell_way(w);
    settle_pointer(w);
}

/* ---- what must come of it ------------------------------------------------------------- */

typedef struct outcome {
    int code;
    size_t low, high; /* nothing outside [low, high) of the old text may change */
    node *parent, *there;
    int steps;
} outcome;

static void follow(node *root, const way *w, int count, outcome *o)
{
    node *n = root;

    memset(o, 0, sizeof(*o));
    o->there = n;
    o->code = n == NULL ? KV_JSON_EMISSING : KV_JSON_OK;
    for (; o->code == KV_JSON_OK && o->steps < count; o->steps++) {
        int by = w->step[o->steps].by;
        node *next;
        if (n->type == '{' && by != KV_JSON_BY_INDEX)
            next = member(n, w->step[o->steps].key, w->step[o->steps].len);
        else if (n->type == '[' && by != KV_JSON_BY_KEY)
            next = w->step[o->steps].index == KV_JSON_BEHIND ? NULL
                                                             : element(n, w->step[o->steps].index);
        else {
            o->code = by == KV_JSON_BY_INDEX ? KV_JSON_EARRAY : KV_JSON_EOBJECT;
            if (n->type == '{')
                o->code = KV_JSON_EARRAY;
            else if (n->type == '[')
                o->code = KV_JSON_EOBJECT;
            return;
        }
        o->parent = n;
        if (next == NULL) {
            o->code = KV_JSON_EMISSING;
            return;
        }
        o->there = n = next;
    }
}

static void within(outcome *o, const node *n)
{
    o->low = n->at;
    o->high = n->at + n->raw_len;
}

/* Where a new last item goes: one place. */
static void behind_last(outcome *o, const node *n)
{
    o->low = o->high = n->last != NULL ? n->last->at + n->last->raw_len : n->at + 1;
}

/* What goes with an item that goes. */
static void around(outcome *o, const node *holder, const node *n)
{
    const node *before = NULL;

    for (const node *c = holder->first; c != n; c = c->next)
        before = c;
    o->low = before != NULL ? before->at + before->raw_len : holder->at + 1;
    o->high = n->next != NULL ? n->next->item : holder->at + holder->raw_len - 1;
}

static node *fresh(char type)
{
    node *n = take(sizeof(*n));

    memset(n, 0, sizeof(*n));
    n->type = type;
    return n;
}

/* Makes what is missing from o->steps on; returns the new root. */
static node *model_make(node *root, const way *w, int count, outcome *o, node *value)
{
    int i = o->steps;
    node *to = root == NULL ? NULL : o->parent;

    for (int k = root == NULL ? i : i + 1; k < count; k++) {
        int array = w->step[k].by == KV_JSON_BY_INDEX ||
                    (w->step[k].by == KV_JSON_BY_EITHER && w->step[k].index == KV_JSON_BEHIND);
        if (array && w->step[k].index != 0 && w->step[k].index != KV_JSON_BEHIND)
            o->code = KV_JSON_EINDEX;
    }
    if (to != NULL && to->type == '[' && w->step[i].index != KV_JSON_BEHIND &&
        w->step[i].index != to->count)
        o->code = KV_JSON_EINDEX;
    if (o->code == KV_JSON_EINDEX)
        return root;
    o->code = KV_JSON_OK;
    if (to != NULL)
        behind_last(o, to);
    for (int k = count - 1; k > i || (k == i && root == NULL); k--) {
        int array = w->step[k].by == KV_JSON_BY_INDEX ||
                    (w->step[k].by == KV_JSON_BY_EITHER && w->step[k].index == KV_JSON_BEHIND);
        node *outer = fresh(array ? '[' : '{');
        if (!array) {
            value->key = w->step[k].key;
            value->key_len = w->step[k].len;
        }
        add(outer, value);
        value = outer;
    }
    if (to == NULL)
        return value;
    if (to->type == '{') {
        value->key = w->step[i].key;
        value->key_len = w->step[i].len;
    }
    add(to, value);
    return root;
}

static int whole(const node *n)
{
    for (size_t i = 0; i < n->raw_len; i++)
        if (strchr(".eE", n->raw[i]) != NULL)
            return 0;
    return 1;
}

static node *model_increment(node *root, const way *w, outcome *o, kv_json_edit *e)
{
    static char digits[2][64];
    static int turn;
    node *n = fresh('0');
    char raw[400] = "0";
    long long before = 0;
    int integer = 1, fits = 1;
    char *text = digits[turn ^= 1];

    if (o->code == KV_JSON_OK) {
        if (o->there->type != '0') {
            o->code = KV_JSON_EADD;
            return root;
        }
        memcpy(raw, o->there->raw, o->there->raw_len);
        raw[o->there->raw_len] = '\0';
        integer = whole(o->there) && strcmp(raw, "-0") != 0;
        before = strtoll(raw, NULL, 10);
        snprintf(text, 64, "%lld", before);
        fits = strcmp(text, raw) == 0;
    }
    if (integer && e->kind == KV_JSON_INTEGER) {
        long long by = e->integer;
        if (!fits || (by > 0 && before > INT64_MAX - by) || (by < 0 && before < INT64_MIN - by)) {
            o->code = KV_JSON_EINDEX;
            return root;
        }
        snprintf(text, 64, "%lld", before + by);
    } else {
        double d =
            strtod(raw, NULL) + (e->kind == KV_JSON_INTEGER ? (double)e->integer : e->number);
        size_t len = kv_json_number_format(d, 1, text);
        if (len == 0) {
            o->code = KV_JSON_EINDEX;
            return root;
        }
        text[len] = '\0';
        CHECK(strtod(text, NULL) == d && strpbrk(text, ".e") != NULL);
    }
    n->raw = text;
    n->raw_len = strlen(text);
    if (o->code == KV_JSON_OK) {
        within(o, o->there);
        become(o->there, n);
        return root;
    }
    return model_make(root, w, w->count, o, n);
}

static void model_merge(node *to, const node *patch)
{
    if (patch->type != '{') {
        become(to, patch);
        return;
    }
    if (to->type != '{') {
        become(to, fresh('{'));
    }
    for (const node *c = patch->first; c != NULL; c = c->next) {
        node *old = member(to, c->key, c->key_len);
        if (c->type == 'n') {
            drop_key(to, c->key, c->key_len);
            continue;
        }
        if (old == NULL) {
            old = fresh('n');
            old->key = c->key;
            old->key_len = c->key_len;
            add(to, old);
        }
        model_merge(old, c);
    }
}

/* Applies the edit to the tree. */
static node *expect(node *root, const way *w, kv_json_edit *e, outcome *o, size_t *length,
                    int *truth)
{
    node *value = e->value_len > 0 ? parse(e->value) : NULL, *array;
    int64_t index;

    follow(root, w, e->op == KV_JSON_INSERT ? w->count - 1 : w->count, o);
    if (e->op == KV_JSON_INSERT && (w->count == 0 || w->step[w->count - 1].by == KV_JSON_BY_KEY)) {
        o->code = KV_JSON_EPATH;
        return root;
    }
    if (o->code != KV_JSON_OK && o->code != KV_JSON_EMISSING)
        return root;
    switch (e->op) {
    case KV_JSON_SET:
        if (o->code != KV_JSON_OK)
            return model_make(root, w, w->count, o, value);
        within(o, o->there);
        if (w->count == 0) {
            o->low = 0;
            o->high = SIZE_MAX;
        }
        become(o->there, value);
        return root;
    case KV_JSON_INCREMENT:
        return model_increment(root, w, o, e);
    case KV_JSON_PUSH:
    case KV_JSON_EXTEND:
        array = value;
        if (e->op == KV_JSON_PUSH) {
            array = fresh('[');
            add(array, value);
        }
        if ((o->code == KV_JSON_OK && o->there->type != '[') || array->type != '[') {
            o->code = KV_JSON_EARRAY;
            return root;
        }
        *length = (size_t)array->count;
        if (o->code != KV_JSON_OK)
            return model_make(root, w, w->count, o, array);
        behind_last(o, o->there);
        for (node *c = array->first, *next; c != NULL; c = next) {
            next = c->next;
            add(o->there, c);
        }
        *length = (size_t)o->there->count;
        return root;
    case KV_JSON_INSERT:
        index = w->step[w->count - 1].index;
        if (o->code != KV_JSON_OK) {
            if (index != 0 && index != KV_JSON_BEHIND) {
                o->code = KV_JSON_EINDEX;
                return root;
            }
            array = fresh('[');
            add(array, value);
            *length = 1;
            return model_make(root, w, w->count - 1, o, array);
        }
        if (o->there->type != '[') {
            o->code = KV_JSON_EARRAY;
            return root;
        }
        if (index < 0)
            index += o->there->count;
        if (index == KV_JSON_BEHIND)
            index = o->there->count;
        if (index < 0 || index > o->there->count) {
            o->code = KV_JSON_EINDEX;
            return root;
        }
        behind_last(o, o->there);
        if (index < o->there->count)
            o->low = o->high = element(o->there, index)->at;
        array = fresh('[');
        for (node *c = o->there->first, *next; c != NULL || index == 0; c = next) {
            if (index-- == 0) {
                node *rest = c;
                add(array, value);
                if (rest == NULL)
                    break;
            }
            next = c->next;
            add(array, c);
        }
        o->there->first = array->first;
        o->there->last = array->last;
        o->there->count = array->count;
        *length = (size_t)array->count;
        return root;
    case KV_JSON_POP:
        if (o->code != KV_JSON_OK)
            return root;
        if (o->there->type != '[') {
            o->code = KV_JSON_EARRAY;
            return root;
        }
        value = element(o->there, e->index);
        if (value == NULL) {
            o->code = KV_JSON_EMISSING;
            return root;
        }
        around(o, o->there, value);
        drop(o->there, value);
        return root;
    case KV_JSON_REMOVE:
        if (o->code != KV_JSON_OK)
            return root;
        around(o, o->parent, o->there);
        if (o->parent->type == '{') {
            for (const node *c = o->parent->first; c != o->there; c = c->next)
                if (same_key(c, o->there->key, o->there->key_len)) {
                    within(o, o->parent);
                    break;
                }
            drop_key(o->parent, o->there->key, o->there->key_len);
        } else {
            drop(o->parent, o->there);
        }
        return root;
    case KV_JSON_TOGGLE:
        if (o->code == KV_JSON_OK && o->there->type != 't' && o->there->type != 'f') {
            o->code = KV_JSON_EBOOLEAN;
            return root;
        }
        *truth = o->code != KV_JSON_OK || o->there->type == 'f';
        value = fresh(*truth ? 't' : 'f');
        if (o->code != KV_JSON_OK)
            return model_make(root, w, w->count, o, value);
        within(o, o->there);
        become(o->there, value);
        return root;
    case KV_JSON_APPEND:
        if (o->code == KV_JSON_OK && o->there->type != '"') {
            o->code = KV_JSON_ESTRING;
            return root;
        }
        *length = value->str_len;
        if (o->code != KV_JSON_OK)
            return model_make(root, w, w->count, o, value);
        o->low = o->high = o->there->at + o->there->raw_len - 1;
        {
            char *joined = take(o->there->str_len + value->str_len);
            memcpy(joined, o->there->str, o->there->str_len);
            memcpy(joined + o->there->str_len, value->str, value->str_len);
            o->there->str = joined;
            *length = o->there->str_len += value->str_len;
        }
        return root;
    }
    return root;
}

/* ---- the course ----------------------------------------------------------------------- */

#define MERGE 0

/* One edit of `doc`, which it replaces. Returns 0 when a check failed. */
static int model_edit(char **doc, size_t *len)
{
    static char value[20000], got[100000], wanted[100000];
    static way w;
    kv_json_path path;
    kv_json_edit e;
    outcome o;
    size_t length = 0, new_len = 0, at;
    node *root = NULL, *now;
    int truth = 0, code, held = 1;
    char *text = NULL, *end;

    arena_used = 0;
    if (*len > 0)
        root = parse(*doc);
    some_way(root, &w);
    memset(&e, 0, sizeof(e));
    e.op = (int)roll(KV_JSON_APPEND + 2);
    if (e.op > KV_JSON_APPEND)
        e.op = KV_JSON_SET;
    e.create = 1;
    end = value;
    switch (e.op) {
    case KV_JSON_SET:
    case KV_JSON_PUSH:
    case KV_JSON_INSERT:
    case KV_JSON_EXTEND:
    case MERGE:
        do
            end = some_json(value, 2);
        while ((e.op == KV_JSON_EXTEND && *value != '[') ||
               (e.op == MERGE && *value != '{' && roll(10) != 0));
        break;
    case KV_JSON_APPEND:
        end = some_string(value);
        break;
    case KV_JSON_INCREMENT:
        end = some_number(value);
        e.kind = kv_json_number_parse(value, (size_t)(end - value), &e.integer, &e.number);
        end = value;
        break;
    case KV_JSON_POP:
        e.index = (int64_t)roll(5) - 2;
        break;
    case KV_JSON_REMOVE:
        if (w.count == 0)
            return 1;
    }
    *end = '\0';
    e.value = value;
    e.value_len = (size_t)(end - value);
    held &= CHECK(kv_json_path_read(w.text, w.len, &path, NULL) == KV_JSON_OK &&
                  path.count == (size_t)w.count);
    if (e.op == MERGE) {
        node *patch = parse(value);
        if (root == NULL)
            root = fresh('n');
        model_merge(root, patch);
        o.code = KV_JSON_OK;
        o.low = 0;
        o.high = *len;
        new_len = *len;
        text = malloc(KV_JSON_MERGED_MAX(*len, e.value_len) + 1);
        if (*len > 0)
            memcpy(text, *doc, *len);
        code = kv_json_merge(text, &new_len, value, e.value_len);
        held &= CHECK(new_len <= KV_JSON_MERGED_MAX(*len, e.value_len));
        text[new_len] = '\0';
    } else {
        kv_json_edit model = e;
        root = expect(root, &w, &model, &o, &length, &truth);
        text = apply(*doc, *len, &path, &e, &new_len, &code);
    }
    held &= CHECK(code == o.code);
    if (code == KV_JSON_OK && held) {
        if (e.op == KV_JSON_PUSH || e.op == KV_JSON_EXTEND || e.op == KV_JSON_INSERT ||
            e.op == KV_JSON_APPEND)
            held &= CHECK(e.length == length);
        if (e.op == KV_JSON_TOGGLE)
            held &= CHECK(e.truth == truth);
        held &= CHECK(kv_json_check(text, new_len, NULL) == KV_JSON_OK);
        if (held && *len > 0) {
            at = o.high < *len ? *len - o.high : 0;
            held &= CHECK(new_len >= o.low + at && memcmp(text, *doc, o.low) == 0 &&
                          memcmp(text + new_len - at, *doc + *len - at, at) == 0);
        }
        if (held) {
            end = spell(root, wanted);
            now = parse(text);
            at = (size_t)(spell(now, got) - got);
            held &= CHECK(at == (size_t)(end - wanted) && memcmp(got, wanted, at) == 0);
        }
    }
    if (!held)
        fprintf(stderr, "  op %d path %.*s value %s\n  on %.*s\n  gave %s, code %d not %d\n", e.op,
                (int)w.len, w.text, value, (int)*len, *doc, text != NULL ? text : "nothing", code,
                o.code);
    if (text != NULL && code == KV_JSON_OK) {
        free(*doc);
        *doc = text;
        *len = new_len;
    } else {
        free(text);
    }
    return held;
}

static void test_model(void)
{
    const char *given = getenv("SEED");
    long rounds = MODEL_EDITS;
    char *doc = NULL;
    size_t len = 0;

    if (getenv("KV_SHORT"))
        rounds /= 50;
    if (getenv("KV_LONG"))
        rounds *= 20;
    model_state = given ? strtoull(given, NULL, 10) : (uint64_t)getpid() * 2654435761u;
    model_state |= 1;
    printf("test_json_edit: SEED=%" PRIu64 "\n", model_state);
    fflush(stdout);
    for (long i = 0; i < rounds; i++) {
        if (doc == NULL || len > 400 || roll(50) == 0) {
            char text[20000], *end = text;
            do
                end = some_json(some_space(text), 3);
            while (roll(2) && *text != '{' && *text != '[');
            end = some_space(end);
            if (end - text > 1000)
                continue;
            *end = '\0';
            free(doc);
            len = roll(20) ? (size_t)(end - text) : 0;
            doc = malloc((size_t)(end - text) + 1);
            memcpy(doc, text, (size_t)(end - text) + 1);
        }
        if (!model_edit(&doc, &len) && check_failures > 20)
            break;
    }
    free(doc);
}
