/* Convolutions: oneDNN's, channels last, but for those of one pixel, which are matrix products of pixels and
 * channels. (oneDNN 2.6's own are wrong on AMX for some sizes where the channels are no multiple of 32.)
 *
 * A causal convolution reads the frames of its cache before those of x. With one video in the batch x is
 * planned with room for them in front, and they are put there; with several they are joined in scratch
 * memory. While the cache still holds zeros (`fresh`) they are padding, which oneDNN skips. Padding that
 * repeats the edges is written out in scratch memory too.
 * Upsampling with folded kernels is four convolutions, each to its own scratch, then put in place. */
#include <stdlib.h>

#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/vec.h"

struct conv {
    struct kw__cpu_primitive p[4];
    dnnl_memory_t x, w[4], b, y;
    struct kw__cpu_weight *weight[4];
    int kernels;                /* 1, or 4: folded */
    int64_t cached;             /* frames put before x: the cache's, or the first one's copies */
    int64_t behind, side[2];    /* copies of the last frame; of the outermost rows and columns, each side */
    int64_t history;            /* frames that cache' keeps */
    bool room;                  /* x has room for them in front */
    bool upsample, residual;    /* upsample: into scratch, before the convolution */
    size_t input_at, output_at; /* in the scratch: x as the primitive reads it; its result when folded */
    int64_t frame;              /* elements of a frame of x */
};

static void free_conv(void *kernel)
{
    struct conv *c = kernel;
    for (int i = 0; i < 4; i++) {
        kw__cpu_primitive_free(&c->p[i]);
        dnnl_memory_destroy(c->w[i]);
    }
    dnnl_memory_destroy(c->x);
    dnnl_memory_destroy(c->b);
    dnnl_memory_destroy(c->y);
}

/* ---- Running ------------------------------------------------------------------------------------------ */

/* Frame t of the padded video: from its first, last, or own frame of x. Rows and columns repeat at the
 * edges. A row of the loop is a line of the result. */
struct padding {
    const struct kw__cpu_step *step;
    const struct conv *conv;
    char *to;
};

static int64_t nearest(int64_t i, int64_t count)
{
    return i < 0 ? 0 : i < count ? i : count - 1;
}

static void pad_lines(void *argument, int64_t from, int64_t to)
{
    const struct padding *p = argument;
    const struct conv *c = p->conv;
    const int64_t *d = p->step->in[0]->dim;
    int64_t frames = c->cached + d[2] + c->behind, height = d[3] + 2 * c->side[0],
            width = d[4] + 2 * c->side[1];
    size_t pixel = (size_t)d[1] * (size_t)kw__dtype_bytes(p->step->in_type[0]);
    for (int64_t line = from; line < to; line++) {
        int64_t b = line / height / frames, t = nearest(line / height % frames - c->cached, d[2]);
        int64_t h = nearest(line % height - c->side[0], d[3]);
        const char *x = (const char *)p->step->x[0] + (size_t)(((b * d[2] + t) * d[3] + h) * d[4]) * pixel;
        char *y = p->to + (size_t)(line * width) * pixel;
        memcpy(y + (size_t)c->side[1] * pixel, x, (size_t)d[4] * pixel);
        for (int64_t i = 0; i < c->side[1]; i++) {
            memcpy(y + (size_t)i * pixel, x, pixel);
            memcpy(y + (size_t)(c->side[1] + d[4] + i) * pixel, x + (size_t)(d[4] - 1) * pixel, pixel);
        }
    }
}

static bool repeats_edges(const struct kw__cpu_step *s, const struct conv *c)
{
    return (c->cached && !s->in[3]) || c->behind || c->side[0] || c->side[1];
}

/* The frames of the cache and of x, one after the other, for each video. */
static char *join_frames(struct kw__cpu_plan *plan, struct kw__cpu_step *s, const struct conv *c)
{
    enum kw__dtype type = s->in_type[0];
    int64_t frames = s->in[0]->dim[2], cache = c->cached * c->frame, own = frames * c->frame;
    size_t size = (size_t)kw__dtype_bytes(type);
    char *joined = c->room ? (char *)s->x[0] - (size_t)cache * size : (char *)s->scratch + c->input_at;
    for (int64_t b = 0; b < s->in[0]->dim[0]; b++) {
        char *to = joined + (size_t)(b * (cache + own)) * size;
        kw__cpu_copy(plan->device, type, kw__cpu_at(s->x[3], type, b * cache), type, to, cache);
        if (!c->room)
            kw__cpu_copy(plan->device, type, kw__cpu_at(s->x[0], type, b * own), type,
                         to + (size_t)cache * size, own);
    }
    return joined;
}

