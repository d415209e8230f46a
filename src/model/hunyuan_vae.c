/* The decoder half of AutoencoderKLHunyuanVideo (diffusers), the causal video VAE of HunyuanVideo.
 *
 * Convolutions are causal and see the outermost frames and pixels again beyond the edges; norms are over all
 * frames; on the lowest level each frame's cells attend to those of all frames up to theirs. The first frame
 * is never doubled in time. Clips of more than four latent frames are decoded in chunks of five, three apart,
 * each as if it were a clip: all frames but the first of a later chunk are kept, and blended with the last of
 * the chunk before. Where one latent frame is left over, its chunk gives nothing, and is decoded all the
 * same. On request frames are cut into tiles of 256 x 256 pixels, 192 apart. Tensors are [B, C, T, H, W].
 *
 * Verified parameter count of the whole class: 246,478,803. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

enum { LEVELS = KW__HUNYUAN_VAE_LEVELS, SPACE = KW__HUNYUAN_SPACE, TIME = KW__HUNYUAN_TIME };
enum { TILE = 256, TILE_STEP = 192, CHUNK = 16, CHUNK_STEP = 12 }; /* pixels, frames after the first */
static const double norm_eps = 1e-6;

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_variant(struct kw__json in, kw_error *err)
{
    static const struct kw__only only[] = {{"out_channels", "3"},
                                           {"spatial_compression_ratio", "8"},
                                           {"temporal_compression_ratio", "4"},
                                           {"up_block_types",
                                            "[\"HunyuanVideoUpBlock3D\", \"HunyuanVideoUpBlock3D\", "
                                            "\"HunyuanVideoUpBlock3D\", \"HunyuanVideoUpBlock3D\"]"}};
    const char *activation = NULL;
    kw_status status = kw__check_only(in, sizeof only / sizeof only[0], only, err);
    if (!status) status = kw__json_string(in, "act_fn", &activation, err);
    if (!status && strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: act_fn \"%s\" is not known; silu is", in.path,
                          activation);
    return status;
}

kw_status kw__hunyuan_vae_read(kw_model *model, struct kw__hunyuan_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "vae", "config.json", "AutoencoderKLHunyuanVideo", &root, &in, err);
    if (status) return status;
    struct kw__hunyuan_vae vae = {0};
    (void)((status = check_variant(in, err)) ||
           (status = kw__json_ints(in, "block_out_channels", LEVELS, 1, 1 << 14, vae.channels, err)) ||
           (status = kw__json_int(in, "latent_channels", 1, KW__HUNYUAN_VAE_MAX_Z, &vae.z_dim, err)) ||
           (status = kw__json_int(in, "layers_per_block", 1, 64, &vae.layers, err)) ||
           (status = kw__json_int(in, "norm_num_groups", 1, 1 << 14, &vae.groups, err)) ||
           (status = kw__json_bool(in, "mid_block_add_attention", &vae.attends, err)) ||
           (status = kw__json_number(in, "scaling_factor", 1e-6, 1e6, &vae.scaling_factor, err)));
    for (int i = 0; !status && i < LEVELS; i++) {
        if (vae.channels[i] % vae.groups)
            status = kw__fail(err, KW_ERROR_FORMAT,
                              "%s: \"block_out_channels\" must be multiples of \"norm_num_groups\"", in.path);
        if (vae.channels[i] > vae.widest) vae.widest = vae.channels[i];
    }
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

/* ---- The decoder ------------------------------------------------------------------------------- */

struct vae_builder {
    struct kw__graph *g;
    const struct kw__hunyuan_vae *config;
    enum kw__dtype dtype;
};

static int64_t channels(const struct vae_builder *b, int x)
{
    return b->g->values[x].dim[1];
}

static int conv(const struct vae_builder *b, int x, const char *name, int64_t out, int kernel)
{
    if (!x) return 0;
    struct kw__attr causal = {.stride = {1, 1, 1},
                              .pad = {kernel / 2, kernel / 2},
                              .pad_time = {kernel - 1, 0},
                              .replicate_time = kernel > 1,
                              .replicate_space = kernel > 1};
    int w =
        kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, channels(b, x), kernel, kernel, kernel));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    return KW__OP(b->g, KW__CONV, &causal, b->dtype, x, w, bias);
}

