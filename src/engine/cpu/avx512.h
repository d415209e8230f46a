/* What kernels written for AVX512 with AVX512_BF16 share. They run where the device has bf16. */
#ifndef KW_ENGINE_CPU_AVX512_H
#define KW_ENGINE_CPU_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define KW__AVX512_FEATURES "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma"
#define KW__AVX512 __attribute__((target(KW__AVX512_FEATURES)))
#define KW__AVX512_INLINE static inline __attribute__((always_inline, target(KW__AVX512_FEATURES)))

/* 2^x by rounding, a polynomial of degree 4 (relative error 4e-6: results are rounded to 2^-9) and the
 * exponent. Below -126 about 1e-38; above 128 infinity. NaN stays: of max's
 * operands it is the second that comes out. */
KW__AVX512_INLINE __m512 kw__power_of_two(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
           f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(9.6703e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5503e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.40222e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931472e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* The first n of 16 elements. */
KW__AVX512_INLINE __mmask16 kw__first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1);
}

KW__AVX512_INLINE __m512 kw__load_bf16(__mmask16 there, const uint16_t *x)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, x)), 16));
}

KW__AVX512_INLINE void kw__store_bf16(__mmask16 there, uint16_t *y, __m512 x)
{
    _mm256_mask_storeu_epi16(y, there, (__m256i)_mm512_cvtneps_pbh(x));
}

/* x / (1 + 2^u), the reciprocal to 2^-14 */
KW__AVX512_INLINE __m512 kw__gate_bf16(__m512 x, __m512 u)
{
    return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(kw__power_of_two(u), _mm512_set1_ps(1.0f))));
}

KW__AVX512_INLINE __m512 kw__silu_bf16(__m512 x)
{
    return kw__gate_bf16(x, _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)));
}

/* u = -2 sqrt(2 / pi) (x + 0.044715 x^3) / ln 2 */
KW__AVX512_INLINE __m512 kw__gelu_bf16(__m512 x)
{
    __m512 slope =
        _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.10294324f), _mm512_set1_ps(-2.3022082f));
    return kw__gate_bf16(x, _mm512_mul_ps(x, slope));
}

#endif
