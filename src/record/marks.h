/* Marks: what the programs of a run say of their stages, as windows of the meter.
 *
 * A mark is one datagram of text on the socket that KINOWATT_SOCKET names, without a newline:
 *
 *     begin NAME T_NS      a stage begins
 *     end NAME T_NS        the stage of this name that the process began last ends
 *     mark NAME T_NS       the stage that `mark` began last in this process ends, and NAME begins
 *     set NAME VALUE       a setting of the run
 *
 * T_NS is CLOCK_MONOTONIC in nanoseconds, NAME 1 to 63 bytes without control characters; a setting's name
 * holds letters, digits, '_', '-' and '.' alone. The whole has at most KW__MARK_BYTES bytes. Which process
 * speaks the kernel says. `all ` before a line makes it of no process but of the run, as scripts need whose
 * every mark is a process of its own; there, to begin a stage that is open ends it first.
 *
 * A window is nested in the one its process began last and has not ended; windows of several processes
 * overlap as they like. What cannot be right is counted and changes nothing else. */
#ifndef KW_RECORD_MARKS_H
#define KW_RECORD_MARKS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/arena.h"
#include "kinowatt.h"

enum { KW__MARK_BYTES = 4096 };

/* What was odd, how often. */
struct kw__mark_faults {
    int64_t unclosed;     /* still open when the run ended, or begun anew by a script: they end there */
    int64_t out_of_order; /* ended while one that began later was open */
    int64_t unknown;      /* ends of what had not begun */
    int64_t after;        /* of a moment after the command's end */
    int64_t wrong_time;   /* of a moment before the run or in the future: the time of arrival was taken */
    int64_t over;         /* more windows than the meter holds, deeper than 32, of too many processes */
    int64_t garbage;      /* not understood, or too long */
};

struct kw__mark_setting {
    const char *name, *value;
};

struct kw__marks;

/* `whole` is the meter's window of the run, which began at `begin_s`. Times here are seconds of
 * kw__monotonic_s(). NULL without memory. */
struct kw__marks *kw__marks_new(kw_meter *meter, size_t whole, double begin_s);
void kw__marks_free(struct kw__marks *marks);

/* Takes in one datagram of `length` bytes, of which those beyond KW__MARK_BYTES may be missing. */
void kw__marks_take(struct kw__marks *marks, const char *line, size_t length, pid_t pid, double arrived_s);

/* The stage that a line of output begins. */
void kw__marks_stage(struct kw__marks *marks, const char *name, double at_s);

/* The command has ended then: marks of later moments are counted only. */
void kw__marks_end(struct kw__marks *marks, double at_s);
/* No more marks come: what is open ends where the command did. */
void kw__marks_finish(struct kw__marks *marks);

const struct kw__mark_faults *kw__marks_faults(const struct kw__marks *marks);

/* Whether a window of the meter was never ended by its program. */
bool kw__marks_unclosed(const struct kw__marks *marks, size_t window);

/* The settings, each name once with its last value; they belong to `marks`. */
const struct kw__mark_setting *kw__marks_settings(const struct kw__marks *marks, size_t *count);

#endif
