/* LTX-Video 0.9.7 text-to-video: diffusers' LTXConditionPipeline with LTXVideoTransformer3DModel, T5 v1.1 and
 * AutoencoderKLLTXVideo, in the three stages that its documentation describes: a clip of two thirds of the
 * size that was asked for, its latents doubled by LTXLatentUpsamplePipeline, noise added again and a few
 * steps at the larger size.
 *
 * Reads top to bottom as the model runs. L = T (H/32) (W/32) video tokens of d = heads x head_dim channels;
 * text is cross-attended, what pads it masked. Verified parameter counts: transformer 13,042,569,344,
 * upscaler 126,250,624. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

enum { MULTIPLE = 32, TIME_FACTOR = 8 };  /* LTXConditionPipeline counts on them */
enum { SMALLER = 2, OF = 3, LARGER = 2 }; /* the first stage is SMALLER/OF of the size, then LARGER times */
enum { REFINE_STEPS = 10, REFINE_REAL = 4 }; /* denoise_strength 0.4 skips the first 6 */
static const double threshold_noise = 0.025; /* where the schedule's linear half ends */
static const double qk_eps = 1e-5, head_eps = 1e-6;

/* Positions, in f32: seconds at the pipeline's frame_rate, and pixels, over these; frequencies from pi / 2 to
 * pi / 2 x rope_theta, spaced evenly in the logarithm. */
static const double frame_rate = 25, rope_base[3] = {20, 2048, 2048}, rope_theta = 10000;
static const double half_pi = 1.57079632679489661923;

struct ltx {
    int64_t heads, head_dim, layers, channels, text_in, d;
    double eps, shift, num_train_timesteps;
    struct kw__t5 t5;
    struct kw__ltx_upscaler upscaler;
    struct kw__ltx_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "transformer", "scheduler", "vae"};
    return kw__index_needs(in, sizeof components / sizeof components[0], components, err);
}

static const struct kw__only transformer_only[] = {{"qk_norm", "\"rms_norm_across_heads\""},
                                                   {"activation_fn", "\"gelu-approximate\""},
                                                   {"attention_bias", "true"},
                                                   {"attention_out_bias", "true"},
                                                   {"norm_elementwise_affine", "false"},
                                                   {"patch_size", "1"},
                                                   {"patch_size_t", "1"}};

static kw_status check_transformer(struct kw__json in, const struct ltx *m, kw_error *err)
{
    int64_t out = m->channels, cross = 0;
    kw_status status =
        kw__check_only(in, sizeof transformer_only / sizeof transformer_only[0], transformer_only, err);
    if (!status) status = kw__json_int(in, "cross_attention_dim", 1, 1 << 20, &cross, err);
    if (!status && kw__json_has(in, "out_channels"))
        status = kw__json_int(in, "out_channels", 1, 1 << 10, &out, err);
    if (status) return status;
    if (out != m->channels)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"out_channels\" must be null or \"in_channels\", %" PRId64, in.path,
                        m->channels);
    if (m->d % 2 || m->d < 12 || m->d > 1 << 16)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"num_attention_heads\" x \"attention_head_dim\" is %" PRId64
                        "; it must be even, 12 to 65536",
                        in.path, m->d);
    if (cross != m->d)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"cross_attention_dim\" is %" PRId64 "; it must be that of the video, %" PRId64,
                        in.path, cross, m->d);
    return KW_OK;
}

static kw_status read_transformer(kw_model *model, struct ltx *m, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "transformer", "config.json", "LTXVideoTransformer3DModel",
                                          &root, &in, err);
    if (status) return status;
    (void)((status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &m->heads, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 1, 1 << 12, &m->head_dim, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &m->layers, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__LTX_VAE_MAX_Z, &m->channels, err)) ||
           (status = kw__json_int(in, "caption_channels", 1, 1 << 16, &m->text_in, err)) ||
           (status = kw__json_number(in, "norm_eps", 1e-12, 1, &m->eps, err)));
    m->d = m->heads * m->head_dim;
    if (!status) status = check_transformer(in, m, err);
    json_decref(root);
    return status;
}

