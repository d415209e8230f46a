/* Our own JSON, and ML.ENERGY's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "report/out.h"
#include "store/import_forms.h"
#include "store/json_split.h"
#include "store/run_json.h"

/* ---- Ours ---------------------------------------------------------------------------------------------- */

static kw_status import_ours(struct kw__importing *importing, const json_t *element, kw_error *why,
                             kw_error *err)
{
    struct kw__run *run;
    struct kw__finding *findings;
    size_t count;
    kw_status status = kw__run_from_json(element, &run, &findings, &count, why);
    return status ? status : kw__import_add(importing, run, findings, count, err);
}

/* ---- ML.ENERGY ------------------------------------------------------------------------------------------
 */

static kw_status fail_member(const char *name, const char *what, kw_error *err)
{
    return kw__fail(err, KW_ERROR_FORMAT, "%s must be %s", name, what);
}

/* NaN when it is not there or null. */
static kw_status number(const json_t *object, const char *name, double *out, kw_error *err)
{
    const json_t *value = json_object_get(object, name);
    *out = NAN;
    if (!value || json_is_null(value)) return KW_OK;
    *out = json_number_value(value);
    return json_is_number(value) && isfinite(*out) && *out >= 0
               ? KW_OK
               : fail_member(name, "a number of at least 0", err);
}

/* 0 when it is not there or null. */
static kw_status count(const json_t *object, const char *name, int64_t *out, kw_error *err)
{
    const json_t *value = json_object_get(object, name);
    *out = 0;
    if (!value || json_is_null(value)) return KW_OK;
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 1 ? KW_OK : fail_member(name, "a whole number from 1", err);
}

static kw_status read_request(const json_t *o, struct kw__run_request *r, kw_error *err)
{
    const struct {
        const char *name;
        int64_t *target;
    } counts[] = {{"batch_size", &r->batch_size},
                  {"num_gpus", &r->num_gpus},
                  {"inference_steps", &r->num_inference_steps},
                  {"num_frames", &r->num_frames_asked},
                  {json_object_get(o, "video_width") ? "video_width" : "width", &r->width},
                  {json_object_get(o, "video_height") ? "video_height" : "height", &r->height}};
    kw_status status = number(o, "fps", &r->fps, err);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && !status; i++)
        status = count(o, counts[i].name, counts[i].target, err);
    return status;
}

/* What is no figure of ours stays as a setting. */
static kw_status read_settings(const json_t *o, struct kw__run *run, kw_error *err)
{
    static const char *const used[] = {"batch_size",
                                       "num_gpus",
                                       "inference_steps",
                                       "num_frames",
                                       "video_width",
                                       "width",
                                       "video_height",
                                       "height",
                                       "fps",
                                       "gpu_model",
                                       "model_id",
                                       "avg_power_watts",
                                       "batch_latency_s",
                                       "energy_per_video_joules",
                                       "energy_per_generation_joules",
                                       "throughput_videos_per_sec",
                                       "throughput_generations_per_sec"};
    const char *name;
    json_t *value;
    kw_status status = KW_OK;
    json_object_foreach((json_t *)o, name, value)
    {
        bool skip = status || json_is_null(value) || json_is_array(value) || json_is_object(value);
        for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) skip = skip || strcmp(name, used[i]) == 0;
        if (skip) continue;
        char text[KW__FORMAT_SIZE];
        if (json_is_integer(value))
            (void)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        const char *shown = json_is_string(value)    ? json_string_value(value)
                            : json_is_real(value)    ? kw__format_exact(text, json_real_value(value))
                            : json_is_integer(value) ? text
                            : json_is_true(value)    ? "true"
                                                     : "false";
        status = kw__run_set(run, name, shown, err);
    }
    return status;
}