/* cache' = the last frames of `joined`, or of zeros and x when the cache is fresh. */
static void keep_history(struct kw__cpu_plan *plan, struct kw__cpu_step *s, const struct conv *c,
                         const char *joined)
{
    enum kw__dtype type = s->in_type[0];
    int64_t frames = s->in[0]->dim[2] + c->cached + c->behind,
            kept = c->history < frames ? c->history : frames;
    for (int64_t b = 0; b < s->in[0]->dim[0]; b++) {
        char *to = kw__cpu_at(s->y[1], type, b * c->history * c->frame);
        int64_t zeros = (c->history - kept) * c->frame;
        memset(to, 0, (size_t)zeros * (size_t)kw__dtype_bytes(type));
        kw__cpu_copy(plan->device, type, kw__cpu_at(joined, type, ((b + 1) * frames - kept) * c->frame), type,
                     kw__cpu_at(to, type, zeros), kept * c->frame);
    }
}

struct upsampling {
    const struct kw__cpu_step *step;
    char *y;
};

static void upsample_lines(void *argument, int64_t from, int64_t to)
{
    const struct upsampling *u = argument;
    const int64_t *d = u->step->in[0]->dim;
    int64_t h = d[3], w = d[4];
    size_t pixel = (size_t)d[1] * (size_t)kw__dtype_bytes(u->step->in_type[0]);
    for (int64_t line = from; line < to; line++) {
        const char *x =
            (const char *)u->step->x[0] + (size_t)((line / (2 * h) * h + line % (2 * h) / 2) * w) * pixel;
        for (int64_t i = 0; i < 2 * w; i++)
            memcpy(u->y + (size_t)(line * 2 * w + i) * pixel, x + (size_t)(i / 2) * pixel, pixel);
    }
}

/* The result of kernel 2a + b to the pixels (2i + a, 2j + b) of y; a row is a row of the result. */
struct spreading {
    const struct kw__cpu_step *step;
    const char *from;
    int parity;
    bool add;
};

static void spread_lines(void *argument, int64_t from, int64_t to)
{
    const struct spreading *p = argument;
    const struct kw__cpu_step *s = p->step;
    enum kw__dtype type = s->out_type[0];
    const int64_t *d = s->out[0]->dim; /* [B,C,T,2h,2w] */
    int64_t c = d[1], h = d[3] / 2, w = d[4] / 2;
    float in[KW__PIECE], old[KW__PIECE], out[KW__PIECE];
    for (int64_t line = from; line < to; line++) {
        int64_t y = (line / h * 2 * h + line % h * 2 + p->parity / 2) * 2 * w + p->parity % 2;
        for (int64_t i = 0; i < w; i++) {
            int64_t x_at = (line * w + i) * c, y_at = (y + 2 * i) * c;
            if (!p->add) {
                memcpy(kw__cpu_at(s->y[0], type, y_at), kw__cpu_at(p->from, type, x_at),
                       (size_t)c * (size_t)kw__dtype_bytes(type));
                continue;
            }
            for (int64_t k = 0; k < c; k += KW__PIECE) {
                int64_t n = c - k < KW__PIECE ? c - k : KW__PIECE;
                const float *x = kw__load(type, p->from, x_at + k, n, in);
                const float *before = kw__load(type, s->y[0], y_at + k, n, old);
                float *z = kw__target(type, s->y[0], y_at + k, out);
                KW__EACH for (int64_t m = 0; m < n; m++) z[m] = before[m] + x[m];
                kw__store(type, s->y[0], y_at + k, n, z);
            }
        }
    }
}

