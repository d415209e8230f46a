/* What the system says of this machine and this process while a model runs. NaN: it does not tell. */
#ifndef KW_ENGINE_MACHINE_H
#define KW_ENGINE_MACHINE_H

#include <stdbool.h>

/* Bytes of memory. */
struct kw__machine_memory {
    double installed;
    /* What this process can have in all, with what it has already: as far as the system can do without
     * swapping, the limits of its control groups and of its address space (ulimit -v) leave it. */
    double available;
};
struct kw__machine_memory kw__machine_memory(void);

/* A size in /proc/self/status: "RssAnon" (memory of the process's own, now), "VmHWM" (with mapped files, at
 * its highest). */
double kw__process_memory(const char *key);

/* Of all cores, now, mean. On virtual machines often a constant. */
double kw__cpu_clock_mhz(void);

/* Seconds for which the machine's cores have been busy since it booted, summed, whoever they worked for; what
 * a host took of a virtual machine's cores (steal) is in it. Known to a hundredth of a second. */
double kw__machine_busy_s(void);

/* Of those, what was not this process's. */
double kw__machine_others_s(void);

#endif
