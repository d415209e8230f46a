/* kinowatt models: the built-in models, or one model in detail. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "cli/cli.h"

static const struct kw__usage usage = {
    .name = "models",
    .synopsis = "[MODEL]",
    .about = "Lists the built-in models with their default requests. With a name, or a folder in diffusers\n"
             "layout, shows that model: its components, and the work of the default request.",
    .sets = KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .most = 1,
};

enum { TEXT_ENCODER, DENOISER, DECODER, ALL };
static const char *const component_names[] = {"text_encoder", "denoiser", "decoder", "total"};

/* A model as the list shows it. The strings of `info` belong to `model`. */
struct entry {
    kw_model *model;
    kw_model_info info;
    kw_effective defaults;
};

static kw_status open_entry(const kw_catalog *catalog, const char *name, struct entry *out, kw_error *err)
{
    const kw_request request = KW_REQUEST_INIT;
    *out = (struct entry){.info.struct_size = sizeof out->info};
    kw_status status = kw_model_open(catalog, name, &out->model, err);
    if (!status) status = kw_model_info_get(out->model, &out->info, err);
    if (!status) status = kw_request_resolve(out->model, &request, &out->defaults, err);
    return status;
}

static const char *format_count(char *buffer, double count)
{
    if (isnan(count))
        snprintf(buffer, KW__FORMAT_SIZE, "\xE2\x80\x93");
    else if (count >= 1e9)
        snprintf(buffer, KW__FORMAT_SIZE, "%.2f B", count / 1e9);
    else
        snprintf(buffer, KW__FORMAT_SIZE, "%.1f M", count / 1e6);
    return buffer;
}

