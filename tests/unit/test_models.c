/* The lowered reference program declares what the checkpoint holds, and what changes how often is
 * derived right. Tensor lists: tests/data/tensors; counts of edited configs: worked out below from the
 * formulas of the classes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/family.h"
#include "support/family.h"
#include "support/folder.h"
#include "support/tensors.h"

static kw_catalog *catalog;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) != KW_OK;
}

static int teardown(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    return 0;
}

static kw_model *open_model(const char *name)
{
    kw_error err;
    kw_model *model;
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    return model;
}

static struct kw__program *lower(const kw_model *model, const kw_request *request)
{
    kw_error err;
    kw_effective effective;
    struct kw__program *program;
    const struct kw__dtypes dtypes = {.text_encoder = KW__BF16, .denoiser = KW__BF16, .residual = KW__BF16};
    if (kw_request_resolve(model, request, &effective, &err)) fail_msg("%s", err.message);
    if (kw__lower(model, &effective, &dtypes, &program, &err)) fail_msg("%s", err.message);
    return program;
}

/* ---- Tensors ------------------------------------------------------------------------------------ */

static void declares_each_tensor_once(const char *slug, const char *transformer, size_t transformer_tensors)
{
    const struct tensor_list lists[] = {{"transformer", transformer, transformer_tensors},
                                        {"text_encoder", "tests/data/tensors/umt5-xxl.text_encoder.txt", 242},
                                        {"vae", "tests/data/tensors/wan-vae.vae.txt", 108}};
    kw_model *model = open_model(slug);
    for (int64_t frames = 1; frames <= 81; frames += 80) {
        kw_request request = KW_REQUEST_INIT;
        request.num_frames = frames; /* one frame never runs time_conv, and still declares it */
        struct kw__program *program = lower(model, &request);
        tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
        kw__program_free(program);
    }
    kw_model_close(model);
}

static void tensors_of_1_3b(void **state)
{
    (void)state;
    declares_each_tensor_once("wan2.1-t2v-1.3b", "tests/data/tensors/wan2.1-t2v-1.3b.transformer.txt", 825);
}

static void tensors_of_14b(void **state)
{
    (void)state;
    declares_each_tensor_once("wan2.1-t2v-14b", "tests/data/tensors/wan2.1-t2v-14b.transformer.txt", 1095);
}

/* One guidance pass declares what two do. */
static void one_pass_declares_the_same(void **state)
{
    (void)state;
    kw_model *model = open_model("wan2.1-t2v-1.3b");
    kw_request two = KW_REQUEST_INIT, one = KW_REQUEST_INIT;
    one.guidance_scale = 1;
    struct kw__program *a = lower(model, &two), *b = lower(model, &one);
    assert_int_equal(a->num_tensors, b->num_tensors);
    kw__program_free(a);
    kw__program_free(b);
    kw_model_close(model);
}

/* ---- Parameters --------------------------------------------------------------------------------- */

static void expect_parameters(const char *name, int64_t text, int64_t transformer, int64_t vae)
{
    kw_error err;
    kw_model *model = open_model(name);
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.parameters[0], text);
    assert_int_equal(info.parameters[1], transformer);
    assert_int_equal(info.parameters[2], vae);
    assert_int_equal(info.parameters[3], text + transformer + vae);
    assert_string_equal(info.pipeline, "WanPipeline");
    kw_model_close(model);
}

/* Published sizes; the VAE's whole class has 126,892,531, its decoder half with post_quant_conv the sum
 * of the shapes in tests/data/tensors/wan-vae.vae.txt. */
static const int64_t umt5 = 5680910336, transformer_1_3b = 1418996800, transformer_14b = 14288491584,
                     vae_decoder = 73295603;

static void parameters_of_built_in_models(void **state)
{
    (void)state;
    expect_parameters("wan2.1-t2v-1.3b", umt5, transformer_1_3b, vae_decoder);
    expect_parameters("wan2.1-t2v-14b", umt5, transformer_14b, vae_decoder);
}

