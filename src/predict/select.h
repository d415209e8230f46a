/* Which rows of a data set are fitted together: those of one stack on one hardware. */
#ifndef KW_PREDICT_SELECT_H
#define KW_PREDICT_SELECT_H

#include "predict/dataset.h"

/* What is asked for; NULL: whatever the rows are of. Rows that do not say their stack or their hardware are
 * taken to be of the one asked for. */
struct kw__selection {
    const char *model, *stack, *hardware;
};

/* Drops all rows but those of one pair, with the reasons in `left_out`. *stack belongs to the data set, the
 * caller closes *hardware. KW_ERROR_USAGE when rows of several pairs are left or a row does not say, with
 * what to ask for; KW_ERROR_NOT_FOUND when none is left. */
kw_status kw__dataset_select(const kw_catalog *catalog, const struct kw__selection *selection,
                             struct kw__dataset *dataset, const char **stack, kw_hardware **hardware,
                             kw_error *err);

#endif
