/*
 * kinowatt reproduce: the results of a paper, theirs and ours. Prints how its errors come out; with -o
 * writes a page (index.md), its figures (SVG) and every plotted number (CSV) into a folder.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/folder.h"
#include "cli/reproduce.h"

struct settings {
    const char *calibration, *date, *folder;
};

static const struct kw__usage usage_base = {
    .name = "reproduce",
    .synopsis = "delavande2025",
    .about =
        "Makes the results of arXiv 2509.19222 again: its three sweeps and their errors, its fit, models,\n"
        "components, decoder and thresholds, theirs beside ours. Prints the errors; -o DIR writes a page,\n"
        "figures and CSV files that say which part of the paper each stands for, what agrees, and what\n"
        "the published data mislabel.",
    .sets = KW__WITH_JSON | KW__WITH_CSV,
    .least = 1,
    .most = 1,
    .missing = "reproduce needs the name of a paper: delavande2025",
};

static const struct part {
    const char *name;
    kw__repro_table *table;
    kw__repro_figure *figure;
} parts[] = {
    {"errors", kw__repro_table_errors, NULL},
    {"sweeps", kw__repro_table_sweeps, NULL},
    {"fit", kw__repro_table_fit, kw__repro_figure_fit},
    {"models", kw__repro_table_models, kw__repro_figure_models},
    {"h200", kw__repro_table_h200, NULL},
    {"predicted", kw__repro_table_predicted, NULL},
    {"components", kw__repro_table_components, kw__repro_figure_components},
    {"decoder", kw__repro_table_decoder, kw__repro_figure_decoder},
    {"thresholds", kw__repro_table_thresholds, kw__repro_figure_thresholds},
    {"constants", kw__repro_table_constants, NULL},
    {"settings", kw__repro_table_settings, NULL},
    {"resolution", NULL, kw__repro_figure_resolution},
    {"frames", NULL, kw__repro_figure_frames},
    {"steps", NULL, kw__repro_figure_steps},
};
enum { NUM_PARTS = sizeof parts / sizeof parts[0], MOST_FILES = 2 * NUM_PARTS + 1 };

static void put_csv(const struct kw__reproduction *r, kw__repro_table *build, struct kw__out *out)
{
    struct kw__table table;
    build(r, false, &table);
    kw__table_render_csv(&table, out);
    kw__table_free(&table);
}

static kw_status write_folder(struct kw__reproduction *r, const struct settings *settings, kw_error *err)
{
    struct kw__file files[MOST_FILES];
    size_t count = 0;
    for (size_t i = 0; i < MOST_FILES; i++) kw__out_init(&files[i].out);
    for (size_t i = 0; i < NUM_PARTS; i++) {
        if (parts[i].table) {
            snprintf(files[count].name, sizeof files[count].name, "%s.csv", parts[i].name);
            put_csv(r, parts[i].table, &files[count++].out);
        }
        if (parts[i].figure) {
            snprintf(files[count].name, sizeof files[count].name, "%s.svg", parts[i].name);
            parts[i].figure(r, &files[count++].out);
        }
    }
    /* last: the page links to the others */
    snprintf(files[count].name, sizeof files[count].name, "index.md");
    kw__repro_page(r, settings->date, &files[count++].out);
    kw_status status = kw__folder_write(settings->folder, files, count, err);
    for (size_t i = 0; i < count; i++) kw__out_free(&files[i].out);
    return status;
}

/* ---- What is printed ---- */

static json_t *error_json(const struct kw__repro_error *e)
{
    return json_pack("{s:o, s:o, s:o, s:i}", "mean_percent", kw__cli_number(e->mean), "largest_percent",
                     kw__cli_number(e->largest), "bias_percent", kw__cli_number(e->bias), "rows", e->count);
}

static json_t *line_json(const struct kw__repro_line *line)
{
    return json_pack("{s:o, s:o, s:o}", "mu", kw__cli_number(line->mu), "overhead_s",
                     kw__cli_number(line->overhead_s), "r2", kw__cli_number(line->r2));
}

