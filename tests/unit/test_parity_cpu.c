/* The cpu backend in f32 computes what diffusers and transformers compute, to a relative error of 1e-4: the
 * cases of test_parity.c, as lowered and with all rewrites, through kw__exec as a clip is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec.h"
#include "engine/unipc.h"
#include "support/golden.h"
#include "support/interp.h"

static const double allowed = 1e-4;

/* What the hook below keeps: values, one after the other, as doubles. */
struct kept {
    enum kw__opcode code; /* of operators with this code, output 0; or */
    const char *state;    /* what becomes this state in each iteration */
    double elements[4096];
    size_t count;
};

static bool keep(void *user, struct kw__plan *plan, size_t i)
{
    struct kept *kept = user;
    const struct kw__graph *g = plan->phase->graph;
    int v = g->ops[i].output[0];
    bool wanted = !kept->state && g->ops[i].code == kept->code;
    for (size_t s = 1; kept->state && s < g->num_values; s++)
        wanted = wanted || (g->values[s].kind == KW__STATE && g->values[s].next == v &&
                            strcmp(g->values[s].name, kept->state) == 0);
    if (!wanted) return true;
    size_t count = (size_t)kw__elements(&g->values[v]);
    assert_true(kept->count + count <= sizeof kept->elements / sizeof kept->elements[0]);
    float *x = malloc(count * sizeof *x);
    assert_non_null(x);
    kw__backend_cpu.read(plan, v, x, count);
    for (size_t k = 0; k < count; k++) kept->elements[kept->count++] = x[k];
    free(x);
    return true;
}

struct opened {
    struct golden_case golden;
    struct kw__exec *run;
};

/* The stage alone: what is too small to have a token cannot be denoised. */
static void keep_stage(struct kw__program *program, const char *name)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, name) == 0) program->stages[0] = program->stages[s];
    program->num_stages = 1;
}

static struct opened open_case(const char *model, struct golden_size size, const char *stage,
                               struct kept *kept)
{
    struct opened o = {.golden = golden_lower(model, size)};
    if (stage) keep_stage(o.golden.program, stage);
    const struct kw__exec_options options = {.user = kept, .after = kept ? keep : NULL};
    struct kw__weights weights;
    kw_error err;
    if (kw__exec_open(&kw__backend_cpu, &options, o.golden.program, &o.run, &err))
        fail_msg("%s", err.message);
    if (kw__weights_open("random:1", o.golden.program, &weights, &err)) fail_msg("%s", err.message);
    if (kw__exec_prepare(o.run, NULL, &weights, &err)) fail_msg("%s", err.message);
    kw__weights_close(&weights);
    return o;
}

static void close_case(struct opened *o)
{
    kw__exec_close(o->run);
    golden_release(&o->golden);
}

static void write_floats(struct opened *o, const char *name, const float *x, size_t count)
{
    kw_error err;
    if (kw__exec_write(o->run, name, x, count, &err)) fail_msg("%s: %s", name, err.message);
}

static void write_noise(struct opened *o, const char *state, const char *stream, size_t count)
{
    float *x = malloc(count * sizeof *x);
    assert_non_null(x);
    golden_noise(stream, count, x);
    write_floats(o, state, x, count);
    free(x);
}

static void write_tokens(struct opened *o, const char *phase, int length, int first, int stride,
                         int vocabulary)
{
    double ids[256];
    float narrow[256], real = (float)length;
    char name[64];
    size_t width = golden_tokens(&o->golden, phase, length, first, stride, vocabulary, ids);
    for (size_t i = 0; i < width; i++) narrow[i] = (float)ids[i];
    snprintf(name, sizeof name, "%s/ids", phase);
    write_floats(o, name, narrow, width);
    snprintf(name, sizeof name, "%s/length", phase);
    write_floats(o, name, &real, 1);
}

static void run_stage(struct opened *o, const char *stage)
{
    kw_error err;
    if (kw__exec_stage(o->run, stage, &err)) fail_msg("%s, %s: %s", stage, o->golden.how, err.message);
}

static void compare(const char *name, const char *how, const double *got, size_t count)
{
    double *wanted = golden_read(name, count);
    double error = interp_relative_error(got, wanted, count);
    free(wanted);
    if (getenv("VERBOSE")) print_message("%s, %s: %.3g\n", name, how, error);
    if (!(error <= allowed)) fail_msg("%s, %s: relative error %.3g, allowed %.3g", name, how, error, allowed);
}

static void compare_state(struct opened *o, const char *name, const char *state, size_t count)
{
    float *x = malloc(count * sizeof *x);
    double *wide = malloc(count * sizeof *wide);
    kw_error err;
    assert_true(x && wide);
    if (kw__exec_read(o->run, state, x, count, &err)) fail_msg("%s: %s", state, err.message);
    for (size_t i = 0; i < count; i++) wide[i] = x[i];
    compare(name, o->golden.how, wide, count);
    free(x);
    free(wide);
}

/* ---- Text encoder ------------------------------------------------------------------------------------- */

