/* Wan2.2: its folders' tensors, FLOPs of the reference graph against PyTorch's FlopCounterMode on the
 * diffusers classes (tools/reference/count_wan22.py), which steps which transformer makes, and the pipeline's
 * own rules. */
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

static kw_catalog *catalog;
static kw_model *a14b, *ti2v;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) ||
           kw_model_open(catalog, "wan2.2-t2v-a14b", &a14b, NULL) ||
           kw_model_open(catalog, "wan2.2-ti2v-5b", &ti2v, NULL);
}

static int teardown(void **state)
{
    (void)state;
    kw_model_close(a14b);
    kw_model_close(ti2v);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request asked(int64_t width, int64_t height, int64_t frames, int64_t steps)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = width;
    request.height = height;
    request.num_frames = frames;
    request.num_inference_steps = steps;
    return request;
}

static int64_t parameters(const kw_model *model, int part)
{
    kw_error err;
    kw_model_info info = {.struct_size = sizeof info};
    if (kw_model_info_get(model, &info, &err)) fail_msg("%s", err.message);
    return info.parameters[part];
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

/* Both transformers are Wan2.1 14B's, tensor by tensor. One step runs the first alone, and still declares the
 * other. */
static void tensors_of_a14b(void **state)
{
    (void)state;
    static const struct tensor_list lists[] = {
        {"transformer", "tests/data/tensors/wan2.1-t2v-14b.transformer.txt", 1095},
        {"transformer_2", "tests/data/tensors/wan2.1-t2v-14b.transformer.txt", 1095},
        {"text_encoder", "tests/data/tensors/umt5-xxl.text_encoder.txt", 242},
        {"vae", "tests/data/tensors/wan-vae.vae.txt", 108}};
    for (int steps = 1; steps <= 20; steps += 19) {
        kw_request request = asked(832, 480, steps == 1 ? 1 : 81, steps);
        struct kw__program *program = family_lower(a14b, &request, KW__BF16, KW__AS_PIPELINE);
        tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
        kw__program_free(program);
    }
    assert_int_equal(parameters(a14b, 1), 2 * INT64_C(14288491584));
    assert_int_equal(parameters(a14b, 3), INT64_C(5680910336) + 2 * INT64_C(14288491584) + 73295603);
}

static void tensors_of_ti2v(void **state)
{
    (void)state;
    static const struct tensor_list lists[] = {
        {"transformer", "tests/data/tensors/wan2.2-ti2v-5b.transformer.txt", 825},
        {"text_encoder", "tests/data/tensors/umt5-xxl.text_encoder.txt", 242},
        {"vae", "tests/data/tensors/wan2.2-vae.vae.txt", 110}};
    for (int frames = 1; frames <= 81; frames += 80) {
        kw_request request = asked(832, 480, frames, 2);
        struct kw__program *program = family_lower(ti2v, &request, KW__BF16, KW__AS_PIPELINE);
        tensors_expect(program, lists, sizeof lists / sizeof lists[0]);
        kw__program_free(program);
    }
    assert_int_equal(parameters(ti2v, 1), INT64_C(4999787712));
    assert_int_equal(parameters(ti2v, 2), 555051580);
}

/* ---- Which steps are whose --------------------------------------------------------------------------- */

static const struct kw__stage *denoise(const struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, "denoise") == 0) return &program->stages[s];
    fail_msg("there is no denoise stage");
    return NULL;
}

/* Where the boundary falls among UniPCMultistepScheduler's timesteps (diffusers 0.40, of this folder): 875 is
 * the 16th of 50 and the 7th of 20, and the first transformer's; of 40 it falls between 875 and 861. */
