/*
 * kinowatt runs export: runs for other programs and for `kinowatt import`.
 *
 *   kinowatt    everything, schema kinowatt.runs/1, one run a line; with --csv one row for each window
 *   codecarbon  CodeCarbon's emissions.csv (3.3): kWh, kg, W, s. energy_consumed adds up the devices whose
 *               columns are not empty; emissions are there with --carbon-intensity alone. What was imported
 *               from such a file comes out as it stood there
 *   mlenergy    the ML.ENERGY leaderboard's JSON (3.0): GPU energy and power of a batch
 *
 * The last two have no place to say that a run was a warm-up, failed, computed or flagged by the linter:
 * those are left out unless they are named or --all is given, and counted by why.
 *
 * Runs are read and written some at a time, so any number may be exported. A file appears whole or not at
 * all; what goes to stdout goes as it comes. What is not known is empty or null, never 0.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/number.h"
#include "base/time.h"
#include "base/uuid.h"
#include "cli/runs_export.h"
#include "store/fields.h"
#include "store/import.h"
#include "store/run_json.h"

static const double j_per_kwh = 3.6e6;

/* ---- Ours -------------------------------------------------------------------------------------------- */

static void put_json(struct kw__export *e, const struct kw__run *run, const struct kw__finding *findings,
                     size_t count)
{
    kw__out_puts(&e->out, "\n");
    kw__run_put_json(&e->out, run, 0, findings, count);
}

/* Nothing for NaN. */
static void put_figure(struct kw__out *out, double value)
{
    char text[KW__FORMAT_SIZE];
    if (isfinite(value)) kw__out_write(out, text, kw__number_exact(text, value));
}

static void put_number(struct kw__out *out, double value)
{
    kw__out_puts(out, ",");
    put_figure(out, value);
}

static void put_text(struct kw__out *out, const char *text)
{
    kw__out_puts(out, ",");
    kw__out_csv(out, text);
}

static void put_fields(struct kw__out *out, const struct kw__fields *fields, const void *base)
{
    for (size_t i = 0; i < fields->count; i++) {
        struct kw__field_value value = kw__field_get(&fields->fields[i], base);
        switch (value.type) {
        case KW__VALUE_NONE: kw__out_puts(out, ","); break;
        case KW__VALUE_TEXT: put_text(out, value.text); break;
        case KW__VALUE_WHOLE: kw__out_printf(out, ",%" PRId64, value.whole); break;
        case KW__VALUE_REAL: put_number(out, value.real); break;
        }
    }
}

static void put_windows_header(struct kw__out *out)
{
    kw__out_puts(out, "window");
    for (size_t i = 0; i < kw__window_fields.count; i++)
        kw__out_printf(out, ",window_%s", kw__window_fields.fields[i].name);
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            const char *device = kw_device_name(d), *name = kw__quantities[q].name;
            kw__out_printf(out, ",%s_%s,%s_%s_low,%s_%s_high,%s_%s_status", device, name, device, name,
                           device, name, device, name);
        }
    for (size_t i = 0; i < kw__run_fields.count; i++)
        kw__out_printf(out, ",%s", kw__run_fields.fields[i].name);
    kw__out_puts(out, ",findings\n");
}

static void put_windows(struct kw__export *e, const struct kw__run *run, const struct kw__finding *findings,
                        size_t count)
{
    struct kw__out *out = &e->out, codes, of_run; /* the latter stands in each window's row */
    kw__out_init(&codes);
    kw__out_init(&of_run);
    for (size_t i = 0; i < count; i++) kw__out_printf(&codes, "%s%s", i ? " " : "", findings[i].code);
    put_fields(&of_run, &kw__run_fields, run);
    put_text(&of_run, codes.data);
    kw__out_puts(&of_run, "\n");
    for (size_t i = 0; i < run->num_windows; i++) {
        kw__out_printf(out, "%zu", i);
        put_fields(out, &kw__window_fields, &run->windows[i]);
        for (int q = 0; q < KW__NUM_QUANTITIES; q++)
            for (int d = 0; d < KW_NUM_DEVICES; d++) {
                const kw_reading *r = kw__quantity_of(&run->windows[i], q, d);
                put_number(out, r->value);
                put_number(out, r->low);
                put_number(out, r->high);
                put_text(out, kw__reading_status_name(r->status));
            }
        kw__out_write(out, of_run.data, of_run.len);
    }
    out->failed = out->failed || codes.failed || of_run.failed;
    kw__out_free(&codes);
    kw__out_free(&of_run);
}

