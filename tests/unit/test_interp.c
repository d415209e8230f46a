/* The reference interpreter. Operators of the reference graphs are proved by test_parity.c; here are
 * their values worked out by hand, fused operators against the plain ones they stand for, and how
 * schedules, states, tables and weights are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/interp.h"

static uint64_t seed = 5;

/* A program of one stage, "run". */
struct fixture {
    struct kw__program *program;
    struct kw__stage *stage;
    struct kw__graph *g; /* its first phase, "one" */
};

static struct fixture start(int64_t calls)
{
    const kw_effective request = {0};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct fixture f = {.program = kw__program_new(&request, &dtypes)};
    assert_non_null(f.program);
    f.stage = kw__program_stage(f.program, "run");
    f.g = kw__stage_phase(f.program, f.stage, "one", calls);
    f.g->component = f.g->tensors = "test";
    return f;
}

static int input(struct kw__graph *g, const char *name, int ndim, const int64_t *dim)
{
    return kw__input(g, name, KW__F32, KW__PASS, ndim, dim);
}

static int weight(struct kw__graph *g, const char *name, int ndim, const int64_t *dim)
{
    return kw__weight(g, name, KW__F32, ndim, dim);
}

/* Smooth numbers without symmetry for every input of the graph. */
static void set_inputs(struct interp *it, const struct kw__graph *g)
{
    for (size_t v = 1; v < g->num_values; v++) {
        if (g->values[v].kind != KW__INPUT) continue;
        size_t count = (size_t)kw__elements(&g->values[v]);
        double *data = calloc(count, sizeof *data);
        assert_non_null(data);
        for (size_t i = 0; i < count; i++) data[i] = sin(1.7 * (double)i + (double)v) + 0.1 * (double)v;
        interp_set(it, g->values[v].name, data, count);
        free(data);
    }
}

static void run(struct interp *it)
{
    if (!interp_run(it, "run")) fail_msg("%s", interp_error(it));
}

static struct interp_array value(struct interp *it, const struct kw__graph *g, int v)
{
    assert_int_not_equal(v, 0);
    return interp_get(it, g->values[v].name);
}

/* Runs the program on set_inputs; `a` and `b` must be the same. Releases it. */
static void expect_same(struct fixture f, int a, int b)
{
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    set_inputs(it, f.g);
    run(it);
    struct interp_array x = value(it, f.g, a), y = value(it, f.g, b);
    assert_int_equal(x.ndim, y.ndim);
    assert_memory_equal(x.dim, y.dim, (size_t)x.ndim * sizeof x.dim[0]);
    double error = interp_relative_error(x.data, y.data, x.count);
    if (!(error < 1e-14)) fail_msg("relative error %.3g", error);
    interp_free(it);
    kw__program_free(f.program);
}

/* Runs the program with input "x"; `result` must be `wanted`. Releases it. */
static void expect_values(struct fixture f, const double *x, size_t x_count, int result, const double *wanted,
                          size_t count)
{
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    interp_set(it, "x", x, x_count);
    run(it);
    struct interp_array y = value(it, f.g, result);
    assert_int_equal(y.count, count);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(y.data[i] - wanted[i]) < 1e-12))
            fail_msg("element %zu: %.15g, not %.15g", i, y.data[i], wanted[i]);
    interp_free(it);
    kw__program_free(f.program);
}

/* ---- By hand --------------------------------------------------------------------------------- */

static void test_layernorm(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__attr attr = {.eps = 1.25};
    int y = KW__OP(f.g, KW__LAYERNORM, &attr, KW__F32, input(f.g, "x", KW__DIMS(1, 1, 4)));
    /* mean 2, variance 5 */
    const double x[] = {-1, 1, 3, 5}, d = 2.5;
    const double wanted[] = {-3 / d, -1 / d, 1 / d, 3 / d};
    expect_values(f, x, 4, y, wanted, 4);
}

static void test_channel_rmsnorm(void **state)
{
    (void)state;
    struct fixture f = start(1);
    int x = input(f.g, "x", KW__DIMS(1, 2, 1, 1, 2)), gamma = input(f.g, "gamma", KW__DIMS(2, 1, 1, 1));
    int y = KW__OP(f.g, KW__CHANNEL_RMSNORM, NULL, KW__F32, x, gamma);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    interp_set(it, "x", (const double[]){0, 3, 0, -4}, 4);
    interp_set(it, "gamma", (const double[]){1, 2}, 2);
    run(it);
    struct interp_array r = value(it, f.g, y);
    const double wanted[] = {0, sqrt(2) * 0.6, 0, sqrt(2) * -1.6};
    for (int i = 0; i < 4; i++) assert_true(fabs(r.data[i] - wanted[i]) < 1e-15);
    interp_free(it);
    kw__program_free(f.program);
}

