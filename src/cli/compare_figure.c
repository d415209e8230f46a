/* The figure of kinowatt compare: what was measured and what is predicted of the same requests, on a log
 * scale, as models differ by three orders of magnitude. A category is a request; sources stand beside each
 * other in it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/compare.h"
#include "report/svg.h"

/* Column of the points of one source, and their ends; one for each category, and one more for each that a
 * source has twice. */
struct source {
    enum kw__compare_kind kind;
    int reference;
    bool computed; /* of published ones: from runs with fewer steps, not measured */
    const char *label;
    double *x, *y[4], *low[4], *high[4];
    size_t n;
};

static const struct {
    const char *title, *label;
    enum kw__compare_unit unit;
    enum kw__compare_figure figure;
} panels[4] = {
    {"a  A clip", "Latency (s)", KW__PER_CLIP, KW__COMPARE_LATENCY},
    {"b  A clip", "GPU energy (Wh)", KW__PER_CLIP, KW__COMPARE_ENERGY},
    {"c  A second of video", "GPU Wh per second of video", KW__PER_SECOND, KW__COMPARE_ENERGY},
    {"d  A megapixel-frame", "GPU Wh per megapixel-frame", KW__PER_MEGAPIXEL_FRAME, KW__COMPARE_ENERGY},
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
    for (int p = 0; p < 4; p++) {
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
    for (int p = 0; p < 4; p++) {
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

void kw__compare_svg(struct kw__out *out, struct kw__comparison *c)
{
    /* of each reference measured, computed and predicted rows; and the models at their defaults */
    const size_t most = 3 * c->num_references + 1;
    const struct kw__compare_entry **requests = kw__arena_alloc(&c->arena, c->count + 1, sizeof(void *));
    const char **names = kw__arena_alloc(&c->arena, c->count + 1, sizeof *names);
    struct source *sources = kw__arena_alloc(&c->arena, most, sizeof *sources);
    struct kw__series *series = kw__arena_alloc(&c->arena, 4 * most, sizeof *series);
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
    struct kw__plot plots[4];
    for (int p = 0; p < 4; p++) {
        struct kw__series *mine = series + (size_t)p * num_sources;
        for (size_t i = 0; i < num_sources; i++)
            mine[i] = (struct kw__series){
                .kind = KW__SERIES_POINTS,
                .x = sources[i].x,
                .y = sources[i].y[p],
                .low = sources[i].low[p],
                .high = sources[i].high[p],
                .n = sources[i].n,
                .label = sources[i].label,
                .color = (unsigned)(sources[i].reference ? sources[i].reference - 1 : KW__COLORS - 1),
                .marker = marker_of(&sources[i])};
        plots[p] = (struct kw__plot){.title = panels[p].title,
                                     .y = {.label = panels[p].label, .scale = KW__SCALE_LOG10},
                                     .series = mine,
                                     .n_series = num_sources,
                                     .categories = names,
                                     .n_categories = num_requests,
                                     .legend = p == (wide ? 3 : 2) ? KW__LEGEND_BELOW : KW__LEGEND_NONE};
    }
    const struct kw__figure figure = {.title = "Text-to-video models: latency and GPU energy",
                                      .note = note,
                                      .width_pt = 516,
                                      .panel_height_pt = wide ? 122 : 130,
                                      .rows = wide ? 4 : 2,
                                      .cols = wide ? 1 : 2,
                                      .share_x = true,
                                      .plots = plots};
    if (kw__figure_render(&figure, out)) out->failed = true;
}
