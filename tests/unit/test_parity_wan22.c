/* Wan2.2's graphs compute what diffusers computes: as test_parity.c, on the tiny models tests/golden/wan22-*,
 * with the cases of tools/reference/make_wan22.py; and the cpu backend in f32 computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "support/parity.h"

/* Two transformers, of 2 blocks and of 1; the MLP of the second is wider. The boundary is 0.9. */
static const struct parity_model a14b = {"wan22-tiny", 24, 100, KW__UNPATCHIFY};

/* Timesteps 999 and 900 are the first transformer's, and 900 is the boundary itself; 750 and 500 are the
 * second's. */
static void check_two_scales(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &a14b, "wan22_denoise.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 12, .steps = 4, .guidance = 5,
                                        .guidance_2 = 3, .prompt_tokens = {7, 1}, .rewrite = rewrite});
}

static void check_others(enum parity_on on, const char *rewrite)
{
    parity_denoise(on, &a14b, "wan22_denoise_one_scale.f64",
                   (struct golden_size){1, 4, 4, .text_tokens = 8, .steps = 3, .guidance = 4,
                                        .prompt_tokens = {8, 3}, .rewrite = rewrite});
    parity_denoise(on, &a14b, "wan22_denoise_one_pass.f64",
                   (struct golden_size){1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1,
                                        .prompt_tokens = {4, 1}, .rewrite = rewrite});
}

static void two_transformers(void **state)
{
    (void)state;
    check_two_scales(ON_INTERPRETER, NULL);
    check_others(ON_INTERPRETER, NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    /* what is hoisted from both transformers lies in one graph, weights of one name too */
    static const char *const names[] = {"hoist_prompt", "all", "all twice", "all backwards"};
    for (int i = 0; i < 4; i++) {
        check_two_scales(ON_INTERPRETER, names[i]);
        check_others(ON_INTERPRETER, names[i]);
    }
}

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        check_two_scales(ON_CPU, all ? "all" : NULL);
        check_others(ON_CPU, all ? "all" : NULL);
    }
}

/* ---- TI2V ------------------------------------------------------------------------------------- */

/* A timestep for each token, and the residual VAE, whose cells are 16 pixels and whose decoder makes patches
 * of 2 x 2; channels 24 24 12 6 from level to level. */
static const struct parity_model ti2v = {"wan22-tiny-5b", 24, 100, KW__UNPATCHIFY};

static void check_ti2v(enum parity_on on, const char *rewrite)
{
    parity_denoiser(on, &ti2v, "wan22_transformer.f64",
                    (struct golden_size){1, 2, 4, .text_tokens = 12, .rewrite = rewrite}, NULL, 999);
    parity_denoiser(on, &ti2v, "wan22_transformer_batch.f64",
                    (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 12, .rewrite = rewrite}, NULL,
                    421);
    parity_denoise(on, &ti2v, "wan22_denoise_5b.f64",
                   (struct golden_size){2, 4, 4, .text_tokens = 12, .steps = 4, .guidance = 5,
                                        .prompt_tokens = {7, 1}, .rewrite = rewrite});
    parity_denoise(on, &ti2v, "wan22_denoise_5b_one_pass.f64",
                   (struct golden_size){1, 4, 6, .text_tokens = 6, .steps = 2, .guidance = 1,
                                        .prompt_tokens = {4, 1}, .rewrite = rewrite});
    parity_decode(on, &ti2v, "wan22_decode_1.f32",
                  (struct golden_size){1, 2, 4, .rewrite = rewrite, .every = 7}, 1, false);
    parity_decode(on, &ti2v, "wan22_decode_2.f32",
                  (struct golden_size){2, 4, 2, .rewrite = rewrite, .every = 7}, 5, false);
    parity_decode(on, &ti2v, "wan22_decode_4.f32",
                  (struct golden_size){4, 2, 2, .rewrite = rewrite, .every = 7}, 13, false);
}

static void a_timestep_for_each_token_and_the_residual_vae(void **state)
{
    (void)state;
    check_ti2v(ON_INTERPRETER, NULL);
    check_ti2v(ON_INTERPRETER, "all");
}

static void the_cpu_computes_ti2v(void **state)
{
    (void)state;
    check_ti2v(ON_CPU, NULL);
    check_ti2v(ON_CPU, "all");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_transformers),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(the_cpu_computes_the_same),
        cmocka_unit_test(a_timestep_for_each_token_and_the_residual_vae),
        cmocka_unit_test(the_cpu_computes_ti2v),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