/* A linear layer with bias. */
static int64_t lin(int64_t in, int64_t out)
{
    return in * out + out;
}

/* WanTransformer3DModel: width d, layers n, MLP f, text width 4096, time 256, 16 latent channels.
 * A block: table 6 d; two attentions of four d x d layers with two norms; one affine LayerNorm; MLP. */
static int64_t transformer_parameters(int64_t d, int64_t n, int64_t f)
{
    int64_t block = 6 * d + 2 * (4 * lin(d, d) + 2 * d) + 2 * d + lin(d, f) + lin(f, d);
    int64_t embeddings = lin(16 * 4, d) + lin(256, d) + lin(d, d) + lin(d, 6 * d) + lin(4096, d) + lin(d, d);
    return n * block + embeddings + 2 * d + lin(d, 64);
}

static void edited_numbers_count(void **state)
{
    (void)state;
    const char *config = "transformer/config.json";
    char folder[FOLDER_BYTES];
    assert_int_equal(transformer_parameters(1536, 30, 8960), transformer_1_3b); /* the formula is right */
    assert_int_equal(transformer_parameters(5120, 40, 13824), transformer_14b);
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, config, "num_layers", "20");
    folder_set(folder, config, "ffn_dim", "4096");
    expect_parameters(folder, umt5, transformer_parameters(1536, 20, 4096), vae_decoder);
    folder_set(folder, config, "num_attention_heads", "7"); /* 7 x 128 = 896 */
    expect_parameters(folder, umt5, transformer_parameters(896, 20, 4096), vae_decoder);
    folder_set(folder, config, "attention_head_dim", "64"); /* 7 x 64 = 448 */
    folder_set(folder, config, "num_layers", "1");
    expect_parameters(folder, umt5, transformer_parameters(448, 1, 4096), vae_decoder);
    /* without the affine LayerNorm before cross-attention: 2 d a block less */
    folder_set(folder, config, "cross_attn_norm", "false");
    expect_parameters(folder, umt5, transformer_parameters(448, 1, 4096) - 2 * 448, vae_decoder);
    folder_remove(folder);
}

static void edited_text_encoder_counts(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, "text_encoder/config.json", "num_layers", "3");
    folder_set(folder, "text_encoder/config.json", "d_ff", "1000");
    folder_set(folder, "text_encoder/config.json", "vocab_size", "1234");
    /* a block: q k v o, table 32 x 64, three MLP matrices, two norms */
    const int64_t d = 4096, block = 4 * d * d + 32 * 64 + 3 * d * 1000 + 2 * d;
    expect_parameters(folder, 1234 * d + 3 * block + d, transformer_1_3b, vae_decoder);
    folder_remove(folder);
}

static int64_t conv3(int64_t in, int64_t out, int64_t kernel)
{
    return in * out * kernel + out;
}

static int64_t resnet(int64_t in, int64_t out)
{
    return in + conv3(in, out, 27) + out + conv3(out, out, 27) + (in == out ? 0 : conv3(in, out, 1));
}

/* The decoder for level widths c[0] (the deepest) to c[3], `blocks` residual blocks a level, z latent
 * channels; time_conv in the upsamplers of levels 0 and 1. */
static int64_t decoder_parameters(const int64_t *c, int64_t blocks, int64_t z)
{
    int64_t attention = c[0] + conv3(c[0], 3 * c[0], 1) + conv3(c[0], c[0], 1);
    int64_t sum = conv3(z, z, 1) + conv3(z, c[0], 27) + 2 * resnet(c[0], c[0]) + attention;
    int64_t in = c[0];
    for (int level = 0; level < 4; level++) {
        sum += resnet(in, c[level]) + blocks * resnet(c[level], c[level]);
        in = c[level] / 2;
        if (level < 3) sum += conv3(c[level], in, 9);
        if (level < 2) sum += conv3(c[level], 2 * c[level], 3);
    }
    return sum + c[3] + conv3(c[3], 3, 27);
}

