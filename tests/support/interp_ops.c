/* The operators in float64, in the order of graph/ops.def. */
#include "support/interp_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What operators share ------------------------------------------------------------------- */

/* A condition of ops.def. */
static bool expect(struct interp_call *c, bool holds, const char *condition)
{
    if (holds) return true;
    if (!c->broken) c->broken = condition;
    return false;
}

/* Elements of one index of the first `axes` axes. */
static int64_t inner(const struct kw__value *v, int axes)
{
    int64_t n = 1;
    for (int i = axes; i < v->ndim; i++) n *= v->dim[i];
    return n;
}

static bool same_shape(const struct kw__value *a, const struct kw__value *b)
{
    return a->ndim == b->ndim && memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof a->dim[0]) == 0;
}

static bool has_shape(const struct kw__value *v, int ndim, const int64_t *dim)
{
    return v->ndim == ndim && memcmp(v->dim, dim, (size_t)ndim * sizeof *dim) == 0;
}

/* A column of the iteration table, NaN when there is none. */
static double column(struct interp_call *c, int index)
{
    if (!expect(c, index >= 0 && index < c->table->columns, "the column is in the iteration table"))
        return NAN;
    return c->table->rows[c->iteration * c->table->columns + index];
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double activate(enum kw__activation activation, double x)
{
    switch (activation) {
    case KW__ACT_SILU: return silu(x);
    case KW__ACT_GELU: return gelu(x);
    default: return x;
    }
}

/* Whether table is [B,R,D] with row `row`, for x [B,L,D]. */
static bool is_table(const struct kw__value *table, const struct kw__value *x, int row)
{
    return table->ndim == 3 && table->dim[0] == x->dim[0] && table->dim[2] == kw__last_dim(x) && row >= 0 &&
           row < table->dim[1];
}

/* Row `row` of batch b. */
static const double *table_row(const struct kw__value *table, const double *data, int64_t b, int row)
{
    return data + (b * table->dim[1] + row) * table->dim[2];
}

static void layernorm_row(const double *x, int64_t d, double eps, double *y)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < d; i++) mean += x[i] / (double)d;
    for (int64_t i = 0; i < d; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)d;
    for (int64_t i = 0; i < d; i++) y[i] = (x[i] - mean) / sqrt(variance + eps);
}

static void rmsnorm_row(const double *x, const double *gamma, int64_t d, double eps, double *y)
{
    double square = 0;
    for (int64_t i = 0; i < d; i++) square += x[i] * x[i] / (double)d;
    for (int64_t i = 0; i < d; i++) y[i] = x[i] / sqrt(square + eps) * gamma[i];
}

/* Turns the pairs of each head of a row of d channels; x and y may be one. */
static void rope_row(const double *x, const double *rope, int64_t d, int64_t e, double *y)
{
    for (int64_t i = 0; i < d; i += 2) {
        double cosine = rope[i % e], sine = rope[i % e + 1], re = x[i], im = x[i + 1];
        y[i] = re * cosine - im * sine;
        y[i + 1] = re * sine + im * cosine;
    }
}

/* ---- Matrix products ------------------------------------------------------------------------ */

static void run_linear(struct interp_call *c)
{
    const struct kw__value *w = c->in[1], *b = c->in[2], *table = c->in[3], *residual = c->in[4];
    int64_t n = w->dim[0], k = inner(w, 1), rows = kw__elements(c->in[0]) / k;
    int64_t rows_of_batch = rows / c->in[0]->dim[0];
    bool gated = table && c->a->row >= 0;
    if (!expect(c, kw__last_dim(c->in[0]) == k && (!b || kw__elements(b) == n), "x[..,K] w[N,K] b[N]") ||
        !expect(c, !residual || same_shape(residual, c->out[0]), "residual[B,L,N]") ||
        !expect(c, !gated || (residual && is_table(table, c->out[0], c->a->row)),
                "table[B,R,N] with a residual"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        const double *gate = gated ? table_row(table, c->x[3], r / rows_of_batch, c->a->row) : NULL;
        for (int64_t i = 0; i < n; i++) {
            double sum = b ? c->x[2][i] : 0;
            for (int64_t j = 0; j < k; j++) sum += c->x[0][r * k + j] * c->x[1][i * k + j];
            sum = activate(c->a->activation, sum);
            if (gate) sum *= gate[i];
            c->y[0][r * n + i] = residual ? c->x[4][r * n + i] + sum : sum;
        }
    }
}

/* One query row against the first `keys` keys of its head: y[e]. */
static void attend(const struct kw__attr *a, const double *q, const double *k, int64_t k_stride,
                   const double *v, int64_t v_stride, const double *bias, int64_t keys, int64_t e,
                   double *scores, double *y)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        double dot = 0;
        for (int64_t i = 0; i < e; i++) dot += q[i] * k[j * k_stride + i];
        scores[j] = a->scale * dot + (bias ? bias[j] : 0);
        if (j == keys - 1 && a->multiplicity > 1) scores[j] += log((double)a->multiplicity);
        top = fmax(top, scores[j]);
    }
    for (int64_t j = 0; j < keys; j++) sum += scores[j] = exp(scores[j] - top);
    for (int64_t i = 0; i < e; i++) {
        double mean = 0;
        for (int64_t j = 0; j < keys; j++) mean += scores[j] / sum * v[j * v_stride + i];
        y[i] = mean;
    }
}

