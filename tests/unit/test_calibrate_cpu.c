/* Calibrating this CPU, with timings that are made up: known efficiencies come back from them, through the
 * file, whatever noise and disturbed runs lie on top; nothing here depends on how fast this machine is. */
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
#include <unistd.h>

#include "base/time.h"
#include "graph/stack.h"
#include "hardware/hardware.h"
#include "model/catalog.h"
#include "predict/calibrate_cpu.h"
#include "predict/price.h"
#include "support/folder.h"

/* A made-up machine. */
static const double flop_per_s = 4e12, bytes_per_s = 5e10, call_s = 2e-7;

static double efficiency(const struct kw__work *w)
{
    double rows = w->size;
    return strncmp(w->key, "gemm", 4) == 0 ? rows / (rows + 100) : 0.25;
}

static double true_seconds(const struct kw__work *w)
{
    double s = w->flop > 0 ? w->flop / (flop_per_s * efficiency(w)) : w->memory_bytes / bytes_per_s;
    return s + call_s;
}

static uint32_t seed = 1;
static double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / 16777216.0;
}

static void add(struct kw__micro_samples *s, const char *key, double size, double flop, double bytes,
                double noise)
{
    struct kw__micro_sample *list = realloc(s->list, (s->count + 1) * sizeof *list);
    assert_non_null(list);
    s->list = list;
    struct kw__micro_sample *one = &list[s->count++];
    *one = (struct kw__micro_sample){.work = {.size = size, .flop = flop, .launches = 1}};
    snprintf(one->work.key, sizeof one->work.key, "%s", key);
    if (flop > 0)
        one->work.main_bytes = bytes;
    else
        one->work.memory_bytes = bytes;
    one->seconds = true_seconds(&one->work) * exp(noise * (2 * uniform() - 1));
}

static void make_samples(struct kw__micro_samples *s, double noise)
{
    static const double rows[] = {1, 4, 16, 64, 256, 1024, 4096};
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < 8; k++) {
            add(s, "gemm/bf16/n512", rows[i], rows[i] * (k + 1) * 5e5, 1e5, noise);
            add(s, "attention/bf16/hd128", rows[i], rows[i] * (k + 1) * 1e6, 1e5, noise);
            add(s, "conv/bf16/c96/k27", 1e3 * rows[i], rows[i] * (k + 1) * 1e7, 1e5, noise);
            add(s, "norm/bf16/layernorm", 1e4 * rows[i], 0, 1e4 * rows[i], noise);
        }
    add(s, "copy/bf16/cast", 100, 0, 100, 0); /* a call, and hardly more */
    for (int k = 0; k < 8; k++) add(s, "copy/bf16/cast", 100, 0, 100, 0);
}

static const struct kw__cpu_description machine = {"kinowatt-cpu", "Made Up 9000", "2026-01-01", 2};

static json_t *calibrate(double noise)
{
    struct kw__micro_samples samples = {.drift = 0.01};
    json_t *document = NULL;
    kw_error err;
    make_samples(&samples, noise);
    if (kw__calibrate_cpu(&samples, &machine, &document, &err)) fail_msg("%s", err.message);
    kw__micro_free(&samples);
    return document;
}

/* FLOP/s of a curve's knot that is nearest to a size. */
static double rate_at(const json_t *document, const char *key, double size)
{
    const json_t *m = json_object_get(document, "machine"),
                 *curve = json_object_get(json_object_get(json_object_get(document, "rates"), key), "curve");
    bool bytes = strncmp(key, "norm", 4) == 0;
    double peak = json_number_value(json_object_get(m, bytes ? "bytes_per_s" : "bf16_flop_per_s"));
    double best = INFINITY, found = NAN;
    for (size_t i = 0; i < json_array_size(curve); i++) {
        double at = json_number_value(json_array_get(json_array_get(curve, i), 0));
        if (fabs(log(at / size)) >= best) continue;
        best = fabs(log(at / size));
        found = peak * json_number_value(json_array_get(json_array_get(curve, i), 1));
    }
    return found;
}

static void expect_within(const char *what, double got, double wanted, double tolerance)
{
    if (!(fabs(log(got / wanted)) <= tolerance)) fail_msg("%s: %g, not %g", what, got, wanted);
}

static void test_recovers(void **state)
{
    (void)state;
    static const double noises[] = {0, 0.1};
    for (int n = 0; n < 2; n++) {
        json_t *d = calibrate(noises[n]);
        double tolerance = 0.03 + noises[n];
        for (double rows = 16; rows <= 4096; rows *= 4)
            expect_within("gemm", rate_at(d, "gemm/bf16/n512", rows), flop_per_s * rows / (rows + 100),
                          tolerance);
        expect_within("attention", rate_at(d, "attention/bf16/hd128", 1024), 0.25 * flop_per_s, tolerance);
        expect_within("conv", rate_at(d, "conv/bf16/c96/k27", 1e6), 0.25 * flop_per_s, tolerance);
        expect_within("norm", rate_at(d, "norm/bf16/layernorm", 4e7), bytes_per_s, tolerance);
        json_decref(d);
    }
}

