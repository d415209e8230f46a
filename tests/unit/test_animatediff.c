/* AnimateDiff: FLOPs of the reference graph against PyTorch's FlopCounterMode on the diffusers classes and
 * against closed forms written from the architecture, the tensors of the checkpoints, parameter counts of
 * edited configs, and the pipeline's own rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"
#include "support/family.h"
#include "support/folder.h"
#include "support/tensors.h"

static const char slug[] = "animatediff-lightning-4step";
static kw_catalog *catalog;
static kw_model *lightning;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) || kw_model_open(catalog, slug, &lightning, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(lightning);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request asked(int64_t width, int64_t height, int64_t frames)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = width;
    request.height = height;
    request.num_frames = frames;
    return request;
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

static void declares_each_tensor_once(const kw_request *request)
{
    static const struct tensor_list lists[] = {
        {"text_encoder", "tests/data/tensors/clip-l.text_encoder_2.txt", 196},
        {"unet", "tests/data/tensors/sd-1.5.unet.txt", 686},
        {"motion_adapter", "tests/data/tensors/animatediff.motion_adapter.txt", 546},
        {"vae", "tests/data/tensors/sd-1.5.vae.txt", 140}};
    struct kw__program *program = family_lower(lightning, request, KW__F16, KW__AS_PIPELINE);
    tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
    kw__program_free(program);
}

static void tensors(void **state)
{
    (void)state;
    kw_request request = asked(512, 512, 16), guided = asked(72, 40, 1);
    guided.guidance_scale = 7.5;
    declares_each_tensor_once(&request);
    declares_each_tensor_once(&guided);
}

/* ---- FLOPs ------------------------------------------------------------------------------------------- */

/* FlopCounterMode of PyTorch 2.11 on the diffusers 0.40 classes, 2026-11-23. */
static void golden_forward_and_decode(void **state)
{
    (void)state;
    kw_request request = asked(512, 512, 16);
    struct kw__program *program = family_lower(lightning, &request, KW__F16, KW__AS_PIPELINE);
    struct kw__sums four = family_count(program, "denoise"), decode = family_count(program, "decode");
    expect_near("flop", four.flop / 4, 17748911882240, 1e-3);
    expect_near("linear", four.linear / 4, 8604443115520, 1e-3);
    expect_near("attention", four.attention / 4, 2041331056640, 1e-3);
    expect_near("conv", four.conv / 4, 7103137710080, 1e-3);
    expect_near("decode", decode.flop, 40232302936064, 1e-3);
    kw__program_free(program);
}

/* Multiply-adds. */
struct form {
    double linear, attention, conv;
};

static double resnet_macs(double in, double out)
{
    return 9 * in * out + 9 * out * out + (in == out ? 0 : in * out);
}

/* A residual block from `in` channels, with attention to cells and text or not, and a motion module; T frames
 * of n cells. The time embedding is one row. */
static void add_layer(struct form *f, double t, double n, double in, double c, bool attends)
{
    f->conv += t * n * resnet_macs(in, c);
    f->linear += 1280 * c;
    if (attends) {
        f->conv += t * n * 2 * c * c;                                     /* in and out */
        f->linear += t * n * (4 + 2 + 12) * c * c + t * 2 * 77 * 768 * c; /* the text's k and v: each frame */
        f->attention += t * 2 * n * n * c + t * 2 * n * 77 * c;
    }
    f->linear += t * n * (2 + 8 + 12) * c * c;
    f->attention += 2 * 2 * n * t * t * c;
}

