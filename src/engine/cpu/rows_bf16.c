/* Rows from bf16 to bf16 with an activation: where dividing and an exact exponential would cost more
 * than reading the memory. Results are rounded to 2^-9, so both are made to 2^-14. */
#include "engine/cpu/rows_bf16.h"

#if defined(__x86_64__)

#include "engine/cpu/avx512.h"

KW__AVX512 static void gelu_pieces(void *argument, int64_t from, int64_t to)
{
    uint16_t *y = argument;
    for (int64_t i = from; i < to; i += 16) {
        __mmask16 there = kw__first(to - i);
        kw__store_bf16(there, y + i, kw__gelu_bf16(kw__load_bf16(there, y + i)));
    }
}

void kw__cpu_gelu_in_place(const struct kw__device *device, void *y, int64_t count)
{
    kw__cpu_parallel(device, count, 16384, gelu_pieces, y);
}

KW__AVX512 void kw__cpu_channel_rmsnorm_bf16(const void *in, const float *gamma, void *out, int64_t d,
                                             enum kw__activation activation, int64_t from, int64_t to)
{
    float root = sqrtf((float)d);
    for (int64_t row = from; row < to; row++) {
        const uint16_t *x = (const uint16_t *)in + row * d;
        uint16_t *y = (uint16_t *)out + row * d;
        __m512 squares = _mm512_setzero_ps();
        for (int64_t i = 0; i < d; i += 16) {
            __m512 z = kw__load_bf16(kw__first(d - i), x + i);
            squares = _mm512_fmadd_ps(z, z, squares);
        }
        float norm = sqrtf(_mm512_reduce_add_ps(squares));
        __m512 factor = _mm512_set1_ps(root / (norm > 1e-12f ? norm : 1e-12f));
        for (int64_t i = 0; i < d; i += 16) {
            __mmask16 there = kw__first(d - i);
            __m512 z = _mm512_mul_ps(kw__load_bf16(there, x + i),
                                     _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(there, gamma + i)));
            if (activation == KW__ACT_SILU) z = kw__silu_bf16(z);
            if (activation == KW__ACT_GELU) z = kw__gelu_bf16(z);
            kw__store_bf16(there, y + i, z);
        }
    }
}

#else

void kw__cpu_gelu_in_place(const struct kw__device *device, void *y, int64_t count)
{
    (void)device;
    (void)y;
    (void)count;
}

void kw__cpu_channel_rmsnorm_bf16(const void *in, const float *gamma, void *out, int64_t d,
                                  enum kw__activation activation, int64_t from, int64_t to)
{
    (void)in, (void)gamma, (void)out, (void)d, (void)activation, (void)from, (void)to;
}

#endif
