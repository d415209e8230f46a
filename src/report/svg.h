/*
 * Figures fit for a paper, written as standalone SVG: 1 user unit is 1 pt, 8 pt sans-serif text,
 * axes left and bottom, a light grid, the Okabe-Ito palette. Colour never tells series apart
 * alone: lines have dashes, points have markers, areas and bars have hatches, so that grey print
 * and colour-blind readers lose nothing.
 *
 * Invariants
 * - The same figure gives the same bytes: no dates, no random ids, coordinates as %.2f.
 * - Absence is never 0. NaN and infinities (and, on a log axis, values that are not positive) are
 *   gaps in lines, bands and areas, missing points, and an en dash where a bar would stand. An
 *   absent part of a stacked area leaves a gap in it and in all areas above, whose height nobody
 *   knows; an absent part of a stacked bar is left out, with an en dash on top of the stack.
 * - Every text is escaped; the result is well-formed whatever the labels hold.
 * - Nothing is cut off: margins come from the widths of labels (DejaVu Sans, the widest font of
 *   the stack, so that Helvetica has room to spare), titles and notes are wrapped.
 *
 * All strings and arrays are borrowed for the duration of the call. Zeroed members are defaults,
 * so designated initialisers name only what matters:
 *
 *   const struct kw__series series[] = {
 *       {.kind = KW__SERIES_BAND, .x = px, .low = lo, .high = hi, .n = n, .label = "90 %
 * interval"},
 *       {.kind = KW__SERIES_LINE, .x = px, .y = predicted, .n = n, .label = "predicted"},
 *       {.kind = KW__SERIES_POINTS, .x = mx, .y = my, .n = 14, .label = "measured", .color = 1},
 *   };
 *   const struct kw__plot plot = {
 *       .x = {.label = "Pixels per frame", .scale = KW__SCALE_LOG10},
 *       .y = {.label = "Latency (s)", .scale = KW__SCALE_LOG10},
 *       .series = series, .n_series = 3};
 *   const struct kw__figure figure = {.plots = &plot, .rows = 1, .cols = 1};
 *   int status = kw__figure_render(&figure, &out);
 */
#ifndef KW__REPORT_SVG_H
#define KW__REPORT_SVG_H

#include "report/out.h"

enum kw__series_kind {
    KW__SERIES_LINE,   /* x, y; a marker if asked for; low and high are error bars */
    KW__SERIES_POINTS, /* x, y; low and high are error bars */
    KW__SERIES_BAND,   /* x, low, high */
    KW__SERIES_AREA,   /* x, y; stacked on the areas before it, which share its x */
    KW__SERIES_BARS,   /* y, one per category; low and high are error bars (grouped bars only) */
};

/* A default follows from the colour, in the order given (colour 0: solid, plain, circle; colour
 * 1: dashed, rising, square; ...), so that distinct colours are distinct in grey. */
enum kw__dash {
    KW__DASH_DEFAULT,
    KW__DASH_SOLID,
    KW__DASH_DASHED,
    KW__DASH_DOTTED,
    KW__DASH_DASHDOT,
};

enum kw__hatch {
    KW__HATCH_DEFAULT,
    KW__HATCH_PLAIN,
    KW__HATCH_RISING,
    KW__HATCH_FALLING,
    KW__HATCH_DOTS,
};

enum kw__marker {
    KW__MARKER_DEFAULT, /* of a line: none */
    KW__MARKER_CIRCLE,
    KW__MARKER_SQUARE,
    KW__MARKER_TRIANGLE,
    KW__MARKER_DIAMOND,
    KW__MARKER_CROSS,
    KW__MARKER_RING, /* a hollow circle; no default */
};

#define KW__COLORS 8 /* blue, orange, green, vermilion, purple, sky blue, yellow, black */

struct kw__series {
    enum kw__series_kind kind;
    const double *x; /* with categories NULL means 0, 1, 2, ... */
    const double *y;
    const double *low; /* absolute ends, not lengths; both or neither */
    const double *high;
    size_t n;
    const char *label; /* legend entry; NULL for none */
    unsigned color;    /* palette index, modulo KW__COLORS */
    enum kw__dash dash;
    enum kw__hatch hatch; /* areas and bars */
    enum kw__marker marker;
};

enum kw__scale { KW__SCALE_LINEAR, KW__SCALE_LOG10 };

/* Equal ends mean automatic, and so does a NaN at one end: {.min = 0, .max = NAN} starts at 0. */
struct kw__axis {
    const char *label;
    enum kw__scale scale;
    double min;
    double max;
};

enum kw__bars { KW__BARS_GROUPED, KW__BARS_STACKED };

enum kw__legend {
    KW__LEGEND_AUTO, /* the first corner free of data; below when there is none */
    KW__LEGEND_TOP_LEFT,
    KW__LEGEND_TOP_RIGHT,
    KW__LEGEND_BOTTOM_LEFT,
    KW__LEGEND_BOTTOM_RIGHT,
    KW__LEGEND_BELOW,
    KW__LEGEND_NONE,
};

struct kw__plot {
    const char *title; /* bold, above the axes; NULL for none */
    struct kw__axis x; /* scale and range are ignored with categories */
    struct kw__axis y;
    const struct kw__series *series; /* drawn in order, filled shapes before lines and points */
    size_t n_series;                 /* none: "no data" between the axes */
    const char *const *categories;   /* n_categories labels along x; bars need them */
    size_t n_categories;
    enum kw__bars bars;
    enum kw__legend legend;
};

struct kw__figure {
    const char *title;      /* for screen readers and browsers only; papers have captions */
    const char *note;       /* small print below everything: the source; NULL for none */
    const char *id;         /* prefix of the ids inside: a letter or '_', then letters, digits, '-', '_';
                               NULL: "kw". Figures that share an HTML page need different ones */
    double width_pt;        /* 0: 252 (89 mm, a journal's column); two columns are 516 */
    double panel_height_pt; /* height between the axes; 0: 0.62 of a panel's width */
    size_t rows, cols;      /* panels */
    const struct kw__plot *plots; /* rows * cols, row by row; a zeroed one leaves its place empty */
    bool share_x;                 /* one x range per column, labelled under its bottom row only */
};

/* Appends the SVG to `out`. Returns 0; -1, with `out` marked failed, when memory runs out or the
 * description makes no sense: no panels or more than 100, too narrow, a bad id, arrays missing,
 * bars without categories or not one per category, areas over different x, stacks on a log axis, a
 * fixed range that is empty or reaches 0 on a log axis. */
int kw__figure_render(const struct kw__figure *figure, struct kw__out *out);

/*
 * Tick positions inside [min, max], ascending, at most `cap`; they return how many.
 * Linear: the smallest step 1, 2 or 5 times a power of ten that gives at most `target` ticks.
 * Log: every power of ten times the mantissas of `level` (0: 1, 2, 5; 1: 1 alone; above that
 * every `level`th power of ten).
 */
size_t kw__ticks_linear(double min, double max, size_t target, double *ticks, size_t cap);
size_t kw__ticks_log(double min, double max, unsigned level, double *ticks, size_t cap);

#endif
