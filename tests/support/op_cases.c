#include "support/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine/run.h"
#include "graph/count.h"
#include "support/interp.h"

/* ---- The list ------------------------------------------------------------------------------------------ */

#define LARGE true
static const double shifts[] = {0.5, -1, 2}, gains[] = {2, 0.25, -3};
static const double places[] = {-0.75, 0.5, 1.25}, frequencies[] = {1.5, 40, 1500};

const struct op_case op_cases[] = {
    {"linear", KW__LINEAR, 0, 'y', {0}, {{'x', {1, 7, 20}}, {'w', {13, 20}}, {'w', {13}}}},
    {"linear without bias", KW__LINEAR, 0, 'y', {0}, {{'x', {3, 5, 33}}, {'w', {17, 33}}}},
    {"linear of one row", KW__LINEAR, 0, 'f', {0}, {{'x', {1, 1, 64}}, {'w', {96, 64}}, {'w', {96}}}},
    {"linear gelu",
     KW__LINEAR,
     0,
     'y',
     {.activation = KW__ACT_GELU},
     {{'x', {2, 9, 24}}, {'w', {40, 24}}, {'w', {40}}}},
    {"linear gated",
     KW__LINEAR,
     0,
     'f',
     {.row = 2},
     {{'x', {2, 9, 24}}, {'w', {40, 24}}, {'w', {40}}, {'f', {2, 6, 40}}, {'f', {2, 9, 40}}}},
    {"linear residual",
     KW__LINEAR,
     0,
     'y',
     {.row = -1},
     {{'x', {2, 9, 24}}, {'w', {40, 24}}, {'-', {0}}, {'-', {0}}, {'x', {2, 9, 40}}}},
    {"linear residual f32",
     KW__LINEAR,
     0,
     'f',
     {.row = -1},
     {{'x', {1, 35, 64}}, {'w', {72, 64}}, {'w', {72}}, {'-', {0}}, {'f', {1, 35, 72}}}},
    {"linear, several blocks", KW__LINEAR, 0, 'y', {0}, {{'x', {1, 70, 96}}, {'w', {300, 96}}, {'w', {300}}}},
    {"linear, several pieces",
     KW__LINEAR,
     0,
     'f',
     {.row = 0},
     {{'x', {2, 530, 64}}, {'w', {50, 64}}, {'w', {50}}, {'f', {2, 1, 50}}, {'f', {2, 530, 50}}}},
    {"linear, several passes",
     KW__LINEAR,
     0,
     'f',
     {.row = -1},
     {{'x', {1, 45, 3616}}, {'w', {70, 3616}}, {'w', {70}}, {'-', {0}}, {'x', {1, 45, 70}}}},
    {"linear gelu, several passes",
     KW__LINEAR,
     0,
     'y',
     {.activation = KW__ACT_GELU},
     {{'x', {1, 33, 1824}}, {'w', {40, 1824}}, {'w', {40}}}},
    {"linear 1536 x 1536",
     KW__LINEAR,
     LARGE,
     'f',
     {0},
     {{'x', {1, 1280, 1536}}, {'w', {1536, 1536}}, {'w', {1536}}}},
    {"linear 1536 x 1536 gated",
     KW__LINEAR,
     LARGE,
     'f',
     {.row = 2},
     {{'x', {1, 1280, 1536}},
      {'w', {1536, 1536}},
      {'w', {1536}},
      {'f', {1, 6, 1536}},
      {'f', {1, 1280, 1536}}}},
    {"linear qkv", KW__LINEAR, LARGE, 'y', {0}, {{'x', {1, 1280, 1536}}, {'w', {4608, 1536}}, {'w', {4608}}}},
    {"linear up, gelu",
     KW__LINEAR,
     LARGE,
     'y',
     {.activation = KW__ACT_GELU},
     {{'x', {1, 1280, 1536}}, {'w', {8960, 1536}}, {'w', {8960}}}},
    {"linear down, gated",
     KW__LINEAR,
     LARGE,
     'f',
     {.row = 5},
     {{'x', {1, 1280, 8960}},
      {'w', {1536, 8960}},
      {'w', {1536}},
      {'f', {1, 6, 1536}},
      {'f', {1, 1280, 1536}}}},
    {"linear of 30 rows", KW__LINEAR, LARGE, 'y', {0}, {{'x', {1, 30, 4096}}, {'w', {10240, 4096}}}},

    {"attention",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 3, .multiplicity = 1, .scale = 0.2},
     {{'x', {2, 37, 48}}, {'x', {2, 37, 48}}, {'x', {2, 37, 48}}}},
    {"attention, keys fewer",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .multiplicity = 9, .scale = 0.3},
     {{'x', {1, 70, 24}}, {'x', {1, 5, 24}}, {'x', {1, 5, 24}}}},
    {"attention, one key",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .multiplicity = 500, .scale = 0.3},
     {{'x', {1, 3, 32}}, {'x', {1, 1, 32}}, {'x', {1, 1, 32}}}},
    {"attention, bias and lengths",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .multiplicity = 1, .scale = 1},
     {{'x', {2, 21, 20}}, {'x', {2, 21, 20}}, {'x', {2, 21, 20}}, {'x', {2, 21, 21}}, {'l', {2}}}},
    {"attention, several blocks",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 1, .multiplicity = 3, .scale = 0.1},
     {{'x', {1, 150, 72}}, {'x', {1, 333, 72}}, {'x', {1, 333, 72}}}},
    {"attention, head of 384",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 1, .multiplicity = 1, .scale = 0.05},
     {{'x', {2, 40, 384}}, {'x', {2, 40, 384}}, {'x', {2, 40, 384}}}},
    {"attention, v of a joint",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .multiplicity = 1, .scale = 0.3, .part = 2, .parts = 3},
     {{'x', {1, 18, 32}}, {'x', {1, 18, 32}}, {'x', {1, 18, 96}}}},
    {"attention of a joint",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .multiplicity = 1, .scale = 0.3, .part = 2, .parts = 3, .q_joint = true, .k_joint = true},
     {{'x', {1, 18, 96}}, {'x', {1, 18, 96}}, {'x', {1, 18, 96}}}},
    {"attention, causal",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 3, .multiplicity = 1, .scale = 0.2, .causal = true},
     {{'x', {2, 37, 48}}, {'x', {2, 37, 48}}, {'x', {2, 37, 48}}}},
    {"attention, keys before the length",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .scale = 0.3, .prefix = 4},
     {{'x', {2, 1, 32}}, {'x', {2, 20, 32}}, {'x', {2, 20, 32}}, {'-', {0}}, {'l', {2}}}},
    {"attention, ragged",
     KW__ATTENTION,
     0,
     'y',
     {.heads = 2, .scale = 0.3, .prefix = 9, .ragged = true},
     {{'x', {2, 20, 32}}, {'x', {2, 20, 32}}, {'x', {2, 20, 32}}, {'-', {0}}, {'l', {2}}}},
    {"attention 12 x 128",
     KW__ATTENTION,
     LARGE,
     'y',
     {.heads = 12, .multiplicity = 1, .scale = 0.088},
     {{'x', {1, 1280, 1536}}, {'x', {1, 1280, 1536}}, {'x', {1, 1280, 1536}}}},
    {"attention 12 x 128, 31 keys",
     KW__ATTENTION,
     LARGE,
     'y',
     {.heads = 12, .multiplicity = 482, .scale = 0.088},
     {{'x', {1, 1280, 1536}}, {'x', {1, 31, 1536}}, {'x', {1, 31, 1536}}}},
    {"attention 1 x 384",
     KW__ATTENTION,
     LARGE,
     'y',
     {.heads = 1, .multiplicity = 1, .scale = 0.05},
     {{'x', {1, 1024, 384}}, {'x', {1, 1024, 384}}, {'x', {1, 1024, 384}}}},

    {"conv 1x1x1",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}},
     {{'x', {2, 5, 2, 3, 4}}, {'w', {7, 5, 1, 1, 1}}, {'w', {7}}}},
    {"conv 3x3",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 6, 2, 5, 7}}, {'w', {4, 6, 3, 3}}, {'w', {4}}}},
    {"conv of patches",
     KW__CONV,
     0,
     'f',
     {.stride = {1, 2, 2}},
     {{'x', {1, 4, 3, 4, 6}}, {'w', {10, 4, 1, 2, 2}}, {'w', {10}}}},
    {"conv causal",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 6, 4, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}, {'s', {1, 6, 2, 5, 3}}}},
    {"conv causal, one frame",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 6, 1, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}, {'s', {1, 6, 2, 5, 3}}}},
    {"conv causal, two videos",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {2, 6, 2, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}, {'s', {2, 6, 2, 5, 3}}}},
    {"conv causal, residual",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 8, 2, 5, 3}},
      {'w', {8, 8, 3, 3, 3}},
      {'w', {8}},
      {'s', {1, 8, 2, 5, 3}},
      {'x', {1, 8, 2, 5, 3}}}},
    {"conv, edges of time",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .pad_time = {1, 1}, .replicate_time = true},
     {{'x', {2, 6, 3, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}}},
    {"conv causal, edges",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1},
      .pad = {1, 1},
      .pad_time = {2, 0},
      .replicate_time = true,
      .replicate_space = true},
     {{'x', {1, 6, 2, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}}},
    {"conv causal, edge of time, keeps",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .pad_time = {2, 0}, .replicate_time = true, .keep = true},
     {{'x', {1, 6, 1, 5, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}}},
    {"conv, zeros around time",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .pad_time = {1, 1}},
     {{'x', {1, 6, 3, 4, 3}}, {'w', {8, 6, 3, 3, 3}}, {'w', {8}}, {'-', {0}}, {'x', {1, 8, 3, 4, 3}}}},
    {"conv of stride 2",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 2, 2}, .pad = {1, 1}},
     {{'x', {1, 6, 2, 6, 5}}, {'w', {4, 6, 3, 3}}, {'w', {4}}}},
    {"conv of time",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}},
     {{'x', {1, 6, 2, 5, 3}}, {'w', {12, 6, 3, 1, 1}}, {'w', {12}}, {'s', {1, 6, 2, 5, 3}}}},
    {"conv upsampling",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .upsample = true},
     {{'x', {1, 6, 2, 3, 5}}, {'w', {4, 6, 3, 3}}, {'w', {4}}}},
    {"conv upsampling, folded",
     KW__CONV,
     0,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .upsample = true},
     {{'x', {1, 6, 2, 3, 5}}, {'F', {4, 6, 1, 3, 3}}, {'w', {4}}}},
    {"conv 384, 3x3x3",
     KW__CONV,
     LARGE,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 384, 2, 64, 64}}, {'w', {384, 384, 3, 3, 3}}, {'w', {384}}, {'s', {1, 384, 2, 64, 64}}}},
    {"conv 192, 3x3x3",
     KW__CONV,
     LARGE,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 192, 4, 128, 128}}, {'w', {192, 192, 3, 3, 3}}, {'w', {192}}, {'s', {1, 192, 2, 128, 128}}}},
    {"conv 96, 3x3x3",
     KW__CONV,
     LARGE,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 96, 4, 256, 256}}, {'w', {96, 96, 3, 3, 3}}, {'w', {96}}, {'s', {1, 96, 2, 256, 256}}}},
    {"conv 96 to 3, 3x3x3",
     KW__CONV,
     LARGE,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}},
     {{'x', {1, 96, 4, 256, 256}}, {'w', {3, 96, 3, 3, 3}}, {'w', {3}}, {'s', {1, 96, 2, 256, 256}}}},
    {"conv upsampling, folded",
     KW__CONV,
     LARGE,
     'y',
     {.stride = {1, 1, 1}, .pad = {1, 1}, .upsample = true},
     {{'x', {1, 192, 4, 128, 128}}, {'F', {96, 192, 1, 3, 3}}, {'w', {96}}}},

    {"layernorm", KW__LAYERNORM, 0, 'y', {.eps = 1e-6}, {{'f', {2, 5, 37}}, {'g', {37}}, {'g', {37}}}},
    {"layernorm, plain", KW__LAYERNORM, 0, 'f', {.eps = 1e-6}, {{'x', {1, 3, 1100}}}},
    {"layernorm",
     KW__LAYERNORM,
     LARGE,
     'y',
     {.eps = 1e-6},
     {{'f', {1, 1280, 1536}}, {'g', {1536}}, {'g', {1536}}}},
    {"layernorm of heads",
     KW__LAYERNORM,
     0,
     'y',
     {.eps = 1e-6, .heads = 3},
     {{'x', {2, 5, 60}}, {'w', {20}}, {'w', {20}}}},
    {"rmsnorm", KW__RMSNORM, 0, 'y', {.eps = 1e-6}, {{'x', {2, 5, 37}}, {'w', {37}}}},
    {"rmsnorm, plain", KW__RMSNORM, 0, 'y', {.eps = 1e-6}, {{'f', {2, 5, 37}}}},
    {"rmsnorm of heads", KW__RMSNORM, 0, 'y', {.eps = 1e-5, .heads = 3}, {{'x', {2, 5, 60}}, {'w', {20}}}},
    {"rmsnorm of heads of a joint",
     KW__RMSNORM,
     0,
     'y',
     {.eps = 1e-5, .heads = 3, .part = 1, .parts = 3},
     {{'x', {2, 5, 180}}, {'w', {20}}}},
    {"rmsnorm of a joint",
     KW__RMSNORM,
     0,
     'y',
     {.eps = 1e-6, .part = 1, .parts = 3},
     {{'x', {2, 5, 111}}, {'w', {37}}}},
    {"rmsnorm", KW__RMSNORM, LARGE, 'y', {.eps = 1e-6}, {{'x', {1, 1280, 1536}}, {'w', {1536}}}},
    {"channel_rmsnorm", KW__CHANNEL_RMSNORM, 0, 'y', {0}, {{'x', {2, 6, 2, 3, 5}}, {'w', {6, 1, 1, 1}}}},
    {"channel_rmsnorm silu",
     KW__CHANNEL_RMSNORM,
     0,
     'y',
     {.activation = KW__ACT_SILU},
     {{'x', {1, 35, 1, 3, 2}}, {'w', {35, 1, 1}}}},
    {"channel_rmsnorm, plain", KW__CHANNEL_RMSNORM, 0, 'y', {.eps = 1e-8}, {{'x', {2, 6, 2, 3, 5}}}},
    {"groupnorm",
     KW__GROUPNORM,
     0,
     'y',
     {.eps = 1e-6, .groups = 3},
     {{'x', {2, 12, 2, 3, 5}}, {'w', {12}}, {'w', {12}}}},
    {"groupnorm of frames, silu",
     KW__GROUPNORM,
     0,
     'y',
     {.eps = 1e-5, .groups = 2, .per_frame = true, .activation = KW__ACT_SILU},
     {{'x', {1, 34, 3, 3, 2}}, {'g', {34}}, {'g', {34}}}},
    {"groupnorm",
     KW__GROUPNORM,
     LARGE,
     'y',
     {.eps = 1e-6, .groups = 32},
     {{'x', {1, 512, 2, 64, 64}}, {'w', {512}}, {'w', {512}}}},
    {"channel_rmsnorm silu",
     KW__CHANNEL_RMSNORM,
     LARGE,
     'y',
     {.activation = KW__ACT_SILU},
     {{'x', {1, 96, 4, 256, 256}}, {'w', {96, 1, 1, 1}}}},
    {"layernorm_modulate",
     KW__LAYERNORM_MODULATE,
     0,
     'y',
     {.eps = 1e-6, .row = 3, .row2 = 4},
     {{'f', {2, 5, 37}}, {'f', {2, 6, 37}}}},
    {"layernorm_modulate",
     KW__LAYERNORM_MODULATE,
     LARGE,
     'y',
     {.eps = 1e-6, .row = 3, .row2 = 4},
     {{'f', {1, 1280, 1536}}, {'f', {1, 6, 1536}}}},
    {"rmsnorm_rope",
     KW__RMSNORM_ROPE,
     0,
     'y',
     {.eps = 1e-6},
     {{'x', {2, 5, 36}}, {'w', {36}}, {'f', {5, 12}}}},
    {"rmsnorm_rope of a joint",
     KW__RMSNORM_ROPE,
     0,
     'y',
     {.eps = 1e-6, .part = 1, .parts = 2},
     {{'x', {1, 7, 40}}, {'w', {20}}, {'f', {7, 20}}}},
    {"rmsnorm_rope of a joint",
     KW__RMSNORM_ROPE,
     LARGE,
     'y',
     {.eps = 1e-6, .part = 1, .parts = 3},
     {{'x', {1, 1280, 4608}}, {'w', {1536}}, {'f', {1280, 128}}}},

    {"add", KW__ADD, 0, 'y', {0}, {{'x', {1, 7, 150}}, {'x', {1, 7, 150}}}},
    {"add f32 and another", KW__ADD, 0, 'f', {0}, {{'f', {1, 7, 150}}, {'x', {1, 7, 150}}}},
    {"add", KW__ADD, LARGE, 'y', {0}, {{'x', {1, 96, 4, 256, 256}}, {'x', {1, 96, 4, 256, 256}}}},
    {"mul", KW__MUL, 0, 'y', {0}, {{'x', {3, 7, 5}}, {'x', {3, 7, 5}}}},
    {"silu", KW__SILU, 0, 'y', {0}, {{'x', {3, 7, 5}}}},
    {"silu", KW__SILU, LARGE, 'y', {0}, {{'x', {1, 1280, 8960}}}},
    {"gelu", KW__GELU, 0, 'y', {0}, {{'x', {3, 7, 5}}}},
    {"gelu, exact", KW__GELU, 0, 'y', {.activation = KW__ACT_GELU_ERF}, {{'x', {3, 7, 5}}}},
    {"gelu, quick", KW__GELU, 0, 'y', {.activation = KW__ACT_GELU_QUICK}, {{'x', {3, 7, 5}}}},
    {"tanh", KW__TANH, 0, 'y', {0}, {{'x', {3, 7, 5}}}},
    {"glu", KW__GLU, 0, 'y', {.activation = KW__ACT_SILU}, {{'x', {2, 7, 38}}}},
    {"glu, exact gelu", KW__GLU, 0, 'y', {.activation = KW__ACT_GELU_ERF}, {{'x', {2, 7, 38}}}},
    {"linear gelu, exact",
     KW__LINEAR,
     0,
     'y',
     {.activation = KW__ACT_GELU_ERF},
     {{'x', {2, 9, 24}}, {'w', {40, 24}}, {'w', {40}}}},
    {"gelu", KW__GELU, LARGE, 'y', {0}, {{'x', {1, 1280, 8960}}}},
    {"gelu_mul", KW__GELU_MUL, 0, 'y', {0}, {{'x', {1, 9, 150}}, {'x', {1, 9, 150}}}},
    {"cast to f32", KW__CAST, 0, 'f', {0}, {{'x', {1, 9, 150}}}},
    {"cast", KW__CAST, 0, 'y', {0}, {{'f', {1, 9, 150}}}},
    {"clamp", KW__CLAMP, 0, 'y', {.low = -0.5, .high = 0.25}, {{'x', {1, 3, 2, 5, 7}}}},
    {"modulate", KW__MODULATE, 0, 'y', {.row = 1, .row2 = 0}, {{'f', {2, 3, 21}}, {'f', {2, 2, 21}}}},
    {"modulate, scale of a flat table",
     KW__MODULATE,
     0,
     'y',
     {.row = -1, .row2 = 1},
     {{'f', {2, 3, 21}}, {'f', {2, 1, 63}}}},
    {"modulate of images",
     KW__MODULATE,
     0,
     'y',
     {.row = 1, .row2 = 0},
     {{'x', {2, 6, 2, 3, 5}}, {'f', {2, 2, 6}}}},
    {"modulate of images, shift alone",
     KW__MODULATE,
     0,
     'y',
     {.row = 0, .row2 = -1},
     {{'x', {2, 6, 2, 3, 5}}, {'f', {2, 1, 6}}}},
    {"modulate",
     KW__MODULATE,
     LARGE,
     'y',
     {.row = 1, .row2 = 0},
     {{'f', {1, 1280, 1536}}, {'f', {1, 2, 1536}}}},
    {"gate_add", KW__GATE_ADD, 0, 'f', {.row = 2}, {{'f', {2, 3, 21}}, {'x', {2, 3, 21}}, {'f', {2, 6, 21}}}},
    {"gate_add of a flat table",
     KW__GATE_ADD,
     0,
     'f',
     {.row = 2},
     {{'f', {2, 3, 21}}, {'x', {2, 3, 21}}, {'f', {2, 1, 63}}}},
    {"gate_add",
     KW__GATE_ADD,
     LARGE,
     'f',
     {.row = 2},
     {{'f', {1, 1280, 1536}}, {'x', {1, 1280, 1536}}, {'f', {1, 6, 1536}}}},
    {"adaln_table", KW__ADALN_TABLE, 0, 'f', {0}, {{'g', {1, 6, 10}}, {'x', {2, 1, 60}}}},
    {"adaln_table of one row", KW__ADALN_TABLE, 0, 'f', {0}, {{'g', {1, 2, 10}}, {'x', {2, 1, 10}}}},
    {"rope", KW__ROPE, 0, 'y', {0}, {{'x', {2, 5, 36}}, {'f', {5, 12}}}},
    {"adaln_table of a matrix", KW__ADALN_TABLE, 0, 'f', {0}, {{'g', {6, 10}}, {'x', {2, 1, 60}}}},
    {"add_rows", KW__ADD_ROWS, 0, 'y', {.prefix = 2}, {{'x', {2, 5, 36}}, {'f', {4, 36}}}},
    {"add_rows of a weight", KW__ADD_ROWS, 0, 'y', {0}, {{'x', {2, 5, 36}}, {'w', {1, 9, 36}}}},
    {"rope after a prefix", KW__ROPE, 0, 'y', {.prefix = 2}, {{'x', {2, 5, 36}}, {'f', {3, 12}}}},
    {"rope of each head", KW__ROPE, 0, 'y', {0}, {{'x', {2, 5, 36}}, {'f', {5, 36}}}},
    {"rope", KW__ROPE, LARGE, 'y', {0}, {{'x', {1, 1280, 1536}}, {'f', {1280, 128}}}},
    {"rope_table",
     KW__ROPE_TABLE,
     0,
     'f',
     {.grid = {3, 2, 4}, .axes = {8, 4, 6}, .theta = 1e4},
     {{'-', {0}}}},
    {"rope_table",
     KW__ROPE_TABLE,
     LARGE,
     'f',
     {.grid = {5, 16, 16}, .axes = {44, 42, 42}, .theta = 1e4},
     {{'-', {0}}}},
    {"rope_table by frequency",
     KW__ROPE_TABLE,
     0,
     'f',
     {.grid = {2, 2, 3},
      .axes = {6, 6, 6},
      .prefix = 4,
      .single = true,
      .layout = KW__COS_SIN_BY_FREQUENCY,
      .positions = {places, places, places},
      .frequencies = frequencies},
     {{'-', {0}}}},
    {"rope_table of sines and cosines",
     KW__ROPE_TABLE,
     0,
     'f',
     {.grid = {3, 2, 2}, .axes = {8, 0, 6}, .theta = 1e4, .layout = KW__SINES_COSINES},
     {{'-', {0}}}},
    {"rope_table of sin and cos",
     KW__ROPE_TABLE,
     0,
     'f',
     {.grid = {5, 1, 1}, .axes = {8, 0, 0}, .theta = 1e4, .layout = KW__SIN_COS},
     {{'-', {0}}}},
    {"rope_table, learned",
     KW__ROPE_TABLE,
     0,
     'f',
     {.grid = {2, 2, 3}, .positions = {NULL, places, places}},
     {{'g', {3, 2, 5}}}},
    {"sinusoid", KW__SINUSOID, 0, 'f', {.width = 30}, {{'f', {3}}}},
    {"sinusoid, scaled", KW__SINUSOID, 0, 'f', {.width = 30}, {{'f', {3}}, {'g', {1}}}},
    {"mean_rows", KW__MEAN_ROWS, 0, 'y', {0}, {{'x', {2, 9, 5}}, {'l', {2}}}},
    {"channel_affine", KW__CHANNEL_AFFINE, 0, 'y', {.constants = {shifts, gains}}, {{'f', {2, 3, 2, 4, 5}}}},
    {"channel_affine, inverse",
     KW__CHANNEL_AFFINE,
     0,
     'y',
     {.constants = {shifts, gains}, .inverse = true},
     {{'f', {2, 3, 2, 4, 5}}}},
    {"channel_affine of weights",
     KW__CHANNEL_AFFINE,
     0,
     'y',
     {0},
     {{'f', {2, 3, 2, 4, 5}}, {'g', {3}}, {'g', {3}}}},
    {"lincomb of 1", KW__LINCOMB, 0, 'y', {.column = 1}, {{'f', {1, 3, 2, 4, 5}}}},
    {"lincomb of 6",
     KW__LINCOMB,
     0,
     'f',
     {.column = 0},
     {{'f', {1, 3, 2, 4, 5}},
      {'f', {1, 3, 2, 4, 5}},
      {'x', {1, 3, 2, 4, 5}},
      {'f', {1, 3, 2, 4, 5}},
      {'f', {1, 3, 2, 4, 5}},
      {'f', {1, 3, 2, 4, 5}}}},

    {"embedding", KW__EMBEDDING, 0, 'y', {0}, {{'i', {2, 9}}, {'w', {50, 13}}}},
    {"relative_bias", KW__RELATIVE_BIAS, 0, 'y', {.width = 150, .distance = 128}, {{'w', {32, 3}}}},
    {"relative_bias of 16 buckets",
     KW__RELATIVE_BIAS,
     0,
     'y',
     {.width = 40, .distance = 24},
     {{'w', {16, 2}}}},
    {"pad_rows", KW__PAD_ROWS, 0, 'y', {.width = 12}, {{'x', {2, 9, 5}}, {'l', {2}}}},
    {"pad_rows to fewer", KW__PAD_ROWS, 0, 'f', {.width = 8}, {{'x', {2, 9, 5}}, {'l', {2}}}},
    {"to_tokens", KW__TO_TOKENS, 0, 'y', {0}, {{'x', {2, 5, 2, 3, 4}}}},
    {"to_tokens, cast", KW__TO_TOKENS, 0, 'f', {0}, {{'x', {2, 5, 2, 3, 4}}}},
    {"unpatchify", KW__UNPATCHIFY, 0, 'y', {.grid = {2, 3, 4}, .patch = {1, 2, 2}}, {{'x', {2, 24, 20}}}},
    {"unpatchify of frames",
     KW__UNPATCHIFY,
     0,
     'y',
     {.grid = {2, 3, 2}, .patch = {2, 1, 3}},
     {{'x', {1, 12, 18}}}},
    {"split_frames", KW__SPLIT_FRAMES, 0, 'y', {.parts = 3}, {{'x', {2, 15, 2, 3, 4}}}},
    {"split_frames of one part", KW__SPLIT_FRAMES, 0, 'y', {.parts = 1}, {{'x', {2, 5, 2, 3, 4}}}},
    {"to_tracks", KW__TO_TRACKS, 0, 'y', {0}, {{'x', {2, 5, 2, 3, 4}}}},
    {"join_tracks", KW__JOIN_TRACKS, 0, 'y', {.grid = {2, 3, 4}}, {{'x', {24, 2, 5}}}},
    {"resize", KW__RESIZE, 0, 'y', {.grid = {5, 9, 4}}, {{'x', {2, 5, 3, 4, 4}}}},
    {"resize, the first frame alone",
     KW__RESIZE,
     0,
     'y',
     {.grid = {5, 6, 8}, .first_alone = true},
     {{'x', {1, 5, 3, 3, 4}}}},
    {"depth_to_space", KW__DEPTH_TO_SPACE, 0, 'y', {.patch = {3, 2, 1}}, {{'x', {2, 30, 2, 3, 4}}}},
    {"depth_to_space, transposed",
     KW__DEPTH_TO_SPACE,
     0,
     'y',
     {.patch = {1, 2, 3}, .transposed = true},
     {{'x', {1, 30, 2, 3, 4}}}},
    {"concat of rows",
     KW__CONCAT,
     0,
     'y',
     {.axis = 1},
     {{'x', {2, 5, 36}}, {'f', {2, 3, 36}}, {'x', {2, 1, 36}}}},
    {"concat of channels", KW__CONCAT, 0, 'y', {.axis = 1}, {{'x', {2, 5, 2, 3, 4}}, {'x', {2, 6, 2, 3, 4}}}},
    {"concat of a batch", KW__CONCAT, 0, 'y', {.axis = 0}, {{'x', {2, 5, 2, 3, 4}}, {'x', {1, 5, 2, 3, 4}}}},
    {"concat of frames", KW__CONCAT, 0, 'y', {.axis = 2}, {{'x', {2, 5, 2, 3, 4}}, {'x', {2, 5, 1, 3, 4}}}},
    {"slice of rows", KW__SLICE, 0, 'y', {.axis = 1, .start = 2, .width = 3}, {{'x', {2, 6, 7}}}},
    {"slice of columns", KW__SLICE, 0, 'y', {.axis = 2, .start = 2, .width = 3}, {{'x', {2, 6, 7}}}},
    {"slice of channels", KW__SLICE, 0, 'y', {.axis = 1, .start = 2, .width = 3}, {{'x', {2, 6, 2, 3, 4}}}},
    {"slice of frames", KW__SLICE, 0, 'y', {.axis = 2, .start = 1, .width = 2}, {{'x', {2, 6, 3, 3, 4}}}},
    {"slice of lines", KW__SLICE, 0, 'y', {.axis = 3, .start = 1, .width = 2}, {{'x', {2, 6, 2, 3, 4}}}},
    {"slice of a batch", KW__SLICE, 0, 'y', {.axis = 0, .start = 1, .width = 1}, {{'x', {2, 6, 2, 3, 4}}}},
    {"repeat", KW__REPEAT, 0, 'y', {.width = 3}, {{'x', {2, 6, 7}}}},
    {"join_frames", KW__JOIN_FRAMES, 0, 'y', {.grid = {2, 3, 4}}, {{'x', {4, 12, 5}}}},
    {"upsample", KW__UPSAMPLE, 0, 'y', {0}, {{'x', {1, 5, 2, 3, 4}}}},
    {"interleave_time", KW__INTERLEAVE_TIME, 0, 'y', {0}, {{'x', {2, 6, 2, 3, 4}}}},
    {"interleave_time", KW__INTERLEAVE_TIME, LARGE, 'y', {0}, {{'x', {1, 768, 2, 64, 64}}}},
    {"take_frame", KW__TAKE_FRAME, 0, 'y', {.column = 0}, {{'x', {2, 3, 5, 2, 4}}}},
    {"put_frames", KW__PUT_FRAMES, 0, 'y', {.column = 0}, {{'x', {2, 3, 5, 2, 4}}, {'x', {2, 3, 2, 2, 4}}}},
    {"take_block", KW__TAKE_BLOCK, 0, 'y', {.column = 6, .grid = {2, 1, 3}}, {{'x', {2, 3, 5, 2, 4}}}},
    {"put_block", KW__PUT_BLOCK, 0, 'y', {.column = 6}, {{'x', {2, 3, 5, 2, 4}}, {'x', {2, 3, 2, 1, 3}}}},
    {"blend_tiles",
     KW__BLEND_TILES,
     0,
     'y',
     {.grid = {0, 11, 13}, .tile = {6, 7}, .tile_step = {4, 4}, .blend = {2, 3}},
     {{'x', {1, 2, 2, 15, 22}}}},
    {"to_host", KW__TO_HOST, 0, 'y', {0}, {{'x', {1, 3, 5, 2, 4}}}},
    {"host_frames", KW__HOST_FRAMES, 0, 'f', {0}, {{'x', {2, 3, 5, 2, 4}}}},
};
const size_t num_op_cases = sizeof op_cases / sizeof op_cases[0];

