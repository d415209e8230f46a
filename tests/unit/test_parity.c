/* The reference graphs compute what diffusers and transformers compute: each stage of the tiny models
 * in tests/golden is lowered, run by the interpreter in float64 on random weights, and compared with
 * what the Python classes gave (tools/reference/make_golden.py holds the same cases). Then the same for
 * the graphs that each rewrite makes of them, and all rewrites together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/random.h"
#include "engine/unipc.h"
#include "graph/rewrite.h"
#include "model/family.h"
#include "support/interp.h"

/* The files are float64 sums in another order, or rounded to float32 once. */
static const double tolerance_f64 = 1e-12, tolerance_f32 = 1e-7;

enum { CHANNELS = 4 };
static uint64_t seed = 1;

/* ---- Files and inputs ------------------------------------------------------------------------ */

/* The whole file tests/golden/<name> as doubles; the caller frees it. */
static double *read_golden(const char *name, size_t count)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    bool single = strstr(name, ".f32") != NULL;
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be opened; tests run in the repository's root", path);
    double *out = calloc(count, sizeof *out);
    assert_non_null(out);
    size_t got = 0;
    float element;
    if (single)
        for (; got < count && fread(&element, sizeof element, 1, file) == 1; got++) out[got] = element;
    else
        got = fread(out, sizeof *out, count, file);
    assert_int_equal(got, count);
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
    return out;
}

/* `how` the graph was made, for the message. */
static void compare(const char *name, const char *how, const double *got, size_t count)
{
    assert_non_null(got);
    double *wanted = read_golden(name, count);
    double error = interp_relative_error(got, wanted, count);
    double tolerance = strstr(name, ".f32") ? tolerance_f32 : tolerance_f64;
    free(wanted);
    if (!(error <= tolerance))
        fail_msg("%s, %s: relative error %.3g, allowed %.3g", name, how, error, tolerance);
}

static void fill_noise(const char *name, size_t count, double *out)
{
    struct kw__random stream = kw__random_stream("noise", name, seed);
    for (size_t i = 0; i < count; i++) {
        float element;
        kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, i, 1, &element);
        out[i] = element;
    }
}

static void set_noise(struct interp *it, const char *input, const char *name, size_t count)
{
    double *elements = calloc(count, sizeof *elements);
    assert_non_null(elements);
    fill_noise(name, count, elements);
    interp_set(it, input, elements, count);
    free(elements);
}

/* ---- Lowering -------------------------------------------------------------------------------- */

struct lowered {
    kw_catalog *catalog;
    kw_model *model;
    struct kw__program *program;
    struct interp *it;
    const char *how; /* the rewrite */
};

struct size {
    int64_t frames, height, width; /* of the latents */
    int64_t batch, text_tokens, steps;
    double guidance;
    int64_t prompt_tokens[2];
    const char *rewrite; /* its name, "all", "all twice", "all backwards", or NULL */
};

static void apply(struct kw__program *program, const char *name)
{
    kw_error err;
    if (kw__rewrite_apply(program, name, &err)) fail_msg("%s", err.message);
}

static void rewrite(struct kw__program *program, const char *name)
{
    size_t count = kw__rewrite_count();
    int rounds = strcmp(name, "all twice") == 0 ? 2 : strncmp(name, "all", 3) == 0 ? 1 : 0;
    bool backwards = strcmp(name, "all backwards") == 0;
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < count; i++) apply(program, kw__rewrite_name(backwards ? count - 1 - i : i));
    if (rounds) return;
    if (strcmp(name, "fold_upsample") == 0) apply(program, "fuse_upsample"); /* which it goes on from */
    apply(program, name);
}

static struct lowered lower(const char *name, struct size size)
{
    struct lowered l = {0};
    kw_error err;
    char folder[256];
    snprintf(folder, sizeof folder, "tests/golden/%s", name);
    if (kw_catalog_open("data", &l.catalog, &err)) fail_msg("%s", err.message);
    if (kw_model_open(l.catalog, folder, &l.model, &err)) fail_msg("%s", err.message);
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    request.width = request.height = 64;
    if (kw_request_resolve(l.model, &request, &r, &err)) fail_msg("%s", err.message);
    /* smaller than the pipeline allows: VAE and transformer do not mind */
    r.latent_frames = size.frames;
    r.latent_height = size.height;
    r.latent_width = size.width;
    r.num_frames = 1 + 4 * (size.frames - 1);
    r.height = 8 * size.height;
    r.width = 8 * size.width;
    r.tokens = size.frames * (size.height / 2) * (size.width / 2);
    r.batch_size = size.batch ? size.batch : 1;
    r.text_tokens = size.text_tokens;
    r.prompt_tokens = size.prompt_tokens[0];
    r.negative_tokens = size.prompt_tokens[1];
    r.num_inference_steps = size.steps ? size.steps : 1;
    r.guidance_scale = size.guidance;
    r.guidance_passes = size.guidance > 1 ? 2 : 1;
    const struct kw__dtypes dtypes = {KW__F32, KW__F32, KW__F32, KW__F32};
    if (kw__lower(l.model, &r, &dtypes, &l.program, &err)) fail_msg("%s", err.message);
    if (size.rewrite) rewrite(l.program, size.rewrite);
    l.how = size.rewrite ? size.rewrite : "the reference graph";
    l.it = interp_new(l.program, interp_random_weights, &seed);
    return l;
}

