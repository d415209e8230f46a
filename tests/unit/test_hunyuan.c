/* HunyuanVideo: FLOPs of the reference graph against PyTorch's FlopCounterMode on the diffusers and
 * transformers classes and against closed forms written from the architecture, the tensors of the checkpoint,
 * parameter counts of edited configs, and the pipeline's own rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "support/family.h"
#include "support/folder.h"
#include "support/tensors.h"

static kw_catalog *catalog;
static kw_model *hunyuan;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) || kw_model_open(catalog, "hunyuanvideo", &hunyuan, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(hunyuan);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request asked(int64_t width, int64_t height, int64_t frames)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = width;
    request.height = height;
    request.num_frames = frames;
    request.num_inference_steps = 1;
    return request;
}

static struct kw__sums count(const kw_request *request, enum kw__choice tiled, const char *stage)
{
    struct kw__program *program = family_lower(hunyuan, request, KW__BF16, tiled);
    struct kw__sums sums = family_count(program, stage);
    kw__program_free(program);
    return sums;
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

static void declares_each_tensor_once(const kw_request *request, enum kw__choice tiled)
{
    static const struct tensor_list lists[] = {
        {"text_encoder", "tests/data/tensors/llama-3-8b.text_encoder.txt", 290},
        {"text_encoder_2", "tests/data/tensors/clip-l.text_encoder_2.txt", 196},
        {"transformer", "tests/data/tensors/hunyuanvideo.transformer.txt", 1264},
        {"vae", "tests/data/tensors/hunyuanvideo.vae.txt", 140}};
    struct kw__program *program = family_lower(hunyuan, request, KW__BF16, tiled);
    tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
    kw__program_free(program);
}

static void tensors(void **state)
{
    (void)state;
    kw_request request = asked(1280, 720, 61), image = asked(64, 64, 1);
    declares_each_tensor_once(&request, KW__NEVER);
    declares_each_tensor_once(&request, KW__ALWAYS);
    declares_each_tensor_once(&image, KW__NEVER);
}

/* ---- FLOPs ------------------------------------------------------------------------------------------- */

/* FlopCounterMode of PyTorch 2.11 on the classes of diffusers 0.40 and transformers 5.24, on the meta device,
 * 2026-11-30. Frames of 25, 5 and 17: 7, 2 and 5 latent frames; the last in tiles. */
static void golden_counts(void **state)
{
    (void)state;
    kw_request request = asked(1280, 720, 129), small = asked(512, 320, 17);
    expect_near("text", count(&request, KW__AS_PIPELINE, "text_encode").flop, 4964076748800.0 + 13298503680.0,
                1e-12);
    struct kw__sums one = count(&request, KW__AS_PIPELINE, "denoise");
    expect_near("linear", one.linear, 1618093022380032, 1e-12);
    expect_near("attention", one.attention, 10450452470562816, 1e-12);
    expect_near("conv", one.conv, 46714060800, 1e-12);
    expect_near("flop", count(&small, KW__AS_PIPELINE, "denoise").flop, 55905063272448, 1e-12);
    expect_near("tiles", count(&small, KW__ALWAYS, "decode").flop, 96682265149440, 1e-12);
    request = asked(256, 256, 25);
    struct kw__sums chunks = count(&request, KW__AS_PIPELINE, "decode");
    expect_near("conv", chunks.conv, 36375643553792, 1e-12);
    expect_near("linear", chunks.linear, 16106127360.0 + 5368709120.0, 1e-12);
    expect_near("attention", chunks.attention, 90194313216, 1e-12);
    request = asked(192, 128, 5);
    expect_near("decode", count(&request, KW__AS_PIPELINE, "decode").flop, 2345121742848, 1e-12);
}

/* Multiply-adds of one row of the batch: l video tokens, 256 of text. */
static double linear_form(double l)
{
    const double d = 3072, f = 4 * d, m = 256, in = 4096, rows = l + m;
    double embeddings = 2 * (256 * d + d * d) + 768 * d + d * d; /* timestep, guidance, pooled text */
    double refiner =
        256 * d + d * d + in * d + d * d + m * in * d + 2 * (m * (4 * d * d + 2 * d * f) + 2 * d * d);
    double dual = 12 * d * d + rows * (4 * d * d + 2 * d * f);
    double single = 3 * d * d + rows * (3 * d * d + d * f + (d + f) * d);
    return embeddings + refiner + 20 * dual + 40 * single + 2 * d * d + l * d * 64;
}

static double attention_form(double l)
{
    return 2 * 3072 * (2 * 256.0 * 256 + 60 * (l + 256) * (l + 256));
}

