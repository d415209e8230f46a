/* What a sweep measured: a table for people, CSV and JSON (schema kinowatt.sweep_report/1). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "cli/sweep.h"

#define EN_DASH "\xE2\x80\x93"
#define PLUS_MINUS "\xC2\xB1"

static const char *const device_titles[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};

/* What all renderings read. */
struct view {
    const struct kw__sweep_result *result;
    struct kw__sweep_summary *summaries; /* of the arena of the state */
    bool measured[KW_NUM_DEVICES], predicted, failed;
    size_t axes[KW__TABLE_COLUMNS], num_axes; /* those with several values */
};

static kw_status make_view(const struct kw__sweep_result *result, struct view *out, kw_error *err)
{
    const struct kw__sweep_plan *plan = result->plan;
    *out = (struct view){.result = result};
    out->summaries = kw__arena_alloc(&result->state->arena, plan->num_points, sizeof *out->summaries);
    if (!out->summaries) {
        snprintf(err->message, sizeof err->message, "out of memory");
        return err->code = KW_ERROR_MEMORY;
    }
    for (size_t i = 0; i < plan->num_points; i++) {
        kw_status status = kw__sweep_summarise(result->state, i, &out->summaries[i], err);
        if (status) return status;
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            out->measured[d] = out->measured[d] || out->summaries[i].energy_j[d].count > 0;
        out->predicted = out->predicted || !isnan(result->forecast->points[i].latency_s);
        out->failed = out->failed || out->summaries[i].failed > 0;
    }
    for (size_t i = 0; i < plan->num_axes; i++)
        if (plan->axes[i].count > 1) out->axes[out->num_axes++ % KW__TABLE_COLUMNS] = i;
    return KW_OK;
}

int64_t kw__sweep_failures(const struct kw__sweep_state *state)
{
    int64_t failed = 0;
    for (size_t i = 0; i < state->plan->num_points; i++) failed += state->points[i].failed;
    return failed;
}

/* ---- The table -------------------------------------------------------------------------------------- */

enum { MOST_AXIS_COLUMNS = 12 };

static void column(struct kw__table *table, const char *group, const char *title, const char *name)
{
    kw__table_column(
        table, &(struct kw__column){.title = title, .name = name, .group = group, .align = KW__ALIGN_RIGHT});
}

static void columns(struct kw__table *table, const struct view *v)
{
    const struct kw__sweep_plan *plan = v->result->plan;
    kw__table_init(table);
    if (v->num_axes == 0 || v->num_axes > MOST_AXIS_COLUMNS)
        kw__table_column(table, &(struct kw__column){.title = "Point", .name = "point"});
    for (size_t i = 0; v->num_axes <= MOST_AXIS_COLUMNS && i < v->num_axes; i++)
        column(table, NULL, plan->axes[v->axes[i]].name, plan->axes[v->axes[i]].name);
    column(table, NULL, "Runs", "runs");
    if (v->failed) column(table, NULL, "failed", "failed");
    column(table, NULL, "Time", "latency_s");
    column(table, NULL, PLUS_MINUS " %", "latency_half_interval");
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        char title[32], name[64];
        if (!v->measured[d]) continue;
        snprintf(title, sizeof title, "%s energy", device_titles[d]);
        snprintf(name, sizeof name, "%s_energy_j", kw_device_name(d));
        column(table, NULL, title, name);
        snprintf(name, sizeof name, "%s_energy_half_interval", kw_device_name(d));
        column(table, NULL, PLUS_MINUS " %", name);
    }
    if (!v->predicted) return;
    column(table, "Predicted", "time", "predicted_latency_s");
    column(table, "Predicted", "off by %", "predicted_latency_error");
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        char title[32], name[64];
        if (!v->measured[d]) continue;
        snprintf(title, sizeof title, "%s energy", device_titles[d]);
        snprintf(name, sizeof name, "predicted_%s_energy_j", kw_device_name(d));
        column(table, "Predicted", title, name);
        snprintf(name, sizeof name, "predicted_%s_energy_error", kw_device_name(d));
        column(table, "Predicted", "off by %", name);
    }
}

/* A share as percent, and as it is for machines. */
static void cell_share(struct kw__table *table, const char *format, double share)
{
    char text[KW__FORMAT_SIZE];
    snprintf(text, sizeof text, format, 100 * share);
    kw__table_value(table, text, share);
}

