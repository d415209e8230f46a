/* The operators in float64, in the order of graph/ops.def; copies are in interp_copies.c. */
#include "support/interp_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What operators share ------------------------------------------------------------------- */

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
    case KW__ACT_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case KW__ACT_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    default: return x;
    }
}

/* Whether table is [B,R,D] or [B,1,R*D], with row `row`, for x of d channels. */
static bool is_table(const struct kw__value *table, const struct kw__value *x, int64_t d, int row)
{
    return table->ndim == 3 && table->dim[0] == x->dim[0] && (table->dim[2] == d || table->dim[1] == 1) &&
           row >= 0 && (row + 1) * d <= table->dim[1] * table->dim[2];
}

/* One for each row of x[B,L,D]: as a table of a batch of B*L. */
static bool is_table_of_rows(const struct kw__value *table, const struct kw__value *x, int64_t d, int row)
{
    struct kw__value rows = *x;
    rows.dim[0] = kw__elements(x) / d;
    return x->ndim == 3 && is_table(table, &rows, d, row);
}

/* Row `row` of batch b. */
static const double *table_row(const struct kw__value *table, const double *data, int64_t b, int row,
                               int64_t d)
{
    return data + b * table->dim[1] * table->dim[2] + row * d;
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
    for (int64_t i = 0; i < d; i++) y[i] = x[i] / sqrt(square + eps) * (gamma ? gamma[i] : 1);
}

/* Turns the pairs of each head of a row of d channels, which are neighbours or of two halves; x and y may be
 * one. */
