/* AnimateDiff text-to-video, AnimateDiff-Lightning among it: diffusers' AnimateDiffPipeline with a
 * UNet2DConditionModel of Stable Diffusion 1.5, a MotionAdapter between its layers (together
 * UNetMotionModel), CLIP's text encoder and AutoencoderKL.
 *
 * Reads top to bottom as the model runs. Everything but the motion modules looks at each frame alone: a clip
 * is a batch of B*T images. A level is `layers` times residual block, attention over the cells of a frame and
 * the text, motion module: attention of a cell over its frames. Each level is half as high and wide as the
 * one before; on the way up what the way down had is joined to the channels. Tensors are [B, C, T, H, W].
 *
 * Verified parameter counts: UNet 859,520,964; motion adapter 453,209,280. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/solvers.h"
#include "model/family.h"

enum { LEVELS = 4, TEXT_TOKENS = 77, MAX_LAYERS = 8 }; /* CLIPTokenizer's model_max_length */
enum { MAX_SKIPS = 1 + LEVELS * (MAX_LAYERS + 1) };
static const double transformer_eps = 1e-6, block_eps = 1e-5; /* of group norms and of layer norms */

struct adiff {
    int64_t channels[LEVELS], layers, groups, heads, text_dim, z;
    bool attends[LEVELS]; /* to the cells of a frame and to the text */
    double eps;
    int64_t motion_heads, motion_frames; /* the second is how many it has positions for */
    bool motion_mid;
    struct kw__betas betas;
    struct kw__clip_text clip;
    struct kw__sd_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "unet", "motion_adapter", "scheduler", "vae"};
    return kw__index_needs(in, sizeof components / sizeof components[0], components, err);
}

/* Keys that say another model where they are not at these values; those that UNetMotionModel does not read
 * are not among them. NULL is absent or null. */
struct fixed {
    const char *key, *text;
};

static const char *differs(struct kw__json in, size_t count, const struct fixed *fixed)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(in.object, fixed[i].key);
        if (!kw__json_has(in, fixed[i].key)) continue; /* the class' default, which each of these is */
        const char *text = json_is_string(value)           ? json_string_value(value)
                           : json_is_boolean(value)        ? (json_is_true(value) ? "true" : "false")
                           : json_number_value(value) == 1 ? "1"
                                                           : "other";
        if (!fixed[i].text || strcmp(text, fixed[i].text) != 0) return fixed[i].key;
    }
    return NULL;
}

static kw_status fail_variant(struct kw__json in, const char *key, kw_error *err)
{
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: \"%s\" is that of another model; AnimateDiff on Stable Diffusion 1 is known",
                    in.path, key);
}

/* Types of the four levels; the way up has those of the way down in reverse. */
static kw_status read_blocks(struct kw__json in, struct adiff *a, kw_error *err)
{
    static const char *const keys[2] = {"down_block_types", "up_block_types"};
    static const char *const types[2][2] = {{"DownBlock2D", "CrossAttnDownBlock2D"},
                                            {"UpBlock2D", "CrossAttnUpBlock2D"}};
    for (int way = 0; way < 2; way++) {
        const json_t *blocks = NULL;
        kw_status status = kw__json_array(in, keys[way], &blocks, err);
        if (status) return status;
        bool known = json_array_size(blocks) == LEVELS;
        for (size_t i = 0; known && i < LEVELS; i++) {
            const char *type = json_string_value(json_array_get(blocks, i));
            size_t level = way ? LEVELS - 1 - i : i;
            bool attends = type && strcmp(type, types[way][1]) == 0;
            known = type && (attends || strcmp(type, types[way][0]) == 0);
            if (way && attends != a->attends[level]) known = false;
            a->attends[level] = attends;
        }
        if (!known) return fail_variant(in, keys[way], err);
    }
    return KW_OK;
}

