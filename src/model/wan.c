/* Wan2.1 and Wan2.2 text-to-video: diffusers' WanPipeline with WanTransformer3DModel, umT5 and
 * AutoencoderKLWan.
 *
 * Reads top to bottom as the model runs. L = T (H/16) (W/16) tokens of d = heads x head_dim channels. Wan2.2
 * A14B has two transformers, of which one makes the steps of much noise, the other those of little. TI2V-5B,
 * which can go on from an image, gives each token a timestep of its own, which without one is the step's; the
 * cells of its VAE are 16 pixels wide. Verified parameter counts: 1.3B 1,418,996,800; 14B and each of A14B's
 * 14,288,491,584; TI2V-5B 4,999,787,712. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/unipc.h"
#include "model/family.h"

struct transformer {
    const char *name; /* the checkpoint's folder */
    int64_t heads, head_dim, layers, ffn, freq_dim, text_dim, in_channels, out_channels, patch[3];
    int64_t d; /* heads * head_dim */
    double eps;
    bool cross_attn_norm, token_timesteps;
};

struct wan {
    int experts; /* the second makes the steps whose timestep is below the boundary */
    struct transformer transformers[2];
    bool token_timesteps;
    double boundary_ratio; /* of num_train_timesteps */
    double flow_shift, num_train_timesteps;
    struct kw__t5 t5;
    struct kw__wan_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

/* What model_index.json says of the transformers. */
static kw_status read_index(struct kw__json in, struct wan *wan, kw_error *err)
{
    bool second = kw__index_has(in, "transformer_2"), boundary = kw__json_has(in, "boundary_ratio");
    if (second != boundary)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s: \"transformer_2\" and \"boundary_ratio\" go together; \"%s\" is missing",
                        in.path, second ? "boundary_ratio" : "transformer_2");
    wan->experts = second ? 2 : 1;
    kw_status status = KW_OK;
    if (second) status = kw__json_number(in, "boundary_ratio", 0, 1, &wan->boundary_ratio, err);
    if (!status && kw__json_has(in, "expand_timesteps"))
        status = kw__json_bool(in, "expand_timesteps", &wan->token_timesteps, err);
    return status;
}

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "transformer", "scheduler", "vae"};
    struct wan ignored;
    kw_status status = kw__index_needs(in, sizeof components / sizeof components[0], components, err);
    return status ? status : read_index(in, &ignored, err);
}

static kw_status read_transformer(kw_model *model, const char *name, struct transformer *net, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status =
        kw__component_load(model, name, "config.json", "WanTransformer3DModel", &root, &in, err);
    if (status) return status;
    net->name = name;
    const char *qk_norm = NULL;
    (void)((status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &net->heads, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 2, 1 << 12, &net->head_dim, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &net->layers, err)) ||
           (status = kw__json_int(in, "ffn_dim", 1, 1 << 20, &net->ffn, err)) ||
           (status = kw__json_int(in, "freq_dim", 2, 1 << 16, &net->freq_dim, err)) ||
           (status = kw__json_int(in, "text_dim", 1, 1 << 16, &net->text_dim, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__WAN_VAE_MAX_Z, &net->in_channels, err)) ||
           (status = kw__json_int(in, "out_channels", 1, KW__WAN_VAE_MAX_Z, &net->out_channels, err)) ||
           (status = kw__json_ints(in, "patch_size", 3, 1, 16, net->patch, err)) ||
           (status = kw__json_number(in, "eps", 0, 1, &net->eps, err)) ||
           (status = kw__json_bool(in, "cross_attn_norm", &net->cross_attn_norm, err)) ||
           (status = kw__json_string(in, "qk_norm", &qk_norm, err)));
    if (!status && strcmp(qk_norm, "rms_norm_across_heads") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: qk_norm \"%s\" is not known; rms_norm_across_heads is", in.path, qk_norm);
    if (!status && (kw__json_has(in, "image_dim") || kw__json_has(in, "added_kv_proj_dim")))
        status = kw__fail(
            err, KW_ERROR_UNSUPPORTED,
            "%s: \"image_dim\" and \"added_kv_proj_dim\" must be null: image-to-video is not supported",
            in.path);
    if (!status && (net->head_dim % 2 || net->freq_dim % 2 || net->head_dim < 6))
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"attention_head_dim\" (6 or more) and \"freq_dim\" must be even", in.path);
    if (!status && net->patch[0] != 1)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: the first of \"patch_size\" must be 1", in.path);
    net->d = net->heads * net->head_dim;
    if (!status && net->d > 1 << 16)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"num_attention_heads\" x \"attention_head_dim\" is %" PRId64
                          "; it must be at most 65536",
                          in.path, net->d);
    json_decref(root);
    return status;
}

