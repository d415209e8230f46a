/* The decoder half of AutoencoderKLLTXVideo (diffusers), the video VAE of LTX-Video from 0.9.5 on, and
 * LTXLatentUpsamplerModel, which doubles the width and height of its latents.
 *
 * All latent frames are decoded at once, by convolutions that see the first and last frame again beyond the
 * ends and zeros beyond the edges. The decoder removes noise too: a little is mixed into the latents, and
 * each block is told how much. A cell becomes 2 x 2 x 2 by a convolution to as many more channels, its input
 * spread the same way added; the first frame of the two that frame 0 becomes is dropped. On request frames
 * are cut into tiles of 512 x 512 pixels, 448 apart. Tensors are [B, C, T, H, W].
 *
 * Verified parameter counts: the VAE, its encoder included, 1,246,913,522; the upscaler 126,250,624. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "model/family.h"

enum { LEVELS = KW__LTX_VAE_LEVELS, PATCH = 4, TIME_WIDTH = 256, GROUPS = 32 };
enum { SPACE_FACTOR = PATCH << LEVELS, TIME_FACTOR = 1 << LEVELS, TILE = 512, TILE_STEP = 448 };
static const double norm_eps = 1e-8, group_eps = 1e-5;
/* of LTXConditionPipeline.__call__ as diffusers' documentation of LTX-Video calls it */
static const double decode_timestep = 0.05;

/* ---- Reading --------------------------------------------------------------------------------- */

/* Of the decoder and the pipelines around it. */
static const struct kw__only decoder_only[] = {{"decoder_inject_noise", "[false, false, false, false]"},
                                               {"decoder_spatio_temporal_scaling", "[true, true, true]"},
                                               {"upsample_residual", "[true, true, true]"},
                                               {"upsample_factor", "[2, 2, 2]"},
                                               {"decoder_causal", "false"},
                                               {"timestep_conditioning", "true"},
                                               {"out_channels", "3"},
                                               {"patch_size", "4"},
                                               {"patch_size_t", "1"},
                                               {"spatial_compression_ratio", "32"},
                                               {"temporal_compression_ratio", "8"}};

static kw_status read_dims(struct kw__json in, struct kw__ltx_vae *vae, kw_error *err)
{
    kw_status status;
    (void)((status = kw__json_int(in, "latent_channels", 1, KW__LTX_VAE_MAX_Z, &vae->z_dim, err)) ||
           (status =
                kw__json_ints(in, "decoder_block_out_channels", LEVELS, 8, 1 << 14, vae->channels, err)) ||
           (status = kw__json_ints(in, "decoder_layers_per_block", LEVELS + 1, 1, 64, vae->layers, err)) ||
           (status = kw__json_number(in, "scaling_factor", 1, 1, &vae->scaling_factor, err)));
    for (int i = 1; !status && i < LEVELS; i++)
        if (vae->channels[i] != 2 * vae->channels[i - 1])
            status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                              "%s: \"decoder_block_out_channels\" must double from one to the next", in.path);
    if (!status && vae->channels[0] % 8)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"decoder_block_out_channels\" must be multiples of 8",
                          in.path);
    vae->widest = vae->channels[LEVELS - 1];
    return status;
}

kw_status kw__ltx_vae_read(kw_model *model, struct kw__ltx_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "vae", "config.json", "AutoencoderKLLTXVideo", &root, &in, err);
    if (status) return status;
    struct kw__ltx_vae vae = {0};
    status = read_dims(in, &vae, err);
    if (!status) status = kw__check_only(in, sizeof decoder_only / sizeof decoder_only[0], decoder_only, err);
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

static const struct kw__only upscaler_only[] = {
    {"dims", "3"}, {"spatial_upsample", "true"}, {"temporal_upsample", "false"}};

kw_status kw__ltx_upscaler_read(kw_model *model, struct kw__ltx_upscaler *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    const char *path = kw__arena_printf(&model->arena, "%s/latent_upsampler/config.json", model->folder);
    if (!path) return kw__fail_memory(err);
    if (access(path, F_OK) != 0)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "cannot read %s: copy the folder latent_upsampler of the spatial upscaler "
                        "(Lightricks/ltxv-spatial-upscaler-0.9.7) into the model's",
                        path);
    kw_status status = kw__component_load(model, "latent_upsampler", "config.json", "LTXLatentUpsamplerModel",
                                          &root, &in, err);
    if (status) return status;
    struct kw__ltx_upscaler u = {0};
    (void)((status = kw__json_int(in, "in_channels", 1, KW__LTX_VAE_MAX_Z, &u.channels, err)) ||
           (status = kw__json_int(in, "mid_channels", GROUPS, 1 << 14, &u.width, err)) ||
           (status = kw__json_int(in, "num_blocks_per_stage", 1, 64, &u.blocks, err)));
    if (!status)
        status = kw__check_only(in, sizeof upscaler_only / sizeof upscaler_only[0], upscaler_only, err);
    if (!status && u.width % GROUPS)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"mid_channels\" must be a multiple of %d, the groups of its norms", in.path,
                          GROUPS);
    if (!status) *out = u;
    json_decref(root);
    return status;
}

