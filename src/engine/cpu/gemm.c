/* Matrix products, y = residual + gate * act(x w' + b): ours on AMX (tiles.c), else oneDNN's matmul on
 * packed weights, where bias, activation and gate are its post-operations and y holds the residual
 * before. Two things are passes of ours: GELU in bf16, which is cheaper than oneDNN's, and gate and residual
 * where oneDNN would leave its fast kernels for a gate (without AVX512 it does). */
#include <stdlib.h>

#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/rows_bf16.h"
#include "engine/cpu/tiles.h"
#include "engine/cpu/vec.h"

struct linear {
    struct kw__cpu_primitive p;
    dnnl_memory_t x, w, b, y, gate;
    int64_t batches, rows, n, k; /* `batches` executions of x[rows,k] -> y[rows,n] */
    bool gated, residual, gelu_pass, gate_pass;
};

static void free_linear(void *kernel)
{
    struct linear *l = kernel;
    dnnl_memory_destroy(l->x);
    dnnl_memory_destroy(l->w);
    dnnl_memory_destroy(l->b);
    dnnl_memory_destroy(l->y);
    dnnl_memory_destroy(l->gate);
    kw__cpu_primitive_free(&l->p);
}

/* ---- Running ------------------------------------------------------------------------------------------- */

/* The gate's row for a video. */
static void *gate_of(const struct kw__cpu_step *step, const struct linear *l, int64_t batch)
{
    int64_t table = step->in[3]->dim[1] * step->in[3]->dim[2];
    return kw__cpu_at(step->x[3], step->in_type[3], batch * table + step->a->row * l->n);
}

static void run_tiles(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    const struct linear *l = step->kernel;
    for (int64_t b = 0; b < l->batches; b++) {
        int64_t at = b * l->rows * l->n;
        struct kw__cpu_product product = {
            .x = kw__cpu_at(step->x[0], KW__BF16, b * l->rows * l->k),
            .w = step->weight[1]->data,
            .rows = l->rows,
            .n = l->n,
            .k = l->k,
            .bias = step->x[2],
            .gate = l->gated ? gate_of(step, l, b) : NULL,
            .activation = step->a->activation,
            .residual = l->residual ? kw__cpu_at(step->x[4], step->in_type[4], at) : NULL,
            .residual_type = step->in_type[4],
            .type = step->out_type[0],
            .y = kw__cpu_at(step->y[0], step->out_type[0], at),
        };
        kw__cpu_multiply_tiles(plan->device, &product, step->scratch);
    }
}

/* ---- Gate and residual by themselves ---- */

struct gating {
    const struct kw__cpu_step *step;
    const struct linear *l;
    const float *product; /* [rows,n] */
    const void *gate;
    int64_t at; /* of its first element in the result */
};

/* The product lies in the scratch, behind the primitive's own. */
static float *product_of(const struct kw__cpu_step *step, const struct linear *l)
{
    return (float *)((char *)step->scratch + step->scratch_bytes - (size_t)(l->rows * l->n) * sizeof(float));
}

KW__CLONES static void gate_rows(void *argument, int64_t from, int64_t to)
{
    const struct gating *j = argument;
    const struct kw__cpu_step *s = j->step;
    float buffer[3][KW__PIECE];
    int64_t n = j->l->n;
    for (int64_t row = from; row < to; row++)
        for (int64_t i = 0; i < n; i += KW__PIECE) {
            int64_t count = n - i < KW__PIECE ? n - i : KW__PIECE, at = j->at + row * n + i;
            const float *x = j->product + row * n + i;
            const float *gate = kw__load(s->in_type[3], j->gate, i, count, buffer[0]);
            float *y = kw__target(s->out_type[0], s->y[0], at, buffer[1]);
            if (j->l->residual) {
                const float *z = kw__load(s->in_type[4], s->x[4], at, count, buffer[2]);
                KW__EACH for (int64_t k = 0; k < count; k++) y[k] = z[k] + gate[k] * x[k];
            } else {
                KW__EACH for (int64_t k = 0; k < count; k++) y[k] = gate[k] * x[k];
            }
            kw__store(s->out_type[0], s->y[0], at, count, y);
        }
}

