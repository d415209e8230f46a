/* Norms, and what rewrites fuse with them: rows of D channels, one at a time. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/rows_bf16.h"
#include "engine/cpu/vec.h"

struct norm {
    const struct kw__cpu_step *step;
    int64_t d, width, start; /* a row of y is d wide; of x, width, and begins at start */
    int64_t rows_of_batch;   /* rows that share one row of the table */
    int64_t heads;           /* rows of y that are one row of x */
    int64_t length, e;       /* rope[length, e] */
    const float *table;      /* of LAYERNORM_MODULATE */
};

struct moments {
    float mean, factor;
};

KW__INLINE float sum_squares(const float *x, int64_t n, float mean)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

/* 1 / sqrt(mean((x - mean)^2) + eps) */
KW__INLINE float inverse_deviation(enum kw__dtype type, const void *x, int64_t at, int64_t d, float mean,
                                   float eps)
{
    float buffer[KW__PIECE], square = 0;
    for (int64_t i = 0; i < d; i += KW__PIECE) {
        int64_t n = d - i < KW__PIECE ? d - i : KW__PIECE;
        square += sum_squares(kw__load(type, x, at + i, n, buffer), n, mean);
    }
    return 1.0f / sqrtf(square / (float)d + eps);
}

KW__INLINE struct moments row_moments(enum kw__dtype type, const void *x, int64_t at, int64_t d, float eps)
{
    float buffer[KW__PIECE], sum = 0;
    for (int64_t i = 0; i < d; i += KW__PIECE) {
        int64_t n = d - i < KW__PIECE ? d - i : KW__PIECE;
        const float *piece = kw__load(type, x, at + i, n, buffer);
        for (int64_t k = 0; k < n; k++) sum += piece[k];
    }
    struct moments m = {.mean = sum / (float)d};
    m.factor = inverse_deviation(type, x, at, d, m.mean, eps);
    return m;
}

/* ---- LAYERNORM, LAYERNORM_MODULATE ---------------------------------------------------------------- */

/* y = (x - mean) factor gain + shift, gain = base + gains[i]; both may be NULL */
KW__INLINE void normalize_row(const struct kw__cpu_step *s, int64_t row, int64_t d, float base,
                              const float *gains, const float *shifts)
{
    float in[KW__PIECE], out[KW__PIECE];
    struct moments m = row_moments(s->in_type[0], s->x[0], row * d, d, (float)s->a->eps);
    for (int64_t i = 0; i < d; i += KW__PIECE) {
        int64_t n = d - i < KW__PIECE ? d - i : KW__PIECE, at = row * d + i;
        const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
        float *y = kw__target(s->out_type[0], s->y[0], at, out);
        if (gains && shifts) {
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] =
                (x[k] - m.mean) * m.factor * (base + gains[i + k]) + shifts[i + k];
        } else {
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] = (x[k] - m.mean) * m.factor;
            for (int64_t k = 0; gains && k < n; k++) y[k] *= base + gains[i + k];
            for (int64_t k = 0; shifts && k < n; k++) y[k] += shifts[i + k];
        }
        kw__store(s->out_type[0], s->y[0], at, n, y);
    }
}

KW__CLONES static void layernorm_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    for (int64_t row = from; row < to; row++)
        normalize_row(j->step, row, j->d, 0, j->step->x[1], j->step->x[2]);
}

KW__CLONES static void modulated_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    int64_t table_size = kw__elements(s->in[1]) / s->in[1]->dim[0];
    for (int64_t row = from; row < to; row++) {
        const float *table = j->table + row / j->rows_of_batch * table_size;
        normalize_row(s, row, j->d, 1, table + s->a->row2 * j->d, table + s->a->row * j->d);
    }
}

/* ---- RMSNORM, RMSNORM_ROPE -------------------------------------------------------------------------- */

