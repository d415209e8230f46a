/* This machine's CPU: what /proc says, and the copy bandwidth that a short run measures.
 *
 * Peak FLOP/s = cores x clock x FLOPs per cycle and core; the FLOPs per cycle are those of two FMA units
 * of the widest vectors the CPU names (one multiply-add is 2), and with AMX those of one tile unit, which
 * multiplies 16 x 32 by 32 x 16 in 16 cycles. It is a bound, not a measurement. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/number.h"
#include "hardware/hardware.h"

struct cpu {
    char model[128];
    char flags[8192];
    double mhz;
    int cores; /* physical; 0 when /proc/cpuinfo does not say */
};

enum { MAX_CORES = 4096 };

static void read_cpuinfo(struct cpu *cpu)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file) return;
    char line[8192];
    long package = 0, seen[MAX_CORES];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon) continue;
        colon[strcspn(colon, "\n")] = '\0';
        const char *value = colon[1] == ' ' ? colon + 2 : colon + 1;
        if (strncmp(line, "model name", 10) == 0 && !cpu->model[0])
            snprintf(cpu->model, sizeof cpu->model, "%s", value);
        else if (strncmp(line, "flags", 5) == 0 && !cpu->flags[0])
            snprintf(cpu->flags, sizeof cpu->flags, " %s ", value);
        else if (strncmp(line, "cpu MHz", 7) == 0 && kw__number_read(value, NULL) > cpu->mhz)
            cpu->mhz = kw__number_read(value, NULL);
        else if (strncmp(line, "physical id", 11) == 0)
            package = strtol(value, NULL, 10);
        else if (strncmp(line, "core id", 7) == 0 && cpu->cores < MAX_CORES) { /* threads share one */
            long core = package * MAX_CORES + strtol(value, NULL, 10);
            int i = 0;
            while (i < cpu->cores && seen[i] != core) i++;
            if (i == cpu->cores) seen[cpu->cores++] = core;
        }
    }
    fclose(file);
}

static double read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) return NAN;
    char line[64];
    double value = fgets(line, sizeof line, file) ? kw__number_read(line, NULL) : NAN;
    fclose(file);
    return value > 0 ? value : NAN;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Bytes read plus written a second by one thread that copies 64 MiB, the best of a few; a lower bound of what
 * all cores reach, and of the caches where 128 MiB fit into them. NaN without memory. */
static double copy_bandwidth(void)
{
    enum { BYTES = 64 << 20, REPEATS = 4 };
    char *from = malloc(BYTES), *to = malloc(BYTES);
    double best = NAN;
    if (from && to) {
        memset(from, 1, BYTES);
        memset(to, 2, BYTES);
        for (int i = 0; i < REPEATS; i++) {
            double start = seconds();
            memcpy(to, from, BYTES);
            double took = seconds() - start;
            from[(size_t)to[i] & 0xff] = (char)i; /* keeps the copy */
            if (took > 0 && !(2.0 * BYTES / took <= best)) best = 2.0 * BYTES / took;
        }
    }
    free(from);
    free(to);
    return best;
}

kw_status kw__hardware_probe_cpu(kw_hardware *hardware, kw_error *err)
{
    struct cpu cpu = {{0}, {0}, 0, 0};
    read_cpuinfo(&cpu);
    char today[32] = "unknown";
    time_t now = time(NULL);
    struct tm calendar;
    if (gmtime_r(&now, &calendar)) strftime(today, sizeof today, "%Y-%m-%d", &calendar);

    hardware->name = "cpu";
    hardware->kind = "cpu";
    hardware->cpu = kw__arena_strdup(&hardware->arena, cpu.model[0] ? cpu.model : "unknown CPU");
    hardware->title =
        kw__arena_printf(&hardware->arena, "this machine: %s", cpu.model[0] ? cpu.model : "unknown CPU");
    double threads = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double cores = cpu.cores && cpu.cores < threads ? cpu.cores : threads;
    double pages = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double khz = read_number("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
    double clock = isnan(khz) ? cpu.mhz * 1e6 : khz * 1e3;
    kw__hardware_add(hardware, "num_cores", cores, "1", "/proc/cpuinfo, physical cores", today, NULL);
    kw__hardware_add(hardware, "memory_bytes", pages, "B", "sysconf(_SC_PHYS_PAGES)", today, NULL);
    if (clock > 0) {
        kw__hardware_add(hardware, "boost_clock_hz", clock, "Hz",
                         isnan(khz) ? "/proc/cpuinfo, cpu MHz now" : "cpufreq/cpuinfo_max_freq", today, NULL);
        bool wide = strstr(cpu.flags, " avx512f ") != NULL, avx2 = strstr(cpu.flags, " avx2 ") != NULL;
        double lanes = wide ? 16 : avx2 ? 8 : 4;
        double f32 = cores * clock * lanes * 2 * 2;
        const char *source = wide   ? "cores x clock x 2 FMA units x 16 lanes (avx512f)"
                             : avx2 ? "cores x clock x 2 FMA units x 8 lanes (avx2)"
                                    : "cores x clock x 2 units x 4 lanes";
        kw__hardware_add(hardware, "fp32_flop_per_s", f32, "FLOP/s", source, today,
                         "a bound, not a measurement");
        bool tiles = strstr(cpu.flags, " amx_bf16 ") != NULL;
        if (tiles || strstr(cpu.flags, " avx512_bf16 "))
            kw__hardware_add(hardware, "bf16_flop_per_s", tiles ? cores * clock * 2 * 16 * 32 : 2 * f32,
                             "FLOP/s",
                             tiles ? "cores x clock x 1024 FLOPs (amx_bf16)" : "twice fp32 (avx512_bf16)",
                             today, "a bound, not a measurement");
    }
    double bandwidth = copy_bandwidth();
    if (isnan(bandwidth)) return kw__fail_memory(err);
    kw__hardware_add(hardware, "memory_bandwidth_bytes_per_s", bandwidth, "B/s",
                     "best of 4 copies of 64 MiB by one thread, bytes read plus written", today, NULL);
    return hardware->arena.failed ? kw__fail_memory(err) : KW_OK;
}
