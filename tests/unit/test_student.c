/* Quantiles against the printed table (Student's t, one-sided 0.95 and 0.975), and an interval by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>

#include "stats/student.h"

static void test_table(void **state)
{
    (void)state;
    static const struct {
        size_t df;
        double t95, t975;
    } table[] = {{1, 6.314, 12.706},  {2, 2.920, 4.303},     {3, 2.353, 3.182},  {4, 2.132, 2.776},
                 {5, 2.015, 2.571},   {9, 1.833, 2.262},     {10, 1.812, 2.228}, {30, 1.697, 2.042},
                 {120, 1.658, 1.980}, {100000, 1.645, 1.960}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_float_equal(kw__student_quantile(0.95, table[i].df), table[i].t95, 5.1e-4);
        assert_float_equal(kw__student_quantile(0.975, table[i].df), table[i].t975, 5.1e-4);
    }
    assert_float_equal(kw__student_quantile(0.5, 7), 0, 1e-12);
}

static void test_interval(void **state)
{
    (void)state;
    /* mean 11, variance (1 + 0 + 1) / 2 = 1: half is 2.920 / sqrt(3) = 1.6859 */
    const double values[] = {10, 11, 12};
    struct kw__mean m = kw__mean_of(values, 3);
    assert_float_equal(m.mean, 11, 1e-12);
    assert_float_equal(m.half, 1.6859, 1e-4);
    m = kw__mean_of(values, 1);
    assert_float_equal(m.mean, 10, 0);
    assert_true(isnan(m.half));
    assert_true(isnan(kw__mean_of(values, 0).mean));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_interval)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
