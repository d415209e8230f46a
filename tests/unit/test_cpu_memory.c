/* What a run on the CPU is said to need, against what the compiled plans ask for and what compiling takes
 * from the system. A whole run is looked at by tests/e2e/memory.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cpu/memory.h"
#include "engine/machine.h"
#include "engine/exec.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/family.h"

static kw_catalog *catalog;

static int open_catalog(void **state)
{
    (void)state;
    kw_error err;
    return kw_catalog_open("data", &catalog, &err);
}

static int close_catalog(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    return 0;
}

struct shape {
    const char *model, *stack;
    int64_t width, height, num_frames;
};

static struct kw__program *lower(const struct shape *shape, const struct kw__stack *stack)
{
    kw_model *model;
    kw_effective r;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    struct kw__program *program;
    request.width = shape->width;
    request.height = shape->height;
    request.num_frames = shape->num_frames;
    request.num_inference_steps = 2;
    request.prompt_tokens = 12;
    assert_int_equal(kw_model_open(catalog, shape->model, &model, &err), KW_OK);
    assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_OK);
    assert_int_equal(kw__lower(model, &r, &stack->dtypes, &program, &err), KW_OK);
    kw_model_close(model);
    for (size_t i = 0; i < stack->num_rewrites; i++)
        assert_int_equal(kw__rewrite_apply(program, stack->rewrites[i], &err), KW_OK);
    return program;
}

/* What is needed, and what the compiled plans have; false: this CPU lacks bf16. `grown`: by how much the
 * memory of this process grew while they were compiled. */
static bool compile(const struct shape *shape, struct kw__cpu_need *need, struct kw__exec_memory *plans,
                    double *grown)
{
    struct kw__stack *stack;
    struct kw__exec *run;
    kw_error err;
    assert_int_equal(kw__stack_open(catalog, shape->stack, &stack, &err), KW_OK);
    struct kw__program *program = lower(shape, stack);
    assert_int_equal(kw__cpu_need(program, stack, need, &err), KW_OK);
    double before = kw__process_memory("RssAnon");
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err);
    *grown = kw__process_memory("RssAnon") - before;
    if (!status) *plans = kw__exec_memory(run);
    if (!status) kw__exec_close(run);
    kw__program_free(program);
    kw__stack_close(stack);
    if (status) assert_int_equal(status, KW_ERROR_UNSUPPORTED);
    return !status;
}

static void expect_within(const char *what, double got, double wanted, double tolerance)
{
    if (!(fabs(got - wanted) <= tolerance)) fail_msg("%s: %g MB, not %g MB", what, got / 1e6, wanted / 1e6);
}

/* The library's own, in a process that has compiled nothing before: what it made once, it keeps. First of
 * all tests, since a process with threads of OpenMP cannot be forked. */
static void test_library(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* the sanitizer's own memory is many times that */
#else
    /* sizes of images by which the tables of oneDNN are small, large and in between; no tables in f32 */
    static const struct shape shapes[] = {{"wan2.1-t2v-nano", "kinowatt-cpu", 128, 128, 5},
                                          {"wan2.1-t2v-nano", "kinowatt-cpu", 320, 192, 5},
                                          {"wan2.1-t2v-nano", "kinowatt-cpu", 256, 256, 5},
                                          {"wan2.1-t2v-nano", "kinowatt-cpu", 832, 480, 5},
                                          {"wan2.1-t2v-1.3b", "kinowatt-cpu", 256, 256, 17},
                                          {"wan2.1-t2v-nano", "kinowatt-cpu-f32", 320, 192, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct {
            bool able;
            double needed, grown;
        } seen = {false, 0, 0};
        int ends[2], status;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct kw__cpu_need need;
            struct kw__exec_memory plans;
            seen.able = compile(&shapes[i], &need, &plans, &seen.grown);
            seen.needed = need.library;
            _exit(write(ends[1], &seen, sizeof seen) == sizeof seen ? 0 : 1);
        }
        close(ends[1]);
        assert_int_equal(read(ends[0], &seen, sizeof seen), sizeof seen);
        close(ends[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (seen.able) expect_within("library", seen.needed, seen.grown, 10e6 + 0.15 * seen.grown);
    }
#endif
}

/* The scratch memory of oneDNN's kernels is in the plans alone. */
static void test_plans(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{"wan2.1-t2v-nano", "kinowatt-cpu-f32", 64, 96, 9},
                                          {"wan2.1-t2v-nano", "kinowatt-cpu", 256, 144, 17},
                                          {"wan2.1-t2v-1.3b", "kinowatt-cpu", 256, 256, 17},
                                          {"wan2.1-t2v-1.3b", "kinowatt-cpu-f32", 832, 480, 81}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct kw__cpu_need need;
        struct kw__exec_memory plans;
        double grown;
        if (!compile(&shapes[i], &need, &plans, &grown)) continue;
        expect_within("weights", need.weights, plans.weights, 0.01 * plans.weights);
        expect_within("states", need.states, plans.states, 0.01 * plans.states);
        double planned = plans.weights + plans.states + plans.workspace;
        expect_within("plans", need.weights + need.states + need.workspace, planned, 0.02 * planned);
        /* by hand: f32 frames, and latents [16, (F - 1) / 4 + 1, H / 8, W / 8] twice */
        double pixels = (double)(shapes[i].width * shapes[i].height), f = (double)shapes[i].num_frames;
        double buffers = 4 * (3 * f * pixels + 2 * 16 * ((f - 1) / 4 + 1) * pixels / 64);
        expect_within("buffers", need.buffers, buffers, 1);
        kw_reading sum = kw__cpu_need_sum(&need);
        assert_true(sum.value > need.weights + need.states + need.workspace + buffers);
        assert_true(sum.low < sum.value && sum.value < sum.high && sum.status == KW_MODELLED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_library), cmocka_unit_test(test_plans)};
    return cmocka_run_group_tests_name("cpu_memory", tests, open_catalog, close_catalog);
}
