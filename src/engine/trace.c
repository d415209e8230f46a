/* The trace backend: a device without arithmetic. A plan's elements lie in the graph's order, whatever
 * may be done in place is, and running an iteration checks what planning promised:
 *   - operators come after those that make their inputs;
 *   - when an operator reads a value, its bytes hold what was written for it: each operator stamps the
 *     memory of its outputs, scratch included, and looks for the stamps of its inputs;
 *   - nothing is allocated by a run. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/backend.h"

struct kw__device {
    struct kw__trace seen;
};

struct trace_plan {
    struct kw__plan plan; /* first */
    struct kw__device *device;
    struct kw__arena arena;
    size_t *bytes, *lead, *scratch;
    int *view_of;
    unsigned *overwrite;
    char **place; /* of each value */
    char *workspace;
};

static kw_status open_device(const struct kw__device_options *options, struct kw__device **out, kw_error *err)
{
    (void)options;
    *out = calloc(1, sizeof **out);
    return *out ? KW_OK : kw__fail_memory(err);
}

static void close_device(struct kw__device *device)
{
    free(device);
}

struct kw__trace kw__trace_of(const struct kw__device *device)
{
    return device->seen;
}

static const char *supports(struct kw__device *device, const struct kw__graph *g, const struct kw__op *op)
{
    (void)device;
    (void)g;
    (void)op;
    return NULL;
}

/* ---- Planning ------------------------------------------------------------------------------------------ */

/* The inputs that an output may overwrite: those read element by element as the output is written. */
static unsigned may_overwrite(const struct kw__op *op, int output)
{
    switch (op->code) {
    case KW__LINEAR: return 1u << 4;
    case KW__CONV: return output == 0 ? 1u << 4 : 1u << 3;
    case KW__PUT_FRAMES:
    case KW__MODULATE:
    case KW__LAYERNORM:
    case KW__LAYERNORM_MODULATE:
    case KW__CHANNEL_RMSNORM:
    case KW__ROPE: return 1u;
    case KW__GATE_ADD:
    case KW__ADD:
    case KW__MUL:
    case KW__GELU_MUL: return 3u;
    case KW__SILU:
    case KW__GELU:
    case KW__CLAMP: return 1u;
    case KW__LINCOMB: return (1u << op->num_inputs) - 1;
    default: return 0;
    }
}

static void write_rules(struct trace_plan *plan, const struct kw__graph *g)
{
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind != KW__WEIGHT) plan->bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->dead) continue;
        for (int k = 0; k < op->num_outputs; k++) plan->overwrite[op->output[k]] = may_overwrite(op, k);
        if (op->code == KW__TO_HOST) plan->view_of[op->output[0]] = op->input[0];
        if (op->code == KW__ATTENTION) plan->scratch[i] = 4096;
        if (op->code == KW__CONV && kw__operand(op, 3)) /* some room, as a backend may want it */
            plan->lead[op->input[0]] = plan->bytes[op->input[0]] / 2;
    }
}

static void free_plan(struct kw__plan *base)
{
    struct trace_plan *plan = (struct trace_plan *)base;
    if (!plan) return;
    kw__arena_free(&plan->arena);
    free(plan);
}

static kw_status compile(struct kw__device *device, const struct kw__phase *phase, struct kw__plan **out,
                         kw_error *err)
{
    const struct kw__graph *g = phase->graph;
    struct trace_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return kw__fail_memory(err);
    kw__arena_init(&plan->arena);
    plan->device = device;
    plan->plan.phase = phase;
    plan->bytes = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->bytes);
    plan->lead = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->lead);
    plan->view_of = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->view_of);
    plan->overwrite = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->overwrite);
    plan->scratch = kw__arena_alloc(&plan->arena, g->num_ops + 1, sizeof *plan->scratch);
    plan->place = kw__arena_alloc(&plan->arena, g->num_values, sizeof(char *));
    plan->plan.rules =
        (struct kw__memory_rules){plan->bytes, plan->lead, plan->view_of, plan->overwrite, plan->scratch};
    kw_status status = plan->arena.failed ? kw__fail_memory(err) : KW_OK;
    if (!status) write_rules(plan, g);
    if (!status) status = kw__memory_plan(g, &plan->plan.rules, &plan->arena, &plan->plan.memory, err);
    if (!status) status = kw__memory_check(g, &plan->plan.rules, &plan->plan.memory, err);
    if (status) {
        free_plan(&plan->plan);
        return status;
    }
    *out = &plan->plan;
    return KW_OK;
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

static kw_status allocate(struct kw__device *device, size_t bytes, void **out, kw_error *err)
{
    device->seen.allocations++;
    *out = calloc(1, bytes ? bytes : 1);
    return *out ? KW_OK : kw__fail_memory(err);
}

static void release(struct kw__device *device, void *memory)
{
    (void)device;
    free(memory);
}

