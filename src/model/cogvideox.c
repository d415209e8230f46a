/* CogVideoX text-to-video (2b and 5b): diffusers' CogVideoXPipeline with CogVideoXTransformer3DModel, T5 and
 * AutoencoderKLCogVideoX.
 *
 * Reads top to bottom as the model runs. Text and video are one sequence for attention and MLP, the text
 * first, and two for everything else. L = T (H/16) (W/16) video tokens of d = heads x head_dim channels.
 * Verified parameter counts: 2b 1,693,783,872; 5b 5,570,283,072. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/solvers.h"
#include "model/family.h"

enum { TEXT_TOKENS = 226 }; /* max_sequence_length of the pipeline's __call__ */

struct cog {
    int64_t heads, head_dim, layers, text_dim, time_dim, in_channels, out_channels, patch;
    int64_t d;                           /* heads * head_dim */
    int64_t sample_size[2];              /* height, width of the latents that it was trained on */
    double eps, space_scale, time_scale; /* of the fixed positions */
    bool rotary, bias;
    struct kw__betas betas;
    double snr_shift;
    struct kw__t5 t5;
    struct kw__cog_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "transformer", "scheduler", "vae"};
    return kw__index_needs(in, sizeof components / sizeof components[0], components, err);
}

/* Keys that change the structure where they are not at these values: CogVideoX 1.5, image-to-video. */
static kw_status check_variant(struct kw__json in, kw_error *err)
{
    static const char *const absent[] = {"patch_size_t", "ofs_embed_dim"};
    static const struct {
        const char *key;
        bool value;
    } flags[] = {{"flip_sin_to_cos", true},
                 {"norm_elementwise_affine", true},
                 {"patch_bias", true},
                 {"use_learned_positional_embeddings", false}};
    const char *bad = NULL, *activation = NULL, *time_activation = NULL;
    int64_t tokens = 0, shift = 0;
    kw_status status;
    (void)((status = kw__json_string(in, "activation_fn", &activation, err)) ||
           (status = kw__json_string(in, "timestep_activation_fn", &time_activation, err)) ||
           (status = kw__json_int(in, "freq_shift", 0, 1, &shift, err)) ||
           (status = kw__json_int(in, "max_text_seq_length", 1, 1 << 16, &tokens, err)));
    if (status) return status;
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (kw__json_has(in, absent[i])) bad = absent[i];
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        bool value = flags[i].value;
        if (kw__json_has(in, flags[i].key)) status = kw__json_bool(in, flags[i].key, &value, err);
        if (status) return status;
        if (value != flags[i].value) bad = flags[i].key;
    }
    if (strcmp(activation, "gelu-approximate") != 0) bad = "activation_fn";
    if (strcmp(time_activation, "silu") != 0) bad = "timestep_activation_fn";
    if (shift != 0) bad = "freq_shift";
    if (tokens != TEXT_TOKENS) bad = "max_text_seq_length"; /* that of the pipeline's call must be it */
    if (!bad) return KW_OK;
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "%s: \"%s\" is that of another model; CogVideoX 2b and 5b text-to-video are known",
                    in.path, bad);
}