static kw_status read_unet(kw_model *model, struct adiff *a, kw_error *err)
{
    static const struct fixed fixed[] = {
        {"act_fn", "silu"},
        {"addition_embed_type", NULL},
        {"class_embed_type", NULL},
        {"downsample_padding", "1"},
        {"encoder_hid_dim", NULL},
        {"mid_block_scale_factor", "1"},
        {"mid_block_type", "UNetMidBlock2DCrossAttn"},
        {"num_attention_heads", NULL},
        {"resnet_time_scale_shift", "default"},
        {"time_cond_proj_dim", NULL},
        {"transformer_layers_per_block", "1"},
        {"use_linear_projection", "false"},
    };
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "unet", "config.json", "UNet2DConditionModel", &root, &in, err);
    if (status) return status;
    int64_t out = 0;
    const char *bad = differs(in, sizeof fixed / sizeof fixed[0], fixed);
    (void)((status = bad ? fail_variant(in, bad, err) : KW_OK) || (status = read_blocks(in, a, err)) ||
           (status = kw__json_ints(in, "block_out_channels", LEVELS, 1, 1 << 14, a->channels, err)) ||
           (status = kw__json_int(in, "layers_per_block", 1, MAX_LAYERS, &a->layers, err)) ||
           (status = kw__json_int(in, "norm_num_groups", 1, 1 << 14, &a->groups, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 1, 1 << 12, &a->heads, err)) || /* their number */
           (status = kw__json_int(in, "cross_attention_dim", 1, 1 << 16, &a->text_dim, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__SD_VAE_MAX_Z, &a->z, err)) ||
           (status = kw__json_int(in, "out_channels", 1, KW__SD_VAE_MAX_Z, &out, err)) ||
           (status = kw__json_number(in, "norm_eps", 0, 1, &a->eps, err)));
    if (!status && out != a->z)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"out_channels\" must be \"in_channels\", %" PRId64,
                          in.path, a->z);
    for (int i = 0; !status && i < LEVELS; i++)
        if (a->channels[i] % a->groups || a->channels[i] % a->heads || a->channels[i] % 2)
            status = kw__fail(err, KW_ERROR_FORMAT,
                              "%s: \"block_out_channels\" must be even, and multiples of \"norm_num_groups\" "
                              "and of \"attention_head_dim\", the number of heads",
                              in.path);
    json_decref(root);
    return status;
}

static kw_status read_motion(kw_model *model, struct adiff *a, kw_error *err)
{
    static const struct fixed fixed[] = {{"conv_in_channels", NULL},
                                         {"motion_mid_block_layers_per_block", "1"},
                                         {"motion_transformer_layers_per_block", "1"},
                                         {"motion_transformer_layers_per_mid_block", "1"}};
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "motion_adapter", "config.json", "MotionAdapter", &root, &in, err);
    if (status) return status;
    int64_t channels[LEVELS] = {0}, layers = 0;
    const char *bad = differs(in, sizeof fixed / sizeof fixed[0], fixed);
    (void)((status = bad ? fail_variant(in, bad, err) : KW_OK) ||
           (status = kw__json_ints(in, "block_out_channels", LEVELS, 1, 1 << 14, channels, err)) ||
           (status = kw__json_int(in, "motion_layers_per_block", 1, MAX_LAYERS, &layers, err)) ||
           (status = kw__json_int(in, "motion_num_attention_heads", 1, 1 << 12, &a->motion_heads, err)) ||
           (status = kw__json_int(in, "motion_max_seq_length", 1, 1 << 14, &a->motion_frames, err)) ||
           (status = kw__json_bool(in, "use_motion_mid_block", &a->motion_mid, err)));
    if (!status && (memcmp(channels, a->channels, sizeof channels) != 0 || layers != a->layers))
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"block_out_channels\" and \"motion_layers_per_block\" must be "
                          "unet/config.json's \"block_out_channels\" and \"layers_per_block\"",
                          in.path);
    for (int i = 0; !status && i < LEVELS; i++)
        if (channels[i] % a->motion_heads)
            status = kw__fail(err, KW_ERROR_FORMAT,
                              "%s: \"block_out_channels\" must be multiples of "
                              "\"motion_num_attention_heads\"",
                              in.path);
    json_decref(root);
    return status;
}

