/* The reference graphs compute what diffusers and transformers compute: each stage of the tiny models
 * in tests/golden is lowered, run by the interpreter in float64 on random weights, and compared with
 * what the Python classes gave (tools/reference/make_golden.py holds the same cases). Then the same for
 * the graphs that each rewrite makes of them, and all rewrites together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/unipc.h"
#include "graph/rewrite.h"
#include "support/golden.h"
#include "support/interp.h"

/* The files are float64 sums in another order, or rounded to float32 once. */
static const double tolerance_f64 = 1e-12, tolerance_f32 = 1e-7;

enum { CHANNELS = GOLDEN_CHANNELS };
static uint64_t seed = GOLDEN_SEED;

/* ---- Files and inputs ------------------------------------------------------------------------ */

/* `how` the graph was made, for the message. */
static void compare(const char *name, const char *how, const double *got, size_t count)
{
    assert_non_null(got);
    double *wanted = golden_read(name, count);
    double error = interp_relative_error(got, wanted, count);
    double tolerance = strstr(name, ".f32") ? tolerance_f32 : tolerance_f64;
    free(wanted);
    if (!(error <= tolerance))
        fail_msg("%s, %s: relative error %.3g, allowed %.3g", name, how, error, tolerance);
}

static void fill_noise(const char *name, size_t count, double *out)
{
    float *noise = malloc(count * sizeof *noise);
    assert_non_null(noise);
    golden_noise(name, count, noise);
    for (size_t i = 0; i < count; i++) out[i] = noise[i];
    free(noise);
}

static void set_noise(struct interp *it, const char *input, const char *name, size_t count)
{
    double *elements = calloc(count, sizeof *elements);
    assert_non_null(elements);
    fill_noise(name, count, elements);
    interp_set(it, input, elements, count);
    free(elements);
}

/* ---- Lowering -------------------------------------------------------------------------------- */

struct lowered {
    struct golden_case golden;
    struct kw__program *program; /* the case's */
    const char *how;             /* the rewrite */
    struct interp *it;
};

static struct lowered lower(const char *name, struct golden_size size)
{
    struct lowered l = {.golden = golden_lower(name, size)};
    l.program = l.golden.program;
    l.how = l.golden.how;
    l.it = interp_new(l.program, interp_random_weights, &seed);
    return l;
}

static void release(struct lowered *l)
{
    interp_free(l->it);
    golden_release(&l->golden);
}

static void run(struct lowered *l, const char *stage)
{
    if (!interp_run(l->it, stage)) fail_msg("%s, %s: %s", stage, l->how, interp_error(l->it));
}

static struct kw__phase *find_phase(struct lowered *l, const char *stage, const char *phase)
{
    struct kw__phase *found = golden_phase(&l->golden, stage, phase);
    if (!found) fail_msg("%s: no phase %s of %s", l->how, phase, stage);
    return found;
}

static void set_tokens(struct lowered *l, const char *phase, int length, int first, int stride,
                       int vocabulary)
{
    char ids_name[64], length_name[64];
    double ids[256];
    size_t width = golden_tokens(&l->golden, phase, length, first, stride, vocabulary, ids);
    snprintf(ids_name, sizeof ids_name, "%s/ids", phase);
    snprintf(length_name, sizeof length_name, "%s/length", phase);
    interp_set(l->it, ids_name, ids, width);
    interp_set_scalar(l->it, length_name, length);
}

/* ---- Text encoder ---------------------------------------------------------------------------- */

static void check_text(const char *golden, const char *model, int length, int width, int first, int stride,
                       int vocabulary)
{
    struct lowered l = lower(model, (struct golden_size){1, 2, 2, .text_tokens = width, .guidance = 1});
    set_tokens(&l, "prompt", length, first, stride, vocabulary);
    run(&l, "text_encode");
    struct interp_array text = interp_get(l.it, "text.0");
    assert_int_equal(text.ndim, 3);
    assert_int_equal(text.dim[1], width);
    compare(golden, l.how, text.data, text.count);
    release(&l);
}

