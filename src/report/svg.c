/*
 * Figures as SVG; svg.h is the manual. This file checks the description and draws what
 * svg_layout.c has placed; it decides no position itself.
 */
#include "report/svg_panel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EN_DASH "\xE2\x80\x93"

/* Okabe and Ito, ordered so that neighbours differ in lightness; `ink` draws hatches on it. */
static const struct {
    const char *rgb;
    const char *ink;
} palette[KW__COLORS] = {{"#0072B2", "#FFFFFF"}, {"#E69F00", "#5C4000"}, {"#009E73", "#FFFFFF"},
                         {"#D55E00", "#FFFFFF"}, {"#CC79A7", "#5A2443"}, {"#56B4E9", "#124A69"},
                         {"#F0E442", "#6B6510"}, {"#000000", "#FFFFFF"}};

static const char *rgb_of(const struct kw__series *s)
{
    return palette[s->color % KW__COLORS].rgb;
}

static enum kw__dash dash_of(const struct kw__series *s)
{
    return s->dash != KW__DASH_DEFAULT ? s->dash : (enum kw__dash)(1 + s->color % 4);
}

static enum kw__hatch hatch_of(const struct kw__series *s)
{
    return s->hatch != KW__HATCH_DEFAULT ? s->hatch : (enum kw__hatch)(1 + s->color % 4);
}

/* KW__MARKER_DEFAULT: none. */
static enum kw__marker marker_of(const struct kw__series *s)
{
    if (s->marker != KW__MARKER_DEFAULT || s->kind != KW__SERIES_POINTS) {
        return s->marker;
    }
    return (enum kw__marker)(1 + s->color % 5);
}

/* ---- checking ---- */

static bool valid_axis(const struct kw__axis *axis)
{
    bool log_scale = axis->scale == KW__SCALE_LOG10;
    if (axis->min == axis->max) {
        return true;
    }
    if (isinf(axis->min) || isinf(axis->max) || axis->min >= axis->max) {
        return false;
    }
    return !log_scale || !(axis->min <= 0 || axis->max <= 0);
}

static bool valid_series(const struct kw__plot *plot, const struct kw__series *s)
{
    bool log_y = plot->y.scale == KW__SCALE_LOG10;
    if (s->n > 0 && s->kind != KW__SERIES_BAND && s->y == NULL) {
        return false;
    }
    if (s->kind == KW__SERIES_BAND && s->n > 0 && s->low == NULL) {
        return false;
    }
    if ((s->low == NULL) != (s->high == NULL) || (kw__svg_stacks(plot, s) && log_y)) {
        return false;
    }
    if (s->kind == KW__SERIES_BARS) {
        bool errors = s->low != NULL && plot->bars == KW__BARS_STACKED;
        return plot->n_categories > 0 && s->n == plot->n_categories && !errors;
    }
    if (s->x == NULL && s->n > 0 && plot->n_categories == 0) {
        return false;
    }
    for (const struct kw__series *t = plot->series; t < s && s->kind == KW__SERIES_AREA; t++) {
        if (t->kind != KW__SERIES_AREA) {
            continue;
        }
        for (size_t i = 0; i < s->n; i++) {
            if (t->n != s->n || kw__svg_x_of(t, i) != kw__svg_x_of(s, i)) {
                return false;
            }
        }
    }
    return true;
}

static bool valid(const struct kw__figure *figure)
{
    if (figure->rows == 0 || figure->cols == 0 || figure->plots == NULL ||
        figure->rows > 100 / figure->cols || !(figure->width_pt >= 0) || !(figure->panel_height_pt >= 0) ||
        figure->width_pt > 1e4 || figure->panel_height_pt > 1e4) {
        return false;
    }
    /* Ids stand in attributes and in url(#...), where escaping would not help. */
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    if (figure->id != NULL &&
        (strspn(figure->id, letters) != strlen(figure->id) || strcspn(figure->id, "0123456789-") == 0)) {
        return false;
    }
    for (size_t p = 0; p < figure->rows * figure->cols; p++) {
        const struct kw__plot *plot = &figure->plots[p];
        if (!valid_axis(&plot->x) || !valid_axis(&plot->y) || (plot->n_series > 0 && plot->series == NULL) ||
            (plot->n_categories > 0 && plot->categories == NULL)) {
            return false;
        }
        for (size_t s = 0; s < plot->n_series; s++) {
            if (!valid_series(plot, &plot->series[s])) {
                return false;
            }
        }
    }
    return true;
}

