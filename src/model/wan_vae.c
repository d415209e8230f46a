/* The decoder half of AutoencoderKLWan (diffusers), the causal video VAE of Wan2.1 and Wan2.2.
 *
 * Latent frames are decoded one by one. Every causal convolution keeps the last two frames it has
 * seen (a state that starts at zero, which is the zero padding of the first call), so the result is
 * that of decoding all frames at once. The first latent frame gives one output frame and skips the
 * temporal upsampling; each later one gives 4, and the history of time_conv starts at zero on the
 * second call: two graph variants serve. Tensors are [B, C, T, H, W].
 *
 * Wan2.2 TI2V's is "residual": past each up block goes what the block is given, its channels repeated until
 * they fill the larger grid. It works on patches of pixels, which are unfolded when all frames are there.
 *
 * Verified parameter counts of the whole class: 126,892,531; of Wan2.2 TI2V's 704,688,668. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

static kw_status read_dims(struct kw__json in, struct kw__wan_vae *vae, kw_error *err)
{
    enum { LEVELS = KW__WAN_VAE_LEVELS };
    const json_t *down = NULL, *attention = NULL;
    kw_status status;
    const char *base = kw__json_has(in, "decoder_base_dim") ? "decoder_base_dim" : "base_dim";
    (void)((status = kw__json_int(in, base, 2, 1 << 14, &vae->base_dim, err)) ||
           (status = kw__json_int(in, "z_dim", 1, KW__WAN_VAE_MAX_Z, &vae->z_dim, err)) ||
           (status = kw__json_int(in, "num_res_blocks", 1, 64, &vae->num_res_blocks, err)) ||
           (status = kw__json_ints(in, "dim_mult", LEVELS, 1, 64, vae->dim_mult, err)) ||
           (status = kw__json_array(in, "attn_scales", &attention, err)) ||
           (status = kw__json_array(in, "temperal_downsample", &down, err)) ||
           (status = kw__json_numbers(in, "latents_mean", (size_t)vae->z_dim, vae->mean, err)) ||
           (status = kw__json_numbers(in, "latents_std", (size_t)vae->z_dim, vae->std, err)));
    if (status) return status;
    if (json_array_size(attention))
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: \"attn_scales\" must be empty", in.path);
    if (json_array_size(down) != LEVELS - 1)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"temperal_downsample\" must have %d elements", in.path,
                        LEVELS - 1);
    vae->time_factor = 1;
    for (int i = 0; i < LEVELS - 1; i++) {
        const json_t *flag = json_array_get(down, (size_t)(LEVELS - 2 - i)); /* the decoder mirrors */
        if (!json_is_boolean(flag))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"temperal_downsample\" must hold true or false",
                            in.path);
        vae->time_upsample[i] = json_is_true(flag);
        if (vae->time_upsample[i]) vae->time_factor *= 2;
    }
    for (int64_t i = 0; i < vae->z_dim; i++)
        if (!(vae->std[i] > 0))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"latents_std\" must be positive", in.path);
    for (int i = 0; i < LEVELS; i++)
        if (vae->base_dim * vae->dim_mult[i] % 2)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" x \"dim_mult\" must be even", in.path, base);
    return KW_OK;
}

static int64_t level_channels(const struct kw__wan_vae *vae, int level)
{
    return vae->base_dim * vae->dim_mult[KW__WAN_VAE_LEVELS - 1 - level];
}

/* How many times a level's input channels are repeated to fill its larger grid. */
static int64_t fill(const struct kw__wan_vae *vae, int level)
{
    return level_channels(vae, level) * (vae->time_upsample[level] ? 8 : 4);
}

