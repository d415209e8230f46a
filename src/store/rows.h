/* A run as rows of the database. */
#ifndef KW_STORE_ROWS_H
#define KW_STORE_ROWS_H

#include "store/db.h"

/* Within the caller's transaction. *added is false, and run->id that of the one that is there, when its uuid,
 * or its sweep, point and repeat, are there already. */
kw_status kw__rows_add(struct kw__store *store, struct kw__run *run, bool *added, kw_error *err);

/* *out is NULL when there is no such run. */
kw_status kw__rows_get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err);

#endif
