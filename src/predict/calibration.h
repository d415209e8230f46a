/* A calibration: what one stack reaches on one hardware. A file of base rates, each scaled by a
 * parameter exp(log_value) that a fit moves, with the parameters' priors, covariance and errors.
 *
 * A file whose log_values are all 0 is a set of priors: micro-benchmarks and data sheets alone. */
#ifndef KW_PREDICT_CALIBRATION_H
#define KW_PREDICT_CALIBRATION_H

#include <jansson.h>

#include "base/arena.h"
#include "hardware/hardware.h"
#include "kinowatt.h"

enum { KW__MAX_PARAMETERS = 16, KW__MAX_RATES = 256, KW__MAX_SESSIONS = 64, KW__MAX_KNOTS = 12 };

struct kw__parameter {
    const char *name, *source;
    double prior_log_sd; /* of the prior, whose log mean is 0 */
    double log_value;
};

/* A base figure and the parameter that scales it; -1: none does. */
struct kw__scaled {
    double base;
    int parameter;
};

struct kw__rate {
    const char *key; /* as struct kw__work names it, or its beginning up to a '/' */
    /* of the hardware's peak for the key's dtype; of its bandwidth for operators without arithmetic */
    struct kw__scaled efficiency;
    const char *source;
    int num_knots; /* 0: the efficiency does not depend on the size */
    /* growing sizes (struct kw__work) and the efficiencies there; between them straight in logarithms,
     * beyond them as at the end */
    double size[KW__MAX_KNOTS], at_size[KW__MAX_KNOTS];
};

/* The machine that a calibration of a CPU was made on. Its rates are shares of what the calibration saw
 * there at best, since no data sheet says what a virtual CPU can do. */
struct kw__machine {
    const char *cpu; /* NULL: the rates are shares of a hardware profile's figures */
    int cores, threads;
    double bf16_flop_per_s, fp32_flop_per_s, bytes_per_s; /* bf16: NaN without */
};

struct kw__session {
    const char *name;
    double log_time, log_power;
};

struct kw__calibration {
    struct kw__arena arena;
    const char *name, *stack, *hardware, *date, *basis; /* basis: one line on what it rests on */
    const char *path;                                   /* its file, or what stands for it in messages */
    int num_parameters, num_rates, num_sessions;
    struct kw__parameter parameters[KW__MAX_PARAMETERS];
    double covariance[KW__MAX_PARAMETERS][KW__MAX_PARAMETERS]; /* of the log values */
    struct kw__rate rates[KW__MAX_RATES];
    struct kw__session sessions[KW__MAX_SESSIONS];
    struct kw__machine machine;
    struct kw__scaled memory; /* fraction of the hardware's bandwidth */
    struct kw__scaled launch_s, host_bytes_per_s;
    /* weights between host and device, for stacks that offload; bases NaN: as other bytes of the host */
    struct kw__scaled to_device_bytes_per_s, to_host_bytes_per_s;
    double copy_share;                       /* of the power limit, drawn meanwhile; NaN: as in gaps */
    struct kw__scaled busy_share, gap_share; /* of the hardware's power limit; base NaN: unknown */
    /* kernels that walk: elements of groups, and blocks with a row each, that one processor gets through in a
     * second; power with no processor at it and with all, of the limit. NaN: they are taken for bound by
     * memory */
    double walk_elements_per_s, walk_blocks_per_s, walk_idle_share, walk_full_share;
    struct kw__scaled dispatch_s; /* host time to issue one kernel: a phase takes at least launches x this */
    /* errors in log: of a session's level, and of the model from shape to shape */
    double session_time_sd, session_power_sd, model_time_sd, model_energy_sd, model_power_sd;
    /* host energy, NaN when unknown: CPU W and log sd; RAM W and joules a run */
    double cpu_w, cpu_log_sd, ram_w, ram_j, ram_log_sd;
    /* the flops predictor: one efficiency of the bf16 peak, one power; NaN when there is none */
    double flops_efficiency, flops_power_w, flops_time_sd, flops_energy_sd;
    /* the calibrated range; NaN when no rows were fitted */
    double tokens_low, tokens_high, steps_low, steps_high;
    double pixels_low, pixels_high, batch_high; /* of a frame; of a batch. NaN: not said */
    const char **models;                        /* that rows were of; NULL: not said */
    size_t num_models;
};

/* Opens a calibration of the catalog, or a path. */
kw_status kw__calibration_open(const kw_catalog *catalog, const char *name, struct kw__calibration **out,
                               kw_error *err);
void kw__calibration_close(struct kw__calibration *calibration);
/* A document, called `what` in messages, as a calibration. */
kw_status kw__calibration_parse(const json_t *document, const char *what, struct kw__calibration **out,
                                kw_error *err);

/* Where a calibration is carried to: each step of distance adds to the log error. */
enum kw__distance { KW__SAME, KW__OTHER_STACK, KW__OTHER_HARDWARE, KW__OTHER_BOTH };

/* The calibration for a stack on a hardware, or the nearest: of GPUs for a GPU, of a CPU for one, if there is
 * any; there the same stack on another hardware, then any stack of the same hardware, then any. A file that
 * can't be read is passed over, and *skipped says which; its code is KW_OK when there was none. */
kw_status kw__calibration_find(const kw_catalog *catalog, const char *stack, const kw_hardware *hardware,
                               struct kw__calibration **out, enum kw__distance *distance, kw_error *skipped,
                               kw_error *err);

/* What it adds to the log error of times and energies, or of powers. */
double kw__carried_sd(enum kw__distance distance, bool power);

enum kw__distance kw__calibration_distance(const struct kw__calibration *calibration, const char *stack,
                                           const kw_hardware *hardware);

#endif
