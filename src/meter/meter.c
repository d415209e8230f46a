/* Opening and closing a meter, and beginning and ending windows. What a window then says is worked out
 * in result.c. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/thread.h"
#include "base/time.h"
#include "meter/state.h"

static const struct kw__source_class *const classes[] = {&kw__nvml_source, &kw__rapl_source,
                                                         &kw__replay_source, &kw__null_source};
enum { NUM_CLASSES = sizeof classes / sizeof *classes };
_Static_assert((int)NUM_CLASSES <= (int)KW__MAX_SLOTS, "a slot for each source");

/* ---- For the sources ---- */

struct kw__channel *kw__source_add_channel(struct kw__source *source)
{
    struct kw__channel *grown = realloc(source->channels, (source->num_channels + 1) * sizeof *grown);
    if (!grown) return NULL;
    source->channels = grown;
    grown[source->num_channels] = (struct kw__channel){0};
    return &grown[source->num_channels++];
}

void kw__source_absent(struct kw__source *source, int device, const char *remedy, const char *format, ...)
{
    struct kw__absence *absence = &source->absent[device];
    va_list args;
    va_start(args, format);
    vsnprintf(absence->reason, sizeof absence->reason, format, args);
    va_end(args);
    snprintf(absence->remedy, sizeof absence->remedy, "%s", remedy ? remedy : "");
}

/* ---- Opening ---- */

static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

static kw_status add_slot(kw_meter *meter, const kw_meter_options *options,
                          const struct kw__source_class *class, kw_error *err)
{
    for (size_t i = 0; i < meter->num_slots; i++)
        if (meter->slots[i].source.class == class)
            return kw__fail(err, KW_ERROR_USAGE, "the source %s is named twice", class->name);
    struct kw__slot *slot = &meter->slots[meter->num_slots++];
    slot->meter = meter;
    slot->max_kept = options->trace_samples ? options->trace_samples : 8192;
    slot->source.class = class;
    slot->source.origin_s = meter->origin_s;
    slot->source.period_s = slot->period_s = options->period_s > 0 ? options->period_s : class->period_s;
    struct kw__source_config *config = &slot->source.config;
    const char *visible = options->visible_devices, *order = getenv("CUDA_DEVICE_ORDER");
    if (!visible) visible = getenv("CUDA_VISIBLE_DEVICES");
    config->any_device_order = !order || strcmp(order, "PCI_BUS_ID") != 0;
    if (!copy(&config->visible_devices, visible) || !copy(&config->nvml_library, options->nvml_library) ||
        !copy(&config->powercap, options->powercap) || !copy(&config->trace, options->trace))
        return kw__fail_memory(err);
    return KW_OK;
}

static kw_status add_slots(kw_meter *meter, const kw_meter_options *options, kw_error *err)
{
    const char *names = options->sources ? options->sources : "nvml,rapl";
    while (*names) {
        size_t length = strcspn(names, ","), i = 0;
        while (i < NUM_CLASSES &&
               (strlen(classes[i]->name) != length || strncmp(classes[i]->name, names, length) != 0))
            i++;
        if (i == NUM_CLASSES)
            return kw__fail(err, KW_ERROR_USAGE,
                            "there is no meter \"%.*s\": nvml, rapl, replay, null are there",
                            (int)(length < 40 ? length : 40), names);
        kw_status status = add_slot(meter, options, classes[i], err);
        if (status) return status;
        names += length;
        if (*names == ',') names++;
    }
    if (meter->num_slots == 0)
        return kw__fail(err, KW_ERROR_USAGE, "no meter is named: \"null\" measures nothing");
    return KW_OK;
}

static kw_status check_options(const kw_meter_options *options, kw_error *err)
{
    if (options->struct_size != sizeof *options)
        return kw__fail(err, KW_ERROR_USAGE, "kw_meter_options: struct_size is not that of this library");
    if (options->period_s != 0 && !(options->period_s >= 0.001 && options->period_s <= 10))
        return kw__fail(err, KW_ERROR_USAGE, "period_s must be from 0.001 to 10 seconds");
    if (!(options->start_timeout_s >= 0 && options->start_timeout_s <= 3600) ||
        !(options->settle_s >= 0 && options->settle_s <= 60))
        return kw__fail(err, KW_ERROR_USAGE, "start_timeout_s is at most 3600, settle_s at most 60 seconds");
    if (options->max_windows > 1000000 || options->trace_samples > 10000000)
        return kw__fail(err, KW_ERROR_USAGE, "max_windows is at most 1000000, trace_samples 10000000");
    return KW_OK;
}

/* Waits until each source is ready or has failed; those that are late are left alone from then on. The
 * lock is held. */
