/* Files of measurements as runs of the store. Four forms, told apart by their content:
 *
 *   ours         kinowatt.runs/1, as `kinowatt runs export` writes it: everything, uuids and findings too
 *   CodeCarbon   emissions.csv of any version since 2: kWh, W, s. What has neither energy nor power was not
 *                measured. The row's texts are kept, too, so that it can be exported as it was
 *   ML.ENERGY    JSON of the leaderboard or of its data kit: text-to-video configurations
 *   published    CSV in a format of predict/dataset.h: the paper's tables, and others' like them
 *
 * What is good is imported, and `bad` is told of what is not, with file and line. A run of the last three has
 * an uuid made of its content: importing it again adds nothing. Where a form does not say when a run was, it
 * began at the import, and the setting "run.began" says so. */
#ifndef KW_STORE_IMPORT_H
#define KW_STORE_IMPORT_H

#include "store/store.h"

struct kw__import {
    const kw_catalog *catalog;
    struct kw__store *store; /* open for writing; NULL: `take` is given what there is */
    const char *dataset;     /* of what has none; NULL: the file's name without folder and ending */
    void *user;
    void (*bad)(void *user, const kw_error *why);
    /* Called for each run that was added and comes without the linter's findings, within the transaction that
     * adds it. NULL, or: a failure ends the import. */
    kw_status (*unchecked)(void *user, const struct kw__run *run, kw_error *err);
    /* Instead of the store: the run is the callee's, also after a failure; the findings that came with it are
     * of its arena, NULL: nobody checked it. */
    kw_status (*take)(void *user, struct kw__run *run, const struct kw__finding *findings,
                      size_t num_findings, kw_error *err);
};

struct kw__import_counts {
    int64_t added, known /* there already */, bad;
};

/* KW_ERROR_FORMAT: the file is of no form. The counts hold also after a failure. */
kw_status kw__import_file(const struct kw__import *import, const char *path, struct kw__import_counts *counts,
                          kw_error *err);

/* What the row of CodeCarbon's that became this run had in a column, as it stood there; NULL: nothing, or the
 * run is another's. */
const char *kw__import_column(const struct kw__run *run, const char *column);

#endif
