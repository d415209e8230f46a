/* Samples: measured rows made ready for fits. Each distinct request is lowered and counted once, and all
 * rows, folds and predictors share it.
 *
 * A sample's session is its sweep. A group is one effective request of a model (81 and 83 frames are one, two
 * batch sizes are not), a shape is what groups that differ by steps alone share. */
#ifndef KW_PREDICT_SAMPLES_H
#define KW_PREDICT_SAMPLES_H

#include "predict/dataset.h"
#include "predict/price.h"

struct kw__sample {
    const struct kw__row *row;
    int session; /* -1: of no sweep */
    int group, shape;
    double latency_s, energy_j; /* of the GPU; NaN: absent. Simulations write here */
};

/* What a distinct request of a model needs. */
struct kw__demand {
    const char *model; /* the slug of its rows */
    kw_effective request;
    struct kw__workload *workload;
    struct kw__binding binding;
    double flop; /* exact */
    int shape;
};

struct kw__samples {
    struct kw__arena arena;
    const struct kw__calibration *priors; /* and the rest are the caller's, and must live as long */
    const kw_hardware *hardware;
    struct kw__sample *list;
    size_t count, num_groups, largest; /* largest: most items of a workload */
    int num_shapes, num_sessions;
    struct kw__demand *groups;
    const char *sessions[KW__MAX_SESSIONS];
    struct kw__cost_of_item *scratch; /* of `largest` */
};

/* Keeps the rows of models that the catalog has; rows of other models are left out. */
kw_status kw__samples_new(const kw_catalog *catalog, const struct kw__dataset *dataset,
                          const struct kw__stack *stack, const struct kw__calibration *priors,
                          const kw_hardware *hardware, struct kw__samples **out, kw_error *err);
void kw__samples_free(struct kw__samples *samples);

#endif
