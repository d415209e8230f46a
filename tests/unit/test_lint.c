/* The linter on runs made by hand: each rule fires on what breaks it and not on what nearly does. The figures
 * of the paper that are known to be wrong must be found, the true ones must not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "store/lint.h"

static const kw_reading nothing = {NAN, NAN, NAN, KW_ABSENT, "not measured"};

static kw_reading measured(double value, double half)
{
    return (kw_reading){value, value - half, value + half, KW_MEASURED, NULL};
}

/* A run with one window on an H100: what a row of a published table becomes. */
struct sample {
    struct kw__run run;
    struct kw__run_window windows[4];
    struct kw__run_channel channel;
    struct kw__run_detail detail;
    struct kw__run_setting setting;
};

static void add_window(struct sample *s, const char *name, int64_t parent, double seconds, kw_reading gpu_j)
{
    struct kw__run_window *w = &s->windows[s->run.num_windows++];
    *w = (struct kw__run_window){.name = name, .parent = parent, .duration_s = seconds};
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        w->energy_j[d] = w->power_w[d] = w->max_power_w[d] = w->idle_power_w[d] = nothing;
    w->energy_j[KW_GPU] = gpu_j;
}

static struct sample *row(struct sample *s, const char *model, int64_t width, int64_t height, int64_t frames,
                          int64_t steps, double seconds, double gpu_wh)
{
    *s = (struct sample){.run = {.kind = "import",
                                 .state = "done",
                                 .model = model,
                                 .hardware = "H100-SXM-80GB",
                                 .stack = "diffusers-0.34",
                                 .point = -1,
                                 .repeat = -1,
                                 .request = {.width = width,
                                             .height = height,
                                             .num_frames_asked = frames,
                                             .num_inference_steps = steps,
                                             .guidance_scale = NAN,
                                             .fps = NAN,
                                             .flow_shift = NAN},
                                 .windows = s->windows}};
    kw_reading energy = {gpu_wh * 3600, NAN, NAN, KW_MEASURED, NULL};
    add_window(s, "total", -1, seconds, energy);
    return s;
}

/* The findings' codes, each followed by a blank; a '!' before those that exclude. */
static const char *codes(const struct kw__run *run, int times)
{
    static char text[1024];
    kw_error err = {0};
    kw_catalog *catalog;
    struct kw__lint *lint;
    struct kw__arena arena;
    struct kw__finding *list;
    size_t count, used = 0;
    kw__arena_init(&arena);
    if (kw_catalog_open(NULL, &catalog, &err) || kw__lint_open(catalog, &lint, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < times; i++) assert_int_equal(kw__lint_count(lint, run, &err), KW_OK);
    if (kw__lint_run(lint, run, &arena, &list, &count, &err)) fail_msg("%s", err.message);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(list[i].message) > 10 && strlen(list[i].advice) > 10);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s ", list[i].excludes ? "!" : "",
                                 list[i].code);
    }
    kw__arena_free(&arena);
    kw__lint_close(lint);
    kw_catalog_close(catalog);
    return text;
}

/* arXiv 2509.19222, table 4, with the labels of the authors' notebook, and what really ran. */
static void finds_the_papers_slips(void **state)
{
    (void)state;
    struct sample s;
    const char small[] = "wan2.1-t2v-1.3b", large[] = "wan2.1-t2v-14b";
    assert_string_equal(codes(&row(&s, small, 832, 480, 81, 60, 410, 78.8)->run, 0), "!shape-and-time ");
    assert_string_equal(codes(&row(&s, small, 1280, 720, 81, 50, 410, 78.8)->run, 0), "");
    assert_string_equal(codes(&row(&s, large, 832, 480, 81, 60, 1875, 359.7)->run, 0), "!shape-and-time ");
    assert_string_equal(codes(&row(&s, large, 1280, 720, 81, 50, 1875, 359.7)->run, 0), "");
    const char ltx[] = "ltx-video-0.9.7-dev";
    assert_string_equal(codes(&row(&s, ltx, 896, 640, 121, 30, 9.66, 3.16)->run, 0),
                        "!power-above-limit !shape-and-time ");
    assert_string_equal(codes(&row(&s, ltx, 896, 640, 121, 30, 17.8134, 3.16274)->run, 0), "");
    const char lightning[] = "animatediff-lightning-4step";
    assert_string_equal(codes(&row(&s, lightning, 512, 512, 16, 4, 0.680361, 0.114687)->run, 0),
                        "short-window ");
}

