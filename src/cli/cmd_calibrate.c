/*
 * kinowatt calibrate: makes a calibration, from measured rows or from micro-runs on this machine.
 *
 * What is fitted to rows, with which priors, and how it is judged is in docs/CALIBRATION.md; that file holds
 * the priors it started from, the fitted values with their covariance, and the errors on held-out rows. What
 * is timed on this machine is said in src/predict/micro.h. It is written to the user's own folder of
 * calibrations unless told otherwise, since it holds for this machine alone; one that was stopped is not
 * written, one from which something was left out does not replace a finished one.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/pending.h"
#include "cli/calibrate.h"
#include "cli/folder.h"
#include "hardware/hardware.h"
#include "model/catalog.h"
#include "predict/calibrate_cpu.h"

struct settings {
    struct kw__fit_settings fit; /* its stack is also --device's */
    const char *date, *device;
    int64_t seconds;
    char today[16];
};

/* ---- Writing ------------------------------------------------------------------------------------------ */

kw_status kw__calibrate_place(const char *stack, const char *hardware, char **path, kw_error *err)
{
    char *folder = kw__user_calibrations();
    if (!folder)
        return kw__fail(err, KW_ERROR_USAGE,
                        "neither XDG_DATA_HOME nor HOME says where your data are; give --output");
    *path = kw__text("%s/%s@%s.json", folder, stack, hardware);
    free(folder);
    if (!*path) return kw__fail_memory(err);
    kw_status status = kw__folder_parents(*path, err);
    if (!status) status = kw__pending_check(*path, err);
    return status;
}

int kw__calibrate_write(const struct kw__options *options, json_t *document, const char *path,
                        struct kw__out *head, const char *stack, const char *hardware)
{
    struct kw__options to = *options;
    bool piped = to.output && strcmp(to.output, "-") == 0;
    to.output = piped ? NULL : to.output ? to.output : path;
    int code = kw__cli_emit_json(&to, document);
    if (code || piped) {
        kw__out_free(head);
        return code;
    }
    kw__out_puts(head, "wrote ");
    kw__cli_put(head, to.output);
    kw__out_puts(head, "\nuse it: kinowatt predict MODEL ");
    if (options->output) {
        kw__out_puts(head, "--calibration ");
        kw__cli_put(head, to.output);
    } else {
        kw__out_puts(head, "--hardware ");
        kw__cli_put(head, hardware);
        kw__out_puts(head, " --stack ");
        kw__cli_put(head, stack);
    }
    kw__out_puts(head, "\n");
    return kw__cli_emit(NULL, head);
}

/* ---- This machine ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
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

struct bar {
    bool shown; /* stderr is a terminal */
    double seconds, drawn;
};

static bool show_progress(void *user, double done)
{
    enum { WIDTH = 24 };
    struct bar *bar = user;
    char full[WIDTH + 1], left[KW__FORMAT_SIZE];
    if (bar->shown && (done - bar->drawn) * bar->seconds >= 0.1) {
        for (int i = 0; i < WIDTH; i++) full[i] = i < (int)(done * WIDTH) ? '#' : '.';
        full[WIDTH] = '\0';
        fprintf(stderr, "\rcalibrate    [%s] %3d %%  %s left\033[K", full, (int)(100 * done),
                kw__format_seconds(left, ceil((1 - done) * bar->seconds)));
        bar->drawn = done;
    }
    return stop_signal == 0;
}

/* Times and fits. The document is the caller's. */
static kw_status time_machine(const kw_catalog *catalog, const struct settings *settings,
                              const char *stack_name, const kw_hardware *hardware,
                              struct kw__micro_samples *samples, json_t **document, kw_error *err)
{
    struct kw__stack *stack;
    struct bar bar = {isatty(STDERR_FILENO), (double)settings->seconds, -1};
    kw_status status = kw__stack_open(catalog, stack_name, &stack, err);
    if (status) return status;
    if (!stack->on_cpu)
        status =
            kw__fail(err, KW_ERROR_USAGE, "stack %s does not run on a CPU; kinowatt-cpu does", stack->name);
    struct kw__micro_options options = {.seconds = bar.seconds, .user = &bar, .progress = show_progress};
    if (!status) status = kw__micro_run(catalog, stack, &options, samples, err);
    if (bar.shown) fputs("\r\033[K", stderr);
    struct kw__cpu_description description = {.stack = stack->name,
                                              .cpu = hardware->cpu,
                                              .date = settings->date,
                                              .cores = (int)kw_hardware_get(hardware, "num_cores")};
    if (!status) status = kw__calibrate_cpu(samples, &description, document, err);
    kw__stack_close(stack);
    return status;
}

