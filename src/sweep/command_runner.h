/* Runs a sweep's points by a command, under `kinowatt record`'s machinery: {names} are replaced, marks make
 * stages, an exit code other than 0 is a failed run.
 *
 * What the command prints goes to a file, run by run. Its end by a signal that the terminal or a scheduler
 * sends stops the sitting. Nothing stays warm between runs but the machine: the first run of a sitting is the
 * cold one. */
#ifndef KW_SWEEP_COMMAND_RUNNER_H
#define KW_SWEEP_COMMAND_RUNNER_H

#include "record/child.h"
#include "sweep/session.h"

struct kw__command_runner;

struct kw__command_runner_options {
    const kw_catalog *catalog; /* these are the caller's, and must live as long */
    const struct kw__sweep_plan *plan;
    kw_meter *meter;
    const struct kw__descriptors *descriptors; /* those the command is to have */
    const char *nvtx_library;                  /* NULL: none */
    const char *log;                           /* the file for its output */
};

kw_status kw__command_runner_open(const struct kw__command_runner_options *options,
                                  struct kw__command_runner **out, kw_error *err);
void kw__command_runner_close(struct kw__command_runner *runner);

struct kw__sweep_runner kw__command_runner_of(struct kw__command_runner *runner);

/* The signal that was to stop the last run; 0: none came while it ran. */
int kw__command_runner_asked(const struct kw__command_runner *runner);

#endif