/* ---- CodeCarbon -------------------------------------------------------------------------------------- */

/* Columns that a run of ours has something for, and the others, which are empty but in what was imported. */
enum carbon {
    OTHER,
    TIMESTAMP,
    PROJECT,
    RUN_ID,
    EXPERIMENT,
    DURATION,
    EMISSIONS,
    EMISSIONS_RATE,
    POWER,
    ENERGY,
    CONSUMED,
    CPU_COUNT,
    CPU_MODEL,
    GPU_COUNT,
    GPU_MODEL
};
static const struct {
    const char *name;
    enum carbon what;
    int device;
} carbon_columns[] = {{"timestamp", TIMESTAMP, 0},
                      {"project_name", PROJECT, 0},
                      {"run_id", RUN_ID, 0},
                      {"experiment_id", EXPERIMENT, 0},
                      {"duration", DURATION, 0},
                      {"emissions", EMISSIONS, 0},
                      {"emissions_rate", EMISSIONS_RATE, 0},
                      {"cpu_power", POWER, KW_CPU},
                      {"gpu_power", POWER, KW_GPU},
                      {"ram_power", POWER, KW_RAM},
                      {"cpu_energy", ENERGY, KW_CPU},
                      {"gpu_energy", ENERGY, KW_GPU},
                      {"ram_energy", ENERGY, KW_RAM},
                      {"energy_consumed", CONSUMED, 0},
                      {"water_consumed", OTHER, 0},
                      {"country_name", OTHER, 0},
                      {"country_iso_code", OTHER, 0},
                      {"region", OTHER, 0},
                      {"cloud_provider", OTHER, 0},
                      {"cloud_region", OTHER, 0},
                      {"os", OTHER, 0},
                      {"python_version", OTHER, 0},
                      {"codecarbon_version", OTHER, 0},
                      {"cpu_count", CPU_COUNT, 0},
                      {"cpu_model", CPU_MODEL, 0},
                      {"gpu_count", GPU_COUNT, 0},
                      {"gpu_model", GPU_MODEL, 0},
                      {"longitude", OTHER, 0},
                      {"latitude", OTHER, 0},
                      {"ram_total_size", OTHER, 0},
                      {"tracking_mode", OTHER, 0},
                      {"cpu_utilization_percent", OTHER, 0},
                      {"gpu_utilization_percent", OTHER, 0},
                      {"ram_utilization_percent", OTHER, 0},
                      {"ram_used_gb", OTHER, 0},
                      {"on_cloud", OTHER, 0},
                      {"pue", OTHER, 0},
                      {"wue", OTHER, 0}};
enum { CARBON_COLUMNS = sizeof carbon_columns / sizeof carbon_columns[0] };

/* The first channel of a device that has a name. */
static const char *channel_name(const struct kw__run *run, int device)
{
    for (size_t i = 0; i < run->num_channels; i++)
        if (run->channels[i].device == device && run->channels[i].name) return run->channels[i].name;
    return NULL;
}

static double num_gpus(const struct kw__run *run)
{
    size_t count = 0;
    if (run->request.num_gpus) return (double)run->request.num_gpus;
    for (size_t i = 0; i < run->num_channels; i++) count += run->channels[i].device == KW_GPU;
    return count ? (double)count : NAN;
}

/* What the GPU calls itself, or the file did that it came in, else the hardware that was named, where GPUs
 * were used at all. */
