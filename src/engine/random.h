/* Random weights and noise that are the same bits on every machine and backend.
 *
 * Generator: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11), a
 * function from a 128-bit counter and a 64-bit key to four 32-bit words, so any element can be made
 * alone and in any order.
 *
 *     key      = FNV-1a (64 bit) of the bytes "component/name": key[0] low, key[1] high word
 *     counter  = {block low, block high, seed low, seed high},   block = i / 2 for element i
 *     words    = Philox(counter, key); element i takes words 2 (i % 2) and 2 (i % 2) + 1
 *     sum      = the four 16-bit halves of the two words, less 131070 (their mean): an integer of
 *                -131070 .. 131070 with standard deviation 65536 / sqrt(3) = 37837, nearly normal
 *     element  = mean + sum * scale
 *
 * With a power of two as scale and a mean of 0 or 1 that is exact in f32 (and in bf16 it is rounded
 * once), which is why a backend may make weights on the device. A scale that is no power of two
 * (KW__RANDOM_UNIT, for noise) costs one correctly rounded product, the same everywhere too.
 *
 * tools/reference/random_weights.py is the twin in Python, which fills the diffusers classes. */
#ifndef KW_ENGINE_RANDOM_H
#define KW_ENGINE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* sqrt(3) / 65536: the scale of elements with standard deviation 1, for noise. */
#define KW__RANDOM_UNIT 0x1.bb67aep-16f

struct kw__random {
    uint32_t key[2];
    uint64_t seed;
};

/* The stream of one tensor. Noise has streams as well, "noise" / "latents". */
struct kw__random kw__random_stream(const char *component, const char *name, uint64_t seed);

/* Elements first .. first + count - 1 into out[0 .. count - 1]. */
void kw__random_fill(const struct kw__random *stream, float mean, float scale, uint64_t first, size_t count,
                     float *out);
/* The same elements spread evenly: mean + (2 h - 65535) * scale with h the low half of the element's
 * first word. The deviation is that of the sum: (65536^2 - 1) / 3 is the variance of both. */
void kw__random_fill_uniform(const struct kw__random *stream, float mean, float scale, uint64_t first,
                             size_t count, float *out);

/* How the elements of a weight are spread, from its name and shape alone:
 *   one element an output channel (all dims after the first are 1), a name in "weight", "gamma" or "std":
 *             a gain, mean 1 and standard deviation 0.072 (scale 2^-19)
 *   one element an output channel, another name: a bias, mean 0, the same deviation
 *   else      mean 0, the power-of-two scale whose deviation is nearest to 1 / sqrt(fan_in), within a
 *             factor of sqrt(2); fan_in: the product of all dims but the first
 * Signals keep a magnitude near 1 through any depth of the models here. */
struct kw__random_law {
    float mean, scale;
};
struct kw__random_law kw__random_law(const char *name, int ndim, const int64_t *dim);

/* The generator itself. */
void kw__philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