/* ---- The program ----------------------------------------------------------------------------------- */

static int num_dims(const struct op_operand *operand)
{
    int n = 0;
    while (n < KW__MAX_DIMS && operand->dim[n]) n++;
    return n;
}

static int add_operand(struct kw__graph *g, const struct op_operand *operand, int i, enum kw__dtype dtype)
{
    static const char *const names[KW__MAX_INPUTS] = {"in0", "in1", "in2", "in3", "in4", "in5"};
    static const char *const gammas[KW__MAX_INPUTS] = {"w0", "w1", "w2.bias", "w3", "w4", "w5"};
    int n = num_dims(operand);
    switch (operand->kind) {
    case 'x': return kw__input(g, names[i], dtype, KW__PASS, n, operand->dim);
    case 'f': return kw__input(g, names[i], KW__F32, KW__PASS, n, operand->dim);
    case 'i':
    case 'l': return kw__input(g, names[i], KW__I32, KW__PASS, n, operand->dim);
    case 's': return kw__state(g, names[i], dtype, KW__STEP, n, operand->dim);
    case 'w': return kw__weight(g, gammas[i], dtype, n, operand->dim);
    case 'g': return kw__weight(g, gammas[i], KW__F32, n, operand->dim);
    case 'F': {
        struct kw__value value = g->values[kw__weight(g, gammas[i], dtype, n, operand->dim)];
        const int64_t *d = operand->dim, dim[] = {4, d[0], d[1], 2, 2};
        value.name = "folded";
        value.recipe = KW__RECIPE_FOLD_UPSAMPLE;
        memcpy(value.dim, dim, sizeof dim);
        return kw__value_add(g, value);
    }
    default: return 0;
    }
}

