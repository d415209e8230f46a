/* Mochi 1: FLOPs of the reference graph against PyTorch's FlopCounterMode on the diffusers classes and
 * against closed forms written from the architecture, the tensors of the checkpoint, parameter counts of
 * edited configs, and the pipeline's own rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"
#include "support/family.h"
#include "support/folder.h"
#include "support/tensors.h"

static kw_catalog *catalog;
static kw_model *mochi;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) || kw_model_open(catalog, "mochi-1-preview", &mochi, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(mochi);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request asked(int64_t width, int64_t height, int64_t frames)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = width;
    request.height = height;
    request.num_frames = frames;
    request.num_inference_steps = 2;
    return request;
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

static void declares_each_tensor_once(const kw_request *request, enum kw__choice tiled)
{
    static const struct tensor_list lists[] = {
        {"text_encoder", "tests/data/tensors/t5-v1.1-xxl.text_encoder.txt", 219},
        {"transformer", "tests/data/tensors/mochi-1-preview.transformer.txt", 1071},
        {"vae", "tests/data/tensors/mochi-vae.vae.txt", 162}};
    struct kw__program *program = family_lower(mochi, request, KW__BF16, tiled);
    tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
    kw__program_free(program);
}

static void tensors(void **state)
{
    (void)state;
    kw_request request = asked(848, 480, 84), one_pass = asked(64, 64, 1);
    one_pass.guidance_scale = 1;
    declares_each_tensor_once(&request, KW__NEVER);
    declares_each_tensor_once(&request, KW__ALWAYS);
    declares_each_tensor_once(&one_pass, KW__NEVER);
}

/* ---- FLOPs ------------------------------------------------------------------------------------------- */

/* FlopCounterMode of PyTorch 2.11 on the diffusers 0.40 classes, 2026-11-23; 40 tokens in both prompts. */
static void golden_forward_and_decode(void **state)
{
    (void)state;
    kw_request request = asked(848, 480, 84);
    request.prompt_tokens = request.negative_tokens = 40;
    struct kw__program *program = family_lower(mochi, &request, KW__BF16, KW__AS_PIPELINE);
    struct kw__sums two = family_count(program, "denoise"), decode = family_count(program, "decode");
    expect_near("flop", two.flop / 2, 1072542111682560, 1e-3);
    expect_near("linear", two.linear / 2, 485901614711392, 1e-3);
    expect_near("attention", two.attention / 2, 586627162341376, 1e-3);
    expect_near("conv", two.conv / 2, 13129482240, 1e-3);
    expect_near("decode", decode.flop, 540402377195520, 1e-3);
    kw__program_free(program);
}

/* One row of the batch through MochiTransformer3DModel: l video tokens, n of the prompt, 256 with padding. */
static void forward_form(double l, double n, double *linear, double *attention)
{
    const double d = 3072, t = 1536, m = 256, in = 4096, blocks = 48, scores = (l + n) * (l + n);
    double text_out = m * d * t + m * 3 * t * 4096; /* what the last block leaves out */
    double block = 4 * l * d * d + 3 * m * t * d + l * 3 * d * 8192 + d * 4 * d;
    *linear = 2 * (blocks * block + (blocks - 1) * (text_out + d * 4 * t) + d * t + l * d * 48 + 2 * d * d +
                   256 * d + d * d + (m + 1) * in * 2 * in + in * in + in * d + m * in * t);
    *attention = 4 * (blocks * scores * d + (m + 1) * in);
}

static double resnets(double blocks, double c, double frames, double cells)
{
    return blocks * 2 * 27 * c * c * frames * cells;
}

