/* The figures of kinowatt reproduce; reproduce.h is the manual. In all of them measured is vermilion
 * points or the first bars, the paper's closed form is orange and dashed, ours is blue. */
#include "cli/reproduce.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/svg.h"

enum { BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, BLACK };
#define PAGE_WIDTH 516 /* two columns of a journal, in points */

#define MU "\xCE\xBC"

static const double j_per_wh = 3600;

static double *column(struct kw__reproduction *r, size_t count, struct kw__out *out)
{
    double *values = kw__arena_alloc(&r->arena, count ? count : 1, sizeof *values);
    if (!values) out->failed = true;
    return values;
}

static void render(const struct kw__figure *figure, struct kw__out *out)
{
    if (!out->failed) (void)kw__figure_render(figure, out);
}

/* ---- Figures 2, 3, 4 ---- */

enum { X, MEASURED, PAPER, OURS, LOW, HIGH, PAPER_ERROR, OURS_ERROR, ZERO, SWEEP_COLUMNS };

static void fill_sweep(const struct kw__repro_sweep *sweep, bool energy, double *const *c)
{
    for (size_t i = 0; i < sweep->count; i++) {
        const struct kw__repro_point *p = &sweep->points[i];
        const kw_cost *total = &p->ours->total;
        const kw_reading *ours = energy ? &total->energy_j[KW_GPU] : &total->latency_s;
        double scale = energy ? 1 / j_per_wh : 1;
        c[X][i] = strcmp(sweep->axis, "resolution") == 0 ? p->x / 1e6 : p->x;
        c[MEASURED][i] = energy ? p->row->energy_wh[KW_GPU] : p->row->latency_s;
        c[PAPER][i] = energy ? p->paper_gpu_wh : p->paper_latency_s;
        c[OURS][i] = ours->value * scale;
        c[LOW][i] = ours->low * scale;
        c[HIGH][i] = ours->high * scale;
        c[ZERO][i] = 0;
        c[PAPER_ERROR][i] = 100 * (c[PAPER][i] / c[MEASURED][i] - 1);
        c[OURS_ERROR][i] = 100 * (c[OURS][i] / c[MEASURED][i] - 1);
    }
}

static void sweep_series(const struct kw__repro_sweep *sweep, double *const *c, struct kw__series *out)
{
    size_t n = sweep->count;
    out[0] = (struct kw__series){.kind = KW__SERIES_BAND,
                                 .x = c[X],
                                 .low = c[LOW],
                                 .high = c[HIGH],
                                 .n = n,
                                 .label = "Ours, 90 % interval"};
    out[1] = (struct kw__series){.kind = KW__SERIES_LINE,
                                 .x = c[X],
                                 .y = c[PAPER],
                                 .n = n,
                                 .label = "Paper's closed form",
                                 .color = ORANGE};
    out[2] = (struct kw__series){.kind = KW__SERIES_LINE, .x = c[X], .y = c[OURS], .n = n, .label = "Ours"};
    out[3] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                 .x = c[X],
                                 .y = c[MEASURED],
                                 .n = n,
                                 .label = "Measured",
                                 .color = VERMILION,
                                 .marker = KW__MARKER_CIRCLE};
}

/* The errors, over a line at 0. */
static void error_series(const struct kw__repro_sweep *sweep, double *const *c, struct kw__series *out)
{
    out[0] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                 .x = c[X],
                                 .y = c[PAPER_ERROR],
                                 .n = sweep->count,
                                 .label = "Paper's closed form",
                                 .color = ORANGE,
                                 .marker = KW__MARKER_CROSS};
    out[1] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                 .x = c[X],
                                 .y = c[OURS_ERROR],
                                 .n = sweep->count,
                                 .label = "Ours",
                                 .marker = KW__MARKER_CIRCLE};
    out[2] = (struct kw__series){.kind = KW__SERIES_LINE,
                                 .x = c[X],
                                 .y = c[ZERO],
                                 .n = sweep->count,
                                 .color = BLACK,
                                 .dash = KW__DASH_DOTTED};
}

