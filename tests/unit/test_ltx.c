/* LTX-Video 0.9.7: FLOPs of the reference graph against PyTorch's FlopCounterMode on the diffusers classes
 * and against closed forms written from the architecture, the tensors of the checkpoint, parameter counts of
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
static kw_model *ltx;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) ||
           kw_model_open(catalog, "ltx-video-0.9.7-dev", &ltx, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(ltx);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request asked(int64_t width, int64_t height, int64_t frames)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = width;
    request.height = height;
    request.num_frames = frames;
    request.num_inference_steps = 3;
    return request;
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

static void declares_each_tensor_once(const kw_request *request, enum kw__choice tiled)
{
    static const struct tensor_list lists[] = {
        {"text_encoder", "tests/data/tensors/t5-v1.1-xxl.text_encoder.txt", 219},
        {"transformer", "tests/data/tensors/ltx-video-0.9.7-dev.transformer.txt", 1215},
        {"latent_upsampler", "tests/data/tensors/ltx.latent_upsampler.txt", 72},
        {"vae", "tests/data/tensors/ltx.vae.txt", 134}};
    struct kw__program *program = family_lower(ltx, request, KW__BF16, tiled);
    tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
    kw__program_free(program);
}

static void tensors(void **state)
{
    (void)state;
    kw_request request = asked(704, 512, 121), one_pass = asked(48, 48, 1);
    one_pass.guidance_scale = 1;
    declares_each_tensor_once(&request, KW__NEVER);
    declares_each_tensor_once(&request, KW__ALWAYS);
    declares_each_tensor_once(&one_pass, KW__NEVER);
}

/* ---- FLOPs ------------------------------------------------------------------------------------------- */

/* FlopCounterMode of PyTorch 2.11 on the diffusers 0.40 classes, 2026-11-23: one forward at 896x640, of which
 * the last stage has four, and decoding without tiles. */
static void golden_forward_and_decode(void **state)
{
    (void)state;
    kw_request request = asked(704, 512, 121);
    struct kw__program *program = family_lower(ltx, &request, KW__BF16, KW__AS_PIPELINE);
    struct kw__sums four = family_count(program, "refine"), decode = family_count(program, "decode");
    expect_near("flop", four.flop / 4, 535672016338944, 1e-3);
    expect_near("linear", four.linear / 4, 405792205307904, 1e-3);
    expect_near("attention", four.attention / 4, 129879811031040, 1e-3);
    expect_near("decode", decode.flop, 87813989597184, 1e-3);
    kw__program_free(program);
}

/* One row of the batch through LTXVideoTransformer3DModel: l video tokens, 256 of text. */
static void forward_form(double l, double *linear, double *attention)
{
    const double d = 4096, n = 256, blocks = 48;
    double block = (4 + 2 + 8) * l * d * d + 2 * n * d * d;
    double embeddings = 256 * d + d * d + 6 * d * d + n * (4096 * d + d * d);
    *linear = 2 * (blocks * block + embeddings + 2 * l * 128 * d);
    *attention = 4 * blocks * d * (l * l + n * l);
}

/* T latent frames of n cells, those of all tiles, and embeddings of the timestep for each tile. */
static double decoder_form(double t, double n, double tiles)
{
    double sum = 27 * 128 * 1024 * t * n, c = 1024, embeddings = 256 * 4096 + 4096.0 * 4096;
    for (int level = 0; level <= 3; level++) {
        sum += 5 * 2 * 27 * c * c * t * n;
        if (level < 3) {
            sum += 27 * c * 4 * c * t * n;
            t = 2 * t - 1;
            n *= 4;
            c /= 2;
            embeddings += 256 * 4 * c + 16 * c * c;
        }
    }
    sum += 27 * c * 48 * t * n;
    embeddings += 256 * 2 * c + 4 * c * c;
    return 2 * (sum + tiles * embeddings);
}

