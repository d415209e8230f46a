#include "engine/cpu/memory.h"

#include <dnnl.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/plan.h"

/* ---- Workspace ---------------------------------------------------------------------------------- */

struct rules {
    size_t *bytes, *lead, *scratch;
    int *view_of;
    unsigned *overwrite;
};

static const struct kw__value *operand(const struct kw__graph *g, const struct kw__op *op, int i)
{
    int v = kw__operand(op, i);
    return v ? &g->values[v] : NULL;
}

static bool same_dtype(const struct kw__graph *g, const struct kw__op *op, int i)
{
    const struct kw__value *x = operand(g, op, i);
    return x && x->dtype == g->values[op->output[0]].dtype;
}

/* As src/engine/cpu/conv.c plans: the cache's frames go in front of x where there is room, else both are
 * joined in scratch memory; folded kernels write to scratch first. */
static void conv_rules(const struct kw__graph *g, size_t i, struct rules *r)
{
    const struct kw__op *op = &g->ops[i];
    const struct kw__value *x = operand(g, op, 0), *w = operand(g, op, 1), *cache = operand(g, op, 3);
    const struct kw__value *y = &g->values[op->output[0]];
    bool folded = w->recipe == KW__RECIPE_FOLD_UPSAMPLE;
    double joined = cache && !op->attr.fresh ? kw__value_bytes(cache) : 0;
    double scratch = op->attr.upsample && !folded ? 4 * kw__value_bytes(x) : 0;
    if (joined > 0 && x->dim[0] == 1 && x->kind == KW__TEMPORARY && !r->view_of[op->input[0]]) {
        if (r->lead[op->input[0]] < (size_t)joined) r->lead[op->input[0]] = (size_t)joined;
    } else if (joined > 0) {
        scratch = joined + kw__value_bytes(x);
    }
    const struct kw__attr *a = &op->attr;
    bool time = !cache && a->replicate_time && (a->pad_time[0] || a->pad_time[1]);
    if (time || (a->replicate_space && (a->pad[0] || a->pad[1]))) {
        int64_t frames = x->dim[2] + (time ? a->pad_time[0] + a->pad_time[1] : cache ? cache->dim[2] : 0);
        int64_t height = x->dim[3] + (a->replicate_space ? 2 * a->pad[0] : 0);
        int64_t width = x->dim[4] + (a->replicate_space ? 2 * a->pad[1] : 0);
        scratch = (double)(x->dim[0] * x->dim[1] * frames * height * width) * kw__dtype_bytes(x->dtype);
    }
    if (folded) scratch += kw__value_bytes(y) / 4;
    r->scratch[i] = (size_t)scratch;
    if (same_dtype(g, op, 4)) r->overwrite[op->output[0]] = 1u << 4;
    if (cache) r->overwrite[op->output[1]] = 1u << 3;
}

