/* Exact decimals against printf and strtod, and moments against the C library's calendar. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/number.h"
#include "base/time.h"

static uint64_t state_of_random = 88172645463325252u;

static uint64_t random_bits(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return state_of_random;
}

static void check(double value)
{
    char ours[32], expected[40];
    kw__number_exact(ours, value);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(expected, sizeof expected, "%.*g", digits, value);
        if (strtod(expected, NULL) == value) break;
    }
    if (strcmp(ours, expected) != 0) fail_msg("%a: %s instead of %s", value, ours, expected);
}

static void the_exact_decimal_is_printfs(void **state)
{
    (void)state;
    static const double some[] = {0,
                                  1,
                                  -1,
                                  0.1,
                                  1e-4,
                                  9.9999999999999994e-5,
                                  1e15,
                                  999999999999999.9,
                                  0.3,
                                  2.5,
                                  1e22,
                                  5e-324,
                                  1.7976931348623157e308,
                                  123456789012345678,
                                  4.5,
                                  0.5,
                                  1e14 + 0.5};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) check(some[i]);
    for (int i = 0; i < 100000; i++) {
        double any;
        uint64_t bits = random_bits();
        memcpy(&any, &bits, sizeof any);
        if (isfinite(any)) check(any);
        check(ldexp((double)(random_bits() >> 11), -60 + (int)(random_bits() % 60)));
        check((double)(random_bits() % 1000000) / 1000);
        /* beside powers of ten and of two, where digits and steps change */
        double power = pow(10, (int)(random_bits() % 22) - 6.0),
               two = ldexp(1, (int)(random_bits() % 70) - 16);
        check(nextafter(power, i % 2 ? INFINITY : 0));
        check(-two);
        check(nextafter(two, 0));
    }
}

static void moments_are_the_calendars(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        /* from 1900 to 2200 */
        int64_t ms = (int64_t)(random_bits() % 9467000000000u) - 2208988800000;
        time_t seconds = (time_t)((ms - ((ms % 1000) + 1000) % 1000) / 1000);
        struct tm utc;
        char ours[32], expected[64];
        double back;
        gmtime_r(&seconds, &utc);
        size_t length = strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", &utc);
        snprintf(expected + length, sizeof expected - length, ".%03dZ", (int)(((ms % 1000) + 1000) % 1000));
        kw__time_format((double)ms / 1000, ours, sizeof ours);
        assert_string_equal(ours, expected);
        assert_true(kw__time_parse(ours, &back));
        assert_true(fabs(back - (double)ms / 1000) < 1e-4);
    }
    double ignored;
    static const char *const bad[] = {"",
                                      "2026-11-24",
                                      "2026-11-24T17:20:00Z",
                                      "2026-13-24T17:20:00.000Z",
                                      "2026-11-24T24:20:00.000Z",
                                      "2026-11-24 17:20:00.000Z",
                                      "2026-11-24T17:20:00.000Zx",
                                      "x026-11-24T17:20:00.000Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(kw__time_parse(bad[i], &ignored));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_exact_decimal_is_printfs),
                                       cmocka_unit_test(moments_are_the_calendars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
