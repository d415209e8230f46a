/* Fitting predictors to measured rows. The model, its priors and what the intervals hold are in
 * docs/CALIBRATION.md; in short, for a row of session s
 *
 *     log t = log t(theta) + a_s - b_s / 2      log(E/t) = log(E/t)(theta) + b_s
 *
 * with theta the logarithms of the calibration's parameters, Gaussian about 0, and a_s, b_s Gaussian. */
#ifndef KW_PREDICT_CALIBRATE_H
#define KW_PREDICT_CALIBRATE_H

#include <jansson.h>

#include "predict/interval.h"
#include "predict/samples.h"

/* docs/CALIBRATION.md, "Sessions and noise": of one row */
#define KW__ROW_TIME_SD 0.02
#define KW__ROW_POWER_SD 0.015

/* A fit of the kernel predictor: theta, then a_s of every session, then b_s. */
struct kw__kernel_fit {
    int num_parameters, num_sessions;
    double x[KW__MAX_FITTED], covariance[KW__MAX_FITTED][KW__MAX_FITTED];
    bool seen[KW__MAX_SESSIONS];              /* sessions that have rows in the fit */
    double session_time_sd, session_power_sd; /* of a session that has none */
    double model_time_sd, model_energy_sd, model_power_sd;
    double residual_correlation; /* of log t and log(E/t) over rows that have both; NaN below three */
    int iterations;
};

/* Latency and GPU energy, and the log sd of each and of their ratio; NaN when there is none. */
struct kw__estimate {
    double latency_s, energy_j, sd[KW__NUM_QUANTITIES];
};

/* Fits the wholes that `use` marks (NULL: all), by their parts where they have some; with none marked the
 * priors are the fit. KW_ERROR_FORMAT when the fit does not converge. */
kw_status kw__kernel_fit(const struct kw__samples *samples, const bool *use, struct kw__kernel_fit *out,
                         kw_error *err);
/* Of a group at the priors, by parameters; energy is NaN where the predictor has none. */
kw_status kw__kernel_gradient(const struct kw__samples *samples, int group, struct kw__gradient *out,
                              kw_error *err);
/* A fit as a calibration has it, of no session of these samples. */
void kw__kernel_fit_stored(const struct kw__calibration *calibration, struct kw__kernel_fit *out);
/* A sample as the fit predicts it; its session's terms count when the fit has seen the session. */
kw_status kw__kernel_estimate(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                              const struct kw__sample *sample, struct kw__estimate *out, kw_error *err);
/* Seconds and joules of a group at log parameters theta, sessions aside. */
kw_status kw__kernel_price(const struct kw__samples *samples, int group, const double *theta,
                           double *latency_s, double *energy_j, kw_error *err);

/* A predictor of one efficiency and one power: latency = FLOPs / (efficiency x peak), energy = power x
 * latency, each the robust mean over the rows. */
struct kw__proportional {
    double efficiency, power_w; /* NaN without rows */
    double time_sd, energy_sd;  /* of the rows about it, in log */
};
/* FLOPs of a sample by the exact count, or by the paper's closed form; NaN where that is not defined. */
double kw__sample_flop(const struct kw__samples *samples, const struct kw__sample *sample, bool paper);
kw_status kw__proportional_fit(const struct kw__samples *samples, const bool *use, bool paper,
                               double flop_per_s, struct kw__proportional *out, kw_error *err);

/* Energy of the host: CPU power of the machine, RAM power and a constant for each run. All NaN when the rows
 * do not determine them: fewer than three, of one latency alone, or that would have a negative power. */
struct kw__host_fit {
    double cpu_w, cpu_log_sd, ram_w, ram_j, ram_log_sd;
    int count; /* rows that have it */
};
kw_status kw__host_fit(const struct kw__samples *samples, const bool *use, struct kw__host_fit *out,
                       kw_error *err);

/* A calibration file: `priors` (the JSON the fit started from) with the fitted values, covariance, errors,
 * sessions, range, host and flops of the marked wholes (NULL: all) in place; the last two null where the rows
 * do not determine them. `held_out` (NULL: none; its reference is taken) and the date are written as given.
 * What is handed out can be opened: it was read once. */
kw_status kw__calibration_json(const struct kw__samples *samples, const bool *use,
                               const struct kw__kernel_fit *fit, const json_t *priors, const char *date,
                               json_t *held_out, json_t **out, kw_error *err);

#endif