static kw_status read_transformer(kw_model *model, struct cog *cog, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "transformer", "config.json", "CogVideoXTransformer3DModel",
                                          &root, &in, err);
    if (status) return status;
    (void)((status = check_variant(in, err)) ||
           (status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &cog->heads, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 2, 1 << 12, &cog->head_dim, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &cog->layers, err)) ||
           (status = kw__json_int(in, "text_embed_dim", 1, 1 << 16, &cog->text_dim, err)) ||
           (status = kw__json_int(in, "time_embed_dim", 1, 1 << 16, &cog->time_dim, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__COG_VAE_MAX_Z, &cog->in_channels, err)) ||
           (status = kw__json_int(in, "out_channels", 1, KW__COG_VAE_MAX_Z, &cog->out_channels, err)) ||
           (status = kw__json_int(in, "patch_size", 1, 16, &cog->patch, err)) ||
           (status = kw__json_int(in, "sample_height", 1, 1 << 14, &cog->sample_size[0], err)) ||
           (status = kw__json_int(in, "sample_width", 1, 1 << 14, &cog->sample_size[1], err)) ||
           (status = kw__json_number(in, "norm_eps", 0, 1, &cog->eps, err)) ||
           (status = kw__json_number(in, "spatial_interpolation_scale", 1e-3, 1e3, &cog->space_scale, err)) ||
           (status = kw__json_number(in, "temporal_interpolation_scale", 1e-3, 1e3, &cog->time_scale, err)) ||
           (status = kw__json_bool(in, "attention_bias", &cog->bias, err)) ||
           (status = kw__json_bool(in, "use_rotary_positional_embeddings", &cog->rotary, err)));
    cog->d = cog->heads * cog->head_dim;
    if (!status && cog->d > 1 << 16)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"num_attention_heads\" x \"attention_head_dim\" is %" PRId64
                          "; it must be at most 65536",
                          in.path, cog->d);
    if (!status && (cog->rotary ? cog->head_dim : cog->d) % 16) /* a quarter for time, 3/8 for each side */
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: %s must be a multiple of 16", in.path,
                          cog->rotary ? "\"attention_head_dim\""
                                      : "\"num_attention_heads\" x \"attention_head_dim\"");
    if (!status && (cog->sample_size[0] < cog->patch || cog->sample_size[1] < cog->patch))
        status =
            kw__fail(err, KW_ERROR_FORMAT,
                     "%s: \"sample_height\" and \"sample_width\" must be at least \"patch_size\"", in.path);
    json_decref(root);
    return status;
}

static kw_status read_scheduler(kw_model *model, struct cog *cog, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "scheduler", "scheduler_config.json",
                                          "CogVideoXDDIMScheduler", &root, &in, err);
    if (status) return status;
    bool clip = false, one = false, zero_snr = false;
    const char *schedule = NULL, *prediction = NULL, *spacing = NULL;
    struct kw__betas *b = &cog->betas;
    (void)((status = kw__json_int(in, "num_train_timesteps", 1, 1000000, &b->num_train, err)) ||
           (status = kw__json_number(in, "beta_start", 1e-9, 0.999, &b->start, err)) ||
           (status = kw__json_number(in, "beta_end", 1e-9, 0.999, &b->end, err)) ||
           (status = kw__json_number(in, "snr_shift_scale", 1e-3, 1e3, &cog->snr_shift, err)) ||
           (status = kw__json_bool(in, "clip_sample", &clip, err)) ||
           (status = kw__json_bool(in, "set_alpha_to_one", &one, err)) ||
           (status = kw__json_bool(in, "rescale_betas_zero_snr", &zero_snr, err)) ||
           (status = kw__json_string(in, "beta_schedule", &schedule, err)) ||
           (status = kw__json_string(in, "prediction_type", &prediction, err)) ||
           (status = kw__json_string(in, "timestep_spacing", &spacing, err)));
    if (!status && (clip || !one || !zero_snr || strcmp(schedule, "scaled_linear") != 0 ||
                    strcmp(prediction, "v_prediction") != 0 || strcmp(spacing, "trailing") != 0 ||
                    kw__json_has(in, "trained_betas")))
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: only DDIM with scaled_linear betas, v_prediction, trailing spacing, "
                          "rescale_betas_zero_snr, set_alpha_to_one and no clip_sample is known",
                          in.path);
    b->scaled = true;
    json_decref(root);
    return status;
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    struct cog *cog = kw__arena_alloc(&model->arena, 1, sizeof *cog);
    if (!cog) return kw__fail_memory(err);
    model->config = cog;
    kw_status status;
    (void)((status = read_transformer(model, cog, err)) || (status = read_scheduler(model, cog, err)) ||
           (status = kw__t5_read(model, &cog->t5, err)) ||
           (status = kw__cog_vae_read(model, &cog->vae, err)));
    if (status) return status;
    if (cog->text_dim != cog->t5.d_model)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/transformer/config.json: \"text_embed_dim\" is %" PRId64
                        ", but text_encoder/config.json's \"d_model\" is %" PRId64 "; they must agree",
                        model->folder, cog->text_dim, cog->t5.d_model);
    if (cog->in_channels != cog->vae.z_dim || cog->out_channels != cog->vae.z_dim)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s/transformer/config.json: \"in_channels\" and \"out_channels\" must be vae/config.json's "
            "\"latent_channels\", %" PRId64,
            model->folder, cog->vae.z_dim);
    return KW_OK;
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static kw_status check_size(const struct cog *cog, const kw_effective *r, kw_error *err)
{
    double rows = 2 * (double)(r->tokens + r->text_tokens), width = 6.0 * (double)cog->d, channels = 3;
    for (int i = 0; i < KW__COG_VAE_LEVELS; i++) channels = fmax(channels, (double)cog->vae.channels[i]);
    double frames = fmax((double)r->num_frames, 3 * (double)cog->vae.time_factor);
    double pixels = (double)r->width * (double)r->height * 4; /* overlapping tiles side by side */
    double text = (double)(r->text_tokens * r->text_tokens) * (double)(cog->t5.heads + cog->t5.d_ff);
    double chunk = 3 * (double)cog->vae.time_factor;
    return kw__check_elements(r, fmax(fmax(rows * width, text), pixels * fmax(3 * frames, channels * chunk)),
                              err);
}