/* ---- drawing ---- */

static const char *dash_attribute(enum kw__dash dash)
{
    switch (dash) {
    case KW__DASH_DASHED: return " stroke-dasharray=\"4 2\"";
    case KW__DASH_DOTTED: return " stroke-dasharray=\"0.2 2.2\"";
    case KW__DASH_DASHDOT: return " stroke-dasharray=\"5 2 0.2 2\"";
    default: return "";
    }
}

static void put_line(struct kw__out *out, double x1, double y1, double x2, double y2, const char *style)
{
    kw__out_printf(out, "<path d=\"M%.2f %.2fL%.2f %.2f\"%s/>\n", kw__svg_pt(x1), kw__svg_pt(y1),
                   kw__svg_pt(x2), kw__svg_pt(y2), style);
}

static void put_label(struct kw__out *out, double x, double y, const char *style,
                      const struct kw__svg_label *label)
{
    kw__out_printf(out, "<text x=\"%.2f\" y=\"%.2f\"%s>%s", kw__svg_pt(x), kw__svg_pt(y), style, label->text);
    if (label->raised[0] != '\0') {
        kw__out_printf(out, "<tspan dy=\"-2.6\" font-size=\"5\">%s</tspan>", label->raised);
    }
    kw__out_puts(out, "</text>\n");
}

static void put_marker(struct kw__out *out, const struct kw__series *s, double x, double y)
{
    const char *edge = " stroke=\"#FFFFFF\" stroke-width=\"0.4\"/>\n";
    x = kw__svg_pt(x);
    y = kw__svg_pt(y);
    switch (marker_of(s)) {
    case KW__MARKER_DEFAULT: return;
    case KW__MARKER_CIRCLE: kw__out_printf(out, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"2.2\"", x, y); break;
    case KW__MARKER_RING:
        kw__out_printf(out,
                       "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"1.9\" fill=\"#FFFFFF\" stroke=\"%s\" "
                       "stroke-width=\"1\"/>\n",
                       x, y, rgb_of(s));
        return;
    case KW__MARKER_SQUARE: kw__out_printf(out, "<path d=\"M%.2f %.2fh4v4h-4z\"", x - 2, y - 2); break;
    case KW__MARKER_TRIANGLE: kw__out_printf(out, "<path d=\"M%.2f %.2fl2.5 4.3h-5z\"", x, y - 2.8); break;
    case KW__MARKER_DIAMOND:
        kw__out_printf(out, "<path d=\"M%.2f %.2fl2.7 2.7l-2.7 2.7l-2.7 -2.7z\"", x, y - 2.7);
        break;
    case KW__MARKER_CROSS:
        kw__out_printf(out,
                       "<path d=\"M%.2f %.2fl4 4m-4 0l4 -4\" fill=\"none\" stroke=\"%s\" "
                       "stroke-width=\"1.2\"/>\n",
                       x - 2, y - 2, rgb_of(s));
        return;
    }
    kw__out_printf(out, " fill=\"%s\"%s", rgb_of(s), edge);
}

/* The fill attribute of an area, bar or their swatch. */
static void put_fill(struct kw__out *out, const char *id, const struct kw__series *s)
{
    if (hatch_of(s) == KW__HATCH_PLAIN) {
        kw__out_printf(out, " fill=\"%s\"", rgb_of(s));
    } else {
        kw__out_printf(out, " fill=\"url(#%s-h%u%d)\"", id, s->color % KW__COLORS, (int)hatch_of(s));
    }
    kw__out_puts(out, " stroke=\"#FFFFFF\" stroke-width=\"0.4\"");
}

