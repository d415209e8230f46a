/* Properties that any prediction must have, whatever the calibration says: parts add up, intervals hold
 * their value, power stays between idle and limit, more work takes longer, a lower limit is never
 * faster, and the JSON says what the struct says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kinowatt.h"
#include "support/folder.h"

static kw_catalog *catalog;
static kw_model *small, *large;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) ||
           kw_model_open(catalog, "wan2.1-t2v-1.3b", &small, NULL) ||
           kw_model_open(catalog, "wan2.1-t2v-14b", &large, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(small);
    kw_model_close(large);
    kw_catalog_close(catalog);
    return 0;
}

/* What is predicted: every method, several cards, stacks and requests. */
struct scene {
    int large;
    kw_method method;
    const char *hardware, *stack;
    int64_t width, height, frames, steps, batch;
    double guidance, limit_w;
};

static const struct scene scenes[] = {
    {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 832, 480, 81, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 1280, 720, 81, 50, 1, 5, 500},
    {0, KW_METHOD_KERNEL, "h200", "kinowatt", 832, 480, 81, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "h200", "kinowatt", 256, 256, 1, 1, 1, 1, 0},
    {1, KW_METHOD_KERNEL, "h200", "kinowatt", 1280, 720, 121, 30, 2, 6, 0},
    {0, KW_METHOD_KERNEL, "h100-sxm", "diffusers-0.34", 832, 480, 80, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "h100-sxm", "diffusers-0.34", 16, 16, 1, 1, 1, 5, 0},
    {1, KW_METHOD_KERNEL, "a100-sxm-80gb", "diffusers-0.34", 832, 480, 81, 50, 1, 5, 0},
    {1, KW_METHOD_KERNEL, "b200", "kinowatt", 832, 480, 81, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "mi300x", "diffusers-0.40", 832, 480, 33, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "rtx-4090", "diffusers-0.40", 832, 480, 33, 50, 1, 5, 0},
    {0, KW_METHOD_KERNEL, "cpu", "kinowatt", 256, 256, 17, 4, 1, 5, 0},
    {0, KW_METHOD_FLOPS, "h200", "diffusers-0.40", 832, 480, 81, 50, 1, 5, 0},
    {1, KW_METHOD_FLOPS, "l4", "diffusers-0.40", 832, 480, 81, 50, 1, 5, 0},
    {0, KW_METHOD_PAPER, "h100-sxm", "diffusers-0.34", 832, 480, 81, 50, 1, 5, 0},
};
enum { NUM_SCENES = sizeof scenes / sizeof scenes[0] };

static void ask(const struct scene *s, kw_request *request, kw_predict_options *options)
{
    *request = (kw_request)KW_REQUEST_INIT;
    *options = (kw_predict_options)KW_PREDICT_OPTIONS_INIT;
    request->width = s->width;
    request->height = s->height;
    request->num_frames = s->frames;
    request->num_inference_steps = s->steps;
    request->batch_size = s->batch;
    request->guidance_scale = s->guidance;
    request->power_limit_w = s->limit_w;
    options->method = s->method;
    options->hardware = s->hardware;
    options->stack = s->stack;
}

static kw_prediction *predict(const struct scene *s)
{
    kw_request request;
    kw_predict_options options;
    kw_prediction *p;
    kw_error err;
    ask(s, &request, &options);
    if (kw_predict(catalog, s->large ? large : small, &request, &options, &p, &err))
        fail_msg("%s with %s: %s", s->hardware, s->stack, err.message);
    return p;
}

static void expect_near(const char *what, double got, double wanted)
{
    if (!(fabs(got - wanted) <= 1e-9 * fabs(wanted))) fail_msg("%s: %.17g, not %.17g", what, got, wanted);
}

/* ---- Readings -------------------------------------------------------------------------------------- */

/* An absent figure is NaN with a reason; a known one is finite and inside its interval, if that is known. */
static void expect_reading(const kw_reading *r)
{
    if (r->status == KW_ABSENT) {
        assert_true(isnan(r->value) && isnan(r->low) && isnan(r->high));
        assert_true(r->reason && strlen(r->reason) > 5);
        return;
    }
    assert_null(r->reason);
    assert_true(isfinite(r->value) && r->value >= 0);
    assert_true(isnan(r->low) == isnan(r->high));
    if (!isnan(r->low)) assert_true(r->low <= r->value && r->value <= r->high);
}