static kw_status check_parts(const kw_model *model, const struct ltx *m, kw_error *err)
{
    if (m->text_in != m->t5.d_model)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/transformer/config.json: \"caption_channels\" is %" PRId64
                        ", but text_encoder/config.json's \"d_model\" is %" PRId64 "; they must agree",
                        model->folder, m->text_in, m->t5.d_model);
    if (m->channels != m->vae.z_dim || m->channels != m->upscaler.channels)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/transformer/config.json: \"in_channels\" is %" PRId64
                        ", but vae/config.json's \"latent_channels\" is %" PRId64
                        " and latent_upsampler/config.json's \"in_channels\" %" PRId64 "; they must agree",
                        model->folder, m->channels, m->vae.z_dim, m->upscaler.channels);
    if (m->num_train_timesteps != 1000)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s/scheduler/scheduler_config.json: \"num_train_timesteps\" must be 1000, which "
                        "LTXConditionPipeline counts on",
                        model->folder);
    return KW_OK;
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    struct ltx *m = kw__arena_alloc(&model->arena, 1, sizeof *m);
    if (!m) return kw__fail_memory(err);
    model->config = m;
    kw_status status;
    (void)((status = read_transformer(model, m, err)) ||
           (status = kw__flow_scheduler_read(model, false, &m->shift, &m->num_train_timesteps, err)) ||
           (status = kw__t5_read(model, &m->t5, err)) || (status = kw__ltx_vae_read(model, &m->vae, err)) ||
           (status = kw__ltx_upscaler_read(model, &m->upscaler, err)));
    return status ? status : check_parts(model, m, err);
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static kw_status check_size(const struct ltx *m, const kw_effective *r, kw_error *err)
{
    double pixels = (double)r->width * (double)r->height;
    double clip = pixels * (double)(r->latent_frames * TIME_FACTOR) * (double)m->vae.widest;
    double text = (double)(r->text_tokens * r->text_tokens) * (double)(m->t5.heads + m->t5.d_ff);
    double sequence = (double)(r->tokens + r->text_tokens) * 6 * (double)m->d;
    /* tiles overlap, so that laid side by side they are larger than the clip */
    return kw__check_elements(r, 2 * fmax(fmax(sequence, text), clip), err);
}

/* A size that was asked for, as it comes out of the last stage. */
static kw_status round_size(const char *option, int64_t *size, kw_error *err)
{
    int64_t first = *size * SMALLER / OF / MULTIPLE * MULTIPLE;
    if (first == 0)
        return kw__fail(err, KW_ERROR_USAGE,
                        "%s %" PRId64 " is too small: the first stage makes two thirds of it, of which %d "
                        "pixels are the least; give %d or more",
                        option, *size, MULTIPLE, MULTIPLE * OF / SMALLER);
    *size = LARGER * first;
    return KW_OK;
}

static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct ltx *m = model->config;
    kw_status status = round_size("width", &r->width, err);
    if (!status) status = round_size("height", &r->height, err);
    if (status) return status;
    r->latent_channels = m->channels;
    r->latent_frames = (r->num_frames - 1) / TIME_FACTOR + 1;
    r->num_frames = (r->latent_frames - 1) * TIME_FACTOR + 1;
    r->latent_height = r->height / MULTIPLE;
    r->latent_width = r->width / MULTIPLE;
    r->tokens = r->latent_frames * r->latent_height * r->latent_width;
    if (r->flow_shift == 0) r->flow_shift = m->shift;
    return check_size(m, r, err);
}

/* ---- Text encoder: each call of the pipeline encodes the prompts -------------------------------------- */

/* All rows are kept, padding included; the length goes along. */
static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct ltx *m = self;
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    int hidden = kw__t5_encode(g, &m->t5, ids, length, program->dtypes.text_encoder);
    if (dtype != program->dtypes.text_encoder) hidden = KW__OP(g, KW__CAST, NULL, dtype, hidden);
    int text = kw__text_state(g, "text", pass, dtype, KW__DIMS(r->batch_size, r->text_tokens, m->text_in));
    kw__state_next(g, text, hidden);
    kw__state_next(g, kw__text_state(g, "text_length", pass, KW__I32, KW__DIMS(r->batch_size)), length);
}

static void lower_text(const struct ltx *m, struct kw__program *program)
{
    kw__text_stage(program, "text_encode", encode, m);
    struct kw__stage *stage = program->num_stages ? &program->stages[program->num_stages - 1] : NULL;
    for (int p = 0; stage && p < stage->num_phases; p++) stage->phases[p].calls = 2;
}

/* ---- Transformer: one pass -------------------------------------------------------------------------- */