static void sweep_figure(struct kw__reproduction *r, int s, struct kw__out *out)
{
    static const char *const labels[KW__REPRO_SWEEPS] = {"Pixels of a frame (millions)", "Frames asked for",
                                                         "Denoising steps"};
    const struct kw__repro_sweep *sweep = &r->sweeps[s];
    enum kw__scale scale = s == 0 ? KW__SCALE_LOG10 : KW__SCALE_LINEAR;
    struct kw__series series[2][4], errors[2][3];
    double *c[2][SWEEP_COLUMNS];
    for (int q = 0; q < 2; q++) {
        for (int k = 0; k < SWEEP_COLUMNS; k++) c[q][k] = column(r, sweep->count, out);
        if (out->failed) return;
        fill_sweep(sweep, q == 0, c[q]);
        sweep_series(sweep, c[q], series[q]);
        error_series(sweep, c[q], errors[q]);
    }
    const struct kw__axis x = {.label = labels[s], .scale = scale};
    const struct kw__plot plots[] = {
        {.title = "a  GPU energy",
         .x = x,
         .y = {.label = "GPU energy (Wh)", .scale = scale},
         .series = series[0],
         .n_series = 4},
        {.title = "b  Latency",
         .x = x,
         .y = {.label = "Latency (s)", .scale = scale},
         .series = series[1],
         .n_series = 4},
        {.title = "c  Error of the energy",
         .x = x,
         .y = {.label = "Error (%)"},
         .series = errors[0],
         .n_series = 3},
        {.title = "d  Error of the latency",
         .x = x,
         .y = {.label = "Error (%)"},
         .series = errors[1],
         .n_series = 3},
    };
    char note[400];
    snprintf(
        note, sizeof note,
        "After %s of %s. %s on %s with %s, measured by the authors of the paper. Error: predicted over measured, "
        "less 1. Ours: calibration %s%s.",
        sweep->figure, r->id, r->model, r->hardware, r->stack, r->calibration,
        r->stand_in ? "" : ", fitted to these rows");
    render(&(struct kw__figure){.title = sweep->axis,
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .panel_height_pt = 120,
                                .rows = 2,
                                .cols = 2,
                                .plots = plots},
           out);
}

void kw__repro_figure_resolution(struct kw__reproduction *r, struct kw__out *out)
{
    sweep_figure(r, 0, out);
}

void kw__repro_figure_frames(struct kw__reproduction *r, struct kw__out *out)
{
    sweep_figure(r, 1, out);
}

void kw__repro_figure_steps(struct kw__reproduction *r, struct kw__out *out)
{
    sweep_figure(r, 2, out);
}

/* ---- The fit ---- */

