/*
 * kinowatt scaling: the laws of latency, energy and power against resolution, frames and steps.
 *
 * For people two tables an axis: the figures with their local exponents, and the shares of the
 * components. For machines a row for each part (the total, each component) of each point, and one for
 * each published row. With -o a figure and the same rows for each axis (scaling_figure.c).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "cli/cli.h"
#include "cli/folder.h"
#include "cli/scaling.h"

static const double wh_per_j = 1.0 / 3600;

struct settings {
    const char *axis, *values, *folder;
};

static const struct kw__usage usage_base = {
    .name = "scaling",
    .synopsis = "MODEL",
    .about =
        "Predicts how latency, GPU energy and power grow with resolution, frames and steps: by component,\n"
        "with the local exponents d ln y / d ln x, beside published measurements of the same requests.\n"
        "What does not vary is the model's default, changed by what is given here.",
    .sets = KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV,
    .least = 1,
    .most = 1,
    .missing = "scaling needs a model: a name that 'kinowatt models' lists, or a folder",
};

/* ---- The tables for people ---- */

/* "-7.0 +8.2 %"; NULL when there is no interval. */
static const char *format_spread(char *buffer, size_t size, const kw_reading *r)
{
    double down = 100 * (1 - r->low / r->value), up = 100 * (r->high / r->value - 1);
    if (!isfinite(down) || !isfinite(up)) return NULL;
    snprintf(buffer, size, "-%.*f +%.*f %%", down < 9.95, down, up < 9.95, up);
    return buffer;
}

static void x_column(struct kw__table *table, enum kw__scaling_axis axis)
{
    static const char *const titles[KW__NUM_AXES] = {"Size", "Frames", "Steps"};
    kw__table_column(table, &(struct kw__column){.title = titles[axis], .align = KW__ALIGN_RIGHT});
}

static void x_cell(struct kw__table *table, enum kw__scaling_axis axis, const struct kw__scaling_point *point)
{
    char buffer[64];
    const kw_effective *r = &point->prediction->request;
    if (axis == KW__AXIS_RESOLUTION)
        snprintf(buffer, sizeof buffer, "%" PRId64 " x %" PRId64, r->width, r->height);
    else
        snprintf(buffer, sizeof buffer, "%.0f", point->x);
    kw__table_text(table, buffer);
}

static void point_row(struct kw__table *table, const struct kw__scaling *s, size_t i)
{
    char buffer[KW__FORMAT_SIZE];
    const struct kw__scaling_point *point = &s->points[i];
    const kw_cost *total = &point->prediction->total;
    const kw_reading *gpu = &total->energy_j[KW_GPU];
    kw__table_row(table);
    x_cell(table, s->axis, point);
    kw__table_number(table, 0, (double)point->prediction->request.tokens);
    kw__table_text(table, kw__format_seconds(buffer, total->latency_s.value));
    kw__table_text(table, format_spread(buffer, sizeof buffer, &total->latency_s));
    kw__table_text(table, kw__format_wh(buffer, gpu->value * wh_per_j));
    kw__table_text(table, format_spread(buffer, sizeof buffer, gpu));
    kw__table_text(table, kw__format_w(buffer, total->power_w.value));
    kw__table_number(table, 2, point->latency_exponent);
    kw__table_number(table, 2, point->energy_exponent);
    if (!s->num_rows) return;
    kw__table_text(table,
                   point->num_published ? kw__format_seconds(buffer, point->published_latency_s) : NULL);
    kw__table_text(table,
                   isnan(point->published_gpu_wh) ? NULL : kw__format_wh(buffer, point->published_gpu_wh));
}

