#include "predict/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/paper.h"
#include "stats/fit.h"

/* docs/CALIBRATION.md, "Sessions and noise" and "Intervals" */
static const double row_time_sd = KW__ROW_TIME_SD, row_power_sd = KW__ROW_POWER_SD, huber = 1.5;
static const double prior_sessions = 4, prior_shapes = 10; /* what the prior sds count for */
static const double proportional_huber = 0.03;
static const double difference_step = 1e-5;

/* ---- Pricing --------------------------------------------------------------------------------------- */

/* Which rates a workload needs was checked when the samples were made: any of them stands for all. */
static kw_status prices_at(const struct kw__samples *s, const double *theta, struct kw__prices *out,
                           kw_error *err)
{
    const struct kw__demand *demand = &s->groups[0];
    return kw__prices_of(s->priors, s->hardware, demand->workload, &demand->binding, 0, theta, out, err);
}

kw_status kw__kernel_price(const struct kw__samples *samples, int group, const double *theta,
                           double *latency_s, double *energy_j, kw_error *err)
{
    struct kw__prices prices;
    kw_status status = prices_at(samples, theta, &prices, err);
    if (!status) kw__price_total(&samples->groups[group].bundles, &prices, latency_s, energy_j);
    return status;
}

/* ---- The kernel predictor's fit --------------------------------------------------------------------- */

/* How the logarithm of a price changes with a parameter, where it does. */
struct move {
    size_t price, parameter;
    double by;
};

/* What residuals and Jacobian are made from. Residuals: log t of each used sample, then log(E/t) of each
 * that has an energy. */
struct context {
    const struct kw__samples *samples;
    const struct kw__sample **used, **wholes; /* wholes: for their parts that are in used, else as there */
    size_t num_times, num_powers, num_wholes;
    double *weight, *power_weight;    /* of each used sample, square roots */
    size_t *power_of;                 /* the used sample of each power residual */
    bool *needed;                     /* groups */
    double *time, *power;             /* by group: log t and log(E/t) */
    double *time_slope, *power_slope; /* by group and parameter */
    struct move *moves;
};

static size_t num_fitted(const struct kw__samples *s)
{
    return (size_t)(s->priors->num_parameters + 2 * s->num_sessions);
}

static kw_status price_groups(const struct context *c, const double *x, double *time, double *power,
                              kw_error *err)
{
    struct kw__prices prices;
    kw_status status = prices_at(c->samples, x, &prices, err);
    for (size_t g = 0; !status && g < c->samples->num_groups; g++) {
        double latency_s, energy_j;
        if (!c->needed[g]) continue;
        kw__price_total(&c->samples->groups[g].bundles, &prices, &latency_s, &energy_j);
        time[g] = log(latency_s);
        power[g] = log(energy_j / latency_s);
    }
    return status;
}

/* The session terms of a sample in log t and log(E/t). */
static double session_time(const struct kw__samples *s, const double *x, int session)
{
    if (session < 0) return 0;
    const double *a = x + s->priors->num_parameters, *b = a + s->num_sessions;
    return a[session] + KW__SPEED_PER_POWER * b[session];
}

static double session_power(const struct kw__samples *s, const double *x, int session)
{
    return session < 0 ? 0 : x[s->priors->num_parameters + s->num_sessions + session];
}

static kw_status residuals(void *context, const double *x, double *z, kw_error *err)
{
    struct context *c = context;
    kw_status status = price_groups(c, x, c->time, c->power, err);
    if (status) return status;
    for (size_t i = 0; i < c->num_times; i++) {
        const struct kw__sample *row = c->used[i];
        double model = c->time[row->group] + session_time(c->samples, x, row->session);
        z[i] = (model - log(row->latency_s)) / row_time_sd * c->weight[i];
    }
    for (size_t i = 0; i < c->num_powers; i++) {
        const struct kw__sample *row = c->used[c->power_of[i]];
        double model = c->power[row->group] + session_power(c->samples, x, row->session);
        z[c->num_times + i] =
            (model - log(row->energy_j / row->latency_s)) / row_power_sd * c->power_weight[c->power_of[i]];
    }
    return KW_OK;
}

