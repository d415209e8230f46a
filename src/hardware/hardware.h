/* Hardware profiles: named values, each with unit, source and date. */
#ifndef KW_HARDWARE_HARDWARE_H
#define KW_HARDWARE_HARDWARE_H

#include <stdbool.h>

#include "base/arena.h"
#include "kinowatt.h"

struct kw_hardware {
    struct kw__arena arena;
    const char *name, *title, *kind; /* kind: "gpu" or "cpu" */
    const char *cpu;                 /* of this machine's profile: what the CPU calls itself; else NULL */
    const char **aliases;
    size_t num_aliases;
    struct kw_hardware_value *values;
    size_t num_values, value_capacity;
};

/* Fills an empty profile with what this machine's CPU says of itself and a short copy measures. */
kw_status kw__hardware_probe_cpu(kw_hardware *hardware, kw_error *err);

/* Adds a value; a failed allocation shows in the arena. */
void kw__hardware_add(kw_hardware *hardware, const char *key, double value, const char *unit,
                      const char *source, const char *date, const char *note);

/* Whether `name` is the profile's name or one of its aliases, without regard to case. */
bool kw__hardware_is(const kw_hardware *hardware, const char *name);

#endif
