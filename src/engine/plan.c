#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static size_t align_up(size_t bytes)
{
    return (bytes + KW__ALIGNMENT - 1) / KW__ALIGNMENT * KW__ALIGNMENT;
}

/* ---- Placing ------------------------------------------------------------------------------------ */

/* Orders in which storages are placed; none is best for all graphs. */
static int by_size(const void *a, const void *b)
{
    const struct kw__storage *x = *(struct kw__storage *const *)a, *y = *(struct kw__storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int by_life(const void *a, const void *b)
{
    const struct kw__storage *x = *(struct kw__storage *const *)a, *y = *(struct kw__storage *const *)b;
    int x_life = x->last - x->first, y_life = y->last - y->first;
    if (x_life != y_life) return x_life > y_life ? -1 : 1;
    return by_size(a, b);
}

static int by_start(const void *a, const void *b)
{
    const struct kw__storage *x = *(struct kw__storage *const *)a, *y = *(struct kw__storage *const *)b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return by_size(a, b);
}

static int by_area(const void *a, const void *b)
{
    const struct kw__storage *x = *(struct kw__storage *const *)a, *y = *(struct kw__storage *const *)b;
    double x_area = (double)x->bytes * (x->last - x->first + 1);
    double y_area = (double)y->bytes * (y->last - y->first + 1);
    if (x_area != y_area) return x_area > y_area ? -1 : 1;
    return by_size(a, b);
}

/* The lowest offset where `s` fits between the placed storages that live when it does; `placed` is
 * sorted by offset. */
static size_t lowest_fit(const struct kw__storage *s, struct kw__storage *const *placed, size_t count)
{
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const struct kw__storage *other = placed[i];
        if (other->last < s->first || s->last < other->first) continue;
        if (offset + align_up(s->bytes) <= other->offset) break;
        size_t end = other->offset + align_up(other->bytes);
        if (end > offset) offset = end;
    }
    return offset;
}

static size_t place_in_order(struct kw__storage **order, size_t count, struct kw__storage **placed)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        struct kw__storage *s = order[i];
        s->offset = lowest_fit(s, placed, i);
        size_t end = s->offset + align_up(s->bytes), at = i;
        if (end > total) total = end;
        for (; at > 0 && placed[at - 1]->offset > s->offset; at--) placed[at] = placed[at - 1];
        placed[at] = s;
    }
    return total;
}

size_t kw__place_storages(struct kw__storage *storages, size_t count, struct kw__arena *arena)
{
    static int (*const orders[])(const void *, const void *) = {by_size, by_area, by_life, by_start};
    enum { ORDERS = sizeof orders / sizeof orders[0] };
    struct kw__storage **order = kw__arena_alloc(arena, count + 1, sizeof(struct kw__storage *));
    struct kw__storage **placed = kw__arena_alloc(arena, count + 1, sizeof(struct kw__storage *));
    if (!order || !placed) return 0;
    size_t wanted = 0, least = 0;
    int best = -1;
    for (size_t i = 0; i < count; i++)
        if (!storages[i].state) order[wanted++] = &storages[i];
    if (!wanted) return 0;
    for (int k = 0; k <= ORDERS; k++) { /* the best of them once more, if it was not the last */
        if (k == ORDERS && best == ORDERS - 1) break;
        qsort(order, wanted, sizeof(struct kw__storage *), orders[k < ORDERS ? k : best]);
        size_t total = place_in_order(order, wanted, placed);
        if (best >= 0 && total >= least) continue;
        least = total;
        best = k;
    }
    return least;
}

/* ---- Planning ----------------------------------------------------------------------------------- */

struct planner {
    const struct kw__graph *g;
    const struct kw__memory_rules *rules;
    struct kw__memory *m;
    int *last;         /* operator that reads a value last, num_ops: a state's next; -1: never */
    int *becomes;      /* the state that a value is the next of, 0: none */
    bool *read_at_end; /* a state whose value another state takes over */
    bool *in_place;    /* a state that its next value has overwritten already */
};

static int new_storage(struct planner *p, int state, size_t bytes, size_t lead, int first, int last)
{
    p->m->storages[p->m->num_storages] =
        (struct kw__storage){.state = state, .bytes = bytes, .lead = lead, .first = first, .last = last};
    return (int)p->m->num_storages++;
}

static void find_uses(struct planner *p)
{
    const struct kw__graph *g = p->g;
    for (size_t v = 0; v < g->num_values; v++) p->last[v] = -1;
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; !g->ops[i].dead && k < g->ops[i].num_inputs; k++)
            p->last[g->ops[i].input[k]] = (int)i;
    for (size_t v = 1; v < g->num_values; v++) {
        int next = g->values[v].kind == KW__STATE ? g->values[v].next : 0;
        if (!next) continue;
        p->last[next] = (int)g->num_ops;
        if (!p->becomes[next]) p->becomes[next] = (int)v;
        if (g->values[next].kind == KW__STATE) p->read_at_end[next] = true;
    }
}

