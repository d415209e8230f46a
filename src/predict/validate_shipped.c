#include "predict/validate_shipped.h"

#include <math.h>
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
    {"kernel, axis-out, each sweep: latency", PROJECT, MEAN, KW__SESSION_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__LATENCY, 0, .03},
    {"kernel, axis-out, each sweep: energy", PROJECT, MEAN, KW__SESSION_OUT, KW__KERNEL, EACH_SWEEP, NULL,
     KW__ENERGY, 0, .03},
    {"kernel, axis-out: largest error of latency", PROJECT, LARGEST, KW__SESSION_OUT, KW__KERNEL, ALL_ROWS,
     NULL, KW__LATENCY, 0, .10},
    {"kernel, axis-out: largest error of energy", PROJECT, LARGEST, KW__SESSION_OUT, KW__KERNEL, ALL_ROWS,
     NULL, KW__ENERGY, 0, .10},
    {"kernel, six shortest rows: latency", PROJECT, MEAN, KW__FEW_RUNS, KW__KERNEL, ALL_ROWS, NULL,
     KW__LATENCY, 0, .04},
    {"kernel, six shortest rows: energy", PROJECT, MEAN, KW__FEW_RUNS, KW__KERNEL, ALL_ROWS, NULL, KW__ENERGY,
     0, .06},
    {"kernel, axis-out, 90 % intervals: latency rows covered", PROJECT, COVERAGE, KW__SESSION_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__LATENCY, .85, .97},
    {"kernel, axis-out, 90 % intervals: energy rows covered", PROJECT, COVERAGE, KW__SESSION_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__ENERGY, .85, .97},
    {"kernel, axis-out, 90 % intervals: median half-width", PROJECT, HALF_WIDTH, KW__SESSION_OUT, KW__KERNEL,
     ALL_ROWS, NULL, KW__ENERGY, 0, .06},
    {"kernel, WAN2.1-14B unseen: latency and energy", PROJECT, HELD_OUT_14B, KW__NUM_SPLITS, KW__KERNEL,
     ALL_ROWS, NULL, KW__LATENCY, 0, .10},
    {"kernel, H200 unseen: forwards and pipeline", PROJECT, H200_TIMES, KW__NUM_SPLITS, KW__KERNEL, ALL_ROWS,
     NULL, KW__LATENCY, 0, .08},
};

static double figure_of(const struct kw__score *score, enum statistic statistic, int quantity)
{
    if (!score) return NAN;
    switch (statistic) {
    case MEAN: return score->errors[quantity].mean;
    case LARGEST: return score->errors[quantity].largest;
    case COVERAGE: return score->coverage[quantity];
    case HALF_WIDTH: return kw__larger(score->half_width[KW__LATENCY], score->half_width[KW__ENERGY]);
    default: return NAN;
    }
}

static double worst_of_14b(const struct kw__shipped *v)
{
    double worst = 0;
    bool any = false;
    for (size_t i = 0; i < v->num_held_out; i++) {
        const struct kw__row *row = v->held_out[i].row;
        const struct kw__estimate *e = &v->held_out[i].estimates[KW__KERNEL];
        if (strcmp(row->model, "wan2.1-t2v-14b") != 0) continue;
        worst = kw__larger(worst, kw__larger(fabs(e->latency_s / row->latency_s - 1),
                                             fabs(e->energy_j / row->energy_wh[KW_GPU] / 3600 - 1)));
        any = true;
    }
    return any ? worst : NAN;
}

static double mean_of_h200(const struct kw__shipped *v)
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
static double value_of(const struct kw__shipped *v, int target)
{
    const enum statistic statistic = wanted[target].statistic;
    const enum kw__split split = wanted[target].split;
    const enum kw__rung rung = wanted[target].rung;
    int quantity = wanted[target].quantity;
    if (statistic == HELD_OUT_14B) return worst_of_14b(v);
    if (statistic == H200_TIMES) return mean_of_h200(v);
    if (wanted[target].scope != EACH_SWEEP)
        return figure_of(kw__score_of(v->ladder, split, rung, wanted[target].sweep), statistic, quantity);
    double worst = 0;
    for (int s = 0; s < v->ladder->num_slices; s++)
        worst = kw__larger(worst, figure_of(kw__score_of(v->ladder, split, rung, v->ladder->slices[s]),
                                            statistic, quantity));
    return worst;
}