static kw_status read_scheduler(kw_model *model, struct adiff *a, kw_error *err)
{
    static const struct fixed fixed[] = {{"final_sigmas_type", "zero"},
                                         {"prediction_type", "epsilon"},
                                         {"rescale_betas_zero_snr", "false"},
                                         {"sigma_max", NULL},
                                         {"sigma_min", NULL},
                                         {"timestep_type", "discrete"},
                                         {"trained_betas", NULL},
                                         {"use_beta_sigmas", "false"},
                                         {"use_exponential_sigmas", "false"},
                                         {"use_karras_sigmas", "false"}};
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "scheduler", "scheduler_config.json",
                                          "EulerDiscreteScheduler", &root, &in, err);
    if (status) return status;
    const char *schedule = NULL, *spacing = NULL;
    struct kw__betas *b = &a->betas;
    (void)((status = kw__json_int(in, "num_train_timesteps", 1, 1000000, &b->num_train, err)) ||
           (status = kw__json_number(in, "beta_start", 1e-9, 0.999, &b->start, err)) ||
           (status = kw__json_number(in, "beta_end", 1e-9, 0.999, &b->end, err)) ||
           (status = kw__json_string(in, "beta_schedule", &schedule, err)) ||
           (status = kw__json_string(in, "timestep_spacing", &spacing, err)));
    const char *bad = differs(in, sizeof fixed / sizeof fixed[0], fixed);
    if (!status) {
        b->scaled = strcmp(schedule, "scaled_linear") == 0;
        if (!b->scaled && strcmp(schedule, "linear") != 0) bad = "beta_schedule";
        if (strcmp(spacing, "trailing") != 0) bad = "timestep_spacing";
    }
    if (!status && bad)
        status =
            kw__fail(err, KW_ERROR_UNSUPPORTED,
                     "%s: \"%s\": only Euler steps with linear or scaled_linear betas, trailing spacing, "
                     "prediction of epsilon and a last sigma of zero are known",
                     in.path, bad);
    json_decref(root);
    return status;
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    struct adiff *a = kw__arena_alloc(&model->arena, 1, sizeof *a);
    if (!a) return kw__fail_memory(err);
    model->config = a;
    kw_status status;
    (void)((status = read_unet(model, a, err)) || (status = read_motion(model, a, err)) ||
           (status = read_scheduler(model, a, err)) ||
           (status = kw__clip_text_read(model, "text_encoder", &a->clip, err)) ||
           (status = kw__sd_vae_read(model, &a->vae, err)));
    if (status) return status;
    if (a->text_dim != a->clip.d)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/unet/config.json: \"cross_attention_dim\" is %" PRId64
                        ", but text_encoder/config.json's \"hidden_size\" is %" PRId64 "; they must agree",
                        model->folder, a->text_dim, a->clip.d);
    if (a->clip.positions < TEXT_TOKENS)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/text_encoder/config.json: \"max_position_embeddings\" must be at least %d, "
                        "the width of a prompt",
                        model->folder, TEXT_TOKENS);
    if (a->z != a->vae.z_dim)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/unet/config.json: \"in_channels\" must be vae/config.json's \"latent_channels\", "
                        "%" PRId64,
                        model->folder, a->vae.z_dim);
    return KW_OK;
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static kw_status check_size(const struct adiff *a, const kw_effective *r, kw_error *err)
{
    double cells = (double)r->tokens, width = 0, pixels = cells * 64, text, decoder = 3;
    for (int i = 0; i < LEVELS; i++) {
        width = fmax(width, (double)a->channels[i] * 8); /* an MLP's, or two blocks' side by side */
        decoder = fmax(decoder, (double)a->vae.channels[i]);
    }
    text = (double)r->num_frames * TEXT_TOKENS * fmax(width, (double)(a->clip.ffn + a->clip.d));
    /* tiles overlap, so that laid side by side they are larger than the clip */
    return kw__check_elements(r, 2 * fmax(fmax(cells * width, text), 4 * pixels * decoder), err);
}

static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct adiff *a = model->config;
    kw_status status = kw__check_multiple("width", r->width, a->vae.space_factor, err);
    if (!status) status = kw__check_multiple("height", r->height, a->vae.space_factor, err);
    if (status) return status;
    if (r->num_frames > a->motion_frames)
        return kw__fail(err, KW_ERROR_USAGE,
                        "num-frames %" PRId64 " is more than the %" PRId64
                        " that the motion modules have positions for; give at most these",
                        r->num_frames, a->motion_frames);
    if (r->num_inference_steps > a->betas.num_train)
        return kw__fail(err, KW_ERROR_USAGE,
                        "num-inference-steps %" PRId64 " is more than the %" PRId64
                        " that the model was trained with; give at most these",
                        r->num_inference_steps, a->betas.num_train);
    if (r->flow_shift > 0)
        return kw__fail(err, KW_ERROR_USAGE,
                        "flow-shift has no meaning for this model, whose solver is Euler on a schedule of "
                        "betas; leave it out");
    r->latent_channels = a->z;
    r->latent_frames = r->num_frames;
    r->latent_height = r->height / a->vae.space_factor;
    r->latent_width = r->width / a->vae.space_factor;
    r->tokens = r->latent_frames * r->latent_height * r->latent_width;
    return check_size(a, r, err);
}

