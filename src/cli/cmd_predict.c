/* kinowatt predict: latency and energy of one request, stage by stage. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define EN_DASH "\xE2\x80\x93"

static const struct kw__usage usage = {
    .name = "predict",
    .synopsis = "MODEL",
    .about =
        "Predicts latency and energy of a request by stage. MODEL is a name that 'kinowatt models' lists, or a\n"
        "folder in diffusers layout (only its config files are read). What is not given is the model's\n"
        "default.",
    .sets =
        KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .least = 1,
    .most = 1,
    .missing = "predict needs a model: a name that 'kinowatt models' lists, or a folder",
};

static const char *const status_names[] = {
    [KW_ABSENT] = "absent", [KW_MODELLED] = "modelled", [KW_MEASURED] = "measured"};

/* ---- For people ---- */

typedef const char *formatter(char *buffer, double value);

/* "45.1 s – 48.0 s"; NULL when there is none. */
static const char *format_interval(char *buffer, size_t size, const kw_reading *r, double scale,
                                   formatter *format)
{
    char low[KW__FORMAT_SIZE], high[KW__FORMAT_SIZE];
    if (r->status == KW_ABSENT || isnan(r->low) || isnan(r->high)) return NULL;
    snprintf(buffer, size, "%s " EN_DASH " %s", format(low, scale * r->low), format(high, scale * r->high));
    return buffer;
}

static const double wh_per_j = 1.0 / 3600;

static void stage_row(struct kw__table *table, const kw_cost *cost, const char *regime)
{
    char buffer[2 * KW__FORMAT_SIZE + 8];
    const kw_reading *gpu = &cost->energy_j[KW_GPU];
    kw__table_text(table, cost->name);
    kw__table_value(table, kw__format_flop(buffer, cost->flop), cost->flop);
    kw__table_value(table, kw__format_seconds(buffer, cost->latency_s.value), cost->latency_s.value);
    kw__table_text(table, kw__cli_spread(buffer, sizeof buffer, &cost->latency_s));
    kw__table_value(table, kw__format_wh(buffer, gpu->value * wh_per_j), gpu->value);
    kw__table_text(table, kw__cli_spread(buffer, sizeof buffer, gpu));
    kw__table_value(table, kw__format_w(buffer, cost->power_w.value), cost->power_w.value);
    kw__table_text(table, regime);
}

static void put_stages(struct kw__out *out, const kw_prediction *p)
{
    static const struct kw__column columns[] = {
        {.title = "Stage"},
        {.title = "FLOPs", .align = KW__ALIGN_RIGHT},
        {.title = "Latency", .align = KW__ALIGN_RIGHT},
        {.title = "90 %", .align = KW__ALIGN_RIGHT},
        {.title = "GPU energy", .align = KW__ALIGN_RIGHT},
        {.title = "90 %", .align = KW__ALIGN_RIGHT},
        {.title = "GPU power", .align = KW__ALIGN_RIGHT},
        {.title = "Bound by"},
    };
    struct kw__table table;
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(&table, &columns[i]);
    for (size_t i = 0; i < p->num_stages; i++) {
        kw__table_row(&table);
        stage_row(&table, &p->stages[i], kw_regime_name(p->stages[i].regime));
    }
    kw__table_row_ruled(&table);
    stage_row(&table, &p->total, "");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* "12.8 Wh  (11.9 Wh – 13.8 Wh, modelled)". */
static void put_reading(struct kw__out *out, const kw_reading *r, double scale, formatter *format)
{
    char buffer[2 * KW__FORMAT_SIZE + 8];
    if (r->status == KW_ABSENT) {
        kw__out_puts(out, EN_DASH "  (absent: ");
        kw__cli_put(out, r->reason ? r->reason : "not known");
        kw__out_puts(out, ")\n");
        return;
    }
    kw__out_printf(out, "%s  (", format(buffer, scale * r->value));
    if (format_interval(buffer, sizeof buffer, r, scale, format)) kw__out_printf(out, "%s, ", buffer);
    kw__out_printf(out, "%s)\n", status_names[r->status]);
}

static void put_totals(struct kw__out *out, const kw_prediction *p)
{
    static const char *const labels[KW_NUM_DEVICES] = {
        [KW_GPU] = "Energy    GPU  ", [KW_CPU] = "          CPU  ", [KW_RAM] = "          RAM  "};
    kw__out_puts(out, "\nLatency   ");
    put_reading(out, &p->total.latency_s, 1, kw__format_seconds);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        kw__out_puts(out, labels[d]);
        put_reading(out, &p->total.energy_j[d], wh_per_j, kw__format_wh);
    }
    kw__out_puts(out, "Memory    ");
    put_reading(out, &p->peak_memory_bytes, 1, kw__format_bytes);
}

