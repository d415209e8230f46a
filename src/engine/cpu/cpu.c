#define _DEFAULT_SOURCE /* madvise */
#include "engine/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/error.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/vec.h"

/* ---- Shared --------------------------------------------------------------------------------------- */

void *kw__cpu_allocate(size_t bytes)
{
    enum { HUGE = 2 << 20 };
    bool large = bytes >= 2 * (size_t)HUGE;
    void *memory = NULL;
    if (posix_memalign(&memory, large ? HUGE : KW__ALIGNMENT, bytes ? bytes : KW__ALIGNMENT)) return NULL;
#ifdef MADV_HUGEPAGE
    /* a forward reads each weight once: with small pages a tenth of it is spent looking them up */
    if (large) (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void *kw__cpu_at(const void *array, enum kw__dtype dtype, int64_t element)
{
    return (char *)array + element * (int64_t)kw__dtype_bytes(dtype);
}

int kw__cpu_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

void kw__cpu_parallel(const struct kw__device *device, int64_t count, int64_t grain, kw__cpu_body *body,
                      void *argument)
{
#ifdef _OPENMP
    int64_t piece = count / (8 * device->threads), next = 0;
    if (piece < grain) piece = grain;
    if (count > piece && device->threads > 1) { /* whoever is free takes the next piece */
#pragma omp parallel num_threads(device->threads)
        for (;;) {
            int64_t from;
#pragma omp atomic capture
            {
                from = next;
                next += piece;
            }
            if (from >= count) break;
            body(argument, from, count - from < piece ? count : from + piece);
        }
        return;
    }
#endif
    (void)device;
    (void)grain;
    if (count > 0) body(argument, 0, count);
}

/* The frames that the host gets are [B,F,H,W,C] by their axes too. */
static bool from_host(const struct kw__graph *g, int v)
{
    int producer = g->values[v].producer;
    return producer >= 0 && g->ops[producer].code == KW__HOST_FRAMES;
}

bool kw__cpu_channels_last(const struct kw__graph *g, int v)
{
    const struct kw__value *value = &g->values[v];
    if (value->ndim != 5 || value->kind == KW__WEIGHT) return false;
    return !from_host(g, v) && !(value->kind == KW__STATE && value->next && from_host(g, value->next));
}

int64_t kw__cpu_row(const struct kw__graph *g, int v)
{
    return kw__cpu_channels_last(g, v) ? g->values[v].dim[1] : kw__last_dim(&g->values[v]);
}

/* oneDNN uses as many threads as OpenMP gives the calling thread: those of the device, for as long as
 * it works for it. */
static int enter(const struct kw__device *device)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    if (before != device->threads) omp_set_num_threads(device->threads);
    return before;
#else
    return device->threads;
#endif
}

static void leave(const struct kw__device *device, int before)
{
#ifdef _OPENMP
    if (before != device->threads) omp_set_num_threads(before);
#else
    (void)device;
    (void)before;
#endif
}

/* ---- The device -------------------------------------------------------------------------------------- */

static void close_device(struct kw__device *device)
{
    if (!device) return;
    kw__cpu_free_weights(device);
    dnnl_stream_destroy(device->stream);
    dnnl_engine_destroy(device->engine);
    free(device);
}

static kw_status open_device(const struct kw__device_options *options, struct kw__device **out, kw_error *err)
{
    struct kw__device *device = calloc(1, sizeof *device);
    if (!device) return kw__fail_memory(err);
#ifdef _OPENMP
    device->threads = omp_get_max_threads();
#else
    device->threads = 1;
#endif
    if (options && options->threads > 0 && options->threads < device->threads)
        device->threads = options->threads;
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    device->has_bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    device->has_amx = (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
    dnnl_status_t s = dnnl_engine_create(&device->engine, dnnl_cpu, 0);
    if (!s) s = dnnl_stream_create(&device->stream, device->engine, dnnl_stream_default_flags);
    if (s) {
        close_device(device);
        return kw__cpu_fail(s, "opening the CPU", err);
    }
    *out = device;
    return KW_OK;
}

static kw_status allocate(struct kw__device *device, size_t bytes, void **out, kw_error *err)
{
    (void)device;
    *out = kw__cpu_allocate(bytes);
    if (!*out) return kw__fail_memory(err);
    memset(*out, 0, bytes); /* no page is touched for the first time while a stage is timed */
    return KW_OK;
}

static void release(struct kw__device *device, void *memory)
{
    (void)device;
    free(memory);
}

/* ---- What it can do ------------------------------------------------------------------------------------ */

static const char *supports(struct kw__device *device, const struct kw__graph *g, const struct kw__op *op)
{
    for (int k = 0; k < op->num_inputs + op->num_outputs; k++) {
        int v = k < op->num_inputs ? op->input[k] : op->output[k - op->num_inputs];
        enum kw__dtype dtype = g->values[v].dtype;
        if (!v) continue;
        if (k <= op->num_inputs && kw__elements(&g->values[v]) < 1) return "an operand has no elements";
        if (dtype != KW__F32 && dtype != KW__BF16 && dtype != KW__I32)
            return "only f32, bf16 and i32 are known";
        if (dtype == KW__BF16 && !device->has_bf16)
            return "bf16 needs AVX512_BF16, which this CPU lacks; run in f32";
    }
    const struct kw__value *x = op->num_inputs && op->input[0] ? &g->values[op->input[0]] : NULL;
    switch (op->code) {
    case KW__LINEAR:
    case KW__CONV:
        if (g->values[op->input[1]].kind != KW__WEIGHT) return "the second operand must be a weight";
        if (x->dtype != g->values[op->input[1]].dtype) return "x and the weight must have one dtype";
        if (op->code == KW__CONV && kw__operand(op, 3) &&
            (g->values[kw__operand(op, 3)].dtype != x->dtype || g->values[op->output[1]].dtype != x->dtype))
            return "x and the cache must have one dtype";
        if (op->code == KW__CONV && op->attr.keep && (op->attr.replicate_space || op->attr.pad_time[1]))
            return "frames are kept of a video that is padded in front alone";
        return NULL;
    case KW__ROPE: return g->values[op->input[1]].dtype == KW__F32 ? NULL : "the rotary table must be f32";
    case KW__RMSNORM_ROPE:
        return g->values[op->input[2]].dtype == KW__F32 ? NULL : "the rotary table must be f32";
    default: return NULL;
    }
}

/* ---- Compiling ------------------------------------------------------------------------------------- */

static kw_status compile_op(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    switch (step->op->code) {
    case KW__LINEAR: return kw__cpu_compile_linear(plan, step, err);
    case KW__CONV: return kw__cpu_compile_conv(plan, step, err);
    case KW__ATTENTION: return kw__cpu_compile_attention(plan, step, err);
    case KW__LAYERNORM:
    case KW__LAYERNORM_MODULATE:
    case KW__RMSNORM:
    case KW__RMSNORM_ROPE:
    case KW__ROPE:
    case KW__CHANNEL_RMSNORM: return kw__cpu_compile_norm(plan, step, err);
    case KW__GROUPNORM: return kw__cpu_compile_groupnorm(plan, step, err);
    case KW__ROPE_TABLE:
    case KW__SINUSOID: return kw__cpu_compile_tables(plan, step, err);
    case KW__CONCAT:
    case KW__SLICE:
    case KW__REPEAT:
    case KW__TO_TRACKS:
    case KW__JOIN_TRACKS:
    case KW__RESIZE:
    case KW__DEPTH_TO_SPACE:
    case KW__TAKE_BLOCK:
    case KW__PUT_BLOCK:
    case KW__BLEND_TILES: return kw__cpu_compile_blocks(plan, step, err);
    default:
        return kw__op_info(step->op->code)->class == KW__CLASS_ELEMENTWISE
                   ? kw__cpu_compile_elementwise(plan, step, err)
                   : kw__cpu_compile_copy(plan, step, err);
    }
}

static kw_status compile_step(struct kw__cpu_plan *plan, size_t i, kw_error *err)
{
    const struct kw__graph *g = plan->graph;
    const struct kw__op *op = &g->ops[i];
    struct kw__cpu_step *step = &plan->steps[i];
    if (op->dead) return KW_OK;
    const char *reason = supports(plan->device, g, op);
    if (reason) return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: %s", g->values[op->output[0]].name, reason);
    step->op = op;
    step->a = &op->attr;
    for (int k = 0; k < op->num_inputs; k++) {
        if (!op->input[k]) continue;
        step->in[k] = &g->values[op->input[k]];
        /* vectors are kept in f32, already rounded; what is large, in its own dtype */
        bool large =
            op->code == KW__EMBEDDING || ((op->code == KW__LINEAR || op->code == KW__CONV) && k == 1);
        step->in_type[k] = step->in[k]->kind == KW__WEIGHT && !large ? KW__F32 : step->in[k]->dtype;
    }
    for (int k = 0; k < op->num_outputs; k++) {
        step->out[k] = &g->values[op->output[k]];
        step->out_type[k] = step->out[k]->dtype;
    }
    kw_status status = compile_op(plan, step, err);
    for (int k = 0; k < op->num_inputs && !status; k++) {
        if (!op->input[k] || step->in[k]->kind != KW__WEIGHT || step->weight[k]) continue;
        step->weight[k] =
            kw__cpu_weight(plan, step->in[k], op->code == KW__EMBEDDING ? KW__CPU_PLAIN : KW__CPU_WIDE);
        if (!step->weight[k]) status = kw__fail_memory(err);
    }
    plan->scratch[i] = step->scratch_bytes;
    return status;
}

static void measure_values(struct kw__cpu_plan *plan)
{
    const struct kw__graph *g = plan->graph;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE) plan->bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        for (int k = 0; !op->dead && k < op->num_inputs + op->num_outputs; k++) {
            int v = k < op->num_inputs ? op->input[k] : op->output[k - op->num_inputs];
            if (v && g->values[v].kind != KW__WEIGHT) plan->bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
        }
    }
}

