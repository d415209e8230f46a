/* Mochi 1 text-to-video: diffusers' MochiPipeline with MochiTransformer3DModel, T5 v1.1 and
 * AutoencoderKLMochi.
 *
 * Reads top to bottom as the model runs. L = T (H/16) (W/16) video tokens of d = heads x head_dim channels
 * and 256 text tokens of a narrower width go through each block side by side; attention is over both
 * together, of the text over what the prompt has, not over its padding. Verified parameter count:
 * 10,027,677,744. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

enum { POOL_HEADS = 8 };                     /* MochiCombinedTimestepCaptionEmbedding, whatever the config */
enum { SPACE_FACTOR = 8, TIME_FACTOR = 6 };  /* MochiPipeline counts on them, whatever the VAE's config */
static const double threshold_noise = 0.025; /* where the schedule's linear half ends */
static const double rope_area = 192.0 * 192.0; /* positions are scaled to this many cells of a frame */
static const double block_eps = 1e-6, qk_eps = 1e-5;

struct mochi {
    int64_t heads, head_dim, layers, channels, patch, time_dim, text_in;
    int64_t d, text; /* widths of the streams */
    double shift, num_train_timesteps;
    struct kw__t5 t5;
    struct kw__mochi_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "transformer", "scheduler", "vae"};
    kw_status status = kw__index_needs(in, sizeof components / sizeof components[0], components, err);
    bool zeros = false;
    if (!status && kw__json_has(in, "force_zeros_for_empty_prompt"))
        status = kw__json_bool(in, "force_zeros_for_empty_prompt", &zeros, err);
    if (!status && zeros)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: \"force_zeros_for_empty_prompt\" must be false: an empty prompt without any "
                          "token is not known",
                          in.path);
    return status;
}

static kw_status check_transformer(struct kw__json in, const struct mochi *m, kw_error *err)
{
    const char *qk_norm = NULL, *activation = NULL;
    int64_t out = m->channels;
    kw_status status;
    (void)((status = kw__json_string(in, "qk_norm", &qk_norm, err)) ||
           (status = kw__json_string(in, "activation_fn", &activation, err)));
    if (!status && kw__json_has(in, "out_channels"))
        status = kw__json_int(in, "out_channels", 1, 1 << 10, &out, err);
    if (status) return status;
    if (strcmp(qk_norm, "rms_norm") != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: qk_norm \"%s\" is not known; rms_norm is", in.path,
                        qk_norm);
    if (strcmp(activation, "swiglu") != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: activation_fn \"%s\" is not known; swiglu is",
                        in.path, activation);
    if (out != m->channels)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"out_channels\" must be null or \"in_channels\", %" PRId64, in.path,
                        m->channels);
    if (m->head_dim % 2 || m->time_dim % 2 || m->text_in % POOL_HEADS)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s: \"attention_head_dim\" and \"time_embed_dim\" must be even, \"text_embed_dim\" a "
            "multiple of %d",
            in.path, POOL_HEADS);
    if (m->d > 1 << 16)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"num_attention_heads\" x \"attention_head_dim\" is %" PRId64
                        "; it must be at most 65536",
                        in.path, m->d);
    return KW_OK;
}

static kw_status read_transformer(kw_model *model, struct mochi *m, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, "transformer", "config.json", "MochiTransformer3DModel", &root, &in, err);
    if (status) return status;
    (void)((status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &m->heads, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 2, 1 << 12, &m->head_dim, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &m->layers, err)) ||
           (status = kw__json_int(in, "pooled_projection_dim", 1, 1 << 16, &m->text, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__MOCHI_VAE_MAX_Z, &m->channels, err)) ||
           (status = kw__json_int(in, "patch_size", 1, 16, &m->patch, err)) ||
           (status = kw__json_int(in, "time_embed_dim", 2, 1 << 16, &m->time_dim, err)) ||
           (status = kw__json_int(in, "text_embed_dim", 1, 1 << 16, &m->text_in, err)));
    m->d = m->heads * m->head_dim;
    if (!status) status = check_transformer(in, m, err);
    json_decref(root);
    return status;
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    struct mochi *m = kw__arena_alloc(&model->arena, 1, sizeof *m);
    if (!m) return kw__fail_memory(err);
    model->config = m;
    kw_status status;
    (void)((status = read_transformer(model, m, err)) ||
           (status = kw__flow_scheduler_read(model, true, &m->shift, &m->num_train_timesteps, err)) ||
           (status = kw__t5_read(model, &m->t5, err)) || (status = kw__mochi_vae_read(model, &m->vae, err)));
    if (status) return status;
    if (m->text_in != m->t5.d_model)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/transformer/config.json: \"text_embed_dim\" is %" PRId64
                        ", but text_encoder/config.json's \"d_model\" is %" PRId64 "; they must agree",
                        model->folder, m->text_in, m->t5.d_model);
    if (m->channels != m->vae.z_dim)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/transformer/config.json: \"in_channels\" must be vae/config.json's "
                        "\"latent_channels\", %" PRId64,
                        model->folder, m->vae.z_dim);
    if (m->vae.space_factor != SPACE_FACTOR || m->vae.time_factor != TIME_FACTOR)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s/vae/config.json: \"spatial_expansions\" must multiply to %d and "
                        "\"temporal_expansions\" to %d, which MochiPipeline counts on",
                        model->folder, SPACE_FACTOR, TIME_FACTOR);
    return KW_OK;
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static int64_t mlp_width(int64_t width)
{
    return 4 * width * 2 / 3;
}

