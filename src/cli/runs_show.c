/* kinowatt runs show: everything that is known of one run. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "cli/runs.h"
#include "store/fields.h"
#include "store/run_json.h"
#include "store/stages.h"

#define EN_DASH "\xE2\x80\x93"

static const double wh_per_j = 1.0 / 3600;
static const char *const device_titles[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};

/* ---- What is printed of a run ------------------------------------------------------------------------ */

const char *kw__runs_request(const struct kw__run *run, char *buffer, size_t size)
{
    const struct kw__run_request *r = &run->request;
    size_t used = 0;
    buffer[0] = '\0';
    if (r->width > 0 && r->height > 0)
        used += (size_t)snprintf(buffer + used, size - used, "%" PRId64 "x%" PRId64, r->width, r->height);
    int64_t frames = r->num_frames ? r->num_frames : r->num_frames_asked;
    if (frames > 0 && used < size)
        used += (size_t)snprintf(buffer + used, size - used, "%s%" PRId64 "%s%s", used ? "x" : "", frames,
                                 used ? "" : " frame", used ? "" : kw__plural(frames));
    if (r->num_inference_steps > 0 && used < size)
        used += (size_t)snprintf(buffer + used, size - used, "%s%" PRId64 " step%s", used ? ", " : "",
                                 r->num_inference_steps, kw__plural(r->num_inference_steps));
    if (r->batch_size > 1 && used < size)
        (void)snprintf(buffer + used, size - used, "%sbatch %" PRId64, used ? ", " : "", r->batch_size);
    return buffer;
}

const char *kw__runs_reading(char *buffer, const kw_reading *reading, double factor,
                             const char *(*format)(char *buffer, double value))
{
    bool modelled = reading->status == KW_MODELLED;
    buffer[0] = '~';
    (void)format(buffer + modelled, reading->value * factor);
    return buffer;
}

void kw__runs_cell(struct kw__table *table, const kw_reading *reading, double factor,
                   const char *(*format)(char *buffer, double value))
{
    char buffer[KW__FORMAT_SIZE + 1];
    kw__table_value(table, kw__runs_reading(buffer, reading, factor, format), reading->value);
}

/* ---- Sections ---------------------------------------------------------------------------------------- */

static void put_pair(struct kw__out *out, const char *title, const char *text)
{
    if (!text) return;
    kw__out_printf(out, "%-10s", title);
    kw__cli_put(out, text);
    kw__out_puts(out, "\n");
}

static void put_head(struct kw__out *out, const struct kw__run *run)
{
    char text[256];
    kw__out_printf(out, "Run       %" PRId64 ", ", run->id);
    kw__cli_put(out, run->uuid);
    kw__out_puts(out, "\nKind      ");
    kw__cli_put(out, run->kind);
    if (run->what) {
        kw__out_puts(out, " of ");
        kw__cli_put(out, run->what);
    }
    kw__out_puts(out, ", ");
    kw__cli_put(out, run->state ? run->state : "state not known");
    kw__out_puts(out, ", began ");
    kw__cli_put(out, run->began);
    kw__out_puts(out, "\n");
    put_pair(out, "Session", run->session);
    put_pair(out, "Data set", run->dataset);
    if (run->sweep) {
        kw__out_puts(out, "Sweep     ");
        kw__cli_put(out, run->sweep);
        if (run->point >= 0) kw__out_printf(out, ", point %" PRId64, run->point);
        if (run->repeat >= 0) kw__out_printf(out, ", repeat %" PRId64, run->repeat);
        if (run->repeat < -1) kw__out_printf(out, ", warm-up %" PRId64, -1 - run->repeat);
        kw__out_puts(out, run->anchor ? ", an anchor\n" : "\n");
    }
    put_pair(out, "Model", run->model);
    put_pair(out, "Weights", run->weights);
    put_pair(out, "Hardware", run->hardware);
    put_pair(out, "Stack", run->stack);
    put_pair(out, "Source", run->source);
    put_pair(out, "Note", run->note);
    if (*kw__runs_request(run, text, sizeof text)) put_pair(out, "Request", text);
}

/* The window's name below those it is nested in. */
static void put_name(struct kw__table *table, const struct kw__run *run, size_t i)
{
    char name[256];
    int depth = 0;
    for (int64_t p = run->windows[i].parent; p >= 0 && depth < 20; p = run->windows[p].parent) depth++;
    snprintf(name, sizeof name, "%*s%s", 2 * depth, "", run->windows[i].name);
    kw__table_text(table, name);
}

