/* Samples: measured rows made ready for fits. Each distinct request is lowered and counted once, and all
 * rows, folds and predictors share it.
 *
 * - A group is one effective request of a model, or a part of it (81 and 83 frames are one, two batch sizes
 *   are not); a shape is what groups that differ by steps alone share.
 * - A pipeline whose stages were timed too is one whole and several parts. Fits take the parts, which tell
 *   more, and scores the whole; marks of a fold are on wholes, parts go with theirs.
 * - A session with one whole tells nothing of its own level: such a row is of none, -1, and what a session
 *   adds is noise of it. So are those of the smallest sessions, where there are more than KW__MAX_SESSIONS.
 */
#ifndef KW_PREDICT_SAMPLES_H
#define KW_PREDICT_SAMPLES_H

#include "predict/dataset.h"
#include "predict/price.h"

struct kw__sample {
    const struct kw__row *row;
    int session; /* -1: of none */
    int group, shape;
    int whole;      /* the sample that this is a part of; -1: none */
    bool has_parts; /* fits take them for it */
    double share;   /* of a part: its predicted share of the time of all of them, by the priors; else 1 */
    double energy_log_sd;       /* of its measurement */
    double latency_s, energy_j; /* of the GPU; NaN: absent. Simulations write here */
};

/* What a distinct request of a model needs, or a part of it. */
struct kw__demand {
    const char *model, *what; /* the slug of its rows; what they timed, "denoise+decode", NULL: all */
    kw_effective request;
    struct kw__workload *workload; /* of the whole request: parts have it in common */
    struct kw__binding binding;
    struct kw__bundles bundles;
    double flop;      /* exact; of a part that of its stages */
    bool closed_form; /* the paper's is defined for it */
    int shape;
};

struct kw__samples {
    struct kw__arena arena;
    const struct kw__dataset *dataset; /* this and the next are the caller's, and must live as long */
    const struct kw__calibration *priors;
    const kw_hardware *hardware;
    struct kw__sample *list;
    size_t count, num_wholes, num_groups;
    int num_shapes, num_sessions;
    struct kw__demand *groups;
    const char *sessions[KW__MAX_SESSIONS];
    struct kw__workload **workloads;
    size_t num_workloads;
    struct kw__left_outs left_out; /* rows of models that the catalog does not have, and others */
};

/* Takes the rows that can be lowered and priced; which were not, and why, is in `left_out`.
 * KW_ERROR_UNSUPPORTED when none can. */
kw_status kw__samples_new(const kw_catalog *catalog, const struct kw__dataset *dataset,
                          const struct kw__stack *stack, const struct kw__calibration *priors,
                          const kw_hardware *hardware, struct kw__samples **out, kw_error *err);
void kw__samples_free(struct kw__samples *samples);

#endif