/* Where an operand that may be a block of a joint projection begins in its rows, and how wide they are. */
struct block {
    int64_t start, width;
};

static struct block block_of(const struct kw__attr *a, bool joint, int64_t part, int64_t d)
{
    bool is_block = joint && a->parts > 1;
    return (struct block){is_block ? part * d : 0, is_block ? a->parts * d : d};
}

static void run_attention(struct interp_call *c)
{
    const struct kw__value *q = c->in[0], *k = c->in[1], *v = c->in[2], *bias = c->in[3], *length = c->in[4];
    const struct kw__attr *a = c->a;
    int64_t batch = q->dim[0], lq = q->dim[1], d = kw__last_dim(c->out[0]), heads = a->heads, lk = k->dim[1];
    struct block qb = block_of(a, a->q_joint, a->part - 2, d), kb = block_of(a, a->k_joint, a->part - 1, d);
    struct block vb = block_of(a, true, a->part, d);
    if (!expect(c, heads > 0 && d % heads == 0, "heads divides the channels") ||
        !expect(c, q->dim[2] == qb.width && k->dim[2] == kb.width && v->dim[2] == vb.width,
                "q, k, v are D wide") ||
        !expect(c, qb.start >= 0 && kb.start >= 0 && vb.start + d <= vb.width, "the parts are there") ||
        !expect(c, v->dim[1] == lk && k->dim[0] == batch && v->dim[0] == batch, "k[B,Lk,..] v[B,Lk,..]") ||
        !expect(c, !bias || has_shape(bias, KW__DIMS(heads, lq, lk)), "bias[h,Lq,Lk]") ||
        !expect(c, !length || kw__elements(length) == batch, "key_length[B]"))
        return;
    int64_t e = d / heads;
    double *scores = interp_allocate((size_t)lk, sizeof *scores);
    for (int64_t b = 0; b < batch; b++) {
        int64_t keys = length ? (int64_t)c->x[4][b] : lk;
        if (!expect(c, keys >= 1 && keys <= lk, "1 <= key_length <= Lk")) break;
        for (int64_t row = 0; row < lq; row++)
            for (int64_t h = 0; h < heads; h++)
                attend(a, c->x[0] + (b * lq + row) * qb.width + qb.start + h * e,
                       c->x[1] + b * lk * kb.width + kb.start + h * e, kb.width,
                       c->x[2] + b * lk * vb.width + vb.start + h * e, vb.width,
                       bias ? c->x[3] + (h * lq + row) * lk : NULL, keys, e, scores,
                       c->y[0] + (b * lq + row) * d + h * e);
    }
    free(scores);
}

/* ---- Convolutions --------------------------------------------------------------------------- */

/* What a convolution reads: the frames of the cache, then x, upsampled on request. */
struct window {
    const double *x, *cache;
    int64_t channels, frames, height, width, cached; /* of x; cached: frames of the cache */
    bool upsample;
};

static double pixel(const struct window *in, int64_t b, int64_t ch, int64_t t, int64_t h, int64_t w)
{
    if (in->upsample) {
        h = h < 0 ? -1 : h / 2;
        w = w < 0 ? -1 : w / 2;
    }
    if (h < 0 || w < 0 || h >= in->height || w >= in->width) return 0;
    int64_t plane = in->height * in->width, at = h * in->width + w, image = b * in->channels + ch;
    return t < in->cached ? in->cache[(image * in->cached + t) * plane + at]
                          : in->x[(image * in->frames + t - in->cached) * plane + at];
}

