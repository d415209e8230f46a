/* CogVideoX's graphs compute what diffusers computes: as test_parity.c, on the tiny models
 * tests/golden/cogvideox-tiny (fixed positions, as 2b) and cogvideox-tiny-rotary (as 5b), with the cases of
 * tools/reference/make_cogvideox.py; and the cpu backend in f32 computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "graph/rewrite.h"
#include "support/parity.h"

static const struct parity_model fixed = {"cogvideox-tiny", 24, 60, KW__DEPTH_TO_SPACE};
static const struct parity_model rotary = {"cogvideox-tiny-rotary", 24, 60, KW__DEPTH_TO_SPACE};

/* ---- Transformer ----------------------------------------------------------------------------- */

static void transformer_with_fixed_positions(void **state)
{
    (void)state;
    parity_denoiser(ON_INTERPRETER, &fixed, "cogvideox_transformer.f64",
                    (struct golden_size){1, 2, 4, .text_tokens = 6}, NULL, 999);
    parity_denoiser(ON_INTERPRETER, &fixed, "cogvideox_transformer_batch.f64",
                    (struct golden_size){3, 4, 2, .batch = 2, .text_tokens = 5}, NULL, 421);
}

static void transformer_with_rotary_positions(void **state)
{
    (void)state;
    parity_denoiser(ON_INTERPRETER, &rotary, "cogvideox_transformer_rotary.f64",
                    (struct golden_size){2, 8, 12, .text_tokens = 5}, NULL, 37);
}

/* Sizes of another aspect ratio than that of training are spread over a part of it. */
static void rotary_positions_of_other_sizes(void **state)
{
    (void)state;
    parity_denoiser(ON_INTERPRETER, &rotary, "cogvideox_transformer_rotary_tall.f64",
                    (struct golden_size){2, 6, 2, .text_tokens = 3}, NULL, 700);
    parity_denoiser(ON_INTERPRETER, &rotary, "cogvideox_transformer_rotary_wide.f64",
                    (struct golden_size){1, 4, 14, .text_tokens = 3}, NULL, 700);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void decode_one_latent_frame(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &fixed, "cogvideox_decode_1.f32",
                  (struct golden_size){.frames = 1, .height = 2, .width = 4}, 1, false);
}

static void decode_in_chunks(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &fixed, "cogvideox_decode_2.f32",
                  (struct golden_size){.frames = 2, .height = 2, .width = 2}, 8, false);
    parity_decode(ON_INTERPRETER, &fixed, "cogvideox_decode_5.f32",
                  (struct golden_size){.frames = 5, .height = 2, .width = 2}, 17, false);
    parity_decode(ON_INTERPRETER, &rotary, "cogvideox_decode_6.f32",
                  (struct golden_size){.frames = 6, .height = 2, .width = 2}, 12, false);
}

static void decode_in_tiles(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &rotary, "cogvideox_tiled.f32",
                  (struct golden_size){5, 6, 6, .tiled = true}, 9, true);
    parity_decode(ON_INTERPRETER, &fixed, "cogvideox_tiled_rows.f32",
                  (struct golden_size){1, 12, 4, .tiled = true}, 1, false);
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &fixed, "cogvideox_decode_5.f32",
                  (struct golden_size){5, 2, 2, .tiled = true}, 17, false);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

static void check_pipelines(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &fixed, "cogvideox_denoise.f64",
                   (struct golden_size){2, 4, 2, .text_tokens = 9, .steps = 4, .guidance = 6,
                                        .prompt_tokens = {7, 1}, .rewrite = rewrite});
    parity_denoise(on, &rotary, "cogvideox_denoise_rotary.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 8, .steps = 4, .guidance = 6,
                                        .prompt_tokens = {8, 3}, .rewrite = rewrite});
    parity_denoise(on, &rotary, "cogvideox_denoise_one_pass.f64",
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
        parity_decode(ON_INTERPRETER, &fixed, "cogvideox_decode_2.f32",
                      (struct golden_size){2, 2, 2, .rewrite = name}, 8, false);
    }
}

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        check_pipelines(ON_CPU, name);
        parity_decode(ON_CPU, &fixed, "cogvideox_decode_5.f32",
                      (struct golden_size){5, 2, 2, .rewrite = name}, 17, false);
        parity_decode(ON_CPU, &rotary, "cogvideox_decode_6.f32",
                      (struct golden_size){6, 2, 2, .rewrite = name}, 12, false);
        parity_decode(ON_CPU, &fixed, "cogvideox_tiled_rows.f32",
                      (struct golden_size){1, 12, 4, .tiled = true, .rewrite = name}, 1, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformer_with_fixed_positions),
        cmocka_unit_test(transformer_with_rotary_positions),
        cmocka_unit_test(rotary_positions_of_other_sizes),
        cmocka_unit_test(decode_one_latent_frame),
        cmocka_unit_test(decode_in_chunks),
        cmocka_unit_test(decode_in_tiles),
        cmocka_unit_test(small_clips_are_not_tiled),
        cmocka_unit_test(denoise_both_prompts_in_one_batch),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(the_cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
