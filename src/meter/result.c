/* What a window says: the readings of its channels, and their sums by device.
 *
 * A device's sum is there only when each of its channels is: half of the GPUs are not "the GPUs". The
 * intervals of channels are added as they are, which is wider than independence would allow. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/thread.h"
#include "base/time.h"
#include "meter/state.h"

/* A counter and integrated power may differ by this much without being called in disagreement: each
 * sensor is good for some per cent. */
static const double tolerance = 0.05;
/* Fewer readings of power than this say nothing of a window: what a load did between them is not seen. */
enum { FEWEST_READINGS = 10 };

/* A string that lives as long as the meter; each text is stored once. Never NULL. */
static const char *text(kw_meter *meter, const char *what)
{
    for (const struct kw__text *t = meter->texts; t; t = t->next)
        if (strcmp(t->text, what) == 0) return t->text;
    struct kw__text *added = kw__arena_alloc(&meter->strings, 1, sizeof *added);
    char *stored = kw__arena_strdup(&meter->strings, what);
    if (!added || !stored) return "out of memory";
    *added = (struct kw__text){meter->texts, stored};
    meter->texts = added;
    return stored;
}

static kw_reading absent(const char *reason)
{
    return (kw_reading){NAN, NAN, NAN, KW_ABSENT, reason};
}

static kw_reading measured(struct kw__span span)
{
    return (kw_reading){span.value, span.low, span.high, KW_MEASURED, NULL};
}

static const struct kw__slot *slot_of(const kw_meter *meter, size_t channel)
{
    const struct kw__slot *found = NULL;
    for (size_t i = 0; i < meter->num_slots; i++)
        if (!meter->slots[i].ignored && meter->slots[i].first_channel <= channel &&
            channel < meter->slots[i].first_channel + meter->slots[i].source.num_channels)
            found = &meter->slots[i];
    return found;
}

/* How long the channel has gone unread in the window, as of now, beyond the gaps that have ended. */
static double open_gap_s(const kw_meter *meter, const struct kw__slot *slot,
                         const struct kw__tracker *tracker, const struct kw__window *window)
{
    double now = kw__meter_now_s(meter), since = fmax(tracker->good_s, 0);
    double end = isinf(window->end_s) ? now : window->end_s;
    if (!tracker->failing && !kw__is_gap(slot, tracker->counter.channel, now - since)) return 0;
    return fmax(0, end - fmax(window->begin_s, since));
}

/* Why a channel's curve has no value for a window. */
static const char *why_lost(kw_meter *meter, const struct kw__slot *slot, const struct kw__tracker *tracker,
                            const struct kw__window *window, const struct kw__edge edges[2], bool counter)
{
    char why[256];
    const char *source = slot->source.class->name, *label = tracker->counter.channel->label;
    double silent_s = window->end_s - tracker->good_s;
    if (edges[0].state == KW__EDGE_SETTLED && edges[1].state == KW__EDGE_SETTLED)
        snprintf(why, sizeof why,
                 "%s %s: the counter was reset, or may have wrapped unseen, during the window", source,
                 label);
    else if (edges[0].state == KW__EDGE_LOST || edges[1].state == KW__EDGE_LOST)
        snprintf(why, sizeof why, "%s %s: not read yet, or its counter was reset, at an edge of the window",
                 source, label);
    else if (tracker->good_s < 0)
        snprintf(why, sizeof why, "%s %s has given no reading%s%s", source, label, *tracker->why ? ": " : "",
                 tracker->why);
    else if (tracker->failing || silent_s > 0)
        snprintf(why, sizeof why, "%s %s has given no reading since %.1f s before the window's end%s%s",
                 source, label, fmax(0, silent_s), tracker->failing ? ": " : "",
                 tracker->failing ? tracker->why : "");
    else
        snprintf(why, sizeof why, "%s %s: %s", source, label,
                 counter ? "its counter took no step after the window"
                         : "no power reading came after the window");
    return text(meter, why);
}

static kw_reading mean_reading(const struct kw__mean *mean)
{
    if (!mean->count) return absent("not read during the window");
    return (kw_reading){mean->sum / (double)mean->count, mean->low, mean->high, KW_MEASURED, NULL};
}