/* Prices at theta, and by differences in it their moves. */
static kw_status moves_at(const struct kw__samples *s, const double *theta, struct kw__prices *prices,
                          struct move *moves, size_t *count, kw_error *err)
{
    double moved[KW__MAX_PARAMETERS];
    struct kw__prices other;
    kw_status status = prices_at(s, theta, prices, err);
    const double *before = (const double *)prices, *after = (const double *)&other;
    *count = 0;
    memcpy(moved, theta, (size_t)s->priors->num_parameters * sizeof *moved);
    for (size_t j = 0; !status && j < (size_t)s->priors->num_parameters; j++) {
        moved[j] = theta[j] + difference_step;
        status = prices_at(s, moved, &other, err);
        moved[j] = theta[j];
        for (size_t k = 0; k < KW__NUM_PRICES; k++)
            if (before[k] > 0 && after[k] > 0 && before[k] != after[k])
                moves[(*count)++] = (struct move){k, j, log(after[k] / before[k]) / difference_step};
    }
    return status;
}

/* Of log t and log(E/t) of each group by each parameter. */
static kw_status slope_groups(const struct context *c, const double *x, kw_error *err)
{
    size_t parameters = (size_t)c->samples->priors->num_parameters, count;
    struct kw__prices prices;
    kw_status status = moves_at(c->samples, x, &prices, c->moves, &count, err);
    memset(c->time_slope, 0, c->samples->num_groups * parameters * sizeof *c->time_slope);
    memset(c->power_slope, 0, c->samples->num_groups * parameters * sizeof *c->power_slope);
    for (size_t g = 0; !status && g < c->samples->num_groups; g++) {
        const struct kw__bundles *bundles = &c->samples->groups[g].bundles;
        double latency_s, energy_j, *time = &c->time_slope[g * parameters],
                                    *power = &c->power_slope[g * parameters];
        struct kw__slopes slopes;
        const double *of_latency = (const double *)&slopes.latency,
                     *of_energy = (const double *)&slopes.energy;
        if (!c->needed[g]) continue;
        kw__price_total(bundles, &prices, &latency_s, &energy_j);
        kw__price_slopes(bundles, &prices, &slopes);
        for (size_t i = 0; i < count; i++) {
            const struct move *m = &c->moves[i];
            double log_time = of_latency[m->price] * m->by / latency_s;
            time[m->parameter] += log_time;
            power[m->parameter] += of_energy[m->price] * m->by / energy_j - log_time;
        }
    }
    return status;
}

static kw_status jacobian(void *context, const double *x, double *out, kw_error *err)
{
    struct context *c = context;
    const struct kw__samples *s = c->samples;
    size_t rows = c->num_times + c->num_powers, parameters = (size_t)s->priors->num_parameters;
    memset(out, 0, rows * num_fitted(s) * sizeof *out);
    kw_status status = slope_groups(c, x, err);
    if (status) return status;
    for (size_t j = 0; j < parameters; j++) {
        double *column = out + j * rows;
        for (size_t i = 0; i < c->num_times; i++) {
            size_t g = (size_t)c->used[i]->group;
            column[i] = c->time_slope[g * parameters + j] / row_time_sd * c->weight[i];
        }
        for (size_t i = 0; i < c->num_powers; i++) {
            size_t g = (size_t)c->used[c->power_of[i]]->group;
            column[c->num_times + i] =
                c->power_slope[g * parameters + j] / row_power_sd * c->power_weight[c->power_of[i]];
        }
    }
    for (size_t i = 0; i < c->num_times; i++) {
        if (c->used[i]->session < 0) continue;
        size_t a = parameters + (size_t)c->used[i]->session, b = a + (size_t)s->num_sessions;
        out[i + a * rows] = c->weight[i] / row_time_sd;
        out[i + b * rows] = KW__SPEED_PER_POWER * c->weight[i] / row_time_sd;
    }
    for (size_t i = 0; i < c->num_powers; i++) {
        int session = c->used[c->power_of[i]]->session;
        if (session < 0) continue;
        size_t b = parameters + (size_t)(s->num_sessions + session);
        out[c->num_times + i + b * rows] = c->power_weight[c->power_of[i]] / row_power_sd;
    }
    return KW_OK;
}

