/*
 * kinowatt compare: models side by side, predicted and published, per clip, per second of video and per
 * megapixel-frame (a million pixels of one frame: what is comparable between sizes).
 *
 * A row is an entry: what made it (a prediction or a published measurement) and its two figures. What is
 * derived from them is computed in one place for both. Beside each published row of a model that is built
 * in stands a prediction of the same request on the same hardware.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/cli.h"
#include "predict/dataset.h"

static const struct kw__usage usage = {
    .name = "compare",
    .synopsis = "[MODEL...]",
    .about =
        "Puts models side by side: latency and GPU energy per clip, per second of video and per\n"
        "megapixel-frame, predicted and as others measured them. Without names: all built-in models and\n"
        "all published ones. A request given here changes the models' defaults, and leaves out the\n"
        "published rows, which have their own.",
    .sets =
        KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .most = 256,
};

/* The data sets with whole pipelines, and the stack that predicts them unless --stack names one. */
static const struct {
    const char *name, *stack;
} publications[] = {
    {"delavande2025_models", "diffusers-0.34"},
    {"h200_diffusers_full", "diffusers-0.40"},
    {"h200_diffusers040", "diffusers-0.40"},
    {"mlenergy_v3_one_gpu", NULL}, /* xDiT: none of ours is it */
};
enum { NUM_PUBLICATIONS = sizeof publications / sizeof publications[0] };

enum kind { PREDICTED, PUBLISHED, PREDICTED_AS };

struct entry {
    enum kind kind;
    int reference; /* number of the source below the table, of PUBLISHED and PREDICTED_AS; from 1 */
    const char *model, *hardware, *source; /* in the arena */
    const char *stack, *note;              /* NULL: not said */
    const char *basis;                     /* NULL: measured, or predicted; else how it was computed */
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    double fps;                     /* NaN: not known */
    double latency_s, gpu_energy_j; /* of the whole batch; NaN when absent */
    const char **warnings;
    size_t num_warnings;
};

struct reference {
    const char *dataset, *gpu, *source;
    const char *stack; /* of the prediction beside its rows; NULL: there is none */
};

struct comparison {
    struct kw__arena arena;
    const kw_catalog *catalog;
    const struct kw__options *options;
    struct kw__dataset *sets[NUM_PUBLICATIONS]; /* NULL: left out */
    struct entry *entries;
    size_t count, capacity;
    struct reference *references;
    size_t num_references, reference_capacity;
};

/* ---- Collecting ---- */

/* Copies the entry with its strings. */
static kw_status append(struct comparison *c, struct entry entry, const char *const *warnings, kw_error *err)
{
    const char **texts[] = {&entry.model,  &entry.hardware, &entry.stack,
                            &entry.source, &entry.note,     &entry.basis};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (*texts[i]) *texts[i] = kw__arena_strdup(&c->arena, *texts[i]);
    entry.warnings = kw__arena_alloc(&c->arena, entry.num_warnings + 1, sizeof *entry.warnings);
    for (size_t i = 0; entry.warnings && i < entry.num_warnings; i++)
        entry.warnings[i] = kw__arena_strdup(&c->arena, warnings[i]);
    c->entries = kw__arena_grow(&c->arena, c->entries, c->count, &c->capacity, sizeof entry);
    if (c->arena.failed) return kw__fail_memory(err);
    c->entries[c->count++] = entry;
    return KW_OK;
}

static kw_status add_predicted(struct comparison *c, const kw_model *model, const kw_request *request,
                               const kw_predict_options *options, int reference, kw_error *err)
{
    kw_prediction *p;
    kw_status status = kw_predict(c->catalog, model, request, options, &p, err);
    if (status) return status;
    const kw_effective *r = &p->request;
    const struct entry entry = {.kind = reference ? PREDICTED_AS : PREDICTED,
                                .reference = reference,
                                .model = p->model,
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
                                .num_warnings = p->num_warnings};
    status = append(c, entry, p->warnings, err);
    kw_prediction_free(p);
    return status;
}

