/* Where a sweep is: what its runs measured, which run comes next, and when a point is known well enough.
 *
 * Order. Runs come in blocks: block b runs repeat b of every point that still wants one, in an order of its
 * own, drawn from the plan's seed; so a drift of the machine falls on all points alike. A point wants
 * `repeats` runs; with `until` it goes on until half of the 90 % interval of its mean (Student's t) is at
 * most that share of the mean, for the latency and for each device's energy that was measured, `max_repeats`
 * at most. Two failures end a point. Which run is next follows from the runs that are there alone. */
#ifndef KW_SWEEP_STATE_H
#define KW_SWEEP_STATE_H

#include "stats/student.h"
#include "store/run.h"
#include "sweep/plan.h"

enum { KW__SWEEP_ANCHOR = -1 }; /* the repeat of an anchor's run: any number of them may be there */

/* One run, as far as a sweep needs it. */
struct kw__sweep_row {
    size_t point, before; /* before: the point's row before this one, and 1; 0: none */
    int64_t repeat;       /* below KW__SWEEP_ANCHOR: a warm-up */
    bool failed;
    const char *session;
    double latency_s, energy_j[KW_NUM_DEVICES];      /* of what counts; NaN: not measured */
    double whole_s;                                  /* of the run from its begin to its end */
    double predicted_s, predicted_j[KW_NUM_DEVICES]; /* when it ran; NaN: nothing was */
};

struct kw__sweep_state {
    const struct kw__sweep_plan *plan; /* the caller's, and must live as long */
    struct kw__arena arena;
    struct kw__sweep_row *rows; /* in the order they were added */
    size_t num_rows, room;
    struct kw__sweep_point {
        unsigned char *have; /* whether a repeat is there */
        size_t last;         /* its newest row, and 1; 0: none */
        int64_t measured, failed;
        bool known; /* its intervals are small enough */
    } * points;
    size_t *order; /* of the block that is under way */
    int64_t block; /* -1: none yet */
    size_t place;  /* in it */
};

kw_status kw__sweep_state_new(const struct kw__sweep_plan *plan, struct kw__sweep_state **out, kw_error *err);
void kw__sweep_state_free(struct kw__sweep_state *state);

/* Takes a run into account; one that is there already is left out. Warm-ups and anchors count for nothing. */
kw_status kw__sweep_state_add(struct kw__sweep_state *state, const struct kw__run *run, kw_error *err);

/* The next run of the plan's task; false when all are done. */
bool kw__sweep_next(struct kw__sweep_state *state, size_t *point, int64_t *repeat);

/* How many runs the point still wants, as far as can be told from how its runs scatter. */
int64_t kw__sweep_wanted(const struct kw__sweep_state *state, size_t point);
/* The runs of the task that are there, failed ones included, and those that are still wanted. */
void kw__sweep_count(const struct kw__sweep_state *state, int64_t *done, int64_t *wanted);

/* The order of the points in a block, num_points of them. */
void kw__sweep_order(const struct kw__sweep_plan *plan, int64_t block, size_t *order);

/* ---- Figures ---- */

struct kw__sweep_figure {
    struct kw__mean mean;
    double median;
    size_t count;
};
struct kw__sweep_summary {
    struct kw__sweep_figure latency_s, energy_j[KW_NUM_DEVICES];
    int64_t failed;
};
/* Of the point's repeats, whatever their session. */
kw_status kw__sweep_summarise(const struct kw__sweep_state *state, size_t point,
                              struct kw__sweep_summary *out, kw_error *err);

/* How the anchor moved within a session: the last over the first, less 1. NaN: it has not both. */
struct kw__sweep_drift {
    const char *session;
    size_t anchors;
    double latency, energy[KW_NUM_DEVICES];
};
/* Of all sessions, in the order they began; of the state's arena. */
kw_status kw__sweep_drifts(struct kw__sweep_state *state, struct kw__sweep_drift **out, size_t *count,
                           kw_error *err);

#endif