static double upscaler_form(double t, double n)
{
    double ends = 27 * 128 * 512, blocks = 4 * 2 * 27 * 512.0 * 512;
    return 2 * t * n * (ends + blocks + 9 * 512 * 2048 + 4 * (blocks + ends));
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, batch, latent_frames, columns, rows; /* latents of the last stage */
    } cases[] = {{704, 512, 121, 1, 16, 28, 20},
                 {48, 48, 1, 2, 1, 2, 2},
                 {1152, 768, 161, 1, 21, 48, 32},
                 {480, 704, 9, 1, 2, 20, 28}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i].width, cases[i].height, cases[i].frames);
        request.batch_size = cases[i].batch;
        struct kw__program *program = family_lower(ltx, &request, KW__BF16, KW__AS_PIPELINE);
        struct kw__sums denoise = family_count(program, "denoise"), refine = family_count(program, "refine");
        double t = (double)cases[i].latent_frames, batch = (double)cases[i].batch;
        double cells = (double)(cases[i].columns * cases[i].rows), linear, attention;
        forward_form(t * cells / 4, &linear, &attention);
        expect_near("linear", denoise.linear, 3 * 2 * batch * linear, 1e-12);
        expect_near("attention", denoise.attention, 3 * 2 * batch * attention, 1e-12);
        forward_form(t * cells, &linear, &attention);
        expect_near("refined linear", refine.linear, 4 * 2 * batch * linear, 1e-12);
        expect_near("refined attention", refine.attention, 4 * 2 * batch * attention, 1e-12);
        expect_near("upscale", family_count(program, "upscale").flop, batch * upscaler_form(t, cells / 4),
                    1e-12);
        expect_near("decode", family_count(program, "decode").flop, batch * decoder_form(t, cells, 1), 1e-12);
        kw__program_free(program);
    }
}

/* Without guidance there is one pass and one prompt to encode, twice: a call for each of the sizes. */
static void both_calls_encode_the_prompts(void **state)
{
    (void)state;
    kw_request request = asked(704, 512, 121);
    struct kw__program *two = family_lower(ltx, &request, KW__BF16, KW__AS_PIPELINE);
    request.guidance_scale = 1;
    struct kw__program *one = family_lower(ltx, &request, KW__BF16, KW__AS_PIPELINE);
    assert_int_equal(two->stages[0].num_phases, 2);
    assert_int_equal(one->stages[0].num_phases, 1);
    assert_int_equal(one->stages[0].phases[0].calls, 2);
    expect_near("text", family_count(one, "text_encode").flop, family_count(two, "text_encode").flop / 2,
                1e-12);
    expect_near("denoise", family_count(one, "denoise").flop, family_count(two, "denoise").flop / 2, 1e-12);
    kw__program_free(one);
    kw__program_free(two);
}

/* Rows of 16 and 6 latent cells, columns of 16 and 14: 1.179 times the cells. */
static void tiles_decode_what_overlaps_twice(void **state)
{
    (void)state;
    kw_request request = asked(704, 512, 121);
    struct kw__program *tiles = family_lower(ltx, &request, KW__BF16, KW__ALWAYS);
    expect_near("tiles", family_count(tiles, "decode").flop, decoder_form(16, (16 + 6) * (16 + 14), 4),
                1e-12);
    int64_t calls = 0;
    const struct kw__stage *stage = &tiles->stages[tiles->num_stages - 1];
    for (int p = 0; p < stage->num_phases; p++)
        if (strncmp(stage->phases[p].name, "tile ", 5) == 0) calls += stage->phases[p].calls;
    assert_int_equal(calls, 4);
    kw__program_free(tiles);
    /* up to one tile there are none */
    request = asked(384, 384, 9);
    tiles = family_lower(ltx, &request, KW__BF16, KW__ALWAYS);
    assert_int_equal(tiles->stages[tiles->num_stages - 1].num_phases, 3);
    kw__program_free(tiles);
}

/* ---- The schedule ------------------------------------------------------------------------------------ */

static const struct kw__phase *steps_of(const struct kw__program *program, const char *name)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, name) == 0)
            return &program->stages[s].phases[program->stages[s].num_phases - 1];
    fail_msg("no stage %s", name);
    return NULL;
}

/* The last stage goes on where 10 steps are after 6, at sigma 0.825 or so, and ends without noise. */
static void the_last_stage_has_four_steps_of_ten(void **state)
{
    (void)state;
    kw_request request = asked(704, 512, 121);
    request.num_inference_steps = 10;
    struct kw__program *program = family_lower(ltx, &request, KW__BF16, KW__AS_PIPELINE);
    const struct kw__phase *all = steps_of(program, "denoise"), *last = steps_of(program, "refine");
    assert_int_equal(all->calls, 10);
    assert_int_equal(last->calls, 4);
    for (int64_t i = 0; i < 4; i++) {
        const double *a = all->table.rows + (6 + i) * all->table.columns;
        const double *b = last->table.rows + i * last->table.columns;
        for (int k = 0; k < all->table.columns; k++) assert_true(a[k] == b[k]);
    }
    const double *mix = program->stages[3].phases[0].table.rows;
    assert_string_equal(program->stages[3].name, "refine");
    expect_near("noise", mix[0], last->table.rows[1], 0); /* column sigma */
    expect_near("noise and clip", mix[0] + mix[1], 1, 1e-15);
    kw__program_free(program);
}