static void check_text(const char *golden, const char *model, int length, int width, int first, int stride,
                       int vocabulary, size_t text_dim)
{
    struct golden_size size = {1, 2, 2, .text_tokens = width, .guidance = 1, .prompt_tokens = {length, 1}};
    struct opened o = open_case(model, size, "text_encode", NULL);
    write_tokens(&o, "prompt", length, first, stride, vocabulary);
    run_stage(&o, "text_encode");
    compare_state(&o, golden, "text.0", (size_t)width * text_dim);
    close_case(&o);
}

static void test_text_encoder(void **state)
{
    (void)state;
    check_text("text_short.f64", "wan-tiny", 7, 12, 3, 7, 100, 24);
    check_text("text_long.f32", "wan-tiny", 150, 160, 5, 11, 100, 24);
    check_text("text_128.f64", "wan-tiny-128", 40, 40, 1, 13, 60, 8);
}

/* ---- Transformer ----------------------------------------------------------------------------------- */

static void check_transformer(const char *golden, const char *model, struct golden_size size,
                              int64_t text_dim, double timestep)
{
    struct kept kept = {.code = KW__UNPATCHIFY};
    struct opened o = open_case(model, size, "denoise", &kept);
    size_t batch = (size_t)o.golden.program->request.batch_size;
    write_noise(&o, "latents", "latents",
                batch * GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
    write_noise(&o, "text.0", "text", batch * (size_t)(size.text_tokens * text_dim));
    struct kw__phase *phase = golden_phase(&o.golden, "denoise", "step");
    ((double *)phase->table.rows)[KW__UNIPC_TIMESTEP] = timestep; /* of the program's arena */
    run_stage(&o, "denoise");
    compare(golden, o.golden.how, kept.elements, kept.count);
    close_case(&o);
}

static void test_transformer(void **state)
{
    (void)state;
    check_transformer("transformer_a.f64", "wan-tiny",
                      (struct golden_size){1, 2, 4, .text_tokens = 12, .guidance = 1}, 24, 999);
    check_transformer("transformer_b.f64", "wan-tiny",
                      (struct golden_size){3, 4, 6, .batch = 2, .text_tokens = 12, .guidance = 1}, 24, 421);
    check_transformer("transformer_128.f64", "wan-tiny-128",
                      (struct golden_size){2, 6, 4, .text_tokens = 5, .guidance = 1}, 8, 37);
}

/* ---- VAE decoder ----------------------------------------------------------------------------------- */

static void check_decode(const char *golden, const char *model, struct golden_size size)
{
    static const char *const rewrites[] = {NULL, "all"};
    for (int i = 0; i < 2; i++) {
        size.text_tokens = 1;
        size.rewrite = rewrites[i];
        struct opened o = open_case(model, size, "decode", NULL);
        write_noise(&o, "latents", "latents",
                    GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
        run_stage(&o, "decode");
        compare_state(&o, golden, "frames",
                      (size_t)((1 + 4 * (size.frames - 1)) * 8 * size.height * 8 * size.width * 3));
        close_case(&o);
    }
}

static void test_decode(void **state)
{
    (void)state;
    check_decode("decode_1.f32", "wan-tiny", (struct golden_size){.frames = 1, .height = 2, .width = 3});
    check_decode("decode_2.f32", "wan-tiny", (struct golden_size){.frames = 2, .height = 1, .width = 2});
    check_decode("decode_3.f32", "wan-tiny", (struct golden_size){.frames = 3, .height = 2, .width = 2});
    check_decode("decode_6.f32", "wan-tiny", (struct golden_size){.frames = 6, .height = 1, .width = 2});
    check_decode("decode_128.f32", "wan-tiny-128",
                 (struct golden_size){.frames = 3, .height = 1, .width = 2});
}

/* Frame by frame with caches, what the layers give for all frames at once without any. */
static void test_cached_decode_equals_uncached(void **state)
{
    (void)state;
    check_decode("decode_6_uncached.f32", "wan-tiny",
                 (struct golden_size){.frames = 6, .height = 1, .width = 2});
}

/* ---- Solver ---------------------------------------------------------------------------------------- */

enum { N = 8, MOST_STEPS = 50 };

/* The recurrence as wan.c builds it, the model's output an input. */
static struct kw__program *solver_program(int64_t steps, double shift, double *rows)
{
    static const char *const names[KW__UNIPC_COLUMNS] = {"timestep", "c1", "c2", "c3", "c4",  "c5",
                                                         "c6",       "c7", "c8", "c9", "c10", "c11"};
    const kw_effective request = {.batch_size = 1};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    assert_non_null(program);
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "step", steps);
    g->component = "solver";
    kw__unipc_table(steps, shift, 1000, KW__UNIPC_COLUMNS, rows);
    stage->phases[0].table = (struct kw__iterations){KW__UNIPC_COLUMNS, names, rows};
    int x = kw__state(g, "latents", KW__F32, KW__STEP, KW__DIMS(1, N));
    int last = kw__state(g, "last", KW__F32, KW__STEP, KW__DIMS(1, N));
    int m0 = kw__state(g, "m0", KW__F32, KW__STEP, KW__DIMS(1, N));
    int m1 = kw__state(g, "m1", KW__F32, KW__STEP, KW__DIMS(1, N));
    int v = kw__input(g, "v", KW__F32, KW__STEP, KW__DIMS(1, N));
    const struct kw__attr convert = {.column = KW__UNIPC_CONVERT}, correct = {.column = KW__UNIPC_CORRECT},
                          predict = {.column = KW__UNIPC_PREDICT};
    int x0 = KW__OP(g, KW__LINCOMB, &convert, KW__F32, x, v);
    int corrected = KW__OP(g, KW__LINCOMB, &correct, KW__F32, last, m0, m1, x0, x);
    int next = KW__OP(g, KW__LINCOMB, &predict, KW__F32, corrected, x0, m0);
    kw__state_next(g, x, next);
    kw__state_next(g, last, corrected);
    kw__state_next(g, m0, x0);
    kw__state_next(g, m1, m0);
    assert_false(program->arena.failed);
    return program;
}

static int value_of(const struct kw__graph *g, const char *name)
{
    for (size_t v = 1; v < g->num_values; v++)
        if (strcmp(g->values[v].name, name) == 0) return (int)v;
    fail_msg("no value %s", name);
    return 0;
}

/* One iteration at a time, on the plan itself: the model's output depends on the sample. */
static void check_solver(const char *golden, int64_t steps, double shift)
{
    double rows[MOST_STEPS * KW__UNIPC_COLUMNS], samples[MOST_STEPS * N];
    struct kw__program *program = solver_program(steps, shift, rows);
    const struct kw__weights none = {NULL, NULL};
    struct kw__exec *run;
    kw_error err;
    if (kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err)) fail_msg("%s", err.message);
    if (kw__exec_prepare(run, NULL, &none, &err)) fail_msg("%s", err.message);
    struct kw__plan *plan = kw__exec_plan(run, 0, 0);
    const struct kw__graph *g = plan->phase->graph;
    static const char *const history[] = {"last", "m0", "m1"};
    for (int i = 0; i < 3; i++) kw__backend_cpu.fill(plan, value_of(g, history[i]), 0);
    float x[N], v[N];
    golden_noise("latents", N, x);
    kw__backend_cpu.write(plan, value_of(g, "latents"), x, N);
    for (int64_t i = 0; i < steps; i++) {
        double timestep = rows[i * KW__UNIPC_COLUMNS + KW__UNIPC_TIMESTEP];
        for (int k = 0; k < N; k++) v[k] = (float)(sin(3 * (double)x[k]) + timestep / 1000);
        kw__backend_cpu.write(plan, value_of(g, "v"), v, N);
        if (kw__backend_cpu.run(plan, i, NULL, NULL, &err)) fail_msg("%s", err.message);
        kw__backend_cpu.read(plan, value_of(g, "latents"), x, N);
        for (int k = 0; k < N; k++) samples[i * N + k] = x[k];
    }
    compare(golden, "on the plan", samples, (size_t)steps * N);
    kw__exec_close(run);
    kw__program_free(program);
}

