/*
 * kinowatt generate: runs a model on this machine, prompt in, clip out, and says what each stage took.
 *
 * What can be known to fail is found before the run: the output's path and format, the prompts, memory,
 * the weights' names and shapes. The clip appears whole or not at all; the report is printed also when
 * writing the clip fails, since the measurement stands.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/time.h"
#include "cli/generate.h"
#include "video/video.h"

struct settings {
    const char *prompt, *negative_prompt, *output, *device, *dtype, *weights, *seed, *latents, *meter,
        *calibration;
    bool check;
    uint64_t seed_value;
};

/* The bar on the terminal. */
struct progress {
    bool shown; /* stderr is a terminal */
    char stage[32];
    double begin_s, drawn_s;
};

struct job {
    struct settings settings;
    kw_catalog *catalog;
    kw_model *model;
    kw_meter *meter;
    struct kw__pipeline *pipeline;
    struct kw__clip clip;
    struct progress progress;
    struct kw__generate_report report;
};

/* ---- Stopping ---------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_signal;

static void on_signal(int signal)
{
    stop_signal = signal;
}

/* A second one ends the program at once. Signals that the caller has ignored (nohup) stay so. */
static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old, action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
        sigemptyset(&action.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            (void)sigaction(signals[i], &action, NULL);
    }
}

/* ---- Progress ------------------------------------------------------------------------------------------ */

enum { BAR = 24 };

static void draw(const struct progress *bar, const struct kw__progress *at, double now)
{
    char line[256], text[KW__FORMAT_SIZE];
    double share = fmin(fmax(at->done, 0), 1), took = now - bar->begin_s;
    int full = (int)(share * BAR), used;
    used = snprintf(line, sizeof line, "\r%-12s [", at->stage);
    for (int i = 0; i < BAR; i++) line[used++] = i < full ? '#' : '.';
    used += snprintf(line + used, sizeof line - (size_t)used, "] %3d %%", (int)(100 * share));
    if (at->iterations > 1) {
        used += snprintf(line + used, sizeof line - (size_t)used, "  %" PRId64 "/%" PRId64, at->iteration + 1,
                         at->iterations);
        double steps = (double)at->iteration + (at->ops ? (double)at->op / (double)at->ops : 0);
        if (strcmp(at->stage, "denoise") == 0 && steps > 0.2)
            used += snprintf(line + used, sizeof line - (size_t)used, "  %s/step",
                             kw__format_seconds(text, took / steps));
    }
    if (share > 0.01)
        used += snprintf(line + used, sizeof line - (size_t)used, "  %s left",
                         kw__format_seconds(text, took * (1 - share) / share));
    used += snprintf(line + used, sizeof line - (size_t)used, "\033[K");
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)used);
    (void)ignored;
}

static bool on_progress(void *user, const struct kw__progress *at)
{
    struct progress *bar = &((struct job *)user)->progress;
    if (bar->shown) {
        double now = kw__monotonic_s();
        if (strcmp(bar->stage, at->stage) != 0) {
            snprintf(bar->stage, sizeof bar->stage, "%s", at->stage);
            bar->begin_s = now;
            bar->drawn_s = -INFINITY;
        }
        if (now - bar->drawn_s >= 0.1) {
            draw(bar, at, now);
            bar->drawn_s = now;
        }
    }
    return stop_signal == 0;
}

static void clear_bar(const struct progress *bar)
{
    if (!bar->shown) return;
    ssize_t ignored = write(STDERR_FILENO, "\r\033[K", 4);
    (void)ignored;
}

/* ---- Options --------------------------------------------------------------------------------------- */

static int parse_seed(struct settings *s)
{
    s->seed_value = 0;
    if (!s->seed) return KW__PROCEED;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(s->seed, &end, 10);
    if (errno || *end || strspn(s->seed, "0123456789") != strlen(s->seed))
        return kw__cli_usage("--seed '%.80s' is not valid; give a whole number from 0 to 2^64 - 1", s->seed);
    s->seed_value = value;
    return KW__PROCEED;
}

static int check_settings(struct settings *s)
{
    if (!s->prompt) return kw__cli_usage("generate needs a prompt: -p 'a cat surfs'; it may be empty: -p ''");
    if (!s->output) return kw__cli_usage("generate needs a file to write: -o clip.mp4, or clip.y4m");
    if (strcmp(s->device, "cpu") != 0) {
        if (strcmp(s->device, "cuda") != 0)
            return kw__cli_usage("--device '%.80s' is not known; cpu is", s->device);
        kw_error err = {KW_ERROR_DEVICE, "this build runs on the CPU alone; use --device cpu"};
        return kw__cli_fail(&err);
    }
    if (s->dtype && strcmp(s->dtype, "bf16") != 0 && strcmp(s->dtype, "f32") != 0)
        return kw__cli_usage("--dtype '%.80s' is not known; bf16 and f32 are", s->dtype);
    return parse_seed(s);
}

