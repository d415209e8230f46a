#include "predict/validate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/catalog.h"
#include "predict/paper.h"

/* ---- What must be reached --------------------------------------------------------------------------- */

enum statistic { MEAN, LARGEST, COVERAGE, HALF_WIDTH, HELD_OUT_14B, H200_TIMES };
enum { ONE_SWEEP, EACH_SWEEP, ALL_ROWS };

/* value: the statistic of the score, the worst of the sweeps for EACH_SWEEP */
static const struct {
    const char *what, *source;
    enum statistic statistic;
    enum kw__split split;
    enum kw__rung rung;
    int scope;
    const char *sweep;
    int quantity;
    double low, high;
} wanted[KW__NUM_TARGETS] = {
#define PUBLISHED "arXiv 2509.19222, as published, to 0.1"
#define PROJECT "target of this release"
    {"paper, resolutions: latency", PUBLISHED, MEAN, KW__AS_PUBLISHED, KW__PAPER, ONE_SWEEP, "resolution",
     KW__LATENCY, .139, .141},
    {"paper, resolutions: energy", PUBLISHED, MEAN, KW__AS_PUBLISHED, KW__PAPER, ONE_SWEEP, "resolution",
     KW__ENERGY, .115, .117},
    {"paper, frames: latency", PUBLISHED, MEAN, KW__AS_PUBLISHED, KW__PAPER, ONE_SWEEP, "frames", KW__LATENCY,
     .104, .106},
    {"paper, steps: latency", PUBLISHED, MEAN, KW__AS_PUBLISHED, KW__PAPER, ONE_SWEEP, "steps", KW__LATENCY,
     .018, .020},
    {"kernel, group-out, each sweep: latency", PROJECT, MEAN, KW__GROUP_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__LATENCY, 0, .02},
    {"kernel, group-out, each sweep: energy", PROJECT, MEAN, KW__GROUP_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__ENERGY, 0, .02},
    {"kernel, axis-out, each sweep: latency", PROJECT, MEAN, KW__AXIS_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__LATENCY, 0, .03},
    {"kernel, axis-out, each sweep: energy", PROJECT, MEAN, KW__AXIS_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__ENERGY, 0, .03},
    {"kernel, axis-out: largest error of latency", PROJECT, LARGEST, KW__AXIS_OUT, KW__KERNEL, ALL_ROWS, NULL,
     KW__LATENCY, 0, .10},
    {"kernel, axis-out: largest error of energy", PROJECT, LARGEST, KW__AXIS_OUT, KW__KERNEL, ALL_ROWS, NULL,
     KW__ENERGY, 0, .10},
    {"kernel, six shortest rows: latency", PROJECT, MEAN, KW__SIX_SHORTEST, KW__KERNEL, ALL_ROWS, NULL,
     KW__LATENCY, 0, .04},
    {"kernel, six shortest rows: energy", PROJECT, MEAN, KW__SIX_SHORTEST, KW__KERNEL, ALL_ROWS, NULL,
     KW__ENERGY, 0, .06},
    {"kernel, axis-out, 90 % intervals: latency rows covered", PROJECT, COVERAGE, KW__AXIS_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__LATENCY, .85, .97},
    {"kernel, axis-out, 90 % intervals: energy rows covered", PROJECT, COVERAGE, KW__AXIS_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__ENERGY, .85, .97},
    {"kernel, axis-out, 90 % intervals: median half-width", PROJECT, HALF_WIDTH, KW__AXIS_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__ENERGY, 0, .06},
    {"kernel, WAN2.1-14B unseen: latency and energy", PROJECT, HELD_OUT_14B, KW__NUM_SPLITS, KW__KERNEL,
     ALL_ROWS, NULL, KW__LATENCY, 0, .10},
    {"kernel, H200 unseen: forwards and pipeline", PROJECT, H200_TIMES, KW__NUM_SPLITS, KW__KERNEL, ALL_ROWS,
     NULL, KW__LATENCY, 0, .08},
};

