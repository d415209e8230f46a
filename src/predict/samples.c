#include "predict/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/catalog.h"

static kw_status session_of(struct kw__samples *s, const char *name, int *out, kw_error *err)
{
    *out = -1;
    if (!name) return KW_OK;
    for (*out = 0; *out < s->num_sessions; ++*out)
        if (strcmp(s->sessions[*out], name) == 0) return KW_OK;
    if (s->num_sessions == KW__MAX_SESSIONS)
        return kw__fail(err, KW_ERROR_FORMAT, "more than %d sweeps", KW__MAX_SESSIONS);
    s->sessions[s->num_sessions++] = name;
    return KW_OK;
}

/* But for the steps. */
static bool same_shape(const kw_effective *a, const kw_effective *b)
{
    kw_effective moved = *a;
    moved.num_inference_steps = b->num_inference_steps;
    return kw__same_run(&moved, b);
}

static kw_status count_demand(struct kw__samples *s, const kw_model *model, const struct kw__stack *stack,
                              const kw_effective *request, struct kw__demand *out, kw_error *err)
{
    double zero[KW__MAX_PARAMETERS] = {0};
    struct kw__prices prices;
    out->request = *request;
    kw_status status = kw__workload_new(model, request, stack, &out->workload, err);
    if (!status) status = kw__bind_rates(out->workload, s->priors, &s->arena, &out->binding, err);
    if (!status)
        status = kw__prices_of(s->priors, s->hardware, out->workload, &out->binding, 0, zero, &prices, err);
    if (status) return status;
    for (int i = 0; i < out->workload->num_stages; i++) out->flop += out->workload->stage_flop[i].flop;
    if (out->workload->num_items > s->largest) s->largest = out->workload->num_items;
    return KW_OK;
}

static kw_status group_of(struct kw__samples *s, const kw_model *model, const struct kw__stack *stack,
                          const struct kw__row *row, int *out, kw_error *err)
{
    kw_request request = kw__row_request(row);
    kw_effective effective;
    kw_status status = kw_request_resolve(model, &request, &effective, err);
    if (status) return status;
    int shape = -1;
    for (size_t g = 0; g < s->num_groups; g++) {
        const struct kw__demand *known = &s->groups[g];
        if (strcmp(known->model, row->model) != 0 || !same_shape(&known->request, &effective)) continue;
        shape = known->shape;
        *out = (int)g;
        if (kw__same_run(&known->request, &effective)) return KW_OK;
    }
    *out = (int)s->num_groups++;
    struct kw__demand *demand = &s->groups[*out];
    demand->model = row->model;
    demand->shape = shape >= 0 ? shape : s->num_shapes++;
    return count_demand(s, model, stack, &effective, demand, err);
}

static kw_status add_model(struct kw__samples *s, const kw_catalog *catalog, const char *slug,
                           const struct kw__dataset *dataset, const struct kw__stack *stack, kw_error *err)
{
    kw_model *model;
    kw_status status = kw_model_open(catalog, slug, &model, err);
    if (status) return status;
    for (size_t i = 0; !status && i < dataset->num_rows; i++) {
        const struct kw__row *row = &dataset->rows[i];
        if (strcmp(row->model, slug) != 0) continue;
        struct kw__sample sample = {
            .row = row, .latency_s = row->latency_s, .energy_j = row->energy_wh[KW_GPU] * 3600};
        status = session_of(s, row->sweep, &sample.session, err);
        if (!status) status = group_of(s, model, stack, row, &sample.group, err);
        if (status) break;
        sample.shape = s->groups[sample.group].shape;
        s->list[s->count++] = sample;
    }
    kw_model_close(model);
    return status;
}

static kw_status fill(struct kw__samples *s, const kw_catalog *catalog, const struct kw__dataset *dataset,
                      const struct kw__stack *stack, kw_error *err)
{
    s->list = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof *s->list);
    s->groups = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof *s->groups);
    if (s->arena.failed) return kw__fail_memory(err);
    for (size_t m = 0; m < kw_catalog_count(catalog, KW_MODELS); m++) {
        kw_status status = add_model(s, catalog, kw_catalog_name(catalog, KW_MODELS, m), dataset, stack, err);
        if (status) return status;
    }
    if (!s->count)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s has no row of a model in the catalog", dataset->path);
    s->scratch = kw__arena_alloc(&s->arena, s->largest, sizeof *s->scratch);
    return s->arena.failed ? kw__fail_memory(err) : KW_OK;
}

kw_status kw__samples_new(const kw_catalog *catalog, const struct kw__dataset *dataset,
                          const struct kw__stack *stack, const struct kw__calibration *priors,
                          const kw_hardware *hardware, struct kw__samples **out, kw_error *err)
{
    struct kw__samples *s = calloc(1, sizeof *s);
    if (!s) return kw__fail_memory(err);
    kw__arena_init(&s->arena);
    s->priors = priors;
    s->hardware = hardware;
    kw_status status = fill(s, catalog, dataset, stack, err);
    if (status)
        kw__samples_free(s);
    else
        *out = s;
    return status;
}

void kw__samples_free(struct kw__samples *samples)
{
    if (!samples) return;
    for (size_t i = 0; i < samples->num_groups; i++) kw__workload_free(samples->groups[i].workload);
    kw__arena_free(&samples->arena);
    free(samples);
}
