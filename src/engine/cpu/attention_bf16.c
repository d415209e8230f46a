/* Attention in bf16 with f32 sums, for CPUs with AVX512_BF16; with AMX where there is that.
 *
 * Both products take their right operand in pairs of rows, as the instructions want it: y[k/2][n][2].
 * Scores are kept in units of ln 2, so that a weight is a power of two. */
#include "engine/cpu/attention.h"

#if defined(__x86_64__)

#include "engine/cpu/avx512.h"
#include "engine/cpu/vec.h"

enum { BQ = 64, BK = 256, STEP = 32 }; /* queries, keys of a block; what sizes are padded to */

#define AMX __attribute__((target(KW__AVX512_FEATURES ",amx-tile,amx-bf16")))

static int64_t padded(int64_t n)
{
    return (n + STEP - 1) / STEP * STEP;
}

static size_t block_bytes(int64_t e)
{
    return (size_t)(BK * padded(e)) * sizeof(uint16_t);
}

/* A thread's own memory. */
struct own {
    float *s, *o, *top, *sum; /* [BQ,BK] [BQ,padded e] [BQ] [BQ] */
    uint16_t *q, *p;          /* [BQ,padded e] [BQ,BK] */
};

static size_t own_bytes(int64_t e)
{
    return (size_t)BQ * ((size_t)BK * 6 + (size_t)padded(e) * 6 + 2 * sizeof(float));
}

static struct own own_at(void *memory, int64_t e)
{
    struct own z = {.s = memory};
    z.o = z.s + BQ * BK;
    z.top = z.o + BQ * padded(e);
    z.sum = z.top + BQ;
    z.q = (uint16_t *)(z.sum + BQ);
    z.p = z.q + BQ * padded(e);
    return z;
}

/* ---- Packing --------------------------------------------------------------------------------------- */

/* 16 keys' pairs of channels: row i of `out`, BK pairs long, gets pair i of each. */
KW__AVX512 static void pack_keys(const uint16_t *k, int64_t stride, int64_t keys, int64_t e, uint16_t *out)
{
    __mmask16 there = (__mmask16)(keys >= 16 ? 0xFFFF : (1u << keys) - 1);
    __m512i rows = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                      _mm512_set1_epi32((int)(stride * 2)));
    int64_t pairs = e / 2;
    for (int64_t i = 0; i < pairs; i++) {
        __m512i row = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, rows, k + 2 * i, 1);
        _mm512_storeu_si512(out + i * BK * 2, row);
    }
    for (int64_t i = pairs; i < padded(e) / 2; i++)
        _mm512_storeu_si512(out + i * BK * 2, _mm512_setzero_si512());
    for (int64_t n = 0; e % 2 && n < keys; n++) out[pairs * BK * 2 + 2 * n] = k[n * stride + e - 1];
}

/* Two keys' values side by side; NULL: zeros. */
static void pack_values(const uint16_t *first, const uint16_t *second, int64_t e, uint16_t *out)
{
    for (int64_t i = 0; i < e; i++) {
        out[2 * i] = first ? first[i] : 0;
        out[2 * i + 1] = second ? second[i] : 0;
    }
    memset(out + 2 * e, 0, (size_t)(2 * (padded(e) - e)) * sizeof *out);
}

static void pack(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block, void *keys,
                 void *values)
{
    int64_t e = a->e, first = block * BK, n = a->lk - first < BK ? a->lk - first : BK;
    const uint16_t *k = (const uint16_t *)a->k.data + (b * a->lk + first) * a->k.width + a->k.start + h * e;
    const uint16_t *v = (const uint16_t *)a->v.data + (b * a->lk + first) * a->v.width + a->v.start + h * e;
    int64_t rows = padded(n);
    for (int64_t i = 0; i < rows; i += 16)
        pack_keys(k + i * a->k.width, a->k.width, n - i > 0 ? n - i : 0, e, (uint16_t *)keys + 2 * i);
    for (int64_t i = 0; i < rows; i += 2) {
        const uint16_t *row = v + i * a->v.width;
        pack_values(i < n ? row : NULL, i + 1 < n ? row + a->v.width : NULL, e,
                    (uint16_t *)values + i * padded(e));
    }
}

/* ---- The softmax ----------------------------------------------------------------------------------- */

