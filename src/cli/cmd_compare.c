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

#include "base/error.h"
#include "cli/compare.h"

static const struct kw__usage usage_base = {
    .name = "compare",
    .synopsis = "[MODEL...]",
    .about =
        "Puts models side by side: latency and GPU energy per clip, per second of video and per\n"
        "megapixel-frame, predicted and as others measured them, energy by device, and the ranks among\n"
        "what one source has, with those that the intervals allow. Without names: all published models and\n"
        "all built-in ones but the -nano ones, which are no real models. A request given here changes the\n"
        "models' defaults, and leaves out the published rows, which have their own.",
    .sets =
        KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .most = 256,
};

/* The data sets with whole pipelines, and the stack that predicts them unless --stack names one. */
static const struct {
    const char *name, *stack;
} publications[KW__COMPARE_SETS] = {
    {"delavande2025_models", "diffusers-0.34"},
    {"h200_diffusers_full", "diffusers-0.40"},
    {"h200_diffusers040", "diffusers-0.40"},
    {"mlenergy_v3_one_gpu", NULL}, /* xDiT: none of ours is it */
};
/* ---- Collecting ---- */

/* Copies the entry with its strings. */
static kw_status append(struct kw__comparison *c, struct kw__compare_entry entry, const char *const *warnings,
                        kw_error *err)
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

static kw_status add_predicted(struct kw__comparison *c, const kw_model *model, const kw_request *request,
                               const kw_predict_options *options, int reference, kw_error *err)
{
    kw_prediction *p;
    kw_status status = kw_predict(c->catalog, model, request, options, &p, err);
    if (status) return status;
    const kw_effective *r = &p->request;
    struct kw__compare_entry entry = {.kind = reference ? KW__COMPARE_AS : KW__COMPARE_PREDICTED,
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
                                      .latency_s = p->total.latency_s,
                                      .num_warnings = p->num_warnings};
    for (int d = 0; d < KW_NUM_DEVICES; d++) entry.energy_j[d] = p->total.energy_j[d];
    status = append(c, entry, p->warnings, err);
    kw_prediction_free(p);
    return status;
}

/* The number of a data set's rows on one GPU, entered when it is new; 0 without memory. */
static int refer(struct kw__comparison *c, size_t set, const struct kw__row *row)
{
    const char *dataset = publications[set].name;
    for (size_t i = 0; i < c->num_references; i++)
        if (c->references[i].dataset == dataset && strcmp(c->references[i].gpu, row->gpu) == 0)
            return (int)i + 1;
    struct kw__compare_reference *list =
        kw__arena_grow(&c->arena, c->references, c->num_references, &c->reference_capacity, sizeof *list);
    if (!list) return 0;
    c->references = list;
    list[c->num_references++] = (struct kw__compare_reference){dataset, row->gpu, row->source, NULL};
    return (int)c->num_references;
}

/* A calibration that was named is of one stack on one hardware; rows of others are predicted by theirs. */
static bool is_calibrated(const struct kw__comparison *c, const char *stack, const kw_hardware *hardware)
{
    return c->calibration && kw__hardware_is(hardware, c->calibration->hardware) &&
           (!stack || strcmp(stack, c->calibration->stack) == 0);
}

/* The request of a row, predicted on its hardware where there is a profile of it, and as it ran. */
static kw_status add_beside(struct kw__comparison *c, size_t set, const kw_model *model,
                            const struct kw__row *row, int reference, kw_error *err)
{
    kw_hardware *hardware;
    if (kw_hardware_open(c->catalog, row->gpu, &hardware, NULL)) return KW_OK;
    kw_request request = kw__row_request(row);
    kw_predict_options options = c->options->predict;
    options.hardware = row->gpu;
    if (!options.stack) options.stack = publications[set].stack;
    if (!is_calibrated(c, options.stack, hardware)) options.calibration = NULL;
    kw_hardware_close(hardware);
    if (!kw__offloads_as(row->offload, c->catalog, model, options.stack)) return KW_OK;
    kw_status status = add_predicted(c, model, &request, &options, reference, err);
    if (!status) c->references[reference - 1].stack = c->entries[c->count - 1].stack;
    return status;
}

