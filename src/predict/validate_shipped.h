/* Validation on the data sets that ship: the sweeps and the model table of arXiv 2509.19222, parts of a
 * pipeline on one H200, and the figures that must be reached on them. */
#ifndef KW_PREDICT_VALIDATE_SHIPPED_H
#define KW_PREDICT_VALIDATE_SHIPPED_H

#include "predict/priors.h"
#include "predict/validate.h"

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

struct kw__shipped {
    struct kw__arena arena;
    const char *priors_path;
    struct kw__calibration *priors;
    struct kw__priors h200_priors;
    kw_hardware *hardware, *h200;
    struct kw__stack *stack, *h200_stack;
    struct kw__dataset *sweeps, *models, *micro;
    struct kw__samples *samples, *model_samples, *h200_samples;
    struct kw__validation *ladder; /* on the sweeps; NULL: not asked */
    struct kw__held_out *held_out; /* whole pipelines of the paper's model table */
    size_t num_held_out;
    struct kw__held_out *zero_rows; /* parts and the pipeline on the H200 */
    size_t num_zero_rows;
    struct kw__target targets[KW__NUM_TARGETS];
};

enum { KW__VALIDATE_SWEEPS = 1, KW__VALIDATE_H200 = 2 };

/* Runs the parts that `parts` names. `priors`: a path, NULL: the ones shipped. A row of the sweeps without a
 * sweep, or that can't be used, is refused. */
kw_status kw__validate_shipped(const kw_catalog *catalog, const char *priors, unsigned parts,
                               struct kw__shipped **out, kw_error *err);
void kw__shipped_free(struct kw__shipped *shipped);

/* Fills the targets from the figures that are there; `parts`: those that were run. */
void kw__shipped_judge(struct kw__shipped *shipped, unsigned parts);

#endif
