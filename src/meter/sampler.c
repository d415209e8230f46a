/* The threads that read the sources, and what is done with a sample. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/thread.h"
#include "base/time.h"
#include "meter/state.h"

/* ---- Taking in a sample ---- */

bool kw__is_gap(const struct kw__slot *slot, const struct kw__channel *channel, double gap_s)
{
    /* a thread may well be a few periods late on a busy machine */
    return gap_s > fmax(5 * (channel->period_s > 0 ? channel->period_s : slot->period_s), 0.25);
}

static void add_to_mean(struct kw__mean *mean, double value)
{
    if (isnan(value)) return;
    mean->low = mean->count ? fmin(mean->low, value) : value;
    mean->high = mean->count ? fmax(mean->high, value) : value;
    mean->sum += value;
    mean->count++;
}

static double overlap_s(const struct kw__window *window, double from_s, double to_s)
{
    return fmax(0, fmin(to_s, window->end_s) - fmax(from_s, window->begin_s));
}

void kw__mark_settle(const struct kw__tracker *tracker, struct kw__mark *mark)
{
    const struct kw__channel *channel = tracker->counter.channel;
    for (int i = 0; i < 2; i++) {
        if (channel->has_counter) kw__counter_settle(&tracker->counter, &mark->counter[i]);
        if (channel->has_power) kw__integral_settle(&tracker->integral, &mark->integral[i]);
    }
}

/* What one sample says of one live window. */
static void note(struct kw__mark *mark, const struct kw__window *window, const struct kw__tracker *tracker,
                 const struct kw__sample *sample, double gap_from_s)
{
    double t = 0.5 * (sample->t0_s + sample->t1_s);
    bool inside = window->begin_s <= t && t <= window->end_s;
    if (!sample->ok) {
        mark->failed_reads += inside;
        return;
    }
    if (gap_from_s >= 0 && overlap_s(window, gap_from_s, sample->t1_s) > 0) {
        mark->gaps++;
        mark->gap_s += overlap_s(window, gap_from_s, sample->t1_s);
    }
    if (tracker->counter.frozen) {
        double since_s = kw__counter_last(&tracker->counter)->hi_s;
        if (overlap_s(window, since_s, sample->t1_s) > 0) mark->frozen = true;
    }
    kw__mark_settle(tracker, mark);
    if (!inside) return;
    mark->samples++;
    add_to_mean(&mark->sm_clock_mhz, sample->sm_clock_mhz);
    add_to_mean(&mark->memory_clock_mhz, sample->memory_clock_mhz);
    add_to_mean(&mark->temperature_c, sample->temperature_c);
    if (sample->throttle_known) {
        mark->throttle_known = true;
        mark->throttle_reasons |= sample->throttle_reasons;
    }
    if (sample->other_processes > mark->other_processes) mark->other_processes = sample->other_processes;
}

/* Where power is not told: the mean over a period and several steps, as a shorter time says little. A
 * counter that has not moved says nothing either. */
static void mean_power(const struct kw__slot *slot, struct kw__tracker *tracker, double now_s, bool usable)
{
    struct kw__counter *counter = &tracker->counter;
    const struct kw__channel *channel = counter->channel;
    double period_s = channel->period_s > 0 ? channel->period_s : slot->period_s;
    double elapsed_s = now_s - counter->anchor_s;
    if (elapsed_s <= 0 || elapsed_s < fmax(0.8 * period_s, 5 * channel->counter_update_s)) return;
    if (counter->energy_j <= counter->anchor_j) return;
    if (usable && !counter->frozen) tracker->power_w = (counter->energy_j - counter->anchor_j) / elapsed_s;
    tracker->power_since_s = counter->anchor_s;
    counter->anchor_s = now_s;
    counter->anchor_j = counter->energy_j;
}

/* The curves of one channel. Returns since when nothing had been read, if that is a gap, else -1. */
static double track(struct kw__slot *slot, struct kw__tracker *tracker, const struct kw__sample *sample)
{
    const struct kw__channel *channel = tracker->counter.channel;
    double t = 0.5 * (sample->t0_s + sample->t1_s), gap_from_s = -1;
    tracker->power_w = NAN;
    if (!sample->ok) {
        tracker->failing = true;
        snprintf(tracker->why, sizeof tracker->why, "%s", sample->why);
        return -1;
    }
    if (tracker->good_s >= 0 &&
        (tracker->failing || kw__is_gap(slot, channel, sample->t1_s - tracker->good_s)))
        gap_from_s = tracker->good_s;
    if (channel->has_counter) {
        kw__counter_add(&tracker->counter, sample->t0_s, sample->t1_s, sample->counter_j,
                        channel->has_power ? sample->power_w : NAN);
        if (!channel->has_power) mean_power(slot, tracker, sample->t1_s, gap_from_s < 0);
    }
    if (channel->has_power) {
        kw__integral_add(&tracker->integral, t, sample->power_w, kw__counter_peak_w(&tracker->counter),
                         gap_from_s >= 0);
        tracker->power_w = sample->power_w;
        tracker->power_since_s = t;
    }
    tracker->good_s = sample->t1_s;
    tracker->failing = false;
    return gap_from_s;
}