/* fmax, but what is missing stays missing. */
static double larger(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

static double figure_of(const struct kw__score *score, enum statistic statistic, int quantity)
{
    if (!score) return NAN;
    switch (statistic) {
    case MEAN: return score->errors[quantity].mean;
    case LARGEST: return score->errors[quantity].largest;
    case COVERAGE: return score->coverage[quantity];
    case HALF_WIDTH: return larger(score->half_width[KW__LATENCY], score->half_width[KW__ENERGY]);
    default: return NAN;
    }
}

static double worst_of_14b(const struct kw__validation *v)
{
    double worst = 0;
    bool any = false;
    for (size_t i = 0; i < v->num_held_out; i++) {
        const struct kw__row *row = v->held_out[i].row;
        const struct kw__estimate *e = &v->held_out[i].estimates[KW__KERNEL];
        if (strcmp(row->model, "wan2.1-t2v-14b") != 0) continue;
        worst = larger(worst, larger(fabs(e->latency_s / row->latency_s - 1),
                                     fabs(e->energy_j / row->energy_wh[KW_GPU] / 3600 - 1)));
        any = true;
    }
    return any ? worst : NAN;
}

static double mean_of_h200(const struct kw__validation *v)
{
    struct kw__errors errors = kw__errors_begin();
    for (size_t i = 0; i < v->num_zero_rows; i++) {
        const struct kw__row *row = v->zero_rows[i].row;
        if (strcmp(row->what, "forward") != 0 && strcmp(row->what, "pipeline") != 0) continue;
        kw__errors_add(&errors, v->zero_rows[i].estimates[KW__KERNEL].latency_s, row->latency_s);
    }
    kw__errors_end(&errors);
    return errors.mean;
}

/* Of one sweep or all rows; of the worst sweep, NaN when one has no score. */
static double value_of(const struct kw__validation *v, int target)
{
    const enum statistic statistic = wanted[target].statistic;
    const enum kw__split split = wanted[target].split;
    const enum kw__rung rung = wanted[target].rung;
    int quantity = wanted[target].quantity;
    if (statistic == HELD_OUT_14B) return worst_of_14b(v);
    if (statistic == H200_TIMES) return mean_of_h200(v);
    if (wanted[target].scope != EACH_SWEEP)
        return figure_of(kw__score_of(v, split, rung, wanted[target].sweep), statistic, quantity);
    double worst = 0;
    for (int s = 0; s < v->samples->num_sessions; s++)
        worst = larger(worst,
                       figure_of(kw__score_of(v, split, rung, v->samples->sessions[s]), statistic, quantity));
    return worst;
}

void kw__validation_judge(struct kw__validation *v, unsigned parts)
{
    for (int i = 0; i < KW__NUM_TARGETS; i++) {
        struct kw__target *t = &v->targets[i];
        unsigned part = wanted[i].statistic == H200_TIMES ? KW__VALIDATE_H200 : KW__VALIDATE_SWEEPS;
        *t = (struct kw__target){.what = wanted[i].what,
                                 .source = wanted[i].source,
                                 .low = wanted[i].low,
                                 .high = wanted[i].high,
                                 .asked = (parts & part) != 0,
                                 .value = NAN};
        if (t->asked) t->value = value_of(v, i);
        t->met = t->value >= t->low && t->value <= t->high; /* false of NaN */
    }
}

/* ---- Names and errors ---------------------------------------------------------------------------------- */

const char *kw__split_name(enum kw__split split)
{
    static const char *const names[KW__NUM_SPLITS] = {
        "as-published", "in-sample", "group-out", "shape-out", "axis-out", "six-shortest", "zero-rows"};
    return names[split];
}

const char *kw__rung_name(enum kw__rung rung)
{
    static const char *const names[KW__NUM_RUNGS] = {"paper", "paper refitted", "flops", "kernel"};
    return names[rung];
}

double kw__half_width(double log_sd)
{
    return sinh(KW__QUANTILE_90 * log_sd);
}

struct kw__errors kw__errors_begin(void)
{
    return (struct kw__errors){0, 0, 0, 0};
}

void kw__errors_add(struct kw__errors *errors, double predicted, double measured)
{
    double error = predicted / measured - 1;
    if (isnan(measured)) return;
    errors->mean += fabs(error);
    errors->bias += error;
    errors->largest = larger(errors->largest, fabs(error));
    errors->count++;
}

void kw__errors_end(struct kw__errors *errors)
{
    if (!errors->count) {
        *errors = (struct kw__errors){NAN, NAN, NAN, 0};
        return;
    }
    errors->mean /= errors->count;
    errors->bias /= errors->count;
}

/* ---- Folds --------------------------------------------------------------------------------------- */

static struct kw__estimate proportional_estimate(const struct kw__samples *s, const struct kw__sample *sample,
                                                 bool paper, double flop_per_s,
                                                 const struct kw__proportional *p)
{
    double latency_s = kw__sample_flop(s, sample, paper) / flop_per_s / p->efficiency;
    return (struct kw__estimate){latency_s, latency_s * p->power_w, {p->time_sd, p->energy_sd, NAN}};
}

/* Fits every rung to the samples of `train` and predicts those of `test`. */
static kw_status run_fold(struct kw__validation *v, enum kw__split split, const bool *train, const bool *test,
                          kw_error *err)
{
    const struct kw__samples *s = v->samples;
    const struct kw__proportional published = {KW__PAPER_MU, KW__PAPER_POWER_W, NAN, NAN};
    struct kw__proportional refitted, flops;
    struct kw__kernel_fit fit;
    double peak = kw_hardware_get(v->hardware, "bf16_flop_per_s");
    kw_status status = kw__proportional_fit(s, train, true, KW__PAPER_FLOP_PER_S, &refitted, err);
    if (!status) status = kw__proportional_fit(s, train, false, peak, &flops, err);
    if (!status) status = kw__kernel_fit(s, train, &fit, err);
    refitted.time_sd = refitted.energy_sd = NAN; /* the closed form states no interval */
    for (size_t i = 0; !status && i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        struct kw__estimate *const *to = v->estimates[split];
        if (!test[i]) continue;
        to[KW__PAPER][i] = proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &published);
        to[KW__PAPER_REFITTED][i] = proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &refitted);
        to[KW__FLOPS][i] = proportional_estimate(s, sample, false, peak, &flops);
        status = kw__kernel_estimate(s, &fit, sample, &to[KW__KERNEL][i], err);
        if (!status && !isfinite(to[KW__KERNEL][i].latency_s))
            status = kw__fail(err, KW_ERROR_FORMAT, "%s:%d: the fit gives no latency for this row",
                              v->sweeps->path, sample->row->line);
    }
    if (!status && split == KW__IN_SAMPLE) {
        v->fit = fit;
        v->refitted = refitted;
        v->flops = flops;
    }
    return status;
}

