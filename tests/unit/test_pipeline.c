/* From prompt to frames on a tiny model: against the interpreter, from run to run, with checkpoints that
 * are good, poisoned or incomplete, with prompts of all kinds, under meters that fail, and stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/machine.h"
#include "engine/measure.h"
#include "engine/pipeline.h"
#include "engine/random.h"
#include "model/family.h"
#include "support/checkpoint.h"
#include "support/folder.h"
#include "support/interp.h"

static kw_catalog *catalog;
static kw_model *model;
static const char f32[] = "kinowatt-cpu-f32";

static int open_model(void **state)
{
    (void)state;
    kw_error err;
    if (kw_catalog_open("data", &catalog, &err)) fail_msg("%s", err.message);
    if (kw_model_open(catalog, "tests/golden/wan-tiny", &model, &err)) fail_msg("%s", err.message);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    kw_model_close(model);
    kw_catalog_close(catalog);
    return 0;
}

static kw_request small(void)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = 32;
    request.height = 16;
    request.num_frames = 5;
    request.num_inference_steps = 2;
    return request;
}

static struct kw__pipeline *open_with(const kw_model *of, const kw_request *request,
                                      const struct kw__pipeline_options *options)
{
    struct kw__pipeline *pipeline;
    kw_error err;
    if (kw__pipeline_open(catalog, of, request, options, &pipeline, &err)) fail_msg("%s", err.message);
    return pipeline;
}

static struct kw__pipeline *loaded(const struct kw__pipeline_options *options)
{
    kw_request request = small();
    struct kw__pipeline *pipeline = open_with(model, &request, options);
    kw_error err;
    if (kw__pipeline_load(pipeline, &err)) fail_msg("%s", err.message);
    return pipeline;
}

static struct kw__clip run(struct kw__pipeline *pipeline, uint64_t seed)
{
    struct kw__clip clip;
    kw_error err;
    if (kw__pipeline_run(pipeline, seed, &clip, &err)) fail_msg("%s", err.message);
    return clip;
}

static void expect_refused(const kw_model *of, const struct kw__pipeline_options *options, kw_status status,
                           const char *words)
{
    kw_request request = small();
    struct kw__pipeline *pipeline = NULL;
    kw_error err;
    assert_int_equal(kw__pipeline_open(catalog, of, &request, options, &pipeline, &err), status);
    assert_null(pipeline);
    if (!strstr(err.message, words)) fail_msg("'%s' lacks '%s'", err.message, words);
}

/* ---- What comes out -------------------------------------------------------------------------------- */

enum { LATENTS = 4 * 2 * 2 * 4, FRAMES = 5 * 16 * 32 * 3 };

struct latents {
    double x[LATENTS];
    int64_t dim[5];
};

static kw_status keep_latents(void *user, const int64_t dim[5], const float *latents, kw_error *err)
{
    struct latents *out = user;
    (void)err;
    memcpy(out->dim, dim, sizeof out->dim);
    for (size_t i = 0; i < LATENTS; i++) out->x[i] = latents[i];
    return KW_OK;
}

/* Bytes as tokens: 3 + byte, modulo the 97 ids of a vocabulary of 100, and </s>. */
static void set_prompt(struct interp *it, const char *phase, const char *text)
{
    double ids[512] = {0};
    char name[64];
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) ids[i] = 3 + (unsigned char)text[i] % 97;
    ids[n] = 1;
    snprintf(name, sizeof name, "%s/ids", phase);
    interp_set(it, name, ids, 512);
    snprintf(name, sizeof name, "%s/length", phase);
    interp_set_scalar(it, name, (double)n + 1);
}

