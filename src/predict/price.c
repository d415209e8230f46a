#include "predict/price.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "predict/interval.h"

/* ---- Binding items to rates --------------------------------------------------------------------- */

/* The number that ends a part of a key, "c192" -> 192; 1 without one. `letters`: the length before it. */
static double number_in(const char *part, size_t length, size_t *letters)
{
    *letters = strcspn(part, "0123456789");
    if (*letters > length) *letters = length;
    double number = *letters < length ? kw__number_read(part + *letters, NULL) : 1;
    return number > 0 ? number : 1;
}

/* How far an item's key is from a rate's; negative: another class, or an operator that another one's rate
 * says nothing about. Below NEAR: the rate is meant for it, or for a neighbour in what matters less. */
enum { OTHER_HALF = 1, NEAR = 3, FIRST = 8, OTHER_DTYPE = 1000 };

/* Tensor cores take both in the same time. */
static bool half(const char *dtype, size_t length)
{
    return (length == 3 && strncmp(dtype, "f16", 3) == 0) || (length == 4 && strncmp(dtype, "bf16", 4) == 0);
}

static double key_distance(const char *item, const char *rate)
{
    double distance = 0;
    for (int part = 0; *rate; part++) {
        size_t a = strcspn(item, "/"), b = strcspn(rate, "/"), a_letters, b_letters;
        bool same = a == b && strncmp(item, rate, a) == 0;
        if (part == 0 && !same) return -1;
        if (part == 1 && !same) distance += half(item, a) && half(rate, b) ? OTHER_HALF : OTHER_DTYPE;
        if (part >= 2 && !same) {
            double ratio = log2(number_in(item, a, &a_letters) / number_in(rate, b, &b_letters));
            bool comparable = a_letters < a && b_letters < b;
            if (!comparable && part == 2) return -1;
            distance += (part == 2 ? FIRST : 0) + fabs(ratio);
        }
        item += a + (item[a] == '/');
        rate += b + (rate[b] == '/');
    }
    return *item ? distance + 0.01 : distance; /* a rate for all buckets: rather one for this alone */
}

static int find_rate(const struct kw__calibration *calibration, const char *key, double *distance)
{
    int best = -1;
    for (int r = 0; r < calibration->num_rates; r++) {
        double d = key_distance(key, calibration->rates[r].key);
        if (d < 0 || (best >= 0 && d >= *distance)) continue;
        best = r;
        *distance = d;
    }
    /* where attention with a bias is no case of its own it is as fast as without */
    static const char with_bias[] = "attention_bias/";
    if (best < 0 && strncmp(key, with_bias, sizeof with_bias - 1) == 0) {
        char plain[KW__KEY_BYTES];
        snprintf(plain, sizeof plain, "attention/%s", key + sizeof with_bias - 1);
        return find_rate(calibration, plain, distance);
    }
    return best;
}

/* A rate's efficiency at a size over its flat one. */
static double share_of(const struct kw__rate *r, double size)
{
    if (!r->num_knots) return 1;
    int k = 0;
    while (k < r->num_knots && r->size[k] < size) k++;
    double at = r->at_size[k < r->num_knots ? k : r->num_knots - 1];
    if (k > 0 && k < r->num_knots) {
        double between = log(size / r->size[k - 1]) / log(r->size[k] / r->size[k - 1]);
        at = exp((1 - between) * log(r->at_size[k - 1]) + between * log(r->at_size[k]));
    }
    return at / r->efficiency.base;
}

/* Of what makes up less of all FLOPs, or of all bytes of operators without arithmetic, nothing is said. */
static const double UNSAID = 1e-3;