KW__CLONES static void rmsnorm_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    const float *gamma = s->x[1];
    float in[KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++) {
        int64_t start = row / j->heads * j->width + j->start + row % j->heads * j->d;
        float factor = inverse_deviation(s->in_type[0], s->x[0], start, j->d, 0, (float)s->a->eps);
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], start + i, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            if (gamma)
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * factor * gamma[i + k];
            else
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * factor;
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* n even; pairs turn by the angles of rope[0 .. n - 1] */
KW__INLINE void turn(const float *x, const float *rope, int64_t n, float *y)
{
    KW__EACH for (int64_t i = 0; i < n / 2; i++)
    {
        float re = x[2 * i], im = x[2 * i + 1], cosine = rope[2 * i], sine = rope[2 * i + 1];
        y[2 * i] = re * cosine - im * sine;
        y[2 * i + 1] = re * sine + im * cosine;
    }
}

KW__CLONES static void rmsnorm_rope_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    const float *gamma = s->x[1];
    float in[KW__PIECE], scaled[KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++) {
        int64_t start = row * j->width + j->start;
        const float *rope = (const float *)s->x[2] + row % j->length * j->e;
        float factor = inverse_deviation(s->in_type[0], s->x[0], start, j->d, 0, (float)s->a->eps);
        for (int64_t i = 0, n; i < j->d; i += n) {
            n = j->e - i % j->e; /* to the end of the head */
            if (n > KW__PIECE) n = KW__PIECE;
            int64_t at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], start + i, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            KW__EACH for (int64_t k = 0; k < n; k++) scaled[k] = x[k] * factor * gamma[i + k];
            turn(scaled, rope + i % j->e, n, y);
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* ROPE alone */
KW__CLONES static void rope_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++) {
        int64_t place = row % s->in[0]->dim[1] - s->a->prefix;
        if (place < 0) {
            kw__cpu_move(s->in_type[0], s->x[0], row * j->d, s->out_type[0], s->y[0], row * j->d, j->d);
            continue;
        }
        const float *rope = (const float *)s->x[1] + place * j->e;
        for (int64_t i = 0, n; i < j->d; i += n) {
            n = j->e - i % j->e;
            if (n > KW__PIECE) n = KW__PIECE;
            const float *x = kw__load(s->in_type[0], s->x[0], row * j->d + i, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], row * j->d + i, out);
            turn(x, rope + i % j->e, n, y);
            kw__store(s->out_type[0], s->y[0], row * j->d + i, n, y);
        }
    }
}

/* ROPE of pairs that are half a head apart */
KW__CLONES static void rope_halves_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[2][KW__PIECE], turned[2][KW__PIECE];
    int64_t half = j->e / 2;
    for (int64_t row = from; row < to; row++) {
        int64_t place = row % s->in[0]->dim[1] - s->a->prefix;
        if (place < 0) {
            kw__cpu_move(s->in_type[0], s->x[0], row * j->d, s->out_type[0], s->y[0], row * j->d, j->d);
            continue;
        }
        const float *rope = (const float *)s->x[1] + place * j->e;
        for (int64_t head = row * j->d; head < (row + 1) * j->d; head += j->e)
            for (int64_t i = 0; i < half; i += KW__PIECE) {
                int64_t n = half - i < KW__PIECE ? half - i : KW__PIECE;
                const float *re = kw__load(s->in_type[0], s->x[0], head + i, n, in[0]);
                const float *im = kw__load(s->in_type[0], s->x[0], head + half + i, n, in[1]);
                for (int64_t k = 0; k < n; k++) {
                    float cosine = rope[2 * (i + k)], sine = rope[2 * (i + k) + 1];
                    turned[0][k] = re[k] * cosine - im[k] * sine;
                    turned[1][k] = re[k] * sine + im[k] * cosine;
                }
                for (int part = 0; part < 2; part++)
                    kw__cpu_move(KW__F32, turned[part], 0, s->out_type[0], s->y[0], head + part * half + i,
                                 n);
            }
    }
}

/* ---- CHANNEL_RMSNORM ---------------------------------------------------------------------------------- */

/* x factor gamma, then the activation */
KW__INLINE void scale_activate(const float *x, float factor, const float *gamma, int64_t n,
                               enum kw__activation activation, float *y)
{
    if (activation == KW__ACT_SILU) {
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__silu(x[i] * factor * gamma[i]);
    } else if (activation == KW__ACT_GELU) {
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__gelu(x[i] * factor * gamma[i]);
    } else {
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor * gamma[i];
    }
}

