#include "graph/count.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/placement.h"

static const struct kw__value *value_of(const struct kw__graph *g, int id)
{
    return id ? &g->values[id] : NULL;
}

static const struct kw__value *input(const struct kw__graph *g, const struct kw__op *op, int i)
{
    return i < op->num_inputs ? value_of(g, op->input[i]) : NULL;
}

/* ---- FLOPs ---------------------------------------------------------------------------------- */

/* q[B,Lq,h*e] k[B,Lk,..]: 2 B Lq Lk h e for each of the two products; ragged rows are those that are attended
 */
static double attention_flop(const struct kw__graph *g, const struct kw__op *op)
{
    const struct kw__value *q = input(g, op, 0), *k = input(g, op, 1), *y = value_of(g, op->output[0]);
    double scores = (double)q->dim[1] * (double)k->dim[1];
    if (op->attr.ragged) scores = op->attr.attended * op->attr.attended;
    return 4.0 * (double)q->dim[0] * scores * (double)kw__last_dim(y);
}

static double conv_flop(const struct kw__graph *g, const struct kw__op *op)
{
    const struct kw__value *w = input(g, op, 1), *y = value_of(g, op->output[0]);
    double kernel = (double)kw__elements(w) / (double)w->dim[0]; /* C_in kt kh kw */
    if (w->recipe == KW__RECIPE_FOLD_UPSAMPLE)
        kernel = (double)(w->dim[2] * w->dim[3] * w->dim[4]); /* [4,O,C,2,2] */
    return 2.0 * (double)kw__elements(y) * kernel;
}

double kw__op_flop(const struct kw__graph *g, const struct kw__op *op)
{
    switch (kw__op_info(op->code)->class) {
    case KW__CLASS_GEMM: {
        const struct kw__value *w = input(g, op, 1);
        return 2.0 * (double)kw__elements(value_of(g, op->output[0])) * (double)kw__elements(w) /
               (double)w->dim[0];
    }
    case KW__CLASS_ATTENTION: return attention_flop(g, op);
    case KW__CLASS_CONV: return conv_flop(g, op);
    default: return 0.0;
    }
}

void kw__sums_add(const struct kw__graph *g, const struct kw__op *op, double times, struct kw__sums *sums)
{
    double flop = times * kw__op_flop(g, op);
    enum kw__class class = kw__op_info(op->code)->class;
    sums->flop += flop;
    if (class == KW__CLASS_GEMM) sums->linear += flop;
    if (class == KW__CLASS_ATTENTION) sums->attention += flop;
    if (class == KW__CLASS_CONV) sums->conv += flop;
}

void kw__graph_flop(const struct kw__graph *g, const char *component, double times, struct kw__sums *sums)
{
    for (size_t i = 0; i < g->num_ops; i++)
        if (!component || strcmp(g->ops[i].component, component) == 0)
            kw__sums_add(g, &g->ops[i], times, sums);
}

/* ---- Work on a stack --------------------------------------------------------------------------- */

static const char *math_name(enum kw__dtype dtype, bool tf32)
{
    return dtype == KW__F32 && tf32 ? "tf32" : kw__dtype_name(dtype);
}

static int channel_bucket(const struct kw__value *w)
{
    int64_t out = w->dim[w->recipe == KW__RECIPE_FOLD_UPSAMPLE ? 1 : 0];
    int64_t in = w->dim[w->recipe == KW__RECIPE_FOLD_UPSAMPLE ? 2 : 1];
    int64_t least = in < out ? in : out;
    return least < 24    ? 16
           : least < 48  ? 32
           : least < 72  ? 64
           : least < 112 ? 96
           : least < 160 ? 128
           : least < 288 ? 192
                         : 384;
}

static int side_bucket(const struct kw__value *w)
{
    int64_t n = w->dim[0], k = kw__elements(w) / n, least = n < k ? n : k;
    return least < 96 ? 64 : least < 192 ? 128 : least < 384 ? 256 : least < 896 ? 512 : 1536;
}

/* Taps of a kernel. While the cache is fresh those before the first frame meet padding alone. */
static int taps(const struct kw__value *x, const struct kw__value *w, const struct kw__op *op)
{
    int64_t all = kw__elements(w) / (w->dim[0] * w->dim[1]);
    if (w->recipe == KW__RECIPE_FOLD_UPSAMPLE) return (int)(w->dim[3] * w->dim[4]);
    if (w->ndim == 5 && op->attr.fresh && x->dim[2] < w->dim[2]) all = all / w->dim[2] * x->dim[2];
    return (int)all;
}