kw_status kw__bind_rates(const struct kw__workload *workload, const struct kw__calibration *calibration,
                         struct kw__arena *arena, struct kw__binding *out, kw_error *err)
{
    *out = (struct kw__binding){.rate_of = kw__arena_alloc(arena, workload->num_items, sizeof *out->rate_of),
                                .share = kw__arena_alloc(arena, workload->num_items, sizeof *out->share)};
    if (!out->rate_of || !out->share) return kw__fail_memory(err);
    double flop = 0, bytes = 0, most = UNSAID;
    for (size_t i = 0; i < workload->num_items; i++) {
        flop += workload->items[i].count * workload->items[i].work.flop;
        bytes += workload->items[i].count * workload->items[i].work.memory_bytes;
    }
    for (size_t i = 0; i < workload->num_items; i++) {
        const struct kw__work *work = &workload->items[i].work;
        double count = workload->items[i].count, distance = 0;
        double share = work->flop > 0 ? count * work->flop / flop : count * work->memory_bytes / bytes;
        int rate = work->key[0] ? find_rate(calibration, work->key, &distance) : -1;
        if (rate < 0 && work->flop > 0)
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "calibration %s has no rate for %s", calibration->name,
                            work->key);
        out->rate_of[i] = rate;
        out->share[i] = rate < 0 ? 1 : share_of(&calibration->rates[rate], work->size);
        if (rate >= 0 && distance >= NEAR && share > most) {
            most = share;
            out->missing = work->key;
            out->stand_in = calibration->rates[rate].key;
        }
    }
    return KW_OK;
}

/* ---- Prices ---------------------------------------------------------------------------------------- */

static double scaled(struct kw__scaled figure, const double *log_values)
{
    return figure.parameter < 0 ? figure.base : figure.base * exp(log_values[figure.parameter]);
}

/* The hardware's peak for a key's dtype; fp16 and bf16 stand in for each other, f32 for all that it has no
 * units for: so it is then computed. */
static double hardware_peak(const kw_hardware *hardware, const char *key)
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
        if (isnan(peak)) peak = kw_hardware_get(hardware, peaks[i].second);
        return isnan(peak) ? kw_hardware_get(hardware, "fp32_flop_per_s") : peak;
    }
    return NAN;
}

static bool on_its_machine(const struct kw__calibration *calibration, const kw_hardware *hardware)
{
    return calibration->machine.cpu && strcmp(hardware->kind, "cpu") == 0;
}

/* What an efficiency of 1 is: FLOP/s, or bytes/s of an operator without arithmetic. */
static double peak_of(const struct kw__calibration *calibration, const kw_hardware *hardware, const char *key)
{
    const struct kw__machine *m = &calibration->machine;
    bool own = on_its_machine(calibration, hardware);
    static const char *const classes[] = {"gemm/", "attention/", "attention_bias/", "conv/"};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strncmp(key, classes[i], strlen(classes[i])) != 0) continue;
        if (!own) return hardware_peak(hardware, key);
        return strncmp(key + strlen(classes[i]), "bf16", 4) == 0 ? m->bf16_flop_per_s : m->fp32_flop_per_s;
    }
    return own ? m->bytes_per_s : kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s");
}

/* Power on a hardware: the calibration's watts as a share of its own limit, never below idle. */
static kw_status set_power(const struct kw__calibration *calibration, const kw_hardware *hardware,
                           double limit_w, const double *log_values, struct kw__prices *out, kw_error *err)
{
    double standard = kw_hardware_get(hardware, "power_limit_w"),
           idle = kw_hardware_get(hardware, "idle_power_w");
    out->limit_w = limit_w > 0 ? fmin(limit_w, standard) : standard;
    out->busy_w = out->gap_w = out->copy_w = out->walk_idle_w = out->walk_full_w = NAN;
    if (isnan(standard) || isnan(calibration->busy_share.base)) return KW_OK; /* energy is absent */
    out->busy_w = fmin(scaled(calibration->busy_share, log_values), 1.0) * standard;
    out->gap_w = fmin(scaled(calibration->gap_share, log_values), 1.0) * standard;
    if (idle > out->gap_w) out->gap_w = idle;
    if (out->busy_w < out->gap_w) out->busy_w = out->gap_w;
    out->copy_w = out->gap_w;
    if (!isnan(calibration->copy_share)) out->copy_w = fmin(calibration->copy_share * standard, out->limit_w);
    if (idle > out->copy_w) out->copy_w = idle;
    out->walk_idle_w = fmin(calibration->walk_idle_share * standard, out->limit_w);
    out->walk_full_w = fmin(calibration->walk_full_share * standard, out->limit_w);
    if (idle > out->walk_idle_w) out->walk_idle_w = idle;
    if (idle > out->walk_full_w) out->walk_full_w = idle;
    if (out->limit_w >= out->busy_w) return KW_OK;
    double capped = out->limit_w;
    /* beyond that, what voltage and clock do decides, and no row tells */
    const double most = 3;
    out->stretch = (out->busy_w - out->gap_w) / (capped - out->gap_w);
    if (capped <= out->gap_w || out->stretch > most)
        return kw__fail(err, KW_ERROR_USAGE,
                        "power-limit %g W is too low to predict on %s; give %.0f W or more", limit_w,
                        kw_hardware_name(hardware), ceil(out->gap_w + (out->busy_w - out->gap_w) / most));
    out->busy_w = capped;
    return KW_OK;
}

