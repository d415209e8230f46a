/* What is computed more often than it changes: twice in one step by the guidance passes, or at every
 * step though it depends on the prompt alone. */
#include <string.h>

#include "graph/rewrite.h"

/* ---- share_passes: operators with equal inputs and attributes are one ------------------------- */

static bool same_attr(const struct kw__attr *a, const struct kw__attr *b)
{
    return a->heads == b->heads && a->multiplicity == b->multiplicity && a->width == b->width &&
           a->distance == b->distance && a->prefix == b->prefix && a->groups == b->groups &&
           a->start == b->start && a->axis == b->axis && a->causal == b->causal && a->ragged == b->ragged &&
           a->keep == b->keep && a->replicate_time == b->replicate_time &&
           a->replicate_space == b->replicate_space && a->per_frame == b->per_frame &&
           a->first_alone == b->first_alone && a->transposed == b->transposed && a->inverse == b->inverse &&
           a->single == b->single && a->layout == b->layout && a->frequencies == b->frequencies &&
           memcmp(a->positions, b->positions, sizeof a->positions) == 0 &&
           memcmp(a->pad_time, b->pad_time, sizeof a->pad_time) == 0 &&
           memcmp(a->tile, b->tile, sizeof a->tile) == 0 &&
           memcmp(a->tile_step, b->tile_step, sizeof a->tile_step) == 0 &&
           memcmp(a->blend, b->blend, sizeof a->blend) == 0 && a->row == b->row && a->row2 == b->row2 &&
           a->column == b->column && a->part == b->part && a->parts == b->parts &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0 &&
           memcmp(a->pad, b->pad, sizeof a->pad) == 0 && a->upsample == b->upsample &&
           a->q_joint == b->q_joint && a->k_joint == b->k_joint &&
           memcmp(a->grid, b->grid, sizeof a->grid) == 0 && memcmp(a->axes, b->axes, sizeof a->axes) == 0 &&
           memcmp(a->patch, b->patch, sizeof a->patch) == 0 && a->activation == b->activation &&
           a->scale == b->scale && a->eps == b->eps && a->theta == b->theta && a->low == b->low &&
           a->high == b->high && a->attended == b->attended && a->constants[0] == b->constants[0] &&
           a->constants[1] == b->constants[1];
}

static bool same_op(const struct kw__graph *g, const struct kw__op *a, const struct kw__op *b)
{
    if (a->code != b->code || !same_attr(&a->attr, &b->attr)) return false;
    for (int k = 0; k < KW__MAX_INPUTS; k++)
        if (kw__operand(a, k) != kw__operand(b, k)) return false;
    for (int k = 0; k < a->num_outputs; k++)
        if (g->values[a->output[k]].dtype != g->values[b->output[k]].dtype) return false;
    return true;
}

static uint32_t hash_op(const struct kw__op *op)
{
    uint32_t hash = 2166136261u ^ (uint32_t)op->code; /* FNV-1a, a word at a time */
    for (int k = 0; k < KW__MAX_INPUTS; k++) hash = (hash ^ (uint32_t)kw__operand(op, k)) * 16777619u;
    hash = (hash ^ (uint32_t)op->attr.row) * 16777619u;
    hash = (hash ^ (uint32_t)op->attr.part) * 16777619u;
    return hash ^ hash >> 15;
}

static void share_in_graph(struct kw__graph *g)
{
    struct kw__arena *arena = &g->program->arena;
    size_t capacity = 16;
    while (capacity < 2 * g->num_ops) capacity *= 2;
    uint32_t *slots = kw__arena_alloc(arena, capacity, sizeof *slots); /* operator + 1; open addressing */
    int *same = kw__arena_alloc(arena, g->num_values, sizeof *same);   /* the value that a value becomes */
    if (!slots || !same) return;
    for (size_t v = 1; v < g->num_values; v++) same[v] = (int)v;
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__op *op = &g->ops[i];
        if (op->dead) continue;
        for (int k = 0; k < op->num_inputs; k++) op->input[k] = same[op->input[k]];
        size_t slot = hash_op(op) & (capacity - 1);
        while (slots[slot] && !same_op(g, &g->ops[slots[slot] - 1], op)) slot = (slot + 1) & (capacity - 1);
        if (!slots[slot]) {
            slots[slot] = (uint32_t)i + 1;
            continue;
        }
        for (int k = 0; k < op->num_outputs; k++) same[op->output[k]] = g->ops[slots[slot] - 1].output[k];
        op->dead = true;
    }
    for (size_t v = 1; v < g->num_values; v++) g->values[v].next = same[g->values[v].next];
    kw__graph_compact(g);
}

void kw__rewrite_share_passes(struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++)
            share_in_graph(program->stages[s].phases[p].graph);
}

/* ---- hoist_prompt ------------------------------------------------------------------------------- */

/* From the graph `from` of a step into the graph `to` that runs once before. Values of the step that
 * the prompt's graph has too are in `there`; names get the phase's in front, so that several phases
 * can be hoisted into one graph. */
struct hoist {
    struct kw__graph *from, *to;
    const char *phase;
    size_t old_values; /* of `to`, before this hoist */
    int *there;        /* by value of `from`: the value of `to`, 0 for none yet */
};