static void free_plan(struct kw__plan *base)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    if (!plan) return;
    for (size_t i = 0; plan->steps && i < plan->graph->num_ops; i++)
        if (plan->steps[i].free_kernel) plan->steps[i].free_kernel(plan->steps[i].kernel);
    kw__arena_free(&plan->arena);
    free(plan);
}

static kw_status compile(struct kw__device *device, const struct kw__phase *phase, struct kw__plan **out,
                         kw_error *err)
{
    struct kw__cpu_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return kw__fail_memory(err);
    kw__arena_init(&plan->arena);
    const struct kw__graph *g = phase->graph;
    plan->device = device;
    plan->graph = g;
    plan->plan.phase = phase;
    plan->steps = kw__arena_alloc(&plan->arena, g->num_ops + 1, sizeof *plan->steps);
    plan->bytes = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->bytes);
    plan->lead = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->lead);
    plan->view_of = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->view_of);
    plan->overwrite = kw__arena_alloc(&plan->arena, g->num_values, sizeof *plan->overwrite);
    plan->scratch = kw__arena_alloc(&plan->arena, g->num_ops + 1, sizeof *plan->scratch);
    plan->place = kw__arena_alloc(&plan->arena, g->num_values, sizeof(void *));
    plan->found = kw__arena_alloc(&plan->arena, (size_t)device->threads, sizeof *plan->found);
    kw_status status = plan->arena.failed ? kw__fail_memory(err) : KW_OK;
    if (!status) measure_values(plan);
    int threads = enter(device);
    for (size_t i = 0; i < g->num_ops && !status; i++) status = compile_step(plan, i, err);
    leave(device, threads);
    plan->plan.rules =
        (struct kw__memory_rules){plan->bytes, plan->lead, plan->view_of, plan->overwrite, plan->scratch};
    if (!status) status = kw__memory_plan(g, &plan->plan.rules, &plan->arena, &plan->plan.memory, err);
    if (status) {
        free_plan(&plan->plan);
        return status;
    }
    *out = &plan->plan;
    return KW_OK;
}