/* Scores in units of ln 2, with the bias and the last key's multiplicity: only where there are any. */
KW__AVX512 static void add_bias(const struct kw__cpu_attention *a, const struct own *z, int64_t row,
                                int64_t at, int64_t keys, bool last, float unit)
{
    float *s = z->s + row * BK, buffer[BK];
    for (int64_t k = 0; k < keys; k++) s[k] *= unit;
    if (a->step->x[3]) {
        const float *bias = kw__load(a->step->in_type[3], a->step->x[3], at, keys, buffer);
        for (int64_t k = 0; k < keys; k++) s[k] += bias[k] * 1.44269504f;
    }
    if (last) s[keys - 1] += a->last_bias * 1.44269504f;
}

/* A maximum that is passed by less than this stays: weights are then up to 2^SLACK, which neither their
 * sums nor bf16 mind, and what was summed up so far need not be scaled. */
#define SLACK 8.0f

KW__AVX512_INLINE float row_maximum(const float *s, int64_t keys)
{
    __m512 most[4];
    int64_t k = 0;
    for (int i = 0; i < 4; i++) most[i] = _mm512_set1_ps(-3e38f);
    for (; k + 64 <= keys; k += 64)
        for (int i = 0; i < 4; i++) most[i] = _mm512_max_ps(most[i], _mm512_loadu_ps(s + k + 16 * i));
    for (; k < keys; k += 16) {
        __mmask16 there = kw__first(keys - k);
        most[0] = _mm512_mask_max_ps(most[0], there, most[0], _mm512_maskz_loadu_ps(there, s + k));
    }
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

/* p = 2^(s unit - top) in bf16 for the keys, zeros up to the next STEP; their sum. */
KW__AVX512_INLINE float row_weights(const float *s, int64_t keys, float unit, float top, uint16_t *p)
{
    __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, u = _mm512_set1_ps(unit);
    __m512 down = _mm512_set1_ps(-top);
    int64_t k = 0;
    for (; k + STEP <= keys; k += STEP)
        for (int i = 0; i < 2; i++) {
            __m512 w = kw__power_of_two(_mm512_fmadd_ps(_mm512_loadu_ps(s + k + 16 * i), u, down));
            total[i] = _mm512_add_ps(total[i], w);
            _mm256_storeu_si256((__m256i *)(p + k + 16 * i), (__m256i)_mm512_cvtneps_pbh(w));
        }
    for (int i = 0; i < 2 && k < keys; i++) {
        __mmask16 there = keys > k + 16 * i ? kw__first(keys - k - 16 * i) : 0;
        __m512 w = kw__power_of_two(_mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, s + k + 16 * i), u, down));
        w = _mm512_maskz_mov_ps(there, w);
        total[i] = _mm512_add_ps(total[i], w);
        _mm256_storeu_si256((__m256i *)(p + k + 16 * i), (__m256i)_mm512_cvtneps_pbh(w));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(total[0], total[1]));
}

/* Row `row` of the scores becomes weights in bf16. `unit` brings scores to units of ln 2. */
KW__AVX512_INLINE void soften(const struct own *z, int64_t row, int64_t keys, int64_t ep, float unit)
{
    const float *s = z->s + row * BK;
    float top = row_maximum(s, keys) * unit, before = z->top[row];
    if (top > before + SLACK) {
        __m512 shrink = kw__power_of_two(_mm512_set1_ps(before - top));
        float *o = z->o + row * ep;
        for (int64_t i = 0; i < ep; i += 16)
            _mm512_storeu_ps(o + i, _mm512_mul_ps(_mm512_loadu_ps(o + i), shrink));
        z->sum[row] *= _mm512_cvtss_f32(shrink);
        z->top[row] = before = top;
    }
    z->sum[row] += row_weights(s, keys, unit, before, z->p + row * BK);
}

/* Row `row` of the block to y from element `at` on. */
KW__AVX512 static void write_row(const struct kw__cpu_attention *a, const struct own *z, int64_t row,
                                 int64_t at)
{
    const float *o = z->o + row * padded(a->e);
    __m512 over = _mm512_set1_ps(1.0f / z->sum[row]);
    for (int64_t i = 0; i < a->e; i += 16)
        kw__store_bf16(kw__first(a->e - i), (uint16_t *)a->step->y[0] + at + i,
                       _mm512_mul_ps(_mm512_loadu_ps(o + i), over));
}

