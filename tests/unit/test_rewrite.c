/* Rewrites leave the result as it is: a tiny model is lowered, rewritten, and run by the float64
 * interpreter beside the reference. What a rewrite should have done is counted by hand: the model has
 * 2 layers, two guidance passes, 16 rows of text of which 5 and 3 are real, and a VAE of 10 residual
 * blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/random.h"
#include "graph/rewrite.h"
#include "model/family.h"
#include "support/interp.h"

static const double tolerance = 1e-10;
static uint64_t seed = 3;

enum { TEXT = 16, PROMPT = 5, NEGATIVE = 3, D = 32, TEXT_D = 24 };

/* ---- Lowering and running ---------------------------------------------------------------------- */

/* Programs point into their models. */
enum { TINY, TINY_128, NUM_MODELS };
static kw_catalog *catalog;
static kw_model *models[NUM_MODELS];

static int open_models(void **state)
{
    (void)state;
    kw_error err;
    static const char *const folders[NUM_MODELS] = {"tests/golden/wan-tiny", "tests/golden/wan-tiny-128"};
    if (kw_catalog_open("data", &catalog, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < NUM_MODELS; i++)
        if (kw_model_open(catalog, folders[i], &models[i], &err)) fail_msg("%s", err.message);
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_MODELS; i++) kw_model_close(models[i]);
    kw_catalog_close(catalog);
    return 0;
}

struct shape {
    int model;
    int64_t passes, batch, prompt, negative;
};
static const struct shape usual = {TINY, 2, 1, PROMPT, NEGATIVE};

static struct kw__program *lower(struct shape shape)
{
    kw_error err;
    const kw_model *model = models[shape.model];
    struct kw__program *program;
    kw_request request = KW_REQUEST_INIT;
    request.width = request.height = 32;
    request.num_frames = 9;
    request.num_inference_steps = 2;
    request.batch_size = shape.batch;
    request.guidance_scale = shape.passes == 2 ? 5 : 1;
    request.prompt_tokens = shape.prompt;
    request.negative_tokens = shape.negative;
    kw_effective r;
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    r.text_tokens = TEXT;
    const struct kw__dtypes dtypes = KW__ALL_F32;
    if (kw__lower(model, &r, &dtypes, &program, &err)) fail_msg("%s", err.message);
    return program;
}

static void rewrite(struct kw__program *program, const char *name)
{
    kw_error err;
    if (kw__rewrite_apply(program, name, &err)) fail_msg("%s", err.message);
}

static struct kw__phase *phase_of(const struct kw__program *program, const char *stage, const char *phase)
{
    for (int s = 0; s < program->num_stages; s++) {
        const struct kw__stage *st = &program->stages[s];
        for (int p = 0; strcmp(st->name, stage) == 0 && p < st->num_phases; p++)
            if (strcmp(st->phases[p].name, phase) == 0) return (struct kw__phase *)&st->phases[p];
    }
    return NULL;
}

static struct kw__graph *graph_of(const struct kw__program *program, const char *stage, const char *phase)
{
    struct kw__phase *found = phase_of(program, stage, phase);
    if (!found) fail_msg("no phase %s of %s", phase, stage);
    return found->graph;
}

static const struct kw__value *value_of(const struct kw__graph *g, const char *name)
{
    for (size_t v = 1; v < g->num_values; v++)
        if (strcmp(g->values[v].name, name) == 0) return &g->values[v];
    return NULL;
}

/* As many ids as the graph takes: the tokens, then zeros. */
static void set_text(struct interp *it, const struct kw__program *program, const char *phase, int64_t tokens)
{
    const struct kw__value *ids = value_of(graph_of(program, "text_encode", phase), "ids");
    assert_non_null(ids);
    char ids_name[64], length_name[64];
    snprintf(ids_name, sizeof ids_name, "%s/ids", phase);
    snprintf(length_name, sizeof length_name, "%s/length", phase);
    double elements[2 * TEXT] = {0}, lengths[2] = {(double)tokens, (double)tokens};
    for (int64_t b = 0; b < ids->dim[0]; b++)
        for (int64_t i = 0; i < tokens; i++)
            elements[b * ids->dim[1] + i] = (double)((2 + 7 * i + 3 * b) % 50);
    interp_set(it, ids_name, elements, (size_t)kw__elements(ids));
    interp_set(it, length_name, lengths, (size_t)ids->dim[0]);
}

struct result {
    size_t num_latents, num_frames;
    double *latents, *frames;
};

static double *copy_state(const struct interp *it, const char *name, size_t *count)
{
    struct interp_array array = interp_get(it, name);
    assert_non_null(array.data);
    double *copy = malloc(array.count * sizeof *copy);
    assert_non_null(copy);
    *count = array.count;
    return memcpy(copy, array.data, array.count * sizeof *copy);
}

