/* What files of the program besides src/meter need of meters and the header does not show. */
#ifndef KW_METER_METER_H
#define KW_METER_METER_H

#include "kinowatt.h"

/* What one meter can do about one device here, for `kinowatt doctor`. */
struct kw__meter_line {
    char meter[8];
    int device;
    int can;          /* 1: it measures */
    char detail[256]; /* what it reads, or why not */
    char remedy[256]; /* what it would take; empty: nothing to do */
};

/* One line for each device, and for each GPU or zone among several that cannot be read: at most
 * `capacity`. Returns their number. */
size_t kw__meter_lines(kw_meter *meter, struct kw__meter_line *lines, size_t capacity);
/* The same without a meter: takes as long as the sources need to open, 5 s at most. */
size_t kw__meter_describe(const kw_meter_options *options, struct kw__meter_line *lines, size_t capacity);

/* The window that a window, open or not, is nested in; -1: none. */
int64_t kw__meter_window_parent(kw_meter *meter, size_t window);

/* As kw_meter_open with sources "replay", but time stands still: it moves only by
 * kw__meter_advance, which plays all samples up to `now_s`. For tests, which so need no sleep. */
kw_status kw__meter_open_still(const kw_meter_options *options, kw_meter **out, kw_error *err);
void kw__meter_advance(kw_meter *meter, double now_s);

#endif
