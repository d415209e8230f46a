#include "predict/validate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/paper.h"

/* ---- Names and errors ---------------------------------------------------------------------------------- */

const char *kw__split_name(const struct kw__validation *v, enum kw__split split)
{
    static const char *const names[KW__NUM_SPLITS] = {"as-published", "as-predicted", "in-sample",
                                                      "group-out",    "shape-out",    "session-out",
                                                      "model-out",    "few-runs",     "zero-rows"};
    if (split == KW__FEW_RUNS && v->options.few_name) return v->options.few_name;
    return split == KW__SESSION_OUT && v->options.sweeps ? "axis-out" : names[split];
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

double kw__larger(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
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
    errors->largest = kw__larger(errors->largest, fabs(error));
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

/* ---- Slices ---------------------------------------------------------------------------------------- */

/* A sweep; else the model and, unless a whole pipeline, what was timed. */
static const char *slice_name(struct kw__validation *v, size_t i)
{
    const struct kw__sample *sample = &v->samples->list[i];
    if (v->options.sweeps) return sample->row->session;
    const char *what = sample->row->what, *model = sample->row->model;
    if (!what || strcmp(what, "pipeline") == 0) return model;
    return kw__arena_printf(&v->arena, "%s %s", model, what);
}

static kw_status slice(struct kw__validation *v, kw_error *err)
{
    size_t count = v->samples->count, capacity = 0;
    v->slice_of = kw__arena_alloc(&v->arena, count, sizeof *v->slice_of);
    for (size_t i = 0; v->slice_of && i < count; i++) {
        const char *name = slice_name(v, i);
        int k = 0;
        if (!name) return kw__fail_memory(err);
        while (k < v->num_slices && strcmp(v->slices[k], name) != 0) k++;
        v->slice_of[i] = k;
        if (k < v->num_slices) continue;
        const char **slices =
            kw__arena_grow(&v->arena, v->slices, (size_t)k, &capacity, sizeof(const char *));
        if (!slices) return kw__fail_memory(err);
        v->slices = slices;
        slices[v->num_slices++] = name;
    }
    if (v->num_slices == 1 && !v->options.sweeps) v->num_slices = 0;
    return v->slice_of ? KW_OK : kw__fail_memory(err);
}

/* ---- Folds --------------------------------------------------------------------------------------- */

struct kw__estimate kw__proportional_estimate(const struct kw__samples *s, const struct kw__sample *sample,
                                              bool paper, double flop_per_s, const struct kw__proportional *p)
{
    double latency_s = kw__sample_flop(s, sample, paper) / flop_per_s / p->efficiency;
    return (struct kw__estimate){latency_s, latency_s * p->power_w, {p->time_sd, p->energy_sd, NAN}};
}

static const struct kw__proportional published = {KW__PAPER_MU, KW__PAPER_POWER_W, NAN, NAN};

/* Fits every rung to the wholes of `train` and predicts those of `test`, with their parts. */
static kw_status run_fold(struct kw__validation *v, enum kw__split split, const bool *train, const bool *test,
                          kw_error *err)
{
    const struct kw__samples *s = v->samples;
    struct kw__proportional refitted, flops;
    struct kw__kernel_fit fit;
    double peak = kw_hardware_get(s->hardware, "bf16_flop_per_s");
    kw_status status = kw__proportional_fit(s, train, true, KW__PAPER_FLOP_PER_S, &refitted, err);
    if (!status) status = kw__proportional_fit(s, train, false, peak, &flops, err);
    if (!status) status = kw__kernel_fit(s, train, &fit, err);
    refitted.time_sd = refitted.energy_sd = NAN; /* the closed form states no interval */
    for (size_t i = 0; !status && i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        struct kw__estimate *const *to = v->estimates[split];
        if (!test[sample->whole < 0 ? i : (size_t)sample->whole]) continue;
        to[KW__PAPER][i] = kw__proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &published);
        to[KW__PAPER_REFITTED][i] =
            kw__proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &refitted);
        to[KW__FLOPS][i] = kw__proportional_estimate(s, sample, false, peak, &flops);
        status = kw__kernel_estimate(s, &fit, sample, &to[KW__KERNEL][i], err);
        if (!status && !isfinite(to[KW__KERNEL][i].latency_s))
            status = kw__fail(err, KW_ERROR_FORMAT, "%s:%d: the fit gives no latency for this row",
                              s->dataset->path, sample->row->line);
    }
    if (!status && split == KW__IN_SAMPLE) {
        v->fit = fit;
        v->refitted = refitted;
        v->flops = flops;
    }
    return status;
}