static struct result run(const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    struct interp *it = interp_new(program, interp_random_weights, &seed);
    set_text(it, program, "prompt", r->prompt_tokens);
    if (r->guidance_passes == 2) set_text(it, program, "negative_prompt", r->negative_tokens);
    const struct kw__value *latents = value_of(graph_of(program, "denoise", "step"), "latents");
    assert_non_null(latents);
    size_t count = (size_t)kw__elements(latents);
    double *noise = malloc(count * sizeof *noise);
    assert_non_null(noise);
    struct kw__random stream = kw__random_stream("noise", "latents", seed);
    for (size_t i = 0; i < count; i++) {
        float element;
        kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, i, 1, &element);
        noise[i] = element;
    }
    interp_set(it, "latents", noise, count);
    free(noise);
    struct result result;
    static const char *const stages[] = {"text_encode", "denoise", "decode"};
    for (int s = 0; s < 3; s++)
        if (!interp_run(it, stages[s])) fail_msg("%s: %s", stages[s], interp_error(it));
    result.latents = copy_state(it, "latents", &result.num_latents);
    result.frames = copy_state(it, "frames", &result.num_frames);
    interp_free(it);
    return result;
}

static void free_result(struct result *result)
{
    free(result->latents);
    free(result->frames);
}

/* ---- What holds for every graph -------------------------------------------------------------------- */

static void check_graph(const struct kw__graph *g)
{
    bool *made = calloc(g->num_values, sizeof *made), *used = calloc(g->num_values, sizeof *used);
    assert_true(made && used);
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        assert_false(op->dead);
        assert_int_equal(op->num_outputs, kw__op_info(op->code)->outputs);
        assert_in_range(op->num_inputs, kw__op_info(op->code)->least_inputs,
                        kw__op_info(op->code)->most_inputs);
        for (int k = 0; k < op->num_inputs; k++) {
            assert_in_range(op->input[k], 0, g->num_values - 1);
            used[op->input[k]] = true;
            if (op->input[k] && g->values[op->input[k]].kind == KW__TEMPORARY)
                assert_true(made[op->input[k]]);
        }
        for (int k = 0; k < op->num_outputs; k++) {
            assert_int_equal(g->values[op->output[k]].producer, i);
            made[op->output[k]] = true;
        }
    }
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        used[value->next] = true;
        if (!made[v]) assert_int_equal(value->producer, -1);
        assert_int_equal(made[v], value->kind == KW__TEMPORARY);
        for (size_t other = 1; other < v; other++)
            assert_string_not_equal(value->name, g->values[other].name);
    }
    for (size_t v = 1; v < g->num_values; v++)
        if (!made[v] && !used[v] && !g->values[v].next) fail_msg("nothing reads %s", g->values[v].name);
    free(made);
    free(used);
}

static void check_program(const struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++)
            check_graph(program->stages[s].phases[p].graph);
}

/* A number that changes when operators, their operands or attributes, or shapes change. */
static uint64_t fingerprint(const struct kw__program *program)
{
    uint64_t hash = 14695981039346656037u;
#define MIX(x) (hash = (hash ^ (uint64_t)(x)) * 1099511628211u)
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            MIX(g->num_ops);
            for (size_t i = 0; i < g->num_ops; i++) {
                const struct kw__op *op = &g->ops[i];
                MIX(op->code), MIX(op->attr.multiplicity), MIX(op->attr.width), MIX(op->attr.row),
                    MIX(op->attr.part);
                MIX(op->attr.parts), MIX(op->attr.upsample), MIX(op->attr.activation);
                for (int k = 0; k < op->num_inputs; k++) MIX(op->input[k]);
            }
            for (size_t v = 1; v < g->num_values; v++) {
                MIX(g->values[v].recipe), MIX(g->values[v].next), MIX(g->values[v].kind);
                for (int k = 0; k < g->values[v].ndim; k++) MIX(g->values[v].dim[k]);
            }
        }
#undef MIX
    return hash;
}

/* Applies the rewrites, in this order, and compares with the reference's result. */
static void check_same_result(struct shape shape, size_t count, const char *const *names,
                              const struct result *wanted)
{
    struct kw__program *program = lower(shape);
    for (size_t i = 0; i < count; i++) {
        rewrite(program, names[i]);
        check_program(program);
    }
    struct result got = run(program);
    assert_int_equal(got.num_latents, wanted->num_latents);
    assert_int_equal(got.num_frames, wanted->num_frames);
    double latents = interp_relative_error(got.latents, wanted->latents, got.num_latents);
    double frames = interp_relative_error(got.frames, wanted->frames, got.num_frames);
    if (!(latents <= tolerance) || !(frames <= tolerance))
        fail_msg("%s: relative error of latents %.3g, frames %.3g, allowed %.3g", count ? names[0] : "none",
                 latents, frames, tolerance);
    free_result(&got);
    kw__program_free(program);
}

