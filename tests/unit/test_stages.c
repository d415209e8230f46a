/* What of a run counts as the work of its model: by hand, for programs that mark their stages in many ways,
 * and the same for everyone who asks. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "store/stages.h"
#include "sweep/state.h"

enum { MOST = 24 };

struct sample {
    struct kw__run run;
    struct kw__run_window windows[MOST];
    struct kw__run_setting settings[2];
};

/* A run of a sweep's command: the total, then windows "name/parent", each of 1, 2, 4, ... seconds and ten
 * times as many joules within 10 %, so that a sum tells what it is of. */
static void make(struct sample *s, const char *const *names, const size_t *parents, size_t count)
{
    *s = (struct sample){.run = {.kind = "sweep", .state = "done", .session = "a"}};
    s->run.windows = s->windows;
    s->run.settings = s->settings;
    s->settings[s->run.num_settings++] = (struct kw__run_setting){"command", "python run.py"};
    s->windows[s->run.num_windows++] =
        (struct kw__run_window){.name = "total", .parent = -1, .duration_s = 1e9};
    for (size_t i = 0; i < count; i++) {
        double seconds = (double)(1 << i), joules = 10 * seconds;
        struct kw__run_window *w = &s->windows[s->run.num_windows++];
        *w = (struct kw__run_window){
            .name = names[i], .parent = parents ? (int64_t)parents[i] : 0, .duration_s = seconds};
        w->energy_j[KW_GPU] = (kw_reading){joules, 0.9 * joules, 1.1 * joules, KW_MEASURED, NULL};
    }
}

static double total_of(const struct kw__run_sum *stages)
{
    struct kw__run_sum all = {0};
    for (int i = 0; i < KW__RUN_STAGES; i++) kw__run_sum_add(&all, &stages[i]);
    assert_true(all.energy_j[KW_GPU] == 10 * all.seconds && isnan(all.energy_j[KW_CPU]));
    return all.seconds;
}

static void expect(const struct sample *s, double seconds, bool several)
{
    struct kw__run_sum stages[KW__RUN_STAGES];
    assert_int_equal(kw__run_stages(&s->run, stages), several);
    assert_true(total_of(stages) == seconds);
    assert_true(kw__run_work_s(&s->run) == seconds);
}

/* A program that loads, warms up inside a window of its own and then runs: as stacks/diffusers/run.py does.
 */
static void what_a_runner_marks(void **state)
{
    (void)state;
    static const char *const names[] = {"load",   "warmup",      "text_encode", "denoise", "decode",
                                        "output", "text_encode", "denoise",     "decode",  "output"};
    static const size_t parents[] = {0, 0, 2, 2, 2, 2, 0, 0, 0, 0};
    struct sample s;
    struct kw__run_sum stages[KW__RUN_STAGES];
    make(&s, names, parents, 10);
    expect(&s, 64 + 128 + 256 + 512, false);
    (void)kw__run_stages(&s.run, stages);
    assert_true(stages[KW__RUN_DECODE].seconds == 256 + 512 && stages[KW__RUN_DECODE].windows == 2);
    assert_true(stages[KW__RUN_UPSCALE].windows == 0 && stages[KW__RUN_UPSCALE].seconds == 0);
    /* intervals of +-10 % are sds of 10 / 1.6449 %, which add in squares */
    double of_decode = hypot(256, 512) / 1.6449;
    assert_float_equal(sqrt(stages[KW__RUN_DECODE].gpu_variance), of_decode, 1e-9);
    s.settings[s.run.num_settings++] = (struct kw__run_setting){"run.counted", "warmup"};
    expect(&s, 4 + 8 + 16 + 32, false);
    s.settings[1].value = "denoise"; /* a part of the work is not the work */
    expect(&s, 64 + 128 + 256 + 512, false);
}

static void what_is_nested_or_again(void **state)
{
    (void)state;
    static const char *const passes[] = {"pass", "text_encode", "denoise", "decode",
                                         "pass", "text_encode", "denoise", "decode"};
    static const size_t parents[] = {0, 1, 1, 1, 0, 5, 5, 5};
    struct sample s;
    make(&s, passes, parents, 8);
    expect(&s, 32 + 64 + 128, false); /* of a sweep's command, the last */
    s.run.kind = "record";            /* which of them, nobody said */
    assert_true(isnan(kw__run_work_s(&s.run)));
    static const char *const side[] = {"text_encode", "denoise", "decode",
                                       "text_encode", "denoise", "decode"};
    make(&s, side, NULL, 6);
    expect(&s, 8 + 16 + 32, true);
    static const char *const two_sizes[] = {"text_encode", "denoise", "upscale", "text_encode",
                                            "refine",      "decode",  "output"};
    make(&s, two_sizes, NULL, 7);
    expect(&s, 127, false);
    static const char *const no_decode[] = {"text_encode", "denoise", "output"};
    struct kw__run_sum stages[KW__RUN_STAGES];
    make(&s, no_decode, NULL, 3);
    assert_false(kw__run_stages(&s.run, stages));
    assert_true(total_of(stages) == 3 && isnan(kw__run_work_s(&s.run)));
}

/* A sweep's table counts what `runs show` and fits do. */
static void a_sweep_counts_the_same(void **state)
{
    (void)state;
    static const char *const words[] = {"true", "{t}"}, *const own[] = {"t=1"};
    static const char *const stages[] = {"text_encode", "denoise", "decode"};
    static const char *const names[] = {"load", "text_encode", "denoise", "decode", "output", "save"};
    const struct kw__sweep_options o = {
        .command = words, .num_words = 2, .own = own, .num_own = 1, .repeats = 3, .max_repeats = 3};
    struct kw__sweep_plan *plan;
    struct kw__sweep_state *sweep;
    struct sample s;
    assert_int_equal(kw__sweep_plan_new(NULL, &o, &plan, NULL), KW_OK);
    assert_int_equal(kw__sweep_state_new(plan, &sweep, NULL), KW_OK);
    plan->stages = stages;
    plan->num_stages = 3;
    make(&s, names, NULL, 6);
    assert_int_equal(kw__sweep_state_add(sweep, &s.run, NULL), KW_OK);
    assert_true(sweep->rows[0].latency_s == 2 + 4 + 8 + 16);
    assert_true(sweep->rows[0].latency_s == kw__run_work_s(&s.run));
    assert_true(sweep->rows[0].energy_j[KW_GPU] == 300);
    kw__sweep_state_free(sweep);
    kw__sweep_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_runner_marks),
        cmocka_unit_test(what_is_nested_or_again),
        cmocka_unit_test(a_sweep_counts_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