static void test_text_encoder_pads_with_zeros(void **state)
{
    (void)state;
    check_text("text_short.f64", "wan-tiny", 7, 12, 3, 7, 100);
}

static void test_text_encoder_beyond_the_largest_distance(void **state)
{
    (void)state;
    check_text("text_long.f32", "wan-tiny", 150, 160, 5, 11, 100);
}

static void test_text_encoder_without_padding(void **state)
{
    (void)state;
    check_text("text_128.f64", "wan-tiny-128", 40, 40, 1, 13, 60);
}

/* ---- Transformer ----------------------------------------------------------------------------- */

/* One pass: the value that UNPATCHIFY gives in the one step of a schedule with our timestep. */
static void check_transformer(const char *golden, const char *model, struct golden_size size,
                              int64_t text_dim, double timestep)
{
    struct lowered l = lower(model, size);
    size_t batch = (size_t)l.program->request.batch_size;
    set_noise(l.it, "latents", "latents",
              batch * CHANNELS * (size_t)(size.frames * size.height * size.width));
    set_noise(l.it, "text.0", "text", batch * (size_t)(size.text_tokens * text_dim));
    struct kw__phase *phase = find_phase(&l, "denoise", "step");
    double row[32] = {0};
    assert_true(phase->table.columns <= 32);
    memcpy(row, phase->table.rows, (size_t)phase->table.columns * sizeof *row);
    row[KW__UNIPC_TIMESTEP] = timestep;
    phase->table.rows = row;
    run(&l, "denoise");
    const struct kw__graph *g = phase->graph;
    const char *output = NULL;
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__UNPATCHIFY) output = g->values[g->ops[i].output[0]].name;
    assert_non_null(output);
    struct interp_array v = interp_get(l.it, output);
    compare(golden, l.how, v.data, v.count);
    release(&l);
}

static void test_transformer_one_frame(void **state)
{
    (void)state;
    check_transformer("transformer_a.f64", "wan-tiny",
                      (struct golden_size){1, 2, 4, .text_tokens = 12, .guidance = 1}, 24, 999);
}

static void test_transformer_batch_of_two(void **state)
{
    (void)state;
    struct golden_size size = {3, 4, 6, .batch = 2, .text_tokens = 12, .guidance = 1};
    check_transformer("transformer_b.f64", "wan-tiny", size, 24, 421);
}

