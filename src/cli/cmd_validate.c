/*
 * kinowatt validate: predictors against measurements.
 *
 * delavande2025: the ladder paper, paper refitted, flops, kernel on the same rows, fitted on all of them, on
 * all but a group, on two sweeps of three, on six rows, on none; how well a measurement repeats itself;
 * models that no fit has seen. h200: parts of a pipeline from micro-benchmarks alone. Last, each figure that
 * this project must reach, and whether it is: the exit code is 4 when one is not.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fit.h"
#include "cli/ladder.h"
#include "predict/validate_shipped.h"

struct settings {
    struct kw__fit_settings fit;
    int64_t simulations;
};

static const char *const quantity_names[KW__NUM_QUANTITIES] = {"latency", "energy", "power"};

/* ---- Tables ---- */

static void put_table(struct kw__out *out, struct kw__table *table)
{
    kw__table_render_text(table, out);
    kw__table_free(table);
}

static void put_held_out(struct kw__out *out, const struct kw__held_out *rows, size_t count, bool ladder)
{
    struct kw__table table;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Model"});
    kw__table_column(&table, &(struct kw__column){.title = "What"});
    kw__table_column(&table, &(struct kw__column){.title = "Method"});
    kw__ladder_column(&table, "Latency", "measured", "latency_s");
    kw__ladder_column(&table, "Latency", "predicted", "predicted_s");
    kw__ladder_column(&table, "Latency", "error %", "latency_error");
    kw__ladder_column(&table, "Latency", "+- %", "latency_half_width");
    kw__ladder_column(&table, "GPU energy", "measured", "energy_j");
    kw__ladder_column(&table, "GPU energy", "predicted", "predicted_j");
    kw__ladder_column(&table, "GPU energy", "error %", "energy_error");
    for (size_t i = 0; i < count; i++)
        for (int rung = ladder ? 0 : KW__KERNEL; rung < KW__NUM_RUNGS; rung++) {
            const struct kw__row *r = rows[i].row;
            const struct kw__estimate *e = &rows[i].estimates[rung];
            char text[96], buffer[KW__FORMAT_SIZE];
            if (isnan(e->latency_s)) continue;
            kw__table_row(&table);
            kw__table_text(&table, r->model);
            snprintf(text, sizeof text, "%s %" PRId64 "x%" PRId64 "x%" PRId64, r->what ? r->what : "pipeline",
                     r->width, r->height, r->frames);
            kw__table_text(&table, text);
            kw__table_text(&table, kw__rung_name((enum kw__rung)rung));
            kw__table_value(&table, kw__format_seconds(buffer, r->latency_s), r->latency_s);
            kw__table_value(&table, kw__format_seconds(buffer, e->latency_s), e->latency_s);
            kw__ladder_share(&table, e->latency_s / r->latency_s - 1, true);
            kw__ladder_share(&table, kw__half_width(e->sd[KW__LATENCY]), false);
            kw__table_value(&table, kw__format_wh(buffer, r->energy_wh[KW_GPU]), r->energy_wh[KW_GPU]);
            kw__table_value(&table, kw__format_wh(buffer, e->energy_j / 3600), e->energy_j);
            kw__ladder_share(&table, e->energy_j / 3600 / r->energy_wh[KW_GPU] - 1, true);
        }
    put_table(out, &table);
}

/* The targets of what was run. */
static void put_targets(struct kw__out *out, const struct kw__shipped *v)
{
    struct kw__table table;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "What must be reached"});
    kw__ladder_column(&table, NULL, "from %", "low");
    kw__ladder_column(&table, NULL, "to %", "high");
    kw__ladder_column(&table, NULL, "is %", "value");
    kw__table_column(&table, &(struct kw__column){.title = "Verdict"});
    kw__table_column(&table, &(struct kw__column){.title = "Source"});
    for (int i = 0; i < KW__NUM_TARGETS; i++) {
        const struct kw__target *t = &v->targets[i];
        if (!t->asked) continue;
        kw__table_row(&table);
        kw__table_text(&table, t->what);
        kw__ladder_share(&table, t->low, false);
        kw__ladder_share(&table, t->high, false);
        kw__ladder_share(&table, t->value, false);
        kw__table_text(&table, t->met              ? "met"
                               : isnan(t->value)   ? "missed: a figure is missing"
                               : t->value < t->low ? "missed: below"
                                                   : "missed: above");
        kw__table_text(&table, t->source);
    }
    kw__out_puts(out, "\nTargets\n\n");
    put_table(out, &table);
}

