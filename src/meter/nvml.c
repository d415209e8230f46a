/* GPUs through NVIDIA's management library, opened at run time; nothing of its header is needed.
 *
 * Read of each GPU that CUDA_VISIBLE_DEVICES shows: the total-energy counter (mJ since the driver was
 * loaded) and, in the same read, the instant power (field 186; field 185 and, on older drivers,
 * nvmlDeviceGetPowerUsage are means over a second). Counter and readings change every 100 ms (measured on an
 * H200: 97 to 102), a read costs 1 to 4 ms. Reading every 20 ms tells when a step happened to within
 * 20 ms, 14 J at 700 W instead of the step's 70; the sampler does so around edges (sampler.c). Clocks,
 * temperature and the reasons for throttling are read every fifth time, as nothing there changes faster.
 *
 * MIG instances have no counter of their own, and the whole GPU's holds other people's work; the
 * counter of a GH200 covers the whole module, so that GPU's power is integrated instead.
 *
 * Numbers and layouts are those of NVIDIA's nvml.h, which keeps them stable. */
#include <ctype.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "base/library.h"
#include "meter/meter.h"
#include "meter/source.h"

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };
enum { FIELD_POWER_INSTANT = 186, CLOCK_SM = 1, CLOCK_MEMORY = 2, TEMPERATURE_GPU = 0 };
enum { VALUE_DOUBLE, VALUE_UINT, VALUE_ULONG, VALUE_ULONGLONG };
enum { MAX_GPUS = 64, SLOW_EVERY = 5 };

typedef struct nvml_device *device_handle;

struct field_value { /* nvmlFieldValue_t */
    unsigned field_id, scope_id;
    long long timestamp_us, latency_us;
    int value_type, result;
    union {
        double d;
        unsigned ui;
        unsigned long ul;
        unsigned long long ull;
    } value;
};

struct process_info { /* nvmlProcessInfo_t */
    unsigned pid;
    unsigned long long used_memory;
    unsigned gpu_instance, compute_instance;
};

/* Functions of the library; those below `optional` may be missing in an old one. */
struct api {
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *);
    int (*by_index)(unsigned, device_handle *);
    int (*uuid)(device_handle, char *, unsigned);
    /* optional */
    const char *(*error_text)(int);
    int (*name)(device_handle, char *, unsigned);
    int (*energy_mj)(device_handle, unsigned long long *);
    int (*fields)(device_handle, int, struct field_value *);
    int (*power_mw)(device_handle, unsigned *);
    int (*limit_mw)(device_handle, unsigned *);
    int (*mig_mode)(device_handle, unsigned *, unsigned *);
    int (*clock_mhz)(device_handle, int, unsigned *);
    int (*temperature_c)(device_handle, int, unsigned *);
    int (*throttle)(device_handle, unsigned long long *);
    int (*processes)(device_handle, unsigned *, struct process_info *);
};

struct gpu {
    device_handle handle;
    char uuid[96];
    bool instant;            /* field 186 is there */
    double processes_s;      /* when its processes were last counted */
    int64_t other_processes; /* then; -1: not known */
};

struct nvml {
    void *library;
    struct api api;
    bool initialised;
    bool own_numbers;          /* of processes: what NVML calls them we call them too */
    struct gpu gpus[MAX_GPUS]; /* as the channels */
    unsigned reads;
};

static const char *error_text(const struct api *api, int code)
{
    const char *text = api->error_text ? api->error_text(code) : NULL;
    return text ? text : "an error without a name";
}

static void *find(void *library, const char *name, const char *other)
{
    void *symbol = dlsym(library, name);
    return symbol || !other ? symbol : dlsym(library, other);
}

