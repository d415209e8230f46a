/* Matrix products: oneDNN's matmul on packed weights. Bias, activation, gate and residual are its
 * post-operations: y holds the residual before, and becomes y + gate * act(x w' + b). */
#include <stdlib.h>

#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"

struct linear {
    struct kw__cpu_primitive p;
    dnnl_memory_t x, w, b, y, gate;
    int64_t batches, rows, n, k; /* `batches` executions of x[rows,k] -> y[rows,n] */
    int gate_arg;                /* 0: ungated */
    bool residual;
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

static void run_linear(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct linear *l = step->kernel;
    int64_t part = l->rows * l->n;
    if (l->residual)
        kw__cpu_copy(plan->device, step->in_type[4], step->x[4], step->out_type[0], step->y[0],
                     l->batches * part);
    dnnl_memory_set_data_handle(l->w, step->weight[1]->data);
    if (l->b) dnnl_memory_set_data_handle(l->b, (void *)step->x[2]);
    for (int64_t b = 0; b < l->batches; b++) {
        dnnl_memory_set_data_handle(l->x, kw__cpu_at(step->x[0], step->in_type[0], b * l->rows * l->k));
        dnnl_memory_set_data_handle(l->y, kw__cpu_at(step->y[0], step->out_type[0], b * part));
        dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, l->x}, {DNNL_ARG_WEIGHTS, l->w}, {DNNL_ARG_DST, l->y}};
        int count = 3;
        if (l->b) args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, l->b};
        if (l->gate_arg) {
            int64_t row = b * step->in[3]->dim[1] + step->a->row;
            dnnl_memory_set_data_handle(l->gate, kw__cpu_at(step->x[3], step->in_type[3], row * l->n));
            args[count++] = (dnnl_exec_arg_t){l->gate_arg, l->gate};
        }
        kw__cpu_execute(plan, step, &l->p, count, args);
    }
}

/* The primitive with this layout of the weights; NULL: the one that suits it best. */
static dnnl_status_t create(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct linear *l,
                            const dnnl_memory_desc_t *packed)
{
    dnnl_data_type_t xt = kw__cpu_type(step->in_type[0]), wt = kw__cpu_type(step->in[1]->dtype);
    dnnl_data_type_t yt = kw__cpu_type(step->out_type[0]);
    dnnl_memory_desc_t x, w, b, y, gate;
    dnnl_status_t s;
    (void)((s = kw__cpu_plain(&x, 2, (dnnl_dims_t){l->rows, l->k}, xt)) ||
           (s = packed ? dnnl_success
                       : dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){l->k, l->n}, wt,
                                                      dnnl_format_tag_any)) ||
           (s = kw__cpu_plain(&b, 2, (dnnl_dims_t){1, l->n}, dnnl_f32)) ||
           (s = kw__cpu_plain(&y, 2, (dnnl_dims_t){l->rows, l->n}, yt)) ||
           (s = kw__cpu_plain(&gate, 2, (dnnl_dims_t){1, l->n}, kw__cpu_type(step->in_type[3]))));
    if (s) return s;
    if (packed) w = *packed;
    dnnl_matmul_desc_t desc;
    s = dnnl_matmul_desc_init(&desc, &x, &w, kw__operand(step->op, 2) ? &b : NULL, &y);
    dnnl_post_ops_t post = NULL;
    if (!s) s = dnnl_post_ops_create(&post);
    if (!s && step->a->activation == KW__ACT_GELU)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_gelu_tanh, 0.0f, 0.0f);
    if (!s && step->a->activation == KW__ACT_SILU)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_swish, 1.0f, 0.0f);
    if (!s && kw__operand(step->op, 3) && step->a->row >= 0) {
        l->gate_arg = DNNL_ARG_ATTR_MULTIPLE_POST_OP(dnnl_post_ops_len(post)) | DNNL_ARG_SRC_1;
        s = dnnl_post_ops_append_binary(post, dnnl_binary_mul, &gate);
    }
    if (!s && l->residual) s = dnnl_post_ops_append_sum(post, 1.0f);
    if (!s) s = kw__cpu_primitive(plan->device, &desc, post, &l->p);
    dnnl_post_ops_destroy(post);
    return s;
}

static dnnl_status_t create_memories(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct linear *l)
{
    dnnl_engine_t engine = plan->device->engine;
    dnnl_memory_desc_t gate;
    dnnl_status_t s = kw__cpu_plain(&gate, 2, (dnnl_dims_t){1, l->n}, kw__cpu_type(step->in_type[3]));
    (void)(s || (s = kw__cpu_memory(&l->p, dnnl_query_src_md, engine, &l->x)) ||
           (s = kw__cpu_memory(&l->p, dnnl_query_weights_md, engine, &l->w)) ||
           (s = kw__cpu_memory(&l->p, dnnl_query_dst_md, engine, &l->y)) ||
           (s = l->gate_arg ? dnnl_memory_create(&l->gate, &gate, engine, DNNL_MEMORY_NONE) : dnnl_success));
    if (!s && kw__operand(step->op, 2)) {
        dnnl_memory_desc_t b;
        s = kw__cpu_plain(&b, 2, (dnnl_dims_t){1, l->n}, dnnl_f32);
        if (!s) s = dnnl_memory_create(&l->b, &b, engine, DNNL_MEMORY_NONE);
    }
    return s;
}

kw_status kw__cpu_compile_linear(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct linear *l = kw__arena_alloc(&plan->arena, 1, sizeof *l);
    if (!l) return kw__fail_memory(err);
    step->kernel = l;
    step->free_kernel = free_linear;
    step->run = run_linear;
    const struct kw__value *w = step->in[1];
    l->n = w->dim[0];
    l->k = kw__elements(w) / l->n;
    l->residual = kw__operand(step->op, 4) != 0;
    bool gated = kw__operand(step->op, 3) && step->a->row >= 0;
    int64_t rows = kw__elements(step->in[0]) / l->k;
    l->batches = gated ? step->in[0]->dim[0] : 1;
    l->rows = rows / l->batches;

    const dnnl_memory_desc_t *packed = kw__cpu_packed(plan, w, -1);
    dnnl_status_t s = packed ? create(plan, step, l, packed) : dnnl_unimplemented;
    if (s) s = create(plan, step, l, NULL);
    if (!s) s = create_memories(plan, step, l);
    if (s) return kw__cpu_fail(s, "a matrix product", err);

    dnnl_memory_desc_t source;
    s = dnnl_memory_desc_init_by_tag(&source, 2, (dnnl_dims_t){l->k, l->n}, kw__cpu_type(w->dtype), dnnl_ba);
    if (s) return kw__cpu_fail(s, "a matrix product", err);
    step->weight[1] = kw__cpu_weight_packed(
        plan, w, -1, 0, &source, dnnl_primitive_desc_query_md(l->p.desc, dnnl_query_weights_md, 0));
    if (!step->weight[1]) return kw__fail_memory(err);
    step->scratch_bytes = l->p.scratch_bytes;
    if (l->residual && step->in_type[4] == step->out_type[0]) plan->overwrite[step->op->output[0]] = 1u << 4;
    return KW_OK;
}
