/* Random weights: the generator's published vectors, the twin's numbers, and the promises of
 * engine/random.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/random.h"

/* Random123 1.14, kat_vectors, philox4x32 10: counter, key, result. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], result[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t result[4];
        kw__philox4x32(cases[i].counter, cases[i].key, result);
        assert_memory_equal(result, cases[i].result, sizeof result);
    }
}

/* The numbers that `python tools/reference/random_weights.py` prints. */
static void test_twin_agrees(void **state)
{
    (void)state;
    const char *name = "blocks.0.attn1.to_q.weight";
    struct kw__random stream = kw__random_stream("transformer", name, 0x123456789);
    assert_int_equal(stream.key[0], 0x0ad940e2);
    assert_int_equal(stream.key[1], 0x31392f9f);

    struct kw__random_law law = kw__random_law(name, 2, (const int64_t[]){1536, 1536});
    assert_true(law.mean == 0 && law.scale == 0x1p-21f);
    float w[5];
    kw__random_fill(&stream, law.mean, law.scale, 0, 4, w);
    kw__random_fill(&stream, law.mean, law.scale, 1536 * 1536 - 1, 1, w + 4);
    static const float weights[] = {0x1.132ap-6f, 0x1.5188p-8f, -0x1.0ed2p-6f, 0x1.f32p-9f, -0x1.b92p-9f};
    assert_memory_equal(w, weights, sizeof w);

    struct kw__random noise = kw__random_stream("noise", "latents", 42);
    kw__random_fill(&noise, 0, KW__RANDOM_UNIT, 0, 4, w);
    static const float latents[] = {-0x1.c69bf4p-1f, -0x1.2f69d2p+0f, 0x1.b3b124p-1f, 0x1.c2c426p-6f};
    assert_memory_equal(w, latents, sizeof latents);

    struct kw__random gain = kw__random_stream("vae", "decoder.norm_out.gamma", 7);
    law = kw__random_law("decoder.norm_out.gamma", 4, (const int64_t[]){96, 1, 1, 1});
    kw__random_fill(&gain, law.mean, law.scale, 0, 3, w);
    static const float gains[] = {0x1.d3dc4p-1f, 0x1.0c8fap+0f, 0x1.1fda8p+0f};
    assert_memory_equal(w, gains, sizeof gains);
}

/* Any range of a stream is what the whole holds there, beyond 2^32 elements too. */
static void test_ranges_agree(void **state)
{
    (void)state;
    struct kw__random stream = kw__random_stream("text_encoder", "shared.weight", 3);
    const uint64_t start = (UINT64_C(1) << 33) - 20;
    float whole[40], part[7];
    kw__random_fill(&stream, 1, 0x1p-19f, start, 40, whole);
    for (size_t first = 0; first + 7 <= 40; first++) {
        kw__random_fill(&stream, 1, 0x1p-19f, start + first, 7, part);
        assert_memory_equal(part, whole + first, sizeof part);
    }
    assert_memory_not_equal(whole, whole + 20, 20 * sizeof *whole);
}

static void test_streams_differ(void **state)
{
    (void)state;
    struct kw__random streams[] = {
        kw__random_stream("transformer", "proj_out.weight", 0),
        kw__random_stream("transformer_2", "proj_out.weight", 0),
        kw__random_stream("transformer", "proj_out.bias", 0),
        kw__random_stream("transformer", "proj_out.weight", 1),
        kw__random_stream("transformer", "proj_out.weight", UINT64_C(1) << 32),
    };
    enum { STREAMS = sizeof streams / sizeof streams[0] };
    float values[STREAMS][8];
    for (int i = 0; i < STREAMS; i++) kw__random_fill(&streams[i], 0, 1, 0, 8, values[i]);
    for (int i = 0; i < STREAMS; i++)
        for (int j = 0; j < i; j++) assert_memory_not_equal(values[i], values[j], sizeof values[i]);
}

/* Four uniform variables: mean 0, deviation 1, kurtosis 3 - 1.2 / 4, at most 2 sqrt(3), no
 * correlation of neighbours. n = 2^20, so statistical errors are about 1e-3. */
static void test_moments(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct kw__random stream = kw__random_stream("noise", "moments", 9);
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    kw__random_fill(&stream, 0, KW__RANDOM_UNIT, 0, N, x);
    double mean = 0, square = 0, fourth = 0, neighbours = 0, largest = 0;
    for (int i = 0; i < N; i++) {
        double v = x[i];
        mean += v / N;
        square += v * v / N;
        fourth += v * v * v * v / N;
        neighbours += i ? v * x[i - 1] / N : 0;
        largest = fmax(largest, fabs(v));
    }
    free(x);
    assert_true(fabs(mean) < 0.005);
    assert_true(fabs(square - 1) < 0.008);
    assert_true(fabs(fourth - 2.7) < 0.03);
    assert_true(fabs(neighbours) < 0.005);
    assert_true(largest < 3.4642 && largest > 3);
}

/* The deviation is within sqrt(2) of 1 / sqrt(fan_in), and the scale a power of two. */
static void test_law(void **state)
{
    (void)state;
    for (int64_t fan_in = 2; fan_in < 200000; fan_in += 1 + fan_in / 50) {
        struct kw__random_law law = kw__random_law("weight", 3, (const int64_t[]){5, fan_in, 1});
        int exponent;
        assert_true(frexpf(law.scale, &exponent) == 0.5f && law.mean == 0);
        double ratio = law.scale * 65536 / sqrt(3.0) * sqrt((double)fan_in);
        assert_true(ratio > 0.7071 && ratio < 1.4143);
    }
    const int64_t vector[] = {64, 1, 1};
    assert_true(kw__random_law("norm.gamma", 3, vector).mean == 1);
    assert_true(kw__random_law("layer_norm.weight", 1, vector).mean == 1);
    assert_true(kw__random_law("to_q.bias", 1, vector).mean == 0);
    assert_true(kw__random_law("to_q.bias", 1, vector).scale == 0x1p-19f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_twin_agrees),
        cmocka_unit_test(test_ranges_agree),
        cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_law),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