static void release(struct lowered *l)
{
    interp_free(l->it);
    kw__program_free(l->program);
    kw_model_close(l->model);
    kw_catalog_close(l->catalog);
}

static void run(struct lowered *l, const char *stage)
{
    if (!interp_run(l->it, stage)) fail_msg("%s, %s: %s", stage, l->how, interp_error(l->it));
}

static struct kw__phase *find_phase(struct lowered *l, const char *stage, const char *phase)
{
    for (int s = 0; s < l->program->num_stages; s++) {
        struct kw__stage *in = &l->program->stages[s];
        for (int p = 0; strcmp(in->name, stage) == 0 && p < in->num_phases; p++)
            if (strcmp(in->phases[p].name, phase) == 0) return &in->phases[p];
    }
    fail_msg("%s: no phase %s of %s", l->how, phase, stage);
    return NULL;
}

/* Token i is (first + stride * i) mod vocabulary, 0 from `length` on as far as the graph reads. */
static void set_tokens(struct lowered *l, const char *phase, int length, int first, int stride,
                       int vocabulary)
{
    char ids_name[64], length_name[64];
    double ids[256] = {0};
    size_t width = 0;
    const struct kw__graph *g = find_phase(l, "text_encode", phase)->graph;
    for (size_t v = 1; v < g->num_values; v++)
        if (strcmp(g->values[v].name, "ids") == 0) width = (size_t)g->values[v].dim[1];
    assert_in_range(width, length, 256);
    snprintf(ids_name, sizeof ids_name, "%s/ids", phase);
    snprintf(length_name, sizeof length_name, "%s/length", phase);
    for (int i = 0; i < length; i++) ids[i] = (first + stride * i) % vocabulary;
    interp_set(l->it, ids_name, ids, width);
    interp_set_scalar(l->it, length_name, length);
}

/* ---- Text encoder ---------------------------------------------------------------------------- */

static void check_text(const char *golden, const char *model, int length, int width, int first, int stride,
                       int vocabulary)
{
    struct lowered l = lower(model, (struct size){1, 2, 2, .text_tokens = width, .guidance = 1});
    set_tokens(&l, "prompt", length, first, stride, vocabulary);
    run(&l, "text_encode");
    struct interp_array text = interp_get(l.it, "text.0");
    assert_int_equal(text.ndim, 3);
    assert_int_equal(text.dim[1], width);
    compare(golden, l.how, text.data, text.count);
    release(&l);
}

static void test_text_encoder_pads_with_zeros(void **state)
{
    (void)state;
    check_text("text_short.f64", "wan-tiny", 7, 12, 3, 7, 100);
}

static void test_text_encoder_beyond_the_largest_distance(void **state)
{
    (void)state;
    check_text("text_long.f32", "wan-tiny", 150, 160, 5, 11, 100);
}

static void test_text_encoder_without_padding(void **state)
{
    (void)state;
    check_text("text_128.f64", "wan-tiny-128", 40, 40, 1, 13, 60);
}

/* ---- Transformer ----------------------------------------------------------------------------- */

/* One pass: the value that UNPATCHIFY gives in the one step of a schedule with our timestep. */
static void check_transformer(const char *golden, const char *model, struct size size, int64_t text_dim,
                              double timestep)
{
    struct lowered l = lower(model, size);
    size_t batch = (size_t)l.program->request.batch_size;
    set_noise(l.it, "latents", "latents",
              batch * CHANNELS * (size_t)(size.frames * size.height * size.width));
    set_noise(l.it, "text.0", "text", batch * (size_t)(size.text_tokens * text_dim));
    struct kw__phase *phase = find_phase(&l, "denoise", "step");
    double row[32] = {0};
    assert_true(phase->table.columns <= 32);
    memcpy(row, phase->table.rows, (size_t)phase->table.columns * sizeof *row);
    row[KW__UNIPC_TIMESTEP] = timestep;
    phase->table.rows = row;
    run(&l, "denoise");
    const struct kw__graph *g = phase->graph;
    const char *output = NULL;
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__UNPATCHIFY) output = g->values[g->ops[i].output[0]].name;
    assert_non_null(output);
    struct interp_array v = interp_get(l.it, output);
    compare(golden, l.how, v.data, v.count);
    release(&l);
}

