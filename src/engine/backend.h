/* Backends: what executes graphs. A backend is one `const struct kw__backend`, linked in (`cpu`,
 * `trace`) or found in a plug-in; `abi` must be KW__BACKEND_ABI of who opens it.
 *
 * The life of a phase, always in this order, each step for all phases of a stage before the next:
 *
 *     compile   kernels are chosen, every byte is planned; nothing of the size of a tensor is allocated.
 *               What it needs is known afterwards: plan->memory.workspace_bytes, plan->weight_bytes.
 *     weights   asks the provider for each weight, once, and keeps it as its kernels want it
 *     bind      is told where the workspace and the states are
 *     run       one iteration: all operators in order, then the states change. Nothing is allocated.
 *
 * Memory. One workspace serves all phases, one after the other. States are memory of the runner's,
 * found by name from phase to phase; all plans of a device lay a state of one shape and dtype out
 * alike. How elements lie is the backend's affair: read and write speak the graph's order (the last
 * dimension fastest) in f32, which holds bf16 and every id exactly.
 *
 * A device belongs to one thread at a time; it uses all cores itself. */
#ifndef KW_ENGINE_BACKEND_H
#define KW_ENGINE_BACKEND_H

#include "engine/plan.h"
#include "engine/weights.h"
#include "graph/graph.h"

enum { KW__BACKEND_ABI = 1 };

struct kw__device_options {
    int threads; /* 0: as many as there are */
};

struct kw__device; /* the backend's */

/* A compiled phase. Backends put it first in a struct of their own. */
struct kw__plan {
    const struct kw__phase *phase;
    struct kw__memory_rules rules; /* what the memory was planned from */
    struct kw__memory memory;
    double weight_bytes; /* of weights that no plan compiled before it on this device has */
};

/* Called after each operator; false: stop. `op` is its index in the phase's graph. The values that are
 * alive may be read. */
typedef bool kw__after_op(void *user, struct kw__plan *plan, size_t op);

struct kw__backend {
    int abi;
    const char *name;

    kw_status (*open)(const struct kw__device_options *options, struct kw__device **out, kw_error *err);
    /* Plans are freed before. */
    void (*close)(struct kw__device *device);

    /* NULL when the operator can be run, or why not: "bf16 needs AVX512_BF16, which this CPU lacks". */
    const char *(*supports)(struct kw__device *device, const struct kw__graph *g, const struct kw__op *op);

    /* Fails with KW_ERROR_UNSUPPORTED and the operator's name when one is not supported. */
    kw_status (*compile)(struct kw__device *device, const struct kw__phase *phase, struct kw__plan **out,
                         kw_error *err);
    void (*free_plan)(struct kw__plan *plan);

    kw_status (*weights)(struct kw__plan *plan, const struct kw__weights *weights, kw_error *err);

    /* Device memory, aligned to KW__ALIGNMENT. */
    kw_status (*allocate)(struct kw__device *device, size_t bytes, void **out, kw_error *err);
    void (*release)(struct kw__device *device, void *memory);

    /* states[v] is the memory of state v of the graph. May be called again with other places. */
    kw_status (*bind)(struct kw__plan *plan, void *workspace, void *const *states, kw_error *err);

    /* Inputs that the iteration table names are filled from its row. KW_ERROR_CANCELLED when `after`
     * (it may be NULL) said so: states are then as they were, or not; the phase cannot go on. */
    kw_status (*run)(struct kw__plan *plan, int64_t iteration, kw__after_op *after, void *user,
                     kw_error *err);

    /* Every element of a state. Not called for the cache of a fresh convolution (graph.h), which counts as
     * zeros and is not read. */
    void (*fill)(struct kw__plan *plan, int value, float element);
    /* An input or a state of a bound plan; a value that is alive. `count` is its number of elements. */
    void (*write)(struct kw__plan *plan, int value, const float *data, size_t count);
    void (*read)(struct kw__plan *plan, int value, float *data, size_t count);

    /* Whether a value that is alive has neither NaN nor infinity. */
    bool (*finite)(struct kw__plan *plan, int value);
};

/* On oneDNN, and kernels of ours; always there. */
extern const struct kw__backend kw__backend_cpu;

/* Runs nothing: it checks at every operator that each input's memory still holds what its producer
 * wrote there. For tests of plans. */
extern const struct kw__backend kw__backend_trace;

/* What a device of the trace backend has seen. */
struct kw__trace {
    size_t allocations, writes; /* calls of allocate; of write */
    size_t ops;                 /* operators run */
    size_t iterations;
};
struct kw__trace kw__trace_of(const struct kw__device *device);

#endif
