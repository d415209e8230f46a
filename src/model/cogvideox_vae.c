/* The decoder half of AutoencoderKLCogVideoX (diffusers), the causal video VAE of CogVideoX.
 *
 * Latent frames are decoded two at a time, an odd one with the first two. A causal convolution sees the
 * last two frames of the chunk before (a state), the first chunk its first frame twice. Up to the first
 * frame of an odd chunk, which stays one, a latent frame becomes time_factor frames: an even number of
 * latent frames gives that many times time_factor. Group norms are over one chunk and tile, so the result
 * depends on both. Each norm is scaled and shifted by 1x1x1 convolutions of the latents, resized to it.
 * Tiled, every tile goes through all its chunks before the next one. Tensors are [B, C, T, H, W].
 *
 * Verified parameter count of the whole class: 215,583,907. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_fixed(struct kw__json in, kw_error *err)
{
    const char *activation = NULL;
    const json_t *blocks = NULL;
    int64_t out = 0;
    kw_status status;
    (void)((status = kw__json_string(in, "act_fn", &activation, err)) ||
           (status = kw__json_array(in, "up_block_types", &blocks, err)) ||
           (status = kw__json_int(in, "out_channels", 1, 64, &out, err)));
    if (status) return status;
    bool known = json_array_size(blocks) == KW__COG_VAE_LEVELS;
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const char *type = json_string_value(json_array_get(blocks, i));
        known &= type && strcmp(type, "CogVideoXUpBlock3D") == 0;
    }
    const char *bad = !known                            ? "up_block_types"
                      : strcmp(activation, "silu") != 0 ? "act_fn"
                      : out != 3                        ? "out_channels"
                      : json_is_true(json_object_get(in.object, "use_post_quant_conv"))
                          ? "use_post_quant_conv"
                          : NULL;
    if (!bad) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: \"%s\" is that of another VAE than CogVideoX's, which is the one known", in.path,
                    bad);
}

/* Tiles as the class sets them up: half the sample's size, overlapping by a part of it. Where its numbers
 * for cells and pixels disagree, tiles would not fit together. */
static kw_status read_tiles(struct kw__json in, const char *key, double overlap, struct kw__cog_tiles *out,
                            kw_error *err)
{
    int64_t sample = 0, cell = 1 << (KW__COG_VAE_LEVELS - 1);
    kw_status status = kw__json_int(in, key, 16, 1 << 14, &sample, err);
    if (status) return status;
    int64_t pixels = sample / 2;
    out->size = pixels / cell;
    out->step = (int64_t)((double)out->size * (1 - overlap));
    out->blend = (int64_t)((double)pixels * overlap);
    if (out->step > 0 && out->size * cell == pixels && out->step * cell == pixels - out->blend) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: tiles of half of \"%s\" %" PRId64 " do not meet at whole latent cells", in.path, key,
                    sample);
}

kw_status kw__cog_vae_read(kw_model *model, struct kw__cog_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "vae", "config.json", "AutoencoderKLCogVideoX", &root, &in, err);
    if (status) return status;
    struct kw__cog_vae vae = {.space_factor = 1 << (KW__COG_VAE_LEVELS - 1)};
    (void)((status = check_fixed(in, err)) ||
           (status =
                kw__json_ints(in, "block_out_channels", KW__COG_VAE_LEVELS, 1, 1 << 14, vae.channels, err)) ||
           (status = kw__json_int(in, "latent_channels", 1, KW__COG_VAE_MAX_Z, &vae.z_dim, err)) ||
           (status = kw__json_int(in, "layers_per_block", 1, 64, &vae.layers, err)) ||
           (status = kw__json_int(in, "norm_num_groups", 1, 1 << 14, &vae.groups, err)) ||
           (status = kw__json_int(in, "temporal_compression_ratio", 1, 8, &vae.time_factor, err)) ||
           (status = kw__json_number(in, "scaling_factor", 1e-6, 1e6, &vae.scaling_factor, err)) ||
           (status = read_tiles(in, "sample_height", 1.0 / 6, &vae.tiles[0], err)) ||
           (status = read_tiles(in, "sample_width", 1.0 / 5, &vae.tiles[1], err)));
    if (!status && (vae.time_factor & (vae.time_factor - 1)))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"temporal_compression_ratio\" must be 1, 2, 4 or 8",
                          in.path);
    for (int i = 0; !status && i < KW__COG_VAE_LEVELS; i++)
        if (vae.channels[i] % vae.groups)
            status = kw__fail(err, KW_ERROR_FORMAT,
                              "%s: \"block_out_channels\" must be multiples of \"norm_num_groups\"", in.path);
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

/* ---- Chunks of frames ------------------------------------------------------------------------ */