static kw_status wait_for_slots(kw_meter *meter, kw_error *err)
{
    double deadline = kw__monotonic_s() + meter->start_timeout_s;
    for (size_t i = 0; i < meter->num_slots; i++) {
        struct kw__slot *slot = &meter->slots[i];
        while (!slot->ready && !slot->done && kw__monotonic_s() < deadline)
            kw__cond_wait_until(&meter->changed, &meter->mutex, deadline);
        if (slot->done) {
            if (err) *err = slot->failure;
            return slot->failure.code;
        }
        slot->ignored = !slot->ready;
        if (slot->ignored) pthread_cond_signal(&slot->wake);
    }
    return KW_OK;
}

/* The windows' memory, once it is known how many channels there are. The lock is held. */
static kw_status make_windows(kw_meter *meter, size_t max_windows, kw_error *err)
{
    for (size_t i = 0; i < meter->num_slots; i++) {
        meter->slots[i].first_channel = meter->num_channels;
        if (!meter->slots[i].ignored) meter->num_channels += meter->slots[i].source.num_channels;
    }
    meter->windows = calloc(max_windows, sizeof *meter->windows);
    meter->live = calloc(max_windows, sizeof *meter->live);
    meter->marks =
        calloc(max_windows, sizeof *meter->marks * (meter->num_channels ? meter->num_channels : 1));
    if (!meter->windows || !meter->live || !meter->marks) return kw__fail_memory(err);
    meter->max_windows = max_windows;
    return KW_OK;
}

static kw_status open_meter(const kw_meter_options *options, bool still, kw_meter **out, kw_error *err)
{
    kw__error_clear(err);
    kw_status status = check_options(options, err);
    if (status) return status;
    kw_meter *meter = calloc(1, sizeof *meter);
    if (!meter) return kw__fail_memory(err);
    kw__arena_init(&meter->strings);
    if (pthread_mutex_init(&meter->mutex, NULL) || !kw__cond_init(&meter->changed)) {
        free(meter);
        return kw__fail(err, KW_ERROR_MEMORY, "the system has no lock left");
    }
    meter->origin_s = kw__monotonic_s();
    meter->still = still;
    meter->idle_window = -1;
    meter->settle_s = options->settle_s > 0 ? options->settle_s : 1;
    meter->start_timeout_s = options->start_timeout_s > 0 ? options->start_timeout_s : 20;
    pthread_mutex_lock(&meter->mutex);
    status = add_slots(meter, options, err);
    for (size_t i = 0; !status && i < meter->num_slots; i++) status = kw__slot_start(&meter->slots[i], err);
    if (!status && !still) status = wait_for_slots(meter, err);
    if (!status) status = make_windows(meter, options->max_windows ? options->max_windows : 4096, err);
    pthread_mutex_unlock(&meter->mutex);
    if (status) {
        kw_meter_close(meter);
        return status;
    }
    if (still) kw__meter_advance(meter, 0);
    *out = meter;
    return KW_OK;
}

kw_status kw_meter_open(const kw_meter_options *options, kw_meter **out, kw_error *err)
{
    return open_meter(options, false, out, err);
}

kw_status kw__meter_open_still(const kw_meter_options *options, kw_meter **out, kw_error *err)
{
    kw_meter_options replay = *options;
    replay.sources = "replay";
    return open_meter(&replay, true, out, err);
}

void kw__meter_advance(kw_meter *meter, double now_s)
{
    pthread_mutex_lock(&meter->mutex);
    for (size_t i = 0; i < meter->num_slots; i++) {
        struct kw__slot *slot = &meter->slots[i];
        const struct kw__source_class *class = slot->source.class;
        while (class->due_s && class->due_s(&slot->source) <= now_s) {
            class->read(&slot->source, slot->samples);
            kw__meter_deliver(slot, slot->samples);
        }
    }
    meter->still_now_s = fmax(meter->still_now_s, now_s);
    pthread_mutex_unlock(&meter->mutex);
}

/* ---- Closing ---- */

void kw__meter_free(kw_meter *meter)
{
    for (size_t i = 0; i < meter->num_slots; i++) {
        struct kw__slot *slot = &meter->slots[i];
        if (meter->still) slot->source.class->close(&slot->source);
        if (slot->has_wake) pthread_cond_destroy(&slot->wake);
        free(slot->source.config.visible_devices);
        free(slot->source.config.nvml_library);
        free(slot->source.config.powercap);
        free(slot->source.config.trace);
        free(slot->source.channels);
        free(slot->trackers);
        free(slot->samples);
        free(slot->kept);
    }
    free(meter->windows);
    free(meter->marks);
    free(meter->live);
    kw__arena_free(&meter->strings);
    pthread_cond_destroy(&meter->changed);
    pthread_mutex_destroy(&meter->mutex);
    free(meter);
}

