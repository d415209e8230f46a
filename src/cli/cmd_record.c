/*
 * kinowatt record: meters any command and its children, stage by stage.
 *
 * The command finds what it would find without us, and its exit code is ours. What can be known to fail (the
 * store, the JSON file, an expression) is said before it starts. stdout is the command's alone: the report
 * goes to stderr, after the command's end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/pending.h"
#include "cli/keep.h"
#include "cli/meters.h"
#include "cli/record.h"
#include "record/kept.h"
#include "store/run_json.h"

struct settings {
    const char *model, *hardware, *stack, *weights, *dataset, *meter, *output, *store;
    double idle_s;
    struct kw__texts set, stages;
};

struct job {
    struct settings settings;
    const struct kw__options *options;
    kw_catalog *catalog;
    struct kw__descriptors descriptors;
    kw_meter *meter;
    struct kw__keep keep;
    struct kw__record_stage stages[KW__MAX_STAGE_LINES];
    char stage_names[KW__MAX_STAGE_LINES][64];
    size_t num_stages;
    struct kw__record *record;
    struct kw__run *run;
};

/* ---- Options --------------------------------------------------------------------------------------- */

/* Splits NAME=VALUE; the name goes to `name`. NULL: it is none. */
static const char *split(const char *text, char name[64])
{
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : 0;
    if (length == 0 || length >= 64) return NULL;
    memcpy(name, text, length);
    name[length] = '\0';
    return equals + 1;
}

static int check_options(struct job *job)
{
    const struct kw__texts *given = &job->settings.stages, *set = &job->settings.set;
    char name[64];
    for (size_t i = 0; i < set->count; i++)
        if (!split(set->texts[i], name))
            return kw__cli_usage("--set '%.80s' is not valid; give NAME=VALUE", set->texts[i]);
    if (given->count > KW__MAX_STAGE_LINES)
        return kw__cli_usage("--stage is given more than %d times", KW__MAX_STAGE_LINES);
    for (size_t i = 0; i < given->count; i++) {
        struct kw__record_stage *stage = &job->stages[i];
        stage->name = job->stage_names[i];
        stage->expression = split(given->texts[i], job->stage_names[i]);
        if (!stage->expression || !*stage->expression)
            return kw__cli_usage("--stage '%.80s' is not valid; give NAME=REGEX", given->texts[i]);
        int rc = regcomp(&stage->line, stage->expression, REG_EXTENDED | REG_NEWLINE);
        if (rc) {
            char why[128];
            regerror(rc, &stage->line, why, sizeof why);
            return kw__cli_usage("--stage %s: '%.80s' is no regular expression: %s", stage->name,
                                 stage->expression, why);
        }
        job->num_stages++;
    }
    return KW__PROCEED;
}

/* ---- Labels ---------------------------------------------------------------------------------------- */

static kw_status label_options(struct kw__run *run, const struct job *job, kw_error *err)
{
    const struct settings *s = &job->settings;
    const kw_request *r = &job->options->request;
    struct kw__run_request *to = &run->request;
    char name[64];
    if (s->model) run->model = s->model;
    if (s->hardware) run->hardware = s->hardware;
    if (s->stack) run->stack = s->stack;
    if (s->weights) run->weights = s->weights;
    run->dataset = s->dataset;
    if (r->width) to->width = r->width;
    if (r->height) to->height = r->height;
    if (r->num_frames) to->num_frames = to->num_frames_asked = r->num_frames;
    if (r->num_inference_steps) to->num_inference_steps = r->num_inference_steps;
    if (r->batch_size) to->batch_size = r->batch_size;
    if (r->prompt_tokens > 0) to->prompt_tokens = r->prompt_tokens;
    if (r->negative_tokens > 0) to->negative_tokens = r->negative_tokens;
    if (r->guidance_scale >= 0) to->guidance_scale = r->guidance_scale;
    if (r->fps > 0) to->fps = r->fps;
    if (r->flow_shift > 0) to->flow_shift = r->flow_shift;
    kw_status status = KW_OK;
    if (r->guidance_scale_2 >= 0) {
        char text[64];
        snprintf(text, sizeof text, "%g", r->guidance_scale_2);
        status = kw__kept_label(run, "guidance_scale_2", text, err);
    }
    for (size_t i = 0; !status && i < s->set.count; i++) {
        const char *value = split(s->set.texts[i], name);
        status = kw__kept_label(run, name, value, err);
    }
    return status;
}