/* A figure and its runs' standard deviation, NaN when that is not known. */
static kw_reading spread(double value, double sd, double factor)
{
    const double quantile = 1.6449; /* 90 % */
    double half = sd > 0 ? quantile * sd : 0;
    if (isnan(value)) return (kw_reading){NAN, NAN, NAN, KW_ABSENT, "it was not published"};
    return (kw_reading){value * factor, (value - half) * factor, (value + half) * factor, KW_MEASURED, NULL};
}

/* `model` NULL: it is not built in, and its frame rate is not known. */
static kw_status add_published(struct kw__comparison *c, size_t set, const struct kw__row *row,
                               const kw_model *model, kw_error *err)
{
    struct kw__compare_entry entry = {.kind = KW__COMPARE_PUBLISHED,
                                      .reference = refer(c, set, row),
                                      .model = row->model,
                                      .hardware = row->gpu,
                                      .source = publications[set].name,
                                      .note = row->note,
                                      .basis = kw__row_measured(row) ? NULL : row->basis,
                                      .offload = kw__offloaded(row->offload),
                                      .width = row->width,
                                      .height = row->height,
                                      .num_frames = row->frames_out ? row->frames_out : row->frames,
                                      .num_inference_steps = row->steps,
                                      .batch_size = row->batch_size,
                                      .fps = NAN,
                                      .latency_s = spread(row->latency_s, row->latency_sd_s, 1)};
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        entry.energy_j[d] = spread(row->energy_wh[d], row->energy_sd_wh[d], 3600);
    if (model) {
        const kw_request request = kw__row_request(row);
        kw_effective effective;
        kw_status status = kw_request_resolve(model, &request, &effective, err);
        if (status) return status;
        entry.width = effective.width;
        entry.height = effective.height;
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

static bool same_run(const kw_model *model, const struct kw__row *a, const struct kw__row *b)
{
    const kw_request requests[2] = {kw__row_request(a), kw__row_request(b)};
    kw_effective runs[2];
    for (int i = 0; i < 2; i++)
        if (kw_request_resolve(model, &requests[i], &runs[i], NULL)) return false;
    return kw__same_run(&runs[0], &runs[1]);
}

/* Of a data set with many sizes, those that another one has too. */
static bool is_compared(const struct kw__comparison *c, size_t set, const struct kw__row *row,
                        const kw_model *model)
{
    if (strcmp(publications[set].name, "h200_diffusers_full") != 0) return true;
    for (size_t s = 0; s < KW__COMPARE_SETS; s++)
        for (size_t i = 0; s != set && i < c->sets[s]->num_rows; i++) {
            const struct kw__row *other = &c->sets[s]->rows[i];
            if (is_pipeline(other) && strcmp(other->model, row->model) == 0 && same_run(model, row, other))
                return true;
        }
    return false;
}

static kw_status add_model(struct kw__comparison *c, const char *name, kw_error *err)
{
    kw_model *model;
    kw_status status = kw_model_open(c->catalog, name, &model, err);
    if (status) return status;
    status = add_predicted(c, model, &c->options->request, &c->options->predict, 0, err);
    for (size_t s = 0; s < KW__COMPARE_SETS; s++)
        for (size_t i = 0; !status && c->sets[s] && i < c->sets[s]->num_rows; i++) {
            const struct kw__row *row = &c->sets[s]->rows[i];
            if (is_pipeline(row) && strcmp(row->model, name) == 0 && is_compared(c, s, row, model))
                status = add_published(c, s, row, model, err);
        }
    kw_model_close(model);
    return status;
}

/* Published rows of models that are not built in; of one of them when `name` is given. *found counts them. */
static kw_status add_others(struct kw__comparison *c, const char *name, size_t *found, kw_error *err)
{
    kw_status status = KW_OK;
    *found = 0;
    for (size_t s = 0; s < KW__COMPARE_SETS; s++)
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
           r->guidance_scale == d.guidance_scale && r->guidance_scale_2 == d.guidance_scale_2 &&
           r->prompt_tokens == d.prompt_tokens && r->negative_tokens == d.negative_tokens &&
           r->flow_shift == d.flow_shift && r->fps == d.fps && r->power_limit_w == d.power_limit_w;
}

/* A model that can be predicted, or one of which only published rows are known. */
static kw_status add_named(struct kw__comparison *c, const char *name, kw_error *err)
{
    kw_status status = add_model(c, name, err);
    if (status != KW_ERROR_NOT_FOUND) return status;
    size_t found;
    kw_error ignored;
    kw_status others = add_others(c, name, &found, &ignored);
    return others || !found ? status : KW_OK;
}

/* A small twin of a real model, to try things with: among real ones its figures only mislead. */
static bool is_toy(const char *name)
{
    static const char suffix[] = "-nano";
    size_t length = strlen(name), end = sizeof suffix - 1;
    return length > end && strcmp(name + length - end, suffix) == 0;
}

static kw_status collect(struct kw__comparison *c, kw_error *err)
{
    const struct kw__options *options = c->options;
    kw_status status = KW_OK;
    for (size_t s = 0; !status && is_default(&options->request) && s < KW__COMPARE_SETS; s++)
        status = kw__dataset_open(c->catalog, publications[s].name, &c->sets[s], err);
    for (size_t i = 0; !status && i < options->n_args; i++) status = add_named(c, options->args[i], err);
    if (status || options->n_args) return status;
    for (size_t i = 0; !status && i < kw_catalog_count(c->catalog, KW_MODELS); i++) {
        const char *name = kw_catalog_name(c->catalog, KW_MODELS, i);
        if (!is_toy(name)) status = add_model(c, name, err);
    }
    size_t found;
    return status ? status : add_others(c, NULL, &found, err);
}

/* ---- Printing ---- */

static json_t *reading_json(const kw_reading *r)
{
    return json_pack("{s:o, s:o, s:o}", "value", kw__cli_number(r->value), "low", kw__cli_number(r->low),
                     "high", kw__cli_number(r->high));
}

/* null: there is nothing to rank it among */
static json_t *rank_json(const struct kw__compare_rank *r)
{
    if (!r->value) return json_null();
    return json_pack("{s:i, s:i, s:i, s:i}", "value", r->value, "low", r->low, "high", r->high, "of", r->of);
}

static json_t *entry_json(const struct kw__compare_entry *e)
{
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"width", e->width},
                 {"height", e->height},
                 {"num_frames", e->num_frames},
                 {"num_inference_steps", e->num_inference_steps},
                 {"batch_size", e->batch_size}};
    json_t *row = json_object(), *warnings = json_array(), *energy = json_object(), *shares = json_object();
    json_object_set_new(row, "model", kw__cli_string(e->model));
    json_object_set_new(row, "source", kw__cli_string(e->source));
    json_object_set_new(row, "hardware", kw__cli_string(e->hardware));
    json_object_set_new(row, "stack", kw__cli_string(e->stack));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        json_object_set_new(row, sizes[i].name, json_integer((json_int_t)sizes[i].value));
    json_object_set_new(row, "fps", kw__cli_number(e->fps));
    json_object_set_new(row, "latency_s", kw__cli_number(e->latency_s.value));
    json_object_set_new(row, "gpu_energy_j", kw__cli_number(e->energy_j[KW_GPU].value));
    json_object_set_new(row, "latency", reading_json(&e->latency_s));
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        json_object_set_new(energy, kw_device_name(d), reading_json(&e->energy_j[d]));
        json_object_set_new(shares, kw_device_name(d), kw__cli_number(kw__compare_share(e, d)));
    }
    json_object_set_new(row, "energy_j", energy);
    json_object_set_new(row, "energy_share", shares);
    for (int u = 0; u < KW__COMPARE_UNITS; u++) {
        char name[64];
        snprintf(name, sizeof name, "per_%s", kw__compare_units[u].suffix);
        json_object_set_new(row, name,
                            json_pack("{s:o, s:o, s:o, s:o}", "latency_s",
                                      kw__cli_number(kw__compare_figure(e, u, KW__COMPARE_LATENCY).value),
                                      "gpu_energy_wh",
                                      kw__cli_number(kw__compare_figure(e, u, KW__COMPARE_ENERGY).value),
                                      "latency_rank", rank_json(&e->ranks[u][KW__COMPARE_LATENCY]),
                                      "gpu_energy_rank", rank_json(&e->ranks[u][KW__COMPARE_ENERGY])));
    }
    for (size_t i = 0; i < e->num_warnings; i++)
        json_array_append_new(warnings, kw__cli_string(e->warnings[i]));
    json_object_set_new(row, "basis",
                        kw__cli_string(e->kind != KW__COMPARE_PUBLISHED ? "predicted"
                                       : e->basis                       ? e->basis
                                                                        : "measured"));
    json_object_set_new(row, "note", kw__cli_string(e->note));
    json_object_set_new(row, "warnings", warnings);
    return row;
}