static bool has_avx512(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

/* As src/engine/cpu/gemm.c plans: without AVX512 a gate is applied to a product that lies in scratch memory.
 */
static void linear_rules(const struct kw__graph *g, size_t i, struct rules *r)
{
    const struct kw__op *op = &g->ops[i];
    const struct kw__value *y = &g->values[op->output[0]];
    if (!has_avx512() && operand(g, op, 3) && op->attr.row >= 0)
        r->scratch[i] = (size_t)(kw__elements(y) / operand(g, op, 0)->dim[0]) * sizeof(float);
    if (same_dtype(g, op, 4)) r->overwrite[op->output[0]] = 1u << 4;
}

static void op_rules(const struct kw__graph *g, size_t i, struct rules *r)
{
    const struct kw__op *op = &g->ops[i];
    int y = op->output[0];
    switch (op->code) {
    case KW__CONV: conv_rules(g, i, r); break;
    case KW__LINEAR: linear_rules(g, i, r); break;
    case KW__ATTENTION: /* keys and values of a head, packed */
        r->scratch[i] = (size_t)((kw__value_bytes(operand(g, op, 1)) + kw__value_bytes(operand(g, op, 2))) /
                                 (double)op->attr.heads);
        break;
    case KW__GLU:
    case KW__MEAN_ROWS:
    case KW__ADALN_TABLE: break;
    case KW__ADD_ROWS:
    case KW__CHANNEL_AFFINE: r->overwrite[y] = 1u; break;
    case KW__PUT_BLOCK:
    case KW__PUT_FRAMES:
    case KW__HOST_FRAMES:
        if (same_dtype(g, op, 0)) r->overwrite[y] = 1u;
        break;
    default: {
        if (kw__cpu_is_view(op) && same_dtype(g, op, 0)) r->view_of[y] = op->input[0];
        enum kw__class class = kw__op_info(op->code)->class;
        if (class == KW__CLASS_ELEMENTWISE) r->overwrite[y] = (1u << op->num_inputs) - 1;
        if (class == KW__CLASS_NORM && kw__elements(operand(g, op, 0)) == kw__elements(&g->values[y]))
            r->overwrite[y] = 1u;
    }
    }
}

static kw_status plan_phase(struct kw__program *program, const struct kw__graph *g, size_t *workspace,
                            kw_error *err)
{
    struct kw__arena *arena = &program->arena;
    struct rules r = {kw__arena_alloc(arena, g->num_values, sizeof *r.bytes),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.lead),
                      kw__arena_alloc(arena, g->num_ops + 1, sizeof *r.scratch),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.view_of),
                      kw__arena_alloc(arena, g->num_values, sizeof *r.overwrite)};
    if (arena->failed) return kw__fail_memory(err);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE) r.bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->dead) continue;
        for (int k = 0; k < op->num_inputs + op->num_outputs; k++) {
            int v = k < op->num_inputs ? op->input[k] : op->output[k - op->num_inputs];
            if (v && g->values[v].kind != KW__WEIGHT) r.bytes[v] = (size_t)kw__value_bytes(&g->values[v]);
        }
        op_rules(g, i, &r);
    }
    struct kw__memory_rules rules = {r.bytes, r.lead, r.view_of, r.overwrite, r.scratch};
    struct kw__memory memory;
    kw_status status = kw__memory_plan(g, &rules, arena, &memory, err);
    if (!status && memory.workspace_bytes > *workspace) *workspace = memory.workspace_bytes;
    return status;
}

/* ---- States and weights -------------------------------------------------------------------------- */

/* States live from the first phase that names them to the last, those of phases that alternate as long as
 * their stage. */
static kw_status place_states(struct kw__program *program, double *bytes, kw_error *err)
{
    size_t capacity = 0, count = 0;
    struct kw__storage *storages = NULL;
    const char **names = NULL;
    int number = 0;
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++)
            capacity += program->stages[s].phases[p].graph->num_values;
    storages = kw__arena_alloc(&program->arena, capacity + 1, sizeof *storages);
    names = kw__arena_alloc(&program->arena, capacity + 1, sizeof *names);
    if (!storages || !names) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++, number++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            bool alternate = program->stages[s].num_turns > 0;
            int first = alternate ? number - p : number;
            int last = alternate ? first + program->stages[s].num_phases - 1 : number;
            for (size_t v = 1; v < g->num_values && program->stages[s].phases[p].calls > 0; v++) {
                if (g->values[v].kind != KW__STATE) continue;
                size_t i = 0;
                while (i < count && strcmp(names[i], g->values[v].name) != 0) i++;
                if (i == count) {
                    names[count++] = g->values[v].name;
                    storages[i] =
                        (struct kw__storage){.bytes = (size_t)kw__value_bytes(&g->values[v]), .first = first};
                }
                storages[i].last = last;
            }
        }
    *bytes = (double)kw__place_storages(storages, count, &program->arena);
    return program->arena.failed ? kw__fail_memory(err) : KW_OK;
}

