/* The decoder half of AutoencoderKL (diffusers), Stable Diffusion's VAE of single images.
 *
 * Frames know nothing of each other: norms and attention are of each alone, convolutions 3 x 3. The pipeline
 * decodes 16 images in a call; here these are frames of the whole batch. On request frames are cut into
 * tiles of sample_size, a quarter of it shared with the next, which are decoded one by one and blended.
 * Tensors are [B, C, T, H, W].
 *
 * Verified parameter count of the whole class: 83,653,863. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

enum { LEVELS = KW__SD_VAE_LEVELS, CALL_IMAGES = 16 }; /* AnimateDiffPipeline's decode_chunk_size */
static const double norm_eps = 1e-6;

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_variant(struct kw__json in, kw_error *err)
{
    const char *activation = NULL, *bad = NULL;
    const json_t *blocks = NULL;
    int64_t out = 0;
    kw_status status;
    (void)((status = kw__json_string(in, "act_fn", &activation, err)) ||
           (status = kw__json_array(in, "up_block_types", &blocks, err)) ||
           (status = kw__json_int(in, "out_channels", 1, 64, &out, err)));
    if (status) return status;
    bool known = json_array_size(blocks) == LEVELS;
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const char *type = json_string_value(json_array_get(blocks, i));
        known &= type && strcmp(type, "UpDecoderBlock2D") == 0;
    }
    if (!known) bad = "up_block_types";
    if (strcmp(activation, "silu") != 0) bad = "act_fn";
    if (out != 3) bad = "out_channels";
    if (kw__json_has(in, "shift_factor")) bad = "shift_factor";
    if (kw__json_has(in, "latents_mean") || kw__json_has(in, "latents_std")) bad = "latents_mean";
    if (json_is_false(json_object_get(in.object, "use_post_quant_conv"))) bad = "use_post_quant_conv";
    if (json_is_false(json_object_get(in.object, "mid_block_add_attention"))) bad = "mid_block_add_attention";
    if (!bad) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: \"%s\" is that of another VAE than Stable Diffusion's, which is the one known",
                    in.path, bad);
}

/* Tiles as the class sets them up. Where its numbers for cells and pixels disagree, they would not meet. */
static kw_status read_tiles(struct kw__json in, struct kw__sd_vae *vae, kw_error *err)
{
    int64_t sample = 0;
    kw_status status = kw__json_int(in, "sample_size", 1, 1 << 14, &sample, err);
    if (status) return status;
    vae->tile = sample / vae->space_factor;
    vae->tile_step = (int64_t)((double)vae->tile * 0.75);
    vae->blend = (int64_t)((double)sample * 0.25);
    if (vae->tile_step > 0 && vae->tile * vae->space_factor == sample &&
        vae->tile_step * vae->space_factor == sample - vae->blend)
        return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: tiles of \"sample_size\" %" PRId64 " do not meet at whole latent cells; give a "
                    "multiple of %" PRId64,
                    in.path, sample, 4 * vae->space_factor);
}

kw_status kw__sd_vae_read(kw_model *model, struct kw__sd_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "vae", "config.json", "AutoencoderKL", &root, &in, err);
    if (status) return status;
    struct kw__sd_vae vae = {.space_factor = 1 << (LEVELS - 1)};
    (void)((status = check_variant(in, err)) ||
           (status = kw__json_ints(in, "block_out_channels", LEVELS, 1, 1 << 14, vae.channels, err)) ||
           (status = kw__json_int(in, "latent_channels", 1, KW__SD_VAE_MAX_Z, &vae.z_dim, err)) ||
           (status = kw__json_int(in, "layers_per_block", 1, 64, &vae.layers, err)) ||
           (status = kw__json_int(in, "norm_num_groups", 1, 1 << 14, &vae.groups, err)) ||
           (status = kw__json_number(in, "scaling_factor", 1e-6, 1e6, &vae.scaling_factor, err)) ||
           (status = read_tiles(in, &vae, err)));
    for (int i = 0; !status && i < LEVELS; i++)
        if (vae.channels[i] % vae.groups)
            status = kw__fail(err, KW_ERROR_FORMAT,
                              "%s: \"block_out_channels\" must be multiples of \"norm_num_groups\"", in.path);
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