void kw__shipped_judge(struct kw__shipped *v, unsigned parts)
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

/* ---- The model table ---------------------------------------------------------------------------------- */

static kw_status hold_models(struct kw__shipped *v, kw_error *err)
{
    const struct kw__samples *s = v->model_samples;
    const struct kw__proportional published = {KW__PAPER_MU, KW__PAPER_POWER_W, NAN, NAN};
    const struct kw__validation *ladder = v->ladder;
    double peak = kw_hardware_get(v->hardware, "bf16_flop_per_s");
    kw_status status = KW_OK;
    v->held_out = kw__arena_alloc(&v->arena, s->count, sizeof *v->held_out);
    if (!v->held_out) return kw__fail_memory(err);
    /* these rows are of no sweep, and the fit's terms follow the sweeps' number of sessions */
    for (size_t i = 0; !status && i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        struct kw__held_out *held = &v->held_out[v->num_held_out++];
        struct kw__estimate *e = held->estimates;
        held->row = sample->row;
        e[KW__PAPER] = kw__proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &published);
        e[KW__PAPER_REFITTED] =
            kw__proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &ladder->refitted);
        e[KW__FLOPS] = kw__proportional_estimate(s, sample, false, peak, &ladder->flops);
        status = kw__kernel_estimate(s, &ladder->fit, sample, &e[KW__KERNEL], err);
    }
    return status;
}

/* ---- The sweeps ------------------------------------------------------------------------------------ */

/* The rows that the paper's authors scored: every resolution, and multiples of 4 of frames and steps. */
static bool is_published_score(const struct kw__row *row)
{
    if (strcmp(row->sweep, "frames") == 0) return row->frames % 4 == 0;
    if (strcmp(row->sweep, "steps") == 0) return row->steps % 4 == 0;
    return true;
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

/* All rows are fitted, so all must be such that they can be. */
static kw_status check_rows(const struct kw__shipped *v, kw_error *err)
{
    for (size_t i = 0; i < v->sweeps->num_rows; i++)
        if (!v->sweeps->rows[i].session)
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: sweep is empty; name the session of the row",
                            v->sweeps->path, v->sweeps->rows[i].line);
    return KW_OK;
}

static kw_status validate_sweeps(const kw_catalog *catalog, const char *priors, struct kw__shipped *v,
                                 kw_error *err)
{
    v->priors_path = priors
                         ? kw__arena_printf(&v->arena, "%s%s", strchr(priors, '/') ? "" : "./", priors)
                         : kw__arena_printf(&v->arena, "%s/calibrations/priors/diffusers-0.34@h100-sxm.json",
                                            catalog->folder);
    if (!v->priors_path) return kw__fail_memory(err);
    kw_status status;
    (void)((status = kw__calibration_open(catalog, v->priors_path, &v->priors, err)) ||
           (status = kw__stack_open(catalog, v->priors->stack, &v->stack, err)) ||
           (status = kw_hardware_open(catalog, v->priors->hardware, &v->hardware, err)) ||
           (status = kw__dataset_open(catalog, "delavande2025_wan_sweeps", &v->sweeps, err)) ||
           (status = kw__dataset_open(catalog, "delavande2025_models", &v->models, err)) ||
           (status = check_rows(v, err)) ||
           (status =
                kw__samples_new(catalog, v->sweeps, v->stack, v->priors, v->hardware, &v->samples, err)) ||
           (status = kw__samples_new(catalog, v->models, v->stack, v->priors, v->hardware, &v->model_samples,
                                     err)));
    if (status) return status;
    if (v->samples->left_out.count)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: %s", v->sweeps->path, v->samples->left_out.list[0].why);
    bool *marks = kw__arena_alloc(&v->arena, 2 * v->samples->count, sizeof *marks);
    if (!marks) return kw__fail_memory(err);
    bool *published = marks + v->samples->count;
    mark_shortest(v->samples, marks);
    for (size_t i = 0; i < v->samples->count; i++) published[i] = is_published_score(v->samples->list[i].row);
    const struct kw__validate_options options = {.few = marks,
                                                 .few_name = "six-shortest",
                                                 .published = published,
                                                 .sweeps = true,
                                                 .others = v->model_samples};
    status = kw__validate(v->samples, &options, &v->ladder, err);
    return status ? status : hold_models(v, err);
}