static void expect_cost(const kw_cost *c, double idle_w, double limit_w)
{
    expect_reading(&c->latency_s);
    expect_reading(&c->power_w);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        const kw_reading *e = &c->energy_j[d];
        expect_reading(e);
        if (c->latency_s.value == 0) assert_true(e->status == KW_ABSENT || e->value == 0);
        if (e->status == KW_ABSENT) continue;
        assert_true(e->value > 0 || c->latency_s.value == 0);
    }
    const kw_reading *gpu = &c->energy_j[KW_GPU];
    if (c->latency_s.value == 0) assert_int_equal(c->power_w.status, KW_ABSENT);
    if (gpu->status != KW_ABSENT && c->power_w.status != KW_ABSENT) {
        expect_near("energy over time", gpu->value / c->latency_s.value, c->power_w.value);
        if (!isnan(limit_w)) assert_true(c->power_w.value <= limit_w * (1 + 1e-9));
        if (!isnan(idle_w)) assert_true(c->power_w.value >= idle_w * (1 - 1e-9));
        if (!isnan(c->power_w.high) && !isnan(limit_w)) assert_true(c->power_w.high <= limit_w * (1 + 1e-9));
    }
    double parts = c->flop_linear + c->flop_attention + c->flop_conv;
    expect_near("FLOPs by class", parts, c->flop);
    assert_true(c->flop_executed >= 0);
    if (!isnan(c->bytes)) assert_true(c->bytes >= 0 && c->launches >= 0);
}

struct sums {
    double flop, executed, bytes, launches, latency, energy[KW_NUM_DEVICES];
};

static struct sums sum(const kw_cost *costs, size_t count)
{
    struct sums s = {0};
    for (size_t i = 0; i < count; i++) {
        s.flop += costs[i].flop;
        s.executed += costs[i].flop_executed;
        s.bytes += costs[i].bytes;
        s.launches += costs[i].launches;
        s.latency += costs[i].latency_s.value;
        for (int d = 0; d < KW_NUM_DEVICES; d++) s.energy[d] += costs[i].energy_j[d].value;
    }
    return s;
}

static void expect_total(const kw_cost *parts, size_t count, const kw_cost *total, bool reference_too)
{
    struct sums s = sum(parts, count);
    if (reference_too) expect_near("flop", s.flop, total->flop);
    if (reference_too) expect_near("flop_executed", s.executed, total->flop_executed);
    expect_near("latency", s.latency, total->latency_s.value);
    if (!isnan(total->bytes)) expect_near("bytes", s.bytes, total->bytes);
    if (!isnan(total->launches)) expect_near("launches", s.launches, total->launches);
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        if (total->energy_j[d].status != KW_ABSENT)
            expect_near(kw_device_name(d), s.energy[d], total->energy_j[d].value);
}

static void parts_add_up(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_SCENES; i++) {
        kw_prediction *p = predict(&scenes[i]);
        kw_hardware *h;
        assert_int_equal(kw_hardware_open(catalog, scenes[i].hardware, &h, NULL), KW_OK);
        double idle = kw_hardware_get(h, "idle_power_w");
        assert_string_equal(p->stages[0].name, "text_encode");
        assert_string_equal(p->stages[1].name, "denoise");
        assert_string_equal(p->stages[2].name, "decode");
        assert_int_equal(p->num_stages, 3);
        /* the paper's components leave out what it does not know */
        bool paper = p->method == KW_METHOD_PAPER;
        expect_total(p->stages, p->num_stages, &p->total, true);
        expect_total(p->components, p->num_components, &p->total, !paper);
        for (size_t k = 0; k < p->num_stages; k++) expect_cost(&p->stages[k], idle, p->request.power_limit_w);
        for (size_t k = 0; k < p->num_components; k++)
            expect_cost(&p->components[k], idle, p->request.power_limit_w);
        expect_cost(&p->total, idle, p->request.power_limit_w);
        expect_reading(&p->peak_memory_bytes);
        assert_true(p->peak_memory_bytes.value > 1e9);
        kw_hardware_close(h);
        kw_prediction_free(p);
    }
}

/* Nobody measured the host of an L4 or the power of this machine's CPU: absent, and never 0. */
static void absent_is_not_zero(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_SCENES; i++) {
        kw_prediction *p = predict(&scenes[i]);
        if (strcmp(scenes[i].hardware, "cpu") == 0) {
            assert_int_equal(p->total.energy_j[KW_GPU].status, KW_ABSENT);
            assert_int_equal(p->total.power_w.status, KW_ABSENT);
            assert_true(isnan(p->request.power_limit_w));
        } else {
            assert_int_equal(p->total.energy_j[KW_GPU].status, KW_MODELLED);
        }
        if (p->method != KW_METHOD_KERNEL || strcmp(scenes[i].hardware, "b200") == 0) {
            assert_int_equal(p->total.energy_j[KW_CPU].status, KW_ABSENT);
            assert_int_equal(p->total.energy_j[KW_RAM].status, KW_ABSENT);
        }
        kw_prediction_free(p);
    }
}

static void a_card_of_unknown_power(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[FOLDER_BYTES + 16];
    folder_copy("data/hardware", folder);
    folder_set(folder, "h200.json", "values.power_limit_w", NULL);
    folder_set(folder, "h200.json", "values.idle_power_w", NULL);
    snprintf(path, sizeof path, "%s/h200.json", folder);
    for (int method = KW_METHOD_KERNEL; method <= KW_METHOD_FLOPS; method++) {
        struct scene s = {0, (kw_method)method, path, "diffusers-0.40", 832, 480, 33, 10, 1, 5, 0};
        kw_prediction *p = predict(&s);
        assert_int_equal(p->total.latency_s.status, KW_MODELLED);
        expect_cost(&p->total, (double)NAN, (double)NAN);
        assert_int_equal(p->total.energy_j[KW_GPU].status, KW_ABSENT);
        assert_int_equal(p->total.power_w.status, KW_ABSENT);
        kw_prediction_free(p);
    }
    folder_remove(folder);
}

