/* What `kinowatt generate` prints, and what it writes into the clip. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate.h"
#include "engine/cpu/library.h"
#include "text/tokenizer.h"

#define EN_DASH "\xE2\x80\x93"

static const double wh_per_j = 1.0 / 3600;
static const char *const status_names[] = {
    [KW_ABSENT] = "absent", [KW_MODELLED] = "modelled", [KW_MEASURED] = "measured"};
static const char *const device_titles[KW_NUM_DEVICES] = {
    [KW_GPU] = "GPU", [KW_CPU] = "CPU", [KW_RAM] = "RAM"};

/* "bf16, residual f32", or "f32". Returns `buffer`. */
static const char *format_dtypes(const struct kw__dtypes *d, char *buffer, size_t size)
{
    const char *denoiser = kw__dtype_name(d->denoiser);
    int used = snprintf(buffer, size, "%s", denoiser);
    const struct {
        const char *name;
        enum kw__dtype dtype;
    } others[] = {{"text encoder", d->text_encoder}, {"residual", d->residual}, {"decoder", d->vae}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (others[i].dtype != d->denoiser && used > 0 && (size_t)used < size)
            used += snprintf(buffer + used, size - (size_t)used, ", %s %s", others[i].name,
                             kw__dtype_name(others[i].dtype));
    return buffer;
}

/* The stage of the prediction with this name; the total for the total. */
static const kw_cost *predicted(const struct kw__generate_report *report, const char *name)
{
    const kw_prediction *p = report->prediction;
    for (size_t i = 0; p && i < p->num_stages; i++)
        if (strcmp(p->stages[i].name, name) == 0) return &p->stages[i];
    return p && strcmp(name, "total") == 0 ? &p->total : NULL;
}

/* ---- For people ---- */

/* A device that was measured in some window has its columns. */
static bool is_measured(const struct kw__clip *clip, int device)
{
    bool any = clip->total.energy_j[device].status != KW_ABSENT;
    for (int i = 0; i < clip->num_stages; i++)
        any = any || clip->stages[i].energy_j[device].status != KW_ABSENT;
    return any;
}

static void stage_row(struct kw__table *table, const struct kw__generate_report *report,
                      const struct kw__clip_stage *stage)
{
    char buffer[2 * KW__FORMAT_SIZE];
    kw__table_text(table, stage->name);
    kw__table_value(table, kw__format_seconds(buffer, stage->seconds), stage->seconds);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!is_measured(report->clip, d)) continue;
        double energy = stage->energy_j[d].value, power = stage->power_w[d].value;
        kw__table_value(table, kw__format_wh(buffer, energy * wh_per_j), energy);
        kw__table_value(table, kw__format_w(buffer, power), power);
    }
    const kw_cost *cost = predicted(report, stage->name);
    if (!cost) return;
    double latency = cost->latency_s.value, off = latency / stage->seconds - 1;
    kw__table_value(table, kw__format_seconds(buffer, latency), latency);
    kw__table_text(table, kw__cli_spread(buffer, sizeof buffer, &cost->latency_s));
    snprintf(buffer, sizeof buffer, "%+.1f %%", 100 * off);
    kw__table_value(table, buffer, off);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!is_measured(report->clip, d)) continue;
        double energy = cost->energy_j[d].value, power = energy / latency;
        kw__table_value(table, kw__format_wh(buffer, energy * wh_per_j), energy);
        kw__table_text(table, kw__cli_spread(buffer, sizeof buffer, &cost->energy_j[d]));
        kw__table_value(table, kw__format_w(buffer, power), power);
    }
}

