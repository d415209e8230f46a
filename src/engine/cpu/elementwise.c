/* Elementwise operators: pieces of the arrays, in whatever order both lie in. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/vec.h"

struct pointwise {
    const struct kw__cpu_step *step;
    int64_t n, d;          /* elements; of a row */
    int64_t rows_of_batch; /* rows that share one row of the table */
    const float *table;    /* of MODULATE, GATE_ADD */
    float coefficient[KW__MAX_INPUTS];
};

/* ---- One result from one or two operands -------------------------------------------------------- */

KW__INLINE void activate(enum kw__activation activation, const float *x, int64_t n, float *y)
{
    switch (activation) {
    case KW__ACT_SILU: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__silu(x[i]); break;
    case KW__ACT_GELU: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__gelu(x[i]); break;
    case KW__ACT_GELU_ERF:
        for (int64_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678118654752f));
        break;
    case KW__ACT_GELU_QUICK:
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + kw__exp(-1.702f * x[i]));
        break;
    default: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i];
    }
}

KW__INLINE void compute(enum kw__opcode code, const struct kw__attr *a, const float *x, const float *z,
                        int64_t n, float *y)
{
    float low = (float)a->low, high = (float)a->high;
    switch (code) {
    case KW__ADD: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] + z[i]; break;
    case KW__MUL: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] * z[i]; break;
    case KW__SILU: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__silu(x[i]); break;
    case KW__GELU: activate(a->activation ? a->activation : KW__ACT_GELU, x, n, y); break;
    case KW__TANH:
        for (int64_t i = 0; i < n; i++) y[i] = tanhf(x[i]);
        break;
    case KW__GELU_MUL: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__gelu(x[i]) * z[i]; break;
    case KW__CLAMP:
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
        break;
    default: KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i]; /* CAST, TO_HOST */
    }
}

KW__CLONES static void pointwise_pieces(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[2][KW__PIECE], out[KW__PIECE];
    for (int64_t at = from; at < to; at += KW__PIECE) {
        int64_t n = to - at < KW__PIECE ? to - at : KW__PIECE;
        const float *x = kw__load(s->in_type[0], s->x[0], at, n, in[0]);
        const float *z = s->x[1] ? kw__load(s->in_type[1], s->x[1], at, n, in[1]) : x;
        float *y = kw__target(s->out_type[0], s->y[0], at, out);
        compute(s->op->code, s->a, x, z, n, y);
        kw__store(s->out_type[0], s->y[0], at, n, y);
    }
}

/* ---- LINCOMB -------------------------------------------------------------------------------------- */

KW__CLONES static void lincomb_pieces(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE], sum[KW__PIECE];
    for (int64_t at = from; at < to; at += KW__PIECE) {
        int64_t n = to - at < KW__PIECE ? to - at : KW__PIECE;
        memset(sum, 0, sizeof sum);
        for (int k = 0; k < s->op->num_inputs; k++) {
            float c = j->coefficient[k];
            if (c == 0 || !s->x[k]) continue; /* a solver's history that is not there yet */
            const float *x = kw__load(s->in_type[k], s->x[k], at, n, in);
            KW__EACH for (int64_t i = 0; i < n; i++) sum[i] += c * x[i];
        }
        float *y = kw__target(s->out_type[0], s->y[0], at, sum);
        if (y != sum) memcpy(y, sum, (size_t)n * sizeof *y);
        kw__store(s->out_type[0], s->y[0], at, n, y);
    }
}

/* ---- Rows with a table: MODULATE, GATE_ADD, ADALN_TABLE, CHANNEL_AFFINE --------------------------- */

/* Images lie as rows of channels too. */
KW__CLONES static void modulate_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE], out[KW__PIECE];
    int64_t table_size = kw__elements(s->in[1]) / s->in[1]->dim[0];
    for (int64_t row = from; row < to; row++) {
        const float *table = j->table + row / j->rows_of_batch * table_size;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
            const float *shift = table + s->a->row * j->d + i, *scale = table + s->a->row2 * j->d + i;
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            if (s->a->row2 < 0)
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] + shift[k];
            else if (s->a->row < 0)
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * (1 + scale[k]);
            else
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * (1 + scale[k]) + shift[k];
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