static json_t *document(const struct kw__reproduction *r)
{
    json_t *sweeps = json_array();
    for (int s = 0; s < KW__REPRO_SWEEPS; s++)
        for (int energy = 0; energy < 2; energy++) {
            const struct kw__repro_sweep *w = &r->sweeps[s];
            double printed = energy ? w->printed_energy : w->printed_latency;
            json_array_append_new(
                sweeps,
                json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "sweep", w->axis, "quantity",
                          energy ? "gpu_energy" : "latency", "printed_percent", kw__cli_number(printed),
                          "paper", error_json(energy ? &w->paper_energy : &w->paper_latency), "ours",
                          error_json(energy ? &w->ours_energy : &w->ours_latency), "ours_group_out",
                          error_json(energy ? &w->group_out_energy : &w->group_out_latency), "ours_axis_out",
                          error_json(energy ? &w->axis_out_energy : &w->axis_out_latency)));
        }
    const struct kw__repro_line printed = {r->printed_mu, 0, r->printed_r2};
    json_t *fit = json_pack("{s:o, s:o, s:o, s:o}", "printed", line_json(&printed), "through_zero",
                            line_json(&r->through_zero), "with_overhead", line_json(&r->with_overhead),
                            "exact_flop_through_zero", line_json(&r->exact));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "schema", "kinowatt.reproduction/1", "paper",
                     r->id, "model", r->model, "hardware", r->hardware, "stack", r->stack, "calibration",
                     r->calibration, "errors", sweeps, "fit", fit);
}

static void put_text(const struct kw__reproduction *r, const struct settings *settings, struct kw__out *out)
{
    struct kw__table table;
    kw__out_printf(out, "%s\n%s on %s with %s; ours by calibration %s\n\n", r->id, r->model, r->hardware,
                   r->stack, r->calibration);
    kw__out_puts(out, "Mean absolute errors on the authors' rows\n");
    kw__repro_table_errors(r, true, &table);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    kw__out_puts(out, "\n");
    kw__repro_table_fit(r, true, &table);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    kw__out_puts(out, "\nIts models on an H200, with diffusers 0.40\n");
    kw__repro_table_h200(r, true, &table);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    kw__out_puts(out,
                 "measured: all steps ran; slope, per-step: computed from runs with fewer, not measured\n");
    if (!settings->folder) {
        kw__out_puts(out, "\nGive -o DIR for the page with figures, models, components and thresholds.\n");
        return;
    }
    kw__out_puts(out, "\nThe page is ");
    kw__cli_put(out, settings->folder);
    kw__out_puts(out, "/index.md\n");
}

static int print(const struct kw__reproduction *r, const struct settings *settings,
                 const struct kw__options *options)
{
    struct kw__out out;
    if (options->json) return kw__cli_emit_json(options, document(r));
    kw__out_init(&out);
    if (options->csv)
        put_csv(r, kw__repro_table_errors, &out);
    else
        put_text(r, settings, &out);
    int code = kw__cli_emit(options, &out);
    if (!code && r->stand_in)
        kw__cli_warn("calibration %s is not one of %s on %s; 'kinowatt calibrate' fits one", r->calibration,
                     r->stack, r->hardware);
    return code;
}

/* YYYY-MM-DD */
static bool is_date(const char *text)
{
    static const char shape[] = "0000-00-00";
    if (strlen(text) != strlen(shape)) return false;
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == '-' ? text[i] != '-' : text[i] < '0' || text[i] > '9') return false;
    int month = 10 * (text[5] - '0') + text[6] - '0', day = 10 * (text[8] - '0') + text[9] - '0';
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

int kw__cmd_reproduce(int argc, char **argv)
{
    struct settings settings = {0};
    const struct kw__option extra[] = {
        {"calibration", 0, KW__OPTION_TEXT, "NAME", "instead of the one for the paper's stack and hardware",
         &settings.calibration},
        {"date", 0, KW__OPTION_TEXT, "YYYY-MM-DD", "the date that the page carries; without, none",
         &settings.date},
        {"output", 'o', KW__OPTION_TEXT, "DIR", "write the page, figures and CSV files there",
         &settings.folder},
    };
    struct kw__usage usage = usage_base;
    usage.extra = extra;
    usage.n_extra = sizeof extra / sizeof extra[0];
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    if (strcmp(options.args[0], "delavande2025") != 0)
        return kw__cli_usage("unknown paper '%.80s'; delavande2025 is", options.args[0]);
    if (settings.date && !is_date(settings.date))
        return kw__cli_usage("--date '%.80s' is not valid; give YYYY-MM-DD", settings.date);
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    kw_error err = {0};
    struct kw__reproduction *r = NULL;
    kw_status status = kw__reproduction_new(catalog, settings.calibration, &r, &err);
    if (!status && settings.folder) status = write_folder(r, &settings, &err);
    code = status ? kw__cli_fail(&err) : print(r, &settings, &options);
    kw__reproduction_free(r);
    kw_catalog_close(catalog);
    return code;
}