/* T latent frames of n cells; a multiply-add counts once. */
static double decoder_form(double t, double n)
{
    double first = 12 * 768 * t * n + resnets(3 + 6, 768, t, n) + 768 * 6144 * t * n;
    double second = resnets(4, 512, 3 * t, 4 * n) + 512 * 2048 * 3 * t * 4 * n;
    double third = resnets(3, 256, 6 * t, 16 * n) + 256 * 512 * 6 * t * 16 * n;
    return first + second + third + resnets(3, 128, 6 * t, 64 * n) + 128 * 3 * 6 * t * 64 * n;
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, latent_frames, prompt, negative, batch;
    } cases[] = {{848, 480, 84, 14, 30, 1, 1},
                 {16, 16, 1, 1, 256, 7, 2},
                 {1280, 720, 163, 28, 12, 12, 1},
                 {32, 480, 6, 1, 9, 1, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i].width, cases[i].height, cases[i].frames);
        request.prompt_tokens = cases[i].prompt;
        request.negative_tokens = cases[i].negative;
        request.batch_size = cases[i].batch;
        struct kw__program *program = family_lower(mochi, &request, KW__BF16, KW__AS_PIPELINE);
        struct kw__sums denoise = family_count(program, "denoise"), decode = family_count(program, "decode");
        double t = (double)cases[i].latent_frames,
               cells = (double)(cases[i].width / 8 * (cases[i].height / 8));
        double linear[2], attention[2], times = 2 * (double)cases[i].batch;
        forward_form(t * cells / 4, (double)cases[i].prompt, &linear[0], &attention[0]);
        forward_form(t * cells / 4, (double)cases[i].negative, &linear[1], &attention[1]);
        expect_near("linear", denoise.linear, times * (linear[0] + linear[1]), 1e-12);
        expect_near("attention", denoise.attention, times * (attention[0] + attention[1]), 1e-12);
        expect_near("decode", decode.flop, 2 * (double)cases[i].batch * decoder_form(t, cells), 1e-12);
        kw__program_free(program);
    }
}

/* Of the prompt alone without guidance, whose length counts in attention. */
static void one_pass_counts_the_prompt(void **state)
{
    (void)state;
    kw_request request = asked(64, 64, 7);
    double linear, attention;
    request.guidance_scale = 1;
    request.prompt_tokens = 20;
    struct kw__program *program = family_lower(mochi, &request, KW__BF16, KW__AS_PIPELINE);
    struct kw__sums denoise = family_count(program, "denoise");
    forward_form(2 * 16, 20, &linear, &attention);
    expect_near("linear", denoise.linear, 2 * linear, 1e-12);
    expect_near("attention", denoise.attention, 2 * attention, 1e-12);
    kw__program_free(program);
}

/* 15 tiles, rows of 32 32 12 latent cells, columns of 32 32 32 32 10: 1.649 times the cells. */
static void tiles_decode_what_overlaps_twice(void **state)
{
    (void)state;
    kw_request request = asked(848, 480, 84);
    struct kw__program *tiles = family_lower(mochi, &request, KW__BF16, KW__ALWAYS);
    expect_near("tiles", family_count(tiles, "decode").flop,
                2 * decoder_form(14, (32 + 32 + 12) * (4 * 32 + 10)), 1e-12);
    int64_t calls = 0;
    const struct kw__stage *stage = &tiles->stages[2];
    for (int p = 0; p < stage->num_phases; p++)
        if (strncmp(stage->phases[p].name, "tile ", 5) == 0) calls += stage->phases[p].calls;
    assert_int_equal(calls, 15);
    kw__program_free(tiles);
    /* up to one tile there are none */
    request = asked(256, 256, 7);
    tiles = family_lower(mochi, &request, KW__BF16, KW__ALWAYS);
    assert_int_equal(tiles->stages[2].num_phases, 3);
    kw__program_free(tiles);
}

/* Whatever the size, the tiles are those of AutoencoderKLMochi.tiled_decode: from every 24th cell on, 32 or
 * to the end. Three lengths occur when the last is shorter than 8. */