static void join_storage(struct planner *p, int v, int storage)
{
    struct kw__storage *s = &p->m->storages[storage];
    p->m->storage[v] = storage;
    if (p->last[v] > s->last) s->last = p->last[v];
    if (p->rules->lead[v] > s->lead) s->lead = p->rules->lead[v];
    if (p->rules->bytes[v] > s->bytes) s->bytes = p->rules->bytes[v];
}

/* Whether operator i may write its output v over everything that `storage` holds. */
static bool may_take(const struct planner *p, size_t i, int v, int storage)
{
    const struct kw__storage *s = &p->m->storages[storage];
    const struct kw__op *op = &p->g->ops[i];
    if (s->last > (int)i) return false;
    for (int k = 0; k < op->num_inputs; k++)
        if (op->input[k] && p->m->storage[op->input[k]] == storage && !(p->rules->overwrite[v] >> k & 1))
            return false;
    for (int k = 0; k < op->num_outputs; k++)
        if (op->output[k] != v && p->m->storage[op->output[k]] == storage) return false;
    return true;
}

/* The memory of the state that v becomes, if nothing needs its old value any more; -1: it is needed. */
static int state_to_take(const struct planner *p, size_t i, int v)
{
    int state = p->becomes[v];
    if (!state || p->in_place[state] || p->read_at_end[state] || p->rules->lead[v]) return -1;
    if (p->rules->bytes[v] != p->rules->bytes[state]) return -1;
    return may_take(p, i, v, p->m->storage[state]) ? p->m->storage[state] : -1;
}

static int input_to_take(const struct planner *p, size_t i, int v)
{
    const struct kw__op *op = &p->g->ops[i];
    for (int k = 0; k < op->num_inputs; k++) {
        int u = op->input[k], storage = u ? p->m->storage[u] : -1;
        if (storage < 0 || !(p->rules->overwrite[v] >> k & 1) || p->m->storages[storage].state) continue;
        if (p->rules->bytes[u] == p->rules->bytes[v] && may_take(p, i, v, storage)) return storage;
    }
    return -1;
}

static void place_output(struct planner *p, size_t i, int v)
{
    if (!p->rules->bytes[v]) return;
    int view = p->rules->view_of[v], storage = view ? p->m->storage[view] : -1;
    if (storage < 0 && (storage = state_to_take(p, i, v)) >= 0) p->in_place[p->becomes[v]] = true;
    if (storage < 0) storage = input_to_take(p, i, v);
    if (storage < 0) storage = new_storage(p, 0, 0, 0, (int)i, (int)i);
    join_storage(p, v, storage);
}

/* A state is copied into only when every state that takes its old value has done so. */
static kw_status order_copies(struct planner *p, kw_error *err)
{
    const struct kw__graph *g = p->g;
    struct kw__memory *m = p->m;
    size_t wanted = 0;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE && g->values[v].next && !p->in_place[v]) {
            m->copies[wanted].state = (int)v;
            m->copies[wanted++].value = g->values[v].next;
        }
    for (; m->num_copies < wanted; m->num_copies++) {
        size_t ready = m->num_copies;
        for (; ready < wanted; ready++) {
            bool needed = false;
            for (size_t other = m->num_copies; other < wanted; other++)
                needed |= other != ready &&
                          m->storage[m->copies[other].value] == m->storage[m->copies[ready].state];
            if (!needed) break;
        }
        if (ready == wanted)
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "states exchange their values in a circle at %s",
                            g->values[m->copies[m->num_copies].state].name);
        struct kw__state_copy copy = m->copies[ready];
        m->copies[ready] = m->copies[m->num_copies];
        m->copies[m->num_copies] = copy;
    }
    return KW_OK;
}

kw_status kw__memory_plan(const struct kw__graph *g, const struct kw__memory_rules *rules,
                          struct kw__arena *arena, struct kw__memory *out, kw_error *err)
{
    *out = (struct kw__memory){0};
    struct planner p = {.g = g, .rules = rules, .m = out};
    p.last = kw__arena_alloc(arena, g->num_values, sizeof *p.last);
    p.becomes = kw__arena_alloc(arena, g->num_values, sizeof *p.becomes);
    p.read_at_end = kw__arena_alloc(arena, g->num_values, sizeof *p.read_at_end);
    p.in_place = kw__arena_alloc(arena, g->num_values, sizeof *p.in_place);
    out->storage = kw__arena_alloc(arena, g->num_values, sizeof *out->storage);
    out->scratch = kw__arena_alloc(arena, g->num_ops + 1, sizeof *out->scratch);
    out->storages = kw__arena_alloc(arena, g->num_values + g->num_ops, sizeof *out->storages);
    out->copies = kw__arena_alloc(arena, g->num_values, sizeof *out->copies);
    if (arena->failed) return kw__fail_memory(err);