/* Whether all that is needed is there. */
static bool load(struct nvml *nvml)
{
    void *lib = nvml->library;
    struct api *api = &nvml->api;
    *(void **)&api->init = find(lib, "nvmlInit_v2", "nvmlInit");
    *(void **)&api->shutdown = find(lib, "nvmlShutdown", NULL);
    *(void **)&api->count = find(lib, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount");
    *(void **)&api->by_index = find(lib, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex");
    *(void **)&api->uuid = find(lib, "nvmlDeviceGetUUID", NULL);
    *(void **)&api->error_text = find(lib, "nvmlErrorString", NULL);
    *(void **)&api->name = find(lib, "nvmlDeviceGetName", NULL);
    *(void **)&api->energy_mj = find(lib, "nvmlDeviceGetTotalEnergyConsumption", NULL);
    *(void **)&api->fields = find(lib, "nvmlDeviceGetFieldValues", NULL);
    *(void **)&api->power_mw = find(lib, "nvmlDeviceGetPowerUsage", NULL);
    *(void **)&api->limit_mw = find(lib, "nvmlDeviceGetEnforcedPowerLimit", NULL);
    *(void **)&api->mig_mode = find(lib, "nvmlDeviceGetMigMode", NULL);
    *(void **)&api->clock_mhz = find(lib, "nvmlDeviceGetClockInfo", NULL);
    *(void **)&api->temperature_c = find(lib, "nvmlDeviceGetTemperature", NULL);
    *(void **)&api->throttle =
        find(lib, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons");
    *(void **)&api->processes =
        find(lib, "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2");
    return api->init && api->shutdown && api->count && api->by_index && api->uuid;
}

/* ---- Which GPUs ---- */

/* Finds the GPU that one entry of CUDA_VISIBLE_DEVICES names, as CUDA does: an index, or the beginning of a
 * UUID that fits just one. -1: none, and CUDA shows no GPU from there on. */
static int find_entry(const char *entry, size_t length, char (*uuids)[96], unsigned count)
{
    char *end;
    long index = strtol(entry, &end, 10);
    if (length > 0 && end == entry + length) return index >= 0 && index < (long)count ? (int)index : -1;
    int found = -1;
    for (unsigned i = 0; i < count; i++) {
        if (length < 5 || strncasecmp(uuids[i], entry, length) != 0) continue;
        if (found >= 0) return -1;
        found = (int)i;
    }
    return found;
}

struct selection {
    int gpus[MAX_GPUS];
    size_t count;
    bool mig, by_index;
    char stopped[48]; /* the entry at which CUDA stops */
};

static void select_gpus(const char *visible, char (*uuids)[96], unsigned count, struct selection *out)
{
    *out = (struct selection){0};
    if (!visible) {
        for (unsigned i = 0; i < count; i++) out->gpus[out->count++] = (int)i;
        return;
    }
    for (const char *at = visible; *at;) {
        at += strspn(at, " ");
        size_t length = strcspn(at, ","), used = length;
        while (used && at[used - 1] == ' ') used--;
        if (used >= 4 && strncasecmp(at, "MIG-", 4) == 0) {
            out->mig = true; /* CUDA shows one instance and nothing beside it */
            out->count = 0;
            return;
        }
        int gpu = find_entry(at, used, uuids, count);
        bool twice = false;
        for (size_t i = 0; i < out->count; i++) twice = twice || out->gpus[i] == gpu;
        if (gpu < 0 || twice || out->count == MAX_GPUS) {
            snprintf(out->stopped, sizeof out->stopped, "%.*s", (int)(used < 40 ? used : 40), at);
            if (twice) out->count = 0; /* CUDA refuses the whole list then */
            return;
        }
        out->by_index = out->by_index || isdigit((unsigned char)*at);
        out->gpus[out->count++] = gpu;
        at += length + (at[length] == ',');
    }
}

/* ---- Who else is there ---- */

/* NVML's process numbers are those of the machine; within a container ours are others. */
static bool numbers_are_ours(void)
{
    char name[64];
    ssize_t length = readlink("/proc/self/ns/pid", name, sizeof name - 1);
    if (length < 0) return false;
    name[length] = '\0';
    return strcmp(name, "pid:[4026531836]") == 0; /* Linux: PROC_PID_INIT_INO */
}

/* The parent of a process, 0 when it is gone. */
static long parent_of(long pid)
{
    char path[64], text[512];
    long parent = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    const char *name_end = strrchr(text, ')'); /* "12 (a name) S 11 ..." */
    return name_end && sscanf(name_end, ") %*c %ld", &parent) == 1 ? parent : 0;
}

static bool is_ours(long pid)
{
    for (int depth = 0; pid > 1 && depth < 1000; depth++) {
        if (pid == (long)getpid()) return true;
        pid = parent_of(pid);
    }
    return false;
}

/* Counting takes some milliseconds, so it is done every other second. */
static int64_t count_others(const struct nvml *nvml, struct gpu *gpu, double now_s)
{
    enum { MOST = 64 };
    struct process_info list[MOST];
    unsigned count = MOST;
    if (gpu->processes_s > 0 && now_s < gpu->processes_s + 2) return gpu->other_processes;
    gpu->processes_s = fmax(now_s, 1e-9);
    gpu->other_processes = -1;
    if (!nvml->own_numbers || !nvml->api.processes) return -1;
    int code = nvml->api.processes(gpu->handle, &count, list);
    if (code == INSUFFICIENT_SIZE) return gpu->other_processes = MOST; /* so many, at least */
    if (code != SUCCESS) return -1;
    gpu->other_processes = 0;
    for (unsigned i = 0; i < count && i < MOST; i++) gpu->other_processes += !is_ours((long)list[i].pid);
    return gpu->other_processes;
}

/* ---- Opening ---- */

static double read_instant_w(const struct api *api, device_handle handle, int *code)
{
    struct field_value field = {.field_id = FIELD_POWER_INSTANT};
    *code = api->fields(handle, 1, &field);
    if (*code == SUCCESS) *code = field.result;
    if (*code != SUCCESS) return NAN;
    switch (field.value_type) {
    case VALUE_DOUBLE: return field.value.d / 1e3;
    case VALUE_UINT: return field.value.ui / 1e3;
    case VALUE_ULONG: return (double)field.value.ul / 1e3;
    case VALUE_ULONGLONG: return (double)field.value.ull / 1e3;
    }
    *code = NOT_SUPPORTED;
    return NAN;
}

static void probe(const struct nvml *nvml, struct gpu *gpu, struct kw__channel *channel)
{
    const struct api *api = &nvml->api;
    unsigned mig = 0, pending = 0, milliwatt = 0;
    unsigned long long millijoule;
    int code = NOT_SUPPORTED;
    channel->device = KW_GPU;
    snprintf(channel->label, sizeof channel->label, "%s", gpu->uuid);
    if (!api->name || api->name(gpu->handle, channel->name, sizeof channel->name) != SUCCESS)
        channel->name[0] = 0;
    channel->name[sizeof channel->name - 1] = '\0';
    if (api->mig_mode && api->mig_mode(gpu->handle, &mig, &pending) == SUCCESS && mig == 1) {
        snprintf(
            channel->absent.reason, sizeof channel->absent.reason,
            "%.60s is split by MIG: an instance has no energy counter, and the GPU's holds the others' work",
            gpu->uuid);
        snprintf(channel->absent.remedy, sizeof channel->absent.remedy,
                 "switch MIG off (nvidia-smi -mig 0), or run on a GPU that is not split");
        return;
    }
    channel->counter_update_s = 0.105;
    channel->counter_quantum_j = 1e-3;
    channel->has_counter = api->energy_mj && api->energy_mj(gpu->handle, &millijoule) == SUCCESS;
    gpu->instant = api->fields && (read_instant_w(api, gpu->handle, &code), code == SUCCESS);
    channel->has_power = gpu->instant || (api->power_mw && api->power_mw(gpu->handle, &milliwatt) == SUCCESS);
    channel->power_update_s = gpu->instant ? 0.1 : 1.0;
    if (api->limit_mw && api->limit_mw(gpu->handle, &milliwatt) == SUCCESS)
        channel->limit_w = milliwatt / 1e3;
    if (channel->has_counter && strstr(channel->name, "GH200")) {
        channel->has_counter = false;
        snprintf(
            channel->note, sizeof channel->note,
            "the energy counter of a GH200 covers the whole module; the GPU's power is integrated instead");
    } else if (!channel->has_counter && channel->has_power) {
        snprintf(channel->note, sizeof channel->note, "this GPU or driver has no energy counter%s",
                 gpu->instant ? "" : "; its power reading is a mean over a second");
    } else if (channel->has_power && !gpu->instant) {
        snprintf(channel->note, sizeof channel->note,
                 "power readings are means over a second: the driver is old");
    }
    if (!channel->has_counter && !channel->has_power) {
        snprintf(channel->absent.reason, sizeof channel->absent.reason,
                 "%.60s gives neither an energy counter nor a power reading", gpu->uuid);
        snprintf(channel->absent.remedy, sizeof channel->absent.remedy,
                 "a data-centre or workstation GPU, or a newer driver, may; nvidia-smi -q -d POWER shows it");
    }
}

static kw_status add_gpus(struct kw__source *source, struct nvml *nvml, unsigned count, kw_error *err)
{
    char uuids[MAX_GPUS][96] = {{0}};
    device_handle handles[MAX_GPUS] = {NULL};
    int codes[MAX_GPUS];
    struct selection selection;
    for (unsigned i = 0; i < count; i++) {
        codes[i] = nvml->api.by_index(i, &handles[i]);
        if (codes[i] == SUCCESS) codes[i] = nvml->api.uuid(handles[i], uuids[i], sizeof uuids[i]);
        if (codes[i] != SUCCESS) snprintf(uuids[i], sizeof uuids[i], "GPU %u", i);
        uuids[i][sizeof uuids[i] - 1] = '\0';
    }
    select_gpus(source->config.visible_devices, uuids, count, &selection);
    for (size_t i = 0; i < selection.count; i++) {
        int index = selection.gpus[i];
        struct kw__channel *channel = kw__source_add_channel(source);
        if (!channel) return kw__fail_memory(err);
        struct gpu *gpu = &nvml->gpus[i];
        gpu->handle = handles[index];
        gpu->other_processes = -1;
        memcpy(gpu->uuid, uuids[index], sizeof gpu->uuid);
        if (codes[index] == SUCCESS) {
            probe(nvml, gpu, channel);
        } else {
            channel->device = KW_GPU;
            snprintf(channel->label, sizeof channel->label, "%s", gpu->uuid);
            snprintf(channel->absent.reason, sizeof channel->absent.reason, "%.60s cannot be opened: %.150s",
                     gpu->uuid, error_text(&nvml->api, codes[index]));
            snprintf(channel->absent.remedy, sizeof channel->absent.remedy,
                     "nvidia-smi must list it; a lost GPU comes back with a restart");
        }
        if (selection.by_index && source->config.any_device_order && count > 1 && !*channel->note)
            snprintf(channel->note, sizeof channel->note,
                     "set CUDA_DEVICE_ORDER=PCI_BUS_ID if the GPUs differ: CUDA may number them otherwise");
    }
    if (selection.mig)
        kw__source_absent(
            source, KW_GPU, "run on a GPU that is not split by MIG",
            "CUDA_VISIBLE_DEVICES names a MIG instance, which has no energy counter of its own");
    else if (selection.count == 0 && source->config.visible_devices)
        kw__source_absent(source, KW_GPU, "name GPUs that nvidia-smi -L lists, each once",
                          "CUDA_VISIBLE_DEVICES shows no GPU%s%s", *selection.stopped ? ": it stops at " : "",
                          selection.stopped);
    return KW_OK;
}

static kw_status open_nvml(struct kw__source *source, kw_error *err)
{
    const char *name = source->config.nvml_library ? source->config.nvml_library : "libnvidia-ml.so.1";
    struct nvml *nvml = source->state = calloc(1, sizeof *nvml);
    unsigned count = 0;
    char why[KW__LIBRARY_WHY];
    if (!nvml) return kw__fail_memory(err);
    nvml->own_numbers = numbers_are_ours();
    nvml->library = kw__library_open(name, 0, why);
    if (!nvml->library) {
        kw__source_absent(source, KW_GPU,
                          "to measure a GPU, install NVIDIA's driver; in a container, pass it in",
                          "%.80s %s: no GPU can be measured", name, why);
        return KW_OK;
    }
    if (!load(nvml)) {
        kw__source_absent(source, KW_GPU, "install a newer NVIDIA driver",
                          "%.120s lacks functions that are needed", name);
        return KW_OK;
    }
    int code = nvml->api.init();
    nvml->initialised = code == SUCCESS;
    if (nvml->initialised) code = nvml->api.count(&count);
    if (code != SUCCESS) {
        kw__source_absent(source, KW_GPU,
                          "nvidia-smi must list the GPU: load the driver; in a container, --gpus all",
                          "%.80s does not start: %.120s", name, error_text(&nvml->api, code));
        return KW_OK;
    }
    if (count == 0) {
        kw__source_absent(source, KW_GPU, "nvidia-smi must list the GPU", "NVIDIA's driver sees no GPU");
        return KW_OK;
    }
    return add_gpus(source, nvml, count < MAX_GPUS ? count : MAX_GPUS, err);
}

/* ---- Reading ---- */

/* One of the figures that may be missing. */
static double figure(int (*get)(device_handle, int, unsigned *), device_handle handle, int which)
{
    unsigned value = 0;
    return get && get(handle, which, &value) == SUCCESS ? value : NAN;
}

static void read_gpu(const struct kw__source *source, struct gpu *gpu, const struct kw__channel *channel,
                     bool slow, struct kw__sample *sample)
{
    const struct nvml *nvml = source->state;
    const struct api *api = &nvml->api;
    unsigned long long millijoule = 0, reasons = 0;
    unsigned value = 0;
    int code = SUCCESS;
    if (channel->has_counter) {
        code = api->energy_mj(gpu->handle, &millijoule);
        sample->counter_j = code == SUCCESS ? (double)millijoule / 1e3 : NAN;
    }
    if (code == SUCCESS && channel->has_power) {
        if (gpu->instant) {
            sample->power_w = read_instant_w(api, gpu->handle, &code);
        } else {
            code = api->power_mw(gpu->handle, &value);
            sample->power_w = code == SUCCESS ? value / 1e3 : NAN;
        }
    }
    sample->t1_s = kw__source_now_s(source);
    sample->ok = code == SUCCESS;
    if (code != SUCCESS) snprintf(sample->why, sizeof sample->why, "%.90s", error_text(api, code));
    if (code == SUCCESS) sample->other_processes = gpu->other_processes;
    if (!slow || code != SUCCESS) return;
    sample->other_processes = count_others(nvml, gpu, sample->t0_s);
    sample->sm_clock_mhz = figure(api->clock_mhz, gpu->handle, CLOCK_SM);
    sample->memory_clock_mhz = figure(api->clock_mhz, gpu->handle, CLOCK_MEMORY);
    sample->temperature_c = figure(api->temperature_c, gpu->handle, TEMPERATURE_GPU);
    if (api->throttle && api->throttle(gpu->handle, &reasons) == SUCCESS) {
        sample->throttle_known = true;
        sample->throttle_reasons = reasons;
    }
}

static void read_nvml(struct kw__source *source, struct kw__sample *samples)
{
    struct nvml *nvml = source->state;
    bool slow = nvml->reads++ % SLOW_EVERY == 0;
    for (size_t i = 0; i < source->num_channels; i++) {
        const struct kw__channel *channel = &source->channels[i];
        samples[i] = (struct kw__sample){.counter_j = NAN,
                                         .power_w = NAN,
                                         .sm_clock_mhz = NAN,
                                         .memory_clock_mhz = NAN,
                                         .temperature_c = NAN,
                                         .other_processes = -1};
        samples[i].t0_s = samples[i].t1_s = kw__source_now_s(source);
        if (channel->has_counter || channel->has_power)
            read_gpu(source, &nvml->gpus[i], channel, slow, &samples[i]);
        else
            snprintf(samples[i].why, sizeof samples[i].why, "%.95s", channel->absent.reason);
    }
}

static void close_nvml(struct kw__source *source)
{
    struct nvml *nvml = source->state;
    if (!nvml) return;
    if (nvml->initialised) nvml->api.shutdown();
    if (nvml->library) dlclose(nvml->library);
    free(nvml);
    source->state = NULL;
}

const struct kw__source_class kw__nvml_source = {
    .name = "nvml",
    .covers = {[KW_GPU] = true},
    .period_s = 0.02,
    .open = open_nvml,
    .read = read_nvml,
    .close = close_nvml,
};

/* ---- Words ---- */

const char *kw_meter_throttle_text(uint64_t reasons, char *buffer, size_t size)
{
    static const struct {
        uint64_t bit;
        const char *text;
    } names[] = {{0x1, "idle"},
                 {0x2, "clocks set by an application"},
                 {0x4, "power cap"},
                 {0x8, "hardware slowdown"},
                 {0x10, "sync boost"},
                 {0x20, "software thermal slowdown"},
                 {0x40, "hardware thermal slowdown"},
                 {0x80, "power brake"},
                 {0x100, "display clocks"}};
    size_t used = 0;
    uint64_t left = reasons;
    if (!size) return buffer;
    snprintf(buffer, size, "none");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!(reasons & names[i].bit)) continue;
        left &= ~names[i].bit;
        int wrote = snprintf(buffer + used, size - used, "%s%s", used ? ", " : "", names[i].text);
        used = used + (size_t)wrote < size ? used + (size_t)wrote : size - 1;
    }
    if (left) snprintf(buffer + used, size - used, "%s0x%llx", used ? ", " : "", (unsigned long long)left);
    return buffer;
}
