#include "cli/ladder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "cli/cli.h"

static const char *const quantity_names[KW__NUM_QUANTITIES] = {"latency", "energy", "power"};

/* ---- Tables ---- */

void kw__ladder_column(struct kw__table *table, const char *group, const char *title, const char *name)
{
    kw__table_column(
        table, &(struct kw__column){.title = title, .name = name, .group = group, .align = KW__ALIGN_RIGHT});
}

void kw__ladder_share(struct kw__table *table, double fraction, bool sign)
{
    char text[40];
    snprintf(text, sizeof text, sign ? "%+.2f" : "%.2f", 100 * fraction);
    kw__table_value(table, text, fraction);
}

static void score_columns(const struct kw__validation *v, struct kw__table *table)
{
    static const char *const titles[KW__NUM_QUANTITIES] = {"Latency error %", "GPU energy error %",
                                                           "Power error %"};
    kw__table_init(table);
    kw__table_column(table, &(struct kw__column){.title = "Split", .name = "split"});
    kw__table_column(table,
                     &(struct kw__column){.title = v->options.sweeps ? "Sweep" : "Rows of", .name = "sweep"});
    kw__table_column(table, &(struct kw__column){.title = "Method", .name = "method"});
    kw__ladder_column(table, NULL, "Rows", "rows");
    kw__ladder_column(table, NULL, "with energy", "rows_with_energy");
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        char name[64];
        snprintf(name, sizeof name, "%s_error_mean", quantity_names[q]);
        kw__ladder_column(table, titles[q], "mean", name);
        snprintf(name, sizeof name, "%s_error_largest", quantity_names[q]);
        kw__ladder_column(table, titles[q], "largest", name);
        snprintf(name, sizeof name, "%s_error_bias", quantity_names[q]);
        kw__ladder_column(table, titles[q], "bias", name);
    }
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        static const char *const intervals[KW__NUM_QUANTITIES] = {
            "90 % interval, latency", "90 % interval, energy", "90 % interval, power"};
        char name[64];
        snprintf(name, sizeof name, "%s_coverage", quantity_names[q]);
        kw__ladder_column(table, intervals[q], "covers %", name);
        snprintf(name, sizeof name, "%s_half_width", quantity_names[q]);
        kw__ladder_column(table, intervals[q], "half-width %", name);
    }
}

static void score_rows(struct kw__table *table, const struct kw__validation *v)
{
    for (size_t i = 0; i < v->num_scores; i++) {
        const struct kw__score *s = &v->scores[i];
        const struct kw__score *before = i ? &v->scores[i - 1] : NULL;
        if (before && before->split != s->split)
            kw__table_row_ruled(table);
        else
            kw__table_row(table);
        kw__table_text(table, kw__split_name(v, s->split));
        kw__table_text(table, s->slice ? s->slice : "all");
        kw__table_text(table, kw__rung_name(s->rung));
        kw__table_number(table, 0, s->errors[KW__LATENCY].count);
        kw__table_number(table, 0, s->errors[KW__ENERGY].count);
        for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
            kw__ladder_share(table, s->errors[q].mean, false);
            kw__ladder_share(table, s->errors[q].largest, false);
            kw__ladder_share(table, s->errors[q].bias, true);
        }
        for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
            kw__ladder_share(table, s->coverage[q], false);
            kw__ladder_share(table, s->half_width[q], false);
        }
    }
}

void kw__ladder_table(struct kw__table *table, const struct kw__validation *v)
{
    score_columns(v, table);
    score_rows(table, v);
}

static void put_table(struct kw__out *out, struct kw__table *table)
{
    kw__table_render_text(table, out);
    kw__table_free(table);
}