/* ---- Text encoder: once for each prompt, padding and all, one copy for each frame --------------------- */

static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct adiff *a = self;
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    struct kw__attr frames = {.width = r->num_frames};
    (void)length; /* the pipeline gives no mask */
    int hidden = kw__clip_text_encode(g, &a->clip, ids, program->dtypes.text_encoder);
    if (program->dtypes.text_encoder != dtype) hidden = KW__OP(g, KW__CAST, NULL, dtype, hidden);
    hidden = KW__OP(g, KW__REPEAT, &frames, dtype, hidden);
    int text = kw__text_state(g, "text", pass, dtype,
                              KW__DIMS(r->batch_size * r->num_frames, r->text_tokens, a->text_dim));
    kw__state_next(g, text, hidden);
}

/* ---- UNet: one pass ------------------------------------------------------------------------------------ */

struct pass {
    struct kw__graph *g;
    const struct adiff *a;
    enum kw__dtype dtype;
    int temb; /* [B, 1, 4 channels[0]] */
    int text; /* [B T, 77, text_dim] */
};

static const char *block_name(const struct pass *p, const char *way, int block, const char *part, int layer)
{
    return kw__arena_printf(&p->g->program->arena, "%s_blocks.%d.%s.%d", way, block, part, layer);
}

static const int64_t *dims(const struct pass *p, int x)
{
    return p->g->values[x].dim;
}

static int conv(const struct pass *p, int x, const char *name, int64_t out, int kernel, int stride)
{
    if (!x) return 0;
    struct kw__attr attr = {.stride = {1, stride, stride}, .pad = {kernel / 2, kernel / 2}};
    int w = kw__parameter(p->g, p->dtype, name, ".weight", KW__DIMS(out, dims(p, x)[1], kernel, kernel));
    int b = kw__parameter(p->g, p->dtype, name, ".bias", KW__DIMS(out));
    return KW__OP(p->g, KW__CONV, &attr, p->dtype, x, w, b);
}

static int groupnorm(const struct pass *p, int x, const char *name, double eps, bool per_frame)
{
    if (!x) return 0;
    struct kw__attr attr = {.groups = p->a->groups, .eps = eps, .per_frame = per_frame};
    int gamma = kw__parameter(p->g, p->dtype, name, ".weight", KW__DIMS(dims(p, x)[1]));
    int beta = kw__parameter(p->g, p->dtype, name, ".bias", KW__DIMS(dims(p, x)[1]));
    return KW__OP(p->g, KW__GROUPNORM, &attr, p->dtype, x, gamma, beta);
}

static int layernorm(const struct pass *p, int x, const char *name)
{
    if (!x) return 0;
    int64_t width = kw__last_dim(&p->g->values[x]);
    struct kw__attr attr = {.eps = block_eps};
    int gamma = kw__parameter(p->g, p->dtype, name, ".weight", KW__DIMS(width));
    int beta = kw__parameter(p->g, p->dtype, name, ".bias", KW__DIMS(width));
    return KW__OP(p->g, KW__LAYERNORM, &attr, p->dtype, x, gamma, beta);
}

static int linear(const struct pass *p, int x, const char *name, int64_t n, bool bias)
{
    return kw__linear(p->g, x, name, n, bias, p->dtype, p->dtype);
}

static int add(const struct pass *p, int a, int b)
{
    return KW__OP(p->g, KW__ADD, NULL, p->dtype, a, b);
}

/* All frames are at one timestep. */
static int time_embedding(const struct pass *p, int timestep)
{
    p->g->component = "time_embedding";
    int64_t width = 4 * p->a->channels[0];
    struct kw__attr attr = {.width = p->a->channels[0]};
    int x = KW__OP(p->g, KW__SINUSOID, &attr, KW__F32, timestep);
    x = KW__OP(p->g, KW__CAST, NULL, p->dtype, x);
    x = linear(p, x, "time_embedding.linear_1", width, true);
    x = KW__OP(p->g, KW__SILU, NULL, p->dtype, x);
    return linear(p, x, "time_embedding.linear_2", width, true);
}