/* What the table of coefficients is of (engine/unipc.h). */
static const struct kw__only solver_only[] = {{"prediction_type", "\"flow_prediction\""},
                                              {"use_flow_sigmas", "true"},
                                              {"use_karras_sigmas", "false"},
                                              {"use_exponential_sigmas", "false"},
                                              {"use_beta_sigmas", "false"},
                                              {"final_sigmas_type", "\"zero\""},
                                              {"thresholding", "false"},
                                              {"predict_x0", "true"},
                                              {"solver_order", "2"},
                                              {"solver_type", "\"bh2\""},
                                              {"solver_p", "null"},
                                              {"disable_corrector", "[]"},
                                              {"lower_order_final", "true"}};

static kw_status read_scheduler(kw_model *model, struct wan *wan, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "scheduler", "scheduler_config.json",
                                          "UniPCMultistepScheduler", &root, &in, err);
    if (status) return status;
    bool dynamic = false;
    (void)((status = kw__json_number(in, "flow_shift", 1e-3, 1e3, &wan->flow_shift, err)) ||
           (status = kw__json_number(in, "num_train_timesteps", 1, 1e6, &wan->num_train_timesteps, err)) ||
           (status = kw__check_only(in, sizeof solver_only / sizeof solver_only[0], solver_only, err)));
    if (!status && kw__json_has(in, "use_dynamic_shifting")) /* newer files have it */
        status = kw__json_bool(in, "use_dynamic_shifting", &dynamic, err);
    if (!status && (dynamic || kw__json_has(in, "shift_terminal")))
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: \"use_dynamic_shifting\" must be false and \"shift_terminal\" null: only a "
                          "fixed \"flow_shift\" is known",
                          in.path);
    json_decref(root);
    return status;
}

/* Of both transformers: they are given the same latents and the same text. */
static kw_status check_transformer(const kw_model *model, const struct wan *wan,
                                   const struct transformer *net, kw_error *err)
{
    if (net->text_dim != wan->t5.d_model)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/%s/config.json: \"text_dim\" is %" PRId64
                        ", but text_encoder/config.json's \"d_model\" is %" PRId64 "; they must agree",
                        model->folder, net->name, net->text_dim, wan->t5.d_model);
    if (net->in_channels != wan->vae.z_dim || net->out_channels != wan->vae.z_dim)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/%s/config.json: \"in_channels\" and \"out_channels\" must be vae/config.json's "
                        "\"z_dim\", %" PRId64,
                        model->folder, net->name, wan->vae.z_dim);
    if (memcmp(net->patch, wan->transformers[0].patch, sizeof net->patch) != 0)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/%s/config.json: \"patch_size\" must be transformer/config.json's", model->folder,
                        net->name);
    return KW_OK;
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    static const char *const names[] = {"transformer", "transformer_2"};
    struct wan *wan = kw__arena_alloc(&model->arena, 1, sizeof *wan);
    if (!wan) return kw__fail_memory(err);
    model->config = wan;
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, ".", "model_index.json", NULL, &root, &in, err);
    if (status) return status;
    status = read_index(in, wan, err);
    json_decref(root);
    model->second_guidance = wan->experts == 2;
    for (int i = 0; !status && i < wan->experts; i++) {
        wan->transformers[i].token_timesteps = wan->token_timesteps;
        status = read_transformer(model, names[i], &wan->transformers[i], err);
    }
    (void)(status || (status = read_scheduler(model, wan, err)) ||
           (status = kw__t5_read(model, &wan->t5, err)) ||
           (status = kw__wan_vae_read(model, &wan->vae, err)));
    for (int i = 0; !status && i < wan->experts; i++)
        status = check_transformer(model, wan, &wan->transformers[i], err);
    return status;
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static kw_status check_size(const struct wan *wan, const kw_effective *r, kw_error *err)
{
    const struct kw__wan_vae *vae = &wan->vae;
    double widest = 0, channels = 3;
    for (int i = 0; i < wan->experts; i++)
        widest = fmax(widest, fmax((double)wan->transformers[i].ffn, 6.0 * (double)wan->transformers[i].d));
    for (int i = 0; i < KW__WAN_VAE_LEVELS; i++)
        channels = fmax(channels, 3.0 * (double)(vae->base_dim * vae->dim_mult[i]));
    double frames = fmax((double)r->num_frames, 2.0 + (double)vae->time_factor);
    double pixels = (double)r->width * (double)r->height;
    double sequence = (double)r->tokens * widest,
           text = (double)(r->text_tokens * r->text_tokens) * (double)(wan->t5.heads + wan->t5.d_ff);
    double largest = fmax(fmax(sequence, text), pixels * fmax(3 * frames, channels * 8));
    return kw__check_elements(r, largest, err);
}