static void test_sinusoid(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__attr attr = {.width = 4};
    int y = KW__OP(f.g, KW__SINUSOID, &attr, KW__F32, input(f.g, "x", KW__DIMS(2)));
    const double wanted[] = {cos(3), cos(0.03), sin(3), sin(0.03), 1, 1, 0, 0};
    expect_values(f, (const double[]){3, 0}, 2, y, wanted, 8);
}

static void test_rope_table(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__attr attr = {.grid = {2, 1, 3}, .axes = {4, 2, 2}, .theta = 100};
    int y = kw__op(f.g, KW__ROPE_TABLE, &attr, KW__F32, 0, NULL);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    run(it);
    struct interp_array table = value(it, f.g, y);
    assert_int_equal(table.count, 6 * 8);
    const double *row = table.data + 5 * 8; /* t 1, h 0, w 2 */
    const double wanted[] = {cos(1), sin(1), cos(0.1), sin(0.1), 1, 0, cos(2), sin(2)};
    for (int i = 0; i < 8; i++) assert_true(fabs(row[i] - wanted[i]) < 1e-14);
    interp_free(it);
    kw__program_free(f.program);
}

/* The buckets of T5 (32, distance 128) at offsets key - query, from transformers 4.52. */
static void test_relative_bias(void **state)
{
    (void)state;
    enum { L = 201 };
    static const int offsets[][2] = {{0, 0},    {-1, 1},    {-7, 7},    {-8, 8},   {-11, 8},  {-12, 9},
                                     {-15, 9},  {-16, 10},  {-31, 11},  {-32, 12}, {-64, 14}, {-90, 14},
                                     {-91, 15}, {-128, 15}, {-200, 15}, {1, 17},   {8, 24},   {16, 26},
                                     {64, 30},  {127, 31},  {200, 31}};
    struct fixture f = start(1);
    struct kw__attr attr = {.width = L, .distance = 128};
    int x = input(f.g, "x", KW__DIMS(32, 2)); /* stands for the weight: bucket b has 10 b, 10 b + 1 */
    int y = KW__OP(f.g, KW__RELATIVE_BIAS, &attr, KW__F32, x);
    double table[64];
    for (int b = 0; b < 32; b++) {
        table[2 * b] = 10 * b;
        table[2 * b + 1] = 10 * b + 1;
    }
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    interp_set(it, "x", table, 64);
    run(it);
    struct interp_array bias = value(it, f.g, y);
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        int query = offsets[i][0] < 0 ? L - 1 : 0, key = query + offsets[i][0];
        assert_int_equal((int)bias.data[query * L + key], 10 * offsets[i][1]);
        assert_int_equal((int)bias.data[(L + query) * L + key], 10 * offsets[i][1] + 1);
    }
    interp_free(it);
    kw__program_free(f.program);
}