static void edited_vae_counts(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    assert_int_equal(decoder_parameters((const int64_t[]){384, 384, 192, 96}, 2, 16), vae_decoder);
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, "vae/config.json", "dim_mult", "[1, 3, 2, 6]");
    folder_set(folder, "vae/config.json", "base_dim", "32");
    folder_set(folder, "vae/config.json", "num_res_blocks", "1");
    expect_parameters(folder, umt5, transformer_1_3b,
                      decoder_parameters((const int64_t[]){192, 64, 96, 32}, 1, 16));
    folder_remove(folder);
}

/* ---- Scopes --------------------------------------------------------------------------------------- */

static const struct kw__graph *denoise_graph(const struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, "denoise") == 0) return program->stages[s].phases[0].graph;
    fail_msg("there is no denoise stage");
    return NULL;
}

/* Scope of the output of each operator that reads a weight of this name (two guidance passes: two). */
static void expect_scope(const struct kw__graph *g, const char *weight, enum kw__scope scope)
{
    int found = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        for (int k = 0; k < op->num_inputs; k++) {
            const struct kw__value *v = &g->values[op->input[k]];
            if (!op->input[k] || v->kind != KW__WEIGHT || strcmp(v->name, weight) != 0) continue;
            found++;
            if (g->values[op->output[0]].scope != scope)
                fail_msg("what %s makes has scope %s, not %s", weight,
                         kw__scope_name(g->values[op->output[0]].scope), kw__scope_name(scope));
        }
    }
    assert_int_equal(found, 2);
}

static void scopes_are_derived(void **state)
{
    (void)state;
    kw_model *model = open_model("wan2.1-t2v-1.3b");
    kw_request request = KW_REQUEST_INIT;
    struct kw__program *program = lower(model, &request);
    const struct kw__graph *g = denoise_graph(program);
    for (int block = 0; block < 30; block += 29) {
        static const char *const prompt[] = {"attn2.to_k.weight", "attn2.to_v.weight", "attn2.norm_k.weight"};
        char name[128];
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "blocks.%d.%s", block, prompt[i]);
            expect_scope(g, name, KW__PROMPT);
        }
        snprintf(name, sizeof name, "blocks.%d.scale_shift_table", block);
        expect_scope(g, name, KW__STEP);
        snprintf(name, sizeof name, "blocks.%d.attn1.to_q.weight", block);
        expect_scope(g, name, block ? KW__PASS : KW__STEP);
        snprintf(name, sizeof name, "blocks.%d.attn2.to_q.weight", block);
        expect_scope(g, name, block ? KW__PASS : KW__STEP);
        snprintf(name, sizeof name, "blocks.%d.attn2.to_out.0.weight", block);
        expect_scope(g, name, KW__PASS);
        snprintf(name, sizeof name, "blocks.%d.ffn.net.0.proj.weight", block);
        expect_scope(g, name, KW__PASS);
    }
    expect_scope(g, "condition_embedder.text_embedder.linear_1.weight", KW__PROMPT);
    expect_scope(g, "condition_embedder.text_embedder.linear_2.weight", KW__PROMPT);
    expect_scope(g, "condition_embedder.time_embedder.linear_1.weight", KW__STEP);
    expect_scope(g, "condition_embedder.time_proj.weight", KW__STEP);
    expect_scope(g, "patch_embedding.weight", KW__STEP);
    expect_scope(g, "scale_shift_table", KW__STEP);
    expect_scope(g, "proj_out.weight", KW__PASS);
    int tables = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        if (g->ops[i].code != KW__ROPE_TABLE) continue;
        tables++;
        assert_int_equal(g->values[g->ops[i].output[0]].scope, KW__REQUEST);
    }
    assert_int_equal(tables, 2);
    kw__program_free(program);
    kw_model_close(model);
}

/* ---- The pipeline's rules --------------------------------------------------------------------------- */

