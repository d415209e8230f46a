/*
 * kinowatt sweep: an experiment over axes, of our engine or of any command.
 *
 * A plan is made, checked and kept in the store before anything runs; from then on what is left follows from
 * the store, so a sweep goes on after any interruption: by --resume, or by the same command line again.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/number.h"
#include "base/folder.h"
#include "base/pending.h"
#include "base/time.h"
#include "cli/keep.h"
#include "cli/meters.h"
#include "cli/sweep.h"
#include "model/catalog.h"
#include "store/check.h"
#include "record/record.h"
#include "sweep/command_runner.h"
#include "sweep/engine_runner.h"
#include "sweep/lock.h"
#include "sweep/slurm.h"

/* Of all runs of a sitting. */
enum { MOST_WINDOWS = 1 << 18 };

struct settings {
    struct kw__sweep_options ask;
    struct kw__texts own;
    const char *resume, *store, *launcher;
    double until_percent, budget_s;
};

struct job {
    struct settings settings;
    const struct kw__options *options;
    struct kw__descriptors descriptors;
    char nvtx[PATH_MAX];
    kw_catalog *catalog;
    char *path; /* of the store, absolute */
    struct kw__store *store;
    struct kw__sweep_plan *plan;
    struct kw__sweep_lock lock;
    kw_meter *meter;
    struct kw__engine_runner *engine;
    struct kw__command_runner *command;
    struct kw__sweep_state *state;
    struct kw__forecast *forecast;
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

static bool is_stopped(void *user)
{
    (void)user;
    return stop_signal != 0;
}

/* ---- Options ------------------------------------------------------------------------------------------ */

static int check_resume(const struct settings *s, const struct kw__options *options)
{
    const struct kw__sweep_options *a = &s->ask;
    bool more = options->n_args > 0 || a->command || s->own.count || a->anchor || a->name || a->warmup >= 0 ||
                a->repeats || a->max_repeats || s->until_percent > 0 || a->idle_s > 0 || a->prompt ||
                a->negative_prompt || a->device || a->dtype || a->weights || a->meter || a->window ||
                s->launcher || a->tasks || options->predict.hardware || options->predict.stack ||
                options->predict.calibration || options->request.power_limit_w > 0;
    for (size_t i = 0; i < KW__NUM_AXES; i++) more = more || a->values[i];
    if (more)
        return kw__cli_usage(
            "--resume goes on with the plan as it is kept; leave out what describes another one");
    return KW__PROCEED;
}

static int check_settings(struct settings *s, const struct kw__options *options)
{
    struct kw__sweep_options *a = &s->ask;
    if (s->resume) return check_resume(s, options);
    if (options->n_args == 0 && !a->command)
        return kw__cli_usage(
            "sweep needs a model, or -- and a command: kinowatt sweep wan2.1-t2v-nano --steps 2,4");
    if (a->max_repeats && !(s->until_percent > 0))
        return kw__cli_usage("--max-repeats is for --until; the runs of a point are --repeats");
    if (s->launcher && strcmp(s->launcher, "slurm") != 0)
        return kw__cli_usage("--launcher '%.80s' is not known; slurm is", s->launcher);
    if (a->tasks && !s->launcher) return kw__cli_usage("--tasks is for --launcher slurm");
    if (a->command && (a->prompt || a->negative_prompt || a->dtype || a->device))
        return kw__cli_usage("--prompt, --device and --dtype are our engine's; put them into the command");
    if (a->device && strcmp(a->device, "cpu") != 0) {
        const kw_error err = {KW_ERROR_DEVICE,
                              "this kinowatt runs models on the CPU alone; use --device cpu"};
        return kw__cli_fail(&err);
    }
    if (a->dtype && strcmp(a->dtype, "bf16") != 0 && strcmp(a->dtype, "f32") != 0)
        return kw__cli_usage("--dtype '%.80s' is not known; bf16 and f32 are", a->dtype);
    return KW__PROCEED;
}

/* What was not given. */
static void fill_defaults(struct settings *s, const struct kw__options *options)
{
    struct kw__sweep_options *a = &s->ask;
    a->model = options->n_args ? options->args[0] : NULL;
    a->own = s->own.texts;
    a->num_own = s->own.count;
    a->hardware = options->predict.hardware;
    a->stack = options->predict.stack;
    a->calibration = options->predict.calibration;
    a->power_limit_w = options->request.power_limit_w;
    a->until = s->until_percent / 100;
    if (a->warmup < 0) a->warmup = 1;
    if (!a->repeats) a->repeats = 3;
    if (!a->meter) a->meter = "auto";
    if (s->launcher && !a->tasks) a->tasks = 1;
    if (a->command) return;
    if (!a->prompt) a->prompt = "a cat surfs a wave at sunset";
    if (!a->negative_prompt) a->negative_prompt = "";
    if (!a->device) a->device = "cpu";
    if (!a->weights) a->weights = "random";
}

/* ---- What is needed ---------------------------------------------------------------------------------- */

static kw_status open_store(struct job *job, kw_error *err)
{
    char *given, here[PATH_MAX] = "";
    kw_status status = kw__store_path(job->settings.store, &given, err);
    if (status) return status;
    status = kw__store_open(given, KW__STORE_WRITE, &job->store, err);
    /* absolute, since the sweep goes to its own folder later */
    if (!status && *given != '/' && !getcwd(here, sizeof here))
        status = kw__fail(err, KW_ERROR_IO, "cannot tell the current folder: %s", strerror(errno));
    if (!status) job->path = *here ? kw__text("%s/%s", here, given) : strdup(given);
    if (!status && !job->path) status = kw__fail_memory(err);
    free(given);
    return status;
}

static kw_status open_plan(struct job *job, bool *found, kw_error *err)
{
    const struct settings *s = &job->settings;
    kw_status status;
    if (s->resume) {
        *found = true;
        status = kw__sweep_find(job->store, s->resume, &job->plan, err);
        return status == KW_ERROR_NOT_FOUND
                   ? kw__fail(err, status,
                              "there is no sweep %.100s in %.300s; give the --store it is kept in", s->resume,
                              job->path)
                   : status;
    }
    status = kw__sweep_plan_new(job->catalog, &s->ask, &job->plan, err);
    for (size_t i = 0; !status && i < job->plan->num_notes; i++) kw__cli_warn("%s", job->plan->notes[i]);
    return status ? status : kw__sweep_keep(job->store, &job->plan, found, err);
}

/* FILE in the sweep's folder beside the store; a task's store is in it already. */
static kw_status file_of(const struct job *job, const char *file, char out[PATH_MAX], kw_error *err)
{
    const struct kw__sweep_plan *plan = job->plan;
    int folder = (int)(strrchr(job->path, '/') - job->path), used;
    if (plan->task >= 0)
        used = snprintf(out, PATH_MAX, "%.*s/task-%" PRId64 ".%s", folder, job->path, plan->task, file);
    else
        used = snprintf(out, PATH_MAX, "%.*s/sweeps/%s/%s", folder, job->path, plan->options.name, file);
    if (used >= PATH_MAX)
        return kw__fail(err, KW_ERROR_USAGE, "the store's path is too long; give a shorter one");
    return kw__folder_parents(out, err);
}

/* ---- Running here ------------------------------------------------------------------------------------ */

/* One process at a time; and what an earlier one left running must have ended. */
static kw_status take_lock(struct job *job, kw_error *err)
{
    kw_status status = kw__sweep_lock(job->path, job->plan->uuid, job->plan->options.name, &job->lock, err);
    bool told = false;
    while (!status && !kw__sweep_lock_programs(&job->lock, job->plan->uuid)) {
        if (!told) kw__cli_warn("waiting for a program that an earlier sitting has left running");
        told = true;
        kw__sleep_until(kw__monotonic_s() + 0.02);
        if (stop_signal) status = kw__fail(err, KW_ERROR_CANCELLED, "stopped");
    }
    if (!status && job->lock.programs < KW__MAX_DESCRIPTORS) job->descriptors.open[job->lock.programs] = 1;
    return status;
}

static kw_status open_runner(struct job *job, struct kw__sweep_runner *out, kw_error *err)
{
    const struct kw__sweep_options *o = &job->plan->options;
    struct kw__forecast_options forecast = {.hardware = o->hardware,
                                            .stack = o->stack,
                                            .calibration = o->calibration,
                                            .prompt_tokens = -1,
                                            .negative_tokens = -1};
    char log[PATH_MAX];
    bool metered[KW_NUM_DEVICES];
    kw_status status = kw__meters_open(o->meter, MOST_WINDOWS, &job->meter, metered, err);
    if (status) return status;
    if (o->command) {
        status = file_of(job, "output.log", log, err);
        const struct kw__command_runner_options options = {
            .catalog = job->catalog,
            .plan = job->plan,
            .meter = job->meter,
            .descriptors = &job->descriptors,
            .nvtx_library = kw__record_nvtx_library(job->nvtx, sizeof job->nvtx),
            .log = log};
        if (!status) status = kw__command_runner_open(&options, &job->command, err);
        if (!status) *out = kw__command_runner_of(job->command);
    } else {
        const struct kw__engine_runner_options options = {
            .catalog = job->catalog, .plan = job->plan, .meter = job->meter, .stopped = is_stopped};
        status = kw__engine_runner_open(&options, &job->engine, &forecast, err);
        if (!status) *out = kw__engine_runner_of(job->engine);
    }
    return status ? status : kw__forecast_new(job->catalog, job->state, &forecast, &job->forecast, err);
}

/* Checks all runs of the sweep, now that their repeats are there. */
static void check(const struct job *job)
{
    const struct kw__run_filter filter = {.sweep = job->plan->uuid};
    const struct kw__check check = {.catalog = job->catalog, .store = job->store, .filter = &filter};
    struct kw__check_counts counts;
    kw_error err = {0};
    if (kw__check_runs(&check, &counts, &err))
        kw__cli_warn("the runs could not be checked: %s", err.message);
    else
        kw__keep_say_counts(&counts, job->settings.store);
}

/* The result, and what is wrong with it. */
static int finish(const struct job *job)
{
    const struct kw__sweep_result result = {job->plan, job->state, job->forecast, job->settings.store};
    char log[PATH_MAX];
    kw_error err = {0};
    int64_t failed = kw__sweep_failures(job->state);
    int code = kw__sweep_print(&result, job->options);
    if (code) return code;
    check(job);
    if (!failed) return KW__EXIT_OK;
    if (job->plan->options.command && job->plan->options.tasks == 0 && !file_of(job, "output.log", log, &err))
        kw__fail(&err, KW_ERROR_IO, "%" PRId64 " run%s failed; what %s printed is in %.300s", failed,
                 kw__plural(failed), failed == 1 ? "it" : "they", log);
    else
        kw__fail(&err, KW_ERROR_IO, "%" PRId64 " run%s failed; 'kinowatt runs' says why", failed,
                 kw__plural(failed));
    return kw__cli_fail(&err);
}

static int say_stopped(const struct job *job)
{
    int64_t done, wanted;
    kw_error err = {0};
    static const char clear[] = "\r\033[K"; /* the line of the run that was under way */
    if (isatty(STDERR_FILENO)) (void)kw__write_all(STDERR_FILENO, clear, sizeof clear - 1);
    kw__sweep_count(job->state, &done, &wanted);
    kw__fail(&err, KW_ERROR_CANCELLED,
             "stopped; %" PRId64 " of %" PRId64 " runs are kept. Go on with: kinowatt sweep --resume %s%s%s",
             done, done + wanted, job->plan->options.name, job->settings.store ? " --store " : "",
             job->settings.store ? job->settings.store : "");
    (void)kw__cli_fail(&err);
    int signal = stop_signal ? (int)stop_signal : job->command ? kw__command_runner_asked(job->command) : 0;
    return 128 + (signal ? signal : SIGINT);
}

static int run_here(struct job *job)
{
    kw_error err = {0};
    size_t point;
    int64_t repeat;
    kw_status status = take_lock(job, &err);
    if (!status && chdir(job->plan->folder) != 0)
        status = kw__fail(&err, KW_ERROR_IO, "cannot go to %.300s, where the sweep was begun: %s",
                          job->plan->folder, strerror(errno));
    if (!status) status = kw__sweep_state_load(job->store, job->plan, &job->state, &err);
    if (status) return kw__cli_fail(&err);
    struct kw__sweep_progress progress = {job->plan, NULL, isatty(STDERR_FILENO) != 0};
    struct kw__sweep_sitting sitting = {.plan = job->plan,
                                        .state = job->state,
                                        .store = job->store,
                                        .budget_s = job->settings.budget_s,
                                        .user = &progress,
                                        .stopped = is_stopped,
                                        .tell = kw__sweep_tell};
    if (kw__sweep_next(job->state, &point, &repeat)) {
        status = open_runner(job, &sitting.runner, &err);
        sitting.forecast = job->forecast;
        progress.forecast = job->forecast;
        if (!status) kw__sweep_announce(&progress, job->state);
        if (!status) status = kw__sweep_sit(&sitting, &err);
    } else {
        const struct kw__forecast_options nothing = {.why_not = "nothing was predicted when it ran"};
        status = kw__forecast_new(job->catalog, job->state, &nothing, &job->forecast, &err);
    }
    if (status == KW_ERROR_CANCELLED) return say_stopped(job);
    return status ? kw__cli_fail(&err) : finish(job);
}

/* ---- Running on a cluster ---------------------------------------------------------------------------- */

static void say_task(const struct kw__slurm_task *task, int64_t number, bool missing)
{
    if (task->busy)
        kw__cli_warn("task %" PRId64 " is not in the queue, but a process of it still writes", number);
    else if (missing && task->exists && *task->last)
        kw__cli_warn("task %" PRId64 " ended before its share was done; it said: %s (%s)", number, task->last,
                     task->log);
    else if (missing && task->exists)
        kw__cli_warn("task %" PRId64 " ended before its share was done, and said nothing", number);
}

/* Which tasks still have something to do. */
static void find_missing(const struct job *job, bool *missing)
{
    for (size_t i = 0; i < job->plan->num_points; i++)
        if (kw__sweep_wanted(job->state, i)) missing[(int64_t)i % job->plan->options.tasks] = true;
}

static int submit(const struct job *job, const struct kw__slurm_options *slurm, struct kw__slurm_task *tasks,
                  bool *missing)
{
    int64_t queued = 0, submitted = 0;
    char number[32] = "";
    kw_error err = {0};
    for (int64_t t = 0; t < job->plan->options.tasks; t++) {
        queued += *tasks[t].queue != '\0';
        if (!*tasks[t].queue) say_task(&tasks[t], t, missing[t]);
        missing[t] = missing[t] && !*tasks[t].queue && !tasks[t].busy;
        submitted += missing[t];
    }
    if (submitted && kw__slurm_submit(slurm, missing, number, &err)) return kw__cli_fail(&err);
    if (job->options->json || job->options->csv) {
        const struct kw__sweep_result result = {job->plan, job->state, job->forecast, job->settings.store};
        return kw__sweep_print(&result, job->options);
    }
    int64_t done, wanted;
    struct kw__out out;
    kw__out_init(&out);
    kw__sweep_count(job->state, &done, &wanted);
    if (submitted) kw__out_printf(&out, "Submitted %" PRId64 " tasks as job %s. ", submitted, number);
    if (queued) kw__out_printf(&out, "%" PRId64 " tasks are in the queue. ", queued);
    kw__out_printf(&out,
                   "%" PRId64 " of %" PRId64 " runs are gathered.\nGather with: kinowatt sweep --resume ",
                   done, done + wanted);
    kw__cli_put(&out, job->plan->options.name);
    if (job->settings.store) kw__out_puts(&out, " --store ");
    if (job->settings.store) kw__cli_put(&out, job->settings.store);
    kw__out_puts(&out, "\n");
    return kw__cli_emit(job->options, &out);
}

static int run_on_slurm(struct job *job)
{
    const struct kw__slurm_options slurm = {.plan = job->plan,
                                            .store = job->store,
                                            .path = job->path,
                                            .data = job->options->data,
                                            .budget_s = job->settings.budget_s};
    const struct kw__forecast_options forecast = {.hardware = job->plan->options.hardware,
                                                  .stack = job->plan->options.stack,
                                                  .calibration = job->plan->options.calibration,
                                                  .prompt_tokens = -1,
                                                  .negative_tokens = -1};
    size_t count = (size_t)job->plan->options.tasks;
    kw_error err = {0};
    int64_t done, wanted;
    struct kw__slurm_task *tasks = kw__arena_alloc(&job->plan->arena, count, sizeof *tasks);
    bool *missing = kw__arena_alloc(&job->plan->arena, count, sizeof *missing);
    kw_status status = tasks && missing ? take_lock(job, &err) : kw__fail_memory(&err);
    if (!status && chdir(job->plan->folder) != 0)
        status = kw__fail(&err, KW_ERROR_IO, "cannot go to %.300s, where the sweep was begun: %s",
                          job->plan->folder, strerror(errno));
    if (!status) status = kw__slurm_gather(&slurm, tasks, &err);
    if (!status) status = kw__sweep_state_load(job->store, job->plan, &job->state, &err);
    if (!status) status = kw__forecast_new(job->catalog, job->state, &forecast, &job->forecast, &err);
    if (status) return kw__cli_fail(&err);
    kw__sweep_count(job->state, &done, &wanted);
    if (!wanted) return finish(job);
    find_missing(job, missing);
    return submit(job, &slurm, tasks, missing);
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int run(struct job *job)
{
    kw_error err = {0};
    bool found;
    kw_status status = job->settings.launcher ? kw__slurm_ready(&err) : KW_OK; /* before a plan is kept */
    if (!status) status = open_store(job, &err);
    if (!status) status = open_plan(job, &found, &err);
    if (status) return kw__cli_fail(&err);
    catch_signals();
    if (job->plan->options.tasks && job->plan->task < 0) return run_on_slurm(job);
    return run_here(job);
}

static void close_all(struct job *job)
{
    kw__engine_runner_close(job->engine);
    kw__command_runner_close(job->command);
    if (job->meter) kw_meter_close(job->meter);
    kw__forecast_free(job->forecast);
    kw__sweep_state_free(job->state);
    kw__sweep_plan_free(job->plan);
    kw__store_close(job->store);
    kw__sweep_release(&job->lock);
    kw_catalog_close(job->catalog);
    free(job->path);
}

/* The words behind "--" are the command; the options end before. */
static int take_command(int argc, char **argv, struct kw__sweep_options *ask)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") != 0) continue;
        ask->command = (const char *const *)argv + i + 1;
        ask->num_words = (size_t)(argc - i - 1);
        return i;
    }
    return argc;
}

