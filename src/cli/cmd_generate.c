/*
 * kinowatt generate: runs a model on this machine, prompt in, clip out, and says what each stage took.
 *
 * What can be known to fail is found before the run: the outputs' paths, format and room, the meter, the
 * prompts, memory, the weights' names and shapes. The clip appears whole or not at all; the report is
 * printed also when writing the clip fails, since the measurement stands. What a long run has made is not
 * given up: clip or latents that cannot be written where they were to be are put elsewhere.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/time.h"
#include "cli/generate.h"
#include "cli/keep.h"
#include "cli/meters.h"
#include "engine/kept.h"
#include "video/video.h"

struct settings {
    const char *prompt, *negative_prompt, *output, *device, *dtype, *weights, *seed, *latents, *meter,
        *calibration, *store;
    bool check;
    double idle_s;
    uint64_t seed_value;
};

/* The bar on the terminal. */
struct progress {
    bool shown; /* stderr is a terminal */
    char stage[32];
    const char *phase; /* as the progress names it */
    double begin_s, drawn_s, phase_begin_s;
};

struct job {
    struct settings settings;
    kw_catalog *catalog;
    kw_model *model;
    kw_meter *meter;
    struct kw__pipeline *pipeline;
    struct kw__clip clip;
    struct kw__keep keep;
    struct kw__finding *findings;
    size_t num_findings;
    struct kw__run *run;
    struct progress progress;
    struct kw__progress at;                                 /* the last place reported */
    bool tracing;                                           /* the stages run again, to find a NaN */
    char rescue_folder[PATH_MAX];                           /* "": none yet */
    char rescued_clip[PATH_MAX], rescued_latents[PATH_MAX]; /* "": not rescued */
    const char *latents;                                    /* where they are, NULL: nowhere */
    kw_error latents_error;                                 /* why not where they were to be */
    kw_prediction *prediction;
    kw_error no_prediction; /* why not */
    struct kw__generate_report report;
};

/* ---- Stopping ---------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_signal;
static time_t stop_s;

/* One that comes a while after the first ends the program at once. Those that come with it are the same: a
 * shell, or timeout(1), sends one to the process and another to its group. */
static void on_signal(int number)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (stop_signal && now.tv_sec > stop_s + 1) {
        signal(number, SIG_DFL);
        raise(number);
    }
    if (!stop_signal) stop_s = now.tv_sec;
    stop_signal = number;
}

/* Signals that the caller has ignored (nohup) stay so. */
static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old, action = {.sa_handler = on_signal};
        sigemptyset(&action.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            (void)sigaction(signals[i], &action, NULL);
    }
}

/* Whether a phase is denoising steps: "step", or of models with two transformers "low_noise_step". */
static bool is_steps(const char *phase)
{
    size_t length = strlen(phase);
    return length >= 4 && strcmp(phase + length - 4, "step") == 0;
}

