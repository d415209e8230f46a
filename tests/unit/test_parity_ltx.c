/* LTX-Video's graphs compute what diffusers computes: as test_parity.c, on the tiny model
 * tests/golden/ltx-tiny, with the cases of tools/reference/make_ltx.py; and the cpu backend in f32 computes
 * the same to 1e-4. Sizes are latents of the last stage; the first has half of their rows and columns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "graph/rewrite.h"
#include "support/parity.h"

static const struct parity_model ltx = {"ltx-tiny", 16, 60, KW__UNPATCHIFY};

/* ---- Transformer ----------------------------------------------------------------------------- */

static void check_transformer(enum parity_on on, const char *rewrite)
{
    parity_denoiser(on, &ltx, "ltx_transformer.f64",
                    (struct golden_size){1, 2, 4, .text_tokens = 6, .rewrite = rewrite}, (const double[]){4},
                    421.5);
    /* each row of the batch attends to as much text as its prompt has */
    parity_denoiser(on, &ltx, "ltx_transformer_batch.f64",
                    (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 9, .rewrite = rewrite},
                    (const double[]){9, 2}, 30.25);
}

static void transformer(void **state)
{
    (void)state;
    check_transformer(ON_INTERPRETER, NULL);
}

/* ---- Upscaler and VAE decoder ------------------------------------------------------------------ */

static void upscale(void **state)
{
    (void)state;
    parity_stage(ON_INTERPRETER, &ltx, "ltx_upscale.f64",
                 (struct golden_size){.frames = 2, .height = 2, .width = 6}, "upscale", "upscaled");
}

static void decode(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &ltx, "ltx_decode_1.f32",
                  (struct golden_size){.frames = 1, .height = 2, .width = 4, .every = 11}, 1, false);
    parity_decode(ON_INTERPRETER, &ltx, "ltx_decode_3.f32",
                  (struct golden_size){.frames = 3, .height = 2, .width = 2, .every = 11}, 17, false);
}

/* Two tiles, of 512 and of 128 columns, which share 64. */
static void decode_in_tiles(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &ltx, "ltx_tiles.f32",
                  (struct golden_size){1, 2, 18, .tiled = true, .every = 11}, 1, false);
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &ltx, "ltx_decode_1.f32",
                  (struct golden_size){1, 2, 4, .tiled = true, .every = 11}, 1, false);
}

/* ---- The stages together ------------------------------------------------------------------------ */

/* The first stage's steps, the upscaler, the four steps of the last stage. */
static void check_pipelines(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &ltx, "ltx_denoise.f64",
                   (struct golden_size){2, 2, 4, .text_tokens = 9, .steps = 4, .guidance = 3,
                                        .prompt_tokens = {7, 1}, .rewrite = rewrite});
    parity_denoise(on, &ltx, "ltx_denoise_full.f64",
                   (struct golden_size){2, 4, 2, .text_tokens = 8, .steps = 4, .guidance = 3,
                                        .prompt_tokens = {8, 3}, .rewrite = rewrite});
    parity_denoise(on, &ltx, "ltx_denoise_one_pass.f64",
                   (struct golden_size){1, 2, 4, .text_tokens = 6, .steps = 2, .guidance = 1,
                                        .prompt_tokens = {4, 1}, .rewrite = rewrite});
}

static void the_pipelines_one_after_the_other(void **state)
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
    parity_decode(ON_INTERPRETER, &ltx, "ltx_decode_1.f32",
                  (struct golden_size){1, 2, 4, .rewrite = "all", .every = 11}, 1, false);
}

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        check_transformer(ON_CPU, name);
        check_pipelines(ON_CPU, name);
        parity_stage(ON_CPU, &ltx, "ltx_upscale.f64", (struct golden_size){2, 2, 6, .rewrite = name},
                     "upscale", "upscaled");
        parity_decode(ON_CPU, &ltx, "ltx_decode_3.f32",
                      (struct golden_size){3, 2, 2, .rewrite = name, .every = 11}, 17, false);
        parity_decode(ON_CPU, &ltx, "ltx_tiles.f32",
                      (struct golden_size){1, 2, 18, .tiled = true, .rewrite = name, .every = 11}, 1, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformer),
        cmocka_unit_test(upscale),
        cmocka_unit_test(decode),
        cmocka_unit_test(decode_in_tiles),
        cmocka_unit_test(small_clips_are_not_tiled),
        cmocka_unit_test(the_pipelines_one_after_the_other),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(the_cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