/* ---- Waiting for the host ----- */

/* Seconds of the text encoder, where the card waits for the next kernel, and of a step, where it does not. */
static void seconds_of_stages(const char *folder, double *text_s, double *denoise_s)
{
    char path[FOLDER_BYTES + 40];
    kw_request request;
    kw_predict_options options;
    kw_prediction *p;
    kw_error err;
    ask(&scenes[0], &request, &options);
    snprintf(path, sizeof path, "%s/diffusers-0.40@h200.json", folder);
    options.calibration = path;
    if (kw_predict(catalog, small, &request, &options, &p, &err)) fail_msg("%s", err.message);
    *text_s = p->stages[0].latency_s.value;
    *denoise_s = p->stages[1].latency_s.value;
    kw_prediction_free(p);
}

static void small_kernels_wait_for_the_host(void **state)
{
    (void)state;
    const char *file = "diffusers-0.40@h200.json";
    char folder[FOLDER_BYTES];
    double text_s, denoise_s, slow_text_s, slow_denoise_s;
    folder_copy("data/calibrations", folder);
    folder_set(folder, file, "launch.dispatch_seconds", "5e-5");
    seconds_of_stages(folder, &text_s, &denoise_s);
    folder_set(folder, file, "launch.dispatch_seconds", "1e-4");
    seconds_of_stages(folder, &slow_text_s, &slow_denoise_s);
    /* the norm of order 8 of device and launches: of the text encoder the card has a third at most, of a step
     * the launches have 0.4 at most */
    assert_float_equal(slow_text_s / text_s, 2, 2 * 0.125 * pow(1 / 3.0, 8));
    assert_float_equal(slow_denoise_s / denoise_s, 1, 0.125 * pow(0.4, 8));
    /* the same by the parameter; without one the seconds stand as they are */
    folder_set(folder, file, "launch.dispatch_seconds", "5e-5");
    folder_set(folder, file, "parameters.dispatch.log_value", "0");
    seconds_of_stages(folder, &text_s, &denoise_s);
    folder_set(folder, file, "parameters.dispatch.log_value", "0.6931471805599453");
    seconds_of_stages(folder, &slow_text_s, &slow_denoise_s);
    assert_float_equal(slow_text_s / text_s, 2, 2 * 0.125 * pow(1 / 3.0, 8));
    folder_set(folder, file, "launch.dispatch_parameter", NULL);
    seconds_of_stages(folder, &slow_text_s, &slow_denoise_s);
    assert_float_equal(slow_text_s, text_s, 1e-9);
    folder_remove(folder);
}

/* ---- Kernels of which a block has a group, or a row ------------------------------------------------ */

/* Seconds and joules of a step of CogVideoX-2b and of its decoder. */
struct costs {
    double step_s, step_j, decode_s, decode_j;
};

/* With the H200's calibration of a folder. */
static struct costs cogvideox_costs(const char *folder, const char *hardware)
{
    char path[FOLDER_BYTES + 40];
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_model *model;
    kw_prediction *p;
    kw_error err;
    snprintf(path, sizeof path, "%s/diffusers-0.40@h200.json", folder);
    options.hardware = hardware;
    options.stack = "diffusers-0.40";
    options.calibration = path;
    request.num_inference_steps = 1;
    if (kw_model_open(catalog, "cogvideox-2b", &model, &err)) fail_msg("%s", err.message);
    if (kw_predict(catalog, model, &request, &options, &p, &err)) fail_msg("%s", err.message);
    const kw_cost *denoise = &p->stages[1], *decode = &p->stages[2];
    struct costs costs = {denoise->latency_s.value, denoise->energy_j[KW_GPU].value, decode->latency_s.value,
                          decode->energy_j[KW_GPU].value};
    kw_prediction_free(p);
    kw_model_close(model);
    return costs;
}