/* The rows that the paper's authors scored: every resolution, and multiples of 4 of frames and steps. */
static bool is_published_score(const struct kw__row *row)
{
    if (strcmp(row->sweep, "frames") == 0) return row->frames % 4 == 0;
    if (strcmp(row->sweep, "steps") == 0) return row->steps % 4 == 0;
    return true;
}

static void score_published(struct kw__validation *v)
{
    const struct kw__proportional published = {KW__PAPER_MU, KW__PAPER_POWER_W, NAN, NAN};
    for (size_t i = 0; i < v->samples->count; i++)
        if (is_published_score(v->samples->list[i].row))
            v->estimates[KW__AS_PUBLISHED][KW__PAPER][i] = proportional_estimate(
                v->samples, &v->samples->list[i], true, KW__PAPER_FLOP_PER_S, &published);
}

/* Marks the six rows of least latency. */
static void mark_shortest(const struct kw__samples *s, bool *mark)
{
    for (int taken = 0; taken < 6 && (size_t)taken < s->count; taken++) {
        size_t best = s->count;
        for (size_t i = 0; i < s->count; i++)
            if (!mark[i] && (best == s->count || s->list[i].latency_s < s->list[best].latency_s)) best = i;
        mark[best] = true;
    }
}

static kw_status run_splits(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples;
    bool *train = kw__arena_alloc(&v->arena, s->count, sizeof *train);
    bool *test = kw__arena_alloc(&v->arena, s->count, sizeof *test);
    bool *none = kw__arena_alloc(&v->arena, s->count, sizeof *none);
    if (v->arena.failed) return kw__fail_memory(err);
    score_published(v);
    for (size_t i = 0; i < s->count; i++) train[i] = true;
    kw_status status = run_fold(v, KW__ZERO_ROWS, none, train, err);
    if (!status) status = run_fold(v, KW__IN_SAMPLE, train, train, err);
    for (size_t g = 0; !status && g < s->num_groups; g++) {
        for (size_t i = 0; i < s->count; i++) train[i] = !(test[i] = s->list[i].group == (int)g);
        status = run_fold(v, KW__GROUP_OUT, train, test, err);
    }
    for (int shape = 0; !status && shape < s->num_shapes; shape++) {
        for (size_t i = 0; i < s->count; i++) train[i] = !(test[i] = s->list[i].shape == shape);
        status = run_fold(v, KW__SHAPE_OUT, train, test, err);
    }
    for (int session = 0; !status && session < s->num_sessions; session++) {
        for (size_t i = 0; i < s->count; i++) train[i] = !(test[i] = s->list[i].session == session);
        status = run_fold(v, KW__AXIS_OUT, train, test, err);
    }
    memset(train, 0, s->count * sizeof *train);
    mark_shortest(s, train);
    for (size_t i = 0; i < s->count; i++) test[i] = !train[i];
    return status ? status : run_fold(v, KW__SIX_SHORTEST, train, test, err);
}