static int64_t first_chunk(int64_t latent_frames)
{
    return latent_frames == 1 ? 1 : 2 + latent_frames % 2;
}

static int64_t num_chunks(int64_t latent_frames)
{
    return latent_frames < 4 ? 1 : latent_frames / 2;
}

/* What a doubling of time makes of a chunk: the first frame of an odd one stays one. */
static int64_t doubled(int64_t frames)
{
    return frames % 2 ? 2 * frames - 1 : 2 * frames;
}

static int64_t chunk_frames(const struct kw__cog_vae *c, int64_t latent_frames)
{
    for (int64_t factor = c->time_factor; factor > 1; factor /= 2) latent_frames = doubled(latent_frames);
    return latent_frames;
}

int64_t kw__cog_vae_frames(const struct kw__cog_vae *c, int64_t latent_frames)
{
    int64_t later = num_chunks(latent_frames) - 1;
    return chunk_frames(c, first_chunk(latent_frames)) + later * chunk_frames(c, 2);
}

/* ---- Decoder: one chunk of one tile ------------------------------------------------------------ */

struct vae_builder {
    struct kw__graph *g;
    const struct kw__cog_vae *config;
    enum kw__dtype dtype;
    const char *caches; /* names of the caches begin with it */
    bool first;         /* the first chunk of a tile */
    int z;              /* the chunk's latents */
};

static const int64_t *dims(const struct vae_builder *b, int x)
{
    return b->g->values[x].dim;
}

static int conv_point(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    if (!x) return 0;
    int w = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, dims(b, x)[1], 1, 1, 1));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    struct kw__attr attr = {.stride = {1, 1, 1}};
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

/* Kernel (3, 3, 3), causal: two frames of history. */
static int conv_causal(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    const char *cache_name = kw__join(b->g, b->caches, name);
    if (!x || !cache_name) return 0;
    struct kw__graph *g = b->g;
    int w = kw__parameter(b->g, b->dtype, name, ".conv.weight", KW__DIMS(out, dims(b, x)[1], 3, 3, 3));
    int bias = kw__parameter(b->g, b->dtype, name, ".conv.bias", KW__DIMS(out));
    const int64_t *d = dims(b, x);
    int cache = kw__state(g, cache_name, b->dtype, KW__STEP, KW__DIMS(d[0], d[1], 2, d[3], d[4]));
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {1, 1}, .keep = true};
    if (b->first) {
        attr.pad_time[0] = 2;
        attr.replicate_time = true;
    }
    int y = KW__OP(g, KW__CONV, &attr, b->dtype, x, w, bias, b->first ? 0 : cache);
    kw__state_next(g, cache, kw__output(g, y, 1));
    return y;
}

/* Group norm, scaled and shifted by the latents. */
static int spatial_norm(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    int64_t c = dims(b, x)[1];
    struct kw__attr size = {.first_alone = dims(b, x)[2] > 1 && dims(b, x)[2] % 2};
    memcpy(size.grid, &dims(b, x)[2], sizeof size.grid);
    int z = KW__OP(b->g, KW__RESIZE, &size, b->dtype, b->z);
    int scale = conv_point(b, z, kw__join(b->g, name, ".conv_y.conv"), c);
    int shift = conv_point(b, z, kw__join(b->g, name, ".conv_b.conv"), c);
    int gamma = kw__parameter(b->g, b->dtype, name, ".norm_layer.weight", KW__DIMS(c));
    int beta = kw__parameter(b->g, b->dtype, name, ".norm_layer.bias", KW__DIMS(c));
    struct kw__attr attr = {.groups = b->config->groups, .eps = 1e-6};
    int y = KW__OP(b->g, KW__GROUPNORM, &attr, b->dtype, x, gamma, beta);
    y = KW__OP(b->g, KW__MUL, NULL, b->dtype, y, scale);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, y, shift);
}

static int norm_silu_conv(const struct vae_builder *b, int x, const char *norm, const char *conv, int64_t out)
{
    x = spatial_norm(b, x, norm);
    x = KW__OP(b->g, KW__SILU, NULL, b->dtype, x);
    return conv_causal(b, x, conv, out);
}

static int resnet(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    if (!x) return 0;
    int y = norm_silu_conv(b, x, kw__join(b->g, name, ".norm1"), kw__join(b->g, name, ".conv1"), out);
    y = norm_silu_conv(b, y, kw__join(b->g, name, ".norm2"), kw__join(b->g, name, ".conv2"), out);
    if (dims(b, x)[1] != out) x = conv_point(b, x, kw__join(b->g, name, ".conv_shortcut"), out);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, y, x);
}

