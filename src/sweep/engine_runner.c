#include "sweep/engine_runner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/kept.h"
#include "engine/machine.h"

enum { MOST_PIPELINES = 64 };

/* A pipeline that is open, for one request. */
struct held {
    struct kw__pipeline *pipeline; /* NULL: the place is free */
    kw_request request;
    bool loaded;
    int64_t used; /* when it ran last */
};

struct kw__engine_runner {
    struct kw__engine_runner_options options;
    kw_model *model;
    char calibration[128], why_not[256];
    struct held held[MOST_PIPELINES];
    int64_t clock;
};

/* ---- Pipelines ------------------------------------------------------------------------------------- */

static bool on_progress(void *user, const struct kw__progress *at)
{
    struct kw__engine_runner *runner = user;
    (void)at;
    return !runner->options.stopped(runner->options.user);
}

/* Requests are compared byte by byte: they have no bytes between their members. */
_Static_assert(sizeof(kw_request) == sizeof(size_t) + 13 * 8, "kw_request has padding");

static struct held *find(struct kw__engine_runner *runner, size_t point)
{
    const kw_request request = kw__sweep_point_request(runner->options.plan, point);
    for (size_t i = 0; i < MOST_PIPELINES; i++)
        if (runner->held[i].pipeline && memcmp(&runner->held[i].request, &request, sizeof request) == 0)
            return &runner->held[i];
    return NULL;
}

static void let_go(struct held *held)
{
    kw__pipeline_close(held->pipeline);
    *held = (struct held){0};
}

/* The one that was not used for longest, other than `keep`; NULL: there is none. */
static struct held *oldest(struct kw__engine_runner *runner, const struct held *keep)
{
    struct held *found = NULL;
    for (size_t i = 0; i < MOST_PIPELINES; i++) {
        struct held *held = &runner->held[i];
        if (held->pipeline && held != keep && (!found || held->used < found->used)) found = held;
    }
    return found;
}

/* Closes others until this one fits beside what stays. */
static void make_room(struct kw__engine_runner *runner, const struct held *keep)
{
    for (;;) {
        double needed = 0;
        for (size_t i = 0; i < MOST_PIPELINES; i++)
            if (runner->held[i].pipeline) needed += kw__pipeline_info(runner->held[i].pipeline).needed_bytes;
        struct held *other = oldest(runner, keep);
        if (!other || needed <= kw__machine_memory().available / 2) return;
        let_go(other);
    }
}

static kw_status open_held(struct kw__engine_runner *runner, size_t point, struct held **out, kw_error *err)
{
    const struct kw__sweep_options *o = &runner->options.plan->options;
    const kw_request request = kw__sweep_point_request(runner->options.plan, point);
    const struct kw__pipeline_options options = {
        .stack = !o->dtype                      ? NULL
                 : strcmp(o->dtype, "f32") == 0 ? "kinowatt-cpu-f32"
                                                : "kinowatt-cpu",
        .weights = o->weights,
        .prompt = o->prompt,
        .negative_prompt = o->negative_prompt,
        .meter = runner->options.meter,
        .user = runner,
        .progress = on_progress,
    };
    struct held *place = NULL;
    for (size_t i = 0; !place && i < MOST_PIPELINES; i++)
        if (!runner->held[i].pipeline) place = &runner->held[i];
    if (!place) {
        place = oldest(runner, NULL);
        let_go(place);
    }
    kw_status status =
        kw__pipeline_open(runner->options.catalog, runner->model, &request, &options, &place->pipeline, err);
    if (status) {
        *place = (struct held){0};
        return status;
    }
    place->request = request;
    place->used = ++runner->clock;
    make_room(runner, place);
    *out = place;
    return KW_OK;
}

/* ---- Running ------------------------------------------------------------------------------------------ */

static bool is_cold(void *self, size_t point)
{
    const struct held *held = find(self, point);
    return !held || !held->loaded;
}