static const char *gpu_model(const struct kw__run *run)
{
    const char *name = channel_name(run, KW_GPU);
    if (!name) name = kw__run_setting(run, "run.gpu_as_named");
    if (name || isnan(num_gpus(run)) || (run->hardware && strcmp(run->hardware, "cpu") == 0)) return name;
    return run->hardware;
}

/* CodeCarbon's moment is the end, to the second and without a zone. Returns `buffer`. */
static const char *end_of(const struct kw__run *run, char buffer[32])
{
    double began_s, duration_s = run->windows[0].duration_s;
    buffer[0] = '\0';
    if (!kw__time_parse(run->began, &began_s)) return buffer;
    if (isfinite(duration_s)) began_s += duration_s;
    kw__time_format(round(began_s), buffer, 32);
    buffer[19] = '\0';
    return buffer;
}

/* The same for all runs of the same settings, which are what experiments consist of. */
static void put_experiment(struct kw__out *out, const struct kw__run *run)
{
    char uuid[37];
    struct kw__arena arena;
    kw__arena_init(&arena);
    const char *key = kw__run_key(run, &arena);
    if (key) {
        kw__hash_uuid(kw__hash_text(kw__hash_begin, key), uuid);
        kw__out_csv(out, uuid);
    } else
        out->failed = true;
    kw__arena_free(&arena);
}

/* Of all devices that are known. */
static double consumed_j(const struct kw__run_window *whole)
{
    double sum_j = NAN;
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        double energy_j = whole->energy_j[d].value;
        if (!isnan(energy_j)) sum_j = isnan(sum_j) ? energy_j : sum_j + energy_j;
    }
    return sum_j;
}

/* A column of a run of ours: its text, else its number. */
static void put_carbon(struct kw__out *out, const struct kw__export *e, const struct kw__run *run,
                       size_t column)
{
    const struct kw__run_window *whole = &run->windows[0];
    int d = carbon_columns[column].device;
    double emissions_kg = consumed_j(whole) / j_per_kwh * e->settings->carbon_intensity / 1000;
    char text[32];
    switch (carbon_columns[column].what) {
    case OTHER: break;
    case TIMESTAMP: kw__out_csv(out, end_of(run, text)); break;
    case PROJECT: kw__out_csv(out, run->dataset ? run->dataset : "kinowatt"); break;
    case RUN_ID: kw__out_csv(out, run->uuid); break;
    case EXPERIMENT: put_experiment(out, run); break;
    case DURATION: put_figure(out, whole->duration_s); break;
    case EMISSIONS: put_figure(out, emissions_kg); break;
    case EMISSIONS_RATE: put_figure(out, emissions_kg / whole->duration_s); break;
    case POWER: put_figure(out, whole->power_w[d].value); break;
    case ENERGY: put_figure(out, whole->energy_j[d].value / j_per_kwh); break;
    case CONSUMED: put_figure(out, consumed_j(whole) / j_per_kwh); break;
    case CPU_COUNT: kw__out_csv(out, kw__run_setting(run, "cpu.cores")); break;
    case CPU_MODEL: kw__out_csv(out, kw__run_setting(run, "cpu")); break;
    case GPU_COUNT: put_figure(out, num_gpus(run)); break;
    case GPU_MODEL: kw__out_csv(out, gpu_model(run)); break;
    }
}

static void put_codecarbon(struct kw__export *e, const struct kw__run *run,
                           const struct kw__finding *findings, size_t count)
{
    (void)findings;
    (void)count;
    bool reckon = !isnan(e->settings->carbon_intensity);
    for (size_t i = 0; i < CARBON_COLUMNS; i++) {
        enum carbon what = carbon_columns[i].what;
        const char *imported = kw__import_column(run, carbon_columns[i].name);
        if (i) kw__out_puts(&e->out, ",");
        if (imported && !(reckon && (what == EMISSIONS || what == EMISSIONS_RATE)))
            kw__out_csv(&e->out, imported);
        else
            put_carbon(&e->out, e, run, i);
    }
    kw__out_puts(&e->out, "\n");
}