/* ---- Binding --------------------------------------------------------------------------------------- */

static kw_status load_weights(struct kw__plan *base, const struct kw__weights *weights, kw_error *err)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    int threads = enter(plan->device);
    kw_status status = kw__cpu_load_weights(plan, weights, err);
    leave(plan->device, threads);
    return status;
}

static kw_status bind(struct kw__plan *base, void *workspace, void *const *states, kw_error *err)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    const struct kw__memory *m = &base->memory;
    const struct kw__graph *g = plan->graph;
    (void)err;
    for (size_t v = 1; v < g->num_values; v++) {
        if (m->storage[v] < 0) continue;
        const struct kw__storage *s = &m->storages[m->storage[v]];
        plan->place[v] = s->state ? states[s->state] : (char *)workspace + s->offset + s->lead;
    }
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__cpu_step *step = &plan->steps[i];
        if (!step->op) continue;
        for (int k = 0; k < step->op->num_inputs; k++)
            if (step->op->input[k])
                step->x[k] = step->weight[k] ? step->weight[k]->data : plan->place[step->op->input[k]];
        for (int k = 0; k < step->op->num_outputs; k++) step->y[k] = plan->place[step->op->output[k]];
        if (m->scratch[i] >= 0) step->scratch = (char *)workspace + m->storages[m->scratch[i]].offset;
    }
    return KW_OK;
}

