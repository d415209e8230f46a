#include "predict/interval.h"

#include <math.h>
#include <string.h>

kw_status kw__log_gradient(kw__price_fn *price, const void *context, const double *theta, int count,
                           struct kw__gradient *out, kw_error *err)
{
    const double step = 1e-5;
    double moved[KW__MAX_FITTED];
    memcpy(moved, theta, sizeof moved);
    *out = (struct kw__gradient){0};
    kw_status status = price(context, moved, &out->latency_s, &out->energy_j, err);
    for (int j = 0; !status && j < count; j++) {
        double latency_s = NAN, energy_j = NAN;
        moved[j] = theta[j] + step;
        status = price(context, moved, &latency_s, &energy_j, err);
        moved[j] = theta[j];
        out->of[KW__LATENCY][j] = log(latency_s / out->latency_s) / step;
        out->of[KW__ENERGY][j] = log(energy_j / out->energy_j) / step;
        out->of[KW__POWER][j] = out->of[KW__ENERGY][j] - out->of[KW__LATENCY][j];
    }
    return status;
}

double kw__quadratic_form(const double *matrix, int stride, int n, const double *g)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) sum += g[i] * matrix[i * stride + j] * g[j];
    return sum > 0 ? sum : 0; /* a covariance rounded to decimals may be indefinite by a little */
}

void kw__session_variances(double time_sd, double power_sd, double variances[KW__NUM_QUANTITIES])
{
    double a = time_sd * time_sd, b = power_sd * power_sd;
    double of_energy = 1 + KW__SPEED_PER_POWER;
    variances[KW__LATENCY] = a + KW__SPEED_PER_POWER * KW__SPEED_PER_POWER * b;
    variances[KW__ENERGY] = a + of_energy * of_energy * b;
    variances[KW__POWER] = b;
}
