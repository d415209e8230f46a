#include "model/family.h"
#include "predict/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/catalog.h"

/* ---- Parts ------------------------------------------------------------------------------------------ */

/* Whether an item is part of what a row timed: a stage, one forward of the transformer, the VAE's decode on
 * the device. */
static bool is_of(const struct kw__workload *w, const struct kw__item *item, const char *what, size_t length)
{
    const char *stage = w->stages[item->stage];
    if (length == strlen("forward") && strncmp(what, "forward", length) == 0)
        return strcmp(stage, "denoise") == 0 && strcmp(w->components[item->component], "solver") != 0;
    if (length == strlen("vae_decode") && strncmp(what, "vae_decode", length) == 0)
        return strcmp(stage, "decode") == 0 && item->class != KW__CLASS_TRANSFER &&
               item->class != KW__CLASS_HOST;
    return length == strlen(stage) && strncmp(what, stage, length) == 0;
}

/* Of several joined by '+'. */
static bool is_timed(const struct kw__workload *w, const struct kw__item *item, const char *what)
{
    for (; *what; what += *what == '+') {
        size_t length = strcspn(what, "+");
        if (is_of(w, item, what, length)) return true;
        what += length;
    }
    return false;
}

/* Bundles the items that count and sums their FLOPs. */
static kw_status take_part(struct kw__samples *s, struct kw__demand *out, kw_error *err)
{
    const struct kw__workload *w = out->workload;
    bool stages[KW__MAX_STAGES] = {false}, any = false;
    bool *timed = kw__arena_alloc(&s->arena, w->num_items, sizeof *timed);
    if (!timed) return kw__fail_memory(err);
    for (size_t i = 0; i < w->num_items; i++) {
        timed[i] = !out->what || is_timed(w, &w->items[i], out->what);
        if (timed[i]) any = stages[w->items[i].stage] = true;
    }
    for (int i = 0; i < w->num_stages; i++)
        if (!out->what || stages[i]) out->flop += w->stage_flop[i].flop;
    if (!any) return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s has no part called %s", out->model, out->what);
    return kw__bundle_items(w, &out->binding, timed, &s->arena, &out->bundles, err);
}

/* ---- Groups ----------------------------------------------------------------------------------------- */

/* But for the steps. */
static bool same_shape(const kw_effective *a, const kw_effective *b)
{
    kw_effective moved = *a;
    moved.num_inference_steps = b->num_inference_steps;
    return kw__same_run(&moved, b) && a->prompt_tokens == b->prompt_tokens &&
           a->negative_tokens == b->negative_tokens;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static kw_status count_request(struct kw__samples *s, const kw_model *model, const struct kw__stack *stack,
                               struct kw__demand *out, kw_error *err)
{
    double zero[KW__MAX_PARAMETERS] = {0};
    struct kw__prices prices;
    kw_status status = kw__workload_new(model, &out->request, stack, &out->workload, err);
    if (status) return status;
    s->workloads[s->num_workloads++] = out->workload;
    status = kw__bind_rates(out->workload, s->priors, &s->arena, &out->binding, err);
    if (status) return status;
    return kw__prices_of(s->priors, s->hardware, out->workload, &out->binding, 0, zero, &prices, err);
}

static kw_status group_of(struct kw__samples *s, const kw_model *model, const struct kw__stack *stack,
                          const struct kw__row *row, int *out, kw_error *err)
{
    kw_request request = kw__row_request(row);
    struct kw__demand new = {.model = row->model, .what = row->what, .shape = -1};
    const struct kw__demand *same_request = NULL;
    if (!row->what || strcmp(row->what, "pipeline") == 0) new.what = row->stages;
    kw_status status = kw_request_resolve(model, &request, &new.request, err);
    if (status) return status;
    for (size_t g = 0; g < s->num_groups; g++) {
        const struct kw__demand *known = &s->groups[g];
        if (strcmp(known->model, row->model) != 0 || !same_shape(&known->request, &new.request)) continue;
        bool run = kw__same_run(&known->request, &new.request);
        if (run) same_request = known;
        if (!same_text(known->what, new.what)) continue;
        new.shape = known->shape;
        *out = (int)g;
        if (run) return KW_OK;
    }
    if (same_request) {
        new.workload = same_request->workload;
        new.binding = same_request->binding;
    } else {
        status = count_request(s, model, stack, &new, err);
    }
    if (!status) status = take_part(s, &new, err);
    if (status) return status;
    new.closed_form = (!row->what || strcmp(row->what, "pipeline") == 0) &&
                      strcmp(row->model, "wan2.1-t2v-1.3b") == 0 && new.request.guidance_passes == 2 &&
                      new.request.batch_size == 1;
    if (new.shape < 0) new.shape = s->num_shapes++;
    *out = (int)s->num_groups++;
    s->groups[*out] = new;
    return KW_OK;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

/* Whether a row ran as the stack runs that pipeline. */
static kw_status check_way(const kw_model *model, const struct kw__stack *stack, const struct kw__row *row,
                           kw_error *err)
{
    const struct kw__keeping *keeping = kw__stack_keeping(stack, model->family->pipeline);
    if (row->offload && kw__offloaded(row->offload) != keeping->offload)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s offloading, and %s runs %s it",
                        keeping->offload ? "without" : "with", stack->name,
                        keeping->offload ? "with" : "without");
    /* what a run says is the dtype of the weights */
    enum kw__dtype dtype = kw__stack_dtypes(stack, model->family->pipeline)->vae;
    const char *own = kw__dtype_name(keeping->own_dtype ? keeping->dtype : dtype);
    if (!row->decoder_dtype || strcmp(row->decoder_dtype, own) == 0) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED, "the decoder ran in %s, and in %s it is %s",
                    row->decoder_dtype, stack->name, own);
}