/* One output pixel at the kernel's first row, column and frame; w[C,kt,kh,kw]. */
static double correlate(const struct window *in, const double *w, int64_t kt, int64_t kh, int64_t kw,
                        int64_t b, int64_t t, int64_t h, int64_t col)
{
    double sum = 0;
    for (int64_t ch = 0; ch < in->channels; ch++)
        for (int64_t i = 0; i < kt; i++)
            for (int64_t j = 0; j < kh; j++)
                for (int64_t k = 0; k < kw; k++) sum += *w++ * pixel(in, b, ch, t + i, h + j, col + k);
    return sum;
}

/* cache': the last frames of cache and x. */
static void next_cache(struct interp_call *c, const struct window *in)
{
    struct window whole = *in;
    whole.upsample = false;
    const int64_t *d = c->out[1]->dim;
    double *y = c->y[1];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t w = 0; w < d[4]; w++) *y++ = pixel(&whole, b, ch, in->frames + t, h, w);
}

static void run_conv(struct interp_call *c)
{
    const struct kw__value *x = c->in[0], *w = c->in[1], *b = c->in[2], *cache = c->in[3],
                           *residual = c->in[4];
    const struct kw__attr *a = c->a;
    bool folded = w->recipe == KW__RECIPE_FOLD_UPSAMPLE;
    int64_t kt = w->ndim == 5 && !folded ? w->dim[2] : 1, kh = w->dim[w->ndim - 2], kw = w->dim[w->ndim - 1];
    int64_t channels = folded ? w->dim[2] : w->dim[1], outputs = folded ? w->dim[1] : w->dim[0];
    int64_t kernel = channels * kt * kh * kw;
    const int64_t *d = c->out[0]->dim;
    struct window in = {c->x[0],   c->x[3],   x->dim[1],          x->dim[2],
                        x->dim[3], x->dim[4], cache ? kt - 1 : 0, a->upsample && !folded};
    if (!expect(c, channels == x->dim[1] && outputs == d[1] && (!b || kw__elements(b) == outputs),
                "x[B,C,T,H,W] w[O,C,..] b[O]") ||
        !expect(c, !cache || has_shape(cache, KW__DIMS(x->dim[0], channels, kt - 1, x->dim[3], x->dim[4])),
                "cache[B,C,kt-1,H,W]") ||
        !expect(c, !cache || has_shape(c->out[1], cache->ndim, cache->dim), "cache' like cache") ||
        !expect(c, !residual || same_shape(residual, c->out[0]), "the residual is like y") ||
        !expect(c,
                !folded || (a->upsample && kh == 2 && kw == 2 && w->dim[0] == 4 && a->pad[0] == 1 &&
                            a->pad[1] == 1 && d[3] == 2 * x->dim[3] && d[4] == 2 * x->dim[4]),
                "a folded kernel upsamples"))
        return;
    int64_t at = 0;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t o = 0; o < d[1]; o++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t col = 0; col < d[4]; col++, at++) {
                        int64_t which = folded ? (2 * (h % 2) + col % 2) * outputs + o : o;
                        int64_t top = folded ? h / 2 - 1 + h % 2 : h * a->stride[1] - a->pad[0];
                        int64_t left = folded ? col / 2 - 1 + col % 2 : col * a->stride[2] - a->pad[1];
                        double sum = correlate(&in, c->x[1] + which * kernel, kt, kh, kw, n, t * a->stride[0],
                                               top, left);
                        c->y[0][at] = sum + (b ? c->x[2][o] : 0) + (residual ? c->x[4][at] : 0);
                    }
    if (cache) next_cache(c, &in);
}

/* ---- Norms ---------------------------------------------------------------------------------- */

