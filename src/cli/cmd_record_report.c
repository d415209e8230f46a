/* What `kinowatt record` prints after the command's end. Windows of one name within the same stage are one
 * row; the JSON has each. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/record.h"

#define EN_DASH "\xE2\x80\x93"

static const double wh_per_j = 1.0 / 3600;
static const char *const device_titles[KW_NUM_DEVICES] = {
    [KW_GPU] = "GPU", [KW_CPU] = "CPU", [KW_RAM] = "RAM"};

/* Windows of one name in one place. */
struct row {
    const char *name;
    int64_t parent; /* row; -1: none */
    int depth;
    int64_t count;
    double seconds;
    kw_reading energy_j[KW_NUM_DEVICES]; /* sums; absent when one is */
};

static void add_window(struct row *row, const struct kw__run_window *window)
{
    row->seconds += window->duration_s;
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *r = &window->energy_j[d];
        kw_reading *sum = &row->energy_j[d];
        if (row->count == 0) {
            *sum = *r;
        } else if (r->status == KW_ABSENT) {
            *sum = *r;
        } else if (sum->status != KW_ABSENT) {
            sum->value += r->value;
            sum->low += r->low;
            sum->high += r->high;
        }
    }
    row->count++;
}

/* The run's windows as rows, each behind the row it is nested in. NULL without memory. */
static struct row *make_rows(const struct kw__run *run, size_t *count)
{
    struct row *rows = calloc(run->num_windows + 1, sizeof *rows);
    size_t *row_of = calloc(run->num_windows + 1, sizeof *row_of);
    *count = 0;
    for (size_t i = 0; rows && row_of && i < run->num_windows; i++) {
        const struct kw__run_window *window = &run->windows[i];
        int64_t parent = window->parent < 0 ? -1 : (int64_t)row_of[window->parent];
        size_t place = 0;
        while (place < *count &&
               (rows[place].parent != parent || strcmp(rows[place].name, window->name) != 0))
            place++;
        if (place == *count)
            rows[(*count)++] = (struct row){
                .name = window->name, .parent = parent, .depth = parent < 0 ? 0 : rows[parent].depth + 1};
        row_of[i] = place;
        add_window(&rows[place], window);
    }
    if (!row_of) {
        free(rows);
        rows = NULL;
    }
    free(row_of);
    return rows;
}

static bool is_measured(const struct kw__run *run, int device)
{
    for (size_t i = 0; i < run->num_windows; i++)
        if (run->windows[i].energy_j[device].status != KW_ABSENT) return true;
    return false;
}

static void add_columns(struct kw__table *table, const struct kw__run *run, bool counted)
{
    kw__table_column(table, &(struct kw__column){.title = "Stage"});
    if (counted) kw__table_column(table, &(struct kw__column){.title = "n", .align = KW__ALIGN_RIGHT});
    kw__table_column(table, &(struct kw__column){.title = "Time", .align = KW__ALIGN_RIGHT});
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!is_measured(run, d)) continue;
        const char *const titles[] = {"energy", "from", "to", "power"};
        for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
            kw__table_column(table, &(struct kw__column){.title = titles[i],
                                                         .group = device_titles[d],
                                                         .align = KW__ALIGN_RIGHT});
    }
}

static void add_row(struct kw__table *table, const struct kw__run *run, const struct row *row, bool counted)
{
    char buffer[KW__FORMAT_SIZE], name[256];
    kw__table_row(table);
    snprintf(name, sizeof name, "%*s%s", 2 * (row->depth < 60 ? row->depth : 60), "", row->name);
    kw__table_text(table, name);
    if (counted) kw__table_number(table, 0, (double)row->count);
    kw__table_value(table, kw__format_seconds(buffer, row->seconds), row->seconds);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!is_measured(run, d)) continue;
        const kw_reading *r = &row->energy_j[d];
        const double values[] = {r->value, r->low, r->high};
        for (size_t i = 0; i < 3; i++)
            kw__table_value(table, kw__format_wh(buffer, values[i] * wh_per_j), values[i]);
        double power = row->seconds > 0 ? r->value / row->seconds : NAN;
        kw__table_value(table, kw__format_w(buffer, power), power);
    }
}

/* A row, then what is nested in it. */
static void add_tree(struct kw__table *table, const struct kw__run *run, const struct row *rows, size_t count,
                     size_t at, bool counted)
{
    add_row(table, run, &rows[at], counted);
    for (size_t i = at + 1; i < count; i++)
        if (rows[i].parent == (int64_t)at) add_tree(table, run, rows, count, i, counted);
}

static void put_stages(struct kw__out *out, const struct kw__run *run)
{
    size_t count;
    struct row *rows = make_rows(run, &count);
    struct kw__table table;
    bool counted = false;
    if (!rows) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) counted = counted || rows[i].count > 1;
    kw__table_init(&table);
    add_columns(&table, run, counted);
    if (count) add_tree(&table, run, rows, count, 0, counted);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    free(rows);
}

/* ---- Devices --------------------------------------------------------------------------------------- */

static const struct kw__run_detail *whole_detail(const struct kw__run *run, size_t channel)
{
    for (size_t i = 0; i < run->num_details; i++)
        if (run->details[i].window == 0 && run->details[i].channel == channel) return &run->details[i];
    return NULL;
}