static void tiles_at_any_width(void **state)
{
    (void)state;
    for (int64_t cells = 34; cells <= 130; cells += 2) {
        int64_t tiles = 0, sum = 0, got = 0, of_row = 0;
        for (int64_t at = 0; at < cells; at += 24, tiles++) sum += cells - at < 32 ? cells - at : 32;
        kw_request request = asked(8 * cells, 16, 1);
        struct kw__program *program = family_lower(mochi, &request, KW__BF16, KW__ALWAYS);
        const struct kw__stage *stage = &program->stages[2];
        for (int p = 0; p < stage->num_phases; p++) {
            int width, height;
            if (sscanf(stage->phases[p].name, "tile %dx%d", &height, &width) != 2) continue;
            assert_int_equal(height, 2);
            got += stage->phases[p].calls;
            of_row += stage->phases[p].calls * width;
        }
        assert_int_equal(got, tiles);
        assert_int_equal(of_row, sum);
        kw__program_free(program);
    }
}

/* ---- On a stack --------------------------------------------------------------------------------------- */

/* Under autocast that keeps no casts every product reads its weights in f32 and writes them in bf16, 6 bytes
 * a parameter and pass; both passes are one. */
static void products_cast_their_weights(const struct kw__stack *stack, const struct kw__program *program)
{
    const struct kw__graph *g = program->stages[1].phases[0].graph;
    double bytes = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__work work;
        kw__op_work(g, &g->ops[i], stack, &work);
        if (g->ops[i].code == KW__LINEAR) bytes += work.memory_bytes;
    }
    expect_near("casts", bytes, 6 * 10027677744.0, 1e-3); /* biases, norms and patches are 0.04 % */
}

/* Each operator's kernels are those of Mochi's classes: no list of WAN's, which has other dtypes. */
static void eager_stacks_know_the_operators(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 2; i++) {
        struct kw__stack *stack;
        struct kw__program *program;
        kw_request request = asked(848, 480, 84);
        kw_effective r;
        kw_error err;
        if (kw__stack_open(catalog, names[i], &stack, &err)) fail_msg("%s", err.message);
        const struct kw__dtypes *dtypes = kw__stack_dtypes(stack, "MochiPipeline");
        assert_true(dtypes->vae == KW__BF16 && dtypes->tiled_decode == KW__ALWAYS);
        assert_int_equal(kw_request_resolve(mochi, &request, &r, &err), KW_OK);
        assert_int_equal(kw__lower(mochi, &r, dtypes, &program, &err), KW_OK);
        for (int s = 1; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__graph *g = program->stages[s].phases[p].graph;
                for (size_t k = 0; k < g->num_ops; k++) {
                    const struct kw__op *op = &g->ops[k];
                    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
                    /* these are one kernel each, or WAN's */
                    if (op->code == KW__TANH || op->code == KW__CAST || op->code == KW__MEAN_ROWS ||
                        op->code == KW__SILU || op->code == KW__SINUSOID || op->code == KW__ADD ||
                        (op->code == KW__UNPATCHIFY && s == 1) ||
                        strcmp(op->component, "patch_embedding") == 0)
                        continue;
                    if (!list || !list->pipeline)
                        fail_msg("%s has no kernels for %s of %s", names[i], kw__op_info(op->code)->name,
                                 op->component);
                    if (op->code == KW__RMSNORM && op->attr.heads)
                        assert_string_equal(list->key, "rmsnorm.heads");
                }
            }
        products_cast_their_weights(stack, program);
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

/* ---- Parameters ---------------------------------------------------------------------------------- */

static int64_t lin(int64_t in, int64_t out)
{
    return in * out + out;
}

/* Width d of h heads, text width t, n blocks, MLPs of 8/3 the width; text of 4096 and 12 channels. */
static int64_t transformer_parameters(int64_t d, int64_t h, int64_t t, int64_t n)
{
    int64_t mlp = 3 * d * (8 * d / 3), text_mlp = 3 * t * (8 * t / 3);
    int64_t block = lin(d, 4 * d) + 3 * d * d + 3 * t * d + 4 * (d / h) + lin(d, d) + mlp;
    int64_t text = lin(d, 4 * t) + lin(d, t) + text_mlp;
    int64_t embeddings = 3 * d / 2 + lin(48, d) + lin(256, d) + lin(d, d) + lin(4096, 8192) +
                         lin(4096, 4096) + lin(4096, d) + lin(4096, t);
    return n * block + (n - 1) * text + lin(d, t) + embeddings + lin(d, 2 * d) + lin(d, 48);
}

static int64_t decoder_parameters(const int64_t c[4], const int64_t layers[5])
{
    const int64_t expand[3] = {4, 8, 12}; /* time 1 2 3, space 2 x 2 */
    int64_t sum = lin(12, c[3]) + lin(c[0], 3);
    for (int i = 0; i < 5; i++) {
        int64_t w = c[i < 4 ? i : 3];
        sum += layers[i] * (2 * (2 * w) + 2 * (27 * w * w + w));
    }
    for (int i = 0; i < 3; i++) sum += lin(c[i + 1], c[i] * expand[i]);
    return sum;
}

static void expect_parameters(const char *name, int64_t transformer, int64_t vae)
{
    kw_error err;
    kw_model *model;
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.parameters[0], INT64_C(4762310656));
    assert_int_equal(info.parameters[1], transformer);
    assert_int_equal(info.parameters[2], vae);
    assert_string_equal(info.pipeline, "MochiPipeline");
    kw_model_close(model);
}