static void put_patterns(struct kw__out *out, const struct kw__figure *figure, const char *id)
{
    bool done[KW__COLORS][KW__HATCH_DOTS + 1] = {0};
    for (size_t p = 0; p < figure->rows * figure->cols; p++) {
        const struct kw__plot *plot = &figure->plots[p];
        for (const struct kw__series *s = plot->series; s < plot->series + plot->n_series; s++) {
            bool filled = s->kind == KW__SERIES_AREA || s->kind == KW__SERIES_BARS;
            enum kw__hatch hatch = hatch_of(s);
            unsigned color = s->color % KW__COLORS;
            if (!filled || hatch == KW__HATCH_PLAIN || done[color][hatch]) {
                continue;
            }
            done[color][hatch] = true;
            kw__out_printf(out,
                           "<pattern id=\"%s-h%u%d\" width=\"3\" height=\"3\" "
                           "patternUnits=\"userSpaceOnUse\"%s>"
                           "<rect width=\"3\" height=\"3\" fill=\"%s\"/>",
                           id, color, (int)hatch,
                           hatch == KW__HATCH_RISING    ? " patternTransform=\"rotate(45)\""
                           : hatch == KW__HATCH_FALLING ? " patternTransform=\"rotate(-45)\""
                                                        : "",
                           palette[color].rgb);
            if (hatch == KW__HATCH_DOTS) {
                kw__out_printf(out, "<circle cx=\"1.5\" cy=\"1.5\" r=\"0.6\" fill=\"%s\"/>",
                               palette[color].ink);
            } else {
                kw__out_printf(out, "<path d=\"M0 0V3\" stroke=\"%s\" stroke-width=\"1\"/>",
                               palette[color].ink);
            }
            kw__out_puts(out, "</pattern>\n");
        }
    }
}

static void draw_grid(struct kw__out *out, const struct kw__svg_panel *panel)
{
    const char *style = " stroke=\"#E4E4E4\" stroke-width=\"0.5\"";
    for (size_t t = 0; t < panel->x_ticks.n && panel->plot->n_categories == 0; t++) {
        double x = kw__svg_px(panel, panel->x_ticks.at[t]);
        put_line(out, x, panel->y0, x, panel->y0 + panel->h, style);
    }
    for (size_t t = 0; t < panel->y_ticks.n; t++) {
        double y = kw__svg_py(panel, panel->y_ticks.at[t]);
        put_line(out, panel->x0, y, panel->x0 + panel->w, y, style);
    }
}

/* Small unlabelled ticks at 2..9 of each decade show at a glance that an axis is logarithmic. */
static void draw_minor_ticks(struct kw__out *out, const struct kw__svg_panel *panel, bool vertical)
{
    const struct kw__svg_range *range = vertical ? &panel->y : &panel->x;
    const char *style = " stroke=\"#000000\" stroke-width=\"0.4\"";
    if (!range->log || range->invented || range->max / range->min > 1e6) {
        return;
    }
    for (int e = (int)floor(log10(range->min)); e <= (int)ceil(log10(range->max)); e++) {
        for (int m = 2; m <= 9; m++) {
            double value = kw__svg_times_power(m, e);
            if (value < range->min || value > range->max) {
                continue;
            }
            double x = vertical ? panel->x0 : kw__svg_px(panel, value);
            double y = vertical ? kw__svg_py(panel, value) : panel->y0 + panel->h;
            put_line(out, x, y, x - (vertical ? 1.5 : 0), y + (vertical ? 0 : 1.5), style);
        }
    }
}

static void draw_y_axis(struct kw__out *out, const struct kw__svg_panel *panel)
{
    const char *line = " stroke=\"#000000\" stroke-width=\"0.6\"";
    const struct kw__svg_ticks *ticks = &panel->y_ticks;
    put_line(out, panel->x0, panel->y0, panel->x0, panel->y0 + panel->h, line);
    for (size_t t = 0; t < ticks->n; t++) {
        struct kw__svg_label label = kw__svg_tick_label(ticks, ticks->at[t]);
        double y = kw__svg_py(panel, ticks->at[t]);
        put_line(out, panel->x0 - TICK, y, panel->x0, y, line);
        put_label(out, panel->x0 - TICK - 2, y + 0.36 * SMALL, " font-size=\"7\" text-anchor=\"end\"",
                  &label);
    }
    draw_minor_ticks(out, panel, true);
    if (ticks->power != 0) {
        struct kw__svg_label label;
        kw__svg_power_label(&label, TIMES, ticks->power);
        put_label(out, panel->x0, panel->y0 - 4, " font-size=\"7\"", &label);
    }
    if (panel->plot->y.label != NULL) {
        kw__out_printf(out, "<g transform=\"translate(%.2f %.2f) rotate(-90)\">\n",
                       kw__svg_pt(panel->x0 - panel->y_labels + FONT), kw__svg_pt(panel->y0 + panel->h / 2));
        (void)kw__svg_put_wrapped(out, 0, 0, " text-anchor=\"middle\"", FONT, panel->h + 6,
                                  panel->plot->y.label);
        kw__out_puts(out, "</g>\n");
    }
}

