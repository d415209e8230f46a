/* kw_predict and kw_explain: from a request to figures with intervals. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "predict/interval.h"
#include "predict/paper.h"
#include "predict/price.h"

enum { MAX_NOTES = 16, MAX_PARTS = KW__MAX_STAGES + KW__MAX_COMPONENTS + 1 };

/* The prediction that is handed out comes first, so that its address is the whole's. */
struct owned {
    kw_prediction prediction;
    struct kw__arena arena;
    kw_cost stages[KW__MAX_STAGES], components[KW__MAX_COMPONENTS];
    const char *assumptions[MAX_NOTES], *warnings[MAX_NOTES];
    struct kw__workload *workload;
    kw_published_list *published;
    struct kw__cost_of_item *items; /* kernel: the price of each item */
    struct kw__prices prices;
};

/* What a prediction is made from. */
struct inputs {
    const kw_catalog *catalog;
    const kw_model *model;
    kw_hardware *hardware;
    struct kw__stack *stack;
    struct kw__calibration *calibration;
    enum kw__distance distance;
    kw_error skipped; /* a calibration file that can't be read */
    struct kw__binding binding;
};

/* ---- Names ---------------------------------------------------------------------------------------- */

static const char *const method_names[] = {"kernel", "flops", "paper"};

const char *kw_method_name(kw_method method)
{
    return (size_t)method < 3 ? method_names[method] : "unknown";
}

kw_status kw_method_parse(const char *text, kw_method *out, kw_error *err)
{
    kw__error_clear(err);
    for (int i = 0; i < 3; i++)
        if (strcmp(text, method_names[i]) == 0) {
            *out = (kw_method)i;
            return KW_OK;
        }
    return kw__fail(err, KW_ERROR_USAGE, "unknown method \"%s\"; kernel, flops and paper are", text);
}

const char *kw_regime_name(kw_regime regime)
{
    static const char *const names[] = {"launches", "memory", "compute", "power", "host"};
    return (size_t)regime < sizeof names / sizeof names[0] ? names[regime] : "unknown";
}

const char *kw_device_name(int device)
{
    static const char *const names[KW_NUM_DEVICES] = {"gpu", "cpu", "ram"};
    return device >= 0 && device < KW_NUM_DEVICES ? names[device] : "unknown";
}

/* ---- Notes and readings ------------------------------------------------------------------------------ */

static void note(struct owned *o, const char **list, size_t *count, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void note(struct owned *o, const char **list, size_t *count, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)kw__number_vformat(text, sizeof text, format, args);
    va_end(args);
    if (*count < MAX_NOTES && (list[*count] = kw__arena_strdup(&o->arena, text))) ++*count;
}
#define ASSUME(o, ...) note(o, (o)->assumptions, &(o)->prediction.num_assumptions, __VA_ARGS__)
#define WARN(o, ...) note(o, (o)->warnings, &(o)->prediction.num_warnings, __VA_ARGS__)

static kw_reading absent(const char *reason)
{
    return (kw_reading){NAN, NAN, NAN, KW_ABSENT, reason};
}

/* A log-normal figure; sd NaN: no interval is known. */
static kw_reading modelled(double value, double log_sd)
{
    double factor = exp(KW__QUANTILE_90 * log_sd);
    return (kw_reading){value, value / factor, value * factor, KW_MODELLED, NULL};
}

/* ---- Opening what a prediction needs --------------------------------------------------------------- */

/* Why a CPU's energy is not predicted. */
static const char cpu_times_alone[] = "calibrations of a CPU hold times, and no power";

static bool is_cpu(const kw_hardware *hardware)
{
    return strcmp(kw_hardware_kind(hardware), "cpu") == 0;
}

static const char *usual_stack(const kw_hardware *hardware)
{
    if (!is_cpu(hardware)) return "diffusers-0.34";
    return kw_hardware_get(hardware, "bf16_flop_per_s") > 0 ? "kinowatt-cpu" : "kinowatt-cpu-f32";
}

