/* A recorded trace, played as if its counters were this machine's: for tests, demonstrations, and looking
 * again at what was measured elsewhere. docs/METERS.md describes the file:
 *
 *     kinowatt-trace,1
 *     channel,gpu,GPU-0,0.1,0.1,,0.001,700
 *     sample,0.02,0,1234.5,689.2,1755,2619,61,4
 *
 * Channels, in the order they are numbered from 0, come before the samples: device, label, update
 * times of counter and power in seconds, range and unit of the counter in joules, power limit in watts.
 * Samples, in the order of their time: seconds, channel, count in joules, power in watts, SM and memory
 * clock in MHz, temperature in C, throttle reasons. An empty field was not read; a sample in which neither
 * count nor power was read is a failed read. The same functions write the file. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "meter/state.h"

enum { MAX_FIELDS = 9, MAX_LINE = 512, MAX_CHANNELS = 64 };
static const size_t most_samples = 20000000;

struct moment {
    size_t channel;
    struct kw__sample sample;
};

struct replay {
    struct moment *moments;
    size_t count, capacity, next;
};

/* ---- Reading the file ---- */

struct line {
    const char *path;
    size_t number;
    char *fields[MAX_FIELDS];
    size_t count;
};

/* Splits at commas, empty fields kept. */
static bool split(char *text, struct line *line)
{
    text[strcspn(text, "\r\n")] = '\0';
    line->count = 0;
    for (char *at = text; at;) {
        if (line->count == MAX_FIELDS) return false;
        line->fields[line->count++] = at;
        at = strchr(at, ',');
        if (at) *at++ = '\0';
    }
    return true;
}

/* A field as a number; empty is NaN. */
static bool number(const struct line *line, size_t field, double low, double high, double *out, kw_error *err)
{
    const char *text = line->fields[field];
    char *end;
    *out = NAN;
    if (!*text) return true;
    errno = 0;
    *out = kw__number_read(text, &end);
    if (*end || isspace((unsigned char)*text) || !isfinite(*out) || *out < low || *out > high) {
        kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: field %zu, " KW__QUOTED ", is not a number from %g to %g",
                 line->path, line->number, field + 1, text, low, high);
        return false;
    }
    return true;
}

static double or_zero(double value)
{
    return isnan(value) ? 0 : value;
}

static kw_status add_channel(struct kw__source *source, const struct line *line, kw_error *err)
{
    int device = 0;
    double counter_update, power_update, range, quantum, limit;
    if (line->count != 8)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: a channel has 8 fields, not %zu", line->path,
                        line->number, line->count);
    while (device < KW_NUM_DEVICES && strcmp(line->fields[1], kw_device_name(device)) != 0) device++;
    if (device == KW_NUM_DEVICES)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: " KW__QUOTED " is no device: gpu, cpu, ram are",
                        line->path, line->number, line->fields[1]);
    if (!number(line, 3, 0, 10, &counter_update, err) || !number(line, 4, 0, 10, &power_update, err) ||
        !number(line, 5, 0, 1e12, &range, err) || !number(line, 6, 0, 1e3, &quantum, err) ||
        !number(line, 7, 0, 1e6, &limit, err))
        return KW_ERROR_FORMAT;
    if (!*line->fields[2] || strlen(line->fields[2]) >= sizeof source->channels->label)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: a label has 1 to %zu bytes", line->path,
                        line->number, sizeof source->channels->label - 1);
    if (source->num_channels == MAX_CHANNELS)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: more than %d channels", line->path, line->number,
                        MAX_CHANNELS);
    struct kw__channel *channel = kw__source_add_channel(source);
    if (!channel) return kw__fail_memory(err);
    channel->device = device;
    snprintf(channel->label, sizeof channel->label, "%s", line->fields[2]);
    channel->has_counter = !isnan(counter_update);
    channel->has_power = !isnan(power_update);
    channel->counter_update_s = or_zero(counter_update);
    channel->power_update_s = or_zero(power_update);
    channel->counter_range_j = or_zero(range);
    channel->counter_quantum_j = or_zero(quantum);
    channel->limit_w = or_zero(limit);
    if (!channel->has_counter && !channel->has_power)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: the channel has neither counter nor power",
                        line->path, line->number);
    return KW_OK;
}

