/*
 * Text, ticks and scales of figures: how wide a text is, where it breaks, where ticks stand, what
 * they are called, and where a value lies along an axis.
 *
 * Text is measured by the advances of DejaVu Sans, the widest font of the stack: what fits here
 * fits in Helvetica, Arial and Liberation Sans.
 */
#include "report/svg_panel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

#define MINUS "\xE2\x88\x92"

/* ---- text ---- */

/* Width in points by the advances of DejaVu Sans, in hundredths of an em. */
double kw__svg_text_width(const char *text, size_t n, double size)
{
    static const unsigned char ascii[95] = {
        32, 40, 46, 84, 64, 95, 78, 27, 39,  39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
        64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79,
        60, 79, 69, 63, 61, 73, 68, 99, 69,  61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63,
        63, 28, 28, 58, 28, 97, 63, 61, 63,  63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84};
    double hundredths = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code;
        i += kw__utf8_decode(text + i, n - i, &code);
        if (code >= 32 && code < 127) {
            hundredths += ascii[code - 32];
        } else if (code >= 0x2E80) { /* East Asian and emoji: an em */
            hundredths += 100;
        } else if (code >= 127) {
            hundredths += code == 0x2013 ? 50 : 84;
        }
    }
    return hundredths / 100 * size;
}

double kw__svg_width(const char *text, double size)
{
    return kw__svg_text_width(text, strlen(text), size);
}

/* The part of `text` that fits `width`, broken at a blank or after a hyphen; a longer word stands
 * alone. Its bytes go to `n`; returns where the next line starts. */
const char *kw__svg_next_line(const char *text, double size, double width, size_t *n)
{
    size_t all = strlen(text);
    size_t fit = 0;  /* bytes of the longest line found */
    size_t next = 0; /* where the one after it starts */
    for (size_t i = 0; i <= all; i++) {
        bool end = i == all || text[i] == '\n';
        bool blank = end || text[i] == ' ';
        if (!blank && !(i > 0 && text[i - 1] == '-')) {
            continue;
        }
        if (next > 0 && kw__svg_text_width(text, i, size) > width) {
            break;
        }
        fit = i;
        next = i + (blank && i < all ? 1 : 0);
        if (end) {
            break;
        }
    }
    *n = fit;
    return text + next;
}

double kw__svg_pt(double v)
{
    /* No "-0.00", and nothing so far away that a viewer's floats lose the slope. */
    return fabs(v) < 0.005 ? 0 : v > 1e6 ? 1e6 : v < -1e6 ? -1e6 : v;
}

void kw__svg_put_text(struct kw__out *out, double x, double y, const char *style, const char *text, size_t n)
{
    kw__out_printf(out, "<text x=\"%.2f\" y=\"%.2f\"%s>", kw__svg_pt(x), kw__svg_pt(y), style);
    kw__out_xml(out, text, n);
    kw__out_puts(out, "</text>\n");
}

/* `text` on lines of at most `width`, the first with its baseline at `y`; returns how many. With
 * `out` NULL it only counts. */
size_t kw__svg_put_wrapped(struct kw__out *out, double x, double y, const char *style, double size,
                           double width, const char *text)
{
    size_t lines = 0;
    while (text != NULL && *text != '\0') {
        size_t n;
        const char *rest = kw__svg_next_line(text, size, width, &n);
        if (out != NULL) {
            kw__svg_put_text(out, x, y + (double)lines * LEADING * size, style, text, n);
        }
        text = rest;
        lines++;
    }
    return lines;
}

size_t kw__svg_count_lines(const char *text, double size, double width)
{
    return kw__svg_put_wrapped(NULL, 0, 0, "", size, width, text);
}

/* ---- ticks ---- */

/* mantissa * 10^exponent. A negative power of ten is divided by, since 10^-1 has no exact double
 * and 3 * 0.1 is not 0.3. */
double kw__svg_times_power(double mantissa, int exponent)
{
    return exponent < 0 ? mantissa / pow(10, -exponent) : mantissa * pow(10, exponent);
}

/* Multiples of mantissa * 10^exponent within [min, max] are first..last. */
static void multiples(double min, double max, int mantissa, int exponent, double *first, double *last)
{
    const double slack = 1e-9;
    double step = kw__svg_times_power(mantissa, exponent);
    *first = ceil(min / step - slack);
    *last = floor(max / step + slack);
}

static size_t linear_ticks(double min, double max, size_t target, double *at, size_t cap, int *exponent)
{
    static const int mantissas[] = {1, 2, 5};
    double first = 0;
    double last = -1;
    int k = 0;
    target = target < 1 ? 1 : target > cap ? cap : target;
    if (!(max > min) || !isfinite(max - min) || cap == 0) {
        return 0;
    }
    /* One decade below the answer at the latest. */
    *exponent = (int)floor(log10((max - min) / (double)target)) - 1;
    multiples(min, max, mantissas[0], *exponent, &first, &last);
    while (last - first + 1 > (double)target) {
        k = (k + 1) % 3;
        *exponent += k == 0 ? 1 : 0;
        multiples(min, max, mantissas[k], *exponent, &first, &last);
    }
    size_t n = 0;
    for (double i = first; i <= last && n < cap; i++) {
        at[n++] = i == 0 ? 0 : kw__svg_times_power(i * mantissas[k], *exponent);
    }
    return n;
}

size_t kw__ticks_linear(double min, double max, size_t target, double *ticks, size_t cap)
{
    int exponent;
    return linear_ticks(min, max, target, ticks, cap, &exponent);
}

