#include "predict/micro.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/error.h"
#include "base/time.h"
#include "engine/cpu/memory.h"
#include "engine/machine.h"
#include "engine/random.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/catalog.h"

enum { TEXT = 1, DENOISE = 2, DECODE = 4, MAX_ROUNDS = 60, MAX_PLANS = 32, NOISE = 1 << 18, NUM_IDS = 512 };

/* Two widths, and sizes a factor of about four apart; of each model what tells most first. None is a size
 * that bench/predict_vs_measured.sh compares at. */
const struct kw__micro_scene kw__micro_scenes[] = {
    {"wan2.1-t2v-nano", 112, 112, 5, 12, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 224, 128, 9, 30, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 288, 288, 17, 100, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-nano", 480, 320, 21, 300, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-1.3b", 128, 128, 5, 30, TEXT | DENOISE | DECODE},
    {"wan2.1-t2v-1.3b", 256, 256, 17, 120, TEXT | DENOISE},
};
enum { NUM_SCENES = sizeof kw__micro_scenes / sizeof kw__micro_scenes[0] };
const size_t kw__num_micro_scenes = NUM_SCENES;

const char *kw__micro_scene_name(size_t scene, char buffer[KW__MICRO_NAME])
{
    const struct kw__micro_scene *s = &kw__micro_scenes[scene];
    snprintf(buffer, KW__MICRO_NAME, "%s at %" PRId64 "x%" PRId64 "x%" PRId64, s->model, s->width, s->height,
             s->num_frames);
    return buffer;
}

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

/* ---- A thinned program ----------------------------------------------------------------------------- */

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

static bool same_results(const struct kw__graph *g, const struct kw__op *a, const struct kw__op *b)
{
    if (a->num_outputs != b->num_outputs) return false;
    for (int k = 0; k < a->num_outputs; k++) {
        const struct kw__value *x = &g->values[a->output[k]], *y = &g->values[b->output[k]];
        if (x->dtype != y->dtype || x->ndim != y->ndim) return false;
        if (memcmp(x->dim, y->dim, (size_t)x->ndim * sizeof x->dim[0]) != 0) return false;
    }
    return true;
}

/* Marks what is not run. Who reads its results reads those of an equal operator that is; without one they
 * become inputs. */
static void thin(struct kw__graph *g, struct kw__work *work)
{
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__op *op = &g->ops[i];
        const struct kw__op *twin = NULL;
        int equal = 0;
        for (size_t j = 0; j < i; j++) {
            if (g->ops[j].dead || g->ops[j].code != op->code || work[j].size != work[i].size ||
                work[j].flop != work[i].flop || work[j].main_bytes != work[i].main_bytes ||
                work[j].memory_bytes != work[i].memory_bytes || strcmp(work[j].key, work[i].key) != 0)
                continue;
            equal++;
            if (same_results(g, op, &g->ops[j])) twin = &g->ops[j];
        }
        op->dead = too_large(g, op) || (equal >= copies_of(&work[i]) && twin);
        for (int k = 0; op->dead && k < op->num_outputs; k++) {
            if (twin) {
                kw__replace_value(g, op->output[k], twin->output[k]);
                continue;
            }
            g->values[op->output[k]].kind = KW__INPUT;
            g->values[op->output[k]].producer = -1;
        }
    }
}

/* ---- Scenes ---------------------------------------------------------------------------------------- */

struct micro;

struct timed {
    struct micro *micro;
    struct kw__plan *plan;
    const struct kw__graph *graph;
    void **states;         /* of each value, in the memory that all share */
    struct kw__work *work; /* of each operator */
    double *times;         /* [operator][round] */
    double last;
    size_t rounds; /* less than MAX_ROUNDS */
    double state_bytes, fills[MAX_ROUNDS];
    double plan_s; /* of the last round */
    bool again;    /* of two passes the second is timed */
};