static void few_blocks_leave_processors_idle(void **state)
{
    (void)state;
    const char *file = "diffusers-0.40@h200.json";
    char folder[FOLDER_BYTES];
    folder_copy("data/calibrations", folder);
    folder_set(folder, file, "walk.elements_per_s", "1e9");
    folder_set(folder, file, "walk.blocks_per_s", "7e6");
    folder_set(folder, file, "walk.idle_share", "0.2");
    folder_set(folder, file, "walk.full_share", "0.6");
    folder_set(folder, file, "power.busy_share", "0.9");
    folder_set(folder, file, "parameters.busy_power.log_value", "0");
    folder_set(folder, file, "launch.dispatch_seconds", "1e-9"); /* nothing waits for the host */
    struct costs a = cogvideox_costs(folder, "h200"), b;
    /* The decoder normalises 44.83 G elements, as ATen's operators of AutoencoderKLCogVideoX.decode say with
     * their shapes, in 32 groups of one clip: 32 of 132 processors are at it. */
    folder_set(folder, file, "walk.elements_per_s", "5e8");
    b = cogvideox_costs(folder, "h200");
    assert_float_equal(b.decode_s - a.decode_s, 44.83e9 / 32 / 1e9, 0.001 * 1.401);
    assert_float_equal((b.decode_j - a.decode_j) / (b.decode_s - a.decode_s), 700 * (0.2 + 0.4 * 32 / 132),
                       1e-6);
    assert_float_equal(b.step_s, a.step_s, 1e-9);
    /* Two layer norms a block of 2 x 17,776 x 30 rows of 64 channels, over 132 processors; the others' rows
     * are long enough to be bound by memory. */
    folder_set(folder, file, "walk.elements_per_s", "1e9");
    folder_set(folder, file, "walk.blocks_per_s", "3.5e6");
    b = cogvideox_costs(folder, "h200");
    assert_float_equal(b.step_s - a.step_s, 30 * 2 * ceil(2 * 17776 * 30 / 132.0) / 7e6, 1e-6);
    assert_float_equal((b.step_j - a.step_j) / (b.step_s - a.step_s), 700 * 0.9, 1e-6);
    assert_float_equal(b.decode_s, a.decode_s, 1e-9);
    /* without it they are bound by memory */
    folder_set(folder, file, "walk", NULL);
    b = cogvideox_costs(folder, "h200");
    assert_true(b.step_s < a.step_s && b.decode_s < a.decode_s);
    folder_remove(folder);
}

/* ---- The session that a calibration is of --------------------------------------------------------- */

static void one_session_is_the_machine(void **state)
{
    (void)state;
    const char
        *file = "diffusers-0.40@h200.json",
        *one = "{\"a\": {\"log_time\": 0.03, \"log_power\": 0.01}}",
        *two =
            "{\"a\": {\"log_time\": 0.03, \"log_power\": 0.01}, \"b\": {\"log_time\": 0, \"log_power\": 0}}";
    char folder[FOLDER_BYTES];
    folder_copy("data/calibrations", folder);
    folder_set(folder, file, "power.busy_share", "0.9");
    folder_set(folder, file, "sessions", "{}");
    struct costs none = cogvideox_costs(folder, "h200"), elsewhere = cogvideox_costs(folder, "h100-sxm");
    folder_set(folder, file, "sessions", two);
    struct costs both = cogvideox_costs(folder, "h200");
    assert_float_equal(both.step_s, none.step_s, 1e-12);
    assert_float_equal(both.step_j, none.step_j, 1e-9);
    /* more power is more speed by half of it */
    folder_set(folder, file, "sessions", one);
    struct costs alone = cogvideox_costs(folder, "h200");
    assert_float_equal(log(alone.step_s / none.step_s), 0.03 - 0.005, 1e-9);
    assert_float_equal(log(alone.step_j / none.step_j), 0.03 + 0.005, 1e-9);
    assert_float_equal(log(alone.decode_s / none.decode_s), 0.03 - 0.005, 1e-9);
    /* no power beyond the limit: 0.9 of it by exp(0.2) */
    folder_set(folder, file, "sessions", "{\"a\": {\"log_time\": 0, \"log_power\": 0.2}}");
    alone = cogvideox_costs(folder, "h200");
    assert_true(alone.step_j / alone.step_s <= 700 * (1 + 1e-9));
    assert_true(alone.step_j / alone.step_s > 690);
    /* another hardware is another machine */
    folder_set(folder, file, "sessions", one);
    alone = cogvideox_costs(folder, "h100-sxm");
    assert_float_equal(alone.step_s, elsewhere.step_s, 1e-12);
    folder_remove(folder);
}

/* ---- More work takes longer ------------------------------------------------------------------------ */

static double latency(const struct scene *s)
{
    kw_prediction *p = predict(s);
    double seconds = p->total.latency_s.value;
    kw_prediction_free(p);
    return seconds;
}

static void latency_grows_with_the_work(void **state)
{
    (void)state;
    static const char *const places[][2] = {
        {"h200", "diffusers-0.40"}, {"h100-sxm", "diffusers-0.34"}, {"h200", "kinowatt"}};
    static const int64_t frames[] = {1, 5, 17, 49, 81, 129}, steps[] = {1, 2, 10, 50, 100};
    static const int64_t sizes[][2] = {{16, 16}, {256, 256}, {480, 480}, {832, 480}, {1280, 720}};
    for (int place = 0; place < 3; place++)
        for (int method = KW_METHOD_KERNEL; method <= KW_METHOD_PAPER; method++) {
            struct scene base = {
                0, (kw_method)method, places[place][0], places[place][1], 832, 480, 33, 20, 1, 5, 0};
            double before = 0;
            if (method == KW_METHOD_PAPER && strcmp(base.hardware, "h100-sxm") != 0) continue;
            if (method == KW_METHOD_FLOPS && strcmp(base.stack, "diffusers-0.40") != 0) continue;
            for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
                struct scene s = base;
                s.frames = frames[i];
                double now = latency(&s);
                assert_true(now > before);
                before = now;
            }
            before = 0;
            for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
                struct scene s = base;
                s.steps = steps[i];
                double now = latency(&s);
                assert_true(now > before);
                before = now;
            }
            before = 0;
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct scene s = base;
                s.width = sizes[i][0];
                s.height = sizes[i][1];
                double now = latency(&s);
                assert_true(now > before);
                before = now;
            }
            if (method == KW_METHOD_PAPER) continue; /* its form has two passes and one clip */
            struct scene one_pass = base, batch = base, big = base;
            one_pass.guidance = 1;
            batch.batch = 2;
            big.large = 1;
            assert_true(latency(&one_pass) < latency(&base));
            assert_true(latency(&batch) > latency(&base));
            assert_true(latency(&big) > latency(&base));
        }
}