/* Published: 10,027,677,744; the VAE's decoder half is the sum of tests/data/tensors/mochi-vae.vae.txt. */
static void parameters(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    const int64_t c[4] = {128, 256, 512, 768}, layers[5] = {3, 3, 4, 6, 3};
    const int64_t other[4] = {32, 96, 64, 160}, fewer[5] = {1, 4, 2, 5, 3};
    assert_int_equal(transformer_parameters(3072, 24, 1536, 48),
                     INT64_C(10027677744)); /* the formulas are right */
    assert_int_equal(decoder_parameters(c, layers), 362526595);
    expect_parameters("mochi-1-preview", INT64_C(10027677744), 362526595);
    folder_copy("data/models/mochi-1-preview", folder);
    folder_set(folder, "transformer/config.json", "num_layers", "1");
    folder_set(folder, "transformer/config.json", "num_attention_heads", "6");
    folder_set(folder, "transformer/config.json", "attention_head_dim", "64");
    folder_set(folder, "transformer/config.json", "pooled_projection_dim", "192");
    folder_set(folder, "vae/config.json", "decoder_block_out_channels", "[32, 96, 64, 160]");
    folder_set(folder, "vae/config.json", "layers_per_block", "[1, 4, 2, 5, 3]");
    expect_parameters(folder, transformer_parameters(384, 6, 192, 1), decoder_parameters(other, fewer));
    folder_remove(folder);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static void frames_are_rounded_down(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{1, 1, 1},    {6, 1, 1},    {7, 7, 2},     {19, 19, 4},
                                       {84, 79, 14}, {85, 85, 15}, {163, 163, 28}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(848, 480, cases[i][0]);
        kw_effective r;
        assert_int_equal(kw_request_resolve(mochi, &request, &r, NULL), KW_OK);
        assert_int_equal(r.requested_frames, cases[i][0]);
        assert_int_equal(r.num_frames, cases[i][1]);
        assert_int_equal(r.latent_frames, cases[i][2]);
        assert_int_equal(r.tokens, cases[i][2] * 30 * 53);
    }
}