static struct result reference(struct shape shape)
{
    struct kw__program *program = lower(shape);
    struct result result = run(program);
    kw__program_free(program);
    return result;
}

/* ---- The result ------------------------------------------------------------------------------------ */

enum { MOST = 32 };

static size_t all_names(const char **names)
{
    assert_in_range(kw__rewrite_count(), 1, MOST);
    for (size_t i = 0; i < kw__rewrite_count(); i++) names[i] = kw__rewrite_name(i);
    return kw__rewrite_count();
}

static void test_each_alone(void **state)
{
    (void)state;
    const char *names[MOST];
    size_t count = all_names(names);
    struct result wanted = reference(usual);
    for (size_t i = 0; i < count; i++) check_same_result(usual, 1, &names[i], &wanted);
    free_result(&wanted);
}

static void test_all_in_order(void **state)
{
    (void)state;
    const char *names[MOST];
    size_t count = all_names(names);
    const struct shape shapes[] = {usual,
                                   {TINY, 1, 2, PROMPT, NEGATIVE},
                                   {TINY, 2, 2, TEXT - 1, 1},
                                   {TINY, 2, 1, TEXT, TEXT},
                                   {TINY_128, 2, 1, 1, TEXT - 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct result wanted = reference(shapes[i]);
        check_same_result(shapes[i], count, names, &wanted);
        free_result(&wanted);
    }
}

/* A stack may list them in any order, and twice. */
static void test_all_in_other_orders(void **state)
{
    (void)state;
    const char *names[2 * MOST];
    size_t count = all_names(names);
    struct result wanted = reference(usual);
    uint32_t random = 1;
    for (int order = 0; order < 12; order++) {
        for (size_t i = count - 1; i > 0; i--) { /* order 0 is the reverse */
            random = random * 1664525u + 1013904223u;
            size_t other = order ? (random >> 8) % (i + 1) : count - 1 - i;
            if (!order && other >= i) break;
            const char *name = names[i];
            names[i] = names[other];
            names[other] = name;
        }
        memcpy(names + count, names, count * sizeof *names);
        check_same_result(usual, order % 2 ? 2 * count : count, names, &wanted);
    }
    free_result(&wanted);
}

static void test_a_second_time_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < kw__rewrite_count(); i++) {
        struct kw__program *program = lower(usual);
        uint64_t before = fingerprint(program);
        if (strcmp(kw__rewrite_name(i), "fold_upsample") == 0) rewrite(program, "fuse_upsample");
        rewrite(program, kw__rewrite_name(i));
        uint64_t once = fingerprint(program);
        if (once == before) fail_msg("%s does nothing", kw__rewrite_name(i));
        rewrite(program, kw__rewrite_name(i));
        if (fingerprint(program) != once) fail_msg("%s is not idempotent", kw__rewrite_name(i));
        kw__program_free(program);
    }
}

static void test_unknown_name(void **state)
{
    (void)state;
    kw_error err;
    struct kw__program *program = lower(usual);
    assert_int_equal(kw__rewrite_apply(program, "fuse_qvk", &err), KW_ERROR_FORMAT);
    assert_string_equal(err.message, "unknown rewrite \"fuse_qvk\"; did you mean \"fuse_qkv\"?");
    for (size_t i = 0; i < kw__rewrite_count(); i++) assert_null(strchr(kw__rewrite_about(i), '\n'));
    kw__program_free(program);
}

/* ---- What each does ---------------------------------------------------------------------------------- */

static int count_ops(const struct kw__program *program, const char *stage, const char *phase,
                     enum kw__opcode code)
{
    const struct kw__graph *g = graph_of(program, stage, phase);
    int count = 0;
    for (size_t i = 0; i < g->num_ops; i++) count += g->ops[i].code == code;
    return count;
}
#define STEP_OPS(code) count_ops(program, "denoise", "step", KW__##code)
#define ONCE_OPS(code) count_ops(program, "denoise", "prompt", KW__##code)
#define TEXT_OPS(code) count_ops(program, "text_encode", "prompt", KW__##code)
#define VAE_OPS(code) count_ops(program, "decode", "later_latent_frame", KW__##code)

static void assert_dims(const struct kw__value *value, int ndim, const int64_t *dim)
{
    assert_non_null(value);
    assert_int_equal(value->ndim, ndim);
    for (int i = 0; i < ndim; i++) assert_int_equal(value->dim[i], dim[i]);
}

