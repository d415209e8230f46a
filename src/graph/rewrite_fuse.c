/* Operators that one kernel can do. A fusion looks at an operator and the producer of one of its
 * inputs: nothing else may read what goes between them, and the fused operator stands where the
 * reader stood, with the reader's result, so that values keep their names and dtypes. */
#include <string.h>

#include "graph/rewrite.h"

/* ---- Finding what can be fused ------------------------------------------------------------------ */

struct match {
    struct kw__graph *g;
    size_t num_values; /* when the uses were counted */
    const int *uses;   /* of each value: operators that read it, and states that it is next of */
};

static int *count_uses(const struct kw__graph *g)
{
    int *uses = kw__arena_alloc(&g->program->arena, g->num_values, sizeof *uses);
    if (!uses) return NULL;
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; !g->ops[i].dead && k < g->ops[i].num_inputs; k++) uses[g->ops[i].input[k]]++;
    for (size_t v = 1; v < g->num_values; v++) uses[g->values[v].next]++;
    return uses;
}

/* The operator whose first output is `v`, if `v` is used once; or NULL. */
static struct kw__op *sole_producer(const struct match *m, int v)
{
    if (!v || (size_t)v >= m->num_values || m->uses[v] != 1 || m->g->values[v].producer < 0) return NULL;
    struct kw__op *op = &m->g->ops[m->g->values[v].producer];
    return !op->dead && op->output[0] == v ? op : NULL;
}

static struct kw__op *sole_source(const struct match *m, const struct kw__op *op, int i, enum kw__opcode code)
{
    struct kw__op *source = sole_producer(m, kw__operand(op, i));
    return source && source->code == code ? source : NULL;
}

/* A fusion changes the graph at `op` if it can, and says whether it did. */
typedef bool fusion(const struct match *m, struct kw__op *op);

static void fuse_in_program(struct kw__program *program, fusion *try)
{
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            struct kw__graph *g = program->stages[s].phases[p].graph;
            struct match m = {g, g->num_values, count_uses(g)};
            bool changed = false;
            for (size_t i = 0; m.uses && i < g->num_ops; i++)
                if (!g->ops[i].dead) changed |= try(&m, &g->ops[i]);
            if (!changed) continue;
            kw__graph_compact(g);
            kw__graph_infer(g);
        }
}

/* `op` becomes the fused operator. */
static bool become(struct kw__op *op, enum kw__opcode code, const struct kw__attr *attr, int num_inputs,
                   const int *inputs)
{
    op->code = code;
    op->attr = *attr;
    op->num_inputs = num_inputs;
    memcpy(op->input, inputs, (size_t)num_inputs * sizeof *inputs);
    return true;
}
#define INPUTS(...)                                                                                          \
    (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)), (const int[])                                   \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

/* ---- Norms ------------------------------------------------------------------------------------ */

static bool norm_modulate(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__MODULATE) return false;
    struct kw__op *norm = sole_source(m, op, 0, KW__LAYERNORM);
    if (!norm || kw__operand(norm, 1) || kw__operand(norm, 2) || norm->attr.heads > 1) return false;
    if (op->attr.row < 0 || op->attr.row2 < 0) return false;
    struct kw__attr attr = norm->attr;
    attr.row = op->attr.row;
    attr.row2 = op->attr.row2;
    norm->dead = true;
    return become(op, KW__LAYERNORM_MODULATE, &attr, INPUTS(norm->input[0], op->input[1]));
}

void kw__rewrite_fuse_norm_modulate(struct kw__program *program)
{
    fuse_in_program(program, norm_modulate);
}

static bool norm_rope(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__ROPE) return false;
    struct kw__op *norm = sole_source(m, op, 0, KW__RMSNORM);
    if (!norm || !kw__operand(norm, 1) || norm->attr.heads > 1 || op->attr.prefix || op->attr.transposed)
        return false;
    norm->dead = true;
    return become(op, KW__RMSNORM_ROPE, &norm->attr, INPUTS(norm->input[0], norm->input[1], op->input[1]));
}

void kw__rewrite_fuse_norm_rope(struct kw__program *program)
{
    fuse_in_program(program, norm_rope);
}