static void test_transformer_head_dim_128(void **state)
{
    (void)state;
    check_transformer("transformer_128.f64", "wan-tiny-128",
                      (struct golden_size){2, 6, 4, .text_tokens = 5, .guidance = 1}, 8, 37);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void check_decode(const char *golden, const char *model, struct golden_size size)
{
    size.text_tokens = 1;
    struct lowered l = lower(model, size);
    set_noise(l.it, "latents", "latents", CHANNELS * (size_t)(size.frames * size.height * size.width));
    run(&l, "decode");
    struct interp_array frames = interp_get(l.it, "frames");
    assert_int_equal(frames.ndim, 5);
    assert_int_equal(frames.dim[1], 1 + 4 * (size.frames - 1));
    compare(golden, l.how, frames.data, frames.count);
    release(&l);
}

static void test_decode_one_latent_frame(void **state)
{
    (void)state;
    check_decode("decode_1.f32", "wan-tiny", (struct golden_size){.frames = 1, .height = 2, .width = 3});
}

static void test_decode_two_latent_frames(void **state)
{
    (void)state;
    check_decode("decode_2.f32", "wan-tiny", (struct golden_size){.frames = 2, .height = 1, .width = 2});
}

static void test_decode_three_latent_frames(void **state)
{
    (void)state;
    check_decode("decode_3.f32", "wan-tiny", (struct golden_size){.frames = 3, .height = 2, .width = 2});
}

static void test_decode_six_latent_frames(void **state)
{
    (void)state;
    struct golden_size size = {.frames = 6, .height = 1, .width = 2};
    check_decode("decode_6.f32", "wan-tiny", size);
    check_decode("decode_6_uncached.f32", "wan-tiny", size); /* the class's layers on all frames at once */
}

static void test_decode_other_layout(void **state)
{
    (void)state;
    check_decode("decode_128.f32", "wan-tiny-128",
                 (struct golden_size){.frames = 3, .height = 1, .width = 2});
}

/* ---- Solver ---------------------------------------------------------------------------------- */

/* The recurrence of engine/unipc.h on the model output v = sin(3 x) + t / 1000. */
static void check_solver(const char *golden, int64_t steps, double shift)
{
    enum { N = 8 };
    double rows[50 * KW__UNIPC_COLUMNS], samples[50 * N], x[N], m0[N] = {0}, m1[N] = {0}, last[N] = {0};
    kw__unipc_table(steps, shift, 1000, KW__UNIPC_COLUMNS, rows);
    fill_noise("latents", N, x);
    for (int64_t i = 0; i < steps; i++) {
        const double *row = rows + i * KW__UNIPC_COLUMNS, *convert = row + KW__UNIPC_CONVERT;
        const double *c = row + KW__UNIPC_CORRECT, *p = row + KW__UNIPC_PREDICT;
        for (int k = 0; k < N; k++) {
            double v = sin(3 * x[k]) + row[KW__UNIPC_TIMESTEP] / 1000;
            double x0 = convert[0] * x[k] + convert[1] * v;
            last[k] = c[0] * last[k] + c[1] * m0[k] + c[2] * m1[k] + c[3] * x0 + c[4] * x[k];
            samples[i * N + k] = x[k] = p[0] * last[k] + p[1] * x0 + p[2] * m0[k];
            m1[k] = m0[k];
            m0[k] = x0;
        }
    }
    compare(golden, "its table", samples, (size_t)steps * N);
}

static void test_solver(void **state)
{
    (void)state;
    static const int steps[] = {1, 2, 3, 10, 50};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "solver_%d.f64", steps[i]);
        check_solver(name, steps[i], 3);
        snprintf(name, sizeof name, "solver_%d_shift_5.f64", steps[i]);
        check_solver(name, steps[i], 5);
    }
}

