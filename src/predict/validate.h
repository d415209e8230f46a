/* Validation: predictors against measured rows that they have, or have not, been fitted to. The splits, and
 * which rows a fit sees in each, are those of docs/CALIBRATION.md; what is held against the data sets that
 * ship, and which figures must be reached there, is in validate_shipped.h.
 *
 * Errors are relative and signed, predicted / measured - 1; spreads are (largest - least) / mean. NaN: there
 * is no such figure (a method without intervals, rows without energies). */
#ifndef KW_PREDICT_VALIDATE_H
#define KW_PREDICT_VALIDATE_H

#include "predict/calibrate.h"

enum kw__split {
    KW__AS_PUBLISHED, /* `paper` alone, on the rows that its authors scored */
    KW__AS_PREDICTED, /* `kernel` alone, as it was fitted before: what `predict` says */
    KW__IN_SAMPLE,
    KW__GROUP_OUT,
    KW__SHAPE_OUT,
    KW__SESSION_OUT,
    KW__MODEL_OUT,
    KW__FEW_RUNS, /* fitted to a few runs, scored on all others */
    KW__ZERO_ROWS,
    KW__NUM_SPLITS
};
/* The ladder, from the plainest to the default. */
enum kw__rung { KW__PAPER, KW__PAPER_REFITTED, KW__FLOPS, KW__KERNEL, KW__NUM_RUNGS };

const char *kw__rung_name(enum kw__rung rung); /* "paper refitted" */

struct kw__errors {
    double mean, largest, bias; /* mean and largest of the absolute errors; mean of the signed */
    int count;
};

struct kw__score {
    enum kw__split split;
    enum kw__rung rung;
    const char *slice; /* NULL: all wholes */
    struct kw__errors errors[KW__NUM_QUANTITIES];
    double coverage[KW__NUM_QUANTITIES];   /* share of rows in the 90 % interval */
    double half_width[KW__NUM_QUANTITIES]; /* its median */
};

/* Rows of one effective request: in one session, or the means of several sessions. */
struct kw__repeat {
    const char *session; /* NULL: between sessions */
    const char *model;
    kw_effective request;
    int count; /* rows, or sessions */
    double least_s, largest_s, latency_spread, energy_spread;
};

struct kw__validate_options {
    const bool *few;       /* wholes that KW__FEW_RUNS is fitted to; NULL: no such split */
    const char *few_name;  /* "six-shortest" */
    const bool *published; /* wholes of KW__AS_PUBLISHED; NULL: no such split */
    /* The same rows with a calibration that was fitted to others or to some of them, which KW__AS_PREDICTED
     * scores as it is; NULL: no such split. Its intervals are not wider for a model that it has no row of, as
     * `predict`'s are. */
    const struct kw__samples *predicted;
    bool sweeps; /* sessions are sweeps: they are the slices, and leaving one out leaves an axis */
    const struct kw__samples *others; /* whose repeats of a request count as sessions too; NULL: none */
};

struct kw__validation {
    struct kw__arena arena;
    const struct kw__samples *samples; /* the caller's, as is what the options point to */
    struct kw__validate_options options;
    const char **slices; /* what scores are split by: a model, a part of it, a sweep; none when all are one */
    int num_slices, *slice_of;
    struct kw__kernel_fit fit; /* of all rows */
    struct kw__proportional refitted, flops;
    struct kw__estimate *estimates[KW__NUM_SPLITS][KW__NUM_RUNGS]; /* of each sample; NaN: not scored */
    struct kw__score *scores;
    size_t num_scores;
    struct kw__repeat *repeats;
    size_t num_repeats;
    /* session-out: mean log residual of a session's rows over the mean sd of their intervals */
    double levels[KW__MAX_SESSIONS][KW__NUM_QUANTITIES];
};

/* Splits that the rows allow are run: sessions, models, shapes and groups are left out where there are two.
 */
kw_status kw__validate(const struct kw__samples *samples, const struct kw__validate_options *options,
                       struct kw__validation **out, kw_error *err);
void kw__validation_free(struct kw__validation *validation);

const char *kw__split_name(const struct kw__validation *validation, enum kw__split split); /* "group-out" */
/* The score of a split, rung and slice (NULL: all); NULL when there is none. */
const struct kw__score *kw__score_of(const struct kw__validation *validation, enum kw__split split,
                                     enum kw__rung rung, const char *slice);

/* Scores of the kernel predictor in the splits, KW__NUM_SPLITS: in each: what `kinowatt calibrate` stores
 * beside a fit. */
kw_status kw__validation_held_out(const struct kw__validation *validation, enum kw__split split, json_t **out,
                                  kw_error *err);

/* Marks up to `runs` wholes of at most `seconds` measured together, one of a request, that tell most for
 * their time about all requests of the samples. What they tell is computed from the priors: nothing measured
 * decides but whether the time is spent. */
kw_status kw__choose_runs(const struct kw__samples *samples, int runs, double seconds, bool *marks,
                          kw_error *err);

/* How data are drawn: as the fit assumes, or against one of its assumptions. */
enum kw__draw {
    KW__AS_ASSUMED,
    KW__CORRELATED,      /* a shape's errors of log t and log(E/t) correlate as the rows' residuals do */
    KW__NO_SHARED_SHAPE, /* no shape error where a shape has many rows of a session: it is theirs together */
    KW__NUM_DRAWS
};
const char *kw__draw_name(enum kw__draw draw);

/* Coverage that drawn data sets show, session-out, by quantity. */
struct kw__simulation {
    int count;
    enum kw__draw draw;
    double coverage[KW__NUM_QUANTITIES]; /* mean over data sets and rows */
    double median[KW__NUM_QUANTITIES];   /* of the data sets' coverage */
    double within[KW__NUM_QUANTITIES];   /* share of data sets whose coverage is 85 to 97 % */
    double above[KW__NUM_QUANTITIES], below[KW__NUM_QUANTITIES];
    double half_width[KW__NUM_QUANTITIES]; /* mean over data sets of the median */
};
/* `samples`: wholes without parts, each of a session. `fit`: of the real rows, whose residuals' correlation
 * KW__CORRELATED takes. */
kw_status kw__validate_simulated(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                                 enum kw__draw draw, int count, uint64_t seed, struct kw__simulation *out,
                                 kw_error *err);

/* Half the width of the 90 % interval of a log-normal figure, as a fraction of it. */
double kw__half_width(double log_sd);
/* By one efficiency and one power. */
struct kw__estimate kw__proportional_estimate(const struct kw__samples *samples,
                                              const struct kw__sample *sample, bool paper, double flop_per_s,
                                              const struct kw__proportional *fit);
/* A median; sorts the values. NaN of none. */
double kw__median(double *values, size_t count);
/* fmax, but what is missing stays missing. */
double kw__larger(double a, double b);
struct kw__errors kw__errors_begin(void);
/* A measured NaN is no row; a predicted one makes every figure NaN. */
void kw__errors_add(struct kw__errors *errors, double predicted, double measured);
void kw__errors_end(struct kw__errors *errors);

#endif
