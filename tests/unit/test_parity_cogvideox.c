/* CogVideoX's graphs compute what diffusers computes: as test_parity.c, on the tiny models
 * tests/golden/cogvideox-tiny (fixed positions, as 2b) and cogvideox-tiny-rotary (as 5b), with the cases of
 * tools/reference/make_cogvideox.py; and the cpu backend in f32 computes the same to 1e-4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec.h"
#include "engine/solvers.h"
#include "graph/rewrite.h"
#include "support/golden.h"
#include "support/interp.h"

/* The files are float64 sums in another order, or rounded to float32 once. */
static const double tolerance_f64 = 1e-12, tolerance_f32 = 1e-7;

enum { TEXT_DIM = 24, VOCABULARY = 60 };
static uint64_t seed = GOLDEN_SEED;

static void compare(const char *name, const char *how, const double *got, size_t count)
{
    assert_non_null(got);
    double *wanted = golden_read(name, count);
    double error = interp_relative_error(got, wanted, count);
    double tolerance = strstr(name, ".f32") ? tolerance_f32 : tolerance_f64;
    free(wanted);
    if (!(error <= tolerance))
        fail_msg("%s, %s: relative error %.3g, allowed %.3g", name, how, error, tolerance);
}

static void set_noise(struct interp *it, const char *input, const char *name, size_t count)
{
    float *noise = calloc(count, sizeof *noise);
    double *elements = calloc(count, sizeof *elements);
    assert_true(noise && elements);
    golden_noise(name, count, noise);
    for (size_t i = 0; i < count; i++) elements[i] = noise[i];
    interp_set(it, input, elements, count);
    free(elements);
    free(noise);
}

struct lowered {
    struct golden_case golden;
    struct interp *it;
};

static struct lowered lower(const char *model, struct golden_size size)
{
    size.resolved = true;
    struct lowered l = {.golden = golden_lower(model, size)};
    l.it = interp_new(l.golden.program, interp_random_weights, &seed);
    size_t batch = (size_t)l.golden.program->request.batch_size;
    set_noise(l.it, "latents", "latents",
              batch * GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
    return l;
}

static void release(struct lowered *l)
{
    interp_free(l->it);
    golden_release(&l->golden);
}

static void run(struct lowered *l, const char *stage)
{
    if (!interp_run(l->it, stage)) fail_msg("%s, %s: %s", stage, l->golden.how, interp_error(l->it));
}

/* ---- Transformer ----------------------------------------------------------------------------- */

/* One pass: what DEPTH_TO_SPACE gives in the one step of a schedule with our timestep. */
static void check_transformer(const char *golden, const char *model, struct golden_size size, double timestep)
{
    size.guidance = 1;
    struct lowered l = lower(model, size);
    size_t batch = (size_t)l.golden.program->request.batch_size;
    set_noise(l.it, "text.0", "text", batch * (size_t)(size.text_tokens * TEXT_DIM));
    struct kw__phase *phase = golden_phase(&l.golden, "denoise", "step");
    assert_non_null(phase);
    double row[KW__STEP_COLUMNS + 2];
    assert_int_equal(phase->table.columns, KW__STEP_COLUMNS + 2);
    memcpy(row, phase->table.rows, sizeof row);
    row[KW__STEP_TIMESTEP] = timestep;
    phase->table.rows = row;
    run(&l, "denoise");
    const struct kw__graph *g = phase->graph;
    const char *output = NULL;
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__DEPTH_TO_SPACE) output = g->values[g->ops[i].output[0]].name;
    assert_non_null(output);
    struct interp_array v = interp_get(l.it, output);
    compare(golden, l.golden.how, v.data, v.count);
    release(&l);
}

static void transformer_with_fixed_positions(void **state)
{
    (void)state;
    check_transformer("cogvideox_transformer.f64", "cogvideox-tiny",
                      (struct golden_size){.frames = 1, .height = 2, .width = 4, .text_tokens = 6}, 999);
    check_transformer(
        "cogvideox_transformer_batch.f64", "cogvideox-tiny",
        (struct golden_size){.frames = 3, .height = 4, .width = 2, .batch = 2, .text_tokens = 5}, 421);
}

