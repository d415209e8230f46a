/* The order of a sweep's runs, when a point is known well enough, and its figures: by hand and as
 * properties. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "sweep/state.h"

static struct kw__sweep_plan *make_plan(const char *tile, int64_t repeats, int64_t most, double until)
{
    static const char *const words[] = {"echo", "{tile}"};
    char axis[64];
    const char *const own[] = {axis};
    struct kw__sweep_options o = {.command = words,
                                  .num_words = 2,
                                  .own = own,
                                  .num_own = 1,
                                  .repeats = repeats,
                                  .max_repeats = most,
                                  .until = until};
    struct kw__sweep_plan *plan = NULL;
    kw_error err = {0};
    snprintf(axis, sizeof axis, "tile=%s", tile);
    if (kw__sweep_plan_new(NULL, &o, &plan, &err)) fail_msg("%s", err.message);
    return plan;
}

static struct kw__sweep_state *make_state(const struct kw__sweep_plan *plan)
{
    struct kw__sweep_state *state = NULL;
    assert_int_equal(kw__sweep_state_new(plan, &state, NULL), KW_OK);
    return state;
}

/* A run of so many seconds and, where energy_j is a number, joules of the GPU. */
static void add(struct kw__sweep_state *state, size_t point, int64_t repeat, double seconds, double energy_j,
                const char *session, const char *how)
{
    struct kw__run_window window = {.name = "total", .parent = -1, .duration_s = seconds};
    struct kw__run run = {.point = (int64_t)point, .repeat = repeat, .session = session, .state = how};
    run.windows = &window;
    run.num_windows = 1;
    run.anchor = repeat == KW__SWEEP_ANCHOR;
    if (!isnan(energy_j))
        window.energy_j[KW_GPU] = (kw_reading){energy_j, energy_j, energy_j, KW_MEASURED, NULL};
    assert_int_equal(kw__sweep_state_add(state, &run, NULL), KW_OK);
}

/* ---- Order ------------------------------------------------------------------------------------------- */

static void test_order(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1:8:1", 1, 0, 0);
    size_t first[8] = {0};
    double places[8] = {0};
    bool moved = false;
    for (int64_t block = 0; block < 2000; block++) {
        size_t order[8], again[8];
        unsigned seen = 0;
        kw__sweep_order(plan, block, order);
        kw__sweep_order(plan, block, again);
        assert_memory_equal(order, again, sizeof order);
        for (size_t i = 0; i < 8; i++) {
            seen |= 1u << order[i];
            places[order[i]] += (double)i / 2000;
            moved = moved || order[i] != i;
        }
        assert_int_equal(seen, 0xFF); /* each point once */
        first[order[0]]++;
    }
    assert_true(moved);
    /* mean place 3.5, sd of a mean of 2000 is 2.29 / sqrt(2000) = 0.051; first 250 times, sd 14.8 */
    for (size_t i = 0; i < 8; i++) {
        assert_float_equal(places[i], 3.5, 5 * 0.051);
        assert_in_range(first[i], 250 - 75, 250 + 75);
    }
    uint64_t seed = plan->order_seed;
    size_t a[8], b[8], same = 0;
    for (uint64_t k = 1; k <= 50; k++) {
        kw__sweep_order(plan, 0, a);
        plan->order_seed = seed + k;
        kw__sweep_order(plan, 0, b);
        same += memcmp(a, b, sizeof a) == 0;
    }
    assert_true(same < 3);
    kw__sweep_plan_free(plan);
}