static void test_transformer_one_frame(void **state)
{
    (void)state;
    check_transformer("transformer_a.f64", "wan-tiny",
                      (struct size){1, 2, 4, .text_tokens = 12, .guidance = 1}, 24, 999);
}

static void test_transformer_batch_of_two(void **state)
{
    (void)state;
    struct size size = {3, 4, 6, .batch = 2, .text_tokens = 12, .guidance = 1};
    check_transformer("transformer_b.f64", "wan-tiny", size, 24, 421);
}

static void test_transformer_head_dim_128(void **state)
{
    (void)state;
    check_transformer("transformer_128.f64", "wan-tiny-128",
                      (struct size){2, 6, 4, .text_tokens = 5, .guidance = 1}, 8, 37);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

static void check_decode(const char *golden, const char *model, struct size size)
{
    size.text_tokens = 1;
    struct lowered l = lower(model, size);
    set_noise(l.it, "latents", "latents", CHANNELS * (size_t)(size.frames * size.height * size.width));
    run(&l, "decode");
    struct interp_array frames = interp_get(l.it, "frames");
    assert_int_equal(frames.ndim, 5);
    assert_int_equal(frames.dim[1], 1 + 4 * (size.frames - 1));
    compare(golden, l.how, frames.data, frames.count);
    release(&l);
}

static void test_decode_one_latent_frame(void **state)
{
    (void)state;
    check_decode("decode_1.f32", "wan-tiny", (struct size){.frames = 1, .height = 2, .width = 3});
}

static void test_decode_two_latent_frames(void **state)
{
    (void)state;
    check_decode("decode_2.f32", "wan-tiny", (struct size){.frames = 2, .height = 1, .width = 2});
}

static void test_decode_three_latent_frames(void **state)
{
    (void)state;
    check_decode("decode_3.f32", "wan-tiny", (struct size){.frames = 3, .height = 2, .width = 2});
}

static void test_decode_other_layout(void **state)
{
    (void)state;
    check_decode("decode_128.f32", "wan-tiny-128", (struct size){.frames = 3, .height = 1, .width = 2});
}

/* ---- Solver ---------------------------------------------------------------------------------- */

/* The recurrence of engine/unipc.h on the model output v = sin(3 x) + t / 1000. */
static void check_solver(const char *golden, int64_t steps, double shift)
{
    enum { N = 8 };
    double rows[16 * KW__UNIPC_COLUMNS], samples[16 * N], x[N], m0[N] = {0}, m1[N] = {0}, last[N] = {0};
    kw__unipc_table(steps, shift, 1000, KW__UNIPC_COLUMNS, rows);
    fill_noise("latents", N, x);
    for (int64_t i = 0; i < steps; i++) {
        const double *row = rows + i * KW__UNIPC_COLUMNS, *convert = row + KW__UNIPC_CONVERT;
        const double *c = row + KW__UNIPC_CORRECT, *p = row + KW__UNIPC_PREDICT;
        for (int k = 0; k < N; k++) {
            double v = sin(3 * x[k]) + row[KW__UNIPC_TIMESTEP] / 1000;
            double x0 = convert[0] * x[k] + convert[1] * v;
            last[k] = c[0] * last[k] + c[1] * m0[k] + c[2] * m1[k] + c[3] * x0 + c[4] * x[k];
            samples[i * N + k] = x[k] = p[0] * last[k] + p[1] * x0 + p[2] * m0[k];
            m1[k] = m0[k];
            m0[k] = x0;
        }
    }
    compare(golden, "its table", samples, (size_t)steps * N);
}

static void test_solver(void **state)
{
    (void)state;
    check_solver("solver_1.f64", 1, 3);
    check_solver("solver_3.f64", 3, 3);
    check_solver("solver_10.f64", 10, 5);
}

/* sigma x 1000 is a whole number up to its last bit here; these are UniPCMultistepScheduler's. */
static void test_timesteps_where_the_last_bit_counts(void **state)
{
    (void)state;
    double rows[27 * KW__UNIPC_COLUMNS];
    kw__unipc_table(27, 1, 1000, KW__UNIPC_COLUMNS, rows);
    assert_int_equal((int)rows[18 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 334);
    assert_int_equal((int)rows[19 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 297);
    assert_int_equal((int)rows[21 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 223);
    assert_int_equal((int)rows[22 * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP], 186);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

struct trajectory {
    double samples[4 * CHANNELS * 64];
    size_t count;
};

static void keep_latents(void *user, struct interp *it, const struct kw__phase *phase, int64_t iteration)
{
    struct trajectory *t = user;
    (void)iteration;
    if (strcmp(phase->name, "step") != 0) return;
    struct interp_array x = interp_get(it, "latents");
    assert_true(t->count + x.count <= sizeof t->samples / sizeof t->samples[0]);
    memcpy(t->samples + t->count, x.data, x.count * sizeof *x.data);
    t->count += x.count;
}

static void check_denoise(const char *golden, const char *model, struct size size, int vocabulary)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct lowered l = lower(model, size);
    struct trajectory t = {.count = 0};
    for (int i = 0; i < l.program->request.guidance_passes; i++)
        set_tokens(&l, phases[i], (int)size.prompt_tokens[i], 3 + i, 7, vocabulary);
    set_noise(l.it, "latents", "latents", CHANNELS * (size_t)(size.frames * size.height * size.width));
    interp_observe(l.it, keep_latents, &t);
    run(&l, "text_encode");
    run(&l, "denoise");
    compare(golden, l.how, t.samples, t.count);
    release(&l);
}

static const struct size guided = {
    2, 4, 4, .text_tokens = 12, .steps = 4, .guidance = 5, .prompt_tokens = {7, 1}};
static const struct size one_pass = {
    1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1, .prompt_tokens = {4, 1}};

static void test_denoise_with_guidance(void **state)
{
    (void)state;
    check_denoise("denoise.f64", "wan-tiny", guided, 100);
}

static void test_denoise_one_pass(void **state)
{
    (void)state;
    check_denoise("denoise_one_pass.f64", "wan-tiny-128", one_pass, 60);
}

/* ---- Rewrites -------------------------------------------------------------------------------- */

/* A number that changes with the operators, their shapes and the phases. */
static uint64_t fingerprint(const struct kw__program *program)
{
    uint64_t hash = 0;
    for (int s = 0; s < program->num_stages; s++) {
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops; i++) {
                const struct kw__op *op = &g->ops[i];
                const struct kw__value *y = &g->values[op->output[0]];
                hash = hash * 1000003 + (uint64_t)op->code + 64 * (uint64_t)kw__elements(y);
                for (int k = 0; k < op->num_inputs; k++)
                    hash = hash * 1000003 + (uint64_t)kw__elements(&g->values[op->input[k]]);
            }
            hash = hash * 1000003 + 1;
        }
    }
    return hash;
}

/* Each of them applies to the graphs that it is tested on. */
static void test_rewrites_change_the_graph(void **state)
{
    (void)state;
    struct lowered reference = lower("wan-tiny", guided);
    for (size_t i = 0; i < kw__rewrite_count(); i++) {
        struct size size = guided;
        size.rewrite = kw__rewrite_name(i);
        struct lowered l = lower("wan-tiny", size);
        if (fingerprint(l.program) == fingerprint(reference.program))
            fail_msg("%s does nothing", size.rewrite);
        release(&l);
    }
    release(&reference);
}

/* The text encoder's part shows in the latents. */
static void check_rewrite(const char *name)
{
    struct size size = guided;
    size.rewrite = name;
    check_denoise("denoise.f64", "wan-tiny", size, 100);
    size = one_pass;
    size.rewrite = name;
    check_denoise("denoise_one_pass.f64", "wan-tiny-128", size, 60);
    check_decode("decode_3.f32", "wan-tiny",
                 (struct size){.frames = 3, .height = 2, .width = 2, .rewrite = name});
    check_decode("decode_128.f32", "wan-tiny-128",
                 (struct size){.frames = 3, .height = 1, .width = 2, .rewrite = name});
}

static void test_each_rewrite(void **state)
{
    (void)state;
    for (size_t i = 0; i < kw__rewrite_count(); i++) check_rewrite(kw__rewrite_name(i));
}

static void test_all_rewrites(void **state)
{
    (void)state;
    check_rewrite("all");
    check_rewrite("all twice");
    check_rewrite("all backwards");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_encoder_pads_with_zeros),
        cmocka_unit_test(test_text_encoder_beyond_the_largest_distance),
        cmocka_unit_test(test_text_encoder_without_padding),
        cmocka_unit_test(test_transformer_one_frame),
        cmocka_unit_test(test_transformer_batch_of_two),
        cmocka_unit_test(test_transformer_head_dim_128),
        cmocka_unit_test(test_decode_one_latent_frame),
        cmocka_unit_test(test_decode_two_latent_frames),
        cmocka_unit_test(test_decode_three_latent_frames),
        cmocka_unit_test(test_decode_other_layout),
        cmocka_unit_test(test_solver),
        cmocka_unit_test(test_timesteps_where_the_last_bit_counts),
        cmocka_unit_test(test_denoise_with_guidance),
        cmocka_unit_test(test_denoise_one_pass),
        cmocka_unit_test(test_rewrites_change_the_graph),
        cmocka_unit_test(test_each_rewrite),
        cmocka_unit_test(test_all_rewrites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