static bool norm_silu(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__SILU) return false;
    struct kw__op *norm = sole_source(m, op, 0, KW__CHANNEL_RMSNORM);
    if (!norm) norm = sole_source(m, op, 0, KW__GROUPNORM);
    if (!norm || norm->attr.activation != KW__NO_ACTIVATION) return false;
    struct kw__attr attr = norm->attr;
    attr.activation = KW__ACT_SILU;
    norm->dead = true;
    return become(op, norm->code, &attr, norm->num_inputs, norm->input);
}

void kw__rewrite_fuse_norm_silu(struct kw__program *program)
{
    fuse_in_program(program, norm_silu);
}

/* ---- Epilogues of matrix products --------------------------------------------------------------- */

static bool gelu_mul(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__MUL) return false;
    for (int i = 0; i < 2; i++) {
        struct kw__op *gelu = sole_source(m, op, i, KW__GELU);
        if (!gelu || gelu->attr.activation != KW__NO_ACTIVATION) continue;
        gelu->dead = true;
        return become(op, KW__GELU_MUL, &op->attr, INPUTS(gelu->input[0], op->input[1 - i]));
    }
    return false;
}

static bool linear_gelu(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__GELU) return false;
    struct kw__op *linear = sole_source(m, op, 0, KW__LINEAR);
    if (!linear || linear->attr.activation != KW__NO_ACTIVATION || kw__operand(linear, 4)) return false;
    struct kw__attr attr = linear->attr;
    attr.activation = op->attr.activation ? op->attr.activation : KW__ACT_GELU;
    op->component = linear->component;
    linear->dead = true;
    return become(op, KW__LINEAR, &attr, linear->num_inputs, linear->input);
}

void kw__rewrite_fuse_gelu(struct kw__program *program)
{
    fuse_in_program(program, gelu_mul);
    fuse_in_program(program, linear_gelu);
}

/* Which of the two operands of an addition is the result of `code` alone: 1 or 0, the one that is
 * made later when both are; or -1. */
static int addend(const struct match *m, const struct kw__op *add, enum kw__opcode code)
{
    const struct kw__op *a = sole_source(m, add, 0, code), *b = sole_source(m, add, 1, code);
    if (a && (!b || a > b)) return 0;
    return b ? 1 : -1;
}

/* Whether each row has a table of its own, which the product has no operand for. */
static bool table_of_rows(const struct kw__graph *g, const struct kw__op *gate)
{
    return g->values[gate->input[2]].dim[0] != g->values[gate->input[0]].dim[0];
}

static bool linear_gate(const struct match *m, struct kw__op *op)
{
    int y = op->code == KW__GATE_ADD ? 1 : op->code == KW__ADD ? addend(m, op, KW__LINEAR) : -1;
    struct kw__op *linear = y < 0 ? NULL : sole_source(m, op, y, KW__LINEAR);
    if (!linear || kw__operand(linear, 4)) return false;
    if (op->code == KW__GATE_ADD && table_of_rows(m->g, op)) return false;
    struct kw__attr attr = linear->attr;
    attr.row = op->code == KW__GATE_ADD ? op->attr.row : -1;
    op->component = linear->component;
    linear->dead = true;
    return become(op, KW__LINEAR, &attr,
                  INPUTS(linear->input[0], linear->input[1], kw__operand(linear, 2), kw__operand(op, 2),
                         op->input[1 - y]));
}

void kw__rewrite_fuse_gate(struct kw__program *program)
{
    fuse_in_program(program, linear_gate);
}

/* ---- Convolutions --------------------------------------------------------------------------------- */

static bool read_by_operator(const struct kw__graph *g, int v)
{
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; !g->ops[i].dead && k < g->ops[i].num_inputs; k++)
            if (g->ops[i].input[k] == v) return true;
    return false;
}