/* x + conv(silu(norm(conv(silu(norm(x))) + time))) */
static int resnet(const struct pass *p, int x, const char *name, int64_t out)
{
    if (!x) return 0;
    struct kw__graph *g = p->g;
    struct kw__attr shift = {.row = 0, .row2 = -1};
    g->component = "resnet";
    int y = groupnorm(p, x, kw__join(p->g, name, ".norm1"), p->a->eps, true);
    y = KW__OP(g, KW__SILU, NULL, p->dtype, y);
    y = conv(p, y, kw__join(p->g, name, ".conv1"), out, 3, 1);
    int time = KW__OP(g, KW__SILU, NULL, p->dtype, p->temb);
    time = linear(p, time, kw__join(p->g, name, ".time_emb_proj"), out, true);
    y = KW__OP(g, KW__MODULATE, &shift, p->dtype, y, time);
    y = groupnorm(p, y, kw__join(p->g, name, ".norm2"), p->a->eps, true);
    y = KW__OP(g, KW__SILU, NULL, p->dtype, y);
    y = conv(p, y, kw__join(p->g, name, ".conv2"), out, 3, 1);
    if (dims(p, x)[1] != out) x = conv(p, x, kw__join(p->g, name, ".conv_shortcut"), out, 1, 1);
    return add(p, x, y);
}

/* x plus the attention of norm(x) (and its positions) to itself or to the text. */
static int attend(const struct pass *p, int x, const char *block, int which, int64_t heads, int positions,
                  int text)
{
    if (!x) return 0;
    struct kw__graph *g = p->g;
    int64_t c = kw__last_dim(&g->values[x]);
    const char *name = kw__join(p->g, block, which == 1 ? ".attn1" : ".attn2");
    struct kw__attr attr = {.heads = heads, .multiplicity = 1, .scale = 1.0 / sqrt((double)(c / heads))};
    int y = layernorm(p, x, kw__join(p->g, block, which == 1 ? ".norm1" : ".norm2"));
    if (positions) y = KW__OP(g, KW__ADD_ROWS, NULL, p->dtype, y, positions);
    int q = linear(p, y, kw__join(p->g, name, ".to_q"), c, false);
    int k = linear(p, text ? text : y, kw__join(p->g, name, ".to_k"), c, false);
    int v = linear(p, text ? text : y, kw__join(p->g, name, ".to_v"), c, false);
    y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v);
    return add(p, linear(p, y, kw__join(p->g, name, ".to_out.0"), c, true), x);
}

static int mlp(const struct pass *p, int x, const char *block)
{
    if (!x) return 0;
    int64_t c = kw__last_dim(&p->g->values[x]);
    struct kw__attr gelu = {.activation = KW__ACT_GELU_ERF};
    int y = layernorm(p, x, kw__join(p->g, block, ".norm3"));
    y = linear(p, y, kw__join(p->g, block, ".ff.net.0.proj"), 8 * c, true);
    y = KW__OP(p->g, KW__GLU, &gelu, p->dtype, y);
    return add(p, linear(p, y, kw__join(p->g, block, ".ff.net.2"), c, true), x);
}

/* Over the cells of each frame, and to the text. */
static int spatial_transformer(const struct pass *p, int x, const char *name)
{
    const char *block = kw__join(p->g, name, ".transformer_blocks.0");
    if (!x) return 0;
    struct kw__graph *g = p->g;
    int64_t c = dims(p, x)[1];
    struct kw__attr frames = {.parts = 1};
    memcpy(frames.grid, &dims(p, x)[2], sizeof frames.grid);
    g->component = "self_attention";
    int y = groupnorm(p, x, kw__join(p->g, name, ".norm"), transformer_eps, true);
    y = conv(p, y, kw__join(p->g, name, ".proj_in"), c, 1, 1);
    y = KW__OP(g, KW__SPLIT_FRAMES, &frames, p->dtype, y);
    y = attend(p, y, block, 1, p->a->heads, 0, 0);
    g->component = "cross_attention";
    y = attend(p, y, block, 2, p->a->heads, 0, p->text);
    g->component = "mlp";
    y = mlp(p, y, block);
    y = KW__OP(g, KW__JOIN_FRAMES, &frames, p->dtype, y);
    return add(p, conv(p, y, kw__join(p->g, name, ".proj_out"), c, 1, 1), x);
}