static void detail(kw_meter *meter, size_t window_index, size_t channel_index, kw_meter_detail *out)
{
    const struct kw__slot *slot = slot_of(meter, channel_index);
    const struct kw__tracker *tracker = &slot->trackers[channel_index - slot->first_channel];
    const struct kw__channel *channel = tracker->counter.channel;
    const struct kw__window *window = &meter->windows[window_index];
    const struct kw__mark *mark = kw__mark_at(meter, window_index, channel_index);
    double open_s = open_gap_s(meter, slot, tracker, window);
    *out = (kw_meter_detail){.struct_size = sizeof *out,
                             .samples = mark->samples,
                             .failed_reads = mark->failed_reads,
                             .gaps = mark->gaps + (open_s > 0),
                             .gap_s = mark->gap_s + open_s,
                             .sm_clock_mhz = mean_reading(&mark->sm_clock_mhz),
                             .memory_clock_mhz = mean_reading(&mark->memory_clock_mhz),
                             .temperature_c = mean_reading(&mark->temperature_c),
                             .throttle_reasons = mark->throttle_reasons,
                             .throttle_known = mark->throttle_known,
                             .other_processes = mark->other_processes};
    if (out->gaps || out->failed_reads) out->flags |= KW_METER_GAP;

    struct kw__span counter = {0}, power = {0};
    if (!channel->has_counter) {
        out->by_counter_j = absent(*channel->absent.reason ? channel->absent.reason : "no energy counter");
    } else if (mark->frozen) {
        out->flags |= KW_METER_FROZEN;
        out->by_counter_j = absent("the energy counter stood still");
    } else {
        counter = kw__counter_span(&tracker->counter, &mark->counter[0], &mark->counter[1]);
        out->by_counter_j = counter.known
                                ? measured(counter)
                                : absent(why_lost(meter, slot, tracker, window, mark->counter, true));
    }
    if (channel->has_power) power = kw__integral_span(&mark->integral[0], &mark->integral[1]);
    out->by_power_j = power.known ? measured(power)
                      : channel->has_power
                          ? absent(why_lost(meter, slot, tracker, window, mark->integral, false))
                          : absent("no power reading");

    if (counter.known && power.known && mark->samples >= FEWEST_READINGS &&
        (power.low * (1 - tolerance) > counter.high || power.high * (1 + tolerance) < counter.low))
        out->flags |= KW_METER_DISAGREES;
    out->method = counter.known ? KW_METER_BY_COUNTER : power.known ? KW_METER_BY_POWER : KW_METER_NONE;
    out->energy_j = counter.known ? out->by_counter_j : power.known ? out->by_power_j : out->by_counter_j;
    if (out->method == KW_METER_NONE && !channel->has_counter && channel->has_power)
        out->energy_j = out->by_power_j;
}

/* Why nothing measures a device. */
static const char *why_none(kw_meter *meter, int device)
{
    char why[320];
    snprintf(why, sizeof why, "no meter that measures %s was asked for", kw_device_name(device));
    for (size_t i = 0; i < meter->num_slots; i++) {
        const struct kw__slot *slot = &meter->slots[i];
        if (!slot->source.class->covers[device]) continue;
        if (slot->ignored)
            snprintf(why, sizeof why, "%s did not answer within %g s", slot->source.class->name,
                     meter->start_timeout_s);
        else
            return *slot->source.absent[device].reason ? slot->source.absent[device].reason
                                                       : text(meter, why);
    }
    return text(meter, why);
}

static kw_reading device_energy(kw_meter *meter, size_t window, int device)
{
    kw_reading sum = {0, 0, 0, KW_MEASURED, NULL};
    size_t count = 0;
    for (size_t c = 0; c < meter->num_channels; c++) {
        const struct kw__slot *slot = slot_of(meter, c);
        if (slot->source.channels[c - slot->first_channel].device != device) continue;
        kw_meter_detail one;
        detail(meter, window, c, &one);
        if (one.energy_j.status == KW_ABSENT) return one.energy_j;
        sum.value += one.energy_j.value;
        sum.low += one.energy_j.low;
        sum.high += one.energy_j.high;
        count++;
    }
    return count ? sum : absent(why_none(meter, device));
}

static kw_reading over_time(kw_reading energy_j, double duration_s)
{
    if (energy_j.status == KW_ABSENT) return energy_j;
    if (!(duration_s > 0)) return absent("the window has no duration");
    energy_j.value /= duration_s;
    energy_j.low /= duration_s;
    energy_j.high /= duration_s;
    return energy_j;
}

