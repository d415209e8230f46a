/* Whole programs through the backends: tiny models, as lowered and with all rewrites, on `cpu` in f32
 * against the float64 interpreter, in bf16 against f32; on `trace` for the plans' promises; and what
 * the runner says of states, inputs, memory, cancelling and values that are not finite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/random.h"
#include "engine/exec.h"
#include "graph/rewrite.h"
#include "model/family.h"
#include "support/interp.h"

static uint64_t seed = 3;

/* ---- Lowering ---------------------------------------------------------------------------------------- */

enum { TEXT = 16, STEPS = 2 };
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
    int64_t passes, batch, frames, prompt, negative;
};
static const struct shape shapes[] = {
    {TINY, 2, 1, 9, 5, 3}, {TINY, 1, 2, 9, 16, 1}, {TINY_128, 2, 1, 9, 1, 14}, {TINY, 2, 1, 1, 15, 16}};
enum { NUM_SHAPES = sizeof shapes / sizeof shapes[0] };

static const struct kw__dtypes all_f32 = KW__ALL_F32;
static const struct kw__dtypes mixed = {.text_encoder = KW__BF16, .denoiser = KW__BF16, .vae = KW__BF16};

static struct kw__program *lower(struct shape shape, const struct kw__dtypes *dtypes, bool rewritten)
{
    kw_error err;
    const kw_model *model = models[shape.model];
    struct kw__program *program;
    kw_request request = KW_REQUEST_INIT;
    request.width = 32;
    request.height = 48;
    request.num_frames = shape.frames;
    request.num_inference_steps = STEPS;
    request.batch_size = shape.batch;
    request.guidance_scale = shape.passes == 2 ? 5 : 1;
    request.prompt_tokens = shape.prompt;
    request.negative_tokens = shape.negative;
    kw_effective r;
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    r.text_tokens = TEXT;
    if (kw__lower(model, &r, dtypes, &program, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; rewritten && i < kw__rewrite_count(); i++)
        if (kw__rewrite_apply(program, kw__rewrite_name(i), &err)) fail_msg("%s", err.message);
    return program;
}

static const struct kw__value *value_of(const struct kw__graph *g, const char *name)
{
    for (size_t v = 1; v < g->num_values; v++)
        if (strcmp(g->values[v].name, name) == 0) return &g->values[v];
    return NULL;
}

/* The value of a name in a phase of a stage. */
static const struct kw__value *find_value(const struct kw__program *program, const char *stage, int phase,
                                          const char *name)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, stage) == 0)
            return value_of(program->stages[s].phases[phase].graph, name);
    return NULL;
}

/* ---- Inputs, the same for interpreter and backends ----------------------------------------------------- */

static size_t fill_ids(const struct kw__program *program, int pass, double *ids, double *lengths)
{
    const kw_effective *r = &program->request;
    const struct kw__value *value = find_value(program, "text_encode", pass, "ids");
    assert_non_null(value);
    int64_t tokens = pass ? r->negative_tokens : r->prompt_tokens;
    for (int64_t b = 0; b < r->batch_size; b++) {
        for (int64_t i = 0; i < value->dim[1]; i++)
            ids[b * value->dim[1] + i] = i < tokens ? (double)((2 + 7 * i + 3 * b) % 50) : 0;
        lengths[b] = (double)tokens;
    }
    return (size_t)kw__elements(value);
}

static float *noise(size_t count)
{
    float *out = malloc(count * sizeof *out);
    assert_non_null(out);
    struct kw__random stream = kw__random_stream("noise", "latents", seed);
    kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, 0, count, out);
    return out;
}

static size_t latent_count(const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    return (size_t)(r->batch_size * r->latent_channels * r->latent_frames * r->latent_height *
                    r->latent_width);
}

static size_t frame_count(const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    return (size_t)(r->batch_size * r->num_frames * r->height * r->width * 3);
}

struct result {
    double *latents, *frames;
};

static void free_result(struct result *result)
{
    free(result->latents);
    free(result->frames);
}

static const char *const phases[2] = {"prompt", "negative_prompt"};

static double *copy_state(const struct interp *it, const char *name)
{
    struct interp_array array = interp_get(it, name);
    assert_non_null(array.data);
    double *copy = malloc(array.count * sizeof *copy);
    assert_non_null(copy);
    return memcpy(copy, array.data, array.count * sizeof *copy);
}