static void test_unpatchify_and_interleave(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__attr attr = {.grid = {1, 1, 2}, .patch = {1, 2, 1}};
    /* two tokens of [h 2][c 2] */
    int y = KW__OP(f.g, KW__UNPATCHIFY, &attr, KW__F32, input(f.g, "x", KW__DIMS(1, 2, 4)));
    const double x[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const double wanted[] = {0, 4, 2, 6, 1, 5, 3, 7};
    expect_values(f, x, 8, y, wanted, 8);

    f = start(1);
    y = KW__OP(f.g, KW__INTERLEAVE_TIME, NULL, KW__F32, input(f.g, "x", KW__DIMS(1, 4, 2, 1, 1)));
    /* channels 0 1 | 2 3, frames a b: out channel 0: 0a 2a 0b 2b */
    const double frames[] = {0, 4, 1, 5, 2, 6, 3, 7};
    expect_values(f, x, 8, y, frames, 8);
}

static void test_conv_keeps_its_last_frames(void **state)
{
    (void)state;
    struct fixture f = start(1);
    int x = input(f.g, "x", KW__DIMS(1, 1, 1, 1, 2)), w = weight(f.g, "w", KW__DIMS(1, 1, 3, 1, 1));
    int cache = kw__state(f.g, "cache", KW__F32, KW__PASS, KW__DIMS(1, 1, 2, 1, 2));
    struct kw__attr attr = {.stride = {1, 1, 1}};
    int y = KW__OP(f.g, KW__CONV, &attr, KW__F32, x, w, 0, cache);
    kw__state_next(f.g, cache, kw__output(f.g, y, 1));
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    for (int frame = 1; frame <= 3; frame++) {
        interp_set(it, "x", (const double[]){frame, 10 * frame}, 2);
        run(it);
        struct interp_array c = interp_get(it, "cache");
        assert_int_equal(c.dim[2], 2);
        const double wanted[] = {frame - 1, 10 * (frame - 1), frame, 10 * frame};
        assert_memory_equal(c.data, wanted, sizeof wanted);
    }
    struct interp_array kernel = value(it, f.g, w), r = value(it, f.g, y);
    double sum = kernel.data[0] + 2 * kernel.data[1] + 3 * kernel.data[2];
    assert_true(fabs(r.data[1] - 10 * sum) < 1e-12);
    interp_free(it);
    kw__program_free(f.program);
}

/* ---- Fused operators ------------------------------------------------------------------------- */

static void test_linear_with_activation_gate_and_residual(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(2, 3, 4)), residual = input(g, "residual", KW__DIMS(2, 3, 5));
    int table = input(g, "table", KW__DIMS(2, 6, 5));
    int w = weight(g, "w.weight", KW__DIMS(5, 4)), b = weight(g, "w.bias", KW__DIMS(5));
    struct kw__attr gate = {.row = 2}, fused = {.row = 2, .activation = KW__ACT_GELU};
    int plain = KW__OP(g, KW__GELU, NULL, KW__F32, KW__OP(g, KW__LINEAR, NULL, KW__F32, x, w, b));
    plain = KW__OP(g, KW__GATE_ADD, &gate, KW__F32, residual, plain, table);
    expect_same(f, KW__OP(g, KW__LINEAR, &fused, KW__F32, x, w, b, table, residual), plain);
}

static void test_linear_with_residual_alone(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(2, 3, 4)), residual = input(g, "residual", KW__DIMS(2, 3, 5));
    int w = weight(g, "w.weight", KW__DIMS(5, 4));
    struct kw__attr fused = {.row = -1};
    int plain = KW__OP(g, KW__ADD, NULL, KW__F32, residual, KW__OP(g, KW__LINEAR, NULL, KW__F32, x, w));
    expect_same(f, KW__OP(g, KW__LINEAR, &fused, KW__F32, x, w, 0, 0, residual), plain);
}

/* One key three times, against the same with a multiplicity of 3. */
static void test_attention_multiplicity(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int q = input(g, "q", KW__DIMS(1, 2, 4)), rows = input(g, "rows", KW__DIMS(1, 3, 4));
    int many = input(g, "many", KW__DIMS(1, 5, 4));
    struct kw__attr attr = {.heads = 2, .scale = 0.7, .multiplicity = 1}, times = attr;
    times.multiplicity = 3;
    int a = KW__OP(g, KW__ATTENTION, &attr, KW__F32, q, many, many);
    int b = KW__OP(g, KW__ATTENTION, &times, KW__F32, q, rows, rows);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    set_inputs(it, g);
    double data[20];
    for (int i = 0; i < 20; i++) data[i] = sin(i < 12 ? i : 8 + i % 4);
    interp_set(it, "rows", data, 12);
    interp_set(it, "many", data, 20);
    run(it);
    struct interp_array x = value(it, g, a), y = value(it, g, b);
    assert_true(interp_relative_error(x.data, y.data, x.count) < 1e-14);
    interp_free(it);
    kw__program_free(f.program);
}

static void test_attention_key_length(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int q = input(g, "q", KW__DIMS(2, 2, 4)), kv = input(g, "kv", KW__DIMS(2, 3, 4));
    int length = input(g, "length", KW__DIMS(2));
    struct kw__attr attr = {.heads = 1, .scale = 1, .multiplicity = 1};
    int y = KW__OP(g, KW__ATTENTION, &attr, KW__F32, q, kv, kv, 0, length);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    set_inputs(it, g);
    interp_set(it, "length", (const double[]){1, 3}, 2);
    run(it);
    struct interp_array r = value(it, g, y), v = value(it, g, kv);
    assert_memory_equal(r.data, v.data, 4 * sizeof(double));     /* one key: its value */
    assert_memory_equal(r.data + 4, v.data, 4 * sizeof(double)); /* for each query */
    assert_true(r.data[8] != v.data[12]);
    interp_set(it, "length", (const double[]){0, 3}, 2);
    assert_false(interp_run(it, "run"));
    interp_free(it);
    kw__program_free(f.program);
}