static int upsample(const struct vae_builder *b, int x, const char *name, bool time)
{
    if (!x) return 0;
    const int64_t *d = dims(b, x);
    int64_t c = d[1];
    struct kw__attr twice = {.grid = {doubled(d[2]), 2 * d[3], 2 * d[4]}, .first_alone = d[2] % 2};
    x = time && d[2] > 1 ? KW__OP(b->g, KW__RESIZE, &twice, b->dtype, x)
                         : KW__OP(b->g, KW__UPSAMPLE, NULL, b->dtype, x);
    int w = kw__parameter(b->g, b->dtype, name, ".conv.weight", KW__DIMS(c, c, 3, 3));
    int bias = kw__parameter(b->g, b->dtype, name, ".conv.bias", KW__DIMS(c));
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {1, 1}};
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

static int decode_chunk(const struct vae_builder *b)
{
    const struct kw__cog_vae *c = b->config;
    struct kw__arena *arena = &b->g->program->arena;
    int64_t top = c->channels[KW__COG_VAE_LEVELS - 1];
    int x = conv_causal(b, b->z, "decoder.conv_in", top);
    x = resnet(b, x, "decoder.mid_block.resnets.0", top);
    x = resnet(b, x, "decoder.mid_block.resnets.1", top);
    for (int i = 0; i < KW__COG_VAE_LEVELS; i++) {
        int64_t out = c->channels[KW__COG_VAE_LEVELS - 1 - i];
        for (int r = 0; r <= c->layers; r++)
            x = resnet(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.resnets.%d", i, r), out);
        if (i < KW__COG_VAE_LEVELS - 1)
            x = upsample(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.upsamplers.0", i),
                         c->time_factor >> i > 1);
    }
    return norm_silu_conv(b, x, "decoder.norm_out", "decoder.conv_out", 3);
}

/* ---- The stage ------------------------------------------------------------------------------------ */

static int decode(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    const char *caches = kw__arena_printf(&g->program->arena, "cache.%s.", shape);
    struct vae_builder b = {g, self, g->program->dtypes.vae, caches, variant == 0, z};
    return decode_chunk(&b);
}

static struct kw__tiling tiling(const struct kw__cog_vae *c, const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    struct kw__tiling t = {.latent = {r->latent_height, r->latent_width},
                           .scale = c->space_factor,
                           .z_channels = c->z_dim,
                           .z_frames = r->latent_frames,
                           .out_channels = 3,
                           .out_frames = r->num_frames,
                           .self = c,
                           .decode = decode};
    bool tiled = kw__choose(program->dtypes.tiled_decode, false) &&
                 (r->latent_height > c->tiles[0].size || r->latent_width > c->tiles[1].size);
    for (int i = 0; i < 2; i++) {
        t.tile[i] = tiled ? c->tiles[i].size : t.latent[i];
        t.step[i] = tiled ? c->tiles[i].step : t.latent[i];
        t.blend[i] = c->tiles[i].blend;
    }
    return t;
}

static void lower_prepare(const struct kw__cog_vae *c, struct kw__program *program, struct kw__stage *stage)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.vae;
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "vae_decoder";
    double mean[KW__COG_VAE_MAX_Z] = {0}, scale[KW__COG_VAE_MAX_Z];
    for (int64_t i = 0; i < c->z_dim; i++) scale[i] = 1 / c->scaling_factor;
    struct kw__attr affine = {
        .constants = {kw__constants(program, mean, c->z_dim), kw__constants(program, scale, c->z_dim)}};
    const int64_t dim[] = {r->batch_size, c->z_dim, r->latent_frames, r->latent_height, r->latent_width};
    int latents = kw__state(g, "latents", program->dtypes.denoiser, KW__REQUEST, 5, dim);
    int z = kw__state(g, "z", dtype, KW__REQUEST, 5, dim);
    kw__state_next(g, z, KW__OP(g, KW__CHANNEL_AFFINE, &affine, dtype, latents));
}

void kw__cog_vae_lower(const struct kw__cog_vae *c, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    struct kw__tiling t = tiling(c, program);
    struct kw__stage *stage = kw__program_stage(program, "decode");
    lower_prepare(c, program, stage);
    int64_t count = num_chunks(r->latent_frames);
    struct kw__chunk *chunks = kw__arena_alloc(&program->arena, (size_t)count, sizeof *chunks);
    if (!chunks) return;
    chunks[0] = (struct kw__chunk){0, first_chunk(r->latent_frames), 0, 0, "first"};
    for (int64_t i = 1; i < count; i++) {
        const struct kw__chunk *last = &chunks[i - 1];
        chunks[i] = (struct kw__chunk){last->from + last->frames, 2,
                                       last->out + chunk_frames(c, last->frames), 1, "later"};
    }
    kw__tiles_lower(program, stage, &t, count, chunks);
    struct kw__graph *g = kw__tiles_output(program, stage);
    if (!g) return;
    kw__hand_over_frames(g, kw__tiles_joined(g, &t));
}