static bool conv_add(const struct match *m, struct kw__op *op)
{
    int y = op->code == KW__ADD ? addend(m, op, KW__CONV) : -1;
    struct kw__op *conv = y < 0 ? NULL : sole_source(m, op, y, KW__CONV);
    if (!conv || kw__operand(conv, 4) || read_by_operator(m->g, conv->output[1])) return false;
    op->component = conv->component;
    op->output[1] = conv->output[1]; /* its cache, made a little later now */
    op->num_outputs = 2;
    m->g->values[op->output[1]].producer = (int)(op - m->g->ops);
    conv->num_outputs = 1;
    conv->dead = true;
    return become(
        op, KW__CONV, &conv->attr,
        INPUTS(conv->input[0], conv->input[1], kw__operand(conv, 2), kw__operand(conv, 3), op->input[1 - y]));
}

void kw__rewrite_fuse_conv_add(struct kw__program *program)
{
    fuse_in_program(program, conv_add);
}

/* Whether the operator is a 3x3 convolution of single frames: stride 1, as large as its input. */
static bool plain_3x3(const struct kw__graph *g, const struct kw__op *op)
{
    if (op->code != KW__CONV || kw__operand(op, 3)) return false;
    const struct kw__attr *a = &op->attr;
    const struct kw__value *w = &g->values[op->input[1]];
    return w->recipe == KW__RECIPE_PLAIN && w->dim[w->ndim - 2] == 3 && w->dim[w->ndim - 1] == 3 &&
           (w->ndim == 4 || w->dim[2] == 1) && a->stride[0] == 1 && a->stride[1] == 1 && a->stride[2] == 1 &&
           a->pad[0] == 1 && a->pad[1] == 1 && !a->replicate_space;
}

static bool upsample_conv(const struct match *m, struct kw__op *op)
{
    struct kw__op *upsample = plain_3x3(m->g, op) ? sole_source(m, op, 0, KW__UPSAMPLE) : NULL;
    if (!upsample || op->attr.upsample) return false;
    op->attr.upsample = true;
    op->input[0] = upsample->input[0];
    upsample->dead = true;
    return true;
}

void kw__rewrite_fuse_upsample(struct kw__program *program)
{
    fuse_in_program(program, upsample_conv);
}

/* ---- Weights made of others ------------------------------------------------------------------------ */

/* The weight of this recipe over the tensors of plain weights, made when the graph has none yet. */
static int recipe_weight(struct kw__graph *g, enum kw__recipe_kind recipe, const char *suffix, int ndim,
                         const int64_t *dim, int count, const int *weights)
{
    struct kw__value value = g->values[weights[0]];
    value.recipe = recipe;
    value.ndim = ndim;
    memcpy(value.dim, dim, (size_t)ndim * sizeof *dim);
    value.num_tensors = count;
    for (int i = 0; i < count; i++) value.tensor[i] = g->values[weights[i]].tensor[0];
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *old = &g->values[v];
        if (old->kind == KW__WEIGHT && old->recipe == recipe && old->dtype == value.dtype &&
            old->num_tensors == count && memcmp(old->tensor, value.tensor, (size_t)count * sizeof(int)) == 0)
            return (int)v;
    }
    value.name = kw__arena_printf(&g->program->arena, "%s.%s", value.name, suffix);
    return value.name ? kw__value_add(g, value) : 0;
}

static bool fold(const struct match *m, struct kw__op *op)
{
    if (!plain_3x3(m->g, op) || !op->attr.upsample) return false;
    const struct kw__value *w = &m->g->values[op->input[1]];
    int folded = recipe_weight(m->g, KW__RECIPE_FOLD_UPSAMPLE, "folded",
                               KW__DIMS(4, w->dim[0], w->dim[1], 2, 2), 1, &op->input[1]);
    if (folded) op->input[1] = folded;
    return folded != 0;
}

void kw__rewrite_fold_upsample(struct kw__program *program)
{
    fuse_in_program(program, fold);
}

/* ---- fuse_qkv ------------------------------------------------------------------------------------------ */

/* Where an operand of an attention comes from: a matrix product, and the operator that reads it, a norm
 * or NULL for the attention itself. */
struct projection {
    struct kw__op *linear, *reader;
};

