/* The decoder half of AutoencoderKLMochi (diffusers), the causal video VAE of Mochi 1.
 *
 * All latent frames are decoded at once. Convolutions are causal and see the outermost frames and pixels
 * again beyond the edges; norms are of each frame alone; what is made larger is so by a matrix product to
 * more channels, which then become frames, rows and columns. As each latent frame gives six frames, the five
 * before the first one's last are dropped. On request frames are cut into tiles of 256 x 256 pixels, 192
 * apart, which are decoded one by one and blended. Tensors are [B, C, T, H, W].
 *
 * Verified parameter count of the whole class: 459,748,611. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

enum { LEVELS = KW__MOCHI_VAE_LEVELS, GROUPS = 32, TILE = 256, TILE_STEP = 192 };
static const double norm_eps = 1e-5; /* torch.nn.GroupNorm's */

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status read_dims(struct kw__json in, struct kw__mochi_vae *vae, kw_error *err)
{
    double scaling = 1;
    kw_status status;
    (void)((status = kw__json_int(in, "latent_channels", 1, KW__MOCHI_VAE_MAX_Z, &vae->z_dim, err)) ||
           (status = kw__json_ints(in, "decoder_block_out_channels", LEVELS, GROUPS, 1 << 14, vae->channels,
                                   err)) ||
           (status = kw__json_ints(in, "layers_per_block", LEVELS + 1, 1, 64, vae->layers, err)) ||
           (status = kw__json_ints(in, "temporal_expansions", LEVELS - 1, 1, 16, vae->time, err)) ||
           (status = kw__json_ints(in, "spatial_expansions", LEVELS - 1, 1, 16, vae->space, err)) ||
           (status = kw__json_numbers(in, "latents_mean", (size_t)vae->z_dim, vae->mean, err)) ||
           (status = kw__json_numbers(in, "latents_std", (size_t)vae->z_dim, vae->std, err)) ||
           (status = kw__json_number(in, "scaling_factor", 1e-6, 1e6, &scaling, err)));
    if (status) return status;
    vae->space_factor = vae->time_factor = 1;
    for (int i = 0; i < LEVELS - 1; i++) {
        vae->space_factor *= vae->space[i];
        vae->time_factor *= vae->time[i];
    }
    for (int i = 0; i < LEVELS; i++) {
        if (vae->channels[i] % GROUPS)
            return kw__fail(
                err, KW_ERROR_FORMAT,
                "%s: \"decoder_block_out_channels\" must be multiples of %d, the groups of its norms",
                in.path, GROUPS);
        if (vae->channels[i] > vae->widest) vae->widest = vae->channels[i];
    }
    for (int64_t i = 0; i < vae->z_dim; i++) {
        if (!(vae->std[i] > 0))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"latents_std\" must be positive", in.path);
        vae->std[i] /= scaling;
    }
    return KW_OK;
}

static kw_status check_variant(struct kw__json in, kw_error *err)
{
    int64_t out = 0;
    const char *activation = NULL;
    kw_status status;
    (void)((status = kw__json_int(in, "out_channels", 1, 1 << 10, &out, err)) ||
           (status = kw__json_string(in, "act_fn", &activation, err)));
    if (!status && out != 3)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: \"out_channels\" must be 3", in.path);
    if (!status && strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: act_fn \"%s\" is not known; silu is", in.path,
                          activation);
    return status;
}

kw_status kw__mochi_vae_read(kw_model *model, struct kw__mochi_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "vae", "config.json", "AutoencoderKLMochi", &root, &in, err);
    if (status) return status;
    struct kw__mochi_vae vae = {0};
    status = read_dims(in, &vae, err);
    if (!status) status = check_variant(in, err);
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

/* ---- The decoder ------------------------------------------------------------------------------- */

struct vae_builder {
    struct kw__graph *g;
    const struct kw__mochi_vae *config;
    enum kw__dtype dtype;
};

/* Group norm of each frame, SiLU, causal 3x3x3 convolution, each `which` (1 or 2) of a residual block. */
static int norm_silu_conv(const struct vae_builder *b, int x, const char *name, int which)
{
    if (!x || !name) return 0;
    struct kw__graph *g = b->g;
    int64_t c = g->values[x].dim[1];
    struct kw__attr norm = {.groups = GROUPS, .per_frame = true, .eps = norm_eps};
    struct kw__attr causal = {.stride = {1, 1, 1},
                              .pad = {1, 1},
                              .pad_time = {2, 0},
                              .replicate_time = true,
                              .replicate_space = true};
    const char *norm_name = kw__arena_printf(&g->program->arena, "%s.norm%d.norm_layer", name, which);
    const char *conv_name = kw__arena_printf(&g->program->arena, "%s.conv%d.conv", name, which);
    if (!norm_name || !conv_name) return 0;
    int gamma = kw__parameter(b->g, b->dtype, norm_name, ".weight", KW__DIMS(c));
    int beta = kw__parameter(b->g, b->dtype, norm_name, ".bias", KW__DIMS(c));
    x = KW__OP(g, KW__GROUPNORM, &norm, b->dtype, x, gamma, beta);
    x = KW__OP(g, KW__SILU, NULL, b->dtype, x);
    int w = kw__parameter(b->g, b->dtype, conv_name, ".weight", KW__DIMS(c, c, 3, 3, 3));
    int bias = kw__parameter(b->g, b->dtype, conv_name, ".bias", KW__DIMS(c));
    return KW__OP(g, KW__CONV, &causal, b->dtype, x, w, bias);
}