/* Denoise is steps times a step: twice the steps, twice the stage, but for what is done once. */
static void steps_are_alike(void **state)
{
    (void)state;
    struct scene s = {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 832, 480, 81, 25, 1, 5, 0};
    kw_prediction *a = predict(&s);
    s.steps = 50;
    kw_prediction *b = predict(&s);
    expect_near("denoise", b->stages[1].latency_s.value, 2 * a->stages[1].latency_s.value);
    expect_near("text", b->stages[0].latency_s.value, a->stages[0].latency_s.value);
    expect_near("decode", b->stages[2].latency_s.value, a->stages[2].latency_s.value);
    kw_prediction_free(a);
    kw_prediction_free(b);
}

static void a_lower_limit_never_shortens(void **state)
{
    (void)state;
    static const struct scene places[] = {
        {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 832, 480, 33, 10, 1, 5, 0},
        {0, KW_METHOD_KERNEL, "h100-sxm", "diffusers-0.34", 1280, 720, 33, 10, 1, 5, 0},
        {1, KW_METHOD_KERNEL, "h200", "kinowatt", 832, 480, 33, 10, 1, 5, 0},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct scene s = places[i];
        double free_running = latency(&s), before = free_running;
        s.limit_w = 900; /* above what the card has: nothing changes */
        expect_near("limit above", latency(&s), free_running);
        for (s.limit_w = 700; s.limit_w >= 400; s.limit_w -= 50) {
            kw_prediction *p = predict(&s);
            double now = p->total.latency_s.value;
            if (now < before * (1 - 1e-12)) fail_msg("%g s at %g W, %g s above", now, s.limit_w, before);
            assert_true(p->total.power_w.value <= s.limit_w * (1 + 1e-9));
            expect_near("limit", p->request.power_limit_w, s.limit_w);
            before = now;
            kw_prediction_free(p);
        }
        assert_true(before > free_running);
    }
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static void expect_json_number(const json_t *object, const char *key, double wanted)
{
    const json_t *value = json_object_get(object, key);
    if (!value) fail_msg("JSON has no \"%s\"", key);
    if (isnan(wanted)) {
        if (!json_is_null(value)) fail_msg("JSON: \"%s\" is not null", key);
        return;
    }
    double got = json_number_value(value);
    if (!json_is_number(value) || fabs(got - wanted) > 1e-13 * fabs(wanted))
        fail_msg("JSON: \"%s\" is %.17g, not %.17g", key, got, wanted);
}

static void expect_json_reading(const json_t *object, const char *key, const kw_reading *r, double factor)
{
    const json_t *value = json_object_get(object, key);
    if (!value) fail_msg("JSON has no \"%s\"", key);
    if (r->status == KW_ABSENT) {
        assert_true(json_is_null(value));
        return;
    }
    expect_json_number(value, "value", factor * r->value);
    expect_json_number(value, "low", factor * r->low);
    expect_json_number(value, "high", factor * r->high);
}

static void expect_json_text(const json_t *object, const char *key, const char *wanted)
{
    const char *got = json_string_value(json_object_get(object, key));
    if (!got || strcmp(got, wanted) != 0)
        fail_msg("JSON: \"%s\" is %s, not %s", key, got ? got : "none", wanted);
}

static void expect_json_cost(const json_t *object, const kw_cost *c)
{
    expect_json_text(object, "name", c->name);
    expect_json_number(object, "flop", c->flop);
    expect_json_number(object, "flop_executed", c->flop_executed);
    expect_json_number(object, "flop_linear", c->flop_linear);
    expect_json_number(object, "flop_attention", c->flop_attention);
    expect_json_number(object, "flop_conv", c->flop_conv);
    expect_json_number(object, "bytes", c->bytes);
    expect_json_text(object, "regime", kw_regime_name(c->regime));
    expect_json_reading(object, "latency_s", &c->latency_s, 1);
    expect_json_reading(object, "power_w", &c->power_w, 1);
    const json_t *energy = json_object_get(object, "energy_j");
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        expect_json_reading(energy, kw_device_name(d), &c->energy_j[d], 1);
        if (c->energy_j[d].status == KW_ABSENT)
            expect_json_text(json_object_get(object, "absent"), kw_device_name(d), c->energy_j[d].reason);
    }
    const json_t *phases = json_object_get(object, "phases");
    assert_int_equal(json_array_size(phases), c->num_phases);
    for (size_t i = 0; i < c->num_phases; i++) {
        expect_json_text(json_array_get(phases, i), "name", c->phases[i].name);
        expect_json_number(json_array_get(phases, i), "calls", (double)c->phases[i].calls);
        expect_json_number(json_array_get(phases, i), "flop", c->phases[i].flop);
    }
}

