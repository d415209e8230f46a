/* The figure of kinowatt scaling; scaling.h is the manual. */
#include "cli/scaling.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "report/svg.h"

static const struct {
    const char *component, *name;
} parts_of[KW__SCALING_PARTS] = {{"self_attention", "Self-attention"},
                                 {"mlp", "MLP"},
                                 {"cross_attention", "Cross-attention"},
                                 {"vae_decoder", "VAE decoder"},
                                 {"offload", "CPU offload"},
                                 {NULL, "Other"}};

const char *kw__scaling_part_name(int part)
{
    return parts_of[part].name;
}

void kw__scaling_parts(const kw_prediction *prediction, double parts[KW__SCALING_PARTS])
{
    for (int part = 0; part < KW__SCALING_PARTS; part++) parts[part] = 0;
    for (size_t i = 0; i < prediction->num_components; i++) {
        int part = 0;
        while (parts_of[part].component &&
               strcmp(parts_of[part].component, prediction->components[i].name) != 0)
            part++;
        parts[part] += prediction->components[i].latency_s.value;
    }
}

bool kw__scaling_has_part(const struct kw__scaling *scaling, int part)
{
    double parts[KW__SCALING_PARTS];
    for (size_t i = 0; i < scaling->num_points; i++) {
        kw__scaling_parts(scaling->points[i].prediction, parts);
        if (parts[part] > 0) return true;
    }
    return false;
}

/* The columns that the panels draw, in the scaling's arena. */
struct columns {
    double *x, *latency, *latency_low, *latency_high, *energy, *energy_low, *energy_high, *power, *power_low,
        *power_high, *latency_exponent, *energy_exponent, *part[KW__SCALING_PARTS], *share[KW__SCALING_PARTS];
    size_t n;
    double *row_x, *row_latency, *row_energy, *row_power;
    size_t rows;
};

static double *column(struct kw__arena *arena, size_t n)
{
    return kw__arena_alloc(arena, n ? n : 1, sizeof(double));
}

static bool new_columns(struct columns *c, struct kw__arena *arena, size_t n, size_t rows)
{
    double **const all[] = {&c->x,         &c->latency,    &c->latency_low,      &c->latency_high,
                            &c->energy,    &c->energy_low, &c->energy_high,      &c->power,
                            &c->power_low, &c->power_high, &c->latency_exponent, &c->energy_exponent};
    double **const of_rows[] = {&c->row_x, &c->row_latency, &c->row_energy, &c->row_power};
    c->n = n;
    c->rows = rows;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) *all[i] = column(arena, n);
    for (size_t i = 0; i < sizeof of_rows / sizeof of_rows[0]; i++) *of_rows[i] = column(arena, rows);
    for (int part = 0; part < KW__SCALING_PARTS; part++) {
        c->part[part] = column(arena, n);
        c->share[part] = column(arena, n);
    }
    return !arena->failed;
}

static void fill_columns(struct columns *c, const struct kw__scaling *s, double x_scale)
{
    const double wh = 1.0 / 3600;
    for (size_t i = 0; i < c->n; i++) {
        const struct kw__scaling_point *point = &s->points[i];
        const kw_cost *total = &point->prediction->total;
        const kw_reading *energy = &total->energy_j[KW_GPU];
        double parts[KW__SCALING_PARTS];
        c->x[i] = point->x * x_scale;
        c->latency[i] = total->latency_s.value;
        c->latency_low[i] = total->latency_s.low;
        c->latency_high[i] = total->latency_s.high;
        c->energy[i] = energy->value * wh;
        c->energy_low[i] = energy->low * wh;
        c->energy_high[i] = energy->high * wh;
        c->power[i] = total->power_w.value;
        c->power_low[i] = total->power_w.low;
        c->power_high[i] = total->power_w.high;
        c->latency_exponent[i] = point->latency_exponent;
        c->energy_exponent[i] = point->energy_exponent;
        kw__scaling_parts(point->prediction, parts);
        for (int part = 0; part < KW__SCALING_PARTS; part++) {
            c->part[part][i] = parts[part];
            c->share[part][i] = 100 * parts[part] / total->latency_s.value;
        }
    }
    for (size_t i = 0; i < c->rows; i++) {
        const struct kw__row *row = s->rows[i].row;
        c->row_x[i] = s->rows[i].x * x_scale;
        c->row_latency[i] = row->latency_s;
        c->row_energy[i] = row->energy_wh[KW_GPU];
        c->row_power[i] = row->energy_wh[KW_GPU] / wh / row->latency_s;
    }
}