static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct cog *cog = model->config;
    int64_t space = cog->vae.space_factor;
    /* It asks for multiples of 8, but patches of 2 cells lose a row of what is left over, and its solver
     * then fails. */
    kw_status status = kw__check_multiple("width", r->width, space * cog->patch, err);
    if (!status) status = kw__check_multiple("height", r->height, space * cog->patch, err);
    if (status) return status;
    if (r->num_inference_steps > cog->betas.num_train)
        return kw__fail(err, KW_ERROR_USAGE,
                        "num-inference-steps %" PRId64 " is more than the %" PRId64
                        " that the model was trained with; give at most these",
                        r->num_inference_steps, cog->betas.num_train);
    if (r->flow_shift > 0)
        return kw__fail(err, KW_ERROR_USAGE,
                        "flow-shift has no meaning for this model, whose solver is DDIM; leave it out");
    r->latent_channels = cog->vae.z_dim;
    r->latent_frames = (r->num_frames - 1) / cog->vae.time_factor + 1;
    r->num_frames = kw__cog_vae_frames(&cog->vae, r->latent_frames);
    r->latent_height = r->height / space;
    r->latent_width = r->width / space;
    r->tokens = r->latent_frames * (r->latent_height / cog->patch) * (r->latent_width / cog->patch);
    return check_size(cog, r, err);
}

/* ---- Text encoder: once for each prompt, padding and all -------------------------------------------- */

static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct cog *cog = self;
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    (void)length; /* the pipeline gives no mask */
    int hidden = kw__t5_encode(g, &cog->t5, ids, 0, program->dtypes.text_encoder);
    if (program->dtypes.text_encoder != program->dtypes.denoiser)
        hidden = KW__OP(g, KW__CAST, NULL, program->dtypes.denoiser, hidden);
    int text = kw__text_state(g, "text", pass, program->dtypes.denoiser,
                              KW__DIMS(r->batch_size, r->text_tokens, cog->text_dim));
    kw__state_next(g, text, hidden);
}

/* ---- Transformer: one pass -------------------------------------------------------------------------- */

struct pass {
    struct kw__graph *g;
    const struct cog *cog;
    enum kw__dtype dtype;
    int64_t grid[3];     /* video tokens: frames, rows, columns */
    int64_t text, video; /* rows of the two streams */
    int rope;            /* [video, head_dim], 0: none */
    int temb;            /* [B, 1, time_dim] */
    int block;
};

static const char *block_name(const struct pass *p, const char *rest)
{
    return kw__arena_printf(&p->g->program->arena, "transformer_blocks.%d.%s", p->block, rest);
}

static int linear(const struct pass *p, int x, const char *name, int64_t n)
{
    return kw__linear(p->g, x, name, n, true, p->dtype, p->dtype);
}

static int layernorm(const struct pass *p, int x, const char *name, int64_t width, int64_t heads, double eps)
{
    const char *weight = kw__join(p->g, name, ".weight"), *bias = kw__join(p->g, name, ".bias");
    if (!weight || !bias) return 0;
    struct kw__attr attr = {.eps = eps, .heads = heads};
    int gamma = kw__weight(p->g, weight, p->dtype, KW__DIMS(width));
    int beta = kw__weight(p->g, bias, p->dtype, KW__DIMS(width));
    return KW__OP(p->g, KW__LAYERNORM, &attr, p->dtype, x, gamma, beta);
}

static int modulate(const struct pass *p, int x, int table, int row)
{
    struct kw__attr attr = {.row = row, .row2 = row + 1};
    return KW__OP(p->g, KW__MODULATE, &attr, p->dtype, x, table);
}