static void row(struct kw__table *table, const struct view *v, size_t point)
{
    const struct kw__sweep_plan *plan = v->result->plan;
    const struct kw__sweep_summary *s = &v->summaries[point];
    const struct kw__forecast_point *predicted = &v->result->forecast->points[point];
    char text[KW__FORMAT_SIZE], label[512];
    kw__table_row(table);
    if (v->num_axes == 0 || v->num_axes > MOST_AXIS_COLUMNS)
        kw__table_text(table, kw__sweep_point_label(plan, point, label, sizeof label));
    for (size_t i = 0; v->num_axes <= MOST_AXIS_COLUMNS && i < v->num_axes; i++)
        kw__table_text(table, kw__sweep_value(plan, point, v->axes[i]));
    kw__table_number(table, 0, (double)s->latency_s.count);
    if (v->failed) kw__table_number(table, 0, (double)s->failed);
    kw__table_value(table, kw__format_seconds(text, s->latency_s.median), s->latency_s.median);
    cell_share(table, "%.2f", s->latency_s.mean.half / s->latency_s.mean.mean);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const struct kw__sweep_figure *e = &s->energy_j[d];
        if (!v->measured[d]) continue;
        kw__table_value(table, kw__format_wh(text, e->median / 3600), e->median);
        cell_share(table, "%.2f", e->mean.half / e->mean.mean);
    }
    if (!v->predicted) return;
    kw__table_value(table, kw__format_seconds(text, predicted->latency_s), predicted->latency_s);
    cell_share(table, "%+.1f", predicted->latency_s / s->latency_s.median - 1);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!v->measured[d]) continue;
        kw__table_value(table, kw__format_wh(text, predicted->energy_j[d] / 3600), predicted->energy_j[d]);
        cell_share(table, "%+.1f", predicted->energy_j[d] / s->energy_j[d].median - 1);
    }
}

static void fill_table(struct kw__table *table, const struct view *v)
{
    columns(table, v);
    for (size_t i = 0; i < v->result->plan->num_points; i++)
        if (kw__sweep_has_point(v->result->plan, i)) row(table, v, i);
}

/* ---- For people -------------------------------------------------------------------------------------- */

static void put_drift(struct kw__out *out, const struct kw__sweep_drift *drift)
{
    kw__out_printf(out, "the machine drifted by %.1f %% (%s) between the first and the last anchor",
                   100 * fabs(drift->latency), drift->latency > 0 ? "slower" : "faster");
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        if (!isnan(drift->energy[d]))
            kw__out_printf(out, ", its %s energy by %+.1f %%", device_titles[d], 100 * drift->energy[d]);
}

/* One session says its drift; of several the widest is said. */
static kw_status put_drifts(struct kw__out *out, const struct kw__sweep_result *result, kw_error *err)
{
    struct kw__sweep_drift *drifts;
    size_t count, with = 0, widest = 0;
    kw_status status = kw__sweep_drifts(result->state, &drifts, &count, err);
    if (status || count == 0) return status;
    for (size_t i = 0; i < count; i++) {
        if (isnan(drifts[i].latency)) continue;
        if (with++ == 0 || fabs(drifts[i].latency) > fabs(drifts[widest].latency)) widest = i;
    }
    kw__out_puts(out, "Drift     ");
    if (with)
        put_drift(out, &drifts[widest]);
    else
        kw__out_puts(out, EN_DASH "  (no session has its anchor at both ends)");
    if (count > 1)
        kw__out_printf(out, "; the widest of %zu of %zu sessions, which lie in the intervals too", with,
                       count);
    kw__out_puts(out, "\n");
    return KW_OK;
}

/* Runs that are still wanted, and of which points. */
static void put_left(struct kw__out *out, const struct kw__sweep_result *result)
{
    char label[256];
    int64_t done, wanted;
    int listed = 0;
    kw__sweep_count(result->state, &done, &wanted);
    if (!wanted) return;
    kw__out_printf(out, "Left out  %" PRId64 " run%s:", wanted, kw__plural(wanted));
    for (size_t i = 0; i < result->plan->num_points; i++) {
        int64_t of_point = kw__sweep_wanted(result->state, i);
        if (!of_point) continue;
        if (listed++ == 4) {
            kw__out_puts(out, ", ...");
            break;
        }
        kw__out_printf(out, "%s %" PRId64 " of ", listed > 1 ? "," : "", of_point);
        kw__cli_put(out, kw__sweep_point_label(result->plan, i, label, sizeof label));
    }
    kw__out_puts(out, "; go on with: kinowatt sweep --resume ");
    kw__cli_put(out, result->plan->options.name);
    if (result->store) kw__out_puts(out, " --store ");
    if (result->store) kw__cli_put(out, result->store);
    kw__out_puts(out, "\n");
}

/* What the figures are of, when that is not the whole run. */
static void put_windows(struct kw__out *out, const struct kw__sweep_plan *plan)
{
    if (!plan->options.window && plan->num_stages == 0) return;
    kw__out_puts(out, "They are of ");
    if (plan->options.window) kw__cli_put(out, plan->options.window);
    for (size_t i = 0; !plan->options.window && i < plan->num_stages; i++)
        kw__out_printf(out, "%s%s", i ? ", " : "", plan->stages[i]);
    kw__out_puts(out, plan->options.window
                          ? ".\n"
                          : " (and output) where a run has these windows, else of the whole run.\n");
}