/* `of`: what two wholes have in common that are left out together. */
static kw_status leave_out(struct kw__validation *v, enum kw__split split, const int *of, int count,
                           bool *train, bool *test, kw_error *err)
{
    const struct kw__samples *s = v->samples;
    kw_status status = KW_OK;
    for (int k = 0; !status && count > 1 && k < count; k++) {
        for (size_t i = 0; i < s->count; i++) train[i] = !(test[i] = of[i] == k);
        status = run_fold(v, split, train, test, err);
    }
    return status;
}

/* Numbers the samples' models; returns how many there are. */
static int number_models(const struct kw__samples *s, int *of)
{
    int count = 0;
    for (size_t i = 0; i < s->count; i++) { /* samples are by model */
        const char *model = s->groups[s->list[i].group].model;
        if (i == 0 || strcmp(model, s->groups[s->list[i - 1].group].model) != 0) count++;
        of[i] = count - 1;
    }
    return count;
}

/* Both hold the rows of one data set in one order. */
static kw_status run_predicted(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *p = v->options.predicted;
    struct kw__kernel_fit stored;
    kw_status status = KW_OK;
    if (!p || p->count != v->samples->count) return KW_OK;
    kw__kernel_fit_stored(p->priors, &stored);
    for (size_t i = 0; !status && i < p->count; i++)
        status =
            kw__kernel_estimate(p, &stored, &p->list[i], &v->estimates[KW__AS_PREDICTED][KW__KERNEL][i], err);
    return status;
}

static kw_status run_splits(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples;
    bool *marks = kw__arena_alloc(&v->arena, 3 * s->count, sizeof *marks);
    int *of = kw__arena_alloc(&v->arena, 3 * s->count, sizeof *of);
    if (v->arena.failed) return kw__fail_memory(err);
    bool *train = marks, *test = train + s->count, *none = test + s->count;
    int *shape = of + s->count, *session = shape + s->count;
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        if (v->options.published && v->options.published[i])
            v->estimates[KW__AS_PUBLISHED][KW__PAPER][i] =
                kw__proportional_estimate(s, sample, true, KW__PAPER_FLOP_PER_S, &published);
        train[i] = true;
        of[i] = sample->group;
        shape[i] = sample->shape;
        session[i] = sample->session;
    }
    kw_status status = run_predicted(v, err);
    if (!status) status = run_fold(v, KW__ZERO_ROWS, none, train, err);
    if (!status) status = run_fold(v, KW__IN_SAMPLE, train, train, err);
    if (!status) status = leave_out(v, KW__GROUP_OUT, of, (int)s->num_groups, train, test, err);
    if (!status) status = leave_out(v, KW__SHAPE_OUT, shape, s->num_shapes, train, test, err);
    if (!status) status = leave_out(v, KW__SESSION_OUT, session, s->num_sessions, train, test, err);
    int models = number_models(s, of);
    if (!status) status = leave_out(v, KW__MODEL_OUT, of, models, train, test, err);
    if (status || !v->options.few) return status;
    for (size_t i = 0; i < s->count; i++) test[i] = !v->options.few[i];
    return run_fold(v, KW__FEW_RUNS, v->options.few, test, err);
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

/* Whether a score is over a sample; slice -1: over all wholes. */
static bool is_in(const struct kw__validation *v, size_t i, int slice)
{
    return slice < 0 ? v->samples->list[i].whole < 0 : v->slice_of[i] == slice;
}

/* Coverage and half-width; NaN when a row that is there has no interval. `widths` has room for all. */
static void score_intervals(const struct kw__validation *v, const struct kw__estimate *estimates, int slice,
                            int quantity, double *widths, double *coverage, double *half_width)
{
    const struct kw__samples *s = v->samples;
    size_t count = 0, covered = 0;
    *coverage = *half_width = NAN;
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *row = &s->list[i];
        if (!is_in(v, i, slice) || isnan(estimates[i].latency_s)) continue;
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
                const struct kw__estimate *e = &v->estimates[KW__SESSION_OUT][KW__KERNEL][i];
                double off = log_residual(&s->list[i], e, q);
                if (s->list[i].session != session || s->list[i].whole >= 0 || isnan(off)) continue;
                residual += off;
                sd += e->sd[q];
            }
            v->levels[session][q] = sd > 0 ? residual / sd : NAN;
        }
}