static void steps_are_divided_at_the_boundary(void **state)
{
    (void)state;
    static const int64_t cases[][2] = {{50, 16}, {40, 13}, {20, 7}, {1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(832, 480, 1, cases[i][0]);
        request.guidance_scale = 4;
        request.guidance_scale_2 = 3;
        struct kw__program *program = family_lower(a14b, &request, KW__BF16, KW__AS_PIPELINE);
        const struct kw__stage *stage = denoise(program);
        assert_int_equal(stage->num_phases, 2);
        for (int p = 0; p < 2; p++) {
            const struct kw__phase *phase = &stage->phases[p];
            assert_int_equal(phase->calls, p ? cases[i][0] - cases[i][1] : cases[i][1]);
            assert_string_equal(phase->name, p ? "low_noise_step" : "high_noise_step");
            for (int64_t n = 0; n < phase->calls; n++) {
                const double *row = phase->table.rows + n * phase->table.columns;
                assert_true(p ? row[0] < 875 : row[0] >= 875);
                assert_true(row[phase->table.columns - 2] == (p ? 3 : 4));
                assert_true(row[phase->table.columns - 1] == (p ? -2 : -3));
            }
        }
        kw__program_free(program);
    }
}

/* ---- FLOPs ------------------------------------------------------------------------------------------- */

/* One forward at three sizes: FlopCounterMode of PyTorch 2.11 on the diffusers 0.40 class, 2026-11-30. */
static void flops_of_a14b(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames;
        double forward, attention;
    } cases[] = {{832, 480, 81, 1678370283192320, 892920397824000},
                 {1280, 704, 121, 12411254690283520, 9800125513728000},
                 {512, 320, 9, 51926356459520, 3825205248000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i].width, cases[i].height, cases[i].frames, 4);
        struct kw__program *program = family_lower(a14b, &request, KW__BF16, KW__AS_PIPELINE);
        for (int p = 0; p < 2; p++) {
            struct kw__sums step = {0, 0, 0, 0};
            assert_int_equal(denoise(program)->phases[p].calls, 2);
            kw__graph_flop(denoise(program)->phases[p].graph, NULL, 1, &step);
            expect_near("a step of two passes", step.flop, 2 * cases[i].forward, 1e-9);
            expect_near("attention", step.attention, 2 * cases[i].attention, 1e-9);
        }
        kw__program_free(program);
    }
}

/* The same of TI2V with a timestep for each token, and of its decoder. */
static void flops_of_ti2v(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, frames, tokens;
        double forward, attention, decode;
    } cases[] = {{832, 480, 81, 8190, 99096679317504, 26272744243200, 596976309596160},
                 {1280, 704, 121, 27280, 520654782726144, 279490225766400, 2011137824030720},
                 {512, 320, 9, 480, 5010666553344, 175531622400, 27846307676160}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_request request = asked(cases[i].width, cases[i].height, cases[i].frames, 3);
        struct kw__program *program = family_lower(ti2v, &request, KW__BF16, KW__AS_PIPELINE);
        struct kw__sums steps = family_count(program, "denoise"), decode = family_count(program, "decode");
        assert_int_equal(program->request.tokens, cases[i].tokens);
        expect_near("three steps of two passes", steps.flop, 6 * cases[i].forward, 1e-9);
        expect_near("attention", steps.attention, 6 * cases[i].attention, 1e-9);
        expect_near("decode", decode.flop, cases[i].decode, 1e-9);
        kw__program_free(program);
    }
}

/* A timestep for each token: two linear layers of 27280 rows, d = 3072 and 6 d, instead of one. */
static void time_is_embedded_for_each_token(void **state)
{
    (void)state;
    const double l = 27280, d = 3072;
    kw_request request = asked(1280, 704, 121, 1);
    request.guidance_scale = 1;
    struct kw__program *program = family_lower(ti2v, &request, KW__BF16, KW__AS_PIPELINE);
    struct kw__sums time = {0, 0, 0, 0};
    kw__graph_flop(denoise(program)->phases[0].graph, "time_embedding", 1, &time);
    expect_near("time embedding", time.linear, 2 * l * (256 * d + d * d + d * 6 * d), 1e-12);
    kw__program_free(program);
}

/* ---- Memory ------------------------------------------------------------------------------------------ */

/* Both transformers stay on the device, the one that makes no step too: 2 bytes a parameter, and 4 of the
 * time embedder's (256 and 5120 to 5120), of the tables (6 rows a block and 2) and of the norms before
 * cross-attention. */