struct kw__program *op_program(const struct op_case *c, enum kw__dtype dtype)
{
    static const char *const columns[] = {"c0", "c1", "c2", "c3", "c4", "c5", "t", "h", "w"};
    static const double row[] = {2, -0.5, 0.75, 0, 1.5, -3, 3, 1, 1};
    const kw_effective request = {0};
    const struct kw__dtypes dtypes = {.text_encoder = dtype, .denoiser = dtype, .vae = dtype};
    struct kw__program *program = kw__program_new(&request, &dtypes);
    if (!program) return NULL;
    struct kw__stage *stage = kw__program_stage(program, "run");
    struct kw__graph *g = kw__stage_phase(program, stage, "one", 1);
    stage->phases[0].table = (struct kw__iterations){9, columns, row};
    g->component = g->tensors = "test";
    int inputs[KW__MAX_INPUTS], count = kw__op_info(c->code)->most_inputs;
    for (int i = 0; i < count; i++) inputs[i] = add_operand(g, &c->in[i], i, dtype);
    while (count > kw__op_info(c->code)->least_inputs && !inputs[count - 1]) count--;
    int y = kw__op(g, c->code, &c->attr, c->out == 'y' ? dtype : KW__F32, count, inputs);
    for (int i = 0; i < count; i++) /* a causal convolution's cache */
        if (c->in[i].kind == 's') kw__state_next(g, inputs[i], kw__output(g, y, 1));
    return program;
}