static void expect_json_request(const json_t *object, const kw_effective *r)
{
    expect_json_number(object, "width", (double)r->width);
    expect_json_number(object, "height", (double)r->height);
    expect_json_number(object, "num_frames", (double)r->num_frames);
    expect_json_number(object, "num_inference_steps", (double)r->num_inference_steps);
    expect_json_number(object, "guidance_scale", r->guidance_scale);
    expect_json_number(object, "batch_size", (double)r->batch_size);
    expect_json_number(object, "prompt_tokens", (double)r->prompt_tokens);
    expect_json_number(object, "negative_tokens", (double)r->negative_tokens);
    expect_json_number(object, "latent_frames", (double)r->latent_frames);
    expect_json_number(object, "tokens", (double)r->tokens);
    expect_json_number(object, "num_gpus", 1);
    expect_json_number(object, "power_limit_w", r->power_limit_w);
}

static void json_says_what_the_struct_says(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_SCENES; i++) {
        kw_prediction *p = predict(&scenes[i]);
        kw_error err;
        json_error_t problem;
        char *text;
        if (kw_prediction_to_json(p, &text, &err)) fail_msg("%s", err.message);
        size_t length = strlen(text);
        assert_true(length > 2 && text[length - 1] == '\n' && text[length - 2] == '}');
        json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &problem);
        if (!root) fail_msg("line %d: %s", problem.line, problem.text);
        expect_json_text(root, "schema", "kinowatt.prediction/1");
        expect_json_text(root, "model", p->model);
        expect_json_text(root, "hardware", p->hardware);
        expect_json_text(root, "stack", p->stack);
        expect_json_text(root, "method", kw_method_name(p->method));
        expect_json_request(json_object_get(root, "request"), &p->request);
        const json_t *stages = json_object_get(root, "stages"),
                     *components = json_object_get(root, "components");
        assert_int_equal(json_array_size(stages), p->num_stages);
        assert_int_equal(json_array_size(components), p->num_components);
        for (size_t k = 0; k < p->num_stages; k++) expect_json_cost(json_array_get(stages, k), &p->stages[k]);
        for (size_t k = 0; k < p->num_components; k++)
            expect_json_cost(json_array_get(components, k), &p->components[k]);
        const json_t *total = json_object_get(root, "total"), *wh = json_object_get(total, "energy_wh");
        expect_json_cost(total, &p->total);
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            expect_json_reading(wh, kw_device_name(d), &p->total.energy_j[d], 1.0 / 3600);
        expect_json_reading(total, "peak_memory_bytes", &p->peak_memory_bytes, 1);
        assert_int_equal(json_array_size(json_object_get(root, "assumptions")), p->num_assumptions);
        assert_int_equal(json_array_size(json_object_get(root, "warnings")), p->num_warnings);
        json_decref(root);
        free(text);
        kw_prediction_free(p);
    }
}

/* A folder's path may hold bytes that are no UTF-8; JSON may not. */
static void a_path_that_is_no_utf8(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], odd[FOLDER_BYTES + 8], *text;
    kw_model *model;
    kw_prediction *p;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    snprintf(odd, sizeof odd, "%s-\xff\"x", folder);
    if (rename(folder, odd) != 0) {
        folder_remove(folder);
        skip(); /* a file system of UTF-8 names alone */
    }
    if (kw_model_open(catalog, odd, &model, &err)) fail_msg("%s", err.message);
    if (kw_predict(catalog, model, &request, &options, &p, &err)) fail_msg("%s", err.message);
    if (kw_prediction_to_json(p, &text, &err)) fail_msg("%s", err.message);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_non_null(strstr(json_string_value(json_object_get(root, "model")), "-?\"x"));
    json_decref(root);
    free(text);
    kw_prediction_free(p);
    kw_model_close(model);
    folder_remove(odd);
}

/* ---- The bill ----------------------------------------------------------------------------------------- */

static void the_bill_adds_up(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_SCENES; i++) {
        kw_request request;
        kw_predict_options options;
        kw_bill *bill;
        kw_error err;
        double time = 0, energy = 0, flop = 0, bytes = 0, launches = 0;
        ask(&scenes[i], &request, &options);
        if (kw_explain(catalog, scenes[i].large ? large : small, &request, &options, &bill, &err))
            fail_msg("%s", err.message);
        const kw_cost *total = &bill->prediction->total;
        for (size_t k = 0; k < bill->num_lines; k++) {
            const kw_bill_line *line = &bill->lines[k];
            time += line->latency_s;
            energy += line->gpu_energy_j;
            flop += line->flop_executed;
            bytes += line->bytes;
            launches += line->launches;
            assert_true(line->calls > 0 && line->op && line->component && line->stage && line->kernel_class);
            if (line->bytes > 0) expect_near("intensity", line->intensity, line->flop_executed / line->bytes);
            /* the largest first within a component of a stage */
            const kw_bill_line *above = k ? line - 1 : NULL;
            if (above && above->stage == line->stage && above->component == line->component)
                assert_true(!(above->latency_s < line->latency_s));
        }
        if (options.method == KW_METHOD_KERNEL) {
            expect_near("time", time, total->latency_s.value);
            expect_near("flop", flop, total->flop_executed);
            expect_near("bytes", bytes, total->bytes);
            expect_near("launches", launches, total->launches);
            if (total->energy_j[KW_GPU].status != KW_ABSENT)
                expect_near("energy", energy, total->energy_j[KW_GPU].value);
            else
                assert_true(isnan(energy));
        } else {
            assert_true(isnan(time) && isnan(energy));
        }
        kw_bill_free(bill);
    }
}