/* Power of all channels of a device at once, so that maxima at different times are not added. */
static void note_power(struct kw__slot *slot, const struct kw__sample *samples, double t_s)
{
    kw_meter *meter = slot->meter;
    for (int device = 0; device < KW_NUM_DEVICES; device++) {
        double power = 0, since_s = t_s;
        bool any = false;
        for (size_t c = 0; c < slot->source.num_channels; c++) {
            if (slot->source.channels[c].device != device) continue;
            any = any || !samples[c].skipped;
            power += slot->trackers[c].power_w; /* NaN when one is not known */
            since_s = fmin(since_s, slot->trackers[c].power_since_s);
        }
        if (!any || isnan(power)) continue;
        for (size_t i = 0; i < meter->num_live; i++) {
            struct kw__window *window = &meter->windows[meter->live[i]];
            if (window->begin_s <= since_s && t_s <= window->end_s)
                window->max_power_w[device] = fmax(window->max_power_w[device], power);
        }
    }
}

static void keep(struct kw__slot *slot, const struct kw__sample *samples)
{
    if (!slot->max_kept) return;
    for (size_t c = 0; c < slot->source.num_channels; c++)
        if (!samples[c].skipped)
            slot->kept[slot->num_kept++ % (int64_t)slot->max_kept] =
                (struct kw__kept){.channel = (uint32_t)c, .sample = samples[c]};
}

bool kw__window_is_settled(const kw_meter *meter, size_t window)
{
    if (meter->windows[window].open) return false;
    for (size_t s = 0; s < meter->num_slots; s++) {
        const struct kw__slot *slot = &meter->slots[s];
        if (slot->ignored) continue;
        for (size_t c = 0; c < slot->source.num_channels; c++) {
            const struct kw__channel *channel = &slot->source.channels[c];
            const struct kw__mark *mark = kw__mark_at(meter, window, slot->first_channel + c);
            for (int i = 0; i < 2; i++)
                if ((channel->has_counter && !mark->frozen && mark->counter[i].state == KW__EDGE_PENDING) ||
                    (channel->has_power && mark->integral[i].state == KW__EDGE_PENDING))
                    return false;
        }
    }
    return true;
}

/* Whether an edge that was set waits for this source's counters. */
static bool waits_for_step(const struct kw__slot *slot)
{
    const kw_meter *meter = slot->meter;
    for (size_t i = 0; i < meter->num_live; i++)
        for (size_t c = 0; c < slot->source.num_channels; c++) {
            const struct kw__mark *mark = kw__mark_at(meter, meter->live[i], slot->first_channel + c);
            for (int edge = 0; edge < 2; edge++)
                if (slot->source.channels[c].has_counter && isfinite(mark->counter[edge].t_s) &&
                    mark->counter[edge].state == KW__EDGE_PENDING)
                    return true;
        }
    return false;
}

void kw__meter_deliver(struct kw__slot *slot, const struct kw__sample *samples)
{
    kw_meter *meter = slot->meter;
    double last_s = 0;
    for (size_t c = 0; c < slot->source.num_channels; c++) {
        struct kw__tracker *tracker = &slot->trackers[c];
        if (samples[c].skipped) continue;
        double gap_from_s = track(slot, tracker, &samples[c]);
        for (size_t i = 0; i < meter->num_live; i++)
            note(kw__mark_at(meter, meter->live[i], slot->first_channel + c), &meter->windows[meter->live[i]],
                 tracker, &samples[c], gap_from_s);
        last_s = fmax(last_s, 0.5 * (samples[c].t0_s + samples[c].t1_s));
    }
    note_power(slot, samples, last_s);
    size_t left = 0;
    for (size_t i = 0; i < meter->num_live; i++)
        if (!kw__window_is_settled(meter, meter->live[i])) meter->live[left++] = meter->live[i];
    meter->num_live = left;
    if (!waits_for_step(slot)) slot->edges_until_s = 0;
    keep(slot, samples);
    pthread_cond_broadcast(&meter->changed);
}

/* ---- Threads ---- */

double kw__source_now_s(const struct kw__source *source)
{
    return kw__monotonic_s() - source->origin_s;
}

/* Opens the source and makes what its channels need. Called without the lock. */
static kw_status open_slot(struct kw__slot *slot, kw_error *err)
{
    struct kw__source *source = &slot->source;
    kw_status status = source->class->open(source, err);
    if (status) return status;
    size_t count = source->num_channels ? source->num_channels : 1;
    slot->trackers = calloc(count, sizeof *slot->trackers);
    slot->samples = calloc(count, sizeof *slot->samples);
    if (slot->max_kept) slot->kept = calloc(slot->max_kept, sizeof *slot->kept);
    if (!slot->trackers || !slot->samples || (slot->max_kept && !slot->kept)) return kw__fail_memory(err);
    for (size_t c = 0; c < source->num_channels; c++) {
        kw__counter_init(&slot->trackers[c].counter, &source->channels[c]);
        kw__integral_init(&slot->trackers[c].integral, &source->channels[c]);
        slot->trackers[c].good_s = -1;
    }
    return KW_OK;
}