static int norm(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__attr attr = {.groups = b->config->groups, .eps = norm_eps};
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
    int y = norm_silu_conv(b, x, kw__join(b->g, name, ".norm1"), kw__join(b->g, name, ".conv1.conv"), out);
    y = norm_silu_conv(b, y, kw__join(b->g, name, ".norm2"), kw__join(b->g, name, ".conv2.conv"), out);
    if (channels(b, x) != out) x = conv(b, x, kw__join(b->g, name, ".conv_shortcut.conv"), out, 1);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, y, x);
}

static int linear(const struct vae_builder *b, int x, const char *name, int64_t n)
{
    return kw__linear(b->g, x, name, n, true, b->dtype, b->dtype);
}

/* One head over the cells of all frames up to a cell's own. */
static int attention(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    int64_t c = channels(b, x);
    struct kw__attr frames = {.patch = {1, 1, 1}};
    memcpy(frames.grid, &g->values[x].dim[2], sizeof frames.grid);
    struct kw__attr one_head = {.heads = 1,
                                .multiplicity = 1,
                                .scale = 1.0 / sqrt((double)c),
                                .causal = true,
                                .width = frames.grid[1] * frames.grid[2]};
    int y = norm(b, x, kw__join(b->g, name, ".group_norm"));
    y = KW__OP(g, KW__TO_TOKENS, NULL, b->dtype, y);
    int q = linear(b, y, kw__join(b->g, name, ".to_q"), c);
    int k = linear(b, y, kw__join(b->g, name, ".to_k"), c);
    int v = linear(b, y, kw__join(b->g, name, ".to_v"), c);
    y = KW__OP(g, KW__ATTENTION, &one_head, b->dtype, q, k, v);
    y = linear(b, y, kw__join(b->g, name, ".to_out.0"), c);
    y = KW__OP(g, KW__UNPATCHIFY, &frames, b->dtype, y);
    return KW__OP(g, KW__ADD, NULL, b->dtype, y, x);
}

/* Rows and columns twice; with `time` the frames after the first too. */
static int upsample(const struct vae_builder *b, int x, const char *name, bool time)
{
    if (!x) return 0;
    const int64_t *d = b->g->values[x].dim;
    struct kw__attr larger = {.first_alone = true,
                              .grid = {time ? 1 + 2 * (d[2] - 1) : d[2], 2 * d[3], 2 * d[4]}};
    int64_t c = d[1];
    x = KW__OP(b->g, KW__RESIZE, &larger, b->dtype, x);
    return conv(b, x, name, c, 3);
}

enum { FIRST, FULL, LATE, LAST }; /* chunks: of later ones at most two have fewer frames than the others */