static void rope_row(const double *x, const double *rope, int64_t d, int64_t e, bool halves, double *y)
{
    for (int64_t i = 0; i < d; i += 2) {
        int64_t first = halves ? i / e * e + i % e / 2 : i, second = first + (halves ? e / 2 : 1);
        double cosine = rope[i % e], sine = rope[i % e + 1], re = x[first], im = x[second];
        y[first] = re * cosine - im * sine;
        y[second] = re * sine + im * cosine;
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
        !expect(c, !gated || (residual && is_table(table, c->out[0], n, c->a->row)),
                "table[B,R,N] with a residual"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        const double *gate = gated ? table_row(table, c->x[3], r / rows_of_batch, c->a->row, n) : NULL;
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
        !expect(c, !a->ragged || lq == lk, "ragged rows are queries and keys") ||
        !expect(c, !length || kw__elements(length) == batch, "key_length[B]"))
        return;
    int64_t e = d / heads;
    double *scores = interp_allocate((size_t)lk, sizeof *scores);
    for (int64_t b = 0; b < batch; b++) {
        int64_t all = length ? a->prefix + (int64_t)c->x[4][b] : lk;
        if (!expect(c, all >= 1 && all <= lk, "1 <= key_length <= Lk")) break;
        for (int64_t row = 0; row < lq; row++) {
            int64_t own = a->width > 1 ? (row / a->width + 1) * a->width : row + 1;
            int64_t keys = a->causal && own < all ? own : all;
            if (a->ragged && row >= all) {
                memset(c->y[0] + (b * lq + row) * d, 0, (size_t)d * sizeof(double));
                continue;
            }
            for (int64_t h = 0; h < heads; h++)
                attend(a, c->x[0] + (b * lq + row) * qb.width + qb.start + h * e,
                       c->x[1] + b * lk * kb.width + kb.start + h * e, kb.width,
                       c->x[2] + b * lk * vb.width + vb.start + h * e, vb.width,
                       bias ? c->x[3] + (h * lq + row) * lk : NULL, keys, e, scores,
                       c->y[0] + (b * lq + row) * d + h * e);
        }
    }
    free(scores);
}

/* ---- Convolutions --------------------------------------------------------------------------- */

/* What a convolution reads: the frames of the cache or of padding, then x, upsampled on request. */
struct window {
    const double *x, *cache;
    int64_t channels, frames, height, width, before; /* of x; before: frames that come before it */
    bool upsample, edge_time, edge_space;            /* edge: padding repeats what is outermost */
};

static int64_t clamp_index(int64_t i, int64_t count)
{
    return i < 0 ? 0 : i < count ? i : count - 1;
}

static double pixel(const struct window *in, int64_t b, int64_t ch, int64_t t, int64_t h, int64_t w)
{
    if (in->upsample) {
        h = h < 0 ? -1 : h / 2;
        w = w < 0 ? -1 : w / 2;
    }
    if (in->edge_space) {
        h = clamp_index(h, in->height);
        w = clamp_index(w, in->width);
    }
    if (h < 0 || w < 0 || h >= in->height || w >= in->width) return 0;
    int64_t plane = in->height * in->width, at = h * in->width + w, image = b * in->channels + ch;
    if (in->cache && t < in->before) return in->cache[(image * in->before + t) * plane + at];
    t -= in->before;
    if (in->edge_time) t = clamp_index(t, in->frames);
    return t < 0 || t >= in->frames ? 0 : in->x[(image * in->frames + t) * plane + at];
}

/* What the kernel sees with its first frame, row and column there: seen[C,kt,kh,kw]. */
static void see(const struct window *in, int64_t kt, int64_t kh, int64_t kw, int64_t b, int64_t t, int64_t h,
                int64_t col, double *seen)
{
    for (int64_t ch = 0; ch < in->channels; ch++)
        for (int64_t i = 0; i < kt; i++)
            for (int64_t j = 0; j < kh; j++)
                for (int64_t k = 0; k < kw; k++) *seen++ = pixel(in, b, ch, t + i, h + j, col + k);
}

/* cache': the last frames of all that the kernel sees. */
static void next_cache(struct interp_call *c, const struct window *in, int64_t after)
{
    struct window whole = *in;
    whole.upsample = false;
    const int64_t *d = c->out[1]->dim;
    int64_t first = in->before + in->frames + after - d[2];
    double *y = c->y[1];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t w = 0; w < d[4]; w++) *y++ = pixel(&whole, b, ch, first + t, h, w);
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
    struct window in = {.x = c->x[0],
                        .cache = c->x[3],
                        .channels = x->dim[1],
                        .frames = x->dim[2],
                        .height = x->dim[3],
                        .width = x->dim[4],
                        .before = cache ? kt - 1 : a->pad_time[0],
                        .upsample = a->upsample && !folded,
                        .edge_time = a->replicate_time,
                        .edge_space = a->replicate_space};
    if (!expect(c, channels == x->dim[1] && outputs == d[1] && (!b || kw__elements(b) == outputs),
                "x[B,C,T,H,W] w[O,C,..] b[O]") ||
        !expect(c, !cache || has_shape(cache, KW__DIMS(x->dim[0], channels, kt - 1, x->dim[3], x->dim[4])),
                "cache[B,C,kt-1,H,W]") ||
        !expect(c, !cache || has_shape(c->out[1], cache->ndim, cache->dim), "cache' like cache") ||
        !expect(c, !a->replicate_space || !a->upsample, "an upsampling convolution pads zeros") ||
        !expect(c, !residual || same_shape(residual, c->out[0]), "the residual is like y") ||
        !expect(c,
                !folded || (a->upsample && kh == 2 && kw == 2 && w->dim[0] == 4 && a->pad[0] == 1 &&
                            a->pad[1] == 1 && d[3] == 2 * x->dim[3] && d[4] == 2 * x->dim[4]),
                "a folded kernel upsamples"))
        return;
    double *seen = malloc((size_t)kernel * sizeof *seen);
    if (!expect(c, seen, "memory for what a kernel sees")) return;
    int64_t image = d[2] * d[3] * d[4], at = 0;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t t = 0; t < d[2]; t++)
            for (int64_t h = 0; h < d[3]; h++)
                for (int64_t col = 0; col < d[4]; col++, at++) {
                    int64_t top = folded ? h / 2 - 1 + h % 2 : h * a->stride[1] - a->pad[0];
                    int64_t left = folded ? col / 2 - 1 + col % 2 : col * a->stride[2] - a->pad[1];
                    see(&in, kt, kh, kw, n, t * a->stride[0], top, left, seen);
                    for (int64_t o = 0; o < d[1]; o++) {
                        int64_t which = folded ? (2 * (h % 2) + col % 2) * outputs + o : o;
                        int64_t to = (n * d[1] + o) * image + at - n * image;
                        const double *kernel_of = c->x[1] + which * kernel;
                        double sum = 0;
                        for (int64_t k = 0; k < kernel; k++) sum += kernel_of[k] * seen[k];
                        c->y[0][to] = sum + (b ? c->x[2][o] : 0) + (residual ? c->x[4][to] : 0);
                    }
                }
    free(seen);
    if (cache || a->keep) next_cache(c, &in, cache ? 0 : a->pad_time[1]);
}

