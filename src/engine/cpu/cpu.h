/* The cpu backend, inside.
 *
 * How elements lie: values of five axes [B,C,T,H,W] are kept channels last, [B,T,H,W,C], which is what
 * convolutions want and makes to_tokens and join_frames views; the result of host_frames, which is
 * that already, and all others as the graph has them, the last axis fastest. An operator is compiled
 * to a step: a function and what it needs, its operands' places filled in when the plan is bound.
 *
 * Matrix products and convolutions are oneDNN's, with weights kept in the layout its kernel asks for;
 * phases share a weight when the kernel of the second can read the layout of the first. */
#ifndef KW_ENGINE_CPU_CPU_H
#define KW_ENGINE_CPU_CPU_H

#include <dnnl.h>

#include "base/arena.h"
#include "engine/backend.h"

/* How a weight is kept. */
enum kw__cpu_form {
    KW__CPU_PLAIN,  /* its elements in its dtype, in the checkpoint's order */
    KW__CPU_WIDE,   /* the same, rounded to its dtype but kept in f32 */
    KW__CPU_PACKED, /* as `packed` says: a matrix product's or a convolution's */
    KW__CPU_TILES,  /* as tiles.h says */
};

struct kw__cpu_weight {
    struct kw__value value; /* its recipe, dtype and shape */
    enum kw__cpu_form form;
    int slice;                 /* PACKED: which of several parts, or the whole (-1) */
    dnnl_memory_desc_t source; /* PACKED: the checkpoint's elements as the primitive's weights */
    dnnl_memory_desc_t packed;
    size_t first_byte; /* of the slice, in the checkpoint's elements */
    size_t bytes;
    void *data; /* NULL until it is loaded */
};

struct kw__device {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads;
    bool has_bf16; /* oneDNN has bf16 kernels for this CPU */
    bool has_amx;
    bool has_products; /* the kernels of its general product in f32 are made */
    struct kw__cpu_weight **weights;
    size_t num_weights, weight_capacity;
};

struct kw__cpu_plan;
struct kw__cpu_step;
typedef void kw__cpu_run(struct kw__cpu_plan *plan, struct kw__cpu_step *step);

struct kw__cpu_step {
    const struct kw__op *op;
    const struct kw__attr *a;
    kw__cpu_run *run;
    const struct kw__value *in[KW__MAX_INPUTS], *out[KW__MAX_OUTPUTS];
    enum kw__dtype in_type[KW__MAX_INPUTS], out_type[KW__MAX_OUTPUTS]; /* as they lie in memory */
    struct kw__cpu_weight *weight[KW__MAX_INPUTS];                     /* of inputs that are weights */
    const void *x[KW__MAX_INPUTS];
    void *y[KW__MAX_OUTPUTS];
    void *scratch;
    size_t scratch_bytes;
    void *kernel;                      /* the operator's own, in the plan's arena */
    void (*free_kernel)(void *kernel); /* NULL: nothing to free */
};

struct kw__cpu_plan {
    struct kw__plan plan; /* first */
    struct kw__device *device;
    struct kw__arena arena;
    const struct kw__graph *graph;
    int64_t iteration;
    dnnl_status_t failed;       /* of this iteration */
    struct kw__cpu_step *steps; /* one for each operator, run NULL for views and dead ones */
    /* the rules, writable */
    size_t *bytes, *lead, *scratch;
    int *view_of;
    unsigned *overwrite;
    void **place; /* of each value, NULL: none */
    bool *found;  /* of each thread: it saw something that is not finite */
};

/* ---- Compiling: one function for a kind of operator; each fills step->run, kernel, scratch_bytes,
 * step->weight of inputs that are weights, and the rules of its outputs ---- */

kw_status kw__cpu_compile_linear(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_conv(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_attention(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_norm(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_elementwise(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_groupnorm(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_tables(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_blocks(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);
kw_status kw__cpu_compile_copy(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err);

/* ---- Shared ---- */

/* Whether the result's elements lie as the first input's do. */
bool kw__cpu_is_view(const struct kw__op *op);

/* Whether the five axes of a value lie channels last. */
bool kw__cpu_channels_last(const struct kw__graph *g, int value);

/* Elements of the fastest axis: channels of images, the last dimension of all else. */
int64_t kw__cpu_row(const struct kw__graph *g, int value);

/* body(argument, from, to) over 0 .. count - 1 on all cores, in pieces of at least `grain`. */
typedef void kw__cpu_body(void *argument, int64_t from, int64_t to);
void kw__cpu_parallel(const struct kw__device *device, int64_t count, int64_t grain, kw__cpu_body *body,
                      void *argument);

/* Which of the threads of kw__cpu_parallel this is. */
int kw__cpu_thread(void);

/* The address of an element. */
void *kw__cpu_at(const void *array, enum kw__dtype dtype, int64_t element);

/* n elements from place x_at to place y_at, rounded or widened on the way; by the calling thread. */
void kw__cpu_move(enum kw__dtype from, const void *x, int64_t x_at, enum kw__dtype to, void *y, int64_t y_at,
                  int64_t n);

/* `count` elements from one array to another, of any two dtypes; nothing when they are one array. */
void kw__cpu_copy(const struct kw__device *device, enum kw__dtype from, const void *x, enum kw__dtype to,
                  void *y, int64_t count);

/* An input's elements as floats: where they are, or in the step's scratch, which is that large. */
const float *kw__cpu_floats(struct kw__cpu_plan *plan, struct kw__cpu_step *step, int input);
size_t kw__cpu_floats_scratch(const struct kw__cpu_step *step, int input);

/* Memory of KW__ALIGNMENT; NULL: there is none. Freed with free. */
void *kw__cpu_allocate(size_t bytes);

/* KW_ERROR_DEVICE, naming what oneDNN could not do. */
kw_status kw__cpu_fail(dnnl_status_t status, const char *what, kw_error *err);

/* ---- Weights (weight_forms.c) ---- */

/* The weight of a value in a plain or wide form, entered in the device; NULL without memory. */
struct kw__cpu_weight *kw__cpu_weight(struct kw__cpu_plan *plan, const struct kw__value *value,
                                      enum kw__cpu_form form);

/* In the layout of tiles.h. */
struct kw__cpu_weight *kw__cpu_weight_tiles(struct kw__cpu_plan *plan, const struct kw__value *value);

/* The packed layout that the weight (or the slice) has already, or NULL. */
const dnnl_memory_desc_t *kw__cpu_packed(const struct kw__cpu_plan *plan, const struct kw__value *value,
                                         int slice);

/* The weight in this layout. `source` describes the elements in the checkpoint's order, of the slice
 * that begins at first_element. */
struct kw__cpu_weight *kw__cpu_weight_packed(struct kw__cpu_plan *plan, const struct kw__value *value,
                                             int slice, size_t first_element,
                                             const dnnl_memory_desc_t *source,
                                             const dnnl_memory_desc_t *packed);

/* Loads those of the plan's weights that are not loaded yet. */
kw_status kw__cpu_load_weights(struct kw__cpu_plan *plan, const struct kw__weights *weights, kw_error *err);

void kw__cpu_free_weights(struct kw__device *device);

#endif