/* ---- ML.ENERGY --------------------------------------------------------------------------------------- */

static void member(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, kw__cli_number(value));
}

/* What an imported row had besides: a number where it is one. */
static void put_besides(json_t *object, const struct kw__run *run)
{
    bool imported = run->source && strcmp(run->source, "ML.ENERGY") == 0;
    for (size_t i = 0; imported && i < run->num_settings; i++) {
        const char *name = run->settings[i].name, *text = run->settings[i].value;
        double value;
        if (strncmp(name, "run.", 4) == 0) continue;
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
            json_object_set_new(object, name, json_boolean(text[0] == 't'));
        else if (kw__number_parse(text, &value))
            member(object, name, value);
        else
            json_object_set_new(object, name, kw__cli_string(text));
    }
}

static double known(int64_t count)
{
    return count ? (double)count : NAN;
}

static void put_mlenergy(struct kw__export *e, const struct kw__run *run, const struct kw__finding *findings,
                         size_t count)
{
    (void)findings;
    (void)count;
    const struct kw__run_window *whole = &run->windows[0];
    const struct kw__run_request *r = &run->request;
    const char *model = kw__run_setting(run, "run.model_as_named");
    if (!model) model = run->model;
    double batch = known(r->batch_size);
    json_t *o = json_object();
    member(o, "avg_power_watts", whole->power_w[KW_GPU].value);
    member(o, "batch_latency_s", whole->duration_s);
    member(o, "batch_size", batch);
    member(o, "energy_per_video_joules", whole->energy_j[KW_GPU].value / batch);
    member(o, "fps", r->fps);
    json_object_set_new(o, "gpu_model", kw__cli_string(gpu_model(run)));
    member(o, "inference_steps", known(r->num_inference_steps));
    json_object_set_new(o, "model_id", kw__cli_string(model));
    json_object_set_new(o, "nickname", kw__cli_string(run->model));
    member(o, "num_frames", known(r->num_frames ? r->num_frames : r->num_frames_asked));
    member(o, "num_gpus", num_gpus(run));
    member(o, "throughput_videos_per_sec", batch / whole->duration_s);
    member(o, "video_height", known(r->height));
    member(o, "video_width", known(r->width));
    put_besides(o, run);
    char *text = json_dumps(o, JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(o);
    kw__out_puts(&e->out, "\n  ");
    if (text)
        kw__out_puts(&e->out, text);
    else
        e->out.failed = true;
    free(text);
}

/* ---- Formats ----------------------------------------------------------------------------------------- */

static void put_codecarbon_header(struct kw__out *out)
{
    for (size_t i = 0; i < CARBON_COLUMNS; i++)
        kw__out_printf(out, "%s%s", i ? "," : "", carbon_columns[i].name);
    kw__out_puts(out, "\n");
}

static void put_json_header(struct kw__out *out)
{
    kw__out_puts(out, "{\"schema\": \"" KW__RUNS_SCHEMA "\", \"runs\": [");
}

static void put_mlenergy_header(struct kw__out *out)
{
    kw__out_puts(out, "{\"architecture\": \"diffusion\", \"configurations\": [");
}

enum { OF_THE_WHOLE = KW__PART_CHANNELS | KW__PART_SETTINGS };

static const struct format {
    const char *name;
    bool csv; /* given with --csv */
    void (*header)(struct kw__out *out);
    void (*put)(struct kw__export *export, const struct kw__run *run, const struct kw__finding *findings,
                size_t count);
    unsigned parts; /* of runs, that it has a place for */
    const char *between, *footer;
} formats[] = {
    {"kinowatt", false, put_json_header, put_json, KW__PART_ALL, ",", "\n]}\n"},
    {"kinowatt", true, put_windows_header, put_windows, KW__PART_NESTED, "", ""},
    {"codecarbon", false, put_codecarbon_header, put_codecarbon, OF_THE_WHOLE, "", ""},
    {"codecarbon", true, put_codecarbon_header, put_codecarbon, OF_THE_WHOLE, "", ""},
    {"mlenergy", false, put_mlenergy_header, put_mlenergy, OF_THE_WHOLE, ",",
     "\n], \"task\": \"text-to-video\", \"task_display_name\": \"Text to Video\"}\n"},
};

static const struct format *find_format(const char *name, bool csv)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, name) == 0 && formats[i].csv == csv) return &formats[i];
    return NULL;
}