/* ---- Norms ---------------------------------------------------------------------------------- */

static void run_layernorm(struct interp_call *c)
{
    int64_t heads = c->a->heads > 1 ? c->a->heads : 1;
    int64_t d = kw__last_dim(c->in[0]) / heads, rows = kw__elements(c->in[0]) / d;
    if (!expect(c, (!c->in[1] || kw__elements(c->in[1]) == d) && (!c->in[2] || kw__elements(c->in[2]) == d),
                "gamma[D] beta[D]") ||
        !expect(c, kw__last_dim(c->in[0]) == d * heads, "heads divides the channels"))
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
    int64_t d = kw__last_dim(c->out[0]), width = kw__last_dim(c->in[0]),
            rows = kw__elements(c->in[0]) / width;
    int64_t heads = c->a->heads > 1 ? c->a->heads : 1, part = d / heads;
    struct block b = block_of(c->a, true, c->a->part, d);
    const struct kw__value *rope = c->op->code == KW__RMSNORM_ROPE ? c->in[2] : NULL;
    int64_t l = c->in[0]->dim[1], e = rope ? kw__last_dim(rope) : 1;
    if (!expect(c, width == b.width && b.start >= 0 && b.start + d <= width && part * heads == d,
                "x[..,D], heads divides D") ||
        !expect(c, !c->in[1] || kw__elements(c->in[1]) == part, "gamma[D]") ||
        !expect(c, !rope || heads == 1, "rmsnorm_rope is over all heads") ||
        !expect(c, !rope || (has_shape(rope, KW__DIMS(l, e)) && d % e == 0), "rope[L,e]"))
        return;
    for (int64_t r = 0; r < rows; r++) {
        double *y = c->y[0] + r * d;
        for (int64_t h = 0; h < heads; h++)
            rmsnorm_row(c->x[0] + r * width + b.start + h * part, c->x[1], part, c->a->eps, y + h * part);
        if (rope) rope_row(y, c->x[2] + r % l * e, d, e, false, y);
    }
}

static void run_channel_rmsnorm(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], channels = c->in[0]->dim[1], pixels = inner(c->in[0], 2);
    if (!expect(c, !c->in[1] || kw__elements(c->in[1]) == channels, "gamma[C,1,1]")) return;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t p = 0; p < pixels; p++) {
            const double *x = c->x[0] + b * channels * pixels + p;
            double square = 0;
            for (int64_t ch = 0; ch < channels; ch++) square += x[ch * pixels] * x[ch * pixels];
            double factor = c->a->eps > 0 ? 1 / sqrt(square / (double)channels + c->a->eps)
                                          : sqrt((double)channels) / fmax(sqrt(square), 1e-12);
            for (int64_t ch = 0; ch < channels; ch++)
                c->y[0][(b * channels + ch) * pixels + p] =
                    activate(c->a->activation, x[ch * pixels] * factor * (c->in[1] ? c->x[1][ch] : 1));
        }
}

/* Channels from..from + n of image b, of the frames from..from + m of each: what is normalized together. */
static void normalize_group(struct interp_call *c, int64_t b, int64_t channel, int64_t n, int64_t frame,
                            int64_t m)
{
    const int64_t *dim = c->in[0]->dim;
    int64_t plane = dim[3] * dim[4];
    double count = (double)(n * m * plane), mean = 0, variance = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int64_t ch = channel; ch < channel + n; ch++)
            for (int64_t t = frame; t < frame + m; t++)
                for (int64_t p = 0; p < plane; p++) {
                    int64_t at = ((b * dim[1] + ch) * dim[2] + t) * plane + p;
                    double x = c->x[0][at], y = (x - mean) / sqrt(variance + c->a->eps);
                    if (pass == 0) mean += x / count;
                    if (pass == 1) variance += (x - mean) * (x - mean) / count;
                    if (pass < 2) continue;
                    y = y * (c->in[1] ? c->x[1][ch] : 1) + (c->in[2] ? c->x[2][ch] : 0);
                    c->y[0][at] = activate(c->a->activation, y);
                }
}

