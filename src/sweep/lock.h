/* One process at a time runs a sweep: two would disturb each other's measurements. So would a program that a
 * killed sitting has left running.
 *
 * Two bytes of FILE.sweeps, beside the store's FILE, stand for each sweep. One is locked by the process
 * (fcntl), the other by an open file that programs which it starts inherit: the system undoes either when the
 * last of its holders has ended, however it ended. */
#ifndef KW_SWEEP_LOCK_H
#define KW_SWEEP_LOCK_H

#include <stdbool.h>

#include "kinowatt.h"

struct kw__sweep_lock {
    int process, programs; /* descriptors; the second is the one to be inherited */
};
#define KW__SWEEP_LOCK_NONE                                                                                  \
    {                                                                                                        \
        -1, -1                                                                                               \
    }

/* `store` is the store's path. KW_ERROR_IO names the process that has it. */
kw_status kw__sweep_lock(const char *store, const char *uuid, const char *name, struct kw__sweep_lock *out,
                         kw_error *err);
/* Takes the programs' byte; false: a program of an earlier sitting still runs. */
bool kw__sweep_lock_programs(const struct kw__sweep_lock *lock, const char *uuid);
void kw__sweep_release(struct kw__sweep_lock *lock);

#endif