static void transformer_with_rotary_positions(void **state)
{
    (void)state;
    check_transformer("cogvideox_transformer_rotary.f64", "cogvideox-tiny-rotary",
                      (struct golden_size){.frames = 2, .height = 8, .width = 12, .text_tokens = 5}, 37);
}

/* Sizes of another aspect ratio than that of training are spread over a part of it. */
static void rotary_positions_of_other_sizes(void **state)
{
    (void)state;
    check_transformer("cogvideox_transformer_rotary_tall.f64", "cogvideox-tiny-rotary",
                      (struct golden_size){.frames = 2, .height = 6, .width = 2, .text_tokens = 3}, 700);
    check_transformer("cogvideox_transformer_rotary_wide.f64", "cogvideox-tiny-rotary",
                      (struct golden_size){.frames = 1, .height = 4, .width = 14, .text_tokens = 3}, 700);
}

/* ---- VAE decoder ----------------------------------------------------------------------------- */

/* The file has all frames, or the first and the last. */
static void check_decode(const char *golden, const char *model, struct golden_size size, int64_t frames,
                         bool ends)
{
    size.text_tokens = 1;
    struct lowered l = lower(model, size);
    run(&l, "decode");
    struct interp_array got = interp_get(l.it, "frames");
    assert_int_equal(got.ndim, 5);
    assert_int_equal(got.dim[1], frames);
    size_t frame = got.count / (size_t)frames, count = ends ? 2 * frame : got.count;
    double *kept = calloc(count, sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, got.data, count * sizeof *kept);
    if (ends) memcpy(kept + frame, got.data + got.count - frame, frame * sizeof *kept);
    compare(golden, l.golden.how, kept, count);
    free(kept);
    release(&l);
}

static void decode_one_latent_frame(void **state)
{
    (void)state;
    check_decode("cogvideox_decode_1.f32", "cogvideox-tiny",
                 (struct golden_size){.frames = 1, .height = 2, .width = 4}, 1, false);
}

static void decode_in_chunks(void **state)
{
    (void)state;
    check_decode("cogvideox_decode_2.f32", "cogvideox-tiny",
                 (struct golden_size){.frames = 2, .height = 2, .width = 2}, 8, false);
    check_decode("cogvideox_decode_5.f32", "cogvideox-tiny",
                 (struct golden_size){.frames = 5, .height = 2, .width = 2}, 17, false);
    check_decode("cogvideox_decode_6.f32", "cogvideox-tiny-rotary",
                 (struct golden_size){.frames = 6, .height = 2, .width = 2}, 12, false);
}

static void decode_in_tiles(void **state)
{
    (void)state;
    check_decode("cogvideox_tiled.f32", "cogvideox-tiny-rotary",
                 (struct golden_size){.frames = 5, .height = 6, .width = 6, .tiled = true}, 9, true);
    check_decode("cogvideox_tiled_rows.f32", "cogvideox-tiny",
                 (struct golden_size){.frames = 1, .height = 12, .width = 4, .tiled = true}, 1, false);
}

/* What is no larger than a tile is decoded whole, as the class does. */
static void small_clips_are_not_tiled(void **state)
{
    (void)state;
    check_decode("cogvideox_decode_5.f32", "cogvideox-tiny",
                 (struct golden_size){.frames = 5, .height = 2, .width = 2, .tiled = true}, 17, false);
}

/* ---- Text encoding and denoising together ---------------------------------------------------- */

struct trajectory {
    double samples[4 * GOLDEN_CHANNELS * 64];
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

static void check_denoise(const char *golden, const char *model, struct golden_size size)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct lowered l = lower(model, size);
    struct trajectory t = {.count = 0};
    for (int i = 0; i < l.golden.program->request.guidance_passes; i++) {
        char name[64];
        double ids[256];
        int length = (int)size.prompt_tokens[i];
        size_t width = golden_tokens(&l.golden, phases[i], length, 3 + i, 7, VOCABULARY, ids);
        snprintf(name, sizeof name, "%s/ids", phases[i]);
        interp_set(l.it, name, ids, width);
        snprintf(name, sizeof name, "%s/length", phases[i]);
        interp_set_scalar(l.it, name, length);
    }
    interp_observe(l.it, keep_latents, &t);
    run(&l, "text_encode");
    run(&l, "denoise");
    compare(golden, l.golden.how, t.samples, t.count);
    release(&l);
}