/* The command as one line. Of the arena. */
static const char *command_text(struct kw__arena *arena, char *const *argv)
{
    char *text = kw__arena_strdup(arena, argv[0]);
    for (size_t i = 1; text && argv[i]; i++) text = kw__arena_printf(arena, "%s %s", text, argv[i]);
    return text;
}

/* ---- The run --------------------------------------------------------------------------------------- */

/* What the command did, and how. */
static kw_status tell(struct kw__run *run, const struct job *job, kw_error *err)
{
    const struct kw__record *record = job->record;
    bool stopped = record->signal == SIGINT || record->signal == SIGTERM || record->signal == SIGHUP ||
                   record->signal == SIGQUIT;
    run->state = stopped ? "stopped" : record->exit_code ? "failed" : "done";
    run->session = run->uuid;
    const char *command = command_text(&run->arena, job->options->args);
    if (!command) return kw__fail_memory(err);
    /* labelled runs are repeats of each other by their labels */
    kw_status status = kw__run_set(run, run->model ? "run.command" : "command", command, err);
    return status ? status : kw__run_set(run, "run.meter", job->settings.meter, err);
}

static kw_status make_run(struct job *job, kw_error *err)
{
    kw_status status = kw__kept_record(job->record, job->meter, job->catalog, job->run, err);
    if (!status) status = label_options(job->run, job, err);
    return status ? status : tell(job->run, job, err);
}

/* ---- Keeping it ------------------------------------------------------------------------------------ */

/* What `kinowatt import` reads. */
static kw_status write_json(const struct job *job, const struct kw__finding *findings, size_t count,
                            kw_error *err)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__out_puts(&out, "{\"schema\": \"" KW__RUNS_SCHEMA "\", \"runs\": [\n");
    kw__run_put_json(&out, job->run, job->run->id, findings, count);
    kw__out_puts(&out, "\n]}\n");
    kw_status status = kw__out_write_file(&out, job->settings.output, err);
    kw__out_free(&out);
    return status;
}

/* The exit code of what is ours: the command's goes before it. */
static int finish(struct job *job)
{
    struct kw__out out;
    struct kw__finding *findings;
    size_t count;
    kw_error err = {0};
    if (make_run(job, &err)) return kw__cli_fail(&err);
    kw__keep_add(&job->keep, job->run);
    kw__out_init(&out);
    kw__record_put(&out, job->run, job->record, command_text(&job->run->arena, job->options->args));
    (void)kw__out_write_fd(&out, STDERR_FILENO, NULL);
    kw__out_free(&out);
    kw__record_warn(job->record, job->run);
    for (size_t i = 0; i < job->num_stages; i++)
        if (!job->record->stage_seen[i])
            kw__cli_warn("--stage %s: no line of output fits '%.80s', a POSIX extended regular expression",
                         job->stages[i].name, job->stages[i].expression);
    kw__keep_check(&job->keep, job->catalog, job->run, &findings, &count);
    kw__keep_say(findings, count);
    kw__keep_warn(&job->keep);
    return job->settings.output && write_json(job, findings, count, &err) ? kw__cli_fail(&err) : KW__EXIT_OK;
}

/* ---- The command ----------------------------------------------------------------------------------- */