static void run_groupnorm(struct interp_call *c)
{
    const int64_t *dim = c->in[0]->dim;
    int64_t groups = c->a->groups, frames = c->a->per_frame ? 1 : dim[2];
    if (!expect(c, groups > 0 && dim[1] % groups == 0, "groups divides the channels") ||
        !expect(c,
                (!c->in[1] || kw__elements(c->in[1]) == dim[1]) &&
                    (!c->in[2] || kw__elements(c->in[2]) == dim[1]),
                "gamma[C] beta[C]"))
        return;
    int64_t n = dim[1] / groups;
    for (int64_t b = 0; b < dim[0]; b++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t t = 0; t < dim[2]; t += frames) normalize_group(c, b, g * n, n, t, frames);
}

/* MODULATE of images: channel by channel. */
static void modulate_channels(struct interp_call *c)
{
    const struct kw__value *x = c->in[0];
    int64_t d = x->dim[1], pixels = inner(x, 2), shift = c->a->row, scale = c->a->row2;
    for (int64_t i = 0; i < kw__elements(x); i++) {
        int64_t b = i / pixels / d, ch = i / pixels % d;
        const double *table = table_row(c->in[1], c->x[1], b, 0, d) + ch;
        c->y[0][i] = c->x[0][i] * (scale < 0 ? 1 : 1 + table[scale * d]) + (shift < 0 ? 0 : table[shift * d]);
    }
}

/* MODULATE and LAYERNORM_MODULATE. */
static void run_modulate(struct interp_call *c)
{
    const struct kw__value *x = c->in[0];
    int64_t d = x->ndim == 5 ? x->dim[1] : kw__last_dim(x);
    bool whole = c->op->code == KW__LAYERNORM_MODULATE;
    for (int k = 0; k < 2; k++) {
        int row = k ? c->a->row2 : c->a->row;
        bool good = is_table(c->in[1], x, d, row) || is_table_of_rows(c->in[1], x, d, row);
        if ((row >= 0 || whole) && !expect(c, good, "table[B,R,D] or [B*L,R,D]")) return;
    }
    if (x->ndim == 5) {
        modulate_channels(c);
        return;
    }
    int64_t rows = kw__elements(x) / d, rows_of_batch = rows / c->in[1]->dim[0];
    for (int64_t r = 0; r < rows; r++) {
        const double *shift = table_row(c->in[1], c->x[1], r / rows_of_batch, c->a->row, d);
        const double *scale = table_row(c->in[1], c->x[1], r / rows_of_batch, c->a->row2, d);
        double *y = c->y[0] + r * d;
        if (c->op->code == KW__LAYERNORM_MODULATE)
            layernorm_row(c->x[0] + r * d, d, c->a->eps, y);
        else
            memcpy(y, c->x[0] + r * d, (size_t)d * sizeof *y);
        for (int64_t i = 0; i < d; i++)
            y[i] = y[i] * (c->a->row2 < 0 ? 1 : 1 + scale[i]) + (c->a->row < 0 ? 0 : shift[i]);
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
        case KW__GELU: *y = activate(c->a->activation ? c->a->activation : KW__ACT_GELU, a); break;
        case KW__TANH: *y = tanh(a); break;
        case KW__GELU_MUL: *y = gelu(a) * b; break;
        case KW__CLAMP: *y = fmin(fmax(a, c->a->low), c->a->high); break;
        default: *y = a; /* CAST, TO_HOST */
        }
    }
}

static void run_glu(struct interp_call *c)
{
    int64_t d = kw__last_dim(c->out[0]), rows = kw__elements(c->out[0]) / d;
    if (!expect(c, kw__last_dim(c->in[0]) == 2 * d, "x[..,2D]")) return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++)
            c->y[0][r * d + i] =
                c->x[0][r * 2 * d + i] * activate(c->a->activation, c->x[0][(r * 2 + 1) * d + i]);
}

static void run_add_rows(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], l = c->in[0]->dim[1], d = c->in[0]->dim[2], prefix = c->a->prefix;
    const struct kw__value *p = c->in[1];
    if (!expect(c, kw__last_dim(p) == d && (p->ndim == 2 || p->dim[0] == 1), "p[L,D] or p[1,L,D]") ||
        !expect(c, prefix >= 0 && p->dim[p->ndim - 2] >= l - prefix, "p has a row for each"))
        return;
    for (int64_t i = 0; i < batch * l * d; i++) {
        int64_t row = i / d % l - prefix;
        c->y[0][i] = c->x[0][i] + (row < 0 ? 0 : c->x[1][row * d + i % d]);
    }
}