static bool has_device(const struct kw__run *run, int device)
{
    for (size_t i = 0; i < run->num_windows; i++)
        if (run->windows[i].energy_j[device].status != KW_ABSENT) return true;
    return false;
}

static void column(struct kw__table *table, const char *title, const char *group, enum kw__align align)
{
    kw__table_column(table, &(struct kw__column){.title = title, .group = group, .align = align});
}

/* "12.1 – 12.6 Wh" */
static void put_interval(struct kw__table *table, const kw_reading *r)
{
    char low[KW__FORMAT_SIZE], high[KW__FORMAT_SIZE], text[2 * KW__FORMAT_SIZE + 8];
    bool known = isfinite(r->low) && isfinite(r->high);
    snprintf(text, sizeof text, "%s " EN_DASH " %s", kw__format_wh(low, r->low * wh_per_j),
             kw__format_wh(high, r->high * wh_per_j));
    kw__table_text(table, known ? text : NULL);
}

static void put_windows(struct kw__out *out, const struct kw__run *run)
{
    struct kw__table table;
    char buffer[KW__FORMAT_SIZE];
    kw__table_init(&table);
    column(&table, "Window", NULL, KW__ALIGN_LEFT);
    column(&table, "began", NULL, KW__ALIGN_RIGHT);
    column(&table, "Time", NULL, KW__ALIGN_RIGHT);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!has_device(run, d)) continue;
        column(&table, "energy", device_titles[d], KW__ALIGN_RIGHT);
        column(&table, "90 %", device_titles[d], KW__ALIGN_RIGHT);
        column(&table, "power", device_titles[d], KW__ALIGN_RIGHT);
        column(&table, "highest", device_titles[d], KW__ALIGN_RIGHT);
        column(&table, "idle", device_titles[d], KW__ALIGN_RIGHT);
    }
    column(&table, "Note", NULL, KW__ALIGN_LEFT);
    for (size_t i = 0; i < run->num_windows; i++) {
        const struct kw__run_window *w = &run->windows[i];
        char note[160];
        kw__table_row(&table);
        put_name(&table, run, i);
        kw__table_value(&table, kw__format_seconds(buffer, w->begin_s), w->begin_s);
        kw__table_value(&table, kw__format_seconds(buffer, w->duration_s), w->duration_s);
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            if (!has_device(run, d)) continue;
            kw__runs_cell(&table, &w->energy_j[d], wh_per_j, kw__format_wh);
            put_interval(&table, &w->energy_j[d]);
            kw__runs_cell(&table, &w->power_w[d], 1, kw__format_w);
            kw__runs_cell(&table, &w->max_power_w[d], 1, kw__format_w);
            kw__runs_cell(&table, &w->idle_power_w[d], 1, kw__format_w);
        }
        size_t used = w->note ? (size_t)snprintf(note, sizeof note, "%.100s", w->note) : 0;
        if (w->failed_reads > 0)
            (void)snprintf(note + used, sizeof note - used, "%s%" PRId64 " reads failed, %.2f s unread",
                           used ? "; " : "", w->failed_reads, w->gap_s);
        kw__table_text(&table, used || w->failed_reads > 0 ? note : "");
    }
    kw__out_puts(out, "\n");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* Why energies are absent: each reason once, with the windows that it holds for. */
static void put_reasons(struct kw__out *out, const struct kw__run *run)
{
    bool any = false;
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        for (size_t i = 0; i < run->num_windows; i++) {
            const kw_reading *r = &run->windows[i].energy_j[d];
            bool told = r->status != KW_ABSENT || !r->reason;
            for (size_t k = 0; k < i && !told; k++) {
                const kw_reading *other = &run->windows[k].energy_j[d];
                told = other->status == KW_ABSENT && other->reason && strcmp(other->reason, r->reason) == 0;
            }
            if (told) continue;
            kw__out_printf(out, "%s%s of ", any ? "" : "\n", device_titles[d]);
            kw__cli_put(out, run->windows[i].name);
            kw__out_puts(out, " is absent: ");
            kw__cli_put(out, r->reason);
            kw__out_puts(out, "\n");
            any = true;
        }
}