static double resnets(double count, double c, double cells)
{
    return count * 2 * 27 * c * c * cells;
}

/* t latent frames of n cells, decoded together. */
static double chunk_form(double t, double n)
{
    double c = 512, cells = t * n, twice = (2 * t - 1) * 16 * n, last = (4 * t - 3) * 64 * n;
    double lowest =
        (16 * 16 + 27 * 16 * c) * cells + resnets(2, c, cells) + 4 * c * c * cells + 2 * c * cells * cells;
    double up = resnets(3, c, cells) + 27 * c * c * 4 * cells + resnets(3, c, 4 * cells) + 27 * c * c * twice;
    double third =
        resnets(2, 256, twice) + (27 * (c * 256 + 256.0 * 256) + c * 256) * twice + 27 * 256.0 * 256 * last;
    return lowest + up + third + resnets(2, 128, last) +
           (27 * (256.0 * 128 + 128 * 128) + 256 * 128 + 27 * 128 * 3) * last;
}

/* Up to four latent frames at once; of more, five from every third on. */
static double decoder_form(int64_t t, double n)
{
    double sum = 0;
    if (t <= 4) return chunk_form((double)t, n);
    for (int64_t at = 0; at < t; at += 3) sum += chunk_form((double)(t - at < 5 ? t - at : 5), n);
    return sum;
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const int64_t cases[][5] = {/* width, height, frames, latent frames, batch */
                                       {1280, 720, 129, 33, 1}, {16, 16, 1, 1, 2},  {512, 320, 61, 16, 1},
                                       {320, 192, 13, 4, 1},    {64, 48, 18, 5, 3}, {48, 64, 29, 8, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t *c = cases[i];
        kw_request request = asked(c[0], c[1], c[2]);
        request.batch_size = c[4];
        struct kw__program *program = family_lower(hunyuan, &request, KW__BF16, KW__AS_PIPELINE);
        struct kw__sums denoise = family_count(program, "denoise"), decode = family_count(program, "decode");
        double cells = (double)(c[0] / 8 * (c[1] / 8)), l = (double)c[3] * cells / 4,
               twice = 2 * (double)c[4];
        expect_near("linear", denoise.linear, twice * linear_form(l), 1e-12);
        expect_near("attention", denoise.attention, twice * attention_form(l), 1e-12);
        expect_near("decode", decode.flop, twice * decoder_form(c[3], cells), 1e-12);
        kw__program_free(program);
    }
}

/* 50 latent cells are tiles of 32, 26 and 2, and 7 latent frames chunks of 5, 4 and 1: nine shapes of three
 * kinds, as many graphs as there are. */
static void tiles_and_chunks_of_every_kind(void **state)
{
    (void)state;
    static const double sizes[] = {32, 26, 2};
    kw_request request = asked(400, 400, 25);
    struct kw__program *program = family_lower(hunyuan, &request, KW__BF16, KW__ALWAYS);
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) sum += 2 * decoder_form(7, sizes[i] * sizes[j]);
    expect_near("tiles", family_count(program, "decode").flop, sum, 1e-12);
    assert_int_equal(program->stages[2].num_phases, 9 * 3 + 2); /* what they are made from, and the clip */
    kw__program_free(program);
}

/* ---- On a stack --------------------------------------------------------------------------------------- */

/* Every operator has its kernels, and where text encoders and VAE are in f16 they are no other model's of
 * f32. */