/* What one session's rows made of its own level: no other has been seen, and nothing tells it from what the
 * kernels reach there, so it is that of the machine. Several sessions have their levels about the machine's.
 */
static void set_session(const struct kw__calibration *calibration, const kw_hardware *hardware,
                        struct kw__prices *out)
{
    const struct kw__session *s = &calibration->sessions[0];
    bool alone = calibration->num_sessions == 1 && strcmp(calibration->hardware, hardware->name) == 0;
    out->session_time = alone ? exp(s->log_time + KW__SPEED_PER_POWER * s->log_power) : 1;
    out->session_power = alone ? exp(s->log_power) : 1;
}

kw_status kw__prices_of(const struct kw__calibration *calibration, const kw_hardware *hardware,
                        const struct kw__workload *workload, const struct kw__binding *binding,
                        double limit_w, const double *log_values, struct kw__prices *out, kw_error *err)
{
    bool used[KW__MAX_RATES] = {false};
    *out = (struct kw__prices){.stretch = 1};
    for (size_t i = 0; i < workload->num_items; i++)
        if (binding->rate_of[i] >= 0) used[binding->rate_of[i]] = true;
    for (int r = 0; r < calibration->num_rates; r++) {
        const struct kw__rate *rate = &calibration->rates[r];
        out->per_s[r] = peak_of(calibration, hardware, rate->key) * scaled(rate->efficiency, log_values);
        if (used[r] && isnan(out->per_s[r]))
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "hardware %s has no peak rate for %s",
                            kw_hardware_name(hardware), rate->key);
    }
    set_session(calibration, hardware, out);
    out->bytes_per_s = peak_of(calibration, hardware, "") * scaled(calibration->memory, log_values);
    out->walk_elements_per_s = calibration->walk_elements_per_s;
    out->walk_blocks_per_s = calibration->walk_blocks_per_s;
    out->num_processors = kw_hardware_get(hardware, "num_sms");
    out->launch_s = scaled(calibration->launch_s, log_values);
    out->dispatch_s = scaled(calibration->dispatch_s, log_values);
    out->host_bytes_per_s = scaled(calibration->host_bytes_per_s, log_values);
    out->to_device_bytes_per_s = out->to_host_bytes_per_s = out->host_bytes_per_s;
    if (!isnan(calibration->to_device_bytes_per_s.base)) {
        out->to_device_bytes_per_s = scaled(calibration->to_device_bytes_per_s, log_values);
        out->to_host_bytes_per_s = scaled(calibration->to_host_bytes_per_s, log_values);
    }
    return set_power(calibration, hardware, limit_w, log_values, out, err);
}

/* ---- Pricing ------------------------------------------------------------------------------------------ */

static struct kw__bundle bundle_of(const struct kw__item *item, int rate, double share)
{
    const struct kw__work *w = &item->work;
    struct kw__bundle b = {.phase = item->phase,
                           .rate = rate,
                           .timed = true,
                           .arithmetic = w->flop > 0,
                           .memory_bytes = item->count * w->memory_bytes,
                           .host_bytes = item->count * w->host_bytes,
                           .to_device_bytes = item->count * w->to_device_bytes,
                           .to_host_bytes = item->count * w->to_host_bytes,
                           .launches = item->count * w->launches,
                           .walks = item->count * w->walk_launches,
                           .walk_bytes = item->count * w->walk_bytes,
                           .walk_blocks = w->walk_blocks,
                           .walk_elements = w->walk_elements};
    if (b.arithmetic) {
        b.rated = item->count * w->flop / share;
        b.main_bytes = item->count * w->main_bytes;
    } else if (rate >= 0) {
        b.rated = b.memory_bytes / share;
        b.memory_bytes = 0;
    }
    return b;
}

/* What kernels that walk take, where that is longer than their bytes, which then are no time of the memory's.
 */
