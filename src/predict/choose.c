/* Which runs to measure first: those that tell most, for their time, about all requests of the samples.
 *
 * The predictor is linear in its log parameters near the priors: a run that was measured takes
 * v v' / (sd^2 + g'v), v = Sigma g, from their covariance Sigma, g being its gradient (a Kalman filter's
 * update, R. E. Kalman, 1960). Runs are taken greedily by what they take from the sum of variances g'Sigma g
 * of latency and energy over all requests (V-optimal design: V. V. Fedorov, Theory of Optimal Experiments,
 * 1972), over the share of runs and time that they cost. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/validate.h"

typedef double matrix[KW__MAX_PARAMETERS][KW__MAX_PARAMETERS];

struct choice {
    const struct kw__samples *samples;
    int n;
    struct kw__gradient *gradients; /* by group, at the priors */
    matrix wanted;                  /* sum of g g' over latency and energy of all requests */
    matrix covariance;
};

static kw_status differentiate(struct choice *c, struct kw__arena *arena, kw_error *err)
{
    const struct kw__samples *s = c->samples;
    bool *counted = kw__arena_alloc(arena, s->num_groups, sizeof *counted);
    c->gradients = kw__arena_alloc(arena, s->num_groups, sizeof *c->gradients);
    if (arena->failed) return kw__fail_memory(err);
    for (size_t i = 0; i < s->count; i++) {
        int group = s->list[i].group;
        struct kw__gradient *g = &c->gradients[group];
        if (g->latency_s == 0) {
            kw_status status = kw__kernel_gradient(s, group, g, err);
            if (status) return status;
        }
        if (counted[group] || s->list[i].whole >= 0) continue;
        counted[group] = true;
        for (int q = KW__LATENCY; q <= KW__ENERGY; q++)
            for (int j = 0; j < c->n; j++)
                for (int k = 0; k < c->n && isfinite(g->of[q][0]); k++)
                    c->wanted[j][k] += g->of[q][j] * g->of[q][k];
    }
    return KW_OK;
}

/* What one figure of log sd `sd` takes from the covariance. */
static void observe(matrix covariance, int n, const double *g, double sd)
{
    double v[KW__MAX_PARAMETERS] = {0}, total = sd * sd;
    for (int j = 0; j < n; j++)
        for (int k = 0; k < n; k++) v[j] += covariance[j][k] * g[k];
    for (int j = 0; j < n; j++) total += g[j] * v[j];
    for (int j = 0; j < n; j++)
        for (int k = 0; k < n; k++) covariance[j][k] -= v[j] * v[k] / total;
}

/* What a whole, by its parts where it has some, leaves of the covariance. */
static void observe_run(const struct choice *c, size_t whole, matrix covariance)
{
    const struct kw__samples *s = c->samples;
    for (size_t i = whole; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        const struct kw__gradient *g = &c->gradients[sample->group];
        bool mine = s->list[whole].has_parts ? sample->whole == (int)whole : i == whole;
        if (!mine) continue;
        observe(covariance, c->n, g->of[KW__LATENCY], KW__ROW_TIME_SD / sqrt(sample->share));
        if (!isnan(sample->energy_j))
            observe(covariance, c->n, g->of[KW__POWER], KW__ROW_POWER_SD / sqrt(sample->share));
    }
}

/* The sum of variances that is left. */
static double left(const struct choice *c, matrix covariance)
{
    double sum = 0;
    for (int j = 0; j < c->n; j++)
        for (int k = 0; k < c->n; k++) sum += c->wanted[j][k] * covariance[j][k];
    return sum;
}

/* The best whole that is of no request taken and can be had for the seconds left; count: none. */
static size_t best_of(struct choice *c, const bool *taken, double share, double seconds, double left_s)
{
    const struct kw__samples *s = c->samples;
    size_t best = s->count;
    double most = 0, now = left(c, c->covariance);
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        if (sample->whole >= 0 || taken[sample->group] || sample->latency_s > left_s) continue;
        matrix after;
        memcpy(after, c->covariance, sizeof after);
        observe_run(c, i, after);
        double gain = (now - left(c, after)) / (share + c->gradients[sample->group].latency_s / seconds);
        if (gain <= most) continue;
        most = gain;
        best = i;
    }
    return best;
}

kw_status kw__choose_runs(const struct kw__samples *samples, int runs, double seconds, bool *marks,
                          kw_error *err)
{
    struct choice c = {.samples = samples, .n = samples->priors->num_parameters};
    struct kw__arena arena;
    kw__arena_init(&arena);
    bool *taken = kw__arena_alloc(&arena, samples->num_groups, sizeof *taken);
    kw_status status = taken ? differentiate(&c, &arena, err) : kw__fail_memory(err);
    for (int j = 0; j < c.n; j++) {
        double sd = samples->priors->parameters[j].prior_log_sd;
        c.covariance[j][j] = sd * sd;
    }
    double left_s = seconds;
    for (int k = 0; !status && k < runs; k++) {
        size_t best = best_of(&c, taken, 1.0 / runs, seconds, left_s);
        if (best == samples->count) break;
        observe_run(&c, best, c.covariance);
        taken[samples->list[best].group] = marks[best] = true;
        left_s -= samples->list[best].latency_s;
    }
    kw__arena_free(&arena);
    return status;
}