/* Of a row whose variance is sd^2 / share + more, against one of sd. */
static double root_weight(double sd, double share, double more)
{
    return more > 0 ? sd / sqrt(sd * sd / share + more) : sqrt(share);
}

/* Rows that repeat one effective request in one session share the weight of one, the parts of a pipeline that
 * of the whole. What a session adds is noise where it has no term, and so is what the meter did not know. */
static kw_status weigh(struct context *c, struct kw__arena *arena, kw_error *err)
{
    const struct kw__calibration *priors = c->samples->priors;
    size_t sessions = (size_t)c->samples->num_sessions + 1;
    int *repeats = kw__arena_alloc(arena, c->samples->num_groups * sessions, sizeof *repeats);
    double session[KW__NUM_QUANTITIES];
    if (!repeats) return kw__fail_memory(err);
    kw__session_variances(priors->session_time_sd, priors->session_power_sd, session);
    for (size_t i = 0; i < c->num_times; i++)
        repeats[(size_t)c->used[i]->group * sessions + (size_t)(c->used[i]->session + 1)]++;
    for (size_t i = 0; i < c->num_times; i++) {
        const struct kw__sample *row = c->used[i];
        int same = repeats[(size_t)row->group * sessions + (size_t)(row->session + 1)];
        double lone = row->session < 0 ? 1 / row->share : 0;
        double of_power = lone * session[KW__POWER] + row->energy_log_sd * row->energy_log_sd;
        c->weight[i] = root_weight(row_time_sd, row->share, lone * session[KW__LATENCY]) * sqrt(1.0 / same);
        c->power_weight[i] = root_weight(row_power_sd, row->share, of_power) * sqrt(1.0 / same);
    }
    return KW_OK;
}

static kw_status make_context(const struct kw__samples *s, const bool *use, struct kw__arena *arena,
                              struct context *c, kw_error *err)
{
    *c = (struct context){.samples = s};
    c->used = kw__arena_alloc(arena, 2 * s->count, sizeof(const struct kw__sample *));
    c->power_of = kw__arena_alloc(arena, s->count, sizeof *c->power_of);
    c->needed = kw__arena_alloc(arena, s->num_groups, sizeof *c->needed);
    size_t slopes = s->num_groups * (size_t)s->priors->num_parameters;
    double *figures = kw__arena_alloc(arena, 2 * s->count + 2 * s->num_groups + 2 * slopes, sizeof *figures);
    c->moves = kw__arena_alloc(arena, KW__MAX_PARAMETERS * KW__NUM_PRICES, sizeof *c->moves);
    if (arena->failed) return kw__fail_memory(err);
    c->wholes = c->used + s->count;
    c->weight = figures;
    c->power_weight = c->weight + s->count;
    c->time = c->power_weight + s->count;
    c->power = c->time + s->num_groups;
    c->time_slope = c->power + s->num_groups;
    c->power_slope = c->time_slope + slopes;
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        if (use && !use[sample->whole < 0 ? i : (size_t)sample->whole]) continue;
        c->needed[sample->group] = true;
        if (sample->whole < 0) c->wholes[c->num_wholes++] = sample;
        if (sample->has_parts) continue;
        if (!isnan(sample->energy_j)) c->power_of[c->num_powers++] = c->num_times;
        c->used[c->num_times++] = sample;
    }
    return weigh(c, arena, err);
}

