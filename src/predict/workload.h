/* A workload: what one request costs on one stack, operator by operator, before anyone says how fast
 * the hardware is. It is what predictors price and fits read: a few hundred items for thousands of
 * operators, equal ones counted together. */
#ifndef KW_PREDICT_WORKLOAD_H
#define KW_PREDICT_WORKLOAD_H

#include "graph/count.h"
#include "graph/stack.h"
#include "model/family.h"

enum { KW__MAX_COMPONENTS = 24 };

struct kw__item {
    int stage, phase, component; /* indices below; a phase's index counts over all stages */
    enum kw__opcode code;
    const char *op; /* "linear 1536x8960" */
    enum kw__class class;
    double count;         /* operators times calls */
    struct kw__work work; /* of one */
};

struct kw__workload {
    struct kw__arena arena;
    kw_effective request;
    struct kw__item *items;
    size_t num_items, item_capacity;
    int num_stages, num_phases, num_components;
    const char *stages[KW__MAX_STAGES], *components[KW__MAX_COMPONENTS];
    struct kw__sums stage_flop[KW__MAX_STAGES], component_flop[KW__MAX_COMPONENTS]; /* reference */
    kw_phase *phases[KW__MAX_STAGES]; /* of the reference program */
    size_t phases_of[KW__MAX_STAGES];
    kw_reading peak_bytes; /* of memory */
};

kw_status kw__workload_new(const kw_model *model, const kw_effective *request, const struct kw__stack *stack,
                           struct kw__workload **out, kw_error *err);
void kw__workload_free(struct kw__workload *workload);

#endif