static struct result interpret(const struct kw__program *program)
{
    struct interp *it = interp_new(program, interp_random_weights, &seed);
    double ids[4 * TEXT] = {0}, lengths[4];
    char name[64];
    for (int pass = 0; pass < program->request.guidance_passes; pass++) {
        size_t count = fill_ids(program, pass, ids, lengths);
        snprintf(name, sizeof name, "%s/ids", phases[pass]);
        interp_set(it, name, ids, count);
        snprintf(name, sizeof name, "%s/length", phases[pass]);
        interp_set(it, name, lengths, (size_t)program->request.batch_size);
    }
    size_t count = latent_count(program);
    float *x = noise(count);
    double *wide = malloc(count * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++) wide[i] = x[i];
    interp_set(it, "latents", wide, count);
    free(wide);
    free(x);
    static const char *const stages[] = {"text_encode", "denoise", "decode"};
    struct result result = {0};
    for (int s = 0; s < 3; s++)
        if (!interp_run(it, stages[s])) fail_msg("%s: %s", stages[s], interp_error(it));
    result.latents = copy_state(it, "latents");
    result.frames = copy_state(it, "frames");
    interp_free(it);
    return result;
}

/* ---- Through a backend ----------------------------------------------------------------------------- */

static void write_inputs(struct kw__exec *run, const struct kw__program *program)
{
    kw_error err;
    double ids[4 * TEXT] = {0}, lengths[4];
    float narrow[4 * TEXT];
    char name[64];
    for (int pass = 0; pass < program->request.guidance_passes; pass++) {
        size_t count = fill_ids(program, pass, ids, lengths);
        for (size_t i = 0; i < count; i++) narrow[i] = (float)ids[i];
        snprintf(name, sizeof name, "%s/ids", phases[pass]);
        if (kw__exec_write(run, name, narrow, count, &err)) fail_msg("%s", err.message);
        for (int64_t b = 0; b < program->request.batch_size; b++) narrow[b] = (float)lengths[b];
        snprintf(name, sizeof name, "%s/length", phases[pass]);
        if (kw__exec_write(run, name, narrow, (size_t)program->request.batch_size, &err))
            fail_msg("%s", err.message);
    }
    float *x = noise(latent_count(program));
    if (kw__exec_write(run, "latents", x, latent_count(program), &err)) fail_msg("%s", err.message);
    free(x);
}

static struct kw__exec *open_run(const struct kw__backend *backend, const struct kw__exec_options *options,
                                 const struct kw__program *program)
{
    kw_error err;
    struct kw__exec *run;
    struct kw__weights weights;
    char spec[64];
    snprintf(spec, sizeof spec, "random:%d", (int)seed);
    if (kw__exec_open(backend, options, program, &run, &err)) fail_msg("%s", err.message);
    if (kw__weights_open(spec, program, &weights, &err)) fail_msg("%s", err.message);
    if (kw__exec_prepare(run, NULL, &weights, &err)) fail_msg("%s", err.message);
    kw__weights_close(&weights);
    write_inputs(run, program);
    return run;
}

static void run_stage(struct kw__exec *run, const char *stage)
{
    kw_error err;
    if (kw__exec_stage(run, stage, &err)) fail_msg("%s: %s", stage, err.message);
}

static double *read_state(struct kw__exec *run, const char *name, size_t count)
{
    kw_error err;
    float *x = malloc(count * sizeof *x);
    double *wide = malloc(count * sizeof *wide);
    assert_true(x && wide);
    if (kw__exec_read(run, name, x, count, &err)) fail_msg("%s: %s", name, err.message);
    for (size_t i = 0; i < count; i++) wide[i] = x[i];
    free(x);
    return wide;
}

static struct result run_all(struct kw__exec *run, const struct kw__program *program)
{
    struct result result;
    run_stage(run, "text_encode");
    run_stage(run, "denoise");
    result.latents = read_state(run, "latents", latent_count(program));
    run_stage(run, "decode");
    result.frames = read_state(run, "frames", frame_count(program));
    return result;
}

static struct result compute(const struct kw__backend *backend, const struct kw__program *program)
{
    struct kw__exec *run = open_run(backend, NULL, program);
    struct result result = run_all(run, program);
    kw__exec_close(run);
    return result;
}

static bool has_bf16(void)
{
    struct kw__program *program = lower(shapes[0], &mixed, false);
    struct kw__exec *run = NULL;
    kw_error err;
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err);
    if (status) assert_non_null(strstr(err.message, "AVX512_BF16"));
    kw__exec_close(run);
    kw__program_free(program);
    return !status;
}