static kw_status add_sample(struct kw__source *source, const struct line *line, kw_error *err)
{
    struct replay *replay = source->state;
    double time, index, throttle;
    struct kw__sample sample = {.other_processes = -1};
    if (line->count != 9)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: a sample has 9 fields, not %zu", line->path,
                        line->number, line->count);
    if (!number(line, 1, 0, 1e9, &time, err) || !number(line, 2, 0, MAX_CHANNELS, &index, err) ||
        !number(line, 3, 0, 1e12, &sample.counter_j, err) || !number(line, 4, 0, 1e6, &sample.power_w, err) ||
        !number(line, 5, 0, 1e6, &sample.sm_clock_mhz, err) ||
        !number(line, 6, 0, 1e6, &sample.memory_clock_mhz, err) ||
        !number(line, 7, -300, 1e4, &sample.temperature_c, err) || !number(line, 8, 0, 1e15, &throttle, err))
        return KW_ERROR_FORMAT;
    if (isnan(time) || isnan(index) || index != floor(index) || (size_t)index >= source->num_channels)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%.200s:%zu: a sample needs its time and one of the %zu channels", line->path,
                        line->number, source->num_channels);
    if (replay->count && time < replay->moments[replay->count - 1].sample.t0_s)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: the sample is older than the one before",
                        line->path, line->number);
    if (replay->count == most_samples)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%.200s: more than %zu samples", line->path, most_samples);
    if (replay->count == replay->capacity) {
        size_t capacity = replay->capacity ? 2 * replay->capacity : 1024;
        struct moment *grown = realloc(replay->moments, capacity * sizeof *grown);
        if (!grown) return kw__fail_memory(err);
        replay->moments = grown;
        replay->capacity = capacity;
    }
    const struct kw__channel *channel = &source->channels[(size_t)index];
    sample.t0_s = sample.t1_s = time;
    sample.ok = (!channel->has_counter || !isnan(sample.counter_j)) &&
                (!channel->has_power || !isnan(sample.power_w));
    if (!sample.ok) snprintf(sample.why, sizeof sample.why, "the read failed when the trace was recorded");
    sample.throttle_known = !isnan(throttle);
    sample.throttle_reasons = sample.throttle_known ? (uint64_t)throttle : 0;
    replay->moments[replay->count++] = (struct moment){(size_t)index, sample};
    return KW_OK;
}

static kw_status read_line(struct kw__source *source, char *text, struct line *line, kw_error *err)
{
    struct replay *replay = source->state;
    if (strchr(text, '\n') == NULL && strlen(text) == MAX_LINE - 1)
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: the line is too long", line->path, line->number);
    if (!split(text, line))
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s:%zu: more than %d fields", line->path, line->number,
                        MAX_FIELDS);
    if (line->number == 1) {
        if (line->count == 2 && strcmp(text, "kinowatt-trace") == 0 && strcmp(line->fields[1], "1") == 0)
            return KW_OK;
        return kw__fail(err, KW_ERROR_FORMAT, "%.200s: not a trace: the first line is not kinowatt-trace,1",
                        line->path);
    }
    if (line->count == 1 && !*text) return KW_OK;
    if (strcmp(text, "channel") == 0 && replay->count == 0) return add_channel(source, line, err);
    if (strcmp(text, "sample") == 0) return add_sample(source, line, err);
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%.200s:%zu: " KW__QUOTED " where a sample (or, first, a channel) should be", line->path,
                    line->number, text);
}

/* A read of the meter samples all channels: what the file holds of one time becomes one read. */
static size_t end_of_read(const struct replay *replay, size_t from)
{
    size_t end = from + 1;
    while (end < replay->count && replay->moments[end].sample.t0_s == replay->moments[from].sample.t0_s)
        end++;
    return end;
}