static void put_stages(struct kw__out *out, const struct kw__generate_report *report)
{
    struct kw__table table;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Stage"});
    kw__table_column(&table, &(struct kw__column){.title = "Time", .align = KW__ALIGN_RIGHT});
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!is_measured(report->clip, d)) continue;
        char energy[32], power[32];
        snprintf(energy, sizeof energy, "%s energy", device_titles[d]);
        snprintf(power, sizeof power, "%s power", device_titles[d]);
        kw__table_column(&table, &(struct kw__column){.title = energy, .align = KW__ALIGN_RIGHT});
        kw__table_column(&table, &(struct kw__column){.title = power, .align = KW__ALIGN_RIGHT});
    }
    if (report->prediction) {
        kw__table_column(&table, &(struct kw__column){.title = "Predicted", .align = KW__ALIGN_RIGHT});
        kw__table_column(&table, &(struct kw__column){.title = "90 %", .align = KW__ALIGN_RIGHT});
        kw__table_column(&table, &(struct kw__column){.title = "off by", .align = KW__ALIGN_RIGHT});
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            if (!is_measured(report->clip, d)) continue;
            char energy[32], power[32];
            snprintf(energy, sizeof energy, "%s energy", device_titles[d]);
            snprintf(power, sizeof power, "%s power", device_titles[d]);
            const char *const titles[] = {energy, "90 %", power};
            for (int k = 0; k < 3; k++)
                kw__table_column(
                    &table,
                    &(struct kw__column){.title = titles[k], .group = "Predicted", .align = KW__ALIGN_RIGHT});
        }
    }
    for (int i = 0; i < report->clip->num_stages; i++) {
        kw__table_row(&table);
        stage_row(&table, report, &report->clip->stages[i]);
    }
    kw__table_row_ruled(&table);
    stage_row(&table, report, &report->clip->total);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

static void put_energy(struct kw__out *out, const struct kw__generate_report *report)
{
    char value[KW__FORMAT_SIZE], low[KW__FORMAT_SIZE], high[KW__FORMAT_SIZE];
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *r = &report->clip->total.energy_j[d];
        kw__out_printf(out, "%-10s%s  ", d == 0 ? "Energy" : "", device_titles[d]);
        if (r->status == KW_ABSENT) {
            kw__out_puts(out, EN_DASH "  (absent: ");
            kw__cli_put(out, r->reason ? r->reason : "not known");
            kw__out_puts(out, ")\n");
            continue;
        }
        kw__out_printf(out, "%s  (%s " EN_DASH " %s, %s)\n", kw__format_wh(value, r->value * wh_per_j),
                       kw__format_wh(low, r->low * wh_per_j), kw__format_wh(high, r->high * wh_per_j),
                       status_names[r->status]);
    }
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *idle = &report->clip->total.idle_power_w[d];
        if (idle->status != KW_ABSENT)
            kw__out_printf(out, "%-10s%s  %s when idle\n", "", device_titles[d],
                           kw__format_w(value, idle->value));
    }
}

/* Where a device's energy was not predicted its dash has its reason; the GPU's only if it was measured. */
static void put_unpredicted(struct kw__out *out, const struct kw__generate_report *report)
{
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *r = &report->prediction->total.energy_j[d];
        if (r->status != KW_ABSENT || !(d == KW_CPU || is_measured(report->clip, d))) continue;
        kw__out_printf(out, "%-10s%s energy  " EN_DASH "  (", "", device_titles[d]);
        kw__cli_put(out, r->reason ? r->reason : "not known");
        kw__out_puts(out, ")\n");
    }
}

static void put_settings(struct kw__out *out, const struct kw__generate_report *report)
{
    const struct kw__pipeline_info *info = &report->info;
    char dtypes[128];
    kw__out_puts(out, "Model     ");
    kw__cli_put(out, report->model);
    kw__out_puts(out, ", weights ");
    kw__cli_put(out, info->weights);
    kw__out_printf(out, ", seed %" PRIu64 "\n", report->seed);
    kw__cli_put_request(out, &info->request);
    kw__out_printf(out, "Engine    %s, stack %s, %s, tokenizer %s\n", info->backend, info->stack,
                   format_dtypes(&info->dtypes, dtypes, sizeof dtypes), info->tokenizer);
}