/* ---- cpu against the interpreter ------------------------------------------------------------------- */

static void check_close(const char *what, size_t shape, const double *got, const double *wanted, size_t count,
                        double allowed)
{
    double error = interp_relative_error(got, wanted, count);
    if (getenv("VERBOSE")) print_message("%s, shape %zu: %.3g\n", what, shape, error);
    if (!(error <= allowed))
        fail_msg("%s, shape %zu: relative error %.3g, allowed %.3g", what, shape, error, allowed);
}

/* Two steps, then the decoder, whose norms over 2 and 4 channels enlarge what the steps were off by. */
static void check_f32(bool rewritten)
{
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct kw__program *program = lower(shapes[i], &all_f32, rewritten);
        struct result wanted = interpret(program), got = compute(&kw__backend_cpu, program);
        check_close("latents", i, got.latents, wanted.latents, latent_count(program), 1e-5);
        check_close("frames", i, got.frames, wanted.frames, frame_count(program), 1e-4);
        free_result(&wanted);
        free_result(&got);
        kw__program_free(program);
    }
}

static void test_f32_as_lowered(void **state)
{
    (void)state;
    check_f32(false);
}

static void test_f32_rewritten(void **state)
{
    (void)state;
    check_f32(true);
}

/* ---- bf16 against f32 ------------------------------------------------------------------------------ */

/* The output of the last pass's transformer in the first step. */
struct forward {
    double *v;
    size_t count;
};

static bool keep_forward(void *user, struct kw__plan *plan, size_t i)
{
    struct forward *f = user;
    const struct kw__graph *g = plan->phase->graph;
    if (g->ops[i].code != KW__UNPATCHIFY || f->v) return true;
    f->count = (size_t)kw__elements(&g->values[g->ops[i].output[0]]);
    float *x = malloc(f->count * sizeof *x);
    f->v = malloc(f->count * sizeof *f->v);
    assert_true(x && f->v);
    kw__backend_cpu.read(plan, g->ops[i].output[0], x, f->count);
    for (size_t k = 0; k < f->count; k++) f->v[k] = x[k];
    free(x);
    return true;
}

static struct forward forward(struct shape shape, const struct kw__dtypes *dtypes)
{
    struct forward f = {0};
    struct kw__program *program = lower(shape, dtypes, true);
    struct kw__exec_options options = {.user = &f, .after = keep_forward};
    struct kw__exec *run = open_run(&kw__backend_cpu, &options, program);
    run_stage(run, "text_encode");
    run_stage(run, "denoise");
    kw__exec_close(run);
    kw__program_free(program);
    assert_non_null(f.v);
    return f;
}

static void test_bf16_forward(void **state)
{
    (void)state;
    if (!has_bf16()) skip();
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct forward wanted = forward(shapes[i], &all_f32), got = forward(shapes[i], &mixed);
        assert_int_equal(got.count, wanted.count);
        check_close("forward in bf16", i, got.v, wanted.v, got.count, 5e-3);
        free(wanted.v);
        free(got.v);
    }
}

/* ---- Plans ----------------------------------------------------------------------------------------- */

struct plan_bytes {
    double sum, worst; /* of all values; of those alive at once */
};

/* Bytes of the workspace storages: together, and at the operator where most are alive. */
static struct plan_bytes bytes_of(const struct kw__plan *plan)
{
    struct plan_bytes b = {0, 0};
    const struct kw__memory *m = &plan->memory;
    for (size_t s = 0; s < m->num_storages; s++)
        if (!m->storages[s].state) b.sum += (double)m->storages[s].bytes;
    for (int i = -1; i <= (int)plan->phase->graph->num_ops; i++) {
        double alive = 0;
        for (size_t s = 0; s < m->num_storages; s++)
            if (!m->storages[s].state && m->storages[s].first <= i && m->storages[s].last >= i)
                alive += (double)((m->storages[s].bytes + KW__ALIGNMENT - 1) / KW__ALIGNMENT * KW__ALIGNMENT);
        if (alive > b.worst) b.worst = alive;
    }
    return b;
}