static void convolve(struct kw__cpu_plan *plan, struct kw__cpu_step *s, struct conv *c, int kernel,
                     const char *x, char *y)
{
    dnnl_memory_set_data_handle(c->x, (void *)x);
    dnnl_memory_set_data_handle(c->w[kernel], c->weight[kernel]->data);
    dnnl_memory_set_data_handle(c->y, y);
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, c->x}, {DNNL_ARG_WEIGHTS, c->w[kernel]}, {DNNL_ARG_DST, c->y}};
    int count = 3;
    if (c->b) {
        dnnl_memory_set_data_handle(c->b, (void *)s->x[2]);
        args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, c->b};
    }
    kw__cpu_execute(plan, s, &c->p[kernel], count, args);
}

static void run_conv(struct kw__cpu_plan *plan, struct kw__cpu_step *s)
{
    struct conv *c = s->kernel;
    const struct kw__device *device = plan->device;
    const char *x = s->x[0];
    if (repeats_edges(s, c)) {
        const int64_t *d = s->in[0]->dim;
        struct padding p = {s, c, (char *)s->scratch + c->input_at};
        int64_t lines = d[0] * (c->cached + d[2] + c->behind) * (d[3] + 2 * c->side[0]);
        kw__cpu_parallel(device, lines, 4, pad_lines, &p);
        x = p.to;
    } else if (c->cached) {
        x = join_frames(plan, s, c);
    }
    if (c->upsample) {
        struct upsampling u = {s, (char *)s->scratch + c->input_at};
        kw__cpu_parallel(device, s->in[0]->dim[0] * s->in[0]->dim[2] * 2 * s->in[0]->dim[3], 4,
                         upsample_lines, &u);
        x = u.y;
    }
    if (c->residual)
        kw__cpu_copy(device, s->in_type[4], s->x[4], s->out_type[0], s->y[0], kw__elements(s->out[0]));
    if (c->kernels == 1) convolve(plan, s, c, 0, x, s->y[0]);
    for (int k = 0; k < c->kernels && c->kernels > 1; k++) {
        struct spreading p = {s, (char *)s->scratch + c->output_at, k, c->residual};
        convolve(plan, s, c, k, x, (char *)s->scratch + c->output_at);
        kw__cpu_parallel(device, s->in[0]->dim[0] * s->in[0]->dim[2] * s->in[0]->dim[3], 4, spread_lines, &p);
    }
    if (c->history) keep_history(plan, s, c, x);
}

/* ---- Compiling ---------------------------------------------------------------------------------------- */

/* What a primitive computes: logical sizes, all [.., D, H, W]. */
struct sizes {
    int64_t batch, in, out, x[3], kernel[3], y[3];
    dnnl_dims_t stride, before, after; /* the padding in front of the axes and behind them */
};

static struct sizes sizes_of(const struct kw__cpu_step *s, const struct conv *c, int kernel)
{
    const struct kw__value *x = s->in[0], *w = s->in[1], *y = s->out[0];
    const struct kw__attr *a = s->a;
    bool folded = c->kernels == 4;
    struct sizes z = {.batch = x->dim[0], .in = x->dim[1], .out = y->dim[1]};
    z.kernel[0] = w->ndim == 5 && !folded ? w->dim[2] : 1;
    for (int i = 1; i < 3; i++) z.kernel[i] = w->dim[w->ndim - 3 + i];
    for (int i = 0; i < 3; i++) {
        z.x[i] =
            x->dim[2 + i] * (i && c->upsample ? 2 : 1) + (i ? 2 * c->side[i - 1] : c->cached + c->behind);
        z.y[i] = y->dim[2 + i] / (i && folded ? 2 : 1);
        z.stride[i] = folded ? 1 : a->stride[i];
        z.before[i] = i ? a->pad[i - 1] - c->side[i - 1] : s->in[3] ? c->history - c->cached : a->pad_time[0];
        z.after[i] = i ? z.before[i] : s->in[3] ? 0 : a->pad_time[1];
        if (i || s->in[3] || !a->replicate_time) continue;
        z.before[i] = z.after[i] = 0;
    }
    for (int i = 1; i < 3 && folded; i++) { /* the upper or left one of two rows, or the lower */
        int parity = i == 1 ? kernel / 2 : kernel % 2;
        z.before[i] = 1 - parity;
        z.after[i] = parity;
    }
    return z;
}

