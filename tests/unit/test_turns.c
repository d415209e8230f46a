/* Stages whose phases take turns: in the interpreter and on the backends, by numbers worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "engine/exec.h"
#include "support/interp.h"

/* x starts at 1; "double" makes it 2 x + c, "add" x + d; c and d are those of the phase's own next row. */
static struct kw__program *alternating(const struct kw__turn *turns, size_t count)
{
    static const char *const names[] = {"k", "c"};
    static const double doubled[] = {2, 10, 2, 20}, added[] = {1, 100, 1, 200, 1, 300};
    const kw_effective request = {0};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    assert_non_null(program);
    struct kw__stage *stage = kw__program_stage(program, "run");
    for (int p = 0; p < 2; p++) {
        struct kw__graph *g = kw__stage_phase(program, stage, p ? "add" : "double", p ? 3 : 2);
        stage->phases[p].table = (struct kw__iterations){2, names, p ? added : doubled};
        g->component = g->tensors = "test";
        int x = kw__state(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 1, 3));
        int one = kw__state(g, "one", KW__F32, KW__STEP, KW__DIMS(1, 1, 3));
        g->values[x].initial = g->values[one].initial = 1;
        kw__state_next(g, x, KW__OP(g, KW__LINCOMB, NULL, KW__F32, x, one));
    }
    stage->turns = turns;
    stage->num_turns = count;
    return program;
}

static double interpreted(const struct kw__program *program)
{
    struct interp *it = interp_new(program, interp_random_weights, NULL);
    if (!interp_run(it, "run")) fail_msg("%s", interp_error(it));
    double x = interp_get(it, "x").data[1];
    interp_free(it);
    return x;
}

static double computed(const struct kw__program *program)
{
    struct kw__exec *run = NULL;
    struct kw__weights weights;
    float x[3];
    kw_error err;
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err);
    if (!status) status = kw__weights_open("random:1", program, &weights, &err);
    if (status) fail_msg("%s", err.message);
    (void)((status = kw__exec_prepare(run, "run", &weights, &err)) ||
           (status = kw__exec_stage(run, "run", &err)) || (status = kw__exec_read(run, "x", x, 3, &err)));
    if (status) fail_msg("%s", err.message);
    kw__weights_close(&weights);
    kw__exec_close(run);
    return (double)x[1];
}

static void test_order(void **state)
{
    (void)state;
    /* 1 -> 2 + 10 = 12 -> 112 -> 312 -> 644 -> 944 */
    static const struct kw__turn turns[] = {{0, 1}, {1, 2}, {0, 1}, {1, 1}};
    struct kw__program *program = alternating(turns, 4);
    assert_true(interpreted(program) == 944);
    assert_true(computed(program) == 944);
    kw__program_free(program);
    /* 1 -> 12 -> 44, then 144, 344, 644: phase by phase */
    program = alternating(NULL, 0);
    assert_true(interpreted(program) == 644);
    assert_true(computed(program) == 644);
    kw__program_free(program);
}

/* What has no turn, or more turns than calls, is a fault of the program. */
static void test_counts(void **state)
{
    (void)state;
    static const struct kw__turn few[] = {{0, 2}, {1, 2}}, many[] = {{0, 2}, {1, 3}, {0, 1}};
    for (int i = 0; i < 2; i++) {
        struct kw__program *program = alternating(i ? many : few, i ? 3 : 2);
        struct interp *it = interp_new(program, interp_random_weights, NULL);
        assert_false(interp_run(it, "run"));
        interp_free(it);
        kw__program_free(program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
