/* CogVideoX 2b and 5b: what the checkpoints hold, FLOPs against PyTorch's count and closed forms, and the
 * pipeline's rules at their limits. Parity is in test_parity_cogvideox.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"
#include "support/family.h"
#include "support/tensors.h"

static kw_catalog *catalog;
static kw_model *small, *large; /* 2b, 5b */

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) || kw_model_open(catalog, "cogvideox-2b", &small, NULL) ||
           kw_model_open(catalog, "cogvideox-5b", &large, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(small);
    kw_model_close(large);
    kw_catalog_close(catalog);
    return 0;
}

/* ---- Tensors ------------------------------------------------------------------------------------ */

static void declares_each_tensor_once(const kw_model *model, const char *transformer, size_t tensors,
                                      bool tiled, int64_t frames)
{
    const struct tensor_list lists[] = {
        {"transformer", transformer, tensors},
        {"text_encoder", "tests/data/tensors/t5-v1.1-xxl.text_encoder.txt", 219},
        {"vae", "tests/data/tensors/cogvideox.vae.txt", 308}};
    kw_request request = KW_REQUEST_INIT;
    request.num_frames = frames;
    struct kw__program *program =
        family_lower(model, &request, KW__BF16, tiled ? KW__ALWAYS : KW__AS_PIPELINE);
    tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
    kw__program_free(program);
}

static void tensors(void **state)
{
    (void)state;
    for (int tiled = 0; tiled < 2; tiled++)
        for (int64_t frames = 1; frames <= 49; frames += 48) {
            declares_each_tensor_once(small, "tests/data/tensors/cogvideox-2b.transformer.txt", 736, tiled,
                                      frames);
            declares_each_tensor_once(large, "tests/data/tensors/cogvideox-5b.transformer.txt", 1024, tiled,
                                      frames);
        }
}

/* Published sizes; the VAE's whole class has 215,583,907. */
static void parameters(void **state)
{
    (void)state;
    const int64_t t5 = INT64_C(4762310656), decoder = 123368451;
    const int64_t denoiser[] = {1693783872, INT64_C(5570283072)};
    for (int i = 0; i < 2; i++) {
        kw_model_info info = {.struct_size = sizeof info};
        assert_int_equal(kw_model_info_get(i ? large : small, &info, NULL), KW_OK);
        assert_int_equal(info.parameters[0], t5);
        assert_int_equal(info.parameters[1], denoiser[i]);
        assert_int_equal(info.parameters[2], decoder);
        assert_int_equal(info.parameters[3], t5 + denoiser[i] + decoder);
        assert_string_equal(info.pipeline, "CogVideoXPipeline");
    }
}

/* ---- FLOPs -------------------------------------------------------------------------------------- */

static struct kw__sums count_stage(const kw_model *model, const kw_request *request, const char *stage,
                                   enum kw__choice tiled)
{
    struct kw__program *program = family_lower(model, request, KW__BF16, tiled);
    struct kw__sums sums = family_count(program, stage);
    assert_int_equal(program->num_stages, 3);
    kw__program_free(program);
    return sums;
}

/* diffusers 0.40 classes under PyTorch 2.11's FlopCounterMode, 2026-11-23: 720 x 480, 49 frames, one forward
 * of batch 2; decode of one clip without tiling. */
static void golden_flops(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    request.num_inference_steps = 1;
    struct kw__sums one = count_stage(small, &request, "denoise", KW__AS_PIPELINE);
    expect_near("flop", one.flop, 239994622836736, 1e-3);
    expect_near("linear", one.linear, 94379566759936, 1e-3);
    expect_near("attention", one.attention, 145606429900800, 1e-3);
    expect_near("conv", one.conv, 8626176000, 1e-3);
    expect_near("decode", count_stage(small, &request, "decode", KW__AS_PIPELINE).flop, 315027947520000,
                1e-3);
}

/* A batch of b: width d, n layers, l video tokens, 226 of text. */
static double transformer_flop(double d, double n, double l, double b)
{
    const double text = 226, time = 512, joint = text + l;
    double block = 2 * 2 * time * 6 * d + 4 * 2 * joint * d * d + 2 * 2 * joint * d * 4 * d;
    double rest = 2 * text * 4096 * d + 2 * l * 64 * d + 2 * d * time + 2 * time * time;
    return b * (n * (block + 4 * joint * joint * d) + rest + 2 * time * 2 * d + 2 * l * d * 64);
}