static void put_text(struct kw__out *out, const struct kw__generate_report *report)
{
    const struct kw__clip *clip = report->clip;
    const struct kw__pipeline_info *info = &report->info;
    char buffer[KW__FORMAT_SIZE];
    put_settings(out, report);
    kw__out_puts(out, "\n");
    put_stages(out, report);
    kw__out_puts(out, "\n");
    put_energy(out, report);
    kw__out_printf(out, "Memory    %s of its own at the peak",
                   kw__format_bytes(buffer, clip->peak_anonymous_bytes));
    kw__out_printf(out, "; predicted %s", kw__format_bytes(buffer, info->needed_bytes));
    kw__out_printf(out, "; weights read in %s\n", kw__format_seconds(buffer, info->load_s));
    if (report->prediction) {
        kw__out_puts(out, "Predicted with the calibration ");
        kw__cli_put(out, report->prediction->calibration);
        kw__out_puts(out, "\n");
        put_unpredicted(out, report);
    } else {
        kw__out_puts(out, "Predicted " EN_DASH "  (");
        kw__cli_put(out, report->no_prediction);
        kw__out_puts(out, ")\n");
    }
    if (report->run_id)
        kw__out_printf(out, "Kept      run %" PRId64 ": kinowatt runs show %" PRId64 "\n", report->run_id,
                       report->run_id);
    if (!report->output && !report->latents) return;
    kw__out_puts(out, "Written   ");
    if (report->output) kw__cli_put(out, report->output);
    if (report->output && report->latents) kw__out_puts(out, ", ");
    if (report->latents) kw__cli_put(out, report->latents);
    kw__out_puts(out, "\n");
}

/* ---- Warnings ---- */

enum { MOST_WARNINGS = KW__PIPELINE_WARNINGS + KW_NUM_DEVICES + 2 };

struct warnings {
    char text[MOST_WARNINGS][512];
    int count;
};

/* The longest time that a channel, by which the run was measured nevertheless, went unread; 0: none did. */
static double longest_gap_s(const struct kw__generate_report *report)
{
    double longest = 0;
    for (size_t c = 0; report->clip->total.window >= 0 && c < kw_meter_channel_count(report->meter); c++) {
        kw_meter_detail detail = {.struct_size = sizeof detail};
        kw_error err;
        if (kw_meter_detail_get(report->meter, (size_t)report->clip->total.window, c, &detail, &err))
            continue;
        if (detail.energy_j.status != KW_ABSENT) longest = fmax(longest, detail.gap_s);
    }
    return longest;
}

/* The stage in which other processes took most CPU time, when that is worth a word: a tenth of the machine,
 * for long enough to be told from the hundredths of a second that the system counts in. */
static const struct kw__clip_stage *disturbed(const struct kw__clip *clip)
{
    const struct kw__clip_stage *most = NULL;
    for (int i = 0; i < clip->num_stages; i++) {
        const struct kw__clip_stage *s = &clip->stages[i];
        if (!(s->other_cores >= 0.1 * clip->cores) || s->seconds < 0.5) continue;
        if (!most || s->other_cores * s->seconds > most->other_cores * most->seconds) most = s;
    }
    return most;
}

/* What the run itself gives reason for; the prediction has its own. */
static void collect_warnings(const struct kw__generate_report *report, struct warnings *w)
{
    const struct kw__clip *clip = report->clip;
    const size_t size = sizeof w->text[0];
    w->count = 0;
    for (size_t i = 0; i < report->info.num_warnings; i++)
        snprintf(w->text[w->count++], size, "%s", report->info.warnings[i]);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *energy = &clip->total.energy_j[d];
        if (!report->metered[d] || energy->status != KW_ABSENT) continue;
        snprintf(w->text[w->count++], size, "the energy of the %s was lost during the run: %s",
                 device_titles[d], energy->reason ? energy->reason : "its reading is not known");
    }
    char buffer[KW__FORMAT_SIZE];
    double gap_s = longest_gap_s(report);
    if (gap_s > 0)
        snprintf(w->text[w->count++], size,
                 "the meter did not answer for %s of the run: the energy counts it, within wider bounds",
                 kw__format_seconds(buffer, gap_s));
    const struct kw__clip_stage *stage = disturbed(clip);
    if (stage)
        snprintf(w->text[w->count++], size,
                 "other processes used %.1f of %d cores during %s: times and energies hold theirs too",
                 stage->other_cores, clip->cores, stage->name);
}