/* ---- Before the run -------------------------------------------------------------------------------- */

static kw_status open_meter(const char *name, kw_meter **out, kw_error *err)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.start_timeout_s = 5;
    if (strcmp(name, "none") == 0)
        options.sources = "null";
    else if (strcmp(name, "nvml") == 0 || strcmp(name, "rapl") == 0)
        options.sources = name;
    else if (strncmp(name, "replay:", 7) == 0 && name[7]) {
        options.sources = "replay";
        options.trace = name + 7;
    } else if (strcmp(name, "auto") != 0)
        return kw__fail(err, KW_ERROR_USAGE,
                        "--meter '%.80s' is not known; auto, nvml, rapl, replay:FILE and none are", name);
    return kw_meter_open(&options, out, err);
}

static kw_status check_outputs(const struct job *job, const struct kw__options *options, kw_error *err)
{
    kw_effective r;
    kw_status status = kw_request_resolve(job->model, &options->request, &r, err);
    if (status) return status;
    if (job->settings.latents && strcmp(job->settings.latents, job->settings.output) == 0)
        return kw__fail(err, KW_ERROR_USAGE, "--latents and --output name the same file");
    const struct kw__video_settings video = {.width = r.width, .height = r.height, .fps = r.fps};
    status = kw__video_check(job->settings.output, &video, err);
    if (!status && job->settings.latents) status = kw__pending_check(job->settings.latents, err);
    return status;
}

static kw_status write_latents(void *user, const int64_t dim[5], const float *latents, kw_error *err)
{
    const struct job *job = user;
    return job->settings.latents ? kw__npy_write(job->settings.latents, 5, dim, latents, err) : KW_OK;
}

static kw_status open_pipeline(struct job *job, const struct kw__options *options, kw_error *err)
{
    const struct settings *s = &job->settings;
    const struct kw__pipeline_options pipeline = {
        .stack = !s->dtype                      ? NULL
                 : strcmp(s->dtype, "f32") == 0 ? "kinowatt-cpu-f32"
                                                : "kinowatt-cpu",
        .weights = s->weights,
        .prompt = s->prompt,
        .negative_prompt = s->negative_prompt,
        .check = s->check,
        .meter = job->meter,
        .user = job,
        .progress = on_progress,
        .latents = write_latents,
    };
    return kw__pipeline_open(job->catalog, job->model, &options->request, &pipeline, &job->pipeline, err);
}

/* ---- The prediction beside ------------------------------------------------------------------------- */

/* The name of the calibration of this stack on this machine, NULL when there is none. */
static const char *find_calibration(const struct job *job)
{
    char wanted[128];
    if (job->settings.calibration) return job->settings.calibration;
    snprintf(wanted, sizeof wanted, "%s@cpu", job->report.info.stack);
    for (size_t i = 0; i < kw_catalog_count(job->catalog, KW_CALIBRATIONS); i++)
        if (strcmp(kw_catalog_name(job->catalog, KW_CALIBRATIONS, i), wanted) == 0)
            return kw_catalog_name(job->catalog, KW_CALIBRATIONS, i);
    return NULL;
}

/* What was predicted for the request as it ran. None is no failure. */
static void predict(struct job *job, const struct kw__options *options, kw_prediction **out, kw_error *err)
{
    const struct kw__pipeline_info *info = &job->report.info;
    kw_predict_options predict = KW_PREDICT_OPTIONS_INIT;
    kw_request request = options->request;
    predict.calibration = find_calibration(job);
    predict.hardware = "cpu";
    predict.stack = info->stack;
    request.prompt_tokens = (int64_t)info->tokens[0];
    if (info->request.guidance_passes > 1) request.negative_tokens = (int64_t)info->tokens[1];
    if (!predict.calibration)
        kw__fail(err, KW_ERROR_NOT_FOUND,
                 "there is no calibration of %s on this machine; 'kinowatt calibrate --device cpu' makes one",
                 info->stack);
    else if (kw_predict(job->catalog, job->model, &request, &predict, out, err) == KW_OK)
        return;
    job->report.no_prediction = err->message;
}

/* ---- After the run --------------------------------------------------------------------------------- */

static kw_status write_clip(const struct job *job, kw_error *err)
{
    const kw_effective *r = &job->report.info.request;
    char *comment = kw__generate_comment(&job->report);
    if (!comment) return kw__fail_memory(err);
    const struct kw__video_settings settings = {
        .width = r->width, .height = r->height, .fps = r->fps, .comment = comment};
    struct kw__video *video = NULL;
    kw_status status = kw__video_open(job->settings.output, &settings, &video, err);
    size_t bytes = (size_t)(r->width * r->height * 3);
    for (int64_t f = 0; !status && f < r->num_frames; f++) {
        if (stop_signal) status = kw__fail(err, KW_ERROR_CANCELLED, "stopped while writing the clip");
        if (!status) status = kw__video_write(video, job->clip.frames + (size_t)f * bytes, 1, err);
    }
    if (!status)
        status = kw__video_finish(video, err);
    else
        kw__video_discard(video);
    free(comment);
    return status;
}