/* The three projections as one, from a concatenated weight, against three. */
static void test_joint_projection(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(2, 3, 4)), rope = input(g, "rope", KW__DIMS(3, 2));
    int w[3] = {weight(g, "q", KW__DIMS(4, 4)), weight(g, "k", KW__DIMS(4, 4)),
                weight(g, "v", KW__DIMS(4, 4))};
    int gamma_q = weight(g, "q.gamma", KW__DIMS(4)), gamma_k = weight(g, "k.gamma", KW__DIMS(4));
    struct kw__attr norm = {.eps = 1e-6}, attention = {.heads = 2, .scale = 0.5, .multiplicity = 1};
    int q = KW__OP(g, KW__LINEAR, NULL, KW__F32, x, w[0]);
    int k = KW__OP(g, KW__LINEAR, NULL, KW__F32, x, w[1]), v = KW__OP(g, KW__LINEAR, NULL, KW__F32, x, w[2]);
    q = KW__OP(g, KW__ROPE, NULL, KW__F32, KW__OP(g, KW__RMSNORM, &norm, KW__F32, q, gamma_q), rope);
    k = KW__OP(g, KW__RMSNORM, &norm, KW__F32, k, gamma_k);
    int plain = KW__OP(g, KW__ATTENTION, &attention, KW__F32, q, k, v);

    int joint_w = weight(g, "joint", KW__DIMS(12, 4));
    struct kw__value *recipe = &g->values[joint_w];
    recipe->recipe = KW__RECIPE_CONCAT;
    recipe->num_tensors = 3;
    for (int i = 0; i < 3; i++) recipe->tensor[i] = g->values[w[i]].tensor[0];
    int joint = KW__OP(g, KW__LINEAR, NULL, KW__F32, x, joint_w);
    struct kw__attr part = {.eps = 1e-6, .parts = 3};
    q = KW__OP(g, KW__RMSNORM_ROPE, &part, KW__F32, joint, gamma_q, rope);
    part.part = 1;
    k = KW__OP(g, KW__RMSNORM, &part, KW__F32, joint, gamma_k);
    attention.parts = 3;
    attention.part = 2;
    expect_same(f, KW__OP(g, KW__ATTENTION, &attention, KW__F32, q, k, joint), plain);
}

/* T5 reads all of q, k and v from the joint projection. */
static void test_attention_on_a_joint_projection(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(1, 3, 12));
    int q = input(g, "q", KW__DIMS(1, 3, 4)), k = input(g, "k", KW__DIMS(1, 3, 4)),
        v = input(g, "v", KW__DIMS(1, 3, 4));
    struct kw__attr attr = {.heads = 2, .scale = 1, .multiplicity = 1}, joint = attr;
    joint.parts = 3;
    joint.part = 2;
    joint.q_joint = joint.k_joint = true;
    int a = KW__OP(g, KW__ATTENTION, &attr, KW__F32, q, k, v);
    int b = KW__OP(g, KW__ATTENTION, &joint, KW__F32, x, x, x);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    double whole[36], parts[3][12];
    for (int row = 0; row < 3; row++)
        for (int i = 0; i < 12; i++) whole[row * 12 + i] = parts[i / 4][row * 4 + i % 4] = cos(row * 12 + i);
    interp_set(it, "x", whole, 36);
    interp_set(it, "q", parts[0], 12);
    interp_set(it, "k", parts[1], 12);
    interp_set(it, "v", parts[2], 12);
    run(it);
    struct interp_array one = value(it, g, a), other = value(it, g, b);
    assert_int_equal(other.dim[2], 4);
    assert_true(interp_relative_error(one.data, other.data, 12) < 1e-14);
    interp_free(it);
    kw__program_free(f.program);
}

static void test_layernorm_modulate_and_gelu_mul(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(2, 3, 4)), table = input(g, "table", KW__DIMS(2, 6, 4));
    struct kw__attr attr = {.eps = 1e-3, .row = 3, .row2 = 4};
    int plain = KW__OP(g, KW__MODULATE, &attr, KW__F32, KW__OP(g, KW__LAYERNORM, &attr, KW__F32, x), table);
    plain = KW__OP(g, KW__MUL, NULL, KW__F32, KW__OP(g, KW__GELU, NULL, KW__F32, plain), x);
    int fused = KW__OP(g, KW__LAYERNORM_MODULATE, &attr, KW__F32, x, table);
    expect_same(f, KW__OP(g, KW__GELU_MUL, NULL, KW__F32, fused, x), plain);
}

