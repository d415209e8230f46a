#include "sweep/forecast.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* ---- Predicting ------------------------------------------------------------------------------------ */

static void predict(struct kw__forecast *f, const kw_catalog *catalog, const kw_model *model,
                    const struct kw__forecast_options *options, size_t point)
{
    kw_predict_options how = KW_PREDICT_OPTIONS_INIT;
    kw_request request = kw__sweep_point_request(f->state->plan, point);
    kw_prediction *prediction = NULL;
    kw_error err = {0};
    how.hardware = options->hardware;
    how.stack = options->stack;
    how.calibration = options->calibration;
    if (request.prompt_tokens < 0) request.prompt_tokens = options->prompt_tokens;
    if (request.negative_tokens < 0) request.negative_tokens = options->negative_tokens;
    if (kw_predict(catalog, model, &request, &how, &prediction, &err)) {
        snprintf(f->reason, sizeof f->reason, "%s", err.message);
        return;
    }
    f->points[point].latency_s = prediction->total.latency_s.value;
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        f->points[point].energy_j[d] = prediction->total.energy_j[d].value;
    kw_prediction_free(prediction);
}

static void predict_all(struct kw__forecast *f, const kw_catalog *catalog,
                        const struct kw__forecast_options *options)
{
    const struct kw__sweep_plan *plan = f->state->plan;
    kw_model *model;
    kw_error err = {0};
    if (!plan->options.model)
        snprintf(f->reason, sizeof f->reason, "no model is named");
    else if (!options->hardware && !options->calibration)
        snprintf(f->reason, sizeof f->reason, "%s",
                 options->why_not ? options->why_not
                                  : "no hardware is named; --hardware NAME says what it runs on");
    else if (kw_model_open(catalog, plan->options.model, &model, &err))
        snprintf(f->reason, sizeof f->reason, "%s", err.message);
    else {
        for (size_t i = 0; i < plan->num_points; i++) predict(f, catalog, model, options, i);
        kw_model_close(model);
    }
}

/* What was predicted when runs were made, for points that are not predicted now. */
static void remember(struct kw__forecast *f)
{
    bool all = true;
    for (size_t p = 0; p < f->state->plan->num_points; p++) {
        size_t last = f->state->points[p].last;
        if (isnan(f->points[p].latency_s) && last) {
            const struct kw__sweep_row *row = &f->state->rows[last - 1];
            f->points[p].latency_s = row->predicted_s;
            memcpy(f->points[p].energy_j, row->predicted_j, sizeof row->predicted_j);
        }
        all = all && !isnan(f->points[p].latency_s);
    }
    if (all) *f->reason = '\0';
}

kw_status kw__forecast_new(const kw_catalog *catalog, const struct kw__sweep_state *state,
                           const struct kw__forecast_options *options, struct kw__forecast **out,
                           kw_error *err)
{
    struct kw__forecast *f = calloc(1, sizeof *f);
    if (!f) return kw__fail_memory(err);
    kw__arena_init(&f->arena);
    f->state = state;
    f->points = kw__arena_alloc(&f->arena, state->plan->num_points, sizeof *f->points);
    if (!f->points) {
        kw__forecast_free(f);
        return kw__fail_memory(err);
    }
    for (size_t i = 0; i < state->plan->num_points; i++) {
        f->points[i].latency_s = NAN;
        for (int d = 0; d < KW_NUM_DEVICES; d++) f->points[i].energy_j[d] = NAN;
    }
    predict_all(f, catalog, options);
    remember(f);
    *out = f;
    return KW_OK;
}

void kw__forecast_free(struct kw__forecast *f)
{
    if (!f) return;
    kw__arena_free(&f->arena);
    free(f);
}

/* ---- Correcting ------------------------------------------------------------------------------------- */

void kw__forecast_learn(struct kw__forecast *f, double whole_s, double wall_s)
{
    if (!(wall_s >= whole_s)) return;
    f->around_s += wall_s - whole_s;
    f->arounds++;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What is known of runs that are no point's own. */
struct correction {
    double ratio;     /* what counts of a run over its prediction, median; NaN: no run was predicted */
    double counted_s; /* what counts of a run, mean; NaN: no run was measured */
    double rest_s;    /* what else a run holds (loading weights), mean */
    double around_s;  /* what lies around it */
};

static struct correction correct(const struct kw__forecast *f)
{
    const struct kw__sweep_state *state = f->state;
    struct correction out = {NAN, NAN, 0, f->arounds ? f->around_s / (double)f->arounds : 0};
    double *ratios = malloc((state->num_rows + 1) * sizeof *ratios), counted = 0, whole = 0;
    size_t predicted = 0, count = 0;
    for (size_t i = 0; i < state->num_rows; i++) {
        const struct kw__sweep_row *row = &state->rows[i];
        double ratio = row->latency_s / f->points[row->point].latency_s;
        if (row->failed || isnan(row->whole_s) || isnan(row->latency_s)) continue;
        counted += row->latency_s;
        whole += row->whole_s;
        count++;
        if (ratios && isfinite(ratio)) ratios[predicted++] = ratio;
    }
    if (count) {
        out.counted_s = counted / (double)count;
        out.rest_s = (whole - counted) / (double)count;
    }
    if (predicted) {
        qsort(ratios, predicted, sizeof *ratios, by_value);
        out.ratio = (ratios[(predicted - 1) / 2] + ratios[predicted / 2]) / 2;
    }
    free(ratios);
    return out;
}

static double run_s(const struct kw__forecast *f, const struct correction *known, size_t point)
{
    double sum = 0, predicted = f->points[point].latency_s;
    size_t count = 0;
    for (size_t i = f->state->points[point].last; i; i = f->state->rows[i - 1].before) {
        const struct kw__sweep_row *row = &f->state->rows[i - 1];
        if (row->failed || isnan(row->whole_s)) continue;
        sum += row->whole_s;
        count++;
    }
    if (count) return sum / (double)count + known->around_s;
    double counted = isnan(predicted)      ? known->counted_s
                     : isnan(known->ratio) ? predicted
                                           : predicted * known->ratio;
    return counted + known->rest_s + known->around_s;
}

double kw__forecast_run_s(const struct kw__forecast *f, size_t point)
{
    struct correction known = correct(f);
    return run_s(f, &known, point);
}

double kw__forecast_left_s(const struct kw__forecast *f)
{
    const struct kw__sweep_plan *plan = f->state->plan;
    struct correction known = correct(f);
    double left = run_s(f, &known, plan->anchor) + plan->options.idle_s;
    for (size_t i = 0; i < plan->num_points; i++) {
        int64_t wanted = kw__sweep_wanted(f->state, i);
        if (wanted) left += (double)wanted * (run_s(f, &known, i) + plan->options.idle_s);
    }
    return left;
}