/* Multiples of 16 are taken, and made smaller until they hold whole tokens. */
static kw_status fit(const char *option, int64_t token, int64_t *size, kw_error *err)
{
    kw_status status = kw__check_multiple(option, *size, 16, err);
    if (status) return status;
    if (*size < token)
        return kw__fail(err, KW_ERROR_USAGE, "%s %" PRId64 " is too small for this model; try %" PRId64,
                        option, *size, token);
    *size = *size / token * token;
    return KW_OK;
}

static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct wan *wan = model->config;
    const int64_t *patch = wan->transformers[0].patch;
    int64_t space = wan->vae.space_factor, time = wan->vae.time_factor;
    kw_status status = fit("width", space * patch[2], &r->width, err);
    if (!status) status = fit("height", space * patch[1], &r->height, err);
    if (status) return status;
    if (r->num_frames % time != 1 % time) r->num_frames = r->num_frames / time * time + 1;
    r->latent_channels = wan->vae.z_dim;
    r->latent_frames = (r->num_frames - 1) / time + 1;
    r->latent_height = r->height / space;
    r->latent_width = r->width / space;
    r->tokens = r->latent_frames * (r->latent_height / patch[1]) * (r->latent_width / patch[2]);
    if (r->flow_shift == 0) r->flow_shift = wan->flow_shift;
    return check_size(wan, r, err);
}

/* ---- Text encoder: once for each prompt ------------------------------------------------------------ */

static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct wan *wan = self;
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    int hidden = kw__t5_encode(g, &wan->t5, ids, length, program->dtypes.text_encoder);
    struct kw__attr pad = {.width = r->text_tokens}; /* cut to its length, zero-padded to 512 */
    hidden = KW__OP(g, KW__PAD_ROWS, &pad, program->dtypes.denoiser, hidden, length);
    int text = kw__text_state(g, "text", pass, program->dtypes.denoiser,
                              KW__DIMS(r->batch_size, r->text_tokens, wan->t5.d_model));
    kw__state_next(g, text, hidden);
}

/* ---- Transformer: one pass -------------------------------------------------------------------------- */

struct pass {
    struct kw__graph *g;
    const struct transformer *net;
    enum kw__dtype dtype, residual;
    int rope;  /* [L, head_dim] */
    int temb;  /* [B, 1, d], or one for each token: [B*L, 1, d] */
    int time6; /* [B, 1, 6d] or [B*L, 1, 6d] */
    int text;  /* [B, text tokens, d] */
    int block;
};

static const char *block_name(const struct pass *p, const char *rest)
{
    return kw__arena_printf(&p->g->program->arena, "blocks.%d.%s", p->block, rest);
}

static int linear(const struct pass *p, int x, const char *name, int64_t n, enum kw__dtype dtype)
{
    return kw__linear(p->g, x, name, n, true, dtype, dtype);
}

static int vector(const struct pass *p, const char *name, enum kw__dtype dtype)
{
    return name ? kw__weight(p->g, name, dtype, KW__DIMS(p->net->d)) : 0;
}

static int qk_norm(const struct pass *p, int x, const char *name)
{
    struct kw__attr attr = {.eps = p->net->eps};
    return KW__OP(p->g, KW__RMSNORM, &attr, p->dtype, x, vector(p, name, p->dtype));
}

/* LayerNorm without parameters, then x (1 + scale) + shift with rows of the block's table. */
static int norm_modulate(const struct pass *p, int x, int table, int shift)
{
    struct kw__attr norm = {.eps = p->net->eps}, rows = {.row = shift, .row2 = shift + 1};
    x = KW__OP(p->g, KW__LAYERNORM, &norm, KW__F32, x);
    return KW__OP(p->g, KW__MODULATE, &rows, p->dtype, x, table);
}