/* Of each cell over its frames, which have fixed sines and cosines of their place: twice to itself. */
static int motion_module(const struct pass *p, int x, const char *name)
{
    const char *block = kw__join(p->g, name, ".transformer_blocks.0");
    if (!x) return 0;
    struct kw__graph *g = p->g;
    int64_t c = dims(p, x)[1];
    struct kw__attr place = {.theta = 1e4, .layout = KW__SIN_COS}, tracks = {.grid = {0}};
    memcpy(tracks.grid, &dims(p, x)[2], sizeof tracks.grid);
    place.axes[0] = c;
    place.grid[0] = tracks.grid[0];
    place.grid[1] = place.grid[2] = 1;
    g->component = "motion";
    g->tensors = "motion_adapter";
    int positions = kw__op(g, KW__ROPE_TABLE, &place, KW__F32, 0, NULL);
    if (p->dtype != KW__F32) positions = KW__OP(g, KW__CAST, NULL, p->dtype, positions);
    int y = groupnorm(p, x, kw__join(p->g, name, ".norm"), transformer_eps, false);
    y = KW__OP(g, KW__TO_TRACKS, NULL, p->dtype, y);
    y = linear(p, y, kw__join(p->g, name, ".proj_in"), c, true);
    y = attend(p, y, block, 1, p->a->motion_heads, positions, 0);
    y = attend(p, y, block, 2, p->a->motion_heads, positions, 0);
    y = mlp(p, y, block);
    y = linear(p, y, kw__join(p->g, name, ".proj_out"), c, true);
    y = KW__OP(g, KW__JOIN_TRACKS, &tracks, p->dtype, y);
    g->tensors = "unet";
    return add(p, y, x);
}

static int layer(const struct pass *p, int x, const char *way, int block, int index, int level)
{
    int64_t c = p->a->channels[level];
    x = resnet(p, x, block_name(p, way, block, "resnets", index), c);
    if (p->a->attends[level]) x = spatial_transformer(p, x, block_name(p, way, block, "attentions", index));
    return motion_module(p, x, block_name(p, way, block, "motion_modules", index));
}

static int middle(const struct pass *p, int x)
{
    int64_t c = p->a->channels[LEVELS - 1];
    x = resnet(p, x, "mid_block.resnets.0", c);
    x = spatial_transformer(p, x, "mid_block.attentions.0");
    if (p->a->motion_mid) x = motion_module(p, x, "mid_block.motion_modules.0");
    return resnet(p, x, "mid_block.resnets.1", c);
}

/* Twice as high and wide, or as the level above is, which had a row or column more than half of it. */
static int upsample(const struct pass *p, int x, int like, const char *name)
{
    if (!x || !like) return 0;
    const int64_t *from = dims(p, x), *to = dims(p, like);
    struct kw__attr size = {.grid = {from[2], to[3], to[4]}};
    p->g->component = "resample";
    x = to[3] == 2 * from[3] && to[4] == 2 * from[4] ? KW__OP(p->g, KW__UPSAMPLE, NULL, p->dtype, x)
                                                     : KW__OP(p->g, KW__RESIZE, &size, p->dtype, x);
    return x ? conv(p, x, name, dims(p, x)[1], 3, 1) : 0;
}