/* The number of a data set's rows on one GPU, entered when it is new; 0 without memory. */
static int refer(struct comparison *c, size_t set, const struct kw__row *row)
{
    const char *dataset = publications[set].name;
    for (size_t i = 0; i < c->num_references; i++)
        if (c->references[i].dataset == dataset && strcmp(c->references[i].gpu, row->gpu) == 0)
            return (int)i + 1;
    struct reference *list =
        kw__arena_grow(&c->arena, c->references, c->num_references, &c->reference_capacity, sizeof *list);
    if (!list) return 0;
    c->references = list;
    list[c->num_references++] = (struct reference){dataset, row->gpu, row->source, NULL};
    return (int)c->num_references;
}

/* The request of a row, predicted on its hardware where there is a profile of it. */
static kw_status add_beside(struct comparison *c, size_t set, const kw_model *model,
                            const struct kw__row *row, int reference, kw_error *err)
{
    kw_hardware *hardware;
    if (kw_hardware_open(c->catalog, row->gpu, &hardware, NULL)) return KW_OK;
    kw_hardware_close(hardware);
    kw_request request = kw__row_request(row);
    kw_predict_options options = c->options->predict;
    options.hardware = row->gpu;
    if (!options.stack) options.stack = publications[set].stack;
    kw_status status = add_predicted(c, model, &request, &options, reference, err);
    if (!status) c->references[reference - 1].stack = c->entries[c->count - 1].stack;
    return status;
}

/* `model` NULL: it is not built in, and its frame rate is not known. */
static kw_status add_published(struct comparison *c, size_t set, const struct kw__row *row,
                               const kw_model *model, kw_error *err)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective effective;
    struct entry entry = {.kind = PUBLISHED,
                          .reference = refer(c, set, row),
                          .model = row->model,
                          .hardware = row->gpu,
                          .source = publications[set].name,
                          .note = row->note,
                          .basis = kw__row_measured(row) ? NULL : row->basis,
                          .width = row->width,
                          .height = row->height,
                          .num_frames = row->frames_out ? row->frames_out : row->frames,
                          .num_inference_steps = row->steps,
                          .batch_size = row->batch_size,
                          .fps = NAN,
                          .latency_s = row->latency_s,
                          .gpu_energy_j = row->energy_wh[KW_GPU] * 3600};
    if (model) {
        request.num_frames = row->frames;
        kw_status status = kw_request_resolve(model, &request, &effective, err);
        if (status) return status;
        entry.num_frames = effective.num_frames;
        entry.fps = effective.fps;
    }
    kw_status status = append(c, entry, NULL, err);
    return status || !model ? status : add_beside(c, set, model, row, entry.reference, err);
}

static bool is_pipeline(const struct kw__row *row)
{
    return !row->what || strcmp(row->what, "pipeline") == 0;
}

/* Of a data set with many sizes, those that another one has too. */
static bool is_compared(const struct comparison *c, size_t set, const struct kw__row *row)
{
    if (strcmp(publications[set].name, "h200_diffusers_full") != 0) return true;
    for (size_t s = 0; s < NUM_PUBLICATIONS; s++)
        for (size_t i = 0; s != set && i < c->sets[s]->num_rows; i++) {
            const struct kw__row *other = &c->sets[s]->rows[i];
            if (is_pipeline(other) && strcmp(other->model, row->model) == 0 && other->width == row->width &&
                other->height == row->height && other->frames == row->frames && other->steps == row->steps)
                return true;
        }
    return false;
}

static kw_status add_model(struct comparison *c, const char *name, kw_error *err)
{
    kw_model *model;
    kw_status status = kw_model_open(c->catalog, name, &model, err);
    if (status) return status;
    status = add_predicted(c, model, &c->options->request, &c->options->predict, 0, err);
    for (size_t s = 0; s < NUM_PUBLICATIONS; s++)
        for (size_t i = 0; !status && c->sets[s] && i < c->sets[s]->num_rows; i++) {
            const struct kw__row *row = &c->sets[s]->rows[i];
            if (is_pipeline(row) && strcmp(row->model, name) == 0 && is_compared(c, s, row))
                status = add_published(c, s, row, model, err);
        }
    kw_model_close(model);
    return status;
}