void kw_meter_close(kw_meter *meter)
{
    if (!meter) return;
    pthread_mutex_lock(&meter->mutex);
    meter->stopping = true;
    for (size_t i = 0; i < meter->num_slots; i++)
        if (meter->slots[i].has_wake) pthread_cond_signal(&meter->slots[i].wake);
    double deadline = kw__monotonic_s() + 1;
    while (meter->running > 0 && kw__cond_wait_until(&meter->changed, &meter->mutex, deadline)) continue;
    bool join[KW__MAX_SLOTS] = {false};
    pthread_t threads[KW__MAX_SLOTS];
    size_t count = meter->num_slots;
    for (size_t i = 0; i < count; i++) {
        struct kw__slot *slot = &meter->slots[i];
        if (!slot->has_thread) continue;
        threads[i] = slot->thread;
        join[i] = slot->done;
        if (!slot->done) pthread_detach(slot->thread);
    }
    meter->orphaned = meter->running > 0;
    bool orphaned = meter->orphaned;
    pthread_mutex_unlock(&meter->mutex);
    for (size_t i = 0; i < count; i++)
        if (join[i]) pthread_join(threads[i], NULL);
    if (!orphaned) kw__meter_free(meter);
}

/* ---- Windows ---- */

double kw__meter_now_s(const kw_meter *meter)
{
    return meter->still ? meter->still_now_s : kw__monotonic_s() - meter->origin_s;
}

double kw_meter_now_s(kw_meter *meter)
{
    pthread_mutex_lock(&meter->mutex);
    double now = kw__meter_now_s(meter);
    pthread_mutex_unlock(&meter->mutex);
    return now;
}

double kw_meter_at_s(kw_meter *meter, double monotonic_s)
{
    return monotonic_s - meter->origin_s; /* fixed since the meter was opened */
}

/* The moment nearest to `at_s` at which an edge can be set: not before what the curves keep, not before
 * `least_s`, not in the future. */
static double nearest(const kw_meter *meter, double at_s, double least_s)
{
    double oldest_s = least_s;
    for (size_t i = 0; i < meter->num_slots; i++) {
        const struct kw__slot *slot = &meter->slots[i];
        for (size_t c = 0; !slot->ignored && c < slot->source.num_channels; c++) {
            const struct kw__tracker *tracker = &slot->trackers[c];
            if (tracker->counter.channel->has_counter)
                oldest_s = fmax(oldest_s, kw__counter_oldest_s(&tracker->counter));
            if (tracker->counter.channel->has_power)
                oldest_s = fmax(oldest_s, kw__integral_oldest_s(&tracker->integral));
        }
    }
    return fmin(fmax(at_s, oldest_s), kw__meter_now_s(meter));
}

/* Puts one edge of a window (0: begin, 1: end) on all curves. */
static void set_edges(kw_meter *meter, size_t window, int edge, double at_s)
{
    for (size_t i = 0; i < meter->num_slots; i++) {
        const struct kw__slot *slot = &meter->slots[i];
        for (size_t c = 0; !slot->ignored && c < slot->source.num_channels; c++) {
            struct kw__mark *mark = kw__mark_at(meter, window, slot->first_channel + c);
            mark->counter[edge].t_s = mark->integral[edge].t_s = at_s;
            if (edge == 0) {
                mark->counter[1].t_s = mark->integral[1].t_s = INFINITY;
                mark->other_processes = -1;
            }
            kw__mark_settle(&slot->trackers[c], mark);
        }
    }
}

static kw_status open_at(kw_meter *meter, const char *name, int64_t parent, double at_s, size_t *out,
                         kw_error *err)
{
    size_t length = strlen(name), index = meter->num_windows;
    if (length == 0 || length >= KW__NAME_SIZE)
        return kw__fail(err, KW_ERROR_USAGE, "a window's name has 1 to %d bytes", KW__NAME_SIZE - 1);
    if (parent < -1 || parent >= (int64_t)index || isnan(at_s))
        return kw__fail(err, KW_ERROR_USAGE, "a window begins at some time, in a window that is there");
    if (index == meter->max_windows)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "the meter holds %zu windows and no more: raise max_windows, or begin fewer",
                        meter->max_windows);
    struct kw__window *window = &meter->windows[index];
    *window = (struct kw__window){.parent = parent,
                                  .open = true,
                                  .begin_s = nearest(meter, at_s, 0),
                                  .end_s = INFINITY,
                                  .max_power_w = {NAN, NAN, NAN}};
    window->moved_s = fabs(window->begin_s - at_s);
    memcpy(window->name, name, length + 1);
    set_edges(meter, index, 0, window->begin_s);
    meter->num_windows++;
    meter->num_open++;
    meter->live[meter->num_live++] = *out = index;
    return KW_OK;
}