KW__CLONES static void gate_add_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[2][KW__PIECE], out[KW__PIECE];
    int64_t table_size = kw__elements(s->in[2]) / s->in[2]->dim[0];
    for (int64_t row = from; row < to; row++) {
        const float *table = j->table + row / j->rows_of_batch * table_size + s->a->row * j->d;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in[0]);
            const float *z = kw__load(s->in_type[1], s->x[1], at, n, in[1]);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] + z[k] * table[i + k];
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* p[1,R,D] e[B,1,R*D] or e[B,1,D]; a row is [D] */
KW__CLONES static void adaln_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    int64_t rows = s->out[0]->dim[1], width = kw__last_dim(s->in[1]);
    float in[2][KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++) {
        int64_t b = row / rows, r = row % rows;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE;
            const float *p = kw__load(s->in_type[0], s->x[0], r * j->d + i, n, in[0]);
            int64_t column = width == j->d ? i : r * j->d + i;
            const float *e = kw__load(s->in_type[1], s->x[1], b * width + column, n, in[1]);
            float *y = kw__target(s->out_type[0], s->y[0], row * j->d + i, out);
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] = p[k] + e[k];
            kw__store(s->out_type[0], s->y[0], row * j->d + i, n, y);
        }
    }
}

/* x gain + shift; (x - mean) / std is x / std - mean / std. */
KW__CLONES static void affine_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE], out[KW__PIECE], gain[KW__PIECE], shift[KW__PIECE];
    for (int64_t i = 0; i < j->d; i += KW__PIECE) {
        int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE;
        for (int64_t k = 0; k < n; k++) {
            double mean = s->in[1] ? (double)((const float *)s->x[1])[i + k] : s->a->constants[0][i + k];
            double std = s->in[1] ? (double)((const float *)s->x[2])[i + k] : s->a->constants[1][i + k];
            gain[k] = (float)(s->a->inverse ? 1 / std : std);
            shift[k] = (float)(s->a->inverse ? -mean / std : mean);
        }
        for (int64_t row = from; row < to; row++) {
            int64_t at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * gain[k] + shift[k];
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* ---- Rows: GLU, ADD_ROWS, MEAN_ROWS ------------------------------------------------------------------ */

KW__CLONES static void glu_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[2][KW__PIECE], gate[KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++)
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], 2 * row * j->d + i, n, in[0]);
            const float *z = kw__load(s->in_type[0], s->x[0], (2 * row + 1) * j->d + i, n, in[1]);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            activate(s->a->activation, z, n, gate);
            KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] * gate[k];
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
}

KW__CLONES static void add_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    int64_t length = s->in[0]->dim[1];
    float in[2][KW__PIECE], out[KW__PIECE];
    for (int64_t row = from; row < to; row++) {
        int64_t place = row % length - s->a->prefix;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE, at = row * j->d + i;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in[0]);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            if (place >= 0) {
                const float *p = kw__load(s->in_type[1], s->x[1], place * j->d + i, n, in[1]);
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k] + p[k];
            } else {
                KW__EACH for (int64_t k = 0; k < n; k++) y[k] = x[k];
            }
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
    }
}