static void run_mean_rows(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], l = c->in[0]->dim[1], d = c->in[0]->dim[2];
    if (!expect(c, kw__elements(c->in[1]) == batch, "length[B]")) return;
    for (int64_t b = 0; b < batch; b++) {
        int64_t n = (int64_t)c->x[1][b] < 1 ? 1 : (int64_t)c->x[1][b];
        if (!expect(c, n <= l, "length <= L")) return;
        int64_t first = c->a->width && n > c->a->width ? n - c->a->width : 0;
        for (int64_t i = 0; i < d; i++) {
            double sum = 0;
            for (int64_t r = first; r < n; r++) sum += c->x[0][(b * l + r) * d + i];
            c->y[0][b * d + i] = sum / (double)(n - first);
        }
    }
}

static void run_gate_add(struct interp_call *c)
{
    const struct kw__value *x = c->in[0], *table = c->in[2];
    int64_t d = kw__last_dim(x), n = kw__elements(x), batch_elements = n / table->dim[0];
    bool good = is_table(table, x, d, c->a->row) || is_table_of_rows(table, x, d, c->a->row);
    if (!expect(c, same_shape(x, c->in[1]) && good, "x[B,L,D] y[B,L,D] table[B,R,D] or [B*L,R,D]")) return;
    for (int64_t i = 0; i < n; i++)
        c->y[0][i] =
            c->x[0][i] + c->x[1][i] * table_row(table, c->x[2], i / batch_elements, c->a->row, d)[i % d];
}

static void run_adaln_table(struct interp_call *c)
{
    int64_t d = kw__last_dim(c->in[0]), r = kw__elements(c->in[0]) / d, batch = c->in[1]->dim[0],
            width = kw__last_dim(c->in[1]);
    if (!expect(c, (c->in[0]->ndim == 2 || c->in[0]->dim[0] == 1) && kw__elements(c->in[1]) == batch * width,
                "p[1,R,D] e[B,1,..]") ||
        !expect(c, width == r * d || width == d, "e is R*D or D wide"))
        return;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < r * d; i++)
            c->y[0][b * r * d + i] = c->x[0][i] + c->x[1][b * width + i % width];
}

static void run_rope(struct interp_call *c)
{
    int64_t d = kw__last_dim(c->in[0]), rows = kw__elements(c->in[0]) / d, l = c->in[0]->dim[1];
    int64_t e = kw__last_dim(c->in[1]), prefix = c->a->prefix;
    if (!expect(c, has_shape(c->in[1], KW__DIMS(l - prefix, e)) && d % e == 0, "rope[L,e]")) return;
    for (int64_t r = 0; r < rows; r++) {
        if (r % l < prefix)
            memcpy(c->y[0] + r * d, c->x[0] + r * d, (size_t)d * sizeof(double));
        else
            rope_row(c->x[0] + r * d, c->x[1] + (r % l - prefix) * e, d, e, c->a->transposed,
                     c->y[0] + r * d);
    }
}

/* Where the l-th place is along each axis. */
static void place_of(const struct kw__attr *a, int64_t l, double position[3])
{
    int64_t at[3] = {l / (a->grid[1] * a->grid[2]), l / a->grid[2] % a->grid[1], l % a->grid[2]};
    for (int axis = 0; axis < 3; axis++)
        position[axis] = a->positions[axis] ? a->positions[axis][at[axis]] : (double)at[axis];
}

/* Angles from learned frequencies w[3,h,f]: pairs in the order of the frequencies. */
static void run_learned_table(struct interp_call *c)
{
    const struct kw__value *w = c->in[0];
    int64_t pairs = w->dim[1] * w->dim[2], places = c->out[0]->dim[0];
    if (!expect(c, w->ndim == 3 && w->dim[0] == 3, "w[3,h,f]")) return;
    for (int64_t l = 0; l < places; l++) {
        double position[3];
        place_of(c->a, l, position);
        for (int64_t i = 0; i < pairs; i++) {
            double angle = 0;
            for (int axis = 0; axis < 3; axis++) angle += position[axis] * c->x[0][axis * pairs + i];
            c->y[0][(l * pairs + i) * 2] = cos(angle);
            c->y[0][(l * pairs + i) * 2 + 1] = sin(angle);
        }
    }
}

