/* Scaling laws and the reproduction's fits: exponents of known laws, axes against single predictions,
 * published rows counted by hand, lines through known points. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "predict/reproduction.h"
#include "predict/scaling.h"
#include "support/folder.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static kw_catalog *catalog;

static int open_catalog(void **state)
{
    (void)state;
    return kw_catalog_open(NULL, &catalog, NULL) != KW_OK;
}

static int close_catalog(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    return 0;
}

/* ---- Exponents ---- */

static void test_power_laws(void **state)
{
    (void)state;
    const double x[] = {1, 1.5, 4, 4, 32, 33};
    double y[LEN(x)], exponents[LEN(x)];
    for (double power = -1; power <= 2; power += 0.5) {
        for (size_t i = 0; i < LEN(x); i++) y[i] = 7 * pow(x[i], power);
        kw__local_exponents(x, y, LEN(x), exponents);
        for (size_t i = 0; i < LEN(x); i++) assert_float_equal(exponents[i], power, 1e-9);
    }
}

/* y = a + b x has the exponent b x / (a + b x); at an end it is one between the last two points. */
static void test_affine_law(void **state)
{
    (void)state;
    double x[100], y[LEN(x)], exponents[LEN(x)];
    for (size_t i = 0; i < LEN(x); i++) {
        x[i] = pow(1.05, (double)i);
        y[i] = 12 + 3 * x[i];
    }
    kw__local_exponents(x, y, LEN(x), exponents);
    for (size_t i = 1; i < LEN(x) - 1; i++) assert_float_equal(exponents[i], 3 * x[i] / y[i], 1e-3);
    for (size_t i = 0; i < LEN(x); i += LEN(x) - 1) {
        size_t near = i ? i - 1 : 1, first = i < near ? i : near;
        assert_true(exponents[i] > 3 * x[first] / y[first]);
        assert_true(exponents[i] < 3 * x[first + 1] / y[first + 1]);
    }
}

/* By hand, in powers of two: slopes 0, 3, 1; inside, their means by the distance to the other point. A
 * parabola would give -2 and -1/3 at the ends, of a y that never falls. */
static void test_ends(void **state)
{
    (void)state;
    const double x[] = {1, 4, 8, 32}, y[] = {1, 1, 8, 32}, expected[] = {0, 2, 7.0 / 3, 1};
    double exponents[LEN(x)];
    kw__local_exponents(x, y, LEN(x), exponents);
    for (size_t i = 0; i < LEN(x); i++) assert_float_equal(exponents[i], expected[i], 1e-12);
}

static void test_absent_points(void **state)
{
    (void)state;
    const double x[] = {1, 2, 4, 8}, y[] = {1, NAN, 16, 64};
    double exponents[LEN(x)];
    kw__local_exponents(x, y, LEN(x), exponents);
    assert_true(isnan(exponents[1]));
    assert_float_equal(exponents[0], 2, 1e-9);
    assert_float_equal(exponents[3], 2, 1e-9);
    kw__local_exponents(x, y, 1, exponents);
    assert_true(isnan(exponents[0]));
    kw__local_exponents(x + 2, y + 2, 2, exponents); /* two points: the slope between them */
    assert_float_equal(exponents[0], 2, 1e-9);
    assert_float_equal(exponents[1], 2, 1e-9);
}