static double conv(double kernel, double in, double out, double cells)
{
    return 2 * kernel * in * out * cells;
}

/* Two convolutions of 3x3x3, and before each two of 1x1x1 from the 16 channels of the latents. */
static double resnet(double in, double out, double cells)
{
    return conv(27, in, out, cells) + conv(27, out, out, cells) + 2 * conv(1, 16, in, cells) +
           2 * conv(1, 16, out, cells) + (in == out ? 0 : conv(1, in, out, cells));
}

/* The decoder on t0 latent frames of n cells that become t1, then t2 frames. */
static double chunk_flop(double t0, double t1, double t2, double n)
{
    double sum = conv(27, 16, 512, t0 * n) + 2 * resnet(512, 512, t0 * n);
    sum += 4 * resnet(512, 512, t0 * n) + conv(9, 512, 512, t1 * 4 * n);
    sum += resnet(512, 256, t1 * 4 * n) + 3 * resnet(256, 256, t1 * 4 * n) + conv(9, 256, 256, t2 * 16 * n);
    sum += 4 * resnet(256, 256, t2 * 16 * n) + conv(9, 256, 256, t2 * 64 * n);
    sum += resnet(256, 128, t2 * 64 * n) + 3 * resnet(128, 128, t2 * 64 * n);
    return sum + 2 * conv(1, 16, 128, t2 * 64 * n) + conv(27, 128, 3, t2 * 64 * n);
}

static double decoder_flop(int64_t t, double n)
{
    double first = t == 1 ? chunk_flop(1, 1, 1, n) : t % 2 ? chunk_flop(3, 5, 9, n) : chunk_flop(2, 4, 8, n);
    return first + (t < 4 ? 0 : (double)(t / 2 - 1)) * chunk_flop(2, 4, 8, n);
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, batch;
        double guidance;
    } cases[] = {{720, 480, 49, 1, 6}, {720, 480, 9, 1, 1},   {16, 16, 1, 1, 6},
                 {480, 720, 5, 2, 6},  {1360, 768, 81, 1, 6}, {256, 256, 13, 3, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int model = 0; model < 2; model++) {
            kw_request request = KW_REQUEST_INIT;
            request.width = cases[i].width;
            request.height = cases[i].height;
            request.num_frames = cases[i].frames;
            request.batch_size = cases[i].batch;
            request.guidance_scale = cases[i].guidance;
            request.num_inference_steps = 2;
            int64_t t = (cases[i].frames - 1) / 4 + 1;
            double cells = (double)(cases[i].width / 8 * (cases[i].height / 8));
            double batch = (double)cases[i].batch, rows = batch * (cases[i].guidance > 1 ? 2 : 1);
            double l = (double)t * cells / 4;
            double wanted = model ? transformer_flop(3072, 42, l, rows) : transformer_flop(1920, 30, l, rows);
            const kw_model *m = model ? large : small;
            expect_near("denoise", count_stage(m, &request, "denoise", KW__AS_PIPELINE).flop, 2 * wanted,
                        1e-12);
            expect_near("decode", count_stage(m, &request, "decode", KW__AS_PIPELINE).flop,
                        batch * decoder_flop(t, cells), 1e-12);
        }
}