static void check_plans(const struct kw__backend *backend, const struct kw__dtypes *dtypes, bool rewritten)
{
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct kw__program *program = lower(shapes[i], dtypes, rewritten);
        struct kw__exec *run;
        kw_error err;
        if (kw__exec_open(backend, NULL, program, &run, &err)) fail_msg("%s", err.message);
        for (int s = 0; s < program->num_stages; s++)
            for (int p = 0; p < program->stages[s].num_phases; p++) {
                const struct kw__plan *plan = kw__exec_plan(run, s, p);
                assert_int_equal(!plan, program->stages[s].phases[p].calls < 1);
                if (!plan) continue;
                if (kw__memory_check(plan->phase->graph, &plan->rules, &plan->memory, &err))
                    fail_msg("%s of shape %zu: %s", plan->phase->name, i, err.message);
                struct plan_bytes b = bytes_of(plan);
                double planned = (double)plan->memory.workspace_bytes;
                assert_true(planned >= b.worst);
                if (planned > 1.25 * b.worst) /* fragments are few */
                    fail_msg("%s of shape %zu: %g bytes planned, %g alive at once", plan->phase->name, i,
                             planned, b.worst);
            }
        kw__exec_close(run);
        kw__program_free(program);
    }
}

static void test_plans_keep_values(void **state)
{
    (void)state;
    check_plans(&kw__backend_cpu, &all_f32, false);
    check_plans(&kw__backend_cpu, &all_f32, true);
    check_plans(&kw__backend_trace, &mixed, false);
    check_plans(&kw__backend_trace, &mixed, true);
    if (has_bf16()) check_plans(&kw__backend_cpu, &mixed, true);
}

static void test_trace_sees_its_stamps(void **state)
{
    (void)state;
    for (int rewritten = 0; rewritten < 2; rewritten++)
        for (size_t i = 0; i < NUM_SHAPES; i++) {
            struct kw__program *program = lower(shapes[i], &mixed, rewritten);
            struct kw__exec *run = open_run(&kw__backend_trace, NULL, program);
            run_stage(run, "text_encode");
            run_stage(run, "denoise");
            run_stage(run, "decode");
            struct kw__trace seen = kw__trace_of(kw__exec_device(run));
            int64_t iterations = 0;
            for (int s = 0; s < program->num_stages; s++)
                for (int p = 0; p < program->stages[s].num_phases; p++)
                    iterations += program->stages[s].phases[p].calls;
            assert_int_equal(seen.iterations, iterations);
            assert_int_equal(seen.allocations, 1); /* states and workspace, before the first stage */
            kw__exec_close(run);
            kw__program_free(program);
        }
}

/* A plan with a mistake in it is seen by both checks. */
static void test_check_finds_an_overlap(void **state)
{
    (void)state;
    struct kw__program *program = lower(shapes[0], &all_f32, false);
    struct kw__exec *run = open_run(&kw__backend_trace, NULL, program);
    struct kw__plan *plan = kw__exec_plan(run, 1, 0);
    struct kw__memory *m = &plan->memory;
    kw_error err;
    for (size_t s = 0; s < m->num_storages; s++)
        if (!m->storages[s].state && m->storages[s].last > m->storages[s].first + 3)
            m->storages[s].offset = 0;
    assert_int_equal(kw__memory_check(plan->phase->graph, &plan->rules, m, &err), KW_ERROR_FORMAT);
    kw__exec_close(run);
    kw__program_free(program);
}

/* ---- The runner ------------------------------------------------------------------------------------ */

static void test_same_bytes_again(void **state)
{
    (void)state;
    struct kw__program *program = lower(shapes[0], &all_f32, true);
    struct kw__exec *run = open_run(&kw__backend_cpu, NULL, program);
    struct result first = run_all(run, program);
    kw__exec_restart(run);
    write_inputs(run, program);
    struct result second = run_all(run, program);
    assert_memory_equal(first.latents, second.latents, latent_count(program) * sizeof(double));
    assert_memory_equal(first.frames, second.frames, frame_count(program) * sizeof(double));
    free_result(&first);
    free_result(&second);
    kw__exec_close(run);
    kw__program_free(program);
}

struct watch {
    int stages, calls;
    double last;
    size_t stop_after;
};

static bool watch_progress(void *user, const struct kw__progress *at)
{
    struct watch *w = user;
    assert_true(at->done >= w->last && at->done <= 1 + 1e-9);
    assert_in_range(at->op, 1, at->ops);
    w->last = at->done;
    w->calls++;
    return !w->stop_after || (size_t)w->calls < w->stop_after;
}