static kw_status add_row(struct kw__samples *s, const kw_model *model, const struct kw__stack *stack,
                         const struct kw__row *row, int *sample_of, int *out, kw_error *err)
{
    struct kw__sample sample = {.row = row,
                                .session = -1,
                                .whole = row->whole < 0 ? -1 : sample_of[row->whole],
                                .share = 1,
                                .latency_s = row->latency_s,
                                .energy_j = row->energy_wh[KW_GPU] * 3600};
    double energy_sd = row->energy_sd_wh[KW_GPU] / row->energy_wh[KW_GPU];
    if (energy_sd > 0) sample.energy_log_sd = energy_sd;
    kw_error why;
    if (row->whole >= 0 && sample.whole < 0) return KW_OK; /* its pipeline was left out */
    kw_status status = check_way(model, stack, row, &why);
    if (!status) status = group_of(s, model, stack, row, &sample.group, &why);
    if (status == KW_ERROR_MEMORY) return kw__fail_memory(err);
    if (status) {
        kw__leave_out(&s->left_out, &s->arena, why.message);
        return KW_OK;
    }
    if (isnan(s->priors->busy_share.base)) sample.energy_j = NAN; /* the predictor has no power */
    sample.shape = s->groups[sample.group].shape;
    if (sample.whole < 0)
        s->num_wholes++;
    else
        s->list[sample.whole].has_parts = true;
    *out = (int)s->count;
    s->list[s->count++] = sample;
    return KW_OK;
}

static kw_status add_model(struct kw__samples *s, const kw_catalog *catalog, const char *name,
                           const struct kw__dataset *dataset, const struct kw__stack *stack, int *sample_of,
                           kw_error *err)
{
    kw_model *model;
    kw_status status = kw_model_open(catalog, name, &model, err);
    if (status) return status;
    for (size_t i = 0; !status && i < dataset->num_rows; i++)
        if (strcmp(dataset->rows[i].model, name) == 0)
            status = add_row(s, model, stack, &dataset->rows[i], sample_of, &sample_of[i], err);
    kw_model_close(model);
    return status;
}

/* A model that is a folder, or none that is known. */
static kw_status add_other(struct kw__samples *s, const kw_catalog *catalog, const struct kw__dataset *set,
                           size_t row, const struct kw__stack *stack, int *sample_of, kw_error *err)
{
    const char *name = set->rows[row].model;
    kw_error why;
    (void)kw__fail(&why, KW_OK, "there is no model %s", name);
    for (size_t i = 0; i < row; i++)
        if (strcmp(set->rows[i].model, name) == 0) return KW_OK; /* it was added with that one */
    if (strchr(name, '/')) {
        kw_status status = add_model(s, catalog, name, set, stack, sample_of, &why);
        if (status == KW_ERROR_MEMORY) return kw__fail_memory(err);
        if (!status) return KW_OK;
    }
    for (size_t i = row; i < set->num_rows; i++)
        if (strcmp(set->rows[i].model, name) == 0 && set->rows[i].whole < 0)
            kw__leave_out(&s->left_out, &s->arena, why.message);
    return KW_OK;
}

/* ---- Sessions --------------------------------------------------------------------------------------- */

static int by_session(const void *a, const void *b)
{
    const struct kw__sample *x = *(struct kw__sample *const *)a, *y = *(struct kw__sample *const *)b;
    int order = strcmp(x->row->session, y->row->session);
    return order ? order : x < y ? -1 : x > y;
}

/* How many wholes the session has that begins at sorted[from]; *to: where the next one begins. */
static size_t session_size(struct kw__sample *const *sorted, size_t count, size_t from, size_t *to)
{
    size_t wholes = 0;
    for (*to = from; *to < count && strcmp(sorted[*to]->row->session, sorted[from]->row->session) == 0; ++*to)
        wholes += sorted[*to]->whole < 0;
    return wholes;
}