static int open_all(struct job *job)
{
    struct settings *s = &job->settings;
    kw_error err = {0};
    bool metered[KW_NUM_DEVICES];
    int code = kw__cli_catalog(job->options, &job->catalog);
    if (code) return code;
    if (s->output && kw__pending_check(s->output, &err)) return kw__cli_fail(&err);
    code = kw__keep_open(s->store, &job->keep);
    if (code) return code;
    kw_status status = kw__meters_open(s->meter, 0, &job->meter, metered, &err);
    if (!status && s->idle_s > 0) status = kw_meter_idle(job->meter, s->idle_s, &err);
    if (!status && !(job->run = kw__run_new("record"))) status = kw__fail_memory(&err);
    return status ? kw__cli_fail(&err) : KW__PROCEED;
}

static int run(struct job *job)
{
    char library[1100];
    kw_error err = {0};
    int code = open_all(job);
    if (code != KW__PROCEED) return code;
    const struct kw__record_options options = {
        .argv = job->options->args,
        .meter = job->meter,
        .descriptors = &job->descriptors,
        .nvtx_library = kw__record_nvtx_library(library, sizeof library),
        .stages = job->stages,
        .num_stages = job->num_stages,
    };
    kw_status status = kw__record_run(&options, &job->record, &err);
    if (!status) {
        code = finish(job);
        return job->record->exit_code ? job->record->exit_code : code;
    }
    code = kw__cli_fail(&err);
    return status == KW_ERROR_NOT_FOUND ? 127 : status == KW_ERROR_UNSUPPORTED ? 126 : code;
}

int kw__cmd_record(int argc, char **argv)
{
    struct job job = {.settings = {.meter = "auto"}};
    struct settings *s = &job.settings;
    kw__descriptors_note(&job.descriptors);
    const struct kw__option extra[] = {
        {"model", 0, KW__OPTION_TEXT, "NAME", "what the command runs; it and the above label the run",
         &s->model},
        {"hardware", 0, KW__OPTION_TEXT, "NAME", "instead of the GPU that is found", &s->hardware},
        {"stack", 0, KW__OPTION_TEXT, "NAME", "the software, diffusers-0.40", &s->stack},
        {"weights", 0, KW__OPTION_TEXT, "KIND", "checkpoint, random:0:normal, ...", &s->weights},
        {"set", 0, KW__OPTION_LIST, "NAME=VALUE", "any other setting; may be given again", &s->set},
        {"dataset", 0, KW__OPTION_TEXT, "NAME", "what the run belongs to", &s->dataset},
        {"stage", 0, KW__OPTION_LIST, "NAME=REGEX", "a line of output that fits begins this stage",
         &s->stages},
        {"idle", 0, KW__OPTION_ABOVE, "SECONDS", "measure the idle machine first", &s->idle_s},
        {"meter", 0, KW__OPTION_TEXT, "LIST", "auto, nvml, rapl, nvml,rapl, replay:FILE or none", &s->meter},
        {"output", 'o', KW__OPTION_TEXT, "FILE", "write the run there too, as JSON", &s->output},
        {"json", 0, KW__OPTION_TEXT, "FILE", "the same as --output", &s->output},
        KW__KEEP_OPTION(&s->store),
    };
    const struct kw__usage usage = {
        .name = "record",
        .synopsis = "[options] -- COMMAND [ARGUMENT...]",
        .about =
            "Runs a command and says how long it and its stages took and what energy they used. Its input,\n"
            "output, signals and exit code are as without it; the report goes to stderr at the end. Stages\n"
            "come from marks: 'kinowatt mark', the Python module, NVTX ranges, or --stage.",
        .sets = KW__WITH_REQUEST,
        .least = 1,
        .runs_command = true,
        .missing = "record needs a command: kinowatt record -- python generate.py",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    job.options = &options;
    code = check_options(&job);
    if (code == KW__PROCEED) code = run(&job);
    kw__run_free(job.run);
    kw__record_free(job.record);
    for (size_t i = 0; i < job.num_stages; i++) regfree(&job.stages[i].line);
    kw_meter_close(job.meter);
    kw__keep_close(&job.keep);
    kw_catalog_close(job.catalog);
    return code;
}
