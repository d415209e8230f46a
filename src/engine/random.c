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

static float centred_sum(uint32_t a, uint32_t b)
{
    return (float)((int32_t)((a & 0xFFFFu) + (a >> 16) + (b & 0xFFFFu) + (b >> 16)) - 131070);
}

static float centred_half(uint32_t a)
{
    return (float)((int32_t)(2 * (a & 0xFFFFu)) - 65535);
}

/* The two words of each element, in order: `words` goes on from the last call. */
static const uint32_t *element_words(const struct kw__random *stream, uint64_t element, bool start,
                                     uint32_t words[4])
{
    if (start || element % 2 == 0) {
        const uint32_t counter[4] = {(uint32_t)(element / 2), (uint32_t)(element / 2 >> 32),
                                     (uint32_t)stream->seed, (uint32_t)(stream->seed >> 32)};
        kw__philox4x32(counter, stream->key, words);
    }
    return words + 2 * (element % 2);
}

/* A contraction to fma could change the last bit only where the product is not exact, and then the
 * mean is 0. */
void kw__random_fill(const struct kw__random *stream, float mean, float scale, uint64_t first, size_t count,
                     float *out)
{
    uint32_t words[4];
    for (size_t n = 0; n < count; n++) {
        const uint32_t *word = element_words(stream, first + n, n == 0, words);
        out[n] = mean + centred_sum(word[0], word[1]) * scale;
    }
}

void kw__random_fill_uniform(const struct kw__random *stream, float mean, float scale, uint64_t first,
                             size_t count, float *out)
{
    uint32_t words[4];
    for (size_t n = 0; n < count; n++)
        out[n] = mean + centred_half(element_words(stream, first + n, n == 0, words)[0]) * scale;
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
        bool gain = ends_with(name, "weight") || ends_with(name, "gamma");
        return (struct kw__random_law){gain ? 1.0f : 0.0f, 0x1p-19f};
    }
    /* The variance of the sum is 2^32 / 3, so the exponent e is the one with
     * 1/2 <= 4^e * fan_in * 2^32 / 3 < 2; products by powers of two keep this exact. */
    int e = 0;
    for (double ratio = fan_in * 0x1p32; ratio >= 6; ratio /= 4) e--;
    return (struct kw__random_law){0.0f, ldexpf(1.0f, e)};
}
