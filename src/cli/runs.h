/* What the files of `kinowatt runs` share. */
#ifndef KW__CLI_RUNS_H
#define KW__CLI_RUNS_H

#include "cli/cli.h"
#include "store/store.h"

/* The options of all of them. */
struct kw__runs_settings {
    const char *store, *format;
    struct kw__run_filter filter;
    double carbon_intensity; /* g CO2e per kWh; NaN: not given */
    bool check, all;
};

/* The store of --store, or the usual one. Returns KW__EXIT_OK or the exit code. */
int kw__runs_open(const struct kw__runs_settings *settings, enum kw__store_mode mode, struct kw__store **out);
/* The number of a run, as `kinowatt runs` lists it; KW__PROCEED or the exit code. */
int kw__runs_id(const char *text, int64_t *out);

/* --check: runs the linter over the runs that fit. */
int kw__runs_check(const struct kw__runs_settings *settings, const struct kw__options *options);
int kw__runs_show(int argc, char **argv);
int kw__runs_compare(int argc, char **argv);
int kw__runs_export(int argc, char **argv);

#define KW__RUNS_STORE(settings)                                                                             \
    {                                                                                                        \
        "store", 0, KW__OPTION_TEXT, "FILE", "the database of runs, instead of the usual one",               \
            &(settings).store                                                                                \
    }
#define KW__RUNS_FILTERS(settings)                                                                             \
    {"model", 0, KW__OPTION_TEXT, "NAME", "runs of this model alone", &(settings).filter.model},               \
        {"hardware", 0, KW__OPTION_TEXT, "NAME", "runs on this hardware", &(settings).filter.hardware},        \
        {"stack", 0, KW__OPTION_TEXT, "NAME", "runs of this stack", &(settings).filter.stack},                 \
        {"dataset", 0, KW__OPTION_TEXT, "NAME", "runs of this data set or sweep", &(settings).filter.dataset}, \
        {"kind", 0, KW__OPTION_TEXT, "NAME", "generate, record, sweep or import", &(settings).filter.kind},    \
    {                                                                                                          \
        "limit", 0, KW__OPTION_COUNT, "N", "the newest so many", &(settings).filter.limit                      \
    }

/* ---- What is printed of a run (runs_show.c) ---- */

/* "832x480x81, 50 steps", or "" when nothing is known. Returns `buffer`. */
const char *kw__runs_request(const struct kw__run *run, char *buffer, size_t size);
/* "~12.3 Wh": a tilde marks what is modelled. Returns `buffer`. */
const char *kw__runs_reading(char *buffer, const kw_reading *reading, double factor,
                             const char *(*format)(char *buffer, double value));
/* A cell of it, for machines the value in the reading's own unit. */
void kw__runs_cell(struct kw__table *table, const kw_reading *reading, double factor,
                   const char *(*format)(char *buffer, double value));

#endif