/* timestep[B] -> temb[B,1,d] and what the blocks read, [B,1,6d]; of token_timesteps [B*L,..]. */
static int time_embedding(struct pass *p, int timestep)
{
    struct kw__graph *g = p->g;
    g->component = "time_embedding";
    struct kw__attr each = {.width = g->program->request.tokens};
    if (p->net->token_timesteps) timestep = KW__OP(g, KW__REPEAT, &each, KW__F32, timestep);
    struct kw__attr width = {.width = p->net->freq_dim};
    int x = KW__OP(g, KW__SINUSOID, &width, KW__F32, timestep); /* this MLP stays in f32 */
    x = linear(p, x, "condition_embedder.time_embedder.linear_1", p->net->d, KW__F32);
    x = KW__OP(g, KW__SILU, NULL, KW__F32, x);
    x = linear(p, x, "condition_embedder.time_embedder.linear_2", p->net->d, KW__F32);
    p->temb = KW__OP(g, KW__CAST, NULL, p->dtype, x);
    x = KW__OP(g, KW__SILU, NULL, p->dtype, p->temb);
    return linear(p, x, "condition_embedder.time_proj", 6 * p->net->d, p->dtype);
}

static int text_projection(const struct pass *p, int text)
{
    p->g->component = "text_projection";
    int x = linear(p, text, "condition_embedder.text_embedder.linear_1", p->net->d, p->dtype);
    x = KW__OP(p->g, KW__GELU, NULL, p->dtype, x);
    return linear(p, x, "condition_embedder.text_embedder.linear_2", p->net->d, p->dtype);
}

static int self_attention(const struct pass *p, int x, int table)
{
    const struct transformer *net = p->net;
    struct kw__graph *g = p->g;
    g->component = "self_attention";
    int y = norm_modulate(p, x, table, 0);
    int q = linear(p, y, block_name(p, "attn1.to_q"), net->d, p->dtype);
    int k = linear(p, y, block_name(p, "attn1.to_k"), net->d, p->dtype);
    int v = linear(p, y, block_name(p, "attn1.to_v"), net->d, p->dtype);
    q = qk_norm(p, q, block_name(p, "attn1.norm_q.weight"));
    k = qk_norm(p, k, block_name(p, "attn1.norm_k.weight"));
    q = KW__OP(g, KW__ROPE, NULL, p->dtype, q, p->rope);
    k = KW__OP(g, KW__ROPE, NULL, p->dtype, k, p->rope);
    struct kw__attr attr = {
        .heads = net->heads, .multiplicity = 1, .scale = 1.0 / sqrt((double)net->head_dim)};
    y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v);
    y = linear(p, y, block_name(p, "attn1.to_out.0"), net->d, p->dtype);
    struct kw__attr gate = {.row = 2};
    return KW__OP(g, KW__GATE_ADD, &gate, p->residual, x, y, table);
}

static int cross_attention(const struct pass *p, int x)
{
    const struct transformer *net = p->net;
    struct kw__graph *g = p->g;
    g->component = "cross_attention";
    int y = x;
    if (net->cross_attn_norm) {
        struct kw__attr norm = {.eps = net->eps};
        int gamma = vector(p, block_name(p, "norm2.weight"), KW__F32);
        int beta = vector(p, block_name(p, "norm2.bias"), KW__F32);
        y = KW__OP(g, KW__LAYERNORM, &norm, p->dtype, x, gamma, beta);
    }
    int q = linear(p, y, block_name(p, "attn2.to_q"), net->d, p->dtype);
    int k = linear(p, p->text, block_name(p, "attn2.to_k"), net->d, p->dtype);
    int v = linear(p, p->text, block_name(p, "attn2.to_v"), net->d, p->dtype);
    q = qk_norm(p, q, block_name(p, "attn2.norm_q.weight"));
    k = qk_norm(p, k, block_name(p, "attn2.norm_k.weight"));
    struct kw__attr attr = {
        .heads = net->heads, .multiplicity = 1, .scale = 1.0 / sqrt((double)net->head_dim)};
    y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v);
    y = linear(p, y, block_name(p, "attn2.to_out.0"), net->d, p->dtype);
    return KW__OP(g, KW__ADD, NULL, p->residual, x, y);
}

