/* What a source of readings (nvml, rapl, replay, null) is to the meter.
 *
 * A source is opened, read and closed by one thread, which is its own and holds no lock meanwhile: each
 * of the three may take as long as it likes. It therefore owns all it touches, its config included.
 * A read that fails says so (`ok` false); it never returns 0 in place of a figure. */
#ifndef KW_METER_SOURCE_H
#define KW_METER_SOURCE_H

#include <stdbool.h>

#include "kinowatt.h"

/* Copies of the meter's options, owned by the source; NULL means the default. */
struct kw__source_config {
    char *visible_devices, *nvml_library, *powercap, *trace;
    bool any_device_order; /* CUDA may number GPUs in another order than NVML (CUDA_DEVICE_ORDER) */
};

/* Why something cannot be measured, and what it would take. */
struct kw__absence {
    char reason[256];
    char remedy[256];
};

/* What can be read of one GPU, package or memory zone; fixed once the source is open. One that is there
 * but has neither counter nor power to read keeps its device's sum absent, for the reason in `absent`. */
struct kw__channel {
    int device;
    char label[96];
    char name[96]; /* empty: none */
    char note[256];
    struct kw__absence absent;
    bool has_counter, has_power;
    double counter_update_s;  /* longest time between two steps of the counter */
    double counter_quantum_j; /* its unit */
    double counter_range_j;   /* where it starts from 0 again; 0: never */
    double power_update_s;    /* a power reading is as old as this, or a mean over it */
    double limit_w;           /* power limit; 0: not known */
    double period_s;          /* between two reads; 0: the source's */
};

struct kw__sample {
    double t0_s, t1_s; /* on the meter's clock, before and after the read */
    bool skipped;      /* this read left the channel out, which says nothing */
    bool ok;           /* what the channel has was read */
    char why[96];      /* why not */
    double counter_j;  /* as the counter shows it, wraps and all */
    double power_w;
    double sm_clock_mhz, memory_clock_mhz, temperature_c; /* NaN: not read this time */
    uint64_t throttle_reasons;
    bool throttle_known;
    int64_t other_processes; /* that use it and are not ours; -1: not known */
};

struct kw__source;

struct kw__source_class {
    const char *name;
    bool covers[KW_NUM_DEVICES]; /* devices it may have channels of */
    double period_s;             /* between two reads by default */
    /* Finds the channels, or fills `absent` for what it covers and does not find. Fails only on bad input
     * and lack of memory. */
    kw_status (*open)(struct kw__source *source, kw_error *err);
    /* Fills one sample for each channel. */
    void (*read)(struct kw__source *source, struct kw__sample *samples);
    /* When the next read is due; NULL: after the period. */
    double (*due_s)(const struct kw__source *source);
    void (*close)(struct kw__source *source);
};

struct kw__source {
    const struct kw__source_class *class;
    struct kw__source_config config;
    double origin_s; /* kw__monotonic_s() when the meter's clock showed 0 */
    double period_s; /* between two reads */
    void *state;
    struct kw__channel *channels;
    size_t num_channels;
    struct kw__absence absent[KW_NUM_DEVICES]; /* of devices without a channel */
};

/* A quotation of at most 40 bytes for a message: what comes from files and the environment. */
#define KW__QUOTED "\"%.40s\""

extern const struct kw__source_class kw__nvml_source, kw__rapl_source, kw__replay_source, kw__null_source;

/* The meter's clock, read by a source. */
double kw__source_now_s(const struct kw__source *source);

/* Adds a zeroed channel, or NULL without memory. The pointer holds until the next one is added. */
struct kw__channel *kw__source_add_channel(struct kw__source *source);

/* Says why `device` has no channel: for its `absent` entries. `remedy` may be NULL. */
void kw__source_absent(struct kw__source *source, int device, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