static void both_transformers_are_resident(void **state)
{
    (void)state;
    const int64_t d = 5120, blocks = 40, all = 14288491584;
    const int64_t single = (256 + d + 2) * d + (6 * blocks + 2) * d + 2 * blocks * d;
    kw_error err;
    kw_prediction *one, *two;
    kw_model *wan21;
    kw_request request = asked(832, 480, 81, 1);
    if (kw_model_open(catalog, "wan2.1-t2v-14b", &wan21, &err)) fail_msg("%s", err.message);
    if (kw_predict(catalog, wan21, &request, NULL, &one, &err)) fail_msg("%s", err.message);
    if (kw_predict(catalog, a14b, &request, NULL, &two, &err)) fail_msg("%s", err.message);
    double more = two->peak_memory_bytes.value - one->peak_memory_bytes.value;
    expect_near("bytes of the second", more, (double)(2 * all + 2 * single), 1e-9);
    kw_prediction_free(one);
    kw_prediction_free(two);
    kw_model_close(wan21);
}

/* ---- Stacks -------------------------------------------------------------------------------------------- */

/* The lists that eager stacks have for an operator of a model: their keys, each once, in the order of the
 * graphs. */
static void expect_lists(const struct kw__stack *stack, const kw_model *model, enum kw__opcode code,
                         const char *wanted)
{
    char keys[256] = "";
    kw_request request = asked(832, 480, 9, 2);
    struct kw__program *program = family_lower(model, &request, KW__BF16, KW__AS_PIPELINE);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t k = 0; k < g->num_ops; k++) {
                if (g->ops[k].code != code) continue;
                const struct kw__kernel_list *list = kw__stack_kernels(stack, g, &g->ops[k]);
                if (!list) fail_msg("%s has none for %s", stack->name, kw__op_info(code)->name);
                if (strstr(keys, list->key)) continue;
                snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s ", list->key);
            }
        }
    assert_string_equal(keys, wanted);
    kw__program_free(program);
}

/* What has a table for each row reads it, which one table for all does not cost. */
static void eager_stacks_know_tables_of_rows(void **state)
{
    (void)state;
    static const char *const names[] = {"diffusers-0.34", "diffusers-0.40"};
    for (int i = 0; i < 2; i++) {
        struct kw__stack *stack;
        kw_error err;
        if (kw__stack_open(catalog, names[i], &stack, &err)) fail_msg("%s", err.message);
        expect_lists(stack, a14b, KW__MODULATE, "modulate ");
        expect_lists(stack, a14b, KW__GATE_ADD, "gate_add gate_add@mlp ");
        expect_lists(stack, ti2v, KW__MODULATE, "modulate.rows ");
        expect_lists(stack, ti2v, KW__GATE_ADD, "gate_add.rows gate_add.rows@mlp ");
        expect_lists(stack, ti2v, KW__DEPTH_TO_SPACE, "depth_to_space@vae_decoder depth_to_space@output ");
        kw__stack_close(stack);
    }
}

static bool assumes(const char *name, const char *stack, const char *of)
{
    kw_error err;
    kw_model *model;
    kw_prediction *p;
    kw_request request = asked(832, 480, 9, 2);
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    options.stack = stack;
    options.hardware = "h200";
    if (kw_model_open(catalog, name, &model, &err)) fail_msg("%s", err.message);
    if (kw_predict(catalog, model, &request, &options, &p, &err)) fail_msg("%s", err.message);
    bool found = false;
    for (size_t i = 0; i < p->num_assumptions; i++) found |= strstr(p->assumptions[i], of) != NULL;
    kw_prediction_free(p);
    kw_model_close(model);
    return found;
}

/* Wan2.2's folders are of diffusers 0.35, which 0.34 does not run; the engine is no diffusers. */
static void older_diffusers_are_told(void **state)
{
    (void)state;
    const char *what = "may not run this model, whose folder is of diffusers 0.35.0.dev0";
    assert_true(assumes("wan2.2-t2v-a14b", "diffusers-0.34", what));
    assert_true(assumes("wan2.2-ti2v-5b", "diffusers-0.34", what));
    assert_false(assumes("wan2.2-t2v-a14b", "diffusers-0.40", "may not run"));
    assert_false(assumes("wan2.2-t2v-a14b", "kinowatt", "may not run"));
    assert_false(assumes("wan2.1-t2v-14b", "diffusers-0.34", "may not run"));
    assert_false(assumes("ltx-video-0.9.7-dev", "diffusers-0.34", "may not run"));
}

/* ---- The pipeline's rules ---------------------------------------------------------------------------- */

static kw_status resolve(const kw_model *model, double guidance, double guidance_2, kw_effective *r,
                         kw_error *err)
{
    kw_request request = KW_REQUEST_INIT;
    request.guidance_scale = guidance;
    request.guidance_scale_2 = guidance_2;
    return kw_request_resolve(model, &request, r, err);
}

