/*
 * kinowatt doctor: what this machine and this build can do, and what it would take to get the rest.
 *
 * Only broken data make it fail: what is missing is a fact about the machine, not an error.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "engine/cpu/library.h"
#include "meter/meter.h"
#include "model/catalog.h"
#include "text/tokenizer.h"
#include "video/video.h"

static const struct kw__usage usage = {
    .name = "doctor",
    .synopsis = "",
    .about =
        "Says what this machine and this build can do, whether the data are sound, and what it would take to\n"
        "get what is missing. Fails only when data are broken.",
    .sets = KW__WITH_JSON | KW__WITH_OUTPUT,
};

enum state { GOOD, MISSING, BROKEN };
static const char *const state_names[] = {"ok", "missing", "broken"};

enum { MOST_METER_LINES = 32, MOST_CHECKS = MOST_METER_LINES + 16 };

struct check {
    char name[24];
    enum state state;
    char detail[512]; /* what was found */
    char remedy[256]; /* what would mend it; empty when nothing needs to */
};

struct report {
    struct check checks[MOST_CHECKS];
    size_t count;
};

/* Each check is one line; there are fewer than the report has room for. */
static struct check *add(struct report *report, const char *name, enum state state, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static struct check *add(struct report *report, const char *name, enum state state, const char *format, ...)
{
    struct check *check = &report->checks[report->count++];
    va_list args;
    *check = (struct check){.state = state};
    snprintf(check->name, sizeof check->name, "%.20s", name);
    va_start(args, format);
    (void)vsnprintf(check->detail, sizeof check->detail, format, args);
    va_end(args);
    return check;
}

static void remedy(struct check *check, const char *text)
{
    snprintf(check->remedy, sizeof check->remedy, "%s", text);
}

/* ---- The data ---- */

/* Whether an entry of the catalog opens. Stacks and calibrations are read by predicting with them; what this
 * machine's CPU cannot run is read nevertheless. */
static kw_status open_entry(const kw_catalog *catalog, kw_kind kind, const char *name, const kw_model *sample,
                            kw_error *err)
{
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_effective effective;
    kw_model *model = NULL;
    kw_hardware *hardware = NULL;
    kw_prediction *prediction = NULL;
    kw_status status = KW_OK;
    switch (kind) {
    case KW_MODELS:
        status = kw_model_open(catalog, name, &model, err);
        if (!status) status = kw_request_resolve(model, &request, &effective, err);
        break;
    case KW_HARDWARE: status = kw_hardware_open(catalog, name, &hardware, err); break;
    case KW_STACKS: options.stack = name; break;
    case KW_CALIBRATIONS: options.calibration = name; break;
    }
    if (sample && (kind == KW_STACKS || kind == KW_CALIBRATIONS))
        status = kw_predict(catalog, sample, &request, &options, &prediction, err);
    if (status == KW_ERROR_UNSUPPORTED) status = KW_OK;
    kw_prediction_free(prediction);
    kw_hardware_close(hardware);
    kw_model_close(model);
    return status;
}

static void check_kind(struct report *report, const kw_catalog *catalog, kw_kind kind, const char *name,
                       const kw_model *sample)
{
    kw_error first = {0};
    size_t count = kw_catalog_count(catalog, kind), broken = 0;
    for (size_t i = 0; i < count; i++) {
        kw_error err = {0};
        if (!open_entry(catalog, kind, kw_catalog_name(catalog, kind, i), sample, &err)) continue;
        if (broken++ == 0) first = err;
    }
    if (count == 0) {
        remedy(add(report, name, MISSING, "none"),
               "install kinowatt's data again, or name its folder with --data");
    } else if (broken) {
        remedy(add(report, name, BROKEN, "%zu of %zu do not open: %s", broken, count, first.message),
               "mend the file, or install kinowatt's data again");
    } else {
        add(report, name, GOOD, "%zu, all of them open", count);
    }
}

static void check_data(struct report *report, const struct kw__options *options)
{
    kw_catalog *catalog;
    kw_error err = {0};
    if (kw_catalog_open(options->data, &catalog, &err)) {
        remedy(add(report, "data", BROKEN, "%s", err.message), "install kinowatt's data, or name its folder");
        return;
    }
    add(report, "data", GOOD, "%s", catalog->folder);
    kw_model *sample = NULL;
    for (size_t i = 0; !sample && i < kw_catalog_count(catalog, KW_MODELS); i++)
        if (kw_model_open(catalog, kw_catalog_name(catalog, KW_MODELS, i), &sample, NULL)) sample = NULL;
    check_kind(report, catalog, KW_MODELS, "models", NULL);
    check_kind(report, catalog, KW_HARDWARE, "hardware", NULL);
    check_kind(report, catalog, KW_STACKS, "stacks", sample);
    check_kind(report, catalog, KW_CALIBRATIONS, "calibrations", sample);
    kw_model_close(sample);

    kw_hardware *cpu;
    if (kw_hardware_open(catalog, "cpu", &cpu, &err)) {
        add(report, "cpu", MISSING, "%s", err.message);
    } else {
        char flop[KW__FORMAT_SIZE], bandwidth[KW__FORMAT_SIZE];
        kw__format_flop(flop, kw_hardware_get(cpu, "fp32_flop_per_s"));
        kw__format_bytes(bandwidth, kw_hardware_get(cpu, "memory_bandwidth_bytes_per_s"));
        add(report, "cpu", GOOD, "%s; %s/s in fp32 at most, %s/s", kw_hardware_title(cpu), flop, bandwidth);
        kw_hardware_close(cpu);
    }
    kw_catalog_close(catalog);
}

/* ---- The machine ---- */

/* What can be measured here, device by device, and what it would take to measure the rest. */
static void check_meters(struct report *report)
{
    const kw_meter_options options = KW_METER_OPTIONS_INIT;
    struct kw__meter_line lines[MOST_METER_LINES];
    size_t count = kw__meter_describe(&options, lines, MOST_METER_LINES);
    for (size_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%.8s %.8s", lines[i].meter, kw_device_name(lines[i].device));
        struct check *check = add(report, name, lines[i].can ? GOOD : MISSING, "%s", lines[i].detail);
        remedy(check, lines[i].remedy);
    }
}

/* The signal that ends a process as it loads FFmpeg's libraries; 0: none. Of a file that was cut short behind
 * its header the loader touches pages that are not there, for which it has no error. */
static int deadly_signal(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        kw_error err;
        (void)signal(SIGBUS, SIG_DFL); /* not a sanitizer's, which would report it */
        (void)signal(SIGSEGV, SIG_DFL);
        (void)kw__mp4_ready(&err);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void check_mp4(struct report *report)
{
    kw_error err = {0};
    int killer = deadly_signal();
    if (killer)
        remedy(
            add(report, "mp4", MISSING,
                "loading FFmpeg's libraries ends in signal %d: a file of theirs is damaged", killer),
            "install FFmpeg's libraries again (libavutil, libavcodec, libavformat); write to a .y4m meanwhile");
    else if (kw__mp4_ready(&err))
        remedy(add(report, "mp4", MISSING, "%s", err.message),
               "install FFmpeg's libraries (libavformat, libavcodec); .y4m is written without");
    else
        add(report, "mp4", GOOD, "H.264 by FFmpeg's libraries");
}

/* Whether a clip can be written as .mp4, and which dtypes the CPU's engine has. */
static void check_engine(struct report *report)
{
    const struct kw__cpu_library library = kw__cpu_library();
    add(report, "engine", GOOD, "runs models on the CPU, by oneDNN %s", library.version);
    if (library.bf16)
        add(report, "bf16", GOOD, "computed natively (%s)", library.bf16);
    else
        remedy(add(report, "bf16", MISSING, "this CPU does not compute it"),
               "models run in f32, in twice the memory; bf16 takes a CPU with AVX512_BF16 or AMX");
    check_mp4(report);
}

static void check_build(struct report *report)
{
    add(report, "version", GOOD, "kinowatt %s", kw_version());
    add(report, "libraries", GOOD, "jansson %s, SQLite %s, sentencepiece %s", jansson_version_str(),
        sqlite3_libversion(), kw__sentencepiece_version());
}

/* ---- The command ---- */

static int print(const struct report *report, const struct kw__options *options)
{
    if (options->json) {
        json_t *checks = json_array();
        for (size_t i = 0; i < report->count; i++) {
            const struct check *c = &report->checks[i];
            json_array_append_new(checks,
                                  json_pack("{s:s, s:s, s:o, s:o}", "name", c->name, "state",
                                            state_names[c->state], "detail", kw__cli_string(c->detail),
                                            "remedy", kw__cli_string(*c->remedy ? c->remedy : NULL)));
        }
        return kw__cli_emit_json(options, json_pack("{s:s, s:s, s:o}", "schema", "kinowatt.doctor/1",
                                                    "version", kw_version(), "checks", checks));
    }
    struct kw__out out;
    kw__out_init(&out);
    for (size_t i = 0; i < report->count; i++) {
        const struct check *c = &report->checks[i];
        kw__out_printf(&out, "%-7s  %-12s  ", state_names[c->state], c->name);
        kw__cli_put(&out, c->detail);
        kw__out_puts(&out, "\n");
        if (*c->remedy) {
            kw__out_printf(&out, "%23s", "");
            kw__cli_put(&out, c->remedy);
            kw__out_puts(&out, "\n");
        }
    }
    return kw__cli_emit(options, &out);
}

int kw__cmd_doctor(int argc, char **argv)
{
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    struct report report = {0};
    check_build(&report);
    check_data(&report, &options);
    check_engine(&report);
    check_meters(&report);
    code = print(&report, &options);
    for (size_t i = 0; !code && i < report.count; i++)
        if (report.checks[i].state == BROKEN)
            return kw__cli_fail(
                &(kw_error){KW_ERROR_FORMAT, "the data are broken; doctor's report says where"});
    return code;
}
