/* family.h is the manual. */
#include "support/family.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "support/folder.h"

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

void family_expect_bad_request(const kw_model *model, const kw_request *request, const char *words)
{
    kw_effective effective;
    kw_error err = {.message = ""};
    kw_status status = kw_request_resolve(model, request, &effective, &err);
    if (status != KW_ERROR_USAGE || !strstr(err.message, words))
        fail_msg("%s: %d \"%s\"", words, (int)status, err.message);
}

void family_expect_refused(const kw_catalog *catalog, const char *folder, const struct family_change *changes,
                           size_t count)
{
    for (const struct family_change *c = changes; c < changes + count; c++) {
        char copy[FOLDER_BYTES];
        kw_model *model;
        kw_error err = {.message = ""};
        folder_copy(folder, copy);
        folder_set(copy, c->file, c->key, c->value);
        kw_status status = kw_model_open(catalog, copy, &model, &err);
        folder_remove(copy);
        if ((status != KW_ERROR_FORMAT && status != KW_ERROR_UNSUPPORTED) || !strstr(err.message, c->words) ||
            !strstr(err.message, c->file))
            fail_msg("%s %s %s: %d \"%s\"", c->file, c->key, c->value ? c->value : "taken away", (int)status,
                     err.message);
    }
}

void expect_near(const char *what, double got, double wanted, double tolerance)
{
    if (!(fabs(got - wanted) <= tolerance * fabs(wanted)))
        fail_msg("%s: %.17g, not %.17g (%.3g %%)", what, got, wanted, 100 * (got / wanted - 1));
}