static void run_layernorm(struct interp_call *c)
{
    int64_t d = kw__last_dim(c->in[0]), rows = kw__elements(c->in[0]) / d;
    if (!expect(c, (!c->in[1] || kw__elements(c->in[1]) == d) && (!c->in[2] || kw__elements(c->in[2]) == d),
                "gamma[D] beta[D]"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        double *y = c->y[0] + r * d;
        layernorm_row(c->x[0] + r * d, d, c->a->eps, y);
        for (int64_t i = 0; i < d; i++)
            y[i] = y[i] * (c->in[1] ? c->x[1][i] : 1) + (c->in[2] ? c->x[2][i] : 0);
    }
}

/* RMSNORM and RMSNORM_ROPE, of a block or of the whole of x. */
static void run_rmsnorm(struct interp_call *c)
{
    int64_t d = kw__elements(c->in[1]), width = kw__last_dim(c->in[0]), rows = kw__elements(c->in[0]) / width;
    struct block b = block_of(c->a, true, c->a->part, d);
    const struct kw__value *rope = c->op->code == KW__RMSNORM_ROPE ? c->in[2] : NULL;
    int64_t l = c->in[0]->dim[1], e = rope ? kw__last_dim(rope) : 1;
    if (!expect(c, width == b.width && b.start >= 0 && b.start + d <= width, "x[..,D] gamma[D]") ||
        !expect(c, !rope || (has_shape(rope, KW__DIMS(l, e)) && d % e == 0), "rope[L,e]"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        double *y = c->y[0] + r * d;
        rmsnorm_row(c->x[0] + r * width + b.start, c->x[1], d, c->a->eps, y);
        if (rope) rope_row(y, c->x[2] + r % l * e, d, e, y);
    }
}

static void run_channel_rmsnorm(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], channels = c->in[0]->dim[1], pixels = inner(c->in[0], 2);
    if (!expect(c, kw__elements(c->in[1]) == channels, "gamma[C,1,1]")) return;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t p = 0; p < pixels; p++) {
            const double *x = c->x[0] + b * channels * pixels + p;
            double square = 0;
            for (int64_t ch = 0; ch < channels; ch++) square += x[ch * pixels] * x[ch * pixels];
            double factor = sqrt((double)channels) / fmax(sqrt(square), 1e-12);
            for (int64_t ch = 0; ch < channels; ch++)
                c->y[0][(b * channels + ch) * pixels + p] =
                    activate(c->a->activation, x[ch * pixels] * factor * c->x[1][ch]);
        }
}

/* MODULATE and LAYERNORM_MODULATE. */
static void run_modulate(struct interp_call *c)
{
    const struct kw__value *x = c->in[0];
    int64_t d = kw__last_dim(x), rows = kw__elements(x) / d, rows_of_batch = rows / x->dim[0];
    if (!expect(c, is_table(c->in[1], x, c->a->row) && is_table(c->in[1], x, c->a->row2), "table[B,R,D]"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        const double *shift = table_row(c->in[1], c->x[1], r / rows_of_batch, c->a->row);
        const double *scale = table_row(c->in[1], c->x[1], r / rows_of_batch, c->a->row2);
        double *y = c->y[0] + r * d;
        if (c->op->code == KW__LAYERNORM_MODULATE)
            layernorm_row(c->x[0] + r * d, d, c->a->eps, y);
        else
            memcpy(y, c->x[0] + r * d, (size_t)d * sizeof *y);
        for (int64_t i = 0; i < d; i++) y[i] = y[i] * (1 + scale[i]) + shift[i];
    }
}

/* ---- Elementwise ---------------------------------------------------------------------------- */

/* Operators whose inputs all have the output's shape. */
static void run_pointwise(struct interp_call *c)
{
    int64_t n = kw__elements(c->out[0]);
    for (int i = 0; i < c->op->num_inputs; i++)
        if (!expect(c, c->in[i] && kw__elements(c->in[i]) == n, "the operands have one shape")) return;
    for (int64_t i = 0; i < n; i++) {
        double a = c->x[0][i], b = c->op->num_inputs > 1 ? c->x[1][i] : 0;
        double *y = &c->y[0][i];
        switch (c->op->code) {
        case KW__ADD: *y = a + b; break;
        case KW__MUL: *y = a * b; break;
        case KW__SILU: *y = silu(a); break;
        case KW__GELU: *y = gelu(a); break;
        case KW__GELU_MUL: *y = gelu(a) * b; break;
        case KW__CLAMP: *y = fmin(fmax(a, c->a->low), c->a->high); break;
        default: *y = a; /* CAST, TO_HOST */
        }
    }
}

static void run_gate_add(struct interp_call *c)
{
    const struct kw__value *x = c->in[0], *table = c->in[2];
    int64_t d = kw__last_dim(x), n = kw__elements(x), batch_elements = n / x->dim[0];
    if (!expect(c, same_shape(x, c->in[1]) && is_table(table, x, c->a->row),
                "x[B,L,D] y[B,L,D] table[B,R,D]"))
        return;
    for (int64_t i = 0; i < n; i++)
        c->y[0][i] =
            c->x[0][i] + c->x[1][i] * table_row(table, c->x[2], i / batch_elements, c->a->row)[i % d];
}

static void run_adaln_table(struct interp_call *c)
{
    int64_t r = c->in[0]->dim[1], d = c->in[0]->dim[2], batch = c->in[1]->dim[0],
            width = kw__last_dim(c->in[1]);
    if (!expect(c, c->in[0]->dim[0] == 1 && kw__elements(c->in[1]) == batch * width, "p[1,R,D] e[B,1,..]") ||
        !expect(c, width == r * d || width == d, "e is R*D or D wide"))
        return;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < r * d; i++)
            c->y[0][b * r * d + i] = c->x[0][i] + c->x[1][b * width + i % width];
}