/* norm + SiLU, upsampling convolutions read directly or folded, and a residual. */
static void check_upsampling(bool folded)
{
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int x = input(g, "x", KW__DIMS(1, 2, 2, 3, 2)), residual = input(g, "residual", KW__DIMS(1, 3, 2, 6, 4));
    int w = weight(g, "w", KW__DIMS(3, 2, 3, 3)), b = weight(g, "b", KW__DIMS(3)),
        gamma = weight(g, "gamma", KW__DIMS(2, 1, 1));
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {1, 1}}, fused = attr,
                    silu = {.activation = KW__ACT_SILU};
    fused.upsample = true;
    int plain = KW__OP(g, KW__SILU, NULL, KW__F32, KW__OP(g, KW__CHANNEL_RMSNORM, NULL, KW__F32, x, gamma));
    plain = KW__OP(g, KW__CONV, &attr, KW__F32, KW__OP(g, KW__UPSAMPLE, NULL, KW__F32, plain), w, b);
    plain = KW__OP(g, KW__ADD, NULL, KW__F32, plain, residual);
    if (folded) {
        int whole = w;
        w = weight(g, "folded", KW__DIMS(4, 3, 2, 2, 2));
        g->values[w].recipe = KW__RECIPE_FOLD_UPSAMPLE;
        g->values[w].tensor[0] = g->values[whole].tensor[0];
    }
    int normed = KW__OP(g, KW__CHANNEL_RMSNORM, &silu, KW__F32, x, gamma);
    expect_same(f, KW__OP(g, KW__CONV, &fused, KW__F32, normed, w, b, 0, residual), plain);
}

static void test_conv_reads_upsampled(void **state)
{
    (void)state;
    check_upsampling(false);
}

static void test_conv_with_folded_kernels(void **state)
{
    (void)state;
    check_upsampling(true);
}

/* ---- Schedules ------------------------------------------------------------------------------- */

/* Fibonacci: both states change together; the second phase goes on with the first's. */
static void test_states_change_together_and_cross_phases(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "same"};
    static const double rows[] = {1, 1, 1, 1, 1, 1, 1, 1};
    struct fixture f = start(3);
    struct kw__graph *second = kw__stage_phase(f.program, f.stage, "two", 4);
    struct kw__graph *graphs[] = {f.g, second};
    struct kw__attr attr = {.column = 0};
    for (int p = 0; p < 2; p++) {
        struct kw__graph *g = graphs[p];
        f.stage->phases[p].table = (struct kw__iterations){2, names, rows};
        int a = kw__state(g, "a", KW__F32, KW__STEP, KW__DIMS(1));
        int b = kw__state(g, "b", KW__F32, KW__STEP, KW__DIMS(1));
        g->values[b].initial = 1;
        kw__state_next(g, a, b);
        kw__state_next(g, b, KW__OP(g, KW__LINCOMB, &attr, KW__F32, a, b));
    }
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    run(it);
    assert_true(interp_get(it, "a").data[0] == 13); /* 0 1 1 2 3 5 8 13 */
    assert_true(interp_get(it, "b").data[0] == 21);
    interp_set_scalar(it, "a", 1); /* a stage that runs again goes on from there */
    interp_set_scalar(it, "b", 0);
    run(it);
    assert_true(interp_get(it, "a").data[0] == 8);
    interp_free(it);
    kw__program_free(f.program);
}

static void count_up(void *user, struct interp *it, const struct kw__phase *phase, int64_t iteration)
{
    double *seen = user;
    assert_string_equal(phase->name, "one");
    seen[iteration] = interp_get(it, "clip").data[iteration];
}