/* A pass: 3 products for the time, 2 for the text, 10 in each block, 1 in the head. */
static void test_reference_counts(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    assert_int_equal(STEP_OPS(LINEAR), 2 * (3 + 2 + 2 * 10 + 1));
    assert_int_equal(STEP_OPS(CONV), 2);
    assert_int_equal(STEP_OPS(ATTENTION), 8);
    check_program(program);
    kw__program_free(program);
}

/* The time embedding, the patch embedding, self-attention of block 0, and q of its cross-attention. */
static void test_share_passes(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "share_passes");
    assert_int_equal(STEP_OPS(CONV), 1);
    assert_int_equal(STEP_OPS(TO_TOKENS), 1);
    assert_int_equal(STEP_OPS(SINUSOID), 1);
    assert_int_equal(STEP_OPS(ROPE_TABLE), 1);
    assert_int_equal(STEP_OPS(ADALN_TABLE), 3);
    assert_int_equal(STEP_OPS(LINEAR), 52 - 3 - 4 - 1);
    assert_int_equal(STEP_OPS(ATTENTION), 8 - 1);
    assert_int_equal(STEP_OPS(ROPE), 8 - 2);
    assert_int_equal(STEP_OPS(GATE_ADD), 8 - 1);
    assert_int_equal(STEP_OPS(UNPATCHIFY), 2);
    kw__program_free(program);
}

/* Of each pass: 2 products of the text projection; K, V and the norm of K in 2 blocks; the rotary table. */
static void test_hoist_prompt(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "hoist_prompt");
    const struct kw__stage *stage = &program->stages[1];
    assert_int_equal(stage->num_phases, 2);
    assert_string_equal(stage->phases[0].name, "prompt");
    assert_int_equal(stage->phases[0].calls, 1);
    assert_int_equal(stage->phases[1].calls, 2);
    assert_int_equal(stage->phases[1].table.columns, 14);
    assert_int_equal(ONCE_OPS(LINEAR), 2 * (2 + 4));
    assert_int_equal(ONCE_OPS(GELU), 2);
    assert_int_equal(ONCE_OPS(RMSNORM), 2 * 2);
    assert_int_equal(ONCE_OPS(ROPE_TABLE), 2);
    assert_int_equal(STEP_OPS(LINEAR), 52 - 12);
    assert_int_equal(STEP_OPS(ROPE_TABLE), 0);
    const struct kw__graph *g = stage->phases[1].graph, *once = stage->phases[0].graph;
    assert_null(value_of(g, "text.0"));
    assert_non_null(value_of(once, "text.0"));
    int crossing = 0;
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__STATE || strncmp(value->name, "prompt.", 7) != 0) continue;
        const struct kw__value *source = value_of(once, value->name);
        assert_non_null(source);
        assert_int_equal(value->next, 0);
        assert_true(source->next > 0);
        assert_int_equal(value->scope, source->scope);
        assert_true(value->scope == KW__PROMPT || value->scope == KW__REQUEST);
        assert_dims(value, source->ndim, source->dim);
        crossing++;
    }
    assert_int_equal(crossing, 2 * (2 * 2 + 1));
    for (size_t i = 0; i < g->num_ops; i++) assert_true(g->values[g->ops[i].output[0]].scope >= KW__STEP);
    kw__program_free(program);
}

static void test_real_text_tokens(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "real_text_tokens");
    const struct kw__graph *g = graph_of(program, "text_encode", "prompt");
    assert_dims(value_of(g, "ids"), KW__DIMS(1, PROMPT));
    assert_dims(value_of(g, "text.0"), KW__DIMS(1, TEXT, TEXT_D));
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__value *y = &g->values[g->ops[i].output[0]];
        if (g->ops[i].code == KW__RELATIVE_BIAS) assert_dims(y, KW__DIMS(2, PROMPT, PROMPT));
        if (g->ops[i].code == KW__RMSNORM) assert_dims(y, KW__DIMS(1, PROMPT, TEXT_D));
        if (g->ops[i].code == KW__PAD_ROWS) assert_dims(y, KW__DIMS(1, TEXT, TEXT_D));
    }
    g = graph_of(program, "text_encode", "negative_prompt");
    assert_dims(value_of(g, "ids"), KW__DIMS(1, NEGATIVE));
    kw__program_free(program);
}

static void check_multiplicities(const struct kw__program *program, int64_t first, int64_t second)
{
    const struct kw__graph *g = graph_of(program, "denoise", "step");
    int seen[3] = {0};
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->code != KW__ATTENTION) continue;
        int64_t keys = g->values[op->input[1]].dim[1], times = op->attr.multiplicity;
        if (keys == PROMPT + 1)
            seen[0] += times == first;
        else if (keys == NEGATIVE + 1)
            seen[1] += times == second;
        else
            seen[2] += times == 1;
    }
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1], 2);
    assert_int_equal(seen[2], 4); /* self-attention */
}