static bool once_per_prompt(const struct kw__graph *g, const struct kw__op *op)
{
    return !op->dead && (g->values[op->output[0]].scope & ~(unsigned)KW__PROMPT) == 0;
}

/* Weights of two components may have one name: they are the same when their tensors are. */
static int find_old(const struct hoist *h, const struct kw__value *wanted)
{
    for (size_t v = 1; v < h->old_values; v++) {
        const struct kw__value *value = &h->to->values[v];
        if (value->kind == wanted->kind && strcmp(value->name, wanted->name) == 0 &&
            value->num_tensors == wanted->num_tensors &&
            memcmp(value->tensor, wanted->tensor, (size_t)value->num_tensors * sizeof(int)) == 0)
            return (int)v;
    }
    return 0;
}

/* The value of `to` that is the weight, input or state `v` of `from`. */
static int import(struct hoist *h, int v)
{
    if (!v || h->there[v]) return v ? h->there[v] : 0;
    struct kw__value value = h->from->values[v];
    const struct kw__program *program = h->to->program;
    if (value.kind == KW__WEIGHT && value.recipe == KW__RECIPE_PLAIN) {
        const struct kw__tensor *tensor = &program->tensors[value.tensor[0]];
        h->to->tensors = tensor->component;
        return h->there[v] = kw__weight(h->to, tensor->name, value.dtype, value.ndim, value.dim);
    }
    int found = find_old(h, &value);
    if (found && h->to->values[found].next) found = h->to->values[found].next; /* hoisted before */
    value.next = 0;
    return h->there[v] = found ? found : kw__value_add(h->to, value);
}

static const char *hoisted_name(const struct hoist *h, const char *name)
{
    const char *copy = kw__arena_printf(&h->to->program->arena, "%s.%s", h->phase, name);
    return copy ? copy : name;
}

static void move_op(struct hoist *h, struct kw__op *op)
{
    int inputs[KW__MAX_INPUTS];
    for (int k = 0; k < op->num_inputs; k++) inputs[k] = import(h, op->input[k]);
    h->to->component = op->component;
    int y = kw__op(h->to, op->code, &op->attr, h->from->values[op->output[0]].dtype, op->num_inputs, inputs);
    if (!y) return;
    for (int k = 0; k < op->num_outputs; k++) {
        const struct kw__value *old = &h->from->values[op->output[k]];
        int moved = kw__output(h->to, y, k);
        h->to->values[moved].name = hoisted_name(h, old->name);
        h->to->values[moved].dtype = old->dtype;
        h->there[op->output[k]] = moved;
    }
    op->dead = true;
}

/* `v`, which is computed in `to` now, is read in `from`: it becomes a state of both. */
static void cross(struct hoist *h, int v)
{
    struct kw__value *value = &h->from->values[v];
    if (!v || value->kind != KW__TEMPORARY || !h->there[v]) return;
    const char *name = kw__arena_printf(&h->to->program->arena, "prompt.%s.%s", h->phase, value->name);
    if (!name) return;
    int state = kw__state(h->to, name, value->dtype, value->scope, value->ndim, value->dim);
    kw__state_next(h->to, state, h->there[v]);
    value->kind = KW__STATE;
    value->name = name;
    value->producer = -1;
}

static void hoist_phase(struct kw__phase *prompt, struct kw__phase *phase)
{
    struct hoist h = {phase->graph, prompt->graph, phase->name, prompt->graph->num_values, NULL};
    struct kw__graph *g = h.from;
    h.there = kw__arena_alloc(&g->program->arena, g->num_values, sizeof *h.there);
    if (!h.there) return;
    for (size_t i = 0; i < g->num_ops; i++)
        if (once_per_prompt(g, &g->ops[i])) move_op(&h, &g->ops[i]);
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; !g->ops[i].dead && k < g->ops[i].num_inputs; k++) cross(&h, g->ops[i].input[k]);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].next) cross(&h, g->values[v].next);
    kw__graph_compact(g);
}

/* The phase that runs once before all others, made when there is none. */
static struct kw__phase *prompt_phase(struct kw__program *program, struct kw__stage *stage)
{
    if (strcmp(stage->phases[0].name, "prompt") == 0) return &stage->phases[0];
    if (stage->num_turns || stage->num_phases == KW__MAX_PHASES ||
        !kw__stage_phase(program, stage, "prompt", 1))
        return NULL;
    struct kw__phase prompt = stage->phases[stage->num_phases - 1];
    memmove(&stage->phases[1], &stage->phases[0], (size_t)(stage->num_phases - 1) * sizeof prompt);
    stage->phases[0] = prompt;
    return &stage->phases[0];
}

void kw__rewrite_hoist_prompt(struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++) {
        struct kw__stage *stage = &program->stages[s];
        if (strcmp(stage->name, "denoise") != 0) continue;
        bool any = false;
        for (int p = 0; p < stage->num_phases; p++) {
            const struct kw__graph *g = stage->phases[p].graph;
            if (strcmp(stage->phases[p].name, "prompt") == 0) continue;
            for (size_t i = 0; i < g->num_ops; i++) any |= once_per_prompt(g, &g->ops[i]);
        }
        struct kw__phase *prompt = any ? prompt_phase(program, stage) : NULL;
        for (int p = 1; prompt && p < stage->num_phases; p++) hoist_phase(prompt, &stage->phases[p]);
    }
}