static void run_rope_table(struct interp_call *c)
{
    const struct kw__attr *a = c->a;
    const int64_t *axes = a->axes;
    int64_t e = c->out[0]->dim[1], places = c->out[0]->dim[0];
    if (c->in[0]) {
        run_learned_table(c);
        return;
    }
    bool by_frequency = a->layout == KW__COS_SIN_BY_FREQUENCY;
    if (!expect(c, !by_frequency || (axes[0] == axes[1] && axes[1] == axes[2]),
                "all axes have as many channels"))
        return;
    for (int64_t l = 0; l < places; l++) {
        double position[3], *y = c->y[0] + l * e;
        place_of(a, l, position);
        for (int64_t i = 0; i < a->prefix; i++) *y++ = i % 2 == 0;
        for (int axis = 0; axis < 3; axis++) {
            for (int64_t i = 0; i < axes[axis] / 2; i++) {
                double frequency =
                    a->frequencies ? a->frequencies[i] : pow(a->theta, -2 * (double)i / (double)axes[axis]);
                double angle = a->single ? (float)(position[axis] * frequency) : position[axis] * frequency;
                double *at = y + 2 * (by_frequency ? 3 * i + axis : i);
                switch (a->layout) {
                case KW__SIN_COS:
                    at[0] = sin(angle);
                    at[1] = cos(angle);
                    break;
                case KW__SINES_COSINES:
                    y[i] = sin(angle);
                    y[axes[axis] / 2 + i] = cos(angle);
                    break;
                default: at[0] = cos(angle); at[1] = sin(angle);
                }
            }
            if (!by_frequency) y += axes[axis];
        }
    }
}

static void run_sinusoid(struct interp_call *c)
{
    int64_t half = c->a->width / 2;
    if (!expect(c, !c->in[1] || kw__elements(c->in[1]) == 1, "scale[1]")) return;
    for (int64_t b = 0; b < kw__elements(c->in[0]); b++)
        for (int64_t i = 0; i < half; i++) {
            double t = c->x[0][b] * (c->in[1] ? c->x[1][0] : 1);
            double angle = t * pow(10000, -(double)i / (double)half);
            c->y[0][b * 2 * half + i] = cos(angle);
            c->y[0][b * 2 * half + half + i] = sin(angle);
        }
}

static void run_channel_affine(struct interp_call *c)
{
    int64_t channels = c->in[0]->dim[1], pixels = inner(c->in[0], 2);
    const double *mean = c->in[1] ? c->x[1] : c->a->constants[0];
    const double *std = c->in[1] ? c->x[2] : c->a->constants[1];
    if (!expect(c, !c->in[1] == !c->in[2] && mean && std, "mean and std, both or none") ||
        !expect(c, !c->in[1] || (kw__elements(c->in[1]) == channels && kw__elements(c->in[2]) == channels),
                "mean[C] std[C]"))
        return;
    for (int64_t i = 0; i < kw__elements(c->in[0]); i++) {
        int64_t ch = i / pixels % channels;
        c->y[0][i] = c->a->inverse ? (c->x[0][i] - mean[ch]) / std[ch] : c->x[0][i] * std[ch] + mean[ch];
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

static void (*const functions[KW__NUM_OPCODES])(struct interp_call *) = {
    [KW__LINEAR] = run_linear,
    [KW__ATTENTION] = run_attention,
    [KW__CONV] = run_conv,
    [KW__LAYERNORM] = run_layernorm,
    [KW__RMSNORM] = run_rmsnorm,
    [KW__CHANNEL_RMSNORM] = run_channel_rmsnorm,
    [KW__LAYERNORM_MODULATE] = run_modulate,
    [KW__RMSNORM_ROPE] = run_rmsnorm,
    [KW__GROUPNORM] = run_groupnorm,
    [KW__TANH] = run_pointwise,
    [KW__GLU] = run_glu,
    [KW__ADD_ROWS] = run_add_rows,
    [KW__MEAN_ROWS] = run_mean_rows,
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
    [KW__TO_HOST] = run_pointwise,
};

void interp_compute(struct interp_call *c)
{
    void (*copy)(struct interp_call *) = interp_copy_function(c->op->code);
    (copy ? copy : functions[c->op->code])(c);
}
