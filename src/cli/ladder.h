/*
 * The ladder of predictors on some rows, for people and for machines: what `validate` prints.
 */
#ifndef KW__CLI_LADDER_H
#define KW__CLI_LADDER_H

#include <jansson.h>

#include "predict/validate.h"
#include "report/out.h"
#include "report/table.h"

/* Scores as a table; then with the fit and the spread of repeats. */
void kw__ladder_table(struct kw__table *table, const struct kw__validation *v);
void kw__ladder_put(struct kw__out *out, const struct kw__validation *v);
/* The same as members of an object, with what the kernel predictor says of each row. */
void kw__ladder_json(json_t *root, const struct kw__validation *v);

/* Parts of it. A share is percent for people, a fraction for machines. */
void kw__ladder_column(struct kw__table *table, const char *group, const char *title, const char *name);
void kw__ladder_share(struct kw__table *table, double fraction, bool sign);
json_t *kw__ladder_row(const struct kw__row *row);
json_t *kw__ladder_estimate(const struct kw__estimate *estimate);

#endif
