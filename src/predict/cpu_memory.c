#include "predict/cpu_memory.h"

#include <string.h>

#include "base/error.h"
#include "engine/plan.h"

struct rules {
    size_t *bytes, *lead, *scratch;
    int *view_of;
    unsigned *overwrite;
};

static const struct kw__value *operand(const struct kw__graph *g, const struct kw__op *op, int i)
{
    int v = kw__operand(op, i);
    return v ? &g->values[v] : NULL;
}

static bool same_dtype(const struct kw__graph *g, const struct kw__op *op, int i)
{
    const struct kw__value *x = operand(g, op, i);
    return x && x->dtype == g->values[op->output[0]].dtype;
}

/* As src/engine/cpu/conv.c plans: the cache's frames go in front of x where there is room, else both are
 * joined in scratch memory; folded kernels write to scratch first. Returns the number of its kernels. */
static int conv_rules(const struct kw__graph *g, size_t i, struct rules *r)
{
    const struct kw__op *op = &g->ops[i];
    const struct kw__value *x = operand(g, op, 0), *w = operand(g, op, 1), *cache = operand(g, op, 3);
    const struct kw__value *y = &g->values[op->output[0]];
    bool folded = w->recipe == KW__RECIPE_FOLD_UPSAMPLE;
    double joined = cache && !op->attr.fresh ? kw__value_bytes(cache) : 0;
    double scratch = op->attr.upsample && !folded ? 4 * kw__value_bytes(x) : 0;
    if (joined > 0 && x->dim[0] == 1 && x->kind == KW__TEMPORARY && !r->view_of[op->input[0]]) {
        if (r->lead[op->input[0]] < (size_t)joined) r->lead[op->input[0]] = (size_t)joined;
    } else if (joined > 0) {
        scratch = joined + kw__value_bytes(x);
    }
    if (folded) scratch += kw__value_bytes(y) / 4;
    r->scratch[i] = (size_t)scratch;
    if (same_dtype(g, op, 4)) r->overwrite[op->output[0]] = 1u << 4;
    if (cache) r->overwrite[op->output[1]] = 1u << 3;
    return folded ? 4 : 1;
}

static int op_rules(const struct kw__graph *g, size_t i, struct rules *r)
{
    const struct kw__op *op = &g->ops[i];
    int y = op->output[0];
    switch (op->code) {
    case KW__CONV: return conv_rules(g, i, r);
    case KW__LINEAR:
        if (same_dtype(g, op, 4)) r->overwrite[y] = 1u << 4;
        break;
    case KW__ATTENTION: /* keys and values of a head, packed */
        r->scratch[i] = (size_t)((kw__value_bytes(operand(g, op, 1)) + kw__value_bytes(operand(g, op, 2))) /
                                 (double)op->attr.heads);
        break;
    case KW__TO_TOKENS:
    case KW__JOIN_FRAMES:
    case KW__TO_HOST:
        if (same_dtype(g, op, 0)) r->view_of[y] = op->input[0];
        break;
    case KW__PUT_FRAMES:
    case KW__HOST_FRAMES:
        if (same_dtype(g, op, 0)) r->overwrite[y] = 1u;
        break;
    default: {
        enum kw__class class = kw__op_info(op->code)->class;
        if (class == KW__CLASS_ELEMENTWISE) r->overwrite[y] = (1u << op->num_inputs) - 1;
        if (class == KW__CLASS_NORM && kw__elements(operand(g, op, 0)) == kw__elements(&g->values[y]))
            r->overwrite[y] = 1u;
    }
    }
    return 0;
}

static kw_status plan_phase(struct kw__program *program, const struct kw__graph *g, size_t *workspace,
                            double *convolutions, kw_error *err)
{
    struct kw__arena *arena = &program->arena;
    struct rules r = {kw__arena_alloc(arena, g->num_values, sizeof *r.bytes),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.lead),
                      kw__arena_alloc(arena, g->num_ops + 1, sizeof *r.scratch),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.view_of),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.overwrite)};
    if (arena->failed) return kw__fail_memory(err);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE) r.bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        for (int k = 0; k < op->num_inputs + op->num_outputs; k++) {
            int v = k < op->num_inputs ? op->input[k] : op->output[k - op->num_inputs];
            if (v && g->values[v].kind != KW__WEIGHT) r.bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
        }
        *convolutions += op_rules(g, i, &r);
    }
    struct kw__memory_rules rules = {r.bytes, r.lead, r.view_of, r.overwrite, r.scratch};
    struct kw__memory memory;
    kw_status status = kw__memory_plan(g, &rules, arena, &memory, err);
    if (!status && memory.workspace_bytes > *workspace) *workspace = memory.workspace_bytes;
    return status;
}

/* States live from the first phase that names them to the last. */
static kw_status place_states(struct kw__program *program, double *bytes, kw_error *err)
{
    size_t capacity = 0, count = 0;
    struct kw__storage *storages = NULL;
    const char **names = NULL;
    int number = 0;
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++)
            capacity += program->stages[s].phases[p].graph->num_values;
    storages = kw__arena_alloc(&program->arena, capacity + 1, sizeof *storages);
    names = kw__arena_alloc(&program->arena, capacity + 1, sizeof *names);
    if (!storages || !names) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++, number++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t v = 1; v < g->num_values && program->stages[s].phases[p].calls > 0; v++) {
                if (g->values[v].kind != KW__STATE) continue;
                size_t i = 0;
                while (i < count && strcmp(names[i], g->values[v].name) != 0) i++;
                if (i == count) {
                    names[count++] = g->values[v].name;
                    storages[i] = (struct kw__storage){.bytes = (size_t)kw__value_bytes(&g->values[v]),
                                                       .first = number};
                }
                storages[i].last = number;
            }
        }
    *bytes = (double)kw__place_storages(storages, count, &program->arena);
    return program->arena.failed ? kw__fail_memory(err) : KW_OK;
}

/* Each tensor once, at the dtype it is used in. */
static kw_status sum_weights(struct kw__program *program, double *bytes, kw_error *err)
{
    bool *counted = kw__arena_alloc(&program->arena, program->num_tensors + 1, sizeof *counted);
    if (!counted) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t v = 1; v < g->num_values; v++) {
                const struct kw__value *value = &g->values[v];
                if (value->kind != KW__WEIGHT || counted[value->tensor[0]]) continue;
                for (int i = 0; i < value->num_tensors; i++) counted[value->tensor[i]] = true;
                *bytes += kw__value_bytes(value);
            }
        }
    return KW_OK;
}

kw_status kw__foresee_memory(struct kw__program *program, struct kw__foreseen_memory *out, kw_error *err)
{
    size_t workspace = 0;
    *out = (struct kw__foreseen_memory){0, 0, 0, 0};
    kw_status status = sum_weights(program, &out->weights, err);
    if (!status) status = place_states(program, &out->states, err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases && !status; p++)
            if (program->stages[s].phases[p].calls > 0)
                status = plan_phase(program, program->stages[s].phases[p].graph, &workspace,
                                    &out->convolutions, err);
    out->workspace = (double)workspace;
    return status;
}