/* Stable Diffusion 1.5 with motion modules on T frames of h x w cells. */
static struct form unet_form(double t, int64_t h, int64_t w)
{
    static const double c[4] = {320, 640, 1280, 1280};
    static const double up[4][3] = {
        {2560, 2560, 2560}, {2560, 2560, 1920}, {1920, 1280, 960}, {960, 640, 640}};
    double n[4];
    for (int i = 0; i < 4; i++) {
        n[i] = (double)(h * w);
        h = (h + 1) / 2;
        w = (w + 1) / 2;
    }
    struct form f = {320 * 1280 + 1280 * 1280, 0, 2 * 9 * 4 * 320 * t * n[0]};
    for (int i = 0; i < 4; i++) {
        add_layer(&f, t, n[i], i ? c[i - 1] : 320, c[i], i < 3);
        add_layer(&f, t, n[i], c[i], c[i], i < 3);
        if (i < 3) f.conv += 9 * c[i] * c[i] * t * n[i + 1];
        for (int k = 0; k < 3; k++) add_layer(&f, t, n[3 - i], up[i][k], c[3 - i], i > 0);
        if (i < 3) f.conv += 9 * c[3 - i] * c[3 - i] * t * n[2 - i];
    }
    add_layer(&f, t, n[3], 1280, 1280, true);
    f.conv += t * n[3] * resnet_macs(1280, 1280);
    f.linear += 1280 * 1280;
    return f;
}

/* One frame of n cells. */
static double decoder_form(double n)
{
    const double r = 512;
    double macs = n * (4 * 4 + 9 * 4 * r + 2 * resnet_macs(r, r) + 4 * r * r) + 2 * n * n * r;
    macs += n * 3 * resnet_macs(r, r) + 4 * n * (9 * r * r + 3 * resnet_macs(r, r));
    macs += 16 * n * (9 * r * r + resnet_macs(r, 256) + 2 * resnet_macs(256, 256));
    return macs + 64 * n * (9 * 256 * 256 + resnet_macs(256, 128) + 2 * resnet_macs(128, 128) + 9 * 128 * 3);
}

/* CLIP ViT-L/14's on 77 rows. */
static double text_form(void)
{
    const double d = 768, l = 77;
    return 12 * (l * (4 * d * d + 2 * d * 3072) + 2 * l * l * d);
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, steps, batch;
        double guidance;
    } cases[] = {{512, 512, 16, 4, 1, 1},  {512, 512, 16, 25, 1, 7.5}, {8, 8, 1, 1, 2, 1},
                 {1024, 576, 32, 8, 1, 1}, {200, 328, 7, 3, 3, 2},     {72, 8, 17, 2, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i].width, cases[i].height, cases[i].frames);
        request.num_inference_steps = cases[i].steps;
        request.batch_size = cases[i].batch;
        request.guidance_scale = cases[i].guidance;
        struct kw__program *program = family_lower(lightning, &request, KW__F16, KW__AS_PIPELINE);
        struct kw__sums text = family_count(program, "text_encode"),
                        denoise = family_count(program, "denoise"), decode = family_count(program, "decode");
        double passes = 2.0 * (double)cases[i].batch * (cases[i].guidance > 1 ? 2 : 1);
        double steps = passes * (double)cases[i].steps, frames = (double)cases[i].frames;
        int64_t h = cases[i].height / 8, w = cases[i].width / 8;
        struct form f = unet_form(frames, h, w);
        expect_near("text", text.flop, passes * text_form(), 1e-12);
        expect_near("linear", denoise.linear, steps * f.linear, 1e-12);
        expect_near("attention", denoise.attention, steps * f.attention, 1e-12);
        expect_near("conv", denoise.conv, steps * f.conv, 1e-12);
        expect_near("decode", decode.flop,
                    2 * (double)cases[i].batch * frames * decoder_form((double)(h * w)), 1e-12);
        kw__program_free(program);
    }
}

