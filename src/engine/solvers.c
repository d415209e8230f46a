#include "engine/solvers.h"

#include <math.h>

/* ---- Schedules of betas ----------------------------------------------------------------------- */

/* The part of the signal, in squares, that is left after timestep t: the product of 1 - beta. */
static double signal_at(const struct kw__betas *b, int64_t t)
{
    double from = b->scaled ? sqrt(b->start) : b->start, to = b->scaled ? sqrt(b->end) : b->end, left = 1;
    for (int64_t i = 0; i <= t; i++) {
        double beta = b->num_train > 1 ? from + (to - from) * (double)i / (double)(b->num_train - 1) : from;
        left *= 1 - (b->scaled ? beta * beta : beta);
    }
    return left;
}

/* The timestep of step i; a half is rounded to the even. */
static int64_t trailing(const struct kw__betas *b, int64_t i, int64_t steps)
{
    double ratio = (double)b->num_train / (double)steps;
    return (int64_t)nearbyint((double)b->num_train - (double)i * ratio) - 1;
}

static double shifted(double signal, double snr_shift)
{
    return signal / (snr_shift + (1 - snr_shift) * signal);
}

void kw__ddim_table(const struct kw__betas *b, double snr_shift, bool zero_snr, int64_t steps, int stride,
                    double *rows)
{
    double first = sqrt(shifted(signal_at(b, 0), snr_shift));
    double last = sqrt(shifted(signal_at(b, b->num_train - 1), snr_shift));
    for (int64_t i = 0; i < steps; i++) {
        double root[2]; /* square roots of the signal at the step's beginning and end */
        int64_t t = trailing(b, i, steps), ends[2] = {t, t - b->num_train / steps};
        for (int k = 0; k < 2; k++) {
            root[k] = ends[k] < 0 ? 1 : sqrt(shifted(signal_at(b, ends[k]), snr_shift));
            if (zero_snr && ends[k] >= 0) root[k] = (root[k] - last) * first / (first - last);
        }
        double noise = sqrt(1 - root[0] * root[0]);
        double a = sqrt(1 - root[1] * root[1]) / noise; /* the noise shrinks by it; x0 fills up */
        double x0 = root[1] - root[0] * a;
        double *row = rows + i * stride;
        row[KW__STEP_TIMESTEP] = (double)t;
        row[KW__STEP_SIGMA] = noise;
        row[KW__STEP_SCALE] = 1;
        row[KW__STEP_X] = a + x0 * root[0]; /* x0 = root x - noise v */
        row[KW__STEP_V] = -x0 * noise;
    }
}

void kw__euler_table(const struct kw__betas *b, int64_t steps, int stride, double *rows)
{
    for (int64_t i = 0; i < steps; i++) {
        double sigma[2] = {0, 0}; /* before and after the step */
        for (int k = 0; k < 2 && i + k < steps; k++) {
            double signal = signal_at(b, trailing(b, i + k, steps));
            sigma[k] = sqrt((1 - signal) / signal);
        }
        double *row = rows + i * stride;
        row[KW__STEP_TIMESTEP] = (double)trailing(b, i, steps);
        row[KW__STEP_SIGMA] = sigma[0];
        row[KW__STEP_SCALE] = 1 / sqrt(sigma[0] * sigma[0] + 1);
        row[KW__STEP_X] = 1;
        row[KW__STEP_V] = sigma[1] - sigma[0];
    }
}

/* ---- Flows -------------------------------------------------------------------------------------- */

void kw__flow_euler_table(const double *sigma, double num_train, bool inverted, int64_t steps, int stride,
                          double *rows)
{
    for (int64_t i = 0; i < steps; i++) {
        double *row = rows + i * stride;
        double here = inverted ? 1 - sigma[i] : sigma[i], next = inverted ? 1 - sigma[i + 1] : sigma[i + 1];
        row[KW__STEP_TIMESTEP] = here * num_train;
        row[KW__STEP_SIGMA] = sigma[i];
        row[KW__STEP_SCALE] = 1;
        row[KW__STEP_X] = 1;
        row[KW__STEP_V] = next - here;
    }
}

void kw__linear_quadratic(int64_t steps, double threshold, double *sigma)
{
    int64_t linear = steps / 2;
    double n = (double)linear, rest = (double)(steps - linear);
    double gap = n - threshold * (double)steps; /* what the quadratic part makes up */
    for (int64_t i = 0; i < steps; i++) {
        double x = (double)i;
        if (i < linear)
            sigma[i] = 1 - x * threshold / n;
        else if (linear == 0) /* one step */
            sigma[i] = 1;
        else
            sigma[i] = 1 - (gap / (n * rest * rest) * (x * x + n * n) +
                            (threshold / n - 2 * gap / (rest * rest)) * x);
    }
    sigma[steps] = 0;
}
