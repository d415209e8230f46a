/* FLOPs of the reference graph against two independent counts: PyTorch's FlopCounterMode on the
 * diffusers classes (golden numbers below), and closed forms written from the architectures: a linear
 * layer 2 rows in out, a convolution 2 k C_in C_out outputs, attention 4 L_q L_k d. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/count.h"
#include "model/family.h"
#include "support/family.h"
#include "support/folder.h"

static kw_catalog *catalog;
static kw_model *small, *large; /* WAN2.1 1.3B and 14B */

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) ||
           kw_model_open(catalog, "wan2.1-t2v-1.3b", &small, NULL) ||
           kw_model_open(catalog, "wan2.1-t2v-14b", &large, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(small);
    kw_model_close(large);
    kw_catalog_close(catalog);
    return 0;
}

/* FLOPs of the stages of a request: text_encode, denoise, decode. */
struct stages {
    kw_effective request;
    struct kw__sums sums[3];
};

static struct stages count(const kw_model *model, const kw_request *request)
{
    static const char *const names[] = {"text_encode", "denoise", "decode"};
    struct stages out = {.sums = {{0, 0, 0, 0}}};
    struct kw__program *program;
    kw_error err;
    const struct kw__dtypes dtypes = {.text_encoder = KW__BF16, .denoiser = KW__BF16, .residual = KW__BF16};
    if (kw_request_resolve(model, request, &out.request, &err)) fail_msg("%s", err.message);
    if (kw__lower(model, &out.request, &dtypes, &program, &err)) fail_msg("%s", err.message);
    assert_int_equal(program->num_stages, 3);
    for (int s = 0; s < 3; s++) {
        assert_string_equal(program->stages[s].name, names[s]);
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__phase *phase = &program->stages[s].phases[p];
            kw__graph_flop(phase->graph, NULL, (double)phase->calls, &out.sums[s]);
        }
    }
    kw__program_free(program);
    return out;
}

/* ---- Golden: diffusers 0.40 classes under PyTorch 2.11's FlopCounterMode, 2026-11-23 ------------- */

static void expect_forward(const kw_model *model, double flop, double linear, double attention, double conv)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = 832;
    request.height = 480;
    request.num_frames = 81;
    request.num_inference_steps = 1;
    request.guidance_scale = 1; /* one forward */
    struct kw__sums one = count(model, &request).sums[1];
    expect_near("flop", one.flop, flop, 1e-3);
    expect_near("linear", one.linear, linear, 1e-3);
    expect_near("attention", one.attention, attention, 1e-3);
    expect_near("conv", one.conv, conv, 1e-3);
}

static void golden_forward_1_3b(void **state)
{
    (void)state;
    expect_forward(small, 283001787777024, 82088257388544, 200907089510400, 6440878080);
}

static void golden_forward_14b(void **state)
{
    (void)state;
    expect_forward(large, 1678370283192320, 785428415774720, 892920397824000, 21469593600);
}

static void golden_decode(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    request.width = request.height = 256;
    request.num_frames = 17;
    struct kw__sums decode = count(small, &request).sums[2];
    expect_near("flop", decode.flop, 9567545589760, 1e-3);
    expect_near("conv", decode.conv, 9559492526080, 1e-3);
    expect_near("attention", decode.attention, 8053063680, 1e-3);
    assert_true(decode.linear == 0);
}

static struct kw__graph *t5_graph(kw_model *model, struct kw__program **program, int64_t batch,
                                  int64_t length)
{
    struct kw__t5 config;
    kw_error err;
    const kw_effective none = {0};
    const struct kw__dtypes dtypes = {.text_encoder = KW__BF16, .denoiser = KW__BF16, .residual = KW__BF16};
    if (kw__t5_read(model, &config, &err)) fail_msg("%s", err.message);
    *program = kw__program_new(&none, &dtypes);
    assert_non_null(*program);
    struct kw__graph *g = kw__stage_phase(*program, kw__program_stage(*program, "text_encode"), "prompt", 1);
    assert_non_null(g);
    g->component = g->tensors = "text_encoder";
    int ids = kw__input(g, "ids", KW__I32, KW__PROMPT, KW__DIMS(batch, length));
    int lengths = kw__input(g, "length", KW__I32, KW__PROMPT, KW__DIMS(batch));
    assert_true(kw__t5_encode(g, &config, ids, lengths, KW__BF16) > 0);
    assert_false((*program)->arena.failed);
    return g;
}

