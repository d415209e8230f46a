/* What a program needs of a CPU's memory: known before anything of it is compiled, the same figure for
 * `predict` and for what `generate` refuses.
 *
 * Weights, states and workspace are planned by the engine's own planner (engine/plan.h) from rules that
 * are read off the graph: which results may overwrite their operands or are views of them, which need
 * room in front, and the scratch memory of convolutions and attention. What the kernel library keeps for
 * itself is not in the graph: code for each shape of a convolution and, on tiles, tables whose size
 * follows from the shape, this machine's caches and its threads. */
#ifndef KW_ENGINE_CPU_MEMORY_H
#define KW_ENGINE_CPU_MEMORY_H

#include "graph/graph.h"
#include "graph/stack.h"

/* Bytes. */
struct kw__cpu_need {
    double weights, states, workspace;
    double buffers; /* latents and frames as the host has them */
    double library; /* the kernel library's own */
    double process; /* what a process has without a model, and what allocating loses */
};

/* Allocates from the program's arena. */
kw_status kw__cpu_need(struct kw__program *program, const struct kw__stack *stack, struct kw__cpu_need *out,
                       kw_error *err);

/* All of it, with its interval. */
kw_reading kw__cpu_need_sum(const struct kw__cpu_need *memory);

#endif
