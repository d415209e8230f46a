/* What is derived from the entries of kinowatt compare, and its tables. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare.h"

const struct kw__compare_unit_info kw__compare_units[KW__COMPARE_UNITS] = {
    {"Per clip", "clip"},
    {"Per second of video", "video_second"},
    {"Per megapixel-frame", "megapixel_frame"}};

double kw__compare_amount(const struct kw__compare_entry *e, enum kw__compare_unit unit)
{
    double clips = (double)e->batch_size, frames = clips * (double)e->num_frames;
    switch (unit) {
    case KW__PER_CLIP: return clips;
    case KW__PER_SECOND: return frames / e->fps;
    case KW__PER_MEGAPIXEL_FRAME: return frames * (double)e->width * (double)e->height / 1e6;
    default: return NAN;
    }
}

kw_reading kw__compare_figure(const struct kw__compare_entry *e, enum kw__compare_unit unit,
                              enum kw__compare_figure figure)
{
    kw_reading r = figure == KW__COMPARE_LATENCY ? e->latency_s
                   : figure == KW__COMPARE_CPU   ? e->energy_j[KW_CPU]
                   : figure == KW__COMPARE_RAM   ? e->energy_j[KW_RAM]
                                                 : e->energy_j[KW_GPU];
    double by = kw__compare_amount(e, unit) * (figure == KW__COMPARE_LATENCY ? 1 : 3600);
    r.value /= by;
    r.low /= by;
    r.high /= by;
    return r;
}

double kw__compare_share(const struct kw__compare_entry *e, int device)
{
    double all = 0;
    for (int d = 0; d < KW_NUM_DEVICES; d++) all += e->energy_j[d].value;
    return e->energy_j[device].value / all;
}

/* ---- Ranks ---- */

static bool is_peer(const struct kw__compare_entry *a, const struct kw__compare_entry *b)
{
    return a->kind == b->kind && a->reference == b->reference;
}

static struct kw__compare_rank rank_of(const struct kw__comparison *c, const struct kw__compare_entry *e,
                                       enum kw__compare_unit unit, enum kw__compare_figure figure)
{
    const kw_reading mine = kw__compare_figure(e, unit, figure);
    int less = 0, surely_less = 0, surely_more = 0, others = 0;
    if (isnan(mine.value)) return (struct kw__compare_rank){0};
    for (size_t i = 0; i < c->count; i++) {
        const struct kw__compare_entry *other = &c->entries[i];
        const kw_reading theirs = kw__compare_figure(other, unit, figure);
        if (other == e || !is_peer(other, e) || isnan(theirs.value)) continue;
        others++;
        less += theirs.value < mine.value;
        surely_less += theirs.high < mine.low;
        surely_more += theirs.low > mine.high;
    }
    if (!others) return (struct kw__compare_rank){0};
    return (struct kw__compare_rank){1 + less, 1 + surely_less, 1 + others - surely_more, 1 + others};
}

void kw__compare_rank(struct kw__comparison *c)
{
    for (size_t i = 0; i < c->count; i++)
        for (int u = 0; u < KW__COMPARE_UNITS; u++)
            for (int f = 0; f < KW__COMPARE_FIGURES; f++)
                c->entries[i].ranks[u][f] = rank_of(c, &c->entries[i], u, f);
}

/* ---- Cells ---- */

/* A tilde marks what was computed from other runs. */
static void marked_value(struct kw__table *table, const struct kw__compare_entry *e,
                         const char *(*format)(char *buffer, double value), double value)
{
    char buffer[1 + KW__FORMAT_SIZE] = "~";
    const char *text = format(buffer + 1, value);
    kw__table_value(table, e->basis ? text - 1 : text, value);
}

/* Two columns under each unit. */
static void add_units(struct kw__table *table)
{
    for (size_t u = 0; u < KW__COMPARE_UNITS; u++) {
        char name[64];
        struct kw__column column = {
            .name = name, .group = kw__compare_units[u].group, .align = KW__ALIGN_RIGHT};
        column.title = "Latency";
        snprintf(name, sizeof name, "latency_s_per_%s", kw__compare_units[u].suffix);
        kw__table_column(table, &column);
        column.title = "GPU";
        snprintf(name, sizeof name, "gpu_energy_wh_per_%s", kw__compare_units[u].suffix);
        kw__table_column(table, &column);
    }
}

static void unit_cells(struct kw__table *table, const struct kw__compare_entry *e)
{
    for (int u = 0; u < KW__COMPARE_UNITS; u++) {
        marked_value(table, e, kw__format_fine_seconds, kw__compare_figure(e, u, KW__COMPARE_LATENCY).value);
        marked_value(table, e, kw__format_fine_wh, kw__compare_figure(e, u, KW__COMPARE_ENERGY).value);
    }
}

static const char *source_text(const struct kw__compare_entry *e, char buffer[32])
{
    if (e->kind == KW__COMPARE_PREDICTED) return "predicted";
    snprintf(buffer, 32, "%s[%d]%s", e->kind == KW__COMPARE_PUBLISHED ? "" : "as ", e->reference,
             e->offload ? " offload" : "");
    return buffer;
}

