/*
 * kinowatt compare: models side by side, at their defaults or one request for all, per clip, per second
 * of video and per megapixel-frame (a million pixels of one frame: what is comparable between sizes).
 *
 * A row is an entry: what made it (a prediction, or a published measurement) and its two figures. What
 * is derived from them is computed in one place for both.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/cli.h"

static const struct kw__usage usage = {
    .name = "compare",
    .synopsis = "[MODEL...]",
    .about =
        "Puts models side by side: latency and GPU energy per clip, per second of video and per\n"
        "megapixel-frame. Without names: all built-in models. Each runs its default request, changed by\n"
        "what is given here.",
    .sets =
        KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .most = 256,
};

struct entry {
    const char *model, *hardware, *stack; /* in the arena */
    const char *source;                   /* "predicted", or who measured */
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    double fps;
    double latency_s, gpu_energy_j; /* of the whole batch; NaN when absent */
    const char **warnings;
    size_t num_warnings;
};

struct entries {
    struct kw__arena arena;
    struct entry *list;
    size_t count, capacity;
};

/* Copies the entry with its strings. */
static kw_status append(struct entries *entries, struct entry entry, const char *const *warnings,
                        kw_error *err)
{
    struct kw__arena *arena = &entries->arena;
    entry.warnings = kw__arena_alloc(arena, entry.num_warnings + 1, sizeof *entry.warnings);
    for (size_t i = 0; entry.warnings && i < entry.num_warnings; i++)
        entry.warnings[i] = kw__arena_strdup(arena, warnings[i]);
    entries->list = kw__arena_grow(arena, entries->list, entries->count, &entries->capacity, sizeof entry);
    entry.model = kw__arena_strdup(arena, entry.model);
    entry.hardware = kw__arena_strdup(arena, entry.hardware);
    entry.stack = kw__arena_strdup(arena, entry.stack);
    if (arena->failed) return kw__fail_memory(err);
    entries->list[entries->count++] = entry;
    return KW_OK;
}

static kw_status add_predicted(struct entries *entries, const kw_catalog *catalog, const char *name,
                               const struct kw__options *options, kw_error *err)
{
    kw_model *model = NULL;
    kw_prediction *p = NULL;
    kw_status status = kw_model_open(catalog, name, &model, err);
    if (!status) status = kw_predict(catalog, model, &options->request, &options->predict, &p, err);
    if (!status) {
        const kw_effective *r = &p->request;
        status = append(entries,
                        (struct entry){.model = p->model,
                                       .hardware = p->hardware,
                                       .stack = p->stack,
                                       .source = "predicted",
                                       .width = r->width,
                                       .height = r->height,
                                       .num_frames = r->num_frames,
                                       .num_inference_steps = r->num_inference_steps,
                                       .batch_size = r->batch_size,
                                       .fps = r->fps,
                                       .latency_s = p->total.latency_s.value,
                                       .gpu_energy_j = p->total.energy_j[KW_GPU].value,
                                       .num_warnings = p->num_warnings},
                        p->warnings, err);
    }
    kw_prediction_free(p);
    kw_model_close(model);
    return status;
}

/* ---- What is derived ---- */

static double clips(const struct entry *e)
{
    return (double)e->batch_size;
}

static double video_seconds(const struct entry *e)
{
    return e->fps > 0 ? clips(e) * (double)e->num_frames / e->fps : NAN;
}

static double megapixel_frames(const struct entry *e)
{
    return clips(e) * (double)e->num_frames * (double)e->width * (double)e->height / 1e6;
}

/* ---- Printing ---- */

static const struct {
    const char *group, *suffix;
    double (*amount)(const struct entry *entry);
} units[] = {
    {"Per clip", "clip", clips},
    {"Per second of video", "video_second", video_seconds},
    {"Per megapixel-frame", "megapixel_frame", megapixel_frames},
};
enum { NUM_UNITS = sizeof units / sizeof units[0] };

