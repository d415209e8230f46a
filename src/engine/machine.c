/* What Linux says of memory and clocks, for pipeline.c. */
#include "engine/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"

/* The number a file starts with, NaN when there is none ("max" in a control group). */
static double read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[64], *end = line;
    if (!file) return NAN;
    double value = fgets(line, sizeof line, file) ? kw__number_read(line, &end) : NAN;
    fclose(file);
    return end == line ? NAN : value;
}

/* fmin passes over NaN. The limits of the group's parents hold too; in a container its own group is
 * what it sees as the root. */
static double control_group_limit(void)
{
    static const char root[] = "/sys/fs/cgroup";
    char line[512], path[600];
    double limit = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes"); /* version 1 */
    FILE *file = fopen("/proc/self/cgroup", "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) found = strncmp(line, "0::/", 4) == 0;
    if (file) fclose(file);
    if (!found) return limit;
    line[strcspn(line, "\n")] = '\0';
    for (char *group = line + 3, *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
        snprintf(path, sizeof path, "%s%s/memory.max", root, group);
        limit = fmin(limit, read_number(path));
    }
    snprintf(path, sizeof path, "%s/memory.max", root);
    return fmin(limit, read_number(path));
}

double kw__machine_memory(void)
{
    double pages = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return fmin(pages, control_group_limit());
}

/* The first line of /proc/stat: "cpu", then ticks as user, nice, system, idle, iowait, irq, softirq, steal; a
 * guest's are in user and nice. Some sandboxes show nothing but zeros. */
double kw__machine_busy_s(void)
{
    FILE *file = fopen("/proc/stat", "re");
    char line[512], *at = line + 3;
    if (!file) return NAN;
    bool found = fgets(line, sizeof line, file) && strncmp(line, "cpu ", 4) == 0;
    fclose(file);
    double ticks = 0;
    for (int field = 0; found && field < 8; field++) {
        char *end = at;
        double value = kw__number_read(at, &end);
        if (end == at) break;
        if (field != 3 && field != 4) ticks += value;
        at = end;
    }
    return ticks > 0 ? ticks / (double)sysconf(_SC_CLK_TCK) : NAN;
}

double kw__process_memory(const char *key)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    double bytes = NAN;
    size_t length = strlen(key);
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0 && line[length] == ':')
            bytes = 1024 * kw__number_read(line + length + 1, NULL);
    if (file) fclose(file);
    return bytes;
}

double kw__cpu_clock_mhz(void)
{
    double sum = 0, count = 0;
    char line[256];
    for (int cpu = 0;; cpu++) {
        snprintf(line, sizeof line, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        double khz = read_number(line);
        if (isnan(khz)) break;
        sum += khz / 1000;
        count++;
    }
    FILE *file = count > 0 ? NULL : fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strncmp(line, "cpu MHz", 7) == 0 ? strchr(line, ':') : NULL;
        if (!colon) continue;
        sum += kw__number_read(colon + 1, NULL);
        count++;
    }
    if (file) fclose(file);
    return count > 0 ? sum / count : NAN;
}