size_t kw__ticks_log(double min, double max, unsigned level, double *ticks, size_t cap)
{
    static const int mantissas[] = {1, 2, 5};
    size_t n = 0;
    if (!(min > 0) || !(max > min) || !isfinite(max)) {
        return 0;
    }
    int every = level < 1 ? 1 : (int)level;
    for (int e = (int)floor(log10(min)) - 1; e <= (int)ceil(log10(max)); e++) {
        for (int k = 0; k < (level == 0 ? 3 : 1); k++) {
            double tick = kw__svg_times_power(mantissas[k], e);
            bool inside = tick >= min * (1 - 1e-9) && tick <= max * (1 + 1e-9);
            if (inside && e % every == 0 && n < cap) {
                ticks[n++] = tick;
            }
        }
    }
    return n;
}

/* Ten to the `e`, behind `before`. */
void kw__svg_power_label(struct kw__svg_label *label, const char *before, int e)
{
    (void)snprintf(label->text, sizeof label->text, "%s10", before);
    (void)snprintf(label->raised, sizeof label->raised, "%s%d", e < 0 ? MINUS : "", abs(e));
}

struct kw__svg_label kw__svg_tick_label(const struct kw__svg_ticks *ticks, double value)
{
    struct kw__svg_label label = {0};
    char digits[48];
    if (ticks->scientific) {
        int e = (int)floor(log10(value) + 1e-9);
        int mantissa = (int)lround(kw__svg_times_power(value, -e));
        (void)snprintf(digits, sizeof digits, "%d" TIMES, mantissa);
        kw__svg_power_label(&label, mantissa == 1 ? "" : digits, e);
        return label;
    }
    double scaled = kw__svg_times_power(fabs(value), -ticks->power);
    int decimals = ticks->decimals;
    if (decimals < 0) { /* plain labels of a log axis: as many as the value has */
        decimals = value < 1 ? (int)ceil(-log10(value) - 1e-9) : 0;
    }
    (void)kw__number_format(digits, sizeof digits, "%.*f", decimals, scaled);
    size_t whole = strcspn(digits, ".");
    size_t used = (size_t)snprintf(label.text, sizeof label.text, "%s", value < 0 ? MINUS : "");
    for (size_t i = 0; digits[i] != '\0' && used + 2 < sizeof label.text; i++) {
        /* 2500 but 10,000 */
        if (i > 0 && i < whole && whole > 4 && (whole - i) % 3 == 0) {
            label.text[used++] = ',';
        }
        label.text[used++] = digits[i];
    }
    label.text[used] = '\0';
    return label;
}

double kw__svg_label_width(const struct kw__svg_label *label)
{
    return kw__svg_width(label->text, SMALL) + kw__svg_width(label->raised, 5);
}

static void set_linear(struct kw__svg_ticks *ticks, const struct kw__svg_range *range, size_t target)
{
    int exponent = 0;
    double largest = 0;
    *ticks = (struct kw__svg_ticks){0};
    ticks->n = linear_ticks(range->min, range->max, target, ticks->at, MAX_TICKS, &exponent);
    for (size_t i = 0; i < ticks->n; i++) {
        largest = fmax(largest, fabs(ticks->at[i]));
    }
    if (largest >= 1e6 || (largest > 0 && largest < 1e-3)) {
        ticks->power = 3 * (int)floor(log10(largest) / 3 + 1e-9);
    }
    int decimals = ticks->power - exponent;
    ticks->decimals = decimals > 0 ? decimals : 0;
}

static void set_log(struct kw__svg_ticks *ticks, const struct kw__svg_range *range, unsigned level)
{
    *ticks = (struct kw__svg_ticks){.decimals = -1};
    ticks->n = kw__ticks_log(range->min, range->max, level, ticks->at, MAX_TICKS);
    for (size_t i = 0; i < ticks->n; i++) {
        /* 5 digits or 3 decimals at most, or the whole axis is in powers. */
        bool plain = ticks->at[i] > 0.00099 && ticks->at[i] < 99999;
        ticks->scientific = ticks->scientific || !plain;
    }
}

/* Position of `value` along the axis: 0 at min, 1 at max. */
double kw__svg_along(const struct kw__svg_range *range, double value)
{
    if (range->log) {
        return log(value / range->min) / log(range->max / range->min);
    }
    return (value - range->min) / (range->max - range->min);
}

/* Whether the labels stand clear of each other on an axis `length` long. */
static bool ticks_fit(const struct kw__svg_ticks *ticks, const struct kw__svg_range *range, double length,
                      bool vertical)
{
    double previous = -1e9;
    for (size_t i = 0; i < ticks->n; i++) {
        struct kw__svg_label label = kw__svg_tick_label(ticks, ticks->at[i]);
        double half = vertical ? 0.65 * SMALL : kw__svg_label_width(&label) / 2 + 3;
        double centre = kw__svg_along(range, ticks->at[i]) * length;
        if (centre - half < previous) {
            return false;
        }
        previous = centre + half;
    }
    return true;
}

/* The densest ticks whose labels fit. */
void kw__svg_choose_ticks(struct kw__svg_ticks *ticks, const struct kw__svg_range *range, double length,
                          bool vertical)
{
    struct kw__svg_ticks decades;
    *ticks = (struct kw__svg_ticks){0};
    if (range->invented) {
        return;
    }
    set_log(&decades, range, 0);
    if (range->log && decades.n >= 3) {
        for (unsigned level = 0; level <= 308; level++) {
            set_log(ticks, range, level);
            if (ticks_fit(ticks, range, length, vertical)) {
                break;
            }
        }
        if (ticks->n >= 2) {
            return;
        }
    }
    /* On a log axis, too: within one decade 1-2-5 leaves too few. */
    size_t target = (size_t)fmin(8, fmax(2, length / (vertical ? 18 : 28)));
    for (; target > 1; target--) {
        set_linear(ticks, range, target);
        if (ticks_fit(ticks, range, length, vertical)) {
            break;
        }
    }
}
