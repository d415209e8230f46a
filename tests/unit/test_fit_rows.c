/* Fits of any rows: rows drawn from known parameters give them back, and are predicted as often as the
 * intervals say when they are left out; no fit sees what it is scored on; runs of the store, priors of a pair
 * and the choice of runs are what they should be. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/random.h"
#include "predict/priors.h"
#include "predict/select.h"
#include "predict/validate.h"
#include "store/measured.h"
#include "support/folder.h"

static kw_catalog *catalog;
static kw_hardware *h200;
static struct kw__stack *stack;
static struct kw__priors priors;

static int set_up(void **state)
{
    (void)state;
    kw_error err = {0};
    char none[] = "/nonexistent"; /* the user's own calibrations are not asked */
    setenv("XDG_DATA_HOME", none, 1);
    kw_status status;
    (void)((status = kw_catalog_open(NULL, &catalog, &err)) ||
           (status = kw_hardware_open(catalog, "h200", &h200, &err)) ||
           (status = kw__stack_open(catalog, "diffusers-0.40", &stack, &err)) ||
           (status = kw__priors_open(catalog, "diffusers-0.40", h200, NULL, &priors, &err)));
    if (status) print_error("%s\n", err.message);
    return status != KW_OK;
}

static int tear_down(void **state)
{
    (void)state;
    kw__priors_close(&priors);
    kw__stack_close(stack);
    kw_hardware_close(h200);
    kw_catalog_close(catalog);
    return 0;
}

/* ---- Rows and how they are drawn ----------------------------------------------------------------- */

enum { MOST_ROWS = 400, STAGES = 3 };
static const char *const stage_names[STAGES] = {"text_encode", "denoise", "decode"};
static struct kw__row rows[MOST_ROWS];
static struct kw__dataset set = {.path = "rows", .rows = rows};

static void add_row(const char *model, const char *session, int size, int frames, int steps, bool stages)
{
    static const int widths[] = {256, 512, 832, 1024, 1280, 720}, heights[] = {256, 512, 480, 576, 720, 480};
    struct kw__row row = {.session = session,
                          .model = model,
                          .stack = "diffusers-0.40",
                          .gpu = "h200",
                          .source = "drawn",
                          .width = widths[size],
                          .height = heights[size],
                          .frames = frames,
                          .steps = steps,
                          .batch_size = 1,
                          .prompt_tokens = -1,
                          .negative_tokens = -1,
                          .guidance_scale = 5,
                          .latency_s = 1,
                          .latency_sd_s = NAN,
                          .energy_wh = {1, NAN, NAN},
                          .energy_sd_wh = {NAN, NAN, NAN},
                          .whole = -1,
                          .line = (int)set.num_rows + 1};
    int whole = (int)set.num_rows;
    assert_true(whole + STAGES < MOST_ROWS);
    rows[set.num_rows++] = row;
    for (int s = 0; stages && s < STAGES; s++) {
        row.what = stage_names[s];
        row.whole = whole;
        rows[set.num_rows++] = row;
    }
}

/* Three sessions of two models: sizes, frames and steps, with repeats of one request. */
static struct kw__samples *make_samples(bool stages)
{
    static const char *const small = "wan2.1-t2v-1.3b", *const large = "wan2.1-t2v-14b";
    struct kw__samples *s;
    kw_error err;
    set.num_rows = 0;
    for (int size = 0; size < 5; size++) {
        add_row(small, "sizes", size, 81, 4, stages);
        add_row(small, "sizes", size, 81, 20, stages);
    }
    for (int frames = 5; frames <= 65; frames += 12) add_row(small, "frames", 4, frames, 10, stages);
    for (int k = 0; k < 3; k++) add_row(small, "frames", 2, 81, 4, stages);
    for (int steps = 1; steps <= 16; steps *= 2) add_row(small, "steps", 4, 49, steps, stages);
    add_row(large, "steps", 2, 81, 4, stages);
    add_row(large, "steps", 1, 81, 8, stages);
    if (kw__samples_new(catalog, &set, stack, priors.calibration, h200, &s, &err))
        fail_msg("%s", err.message);
    assert_int_equal(s->left_out.count, 0);
    return s;
}