static kw_status check_size(const struct mochi *m, const kw_effective *r, kw_error *err)
{
    double widest = fmax(2.0 * (double)mlp_width(m->d), 4.0 * (double)m->d);
    double pixels = (double)r->width * (double)r->height;
    double clip = pixels * (double)(r->latent_frames * TIME_FACTOR) * (double)m->vae.widest;
    double text = (double)(r->text_tokens * r->text_tokens) * (double)(m->t5.heads + m->t5.d_ff);
    text = fmax(text, 2.0 * (double)(r->text_tokens + 1) * (double)m->text_in);
    double sequence = (double)(r->tokens + r->text_tokens) * widest;
    /* tiles overlap, so that laid side by side they are larger than the clip */
    return kw__check_elements(r, 2 * fmax(fmax(sequence, text), 4 * clip), err);
}

/* The pipeline itself asks for multiples of 8 alone, and then fails in the transformer, whose patches are two
 * latent cells wide. With one step its schedule divides by the 0 steps of the linear half. */
static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct mochi *m = model->config;
    kw_status status = kw__check_multiple("width", r->width, SPACE_FACTOR * m->patch, err);
    if (!status) status = kw__check_multiple("height", r->height, SPACE_FACTOR * m->patch, err);
    if (status) return status;
    if (r->num_inference_steps < 2)
        return kw__fail(err, KW_ERROR_USAGE,
                        "num-inference-steps %" PRId64
                        " is too few: the schedule is half linear, half quadratic; give 2 or more",
                        r->num_inference_steps);
    r->latent_channels = m->channels;
    r->latent_frames = (r->num_frames - 1) / TIME_FACTOR + 1;
    r->num_frames = (r->latent_frames - 1) * TIME_FACTOR + 1;
    r->latent_height = r->height / SPACE_FACTOR;
    r->latent_width = r->width / SPACE_FACTOR;
    r->tokens = r->latent_frames * (r->latent_height / m->patch) * (r->latent_width / m->patch);
    if (r->flow_shift == 0) r->flow_shift = m->shift;
    return check_size(m, r, err);
}

/* ---- Text encoder: once for each prompt ------------------------------------------------------------ */

/* All rows are kept, padding included; the length goes along. */
static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct mochi *m = self;
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    int hidden = kw__t5_encode(g, &m->t5, ids, length, program->dtypes.text_encoder);
    if (dtype != program->dtypes.text_encoder) hidden = KW__OP(g, KW__CAST, NULL, dtype, hidden);
    int text = kw__text_state(g, "text", pass, dtype, KW__DIMS(r->batch_size, r->text_tokens, m->text_in));
    kw__state_next(g, text, hidden);
    kw__state_next(g, kw__text_state(g, "text_length", pass, KW__I32, KW__DIMS(r->batch_size)), length);
}

/* ---- Transformer: one pass -------------------------------------------------------------------------- */

struct pass {
    struct kw__graph *g;
    const struct mochi *m;
    enum kw__dtype dtype, residual;
    int rope;        /* [L, d]: each head has angles of its own */
    int temb;        /* [B, 1, d] */
    int text_length; /* [B] */
    int64_t video_rows, text_rows;
    double attended; /* rows that attention is over, the root of its mean square over the passes */
    int block;
};

static const char *block_name(const struct pass *p, const char *rest)
{
    return kw__arena_printf(&p->g->program->arena, "transformer_blocks.%d.%s", p->block, rest);
}

static int linear(const struct pass *p, int x, const char *name, int64_t n, bool bias)
{
    return kw__linear(p->g, x, name, n, bias, p->dtype, p->dtype);
}