static kw_status open_inputs(const kw_catalog *catalog, const kw_model *model,
                             const kw_predict_options *options, struct inputs *in, kw_error *err)
{
    *in = (struct inputs){.catalog = catalog, .model = model, .distance = KW__SAME};
    const char *stack = options->stack, *hardware = options->hardware;
    kw_status status = KW_OK;
    if (options->calibration && options->method == KW_METHOD_PAPER)
        return kw__fail(err, KW_ERROR_USAGE,
                        "the paper method has constants of its own and takes no calibration");
    if (options->calibration) {
        status = kw__calibration_open(catalog, options->calibration, &in->calibration, err);
        if (status) return status;
        if (!stack) stack = in->calibration->stack;
        if (!hardware) hardware = in->calibration->hardware;
    }
    if (hardware) status = kw_hardware_open(catalog, hardware, &in->hardware, err);
    if (!status && !stack) stack = hardware ? usual_stack(in->hardware) : "diffusers-0.34";
    if (!status) status = kw__stack_open(catalog, stack, &in->stack, err);
    if (!status && !hardware)
        status = kw_hardware_open(catalog, in->stack->on_cpu ? "cpu" : "h100-sxm", &in->hardware, err);
    if (status || options->method == KW_METHOD_PAPER) return status;
    if (!in->calibration)
        return kw__calibration_find(catalog, in->stack->name, in->hardware, &in->calibration, &in->distance,
                                    &in->skipped, err);
    const struct kw__calibration *c = in->calibration;
    bool on_cpu = is_cpu(in->hardware);
    if (on_cpu != (c->machine.cpu != NULL))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "calibration %s is of a %s and says nothing of %s; leave out the hardware, or name a "
                        "calibration of it",
                        c->name, on_cpu ? "GPU" : "CPU", kw_hardware_name(in->hardware));
    in->distance = kw__calibration_distance(c, in->stack->name, in->hardware);
    return KW_OK;
}

static void close_inputs(struct inputs *in)
{
    kw_hardware_close(in->hardware);
    kw__stack_close(in->stack);
    kw__calibration_close(in->calibration);
}

/* ---- The kernel predictor -------------------------------------------------------------------------- */

/* Sums of one part (a stage, a component, all) of the priced items. */
struct part {
    double latency, energy, compute, memory, gap, host, flop, bytes, launches;
};

/* Through the device's memory: weights that come to it are written there, those that leave it read. */
static double bytes_of(const struct kw__item *item)
{
    const struct kw__work *w = &item->work;
    return item->count * (w->main_bytes + w->memory_bytes + w->to_device_bytes + w->to_host_bytes);
}

static void add_to(struct part *part, const struct kw__item *item, const struct kw__cost_of_item *cost)
{
    part->latency += cost->busy_s + cost->gap_s;
    part->energy += cost->energy_j;
    part->compute += cost->compute_s;
    part->memory += cost->memory_s;
    part->gap += cost->gap_s;
    part->host += cost->host_s + cost->copy_s;
    part->flop += item->count * item->work.flop;
    part->bytes += bytes_of(item);
    part->launches += item->count * item->work.launches;
}

/* parts: the stages, then the components, then the total */
static void sum_parts(const struct kw__workload *w, const struct kw__cost_of_item *costs, struct part *parts)
{
    memset(parts, 0, MAX_PARTS * sizeof *parts);
    for (size_t i = 0; i < w->num_items; i++) {
        add_to(&parts[w->items[i].stage], &w->items[i], &costs[i]);
        add_to(&parts[w->num_stages + w->items[i].component], &w->items[i], &costs[i]);
        add_to(&parts[w->num_stages + w->num_components], &w->items[i], &costs[i]);
    }
}

/* The power limit bounds what draws nearly all of it: 0.95, since cards at their limit are seen at 0.97 and
 * more of it (busy_share of the calibrations). NaN power: not known, so not said. */
static kw_regime regime_of(double compute, double memory, double gap, double host, double power_w,
                           const struct kw__prices *prices)
{
    if (host > compute + memory + (gap - host)) return KW_REGIME_HOST;
    if (gap > compute + memory) return KW_REGIME_LAUNCHES;
    if (power_w >= 0.95 * prices->limit_w) return KW_REGIME_POWER;
    return memory > compute ? KW_REGIME_MEMORY : KW_REGIME_COMPUTE;
}

/* Log gradients of each part's latency and energy with respect to the parameters, by differences. */
struct gradients {
    double latency[MAX_PARTS][KW__MAX_PARAMETERS], energy[MAX_PARTS][KW__MAX_PARAMETERS];
};

