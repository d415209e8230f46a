/*
 * Rows to fit, from wherever they are: a CSV file, an export of runs, a data set of the store or all of it,
 * with the priors of their stack and hardware, and the ladder of predictors on them. What `calibrate --from`
 * and `validate
 * --from` have in common.
 */
#ifndef KW__CLI_FIT_H
#define KW__CLI_FIT_H

#include <jansson.h>

#include "cli/options.h"
#include "predict/priors.h"
#include "predict/select.h"
#include "predict/validate.h"
#include "report/out.h"

struct kw__fit_settings {
    const char *from, *store, *priors;
    struct kw__selection selection;
    int64_t train_runs;
    double train_seconds;
};
enum { KW__FIT_RUNS = 10, KW__FIT_SECONDS = 120 };

/* The rows of these options. */
#define KW__FIT_OPTIONS(s)                                                                                   \
    {"from",                                                                                                 \
     0,                                                                                                      \
     KW__OPTION_TEXT,                                                                                        \
     "ROWS",                                                                                                 \
     "FILE.csv, FILE.json of 'runs export', a data set or sweep, or 'store'",                                \
     &(s)->from},                                                                                            \
        {"store", 0, KW__OPTION_TEXT, "FILE", "the store to read; the usual one without it", &(s)->store},   \
        {"model", 0, KW__OPTION_TEXT, "NAME", "only rows of this model", &(s)->selection.model},             \
        {"stack",                                                                                            \
         0,                                                                                                  \
         KW__OPTION_TEXT,                                                                                    \
         "NAME",                                                                                             \
         "only rows of this stack, and those that name none",                                                \
         &(s)->selection.stack},                                                                             \
        {"hardware",                                                                                         \
         0,                                                                                                  \
         KW__OPTION_TEXT,                                                                                    \
         "NAME",                                                                                             \
         "only rows of this hardware, and those that name none",                                             \
         &(s)->selection.hardware},                                                                          \
        {"priors",    0, KW__OPTION_TEXT, "FILE", "a calibration to start from; the nearest one without it", \
         &(s)->priors},                                                                                      \
        {"train-runs",    0, KW__OPTION_COUNT, "N", "fit to this many runs and score the others; 10",        \
         &(s)->train_runs},                                                                                  \
    {                                                                                                        \
        "train-seconds", 0, KW__OPTION_ABOVE, "S", "that took at most so long together; 120",                \
            &(s)->train_seconds                                                                              \
    }

struct kw__fit_rows {
    struct kw__dataset *set;
    struct kw__stack *stack;
    kw_hardware *hardware;
    struct kw__priors priors;
    struct kw__samples *samples;
    struct kw__calibration
        *predicting;               /* what `predict` takes for the pair, fitted before; NULL: nothing is */
    struct kw__samples *predicted; /* the same rows with it */
    bool *few;                     /* wholes of the few-runs split; NULL: there are too few others */
    size_t num_few;
    double few_s;
    char few_name[32]; /* "10-runs" */
    struct kw__validation *ladder;
};

/* KW_ERROR_UNSUPPORTED when there are fewer than three rows. */
kw_status kw__fit_open(const kw_catalog *catalog, const struct kw__fit_settings *settings,
                       struct kw__fit_rows *out, kw_error *err);
void kw__fit_close(struct kw__fit_rows *rows);

/* What the rows and the priors are, and what was left out. */
void kw__fit_put(struct kw__out *out, const struct kw__fit_rows *rows);
json_t *kw__fit_json(const struct kw__fit_rows *rows);
/* What to mind, on stderr. */
void kw__fit_warn(const struct kw__fit_rows *rows);

#endif