static void eager_stacks_know_the_operators(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 2; i++) {
        struct kw__stack *stack;
        struct kw__program *program;
        kw_request request = asked(1280, 720, 129);
        kw_effective r;
        kw_error err;
        if (kw__stack_open(catalog, names[i], &stack, &err)) fail_msg("%s", err.message);
        const struct kw__dtypes *dtypes = kw__stack_dtypes(stack, "HunyuanVideoPipeline");
        assert_true(dtypes->vae == KW__F16 && dtypes->denoiser == KW__BF16);
        assert_int_equal(kw_request_resolve(hunyuan, &request, &r, &err), KW_OK);
        assert_int_equal(kw__lower(hunyuan, &r, dtypes, &program, &err), KW_OK);
        for (int s = 0; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__graph *g = program->stages[s].phases[p].graph;
                for (size_t k = 0; k < g->num_ops; k++) {
                    const struct kw__op *op = &g->ops[k];
                    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
                    if (op->code != KW__LINEAR && (!list || (s == 2 && !list->pipeline)))
                        fail_msg("%s has no kernels for %s of %s", names[i], kw__op_info(op->code)->name,
                                 op->component);
                }
            }
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

/* ---- Parameters ---------------------------------------------------------------------------------- */

static int64_t lin(int64_t in, int64_t out)
{
    return in * out + out;
}

/* Width d of h heads, n dual and s single blocks with MLPs of f, r blocks of the refiner; text of 4096,
 * pooled text of 768, 16 channels. */
static int64_t transformer_parameters(int64_t d, int64_t h, int64_t f, int64_t n, int64_t s, int64_t r)
{
    int64_t number = lin(256, d) + lin(d, d), both = 2 * number + lin(768, d) + lin(d, d);
    int64_t refiner = number + lin(4096, d) + lin(d, d) + lin(4096, d) +
                      r * (4 * d + 4 * lin(d, d) + lin(d, 4 * d) + lin(4 * d, d) + lin(d, 2 * d));
    int64_t dual = 2 * lin(d, 6 * d) + 8 * lin(d, d) + 4 * (d / h) + 2 * (lin(d, f) + lin(f, d));
    int64_t single = lin(d, 3 * d) + 3 * lin(d, d) + 2 * (d / h) + lin(d, f) + lin(d + f, d);
    return lin(64, d) + both + refiner + n * dual + s * single + lin(d, 2 * d) + lin(d, 64);
}

/* Width d of h heads, k of keys and values, MLPs of f, n blocks, v words. */
static int64_t llama_parameters(int64_t d, int64_t h, int64_t k, int64_t f, int64_t n, int64_t v)
{
    return v * d + n * (2 * d * d + 2 * d * (d / h * k) + 3 * d * f + 2 * d) + d;
}

static void expect_parameters(const char *name, int64_t text, int64_t transformer, int64_t vae)
{
    kw_error err;
    kw_model *model;
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.parameters[0], text);
    assert_int_equal(info.parameters[1], transformer);
    assert_int_equal(info.parameters[2], vae);
    assert_int_equal(info.parameters[3], text + transformer + vae);
    assert_string_equal(info.pipeline, "HunyuanVideoPipeline");
    kw_model_close(model);
}

/* Published: 12,821,012,544; the VAE's decoder half is the sum of tests/data/tensors/hunyuanvideo.vae.txt. */
static void parameters(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    const int64_t published = 12821012544, clip = 123060480, vae = 146136339;
    assert_int_equal(transformer_parameters(3072, 24, 12288, 20, 40, 2),
                     published); /* the formulas are right */
    assert_int_equal(llama_parameters(4096, 32, 8, 14336, 32, 128320), INT64_C(7505186816));
    expect_parameters("hunyuanvideo", INT64_C(7505186816) + clip, published, vae);
    folder_copy("data/models/hunyuanvideo", folder);
    folder_set(folder, "transformer/config.json", "num_layers", "3");
    folder_set(folder, "transformer/config.json", "num_single_layers", "2");
    folder_set(folder, "transformer/config.json", "num_refiner_layers", "1");
    folder_set(folder, "transformer/config.json", "num_attention_heads", "5");
    folder_set(folder, "transformer/config.json", "mlp_ratio", "2.5");
    folder_set(folder, "text_encoder/config.json", "num_hidden_layers", "7");
    folder_set(folder, "text_encoder/config.json", "num_key_value_heads", "2");
    folder_set(folder, "text_encoder/config.json", "vocab_size", "1000");
    folder_set(folder, "vae/config.json", "mid_block_add_attention", "false");
    expect_parameters(folder, llama_parameters(4096, 32, 2, 14336, 7, 1000) + clip,
                      transformer_parameters(640, 5, 1600, 3, 2, 1), vae - 4 * lin(512, 512) - 2 * 512);
    folder_remove(folder);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static void frames_are_rounded_down(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{1, 1, 1},    {4, 1, 1},    {5, 5, 2},     {60, 57, 15},
                                       {61, 61, 16}, {64, 61, 16}, {129, 129, 33}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(1280, 720, cases[i][0]);
        kw_effective r;
        assert_int_equal(kw_request_resolve(hunyuan, &request, &r, NULL), KW_OK);
        assert_int_equal(r.requested_frames, cases[i][0]);
        assert_int_equal(r.num_frames, cases[i][1]);
        assert_int_equal(r.latent_frames, cases[i][2]);
        assert_int_equal(r.tokens, cases[i][2] * 45 * 80);
    }
}