/* ---- The spread of sessions and shapes ---------------------------------------------------------------- */

/* The sd of a new session's term: the prior counts as `prior_sessions`, each fitted one as far as the rows
 * determine it (D. J. C. MacKay, Bayesian interpolation, 1992, 4.3). */
static double session_sd(const struct kw__kernel_fit *fit, int first, double prior_sd)
{
    double sum = prior_sessions * prior_sd * prior_sd, freedom = prior_sessions;
    for (int i = first; i < first + fit->num_sessions; i++) {
        if (!fit->seen[i - first]) continue;
        sum += fit->x[i] * fit->x[i];
        freedom += 1 - fmin(fit->covariance[i][i] / (prior_sd * prior_sd), 1);
    }
    return sqrt(sum / freedom);
}

/* log of the measured over the fitted quantity */
static double residual_of(const struct context *c, const struct kw__kernel_fit *fit,
                          const struct kw__sample *row, int quantity)
{
    double time = log(row->latency_s) - c->time[row->group] - session_time(c->samples, fit->x, row->session);
    double power = log(row->energy_j / row->latency_s) - c->power[row->group] -
                   session_power(c->samples, fit->x, row->session);
    return quantity == KW__LATENCY ? time : quantity == KW__POWER ? power : time + power;
}

/* The sd of the model's error from shape to shape: one mean residual for each shape of each session. Of rows
 * that are of no session it is the part that sessions are not expected to make. */
static kw_status shape_sd(const struct context *c, const struct kw__kernel_fit *fit, int quantity,
                          double prior_sd, double *out, kw_error *err)
{
    size_t shapes = (size_t)c->samples->num_shapes, cells = shapes * (size_t)(c->samples->num_sessions + 1);
    struct {
        double total;
        int rows;
    } *cell = calloc(cells, sizeof *cell);
    if (!cell) return kw__fail_memory(err);
    for (size_t i = 0; i < c->num_wholes; i++) {
        const struct kw__sample *row = c->wholes[i];
        size_t k = (size_t)(row->session + 1) * shapes + (size_t)row->shape;
        if (quantity != KW__LATENCY && isnan(row->energy_j)) continue;
        cell[k].total += residual_of(c, fit, row, quantity);
        cell[k].rows++;
    }
    const struct kw__calibration *priors = c->samples->priors;
    double sum = prior_shapes * prior_sd * prior_sd, count = prior_shapes, session[KW__NUM_QUANTITIES];
    kw__session_variances(priors->session_time_sd, priors->session_power_sd, session);
    for (size_t k = 0; k < cells; k++) {
        if (!cell[k].rows) continue;
        double mean = cell[k].total / cell[k].rows, level = session[quantity] / cell[k].rows;
        if (k < shapes) mean *= prior_sd / sqrt(prior_sd * prior_sd + level);
        sum += mean * mean;
        count++;
    }
    free(cell);
    *out = sqrt(sum / count);
    return KW_OK;
}

/* Pearson's, of log t and log(E/t), which the fit takes for independent. */
static double correlation(const struct context *c, const struct kw__kernel_fit *fit)
{
    double t = 0, p = 0, tt = 0, tp = 0, pp = 0, n = 0;
    for (size_t i = 0; i < c->num_wholes; i++) n += !isnan(c->wholes[i]->energy_j);
    for (size_t i = 0; i < c->num_wholes; i++) {
        const struct kw__sample *row = c->wholes[i];
        if (isnan(row->energy_j)) continue;
        double x = residual_of(c, fit, row, KW__LATENCY), y = residual_of(c, fit, row, KW__POWER);
        t += x / n, p += y / n, tt += x * x / n, tp += x * y / n, pp += y * y / n;
    }
    return n < 3 ? NAN : (tp - t * p) / sqrt((tt - t * t) * (pp - p * p));
}

