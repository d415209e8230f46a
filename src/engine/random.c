#include "engine/random.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Multipliers of the rounds and Weyl constants of the key, from the paper. */
static const uint32_t multiplier0 = 0xD2511F53u, multiplier1 = 0xCD9E8D57u;
static const uint32_t weyl0 = 0x9E3779B9u, weyl1 = 0xBB67AE85u;

void kw__philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)multiplier0 * c0, p1 = (uint64_t)multiplier1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += weyl0;
        k1 += weyl1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static uint64_t fnv1a(uint64_t hash, const char *text)
{
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return hash;
}

struct kw__random kw__random_stream(const char *component, const char *name, uint64_t seed)
{
    uint64_t hash = fnv1a(fnv1a(fnv1a(0xCBF29CE484222325u, component), "/"), name);
    return (struct kw__random){{(uint32_t)hash, (uint32_t)(hash >> 32)}, seed};
}

/* The functions below are compiled for AVX512, AVX2 and the oldest x86-64, and chosen at load time.
 * Sanitizers instrument the functions that choose, before their runtime is there. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* Blocks made side by side, each of two elements: the generator is integer arithmetic in straight
 * line, which compilers turn into vector code when the lanes are a loop of fixed length. */
enum { LANES = 64, BATCH = 2 * LANES };

CLONES static void philox_lanes(const struct kw__random *stream, uint64_t block,
                                uint32_t (*restrict words)[LANES])
{
    const uint32_t low = (uint32_t)block, high = (uint32_t)(block >> 32);
    const uint32_t seed0 = (uint32_t)stream->seed, seed1 = (uint32_t)(stream->seed >> 32);
    const uint32_t key0 = stream->key[0], key1 = stream->key[1];
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t c0 = low + i, c1 = high + (low + i < low), c2 = seed0, c3 = seed1, k0 = key0, k1 = key1;
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 10
#endif
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)multiplier0 * c0, p1 = (uint64_t)multiplier1 * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += weyl0;
            k1 += weyl1;
        }
        words[0][i] = c0;
        words[1][i] = c1;
        words[2][i] = c2;
        words[3][i] = c3;
    }
}

/* Elements 2 block .. 2 block + BATCH - 1. A contraction to fma could change the last bit only where
 * the product is not exact, and then the mean is 0. */
CLONES static void normal_batch(const uint32_t (*restrict words)[LANES], float mean, float scale,
                                float *restrict out)
{
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 2; k++) {
            uint32_t a = words[2 * k][i], b = words[2 * k + 1][i];
            int32_t sum = (int32_t)((a & 0xFFFFu) + (a >> 16) + (b & 0xFFFFu) + (b >> 16)) - 131070;
            out[2 * i + k] = mean + (float)sum * scale;
        }
}

CLONES static void uniform_batch(const uint32_t (*restrict words)[LANES], float mean, float scale,
                                 float *restrict out)
{
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 2; k++)
            out[2 * i + k] = mean + (float)((int32_t)(2 * (words[2 * k][i] & 0xFFFFu)) - 65535) * scale;
}

typedef void batch_function(const uint32_t (*restrict words)[LANES], float mean, float scale,
                            float *restrict out);

static void fill(const struct kw__random *stream, batch_function *make, float mean, float scale,
                 uint64_t first, size_t count, float *out)
{
    uint32_t words[4][LANES];
    float batch[BATCH];
    size_t skip = first % 2;
    for (size_t done = 0; done < count; skip = 0) {
        size_t n = count - done < BATCH - skip ? count - done : BATCH - skip;
        philox_lanes(stream, (first + done) / 2, words);
        if (n == BATCH) {
            make(words, mean, scale, out + done);
        } else {
            make(words, mean, scale, batch);
            memcpy(out + done, batch + skip, n * sizeof *out);
        }
        done += n;
    }
}

void kw__random_fill(const struct kw__random *stream, float mean, float scale, uint64_t first, size_t count,
                     float *out)
{
    fill(stream, normal_batch, mean, scale, first, count, out);
}

void kw__random_fill_uniform(const struct kw__random *stream, float mean, float scale, uint64_t first,
                             size_t count, float *out)
{
    fill(stream, uniform_batch, mean, scale, first, count, out);
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

struct kw__random_law kw__random_law(const char *name, int ndim, const int64_t *dim)
{
    double fan_in = 1;
    for (int i = 1; i < ndim; i++) fan_in *= (double)dim[i];
    if (fan_in == 1) {
        bool gain = ends_with(name, "weight") || ends_with(name, "gamma") || ends_with(name, "std");
        return (struct kw__random_law){gain ? 1.0f : 0.0f, 0x1p-19f};
    }
    /* The variance of the sum is 2^32 / 3, so the exponent e is the one with
     * 1/2 <= 4^e * fan_in * 2^32 / 3 < 2; products by powers of two keep this exact. */
    int e = 0;
    for (double ratio = fan_in * 0x1p32; ratio >= 6; ratio /= 4) e--;
    return (struct kw__random_law){0.0f, ldexpf(1.0f, e)};
}