/* Guidance is embedded: whatever its scale, one pass. */
static void defaults_are_the_pipelines(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kw_request_resolve(hunyuan, &request, &r, NULL), KW_OK);
        assert_int_equal(r.guidance_passes, 1);
        assert_true(r.guidance_scale == (i ? i : 6.0));
        request.guidance_scale = i + 1;
    }
    assert_int_equal(r.width, 1280);
    assert_int_equal(r.height, 720);
    assert_int_equal(r.num_frames, 129);
    assert_int_equal(r.num_inference_steps, 50);
    assert_int_equal(r.text_tokens, 256);
    assert_int_equal(r.tokens, 118800);
    assert_true(r.flow_shift == 7.0 && r.fps == 24.0);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    kw_request bad[4];
    for (int i = 0; i < 4; i++) bad[i] = asked(1280, 720, 129);
    bad[0].width = 1288; /* whole latent cells, no whole patches */
    bad[1].height = 8;
    bad[2].prompt_tokens = 257;
    bad[3].width = bad[3].height = bad[3].num_frames = 1 << 14;
    bad[3].batch_size = 1024;
    static const char *const messages[] = {"width 1288 is no multiple of 16; try 1280 or 1296",
                                           "height 8 is no multiple of 16; try 16",
                                           "prompt-tokens 257 is out of range", "is too large to count"};
    for (int i = 0; i < 4; i++) family_expect_bad_request(hunyuan, &bad[i], messages[i]);
}

/* A config that says what the code does not know is refused with file and key. */
static void other_configs_are_refused(void **state)
{
    (void)state;
    static const struct family_change changes[] = {
        {"model_index.json", "text_encoder_2", "null", "text_encoder_2"},
        {"transformer/config.json", "image_condition_type", "\"token_replace\"", "start from an image"},
        {"transformer/config.json", "qk_norm", "\"layer_norm\"", "\"qk_norm\" must be \"rms_norm\""},
        {"transformer/config.json", "patch_size_t", "2", "\"patch_size_t\" must be 1"},
        {"transformer/config.json", "out_channels", "8", "\"out_channels\" must be null or"},
        {"transformer/config.json", "rope_axes_dim", "[16, 56, 54]", "128, in sum"},
        {"transformer/config.json", "rope_axes_dim", "[17, 55, 56]", "must be even"},
        {"transformer/config.json", "num_attention_heads", "4000", "at most 65536"},
        {"transformer/config.json", "mlp_ratio", "900", "1 to 262144"},
        {"transformer/config.json", "text_embed_dim", "2048", "\"text_embed_dim\" is 2048"},
        {"transformer/config.json", "pooled_projection_dim", "512", "\"pooled_projection_dim\" is 512"},
        {"transformer/config.json", "in_channels", "12", "\"in_channels\""},
        {"transformer/config.json", "guidance_embeds", "1", "\"guidance_embeds\""},
        {"text_encoder/config.json", "model_type", "\"qwen2\"", "llama is"},
        {"text_encoder/config.json", "hidden_act", "\"gelu\"", "silu is"},
        {"text_encoder/config.json", "num_key_value_heads", "5", "must divide \"num_attention_heads\", 32"},
        {"text_encoder/config.json", "num_attention_heads", "24", "must divide \"hidden_size\", 4096"},
        {"text_encoder/config.json", "head_dim", "64", "\"head_dim\" must be"},
        {"text_encoder/config.json", "rope_scaling", "{\"factor\": 8.0}", "\"rope_scaling\""},
        {"text_encoder/config.json", "attention_bias", "true", "\"attention_bias\""},
        {"text_encoder/config.json", "num_hidden_layers", "1", "must be at least 2"},
        {"text_encoder_2/config.json", "max_position_embeddings", "64", "must be at least 77"},
        {"scheduler/scheduler_config.json", "invert_sigmas", "true", "invert_sigmas"},
        {"scheduler/scheduler_config.json", "use_dynamic_shifting", "true", "use_dynamic_shifting"},
        {"vae/config.json", "temporal_compression_ratio", "8", "must be 4"},
        {"vae/config.json", "spatial_compression_ratio", "16", "must be 8"},
        {"vae/config.json", "up_block_types", "[\"UpBlock3D\"]", "HunyuanVideoUpBlock3D"},
        {"vae/config.json", "block_out_channels", "[128, 250, 512, 512]", "multiples of"},
        {"vae/config.json", "act_fn", "\"relu\"", "silu is"},
        {"vae/config.json", "out_channels", "4", "must be 3"},
    };
    family_expect_refused(catalog, "data/models/hunyuanvideo", changes, sizeof changes / sizeof changes[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),
        cmocka_unit_test(golden_counts),
        cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(tiles_and_chunks_of_every_kind),
        cmocka_unit_test(eager_stacks_know_the_operators),
        cmocka_unit_test(parameters),
        cmocka_unit_test(frames_are_rounded_down),
        cmocka_unit_test(defaults_are_the_pipelines),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(other_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
