#include "engine/unipc.h"

#include <math.h>

struct point {                   /* of the noise schedule: x = alpha x0 + sigma noise */
    double sigma, alpha, lambda; /* lambda = ln(alpha / sigma); +inf at sigma 0 */
};

/* The sigma before step i (i = steps: the last, 0). */
static struct point schedule(int64_t i, int64_t steps, double shift, double num_train_timesteps)
{
    double sigma = 0.0;
    if (i < steps) {
        /* in numpy.linspace's order of operations: the timestep is truncated, so a last bit can count */
        double last = 1.0 / num_train_timesteps, step = (last - 1.0) / (double)steps;
        sigma = (double)i * step + 1.0;
        sigma = shift * sigma / (1.0 + (shift - 1.0) * sigma);
        if (i == 0) sigma -= 1e-6; /* keeps ln(alpha) finite */
    }
    double alpha = 1.0 - sigma;
    return (struct point){sigma, alpha, sigma > 0 ? log(alpha) - log(sigma) : INFINITY};
}

/* The predictor (UniP): from s to t; before = the point before s when order is 2. */
static void predict(const struct point *before, const struct point *s, const struct point *t, int order,
                    double *p)
{
    double h = t->lambda - s->lambda, b = expm1(-h);
    p[0] = t->sigma / s->sigma;
    p[1] = -t->alpha * b;
    p[2] = 0.0;
    if (order < 2) return;
    double r = (before->lambda - s->lambda) / h;
    double slope = -t->alpha * b * 0.5 / r; /* of (m0 - x0), rho = 1/2 */
    p[1] -= slope;
    p[2] += slope;
}

/* The corrector (UniC): what the last prediction, from s to t, becomes when x0 at t is known. */
static void correct(const struct point *before, const struct point *s, const struct point *t, int order,
                    double *c)
{
    double h = t->lambda - s->lambda, hh = -h, b = expm1(hh);
    double rho1 = 0.0, rho2 = 0.5, r = 1.0; /* weights of (m1 - m0) / r and of (x0 - m0) */
    if (order == 2) {
        /* [1 1; r 1] rho = [b1; b2], b_k = k! phi_{k+1}(hh) / B(h) */
        double phi2 = b / hh - 1.0, phi3 = phi2 / hh - 0.5;
        double b1 = phi2 / b, b2 = 2.0 * phi3 / b;
        r = (before->lambda - s->lambda) / h;
        rho1 = (b1 - b2) / (1.0 - r);
        rho2 = b1 - rho1;
    }
    double scale = -t->alpha * b;
    c[0] = t->sigma / s->sigma;
    c[1] = scale * (1.0 - rho1 / r - rho2);
    c[2] = scale * rho1 / r;
    c[3] = scale * rho2;
    c[4] = 0.0;
}

void kw__unipc_table(int64_t steps, double flow_shift, double num_train_timesteps, int stride, double *rows)
{
    struct point before = {0}, s = {0}, t = schedule(0, steps, flow_shift, num_train_timesteps);
    int order = 0; /* of the last prediction */
    for (int64_t i = 0; i < steps; i++) {
        double *row = rows + i * stride;
        struct point next = schedule(i + 1, steps, flow_shift, num_train_timesteps);
        row[KW__UNIPC_TIMESTEP] = floor(t.sigma * num_train_timesteps);
        row[KW__UNIPC_SIGMA] = t.sigma;
        row[KW__UNIPC_CONVERT] = 1.0;
        row[KW__UNIPC_CONVERT + 1] = -t.sigma;
        double *c = row + KW__UNIPC_CORRECT;
        for (int k = 0; k < 5; k++) c[k] = k == 4 ? 1.0 : 0.0;
        if (i > 0) correct(&before, &s, &t, order, c);
        /* order 1 on the first step, which has no history, and on the last, which ends at sigma 0 */
        order = i == 0 || i == steps - 1 ? 1 : 2;
        predict(&s, &t, &next, order, row + KW__UNIPC_PREDICT);
        before = s;
        s = t;
        t = next;
    }
}