KW__CLONES static void channel_rmsnorm_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE], out[KW__PIECE], ones[KW__PIECE], root = sqrtf((float)j->d), eps = (float)s->a->eps;
    for (int64_t i = 0; i < KW__PIECE; i++) ones[i] = 1;
    for (int64_t row = from; row < to; row++) {
        float square = 0;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE;
            square += sum_squares(kw__load(s->in_type[0], s->x[0], row * j->d + i, n, in), n, 0);
        }
        float norm = sqrtf(square), factor = root / (norm > 1e-12f ? norm : 1e-12f);
        if (eps > 0) factor = 1 / sqrtf(square / (float)j->d + eps);
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            const float *gamma = s->x[1] ? (const float *)s->x[1] + i : ones;
            scale_activate(x, factor, gamma, n, s->a->activation, y);
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* The same from bf16 to bf16, on a device that has it. */
static void channel_rmsnorm_bf16_rows(void *argument, int64_t from, int64_t to)
{
    const struct norm *j = argument;
    const struct kw__cpu_step *s = j->step;
    kw__cpu_channel_rmsnorm_bf16(s->x[0], s->x[1], s->y[0], j->d, s->a->activation, from, to);
}

/* ---- Compiling ------------------------------------------------------------------------------------- */

static void run_norm(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct norm *j = step->kernel;
    static kw__cpu_body *const bodies[KW__NUM_OPCODES] = {
        [KW__LAYERNORM] = layernorm_rows, [KW__LAYERNORM_MODULATE] = modulated_rows,
        [KW__RMSNORM] = rmsnorm_rows,     [KW__RMSNORM_ROPE] = rmsnorm_rope_rows,
        [KW__ROPE] = rope_rows,           [KW__CHANNEL_RMSNORM] = channel_rmsnorm_rows,
    };
    kw__cpu_body *body = bodies[step->op->code];
    if (step->op->code == KW__LAYERNORM_MODULATE) j->table = kw__cpu_floats(plan, step, 1);
    if (step->op->code == KW__ROPE && step->a->transposed) body = rope_halves_rows;
    if (step->op->code == KW__CHANNEL_RMSNORM && step->in_type[0] == KW__BF16 &&
        step->out_type[0] == KW__BF16 && step->in[1] && !(step->a->eps > 0))
        body = channel_rmsnorm_bf16_rows;
    kw__cpu_parallel(plan->device, kw__elements(step->out[0]) / j->d, 1 + 16384 / j->d, body, j);
}

kw_status kw__cpu_compile_norm(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct norm *j = kw__arena_alloc(&plan->arena, 1, sizeof *j);
    if (!j) return kw__fail_memory(err);
    const struct kw__graph *g = plan->graph;
    const struct kw__op *op = step->op;
    *j = (struct norm){
        .step = step, .d = kw__cpu_row(g, op->output[0]), .width = kw__cpu_row(g, op->input[0])};
    if (op->code == KW__RMSNORM || op->code == KW__RMSNORM_ROPE)
        j->start = step->a->parts > 1 ? step->a->part * j->d : 0;
    j->heads = step->a->heads > 1 ? step->a->heads : 1;
    j->d /= j->heads;
    int64_t rows = kw__elements(step->out[0]) / j->d;
    j->rows_of_batch = rows / (op->code == KW__LAYERNORM_MODULATE ? step->in[1] : step->out[0])->dim[0];
    const struct kw__value *rope = op->code == KW__RMSNORM_ROPE ? step->in[2]
                                   : op->code == KW__ROPE       ? step->in[1]
                                                                : NULL;
    if (rope) {
        j->length = rope->dim[0];
        j->e = rope->dim[1];
    }
    step->kernel = j;
    step->run = run_norm;
    if (op->code == KW__LAYERNORM_MODULATE) step->scratch_bytes = kw__cpu_floats_scratch(step, 1);
    if (j->width == j->d * j->heads) plan->overwrite[op->output[0]] = 1u;
    return KW_OK;
}
