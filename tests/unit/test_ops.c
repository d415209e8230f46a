/* Every operator of ops.def on the cpu backend against the float64 interpreter: the cases of
 * support/op_case_list.c in f32, and in bf16 where the CPU has it; and the interpreter against what PyTorch
 * and diffusers give for some of the cases (tools/reference/make_ops.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
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

static const struct op_case *find_case(const char *name)
{
    for (size_t i = 0; i < num_op_cases; i++)
        if (!op_cases[i].large && strcmp(op_cases[i].name, name) == 0) return &op_cases[i];
    fail_msg("there is no case \"%s\"", name);
    return NULL;
}

/* RoPE's own golden values are in f32, some of them with angles of 1000. */
static void test_meaning(void **state)
{
    (void)state;
    json_t *root;
    kw_error err;
    size_t i, count;
    const json_t *golden;
    if (kw__json_load("tests/golden/ops.json", &root, &err)) fail_msg("%s", err.message);
    json_array_foreach(json_object_get(root, "cases"), i, golden)
    {
        char reason[256];
        const char *name = json_string_value(json_object_get(golden, "name"));
        double digest[2], most = strstr(name, "rope") ? 1e-5 : 1e-10;
        if (!op_meaning(find_case(name), digest, &count, reason)) fail_msg("%s: %s", name, reason);
        assert_int_equal(count, json_integer_value(json_object_get(golden, "elements")));
        double sum = json_number_value(json_object_get(golden, "sum"));
        double product = json_number_value(json_object_get(golden, "product"));
        if (!(fabs(digest[0] - sum) < most * (1 + fabs(sum))) ||
            !(fabs(digest[1] - product) < most * (1 + fabs(product))))
            fail_msg("%s: %.12g %.12g, not %.12g %.12g", name, digest[0], digest[1], sum, product);
    }
    assert_true(i > 35);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_every_operator_has_a_case),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
