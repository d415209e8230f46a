/* See lint.h for the rules. */
#include "store/lint.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "hardware/hardware.h"
#include "predict/dataset.h"
#include "store/stages.h"

enum { MAX_FINDINGS = 64 };

/* A power limit is held in the mean over some tens of milliseconds, not at each instant. */
static const double over_limit = 1.02;
/* The clocks that a run may not have: slowdown by the board, by heat, by a power brake. */
static const uint64_t held_down = 0x8 | 0x20 | 0x40 | 0x80;
static const double wide = 0.10, wide_part = 0.05, short_s = 1, unread = 0.10;
enum { FEWEST_REPEATS = 3 };
/* Of a window with fewer readings, older versions said that counter and power disagree. */
enum { FEWEST_READINGS = 10 };

/* What runs of the same settings have in common. */
struct group {
    const char *key;
    int64_t count;
    bool predicted, has_prediction;
    double latency_s, low_s, high_s, flop;
};

struct kw__lint {
    const kw_catalog *catalog;
    struct kw__arena arena;
    kw_hardware **profiles;
    size_t num_profiles;
    struct group **slots; /* open addressing */
    size_t num_slots, num_groups;
};

struct found {
    struct kw__arena *arena;
    struct kw__finding *list;
    size_t count;
};

static void report(struct found *found, const char *code, const char *window, bool excludes,
                   const char *advice, const char *format, ...) __attribute__((format(printf, 6, 7)));

static void report(struct found *found, const char *code, const char *window, bool excludes,
                   const char *advice, const char *format, ...)
{
    char message[400];
    va_list args;
    if (found->count == MAX_FINDINGS) return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    found->list[found->count++] = (struct kw__finding){
        .code = code,
        .window = window && strcmp(window, "total") != 0 ? kw__arena_strdup(found->arena, window) : NULL,
        .message = kw__arena_strdup(found->arena, message),
        .advice = advice,
        .excludes = excludes};
}

static bool is_warm_up(const struct kw__run *run)
{
    return run->repeat < -1;
}

/* ---- Groups of repeats --------------------------------------------------------------------------- */

/* Those of one data set. */
static const char *group_key(struct kw__arena *arena, const struct kw__run *run)
{
    const char *key = kw__run_key(run, arena);
    return key ? kw__arena_printf(arena, "%s\n%s", run->dataset ? run->dataset : "", key) : NULL;
}

static uint64_t hash(const char *text) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static struct group **slot_of(struct group **slots, size_t num_slots, const char *key)
{
    size_t i = hash(key) & (num_slots - 1);
    while (slots[i] && strcmp(slots[i]->key, key) != 0) i = (i + 1) & (num_slots - 1);
    return &slots[i];
}

static kw_status grow(struct kw__lint *lint, kw_error *err)
{
    size_t num_slots = lint->num_slots ? 2 * lint->num_slots : 256;
    struct group **slots = calloc(num_slots, sizeof *slots);
    if (!slots) return kw__fail_memory(err);
    for (size_t i = 0; i < lint->num_slots; i++)
        if (lint->slots[i]) *slot_of(slots, num_slots, lint->slots[i]->key) = lint->slots[i];
    free(lint->slots);
    lint->slots = slots;
    lint->num_slots = num_slots;
    return KW_OK;
}

/* The run's group, made when it is new. */
static kw_status group_of(struct kw__lint *lint, const struct kw__run *run, struct group **out, kw_error *err)
{
    struct kw__arena scratch;
    kw_status status = 2 * lint->num_groups >= lint->num_slots ? grow(lint, err) : KW_OK;
    if (status) return status;
    kw__arena_init(&scratch);
    const char *key = group_key(&scratch, run);
    struct group **slot = key ? slot_of(lint->slots, lint->num_slots, key) : NULL;
    if (slot && !*slot) {
        struct group *group = kw__arena_alloc(&lint->arena, 1, sizeof *group);
        if (group) {
            group->key = kw__arena_strdup(&lint->arena, key);
            if (group->key) *slot = group, lint->num_groups++;
        }
    }
    bool good = slot && *slot;
    if (good) *out = *slot;
    kw__arena_free(&scratch);
    return good ? KW_OK : kw__fail_memory(err);
}

/* ---- Opening ------------------------------------------------------------------------------------- */