/* Rows of 30, 30 and 10 cells, columns of 45, 45 and 18: 70 x 108 cells instead of 60 x 90. */
static void tiles_overlap(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    double whole = count_stage(small, &request, "decode", KW__AS_PIPELINE).flop,
           tiled = count_stage(small, &request, "decode", KW__ALWAYS).flop;
    expect_near("tiled", tiled / whole, 70.0 * 108 / (60 * 90), 1e-12);
    struct kw__program *program = family_lower(small, &request, KW__BF16, KW__ALWAYS);
    const struct kw__stage *decode = &program->stages[2];
    assert_int_equal(decode->num_phases, 2 + 2 * 2 * 2);
    assert_int_equal(decode->num_turns, 2 + 9 * 2); /* a tile's later chunks are one turn */
    for (int p = 0; p < decode->num_phases; p++) {  /* the turns are the phases' calls */
        int64_t calls = 0;
        for (size_t i = 0; i < decode->num_turns; i++)
            if (decode->turns[i].phase == p) calls += decode->turns[i].calls;
        assert_int_equal(calls, decode->phases[p].calls);
    }
    kw__program_free(program);
    /* the last two tiles of an axis may both be smaller: 27 and 2 rows, 41 and 5 columns */
    request.height = 8 * 52;
    request.width = 8 * 78;
    program = family_lower(small, &request, KW__BF16, KW__ALWAYS);
    assert_int_equal(program->stages[2].num_phases, 2 + 3 * 3 * 2);
    kw__program_free(program);
    double cells = (30 + 27 + 2) * (45 + 42 + 6);
    expect_near("tiled", count_stage(small, &request, "decode", KW__ALWAYS).flop, decoder_flop(13, cells),
                1e-12);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------- */

/* An odd number of latent frames gives 4 n - 3 frames, an even one 4 n: what AutoencoderKLCogVideoX makes of
 * the latents that the pipeline makes of the request. */
static void frames_come_in_chunks(void **state)
{
    (void)state;
    static const int64_t asked[] = {1, 2, 4, 5, 8, 9, 12, 13, 48, 49, 50, 52, 53, 81, 84};
    static const int64_t given[] = {1, 1, 1, 8, 8, 9, 9, 16, 48, 49, 49, 49, 56, 81, 81};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        kw_request request = KW_REQUEST_INIT;
        kw_effective r;
        request.num_frames = asked[i];
        assert_int_equal(kw_request_resolve(small, &request, &r, NULL), KW_OK);
        assert_int_equal(r.num_frames, given[i]);
        assert_int_equal(r.requested_frames, asked[i]);
        assert_int_equal(r.latent_frames, (asked[i] - 1) / 4 + 1);
    }
}

static void defaults(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    assert_int_equal(kw_request_resolve(large, &request, &r, NULL), KW_OK);
    assert_true(r.width == 720 && r.height == 480 && r.num_frames == 49 && r.num_inference_steps == 50);
    assert_true(r.guidance_scale == 6 && r.guidance_passes == 2 && r.fps == 8);
    assert_true(r.text_tokens == 226 && r.tokens == 17550);
    assert_true(r.latent_frames == 13 && r.latent_height == 60 && r.latent_width == 90);
}

static void bad_requests(void **state)
{
    (void)state;
    kw_request bad[5] = {KW_REQUEST_INIT, KW_REQUEST_INIT, KW_REQUEST_INIT, KW_REQUEST_INIT, KW_REQUEST_INIT};
    bad[0].width = 728; /* of 8 but not of 16 */
    bad[1].height = 8;
    bad[2].num_inference_steps = 1001;
    bad[3].flow_shift = 3;
    bad[4].prompt_tokens = 227;
    static const char *const words[] = {"width 728 is no multiple of 16; try 720 or 736", "try 16",
                                        "num-inference-steps 1001 is more than the 1000",
                                        "flow-shift has no meaning", "give 1 to 226"};
    for (int i = 0; i < 5; i++) family_expect_bad_request(small, &bad[i], words[i]);
    kw_request good = KW_REQUEST_INIT;
    kw_effective r;
    good.num_inference_steps = 1000;
    good.prompt_tokens = 226;
    assert_int_equal(kw_request_resolve(small, &good, &r, NULL), KW_OK);
}

