/* Running a program on a backend, stage by stage.
 *
 *     struct kw__exec *run;
 *     kw__exec_open(&kw__backend_cpu, &options, program, &run, &err);   // compiles; kw__exec_memory tells
 *     kw__exec_prepare(run, "denoise", &weights, &err);                 // reads its weights
 *     kw__exec_write(run, "prompt/ids", ids, count, &err);              // inputs and states by name
 *     kw__exec_stage(run, "denoise", &err);                             // the timed region
 *     kw__exec_read(run, "latents", out, count, &err);                  // a state
 *     kw__exec_close(run);
 *
 * States start at their initial value, live from the first phase that names them to the last, and share
 * memory with states of other phases. An input's name may be "phase/name", for one phase alone. Weights
 * stay until the close; phases share them. Only the first run of a stage may allocate.
 *
 * KINOWATT_DUMP=folder in the environment writes each operator's outputs there, as
 * <stage>.<phase>.<iteration>.<value>.f32 with a line in index.txt for each: name, then shape. */
#ifndef KW_ENGINE_EXEC_H
#define KW_ENGINE_EXEC_H

#include "engine/backend.h"

struct kw__exec;

/* Where a run is. Called after each operator. */
struct kw__progress {
    const char *stage, *phase;
    int64_t iteration, iterations; /* of the phase; the one that is under way */
    size_t op, ops;                /* operators of it that are done */
    double done;                   /* share of the stage's FLOPs, 0..1 */
};

struct kw__exec_options {
    struct kw__device_options device;
    void *user;
    /* NULL, or: false stops the run with KW_ERROR_CANCELLED */
    bool (*progress)(void *user, const struct kw__progress *at);
    /* NULL, or: called as a stage's timed region begins and ends (the meter's window) */
    void (*stage)(void *user, const char *stage, bool begins);
    kw__after_op *after; /* NULL, or: called with `user` after each operator; false stops the run */
    bool check_finite;   /* after each operator: the first output with NaN or infinity is an error */
};

/* Bytes, before anything of that size is allocated. */
struct kw__exec_memory {
    double weights, states, workspace;
};

kw_status kw__exec_open(const struct kw__backend *backend, const struct kw__exec_options *options,
                        const struct kw__program *program, struct kw__exec **out, kw_error *err);
void kw__exec_close(struct kw__exec *run);

struct kw__exec_memory kw__exec_memory(const struct kw__exec *run);

/* Reads the weights of a stage (NULL: of all stages). Run before the stage, outside any timed region. */
kw_status kw__exec_prepare(struct kw__exec *run, const char *stage, const struct kw__weights *weights,
                           kw_error *err);

/* An input, kept until the run is closed, or the value a state goes on from when the next phase that
 * has it begins. */
kw_status kw__exec_write(struct kw__exec *run, const char *name, const float *data, size_t count,
                         kw_error *err);
/* A state that is alive: its first phase has run, and no phase after its last. */
kw_status kw__exec_read(struct kw__exec *run, const char *name, float *data, size_t count, kw_error *err);

kw_status kw__exec_stage(struct kw__exec *run, const char *stage, kw_error *err);

/* States start over; inputs stay. */
void kw__exec_restart(struct kw__exec *run);

const struct kw__program *kw__exec_program(const struct kw__exec *run);
struct kw__device *kw__exec_device(const struct kw__exec *run);
/* Plans, for tests and reports; NULL: the phase never runs. */
struct kw__plan *kw__exec_plan(const struct kw__exec *run, int stage, int phase);

#endif
