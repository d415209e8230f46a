#include "store/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/time.h"
#include "base/uuid.h"
#include "report/out.h"

/* ---- Making one ----------------------------------------------------------------------------------- */

struct kw__run *kw__run_blank(void)
{
    struct kw__run *run = calloc(1, sizeof *run);
    if (!run) return NULL;
    kw__arena_init(&run->arena);
    run->point = run->repeat = -1;
    run->request.guidance_scale = run->request.fps = run->request.flow_shift = NAN;
    run->predicted_latency_s = NAN;
    for (int d = 0; d < KW_NUM_DEVICES; d++) run->predicted_energy_j[d] = NAN;
    return run;
}

struct kw__run *kw__run_new(const char *kind)
{
    char uuid[37], began[32];
    struct timespec now;
    struct kw__run *run = kw__run_blank();
    if (!run) return NULL;
    if (kw__uuid(uuid)) run->uuid = kw__arena_strdup(&run->arena, uuid);
    clock_gettime(CLOCK_REALTIME, &now);
    kw__time_format((double)now.tv_sec + 1e-9 * (double)now.tv_nsec, began, sizeof began);
    run->began = kw__arena_strdup(&run->arena, began);
    run->kind = kw__arena_strdup(&run->arena, kind);
    if (run->uuid && run->began && run->kind) return run;
    kw__run_free(run);
    return NULL;
}

void kw__run_free(struct kw__run *run)
{
    if (!run) return;
    kw__arena_free(&run->arena);
    free(run);
}

/* ---- Settings ------------------------------------------------------------------------------------- */

/* Where the name is, or would be. */
static size_t place_of(const struct kw__run *run, const char *name)
{
    size_t low = 0, high = run->num_settings;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(run->settings[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct kw__run *run, size_t place, const char *name)
{
    return place < run->num_settings && strcmp(run->settings[place].name, name) == 0;
}

kw_status kw__run_set(struct kw__run *run, const char *name, const char *value, kw_error *err)
{
    size_t place = place_of(run, name);
    const char *copy = kw__arena_strdup(&run->arena, value);
    if (!copy) return kw__fail_memory(err);
    if (is_at(run, place, name)) {
        run->settings[place].value = copy;
        return KW_OK;
    }
    struct kw__run_setting *settings =
        kw__arena_grow(&run->arena, run->settings, run->num_settings, &run->settings_room, sizeof *settings);
    const char *own = settings ? kw__arena_strdup(&run->arena, name) : NULL;
    if (settings) run->settings = settings;
    if (!own) return kw__fail_memory(err);
    memmove(&settings[place + 1], &settings[place], (run->num_settings - place) * sizeof *settings);
    settings[place] = (struct kw__run_setting){own, copy};
    run->num_settings++;
    return KW_OK;
}

const char *kw__run_setting(const struct kw__run *run, const char *name)
{
    size_t place = place_of(run, name);
    return is_at(run, place, name) ? run->settings[place].value : NULL;
}

/* ---- Repeats ---------------------------------------------------------------------------------------- */

bool kw__run_is_named(const struct kw__run *run)
{
    static const char *const names[] = {"command", "codecarbon.project_name", "codecarbon.experiment_id"};
    bool named = run->model != NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        named = named || kw__run_setting(run, names[i]);
    return named;
}

static void put_line(struct kw__out *out, const char *text)
{
    kw__out_puts(out, text ? text : "");
    kw__out_puts(out, "\n");
}

const char *kw__run_key(const struct kw__run *run, struct kw__arena *arena)
{
    const struct kw__run_request *r = &run->request;
    const char *const texts[] = {run->model,    run->what ? run->what : "pipeline",
                                 run->hardware, run->stack,
                                 run->weights,  kw__run_is_named(run) ? NULL : run->uuid};
    struct kw__out out;
    kw__out_init(&out);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) put_line(&out, texts[i]);
    kw__out_printf(&out,
                   "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
                   " %" PRId64 " %.9g %.9g %.9g\n",
                   r->width, r->height, r->num_frames ? r->num_frames : r->num_frames_asked,
                   r->num_inference_steps, r->batch_size, r->prompt_tokens, r->negative_tokens, r->num_gpus,
                   r->guidance_scale, r->fps, r->flow_shift);
    for (size_t i = 0; i < run->num_settings; i++) {
        if (strncmp(run->settings[i].name, "run.", 4) == 0) continue; /* of this run alone */
        kw__out_puts(&out, run->settings[i].name);
        kw__out_puts(&out, "=");
        put_line(&out, run->settings[i].value);
    }
    const char *key = out.failed ? NULL : kw__arena_strdup(arena, out.data);
    kw__out_free(&out);
    return key;
}

const char *kw__run_unmeasured(const struct kw__run *run)
{
    const char *basis = kw__run_setting(run, "basis");
    if (run->state && strcmp(run->state, "done") != 0) return "failed or stopped";
    if (run->repeat < -1) return "warm-ups";
    if (basis && strcmp(basis, "measured") != 0) return "computed from other runs, not measured";
    return NULL;
}

/* ---- From a meter ----------------------------------------------------------------------------------- */

static const char *copy(struct kw__run *run, const char *text)
{
    return text ? kw__arena_strdup(&run->arena, text) : NULL;
}

static kw_reading copy_reading(struct kw__run *run, kw_reading reading)
{
    reading.reason = copy(run, reading.reason);
    return reading;
}

/* "never closed", "its edges were moved by 0.2 s"; NULL: nothing. */
static const char *note_of(struct kw__run *run, const kw_meter_window *window, bool never_closed)
{
    if (!(window->moved_s > 0)) return never_closed ? "never closed" : NULL;
    return kw__arena_printf(&run->arena, "%sits edges came late and were moved by %.3f s",
                            never_closed ? "never closed; " : "", window->moved_s);
}

static void copy_window(struct kw__run *run, const kw_meter_window *from, double origin_s, int64_t parent,
                        const char *note)
{
    struct kw__run_window *to = &run->windows[run->num_windows++];
    *to = (struct kw__run_window){.name = copy(run, from->name),
                                  .parent = parent,
                                  .begin_s = from->begin_s - origin_s,
                                  .duration_s = from->duration_s,
                                  .failed_reads = from->failed_reads,
                                  .gap_s = from->gap_s,
                                  .note = note};
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        to->energy_j[d] = copy_reading(run, from->energy_j[d]);
        to->power_w[d] = copy_reading(run, from->power_w[d]);
        to->max_power_w[d] = copy_reading(run, from->max_power_w[d]);
        to->idle_power_w[d] = copy_reading(run, from->idle_power_w[d]);
    }
}