/* ---- Running --------------------------------------------------------------------------------------- */

static void fill_elements(enum kw__dtype dtype, void *array, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++) {
        float buffer;
        *kw__target(dtype, array, i, &buffer) = value;
        kw__store(dtype, array, i, 1, &value);
    }
}

static void set_inputs(struct kw__cpu_plan *plan)
{
    const struct kw__graph *g = plan->graph;
    const struct kw__iterations *table = &plan->plan.phase->table;
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT || !plan->place[v]) continue;
        for (int c = 0; c < table->columns; c++)
            if (strcmp(table->names[c], value->name) == 0)
                fill_elements(value->dtype, plan->place[v], kw__elements(value),
                              (float)table->rows[plan->iteration * table->columns + c]);
    }
}

static kw_status run_ops(struct kw__cpu_plan *plan, kw__after_op *after, void *user, kw_error *err)
{
    const struct kw__graph *g = plan->graph;
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__cpu_step *step = &plan->steps[i];
        if (step->run) step->run(plan, step);
        if (plan->failed) return kw__cpu_fail(plan->failed, g->values[step->op->output[0]].name, err);
        if (after && !after(user, &plan->plan, i))
            return kw__fail(err, KW_ERROR_CANCELLED, "stopped in %s", plan->plan.phase->name);
    }
    return KW_OK;
}

static kw_status run(struct kw__plan *base, int64_t iteration, kw__after_op *after, void *user, kw_error *err)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    const struct kw__graph *g = plan->graph;
    plan->iteration = iteration;
    plan->failed = dnnl_success;
    int threads = enter(plan->device);
    set_inputs(plan);
    kw_status status = run_ops(plan, after, user, err);
    for (size_t c = 0; c < base->memory.num_copies && !status; c++) {
        struct kw__state_copy copy = base->memory.copies[c];
        kw__cpu_copy(plan->device, g->values[copy.value].dtype, plan->place[copy.value],
                     g->values[copy.state].dtype, plan->place[copy.state],
                     kw__elements(&g->values[copy.state]));
    }
    leave(plan->device, threads);
    return status;
}