/* ---- Writing ----------------------------------------------------------------------------------------- */

kw_status kw__export_flush(struct kw__export *e, struct kw__out *out, kw_error *err)
{
    if (out->failed) return kw__fail_memory(err);
    if (!out->len) return KW_OK;
    kw_status status = e->to_file ? kw__pending_write(&e->file, out->data, out->len, err)
                                  : kw__out_write_fd(out, STDOUT_FILENO, err);
    out->len = 0;
    return status;
}

/* Why a run is left out of a format that can't say so; NULL: it is not. */
static const char *unfit(const struct kw__export *e, const struct kw__run *run,
                         const struct kw__finding *findings, size_t count)
{
    const char *why = kw__run_unmeasured(run);
    bool pipeline = !run->what || strcmp(run->what, "pipeline") == 0;
    for (size_t i = 0; !why && i < count; i++)
        if (findings[i].excludes) why = "flagged by the linter, '!' in 'kinowatt runs'";
    if (!why && e->put == put_mlenergy && !(run->model && pipeline)) why = "no clips of a model";
    return why;
}

kw_status kw__export_run(void *user, struct kw__run *run, kw_error *err)
{
    struct kw__export *e = user;
    struct kw__finding *findings;
    size_t count;
    kw_status status = kw__store_get_findings(e->store, run->id, &run->arena, &findings, &count, err);
    if (status) return status;
    const char *why = e->plain_only ? unfit(e, run, findings, count) : NULL;
    if (why) {
        kw__leave_out(&e->left_out, &e->arena, why);
        return e->arena.failed ? kw__fail_memory(err) : KW_OK;
    }
    if (!run->num_windows && e->put != put_json) return KW_OK;
    if (e->runs++) kw__out_puts(&e->out, e->between);
    e->put(e, run, findings, count);
    return e->out.failed ? kw__fail_memory(err) : KW_OK;
}

static kw_status export_all(struct kw__export *e, const struct kw__options *options, kw_error *err)
{
    if (!options->n_args) return kw__export_pages(e, err);
    kw_status status = KW_OK;
    for (size_t i = 0; i < options->n_args && !status; i++) {
        struct kw__run *run = NULL;
        status = kw__store_get(e->store, strtoll(options->args[i], NULL, 10), &run, err);
        if (!status) status = kw__export_run(e, run, err);
        if (!status) status = kw__export_flush(e, &e->out, err);
        kw__run_free(run);
    }
    return status;
}