static dnnl_status_t create(struct kw__cpu_plan *plan, struct kw__cpu_step *s, struct conv *c, int kernel,
                            const dnnl_memory_desc_t *packed)
{
    struct sizes z = sizes_of(s, c, kernel);
    dnnl_data_type_t xt = kw__cpu_type(s->in_type[0]), wt = kw__cpu_type(s->in[1]->dtype);
    dnnl_data_type_t yt = kw__cpu_type(s->out_type[0]);
    dnnl_memory_desc_t x, w, b, y;
    dnnl_status_t e;
    (void)((e = dnnl_memory_desc_init_by_tag(&x, 5, (dnnl_dims_t){z.batch, z.in, z.x[0], z.x[1], z.x[2]}, xt,
                                             dnnl_ndhwc)) ||
           (e = dnnl_memory_desc_init_by_tag(&y, 5, (dnnl_dims_t){z.batch, z.out, z.y[0], z.y[1], z.y[2]}, yt,
                                             dnnl_ndhwc)) ||
           (e = dnnl_memory_desc_init_by_tag(
                &w, 5, (dnnl_dims_t){z.out, z.in, z.kernel[0], z.kernel[1], z.kernel[2]}, wt,
                dnnl_format_tag_any)) ||
           (e = kw__cpu_plain(&b, 1, (dnnl_dims_t){z.out}, dnnl_f32)));
    if (e) return e;
    if (packed) w = *packed;
    dnnl_convolution_desc_t desc;
    e = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &x, &w,
                                           kw__operand(s->op, 2) ? &b : NULL, &y, z.stride, z.before,
                                           z.after);
    dnnl_post_ops_t post = NULL;
    if (!e) e = dnnl_post_ops_create(&post);
    if (!e && c->residual && c->kernels == 1) e = dnnl_post_ops_append_sum(post, 1.0f);
    if (!e) e = kw__cpu_primitive(plan->device, &desc, post, &c->p[kernel]);
    dnnl_post_ops_destroy(post);
    return e;
}

static kw_status compile_kernel(struct kw__cpu_plan *plan, struct kw__cpu_step *s, struct conv *c, int kernel,
                                kw_error *err)
{
    const struct kw__value *w = s->in[1];
    int slice = c->kernels > 1 ? kernel : -1;
    const dnnl_memory_desc_t *packed = kw__cpu_packed(plan, w, slice);
    dnnl_status_t e = packed ? create(plan, s, c, kernel, packed) : dnnl_unimplemented;
    if (e || kw__cpu_is_reference(&c->p[kernel])) e = create(plan, s, c, kernel, NULL);
    if (e) return kw__cpu_fail(e, "a convolution", err);
    struct sizes z = sizes_of(s, c, kernel);
    dnnl_memory_desc_t source;
    e = kw__cpu_plain(&source, 5, (dnnl_dims_t){z.out, z.in, z.kernel[0], z.kernel[1], z.kernel[2]},
                      kw__cpu_type(w->dtype));
    if (!e) e = kw__cpu_memory(&c->p[kernel], dnnl_query_weights_md, plan->device->engine, &c->w[kernel]);
    if (e) return kw__cpu_fail(e, "a convolution", err);
    size_t first = (size_t)(kernel * (kw__elements(w) / c->kernels));
    c->weight[kernel] =
        kw__cpu_weight_packed(plan, w, slice, first, &source,
                              dnnl_primitive_desc_query_md(c->p[kernel].desc, dnnl_query_weights_md, 0));
    return c->weight[kernel] ? KW_OK : kw__fail_memory(err);
}

static size_t align(size_t bytes)
{
    return (bytes + KW__ALIGNMENT - 1) / KW__ALIGNMENT * KW__ALIGNMENT;
}

