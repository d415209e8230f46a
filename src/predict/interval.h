/* What the 90 % intervals of latency, energy and mean power are made of (docs/CALIBRATION.md, "Intervals").
 * All is in logarithms, energy is mean power times time, and a session of speed a and power b moves
 *
 *     log t by a + KW__SPEED_PER_POWER b      log(E/t) by b */
#ifndef KW_PREDICT_INTERVAL_H
#define KW_PREDICT_INTERVAL_H

#include "predict/calibration.h"

#define KW__QUANTILE_90 1.6449 /* 95 % of a normal distribution */
/* What a session's power does to its time: more of it at the limit is a higher clock. */
#define KW__SPEED_PER_POWER (-0.5)

enum { KW__LATENCY, KW__ENERGY, KW__POWER, KW__NUM_QUANTITIES };
enum { KW__MAX_FITTED = KW__MAX_PARAMETERS + 2 * KW__MAX_SESSIONS }; /* theta, then a and b of each session */

/* A figure at theta, and d log / d theta of its quantities. */
struct kw__gradient {
    double latency_s, energy_j;
    double of[KW__NUM_QUANTITIES][KW__MAX_FITTED]; /* 0 from the count that was asked for */
};

typedef kw_status kw__price_fn(const void *context, const double *theta, double *latency_s, double *energy_j,
                               kw_error *err);
/* By differences in the first `count` of theta, which has KW__MAX_FITTED. */
kw_status kw__log_gradient(kw__price_fn *price, const void *context, const double *theta, int count,
                           struct kw__gradient *out, kw_error *err);

/* g' M g of the first n; a covariance's rows are `stride` apart. */
double kw__quadratic_form(const double *matrix, int stride, int n, const double *g);

/* What a session that no fit has seen adds to each quantity's variance. */
void kw__session_variances(double time_sd, double power_sd, double variances[KW__NUM_QUANTITIES]);

#endif
