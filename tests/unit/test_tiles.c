/* Decoding in tiles: how much more work it is, and that a decoder which treats all places alike gives what
 * it gives without tiles, over several chunks with a history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec.h"
#include "model/family.h"
#include "support/interp.h"

/* Factors that diffusers' defaults give at the sizes of arXiv 2509.19222: CogVideoX at 720x480, LTX-Video at
 * 896x640, Mochi at 848x480. */
static void test_work(void **state)
{
    (void)state;
    const struct kw__tiling cogvideox = {.latent = {60, 90}, .tile = {30, 45}, .step = {25, 36}};
    const struct kw__tiling ltx = {.latent = {20, 28}, .tile = {16, 16}, .step = {14, 14}};
    const struct kw__tiling mochi = {.latent = {60, 106}, .tile = {32, 32}, .step = {24, 24}};
    assert_int_equal(kw__tile_count(&cogvideox, 0) * kw__tile_count(&cogvideox, 1), 9);
    assert_int_equal(kw__tile_count(&ltx, 0) * kw__tile_count(&ltx, 1), 4);
    assert_int_equal(kw__tile_count(&mochi, 0) * kw__tile_count(&mochi, 1), 15);
    assert_true(fabs(kw__tile_work(&cogvideox) - 1.40) < 0.0005);
    assert_true(fabs(kw__tile_work(&ltx) - 1.179) < 0.0005);
    assert_true(fabs(kw__tile_work(&mochi) - 1.649) < 0.0005);
}

enum { BATCH = 2, CHANNELS = 3, FRAMES = 7, SCALE = 2 };

/* z magnified; later chunks have the last frame of the chunk before added to all of theirs. */
static int decode(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    (void)self;
    const int64_t *d = g->values[z].dim, frames = d[2], h = d[3] * SCALE, w = d[4] * SCALE;
    struct kw__attr whole = {.grid = {frames, h, w}}, cut = {.axis = 2, .start = frames - 1, .width = 1};
    int cache = kw__state(g, kw__arena_printf(&g->program->arena, "cache.%s", shape), KW__F32, KW__STEP,
                          KW__DIMS(BATCH, CHANNELS, 1, h, w));
    int y = KW__OP(g, KW__RESIZE, &whole, KW__F32, z);
    kw__state_next(g, cache, KW__OP(g, KW__SLICE, &cut, KW__F32, y));
    if (variant == 0) return y;
    return KW__OP(g, KW__ADD, NULL, KW__F32, y, KW__OP(g, KW__RESIZE, &whole, KW__F32, cache));
}

static const struct kw__chunk chunks[] = {
    {0, 3, 0, 0, "first"}, {3, 2, 3, 1, "later"}, {5, 2, 5, 1, "later"}};

static struct kw__program *program_of(const struct kw__tiling *tiling)
{
    const kw_effective request = {.batch_size = BATCH};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    struct kw__stage *stage = kw__program_stage(program, "decode");
    kw__tiles_lower(program, stage, tiling, 3, chunks);
    struct kw__graph *g = kw__tiles_output(program, stage);
    assert_non_null(g);
    int clip = kw__tiles_joined(g, tiling);
    kw__state_next(g, kw__state(g, "clip", KW__F32, KW__STEP, 5, g->values[clip].dim),
                   KW__OP(g, KW__CAST, NULL, KW__F32, clip));
    assert_false(program->arena.failed);
    return program;
}

static double z_at(int64_t image, int64_t t, int64_t h, int64_t w)
{
    return sin(1.3 * (double)image + 0.7 * (double)t + 2.1 * (double)h + 0.9 * (double)(w * w));
}

static double wanted_at(int64_t image, int64_t t, int64_t h, int64_t w)
{
    int64_t before = t < 3 ? -1 : t < 5 ? 2 : 4;
    return z_at(image, t, h / SCALE, w / SCALE) +
           (before < 0 ? 0 : z_at(image, before, h / SCALE, w / SCALE));
}