/* The reference graph on all 512 rows, in float64. */
static void interpret(uint64_t seed, double *latents, double *frames)
{
    const struct kw__dtypes dtypes = KW__ALL_F32;
    kw_request request = small();
    kw_effective r;
    struct kw__program *program;
    kw_error err;
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    if (kw__lower(model, &r, &dtypes, &program, &err)) fail_msg("%s", err.message);
    uint64_t weights_seed = 0;
    struct interp *it = interp_new(program, interp_random_weights, &weights_seed);
    set_prompt(it, "prompt", "a cat & a dog");
    set_prompt(it, "negative_prompt", "rain");
    float noise[LATENTS];
    double wide[LATENTS];
    struct kw__random stream = kw__random_stream("noise", "latents", seed);
    kw__random_fill(&stream, 0, KW__RANDOM_UNIT, 0, LATENTS, noise);
    for (size_t i = 0; i < LATENTS; i++) wide[i] = noise[i];
    interp_set(it, "latents", wide, LATENTS);
    static const char *const stages[] = {"text_encode", "denoise", "decode"};
    for (int s = 0; s < 3; s++)
        if (!interp_run(it, stages[s])) fail_msg("%s: %s", stages[s], interp_error(it));
    struct interp_array x = interp_get(it, "latents"), y = interp_get(it, "frames");
    assert_int_equal(x.count, LATENTS);
    assert_int_equal(y.count, FRAMES);
    memcpy(latents, x.data, LATENTS * sizeof *latents);
    memcpy(frames, y.data, FRAMES * sizeof *frames);
    interp_free(it);
    kw__program_free(program);
}

static void test_latents_and_frames_are_the_reference_graphs(void **state)
{
    (void)state;
    struct latents got;
    static double latents[LATENTS], frames[FRAMES];
    const struct kw__pipeline_options options = {
        .stack = f32,
        .prompt = " a  cat &amp;amp; a dog\n",
        .negative_prompt = "rain",
        .user = &got,
        .latents = keep_latents,
    };
    struct kw__pipeline *pipeline = loaded(&options);
    struct kw__clip clip = run(pipeline, 7);
    interpret(7, latents, frames);
    const int64_t dim[5] = {1, 4, 2, 2, 4};
    assert_memory_equal(got.dim, dim, sizeof dim);
    double error = interp_relative_error(got.x, latents, LATENTS);
    if (!(error <= 1e-5)) fail_msg("latents: relative error %.3g", error);
    for (size_t i = 0; i < FRAMES; i++)
        if (!(fabs(clip.frames[i] - 255 * frames[i]) <= 0.51))
            fail_msg("frame byte %zu is %d, not %.3f", i, clip.frames[i], 255 * frames[i]);
    kw__clip_free(&clip);
    kw__pipeline_close(pipeline);
}

static void check_a_seed_gives_one_clip(const char *stack)
{
    const struct kw__pipeline_options options = {.stack = stack, .prompt = "a cat"};
    struct kw__pipeline *pipeline = loaded(&options), *again = loaded(&options);
    struct kw__clip a = run(pipeline, 1), b = run(pipeline, 2), c = run(pipeline, 1), d = run(again, 1);
    assert_memory_not_equal(a.frames, b.frames, FRAMES);
    assert_memory_equal(a.frames, c.frames, FRAMES);
    assert_memory_equal(a.frames, d.frames, FRAMES);
    assert_int_equal(a.num_stages, 3);
    assert_string_equal(a.stages[1].name, "denoise");
    double sum = 0;
    for (int s = 0; s < 3; s++) sum += a.stages[s].seconds;
    assert_true(sum > 0 && a.total.seconds >= sum);
    struct kw__pipeline_info info = kw__pipeline_info(pipeline);
    assert_string_equal(info.weights, "random:0:normal");
    assert_string_equal(info.tokenizer, "bytes");
    assert_true(info.load_s >= 0);
    assert_true(a.peak_anonymous_bytes > 0);
    struct kw__clip *clips[] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++) kw__clip_free(clips[i]);
    kw__pipeline_close(pipeline);
    kw__pipeline_close(again);
}

static void test_a_seed_gives_one_clip(void **state)
{
    (void)state;
    check_a_seed_gives_one_clip(f32);
}

static void test_a_seed_gives_one_clip_in_bf16(void **state)
{
    (void)state;
    const struct kw__pipeline_options options = {.stack = "kinowatt-cpu", .prompt = "a cat"};
    kw_request request = small();
    struct kw__pipeline *pipeline = NULL;
    kw_error err = {0};
    kw_status status = kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err);
    kw__pipeline_close(pipeline);
    if (status == KW_ERROR_UNSUPPORTED) skip(); /* the CPU has no bf16 */
    check_a_seed_gives_one_clip(options.stack);
}