static kw_status fill_fit(struct context *c, const struct kw__fit *result, struct kw__kernel_fit *out,
                          kw_error *err)
{
    const struct kw__calibration *priors = c->samples->priors;
    size_t n = num_fitted(c->samples);
    *out = (struct kw__kernel_fit){.num_parameters = priors->num_parameters,
                                   .num_sessions = c->samples->num_sessions,
                                   .iterations = result->iterations};
    for (size_t i = 0; i < n; i++) {
        out->x[i] = result->x[i];
        for (size_t j = 0; j < n; j++) out->covariance[i][j] = result->covariance[i + j * n];
    }
    for (size_t i = 0; i < c->num_times; i++)
        if (c->used[i]->session >= 0) out->seen[c->used[i]->session] = true;
    out->session_time_sd = session_sd(out, priors->num_parameters, priors->session_time_sd);
    out->session_power_sd =
        session_sd(out, priors->num_parameters + c->samples->num_sessions, priors->session_power_sd);
    kw_status status = price_groups(c, out->x, c->time, c->power, err);
    if (status) return status;
    out->residual_correlation = correlation(c, out);
    status = shape_sd(c, out, KW__LATENCY, priors->model_time_sd, &out->model_time_sd, err);
    if (!status) status = shape_sd(c, out, KW__ENERGY, priors->model_energy_sd, &out->model_energy_sd, err);
    if (!status) status = shape_sd(c, out, KW__POWER, priors->model_power_sd, &out->model_power_sd, err);
    return status;
}

kw_status kw__kernel_fit(const struct kw__samples *samples, const bool *use, struct kw__kernel_fit *out,
                         kw_error *err)
{
    const struct kw__calibration *priors = samples->priors;
    double mean[KW__MAX_FITTED] = {0}, sd[KW__MAX_FITTED];
    for (int i = 0; i < priors->num_parameters; i++) sd[i] = priors->parameters[i].prior_log_sd;
    for (int i = 0; i < samples->num_sessions; i++) {
        sd[priors->num_parameters + i] = priors->session_time_sd;
        sd[priors->num_parameters + samples->num_sessions + i] = priors->session_power_sd;
    }
    struct kw__arena arena;
    struct context context;
    struct kw__fit result;
    kw__arena_init(&arena);
    kw_status status = make_context(samples, use, &arena, &context, err);
    struct kw__fit_problem problem = {.num_parameters = num_fitted(samples),
                                      .num_residuals = context.num_times + context.num_powers,
                                      .prior_mean = mean,
                                      .prior_sd = sd,
                                      .huber = huber,
                                      .residuals = residuals,
                                      .jacobian = jacobian,
                                      .context = &context};
    if (!status) status = kw__fit_map(&problem, NULL, &arena, &result, err);
    if (!status && !result.converged)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "the fit of the kernel predictor has not converged in %d steps; see whether rows "
                          "contradict each other",
                          result.iterations);
    if (!status) status = fill_fit(&context, &result, out, err);
    kw__arena_free(&arena);
    return status;
}

/* ---- Estimates -------------------------------------------------------------------------------------- */

struct priced {
    const struct kw__samples *samples;
    int group;
};

static kw_status price_one(const void *context, const double *theta, double *latency_s, double *energy_j,
                           kw_error *err)
{
    const struct priced *priced = context;
    return kw__kernel_price(priced->samples, priced->group, theta, latency_s, energy_j, err);
}

kw_status kw__kernel_gradient(const struct kw__samples *samples, int group, struct kw__gradient *out,
                              kw_error *err)
{
    const struct priced priced = {samples, group};
    const double theta[KW__MAX_FITTED] = {0};
    return kw__log_gradient(price_one, &priced, theta, samples->priors->num_parameters, out, err);
}