struct stream {
    uint32_t key[2], counter;
};

static double uniform(struct stream *s)
{
    uint32_t counter[4] = {s->counter++, 0, 0, 0}, out[4];
    kw__philox4x32(counter, s->key, out);
    return (out[0] + 0.5) / 4294967296.0;
}

static double normal(struct stream *s, double sd)
{
    double radius = sqrt(-2 * log(uniform(s)));
    return sd * radius * cos(2 * acos(-1) * uniform(s));
}

/* What is drawn: docs/CALIBRATION.md, "Sessions and noise", with one error of each shape. */
static void draw(struct kw__samples *s, uint32_t seed, double *theta)
{
    struct stream stream = {{seed, 1}, 0};
    double speed[8], power[8], of_time[64], of_power[64];
    kw_error err;
    for (int j = 0; j < priors.calibration->num_parameters; j++)
        theta[j] = normal(&stream, priors.calibration->parameters[j].prior_log_sd);
    for (int k = 0; k < 8; k++) speed[k] = normal(&stream, 0.025), power[k] = normal(&stream, 0.015);
    for (int k = 0; k < 64; k++) of_time[k] = normal(&stream, 0.02), of_power[k] = normal(&stream, 0.015);
    for (size_t i = 0; i < s->count; i++) {
        struct kw__sample *sample = &s->list[i];
        struct kw__sample *whole = sample->whole < 0 ? sample : &s->list[sample->whole];
        double t, e, a = speed[whole->session], b = power[whole->session];
        assert_int_equal(kw__kernel_price(s, sample->group, theta, &t, &e, &err), KW_OK);
        sample->latency_s = t * exp(a - b / 2 + of_time[whole->shape] + normal(&stream, 0.002));
        sample->energy_j = e / t * exp(b + of_power[whole->shape]) * sample->latency_s;
        if (whole == sample) continue;
        if (i == (size_t)(whole - s->list) + 1) whole->latency_s = whole->energy_j = 0;
        whole->latency_s += sample->latency_s;
        whole->energy_j += sample->energy_j;
    }
}

static struct kw__validation *validated(struct kw__samples *s, bool *few)
{
    struct kw__validation *v;
    kw_error err;
    memset(few, 0, s->count);
    if (kw__choose_runs(s, 8, 120, few, &err)) fail_msg("%s", err.message);
    const struct kw__validate_options options = {.few = few, .few_name = "few"};
    if (kw__validate(s, &options, &v, &err)) fail_msg("%s", err.message);
    return v;
}

/* ---- Drawn rows ------------------------------------------------------------------------------------- */

/* How often wholes that are not in `train` are within their 90 % intervals, and by how much they are missed.
 */
struct tally {
    double covered, rows, error, times;
};

