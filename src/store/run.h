/* A run: one measurement of one thing, with all that is needed to use it later. What `generate`, `record`,
 * `sweep` and `import` have in common, what the store keeps and what the linter reads.
 *
 * - Window 0 is the whole run; the others nest in it. Their order is that of their beginnings.
 * - Absence is never 0: figures that are not known are NaN, counts and sizes 0, texts NULL; a reading has its
 *   status and reason.
 * - `settings` holds what has no field here (attention backend, dtypes, prompt, versions): names and texts,
 * as whoever measured gave them. Two runs are repeats of each other when model, what, hardware, stack,
 * weights, request and settings agree, less those settings whose names begin with "run." (they tell of this
 * run alone: "run.exit_code", "run.seed"), and one of them names what ran.
 *
 * A run that the library fills owns its strings: they are of its arena. */
#ifndef KW_STORE_RUN_H
#define KW_STORE_RUN_H

#include <stdbool.h>

#include "base/arena.h"
#include "kinowatt.h"
#include "meter/meter.h"

/* The request as it ran: diffusers' names; 0 or NaN: not known. */
struct kw__run_request {
    int64_t width, height, num_frames /* that came out */, num_frames_asked, num_inference_steps, batch_size;
    int64_t prompt_tokens, negative_tokens, num_gpus;
    double guidance_scale, fps, flow_shift;
};

struct kw__run_window {
    const char *name; /* "total", "denoise" */
    int64_t parent;   /* index of the window it is nested in; -1: none */
    double begin_s;   /* since the run began */
    double duration_s;
    kw_reading energy_j[KW_NUM_DEVICES], power_w[KW_NUM_DEVICES], max_power_w[KW_NUM_DEVICES],
        idle_power_w[KW_NUM_DEVICES];
    int64_t failed_reads;
    double gap_s;
    const char *note; /* "never closed", NULL: nothing */
};

struct kw__run_channel {
    const char *source, *label, *name, *note;
    int device;
    double limit_w; /* NaN: not known */
};

/* What one channel saw during one window. */
struct kw__run_detail {
    size_t window, channel;
    kw_meter_method method;
    unsigned flags; /* KW_METER_GAP, ... */
    double energy_j, by_counter_j, by_power_j;
    int64_t samples;
    double sm_clock_mhz, memory_clock_mhz, temperature_c; /* means */
    double lowest_sm_clock_mhz, highest_temperature_c;
    uint64_t throttle_reasons;
    bool throttle_known;
    int64_t other_processes; /* of others, seen on the device; -1: not known */
};

struct kw__run_setting {
    const char *name, *value;
};

struct kw__run {
    struct kw__arena arena;
    int64_t id;            /* in its store; 0: not stored */
    const char *uuid;      /* 36 characters, of any one run alone */
    const char *began;     /* "2026-11-24T17:20:00.123Z" */
    const char *kind;      /* "generate", "record", "sweep", "import" */
    const char *state;     /* "done", "failed" (the command ended with an error), "stopped" */
    const char *session;   /* runs of one machine state have it in common: one process, one sweep's sitting */
    const char *dataset;   /* what they belong to: a sweep's name, an imported file's; NULL: nothing */
    const char *sweep;     /* uuid of the sweep's plan; NULL: none */
    int64_t point, repeat; /* of the plan; -1: none. A warm-up has a negative repeat below -1 */
    bool anchor;           /* a point that is measured at both ends of a session */
    const char *model;     /* slug or folder, NULL: not known */
    const char *what;      /* "pipeline" (also when NULL), "forward", "decode", ... */
    const char *hardware;  /* a profile's name where there is one, else as the device calls itself */
    const char *stack;     /* a stack's name, "diffusers-0.40" */
    const char *weights;   /* "checkpoint", "random:0:normal", NULL: not known */
    const char *source;    /* where imported figures come from; NULL: measured here */
    const char *note;
    struct kw__run_request request;
    struct kw__run_window *windows;
    struct kw__run_channel *channels;
    struct kw__run_detail *details;
    struct kw__run_setting *settings; /* sorted by name */
    size_t num_windows, num_channels, num_details, num_settings;
    size_t settings_room; /* kw__run_set's own */
    /* What generate and sweep predicted for the whole run; NaN: nothing. */
    double predicted_latency_s, predicted_energy_j[KW_NUM_DEVICES];
};

/* A run of which nothing is known, not even which it is. NULL without memory. */
struct kw__run *kw__run_blank(void);
/* An empty run: kind and began are set, everything else not known; its uuid is new. NULL without memory or
 * random bytes. */
struct kw__run *kw__run_new(const char *kind);
void kw__run_free(struct kw__run *run);

/* Sets or replaces a setting; both texts are copied. */
kw_status kw__run_set(struct kw__run *run, const char *name, const char *value, kw_error *err);
const char *kw__run_setting(const struct kw__run *run, const char *name); /* NULL: not there */

/* Fills windows, channels and details with the meter's window `first`, which is the whole run and must have
 * ended (KW_ERROR_USAGE otherwise), and all that are nested in it; waits for their last readings. One that is
 * still open is closed as `first` ended, and its note says so. */
kw_status kw__run_from_meter(struct kw__run *run, kw_meter *meter, size_t first, kw_error *err);

/* Whether anything says what ran: a model, a command, the names of a project. */
bool kw__run_is_named(const struct kw__run *run);
/* The text that a run and its repeats have in common, in the arena; NULL: no memory. A run of which nothing
 * says what it was has no repeats. */
const char *kw__run_key(const struct kw__run *run, struct kw__arena *arena);
/* Why a run is not the measurement of one run as it is, in words that a list of runs can have as its title:
 * "warm-ups". NULL: it is. */
const char *kw__run_unmeasured(const struct kw__run *run);

#endif