static void check_pipelines(const char *rewrite)
{
    check_denoise("cogvideox_denoise.f64", "cogvideox-tiny",
                  (struct golden_size){.frames = 2,
                                       .height = 4,
                                       .width = 2,
                                       .text_tokens = 9,
                                       .steps = 4,
                                       .guidance = 6,
                                       .prompt_tokens = {7, 1},
                                       .rewrite = rewrite});
    check_denoise("cogvideox_denoise_rotary.f64", "cogvideox-tiny-rotary",
                  (struct golden_size){.frames = 2,
                                       .height = 4,
                                       .width = 4,
                                       .text_tokens = 8,
                                       .steps = 4,
                                       .guidance = 6,
                                       .prompt_tokens = {8, 3},
                                       .rewrite = rewrite});
    check_denoise("cogvideox_denoise_one_pass.f64", "cogvideox-tiny-rotary",
                  (struct golden_size){.frames = 1,
                                       .height = 4,
                                       .width = 4,
                                       .text_tokens = 6,
                                       .steps = 2,
                                       .guidance = 1,
                                       .prompt_tokens = {4, 1},
                                       .rewrite = rewrite});
}

static void denoise_both_prompts_in_one_batch(void **state)
{
    (void)state;
    check_pipelines(NULL);
}

static void rewrites_leave_the_result(void **state)
{
    (void)state;
    for (size_t i = 0; i <= kw__rewrite_count(); i++) {
        const char *name = i < kw__rewrite_count() ? kw__rewrite_name(i) : "all";
        check_pipelines(name);
        check_decode("cogvideox_decode_2.f32", "cogvideox-tiny",
                     (struct golden_size){.frames = 2, .height = 2, .width = 2, .rewrite = name}, 8, false);
    }
}

/* ---- On the CPU ---------------------------------------------------------------------------------- */

struct opened {
    struct golden_case golden;
    struct kw__exec *run;
};

static void write_noise(struct opened *o, size_t count)
{
    kw_error err;
    float *noise = calloc(count, sizeof *noise);
    assert_non_null(noise);
    golden_noise("latents", count, noise);
    if (kw__exec_write(o->run, "latents", noise, count, &err)) fail_msg("%s", err.message);
    free(noise);
}

static struct opened open_cpu(const char *model, struct golden_size size)
{
    size.resolved = true;
    struct opened o = {.golden = golden_lower(model, size)};
    const struct kw__exec_options options = {.user = NULL};
    struct kw__weights weights;
    kw_error err;
    if (kw__exec_open(&kw__backend_cpu, &options, o.golden.program, &o.run, &err))
        fail_msg("%s", err.message);
    if (kw__weights_open("random:1", o.golden.program, &weights, &err)) fail_msg("%s", err.message);
    if (kw__exec_prepare(o.run, NULL, &weights, &err)) fail_msg("%s", err.message);
    kw__weights_close(&weights);
    write_noise(&o, GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width));
    return o;
}

static void run_cpu(struct opened *o, const char *stage)
{
    kw_error err;
    if (kw__exec_stage(o->run, stage, &err)) fail_msg("%s, %s: %s", stage, o->golden.how, err.message);
}

