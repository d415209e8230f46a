/* Stacks: the software that runs a model, as data: dtypes, named rewrites, and for software that runs
 * operators one kernel at a time (eager PyTorch) the list of device kernels behind each operator.
 *
 * An operator without a kernel list runs as one kernel that reads its operands and writes its results
 * once. A list of a gemm, attention or conv operator holds the kernels *beside* its main one; a list
 * of any other operator holds all of its kernels, and an empty one says that the operator is a view.
 *
 * Two more keys beside "list": "tile" of attention, [queries, keys, channels of a head]: the products are of
 * whole tiles, however few of each there are. "host" of a transfer or host operator: bytes that the host
 * writes for each element beside the operator's result.
 *
 * "walks", true, of a kernel of groupnorm, layernorm or rmsnorm: one block of threads has each group, or each
 * row, and goes through it alone, as PyTorch's do. "frames_at_once" of groupnorm, beside "list": of how many
 * frames one launch takes the groups, where each frame has its own; without it, of all.
 *
 * "diffusers" is the version of a stack that is diffusers: folders of later ones it may not run.
 *
 * "batched_guidance" and "tiled_decode", true or false, say what the stack does whatever the pipeline does;
 * without them it does as the pipeline.
 *
 * "weights", a dtype: weights lie in memory in it whatever they are multiplied in (f32 under autocast);
 * without it, in the dtype of their use. "offload", true: one component of the checkpoint is on the device at
 * a time, the others wait on the host, and the copies are part of what is timed (graph/placement.h).
 *
 * "pipelines" holds, by the class of a pipeline, the dtypes, choices and lists that are otherwise for it: any
 * list there that fits goes before one for all.
 *
 * Variants: layernorm.affine; rmsnorm.heads (of each head alone), rmsnorm.plain (without a weight);
 * modulate.rows, gate_add.rows (a table for each row);
 * conv.point (1x1x1), conv.fresh, conv.causal, conv.time (with a cache: on the first frame, later, and
 * kernels of time alone); lincomb.N (N inputs). The most specific list that fits an operator is its. */
#ifndef KW_GRAPH_STACK_H
#define KW_GRAPH_STACK_H

#include "base/arena.h"
#include "graph/graph.h"
#include "kinowatt.h"

struct kw__kernel {
    const char *name;
    double launches;
    double read, written; /* bytes for each element of what `per` names */
    int per;              /* KW__PER_OUTPUT, KW__PER_SCORES, or the number of an input */
    bool walks;
};
enum { KW__PER_OUTPUT = -1, KW__PER_SCORES = -2 };

struct kw__kernel_list {
    const char *pipeline; /* the one it is for, NULL: all */
    enum kw__opcode code;
    const char *key; /* operator[.variant][@component]: "modulate", "conv.causal@vae_decoder" */
    size_t num_kernels;
    const struct kw__kernel *kernels;
    double temporary;       /* bytes for each output element alive at once besides operands and results */
    double host;            /* bytes for each output element that the host writes besides the result */
    int64_t tile[3];        /* queries, keys, channels; 0: as many as there are */
    int64_t frames_at_once; /* 0: all */
};

/* How weights are kept. */
struct kw__keeping {
    bool offload, own_dtype;
    enum kw__dtype dtype; /* of all weights, with own_dtype */
};

/* What a stack does otherwise for one pipeline. */
struct kw__stack_pipeline {
    const char *name; /* its class, as a model's index says it */
    struct kw__dtypes dtypes;
    struct kw__keeping keeping;
};

struct kw__stack {
    struct kw__arena arena;
    const char *name, *title, *source;
    const char *diffusers; /* the version of it that the stack is; NULL: it is none */
    struct kw__dtypes dtypes;
    struct kw__keeping keeping;
    size_t num_pipelines;
    const struct kw__stack_pipeline *pipelines;
    bool tf32_conv, tf32_gemm; /* f32 convolutions, matrix products run on TF32 units */
    size_t num_rewrites;
    const char **rewrites;
    size_t num_lists;
    struct kw__kernel_list *lists;
    double resident_extra_bytes; /* kept on the device besides weights: context, workspaces */
    /* on a CPU, beside that: the library's own for each shape of a convolution, and for each entry of the
     * tables that it has where it runs on tiles (engine/cpu/memory.c) */
    double conv_extra_bytes, conv_entry_bytes;
    bool on_cpu; /* "device": "cpu": nothing is moved to a host, and its operators are kernels too */
};

kw_status kw__stack_open(const kw_catalog *catalog, const char *name, struct kw__stack **out, kw_error *err);
void kw__stack_close(struct kw__stack *stack);

const struct kw__dtypes *kw__stack_dtypes(const struct kw__stack *stack, const char *pipeline);
/* `pipeline` NULL: of those that the stack does not name. */
const struct kw__keeping *kw__stack_keeping(const struct kw__stack *stack, const char *pipeline);

/* The kernel list of an operator, or NULL. */
const struct kw__kernel_list *kw__stack_kernels(const struct kw__stack *stack, const struct kw__graph *g,
                                                const struct kw__op *op);

#endif