static int time_embedding(const struct pass *p, int timestep)
{
    p->g->component = "time_embedding";
    struct kw__attr attr = {.width = p->cog->d};
    int x = KW__OP(p->g, KW__SINUSOID, &attr, KW__F32, timestep);
    x = KW__OP(p->g, KW__CAST, NULL, p->dtype, x);
    x = linear(p, x, "time_embedding.linear_1", p->cog->time_dim);
    x = KW__OP(p->g, KW__SILU, NULL, p->dtype, x);
    return linear(p, x, "time_embedding.linear_2", p->cog->time_dim);
}

/* `rows` rows of the width d, side by side, from the time embedding. */
static int time_table(const struct pass *p, const char *name, int64_t rows)
{
    p->g->component = "time_embedding";
    int x = KW__OP(p->g, KW__SILU, NULL, p->dtype, p->temb);
    return linear(p, x, name, rows * p->cog->d);
}

/* Places i / scale. */
static const double *scaled_places(const struct pass *p, int64_t count, double scale)
{
    double *at = kw__arena_alloc(&p->g->program->arena, (size_t)count, sizeof *at);
    for (int64_t i = 0; at && i < count; i++) at[i] = (double)i / scale;
    return at;
}

/* Fixed sines and cosines of time, column and row, in this order of channels. */
static int fixed_positions(const struct pass *p)
{
    const struct cog *cog = p->cog;
    int64_t quarter = cog->d / 4, side = 3 * cog->d / 8;
    struct kw__attr first = {.grid = {p->grid[0], p->grid[1], p->grid[2]},
                             .axes = {quarter, 0, side},
                             .theta = 1e4,
                             .layout = KW__SINES_COSINES};
    first.positions[0] = scaled_places(p, p->grid[0], cog->time_scale);
    first.positions[1] = scaled_places(p, p->grid[1], cog->space_scale);
    first.positions[2] = scaled_places(p, p->grid[2], cog->space_scale);
    struct kw__attr second = first, channels = {.axis = 1};
    second.axes[0] = second.axes[2] = 0;
    second.axes[1] = side;
    int a = kw__op(p->g, KW__ROPE_TABLE, &first, KW__F32, 0, NULL);
    int b = kw__op(p->g, KW__ROPE_TABLE, &second, KW__F32, 0, NULL);
    int table = KW__OP(p->g, KW__CONCAT, &channels, KW__F32, a, b);
    return KW__OP(p->g, KW__CAST, NULL, p->dtype, table);
}

/* Rows (or columns) of another size are spread over the part of the training size that has their aspect
 * ratio: `count` places from start on, as many apart as fit before stop (np.linspace without its end). */
static const double *spread(const struct pass *p, int64_t count, double start, double stop)
{
    double *at = kw__arena_alloc(&p->g->program->arena, (size_t)count, sizeof *at);
    double last = stop * (double)(count - 1) / (double)count;
    for (int64_t i = 0; at && i < count; i++)
        at[i] = count > 1 ? start + (last - start) * (double)i / (double)(count - 1) : start;
    return at;
}

static int rotary_positions(const struct pass *p)
{
    const struct cog *cog = p->cog;
    double base[2], size[2], h = (double)p->grid[1], w = (double)p->grid[2];
    for (int i = 0; i < 2; i++) base[i] = size[i] = (double)(cog->sample_size[i] / cog->patch);
    if (h / w > base[0] / base[1])
        size[1] = nearbyint(base[0] / h * w);
    else
        size[0] = nearbyint(base[1] / w * h);
    struct kw__attr table = {.grid = {p->grid[0], p->grid[1], p->grid[2]}, .theta = 1e4};
    table.axes[0] = cog->head_dim / 4;
    table.axes[1] = table.axes[2] = cog->head_dim / 8 * 3;
    for (int i = 0; i < 2; i++) {
        double start = nearbyint((base[i] - size[i]) / 2);
        table.positions[1 + i] = spread(p, p->grid[1 + i], start, start + size[i]);
    }
    return kw__op(p->g, KW__ROPE_TABLE, &table, KW__F32, 0, NULL);
}