static void guidance_of_the_second(void **state)
{
    (void)state;
    kw_effective r;
    kw_error err;
    assert_int_equal(resolve(a14b, -1, -1, &r, &err), KW_OK);
    assert_true(r.guidance_scale == 5 && r.guidance_scale_2 == 5 && r.guidance_passes == 2);
    assert_int_equal(resolve(a14b, 4, -1, &r, &err), KW_OK);
    assert_true(r.guidance_scale == 4 && r.guidance_scale_2 == 4);
    /* the first alone says how many passes there are */
    assert_int_equal(resolve(a14b, 4, 1, &r, &err), KW_OK);
    assert_true(r.guidance_scale_2 == 1 && r.guidance_passes == 2);
    assert_int_equal(resolve(a14b, 1, 3, &r, &err), KW_OK);
    assert_int_equal(r.guidance_passes, 1);
    assert_int_equal(resolve(a14b, 4, 1e9, &r, &err), KW_ERROR_USAGE);
    assert_non_null(strstr(err.message, "guidance-scale-2"));
    assert_int_equal(resolve(a14b, 4, (double)NAN, &r, &err), KW_ERROR_USAGE);
}

/* As the pipeline refuses guidance_scale_2 when it has no boundary_ratio. */
static void one_transformer_has_one_guidance(void **state)
{
    (void)state;
    static const char *const names[] = {"wan2.1-t2v-1.3b", "mochi-1-preview"};
    for (int i = 0; i < 2; i++) {
        kw_model *model;
        kw_effective r;
        kw_error err;
        if (kw_model_open(catalog, names[i], &model, &err)) fail_msg("%s", err.message);
        assert_int_equal(resolve(model, -1, 3, &r, &err), KW_ERROR_USAGE);
        assert_non_null(strstr(err.message, "guidance-scale-2 has no meaning for this model"));
        assert_int_equal(resolve(model, 4, -1, &r, &err), KW_OK);
        assert_true(isnan(r.guidance_scale_2));
        kw_model_close(model);
    }
}

/* As WanPipeline: no multiple of 16 is refused, and what holds no whole tokens is made smaller. */
static void ti2v_sizes(void **state)
{
    (void)state;
    static const int64_t taken[][2] = {{1280, 1280}, {720, 704}, {48, 32}, {32, 32}, {1296, 1280}};
    kw_effective r;
    kw_error err;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        kw_request request = asked(taken[i][0], taken[i][0], 9, 2);
        if (kw_request_resolve(ti2v, &request, &r, &err)) fail_msg("%s", err.message);
        assert_int_equal(r.width, taken[i][1]);
        assert_int_equal(r.height, taken[i][1]);
        assert_int_equal(r.requested_width, taken[i][0]);
        assert_int_equal(r.latent_width, taken[i][1] / 16);
        assert_int_equal(r.tokens, 3 * (taken[i][1] / 32) * (taken[i][1] / 32));
        assert_int_equal(r.latent_channels, 48);
    }
    kw_request odd = asked(1000, 704, 9, 2), small = asked(704, 16, 9, 2);
    assert_int_equal(kw_request_resolve(ti2v, &odd, &r, &err), KW_ERROR_USAGE);
    assert_non_null(strstr(err.message, "width 1000 is no multiple of 16; try 992 or 1008"));
    assert_int_equal(kw_request_resolve(ti2v, &small, &r, &err), KW_ERROR_USAGE);
    assert_non_null(strstr(err.message, "height 16 is too small for this model; try 32"));
}

/* 24 frames a second, shift 5, and no second guidance. */
static void ti2v_defaults(void **state)
{
    (void)state;
    kw_effective r;
    kw_error err;
    assert_int_equal(resolve(ti2v, -1, -1, &r, &err), KW_OK);
    assert_true(r.fps == 24 && r.flow_shift == 5 && r.guidance_scale == 5);
    assert_true(r.width == 832 && r.height == 480 && r.num_frames == 81 && r.num_inference_steps == 50);
    assert_int_equal(resolve(ti2v, 5, 3, &r, &err), KW_ERROR_USAGE);
}

/* ---- Folders ----------------------------------------------------------------------------------------- */