static void draw_categories(struct kw__out *out, const struct kw__svg_panel *panel)
{
    const struct kw__plot *plot = panel->plot;
    double slot = panel->w / (double)plot->n_categories;
    double y = panel->y0 + panel->h + TICK;
    for (size_t c = 0; c < plot->n_categories; c++) {
        double x = panel->x0 + slot * ((double)c + 0.5);
        if (panel->categories.turned) {
            kw__out_printf(out, "<g transform=\"translate(%.2f %.2f) rotate(-40)\">\n", kw__svg_pt(x + 2),
                           kw__svg_pt(y + 0.7 * SMALL));
            kw__svg_put_text(out, 0, 0, " font-size=\"7\" text-anchor=\"end\"", plot->categories[c],
                             strlen(plot->categories[c]));
            kw__out_puts(out, "</g>\n");
        } else {
            (void)kw__svg_put_wrapped(out, x, y + SMALL, " font-size=\"7\" text-anchor=\"middle\"", SMALL,
                                      slot - 3, plot->categories[c]);
        }
    }
}

static void draw_x_axis(struct kw__out *out, const struct kw__svg_panel *panel)
{
    const char *line = " stroke=\"#000000\" stroke-width=\"0.6\"";
    const struct kw__plot *plot = panel->plot;
    const struct kw__svg_ticks *ticks = &panel->x_ticks;
    double over_left, over_right;
    double base = panel->y0 + panel->h;
    put_line(out, panel->x0, base, panel->x0 + panel->w, base, line);
    for (size_t t = 0; t < ticks->n && plot->n_categories == 0; t++) {
        struct kw__svg_label label = kw__svg_tick_label(ticks, ticks->at[t]);
        double x = kw__svg_px(panel, ticks->at[t]);
        put_line(out, x, base, x, base + TICK, line);
        if (panel->x_labels) {
            put_label(out, x, base + TICK + SMALL, " font-size=\"7\" text-anchor=\"middle\"", &label);
        }
    }
    draw_minor_ticks(out, panel, false);
    if (!panel->x_labels) {
        return;
    }
    draw_categories(out, panel);
    double y = base + kw__svg_x_label_depth(panel, &over_left, &over_right) + FONT + 2;
    (void)kw__svg_put_wrapped(out, panel->x0 + panel->w / 2, y, " text-anchor=\"middle\"", FONT,
                              panel->w + panel->right, plot->x.label);
    if (ticks->power != 0 && plot->n_categories == 0) {
        struct kw__svg_label label;
        kw__svg_power_label(&label, TIMES, ticks->power);
        put_label(out, panel->x0 + panel->w + panel->right - 2, y, " font-size=\"7\" text-anchor=\"end\"",
                  &label);
    }
}

/* Bands and areas: one closed path for every run of points without a gap. */
static void draw_filled(struct kw__out *out, const struct kw__svg_panel *panel, const char *id,
                        const struct kw__series *s)
{
    double low, high;
    for (size_t from = 0, to; from < s->n; from = to + 1) {
        for (to = from; to < s->n; to++) {
            kw__svg_ends(panel->plot, s, to, &low, &high);
            if (!kw__svg_present(kw__svg_x_of(s, to), panel->x.log) || !kw__svg_present(low, panel->y.log) ||
                !kw__svg_present(high, panel->y.log)) {
                break;
            }
        }
        if (to == from) {
            continue;
        }
        kw__out_puts(out, "<path d=\"");
        for (size_t i = from; i < to; i++) {
            kw__svg_ends(panel->plot, s, i, &low, &high);
            kw__out_printf(out, "%c%.2f %.2f", i == from ? 'M' : 'L',
                           kw__svg_pt(kw__svg_px(panel, kw__svg_x_of(s, i))),
                           kw__svg_pt(kw__svg_py(panel, high)));
        }
        for (size_t i = to; i-- > from;) {
            kw__svg_ends(panel->plot, s, i, &low, &high);
            kw__out_printf(out, "L%.2f %.2f", kw__svg_pt(kw__svg_px(panel, kw__svg_x_of(s, i))),
                           kw__svg_pt(kw__svg_py(panel, low)));
        }
        kw__out_puts(out, "z\"");
        if (s->kind == KW__SERIES_AREA) {
            put_fill(out, id, s);
        } else {
            kw__out_printf(out,
                           " fill=\"%s\" fill-opacity=\"0.22\" stroke=\"%s\" "
                           "stroke-width=\"0.4\" stroke-opacity=\"0.6\"",
                           rgb_of(s), rgb_of(s));
        }
        kw__out_puts(out, "/>\n");
    }
}