/* Both ways of running it give what is wanted. */
static void expect_clip(const struct kw__tiling *tiling)
{
    const int64_t height = tiling->latent[0], width = tiling->latent[1];
    size_t cells = (size_t)(BATCH * CHANNELS * FRAMES * height * width), count = cells * SCALE * SCALE;
    double *z = calloc(cells, sizeof *z);
    float *narrow = calloc(cells, sizeof *narrow), *clip = calloc(count, sizeof *clip);
    assert_true(z && narrow && clip);
    for (size_t i = 0; i < cells; i++) {
        int64_t at = (int64_t)i, plane = height * width;
        z[i] = z_at(at / plane / FRAMES, at / plane % FRAMES, at / width % height, at % width);
        narrow[i] = (float)z[i];
    }
    struct kw__program *program = program_of(tiling);
    struct interp *it = interp_new(program, interp_random_weights, NULL);
    interp_set(it, "z", z, cells);
    if (!interp_run(it, "decode")) fail_msg("%s", interp_error(it));
    struct interp_array y = interp_get(it, "clip");

    struct kw__exec *run = NULL;
    struct kw__weights weights;
    kw_error err;
    kw_status status = kw__exec_open(&kw__backend_cpu, NULL, program, &run, &err);
    if (!status) status = kw__weights_open("random:1", program, &weights, &err);
    if (status) fail_msg("%s", err.message);
    (void)((status = kw__exec_prepare(run, NULL, &weights, &err)) ||
           (status = kw__exec_write(run, "z", narrow, cells, &err)) ||
           (status = kw__exec_stage(run, "decode", &err)) ||
           (status = kw__exec_read(run, "clip", clip, count, &err)));
    if (status) fail_msg("%s", err.message);

    assert_int_equal(y.count, count);
    for (size_t i = 0; i < count; i++) {
        int64_t at = (int64_t)i, w = width * SCALE, h = height * SCALE;
        double wanted = wanted_at(at / w / h / FRAMES, at / w / h % FRAMES, at / w % h, at % w);
        if (!(fabs(y.data[i] - wanted) < 1e-12) || !(fabs((double)clip[i] - wanted) < 2e-6))
            fail_msg("element %zu: %g and %g, not %g", i, y.data[i], (double)clip[i], wanted);
    }
    kw__weights_close(&weights);
    kw__exec_close(run);
    interp_free(it);
    kw__program_free(program);
    free(z);
    free(narrow);
    free(clip);
}

static void test_clip(void **state)
{
    (void)state;
    struct kw__tiling t = {.latent = {11, 13},
                           .tile = {6, 7},
                           .step = {4, 4},
                           .scale = SCALE,
                           .blend = {4, 6},
                           .z_channels = CHANNELS,
                           .z_frames = FRAMES,
                           .out_channels = CHANNELS,
                           .out_frames = FRAMES,
                           .decode = decode};
    expect_clip(&t);
    t.tile[0] = t.step[0] = 11; /* one row of tiles */
    t.blend[0] = 0;
    expect_clip(&t);
    t.tile[1] = t.step[1] = 13; /* one tile */
    expect_clip(&t);
}

/* Each tile is decoded to its end before the next, which has caches of the same names where its shape is the
 * same. */
static void test_turns(void **state)
{
    (void)state;
    const struct kw__tiling t = {.latent = {11, 13},
                                 .tile = {6, 7},
                                 .step = {5, 6},
                                 .scale = 1,
                                 .z_channels = CHANNELS,
                                 .z_frames = FRAMES,
                                 .out_channels = CHANNELS,
                                 .out_frames = FRAMES,
                                 .decode = decode};
    struct kw__program *program = program_of(&t);
    const struct kw__stage *stage = &program->stages[0];
    /* 6x7, 6x7, 6x1; again; and 1x7, 1x7, 1x1: of each a first chunk and then two later ones, and the output
     */
    assert_int_equal(stage->num_phases, 9);
    assert_string_equal(stage->phases[0].name, "tile 6x7 first");
    assert_int_equal(stage->phases[0].calls, 4);
    assert_int_equal(stage->phases[1].calls, 8);
    assert_int_equal(kw__stage_turns(stage), 2 * 9 + 1);
    for (size_t i = 0; i < 18; i++) assert_int_equal(kw__stage_turn(stage, i).calls, i % 2 ? 2 : 1);
    kw__program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