static kw_status differentiate(struct owned *o, const struct inputs *in, const struct part *base,
                               int num_parts, struct gradients *out, kw_error *err)
{
    const double step = 1e-4;
    const struct kw__calibration *c = in->calibration;
    struct kw__workload *w = o->workload;
    struct kw__cost_of_item *costs = kw__arena_alloc(&o->arena, w->num_items, sizeof *costs);
    struct part parts[MAX_PARTS];
    double values[KW__MAX_PARAMETERS];
    if (!costs) return kw__fail_memory(err);
    for (int k = 0; k < c->num_parameters; k++) values[k] = c->parameters[k].log_value;
    for (int k = 0; k < c->num_parameters; k++) {
        struct kw__prices prices;
        values[k] += step;
        kw_status status = kw__prices_of(c, in->hardware, w, &in->binding,
                                         o->prediction.request.power_limit_w, values, &prices, err);
        if (status) return status;
        kw__price_items(w, &in->binding, &prices, costs);
        sum_parts(w, costs, parts);
        for (int p = 0; p < num_parts; p++) {
            out->latency[p][k] = base[p].latency > 0 ? log(parts[p].latency / base[p].latency) / step : 0;
            out->energy[p][k] = base[p].energy > 0 ? log(parts[p].energy / base[p].energy) / step : 0;
        }
        values[k] -= step;
    }
    return KW_OK;
}

/* What the parameters' covariance makes of a gradient. */
static double variance_of(const struct kw__calibration *c, const double *g)
{
    return kw__quadratic_form(c->covariance[0], KW__MAX_PARAMETERS, c->num_parameters, g);
}

/* Whether rows of the model are in the calibration's fit, or it does not say of which they are. */
static bool has_rows_of(const struct kw__calibration *c, const char *model)
{
    for (size_t i = 0; i < c->num_models; i++)
        if (strcmp(c->models[i], model) == 0) return true;
    return !c->models;
}

/* The model's error: as fitted to shapes of models that rows were of, and for others at least what a
 * calibration without rows states (docs/CALIBRATION.md, "Intervals"). */
static double model_sd(const struct inputs *in, double fitted, double without_rows)
{
    return has_rows_of(in->calibration, in->model->name) ? fitted : fmax(fitted, without_rows);
}

static void fill_cost(const struct inputs *in, const struct kw__prices *prices, const struct part *part,
                      const double *grad_latency, const double *grad_energy, kw_cost *out)
{
    const struct kw__calibration *c = in->calibration;
    /* under a lower limit the truth lies between no stretch, as voltage falls with the clock, and all of it
     */
    double limited = 0.5 * log(prices->stretch);
    double carried_time = kw__carried_sd(in->distance, false),
           carried_power = kw__carried_sd(in->distance, true);
    double carried = carried_time * carried_time + limited * limited;
    double session[KW__NUM_QUANTITIES], grad_power[KW__MAX_PARAMETERS];
    for (int k = 0; k < c->num_parameters; k++) grad_power[k] = grad_energy[k] - grad_latency[k];
    double time_sd = model_sd(in, c->model_time_sd, 0.05),
           energy_model_sd = model_sd(in, c->model_energy_sd, 0.05);
    double power_model_sd = model_sd(in, c->model_power_sd, 0.03);
    kw__session_variances(c->session_time_sd, c->session_power_sd, session);
    double latency_sd =
        sqrt(variance_of(c, grad_latency) + session[KW__LATENCY] + time_sd * time_sd + carried);
    out->flop_executed = part->flop;
    out->bytes = part->bytes;
    out->launches = part->launches;
    out->regime =
        regime_of(part->compute, part->memory, part->gap, part->host, part->energy / part->latency, prices);
    out->latency_s = modelled(part->latency, latency_sd);
    if (isnan(part->energy)) {
        const char *reason = is_cpu(in->hardware)
                                 ? cpu_times_alone
                                 : "the power of this hardware is not known to the calibration";
        out->energy_j[KW_GPU] = absent(is_cpu(in->hardware) ? "no GPU takes part" : reason);
        out->power_w = absent(reason);
        return;
    }
    double energy_sd =
        sqrt(variance_of(c, grad_energy) + session[KW__ENERGY] + energy_model_sd * energy_model_sd + carried);
    double power_sd = sqrt(variance_of(c, grad_power) + session[KW__POWER] + carried_power * carried_power +
                           power_model_sd * power_model_sd);
    out->energy_j[KW_GPU] = modelled(part->energy, energy_sd);
    out->power_w =
        part->latency > 0 ? modelled(part->energy / part->latency, power_sd) : absent("it takes no time");
    /* no mean power above the limit */
    if (out->power_w.high > prices->limit_w) out->power_w.high = fmax(prices->limit_w, out->power_w.value);
}