struct scene {
    const struct kw__micro_scene *shape;
    struct kw__program *program;
    struct kw__device *device;
    bool borrowed; /* the device is that of the scene before, and so are the weights */
    struct kw__work *work[KW__MAX_STAGES][KW__MAX_PHASES]; /* a plan's, once it is opened */
    struct timed plans[MAX_PLANS];
    size_t num_plans;
    double flop; /* of all phases, once each */
    double preparing_s, rehearsal_s;
};

/* The scenes of one model: open at once, to be run in turn. */
struct group {
    struct scene *scenes;
    size_t num_scenes;
    char *memory; /* states, then workspace, of each plan in turn */
    size_t memory_bytes, num_rounds;
    double rounds[MAX_ROUNDS], end; /* of the clock */
};

struct micro {
    const struct kw__stack *stack;
    const struct kw__micro_options *options;
    struct scene scenes[NUM_SCENES];
    size_t num_scenes;
    float noise[NOISE];
    uint16_t bf16_noise[NOISE];
    float ids[NUM_IDS];
    double begin, limit; /* of the clock */
    bool stopped, late;  /* the caller wants no more; the limit was passed */
};

/* Between any two operators or weights. */
static bool go_on(struct micro *m)
{
    double now = kw__monotonic_s(), done = (now - m->begin) / m->options->seconds;
    m->stopped = m->options->progress && !m->options->progress(m->options->user, fmin(1, done));
    m->late = now > m->limit;
    return !m->stopped && !m->late;
}

static kw_status lower(const kw_catalog *catalog, struct micro *m, size_t number, kw_error *err)
{
    const struct kw__micro_scene *scene = &kw__micro_scenes[number];
    struct scene *s = &m->scenes[m->num_scenes++];
    kw_model *model;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    s->shape = scene;
    request.width = scene->width;
    request.height = scene->height;
    request.num_frames = scene->num_frames;
    request.num_inference_steps = 2;
    request.prompt_tokens = scene->prompt_tokens;
    kw_status status = kw_model_open(catalog, scene->model, &model, err);
    if (status) return status;
    status = kw_request_resolve(model, &request, &r, err);
    if (!status)
        status = kw__lower(model, &r, kw__stack_dtypes(m->stack, model->family->pipeline), &s->program, err);
    kw_model_close(model);
    for (size_t i = 0; !status && i < m->stack->num_rewrites; i++)
        status = kw__rewrite_apply(s->program, m->stack->rewrites[i], err);
    for (int i = 0; !status && i < s->program->num_stages; i++)
        for (int p = 0; !status && p < s->program->stages[i].num_phases; p++) {
            struct kw__phase *phase = &s->program->stages[i].phases[p];
            struct kw__graph *g = phase->graph;
            if (!(scene->stages >> i & 1)) phase->calls = 0;
            if (phase->calls < 1) continue;
            struct kw__work *work = s->work[i][p] = calloc(g->num_ops + 1, sizeof *work);
            if (!work) return kw__fail_memory(err);
            for (size_t k = 0; k < g->num_ops; k++) kw__op_work(g, &g->ops[k], m->stack, &work[k]);
            thin(g, work);
            for (size_t k = 0; k < g->num_ops; k++)
                if (!g->ops[k].dead) s->flop += work[k].flop;
        }
    return status;
}

/* The scenes of a model, from `first` on. */
static struct group group_at(struct micro *m, size_t first)
{
    struct group g = {.scenes = &m->scenes[first]};
    while (first + g.num_scenes < m->num_scenes &&
           strcmp(g.scenes[g.num_scenes].shape->model, g.scenes->shape->model) == 0)
        g.num_scenes++;
    return g;
}

/* Weights are kept in layouts that suit a size's convolutions; without a decoder there are hardly any. */
static bool may_borrow(const struct group *g, size_t scene)
{
    return scene > 0 && !(g->scenes[scene].shape->stages & DECODE);
}

