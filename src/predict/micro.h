/* Micro-runs: what the operators of a stack take on the cpu backend of this machine.
 *
 * What is timed is what runs: a model is lowered for a small request and rewritten as the stack says; of
 * each phase those operators stay that differ in shape, and of equal ones so many that the caches see
 * what they see in a whole run. The thinned graphs are compiled by the backend and run in turn, each
 * operator between two looks at the monotonic clock, in one memory for their states and workspaces.
 * Weights, inputs and states are random numbers, as a run has them.
 *
 * Time is a deadline, which the models share equally, one after the other. The scenes of a model are
 * prepared in their order, and run in rounds for the rest of its time. Those are left out that are not ready
 * when nine tenths of it have passed, or, going by the one before, could not be run KW__MICRO_FEW times. */
#ifndef KW_PREDICT_MICRO_H
#define KW_PREDICT_MICRO_H

#include "engine/backend.h"
#include "graph/count.h"
#include "model/family.h"

/* Fewer rounds do not tell disturbed runs from others. */
enum { KW__MICRO_FEW = 3 };

/* One operator of one phase. */
struct kw__micro_sample {
    struct kw__work work;
    double seconds; /* the median of the undisturbed runs */
    double log_sd;  /* of those */
};

struct kw__micro_samples {
    struct kw__micro_sample *list;
    size_t count, capacity;
    int threads;
    double disturbed;   /* share of the runs that took over 1.3 times what undisturbed ones take */
    double drift;       /* log sd of a whole round; 0.1 when there were few */
    double spread;      /* log sd of all whole rounds, disturbed ones too; NaN when there was one or none */
    double other_cores; /* that other processes kept busy meanwhile, mean; NaN: the system does not tell */
    size_t rounds;      /* whole ones, of the model that had fewest; a rehearsal that stood in is none */
    unsigned left_out;  /* scenes, bits by index, for which there was no time */
};
void kw__micro_free(struct kw__micro_samples *samples);

/* A model at a size, and which of its stages (bits by index) are run. */
struct kw__micro_scene {
    const char *model;
    int64_t width, height, num_frames, prompt_tokens;
    unsigned stages;
};
extern const struct kw__micro_scene kw__micro_scenes[];
extern const size_t kw__num_micro_scenes;
/* Writes and returns "wan2.1-t2v-nano at 112x112x5". */
enum { KW__MICRO_NAME = 64 };
const char *kw__micro_scene_name(size_t scene, char buffer[KW__MICRO_NAME]);

struct kw__micro_options {
    double seconds;            /* for all of it; passed by one operator, or one phase's compiling */
    double memory_limit_bytes; /* 0: what is available on this machine */
    void *user;
    /* NULL, or called between operators: false stops with KW_ERROR_CANCELLED */
    bool (*progress)(void *user, double done);
};

/* Appends samples of the scenes whose model the catalog has. KW_ERROR_MEMORY, with both figures, when it
 * needs more than there is; KW_ERROR_UNSUPPORTED when there is no time even for the first scene. */
kw_status kw__micro_run(const kw_catalog *catalog, const struct kw__stack *stack,
                        const struct kw__micro_options *options, struct kw__micro_samples *out,
                        kw_error *err);

/* The median of the times that are within 1.3 times the 5th percentile, and their log sd; sorts them. */
double kw__undisturbed(double *times, size_t count, double *log_sd, size_t *kept);

#endif