/* One line of where it stopped and of what there is. */
static int stopped(const struct job *job)
{
    const struct kw__progress *at = &job->at;
    const char *stage = at->stage;
    char where[160] = "before the run";
    if (job->report.clip)
        snprintf(where, sizeof where, "while writing the clip");
    else if (stage && strcmp(stage, "weights") == 0)
        snprintf(where, sizeof where, "while reading the weights");
    else if (stage && is_steps(at->phase))
        snprintf(where, sizeof where, "in %s, %s %" PRId64 " of %" PRId64, stage, at->phase,
                 at->iteration + 1, at->iterations);
    else if (stage)
        snprintf(where, sizeof where, "in %s", stage);
    kw_error err = {0};
    kw__fail(&err, KW_ERROR_CANCELLED, "stopped %s%s; no clip was written%s%s", where,
             job->tracing ? ", running again to find the NaN" : "",
             job->latents ? ", the latents are in " : "", job->latents ? job->latents : "");
    (void)kw__cli_fail(&err);
    return 128 + stop_signal;
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
        if (is_steps(at->phase) && steps > 0.2)
            used += snprintf(line + used, sizeof line - (size_t)used, "  %s/step",
                             kw__format_seconds(text, (now - bar->phase_begin_s) / steps));
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
    struct job *job = user;
    struct progress *bar = &job->progress;
    job->at = *at;
    if (bar->shown) {
        double now = kw__monotonic_s();
        if (strcmp(bar->stage, at->stage) != 0) {
            snprintf(bar->stage, sizeof bar->stage, "%s", at->stage);
            bar->begin_s = now;
            bar->drawn_s = -INFINITY;
            bar->phase = NULL;
        }
        if (bar->phase != at->phase) {
            bar->phase = at->phase;
            bar->phase_begin_s = now;
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

static void on_note(void *user, const char *text)
{
    struct job *job = user;
    job->tracing = true;
    clear_bar(&job->progress);
    job->progress.stage[0] = '\0';
    kw__cli_warn("%s", text);
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

/* The report goes to stdout, and must not follow the clip into one pipe or file. */
static bool is_stdout(const char *path)
{
    struct stat file, out;
    return stat(path, &file) == 0 && fstat(STDOUT_FILENO, &out) == 0 && !S_ISCHR(file.st_mode) &&
           file.st_dev == out.st_dev && file.st_ino == out.st_ino;
}

static kw_status check_outputs(const struct job *job, const struct kw__options *options, kw_error *err)
{
    kw_effective r;
    kw_status status = kw_request_resolve(job->model, &options->request, &r, err);
    if (status) return status;
    const char *const paths[] = {job->settings.output, job->settings.latents};
    const int count = paths[1] ? 2 : 1;
    for (int i = 0; i < count; i++)
        if (is_stdout(paths[i]))
            return kw__fail(err, KW_ERROR_USAGE, "%s is where the report goes; name another file for --%s",
                            paths[i], i ? "latents" : "output");
    if (count == 2 && kw__pending_same(paths[0], paths[1]))
        return kw__fail(err, KW_ERROR_USAGE, "--latents and --output name the same file");
    const struct kw__video_settings video = {.width = r.width, .height = r.height, .fps = r.fps};
    status = kw__video_check(paths[0], &video, err);
    if (!status && count == 2) status = kw__pending_check(paths[1], err);
    if (status) return status;
    const int64_t dim[5] = {r.batch_size, r.latent_channels, r.latent_frames, r.latent_height,
                            r.latent_width};
    const double bytes[] = {kw__video_least_bytes(paths[0], &video, r.num_frames), kw__npy_bytes(5, dim)};
    return kw__pending_room(count, paths, bytes, err);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where a file could not be written it becomes one in a new folder among the temporary ones, which clip and
 * latents share: its path there. False when it was to be no file, or there is no such folder. */
static bool rescue_path(struct job *job, const char *wanted, char path[PATH_MAX])
{
    const char *temporary = getenv("TMPDIR"), *name = base_name(wanted);
    char *folder = job->rescue_folder;
    struct stat info;
    if (stat(wanted, &info) == 0 && !S_ISREG(info.st_mode)) return false;
    if (!*folder) {
        int used =
            snprintf(folder, PATH_MAX, "%s/kinowatt-XXXXXX", temporary && *temporary ? temporary : "/tmp");
        if (used < 0 || used >= PATH_MAX || !mkdtemp(folder)) {
            *folder = '\0';
            return false;
        }
    }
    if (wanted == job->settings.latents && strcmp(name, base_name(job->settings.output)) == 0)
        name = "latents.npy"; /* as no clip is called */
    return snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

/* Gives a folder up that nothing was written into. */
static void rescue_end(struct job *job)
{
    if (*job->rescue_folder && rmdir(job->rescue_folder) == 0) job->rescue_folder[0] = '\0';
}

/* A failure is kept for the end: the clip may still be written. */
static kw_status write_latents(void *user, const int64_t dim[5], const float *latents, kw_error *err)
{
    struct job *job = user;
    const char *wanted = job->settings.latents;
    kw_error again;
    (void)err;
    if (!wanted) return KW_OK;
    if (!kw__npy_write(wanted, 5, dim, latents, &job->latents_error)) {
        job->latents = wanted;
    } else if (rescue_path(job, wanted, job->rescued_latents) &&
               !kw__npy_write(job->rescued_latents, 5, dim, latents, &again)) {
        job->latents = job->rescued_latents;
    } else {
        job->rescued_latents[0] = '\0';
        rescue_end(job);
    }
    return KW_OK;
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
        .note = on_note,
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

/* What is predicted for the request as it will run. None is no failure, unless with a calibration that was
 * named. */
static kw_status predict(struct job *job, const struct kw__options *options, kw_error *err)
{
    kw_error *why = &job->no_prediction;
    const struct kw__pipeline_info *info = &job->report.info;
    kw_predict_options predict = KW_PREDICT_OPTIONS_INIT;
    kw_request request = options->request;
    predict.calibration = find_calibration(job);
    predict.hardware = "cpu";
    predict.stack = info->stack;
    request.prompt_tokens = (int64_t)info->tokens[0];
    if (info->request.guidance_passes > 1) request.negative_tokens = (int64_t)info->tokens[1];
    if (!predict.calibration)
        kw__fail(why, KW_ERROR_NOT_FOUND,
                 "there is no calibration of %s on this machine; 'kinowatt calibrate --device cpu' makes one",
                 info->stack);
    else
        (void)kw_predict(job->catalog, job->model, &request, &predict, &job->prediction, why);
    job->report.prediction = job->prediction;
    job->report.no_prediction = why->message;
    return job->settings.calibration && why->code ? kw__fail(err, why->code, "%s", why->message) : KW_OK;
}

/* ---- After the run --------------------------------------------------------------------------------- */

static kw_status write_clip(const struct job *job, const char *path, kw_error *err)
{
    const kw_effective *r = &job->report.info.request;
    char *comment = kw__generate_comment(&job->report);
    if (!comment) return kw__fail_memory(err);
    const struct kw__video_settings settings = {
        .width = r->width, .height = r->height, .fps = r->fps, .comment = comment};
    struct kw__video *video = NULL;
    kw_status status = kw__video_open(path, &settings, &video, err);
    size_t bytes = (size_t)(r->width * r->height * 3);
    for (int64_t f = 0; !status && f < r->num_frames; f++) {
        if (stop_signal) status = kw__fail(err, KW_ERROR_CANCELLED, "stopped");
        if (!status) status = kw__video_write(video, job->clip.frames + (size_t)f * bytes, 1, err);
    }
    if (!status)
        status = kw__video_finish(video, err);
    else
        kw__video_discard(video);
    free(comment);
    return status;
}

static void keep_run(struct job *job)
{
    const struct kw__generate_report *r = &job->report;
    const struct kw__kept kept = {.model = r->model,
                                  .prompt = r->prompt,
                                  .negative_prompt = r->negative_prompt,
                                  .seed = r->seed,
                                  .info = &r->info,
                                  .clip = r->clip,
                                  .meter = r->meter,
                                  .meter_name = r->meter_name};
    kw_error err = {0};
    job->run->session = job->run->uuid;
    if (r->prediction) {
        job->run->predicted_latency_s = r->prediction->total.latency_s.value;
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            job->run->predicted_energy_j[d] = r->prediction->total.energy_j[d].value;
    }
    if (kw__kept_fill(&kept, job->catalog, job->run, &err))
        kw__keep_refuse(&job->keep, &err);
    else
        kw__keep_add(&job->keep, job->run);
    kw__keep_check(&job->keep, job->catalog, job->run, &job->findings, &job->num_findings);
    job->report.run_id = job->run->id;
}

static bool rescue_clip(struct job *job)
{
    kw_error err;
    if (rescue_path(job, job->settings.output, job->rescued_clip) &&
        write_clip(job, job->rescued_clip, &err) == KW_OK)
        return true;
    job->rescued_clip[0] = '\0';
    rescue_end(job);
    return false;
}

/* The failure to write a file, and where it is instead: "" for nowhere. */
static int fail_output(const kw_error *err, const char *what, const char *rescued)
{
    kw_error failure = *err;
    if (*rescued) kw__fail(&failure, err->code, "%s; the %s in %s", err->message, what, rescued);
    return kw__cli_fail(&failure);
}

/* What is still to be said once the report is out, and the exit code. */
static int conclude(const struct job *job, kw_status status, const kw_error *err, int code)
{
    if (status && status != KW_ERROR_CANCELLED) code = fail_output(err, "clip is", job->rescued_clip);
    if (job->latents_error.code) code = fail_output(&job->latents_error, "latents are", job->rescued_latents);
    return status == KW_ERROR_CANCELLED ? stopped(job) : code;
}

static int finish(struct job *job, const struct kw__options *options)
{
    kw_error err = {0};
    job->report.clip = &job->clip;
    kw_status status = write_clip(job, job->settings.output, &err);
    bool rescued = status == KW_ERROR_IO && !stop_signal && rescue_clip(job);
    if (status && stop_signal) status = KW_ERROR_CANCELLED;
    job->report.output = rescued ? job->rescued_clip : status ? NULL : job->settings.output;
    job->report.latents = job->latents;
    keep_run(job);
    int code = kw__generate_print(&job->report, options);
    if (!code) kw__keep_say(job->findings, job->num_findings);
    if (!code) kw__keep_warn(&job->keep);
    return conclude(job, status, &err, code);
}

static int run(struct job *job, const struct kw__options *options)
{
    const struct settings *s = &job->settings;
    struct kw__generate_report *report = &job->report;
    kw_error err = {0};
    kw_status status = kw_model_open(job->catalog, options->args[0], &job->model, &err);
    if (!status) status = check_outputs(job, options, &err);
    if (!status) status = kw__meters_open(s->meter, 0, &job->meter, job->report.metered, &err);
    if (!status) status = open_pipeline(job, options, &err);
    if (!status) report->info = kw__pipeline_info(job->pipeline);
    if (!status) status = predict(job, options, &err);
    int refused = status ? KW__EXIT_OK : kw__keep_open(s->store, &job->keep);
    if (refused) return refused;
    if (!status && s->idle_s > 0) status = kw_meter_idle(job->meter, s->idle_s, &err);
    if (!status && stop_signal) return stopped(job);
    if (!status) status = kw__pipeline_load(job->pipeline, &err);
    if (!status && !(job->run = kw__run_new("generate"))) status = kw__fail_memory(&err);
    if (!status) status = kw__pipeline_run(job->pipeline, s->seed_value, &job->clip, &err);
    clear_bar(&job->progress);
    if (status == KW_ERROR_CANCELLED) return stopped(job);
    if (status) return kw__cli_fail(&err);
    report->model = options->args[0];
    report->device = s->device;
    report->prompt = s->prompt;
    report->negative_prompt = s->negative_prompt;
    report->seed = s->seed_value;
    report->info = kw__pipeline_info(job->pipeline);
    report->meter = job->meter;
    report->meter_name = s->meter;
    return finish(job, options);
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
        {"idle", 0, KW__OPTION_ABOVE, "SECONDS", "measure the idle machine first", &s->idle_s},
        {"meter", 0, KW__OPTION_TEXT, "NAME", "auto, nvml, rapl, replay:FILE or none", &s->meter},
        {"check", 0, KW__OPTION_FLAG, NULL, "look for NaN after each operator, not each step", &s->check},
        {"calibration", 0, KW__OPTION_TEXT, "NAME", "to predict with, instead of this machine's",
         &s->calibration},
        KW__KEEP_OPTION(&s->store),
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
    catch_signals();
    code = kw__cli_catalog(&options, &job.catalog);
    if (code) return code;
    job.progress.shown = isatty(STDERR_FILENO);
    code = run(&job, &options);
    kw__run_free(job.run);
    kw__keep_close(&job.keep);
    kw_prediction_free(job.prediction);
    kw__clip_free(&job.clip);
    kw__pipeline_close(job.pipeline);
    if (job.meter) kw_meter_close(job.meter);
    kw_model_close(job.model);
    kw_catalog_close(job.catalog);
    return code;
}