static kw_status load_weights(struct kw__plan *plan, const struct kw__weights *weights, kw_error *err)
{
    (void)plan;
    (void)weights;
    (void)err;
    return KW_OK;
}

static kw_status bind(struct kw__plan *base, void *workspace, void *const *states, kw_error *err)
{
    struct trace_plan *plan = (struct trace_plan *)base;
    const struct kw__memory *m = &base->memory;
    (void)err;
    plan->workspace = workspace;
    for (size_t v = 1; v < base->phase->graph->num_values; v++) {
        if (m->storage[v] < 0) continue;
        const struct kw__storage *s = &m->storages[m->storage[v]];
        plan->place[v] = s->state ? states[s->state] : (char *)workspace + s->offset + s->lead;
    }
    return KW_OK;
}

/* ---- Stamps ---------------------------------------------------------------------------------------- */

/* A stamp is the value's number in all of its bytes: 251 of them, so neighbours differ. */
static unsigned char stamp_of(const struct trace_plan *plan, int v)
{
    while (plan->view_of[v]) v = plan->view_of[v];
    return (unsigned char)(1 + v % 251);
}

static void stamp(struct trace_plan *plan, int v)
{
    if (plan->place[v] && !plan->view_of[v]) memset(plan->place[v], stamp_of(plan, v), plan->bytes[v]);
}

static bool stamped(const struct trace_plan *plan, int v)
{
    if (!v || !plan->place[v]) return true;
    for (size_t i = 0; i < plan->bytes[v]; i++)
        if ((unsigned char)plan->place[v][i] != stamp_of(plan, v)) return false;
    return true;
}

static kw_status run_op(struct trace_plan *plan, const struct kw__graph *g, size_t i, kw_error *err)
{
    const struct kw__op *op = &g->ops[i];
    const char *name = g->values[op->output[0]].name;
    int scratch = plan->plan.memory.scratch[i];
    if (scratch >= 0)
        memset(plan->workspace + plan->plan.memory.storages[scratch].offset, 0, plan->scratch[i]);
    if (op->code == KW__CONV && kw__operand(op, 3) && plan->lead[op->input[0]]) /* the room is its own */
        memset(plan->place[op->input[0]] - plan->lead[op->input[0]], 0, plan->lead[op->input[0]]);
    for (int k = 0; k < op->num_inputs; k++)
        if (!stamped(plan, op->input[k]))
            return kw__fail(err, KW_ERROR_FORMAT, "%s reads %s, which is not there", name,
                            g->values[op->input[k]].name);
    for (int k = 0; k < op->num_outputs; k++) stamp(plan, op->output[k]);
    plan->device->seen.ops++;
    return KW_OK;
}

static kw_status run(struct kw__plan *base, int64_t iteration, kw__after_op *after, void *user, kw_error *err)
{
    struct trace_plan *plan = (struct trace_plan *)base;
    const struct kw__graph *g = base->phase->graph;
    (void)iteration;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE || g->values[v].kind == KW__INPUT) stamp(plan, (int)v);
    for (size_t i = 0; i < g->num_ops; i++) {
        if (g->ops[i].dead) continue;
        kw_status status = run_op(plan, g, i, err);
        if (status) return status;
        if (after && !after(user, base, i))
            return kw__fail(err, KW_ERROR_CANCELLED, "stopped in %s", base->phase->name);
    }
    for (size_t c = 0; c < base->memory.num_copies; c++) {
        struct kw__state_copy copy = base->memory.copies[c];
        if (!stamped(plan, copy.value))
            return kw__fail(err, KW_ERROR_FORMAT, "state %s takes %s, which is not there",
                            g->values[copy.state].name, g->values[copy.value].name);
        memcpy(plan->place[copy.state], plan->place[copy.value], plan->bytes[copy.state]);
    }
    plan->device->seen.iterations++;
    return KW_OK;
}

static void fill(struct kw__plan *base, int value, float element)
{
    struct trace_plan *plan = (struct trace_plan *)base;
    (void)value;
    (void)element;
    plan->device->seen.writes++;
}

static void write_value(struct kw__plan *base, int value, const float *data, size_t count)
{
    (void)data;
    (void)count;
    fill(base, value, 0);
}

static void read_value(struct kw__plan *base, int value, float *data, size_t count)
{
    const struct trace_plan *plan = (const struct trace_plan *)base;
    for (size_t i = 0; i < count; i++) data[i] = stamp_of(plan, value);
}

static bool finite(struct kw__plan *base, int value)
{
    (void)base;
    (void)value;
    return true;
}

const struct kw__backend kw__backend_trace = {
    .abi = KW__BACKEND_ABI,
    .name = "trace",
    .open = open_device,
    .close = close_device,
    .supports = supports,
    .compile = compile,
    .free_plan = free_plan,
    .weights = load_weights,
    .allocate = allocate,
    .release = release,
    .bind = bind,
    .run = run,
    .fill = fill,
    .write = write_value,
    .read = read_value,
    .finite = finite,
};