/* The state against elements [from, from + count) of a file of `total`. */
static void compare_cpu(struct opened *o, const char *golden, const char *state, size_t total, size_t from,
                        size_t count)
{
    double *wanted = golden_read(golden, total), *wide = calloc(count, sizeof *wide);
    float *got = calloc(count, sizeof *got);
    kw_error err;
    assert_true(wide && got);
    if (kw__exec_read(o->run, state, got, count, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < count; i++) wide[i] = got[i];
    double error = interp_relative_error(wide, wanted + from, count);
    if (!(error <= 1e-4)) fail_msg("%s, %s on the CPU: relative error %.3g", golden, o->golden.how, error);
    free(wanted);
    free(wide);
    free(got);
}

/* The latents after the last step. */
static void check_cpu_denoise(const char *golden, const char *model, struct golden_size size)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct opened o = open_cpu(model, size);
    for (int pass = 0; pass < (size.guidance > 1 ? 2 : 1); pass++) {
        double ids[256];
        float narrow[256], length = (float)size.prompt_tokens[pass];
        char name[64];
        kw_error err;
        size_t width = golden_tokens(&o.golden, phases[pass], (int)length, 3 + pass, 7, VOCABULARY, ids);
        for (size_t i = 0; i < width; i++) narrow[i] = (float)ids[i];
        snprintf(name, sizeof name, "%s/ids", phases[pass]);
        assert_int_equal(kw__exec_write(o.run, name, narrow, width, &err), KW_OK);
        snprintf(name, sizeof name, "%s/length", phases[pass]);
        assert_int_equal(kw__exec_write(o.run, name, &length, 1, &err), KW_OK);
    }
    run_cpu(&o, "text_encode");
    run_cpu(&o, "denoise");
    size_t count = GOLDEN_CHANNELS * (size_t)(size.frames * size.height * size.width);
    size_t steps = (size_t)size.steps;
    compare_cpu(&o, golden, "latents", steps * count, (steps - 1) * count, count);
    kw__exec_close(o.run);
    golden_release(&o.golden);
}

static void check_cpu_decode(const char *golden, const char *model, struct golden_size size, size_t frames)
{
    size.text_tokens = 2;
    struct opened o = open_cpu(model, size);
    run_cpu(&o, "decode");
    size_t count = frames * (size_t)(8 * size.height * 8 * size.width) * 3;
    compare_cpu(&o, golden, "frames", count, 0, count);
    kw__exec_close(o.run);
    golden_release(&o.golden);
}

static void the_cpu_computes_the_same(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        const char *name = all ? "all" : NULL;
        check_cpu_denoise("cogvideox_denoise.f64", "cogvideox-tiny",
                          (struct golden_size){.frames = 2,
                                               .height = 4,
                                               .width = 2,
                                               .text_tokens = 9,
                                               .steps = 4,
                                               .guidance = 6,
                                               .prompt_tokens = {7, 1},
                                               .rewrite = name});
        check_cpu_denoise("cogvideox_denoise_rotary.f64", "cogvideox-tiny-rotary",
                          (struct golden_size){.frames = 2,
                                               .height = 4,
                                               .width = 4,
                                               .text_tokens = 8,
                                               .steps = 4,
                                               .guidance = 6,
                                               .prompt_tokens = {8, 3},
                                               .rewrite = name});
        check_cpu_decode("cogvideox_decode_5.f32", "cogvideox-tiny",
                         (struct golden_size){.frames = 5, .height = 2, .width = 2, .rewrite = name}, 17);
        check_cpu_decode("cogvideox_decode_6.f32", "cogvideox-tiny-rotary",
                         (struct golden_size){.frames = 6, .height = 2, .width = 2, .rewrite = name}, 12);
        check_cpu_decode(
            "cogvideox_tiled_rows.f32", "cogvideox-tiny",
            (struct golden_size){.frames = 1, .height = 12, .width = 4, .tiled = true, .rewrite = name}, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformer_with_fixed_positions),
        cmocka_unit_test(transformer_with_rotary_positions),
        cmocka_unit_test(rotary_positions_of_other_sizes),
        cmocka_unit_test(decode_one_latent_frame),
        cmocka_unit_test(decode_in_chunks),
        cmocka_unit_test(decode_in_tiles),
        cmocka_unit_test(small_clips_are_not_tiled),
        cmocka_unit_test(denoise_both_prompts_in_one_batch),
        cmocka_unit_test(rewrites_leave_the_result),
        cmocka_unit_test(the_cpu_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