void kw__repro_figure_fit(struct kw__reproduction *r, struct kw__out *out)
{
    static const char *const names[KW__REPRO_SWEEPS] = {"Resolution sweep", "Frames sweep", "Steps sweep"};
    static const unsigned colors[KW__REPRO_SWEEPS] = {VERMILION, BLUE, GREEN};
    static const enum kw__marker markers[KW__REPRO_SWEEPS] = {KW__MARKER_CIRCLE, KW__MARKER_SQUARE,
                                                              KW__MARKER_CROSS};
    enum { PAPER_FLOP, EXACT_FLOP, LATENCY, FIT_COLUMNS };
    struct kw__series series[2][KW__REPRO_SWEEPS + 1];
    double ends[2][2], line[2][2];
    char labels[2][48];
    const double mu[2] = {r->printed_mu, r->exact.mu};
    for (int k = 0; k < 2; k++) {
        ends[k][0] = INFINITY;
        ends[k][1] = 0;
    }
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_sweep *sweep = &r->sweeps[s];
        double *c[FIT_COLUMNS];
        for (int k = 0; k < FIT_COLUMNS; k++) c[k] = column(r, sweep->count, out);
        if (out->failed) return;
        for (size_t i = 0; i < sweep->count; i++) {
            c[PAPER_FLOP][i] = sweep->points[i].paper_flop / 1e15;
            c[EXACT_FLOP][i] = sweep->points[i].ours->total.flop / 1e15;
            c[LATENCY][i] = sweep->points[i].row->latency_s;
            for (int k = 0; k < 2; k++) {
                ends[k][0] = fmin(ends[k][0], c[k][i]);
                ends[k][1] = fmax(ends[k][1], c[k][i]);
            }
        }
        for (int k = 0; k < 2; k++)
            series[k][s + 1] = (struct kw__series){.kind = KW__SERIES_POINTS,
                                                   .x = c[k],
                                                   .y = c[LATENCY],
                                                   .n = sweep->count,
                                                   .label = names[s],
                                                   .color = colors[s],
                                                   .marker = markers[s]};
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 2; i++) line[k][i] = 1e15 * ends[k][i] / (mu[k] * r->peak_flop_per_s);
        snprintf(labels[k], sizeof labels[k], k ? "Refitted, " MU " = %.3f" : "Printed, " MU " = %.3f",
                 mu[k]);
        series[k][0] = (struct kw__series){.kind = KW__SERIES_LINE,
                                           .x = ends[k],
                                           .y = line[k],
                                           .n = 2,
                                           .label = labels[k],
                                           .color = BLACK,
                                           .dash = KW__DASH_DASHED};
    }
    const struct kw__axis y = {.label = "Measured latency (s)", .scale = KW__SCALE_LOG10};
    const struct kw__plot plots[] = {
        {.title = "a  FLOPs of the closed form",
         .x = {.label = "PFLOP", .scale = KW__SCALE_LOG10},
         .y = y,
         .series = series[0],
         .n_series = KW__REPRO_SWEEPS + 1},
        {.title = "b  FLOPs of the exact graph",
         .x = {.label = "PFLOP", .scale = KW__SCALE_LOG10},
         .y = y,
         .series = series[1],
         .n_series = KW__REPRO_SWEEPS + 1},
    };
    char note[160];
    snprintf(note, sizeof note,
             "After section 3.4 of %s; %s on %s. Dashed: FLOPs over " MU " times the peak.", r->id, r->model,
             r->hardware);
    render(&(struct kw__figure){.title = "Latency against FLOPs",
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .rows = 1,
                                .cols = 2,
                                .plots = plots},
           out);
}

/* ---- Components: stacked bars of shares ---- */

enum { DRAWN = 5 };

/* Bottom to top; what is too thin to be told apart is one part. */
static void shares_of(const double *parts, double out[DRAWN])
{
    const double rest = parts[KW__REPRO_TEXT] + parts[KW__REPRO_TIME] + parts[KW__REPRO_OTHER];
    const double drawn[DRAWN] = {parts[KW__REPRO_SELF], parts[KW__REPRO_MLP], parts[KW__REPRO_CROSS],
                                 parts[KW__REPRO_DECODER], rest};
    double sum = 0;
    for (int c = 0; c < DRAWN; c++) sum += drawn[c];
    for (int c = 0; c < DRAWN; c++) out[c] = 100 * drawn[c] / sum;
}

