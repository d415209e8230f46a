/* The operators of the reference interpreter: private to interp.c. */
#ifndef TESTS_SUPPORT_INTERP_OPS_H
#define TESTS_SUPPORT_INTERP_OPS_H

#include "graph/graph.h"

/* One operator of one iteration; operands that are absent are NULL. */
struct interp_call {
    const struct kw__op *op;
    const struct kw__attr *a; /* the operator's */
    const struct kw__value *in[KW__MAX_INPUTS], *out[KW__MAX_OUTPUTS];
    const double *x[KW__MAX_INPUTS];
    double *y[KW__MAX_OUTPUTS];
    const struct kw__iterations *table;
    int64_t iteration;
    const char *broken; /* the first condition of ops.def that does not hold, NULL while all do */
};

/* Computes the outputs. */
void interp_compute(struct interp_call *call);

/* Zeroed; a failure ends the program. */
void *interp_allocate(size_t count, size_t size);

#endif
