#include "predict/micro.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/time.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/catalog.h"

enum { TEXT = 1, DENOISE = 2, DECODE = 4, MAX_ROUNDS = 60, MAX_PLANS = 32 };

/* Two widths, and sizes a factor of about four apart. None is a size that bench/predict_vs_measured.sh
 * compares at. */
const struct kw__micro_scene kw__micro_scenes[] = {
    {"wan2.1-t2v-nano", 112, 112, 5, 12, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 224, 128, 9, 30, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 288, 288, 17, 100, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 512, 384, 21, 300, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-1.3b", 128, 128, 5, 30, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-1.3b", 256, 256, 17, 120, TEXT | DENOISE},
};
const size_t kw__num_micro_scenes = sizeof kw__micro_scenes / sizeof kw__micro_scenes[0];

void kw__micro_free(struct kw__micro_samples *samples)
{
    free(samples->list);
    *samples = (struct kw__micro_samples){0};
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double kw__undisturbed(double *times, size_t count, double *log_sd, size_t *kept)
{
    qsort(times, count, sizeof *times, ascending);
    double limit = 1.3 * times[count / 20], sum = 0, squares = 0;
    size_t n = 0;
    for (; n < count && times[n] <= limit; n++) {
        double log_time = log(times[n] / times[0]);
        sum += log_time;
        squares += log_time * log_time;
    }
    double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
    *log_sd = variance > 0 ? sqrt(variance) : 0;
    *kept = n;
    return n % 2 ? times[n / 2] : 0.5 * (times[n / 2 - 1] + times[n / 2]);
}

/* ---- A thinned phase ------------------------------------------------------------------------------- */

struct timed {
    struct kw__plan *plan;
    const struct kw__graph *graph;
    void *workspace, **states;
    struct kw__work *work; /* of each operator */
    double *times;         /* [operator][round] */
    double last;
    size_t rounds;
    double state_bytes, fills[MAX_ROUNDS];
};

struct scene {
    struct kw__program *program;
    struct kw__device *device;
    struct timed plans[MAX_PLANS];
    size_t num_plans;
};

struct micro {
    const struct kw__stack *stack;
    struct scene *scenes;
    size_t num_scenes;
    double rounds[MAX_ROUNDS];
};

/* As many of equal operators as fill the caches of a few cores, so that each finds its weights where
 * it finds them in a whole run. */
static int copies_of(const struct kw__work *work)
{
    const double enough_bytes = 8e6;
    double copies = enough_bytes / (work->main_bytes + work->memory_bytes + 1);
    return copies > 32 ? 32 : copies < 1 ? 1 : (int)copies;
}

/* A weight that takes longer to make than its operator is worth. */
static bool too_large(const struct kw__graph *g, const struct kw__op *op)
{
    for (int k = 0; k < op->num_inputs; k++)
        if (op->input[k] && g->values[op->input[k]].kind == KW__WEIGHT &&
            kw__value_bytes(&g->values[op->input[k]]) > 256e6)
            return true;
    return false;
}

/* Marks what is not run; its results that others read become inputs. */
static void thin(struct kw__graph *g, struct kw__work *work)
{
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__op *op = &g->ops[i];
        int equal = 0;
        for (size_t j = 0; j < i; j++)
            equal += !g->ops[j].dead && g->ops[j].code == op->code && work[j].size == work[i].size &&
                     work[j].flop == work[i].flop && work[j].main_bytes == work[i].main_bytes &&
                     work[j].memory_bytes == work[i].memory_bytes && strcmp(work[j].key, work[i].key) == 0;
        bool becomes_state = false; /* what moves a state on must stay */
        for (size_t v = 1; v < g->num_values; v++)
            for (int k = 0; k < op->num_outputs; k++)
                becomes_state |= g->values[v].kind == KW__STATE && g->values[v].next == op->output[k];
        op->dead = too_large(g, op) || (equal >= copies_of(&work[i]) && !becomes_state);
        for (int k = 0; op->dead && k < op->num_outputs; k++) {
            struct kw__value *y = &g->values[op->output[k]];
            y->kind = KW__INPUT;
            y->producer = -1;
        }
    }
}

static void free_timed(struct timed *t, const struct kw__backend *backend, struct kw__device *device)
{
    backend->free_plan(t->plan);
    for (size_t v = 1; t->states && v < t->graph->num_values; v++)
        if (t->states[v]) backend->release(device, t->states[v]);
    if (t->workspace) backend->release(device, t->workspace);
    free(t->states);
    free(t->work);
    free(t->times);
}

