/*
 * kinowatt import: measurements of others, and our own exports, into the store.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "cli/cli.h"
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
    kw__out_printf(out, ": %" PRId64 " %s imported", counts->added, counts->added == 1 ? "run" : "runs");
    put_count(out, ", ", counts->known, "there already");
    put_count(out, ", ", counts->bad, "not read");
    kw__out_puts(out, "\n");
}

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
        .about =
            "Adds runs to those that 'kinowatt runs' lists. A FILE is one of\n\n"
            "  - what 'kinowatt runs export' wrote\n"
            "  - CodeCarbon's emissions.csv\n"
            "  - JSON of the ML.ENERGY leaderboard: text-to-video\n"
            "  - CSV with the columns of a file in data/published\n\n"
            "What can be read is imported; of what can't, each line is named. Importing again adds nothing.",
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
    code = status ? kw__cli_fail(&err) : import_all(&import, &options);
    kw__store_close(import.store);
    free(path);
    kw_catalog_close(catalog);
    return code;
}