static void score(const struct kw__validation *v, const struct kw__estimate *estimates, int slice,
                  double *widths, struct kw__score *out)
{
    const struct kw__samples *s = v->samples;
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) out->errors[q] = kw__errors_begin();
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        const struct kw__estimate *e = &estimates[i];
        if (!is_in(v, i, slice) || isnan(e->latency_s)) continue;
        kw__errors_add(&out->errors[KW__LATENCY], e->latency_s, sample->latency_s);
        kw__errors_add(&out->errors[KW__ENERGY], e->energy_j, sample->energy_j);
        kw__errors_add(&out->errors[KW__POWER], e->energy_j / e->latency_s,
                       sample->energy_j / sample->latency_s);
    }
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) kw__errors_end(&out->errors[q]);
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        score_intervals(v, estimates, slice, q, widths, &out->coverage[q], &out->half_width[q]);
}

static kw_status fill_scores(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples;
    size_t most = (size_t)KW__NUM_SPLITS * KW__NUM_RUNGS * (size_t)(v->num_slices + 1);
    v->scores = kw__arena_alloc(&v->arena, most, sizeof *v->scores);
    double *widths = kw__arena_alloc(&v->arena, s->count, sizeof *widths);
    if (v->arena.failed) return kw__fail_memory(err);
    for (int split = 0; split < KW__NUM_SPLITS; split++)
        for (int slice = 0; slice <= v->num_slices; slice++)
            for (int rung = 0; rung < KW__NUM_RUNGS; rung++) {
                bool all = slice == v->num_slices;
                struct kw__score *to = &v->scores[v->num_scores];
                score(v, v->estimates[split][rung], all ? -1 : slice, widths, to);
                to->split = (enum kw__split)split;
                to->rung = (enum kw__rung)rung;
                to->slice = all ? NULL : v->slices[slice];
                if (to->errors[KW__LATENCY].count) v->num_scores++;
            }
    fill_levels(v);
    return KW_OK;
}