static kw_status wait_until_settled(kw_meter *meter, size_t window, kw_error *err)
{
    if (window >= meter->num_windows)
        return kw__fail(err, KW_ERROR_USAGE, "there is no window %zu, only %zu", window, meter->num_windows);
    const struct kw__window *w = &meter->windows[window];
    if (w->open)
        return kw__fail(err, KW_ERROR_USAGE, "the window \"%s\" is still open: end it first", w->name);
    double deadline_s = w->end_s + meter->settle_s;
    for (size_t i = 0; i < meter->num_slots; i++) meter->slots[i].waited = true;
    if (!kw__window_is_settled(meter, window)) kw__meter_poke(meter);
    while (!meter->still && !kw__window_is_settled(meter, window) && kw__meter_now_s(meter) < deadline_s)
        kw__cond_wait_until(&meter->changed, &meter->mutex, meter->origin_s + deadline_s);
    for (size_t i = 0; i < meter->num_slots; i++) meter->slots[i].waited = false;
    return KW_OK;
}

static void fill_window(kw_meter *meter, size_t index, kw_meter_window *out)
{
    const struct kw__window *window = &meter->windows[index];
    *out = (kw_meter_window){.struct_size = sizeof *out,
                             .name = window->name,
                             .parent = window->parent,
                             .begin_s = window->begin_s,
                             .end_s = window->end_s,
                             .duration_s = window->end_s - window->begin_s,
                             .moved_s = window->moved_s};
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        out->energy_j[d] = device_energy(meter, index, d);
        out->power_w[d] = over_time(out->energy_j[d], out->duration_s);
        double highest = window->max_power_w[d];
        if (!isnan(highest))
            out->max_power_w[d] = (kw_reading){highest, highest, highest, KW_MEASURED, NULL};
        else if (out->energy_j[d].status == KW_ABSENT)
            out->max_power_w[d] = out->energy_j[d];
        else
            out->max_power_w[d] = absent("the window holds no whole period between two reads");
        out->idle_power_w[d] = absent("no idle baseline was measured");
        if (meter->idle_window >= 0) {
            const struct kw__window *idle = &meter->windows[meter->idle_window];
            out->idle_power_w[d] =
                over_time(device_energy(meter, (size_t)meter->idle_window, d), idle->end_s - idle->begin_s);
        }
    }
    for (size_t c = 0; c < meter->num_channels; c++) {
        kw_meter_detail one;
        detail(meter, index, c, &one);
        out->failed_reads += one.failed_reads;
        out->gap_s = fmax(out->gap_s, one.gap_s);
    }
}

size_t kw_meter_window_count(kw_meter *meter)
{
    pthread_mutex_lock(&meter->mutex);
    size_t count = meter->num_windows;
    pthread_mutex_unlock(&meter->mutex);
    return count;
}

/* Whether the caller's struct is the one this library knows. */
static kw_status check_size(size_t given, size_t known, const char *name, kw_error *err)
{
    return given == known
               ? KW_OK
               : kw__fail(err, KW_ERROR_USAGE, "%s: struct_size is not that of this library", name);
}

