/* Starting the command that is recorded, so that it finds what it would find without us: descriptors,
 * signals, process group and with it the terminal are inherited. */
#ifndef KW_RECORD_CHILD_H
#define KW_RECORD_CHILD_H

#include <signal.h>
#include <sys/types.h>

#include "kinowatt.h"

/* The descriptors that are open, so that those of a meter or a database are not passed on. */
enum { KW__MAX_DESCRIPTORS = 1024 };
struct kw__descriptors {
    unsigned char open[KW__MAX_DESCRIPTORS];
};
void kw__descriptors_note(struct kw__descriptors *out);
/* Those that were opened since close when a program is executed. */
void kw__descriptors_keep_back(const struct kw__descriptors *before);

struct kw__child_options {
    char *const *argv;
    const char *const *set; /* names and values by turns, NULL ends them: added to the environment */
    const sigset_t *mask;   /* the signals that it blocks */
    int output, error;      /* its stdout and stderr; -1: ours */
};

/* KW_ERROR_NOT_FOUND: there is no such command; KW_ERROR_UNSUPPORTED: it can't be executed. */
kw_status kw__child_start(const struct kw__child_options *options, pid_t *out, kw_error *err);

/* The exit code a shell would give to what waitpid returned. */
int kw__exit_code(int status);

/* The children of this process as text, "123 (python3), 124 (sh)", and their number. */
size_t kw__children_text(char *buffer, size_t size);

#endif
