/* A sweep's plan: which points of which axes are run, how often and in which order; docs/SWEEP.md.
 *
 * - A point is one value of each axis; points are numbered with the last axis fastest. Point and repeat name
 *   a run, the same in every process that works on the plan.
 * - A plan never changes once it is stored: what is done is what the store holds. So a sweep that was
 *   interrupted anywhere goes on by looking.
 * - Everything that can be wrong with a value is found when the plan is made, before anything runs.
 *
 * A plan owns its strings: they are of its arena. */
#ifndef KW_SWEEP_PLAN_H
#define KW_SWEEP_PLAN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/arena.h"
#include "kinowatt.h"

/* ---- Axes ---- */

enum kw__axis_kind {
    KW__AXIS_COUNT,  /* a whole number, 1 or more */
    KW__AXIS_ABOVE,  /* a number above 0 */
    KW__AXIS_AMOUNT, /* a number, 0 or more */
    KW__AXIS_SEED,   /* a whole number below 2^64 */
    KW__AXIS_SIZE,   /* WIDTHxHEIGHT */
    KW__AXIS_TEXT,
};

/* The axes that have a name of their own: the request of kinowatt.h. */
struct kw__axis_info {
    const char *name;   /* in plans and placeholders, "num_frames" */
    const char *option; /* "num-frames" */
    char letter;        /* 0: none */
    enum kw__axis_kind kind;
    const char *argument, *help;
};
enum { KW__AXIS_STEPS = 4 /* its row */, KW__NUM_AXES = 12 };
extern const struct kw__axis_info kw__axes[KW__NUM_AXES];

struct kw__axis {
    const char *name;
    const struct kw__axis_info *info; /* NULL: the user's */
    const char **values;              /* as a command gets them: "17", "832x480" */
    size_t count;
};

/* Reads "4,20,50", "17:81:16" (from, to and step; inclusive) or both mixed. `option` is for messages. Of the
 * user's own axes a value is any text, and a range three numbers. */
kw_status kw__axis_parse(struct kw__arena *arena, const char *option, enum kw__axis_kind kind,
                         const char *text, struct kw__axis *out, kw_error *err);

/* ---- Plans ---- */

/* What is asked for, as typed. NULL and 0: not given. */
struct kw__sweep_options {
    const char *name;
    const char *model;                /* NULL: a command whose model is not known */
    const char *const *command;       /* NULL: our engine runs the model */
    size_t num_words;                 /* of the command */
    const char *values[KW__NUM_AXES]; /* the axes' lists, as kw__axes has them */
    const char *const *own;           /* the user's axes, "tile=128,256" */
    size_t num_own;
    const char *anchor; /* "num_frames=17,size=832x480"; what is not named has its first value */
    const char *hardware, *stack, *calibration; /* what is measured, and predicted with */
    double power_limit_w;                       /* 0: the hardware's own */
    const char *prompt, *negative_prompt, *device, *dtype, *weights, *meter;
    const char
        *window; /* which windows of a run count, "denoise,decode"; NULL: the whole run, or the stages */
    int64_t warmup, repeats, max_repeats; /* max_repeats 0: `repeats`, or 20 with `until` */
    double until;                         /* share that half an interval may be of its mean; 0: not asked */
    double idle_s;
    int64_t tasks; /* 0: run here; else the jobs of a Slurm array */
};

struct kw__sweep_plan {
    struct kw__arena arena;
    struct kw__sweep_options options; /* with every default filled in, less `values`, `own` and `anchor` */
    const char *uuid;
    const char *folder; /* where it was made: paths in it begin there */
    uint64_t order_seed;
    struct kw__axis *axes;
    size_t num_axes, num_points;
    /* Of a command's model, NULL without: they count, where a run has them all, as they are what is
     * predicted. */
    const char *const *stages;
    size_t num_stages;
    size_t anchor;            /* a point */
    int64_t task;             /* of options.tasks: which share this plan is; -1: all of it */
    const char *const *notes; /* what to know before it runs: the pipeline's rounding */
    size_t num_notes;
};

/* Makes a plan. With a model the catalog is needed, and each point is checked against it. The name is made
 * of what is run and a hash of the plan when none is given: the same request has the same name. */
kw_status kw__sweep_plan_new(const kw_catalog *catalog, const struct kw__sweep_options *options,
                             struct kw__sweep_plan **out, kw_error *err);
void kw__sweep_plan_free(struct kw__sweep_plan *plan);

/* Plans as text. Reading needs no catalog: what was checked is not checked again. */
kw_status kw__sweep_plan_to_json(const struct kw__sweep_plan *plan, char **out, kw_error *err);
kw_status kw__sweep_plan_from_json(const char *text, struct kw__sweep_plan **out, kw_error *err);

/* Whether two plans ask for the same, whatever their uuids, names and orders. */
bool kw__sweep_plan_same(const struct kw__sweep_plan *a, const struct kw__sweep_plan *b);

/* ---- Points ---- */

const char *kw__sweep_value(const struct kw__sweep_plan *plan, size_t point, size_t axis);
/* The request of a point: what no axis gives is the model's default. */
kw_request kw__sweep_point_request(const struct kw__sweep_plan *plan, size_t point);
uint64_t kw__sweep_point_seed(const struct kw__sweep_plan *plan, size_t point);
/* "size=832x480 num_frames=17": the axes with several values; "point 0" when none has. */
const char *kw__sweep_point_label(const struct kw__sweep_plan *plan, size_t point, char *buffer, size_t size);
/* Whether the plan's task has this point. */
bool kw__sweep_has_point(const struct kw__sweep_plan *plan, size_t point);

/* The command of a run: each {name} replaced by its value, "{{" and "}}" around a name by one brace each.
 * Ends with NULL; of the arena. KW_ERROR_USAGE: a name that no axis gives. */
kw_status kw__sweep_command(const struct kw__sweep_plan *plan, size_t point, const char *run,
                            struct kw__arena *arena, char ***out, kw_error *err);

#endif