static void run_onednn(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct linear *l = step->kernel;
    int64_t part = l->rows * l->n;
    if (l->residual && !l->gate_pass)
        kw__cpu_copy(plan->device, step->in_type[4], step->x[4], step->out_type[0], step->y[0],
                     l->batches * part);
    dnnl_memory_set_data_handle(l->w, step->weight[1]->data);
    if (l->b) dnnl_memory_set_data_handle(l->b, (void *)step->x[2]);
    for (int64_t b = 0; b < l->batches; b++) {
        dnnl_memory_set_data_handle(l->x, kw__cpu_at(step->x[0], step->in_type[0], b * l->rows * l->k));
        dnnl_memory_set_data_handle(l->y, l->gate_pass ? product_of(step, l)
                                                       : kw__cpu_at(step->y[0], step->out_type[0], b * part));
        dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, l->x}, {DNNL_ARG_WEIGHTS, l->w}, {DNNL_ARG_DST, l->y}};
        int count = 3;
        if (l->b) args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, l->b};
        if (l->gated && !l->gate_pass) {
            int at = step->a->activation != KW__NO_ACTIVATION; /* its place among the post-operations */
            dnnl_memory_set_data_handle(l->gate, gate_of(step, l, b));
            args[count++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(at) | DNNL_ARG_SRC_1, l->gate};
        }
        kw__cpu_execute(plan, step, &l->p, count, args);
        if (!l->gate_pass) continue;
        struct gating gating = {step, l, product_of(step, l), gate_of(step, l, b), b * part};
        kw__cpu_parallel(plan->device, l->rows, 1 + 16384 / l->n, gate_rows, &gating);
    }
    if (l->gelu_pass) kw__cpu_gelu_in_place(plan->device, step->y[0], part);
}

/* ---- Compiling ----------------------------------------------------------------------------------------- */

static dnnl_status_t post_operations(const struct kw__cpu_step *step, const struct linear *l,
                                     dnnl_post_ops_t post)
{
    dnnl_status_t s = dnnl_success;
    dnnl_memory_desc_t gate;
    if (step->a->activation == KW__ACT_GELU && !l->gelu_pass)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_gelu_tanh, 0.0f, 0.0f);
    if (step->a->activation == KW__ACT_GELU_ERF)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    if (step->a->activation == KW__ACT_GELU_QUICK)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_swish, 1.702f, 0.0f);
    if (step->a->activation == KW__ACT_SILU)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_swish, 1.0f, 0.0f);
    if (l->gate_pass) return s;
    if (!s && l->gated) {
        s = kw__cpu_plain(&gate, 2, (dnnl_dims_t){1, l->n}, kw__cpu_type(step->in_type[3]));
        if (!s) s = dnnl_post_ops_append_binary(post, dnnl_binary_mul, &gate);
    }
    if (!s && l->residual) s = dnnl_post_ops_append_sum(post, 1.0f);
    return s;
}

/* The primitive with this layout of the weights; NULL: the one that suits it best. */
static dnnl_status_t create(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct linear *l,
                            const dnnl_memory_desc_t *packed)
{
    dnnl_memory_desc_t x, w, b, y;
    dnnl_matmul_desc_t desc;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s;
    (void)((s = kw__cpu_plain(&x, 2, (dnnl_dims_t){l->rows, l->k}, kw__cpu_type(step->in_type[0]))) ||
           (s = dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){l->k, l->n},
                                             kw__cpu_type(step->in[1]->dtype), dnnl_format_tag_any)) ||
           (s = kw__cpu_plain(&b, 2, (dnnl_dims_t){1, l->n}, dnnl_f32)) ||
           (s = kw__cpu_plain(&y, 2, (dnnl_dims_t){l->rows, l->n},
                              l->gate_pass ? dnnl_f32 : kw__cpu_type(step->out_type[0]))));
    if (s) return s;
    if (packed) w = *packed;
    s = dnnl_matmul_desc_init(&desc, &x, &w, kw__operand(step->op, 2) ? &b : NULL, &y);
    if (!s) s = dnnl_post_ops_create(&post);
    if (!s) s = post_operations(step, l, post);
    if (!s) s = kw__cpu_primitive(plan->device, &desc, post, &l->p);
    dnnl_post_ops_destroy(post);
    return s;
}