static int print_json(const struct kw__comparison *c)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < c->count; i++) json_array_append_new(rows, entry_json(&c->entries[i]));
    return kw__cli_emit_json(c->options,
                             json_pack("{s:s, s:s, s:o}", "schema", "kinowatt.comparison/1", "method",
                                       kw_method_name(c->options->predict.method), "rows", rows));
}

/* Whether entries before `index` have this warning: many models share a stack and a calibration. */
static bool warned(const struct kw__comparison *c, size_t index, const char *warning)
{
    for (size_t i = 0; i < index; i++)
        for (size_t j = 0; j < c->entries[i].num_warnings; j++)
            if (strcmp(c->entries[i].warnings[j], warning) == 0) return true;
    return false;
}

static kw_status write_svg(struct kw__comparison *c, const char *path, kw_error *err)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__compare_svg(&out, c);
    kw_status status = kw__out_write_file(&out, path, err);
    kw__out_free(&out);
    return status;
}

static int print(const struct kw__comparison *c)
{
    if (c->options->json) return print_json(c);
    struct kw__out out;
    kw__out_init(&out);
    if (c->options->csv) {
        struct kw__table table;
        kw__compare_csv(&table, c);
        kw__table_render_csv(&table, &out);
        kw__table_free(&table);
    } else {
        kw__compare_text(&out, c);
    }
    int code = kw__cli_emit(c->options, &out);
    for (size_t i = 0; !code && i < c->count; i++)
        for (size_t j = 0; j < c->entries[i].num_warnings; j++)
            if (!warned(c, i, c->entries[i].warnings[j])) kw__cli_warn("%s", c->entries[i].warnings[j]);
    return code;
}

int kw__cmd_compare(int argc, char **argv)
{
    const char *svg = NULL;
    const struct kw__option extra[] = {
        {"svg", 0, KW__OPTION_TEXT, "FILE", "write a figure there: all sources, on a log scale", &svg}};
    struct kw__usage usage = usage_base;
    usage.extra = extra;
    usage.n_extra = sizeof extra / sizeof extra[0];
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    struct kw__comparison comparison = {.catalog = catalog, .options = &options};
    kw_error err = {0};
    kw__arena_init(&comparison.arena);
    const char *named = options.predict.calibration;
    kw_status status = named ? kw__calibration_open(catalog, named, &comparison.calibration, &err) : KW_OK;
    if (!status) status = collect(&comparison, &err);
    if (!status) kw__compare_rank(&comparison);
    if (!status && svg) status = write_svg(&comparison, svg, &err);
    code = status ? kw__cli_fail(&err) : print(&comparison);
    for (size_t s = 0; s < KW__COMPARE_SETS; s++) kw__dataset_close(comparison.sets[s]);
    kw__calibration_close(comparison.calibration);
    kw__arena_free(&comparison.arena);
    kw_catalog_close(catalog);
    return code;
}
