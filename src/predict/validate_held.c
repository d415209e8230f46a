/* What no fit sees: the paper's model table, repeated measurements, and the H200. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/paper.h"
#include "predict/validate.h"

/* ---- The model table ---------------------------------------------------------------------------------- */

kw_status kw__validate_models(const kw_catalog *catalog, struct kw__validation *v, kw_error *err)
{
    kw_status status =
        kw__samples_new(catalog, v->models, v->stack, v->priors, v->hardware, &v->model_samples, err);
    if (status) return status;
    const struct kw__samples *s = v->model_samples;
    double peak = kw_hardware_get(v->hardware, "bf16_flop_per_s");
    v->held_out = kw__arena_alloc(&v->arena, s->count, sizeof *v->held_out);
    if (!v->held_out) return kw__fail_memory(err);
    /* these rows are of no sweep, and the fit's terms follow the sweeps' number of sessions */
    for (size_t i = 0; !status && i < s->count; i++) {
        struct kw__held_out *held = &v->held_out[v->num_held_out++];
        double paper_s = kw__sample_flop(s, &s->list[i], true) / KW__PAPER_FLOP_PER_S;
        double exact_s = kw__sample_flop(s, &s->list[i], false) / peak;
        bool defined = strcmp(s->list[i].row->model, "wan2.1-t2v-1.3b") == 0;
        double closed = defined ? 1 : NAN; /* the closed form is WAN2.1-1.3B's alone */
        held->row = s->list[i].row;
        held->estimates[KW__PAPER] =
            (struct kw__estimate){closed * paper_s / KW__PAPER_MU,
                                  closed * paper_s / KW__PAPER_MU * KW__PAPER_POWER_W,
                                  {NAN, NAN, NAN}};
        held->estimates[KW__PAPER_REFITTED] =
            (struct kw__estimate){closed * paper_s / v->refitted.efficiency,
                                  closed * paper_s / v->refitted.efficiency * v->refitted.power_w,
                                  {NAN, NAN, NAN}};
        held->estimates[KW__FLOPS] = (struct kw__estimate){exact_s / v->flops.efficiency,
                                                           exact_s / v->flops.efficiency * v->flops.power_w,
                                                           {v->flops.time_sd, v->flops.energy_sd, NAN}};
        status = kw__kernel_estimate(s, &v->fit, &s->list[i], &held->estimates[KW__KERNEL], err);
    }
    return status;
}

/* ---- Repeatability ------------------------------------------------------------------------------- */

struct spread {
    int count, energies; /* runs, and those that have an energy */
    double least_s, most_s, sum_s, least_j, most_j, sum_j;
};

static void widen(struct spread *spread, double latency_s, double energy_j)
{
    spread->least_s = spread->count ? fmin(spread->least_s, latency_s) : latency_s;
    spread->most_s = spread->count ? fmax(spread->most_s, latency_s) : latency_s;
    spread->sum_s += latency_s;
    spread->count++;
    if (isnan(energy_j)) return;
    spread->least_j = spread->energies ? fmin(spread->least_j, energy_j) : energy_j;
    spread->most_j = spread->energies ? fmax(spread->most_j, energy_j) : energy_j;
    spread->sum_j += energy_j;
    spread->energies++;
}

static void add_repeat(struct kw__validation *v, const char *session, const kw_effective *request,
                       const struct spread *spread)
{
    if (spread->count < 2) return;
    v->repeats[v->num_repeats++] = (struct kw__repeat){
        .session = session,
        .request = *request,
        .count = spread->count,
        .least_s = spread->least_s,
        .largest_s = spread->most_s,
        .latency_spread = (spread->most_s - spread->least_s) / (spread->sum_s / spread->count),
        .energy_spread = spread->energies < 2
                             ? NAN
                             : (spread->most_j - spread->least_j) / (spread->sum_j / spread->energies),
    };
}

kw_status kw__validate_repeats(struct kw__validation *v, kw_error *err)
{
    const struct kw__samples *s = v->samples, *m = v->model_samples;
    v->repeats =
        kw__arena_alloc(&v->arena, s->num_groups * (size_t)(s->num_sessions + 1), sizeof *v->repeats);
    if (!v->repeats) return kw__fail_memory(err);
    for (size_t g = 0; g < s->num_groups; g++) {
        const kw_effective *request = &s->groups[g].request;
        struct spread between = {0};
        for (int session = 0; session < s->num_sessions; session++) {
            struct spread within = {0};
            for (size_t i = 0; i < s->count; i++) {
                const struct kw__sample *row = &s->list[i];
                if (row->group != (int)g || row->session != session) continue;
                widen(&within, row->latency_s, row->energy_j);
            }
            add_repeat(v, s->sessions[session], request, &within);
            if (within.count)
                widen(&between, within.sum_s / within.count,
                      within.energies ? within.sum_j / within.energies : NAN);
        }
        for (size_t i = 0; i < m->count; i++)
            if (kw__same_run(&m->groups[m->list[i].group].request, request) &&
                strcmp(m->list[i].row->model, s->groups[g].model) == 0)
                widen(&between, m->list[i].latency_s, m->list[i].energy_j);
        add_repeat(v, NULL, request, &between);
    }
    return KW_OK;
}