static kw_status check_memory(struct micro *m, kw_error *err)
{
    double most = 0, library = 0;
    for (size_t first = 0; first < m->num_scenes;) {
        struct group g = group_at(m, first);
        double weights = 0, largest = 0;
        for (size_t i = 0; i < g.num_scenes; i++) {
            struct kw__cpu_need need;
            kw_status status = kw__cpu_need(g.scenes[i].program, m->stack, &need, err);
            if (status) return status;
            if (!may_borrow(&g, i)) weights += need.weights;
            largest = fmax(largest, need.states + need.workspace);
            library += need.library; /* it keeps what it has made */
        }
        most = fmax(most, weights + largest);
        first += g.num_scenes;
    }
    double needed = most + library + m->stack->resident_extra_bytes;
    struct kw__machine_memory machine = kw__machine_memory();
    double limit = m->options->memory_limit_bytes > 0 ? m->options->memory_limit_bytes : machine.available;
    if (!(needed > limit)) return KW_OK;
    return kw__fail(err, KW_ERROR_MEMORY,
                    "calibrating needs %.2f GiB of memory and there are %.2f GiB available of %.2f GiB; "
                    "'kinowatt predict' goes on without a calibration of this machine",
                    needed / 0x1p30, limit / 0x1p30, machine.installed / 0x1p30);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static bool same_tensors(const struct kw__program *a, const struct kw__program *b)
{
    if (a->num_tensors != b->num_tensors) return false;
    for (size_t i = 0; i < a->num_tensors; i++) {
        const struct kw__tensor *x = &a->tensors[i], *y = &b->tensors[i];
        if (strcmp(x->component, y->component) != 0 || strcmp(x->name, y->name) != 0 || x->ndim != y->ndim ||
            memcmp(x->dim, y->dim, (size_t)x->ndim * sizeof x->dim[0]) != 0)
            return false;
    }
    return true;
}

struct watched {
    struct micro *micro;
    const struct kw__weights *weights;
};

static kw_status get_weight(void *self, const struct kw__tensor *tensor, enum kw__dtype wanted, void *out,
                            kw_error *err)
{
    const struct watched *w = self;
    if (!go_on(w->micro)) return kw__fail(err, KW_ERROR_CANCELLED, "calibrating was stopped");
    return w->weights->get(w->weights->self, tensor, wanted, out, err);
}

static size_t align(size_t bytes)
{
    return (bytes + KW__ALIGNMENT - 1) / KW__ALIGNMENT * KW__ALIGNMENT;
}

/* Returns the bytes that the plan needs of `memory`; binds it there unless that is NULL. */
static size_t place(struct timed *t, char *memory, kw_error *err)
{
    const struct kw__memory *planned = &t->plan->memory;
    size_t at = 0;
    for (size_t v = 1; v < t->graph->num_values; v++) {
        if (t->graph->values[v].kind != KW__STATE) continue;
        t->states[v] = memory ? memory + at : NULL;
        at += align(planned->storages[planned->storage[v]].bytes);
    }
    if (memory) (void)kw__backend_cpu.bind(t->plan, memory + at, t->states, err);
    return at + planned->workspace_bytes;
}

/* All plans are bound again when the memory has to grow. */
static kw_status make_room(struct group *g, struct timed *t, kw_error *err)
{
    struct kw__device *device = g->scenes->device; /* memory of the CPU is any device's */
    size_t bytes = place(t, NULL, err);
    if (bytes <= g->memory_bytes) {
        (void)place(t, g->memory, err);
        return KW_OK;
    }
    void *memory = NULL;
    if (g->memory) kw__backend_cpu.release(device, g->memory);
    g->memory = NULL;
    g->memory_bytes = 0;
    kw_status status = kw__backend_cpu.allocate(device, bytes, &memory, err);
    if (status) return status;
    g->memory = memory;
    g->memory_bytes = bytes;
    for (size_t i = 0; i < g->num_scenes; i++)
        for (size_t p = 0; p < g->scenes[i].num_plans; p++) (void)place(&g->scenes[i].plans[p], memory, err);
    return KW_OK;
}

static kw_status open_phase(struct micro *m, struct group *group, struct scene *s,
                            const struct kw__phase *phase, struct kw__work **work, kw_error *err)
{
    const struct kw__backend *backend = &kw__backend_cpu;
    const struct kw__graph *g = phase->graph;
    struct kw__weights weights;
    struct kw__plan *plan;
    if (!go_on(m)) return kw__fail(err, KW_ERROR_CANCELLED, "calibrating was stopped");
    kw_status status = backend->compile(s->device, phase, &plan, err);
    if (status) return status;
    struct timed *t = &s->plans[s->num_plans++];
    *t = (struct timed){.micro = m,
                        .plan = plan,
                        .graph = g,
                        .work = *work,
                        .states = calloc(g->num_values, sizeof *t->states),
                        .times = calloc(g->num_ops * MAX_ROUNDS + 1, sizeof *t->times)};
    *work = NULL;
    if (!t->states || !t->times) return kw__fail_memory(err);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE) t->state_bytes += kw__value_bytes(&g->values[v]);
    status = kw__weights_open("random", s->program, &weights, err);
    if (status) return status;
    struct watched watched = {m, &weights};
    status = backend->weights(plan, &(struct kw__weights){&watched, get_weight}, err);
    kw__weights_close(&weights);
    return status ? status : make_room(group, t, err);
}