static void put_repeats(struct kw__out *out, const struct kw__validation *v)
{
    struct kw__table table;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Session"});
    kw__table_column(&table, &(struct kw__column){.title = "Request"});
    kw__ladder_column(&table, NULL, "Runs", "runs");
    kw__ladder_column(&table, NULL, "Least", "least");
    kw__ladder_column(&table, NULL, "Largest", "largest");
    kw__ladder_column(&table, "Spread %", "latency", "latency_spread");
    kw__ladder_column(&table, "Spread %", "energy", "energy_spread");
    for (size_t i = 0; i < v->num_repeats; i++) {
        const struct kw__repeat *r = &v->repeats[i];
        char text[256], buffer[KW__FORMAT_SIZE];
        kw__table_row(&table);
        kw__table_text(&table, r->session ? r->session : "between sessions");
        snprintf(text, sizeof text, "%.120s%s%" PRId64 "x%" PRId64 ", %" PRId64 " frames, %" PRId64 " steps",
                 v->num_slices && !v->options.sweeps ? r->model : "",
                 v->num_slices && !v->options.sweeps ? " " : "", r->request.width, r->request.height,
                 r->request.num_frames, r->request.num_inference_steps);
        kw__table_text(&table, text);
        kw__table_number(&table, 0, r->count);
        kw__table_value(&table, kw__format_seconds(buffer, r->least_s), r->least_s);
        kw__table_value(&table, kw__format_seconds(buffer, r->largest_s), r->largest_s);
        kw__ladder_share(&table, r->latency_spread, false);
        kw__ladder_share(&table, r->energy_spread, false);
    }
    kw__out_puts(
        out, "\nRepeated measurements, (largest - least) / mean: what no prediction can be better than\n\n");
    put_table(out, &table);
}

static void put_levels(struct kw__out *out, const struct kw__validation *v)
{
    bool sweeps = v->options.sweeps;
    if (v->samples->num_sessions < 2) return;
    kw__out_printf(out, "  %s-out, a %s's mean residual over the sd of its intervals, latency and energy:",
                   sweeps ? "axis" : "session", sweeps ? "sweep" : "session");
    for (int i = 0; i < v->samples->num_sessions; i++)
        kw__out_printf(out, "%s %s %+.2f and %+.2f", i ? "," : "", v->samples->sessions[i],
                       v->levels[i][KW__LATENCY], v->levels[i][KW__ENERGY]);
    kw__out_puts(out, "\n");
}

static void put_fit(struct kw__out *out, const struct kw__validation *v)
{
    const struct kw__calibration *priors = v->samples->priors;
    kw__out_printf(out, "\nkernel, fitted on all rows: factor on the base (log sd; prior)\n\n");
    for (int i = 0; i < priors->num_parameters; i++)
        kw__out_printf(out, "  %-11s %.4f (%.4f; %.4f)\n", priors->parameters[i].name, exp(v->fit.x[i]),
                       sqrt(v->fit.covariance[i][i]), priors->parameters[i].prior_log_sd);
    kw__out_printf(
        out,
        "  a new session: log sd %.4f of speed, %.4f of power; a shape: %.4f of time, %.4f of energy, %.4f of "
        "power\n",
        v->fit.session_time_sd, v->fit.session_power_sd, v->fit.model_time_sd, v->fit.model_energy_sd,
        v->fit.model_power_sd);
    if (!isnan(v->fit.residual_correlation))
        kw__out_printf(out, "  residuals of log t and log(E/t) correlate by %.2f\n",
                       v->fit.residual_correlation);
    put_levels(out, v);
    if (!isnan(v->refitted.efficiency))
        kw__out_printf(out, "paper refitted: mu %.4f, %.1f W; ", v->refitted.efficiency, v->refitted.power_w);
    kw__out_printf(out, "flops: efficiency %.4f", v->flops.efficiency);
    if (!isnan(v->flops.power_w)) kw__out_printf(out, ", %.1f W", v->flops.power_w);
    kw__out_puts(out, "\n");
}

void kw__ladder_put(struct kw__out *out, const struct kw__validation *v)
{
    struct kw__table table;
    kw__ladder_table(&table, v);
    put_table(out, &table);
    put_fit(out, v);
    if (v->num_repeats) put_repeats(out, v);
}

/* ---- JSON ---- */

static json_t *errors_json(const struct kw__errors *e)
{
    return json_pack("{s:o, s:o, s:o, s:i}", "mean", kw__cli_number(e->mean), "largest",
                     kw__cli_number(e->largest), "bias", kw__cli_number(e->bias), "rows", e->count);
}

static json_t *interval_json(double coverage, double half_width)
{
    if (isnan(coverage)) return json_null();
    return json_pack("{s:o, s:o}", "coverage", kw__cli_number(coverage), "half_width",
                     kw__cli_number(half_width));
}

