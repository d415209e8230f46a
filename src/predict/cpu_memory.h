/* What a program needs of a CPU's memory, without the kernels that will run it.
 *
 * Weights, states and workspace are planned by the engine's own planner (engine/plan.h) from rules that
 * are read off the graph: which results may overwrite their operands or are views of them, which need
 * room in front, and the scratch memory of convolutions and attention. What the kernel library keeps for
 * itself is not in the graph: code that it writes for each convolution's shape. */
#ifndef KW_PREDICT_CPU_MEMORY_H
#define KW_PREDICT_CPU_MEMORY_H

#include "graph/graph.h"

struct kw__foreseen_memory {
    double weights, states, workspace;
    double convolutions; /* kernels of convolutions, those of folded upsampling each */
};

kw_status kw__foresee_memory(struct kw__program *program, struct kw__foreseen_memory *out, kw_error *err);

#endif