/* ---- Decoder ------------------------------------------------------------------------------------ */

struct vae_builder {
    struct kw__graph *g;
    const struct kw__sd_vae *config;
    enum kw__dtype dtype;
};

static int64_t channels(const struct vae_builder *b, int x)
{
    return b->g->values[x].dim[1];
}

static int conv(const struct vae_builder *b, int x, const char *name, int64_t out, int kernel)
{
    if (!x) return 0;
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {kernel / 2, kernel / 2}};
    int w = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, channels(b, x), kernel, kernel));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

static int norm(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__attr attr = {.groups = b->config->groups, .eps = norm_eps, .per_frame = true};
    int gamma = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(channels(b, x)));
    int beta = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(channels(b, x)));
    return KW__OP(b->g, KW__GROUPNORM, &attr, b->dtype, x, gamma, beta);
}

static int norm_silu_conv(const struct vae_builder *b, int x, const char *norm_name, const char *conv_name,
                          int64_t out)
{
    x = norm(b, x, norm_name);
    x = KW__OP(b->g, KW__SILU, NULL, b->dtype, x);
    return conv(b, x, conv_name, out, 3);
}

static int resnet(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    if (!x) return 0;
    int y = norm_silu_conv(b, x, kw__join(b->g, name, ".norm1"), kw__join(b->g, name, ".conv1"), out);
    y = norm_silu_conv(b, y, kw__join(b->g, name, ".norm2"), kw__join(b->g, name, ".conv2"), out);
    if (channels(b, x) != out) x = conv(b, x, kw__join(b->g, name, ".conv_shortcut"), out, 1);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, x, y);
}

static int linear(const struct vae_builder *b, int x, const char *name, int64_t n)
{
    return kw__linear(b->g, x, name, n, true, b->dtype, b->dtype);
}

/* Self-attention over the cells of each frame, one head. */
static int attention(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    int64_t c = channels(b, x);
    struct kw__attr frames = {.parts = 1}, one_head = {.heads = 1, .multiplicity = 1};
    memcpy(frames.grid, &g->values[x].dim[2], sizeof frames.grid);
    one_head.scale = 1.0 / sqrt((double)c);
    int y = norm(b, x, kw__join(b->g, name, ".group_norm"));
    y = KW__OP(g, KW__SPLIT_FRAMES, &frames, b->dtype, y);
    int q = linear(b, y, kw__join(b->g, name, ".to_q"), c);
    int k = linear(b, y, kw__join(b->g, name, ".to_k"), c);
    int v = linear(b, y, kw__join(b->g, name, ".to_v"), c);
    y = KW__OP(g, KW__ATTENTION, &one_head, b->dtype, q, k, v);
    y = linear(b, y, kw__join(b->g, name, ".to_out.0"), c);
    y = KW__OP(g, KW__JOIN_FRAMES, &frames, b->dtype, y);
    return KW__OP(g, KW__ADD, NULL, b->dtype, y, x);
}