/* Each tensor once, at the dtype it is used in. */
static kw_status sum_weights(struct kw__program *program, double *bytes, kw_error *err)
{
    bool *counted = kw__arena_alloc(&program->arena, program->num_tensors + 1, sizeof *counted);
    if (!counted) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops && program->stages[s].phases[p].calls > 0; i++)
                for (int k = 0; k < g->ops[i].num_inputs && !g->ops[i].dead; k++) {
                    const struct kw__value *value = operand(g, &g->ops[i], k);
                    if (!value || value->kind != KW__WEIGHT || counted[value->tensor[0]]) continue;
                    for (int n = 0; n < value->num_tensors; n++) counted[value->tensor[n]] = true;
                    *bytes += kw__value_bytes(value);
                }
        }
    return KW_OK;
}

/* ---- The kernel library ------------------------------------------------------------------------- */

/* What the library decides on. */
struct machine {
    int64_t threads, l1, l2; /* bytes of a core's caches; 0: not known */
    bool tiles;
};

static struct machine this_machine(void)
{
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    struct machine m = {1, sysconf(_SC_LEVEL1_DCACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE),
                        (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx};
#ifdef _OPENMP
    m.threads = omp_get_max_threads();
#endif
    return m;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t clamp(int64_t x, int64_t most)
{
    return x < 1 ? 1 : x < most ? x : most;
}

/* The convolutions of one operator; operators that agree in all of this share theirs. No padding: bytes
 * are compared. */
struct conv {
    int64_t batch, in, out, kernel[3], y[3]; /* of the result, of one kernel when folded */
    int64_t folded, fresh, residual, dtype;
};

static struct conv conv_of(const struct kw__graph *g, const struct kw__op *op)
{
    const struct kw__value *x = operand(g, op, 0), *w = operand(g, op, 1);
    const struct kw__value *y = &g->values[op->output[0]];
    struct conv c = {.batch = x->dim[0],
                     .in = x->dim[1],
                     .out = y->dim[1],
                     .folded = w->recipe == KW__RECIPE_FOLD_UPSAMPLE,
                     .fresh = op->attr.fresh,
                     .residual = kw__operand(op, 4) != 0,
                     .dtype = x->dtype};
    c.kernel[0] = w->ndim == 5 && !c.folded ? w->dim[2] : 1;
    for (int i = 1; i < 3; i++) c.kernel[i] = w->dim[w->ndim - 3 + i];
    for (int i = 0; i < 3; i++) c.y[i] = y->dim[2 + i] / (i && c.folded ? 2 : 1);
    return c;
}

/* Rows of an image that a kernel on tiles does in one go, after brg_blocking_t of oneDNN 2.6: so many that
 * they fit half of the second-level cache, or that 128 pixels or more fit the first, if the image is a
 * multiple of them by and large; and enough goes for all threads. */
static int64_t rows_in_one_go(const struct conv *c, const struct machine *m)
{
    const int64_t height = c->y[1], width = c->y[2], padded = width + c->kernel[2] - 1;
    const int64_t block = c->out < 32 ? 16 : 32; /* of output channels */
    int64_t taps = c->kernel[0] * c->kernel[1] * c->kernel[2];
    int64_t weights = 2 * taps * c->in * block + 4 * 32 * block;
    int64_t room = weights > m->l2 ? 0 : m->l2 - weights < m->l2 / 2 ? m->l2 - weights : m->l2 / 2;
    int64_t row = 2 * c->in * padded + 2 * width * block;
    int64_t rows = clamp(room / (row + 2 * c->in * padded), height), fewer = rows;
    if (row < m->l1) fewer = clamp(m->l1 / row, height);
    for (; fewer > 1; fewer--) {
        bool divides = 10 * height > 9 * divide_up(height, fewer) * fewer;
        if (divides && fewer * padded > 128) break;
    }
    if (fewer > 1) rows = fewer;
    int64_t goes = c->batch * divide_up(c->out, block);
    goes *= divide_up(c->y[0], divide_up(c->y[0], divide_up(m->threads, goes)));
    return clamp(rows, divide_up(height, divide_up(m->threads, goes)));
}

/* On tiles the library has a table of kernels, almost all of them never made: an entry for each pixel of
 * one go, for the first and for later channels, with and without a rest of output or input channels, and
 * for each number of taps that lie within the image. Images that are wider do without. */
static double table_entries(const struct conv *c, const struct machine *m)
{
    enum { WIDE = 256 };
    if (!m->tiles || m->l1 <= 0 || m->l2 <= 0 || c->dtype != KW__BF16) return 0;
    if (c->kernel[2] == 1 || c->y[2] >= WIDE) return 0;
    int64_t pixels = c->y[2] * rows_in_one_go(c, m);
    int64_t depths = c->fresh ? clamp(c->kernel[0], c->y[0]) : 1;
    int64_t heights = c->folded ? 6 : 2; /* at the lower edge fewer taps; two of the four have none there */
    return 8.0 * (double)(pixels * depths * heights);
}

struct library {
    struct conv *seen;
    size_t count;
    double convolutions, entries;
};

static void add_conv(struct library *l, const struct conv *c, const struct machine *m)
{
    for (size_t i = 0; i < l->count; i++)
        if (memcmp(&l->seen[i], c, sizeof *c) == 0) return;
    l->seen[l->count++] = *c;
    l->convolutions += c->folded ? 4 : 1;
    l->entries += table_entries(c, m);
}

static kw_status sum_library(struct kw__program *program, const struct kw__stack *stack, double *bytes,
                             kw_error *err)
{
    const struct machine m = this_machine();
    size_t capacity = 1;
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++)
            capacity += program->stages[s].phases[p].graph->num_ops;
    struct library l = {.seen = kw__arena_alloc(&program->arena, capacity, sizeof *l.seen)};
    if (!l.seen) return kw__fail_memory(err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops && program->stages[s].phases[p].calls > 0; i++) {
                if (g->ops[i].dead || g->ops[i].code != KW__CONV) continue;
                struct conv c = conv_of(g, &g->ops[i]);
                add_conv(&l, &c, &m);
            }
        }
    const double shorter =
        has_avx512() ? 1 : 0.3; /* AVX2's kernels: 0.28 and 0.34 (tests/unit/test_cpu_memory.c) */
    *bytes = shorter * l.convolutions * stack->conv_extra_bytes + l.entries * stack->conv_entry_bytes;
    return KW_OK;
}