/* ---- On a stack --------------------------------------------------------------------------------------- */

/* One kernel each, or as WAN's: lists for all pipelines, or none. */
static bool is_plain(const struct kw__op *op)
{
    return op->code == KW__LINEAR || op->code == KW__ATTENTION || op->code == KW__GELU ||
           op->code == KW__SINUSOID || (op->code == KW__RMSNORM && op->num_inputs > 1) ||
           (strcmp(op->component, "vae_decoder") != 0 && (op->code == KW__SILU || op->code == KW__ADD));
}

/* PIL's images are made by the host of numpy's f32: times 255, rounded, as bytes, copied. */
static void check_host(const struct kw__stack *stack, const struct kw__program *program)
{
    const struct kw__stage *decode = &program->stages[program->num_stages - 1];
    const struct kw__graph *g = decode->phases[decode->num_phases - 1].graph;
    double frames = 3.0 * 896 * 640 * 121, host = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__work work;
        kw__op_work(g, &g->ops[i], stack, &work);
        host += work.host_bytes;
    }
    expect_near("host", host, frames * (2 + 4 + 4 + 4 + 1 + 1), 1e-12);
}

static void eager_stacks_know_the_operators(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 2; i++) {
        struct kw__stack *stack;
        struct kw__program *program;
        kw_request request = asked(704, 512, 121);
        kw_effective r;
        kw_error err;
        if (kw__stack_open(catalog, names[i], &stack, &err)) fail_msg("%s", err.message);
        const struct kw__dtypes *dtypes = kw__stack_dtypes(stack, "LTXConditionPipeline");
        assert_true(dtypes->vae == KW__BF16 && dtypes->tiled_decode == KW__ALWAYS);
        assert_int_equal(kw_request_resolve(ltx, &request, &r, &err), KW_OK);
        assert_int_equal(kw__lower(ltx, &r, dtypes, &program, &err), KW_OK);
        for (int s = 1; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__graph *g = program->stages[s].phases[p].graph;
                for (size_t k = 0; k < g->num_ops; k++) {
                    const struct kw__op *op = &g->ops[k];
                    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
                    if ((!list || !list->pipeline) && !is_plain(op))
                        fail_msg("%s has no kernels for %s of %s", names[i], kw__op_info(op->code)->name,
                                 op->component);
                    if (op->code == KW__RMSNORM)
                        assert_string_equal(list->key, op->num_inputs > 1 ? "rmsnorm" : "rmsnorm.plain");
                }
            }
        check_host(stack, program);
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

/* ---- Parameters ---------------------------------------------------------------------------------- */

static int64_t lin(int64_t in, int64_t out)
{
    return in * out + out;
}

static int64_t transformer_parameters(int64_t d, int64_t blocks)
{
    int64_t block = 8 * lin(d, d) + 4 * d + lin(d, 4 * d) + lin(4 * d, d) + 6 * d;
    int64_t embeddings = lin(256, d) + lin(d, d) + lin(d, 6 * d) + lin(4096, d) + lin(d, d);
    return blocks * block + embeddings + lin(128, d) + 2 * d + lin(d, 128);
}

static int64_t conv(int64_t in, int64_t out)
{
    return 27 * in * out + out;
}

/* Widest channels, layers from the widest on; the statistics of 128 channels too. */
static int64_t decoder_parameters(int64_t c, const int64_t layers[4])
{
    int64_t sum = conv(128, c) + 2 * 128 + 1;
    for (int i = 0; i < 4; i++) {
        sum += lin(256, 4 * c) + lin(4 * c, 4 * c) + layers[i] * (2 * conv(c, c) + 4 * c);
        if (i < 3) sum += conv(c, 4 * c);
        if (i < 3) c /= 2;
    }
    return sum + conv(c, 48) + lin(256, 2 * c) + lin(2 * c, 2 * c) + 2 * c;
}

static int64_t upscaler_parameters(int64_t c, int64_t blocks)
{
    return conv(128, c) + 2 * c + 2 * blocks * (2 * conv(c, c) + 4 * c) + 9 * c * 4 * c + 4 * c +
           conv(c, 128);
}

static void expect_parameters(const char *name, int64_t transformer, int64_t vae, int64_t upscaler)
{
    kw_error err;
    kw_model *model;
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.parameters[0], INT64_C(4762310656));
    assert_int_equal(info.parameters[1], transformer);
    assert_int_equal(info.parameters[2], vae);
    assert_int_equal(info.parameters[3], INT64_C(4762310656) + transformer + vae + upscaler);
    assert_string_equal(info.pipeline, "LTXConditionPipeline");
    kw_model_close(model);
}

