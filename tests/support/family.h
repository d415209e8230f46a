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

/* The request is refused: KW_ERROR_USAGE, with these words. */
void family_expect_bad_request(const kw_model *model, const kw_request *request, const char *words);

/* One member of a folder's JSON that is set to a value (NULL: taken away), and words of the error. */
struct family_change {
    const char *file, *key, *value, *words;
};

/* Each change of a copy of `folder`, by itself, is refused, its words and file named: KW_ERROR_FORMAT or
 * KW_ERROR_UNSUPPORTED. */
void family_expect_refused(const kw_catalog *catalog, const char *folder, const struct family_change *changes,
                           size_t count);

/* Within `tolerance` of what is wanted, as a share of it. */
void expect_near(const char *what, double got, double wanted, double tolerance);

#endif