static void watch_stage(void *user, const char *stage, bool begins)
{
    struct watch *w = user;
    assert_string_equal(stage, "decode");
    w->stages += begins ? 1 : 10;
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    struct kw__program *program = lower(shapes[0], &all_f32, true);
    struct watch w = {0};
    struct kw__exec_options options = {.user = &w, .progress = watch_progress, .stage = watch_stage};
    struct kw__exec *run = open_run(&kw__backend_cpu, &options, program);
    kw_error err;
    run_stage(run, "decode");
    assert_int_equal(w.stages, 11);
    assert_true(fabs(w.last - 1) < 1e-9);
    w = (struct watch){.stop_after = 7};
    kw__exec_restart(run);
    assert_int_equal(kw__exec_stage(run, "decode", &err), KW_ERROR_CANCELLED);
    assert_int_equal(w.calls, 7);
    assert_int_equal(w.stages, 11); /* the window is closed */
    kw__exec_close(run);
    kw__program_free(program);
}

static void test_not_finite_is_named(void **state)
{
    (void)state;
    struct kw__program *program = lower(shapes[0], &all_f32, true);
    struct kw__exec_options options = {.check_finite = true};
    struct kw__exec *run = open_run(&kw__backend_cpu, &options, program);
    kw_error err;
    run_stage(run, "text_encode");
    float *x = noise(latent_count(program));
    x[3] = NAN;
    assert_int_equal(kw__exec_write(run, "latents", x, latent_count(program), &err), KW_OK);
    free(x);
    assert_int_equal(kw__exec_stage(run, "denoise", &err), KW_ERROR_FORMAT);
    assert_non_null(strstr(err.message, "not finite"));
    assert_non_null(strstr(err.message, "patch_embedding"));
    kw__exec_close(run);
    kw__program_free(program);
}

/* One element among 70000, anywhere: NaN of both signs, infinity; the largest number is none of them. */
static void test_each_element_is_looked_at(void **state)
{
    (void)state;
    enum { COUNT = 70001 };
    static const size_t places[] = {0, 1, 31, 4096, 34999, COUNT - 2, COUNT - 1};
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    static float x[COUNT];
    for (int d = 0; d < 2; d++) {
        const kw_effective request = {0};
        const struct kw__exec_options options = {.check_finite = true};
        struct kw__program *program = kw__program_new(&request, &all_f32);
        struct kw__graph *g = kw__stage_phase(program, kw__program_stage(program, "run"), "one", 1);
        int in = kw__input(g, "x", KW__F32, KW__PASS, 1, (int64_t[]){COUNT});
        kw__op(g, KW__CAST, NULL, d ? KW__BF16 : KW__F32, 1, &in);
        struct kw__exec *run = NULL;
        kw_error err;
        kw_status status = kw__exec_open(&kw__backend_cpu, &options, program, &run, &err);
        if (status == KW_ERROR_UNSUPPORTED) { /* the CPU has no bf16 */
            kw__program_free(program);
            continue;
        }
        struct kw__weights weights;
        assert_int_equal(status, KW_OK);
        assert_int_equal(kw__weights_open("random", program, &weights, NULL), KW_OK);
        assert_int_equal(kw__exec_prepare(run, NULL, &weights, NULL), KW_OK);
        kw__weights_close(&weights);
        for (int k = 0; k < 5 * 7; k++) {
            for (size_t i = 0; i < COUNT; i++) x[i] = i % 2 ? -1e30f : 1e30f;
            x[places[k % 7]] = k / 7 < 4 ? bad[k / 7] : 0x1.FEp127f;
            assert_int_equal(kw__exec_write(run, "x", x, COUNT, NULL), KW_OK);
            kw__exec_restart(run);
            assert_int_equal(kw__exec_stage(run, "run", &err), k / 7 < 4 ? KW_ERROR_FORMAT : KW_OK);
        }
        kw__exec_close(run);
        kw__program_free(program);
    }
}