/* 16 images a call, of whatever clips. */
static void frames_are_decoded_in_calls(void **state)
{
    (void)state;
    static const struct {
        int64_t frames, batch, calls, rest;
    } cases[] = {{16, 1, 1, 0}, {17, 1, 1, 1}, {32, 1, 2, 0}, {7, 1, 0, 7}, {16, 2, 2, 0}, {5, 40, 5, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(64, 64, cases[i].frames);
        request.batch_size = cases[i].batch;
        struct kw__program *program = family_lower(lightning, &request, KW__F16, KW__AS_PIPELINE);
        const struct kw__stage *stage = &program->stages[2];
        int64_t calls = 0, rest = 0;
        for (int p = 0; p < stage->num_phases; p++) {
            if (strcmp(stage->phases[p].name, "tile 8x8 frames") == 0) calls = stage->phases[p].calls;
            if (strcmp(stage->phases[p].name, "tile 8x8 rest") != 0) continue;
            assert_int_equal(stage->phases[p].calls, 1);
            rest = cases[i].frames - calls * (16 / (cases[i].batch < 16 ? cases[i].batch : 16));
        }
        assert_int_equal(calls, cases[i].calls);
        assert_int_equal(rest, cases[i].rest);
        kw__program_free(program);
    }
}

/* AutoencoderKL.tiled_decode on 64 x 100 cells: from every 48th cell on, 64 or to the end. */
static void tiles_decode_what_overlaps_twice(void **state)
{
    (void)state;
    kw_request request = asked(800, 512, 16);
    struct kw__program *program = family_lower(lightning, &request, KW__F16, KW__ALWAYS);
    double tiles = 0;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) tiles += decoder_form((i ? 16 : 64) * (j == 0 ? 64 : j == 1 ? 52 : 4));
    expect_near("tiles", family_count(program, "decode").flop, 2 * 16 * tiles, 1e-12);
    kw__program_free(program);
}

/* ---- On a stack --------------------------------------------------------------------------------------- */

/* Of operators with arithmetic lists hold what is beside their kernel, often nothing. */
static void check_operator(const struct kw__stack *stack, const struct kw__graph *g, const struct kw__op *op,
                           struct kw__work *sums)
{
    enum kw__class class = kw__op_info(op->code)->class;
    const struct kw__kernel_list *list = kw__stack_kernels(stack, g, op);
    if (class != KW__CLASS_GEMM && (!list || !list->pipeline))
        fail_msg("%s has no kernels for %s of %s", stack->name, kw__op_info(op->code)->name, op->component);
    struct kw__work work;
    kw__op_work(g, op, stack, &work);
    if (class == KW__CLASS_ATTENTION && strcmp(op->component, "motion") == 0) sums->flop += work.flop;
    sums->host_bytes += work.host_bytes;
    sums->launches += work.launches;
}