/* sigma x 1000 is a whole number up to its last bit here; these are UniPCMultistepScheduler's. */
static void test_timesteps_where_the_last_bit_counts(void **state)
{
    (void)state;
    double rows[27 * KW__UNIPC_COLUMNS];
    kw__unipc_table(27, 1, 1000, KW__UNIPC_COLUMNS, rows);
    assert_int_equal((int)rows[18 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 334);
    assert_int_equal((int)rows[19 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 297);
    assert_int_equal((int)rows[21 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 223);
    assert_int_equal((int)rows[22 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 186);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

struct trajectory {
    double samples[4 * CHANNELS * 64];
    size_t count;
};

static void keep_latents(void *user, struct interp *it, const struct kw__phase *phase, int64_t iteration)
{
    struct trajectory *t = user;
    (void)iteration;
    if (strcmp(phase->name, "step") != 0) return;
    struct interp_array x = interp_get(it, "latents");
    assert_true(t->count + x.count <= sizeof t->samples / sizeof t->samples[0]);
    memcpy(t->samples + t->count, x.data, x.count * sizeof *x.data);
    t->count += x.count;
}

static void check_denoise(const char *golden, const char *model, struct golden_size size, int vocabulary)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct lowered l = lower(model, size);
    struct trajectory t = {.count = 0};
    for (int i = 0; i < l.program->request.guidance_passes; i++)
        set_tokens(&l, phases[i], (int)size.prompt_tokens[i], 3 + i, 7, vocabulary);
    set_noise(l.it, "latents", "latents", CHANNELS * (size_t)(size.frames * size.height * size.width));
    interp_observe(l.it, keep_latents, &t);
    run(&l, "text_encode");
    run(&l, "denoise");
    compare(golden, l.how, t.samples, t.count);
    release(&l);
}

static const struct golden_size guided = {
    2, 4, 4, .text_tokens = 12, .steps = 4, .guidance = 5, .prompt_tokens = {7, 1}};
static const struct golden_size one_pass = {
    1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1, .prompt_tokens = {4, 1}};

static void test_denoise_with_guidance(void **state)
{
    (void)state;
    check_denoise("denoise.f64", "wan-tiny", guided, 100);
}

static void test_denoise_head_dim_128(void **state)
{
    (void)state;
    struct golden_size size = {2, 4, 4, .text_tokens = 8, .steps = 4, .guidance = 5, .prompt_tokens = {8, 3}};
    check_denoise("denoise_128.f64", "wan-tiny-128", size, 60);
}

static void test_denoise_one_pass(void **state)
{
    (void)state;
    check_denoise("denoise_one_pass.f64", "wan-tiny-128", one_pass, 60);
}

/* ---- Rewrites -------------------------------------------------------------------------------- */

/* A number that changes with the operators, their shapes and the phases. */
static uint64_t fingerprint(const struct kw__program *program)
{
    uint64_t hash = 0;
    for (int s = 0; s < program->num_stages; s++) {
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops; i++) {
                const struct kw__op *op = &g->ops[i];
                const struct kw__value *y = &g->values[op->output[0]];
                hash = hash * 1000003 + (uint64_t)op->code + 64 * (uint64_t)kw__elements(y);
                for (int k = 0; k < op->num_inputs; k++)
                    hash = hash * 1000003 + (uint64_t)kw__elements(&g->values[op->input[k]]);
            }
            hash = hash * 1000003 + 1;
        }
    }
    return hash;
}

/* Each of them applies to the graphs that it is tested on. */
static void test_rewrites_change_the_graph(void **state)
{
    (void)state;
    struct lowered reference = lower("wan-tiny", guided);
    for (size_t i = 0; i < kw__rewrite_count(); i++) {
        struct golden_size size = guided;
        size.rewrite = kw__rewrite_name(i);
        struct lowered l = lower("wan-tiny", size);
        if (fingerprint(l.program) == fingerprint(reference.program))
            fail_msg("%s does nothing", size.rewrite);
        release(&l);
    }
    release(&reference);
}

/* The text encoder's part shows in the latents. */
static void check_rewrite(const char *name)
{
    struct golden_size size = guided;
    size.rewrite = name;
    check_denoise("denoise.f64", "wan-tiny", size, 100);
    size = one_pass;
    size.rewrite = name;
    check_denoise("denoise_one_pass.f64", "wan-tiny-128", size, 60);
    check_decode("decode_3.f32", "wan-tiny",
                 (struct golden_size){.frames = 3, .height = 2, .width = 2, .rewrite = name});
    check_decode("decode_128.f32", "wan-tiny-128",
                 (struct golden_size){.frames = 3, .height = 1, .width = 2, .rewrite = name});
}

static void test_each_rewrite(void **state)
{
    (void)state;
    for (size_t i = 0; i < kw__rewrite_count(); i++) check_rewrite(kw__rewrite_name(i));
}

static void test_all_rewrites(void **state)
{
    (void)state;
    check_rewrite("all");
    check_rewrite("all twice");
    check_rewrite("all backwards");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_encoder_pads_with_zeros),
        cmocka_unit_test(test_text_encoder_beyond_the_largest_distance),
        cmocka_unit_test(test_text_encoder_without_padding),
        cmocka_unit_test(test_transformer_one_frame),
        cmocka_unit_test(test_transformer_batch_of_two),
        cmocka_unit_test(test_transformer_head_dim_128),
        cmocka_unit_test(test_decode_one_latent_frame),
        cmocka_unit_test(test_decode_two_latent_frames),
        cmocka_unit_test(test_decode_three_latent_frames),
        cmocka_unit_test(test_decode_six_latent_frames),
        cmocka_unit_test(test_decode_other_layout),
        cmocka_unit_test(test_solver),
        cmocka_unit_test(test_timesteps_where_the_last_bit_counts),
        cmocka_unit_test(test_denoise_with_guidance),
        cmocka_unit_test(test_denoise_head_dim_128),
        cmocka_unit_test(test_denoise_one_pass),
        cmocka_unit_test(test_rewrites_change_the_graph),
        cmocka_unit_test(test_each_rewrite),
        cmocka_unit_test(test_all_rewrites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