static void score(const struct kw__samples *s, const bool *train, struct kw__kernel_fit *fit,
                  struct tally *tally)
{
    kw_error err;
    if (kw__kernel_fit(s, train, fit, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__sample *sample = &s->list[i];
        struct kw__estimate e;
        if (train[i] || sample->whole >= 0) continue;
        assert_int_equal(kw__kernel_estimate(s, fit, sample, &e, &err), KW_OK);
        double time = log(sample->latency_s / e.latency_s), energy = log(sample->energy_j / e.energy_j);
        const double off[KW__NUM_QUANTITIES] = {time, energy, energy - time};
        for (int q = 0; q < KW__NUM_QUANTITIES; q++, tally->rows++)
            tally->covered += fabs(off[q]) <= KW__QUANTILE_90 * e.sd[q];
        tally->error += fabs(expm1(-time));
        tally->times++;
    }
}

/* Slopes are what a small change of each price makes. */
static void expect_slopes(const struct kw__bundles *bundles, const struct kw__prices *prices)
{
    const double step = 1e-6;
    struct kw__slopes slopes;
    const double *latency = (const double *)&slopes.latency, *energy = (const double *)&slopes.energy;
    kw__price_slopes(bundles, prices, &slopes);
    for (size_t k = 0; k < KW__NUM_PRICES; k++) {
        struct kw__prices up = *prices, down = *prices;
        double s[2], j[2];
        if (k == offsetof(struct kw__prices, stretch) / sizeof(double) ||
            k == offsetof(struct kw__prices, num_processors) / sizeof(double) ||
            k == offsetof(struct kw__prices, session_time) / sizeof(double) ||
            k == offsetof(struct kw__prices, session_power) / sizeof(double))
            continue;
        ((double *)&up)[k] *= 1 + step;
        ((double *)&down)[k] *= 1 - step;
        kw__price_total(bundles, &up, &s[0], &j[0]);
        kw__price_total(bundles, &down, &s[1], &j[1]);
        assert_true(fabs(latency[k] - (s[0] - s[1]) / (2 * step)) < 1e-8 * s[0]);
        assert_true(fabs(energy[k] - (j[0] - j[1]) / (2 * step)) < 1e-8 * j[0]);
    }
}

/* Counts the bundles of all requests, and their items. */
static void expect_sums(struct kw__samples *s, const double *theta, size_t *bundles, size_t *items)
{
    *bundles = *items = 0;
    for (size_t g = 0; g < s->num_groups; g++) {
        const struct kw__demand *d = &s->groups[g];
        const struct kw__workload *w = d->workload;
        struct kw__cost_of_item *costs = calloc(w->num_items, sizeof *costs);
        struct kw__prices prices;
        double latency_s = 0, energy_j = 0, total_s, total_j;
        kw_error err;
        assert_non_null(costs);
        assert_int_equal(kw__prices_of(priors.calibration, h200, w, &d->binding, 0, theta, &prices, &err),
                         KW_OK);
        kw__price_items(w, &d->binding, &prices, costs);
        for (size_t i = 0; i < w->num_items; i++) {
            if (d->what && strcmp(d->what, w->stages[w->items[i].stage]) != 0) continue;
            latency_s += costs[i].busy_s + costs[i].gap_s;
            energy_j += costs[i].energy_j;
        }
        free(costs);
        assert_int_equal(kw__kernel_price(s, (int)g, theta, &total_s, &total_j, &err), KW_OK);
        assert_true(fabs(total_s / latency_s - 1) < 1e-12);
        assert_true(fabs(total_j / energy_j - 1) < 1e-12);
        expect_slopes(&d->bundles, &prices);
        *bundles += d->bundles.count;
        *items += w->num_items;
    }
    kw__samples_free(s);
}

/* What fits take for a request or a part of it is the sum over its items, each priced by itself. */
static void test_totals_are_sums(void **state)
{
    (void)state;
    struct stream stream = {{11, 2}, 0};
    double theta[KW__MAX_PARAMETERS];
    size_t bundles, items;
    for (int j = 0; j < priors.calibration->num_parameters; j++) theta[j] = normal(&stream, 0.5);
    expect_sums(make_samples(true), theta, &bundles, &items);
    assert_true(2 * bundles < items);
    /* with norms whose blocks have a group, or a row of few channels, each */
    struct kw__samples *s;
    kw_error err;
    set.num_rows = 0;
    add_row("cogvideox-2b", "sizes", 5, 49, 2, true);
    if (kw__samples_new(catalog, &set, stack, priors.calibration, h200, &s, &err))
        fail_msg("%s", err.message);
    expect_sums(s, theta, &bundles, &items);
    assert_true(bundles > 0 && bundles < items);
}

/* Over many data sets parameters are within their 90 % intervals, and held-out rows within theirs, about that
 * often; 84 to 92 % over 150 of them, by split and quantity. Stages tell more than wholes, of the same draws:
 * their error was 0.86 and 0.90 of the other's over two times 150, so 0.88 with a sd of 0.05 over 40. */
static void test_recovery_and_coverage(void **state)
{
    (void)state;
    enum { DRAWS = 40 };
    struct kw__kernel_fit *fit = malloc(sizeof *fit);
    struct tally few[2] = {{0, 0, 0, 0}};
    for (int stages = 0; stages < 2; stages++) {
        struct kw__samples *s = make_samples(stages);
        bool *train = calloc(s->count, sizeof *train);
        struct tally out = {0}, parameters = {0};
        kw_error err;
        for (uint32_t d = 0; d < DRAWS; d++) {
            double theta[KW__MAX_PARAMETERS] = {0};
            draw(s, d, theta);
            for (int session = 0; session < s->num_sessions; session++) {
                for (size_t i = 0; i < s->count; i++) train[i] = s->list[i].session != session;
                score(s, train, fit, &out);
                for (int j = 0; j < fit->num_parameters; j++, parameters.rows++)
                    parameters.covered +=
                        fabs(fit->x[j] - theta[j]) <= KW__QUANTILE_90 * sqrt(fit->covariance[j][j]);
            }
            memset(train, 0, s->count * sizeof *train);
            assert_int_equal(kw__choose_runs(s, 8, 120, train, &err), KW_OK);
            score(s, train, fit, &few[stages]);
        }
        const struct tally *all[] = {&out, &parameters, &few[stages]};
        for (int k = 0; k < 3; k++) {
            double share = all[k]->covered / all[k]->rows;
            if (!(share > 0.82 && share < 0.96)) fail_msg("%d, stages %d: %.1f %%", k, stages, 100 * share);
        }
        free(train);
        kw__samples_free(s);
    }
    assert_true(few[0].error / few[0].times < 0.025);
    assert_true(few[1].error / few[1].times < 0.98 * (few[0].error / few[0].times));
    free(fit);
}

/* A row that is 50 % off changes the predictions of others, and not its own where it is left out. */
static void test_own_row_is_not_seen(void **state)
{
    (void)state;
    static const enum kw__split splits[] = {KW__GROUP_OUT, KW__SHAPE_OUT, KW__SESSION_OUT,
                                            KW__MODEL_OUT, KW__FEW_RUNS,  KW__ZERO_ROWS};
    struct kw__samples *s = make_samples(true);
    bool *few = calloc(s->count, sizeof *few);
    double theta[KW__MAX_PARAMETERS] = {0};
    draw(s, 1, theta);
    struct kw__validation *before = validated(s, few);
    size_t changed = 0;
    while (few[changed] || s->list[changed].whole >= 0) changed++;
    for (size_t i = 0; i < s->count; i++)
        if (i == changed || s->list[i].whole == (int)changed)
            s->list[i].latency_s *= 1.5, s->list[i].energy_j *= 1.5;
    struct kw__validation *after = validated(s, few);
    for (size_t k = 0; k < sizeof splits / sizeof splits[0]; k++) {
        const struct kw__estimate *a = &before->estimates[splits[k]][KW__KERNEL][changed],
                                  *b = &after->estimates[splits[k]][KW__KERNEL][changed];
        assert_true(a->latency_s > 0 && memcmp(a, b, sizeof *a) == 0);
    }
    size_t other = changed + STAGES + 1; /* of the same shape */
    assert_true(before->estimates[KW__GROUP_OUT][KW__KERNEL][other].latency_s !=
                after->estimates[KW__GROUP_OUT][KW__KERNEL][other].latency_s);
    kw__validation_free(before);
    kw__validation_free(after);
    free(few);
    kw__samples_free(s);
}

/* Rows that each are a session of their own: their noise holds what a session adds, no term is fitted. */
static void test_lone_sessions(void **state)
{
    (void)state;
    struct kw__samples *together = make_samples(false), *alone;
    struct kw__kernel_fit *fit = malloc(2 * sizeof *fit);
    double theta[KW__MAX_PARAMETERS] = {0};
    char names[MOST_ROWS][24];
    kw_error err;
    for (size_t i = 0; i < set.num_rows; i++) {
        snprintf(names[i], sizeof names[i], "s%zu", i);
        rows[i].session = names[i];
    }
    assert_int_equal(kw__samples_new(catalog, &set, stack, priors.calibration, h200, &alone, &err), KW_OK);
    assert_int_equal(together->num_sessions, 3);
    assert_int_equal(alone->num_sessions, 0);
    draw(together, 3, theta);
    for (size_t i = 0; i < alone->count; i++) {
        alone->list[i].latency_s = together->list[i].latency_s;
        alone->list[i].energy_j = together->list[i].energy_j;
    }
    assert_int_equal(kw__kernel_fit(together, NULL, &fit[0], &err), KW_OK);
    assert_int_equal(kw__kernel_fit(alone, NULL, &fit[1], &err), KW_OK);
    struct kw__estimate a, b;
    assert_int_equal(kw__kernel_estimate(together, &fit[0], &together->list[0], &a, &err), KW_OK);
    assert_int_equal(kw__kernel_estimate(alone, &fit[1], &alone->list[0], &b, &err), KW_OK);
    assert_true(b.sd[KW__LATENCY] > 0.025 && b.sd[KW__LATENCY] > a.sd[KW__LATENCY]);
    free(fit);
    kw__samples_free(together);
    kw__samples_free(alone);
}

/* More sessions than a fit has terms for: as many as there are terms have one, the larger first. */
static void test_many_sessions(void **state)
{
    (void)state;
    enum { SESSIONS = KW__MAX_SESSIONS + 6 };
    char names[SESSIONS][24];
    struct kw__samples *s;
    kw_error err;
    bool large = false;
    set.num_rows = 0;
    for (int k = 0; k < SESSIONS; k++) {
        snprintf(names[k], sizeof names[k], "s%03d", k);
        for (int repeat = 0; repeat < (k == SESSIONS - 1 ? 3 : 2); repeat++)
            add_row("wan2.1-t2v-1.3b", names[k], 0, 81, 4, false);
    }
    if (kw__samples_new(catalog, &set, stack, priors.calibration, h200, &s, &err))
        fail_msg("%s", err.message);
    assert_int_equal(s->num_sessions, KW__MAX_SESSIONS);
    for (int k = 0; k < s->num_sessions; k++)
        large = large || strcmp(s->sessions[k], names[SESSIONS - 1]) == 0;
    assert_true(large && s->list[0].session == 0 && s->list[1].session == 0);
    kw__samples_free(s);
}

/* ---- Which runs ------------------------------------------------------------------------------------- */

/* What was measured decides on nothing but when the time is spent. */
static void test_choice(void **state)
{
    (void)state;
    struct kw__samples *s = make_samples(true);
    bool *first = calloc(s->count, sizeof *first), *second = calloc(s->count, sizeof *second);
    double theta[KW__MAX_PARAMETERS] = {0}, spent = 0;
    int count = 0;
    kw_error err;
    draw(s, 5, theta);
    assert_int_equal(kw__choose_runs(s, 8, 1e9, first, &err), KW_OK);
    for (size_t i = 0; i < s->count; i++)
        s->list[i].latency_s *= 1 + 0.3 * (double)(i % 7), s->list[i].energy_j *= 2;
    assert_int_equal(kw__choose_runs(s, 8, 1e9, second, &err), KW_OK);
    assert_memory_equal(first, second, s->count);
    for (size_t i = 0; i < s->count; i++) {
        count += first[i];
        assert_false(first[i] && s->list[i].whole >= 0);
        for (size_t k = 0; k < i; k++)
            assert_false(first[i] && first[k] && s->list[i].group == s->list[k].group);
    }
    assert_int_equal(count, 8);
    memset(second, 0, s->count);
    assert_int_equal(kw__choose_runs(s, 8, 30, second, &err), KW_OK);
    for (size_t i = 0; i < s->count; i++) spent += second[i] ? s->list[i].latency_s : 0;
    assert_true(spent > 0 && spent <= 30);
    free(first);
    free(second);
    kw__samples_free(s);
}

/* ---- Priors ----------------------------------------------------------------------------------------- */

static const struct kw__rate *rate_of(const struct kw__calibration *c, const char *key)
{
    for (int r = 0; r < c->num_rates; r++)
        if (strcmp(c->rates[r].key, key) == 0) return &c->rates[r];
    fail_msg("no rate %s", key);
    return NULL;
}

static void test_priors(void **state)
{
    (void)state;
    struct kw__calibration *shipped, *fitted;
    struct kw__priors carried, own;
    kw_hardware *h100, *b200;
    kw_error err;
    /* the pair's own: the bases as they are, and the spreads of the form */
    assert_int_equal(kw__calibration_open(catalog, "diffusers-0.40@h200", &shipped, &err), KW_OK);
    assert_int_equal(priors.distance, KW__SAME);
    assert_true(rate_of(priors.calibration, "gemm/bf16")->efficiency.base ==
                rate_of(shipped, "gemm/bf16")->efficiency.base);
    assert_true(priors.calibration->session_time_sd == 0.025 && priors.calibration->model_power_sd == 0.015);
    assert_true(shipped->model_time_sd != 0.02 && priors.calibration->model_time_sd == 0.02);
    kw__calibration_close(shipped);
    /* carried from the H100: its fitted factors are in the bases, 0.35 in the sds, 0.1 in those of power */
    assert_int_equal(kw_hardware_open(catalog, "b200", &b200, &err), KW_OK);
    assert_int_equal(kw__calibration_open(catalog, "diffusers-0.34@h100-sxm", &fitted, &err), KW_OK);
    assert_int_equal(kw__priors_open(catalog, "diffusers-0.34", b200, NULL, &carried, &err), KW_OK);
    assert_int_equal(carried.distance, KW__OTHER_HARDWARE);
    assert_string_equal(carried.calibration->name, "diffusers-0.34@b200");
    assert_float_equal(rate_of(carried.calibration, "conv/tf32/c192")->efficiency.base, 0.4114 * 1.1091,
                       1e-4);
    for (int j = 0; j < fitted->num_parameters; j++) {
        const struct kw__parameter *p = &carried.calibration->parameters[j];
        bool power = strstr(p->name, "power");
        assert_true(p->log_value == 0);
        assert_float_equal(p->prior_log_sd, hypot(fitted->parameters[j].prior_log_sd, power ? 0.1 : 0.35),
                           1e-12);
    }
    kw__priors_close(&carried);
    kw_hardware_close(b200);
    /* a fitted calibration of the pair gives what its fit started from: no row counts twice */
    assert_int_equal(kw_hardware_open(catalog, "h100-sxm", &h100, &err), KW_OK);
    assert_int_equal(kw__priors_open(catalog, "diffusers-0.34", h100,
                                     "data/calibrations/diffusers-0.34@h100-sxm.json", &own, &err),
                     KW_OK);
    assert_float_equal(rate_of(own.calibration, "conv/tf32/c192")->efficiency.base, 0.4114, 1e-12);
    assert_true(own.calibration->parameters[0].log_value == 0);
    assert_true(own.calibration->session_time_sd == 0.025 && isnan(own.calibration->tokens_low));
    kw__priors_close(&own);
    kw_hardware_close(h100);
    kw__calibration_close(fitted);
    /* a GPU's rates say nothing of a CPU */
    assert_int_equal(kw_hardware_open(catalog, "cpu", &h100, &err), KW_OK);
    assert_int_equal(kw__priors_open(catalog, "kinowatt-cpu", h100, NULL, &own, &err), KW_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "calibrate --device cpu"));
    kw_hardware_close(h100);
}