/* Published: 13,042,569,344 and 126,250,624; the VAE's decoder half is the sum of
 * tests/data/tensors/ltx.vae.txt. */
static void parameters(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    const int64_t layers[4] = {5, 5, 5, 5}, fewer[4] = {1, 3, 2, 4};
    assert_int_equal(transformer_parameters(4096, 48), INT64_C(13042569344)); /* the formulas are right */
    assert_int_equal(upscaler_parameters(512, 4), 126250624);
    assert_int_equal(decoder_parameters(1024, layers), 552814897);
    expect_parameters("ltx-video-0.9.7-dev", INT64_C(13042569344), 552814897, 126250624);
    folder_copy("data/models/ltx-video-0.9.7-dev", folder);
    folder_set(folder, "transformer/config.json", "num_layers", "2");
    folder_set(folder, "transformer/config.json", "num_attention_heads", "6");
    folder_set(folder, "transformer/config.json", "attention_head_dim", "64");
    folder_set(folder, "transformer/config.json", "cross_attention_dim", "384");
    folder_set(folder, "vae/config.json", "decoder_block_out_channels", "[48, 96, 192]");
    folder_set(folder, "vae/config.json", "decoder_layers_per_block", "[4, 2, 3, 1]");
    folder_set(folder, "latent_upsampler/config.json", "mid_channels", "96");
    folder_set(folder, "latent_upsampler/config.json", "num_blocks_per_stage", "1");
    expect_parameters(folder, transformer_parameters(384, 2), decoder_parameters(192, fewer),
                      upscaler_parameters(96, 1));
    folder_remove(folder);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

/* Two thirds, down to a multiple of 32, twice. */
static void sizes_are_rounded(void **state)
{
    (void)state;
    static const int64_t cases[][2] = {{704, 896}, {512, 640}, {480, 640}, {479, 576},
                                       {48, 64},   {95, 64},   {96, 128},  {1152, 1536}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i][0], 704, 1);
        kw_effective r;
        assert_int_equal(kw_request_resolve(ltx, &request, &r, NULL), KW_OK);
        assert_int_equal(r.requested_width, cases[i][0]);
        assert_int_equal(r.width, cases[i][1]);
        assert_int_equal(r.latent_width, cases[i][1] / 32);
        assert_int_equal(r.requested_height, 704);
        assert_int_equal(r.height, 896);
    }
}

static void frames_are_rounded_down(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{1, 1, 1}, {8, 1, 1}, {9, 9, 2}, {121, 121, 16}, {128, 121, 16}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(704, 512, cases[i][0]);
        kw_effective r;
        assert_int_equal(kw_request_resolve(ltx, &request, &r, NULL), KW_OK);
        assert_int_equal(r.requested_frames, cases[i][0]);
        assert_int_equal(r.num_frames, cases[i][1]);
        assert_int_equal(r.latent_frames, cases[i][2]);
        assert_int_equal(r.tokens, cases[i][2] * 20 * 28);
    }
}

static void defaults_are_the_pipelines(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    assert_int_equal(kw_request_resolve(ltx, &request, &r, NULL), KW_OK);
    assert_int_equal(r.requested_width, 704);
    assert_int_equal(r.requested_height, 512);
    assert_int_equal(r.num_frames, 161);
    assert_int_equal(r.num_inference_steps, 50);
    assert_int_equal(r.text_tokens, 256);
    assert_int_equal(r.guidance_passes, 2);
    assert_true(r.guidance_scale == 3.0 && r.flow_shift == 1.0 && r.fps == 24.0);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    kw_request bad[5];
    for (int i = 0; i < 5; i++) bad[i] = asked(704, 512, 9);
    bad[0].width = 47;
    bad[1].height = 1;
    bad[2].prompt_tokens = 257;
    bad[3].negative_tokens = 0;
    bad[4].width = bad[4].height = bad[4].num_frames = 1 << 14;
    bad[4].batch_size = 1024;
    static const char *const messages[] = {"width 47 is too small", "height 1 is too small",
                                           "prompt-tokens 257 is out of range",
                                           "negative-tokens 0 is out of range", "is too large to count"};
    for (int i = 0; i < 5; i++) family_expect_bad_request(ltx, &bad[i], messages[i]);
}