/* ---- Prompts --------------------------------------------------------------------------------------- */

static struct kw__pipeline_info info_of(const char *prompt, double guidance)
{
    const struct kw__pipeline_options options = {.stack = f32, .prompt = prompt};
    kw_request request = small();
    request.guidance_scale = guidance;
    struct kw__pipeline *pipeline = open_with(model, &request, &options);
    struct kw__pipeline_info info = kw__pipeline_info(pipeline);
    for (size_t i = 0; i < info.num_warnings; i++) assert_true(*info.warnings[i]);
    if (info.num_warnings == 2) assert_non_null(strstr(info.warnings[0], "512"));
    info.weights = info.stack = NULL; /* they are the pipeline's */
    kw__pipeline_close(pipeline);
    return info;
}

static void test_prompts(void **state)
{
    (void)state;
    struct kw__pipeline_info info = info_of("", 5);
    assert_int_equal(info.tokens[0], 1);
    assert_int_equal(info.tokens[1], 1);
    assert_int_equal(info.request.prompt_tokens, 1);
    assert_int_equal(info.num_warnings, 1); /* of the stand-in */
    assert_int_equal(info_of("caf\xC3\xA9", 1).request.prompt_tokens, 6);
    assert_int_equal(info_of("a", 1).tokens[1], 0); /* one pass */

    char *large = malloc(100001);
    assert_non_null(large);
    memset(large, 'x', 100000);
    large[100000] = '\0';
    info = info_of(large, 5);
    free(large);
    assert_int_equal(info.tokens[0], 512);
    assert_int_equal(info.whole_tokens[0], 100001);
    assert_int_equal(info.num_warnings, 2);

    const struct kw__pipeline_options bad = {.prompt = "a\xFFz"};
    expect_refused(model, &bad, KW_ERROR_USAGE, "the prompt");
    const struct kw__pipeline_options worse = {.prompt = "a", .negative_prompt = "\xC0\x80"};
    expect_refused(model, &worse, KW_ERROR_USAGE, "the negative prompt");
}

/* ---- Checkpoints ----------------------------------------------------------------------------------- */

/* A folder with a checkpoint of the tiny model, opened. */
static kw_model *make_checkpoint(char *folder, const char *poisoned)
{
    kw_model *own;
    kw_error err;
    checkpoint_folder(catalog, folder, poisoned);
    if (kw_model_open(catalog, folder, &own, &err)) fail_msg("%s", err.message);
    return own;
}

static struct kw__clip run_model(const kw_model *of, const char *weights, const char *label)
{
    const struct kw__pipeline_options options = {.stack = f32, .prompt = "a cat", .weights = weights};
    kw_request request = small();
    struct kw__pipeline *pipeline = open_with(of, &request, &options);
    kw_error err;
    if (kw__pipeline_load(pipeline, &err)) fail_msg("%s", err.message);
    struct kw__clip clip = run(pipeline, 3);
    assert_string_equal(kw__pipeline_info(pipeline).weights, label);
    assert_string_equal(kw__pipeline_info(pipeline).tokenizer, "unigram");
    assert_int_equal(kw__pipeline_info(pipeline).num_warnings, 0);
    kw__pipeline_close(pipeline);
    return clip;
}

/* Read from files, what the generator makes. */
static void test_checkpoint(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_model *own = make_checkpoint(folder, NULL);
    struct kw__clip made = run_model(own, "random:0", "random:0:normal"),
                    read = run_model(own, folder, "checkpoint"),
                    other = run_model(own, "random:1", "random:1:normal");
    assert_memory_equal(made.frames, read.frames, FRAMES);
    assert_memory_not_equal(made.frames, other.frames, FRAMES);
    kw__clip_free(&made);
    kw__clip_free(&read);
    kw__clip_free(&other);

    /* the tokenizer has more pieces than that model's encoder; without it there is none */
    const struct kw__pipeline_options options = {.stack = f32, .prompt = "a cat", .weights = folder};
    char file[FOLDER_BYTES + 64];
    expect_refused(model, &options, KW_ERROR_FORMAT, "spiece.model");
    snprintf(file, sizeof file, "%s/tokenizer/spiece.model", folder);
    assert_int_equal(remove(file), 0);
    expect_refused(model, &options, KW_ERROR_FORMAT, "tokenizer/spiece.model");
    snprintf(file, sizeof file, "%s/vae/diffusion_pytorch_model.safetensors", folder);
    assert_int_equal(remove(file), 0);
    const struct kw__pipeline_options nowhere = {.stack = f32, .prompt = "a cat", .weights = "/nonexistent"};
    expect_refused(own, &nowhere, KW_ERROR_NOT_FOUND, "/nonexistent");
    kw_model_close(own);
    folder_remove(folder);
}

