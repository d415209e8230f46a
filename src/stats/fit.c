#include "stats/fit.h"

#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

enum { MAX_ITERATIONS = 1000 };
static const double difference_step = 1e-6, least_damping = 1e-9, most_damping = 1e9, tolerance = 1e-9;

struct work {
    const struct kw__fit_problem *problem;
    size_t n, m;             /* parameters, residuals */
    double *jacobian;        /* m by n */
    double *normal, *solved; /* n by n */
    double *gradient, *step, *x, *z, *beside;
};

static double weight_of(double z, double k)
{
    double size = fabs(z);
    return size <= k ? 1.0 : k / size;
}

static bool is_fixed(const struct work *w, size_t j)
{
    return w->problem->prior_sd[j] == 0;
}

static double precision(const struct work *w, size_t j)
{
    double sd = w->problem->prior_sd[j];
    return is_fixed(w, j) ? 0 : 1 / (sd * sd);
}

static double cost_of(const struct work *w, const double *x, const double *z)
{
    double cost = 0, k = w->problem->huber;
    for (size_t i = 0; i < w->m; i++) {
        double size = fabs(z[i]);
        cost += size <= k ? size * size : k * (2 * size - k);
    }
    for (size_t j = 0; j < w->n; j++) {
        double d = x[j] - w->problem->prior_mean[j];
        cost += d * d * precision(w, j);
    }
    return cost;
}

static kw_status differentiate(struct work *w, kw_error *err)
{
    const struct kw__fit_problem *p = w->problem;
    if (p->jacobian) return p->jacobian(p->context, w->x, w->jacobian, err);
    for (size_t j = 0; j < w->n; j++) {
        double *column = w->jacobian + j * w->m, kept = w->x[j];
        w->x[j] = kept + difference_step;
        kw_status status = p->residuals(p->context, w->x, column, err);
        w->x[j] = kept - difference_step;
        if (!status) status = p->residuals(p->context, w->x, w->beside, err);
        w->x[j] = kept;
        if (status) return status;
        for (size_t i = 0; i < w->m; i++) column[i] = (column[i] - w->beside[i]) / (2 * difference_step);
    }
    return KW_OK;
}

/* The lower triangle of J'WJ + P, and J'Wz + P(x - mean). Fixed parameters have the identity's row. */
static void form_normal(struct work *w)
{
    const struct kw__fit_problem *p = w->problem;
    for (size_t j = 0; j < w->n; j++) {
        const double *left = w->jacobian + j * w->m;
        for (size_t k = j; k < w->n; k++) {
            const double *right = w->jacobian + k * w->m;
            double sum = j == k ? precision(w, j) : 0;
            for (size_t i = 0; i < w->m; i++) sum += left[i] * right[i] * weight_of(w->z[i], p->huber);
            w->normal[k + j * w->n] = is_fixed(w, j) || is_fixed(w, k) ? (j == k ? 1 : 0) : sum;
        }
        double sum = (w->x[j] - p->prior_mean[j]) * precision(w, j);
        for (size_t i = 0; i < w->m; i++) sum += left[i] * w->z[i] * weight_of(w->z[i], p->huber);
        w->gradient[j] = is_fixed(w, j) ? 0 : sum;
    }
}

/* Solves with the diagonal raised by 1 + damping; false when the matrix is not positive. */
static bool solve(struct work *w, double damping)
{
    lapack_int n = (lapack_int)w->n;
    memcpy(w->solved, w->normal, w->n * w->n * sizeof *w->solved);
    for (size_t j = 0; j < w->n; j++) {
        w->solved[j + j * w->n] *= 1 + damping;
        w->step[j] = -w->gradient[j];
    }
    return LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', n, 1, w->solved, n, w->step, n) == 0;
}

/* Takes the step when it does not raise the cost. `tried`: the cost there. */
static kw_status try_step(struct work *w, double *cost, double *tried, bool *taken, kw_error *err)
{
    double *x = w->step; /* becomes the new point */
    for (size_t j = 0; j < w->n; j++) x[j] += w->x[j];
    kw_status status = w->problem->residuals(w->problem->context, x, w->beside, err);
    *tried = status ? NAN : cost_of(w, x, w->beside);
    *taken = *tried <= *cost;
    if (!*taken) return status;
    *cost = *tried;
    memcpy(w->x, x, w->n * sizeof *x);
    memcpy(w->z, w->beside, w->m * sizeof *w->z);
    return KW_OK;
}

