/* family.h is the manual. */
#include "support/family.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

struct kw__program *family_lower(const kw_model *model, const kw_request *request, enum kw__dtype dtype,
                                 enum kw__choice tiled)
{
    struct kw__program *program;
    kw_effective effective;
    kw_error err;
    const struct kw__dtypes dtypes = {dtype, dtype, dtype, dtype, KW__AS_PIPELINE, tiled};
    if (kw_request_resolve(model, request, &effective, &err)) fail_msg("%s", err.message);
    if (kw__lower(model, &effective, &dtypes, &program, &err)) fail_msg("%s", err.message);
    return program;
}

struct kw__sums family_count(const struct kw__program *program, const char *stage)
{
    struct kw__sums sums = {0, 0, 0, 0};
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; strcmp(program->stages[s].name, stage) == 0 && p < program->stages[s].num_phases; p++)
            kw__graph_flop(program->stages[s].phases[p].graph, NULL,
                           (double)program->stages[s].phases[p].calls, &sums);
    return sums;
}

void expect_near(const char *what, double got, double wanted, double tolerance)
{
    if (!(fabs(got - wanted) <= tolerance * fabs(wanted)))
        fail_msg("%s: %.17g, not %.17g (%.3g %%)", what, got, wanted, 100 * (got / wanted - 1));
}