static kw_status write_all(struct kw__export *e, const struct format *format,
                           const struct kw__options *options, kw_error *err)
{
    e->to_file = options->output != NULL;
    kw_status status = e->to_file ? kw__pending_open(options->output, &e->file, err) : KW_OK;
    if (status) return status;
    e->put = format->put;
    e->between = format->between;
    e->parts = format->parts;
    e->plain_only =
        !options->n_args && !e->settings->all && (e->put == put_codecarbon || e->put == put_mlenergy);
    kw__out_init(&e->out);
    format->header(&e->out);
    status = export_all(e, options, err);
    kw__out_puts(&e->out, format->footer);
    if (!status) status = kw__export_flush(e, &e->out, err);
    kw__out_free(&e->out);
    if (e->to_file) {
        if (!status) return kw__pending_commit(&e->file, err);
        kw__pending_discard(&e->file);
    } else if (!status && close(STDOUT_FILENO) != 0) {
        status = kw__fail(err, KW_ERROR_IO, "cannot write the output: %s", strerror(errno));
    }
    return status;
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int check(const struct kw__runs_settings *settings, const struct kw__options *options,
                 const struct format **format)
{
    const struct kw__run_filter *f = &settings->filter;
    if (!find_format(settings->format, false))
        return kw__cli_usage("--format '%.80s' is not known; kinowatt, codecarbon and mlenergy are",
                             settings->format);
    *format = find_format(settings->format, options->csv);
    if (!*format) return kw__cli_usage("--format %s is JSON; leave --csv out", settings->format);
    if (!isnan(settings->carbon_intensity) && strcmp(settings->format, "codecarbon") != 0)
        return kw__cli_usage("--carbon-intensity is for --format codecarbon");
    if (settings->all && strcmp(settings->format, "kinowatt") == 0)
        return kw__cli_usage("--all is for the other formats: --format kinowatt leaves nothing out");
    if (options->n_args && (f->model || f->hardware || f->stack || f->dataset || f->kind || f->limit))
        return kw__cli_usage("name runs or say which by --model and the like, not both");
    for (size_t i = 0; i < options->n_args; i++) {
        int64_t id;
        int code = kw__runs_id(options->args[i], &id);
        if (code != KW__PROCEED) return code;
    }
    return KW__PROCEED;
}

/* "29 runs are left out: 20 warm-ups; 9 failed or stopped; codecarbon has no place ..." */
static void say_left_out(const struct kw__export *e)
{
    const struct kw__left_outs *all = &e->left_out;
    struct kw__out out;
    int runs = 0;
    kw__out_init(&out);
    for (size_t i = 0; i < all->count; i++) {
        kw__out_printf(&out, "%s%d %s", i ? "; " : "", all->list[i].count, all->list[i].why);
        runs += all->list[i].count;
    }
    if (runs && !out.failed)
        kw__cli_warn("%d run%s left out: %s; %s has no place to say so, --all writes them too", runs,
                     runs > 1 ? "s are" : " is", out.data, e->settings->format);
    kw__out_free(&out);
}

int kw__runs_export(int argc, char **argv)
{
    struct kw__runs_settings settings = {.format = "kinowatt", .carbon_intensity = NAN};
    const struct kw__option extra[] = {
        {"format", 0, KW__OPTION_TEXT, "NAME", "kinowatt (unless given), codecarbon or mlenergy",
         &settings.format},
        {"carbon-intensity", 0, KW__OPTION_ABOVE, "G_PER_KWH", "g CO2e a kWh, for codecarbon's emissions",
         &settings.carbon_intensity},
        {"all", 0, KW__OPTION_FLAG, NULL, "codecarbon, mlenergy: also what is no sound measurement",
         &settings.all},
        KW__RUNS_FILTERS(settings),
        KW__RUNS_STORE(settings)};
    const struct kw__usage usage = {
        .name = "runs export",
        .synopsis = "[RUN...]",
        .about =
            "Writes runs, all of them unless some are named, oldest first.\n\n"
            "  kinowatt    everything, as JSON that 'kinowatt import' reads; --csv: one row for each window\n"
            "  codecarbon  CSV with the columns of CodeCarbon's emissions.csv\n"
            "  mlenergy    JSON with the names of the ML.ENERGY leaderboard\n\n"
            "The last two cannot say that a run was a warm-up, failed, was computed from others or is\n"
            "flagged by the linter: those are left out and counted, unless --all is given.",
        .sets = KW__WITH_CSV | KW__WITH_OUTPUT,
        .most = 100000,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    const struct format *format = NULL;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code == KW__PROCEED) code = check(&settings, &options, &format);
    if (code != KW__PROCEED) return code;
    struct kw__export e = {.settings = &settings};
    kw_error err = {0};
    kw__arena_init(&e.arena);
    code = kw__runs_open(&settings, KW__STORE_READ, &e.store);
    if (code) return code;
    if (write_all(&e, format, &options, &err)) code = kw__cli_fail(&err);
    if (!code) say_left_out(&e);
    kw__arena_free(&e.arena);
    kw__store_close(e.store);
    return code;
}
