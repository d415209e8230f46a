/*
 * What goes where in a figure: what each series draws, the ranges of the axes, margins from the
 * widths of labels, and the place of the legend. Writes nothing.
 */
#include "report/svg_panel.h"

#include <math.h>
#include <string.h>

#define PAD 0.04 /* air between data and axes, as a fraction of the range */
#define CELLS 48 /* the grid that looks for an empty corner */

/* ---- the data ---- */

bool kw__svg_present(double value, bool log_scale)
{
    return isfinite(value) && (!log_scale || value > 0);
}

double kw__svg_x_of(const struct kw__series *s, size_t i)
{
    return s->x == NULL || s->kind == KW__SERIES_BARS ? (double)i : s->x[i];
}

bool kw__svg_stacks(const struct kw__plot *plot, const struct kw__series *s)
{
    return s->kind == KW__SERIES_AREA || (s->kind == KW__SERIES_BARS && plot->bars == KW__BARS_STACKED);
}

/* The lower and upper end of what series `s` draws at its point `i`, NaN where it draws nothing.
 * The base of a stack is summed anew each time: few series, and no memory to own. */
void kw__svg_ends(const struct kw__plot *plot, const struct kw__series *s, size_t i, double *low,
                  double *high)
{
    if (s->kind == KW__SERIES_BAND) {
        *low = s->low[i];
        *high = s->high[i];
        return;
    }
    *low = 0;
    for (const struct kw__series *t = plot->series; t < s && kw__svg_stacks(plot, s); t++) {
        if (t->kind == s->kind && (s->kind == KW__SERIES_AREA || isfinite(t->y[i]))) {
            *low += t->y[i];
        }
    }
    *high = *low + s->y[i];
}

static void include(struct kw__svg_range *range, double value)
{
    if (kw__svg_present(value, range->log)) {
        range->min = fmin(range->min, value);
        range->max = fmax(range->max, value);
    }
}

static struct kw__svg_range empty_range(const struct kw__axis *axis)
{
    return (struct kw__svg_range){INFINITY, -INFINITY, axis->scale == KW__SCALE_LOG10, false};
}

static bool is_empty(const struct kw__svg_range *range)
{
    return range->min > range->max;
}

static bool has_kind(const struct kw__plot *plot, enum kw__series_kind kind)
{
    for (size_t s = 0; s < plot->n_series; s++) {
        if (plot->series[s].kind == kind) {
            return true;
        }
    }
    return false;
}

static bool fixed(double end, const struct kw__axis *axis)
{
    return axis->min != axis->max && isfinite(end);
}

/* Air around the data and the caller's own ends. `pad_min` and `pad_max` say where there is air. */
static void finish_range(struct kw__svg_range *range, const struct kw__axis *axis, bool pad_min, bool pad_max)
{
    bool fixed_min = fixed(axis->min, axis);
    bool fixed_max = fixed(axis->max, axis);
    if (is_empty(range)) {
        range->min = range->log ? 1 : 0;
        range->max = range->log ? 10 : 1;
        pad_min = pad_max = false;
        range->invented = !fixed_min || !fixed_max;
    }
    range->min = fixed_min ? axis->min : range->min;
    range->max = fixed_max ? axis->max : range->max;
    pad_min = pad_min && !fixed_min;
    pad_max = pad_max && !fixed_max;
    if (range->log) {
        double ratio = range->max / range->min;
        double pad = ratio > 1 ? pow(ratio, PAD) : 2;
        range->min /= pad_min ? pad : 1;
        range->max *= pad_max ? pad : 1;
    } else {
        double span = range->max - range->min;
        double pad = span > 0 ? PAD * span : range->min != 0 ? 0.1 * fabs(range->min) : 1;
        /* Padding alone does not make a quantity negative. */
        double least = range->min >= 0 ? 0 : -INFINITY;
        range->min = pad_min ? fmax(range->min - pad, least) : range->min;
        range->max += pad_max ? pad : 0;
    }
    if (!(range->max > range->min)) {
        /* All data is 0 or beyond the one fixed end: any range will do that starts there. */
        bool up = fixed_min || !fixed_max;
        double step = range->log ? 10 : fmax(1, fabs(up ? range->min : range->max));
        double end = up ? range->min : range->max;
        double other = range->log ? (up ? end * step : end / step) : (up ? end + step : end - step);
        range->min = up ? end : other;
        range->max = up ? other : end;
    }
}