/* Published rows of models that are not built in; of one of them when `name` is given. *found counts them. */
static kw_status add_others(struct comparison *c, const char *name, size_t *found, kw_error *err)
{
    kw_status status = KW_OK;
    *found = 0;
    for (size_t s = 0; s < NUM_PUBLICATIONS; s++)
        for (size_t i = 0; !status && c->sets[s] && i < c->sets[s]->num_rows; i++) {
            const struct kw__row *row = &c->sets[s]->rows[i];
            bool built_in = false;
            for (size_t m = 0; m < kw_catalog_count(c->catalog, KW_MODELS); m++)
                built_in = built_in || strcmp(kw_catalog_name(c->catalog, KW_MODELS, m), row->model) == 0;
            if (!is_pipeline(row) || built_in || (name && strcmp(name, row->model) != 0)) continue;
            status = add_published(c, s, row, NULL, err);
            ++*found;
        }
    return status;
}

/* Whether a request was given: published rows have requests of their own. */
static bool is_default(const kw_request *r)
{
    const kw_request d = KW_REQUEST_INIT;
    return r->width == d.width && r->height == d.height && r->num_frames == d.num_frames &&
           r->num_inference_steps == d.num_inference_steps && r->batch_size == d.batch_size &&
           r->guidance_scale == d.guidance_scale && r->prompt_tokens == d.prompt_tokens &&
           r->negative_tokens == d.negative_tokens && r->flow_shift == d.flow_shift && r->fps == d.fps &&
           r->power_limit_w == d.power_limit_w;
}

/* A model that can be predicted, or one of which only published rows are known. */
static kw_status add_named(struct comparison *c, const char *name, kw_error *err)
{
    kw_status status = add_model(c, name, err);
    if (status != KW_ERROR_NOT_FOUND) return status;
    size_t found;
    kw_error ignored;
    kw_status others = add_others(c, name, &found, &ignored);
    return others || !found ? status : KW_OK;
}

static kw_status collect(struct comparison *c, kw_error *err)
{
    const struct kw__options *options = c->options;
    kw_status status = KW_OK;
    for (size_t s = 0; !status && is_default(&options->request) && s < NUM_PUBLICATIONS; s++)
        status = kw__dataset_open(c->catalog, publications[s].name, &c->sets[s], err);
    size_t count = options->n_args ? options->n_args : kw_catalog_count(c->catalog, KW_MODELS);
    for (size_t i = 0; !status && i < count; i++)
        status =
            add_named(c, options->n_args ? options->args[i] : kw_catalog_name(c->catalog, KW_MODELS, i), err);
    size_t found;
    if (!status && !options->n_args) status = add_others(c, NULL, &found, err);
    return status;
}

/* ---- What is derived ---- */

static double clips(const struct entry *e)
{
    return (double)e->batch_size;
}

static double video_seconds(const struct entry *e)
{
    return clips(e) * (double)e->num_frames / e->fps;
}

static double megapixel_frames(const struct entry *e)
{
    return clips(e) * (double)e->num_frames * (double)e->width * (double)e->height / 1e6;
}

static const struct {
    const char *group, *suffix;
    double (*amount)(const struct entry *entry);
} units[] = {
    {"Per clip", "clip", clips},
    {"Per second of video", "video_second", video_seconds},
    {"Per megapixel-frame", "megapixel_frame", megapixel_frames},
};
enum { NUM_UNITS = sizeof units / sizeof units[0] };

/* ---- Printing ---- */

/* A tilde marks what was computed from other runs. */
static void marked_value(struct kw__table *table, const struct entry *e,
                         const char *(*format)(char *buffer, double value), double value)
{
    char buffer[1 + KW__FORMAT_SIZE] = "~";
    const char *text = format(buffer + 1, value);
    kw__table_value(table, e->basis ? text - 1 : text, value);
}

static void add_units(struct kw__table *table)
{
    for (size_t i = 0; i < NUM_UNITS; i++) {
        char name[64];
        struct kw__column column = {.name = name, .group = units[i].group, .align = KW__ALIGN_RIGHT};
        column.title = "Latency";
        snprintf(name, sizeof name, "latency_s_per_%s", units[i].suffix);
        kw__table_column(table, &column);
        column.title = "GPU";
        snprintf(name, sizeof name, "gpu_energy_wh_per_%s", units[i].suffix);
        kw__table_column(table, &column);
    }
}

static void unit_cells(struct kw__table *table, const struct entry *e)
{
    for (size_t i = 0; i < NUM_UNITS; i++) {
        double amount = units[i].amount(e);
        double latency_s = e->latency_s / amount, energy_wh = e->gpu_energy_j / 3600 / amount;
        marked_value(table, e, kw__format_seconds, latency_s);
        marked_value(table, e, kw__format_wh, energy_wh);
    }
}