/* ---- Scores -------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double kw__median(double *values, size_t count)
{
    if (!count) return NAN;
    qsort(values, count, sizeof *values, compare);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* Of a quantity, log of measured over predicted; NaN when it was not measured or its split has no estimate.
 */
static double log_residual(const struct kw__sample *row, const struct kw__estimate *e, int quantity)
{
    double time = log(row->latency_s / e->latency_s), energy = log(row->energy_j / e->energy_j);
    return quantity == KW__LATENCY ? time : quantity == KW__ENERGY ? energy : energy - time;
}

/* Coverage and half-width over the samples of a session (-1: all); NaN when a row that is there has no
 * interval. `widths` has room for all of them. */
static void score_intervals(const struct kw__samples *s, const struct kw__estimate *estimates, int session,
                            int quantity, double *widths, double *coverage, double *half_width)
{
    size_t count = 0, covered = 0;
    *coverage = *half_width = NAN;
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *row = &s->list[i];
        if ((session >= 0 && row->session != session) || isnan(estimates[i].latency_s)) continue;
        if (quantity != KW__LATENCY && isnan(row->energy_j)) continue;
        double sd = estimates[i].sd[quantity], off = log_residual(row, &estimates[i], quantity);
        if (isnan(sd) || isnan(off)) return;
        covered += fabs(off) <= KW__QUANTILE_90 * sd;
        widths[count++] = kw__half_width(sd);
    }
    if (count) *coverage = (double)covered / (double)count;
    *half_width = kw__median(widths, count);
}

static void fill_levels(struct kw__validation *v)
{
    const struct kw__samples *s = v->samples;
    for (int session = 0; session < s->num_sessions; session++)
        for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
            double residual = 0, sd = 0;
            for (size_t i = 0; i < s->count; i++) {
                const struct kw__estimate *e = &v->estimates[KW__AXIS_OUT][KW__KERNEL][i];
                double off = log_residual(&s->list[i], e, q);
                if (s->list[i].session != session || isnan(off)) continue;
                residual += off;
                sd += e->sd[q];
            }
            v->levels[session][q] = sd > 0 ? residual / sd : NAN;
        }
}