static void collect_x(const struct kw__plot *plot, struct kw__svg_range *range)
{
    for (const struct kw__series *s = plot->series; s < plot->series + plot->n_series; s++) {
        for (size_t i = 0; i < s->n; i++) {
            include(range, kw__svg_x_of(s, i));
        }
    }
}

static void set_x_range(struct kw__svg_panel *panel, const struct kw__svg_range *data)
{
    const struct kw__plot *plot = panel->plot;
    panel->x = *data;
    if (plot->n_categories > 0) {
        panel->x = (struct kw__svg_range){-0.5, (double)plot->n_categories - 0.5, false, false};
        return;
    }
    bool pad = !has_kind(plot, KW__SERIES_AREA);
    finish_range(&panel->x, &plot->x, pad, pad);
}

/* Of the points that the x range shows. */
static void set_y_range(struct kw__svg_panel *panel)
{
    const struct kw__plot *plot = panel->plot;
    struct kw__svg_range data = empty_range(&plot->y);
    bool from_zero = has_kind(plot, KW__SERIES_AREA) || has_kind(plot, KW__SERIES_BARS);
    for (const struct kw__series *s = plot->series; s < plot->series + plot->n_series; s++) {
        for (size_t i = 0; i < s->n; i++) {
            double low, high;
            double x = kw__svg_x_of(s, i);
            if (!kw__svg_present(x, panel->x.log) || x < panel->x.min || x > panel->x.max) {
                continue;
            }
            kw__svg_ends(plot, s, i, &low, &high);
            include(&data, high);
            if (s->kind == KW__SERIES_BAND || kw__svg_stacks(plot, s)) {
                include(&data, low);
            }
            if (s->low != NULL && s->kind != KW__SERIES_AREA && kw__svg_present(high, data.log)) {
                include(&data, s->low[i]);
                include(&data, s->high[i]);
            }
        }
    }
    if (!is_empty(&data) && from_zero && !data.log) {
        include(&data, 0);
    } else if (!is_empty(&data) && from_zero) {
        /* A bar on a log axis has no natural foot: the decade below. */
        data.min = pow(10, floor(log10(data.min) - 1e-9));
    }
    panel->y = data;
    finish_range(&panel->y, &plot->y, !from_zero || data.min < 0, !from_zero || data.max > 0);
}

double kw__svg_px(const struct kw__svg_panel *panel, double x)
{
    return panel->x0 + panel->w * kw__svg_along(&panel->x, x);
}

double kw__svg_py(const struct kw__svg_panel *panel, double y)
{
    return panel->y0 + panel->h * (1 - kw__svg_along(&panel->y, y));
}

/* Foot of the bars: 0, or the axis where 0 is not on it. */
double kw__svg_foot(const struct kw__svg_panel *panel)
{
    return panel->y.log || panel->y.min > 0 ? panel->y.min : fmin(0, panel->y.max);
}

/* Left edge and width, in points, of the bar of series `s` in category `i`. */
void kw__svg_bar_place(const struct kw__svg_panel *panel, const struct kw__series *s, size_t i, double *x,
                       double *width)
{
    const struct kw__plot *plot = panel->plot;
    bool stacked = plot->bars == KW__BARS_STACKED;
    size_t bars = 0;
    size_t mine = 0;
    for (const struct kw__series *t = plot->series; t < plot->series + plot->n_series; t++) {
        mine += t->kind == KW__SERIES_BARS && t < s ? 1 : 0;
        bars += t->kind == KW__SERIES_BARS ? 1 : 0;
    }
    double slot = panel->w / (double)plot->n_categories;
    double group = fmin((stacked || bars == 1 ? 0.6 : 0.8) * slot, 28.0 * (double)bars);
    *width = stacked ? fmin(group, 36) : group / (double)bars;
    *x = panel->x0 + slot * ((double)i + 0.5) - (stacked ? *width : group) / 2;
    *x += stacked ? 0 : *width * (double)mine;
}