static void judges_power_by_limit_and_idle(void **state)
{
    (void)state;
    struct sample s;
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 700.0 * 100 / 3600)->run, 0), "");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 730.0 * 100 / 3600)->run, 0),
                        "!power-above-limit ");
    /* its interval reaches below the limit */
    row(&s, "other", 0, 0, 0, 0, 100, 1);
    s.windows[0].energy_j[KW_GPU] = measured(73000, 2000);
    assert_string_equal(codes(&s.run, 0), "");
    /* its interval is of another value */
    s.windows[0].energy_j[KW_GPU] = (kw_reading){3 * 65000, 64000, 66000, KW_MEASURED, NULL};
    assert_string_equal(codes(&s.run, 0), "!power-above-limit ");
    s.windows[0].energy_j[KW_GPU] = measured(73000, 2000);
    /* the channel's own limit goes before the profile's */
    s.channel = (struct kw__run_channel){"nvml", "GPU-1", "NVIDIA H100", NULL, KW_GPU, 500};
    s.run.channels = &s.channel;
    s.run.num_channels = 1;
    assert_string_equal(codes(&s.run, 0), "!power-above-limit ");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 65.0 * 100 / 3600)->run, 0),
                        "!power-below-idle ");
    /* measured at rest just before: 120 W */
    row(&s, "other", 0, 0, 0, 0, 100, 100.0 * 100 / 3600);
    assert_string_equal(codes(&s.run, 0), "");
    s.windows[0].idle_power_w[KW_GPU] = measured(120, 2);
    assert_string_equal(codes(&s.run, 0), "!power-below-idle ");
    /* an unknown card: nothing can be said */
    row(&s, "other", 0, 0, 0, 0, 100, 2000.0 * 100 / 3600);
    s.run.hardware = "some new GPU";
    assert_string_equal(codes(&s.run, 0), "");
}

static void finds_units_and_absences_written_as_zero(void **state)
{
    (void)state;
    struct sample s;
    /* 600 W for 100 s are 60,000 J or 16.7 Wh: each written as the other, and in kWh */
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 60000)->run, 0), "!units ");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 16.7 / 3600)->run, 0), "!units ");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 0.0167)->run, 0), "!units ");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 0, 16.7)->run, 0), "!energy-without-time ");
    assert_string_equal(codes(&row(&s, "other", 0, 0, 0, 0, 100, 0)->run, 0), "!zero-energy ");
    row(&s, "other", 0, 0, 0, 0, 0, 1);
    s.windows[0].energy_j[KW_GPU] = nothing;
    assert_string_equal(codes(&s.run, 0), "!time-missing ");
    s.windows[0].duration_s = 3; /* a time alone is a measurement */
    assert_string_equal(codes(&s.run, 0), "");
}

static void compares_time_with_the_work(void **state)
{
    (void)state;
    struct sample s;
    /* 1.3B, 1280x720x81, 50 steps with guidance: 2 x 50 forwards of 1.25 PFLOP; at 989.4 TFLOP/s 126 s */
    assert_string_equal(codes(&row(&s, "wan2.1-t2v-1.3b", 1280, 720, 81, 50, 100, 15)->run, 0),
                        "!faster-than-peak ");
    assert_string_equal(codes(&row(&s, "wan2.1-t2v-1.3b", 1280, 720, 81, 50, 500, 90)->run, 0), "");
    assert_string_equal(codes(&row(&s, "wan2.1-t2v-1.3b", 1280, 720, 81, 50, 700, 130)->run, 0),
                        "!shape-and-time ");
    /* part of a pipeline is no pipeline */
    row(&s, "wan2.1-t2v-1.3b", 1280, 720, 81, 50, 5, 0.9)->run.what = "decode";
    assert_string_equal(codes(&s.run, 0), "");
}

/* The first run of a process on an H200 took 7.3 s for what takes 4.1 s afterwards. */
static void expects_warm_ups_to_be_slow(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "wan2.1-t2v-1.3b", 832, 480, 81, 1, 7.3, 0.89);
    s.run.hardware = "h200";
    s.run.stack = "diffusers-0.40";
    s.run.repeat = 0;
    assert_string_equal(codes(&s.run, 3), "!shape-and-time ");
    s.run.repeat = -2;
    assert_string_equal(codes(&s.run, 0), "");
}

/* Copies of weights are in a prediction when the stack has them: 16 s on an H200 instead of 6, and the
 * paper's 51 s on an H100. A run is held against what ran as it did. */