static void score(const struct kw__samples *s, const struct kw__estimate *estimates, int session,
                  double *widths, struct kw__score *out)
{
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) out->errors[q] = kw__errors_begin();
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        const struct kw__estimate *e = &estimates[i];
        if ((session >= 0 && sample->session != session) || isnan(e->latency_s)) continue;
        kw__errors_add(&out->errors[KW__LATENCY], e->latency_s, sample->latency_s);
        kw__errors_add(&out->errors[KW__ENERGY], e->energy_j, sample->energy_j);
        kw__errors_add(&out->errors[KW__POWER], e->energy_j / e->latency_s,
                       sample->energy_j / sample->latency_s);
    }
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) kw__errors_end(&out->errors[q]);
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        score_intervals(s, estimates, session, q, widths, &out->coverage[q], &out->half_width[q]);
}

static kw_status fill_scores(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples;
    size_t most = (size_t)KW__NUM_SPLITS * KW__NUM_RUNGS * (size_t)(s->num_sessions + 1);
    v->scores = kw__arena_alloc(&v->arena, most, sizeof *v->scores);
    double *widths = kw__arena_alloc(&v->arena, s->count, sizeof *widths);
    if (v->arena.failed) return kw__fail_memory(err);
    for (int split = 0; split < KW__NUM_SPLITS; split++)
        for (int session = 0; session <= s->num_sessions; session++)
            for (int rung = 0; rung < KW__NUM_RUNGS; rung++) {
                bool all = session == s->num_sessions;
                struct kw__score *to = &v->scores[v->num_scores];
                score(s, v->estimates[split][rung], all ? -1 : session, widths, to);
                to->split = (enum kw__split)split;
                to->rung = (enum kw__rung)rung;
                to->sweep = all ? NULL : s->sessions[session];
                if (to->errors[KW__LATENCY].count) v->num_scores++;
            }
    fill_levels(v);
    return KW_OK;
}

const struct kw__score *kw__score_of(const struct kw__validation *validation, enum kw__split split,
                                     enum kw__rung rung, const char *sweep)
{
    for (size_t i = 0; i < validation->num_scores; i++) {
        const struct kw__score *score = &validation->scores[i];
        if (score->split != split || score->rung != rung || !score->sweep != !sweep) continue;
        if (!sweep || strcmp(score->sweep, sweep) == 0) return score;
    }
    return NULL;
}

static void put(bool *bad, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) *bad = true;
}

static void put_number(bool *bad, json_t *object, const char *quantity, const char *figure, double value)
{
    char key[40];
    snprintf(key, sizeof key, "%s_%s", quantity, figure);
    put(bad, object, key, isnan(value) ? json_null() : json_real(round(value * 1e5) / 1e5));
}

static json_t *score_json(bool *bad, const struct kw__score *s)
{
    static const char *const names[KW__NUM_QUANTITIES] = {"latency", "energy", "power"};
    json_t *out = json_object();
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        put_number(bad, out, names[q], "mean", s->errors[q].mean);
        put_number(bad, out, names[q], "largest", s->errors[q].largest);
        put_number(bad, out, names[q], "coverage", s->coverage[q]);
        put_number(bad, out, names[q], "half_width", s->half_width[q]);
    }
    return out;
}

kw_status kw__validation_held_out(const struct kw__validation *validation, json_t **out, kw_error *err)
{
    bool bad = false;
    json_t *root = json_object();
    for (int split = KW__IN_SAMPLE; split < KW__NUM_SPLITS; split++) {
        json_t *each = json_object();
        for (size_t i = 0; i < validation->num_scores; i++) {
            const struct kw__score *s = &validation->scores[i];
            if (s->split != (enum kw__split)split || s->rung != KW__KERNEL) continue;
            put(&bad, each, s->sweep ? s->sweep : "all", score_json(&bad, s));
        }
        put(&bad, root, kw__split_name((enum kw__split)split), each);
    }
    if (bad) {
        json_decref(root);
        return kw__fail_memory(err);
    }
    *out = root;
    return KW_OK;
}

