/* Windows of a run; measure.h is the manual. */
#include "engine/measure.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/time.h"
#include "engine/machine.h"

void kw__measure_open(struct kw__measure *m, kw_meter *meter)
{
    *m = (struct kw__measure){.meter = meter, .peak_anonymous_bytes = kw__process_memory("RssAnon")};
}

void kw__measure_begin(struct kw__measure *m, const char *name)
{
    if (m->stopped || m->count == KW__MEASURE_WINDOWS) return;
    struct kw__measure_window *w = &m->windows[m->count];
    *w = (struct kw__measure_window){.name = name, .end_s = NAN, .cpu_clock_mhz = NAN};
    m->open[m->depth++] = m->count++;
    kw_error err;
    if (m->meter) {
        w->window = kw_meter_window_count(m->meter);
        w->metered = kw_meter_begin(m->meter, name, &err) == KW_OK;
        if (!w->metered) snprintf(w->refusal, sizeof w->refusal, "%.120s", err.message);
    }
    w->others_s = kw__machine_others_s();
    w->begin_s = kw__monotonic_s();
}

void kw__measure_end(struct kw__measure *m, const char *name)
{
    if (m->stopped || m->depth == 0) return;
    struct kw__measure_window *w = &m->windows[m->open[--m->depth]];
    w->end_s = kw__monotonic_s();
    kw_error err;
    if (w->metered && kw_meter_end(m->meter, name, &err)) {
        w->metered = false;
        snprintf(w->refusal, sizeof w->refusal, "%.120s", err.message);
    }
    w->others_s = kw__machine_others_s() - w->others_s;
    w->cpu_clock_mhz = kw__cpu_clock_mhz();
    m->peak_anonymous_bytes = fmax(m->peak_anonymous_bytes, kw__process_memory("RssAnon"));
}

void kw__measure_stop(struct kw__measure *m)
{
    m->stopped = true;
}

static void read_window(struct kw__measure *m, const struct kw__measure_window *w, struct kw__clip_stage *out)
{
    *out = (struct kw__clip_stage){
        .name = w->name, .seconds = w->end_s - w->begin_s, .cpu_clock_mhz = w->cpu_clock_mhz};
    /* the system counts in hundredths of a second for each core: over a tenth of one that is good to a tenth
     */
    bool told = !isnan(w->others_s) && out->seconds >= 0.1;
    out->other_cores = told ? fmax(0, w->others_s / out->seconds) : NAN;
    kw_meter_window window = {.struct_size = sizeof window};
    kw_error err;
    out->window = w->metered ? (int64_t)w->window : -1;
    bool known = w->metered && kw_meter_window_get(m->meter, w->window, &window, &err) == KW_OK;
    const char *reason = !m->meter     ? "nothing was metered"
                         : *w->refusal ? w->refusal
                                       : "the meter has lost the window";
    const kw_reading absent = {NAN, NAN, NAN, KW_ABSENT, reason};
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        out->energy_j[d] = known ? window.energy_j[d] : absent;
        out->power_w[d] = known ? window.power_w[d] : absent;
        out->idle_power_w[d] = known ? window.idle_power_w[d] : absent;
    }
    out->failed_reads = known ? window.failed_reads : 0;
    out->gap_s = known ? window.gap_s : 0;
}

void kw__measure_results(struct kw__measure *m, struct kw__clip *out)
{
    for (int i = 0; i < m->count; i++)
        read_window(m, &m->windows[i], i ? &out->stages[out->num_stages++] : &out->total);
    out->total.name = "total";
    out->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
}