/* ---- What both are made of ---------------------------------------------------------------------------- */

struct vae_builder {
    struct kw__graph *g;
    const struct kw__ltx_vae *config;
    enum kw__dtype dtype;
    int timestep; /* [B] */
};

/* A 3x3x3 convolution; beyond the ends are zeros, or the first and the last frame again. */
static int conv(const struct vae_builder *b, int x, const char *name, int64_t out, bool again)
{
    if (!x || !name) return 0;
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {1, 1}, .pad_time = {1, 1}, .replicate_time = again};
    int w = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, b->g->values[x].dim[1], 3, 3, 3));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

/* (x - mean) / std or back, with the VAE's statistics. */
static int affine(const struct vae_builder *b, int x, enum kw__dtype dtype, bool inverse)
{
    struct kw__attr attr = {.inverse = inverse};
    b->g->tensors = "vae";
    int mean = kw__parameter(b->g, b->dtype, "latents_mean", "", KW__DIMS(b->config->z_dim));
    int std = kw__parameter(b->g, b->dtype, "latents_std", "", KW__DIMS(b->config->z_dim));
    return KW__OP(b->g, KW__CHANNEL_AFFINE, &attr, dtype, x, mean, std);
}

/* ---- The upscaler -------------------------------------------------------------------------------------- */

static int group_norm(const struct vae_builder *b, int x, const char *name)
{
    if (!x || !name) return 0;
    struct kw__attr attr = {.groups = GROUPS, .eps = group_eps};
    int64_t c = b->g->values[x].dim[1];
    int gamma = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(c)),
        beta = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(c));
    return KW__OP(b->g, KW__GROUPNORM, &attr, b->dtype, x, gamma, beta);
}

static int upscaler_blocks(const struct vae_builder *b, int x, const char *list,
                           const struct kw__ltx_upscaler *u)
{
    struct kw__arena *arena = &b->g->program->arena;
    for (int64_t i = 0; i < u->blocks; i++) {
        int y = x;
        for (int k = 1; k <= 2; k++) {
            y = conv(b, y, kw__arena_printf(arena, "%s.%" PRId64 ".conv%d", list, i, k), u->width, false);
            y = group_norm(b, y, kw__arena_printf(arena, "%s.%" PRId64 ".norm%d", list, i, k));
            if (k == 2) y = KW__OP(b->g, KW__ADD, NULL, b->dtype, y, x);
            y = KW__OP(b->g, KW__SILU, NULL, b->dtype, y);
        }
        x = y;
    }
    return x;
}

int kw__ltx_upscale(const struct kw__ltx_upscaler *u, const struct kw__ltx_vae *vae, struct kw__graph *g,
                    int x)
{
    const struct vae_builder builder = {g, vae, g->program->dtypes.vae, 0}, *b = &builder;
    g->component = "upscaler";
    x = affine(b, x, KW__F32, false);
    if (b->dtype != KW__F32) x = KW__OP(g, KW__CAST, NULL, b->dtype, x);
    g->tensors = "latent_upsampler";
    x = conv(b, x, "initial_conv", u->width, false);
    x = KW__OP(g, KW__SILU, NULL, b->dtype, group_norm(b, x, "initial_norm"));
    x = upscaler_blocks(b, x, "res_blocks", u);
    struct kw__attr frame = {.stride = {1, 1, 1}, .pad = {1, 1}}, shuffle = {.patch = {1, 2, 2}};
    int w = kw__parameter(b->g, b->dtype, "upsampler.0", ".weight", KW__DIMS(4 * u->width, u->width, 3, 3));
    int bias = kw__parameter(b->g, b->dtype, "upsampler.0", ".bias", KW__DIMS(4 * u->width));
    x = KW__OP(g, KW__CONV, &frame, b->dtype, x, w, bias);
    x = KW__OP(g, KW__DEPTH_TO_SPACE, &shuffle, b->dtype, x);
    x = upscaler_blocks(b, x, "post_upsample_res_blocks", u);
    x = conv(b, x, "final_conv", u->channels, false);
    return affine(b, x, b->dtype, true);
}