/* ---- Correctness ----------------------------------------------------------------------------------- */

static float to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Element i of an operand: smooth, without symmetry, and one that its dtype can hold. */
static double element(const struct op_operand *operand, const struct kw__value *value, int64_t i, int which)
{
    if (operand->kind == 'i') return (double)((7 * i + 3) % 50);
    if (operand->kind == 'l') return (double)(i == 0 ? value->dim[0] + 5 : 3);
    double x = sin(1.7 * (double)i + which) + 0.3 * sin(0.13 * (double)i) + 0.1 * which;
    return value->dtype == KW__BF16 ? to_bf16((float)x) : (float)x;
}

/* The weights of the random law, rounded to the dtype that the case tests. */
static bool rounded_weights(void *user, const struct kw__tensor *tensor, double *out)
{
    uint64_t seed = 1;
    const struct kw__program *program = user;
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    int64_t n = 1;
    for (int i = 0; i < tensor->ndim; i++) n *= tensor->dim[i];
    interp_random_weights(&seed, tensor, out);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__WEIGHT && &program->tensors[g->values[v].tensor[0]] == tensor &&
            g->values[v].dtype == KW__BF16 && g->values[v].recipe == KW__RECIPE_PLAIN)
            for (int64_t i = 0; i < n; i++) out[i] = to_bf16((float)out[i]);
    return true;
}