/* ---- Products: c[m,n] (+)= x[m,k] y[k/2,n,2]; m, n, k multiples of STEP ---------------------------- */

/* Rows of scores that are softened between the products of tiles: the two use different units. */
struct meanwhile {
    const struct kw__cpu_attention *a;
    const struct own *z;
    int64_t next, end; /* rows */
    int64_t bias_at, bias_stride, keys, ep;
    float unit;
    bool plain, last;
};

KW__AVX512_INLINE void soften_next(struct meanwhile *w)
{
    if (w->next >= w->end) return;
    if (!w->plain)
        add_bias(w->a, w->z, w->next, w->bias_at + w->next * w->bias_stride, w->keys, w->last,
                 w->a->scale * 1.44269504f);
    soften(w->z, w->next, w->keys, w->ep, w->unit);
    w->next++;
}

typedef void product(const uint16_t *x, int64_t x_stride, const uint16_t *y, int64_t y_stride, float *c,
                     int64_t c_stride, int64_t n, int64_t k, bool add, struct meanwhile *meanwhile);

KW__AVX512 static void product_avx512(const uint16_t *x, int64_t x_stride, const uint16_t *y,
                                      int64_t y_stride, float *c, int64_t c_stride, int64_t n, int64_t k,
                                      bool add, struct meanwhile *meanwhile)
{
    enum { ROWS = 8 };
    while (meanwhile->next < meanwhile->end) soften_next(meanwhile);
    for (int64_t j = 0; j < n; j += 32)
        for (int64_t i = 0; i < STEP; i += ROWS) {
            __m512 sum[ROWS][2];
            for (int r = 0; r < ROWS; r++)
                for (int l = 0; l < 2; l++) {
                    sum[r][l] = _mm512_setzero_ps();
                    if (add) sum[r][l] = _mm512_loadu_ps(c + (i + r) * c_stride + j + 16 * l);
                }
            for (int64_t p = 0; p < k / 2; p++) {
                __m512bh y0 = (__m512bh)_mm512_loadu_si512(y + p * y_stride + 2 * j);
                __m512bh y1 = (__m512bh)_mm512_loadu_si512(y + p * y_stride + 2 * j + 32);
                for (int r = 0; r < ROWS; r++) {
                    int32_t pair;
                    memcpy(&pair, x + (i + r) * x_stride + 2 * p, sizeof pair);
                    __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, y0);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, y1);
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int l = 0; l < 2; l++) _mm512_storeu_ps(c + (i + r) * c_stride + j + 16 * l, sum[r][l]);
        }
}

/* Tiles 0-3: c; 4, 5: two blocks of 16 rows of x; 6, 7: two blocks of 16 columns of y. */
AMX static void product_amx(const uint16_t *x, int64_t x_stride, const uint16_t *y, int64_t y_stride,
                            float *c, int64_t c_stride, int64_t n, int64_t k, bool add,
                            struct meanwhile *meanwhile)
{
    size_t cs = (size_t)c_stride * sizeof *c, xs = (size_t)x_stride * sizeof *x,
           ys = (size_t)y_stride * sizeof *y;
    for (int64_t j = 0; j < n; j += 32) {
        float *upper = c + j, *lower = upper + 16 * c_stride;
        if (add) {
            _tile_loadd(0, upper, cs);
            _tile_loadd(1, upper + 16, cs);
            _tile_loadd(2, lower, cs);
            _tile_loadd(3, lower + 16, cs);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int64_t p = 0; p < k; p += 32) {
            const uint16_t *left = x + p, *right = y + p / 2 * y_stride + 2 * j;
            _tile_loadd(4, left, xs);
            _tile_loadd(6, right, ys);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + 32, ys);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, left + 16 * x_stride, xs);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            soften_next(meanwhile);
        }
        _tile_stored(0, upper, cs);
        _tile_stored(1, upper + 16, cs);
        _tile_stored(2, lower, cs);
        _tile_stored(3, lower + 16, cs);
    }
    while (meanwhile->next < meanwhile->end) soften_next(meanwhile);
}

/* ---- One block of queries -------------------------------------------------------------------------- */