/* Rows of axis 1. */
static int rows(const struct pass *p, int x, int64_t start, int64_t count)
{
    struct kw__attr attr = {.axis = 1, .start = start, .width = count};
    return x ? KW__OP(p->g, KW__SLICE, &attr, p->g->values[x].dtype, x) : 0;
}

static int concat_rows(const struct pass *p, int first, int second)
{
    struct kw__attr attr = {.axis = 1};
    return KW__OP(p->g, KW__CONCAT, &attr, p->dtype, first, second);
}

/* Where each row and column is, so that the cells of any frame cover the same area. */
static const double *centres(struct kw__program *program, int64_t count, double scale)
{
    double *out = kw__arena_alloc(&program->arena, (size_t)count, sizeof *out);
    for (int64_t i = 0; out && i < count; i++) out[i] = ((double)i + 0.5 - (double)count / 2) * scale;
    return out;
}

static int rope_table(const struct pass *p, const int64_t *grid)
{
    const struct mochi *m = p->m;
    struct kw__program *program = p->g->program;
    double scale = sqrt(rope_area / (double)(grid[1] * grid[2]));
    int w = kw__weight(p->g, "pos_frequencies", KW__F32, KW__DIMS(3, m->heads, m->head_dim / 2));
    struct kw__attr attr = {
        .grid = {grid[0], grid[1], grid[2]},
        .positions = {NULL, centres(program, grid[1], scale), centres(program, grid[2], scale)}};
    return KW__OP(p->g, KW__ROPE_TABLE, &attr, KW__F32, w);
}

/* The prompt's mean looks at itself and at the prompt's rows. */
static int pooled_text(const struct pass *p, int text)
{
    struct kw__graph *g = p->g;
    int64_t width = p->m->text_in;
    g->component = "text_projection";
    int mean = KW__OP(g, KW__MEAN_ROWS, NULL, p->dtype, text, p->text_length);
    int kv = linear(p, concat_rows(p, mean, text), "time_embed.pooler.to_kv", 2 * width, true);
    int q = linear(p, mean, "time_embed.pooler.to_q", width, true);
    struct kw__attr attr = {.heads = POOL_HEADS,
                            .multiplicity = 1,
                            .scale = 1.0 / sqrt((double)(width / POOL_HEADS)),
                            .prefix = 1,
                            .parts = 2,
                            .part = 1,
                            .k_joint = true};
    int y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, kv, kv, 0, p->text_length);
    return linear(p, y, "time_embed.pooler.to_out", p->m->d, true);
}

static int time_embedding(const struct pass *p, int timestep, int pooled)
{
    struct kw__graph *g = p->g;
    g->component = "time_embedding";
    struct kw__attr width = {.width = p->m->time_dim};
    int x = KW__OP(g, KW__SINUSOID, &width, KW__F32, timestep);
    x = KW__OP(g, KW__CAST, NULL, p->dtype, x);
    x = linear(p, x, "time_embed.timestep_embedder.linear_1", p->m->d, true);
    x = KW__OP(g, KW__SILU, NULL, p->dtype, x);
    x = linear(p, x, "time_embed.timestep_embedder.linear_2", p->m->d, true);
    return KW__OP(g, KW__ADD, NULL, p->dtype, x, pooled);
}

/* What a block's modulation has side by side. */
enum { SCALE_ATTENTION, GATE_ATTENTION, SCALE_MLP, GATE_MLP, MODULATIONS };

static int modulation(const struct pass *p, const char *name, int64_t width)
{
    p->g->component = "time_embedding";
    int x = KW__OP(p->g, KW__SILU, NULL, p->dtype, p->temb);
    return linear(p, x, name, width, true);
}

/* RMSNorm without a weight, in f32, then x (1 + scale). */
static int norm_scale(const struct pass *p, int x, int table, int scale)
{
    struct kw__attr norm = {.eps = block_eps}, row = {.row = -1, .row2 = scale};
    x = KW__OP(p->g, KW__RMSNORM, &norm, KW__F32, x);
    return KW__OP(p->g, KW__MODULATE, &row, p->dtype, x, table);
}

/* x + RMSNorm(y) tanh(gate) */
static int add_gated(const struct pass *p, int x, int y, int table, int gate)
{
    if (!x) return 0;
    struct kw__graph *g = p->g;
    int64_t width = kw__last_dim(&g->values[x]);
    struct kw__attr norm = {.eps = block_eps}, part = {.axis = 2, .start = gate * width, .width = width};
    struct kw__attr row = {.row = 0};
    y = KW__OP(g, KW__RMSNORM, &norm, KW__F32, y);
    int open = KW__OP(g, KW__SLICE, &part, p->dtype, table);
    open = KW__OP(g, KW__TANH, NULL, p->dtype, open);
    return KW__OP(g, KW__GATE_ADD, &row, p->residual, x, y, open);
}