/* ---- Values ---- */

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        enum kw__scaling_axis axis;
        const char *text, *wrong; /* wrong: what the message quotes */
    } bad[] = {
        {KW__AXIS_STEPS, "", "''"},
        {KW__AXIS_STEPS, "1,", "''"},
        {KW__AXIS_STEPS, "1,,2", "''"},
        {KW__AXIS_STEPS, "1,-2", "'-2'"},
        {KW__AXIS_STEPS, "0", "'0'"},
        {KW__AXIS_FRAMES, "8x8", "'8x8'"},
        {KW__AXIS_FRAMES, "1 ,2", "'1 '"},
        {KW__AXIS_FRAMES, "1e3", "'1e3'"},
        {KW__AXIS_FRAMES, "1000000001", "'1000000001'"},
        {KW__AXIS_FRAMES, "18446744073709551617", "'18446744073709551617'"},
        {KW__AXIS_RESOLUTION, "832", "'832'"},
        {KW__AXIS_RESOLUTION, "832x", "'832x'"},
        {KW__AXIS_RESOLUTION, "x480", "'x480'"},
        {KW__AXIS_RESOLUTION, "832x480x2", "'832x480x2'"},
    };
    struct kw__arena arena;
    struct kw__scaling_value *values;
    size_t count;
    kw_error err;
    kw__arena_init(&arena);
    for (size_t i = 0; i < LEN(bad); i++) {
        assert_int_equal(kw__scaling_parse(bad[i].axis, bad[i].text, &arena, &values, &count, &err),
                         KW_ERROR_USAGE);
        assert_non_null(strstr(err.message, bad[i].wrong));
    }
    assert_int_equal(
        kw__scaling_parse(KW__AXIS_RESOLUTION, "832x480,16x1000000000", &arena, &values, &count, &err),
        KW_OK);
    assert_int_equal(count, 2);
    assert_int_equal(values[0].width, 832);
    assert_int_equal(values[0].height, 480);
    assert_int_equal(values[1].height, 1000000000);
    char many[2 * KW__MAX_SCALING_VALUES + 2];
    for (size_t i = 0; i < LEN(many) - 1; i++) many[i] = i % 2 ? ',' : '1';
    many[LEN(many) - 1] = '\0'; /* one value too many */
    assert_int_equal(kw__scaling_parse(KW__AXIS_STEPS, many, &arena, &values, &count, &err), KW_ERROR_USAGE);
    many[LEN(many) - 3] = '\0';
    assert_int_equal(kw__scaling_parse(KW__AXIS_STEPS, many, &arena, &values, &count, &err), KW_OK);
    assert_int_equal(count, KW__MAX_SCALING_VALUES);
    kw__arena_free(&arena);
}

/* ---- Axes ---- */

static struct kw__scaling *scale(const char *name, enum kw__scaling_axis axis, const kw_request *request,
                                 const char *hardware, const struct kw__scaling_value *values, size_t count)
{
    kw_model *model;
    struct kw__scaling *s = NULL;
    kw_error err = {0};
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    options.hardware = hardware;
    if (kw_model_open(catalog, name, &model, &err) ||
        kw__scaling_new(catalog, model, request, &options, axis, values, count, &s, &err))
        fail_msg("%s", err.message);
    kw_model_close(model);
    return s;
}

static void test_defaults(void **state)
{
    (void)state;
    static const size_t counts[KW__NUM_AXES] = {17, 41, 22};
    static const double last[KW__NUM_AXES] = {2560 * 1440, 161, 200};
    const kw_request request = KW_REQUEST_INIT;
    for (int axis = 0; axis < KW__NUM_AXES; axis++) {
        struct kw__scaling *s =
            scale("wan2.1-t2v-1.3b", (enum kw__scaling_axis)axis, &request, NULL, NULL, 0);
        double law = axis == KW__AXIS_STEPS ? 1 : 2;
        assert_int_equal(s->num_points, counts[axis]);
        assert_float_equal(s->points[s->num_points - 1].x, last[axis], 0);
        for (size_t i = 0; i < s->num_points; i++) {
            const struct kw__scaling_point *p = &s->points[i];
            assert_true(i == 0 || p->x > s->points[i - 1].x);
            assert_in_range(1000 * p->latency_exponent, 1, 1000 * law);
            /* towards the law: each steeper than the one before */
            assert_true(i == 0 || p->latency_exponent > s->points[i - 1].latency_exponent - 1e-3);
        }
        assert_true(s->points[s->num_points - 1].latency_exponent > 0.75 * law);
        kw__scaling_free(s);
    }
}

static double figure_of(const struct kw__scaling_point *p, bool energy)
{
    const kw_cost *total = &p->prediction->total;
    return log(energy ? total->energy_j[KW_GPU].value : total->latency_s.value);
}

static void check_between_secants(const struct kw__scaling *s, const char *name, bool energy)
{
    double before = NAN;
    for (size_t i = 0; i < s->num_points; i++) {
        const struct kw__scaling_point *p = &s->points[i];
        double after = NAN, exponent = energy ? p->energy_exponent : p->latency_exponent;
        if (i + 1 < s->num_points)
            after = (figure_of(p + 1, energy) - figure_of(p, energy)) / log(p[1].x / p->x);
        /* 1e-9: logarithms of quotients against quotients of logarithms */
        if (!(exponent >= fmin(before, after) - 1e-9 && exponent <= fmax(before, after) + 1e-9))
            fail_msg("%s, %s %g: %s exponent %g, slopes %g and %g", name, kw__scaling_axis_name(s->axis),
                     p->x, energy ? "energy" : "latency", exponent, before, after);
        before = after;
    }
}

