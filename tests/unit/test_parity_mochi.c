/* Mochi's graphs compute what diffusers computes: as test_parity.c, on the tiny model
 * tests/golden/mochi-tiny, with the cases of tools/reference/make_mochi.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/solvers.h"
#include "graph/rewrite.h"
#include "support/golden.h"
#include "support/interp.h"

/* The files are float64 sums in another order, or rounded to float32 once. */
static const double tolerance_f64 = 1e-12, tolerance_f32 = 1e-7;

enum { TEXT_DIM = 16, VOCABULARY = 60 };
static uint64_t seed = GOLDEN_SEED;

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

static void set_noise(struct interp *it, const char *input, const char *name, size_t count)
{
    float *noise = calloc(count, sizeof *noise);
    double *elements = calloc(count, sizeof *elements);
    assert_true(noise && elements);
    golden_noise(name, count, noise);
    for (size_t i = 0; i < count; i++) elements[i] = noise[i];
    interp_set(it, input, elements, count);
    free(elements);
    free(noise);
}

struct lowered {
    struct golden_case golden;
    struct interp *it;
};

static struct lowered lower(struct golden_size size)
{
    size.resolved = true;
    struct lowered l = {.golden = golden_lower("mochi-tiny", size)};
    l.it = interp_new(l.golden.program, interp_random_weights, &seed);
    size_t batch = (size_t)l.golden.program->request.batch_size;
    set_noise(l.it, "latents", "latents",
              batch * GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
    return l;
}

static void release(struct lowered *l)
{
    interp_free(l->it);
    golden_release(&l->golden);
}

static void run(struct lowered *l, const char *stage)
{
    if (!interp_run(l->it, stage)) fail_msg("%s, %s: %s", stage, l->golden.how, interp_error(l->it));
}

/* ---- Transformer ----------------------------------------------------------------------------- */

/* One pass: what UNPATCHIFY gives in the one step of a schedule with our timestep. */
static void check_transformer(const char *golden, struct golden_size size, const double *lengths,
                              double timestep)
{
    size.guidance = 1;
    struct lowered l = lower(size);
    size_t batch = (size_t)l.golden.program->request.batch_size;
    set_noise(l.it, "text.0", "text", batch * (size_t)(size.text_tokens * TEXT_DIM));
    interp_set(l.it, "text_length.0", lengths, batch);
    struct kw__phase *phase = golden_phase(&l.golden, "denoise", "step");
    assert_non_null(phase);
    double row[KW__STEP_COLUMNS + 2];
    assert_int_equal(phase->table.columns, KW__STEP_COLUMNS + 2);
    memcpy(row, phase->table.rows, sizeof row);
    row[KW__STEP_TIMESTEP] = timestep;
    phase->table.rows = row;
    run(&l, "denoise");
    const struct kw__graph *g = phase->graph;
    const char *output = NULL;
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__UNPATCHIFY) output = g->values[g->ops[i].output[0]].name;
    assert_non_null(output);
    struct interp_array v = interp_get(l.it, output);
    compare(golden, l.golden.how, v.data, v.count);
    release(&l);
}

static void transformer_one_frame(void **state)
{
    (void)state;
    check_transformer("mochi_transformer.f64", (struct golden_size){1, 2, 4, .text_tokens = 6},
                      (const double[]){4}, 421.5);
}

/* Each row of the batch attends to as much text as its prompt has. */
static void transformer_with_prompts_of_two_lengths(void **state)
{
    (void)state;
    check_transformer("mochi_transformer_batch.f64",
                      (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 9}, (const double[]){9, 2},
                      30.25);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void check_decode(const char *golden, struct golden_size size)
{
    size.text_tokens = 1;
    struct lowered l = lower(size);
    run(&l, "decode");
    struct interp_array frames = interp_get(l.it, "frames");
    assert_int_equal(frames.ndim, 5);
    assert_int_equal(frames.dim[1], 1 + 6 * (size.frames - 1));
    compare(golden, l.golden.how, frames.data, frames.count);
    release(&l);
}

static void decode_one_latent_frame(void **state)
{
    (void)state;
    check_decode("mochi_decode_1.f32", (struct golden_size){.frames = 1, .height = 2, .width = 4});
}

static void decode_three_latent_frames(void **state)
{
    (void)state;
    check_decode("mochi_decode_3.f32", (struct golden_size){.frames = 3, .height = 2, .width = 2});
}

/* Two tiles, of 256 and of 80 columns, which share 64. */
static void decode_in_tiles(void **state)
{
    (void)state;
    check_decode("mochi_tiles.f32", (struct golden_size){1, 2, 34, .tiled = true});
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    check_decode("mochi_decode_3.f32", (struct golden_size){3, 2, 2, .tiled = true});
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

struct trajectory {
    double samples[4 * GOLDEN_CHANNELS * 64];
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

static void check_denoise(const char *golden, struct golden_size size)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct lowered l = lower(size);
    struct trajectory t = {.count = 0};
    for (int i = 0; i < l.golden.program->request.guidance_passes; i++) {
        char name[64];
        double ids[256];
        int length = (int)size.prompt_tokens[i];
        size_t width = golden_tokens(&l.golden, phases[i], length, 3 + i, 7, VOCABULARY, ids);
        snprintf(name, sizeof name, "%s/ids", phases[i]);
        interp_set(l.it, name, ids, width);
        snprintf(name, sizeof name, "%s/length", phases[i]);
        interp_set_scalar(l.it, name, length);
    }
    interp_observe(l.it, keep_latents, &t);
    run(&l, "text_encode");
    run(&l, "denoise");
    compare(golden, l.golden.how, t.samples, t.count);
    release(&l);
}

static void check_pipelines(const char *rewrite)
{
    check_denoise("mochi_denoise.f64",
                  (struct golden_size){2, 4, 4, .text_tokens = 9, .steps = 4, .guidance = 4.5,
                                       .prompt_tokens = {7, 1}, .rewrite = rewrite});
    check_denoise("mochi_denoise_full.f64",
                  (struct golden_size){2, 4, 4, .text_tokens = 8, .steps = 4, .guidance = 4.5,
                                       .prompt_tokens = {8, 3}, .rewrite = rewrite});
    check_denoise("mochi_denoise_one_pass.f64",
                  (struct golden_size){1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1,
                                       .prompt_tokens = {4, 1}, .rewrite = rewrite});
}

static void denoise_both_prompts_in_one_batch(void **state)
{
    (void)state;
    check_pipelines(NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    for (size_t i = 0; i <= kw__rewrite_count(); i++) {
        const char *name = i < kw__rewrite_count() ? kw__rewrite_name(i) : "all";
        check_pipelines(name);
    }
    check_decode("mochi_decode_1.f32", (struct golden_size){1, 2, 4, .rewrite = "all"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformer_one_frame),
        cmocka_unit_test(transformer_with_prompts_of_two_lengths),
        cmocka_unit_test(decode_one_latent_frame),
        cmocka_unit_test(decode_three_latent_frames),
        cmocka_unit_test(decode_in_tiles),
        cmocka_unit_test(small_clips_are_not_tiled),
        cmocka_unit_test(denoise_both_prompts_in_one_batch),
        cmocka_unit_test(rewrites_leave_the_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