static void put_simulations(struct kw__out *out, const struct kw__simulation *simulations)
{
    kw__out_printf(
        out,
        "\n%d data sets drawn and fitted, axis-out, 90 %% intervals (a sweep's rows share one session, "
        "so they are covered or missed together)\n\n",
        simulations->count);
    struct kw__table table;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Drawn"});
    kw__table_column(&table, &(struct kw__column){.title = "Figure"});
    kw__ladder_column(&table, "Rows covered %", "mean", "mean");
    kw__ladder_column(&table, "Rows covered %", "median", "median");
    kw__ladder_column(&table, "Data sets % with coverage", "below 85", "below");
    kw__ladder_column(&table, "Data sets % with coverage", "85 to 97", "within");
    kw__ladder_column(&table, "Data sets % with coverage", "above 97", "above");
    kw__ladder_column(&table, NULL, "Half-width %", "half_width");
    for (int d = 0; d < KW__NUM_DRAWS; d++)
        for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
            const struct kw__simulation *m = &simulations[d];
            if (q == 0 && d > 0)
                kw__table_row_ruled(&table);
            else
                kw__table_row(&table);
            kw__table_text(&table, kw__draw_name(m->draw));
            kw__table_text(&table, quantity_names[q]);
            kw__ladder_share(&table, m->coverage[q], false);
            kw__ladder_share(&table, m->median[q], false);
            kw__ladder_share(&table, m->below[q], false);
            kw__ladder_share(&table, m->within[q], false);
            kw__ladder_share(&table, m->above[q], false);
            kw__ladder_share(&table, m->half_width[q], false);
        }
    put_table(out, &table);
}

static int print_text(const struct kw__shipped *v, const struct kw__simulation *simulations,
                      const struct kw__options *options)
{
    struct kw__out out;
    kw__out_init(&out);
    if (v->samples) {
        kw__ladder_put(&out, v->ladder);
        kw__out_puts(&out, "\nModels of the paper's table, no row of which is in the fit\n\n");
        put_held_out(&out, v->held_out, v->num_held_out, true);
    }
    if (v->num_zero_rows) {
        kw__out_printf(&out, "%sH200, %s, from micro-benchmarks alone (%s)\n\n", v->samples ? "\n" : "",
                       v->h200_stack->name, v->micro->rows[0].source);
        put_held_out(&out, v->zero_rows, v->num_zero_rows, false);
    }
    if (simulations) put_simulations(&out, simulations);
    put_targets(&out, v);
    return kw__cli_emit(options, &out);
}

/* ---- JSON ---- */

static json_t *held_json(const struct kw__held_out *rows, size_t count, bool ladder)
{
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *each = kw__ladder_row(rows[i].row), *predicted = json_object();
        for (int rung = ladder ? 0 : KW__KERNEL; rung < KW__NUM_RUNGS; rung++)
            json_object_set_new(predicted, kw__rung_name((enum kw__rung)rung),
                                kw__ladder_estimate(&rows[i].estimates[rung]));
        json_object_set_new(each, "predicted", predicted);
        json_array_append_new(out, each);
    }
    return out;
}

