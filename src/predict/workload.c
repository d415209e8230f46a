#include "predict/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/cpu/memory.h"
#include "graph/placement.h"
#include "graph/rewrite.h"

/* ---- The reference: FLOPs by stage, phase and component ------------------------------------------ */

static int component_index(struct kw__workload *w, const char *name)
{
    for (int i = 0; i < w->num_components; i++)
        if (w->components[i] == name) return i; /* mostly the very constant */
    for (int i = 0; i < w->num_components; i++)
        if (strcmp(w->components[i], name) == 0) return i;
    if (w->num_components == KW__MAX_COMPONENTS) { /* no family has as many; its author sees it fail */
        w->arena.failed = true;
        return 0;
    }
    w->components[w->num_components] = name; /* string constants of the families */
    return w->num_components++;
}

static void add_reference(struct kw__workload *w, const struct kw__program *program)
{
    w->num_stages = program->num_stages;
    for (int s = 0; s < program->num_stages; s++) {
        const struct kw__stage *stage = &program->stages[s];
        w->stages[s] = stage->name;
        w->phases[s] = kw__arena_alloc(&w->arena, (size_t)stage->num_phases, sizeof *w->phases[s]);
        if (!w->phases[s]) return;
        w->phases_of[s] = (size_t)stage->num_phases;
        for (int p = 0; p < stage->num_phases; p++) {
            const struct kw__phase *phase = &stage->phases[p];
            double calls = (double)phase->calls;
            struct kw__sums once = {0, 0, 0, 0};
            kw__graph_flop(phase->graph, NULL, 1.0, &once);
            w->phases[s][p] = (kw_phase){kw__arena_strdup(&w->arena, phase->name), phase->calls, once.flop};
            kw__graph_flop(phase->graph, NULL, calls, &w->stage_flop[s]);
            for (size_t i = 0; i < phase->graph->num_ops; i++) {
                const struct kw__op *op = &phase->graph->ops[i];
                kw__sums_add(phase->graph, op, calls, &w->component_flop[component_index(w, op->component)]);
            }
        }
    }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

static const char *label(struct kw__workload *w, const struct kw__graph *g, const struct kw__op *op)
{
    const char *name = kw__op_info(op->code)->name;
    const struct kw__value *y = &g->values[op->output[0]];
    char shape[96];
    size_t used = 0;
    if (op->code == KW__LINEAR) {
        const struct kw__value *weight = &g->values[op->input[1]];
        snprintf(shape, sizeof shape, "%" PRId64 "x%" PRId64, kw__elements(weight) / weight->dim[0],
                 weight->dim[0]);
    } else if (op->code == KW__ATTENTION) {
        const struct kw__value *k = &g->values[op->input[1]];
        snprintf(shape, sizeof shape, "%" PRId64 "x%" PRId64 " h%" PRId64, y->dim[1], k->dim[1],
                 op->attr.heads);
    } else if (op->code == KW__CONV) {
        const struct kw__value *weight = &g->values[op->input[1]];
        int64_t kernel = kw__elements(weight) / (weight->dim[0] * weight->dim[1]);
        snprintf(shape, sizeof shape,
                 "%" PRId64 "->%" PRId64 " k%" PRId64 " %" PRId64 "x%" PRId64 "x%" PRId64, weight->dim[1],
                 weight->dim[0], kernel, y->dim[2], y->dim[3], y->dim[4]);
    } else {
        shape[0] = '\0';
        for (int i = 1; i < y->ndim && used < sizeof shape; i++)
            used += (size_t)snprintf(shape + used, sizeof shape - used, i > 1 ? "x%" PRId64 : "%" PRId64,
                                     y->dim[i]);
    }
    return kw__arena_printf(&w->arena, "%s %s", name, shape);
}

static bool same_work(const struct kw__work *a, const struct kw__work *b)
{
    return a->flop == b->flop && a->main_bytes == b->main_bytes && a->memory_bytes == b->memory_bytes &&
           a->host_bytes == b->host_bytes && a->to_device_bytes == b->to_device_bytes &&
           a->to_host_bytes == b->to_host_bytes && a->launches == b->launches && a->size == b->size &&
           a->walk_blocks == b->walk_blocks && a->walk_elements == b->walk_elements &&
           strcmp(a->key, b->key) == 0;
}

static void append_item(struct kw__workload *w, const struct kw__item *item)
{
    struct kw__item *items =
        kw__arena_grow(&w->arena, w->items, w->num_items, &w->item_capacity, sizeof *items);
    if (!items) return;
    w->items = items;
    items[w->num_items++] = *item;
}

/* Adds an operator to the phase's items, which begin at `first`. */
static void add_item(struct kw__workload *w, size_t first, struct kw__item item, const struct kw__graph *g,
                     const struct kw__op *op)
{
    for (size_t i = first; i < w->num_items; i++) {
        struct kw__item *known = &w->items[i];
        if (known->component != item.component || known->code != item.code) continue;
        if (!same_work(&known->work, &item.work)) continue;
        known->count += item.count;
        return;
    }
    item.op = label(w, g, op);
    append_item(w, &item);
}

/* States that begin in a phase are filled with their initial value, which a CPU's time shows. */
static bool began_before(const struct kw__program *program, int stage, int phase, const char *name)
{
    for (int s = 0; s <= stage; s++)
        for (int p = 0; p < program->stages[s].num_phases && (s < stage || p < phase); p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t v = 1; v < g->num_values && program->stages[s].phases[p].calls > 0; v++)
                if (g->values[v].kind == KW__STATE && strcmp(g->values[v].name, name) == 0) return true;
        }
    return false;
}