static void test_solver(void **state)
{
    (void)state;
    static const int steps[] = {1, 2, 3, 10, MOST_STEPS};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "solver_%d.f64", steps[i]);
        check_solver(name, steps[i], 3);
        snprintf(name, sizeof name, "solver_%d_shift_5.f64", steps[i]);
        check_solver(name, steps[i], 5);
    }
}

/* ---- Text encoding and denoising together ---------------------------------------------------------- */

static void check_denoise(const char *golden, const char *model, struct golden_size size, int vocabulary)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"}, *const rewrites[] = {NULL, "all"};
    for (int i = 0; i < 2; i++) {
        struct kept kept = {.state = "latents"};
        size.rewrite = rewrites[i];
        struct opened o = open_case(model, size, NULL, &kept);
        for (int k = 0; k < o.golden.program->request.guidance_passes; k++)
            write_tokens(&o, phases[k], (int)size.prompt_tokens[k], 3 + k, 7, vocabulary);
        write_noise(&o, "latents", "latents",
                    GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
        run_stage(&o, "text_encode");
        run_stage(&o, "denoise");
        compare(golden, o.golden.how, kept.elements, kept.count);
        close_case(&o);
    }
}

static void test_denoise(void **state)
{
    (void)state;
    check_denoise(
        "denoise.f64", "wan-tiny",
        (struct golden_size){2, 4, 4, .text_tokens = 12, .steps = 4, .guidance = 5, .prompt_tokens = {7, 1}},
        100);
    check_denoise(
        "denoise_128.f64", "wan-tiny-128",
        (struct golden_size){2, 4, 4, .text_tokens = 8, .steps = 4, .guidance = 5, .prompt_tokens = {8, 3}},
        60);
    check_denoise(
        "denoise_one_pass.f64", "wan-tiny-128",
        (struct golden_size){1, 4, 4, .text_tokens = 6, .steps = 2, .guidance = 1, .prompt_tokens = {4, 1}},
        60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_encoder), cmocka_unit_test(test_transformer),
        cmocka_unit_test(test_decode),       cmocka_unit_test(test_cached_decode_equals_uncached),
        cmocka_unit_test(test_solver),       cmocka_unit_test(test_denoise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