static int print_text(const struct view *v, const struct kw__options *options)
{
    const struct kw__sweep_result *result = v->result;
    struct kw__table table;
    struct kw__out out;
    kw_error err = {0};
    kw__out_init(&out);
    fill_table(&table, v);
    kw__table_render_text(&table, &out);
    kw__table_free(&table);
    kw__out_puts(&out, "\nTimes and energies are medians; " PLUS_MINUS
                       " is half of the 90 % interval of the mean.\n");
    put_windows(&out, result->plan);
    kw_status status = put_drifts(&out, result, &err);
    if (*result->forecast->reason && result->plan->options.model) {
        kw__out_puts(&out, v->predicted ? "Predicted some points alone (" : "Predicted " EN_DASH "  (");
        kw__cli_put(&out, result->forecast->reason);
        kw__out_puts(&out, ")\n");
    }
    put_left(&out, result);
    if (!status) return kw__cli_emit(options, &out);
    kw__out_free(&out);
    return kw__cli_fail(&err);
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static json_t *figure_json(const struct kw__sweep_figure *f)
{
    if (f->count == 0) return json_null();
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "count", (json_int_t)f->count, "median",
                     kw__cli_number(f->median), "mean", kw__cli_number(f->mean.mean), "low",
                     kw__cli_number(f->mean.mean - f->mean.half), "high",
                     kw__cli_number(f->mean.mean + f->mean.half));
}

static json_t *point_json(const struct view *v, size_t point)
{
    const struct kw__sweep_plan *plan = v->result->plan;
    const struct kw__sweep_summary *s = &v->summaries[point];
    const struct kw__forecast_point *predicted = &v->result->forecast->points[point];
    json_t *values = json_object(), *energy = json_object(), *expected = json_object();
    for (size_t i = 0; i < plan->num_axes; i++)
        json_object_set_new(values, plan->axes[i].name, kw__cli_string(kw__sweep_value(plan, point, i)));
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        json_object_set_new(energy, kw_device_name(d), figure_json(&s->energy_j[d]));
        json_object_set_new(expected, kw_device_name(d), kw__cli_number(predicted->energy_j[d]));
    }
    return json_pack("{s:I, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "point", (json_int_t)point, "values",
                     values, "runs", (json_int_t)s->latency_s.count, "failed", (json_int_t)s->failed,
                     "wanted", (json_int_t)kw__sweep_wanted(v->result->state, point), "latency_s",
                     figure_json(&s->latency_s), "energy_j", energy, "predicted_latency_s",
                     kw__cli_number(predicted->latency_s), "predicted_energy_j", expected);
}

static json_t *drift_json(const struct kw__sweep_drift *drift)
{
    json_t *energy = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        json_object_set_new(energy, kw_device_name(d), kw__cli_number(drift->energy[d]));
    return json_pack("{s:o, s:I, s:o, s:o}", "session", kw__cli_string(drift->session), "anchors",
                     (json_int_t)drift->anchors, "latency", kw__cli_number(drift->latency), "energy", energy);
}

static int print_json(const struct view *v, const struct kw__options *options)
{
    const struct kw__sweep_result *result = v->result;
    json_t *points = json_array(), *sessions = json_array();
    struct kw__sweep_drift *drifts;
    size_t count;
    int64_t done, wanted;
    kw_error err = {0};
    for (size_t i = 0; i < result->plan->num_points; i++)
        if (kw__sweep_has_point(result->plan, i)) json_array_append_new(points, point_json(v, i));
    kw_status status = kw__sweep_drifts(result->state, &drifts, &count, &err);
    for (size_t i = 0; !status && i < count; i++) json_array_append_new(sessions, drift_json(&drifts[i]));
    kw__sweep_count(result->state, &done, &wanted);
    json_t *document =
        json_pack("{s:s, s:o, s:o, s:b, s:I, s:I, s:o, s:o, s:o}", "schema", "kinowatt.sweep_report/1",
                  "name", kw__cli_string(result->plan->options.name), "uuid",
                  kw__cli_string(result->plan->uuid), "complete", wanted == 0, "runs", (json_int_t)done,
                  "wanted", (json_int_t)wanted, "points", points, "sessions", sessions, "no_prediction",
                  kw__cli_string(*result->forecast->reason ? result->forecast->reason : NULL));
    if (!status) return kw__cli_emit_json(options, document);
    json_decref(document);
    return kw__cli_fail(&err);
}

int kw__sweep_print(const struct kw__sweep_result *result, const struct kw__options *options)
{
    struct view view;
    kw_error err = {0};
    if (make_view(result, &view, &err)) return kw__cli_fail(&err);
    if (options->json) return print_json(&view, options);
    if (!options->csv) return print_text(&view, options);
    struct kw__table table;
    fill_table(&table, &view);
    return kw__cli_emit_table(options, &table);
}