struct pass {
    struct kw__graph *g;
    const struct ltx *m;
    enum kw__dtype dtype, residual;
    int rope;        /* [L, d] */
    int temb;        /* [B, 1, 6d] */
    int text_length; /* [B] */
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

static int table(const struct pass *p, const char *name, int64_t rows, int e)
{
    int w = name ? kw__weight(p->g, name, p->dtype, KW__DIMS(rows, p->m->d)) : 0;
    return KW__OP(p->g, KW__ADALN_TABLE, NULL, p->dtype, w, e);
}

/* Where the places of an axis are, -1 at 0 and 1 at its base; frame t is shown from pixel frame
 * 8 t - 7 on. */
static const double *places(struct kw__program *program, int64_t count, int axis)
{
    double *out = kw__arena_alloc(&program->arena, (size_t)count, sizeof *out);
    for (int64_t i = 0; out && i < count; i++) {
        float at = (float)(axis ? i * MULTIPLE : i ? i * TIME_FACTOR + 1 - TIME_FACTOR : 0);
        if (!axis) at *= (float)(1 / frame_rate);
        out[i] = (double)(at / (float)rope_base[axis] * 2 - 1);
    }
    return out;
}

static int rope_table(const struct pass *p, const int64_t *grid)
{
    struct kw__program *program = p->g->program;
    int64_t d = p->m->d, count = d / 6;
    double *frequencies = kw__arena_alloc(&program->arena, (size_t)count, sizeof *frequencies);
    for (int64_t i = 0; frequencies && i < count; i++) {
        float power = count > 1 ? (float)i / (float)(count - 1) : 0;
        frequencies[i] = (double)((float)pow(rope_theta, (double)power) * (float)half_pi);
    }
    struct kw__attr attr = {.grid = {grid[0], grid[1], grid[2]},
                            .axes = {2 * count, 2 * count, 2 * count},
                            .prefix = d % 6,
                            .layout = KW__COS_SIN_BY_FREQUENCY,
                            .single = true,
                            .frequencies = frequencies};
    for (int axis = 0; axis < 3; axis++) attr.positions[axis] = places(program, grid[axis], axis);
    return KW__OP(p->g, KW__ROPE_TABLE, &attr, KW__F32, 0);
}

/* The timestep's embedding [B, 1, d], and what the blocks' modulation is made of. */
static int time_embedding(struct pass *p, int timestep)
{
    struct kw__graph *g = p->g;
    g->component = "time_embedding";
    struct kw__attr width = {.width = 256};
    int x = KW__OP(g, KW__SINUSOID, &width, KW__F32, timestep);
    x = KW__OP(g, KW__CAST, NULL, p->dtype, x);
    x = linear(p, x, "time_embed.emb.timestep_embedder.linear_1", p->m->d);
    x = KW__OP(g, KW__SILU, NULL, p->dtype, x);
    x = linear(p, x, "time_embed.emb.timestep_embedder.linear_2", p->m->d);
    p->temb = KW__OP(g, KW__SILU, NULL, p->dtype, x);
    p->temb = linear(p, p->temb, "time_embed.linear", 6 * p->m->d);
    return x;
}

static int project_text(const struct pass *p, int text)
{
    p->g->component = "text_projection";
    text = linear(p, text, "caption_projection.linear_1", p->m->d);
    text = KW__OP(p->g, KW__GELU, NULL, p->dtype, text);
    return linear(p, text, "caption_projection.linear_2", p->m->d);
}

/* A projection to queries or keys, normalised over all heads; those of the video turn by their place. */
static int heads(const struct pass *p, int x, const char *name, const char *norm, bool turn)
{
    struct kw__graph *g = p->g;
    struct kw__attr attr = {.eps = qk_eps};
    const char *gamma_name = block_name(p, norm);
    int gamma = gamma_name ? kw__weight(g, gamma_name, p->dtype, KW__DIMS(p->m->d)) : 0;
    x = linear(p, x, block_name(p, name), p->m->d);
    x = KW__OP(g, KW__RMSNORM, &attr, p->dtype, x, gamma);
    return turn ? KW__OP(g, KW__ROPE, NULL, p->dtype, x, p->rope) : x;
}

static int attention(const struct pass *p, int q, int k, int v, int length)
{
    const struct ltx *m = p->m;
    struct kw__attr attr = {.heads = m->heads, .multiplicity = 1, .scale = 1.0 / sqrt((double)m->head_dim)};
    return KW__OP(p->g, KW__ATTENTION, &attr, p->dtype, q, k, v, 0, length);
}

/* Rows of a block's table. */
enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_MLP, SCALE_MLP, GATE_MLP, ROWS };