static void add_fill(struct kw__workload *w, const struct kw__program *program, int stage, int phase)
{
    const struct kw__graph *g = program->stages[stage].phases[phase].graph;
    struct kw__item item = {
        .stage = stage, .phase = w->num_phases, .op = "initial states", .class = KW__CLASS_COPY, .count = 1};
    if (!g->num_ops || program->stages[stage].phases[phase].calls < 1) return;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE && !began_before(program, stage, phase, g->values[v].name))
            item.work.memory_bytes += kw__value_bytes(&g->values[v]);
    if (!(item.work.memory_bytes > 0)) return;
    item.component = component_index(w, g->ops[0].component);
    item.work.size = item.work.memory_bytes;
    item.work.launches = 1;
    snprintf(item.work.key, sizeof item.work.key, "%s", KW__FILL_KEY);
    append_item(w, &item);
}

/* Weights that are copied before stage `when`, as items of `stage` and of the phase that is being added. */
static void add_moves(struct kw__workload *w, const struct kw__program *program,
                      const struct kw__placement *placement, int stage, int when)
{
    struct kw__move moves[KW__MAX_MOVES];
    int count = kw__placement_moves(placement, when, program->num_stages, moves);
    for (int i = 0; i < count; i++) {
        struct kw__item item = {.stage = stage,
                                .phase = w->num_phases,
                                .component = component_index(w, "offload"),
                                .class = KW__CLASS_TRANSFER,
                                .code = KW__TO_HOST,
                                .count = 1};
        item.op =
            kw__arena_printf(&w->arena, moves[i].to_host ? "%s to host" : "%s to device", moves[i].component);
        *(moves[i].to_host ? &item.work.to_host_bytes : &item.work.to_device_bytes) = moves[i].bytes;
        append_item(w, &item);
    }
}

static kw_status add_executed(struct kw__workload *w, struct kw__program *program,
                              const struct kw__stack *stack, kw_error *err)
{
    struct kw__placement placement;
    if (!kw__placement_make(program, stack, &placement)) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++, w->num_phases++) {
            bool last = s == program->num_stages - 1 && p == program->stages[s].num_phases - 1;
            if (p == 0) add_moves(w, program, &placement, s, s);
            if (last) add_moves(w, program, &placement, s, program->num_stages);
            const struct kw__phase *phase = &program->stages[s].phases[p];
            size_t first = w->num_items;
            for (size_t i = 0; i < phase->graph->num_ops; i++) {
                const struct kw__op *op = &phase->graph->ops[i];
                struct kw__item item = {.stage = s,
                                        .phase = w->num_phases,
                                        .component = component_index(w, op->component),
                                        .class = kw__op_info(op->code)->class,
                                        .code = op->code,
                                        .count = (double)phase->calls};
                kw__op_work(phase->graph, op, stack, &item.work);
                add_item(w, first, item, phase->graph, op);
            }
            if (stack->on_cpu) add_fill(w, program, s, p);
        }
    return KW_OK;
}

static kw_status rewrite(struct kw__program *program, const struct kw__stack *stack, kw_error *err)
{
    for (size_t i = 0; i < stack->num_rewrites; i++) {
        kw_status status = kw__rewrite_apply(program, stack->rewrites[i], err);
        if (status) return status;
    }
    return program->arena.failed ? kw__fail_memory(err) : KW_OK;
}

static kw_status plan_memory(struct kw__workload *w, struct kw__program *program,
                             const struct kw__stack *stack, kw_error *err)
{
    if (!stack->on_cpu) { /* the upper end allows a framework's caching allocator a fifth: a judgement */
        double live = kw__peak_bytes(program, stack);
        w->peak_bytes = (kw_reading){live, live, 1.2 * live, KW_MODELLED, NULL};
        return KW_OK;
    }
    struct kw__cpu_need memory;
    kw_status status = kw__cpu_need(program, stack, &memory, err);
    if (!status) w->peak_bytes = kw__cpu_need_sum(&memory);
    return status;
}

kw_status kw__workload_new(const kw_model *model, const kw_effective *request, const struct kw__stack *stack,
                           struct kw__workload **out, kw_error *err)
{
    struct kw__program *program;
    kw_status status =
        kw__lower(model, request, kw__stack_dtypes(stack, model->family->pipeline), &program, err);
    if (status) return status;
    struct kw__workload *w = calloc(1, sizeof *w);
    if (!w) {
        kw__program_free(program);
        return kw__fail_memory(err);
    }
    kw__arena_init(&w->arena);
    w->request = *request;
    add_reference(w, program);
    status = rewrite(program, stack, err);
    if (!status) status = add_executed(w, program, stack, err);
    if (!status) {
        status = plan_memory(w, program, stack, err);
        if (w->arena.failed || program->arena.failed) status = kw__fail_memory(err);
    }
    kw__program_free(program);
    if (status)
        kw__workload_free(w);
    else
        *out = w;
    return status;
}

void kw__workload_free(struct kw__workload *workload)
{
    if (!workload) return;
    kw__arena_free(&workload->arena);
    free(workload);
}