kw_status kw__lint_open(const kw_catalog *catalog, struct kw__lint **out, kw_error *err)
{
    kw__error_clear(err);
    struct kw__lint *lint = calloc(1, sizeof *lint);
    if (!lint) return kw__fail_memory(err);
    lint->catalog = catalog;
    kw__arena_init(&lint->arena);
    size_t count = kw_catalog_count(catalog, KW_HARDWARE);
    lint->profiles = kw__arena_alloc(&lint->arena, count + 1, sizeof(kw_hardware *));
    kw_status status = lint->profiles ? grow(lint, err) : kw__fail_memory(err);
    for (size_t i = 0; !status && i < count; i++) {
        status = kw_hardware_open(catalog, kw_catalog_name(catalog, KW_HARDWARE, i),
                                  &lint->profiles[lint->num_profiles], err);
        if (!status) lint->num_profiles++;
    }
    if (status)
        kw__lint_close(lint);
    else
        *out = lint;
    return status;
}

void kw__lint_close(struct kw__lint *lint)
{
    if (!lint) return;
    for (size_t i = 0; i < lint->num_profiles; i++) kw_hardware_close(lint->profiles[i]);
    kw__arena_free(&lint->arena);
    free(lint->slots);
    free(lint);
}

kw_status kw__lint_count(struct kw__lint *lint, const struct kw__run *run, kw_error *err)
{
    struct group *group;
    kw__error_clear(err);
    if (is_warm_up(run) || (run->state && strcmp(run->state, "done") != 0)) return KW_OK;
    kw_status status = group_of(lint, run, &group, err);
    if (!status) group->count++;
    return status;
}

/* ---- What a device may draw ---------------------------------------------------------------------- */

static const kw_hardware *profile_of(const struct kw__lint *lint, const struct kw__run *run)
{
    for (size_t i = 0; run->hardware && i < lint->num_profiles; i++)
        if (kw__hardware_is(lint->profiles[i], run->hardware)) return lint->profiles[i];
    return NULL;
}

static double number_of_gpus(const struct kw__run *run)
{
    return run->request.num_gpus > 1 ? (double)run->request.num_gpus : 1;
}

/* The limit of a device's channels together; else, of GPUs, that of the profile. NaN: not known. */
static double power_limit_w(const struct kw__run *run, const kw_hardware *profile, int device)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < run->num_channels; i++) {
        if (run->channels[i].device != device) continue;
        sum += run->channels[i].limit_w;
        count++;
    }
    if (count && isfinite(sum)) return sum;
    return profile && device == KW_GPU ? number_of_gpus(run) * kw_hardware_get(profile, "power_limit_w")
                                       : NAN;
}

/* What it drew at rest just before, else what the profile says. */
static double idle_power_w(const struct kw__run *run, const struct kw__run_window *window,
                           const kw_hardware *profile, int device)
{
    const kw_reading *idle = &window->idle_power_w[device];
    if (idle->status == KW_MEASURED) return isnan(idle->low) ? idle->value : idle->low;
    return profile && device == KW_GPU ? number_of_gpus(run) * kw_hardware_get(profile, "idle_power_w") : NAN;
}

/* ---- Rules for one window ------------------------------------------------------------------------ */

/* An interval that does not hold its value says nothing of it. */
static bool has_interval(const kw_reading *r)
{
    return r->low <= r->value && r->value <= r->high;
}

static double low_of(const kw_reading *r)
{
    return has_interval(r) ? r->low : r->value;
}

static double high_of(const kw_reading *r)
{
    return has_interval(r) ? r->high : r->value;
}

