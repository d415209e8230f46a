/* kinowatt runs --check: what the linter finds in the runs that are kept. People get a line for each kind of
 * finding, CSV one for each finding. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "cli/runs.h"
#include "store/check.h"

struct kind {
    const char *code, *example, *advice;
    int64_t runs, findings, last_run;
    bool excludes;
};

struct summary {
    struct kw__arena arena;
    struct kind *kinds;
    size_t count, capacity;
    bool csv;
    struct kw__table table; /* of all findings, for CSV */
};

/* "run 12, decode: the message" */
static const char *example_of(struct kw__arena *arena, const struct kw__run *run,
                              const struct kw__finding *finding)
{
    return kw__arena_printf(arena, "run %" PRId64 "%s%s: %s", run->id, finding->window ? ", " : "",
                            finding->window ? finding->window : "", finding->message);
}

static void add_kind(struct summary *s, const struct kw__run *run, const struct kw__finding *finding)
{
    struct kind *kind = NULL;
    for (size_t i = 0; i < s->count && !kind; i++)
        if (strcmp(s->kinds[i].code, finding->code) == 0) kind = &s->kinds[i];
    if (!kind) {
        struct kind *kinds = kw__arena_grow(&s->arena, s->kinds, s->count, &s->capacity, sizeof *s->kinds);
        if (!kinds) return;
        s->kinds = kinds;
        kind = &kinds[s->count++];
        *kind = (struct kind){.code = kw__arena_strdup(&s->arena, finding->code),
                              .example = example_of(&s->arena, run, finding),
                              .advice = kw__arena_strdup(&s->arena, finding->advice),
                              .excludes = finding->excludes};
        if (!kind->code) return; /* the arena has failed */
    }
    kind->findings++;
    kind->runs += kind->last_run != run->id;
    kind->last_run = run->id;
}

static void add_line(struct kw__table *table, const struct kw__run *run, const struct kw__finding *finding)
{
    kw__table_row(table);
    kw__table_number(table, 0, (double)run->id);
    kw__table_text(table, run->model);
    kw__table_text(table, finding->window);
    kw__table_text(table, finding->code);
    kw__table_number(table, 0, finding->excludes);
    kw__table_text(table, finding->message);
    kw__table_text(table, finding->advice);
}

static kw_status add(void *user, const struct kw__run *run, const struct kw__finding *findings, size_t count,
                     kw_error *err)
{
    struct summary *s = user;
    (void)err;
    for (size_t i = 0; i < count && !s->arena.failed; i++)
        if (s->csv)
            add_line(&s->table, run, &findings[i]);
        else
            add_kind(s, run, &findings[i]);
    return KW_OK;
}

static int print_kinds(const struct summary *s, const struct kw__check_counts *counts,
                       const struct kw__options *options)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__out_printf(&out, "%" PRId64 " run%s checked, %" PRId64 " of them with findings\n", counts->runs,
                   kw__plural(counts->runs), counts->flagged);
    for (int excludes = 1; excludes >= 0; excludes--) {
        bool any = false;
        for (size_t i = 0; i < s->count; i++) {
            const struct kind *kind = &s->kinds[i];
            if (kind->excludes != (excludes == 1)) continue;
            if (!any) kw__out_puts(&out, excludes ? "\nLeft out of fits\n" : "\nLess certain\n");
            any = true;
            kw__out_printf(&out, "\n%s: %" PRId64 " run%s", kind->code, kind->runs, kw__plural(kind->runs));
            if (kind->findings > kind->runs) kw__out_printf(&out, ", %" PRId64 " windows", kind->findings);
            kw__out_puts(&out, "\n");
            kw__cli_put_item(&out, kind->example);
            kw__cli_put_item(&out, kind->advice);
        }
    }
    if (s->count) kw__out_puts(&out, "\n'kinowatt runs show RUN' says what is wrong with one\n");
    return kw__cli_emit(options, &out);
}

int kw__runs_check(const struct kw__runs_settings *settings, const struct kw__options *options)
{
    static const struct kw__column columns[] = {
        {.title = "run"},      {.title = "model"},   {.title = "window"}, {.title = "code"},
        {.title = "excludes"}, {.title = "message"}, {.title = "advice"}};
    struct summary summary = {.csv = options->csv};
    struct kw__check_counts counts;
    struct kw__check check = {.filter = &settings->filter, .user = &summary, .checked = add};
    kw_catalog *catalog;
    kw_error err = {0};
    int code = kw__cli_catalog(options, &catalog);
    if (code) return code;
    code = kw__runs_open(settings, KW__STORE_READ, &check.store); /* makes none where none is */
    kw__store_close(code ? NULL : check.store);
    if (!code) code = kw__runs_open(settings, KW__STORE_WRITE, &check.store);
    if (code) {
        kw_catalog_close(catalog);
        return code;
    }
    check.catalog = catalog;
    kw__arena_init(&summary.arena);
    kw__table_init(&summary.table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        kw__table_column(&summary.table, &columns[i]);
    kw_status status = kw__check_runs(&check, &counts, &err);
    if (!status && summary.arena.failed) status = KW_ERROR_MEMORY;
    if (status)
        code = kw__cli_fail(&err);
    else
        code = summary.csv ? kw__cli_emit_table(options, &summary.table)
                           : print_kinds(&summary, &counts, options);
    if (status || !summary.csv) kw__table_free(&summary.table);
    kw__arena_free(&summary.arena);
    kw__store_close(check.store);
    kw_catalog_close(catalog);
    return code;
}