static void price_walks(const struct kw__bundle *b, const struct kw__prices *p, struct kw__cost_of_item *out)
{
    out->walk_s = out->walk_j = 0;
    if (!(b->walks > 0) || isnan(p->walk_elements_per_s) || isnan(p->num_processors)) return;
    double of_block =
        b->walk_elements > 0 ? b->walk_elements / p->walk_elements_per_s : 1 / p->walk_blocks_per_s;
    double walk = b->walks * ceil(b->walk_blocks / p->num_processors) * of_block;
    double bytes = b->walk_bytes / p->bytes_per_s * p->stretch;
    if (walk <= bytes) return;
    double at_work = fmin(b->walk_blocks / p->num_processors, 1);
    double of_groups_w = p->walk_idle_w + (p->walk_full_w - p->walk_idle_w) * at_work;
    out->memory_s -= bytes;
    out->walk_s = walk;
    out->walk_j = walk * (b->walk_elements > 0 ? of_groups_w : p->busy_w);
}

static void price(const struct kw__bundle *b, const struct kw__prices *p, struct kw__cost_of_item *out)
{
    double rated = b->rate < 0 ? 0 : b->rated / p->per_s[b->rate], operands = b->main_bytes / p->bytes_per_s;
    double compute = b->arithmetic && rated >= operands ? rated : 0;
    double memory = b->memory_bytes / p->bytes_per_s + (compute > 0 ? 0 : fmax(rated, operands));
    out->compute_s = compute * p->stretch;
    out->memory_s = memory * p->stretch;
    out->host_s = b->host_bytes / p->host_bytes_per_s;
    out->copy_s = 0;
    if (b->to_device_bytes > 0) out->copy_s += b->to_device_bytes / p->to_device_bytes_per_s;
    if (b->to_host_bytes > 0) out->copy_s += b->to_host_bytes / p->to_host_bytes_per_s;
    price_walks(b, p, out);
    out->busy_s = out->compute_s + out->memory_s;
    out->gap_s = b->launches * p->launch_s + out->host_s + out->copy_s + out->walk_s;
}

/* How much longer the host takes to issue a phase's kernels than they take, `seconds`. The larger of the two
 * counts, a little more where they are alike, since then each waits for the other at times: the norm of order
 * 8 is 9 % more where they are equal and 0.05 % where one is twice the other (judgement). It has no kink at
 * which a fit could get stuck. */
static double wait_for_host(double launches, double seconds, const struct kw__prices *p)
{
    double host = launches * p->dispatch_s;
    double most = fmax(host, seconds), least = fmin(host, seconds);
    if (!(most > 0)) return 0;
    double ratio = least / most;
    ratio *= ratio, ratio *= ratio, ratio *= ratio;
    return most * sqrt(sqrt(sqrt(1 + ratio))) - seconds;
}

static double energy_of(const struct kw__cost_of_item *c, const struct kw__prices *p)
{
    double energy_j = c->busy_s * p->busy_w + (c->gap_s - c->copy_s - c->walk_s) * p->gap_w;
    if (c->copy_s > 0) energy_j += c->copy_s * p->copy_w;
    if (c->walk_s > 0) energy_j += c->walk_j;
    double of_session = energy_j * p->session_power, most = (c->busy_s + c->gap_s) * p->limit_w;
    return of_session > most ? fmax(energy_j, most) : of_session;
}

static void to_session(struct kw__cost_of_item *c, const struct kw__prices *p)
{
    double *const times[] = {&c->busy_s, &c->gap_s,  &c->compute_s, &c->memory_s,
                             &c->host_s, &c->copy_s, &c->walk_s,    &c->walk_j};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) *times[i] *= p->session_time;
}

void kw__price_items(const struct kw__workload *workload, const struct kw__binding *binding,
                     const struct kw__prices *prices, struct kw__cost_of_item *out)
{
    for (size_t begin = 0, end; begin < workload->num_items; begin = end) {
        double seconds = 0, launches = 0;
        int phase = workload->items[begin].phase;
        for (end = begin; end < workload->num_items && workload->items[end].phase == phase; end++) {
            struct kw__bundle one =
                bundle_of(&workload->items[end], binding->rate_of[end], binding->share[end]);
            price(&one, prices, &out[end]);
            seconds += out[end].busy_s + out[end].gap_s - out[end].copy_s;
            launches += one.launches;
        }
        double waiting = wait_for_host(launches, seconds, prices);
        for (size_t i = begin; i < end; i++) {
            const struct kw__item *item = &workload->items[i];
            if (waiting > 0) out[i].gap_s += waiting * item->count * item->work.launches / launches;
            to_session(&out[i], prices);
            out[i].energy_j = energy_of(&out[i], prices);
        }
    }
}