/* Which other unit of energy, or of time, would make a power plausible; NULL: none. */
static const char *better_unit(double power_w, double least_w, double most_w)
{
    static const struct {
        double factor;
        const char *text;
    } units[] = {{1.0 / 3600, "the energies look like joules taken for watt-hours"},
                 {3600, "the energies look like watt-hours taken for joules"},
                 {1000, "the energies look like kilowatt-hours taken for watt-hours, or the times like "
                        "milliseconds taken for seconds"},
                 {1.0 / 1000, "the energies look like milli-units taken for whole ones"},
                 {3.6e6, "the energies look like kilowatt-hours taken for joules"},
                 {1.0 / 3.6e6, "the energies look like joules taken for kilowatt-hours"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (power_w * units[i].factor >= least_w && power_w * units[i].factor <= most_w * over_limit)
            return units[i].text;
    return NULL;
}

static void check_power(const struct kw__run *run, const struct kw__run_window *w, int device,
                        const kw_hardware *profile, struct found *found)
{
    const kw_reading *energy = &w->energy_j[device];
    const char *name = kw_device_name(device);
    double limit = power_limit_w(run, profile, device), idle = idle_power_w(run, w, profile, device);
    double power = energy->value / w->duration_s, low = low_of(energy) / w->duration_s,
           high = high_of(energy) / w->duration_s;
    if (low > 5 * limit || high < idle / 5) {
        const char *unit = better_unit(power, fmax(idle, 1), isnan(limit) ? 20 * idle : limit);
        if (unit) {
            report(found, "units", w->name, true, "give energies and times in the units of their names",
                   "%s: %.4g W is not possible here; %s", name, power, unit);
            return;
        }
    }
    if (low > over_limit * limit)
        report(found, "power-above-limit", w->name, true,
               "see whether time and energy are of the same stages: one of the two is likely incomplete",
               "%s: %.4g J in %.4g s are %.0f W, more than the limit of %.0f W", name, energy->value,
               w->duration_s, power, limit);
    else if (high < idle)
        report(found, "power-below-idle", w->name, true,
               "see whether the meter looked at the device that did the work, for the whole time",
               "%s: %.4g J in %.4g s are %.1f W, less than the %.0f W it draws at rest", name, energy->value,
               w->duration_s, power, idle);
}

/* Whether a wide interval is one of the figures people use: what a window holds of the whole run may be too
 * little for it to show, and of repeats the mean is used, which is known better by the root of their number.
 */
static bool matters(const struct kw__run *run, const kw_reading *energy, int device, double repeats)
{
    const kw_reading *whole = &run->windows[0].energy_j[device];
    double half_j = (energy->high - energy->low) / 2 / sqrt(repeats);
    if (half_j <= wide * energy->value) return false;
    return energy == whole || whole->status != KW_MEASURED || half_j > wide_part * whole->value;
}

static void check_energy(const struct kw__run *run, const struct kw__run_window *w, int device,
                         const kw_hardware *profile, double repeats, struct found *found)
{
    const kw_reading *energy = &w->energy_j[device];
    const char *name = kw_device_name(device);
    if (energy->status == KW_ABSENT) return;
    if (!(w->duration_s > 0)) {
        report(found, "energy-without-time", w->name, true, "measure the time of the same window",
               "%s: %.4g J without a time", name, energy->value);
        return;
    }
    if (!(energy->value > 0)) {
        report(found, "zero-energy", w->name, true,
               "a counter that is missing is often written as 0: import it as absent, or measure it",
               "%s: no energy at all in %.4g s", name, w->duration_s);
        return;
    }
    if (energy->status != KW_MEASURED) return;
    check_power(run, w, device, profile, found);
    double half = (energy->high - energy->low) / 2 / energy->value;
    if (half > wide && matters(run, energy, device, repeats))
        report(found, "short-window", w->name, false,
               "repeat the work inside one window until its time is 20 s, or the run until the mean is known",
               "%s: %.3g s are too short for the counter: the energy is known to +-%.0f %% only", name,
               w->duration_s, 100 * half);
    else if (isnan(half) && device == KW_GPU && w->duration_s * sqrt(repeats) < short_s)
        report(found, "short-window", w->name, false,
               "repeat the work inside one window until its time is 20 s",
               "%s: %.3g s hold less than ten steps of a GPU's energy counter, and no uncertainty is stated",
               name, w->duration_s);
}

/* `repeats`: runs of these settings, 1 at least. */
static void check_window(const struct kw__run *run, size_t index, const kw_hardware *profile, double repeats,
                         struct found *found)
{
    const struct kw__run_window *w = &run->windows[index];
    bool any = false;
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        check_energy(run, w, d, profile, repeats, found);
        any = any || w->energy_j[d].status != KW_ABSENT;
    }
    if (!any && !(w->duration_s > 0))
        report(found, "time-missing", w->name, true, "measure it again",
               "neither a time nor an energy is known");
    if (w->gap_s > unread * w->duration_s)
        report(found, "gap", w->name, false, "see what kept the meter from its readings",
               "%.2g s of %.3g s went unread", w->gap_s, w->duration_s);
    if (w->note && strstr(w->note, "never closed"))
        report(found, "window-not-closed", w->name, true, "end the stage where its work ends",
               "the stage was never ended; it lasts until the run's end");
}

/* Nested windows of one parent lie side by side in time when one process marks them; several processes
 * overlap, so only each one alone is compared, and the energies' sum when their times add up to less. */
static void check_nesting(const struct kw__run *run, struct found *found)
{
    for (size_t p = 0; p < run->num_windows; p++) {
        const struct kw__run_window *whole = &run->windows[p];
        double seconds = 0, joules[KW_NUM_DEVICES] = {0};
        for (size_t i = p + 1; i < run->num_windows; i++) {
            const struct kw__run_window *part = &run->windows[i];
            if (part->parent != (int64_t)p) continue;
            seconds += part->duration_s;
            for (int d = 0; d < KW_NUM_DEVICES; d++)
                if (part->energy_j[d].status == KW_MEASURED) joules[d] += low_of(&part->energy_j[d]);
            if (part->duration_s > whole->duration_s * 1.001 + 0.01)
                report(found, "stages-exceed-whole", part->name, true, "see what each of the two holds",
                       "%.4g s, more than the %.4g s of \"%.60s\", which holds it", part->duration_s,
                       whole->duration_s, whole->name);
        }
        for (int d = 0; d < KW_NUM_DEVICES && seconds <= whole->duration_s * 1.001; d++)
            if (whole->energy_j[d].status == KW_MEASURED && joules[d] > high_of(&whole->energy_j[d]) * 1.001)
                report(found, "stages-exceed-whole", whole->name, true, "see what each of them holds",
                       "%s: its stages hold %.4g J, more than the whole's %.4g J", kw_device_name(d),
                       joules[d], whole->energy_j[d].value);
    }
}

/* ---- Rules for what the meter and the device said ----------------------------------------------- */

static void check_details(const struct kw__run *run, struct found *found)
{
    for (size_t i = 0; i < run->num_details; i++) {
        const struct kw__run_detail *detail = &run->details[i];
        const char *window = run->windows[detail->window].name, *label = run->channels[detail->channel].label;
        char text[160];
        if (detail->flags & KW_METER_FROZEN)
            report(found, "frozen-counter", window, detail->method == KW_METER_NONE,
                   "update the driver; until then the integrated power is what there is",
                   "%.90s: the energy counter stood still while power was drawn%s", label,
                   detail->method == KW_METER_BY_POWER ? "; the energy is integrated power" : "");
        if ((detail->flags & KW_METER_DISAGREES) && detail->samples >= FEWEST_READINGS)
            report(found, "counter-disagrees", window, true,
                   "one of the two sensors is wrong: compare with a meter at the plug",
                   "%.90s: the counter says %.4g J, integrated power %.4g J", label, detail->by_counter_j,
                   detail->by_power_j);
        if (detail->throttle_known && (detail->throttle_reasons & held_down))
            report(found, "throttled", window, true, "mend the cooling or the power supply, and repeat",
                   "%.90s was held down by %s", label,
                   kw_meter_throttle_text(detail->throttle_reasons & held_down, text, sizeof text));
        if (detail->other_processes > 0)
            report(found, "shared-device", window, true,
                   "repeat while nothing else runs on it, or give the run a device of its own",
                   "%.90s: %" PRId64 " other process%s used the device", label, detail->other_processes,
                   detail->other_processes > 1 ? "es" : "");
    }
}

/* ---- Rules that need to know the work ------------------------------------------------------------ */

static kw_status predict(const struct kw__lint *lint, const struct kw__run *run, const char *hardware,
                         struct group *group, kw_error *err)
{
    const struct kw__run_request *r = &run->request;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p;
    kw_model *model;
    group->predicted = true;
    kw_status status = kw_model_open(lint->catalog, run->model, &model, err);
    if (status == KW_ERROR_NOT_FOUND) return KW_OK; /* not one of ours */
    if (status) return status;
    /* weights that come and go through host memory are in what is predicted, or not */
    if (!kw__offloads_as(kw__run_setting(run, "offload"), lint->catalog, model, run->stack)) {
        kw_model_close(model);
        return KW_OK;
    }
    request.width = r->width;
    request.size_of_clip = true;
    request.height = r->height;
    request.num_frames = r->num_frames ? r->num_frames : r->num_frames_asked;
    request.num_inference_steps = r->num_inference_steps;
    request.batch_size = r->batch_size;
    if (r->prompt_tokens > 0) request.prompt_tokens = r->prompt_tokens;
    if (r->negative_tokens > 0) request.negative_tokens = r->negative_tokens;
    if (!isnan(r->guidance_scale)) request.guidance_scale = r->guidance_scale;
    options.hardware = hardware;
    options.stack = run->stack;
    status = kw_predict(lint->catalog, model, &request, &options, &p, err);
    kw_model_close(model);
    if (status == KW_ERROR_MEMORY) return status;
    if (status) { /* a stack or a request of another's: nothing can be said of it */
        kw__error_clear(err);
        return KW_OK;
    }
    group->has_prediction = true;
    group->latency_s = p->total.latency_s.value;
    group->low_s = p->total.latency_s.low;
    group->high_s = p->total.latency_s.high;
    group->flop = p->total.flop;
    kw_prediction_free(p);
    return KW_OK;
}

static bool is_whole_pipeline(const struct kw__run *run)
{
    return run->model && run->request.width > 0 && run->request.height > 0 &&
           run->request.num_inference_steps > 0 && number_of_gpus(run) == 1 &&
           (!run->what || strcmp(run->what, "pipeline") == 0) && !strchr(run->model, '/');
}

static kw_status check_work(struct kw__lint *lint, const struct kw__run *run, const kw_hardware *profile,
                            struct group *group, struct found *found, kw_error *err)
{
    double seconds = kw__run_work_s(run);
    if (!(seconds > 0) || !profile || !is_whole_pipeline(run)) return KW_OK;
    if (is_warm_up(run)) return KW_OK; /* it loads kernels and waits for them */
    if (!group->predicted) {
        kw_status status = predict(lint, run, kw_hardware_name(profile), group, err);
        if (status) return status;
    }
    if (!group->has_prediction) return KW_OK;
    double peak = kw_hardware_get(profile, "bf16_flop_per_s");
    if (group->flop / seconds > peak) {
        report(found, "faster-than-peak", NULL, true, "see whether the time holds every stage and step",
               "%.4g PFLOP in %.4g s are %.2f times the peak of %s", group->flop / 1e15, seconds,
               group->flop / seconds / peak, kw_hardware_name(profile));
        return KW_OK;
    }
    double off = fabs(log(seconds / group->latency_s));
    double half = fmax(0, 0.5 * log(group->high_s / group->low_s));
    if (off > fmax(log(1.25), 3 * half))
        report(
            found, "shape-and-time", NULL, true,
            "see whether size, frames and steps are those that ran, and whether the time holds every stage",
            "%.4g s measured, %.4g s predicted (%.4g to %.4g): %" PRId64 "x%" PRId64 ", %" PRId64
            " steps do not fit the time",
            seconds, group->latency_s, group->low_s, group->high_s, run->request.width, run->request.height,
            run->request.num_inference_steps);
    return KW_OK;
}

/* How many runs of these settings there are; a row may be the mean of several, as its setting "repeats" says.
 * Of one that says a standard deviation and not of how many, the fewest that have one worth the name. */
static double repeats_of(const struct kw__run *run, const struct group *group)
{
    const char *stated = kw__run_setting(run, "repeats");
    double runs = stated                                     ? kw__number_read(stated, NULL)
                  : kw__run_setting(run, "run.latency_sd_s") ? FEWEST_REPEATS
                                                             : 0;
    return fmax(1, fmax((double)group->count, runs));
}

static void check_repeats(const struct kw__run *run, double repeats, int64_t count, struct found *found)
{
    if (count > 0 && repeats < FEWEST_REPEATS)
        report(found, "few-repeats", NULL, false,
               kw__run_is_named(run) ? "repeat it until there are three at least"
                                     : "name what ran, as by a project of its own, and repeat it until there "
                                       "are three at least",
               "%" PRId64 " run%s of these settings: the spread is not known", count, kw__plural(count));
}

/* ---- All of them --------------------------------------------------------------------------------- */

kw_status kw__lint_run(struct kw__lint *lint, const struct kw__run *run, struct kw__arena *arena,
                       struct kw__finding **out, size_t *count, kw_error *err)
{
    struct group *group;
    struct found found = {arena, kw__arena_alloc(arena, MAX_FINDINGS, sizeof(struct kw__finding)), 0};
    kw__error_clear(err);
    if (!found.list) return kw__fail_memory(err);
    kw_status status = group_of(lint, run, &group, err);
    if (status) return status;
    const kw_hardware *profile = profile_of(lint, run);
    double repeats = repeats_of(run, group);
    for (size_t i = 0; i < run->num_windows; i++) check_window(run, i, profile, repeats, &found);
    check_nesting(run, &found);
    check_details(run, &found);
    status = check_work(lint, run, profile, group, &found, err);
    if (status) return status;
    if (!is_warm_up(run)) check_repeats(run, repeats, group->count, &found);
    if (arena->failed) return kw__fail_memory(err);
    *out = found.list;
    *count = found.count;
    return KW_OK;
}