/* Every exponent of every model is between the slopes to the points beside it. Few points, which all models
 * take: the default ranges of all of them are minutes under the sanitizers. */
static void test_between_secants(void **state)
{
    (void)state;
    static const struct kw__scaling_value values[KW__NUM_AXES][4] = {
        {{256, 256, 0}, {512, 256, 0}, {768, 512, 0}, {1024, 1024, 0}},
        {{.count = 1}, {.count = 9}, {.count = 17}, {.count = 25}},
        {{.count = 2}, {.count = 3}, {.count = 10}, {.count = 50}},
    };
    const kw_request request = KW_REQUEST_INIT;
    for (size_t m = 0; m < kw_catalog_count(catalog, KW_MODELS); m++)
        for (int axis = 0; axis < KW__NUM_AXES; axis++) {
            const char *name = kw_catalog_name(catalog, KW_MODELS, m);
            struct kw__scaling *s =
                scale(name, (enum kw__scaling_axis)axis, &request, NULL, values[axis], LEN(values[axis]));
            assert_int_equal(s->num_points, LEN(values[axis]));
            check_between_secants(s, name, false);
            check_between_secants(s, name, true);
            kw__scaling_free(s);
        }
}

/* CogVideoX: 8 frames are 2 latent frames and 9 are 3. By default 1 + 8 k frames; given, kinds stay apart. */
static void test_cogvideox_frames(void **state)
{
    (void)state;
    const kw_request request = KW_REQUEST_INIT;
    struct kw__scaling *s = scale("cogvideox-5b", KW__AXIS_FRAMES, &request, NULL, NULL, 0);
    assert_int_equal(s->num_points, 21);
    for (size_t i = 0; i < s->num_points; i++) {
        assert_float_equal(s->points[i].x, 1 + 8 * (double)i, 0);
        assert_in_range(1000 * s->points[i].latency_exponent, 0, 2000);
    }
    kw__scaling_free(s);
    const struct kw__scaling_value values[] = {{.count = 48}, {.count = 49}, {.count = 56}, {.count = 57}};
    s = scale("cogvideox-5b", KW__AXIS_FRAMES, &request, NULL, values, LEN(values));
    assert_int_equal(s->num_points, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct kw__scaling_point *from = &s->points[i % 2], *to = from + 2;
        double slope = (figure_of(to, true) - figure_of(from, true)) / log(to->x / from->x);
        assert_float_equal(s->points[i].energy_exponent, slope, 1e-9);
    }
    kw__scaling_free(s);
    s = scale("cogvideox-5b", KW__AXIS_FRAMES, &request, NULL, values, 2); /* one of each kind */
    assert_true(isnan(s->points[0].latency_exponent) && isnan(s->points[1].energy_exponent));
    kw__scaling_free(s);
}

/* A step costs the same whatever the number of steps. */
static void test_steps_are_equal(void **state)
{
    (void)state;
    const kw_request request = KW_REQUEST_INIT;
    const struct kw__scaling_value values[] = {{.count = 30}, {.count = 10}, {.count = 20}};
    struct kw__scaling *s = scale("wan2.1-t2v-14b", KW__AXIS_STEPS, &request, NULL, values, LEN(values));
    double t[3];
    assert_int_equal(s->num_points, 3);
    for (size_t i = 0; i < 3; i++) {
        t[i] = s->points[i].prediction->total.latency_s.value;
        assert_float_equal(s->points[i].x, 10 * (double)(i + 1), 0);
    }
    assert_float_equal((t[2] - t[1]) / (t[1] - t[0]), 1, 1e-6);
    kw__scaling_free(s);
}

