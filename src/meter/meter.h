/* PROPOSAL for a section "Meters" of include/kinowatt.h: everything down to the line "internal" is
 * written to be moved there as it is.
 *
 * ---- Meters -------------------------------------------------------------------------------------
 *
 * A meter says how much energy this machine used between two moments, device by device:
 *
 *     kw_meter *meter;
 *     kw_meter_options options = KW_METER_OPTIONS_INIT;
 *     kw_meter_open(&options, &meter, &err);      // never fails because a counter is missing
 *     kw_meter_begin(meter, "generate", &err);
 *     kw_meter_begin(meter, "denoise", &err);     // windows nest
 *     ...
 *     kw_meter_switch(meter, "decode", &err);     // ends "denoise" at the instant "decode" begins
 *     ...
 *     kw_meter_end(meter, "decode", &err);
 *     kw_meter_end(meter, "generate", &err);
 *     kw_meter_window w = {.struct_size = sizeof w};
 *     kw_meter_window_get(meter, 1, &w, &err);    // "denoise": w.energy_j[KW_GPU].value ...
 *     kw_meter_close(meter);
 *
 * Sources: nvml (GPUs, through libnvidia-ml.so.1), rapl (CPU packages and memory, through the Linux
 * powercap folder), replay (a recorded trace), null (nothing, and says so). Each is read by a thread of
 * its own: one that does not answer delays neither the program nor the other sources. Its windows
 * become absent, or, when it answers again, measured with their gap stated.
 *
 * Energy is read from cumulative counters. A counter moves in steps (NVML: every 100 ms, 70 J at
 * 700 W), so its value at the edge of a window is known to lie between two steps and is taken from the
 * straight line through them; low and high are what the steps and the power limit leave open. They do
 * not hold the sensor's own calibration error. Where there is no usable counter the power reading is
 * integrated instead, and `method` says so.
 *
 * The value at an instant is the same for all windows that begin or end there: windows that touch add
 * up exactly, and what is nested is never more than what holds it. Nothing is ever subtracted: an idle
 * baseline stands beside the figures.
 *
 * kw_meter_begin, _switch and _end neither allocate nor wait for a device. One thread at a time calls
 * a meter. */
#ifndef KW_METER_METER_H
#define KW_METER_METER_H

#include "kinowatt.h"

typedef struct kw_meter kw_meter;

typedef struct kw_meter_options {
    size_t struct_size;
    const char *sources;         /* comma-separated names; NULL: "nvml,rapl" */
    const char *visible_devices; /* as CUDA_VISIBLE_DEVICES, which NULL reads */
    const char *trace;           /* the file replay reads */
    double period_s;             /* between two reads, 0.001 to 10; 0: 0.02 for nvml, 0.1 for rapl */
    double start_timeout_s;      /* how long kw_meter_open waits for a source; 0: 20 */
    double settle_s;             /* how long after its end a window waits for its last reading; 0: 1 */
    size_t max_windows;          /* 0: 4096 */
    size_t trace_samples;        /* kept for kw_meter_trace_csv, newest win; 0: 8192 */
    const char *nvml_library;    /* NULL: "libnvidia-ml.so.1" */
    const char *powercap;        /* NULL: "/sys/class/powercap" */
} kw_meter_options;
#define KW_METER_OPTIONS_INIT                                                                                \
    {                                                                                                        \
        sizeof(kw_meter_options), NULL, NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL                                \
    }

/* Opens the sources and takes a first reading of each. A source that is missing or silent leaves its
 * devices absent; only a bad option, a bad trace or a lack of memory or threads fails. */
KW_API kw_status kw_meter_open(const kw_meter_options *options, kw_meter **out, kw_error *err);

/* Waits for the sources to stop, for a second at most: one that hangs is left behind and frees its
 * memory should it ever return. */
KW_API void kw_meter_close(kw_meter *meter);

/* Seconds since the meter was opened, by the monotonic clock; for replay, the trace's time. */
KW_API double kw_meter_now_s(kw_meter *meter);

/* Begins a window inside the one begun last. `name` (1 to 63 bytes) is copied. KW_ERROR_USAGE: 32
 * windows are open already; KW_ERROR_UNSUPPORTED: max_windows are used up. The program can go on. */
KW_API kw_status kw_meter_begin(kw_meter *meter, const char *name, kw_error *err);

/* Ends the window begun last, which `name` must name: KW_ERROR_USAGE otherwise, and it stays open. */
KW_API kw_status kw_meter_end(kw_meter *meter, const char *name, kw_error *err);

/* Ends the window begun last and begins another at the same instant. */
KW_API kw_status kw_meter_switch(kw_meter *meter, const char *name, kw_error *err);

/* Measures the machine as it is for `seconds`, as a window named "idle"; from then on each window's
 * `idle_power_w` says what was drawn. */