static void count_notes(void *user, const char *text)
{
    assert_non_null(strstr(text, "NaN or infinity came out of operator"));
    ++*(int *)user;
}

/* With and without looking at each operator, the first that made it is named; that the run is repeated for
 * it is told. */
static void check_poison(const char *tensor, const char *words)
{
    char folder[FOLDER_BYTES];
    kw_model *own = make_checkpoint(folder, tensor);
    for (int check = 0; check < 2; check++) {
        int notes = 0;
        const struct kw__pipeline_options options = {.stack = f32,
                                                     .prompt = "a cat",
                                                     .weights = folder,
                                                     .check = check,
                                                     .user = &notes,
                                                     .note = count_notes};
        kw_request request = small();
        struct kw__pipeline *pipeline = open_with(own, &request, &options);
        struct kw__clip clip;
        kw_error err;
        if (kw__pipeline_load(pipeline, &err)) fail_msg("%s", err.message);
        assert_int_equal(kw__pipeline_run(pipeline, 3, &clip, &err), KW_ERROR_FORMAT);
        if (!strstr(err.message, words) || !strstr(err.message, "NaN"))
            fail_msg("%s poisoned: '%s' lacks '%s'", tensor, err.message, words);
        char layer[128];
        snprintf(layer, sizeof layer, " %.*s.", (int)(strrchr(tensor, '.') - tensor), tensor);
        if (!strstr(err.message, layer)) fail_msg("'%s' does not say '%s'", err.message, layer);
        assert_int_equal(notes, !check);
        kw__pipeline_close(pipeline);
    }
    kw_model_close(own);
    folder_remove(folder);
}

static void test_nan_is_traced_to_its_operator(void **state)
{
    (void)state;
    check_poison("encoder.block.0.layer.1.DenseReluDense.wo.weight", "linear of text_encoder");
    check_poison("blocks.1.ffn.net.0.proj.bias", "linear of mlp");
    check_poison("decoder.up_blocks.1.resnets.0.conv1.bias", "conv of vae_decoder");
}

/* ---- Memory, stopping ------------------------------------------------------------------------------ */

static void test_too_little_memory_is_said_with_both_figures(void **state)
{
    (void)state;
    struct kw__pipeline_options options = {
        .stack = f32, .prompt = "a cat", .memory_limit_bytes = 0.01 * 0x1p30};
    kw_request request = small();
    request.width = request.height = 512;
    struct kw__pipeline *pipeline = NULL;
    kw_error err;
    assert_int_equal(kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err), KW_ERROR_MEMORY);
    assert_non_null(strstr(err.message, "there are 0.01 GiB"));
    double needed = NAN;
    assert_int_equal(sscanf(err.message, "this needs %lf GiB", &needed), 1);
    assert_true(needed > 0.05 && needed < 1); /* a clip of 512 x 512 alone is 0.015 GiB in f32 */
    /* the weights fit: a smaller clip may too; where they do not, none does */
    assert_non_null(strstr(err.message, "fewer frames"));
    assert_null(strstr(err.message, "a smaller model"));
    options.memory_limit_bytes = 10000;
    assert_int_equal(kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err), KW_ERROR_MEMORY);
    assert_non_null(strstr(err.message, "free some or lift its limits"));
    struct kw__machine_memory memory = kw__machine_memory();
    assert_true(memory.installed > 0x1p28 && memory.installed < 0x1p50);
    assert_true(memory.available > 0 && memory.available <= memory.installed);
}