/* Operators of one key and size that are not equally fast take together what they took. */
static void test_sums(void **state)
{
    (void)state;
    static const struct {
        double flop, seconds;
    } products[] = {{3e9, 3e-3}, {1e9, 4e-3}};
    struct kw__micro_samples samples = {.drift = 0.01};
    json_t *document = NULL;
    kw_error err;
    double flop = 0, seconds = 0;
    for (int k = 0; k < 9; k++) add(&samples, "copy/bf16/cast", 100, 0, 100, 0);
    for (int k = 0; k < 2; k++) {
        add(&samples, "gemm/bf16/n512", 1000, products[k].flop, 1e5, 0);
        samples.list[samples.count - 1].seconds = products[k].seconds;
        flop += products[k].flop;
        seconds += products[k].seconds;
    }
    assert_int_equal(kw__calibrate_cpu(&samples, &machine, &document, &err), KW_OK);
    expect_within("both", rate_at(document, "gemm/bf16/n512", 1000), flop / seconds, 0.01);
    json_decref(document);
    kw__micro_free(&samples);
}

/* No energy is claimed, and none is 0. */
static void test_no_power(void **state)
{
    (void)state;
    json_t *d = calibrate(0);
    assert_null(json_object_get(d, "power"));
    assert_true(json_is_null(json_object_get(d, "host_energy")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(d, "machine"), "cpu")),
                        "Made Up 9000");
    json_decref(d);
}

static void test_needs_gemm(void **state)
{
    (void)state;
    struct kw__micro_samples samples = {0};
    json_t *d = NULL;
    kw_error err;
    assert_int_equal(kw__calibrate_cpu(&samples, &machine, &d, &err), KW_ERROR_UNSUPPORTED);
    assert_null(d);
    assert_true(strlen(err.message) > 0);
}

/* Up to half of the runs may be disturbed and the median of the others stays. */
static void test_undisturbed(void **state)
{
    (void)state;
    double times[40], sd;
    size_t kept;
    for (int i = 0; i < 40; i++) times[i] = i % 2 ? 1e-3 * (1 + 0.01 * i / 40) : 5e-3 + 1e-4 * i;
    expect_within("median", kw__undisturbed(times, 40, &sd, &kept), 1.005e-3, 0.006);
    assert_int_equal(kept, 20);
    assert_true(sd < 0.01);
}

/* ---- In the user's folder ---------------------------------------------------------------------------- */

static char *home;

static void write_user_calibration(json_t *document)
{
    char path[512];
    static const char *const parts[] = {"", "/kinowatt", "/kinowatt/calibrations"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", home, parts[i]);
        (void)mkdir(path, 0777);
    }
    snprintf(path, sizeof path, "%s/kinowatt/calibrations/kinowatt-cpu@cpu.json", home);
    assert_int_equal(json_dump_file(document, path, JSON_INDENT(2)), 0);
}

static bool has_warning(const kw_prediction *p, const char *word)
{
    for (size_t i = 0; i < p->num_warnings; i++)
        if (strstr(p->warnings[i], word)) return true;
    return false;
}

static void test_found(void **state)
{
    (void)state;
    char folder[] = "/tmp/kinowatt-cpu-XXXXXX";
    home = mkdtemp(folder);
    assert_non_null(home);
    assert_int_equal(setenv("XDG_DATA_HOME", home, 1), 0);
    json_t *document = calibrate(0);
    write_user_calibration(document);
    json_decref(document);

    kw_catalog *catalog;
    kw_model *model;
    kw_prediction *p;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    options.stack = "kinowatt-cpu"; /* and the hardware follows */
    assert_int_equal(kw_catalog_open("data", &catalog, &err), KW_OK);
    assert_string_equal(kw_catalog_name(catalog, KW_CALIBRATIONS, 0), "kinowatt-cpu@cpu");
    assert_int_equal(kw_model_open(catalog, "wan2.1-t2v-nano", &model, &err), KW_OK);
    if (kw_predict(catalog, model, &request, &options, &p, &err)) fail_msg("%s", err.message);
    assert_string_equal(p->hardware, "cpu");
    assert_string_equal(p->calibration, "kinowatt-cpu@cpu");
    assert_true(has_warning(p, "Made Up 9000"));
    assert_int_equal(p->total.energy_j[KW_CPU].status, KW_ABSENT);
    assert_true(isnan(p->total.energy_j[KW_CPU].value) && isnan(p->total.energy_j[KW_GPU].value));
    assert_true(p->total.latency_s.value > 0);
    kw_prediction_free(p);
    kw_model_close(model);
    kw_catalog_close(catalog);
    folder_remove(home);
    assert_int_equal(unsetenv("XDG_DATA_HOME"), 0);
}

