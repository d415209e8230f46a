/* What the files of `kinowatt sweep` share. */
#ifndef KW__CLI_SWEEP_H
#define KW__CLI_SWEEP_H

#include "cli/cli.h"
#include "sweep/session.h"

/* One line on stderr for each run as it ends; on a terminal also the one that is under way. */
struct kw__sweep_progress {
    const struct kw__sweep_plan *plan;
    const struct kw__forecast *forecast;
    bool terminal;
};
void kw__sweep_tell(void *progress, const struct kw__sweep_event *event);
/* Before anything runs: what the sweep is, and how long it takes. */
void kw__sweep_announce(const struct kw__sweep_progress *progress, const struct kw__sweep_state *state);

/* What was measured, point by point. `forecast` may have no prediction. */
struct kw__sweep_result {
    const struct kw__sweep_plan *plan;
    struct kw__sweep_state *state;
    const struct kw__forecast *forecast;
    const char *store; /* as the user named it; NULL: the usual one */
};
int kw__sweep_print(const struct kw__sweep_result *result, const struct kw__options *options);
/* Runs that failed, of all points of the task. */
int64_t kw__sweep_failures(const struct kw__sweep_state *state);

#endif