static int mlp(const struct pass *p, int x, int table)
{
    struct kw__graph *g = p->g;
    g->component = "mlp";
    int y = norm_modulate(p, x, table, 3);
    y = linear(p, y, block_name(p, "ffn.net.0.proj"), p->net->ffn, p->dtype);
    y = KW__OP(g, KW__GELU, NULL, p->dtype, y);
    y = linear(p, y, block_name(p, "ffn.net.2"), p->net->d, p->dtype);
    struct kw__attr gate = {.row = 5};
    return KW__OP(g, KW__GATE_ADD, &gate, p->residual, x, y, table);
}

/* latents[B,C,T,h,w] -> model output of the same shape */
static int transformer(const void *self, struct kw__graph *g, int latents, int timestep, const int *texts)
{
    const struct transformer *net = self;
    const kw_effective *r = &g->program->request;
    struct pass pass = {
        .g = g, .net = net, .dtype = g->program->dtypes.denoiser, .residual = g->program->dtypes.residual};
    struct pass *p = &pass;
    g->tensors = net->name;

    g->component = "patch_embedding";
    int64_t grid[3] = {r->latent_frames, r->latent_height / net->patch[1], r->latent_width / net->patch[2]};
    int64_t side = 2 * (net->head_dim / 6); /* channels of the two spatial axes, each */
    struct kw__attr table = {
        .grid = {grid[0], grid[1], grid[2]}, .axes = {net->head_dim - 2 * side, side, side}, .theta = 1e4};
    p->rope = kw__op(g, KW__ROPE_TABLE, &table, KW__F32, 0, NULL);
    int x = KW__OP(g, KW__CAST, NULL, p->dtype, latents);
    int w = kw__weight(g, "patch_embedding.weight", p->dtype,
                       KW__DIMS(net->d, net->in_channels, net->patch[0], net->patch[1], net->patch[2]));
    int b = vector(p, "patch_embedding.bias", p->dtype);
    struct kw__attr stride = {.stride = {(int)net->patch[0], (int)net->patch[1], (int)net->patch[2]}};
    x = KW__OP(g, KW__CONV, &stride, p->residual, x, w, b);
    x = KW__OP(g, KW__TO_TOKENS, NULL, p->residual, x);

    p->time6 = time_embedding(p, timestep);
    p->text = text_projection(p, texts[0]);

    for (p->block = 0; p->block < net->layers; p->block++) {
        g->component = "time_embedding";
        const char *name = block_name(p, "scale_shift_table");
        int rows = name ? kw__weight(g, name, KW__F32, KW__DIMS(1, 6, net->d)) : 0;
        int adaln = KW__OP(g, KW__ADALN_TABLE, NULL, KW__F32, rows, p->time6);
        x = self_attention(p, x, adaln);
        x = cross_attention(p, x);
        x = mlp(p, x, adaln);
    }

    g->component = "head";
    int rows = kw__weight(g, "scale_shift_table", KW__F32, KW__DIMS(1, 2, net->d));
    int adaln = KW__OP(g, KW__ADALN_TABLE, NULL, KW__F32, rows, p->temb);
    x = norm_modulate(p, x, adaln, 0);
    x = linear(p, x, "proj_out", net->out_channels * net->patch[0] * net->patch[1] * net->patch[2], p->dtype);
    struct kw__attr unpatchify = {.grid = {grid[0], grid[1], grid[2]},
                                  .patch = {net->patch[0], net->patch[1], net->patch[2]}};
    return KW__OP(g, KW__UNPATCHIFY, &unpatchify, p->dtype, x);
}

/* ---- Denoise: the unit is one step ------------------------------------------------------------------- */

enum { COLUMN_GUIDANCE = KW__UNIPC_COLUMNS, COLUMNS = COLUMN_GUIDANCE + 2 };

static const char *const column_names[COLUMNS] = {
    "timestep",   "sigma",     "convert_x", "convert_v",  "correct_last", "correct_m0", "correct_m1",
    "correct_x0", "correct_x", "predict_x", "predict_x0", "predict_m0",   "guide_cond", "guide_uncond"};

/* The rows of all steps; the first `*first` of them are the first transformer's, each with its own guidance.
 */