/* ---- Totals ------------------------------------------------------------------------------------------- */

/* The longer of FLOPs and operands is the same for both where their ratio is; that of walks and their bytes
 * too.
 */
static bool can_join(const struct kw__bundle *a, const struct kw__bundle *b)
{
    return a->phase == b->phase && a->rate == b->rate && a->timed == b->timed &&
           a->arithmetic == b->arithmetic && a->rated * b->main_bytes == b->rated * a->main_bytes &&
           a->walk_blocks == b->walk_blocks && a->walk_elements == b->walk_elements &&
           a->walk_bytes * b->walks == b->walk_bytes * a->walks;
}

kw_status kw__bundle_items(const struct kw__workload *workload, const struct kw__binding *binding,
                           const bool *timed, struct kw__arena *arena, struct kw__bundles *out, kw_error *err)
{
    struct kw__bundle *list = kw__arena_alloc(arena, workload->num_items, sizeof *list);
    *out = (struct kw__bundles){list, 0};
    if (!list) return kw__fail_memory(err);
    for (size_t i = 0; i < workload->num_items; i++) {
        struct kw__bundle one = bundle_of(&workload->items[i], binding->rate_of[i], binding->share[i]);
        size_t k = out->count;
        if (timed) one.timed = timed[i];
        while (k > 0 && list[k - 1].phase == one.phase && !can_join(&list[k - 1], &one)) k--;
        if (k == 0 || list[k - 1].phase != one.phase) {
            list[out->count++] = one;
            continue;
        }
        struct kw__bundle *known = &list[k - 1];
        known->rated += one.rated;
        known->main_bytes += one.main_bytes;
        known->memory_bytes += one.memory_bytes;
        known->host_bytes += one.host_bytes;
        known->to_device_bytes += one.to_device_bytes;
        known->to_host_bytes += one.to_host_bytes;
        known->launches += one.launches;
        known->walks += one.walks;
        known->walk_bytes += one.walk_bytes;
    }
    return KW_OK;
}

void kw__price_total(const struct kw__bundles *bundles, const struct kw__prices *prices, double *latency_s,
                     double *energy_j)
{
    *latency_s = *energy_j = 0;
    for (size_t i = 0; i < bundles->count;) {
        double seconds = 0, launches = 0, timed = 0;
        struct kw__cost_of_item sum = {0};
        int phase = bundles->list[i].phase;
        for (; i < bundles->count && bundles->list[i].phase == phase; i++) {
            const struct kw__bundle *b = &bundles->list[i];
            struct kw__cost_of_item cost;
            price(b, prices, &cost);
            seconds += cost.busy_s + cost.gap_s - cost.copy_s;
            launches += b->launches;
            if (!b->timed) continue;
            sum.busy_s += cost.busy_s;
            sum.gap_s += cost.gap_s;
            sum.copy_s += cost.copy_s;
            sum.walk_s += cost.walk_s;
            sum.walk_j += cost.walk_j;
            timed += b->launches;
        }
        double waiting = wait_for_host(launches, seconds, prices);
        if (waiting > 0) sum.gap_s += waiting * timed / launches;
        to_session(&sum, prices);
        *latency_s += sum.busy_s + sum.gap_s;
        *energy_j += energy_of(&sum, prices);
    }
}

/* ---- Slopes ------------------------------------------------------------------------------------------- */