/* ---- layout ---- */

struct grid {
    bool taken[CELLS][CELLS]; /* [row from the top][column] of a panel's box */
};

static void mark(struct grid *grid, const struct kw__svg_panel *panel, double x, double y)
{
    double col = (x - panel->x0) / panel->w * CELLS;
    double row = (y - panel->y0) / panel->h * CELLS;
    if (col >= 0 && col < CELLS && row >= 0 && row < CELLS) {
        grid->taken[(int)row][(int)col] = true;
    }
}

static void mark_rect(struct grid *grid, const struct kw__svg_panel *panel, double x, double y, double w,
                      double h)
{
    double step = fmin(panel->w, panel->h) / CELLS;
    for (double dy = 0; dy <= fmin(h, panel->h + step); dy += step) {
        for (double dx = 0; dx <= fmin(w, panel->w + step); dx += step) {
            mark(grid, panel, x + dx, y + dy);
        }
        mark(grid, panel, x + w, y + dy);
    }
}

/* What series `s` covers; lines between points count, since they would run through a legend. */
static void mark_series(struct grid *grid, const struct kw__svg_panel *panel, const struct kw__series *s)
{
    double last_x = NAN;
    double last_low = NAN;
    double last_high = NAN;
    bool filled = s->kind == KW__SERIES_BAND || s->kind == KW__SERIES_AREA;
    for (size_t i = 0; i < s->n; i++) {
        double low, high;
        double x = kw__svg_x_of(s, i);
        kw__svg_ends(panel->plot, s, i, &low, &high);
        if (!kw__svg_present(x, panel->x.log) || !kw__svg_present(high, panel->y.log) ||
            (filled && !kw__svg_present(low, panel->y.log))) {
            last_x = NAN;
            continue;
        }
        x = kw__svg_pt(kw__svg_px(panel, x));
        double y_high = kw__svg_pt(kw__svg_py(panel, high));
        double y_low = filled ? kw__svg_pt(kw__svg_py(panel, low)) : y_high;
        if (s->kind == KW__SERIES_BARS) {
            double left, width;
            kw__svg_bar_place(panel, s, i, &left, &width);
            mark_rect(grid, panel, left, y_high, width, panel->y0 + panel->h - y_high);
        }
        if (s->low != NULL && s->kind != KW__SERIES_BAND && kw__svg_present(s->low[i], panel->y.log) &&
            kw__svg_present(s->high[i], panel->y.log)) {
            double top = kw__svg_pt(kw__svg_py(panel, s->high[i]));
            mark_rect(grid, panel, x - 2, top, 4, kw__svg_pt(kw__svg_py(panel, s->low[i])) - top);
        }
        mark_rect(grid, panel, x - 3, y_high - 3, 6, 6);
        if (isfinite(last_x) && s->kind != KW__SERIES_POINTS && s->kind != KW__SERIES_BARS) {
            double steps = fmin(
                4000, 2 * CELLS * (1 + fabs(x - last_x) / panel->w + fabs(y_high - last_high) / panel->h));
            for (double t = 0; t <= 1; t += 1 / steps) {
                double top = last_high + t * (y_high - last_high);
                double bottom = last_low + t * (y_low - last_low);
                mark_rect(grid, panel, last_x + t * (x - last_x), top, 0, bottom - top);
            }
        }
        last_x = x;
        last_low = y_low;
        last_high = y_high;
    }
}

bool kw__svg_has_entry(const struct kw__series *s)
{
    return s->label != NULL && s->label[0] != '\0';
}