static void put_prediction(struct kw__out *out, const struct kw__run *run)
{
    char buffer[KW__FORMAT_SIZE];
    if (isnan(run->predicted_latency_s)) return;
    kw__out_printf(out, "\nPredicted %s", kw__format_seconds(buffer, run->predicted_latency_s));
    double seconds = kw__run_work_s(run);
    if (seconds > 0) kw__out_printf(out, " (%+.1f %%)", 100 * (run->predicted_latency_s / seconds - 1));
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        if (!isnan(run->predicted_energy_j[d]))
            kw__out_printf(out, ", %s %s", device_titles[d],
                           kw__format_wh(buffer, run->predicted_energy_j[d] * wh_per_j));
    kw__out_puts(out, "\n");
}

static void put_channels(struct kw__out *out, const struct kw__run *run)
{
    struct kw__table table;
    char buffer[KW__FORMAT_SIZE];
    if (!run->num_channels) return;
    kw__table_init(&table);
    column(&table, "Channel", NULL, KW__ALIGN_RIGHT);
    column(&table, "Meter", NULL, KW__ALIGN_LEFT);
    column(&table, "Device", NULL, KW__ALIGN_LEFT);
    column(&table, "Label", NULL, KW__ALIGN_LEFT);
    column(&table, "Name", NULL, KW__ALIGN_LEFT);
    column(&table, "Limit", NULL, KW__ALIGN_RIGHT);
    column(&table, "Note", NULL, KW__ALIGN_LEFT);
    for (size_t i = 0; i < run->num_channels; i++) {
        const struct kw__run_channel *c = &run->channels[i];
        kw__table_row(&table);
        kw__table_number(&table, 0, (double)i);
        kw__table_text(&table, c->source);
        kw__table_text(&table, device_titles[c->device]);
        kw__table_text(&table, c->label);
        kw__table_text(&table, c->name);
        kw__table_value(&table, kw__format_w(buffer, c->limit_w), c->limit_w);
        kw__table_text(&table, c->note ? c->note : "");
    }
    kw__out_puts(out, "\n");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* "gap, frozen counter; throttled: power cap; 2 other processes" */
static void format_state(const struct kw__run_detail *d, char *text, size_t size)
{
    static const struct {
        unsigned flag;
        const char *name;
    } flags[] = {{KW_METER_GAP, "gap"},
                 {KW_METER_FROZEN, "counter stood still"},
                 {KW_METER_DISAGREES, "counter and power disagree"}};
    char reasons[160];
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (d->flags & flags[i].flag)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", flags[i].name);
    if (d->throttle_known && d->throttle_reasons)
        used += (size_t)snprintf(text + used, size - used, "%sthrottled: %s", used ? "; " : "",
                                 kw_meter_throttle_text(d->throttle_reasons, reasons, sizeof reasons));
    if (d->other_processes > 0 && used < size)
        (void)snprintf(text + used, size - used, "%s%" PRId64 " other processes", used ? "; " : "",
                       d->other_processes);
}

static void put_details(struct kw__out *out, const struct kw__run *run)
{
    struct kw__table table;
    char text[400], buffer[KW__FORMAT_SIZE];
    if (!run->num_details) return;
    kw__table_init(&table);
    column(&table, "Window", NULL, KW__ALIGN_LEFT);
    column(&table, "Channel", NULL, KW__ALIGN_RIGHT);
    column(&table, "By", NULL, KW__ALIGN_LEFT);
    column(&table, "counter", "Energy", KW__ALIGN_RIGHT);
    column(&table, "power", "Energy", KW__ALIGN_RIGHT);
    column(&table, "Reads", NULL, KW__ALIGN_RIGHT);
    column(&table, "mean", "SM clock (MHz)", KW__ALIGN_RIGHT);
    column(&table, "lowest", "SM clock (MHz)", KW__ALIGN_RIGHT);
    column(&table, "Memory clock (MHz)", NULL, KW__ALIGN_RIGHT);
    column(&table, "mean",
           "Temperature (\xC2\xB0"
           "C)",
           KW__ALIGN_RIGHT);
    column(&table, "highest",
           "Temperature (\xC2\xB0"
           "C)",
           KW__ALIGN_RIGHT);
    column(&table, "What was seen", NULL, KW__ALIGN_LEFT);
    for (size_t i = 0; i < run->num_details; i++) {
        const struct kw__run_detail *d = &run->details[i];
        kw__table_row(&table);
        kw__table_text(&table, run->windows[d->window].name);
        kw__table_number(&table, 0, (double)d->channel);
        kw__table_text(&table, d->method == KW_METER_BY_COUNTER ? "counter"
                               : d->method == KW_METER_BY_POWER ? "power"
                                                                : NULL);
        kw__table_value(&table, kw__format_wh(buffer, d->by_counter_j * wh_per_j), d->by_counter_j);
        kw__table_value(&table, kw__format_wh(buffer, d->by_power_j * wh_per_j), d->by_power_j);
        kw__table_number(&table, 0, (double)d->samples);
        kw__table_number(&table, 0, d->sm_clock_mhz);
        kw__table_number(&table, 0, d->lowest_sm_clock_mhz);
        kw__table_number(&table, 0, d->memory_clock_mhz);
        kw__table_number(&table, 0, d->temperature_c);
        kw__table_number(&table, 0, d->highest_temperature_c);
        format_state(d, text, sizeof text);
        kw__table_text(&table, text);
    }
    kw__out_puts(out, "\n");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

static void put_settings(struct kw__out *out, const struct kw__run *run)
{
    size_t widest = 0;
    for (size_t i = 0; i < run->num_settings; i++) {
        size_t width = kw__text_columns(run->settings[i].name);
        if (width > widest && width <= 40) widest = width;
    }
    if (run->num_settings) kw__out_puts(out, "\nSettings\n");
    for (size_t i = 0; i < run->num_settings; i++) {
        size_t width = kw__text_columns(run->settings[i].name);
        kw__out_puts(out, "  ");
        kw__cli_put(out, run->settings[i].name);
        kw__out_printf(out, "%*s", (int)(width < widest ? widest - width : 0) + 2, "");
        kw__cli_put(out, run->settings[i].value);
        kw__out_puts(out, "\n");
    }
}

static void put_findings(struct kw__out *out, const struct kw__finding *findings, size_t count)
{
    if (count) kw__out_puts(out, "\nFindings\n");
    for (size_t i = 0; i < count; i++) {
        const struct kw__finding *f = &findings[i];
        char text[1200];
        snprintf(text, sizeof text, "%s%s%s%s: %s; %s", f->code, f->window ? ", " : "",
                 f->window ? f->window : "", f->excludes ? " (left out of fits)" : "", f->message, f->advice);
        kw__cli_put_item(out, text);
    }
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int print_run(const struct kw__options *options, const struct kw__run *run,
                     const struct kw__finding *findings, size_t count)
{
    struct kw__out out;
    kw__out_init(&out);
    if (options->json) {
        kw__out_puts(&out, "{\"schema\": \"" KW__RUNS_SCHEMA "\", \"runs\": [\n");
        kw__run_put_json(&out, run, run->id, findings, count);
        kw__out_puts(&out, "\n]}\n");
        return kw__cli_emit(options, &out);
    }
    put_head(&out, run);
    put_windows(&out, run);
    put_reasons(&out, run);
    put_prediction(&out, run);
    put_channels(&out, run);
    put_details(&out, run);
    put_settings(&out, run);
    put_findings(&out, findings, count);
    return kw__cli_emit(options, &out);
}

int kw__runs_show(int argc, char **argv)
{
    struct kw__runs_settings settings = {0};
    const struct kw__option extra[] = {KW__RUNS_STORE(settings)};
    const struct kw__usage usage = {
        .name = "runs show",
        .synopsis = "RUN",
        .about =
            "Shows everything that is known of one run: its windows with their energies by device, what the\n"
            "meters saw, settings, versions and findings.",
        .sets = KW__WITH_JSON | KW__WITH_OUTPUT,
        .least = 1,
        .most = 1,
        .missing = "name the run to show, by the number that 'kinowatt runs' lists",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    struct kw__store *store;
    struct kw__run *run = NULL;
    struct kw__finding *findings;
    size_t count;
    int64_t id;
    kw_error err = {0};
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code == KW__PROCEED) code = kw__runs_id(options.args[0], &id);
    if (code != KW__PROCEED) return code;
    code = kw__runs_open(&settings, KW__STORE_READ, &store);
    if (code) return code;
    kw_status status = kw__store_get(store, id, &run, &err);
    if (!status) status = kw__store_get_findings(store, id, &run->arena, &findings, &count, &err);
    code = status ? kw__cli_fail(&err) : print_run(&options, run, findings, count);
    kw__run_free(run);
    kw__store_close(store);
    return code;
}
