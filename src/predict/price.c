#include "predict/price.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* ---- Binding items to rates --------------------------------------------------------------------- */

/* How far apart two keys are: 0 equal, 1 another bucket, 2 another dtype, -1 another class. */
static int key_distance(const char *a, const char *b)
{
    size_t class = strcspn(a, "/");
    if (strncmp(a, b, class + 1) != 0) return -1;
    if (strcmp(a, b) == 0) return 0;
    size_t dtype = class + 1 + strcspn(a + class + 1, "/");
    return strncmp(a, b, dtype) == 0 && (b[dtype] == '/' || !b[dtype]) ? 1 : 2;
}

static int find_rate(const struct kw__calibration *calibration, const char *key, int *distance)
{
    int best = -1;
    for (int r = 0; r < calibration->num_rates; r++) {
        int d = key_distance(key, calibration->rates[r].key);
        if (d < 0 || (best >= 0 && d >= *distance)) continue;
        best = r;
        *distance = d;
    }
    return best;
}

kw_status kw__bind_rates(const struct kw__workload *workload, const struct kw__calibration *calibration,
                         struct kw__arena *arena, struct kw__binding *out, kw_error *err)
{
    *out =
        (struct kw__binding){kw__arena_alloc(arena, workload->num_items, sizeof *out->rate_of), NULL, NULL};
    if (!out->rate_of) return kw__fail_memory(err);
    for (size_t i = 0; i < workload->num_items; i++) {
        const char *key = workload->items[i].work.key;
        int distance = 0;
        out->rate_of[i] = key[0] ? find_rate(calibration, key, &distance) : -1;
        if (key[0] && out->rate_of[i] < 0)
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "calibration %s has no rate for %s", calibration->name,
                            key);
        if (distance > 0 && !out->missing) {
            out->missing = key;
            out->stand_in = calibration->rates[out->rate_of[i]].key;
        }
    }
    return KW_OK;
}

/* ---- Prices ---------------------------------------------------------------------------------------- */

static double scaled(struct kw__scaled figure, const double *log_values)
{
    return figure.base * exp(log_values[figure.parameter]);
}

/* The hardware's peak for a key's dtype; fp16 and bf16 stand in for each other, f32 for tf32. */
static double peak_of(const kw_hardware *hardware, const char *key)
{
    static const struct {
        const char *dtype, *first, *second;
    } peaks[] = {{"bf16", "bf16_flop_per_s", "fp16_flop_per_s"},
                 {"f16", "fp16_flop_per_s", "bf16_flop_per_s"},
                 {"tf32", "tf32_flop_per_s", "fp32_flop_per_s"},
                 {"f32", "fp32_flop_per_s", "fp32_flop_per_s"},
                 {"f64", "fp64_flop_per_s", "fp64_flop_per_s"}};
    const char *dtype = key + strcspn(key, "/") + 1;
    size_t length = strcspn(dtype, "/");
    for (size_t i = 0; i < sizeof peaks / sizeof peaks[0]; i++) {
        if (strlen(peaks[i].dtype) != length || strncmp(peaks[i].dtype, dtype, length) != 0) continue;
        double peak = kw_hardware_get(hardware, peaks[i].first);
        return isnan(peak) ? kw_hardware_get(hardware, peaks[i].second) : peak;
    }
    return NAN;
}

/* Power on a hardware: the calibration's watts as a share of its own limit, never below idle. */
static kw_status set_power(const struct kw__calibration *calibration, const kw_hardware *hardware,
                           double limit_w, const double *log_values, struct kw__prices *out, kw_error *err)
{
    double standard = kw_hardware_get(hardware, "power_limit_w"),
           idle = kw_hardware_get(hardware, "idle_power_w");
    out->stretch = 1.0;
    out->limit_w = limit_w > 0 ? limit_w : standard;
    out->busy_w = out->gap_w = NAN;
    if (isnan(standard) || isnan(calibration->busy_share.base)) return KW_OK; /* energy is absent */
    out->busy_w = fmin(scaled(calibration->busy_share, log_values), 1.0) * standard;
    out->gap_w = fmin(scaled(calibration->gap_share, log_values), 1.0) * standard;
    if (idle > out->gap_w) out->gap_w = idle;
    if (out->busy_w < out->gap_w) out->busy_w = out->gap_w;
    if (out->limit_w >= standard) return KW_OK;
    double capped = out->busy_w * out->limit_w / standard;
    if (capped <= out->gap_w)
        return kw__fail(err, KW_ERROR_USAGE,
                        "power-limit %g W is not above what %s draws between kernels, %.0f W", limit_w,
                        kw_hardware_name(hardware), out->gap_w);
    out->stretch = (out->busy_w - out->gap_w) / (capped - out->gap_w);
    out->busy_w = capped;
    return KW_OK;
}