KW_API kw_status kw_meter_idle(kw_meter *meter, double seconds, kw_error *err);

typedef struct kw_meter_window {
    size_t struct_size; /* set by the caller */
    const char *name;
    int64_t parent;        /* the window this one is nested in, -1: none */
    double begin_s, end_s; /* on kw_meter_now_s's clock */
    double duration_s;
    kw_reading energy_j[KW_NUM_DEVICES];
    kw_reading power_w[KW_NUM_DEVICES];      /* mean: energy over duration */
    kw_reading max_power_w[KW_NUM_DEVICES];  /* the highest reading, which is itself a mean over a period */
    kw_reading idle_power_w[KW_NUM_DEVICES]; /* of kw_meter_idle; never subtracted */
    int64_t failed_reads;                    /* of all its channels */
    double gap_s;                            /* the longest time that one of its channels went unread */
} kw_meter_window;

/* Windows count from 0 in the order they began. _get waits until the last reading of an ended window
 * has come, settle_s after its end at most. KW_ERROR_USAGE: no such window, or it is still open.
 * Strings belong to the meter. */
KW_API size_t kw_meter_window_count(kw_meter *meter);
KW_API kw_status kw_meter_window_get(kw_meter *meter, size_t window, kw_meter_window *out, kw_error *err);

/* A channel is one counter: a GPU, a CPU package, a memory zone. */
typedef struct kw_meter_channel {
    size_t struct_size; /* set by the caller */
    const char *source; /* "nvml" */
    const char *label;  /* a GPU's UUID; "package-0" */
    const char *name;   /* the device's, "NVIDIA H200"; NULL: none */
    const char *note;   /* what to know about its figures; NULL: nothing */
    int device;         /* KW_GPU, ... */
    double limit_w;     /* its power limit; NaN: not known */
} kw_meter_channel;
KW_API size_t kw_meter_channel_count(kw_meter *meter);
KW_API kw_status kw_meter_channel_get(kw_meter *meter, size_t channel, kw_meter_channel *out, kw_error *err);

/* What was found on a channel during a window. */
enum {
    KW_METER_GAP = 1,      /* reads failed or came late; energies by counter stay right across it */
    KW_METER_FROZEN = 2,   /* the counter stood still while power was drawn: it was not used */
    KW_METER_DISAGREES = 4 /* counter and integrated power differ by more than both allow and 5 % */
};

typedef enum kw_meter_method { KW_METER_NONE, KW_METER_BY_COUNTER, KW_METER_BY_POWER } kw_meter_method;

typedef struct kw_meter_detail {
    size_t struct_size; /* set by the caller */
    kw_meter_method method;
    unsigned flags;
    kw_reading energy_j; /* by `method` */
    kw_reading by_counter_j, by_power_j;
    int64_t samples, failed_reads, gaps;
    double gap_s;
    kw_reading sm_clock_mhz, memory_clock_mhz, temperature_c; /* mean; low and high are the extremes */
    uint64_t throttle_reasons; /* NVML's clock event reasons, all that were seen */
    int throttle_known;        /* 0: the channel does not tell */
} kw_meter_detail;
KW_API kw_status kw_meter_detail_get(kw_meter *meter, size_t window, size_t channel, kw_meter_detail *out,
                                     kw_error *err);

/* "power cap, hardware thermal slowdown", or "none". Returns `buffer`. */
KW_API const char *kw_meter_throttle_text(uint64_t reasons, char *buffer, size_t size);

/* The samples kept so far as a trace that replay reads (docs/METERS.md). *lost, when not NULL, counts
 * the older ones that no longer fitted. The caller frees *out with free(). */
KW_API kw_status kw_meter_trace_csv(kw_meter *meter, char **out, int64_t *lost, kw_error *err);

/* ---- internal ----------------------------------------------------------------------------------- */

/* What one meter can do about one device here, for `kinowatt doctor`. */
struct kw__meter_line {
    char meter[8];
    int device;
    int can;          /* 1: it measures */
    char detail[256]; /* what it reads, or why not */
    char remedy[256]; /* what it would take; empty: nothing to do */
};

/* One line for each device, and for each GPU or zone among several that cannot be read: at most
 * `capacity`. Returns their number. Takes as long as the sources need to open, 5 s at most. */
size_t kw__meter_describe(const kw_meter_options *options, struct kw__meter_line *lines, size_t capacity);

/* As kw_meter_open with sources "replay", but time stands still: it moves only by
 * kw__meter_advance, which plays all samples up to `now_s`. For tests, which so need no sleep. */
kw_status kw__meter_open_still(const kw_meter_options *options, kw_meter **out, kw_error *err);
void kw__meter_advance(kw_meter *meter, double now_s);

#endif