void kw__kernel_fit_stored(const struct kw__calibration *calibration, struct kw__kernel_fit *out)
{
    *out = (struct kw__kernel_fit){.num_parameters = calibration->num_parameters,
                                   .session_time_sd = calibration->session_time_sd,
                                   .session_power_sd = calibration->session_power_sd,
                                   .model_time_sd = calibration->model_time_sd,
                                   .model_energy_sd = calibration->model_energy_sd,
                                   .model_power_sd = calibration->model_power_sd,
                                   .residual_correlation = NAN};
    for (int i = 0; i < out->num_parameters; i++) {
        out->x[i] = calibration->parameters[i].log_value;
        for (int j = 0; j < out->num_parameters; j++) out->covariance[i][j] = calibration->covariance[i][j];
    }
}

kw_status kw__kernel_estimate(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                              const struct kw__sample *sample, struct kw__estimate *out, kw_error *err)
{
    const struct priced priced = {samples, sample->group};
    const double model_sd[KW__NUM_QUANTITIES] = {fit->model_time_sd, fit->model_energy_sd,
                                                 fit->model_power_sd};
    struct kw__gradient g;
    double session_variance[KW__NUM_QUANTITIES];
    kw_status status = kw__log_gradient(price_one, &priced, fit->x, fit->num_parameters, &g, err);
    if (status) return status;
    kw__session_variances(fit->session_time_sd, fit->session_power_sd, session_variance);
    int session = sample->session >= 0 && fit->seen[sample->session] ? sample->session : -1;
    if (session >= 0) { /* what is left uncertain of its terms is in the covariance */
        int a = fit->num_parameters + session, b = a + fit->num_sessions;
        g.of[KW__LATENCY][a] = g.of[KW__ENERGY][a] = 1;
        g.of[KW__LATENCY][b] = KW__SPEED_PER_POWER;
        g.of[KW__ENERGY][b] = 1 + KW__SPEED_PER_POWER;
        g.of[KW__POWER][b] = 1;
        memset(session_variance, 0, sizeof session_variance);
    }
    double log_time = session_time(samples, fit->x, session);
    out->latency_s = g.latency_s * exp(log_time);
    out->energy_j = g.energy_j * exp(log_time + session_power(samples, fit->x, session));
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        out->sd[q] = sqrt(kw__quadratic_form(fit->covariance[0], KW__MAX_FITTED,
                                             fit->num_parameters + 2 * fit->num_sessions, g.of[q]) +
                          session_variance[q] + model_sd[q] * model_sd[q] / sample->share);
    return KW_OK;
}

/* ---- One efficiency, one power ---------------------------------------------------------------------- */

double kw__sample_flop(const struct kw__samples *samples, const struct kw__sample *sample, bool paper)
{
    const struct kw__demand *demand = &samples->groups[sample->group];
    if (!paper) return demand->flop;
    if (!demand->closed_form) return NAN;
    const struct kw__row *row = sample->row;
    struct kw__paper_flop flop =
        kw__paper_flops((double)row->width, (double)row->height, (double)row->frames, (double)row->steps);
    return kw__paper_total(&flop);
}

/* The robust mean of the logs and the root mean square about it. */
static double location(const double *values, size_t count, double *sd)
{
    double at = kw__huber_location(values, count, proportional_huber), sum = 0;
    for (size_t i = 0; i < count; i++) sum += (values[i] - at) * (values[i] - at);
    *sd = count ? sqrt(sum / (double)count) : NAN;
    return at;
}

/* Wholes, where the method is defined for them. */
static bool counts(const struct kw__samples *samples, const bool *use, size_t i, bool paper)
{
    const struct kw__sample *sample = &samples->list[i];
    return sample->whole < 0 && (!use || use[i]) && !isnan(kw__sample_flop(samples, sample, paper));
}