kw_status kw__prices_of(const struct kw__calibration *calibration, const kw_hardware *hardware,
                        const struct kw__workload *workload, const struct kw__binding *binding,
                        double limit_w, const double *log_values, struct kw__prices *out, kw_error *err)
{
    bool used[KW__MAX_RATES] = {false};
    for (size_t i = 0; i < workload->num_items; i++)
        if (binding->rate_of[i] >= 0) used[binding->rate_of[i]] = true;
    for (int r = 0; r < calibration->num_rates; r++) {
        const struct kw__rate *rate = &calibration->rates[r];
        out->flop_per_s[r] = peak_of(hardware, rate->key) * scaled(rate->efficiency, log_values);
        if (used[r] && isnan(out->flop_per_s[r]))
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "hardware %s has no peak rate for %s",
                            kw_hardware_name(hardware), rate->key);
    }
    out->bytes_per_s =
        kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s") * scaled(calibration->memory, log_values);
    out->launch_s = scaled(calibration->launch_s, log_values);
    out->dispatch_s = calibration->dispatch_s;
    out->host_bytes_per_s = scaled(calibration->host_bytes_per_s, log_values);
    return set_power(calibration, hardware, limit_w, log_values, out, err);
}

/* ---- Pricing ------------------------------------------------------------------------------------------ */

static void price_item(const struct kw__item *item, int rate, const struct kw__prices *p,
                       struct kw__cost_of_item *out)
{
    const struct kw__work *w = &item->work;
    double compute = rate >= 0 ? w->flop / p->flop_per_s[rate] : 0.0;
    double operands = w->main_bytes / p->bytes_per_s;
    double memory = w->memory_bytes / p->bytes_per_s;
    if (operands > compute) {
        memory += operands;
        compute = 0.0;
    }
    out->compute_s = item->count * compute * p->stretch;
    out->memory_s = item->count * memory * p->stretch;
    out->host_s = item->count * w->host_bytes / p->host_bytes_per_s;
    out->busy_s = out->compute_s + out->memory_s;
    out->gap_s = item->count * w->launches * p->launch_s + out->host_s;
}

void kw__price_items(const struct kw__workload *workload, const struct kw__binding *binding,
                     const struct kw__prices *prices, struct kw__cost_of_item *out)
{
    for (size_t begin = 0; begin < workload->num_items;) {
        size_t end = begin;
        double seconds = 0, launches = 0;
        int phase = workload->items[begin].phase;
        for (; end < workload->num_items && workload->items[end].phase == phase; end++) {
            price_item(&workload->items[end], binding->rate_of[end], prices, &out[end]);
            seconds += out[end].busy_s + out[end].gap_s;
            launches += workload->items[end].count * workload->items[end].work.launches;
        }
        double waiting = launches * prices->dispatch_s - seconds; /* the device waits for the host */
        for (size_t i = begin; i < end; i++) {
            const struct kw__item *item = &workload->items[i];
            if (waiting > 0) out[i].gap_s += waiting * item->count * item->work.launches / launches;
            out[i].energy_j = out[i].busy_s * prices->busy_w + out[i].gap_s * prices->gap_w;
        }
        begin = end;
    }
}

void kw__price_total(const struct kw__workload *workload, const struct kw__binding *binding,
                     const struct kw__prices *prices, struct kw__cost_of_item *scratch, double *latency_s,
                     double *energy_j)
{
    *latency_s = *energy_j = 0;
    kw__price_items(workload, binding, prices, scratch);
    for (size_t i = 0; i < workload->num_items; i++) {
        *latency_s += scratch[i].busy_s + scratch[i].gap_s;
        *energy_j += scratch[i].energy_j;
    }
}