static kw_status read_mlenergy(struct kw__importing *importing, const json_t *o, const json_t *around,
                               struct kw__run *run, kw_error *err)
{
    const char *model = json_string_value(json_object_get(o, "model_id"));
    const char *gpu = json_string_value(json_object_get(o, "gpu_model"));
    double energy_j, power_w, latency_s;
    kw_status status = number(o, "batch_latency_s", &latency_s, err);
    if (!status) status = number(o, "avg_power_watts", &power_w, err);
    if (!status) status = number(o, "energy_per_video_joules", &energy_j, err);
    if (!status && isnan(energy_j)) status = number(o, "energy_per_generation_joules", &energy_j, err);
    if (!status) status = read_request(o, &run->request, err);
    if (status) return status;
    if (!model) model = json_string_value(json_object_get(around, "model_id"));
    if (!model) return fail_member("model_id", "there", err);
    if (isnan(latency_s)) return fail_member("batch_latency_s", "there", err);
    run->windows[0].duration_s = latency_s;
    kw__import_energy(run, KW_GPU, energy_j * (double)(run->request.batch_size ? run->request.batch_size : 1),
                      power_w > 0 ? power_w : NAN, KW_MEASURED);
    run->source = "ML.ENERGY";
    run->weights = "checkpoint";
    run->session = importing->dataset;
    status = kw__import_names(importing, run, model, gpu, err);
    return status ? status : read_settings(o, run, err);
}

static kw_status import_mlenergy(struct kw__importing *importing, const json_t *o, const json_t *around,
                                 kw_error *why, kw_error *err)
{
    struct kw__run *run = kw__import_new("ML.ENERGY measures GPUs alone");
    if (!run) return kw__fail_memory(why);
    kw_status status = read_mlenergy(importing, o, around, run, why);
    if (!status) return kw__import_add_foreign(importing, run, NULL, err);
    kw__run_free(run);
    return status;
}

/* ---- The file --------------------------------------------------------------------------------------------
 */

/* The texts of the object around the elements, which may stand behind them. */
static kw_status read_around(const char *path, json_t **out, kw_error *err)
{
    struct kw__json_split split;
    json_t *element = NULL;
    kw_status status = kw__json_split_open(path, &split, err);
    if (status) return status;
    do {
        status = kw__json_split_next(&split, &element, err);
        json_decref(element);
    } while (element || status == KW_ERROR_FORMAT);
    *out = json_incref(split.members);
    kw__json_split_close(&split);
    return status;
}

static kw_status import_element(struct kw__importing *importing, const json_t *element, int line,
                                json_t **around, kw_error *err)
{
    kw_error why = {0}, said = {0};
    kw_status status;
    if (json_object_get(element, "uuid") && json_object_get(element, "windows")) {
        status = import_ours(importing, element, &why, err);
    } else if (json_object_get(element, "batch_latency_s") &&
               !json_object_get(element, "energy_per_image_joules")) {
        status = *around || json_object_get(element, "model_id") ? KW_OK
                                                                 : read_around(importing->path, around, err);
        if (!status) status = import_mlenergy(importing, element, *around, &why, err);
    } else {
        status = kw__fail(&why, KW_ERROR_FORMAT,
                          "neither a run of ours nor one of ML.ENERGY's text-to-video tasks");
    }
    if (!status || !*why.message) return status;
    (void)kw__fail(&said, why.code, "%s:%d: %s", importing->path, line, why.message);
    return kw__import_bad(importing, status, &said, err);
}

kw_status kw__import_json(struct kw__importing *importing, kw_error *err)
{
    struct kw__json_split split;
    json_t *around = NULL;
    kw_status status = kw__json_split_open(importing->path, &split, err);
    if (status) return status;
    while (!status) {
        json_t *element;
        kw_error why = {0};
        kw_status read = kw__json_split_next(&split, &element, &why);
        if (read)
            status = kw__import_bad(importing, read, &why, err);
        else if (!element)
            break;
        else
            status = import_element(importing, element, split.line, &around, err);
        json_decref(element);
    }
    json_decref(around);
    kw__json_split_close(&split);
    return status;
}