static void put_points(struct kw__out *out, const struct kw__scaling *s)
{
    static const struct kw__column columns[] = {
        {.title = "Tokens", .align = KW__ALIGN_RIGHT},
        {.title = "Latency", .align = KW__ALIGN_RIGHT},
        {.title = "90 %", .align = KW__ALIGN_RIGHT},
        {.title = "GPU energy", .align = KW__ALIGN_RIGHT},
        {.title = "90 %", .align = KW__ALIGN_RIGHT},
        {.title = "Power", .align = KW__ALIGN_RIGHT},
        {.title = "Latency", .group = "Exponent", .align = KW__ALIGN_RIGHT},
        {.title = "Energy", .group = "Exponent", .align = KW__ALIGN_RIGHT},
        {.title = "Latency", .group = "Published", .align = KW__ALIGN_RIGHT},
        {.title = "GPU energy", .group = "Published", .align = KW__ALIGN_RIGHT},
    };
    size_t n = sizeof columns / sizeof columns[0] - (s->num_rows ? 0 : 2);
    struct kw__table table;
    kw__table_init(&table);
    x_column(&table, s->axis);
    for (size_t i = 0; i < n; i++) kw__table_column(&table, &columns[i]);
    for (size_t i = 0; i < s->num_points; i++) point_row(&table, s, i);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* The latency of a part of the figure's stack over all of it. */
static void put_shares(struct kw__out *out, const struct kw__scaling *s)
{
    char buffer[KW__FORMAT_SIZE];
    struct kw__table table;
    kw__table_init(&table);
    x_column(&table, s->axis);
    bool shown[KW__SCALING_PARTS];
    for (int part = 0; part < KW__SCALING_PARTS; part++) {
        shown[part] = kw__scaling_has_part(s, part);
        if (!shown[part]) continue;
        kw__table_column(&table, &(struct kw__column){.title = kw__scaling_part_name(part),
                                                      .group = "Share of the latency",
                                                      .align = KW__ALIGN_RIGHT});
    }
    for (size_t i = 0; i < s->num_points; i++) {
        double parts[KW__SCALING_PARTS], all = s->points[i].prediction->total.latency_s.value;
        kw__scaling_parts(s->points[i].prediction, parts);
        kw__table_row(&table);
        x_cell(&table, s->axis, &s->points[i]);
        for (int part = 0; part < KW__SCALING_PARTS; part++)
            if (shown[part]) kw__table_text(&table, kw__format_percent(buffer, parts[part] / all));
    }
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

static void put_published(struct kw__out *out, const struct kw__scaling *s)
{
    if (s->num_rows)
        kw__out_printf(out, "\nPublished: %s, %s, %zu row%s of this request%s.\n", s->rows[0].row->source,
                       s->rows[0].row->gpu, s->num_rows, kw__plural((int64_t)s->num_rows),
                       s->num_rows == 1 ? "" : "; several at a point are averaged");
    const struct kw__row *row = s->elsewhere;
    if (!row) return;
    kw__out_printf(out, "\nPublished at another request: %zu row%s of %s", s->num_elsewhere,
                   kw__plural((int64_t)s->num_elsewhere), row->source);
    if (s->axis != KW__AXIS_RESOLUTION)
        kw__out_printf(out, " at %" PRId64 " x %" PRId64, row->width, row->height);
    if (s->axis != KW__AXIS_FRAMES)
        kw__out_printf(out, ", %" PRId64 " frame%s", row->frames, kw__plural(row->frames));
    if (s->axis != KW__AXIS_STEPS)
        kw__out_printf(out, ", %" PRId64 " step%s", row->steps, kw__plural(row->steps));
    kw__out_puts(out, ".\nTo see them beside, add");
    if (s->axis != KW__AXIS_RESOLUTION)
        kw__out_printf(out, " -W %" PRId64 " -H %" PRId64, row->width, row->height);
    if (s->axis != KW__AXIS_FRAMES) kw__out_printf(out, " -f %" PRId64, row->frames);
    if (s->axis != KW__AXIS_STEPS) kw__out_printf(out, " -s %" PRId64, row->steps);
    kw__out_puts(out, ".\n");
}

static void put_axis(struct kw__out *out, const struct kw__scaling *s)
{
    static const char *const titles[KW__NUM_AXES] = {"Resolution", "Frames", "Steps"};
    const kw_effective *r = &s->points[0].prediction->request;
    kw__out_printf(out, "\n%s", titles[s->axis]);
    const char *comma = " at ";
    if (s->axis != KW__AXIS_RESOLUTION) {
        kw__out_printf(out, "%s%" PRId64 " x %" PRId64, comma, r->width, r->height);
        comma = ", ";
    }
    if (s->axis != KW__AXIS_FRAMES) {
        kw__out_printf(out, "%s%" PRId64 " frame%s", comma, r->num_frames, kw__plural(r->num_frames));
        comma = ", ";
    }
    if (s->axis != KW__AXIS_STEPS)
        kw__out_printf(out, "%s%" PRId64 " step%s", comma, r->num_inference_steps,
                       kw__plural(r->num_inference_steps));
    kw__out_puts(out, "\n\n");
    put_points(out, s);
    kw__out_puts(out, "\n");
    put_shares(out, s);
    put_published(out, s);
}

static void put_text(struct kw__out *out, struct kw__scaling *const *all, size_t count,
                     const struct kw__options *options)
{
    const kw_prediction *p = all[0]->points[0].prediction;
    kw__out_puts(out, "Model     ");
    kw__cli_put(out, p->model);
    kw__out_puts(out, "\n");
    kw__cli_put_settings(out, p, options);
    for (size_t i = 0; i < count; i++) put_axis(out, all[i]);
    kw__cli_put_assumptions(out, p);
}

/* ---- JSON ---- */

static json_t *reading_json(const kw_reading *r, double scale)
{
    if (r->status == KW_ABSENT) return json_null();
    return json_pack("{s:o, s:o, s:o}", "value", kw__cli_number(r->value * scale), "low",
                     kw__cli_number(r->low * scale), "high", kw__cli_number(r->high * scale));
}

static json_t *cost_json(const kw_cost *cost)
{
    json_t *energy = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        json_object_set_new(energy, kw_device_name(d), reading_json(&cost->energy_j[d], 1));
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", cost->name, "flop", kw__cli_number(cost->flop),
                     "latency_s", reading_json(&cost->latency_s, 1), "power_w",
                     reading_json(&cost->power_w, 1), "energy_j", energy);
}

static json_t *point_json(const struct kw__scaling_point *point)
{
    const kw_prediction *p = point->prediction;
    json_t *components = json_array();
    for (size_t i = 0; i < p->num_components; i++)
        json_array_append_new(components, cost_json(&p->components[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "x", kw__cli_number(point->x), "request",
                     kw__cli_request(&p->request), "total", cost_json(&p->total), "components", components,
                     "latency_exponent", kw__cli_number(point->latency_exponent), "energy_exponent",
                     kw__cli_number(point->energy_exponent));
}

static json_t *row_json(const struct kw__scaling_row *published)
{
    const struct kw__row *row = published->row;
    json_t *energy = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        json_object_set_new(energy, kw_device_name(d), kw__cli_number(3600 * row->energy_wh[d]));
    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "x", kw__cli_number(published->x),
                     "source", kw__cli_string(row->source), "sweep", kw__cli_string(row->sweep), "gpu",
                     kw__cli_string(row->gpu), "width", (json_int_t)row->width, "height",
                     (json_int_t)row->height, "requested_frames", (json_int_t)row->frames,
                     "num_inference_steps", (json_int_t)row->steps, "latency_s",
                     kw__cli_number(row->latency_s), "energy_j", energy);
}

static json_t *axis_json(const struct kw__scaling *s)
{
    static const char *const units[KW__NUM_AXES] = {"pixels of a frame", "frames", "steps"};
    json_t *points = json_array(), *rows = json_array();
    for (size_t i = 0; i < s->num_points; i++) json_array_append_new(points, point_json(&s->points[i]));
    for (size_t i = 0; i < s->num_rows; i++) json_array_append_new(rows, row_json(&s->rows[i]));
    return json_pack("{s:s, s:s, s:o, s:o}", "axis", kw__scaling_axis_name(s->axis), "x", units[s->axis],
                     "points", points, "published", rows);
}

static json_t *document(struct kw__scaling *const *all, size_t count, const json_t *warnings)
{
    const kw_prediction *p = all[0]->points[0].prediction;
    json_t *axes = json_array(), *assumptions = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(axes, axis_json(all[i]));
    for (size_t i = 0; i < p->num_assumptions; i++)
        json_array_append_new(assumptions, kw__cli_string(p->assumptions[i]));
    return json_pack("{s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:O}", "schema", "kinowatt.scaling/1", "model",
                     kw__cli_string(p->model), "hardware", kw__cli_string(p->hardware), "stack",
                     kw__cli_string(p->stack), "method", kw_method_name(p->method), "calibration",
                     kw__cli_string(p->calibration), "axes", axes, "assumptions", assumptions, "warnings",
                     warnings);
}

/* ---- CSV ---- */

static void csv_columns(struct kw__table *table)
{
    static const char *const names[] = {"axis",
                                        "source",
                                        "model",
                                        "hardware",
                                        "stack",
                                        "method",
                                        "calibration",
                                        "sweep",
                                        "width",
                                        "height",
                                        "num_frames",
                                        "num_inference_steps",
                                        "tokens",
                                        "x",
                                        "part",
                                        "flop",
                                        "latency_s",
                                        "latency_s_low",
                                        "latency_s_high",
                                        "power_w",
                                        "power_w_low",
                                        "power_w_high",
                                        "gpu_energy_j",
                                        "gpu_energy_j_low",
                                        "gpu_energy_j_high",
                                        "latency_exponent",
                                        "energy_exponent"};
    kw__table_init(table);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = names[i]});
}