/* ---- The decoder ------------------------------------------------------------------------------- */

static int linear(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    return kw__linear(b->g, x, name, out, true, b->dtype, b->dtype);
}

/* [B, 1, out] of 1000 times the timestep; the factor is a tensor of the checkpoint. */
static int time_embedding(const struct vae_builder *b, const char *name, int64_t out)
{
    struct kw__graph *g = b->g;
    struct kw__attr width = {.width = TIME_WIDTH};
    const int64_t none[1] = {1};
    int scale = kw__parameter(b->g, b->dtype, "decoder.timestep_scale_multiplier", "", 0, none);
    int x = KW__OP(g, KW__SINUSOID, &width, KW__F32, b->timestep, scale);
    if (b->dtype != KW__F32) x = KW__OP(g, KW__CAST, NULL, b->dtype, x);
    x = linear(b, x, kw__join(b->g, name, ".time_embedder.timestep_embedder.linear_1"), out);
    x = KW__OP(g, KW__SILU, NULL, b->dtype, x);
    return linear(b, x, kw__join(b->g, name, ".time_embedder.timestep_embedder.linear_2"), out);
}

/* RMS norm over the channels, modulated by two rows of the table, SiLU. */
static int norm_silu(const struct vae_builder *b, int x, int table, int shift)
{
    struct kw__attr norm = {.eps = norm_eps}, rows = {.row = shift, .row2 = shift + 1};
    x = KW__OP(b->g, KW__CHANNEL_RMSNORM, &norm, b->dtype, x);
    x = KW__OP(b->g, KW__MODULATE, &rows, b->dtype, x, table);
    return KW__OP(b->g, KW__SILU, NULL, b->dtype, x);
}

/* Residual blocks; each has a table of its own, which the block's embedding is added to. */
static int resnets(const struct vae_builder *b, int x, const char *name, int64_t count, int temb)
{
    if (!x || !name) return 0;
    struct kw__graph *g = b->g;
    int64_t c = g->values[x].dim[1];
    for (int64_t i = 0; i < count; i++) {
        const char *each = kw__arena_printf(&g->program->arena, "%s.resnets.%" PRId64, name, i);
        int table = kw__parameter(b->g, b->dtype, each, ".scale_shift_table", KW__DIMS(4, c));
        table = KW__OP(g, KW__ADALN_TABLE, NULL, b->dtype, table, temb);
        int y = conv(b, norm_silu(b, x, table, 0), kw__join(b->g, each, ".conv1.conv"), c, true);
        y = conv(b, norm_silu(b, y, table, 2), kw__join(b->g, each, ".conv2.conv"), c, true);
        x = KW__OP(g, KW__ADD, NULL, b->dtype, y, x);
    }
    return x;
}

/* [B,2C,T,H,W] -> [B,C,2T-1,2H,2W] */
static int upsample(const struct vae_builder *b, int x, const char *name)
{
    if (!x || !name) return 0;
    struct kw__graph *g = b->g;
    int64_t c = g->values[x].dim[1], frames = 2 * g->values[x].dim[2] - 1;
    struct kw__attr spread = {.patch = {2, 2, 2}}, channels = {.axis = 1};
    struct kw__attr later = {.axis = 2, .start = 1, .width = frames};
    int part = KW__OP(g, KW__DEPTH_TO_SPACE, &spread, b->dtype, x);
    int again = KW__OP(g, KW__CONCAT, &channels, b->dtype, part, part, part, part);
    again = KW__OP(g, KW__SLICE, &later, b->dtype, again);
    x = conv(b, x, kw__join(b->g, name, ".upsamplers.0.conv.conv"), 4 * c, true);
    x = KW__OP(g, KW__DEPTH_TO_SPACE, &spread, b->dtype, x);
    x = KW__OP(g, KW__SLICE, &later, b->dtype, x);
    return KW__OP(g, KW__ADD, NULL, b->dtype, x, again);
}