static void frames_are_rounded_as_the_pipeline_does(void **state)
{
    (void)state;
    kw_model *model = open_model("wan2.1-t2v-1.3b");
    /* ARCHITECTURES: F mod 4 != 1 becomes 4 floor(F/4) + 1 */
    static const int64_t pairs[][3] = {{1, 1, 1},    {2, 1, 1},    {3, 1, 1},    {4, 5, 2},
                                       {5, 5, 2},    {50, 49, 13}, {80, 81, 21}, {81, 81, 21},
                                       {82, 81, 21}, {83, 81, 21}, {84, 85, 22}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        kw_request request = KW_REQUEST_INIT;
        kw_effective r;
        request.num_frames = pairs[i][0];
        request.width = 1280;
        request.height = 720;
        assert_int_equal(kw_request_resolve(model, &request, &r, NULL), KW_OK);
        assert_int_equal(r.num_frames, pairs[i][1]);
        assert_int_equal(r.latent_frames, pairs[i][2]);
        assert_int_equal(r.requested_frames, pairs[i][0]);
        assert_int_equal(r.tokens, pairs[i][2] * 45 * 80);
    }
    kw_model_close(model);
}

static void defaults_are_the_pipelines(void **state)
{
    (void)state;
    kw_model *model = open_model("wan2.1-t2v-14b");
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    assert_int_equal(kw_request_resolve(model, &request, &r, NULL), KW_OK);
    assert_int_equal(r.width, 832);
    assert_int_equal(r.height, 480);
    assert_int_equal(r.num_frames, 81);
    assert_int_equal(r.num_inference_steps, 50);
    assert_int_equal(r.guidance_passes, 2);
    assert_int_equal(r.text_tokens, 512);
    assert_int_equal(r.tokens, 32760);
    assert_true(r.guidance_scale == 5.0 && r.flow_shift == 3.0 && r.fps == 16.0);
    kw_model_close(model);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    kw_model *model = open_model("wan2.1-t2v-1.3b");
    const kw_request good = KW_REQUEST_INIT;
    kw_request bad[16];
    for (int i = 0; i < 16; i++) bad[i] = good;
    bad[0].width = 100;
    bad[1].height = 8;
    bad[2].width = -16;
    bad[3].num_frames = -1;
    bad[4].num_frames = INT64_MAX;
    bad[5].num_inference_steps = -5;
    bad[6].num_inference_steps = INT64_C(1) << 40;
    bad[7].batch_size = 1 << 20;
    bad[8].guidance_scale = 1e9;
    bad[9].prompt_tokens = 0;
    bad[10].negative_tokens = 513;
    bad[11].fps = -1;
    bad[12].flow_shift = -3;
    bad[13].power_limit_w = -300;
    bad[14].struct_size = 8;
    bad[15].fps = (double)NAN;
    static const char *const names[] = {
        "width 100 is no multiple of 16; try 96 or 112",
        "height 8 is no multiple of 16; try 16",
        "width",
        "num-frames",
        "num-frames",
        "num-inference-steps",
        "num-inference-steps",
        "batch-size",
        "guidance-scale",
        "prompt-tokens",
        "negative-tokens",
        "fps",
        "flow-shift",
        "power-limit",
        "struct_size",
        "fps",
    };
    for (int i = 0; i < 16; i++) family_expect_bad_request(model, &bad[i], names[i]);
    kw_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_of_1_3b),
        cmocka_unit_test(tensors_of_14b),
        cmocka_unit_test(one_pass_declares_the_same),
        cmocka_unit_test(parameters_of_built_in_models),
        cmocka_unit_test(edited_numbers_count),
        cmocka_unit_test(edited_text_encoder_counts),
        cmocka_unit_test(edited_vae_counts),
        cmocka_unit_test(scopes_are_derived),
        cmocka_unit_test(frames_are_rounded_as_the_pipeline_does),
        cmocka_unit_test(defaults_are_the_pipelines),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
