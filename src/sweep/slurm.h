/* A sweep as a job array of Slurm. Each task of the array runs a share of the points as a sweep of its own,
 * with its own sessions and anchors, into a store of its own: SQLite is not safe on a network file system
 * when several machines write. The tasks' stores are gathered into the one that has the plan, once their task
 * has left the queue.
 *
 * In the folder of the store, which the cluster's nodes must share:
 *
 *     sweeps/NAME/task-0.db     the store of task 0: the plan with its share, and its runs
 *     sweeps/NAME/task-0.log    what it printed
 *     sweeps/NAME/job.sh        what each task runs: kinowatt sweep --resume NAME --store task-K.db
 *
 * A task that ended early is submitted again and goes on as any sweep does. Partition, time limit, GPUs and
 * account are given as sbatch's own variables: SBATCH_PARTITION, SBATCH_TIMELIMIT, SBATCH_GPUS,
 * SBATCH_ACCOUNT. */
#ifndef KW_SWEEP_SLURM_H
#define KW_SWEEP_SLURM_H

#include <limits.h>

#include "sweep/session.h"

struct kw__slurm_options {
    const struct kw__sweep_plan *plan;
    struct kw__store *store;
    const char *path; /* the store's, absolute */
    const char *data; /* the data folder that tasks are to use; NULL: their own */
    double budget_s;  /* of each task; 0: none */
};

struct kw__slurm_task {
    char queue[24];     /* its state in the queue, "RUNNING"; "": it is not there */
    bool busy;          /* it is not in the queue, but its process still writes */
    bool exists;        /* it was submitted before */
    char last[160];     /* the last line that it printed; "": nothing */
    char log[PATH_MAX]; /* where that is */
};

/* Whether Slurm answers. KW_ERROR_DEVICE: it is not there, or does not. */
kw_status kw__slurm_ready(kw_error *err);

/* Asks the queue, and gathers what tasks that left it have measured. tasks has plan->options.tasks elements.
 * KW_ERROR_DEVICE: Slurm is not there, or does not answer. */
kw_status kw__slurm_gather(const struct kw__slurm_options *options, struct kw__slurm_task *tasks,
                           kw_error *err);

/* Submits those tasks for which `wanted` is true. *job is the array's number. */
kw_status kw__slurm_submit(const struct kw__slurm_options *options, const bool *wanted, char job[32],
                           kw_error *err);

#endif
