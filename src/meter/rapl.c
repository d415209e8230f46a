/* CPU packages and memory through Linux's powercap folder (RAPL, Intel and AMD).
 *
 * A zone is a folder with a `name` and `energy_uj`, a counter in microjoules that starts again from 0
 * at `max_energy_range_uj`. Added up are the zones package-N (cpu) and dram (ram). Not added: core and
 * uncore, which are parts of a package, and psys, which holds the packages and more. The same package
 * can appear twice, by MSR and by MMIO (intel-rapl-mmio:0), and on some boards a package's dies all
 * show one and the same counter: each is counted once.
 *
 * The counter steps about once a millisecond. A read takes some microseconds, so windows have their
 * edges read at once; every 100 ms in between is often enough for the power curve and for any wrap.
 * energy_uj is readable by root alone since Linux 5.10 (CVE-2020-8694). A read that fails, or that
 * is empty, is a gap: never 0, never a wrap. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "meter/source.h"

enum { MAX_ZONES = 64 };

struct zone {
    char folder[512];
    char entry[64]; /* "intel-rapl:0:1" */
    char name[64];  /* "dram" */
};

struct rapl {
    int files[MAX_ZONES]; /* of each channel; -1: not readable */
};

/* The number at the beginning of a file's text; false with errno when there is none. */
static bool number_from(int file, double *out)
{
    char digits[32], *end;
    ssize_t length = pread(file, digits, sizeof digits - 1, 0);
    if (length < 0) return false;
    digits[length] = '\0';
    errno = 0;
    unsigned long long value = strtoull(digits, &end, 10);
    if (end == digits || errno || digits[0] == '-' || (*end && *end != '\n')) {
        errno = EIO;
        return false;
    }
    *out = (double)value;
    return true;
}

