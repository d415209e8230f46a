/* What the system says of this machine and this process while a model runs. NaN: it does not tell. */
#ifndef KW_ENGINE_MACHINE_H
#define KW_ENGINE_MACHINE_H

#include <stdbool.h>

/* Bytes of memory that this process may use: the machine's, or the limit of its control group. */
double kw__machine_memory(void);

/* A size in /proc/self/status: "RssAnon" (memory of the process's own, now), "VmHWM" (with mapped files, at
 * its highest). */
double kw__process_memory(const char *key);

/* Of all cores, now, mean. On virtual machines often a constant. */
double kw__cpu_clock_mhz(void);

/* Seconds for which the machine's cores have been busy since it booted, summed, whoever they worked for; what
 * a host took of a virtual machine's cores (steal) is in it. Known to a hundredth of a second. */
double kw__machine_busy_s(void);

#endif