/* 80 to 83 frames are 81; the point is what a single prediction gives. */
static void test_one_request_is_one_point(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    const struct kw__scaling_value values[] = {{.count = 83}, {.count = 81}, {.count = 49}, {.count = 80}};
    request.width = 1280;
    request.height = 720;
    struct kw__scaling *s = scale("wan2.1-t2v-1.3b", KW__AXIS_FRAMES, &request, NULL, values, LEN(values));
    assert_int_equal(s->num_points, 2);
    assert_float_equal(s->points[1].x, 81, 0);
    /* by hand: resolution sweep, 80, 81 and 83 frames of the frame sweep, and the model table */
    assert_int_equal(s->points[1].num_published, 5);
    assert_float_equal(s->points[1].published_latency_s, (397.899 + 417.847 + 417.315 + 416.843 + 410.04) / 5,
                       1e-9);
    /* 80 frames have no public energy */
    assert_float_equal(s->points[1].published_gpu_wh, (76.132 + 77.15 + 77.307 + 78.8109) / 4, 1e-9);
    kw_model *model;
    kw_prediction *p;
    const kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    request.num_frames = 81;
    assert_int_equal(kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, NULL), KW_OK);
    assert_int_equal(kw_predict(catalog, model, &request, &options, &p, NULL), KW_OK);
    assert_float_equal(s->points[1].prediction->total.latency_s.value, p->total.latency_s.value, 0);
    kw_prediction_free(p);
    kw_model_close(model);
    kw__scaling_free(s);
}

static void test_rows_stay_with_their_machine(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    struct kw__scaling *s = scale("wan2.1-t2v-1.3b", KW__AXIS_FRAMES, &request, NULL, NULL, 0);
    assert_int_equal(s->num_rows, 1); /* 832x480 with 81 frames, of the resolution sweep */
    assert_int_equal(s->num_elsewhere, 32);
    assert_int_equal(s->elsewhere->width, 1280);
    kw__scaling_free(s);
    s = scale("wan2.1-t2v-1.3b", KW__AXIS_RESOLUTION, &request, "h200", NULL, 0);
    assert_int_equal(s->num_rows + s->num_elsewhere, 0);
    kw__scaling_free(s);
    request.guidance_scale = 1; /* one pass: no row has it */
    s = scale("wan2.1-t2v-1.3b", KW__AXIS_RESOLUTION, &request, NULL, NULL, 0);
    assert_int_equal(s->num_rows, 0);
    kw__scaling_free(s);
    request.guidance_scale = -1;
    request.power_limit_w = 500;
    s = scale("wan2.1-t2v-1.3b", KW__AXIS_RESOLUTION, &request, NULL, NULL, 0);
    assert_int_equal(s->num_rows, 0);
    kw__scaling_free(s);
}

/* ---- The reproduction ---- */

static void test_fit_line(void **state)
{
    (void)state;
    const double x[] = {1e17, 2e17, 4e17}, exact[] = {2 + 10, 2 + 20, 2 + 40}, y[] = {1, 3, 2};
    double slope, constant, r2;
    kw__fit_line(x, exact, LEN(x), false, &slope, &constant, &r2);
    assert_float_equal(slope * 1e16, 1, 1e-12);
    assert_float_equal(constant, 2, 1e-9); /* not lost beside x of 1e17 */
    assert_float_equal(r2, 1, 1e-12);
    /* by hand: slope = (1 + 6 + 8) / (1 + 4 + 16); residuals 2/7, 11/7, -6/7; about the mean 2 */
    kw__fit_line(x, y, LEN(x), true, &slope, &constant, &r2);
    assert_float_equal(slope * 1e17, 15.0 / 21, 1e-12);
    assert_float_equal(constant, 0, 0);
    assert_float_equal(r2, 1 - (4.0 + 121 + 36) / 49 / 2, 1e-12);
}