    find_uses(&p);
    for (size_t v = 0; v < g->num_values; v++) out->storage[v] = -1;
    for (size_t v = 1; v < g->num_values; v++) {
        if (!rules->bytes[v]) continue;
        if (g->values[v].kind == KW__INPUT)
            out->storage[v] = new_storage(&p, 0, rules->bytes[v], rules->lead[v], -1, (int)g->num_ops);
        if (g->values[v].kind == KW__STATE)
            out->storage[v] = new_storage(&p, (int)v, rules->bytes[v], 0, -1, p.last[v]);
    }
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        out->scratch[i] = -1;
        if (op->dead) continue;
        for (int k = 0; k < op->num_outputs; k++) place_output(&p, i, op->output[k]);
        if (rules->scratch[i]) out->scratch[i] = new_storage(&p, 0, rules->scratch[i], 0, (int)i, (int)i);
    }
    for (size_t s = 0; s < out->num_storages; s++) {
        out->storages[s].lead = align_up(out->storages[s].lead);
        out->storages[s].bytes += out->storages[s].lead;
    }
    kw_status status = order_copies(&p, err);
    if (status) return status;
    out->workspace_bytes = kw__place_storages(out->storages, out->num_storages, arena);
    return arena->failed ? kw__fail_memory(err) : KW_OK;
}

/* ---- Checking ------------------------------------------------------------------------------------ */

static bool overlap(const struct kw__storage *a, const struct kw__storage *b)
{
    if (a->state || b->state) return a == b;
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Independent of lifetimes: `holds[s]` is the value whose elements storage s holds, 0 when something
 * else was written there. Views hold what their root holds. */
struct replay {
    const struct kw__graph *g;
    const struct kw__memory_rules *rules;
    const struct kw__memory *m;
    int *holds;
};

static int root_of(const struct replay *r, int v)
{
    while (r->rules->view_of[v]) v = r->rules->view_of[v];
    return v;
}

static void write_storage(struct replay *r, int storage, int holds)
{
    for (size_t s = 0; s < r->m->num_storages; s++)
        if (overlap(&r->m->storages[s], &r->m->storages[storage])) r->holds[s] = 0;
    r->holds[storage] = holds;
}

static bool still_there(const struct replay *r, int v)
{
    return !v || r->m->storage[v] < 0 || r->holds[r->m->storage[v]] == root_of(r, v);
}

static kw_status replay_op(struct replay *r, size_t i, kw_error *err)
{
    const struct kw__op *op = &r->g->ops[i];
    const char *name = r->g->values[op->output[0]].name;
    for (int k = 0; k < op->num_inputs; k++)
        if (!still_there(r, op->input[k]))
            return kw__fail(err, KW_ERROR_FORMAT, "%s reads %s, whose memory was overwritten", name,
                            r->g->values[op->input[k]].name);
    if (r->m->scratch[i] >= 0) write_storage(r, r->m->scratch[i], 0);
    for (int k = 0; k < op->num_inputs; k++)
        if (!still_there(r, op->input[k]))
            return kw__fail(err, KW_ERROR_FORMAT, "%s overwrites %s with its scratch", name,
                            r->g->values[op->input[k]].name);
    unsigned allowed = 0;
    for (int k = 0; k < op->num_outputs; k++) {
        int v = op->output[k];
        if (r->m->storage[v] < 0 || r->rules->view_of[v]) continue;
        write_storage(r, r->m->storage[v], v);
        allowed |= r->rules->overwrite[v];
        for (int j = 0; j < op->num_inputs; j++)
            if (!still_there(r, op->input[j]) && !(allowed >> j & 1))
                return kw__fail(err, KW_ERROR_FORMAT, "%s overwrites %s while it reads it", name,
                                r->g->values[op->input[j]].name);
    }
    return KW_OK;
}

kw_status kw__memory_check(const struct kw__graph *g, const struct kw__memory_rules *rules,
                           const struct kw__memory *memory, kw_error *err)
{
    struct replay r = {g, rules, memory, calloc(memory->num_storages + 1, sizeof *r.holds)};
    if (!r.holds) return kw__fail_memory(err);
    kw_status status = KW_OK;
    for (size_t v = 1; v < g->num_values; v++)
        if (memory->storage[v] >= 0 && (g->values[v].kind == KW__STATE || g->values[v].kind == KW__INPUT))
            r.holds[memory->storage[v]] = (int)v;
    for (size_t i = 0; i < g->num_ops && !status; i++)
        if (!g->ops[i].dead) status = replay_op(&r, i, err);
    for (size_t c = 0; c < memory->num_copies && !status; c++) {
        struct kw__state_copy copy = memory->copies[c];
        if (!still_there(&r, copy.value))
            status = kw__fail(err, KW_ERROR_FORMAT, "state %s takes %s, whose memory was overwritten",
                              g->values[copy.state].name, g->values[copy.value].name);
        r.holds[memory->storage[copy.state]] = copy.state;
    }
    for (size_t v = 1; v < g->num_values && !status; v++) {
        if (memory->storage[v] < 0 || g->values[v].kind != KW__INPUT || r.holds[memory->storage[v]] == (int)v)
            continue;
        status = kw__fail(err, KW_ERROR_FORMAT, "input %s does not outlive the iteration", g->values[v].name);
    }
    free(r.holds);
    return status;
}