static json_t *targets_json(const struct kw__shipped *v)
{
    json_t *out = json_array();
    for (int i = 0; i < KW__NUM_TARGETS; i++) {
        const struct kw__target *t = &v->targets[i];
        if (!t->asked) continue;
        json_array_append_new(out, json_pack("{s:s, s:s, s:f, s:f, s:o, s:b}", "what", t->what, "source",
                                             t->source, "low", t->low, "high", t->high, "value",
                                             kw__cli_number(t->value), "met", (int)t->met));
    }
    return out;
}

static json_t *simulations_json(const struct kw__simulation *simulations)
{
    json_t *out = json_array();
    for (int d = 0; d < KW__NUM_DRAWS; d++) {
        const struct kw__simulation *m = &simulations[d];
        json_t *each = json_pack("{s:s, s:i}", "drawn", kw__draw_name(m->draw), "data_sets", m->count);
        for (int q = 0; q < KW__NUM_QUANTITIES; q++)
            json_object_set_new(each, quantity_names[q],
                                json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "coverage_mean", m->coverage[q],
                                          "coverage_median", m->median[q], "below_85", m->below[q],
                                          "within_85_97", m->within[q], "above_97", m->above[q], "half_width",
                                          m->half_width[q]));
        json_array_append_new(out, each);
    }
    return out;
}

static int print_json(const struct kw__shipped *v, const struct kw__simulation *simulations,
                      const struct kw__options *options)
{
    json_t *root = json_pack("{s:s}", "schema", "kinowatt.validation/1");
    if (v->samples) {
        kw__ladder_json(root, v->ladder);
        json_object_set_new(root, "models", held_json(v->held_out, v->num_held_out, true));
    }
    if (v->num_zero_rows) json_object_set_new(root, "h200", held_json(v->zero_rows, v->num_zero_rows, false));
    if (simulations) json_object_set_new(root, "simulations", simulations_json(simulations));
    json_object_set_new(root, "targets", targets_json(v));
    return kw__cli_emit_json(options, root);
}

/* ---- What ships ---- */

static int print_csv(const struct kw__shipped *v, const struct kw__options *options)
{
    struct kw__table table;
    if (!v->samples) return kw__cli_usage("--csv holds the scores of delavande2025; use --json for the H200");
    kw__ladder_table(&table, v->ladder);
    return kw__cli_emit_table(options, &table);
}

static int missed(const struct kw__shipped *v)
{
    int count = 0;
    for (int i = 0; i < KW__NUM_TARGETS; i++) count += v->targets[i].asked && !v->targets[i].met;
    return count;
}

static int run(const kw_catalog *catalog, const struct settings *settings, unsigned parts,
               const struct kw__options *options)
{
    kw_error err = {0};
    struct kw__shipped *v;
    struct kw__simulation simulations[KW__NUM_DRAWS];
    kw_status status = kw__validate_shipped(catalog, settings->fit.priors, parts, &v, &err);
    if (status) return kw__cli_fail(&err);
    bool simulated = settings->simulations > 0 && v->samples;
    for (int d = 0; !status && simulated && d < KW__NUM_DRAWS; d++)
        status = kw__validate_simulated(v->samples, &v->ladder->fit, (enum kw__draw)d,
                                        (int)settings->simulations, 20260101, &simulations[d], &err);
    int code = status          ? kw__cli_fail(&err)
               : options->json ? print_json(v, simulated ? simulations : NULL, options)
               : options->csv  ? print_csv(v, options)
                               : print_text(v, simulated ? simulations : NULL, options);
    if (!code && missed(v)) {
        kw__cli_warn("%d of the targets are missed; docs/CALIBRATION.md says which are known and why",
                     missed(v));
        code = KW__EXIT_VALIDATION;
    }
    kw__shipped_free(v);
    return code;
}

/* ---- Any other rows ----------------------------------------------------------------------------- */