/* Adds those of a weighted sum of a bundle's busy time, gaps (without copies and walks), copies and walks. */
static void add_slopes(const struct kw__bundle *b, const struct kw__prices *p, double busy, double gap,
                       double copy, double walk_s, double walk, struct kw__prices *out)
{
    double bytes = walk_s > 0 ? b->memory_bytes - b->walk_bytes : b->memory_bytes;
    double rated = b->rate < 0 ? 0 : b->rated / p->per_s[b->rate], operands = b->main_bytes / p->bytes_per_s;
    busy *= p->stretch;
    out->bytes_per_s -= busy * bytes / p->bytes_per_s;
    *(b->walk_elements > 0 ? &out->walk_elements_per_s : &out->walk_blocks_per_s) -= walk * walk_s;
    if (operands > rated)
        out->bytes_per_s -= busy * operands;
    else if (b->rate >= 0)
        out->per_s[b->rate] -= busy * rated;
    out->launch_s += gap * b->launches * p->launch_s;
    out->host_bytes_per_s -= gap * b->host_bytes / p->host_bytes_per_s;
    if (b->to_device_bytes > 0)
        out->to_device_bytes_per_s -= copy * b->to_device_bytes / p->to_device_bytes_per_s;
    if (b->to_host_bytes > 0) out->to_host_bytes_per_s -= copy * b->to_host_bytes / p->to_host_bytes_per_s;
}

/* Adds those of the joules of walks by their powers. */
static void add_walk_power(const struct kw__bundle *b, const struct kw__prices *p,
                           const struct kw__cost_of_item *cost, struct kw__prices *out)
{
    double at_work = fmin(b->walk_blocks / p->num_processors, 1);
    if (!(cost->walk_s > 0)) return;
    if (!(b->walk_elements > 0)) {
        out->busy_w += cost->walk_j;
        return;
    }
    out->walk_idle_w += cost->walk_s * (1 - at_work) * p->walk_idle_w;
    out->walk_full_w += cost->walk_s * at_work * p->walk_full_w;
}

/* Adds those of the wait of a phase, (S^8 + H^8)^(1/8) - S: S its seconds, whose slopes are in `all`, and H
 * the host's, L launches of which `timed` count. */
static void add_wait(const struct kw__prices *all, double seconds, double launches, double timed,
                     const struct kw__prices *p, struct kw__slopes *out)
{
    double host = launches * p->dispatch_s, share = timed / launches;
    double norm = seconds + wait_for_host(launches, seconds, p);
    double by_seconds = pow(seconds / norm, 7) - 1, by_host = pow(host / norm, 7) * host;
    const double *from = (const double *)all;
    double *latency = (double *)&out->latency, *energy = (double *)&out->energy;
    for (size_t k = 0; k < KW__NUM_PRICES; k++) {
        latency[k] += share * by_seconds * from[k];
        energy[k] += share * by_seconds * from[k] * p->gap_w;
    }
    out->latency.dispatch_s += share * by_host;
    out->energy.dispatch_s += share * by_host * p->gap_w;
    out->energy.gap_w += share * (norm - seconds) * p->gap_w;
}

void kw__price_slopes(const struct kw__bundles *bundles, const struct kw__prices *prices,
                      struct kw__slopes *out)
{
    static const struct kw__prices none;
    *out = (struct kw__slopes){none, none};
    for (size_t i = 0; i < bundles->count;) {
        struct kw__prices all = none;
        double seconds = 0, launches = 0, timed = 0;
        int phase = bundles->list[i].phase;
        for (; i < bundles->count && bundles->list[i].phase == phase; i++) {
            const struct kw__bundle *b = &bundles->list[i];
            struct kw__cost_of_item cost;
            price(b, prices, &cost);
            seconds += cost.busy_s + cost.gap_s - cost.copy_s;
            launches += b->launches;
            if (prices->dispatch_s > 0) add_slopes(b, prices, 1, 1, 0, cost.walk_s, 1, &all);
            if (!b->timed) continue;
            timed += b->launches;
            add_slopes(b, prices, 1, 1, 1, cost.walk_s, 1, &out->latency);
            add_slopes(b, prices, prices->busy_w, prices->gap_w, prices->copy_w, cost.walk_s,
                       cost.walk_s > 0 ? cost.walk_j / cost.walk_s : 0, &out->energy);
            add_walk_power(b, prices, &cost, &out->energy);
            out->energy.busy_w += cost.busy_s * prices->busy_w;
            out->energy.gap_w += (cost.gap_s - cost.copy_s - cost.walk_s) * prices->gap_w;
            out->energy.copy_w += cost.copy_s * prices->copy_w;
        }
        if (prices->dispatch_s > 0 && launches > 0) add_wait(&all, seconds, launches, timed, prices, out);
    }
}