static void knows_offloading(void **state)
{
    (void)state;
    static const struct {
        const char *hardware, *stack, *offload;
        int64_t steps;
        double seconds;
        const char *found;
    } cases[] = {{"h200", "diffusers-0.40", "True", 4, 15.9, ""},
                 {"h200", "diffusers-0.40", "False", 4, 15.9, "!shape-and-time "},
                 {"h200", NULL, "True", 4, 15.9, ""},
                 {"h100-sxm", "diffusers-0.34", "True", 50, 50.6, ""},
                 {"h100-sxm", "diffusers-0.34", "True", 50, 25, "!shape-and-time "},
                 {"h100-sxm", "diffusers-0.34", "False", 50, 25, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s;
        row(&s, "cogvideox-2b", 720, 480, 49, cases[i].steps, cases[i].seconds, cases[i].seconds / 6);
        s.run.hardware = cases[i].hardware;
        s.run.stack = cases[i].stack;
        s.setting = (struct kw__run_setting){"offload", cases[i].offload};
        s.run.settings = &s.setting;
        s.run.num_settings = 1;
        assert_string_equal(codes(&s.run, 0), cases[i].found);
    }
}

/* What a program does before and around the work is not held against the request. */
static void knows_which_window_is_the_work(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "wan2.1-t2v-1.3b", 1280, 720, 81, 50, 900, 160)->run.kind = "record";
    assert_string_equal(codes(&s.run, 0), ""); /* 400 s of them may be the program's start */
    s.setting = (struct kw__run_setting){"run.counted", "repeat-1"};
    s.run.settings = &s.setting;
    s.run.num_settings = 1;
    add_window(&s, "repeat-1", 0, 410, nothing);
    assert_string_equal(codes(&s.run, 0), "");
    s.windows[1].duration_s = 250;
    assert_string_equal(codes(&s.run, 0), "!shape-and-time ");
    add_window(&s, "repeat-1", 0, 405, nothing); /* the last counts */
    assert_string_equal(codes(&s.run, 0), "");
    s.run.num_settings = 0;
    s.run.num_windows = 1; /* stages right in the whole run are the work */
    add_window(&s, "text_encode", 0, 1, nothing);
    add_window(&s, "denoise", 0, 395, nothing);
    add_window(&s, "decode", 0, 10, nothing);
    assert_string_equal(codes(&s.run, 0), "");
    s.windows[2].duration_s = 200;
    assert_string_equal(codes(&s.run, 0), "!shape-and-time ");
}

static void hears_what_the_meter_and_the_device_say(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "other", 0, 0, 0, 0, 100, 16);
    s.channel = (struct kw__run_channel){"nvml", "GPU-1", "NVIDIA H100", NULL, KW_GPU, 700};
    s.run.channels = &s.channel;
    s.run.details = &s.detail;
    s.run.num_channels = s.run.num_details = 1;
    s.detail = (struct kw__run_detail){.method = KW_METER_BY_COUNTER,
                                       .throttle_reasons = 0x4,
                                       .throttle_known = true,
                                       .other_processes = -1};
    assert_string_equal(codes(&s.run, 0), ""); /* a power cap is how such a card works */
    s.detail.throttle_reasons = 0x40;
    assert_string_equal(codes(&s.run, 0), "!throttled ");
    s.detail.throttle_known = false;
    assert_string_equal(codes(&s.run, 0), "");
    s.detail.other_processes = 2;
    assert_string_equal(codes(&s.run, 0), "!shared-device ");
    s.detail.other_processes = 0;
    s.detail.flags = KW_METER_FROZEN;
    s.detail.method = KW_METER_BY_POWER;
    assert_string_equal(codes(&s.run, 0), "frozen-counter ");
    s.detail.flags = KW_METER_DISAGREES;
    s.detail.samples = 100;
    assert_string_equal(codes(&s.run, 0), "!counter-disagrees ");
    s.detail.samples = 2; /* too few to know */
    assert_string_equal(codes(&s.run, 0), "");
    s.detail.flags = 0;
    s.windows[0].gap_s = 30;
    assert_string_equal(codes(&s.run, 0), "gap ");
}

