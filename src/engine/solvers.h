/* Solvers of order one, as tables of coefficients made on the host. A step is
 *     v  = model(scale x, timestep),   next x = a x + b v
 * for each of them; UniPC, which has a history, is in unipc.h.
 *
 *     DDIM        Song et al., arXiv 2010.02502, eta 0, the model giving v (arXiv 2202.00512); the noise
 *                 schedule's signal at its end shifted to 0 (Lin et al., arXiv 2305.08891); as diffusers'
 *                 CogVideoXDDIMScheduler does it
 *     flow Euler  x = (1 - sigma) x0 + sigma noise, v = noise - x0, dx = v dsigma
 *     Euler       Karras et al., arXiv 2206.00364, algorithm 2 without churn, on a schedule of betas, the
 *                 model giving the noise; diffusers' EulerDiscreteScheduler */
#ifndef KW_ENGINE_SOLVERS_H
#define KW_ENGINE_SOLVERS_H

#include <stdbool.h>
#include <stdint.h>

enum kw__step_column {
    KW__STEP_TIMESTEP, /* as the model is given it */
    KW__STEP_SIGMA,    /* of the noise in x before the step */
    KW__STEP_SCALE,    /* of the model's input */
    KW__STEP_X,        /* a, b */
    KW__STEP_V,
    KW__STEP_COLUMNS
};

/* `steps` rows of `stride` doubles each, of which the first KW__STEP_COLUMNS are set. steps >= 1. */

/* A schedule of betas over num_train timesteps. Steps end at num_train / steps, 2 num_train / steps ...
 * (trailing spacing); steps <= num_train. diffusers does one step more at some counts (61, 103, 121 ...), by
 * the rounding of numpy's arange, which is not followed. */
struct kw__betas {
    int64_t num_train;
    double start, end;
    bool scaled; /* their square roots are linear, not they ("scaled_linear") */
};

/* snr_shift: 1 leaves the schedule as it is. zero_snr: rescaled to end without signal. */
void kw__ddim_table(const struct kw__betas *betas, double snr_shift, bool zero_snr, int64_t steps, int stride,
                    double *rows);

/* The noise that x starts with has the deviation rows[0][KW__STEP_SIGMA]. */
void kw__euler_table(const struct kw__betas *betas, int64_t steps, int stride, double *rows);

/* From sigma[0] down to sigma[steps]. Inverted: sigma counts from the clean side, and so do timesteps
 * (Mochi), v = x0 - noise. */
void kw__flow_euler_table(const double *sigma, double num_train, bool inverted, int64_t steps, int stride,
                          double *rows);

/* sigma[0] = 1 .. sigma[steps] = 0: half of the steps linear down to 1 - threshold, the others quadratic
 * (Mochi's and LTX-Video's schedule). */
void kw__linear_quadratic(int64_t steps, double threshold, double *sigma);

#endif