static void run_rope(struct interp_call *c)
{
    int64_t d = kw__last_dim(c->in[0]), rows = kw__elements(c->in[0]) / d, l = c->in[0]->dim[1];
    int64_t e = kw__last_dim(c->in[1]);
    if (!expect(c, has_shape(c->in[1], KW__DIMS(l, e)) && d % e == 0, "rope[L,e]")) return;
    for (int64_t r = 0; r < rows; r++) rope_row(c->x[0] + r * d, c->x[1] + r % l * e, d, e, c->y[0] + r * d);
}

static void run_rope_table(struct interp_call *c)
{
    const int64_t *grid = c->a->grid, *axes = c->a->axes;
    double *y = c->y[0];
    for (int64_t l = 0; l < grid[0] * grid[1] * grid[2]; l++) {
        int64_t position[3] = {l / (grid[1] * grid[2]), l / grid[2] % grid[1], l % grid[2]};
        for (int axis = 0; axis < 3; axis++)
            for (int64_t i = 0; i < axes[axis]; i += 2) {
                double angle = (double)position[axis] * pow(c->a->theta, -(double)i / (double)axes[axis]);
                *y++ = cos(angle);
                *y++ = sin(angle);
            }
    }
}

static void run_sinusoid(struct interp_call *c)
{
    int64_t half = c->a->width / 2;
    for (int64_t b = 0; b < kw__elements(c->in[0]); b++)
        for (int64_t i = 0; i < half; i++) {
            double angle = c->x[0][b] * pow(10000, -(double)i / (double)half);
            c->y[0][b * 2 * half + i] = cos(angle);
            c->y[0][b * 2 * half + half + i] = sin(angle);
        }
}

static void run_channel_affine(struct interp_call *c)
{
    int64_t channels = c->in[0]->dim[1], pixels = inner(c->in[0], 2);
    for (int64_t i = 0; i < kw__elements(c->in[0]); i++) {
        int64_t ch = i / pixels % channels;
        c->y[0][i] = c->x[0][i] * c->a->constants[1][ch] + c->a->constants[0][ch];
    }
}

static void run_lincomb(struct interp_call *c)
{
    int64_t n = kw__elements(c->out[0]);
    for (int64_t i = 0; i < n; i++) c->y[0][i] = 0;
    for (int k = 0; k < c->op->num_inputs; k++) {
        if (!c->in[k]) continue;
        if (!expect(c, kw__elements(c->in[k]) == n, "the operands have one shape")) return;
        double coefficient = column(c, c->a->column + k);
        if (coefficient == 0) continue; /* a solver's history that is not there yet */
        for (int64_t i = 0; i < n; i++) c->y[0][i] += coefficient * c->x[k][i];
    }
}

/* ---- Copies --------------------------------------------------------------------------------- */

static void run_embedding(struct interp_call *c)
{
    int64_t vocabulary = c->in[1]->dim[0], d = c->in[1]->dim[1];
    for (int64_t i = 0; i < kw__elements(c->in[0]); i++) {
        int64_t id = (int64_t)c->x[0][i];
        if (!expect(c, id >= 0 && id < vocabulary, "0 <= id < V")) return;
        memcpy(c->y[0] + i * d, c->x[1] + id * d, (size_t)d * sizeof(double));
    }
}