static json_t *score_json(const struct kw__validation *v, const struct kw__score *s)
{
    json_t *out = json_pack("{s:s, s:o, s:s}", "split", kw__split_name(v, s->split), "sweep",
                            kw__cli_string(s->slice), "method", kw__rung_name(s->rung));
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        json_object_set_new(out, quantity_names[q], errors_json(&s->errors[q]));
    json_t *intervals = json_object();
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        json_object_set_new(intervals, quantity_names[q], interval_json(s->coverage[q], s->half_width[q]));
    json_object_set_new(out, "intervals", intervals);
    return out;
}

json_t *kw__ladder_estimate(const struct kw__estimate *e)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "latency_s", kw__cli_number(e->latency_s), "gpu_energy_j",
                     kw__cli_number(e->energy_j), "latency_log_sd", kw__cli_number(e->sd[KW__LATENCY]),
                     "gpu_energy_log_sd", kw__cli_number(e->sd[KW__ENERGY]), "power_log_sd",
                     kw__cli_number(e->sd[KW__POWER]));
}

json_t *kw__ladder_row(const struct kw__row *r)
{
    return json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "sweep", kw__cli_string(r->sweep),
                     "model", r->model, "what", kw__cli_string(r->what), "width", (json_int_t)r->width,
                     "height", (json_int_t)r->height, "frames", (json_int_t)r->frames, "steps",
                     (json_int_t)r->steps, "latency_s", kw__cli_number(r->latency_s), "gpu_energy_j",
                     kw__cli_number(r->energy_wh[KW_GPU] * 3600));
}

/* Each row with what the kernel predictor says of it in each split. */
static json_t *rows_json(const struct kw__validation *v)
{
    json_t *out = json_array();
    for (size_t i = 0; i < v->samples->count; i++) {
        json_t *each = kw__ladder_row(v->samples->list[i].row), *predicted = json_object();
        for (int split = KW__AS_PREDICTED; split < KW__NUM_SPLITS; split++)
            if (!isnan(v->estimates[split][KW__KERNEL][i].latency_s))
                json_object_set_new(predicted, kw__split_name(v, (enum kw__split)split),
                                    kw__ladder_estimate(&v->estimates[split][KW__KERNEL][i]));
        json_object_set_new(each, "kernel", predicted);
        json_array_append_new(out, each);
    }
    return out;
}

static json_t *repeats_json(const struct kw__validation *v)
{
    json_t *out = json_array();
    for (size_t i = 0; i < v->num_repeats; i++) {
        const struct kw__repeat *r = &v->repeats[i];
        json_array_append_new(
            out,
            json_pack("{s:o, s:o, s:i, s:o, s:o, s:o, s:o}", "session", kw__cli_string(r->session), "request",
                      kw__cli_request(&r->request), "runs", r->count, "least_s", kw__cli_number(r->least_s),
                      "largest_s", kw__cli_number(r->largest_s), "latency_spread",
                      kw__cli_number(r->latency_spread), "energy_spread", kw__cli_number(r->energy_spread)));
    }
    return out;
}

static json_t *levels_json(const struct kw__validation *v)
{
    json_t *out = json_object();
    for (int i = 0; i < v->samples->num_sessions; i++) {
        json_t *each = json_object();
        for (int q = 0; q < KW__NUM_QUANTITIES; q++)
            json_object_set_new(each, quantity_names[q], kw__cli_number(v->levels[i][q]));
        json_object_set_new(out, v->samples->sessions[i], each);
    }
    return out;
}

void kw__ladder_json(json_t *root, const struct kw__validation *v)
{
    json_t *scores = json_array();
    for (size_t i = 0; i < v->num_scores; i++) json_array_append_new(scores, score_json(v, &v->scores[i]));
    json_object_set_new(root, "scores", scores);
    json_object_set_new(root, "rows", rows_json(v));
    json_object_set_new(root, "repeats", repeats_json(v));
    json_object_set_new(root, v->options.sweeps ? "axis_out_levels" : "session_out_levels", levels_json(v));
    json_object_set_new(root, "residual_correlation", kw__cli_number(v->fit.residual_correlation));
}
