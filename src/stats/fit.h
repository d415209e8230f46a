/* Fitting: the maximum a posteriori of a nonlinear model by Levenberg-Marquardt, with Gaussian priors and
 * Huber's loss.
 *
 * Minimised over x, z being the standardised residuals (model - observation) / sd:
 *
 *     sum rho(z_i(x)) + sum ((x_j - mean_j) / sd_j)^2,   rho(z) = z^2            for |z| <= k
 *                                                                  k (2|z| - k)  beyond
 *
 * Each iteration solves (J'WJ + P + lambda D) dx = -(J'Wz + P(x - mean)), W = min(1, k/|z|) (P. J. Huber,
 * Robust Statistics, 1981, 7.8), D the diagonal of J'WJ + P, by a Cholesky decomposition. The covariance
 * is the inverse of J'WJ + P at the end. */
#ifndef KW_STATS_FIT_H
#define KW_STATS_FIT_H

#include "base/arena.h"
#include "kinowatt.h"

struct kw__fit_problem {
    size_t num_parameters, num_residuals;
    const double *prior_mean, *prior_sd; /* sd INFINITY: no prior; 0: the parameter is fixed at its mean */
    double huber;                        /* k; INFINITY: least squares */
    /* Fills z at x and, when `jacobian` is not NULL, dz_i/dx_j at jacobian[i + j * num_residuals]. NULL
     * as a whole, `jacobian` is taken by differences of `residuals`. */
    kw_status (*residuals)(void *context, const double *x, double *z, kw_error *err);
    kw_status (*jacobian)(void *context, const double *x, double *jacobian, kw_error *err);
    void *context;
};

struct kw__fit {
    double *x, *covariance; /* covariance[i + j * num_parameters], symmetric; 0 for fixed parameters */
    double *residuals;      /* z at x */
    double cost;
    int iterations;
    bool converged;
};

/* Starts at `start` (NULL: the prior means). Results live in the arena. KW_ERROR_FORMAT when the rows leave
 * a direction undetermined that no prior holds, the model is not finite at the start, or no step from some
 * point can be judged. Out of iterations is no failure: look at `converged`. */
kw_status kw__fit_map(const struct kw__fit_problem *problem, const double *start, struct kw__arena *arena,
                      struct kw__fit *out, kw_error *err);

/* The location of values by Huber's loss with threshold k: between mean (k large) and median (k small). NaN
 * of none. */
double kw__huber_location(const double *values, size_t count, double k);

#endif