static void close_plans(struct scene *s)
{
    for (size_t p = 0; p < s->num_plans; p++) {
        kw__backend_cpu.free_plan(s->plans[p].plan);
        free(s->plans[p].states);
        free(s->plans[p].work);
        free(s->plans[p].times);
    }
    s->num_plans = 0;
}

static void close_group(struct group *g)
{
    for (size_t i = 0; i < g->num_scenes; i++) close_plans(&g->scenes[i]);
    if (g->memory) kw__backend_cpu.release(g->scenes->device, g->memory);
    for (size_t i = 0; i < g->num_scenes; i++)
        if (g->scenes[i].device && !g->scenes[i].borrowed) kw__backend_cpu.close(g->scenes[i].device);
#ifdef __GLIBC__
    (void)malloc_trim(0); /* weights in pieces of a few MB stay in the heap otherwise */
#endif
}

/* ---- Timing ------------------------------------------------------------------------------------------ */

static bool after(void *user, struct kw__plan *plan, size_t i)
{
    struct timed *t = user;
    double now = kw__monotonic_s();
    (void)plan;
    t->times[i * MAX_ROUNDS + t->rounds] = now - t->last;
    bool on = go_on(t->micro);
    t->last = kw__monotonic_s();
    return on;
}

/* Products of constants take up to a fifth less on matrix units, so there is noise in inputs and states. A
 * count is that of the ids, all of which are read. */
static void fill_inputs(struct timed *t)
{
    const struct kw__graph *g = t->graph;
    int64_t ids = 1;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__INPUT && g->values[v].dtype == KW__I32 &&
            kw__elements(&g->values[v]) > ids)
            ids = kw__elements(&g->values[v]);
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT || t->plan->memory.storage[v] < 0) continue;
        size_t count = (size_t)fmin((double)kw__elements(value), NOISE);
        kw__backend_cpu.fill(t->plan, (int)v, value->dtype == KW__I32 ? (float)ids : 0.25f);
        if (value->dtype != KW__I32)
            kw__backend_cpu.write(t->plan, (int)v, t->micro->noise, count);
        else if (count > 1)
            kw__backend_cpu.write(t->plan, (int)v, t->micro->ids, (size_t)fmin((double)count, NUM_IDS));
    }
}