/* ---- The H200 ------------------------------------------------------------------------------------ */

/* At the priors of the calibration, before the rows of pipelines that it is fitted to. */
static kw_status validate_h200(const kw_catalog *catalog, struct kw__shipped *v, kw_error *err)
{
    static const char stack[] = "diffusers-0.40";
    struct kw__kernel_fit stored;
    kw_status status;
    (void)((status = kw_hardware_open(catalog, "h200", &v->h200, err)) ||
           (status = kw__priors_open(catalog, stack, v->h200, NULL, &v->h200_priors, err)) ||
           (status = kw__stack_open(catalog, stack, &v->h200_stack, err)) ||
           (status = kw__dataset_open(catalog, "h200_diffusers040", &v->micro, err)) ||
           (status = kw__samples_new(catalog, v->micro, v->h200_stack, v->h200_priors.calibration, v->h200,
                                     &v->h200_samples, err)));
    if (status) return status;
    const struct kw__samples *s = v->h200_samples;
    v->zero_rows = kw__arena_alloc(&v->arena, s->count, sizeof *v->zero_rows);
    if (!v->zero_rows) return kw__fail_memory(err);
    kw__kernel_fit_stored(v->h200_priors.calibration, &stored);
    for (size_t i = 0; !status && i < s->count; i++) {
        struct kw__held_out *row = &v->zero_rows[v->num_zero_rows++];
        row->row = s->list[i].row;
        if (!row->row->what)
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: what is empty; name the part that was timed",
                            v->micro->path, row->row->line);
        for (int rung = 0; rung < KW__NUM_RUNGS; rung++)
            row->estimates[rung] = (struct kw__estimate){NAN, NAN, {NAN, NAN, NAN}};
        status = kw__kernel_estimate(s, &stored, &s->list[i], &row->estimates[KW__KERNEL], err);
    }
    return status;
}

/* ---- Both ------------------------------------------------------------------------------------------ */

kw_status kw__validate_shipped(const kw_catalog *catalog, const char *priors, unsigned parts,
                               struct kw__shipped **out, kw_error *err)
{
    struct kw__shipped *v = calloc(1, sizeof *v);
    if (!v) return kw__fail_memory(err);
    kw__arena_init(&v->arena);
    kw_status status = KW_OK;
    if (parts & KW__VALIDATE_SWEEPS) status = validate_sweeps(catalog, priors, v, err);
    if (!status && (parts & KW__VALIDATE_H200)) status = validate_h200(catalog, v, err);
    if (status) {
        kw__shipped_free(v);
        return status;
    }
    kw__shipped_judge(v, parts);
    *out = v;
    return KW_OK;
}

void kw__shipped_free(struct kw__shipped *shipped)
{
    if (!shipped) return;
    kw__validation_free(shipped->ladder);
    kw__samples_free(shipped->samples);
    kw__samples_free(shipped->model_samples);
    kw__samples_free(shipped->h200_samples);
    kw__dataset_close(shipped->sweeps);
    kw__dataset_close(shipped->models);
    kw__dataset_close(shipped->micro);
    kw__stack_close(shipped->stack);
    kw__stack_close(shipped->h200_stack);
    kw_hardware_close(shipped->hardware);
    kw_hardware_close(shipped->h200);
    kw__calibration_close(shipped->priors);
    kw__priors_close(&shipped->h200_priors);
    kw__arena_free(&shipped->arena);
    free(shipped);
}