static void draw_bars(struct kw__out *out, const struct kw__svg_panel *panel, const char *id,
                      const struct kw__series *s)
{
    for (size_t i = 0; i < s->n; i++) {
        double low, high, x, width;
        kw__svg_ends(panel->plot, s, i, &low, &high);
        kw__svg_bar_place(panel, s, i, &x, &width);
        bool drawn = kw__svg_present(high, panel->y.log);
        double from = kw__svg_py(panel, kw__svg_stacks(panel->plot, s) && drawn ? low : kw__svg_foot(panel));
        double to = drawn ? kw__svg_py(panel, high) : from;
        if (!drawn) {
            /* Absent, not 0: a dash in its place, over the rest of a stack. */
            bool stacked = kw__svg_stacks(panel->plot, s) && kw__svg_present(low, false);
            kw__svg_put_text(out, x + width / 2, (stacked ? kw__svg_py(panel, low) : from) - 0.5,
                             " font-size=\"7\" text-anchor=\"middle\"", EN_DASH, strlen(EN_DASH));
            continue;
        }
        kw__out_printf(out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"", kw__svg_pt(x),
                       kw__svg_pt(fmin(from, to)), width, kw__svg_pt(fabs(to - from)));
        put_fill(out, id, s);
        kw__out_puts(out, "/>\n");
    }
}

static void draw_line(struct kw__out *out, const struct kw__svg_panel *panel, const struct kw__series *s)
{
    bool open = false; /* the path element */
    bool pen = false;  /* down */
    for (size_t i = 0; i < s->n; i++) {
        double x = kw__svg_x_of(s, i);
        if (!kw__svg_present(x, panel->x.log) || !kw__svg_present(s->y[i], panel->y.log)) {
            pen = false;
            continue;
        }
        kw__out_puts(out, open ? "" : "<path d=\"");
        /* "h0" with round caps leaves a dot where a point stands alone between gaps. */
        kw__out_printf(out, "%s%.2f %.2f%s", pen ? "L" : "M", kw__svg_pt(kw__svg_px(panel, x)),
                       kw__svg_pt(kw__svg_py(panel, s->y[i])), pen ? "" : "h0");
        open = pen = true;
    }
    if (open) {
        kw__out_printf(out,
                       "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.2\" "
                       "stroke-linecap=\"round\" stroke-linejoin=\"round\"%s/>\n",
                       rgb_of(s), dash_attribute(dash_of(s)));
    }
}

static void draw_error_bars(struct kw__out *out, const struct kw__svg_panel *panel,
                            const struct kw__series *s)
{
    bool bars = s->kind == KW__SERIES_BARS;
    for (size_t i = 0; i < s->n && s->low != NULL; i++) {
        double x, width;
        if (!kw__svg_present(kw__svg_x_of(s, i), panel->x.log) || !kw__svg_present(s->y[i], panel->y.log) ||
            !kw__svg_present(s->low[i], panel->y.log) || !kw__svg_present(s->high[i], panel->y.log)) {
            continue;
        }
        if (bars) {
            kw__svg_bar_place(panel, s, i, &x, &width);
            x += width / 2;
        } else {
            x = kw__svg_px(panel, kw__svg_x_of(s, i));
        }
        double low = kw__svg_pt(kw__svg_py(panel, s->low[i]));
        double high = kw__svg_pt(kw__svg_py(panel, s->high[i]));
        kw__out_printf(out,
                       "<path d=\"M%.2f %.2fh3m-1.5 0V%.2fm-1.5 0h3\" fill=\"none\" "
                       "stroke=\"%s\" stroke-width=\"0.7\"/>\n",
                       kw__svg_pt(x) - 1.5, high, low, bars ? "#000000" : rgb_of(s));
    }
}

static bool inside(double v, double from, double length)
{
    return v >= from - 0.01 && v <= from + length + 0.01;
}

/* Not clipped, since half a marker on the axis would look like another value. */
static void draw_markers(struct kw__out *out, const struct kw__svg_panel *panel, const struct kw__series *s)
{
    for (size_t i = 0; i < s->n; i++) {
        double x = kw__svg_x_of(s, i);
        if (!kw__svg_present(x, panel->x.log) || !kw__svg_present(s->y[i], panel->y.log)) {
            continue;
        }
        x = kw__svg_px(panel, x);
        double y = kw__svg_py(panel, s->y[i]);
        if (inside(x, panel->x0, panel->w) && inside(y, panel->y0, panel->h)) {
            put_marker(out, s, x, y);
        }
    }
}