/* The mean time between two samples of a channel, by which gaps are told. */
static double mean_period_s(const struct replay *replay, size_t channel)
{
    double first_s = 0, last_s = 0;
    size_t samples = 0;
    for (size_t i = 0; i < replay->count; i++) {
        if (replay->moments[i].channel != channel) continue;
        last_s = replay->moments[i].sample.t0_s;
        if (samples++ == 0) first_s = last_s;
    }
    return samples > 1 ? (last_s - first_s) / (double)(samples - 1) : 1;
}

static kw_status open_replay(struct kw__source *source, kw_error *err)
{
    const char *path = source->config.trace;
    char text[MAX_LINE];
    struct replay *replay = source->state = calloc(1, sizeof *replay);
    if (!replay) return kw__fail_memory(err);
    if (!path) return kw__fail(err, KW_ERROR_USAGE, "replay needs a trace to play");
    FILE *file = fopen(path, "re");
    if (!file)
        return kw__fail(err, errno == ENOENT || errno == ENOTDIR ? KW_ERROR_NOT_FOUND : KW_ERROR_IO,
                        "%.200s: %s", path, strerror(errno));
    kw_status status = KW_OK;
    struct line line = {.path = path};
    while (!status && fgets(text, sizeof text, file)) {
        line.number++;
        status = read_line(source, text, &line, err);
    }
    if (!status && ferror(file)) status = kw__fail(err, KW_ERROR_IO, "%.200s: %s", path, strerror(errno));
    fclose(file);
    if (!status && (line.number == 0 || replay->count == 0))
        status = kw__fail(err, KW_ERROR_FORMAT, "%.200s: the trace has no sample", path);
    if (status) return status;
    for (size_t c = 0; c < source->num_channels; c++) source->channels[c].period_s = mean_period_s(replay, c);
    for (int device = 0; device < KW_NUM_DEVICES; device++)
        kw__source_absent(source, device, "play a trace that has it", "the trace has no %s",
                          kw_device_name(device));
    return KW_OK;
}

/* ---- Playing ---- */

static double due_replay(const struct kw__source *source)
{
    const struct replay *replay = source->state;
    return replay->next < replay->count ? replay->moments[replay->next].sample.t0_s : INFINITY;
}

static void read_replay(struct kw__source *source, struct kw__sample *samples)
{
    struct replay *replay = source->state;
    size_t end = end_of_read(replay, replay->next);
    for (size_t c = 0; c < source->num_channels; c++) samples[c] = (struct kw__sample){.skipped = true};
    for (; replay->next < end; replay->next++)
        samples[replay->moments[replay->next].channel] = replay->moments[replay->next].sample;
}

static void close_replay(struct kw__source *source)
{
    struct replay *replay = source->state;
    if (!replay) return;
    free(replay->moments);
    free(replay);
    source->state = NULL;
}

const struct kw__source_class kw__replay_source = {
    .name = "replay",
    .covers = {true, true, true},
    .period_s = 1,
    .open = open_replay,
    .read = read_replay,
    .due_s = due_replay,
    .close = close_replay,
};

/* ---- Writing ---- */

struct text {
    char *data;
    size_t length, capacity;
    bool failed;
};

static void put(struct text *text, const char *string)
{
    size_t length = strlen(string);
    if (text->length + length + 1 > text->capacity && !text->failed) {
        size_t capacity = 2 * (text->capacity + length + 256);
        char *grown = realloc(text->data, capacity);
        text->failed = !grown;
        if (grown) text->data = grown, text->capacity = capacity;
    }
    if (text->failed) return;
    memcpy(text->data + text->length, string, length + 1);
    text->length += length;
}

/* A comma and the number, or nothing behind the comma. */
static void put_number(struct text *text, bool there, double value, int digits)
{
    char buffer[64] = ",";
    if (there && isfinite(value)) snprintf(buffer, sizeof buffer, ",%.*g", digits, value);
    put(text, buffer);
}