/* A projection to queries or keys, each head normalised; those of the video turn by their place. */
static int heads(const struct pass *p, int x, const char *name, const char *norm, bool turn)
{
    struct kw__graph *g = p->g;
    struct kw__attr attr = {.eps = qk_eps, .heads = p->m->heads};
    const char *gamma_name = block_name(p, norm);
    int gamma = gamma_name ? kw__weight(g, gamma_name, p->dtype, KW__DIMS(p->m->head_dim)) : 0;
    x = linear(p, x, block_name(p, name), p->m->d, false);
    x = KW__OP(g, KW__RMSNORM, &attr, p->dtype, x, gamma);
    return turn ? KW__OP(g, KW__ROPE, NULL, p->dtype, x, p->rope) : x;
}

static int joint_attention(const struct pass *p, int video, int text)
{
    struct kw__graph *g = p->g;
    const struct mochi *m = p->m;
    int q = heads(p, video, "attn1.to_q", "attn1.norm_q.weight", true);
    int k = heads(p, video, "attn1.to_k", "attn1.norm_k.weight", true);
    int v = linear(p, video, block_name(p, "attn1.to_v"), m->d, false);
    int text_q = heads(p, text, "attn1.add_q_proj", "attn1.norm_added_q.weight", false);
    int text_k = heads(p, text, "attn1.add_k_proj", "attn1.norm_added_k.weight", false);
    int text_v = linear(p, text, block_name(p, "attn1.add_v_proj"), m->d, false);
    q = concat_rows(p, q, text_q);
    k = concat_rows(p, k, text_k);
    v = concat_rows(p, v, text_v);
    struct kw__attr attr = {.heads = m->heads,
                            .multiplicity = 1,
                            .scale = 1.0 / sqrt((double)m->head_dim),
                            .prefix = p->video_rows,
                            .ragged = true,
                            .attended = p->attended};
    return KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v, 0, p->text_length);
}

static int mlp(const struct pass *p, int x, const char *up, const char *down)
{
    if (!x) return 0;
    struct kw__graph *g = p->g;
    int64_t width = kw__last_dim(&g->values[x]);
    struct kw__attr silu = {.activation = KW__ACT_SILU};
    x = linear(p, x, block_name(p, up), 2 * mlp_width(width), false);
    x = KW__OP(g, KW__GLU, &silu, p->dtype, x);
    return linear(p, x, block_name(p, down), width, false);
}

/* The last block leaves the text as it is, of which nothing is read after it. */
static void block(const struct pass *p, int *video, int *text)
{
    struct kw__graph *g = p->g;
    const struct mochi *m = p->m;
    bool last = p->block == m->layers - 1;
    int table = modulation(p, block_name(p, "norm1.linear"), MODULATIONS * m->d);
    int text_table = last ? modulation(p, block_name(p, "norm1_context.linear_1"), m->text)
                          : modulation(p, block_name(p, "norm1_context.linear"), MODULATIONS * m->text);

    g->component = "self_attention";
    int x = norm_scale(p, *video, table, SCALE_ATTENTION);
    int y = norm_scale(p, *text, text_table, SCALE_ATTENTION);
    int joint = joint_attention(p, x, y);
    x = linear(p, rows(p, joint, 0, p->video_rows), block_name(p, "attn1.to_out.0"), m->d, true);
    *video = add_gated(p, *video, x, table, GATE_ATTENTION);

    g->component = "mlp";
    x = norm_scale(p, *video, table, SCALE_MLP);
    x = mlp(p, x, "ff.net.0.proj", "ff.net.2");
    *video = add_gated(p, *video, x, table, GATE_MLP);
    if (last) return;

    g->component = "text_stream";
    y = linear(p, rows(p, joint, p->video_rows, p->text_rows), block_name(p, "attn1.to_add_out"), m->text,
               true);
    *text = add_gated(p, *text, y, text_table, GATE_ATTENTION);
    y = norm_scale(p, *text, text_table, SCALE_MLP);
    y = mlp(p, y, "ff_context.net.0.proj", "ff_context.net.2");
    *text = add_gated(p, *text, y, text_table, GATE_MLP);
}

static double attended_rows(const kw_effective *r)
{
    double video = (double)r->tokens, prompt = video + (double)r->prompt_tokens;
    double negative = video + (double)r->negative_tokens;
    return r->guidance_passes == 2 ? sqrt((prompt * prompt + negative * negative) / 2) : prompt;
}