kw_status kw_meter_window_get(kw_meter *meter, size_t window, kw_meter_window *out, kw_error *err)
{
    kw_status status = check_size(out->struct_size, sizeof *out, "kw_meter_window", err);
    if (status) return status;
    pthread_mutex_lock(&meter->mutex);
    status = wait_until_settled(meter, window, err);
    if (!status) fill_window(meter, window, out);
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

kw_status kw_meter_detail_get(kw_meter *meter, size_t window, size_t channel, kw_meter_detail *out,
                              kw_error *err)
{
    kw_status status = check_size(out->struct_size, sizeof *out, "kw_meter_detail", err);
    if (status) return status;
    if (channel >= meter->num_channels)
        return kw__fail(err, KW_ERROR_USAGE, "there is no channel %zu, only %zu", channel,
                        meter->num_channels);
    pthread_mutex_lock(&meter->mutex);
    status = wait_until_settled(meter, window, err);
    if (!status) detail(meter, window, channel, out);
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

/* ---- Channels ---- */

size_t kw_meter_channel_count(kw_meter *meter)
{
    return meter->num_channels; /* fixed since the meter was opened */
}

kw_status kw_meter_channel_get(kw_meter *meter, size_t index, kw_meter_channel *out, kw_error *err)
{
    kw_status status = check_size(out->struct_size, sizeof *out, "kw_meter_channel", err);
    if (status) return status;
    if (index >= meter->num_channels)
        return kw__fail(err, KW_ERROR_USAGE, "there is no channel %zu, only %zu", index, meter->num_channels);
    const struct kw__slot *slot = slot_of(meter, index);
    const struct kw__channel *channel = &slot->source.channels[index - slot->first_channel];
    *out = (kw_meter_channel){.struct_size = sizeof *out,
                              .source = slot->source.class->name,
                              .label = channel->label,
                              .name = *channel->name ? channel->name : NULL,
                              .note = *channel->note ? channel->note : NULL,
                              .device = channel->device,
                              .limit_w = channel->limit_w > 0 ? channel->limit_w : NAN};
    return KW_OK;
}

/* ---- For doctor ---- */

static void put_line(struct kw__meter_line *lines, size_t capacity, size_t *count, struct kw__meter_line line)
{
    if (*count < capacity) lines[(*count)++] = line;
}

/* The channels of one device: those that can be read in one line, each of the others in its own. */
static size_t describe_channels(const struct kw__slot *slot, int device, struct kw__meter_line *lines,
                                size_t capacity, size_t *count)
{
    struct kw__meter_line can = {.device = device, .can = 1};
    size_t seen = 0, readable = 0, used = 0;
    snprintf(can.meter, sizeof can.meter, "%s", slot->source.class->name);
    for (size_t c = 0; c < slot->source.num_channels; c++) {
        const struct kw__channel *channel = &slot->source.channels[c];
        const struct kw__tracker *tracker = &slot->trackers[c];
        if (channel->device != device) continue;
        seen++;
        struct kw__meter_line line = {.device = device};
        snprintf(line.meter, sizeof line.meter, "%s", slot->source.class->name);
        if (*channel->absent.reason) {
            snprintf(line.detail, sizeof line.detail, "%s", channel->absent.reason);
            snprintf(line.remedy, sizeof line.remedy, "%s", channel->absent.remedy);
            put_line(lines, capacity, count, line);
        } else if (tracker->good_s < 0) {
            snprintf(line.detail, sizeof line.detail, "%s gives no reading: %s", channel->label,
                     tracker->why);
            put_line(lines, capacity, count, line);
        } else {
            readable++;
            const char *how = channel->has_counter && channel->has_power ? "energy counter and power"
                              : channel->has_counter                     ? "energy counter"
                                                                         : "power, integrated";
            const char *what = *channel->name ? channel->name : channel->label;
            int wrote = snprintf(can.detail + used, sizeof can.detail - used, "%s%s: %s%s%s",
                                 used ? "; " : "", what, how, *channel->note ? ", " : "", channel->note);
            used = wrote > 0 && used + (size_t)wrote < sizeof can.detail ? used + (size_t)wrote : used;
        }
    }
    if (readable) put_line(lines, capacity, count, can);
    return seen;
}

size_t kw__meter_lines(kw_meter *meter, struct kw__meter_line *lines, size_t capacity)
{
    size_t count = 0;
    pthread_mutex_lock(&meter->mutex);
    for (size_t i = 0; i < meter->num_slots; i++) {
        const struct kw__slot *slot = &meter->slots[i];
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            if (!slot->source.class->covers[d]) continue;
            if (!slot->ignored && describe_channels(slot, d, lines, capacity, &count)) continue;
            struct kw__meter_line line = {.device = d};
            snprintf(line.meter, sizeof line.meter, "%s", slot->source.class->name);
            snprintf(line.detail, sizeof line.detail, "%.255s", why_none(meter, d));
            snprintf(line.remedy, sizeof line.remedy, "%s",
                     slot->ignored ? "see whether nvidia-smi answers; the driver may hang"
                                   : slot->source.absent[d].remedy);
            put_line(lines, capacity, &count, line);
        }
    }
    pthread_mutex_unlock(&meter->mutex);
    return count;
}

size_t kw__meter_describe(const kw_meter_options *options, struct kw__meter_line *lines, size_t capacity)
{
    kw_meter_options brief = *options;
    kw_error err = {0};
    kw_meter *meter;
    size_t count = 0;
    brief.max_windows = brief.trace_samples = 1;
    if (brief.start_timeout_s <= 0) brief.start_timeout_s = 5;
    if (kw_meter_open(&brief, &meter, &err)) {
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            struct kw__meter_line line = {.meter = "none", .device = d};
            snprintf(line.detail, sizeof line.detail, "%.255s", err.message);
            put_line(lines, capacity, &count, line);
        }
        return count;
    }
    count = kw__meter_lines(meter, lines, capacity);
    kw_meter_close(meter);
    return count;
}