static dnnl_status_t create_memories(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct linear *l)
{
    dnnl_engine_t engine = plan->device->engine;
    dnnl_memory_desc_t gate, bias;
    dnnl_status_t s;
    (void)((s = kw__cpu_plain(&bias, 2, (dnnl_dims_t){1, l->n}, dnnl_f32)) ||
           (s = kw__cpu_plain(&gate, 2, (dnnl_dims_t){1, l->n}, kw__cpu_type(step->in_type[3]))) ||
           (s = kw__cpu_memory(&l->p, dnnl_query_src_md, engine, &l->x)) ||
           (s = kw__cpu_memory(&l->p, dnnl_query_weights_md, engine, &l->w)) ||
           (s = kw__cpu_memory(&l->p, dnnl_query_dst_md, engine, &l->y)));
    if (!s && l->gated) s = dnnl_memory_create(&l->gate, &gate, engine, DNNL_MEMORY_NONE);
    if (!s && kw__operand(step->op, 2)) s = dnnl_memory_create(&l->b, &bias, engine, DNNL_MEMORY_NONE);
    return s;
}

static kw_status compile_onednn(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct linear *l,
                                kw_error *err)
{
    const struct kw__value *w = step->in[1];
    const dnnl_memory_desc_t *packed = kw__cpu_packed(plan, w, -1);
    dnnl_memory_desc_t source;
    dnnl_status_t s = packed ? create(plan, step, l, packed) : dnnl_unimplemented;
    if (s || kw__cpu_is_reference(&l->p)) s = create(plan, step, l, NULL);
    if (l->gated && (s || kw__cpu_is_reference(&l->p))) {
        l->gate_pass = true;
        s = create(plan, step, l, NULL);
    }
    if (!s) s = create_memories(plan, step, l);
    if (!s)
        s = dnnl_memory_desc_init_by_tag(&source, 2, (dnnl_dims_t){l->k, l->n}, kw__cpu_type(w->dtype),
                                         dnnl_ba);
    if (s) return kw__cpu_fail(s, "a matrix product", err);
    step->weight[1] = kw__cpu_weight_packed(
        plan, w, -1, 0, &source, dnnl_primitive_desc_query_md(l->p.desc, dnnl_query_weights_md, 0));
    step->scratch_bytes = l->p.scratch_bytes;
    if (l->gate_pass) {
        size_t before = (l->p.scratch_bytes + KW__ALIGNMENT - 1) / KW__ALIGNMENT * KW__ALIGNMENT;
        step->scratch_bytes = before + (size_t)(l->rows * l->n) * sizeof(float);
    }
    step->run = run_onednn;
    return step->weight[1] ? KW_OK : kw__fail_memory(err);
}

kw_status kw__cpu_compile_linear(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct linear *l = kw__arena_alloc(&plan->arena, 1, sizeof *l);
    if (!l) return kw__fail_memory(err);
    step->kernel = l;
    step->free_kernel = free_linear;
    const struct kw__value *w = step->in[1];
    l->n = w->dim[0];
    l->k = kw__elements(w) / l->n;
    l->residual = kw__operand(step->op, 4) != 0;
    l->gated = kw__operand(step->op, 3) && step->a->row >= 0;
    l->gelu_pass =
        step->a->activation == KW__ACT_GELU && step->out_type[0] == KW__BF16 && !l->gated && !l->residual;
    l->batches = l->gated ? step->in[0]->dim[0] : 1;
    l->rows = kw__elements(step->in[0]) / l->k / l->batches;
    if (l->residual && step->in_type[4] == step->out_type[0]) plan->overwrite[step->op->output[0]] = 1u << 4;
    bool tiles = step->in_type[0] == KW__BF16 && plan->device->has_amx &&
                 step->a->activation <= KW__ACT_GELU && (!l->gated || step->in_type[3] == KW__F32);
    if (!tiles) return compile_onednn(plan, step, l, err);
    step->run = run_tiles;
    step->scratch_bytes = kw__cpu_tiles_scratch(plan->device, l->rows, l->k);
    step->weight[1] = kw__cpu_weight_tiles(plan, w);
    return step->weight[1] ? KW_OK : kw__fail_memory(err);
}