/* Entries of the legend and the width of the widest. */
static size_t legend_entries(const struct kw__plot *plot, double *width)
{
    size_t n = 0;
    *width = 0;
    for (size_t s = 0; s < plot->n_series; s++) {
        if (kw__svg_has_entry(&plot->series[s])) {
            *width = fmax(*width, SWATCH + 4 + kw__svg_width(plot->series[s].label, SMALL));
            n++;
        }
    }
    return n;
}

/* Left top corner and size of a legend inside the box. */
void kw__svg_legend_box(const struct kw__svg_panel *panel, enum kw__legend where, double *x, double *y,
                        double *w, double *h)
{
    size_t n = legend_entries(panel->plot, w);
    bool right = where == KW__LEGEND_TOP_RIGHT || where == KW__LEGEND_BOTTOM_RIGHT;
    bool bottom = where == KW__LEGEND_BOTTOM_LEFT || where == KW__LEGEND_BOTTOM_RIGHT;
    *w += 6;
    *h = 4 + (double)n * LEADING * SMALL;
    *x = right ? panel->x0 + panel->w - *w - 2 : panel->x0 + 4;
    *y = bottom ? panel->y0 + panel->h - *h - 4 : panel->y0 + 2;
}

static void choose_legend(struct kw__svg_panel *panel)
{
    static const enum kw__legend corners[] = {KW__LEGEND_TOP_LEFT, KW__LEGEND_TOP_RIGHT,
                                              KW__LEGEND_BOTTOM_RIGHT, KW__LEGEND_BOTTOM_LEFT};
    const struct kw__plot *plot = panel->plot;
    struct grid grid = {0};
    double x, y, w, h;
    panel->legend = plot->legend;
    if (legend_entries(plot, &w) == 0) {
        panel->legend = KW__LEGEND_NONE;
    }
    if (panel->legend != KW__LEGEND_AUTO) {
        return;
    }
    for (size_t s = 0; s < plot->n_series; s++) {
        mark_series(&grid, panel, &plot->series[s]);
    }
    panel->legend = KW__LEGEND_BELOW;
    for (size_t c = 0; c < 4 && panel->legend == KW__LEGEND_BELOW; c++) {
        kw__svg_legend_box(panel, corners[c], &x, &y, &w, &h);
        bool clear = w < 0.7 * panel->w && h < 0.7 * panel->h;
        for (int row = 0; clear && row < CELLS; row++) {
            for (int col = 0; col < CELLS; col++) {
                double at_x = panel->x0 + (col + 0.5) / CELLS * panel->w;
                double at_y = panel->y0 + (row + 0.5) / CELLS * panel->h;
                bool inside = at_x >= x && at_x <= x + w && at_y >= y && at_y <= y + h;
                clear = clear && !(inside && grid.taken[row][col]);
            }
        }
        panel->legend = clear ? corners[c] : KW__LEGEND_BELOW;
    }
}

struct kw__svg_below kw__svg_legend_below(const struct kw__svg_panel *panel)
{
    struct kw__svg_below b = {.lines = 1};
    size_t n = legend_entries(panel->plot, &b.entry_w);
    double space = panel->outer_w;
    b.entry_w = fmin(b.entry_w + 8, space);
    b.cols = (size_t)fmin((double)n, fmax(1, floor(space / b.entry_w)));
    b.rows = (n + b.cols - 1) / b.cols;
    b.cols = (n + b.rows - 1) / b.rows; /* 3 + 3 rather than 5 + 1 */
    for (size_t s = 0; s < panel->plot->n_series; s++) {
        if (kw__svg_has_entry(&panel->plot->series[s])) {
            size_t lines = kw__svg_count_lines(panel->plot->series[s].label, SMALL, b.entry_w - SWATCH - 4);
            b.lines = lines > b.lines ? lines : b.lines;
        }
    }
    return b;
}