/* ---- CSV: all of it, one line for each entry ---- */

static void csv_columns(struct kw__table *table)
{
    static const char *const names[] = {"model", "source", "hardware",   "stack",
                                        "width", "height", "num_frames", "num_inference_steps"};
    static const char *const ends[] = {"latency_s_low", "latency_s_high", "gpu_energy_wh_low",
                                       "gpu_energy_wh_high"};
    static const char *const parts[] = {"rank", "rank_low", "rank_high"};
    char name[64];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = names[i]});
    add_units(table);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(name, sizeof name, "%s_per_clip", ends[i]);
        kw__table_column(table, &(struct kw__column){.title = name});
    }
    for (int d = 1; d < KW_NUM_DEVICES; d++) {
        snprintf(name, sizeof name, "%s_energy_wh_per_clip", kw_device_name(d));
        kw__table_column(table, &(struct kw__column){.title = name});
    }
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        snprintf(name, sizeof name, "%s_energy_share", kw_device_name(d));
        kw__table_column(table, &(struct kw__column){.title = name});
    }
    for (int u = 0; u < KW__COMPARE_UNITS; u++)
        for (int f = 0; f < KW__COMPARE_FIGURES; f++)
            for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
                snprintf(name, sizeof name, "%s_%s_per_%s",
                         f == KW__COMPARE_LATENCY ? "latency" : "gpu_energy", parts[i],
                         kw__compare_units[u].suffix);
                kw__table_column(table, &(struct kw__column){.title = name});
            }
    kw__table_column(table, &(struct kw__column){.title = "basis"});
    kw__table_column(table, &(struct kw__column){.title = "note"});
}

static void csv_row(struct kw__table *table, const struct kw__compare_entry *e)
{
    const kw_reading latency = kw__compare_figure(e, KW__PER_CLIP, KW__COMPARE_LATENCY),
                     energy = kw__compare_figure(e, KW__PER_CLIP, KW__COMPARE_ENERGY);
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
    kw__table_number(table, 2, latency.low);
    kw__table_number(table, 2, latency.high);
    kw__table_number(table, 2, energy.low);
    kw__table_number(table, 2, energy.high);
    for (int d = 1; d < KW_NUM_DEVICES; d++)
        kw__table_number(table, 2, e->energy_j[d].value / 3600 / (double)e->batch_size);
    for (int d = 0; d < KW_NUM_DEVICES; d++) kw__table_number(table, 3, kw__compare_share(e, d));
    for (int u = 0; u < KW__COMPARE_UNITS; u++)
        for (int f = 0; f < KW__COMPARE_FIGURES; f++) {
            const struct kw__compare_rank *r = &e->ranks[u][f];
            kw__table_number(table, 0, r->value ? r->value : NAN);
            kw__table_number(table, 0, r->value ? r->low : NAN);
            kw__table_number(table, 0, r->value ? r->high : NAN);
        }
    kw__table_text(table, e->kind != KW__COMPARE_PUBLISHED ? "predicted" : e->basis ? e->basis : "measured");
    kw__table_text(table, e->note);
}

void kw__compare_csv(struct kw__table *table, const struct kw__comparison *c)
{
    kw__table_init(table);
    csv_columns(table);
    for (size_t i = 0; i < c->count; i++) csv_row(table, &c->entries[i]);
}

/* ---- Text ---- */

static void size_cell(struct kw__table *table, const struct kw__compare_entry *e)
{
    char buffer[64];
    snprintf(buffer, sizeof buffer, "%" PRId64 " x %" PRId64, e->width, e->height);
    kw__table_text(table, buffer);
}

static void put_figures(struct kw__out *out, const struct kw__comparison *c)
{
    static const struct kw__column columns[] = {
        {.title = "Model"},
        {.title = "Source"},
        {.title = "Size", .align = KW__ALIGN_RIGHT},
        {.title = "Frames", .align = KW__ALIGN_RIGHT},
        {.title = "Steps", .align = KW__ALIGN_RIGHT},
    };
    struct kw__table table;
    char buffer[32];
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(&table, &columns[i]);
    add_units(&table);
    for (size_t i = 0; i < c->count; i++) {
        const struct kw__compare_entry *e = &c->entries[i];
        kw__table_row(&table);
        kw__table_text(&table, e->model);
        kw__table_text(&table, source_text(e, buffer));
        size_cell(&table, e);
        kw__table_number(&table, 0, (double)e->num_frames);
        kw__table_number(&table, 0, (double)e->num_inference_steps);
        unit_cells(&table, e);
    }
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* Of entries whose host is known too. */
static void put_devices(struct kw__out *out, const struct kw__comparison *c)
{
    static const char *const devices[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};
    struct kw__table table;
    char buffer[64];
    bool any = false;
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Model"});
    kw__table_column(&table, &(struct kw__column){.title = "Source"});
    kw__table_column(&table, &(struct kw__column){.title = "Size", .align = KW__ALIGN_RIGHT});
    for (int share = 0; share < 2; share++)
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            kw__table_column(&table, &(struct kw__column){.title = devices[d],
                                                          .group = share ? "Share" : "Energy of a clip",
                                                          .align = KW__ALIGN_RIGHT});
    for (size_t i = 0; i < c->count; i++) {
        const struct kw__compare_entry *e = &c->entries[i];
        if (isnan(kw__compare_share(e, KW_GPU))) continue;
        any = true;
        kw__table_row(&table);
        kw__table_text(&table, e->model);
        kw__table_text(&table, source_text(e, buffer));
        size_cell(&table, e);
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            marked_value(&table, e, kw__format_fine_wh, e->energy_j[d].value / 3600 / (double)e->batch_size);
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            snprintf(buffer, sizeof buffer, "%.1f %%", 100 * kw__compare_share(e, d));
            kw__table_text(&table, buffer);
        }
    }
    if (any) {
        kw__out_puts(out, "\nEnergy by device\n");
        kw__table_render_text(&table, out);
    }
    kw__table_free(&table);
}