static void draw_data(struct kw__out *out, const struct kw__svg_panel *panel, const char *id, size_t p)
{
    const struct kw__plot *plot = panel->plot;
    const struct kw__series *end = plot->series + plot->n_series;
    kw__out_printf(out, "<g clip-path=\"url(#%s-c%zu)\">\n", id, p);
    for (const struct kw__series *s = plot->series; s < end; s++) {
        if (s->kind == KW__SERIES_BAND || s->kind == KW__SERIES_AREA) {
            draw_filled(out, panel, id, s);
        } else if (s->kind == KW__SERIES_BARS) {
            draw_bars(out, panel, id, s);
        }
    }
    for (const struct kw__series *s = plot->series; s < end; s++) {
        if (s->kind == KW__SERIES_LINE) {
            draw_line(out, panel, s);
        }
        if (s->kind != KW__SERIES_BAND && s->kind != KW__SERIES_AREA) {
            draw_error_bars(out, panel, s);
        }
    }
    kw__out_puts(out, "</g>\n");
    for (const struct kw__series *s = plot->series; s < end; s++) {
        if (s->kind == KW__SERIES_LINE || s->kind == KW__SERIES_POINTS) {
            draw_markers(out, panel, s);
        }
    }
}

/* Swatch from `x` on, centred on `y`, and the label after it. */
static void draw_entry(struct kw__out *out, const char *id, const struct kw__series *s, double x, double y,
                       double width)
{
    if (s->kind == KW__SERIES_LINE) {
        kw__out_printf(out,
                       "<path d=\"M%.2f %.2fh%.2f\" stroke=\"%s\" stroke-width=\"1.2\" "
                       "stroke-linecap=\"round\"%s/>\n",
                       x, y, SWATCH, rgb_of(s), dash_attribute(dash_of(s)));
    }
    if (s->kind == KW__SERIES_LINE || s->kind == KW__SERIES_POINTS) {
        put_marker(out, s, x + SWATCH / 2, y);
    } else {
        kw__out_printf(out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"5.6\"", x + 1, y - 2.8,
                       SWATCH - 2);
        if (s->kind == KW__SERIES_BAND) {
            kw__out_printf(out, " fill=\"%s\" fill-opacity=\"0.22\"", rgb_of(s));
        } else {
            put_fill(out, id, s);
        }
        kw__out_puts(out, "/>\n");
    }
    (void)kw__svg_put_wrapped(out, x + SWATCH + 4, y + 0.36 * SMALL, " font-size=\"7\"", SMALL, width,
                              s->label);
}

static void draw_legend(struct kw__out *out, const struct kw__svg_panel *panel, const char *id)
{
    const struct kw__plot *plot = panel->plot;
    double x, y, w, h;
    size_t place = 0;
    if (panel->legend == KW__LEGEND_NONE) {
        return;
    }
    if (panel->legend == KW__LEGEND_BELOW) {
        struct kw__svg_below b = kw__svg_legend_below(panel);
        w = (double)b.cols * b.entry_w;
        h = (double)(b.rows * b.lines) * LEADING * SMALL;
        x = fmax(panel->outer_x, panel->x0 + panel->w / 2 - w / 2 + 4);
        x = fmin(x, panel->outer_x + panel->outer_w - w);
        y = panel->y0 + panel->h + panel->bottom - h + LEADING * SMALL / 2;
        for (const struct kw__series *s = plot->series; s < plot->series + plot->n_series; s++) {
            if (kw__svg_has_entry(s)) {
                double row = (double)(place / b.cols * b.lines);
                draw_entry(out, id, s, x + (double)(place % b.cols) * b.entry_w, y + row * LEADING * SMALL,
                           b.entry_w - SWATCH - 4);
                place++;
            }
        }
        return;
    }
    kw__svg_legend_box(panel, panel->legend, &x, &y, &w, &h);
    kw__out_printf(out,
                   "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
                   "fill=\"#FFFFFF\" fill-opacity=\"0.85\"/>\n",
                   kw__svg_pt(x), kw__svg_pt(y), w, h);
    for (size_t k = 0; k < plot->n_series; k++) {
        /* A stack's legend reads like the stack, from the top. */
        bool reverse = kw__svg_stacks(plot, &plot->series[0]);
        const struct kw__series *s = &plot->series[reverse ? plot->n_series - 1 - k : k];
        if (kw__svg_has_entry(s)) {
            double row = (double)place++ + 0.5;
            draw_entry(out, id, s, x + 3, y + 2 + row * LEADING * SMALL, w);
        }
    }
}