/* The small print: what was predicted, and where the points are from. */
static void note_of(char *buffer, size_t size, const struct kw__scaling *s)
{
    const kw_prediction *p = s->points[0].prediction;
    const kw_effective *r = &p->request;
    char fixed[96], published[160] = "";
    const char *frames = kw__plural(r->num_frames), *steps = kw__plural(r->num_inference_steps);
    if (s->axis == KW__AXIS_RESOLUTION)
        snprintf(fixed, sizeof fixed, "%" PRId64 " frame%s, %" PRId64 " step%s", r->num_frames, frames,
                 r->num_inference_steps, steps);
    else if (s->axis == KW__AXIS_FRAMES)
        snprintf(fixed, sizeof fixed, "%" PRId64 " x %" PRId64 ", %" PRId64 " step%s", r->width, r->height,
                 r->num_inference_steps, steps);
    else
        snprintf(fixed, sizeof fixed, "%" PRId64 " x %" PRId64 ", %" PRId64 " frame%s", r->width, r->height,
                 r->num_frames, frames);
    if (s->num_rows)
        snprintf(published, sizeof published, " Points: %s, %s.", s->rows[0].row->source,
                 s->rows[0].row->gpu);
    snprintf(buffer, size, "%s at %s on %s with %s. Method %s%s%s; bands are 90 %% intervals.%s", p->model,
             fixed, p->hardware, p->stack, kw_method_name(p->method), p->calibration ? ", calibration " : "",
             p->calibration ? p->calibration : "", published);
}

enum { MOST_SERIES = KW__SCALING_PARTS + 4 };

/* A band where there are intervals, a line, and the published points. Returns how many series. */
static size_t measured_series(struct kw__series *out, const struct columns *c, const double *y,
                              const double *low, const double *high, const double *published)
{
    size_t n = 0;
    if (isfinite(low[0]))
        out[n++] = (struct kw__series){.kind = KW__SERIES_BAND,
                                       .x = c->x,
                                       .low = low,
                                       .high = high,
                                       .n = c->n,
                                       .label = "90 % interval"};
    out[n++] =
        (struct kw__series){.kind = KW__SERIES_LINE, .x = c->x, .y = y, .n = c->n, .label = "Predicted"};
    if (c->rows)
        out[n++] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                       .x = c->row_x,
                                       .y = published,
                                       .n = c->rows,
                                       .label = "Published",
                                       .color = 3,
                                       .marker = KW__MARKER_CIRCLE};
    return n;
}

static const struct {
    unsigned color;
    enum kw__hatch hatch;
} looks[KW__SCALING_PARTS] = {{5, KW__HATCH_PLAIN}, {1, KW__HATCH_RISING}, {2, KW__HATCH_FALLING},
                              {4, KW__HATCH_DOTS},  {0, KW__HATCH_RISING}, {6, KW__HATCH_PLAIN}};

static size_t stacked_series(struct kw__series *out, const struct columns *c, const struct kw__scaling *s,
                             double *const *parts)
{
    size_t n = 0;
    for (int part = 0; part < KW__SCALING_PARTS; part++)
        if (kw__scaling_has_part(s, part))
            out[n++] = (struct kw__series){.kind = KW__SERIES_AREA,
                                           .x = c->x,
                                           .y = parts[part],
                                           .n = c->n,
                                           .label = parts_of[part].name,
                                           .color = looks[part].color,
                                           .hatch = looks[part].hatch};
    return n;
}

/* Over the areas: the interval's ends as lines, which hide nothing, and the published points. */
static size_t over_stack(struct kw__series *out, const struct columns *c)
{
    size_t n = 0;
    const double *const ends[] = {c->latency_low, c->latency_high};
    for (int end = 0; end < 2 && isfinite(c->latency_low[0]); end++)
        out[n++] = (struct kw__series){.kind = KW__SERIES_LINE,
                                       .x = c->x,
                                       .y = ends[end],
                                       .n = c->n,
                                       .label = end ? NULL : "90 % interval",
                                       .color = 7,
                                       .dash = KW__DASH_DASHED};
    if (c->rows)
        out[n++] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                       .x = c->row_x,
                                       .y = c->row_latency,
                                       .n = c->rows,
                                       .label = "Published",
                                       .color = 7,
                                       .marker = KW__MARKER_CIRCLE};
    return n;
}

/* What the panels draw; the arrays are in the scaling's arena. */
struct drawing {
    struct columns c;
    struct kw__series stack[MOST_SERIES], shares[MOST_SERIES], latency[MOST_SERIES], energy[MOST_SERIES],
        power[MOST_SERIES], exponents[MOST_SERIES];
    double ends[2], law[2], limit[2];
};