/* ---- All ------------------------------------------------------------------------------------------ */

/* Beside what the backend has: latents at the host and on their way in, frames on their way out. */
static double buffers_of(const kw_effective *r)
{
    double latent =
        (double)(r->latent_channels * r->latent_frames * r->latent_height) * (double)r->latent_width;
    double frames = 3.0 * (double)(r->num_frames * r->height) * (double)r->width;
    return (double)r->batch_size * (2 * latent + frames) * sizeof(float);
}

kw_status kw__cpu_need(struct kw__program *program, const struct kw__stack *stack, struct kw__cpu_need *out,
                       kw_error *err)
{
    size_t workspace = 0;
    *out = (struct kw__cpu_need){.buffers = buffers_of(&program->request),
                                 .process = stack->resident_extra_bytes};
    kw_status status = sum_weights(program, &out->weights, err);
    if (!status) status = place_states(program, &out->states, err);
    if (!status) status = sum_library(program, stack, &out->library, err);
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases && !status; p++)
            if (program->stages[s].phases[p].calls > 0)
                status = plan_phase(program, program->stages[s].phases[p].graph, &workspace, err);
    out->workspace = (double)workspace;
    return status;
}

kw_reading kw__cpu_need_sum(const struct kw__cpu_need *m)
{
    /* peaks of nano at 16 sizes from 16x16x1 to 832x480x5, in bf16 and f32, with and without AMX, with 1, 2
     * and 8 threads, and of WAN2.1-1.3B at 256x256x17, 2026-11-24: 2 % below the sum to 5 % above */
    const double spread = 0.06;
    double sum = m->weights + m->states + m->workspace + m->buffers + m->library + m->process;
    return (kw_reading){sum, (1 - spread) * sum, (1 + spread) * sum, KW_MODELLED, NULL};
}