static int open_in(const struct zone *zone, const char *name)
{
    char path[640];
    snprintf(path, sizeof path, "%s/%s", zone->folder, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Microjoules or microwatts of a small file as joules or watts, or NaN. */
static double micro(const struct zone *zone, const char *name)
{
    double value;
    int file = open_in(zone, name);
    bool there = file >= 0 && number_from(file, &value);
    if (file >= 0) close(file);
    return there ? value / 1e6 : NAN;
}

static bool read_name(struct zone *zone)
{
    int file = open_in(zone, "name");
    ssize_t length = file >= 0 ? read(file, zone->name, sizeof zone->name - 1) : -1;
    if (file >= 0) close(file);
    if (length <= 0) return false;
    zone->name[length] = '\0';
    zone->name[strcspn(zone->name, "\n")] = '\0';
    return true;
}

/* MSR zones come before MMIO's, packages in their order. */
static int by_entry(const void *a, const void *b)
{
    const struct zone *x = a, *y = b;
    bool mmio_x = strstr(x->entry, "mmio") != NULL, mmio_y = strstr(y->entry, "mmio") != NULL;
    return mmio_x != mmio_y ? mmio_x - mmio_y : strcmp(x->entry, y->entry);
}

static size_t find_zones(const char *root, struct zone *zones)
{
    size_t count = 0;
    DIR *dir = opendir(root);
    for (struct dirent *e; dir && count < MAX_ZONES && (e = readdir(dir)) != NULL;) {
        struct zone *zone = &zones[count];
        if (!strchr(e->d_name, ':') || strlen(e->d_name) >= sizeof zone->entry) continue;
        *zone = (struct zone){0};
        memcpy(zone->entry, e->d_name, strlen(e->d_name) + 1);
        int wrote = snprintf(zone->folder, sizeof zone->folder, "%s/%s", root, e->d_name);
        if (wrote < (int)sizeof zone->folder && read_name(zone)) count++;
    }
    if (dir) closedir(dir);
    qsort(zones, count, sizeof *zones, by_entry);
    return count;
}

/* The zone's parent in the folder's naming: "intel-rapl:0" of "intel-rapl:0:1". */
static const struct zone *parent_of(const struct zone *zone, const struct zone *zones, size_t count)
{
    const char *last = strrchr(zone->entry, ':');
    size_t length = (size_t)(last - zone->entry);
    for (size_t i = 0; i < count; i++)
        if (strlen(zones[i].entry) == length && strncmp(zones[i].entry, zone->entry, length) == 0)
            return &zones[i];
    return NULL;
}

/* "package-0", "package-0-die-1", "dram-0" (with its package's number); false: not one to add up. */
static bool label_of(const struct zone *zone, const struct zone *zones, size_t count, char *label,
                     size_t size, int *device)
{
    if (strncmp(zone->name, "package-", 8) == 0) {
        *device = KW_CPU;
        snprintf(label, size, "%s", zone->name);
        return true;
    }
    if (strcmp(zone->name, "dram") == 0) {
        const struct zone *package = parent_of(zone, zones, count);
        *device = KW_RAM;
        snprintf(label, size, "dram of %s", package ? package->name : zone->entry);
        return true;
    }
    return false;
}

/* The package of a die's label: the length of "package-0" in "package-0-die-1", 0 for anything else. */
static size_t package_length(const char *label)
{
    const char *die = strstr(label, "-die-");
    return die ? (size_t)(die - label) : 0;
}

/* A limit the zone names, the largest of its constraints; 0: none. */
static double limit_of(const struct zone *zone)
{
    double limit = 0;
    for (int i = 0; i < 4; i++) {
        char name[48];
        snprintf(name, sizeof name, "constraint_%d_power_limit_uw", i);
        double value = micro(zone, name);
        if (value > limit) limit = value;
        snprintf(name, sizeof name, "constraint_%d_max_power_uw", i);
        value = micro(zone, name);
        if (value > limit) limit = value;
    }
    return limit;
}

/* Dies of one package whose counters are equal to a joule, of the hundreds of kilojoules they range over,
 * are one counter. Returns the earlier channel, or NULL. */
static const struct kw__channel *twin_of(const struct kw__source *source, const struct rapl *rapl,
                                         size_t index)
{
    const struct kw__channel *mine = &source->channels[index];
    size_t length = package_length(mine->label);
    double count, other;
    if (!length || rapl->files[index] < 0 || !number_from(rapl->files[index], &count)) return NULL;
    for (size_t i = 0; i < index; i++) {
        const struct kw__channel *earlier = &source->channels[i];
        if (package_length(earlier->label) != length || strncmp(earlier->label, mine->label, length) != 0)
            continue;
        if (rapl->files[i] >= 0 && number_from(rapl->files[i], &other) && fabs(count - other) < 1e6)
            return earlier;
    }
    return NULL;
}

static kw_status add_zone(struct kw__source *source, struct rapl *rapl, const struct zone *zone,
                          const char *label, int device, kw_error *err)
{
    for (size_t i = 0; i < source->num_channels; i++) {
        struct kw__channel *same = &source->channels[i];
        if (strcmp(same->label, label) != 0) continue;
        snprintf(same->note, sizeof same->note, "%s shows it a second time and is not added", zone->entry);
        return KW_OK;
    }
    size_t index = source->num_channels;
    if (index == MAX_ZONES) return KW_OK;
    struct kw__channel *channel = kw__source_add_channel(source);
    if (!channel) return kw__fail_memory(err);
    double count, range_j = micro(zone, "max_energy_range_uj");
    channel->device = device;
    snprintf(channel->label, sizeof channel->label, "%s", label);
    channel->counter_update_s = 1e-3;
    channel->counter_quantum_j = 1e-4; /* the unit is 61 uJ or finer; energy_uj has whole uJ */
    channel->counter_range_j = range_j > 0 ? range_j : 0;
    channel->limit_w = limit_of(zone);
    rapl->files[index] = open_in(zone, "energy_uj");
    if (rapl->files[index] >= 0 && number_from(rapl->files[index], &count)) {
        channel->has_counter = true;
    } else {
        bool forbidden = errno == EACCES || errno == EPERM;
        snprintf(channel->absent.reason, sizeof channel->absent.reason, "%s: energy_uj cannot be read: %s",
                 label, forbidden ? "permission denied (root alone may, since Linux 5.10)" : strerror(errno));
        snprintf(channel->absent.remedy, sizeof channel->absent.remedy, "%s",
                 forbidden ? "run as root, or let your group read it: chgrp and chmod g+r on "
                             "/sys/class/powercap/*/energy_uj, again after each start"
                           : "reload the module intel_rapl_msr; dmesg says what is wrong");
        return KW_OK;
    }
    const struct kw__channel *twin = twin_of(source, rapl, index);
    if (twin) {
        char twin_label[96];
        snprintf(twin_label, sizeof twin_label, "%s", twin->label);
        close(rapl->files[index]);
        rapl->files[index] = -1;
        source->num_channels--;
        for (size_t i = 0; i < index; i++)
            if (strcmp(source->channels[i].label, twin_label) == 0)
                snprintf(source->channels[i].note, sizeof source->channels[i].note,
                         "%.80s shows the same counter and is not added", label);
    }
    return KW_OK;
}

static bool has_device(const struct kw__source *source, int device)
{
    for (size_t i = 0; i < source->num_channels; i++)
        if (source->channels[i].device == device) return true;
    return false;
}

static kw_status open_rapl(struct kw__source *source, kw_error *err)
{
    const char *root = source->config.powercap ? source->config.powercap : "/sys/class/powercap";
    struct rapl *rapl = source->state = calloc(1, sizeof *rapl);
    struct zone *zones = calloc(MAX_ZONES, sizeof *zones);
    if (!rapl || !zones) {
        free(zones);
        return kw__fail_memory(err);
    }
    for (size_t i = 0; i < MAX_ZONES; i++) rapl->files[i] = -1;
    size_t count = find_zones(root, zones);
    bool psys = false;
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < count; i++) {
        char label[96];
        int device;
        psys = psys || strcmp(zones[i].name, "psys") == 0;
        if (label_of(&zones[i], zones, count, label, sizeof label, &device))
            status = add_zone(source, rapl, &zones[i], label, device, err);
    }
    free(zones);
    static const char real_machine[] =
        "a real machine (not a virtual one) with the kernel module intel_rapl_msr loaded has one";
    if (!has_device(source, KW_CPU) && count == 0) {
        kw__source_absent(source, KW_CPU, real_machine, "%.120s has no energy counter", root);
        kw__source_absent(source, KW_RAM, real_machine, "%.120s has no energy counter", root);
        return status;
    }
    if (!has_device(source, KW_CPU))
        kw__source_absent(source, KW_CPU, real_machine,
                          psys ? "%.120s has psys alone, which counts more than the CPU"
                               : "%.120s has no package zone",
                          root);
    if (!has_device(source, KW_RAM))
        kw__source_absent(source, KW_RAM, "a server CPU with a dram zone has one",
                          "%.120s has no dram zone: this CPU does not count its memory's energy", root);
    return status;
}

static void read_rapl(struct kw__source *source, struct kw__sample *samples)
{
    const struct rapl *rapl = source->state;
    for (size_t i = 0; i < source->num_channels; i++) {
        struct kw__sample *sample = &samples[i];
        double count;
        *sample = (struct kw__sample){.counter_j = NAN,
                                      .power_w = NAN,
                                      .sm_clock_mhz = NAN,
                                      .memory_clock_mhz = NAN,
                                      .temperature_c = NAN,
                                      .other_processes = -1};
        sample->t0_s = kw__source_now_s(source);
        sample->ok = source->channels[i].has_counter && number_from(rapl->files[i], &count);
        if (sample->ok)
            sample->counter_j = count / 1e6;
        else
            snprintf(sample->why, sizeof sample->why, "energy_uj cannot be read");
        sample->t1_s = kw__source_now_s(source);
    }
}

static void close_rapl(struct kw__source *source)
{
    struct rapl *rapl = source->state;
    if (!rapl) return;
    for (size_t i = 0; i < MAX_ZONES; i++)
        if (rapl->files[i] >= 0) close(rapl->files[i]);
    free(rapl);
    source->state = NULL;
}

const struct kw__source_class kw__rapl_source = {
    .name = "rapl",
    .covers = {[KW_CPU] = true, [KW_RAM] = true},
    .period_s = 0.1,
    .open = open_rapl,
    .read = read_rapl,
    .close = close_rapl,
};
