/* A sitting: runs what a sweep still wants and keeps each run in the store as it ends.
 *
 *     kw__sweep_find(store, "name", &plan, &err);          or kw__sweep_keep(store, plan, ...)
 *     kw__sweep_lock(path, plan->uuid, ...);               nobody else adds runs from here on
 *     kw__sweep_state_load(store, plan, &state, &err);
 *     kw__forecast_new(catalog, state, ..., &forecast, &err);
 *     kw__sweep_sit(&sitting, &err);
 *
 * A sitting is a session: warm-ups and the anchor, the runs in the plan's order with its gaps, the anchor
 * again. A run is in the store before the next one begins, in one transaction: whenever the process is
 * killed, what had ended is kept, and the next sitting goes on behind it. */
#ifndef KW_SWEEP_SESSION_H
#define KW_SWEEP_SESSION_H

#include "store/store.h"
#include "sweep/forecast.h"

/* ---- Plans in the store ---- */

/* Keeps a plan, or gives back the one of its name that asks for the same (*plan is replaced then, and *found
 * set). KW_ERROR_USAGE: one of that name asks for something else. */
kw_status kw__sweep_keep(struct kw__store *store, struct kw__sweep_plan **plan, bool *found, kw_error *err);
kw_status kw__sweep_find(struct kw__store *store, const char *name, struct kw__sweep_plan **out,
                         kw_error *err);

/* The state with all runs of the sweep that the store holds. */
kw_status kw__sweep_state_load(struct kw__store *store, const struct kw__sweep_plan *plan,
                               struct kw__sweep_state **out, kw_error *err);

/* ---- Running ---- */

/* What runs a point: our engine, or a command. */
struct kw__sweep_runner {
    void *self;
    /* Whether the point's next run comes before anything is warm. */
    bool (*is_cold)(void *self, size_t point);
    /* Runs it once and fills windows, state and settings of `run`, and what it knows of the rest. `name` is
     * the run's own, for files it writes. KW_ERROR_CANCELLED: it was stopped, nothing is kept. Another error:
     * the point cannot run here. */
    kw_status (*run)(void *self, size_t point, const char *name, struct kw__run *run, kw_error *err);
};

enum kw__sweep_what { KW__SWEEP_WARMS_UP, KW__SWEEP_ANCHORS, KW__SWEEP_MEASURES };

struct kw__sweep_event {
    enum kw__sweep_what what;
    size_t point;
    const struct kw__sweep_row *row; /* NULL: it begins */
    const char *why;                 /* it failed */
    double predicted_s;              /* of the run on the clock; NaN: not known */
    int64_t done, wanted;
    double left_s; /* until the end; NaN: not known */
};

struct kw__sweep_sitting {
    const struct kw__sweep_plan *plan;
    struct kw__sweep_state *state;
    struct kw__forecast *forecast;
    struct kw__store *store;
    struct kw__sweep_runner runner;
    double budget_s; /* no run is begun that would end later; 0: none */
    void *user;
    bool (*stopped)(void *user);
    void (*tell)(void *user, const struct kw__sweep_event *event);
    bool out_of_budget; /* set when that is why it ended */
};

/* Until nothing is wanted, the budget is spent or `stopped` (KW_ERROR_CANCELLED). Runs that fail are kept as
 * failed ones and stop nothing; an anchor that cannot run at the beginning does. */
kw_status kw__sweep_sit(struct kw__sweep_sitting *sitting, kw_error *err);

#endif