static size_t power_series(struct drawing *d)
{
    struct columns *c = &d->c;
    size_t n = measured_series(d->power, c, c->power, c->power_low, c->power_high, c->row_power);
    if (isfinite(d->limit[0]))
        d->power[n++] = (struct kw__series){.kind = KW__SERIES_LINE,
                                            .x = d->ends,
                                            .y = d->limit,
                                            .n = 2,
                                            .label = "Power limit",
                                            .color = 7,
                                            .dash = KW__DASH_DOTTED};
    return n;
}

static size_t exponent_series(struct drawing *d)
{
    const struct columns *c = &d->c;
    const double *const y[] = {c->latency_exponent, c->energy_exponent};
    static const char *const labels[] = {"Latency", "GPU energy"};
    for (unsigned i = 0; i < 2; i++)
        d->exponents[i] = (struct kw__series){
            .kind = KW__SERIES_LINE, .x = c->x, .y = y[i], .n = c->n, .label = labels[i], .color = i};
    d->exponents[2] = (struct kw__series){.kind = KW__SERIES_LINE,
                                          .x = d->ends,
                                          .y = d->law,
                                          .n = 2,
                                          .label = d->law[0] > 1 ? "Quadratic" : "Linear",
                                          .color = 7,
                                          .dash = KW__DASH_DOTTED};
    return 3;
}

static double lowest_exponent(const struct columns *c)
{
    double lowest = INFINITY;
    for (size_t i = 0; i < c->n; i++)
        lowest = fmin(lowest, fmin(c->latency_exponent[i], c->energy_exponent[i]));
    return lowest;
}

static void prepare(struct drawing *d, const struct kw__scaling *s)
{
    struct columns *c = &d->c;
    fill_columns(c, s, s->axis == KW__AXIS_RESOLUTION ? 1e-6 : 1);
    d->ends[0] = c->x[0];
    d->ends[1] = c->x[c->n - 1];
    d->law[0] = d->law[1] = s->axis == KW__AXIS_STEPS ? 1 : 2;
    d->limit[0] = d->limit[1] = s->points[0].prediction->request.power_limit_w;
}

void kw__scaling_figure(struct kw__out *out, struct kw__scaling *s)
{
    static const char *const x_labels[KW__NUM_AXES] = {"Pixels of a frame (millions)", "Frames",
                                                       "Denoising steps"};
    struct drawing d;
    struct columns *c = &d.c;
    if (!new_columns(c, &s->arena, s->num_points, s->num_rows)) {
        out->failed = true;
        return;
    }
    prepare(&d, s);
    const struct kw__axis linear_x = {.label = x_labels[s->axis], .min = 0, .max = NAN},
                          log_x = {.label = x_labels[s->axis], .scale = KW__SCALE_LOG10};
    size_t stacked = stacked_series(d.stack, c, s, c->part);
    stacked += over_stack(d.stack + stacked, c);
    const struct kw__plot plots[6] = {
        {.title = "a  Latency by component",
         .x = linear_x,
         .y = {.label = "Latency (s)"},
         .series = d.stack,
         .n_series = stacked},
        {.title = "b  Share of the latency",
         .x = log_x,
         .y = {.label = "Share (%)", .min = 0, .max = 100},
         .series = d.shares,
         .n_series = stacked_series(d.shares, c, s, c->share),
         .legend = KW__LEGEND_NONE},
        {.title = "c  Latency",
         .x = log_x,
         .y = {.label = "Latency (s)", .scale = KW__SCALE_LOG10},
         .series = d.latency,
         .n_series =
             measured_series(d.latency, c, c->latency, c->latency_low, c->latency_high, c->row_latency)},
        {.title = "d  GPU energy",
         .x = log_x,
         .y = {.label = "GPU energy (Wh)", .scale = KW__SCALE_LOG10},
         .series = d.energy,
         .n_series = measured_series(d.energy, c, c->energy, c->energy_low, c->energy_high, c->row_energy)},
        {.title = "e  Mean power of the GPU",
         .x = log_x,
         .y = {.label = "Power (W)"},
         .series = d.power,
         .n_series = power_series(&d)},
        {.title = "f  Local exponent, d ln y / d ln x",
         .x = log_x,
         .y = {.label = "Exponent", .min = lowest_exponent(c) < 0 ? NAN : 0, .max = NAN},
         .series = d.exponents,
         .n_series = exponent_series(&d)},
    };
    char note[512];
    note_of(note, sizeof note, s);
    const struct kw__figure figure = {.title = "Latency, GPU energy and power along one axis",
                                      .note = note,
                                      .width_pt = 516,
                                      .panel_height_pt = 118,
                                      .rows = 3,
                                      .cols = 2,
                                      .plots = plots};
    (void)kw__figure_render(&figure, out);
}