static int patches(const struct pass *p, int latents)
{
    const struct cog *cog = p->cog;
    p->g->component = "patch_embedding";
    int stride = (int)cog->patch;
    struct kw__attr attr = {.stride = {1, stride, stride}};
    int w = kw__weight(p->g, "patch_embed.proj.weight", p->dtype,
                       KW__DIMS(cog->d, cog->in_channels, cog->patch, cog->patch));
    int b = kw__weight(p->g, "patch_embed.proj.bias", p->dtype, KW__DIMS(cog->d));
    int x = KW__OP(p->g, KW__CONV, &attr, p->dtype, latents, w, b);
    x = KW__OP(p->g, KW__TO_TOKENS, NULL, p->dtype, x);
    return cog->rotary ? x : KW__OP(p->g, KW__ADD_ROWS, NULL, p->dtype, x, fixed_positions(p));
}

static int both_streams(const struct pass *p, int text, int video)
{
    struct kw__attr rows = {.axis = 1};
    return KW__OP(p->g, KW__CONCAT, &rows, p->dtype, text, video);
}

/* The streams, each plus its rows of y times its gate, row 2 for the video and 5 for the text. */
static void gate_streams(const struct pass *p, int y, int table, int *text, int *video)
{
    struct kw__attr upper = {.axis = 1, .start = 0, .width = p->text}, gate = {.row = 5};
    struct kw__attr lower = {.axis = 1, .start = p->text, .width = p->video};
    *text = KW__OP(p->g, KW__GATE_ADD, &gate, p->dtype, *text, KW__OP(p->g, KW__SLICE, &upper, p->dtype, y),
                   table);
    gate.row = 2;
    *video = KW__OP(p->g, KW__GATE_ADD, &gate, p->dtype, *video, KW__OP(p->g, KW__SLICE, &lower, p->dtype, y),
                    table);
}

/* One sequence of both, each normed and modulated by its own rows of the table. */
static int norm_streams(const struct pass *p, const char *name, int table, int text, int video)
{
    const char *norm = kw__join(p->g, name, ".norm");
    video = modulate(p, layernorm(p, video, norm, p->cog->d, 1, p->cog->eps), table, 0);
    text = modulate(p, layernorm(p, text, norm, p->cog->d, 1, p->cog->eps), table, 3);
    return both_streams(p, text, video);
}

static int query_key(const struct pass *p, int x, const char *linear_name, const char *norm_name)
{
    const struct cog *cog = p->cog;
    const char *name = block_name(p, linear_name);
    x = name ? kw__linear(p->g, x, name, cog->d, cog->bias, p->dtype, p->dtype) : 0;
    x = layernorm(p, x, block_name(p, norm_name), cog->head_dim, cog->heads, 1e-6);
    struct kw__attr video = {.prefix = p->text};
    return p->rope ? KW__OP(p->g, KW__ROPE, &video, p->dtype, x, p->rope) : x;
}

static void attention(const struct pass *p, int *text, int *video)
{
    const struct cog *cog = p->cog;
    struct kw__graph *g = p->g;
    int table = time_table(p, block_name(p, "norm1.linear"), 6);
    g->component = "self_attention";
    int x = norm_streams(p, block_name(p, "norm1"), table, *text, *video);
    int q = query_key(p, x, "attn1.to_q", "attn1.norm_q");
    int k = query_key(p, x, "attn1.to_k", "attn1.norm_k");
    const char *v_name = block_name(p, "attn1.to_v");
    int v = v_name ? kw__linear(g, x, v_name, cog->d, cog->bias, p->dtype, p->dtype) : 0;
    struct kw__attr attr = {
        .heads = cog->heads, .multiplicity = 1, .scale = 1.0 / sqrt((double)cog->head_dim)};
    int y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v);
    y = linear(p, y, block_name(p, "attn1.to_out.0"), cog->d);
    gate_streams(p, y, table, text, video);
}

static void mlp(const struct pass *p, int *text, int *video)
{
    int table = time_table(p, block_name(p, "norm2.linear"), 6);
    p->g->component = "mlp";
    int y = norm_streams(p, block_name(p, "norm2"), table, *text, *video);
    y = linear(p, y, block_name(p, "ff.net.0.proj"), 4 * p->cog->d);
    y = KW__OP(p->g, KW__GELU, NULL, p->dtype, y);
    y = linear(p, y, block_name(p, "ff.net.2"), p->cog->d);
    gate_streams(p, y, table, text, video);
}