/* ---- Reading and writing --------------------------------------------------------------------------- */

/* Where element i of the graph's order lies. */
static int64_t position(const struct kw__cpu_plan *plan, int v, int64_t i)
{
    const struct kw__value *value = &plan->graph->values[v];
    if (!kw__cpu_channels_last(plan->graph, v)) return i;
    int64_t pixels = value->dim[2] * value->dim[3] * value->dim[4], c = value->dim[1];
    return (i / (c * pixels) * pixels + i % pixels) * c + i / pixels % c;
}

static void write_value(struct kw__plan *base, int v, const float *data, size_t count)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    const struct kw__value *value = &plan->graph->values[v];
    for (int64_t i = 0; i < (int64_t)count; i++)
        fill_elements(value->dtype, kw__cpu_at(plan->place[v], value->dtype, position(plan, v, i)), 1,
                      data[i]);
}

static void fill_value(struct kw__plan *base, int v, float element)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    const struct kw__value *value = &plan->graph->values[v];
    if (element == 0)
        memset(plan->place[v], 0, (size_t)kw__value_bytes(value));
    else
        fill_elements(value->dtype, plan->place[v], kw__elements(value), element);
}

static void read_value(struct kw__plan *base, int v, float *data, size_t count)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    const struct kw__value *value = &plan->graph->values[v];
    for (int64_t i = 0; i < (int64_t)count; i++) {
        float buffer;
        data[i] = *kw__load(value->dtype, plan->place[v], position(plan, v, i), 1, &buffer);
    }
}

struct search {
    const struct kw__cpu_plan *plan;
    int value;
    bool *found; /* of each thread */
};

/* NaN and infinity are where all bits of the exponent are set, which no option of the compiler changes: the
 * largest exponent is looked for, in lanes as wide as the elements. */
KW__CLONES static void look_for_infinite(void *argument, int64_t from, int64_t to)
{
    enum { ALL_32 = 0x7F800000, ALL_16 = 0x7F80 };
    const struct search *s = argument;
    const void *array = s->plan->place[s->value];
    uint32_t largest = 0;
    uint16_t largest_16 = 0;
    if (s->plan->graph->values[s->value].dtype == KW__F32) {
        const uint32_t *bits = array;
        for (int64_t i = from; i < to; i++) {
            uint32_t exponent = bits[i] & ALL_32;
            largest = exponent > largest ? exponent : largest;
        }
    } else if (s->plan->graph->values[s->value].dtype == KW__BF16) {
        const uint16_t *bits = array;
        for (int64_t i = from; i < to; i++) {
            uint16_t exponent = bits[i] & ALL_16;
            largest_16 = exponent > largest_16 ? exponent : largest_16;
        }
    }
    s->found[kw__cpu_thread()] |= largest == ALL_32 || largest_16 == ALL_16;
}

static bool is_finite(struct kw__plan *base, int v)
{
    struct kw__cpu_plan *plan = (struct kw__cpu_plan *)base;
    struct search s = {plan, v, plan->found};
    memset(plan->found, 0, (size_t)plan->device->threads * sizeof *plan->found);
    kw__cpu_parallel(plan->device, kw__elements(&plan->graph->values[v]), 32768, look_for_infinite, &s);
    bool any = false;
    for (int i = 0; i < plan->device->threads; i++) any |= plan->found[i];
    return !any;
}

const struct kw__backend kw__backend_cpu = {
    .abi = KW__BACKEND_ABI,
    .name = "cpu",
    .open = open_device,
    .close = close_device,
    .supports = supports,
    .compile = compile,
    .free_plan = free_plan,
    .weights = load_weights,
    .allocate = allocate,
    .release = release,
    .bind = bind,
    .run = run,
    .fill = fill_value,
    .write = write_value,
    .read = read_value,
    .finite = is_finite,
};
