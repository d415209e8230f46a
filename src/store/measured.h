/* Runs of the store as rows to fit: a whole pipeline, and its stages where they were timed.
 *
 * A pipeline's latency and energy are the sums of its stages (store/stages.h), so that loading and writing
 * files do not count; without stages they are those of the whole run. Left out, and counted with the reason:
 * what failed or was stopped, warm-ups, what a finding of the linter excludes, several GPUs, random weights
 * of another law than a model's (the values decide on the power), and what lacks a model or a time. */
#ifndef KW_STORE_MEASURED_H
#define KW_STORE_MEASURED_H

#include "predict/dataset.h"
#include "store/store.h"

/* The runs of a file of any form that `import` reads; those that nobody checked are checked here. The file
 * must be good as a whole: the first that is not is the failure. `stack` and `hardware` are those of runs
 * that do not say; NULL: not known. */
kw_status kw__measured_read_file(const kw_catalog *catalog, const char *path, const char *stack,
                                 const char *hardware, struct kw__dataset **out, kw_error *err);
/* `dataset`: a sweep's or an import's name, NULL: all runs. KW_ERROR_NOT_FOUND when there is no row. */
kw_status kw__measured_read(struct kw__store *store, const char *dataset, struct kw__dataset **out,
                            kw_error *err);

#endif