/* z[B,z,t,h,w] -> frames [B,3,1+4(t-1),8h,8w], of a later chunk without the first of them. */
static int decode(const void *self, struct kw__graph *g, int z, int variant, const char *shape)
{
    const struct kw__hunyuan_vae *c = self;
    struct kw__arena *arena = &g->program->arena;
    const struct vae_builder builder = {g, c, g->program->dtypes.vae}, *b = &builder;
    int64_t top = c->channels[LEVELS - 1];
    (void)shape; /* nothing is carried from call to call */
    int x = conv(b, z, "post_quant_conv", c->z_dim, 1);
    x = conv(b, x, "decoder.conv_in.conv", top, 3);
    x = resnet(b, x, "decoder.mid_block.resnets.0", top);
    if (c->attends) x = attention(b, x, "decoder.mid_block.attentions.0");
    x = resnet(b, x, "decoder.mid_block.resnets.1", top);
    for (int i = 0; i < LEVELS; i++) {
        int64_t out = c->channels[LEVELS - 1 - i];
        for (int64_t r = 0; r <= c->layers; r++)
            x = resnet(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.resnets.%" PRId64, i, r), out);
        if (i == LEVELS - 1) break;
        x = upsample(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.upsamplers.0.conv.conv", i), i > 0);
    }
    x = norm_silu_conv(b, x, "decoder.conv_norm_out", "decoder.conv_out.conv", 3);
    if (variant == FIRST || !x || g->values[x].dim[2] == 1) return x;
    struct kw__attr later = {.axis = 2, .start = 1, .width = g->values[x].dim[2] - 1};
    return KW__OP(g, KW__SLICE, &later, b->dtype, x);
}

/* ---- The stage -------------------------------------------------------------------------------------- */

/* As AutoencoderKLHunyuanVideo.decode: one tile, one chunk is all when that is no larger. */
static struct kw__tiling tiling(const struct kw__hunyuan_vae *c, const struct kw__program *program)
{
    const kw_effective *r = &program->request;
    int64_t tile = TILE / SPACE, step = TILE_STEP / SPACE;
    bool tiled = kw__choose(program->dtypes.tiled_decode, false) &&
                 (r->latent_height > tile || r->latent_width > tile);
    struct kw__tiling t = {.latent = {r->latent_height, r->latent_width},
                           .tile = {tile, tile},
                           .step = {step, step},
                           .scale = SPACE,
                           .blend = {TILE - TILE_STEP, TILE - TILE_STEP},
                           .z_channels = c->z_dim,
                           .z_frames = r->latent_frames,
                           .out_channels = 3,
                           .out_frames = r->num_frames,
                           .self = c,
                           .decode = decode};
    for (int axis = 0; !tiled && axis < 2; axis++) t.tile[axis] = t.step[axis] = t.latent[axis];
    if (r->latent_frames <= CHUNK / TIME) return t;
    t.time_tile = CHUNK;
    t.time_step = CHUNK_STEP;
    t.time_blend = CHUNK - CHUNK_STEP;
    return t;
}

/* Chunk i, which `left` latent frames are left for; a later one gives no frame for its first, if it has
 * others. */
static struct kw__chunk chunk(int64_t i, int64_t left)
{
    static const char *const names[] = {"first frames", "frames", "late frames", "last frames"};
    int64_t most = CHUNK / TIME + 1, step = CHUNK_STEP / TIME;
    int variant = i == 0 ? FIRST : left >= most ? FULL : left > step ? LATE : LAST;
    return (struct kw__chunk){i * step, left < most ? left : most, i ? 1 + i * CHUNK : 0, variant,
                              names[variant]};
}

static void lower_chunks(struct kw__program *program, struct kw__stage *stage, struct kw__tiling *t)
{
    const struct kw__chunk all = {.frames = t->z_frames, .name = "all frames"};
    int64_t step = CHUNK_STEP / TIME, count = (t->z_frames + step - 1) / step;
    struct kw__chunk *chunks = kw__arena_alloc(&program->arena, (size_t)count, sizeof *chunks);
    for (int64_t i = 0; chunks && i < count; i++) chunks[i] = chunk(i, t->z_frames - i * step);
    if (!t->time_tile) {
        kw__tiles_lower(program, stage, t, 1, &all);
    } else if (chunks) {
        const struct kw__chunk *last = &chunks[count - 1];
        t->out_frames = last->out + (last->frames > 1 ? (last->frames - 1) * TIME : 1);
        kw__tiles_lower(program, stage, t, count, chunks);
    }
}

void kw__hunyuan_vae_lower(const struct kw__hunyuan_vae *config, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.vae;
    struct kw__tiling tiles = tiling(config, program);
    struct kw__stage *stage = kw__program_stage(program, "decode");
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "vae_decoder";
    g->tensors = "vae";
    const int64_t dim[] = {r->batch_size, config->z_dim, r->latent_frames, r->latent_height, r->latent_width};
    double mean[KW__HUNYUAN_VAE_MAX_Z] = {0}, scale[KW__HUNYUAN_VAE_MAX_Z];
    for (int64_t i = 0; i < config->z_dim; i++) scale[i] = 1 / config->scaling_factor;
    struct kw__attr affine = {.constants = {kw__constants(program, mean, config->z_dim),
                                            kw__constants(program, scale, config->z_dim)}};
    int latents = kw__state(g, "latents", KW__F32, KW__REQUEST, 5, dim);
    int z = kw__state(g, "z", dtype, KW__REQUEST, 5, dim);
    kw__state_next(g, z, KW__OP(g, KW__CHANNEL_AFFINE, &affine, dtype, latents));

    lower_chunks(program, stage, &tiles);

    g = kw__tiles_output(program, stage);
    if (!g) return;
    kw__hand_over_frames(g, kw__tiles_joined(g, &tiles));
}