/* ---- Rows of the store ------------------------------------------------------------------------------ */

static void add_window(struct kw__run *run, const char *name, double seconds, double joules)
{
    struct kw__run_window *w = &run->windows[run->num_windows++];
    *w = (struct kw__run_window){
        .name = name, .parent = run->num_windows == 1 ? -1 : 0, .duration_s = seconds};
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        w->energy_j[d] = w->power_w[d] = w->max_power_w[d] = w->idle_power_w[d] =
            (kw_reading){NAN, NAN, NAN, KW_ABSENT, NULL};
    }
    w->energy_j[KW_GPU] = (kw_reading){joules, 0.9 * joules, 1.1 * joules, KW_MEASURED, NULL};
}

static struct kw__run *new_run(const char *hardware, int64_t repeat)
{
    struct kw__run *run = kw__run_new("sweep");
    assert_non_null(run);
    run->windows = kw__arena_alloc(&run->arena, 8, sizeof *run->windows);
    run->state = "done";
    run->dataset = "mine";
    run->session = "monday";
    run->model = "wan2.1-t2v-1.3b";
    run->stack = "diffusers-0.40";
    run->hardware = hardware;
    run->repeat = repeat;
    run->request = (struct kw__run_request){.width = 832,
                                            .height = 480,
                                            .num_frames = 81,
                                            .num_frames_asked = 83,
                                            .num_inference_steps = 20,
                                            .batch_size = 1,
                                            .guidance_scale = 5,
                                            .fps = NAN,
                                            .flow_shift = NAN};
    add_window(run, "total", 40, 26000);
    return run;
}

