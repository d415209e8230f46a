/* Fits whose answer is known: by hand, in closed form, or as a property. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "stats/fit.h"

/* residuals (x - y_i) / sd */
struct location {
    const double *y;
    size_t count;
    double sd;
};

static kw_status location_residuals(void *context, const double *x, double *z, kw_error *err)
{
    (void)err;
    const struct location *l = context;
    for (size_t i = 0; i < l->count; i++) z[i] = (x[0] - l->y[i]) / l->sd;
    return KW_OK;
}

static void test_mean_and_prior(void **state)
{
    (void)state;
    /* precision 1 + 2 x 1 = 3, so the mean is (0 + 1 + 3) / 3 */
    const double y[] = {1, 3}, mean[] = {0}, sd[] = {1};
    struct location l = {y, 2, 1};
    struct kw__fit_problem p = {1, 2, mean, sd, INFINITY, location_residuals, NULL, &l};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err;
    kw__arena_init(&arena);
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_OK);
    assert_true(fit.converged);
    assert_float_equal(fit.x[0], 4.0 / 3, 1e-7);
    assert_float_equal(fit.covariance[0], 1.0 / 3, 1e-7);
    /* cost: 1/9 + 25/9 + 16/9 */
    assert_float_equal(fit.cost, 42.0 / 9, 1e-7);
    kw__arena_free(&arena);
}

static void test_no_rows_leave_the_prior(void **state)
{
    (void)state;
    const double mean[] = {2}, sd[] = {0.5};
    struct location l = {NULL, 0, 1};
    struct kw__fit_problem p = {1, 0, mean, sd, 1.5, location_residuals, NULL, &l};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err;
    kw__arena_init(&arena);
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_OK);
    assert_float_equal(fit.x[0], 2, 1e-12);
    assert_float_equal(fit.covariance[0], 0.25, 1e-12);
    kw__arena_free(&arena);
}

static void test_huber(void **state)
{
    (void)state;
    /* three zeros pull by 3 m, the far value by k = 1: m = 1/3 */
    const double y[] = {0, 0, 0, 10}, mean[] = {0}, sd[] = {INFINITY};
    struct location l = {y, 4, 1};
    struct kw__fit_problem p = {1, 4, mean, sd, 1, location_residuals, NULL, &l};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err;
    kw__arena_init(&arena);
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_OK);
    assert_float_equal(fit.x[0], 1.0 / 3, 1e-4);
    kw__arena_free(&arena);
    assert_float_equal(kw__huber_location(y, 4, 1), 1.0 / 3, 1e-9);
    assert_float_equal(kw__huber_location(y, 4, 100), 2.5, 1e-9); /* the mean */
    assert_true(isnan(kw__huber_location(y, 0, 1)));
}

/* y = a exp(-b t), in the logarithms of a and b */
static const double times[] = {0, 0.5, 1, 2, 4};
static double offset;

static kw_status decay_residuals(void *context, const double *x, double *z, kw_error *err)
{
    (void)context;
    (void)err;
    for (int i = 0; i < 5; i++)
        z[i] =
            (exp(x[0] - exp(x[1]) * times[i]) - 3 * exp(-0.7 * times[i]) - (i % 2 ? offset : -offset)) / 0.1;
    return KW_OK;
}

static kw_status decay_jacobian(void *context, const double *x, double *j, kw_error *err)
{
    (void)context;
    (void)err;
    for (int i = 0; i < 5; i++) {
        double y = exp(x[0] - exp(x[1]) * times[i]);
        j[i] = y / 0.1;
        j[i + 5] = -y * exp(x[1]) * times[i] / 0.1;
    }
    return KW_OK;
}

