/* How long runs will take: each point's prediction, corrected by what was measured so far.
 *
 * A point that was measured takes what it took, in the mean. Of another, what counts takes its prediction
 * times the median of measured over predicted, or, without predictions, the mean of what was measured; and
 * the rest of a run (loading weights) and what lies around it (starting the program) take the mean of those
 * that were seen.
 */
#ifndef KW_SWEEP_FORECAST_H
#define KW_SWEEP_FORECAST_H

#include "sweep/state.h"

/* Where a prediction comes from. */
struct kw__forecast_options {
    const char *hardware, *stack, *calibration; /* hardware NULL: nothing is predicted */
    const char *why_not;                        /* then: what to say; NULL: that none is named */
    int64_t prompt_tokens, negative_tokens;     /* < 0: as assumed */
};

struct kw__forecast {
    struct kw__arena arena;
    const struct kw__sweep_state *state; /* the caller's, and must live as long */
    struct kw__forecast_point {
        double latency_s, energy_j[KW_NUM_DEVICES]; /* predicted; NaN: not */
    } * points;
    char reason[512]; /* why there is no prediction, of some points at least; "": there is */
    double around_s;  /* sum over `arounds` runs of the time around them */
    int64_t arounds;
};

/* Predicts every point of the plan. Of a point that cannot be predicted now, what was predicted when it ran
 * is taken; that there is none is no failure. */
kw_status kw__forecast_new(const kw_catalog *catalog, const struct kw__sweep_state *state,
                           const struct kw__forecast_options *options, struct kw__forecast **out,
                           kw_error *err);
void kw__forecast_free(struct kw__forecast *forecast);

/* A run took wall_s in all, of which its row holds whole_s. */
void kw__forecast_learn(struct kw__forecast *forecast, double whole_s, double wall_s);

/* Seconds on the clock of one run of the point; NaN: nothing is known yet. */
double kw__forecast_run_s(const struct kw__forecast *forecast, size_t point);
/* Of all runs that are wanted, gaps and the closing anchor included. */
double kw__forecast_left_s(const struct kw__forecast *forecast);

#endif
