/* The command's output, looked at on its way to ours: a line that fits a stage's expression begins it.
 *
 * Where our stdout or stderr is a terminal the command gets a terminal too (raw, of the same size), else a
 * pipe; both go through one when both are the same terminal, so that their order stays. Bytes pass as
 * they are and at once. A line ends with a newline or, as progress bars have it, a carriage return; its first
 * 4096 bytes are looked at, when it has ended; one that fits the stage begun last changes nothing. When ours
 * can't be written to any more the command's is closed, as it would have been without us. Memory is constant;
 * each stream has a thread. */
#ifndef KW_RECORD_OUTPUT_H
#define KW_RECORD_OUTPUT_H

#include <stdbool.h>
#include <sys/types.h>

#include "kinowatt.h"

struct kw__record_stage;
struct kw__output;

struct kw__output_event {
    int stage;   /* index of the expression that fits */
    double at_s; /* when the end of the line came, kw__monotonic_s() */
};

kw_status kw__output_open(const struct kw__record_stage *stages, size_t count, struct kw__output **out,
                          kw_error *err);
void kw__output_close(struct kw__output *output);

/* What the command is to have as STDOUT_FILENO or STDERR_FILENO, and that it has been started. */
int kw__output_of_command(const struct kw__output *output, int which);
void kw__output_started(struct kw__output *output);

/* Becomes readable when there are events. _next takes one; with `wait` it waits for one. False: there is none
 * or, with `wait`, none will come. */
int kw__output_events(const struct kw__output *output);
bool kw__output_next(struct kw__output *output, bool wait, struct kw__output_event *event);

/* The terminal has another size. */
void kw__output_resize(struct kw__output *output, pid_t command);

/* The command has ended: what it has written is passed on, later output of children is not. Wait for the
 * events then. */
void kw__output_stop(struct kw__output *output);

/* Why output could not be passed on, once no event will come; NULL: it was, or who read it went away. */
const char *kw__output_lost(const struct kw__output *output);

#endif