kw_status kw__proportional_fit(const struct kw__samples *samples, const bool *use, bool paper,
                               double flop_per_s, struct kw__proportional *out, kw_error *err)
{
    double *values = malloc((samples->count + 1) * sizeof *values);
    if (!values) return kw__fail_memory(err);
    size_t times = 0, powers = 0, energies = 0;
    for (size_t i = 0; i < samples->count; i++) {
        const struct kw__sample *row = &samples->list[i];
        if (!counts(samples, use, i, paper)) continue;
        values[times++] = log(kw__sample_flop(samples, row, paper) / flop_per_s / row->latency_s);
    }
    out->efficiency = exp(location(values, times, &out->time_sd));
    for (size_t i = 0; i < samples->count; i++) {
        const struct kw__sample *row = &samples->list[i];
        if (counts(samples, use, i, paper) && !isnan(row->energy_j))
            values[powers++] = log(row->energy_j / row->latency_s);
    }
    double unused;
    out->power_w = exp(location(values, powers, &unused));
    for (size_t i = 0; i < samples->count; i++) {
        const struct kw__sample *row = &samples->list[i];
        if (!counts(samples, use, i, paper) || isnan(row->energy_j)) continue;
        double seconds = kw__sample_flop(samples, row, paper) / flop_per_s / out->efficiency;
        values[energies++] = log(row->energy_j / (seconds * out->power_w));
    }
    double sum = 0;
    for (size_t i = 0; i < energies; i++) sum += values[i] * values[i];
    out->energy_sd = energies ? sqrt(sum / (double)energies) : NAN;
    free(values);
    return KW_OK;
}

/* ---- The host ---------------------------------------------------------------------------------------- */

/* A row whose host was measured. */
static bool has_host(const struct kw__samples *samples, const bool *use, size_t i)
{
    const double *wh = samples->list[i].row->energy_wh;
    return samples->list[i].whole < 0 && (!use || use[i]) && !isnan(wh[KW_CPU]) && !isnan(wh[KW_RAM]);
}

kw_status kw__host_fit(const struct kw__samples *samples, const bool *use, struct kw__host_fit *out,
                       kw_error *err)
{
    double *cpu = malloc((samples->count + 1) * sizeof *cpu);
    if (!cpu) return kw__fail_memory(err);
    size_t n = 0;
    /* RAM: least squares of (w t + j) / measured - 1, two normal equations */
    double tt = 0, t1 = 0, one = 0, t = 0, u = 0, residual = 0;
    for (size_t i = 0; i < samples->count; i++) {
        const struct kw__row *row = samples->list[i].row;
        double cpu_j = row->energy_wh[KW_CPU] * 3600, ram_j = row->energy_wh[KW_RAM] * 3600;
        if (!has_host(samples, use, i)) continue;
        double p = row->latency_s / ram_j, q = 1 / ram_j;
        tt += p * p, t1 += p * q, one += q * q, t += p, u += q;
        cpu[n++] = log(cpu_j / row->latency_s);
    }
    const struct kw__host_fit none = {NAN, NAN, NAN, NAN, NAN, (int)n};
    double mean = 0, square = 0, det = tt * one - t1 * t1;
    *out = none;
    if (n >= 3 && det > 1e-9 * tt * one) { /* latencies differ */
        for (size_t i = 0; i < n; i++) mean += cpu[i] / (double)n;
        for (size_t i = 0; i < n; i++) square += (cpu[i] - mean) * (cpu[i] - mean);
        out->cpu_w = exp(mean);
        out->cpu_log_sd = sqrt(square / (double)(n - 1));
        out->ram_w = (t * one - u * t1) / det;
        out->ram_j = (u * tt - t * t1) / det;
        for (size_t i = 0; i < samples->count; i++) {
            const struct kw__row *row = samples->list[i].row;
            double ram_j = row->energy_wh[KW_RAM] * 3600;
            if (!has_host(samples, use, i)) continue;
            double error = log((out->ram_w * row->latency_s + out->ram_j) / ram_j);
            residual += error * error;
        }
        out->ram_log_sd = sqrt(residual / (double)(n - 2));
        if (out->ram_w < 0 || out->ram_j < 0 || !isfinite(out->ram_log_sd)) *out = none;
    }
    free(cpu);
    return KW_OK;
}