/* ---- Micro-runs ------------------------------------------------------------------------------------ */

struct watch {
    int calls, most; /* stops at the most-th, 0: never */
    double last;
};

static bool watch(void *user, double done)
{
    struct watch *w = user;
    assert_true(done >= w->last && done <= 1);
    w->last = done;
    return ++w->calls != w->most;
}

/* A run on this machine, with what it takes in `seconds`. */
static kw_status run_micro(const char *stack_name, struct kw__micro_options *options, struct watch *w,
                           struct kw__micro_samples *samples, double *seconds, kw_error *err)
{
    kw_catalog *catalog;
    struct kw__stack *stack;
    assert_int_equal(kw_catalog_open("data", &catalog, err), KW_OK);
    assert_int_equal(kw__stack_open(catalog, stack_name, &stack, err), KW_OK);
    options->user = w;
    options->progress = watch;
    double begin = kw__monotonic_s();
    kw_status status = kw__micro_run(catalog, stack, options, samples, err);
    *seconds = kw__monotonic_s() - begin;
    kw__stack_close(stack);
    kw_catalog_close(catalog);
    return status;
}

/* A machine with less than 1.5 GB, or hardly any. */
static void test_micro_memory(void **state)
{
    (void)state;
    static const char *const stacks[] = {"kinowatt-cpu", "kinowatt-cpu-f32"};
    for (int i = 0; i < 2; i++) {
        struct kw__micro_options options = {.seconds = 60, .memory_limit_bytes = 1.5e9};
        struct kw__micro_samples samples = {0};
        struct watch w = {.most = 1};
        double seconds;
        kw_error err;
        assert_int_equal(run_micro(stacks[i], &options, &w, &samples, &seconds, &err), KW_ERROR_CANCELLED);
        options.memory_limit_bytes = 0.5 * 0x1p30;
        w = (struct watch){0};
        assert_int_equal(run_micro(stacks[i], &options, &w, &samples, &seconds, &err), KW_ERROR_MEMORY);
        double needs; /* by CPU, whose kernels keep weights in their own ways */
        assert_int_equal(sscanf(err.message, "calibrating needs %lf GiB of memory", &needs), 1);
        assert_true(needs > 0.5 && needs < 1.5e9 / 0x1p30);
        assert_non_null(strstr(err.message, "there are 0.50 GiB"));
        assert_int_equal(w.calls, 0);
        assert_int_equal(samples.count, 0);
    }
}

/* However busy the machine, and however many runs a round would have. */
static void test_micro_deadline(void **state)
{
    (void)state;
    struct kw__micro_options options = {.seconds = 1};
    struct kw__micro_samples samples = {0};
    struct watch w = {0};
    double seconds;
    kw_error err;
    kw_status status = run_micro("kinowatt-cpu-f32", &options, &w, &samples, &seconds, &err);
    if (seconds > options.seconds + 4) fail_msg("%g s, not 1", seconds);
    if (status) { /* too busy for any */
        assert_int_equal(status, KW_ERROR_CANCELLED);
        assert_int_equal(samples.count, 0);
        assert_non_null(strstr(err.message, "1 s are too few"));
    } else {
        assert_true(samples.count > 0 && samples.left_out != 0);
        assert_false(samples.left_out & 1); /* what is left out comes last */
        json_t *document;
        char name[KW__MICRO_NAME];
        assert_int_equal(kw__calibrate_cpu(&samples, &machine, &document, &err), KW_OK);
        const json_t *missing = json_object_get(document, "left_out");
        assert_int_equal(json_array_size(missing), __builtin_popcount(samples.left_out));
        const char *last = json_string_value(json_array_get(missing, json_array_size(missing) - 1));
        assert_string_equal(last, kw__micro_scene_name(kw__num_micro_scenes - 1, name));
        json_decref(document);
    }
    kw__micro_free(&samples);
}

static void test_micro_stops(void **state)
{
    (void)state;
    struct kw__micro_options options = {.seconds = 600};
    struct kw__micro_samples samples = {0};
    double seconds;
    kw_error err;
    for (int most = 1; most < 1000; most *= 6) { /* while weights are made, and while operators run */
        struct watch w = {.most = most};
        kw_status status = run_micro("kinowatt-cpu-f32", &options, &w, &samples, &seconds, &err);
        assert_int_equal(status, KW_ERROR_CANCELLED);
        assert_int_equal(w.calls, most);
        assert_int_equal(samples.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recovers),     cmocka_unit_test(test_sums),
        cmocka_unit_test(test_no_power),     cmocka_unit_test(test_needs_gemm),
        cmocka_unit_test(test_undisturbed),  cmocka_unit_test(test_found),
        cmocka_unit_test(test_micro_memory), cmocka_unit_test(test_micro_deadline),
        cmocka_unit_test(test_micro_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