/* What Wan2.2 adds, all of it optional, and what follows from it. The pipeline goes by the two factors. */
static kw_status read_variant(struct kw__json in, struct kw__wan_vae *vae, kw_error *err)
{
    kw_status status = KW_OK;
    vae->patch = 1;
    if (kw__json_has(in, "patch_size")) status = kw__json_int(in, "patch_size", 1, 16, &vae->patch, err);
    if (!status && kw__json_has(in, "is_residual"))
        status = kw__json_bool(in, "is_residual", &vae->residual, err);
    if (status) return status;
    vae->space_factor = vae->patch << (KW__WAN_VAE_LEVELS - 1);
    const struct {
        const char *key;
        int64_t standard, value; /* when it is left out; what the others make it */
    } ints[] = {{"in_channels", 3, 3 * vae->patch * vae->patch},
                {"out_channels", 3, 3 * vae->patch * vae->patch},
                {"scale_factor_spatial", 8, vae->space_factor},
                {"scale_factor_temporal", vae->time_factor, vae->time_factor}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        int64_t value = ints[i].standard;
        if (kw__json_has(in, ints[i].key)) status = kw__json_int(in, ints[i].key, 1, 1 << 16, &value, err);
        if (!status && value != ints[i].value)
            status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                              "%s: \"%s\" must be %" PRId64 " with the rest of the file", in.path,
                              ints[i].key, ints[i].value);
        if (status) return status;
    }
    int64_t given = level_channels(vae, 0);
    for (int i = 0; vae->residual && i < KW__WAN_VAE_LEVELS - 1; i++) {
        if (fill(vae, i) % given)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "%s: \"dim_mult\" must make channels that fill those of the next level", in.path);
        given = level_channels(vae, i);
    }
    return KW_OK;
}

kw_status kw__wan_vae_read(kw_model *model, struct kw__wan_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "vae", "config.json", "AutoencoderKLWan", &root, &in, err);
    if (status) return status;
    struct kw__wan_vae vae = {0};
    status = read_dims(in, &vae, err);
    if (!status) status = read_variant(in, &vae, err);
    if (!status) *out = vae;
    json_decref(root);
    return status;
}

struct vae_builder {
    struct kw__graph *g;
    const struct kw__wan_vae *config;
    enum kw__dtype dtype;
    bool first; /* the variant of the first latent frame */
};

static int64_t channels(const struct vae_builder *b, int x)
{
    return b->g->values[x].dim[1];
}

/* A convolution over all frames alike: kernel (1, k, k), the weight with or without its time axis. */
static int conv_frames(const struct vae_builder *b, int x, const char *name, int64_t out, int64_t k,
                       bool time_axis)
{
    if (!x) return 0;
    int64_t in = channels(b, x);
    int w = time_axis ? kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, in, 1, k, k))
                      : kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, in, k, k));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {(int)k / 2, (int)k / 2}};
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

/* A causal convolution with kernel (3, k, k): two frames of history in a state. */
static int conv_causal(const struct vae_builder *b, int x, const char *name, int64_t out, int64_t k)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    const int64_t *d = g->values[x].dim;
    const char *cache_name = kw__join(b->g, "cache.", name);
    int w = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(out, d[1], 3, k, k));
    int bias = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(out));
    d = g->values[x].dim;
    int cache =
        cache_name ? kw__state(g, cache_name, b->dtype, KW__STEP, KW__DIMS(d[0], d[1], 2, d[3], d[4])) : 0;
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {(int)k / 2, (int)k / 2}, .fresh = b->first};
    int y = KW__OP(g, KW__CONV, &attr, b->dtype, x, w, bias, cache);
    kw__state_next(g, cache, kw__output(g, y, 1));
    return y;
}

static int norm(const struct vae_builder *b, int x, const char *name, bool image)
{
    if (!x) return 0;
    int64_t c = channels(b, x);
    int gamma = image ? kw__parameter(b->g, b->dtype, name, ".gamma", KW__DIMS(c, 1, 1))
                      : kw__parameter(b->g, b->dtype, name, ".gamma", KW__DIMS(c, 1, 1, 1));
    return KW__OP(b->g, KW__CHANNEL_RMSNORM, NULL, b->dtype, x, gamma);
}

static int norm_silu_conv(const struct vae_builder *b, int x, const char *norm_name, const char *conv_name,
                          int64_t out)
{
    if (!norm_name || !conv_name) return 0;
    x = norm(b, x, norm_name, false);
    x = KW__OP(b->g, KW__SILU, NULL, b->dtype, x);
    return conv_causal(b, x, conv_name, out, 3);
}