/* Stops at the n-th call. */
struct stopper {
    const char *stage;
    int calls;
};

static bool stop_in(void *user, const struct kw__progress *at)
{
    struct stopper *s = user;
    assert_true(at->done >= 0 && at->done <= 1 + 1e-9);
    if (!s->stage || strcmp(at->stage, s->stage) != 0) return true;
    return s->calls-- > 0;
}

static void test_stopping(void **state)
{
    (void)state;
    struct stopper stopper = {.stage = "weights", .calls = 3};
    const struct kw__pipeline_options options = {
        .stack = f32, .prompt = "a cat", .user = &stopper, .progress = stop_in};
    kw_request request = small();
    struct kw__pipeline *pipeline = open_with(model, &request, &options);
    kw_error err;
    assert_int_equal(kw__pipeline_load(pipeline, &err), KW_ERROR_CANCELLED);
    stopper.stage = NULL;
    if (kw__pipeline_load(pipeline, &err)) fail_msg("%s", err.message);
    struct kw__clip whole = run(pipeline, 5), clip;
    static const char *const stages[] = {"text_encode", "denoise", "decode"};
    for (int s = 0; s < 3; s++) {
        stopper = (struct stopper){stages[s], 5};
        assert_int_equal(kw__pipeline_run(pipeline, 5, &clip, &err), KW_ERROR_CANCELLED);
    }
    stopper.stage = NULL;
    clip = run(pipeline, 5); /* a stopped run leaves nothing behind */
    assert_memory_equal(clip.frames, whole.frames, FRAMES);
    kw__clip_free(&clip);
    kw__clip_free(&whole);
    kw__pipeline_close(pipeline);
}

static kw_status refuse_latents(void *user, const int64_t dim[5], const float *latents, kw_error *err)
{
    (void)user;
    (void)dim;
    (void)latents;
    snprintf(err->message, sizeof err->message, "the disk is full");
    return err->code = KW_ERROR_IO;
}

static void test_latents_that_cannot_be_kept(void **state)
{
    (void)state;
    const struct kw__pipeline_options options = {.stack = f32, .prompt = "a cat", .latents = refuse_latents};
    struct kw__pipeline *pipeline = loaded(&options);
    struct kw__clip clip;
    kw_error err;
    assert_int_equal(kw__pipeline_run(pipeline, 0, &clip, &err), KW_ERROR_IO);
    assert_string_equal(err.message, "the disk is full");
    kw__pipeline_close(pipeline);
}

/* ---- On a machine that others use ------------------------------------------------------------------- */

static void spin(double cpu_seconds)
{
    struct timespec now;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec < cpu_seconds);
}