static void test_nonlinear(void **state)
{
    (void)state;
    const double mean[] = {0, 0}, flat[] = {INFINITY, INFINITY};
    struct kw__fit_problem p = {2, 5, mean, flat, INFINITY, decay_residuals, NULL, NULL};
    struct kw__arena arena;
    struct kw__fit by_differences, exact;
    kw_error err;
    kw__arena_init(&arena);
    offset = 0;
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &exact, &err), KW_OK);
    assert_float_equal(exp(exact.x[0]), 3, 1e-4);
    assert_float_equal(exp(exact.x[1]), 0.7, 1e-4);
    offset = 0.05; /* the least squares must agree whichever way the derivatives come */
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &by_differences, &err), KW_OK);
    p.jacobian = decay_jacobian;
    const double far[] = {3, 1.5};
    assert_int_equal(kw__fit_map(&p, far, &arena, &exact, &err), KW_OK);
    for (int i = 0; i < 2; i++) assert_float_equal(exact.x[i], by_differences.x[i], 1e-4);
    for (int i = 0; i < 4; i++)
        assert_float_equal(exact.covariance[i], by_differences.covariance[i], 1e-4 * exact.covariance[0]);
    /* at the minimum the gradient J'z vanishes */
    double j[10], z[5], g[2] = {0, 0};
    decay_jacobian(NULL, exact.x, j, &err);
    decay_residuals(NULL, exact.x, z, &err);
    for (int i = 0; i < 5; i++) g[0] += j[i] * z[i], g[1] += j[i + 5] * z[i];
    assert_float_equal(g[0], 0, 0.02);
    assert_float_equal(g[1], 0, 0.02);
    kw__arena_free(&arena);
}

static void test_fixed_parameter(void **state)
{
    (void)state;
    const double mean[] = {0, log(0.5)}, sd[] = {INFINITY, 0};
    struct kw__fit_problem p = {2, 5, mean, sd, INFINITY, decay_residuals, NULL, NULL};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err;
    kw__arena_init(&arena);
    offset = 0;
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_OK);
    assert_true(fit.x[1] == mean[1]);
    assert_true(fit.covariance[1] == 0 && fit.covariance[2] == 0 && fit.covariance[3] == 0);
    assert_true(fit.covariance[0] > 0);
    kw__arena_free(&arena);
}

static kw_status sum_residuals(void *context, const double *x, double *z, kw_error *err)
{
    (void)context;
    (void)err;
    z[0] = x[0] + x[1] - 1;
    return KW_OK;
}

static kw_status broken_residuals(void *context, const double *x, double *z, kw_error *err)
{
    (void)context;
    (void)x;
    (void)err;
    z[0] = NAN;
    return KW_OK;
}

/* Finite where the fit starts, and nowhere else. */
static kw_status cliff_residuals(void *context, const double *x, double *z, kw_error *err)
{
    (void)context;
    (void)err;
    z[0] = x[0] == 0 ? 1 : NAN;
    return KW_OK;
}

static kw_status slope_jacobian(void *context, const double *x, double *j, kw_error *err)
{
    (void)context;
    (void)x;
    (void)err;
    j[0] = 1;
    return KW_OK;
}

static kw_status nan_jacobian(void *context, const double *x, double *j, kw_error *err)
{
    (void)context;
    (void)x;
    (void)err;
    j[0] = NAN;
    return KW_OK;
}

/* A fit that cannot move has not converged. */
static void test_no_way_down(void **state)
{
    (void)state;
    const double mean[] = {0}, sd[] = {1};
    struct kw__fit_problem p = {1, 1, mean, sd, INFINITY, cliff_residuals, slope_jacobian, NULL};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err = {KW_OK, ""};
    kw__arena_init(&arena);
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_ERROR_FORMAT); /* every trial is NaN */
    assert_non_null(strstr(err.message, "no way down"));
    p.jacobian = nan_jacobian;
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_ERROR_FORMAT); /* no damping solves */
    assert_non_null(strstr(err.message, "no way down"));
    kw__arena_free(&arena);
}

static void test_refusals(void **state)
{
    (void)state;
    const double mean[] = {0, 0}, flat[] = {INFINITY, INFINITY};
    struct kw__fit_problem p = {2, 1, mean, flat, INFINITY, sum_residuals, NULL, NULL};
    struct kw__arena arena;
    struct kw__fit fit;
    kw_error err;
    kw__arena_init(&arena);
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_ERROR_FORMAT); /* the difference is free */
    p.residuals = broken_residuals;
    assert_int_equal(kw__fit_map(&p, NULL, &arena, &fit, &err), KW_ERROR_FORMAT);
    kw__arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean_and_prior),  cmocka_unit_test(test_no_rows_leave_the_prior),
        cmocka_unit_test(test_huber),           cmocka_unit_test(test_nonlinear),
        cmocka_unit_test(test_fixed_parameter), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_way_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