static int resnet(const struct vae_builder *b, int x, const char *name, int64_t out)
{
    if (!x || !name) return 0;
    int shortcut = x;
    const char *shortcut_name = kw__join(b->g, name, ".conv_shortcut");
    if (shortcut_name && channels(b, x) != out) shortcut = conv_frames(b, x, shortcut_name, out, 1, true);
    int y = norm_silu_conv(b, x, kw__join(b->g, name, ".norm1"), kw__join(b->g, name, ".conv1"), out);
    y = norm_silu_conv(b, y, kw__join(b->g, name, ".norm2"), kw__join(b->g, name, ".conv2"), out);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, y, shortcut);
}

/* Self-attention over the cells of each frame, one head. */
static int attention(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    const char *norm_name = kw__join(b->g, name, ".norm"), *qkv_name = kw__join(b->g, name, ".to_qkv");
    const char *proj_name = kw__join(b->g, name, ".proj");
    if (!norm_name || !qkv_name || !proj_name) return 0;
    int64_t c = channels(b, x);
    struct kw__attr attr = {.parts = 3};
    memcpy(attr.grid, &g->values[x].dim[2], sizeof attr.grid);
    int y = norm(b, x, norm_name, true);
    y = conv_frames(b, y, qkv_name, 3 * c, 1, false);
    int q = KW__OP(g, KW__SPLIT_FRAMES, &attr, b->dtype, y);
    int k = kw__output(g, q, 1), v = kw__output(g, q, 2);
    struct kw__attr one_head = {.heads = 1, .multiplicity = 1, .scale = 1.0 / sqrt((double)c)};
    y = KW__OP(g, KW__ATTENTION, &one_head, b->dtype, q, k, v);
    y = KW__OP(g, KW__JOIN_FRAMES, &attr, b->dtype, y);
    y = conv_frames(b, y, proj_name, c, 1, false);
    return KW__OP(g, KW__ADD, NULL, b->dtype, y, x);
}

static int upsample(const struct vae_builder *b, int x, const char *name, bool time)
{
    if (!x || !name) return 0;
    struct kw__graph *g = b->g;
    int64_t c = channels(b, x), out = b->config->residual ? c : c / 2;
    const char *time_name = kw__join(b->g, name, ".time_conv"),
               *space_name = kw__join(b->g, name, ".resample.1");
    if (!time_name || !space_name) return 0;
    if (time && !b->first) {
        x = conv_causal(b, x, time_name, 2 * c, 1);
        x = KW__OP(g, KW__INTERLEAVE_TIME, NULL, b->dtype, x);
    }
    x = KW__OP(g, KW__UPSAMPLE, NULL, b->dtype, x);
    return conv_frames(b, x, space_name, out, 3, false);
}

/* What a level is given, on its result's grid: each channel repeated until there are as many as frames, rows
 * and columns of the result take. The first latent frame's earlier one is left out. */
static int bypass(const struct vae_builder *b, int x, int level)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    int64_t frames = b->config->time_upsample[level] ? 2 : 1;
    struct kw__attr each = {.axis = 1, .width = fill(b->config, level) / channels(b, x)};
    struct kw__attr unfold = {.patch = {frames, 2, 2}};
    x = KW__OP(g, KW__REPEAT, &each, b->dtype, x);
    x = KW__OP(g, KW__DEPTH_TO_SPACE, &unfold, b->dtype, x);
    struct kw__attr later = {.axis = 2, .start = 1, .width = 1};
    return b->first && frames == 2 ? KW__OP(g, KW__SLICE, &later, b->dtype, x) : x;
}

static int decode_frame(const struct vae_builder *b, int x)
{
    const struct kw__wan_vae *c = b->config;
    struct kw__arena *arena = &b->g->program->arena;
    int64_t top = level_channels(c, 0);
    x = conv_causal(b, x, "decoder.conv_in", top, 3);
    x = resnet(b, x, "decoder.mid_block.resnets.0", top);
    x = attention(b, x, "decoder.mid_block.attentions.0");
    x = resnet(b, x, "decoder.mid_block.resnets.1", top);
    for (int i = 0; i < KW__WAN_VAE_LEVELS; i++) {
        const char *upsampler = c->residual ? "upsampler" : "upsamplers.0";
        int given = x;
        for (int r = 0; r <= c->num_res_blocks; r++)
            x = resnet(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.resnets.%d", i, r),
                       level_channels(c, i));
        if (i == KW__WAN_VAE_LEVELS - 1) break;
        x = upsample(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.%s", i, upsampler),
                     c->time_upsample[i]);
        if (c->residual) x = KW__OP(b->g, KW__ADD, NULL, b->dtype, x, bypass(b, given, i));
    }
    return norm_silu_conv(b, x, "decoder.norm_out", "decoder.conv_out", 3 * c->patch * c->patch);
}

