/* Recording: a command runs under a meter, and marks say what its stages are.
 *
 * The command is in our process group and so has our terminal: what the terminal sends (SIGINT, SIGQUIT,
 * SIGTSTP) reaches both, and only it acts on it. What is sent to us alone (SIGTERM, SIGHUP, SIGUSR1, ...) is
 * passed on. When it stops, we stop, so that the shell notices.
 *
 * One runs at a time in a process, which then has no other children: all are waited for. */
#ifndef KW_RECORD_RECORD_H
#define KW_RECORD_RECORD_H

#include <regex.h>
#include <stdbool.h>

#include "record/child.h"
#include "record/marks.h"

/* A stage that begins with each line of output that an expression fits; `line` is the expression compiled
 * with REG_EXTENDED | REG_NEWLINE. */
struct kw__record_stage {
    const char *name, *expression;
    regex_t line;
};
enum { KW__MAX_STAGE_LINES = 32 };

struct kw__record_options {
    char *const *argv;
    kw_meter *meter;
    const struct kw__descriptors *descriptors; /* those the command is to have */
    const char *nvtx_library;                  /* turns NVTX ranges into marks; NULL: none */
    const struct kw__record_stage *stages;     /* none: the output is not looked at */
    size_t num_stages;
    int output; /* where the command's stdout and stderr go; 0: to ours. Without stages alone */
};

struct kw__record {
    struct kw__arena arena;
    size_t window;    /* the meter's, of the whole run */
    int exit_code;    /* as a shell gives it */
    int signal;       /* that ended the command; 0: none */
    int asked;        /* the last SIGINT, SIGQUIT, SIGTERM or SIGHUP that we were sent meanwhile; 0: none */
    double stopped_s; /* how long it was stopped */
    size_t num_left;  /* children that outlived the command */
    const char *left; /* "123 (python3)" */
    const char *no_marks; /* why there was no socket for marks; NULL: there was */
    const char *lost;     /* why output could not be passed on; NULL: it was */
    struct kw__marks *marks;
    bool stage_seen[KW__MAX_STAGE_LINES]; /* whether a line of output fitted */
};

/* KW_ERROR_NOT_FOUND: there is no such command; KW_ERROR_UNSUPPORTED: it can't be executed. When it could be
 * started the result is KW_OK, whatever became of it. */
kw_status kw__record_run(const struct kw__record_options *options, struct kw__record **out, kw_error *err);
void kw__record_free(struct kw__record *record);

/* libkinowatt-nvtx.so beside the program, or where `make install` put it; NULL: it is not there. */
const char *kw__record_nvtx_library(char *path, size_t size);

#endif
