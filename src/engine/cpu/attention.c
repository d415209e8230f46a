#include "engine/cpu/attention.h"

#include "base/error.h"
#include "engine/cpu/vec.h"

int64_t kw__cpu_attention_keys(const struct kw__cpu_attention *a, int64_t b)
{
    float buffer;
    if (!a->step->x[4]) return a->lk;
    int64_t keys = a->step->a->prefix + (int64_t)*kw__load(a->step->in_type[4], a->step->x[4], b, 1, &buffer);
    return keys < 1 ? 1 : keys < a->lk ? keys : a->lk;
}

/* ---- The kernel in f32 -------------------------------------------------------------------------------- */

/* bq is a multiple of the 8 rows of a tile, bk of its 16 columns. */
enum { BQ = 32, BK = 128, ROWS = 8, COLUMNS = 16 };

typedef float vector __attribute__((vector_size(64)));
typedef float vector_anywhere __attribute__((vector_size(64), aligned(4), may_alias));

static int64_t padded(int64_t e)
{
    return (e + COLUMNS - 1) / COLUMNS * COLUMNS;
}

static size_t key_bytes(int64_t e)
{
    return (size_t)(BK * e) * sizeof(float);
}

static size_t value_bytes(int64_t e)
{
    return (size_t)(BK * padded(e)) * sizeof(float);
}

/* Queries [BQ, e], scores [BQ, BK], results [BQ, padded e], maxima and sums [BQ]. */
static size_t thread_bytes(int64_t e)
{
    return (size_t)(BQ * (padded(e) * 2 + BK + 2 * COLUMNS)) * sizeof(float);
}

/* In panels of 16 columns, which a tile reads line after line: keys as [BK / 16, e, 16 keys], values as
 * [padded e / 16, BK, 16 channels]; zeros beyond the last key and channel. */
static void pack(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block, void *keys,
                 void *values)
{
    float *kp = keys, *vp = values, buffer;
    int64_t e = a->e, first = block * BK, n = a->lk - first < BK ? a->lk - first : BK;
    memset(kp, 0, key_bytes(e));
    memset(vp, 0, value_bytes(e));
    for (int64_t row = 0; row < n; row++) {
        int64_t k_at = (b * a->lk + first + row) * a->k.width + a->k.start + h * e;
        int64_t v_at = (b * a->lk + first + row) * a->v.width + a->v.start + h * e;
        float *k = kp + row / COLUMNS * e * COLUMNS + row % COLUMNS;
        for (int64_t i = 0; i < e; i++)
            k[i * COLUMNS] = *kw__load(a->k.type, a->k.data, k_at + i, 1, &buffer);
        for (int64_t i = 0; i < e; i++)
            vp[(i / COLUMNS * BK + row) * COLUMNS + i % COLUMNS] =
                *kw__load(a->v.type, a->v.data, v_at + i, 1, &buffer);
    }
}

/* c[8,16] (+)= x[8,k] y[k,16] */
KW__INLINE void tile(const float *x, int64_t x_stride, const float *y, int64_t k, float *c, int64_t c_stride,
                     bool add)
{
    vector sum[ROWS];
    for (int r = 0; r < ROWS; r++) {
        sum[r] = (vector){0};
        if (add) sum[r] = *(const vector_anywhere *)(c + r * c_stride);
    }
    for (int64_t i = 0; i < k; i++) {
        vector row = *(const vector_anywhere *)(y + i * COLUMNS);
        for (int r = 0; r < ROWS; r++) sum[r] += x[r * x_stride + i] * row;
    }
    for (int r = 0; r < ROWS; r++) *(vector_anywhere *)(c + r * c_stride) = sum[r];
}

struct queries {
    float *q, *s, *o, *top, *sum;
    int64_t b, h, first, rows;
};

/* Keys that a causal query attends to. */
KW__INLINE int64_t seen(const struct kw__cpu_attention *a, int64_t query)
{
    int64_t block = a->step->a->width;
    return block > 1 ? (query / block + 1) * block : query + 1;
}