/* "GPU  NVIDIA H200 GPU-8a..., by counter; 1755 MHz, 61 C at most; throttled by power cap" */
static void put_channel(struct kw__out *out, const struct kw__run *run, size_t index)
{
    const struct kw__run_channel *channel = &run->channels[index];
    const struct kw__run_detail *detail = whole_detail(run, index);
    char throttle[160];
    kw__out_printf(out, "%-4s  ", device_titles[channel->device]);
    if (channel->name) {
        kw__cli_put(out, channel->name);
        kw__out_puts(out, " ");
    }
    kw__cli_put(out, channel->label);
    if (detail) {
        kw__out_puts(out, detail->method == KW_METER_BY_COUNTER ? ", energy counter"
                          : detail->method == KW_METER_BY_POWER ? ", power integrated"
                                                                : ", not measured");
        if (isfinite(detail->sm_clock_mhz)) kw__out_printf(out, ", %.0f MHz", detail->sm_clock_mhz);
        if (isfinite(detail->highest_temperature_c))
            kw__out_printf(out, ", %.0f C at most", detail->highest_temperature_c);
        if (detail->throttle_known && (detail->throttle_reasons & ~(uint64_t)1))
            kw__out_printf(
                out, ", held down by %s",
                kw_meter_throttle_text(detail->throttle_reasons & ~(uint64_t)1, throttle, sizeof throttle));
        if (detail->flags & KW_METER_GAP) kw__out_puts(out, ", with gaps");
        if (detail->flags & KW_METER_FROZEN) kw__out_puts(out, ", its counter stood still");
        if (detail->flags & KW_METER_DISAGREES) kw__out_puts(out, ", counter and power disagree");
        if (channel->device == KW_GPU && detail->other_processes > 0)
            kw__out_printf(out, ", shared with %" PRId64 " other processes", detail->other_processes);
        if (channel->device == KW_GPU && detail->other_processes < 0)
            kw__out_puts(out, ", other processes not known");
    }
    if (channel->note) {
        kw__out_puts(out, "; ");
        kw__cli_put(out, channel->note);
    }
    kw__out_puts(out, "\n");
}

static void put_devices(struct kw__out *out, const struct kw__run *run)
{
    char buffer[KW__FORMAT_SIZE];
    for (int d = 0; d < KW_NUM_DEVICES && run->num_windows; d++) {
        const kw_reading *energy = &run->windows[0].energy_j[d], *idle = &run->windows[0].idle_power_w[d];
        for (size_t c = 0; c < run->num_channels; c++)
            if (run->channels[c].device == d) put_channel(out, run, c);
        if (energy->status == KW_ABSENT) {
            kw__out_printf(out, "%-4s  " EN_DASH "  (absent: ", device_titles[d]);
            kw__cli_put(out, energy->reason ? energy->reason : "not known");
            kw__out_puts(out, ")\n");
        }
        if (idle->status != KW_ABSENT)
            kw__out_printf(out, "%-4s  %s when idle\n", device_titles[d], kw__format_w(buffer, idle->value));
    }
}

void kw__record_put(struct kw__out *out, const struct kw__run *run, const struct kw__record *record,
                    const char *command)
{
    char buffer[KW__FORMAT_SIZE], line[100];
    size_t cut = strlen(command), dots = cut < sizeof line ? 0 : 3;
    if (dots) /* not within a character */
        for (cut = sizeof line - 1 - dots; cut > 0 && ((unsigned char)command[cut] & 0xC0) == 0x80; cut--)
            continue;
    snprintf(line, sizeof line, "%.*s%.*s", (int)cut, command, (int)dots, "...");
    kw__out_puts(out, "kinowatt: ");
    kw__cli_put(out, line);
    kw__out_printf(out, "\n          %s, ", kw__format_seconds(buffer, run->windows[0].duration_s));
    if (record->signal)
        kw__out_printf(out, "killed by signal %d (%s)\n\n", record->signal, strsignal(record->signal));
    else
        kw__out_printf(out, "exit code %d\n\n", record->exit_code);
    put_stages(out, run);
    kw__out_puts(out, "\n");
    put_devices(out, run);
    if (run->id) kw__out_printf(out, "\nKept as run %" PRId64 "\n", run->id);
}

/* ---- Warnings -------------------------------------------------------------------------------------- */

/* "3 stages never closed, 2 ends of what had not begun": what there is of it. */
static void warn_of_marks(const struct kw__mark_faults *f)
{
    const struct {
        int64_t count;
        const char *what;
    } faults[] = {{f->unclosed, "never closed (they end with the run)"},
                  {f->out_of_order, "ended before one that began in them"},
                  {f->unknown, "ends of what had not begun"},
                  {f->after, "after the command's end"},
                  {f->wrong_time, "with an impossible time (that of arrival was taken)"},
                  {f->over, "more than can be kept (4096 in all, 32 deep)"},
                  {f->garbage, "not understood"}};
    char text[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i].count > 0)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRId64 " %s", used ? ", " : "",
                                     faults[i].count, faults[i].what);
    if (used) kw__cli_warn("marks: %s", text);
}

void kw__record_warn(const struct kw__record *record, const struct kw__run *run)
{
    const char *nvtx = kw__run_setting(run, "run.nvtx");
    warn_of_marks(kw__marks_faults(record->marks));
    if (nvtx) kw__cli_warn("NVTX: %s", nvtx);
    if (record->no_marks) kw__cli_warn("no marks could come: %s", record->no_marks);
    if (record->lost) kw__cli_warn("%s", record->lost);
    if (record->stopped_s > 0)
        kw__cli_warn("the command was stopped for %.1f s, which are in the figures", record->stopped_s);
    bool one = record->num_left == 1;
    if (record->num_left)
        kw__cli_warn("%zu process%s that it started go%s on, and %s not in the figures any more: %s",
                     record->num_left, one ? "" : "es", one ? "es" : "", one ? "is" : "are", record->left);
}
