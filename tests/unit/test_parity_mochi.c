/* Mochi's graphs compute what diffusers computes: as test_parity.c, on the tiny model
 * tests/golden/mochi-tiny, with the cases of tools/reference/make_mochi.py; and the cpu backend in f32
 * computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "graph/rewrite.h"
#include "support/parity.h"

static const struct parity_model mochi = {"mochi-tiny", 16, 60, KW__UNPATCHIFY};

/* ---- Transformer ----------------------------------------------------------------------------- */

static void transformer_one_frame(void **state)
{
    (void)state;
    parity_denoiser(ON_INTERPRETER, &mochi, "mochi_transformer.f64",
                    (struct golden_size){1, 2, 4, .text_tokens = 6}, (const double[]){4}, 421.5);
}

/* Each row of the batch attends to as much text as its prompt has. */
static void transformer_with_prompts_of_two_lengths(void **state)
{
    (void)state;
    parity_denoiser(ON_INTERPRETER, &mochi, "mochi_transformer_batch.f64",
                    (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 9}, (const double[]){9, 2},
                    30.25);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void decode_one_latent_frame(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &mochi, "mochi_decode_1.f32",
                  (struct golden_size){.frames = 1, .height = 2, .width = 4}, 1, false);
}

static void decode_three_latent_frames(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &mochi, "mochi_decode_3.f32",
                  (struct golden_size){.frames = 3, .height = 2, .width = 2}, 13, false);
}

/* Two tiles, of 256 and of 80 columns, which share 64. */
static void decode_in_tiles(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &mochi, "mochi_tiles.f32", (struct golden_size){1, 2, 34, .tiled = true}, 1,
                  false);
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &mochi, "mochi_decode_3.f32", (struct golden_size){3, 2, 2, .tiled = true},
                  13, false);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

static void check_pipelines(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &mochi, "mochi_denoise.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 9, .steps = 4, .guidance = 4.5,
                                        .prompt_tokens = {7, 1}, .rewrite = rewrite});
    parity_denoise(on, &mochi, "mochi_denoise_full.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 8, .steps = 4, .guidance = 4.5,
                                        .prompt_tokens = {8, 3}, .rewrite = rewrite});
    parity_denoise(on, &mochi, "mochi_denoise_one_pass.f64",
                   (struct golden_size){1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1,
                                        .prompt_tokens = {4, 1}, .rewrite = rewrite});
}

static void denoise_both_prompts_in_one_batch(void **state)
{
    (void)state;
    check_pipelines(ON_INTERPRETER, NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    for (size_t i = 0; i <= kw__rewrite_count(); i++) {
        const char *name = i < kw__rewrite_count() ? kw__rewrite_name(i) : "all";
        check_pipelines(ON_INTERPRETER, name);
    }
    parity_decode(ON_INTERPRETER, &mochi, "mochi_decode_1.f32",
                  (struct golden_size){1, 2, 4, .rewrite = "all"}, 1, false);
}

/* ---- On the CPU ---------------------------------------------------------------------------------- */

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        parity_denoiser(ON_CPU, &mochi, "mochi_transformer.f64",
                        (struct golden_size){1, 2, 4, .text_tokens = 6, .rewrite = name}, (const double[]){4},
                        421.5);
        parity_denoiser(ON_CPU, &mochi, "mochi_transformer_batch.f64",
                        (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 9, .rewrite = name},
                        (const double[]){9, 2}, 30.25);
        check_pipelines(ON_CPU, name);
        parity_decode(ON_CPU, &mochi, "mochi_decode_1.f32", (struct golden_size){1, 2, 4, .rewrite = name}, 1,
                      false);
        parity_decode(ON_CPU, &mochi, "mochi_decode_3.f32", (struct golden_size){3, 2, 2, .rewrite = name},
                      13, false);
        parity_decode(ON_CPU, &mochi, "mochi_tiles.f32",
                      (struct golden_size){1, 2, 34, .tiled = true, .rewrite = name}, 1, false);
    }
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
        cmocka_unit_test(the_cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