static int decode(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    const struct kw__sd_vae *c = self;
    struct kw__arena *arena = &g->program->arena;
    const struct vae_builder builder = {g, c, g->program->dtypes.vae}, *b = &builder;
    int64_t top = c->channels[LEVELS - 1];
    (void)variant, (void)shape; /* nothing is carried from call to call */
    int x = conv(b, z, "post_quant_conv", c->z_dim, 1);
    x = conv(b, x, "decoder.conv_in", top, 3);
    x = resnet(b, x, "decoder.mid_block.resnets.0", top);
    x = attention(b, x, "decoder.mid_block.attentions.0");
    x = resnet(b, x, "decoder.mid_block.resnets.1", top);
    for (int i = 0; i < LEVELS; i++) {
        int64_t out = c->channels[LEVELS - 1 - i];
        for (int r = 0; r <= c->layers; r++)
            x = resnet(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.resnets.%d", i, r), out);
        if (i == LEVELS - 1) break;
        x = KW__OP(g, KW__UPSAMPLE, NULL, b->dtype, x);
        x = conv(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.upsamplers.0.conv", i), out, 3);
    }
    return norm_silu_conv(b, x, "decoder.conv_norm_out", "decoder.conv_out", 3);
}

/* ---- The stage ------------------------------------------------------------------------------------ */

static struct kw__tiling tiling(const struct kw__sd_vae *c, const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    struct kw__tiling t = {.latent = {r->latent_height, r->latent_width},
                           .scale = c->space_factor,
                           .z_channels = c->z_dim,
                           .z_frames = r->num_frames,
                           .out_channels = 3,
                           .out_frames = r->num_frames,
                           .self = c,
                           .decode = decode};
    bool tiled = kw__choose(program->dtypes.tiled_decode, false) &&
                 (r->latent_height > c->tile || r->latent_width > c->tile);
    for (int i = 0; i < 2; i++) {
        t.tile[i] = tiled ? c->tile : t.latent[i];
        t.step[i] = tiled ? c->tile_step : t.latent[i];
        t.blend[i] = c->blend;
    }
    return t;
}

static void lower_prepare(const struct kw__sd_vae *c, struct kw__program *program, struct kw__stage *stage)
{
    const kw_effective *r = &program->request;
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "vae_decoder";
    double mean[KW__SD_VAE_MAX_Z] = {0}, scale[KW__SD_VAE_MAX_Z];
    for (int64_t i = 0; i < c->z_dim; i++) scale[i] = 1 / c->scaling_factor;
    struct kw__attr affine = {
        .constants = {kw__constants(program, mean, c->z_dim), kw__constants(program, scale, c->z_dim)}};
    const int64_t dim[] = {r->batch_size, c->z_dim, r->num_frames, r->latent_height, r->latent_width};
    int latents = kw__state(g, "latents", program->dtypes.denoiser, KW__REQUEST, 5, dim);
    int z = kw__state(g, "z", program->dtypes.vae, KW__REQUEST, 5, dim);
    kw__state_next(g, z, KW__OP(g, KW__CHANNEL_AFFINE, &affine, program->dtypes.vae, latents));
}

static void lower_calls(struct kw__program *program, struct kw__stage *stage, const struct kw__tiling *t)
{
    const kw_effective *r = &program->request;
    int64_t frames = r->batch_size < CALL_IMAGES ? CALL_IMAGES / r->batch_size : 1;
    int64_t count = (r->num_frames + frames - 1) / frames;
    struct kw__chunk *chunks = kw__arena_alloc(&program->arena, (size_t)count, sizeof *chunks);
    for (int64_t i = 0; chunks && i < count; i++) {
        int64_t from = i * frames, left = r->num_frames - from;
        bool rest = left < frames;
        chunks[i] = (struct kw__chunk){from, rest ? left : frames, from, rest, rest ? "rest" : "frames"};
    }
    if (chunks) kw__tiles_lower(program, stage, t, count, chunks);
}

void kw__sd_vae_lower(const struct kw__sd_vae *c, struct kw__program *program)
{
    struct kw__tiling t = tiling(c, program);
    struct kw__stage *stage = kw__program_stage(program, "decode");
    lower_prepare(c, program, stage);
    lower_calls(program, stage, &t);
    struct kw__graph *g = kw__tiles_output(program, stage);
    if (!g) return;
    int x = kw__tiles_joined(g, &t);
    if (program->dtypes.vae != KW__F32) x = KW__OP(g, KW__CAST, NULL, KW__F32, x);
    kw__hand_over_frames(g, x);
}