void kw__repro_figure_components(struct kw__reproduction *r, struct kw__out *out)
{
    static const struct {
        const char *label;
        unsigned color;
        enum kw__hatch hatch;
    } looks[DRAWN] = {{"Self-attention", SKY, KW__HATCH_PLAIN},
                      {"MLP", ORANGE, KW__HATCH_RISING},
                      {"Cross-attention", GREEN, KW__HATCH_FALLING},
                      {"VAE decoder", PURPLE, KW__HATCH_DOTS},
                      {"Text, timestep, other", YELLOW, KW__HATCH_PLAIN}};
    struct kw__series series[3][DRAWN];
    double values[3][DRAWN][3];
    char sizes[3][48];
    const char *categories[3];
    for (int b = 0; b < 3; b++) {
        const struct kw__repro_breakdown *part = &r->breakdowns[b];
        const double *const of[3] = {part->paper_flop, part->flop, part->latency_s};
        snprintf(sizes[b], sizeof sizes[b], "%" PRId64 "x%" PRId64, part->ours->request.width,
                 part->ours->request.height);
        categories[b] = sizes[b];
        for (int k = 0; k < 3; k++) {
            double shares[DRAWN];
            shares_of(of[k], shares);
            for (int c = 0; c < DRAWN; c++) values[k][c][b] = shares[c];
        }
    }
    for (int k = 0; k < 3; k++)
        for (int c = 0; c < DRAWN; c++)
            series[k][c] = (struct kw__series){.kind = KW__SERIES_BARS,
                                               .y = values[k][c],
                                               .n = 3,
                                               .label = looks[c].label,
                                               .color = looks[c].color,
                                               .hatch = looks[c].hatch};
    static const char *const titles[3] = {"a  FLOPs, closed form", "b  FLOPs, exact graph", "c  Time, ours"};
    struct kw__plot plots[3];
    for (int k = 0; k < 3; k++)
        plots[k] = (struct kw__plot){.title = titles[k],
                                     .y = {.label = "Share (%)", .min = 0, .max = 100},
                                     .series = series[k],
                                     .n_series = DRAWN,
                                     .categories = categories,
                                     .n_categories = 3,
                                     .bars = KW__BARS_STACKED,
                                     .legend = k == 1 ? KW__LEGEND_BELOW : KW__LEGEND_NONE};
    char note[200];
    snprintf(note, sizeof note,
             "The paper has these shares as the layers of figures 2 to 4 only. %s, 81 frames, 50 steps.",
             r->model);
    render(&(struct kw__figure){.title = "Components",
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .panel_height_pt = 120,
                                .rows = 1,
                                .cols = 3,
                                .plots = plots},
           out);
}

/* ---- The decoder ---- */

enum { D_X, D_PAPER, D_OURS, D_LOW, D_HIGH, D_PAPER_SHARE, D_SHARE, D_ENERGY_SHARE, DECODER_COLUMNS };

static void fill_decoder(const struct kw__reproduction *r, const kw_prediction *p, bool frames, size_t i,
                         double *const *c)
{
    const kw_effective *e = &p->request;
    const kw_cost *decode = kw__repro_decode(p);
    struct kw__paper_flop f = kw__paper_flops((double)e->width, (double)e->height, (double)e->num_frames,
                                              (double)e->num_inference_steps);
    bool there = decode != NULL;
    c[D_X][i] = frames ? (double)e->num_frames : (double)(e->width * e->height) / 1e6;
    c[D_PAPER][i] = f.decoder / (r->printed_mu * r->peak_flop_per_s);
    c[D_OURS][i] = there ? decode->latency_s.value : NAN;
    c[D_LOW][i] = there ? decode->latency_s.low : NAN;
    c[D_HIGH][i] = there ? decode->latency_s.high : NAN;
    c[D_PAPER_SHARE][i] = 100 * f.decoder / kw__paper_total(&f);
    c[D_SHARE][i] = there ? 100 * decode->latency_s.value / p->total.latency_s.value : NAN;
    c[D_ENERGY_SHARE][i] =
        there ? 100 * decode->energy_j[KW_GPU].value / p->total.energy_j[KW_GPU].value : NAN;
}

static void decoder_series(double *const *c, size_t n, struct kw__series *time, struct kw__series *share)
{
    time[0] = (struct kw__series){.kind = KW__SERIES_BAND,
                                  .x = c[D_X],
                                  .low = c[D_LOW],
                                  .high = c[D_HIGH],
                                  .n = n,
                                  .label = "Ours, 90 % interval"};
    time[1] =
        (struct kw__series){.kind = KW__SERIES_LINE, .x = c[D_X], .y = c[D_OURS], .n = n, .label = "Ours"};
    time[2] = (struct kw__series){.kind = KW__SERIES_LINE,
                                  .x = c[D_X],
                                  .y = c[D_PAPER],
                                  .n = n,
                                  .label = "Paper's closed form",
                                  .color = ORANGE};
    share[0] = (struct kw__series){
        .kind = KW__SERIES_LINE, .x = c[D_X], .y = c[D_SHARE], .n = n, .label = "Ours, of the latency"};
    share[1] = (struct kw__series){.kind = KW__SERIES_LINE,
                                   .x = c[D_X],
                                   .y = c[D_ENERGY_SHARE],
                                   .n = n,
                                   .label = "Ours, of the GPU energy",
                                   .color = SKY,
                                   .dash = KW__DASH_DOTTED};
    share[2] = (struct kw__series){.kind = KW__SERIES_LINE,
                                   .x = c[D_X],
                                   .y = c[D_PAPER_SHARE],
                                   .n = n,
                                   .label = "Paper's closed form",
                                   .color = ORANGE};
}

