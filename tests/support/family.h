/* A family's reference graphs, counted. Failures end the test. */
#ifndef TESTS_SUPPORT_FAMILY_H
#define TESTS_SUPPORT_FAMILY_H

#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"

/* The program of a request, all in one dtype, with the pipeline's own guidance. kw__program_free frees it. */
struct kw__program *family_lower(const kw_model *model, const kw_request *request, enum kw__dtype dtype,
                                 enum kw__choice tiled);

/* FLOPs of all phases of the stages of that name. */
struct kw__sums family_count(const struct kw__program *program, const char *stage);

/* Within `tolerance` of what is wanted, as a share of it. */
void expect_near(const char *what, double got, double wanted, double tolerance);

#endif