/* CPU and RAM: constant powers of the machine that the rows came from. */
static void fill_host(const struct inputs *in, double latency_s, double share, kw_cost *out)
{
    const struct kw__calibration *c = in->calibration;
    if (in->distance == KW__OTHER_HARDWARE || in->distance == KW__OTHER_BOTH || isnan(c->cpu_w)) {
        const char *reason =
            is_cpu(in->hardware) ? cpu_times_alone : "no calibration knows the host of this hardware";
        out->energy_j[KW_CPU] = out->energy_j[KW_RAM] = absent(reason);
        return;
    }
    double latency_sd = log(out->latency_s.high / out->latency_s.value) / KW__QUANTILE_90;
    out->energy_j[KW_CPU] = modelled(c->cpu_w * latency_s, hypot(c->cpu_log_sd, latency_sd));
    out->energy_j[KW_RAM] =
        modelled(c->ram_w * latency_s + c->ram_j * share, hypot(c->ram_log_sd, latency_sd));
}

static kw_status predict_kernel(struct owned *o, struct inputs *in, kw_error *err)
{
    const struct kw__calibration *c = in->calibration;
    struct kw__workload *w = o->workload;
    kw_status status = kw__bind_rates(w, c, &o->arena, &in->binding, err);
    if (status) return status;
    if (in->binding.missing)
        WARN(o, "the calibration has no rate for %s; %s stands in for it", in->binding.missing,
             in->binding.stand_in);
    double values[KW__MAX_PARAMETERS];
    for (int k = 0; k < c->num_parameters; k++) values[k] = c->parameters[k].log_value;
    status = kw__prices_of(c, in->hardware, w, &in->binding, o->prediction.request.power_limit_w, values,
                           &o->prices, err);
    if (status) return status;
    o->items = kw__arena_alloc(&o->arena, w->num_items, sizeof *o->items);
    struct part *parts = kw__arena_alloc(&o->arena, MAX_PARTS, sizeof *parts);
    struct gradients *gradients = kw__arena_alloc(&o->arena, 1, sizeof *gradients);
    if (!o->items || !parts || !gradients) return kw__fail_memory(err);
    kw__price_items(w, &in->binding, &o->prices, o->items);
    sum_parts(w, o->items, parts);
    int num_parts = w->num_stages + w->num_components + 1;
    status = differentiate(o, in, parts, num_parts, gradients, err);
    if (status) return status;
    double whole = parts[num_parts - 1].latency;
    for (int p = 0; p < num_parts; p++) {
        kw_cost *cost = p < w->num_stages   ? &o->stages[p]
                        : p < num_parts - 1 ? &o->components[p - w->num_stages]
                                            : &o->prediction.total;
        fill_cost(in, &o->prices, &parts[p], gradients->latency[p], gradients->energy[p], cost);
        fill_host(in, parts[p].latency, whole > 0 ? parts[p].latency / whole : 0, cost);
    }
    return KW_OK;
}

/* ---- The flops and paper predictors ---------------------------------------------------------------- */

/* One efficiency and one power for everything: every cost in proportion to its FLOPs. */
static void fill_proportional(kw_cost *cost, double flop, double seconds_per_flop, double power_w,
                              double time_sd, double energy_sd)
{
    double latency = flop * seconds_per_flop;
    cost->flop_executed = cost->flop;
    cost->bytes = cost->launches = NAN;
    cost->regime = KW_REGIME_COMPUTE;
    cost->latency_s = modelled(latency, time_sd);
    const char *unknown = "the power limit of this hardware is not known";
    cost->energy_j[KW_GPU] = isnan(power_w) ? absent(unknown) : modelled(latency * power_w, energy_sd);
    cost->power_w = isnan(power_w) ? absent(unknown)
                    : latency > 0  ? modelled(power_w, NAN)
                                   : absent("it takes no time");
    cost->energy_j[KW_CPU] = cost->energy_j[KW_RAM] = absent("this method has no figure for the host");
}

static kw_status predict_flops(struct owned *o, const struct inputs *in, kw_error *err)
{
    const struct kw__calibration *c = in->calibration;
    struct kw__workload *w = o->workload;
    double peak = kw_hardware_get(in->hardware, "bf16_flop_per_s"),
           limit = kw_hardware_get(in->hardware, "power_limit_w");
    if (isnan(c->flops_efficiency))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "calibration %s has no figure for the flops method; use --method kernel", c->name);
    if (isnan(peak))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "hardware %s has no bf16 rate, which the flops method needs",
                        kw_hardware_name(in->hardware));
    double per_flop = 1 / (peak * c->flops_efficiency), carried = kw__carried_sd(in->distance, false);
    /* on other hardware, as the kernel predictor does: a share of the limit */
    bool carried_over = in->distance == KW__OTHER_HARDWARE || in->distance == KW__OTHER_BOTH;
    double power = isnan(limit)   ? NAN
                   : carried_over ? c->busy_share.base * limit
                                  : fmin(c->flops_power_w, limit);
    double time_sd = hypot(c->flops_time_sd, carried), energy_sd = hypot(c->flops_energy_sd, carried);
    for (int s = 0; s < w->num_stages; s++)
        fill_proportional(&o->stages[s], o->stages[s].flop, per_flop, power, time_sd, energy_sd);
    for (int i = 0; i < w->num_components; i++)
        fill_proportional(&o->components[i], o->components[i].flop, per_flop, power, time_sd, energy_sd);
    fill_proportional(&o->prediction.total, o->prediction.total.flop, per_flop, power, time_sd, energy_sd);
    return KW_OK;
}