static const double *step_rows(const struct wan *wan, struct kw__program *program, int64_t *first)
{
    const kw_effective *r = &program->request;
    kw_effective second = *r;
    second.guidance_scale = r->guidance_scale_2;
    double *rows = kw__arena_alloc(&program->arena, (size_t)r->num_inference_steps * COLUMNS, sizeof *rows);
    if (!rows) return NULL;
    kw__unipc_table(r->num_inference_steps, r->flow_shift, wan->num_train_timesteps, COLUMNS, rows);
    *first = 0;
    for (int64_t i = 0; i < r->num_inference_steps; i++) {
        double *row = rows + i * COLUMNS;
        bool is_first =
            wan->experts == 1 || row[KW__UNIPC_TIMESTEP] >= wan->boundary_ratio * wan->num_train_timesteps;
        *first += is_first;
        kw__guidance_weights(is_first ? r : &second, row + COLUMN_GUIDANCE);
    }
    return rows;
}

static int lincomb(struct kw__graph *g, int column, enum kw__dtype dtype, int count, const int *inputs)
{
    struct kw__attr attr = {.column = column};
    return kw__op(g, KW__LINCOMB, &attr, dtype, count, inputs);
}

/* The graph of a step with one of the transformers. */
static void lower_step(const struct transformer *net, struct kw__graph *g)
{
    const struct kw__program *program = g->program;
    const kw_effective *r = &program->request;
    const int64_t dim[] = {r->batch_size, r->latent_channels, r->latent_frames, r->latent_height,
                           r->latent_width};
    int x = kw__state(g, "latents", KW__F32, KW__STEP, 5, dim);
    int last = kw__state(g, "solver.last", KW__F32, KW__STEP, 5, dim);
    int m0 = kw__state(g, "solver.m0", KW__F32, KW__STEP, 5, dim);
    int m1 = kw__state(g, "solver.m1", KW__F32, KW__STEP, 5, dim);
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));

    const struct kw__guidance guidance = {
        .forward = transformer,
        .self = net,
        .num_texts = 1,
        .texts = {{"text", program->dtypes.denoiser, 3, {r->batch_size, r->text_tokens, net->text_dim}}},
        .dtype = program->dtypes.denoiser,
        .column = COLUMN_GUIDANCE};
    int v = kw__guide(g, &guidance, x, timestep);
    int x0 = lincomb(g, KW__UNIPC_CONVERT, KW__F32, 2, (const int[]){x, v});
    int corrected = lincomb(g, KW__UNIPC_CORRECT, KW__F32, 5, (const int[]){last, m0, m1, x0, x});
    int next = lincomb(g, KW__UNIPC_PREDICT, KW__F32, 3, (const int[]){corrected, x0, m0});
    kw__state_next(g, x, next);
    kw__state_next(g, last, corrected);
    kw__state_next(g, m0, x0);
    kw__state_next(g, m1, m0);
}

/* Timesteps fall: the second transformer's steps come after all of the first one's. */
static void lower_denoise(const struct wan *wan, struct kw__program *program)
{
    static const char *const names[] = {"high_noise_step", "low_noise_step"};
    int64_t first = 0, steps = program->request.num_inference_steps;
    const double *rows = step_rows(wan, program, &first);
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    for (int i = 0; rows && i < wan->experts; i++) {
        const char *name = wan->experts == 1 ? "step" : names[i];
        struct kw__graph *g = kw__stage_phase(program, stage, name, i ? steps - first : first);
        if (!g) return;
        stage->phases[stage->num_phases - 1].table =
            (struct kw__iterations){COLUMNS, column_names, i ? rows + first * COLUMNS : rows};
        lower_step(&wan->transformers[i], g);
    }
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct wan *wan = model->config;
    kw__text_stage(program, "text_encode", encode, model->config);
    lower_denoise(wan, program);
    kw__wan_vae_lower(&wan->vae, program);
}

/* Defaults: WanPipeline.__call__ of diffusers 0.34. 16 fps: the model card. The token counts are an
 * assumption: a prompt of about 20 words, and the empty negative prompt, which is </s> alone. */
const struct kw__family kw__wan_family = {
    .pipeline = "WanPipeline",
    .defaults = {.width = 832,
                 .height = 480,
                 .num_frames = 81,
                 .num_inference_steps = 50,
                 .text_tokens = 512,
                 .prompt_tokens = 30,
                 .negative_tokens = 1,
                 .guidance_scale = 5.0,
                 .fps = 16.0},
    .cleans_prompts = true,
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