/* Which latent frame an iteration decodes, and where its output frames begin. */
static struct kw__iterations frame_table(struct kw__program *program, int64_t from, int64_t count,
                                         int64_t factor)
{
    static const char *const names[] = {"latent_frame", "output_frame"};
    double *rows = kw__arena_alloc(&program->arena, (size_t)count * 2, sizeof *rows);
    for (int64_t i = 0; rows && i < count; i++) {
        rows[2 * i] = (double)(from + i);
        rows[2 * i + 1] = from + i == 0 ? 0.0 : (double)(1 + (from + i - 1) * factor);
    }
    return (struct kw__iterations){2, names, rows};
}

/* All frames, of patches where the decoder makes those. */
static int clip_state(struct kw__graph *g, const struct kw__wan_vae *c, enum kw__dtype dtype)
{
    const kw_effective *r = &g->program->request;
    return kw__state(g, "clip", dtype, KW__STEP,
                     KW__DIMS(r->batch_size, 3 * c->patch * c->patch, r->num_frames, r->height / c->patch,
                              r->width / c->patch));
}

static int z_state(struct kw__graph *g, const struct kw__wan_vae *c, enum kw__dtype dtype)
{
    const kw_effective *r = &g->program->request;
    return kw__state(g, "z", dtype, KW__REQUEST,
                     KW__DIMS(r->batch_size, c->z_dim, r->latent_frames, r->latent_height, r->latent_width));
}

static void lower_frames(const struct kw__wan_vae *c, struct kw__program *program, struct kw__stage *stage,
                         bool first)
{
    int64_t calls = first ? 1 : program->request.latent_frames - 1;
    struct kw__graph *g =
        kw__stage_phase(program, stage, first ? "first_latent_frame" : "later_latent_frame", calls);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table = frame_table(program, first ? 0 : 1, calls, c->time_factor);
    g->component = "vae_decoder";
    g->tensors = "vae";
    struct vae_builder b = {g, c, program->dtypes.vae, first};
    struct kw__attr take = {.column = 0}, put = {.column = 1};
    int x = KW__OP(g, KW__TAKE_FRAME, &take, b.dtype, z_state(g, c, b.dtype));
    x = decode_frame(&b, x);
    int clip = clip_state(g, c, b.dtype);
    kw__state_next(g, clip, KW__OP(g, KW__PUT_FRAMES, &put, b.dtype, clip, x));
}

void kw__wan_vae_lower(const struct kw__wan_vae *config, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.vae;
    struct kw__stage *stage = kw__program_stage(program, "decode");

    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "vae_decoder";
    g->tensors = "vae";
    struct vae_builder b = {g, config, dtype, true};
    int latents = kw__state(
        g, "latents", KW__F32, KW__REQUEST,
        KW__DIMS(r->batch_size, config->z_dim, r->latent_frames, r->latent_height, r->latent_width));
    struct kw__attr affine = {.constants = {kw__constants(program, config->mean, config->z_dim),
                                            kw__constants(program, config->std, config->z_dim)}};
    int x = KW__OP(g, KW__CHANNEL_AFFINE, &affine, dtype, latents);
    x = conv_frames(&b, x, "post_quant_conv", config->z_dim, 1, true);
    kw__state_next(g, z_state(g, config, dtype), x);

    lower_frames(config, program, stage, true);
    lower_frames(config, program, stage, false);

    g = kw__stage_phase(program, stage, "output", 1);
    if (!g) return;
    g->component = "output";
    g->tensors = "vae";
    struct kw__attr unfold = {.patch = {1, config->patch, config->patch}, .transposed = true};
    x = clip_state(g, config, dtype);
    if (config->patch > 1) x = KW__OP(g, KW__DEPTH_TO_SPACE, &unfold, dtype, x);
    kw__hand_over_frames(g, x);
}
