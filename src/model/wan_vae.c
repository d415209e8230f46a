/* The decoder half of AutoencoderKLWan (diffusers), the causal video VAE of Wan2.1.
 *
 * Latent frames are decoded one by one. Every causal convolution keeps the last two frames it has
 * seen (a state that starts at zero, which is the zero padding of the first call), so the result is
 * that of decoding all frames at once. The first latent frame gives one output frame and skips the
 * temporal upsampling; each later one gives 4, and the history of time_conv starts at zero on the
 * second call: two graph variants serve. Tensors are [B, C, T, H, W].
 *
 * Verified parameter count of the whole class: 126,892,531. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

static kw_status read_dims(struct kw__json in, struct kw__wan_vae *vae, kw_error *err)
{
    enum { LEVELS = KW__WAN_VAE_LEVELS };
    const json_t *down = NULL, *attention = NULL;
    kw_status status;
    (void)((status = kw__json_int(in, "base_dim", 2, 1 << 14, &vae->base_dim, err)) ||
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
    vae->space_factor = 1 << (LEVELS - 1);
    for (int64_t i = 0; i < vae->z_dim; i++)
        if (!(vae->std[i] > 0))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"latents_std\" must be positive", in.path);
    for (int i = 0; i < LEVELS; i++)
        if (vae->base_dim * vae->dim_mult[i] % 2)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"base_dim\" x \"dim_mult\" must be even", in.path);
    return KW_OK;
}

/* Keys of later variants (Wan2.2's) that change the structure: they must be at the value that Wan2.1 has. */
static kw_status check_variant(struct kw__json in, const struct kw__wan_vae *vae, kw_error *err)
{
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"in_channels", 3},
                {"out_channels", 3},
                {"decoder_base_dim", vae->base_dim},
                {"scale_factor_spatial", vae->space_factor},
                {"scale_factor_temporal", vae->time_factor}};
    const json_t *residual = json_object_get(in.object, "is_residual");
    const char *bad = residual && !json_is_null(residual) && !json_is_false(residual) ? "is_residual" : NULL;
    if (kw__json_has(in, "patch_size")) bad = "patch_size";
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        int64_t value = ints[i].value;
        if (!kw__json_has(in, ints[i].key)) continue;
        kw_status status = kw__json_int(in, ints[i].key, 1, 1 << 16, &value, err);
        if (status) return status;
        if (value != ints[i].value) bad = ints[i].key;
    }
    if (!bad) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: \"%s\" is that of another VAE than Wan2.1's, which is the one known", in.path, bad);
}

kw_status kw__wan_vae_read(kw_model *model, struct kw__wan_vae *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "vae", "config.json", "AutoencoderKLWan", &root, &in, err);
    if (status) return status;
    struct kw__wan_vae vae = {0};
    status = read_dims(in, &vae, err);
    if (!status) status = check_variant(in, &vae, err);
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

static const char *join(const struct vae_builder *b, const char *prefix, const char *rest)
{
    return kw__arena_printf(&b->g->program->arena, "%s%s", prefix, rest);
}

static int64_t channels(const struct vae_builder *b, int x)
{
    return b->g->values[x].dim[1];
}

static int parameter(const struct vae_builder *b, const char *name, const char *rest, int ndim,
                     const int64_t *dim)
{
    const char *full = join(b, name, rest);
    return full ? kw__weight(b->g, full, b->dtype, ndim, dim) : 0;
}

/* A convolution over all frames alike: kernel (1, k, k), the weight with or without its time axis. */
static int conv_frames(const struct vae_builder *b, int x, const char *name, int64_t out, int64_t k,
                       bool time_axis)
{
    if (!x) return 0;
    int64_t in = channels(b, x);
    int w = time_axis ? parameter(b, name, ".weight", KW__DIMS(out, in, 1, k, k))
                      : parameter(b, name, ".weight", KW__DIMS(out, in, k, k));
    int bias = parameter(b, name, ".bias", KW__DIMS(out));
    struct kw__attr attr = {.stride = {1, 1, 1}, .pad = {(int)k / 2, (int)k / 2}};
    return KW__OP(b->g, KW__CONV, &attr, b->dtype, x, w, bias);
}

