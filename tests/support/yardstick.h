/* What kernels are measured against: GFLOP/s of oneDNN's own matrix product of m x k by k x n on packed
 * weights of this dtype (f32 or bf16), the best of 30; 0: it has none on this CPU. */
#ifndef TESTS_SUPPORT_YARDSTICK_H
#define TESTS_SUPPORT_YARDSTICK_H

#include "graph/graph.h"

double yardstick(enum kw__dtype dtype, int64_t m, int64_t n, int64_t k);

#endif