static struct projection trace(const struct match *m, int v)
{
    const struct projection none = {NULL, NULL};
    struct projection p = none;
    for (;;) {
        struct kw__op *op = sole_producer(m, v);
        if (!op) return none;
        bool norm = (op->code == KW__RMSNORM || op->code == KW__RMSNORM_ROPE) && op->attr.parts <= 1;
        if (norm || op->code == KW__ROPE) {
            p.reader = op;
            v = op->input[0];
            continue;
        }
        if (op->code != KW__LINEAR || kw__operand(op, 4) || op->attr.activation != KW__NO_ACTIVATION ||
            m->g->values[op->input[1]].recipe != KW__RECIPE_PLAIN)
            return none;
        if (p.reader && p.reader->code == KW__ROPE) return none; /* it cannot read a part */
        p.linear = op;
        return p;
    }
}

/* Whether two matrix products are two blocks of columns of one. */
static bool alike(const struct kw__graph *g, const struct kw__op *a, const struct kw__op *b)
{
    const struct kw__value *wa = &g->values[a->input[1]], *wb = &g->values[b->input[1]];
    return a != b && a->input[0] == b->input[0] && !kw__operand(a, 2) == !kw__operand(b, 2) &&
           wa->ndim == wb->ndim && memcmp(wa->dim, wb->dim, (size_t)wa->ndim * sizeof wa->dim[0]) == 0 &&
           wa->dtype == wb->dtype && g->values[a->output[0]].dtype == g->values[b->output[0]].dtype;
}

/* One matrix product, at the place of the first of them: readers come after it. */
static int join(struct kw__graph *g, int parts, const struct projection *projections)
{
    int weights[KW__MAX_RECIPE], biases[KW__MAX_RECIPE];
    struct kw__op *first = projections[0].linear;
    for (int i = 0; i < parts; i++) {
        struct kw__op *linear = projections[i].linear;
        weights[i] = linear->input[1];
        biases[i] = kw__operand(linear, 2);
        if (linear < first) first = linear;
    }
    struct kw__value y = g->values[projections[0].linear->output[0]];
    int64_t n = y.dim[y.ndim - 1] * parts, dim[KW__MAX_DIMS];
    memcpy(dim, g->values[weights[0]].dim, sizeof dim);
    dim[0] = n;
    int w = recipe_weight(g, KW__RECIPE_CONCAT, "joint", g->values[weights[0]].ndim, dim, parts, weights);
    int b = biases[0] ? recipe_weight(g, KW__RECIPE_CONCAT, "joint", 1, dim, parts, biases) : 0;
    y.name = kw__arena_printf(&g->program->arena, "%s.joint", y.name);
    y.dim[y.ndim - 1] = n;
    y.producer = (int)(first - g->ops);
    int joint = w && y.name && (b || !biases[0]) ? kw__value_add(g, y) : 0;
    if (!joint) return 0;
    for (int i = 0; i < parts; i++) projections[i].linear->dead = true;
    first->dead = false;
    first->output[0] = joint;
    become(first, KW__LINEAR, &first->attr, INPUTS(first->input[0], w, b));
    return joint;
}

static bool qkv(const struct match *m, struct kw__op *op)
{
    if (op->code != KW__ATTENTION || op->attr.parts > 1) return false;
    struct kw__graph *g = m->g;
    struct projection from[3];
    for (int i = 0; i < 3; i++) from[i] = trace(m, op->input[i]);
    if (!from[1].linear || !from[2].linear || !alike(g, from[1].linear, from[2].linear)) return false;
    if (from[2].reader) return false; /* v is read as it is */
    bool with_q =
        from[0].linear && alike(g, from[0].linear, from[1].linear) && from[0].linear != from[2].linear;
    int skip = with_q ? 0 : 1, parts = 3 - skip;
    int joint = join(g, parts, from + skip);
    if (!joint) return false;
    for (int i = 0; i < parts; i++) {
        struct kw__op *reader = from[skip + i].reader;
        if (reader) {
            reader->attr.part = i;
            reader->attr.parts = parts;
            reader->input[0] = joint;
        } else {
            op->input[skip + i] = joint;
        }
    }
    op->attr.parts = parts;
    op->attr.part = parts - 1;
    op->attr.k_joint = !from[1].reader;
    op->attr.q_joint = with_q && !from[0].reader;
    return true;
}

void kw__rewrite_fuse_qkv(struct kw__program *program)
{
    fuse_in_program(program, qkv);
}
