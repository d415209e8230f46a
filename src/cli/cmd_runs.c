/*
 * kinowatt runs: what was measured and kept: lists it; shows, compares, deletes and exports runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "base/time.h"
#include "cli/runs.h"
#include "store/run_json.h"

enum { LISTED = 20 };

static const double wh_per_j = 1.0 / 3600;

/* ---- What the subcommands share ---------------------------------------------------------------------- */

static kw_status open_store(const struct kw__runs_settings *settings, enum kw__store_mode mode,
                            struct kw__store **out, kw_error *err)
{
    char *path;
    kw_status status = kw__store_path(settings->store, &path, err);
    if (status) return status;
    status = kw__store_open(path, mode, out, err);
    free(path);
    return status;
}

int kw__runs_open(const struct kw__runs_settings *settings, enum kw__store_mode mode, struct kw__store **out)
{
    kw_error err = {0};
    return open_store(settings, mode, out, &err) ? kw__cli_fail(&err) : KW__EXIT_OK;
}

int kw__runs_id(const char *text, int64_t *out)
{
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (text[strspn(text, "0123456789")] != '\0' || errno || value < 1)
        return kw__cli_usage("'%.80s' is no run's number; 'kinowatt runs' lists them", text);
    *out = value;
    return KW__PROCEED;
}

/* ---- The list ---------------------------------------------------------------------------------------- */

/* What is shown of a run, which itself is gone by then. */
struct line {
    int64_t id;
    const char *began, *kind, *model, *request, *hardware, *stack, *state, *mark;
    double duration_s;
    kw_reading energy_j[KW_NUM_DEVICES], power_w[KW_NUM_DEVICES];
};

struct list {
    struct kw__store *store;
    struct kw__arena arena;
    struct line *lines;
    size_t count, capacity;
    bool json;
    struct kw__out out; /* the runs as JSON */
};

static const char *keep_text(struct list *list, const char *text)
{
    return text ? kw__arena_strdup(&list->arena, text) : NULL;
}

static struct line line_of(struct list *list, const struct kw__run *run, const struct kw__finding *findings,
                           size_t count)
{
    char request[96];
    struct line line = {.id = run->id,
                        .began = keep_text(list, run->began),
                        .kind = keep_text(list, run->kind),
                        .model = keep_text(list, run->model ? run->model : kw__run_setting(run, "command")),
                        .request = keep_text(list, kw__runs_request(run, request, sizeof request)),
                        .hardware = keep_text(list, run->hardware),
                        .stack = keep_text(list, run->stack),
                        .state = keep_text(list, run->state),
                        .mark = count ? "?" : NULL,
                        .duration_s = NAN};
    for (size_t i = 0; i < count; i++)
        if (findings[i].excludes) line.mark = "!";
    for (int d = 0; d < KW_NUM_DEVICES; d++) line.energy_j[d].value = line.power_w[d].value = NAN;
    if (!run->num_windows) return line;
    line.duration_s = run->windows[0].duration_s;
    memcpy(line.energy_j, run->windows[0].energy_j, sizeof line.energy_j);
    memcpy(line.power_w, run->windows[0].power_w, sizeof line.power_w);
    return line;
}

static kw_status add_run(void *user, struct kw__run *run, kw_error *err)
{
    struct list *list = user;
    struct kw__finding *findings;
    size_t count;
    kw_status status = kw__store_get_findings(list->store, run->id, &run->arena, &findings, &count, err);
    if (status) return status;
    if (list->json) {
        kw__out_puts(&list->out, list->count++ ? ",\n" : "\n");
        kw__run_put_json(&list->out, run, run->id, findings, count);
        return list->out.failed ? kw__fail_memory(err) : KW_OK;
    }
    struct line *lines =
        kw__arena_grow(&list->arena, list->lines, list->count, &list->capacity, sizeof *lines);
    if (!lines) return kw__fail_memory(err);
    list->lines = lines;
    lines[list->count++] = line_of(list, run, findings, count);
    return list->arena.failed ? kw__fail_memory(err) : KW_OK;
}

