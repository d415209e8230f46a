/* HunyuanVideo's graphs compute what diffusers and transformers compute: as test_parity.c, on the tiny model
 * tests/golden/hunyuan-tiny, with the cases of tools/reference/make_hunyuan.py; and the cpu backend in f32
 * computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "graph/rewrite.h"
#include "support/parity.h"

static const struct parity_model hunyuan = {"hunyuan-tiny", 16, 64, KW__DEPTH_TO_SPACE};

static void check_transformers(enum parity_on on, const char *rewrite)
{
    parity_denoiser(on, &hunyuan, "hunyuan_transformer.f64",
                    (struct golden_size){1, 2, 4, .text_tokens = 6, .rewrite = rewrite}, (const double[]){4},
                    421.5);
    /* each row of the batch attends to as much text as its prompt has */
    parity_denoiser(on, &hunyuan, "hunyuan_transformer_batch.f64",
                    (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 9, .rewrite = rewrite},
                    (const double[]){9, 2}, 30.25);
}

/* Llama, CLIP, the transformer and the solver. */
static void check_pipelines(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &hunyuan, "hunyuan_denoise.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 9, .steps = 4, .guidance = 6,
                                        .prompt_tokens = {7}, .rewrite = rewrite});
    parity_denoise(on, &hunyuan, "hunyuan_denoise_full.f64",
                   (struct golden_size){1, 4, 4, .text_tokens = 8, .steps = 2, .guidance = 1,
                                        .prompt_tokens = {8}, .rewrite = rewrite});
}

/* Whole up to four latent frames; 7 are chunks of 5, 4 and 1, which gives nothing, 8 are 5, 5 and 2. */
static void check_decoders(enum parity_on on, const char *rewrite)
{
    parity_decode(on, &hunyuan, "hunyuan_decode_1.f32", (struct golden_size){1, 2, 4, .rewrite = rewrite}, 1,
                  false);
    parity_decode(on, &hunyuan, "hunyuan_decode_4.f32", (struct golden_size){4, 2, 2, .rewrite = rewrite}, 13,
                  false);
    parity_decode(on, &hunyuan, "hunyuan_decode_7.f32",
                  (struct golden_size){7, 2, 2, .every = 5, .rewrite = rewrite}, 25, false);
    parity_decode(on, &hunyuan, "hunyuan_decode_8.f32",
                  (struct golden_size){8, 2, 4, .every = 13, .rewrite = rewrite}, 29, false);
}

/* Two tiles, of 256 and of 80 columns, which share 64, each in chunks of 5 and 2. */
static void check_tiles(enum parity_on on, const char *rewrite)
{
    parity_decode(on, &hunyuan, "hunyuan_tiles.f32",
                  (struct golden_size){5, 2, 34, .every = 53, .tiled = true, .rewrite = rewrite}, 17, false);
}

static void one_pass(void **state)
{
    (void)state;
    check_transformers(ON_INTERPRETER, NULL);
}

static void prompt_and_steps(void **state)
{
    (void)state;
    check_pipelines(ON_INTERPRETER, NULL);
}

static void decoding(void **state)
{
    (void)state;
    check_decoders(ON_INTERPRETER, NULL);
}

static void decoding_in_tiles(void **state)
{
    (void)state;
    check_tiles(ON_INTERPRETER, NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    for (size_t i = 0; i <= kw__rewrite_count(); i++)
        check_pipelines(ON_INTERPRETER, i < kw__rewrite_count() ? kw__rewrite_name(i) : "all");
    parity_decode(ON_INTERPRETER, &hunyuan, "hunyuan_decode_1.f32",
                  (struct golden_size){1, 2, 4, .rewrite = "all"}, 1, false);
}

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        check_transformers(ON_CPU, name);
        check_pipelines(ON_CPU, name);
        check_decoders(ON_CPU, name);
        check_tiles(ON_CPU, name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pass),
        cmocka_unit_test(prompt_and_steps),
        cmocka_unit_test(decoding),
        cmocka_unit_test(decoding_in_tiles),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(the_cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
