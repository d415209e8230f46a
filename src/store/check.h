/* Runs the linter over runs of the store and keeps what it finds with each.
 *
 * Repeats are counted over all runs of the filter, whatever its limit; those that are `wanted` are checked,
 * in one transaction. */
#ifndef KW_STORE_CHECK_H
#define KW_STORE_CHECK_H

#include "store/lint.h"

struct kw__check {
    const kw_catalog *catalog;
    struct kw__store *store; /* open for writing */
    const struct kw__run_filter *filter;
    void *user;
    bool (*wanted)(void *user, const struct kw__run *run); /* NULL: all of them */
    /* Told of each run that was checked, which it may not keep. NULL: nobody. */
    kw_status (*checked)(void *user, const struct kw__run *run, const struct kw__finding *findings,
                         size_t count, kw_error *err);
};

struct kw__check_counts {
    int64_t runs, flagged /* have findings */, findings;
};

/* After a failure the store is as before. */
kw_status kw__check_runs(const struct kw__check *check, struct kw__check_counts *counts, kw_error *err);

#endif