/* x[B,C,T,h,w] -> the noise in it, of the same shape */
static int unet(const void *self, struct kw__graph *g, int x, int timestep, const int *texts)
{
    const struct adiff *a = self;
    struct pass pass = {.g = g, .a = a, .dtype = g->program->dtypes.denoiser, .text = texts[0]};
    const struct pass *p = &pass;
    struct kw__attr channels = {.axis = 1};
    int skips[MAX_SKIPS], count = 0;
    g->tensors = "unet";
    pass.temb = time_embedding(p, timestep);
    g->component = "resample";
    x = skips[count++] = conv(p, x, "conv_in", a->channels[0], 3, 1);
    for (int level = 0; level < LEVELS; level++) {
        for (int i = 0; i < a->layers; i++) x = skips[count++] = layer(p, x, "down", level, i, level);
        if (level == LEVELS - 1) break;
        g->component = "resample";
        const char *name = block_name(p, "down", level, "downsamplers", 0);
        x = skips[count++] = conv(p, x, kw__join(p->g, name, ".conv"), a->channels[level], 3, 2);
    }
    x = middle(p, x);
    for (int block = 0; block < LEVELS; block++) {
        for (int i = 0; i <= a->layers; i++) {
            g->component = "resnet";
            x = KW__OP(g, KW__CONCAT, &channels, p->dtype, x, skips[--count]);
            x = layer(p, x, "up", block, i, LEVELS - 1 - block);
        }
        if (block == LEVELS - 1) break;
        const char *name = block_name(p, "up", block, "upsamplers", 0);
        x = upsample(p, x, skips[count - 1], kw__join(p->g, name, ".conv"));
    }
    g->component = "head";
    x = groupnorm(p, x, "conv_norm_out", a->eps, true);
    x = KW__OP(g, KW__SILU, NULL, p->dtype, x);
    return conv(p, x, "conv_out", a->z, 3, 1);
}

/* ---- Denoise: the noise at its first deviation, then the unit is one step ------------------------------ */

enum { COLUMN_GUIDANCE = KW__STEP_COLUMNS, COLUMNS = COLUMN_GUIDANCE + 2 };

static struct kw__iterations step_table(const struct adiff *a, struct kw__program *program)
{
    static const char *const names[COLUMNS] = {"timestep", "sigma",      "scale",       "step_x",
                                               "step_v",   "guide_cond", "guide_uncond"};
    const kw_effective *r = &program->request;
    double *rows = kw__arena_alloc(&program->arena, (size_t)r->num_inference_steps * COLUMNS, sizeof *rows);
    if (!rows) return (struct kw__iterations){0, NULL, NULL};
    kw__euler_table(&a->betas, r->num_inference_steps, COLUMNS, rows);
    for (int64_t i = 0; i < r->num_inference_steps; i++)
        kw__guidance_weights(r, rows + i * COLUMNS + COLUMN_GUIDANCE);
    return (struct kw__iterations){COLUMNS, names, rows};
}

static int latents_state(struct kw__graph *g)
{
    const kw_effective *r = &g->program->request;
    return kw__state(
        g, "latents", g->program->dtypes.denoiser, KW__STEP,
        KW__DIMS(r->batch_size, r->latent_channels, r->latent_frames, r->latent_height, r->latent_width));
}

static void lower_denoise(const struct adiff *a, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    struct kw__iterations table = step_table(a, program);
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "noise", 1);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table = table;
    g->component = "solver";
    struct kw__attr deviation = {.column = KW__STEP_SIGMA}, scale = {.column = KW__STEP_SCALE};
    int x = latents_state(g);
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &deviation, dtype, x));

    g = kw__stage_phase(program, stage, "step", r->num_inference_steps);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table = table;
    g->component = "solver";
    x = latents_state(g);
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));
    const struct kw__guidance guidance = {
        .forward = unet,
        .self = a,
        .batched = true,
        .num_texts = 1,
        .texts = {{"text", dtype, 3, {r->batch_size * r->num_frames, r->text_tokens, a->text_dim}}},
        .dtype = dtype,
        .column = COLUMN_GUIDANCE};
    int noise = kw__guide(g, &guidance, KW__OP(g, KW__LINCOMB, &scale, dtype, x), timestep);
    struct kw__attr step = {.column = KW__STEP_X};
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &step, dtype, x, noise));
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct adiff *a = model->config;
    kw__text_stage(program, "text_encode", encode, a);
    lower_denoise(a, program);
    kw__sd_vae_lower(&a->vae, program);
}

/* Defaults: AnimateDiffPipeline.__call__ of diffusers 0.34 on the published configs. 10 fps: export_to_gif's.
 * The token counts, which change nothing as no mask is given, are an assumption: a prompt of about 20 words,
 * and the empty negative prompt, which is beginning and end alone. */
const struct kw__family kw__animatediff_family = {
    .pipeline = "AnimateDiffPipeline",
    .defaults = {.width = 512,
                 .height = 512,
                 .num_frames = 16,
                 .num_inference_steps = 50,
                 .text_tokens = TEXT_TOKENS,
                 .prompt_tokens = 30,
                 .negative_tokens = 2,
                 .guidance_scale = 7.5,
                 .fps = 10.0},
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