static void put_channel(struct text *text, const struct kw__channel *channel)
{
    char label[sizeof channel->label];
    snprintf(label, sizeof label, "%s", channel->label);
    for (char *c = label; *c; c++)
        if (*c == ',' || iscntrl((unsigned char)*c)) *c = '_';
    put(text, "channel,");
    put(text, kw_device_name(channel->device));
    put(text, ",");
    put(text, label);
    put_number(text, channel->has_counter, channel->counter_update_s, 9);
    put_number(text, channel->has_power, channel->power_update_s, 9);
    put_number(text, channel->counter_range_j > 0, channel->counter_range_j, 17);
    put_number(text, channel->counter_quantum_j > 0, channel->counter_quantum_j, 9);
    put_number(text, channel->limit_w > 0, channel->limit_w, 9);
    put(text, "\n");
}

static void put_sample(struct text *text, size_t channel, const struct kw__sample *sample)
{
    char buffer[96];
    double t = 0.5 * (sample->t0_s + sample->t1_s);
    snprintf(buffer, sizeof buffer, "sample,%.6f,%zu", fmax(t, 0), channel);
    put(text, buffer);
    put_number(text, sample->ok, sample->counter_j, 17);
    put_number(text, sample->ok, sample->power_w, 9);
    put_number(text, sample->sm_clock_mhz > 0, sample->sm_clock_mhz, 9);
    put_number(text, sample->memory_clock_mhz > 0, sample->memory_clock_mhz, 9);
    put_number(text, true, sample->temperature_c, 9);
    put_number(text, sample->throttle_known, (double)sample->throttle_reasons, 17);
    put(text, "\n");
}

/* The oldest sample that no other is older than, of the rings' heads; NULL at the end. */
static struct kw__slot *oldest(kw_meter *meter, const int64_t *at)
{
    struct kw__slot *found = NULL;
    double when = INFINITY;
    for (size_t i = 0; i < meter->num_slots; i++) {
        struct kw__slot *slot = &meter->slots[i];
        if (slot->ignored || at[i] >= slot->num_kept) continue;
        double t = slot->kept[at[i] % (int64_t)slot->max_kept].sample.t0_s;
        if (t < when) when = t, found = slot;
    }
    return found;
}

kw_status kw_meter_trace_csv(kw_meter *meter, char **out, int64_t *lost, kw_error *err)
{
    struct text text = {0};
    int64_t at[KW__MAX_SLOTS] = {0}, gone = 0;
    size_t base[KW__MAX_SLOTS] = {0}, written = 0;
    put(&text, "kinowatt-trace,1\n");
    pthread_mutex_lock(&meter->mutex);
    for (size_t i = 0; i < meter->num_slots; i++) {
        const struct kw__slot *slot = &meter->slots[i];
        base[i] = written;
        if (slot->ignored) continue;
        at[i] = slot->num_kept > (int64_t)slot->max_kept ? slot->num_kept - (int64_t)slot->max_kept : 0;
        gone += at[i];
        for (size_t c = 0; c < slot->source.num_channels; c++) {
            if (!slot->source.channels[c].has_counter && !slot->source.channels[c].has_power) continue;
            put_channel(&text, &slot->source.channels[c]);
            written++;
        }
    }
    for (struct kw__slot *slot; !text.failed && (slot = oldest(meter, at)) != NULL;) {
        size_t i = (size_t)(slot - meter->slots), number = base[i];
        const struct kw__kept *kept = &slot->kept[at[i]++ % (int64_t)slot->max_kept];
        const struct kw__channel *channels = slot->source.channels;
        if (!channels[kept->channel].has_counter && !channels[kept->channel].has_power) continue;
        for (size_t c = 0; c < kept->channel; c++) number += channels[c].has_counter || channels[c].has_power;
        put_sample(&text, number, &kept->sample);
    }
    pthread_mutex_unlock(&meter->mutex);
    if (text.failed) {
        free(text.data);
        return kw__fail_memory(err);
    }
    if (lost) *lost = gone;
    *out = text.data;
    return KW_OK;
}