static kw_status predict_paper(struct owned *o, const struct inputs *in, kw_error *err)
{
    kw_model_info info = {.struct_size = sizeof info};
    kw_status status = kw_model_info_get(in->model, &info, err);
    if (status) return status;
    if (strcmp(info.pipeline, "WanPipeline") != 0 || info.parameters[1] != INT64_C(1418996800))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "the paper's closed form is WAN2.1-T2V-1.3B's alone; use --method kernel or flops");
    if (!kw__hardware_is(in->hardware, "h100-sxm"))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "the paper's constants are the H100 SXM's; use --method kernel or flops for %s",
                        kw_hardware_name(in->hardware));
    const kw_effective *r = &o->prediction.request;
    if (r->guidance_passes != 2 || r->batch_size != 1 || strcmp(in->stack->name, "diffusers-0.34") != 0)
        return kw__fail(
            err, KW_ERROR_UNSUPPORTED,
            "the paper's closed form is of one clip with guidance by diffusers-0.34; use --method kernel");
    struct kw__paper_flop f = kw__paper_flops((double)r->width, (double)r->height,
                                              (double)r->requested_frames, (double)r->num_inference_steps);
    double per_flop = 1 / (KW__PAPER_MU * KW__PAPER_FLOP_PER_S);
    const double stages[] = {f.text, f.time + f.self_attention + f.cross_attention + f.mlp, f.decoder};
    for (int s = 0; s < 3 && s < o->workload->num_stages; s++)
        fill_proportional(&o->stages[s], stages[s], per_flop, KW__PAPER_POWER_W, NAN, NAN);
    const struct {
        const char *name;
        double flop;
    } components[] = {{"text_encoder", f.text},
                      {"time_embedding", f.time},
                      {"self_attention", f.self_attention},
                      {"cross_attention", f.cross_attention},
                      {"mlp", f.mlp},
                      {"vae_decoder", f.decoder}};
    size_t kept = 0;
    for (size_t i = 0; i < o->prediction.num_components; i++)
        for (size_t k = 0; k < sizeof components / sizeof components[0]; k++) {
            if (strcmp(o->components[i].name, components[k].name) != 0) continue;
            o->components[kept] = o->components[i];
            fill_proportional(&o->components[kept++], components[k].flop, per_flop, KW__PAPER_POWER_W, NAN,
                              NAN);
        }
    o->prediction.num_components = kept;
    fill_proportional(&o->prediction.total, kw__paper_total(&f), per_flop, KW__PAPER_POWER_W, NAN, NAN);
    ASSUME(
        o,
        "the paper's own constants: d 2048, 32 layers, mu %.3f of 989 TFLOP/s, 700 W, frames as asked; it states "
        "no interval",
        KW__PAPER_MU);
    return KW_OK;
}

/* ---- Putting it together --------------------------------------------------------------------------- */

static void fill_reference(struct owned *o)
{
    const struct kw__workload *w = o->workload;
    kw_prediction *p = &o->prediction;
    p->stages = o->stages;
    p->components = o->components;
    p->num_stages = (size_t)w->num_stages;
    p->num_components = (size_t)w->num_components;
    p->total.name = "total";
    for (int i = 0; i < w->num_stages + w->num_components; i++) {
        bool stage = i < w->num_stages;
        const struct kw__sums *f = stage ? &w->stage_flop[i] : &w->component_flop[i - w->num_stages];
        kw_cost *cost = stage ? &o->stages[i] : &o->components[i - w->num_stages];
        cost->name = stage ? w->stages[i] : w->components[i - w->num_stages];
        cost->flop = f->flop;
        cost->flop_linear = f->linear;
        cost->flop_attention = f->attention;
        cost->flop_conv = f->conv;
        if (!stage) continue;
        cost->phases = w->phases[i];
        cost->num_phases = w->phases_of[i];
        p->total.flop += f->flop;
        p->total.flop_linear += f->linear;
        p->total.flop_attention += f->attention;
        p->total.flop_conv += f->conv;
    }
}