static void layout_categories(struct kw__svg_panel *panel)
{
    const struct kw__plot *plot = panel->plot;
    double room = panel->w / (double)plot->n_categories - 3;
    panel->categories = (struct kw__svg_category_layout){0};
    for (size_t c = 0; c < plot->n_categories; c++) {
        size_t lines = 0;
        for (const char *text = plot->categories[c]; *text != '\0'; lines++) {
            size_t n;
            const char *rest = kw__svg_next_line(text, SMALL, room, &n);
            panel->categories.turned |= kw__svg_text_width(text, n, SMALL) > room;
            text = rest;
        }
        panel->categories.turned |= lines > 3;
        panel->categories.lines = lines > panel->categories.lines ? lines : panel->categories.lines;
    }
}

/* How far x labels reach below the axis, and beyond the box's left and right. */
double kw__svg_x_label_depth(const struct kw__svg_panel *panel, double *over_left, double *over_right)
{
    const struct kw__plot *plot = panel->plot;
    double depth = TICK + LEADING * SMALL;
    *over_left = *over_right = 0;
    if (!panel->x_labels) {
        return TICK;
    }
    for (size_t t = 0; t < panel->x_ticks.n && plot->n_categories == 0; t++) {
        struct kw__svg_label label = kw__svg_tick_label(&panel->x_ticks, panel->x_ticks.at[t]);
        double centre = panel->w * kw__svg_along(&panel->x, panel->x_ticks.at[t]);
        *over_left = fmax(*over_left, kw__svg_label_width(&label) / 2 - centre);
        *over_right = fmax(*over_right, centre + kw__svg_label_width(&label) / 2 - panel->w);
    }
    if (plot->n_categories > 0 && !panel->categories.turned) {
        depth = TICK + LEADING * SMALL * (double)panel->categories.lines;
    }
    for (size_t c = 0; c < plot->n_categories && panel->categories.turned; c++) {
        /* Turned by 40 degrees, ending under its category. */
        double length = kw__svg_width(plot->categories[c], SMALL);
        double centre = panel->w * ((double)c + 0.5) / (double)plot->n_categories;
        depth = fmax(depth, TICK + 0.643 * length + SMALL);
        *over_left = fmax(*over_left, 0.766 * length - centre);
    }
    return depth;
}

static double y_label_width(const struct kw__svg_panel *panel)
{
    double widest = 0;
    for (size_t t = 0; t < panel->y_ticks.n; t++) {
        struct kw__svg_label label = kw__svg_tick_label(&panel->y_ticks, panel->y_ticks.at[t]);
        widest = fmax(widest, kw__svg_label_width(&label));
    }
    return widest + TICK + 2;
}

static bool is_blank(const struct kw__plot *plot)
{
    return plot->title == NULL && plot->n_series == 0 && plot->n_categories == 0 && plot->x.label == NULL &&
           plot->y.label == NULL;
}

/* Left and right margins of column `col`, then its ticks; twice, since labels need the width and
 * the width needs the labels. Panels above each other share their left and right edges. */
static bool layout_column(const struct kw__figure *figure, struct kw__svg_panel *panels, size_t col,
                          double outer_w)
{
    double left = 4;
    double right = 4;
    double y_labels = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t row = 0; row < figure->rows; row++) {
            struct kw__svg_panel *panel = &panels[row * figure->cols + col];
            double over_left, over_right;
            if (panel->blank) {
                continue;
            }
            panel->w = outer_w - left - right;
            if (panel->w < 24) {
                return false;
            }
            kw__svg_choose_ticks(&panel->y_ticks, &panel->y, panel->h, true);
            kw__svg_choose_ticks(&panel->x_ticks, &panel->x, panel->w, false);
            layout_categories(panel);
            (void)kw__svg_x_label_depth(panel, &over_left, &over_right);
            size_t lines = kw__svg_count_lines(panel->plot->y.label, FONT, panel->h + 6);
            double need = y_label_width(panel) + (double)lines * LEADING * FONT + 2;
            y_labels = fmax(y_labels, need);
            left = fmax(left, fmax(need, over_left + 1));
            right = fmax(right, over_right + 2);
        }
    }
    for (size_t row = 0; row < figure->rows; row++) {
        struct kw__svg_panel *panel = &panels[row * figure->cols + col];
        panel->left = left;
        panel->right = right;
        panel->y_labels = y_labels;
        panel->outer_w = outer_w;
        panel->w = outer_w - left - right;
        if (panel->w < 24) {
            return false;
        }
        if (!panel->blank) {
            kw__svg_choose_ticks(&panel->x_ticks, &panel->x, panel->w, false);
            layout_categories(panel);
        }
    }
    return true;
}