/* What another process takes is seen, and is at most the machine. */
static void test_other_processes_are_seen(void **state)
{
    (void)state;
    struct kw__measure measure;
    struct kw__clip clip = {0};
    double before = kw__machine_busy_s();
    if (isnan(before)) skip();
    kw__measure_open(&measure, NULL);
    kw__measure_begin(&measure, "all");
    kw__measure_begin(&measure, "stage");
    pid_t child = fork();
    if (child == 0) {
        spin(0.8);
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    kw__measure_end(&measure, "stage");
    kw__measure_end(&measure, "all");
    kw__measure_results(&measure, &clip);
    double machine = kw__machine_busy_s() - before;
    assert_int_equal(clip.num_stages, 1);
    const struct kw__clip_stage *stage = &clip.stages[0];
    double others = stage->other_cores * stage->seconds;
    if (!(others >= 0.7 && others <= machine + 0.05))
        fail_msg("%.2f s of others in %.2f s; the machine worked %.2f s", others, stage->seconds, machine);
    assert_true(clip.cores >= 1 && stage->other_cores <= clip.cores + 0.1);
}

/* Of a moment it is not told: more cores than there are came out of it. */
static void test_other_processes_of_a_moment(void **state)
{
    (void)state;
    struct kw__measure measure;
    struct kw__clip clip = {0};
    kw__measure_open(&measure, NULL);
    kw__measure_begin(&measure, "all");
    kw__measure_end(&measure, "all");
    kw__measure_results(&measure, &clip);
    if (clip.total.seconds >= 0.1) skip(); /* something else had the core */
    assert_true(isnan(clip.total.other_cores));
}

/* ---- Under a meter --------------------------------------------------------------------------------- */

/* A trace of a CPU package at 40 W for `seconds`. */
static kw_meter *replay(char *folder, double seconds)
{
    char path[FOLDER_BYTES + 16];
    folder_new(folder);
    snprintf(path, sizeof path, "%s/trace", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "kinowatt-trace,1\nchannel,cpu,package-0,0.001,,262143.3,0.0001,100\n");
    for (int i = 0; i < 1000 * seconds; i += 5) fprintf(file, "sample,%g,0,%g,,,,,\n", 1e-3 * i, 4e-2 * i);
    assert_int_equal(fclose(file), 0);
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.sources = "replay";
    options.trace = path;
    options.settle_s = 0.05;
    kw_meter *meter;
    kw_error err;
    if (kw_meter_open(&options, &meter, &err)) fail_msg("%s", err.message);
    return meter;
}

static void test_energy_by_stage(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_meter *meter = replay(folder, 60);
    const struct kw__pipeline_options options = {.stack = f32, .prompt = "a cat", .meter = meter};
    struct kw__pipeline *pipeline = loaded(&options);
    struct kw__clip clip = run(pipeline, 5);
    double sum = 0;
    for (int s = 0; s < clip.num_stages; s++) {
        const struct kw__clip_stage *stage = &clip.stages[s];
        const kw_reading *cpu = &stage->energy_j[KW_CPU];
        assert_int_equal(cpu->status, KW_MEASURED);
        assert_true(cpu->low <= 40 * stage->seconds + 1e-3 && cpu->high >= 40 * stage->seconds - 1e-3);
        assert_int_equal(stage->energy_j[KW_GPU].status, KW_ABSENT);
        assert_non_null(stage->energy_j[KW_GPU].reason);
        sum += cpu->value;
    }
    assert_true(clip.total.energy_j[KW_CPU].value >= sum - 1e-9);
    kw__clip_free(&clip);
    kw__pipeline_close(pipeline);
    kw_meter_close(meter);
    folder_remove(folder);
}

/* The trace ends before the run begins: the clip is there, its energy is not. */
static void test_a_meter_that_stops_stops_nothing(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_meter *meter = replay(folder, 0.02);
    kw_error err;
    for (double until = kw_meter_now_s(meter) + 0.1; kw_meter_now_s(meter) < until;) continue;
    const struct kw__pipeline_options options = {.stack = f32, .prompt = "a cat", .meter = meter};
    struct kw__pipeline *pipeline = loaded(&options);
    struct kw__clip clip = run(pipeline, 5);
    assert_non_null(clip.frames);
    assert_int_equal(clip.total.energy_j[KW_CPU].status, KW_ABSENT);
    assert_true(isnan(clip.total.energy_j[KW_CPU].value));
    assert_non_null(clip.total.energy_j[KW_CPU].reason);
    assert_true(clip.total.seconds > 0);
    kw__clip_free(&clip);

    /* one that takes no more windows */
    while (kw_meter_begin(meter, "another", &err) == KW_OK) continue;
    clip = run(pipeline, 5);
    assert_int_equal(clip.total.energy_j[KW_CPU].status, KW_ABSENT);
    assert_non_null(clip.total.energy_j[KW_CPU].reason);
    kw__clip_free(&clip);
    kw__pipeline_close(pipeline);
    kw_meter_close(meter);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_latents_and_frames_are_the_reference_graphs),
        cmocka_unit_test(test_a_seed_gives_one_clip),
        cmocka_unit_test(test_a_seed_gives_one_clip_in_bf16),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_nan_is_traced_to_its_operator),
        cmocka_unit_test(test_too_little_memory_is_said_with_both_figures),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_latents_that_cannot_be_kept),
        cmocka_unit_test(test_other_processes_are_seen),
        cmocka_unit_test(test_other_processes_of_a_moment),
        cmocka_unit_test(test_energy_by_stage),
        cmocka_unit_test(test_a_meter_that_stops_stops_nothing),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