static void keep(struct kw__store *store, struct kw__run *run)
{
    kw_error err;
    if (kw__store_add(store, run, &err)) fail_msg("%s", err.message);
    kw__run_free(run);
}

static int count_of(const struct kw__left_outs *all, const char *why)
{
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->list[i].why, why) == 0) return all->list[i].count;
    return 0;
}

static void fill_store(struct kw__store *store)
{
    kw_error err;
    struct kw__run *run = new_run("NVIDIA H200", 0); /* with stages, and loading */
    add_window(run, "load", 9, 1000);
    add_window(run, "text_encode", 0.1, 50);
    add_window(run, "denoise", 25, 17000);
    add_window(run, "decode", 3, 2000);
    add_window(run, "output", 0.5, 100);
    keep(store, run);
    run = new_run("h200", 1); /* the encoder did not run */
    add_window(run, "denoise", 26, 17500);
    add_window(run, "decode", 3, 2000);
    keep(store, run);
    keep(store, new_run("h200", 2));  /* no stages */
    keep(store, new_run("h200", -2)); /* a warm-up */
    run = new_run("h200", 3);
    run->state = "failed";
    keep(store, run);
    run = new_run("h200", 4);
    add_window(run, "denoise", 10, 6000);
    add_window(run, "denoise", 10, 6000);
    keep(store, run);
    run = new_run("h200", 6);
    run->weights = "random:3:zeros";
    keep(store, run);
    run = new_run("h200", 7);
    assert_int_equal(kw__run_set(run, "offload", "True", &err), KW_OK);
    keep(store, run);
    run = new_run("h200", 8);
    run->weights = "random:3:normal";
    assert_int_equal(kw__run_set(run, "offload", "False", &err), KW_OK);
    assert_int_equal(kw__run_set(run, "dtype.vae", "bfloat16", &err), KW_OK);
    keep(store, run);
    run = new_run("h200", 5);
    const struct kw__finding finding = {"throttled", NULL, "too hot", "cool it", true};
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(kw__store_set_findings(store, run->id, &finding, 1, &err), KW_OK);
    kw__run_free(run);
}

