/* One process at a time runs a sweep: two would disturb each other's measurements.
 *
 * A byte of FILE.sweeps, beside the store's FILE, stands for each sweep and is locked by fcntl, which the
 * system undoes when the process ends, however it ends. Programs that a sweep has started do not hold it. */
#ifndef KW_SWEEP_LOCK_H
#define KW_SWEEP_LOCK_H

#include "kinowatt.h"

/* `store` is the store's path. KW_ERROR_IO names the process that has it. *out is what _release takes. */
kw_status kw__sweep_lock(const char *store, const char *uuid, const char *name, int *out, kw_error *err);
void kw__sweep_release(int lock);

#endif
