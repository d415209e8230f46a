/* Loops over floats that compilers turn into vector code, and the dtypes around them: every kernel of
 * ours computes in f32 on pieces that stay in the first-level cache, widened on the way in and rounded
 * on the way out.
 *
 * A function marked KW__CLONES is compiled for AVX512, AVX2 and the oldest x86-64 and chosen once at
 * load time; inline functions of this file become part of it. Sums may be reassociated (see the
 * Makefile), so nothing here relies on the order of additions or on comparisons with NaN. */
#ifndef KW_ENGINE_CPU_VEC_H
#define KW_ENGINE_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "graph/graph.h"

/* Sanitizers instrument the functions that choose a clone, before their runtime is there. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define KW__CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KW__CLONES
#endif

#define KW__INLINE static inline __attribute__((always_inline))

/* Before a loop that reads and writes element i alone, also when its arrays are one array. clang does not
 * vectorize under sanitizers, and warns of each loop that asks for it. */
#if defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KW__EACH
#else
#define KW__EACH _Pragma("clang loop vectorize(assume_safety)")
#endif
#else
#define KW__EACH _Pragma("GCC ivdep")
#endif

/* Floats of a piece: a few of them fit the first-level cache. */
enum { KW__PIECE = 1024 };

KW__INLINE float kw__widen(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* To nearest, ties to even. A NaN whose payload is in the low half only would become infinite: its
 * quiet bit is set first. */
KW__INLINE uint16_t kw__round_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, quiet = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

/* Elements at .. at + n - 1 of an array as floats: where they are, or in `buffer`. */
KW__INLINE const float *kw__load(enum kw__dtype dtype, const void *array, int64_t at, int64_t n,
                                 float *buffer)
{
    if (dtype == KW__F32) return (const float *)array + at;
    if (dtype == KW__BF16) {
        const uint16_t *x = (const uint16_t *)array + at;
        KW__EACH for (int64_t i = 0; i < n; i++) buffer[i] = kw__widen(x[i]);
    } else { /* i32 */
        const int32_t *x = (const int32_t *)array + at;
        KW__EACH for (int64_t i = 0; i < n; i++) buffer[i] = (float)x[i];
    }
    return buffer;
}

/* Where to compute elements at .. of an array: in place, or in `buffer`, which kw__store then rounds. */
KW__INLINE float *kw__target(enum kw__dtype dtype, void *array, int64_t at, float *buffer)
{
    return dtype == KW__F32 ? (float *)array + at : buffer;
}

KW__INLINE void kw__store(enum kw__dtype dtype, void *array, int64_t at, int64_t n, const float *x)
{
    if (dtype == KW__BF16) {
        uint16_t *y = (uint16_t *)array + at;
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__round_bf16(x[i]);
    } else if (dtype == KW__I32) {
        int32_t *y = (int32_t *)array + at;
        KW__EACH for (int64_t i = 0; i < n; i++) y[i] = (int32_t)x[i];
    }
}

/* e^x to 2 units in the last place; 1.2e-38 below -87.3, and 1.7e38 above 88. NaN stays NaN. */
KW__INLINE float kw__exp(float x)
{
    float z = x > -87.33f ? x : -87.33f;
    z = z < 88.0f ? z : 88.0f;
    int32_t n =
        (int32_t)(z * 1.44269504088896341f + 127.5f) - 127; /* to the nearest: never negative before */
    float fn = (float)n;
    float r = z - fn * 0.693359375f - fn * -2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x != x ? x : p * power;
}

KW__INLINE float kw__silu(float x)
{
    return x / (1.0f + kw__exp(-x));
}

/* x (1 + tanh u) / 2 = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
KW__INLINE float kw__gelu(float x)
{
    return x / (1.0f + kw__exp(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

#endif