static int count_warnings(const struct kw__generate_report *report, const struct warnings *w)
{
    return w->count + (report->prediction ? (int)report->prediction->num_warnings : 0);
}

static const char *warning_at(const struct kw__generate_report *report, const struct warnings *w, int i)
{
    return i < w->count ? w->text[i] : report->prediction->warnings[i - w->count];
}

/* ---- JSON ---- */

static json_t *reading_json(const kw_reading *r)
{
    if (r->status == KW_ABSENT) return json_null();
    return json_pack("{s:o, s:o, s:o, s:s}", "value", kw__cli_number(r->value), "low", kw__cli_number(r->low),
                     "high", kw__cli_number(r->high), "status", status_names[r->status]);
}

static json_t *stage_json(const struct kw__generate_report *report, const struct kw__clip_stage *stage)
{
    json_t *energy = json_object(), *power = json_object(), *absent = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        json_object_set_new(energy, kw_device_name(d), reading_json(&stage->energy_j[d]));
        json_object_set_new(power, kw_device_name(d), reading_json(&stage->power_w[d]));
        if (stage->energy_j[d].status == KW_ABSENT)
            json_object_set_new(absent, kw_device_name(d), kw__cli_string(stage->energy_j[d].reason));
    }
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "name", stage->name, "latency_s",
                  kw__cli_number(stage->seconds), "energy_j", energy, "power_w", power, "failed_reads",
                  (json_int_t)stage->failed_reads, "gap_s", kw__cli_number(stage->gap_s), "cpu_clock_mhz",
                  kw__cli_number(stage->cpu_clock_mhz), "other_cores", kw__cli_number(stage->other_cores));
    if (json_object_size(absent))
        json_object_set_new(object, "absent", absent);
    else
        json_decref(absent);
    const kw_cost *cost = predicted(report, stage->name);
    if (cost) {
        json_object_set_new(object, "predicted_latency_s", reading_json(&cost->latency_s));
        json_t *energies = json_object();
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            json_object_set_new(energies, kw_device_name(d), reading_json(&cost->energy_j[d]));
        json_object_set_new(object, "predicted_energy_j", energies);
        json_t *unpredicted = json_object();
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            if (cost->energy_j[d].status == KW_ABSENT)
                json_object_set_new(unpredicted, kw_device_name(d), kw__cli_string(cost->energy_j[d].reason));
        json_object_set_new(object, "unpredicted", unpredicted);
    }
    return object;
}

static json_t *dtypes_json(const struct kw__dtypes *d)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "text_encoder", kw__dtype_name(d->text_encoder), "denoiser",
                     kw__dtype_name(d->denoiser), "residual", kw__dtype_name(d->residual), "vae",
                     kw__dtype_name(d->vae));
}

static json_t *prompt_json(const struct kw__generate_report *report, int i)
{
    return json_pack("{s:o, s:I, s:I}", "text", kw__cli_string(i ? report->negative_prompt : report->prompt),
                     "tokens", (json_int_t)report->info.tokens[i], "whole_tokens",
                     (json_int_t)report->info.whole_tokens[i]);
}

/* A number, or its digits where it is beyond what JSON's readers hold as a whole number. */
static json_t *seed_json(uint64_t seed)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, seed);
    return seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_string(digits);
}

/* What holds for every run of the same settings: also the clip's comment. */
static json_t *settings_json(const struct kw__generate_report *report)
{
    const struct kw__pipeline_info *info = &report->info;
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:s, s:s, s:s, s:o}", "kinowatt", kw_version(), "model",
        kw__cli_string(report->model), "seed", seed_json(report->seed), "weights",
        kw__cli_string(info->weights), "tokenizer", info->tokenizer, "prompt", prompt_json(report, 0),
        "negative_prompt", info->request.guidance_passes > 1 ? prompt_json(report, 1) : json_null(), "device",
        report->device, "backend", info->backend, "stack", info->stack, "dtypes", dtypes_json(&info->dtypes));
    json_object_set_new(object, "request", kw__cli_request(&info->request));
    return object;
}