static int resnets(const struct vae_builder *b, int x, const char *name, int64_t count)
{
    for (int64_t i = 0; name && i < count; i++) {
        const char *each = kw__arena_printf(&b->g->program->arena, "%s.resnets.%" PRId64, name, i);
        int y = norm_silu_conv(b, x, each, 1);
        y = norm_silu_conv(b, y, each, 2);
        x = KW__OP(b->g, KW__ADD, NULL, b->dtype, y, x);
    }
    return x;
}

/* A matrix product over the channels of each cell. */
static int project(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    if (!x || !name) return 0;
    struct kw__attr back = {.patch = {1, 1, 1}};
    memcpy(back.grid, &b->g->values[x].dim[2], sizeof back.grid);
    x = KW__OP(b->g, KW__TO_TOKENS, NULL, b->dtype, x);
    x = kw__linear(b->g, x, name, out, true, b->dtype, b->dtype);
    return KW__OP(b->g, KW__UNPATCHIFY, &back, b->dtype, x);
}

/* z[B,z,T,h,w] -> frames [B,3,6(T-1)+1,8h,8w] */
static int decode(const struct vae_builder *b, int x)
{
    const struct kw__mochi_vae *c = b->config;
    struct kw__graph *g = b->g;
    struct kw__attr point = {.stride = {1, 1, 1}};
    int64_t top = c->channels[LEVELS - 1];
    int w = kw__parameter(b->g, b->dtype, "decoder.conv_in", ".weight", KW__DIMS(top, c->z_dim, 1, 1, 1));
    int bias = kw__parameter(b->g, b->dtype, "decoder.conv_in", ".bias", KW__DIMS(top));
    x = KW__OP(g, KW__CONV, &point, b->dtype, x, w, bias);
    x = resnets(b, x, "decoder.block_in", c->layers[LEVELS]);
    for (int i = 0; i < LEVELS - 1; i++) {
        const char *name = kw__arena_printf(&g->program->arena, "decoder.up_blocks.%d", i);
        const char *proj = kw__arena_printf(&g->program->arena, "decoder.up_blocks.%d.proj", i);
        int64_t time = c->time[LEVELS - 2 - i], space = c->space[LEVELS - 2 - i];
        struct kw__attr larger = {.patch = {time, space, space}};
        x = resnets(b, x, name, c->layers[LEVELS - 1 - i]);
        x = project(b, x, proj, c->channels[LEVELS - 2 - i] * time * space * space);
        x = KW__OP(g, KW__DEPTH_TO_SPACE, &larger, b->dtype, x);
    }
    x = resnets(b, x, "decoder.block_out", c->layers[0]);
    x = KW__OP(g, KW__SILU, NULL, b->dtype, x);
    x = project(b, x, "decoder.proj_out", 3);
    struct kw__attr later = {.axis = 2, .start = c->time_factor - 1, .width = g->program->request.num_frames};
    return KW__OP(g, KW__SLICE, &later, b->dtype, x);
}

/* ---- The stage -------------------------------------------------------------------------------------- */

static int decode_tile(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    (void)variant;
    (void)shape; /* there is no state */
    const struct vae_builder b = {g, self, g->program->dtypes.vae};
    return decode(&b, z);
}

/* As AutoencoderKLMochi.decode: one tile is all when that is no larger than a tile. */
static struct kw__tiling tiling(const struct kw__mochi_vae *c, const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    int64_t tile = TILE / c->space_factor, step = TILE_STEP / c->space_factor;
    bool tiled = kw__choose(program->dtypes.tiled_decode, false) &&
                 (r->latent_height > tile || r->latent_width > tile);
    struct kw__tiling t = {.latent = {r->latent_height, r->latent_width},
                           .tile = {tile, tile},
                           .step = {step, step},
                           .scale = c->space_factor,
                           .blend = {TILE - TILE_STEP, TILE - TILE_STEP},
                           .z_channels = c->z_dim,
                           .z_frames = r->latent_frames,
                           .out_channels = 3,
                           .out_frames = r->num_frames,
                           .self = c,
                           .decode = decode_tile};
    for (int axis = 0; !tiled && axis < 2; axis++) t.tile[axis] = t.step[axis] = t.latent[axis];
    return t;
}

void kw__mochi_vae_lower(const struct kw__mochi_vae *config, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.vae;
    const struct kw__tiling tiles = tiling(config, program);
    const struct kw__chunk all = {.frames = r->latent_frames, .name = "all frames"};
    struct kw__stage *stage = kw__program_stage(program, "decode");

    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "vae_decoder";
    g->tensors = "vae";
    const int64_t dim[] = {r->batch_size, config->z_dim, r->latent_frames, r->latent_height, r->latent_width};
    struct kw__attr affine = {.constants = {kw__constants(program, config->mean, config->z_dim),
                                            kw__constants(program, config->std, config->z_dim)}};
    int latents = kw__state(g, "latents", KW__F32, KW__REQUEST, 5, dim);
    int z = kw__state(g, "z", dtype, KW__REQUEST, 5, dim);
    kw__state_next(g, z, KW__OP(g, KW__CHANNEL_AFFINE, &affine, dtype, latents));

    kw__tiles_lower(program, stage, &tiles, 1, &all);

    g = kw__tiles_output(program, stage);
    if (!g) return;
    kw__hand_over_frames(g, kw__tiles_joined(g, &tiles));
}