/* Scores of `keys` keys become weights, results and sums those so far, relative to the new maximum. */
KW__INLINE void soften(const struct kw__cpu_attention *a, struct queries *z, int64_t first_key, int64_t keys,
                       bool last, int64_t ep)
{
    for (int64_t r = 0; r < z->rows; r++) {
        float *s = z->s + r * BK, bias[BK], top = -INFINITY, sum = 0;
        for (int64_t k = 0; k < keys; k++) s[k] *= a->scale;
        if (a->step->x[3]) {
            int64_t at = (z->h * a->lq + z->first + r) * a->lk + first_key;
            const float *more = kw__load(a->step->in_type[3], a->step->x[3], at, keys, bias);
            for (int64_t k = 0; k < keys; k++) s[k] += more[k];
        }
        if (last) s[keys - 1] += a->last_bias;
        for (int64_t k = seen(a, z->first + r) - first_key; a->step->a->causal && k < keys; k++)
            if (k >= 0) s[k] = -INFINITY;
        for (int64_t k = 0; k < keys; k++) top = s[k] > top ? s[k] : top;
        top = z->top[r] > top ? z->top[r] : top;
        float shrink = kw__exp(z->top[r] - top);
        for (int64_t k = 0; k < keys; k++) s[k] = kw__exp(s[k] - top);
        for (int64_t k = 0; k < keys; k++) sum += s[k];
        z->top[r] = top;
        z->sum[r] = z->sum[r] * shrink + sum;
        for (int64_t i = 0; i < ep; i++) z->o[r * ep + i] *= shrink;
    }
}

KW__CLONES static void attend(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block,
                              const void *keys, const void *values, void *own)
{
    int64_t e = a->e, ep = padded(e), all = kw__cpu_attention_keys(a, b);
    struct queries z = {.b = b, .h = h, .first = block * BQ};
    z.rows = a->lq - z.first < BQ ? a->lq - z.first : BQ;
    if (a->step->a->causal && seen(a, z.first + z.rows - 1) < all) all = seen(a, z.first + z.rows - 1);
    z.q = own;
    z.s = z.q + BQ * ep;
    z.o = z.s + BQ * BK;
    z.top = z.o + BQ * ep;
    z.sum = z.top + BQ;
    memset(own, 0, thread_bytes(e));
    float buffer[KW__PIECE];
    for (int64_t r = 0; r < z.rows; r++) {
        z.top[r] = -INFINITY;
        int64_t at = (b * a->lq + z.first + r) * a->q.width + a->q.start + h * e;
        for (int64_t i = 0; i < e; i += KW__PIECE) {
            int64_t n = e - i < KW__PIECE ? e - i : KW__PIECE;
            memcpy(z.q + r * e + i, kw__load(a->q.type, a->q.data, at + i, n, buffer),
                   (size_t)n * sizeof *z.q);
        }
    }
    for (int64_t first = 0; first < all; first += BK) {
        int64_t n = all - first < BK ? all - first : BK;
        const float *k = (const float *)keys + first / BK * BK * e, *v = (const float *)values + first * ep;
        for (int64_t r = 0; r < z.rows; r += ROWS)
            for (int64_t c = 0; c < n; c += COLUMNS)
                tile(z.q + r * e, e, k + c * e, e, z.s + r * BK + c, BK, false);
        soften(a, &z, first, n, first + n == all, ep);
        for (int64_t r = 0; r < z.rows; r += ROWS)
            for (int64_t c = 0; c < ep; c += COLUMNS)
                tile(z.s + r * BK, BK, v + c * BK, n, z.o + r * ep + c, ep, true);
    }
    int64_t d = a->heads * e;
    for (int64_t r = 0; r < z.rows; r++)
        for (int64_t i = 0; i < e; i += KW__PIECE) {
            int64_t n = e - i < KW__PIECE ? e - i : KW__PIECE, at = (b * a->lq + z.first + r) * d + h * e + i;
            float *y = kw__target(a->step->out_type[0], a->step->y[0], at, buffer), over = 1.0f / z.sum[r];
            for (int64_t k = 0; k < n; k++) y[k] = z.o[r * ep + i + k] * over;
            kw__store(a->step->out_type[0], a->step->y[0], at, n, y);
        }
}

const struct kw__cpu_attention_kernel kw__cpu_attention_f32 = {
    .bq = BQ,
    .bk = BK,
    .key_bytes = key_bytes,
    .value_bytes = value_bytes,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .attend = attend,
};

/* ---- Running ------------------------------------------------------------------------------------------ */

/* A head's packed keys, then its packed values; heads in the order b, h. */
static char *head_at(const struct kw__cpu_attention *a, int64_t head)
{
    return a->packed + (size_t)(head - a->first) * (size_t)a->key_blocks * (a->key_bytes + a->value_bytes);
}

static void pack_blocks(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_attention *a = argument;
    for (int64_t i = from; i < to; i++) {
        int64_t head = a->first + i / a->key_blocks, block = i % a->key_blocks;
        char *keys = head_at(a, head), *values = keys + (size_t)a->key_blocks * a->key_bytes;
        a->kernel->pack(a, head / a->heads, head % a->heads, block, keys + (size_t)block * a->key_bytes,
                        values + (size_t)block * a->value_bytes);
    }
}