/* By source, and in it by the energy of a clip. */
static int by_rank(const void *a, const void *b)
{
    const struct kw__compare_entry *x = *(const struct kw__compare_entry *const *)a,
                                   *y = *(const struct kw__compare_entry *const *)b;
    if (x->reference != y->reference) return x->reference - y->reference;
    if (x->kind != y->kind) return (int)x->kind - (int)y->kind;
    int order =
        x->ranks[KW__PER_CLIP][KW__COMPARE_ENERGY].value - y->ranks[KW__PER_CLIP][KW__COMPARE_ENERGY].value;
    return order ? order : x < y ? -1 : x > y;
}

static void rank_cell(struct kw__table *table, const struct kw__compare_rank *r)
{
    char buffer[64];
    if (r->low == r->high)
        snprintf(buffer, sizeof buffer, "%d", r->value);
    else
        snprintf(buffer, sizeof buffer, "%d (%d-%d)", r->value, r->low, r->high);
    kw__table_text(table, r->value ? buffer : NULL);
}

static void put_ranks(struct kw__out *out, const struct kw__comparison *c)
{
    const struct kw__compare_entry **sorted = calloc(c->count + 1, sizeof *sorted), *last = NULL;
    struct kw__table table;
    char buffer[32];
    size_t count = 0;
    if (!sorted) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i].ranks[KW__PER_CLIP][KW__COMPARE_LATENCY].value) sorted[count++] = &c->entries[i];
    qsort(sorted, count, sizeof *sorted, by_rank);
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Source"});
    kw__table_column(&table, &(struct kw__column){.title = "Model"});
    kw__table_column(&table, &(struct kw__column){.title = "Size", .align = KW__ALIGN_RIGHT});
    add_units(&table);
    for (size_t i = 0; i < count; i++) {
        const struct kw__compare_entry *e = sorted[i];
        if (last && !is_peer(last, e))
            kw__table_row_ruled(&table);
        else
            kw__table_row(&table);
        last = e;
        kw__table_text(&table, source_text(e, buffer));
        kw__table_text(&table, e->model);
        size_cell(&table, e);
        for (int u = 0; u < KW__COMPARE_UNITS; u++)
            for (int f = 0; f < KW__COMPARE_FIGURES; f++) rank_cell(&table, &e->ranks[u][f]);
    }
    if (count) {
        kw__out_puts(out,
                     "\nRanks in each source, 1 the least; in brackets those that 90 % intervals allow\n");
        kw__table_render_text(&table, out);
    }
    kw__table_free(&table);
    free(sorted);
}

static void put_settings(struct kw__out *out, const struct kw__comparison *c)
{
    const struct kw__options *options = c->options;
    const char *by_default = " (default)", *chosen = c->calibration ? " (the calibration's)" : by_default;
    size_t first = 0; /* of ours; published rows name no stack */
    while (first < c->count && !c->entries[first].stack) first++;
    if (first == c->count) {
        kw__out_puts(out, "Published only: the models are not built in\n\n");
        return;
    }
    kw__out_puts(out, "Predicted for ");
    kw__cli_put(out, c->entries[first].hardware);
    kw__out_printf(out, "%s with ", options->predict.hardware ? "" : chosen);
    kw__cli_put(out, c->entries[first].stack);
    kw__out_printf(out, "%s, method %s%s\n\n", options->predict.stack ? "" : chosen,
                   kw_method_name(options->predict.method), options->method ? "" : by_default);
}

static void put_references(struct kw__out *out, const struct kw__comparison *c)
{
    bool computed = false;
    for (size_t i = 0; i < c->count; i++) computed = computed || c->entries[i].basis;
    if (computed) kw__out_puts(out, "\n~ computed from runs with fewer steps, not measured\n");
    if (c->num_references) kw__out_puts(out, "\nPublished\n");
    for (size_t i = 0; i < c->num_references; i++) {
        const struct kw__compare_reference *r = &c->references[i];
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
        const struct kw__compare_entry *e = &c->entries[i];
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

void kw__compare_text(struct kw__out *out, const struct kw__comparison *c)
{
    if (c->count) put_settings(out, c);
    put_figures(out, c);
    put_devices(out, c);
    put_ranks(out, c);
    put_references(out, c);
}