static void csv_table(struct kw__table *table, const struct comparison *c)
{
    static const char *const names[] = {"model", "source", "hardware",   "stack",
                                        "width", "height", "num_frames", "num_inference_steps"};
    kw__table_init(table);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = names[i]});
    add_units(table);
    kw__table_column(table, &(struct kw__column){.title = "basis"});
    kw__table_column(table, &(struct kw__column){.title = "note"});
    for (size_t i = 0; i < c->count; i++) {
        const struct entry *e = &c->entries[i];
        kw__table_row(table);
        kw__table_text(table, e->model);
        kw__table_text(table, e->source);
        kw__table_text(table, e->hardware);
        kw__table_text(table, e->stack);
        kw__table_number(table, 0, (double)e->width);
        kw__table_number(table, 0, (double)e->height);
        kw__table_number(table, 0, (double)e->num_frames);
        kw__table_number(table, 0, (double)e->num_inference_steps);
        unit_cells(table, e);
        kw__table_text(table, e->kind == PUBLISHED ? (e->basis ? e->basis : "measured") : "predicted");
        kw__table_text(table, e->note);
    }
}

static void text_table(struct kw__table *table, const struct comparison *c)
{
    static const struct kw__column columns[] = {
        {.title = "Model"},
        {.title = "Source"},
        {.title = "Size", .align = KW__ALIGN_RIGHT},
        {.title = "Frames", .align = KW__ALIGN_RIGHT},
        {.title = "Steps", .align = KW__ALIGN_RIGHT},
    };
    char buffer[64];
    kw__table_init(table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(table, &columns[i]);
    add_units(table);
    for (size_t i = 0; i < c->count; i++) {
        const struct entry *e = &c->entries[i];
        kw__table_row(table);
        kw__table_text(table, e->model);
        snprintf(buffer, sizeof buffer, e->kind == PUBLISHED ? "[%d]" : "as [%d]", e->reference);
        kw__table_text(table, e->kind == PREDICTED ? "predicted" : buffer);
        snprintf(buffer, sizeof buffer, "%" PRId64 " x %" PRId64, e->width, e->height);
        kw__table_text(table, buffer);
        kw__table_number(table, 0, (double)e->num_frames);
        kw__table_number(table, 0, (double)e->num_inference_steps);
        unit_cells(table, e);
    }
}

static void put_settings(struct kw__out *out, const struct comparison *c)
{
    const struct kw__options *options = c->options;
    const char *by_default = " (default)";
    size_t first = 0; /* of ours; published rows name no stack */
    while (first < c->count && !c->entries[first].stack) first++;
    if (first == c->count) {
        kw__out_puts(out, "Published only: the models are not built in\n\n");
        return;
    }
    kw__out_puts(out, "Predicted for ");
    kw__cli_put(out, c->entries[first].hardware);
    kw__out_printf(out, "%s with ", options->predict.hardware ? "" : by_default);
    kw__cli_put(out, c->entries[first].stack);
    kw__out_printf(out, "%s, method %s%s\n\n", options->predict.stack ? "" : by_default,
                   kw_method_name(options->predict.method), options->method ? "" : by_default);
}

static void put_references(struct kw__out *out, const struct comparison *c)
{
    bool computed = false;
    for (size_t i = 0; i < c->count; i++) computed = computed || c->entries[i].basis;
    if (computed) kw__out_puts(out, "\n~ computed from runs with fewer steps, not measured\n");
    if (c->num_references) kw__out_puts(out, "\nPublished\n");
    for (size_t i = 0; i < c->num_references; i++) {
        const struct reference *r = &c->references[i];
        kw__out_printf(out, "  [%zu] %s.csv on ", i + 1, r->dataset);
        kw__cli_put(out, r->gpu);
        kw__out_puts(out, ": ");
        kw__cli_put(out, r->source);
        if (r->stack) {
            kw__out_printf(out, "; as [%zu]: predicted with ", i + 1);
            kw__cli_put(out, r->stack);
        }
        kw__out_puts(out, "\n");
    }
    bool any = false;
    for (size_t i = 0; i < c->count; i++) {
        const struct entry *e = &c->entries[i];
        if (!e->note) continue;
        struct kw__out line;
        kw__out_init(&line);
        kw__out_printf(&line, "%s [%d]: %s", e->model, e->reference, e->note);
        if (!any) kw__out_puts(out, "\nNotes\n");
        any = true;
        kw__cli_put_item(out, line.data ? line.data : e->note);
        kw__out_free(&line);
    }
}

static void put_text(struct kw__out *out, const struct comparison *c)
{
    struct kw__table table;
    if (c->count) put_settings(out, c);
    text_table(&table, c);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    put_references(out, c);
}

static json_t *entry_json(const struct entry *e)
{
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"width", e->width},
                 {"height", e->height},
                 {"num_frames", e->num_frames},
                 {"num_inference_steps", e->num_inference_steps},
                 {"batch_size", e->batch_size}};
    json_t *row = json_object(), *warnings = json_array();
    json_object_set_new(row, "model", kw__cli_string(e->model));
    json_object_set_new(row, "source", kw__cli_string(e->source));
    json_object_set_new(row, "hardware", kw__cli_string(e->hardware));
    json_object_set_new(row, "stack", kw__cli_string(e->stack));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        json_object_set_new(row, sizes[i].name, json_integer((json_int_t)sizes[i].value));
    json_object_set_new(row, "fps", kw__cli_number(e->fps));
    json_object_set_new(row, "latency_s", kw__cli_number(e->latency_s));
    json_object_set_new(row, "gpu_energy_j", kw__cli_number(e->gpu_energy_j));
    for (size_t i = 0; i < NUM_UNITS; i++) {
        double amount = units[i].amount(e);
        char name[64];
        snprintf(name, sizeof name, "per_%s", units[i].suffix);
        json_object_set_new(row, name,
                            json_pack("{s:o, s:o}", "latency_s", kw__cli_number(e->latency_s / amount),
                                      "gpu_energy_wh", kw__cli_number(e->gpu_energy_j / 3600 / amount)));
    }
    for (size_t i = 0; i < e->num_warnings; i++)
        json_array_append_new(warnings, kw__cli_string(e->warnings[i]));
    json_object_set_new(row, "basis",
                        kw__cli_string(e->kind != PUBLISHED ? "predicted"
                                       : e->basis           ? e->basis
                                                            : "measured"));
    json_object_set_new(row, "note", kw__cli_string(e->note));
    json_object_set_new(row, "warnings", warnings);
    return row;
}

