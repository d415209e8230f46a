/* T5 v1.1 and CLIP: the transformers classes on tiny configs with the weights of random.h
 * (tools/reference/make_text.py), in the interpreter and on the CPU; FLOPs and parameters of the real
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec.h"
#include "graph/count.h"
#include "model/family.h"
#include "support/golden.h"
#include "support/interp.h"

static const struct kw__t5 tiny_t5 = {60, 24, 40, 6, 4, 3, 8, 12, 1e-6, false};
static const struct kw__t5 xxl = {32128, 4096, 10240, 64, 64, 24, 32, 128, 1e-6, false};
static const struct kw__clip_text tiny_clip = {60, 24, 40, 3, 2, 11, 1e-5, KW__ACT_GELU_QUICK};
static const struct kw__clip_text vit_l = {49408, 768, 3072, 12, 12, 77, 1e-5, KW__ACT_GELU_QUICK};

/* A program of one stage, "text", of one prompt; its result is the state "hidden". */
static struct kw__program *program_of(const struct kw__t5 *t5, const struct kw__clip_text *clip,
                                      int64_t width, bool masked)
{
    const kw_effective request = {0};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    assert_non_null(program);
    struct kw__stage *stage = kw__program_stage(program, "text");
    struct kw__graph *g = kw__stage_phase(program, stage, "prompt", 1);
    g->component = g->tensors = "text_encoder";
    int ids = kw__input(g, "ids", KW__I32, KW__PROMPT, KW__DIMS(1, width));
    int length = masked ? kw__input(g, "length", KW__I32, KW__PROMPT, KW__DIMS(1)) : 0;
    int y = t5 ? kw__t5_encode(g, t5, ids, length, KW__F32) : kw__clip_text_encode(g, clip, ids, KW__F32);
    assert_int_not_equal(y, 0);
    kw__state_next(g, kw__state(g, "hidden", KW__F32, KW__PROMPT, 3, g->values[y].dim), y);
    assert_false(program->arena.failed);
    return program;
}

static void expect_close(const double *got, const char *golden, size_t count, double most)
{
    double *wanted = golden_read(golden, count), error = interp_relative_error(got, wanted, count);
    if (!(error <= most)) fail_msg("%s: relative error %.3g", golden, error);
    free(wanted);
}

/* The rows before `length` against the golden file; releases the program. */
static void compare(struct kw__program *program, const char *golden, int64_t width, int64_t length,
                    int64_t first, int64_t stride)
{
    uint64_t seed = GOLDEN_SEED;
    double ids[32];
    float narrow[32], hidden[32 * 24];
    size_t count = (size_t)(length * 24);
    for (int64_t i = 0; i < width; i++) {
        ids[i] = (double)((first + stride * i) % 60);
        narrow[i] = (float)ids[i];
    }
    struct interp *it = interp_new(program, interp_random_weights, &seed);
    interp_set(it, "ids", ids, (size_t)width);
    interp_set_scalar(it, "length", (double)length);
    if (!interp_run(it, "text")) fail_msg("%s", interp_error(it));
    expect_close(interp_get(it, "hidden").data, golden, count, 1e-12);
    interp_free(it);

    struct kw__exec *run = NULL;
    struct kw__weights weights;
    kw_error err;
    float keys = (float)length;
    bool masked = length < width;
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err);
    if (!status) status = kw__weights_open("random:1", program, &weights, &err);
    if (status) fail_msg("%s", err.message);
    (void)((status = kw__exec_prepare(run, "text", &weights, &err)) ||
           (status = kw__exec_write(run, "ids", narrow, (size_t)width, &err)) ||
           (masked && (status = kw__exec_write(run, "length", &keys, 1, &err))) ||
           (status = kw__exec_stage(run, "text", &err)) ||
           (status = kw__exec_read(run, "hidden", hidden, (size_t)(width * 24), &err)));
    if (status) fail_msg("%s", err.message);
    double wide[32 * 24];
    for (size_t i = 0; i < count; i++) wide[i] = (double)hidden[i];
    expect_close(wide, golden, count, 1e-6);
    kw__weights_close(&weights);
    kw__exec_close(run);
    kw__program_free(program);
}

static void test_t5(void **state)
{
    (void)state;
    compare(program_of(&tiny_t5, NULL, 20, false), "t5_no_mask.f64", 20, 20, 3, 7);
    compare(program_of(&tiny_t5, NULL, 9, true), "t5_masked.f64", 9, 5, 3, 7);
}

static void test_clip(void **state)
{
    (void)state;
    struct kw__clip_text exact = tiny_clip;
    exact.activation = KW__ACT_GELU_ERF;
    compare(program_of(NULL, &tiny_clip, 11, false), "clip.f64", 11, 11, 5, 11);
    compare(program_of(NULL, &exact, 7, false), "clip_gelu.f64", 7, 7, 5, 11);
}

static int64_t parameters(const struct kw__program *program)
{
    int64_t sum = 0;
    for (size_t i = 0; i < program->num_tensors; i++) {
        int64_t n = 1;
        for (int k = 0; k < program->tensors[i].ndim; k++) n *= program->tensors[i].dim[k];
        sum += n;
    }
    return sum;
}

static bool declares(const struct kw__program *program, const char *name)
{
    for (size_t i = 0; i < program->num_tensors; i++)
        if (strcmp(program->tensors[i].name, name) == 0) return true;
    return false;
}

/* 226 tokens: PyTorch's own count of the transformers class. CLIP: 12 (4 d d + 2 d ffn) and the two
 * products of attention, by hand. */
static void test_real_sizes(void **state)
{
    (void)state;
    struct kw__program *program = program_of(&xxl, NULL, 226, false);
    struct kw__sums sums = {0};
    kw__graph_flop(program->stages[0].phases[0].graph, NULL, 1, &sums);
    assert_true(sums.flop == 2113075150848.0);
    assert_int_equal(parameters(program), 4762310656);
    assert_int_equal(program->num_tensors, 219);
    assert_true(declares(program, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"));
    assert_false(declares(program, "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"));
    kw__program_free(program);

    program = program_of(NULL, &vit_l, 77, false);
    sums = (struct kw__sums){0};
    kw__graph_flop(program->stages[0].phases[0].graph, NULL, 1, &sums);
    assert_true(sums.flop == 12 * (2.0 * 77 * (4 * 768 * 768 + 2 * 768 * 3072) + 4.0 * 77 * 77 * 768));
    assert_int_equal(parameters(program), 123060480);
    assert_int_equal(program->num_tensors, 2 + 12 * 16 + 2);
    assert_true(declares(program, "text_model.encoder.layers.11.self_attn.out_proj.bias"));
    kw__program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_t5),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_real_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