static kw_status copy_channels(struct kw__run *run, kw_meter *meter, kw_error *err)
{
    size_t count = kw_meter_channel_count(meter);
    run->channels = kw__arena_alloc(&run->arena, count + 1, sizeof *run->channels);
    run->num_channels = 0;
    if (!run->channels) return kw__fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        kw_meter_channel c = {.struct_size = sizeof c};
        kw_status status = kw_meter_channel_get(meter, i, &c, err);
        if (status) return status;
        run->channels[run->num_channels++] = (struct kw__run_channel){.source = copy(run, c.source),
                                                                      .label = copy(run, c.label),
                                                                      .name = copy(run, c.name),
                                                                      .note = copy(run, c.note),
                                                                      .device = c.device,
                                                                      .limit_w = c.limit_w};
    }
    return KW_OK;
}

static kw_status copy_details(struct kw__run *run, kw_meter *meter, size_t meter_window, size_t window,
                              kw_error *err)
{
    for (size_t c = 0; c < run->num_channels; c++) {
        kw_meter_detail d = {.struct_size = sizeof d};
        kw_status status = kw_meter_detail_get(meter, meter_window, c, &d, err);
        if (status) return status;
        run->details[run->num_details++] =
            (struct kw__run_detail){.window = window,
                                    .channel = c,
                                    .method = d.method,
                                    .flags = d.flags,
                                    .energy_j = d.energy_j.value,
                                    .by_counter_j = d.by_counter_j.value,
                                    .by_power_j = d.by_power_j.value,
                                    .samples = d.samples,
                                    .sm_clock_mhz = d.sm_clock_mhz.value,
                                    .memory_clock_mhz = d.memory_clock_mhz.value,
                                    .temperature_c = d.temperature_c.value,
                                    .lowest_sm_clock_mhz = d.sm_clock_mhz.low,
                                    .highest_temperature_c = d.temperature_c.high,
                                    .throttle_reasons = d.throttle_reasons,
                                    .throttle_known = d.throttle_known != 0,
                                    .other_processes = d.other_processes};
    }
    return KW_OK;
}

/* The meter's window as one of the run. */
static kw_status take_window(struct kw__run *run, kw_meter *meter, size_t window, int64_t parent,
                             const kw_meter_window *whole, kw_error *err)
{
    kw_meter_window w = {.struct_size = sizeof w};
    bool never_closed = kw_meter_close_window(meter, window, whole->end_s, NULL) == KW_OK;
    kw_status status = kw_meter_window_get(meter, window, &w, err);
    if (status) return status;
    copy_window(run, &w, whole->begin_s, parent, note_of(run, &w, never_closed));
    return copy_details(run, meter, window, run->num_windows - 1, err);
}

kw_status kw__run_from_meter(struct kw__run *run, kw_meter *meter, size_t first, kw_error *err)
{
    kw_meter_window whole = {.struct_size = sizeof whole};
    kw_status status = kw_meter_window_get(meter, first, &whole, err);
    if (!status) status = copy_channels(run, meter, err);
    if (status) return status;
    size_t count = kw_meter_window_count(meter) - first;
    /* of the meter's windows: where they are in the run; -1: they are another's */
    int64_t *places = kw__arena_alloc(&run->arena, count, sizeof *places);
    run->windows = kw__arena_alloc(&run->arena, count, sizeof *run->windows);
    run->details = kw__arena_alloc(&run->arena, count, (run->num_channels + 1) * sizeof *run->details);
    run->num_windows = run->num_details = 0;
    if (!places || !run->windows || !run->details) return kw__fail_memory(err);
    for (size_t i = 0; i < count && !status; i++) {
        int64_t parent = i ? kw__meter_window_parent(meter, first + i) - (int64_t)first : -1;
        int64_t place = parent < 0 ? -1 : places[parent];
        places[i] = -1;
        if (i && place < 0) continue;
        places[i] = (int64_t)run->num_windows;
        status = take_window(run, meter, first + i, place, &whole, err);
    }
    return status || !run->arena.failed ? status : kw__fail_memory(err);
}