/* A row is one video's. */
KW__CLONES static void mean_rows(void *argument, int64_t from, int64_t to)
{
    const struct pointwise *j = argument;
    const struct kw__cpu_step *s = j->step;
    int64_t length = s->in[0]->dim[1];
    float in[KW__PIECE], sum[KW__PIECE];
    for (int64_t b = from; b < to; b++) {
        int64_t rows = (int64_t)*kw__load(s->in_type[1], s->x[1], b, 1, in);
        rows = rows < 1 ? 1 : rows < length ? rows : length;
        int64_t first = s->a->width && rows > s->a->width ? rows - s->a->width : 0;
        for (int64_t i = 0; i < j->d; i += KW__PIECE) {
            int64_t n = j->d - i < KW__PIECE ? j->d - i : KW__PIECE;
            memset(sum, 0, sizeof sum);
            for (int64_t r = first; r < rows; r++) {
                const float *x = kw__load(s->in_type[0], s->x[0], (b * length + r) * j->d + i, n, in);
                KW__EACH for (int64_t k = 0; k < n; k++) sum[k] += x[k];
            }
            for (int64_t k = 0; k < n; k++) sum[k] /= (float)(rows - first);
            float *y = kw__target(s->out_type[0], s->y[0], b * j->d + i, sum);
            if (y != sum) memcpy(y, sum, (size_t)n * sizeof *y);
            kw__store(s->out_type[0], s->y[0], b * j->d + i, n, y);
        }
    }
}

/* ---- Compiling ---------------------------------------------------------------------------------------- */

static void run_elementwise(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct pointwise *j = step->kernel;
    const struct kw__device *d = plan->device;
    const struct kw__iterations *table = &plan->plan.phase->table;
    int64_t rows = j->n / j->d, grain = 1 + 16384 / j->d;
    switch (step->op->code) {
    case KW__LINCOMB:
        for (int k = 0; k < step->op->num_inputs; k++)
            j->coefficient[k] = (float)table->rows[plan->iteration * table->columns + step->a->column + k];
        kw__cpu_parallel(d, j->n, 16384, lincomb_pieces, j);
        break;
    case KW__MODULATE:
        j->table = kw__cpu_floats(plan, step, 1);
        kw__cpu_parallel(d, rows, grain, modulate_rows, j);
        break;
    case KW__GATE_ADD:
        j->table = kw__cpu_floats(plan, step, 2);
        kw__cpu_parallel(d, rows, grain, gate_add_rows, j);
        break;
    case KW__ADALN_TABLE: kw__cpu_parallel(d, rows, grain, adaln_rows, j); break;
    case KW__CHANNEL_AFFINE: kw__cpu_parallel(d, rows, grain, affine_rows, j); break;
    case KW__GLU: kw__cpu_parallel(d, rows, grain, glu_rows, j); break;
    case KW__ADD_ROWS: kw__cpu_parallel(d, rows, grain, add_rows, j); break;
    case KW__MEAN_ROWS: kw__cpu_parallel(d, rows, 1, mean_rows, j); break;
    default: kw__cpu_parallel(d, j->n, 16384, pointwise_pieces, j);
    }
}

kw_status kw__cpu_compile_elementwise(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct pointwise *j = kw__arena_alloc(&plan->arena, 1, sizeof *j);
    if (!j) return kw__fail_memory(err);
    const struct kw__op *op = step->op;
    j->step = step;
    j->n = kw__elements(step->out[0]);
    j->d = kw__cpu_row(plan->graph, op->output[0]);
    const struct kw__value *table = op->code == KW__MODULATE   ? step->in[1]
                                    : op->code == KW__GATE_ADD ? step->in[2]
                                                               : step->out[0];
    j->rows_of_batch = j->n / j->d / table->dim[0];
    step->kernel = j;
    step->run = run_elementwise;
    unsigned overwrite = 0;
    switch (op->code) {
    case KW__ADALN_TABLE:
    case KW__GLU:
    case KW__MEAN_ROWS: break;
    case KW__CHANNEL_AFFINE:
    case KW__ADD_ROWS:
    case KW__MODULATE:
        step->scratch_bytes = kw__cpu_floats_scratch(step, 1);
        overwrite = 1u;
        break;
    case KW__GATE_ADD:
        step->scratch_bytes = kw__cpu_floats_scratch(step, 2);
        overwrite = 3u;
        break;
    default: overwrite = (1u << op->num_inputs) - 1;
    }
    plan->overwrite[op->output[0]] = overwrite;
    return KW_OK;
}