static int parse(struct job *job, int argc, char **argv, struct kw__options *options)
{
    struct settings *s = &job->settings;
    struct kw__sweep_options *a = &s->ask;
    const struct kw__option own[] = {
        {"steps", 0, KW__OPTION_TEXT, "LIST", "the same as --num-inference-steps",
         &a->values[KW__AXIS_STEPS]},
        {"axis", 0, KW__OPTION_LIST, "NAME=LIST", "any other {NAME} of the command; may be repeated",
         &s->own},
        {"repeats", 0, KW__OPTION_COUNT, "N", "runs of each point; 3", &a->repeats},
        {"until", 0, KW__OPTION_ABOVE, "PERCENT", "and more until the means are known so well",
         &s->until_percent},
        {"max-repeats", 0, KW__OPTION_COUNT, "N", "with --until at most; 20", &a->max_repeats},
        {"warmup", 0, KW__OPTION_WHOLE, "N", "runs before what is cold is measured; 1", &a->warmup},
        {"anchor", 0, KW__OPTION_TEXT, "NAME=VALUE", "measured at both ends; the first point", &a->anchor},
        {"idle", 0, KW__OPTION_AMOUNT, "SECONDS", "gap between runs", &a->idle_s},
        {"budget", 0, KW__OPTION_ABOVE, "SECONDS", "begin no run that would end later", &s->budget_s},
        {"name", 0, KW__OPTION_TEXT, "NAME", "of the sweep in the store", &a->name},
        {"resume", 0, KW__OPTION_TEXT, "NAME", "go on with a sweep", &s->resume},
        {"window", 0, KW__OPTION_TEXT, "LIST", "windows whose sum counts, not the whole run", &a->window},
        {"prompt", 'p', KW__OPTION_STRING, "TEXT", "for our engine", &a->prompt},
        {"negative-prompt", 'n', KW__OPTION_STRING, "TEXT", "for our engine", &a->negative_prompt},
        {"device", 0, KW__OPTION_TEXT, "NAME", "of our engine: cpu", &a->device},
        {"dtype", 0, KW__OPTION_TEXT, "NAME", "of our engine: bf16 or f32", &a->dtype},
        {"weights", 0, KW__OPTION_TEXT, "DIR", "a checkpoint, random[:SEED][:DISTRIBUTION]; a command's kind",
         &a->weights},
        {"meter", 0, KW__OPTION_TEXT, "NAME", "auto, nvml, rapl, replay:FILE or none", &a->meter},
        {"launcher", 0, KW__OPTION_TEXT, "NAME", "slurm: submit a job array", &s->launcher},
        {"tasks", 0, KW__OPTION_COUNT, "N", "of the array, each a share of the points; 1", &a->tasks},
        {"store", 0, KW__OPTION_TEXT, "FILE", "keep plan and runs there", &s->store},
    };
    enum { NUM_OWN = sizeof own / sizeof own[0] };
    struct kw__option extra[KW__NUM_AXES + NUM_OWN];
    for (size_t i = 0; i < KW__NUM_AXES; i++)
        extra[i] = (struct kw__option){kw__axes[i].option,   kw__axes[i].letter, KW__OPTION_TEXT,
                                       kw__axes[i].argument, kw__axes[i].help,   &a->values[i]};
    memcpy(extra + KW__NUM_AXES, own, sizeof own);
    const struct kw__usage usage = {
        .name = "sweep",
        .synopsis = "[MODEL]",
        .about =
            "Measures every point of the axes, again and again in random order, on our engine, or by a command:\n"
            "kinowatt sweep [MODEL] [options] -- COMMAND {steps} {size} ... The runs are kept as they end;\n"
            "--resume, or the same line again, goes on where it stopped.",
        .sets = KW__WITH_SYSTEM | KW__WITH_JSON | KW__WITH_CSV,
        .most = 1,
        .extra = extra,
        .n_extra = KW__NUM_AXES + NUM_OWN,
    };
    int end = take_command(argc, argv, a);
    int code = kw__options_parse(&usage, end, argv, options);
    if (code == KW__PROCEED && a->command && a->num_words == 0)
        return kw__cli_usage("there is no command behind --");
    return code;
}

int kw__cmd_sweep(int argc, char **argv)
{
    struct job job = {.settings.ask.warmup = -1, .lock = KW__SWEEP_LOCK_NONE};
    struct kw__options options;
    kw__descriptors_note(&job.descriptors);
    int code = parse(&job, argc, argv, &options);
    if (code == KW__PROCEED) code = check_settings(&job.settings, &options);
    if (code != KW__PROCEED) return code;
    job.options = &options;
    if (!job.settings.resume) fill_defaults(&job.settings, &options);
    code = kw__cli_catalog(&options, &job.catalog);
    if (code) return code;
    code = run(&job);
    close_all(&job);
    return code;
}
