/* The solvers of order one against diffusers' schedulers: tests/golden/solvers.json, made by
 * tools/reference/make_solvers.py, has the path of one number; and what holds of each table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "engine/solvers.h"

enum { MOST = 64 };
static const struct kw__betas scaled = {1000, 0.00085, 0.012, true}, linear = {1000, 0.00085, 0.012, false};

/* The table of a case, from its step `first` on. */
static int64_t fill(const json_t *c, double *rows)
{
    const char *solver = json_string_value(json_object_get(c, "solver"));
    int64_t steps = json_integer_value(json_object_get(c, "steps"));
    double sigma[MOST + 1], strength = json_number_value(json_object_get(c, "strength"));
    assert_true(steps <= MOST);
    if (strcmp(solver, "ddim") == 0) {
        double shift = json_number_value(json_object_get(c, "snr_shift"));
        kw__ddim_table(&scaled, shift, true, steps, KW__STEP_COLUMNS, rows);
    } else if (strcmp(solver, "euler") == 0) {
        kw__euler_table(&linear, steps, KW__STEP_COLUMNS, rows);
    } else {
        kw__linear_quadratic(steps, 0.025, sigma);
        int64_t first = strcmp(solver, "ltx") == 0 ? steps - (int64_t)(strength * (double)steps) : 0;
        steps -= first;
        kw__flow_euler_table(sigma + first, 1000, strcmp(solver, "mochi") == 0, steps, KW__STEP_COLUMNS,
                             rows);
    }
    return steps;
}

static void test_paths(void **state)
{
    (void)state;
    json_t *root;
    kw_error err;
    size_t i, k;
    const json_t *c, *step;
    if (kw__json_load("tests/golden/solvers.json", &root, &err)) fail_msg("%s", err.message);
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        double rows[MOST * KW__STEP_COLUMNS], x = 0.7;
        const json_t *path = json_object_get(c, "path");
        assert_int_equal(fill(c, rows), json_array_size(path));
        if (strcmp(json_string_value(json_object_get(c, "solver")), "euler") == 0) x *= rows[KW__STEP_SIGMA];
        json_array_foreach(path, k, step)
        {
            const double *row = rows + k * KW__STEP_COLUMNS;
            double t = json_number_value(json_object_get(step, "timestep"));
            double wanted = json_number_value(json_object_get(step, "x"));
            double v = sin(3 * row[KW__STEP_SCALE] * x) + row[KW__STEP_TIMESTEP] / 1000;
            x = row[KW__STEP_X] * x + row[KW__STEP_V] * v;
            if (!(fabs(row[KW__STEP_TIMESTEP] - t) < 1e-9 * (1 + t)) ||
                !(fabs(x - wanted) < 1e-9 * (1 + fabs(wanted))))
                fail_msg("case %zu, step %zu: t %.12g, not %.12g; x %.12g, not %.12g", i, k,
                         row[KW__STEP_TIMESTEP], t, x, wanted);
        }
    }
    assert_int_equal(i, 19);
    json_decref(root);
}

/* With a model that knows x0, a flow ends at x0 whatever the steps; so does DDIM when they divide the
 * timesteps, as a step ends where the next begins. */
static void test_exact_model(void **state)
{
    (void)state;
    const double x0 = 1.5, noise = -0.4;
    double rows[MOST * KW__STEP_COLUMNS], sigma[MOST + 1];
    for (int64_t steps = 1; steps < MOST; steps++) {
        kw__linear_quadratic(steps, 0.025, sigma);
        assert_true(sigma[0] == 1 && sigma[steps] == 0);
        kw__flow_euler_table(sigma, 1000, false, steps, KW__STEP_COLUMNS, rows);
        double x = noise;
        for (int64_t i = 0; i < steps; i++) {
            assert_true(sigma[i + 1] < sigma[i]);
            x = rows[i * KW__STEP_COLUMNS + KW__STEP_X] * x +
                rows[i * KW__STEP_COLUMNS + KW__STEP_V] * (noise - x0);
        }
        assert_true(fabs(x - x0) < 1e-12);

        if (scaled.num_train % steps != 0) continue;
        kw__ddim_table(&scaled, 3, true, steps, KW__STEP_COLUMNS, rows);
        for (int64_t i = 0; i < steps; i++) {
            const double *row = rows + i * KW__STEP_COLUMNS;
            double s = row[KW__STEP_SIGMA], signal = sqrt(1 - s * s);
            if (i == 0) x = signal * x0 + s * noise;
            x = row[KW__STEP_X] * x + row[KW__STEP_V] * (signal * noise - s * x0);
        }
        assert_true(fabs(x - x0) < 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_exact_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
