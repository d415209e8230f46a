/*
 * What the three parts of the figure writer share: svg_axis.c (text, ticks, scales), svg_layout.c
 * (the data's ranges and what goes where) and svg.c (checking and drawing). Private to them.
 *
 * Layout decides all that drawing needs and writes nothing. Positions are in points, y downwards.
 * A panel's box is the rectangle between its axes; its margins hold labels, title and a legend
 * below.
 */
#ifndef KW__REPORT_SVG_PANEL_H
#define KW__REPORT_SVG_PANEL_H

#include "report/svg.h"

#define FONT 8.0  /* axis labels and titles */
#define SMALL 7.0 /* tick labels and legends */
#define NOTE 6.0
#define BOLD 1.16   /* width of bold text over regular */
#define LEADING 1.2 /* line distance over font size */
#define TICK 2.5
#define SWATCH 16.0
#define MAX_TICKS 64
#define TIMES "\xC3\x97"

struct kw__svg_ticks {
    double at[MAX_TICKS];
    size_t n;
    int decimals;    /* of a label */
    int power;       /* labels are divided by 10^power, which stands at the axis' end */
    bool scientific; /* m x 10^e */
};

struct kw__svg_range {
    double min, max;
    bool log;
    bool invented; /* nothing to show: an axis without ticks, since any number on it would lie */
};

/* How category labels stand: on up to three lines, or turned. */
struct kw__svg_category_layout {
    size_t lines;
    bool turned;
};

struct kw__svg_panel {
    const struct kw__plot *plot;
    struct kw__svg_range x, y;
    struct kw__svg_ticks x_ticks, y_ticks;
    struct kw__svg_category_layout categories;
    bool x_labels; /* tick labels and axis label under it */
    bool blank;    /* neither title nor series nor labels: an empty place in the grid */
    enum kw__legend legend;
    double outer_x, outer_w; /* with margins */
    double x0, y0, w, h;     /* the box */
    double left, right, top, bottom;
    double y_labels; /* room for tick labels and axis label; in a column the same */
};

struct kw__svg_label {
    char text[64];
    char raised[16]; /* exponent; empty for none */
};

/* A legend below stands in columns; its entries wrap where even one column is too narrow. */
struct kw__svg_below {
    size_t cols, rows, lines; /* lines of each entry */
    double entry_w;
};

/* svg_axis.c */
double kw__svg_text_width(const char *text, size_t n, double size);
double kw__svg_width(const char *text, double size);
const char *kw__svg_next_line(const char *text, double size, double width, size_t *n);
double kw__svg_pt(double v);
void kw__svg_put_text(struct kw__out *out, double x, double y, const char *style, const char *text, size_t n);
size_t kw__svg_put_wrapped(struct kw__out *out, double x, double y, const char *style, double size,
                           double width, const char *text);
size_t kw__svg_count_lines(const char *text, double size, double width);
double kw__svg_times_power(double mantissa, int exponent);
void kw__svg_power_label(struct kw__svg_label *label, const char *before, int e);
struct kw__svg_label kw__svg_tick_label(const struct kw__svg_ticks *ticks, double value);
double kw__svg_label_width(const struct kw__svg_label *label);
double kw__svg_along(const struct kw__svg_range *range, double value);
void kw__svg_choose_ticks(struct kw__svg_ticks *ticks, const struct kw__svg_range *range, double length,
                          bool vertical);

/* svg_layout.c */
bool kw__svg_present(double value, bool log_scale);
double kw__svg_x_of(const struct kw__series *s, size_t i);
bool kw__svg_stacks(const struct kw__plot *plot, const struct kw__series *s);
void kw__svg_ends(const struct kw__plot *plot, const struct kw__series *s, size_t i, double *low,
                  double *high);
double kw__svg_px(const struct kw__svg_panel *panel, double x);
double kw__svg_py(const struct kw__svg_panel *panel, double y);
double kw__svg_foot(const struct kw__svg_panel *panel);
void kw__svg_bar_place(const struct kw__svg_panel *panel, const struct kw__series *s, size_t i, double *x,
                       double *width);
bool kw__svg_has_entry(const struct kw__series *s);
void kw__svg_legend_box(const struct kw__svg_panel *panel, enum kw__legend where, double *x, double *y,
                        double *w, double *h);
struct kw__svg_below kw__svg_legend_below(const struct kw__svg_panel *panel);
double kw__svg_x_label_depth(const struct kw__svg_panel *panel, double *over_left, double *over_right);
double kw__svg_layout(const struct kw__figure *figure, struct kw__svg_panel *panels, double width);

#endif