/* Each operator's kernels are those of AnimateDiff's classes, not WAN's, which have other dtypes. */
static void eager_stacks_know_the_operators(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 2; i++) {
        struct kw__stack *stack;
        struct kw__program *program;
        kw_request request = asked(512, 512, 16);
        kw_effective r;
        kw_error err;
        struct kw__work stages[3];
        memset(stages, 0, sizeof stages);
        if (kw__stack_open(catalog, names[i], &stack, &err)) fail_msg("%s", err.message);
        const struct kw__dtypes *dtypes = kw__stack_dtypes(stack, "AnimateDiffPipeline");
        assert_true(dtypes->denoiser == KW__F16 && dtypes->vae == KW__F16);
        assert_int_equal(kw_request_resolve(lightning, &request, &r, &err), KW_OK);
        assert_int_equal(kw__lower(lightning, &r, dtypes, &program, &err), KW_OK);
        for (int s = 0; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__graph *g = program->stages[s].phases[p].graph;
                for (size_t k = 0; k < g->num_ops; k++) check_operator(stack, g, &g->ops[k], &stages[s]);
            }
        /* 16 frames are 16 of 128 queries and of 128 keys, heads of 40, 80, 160 channels 64, 96, 160 */
        double level[4] = {64 * 5, 96 * 5, 160 * 5, 160 * 6}, motion = 0;
        for (int n = 0; n < 4; n++) motion += 2 * 4.0 * (64 >> n) * (64 >> n) * 8 * 128 * 128 * level[n];
        expect_near("tiles", stages[1].flop, motion, 1e-12);
        /* of a colour: 4 bytes come, and times 255, rounded, to 8 bits, into the image */
        expect_near("host", stages[2].host_bytes, 16 * 512 * 512 * 3 * (4 + 4 + 4 + 4 + 1 + 1), 1e-12);
        /* PyTorch runs 1400 operators that are no views in a forward, 82 of them group norms of three
         * kernels, 98 convolutions of four */
        expect_near("launches", stages[1].launches, 1400 + 2 * 82 + 3 * 98, 0.02);
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

/* Tensor cores take f16 as bf16: no rate is missing for it, but one for heads of 40 channels. */
static void half_precisions_have_one_rate(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p;
    kw_error err;
    options.hardware = "h200";
    options.stack = "diffusers-0.40";
    if (kw_predict(catalog, lightning, &request, &options, &p, &err)) fail_msg("%s", err.message);
    bool said = false;
    for (size_t i = 0; i < p->num_warnings; i++) {
        if (strstr(p->warnings[i], "gemm/f16") || strstr(p->warnings[i], "conv/f16"))
            fail_msg("%s", p->warnings[i]);
        said = said || strstr(p->warnings[i], "no rate for attention/f16/hd40");
    }
    assert_true(said);
    kw_prediction_free(p);
}

/* ---- Parameters ---------------------------------------------------------------------------------- */

static int64_t lin(int64_t in, int64_t out)
{
    return in * out + out;
}

static int64_t resnet_parameters(int64_t in, int64_t out, int64_t time)
{
    int64_t norms = 2 * in + 2 * out, shortcut = in == out ? 0 : lin(in, out);
    return norms + lin(9 * in, out) + (time ? lin(time, out) : 0) + lin(9 * out, out) + shortcut;
}

/* Norm, in, three layer norms, two attentions of which the second is to `text` channels, MLP, out. */
static int64_t transformer_parameters(int64_t c, int64_t text)
{
    int64_t attention = 2 * c * c + 2 * c * text + 2 * (c * c + c) + 2 * c * c;
    return 2 * c + 2 * lin(c, c) + 3 * 2 * c + attention + lin(c, 8 * c) + lin(4 * c, c);
}

/* UNet and motion adapter; the last level does not attend. Widths on the way up: what comes from below or
 * before, and what the way down had, the newest first. */
static int64_t denoiser_parameters(const int64_t c[4], int layers, int64_t text, bool mid)
{
    int64_t time = 4 * c[0], sum = lin(9 * 4, c[0]) + lin(c[0], time) + lin(time, time), had[64] = {c[0]}, x;
    int count = 1;
    x = c[0];
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < layers; k++, had[count++] = x) {
            sum += resnet_parameters(x, c[i], time) + transformer_parameters(c[i], c[i]);
            if (i < 3) sum += transformer_parameters(c[i], text);
            x = c[i];
        }
        if (i < 3) sum += lin(9 * x, x);
        if (i < 3) had[count++] = x;
    }
    sum += 2 * resnet_parameters(x, x, time) + transformer_parameters(x, text);
    if (mid) sum += transformer_parameters(x, x);
    for (int i = 3; i >= 0; i--) {
        for (int k = 0; k <= layers; k++) {
            sum += resnet_parameters(x + had[--count], c[i], time) + transformer_parameters(c[i], c[i]);
            if (i < 3) sum += transformer_parameters(c[i], text);
            x = c[i];
        }
        if (i > 0) sum += lin(9 * x, x);
    }
    return sum + 2 * x + lin(9 * x, 4);
}

static int64_t decoder_parameters(const int64_t c[4], int layers)
{
    int64_t x = c[3],
            sum = lin(4, 4) + lin(9 * 4, x) + 2 * resnet_parameters(x, x, 0) + 2 * x + 4 * lin(x, x);
    for (int i = 3; i >= 0; i--) {
        for (int k = 0; k <= layers; k++, x = c[i]) sum += resnet_parameters(x, c[i], 0);
        if (i > 0) sum += lin(9 * x, x);
    }
    return sum + 2 * x + lin(9 * x, 3);
}