/* ---- The H200 ------------------------------------------------------------------------------------ */

/* Whether an item is part of what a row timed: one forward of the transformer, the VAE's decode on the
 * device, the text encoder, or a pipeline whose text encoder did not run. */
static bool is_timed(const struct kw__workload *w, const struct kw__item *item, const char *what)
{
    const char *stage = w->stages[item->stage];
    if (strcmp(what, "pipeline") == 0) return strcmp(stage, "text_encode") != 0;
    if (strcmp(what, "forward") == 0)
        return strcmp(stage, "denoise") == 0 && strcmp(w->components[item->component], "solver") != 0;
    if (strcmp(what, "vae_decode") == 0)
        return strcmp(stage, "decode") == 0 && item->class != KW__CLASS_TRANSFER &&
               item->class != KW__CLASS_HOST;
    return strcmp(stage, what) == 0;
}

struct timed {
    const struct kw__samples *samples;
    const struct kw__sample *sample;
};

static kw_status price_part(const void *context, const double *theta, double *latency_s, double *energy_j,
                            kw_error *err)
{
    const struct timed *timed = context;
    const struct kw__samples *s = timed->samples;
    const struct kw__demand *demand = &s->groups[timed->sample->group];
    const struct kw__workload *w = demand->workload;
    struct kw__prices prices;
    kw_status status = kw__prices_of(s->priors, s->hardware, w, &demand->binding, 0, theta, &prices, err);
    if (status) return status;
    kw__price_items(w, &demand->binding, &prices, s->scratch);
    *latency_s = *energy_j = 0;
    for (size_t i = 0; i < w->num_items; i++) {
        if (!is_timed(w, &w->items[i], timed->sample->row->what)) continue;
        *latency_s += s->scratch[i].busy_s + s->scratch[i].gap_s;
        *energy_j += s->scratch[i].energy_j;
    }
    return KW_OK;
}

/* At the calibration as it stands. */
static kw_status estimate_part(const struct kw__samples *s, const struct kw__sample *sample,
                               struct kw__estimate *out, kw_error *err)
{
    const struct kw__calibration *c = s->priors;
    const struct timed timed = {s, sample};
    const double model_sd[KW__NUM_QUANTITIES] = {c->model_time_sd, c->model_energy_sd, c->model_power_sd};
    double theta[KW__MAX_FITTED] = {0}, session[KW__NUM_QUANTITIES];
    struct kw__gradient g;
    for (int j = 0; j < c->num_parameters; j++) theta[j] = c->parameters[j].log_value;
    kw_status status = kw__log_gradient(price_part, &timed, theta, c->num_parameters, &g, err);
    if (status) return status;
    kw__session_variances(c->session_time_sd, c->session_power_sd, session);
    *out = (struct kw__estimate){g.latency_s, g.energy_j, {0}};
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        out->sd[q] =
            sqrt(kw__quadratic_form(c->covariance[0], KW__MAX_PARAMETERS, c->num_parameters, g.of[q]) +
                 session[q] + model_sd[q] * model_sd[q]);
    return KW_OK;
}

kw_status kw__validate_h200(const kw_catalog *catalog, struct kw__validation *v, kw_error *err)
{
    kw_status status;
    (void)((status = kw__calibration_open(catalog, "diffusers-0.40@h200", &v->h200_priors, err)) ||
           (status = kw__stack_open(catalog, v->h200_priors->stack, &v->h200_stack, err)) ||
           (status = kw_hardware_open(catalog, v->h200_priors->hardware, &v->h200, err)) ||
           (status = kw__dataset_open(catalog, "h200_diffusers040", &v->micro, err)) ||
           (status = kw__samples_new(catalog, v->micro, v->h200_stack, v->h200_priors, v->h200,
                                     &v->h200_samples, err)));
    if (status) return status;
    const struct kw__samples *s = v->h200_samples;
    v->zero_rows = kw__arena_alloc(&v->arena, s->count, sizeof *v->zero_rows);
    if (!v->zero_rows) return kw__fail_memory(err);
    for (size_t i = 0; !status && i < s->count; i++) {
        struct kw__held_out *row = &v->zero_rows[v->num_zero_rows++];
        row->row = s->list[i].row;
        if (!row->row->what)
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: what is empty; name the part that was timed",
                            v->micro->path, row->row->line);
        for (int rung = 0; rung < KW__NUM_RUNGS; rung++)
            row->estimates[rung] = (struct kw__estimate){NAN, NAN, {NAN, NAN, NAN}};
        status = estimate_part(s, &s->list[i], &row->estimates[KW__KERNEL], err);
    }
    return status;
}
