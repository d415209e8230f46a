/* What Linux says of memory and clocks, for pipeline.c. */
#include "engine/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
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

/* The number behind a word at the beginning of a line; NaN: there is none. */
static double read_field(const char *path, const char *word)
{
    FILE *file = fopen(path, "re");
    char line[256];
    double value = NAN;
    size_t length = strlen(word);
    while (file && isnan(value) && fgets(line, sizeof line, file))
        if (strncmp(line, word, length) == 0 && (line[length] == ':' || line[length] == ' '))
            value = kw__number_read(line + length + 1, NULL);
    if (file) fclose(file);
    return value;
}

/* What a control group leaves: its limit without what it uses, but for files read long ago, which the kernel
 * drops first. NaN: it has no limit. */
static double left_of_group(const char *folder, const char *limit, const char *usage, const char *files)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, limit);
    double most = read_number(path);
    if (!(most < 0x1p60)) return NAN; /* how version 1 says none */
    snprintf(path, sizeof path, "%s/%s", folder, usage);
    double used = read_number(path);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    double dropped = read_field(path, files);
    used = fmax(0, (isnan(used) ? 0 : used) - (isnan(dropped) ? 0 : dropped));
    return fmax(0, most - used);
}

/* fmin passes over NaN. The limits of the group's parents hold too; in a container its own group is
 * what it sees as the root. */
static double left_of_groups(void)
{
    static const char root[] = "/sys/fs/cgroup";
    char line[512], path[600];
    double left = left_of_group("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                "total_inactive_file"); /* version 1 */
    FILE *file = fopen("/proc/self/cgroup", "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) found = strncmp(line, "0::/", 4) == 0;
    if (file) fclose(file);
    if (!found) line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    for (char *group = line + (found ? 3 : 0), *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
        snprintf(path, sizeof path, "%s%s", root, group);
        left = fmin(left, left_of_group(path, "memory.max", "memory.current", "inactive_file"));
    }
    return fmin(left, left_of_group(root, "memory.max", "memory.current", "inactive_file"));
}

static double left_of_address_space(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return NAN;
    return fmax(0, (double)limit.rlim_cur - kw__process_memory("VmSize"));
}

struct kw__machine_memory kw__machine_memory(void)
{
    double installed = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double own = kw__process_memory("RssAnon");
    double left = fmin(1024 * read_field("/proc/meminfo", "MemAvailable"),
                       fmin(left_of_groups(), left_of_address_space()));
    double available = left + (isnan(own) ? 0 : own);
    return (struct kw__machine_memory){installed, fmin(installed, available)};
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

double kw__machine_others_s(void)
{
    struct timespec own;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own) != 0) return NAN;
    return kw__machine_busy_s() - ((double)own.tv_sec + 1e-9 * (double)own.tv_nsec);
}

double kw__process_memory(const char *key)
{
    return 1024 * read_field("/proc/self/status", key);
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