static void close_at(kw_meter *meter, size_t index, double at_s)
{
    struct kw__window *window = &meter->windows[index];
    window->open = false;
    window->end_s = nearest(meter, at_s, window->begin_s);
    window->moved_s = fmax(window->moved_s, fabs(window->end_s - at_s));
    set_edges(meter, index, 1, window->end_s);
    meter->num_open--;
}

kw_status kw_meter_open_window(kw_meter *meter, const char *name, int64_t parent, double at_s, size_t *window,
                               kw_error *err)
{
    pthread_mutex_lock(&meter->mutex);
    kw_status status = open_at(meter, name, parent, at_s, window, err);
    if (!status) kw__meter_poke(meter);
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

kw_status kw_meter_close_window(kw_meter *meter, size_t window, double at_s, kw_error *err)
{
    kw_status status = KW_OK;
    pthread_mutex_lock(&meter->mutex);
    if (window >= meter->num_windows || !meter->windows[window].open || isnan(at_s)) {
        status = kw__fail(err, KW_ERROR_USAGE, "window %zu is not open, or its end is no time", window);
    } else {
        close_at(meter, window, at_s);
        kw__meter_poke(meter);
    }
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

int64_t kw__meter_window_parent(kw_meter *meter, size_t window)
{
    pthread_mutex_lock(&meter->mutex);
    int64_t parent = meter->windows[window].parent;
    pthread_mutex_unlock(&meter->mutex);
    return parent;
}

/* ---- Windows that nest ---- */

static kw_status begin_at(kw_meter *meter, const char *name, double now_s, kw_error *err)
{
    if (meter->depth == KW__MAX_DEPTH)
        return kw__fail(err, KW_ERROR_USAGE, "%d windows are open already: end one first", KW__MAX_DEPTH);
    int64_t parent = meter->depth ? (int64_t)meter->open[meter->depth - 1] : -1;
    kw_status status = open_at(meter, name, parent, now_s, &meter->open[meter->depth], err);
    if (!status) meter->depth++;
    return status;
}

kw_status kw_meter_begin(kw_meter *meter, const char *name, kw_error *err)
{
    pthread_mutex_lock(&meter->mutex);
    kw_status status = begin_at(meter, name, kw__meter_now_s(meter), err);
    if (!status) kw__meter_poke(meter);
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

kw_status kw_meter_end(kw_meter *meter, const char *name, kw_error *err)
{
    kw_status status = KW_OK;
    pthread_mutex_lock(&meter->mutex);
    double now_s = kw__meter_now_s(meter);
    if (meter->depth == 0) {
        status = kw__fail(err, KW_ERROR_USAGE, "no window is open, so " KW__QUOTED " cannot end", name);
    } else if (strcmp(meter->windows[meter->open[meter->depth - 1]].name, name) != 0) {
        status = kw__fail(err, KW_ERROR_USAGE, "the window begun last is \"%s\", not " KW__QUOTED,
                          meter->windows[meter->open[meter->depth - 1]].name, name);
    } else {
        close_at(meter, meter->open[--meter->depth], now_s);
        kw__meter_poke(meter);
    }
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

kw_status kw_meter_switch(kw_meter *meter, const char *name, kw_error *err)
{
    kw_status status;
    pthread_mutex_lock(&meter->mutex);
    double now_s = kw__meter_now_s(meter);
    if (meter->depth == 0) {
        status = kw__fail(err, KW_ERROR_USAGE, "no window is open: begin " KW__QUOTED " instead", name);
    } else {
        close_at(meter, meter->open[--meter->depth], now_s);
        status = begin_at(meter, name, now_s, err);
        kw__meter_poke(meter);
    }
    pthread_mutex_unlock(&meter->mutex);
    return status;
}

kw_status kw_meter_idle(kw_meter *meter, double seconds, kw_error *err)
{
    if (!(seconds > 0 && seconds <= 3600))
        return kw__fail(err, KW_ERROR_USAGE, "an idle baseline takes more than 0 and at most 3600 seconds");
    pthread_mutex_lock(&meter->mutex);
    size_t open = meter->num_open;
    pthread_mutex_unlock(&meter->mutex);
    if (open > 0) return kw__fail(err, KW_ERROR_USAGE, "a window is open: the machine is not idle");
    kw_status status = kw_meter_begin(meter, "idle", err);
    if (status) return status;
    if (meter->still)
        kw__meter_advance(meter, meter->still_now_s + seconds);
    else
        kw__sleep_until(kw__monotonic_s() + seconds);
    status = kw_meter_end(meter, "idle", err);
    pthread_mutex_lock(&meter->mutex);
    meter->idle_window = (int64_t)meter->num_windows - 1;
    pthread_mutex_unlock(&meter->mutex);
    return status;
}