char *kw__generate_comment(const struct kw__generate_report *report)
{
    json_t *object = settings_json(report);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static json_t *memory_json(const struct kw__generate_report *report)
{
    const struct kw__pipeline_info *info = &report->info;
    const kw_reading predicted = kw__cpu_need_sum(&info->memory);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "weights_bytes", kw__cli_number(info->memory.weights),
        "states_bytes", kw__cli_number(info->memory.states), "workspace_bytes",
        kw__cli_number(info->memory.workspace), "buffers_bytes", kw__cli_number(info->memory.buffers),
        "library_bytes", kw__cli_number(info->memory.library), "peak_anonymous_bytes",
        kw__cli_number(report->clip->peak_anonymous_bytes), "peak_resident_bytes",
        kw__cli_number(report->clip->peak_resident_bytes), "predicted_bytes", reading_json(&predicted));
}

static json_t *channels_json(kw_meter *meter)
{
    json_t *channels = json_array();
    for (size_t i = 0; i < kw_meter_channel_count(meter); i++) {
        kw_meter_channel c = {.struct_size = sizeof c};
        kw_error err;
        if (kw_meter_channel_get(meter, i, &c, &err)) continue;
        json_array_append_new(channels,
                              json_pack("{s:o, s:o, s:o, s:s, s:o, s:o}", "source", kw__cli_string(c.source),
                                        "label", kw__cli_string(c.label), "name", kw__cli_string(c.name),
                                        "device", kw_device_name(c.device), "limit_w",
                                        kw__cli_number(c.limit_w), "note", kw__cli_string(c.note)));
    }
    return channels;
}

static json_t *report_json(const struct kw__generate_report *report, const struct warnings *w)
{
    json_t *document = settings_json(report), *stages = json_array(), *warnings = json_array();
    json_t *idle = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        json_object_set_new(idle, kw_device_name(d), reading_json(&report->clip->total.idle_power_w[d]));
    for (int i = 0; i < report->clip->num_stages; i++)
        json_array_append_new(stages, stage_json(report, &report->clip->stages[i]));
    for (int i = 0; i < count_warnings(report, w); i++)
        json_array_append_new(warnings, kw__cli_string(warning_at(report, w, i)));
    const kw_prediction *p = report->prediction;
    json_object_set_new(document, "schema", json_string("kinowatt.generation/1"));
    json_object_set_new(document, "stages", stages);
    json_object_set_new(document, "total", stage_json(report, &report->clip->total));
    json_object_set_new(document, "idle_power_w", idle);
    const struct kw__cpu_library library = kw__cpu_library();
    json_object_set_new(
        document, "libraries",
        json_pack("{s:s, s:s}", "onednn", library.version, "sentencepiece", kw__sentencepiece_version()));
    json_object_set_new(document, "native_bf16", kw__cli_string(library.bf16));
    json_object_set_new(document, "cores", json_integer(report->clip->cores));
    json_object_set_new(document, "load_s", kw__cli_number(report->info.load_s));
    json_object_set_new(document, "memory", memory_json(report));
    json_object_set_new(document, "meter",
                        json_pack("{s:o, s:o}", "name", kw__cli_string(report->meter_name), "channels",
                                  channels_json(report->meter)));
    json_object_set_new(document, "calibration", kw__cli_string(p ? p->calibration : NULL));
    json_object_set_new(document, "no_prediction", kw__cli_string(p ? NULL : report->no_prediction));
    json_object_set_new(document, "output", kw__cli_string(report->output));
    json_object_set_new(document, "run",
                        report->run_id ? json_integer((json_int_t)report->run_id) : json_null());
    json_object_set_new(document, "latents", kw__cli_string(report->latents));
    json_object_set_new(document, "warnings", warnings);
    return document;
}

int kw__generate_print(const struct kw__generate_report *report, const struct kw__options *options)
{
    struct warnings warnings;
    collect_warnings(report, &warnings);
    if (options->json) return kw__cli_emit_json(options, report_json(report, &warnings));
    struct kw__out out;
    kw__out_init(&out);
    put_text(&out, report);
    int code = kw__cli_emit(options, &out);
    for (int i = 0; !code && i < count_warnings(report, &warnings); i++)
        kw__cli_warn("%s", warning_at(report, &warnings, i));
    return code;
}