static int print_rows(const struct kw__fit_rows *rows, const struct kw__options *options)
{
    if (options->json) {
        json_t *root = json_pack("{s:s, s:o}", "schema", "kinowatt.validation/1", "data", kw__fit_json(rows));
        kw__ladder_json(root, rows->ladder);
        return kw__cli_emit_json(options, root);
    }
    if (options->csv) {
        struct kw__table table;
        kw__ladder_table(&table, rows->ladder);
        return kw__cli_emit_table(options, &table);
    }
    struct kw__out out;
    kw__out_init(&out);
    kw__fit_put(&out, rows);
    kw__out_puts(&out, "\n");
    kw__ladder_put(&out, rows->ladder);
    return kw__cli_emit(options, &out);
}

/* No figure was promised of them, so none is missed. */
static int run_rows(const kw_catalog *catalog, const struct settings *settings,
                    const struct kw__options *options)
{
    struct kw__fit_rows rows;
    kw_error err = {0};
    if (kw__fit_open(catalog, &settings->fit, &rows, &err)) return kw__cli_fail(&err);
    int code = print_rows(&rows, options);
    if (!code) kw__fit_warn(&rows);
    kw__fit_close(&rows);
    return code;
}

/* ---- The command ---------------------------------------------------------------------------------- */

/* What --from and --hardware leave to do of what ships; 0: other rows. */
static int choose_parts(const struct settings *settings, unsigned *parts)
{
    const char *from = settings->fit.from, *hardware = settings->fit.selection.hardware;
    *parts = KW__VALIDATE_SWEEPS | KW__VALIDATE_H200;
    if (from && strcmp(from, "delavande2025") == 0)
        *parts = KW__VALIDATE_SWEEPS;
    else if (from && strcmp(from, "h200") == 0)
        *parts = KW__VALIDATE_H200;
    else if (from)
        *parts = 0;
    if (!*parts)
        return settings->simulations ? kw__cli_usage("--simulate goes with delavande2025") : KW__PROCEED;
    if (settings->fit.store || settings->fit.selection.model || settings->fit.selection.stack)
        return kw__cli_usage("--store, --model and --stack go with --from and rows of yours");
    if (!hardware) return KW__PROCEED;
    bool h100 = strcmp(hardware, "h100-sxm") == 0, h200 = strcmp(hardware, "h200") == 0;
    if (!h100 && !h200)
        return kw__cli_usage("--hardware: there are no measurements of '%.80s'; h100-sxm and h200 are there",
                             hardware);
    *parts &= h100 ? KW__VALIDATE_SWEEPS : KW__VALIDATE_H200;
    if (!*parts) return kw__cli_usage("data set %s has no rows of hardware %s", from, hardware);
    return KW__PROCEED;
}

int kw__cmd_validate(int argc, char **argv)
{
    struct settings settings = {.fit = {.train_runs = KW__FIT_RUNS, .train_seconds = KW__FIT_SECONDS}};
    const struct kw__option extra[] = {
        KW__FIT_OPTIONS(&settings.fit),
        {"dataset", 0, KW__OPTION_TEXT, "NAME",
         "the same as --from; what ships is delavande2025 and h200, both without it", &settings.fit.from},
        {"simulate", 0, KW__OPTION_COUNT, "N",
         "with delavande2025: coverage of intervals on N simulated data sets too", &settings.simulations},
    };
    const struct kw__usage usage = {
        .name = "validate",
        .synopsis = "[--from ROWS]",
        .about =
            "Holds the predictors against measurements: paper, paper refitted, flops and kernel on the same\n"
            "rows, fitted with and without them, with the coverage of their intervals, how well measurements\n"
            "repeat, and models and hardware that no fit has seen. Rows that ship have figures that must be\n"
            "reached (exit code 4: one is missed); rows of yours have none.",
        .sets = KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    unsigned parts;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code == KW__PROCEED) code = choose_parts(&settings, &parts);
    if (code != KW__PROCEED) return code;
    if (settings.simulations > 100000) return kw__cli_usage("--simulate: 100000 data sets are the most");
    code = kw__cli_check_output(&options);
    if (code) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = parts ? run(catalog, &settings, parts, &options) : run_rows(catalog, &settings, &options);
    kw_catalog_close(catalog);
    return code;
}