/* The multiplicities also where K was hoisted before. */
static void test_one_pad_key(void **state)
{
    (void)state;
    for (int hoisted = 0; hoisted < 2; hoisted++) {
        struct kw__program *program = lower(usual);
        if (hoisted) rewrite(program, "hoist_prompt");
        rewrite(program, "one_pad_key");
        const struct kw__graph *g = graph_of(program, "denoise", hoisted ? "prompt" : "step");
        assert_dims(value_of(g, "text.0"), KW__DIMS(1, PROMPT + 1, TEXT_D));
        assert_dims(value_of(g, "text.1"), KW__DIMS(1, NEGATIVE + 1, TEXT_D));
        g = graph_of(program, "text_encode", "negative_prompt");
        assert_dims(value_of(g, "text.1"), KW__DIMS(1, NEGATIVE + 1, TEXT_D));
        check_multiplicities(program, TEXT - PROMPT, TEXT - NEGATIVE);
        kw__program_free(program);
    }
}

/* One padded row is as good as one pad key; none needs none. */
static void test_one_pad_key_leaves_full_prompts(void **state)
{
    (void)state;
    struct kw__program *program = lower((struct shape){TINY, 2, 1, TEXT, TEXT - 1});
    uint64_t before = fingerprint(program);
    rewrite(program, "one_pad_key");
    assert_true(fingerprint(program) == before);
    kw__program_free(program);
}

/* Left alone when an operator that tells rows apart stands between text and keys. */
static void test_one_pad_key_wants_equal_rows(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    struct kw__graph *g = graph_of(program, "denoise", "step");
    for (size_t i = 0; i < g->num_ops; i++) /* k's norm becomes a rotary embedding, which knows places */
        if (g->ops[i].code == KW__RMSNORM && g->values[g->ops[i].input[0]].dim[1] == TEXT &&
            g->values[g->ops[i].input[0]].scope == KW__PROMPT)
            g->ops[i].code = KW__ROPE;
    uint64_t before = fingerprint(program);
    rewrite(program, "one_pad_key");
    assert_true(fingerprint(program) == before);
    kw__program_free(program);
}

static const char *tensor_name(const struct kw__program *program, const struct kw__value *weight, int i)
{
    assert_in_range(i, 0, weight->num_tensors - 1);
    return program->tensors[weight->tensor[i]].name;
}

static void test_fuse_qkv(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "fuse_qkv");
    assert_int_equal(STEP_OPS(LINEAR), 52 - 2 * 2 * (2 + 1)); /* 3 become 1, and 2 become 1 */
    const struct kw__graph *g = graph_of(program, "denoise", "step");
    const struct kw__value *w = value_of(g, "blocks.1.attn1.to_q.weight.joint");
    assert_dims(w, KW__DIMS(3 * D, D));
    assert_int_equal(w->recipe, KW__RECIPE_CONCAT);
    assert_string_equal(tensor_name(program, w, 0), "blocks.1.attn1.to_q.weight");
    assert_string_equal(tensor_name(program, w, 1), "blocks.1.attn1.to_k.weight");
    assert_string_equal(tensor_name(program, w, 2), "blocks.1.attn1.to_v.weight");
    assert_dims(value_of(g, "blocks.0.attn2.to_k.weight.joint"), KW__DIMS(2 * D, D));
    assert_dims(value_of(g, "blocks.0.attn2.to_k.bias.joint"), KW__DIMS(2 * D));
    assert_null(value_of(g, "blocks.0.attn2.to_k.weight"));
    /* T5: no norms, so the attention itself reads all three blocks */
    assert_int_equal(TEXT_OPS(LINEAR), 2 * (7 - 2));
    g = graph_of(program, "text_encode", "prompt");
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->code != KW__ATTENTION) continue;
        assert_true(op->attr.q_joint && op->attr.k_joint && op->attr.part == 2 && op->attr.parts == 3);
        assert_true(op->input[0] == op->input[1] && op->input[1] == op->input[2]);
        assert_dims(&g->values[op->output[0]], KW__DIMS(1, TEXT, 16));
    }
    kw__program_free(program);
}