/* Needs the widths and the legend. */
static void layout_heights(struct kw__svg_panel *panel)
{
    const struct kw__plot *plot = panel->plot;
    double over_left, over_right;
    double room = panel->w + panel->right;
    panel->top = 4 + (double)kw__svg_count_lines(plot->title, FONT, room / BOLD) * LEADING * FONT;
    panel->top += panel->y_ticks.power != 0 ? LEADING * SMALL : 0;
    panel->bottom = 2 + kw__svg_x_label_depth(panel, &over_left, &over_right);
    if (panel->x_labels) {
        size_t lines = kw__svg_count_lines(plot->x.label, FONT, room);
        lines = lines == 0 && panel->x_ticks.power != 0 ? 1 : lines;
        panel->bottom += (double)lines * LEADING * FONT + (lines > 0 ? 2 : 0);
    }
    if (panel->legend == KW__LEGEND_BELOW) {
        struct kw__svg_below b = kw__svg_legend_below(panel);
        panel->bottom += 5 + (double)(b.rows * b.lines) * LEADING * SMALL;
    }
}

static void set_ranges(const struct kw__figure *figure, struct kw__svg_panel *panels)
{
    for (size_t col = 0; col < figure->cols; col++) {
        struct kw__svg_range shared = empty_range(&figure->plots[col].x);
        for (size_t row = 0; row < figure->rows && figure->share_x; row++) {
            collect_x(&figure->plots[row * figure->cols + col], &shared);
        }
        for (size_t row = 0; row < figure->rows; row++) {
            struct kw__svg_panel *panel = &panels[row * figure->cols + col];
            struct kw__svg_range own = empty_range(&panel->plot->x);
            collect_x(panel->plot, &own);
            set_x_range(panel, figure->share_x ? &shared : &own);
            set_y_range(panel);
            panel->x_labels = !figure->share_x || row + 1 == figure->rows;
        }
    }
}

/* Fills `panels`; returns the height of all rows, or -1 when the width is too small. */
double kw__svg_layout(const struct kw__figure *figure, struct kw__svg_panel *panels, double width)
{
    const double gap = 10;
    double cols = (double)figure->cols;
    double outer_w = (width - (cols - 1) * gap) / cols;
    double y = 0;
    double h = figure->panel_height_pt;
    h = h > 0 ? h : fmax(60, 0.62 * (outer_w - 40));
    for (size_t p = 0; p < figure->rows * figure->cols; p++) {
        panels[p] = (struct kw__svg_panel){.plot = &figure->plots[p], .h = h};
        panels[p].blank = is_blank(panels[p].plot);
    }
    set_ranges(figure, panels);
    for (size_t col = 0; col < figure->cols; col++) {
        if (!layout_column(figure, panels, col, outer_w)) {
            return -1;
        }
    }
    for (size_t row = 0; row < figure->rows; row++) {
        double top = 0;
        double bottom = 0;
        for (size_t col = 0; col < figure->cols; col++) {
            struct kw__svg_panel *panel = &panels[row * figure->cols + col];
            panel->outer_x = (double)col * (outer_w + gap);
            panel->x0 = panel->outer_x + panel->left;
            if (!panel->blank) {
                choose_legend(panel);
                layout_heights(panel);
            }
            top = fmax(top, panel->top);
            bottom = fmax(bottom, panel->bottom);
        }
        for (size_t col = 0; col < figure->cols; col++) {
            panels[row * figure->cols + col].y0 = y + top;
        }
        y += top + h + bottom + (row + 1 < figure->rows ? 3 : 0);
    }
    return y;
}