/* In whatever order its elements lie. */
static void fill_state(struct timed *t, size_t v)
{
    const struct kw__value *value = &t->graph->values[v];
    const bool bf16 = value->dtype == KW__BF16;
    const size_t bytes = (size_t)kw__value_bytes(value);
    const size_t all = bf16 ? sizeof t->micro->bf16_noise : sizeof t->micro->noise;
    const void *noise = bf16 ? (const void *)t->micro->bf16_noise : t->micro->noise;
    for (size_t at = 0; at < bytes; at += all)
        memcpy((char *)t->states[v] + at, noise, bytes - at < all ? bytes - at : all);
}

/* Once for the caches, if that matters, then timed; what a whole run does once is timed as it comes, after
 * all the others, with its weights out of the caches. */
static kw_status run_plan(struct timed *t, double *spent, kw_error *err)
{
    const struct kw__graph *g = t->graph;
    fill_inputs(t);
    double begin = kw__monotonic_s();
    kw_status status = KW_OK;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE) kw__backend_cpu.fill(t->plan, (int)v, 0.0f);
    t->fills[t->rounds] = kw__monotonic_s() - begin;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE && g->values[v].dtype != KW__I32) fill_state(t, v);
    for (int pass = 0; !status && pass < (t->again ? 2 : 1); pass++) {
        t->last = kw__monotonic_s();
        status = kw__backend_cpu.run(t->plan, 0, after, t, err);
    }
    if (!status && t->rounds < MAX_ROUNDS - 1) t->rounds++; /* the last place is written over then */
    *spent += kw__monotonic_s() - begin;
    return status;
}

/* What a whole run repeats finds its memory in the caches, if it fits there; where all that it moves would
 * take a small part of its time from memory too, that does not matter. */
static bool wants_caches(const struct timed *t)
{
    const double larger_than_caches = 128e6, bytes_per_s = 10e9, small = 0.05;
    double seconds = 0, bytes = 0;
    for (size_t k = 0; k < t->graph->num_ops; k++) {
        if (t->graph->ops[k].dead) continue;
        seconds += t->times[k * MAX_ROUNDS];
        bytes += t->work[k].main_bytes + t->work[k].memory_bytes;
    }
    return t->plan->phase->calls > 1 && (double)t->plan->memory.workspace_bytes < larger_than_caches &&
           bytes / bytes_per_s > small * seconds;
}

/* What a whole run does once and takes a hundredth of a plan, as the text encoder does, is run once more
 * after it: that costs nothing, and tells what is undisturbed. */
static kw_status run_scene(struct scene *s, double *spent, kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t p = 0; !status && p < s->num_plans; p++) {
        struct timed *t = &s->plans[p];
        double before = *spent;
        status = run_plan(t, spent, err);
        t->plan_s = *spent - before;
        for (size_t q = 0; !status && q < p; q++)
            if (s->plans[q].plan_s < 0.01 * t->plan_s && s->plans[q].plan->phase->calls == 1)
                status = run_plan(&s->plans[q], spent, err);
    }
    return status;
}

/* Prepares a scene and rehearses it. */
static kw_status open_scene(struct micro *m, struct group *g, size_t scene, kw_error *err)
{
    struct scene *s = &g->scenes[scene];
    double begin = kw__monotonic_s();
    kw_status status = KW_OK;
    s->borrowed = may_borrow(g, scene) && same_tensors(s[-1].program, s->program);
    if (s->borrowed)
        s->device = s[-1].device;
    else
        status = kw__backend_cpu.open(NULL, &s->device, err);
    for (int i = 0; !status && i < s->program->num_stages; i++)
        for (int p = 0; !status && p < s->program->stages[i].num_phases; p++)
            if (s->program->stages[i].phases[p].calls > 0 && s->num_plans < MAX_PLANS)
                status = open_phase(m, g, s, &s->program->stages[i].phases[p], &s->work[i][p], err);
    s->preparing_s = kw__monotonic_s() - begin;
    if (!status) status = run_scene(s, &s->rehearsal_s, err);
    for (size_t p = 0; !status && p < s->num_plans; p++) s->plans[p].again = wants_caches(&s->plans[p]);
    return status;
}