/* z[B,z,T,h,w] -> frames [B,3,8(T-1)+1,32h,32w] */
static int decode(const struct vae_builder *b, int x)
{
    const struct kw__ltx_vae *config = b->config;
    struct kw__graph *g = b->g;
    int64_t c = config->channels[LEVELS - 1];
    x = conv(b, x, "decoder.conv_in.conv", c, true);
    int temb = time_embedding(b, "decoder.mid_block", 4 * c);
    x = resnets(b, x, "decoder.mid_block", config->layers[LEVELS], temb);
    for (int i = 0; i < LEVELS; i++) {
        const char *name = kw__arena_printf(&g->program->arena, "decoder.up_blocks.%d", i);
        c /= 2;
        temb = name ? time_embedding(b, name, 4 * c) : 0;
        x = upsample(b, x, name);
        x = resnets(b, x, name, config->layers[LEVELS - 1 - i], temb);
    }
    temb = time_embedding(b, "decoder", 2 * c);
    int table = kw__parameter(b->g, b->dtype, "decoder.scale_shift_table", "", KW__DIMS(2, c));
    table = KW__OP(g, KW__ADALN_TABLE, NULL, b->dtype, table, temb);
    x = conv(b, norm_silu(b, x, table, 0), "decoder.conv_out.conv", 3 * PATCH * PATCH, true);
    struct kw__attr pixels = {.patch = {1, PATCH, PATCH}, .transposed = true};
    return KW__OP(g, KW__DEPTH_TO_SPACE, &pixels, b->dtype, x);
}

/* ---- The stage -------------------------------------------------------------------------------------- */

static int timestep_state(struct kw__graph *g)
{
    const struct kw__program *program = g->program;
    return kw__state(g, "decode_timestep", program->dtypes.vae, KW__REQUEST,
                     KW__DIMS(program->request.batch_size));
}

static int decode_tile(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    (void)variant;
    (void)shape; /* there is no state */
    const struct vae_builder b = {g, self, g->program->dtypes.vae, timestep_state(g)};
    return decode(&b, z);
}

/* As AutoencoderKLLTXVideo.decode: one tile is all when that is no larger than a tile. */
static struct kw__tiling tiling(const struct kw__ltx_vae *c, const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    int64_t tile = TILE / SPACE_FACTOR, step = TILE_STEP / SPACE_FACTOR;
    bool tiled = kw__choose(program->dtypes.tiled_decode, false) &&
                 (r->latent_height > tile || r->latent_width > tile);
    struct kw__tiling t = {.latent = {r->latent_height, r->latent_width},
                           .tile = {tile, tile},
                           .step = {step, step},
                           .scale = SPACE_FACTOR,
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

/* The latents as the VAE has them, with the noise that the decoder will remove. */
static void lower_prepare(const struct kw__ltx_vae *config, struct kw__program *program,
                          struct kw__stage *stage)
{
    static const char *const names[] = {"timestep", "clean", "noise"};
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.vae;
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    double *row = kw__arena_alloc(&program->arena, 3, sizeof *row);
    if (!g || !row) return;
    row[0] = row[2] = decode_timestep;
    row[1] = 1 - decode_timestep;
    stage->phases[stage->num_phases - 1].table = (struct kw__iterations){3, names, row};
    g->component = "vae_decoder";
    const struct vae_builder b = {g, config, dtype, 0};
    const int64_t dim[] = {r->batch_size, config->z_dim, r->latent_frames, r->latent_height, r->latent_width};
    int x = affine(&b, kw__state(g, "latents", KW__F32, KW__REQUEST, 5, dim), KW__F32, false);
    if (dtype != KW__F32) x = KW__OP(g, KW__CAST, NULL, dtype, x);
    int noise = kw__input(g, "noise_decode", dtype, KW__REQUEST, 5, dim);
    struct kw__attr mix = {.column = 1};
    kw__state_next(g, kw__state(g, "z", dtype, KW__REQUEST, 5, dim),
                   KW__OP(g, KW__LINCOMB, &mix, dtype, x, noise));
    int timestep = kw__input(g, "timestep", KW__F32, KW__REQUEST, KW__DIMS(r->batch_size));
    kw__state_next(g, timestep_state(g), KW__OP(g, KW__CAST, NULL, dtype, timestep));
}

void kw__ltx_vae_lower(const struct kw__ltx_vae *config, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    const struct kw__tiling tiles = tiling(config, program);
    const struct kw__chunk all = {.frames = r->latent_frames, .name = "all frames"};
    struct kw__stage *stage = kw__program_stage(program, "decode");
    if (!stage) return;
    lower_prepare(config, program, stage);
    kw__tiles_lower(program, stage, &tiles, 1, &all);
    struct kw__graph *g = kw__tiles_output(program, stage);
    if (!g) return;
    kw__hand_over_frames(g, kw__tiles_joined(g, &tiles));
}
