/*
 * kinowatt import: measurements of others, and our own exports, into the store.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "cli/cli.h"
#include "cli/keep.h"
#include "store/import.h"

static void print_bad(void *user, const kw_error *why)
{
    (void)user;
    (void)kw__cli_fail(why);
}

static void put_count(struct kw__out *out, const char *before, int64_t count, const char *what)
{
    if (count) kw__out_printf(out, "%s%" PRId64 " %s", before, count, what);
}

/* "runs.json: 12 runs imported, 3 there already, 1 not read" */
static void put_counts(struct kw__out *out, const char *path, const struct kw__import_counts *counts)
{
    kw__cli_put(out, path);
    kw__out_printf(out, ": %" PRId64 " run%s imported", counts->added, kw__plural(counts->added));
    put_count(out, ", ", counts->known, "there already");
    put_count(out, ", ", counts->bad, "not read");
    kw__out_puts(out, "\n");
}

/* ---- Checking what comes unchecked ----------------------------------------------------------------- */

struct unchecked {
    struct kw__arena arena;
    int64_t *ids; /* ascending */
    size_t count, capacity;
    const char *dataset; /* NULL: of several */
};

static kw_status note_unchecked(void *user, const struct kw__run *run, kw_error *err)
{
    struct unchecked *u = user;
    int64_t *ids = kw__arena_grow(&u->arena, u->ids, u->count, &u->capacity, sizeof *ids);
    if (!ids) return kw__fail_memory(err);
    u->ids = ids;
    if (!u->count)
        u->dataset = run->dataset ? kw__arena_strdup(&u->arena, run->dataset) : NULL;
    else if (!run->dataset || !u->dataset || strcmp(run->dataset, u->dataset) != 0)
        u->dataset = NULL;
    ids[u->count++] = run->id;
    return u->arena.failed ? kw__fail_memory(err) : KW_OK;
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool is_unchecked(void *user, const struct kw__run *run)
{
    const struct unchecked *u = user;
    return bsearch(&run->id, u->ids, u->count, sizeof *u->ids, compare_ids) != NULL;
}

/* Repeats are looked for among all runs of the data set, also those that were there. */
static void check(const struct kw__import *import, const char *store, struct unchecked *u)
{
    const struct kw__run_filter filter = {.dataset = u->dataset};
    const struct kw__check check = {.catalog = import->catalog,
                                    .store = import->store,
                                    .filter = &filter,
                                    .user = u,
                                    .wanted = is_unchecked};
    struct kw__check_counts counts;
    kw_error err = {0};
    if (!u->count) return;
    if (kw__check_runs(&check, &counts, &err))
        kw__cli_warn("the runs could not be checked: %s", err.message);
    else
        kw__keep_say_counts(&counts, store);
}

/* ---- The command ----------------------------------------------------------------------------------- */

static int import_all(struct kw__import *import, const struct kw__options *options)
{
    struct kw__out out;
    int code = KW__EXIT_OK;
    kw__out_init(&out);
    for (size_t i = 0; i < options->n_args; i++) {
        struct kw__import_counts counts;
        kw_error err = {0};
        kw_status status = kw__import_file(import, options->args[i], &counts, &err);
        int failed = status ? kw__cli_fail(&err) : counts.bad ? KW__EXIT_FAILED : KW__EXIT_OK;
        if (failed > code) code = failed;
        if (!status || counts.added) put_counts(&out, options->args[i], &counts);
    }
    int printed = kw__cli_emit(options, &out);
    return code ? code : printed;
}

int kw__cmd_import(int argc, char **argv)
{
    struct kw__import import = {.bad = print_bad};
    const char *store = NULL;
    const struct kw__option extra[] = {
        {"dataset", 0, KW__OPTION_TEXT, "NAME", "what the runs belong to; the file's name unless given",
         &import.dataset},
        {"store", 0, KW__OPTION_TEXT, "FILE", "the database of runs, instead of the usual one", &store},
    };
    const struct kw__usage usage = {
        .name = "import",
        .synopsis = "FILE...",
        .about = "Adds runs to those that 'kinowatt runs' lists. A FILE is one of\n\n"
                 "  - what 'kinowatt runs export' wrote\n"
                 "  - CodeCarbon's emissions.csv\n"
                 "  - JSON of the ML.ENERGY leaderboard: text-to-video\n"
                 "  - CSV with the columns of a file in data/published\n\n"
                 "What can be read is imported; of what can't, each line is named. Importing again adds\n"
                 "nothing. Runs that nobody checked yet are checked, as 'kinowatt runs --check' does.",
        .least = 1,
        .most = 100000,
        .missing = "name a file to import",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    kw_catalog *catalog;
    kw_error err = {0};
    char *path = NULL;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    kw_status status = kw__store_path(store, &path, &err);
    if (!status) status = kw__store_open(path, KW__STORE_WRITE, &import.store, &err);
    import.catalog = catalog;
    struct unchecked unchecked = {.count = 0};
    kw__arena_init(&unchecked.arena);
    import.user = &unchecked;
    import.unchecked = note_unchecked;
    code = status ? kw__cli_fail(&err) : import_all(&import, &options);
    if (!status) check(&import, store, &unchecked);
    kw__arena_free(&unchecked.arena);
    kw__store_close(import.store);
    free(path);
    kw_catalog_close(catalog);
    return code;
}