static void csv_reading(struct kw__table *table, const kw_reading *r)
{
    kw__table_number(table, 0, r->value);
    kw__table_number(table, 0, r->low);
    kw__table_number(table, 0, r->high);
}

static void csv_part(struct kw__table *table, const struct kw__scaling *s, size_t i, const kw_cost *cost)
{
    const struct kw__scaling_point *point = &s->points[i];
    const kw_prediction *p = point->prediction;
    const kw_effective *r = &p->request;
    bool total = cost == &p->total;
    const char *const texts[] = {
        kw__scaling_axis_name(s->axis), "predicted",    p->model, p->hardware, p->stack,
        kw_method_name(p->method),      p->calibration, NULL};
    const double numbers[] = {(double)r->width,      (double)r->height,
                              (double)r->num_frames, (double)r->num_inference_steps,
                              (double)r->tokens,     point->x};
    kw__table_row(table);
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) kw__table_text(table, texts[k]);
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) kw__table_number(table, 0, numbers[k]);
    kw__table_text(table, cost->name);
    kw__table_number(table, 0, cost->flop);
    csv_reading(table, &cost->latency_s);
    csv_reading(table, &cost->power_w);
    csv_reading(table, &cost->energy_j[KW_GPU]);
    kw__table_number(table, 0, total ? point->latency_exponent : NAN);
    kw__table_number(table, 0, total ? point->energy_exponent : NAN);
}