static void put_executed(struct kw__out *out, const kw_cost *total)
{
    char flop[KW__FORMAT_SIZE], bytes[KW__FORMAT_SIZE];
    if (isnan(total->flop_executed) || isnan(total->bytes)) return;
    kw__out_printf(
        out, "Executed  %s, %s moved through memory, %.0f launches; the table's FLOPs are the model's\n",
        kw__format_flop(flop, total->flop_executed), kw__format_bytes(bytes, total->bytes), total->launches);
}

/* "+4.2 %", what the prediction is from a measurement on the same hardware; NULL on another. */
static const char *format_difference(char *buffer, size_t size, const kw_prediction *p,
                                     const kw_published *row, double predicted, double measured)
{
    if (!row->hardware || strcmp(row->hardware, p->hardware) != 0 || !isfinite(predicted / measured))
        return NULL;
    snprintf(buffer, size, "%+.1f %%", 100 * (predicted / measured - 1));
    return buffer;
}

static void put_published(struct kw__out *out, const kw_prediction *p)
{
    static const struct kw__column columns[] = {
        {.title = "Measured by others"},
        {.title = "GPU"},
        {.title = "Latency", .align = KW__ALIGN_RIGHT},
        {.title = "predicted", .align = KW__ALIGN_RIGHT},
        {.title = "GPU energy", .align = KW__ALIGN_RIGHT},
        {.title = "predicted", .align = KW__ALIGN_RIGHT},
    };
    if (!p->num_published) return;
    struct kw__table table;
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(&table, &columns[i]);
    const kw_cost *total = &p->total;
    for (size_t i = 0; i < p->num_published; i++) {
        const kw_published *row = &p->published[i];
        double wh = row->energy_wh[KW_GPU], ours = total->energy_j[KW_GPU].value * wh_per_j;
        char buffer[2 * KW__FORMAT_SIZE];
        kw__table_row(&table);
        kw__table_text(&table, row->source);
        kw__table_text(&table, row->gpu);
        kw__table_value(&table, kw__format_seconds(buffer, row->latency_s), row->latency_s);
        kw__table_text(
            &table, format_difference(buffer, sizeof buffer, p, row, total->latency_s.value, row->latency_s));
        kw__table_value(&table, kw__format_wh(buffer, wh), wh);
        kw__table_text(&table, format_difference(buffer, sizeof buffer, p, row, ours, wh));
    }
    kw__out_puts(out, "\n");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

static void put_text(struct kw__out *out, const kw_prediction *p, const struct kw__options *options)
{
    kw__out_puts(out, "Model     ");
    kw__cli_put(out, p->model);
    kw__out_puts(out, "\n");
    kw__cli_put_request(out, &p->request);
    kw__cli_put_settings(out, p, options);
    kw__out_puts(out, "\n");
    put_stages(out, p);
    put_totals(out, p);
    put_executed(out, &p->total);
    put_published(out, p);
    kw__cli_put_assumptions(out, p);
}

/* ---- CSV: a row for each stage and the total, each with what it belongs to ---- */

/* Writes the header (`names`) or a row: one list of columns serves both. */
struct csv {
    struct kw__out *out;
    bool names, started;
};

static void csv_text(struct csv *csv, const char *name, const char *value)
{
    if (csv->started) kw__out_puts(csv->out, ",");
    csv->started = true;
    kw__out_csv(csv->out, csv->names ? name : value);
}

static void csv_number(struct csv *csv, const char *name, double value)
{
    char buffer[KW__FORMAT_SIZE];
    csv_text(csv, name, kw__format_exact(buffer, value));
}

static void csv_reading(struct csv *csv, const char *name, const kw_reading *r)
{
    char buffer[64];
    csv_number(csv, name, r->value);
    snprintf(buffer, sizeof buffer, "%s_low", name);
    csv_number(csv, buffer, r->low);
    snprintf(buffer, sizeof buffer, "%s_high", name);
    csv_number(csv, buffer, r->high);
}

static void csv_line(struct kw__out *out, bool names, const kw_prediction *p, const kw_cost *cost)
{
    struct csv csv = {.out = out, .names = names};
    const kw_effective *r = &p->request;
    csv_text(&csv, "model", p->model);
    csv_text(&csv, "hardware", p->hardware);
    csv_text(&csv, "stack", p->stack);
    csv_text(&csv, "method", kw_method_name(p->method));
    csv_text(&csv, "calibration", p->calibration);
    csv_number(&csv, "width", (double)r->width);
    csv_number(&csv, "height", (double)r->height);
    csv_number(&csv, "num_frames", (double)r->num_frames);
    csv_number(&csv, "num_inference_steps", (double)r->num_inference_steps);
    csv_number(&csv, "guidance_scale", r->guidance_scale);
    csv_number(&csv, "batch_size", (double)r->batch_size);
    csv_number(&csv, "prompt_tokens", (double)r->prompt_tokens);
    csv_number(&csv, "negative_tokens", (double)r->negative_tokens);
    csv_number(&csv, "tokens", (double)r->tokens);
    csv_text(&csv, "stage", cost->name);
    csv_number(&csv, "flop", cost->flop);
    csv_number(&csv, "flop_executed", cost->flop_executed);
    csv_number(&csv, "flop_linear", cost->flop_linear);
    csv_number(&csv, "flop_attention", cost->flop_attention);
    csv_number(&csv, "flop_conv", cost->flop_conv);
    csv_number(&csv, "bytes", cost->bytes);
    csv_number(&csv, "launches", cost->launches);
    csv_text(&csv, "regime", cost == &p->total ? NULL : kw_regime_name(cost->regime));
    csv_reading(&csv, "latency_s", &cost->latency_s);
    csv_reading(&csv, "power_w", &cost->power_w);
    csv_reading(&csv, "gpu_energy_j", &cost->energy_j[KW_GPU]);
    csv_reading(&csv, "cpu_energy_j", &cost->energy_j[KW_CPU]);
    csv_reading(&csv, "ram_energy_j", &cost->energy_j[KW_RAM]);
    csv_number(&csv, "peak_memory_bytes", cost == &p->total ? p->peak_memory_bytes.value : NAN);
    kw__out_puts(out, "\n");
}

static void put_csv(struct kw__out *out, const kw_prediction *p)
{
    csv_line(out, true, p, &p->total);
    for (size_t i = 0; i < p->num_stages; i++) csv_line(out, false, p, &p->stages[i]);
    csv_line(out, false, p, &p->total);
}

/* ---- The command ---- */

static int print(const kw_prediction *p, const struct kw__options *options)
{
    struct kw__out out;
    kw__out_init(&out);
    if (options->json) {
        kw_error err = {0};
        char *text;
        if (kw_prediction_to_json(p, &text, &err)) return kw__cli_fail(&err);
        kw__out_puts(&out, text);
        free(text);
    } else if (options->csv) {
        put_csv(&out, p);
    } else {
        put_text(&out, p, options);
    }
    int code = kw__cli_emit(options, &out);
    if (!code && !options->json)
        for (size_t i = 0; i < p->num_warnings; i++) kw__cli_warn("%s", p->warnings[i]);
    return code;
}

int kw__cmd_predict(int argc, char **argv)
{
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    kw_error err = {0};
    kw_model *model = NULL;
    kw_prediction *p = NULL;
    kw_status status = kw_model_open(catalog, options.args[0], &model, &err);
    if (!status) status = kw_predict(catalog, model, &options.request, &options.predict, &p, &err);
    code = status ? kw__cli_fail(&err) : print(p, &options);
    kw_prediction_free(p);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return code;
}