static void name_key(const struct kw__graph *g, const struct kw__op *op, const struct kw__stack *stack,
                     struct kw__work *out)
{
    const struct kw__value *x = input(g, op, 0), *w = input(g, op, 1), *y = value_of(g, op->output[0]);
    const struct kw__op_info *info = kw__op_info(op->code);
    char *key = out->key;
    switch (info->class) {
    case KW__CLASS_GEMM: /* the weight's dtype is that of the product */
        snprintf(key, KW__KEY_BYTES, "gemm/%s/n%d", math_name(w->dtype, stack->tf32_gemm), side_bucket(w));
        out->size = (double)kw__elements(y) / (double)w->dim[0];
        break;
    case KW__CLASS_ATTENTION:
        /* a bias keeps most kernels from being the flash one */
        snprintf(key, KW__KEY_BYTES, "%s/%s/hd%d", input(g, op, 3) ? "attention_bias" : "attention",
                 math_name(x->dtype, stack->tf32_gemm), (int)(kw__last_dim(y) / op->attr.heads));
        out->size = (double)w->dim[1];
        break;
    case KW__CLASS_CONV:
        snprintf(key, KW__KEY_BYTES, "conv/%s/c%d/k%d", math_name(w->dtype, stack->tf32_conv),
                 channel_bucket(w), taps(x, w, op));
        out->size = (double)kw__elements(y) / (double)y->dim[1];
        break;
    default:
        snprintf(key, KW__KEY_BYTES, "%s/%s/%s", kw__class_name(info->class), kw__dtype_name(y->dtype),
                 info->name);
    }
}

/* Whether an input is read as one of attr.parts column blocks of a joint projection. */
static bool joint(const struct kw__op *op, int i)
{
    if (op->attr.parts < 2) return false;
    if (op->code == KW__ATTENTION)
        return i == 2 || (i == 1 && op->attr.k_joint) || (i == 0 && op->attr.q_joint);
    return i == 0 && (op->code == KW__RMSNORM || op->code == KW__RMSNORM_ROPE);
}

static double operand_bytes(const struct kw__graph *g, const struct kw__op *op)
{
    double bytes = 0;
    for (int i = 0; i < op->num_inputs; i++)
        if (op->input[i])
            bytes += kw__value_bytes(&g->values[op->input[i]]) / (joint(op, i) ? op->attr.parts : 1);
    for (int i = 0; i < op->num_outputs; i++) bytes += kw__value_bytes(&g->values[op->output[i]]);
    return bytes;
}

/* Operand bytes of one fused kernel, where some operands are touched only in part. */
static double fused_bytes(const struct kw__graph *g, const struct kw__op *op)
{
    const struct kw__value *y = value_of(g, op->output[0]);
    switch (op->code) {
    case KW__EMBEDDING: /* the rows that are looked up */
        return kw__value_bytes(input(g, op, 0)) + 2 * kw__value_bytes(y);
    case KW__TAKE_FRAME:
    case KW__TAKE_BLOCK:
    case KW__SLICE:
    case KW__BLEND_TILES: /* what is moved, not the whole clip */ return 2 * kw__value_bytes(y);
    case KW__PUT_FRAMES:
    case KW__PUT_BLOCK: return 2 * kw__value_bytes(input(g, op, 1));
    default: return operand_bytes(g, op);
    }
}

static double kernel_elements(const struct kw__graph *g, const struct kw__op *op, int per)
{
    if (per == KW__PER_SCORES) { /* B h Lq Lk */
        const struct kw__value *q = input(g, op, 0), *k = input(g, op, 1);
        return (double)q->dim[0] * (double)op->attr.heads * (double)q->dim[1] * (double)k->dim[1];
    }
    const struct kw__value *value = per == KW__PER_OUTPUT ? value_of(g, op->output[0]) : input(g, op, per);
    return value ? (double)kw__elements(value) : 0.0;
}

static double whole_tiles(double count, int64_t tile)
{
    return tile ? ceil(count / (double)tile) * (double)tile / count : 1;
}

/* How much more attention computes that works on whole tiles. */
static double tile_work(const struct kw__graph *g, const struct kw__op *op,
                        const struct kw__kernel_list *list)
{
    const struct kw__value *q = input(g, op, 0), *k = input(g, op, 1), *y = value_of(g, op->output[0]);
    double channels = (double)kw__last_dim(y) / (double)op->attr.heads;
    return whole_tiles((double)q->dim[1], list->tile[0]) * whole_tiles((double)k->dim[1], list->tile[1]) *
           whole_tiles(channels, list->tile[2]);
}

/* A block for each row of D channels, or for each group of each clip, x[B,C,T,H,W], or of each frame of as
 * many as one launch takes. */
