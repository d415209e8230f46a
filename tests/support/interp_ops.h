/* The operators of the reference interpreter: private to interp.c. */
#ifndef TESTS_SUPPORT_INTERP_OPS_H
#define TESTS_SUPPORT_INTERP_OPS_H

#include <math.h>
#include <string.h>

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

/* Those that move elements about (interp_copies.c); NULL for all others. */
void (*interp_copy_function(enum kw__opcode code))(struct interp_call *);

/* Zeroed; a failure ends the program. */
void *interp_allocate(size_t count, size_t size);

/* ---- What operators share ------------------------------------------------------------------- */

/* A condition of ops.def. */
static inline bool expect(struct interp_call *c, bool holds, const char *condition)
{
    if (holds) return true;
    if (!c->broken) c->broken = condition;
    return false;
}

/* Elements of one index of the first `axes` axes. */
static inline int64_t inner(const struct kw__value *v, int axes)
{
    int64_t n = 1;
    for (int i = axes; i < v->ndim; i++) n *= v->dim[i];
    return n;
}

static inline bool same_shape(const struct kw__value *a, const struct kw__value *b)
{
    return a->ndim == b->ndim && memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof a->dim[0]) == 0;
}

static inline bool has_shape(const struct kw__value *v, int ndim, const int64_t *dim)
{
    return v->ndim == ndim && memcmp(v->dim, dim, (size_t)ndim * sizeof *dim) == 0;
}

/* A column of the iteration table, NaN when there is none. */
static inline double column(struct interp_call *c, int index)
{
    if (!expect(c, index >= 0 && index < c->table->columns, "the column is in the iteration table"))
        return NAN;
    return c->table->rows[c->iteration * c->table->columns + index];
}

#endif