void kw__repro_figure_decoder(struct kw__reproduction *r, struct kw__out *out)
{
    struct kw__series time[2][3], share[2][3];
    for (int a = 0; a < 2; a++) {
        size_t n = a ? r->num_frames : r->sweeps[0].count;
        double *c[DECODER_COLUMNS];
        for (int k = 0; k < DECODER_COLUMNS; k++) c[k] = column(r, n, out);
        if (out->failed) return;
        for (size_t i = 0; i < n; i++)
            fill_decoder(r, a ? r->frames[i] : r->sweeps[0].points[i].ours, a, i, c);
        decoder_series(c, n, time[a], share[a]);
    }
    const struct kw__axis pixels = {.label = "Pixels of a frame (millions)", .scale = KW__SCALE_LOG10},
                          frames = {.label = "Frames"},
                          seconds = {.label = "Decoding (s)", .min = 0, .max = NAN},
                          percent = {.label = "Share (%)", .min = 0, .max = NAN};
    const struct kw__plot plots[] = {
        {.title = "a  Decoding against size",
         .x = pixels,
         .y = {.label = "Decoding (s)", .scale = KW__SCALE_LOG10},
         .series = time[0],
         .n_series = 3},
        {.title = "b  Its share", .x = pixels, .y = percent, .series = share[0], .n_series = 3},
        {.title = "c  Decoding against frames", .x = frames, .y = seconds, .series = time[1], .n_series = 3},
        {.title = "d  Its share", .x = frames, .y = percent, .series = share[1], .n_series = 3},
    };
    char note[200];
    snprintf(
        note, sizeof note,
        "%s on %s with %s, 50 steps; a, b: 81 frames; c, d: 1280x720. The paper has no measured decoder.",
        r->model, r->hardware, r->stack);
    render(&(struct kw__figure){.title = "The VAE decoder",
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .panel_height_pt = 112,
                                .rows = 2,
                                .cols = 2,
                                .plots = plots},
           out);
}

/* ---- Models ---- */