/* A causal convolution with kernel (3, k, k): two frames of history in a state. */
static int conv_causal(const struct vae_builder *b, int x, const char *name, int64_t out, int64_t k)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    const int64_t *d = g->values[x].dim;
    const char *cache_name = join(b, "cache.", name);
    int w = parameter(b, name, ".weight", KW__DIMS(out, d[1], 3, k, k));
    int bias = parameter(b, name, ".bias", KW__DIMS(out));
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
    int gamma = image ? parameter(b, name, ".gamma", KW__DIMS(c, 1, 1))
                      : parameter(b, name, ".gamma", KW__DIMS(c, 1, 1, 1));
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
    const char *shortcut_name = join(b, name, ".conv_shortcut");
    if (shortcut_name && channels(b, x) != out) shortcut = conv_frames(b, x, shortcut_name, out, 1, true);
    int y = norm_silu_conv(b, x, join(b, name, ".norm1"), join(b, name, ".conv1"), out);
    y = norm_silu_conv(b, y, join(b, name, ".norm2"), join(b, name, ".conv2"), out);
    return KW__OP(b->g, KW__ADD, NULL, b->dtype, y, shortcut);
}

/* Self-attention over the cells of each frame, one head. */
static int attention(const struct vae_builder *b, int x, const char *name)
{
    if (!x) return 0;
    struct kw__graph *g = b->g;
    const char *norm_name = join(b, name, ".norm"), *qkv_name = join(b, name, ".to_qkv");
    const char *proj_name = join(b, name, ".proj");
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
    int64_t c = channels(b, x);
    const char *time_name = join(b, name, ".time_conv"), *space_name = join(b, name, ".resample.1");
    if (!time_name || !space_name) return 0;
    if (time && !b->first) {
        x = conv_causal(b, x, time_name, 2 * c, 1);
        x = KW__OP(g, KW__INTERLEAVE_TIME, NULL, b->dtype, x);
    }
    x = KW__OP(g, KW__UPSAMPLE, NULL, b->dtype, x);
    return conv_frames(b, x, space_name, c / 2, 3, false);
}

static int decode_frame(const struct vae_builder *b, int x)
{
    const struct kw__wan_vae *c = b->config;
    struct kw__arena *arena = &b->g->program->arena;
    int64_t top = c->base_dim * c->dim_mult[KW__WAN_VAE_LEVELS - 1];
    x = conv_causal(b, x, "decoder.conv_in", top, 3);
    x = resnet(b, x, "decoder.mid_block.resnets.0", top);
    x = attention(b, x, "decoder.mid_block.attentions.0");
    x = resnet(b, x, "decoder.mid_block.resnets.1", top);
    for (int i = 0; i < KW__WAN_VAE_LEVELS; i++) {
        int64_t out = c->base_dim * c->dim_mult[KW__WAN_VAE_LEVELS - 1 - i];
        for (int r = 0; r <= c->num_res_blocks; r++)
            x = resnet(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.resnets.%d", i, r), out);
        if (i < KW__WAN_VAE_LEVELS - 1)
            x = upsample(b, x, kw__arena_printf(arena, "decoder.up_blocks.%d.upsamplers.0", i),
                         c->time_upsample[i]);
    }
    return norm_silu_conv(b, x, "decoder.norm_out", "decoder.conv_out", 3);
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

static int clip_state(struct kw__graph *g, enum kw__dtype dtype)
{
    const kw_effective *r = &g->program->request;
    return kw__state(g, "clip", dtype, KW__STEP,
                     KW__DIMS(r->batch_size, 3, r->num_frames, r->height, r->width));
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
    int clip = clip_state(g, b.dtype);
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
    struct kw__attr range = {.low = -1.0, .high = 1.0};
    x = KW__OP(g, KW__CLAMP, &range, dtype, clip_state(g, dtype));
    x = KW__OP(g, KW__TO_HOST, NULL, dtype, x);
    x = KW__OP(g, KW__HOST_FRAMES, NULL, KW__F32, x);
    int frames = kw__state(g, "frames", KW__F32, KW__REQUEST,
                           KW__DIMS(r->batch_size, r->num_frames, r->height, r->width, 3));
    kw__state_next(g, frames, x);
}
