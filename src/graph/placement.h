/* Where a program's weights lie, and what is copied so that they are where they are needed.
 *
 * Usually all are on the device throughout. A stack that offloads (diffusers' enable_model_cpu_offload) has
 * one component of the checkpoint there at a time: as a stage begins to need another, the one that is there
 * goes back to the host, and the last one does when the clip is done. All of that lies within a call of the
 * pipeline.
 *
 * A component is here the tensors that the program declares. The encoder half of a VAE travels too and is not
 * among them: 0.2 of the 13 GB of CogVideoX-2b, 0.4 of Mochi's 61. */
#ifndef KW_GRAPH_PLACEMENT_H
#define KW_GRAPH_PLACEMENT_H

#include "graph/graph.h"
#include "graph/stack.h"

enum { KW__MAX_PLACED = 8 };

struct kw__placement {
    bool offload;
    int count; /* of components */
    struct {
        const char *name; /* the checkpoint's folder, "transformer" */
        double bytes;     /* of its tensors, each once, as the stack keeps them */
        bool used[KW__MAX_STAGES];
    } components[KW__MAX_PLACED];
};

/* One component's way at the beginning of a stage, or at the end of the last one. */
struct kw__move {
    const char *component;
    double bytes;
    bool to_host;
};
enum { KW__MAX_MOVES = 2 * KW__MAX_PLACED };

/* false without memory. Strings are the program's. */
bool kw__placement_make(struct kw__program *program, const struct kw__stack *stack,
                        struct kw__placement *out);

/* Bytes of weights on the device while a stage runs. */
double kw__placement_bytes(const struct kw__placement *placement, int stage);

/* What is copied as `stage` begins; when it is the number of stages, after the last one. Returns how many. */
int kw__placement_moves(const struct kw__placement *placement, int stage, int num_stages,
                        struct kw__move moves[KW__MAX_MOVES]);

#endif