/* Figures worked out by a separate program from the rows and the README's closed form. */
static void test_reproduction(void **state)
{
    (void)state;
    static const double latency[KW__REPRO_SWEEPS] = {14.01, 10.45, 1.90},
                        energy[KW__REPRO_SWEEPS] = {11.61, 5.64, 4.08};
    static const size_t rows[KW__REPRO_SWEEPS] = {14, 32, 59};
    static const int scored[KW__REPRO_SWEEPS] = {14, 25, 50}, energies[KW__REPRO_SWEEPS] = {14, 10, 10};
    struct kw__reproduction *r;
    kw_error err = {0};
    if (kw__reproduction_new(catalog, NULL, &r, &err)) fail_msg("%s", err.message);
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_sweep *sweep = &r->sweeps[s];
        assert_int_equal(sweep->count, rows[s]);
        assert_float_equal(sweep->paper_latency.mean, latency[s], 0.005);
        assert_float_equal(sweep->paper_energy.mean, energy[s], 0.005);
        assert_int_equal(sweep->paper_latency.count, scored[s]);
        assert_int_equal(sweep->paper_energy.count, energies[s]);
        assert_int_equal(sweep->group_out_latency.count, scored[s]);
        assert_int_equal(sweep->axis_out_energy.count, energies[s]);
    }
    assert_float_equal(r->through_zero.mu, 0.4577431, 1e-6);
    assert_float_equal(r->through_zero.r2, 0.9968216, 1e-6);
    assert_float_equal(r->with_overhead.mu, 0.4697789, 1e-6);
    assert_float_equal(r->with_overhead.overhead_s, 12.829829, 1e-5);
    assert_float_equal(r->with_overhead.r2, 0.9979220, 1e-6);
    assert_int_equal(r->num_models, 7);
    assert_int_equal(r->num_accelerators, 7);
    for (size_t i = 0; i < r->num_models; i++) {
        assert_non_null(r->models[i].row);
        char file[128];
        snprintf(file, sizeof file, "data/models/%s/model_index.json", r->models[i].model);
        assert_int_equal(r->models[i].ours != NULL, access(file, R_OK) == 0);
    }
    for (int b = 0; b < 3; b++) { /* parts add up */
        double flop = 0, seconds = 0;
        for (int c = 0; c < KW__REPRO_COMPONENTS; c++) {
            flop += r->breakdowns[b].flop[c];
            seconds += r->breakdowns[b].latency_s[c];
        }
        assert_float_equal(flop / r->breakdowns[b].ours->total.flop, 1, 1e-9);
        assert_float_equal(seconds / r->breakdowns[b].ours->total.latency_s.value, 1, 1e-9);
    }
    assert_float_equal(r->constants[0].real, 1536, 0);
    assert_float_equal(r->constants[1].real, 30, 0);
    assert_float_equal(r->constants[2].real, 8960, 0);
    kw__reproduction_free(r);
    assert_int_equal(kw__reproduction_new(catalog, "nothing", &r, &err), KW_ERROR_NOT_FOUND);
}

/* A broken file of printed figures is named, with what is wrong. */
static void test_broken_paper(void **state)
{
    (void)state;
    static const struct {
        const char *key, *json, *says;
    } breaks[] = {
        {"errors", NULL, "\"errors\" must have an array \"rows\""},
        {"errors.rows", "[]", "must have 3 rows"},
        {"errors.rows.0.axis", "\"time\"", "no rows of the sweep \"time\""},
        {"fit.mu", "\"x\"", "mu, power_w and flop_per_s"},
        {"thresholds.rows.0.hardware", "\"h101\"", "h101"},
        {"models.rows.0.model", "7", "has no model"},
    };
    for (size_t i = 0; i < LEN(breaks); i++) {
        char folder[FOLDER_BYTES];
        kw_catalog *broken;
        struct kw__reproduction *r;
        kw_error err = {0};
        folder_copy(getenv("KINOWATT_DATA") ? getenv("KINOWATT_DATA") : "data", folder);
        folder_set(folder, "published/delavande2025_paper.json", breaks[i].key, breaks[i].json);
        assert_int_equal(kw_catalog_open(folder, &broken, NULL), KW_OK);
        assert_int_not_equal(kw__reproduction_new(broken, NULL, &r, &err), KW_OK);
        assert_non_null(strstr(err.message, breaks[i].says));
        kw_catalog_close(broken);
        folder_remove(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_laws),
        cmocka_unit_test(test_affine_law),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_absent_points),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_between_secants),
        cmocka_unit_test(test_cogvideox_frames),
        cmocka_unit_test(test_steps_are_equal),
        cmocka_unit_test(test_one_request_is_one_point),
        cmocka_unit_test(test_rows_stay_with_their_machine),
        cmocka_unit_test(test_fit_line),
        cmocka_unit_test(test_reproduction),
        cmocka_unit_test(test_broken_paper),
    };
    return cmocka_run_group_tests(tests, open_catalog, close_catalog);
}