void kw__repro_figure_models(struct kw__reproduction *r, struct kw__out *out)
{
    static const char *const devices[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};
    static const unsigned colors[KW_NUM_DEVICES] = {BLUE, ORANGE, GREEN};
    enum { MODELS = KW__REPRO_MODELS };
    const char *names[MODELS];
    double printed[2][MODELS], rows[2][MODELS], ours[2][MODELS], low[2][MODELS], high[2][MODELS],
        shares[KW_NUM_DEVICES][MODELS];
    size_t n = 0;
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        if (!m->row) continue;
        const double *wh = m->row->energy_wh, sum = wh[KW_GPU] + wh[KW_CPU] + wh[KW_RAM];
        for (int q = 0; q < 2; q++) {
            const kw_reading *p = !m->ours ? NULL
                                  : q      ? &m->ours->total.energy_j[KW_GPU]
                                           : &m->ours->total.latency_s;
            double scale = q ? 1 / j_per_wh : 1;
            printed[q][n] = q ? m->printed_wh[KW_GPU][0] : m->printed_latency[0];
            rows[q][n] = q ? wh[KW_GPU] : m->row->latency_s;
            ours[q][n] = p ? p->value * scale : NAN;
            low[q][n] = p ? p->low * scale : NAN;
            high[q][n] = p ? p->high * scale : NAN;
        }
        for (int d = 0; d < KW_NUM_DEVICES; d++) shares[d][n] = 100 * wh[d] / sum;
        names[n++] = m->title;
    }
    struct kw__series bars[2][3], stack[KW_NUM_DEVICES];
    for (int q = 0; q < 2; q++) {
        bars[q][0] = (struct kw__series){
            .kind = KW__SERIES_BARS, .y = printed[q], .n = n, .label = "Printed (table 4)", .color = ORANGE};
        bars[q][1] = (struct kw__series){.kind = KW__SERIES_BARS,
                                         .y = rows[q],
                                         .n = n,
                                         .label = "All stages of the rows",
                                         .color = VERMILION};
        bars[q][2] = (struct kw__series){.kind = KW__SERIES_BARS,
                                         .y = ours[q],
                                         .low = low[q],
                                         .high = high[q],
                                         .n = n,
                                         .label = "Ours",
                                         .color = BLUE};
    }
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        stack[d] = (struct kw__series){
            .kind = KW__SERIES_BARS, .y = shares[d], .n = n, .label = devices[d], .color = colors[d]};
    struct kw__plot plots[3] = {
        {.title = "a  GPU energy",
         .y = {.label = "GPU energy (Wh)", .scale = KW__SCALE_LOG10, .min = 0.01, .max = NAN},
         .series = bars[1],
         .n_series = 3},
        {.title = "b  Latency",
         .y = {.label = "Latency (s)", .scale = KW__SCALE_LOG10},
         .series = bars[0],
         .n_series = 3},
        {.title = "c  Shares of the energy",
         .y = {.label = "Share (%)", .min = 0, .max = 100},
         .series = stack,
         .n_series = KW_NUM_DEVICES,
         .bars = KW__BARS_STACKED,
         .legend = KW__LEGEND_BELOW},
    };
    for (int p = 0; p < 3; p++) {
        plots[p].categories = names;
        plots[p].n_categories = n;
    }
    char note[200];
    snprintf(note, sizeof note, "After table 4 and figure 5 of %s. A dash: the model is not built in.",
             r->id);
    render(&(struct kw__figure){.title = "Models",
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .panel_height_pt = 110,
                                .rows = 3,
                                .cols = 1,
                                .plots = plots},
           out);
}

/* ---- Thresholds ---- */

void kw__repro_figure_thresholds(struct kw__reproduction *r, struct kw__out *out)
{
    enum { ACCELERATORS = KW__REPRO_ACCELERATORS };
    static const char *const labels[] = {"Printed", "Printed peak over printed bandwidth", "Ours"};
    static const unsigned colors[] = {ORANGE, VERMILION, BLUE};
    const char *names[ACCELERATORS];
    double values[3][ACCELERATORS];
    struct kw__series series[3];
    size_t n = r->num_accelerators;
    for (size_t i = 0; i < n; i++) {
        const struct kw__repro_accelerator *a = &r->accelerators[i];
        names[i] = a->title;
        values[0][i] = a->attention;
        values[1][i] = a->flop_per_s / a->bytes_per_s;
        values[2][i] = a->ours.attention_tokens;
    }
    for (int k = 0; k < 3; k++)
        series[k] = (struct kw__series){
            .kind = KW__SERIES_BARS, .y = values[k], .n = n, .label = labels[k], .color = colors[k]};
    const struct kw__plot plot = {.title = "Attention is bound by compute from here on",
                                  .y = {.label = "Tokens", .min = 0, .max = NAN},
                                  .series = series,
                                  .n_series = 3,
                                  .categories = names,
                                  .n_categories = n,
                                  .legend = KW__LEGEND_BELOW};
    char note[200];
    snprintf(note, sizeof note,
             "After table 7 of %s. The MLP's threshold is twice this. A dash: no hardware profile.", r->id);
    render(&(struct kw__figure){.title = "Thresholds",
                                .note = note,
                                .width_pt = PAGE_WIDTH,
                                .panel_height_pt = 120,
                                .rows = 1,
                                .cols = 1,
                                .plots = &plot},
           out);
}