/* Whether a scene could be prepared, rehearsed and run often enough with all before it, were it as fast for
 * each FLOP as the one before. */
static bool time_for(const struct group *g, size_t scene)
{
    const struct scene *s = &g->scenes[scene];
    if (scene == 0) return true; /* nothing is known */
    if (!s[-1].num_plans) return false;
    double expected = s[-1].rehearsal_s * s->flop / s[-1].flop, round = expected;
    for (size_t i = 0; i < scene; i++) round += g->scenes[i].rehearsal_s;
    return kw__monotonic_s() + s[-1].preparing_s + expected + KW__MICRO_FEW * round < g->end;
}

/* What takes too long is left out, so that there is time to repeat the rest. */
static kw_status open_group(struct micro *m, struct group *g, unsigned *left_out, kw_error *err)
{
    const double for_opening = 0.9; /* of the model's time; the very first scene may take all there is */
    double now = kw__monotonic_s();
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < g->num_scenes; i++) {
        struct scene *s = &g->scenes[i];
        m->limit = now + for_opening * (g->end - now);
        if (s == m->scenes) m->limit = m->begin + m->options->seconds;
        status = time_for(g, i) ? open_scene(m, g, i, err) : KW_ERROR_CANCELLED;
        if (status != KW_ERROR_CANCELLED || m->stopped) continue;
        close_plans(s);
        *left_out |= 1u << (s->shape - kw__micro_scenes);
        status = KW_OK;
    }
    return status;
}

static kw_status run_rounds(struct micro *m, struct group *g, kw_error *err)
{
    kw_status status = KW_OK;
    m->limit = g->end;
    m->late = false;
    while (!status && g->num_rounds < MAX_ROUNDS - 1) { /* a rehearsal came before */
        double spent = 0;
        for (size_t i = 0; !status && i < g->num_scenes; i++) status = run_scene(&g->scenes[i], &spent, err);
        if (!status && !(spent > 0)) break; /* nothing is open */
        if (!status) g->rounds[g->num_rounds++] = spent;
    }
    return status == KW_ERROR_CANCELLED && !m->stopped ? KW_OK : status;
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

/* The rehearsal found weights in caches that were just written: it counts when there is nothing else. */
static kw_status collect_plan(struct timed *t, struct kw__micro_samples *out, size_t *all,
                              size_t *undisturbed, kw_error *err)
{
    size_t first = t->rounds > 1, count = t->rounds - first;
    kw_status status = KW_OK;
    for (size_t k = 0; !status && k < t->graph->num_ops; k++) {
        if (t->graph->ops[k].dead || !t->work[k].key[0] || t->work[k].launches == 0) continue;
        status = add_sample(out, &t->work[k], t->times + k * MAX_ROUNDS + first, count, undisturbed, err);
        *all += count;
    }
    struct kw__work fill = {
        .key = KW__FILL_KEY, .size = t->state_bytes, .memory_bytes = t->state_bytes, .launches = 1};
    if (status || !(t->state_bytes > 0)) return status;
    *all += count;
    return add_sample(out, &fill, t->fills + first, count, undisturbed, err);
}

static double log_sd(const double *times, size_t count)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) sum += log(times[i]);
    for (size_t i = 0; i < count; i++) squares += pow(log(times[i]) - sum / (double)count, 2);
    return sqrt(squares / (double)(count - 1));
}