/* What the code does not know is refused, with the file and the key. */
static void bad_configs(void **state)
{
    (void)state;
    static const struct family_change changes[] = {
        {"transformer/config.json", "patch_size_t", "2", "\"patch_size_t\" is that of another model"},
        {"transformer/config.json", "ofs_embed_dim", "512", "\"ofs_embed_dim\" is that of another model"},
        {"transformer/config.json", "use_learned_positional_embeddings", "true", "is that of another model"},
        {"transformer/config.json", "activation_fn", "\"geglu\"",
         "\"activation_fn\" is that of another model"},
        {"transformer/config.json", "max_text_seq_length", "224",
         "\"max_text_seq_length\" is that of another model"},
        {"transformer/config.json", "attention_head_dim", "63", "must be a multiple of 16"},
        {"transformer/config.json", "num_attention_heads", "4096", "at most 65536"},
        {"transformer/config.json", "text_embed_dim", "2048", "they must agree"},
        {"transformer/config.json", "in_channels", "32", "must be vae/config.json's"},
        {"transformer/config.json", "num_layers", NULL, "\"num_layers\""},
        {"transformer/config.json", "sample_width", "1", "at least \"patch_size\""},
        {"vae/config.json", "act_fn", "\"relu\"", "\"act_fn\" is that of another VAE"},
        {"vae/config.json", "up_block_types", "[\"CogVideoXUpBlock3D\"]",
         "\"up_block_types\" is that of another VAE"},
        {"vae/config.json", "out_channels", "4", "\"out_channels\" is that of another VAE"},
        {"vae/config.json", "use_post_quant_conv", "true", "\"use_post_quant_conv\" is that of another VAE"},
        {"vae/config.json", "norm_num_groups", "48", "multiples of \"norm_num_groups\""},
        {"vae/config.json", "temporal_compression_ratio", "3", "must be 1, 2, 4 or 8"},
        {"vae/config.json", "sample_height", "720", "do not meet at whole latent cells"},
        {"vae/config.json", "block_out_channels", "[128, 256]", "\"block_out_channels\""},
        {"scheduler/scheduler_config.json", "_class_name", "\"CogVideoXDPMScheduler\"",
         "CogVideoXDDIMScheduler is known"},
        {"scheduler/scheduler_config.json", "prediction_type", "\"epsilon\"", "only DDIM with"},
        {"scheduler/scheduler_config.json", "timestep_spacing", "\"leading\"", "only DDIM with"},
        {"scheduler/scheduler_config.json", "rescale_betas_zero_snr", "false", "only DDIM with"},
        {"scheduler/scheduler_config.json", "trained_betas", "[0.1]", "only DDIM with"},
    };
    family_expect_refused(catalog, "data/models/cogvideox-2b", changes, sizeof changes / sizeof changes[0]);
}

/* ---- On diffusers ----------------------------------------------------------------------------------- */

/* Every operator has its kernels, those of this pipeline where its classes compute otherwise than WAN's: a
 * layer norm in bf16 is one kernel, and the decoder runs in bf16 and in tiles. */
static void diffusers_says_how_it_runs(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 4; i++) {
        struct kw__stack *stack;
        struct kw__program *program;
        kw_error err;
        kw_request request = KW_REQUEST_INIT;
        kw_effective r;
        const kw_model *model = i % 2 ? large : small;
        if (kw__stack_open(catalog, names[i / 2], &stack, &err)) fail_msg("%s", err.message);
        const struct kw__dtypes *dtypes = kw__stack_dtypes(stack, "CogVideoXPipeline");
        assert_true(dtypes->vae == KW__BF16 && dtypes->tiled_decode == KW__ALWAYS);
        const struct kw__dtypes *others = kw__stack_dtypes(stack, "WanPipeline");
        assert_true(others->vae == KW__F32 && others->tiled_decode == KW__AS_PIPELINE);
        assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_OK);
        assert_int_equal(kw__lower(model, &r, dtypes, &program, &err), KW_OK);
        for (int s = 0; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__graph *g = program->stages[s].phases[p].graph;
                for (size_t k = 0; k < g->num_ops; k++) {
                    enum kw__class class = kw__op_info(g->ops[k].code)->class;
                    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, &g->ops[k]);
                    bool arithmetic = class == KW__CLASS_GEMM || class == KW__CLASS_ATTENTION;
                    if (!list && !arithmetic)
                        fail_msg("%s has no kernels for %s of %s", names[i / 2],
                                 kw__op_info(g->ops[k].code)->name, g->ops[k].component);
                    if (g->ops[k].code == KW__LAYERNORM && strcmp(g->ops[k].component, "mlp") == 0)
                        assert_int_equal(list->num_kernels, 1);
                }
            }
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),       cmocka_unit_test(parameters),
        cmocka_unit_test(golden_flops),  cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(tiles_overlap), cmocka_unit_test(frames_come_in_chunks),
        cmocka_unit_test(defaults),      cmocka_unit_test(bad_requests),
        cmocka_unit_test(bad_configs),   cmocka_unit_test(diffusers_says_how_it_runs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