static kw_status run_point(void *self, size_t point, const char *name, struct kw__run *run, kw_error *err)
{
    struct kw__engine_runner *runner = self;
    struct held *held = find(runner, point);
    struct kw__clip clip = {0};
    (void)name;
    kw_status status = held ? KW_OK : open_held(runner, point, &held, err);
    if (!status && !held->loaded) status = kw__pipeline_load(held->pipeline, err);
    if (status) return status;
    held->loaded = true;
    held->used = ++runner->clock;
    const struct kw__sweep_options *o = &runner->options.plan->options;
    const struct kw__pipeline_info info = kw__pipeline_info(held->pipeline);
    const struct kw__kept kept = {.model = o->model,
                                  .prompt = o->prompt,
                                  .negative_prompt = o->negative_prompt,
                                  .seed = kw__sweep_point_seed(runner->options.plan, point),
                                  .info = &info,
                                  .clip = &clip,
                                  .meter = runner->options.meter,
                                  .first_window = kw_meter_window_count(runner->options.meter),
                                  .meter_name = o->meter};
    status = kw__pipeline_run(held->pipeline, kept.seed, &clip, err);
    if (!status) status = kw__kept_fill(&kept, runner->options.catalog, run, err);
    kw__clip_free(&clip);
    return status;
}

struct kw__sweep_runner kw__engine_runner_of(struct kw__engine_runner *runner)
{
    return (struct kw__sweep_runner){runner, is_cold, run_point};
}

/* ---- Opening ------------------------------------------------------------------------------------------- */

/* With the calibration that was named, or else this machine's, if there is one. */
static void fill_forecast(struct kw__engine_runner *runner, const struct kw__pipeline_info *info,
                          struct kw__forecast_options *out)
{
    const kw_catalog *catalog = runner->options.catalog;
    const char *named = runner->options.plan->options.calibration;
    *out = (struct kw__forecast_options){
        .stack = info->stack,
        .prompt_tokens = (int64_t)info->tokens[0],
        .negative_tokens = info->request.guidance_passes > 1 ? (int64_t)info->tokens[1] : -1};
    snprintf(runner->calibration, sizeof runner->calibration, "%s@cpu", info->stack);
    out->calibration = named;
    for (size_t i = 0; !out->calibration && i < kw_catalog_count(catalog, KW_CALIBRATIONS); i++)
        if (strcmp(kw_catalog_name(catalog, KW_CALIBRATIONS, i), runner->calibration) == 0)
            out->calibration = runner->calibration;
    if (out->calibration) {
        out->hardware = "cpu";
        return;
    }
    snprintf(runner->why_not, sizeof runner->why_not,
             "there is no calibration of %s on this machine; 'kinowatt calibrate --device cpu' makes one",
             info->stack);
    out->why_not = runner->why_not;
}

kw_status kw__engine_runner_open(const struct kw__engine_runner_options *options,
                                 struct kw__engine_runner **out, struct kw__forecast_options *forecast,
                                 kw_error *err)
{
    struct kw__engine_runner *runner = calloc(1, sizeof *runner);
    struct held *held;
    if (!runner) return kw__fail_memory(err);
    runner->options = *options;
    kw_status status = kw_model_open(options->catalog, options->plan->options.model, &runner->model, err);
    if (!status) status = open_held(runner, options->plan->anchor, &held, err);
    if (status) {
        kw__engine_runner_close(runner);
        return status;
    }
    const struct kw__pipeline_info info = kw__pipeline_info(held->pipeline);
    fill_forecast(runner, &info, forecast);
    *out = runner;
    return KW_OK;
}

void kw__engine_runner_close(struct kw__engine_runner *runner)
{
    if (!runner) return;
    for (size_t i = 0; i < MOST_PIPELINES; i++)
        if (runner->held[i].pipeline) let_go(&runner->held[i]);
    kw_model_close(runner->model);
    free(runner);
}