static json_t *entry_json(const struct entry *entry)
{
    const kw_model_info *info = &entry->info;
    json_t *parameters = json_object();
    for (int i = TEXT_ENCODER; i <= ALL; i++)
        json_object_set_new(parameters, component_names[i], json_integer((json_int_t)info->parameters[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", kw__cli_string(info->name), "pipeline",
                     kw__cli_string(info->pipeline), "hub_id", kw__cli_string(info->hub_id), "note",
                     kw__cli_string(info->note), "parameters", parameters, "defaults",
                     kw__cli_request(&entry->defaults));
}

/* ---- The list ---- */

static void list_columns(struct kw__table *table)
{
    static const struct kw__column columns[] = {
        {.title = "Model", .name = "model"},
        {.title = "Pipeline", .name = "pipeline"},
        {.title = "Text encoder",
         .name = "text_encoder_parameters",
         .group = "Parameters",
         .align = KW__ALIGN_RIGHT},
        {.title = "Denoiser", .name = "denoiser_parameters", .group = "Parameters", .align = KW__ALIGN_RIGHT},
        {.title = "Decoder", .name = "decoder_parameters", .group = "Parameters", .align = KW__ALIGN_RIGHT},
        {.title = "Width", .name = "width", .group = "Default request", .align = KW__ALIGN_RIGHT},
        {.title = "Height", .name = "height", .group = "Default request", .align = KW__ALIGN_RIGHT},
        {.title = "Frames", .name = "num_frames", .group = "Default request", .align = KW__ALIGN_RIGHT},
        {.title = "Fps", .name = "fps", .group = "Default request", .align = KW__ALIGN_RIGHT},
        {.title = "Steps",
         .name = "num_inference_steps",
         .group = "Default request",
         .align = KW__ALIGN_RIGHT},
        {.title = "Guidance", .name = "guidance_scale", .group = "Default request", .align = KW__ALIGN_RIGHT},
        {.title = "Tokens", .name = "tokens", .group = "Default request", .align = KW__ALIGN_RIGHT},
    };
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(table, &columns[i]);
}

static void list_row(struct kw__table *table, const struct entry *entry)
{
    char buffer[KW__FORMAT_SIZE];
    const kw_effective *r = &entry->defaults;
    kw__table_row(table);
    kw__table_text(table, entry->info.name);
    kw__table_text(table, entry->info.pipeline);
    for (int i = TEXT_ENCODER; i <= DECODER; i++) {
        double count = (double)entry->info.parameters[i];
        kw__table_value(table, format_count(buffer, count), count);
    }
    kw__table_number(table, 0, (double)r->width);
    kw__table_number(table, 0, (double)r->height);
    kw__table_number(table, 0, (double)r->num_frames);
    snprintf(buffer, sizeof buffer, "%g", r->fps);
    kw__table_value(table, buffer, r->fps);
    kw__table_number(table, 0, (double)r->num_inference_steps);
    snprintf(buffer, sizeof buffer, "%g", r->guidance_scale);
    kw__table_value(table, buffer, r->guidance_scale);
    kw__table_number(table, 0, (double)r->tokens);
}

static void put_note(struct kw__out *out, const kw_model_info *info)
{
    if (!info->note) return;
    if (!out->len) kw__out_puts(out, "\n");
    kw__cli_put(out, info->name);
    kw__out_puts(out, ": ");
    kw__cli_put(out, info->note);
    kw__out_puts(out, "\n");
}

static int list(const kw_catalog *catalog, const struct kw__options *options)
{
    struct kw__table table;
    struct kw__out notes;
    json_t *models = json_array();
    kw_error err = {0};
    kw_status status = KW_OK;
    kw__out_init(&notes);
    kw__table_init(&table);
    list_columns(&table);
    for (size_t i = 0; !status && i < kw_catalog_count(catalog, KW_MODELS); i++) {
        struct entry entry;
        status = open_entry(catalog, kw_catalog_name(catalog, KW_MODELS, i), &entry, &err);
        if (!status) {
            list_row(&table, &entry);
            put_note(&notes, &entry.info);
            json_array_append_new(models, entry_json(&entry));
        }
        kw_model_close(entry.model);
    }
    if (!status && options->json) {
        kw__table_free(&table);
        kw__out_free(&notes);
        return kw__cli_emit_json(options,
                                 json_pack("{s:s, s:o}", "schema", "kinowatt.models/1", "models", models));
    }
    json_decref(models);
    struct kw__out out;
    kw__out_init(&out);
    if (!status && options->csv) kw__table_render_csv(&table, &out);
    if (!status && !options->csv) {
        kw__table_render_text(&table, &out);
        kw__out_write(&out, notes.data ? notes.data : "", notes.len);
        out.failed = out.failed || notes.failed;
    }
    kw__table_free(&table);
    kw__out_free(&notes);
    return status ? kw__cli_fail(&err) : kw__cli_emit(options, &out);
}

/* ---- One model ---- */

/* One row for each phase of each stage: what is called how often, and its work. */
static void phases_table(struct kw__table *table, const kw_prediction *p)
{
    static const struct kw__column columns[] = {
        {.title = "Stage", .name = "stage"},
        {.title = "Phase", .name = "phase"},
        {.title = "Calls", .name = "calls", .align = KW__ALIGN_RIGHT},
        {.title = "FLOPs of one", .name = "flop_per_call", .align = KW__ALIGN_RIGHT},
        {.title = "FLOPs", .name = "flop", .align = KW__ALIGN_RIGHT},
    };
    char buffer[KW__FORMAT_SIZE];
    kw__table_init(table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(table, &columns[i]);
    for (size_t s = 0; s < p->num_stages; s++) {
        for (size_t i = 0; i < p->stages[s].num_phases; i++) {
            const kw_phase *phase = &p->stages[s].phases[i];
            double calls = (double)phase->calls;
            kw__table_row(table);
            kw__table_text(table, p->stages[s].name);
            kw__table_text(table, phase->name);
            kw__table_number(table, 0, calls);
            kw__table_value(table, kw__format_flop(buffer, phase->flop), phase->flop);
            kw__table_value(table, kw__format_flop(buffer, calls * phase->flop), calls * phase->flop);
        }
    }
    kw__table_row_ruled(table);
    kw__table_text(table, "total");
    kw__table_text(table, "");
    kw__table_text(table, "");
    kw__table_text(table, "");
    kw__table_value(table, kw__format_flop(buffer, p->total.flop), p->total.flop);
}

static json_t *phases_json(const kw_prediction *p)
{
    json_t *stages = json_array();
    for (size_t s = 0; s < p->num_stages; s++) {
        json_t *phases = json_array();
        for (size_t i = 0; i < p->stages[s].num_phases; i++) {
            const kw_phase *phase = &p->stages[s].phases[i];
            json_array_append_new(phases,
                                  json_pack("{s:s, s:I, s:o}", "name", phase->name, "calls",
                                            (json_int_t)phase->calls, "flop", kw__cli_number(phase->flop)));
        }
        json_array_append_new(stages, json_pack("{s:s, s:o, s:o}", "name", p->stages[s].name, "flop",
                                                kw__cli_number(p->stages[s].flop), "phases", phases));
    }
    return stages;
}

static void put_model(struct kw__out *out, const struct entry *entry, const struct kw__table *phases)
{
    const kw_model_info *info = &entry->info;
    char buffer[KW__FORMAT_SIZE];
    kw__out_puts(out, "Model     ");
    kw__cli_put(out, info->name);
    kw__out_puts(out, ", ");
    kw__cli_put(out, info->pipeline);
    if (info->hub_id) {
        kw__out_puts(out, ", ");
        kw__cli_put(out, info->hub_id);
    }
    if (info->note) {
        kw__out_puts(out, "\n          ");
        kw__cli_put(out, info->note);
    }
    kw__out_printf(out, "\nWeights   text encoder %s",
                   format_count(buffer, (double)info->parameters[TEXT_ENCODER]));
    kw__out_printf(out, ", denoiser %s", format_count(buffer, (double)info->parameters[DENOISER]));
    kw__out_printf(out, ", decoder %s", format_count(buffer, (double)info->parameters[DECODER]));
    kw__out_printf(out, ", together %s parameters\n", format_count(buffer, (double)info->parameters[ALL]));
    kw__cli_put_request(out, &entry->defaults);
    kw__out_puts(out, "          all of it the model's defaults\n\n");
    kw__table_render_text(phases, out);
}

static int show(const kw_catalog *catalog, const struct kw__options *options)
{
    struct entry entry;
    kw_prediction *p = NULL;
    kw_error err = {0};
    kw_status status = open_entry(catalog, options->args[0], &entry, &err);
    /* FLOPs of the reference graph: any hardware and method would do. */
    if (!status) status = kw_predict(catalog, entry.model, &options->request, &options->predict, &p, &err);
    int code = KW__EXIT_OK;
    if (status) {
        code = kw__cli_fail(&err);
    } else if (options->json) {
        json_t *document = entry_json(&entry);
        json_t *all = json_pack("{s:s, s:o, s:o}", "schema", "kinowatt.model/1", "flop",
                                kw__cli_number(p->total.flop), "stages", phases_json(p));
        json_object_update_missing(all, document);
        json_decref(document);
        code = kw__cli_emit_json(options, all);
    } else {
        struct kw__table phases;
        struct kw__out out;
        phases_table(&phases, p);
        kw__out_init(&out);
        if (options->csv)
            kw__table_render_csv(&phases, &out);
        else
            put_model(&out, &entry, &phases);
        kw__table_free(&phases);
        code = kw__cli_emit(options, &out);
    }
    kw_prediction_free(p);
    kw_model_close(entry.model);
    return code;
}

int kw__cmd_models(int argc, char **argv)
{
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = options.n_args ? show(catalog, &options) : list(catalog, &options);
    kw_catalog_close(catalog);
    return code;
}