static int head(const struct pass *p, int video)
{
    const struct cog *cog = p->cog;
    int table = time_table(p, "norm_out.linear", 2);
    p->g->component = "head";
    int x = layernorm(p, video, "norm_final", cog->d, 1, cog->eps);
    x = modulate(p, layernorm(p, x, "norm_out.norm", cog->d, 1, cog->eps), table, 0);
    x = linear(p, x, "proj_out", cog->out_channels * cog->patch * cog->patch);
    struct kw__attr places = {.grid = {p->grid[0], p->grid[1], p->grid[2]}, .patch = {1, 1, 1}};
    struct kw__attr space = {.patch = {1, cog->patch, cog->patch}};
    x = KW__OP(p->g, KW__UNPATCHIFY, &places, p->dtype, x);
    return KW__OP(p->g, KW__DEPTH_TO_SPACE, &space, p->dtype, x);
}

/* latents[B,C,T,h,w] -> model output of the same shape */
static int transformer(const void *self, struct kw__graph *g, int latents, int timestep, const int *texts)
{
    const struct cog *cog = self;
    const kw_effective *r = &g->program->request;
    struct pass pass = {
        .g = g,
        .cog = cog,
        .dtype = g->program->dtypes.denoiser,
        .grid = {r->latent_frames, r->latent_height / cog->patch, r->latent_width / cog->patch},
        .text = r->text_tokens,
        .video = r->tokens};
    struct pass *p = &pass;
    g->tensors = "transformer";
    p->temb = time_embedding(p, timestep);
    g->component = "text_projection";
    int text = linear(p, texts[0], "patch_embed.text_proj", cog->d);
    int video = patches(p, latents);
    if (cog->rotary) p->rope = rotary_positions(p);
    for (p->block = 0; p->block < cog->layers; p->block++) {
        attention(p, &text, &video);
        mlp(p, &text, &video);
    }
    return head(p, video);
}

/* ---- Denoise: the unit is one step ------------------------------------------------------------------- */

enum { COLUMN_GUIDANCE = KW__STEP_COLUMNS, COLUMNS = COLUMN_GUIDANCE + 2 };

static struct kw__iterations step_table(const struct cog *cog, struct kw__program *program)
{
    static const char *const names[COLUMNS] = {"timestep", "sigma",      "scale",       "step_x",
                                               "step_v",   "guide_cond", "guide_uncond"};
    const kw_effective *r = &program->request;
    double *rows = kw__arena_alloc(&program->arena, (size_t)r->num_inference_steps * COLUMNS, sizeof *rows);
    if (!rows) return (struct kw__iterations){0, NULL, NULL};
    kw__ddim_table(&cog->betas, cog->snr_shift, true, r->num_inference_steps, COLUMNS, rows);
    for (int64_t i = 0; i < r->num_inference_steps; i++)
        kw__guidance_weights(r, rows + i * COLUMNS + COLUMN_GUIDANCE);
    return (struct kw__iterations){COLUMNS, names, rows};
}

static void lower_denoise(const struct cog *cog, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "step", r->num_inference_steps);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table = step_table(cog, program);
    int x = kw__state(
        g, "latents", dtype, KW__STEP,
        KW__DIMS(r->batch_size, r->latent_channels, r->latent_frames, r->latent_height, r->latent_width));
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));
    const struct kw__guidance guidance = {
        .forward = transformer,
        .self = cog,
        .batched = true,
        .num_texts = 1,
        .texts = {{"text", dtype, 3, {r->batch_size, r->text_tokens, cog->text_dim}}},
        .dtype = KW__F32,
        .column = COLUMN_GUIDANCE};
    int v = kw__guide(g, &guidance, x, timestep);
    struct kw__attr step = {.column = KW__STEP_X};
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &step, dtype, x, v));
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct cog *cog = model->config;
    kw__text_stage(program, "text_encode", encode, cog);
    lower_denoise(cog, program);
    kw__cog_vae_lower(&cog->vae, program);
}

/* Defaults: CogVideoXPipeline.__call__ of diffusers 0.34 on the published configs. 8 fps: the model card. The
 * token counts are an assumption: a prompt of about 20 words, and the empty negative prompt, which is </s>
 * alone. */
const struct kw__family kw__cogvideox_family = {
    .pipeline = "CogVideoXPipeline",
    .defaults = {.width = 720,
                 .height = 480,
                 .num_frames = 49,
                 .num_inference_steps = 50,
                 .text_tokens = TEXT_TOKENS,
                 .prompt_tokens = 30,
                 .negative_tokens = 1,
                 .guidance_scale = 6.0,
                 .fps = 8.0},
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