/* Half of T5's buckets for each direction: half of those are single distances, the rest grow by equal
 * factors up to the largest distance. Offset is key minus query. */
static int64_t relative_bucket(int64_t offset, int64_t buckets, int64_t largest)
{
    int64_t half = buckets / 2, single = half / 2, start = offset > 0 ? half : 0;
    int64_t distance = offset < 0 ? -offset : offset;
    if (distance < single) return start + distance;
    double step = log((double)distance / (double)single) / log((double)largest / (double)single);
    int64_t bucket =
        single + (int64_t)(step * (double)(half - single) + 1e-9); /* log(2) / log(16) * 8 is 2 */
    return start + (bucket < half ? bucket : half - 1);
}

static void run_relative_bias(struct interp_call *c)
{
    int64_t buckets = c->in[0]->dim[0], heads = c->in[0]->dim[1], l = c->a->width;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t query = 0; query < l; query++)
            for (int64_t key = 0; key < l; key++)
                c->y[0][(h * l + query) * l + key] =
                    c->x[0][relative_bucket(key - query, buckets, c->a->distance) * heads + h];
}

static void run_pad_rows(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], rows = c->in[0]->dim[1], d = c->in[0]->dim[2];
    if (!expect(c, kw__elements(c->in[1]) == batch, "length[B]")) return;
    for (int64_t b = 0; b < batch; b++) {
        if (!expect(c, (int64_t)c->x[1][b] <= rows && (int64_t)c->x[1][b] <= c->a->width, "length <= L"))
            return;
        for (int64_t r = 0; r < c->a->width; r++)
            for (int64_t i = 0; i < d; i++)
                c->y[0][(b * c->a->width + r) * d + i] =
                    r < (int64_t)c->x[1][b] ? c->x[0][(b * rows + r) * d + i] : 0;
    }
}

/* y[b][j][i] = x[b][i][j] */
static void transpose(const double *x, double *y, int64_t batch, int64_t rows, int64_t columns)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                y[(b * columns + j) * rows + i] = x[(b * rows + i) * columns + j];
}

static void run_to_tokens(struct interp_call *c)
{
    transpose(c->x[0], c->y[0], c->in[0]->dim[0], c->in[0]->dim[1], inner(c->in[0], 2));
}

static void run_unpatchify(struct interp_call *c)
{
    const int64_t *grid = c->a->grid, *patch = c->a->patch, *d = c->out[0]->dim;
    int64_t width = kw__last_dim(c->in[0]), tokens = grid[0] * grid[1] * grid[2];
    if (!expect(c, c->in[0]->dim[1] == tokens && width == d[1] * patch[0] * patch[1] * patch[2],
                "x[B,T*H*W,p*q*r*C]"))
        return;
    double *y = c->y[0];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t w = 0; w < d[4]; w++) {
                        int64_t token = (t / patch[0] * grid[1] + h / patch[1]) * grid[2] + w / patch[2];
                        int64_t place = (t % patch[0] * patch[1] + h % patch[1]) * patch[2] + w % patch[2];
                        *y++ = c->x[0][(b * tokens + token) * width + place * d[1] + ch];
                    }
}

static void run_split_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t block = d[1] / c->a->parts, pixels = d[3] * d[4];
    if (!expect(c, c->a->parts >= 1 && c->a->parts <= c->op->num_outputs, "a part for each output")) return;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < block * c->a->parts; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[ch / block][((b * d[2] + t) * pixels + p) * block + ch % block] =
                        c->x[0][((b * d[1] + ch) * d[2] + t) * pixels + p];
}

static void run_join_frames(struct interp_call *c)
{
    const int64_t *d = c->out[0]->dim;
    int64_t pixels = d[3] * d[4];
    if (!expect(c, has_shape(c->in[0], KW__DIMS(d[0] * d[2], pixels, d[1])), "x[B*T,H*W,C]")) return;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[0][((b * d[1] + ch) * d[2] + t) * pixels + p] =
                        c->x[0][((b * d[2] + t) * pixels + p) * d[1] + ch];
}

static void run_upsample(struct interp_call *c)
{
    int64_t h = c->in[0]->dim[3], w = c->in[0]->dim[4], planes = kw__elements(c->in[0]) / (h * w);
    for (int64_t p = 0; p < planes; p++)
        for (int64_t i = 0; i < 2 * h; i++)
            for (int64_t j = 0; j < 2 * w; j++)
                c->y[0][(p * 2 * h + i) * 2 * w + j] = c->x[0][(p * h + i / 2) * w + j / 2];
}