static kw_status collect(struct group *g, struct kw__micro_samples *out, size_t *all, size_t *undisturbed,
                         kw_error *err)
{
    double drift = 0.1; /* unless the rounds tell: a judgement */
    size_t kept;
    bool any = false;
    kw_status status = KW_OK;
    for (size_t i = 0; i < g->num_scenes; i++)
        for (size_t p = 0; p < g->scenes[i].num_plans && !status; p++, any = true)
            status = collect_plan(&g->scenes[i].plans[p], out, all, undisturbed, err);
    if (g->num_rounds > 1) out->spread = fmax(out->spread, log_sd(g->rounds, g->num_rounds));
    if (g->num_rounds >= KW__MICRO_FEW) kw__undisturbed(g->rounds, g->num_rounds, &drift, &kept);
    if (any && g->num_rounds < out->rounds) out->rounds = g->num_rounds;
    if (any) out->drift = fmax(out->drift, drift);
    return status;
}

/* The models share the time that is left equally. */
static kw_status run_groups(struct micro *m, struct kw__micro_samples *out, kw_error *err)
{
    size_t all = 0, undisturbed = 0, groups = 0;
    double end = m->begin + m->options->seconds, others_s = kw__machine_others_s();
    kw_status status = KW_OK;
    out->spread = NAN;
    out->rounds = MAX_ROUNDS;
    for (size_t first = 0; first < m->num_scenes; first += group_at(m, first).num_scenes) groups++;
    for (size_t first = 0; !status && first < m->num_scenes;) {
        struct group g = group_at(m, first);
        double now = kw__monotonic_s();
        g.end = now + (end - now) / (double)groups--;
        status = open_group(m, &g, &out->left_out, err);
        if (!status) status = run_rounds(m, &g, err);
        if (!status) status = collect(&g, out, &all, &undisturbed, err);
        close_group(&g);
        first += g.num_scenes;
    }
    others_s = kw__machine_others_s() - others_s;
    out->other_cores = isnan(others_s) ? NAN : fmax(0, others_s / (kw__monotonic_s() - m->begin));
    out->disturbed = all ? 1 - (double)undisturbed / (double)all : 0;
    if (m->stopped) return kw__fail(err, KW_ERROR_CANCELLED, "calibrating was stopped");
    if (!status && !out->count)
        return kw__fail(err, KW_ERROR_CANCELLED,
                        "%g s are too few to time anything on this machine as busy as it is; give it more",
                        m->options->seconds);
    return status;
}

static void make_noise(struct micro *m)
{
    const struct kw__random stream = kw__random_stream("noise", "calibrate", 0);
    kw__random_fill(&stream, 0, KW__RANDOM_UNIT, 0, NOISE, m->noise);
    for (size_t i = 0; i < NOISE; i++) {
        uint32_t bits;
        memcpy(&bits, &m->noise[i], sizeof bits);
        m->bf16_noise[i] = (uint16_t)(bits >> 16);
    }
    for (int i = 0; i < NUM_IDS; i++) m->ids[i] = (float)(1 + i % 200); /* any vocabulary has them */
}

kw_status kw__micro_run(const kw_catalog *catalog, const struct kw__stack *stack,
                        const struct kw__micro_options *options, struct kw__micro_samples *out, kw_error *err)
{
    struct micro *m = calloc(1, sizeof *m);
    if (!m) return kw__fail_memory(err);
    m->stack = stack;
    m->options = options;
    make_noise(m);
    m->begin = kw__monotonic_s();
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < NUM_SCENES; i++)
        if (kw__catalog_has(catalog, KW_MODELS, kw__micro_scenes[i].model))
            status = lower(catalog, m, i, err);
    if (!status && !m->num_scenes)
        status = kw__fail(err, KW_ERROR_NOT_FOUND,
                          "the data folder has none of the models that are calibrated with");
    if (!status) status = check_memory(m, err);
    if (!status) status = run_groups(m, out, err);
    for (size_t i = 0; i < m->num_scenes; i++) {
        struct scene *s = &m->scenes[i];
        for (int k = 0; k < KW__MAX_STAGES * KW__MAX_PHASES; k++)
            free(s->work[k / KW__MAX_PHASES][k % KW__MAX_PHASES]);
        kw__program_free(s->program);
    }
    free(m);
    return status;
}
