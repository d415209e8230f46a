/* Marks from anyone: each line of the input is a datagram; the second on names its process by its first byte.
 * No line may do more than be counted, and every window that was opened must have ended when the run has. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kinowatt.h"
#include "record/marks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    kw_meter *meter;
    size_t whole;
    options.sources = "null";
    options.max_windows = 64;
    if (kw_meter_open(&options, &meter, NULL)) return 0;
    double begin_s = kw_meter_now_s(meter) - kw_meter_at_s(meter, 0);
    if (kw_meter_open_window(meter, "total", -1, kw_meter_now_s(meter), &whole, NULL)) abort();
    struct kw__marks *marks = kw__marks_new(meter, whole, begin_s);
    for (size_t at = 0; marks && at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        if (length > 0) kw__marks_take(marks, (const char *)data + at + 1, length - 1, data[at], begin_s + 1);
        at += length + 1;
    }
    if (marks) {
        kw__marks_end(marks, begin_s + 2);
        kw__marks_finish(marks);
    }
    for (size_t i = 1; i < kw_meter_window_count(meter); i++) {
        kw_meter_window window = {.struct_size = sizeof window};
        if (kw_meter_window_get(meter, i, &window, NULL)) abort();
    }
    kw__marks_free(marks);
    kw_meter_close(meter);
    return 0;
}