/* ---- Running ------------------------------------------------------------------------------------- */

static kw_status validate_sweeps(const kw_catalog *catalog, const char *priors, struct kw__validation *v,
                                 kw_error *err)
{
    v->priors_path = priors
                         ? kw__arena_printf(&v->arena, "%s%s", strchr(priors, '/') ? "" : "./", priors)
                         : kw__arena_printf(&v->arena, "%s/calibrations/priors/diffusers-0.34@h100-sxm.json",
                                            catalog->folder);
    if (!v->priors_path) return kw__fail_memory(err);
    kw_status status = kw__calibration_open(catalog, v->priors_path, &v->priors, err);
    if (!status) status = kw__stack_open(catalog, v->priors->stack, &v->stack, err);
    if (!status) status = kw_hardware_open(catalog, v->priors->hardware, &v->hardware, err);
    if (!status) status = kw__dataset_open(catalog, "delavande2025_wan_sweeps", &v->sweeps, err);
    if (!status) status = kw__dataset_open(catalog, "delavande2025_models", &v->models, err);
    if (!status)
        status = kw__samples_new(catalog, v->sweeps, v->stack, v->priors, v->hardware, &v->samples, err);
    for (size_t i = 0; !status && i < v->samples->count; i++)
        if (v->samples->list[i].session < 0)
            status = kw__fail(err, KW_ERROR_FORMAT, "%s:%d: sweep is empty; name the session of the row",
                              v->sweeps->path, v->samples->list[i].row->line);
    if (status) return status;
    size_t count = v->samples->count;
    struct kw__estimate *room =
        kw__arena_alloc(&v->arena, count * KW__NUM_SPLITS * KW__NUM_RUNGS, sizeof *room);
    if (!room) return kw__fail_memory(err);
    for (size_t i = 0; i < count * KW__NUM_SPLITS * KW__NUM_RUNGS; i++)
        room[i] = (struct kw__estimate){NAN, NAN, {NAN, NAN, NAN}};
    for (int split = 0; split < KW__NUM_SPLITS; split++)
        for (int rung = 0; rung < KW__NUM_RUNGS; rung++, room += count) v->estimates[split][rung] = room;
    (void)((status = run_splits(v, err)) || (status = fill_scores(v, err)) ||
           (status = kw__validate_models(catalog, v, err)) || (status = kw__validate_repeats(v, err)));
    return status;
}

kw_status kw__validate(const kw_catalog *catalog, const char *priors, unsigned parts,
                       struct kw__validation **out, kw_error *err)
{
    struct kw__validation *v = calloc(1, sizeof *v);
    if (!v) return kw__fail_memory(err);
    kw__arena_init(&v->arena);
    kw_status status = KW_OK;
    if (parts & KW__VALIDATE_SWEEPS) status = validate_sweeps(catalog, priors, v, err);
    if (!status && (parts & KW__VALIDATE_H200)) status = kw__validate_h200(catalog, v, err);
    if (status) {
        kw__validation_free(v);
        return status;
    }
    kw__validation_judge(v, parts);
    *out = v;
    return KW_OK;
}

void kw__validation_free(struct kw__validation *validation)
{
    if (!validation) return;
    kw__samples_free(validation->samples);
    kw__samples_free(validation->model_samples);
    kw__samples_free(validation->h200_samples);
    kw__dataset_close(validation->sweeps);
    kw__dataset_close(validation->models);
    kw__dataset_close(validation->micro);
    kw__stack_close(validation->stack);
    kw__stack_close(validation->h200_stack);
    kw_hardware_close(validation->hardware);
    kw_hardware_close(validation->h200);
    kw__calibration_close(validation->priors);
    kw__calibration_close(validation->h200_priors);
    kw__arena_free(&validation->arena);
    free(validation);
}