/* "A, B and C": what there was no time for. */
static void list_left_out(const struct kw__micro_samples *samples, char *text, size_t size)
{
    char name[KW__MICRO_NAME];
    size_t used = 0;
    unsigned rest = samples->left_out;
    text[0] = '\0';
    for (size_t i = 0; i < kw__num_micro_scenes && used < size; i++) {
        if (!(rest >> i & 1)) continue;
        rest &= ~(1u << i);
        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                 !used  ? ""
                                 : rest ? ", "
                                        : " and ",
                                 kw__micro_scene_name(i, name));
    }
}

/* A calibration from which something was left out does not replace a finished one of the same machine. */
static kw_status keep_finished(const char *path, const struct kw__micro_samples *samples, const char *cpu,
                               kw_error *err)
{
    json_t *before = NULL;
    kw_error unreadable;
    char missing[512];
    if (!path || !samples->left_out || kw__json_load(path, &before, &unreadable)) return KW_OK;
    const char *its_cpu = json_string_value(json_object_get(json_object_get(before, "machine"), "cpu"));
    const char *date = json_string_value(json_object_get(before, "date"));
    bool finished = json_array_size(json_object_get(before, "left_out")) == 0;
    kw_status status = KW_OK;
    list_left_out(samples, missing, sizeof missing);
    if (finished && its_cpu && strcmp(its_cpu, cpu) == 0)
        status = kw__fail(err, KW_ERROR_CANCELLED,
                          "there was no time for %s, so the finished calibration of %.10s stays; let nothing "
                          "else run, or give --seconds more",
                          missing, date ? date : "before");
    json_decref(before);
    return status;
}

static void warn(const struct kw__micro_samples *samples, int cores)
{
    char missing[512];
    list_left_out(samples, missing, sizeof missing);
    if (samples->left_out)
        kw__cli_warn("there was no time for %s; for such sizes predictions stand on others until it is "
                     "calibrated with more --seconds",
                     missing);
    if (samples->rounds < KW__MICRO_FEW)
        kw__cli_warn("operators were timed once or twice only, which does not tell disturbed runs; calibrate "
                     "again with more --seconds, or when the machine is idle");
    /* those who were there throughout disturb all runs alike, which the runs do not tell */
    char spread[64] = "";
    if (samples->spread > 0)
        snprintf(spread, sizeof spread, " and whole rounds spread by %.0f %%", 100 * expm1(samples->spread));
    if (samples->other_cores >= 0.1 * cores)
        kw__cli_warn(
            "other processes kept %.1f of %d cores busy meanwhile%s: these are the times of a machine "
            "so disturbed, and predictions of an idle one will be too long; calibrate again when "
            "nothing else runs",
            samples->other_cores, cores, spread);
    else if (samples->disturbed > 0.3)
        kw__cli_warn("%.0f %% of the runs were disturbed by other programs%s; calibrate again when nothing "
                     "else runs",
                     100 * samples->disturbed, spread);
}

static int calibrate_cpu(const kw_catalog *catalog, const struct settings *settings,
                         const struct kw__options *options)
{
    kw_error err = {0};
    kw_hardware *hardware = NULL;
    json_t *document = NULL;
    char *path = NULL;
    struct kw__micro_samples samples = {0};
    struct kw__out head;
    kw_status status = kw_hardware_open(catalog, "cpu", &hardware, &err);
    const char *stack = settings->fit.selection.stack;
    if (!status && !stack)
        stack = kw_hardware_get(hardware, "bf16_flop_per_s") > 0 ? "kinowatt-cpu" : "kinowatt-cpu-f32";
    if (!status && !options->output) status = kw__calibrate_place(stack, "cpu", &path, &err);
    catch_signals();
    if (!status) status = time_machine(catalog, settings, stack, hardware, &samples, &document, &err);
    if (!status && stop_signal) status = kw__fail(&err, KW_ERROR_CANCELLED, "calibrating was stopped");
    if (!status)
        status = keep_finished(options->output ? options->output : path, &samples, hardware->cpu, &err);
    const int cores = status ? 0 : (int)sysconf(_SC_NPROCESSORS_ONLN);
    kw_hardware_close(hardware);
    if (status) json_decref(document);
    kw__out_init(&head);
    int code =
        status ? kw__cli_fail(&err) : kw__calibrate_write(options, document, path, &head, stack, "cpu");
    if (stop_signal) code = 128 + stop_signal;
    if (!code) warn(&samples, cores);
    kw__micro_free(&samples);
    free(path);
    return code;
}