/* Rewrites save work, and never change what the reference counts. */
static void a_stack_does_not_change_the_reference(void **state)
{
    (void)state;
    struct scene s = {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 832, 480, 33, 10, 1, 5, 0};
    kw_prediction *eager = predict(&s);
    s.stack = "kinowatt";
    kw_prediction *fused = predict(&s);
    expect_near("flop", fused->total.flop, eager->total.flop);
    expect_near("eager runs the reference", eager->total.flop_executed, eager->total.flop);
    assert_true(fused->total.flop_executed < eager->total.flop_executed);
    assert_true(fused->total.launches < eager->total.launches);
    assert_true(fused->total.bytes < eager->total.bytes);
    assert_true(fused->total.latency_s.value < eager->total.latency_s.value);
    kw_prediction_free(eager);
    kw_prediction_free(fused);
}

/* ---- What is refused ------------------------------------------------------------------------------- */

static void expect_refusal(const struct scene *s, kw_status status, const char *word)
{
    kw_request request;
    kw_predict_options options;
    kw_prediction *p = NULL;
    kw_bill *bill = NULL;
    kw_error err;
    ask(s, &request, &options);
    const kw_model *model = s->large ? large : small;
    if (kw_predict(catalog, model, &request, &options, &p, &err) != status)
        fail_msg("%s: %s", word, err.message);
    if (!strstr(err.message, word)) fail_msg("no \"%s\" in: %s", word, err.message);
    assert_int_equal(kw_explain(catalog, model, &request, &options, &bill, NULL), status);
    assert_true(!p && !bill);
}

static void refusals(void **state)
{
    (void)state;
    const struct scene good = scenes[0];
    struct scene s = {1, KW_METHOD_PAPER, "h100-sxm", "diffusers-0.34", 832, 480, 81, 50, 1, 5, 0};
    expect_refusal(&s, KW_ERROR_UNSUPPORTED, "WAN2.1-T2V-1.3B"); /* 14B */
    s.large = 0;
    s.hardware = "h200";
    expect_refusal(&s, KW_ERROR_UNSUPPORTED, "h200");
    s.hardware = "h100-sxm";
    s.limit_w = 400;
    expect_refusal(&s, KW_ERROR_UNSUPPORTED, "power-limit");
    s = good;
    s.method = KW_METHOD_FLOPS;
    s.limit_w = 400;
    expect_refusal(&s, KW_ERROR_UNSUPPORTED, "power-limit");
    s = good;
    s.hardware = "h20";
    expect_refusal(&s, KW_ERROR_NOT_FOUND, "did you mean \"h200\"");
    s = good;
    s.stack = "difusers-0.40";
    expect_refusal(&s, KW_ERROR_NOT_FOUND, "did you mean \"diffusers-0.40\"");
    s = good;
    s.limit_w = 20;
    expect_refusal(&s, KW_ERROR_USAGE, "power-limit");
    s = good;
    s.width = 1000;
    expect_refusal(&s, KW_ERROR_USAGE, "try 992 or 1008");
    s = good;
    s.method = (kw_method)9;
    expect_refusal(&s, KW_ERROR_USAGE, "method");

    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p;
    kw_error err;
    options.calibration = "diffusers-0.40@h20";
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, &err), KW_ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean \"diffusers-0.40@h200\""));
    options = (kw_predict_options)KW_PREDICT_OPTIONS_INIT;
    options.struct_size = 1;
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, &err), KW_ERROR_USAGE);
    kw_method method;
    assert_int_equal(kw_method_parse("flop", &method, &err), KW_ERROR_USAGE);
    assert_int_equal(kw_method_parse("flops", &method, &err), KW_OK);
    assert_int_equal(method, KW_METHOD_FLOPS);
}

static int has_text(const char *const *list, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(list[i], word)) return 1;
    return 0;
}

static void warnings_say_what_is_stretched(void **state)
{
    (void)state;
    struct scene s = {0, KW_METHOD_KERNEL, "l4", "diffusers-0.40", 832, 480, 80, 50, 1, 5, 0};
    kw_prediction *p = predict(&s);
    assert_true(has_text(p->warnings, p->num_warnings, "81 frames of the 80 asked for"));
    assert_true(has_text(p->warnings, p->num_warnings, "stands in"));
    kw_prediction_free(p);
    s.large = 1; /* 28.6 GB of weights on a card of 24 GB */
    p = predict(&s);
    assert_true(has_text(p->warnings, p->num_warnings, "will not fit without offloading"));
    kw_prediction_free(p);

    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, NULL), KW_OK);
    assert_true(has_text(p->assumptions, p->num_assumptions, "h100-sxm (the default)"));
    assert_true(has_text(p->assumptions, p->num_assumptions, "diffusers-0.34 (the default)"));
    kw_prediction_free(p);
}