static bool has_device(const struct list *list, int device)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->lines[i].energy_j[device].status != KW_ABSENT) return true;
    return false;
}

static void put_columns(struct kw__table *table, const struct list *list)
{
    static const struct kw__column first[] = {
        {.title = "Run", .name = "id", .align = KW__ALIGN_RIGHT},
        {.title = "Began (UTC)", .name = "began"},
        {.title = "Kind", .name = "kind"},
        {.title = "Model", .name = "model"},
        {.title = "Request", .name = "request"},
        {.title = "Hardware", .name = "hardware"},
        {.title = "Stack", .name = "stack"},
        {.title = "Time", .name = "duration_s", .align = KW__ALIGN_RIGHT},
    };
    static const char *const titles[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) kw__table_column(table, &first[i]);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        char energy[32], power[32];
        if (!has_device(list, d)) continue;
        snprintf(energy, sizeof energy, "%s_energy_j", kw_device_name(d));
        snprintf(power, sizeof power, "%s_power_w", kw_device_name(d));
        kw__table_column(
            table, &(struct kw__column){
                       .title = "energy", .name = energy, .group = titles[d], .align = KW__ALIGN_RIGHT});
        kw__table_column(table,
                         &(struct kw__column){
                             .title = "power", .name = power, .group = titles[d], .align = KW__ALIGN_RIGHT});
    }
    kw__table_column(table, &(struct kw__column){.title = "State", .name = "state"});
    kw__table_column(table, &(struct kw__column){.title = "", .name = "mark"});
}

static void put_line(struct kw__table *table, const struct list *list, const struct line *line)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_row(table);
    kw__table_number(table, 0, (double)line->id);
    kw__table_text(table, line->began);
    kw__table_text(table, line->kind);
    kw__table_text(table, line->model);
    kw__table_text(table, *line->request ? line->request : NULL);
    kw__table_text(table, line->hardware);
    kw__table_text(table, line->stack);
    kw__table_value(table, kw__format_seconds(buffer, line->duration_s), line->duration_s);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!has_device(list, d)) continue;
        kw__runs_cell(table, &line->energy_j[d], wh_per_j, kw__format_wh);
        kw__runs_cell(table, &line->power_w[d], 1, kw__format_w);
    }
    kw__table_text(table, line->state);
    kw__table_text(table, line->mark ? line->mark : "");
}

static int print_list(struct list *list, const struct kw__options *options)
{
    struct kw__table table;
    bool marked = false;
    kw__table_init(&table);
    put_columns(&table, list);
    for (size_t i = 0; i < list->count; i++) {
        struct line *line = &list->lines[i];
        char *began = (char *)line->began;
        double began_s;
        if (!options->csv && kw__time_parse(began, &began_s)) { /* "2026-11-24 17:20" */
            began[10] = ' ';
            began[16] = '\0';
        }
        put_line(&table, list, line);
        marked = marked || line->mark;
    }
    if (options->csv) return kw__cli_emit_table(options, &table);
    struct kw__out out;
    kw__out_init(&out);
    if (list->count)
        kw__table_render_text(&table, &out);
    else
        kw__out_puts(&out, "No run fits; 'kinowatt generate' and 'kinowatt import' keep some.\n");
    if (marked)
        kw__out_puts(&out, "\n! is left out of fits, ? is less certain: 'kinowatt runs show RUN' says why\n");
    kw__table_free(&table);
    return kw__cli_emit(options, &out);
}

static int list_runs(const struct kw__runs_settings *settings, const struct kw__options *options)
{
    struct list list = {.json = options->json};
    struct kw__run_filter filter = settings->filter;
    kw_error err = {0};
    if (!filter.limit) filter.limit = LISTED;
    kw__arena_init(&list.arena);
    kw__out_init(&list.out);
    if (list.json) kw__out_puts(&list.out, "{\"schema\": \"" KW__RUNS_SCHEMA "\", \"runs\": [");
    kw_status status = open_store(settings, KW__STORE_READ, &list.store, &err);
    if (!status) status = kw__store_each(list.store, &filter, add_run, &list, &err);
    /* the usual store is made when the first run is kept: till then there are none */
    if (status == KW_ERROR_NOT_FOUND && !settings->store) status = KW_OK;
    kw__store_close(list.store);
    if (list.json) kw__out_puts(&list.out, "\n]}\n");
    int code;
    if (status)
        code = kw__cli_fail(&err);
    else
        code = list.json ? kw__cli_emit(options, &list.out) : print_list(&list, options);
    kw__out_free(&list.out);
    kw__arena_free(&list.arena);
    return code;
}