static void csv_published(struct kw__table *table, const struct kw__scaling *s,
                          const struct kw__scaling_row *published)
{
    const struct kw__row *row = published->row;
    const char *const texts[] = {kw__scaling_axis_name(s->axis), row->source, row->model, row->gpu,
                                 s->points[0].prediction->stack, NULL,        NULL,       row->sweep};
    const double gpu_j = 3600 * row->energy_wh[KW_GPU];
    const double numbers[] = {
        (double)row->width, (double)row->height, (double)row->frames, (double)row->steps, NAN, published->x};
    const double figures[] = {NAN, row->latency_s, NAN, NAN, gpu_j / row->latency_s, NAN, NAN, gpu_j};
    kw__table_row(table);
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) kw__table_text(table, texts[k]);
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) kw__table_number(table, 0, numbers[k]);
    kw__table_text(table, "total");
    for (size_t k = 0; k < sizeof figures / sizeof figures[0]; k++) kw__table_number(table, 0, figures[k]);
}

static void put_csv(struct kw__out *out, struct kw__scaling *const *all, size_t count)
{
    struct kw__table table;
    csv_columns(&table);
    for (size_t a = 0; a < count; a++) {
        const struct kw__scaling *s = all[a];
        for (size_t i = 0; i < s->num_points; i++) {
            const kw_prediction *p = s->points[i].prediction;
            csv_part(&table, s, i, &p->total);
            for (size_t c = 0; c < p->num_components; c++) csv_part(&table, s, i, &p->components[c]);
        }
        for (size_t i = 0; i < s->num_rows; i++) csv_published(&table, s, &s->rows[i]);
    }
    kw__table_render_csv(&table, out);
    kw__table_free(&table);
}