/* ---- The command ----------------------------------------------------------------------------------- */

static bool is_date(const char *text)
{
    static const char form[] = "dddd-dd-dd";
    for (size_t i = 0; i < sizeof form; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i]) return false;
    return true;
}

static int check_settings(const struct settings *settings, bool train)
{
    const struct kw__fit_settings *fit = &settings->fit;
    bool shipped = fit->from && strcmp(fit->from, "delavande2025") == 0;
    if (settings->date && !is_date(settings->date))
        return kw__cli_usage("--date: '%.80s' is no date; give one as 2026-11-24", settings->date);
    if (!fit->from == !settings->device)
        return kw__cli_usage("calibrate needs one of --device cpu and --from ROWS");
    if (settings->device && strcmp(settings->device, "cpu") != 0)
        return kw__cli_usage("--device: '%.80s' cannot be calibrated; cpu can", settings->device);
    if (settings->device &&
        (fit->priors || fit->store || fit->selection.model || fit->selection.hardware || train))
        return kw__cli_usage("--device takes --stack and --seconds; the other options go with --from");
    if (shipped &&
        (fit->store || fit->selection.model || fit->selection.stack || fit->selection.hardware || train))
        return kw__cli_usage("delavande2025 is fitted as a whole; it takes --priors alone");
    return KW__EXIT_OK;
}

int kw__cmd_calibrate(int argc, char **argv)
{
    struct settings settings = {.seconds = 45};
    const struct kw__option extra[] = {
        {"device", 0, KW__OPTION_TEXT, "DEVICE",
         "what to time: cpu, this machine's; --stack: kinowatt-cpu, kinowatt-cpu-f32", &settings.device},
        {"seconds", 0, KW__OPTION_COUNT, "S", "with --device: the time that it takes; 45 without it",
         &settings.seconds},
        KW__FIT_OPTIONS(&settings.fit),
        {"date", 0, KW__OPTION_TEXT, "YYYY-MM-DD", "the date to write; today's without it", &settings.date},
    };
    const struct kw__usage usage = {
        .name = "calibrate",
        .synopsis = "--device cpu | --from ROWS",
        .about =
            "Times the engine's operators on this machine, in under a minute, or fits the kernel predictor to\n"
            "measured rows of one stack on one hardware, towards priors; and writes what they reach where\n"
            "predict finds it. ROWS are those of a file (data/published/*.csv, an export of runs), of a data\n"
            "set or sweep of the store, or delavande2025, which ships. Errors on rows that a fit has not seen\n"
            "are printed, and stand in the file. With --train-runs or --train-seconds a few runs are fitted,\n"
            "chosen by what they tell for their time, and the others scored.",
        .sets = KW__WITH_OUTPUT,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
        .output = "write the calibration there instead of where predict finds it; - is stdout",
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    bool train = settings.fit.train_runs || settings.fit.train_seconds > 0;
    code = check_settings(&settings, train);
    if (!code) code = kw__cli_check_output(&options);
    if (code) return code;
    if (!settings.fit.train_runs) settings.fit.train_runs = KW__FIT_RUNS;
    if (!(settings.fit.train_seconds > 0)) settings.fit.train_seconds = KW__FIT_SECONDS;
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(settings.today, sizeof settings.today, "%Y-%m-%d", &parts);
    if (!settings.date) settings.date = settings.today;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = settings.device ? calibrate_cpu(catalog, &settings, &options)
                           : kw__calibrate_rows(catalog, &settings.fit, train, settings.date, &options);
    kw_catalog_close(catalog);
    return code;
}