static kw_status allocate(struct timed *t, struct kw__device *device, kw_error *err)
{
    const struct kw__backend *backend = &kw__backend_cpu;
    size_t bytes = t->plan->memory.workspace_bytes;
    kw_status status = backend->allocate(device, bytes, &t->workspace, err);
    if (!status) memset(t->workspace, 0, bytes);
    t->states = calloc(t->graph->num_values, sizeof *t->states);
    t->times = calloc(t->graph->num_ops * MAX_ROUNDS + 1, sizeof *t->times);
    if (!status && (!t->states || !t->times)) status = kw__fail_memory(err);
    for (size_t v = 1; !status && v < t->graph->num_values; v++)
        if (t->graph->values[v].kind == KW__STATE) {
            t->state_bytes += kw__value_bytes(&t->graph->values[v]);
            status = backend->allocate(device, t->plan->memory.storages[t->plan->memory.storage[v]].bytes,
                                       &t->states[v], err);
        }
    return status;
}

static kw_status open_phase(struct micro *m, struct scene *s, struct kw__phase *phase, kw_error *err)
{
    const struct kw__backend *backend = &kw__backend_cpu;
    if (phase->calls < 1 || s->num_plans == MAX_PLANS) return KW_OK;
    struct timed *t = &s->plans[s->num_plans++];
    struct kw__graph *g = phase->graph;
    t->graph = g;
    t->work = calloc(g->num_ops + 1, sizeof *t->work);
    if (!t->work) return kw__fail_memory(err);
    for (size_t i = 0; i < g->num_ops; i++) kw__op_work(g, &g->ops[i], m->stack, &t->work[i]);
    thin(g, t->work);
    struct kw__weights weights;
    kw_status status = kw__weights_open("random:0:constant", s->program, &weights, err);
    if (status) return status;
    status = backend->compile(s->device, phase, &t->plan, err);
    if (!status) status = backend->weights(t->plan, &weights, err);
    kw__weights_close(&weights);
    if (!status) status = allocate(t, s->device, err);
    if (!status) status = backend->bind(t->plan, t->workspace, t->states, err);
    for (size_t v = 1; !status && v < g->num_values; v++)
        if ((g->values[v].kind == KW__INPUT || g->values[v].kind == KW__STATE) &&
            t->plan->memory.storage[v] >= 0)
            backend->fill(t->plan, (int)v, g->values[v].dtype == KW__I32 ? 1.0f : 0.25f);
    return status;
}

static kw_status open_scene(const kw_catalog *catalog, struct micro *m, const struct kw__micro_scene *scene,
                            kw_error *err)
{
    struct scene *s = &m->scenes[m->num_scenes++];
    kw_model *model;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    request.width = scene->width;
    request.height = scene->height;
    request.num_frames = scene->num_frames;
    request.num_inference_steps = 2;
    request.prompt_tokens = scene->prompt_tokens;
    kw_status status = kw_model_open(catalog, scene->model, &model, err);
    if (status) return status;
    status = kw_request_resolve(model, &request, &r, err);
    if (!status) status = kw__lower(model, &r, &m->stack->dtypes, &s->program, err);
    kw_model_close(model);
    for (size_t i = 0; !status && i < m->stack->num_rewrites; i++)
        status = kw__rewrite_apply(s->program, m->stack->rewrites[i], err);
    if (!status) status = kw__backend_cpu.open(NULL, &s->device, err);
    for (int stage = 0; !status && stage < s->program->num_stages; stage++)
        for (int p = 0; !status && (scene->stages >> stage & 1) && p < s->program->stages[stage].num_phases;
             p++)
            status = open_phase(m, s, &s->program->stages[stage].phases[p], err);
    return status;
}

static void close_all(struct micro *m)
{
    for (size_t i = 0; i < m->num_scenes; i++) {
        struct scene *s = &m->scenes[i];
        for (size_t p = 0; p < s->num_plans; p++) free_timed(&s->plans[p], &kw__backend_cpu, s->device);
        if (s->device) kw__backend_cpu.close(s->device);
        kw__program_free(s->program);
    }
    free(m->scenes);
}

/* ---- Timing ------------------------------------------------------------------------------------------ */

static bool after(void *user, struct kw__plan *plan, size_t i)
{
    struct timed *t = user;
    double now = kw__monotonic_s();
    (void)plan;
    t->times[i * MAX_ROUNDS + t->rounds] = now - t->last;
    t->last = kw__monotonic_s();
    return true;
}

/* What a whole run repeats is run once for the caches, then timed; what it runs once is timed as it comes,
 * after all the others, with its weights out of the caches. */
static kw_status run_plan(struct timed *t, double *spent, kw_error *err)
{
    double begin = kw__monotonic_s();
    kw_status status = KW_OK;
    for (size_t v = 1; v < t->graph->num_values; v++)
        if (t->states[v]) kw__backend_cpu.fill(t->plan, (int)v, 0.0f);
    t->fills[t->rounds] = kw__monotonic_s() - begin;
    for (int64_t pass = 0; !status && pass < (t->plan->phase->calls > 1 ? 2 : 1); pass++) {
        t->last = kw__monotonic_s();
        status = kw__backend_cpu.run(t->plan, 0, after, t, err);
    }
    if (!status) t->rounds++;
    *spent += kw__monotonic_s() - begin;
    return status;
}