static void defaults_are_the_pipelines(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    assert_int_equal(kw_request_resolve(mochi, &request, &r, NULL), KW_OK);
    assert_int_equal(r.width, 848);
    assert_int_equal(r.height, 480);
    assert_int_equal(r.num_frames, 19);
    assert_int_equal(r.num_inference_steps, 64);
    assert_int_equal(r.text_tokens, 256);
    assert_int_equal(r.guidance_passes, 2);
    assert_true(r.guidance_scale == 4.5 && r.flow_shift == 1.0 && r.fps == 30.0);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    kw_request bad[6];
    for (int i = 0; i < 6; i++) bad[i] = asked(848, 480, 19);
    bad[0].width = 856; /* a multiple of 8, which the pipeline takes, but no whole patches */
    bad[1].height = 8;
    bad[2].num_inference_steps = 1;
    bad[3].prompt_tokens = 257;
    bad[4].negative_tokens = 0;
    bad[5].width = bad[5].height = bad[5].num_frames = 1 << 14;
    bad[5].batch_size = 1024;
    static const char *const messages[] = {"width 856 is no multiple of 16; try 848 or 864",
                                           "height 8 is no multiple of 16; try 16",
                                           "num-inference-steps 1 is too few",
                                           "prompt-tokens 257 is out of range",
                                           "negative-tokens 0 is out of range",
                                           "is too large to count"};
    for (int i = 0; i < 6; i++) family_expect_bad_request(mochi, &bad[i], messages[i]);
}

/* A config that says what the code does not know is refused with file and key. */
static void other_configs_are_refused(void **state)
{
    (void)state;
    static const struct family_change changes[] = {
        {"model_index.json", "force_zeros_for_empty_prompt", "true", "force_zeros_for_empty_prompt"},
        {"transformer/config.json", "qk_norm", "\"layer_norm\"", "rms_norm is"},
        {"transformer/config.json", "activation_fn", "\"geglu\"", "swiglu is"},
        {"transformer/config.json", "out_channels", "16", "out_channels"},
        {"transformer/config.json", "attention_head_dim", "127", "must be even"},
        {"transformer/config.json", "text_embed_dim", "4092", "multiple of 8"},
        {"transformer/config.json", "text_embed_dim", "2048", "\"text_embed_dim\" is 2048"},
        {"transformer/config.json", "in_channels", "16", "\"latent_channels\", 12"},
        {"transformer/config.json", "num_attention_heads", "4000", "at most 65536"},
        {"scheduler/scheduler_config.json", "invert_sigmas", "false", "invert_sigmas"},
        {"scheduler/scheduler_config.json", "use_dynamic_shifting", "true", "use_dynamic_shifting"},
        {"scheduler/scheduler_config.json", "shift_terminal", "0.1", "shift_terminal"},
        {"vae/config.json", "temporal_expansions", "[1, 2, 2]", "which MochiPipeline counts on"},
        {"vae/config.json", "spatial_expansions", "[2, 2, 1]", "which MochiPipeline counts on"},
        {"vae/config.json", "decoder_block_out_channels", "[128, 250, 512, 768]", "multiples of 32"},
        {"vae/config.json", "decoder_block_out_channels", "[128, 256, 512]", "decoder_block_out_channels"},
        {"vae/config.json", "act_fn", "\"relu\"", "silu is"},
        {"vae/config.json", "out_channels", "4", "must be 3"},
        {"vae/config.json", "scaling_factor", "0", "scaling_factor"},
        {"vae/config.json", "latents_std", "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]", "latents_std"},
    };
    family_expect_refused(catalog, "data/models/mochi-1-preview", changes,
                          sizeof changes / sizeof changes[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),
        cmocka_unit_test(golden_forward_and_decode),
        cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(one_pass_counts_the_prompt),
        cmocka_unit_test(tiles_decode_what_overlaps_twice),
        cmocka_unit_test(tiles_at_any_width),
        cmocka_unit_test(eager_stacks_know_the_operators),
        cmocka_unit_test(parameters),
        cmocka_unit_test(frames_are_rounded_down),
        cmocka_unit_test(defaults_are_the_pipelines),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(other_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