static int block(const struct pass *p, int x, int text)
{
    struct kw__graph *g = p->g;
    int64_t d = p->m->d;
    const struct kw__attr norm = {.eps = p->m->eps};
    const struct kw__attr attend = {.row = SHIFT_ATTENTION, .row2 = SCALE_ATTENTION};
    const struct kw__attr attended = {.row = GATE_ATTENTION};
    const struct kw__attr expand = {.row = SHIFT_MLP, .row2 = SCALE_MLP}, contracted = {.row = GATE_MLP};

    g->component = "self_attention";
    int rows = table(p, block_name(p, "scale_shift_table"), ROWS, p->temb);
    int y = KW__OP(g, KW__RMSNORM, &norm, p->dtype, x);
    y = KW__OP(g, KW__MODULATE, &attend, p->dtype, y, rows);
    int q = heads(p, y, "attn1.to_q", "attn1.norm_q.weight", true);
    int k = heads(p, y, "attn1.to_k", "attn1.norm_k.weight", true);
    int v = linear(p, y, block_name(p, "attn1.to_v"), d);
    y = linear(p, attention(p, q, k, v, 0), block_name(p, "attn1.to_out.0"), d);
    x = KW__OP(g, KW__GATE_ADD, &attended, p->residual, x, y, rows);

    g->component = "cross_attention";
    q = heads(p, x, "attn2.to_q", "attn2.norm_q.weight", false);
    k = heads(p, text, "attn2.to_k", "attn2.norm_k.weight", false);
    v = linear(p, text, block_name(p, "attn2.to_v"), d);
    y = linear(p, attention(p, q, k, v, p->text_length), block_name(p, "attn2.to_out.0"), d);
    x = KW__OP(g, KW__ADD, NULL, p->residual, x, y);

    g->component = "mlp";
    y = KW__OP(g, KW__RMSNORM, &norm, p->dtype, x);
    y = KW__OP(g, KW__MODULATE, &expand, p->dtype, y, rows);
    y = linear(p, y, block_name(p, "ff.net.0.proj"), 4 * d);
    y = KW__OP(g, KW__GELU, NULL, p->dtype, y);
    y = linear(p, y, block_name(p, "ff.net.2"), d);
    return KW__OP(g, KW__GATE_ADD, &contracted, p->residual, x, y, rows);
}

/* latents[B,C,T,h,w] -> model output of the same shape */
static int transformer(const void *self, struct kw__graph *g, int latents, int timestep, const int *texts)
{
    const struct ltx *m = self;
    struct pass pass = {.g = g,
                        .m = m,
                        .dtype = g->program->dtypes.denoiser,
                        .residual = g->program->dtypes.residual,
                        .text_length = texts[1]};
    struct pass *p = &pass;
    if (!latents) return 0;
    const int64_t *dim = g->values[latents].dim, grid[3] = {dim[2], dim[3], dim[4]};
    g->tensors = "transformer";

    g->component = "patch_embedding";
    p->rope = rope_table(p, grid);
    int x = KW__OP(g, KW__CAST, NULL, p->dtype, latents);
    x = KW__OP(g, KW__TO_TOKENS, NULL, p->dtype, x);
    x = kw__linear(g, x, "proj_in", m->d, true, p->dtype, p->residual);

    int embedded = time_embedding(p, timestep);
    int text = project_text(p, texts[0]);
    for (p->block = 0; p->block < m->layers; p->block++) x = block(p, x, text);

    g->component = "head";
    const struct kw__attr norm = {.eps = head_eps}, row = {.row = 0, .row2 = 1};
    int rows = table(p, "scale_shift_table", 2, embedded);
    x = KW__OP(g, KW__LAYERNORM, &norm, p->dtype, x);
    x = KW__OP(g, KW__MODULATE, &row, p->dtype, x, rows);
    x = linear(p, x, "proj_out", m->channels);
    const struct kw__attr back = {.grid = {grid[0], grid[1], grid[2]}, .patch = {1, 1, 1}};
    return KW__OP(g, KW__UNPATCHIFY, &back, p->dtype, x);
}

/* ---- Denoise and refine: the unit is one step -------------------------------------------------------- */

/* A latent video: of the first stage, or of the last, LARGER times as wide and high. */
static int latents_state(struct kw__graph *g, bool large, const char *name, enum kw__dtype dtype)
{
    const kw_effective *r = &g->program->request;
    int64_t by = large ? 1 : LARGER;
    return kw__state(g, name, dtype, KW__STEP,
                     KW__DIMS(r->batch_size, r->latent_channels, r->latent_frames, r->latent_height / by,
                              r->latent_width / by));
}