/* The memory of a request beside the card's, 85.5 GB: above, between the interval's ends, and below. */
static void memory_warnings_follow_the_interval(void **state)
{
    (void)state;
    const struct {
        const char *model;
        int64_t size; /* 0: the default */
        const char *text;
    } cases[] = {{"cogvideox-2b", 8192, "will not fit even with offloading"},
                 {"wan2.2-t2v-a14b", 0, "may not fit without offloading"},
                 {"cogvideox-2b", 0, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_model *model;
        kw_prediction *p;
        kw_request request = KW_REQUEST_INIT;
        kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
        request.width = request.height = cases[i].size;
        options.hardware = "h100-sxm";
        options.stack = "diffusers-0.34";
        assert_int_equal(kw_model_open(catalog, cases[i].model, &model, NULL), KW_OK);
        assert_int_equal(kw_predict(catalog, model, &request, &options, &p, NULL), KW_OK);
        assert_int_equal(has_text(p->warnings, p->num_warnings, cases[i].text ? cases[i].text : "not fit"),
                         cases[i].text != NULL);
        kw_prediction_free(p);
        kw_model_close(model);
    }
}

/* The farther a calibration is carried, the wider its interval. */
static void carrying_widens_the_interval(void **state)
{
    (void)state;
    struct scene s = {0, KW_METHOD_KERNEL, "h200", "diffusers-0.40", 832, 480, 81, 50, 1, 5, 0};
    kw_prediction *home = predict(&s);
    s.hardware = "b200";
    kw_prediction *away = predict(&s);
    double near = home->total.latency_s.high / home->total.latency_s.value;
    double far = away->total.latency_s.high / away->total.latency_s.value;
    assert_true(far > near);
    kw_prediction_free(home);
    kw_prediction_free(away);
}

/* Whoever names a calibration need not say again what it is of; saying otherwise is not passed over. */
static void a_calibration_names_hardware_and_stack(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p, *full;
    kw_error err;
    options.calibration = "diffusers-0.40@h200";
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, NULL), KW_OK);
    assert_string_equal(p->hardware, "h200");
    assert_string_equal(p->stack, "diffusers-0.40");
    assert_true(has_text(p->assumptions, p->num_assumptions, "h200 (the calibration's)"));
    assert_false(has_text(p->warnings, p->num_warnings, "intervals are wider"));
    options.hardware = "h200";
    options.stack = "diffusers-0.40";
    assert_int_equal(kw_predict(catalog, small, &request, &options, &full, NULL), KW_OK);
    assert_float_equal(p->total.latency_s.value, full->total.latency_s.value, 0);
    assert_float_equal(p->total.latency_s.high, full->total.latency_s.high, 0);
    kw_prediction_free(full);
    kw_prediction_free(p);

    options.hardware = "h100-sxm"; /* the stack is still its own */
    options.stack = NULL;
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, NULL), KW_OK);
    assert_string_equal(p->stack, "diffusers-0.40");
    assert_true(has_text(p->warnings, p->num_warnings, "is not of diffusers-0.40 on h100-sxm"));
    kw_prediction_free(p);

    options.hardware = "cpu"; /* a share of what a card can do is none of a processor */
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, &err), KW_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "is of a GPU and says nothing of cpu"));
    options.hardware = NULL;
    options.method = KW_METHOD_PAPER;
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, &err), KW_ERROR_USAGE);

    options = (kw_predict_options)KW_PREDICT_OPTIONS_INIT;
    options.hardware = "cpu"; /* where our engine alone runs */
    assert_int_equal(kw_predict(catalog, small, &request, &options, &p, &err), KW_OK);
    assert_int_equal(strncmp(p->stack, "kinowatt-cpu", 12), 0);
    kw_prediction_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(absent_is_not_zero),
        cmocka_unit_test(a_card_of_unknown_power),
        cmocka_unit_test(small_kernels_wait_for_the_host),
        cmocka_unit_test(few_blocks_leave_processors_idle),
        cmocka_unit_test(one_session_is_the_machine),
        cmocka_unit_test(latency_grows_with_the_work),
        cmocka_unit_test(steps_are_alike),
        cmocka_unit_test(a_lower_limit_never_shortens),
        cmocka_unit_test(json_says_what_the_struct_says),
        cmocka_unit_test(a_path_that_is_no_utf8),
        cmocka_unit_test(the_bill_adds_up),
        cmocka_unit_test(a_stack_does_not_change_the_reference),
        cmocka_unit_test(refusals),
        cmocka_unit_test(warnings_say_what_is_stretched),
        cmocka_unit_test(memory_warnings_follow_the_interval),
        cmocka_unit_test(carrying_widens_the_interval),
        cmocka_unit_test(a_calibration_names_hardware_and_stack),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