/* ---- Warnings: one that differs between points by its numbers alone is said once ---- */

static bool alike(const char *a, const char *b)
{
    static const char digits[] = "0123456789.";
    for (;;) {
        a += strspn(a, digits);
        b += strspn(b, digits);
        if (*a != *b) return false;
        if (!*a) return true;
        a++;
        b++;
    }
}

struct warning {
    const char *text;
    size_t points;
};
enum { MOST_WARNINGS = 32 };

static size_t collect_warnings(struct kw__scaling *const *all, size_t count, struct warning *list)
{
    size_t known = 0;
    for (size_t a = 0; a < count; a++)
        for (size_t i = 0; i < all[a]->num_points; i++) {
            const kw_prediction *p = all[a]->points[i].prediction;
            for (size_t w = 0; w < p->num_warnings; w++) {
                size_t k = 0;
                while (k < known && !alike(list[k].text, p->warnings[w])) k++;
                if (k == MOST_WARNINGS) continue;
                if (k == known) list[known++] = (struct warning){p->warnings[w], 0};
                list[k].points++;
            }
        }
    return known;
}

static const char *format_warning(char *buffer, size_t size, const struct warning *warning, size_t points)
{
    if (warning->points == points || warning->points == 1)
        snprintf(buffer, size, "%s", warning->text);
    else
        snprintf(buffer, size, "%s (so at %zu of %zu points)", warning->text, warning->points, points);
    return buffer;
}

/* ---- The command ---- */

static kw_status write_folder(struct kw__scaling *const *all, size_t count, const char *folder, kw_error *err)
{
    struct kw__file files[2 * KW__NUM_AXES];
    for (size_t i = 0; i < count; i++) {
        const char *axis = kw__scaling_axis_name(all[i]->axis);
        struct kw__file *csv = &files[2 * i], *svg = csv + 1;
        snprintf(csv->name, sizeof csv->name, "scaling-%s.csv", axis);
        snprintf(svg->name, sizeof svg->name, "scaling-%s.svg", axis);
        kw__out_init(&csv->out);
        kw__out_init(&svg->out);
        put_csv(&csv->out, &all[i], 1);
        kw__scaling_figure(&svg->out, all[i]);
    }
    kw_status status = kw__folder_write(folder, files, 2 * count, err);
    for (size_t i = 0; i < 2 * count; i++) kw__out_free(&files[i].out);
    return status;
}

