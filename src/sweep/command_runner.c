#include "sweep/command_runner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/pending.h"
#include "record/kept.h"
#include "record/record.h"

struct kw__command_runner {
    struct kw__command_runner_options options;
    int log;
    int asked; /* see kw__command_runner_asked */
    bool warm; /* something has run */
};

static bool is_cold(void *self, size_t point)
{
    (void)point;
    return !((struct kw__command_runner *)self)->warm;
}

/* The words as one line. Of the arena. */
static const char *join(struct kw__arena *arena, const char *const *words)
{
    const char *text = words[0];
    for (size_t i = 1; text && words[i]; i++) text = kw__arena_printf(arena, "%s %s", text, words[i]);
    return text;
}

/* Runs of one sweep are repeats of each other by its command as it was typed. */
static kw_status label(const struct kw__command_runner *runner, struct kw__run *run, const char *line,
                       kw_error *err)
{
    const char *typed = join(&run->arena, runner->options.plan->options.command);
    if (!typed) return kw__fail_memory(err);
    kw_status status = kw__run_set(run, "command", typed, err);
    return status ? status : kw__run_set(run, "run.command", line, err);
}

static void write_header(const struct kw__command_runner *runner, struct kw__run *run, const char *name,
                         const char *line)
{
    const char *header = kw__arena_printf(&run->arena, "== %s %s: %s\n", run->began, name, line);
    if (header) (void)kw__write_all(runner->log, header, strlen(header));
}

/* What became of it. */
static void judge(const struct kw__record *record, struct kw__run *run)
{
    run->state = record->exit_code ? "failed" : "done";
    if (record->signal)
        run->note = kw__arena_printf(&run->arena, "ended by signal %d", record->signal);
    else if (record->exit_code)
        run->note = kw__arena_printf(&run->arena, "exit code %d", record->exit_code);
    else if (record->num_left)
        run->note = kw__arena_printf(&run->arena, "left running: %s", record->left);
}

static kw_status run_point(void *self, size_t point, const char *name, struct kw__run *run, kw_error *err)
{
    struct kw__command_runner *runner = self;
    const struct kw__command_runner_options *o = &runner->options;
    struct kw__record *record;
    char **words;
    kw_status status = kw__sweep_command(o->plan, point, name, &run->arena, &words, err);
    if (status) return status;
    const char *line = join(&run->arena, (const char *const *)words);
    if (!line) return kw__fail_memory(err);
    write_header(runner, run, name, line);
    const struct kw__record_options options = {.argv = words,
                                               .meter = o->meter,
                                               .descriptors = o->descriptors,
                                               .nvtx_library = o->nvtx_library,
                                               .output = runner->log};
    status = kw__record_run(&options, &record, err);
    if (status) return status;
    runner->warm = true;
    runner->asked = record->asked;
    if (record->asked)
        status = kw__fail(err, KW_ERROR_CANCELLED, "stopped by signal %d", record->asked);
    else
        status = kw__kept_record(record, o->meter, o->catalog, run, err);
    if (!status) status = label(runner, run, line, err);
    if (!status) judge(record, run);
    kw__record_free(record);
    return status;
}

int kw__command_runner_asked(const struct kw__command_runner *runner)
{
    return runner->asked;
}

struct kw__sweep_runner kw__command_runner_of(struct kw__command_runner *runner)
{
    return (struct kw__sweep_runner){runner, is_cold, run_point};
}

static bool is_program(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* Whether the anchor's command is there, as exec looks for it: said before anything runs. */
static kw_status check_program(const struct kw__command_runner *runner, kw_error *err)
{
    const struct kw__sweep_plan *plan = runner->options.plan;
    struct kw__arena arena;
    char **words, path[PATH_MAX];
    kw__arena_init(&arena);
    kw_status status = kw__sweep_command(plan, plan->anchor, "name", &arena, &words, err);
    const char *name = status ? "/" : words[0], *at = getenv("PATH");
    bool found = status || (strchr(name, '/') ? access(name, F_OK) == 0 : !at);
    for (; !found && at && !strchr(name, '/'); at = *at ? at + 1 : NULL) {
        size_t length = strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)length, length ? at : ".", name);
        found = is_program(path);
        at += length;
    }
    if (!found) status = kw__fail(err, KW_ERROR_NOT_FOUND, "%.200s: there is no such command", name);
    kw__arena_free(&arena);
    return status;
}

kw_status kw__command_runner_open(const struct kw__command_runner_options *options,
                                  struct kw__command_runner **out, kw_error *err)
{
    struct kw__command_runner *runner = calloc(1, sizeof *runner);
    if (!runner) return kw__fail_memory(err);
    runner->options = *options;
    kw_status status = check_program(runner, err);
    if (status) {
        free(runner);
        return status;
    }
    runner->log = open(options->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (runner->log < 0) {
        free(runner);
        return kw__fail_write(err, options->log, errno);
    }
    *out = runner;
    return KW_OK;
}

void kw__command_runner_close(struct kw__command_runner *runner)
{
    if (!runner) return;
    close(runner->log);
    free(runner);
}