static void run_interleave_time(struct interp_call *c)
{
    const int64_t *d = c->out[0]->dim; /* [B,C,2T,H,W] */
    int64_t pixels = d[3] * d[4], frames = d[2] / 2;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++) {
                int64_t source = (b * 2 + t % 2) * d[1] + ch;
                memcpy(c->y[0] + ((b * d[1] + ch) * d[2] + t) * pixels,
                       c->x[0] + (source * frames + t / 2) * pixels, (size_t)pixels * sizeof(double));
            }
}

static void run_take_frame(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4], frame = (int64_t)column(c, c->a->column);
    if (!expect(c, frame >= 0 && frame < d[2], "the frame is one of x")) return;
    for (int64_t image = 0; image < d[0] * d[1]; image++)
        memcpy(c->y[0] + image * pixels, c->x[0] + (image * d[2] + frame) * pixels,
               (size_t)pixels * sizeof(double));
}

static void run_put_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4], count = c->in[1]->dim[2], frame = (int64_t)column(c, c->a->column);
    if (!expect(c, kw__elements(c->in[1]) == d[0] * d[1] * count * pixels,
                "x is like clip but for its frames") ||
        !expect(c, frame >= 0 && frame + count <= d[2], "the frames are some of the clip's"))
        return;
    memcpy(c->y[0], c->x[0], (size_t)kw__elements(c->in[0]) * sizeof(double));
    for (int64_t image = 0; image < d[0] * d[1]; image++)
        memcpy(c->y[0] + (image * d[2] + frame) * pixels, c->x[1] + image * count * pixels,
               (size_t)(count * pixels) * sizeof(double));
}

/* Transposed as [B*F,H*W,C] is: channels last, frames before them. Values end in 0..1. */
static void run_host_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[0][((b * d[2] + t) * pixels + p) * d[1] + ch] =
                        fmin(fmax(c->x[0][((b * d[1] + ch) * d[2] + t) * pixels + p] / 2 + 0.5, 0), 1);
}

static void (*const functions[KW__NUM_OPCODES])(struct interp_call *) = {
    [KW__LINEAR] = run_linear,
    [KW__ATTENTION] = run_attention,
    [KW__CONV] = run_conv,
    [KW__LAYERNORM] = run_layernorm,
    [KW__RMSNORM] = run_rmsnorm,
    [KW__CHANNEL_RMSNORM] = run_channel_rmsnorm,
    [KW__LAYERNORM_MODULATE] = run_modulate,
    [KW__RMSNORM_ROPE] = run_rmsnorm,
    [KW__ADD] = run_pointwise,
    [KW__MUL] = run_pointwise,
    [KW__SILU] = run_pointwise,
    [KW__GELU] = run_pointwise,
    [KW__GELU_MUL] = run_pointwise,
    [KW__CAST] = run_pointwise,
    [KW__CLAMP] = run_pointwise,
    [KW__MODULATE] = run_modulate,
    [KW__GATE_ADD] = run_gate_add,
    [KW__ADALN_TABLE] = run_adaln_table,
    [KW__ROPE] = run_rope,
    [KW__ROPE_TABLE] = run_rope_table,
    [KW__SINUSOID] = run_sinusoid,
    [KW__CHANNEL_AFFINE] = run_channel_affine,
    [KW__LINCOMB] = run_lincomb,
    [KW__EMBEDDING] = run_embedding,
    [KW__RELATIVE_BIAS] = run_relative_bias,
    [KW__PAD_ROWS] = run_pad_rows,
    [KW__TO_TOKENS] = run_to_tokens,
    [KW__UNPATCHIFY] = run_unpatchify,
    [KW__SPLIT_FRAMES] = run_split_frames,
    [KW__JOIN_FRAMES] = run_join_frames,
    [KW__UPSAMPLE] = run_upsample,
    [KW__INTERLEAVE_TIME] = run_interleave_time,
    [KW__TAKE_FRAME] = run_take_frame,
    [KW__PUT_FRAMES] = run_put_frames,
    [KW__TO_HOST] = run_pointwise,
    [KW__HOST_FRAMES] = run_host_frames,
};

void interp_compute(struct interp_call *c)
{
    functions[c->op->code](c);
}