static int print(struct kw__scaling *const *all, size_t count, const struct settings *settings,
                 const struct kw__options *options)
{
    char buffer[640];
    kw_error err = {0};
    struct warning warnings[MOST_WARNINGS];
    size_t num_warnings = collect_warnings(all, count, warnings), points = 0;
    for (size_t i = 0; i < count; i++) points += all[i]->num_points;
    if (settings->folder && write_folder(all, count, settings->folder, &err)) return kw__cli_fail(&err);
    if (options->json) {
        json_t *texts = json_array();
        for (size_t i = 0; i < num_warnings; i++)
            json_array_append_new(
                texts, kw__cli_string(format_warning(buffer, sizeof buffer, &warnings[i], points)));
        json_t *root = document(all, count, texts);
        json_decref(texts);
        return kw__cli_emit_json(options, root);
    }
    struct kw__out out;
    kw__out_init(&out);
    if (options->csv) {
        put_csv(&out, all, count);
    } else {
        put_text(&out, all, count, options);
        if (settings->folder) {
            kw__out_printf(&out, "\nFigures and their rows are in ");
            kw__cli_put(&out, settings->folder);
            kw__out_puts(&out, "\n");
        }
    }
    int code = kw__cli_emit(options, &out);
    for (size_t i = 0; !code && i < num_warnings; i++)
        kw__cli_warn("%s", format_warning(buffer, sizeof buffer, &warnings[i], points));
    return code;
}

/* What the one axis varies may not be given too. */
static int check_fixed(enum kw__scaling_axis axis, const kw_request *r)
{
    const char *option = axis == KW__AXIS_RESOLUTION ? (r->width    ? "width"
                                                        : r->height ? "height"
                                                                    : NULL)
                         : axis == KW__AXIS_FRAMES   ? (r->num_frames ? "num-frames" : NULL)
                                                   : (r->num_inference_steps ? "num-inference-steps" : NULL);
    if (!option) return KW__PROCEED;
    return kw__cli_usage("--%s is what the axis %s varies; leave it out; --values lists others", option,
                         kw__scaling_axis_name(axis));
}

static int run(const struct settings *settings, const struct kw__options *options, kw_catalog *catalog)
{
    kw_error err = {0};
    enum kw__scaling_axis first = KW__AXIS_RESOLUTION, last = KW__AXIS_STEPS;
    struct kw__arena arena;
    struct kw__scaling *all[KW__NUM_AXES] = {0};
    struct kw__scaling_value *values = NULL;
    size_t num_values = 0, count = 0;
    kw_model *model = NULL;
    kw__arena_init(&arena);
    kw_status status = settings->axis ? kw__scaling_axis_parse(settings->axis, &first, &err) : KW_OK;
    if (settings->axis) last = first;
    int code = KW__PROCEED;
    if (!status && settings->axis) code = check_fixed(first, &options->request);
    if (!status && code == KW__PROCEED && settings->values)
        status = kw__scaling_parse(first, settings->values, &arena, &values, &num_values, &err);
    if (!status && code == KW__PROCEED) status = kw_model_open(catalog, options->args[0], &model, &err);
    for (int axis = (int)first; model && !status && axis <= (int)last; axis++) {
        status = kw__scaling_new(catalog, model, &options->request, &options->predict,
                                 (enum kw__scaling_axis)axis, values, num_values, &all[count], &err);
        if (!status) count++;
    }
    if (status)
        code = kw__cli_fail(&err);
    else if (code == KW__PROCEED)
        code = print(all, count, settings, options);
    for (size_t i = 0; i < count; i++) kw__scaling_free(all[i]);
    kw_model_close(model);
    kw__arena_free(&arena);
    return code;
}

int kw__cmd_scaling(int argc, char **argv)
{
    struct settings settings = {0};
    const struct kw__option extra[] = {
        {"axis", 0, KW__OPTION_TEXT, "NAME", "resolution, frames or steps alone", &settings.axis},
        {"values", 0, KW__OPTION_TEXT, "LIST", "values of the axis: 832x480,1280x720 or 1,5,81",
         &settings.values},
        {"output", 'o', KW__OPTION_TEXT, "DIR", "also write figures and CSV files there", &settings.folder},
    };
    struct kw__usage usage = usage_base;
    usage.extra = extra;
    usage.n_extra = sizeof extra / sizeof extra[0];
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    if (settings.values && !settings.axis)
        return kw__cli_usage("--values needs --axis resolution, frames or steps");
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = run(&settings, &options, catalog);
    kw_catalog_close(catalog);
    return code;
}