/* A config that says what the code does not know is refused with file and key. */
static void other_configs_are_refused(void **state)
{
    (void)state;
    static const struct family_change changes[] = {
        {"model_index.json", "vae", "null", "\"vae\" must name"},
        {"transformer/config.json", "qk_norm", "\"layer_norm\"", "must be \"rms_norm_across_heads\""},
        {"transformer/config.json", "activation_fn", "\"geglu\"", "must be \"gelu-approximate\""},
        {"transformer/config.json", "attention_bias", "false", "attention_bias"},
        {"transformer/config.json", "attention_out_bias", "false", "attention_out_bias"},
        {"transformer/config.json", "norm_elementwise_affine", "true", "norm_elementwise_affine"},
        {"transformer/config.json", "patch_size", "2", "must be 1"},
        {"transformer/config.json", "patch_size_t", "2", "must be 1"},
        {"transformer/config.json", "out_channels", "16", "out_channels"},
        {"transformer/config.json", "cross_attention_dim", "2048", "cross_attention_dim"},
        {"transformer/config.json", "caption_channels", "2048", "\"caption_channels\" is 2048"},
        {"vae/config.json", "latent_channels", "64", "\"latent_channels\" is 64"},
        {"transformer/config.json", "num_attention_heads", "4000", "12 to 65536"},
        {"transformer/config.json", "attention_head_dim", "0", "attention_head_dim"},
        {"scheduler/scheduler_config.json", "invert_sigmas", "true", "invert_sigmas"},
        {"scheduler/scheduler_config.json", "use_dynamic_shifting", "true", "use_dynamic_shifting"},
        {"scheduler/scheduler_config.json", "shift_terminal", "0.1", "shift_terminal"},
        {"scheduler/scheduler_config.json", "num_train_timesteps", "500", "must be 1000"},
        {"vae/config.json", "decoder_causal", "true", "decoder_causal"},
        {"vae/config.json", "timestep_conditioning", "false", "timestep_conditioning"},
        {"vae/config.json", "decoder_inject_noise", "[false, false, true, false]", "decoder_inject_noise"},
        {"vae/config.json", "decoder_spatio_temporal_scaling", "[true, true]", "must be [true, true, true]"},
        {"vae/config.json", "upsample_residual", "[true, false, true]", "upsample_residual"},
        {"vae/config.json", "upsample_factor", "[1, 2, 2]", "upsample_factor"},
        {"vae/config.json", "decoder_block_out_channels", "[256, 512, 512]", "must double"},
        {"vae/config.json", "decoder_block_out_channels", "[12, 24, 48]", "multiples of 8"},
        {"vae/config.json", "patch_size", "8", "\"patch_size\" must be 4"},
        {"vae/config.json", "spatial_compression_ratio", "16", "must be 32"},
        {"vae/config.json", "temporal_compression_ratio", "4", "must be 8"},
        {"vae/config.json", "out_channels", "4", "\"out_channels\" must be 3"},
        {"vae/config.json", "scaling_factor", "0.5", "scaling_factor"},
        {"latent_upsampler/config.json", "dims", "2", "\"dims\" must be 3"},
        {"latent_upsampler/config.json", "temporal_upsample", "true", "temporal_upsample"},
        {"latent_upsampler/config.json", "mid_channels", "500", "multiple of 32"},
        {"latent_upsampler/config.json", "in_channels", "64", "latent_upsampler"},
    };
    family_expect_refused(catalog, "data/models/ltx-video-0.9.7-dev", changes,
                          sizeof changes / sizeof changes[0]);
}

/* The upscaler is a repository of its own: a folder without it says where it comes from. */
static void a_folder_without_upscaler_says_where_it_is(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[2 * FOLDER_BYTES];
    kw_model *model;
    kw_error err;
    folder_copy("data/models/ltx-video-0.9.7-dev", folder);
    snprintf(path, sizeof path, "%s/latent_upsampler/config.json", folder);
    assert_int_equal(remove(path), 0);
    kw_status status = kw_model_open(catalog, folder, &model, &err);
    folder_remove(folder);
    assert_int_equal(status, KW_ERROR_FORMAT);
    assert_non_null(strstr(err.message, "ltxv-spatial-upscaler"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),
        cmocka_unit_test(golden_forward_and_decode),
        cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(both_calls_encode_the_prompts),
        cmocka_unit_test(tiles_decode_what_overlaps_twice),
        cmocka_unit_test(the_last_stage_has_four_steps_of_ten),
        cmocka_unit_test(eager_stacks_know_the_operators),
        cmocka_unit_test(parameters),
        cmocka_unit_test(sizes_are_rounded),
        cmocka_unit_test(frames_are_rounded_down),
        cmocka_unit_test(defaults_are_the_pipelines),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(other_configs_are_refused),
        cmocka_unit_test(a_folder_without_upscaler_says_where_it_is),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
