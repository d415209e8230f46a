/* Validation: predictors against measured rows that they have, or have not, been fitted to. The splits, and
 * which rows a fit sees in each, are those of docs/CALIBRATION.md.
 *
 * Errors are relative and signed, predicted / measured - 1; spreads are (largest - least) / mean. NaN: there
 * is no such figure (a method without intervals, a sweep without energies). */
#ifndef KW_PREDICT_VALIDATE_H
#define KW_PREDICT_VALIDATE_H

#include "predict/calibrate.h"

enum kw__split {
    KW__AS_PUBLISHED, /* `paper` alone, on the rows that its authors scored */
    KW__IN_SAMPLE,
    KW__GROUP_OUT,
    KW__SHAPE_OUT,
    KW__AXIS_OUT,
    KW__SIX_SHORTEST,
    KW__ZERO_ROWS,
    KW__NUM_SPLITS
};
/* The ladder, from the plainest to the default. */
enum kw__rung { KW__PAPER, KW__PAPER_REFITTED, KW__FLOPS, KW__KERNEL, KW__NUM_RUNGS };

const char *kw__split_name(enum kw__split split); /* "group-out" */
const char *kw__rung_name(enum kw__rung rung);    /* "paper refitted" */

struct kw__errors {
    double mean, largest, bias; /* mean and largest of the absolute errors; mean of the signed */
    int count;
};

struct kw__score {
    enum kw__split split;
    enum kw__rung rung;
    const char *sweep; /* NULL: all rows */
    struct kw__errors errors[KW__NUM_QUANTITIES];
    double coverage[KW__NUM_QUANTITIES];   /* share of rows in the 90 % interval */
    double half_width[KW__NUM_QUANTITIES]; /* its median */
};

/* Rows of one effective request: in one session, or the means of several sessions. */
struct kw__repeat {
    const char *session; /* NULL: between sessions */
    kw_effective request;
    int count; /* rows, or sessions */
    double least_s, largest_s, latency_spread, energy_spread;
};

/* A row that no fit may see, and what each rung predicts for it. */
struct kw__held_out {
    const struct kw__row *row;
    struct kw__estimate estimates[KW__NUM_RUNGS];
};

struct kw__target {
    const char *what, *source;
    double low, high; /* of the figure, as a fraction */
    bool asked;       /* what it needs is a part of this run */
    double value;     /* NaN: not asked, or a figure is missing, which is not met */
    bool met;
};
enum { KW__NUM_TARGETS = 17 };

struct kw__validation {
    struct kw__arena arena;
    const char *priors_path;
    struct kw__calibration *priors, *h200_priors;
    kw_hardware *hardware, *h200;
    struct kw__stack *stack, *h200_stack;
    struct kw__dataset *sweeps, *models, *micro;
    struct kw__samples *samples, *model_samples, *h200_samples;
    struct kw__kernel_fit fit; /* of all rows */
    struct kw__proportional refitted, flops;
    struct kw__estimate *estimates[KW__NUM_SPLITS][KW__NUM_RUNGS]; /* of each sample; NaN: not scored */
    struct kw__score *scores;
    size_t num_scores;
    struct kw__repeat *repeats;
    size_t num_repeats;
    struct kw__held_out *held_out; /* whole pipelines of the paper's model table */
    size_t num_held_out;
    struct kw__held_out *zero_rows; /* parts and the pipeline on the H200 */
    size_t num_zero_rows;
    struct kw__target targets[KW__NUM_TARGETS];
    /* axis-out: mean log residual of a sweep's rows over the mean sd of their intervals */
    double levels[KW__MAX_SESSIONS][KW__NUM_QUANTITIES];
};

enum { KW__VALIDATE_SWEEPS = 1, KW__VALIDATE_H200 = 2 };

/* Runs the parts that `parts` names. `priors`: a path, NULL: the ones shipped. A row of the sweeps without a
 * sweep is refused. */
kw_status kw__validate(const kw_catalog *catalog, const char *priors, unsigned parts,
                       struct kw__validation **out, kw_error *err);
void kw__validation_free(struct kw__validation *validation);

/* The score of a split, rung and sweep (NULL: all); NULL when there is none. */
const struct kw__score *kw__score_of(const struct kw__validation *validation, enum kw__split split,
                                     enum kw__rung rung, const char *sweep);

/* Scores of the kernel predictor in each split: what `kinowatt calibrate` stores beside a fit. */
kw_status kw__validation_held_out(const struct kw__validation *validation, json_t **out, kw_error *err);

/* How data are drawn: as the fit assumes, or against one of its assumptions. */
enum kw__draw {
    KW__AS_ASSUMED,
    KW__CORRELATED,      /* a shape's errors of log t and log(E/t) correlate as the rows' residuals do */
    KW__NO_SHARED_SHAPE, /* no shape error where a shape has many rows of a session: it is theirs together */
    KW__NUM_DRAWS
};
const char *kw__draw_name(enum kw__draw draw);

/* Coverage that drawn data sets show, axis-out, by quantity. */
struct kw__simulation {
    int count;
    enum kw__draw draw;
    double coverage[KW__NUM_QUANTITIES]; /* mean over data sets and rows */
    double median[KW__NUM_QUANTITIES];   /* of the data sets' coverage */
    double within[KW__NUM_QUANTITIES];   /* share of data sets whose coverage is 85 to 97 % */
    double above[KW__NUM_QUANTITIES], below[KW__NUM_QUANTITIES];
    double half_width[KW__NUM_QUANTITIES]; /* mean over data sets of the median */
};
/* `fit`: of the real rows, whose residuals' correlation KW__CORRELATED takes. */
kw_status kw__validate_simulated(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                                 enum kw__draw draw, int count, uint64_t seed, struct kw__simulation *out,
                                 kw_error *err);

/* Half the width of the 90 % interval of a log-normal figure, as a fraction of it. */
double kw__half_width(double log_sd);

/* Fills the targets from the figures that are there; `parts`: those that were run. */
void kw__validation_judge(struct kw__validation *validation, unsigned parts);

/* Parts of the validation (validate_held.c), and sums of errors. */
kw_status kw__validate_models(const kw_catalog *catalog, struct kw__validation *validation, kw_error *err);
kw_status kw__validate_h200(const kw_catalog *catalog, struct kw__validation *validation, kw_error *err);
kw_status kw__validate_repeats(struct kw__validation *validation, kw_error *err);
/* A median; sorts the values. NaN of none. */
double kw__median(double *values, size_t count);
struct kw__errors kw__errors_begin(void);
/* A measured NaN is no row; a predicted one makes every figure NaN. */
void kw__errors_add(struct kw__errors *errors, double predicted, double measured);
void kw__errors_end(struct kw__errors *errors);

#endif
