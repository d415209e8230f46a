/* From micro-runs to a calibration of this machine.
 *
 * For every key of struct kw__work the samples, less the cost of a call, give an efficiency at each of
 * their sizes: a curve whose points are geometric means over what is within a factor of 1.5. What an
 * efficiency is a share of, the peak, is the best that the same samples reached. The spread about the
 * curves is the model's error, the spread of rounds the session's. No energy: the meters of a CPU are
 * not asked here, and the file says so by having no "power". "other_cores" are those that other
 * processes kept busy meanwhile, "rounds_log_sd" how far whole rounds spread, disturbed ones too; null where
 * that is not known. "left_out" names the scenes that there was no time for; without any the calibration is
 * finished. */
#ifndef KW_PREDICT_CALIBRATE_CPU_H
#define KW_PREDICT_CALIBRATE_CPU_H

#include <jansson.h>

#include "predict/micro.h"

struct kw__cpu_description {
    const char *stack, *cpu, *date;
    int cores;
};

/* A calibration, schema kinowatt.calibration/1. KW_ERROR_UNSUPPORTED when the samples hold no gemm. */
kw_status kw__calibrate_cpu(const struct kw__micro_samples *samples,
                            const struct kw__cpu_description *description, json_t **out, kw_error *err);

#endif