/* latents[B,C,T,h,w] -> model output of the same shape */
static int transformer(const void *self, struct kw__graph *g, int latents, int timestep, const int *texts)
{
    const struct mochi *m = self;
    const kw_effective *r = &g->program->request;
    const int64_t grid[3] = {r->latent_frames, r->latent_height / m->patch, r->latent_width / m->patch};
    struct pass pass = {.g = g,
                        .m = m,
                        .dtype = g->program->dtypes.denoiser,
                        .residual = g->program->dtypes.residual,
                        .text_length = texts[1],
                        .video_rows = r->tokens,
                        .text_rows = r->text_tokens,
                        .attended = attended_rows(r)};
    struct pass *p = &pass;
    g->tensors = "transformer";

    int pooled = pooled_text(p, texts[0]);
    int text = linear(p, texts[0], "time_embed.caption_proj", m->text, true);
    p->temb = time_embedding(p, timestep, pooled);

    g->component = "patch_embedding";
    p->rope = rope_table(p, grid);
    int video = KW__OP(g, KW__CAST, NULL, p->dtype, latents);
    int w =
        kw__weight(g, "patch_embed.proj.weight", p->dtype, KW__DIMS(m->d, m->channels, m->patch, m->patch));
    int b = kw__weight(g, "patch_embed.proj.bias", p->dtype, KW__DIMS(m->d));
    struct kw__attr stride = {.stride = {1, (int)m->patch, (int)m->patch}};
    video = KW__OP(g, KW__CONV, &stride, p->residual, video, w, b);
    video = KW__OP(g, KW__TO_TOKENS, NULL, p->residual, video);

    for (p->block = 0; p->block < m->layers; p->block++) block(p, &video, &text);

    int table = modulation(p, "norm_out.linear", 2 * m->d); /* scale, shift */
    g->component = "head";
    struct kw__attr norm = {.eps = block_eps}, row = {.row = 1, .row2 = 0};
    video = KW__OP(g, KW__LAYERNORM, &norm, KW__F32, video);
    video = KW__OP(g, KW__MODULATE, &row, p->dtype, video, table);
    video = linear(p, video, "proj_out", m->patch * m->patch * m->channels, true);
    struct kw__attr unpatchify = {.grid = {grid[0], grid[1], grid[2]}, .patch = {1, m->patch, m->patch}};
    video = KW__OP(g, KW__UNPATCHIFY, &unpatchify, p->dtype, video);
    return KW__OP(g, KW__CAST, NULL, KW__F32, video); /* guidance and solver are in f32 */
}

/* ---- Denoise: the unit is one step ------------------------------------------------------------------- */

static void lower_denoise(const struct mochi *m, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    int64_t steps = r->num_inference_steps;
    struct kw__graph *g = kw__stage_phase(program, stage, "step", steps);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table =
        kw__guided_flow(program, kw__shifted_linear_quadratic(program, steps, threshold_noise),
                        m->num_train_timesteps, true, steps);

    int x = kw__state(
        g, "latents", KW__F32, KW__STEP,
        KW__DIMS(r->batch_size, r->latent_channels, r->latent_frames, r->latent_height, r->latent_width));
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));
    const struct kw__guidance guidance = {
        .forward = transformer,
        .self = m,
        .batched = true,
        .num_texts = 2,
        .texts = {{"text", program->dtypes.denoiser, 3, {r->batch_size, r->text_tokens, m->text_in}},
                  {"text_length", KW__I32, 1, {r->batch_size}}},
        .dtype = KW__F32,
        .column = KW__FLOW_GUIDANCE};
    int v = kw__guide(g, &guidance, x, timestep);
    struct kw__attr step = {.column = KW__STEP_X};
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &step, KW__F32, x, v));
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct mochi *m = model->config;
    kw__text_stage(program, "text_encode", encode, model->config);
    lower_denoise(m, program);
    kw__mochi_vae_lower(&m->vae, program);
}

/* Defaults: MochiPipeline.__call__ of diffusers 0.34; 30 fps: its documentation. The token counts are an
 * assumption: a prompt of about 20 words, and the empty negative prompt, which is </s> alone. */
const struct kw__family kw__mochi_family = {
    .pipeline = "MochiPipeline",
    .defaults = {.width = 848,
                 .height = 480,
                 .num_frames = 19,
                 .num_inference_steps = 64,
                 .text_tokens = 256,
                 .prompt_tokens = 30,
                 .negative_tokens = 1,
                 .guidance_scale = 4.5,
                 .fps = 30.0},
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