static kw_status run_rounds(struct micro *m, const struct kw__micro_options *options, size_t *rounds,
                            kw_error *err)
{
    enum { LEAST = 3 };
    double begin = kw__monotonic_s(), now = begin;
    kw_status status = KW_OK;
    for (*rounds = 0; !status && *rounds < MAX_ROUNDS; ++*rounds) {
        if (*rounds >= LEAST && now > begin + options->seconds) break;
        double spent = 0;
        for (size_t i = 0; !status && i < m->num_scenes; i++)
            for (size_t p = 0; !status && p < m->scenes[i].num_plans; p++)
                status = run_plan(&m->scenes[i].plans[p], &spent, err);
        m->rounds[*rounds] = spent;
        now = kw__monotonic_s();
        double done = fmin(1, fmin((now - begin) / options->seconds, (double)(*rounds + 1) / LEAST));
        if (!status && options->progress && !options->progress(options->user, 0.4 + 0.6 * done))
            status = kw__fail(err, KW_ERROR_CANCELLED, "calibrating was stopped");
    }
    return status;
}

static kw_status add_sample(struct kw__micro_samples *out, const struct kw__work *work, double *times,
                            size_t count, size_t *undisturbed, kw_error *err)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity ? 2 * out->capacity : 256;
        struct kw__micro_sample *list = realloc(out->list, capacity * sizeof *list);
        if (!list) return kw__fail_memory(err);
        out->list = list;
        out->capacity = capacity;
    }
    struct kw__micro_sample *s = &out->list[out->count++];
    size_t kept;
    s->work = *work;
    s->seconds = kw__undisturbed(times, count, &s->log_sd, &kept);
    *undisturbed += kept;
    return KW_OK;
}

static kw_status collect_plan(struct timed *t, struct kw__micro_samples *out, size_t *all,
                              size_t *undisturbed, kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t k = 0; !status && k < t->graph->num_ops; k++) {
        if (t->graph->ops[k].dead || !t->work[k].key[0] || t->work[k].launches == 0) continue;
        status = add_sample(out, &t->work[k], t->times + k * MAX_ROUNDS, t->rounds, undisturbed, err);
        *all += t->rounds;
    }
    struct kw__work fill = {
        .key = KW__FILL_KEY, .size = t->state_bytes, .memory_bytes = t->state_bytes, .launches = 1};
    if (status || !(t->state_bytes > 0)) return status;
    *all += t->rounds;
    return add_sample(out, &fill, t->fills, t->rounds, undisturbed, err);
}

static kw_status collect(struct micro *m, struct kw__micro_samples *out, kw_error *err)
{
    size_t all = 0, undisturbed = 0;
    kw_status status = KW_OK;
    for (size_t i = 0; i < m->num_scenes; i++)
        for (size_t p = 0; !status && p < m->scenes[i].num_plans; p++)
            status = collect_plan(&m->scenes[i].plans[p], out, &all, &undisturbed, err);
    out->disturbed = all ? 1 - (double)undisturbed / (double)all : 0;
    return status;
}

kw_status kw__micro_run(const kw_catalog *catalog, const struct kw__stack *stack,
                        const struct kw__micro_options *options, struct kw__micro_samples *out, kw_error *err)
{
    struct micro m = {.stack = stack, .scenes = calloc(kw__num_micro_scenes, sizeof *m.scenes)};
    if (!m.scenes) return kw__fail_memory(err);
    kw_status status = KW_OK;
    size_t rounds = 0, kept;
    for (size_t i = 0; !status && i < kw__num_micro_scenes; i++) {
        if (!kw__catalog_has(catalog, KW_MODELS, kw__micro_scenes[i].model)) continue;
        status = open_scene(catalog, &m, &kw__micro_scenes[i], err);
        if (!status && options->progress &&
            !options->progress(options->user, 0.4 * (double)(i + 1) / (double)kw__num_micro_scenes))
            status = kw__fail(err, KW_ERROR_CANCELLED, "calibrating was stopped");
    }
    if (!status && !m.num_scenes)
        status = kw__fail(err, KW_ERROR_NOT_FOUND,
                          "the data folder has none of the models that are calibrated with");
    if (!status) status = run_rounds(&m, options, &rounds, err);
    if (!status) {
        kw__undisturbed(m.rounds, rounds, &out->drift, &kept);
        status = collect(&m, out, err);
    }
    close_all(&m);
    return status;
}