static void draw_panel(struct kw__out *out, const struct kw__svg_panel *panel, const char *id, size_t p)
{
    const struct kw__plot *plot = panel->plot;
    bool any = false;
    for (const struct kw__series *s = plot->series; s < plot->series + plot->n_series; s++) {
        for (size_t i = 0; i < s->n && !any; i++) {
            double low, high;
            kw__svg_ends(plot, s, i, &low, &high);
            any = kw__svg_present(kw__svg_x_of(s, i), panel->x.log) && kw__svg_present(high, panel->y.log);
        }
    }
    draw_grid(out, panel);
    if (any) {
        draw_data(out, panel, id, p);
    } else {
        kw__svg_put_text(out, panel->x0 + panel->w / 2, panel->y0 + panel->h / 2,
                         " text-anchor=\"middle\" fill=\"#666666\"", "no data", strlen("no data"));
    }
    draw_x_axis(out, panel);
    draw_y_axis(out, panel);
    draw_legend(out, panel, id);
    double room = panel->w + panel->right;
    double lines = (double)kw__svg_count_lines(plot->title, FONT, room / BOLD);
    double y = panel->y0 - 4 - (lines - 1) * LEADING * FONT;
    y -= panel->y_ticks.power != 0 ? LEADING * SMALL : 0;
    (void)kw__svg_put_wrapped(out, panel->x0, y, " font-weight=\"bold\"", FONT, room / BOLD, plot->title);
}

static void draw_figure(struct kw__out *out, const struct kw__figure *figure,
                        const struct kw__svg_panel *panels, double width, double height)
{
    const char *id = figure->id == NULL ? "kw" : figure->id;
    size_t note = kw__svg_count_lines(figure->note, NOTE, width - 4);
    double total = height + 2 + (note > 0 ? 3 + (double)note * LEADING * NOTE : 0);
    kw__out_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.2fpt\" "
                   "height=\"%.2fpt\" viewBox=\"0 0 %.2f %.2f\" role=\"img\" "
                   "font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', "
                   "sans-serif\" font-size=\"8\" fill=\"#000000\">\n",
                   width, total, width, total);
    if (figure->title != NULL) {
        kw__out_puts(out, "<title>");
        kw__out_xml(out, figure->title, strlen(figure->title));
        kw__out_puts(out, "</title>\n");
    }
    kw__out_printf(out, "<rect width=\"%.2f\" height=\"%.2f\" fill=\"#FFFFFF\"/>\n<defs>\n", width, total);
    put_patterns(out, figure, id);
    for (size_t p = 0; p < figure->rows * figure->cols; p++) {
        const struct kw__svg_panel *panel = &panels[p];
        kw__out_printf(out,
                       "<clipPath id=\"%s-c%zu\"><rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" "
                       "height=\"%.2f\"/></clipPath>\n",
                       id, p, kw__svg_pt(panel->x0), kw__svg_pt(panel->y0 - 0.5), panel->w, panel->h + 1);
    }
    kw__out_puts(out, "</defs>\n");
    for (size_t p = 0; p < figure->rows * figure->cols; p++) {
        if (!panels[p].blank) {
            draw_panel(out, &panels[p], id, p);
        }
    }
    (void)kw__svg_put_wrapped(out, 2, height + 3 + NOTE, " font-size=\"6\" fill=\"#555555\"", NOTE, width - 4,
                              figure->note);
    kw__out_puts(out, "</svg>\n");
}

int kw__figure_render(const struct kw__figure *figure, struct kw__out *out)
{
    if (!valid(figure)) {
        out->failed = true;
        return -1;
    }
    double width = figure->width_pt > 0 ? figure->width_pt : 252;
    struct kw__svg_panel *panels = calloc(figure->rows * figure->cols, sizeof *panels);
    double height = panels == NULL ? -1 : kw__svg_layout(figure, panels, width);
    if (height < 0) {
        out->failed = true;
    } else {
        draw_figure(out, figure, panels, width, height);
    }
    free(panels);
    return out->failed ? -1 : 0;
}