static void add_walk(const struct kw__graph *g, const struct kw__op *op, const struct kw__kernel_list *list,
                     double bytes, struct kw__work *out)
{
    const struct kw__value *x = input(g, op, 0);
    out->walk_bytes += bytes;
    out->walk_launches = 1;
    if (op->code != KW__GROUPNORM) {
        double heads = op->attr.heads > 1 ? (double)op->attr.heads : 1;
        out->walk_blocks = (double)kw__elements(x) / (double)kw__last_dim(x) * heads;
        return;
    }
    double frames = op->attr.per_frame ? (double)x->dim[2] : 1;
    double groups = (double)(x->dim[0] * op->attr.groups);
    if (list->frames_at_once) out->walk_launches = ceil(frames / (double)list->frames_at_once);
    out->walk_blocks = groups * frames / out->walk_launches; /* on average: the last launch may have fewer */
    out->walk_elements = (double)kw__elements(x) / (groups * frames);
}

void kw__op_work(const struct kw__graph *g, const struct kw__op *op, const struct kw__stack *stack,
                 struct kw__work *out)
{
    *out = (struct kw__work){.flop = kw__op_flop(g, op)};
    enum kw__class class = kw__op_info(op->code)->class;
    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
    bool moves = !stack->on_cpu && (class == KW__CLASS_TRANSFER || class == KW__CLASS_HOST);
    bool arithmetic = class == KW__CLASS_GEMM || class == KW__CLASS_ATTENTION || class == KW__CLASS_CONV;
    if (moves) out->host_bytes = kw__value_bytes(value_of(g, op->output[0]));
    if (moves && list) out->host_bytes += list->host * (double)kw__elements(value_of(g, op->output[0]));
    if (list && class == KW__CLASS_ATTENTION) out->flop *= tile_work(g, op, list);
    if (arithmetic || (!list && !moves)) name_key(g, op, stack, out);
    if (arithmetic) {
        out->main_bytes = operand_bytes(g, op);
        out->launches = 1;
    } else if (!list && !moves) {
        out->memory_bytes = out->size = fused_bytes(g, op);
        out->launches = 1;
    }
    for (size_t i = 0; list && i < list->num_kernels; i++) {
        const struct kw__kernel *k = &list->kernels[i];
        double bytes = (k->read + k->written) * kernel_elements(g, op, k->per);
        out->memory_bytes += bytes;
        out->launches += k->launches;
        if (k->walks) add_walk(g, op, list, bytes, out);
    }
}

/* ---- Peak memory ----------------------------------------------------------------------------------- */

/* Live values of one graph at its worst operator; `last` is room for num_values ints. */
static double live_peak(const struct kw__graph *g, const struct kw__stack *stack, int *last)
{
    double live = 0, peak = 0;
    memset(last, -1, g->num_values * sizeof *last);
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; k < g->ops[i].num_inputs; k++) last[g->ops[i].input[k]] = (int)i;
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind == KW__STATE || value->kind == KW__INPUT) live += kw__value_bytes(value);
        if (value->next) last[value->next] = (int)g->num_ops;
    }
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        bool host = kw__op_info(op->code)->class == KW__CLASS_TRANSFER ||
                    kw__op_info(op->code)->class == KW__CLASS_HOST;
        for (int k = 0; k < op->num_outputs && !host; k++) live += kw__value_bytes(&g->values[op->output[k]]);
        const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
        double extra = list ? list->temporary * (double)kw__elements(&g->values[op->output[0]]) : 0;
        if (live + extra > peak) peak = live + extra;
        for (int k = 0; k < op->num_outputs && !host; k++)
            if (last[op->output[k]] < 0) live -= kw__value_bytes(&g->values[op->output[k]]); /* never read */
        for (int k = 0; k < op->num_inputs; k++) {
            const struct kw__value *value = &g->values[op->input[k]];
            if (op->input[k] && value->kind == KW__TEMPORARY && last[op->input[k]] == (int)i) {
                live -= kw__value_bytes(value);
                last[op->input[k]] = -1; /* an operator may read a value twice */
            }
        }
    }
    return peak;
}

double kw__peak_bytes(struct kw__program *program, const struct kw__stack *stack)
{
    struct kw__placement placement;
    double peak = 0;
    if (!kw__placement_make(program, stack, &placement)) return -1;
    for (int s = 0; s < program->num_stages; s++) {
        double weights = kw__placement_bytes(&placement, s);
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__phase *phase = &program->stages[s].phases[p];
            int *last = kw__arena_alloc(&program->arena, phase->graph->num_values, sizeof *last);
            if (!last) return -1;
            double live = phase->calls ? live_peak(phase->graph, stack, last) : 0;
            if (weights + live > peak) peak = weights + live;
        }
    }
    return peak + stack->resident_extra_bytes;
}