/* What reading may take of one core: so much at all times, and the rest of it around the edges of windows,
 * where a counter's steps must be seen when they happen. What is not used is kept for some edges. Power that
 * is integrated, for want of a counter, has no such moments. */
static const double steady_share = 0.01, edges_share = 0.007, first_credit_s = 0.03, most_credit_s = 0.05;
/* Between two reads of a source whose edges come in a flood; KW__KEPT counts on it. */
static const double least_apart_s = 0.001;

static double credit_s(const struct kw__slot *slot, double now_s)
{
    return fmin(most_credit_s, slot->credit_s + edges_share * (now_s - slot->credit_at_s));
}

static double steady(const struct kw__slot *slot)
{
    for (size_t c = 0; c < slot->source.num_channels; c++)
        if (slot->source.channels[c].has_power && !slot->source.channels[c].has_counter)
            return steady_share + edges_share;
    return steady_share;
}

/* What a read has cost; what it cost beyond the steady share is paid for. */
static void account(struct kw__slot *slot, double began_s, double cost_s)
{
    double steady_s = slot->ready ? steady(slot) * (began_s - slot->last_s) : cost_s;
    slot->credit_s = credit_s(slot, began_s) - fmax(0, cost_s - steady_s);
    slot->credit_at_s = began_s;
    slot->cost_s = slot->ready ? slot->cost_s + 0.2 * (cost_s - slot->cost_s) : cost_s;
    slot->period_s = fmax(slot->source.period_s, slot->cost_s / steady(slot));
    slot->last_s = began_s;
}

void kw__meter_poke(kw_meter *meter)
{
    for (size_t i = 0; i < meter->num_slots; i++) {
        struct kw__slot *slot = &meter->slots[i];
        if (!slot->ready || slot->ignored || !slot->has_wake || slot->source.class->due_s) continue;
        double step_s = 0;
        for (size_t c = 0; c < slot->source.num_channels; c++)
            step_s = fmax(step_s, slot->source.channels[c].counter_update_s);
        slot->poked = true;
        slot->edges_until_s = kw__meter_now_s(meter) + 1.5 * step_s;
        pthread_cond_signal(&slot->wake);
    }
}

static double due_s(const struct kw__slot *slot, double now_s)
{
    const struct kw__source *source = &slot->source;
    if (source->num_channels == 0) return slot->ready ? INFINITY : now_s;
    if (source->class->due_s) return source->class->due_s(source);
    if (!slot->ready) return now_s;
    bool may = slot->waited || credit_s(slot, now_s) > 0, dense = now_s < slot->edges_until_s || slot->waited;
    double due = slot->last_s + (dense && may ? source->period_s : slot->period_s);
    return slot->poked && may ? fmin(due, slot->last_s + least_apart_s) : due;
}

/* Processor time of this thread. */
static double spent_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *run(void *argument)
{
    struct kw__slot *slot = argument;
    kw_meter *meter = slot->meter;
    struct kw__source *source = &slot->source;
    kw_error failure = {0};
    kw_status status = open_slot(slot, &failure);
    pthread_mutex_lock(&meter->mutex);
    slot->failure = failure;
    slot->opened = status == KW_OK;
    slot->credit_s = first_credit_s;
    while (!status && !meter->stopping && !slot->ignored) {
        double now = kw__source_now_s(source), due = due_s(slot, now), before = spent_s();
        if (now < due) {
            kw__cond_wait_until(&slot->wake, &meter->mutex, meter->origin_s + due);
            continue;
        }
        slot->poked = false;
        if (source->num_channels > 0) {
            pthread_mutex_unlock(&meter->mutex);
            source->class->read(source, slot->samples);
            pthread_mutex_lock(&meter->mutex);
            if (meter->stopping || slot->ignored) break;
            kw__meter_deliver(slot, slot->samples);
        }
        account(slot, now, spent_s() - before);
        slot->ready = true;
        pthread_cond_broadcast(&meter->changed);
    }
    pthread_mutex_unlock(&meter->mutex);
    source->class->close(source);
    pthread_mutex_lock(&meter->mutex);
    slot->done = true;
    bool last = --meter->running == 0 && meter->orphaned;
    pthread_cond_broadcast(&meter->changed);
    pthread_mutex_unlock(&meter->mutex);
    if (last) kw__meter_free(meter);
    return NULL;
}

kw_status kw__slot_start(struct kw__slot *slot, kw_error *err)
{
    if (slot->meter->still) {
        kw_status status = open_slot(slot, err);
        slot->opened = slot->ready = status == KW_OK;
        return status;
    }
    if (!kw__cond_init(&slot->wake))
        return kw__fail(err, KW_ERROR_MEMORY, "the system has no condition left");
    slot->has_wake = true;
    slot->meter->running++;
    /* the program's signals are for its own threads, which may wait for them */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&slot->thread, NULL, run, slot);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        slot->meter->running--;
        return kw__fail(err, KW_ERROR_MEMORY, "the system has no thread left for %s",
                        slot->source.class->name);
    }
    slot->has_thread = true;
    return KW_OK;
}