static void test_store(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[FOLDER_BYTES + 16];
    struct kw__store *store;
    struct kw__dataset *read;
    kw_hardware *hardware;
    const char *of;
    kw_error err;
    folder_new(folder);
    snprintf(path, sizeof path, "%s/runs.db", folder);
    if (kw__store_open(path, KW__STORE_WRITE, &store, &err)) fail_msg("%s", err.message);
    fill_store(store);
    assert_int_equal(kw__measured_read(store, "yours", &read, &err), KW_ERROR_NOT_FOUND);
    if (kw__measured_read(store, "mine", &read, &err)) fail_msg("%s", err.message);
    kw__store_close(store);
    assert_int_equal(count_of(&read->left_out, "warm-ups"), 1);
    assert_int_equal(count_of(&read->left_out, "failed or stopped"), 1);
    assert_int_equal(count_of(&read->left_out, "the linter found throttled"), 1);
    assert_int_equal(count_of(&read->left_out, "a stage was timed several times in one run"), 1);
    assert_int_equal(count_of(&read->left_out, "random weights of another law than normal"), 1);
    /* the first: three stages, which are the whole; what loads is none, the way to the host is the decoder's
     */
    assert_int_equal(read->num_rows, 4 + 3 + 1 + 1 + 1);
    const struct kw__row *r = read->rows;
    assert_null(r[0].stages);
    assert_float_equal(r[0].latency_s, 28.6, 1e-9);
    assert_float_equal(r[0].energy_wh[KW_GPU] * 3600, 19150, 1e-6);
    assert_int_equal(r[0].frames, 83);
    assert_string_equal(r[3].what, "decode");
    assert_float_equal(r[3].latency_s, 3.5, 1e-9);
    assert_true(r[3].whole == 0 && r[4].whole == -1 && isnan(r[0].energy_wh[KW_CPU]));
    assert_string_equal(r[4].stages, "denoise+decode");
    assert_float_equal(r[7].latency_s, 40, 1e-9); /* without stages, all of it */
    /* 90 % interval of +-10 %: a sd of 6 % */
    assert_float_equal(r[7].energy_sd_wh[KW_GPU] / r[7].energy_wh[KW_GPU], 0.1 / 1.6449, 1e-9);
    /* "NVIDIA H200" and "h200" are one card */
    const struct kw__selection any = {0};
    if (kw__dataset_select(catalog, &any, read, &of, &hardware, &err)) fail_msg("%s", err.message);
    assert_string_equal(of, "diffusers-0.40");
    assert_string_equal(kw_hardware_name(hardware), "h200");
    kw_hardware_close(hardware);
    struct kw__samples *s;
    assert_int_equal(kw__samples_new(catalog, read, stack, priors.calibration, h200, &s, &err), KW_OK);
    assert_int_equal(s->num_wholes, 3);
    assert_int_equal(count_of(&s->left_out, "the decoder ran in bf16, and in diffusers-0.40 it is f32"), 1);
    assert_int_equal(count_of(&s->left_out, "with offloading, and diffusers-0.40 runs without it"), 1);
    assert_true(s->list[0].has_parts && s->list[2].share > 0.8 && s->list[1].share < 0.01);
    kw__samples_free(s);
    kw__dataset_close(read);
    folder_remove(folder);
}

