/* See fake_nvml.h. Numbers and layouts are those of nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/fake_nvml.h"

enum { NOT_SUPPORTED = 3, INVALID = 2, LOST = 15 };

struct fake_nvml fake_nvml = {
    .gpus = 1, .power_mw = {400000, 300000, 200000, 100000}, .counter_percent = 100};

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle);
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size);
int nvmlDeviceGetName(void *handle, char *name, unsigned size);
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatt);
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatt);
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending);
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz);
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius);
const char *nvmlErrorString(int code);

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* A handle points to its GPU's place here. */
static char handles[FAKE_GPUS];

static unsigned index_of(const void *handle)
{
    return (unsigned)((const char *)handle - handles);
}

static struct timespec begun;
static long good_ms, bad_ms; /* 0: all reads are good */

int nvmlInit_v2(void)
{
    const char *code = getenv("FAKE_NVML_INIT"), *reads = getenv("FAKE_NVML_READS");
    const char *cost = getenv("FAKE_NVML_BURN_US"), *gpus = getenv("FAKE_NVML_GPUS"),
               *mig = getenv("FAKE_NVML_MIG");
    const char *pid = getenv("FAKE_NVML_PID");
    while (fake_nvml.hang_init) nap();
    if (code) fake_nvml.init_code = (int)strtol(code, NULL, 10);
    if (cost) fake_nvml.burn_us = (int)strtol(cost, NULL, 10);
    if (gpus) fake_nvml.gpus = (int)strtol(gpus, NULL, 10);
    if (pid) fake_nvml.pids[0] = (int)strtol(pid, NULL, 10);
    if (pid) fake_nvml.num_pids = 1;
    if (mig) fake_nvml.mig[0] = (int)strtol(mig, NULL, 10);
    if (!reads || sscanf(reads, "%ld %ld", &good_ms, &bad_ms) != 2) good_ms = bad_ms = 0;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    if (fake_nvml.init_code == 0) fake_nvml.open++;
    return fake_nvml.init_code;
}

int nvmlShutdown(void)
{
    fake_nvml.open--;
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = (unsigned)fake_nvml.gpus;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    if (index >= (unsigned)fake_nvml.gpus) return INVALID;
    if (fake_nvml.lost[index]) return LOST;
    *handle = &handles[index];
    return 0;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size)
{
    snprintf(uuid, size, "GPU-%x%x%x%xaaaa-0000", index_of(handle), index_of(handle), index_of(handle),
             index_of(handle));
    return 0;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned size)
{
    (void)handle;
    snprintf(name, size, "%s", fake_nvml.grace ? "NVIDIA GH200 480GB" : "NVIDIA Fake");
    return 0;
}

static int broken(void)
{
    struct timespec now;
    while (fake_nvml.hang_reads) nap();
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000;
    if (bad_ms && ms % (good_ms + bad_ms) >= good_ms) return LOST;
    return fake_nvml.fail_reads;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatt)
{
    if (broken()) return broken();
    *milliwatt = fake_nvml.power_mw[index_of(handle)];
    return 0;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatt)
{
    (void)handle;
    *milliwatt = 700000;
    return 0;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending)
{
    *current = *pending = (unsigned)fake_nvml.mig[index_of(handle)];
    return 0;
}

int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz)
{
    (void)handle;
    *mhz = type == 2 ? 2619 : 1755;
    return 0;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius)
{
    (void)handle;
    (void)sensor;
    *celsius = 61;
    return 0;
}

const char *nvmlErrorString(int code)
{
    return code == LOST ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Unknown Error";
}

#ifndef FAKE_OLD

struct field_value {
    unsigned field_id, scope_id;
    long long timestamp, latency;
    int value_type, result;
    union {
        double d;
        unsigned ui;
        unsigned long long ull;
    } value;
};

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoule);
int nvmlDeviceGetFieldValues(void *handle, int count, struct field_value *values);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons);

/* Takes processor time, as a driver's call does. */
static void burn(double us)
{
    struct timespec now;
    double from = -1, at;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        at = 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
        if (from < 0) from = at;
    } while (at - from < us);
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoule)
{
    struct timespec now;
    if (fake_nvml.no_energy) return NOT_SUPPORTED;
    if (broken()) return broken();
    fake_nvml.reads++;
    burn(fake_nvml.burn_us);
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long steps =
        (unsigned long long)now.tv_sec * 10 + (unsigned long long)now.tv_nsec / 100000000;
    unsigned long long mj_a_step = (unsigned long long)fake_nvml.power_mw[index_of(handle)] / 10;
    *millijoule = fake_nvml.frozen ? 123456 : steps * mj_a_step * fake_nvml.counter_percent / 100;
    return 0;
}

int nvmlDeviceGetFieldValues(void *handle, int count, struct field_value *values)
{
    if (broken()) return broken();
    for (int i = 0; i < count; i++) {
        values[i].result = values[i].field_id == 186 && !fake_nvml.no_instant ? 0 : NOT_SUPPORTED;
        values[i].value_type = 1;
        values[i].value.ui = fake_nvml.power_mw[index_of(handle)];
    }
    return 0;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons)
{
    (void)handle;
    *reasons = fake_nvml.throttle;
    return 0;
}

struct process_info {
    unsigned pid;
    unsigned long long used_memory;
    unsigned gpu_instance, compute_instance;
};

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process_info *list);

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process_info *list)
{
    (void)handle;
    unsigned room = *count;
    *count = (unsigned)fake_nvml.num_pids;
    if (room < *count) return 7;
    for (unsigned i = 0; i < *count; i++) list[i] = (struct process_info){.pid = (unsigned)fake_nvml.pids[i]};
    return 0;
}

#endif