static const char small_latents[] = "latents_small", upscaled_latents[] = "upscaled", latents[] = "latents";

static void lower_steps(const struct ltx *m, struct kw__program *program, struct kw__stage *stage, bool large,
                        const double *sigma, int64_t steps)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    struct kw__graph *g = kw__stage_phase(program, stage, "step", steps);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table =
        kw__guided_flow(program, sigma, m->num_train_timesteps, false, steps);
    int x = latents_state(g, large, large ? latents : small_latents, KW__F32);
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));
    const struct kw__guidance guidance = {
        .forward = transformer,
        .self = m,
        .batched = true,
        .num_texts = 2,
        .texts = {{"text", dtype, 3, {r->batch_size, r->text_tokens, m->text_in}},
                  {"text_length", KW__I32, 1, {r->batch_size}}},
        .dtype = dtype,
        .column = KW__FLOW_GUIDANCE};
    int v = kw__guide(g, &guidance, x, timestep);
    struct kw__attr step = {.column = KW__STEP_X};
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &step, KW__F32, x, v));
}

static void lower_denoise(const struct ltx *m, struct kw__program *program)
{
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    if (!g) return;
    g->component = "solver";
    int x = latents_state(g, false, small_latents, KW__F32);
    const struct kw__value *like = &g->values[x];
    int noise = x ? kw__input(g, "noise_small", KW__F32, KW__REQUEST, like->ndim, like->dim) : 0;
    kw__state_next(g, x, KW__OP(g, KW__CAST, NULL, KW__F32, noise));
    int64_t steps = program->request.num_inference_steps;
    lower_steps(m, program, stage, false, kw__shifted_linear_quadratic(program, steps, threshold_noise),
                steps);
}

static void lower_upscale(const struct ltx *m, struct kw__program *program)
{
    struct kw__stage *stage = kw__program_stage(program, "upscale");
    struct kw__graph *g = kw__stage_phase(program, stage, "upscale", 1);
    if (!g) return;
    int x = latents_state(g, false, small_latents, KW__F32);
    int up = latents_state(g, true, upscaled_latents, program->dtypes.vae);
    kw__state_next(g, up, kw__ltx_upscale(&m->upscaler, &m->vae, g, x));
}

/* The latents begin as noise, of which what was upscaled takes all but the first sigma. */
static void lower_refine(const struct ltx *m, struct kw__program *program)
{
    static const char *const names[] = {"noise", "upscaled"};
    const double *sigma = kw__shifted_linear_quadratic(program, REFINE_STEPS, threshold_noise);
    struct kw__stage *stage = kw__program_stage(program, "refine");
    struct kw__graph *g = kw__stage_phase(program, stage, "prepare", 1);
    double *row = kw__arena_alloc(&program->arena, 2, sizeof *row);
    if (!g || !sigma || !row) return;
    sigma += REFINE_STEPS - REFINE_REAL;
    row[0] = sigma[0];
    row[1] = 1 - sigma[0];
    stage->phases[stage->num_phases - 1].table = (struct kw__iterations){2, names, row};
    g->component = "solver";
    int x = latents_state(g, true, latents, KW__F32);
    int up = latents_state(g, true, upscaled_latents, program->dtypes.vae);
    struct kw__attr mix = {.column = 0};
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &mix, KW__F32, x, up));
    lower_steps(m, program, stage, true, sigma, REFINE_REAL);
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct ltx *m = model->config;
    lower_text(m, program);
    lower_denoise(m, program);
    lower_upscale(m, program);
    lower_refine(m, program);
    kw__ltx_vae_lower(&m->vae, program);
}

/* Defaults: LTXConditionPipeline.__call__ of diffusers 0.34; 24 fps and the steps of the last stage: its
 * documentation of LTX-Video. The token counts are an assumption: a prompt of about 20 words, and the empty
 * negative prompt, which is </s> alone. */
const struct kw__family kw__ltx_family = {
    .pipeline = "LTXConditionPipeline",
    .defaults = {.width = 704,
                 .height = 512,
                 .num_frames = 161,
                 .num_inference_steps = 50,
                 .text_tokens = 256,
                 .prompt_tokens = 30,
                 .negative_tokens = 1,
                 .guidance_scale = 3.0,
                 .fps = 24.0},
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