/* Every run once, repeat b of all points before repeat b + 1 of any. */
static void test_blocks(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1:5:1", 3, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    size_t point;
    int64_t repeat, last = 0, done, wanted;
    unsigned seen[3] = {0};
    for (int i = 0; i < 15; i++) {
        kw__sweep_count(s, &done, &wanted);
        assert_int_equal(done, i);
        assert_int_equal(wanted, 15 - i);
        assert_true(kw__sweep_next(s, &point, &repeat));
        assert_true(repeat >= last);
        assert_false(seen[repeat] & 1u << point);
        seen[repeat] |= 1u << point;
        last = repeat;
        add(s, point, repeat, 1, NAN, "a", "done");
    }
    assert_false(kw__sweep_next(s, &point, &repeat));
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

/* From any set of runs that are there, what is left is run once, in the order it would have had. */
static void test_resume(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1:5:1", 3, 0, 0);
    for (int holes = 0; holes < 15; holes++) {
        struct kw__sweep_state *s = make_state(plan);
        size_t point, order[5];
        int64_t repeat, before = -1;
        int runs = 0;
        for (int k = 0; k < holes; k++) /* 7 and 15 have no common factor: all different */
            add(s, (size_t)(7 * k % 15 / 3), 7 * k % 15 % 3, 1, NAN, "a", "done");
        while (kw__sweep_next(s, &point, &repeat)) {
            size_t place = 0;
            kw__sweep_order(plan, repeat, order);
            while (order[place] != point) place++;
            assert_true(5 * repeat + (int64_t)place > before);
            before = 5 * repeat + (int64_t)place;
            assert_false(s->points[point].have[repeat]);
            add(s, point, repeat, 1, NAN, "b", "done");
            runs++;
        }
        assert_int_equal(runs, 15 - holes);
        assert_int_equal(s->num_rows, 15);
        kw__sweep_state_free(s);
    }
    kw__sweep_plan_free(plan);
}

static void test_failures(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1,2", 4, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    size_t point;
    int64_t repeat, runs[2] = {0, 0};
    while (kw__sweep_next(s, &point, &repeat)) {
        runs[point]++;
        add(s, point, repeat, 1, NAN, "a", point ? "failed" : "done");
    }
    assert_int_equal(runs[0], 4);
    assert_int_equal(runs[1], 2);
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

static void test_not_of_the_plan(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1,2", 2, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    struct kw__sweep_summary summary;
    int64_t done, wanted;
    add(s, 0, -2, 9, NAN, "a", "done");               /* warm-up */
    add(s, 0, KW__SWEEP_ANCHOR, 7, NAN, "a", "done"); /* anchor */
    add(s, 0, 0, 1, NAN, "a", "done");
    add(s, 0, 0, 5, NAN, "a", "done"); /* there already */
    add(s, 0, 2, 5, NAN, "a", "done"); /* more than the plan has */
    add(s, 2, 0, 5, NAN, "a", "done");
    kw__sweep_count(s, &done, &wanted);
    assert_int_equal(done, 1);
    assert_int_equal(wanted, 3);
    assert_int_equal(kw__sweep_summarise(s, 0, &summary, NULL), KW_OK);
    assert_float_equal(summary.latency_s.median, 1, 0);
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

/* ---- When to stop -------------------------------------------------------------------------------------- */

/* Runs one point with these latencies and energies until nothing more is wanted; how many ran. */
static int64_t run_until(double until, const double *seconds, const double *energies)
{
    struct kw__sweep_plan *plan = make_plan("1", 2, 6, until);
    struct kw__sweep_state *s = make_state(plan);
    size_t point;
    int64_t repeat, runs = 0;
    while (kw__sweep_next(s, &point, &repeat)) {
        assert_int_equal(repeat, runs);
        add(s, point, repeat, seconds[runs], energies ? energies[runs] : NAN, "a", "done");
        runs++;
    }
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
    return runs;
}

static void test_until(void **state)
{
    (void)state;
    /* After two runs: mean 10.1, s 0.1414, t(1) 6.314, half 0.6314: 6.25 %.
     * After three (10, 10.2, 10.1): s 0.1, t(2) 2.920, half 0.1686: 1.67 %.
     * After four (and 10.1): s 0.08165, t(3) 2.353, half 0.09607: 0.951 % */
    const double seconds[] = {10, 10.2, 10.1, 10.1, 10.1, 10.1};
    assert_int_equal(run_until(0.0626, seconds, NULL), 2);
    assert_int_equal(run_until(0.0624, seconds, NULL), 3);
    assert_int_equal(run_until(0.0167, seconds, NULL), 3);
    assert_int_equal(run_until(0.0166, seconds, NULL), 4);
    assert_int_equal(run_until(0.00952, seconds, NULL), 4);
    assert_int_equal(run_until(0.00950, seconds, NULL), 5);
    assert_int_equal(run_until(1e-9, seconds, NULL), 6); /* max_repeats */
    assert_int_equal(run_until(0, seconds, NULL), 2);
    /* energy counts as well: it alone is unknown until it has three runs */
    const double steady[] = {5, 5, 5, 5, 5, 5};
    assert_int_equal(run_until(0.02, steady, seconds), 3);
    assert_int_equal(run_until(0.02, seconds, steady), 3);
    assert_int_equal(run_until(0.02, steady, steady), 2);
}

/* Half of the interval 6.25 % of the mean after two runs: to 2 % it takes (6.25 / 2)^2 x 2 = 19.5 runs. */
static void test_wanted(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1,2", 2, 100, 0.02);
    struct kw__sweep_state *s = make_state(plan);
    assert_int_equal(kw__sweep_wanted(s, 0), 2);
    add(s, 0, 0, 10, NAN, "a", "done");
    add(s, 0, 1, 10.2, NAN, "a", "done");
    assert_int_equal(kw__sweep_wanted(s, 0), 20 - 2);
    add(s, 1, 0, 10, NAN, "a", "done");
    add(s, 1, 1, 10, NAN, "a", "done");
    assert_int_equal(kw__sweep_wanted(s, 1), 0);
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

/* ---- Figures ------------------------------------------------------------------------------------------- */

static void test_summary(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1,2", 5, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    struct kw__sweep_summary sum;
    add(s, 0, 0, 12, 100, "a", "done");
    add(s, 0, 1, 10, NAN, "a", "done");
    add(s, 0, 2, 11, 102, "b", "done");
    add(s, 0, 3, 99, 999, "b", "failed");
    assert_int_equal(kw__sweep_summarise(s, 0, &sum, NULL), KW_OK);
    assert_int_equal(sum.latency_s.count, 3);
    assert_int_equal(sum.failed, 1);
    assert_float_equal(sum.latency_s.median, 11, 1e-12);
    assert_float_equal(sum.latency_s.mean.half, 1.6859, 1e-4); /* as in test_student.c */
    assert_int_equal(sum.energy_j[KW_GPU].count, 2);
    assert_float_equal(sum.energy_j[KW_GPU].median, 101, 1e-12);
    assert_int_equal(sum.energy_j[KW_CPU].count, 0);
    assert_true(isnan(sum.energy_j[KW_CPU].median));
    assert_int_equal(kw__sweep_summarise(s, 1, &sum, NULL), KW_OK);
    assert_true(isnan(sum.latency_s.median));
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

/* Windows by name: the last of each, added up; the model's stages where all are there. */
static void test_windows(void **state)
{
    (void)state;
    static const char *const stages[] = {"denoise", "decode"};
    struct kw__run_window windows[] = {{"total", -1, 0, 100, .gap_s = 0},
                                       {"denoise", 0, 0, 7, .gap_s = 0},
                                       {"load", 0, 0, 50, .gap_s = 0},
                                       {"denoise", 0, 0, 30, .gap_s = 0},
                                       {"decode", 0, 0, 5, .gap_s = 0}};
    struct kw__run run = {.state = "done", .session = "a", .windows = windows, .num_windows = 5};
    struct kw__sweep_plan *plan = make_plan("1", 9, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    windows[3].energy_j[KW_GPU] = (kw_reading){300, 300, 300, KW_MEASURED, NULL};
    windows[4].energy_j[KW_GPU] = (kw_reading){20, 20, 20, KW_MEASURED, NULL};
    const struct {
        const char *window;
        size_t stages;
        double latency_s, energy_j;
    } cases[] = {{NULL, 0, 100, NAN},
                 {"denoise", 0, 30, 300},
                 {"decode,denoise", 0, 35, 320},
                 {"load,denoise", 0, 80, NAN}, /* of load no energy is known */
                 {"denoise,upscale", 0, NAN, NAN},
                 {"de", 0, NAN, NAN},
                 {NULL, 2, 35, 320},
                 {"load", 2, 50, NAN}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run.repeat = (int64_t)i;
        plan->options.window = cases[i].window;
        plan->stages = stages;
        plan->num_stages = cases[i].stages;
        assert_int_equal(kw__sweep_state_add(s, &run, NULL), KW_OK);
        const double got[2] = {s->rows[i].latency_s, s->rows[i].energy_j[KW_GPU]};
        const double wanted[2] = {cases[i].latency_s, cases[i].energy_j};
        for (int k = 0; k < 2; k++) assert_true(isnan(wanted[k]) ? isnan(got[k]) : got[k] == wanted[k]);
        assert_true(s->rows[i].whole_s == 100);
    }
    run.repeat = 8; /* a run without one of the stages counts whole */
    run.num_windows = 4;
    plan->options.window = NULL;
    plan->num_stages = 2;
    assert_int_equal(kw__sweep_state_add(s, &run, NULL), KW_OK);
    assert_float_equal(s->rows[8].latency_s, 100, 0);
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

static void test_drift(void **state)
{
    (void)state;
    struct kw__sweep_plan *plan = make_plan("1,2", 5, 0, 0);
    struct kw__sweep_state *s = make_state(plan);
    struct kw__sweep_drift *drifts;
    size_t count;
    add(s, 0, -2, 99, 1, "a", "done");
    add(s, 0, KW__SWEEP_ANCHOR, 10, 200, "a", "done");
    add(s, 1, 0, 5, 50, "a", "done");
    add(s, 0, KW__SWEEP_ANCHOR, 10, 200, "b", "done"); /* killed before its end */
    add(s, 0, KW__SWEEP_ANCHOR, 10.2, 190, "a", "done");
    assert_int_equal(kw__sweep_drifts(s, &drifts, &count, NULL), KW_OK);
    assert_int_equal(count, 2);
    assert_int_equal(drifts[0].anchors, 2);
    assert_float_equal(drifts[0].latency, 0.02, 1e-12);
    assert_float_equal(drifts[0].energy[KW_GPU], -0.05, 1e-12);
    assert_true(isnan(drifts[0].energy[KW_RAM]));
    assert_int_equal(drifts[1].anchors, 1);
    assert_true(isnan(drifts[1].latency));
    kw__sweep_state_free(s);
    kw__sweep_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),           cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_resume),          cmocka_unit_test(test_failures),
        cmocka_unit_test(test_not_of_the_plan), cmocka_unit_test(test_until),
        cmocka_unit_test(test_wanted),          cmocka_unit_test(test_summary),
        cmocka_unit_test(test_windows),         cmocka_unit_test(test_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
