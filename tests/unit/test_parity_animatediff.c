/* AnimateDiff's graphs compute what diffusers computes: as test_parity.c, on the tiny model
 * tests/golden/animatediff-tiny, with the cases of tools/reference/make_animatediff.py; and the cpu backend
 * in f32 computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "graph/rewrite.h"
#include "support/parity.h"

static const struct parity_model tiny = {"animatediff-tiny", 16, 60, KW__CONV};

/* ---- UNet -------------------------------------------------------------------------------------- */

/* Each frame reads an embedding of its own. */
static void check_unet(enum parity_on on, const char *golden, struct golden_size size, double timestep)
{
    struct parity_model model = tiny;
    model.text_dim *= size.frames;
    parity_denoiser(on, &model, golden, size, NULL, timestep);
}

static void check_unets(enum parity_on on, const char *rewrite)
{
    check_unet(on, "animatediff_unet.f64",
               (struct golden_size){2, 8, 8, .text_tokens = 6, .rewrite = rewrite}, 749);
    /* rows and columns that halve with a rest */
    check_unet(on, "animatediff_unet_odd.f64",
               (struct golden_size){3, 5, 10, .text_tokens = 5, .rewrite = rewrite}, 31);
    check_unet(on, "animatediff_unet_batch.f64",
               (struct golden_size){2, 8, 8, .batch = 2, .text_tokens = 4, .rewrite = rewrite}, 499);
}

static void unet(void **state)
{
    (void)state;
    check_unets(ON_INTERPRETER, NULL);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void check_decoders(enum parity_on on, const char *rewrite)
{
    parity_decode(on, &tiny, "animatediff_decode_1.f32", (struct golden_size){1, 2, 3, .rewrite = rewrite}, 1,
                  false);
    parity_decode(on, &tiny, "animatediff_decode_18.f32", (struct golden_size){18, 2, 2, .rewrite = rewrite},
                  18, false);
    parity_decode(on, &tiny, "animatediff_decode_batch.f32",
                  (struct golden_size){9, 1, 2, .batch = 2, .rewrite = rewrite}, 9, false);
    /* 2 x 3 tiles of at most 8 x 8 cells, 6 apart */
    parity_decode(on, &tiny, "animatediff_tiles.f32",
                  (struct golden_size){1, 9, 14, .tiled = true, .rewrite = rewrite}, 1, false);
}

static void decoder(void **state)
{
    (void)state;
    check_decoders(ON_INTERPRETER, NULL);
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    parity_decode(ON_INTERPRETER, &tiny, "animatediff_decode_1.f32",
                  (struct golden_size){1, 2, 3, .tiled = true}, 1, false);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

static void check_pipelines(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &tiny, "animatediff_denoise.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 7, .steps = 4, .guidance = 1,
                                        .prompt_tokens = {5, 2}, .rewrite = rewrite});
    parity_denoise(on, &tiny, "animatediff_denoise_guided.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 7, .steps = 4, .guidance = 7.5,
                                        .prompt_tokens = {5, 2}, .rewrite = rewrite});
}

static void denoise(void **state)
{
    (void)state;
    check_pipelines(ON_INTERPRETER, NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    for (size_t i = 0; i <= kw__rewrite_count(); i++) {
        const char *name = i < kw__rewrite_count() ? kw__rewrite_name(i) : "all";
        check_unet(ON_INTERPRETER, "animatediff_unet_odd.f64",
                   (struct golden_size){3, 5, 10, .text_tokens = 5, .rewrite = name}, 31);
        check_pipelines(ON_INTERPRETER, name);
    }
    check_decoders(ON_INTERPRETER, "all");
}

static void cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        check_unets(ON_CPU, name);
        check_pipelines(ON_CPU, name);
        check_decoders(ON_CPU, name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unet),
        cmocka_unit_test(decoder),
        cmocka_unit_test(small_clips_are_not_tiled),
        cmocka_unit_test(denoise),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