/* Numbers the sessions that have several wholes in the order of their first rows; the largest if there are
 * too many, of equal ones the first by name. */
static kw_status number_sessions(struct kw__samples *s, kw_error *err)
{
    struct kw__sample **sorted = kw__arena_alloc(&s->arena, s->count, sizeof *sorted);
    size_t count = 0, least = 1, to, kept;
    if (!sorted) return kw__fail_memory(err);
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].row->session) sorted[count++] = &s->list[i];
    qsort(sorted, count, sizeof(struct kw__sample *), by_session);
    do {
        least++, kept = 0;
        for (size_t i = 0; i < count; i = to) kept += session_size(sorted, count, i, &to) >= least;
    } while (kept > KW__MAX_SESSIONS);
    size_t room = KW__MAX_SESSIONS - kept;
    for (size_t i = 0; i < count; i = to) {
        size_t size = session_size(sorted, count, i, &to);
        bool next = size > 1 && size + 1 == least && room > 0, known = size >= least || next;
        room -= next;
        for (size_t k = i; known && k < to; k++) sorted[k]->session = (int)(sorted[i] - s->list);
    }
    for (size_t i = 0; i < s->count; i++) { /* by now the session is that of its first sample */
        struct kw__sample *sample = &s->list[i];
        if (sample->session == (int)i) {
            s->sessions[s->num_sessions] = sample->row->session;
            sample->session = s->num_sessions++;
        } else if (sample->session >= 0) {
            sample->session = s->list[sample->session].session;
        }
    }
    return KW_OK;
}

/* ---- All of it -------------------------------------------------------------------------------------- */

/* By what the priors say, so that nothing measured decides on weights. */
static kw_status share_out(struct kw__samples *s, kw_error *err)
{
    double zero[KW__MAX_PARAMETERS] = {0}, energy_j;
    double *seconds = kw__arena_alloc(&s->arena, 2 * s->count, sizeof *seconds), *all = seconds + s->count;
    if (!seconds) return kw__fail_memory(err);
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__demand *d = &s->groups[s->list[i].group];
        struct kw__prices prices;
        if (s->list[i].whole < 0) continue;
        kw_status status =
            kw__prices_of(s->priors, s->hardware, d->workload, &d->binding, 0, zero, &prices, err);
        if (status) return status;
        kw__price_total(&d->bundles, &prices, &seconds[i], &energy_j);
        all[s->list[i].whole] += seconds[i];
    }
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].whole >= 0) s->list[i].share = seconds[i] / all[s->list[i].whole];
    return KW_OK;
}

static kw_status fill(struct kw__samples *s, const kw_catalog *catalog, const struct kw__dataset *dataset,
                      const struct kw__stack *stack, kw_error *err)
{
    kw_status status = KW_OK;
    s->list = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof *s->list);
    s->groups = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof *s->groups);
    s->workloads = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof(struct kw__workload *));
    int *sample_of = kw__arena_alloc(&s->arena, dataset->num_rows, sizeof *sample_of);
    if (s->arena.failed) return kw__fail_memory(err);
    for (size_t i = 0; i < dataset->num_rows; i++) sample_of[i] = -1;
    for (size_t m = 0; !status && m < kw_catalog_count(catalog, KW_MODELS); m++)
        status =
            add_model(s, catalog, kw_catalog_name(catalog, KW_MODELS, m), dataset, stack, sample_of, err);
    for (size_t i = 0; !status && i < dataset->num_rows; i++)
        if (!kw__catalog_has(catalog, KW_MODELS, dataset->rows[i].model))
            status = add_other(s, catalog, dataset, i, stack, sample_of, err);
    if (status) return status;
    if (!s->count)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s has no row of a model in the catalog%s%s",
                        dataset->path, s->left_out.count ? ": " : "",
                        s->left_out.count ? kw__most_left_out(&s->left_out) : "");
    status = number_sessions(s, err);
    return status ? status : share_out(s, err);
}

kw_status kw__samples_new(const kw_catalog *catalog, const struct kw__dataset *dataset,
                          const struct kw__stack *stack, const struct kw__calibration *priors,
                          const kw_hardware *hardware, struct kw__samples **out, kw_error *err)
{
    struct kw__samples *s = calloc(1, sizeof *s);
    if (!s) return kw__fail_memory(err);
    kw__arena_init(&s->arena);
    s->dataset = dataset;
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
    for (size_t i = 0; i < samples->num_workloads; i++) kw__workload_free(samples->workloads[i]);
    kw__arena_free(&samples->arena);
    free(samples);
}