static void adds_up_nested_windows(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "other", 0, 0, 0, 0, 100, 16);
    s.windows[0].energy_j[KW_GPU] = measured(57600, 100);
    add_window(&s, "denoise", 0, 90, measured(54000, 100));
    add_window(&s, "decode", 0, 10, measured(3600, 100));
    assert_string_equal(codes(&s.run, 0), "");
    s.windows[2].energy_j[KW_GPU] = measured(5000, 100);
    assert_string_equal(codes(&s.run, 0), "!stages-exceed-whole ");
    s.windows[2] = s.windows[1]; /* another process's, at the same time */
    s.windows[2].duration_s = 95;
    assert_string_equal(codes(&s.run, 0), "");
    s.windows[2].duration_s = 120;
    assert_string_equal(codes(&s.run, 0), "!stages-exceed-whole ");
    s.windows[2].duration_s = 95;
    s.windows[2].note = "never closed";
    assert_string_equal(codes(&s.run, 0), "!window-not-closed ");
    s.windows[2].note = NULL;
}

/* A wide interval is told of where it shows in what people read: of a run, of its mean, of a part that
 * counts. */
static void tells_of_short_windows_that_matter(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "other", 0, 0, 0, 0, 100, 16);
    s.windows[0].energy_j[KW_GPU] = measured(57600, 100);
    add_window(&s, "denoise", 0, 90, measured(54000, 6000));
    add_window(&s, "text_encode", 0, 1, measured(600, 400));
    assert_string_equal(codes(&s.run, 0), "short-window ");
    assert_string_equal(codes(&s.run, 3), ""); /* the mean of three: +-6.4 % */
    s.windows[1].energy_j[KW_GPU] = measured(54000, 5000);
    assert_string_equal(codes(&s.run, 0), ""); /* 400 J of 57600 do not show */
    s.windows[0].energy_j[KW_GPU] = measured(57600, 12000);
    assert_string_equal(codes(&s.run, 0), "short-window ");
    row(&s, "other", 0, 0, 0, 0, 0.5, 0.05);
    assert_string_equal(codes(&s.run, 3), "short-window "); /* nothing is stated: 0.5 s three times */
    assert_string_equal(codes(&s.run, 5), "");
}

static void counts_repeats(void **state)
{
    (void)state;
    struct sample s;
    row(&s, "other", 0, 0, 0, 0, 100, 16);
    assert_string_equal(codes(&s.run, 1), "few-repeats ");
    assert_string_equal(codes(&s.run, 2), "few-repeats ");
    assert_string_equal(codes(&s.run, 3), "");
    s.run.model = NULL; /* three runs of nobody knows what are no repeats */
    s.run.uuid = "one of three";
    assert_string_equal(codes(&s.run, 1), "few-repeats ");
    struct sample other = s;
    kw_error err = {0};
    kw_catalog *catalog;
    struct kw__lint *lint;
    struct kw__finding *found;
    size_t count;
    other.run.uuid = "another";
    other.run.windows = other.windows;
    assert_int_equal(kw_catalog_open(NULL, &catalog, &err), KW_OK);
    assert_int_equal(kw__lint_open(catalog, &lint, &err), KW_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(kw__lint_count(lint, &other.run, &err), KW_OK);
    assert_int_equal(kw__lint_count(lint, &s.run, &err), KW_OK);
    kw__arena_init(&s.run.arena);
    assert_int_equal(kw__lint_run(lint, &s.run, &s.run.arena, &found, &count, &err), KW_OK);
    assert_int_equal(count, 1);
    assert_string_equal(found[0].code, "few-repeats");
    assert_non_null(strstr(found[0].advice, "name what ran"));
    kw__arena_free(&s.run.arena);
    kw__lint_close(lint);
    kw_catalog_close(catalog);
    s.run.model = "other";
    s.setting = (struct kw__run_setting){"repeats", "49"};
    s.run.settings = &s.setting;
    s.run.num_settings = 1;
    assert_string_equal(codes(&s.run, 1), "");
    s.setting.value = "2";
    assert_string_equal(codes(&s.run, 1), "few-repeats ");
    s.setting = (struct kw__run_setting){"run.latency_sd_s", "0.2"};
    assert_string_equal(codes(&s.run, 1), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_papers_slips),
        cmocka_unit_test(judges_power_by_limit_and_idle),
        cmocka_unit_test(finds_units_and_absences_written_as_zero),
        cmocka_unit_test(compares_time_with_the_work),
        cmocka_unit_test(expects_warm_ups_to_be_slow),
        cmocka_unit_test(knows_offloading),
        cmocka_unit_test(knows_which_window_is_the_work),
        cmocka_unit_test(hears_what_the_meter_and_the_device_say),
        cmocka_unit_test(adds_up_nested_windows),
        cmocka_unit_test(tells_of_short_windows_that_matter),
        cmocka_unit_test(counts_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