static int finish(struct job *job, const struct kw__options *options)
{
    kw_error err = {0}, unpredicted = {0};
    kw_prediction *prediction = NULL;
    predict(job, options, &prediction, &unpredicted);
    job->report.prediction = prediction;
    job->report.clip = &job->clip;
    kw_status status = write_clip(job, &err);
    job->report.written = !status;
    int code = KW__EXIT_OK;
    if (status != KW_ERROR_CANCELLED) code = kw__generate_print(&job->report, options);
    if (status) code = kw__cli_fail(&err);
    kw_prediction_free(prediction);
    return code;
}

static int run(struct job *job, const struct kw__options *options)
{
    const struct settings *s = &job->settings;
    kw_error err = {0};
    kw_status status = kw_model_open(job->catalog, options->args[0], &job->model, &err);
    if (!status) status = check_outputs(job, options, &err);
    if (!status) status = open_meter(s->meter, &job->meter, &err);
    if (!status) status = open_pipeline(job, options, &err);
    catch_signals();
    if (!status) status = kw__pipeline_load(job->pipeline, &err);
    if (!status) status = kw__pipeline_run(job->pipeline, s->seed_value, &job->clip, &err);
    clear_bar(&job->progress);
    if (status)
        return status == KW_ERROR_CANCELLED ? kw__cli_fail(&err), 128 + stop_signal : kw__cli_fail(&err);
    job->report = (struct kw__generate_report){
        .model = options->args[0],
        .device = s->device,
        .output = s->output,
        .latents = s->latents,
        .prompt = s->prompt,
        .negative_prompt = s->negative_prompt,
        .seed = s->seed_value,
        .info = kw__pipeline_info(job->pipeline),
        .meter = job->meter,
        .meter_name = s->meter,
    };
    int code = finish(job, options);
    return stop_signal ? 128 + stop_signal : code;
}

int kw__cmd_generate(int argc, char **argv)
{
    struct job job = {
        .settings = {.device = "cpu", .weights = "random", .negative_prompt = "", .meter = "auto"}};
    struct settings *s = &job.settings;
    const struct kw__option extra[] = {
        {"prompt", 'p', KW__OPTION_STRING, "TEXT", "what to show; may be empty", &s->prompt},
        {"negative-prompt", 'n', KW__OPTION_STRING, "TEXT", "what not to show", &s->negative_prompt},
        {"output", 'o', KW__OPTION_TEXT, "FILE", "the clip: .mp4 or .y4m", &s->output},
        {"seed", 0, KW__OPTION_TEXT, "N", "of the noise; 0 unless given", &s->seed},
        {"weights", 0, KW__OPTION_TEXT, "DIR", "a checkpoint; random[:SEED][:DISTRIBUTION] unless given",
         &s->weights},
        {"device", 0, KW__OPTION_TEXT, "NAME", "cpu", &s->device},
        {"dtype", 0, KW__OPTION_TEXT, "NAME", "bf16 or f32; the best this CPU has unless given", &s->dtype},
        {"latents", 0, KW__OPTION_TEXT, "FILE", "write the denoised latents there too, as .npy", &s->latents},
        {"meter", 0, KW__OPTION_TEXT, "NAME", "auto, nvml, rapl, replay:FILE or none", &s->meter},
        {"check", 0, KW__OPTION_FLAG, NULL, "look for NaN after each operator, not each step", &s->check},
        {"calibration", 0, KW__OPTION_TEXT, "NAME", "to predict with, instead of this machine's",
         &s->calibration},
    };
    const struct kw__usage usage = {
        .name = "generate",
        .synopsis = "MODEL -p TEXT -o FILE",
        .about =
            "Runs a model on this machine: makes a clip from a prompt, and says how long each stage took and\n"
            "what energy it used. MODEL is a name that 'kinowatt models' lists, or a folder in diffusers layout.\n"
            "Weights are random unless --weights names a checkpoint: measuring needs no download.",
        .sets = KW__WITH_CLIP | KW__WITH_JSON,
        .least = 1,
        .most = 1,
        .missing = "generate needs a model: a name that 'kinowatt models' lists, or a folder",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    code = check_settings(s);
    if (code != KW__PROCEED) return code;
    code = kw__cli_catalog(&options, &job.catalog);
    if (code) return code;
    job.progress.shown = isatty(STDERR_FILENO);
    code = run(&job, &options);
    kw__clip_free(&job.clip);
    kw__pipeline_close(job.pipeline);
    if (job.meter) kw_meter_close(job.meter);
    kw_model_close(job.model);
    kw_catalog_close(job.catalog);
    return code;
}