struct keeping {
    const struct kw__backend *backend;
    float *y[KW__MAX_OUTPUTS];
    size_t count[KW__MAX_OUTPUTS];
};

static bool keep_outputs(void *user, struct kw__plan *plan, size_t i)
{
    struct keeping *k = user;
    const struct kw__op *op = &plan->phase->graph->ops[i];
    for (int o = 0; o < op->num_outputs; o++) {
        k->count[o] = (size_t)kw__elements(&plan->phase->graph->values[op->output[o]]);
        if (!k->count[o]) continue;
        k->y[o] = malloc(k->count[o] * sizeof(float));
        if (!k->y[o]) return false;
        k->backend->read(plan, op->output[o], k->y[o], k->count[o]);
    }
    return true;
}

/* Opens the program on the backend, with weights and operands in place. NULL: reason says why. */
static struct kw__run *open_case(const struct op_case *c, const struct kw__backend *backend,
                                 const struct kw__run_options *options, const struct kw__program *program,
                                 struct interp *it, char reason[256])
{
    struct kw__run *run = NULL;
    struct kw__weights weights;
    kw_error err;
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    kw_status status = kw__run_open(backend, options, program, &run, &err);
    if (!status) status = kw__weights_open("random:1", program, &weights, &err);
    if (!status) {
        status = kw__run_prepare(run, "run", &weights, &err);
        kw__weights_close(&weights);
    }
    for (size_t v = 1; v < g->num_values && !status; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT && value->kind != KW__STATE) continue;
        int which = value->name[2] - '0';
        size_t count = (size_t)kw__elements(value);
        float *x = malloc(count * sizeof *x);
        double *wide = malloc(count * sizeof *wide);
        for (size_t i = 0; x && wide && i < count; i++) {
            wide[i] = element(&c->in[which], value, (int64_t)i, which);
            x[i] = (float)wide[i];
        }
        if (it) interp_set(it, value->name, wide, count);
        status = kw__run_write(run, value->name, x, count, &err);
        free(x);
        free(wide);
    }
    if (!status) return run;
    snprintf(reason, 256, "%.255s", err.message);
    kw__run_close(run);
    return NULL;
}