static void test_fuse_norms(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "fuse_norm_modulate");
    assert_int_equal(STEP_OPS(LAYERNORM_MODULATE), 2 * (2 * 2 + 1));
    assert_int_equal(STEP_OPS(MODULATE), 0);
    assert_int_equal(STEP_OPS(LAYERNORM), 2 * 2); /* cross-attention's, with gamma and beta */
    rewrite(program, "fuse_norm_rope");
    assert_int_equal(STEP_OPS(RMSNORM_ROPE), 8);
    assert_int_equal(STEP_OPS(ROPE), 0);
    assert_int_equal(STEP_OPS(RMSNORM), 8);
    rewrite(program, "fuse_norm_silu");
    assert_int_equal(VAE_OPS(SILU), 0);
    assert_int_equal(VAE_OPS(CHANNEL_RMSNORM), 2 * 10 + 1 + 1); /* the attention's has no SiLU */
    const struct kw__graph *g = graph_of(program, "decode", "later_latent_frame");
    int activated = 0;
    for (size_t i = 0; i < g->num_ops; i++) activated += g->ops[i].attr.activation == KW__ACT_SILU;
    assert_int_equal(activated, 2 * 10 + 1);
    kw__program_free(program);
}

static void test_fuse_epilogues(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    rewrite(program, "fuse_gelu");
    assert_int_equal(STEP_OPS(GELU), 0);
    assert_int_equal(STEP_OPS(LINEAR), 52);
    assert_int_equal(TEXT_OPS(GELU) + TEXT_OPS(MUL), 0);
    assert_int_equal(TEXT_OPS(GELU_MUL), 2);
    rewrite(program, "fuse_gate");
    assert_int_equal(STEP_OPS(GATE_ADD) + STEP_OPS(ADD), 0);
    assert_int_equal(STEP_OPS(LINEAR), 52);
    assert_int_equal(TEXT_OPS(ADD), 0);
    const struct kw__graph *g = graph_of(program, "denoise", "step");
    int gated[7] = {0};
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__LINEAR && kw__operand(&g->ops[i], 4)) gated[g->ops[i].attr.row + 1]++;
    assert_int_equal(gated[0], 4); /* row -1: cross-attention's output, ungated */
    assert_int_equal(gated[3], 4); /* row 2: self-attention's */
    assert_int_equal(gated[6], 4); /* row 5: the MLP's */
    kw__program_free(program);
}

/* 10 residual blocks and one attention add; 3 levels upsample. */
static void test_fuse_convolutions(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    int convs = VAE_OPS(CONV);
    rewrite(program, "fold_upsample");
    assert_int_equal(VAE_OPS(UPSAMPLE), 3); /* nothing to fold yet */
    rewrite(program, "fuse_conv_add");
    rewrite(program, "fuse_upsample");
    assert_int_equal(VAE_OPS(CONV), convs);
    assert_int_equal(VAE_OPS(ADD), 0);
    assert_int_equal(VAE_OPS(UPSAMPLE), 0);
    rewrite(program, "fold_upsample");
    const struct kw__graph *g = graph_of(program, "decode", "later_latent_frame");
    int residuals = 0, folded = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->code != KW__CONV) continue;
        residuals += kw__operand(op, 4) != 0;
        const struct kw__value *w = &g->values[op->input[1]], *y = &g->values[op->output[0]];
        if (w->recipe != KW__RECIPE_FOLD_UPSAMPLE) continue;
        const struct kw__value *x = &g->values[op->input[0]];
        assert_dims(w, KW__DIMS(4, y->dim[1], x->dim[1], 2, 2));
        assert_dims(y, KW__DIMS(1, x->dim[1] / 2, x->dim[2], 2 * x->dim[3], 2 * x->dim[4]));
        folded++;
    }
    assert_int_equal(residuals, 11);
    assert_int_equal(folded, 3);
    kw__program_free(program);
}

/* One step with everything. */
static void test_all_counts(void **state)
{
    (void)state;
    struct kw__program *program = lower(usual);
    for (size_t i = 0; i < kw__rewrite_count(); i++) rewrite(program, kw__rewrite_name(i));
    /* time; block 0: q k v, out, q shared, out and the MLP twice; block 1 twice: qkv out q out MLP; head */
    assert_int_equal(STEP_OPS(LINEAR), 3 + (1 + 1 + 1 + 2 + 4) + 2 * 6 + 2);
    assert_int_equal(STEP_OPS(ATTENTION), 7);
    assert_int_equal(STEP_OPS(LAYERNORM_MODULATE), (1 + 2) + 2 * 2 + 2);
    assert_int_equal(STEP_OPS(LAYERNORM), 1 + 2);
    assert_int_equal(STEP_OPS(RMSNORM), 1 + 2); /* of cross-attention's q */
    assert_int_equal(STEP_OPS(RMSNORM_ROPE), 2 + 4);
    assert_int_equal(STEP_OPS(ADALN_TABLE), 3);
    /* casts of latents and time embedding, 2 SiLU, sinusoid, patch embedding and its transpose */
    assert_int_equal(
        STEP_OPS(CAST) + STEP_OPS(SILU) + STEP_OPS(SINUSOID) + STEP_OPS(CONV) + STEP_OPS(TO_TOKENS), 7);
    assert_int_equal(STEP_OPS(UNPATCHIFY) + STEP_OPS(LINCOMB), 2 + 4);
    assert_int_equal(graph_of(program, "denoise", "step")->num_ops, 26 + 7 + 9 + 3 + 3 + 6 + 3 + 7 + 6);
    assert_int_equal(ONCE_OPS(LINEAR), 2 * (2 + 2));
    assert_int_equal(ONCE_OPS(RMSNORM), 2 * 2);
    assert_int_equal(ONCE_OPS(ROPE_TABLE), 1);
    kw__program_free(program);
}