/* Scores of keys first_key .. of the block, for its rows from `row` on: what to do with them next. */
static struct meanwhile softening(const struct kw__cpu_attention *a, const struct own *z, int64_t bias_at,
                                  int64_t row, int64_t rows, int64_t keys, bool last)
{
    bool plain = !a->step->x[3] && !(last && a->last_bias != 0);
    return (struct meanwhile){.a = a,
                              .z = z,
                              .next = row,
                              .end = row + STEP < rows ? row + STEP : rows,
                              .bias_at = bias_at,
                              .bias_stride = a->lk,
                              .keys = keys,
                              .ep = padded(a->e),
                              .unit = plain ? a->scale * 1.44269504f : 1.0f,
                              .plain = plain,
                              .last = last};
}

KW__AVX512 static void finish(struct meanwhile *w)
{
    while (w->next < w->end) soften_next(w);
}

/* Half of the block's rows is multiplied while the other is softened. */
static void attend_with(product *multiply, const struct kw__cpu_attention *a, int64_t b, int64_t h,
                        int64_t block, const uint16_t *keys, const uint16_t *values, void *memory)
{
    int64_t e = a->e, ep = padded(e), first = block * BQ, all = kw__cpu_attention_keys(a, b);
    int64_t rows = a->lq - first < BQ ? a->lq - first : BQ, whole = padded(rows);
    struct own z = own_at(memory, e);
    const uint16_t *q = (const uint16_t *)a->q.data + (b * a->lq + first) * a->q.width + a->q.start + h * e;
    memset(z.o, 0, (size_t)(whole * ep) * sizeof *z.o);
    memset(z.p, 0, (size_t)(BQ * BK) * sizeof *z.p);
    for (int64_t r = 0; r < whole; r++) {
        z.top[r] = -1e30f;
        z.sum[r] = 0;
        if (r < rows) memcpy(z.q + r * ep, q + r * a->q.width, (size_t)e * sizeof *q);
        int64_t set = r < rows ? e : 0;
        memset(z.q + r * ep + set, 0, (size_t)(ep - set) * sizeof *q);
    }
    for (int64_t k = 0; k < all; k += BK) {
        int64_t n = all - k < BK ? all - k : BK, np = padded(n);
        int64_t bias_at = (h * a->lq + first) * a->lk + k;
        struct meanwhile none = {.next = 0};
        struct meanwhile upper = softening(a, &z, bias_at, 0, rows, n, k + n == all);
        struct meanwhile lower = softening(a, &z, bias_at, STEP, rows, n, k + n == all);
        bool both = whole > STEP;
        multiply(z.q, ep, keys + k * ep, 2 * BK, z.s, BK, np, ep, false, &none);
        if (both)
            multiply(z.q + STEP * ep, ep, keys + k * ep, 2 * BK, z.s + STEP * BK, BK, np, ep, false, &upper);
        finish(&upper);
        multiply(z.p, BK, values + k * ep, 2 * ep, z.o, ep, ep, np, true, both ? &lower : &none);
        if (both)
            multiply(z.p + STEP * BK, BK, values + k * ep, 2 * ep, z.o + STEP * ep, ep, ep, np, true, &none);
    }
    for (int64_t r = 0; r < rows; r++) write_row(a, &z, r, ((b * a->lq + first + r) * a->heads + h) * e);
}

static void attend_avx512(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block,
                          const void *keys, const void *values, void *own)
{
    attend_with(product_avx512, a, b, h, block, keys, values, own);
}

/* Palette 1: eight tiles of 16 rows of 64 bytes. */
AMX static void attend_amx(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block,
                           const void *keys, const void *values, void *own)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    attend_with(product_amx, a, b, h, block, keys, values, own);
    _tile_release();
}

const struct kw__cpu_attention_kernel kw__cpu_attention_bf16 = {
    .bq = BQ,
    .bk = BK,
    .key_bytes = block_bytes,
    .value_bytes = block_bytes,
    .thread_bytes = own_bytes,
    .pack = pack,
    .attend = attend_avx512,
};

const struct kw__cpu_attention_kernel kw__cpu_attention_amx = {
    .bq = BQ,
    .bk = BK,
    .key_bytes = block_bytes,
    .value_bytes = block_bytes,
    .thread_bytes = own_bytes,
    .pack = pack,
    .attend = attend_amx,
};

#endif