/* Scratch: the primitive's, then x as it reads it, then its result. */
static void plan_scratch(struct kw__cpu_step *s, struct conv *c)
{
    size_t size = (size_t)kw__dtype_bytes(s->in_type[0]);
    for (int k = 0; k < c->kernels; k++)
        if (c->p[k].scratch_bytes > s->scratch_bytes) s->scratch_bytes = c->p[k].scratch_bytes;
    c->input_at = align(s->scratch_bytes);
    int64_t elements = 0, n = kw__elements(s->in[0]);
    if (repeats_edges(s, c)) {
        const int64_t *d = s->in[0]->dim;
        elements =
            d[0] * d[1] * (c->cached + d[2] + c->behind) * (d[3] + 2 * c->side[0]) * (d[4] + 2 * c->side[1]);
    } else if (c->upsample)
        elements = 4 * n;
    else if (c->cached && !c->room)
        elements = n + s->in[0]->dim[0] * c->cached * c->frame;
    if (elements) s->scratch_bytes = c->input_at + (size_t)elements * size;
    c->output_at = align(s->scratch_bytes);
    if (c->kernels > 1)
        s->scratch_bytes =
            c->output_at + (size_t)(kw__elements(s->out[0]) / 4) * (size_t)kw__dtype_bytes(s->out_type[0]);
}

static bool is_product(const struct kw__cpu_step *s)
{
    const struct kw__value *w = s->in[1];
    int64_t taps = 1;
    for (int i = 2; i < w->ndim; i++) taps *= w->dim[i];
    for (int i = 0; i < 3; i++)
        if (s->a->stride[i] != 1) return false;
    bool padded = s->a->pad[0] || s->a->pad[1] || s->a->pad_time[0] || s->a->pad_time[1];
    return taps == 1 && !s->in[3] && !s->a->upsample && !padded;
}

kw_status kw__cpu_compile_conv(struct kw__cpu_plan *plan, struct kw__cpu_step *s, kw_error *err)
{
    if (is_product(s)) return kw__cpu_compile_linear(plan, s, err);
    struct conv *c = kw__arena_alloc(&plan->arena, 1, sizeof *c);
    if (!c) return kw__fail_memory(err);
    s->kernel = c;
    s->free_kernel = free_conv;
    s->run = run_conv;
    const struct kw__value *x = s->in[0], *w = s->in[1];
    bool folded = w->recipe == KW__RECIPE_FOLD_UPSAMPLE;
    c->kernels = folded ? 4 : 1;
    c->upsample = s->a->upsample && !folded;
    c->residual = kw__operand(s->op, 4) != 0;
    c->history = s->out[1]->dim[2];
    c->cached = s->a->fresh ? 0 : c->history;
    if (!s->in[3]) c->cached = s->a->replicate_time ? s->a->pad_time[0] : 0;
    if (!s->in[3] && s->a->replicate_time) c->behind = s->a->pad_time[1];
    for (int i = 0; i < 2 && s->a->replicate_space; i++) c->side[i] = s->a->pad[i];
    c->frame = x->dim[1] * x->dim[3] * x->dim[4];
    c->room = c->cached && s->in[3] && x->dim[0] == 1 && x->kind == KW__TEMPORARY &&
              !plan->view_of[s->op->input[0]];
    if (c->room) {
        size_t lead = (size_t)(c->cached * c->frame) * (size_t)kw__dtype_bytes(s->in_type[0]);
        if (plan->lead[s->op->input[0]] < lead) plan->lead[s->op->input[0]] = lead;
    }
    kw_status status = KW_OK;
    for (int k = 0; k < c->kernels && !status; k++) status = compile_kernel(plan, s, c, k, err);
    if (status) return status;
    s->weight[1] = c->weight[0];
    dnnl_engine_t engine = plan->device->engine;
    dnnl_status_t e = kw__cpu_memory(&c->p[0], dnnl_query_src_md, engine, &c->x);
    if (!e) e = kw__cpu_memory(&c->p[0], dnnl_query_dst_md, engine, &c->y);
    if (!e && kw__operand(s->op, 2)) {
        dnnl_memory_desc_t b;
        e = kw__cpu_plain(&b, 1, (dnnl_dims_t){s->out[0]->dim[1]}, dnnl_f32);
        if (!e) e = dnnl_memory_create(&c->b, &b, engine, DNNL_MEMORY_NONE);
    }
    if (e) return kw__cpu_fail(e, "a convolution", err);
    plan_scratch(s, c);
    if (c->residual && s->in_type[4] == s->out_type[0]) plan->overwrite[s->op->output[0]] = 1u << 4;
    if (s->in[3] && s->in_type[3] == s->out_type[1]) plan->overwrite[s->op->output[1]] = 1u << 3;
    return KW_OK;
}