/* People read hardware and stack above the table. */
static void add_columns(struct kw__table *table, bool people)
{
    static const struct kw__column columns[] = {
        {.title = "Model", .name = "model"},
        {.title = "Source", .name = "source"},
        {.title = "Hardware", .name = "hardware"},
        {.title = "Stack", .name = "stack"},
        {.title = "Width", .name = "width", .align = KW__ALIGN_RIGHT},
        {.title = "Height", .name = "height", .align = KW__ALIGN_RIGHT},
        {.title = "Frames", .name = "num_frames", .align = KW__ALIGN_RIGHT},
        {.title = "Steps", .name = "num_inference_steps", .align = KW__ALIGN_RIGHT},
    };
    kw__table_init(table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        if (!people || (i != 2 && i != 3)) kw__table_column(table, &columns[i]);
    for (size_t i = 0; i < NUM_UNITS; i++) {
        char name[64];
        struct kw__column column = {
            .title = "Latency", .name = name, .group = units[i].group, .align = KW__ALIGN_RIGHT};
        snprintf(name, sizeof name, "latency_s_per_%s", units[i].suffix);
        kw__table_column(table, &column);
        column.title = "GPU";
        snprintf(name, sizeof name, "gpu_energy_wh_per_%s", units[i].suffix);
        kw__table_column(table, &column);
    }
}

static void add_row(struct kw__table *table, const struct entry *e, bool people)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_row(table);
    kw__table_text(table, e->model);
    kw__table_text(table, e->source);
    if (!people) {
        kw__table_text(table, e->hardware);
        kw__table_text(table, e->stack);
    }
    kw__table_number(table, 0, (double)e->width);
    kw__table_number(table, 0, (double)e->height);
    kw__table_number(table, 0, (double)e->num_frames);
    kw__table_number(table, 0, (double)e->num_inference_steps);
    for (size_t i = 0; i < NUM_UNITS; i++) {
        double amount = units[i].amount(e);
        double latency_s = e->latency_s / amount, energy_wh = e->gpu_energy_j / 3600 / amount;
        kw__table_value(table, kw__format_seconds(buffer, latency_s), latency_s);
        kw__table_value(table, kw__format_wh(buffer, energy_wh), energy_wh);
    }
}

static json_t *entry_json(const struct entry *e)
{
    json_t *row = json_pack(
        "{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "model", kw__cli_string(e->model),
        "source", kw__cli_string(e->source), "hardware", kw__cli_string(e->hardware), "stack",
        kw__cli_string(e->stack), "width", (json_int_t)e->width, "height", (json_int_t)e->height,
        "num_frames", (json_int_t)e->num_frames, "num_inference_steps", (json_int_t)e->num_inference_steps,
        "batch_size", (json_int_t)e->batch_size, "fps", kw__cli_number(e->fps), "latency_s",
        kw__cli_number(e->latency_s), "gpu_energy_j", kw__cli_number(e->gpu_energy_j));
    for (size_t i = 0; i < NUM_UNITS; i++) {
        double amount = units[i].amount(e);
        char name[64];
        snprintf(name, sizeof name, "per_%s", units[i].suffix);
        json_object_set_new(row, name,
                            json_pack("{s:o, s:o}", "latency_s", kw__cli_number(e->latency_s / amount),
                                      "gpu_energy_wh", kw__cli_number(e->gpu_energy_j / 3600 / amount)));
    }
    json_t *warnings = json_array();
    for (size_t i = 0; i < e->num_warnings; i++)
        json_array_append_new(warnings, kw__cli_string(e->warnings[i]));
    json_object_set_new(row, "warnings", warnings);
    return row;
}

static int print_json(const struct entries *entries, const struct kw__options *options)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < entries->count; i++) json_array_append_new(rows, entry_json(&entries->list[i]));
    return kw__cli_emit_json(options,
                             json_pack("{s:s, s:s, s:o}", "schema", "kinowatt.comparison/1", "method",
                                       kw_method_name(options->predict.method), "rows", rows));
}

static void put_settings(struct kw__out *out, const struct entry *predicted,
                         const struct kw__options *options)
{
    const char *by_default = " (default)";
    kw__out_puts(out, "Predicted for ");
    kw__cli_put(out, predicted->hardware);
    kw__out_printf(out, "%s with ", options->predict.hardware ? "" : by_default);
    kw__cli_put(out, predicted->stack);
    kw__out_printf(out, "%s, method %s%s\n\n", options->predict.stack ? "" : by_default,
                   kw_method_name(options->predict.method), options->method ? "" : by_default);
}

static int print(const struct entries *entries, const struct kw__options *options)
{
    if (options->json) return print_json(entries, options);
    struct kw__table table;
    struct kw__out out;
    kw__out_init(&out);
    add_columns(&table, !options->csv);
    for (size_t i = 0; i < entries->count; i++) add_row(&table, &entries->list[i], !options->csv);
    if (options->csv) {
        kw__table_render_csv(&table, &out);
    } else {
        if (entries->count) put_settings(&out, &entries->list[0], options);
        kw__table_render_text(&table, &out);
    }
    kw__table_free(&table);
    int code = kw__cli_emit(options, &out);
    for (size_t i = 0; !code && i < entries->count; i++)
        for (size_t j = 0; j < entries->list[i].num_warnings; j++)
            kw__cli_warn("%s: %s", entries->list[i].model, entries->list[i].warnings[j]);
    return code;
}

int kw__cmd_compare(int argc, char **argv)
{
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    struct entries entries = {0};
    kw__arena_init(&entries.arena);
    kw_error err = {0};
    kw_status status = KW_OK;
    size_t count = options.n_args ? options.n_args : kw_catalog_count(catalog, KW_MODELS);
    for (size_t i = 0; !status && i < count; i++) {
        const char *name = options.n_args ? options.args[i] : kw_catalog_name(catalog, KW_MODELS, i);
        status = add_predicted(&entries, catalog, name, &options, &err);
    }
    code = status ? kw__cli_fail(&err) : print(&entries, &options);
    kw__arena_free(&entries.arena);
    kw_catalog_close(catalog);
    return code;
}