static void test_bad_inputs(void **state)
{
    (void)state;
    struct kw__program *program = lower(shapes[0], &all_f32, false);
    struct kw__exec *run = open_run(&kw__backend_cpu, NULL, program);
    kw_error err;
    float ids[TEXT] = {0}, x;
    ids[2] = 100; /* the vocabulary has 100 */
    assert_int_equal(kw__exec_write(run, "prompt/ids", ids, TEXT, &err), KW_OK);
    assert_int_equal(kw__exec_stage(run, "text_encode", &err), KW_ERROR_USAGE);
    assert_non_null(strstr(err.message, "id 100"));
    assert_int_equal(kw__exec_write(run, "prompt/ids", ids, 3, &err), KW_OK);
    assert_int_equal(kw__exec_stage(run, "text_encode", &err), KW_ERROR_USAGE);
    assert_int_equal(kw__exec_stage(run, "nothing", &err), KW_ERROR_NOT_FOUND);
    assert_int_equal(kw__exec_read(run, "frames", &x, 1, &err), KW_ERROR_USAGE); /* not alive yet */
    assert_int_equal(kw__exec_read(run, "nothing", &x, 1, &err), KW_ERROR_NOT_FOUND);
    kw__exec_close(run);
    kw__program_free(program);
}

/* No rows, no columns or no batch: refused while compiling, with the operator's name. */
static void test_empty_operands(void **state)
{
    (void)state;
    static const enum kw__opcode codes[] = {KW__ADD, KW__SILU, KW__LAYERNORM, KW__TO_HOST, KW__LINEAR};
    static const int64_t dims[3][3] = {{0, 4, 8}, {1, 0, 8}, {1, 4, 0}};
    for (int i = 0; i < 5 * 3; i++) {
        const kw_effective request = {0};
        struct kw__program *program = kw__program_new(&request, &all_f32);
        struct kw__graph *g = kw__stage_phase(program, kw__program_stage(program, "run"), "one", 1);
        g->tensors = "test";
        int x = kw__input(g, "x", KW__F32, KW__PASS, 3, dims[i % 3]), both[] = {x, x};
        if (codes[i / 3] == KW__LINEAR) both[1] = kw__weight(g, "w", KW__F32, KW__DIMS(5, dims[i % 3][2]));
        int inputs = kw__op_info(codes[i / 3])->least_inputs;
        assert_int_not_equal(kw__op(g, codes[i / 3], NULL, KW__F32, inputs, both), 0);
        struct kw__exec *run = NULL;
        kw_error err;
        assert_int_equal(kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err), KW_ERROR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "no elements"));
        assert_non_null(strstr(err.message, kw__op_info(codes[i / 3])->name));
        kw__program_free(program);
    }
}

static void test_dump(void **state)
{
    (void)state;
    char folder[] = "/tmp/kinowatt_dump_XXXXXX", path[512], line[512];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("KINOWATT_DUMP", folder, 1), 0);
    struct kw__program *program = lower(shapes[0], &all_f32, true);
    struct kw__exec *run = open_run(&kw__backend_cpu, NULL, program);
    unsetenv("KINOWATT_DUMP");
    run_stage(run, "decode");
    snprintf(path, sizeof path, "%s/index.txt", folder);
    FILE *index = fopen(path, "r");
    assert_non_null(index);
    int lines = 0;
    while (fgets(line, sizeof line, index)) {
        char name[256], dtype[8];
        long long dim[KW__MAX_DIMS], count = 1;
        int n = sscanf(line, "%255s %7s %lld %lld %lld %lld %lld", name, dtype, &dim[0], &dim[1], &dim[2],
                       &dim[3], &dim[4]);
        assert_true(n > 2);
        for (int i = 0; i < n - 2; i++) count *= dim[i];
        snprintf(path, sizeof path, "%s/%s.f32", folder, name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        fseek(file, 0, SEEK_END);
        assert_int_equal(ftell(file), count * 4);
        fclose(file);
        remove(path);
        lines++;
    }
    fclose(index);
    assert_true(lines > 50);
    snprintf(path, sizeof path, "%s/index.txt", folder);
    remove(path);
    rmdir(folder);
    kw__exec_close(run);
    kw__program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_as_lowered),
        cmocka_unit_test(test_f32_rewritten),
        cmocka_unit_test(test_bf16_forward),
        cmocka_unit_test(test_plans_keep_values),
        cmocka_unit_test(test_trace_sees_its_stamps),
        cmocka_unit_test(test_check_finds_an_overlap),
        cmocka_unit_test(test_same_bytes_again),
        cmocka_unit_test(test_progress_and_cancel),
        cmocka_unit_test(test_not_finite_is_named),
        cmocka_unit_test(test_bad_inputs),
        cmocka_unit_test(test_empty_operands),
        cmocka_unit_test(test_each_element_is_looked_at),
        cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
