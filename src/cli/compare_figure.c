/* The figure of kinowatt compare: what was measured and what is predicted of the same requests, on a log
 * scale, as models differ by three orders of magnitude. A category is a request; sources stand beside each
 * other in it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/compare.h"
#include "report/svg.h"

enum { PANELS = 6 };

/* Column of the points of one source, and their ends; one for each category, and one more for each that a
 * source has twice. */
struct source {
    enum kw__compare_kind kind;
    int reference;
    bool computed; /* of published ones: from runs with fewer steps, not measured */
    const char *label;
    double *x, *y[PANELS], *low[PANELS], *high[PANELS];
    size_t n;
};

static const struct {
    const char *title, *label;
    enum kw__compare_unit unit;
    enum kw__compare_figure figure;
} panels[PANELS] = {
    {"A clip", "Latency (s)", KW__PER_CLIP, KW__COMPARE_LATENCY},
    {"A clip", "GPU energy (Wh)", KW__PER_CLIP, KW__COMPARE_ENERGY},
    {"A clip", "CPU energy (Wh)", KW__PER_CLIP, KW__COMPARE_CPU},
    {"A clip", "RAM energy (Wh)", KW__PER_CLIP, KW__COMPARE_RAM},
    {"A second of video", "GPU Wh per second of video", KW__PER_SECOND, KW__COMPARE_ENERGY},
    {"A megapixel-frame", "GPU Wh per megapixel-frame", KW__PER_MEGAPIXEL_FRAME, KW__COMPARE_ENERGY},
};

static bool is_same_request(const struct kw__compare_entry *a, const struct kw__compare_entry *b)
{
    return strcmp(a->model, b->model) == 0 && a->width == b->width && a->height == b->height &&
           a->num_frames == b->num_frames && a->num_inference_steps == b->num_inference_steps;
}

/* A model at its defaults is shown where nothing of it was published. */
static bool is_shown(const struct kw__comparison *c, const struct kw__compare_entry *e)
{
    for (size_t i = 0; e->kind == KW__COMPARE_PREDICTED && i < c->count; i++)
        if (c->entries[i].kind == KW__COMPARE_PUBLISHED && strcmp(c->entries[i].model, e->model) == 0)
            return false;
    return true;
}

static struct source *source_of(struct kw__comparison *c, struct source *sources, size_t *count,
                                const struct kw__compare_entry *e)
{
    for (size_t i = 0; i < *count; i++)
        if (sources[i].kind == e->kind && sources[i].reference == e->reference &&
            sources[i].computed == (e->basis != NULL))
            return &sources[i];
    struct source *new = &sources[(*count)++];
    *new = (struct source){.kind = e->kind, .reference = e->reference, .computed = e->basis != NULL};
    new->x = kw__arena_alloc(&c->arena, c->count, sizeof *new->x);
    for (int p = 0; p < PANELS; p++) {
        new->y[p] = kw__arena_alloc(&c->arena, c->count, sizeof *new->y[p]);
        new->low[p] = kw__arena_alloc(&c->arena, c->count, sizeof *new->low[p]);
        new->high[p] = kw__arena_alloc(&c->arena, c->count, sizeof *new->high[p]);
    }
    if (e->kind == KW__COMPARE_PUBLISHED) {
        const struct kw__compare_reference *r = &c->references[e->reference - 1];
        new->label = kw__arena_printf(&c->arena, "%s: %s%s", r->gpu, r->source, e->basis ? ", computed" : "");
    } else {
        new->label = kw__arena_printf(&c->arena, "%s: predicted with %s", e->hardware, e->stack);
    }
    return new;
}

static void add_point(struct source *s, const struct kw__compare_entry *e, double x)
{
    for (int p = 0; p < PANELS; p++) {
        const kw_reading r = kw__compare_figure(e, panels[p].unit, panels[p].figure);
        s->y[p][s->n] = r.value;
        s->low[p][s->n] = r.low;
        s->high[p][s->n] = r.high;
    }
    s->x[s->n++] = x;
}

static enum kw__marker marker_of(const struct source *s)
{
    if (s->kind != KW__COMPARE_PUBLISHED) return KW__MARKER_CROSS;
    return s->computed ? KW__MARKER_RING : KW__MARKER_CIRCLE;
}