static void broken_folders_are_refused(void **state)
{
    (void)state;
    static const struct family_change cases[] = {
        {"model_index.json", "boundary_ratio", NULL, "\"boundary_ratio\" is missing"},
        {"model_index.json", "boundary_ratio", "null", "\"boundary_ratio\" is missing"},
        {"model_index.json", "boundary_ratio", "1.5", "boundary_ratio"},
        {"model_index.json", "boundary_ratio", "\"0.875\"", "boundary_ratio"},
        {"model_index.json", "transformer_2", "[null, null]", "\"transformer_2\" is missing"},
        {"model_index.json", "transformer", "[null, null]", "transformer"},
        {"transformer_2/config.json", "in_channels", "48", "in_channels"},
        {"transformer_2/config.json", "text_dim", "512", "text_dim"},
        {"transformer_2/config.json", "patch_size", "[1, 4, 2]", "patch_size"},
        {"transformer_2/config.json", "image_dim", "1280", "image_dim"},
        {"transformer_2/config.json", "num_layers", "0", "num_layers"},
    };
    family_expect_refused(catalog, "data/models/wan2.2-t2v-a14b", cases, sizeof cases / sizeof cases[0]);
    static const struct family_change others[] = {
        {"model_index.json", "expand_timesteps", "\"true\"", "expand_timesteps"},
        {"vae/config.json", "patch_size", NULL, "\"in_channels\" must be 3"},
        {"vae/config.json", "patch_size", "4", "\"in_channels\" must be 48"},
        {"vae/config.json", "in_channels", NULL, "\"in_channels\" must be 12"},
        {"vae/config.json", "out_channels", "3", "\"out_channels\" must be 12"},
        {"vae/config.json", "scale_factor_spatial", NULL, "\"scale_factor_spatial\" must be 16"},
        {"vae/config.json", "scale_factor_temporal", "8", "\"scale_factor_temporal\" must be 4"},
        {"vae/config.json", "dim_mult", "[1, 2, 4, 96]", "dim_mult"},
        {"vae/config.json", "is_residual", "1", "is_residual"},
        {"vae/config.json", "z_dim", "16", "\"latents_mean\" has 48 elements"},
    };
    family_expect_refused(catalog, "data/models/wan2.2-ti2v-5b", others, sizeof others / sizeof others[0]);
}

/* The second transformer may be another size: its steps alone cost otherwise. */
static void the_second_may_be_smaller(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_model *model = NULL;
    kw_error err;
    folder_copy("data/models/wan2.2-t2v-a14b", folder);
    folder_set(folder, "transformer_2/config.json", "num_layers", "10");
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    kw_request request = asked(832, 480, 81, 20);
    struct kw__program *large = family_lower(a14b, &request, KW__BF16, KW__AS_PIPELINE),
                       *small = family_lower(model, &request, KW__BF16, KW__AS_PIPELINE);
    struct kw__sums sums[2][2] = {{{0}}};
    for (int m = 0; m < 2; m++)
        for (int p = 0; p < 2; p++)
            kw__graph_flop(denoise(m ? small : large)->phases[p].graph, NULL, 1, &sums[m][p]);
    assert_true(sums[0][0].flop == sums[0][1].flop && sums[1][0].flop == sums[0][0].flop);
    expect_near("a quarter of the blocks", sums[1][1].attention, sums[0][1].attention / 4, 1e-12);
    kw__program_free(large);
    kw__program_free(small);
    kw_model_close(model);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_of_a14b),
        cmocka_unit_test(tensors_of_ti2v),
        cmocka_unit_test(steps_are_divided_at_the_boundary),
        cmocka_unit_test(flops_of_a14b),
        cmocka_unit_test(flops_of_ti2v),
        cmocka_unit_test(time_is_embedded_for_each_token),
        cmocka_unit_test(both_transformers_are_resident),
        cmocka_unit_test(eager_stacks_know_tables_of_rows),
        cmocka_unit_test(older_diffusers_are_told),
        cmocka_unit_test(guidance_of_the_second),
        cmocka_unit_test(one_transformer_has_one_guidance),
        cmocka_unit_test(ti2v_sizes),
        cmocka_unit_test(ti2v_defaults),
        cmocka_unit_test(broken_folders_are_refused),
        cmocka_unit_test(the_second_may_be_smaller),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