/* Columns: a named input, coefficients, frames. */
static void test_iteration_table(void **state)
{
    (void)state;
    static const char *const names[] = {"timestep", "scale", "from", "to"};
    static const double rows[] = {10, 2, 2, 0, 20, 3, 1, 1, 30, 4, 0, 2};
    struct fixture f = start(3);
    struct kw__graph *g = f.g;
    f.stage->phases[0].table = (struct kw__iterations){4, names, rows};
    int timestep = input(g, "timestep", KW__DIMS(1, 1, 1, 1, 1)), x = input(g, "x", KW__DIMS(1, 1, 3, 1, 1));
    int clip = kw__state(g, "clip", KW__F32, KW__STEP, KW__DIMS(1, 1, 3, 1, 1));
    struct kw__attr take = {.column = 2}, scale = {.column = 1}, put = {.column = 3};
    int frame = KW__OP(g, KW__TAKE_FRAME, &take, KW__F32, x);
    frame = KW__OP(g, KW__LINCOMB, &scale, KW__F32, frame);
    frame = KW__OP(g, KW__ADD, NULL, KW__F32, frame, timestep);
    kw__state_next(g, clip, KW__OP(g, KW__PUT_FRAMES, &put, KW__F32, clip, frame));
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    double seen[3];
    interp_observe(it, count_up, seen);
    interp_set(it, "x", (const double[]){100, 200, 300}, 3);
    run(it);
    const double wanted[] = {2 * 300 + 10, 3 * 200 + 20, 4 * 100 + 30};
    assert_memory_equal(interp_get(it, "clip").data, wanted, sizeof wanted);
    assert_memory_equal(seen, wanted, sizeof wanted);
    interp_free(it);
    kw__program_free(f.program);
}

static void test_inputs_of_one_phase(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *graphs[] = {f.g, kw__stage_phase(f.program, f.stage, "two", 1)};
    for (int p = 0; p < 2; p++) {
        int result = kw__state(graphs[p], p ? "second" : "first", KW__F32, KW__PASS, KW__DIMS(1));
        int x = input(graphs[p], "x", KW__DIMS(1));
        kw__state_next(graphs[p], result, KW__OP(graphs[p], KW__ADD, NULL, KW__F32, x, x));
    }
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    interp_set_scalar(it, "x", 1);
    interp_set_scalar(it, "two/x", 2);
    run(it);
    assert_true(interp_get(it, "first").data[0] == 2 && interp_get(it, "second").data[0] == 4);
    interp_free(it);
    kw__program_free(f.program);
}

static void test_errors_name_what_is_wrong(void **state)
{
    (void)state;
    struct fixture f = start(1);
    struct kw__graph *g = f.g;
    int a = input(g, "a", KW__DIMS(2)), b = input(g, "b", KW__DIMS(3));
    int sum = KW__OP(g, KW__ADD, NULL, KW__F32, a, a);
    struct interp *it = interp_new(f.program, interp_random_weights, &seed);
    assert_false(interp_run(it, "run"));
    assert_string_equal(interp_error(it), "input a of one is not set");
    interp_set(it, "a", (const double[]){1, 2, 3}, 3);
    assert_false(interp_run(it, "run"));
    assert_string_equal(interp_error(it), "input a of one has 3 elements, not 2");
    interp_set(it, "a", (const double[]){1, 2}, 2);
    run(it); /* nothing reads b */
    assert_true(value(it, g, sum).data[1] == 4);
    g->ops[0].input[1] = b;
    interp_set(it, "b", (const double[]){1, 2, 3}, 3);
    assert_false(interp_run(it, "run"));
    assert_string_equal(interp_error(it), "add.0.0 of one: not so: the operands have one shape");
    assert_false(interp_run(it, "decode"));
    assert_string_equal(interp_error(it), "there is no stage decode");
    interp_free(it);
    kw__program_free(f.program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_channel_rmsnorm),
        cmocka_unit_test(test_sinusoid),
        cmocka_unit_test(test_rope_table),
        cmocka_unit_test(test_relative_bias),
        cmocka_unit_test(test_unpatchify_and_interleave),
        cmocka_unit_test(test_conv_keeps_its_last_frames),
        cmocka_unit_test(test_linear_with_activation_gate_and_residual),
        cmocka_unit_test(test_linear_with_residual_alone),
        cmocka_unit_test(test_attention_multiplicity),
        cmocka_unit_test(test_attention_key_length),
        cmocka_unit_test(test_joint_projection),
        cmocka_unit_test(test_attention_on_a_joint_projection),
        cmocka_unit_test(test_layernorm_modulate_and_gelu_mul),
        cmocka_unit_test(test_conv_reads_upsampled),
        cmocka_unit_test(test_conv_with_folded_kernels),
        cmocka_unit_test(test_states_change_together_and_cross_phases),
        cmocka_unit_test(test_iteration_table),
        cmocka_unit_test(test_inputs_of_one_phase),
        cmocka_unit_test(test_errors_name_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