/* ---- What is left alone, on graphs of a few operators ------------------------------------------------ */

static struct kw__program *small(struct kw__graph **g)
{
    const kw_effective request = {.batch_size = 1};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    assert_non_null(program);
    *g = kw__stage_phase(program, kw__program_stage(program, "denoise"), "step", 2);
    assert_non_null(*g);
    (*g)->component = (*g)->tensors = "transformer";
    return program;
}

/* What leaves the graph: a state that becomes the value. */
static void leave(struct kw__graph *g, const char *name, int value)
{
    const struct kw__value *v = &g->values[value];
    int64_t dim[KW__MAX_DIMS];
    memcpy(dim, v->dim, sizeof dim);
    kw__state_next(g, kw__state(g, name, KW__F32, KW__STEP, v->ndim, dim), value);
}

static void test_what_others_read_is_kept(void **state)
{
    (void)state;
    struct kw__graph *g;
    struct kw__program *program = small(&g);
    int x = kw__input(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 4, 8));
    int a = kw__linear(g, x, "a", 8, true, KW__F32, KW__F32); /* read by two operators */
    leave(g, "out.a", KW__OP(g, KW__ADD, NULL, KW__F32, KW__OP(g, KW__GELU, NULL, KW__F32, a), a));
    int b = kw__linear(g, x, "b", 8, true, KW__F32, KW__F32); /* read by one, and a state becomes it */
    leave(g, "out.b", b);
    leave(g, "out.c", KW__OP(g, KW__ADD, NULL, KW__F32, x, b));
    uint64_t before = fingerprint(program);
    for (size_t i = 0; i < kw__rewrite_count(); i++) rewrite(program, kw__rewrite_name(i));
    assert_true(fingerprint(program) == before);
    kw__program_free(program);
}

static void test_norms_with_parameters_are_kept(void **state)
{
    (void)state;
    struct kw__graph *g;
    struct kw__program *program = small(&g);
    int x = kw__input(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 4, 8));
    int table = kw__input(g, "table", KW__F32, KW__STEP, KW__DIMS(1, 4, 8));
    int gamma = kw__weight(g, "gamma", KW__F32, KW__DIMS(8));
    struct kw__attr norm = {.eps = 1e-6}, first = {.row = 0, .row2 = 1}, second = {.row = 2, .row2 = 3};
    int y = KW__OP(g, KW__LAYERNORM, &norm, KW__F32, x, gamma);
    y = KW__OP(g, KW__MODULATE, &first, KW__F32, y, table);
    leave(g, "out", KW__OP(g, KW__MODULATE, &second, KW__F32, y, table));
    uint64_t before = fingerprint(program);
    rewrite(program, "fuse_norm_modulate");
    assert_true(fingerprint(program) == before);
    kw__program_free(program);
}

static void test_share_wants_equal_attributes_and_dtypes(void **state)
{
    (void)state;
    struct kw__graph *g;
    struct kw__program *program = small(&g);
    int x = kw__input(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 4, 8));
    int table = kw__input(g, "table", KW__F32, KW__STEP, KW__DIMS(1, 4, 8));
    struct kw__attr first = {.row = 0, .row2 = 1}, second = {.row = 0, .row2 = 2};
    leave(g, "a", KW__OP(g, KW__MODULATE, &first, KW__F32, x, table));
    leave(g, "b", KW__OP(g, KW__MODULATE, &second, KW__F32, x, table));
    leave(g, "c", KW__OP(g, KW__MODULATE, &first, KW__BF16, x, table));
    leave(g, "d", KW__OP(g, KW__MODULATE, &first, KW__F32, x, table)); /* equal to a */
    rewrite(program, "share_passes");
    assert_int_equal(STEP_OPS(MODULATE), 3);
    assert_int_equal(value_of(g, "a")->next, value_of(g, "d")->next);
    assert_int_not_equal(value_of(g, "a")->next, value_of(g, "b")->next);
    assert_int_not_equal(value_of(g, "a")->next, value_of(g, "c")->next);
    kw__program_free(program);
}