/* What the markers that are there mean; NULL without memory. */
static const char *note_of(struct kw__comparison *c, const struct source *sources, size_t count)
{
    bool measured = false, computed = false, beside = false, alone = false;
    for (size_t i = 0; i < count; i++) {
        const struct source *s = &sources[i];
        measured = measured || (s->kind == KW__COMPARE_PUBLISHED && !s->computed);
        computed = computed || s->computed;
        beside = beside || s->kind == KW__COMPARE_AS;
        alone = alone || s->kind == KW__COMPARE_PREDICTED;
    }
    return kw__arena_printf(
        &c->arena, "%s%s%s%s%sBars: 90 %% intervals.", measured ? "Discs: measured. " : "",
        computed ? "Rings: computed from runs with fewer steps, not measured. " : "",
        beside || alone ? "Crosses: predicted for the GPU and with the stack that the legend names" : "",
        beside  ? "; a coloured one for a row's request and GPU, also where the row ran another stack. "
        : alone ? ". "
                : "",
        beside && alone ? "Black ones: no published row has the model's name. " : "");
}

/* What a panel shows; false if that is nothing, as where energies of CPU and RAM are not known. */
static bool fill_series(struct kw__series *series, const struct source *sources, size_t count, int panel)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const struct source *s = &sources[i];
        series[i] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                        .x = s->x,
                                        .y = s->y[panel],
                                        .low = s->low[panel],
                                        .high = s->high[panel],
                                        .n = s->n,
                                        .label = s->label,
                                        .color = (unsigned)(s->reference ? s->reference - 1 : KW__COLORS - 1),
                                        .marker = marker_of(s)};
        for (size_t k = 0; k < s->n; k++) any = any || isfinite(s->y[panel][k]);
    }
    return any;
}

void kw__compare_svg(struct kw__out *out, struct kw__comparison *c)
{
    /* of each reference measured, computed and predicted rows; and the models at their defaults */
    const size_t most = 3 * c->num_references + 1;
    const struct kw__compare_entry **requests = kw__arena_alloc(&c->arena, c->count + 1, sizeof(void *));
    const char **names = kw__arena_alloc(&c->arena, c->count + 1, sizeof *names);
    struct source *sources = kw__arena_alloc(&c->arena, most, sizeof *sources);
    struct kw__series *series = kw__arena_alloc(&c->arena, PANELS * most, sizeof *series);
    size_t num_requests = 0, num_sources = 0;
    for (size_t i = 0; requests && names && sources && series && i < c->count; i++) {
        const struct kw__compare_entry *e = &c->entries[i];
        size_t k = 0;
        if (!is_shown(c, e)) continue;
        while (k < num_requests && !is_same_request(requests[k], e)) k++;
        if (k == num_requests) {
            names[k] = kw__arena_printf(&c->arena, "%s %" PRId64 "x%" PRId64 ", %" PRId64 " frames", e->model,
                                        e->width, e->height, e->num_frames);
            requests[num_requests++] = e;
        }
        struct source *s = source_of(c, sources, &num_sources, e);
        if (c->arena.failed) break;
        /* measured and predicted of one source close together, sources side by side */
        double at = e->reference ? (e->reference - (double)(c->num_references + 1) / 2) : 0;
        double step = 0.7 / (double)(c->num_references ? c->num_references : 1);
        add_point(s, e, (double)k + at * step + (e->kind == KW__COMPARE_AS ? 0.35 * step : 0));
    }
    const char *note = note_of(c, sources, num_sources);
    if (c->arena.failed) {
        out->failed = true;
        return;
    }
    /* names of many requests are turned, and take half of a narrow panel's width */
    const bool wide = num_requests > 6;
    struct kw__plot plots[PANELS] = {0};
    size_t num_plots = 0;
    for (int p = 0; p < PANELS; p++) {
        struct kw__series *mine = series + num_plots * num_sources;
        if (!fill_series(mine, sources, num_sources, p)) continue;
        plots[num_plots] = (struct kw__plot){
            .title = kw__arena_printf(&c->arena, "%c  %s", 'a' + (int)num_plots, panels[p].title),
            .y = {.label = panels[p].label, .scale = KW__SCALE_LOG10},
            .series = mine,
            .n_series = num_sources,
            .categories = names,
            .n_categories = num_requests,
            .legend = KW__LEGEND_NONE};
        num_plots++;
    }
    const size_t cols = wide ? 1 : 2, rows = (num_plots + cols - 1) / cols;
    if (rows) plots[(rows - 1) * cols].legend = KW__LEGEND_BELOW;
    const struct kw__figure figure = {.title = "Text-to-video models: latency and energy",
                                      .note = note,
                                      .width_pt = 516,
                                      .panel_height_pt = wide ? 116 : 130,
                                      .rows = rows,
                                      .cols = cols,
                                      .share_x = true,
                                      .plots = plots};
    if (c->arena.failed || kw__figure_render(&figure, out)) out->failed = true;
}