static kw_status minimise(struct work *w, struct kw__fit *out, kw_error *err)
{
    double damping = 1e-3;
    for (; !out->converged && out->iterations < MAX_ITERATIONS; out->iterations++) {
        double before = out->cost, tried = NAN;
        bool taken = false;
        kw_status status = differentiate(w, err);
        if (status) return status;
        form_normal(w);
        for (; !taken && damping < most_damping; damping = taken ? damping : damping * 10) {
            tried = NAN;
            if (!solve(w, damping)) continue;
            status = try_step(w, &out->cost, &tried, &taken, err);
            if (status) return status;
        }
        /* When not even the shortest step helps, x is the minimum, to rounding or where the model has a kink
         * (a maximum of two bounds). Not so when no damping makes the matrix positive, or the model is not
         * finite beside x. */
        if (!taken && !isfinite(tried))
            return kw__fail(err, KW_ERROR_FORMAT,
                            "the fit finds no way down: the model or its derivatives are not finite");
        out->converged = !taken || before - out->cost <= tolerance * (1 + before);
        damping = fmax(damping / 10, least_damping);
    }
    return KW_OK;
}

static kw_status invert(struct work *w, double *covariance, kw_error *err)
{
    lapack_int n = (lapack_int)w->n;
    kw_status status = differentiate(w, err);
    if (status) return status;
    form_normal(w);
    memcpy(covariance, w->normal, w->n * w->n * sizeof *covariance);
    if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', n, covariance, n) != 0 ||
        LAPACKE_dpotri(LAPACK_COL_MAJOR, 'L', n, covariance, n) != 0)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "the rows do not determine the parameters; fit fewer or give priors");
    for (size_t j = 0; j < w->n; j++)
        for (size_t k = j; k < w->n; k++) {
            double *value = &covariance[k + j * w->n];
            if (is_fixed(w, j) || is_fixed(w, k)) *value = 0;
            covariance[j + k * w->n] = *value;
        }
    return KW_OK;
}

kw_status kw__fit_map(const struct kw__fit_problem *problem, const double *start, struct kw__arena *arena,
                      struct kw__fit *out, kw_error *err)
{
    size_t n = problem->num_parameters, m = problem->num_residuals;
    double *room = kw__arena_alloc(arena, m * n + 3 * n * n + 3 * n + 2 * m + 1, sizeof *room);
    if (!room) return kw__fail_memory(err);
    struct work w = {.problem = problem, .n = n, .m = m};
    double **const parts[] = {&w.jacobian, &w.normal, &w.solved, &out->covariance, &w.gradient,
                              &w.step,     &w.x,      &w.z,      &w.beside};
    const size_t sizes[] = {m * n, n * n, n * n, n * n, n, n, n, m, m};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *parts[i] = room;
        room += sizes[i];
    }
    for (size_t j = 0; j < n; j++) w.x[j] = start && !is_fixed(&w, j) ? start[j] : problem->prior_mean[j];
    out->x = w.x;
    out->residuals = w.z;
    out->iterations = 0;
    out->converged = false;
    kw_status status = problem->residuals(problem->context, w.x, w.z, err);
    if (status) return status;
    out->cost = cost_of(&w, w.x, w.z);
    if (!isfinite(out->cost))
        return kw__fail(err, KW_ERROR_FORMAT, "the model is not finite where the fit starts");
    status = minimise(&w, out, err);
    return status ? status : invert(&w, out->covariance, err);
}

double kw__huber_location(const double *values, size_t count, double k)
{
    double at = 0;
    for (size_t i = 0; i < count; i++) at += values[i] / (double)count;
    for (int iteration = 0; count && iteration < 1000; iteration++) {
        double sum = 0, weights = 0;
        for (size_t i = 0; i < count; i++) {
            double weight = weight_of(values[i] - at, k);
            sum += weight * values[i];
            weights += weight;
        }
        double moved = sum / weights - at;
        at += moved;
        if (fabs(moved) < 1e-13) break;
    }
    return count ? at : NAN;
}