/* Only 3x3, stride 1, padding 1, without a history in time. */
static void test_upsample_wants_plain_convolutions(void **state)
{
    (void)state;
    struct kw__graph *g;
    struct kw__program *program = small(&g);
    int x = kw__input(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 2, 1, 4, 4));
    int w = kw__weight(g, "w", KW__F32, KW__DIMS(2, 2, 3, 3)),
        w1 = kw__weight(g, "w1", KW__F32, KW__DIMS(2, 2, 1, 1));
    int causal = kw__weight(g, "causal", KW__F32, KW__DIMS(2, 2, 3, 3, 3));
    int cache = kw__state(g, "cache", KW__F32, KW__STEP, KW__DIMS(1, 2, 2, 8, 8));
    const struct kw__attr plain = {.stride = {1, 1, 1}, .pad = {1, 1}}, no_pad = {.stride = {1, 1, 1}},
                          strided = {.stride = {1, 2, 2}, .pad = {1, 1}};
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    const struct kw__attr *attrs[] = {&no_pad, &strided, &no_pad, &plain, &plain};
    const int weights[] = {w, w, w1, causal, w}, caches[] = {0, 0, 0, cache, 0};
    for (int i = 0; i < 5; i++) {
        int big = KW__OP(g, KW__UPSAMPLE, NULL, KW__F32, x);
        leave(g, names[i], KW__OP(g, KW__CONV, attrs[i], KW__F32, big, weights[i], 0, caches[i]));
    }
    rewrite(program, "fuse_upsample");
    assert_int_equal(STEP_OPS(UPSAMPLE), 4); /* only e's is gone */
    rewrite(program, "fold_upsample");
    assert_dims(&g->values[value_of(g, "e")->next], KW__DIMS(1, 2, 1, 8, 8));
    assert_int_equal(value_of(g, "w.folded")->recipe, KW__RECIPE_FOLD_UPSAMPLE);
    check_program(program);
    kw__program_free(program);
}

/* What is found later joins what was hoisted before: silu(text), then gelu of it. */
static void test_hoisting_again(void **state)
{
    (void)state;
    struct kw__graph *g;
    struct kw__program *program = small(&g);
    int text = kw__state(g, "text", KW__F32, KW__PROMPT, KW__DIMS(1, 2));
    int x = kw__state(g, "x", KW__F32, KW__STEP, KW__DIMS(1, 2));
    int once = KW__OP(g, KW__SILU, NULL, KW__F32, text);
    kw__state_next(g, x, KW__OP(g, KW__ADD, NULL, KW__F32, x, once));
    rewrite(program, "hoist_prompt");
    assert_int_equal(STEP_OPS(SILU), 0);
    g = graph_of(program, "denoise", "step");
    for (size_t v = 1; v < g->num_values; v++)
        if (strncmp(g->values[v].name, "prompt.", 7) == 0) once = (int)v;
    assert_int_equal(g->values[once].kind, KW__STATE);
    leave(g, "y", KW__OP(g, KW__CAST, NULL, KW__F32, KW__OP(g, KW__GELU, NULL, KW__F32, once)));
    rewrite(program, "hoist_prompt");
    check_program(program);
    assert_int_equal(program->stages[0].num_phases, 2);
    assert_int_equal(STEP_OPS(GELU), 0);
    const struct kw__graph *prompt = graph_of(program, "denoise", "prompt");
    assert_int_equal(prompt->num_ops, 3);
    assert_int_equal(prompt->ops[1].input[0], prompt->ops[0].output[0]);
    kw__program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_alone),
        cmocka_unit_test(test_all_in_order),
        cmocka_unit_test(test_all_in_other_orders),
        cmocka_unit_test(test_a_second_time_changes_nothing),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_reference_counts),
        cmocka_unit_test(test_share_passes),
        cmocka_unit_test(test_hoist_prompt),
        cmocka_unit_test(test_real_text_tokens),
        cmocka_unit_test(test_one_pad_key),
        cmocka_unit_test(test_one_pad_key_leaves_full_prompts),
        cmocka_unit_test(test_one_pad_key_wants_equal_rows),
        cmocka_unit_test(test_fuse_qkv),
        cmocka_unit_test(test_fuse_norms),
        cmocka_unit_test(test_fuse_epilogues),
        cmocka_unit_test(test_fuse_convolutions),
        cmocka_unit_test(test_all_counts),
        cmocka_unit_test(test_what_others_read_is_kept),
        cmocka_unit_test(test_norms_with_parameters_are_kept),
        cmocka_unit_test(test_share_wants_equal_attributes_and_dtypes),
        cmocka_unit_test(test_upsample_wants_plain_convolutions),
        cmocka_unit_test(test_hoisting_again),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