const struct kw__score *kw__score_of(const struct kw__validation *validation, enum kw__split split,
                                     enum kw__rung rung, const char *slice)
{
    for (size_t i = 0; i < validation->num_scores; i++) {
        const struct kw__score *score = &validation->scores[i];
        if (score->split != split || score->rung != rung || !score->slice != !slice) continue;
        if (!slice || strcmp(score->slice, slice) == 0) return score;
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

kw_status kw__validation_held_out(const struct kw__validation *v, enum kw__split only, json_t **out,
                                  kw_error *err)
{
    bool bad = false;
    json_t *root = json_object();
    for (int split = KW__IN_SAMPLE; split < KW__NUM_SPLITS; split++) {
        if (only != KW__NUM_SPLITS && split != (int)only) continue;
        json_t *each = json_object();
        for (size_t i = 0; i < v->num_scores; i++) {
            const struct kw__score *s = &v->scores[i];
            if (s->split != (enum kw__split)split || s->rung != KW__KERNEL) continue;
            put(&bad, each, s->slice ? s->slice : "all", score_json(&bad, s));
        }
        if (json_object_size(each))
            put(&bad, root, kw__split_name(v, (enum kw__split)split), each);
        else
            json_decref(each);
    }
    if (bad) {
        json_decref(root);
        return kw__fail_memory(err);
    }
    *out = root;
    return KW_OK;
}

/* ---- Repeatability ------------------------------------------------------------------------------- */

struct spread {
    int count, energies; /* runs, and those that have an energy */
    double least_s, most_s, sum_s, least_j, most_j, sum_j;
};

static void widen(struct spread *spread, double latency_s, double energy_j)
{
    spread->least_s = spread->count ? fmin(spread->least_s, latency_s) : latency_s;
    spread->most_s = spread->count ? fmax(spread->most_s, latency_s) : latency_s;
    spread->sum_s += latency_s;
    spread->count++;
    if (isnan(energy_j)) return;
    spread->least_j = spread->energies ? fmin(spread->least_j, energy_j) : energy_j;
    spread->most_j = spread->energies ? fmax(spread->most_j, energy_j) : energy_j;
    spread->sum_j += energy_j;
    spread->energies++;
}

static void add_repeat(struct kw__validation *v, const char *session, const struct kw__demand *demand,
                       const struct spread *spread)
{
    if (spread->count < 2) return;
    v->repeats[v->num_repeats++] = (struct kw__repeat){
        .session = session,
        .model = demand->model,
        .request = demand->request,
        .count = spread->count,
        .least_s = spread->least_s,
        .largest_s = spread->most_s,
        .latency_spread = (spread->most_s - spread->least_s) / (spread->sum_s / spread->count),
        .energy_spread = spread->energies < 2
                             ? NAN
                             : (spread->most_j - spread->least_j) / (spread->sum_j / spread->energies),
    };
}

/* Rows of the request in a session; each that is of none is a session by itself. */
static void spread_group(struct kw__validation *v, int group, struct spread *between)
{
    const struct kw__samples *s = v->samples;
    const struct kw__demand *demand = &s->groups[group];
    for (int session = -1; session < s->num_sessions; session++) {
        struct spread within = {0};
        for (size_t i = 0; i < s->count; i++) {
            const struct kw__sample *row = &s->list[i];
            if (row->group != group || row->session != session || row->whole >= 0) continue;
            widen(session < 0 ? between : &within, row->latency_s, row->energy_j);
        }
        if (session < 0) continue;
        add_repeat(v, s->sessions[session], demand, &within);
        if (within.count)
            widen(between, within.sum_s / within.count,
                  within.energies ? within.sum_j / within.energies : NAN);
    }
}

static kw_status fill_repeats(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples, *m = v->options.others;
    v->repeats =
        kw__arena_alloc(&v->arena, s->num_groups * (size_t)(s->num_sessions + 1), sizeof *v->repeats);
    if (!v->repeats) return kw__fail_memory(err);
    for (size_t g = 0; g < s->num_groups; g++) {
        const struct kw__demand *demand = &s->groups[g];
        struct spread between = {0};
        spread_group(v, (int)g, &between);
        for (size_t i = 0; m && i < m->count; i++)
            if (kw__same_run(&m->groups[m->list[i].group].request, &demand->request) &&
                strcmp(m->list[i].row->model, demand->model) == 0)
                widen(&between, m->list[i].latency_s, m->list[i].energy_j);
        add_repeat(v, NULL, demand, &between);
    }
    return KW_OK;
}

/* ---- Running ------------------------------------------------------------------------------------- */

static kw_status validate(struct kw__validation *v, kw_error *err)
{
    size_t count = v->samples->count;
    struct kw__estimate *room =
        kw__arena_alloc(&v->arena, count * KW__NUM_SPLITS * KW__NUM_RUNGS, sizeof *room);
    if (!room) return kw__fail_memory(err);
    for (size_t i = 0; i < count * KW__NUM_SPLITS * KW__NUM_RUNGS; i++)
        room[i] = (struct kw__estimate){NAN, NAN, {NAN, NAN, NAN}};
    for (int split = 0; split < KW__NUM_SPLITS; split++)
        for (int rung = 0; rung < KW__NUM_RUNGS; rung++, room += count) v->estimates[split][rung] = room;
    kw_status status = slice(v, err);
    (void)(status || (status = run_splits(v, err)) || (status = fill_scores(v, err)) ||
           (status = fill_repeats(v, err)));
    return status;
}

kw_status kw__validate(const struct kw__samples *samples, const struct kw__validate_options *options,
                       struct kw__validation **out, kw_error *err)
{
    struct kw__validation *v = calloc(1, sizeof *v);
    if (!v) return kw__fail_memory(err);
    kw__arena_init(&v->arena);
    v->samples = samples;
    v->options = *options;
    kw_status status = validate(v, err);
    if (status)
        kw__validation_free(v);
    else
        *out = v;
    return status;
}

void kw__validation_free(struct kw__validation *validation)
{
    if (!validation) return;
    kw__arena_free(&validation->arena);
    free(validation);
}
