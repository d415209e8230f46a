/* What the pipelines' rules have in common. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

bool kw__index_has(struct kw__json in, const char *component)
{
    return json_is_string(json_array_get(json_object_get(in.object, component), 1));
}

kw_status kw__index_needs(struct kw__json in, size_t count, const char *const *components, kw_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!kw__index_has(in, components[i]))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" must name a library and a class", in.path,
                            components[i]);
    return KW_OK;
}

kw_status kw__check_only(struct kw__json in, size_t count, const struct kw__only *only, kw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        json_t *wanted;
        kw_status status = kw__json_text(only[i].value, "a value that is known", &wanted, err);
        if (status) return status;
        bool same = json_equal(wanted, json_object_get(in.object, only[i].key));
        json_decref(wanted);
        if (!same)
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: \"%s\" must be %s", in.path, only[i].key,
                            only[i].value);
    }
    return KW_OK;
}

kw_status kw__check_multiple(const char *option, int64_t value, int64_t multiple, kw_error *err)
{
    if (value % multiple == 0) return KW_OK;
    int64_t below = value / multiple * multiple, above = below + multiple;
    if (below == 0)
        return kw__fail(err, KW_ERROR_USAGE, "%s %" PRId64 " is no multiple of %" PRId64 "; try %" PRId64,
                        option, value, multiple, above);
    return kw__fail(err, KW_ERROR_USAGE,
                    "%s %" PRId64 " is no multiple of %" PRId64 "; try %" PRId64 " or %" PRId64, option,
                    value, multiple, below, above);
}

kw_status kw__flow_scheduler_read(kw_model *model, bool inverted, double *shift, double *num_train_timesteps,
                                  kw_error *err)
{
    static const char *const off[] = {"use_dynamic_shifting", "use_karras_sigmas", "use_exponential_sigmas",
                                      "use_beta_sigmas", "stochastic_sampling"};
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "scheduler", "scheduler_config.json",
                                          "FlowMatchEulerDiscreteScheduler", &root, &in, err);
    if (status) return status;
    bool invert = false;
    (void)((status = kw__json_number(in, "shift", 1e-3, 1e3, shift, err)) ||
           (status = kw__json_number(in, "num_train_timesteps", 1, 1e6, num_train_timesteps, err)) ||
           (status = kw__json_bool(in, "invert_sigmas", &invert, err)));
    const char *bad = invert == inverted ? NULL : "invert_sigmas";
    for (size_t i = 0; !status && i < sizeof off / sizeof off[0]; i++) {
        bool on = false;
        if (kw__json_has(in, off[i])) status = kw__json_bool(in, off[i], &on, err);
        if (on) bad = off[i];
    }
    if (kw__json_has(in, "shift_terminal")) bad = "shift_terminal";
    if (!status && bad)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: \"%s\": only \"invert_sigmas\" %s with a fixed \"shift\" is known", in.path,
                          bad, inverted ? "true" : "false");
    json_decref(root);
    return status;
}

kw_status kw__check_elements(const kw_effective *r, double largest, kw_error *err)
{
    if ((double)r->batch_size * largest < 9007199254740992.0) return KW_OK;
    return kw__fail(err, KW_ERROR_USAGE,
                    "%" PRId64 "x%" PRId64 ", num-frames %" PRId64 ", batch-size %" PRId64
                    " is too large to count for this model; give less",
                    r->width, r->height, r->num_frames, r->batch_size);
}

const double *kw__constants(struct kw__program *program, const double *values, int64_t count)
{
    double *copy = kw__arena_alloc(&program->arena, (size_t)count, sizeof *copy);
    return copy ? memcpy(copy, values, (size_t)count * sizeof *copy) : NULL;
}