static bool is_within(int64_t value, double low, double high) /* NaN: not said */
{
    return !((double)value < low) && !((double)value > high);
}

/* What no row of the calibration was like. */
static void add_range_notes(struct owned *o, const struct kw__calibration *c)
{
    const kw_effective *r = &o->prediction.request;
    double batch_high = isnan(c->batch_high) ? 1 : c->batch_high;
    if (!has_rows_of(c, o->prediction.model))
        WARN(o, "no row of the calibration is of %s; the interval may be too narrow", o->prediction.model);
    if (!is_within(r->tokens, c->tokens_low, c->tokens_high))
        WARN(o,
             "%" PRId64
             " tokens are outside the calibrated range of %.0f to %.0f; the interval may be too narrow",
             r->tokens, c->tokens_low, c->tokens_high);
    if (!is_within(r->width * r->height, c->pixels_low, c->pixels_high))
        WARN(o,
             "%" PRId64 "x%" PRId64
             " is outside the calibrated sizes, %.0f to %.0f pixels; the interval may be too narrow",
             r->width, r->height, c->pixels_low, c->pixels_high);
    if (!is_within(r->num_inference_steps, c->steps_low, c->steps_high))
        WARN(o,
             "%" PRId64
             " steps are outside the calibrated range of %.0f to %.0f; the interval may be too narrow",
             r->num_inference_steps, c->steps_low, c->steps_high);
    if ((double)r->batch_size > batch_high)
        WARN(o, "a batch of %" PRId64 " is outside the calibrated range, which ends at %.0f", r->batch_size,
             batch_high);
}

/* Whether the version a ("0.35.0.dev0") is later than b, by its first two numbers. */
static bool is_later(const char *a, const char *b)
{
    char *rest_a, *rest_b;
    long major_a = strtol(a, &rest_a, 10), major_b = strtol(b, &rest_b, 10);
    if (*rest_a != '.' || *rest_b != '.') return false;
    long minor_a = strtol(rest_a + 1, NULL, 10), minor_b = strtol(rest_b + 1, NULL, 10);
    return major_a > major_b || (major_a == major_b && minor_a > minor_b);
}

/* An offloaded stack's peak is what is left with offloading; a CPU has nowhere to offload to. */
static void add_memory_note(struct owned *o, const struct inputs *in)
{
    double memory = kw_hardware_get(in->hardware, "memory_bytes");
    const kw_reading *need = &o->prediction.peak_memory_bytes;
    bool offloads = kw__stack_keeping(in->stack, in->model->family->pipeline)->offload;
    const char *how = in->stack->on_cpu ? "" : offloads ? " even with offloading" : " without offloading";
    if (need->value > memory)
        WARN(o, "it needs about %.1f GB of memory and %s has %.1f GB: it will not fit%s", need->value / 1e9,
             o->prediction.hardware, memory / 1e9, how);
    else if (need->high > memory)
        WARN(o, "it needs %.1f to %.1f GB of memory and %s has %.1f GB: it may not fit%s", need->value / 1e9,
             need->high / 1e9, o->prediction.hardware, memory / 1e9, how);
}

