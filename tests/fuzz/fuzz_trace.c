/* Recorded traces: any bytes are refused with one line, or play to their end with a window around all of it,
 * whose figures are in order. */
#define _GNU_SOURCE /* memfd_create */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meter/meter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void play(kw_meter *meter)
{
    kw_meter_window window = {.struct_size = sizeof window};
    kw_error err = {KW_OK, ""};
    if (kw_meter_begin(meter, "all", &err)) abort();
    for (double now = 0; now < 100; now += 7) kw__meter_advance(meter, now);
    kw__meter_advance(meter, 1e9);
    if (kw_meter_end(meter, "all", &err)) abort();
    if (kw_meter_window_get(meter, 0, &window, &err)) abort();
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *energy = &window.energy_j[d];
        if (energy->status == KW_ABSENT ? !energy->reason || !isnan(energy->value)
                                        : !(energy->low <= energy->value && energy->value <= energy->high))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("trace", MFD_CLOEXEC);
    if (fd < 0) abort();
    if (write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.trace = path;
    kw_meter *meter = NULL;
    kw_error err = {KW_OK, ""};
    kw_status status = kw__meter_open_still(&options, &meter, &err);
    if (status && (!err.message[0] || err.code != status || strchr(err.message, '\n'))) abort();
    if (!status) play(meter);
    kw_meter_close(meter);
    close(fd);
    return 0;
}