static void golden_t5(void **state)
{
    (void)state;
    kw_model folder = {.folder = "tests/data/t5-v1.1-xxl"};
    struct kw__program *program;
    struct kw__sums encode = {0, 0, 0, 0};
    kw__arena_init(&folder.arena);
    kw__graph_flop(t5_graph(&folder, &program, 1, 226), NULL, 1, &encode);
    expect_near("flop", encode.flop, 2113075150848, 1e-3);
    /* and its size: 4,762,310,656 parameters, one bias table for all blocks */
    int64_t parameters = 0;
    for (size_t i = 0; i < program->num_tensors; i++) {
        int64_t n = 1;
        for (int k = 0; k < program->tensors[i].ndim; k++) n *= program->tensors[i].dim[k];
        parameters += n;
    }
    assert_int_equal(parameters, INT64_C(4762310656));
    kw__program_free(program);
    kw__arena_free(&folder.arena);
}

/* ---- Closed forms ---------------------------------------------------------------------------------- */

struct form {
    double linear, attention, conv;
};

/* One forward of WanTransformer3DModel: width d, n layers, MLP f, L tokens, 512 rows of text. */
static struct form transformer_form(double d, double n, double f, double l)
{
    const double m = 512, text = 4096, freq = 256, patch = 16 * 2 * 2;
    struct form s = {0, 0, 0};
    s.linear += n * (4 * 2 * l * d * d);                     /* self: q k v o */
    s.linear += n * (2 * 2 * l * d * d + 2 * 2 * m * d * d); /* cross: q o of the tokens, k v of the text */
    s.linear += n * (2 * 2 * l * d * f);
    s.linear += 2 * m * text * d + 2 * m * d * d;
    s.linear += 2 * freq * d + 2 * d * d + 2 * d * 6 * d;
    s.linear += 2 * l * d * patch;
    s.attention = n * (4 * l * l * d + 4 * l * m * d);
    s.conv = 2 * l * patch * d;
    return s;
}

static double conv(double kernel, double in, double out, double frames, double cells)
{
    return 2 * kernel * in * out * frames * cells;
}

static double resnet(double in, double out, double frames, double cells)
{
    return conv(27, in, out, frames, cells) + conv(27, out, out, frames, cells) +
           (in == out ? 0 : conv(1, in, out, frames, cells));
}

/* The decoder on T latent frames of n cells; frames per call 1 or 1, 1 or 2, 1 or 4 at the levels. */
static struct form decoder_form(double t, double n)
{
    struct form s = {0, 0, 0};
    double t1 = 1 + 2 * (t - 1), t2 = 1 + 4 * (t - 1);
    s.conv += conv(1, 16, 16, t, n) + conv(27, 16, 384, t, n);
    s.conv += 2 * resnet(384, 384, t, n) + conv(1, 384, 1152, t, n) + conv(1, 384, 384, t, n);
    s.attention = t * 4 * n * n * 384;
    s.conv += 3 * resnet(384, 384, t, n);
    s.conv += conv(3, 384, 768, t - 1, n) + conv(9, 384, 192, t1, 4 * n);
    s.conv += resnet(192, 384, t1, 4 * n) + 2 * resnet(384, 384, t1, 4 * n);
    s.conv += conv(3, 384, 768, 2 * (t - 1), 4 * n) + conv(9, 384, 192, t2, 16 * n);
    s.conv += 3 * resnet(192, 192, t2, 16 * n) + conv(9, 192, 96, t2, 64 * n);
    s.conv += 3 * resnet(96, 96, t2, 64 * n) + conv(27, 96, 3, t2, 64 * n);
    return s;
}

/* umT5-XXL on L rows: 24 blocks, width 4096, 64 heads of 64, MLP 10240 gated. */
static struct form text_form(double l)
{
    const double d = 4096, f = 10240;
    return (struct form){24 * (4 * 2 * l * d * d + 3 * 2 * l * d * f), 24 * 4 * l * l * d, 0};
}

static void expect_form(const char *what, struct kw__sums got, struct form wanted, double times)
{
    expect_near(what, got.linear, times * wanted.linear, 1e-12);
    expect_near(what, got.attention, times * wanted.attention, 1e-12);
    expect_near(what, got.conv, times * wanted.conv, 1e-12);
    expect_near(what, got.flop, times * (wanted.linear + wanted.attention + wanted.conv), 1e-12);
}

