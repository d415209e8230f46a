/* Every operator of ops.def on the cpu backend against the float64 interpreter: the cases of
 * support/op_cases.c in f32, and in bf16 where the CPU has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "support/op_cases.h"

/* f32: sums of some hundred terms. bf16: operands are the same numbers for both; the result is rounded
 * once, to 2^-9 at most, and attention rounds its weights, folding the kernels as well. */
static const double tolerance_f32 = 2e-6, tolerance_bf16 = 4e-3;

static int check_all(enum kw__dtype dtype, double tolerance)
{
    int failures = 0, ran = 0;
    for (size_t i = 0; i < num_op_cases; i++) {
        const struct op_case *c = &op_cases[i];
        char reason[256] = "";
        if (c->large) continue;
        double error = op_error(c, &kw__backend_cpu, dtype, reason);
        if (error < 0 && dtype == KW__BF16 && strstr(reason, "AVX512_BF16")) continue;
        ran++;
        if (error >= 0 && error <= tolerance) continue;
        print_message("%s in %s: %s%.3g\n", c->name, kw__dtype_name(dtype), reason, error);
        failures++;
    }
    if (!ran) skip();
    return failures;
}

static void test_f32(void **state)
{
    (void)state;
    assert_int_equal(check_all(KW__F32, tolerance_f32), 0);
}

static void test_bf16(void **state)
{
    (void)state;
    assert_int_equal(check_all(KW__BF16, tolerance_bf16), 0);
}

static void test_every_operator_has_a_case(void **state)
{
    (void)state;
    bool there[KW__NUM_OPCODES] = {false};
    for (size_t i = 0; i < num_op_cases; i++)
        if (!op_cases[i].large) there[op_cases[i].code] = true;
    for (int code = 0; code < KW__NUM_OPCODES; code++)
        if (!there[code]) fail_msg("%s has no case", kw__op_info(code)->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operator_has_a_case),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