static int cmd_list(int argc, char **argv)
{
    struct kw__runs_settings settings = {0};
    const struct kw__option extra[] = {
        {"check", 0, KW__OPTION_FLAG, NULL, "look for what is wrong with them, all unless --limit is given",
         &settings.check},
        KW__RUNS_FILTERS(settings),
        KW__RUNS_STORE(settings),
    };
    const struct kw__usage usage = {
        .name = "runs",
        .synopsis = "[show | compare | delete | export]",
        .about = "Lists the runs that were kept, the newest 20 unless --limit says otherwise.\n\n"
                 "  kinowatt runs show RUN          everything that is known of one\n"
                 "  kinowatt runs compare RUN RUN   two, stage by stage\n"
                 "  kinowatt runs delete RUN...     removes some\n"
                 "  kinowatt runs export [RUN...]   for other programs, and for 'kinowatt import'\n\n"
                 "Each of them has a --help of its own.",
        .sets = KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    if (settings.check && options.json)
        return kw__cli_usage(
            "--check prints text or CSV; with --json, 'runs --json' after it has the findings");
    return settings.check ? kw__runs_check(&settings, &options) : list_runs(&settings, &options);
}

/* ---- Deleting ---------------------------------------------------------------------------------------- */

/* All of them or none. */
static int delete_runs(struct kw__store *store, const struct kw__options *options)
{
    kw_error err = {0};
    kw_status status = kw__store_begin(store, &err);
    if (status) return kw__cli_fail(&err);
    for (size_t i = 0; i < options->n_args && !status; i++) {
        int64_t id = strtoll(options->args[i], NULL, 10);
        status = kw__store_delete(store, id, &err);
    }
    kw_status ended = kw__store_end(store, !status, status ? NULL : &err);
    if (status || ended) return kw__cli_fail(&err);
    struct kw__out out;
    kw__out_init(&out);
    kw__out_printf(&out, "Deleted %zu run%s\n", options->n_args, kw__plural((int64_t)options->n_args));
    return kw__cli_emit(options, &out);
}

static int cmd_delete(int argc, char **argv)
{
    struct kw__runs_settings settings = {0};
    const struct kw__option extra[] = {KW__RUNS_STORE(settings)};
    const struct kw__usage usage = {
        .name = "runs delete",
        .synopsis = "RUN...",
        .about = "Removes runs, with all that is known of them, by the numbers that 'kinowatt runs' lists.",
        .least = 1,
        .most = 100000,
        .missing = "name the runs to delete, by the numbers that 'kinowatt runs' lists",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    struct kw__store *store;
    int code = kw__options_parse(&usage, argc, argv, &options);
    for (size_t i = 0; code == KW__PROCEED && i < options.n_args; i++) {
        int64_t id;
        code = kw__runs_id(options.args[i], &id);
    }
    if (code != KW__PROCEED) return code;
    code = kw__runs_open(&settings, KW__STORE_READ, &store); /* makes none where none is */
    if (code) return code;
    kw__store_close(store);
    code = kw__runs_open(&settings, KW__STORE_WRITE, &store);
    if (code) return code;
    code = delete_runs(store, &options);
    kw__store_close(store);
    return code;
}

/* ---- The command ------------------------------------------------------------------------------------- */

int kw__cmd_runs(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"show", kw__runs_show},
                    {"compare", kw__runs_compare},
                    {"delete", cmd_delete},
                    {"export", kw__runs_export}};
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (argc > 1 && argv[1][0] != '-')
        return kw__cli_usage("runs knows no '%.80s'; show, compare, delete and export are", argv[1]);
    return cmd_list(argc, argv);
}