static void add_notes(struct owned *o, const struct inputs *in, const kw_request *request,
                      const kw_predict_options *options)
{
    const kw_effective *r = &o->prediction.request;
    const struct kw__calibration *c = in->calibration;
    const char *whose = options->calibration ? "the calibration's" : "the default";
    if (!options->hardware) ASSUME(o, "hardware %s (%s)", o->prediction.hardware, whose);
    if (!options->stack) ASSUME(o, "stack %s (%s)", o->prediction.stack, whose);
    if (request->prompt_tokens < 0 && in->stack->num_rewrites)
        ASSUME(o, "a prompt of %" PRId64 " tokens and a negative prompt of %" PRId64, r->prompt_tokens,
               r->negative_tokens);
    if (r->requested_width != r->width || r->requested_height != r->height)
        WARN(o, "the pipeline makes %" PRId64 "x%" PRId64 " of the %" PRId64 "x%" PRId64 " asked for",
             r->width, r->height, r->requested_width, r->requested_height);
    if (r->requested_frames != r->num_frames)
        WARN(o, "the pipeline makes %" PRId64 " frames of the %" PRId64 " asked for", r->num_frames,
             r->requested_frames);
    if (kw__stack_keeping(in->stack, in->model->family->pipeline)->offload)
        ASSUME(o, "%s copies each component to the GPU and back while a clip is made (CPU offload)",
               o->prediction.stack);
    const char *version = in->model->diffusers;
    if (in->stack->diffusers && version && is_later(version, in->stack->diffusers))
        ASSUME(
            o,
            "%s may not run this model, whose folder is of diffusers %s; the figures are what its kernels would take",
            o->prediction.stack, version);
    if (!c) return;
    ASSUME(o, "calibration %s: %s", c->name, c->basis);
    double cores = kw_hardware_get(in->hardware, "num_cores");
    if (c->machine.cpu && in->hardware->cpu &&
        (strcmp(c->machine.cpu, in->hardware->cpu) != 0 || c->machine.cores != (int)cores))
        WARN(
            o,
            "%s was made on %s with %d cores, and this machine is %s with %.0f: run `kinowatt calibrate --device cpu`",
            c->name, c->machine.cpu, c->machine.cores, in->hardware->cpu, cores);
    if (in->skipped.code) WARN(o, "a calibration was passed over: %s", in->skipped.message);
    if (in->distance != KW__SAME && options->calibration)
        WARN(o, "calibration %s is not of %s on %s; the intervals are wider for it", c->name,
             o->prediction.stack, o->prediction.hardware);
    else if (in->distance != KW__SAME)
        WARN(o, "no calibration is there for %s on %s; %s stands in, and the intervals are wider for it",
             o->prediction.stack, o->prediction.hardware, c->name);
    if (!isnan(c->tokens_low)) add_range_notes(o, c);
    double limit = kw_hardware_get(in->hardware, "power_limit_w");
    if (r->power_limit_w < limit)
        WARN(
            o,
            "no row was measured under a lower limit; the energy of an operation is taken as constant, while "
            "cards lower their voltage, so time and energy are upper bounds");
    if (r->power_limit_w > limit)
        WARN(o, "%s has a limit of %.0f W; nothing is known of it above that, so that limit holds",
             o->prediction.hardware, limit);
    add_memory_note(o, in);
}

static kw_status predict_into(struct owned *o, struct inputs *in, const kw_request *request,
                              const kw_predict_options *options, kw_error *err)
{
    kw_prediction *p = &o->prediction;
    kw_status status = kw_request_resolve(in->model, request, &p->request, err);
    if (!status) status = kw__workload_new(in->model, &p->request, in->stack, &o->workload, err);
    if (status) return status;
    p->method = options->method;
    p->model = kw__arena_strdup(&o->arena, in->model->name);
    p->hardware = kw__arena_strdup(&o->arena, kw_hardware_name(in->hardware));
    p->stack = kw__arena_strdup(&o->arena, in->stack->name);
    if (in->calibration) p->calibration = kw__arena_strdup(&o->arena, in->calibration->name);
    if (o->arena.failed) return kw__fail_memory(err);
    if (p->request.power_limit_w == 0)
        p->request.power_limit_w = kw_hardware_get(in->hardware, "power_limit_w");
    fill_reference(o);
    p->peak_memory_bytes = o->workload->peak_bytes;
    if (options->method != KW_METHOD_KERNEL && request->power_limit_w > 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "power-limit is known to the kernel method alone, and not to %s",
                        kw_method_name(options->method));
    p->assumptions = o->assumptions;
    p->warnings = o->warnings;
    add_notes(o, in, request, options);
    status = kw_published_find(in->catalog, in->model, &p->request, &o->published, err);
    if (status) return status;
    p->published = o->published->rows;
    p->num_published = o->published->num_rows;
    switch (options->method) {
    case KW_METHOD_KERNEL: return predict_kernel(o, in, err);
    case KW_METHOD_FLOPS: return predict_flops(o, in, err);
    case KW_METHOD_PAPER: return predict_paper(o, in, err);
    default: return kw__fail(err, KW_ERROR_USAGE, "unknown method %d", (int)options->method);
    }
}

kw_status kw_predict(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                     const kw_predict_options *options, kw_prediction **out, kw_error *err)
{
    static const kw_request default_request = KW_REQUEST_INIT;
    static const kw_predict_options default_options = KW_PREDICT_OPTIONS_INIT;
    if (!request) request = &default_request;
    if (!options) options = &default_options;
    kw__error_clear(err);
    if (options->struct_size != sizeof *options)
        return kw__fail(err, KW_ERROR_USAGE, "kw_predict_options.struct_size is not that of this library");
    struct inputs in;
    kw_status status = open_inputs(catalog, model, options, &in, err);
    struct owned *o = NULL;
    if (!status) {
        o = calloc(1, sizeof *o);
        if (o) {
            kw__arena_init(&o->arena);
            status = predict_into(o, &in, request, options, err);
        } else {
            status = kw__fail_memory(err);
        }
    }
    if (!status && o->arena.failed) status = kw__fail_memory(err);
    close_inputs(&in);
    if (status)
        kw_prediction_free(o ? &o->prediction : NULL);
    else
        *out = &o->prediction;
    return status;
}