static void attend_blocks(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_attention *a = argument;
    for (int64_t i = from; i < to; i++) {
        int64_t head = a->first + i / a->query_blocks, row = i % a->query_blocks * a->kernel->bq;
        if (a->step->a->ragged && row >= kw__cpu_attention_keys(a, head / a->heads)) continue;
        const char *keys = head_at(a, head);
        a->kernel->attend(a, head / a->heads, head % a->heads, i % a->query_blocks, keys,
                          keys + (size_t)a->key_blocks * a->key_bytes,
                          a->own + (size_t)kw__cpu_thread() * a->thread_bytes);
    }
}

/* The rows of the videos that are cut: 0. */
static void clear_rows(const struct kw__cpu_attention *a)
{
    size_t row = (size_t)(a->heads * a->e) * (size_t)kw__dtype_bytes(a->step->out_type[0]);
    for (int64_t b = 0; b < a->batch; b++) {
        int64_t there = kw__cpu_attention_keys(a, b);
        memset((char *)a->step->y[0] + (size_t)(b * a->lq + there) * row, 0, (size_t)(a->lq - there) * row);
    }
}

static void run_attention(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct kw__cpu_attention *a = step->kernel;
    int64_t heads = a->batch * a->heads;
    a->q.data = step->x[0];
    a->k.data = step->x[1];
    a->v.data = step->x[2];
    a->own = step->scratch;
    a->packed = a->own + (size_t)plan->device->threads * a->thread_bytes;
    for (a->first = 0; a->first < heads; a->first += a->group) {
        int64_t n = heads - a->first < a->group ? heads - a->first : a->group;
        kw__cpu_parallel(plan->device, n * a->key_blocks, 1, pack_blocks, a);
        kw__cpu_parallel(plan->device, n * a->query_blocks, 1, attend_blocks, a);
    }
    if (step->a->ragged) clear_rows(a);
}

/* ---- Compiling ---------------------------------------------------------------------------------------- */

static struct kw__cpu_operand operand(const struct kw__cpu_step *s, int i, bool joint, int64_t part,
                                      int64_t d)
{
    int64_t width = kw__last_dim(s->in[i]);
    return (struct kw__cpu_operand){s->in_type[i], NULL, width, joint && s->a->parts > 1 ? part * d : 0};
}

/* From bf16 to bf16 where the device has it, in f32 otherwise, and where keys are masked one by one. */
static const struct kw__cpu_attention_kernel *choose(const struct kw__cpu_plan *plan, const struct kw__op *op)
{
#if defined(__x86_64__)
    const struct kw__graph *g = plan->graph;
    bool bf16 = plan->device->has_bf16 && g->values[op->output[0]].dtype == KW__BF16 && !op->attr.causal;
    for (int k = 0; k < 3; k++) bf16 &= g->values[op->input[k]].dtype == KW__BF16;
    if (bf16) return plan->device->has_amx ? &kw__cpu_attention_amx : &kw__cpu_attention_bf16;
#else
    (void)plan;
    (void)op;
#endif
    return &kw__cpu_attention_f32;
}

kw_status kw__cpu_compile_attention(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct kw__cpu_attention *a = kw__arena_alloc(&plan->arena, 1, sizeof *a);
    if (!a) return kw__fail_memory(err);
    const struct kw__attr *attr = step->a;
    int64_t d = kw__last_dim(step->out[0]);
    *a = (struct kw__cpu_attention){
        .kernel = choose(plan, step->op),
        .step = step,
        .batch = step->in[0]->dim[0],
        .heads = attr->heads,
        .lq = step->in[0]->dim[1],
        .lk = step->in[1]->dim[1],
        .e = d / attr->heads,
        .scale = (float)attr->scale,
        .last_bias = attr->multiplicity > 1 ? (float)log((double)attr->multiplicity) : 0,
        .q = operand(step, 0, attr->q_joint, attr->part - 2, d),
        .k = operand(step, 1, attr->k_joint, attr->part - 1, d),
        .v = operand(step, 2, true, attr->part, d),
    };
    const struct kw__cpu_attention_kernel *kernel = a->kernel;
    a->query_blocks = (a->lq + kernel->bq - 1) / kernel->bq;
    a->key_blocks = (a->lk + kernel->bk - 1) / kernel->bk;
    a->key_bytes = kernel->key_bytes(a->e);
    a->value_bytes = kernel->value_bytes(a->e);
    a->thread_bytes = kernel->thread_bytes(a->e);
    /* enough blocks at once that the last ones leave few cores idle */
    int64_t heads = a->batch * a->heads,
            wanted = (8 * plan->device->threads + a->query_blocks - 1) / a->query_blocks;
    a->group = wanted < heads ? wanted : heads;
    step->kernel = a;
    step->run = run_attention;
    step->scratch_bytes = (size_t)plan->device->threads * a->thread_bytes +
                          (size_t)(a->group * a->key_blocks) * (a->key_bytes + a->value_bytes);
    return KW_OK;
}