double op_error(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype,
                char reason[256])
{
    struct keeping k = {.backend = backend};
    struct kw__run_options options = {.user = &k, .after = keep_outputs};
    struct kw__program *program = op_program(c, dtype);
    struct interp *it = interp_new(program, rounded_weights, program);
    struct kw__run *run = open_case(c, backend, &options, program, it, reason);
    double worst = run ? 0 : -1;
    kw_error err;
    if (run && kw__run_stage(run, "run", &err)) {
        snprintf(reason, 256, "%.255s", err.message);
        worst = -1;
    }
    if (worst == 0 && !interp_run(it, "run")) {
        snprintf(reason, 256, "%.255s", interp_error(it));
        worst = -1;
    }
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    for (int o = 0; worst >= 0 && o < g->ops[0].num_outputs; o++) {
        if (!k.count[o]) continue;
        struct interp_array wanted = interp_get(it, g->values[g->ops[0].output[o]].name);
        double *got = malloc(k.count[o] * sizeof *got);
        for (size_t i = 0; got && i < k.count[o]; i++) got[i] = k.y[o][i];
        double error = got ? interp_relative_error(got, wanted.data, k.count[o]) : NAN;
        if (!(error <= worst)) worst = error;
        free(got);
    }
    for (int o = 0; o < KW__MAX_OUTPUTS; o++) free(k.y[o]);
    kw__run_close(run);
    interp_free(it);
    kw__program_free(program);
    return worst;
}