static int print_json(const struct comparison *c)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < c->count; i++) json_array_append_new(rows, entry_json(&c->entries[i]));
    return kw__cli_emit_json(c->options,
                             json_pack("{s:s, s:s, s:o}", "schema", "kinowatt.comparison/1", "method",
                                       kw_method_name(c->options->predict.method), "rows", rows));
}

/* Whether entries before `index` have this warning: many models share a stack and a calibration. */
static bool warned(const struct comparison *c, size_t index, const char *warning)
{
    for (size_t i = 0; i < index; i++)
        for (size_t j = 0; j < c->entries[i].num_warnings; j++)
            if (strcmp(c->entries[i].warnings[j], warning) == 0) return true;
    return false;
}

static int print(const struct comparison *c)
{
    if (c->options->json) return print_json(c);
    struct kw__out out;
    kw__out_init(&out);
    if (c->options->csv) {
        struct kw__table table;
        csv_table(&table, c);
        kw__table_render_csv(&table, &out);
        kw__table_free(&table);
    } else {
        put_text(&out, c);
    }
    int code = kw__cli_emit(c->options, &out);
    for (size_t i = 0; !code && i < c->count; i++)
        for (size_t j = 0; j < c->entries[i].num_warnings; j++)
            if (!warned(c, i, c->entries[i].warnings[j])) kw__cli_warn("%s", c->entries[i].warnings[j]);
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
    struct comparison comparison = {.catalog = catalog, .options = &options};
    kw_error err = {0};
    kw__arena_init(&comparison.arena);
    code = collect(&comparison, &err) ? kw__cli_fail(&err) : print(&comparison);
    for (size_t s = 0; s < NUM_PUBLICATIONS; s++) kw__dataset_close(comparison.sets[s]);
    kw__arena_free(&comparison.arena);
    kw_catalog_close(catalog);
    return code;
}
