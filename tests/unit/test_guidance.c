/* Guidance in one batch is what it is pass by pass: WAN's steps, which diffusers takes one by one
 * (tests/golden/denoise.f64), in the interpreter and on the CPU; and what a stack's file may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/exec.h"
#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"
#include "support/golden.h"
#include "support/interp.h"

enum { STEPS = 4, CELLS = GOLDEN_CHANNELS * 2 * 4 * 4, WIDTH = 12 };
static const struct golden_size size = {
    2, 4, 4, .text_tokens = WIDTH, .steps = STEPS, .guidance = 5, .prompt_tokens = {7, 1}};
static const char *const phases[2] = {"prompt", "negative_prompt"};

/* The case of test_parity.c with both passes in one batch. */
static struct golden_case batched(void)
{
    struct golden_case c = golden_lower("wan-tiny", size);
    const kw_effective request = c.program->request;
    struct kw__dtypes dtypes = KW__ALL_F32;
    kw_error err;
    kw__program_free(c.program);
    dtypes.batched_guidance = KW__ALWAYS;
    if (kw__lower(c.model, &request, &dtypes, &c.program, &err)) fail_msg("%s", err.message);
    return c;
}

static void expect_last(const double *x, double most)
{
    double *wanted = golden_read("denoise.f64", STEPS * CELLS);
    double error = interp_relative_error(x, wanted + (STEPS - 1) * CELLS, CELLS);
    if (!(error < most)) fail_msg("relative error %.3g", error);
    free(wanted);
}

static void test_interpreted(void **state)
{
    (void)state;
    struct golden_case c = batched();
    uint64_t seed = GOLDEN_SEED;
    float noise[CELLS];
    double latents[CELLS];
    golden_noise("latents", CELLS, noise);
    for (int i = 0; i < CELLS; i++) latents[i] = (double)noise[i];
    struct interp *it = interp_new(c.program, interp_random_weights, &seed);
    interp_set(it, "latents", latents, CELLS);
    for (int p = 0; p < 2; p++) {
        char name[64];
        double ids[256];
        size_t width = golden_tokens(&c, phases[p], (int)size.prompt_tokens[p], 3 + p, 7, 100, ids);
        snprintf(name, sizeof name, "%s/ids", phases[p]);
        interp_set(it, name, ids, width);
        snprintf(name, sizeof name, "%s/length", phases[p]);
        interp_set_scalar(it, name, (double)size.prompt_tokens[p]);
    }
    if (!interp_run(it, "text_encode") || !interp_run(it, "denoise")) fail_msg("%s", interp_error(it));
    expect_last(interp_get(it, "latents").data, 1e-12);
    interp_free(it);
    golden_release(&c);
}

static void test_computed(void **state)
{
    (void)state;
    struct golden_case c = batched();
    struct kw__exec *run = NULL;
    struct kw__weights weights;
    kw_error err;
    float latents[CELLS];
    double wide[CELLS];
    golden_noise("latents", CELLS, latents);
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, c.program, &run, &err);
    if (!status) status = kw__weights_open("random:1", c.program, &weights, &err);
    if (!status) status = kw__exec_prepare(run, NULL, &weights, &err);
    if (!status) status = kw__exec_write(run, "latents", latents, CELLS, &err);
    for (int p = 0; p < 2 && !status; p++) {
        char name[64];
        double ids[256];
        float narrow[256], length = (float)size.prompt_tokens[p];
        size_t width = golden_tokens(&c, phases[p], (int)size.prompt_tokens[p], 3 + p, 7, 100, ids);
        for (size_t i = 0; i < width; i++) narrow[i] = (float)ids[i];
        snprintf(name, sizeof name, "%s/ids", phases[p]);
        status = kw__exec_write(run, name, narrow, width, &err);
        snprintf(name, sizeof name, "%s/length", phases[p]);
        if (!status) status = kw__exec_write(run, name, &length, 1, &err);
    }
    if (!status) status = kw__exec_stage(run, "text_encode", &err);
    if (!status) status = kw__exec_stage(run, "denoise", &err);
    if (!status) status = kw__exec_read(run, "latents", latents, CELLS, &err);
    if (status) fail_msg("%s", err.message);
    for (int i = 0; i < CELLS; i++) wide[i] = (double)latents[i];
    expect_last(wide, 1e-5);
    kw__weights_close(&weights);
    kw__exec_close(run);
    golden_release(&c);
}

/* The same work, in matrix products of twice the rows; what each pass did alike is done once in both. */
static void test_work(void **state)
{
    (void)state;
    struct golden_case one = batched(), two = golden_lower("wan-tiny", size);
    struct kw__sums sums[2] = {0};
    kw__graph_flop(golden_phase(&one, "denoise", "step")->graph, NULL, 1, &sums[0]);
    kw__graph_flop(golden_phase(&two, "denoise", "step")->graph, NULL, 1, &sums[1]);
    assert_true(sums[0].flop > 0 && sums[0].flop == sums[1].flop);
    assert_true(golden_phase(&one, "denoise", "step")->graph->num_ops <
                golden_phase(&two, "denoise", "step")->graph->num_ops * 6 / 10);
    golden_release(&one);
    golden_release(&two);
}

/* A stack of this file with `line` added. */
static struct kw__dtypes read_stack(const char *line)
{
    char path[] = "/tmp/kinowatt-stack-XXXXXX";
    kw_catalog *catalog;
    kw_error err;
    struct kw__stack *stack = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dprintf(fd,
            "{\"schema\": \"kinowatt.stack/1\", \"name\": \"a\", \"title\": \"a\", \"source\": \"a\", "
            "\"dtypes\": {\"text_encoder\": \"f32\", \"denoiser\": \"f32\", \"residual\": \"f32\", "
            "\"vae\": \"f32\"}, \"tf32_conv\": false, \"tf32_gemm\": false, \"resident_extra_bytes\": 0, "
            "\"rewrites\": [], \"kernels\": {}%s}",
            line);
    close(fd);
    if (kw_catalog_open("data", &catalog, &err)) fail_msg("%s", err.message);
    if (kw__stack_open(catalog, path, &stack, &err)) fail_msg("%s", err.message);
    struct kw__dtypes dtypes = stack->dtypes;
    kw__stack_close(stack);
    kw_catalog_close(catalog);
    unlink(path);
    return dtypes;
}

static void test_stacks(void **state)
{
    (void)state;
    struct kw__dtypes d = read_stack("");
    assert_true(d.batched_guidance == KW__AS_PIPELINE && d.tiled_decode == KW__AS_PIPELINE);
    d = read_stack(", \"batched_guidance\": true, \"tiled_decode\": false");
    assert_true(d.batched_guidance == KW__ALWAYS && d.tiled_decode == KW__NEVER);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kw__choose(KW__AS_PIPELINE, i), i);
        assert_true(kw__choose(KW__ALWAYS, i));
        assert_false(kw__choose(KW__NEVER, i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interpreted),
        cmocka_unit_test(test_computed),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