/* ---- Selecting -------------------------------------------------------------------------------------- */

static void test_select(void **state)
{
    (void)state;
    const char *of;
    kw_hardware *hardware = NULL;
    kw_error err;
    static const struct {
        struct kw__selection asked;
        kw_status status;
        const char *says;
    } cases[] = {
        {{NULL, NULL, NULL}, KW_ERROR_USAGE, "choose one with --stack"},
        {{NULL, "kinowatt", NULL}, KW_ERROR_USAGE, "choose one with --hardware"},
        {{NULL, "nothing", "b200"}, KW_ERROR_NOT_FOUND, "no row to fit: not of the hardware asked for"},
        {{"wan2.1-t2v-14b", NULL, NULL}, KW_ERROR_NOT_FOUND, "not of the model asked for"},
        {{NULL, NULL, "h300"}, KW_ERROR_NOT_FOUND, "h300"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set.num_rows = 0;
        for (int k = 0; k < 4; k++) add_row("wan2.1-t2v-1.3b", "a", 0, 81, 4, k == 2);
        rows[1].stack = "kinowatt";
        rows[2].stack = NULL;
        rows[2].gpu = "h100-sxm";
        for (size_t k = 3; k < 6; k++) rows[k].stack = NULL, rows[k].gpu = "h100-sxm";
        kw__arena_init(&set.arena);
        set.left_out = (struct kw__left_outs){0};
        assert_int_equal(kw__dataset_select(catalog, &cases[i].asked, &set, &of, &hardware, &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s: not \"%s\"", err.message, cases[i].says);
        kw__arena_free(&set.arena);
    }
    /* what names no stack is taken for the one asked for, with its stages */
    set.num_rows = 0;
    add_row("wan2.1-t2v-1.3b", "a", 0, 81, 4, false);
    add_row("wan2.1-t2v-1.3b", "a", 0, 81, 4, true);
    for (size_t k = 1; k < 5; k++) rows[k].stack = NULL;
    rows[0].stack = "diffusers-0.34";
    kw__arena_init(&set.arena);
    set.left_out = (struct kw__left_outs){0};
    const struct kw__selection asked = {NULL, "diffusers-0.40", NULL};
    if (kw__dataset_select(catalog, &asked, &set, &of, &hardware, &err)) fail_msg("%s", err.message);
    assert_true(set.num_rows == 4 && rows[0].whole == -1 && rows[3].whole == 0);
    assert_string_equal(rows[3].what, "decode");
    assert_int_equal(count_of(&set.left_out, "not of the stack asked for"), 1);
    kw_hardware_close(hardware);
    kw__arena_free(&set.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_totals_are_sums),
        cmocka_unit_test(test_recovery_and_coverage),
        cmocka_unit_test(test_own_row_is_not_seen),
        cmocka_unit_test(test_lone_sessions),
        cmocka_unit_test(test_many_sessions),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_priors),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_select),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