static void expect_parameters(const char *name, int64_t denoiser, int64_t vae)
{
    kw_error err;
    kw_model *model;
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.parameters[0], 123060480);
    assert_int_equal(info.parameters[1], denoiser);
    assert_int_equal(info.parameters[2], vae);
    assert_int_equal(info.parameters[3], 123060480 + denoiser + vae);
    assert_string_equal(info.pipeline, "AnimateDiffPipeline");
    kw_model_close(model);
}

/* Published: the UNet's 859,520,964 and the adapter's 453,209,280, whose position tables are no weights; the
 * VAE's decoder half is the sum of tests/data/tensors/sd-1.5.vae.txt. */
static void parameters(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    const int64_t c[4] = {320, 640, 1280, 1280}, v[4] = {128, 256, 512, 512};
    const int64_t other[4] = {64, 192, 128, 256}, v_other[4] = {64, 32, 96, 128};
    const int64_t denoiser = INT64_C(859520964) + 453209280;
    assert_int_equal(denoiser_parameters(c, 2, 768, true), denoiser); /* the formulas are right */
    assert_int_equal(decoder_parameters(v, 2), 49490199);
    expect_parameters(slug, denoiser, 49490199);
    folder_copy("data/models/animatediff-lightning-4step", folder);
    folder_set(folder, "unet/config.json", "block_out_channels", "[64, 192, 128, 256]");
    folder_set(folder, "unet/config.json", "layers_per_block", "3");
    folder_set(folder, "motion_adapter/config.json", "block_out_channels", "[64, 192, 128, 256]");
    folder_set(folder, "motion_adapter/config.json", "motion_layers_per_block", "3");
    folder_set(folder, "motion_adapter/config.json", "use_motion_mid_block", "false");
    folder_set(folder, "vae/config.json", "block_out_channels", "[64, 32, 96, 128]");
    folder_set(folder, "vae/config.json", "layers_per_block", "1");
    expect_parameters(folder, denoiser_parameters(other, 3, 768, false), decoder_parameters(v_other, 1));
    folder_remove(folder);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static void defaults_are_the_cards(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    assert_int_equal(kw_request_resolve(lightning, &request, &r, NULL), KW_OK);
    assert_true(r.width == 512 && r.height == 512 && r.num_frames == 16 && r.num_inference_steps == 4);
    assert_true(r.guidance_scale == 1 && r.guidance_passes == 1 && r.fps == 10 && r.text_tokens == 77);
    assert_true(r.latent_frames == 16 && r.latent_channels == 4 && r.tokens == 16 * 64 * 64);
}

/* What the solver starts from: sqrt((1 - a) / a), a the product of 1 - beta over all 1000 steps. */
static void noise_has_the_schedules_deviation(void **state)
{
    (void)state;
    kw_request request = asked(64, 64, 1);
    struct kw__program *program = family_lower(lightning, &request, KW__F16, KW__AS_PIPELINE);
    const struct kw__phase *noise = &program->stages[1].phases[0];
    double left = 1;
    for (int i = 0; i < 1000; i++) left *= 1 - (0.00085 + (0.012 - 0.00085) * i / 999);
    assert_string_equal(noise->name, "noise");
    assert_int_equal(noise->calls, 1);
    const struct kw__op *op = &noise->graph->ops[0];
    assert_string_equal(noise->table.names[op->attr.column], "sigma");
    expect_near("deviation", noise->table.rows[op->attr.column], sqrt((1 - left) / left), 1e-9);
    kw__program_free(program);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    kw_request bad[6];
    for (int i = 0; i < 6; i++) bad[i] = asked(512, 512, 16);
    bad[0].width = 516;
    bad[1].height = 4;
    bad[2].num_frames = 33;
    bad[3].num_inference_steps = 1001;
    bad[4].flow_shift = 3;
    bad[5].width = bad[5].height = 1 << 14;
    bad[5].batch_size = 1024;
    static const char *const messages[] = {"width 516 is no multiple of 8; try 512 or 520",
                                           "height 4 is no multiple of 8; try 8",
                                           "num-frames 33 is more than the 32",
                                           "num-inference-steps 1001 is more than the 1000",
                                           "flow-shift has no meaning",
                                           "is too large to count"};
    for (int i = 0; i < 6; i++) family_expect_bad_request(lightning, &bad[i], messages[i]);
}

/* A config that says what the code does not know is refused with file and key. */
static void other_configs_are_refused(void **state)
{
    (void)state;
    static const char unet[] = "unet/config.json", motion[] = "motion_adapter/config.json",
                      vae[] = "vae/config.json", scheduler[] = "scheduler/scheduler_config.json";
    static const struct family_change changes[] = {
        {"model_index.json", "motion_adapter", "[null, null]", "motion_adapter"},
        {unet, "act_fn", "\"gelu\"", "act_fn"},
        {unet, "addition_embed_type", "\"text_time\"", "addition_embed_type"},
        {unet, "attention_head_dim", "[5, 10, 20, 20]", "attention_head_dim"},
        {unet, "attention_head_dim", "7", "number of heads"},
        {unet, "block_out_channels", "[320, 640, 1280]", "block_out_channels"},
        {unet, "cross_attention_dim", "1024", "\"cross_attention_dim\" is 1024"},
        {unet, "down_block_types", "[\"DownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]", "down_block_types"},
        {unet, "up_block_types",
         "[\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"]",
         "up_block_types"},
        {unet, "transformer_layers_per_block", "2", "transformer_layers_per_block"},
        {unet, "in_channels", "9", "\"out_channels\" must be"},
        {unet, "layers_per_block", "3", "motion_layers_per_block"},
        {unet, "norm_num_groups", "30", "norm_num_groups"},
        {unet, "use_linear_projection", "true", "use_linear_projection"},
        {motion, "conv_in_channels", "9", "conv_in_channels"},
        {motion, "motion_num_attention_heads", "7", "motion_num_attention_heads"},
        {motion, "motion_transformer_layers_per_block", "2", "motion_transformer_layers_per_block"},
        {scheduler, "beta_schedule", "\"squaredcos_cap_v2\"", "beta_schedule"},
        {scheduler, "prediction_type", "\"v_prediction\"", "prediction_type"},
        {scheduler, "timestep_spacing", "\"leading\"", "timestep_spacing"},
        {scheduler, "use_karras_sigmas", "true", "use_karras_sigmas"},
        {"text_encoder/config.json", "max_position_embeddings", "76", "at least 77"},
        {vae, "latent_channels", "16", "\"latent_channels\", 16"},
        {vae, "act_fn", "\"relu\"", "act_fn"},
        {vae, "norm_num_groups", "48", "norm_num_groups"},
        {vae, "out_channels", "4", "out_channels"},
        {vae, "sample_size", "500", "multiple of 32"},
        {vae, "shift_factor", "0.1", "shift_factor"},
        {vae, "up_block_types", "[\"UpDecoderBlock2D\"]", "up_block_types"},
        {vae, "use_post_quant_conv", "false", "use_post_quant_conv"},
    };
    family_expect_refused(catalog, "data/models/animatediff-lightning-4step", changes,
                          sizeof changes / sizeof changes[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),
        cmocka_unit_test(golden_forward_and_decode),
        cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(frames_are_decoded_in_calls),
        cmocka_unit_test(tiles_decode_what_overlaps_twice),
        cmocka_unit_test(eager_stacks_know_the_operators),
        cmocka_unit_test(half_precisions_have_one_rate),
        cmocka_unit_test(parameters),
        cmocka_unit_test(defaults_are_the_cards),
        cmocka_unit_test(noise_has_the_schedules_deviation),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(other_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