void kw_prediction_free(kw_prediction *prediction)
{
    if (!prediction) return;
    struct owned *o = (struct owned *)prediction;
    kw__workload_free(o->workload);
    kw_published_free(o->published);
    kw__arena_free(&o->arena);
    free(o);
}

/* ---- The bill -------------------------------------------------------------------------------------- */

struct owned_bill {
    kw_bill bill;
    kw_prediction *prediction;
    kw_bill_line *lines;
};

static int by_component_then_time(const void *a, const void *b)
{
    const kw_bill_line *x = a, *y = b;
    int order = strcmp(x->stage, y->stage);
    if (!order) order = strcmp(x->component, y->component);
    if (order) return order;
    double left = isnan(x->latency_s) ? x->flop_executed : x->latency_s;
    double right = isnan(y->latency_s) ? y->flop_executed : y->latency_s;
    return left < right ? 1 : left > right ? -1 : strcmp(x->op, y->op);
}

static kw_bill_line bill_line(const struct owned *o, size_t i)
{
    const struct kw__item *item = &o->workload->items[i];
    const struct kw__work *w = &item->work;
    double bytes = bytes_of(item);
    kw_bill_line line = {.stage = o->workload->stages[item->stage],
                         .component = o->workload->components[item->component],
                         .op = item->op,
                         .kernel_class = kw__class_name(item->class),
                         .calls = item->count,
                         .flop_executed = item->count * w->flop,
                         .bytes = bytes,
                         .launches = item->count * w->launches,
                         .intensity = bytes > 0 ? item->count * w->flop / bytes : NAN,
                         .regime = KW_REGIME_COMPUTE, /* one efficiency for all, unless items are priced */
                         .latency_s = NAN,
                         .gpu_energy_j = NAN};
    if (!o->items) return line;
    const struct kw__cost_of_item *cost = &o->items[i];
    line.latency_s = cost->busy_s + cost->gap_s;
    line.gpu_energy_j = cost->energy_j;
    line.regime = regime_of(cost->compute_s, cost->memory_s, cost->gap_s, cost->host_s + cost->copy_s,
                            cost->energy_j / line.latency_s, &o->prices);
    return line;
}

/* Phases that run the same operator (both prompts, the first and the later steps) share its line. */
static size_t merge_equal(kw_bill_line *lines, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < kept &&
               (strcmp(lines[k].op, lines[i].op) != 0 || strcmp(lines[k].stage, lines[i].stage) != 0 ||
                strcmp(lines[k].component, lines[i].component) != 0 ||
                lines[k].flop_executed * lines[i].calls != lines[i].flop_executed * lines[k].calls ||
                lines[k].bytes * lines[i].calls != lines[i].bytes * lines[k].calls))
            k++;
        if (k == kept) {
            lines[kept++] = lines[i];
            continue;
        }
        lines[k].calls += lines[i].calls;
        lines[k].flop_executed += lines[i].flop_executed;
        lines[k].bytes += lines[i].bytes;
        lines[k].launches += lines[i].launches;
        lines[k].latency_s += lines[i].latency_s;
        lines[k].gpu_energy_j += lines[i].gpu_energy_j;
    }
    return kept;
}

kw_status kw_explain(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                     const kw_predict_options *options, kw_bill **out, kw_error *err)
{
    kw_prediction *prediction;
    kw_status status = kw_predict(catalog, model, request, options, &prediction, err);
    if (status) return status;
    const struct owned *o = (struct owned *)prediction;
    size_t count = o->workload->num_items, kept = 0;
    struct owned_bill *bill = calloc(1, sizeof *bill);
    kw_bill_line *lines = calloc(count ? count : 1, sizeof *lines);
    if (!bill || !lines) {
        free(bill);
        free(lines);
        kw_prediction_free(prediction);
        return kw__fail_memory(err);
    }
    for (size_t i = 0; i < count; i++)
        if (o->workload->items[i].count > 0) lines[kept++] = bill_line(o, i);
    kept = merge_equal(lines, kept);
    qsort(lines, kept, sizeof *lines, by_component_then_time);
    *bill = (struct owned_bill){{lines, kept, prediction}, prediction, lines};
    *out = &bill->bill;
    return KW_OK;
}

void kw_bill_free(kw_bill *bill)
{
    if (!bill) return;
    struct owned_bill *owned = (struct owned_bill *)bill;
    kw_prediction_free(owned->prediction);
    free(owned->lines);
    free(owned);
}
