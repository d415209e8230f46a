/* What a run of the pipeline measures: the time of each window by the monotonic clock, its energy by the
 * meter. Windows nest: the first holds the others. Beginning and ending one neither allocates nor waits.
 * A meter that refuses a window leaves its energies absent. */
#ifndef KW_ENGINE_MEASURE_H
#define KW_ENGINE_MEASURE_H

#include "engine/pipeline.h"

enum { KW__MEASURE_WINDOWS = KW__MAX_STAGES + 1 };

struct kw__measure {
    kw_meter *meter;
    bool stopped;
    int count, open[KW__MEASURE_WINDOWS], depth;
    struct kw__measure_window {
        const char *name;
        double begin_s, end_s, cpu_clock_mhz;
        double others_s; /* CPU time of other processes: less what it was when the window began */
        bool metered;
        size_t window; /* the meter's */
        char refusal[128];
    } windows[KW__MEASURE_WINDOWS];
    double peak_anonymous_bytes;
};

void kw__measure_open(struct kw__measure *measure, kw_meter *meter);
void kw__measure_begin(struct kw__measure *measure, const char *name);
void kw__measure_end(struct kw__measure *measure, const char *name);
/* Windows after this are not measured. */
void kw__measure_stop(struct kw__measure *measure);

/* Fills stages and total. Reasons of what is absent belong to the meter or the program. */
void kw__measure_results(struct kw__measure *measure, struct kw__clip *out);

#endif