static void closed_forms_agree_at_any_size(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, steps, batch;
        double guidance;
    } cases[] = {{832, 480, 81, 50, 1, 5}, {1280, 720, 81, 50, 1, 5},  {256, 256, 1, 1, 1, 5},
                 {16, 16, 5, 3, 1, 1},     {1792, 1008, 33, 7, 1, 1},  {320, 240, 2, 4, 2, 3},
                 {480, 832, 129, 2, 3, 6}, {4096, 2160, 241, 1, 1, 5}, {64, 2048, 84, 10, 1, 1.5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int model = 0; model < 2; model++) {
            kw_request request = KW_REQUEST_INIT;
            request.width = cases[i].width;
            request.height = cases[i].height;
            request.num_frames = cases[i].frames;
            request.num_inference_steps = cases[i].steps;
            request.batch_size = cases[i].batch;
            request.guidance_scale = cases[i].guidance;
            struct stages s = count(model ? large : small, &request);
            int64_t frames = cases[i].frames % 4 == 1 ? cases[i].frames : cases[i].frames / 4 * 4 + 1;
            double t = (double)((frames - 1) / 4 + 1), batch = (double)cases[i].batch;
            double cells = (double)(cases[i].width / 8 * (cases[i].height / 8));
            double passes = cases[i].guidance > 1 ? 2 : 1, steps = (double)cases[i].steps;
            struct form forward = model ? transformer_form(5120, 40, 13824, t * cells / 4)
                                        : transformer_form(1536, 30, 8960, t * cells / 4);
            /* the time embedding of a batch has one row a sample, as everything else */
            expect_form("text", s.sums[0], text_form(512), batch * passes);
            expect_form("denoise", s.sums[1], forward, batch * passes * steps);
            expect_form("decode", s.sums[2], decoder_form(t, cells), batch);
        }
}

static void an_edited_config_follows_the_form(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_model *model;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    request.num_inference_steps = 1;
    request.guidance_scale = 1;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, "transformer/config.json", "num_layers", "20");
    folder_set(folder, "transformer/config.json", "ffn_dim", "4096");
    folder_set(folder, "transformer/config.json", "num_attention_heads", "5");
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    expect_form("denoise", count(model, &request).sums[1], transformer_form(640, 20, 4096, 32760), 1);
    kw_model_close(model);
    folder_remove(folder);
}

/* ---- Properties -------------------------------------------------------------------------------------- */

static void properties(void **state)
{
    (void)state;
    kw_request base = KW_REQUEST_INIT, steps = base, guidance = base, batch = base;
    base.num_inference_steps = 20;
    steps.num_inference_steps = 40;
    guidance.num_inference_steps = batch.num_inference_steps = 20;
    guidance.guidance_scale = 1;
    batch.batch_size = 2;
    struct stages a = count(small, &base), b = count(small, &steps), c = count(small, &guidance),
                  d = count(small, &batch);
    assert_true(b.sums[1].flop == 2 * a.sums[1].flop);
    assert_true(b.sums[0].flop == a.sums[0].flop && b.sums[2].flop == a.sums[2].flop);
    assert_true(2 * c.sums[1].flop == a.sums[1].flop && 2 * c.sums[0].flop == a.sums[0].flop);
    assert_true(c.sums[2].flop == a.sums[2].flop);
    for (int s = 0; s < 3; s++) assert_true(d.sums[s].flop == 2 * a.sums[s].flop);
}

/* What kw_predict states is the same count, phase by phase. */
static void predictions_state_the_count(void **state)
{
    (void)state;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p;
    kw_error err;
    request.num_frames = 49;
    options.hardware = "h200";
    options.stack = "diffusers-0.40";
    if (kw_predict(catalog, small, &request, &options, &p, &err)) fail_msg("%s", err.message);
    struct stages s = count(small, &request);
    assert_int_equal(p->num_stages, 3);
    for (size_t i = 0; i < 3; i++) {
        double sum = 0;
        for (size_t k = 0; k < p->stages[i].num_phases; k++)
            sum += (double)p->stages[i].phases[k].calls * p->stages[i].phases[k].flop;
        expect_near(p->stages[i].name, p->stages[i].flop, s.sums[i].flop, 1e-12);
        expect_near(p->stages[i].name, p->stages[i].flop_attention, s.sums[i].attention, 1e-12);
        expect_near(p->stages[i].name, sum, s.sums[i].flop, 1e-12);
    }
    kw_prediction_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_forward_1_3b),
        cmocka_unit_test(golden_forward_14b),
        cmocka_unit_test(golden_decode),
        cmocka_unit_test(golden_t5),
        cmocka_unit_test(closed_forms_agree_at_any_size),
        cmocka_unit_test(an_edited_config_follows_the_form),
        cmocka_unit_test(properties),
        cmocka_unit_test(predictions_state_the_count),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