/* ---- Speed ----------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool op_time(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype, double seconds,
             struct op_speed *out, char reason[256])
{
    enum { MOST = 400 };
    double times[MOST], begin = 0;
    int n = 0;
    kw_error err;
    struct kw__program *program = op_program(c, dtype);
    struct kw__run *run = open_case(c, backend, NULL, program, NULL, reason);
    bool good = run != NULL;
    if (good && (kw__run_stage(run, "run", &err))) {
        snprintf(reason, 256, "%.255s", err.message);
        good = false;
    }
    struct kw__plan *plan = good ? kw__run_plan(run, 0, 0) : NULL;
    for (begin = kw__monotonic_s(); good && n < MOST && (n < 3 || kw__monotonic_s() < begin + seconds); n++) {
        double t = kw__monotonic_s();
        good = !backend->run(plan, 0, NULL, NULL, &err);
        times[n] = kw__monotonic_s() - t;
    }
    if (good) {
        const struct kw__graph *g = program->stages[0].phases[0].graph;
        qsort(times, (size_t)n, sizeof *times, ascending);
        *out = (struct op_speed){times[n / 10], kw__op_flop(g, &g->ops[0]), 0};
        for (int i = 0; i < g->ops[0].num_inputs; i++)
            if (g->ops[0].input[i]) out->bytes += kw__value_bytes(&g->values[g->ops[0].input[i]]);
        for (int i = 0; i < g->ops[0].num_outputs; i++)
            out->bytes += kw__value_bytes(&g->values[g->ops[0].output[i]]);
    }
    kw__run_close(run);
    kw__program_free(program);
    return good;
}
