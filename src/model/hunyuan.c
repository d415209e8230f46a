/* HunyuanVideo text-to-video: diffusers' HunyuanVideoPipeline with HunyuanVideoTransformer3DModel, Llama,
 * CLIP and AutoencoderKLHunyuanVideo.
 *
 * Reads top to bottom as the model runs. L = T (H/16) (W/16) video tokens of d = heads x head_dim channels
 * and 256 text tokens, which refiner blocks bring to that width, go through dual blocks side by side, then
 * through single blocks as one sequence; attention is over both together, over the prompt's text and not its
 * padding. Guidance is a number that the model is given, so one pass a step does. Verified parameter count of
 * the transformer: 12,821,012,544. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/solvers.h"
#include "model/family.h"

enum { TEXT_TOKENS = 256 };    /* max_sequence_length of the pipeline's __call__ */
enum { TEMPLATE_TOKENS = 95 }; /* of its prompt template before the prompt: read by Llama, then cut off */
enum { SKIPPED_BLOCKS = 2 };   /* of Llama: their results are made and not read */
enum { POOLED_TOKENS = 77 };   /* of CLIP */
enum { MULTIPLE = 16 };        /* which check_inputs asks sizes to be of */
enum { TIME_WIDTH = 256, REFINER_MLP = 4 }; /* of the classes, whatever the config */
static const double eps = 1e-6;

struct hunyuan {
    int64_t heads, head_dim, d, mlp, dual, single, refiner, channels, patch, text_in, pooled;
    int64_t axes[3];
    double theta, shift, num_train_timesteps;
    bool guidance;
    struct kw__llama llama;
    struct kw__clip_text clip;
    struct kw__hunyuan_vae vae;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static kw_status check_index(struct kw__json in, kw_error *err)
{
    static const char *const components[] = {"text_encoder", "text_encoder_2", "transformer", "scheduler",
                                             "vae"};
    return kw__index_needs(in, sizeof components / sizeof components[0], components, err);
}

static kw_status check_transformer(struct kw__json in, const struct hunyuan *h, kw_error *err)
{
    static const struct kw__only only[] = {{"patch_size_t", "1"}, {"qk_norm", "\"rms_norm\""}};
    kw_status status = kw__check_only(in, sizeof only / sizeof only[0], only, err);
    int64_t out = h->channels;
    if (!status && kw__json_has(in, "out_channels"))
        status = kw__json_int(in, "out_channels", 1, 1 << 10, &out, err);
    if (status) return status;
    if (kw__json_has(in, "image_condition_type"))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s: \"image_condition_type\" must be null: models that start from an image are not "
                        "known",
                        in.path);
    if (out != h->channels)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"out_channels\" must be null or \"in_channels\", %" PRId64, in.path,
                        h->channels);
    if (h->axes[0] % 2 || h->axes[1] % 2 || h->axes[2] % 2 ||
        h->axes[0] + h->axes[1] + h->axes[2] != h->head_dim)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"rope_axes_dim\" must be even, and \"attention_head_dim\", %" PRId64 ", in sum",
                        in.path, h->head_dim);
    if (h->d > 1 << 16 || h->mlp < 1 || h->mlp > 1 << 18)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"num_attention_heads\" x \"attention_head_dim\" must be at most 65536, and "
                        "that times \"mlp_ratio\" 1 to 262144",
                        in.path);
    return KW_OK;
}

static kw_status read_transformer(kw_model *model, struct hunyuan *h, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    double ratio = 0;
    kw_status status = kw__component_load(model, "transformer", "config.json",
                                          "HunyuanVideoTransformer3DModel", &root, &in, err);
    if (status) return status;
    (void)((status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &h->heads, err)) ||
           (status = kw__json_int(in, "attention_head_dim", 2, 1 << 12, &h->head_dim, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &h->dual, err)) ||
           (status = kw__json_int(in, "num_single_layers", 1, 1 << 10, &h->single, err)) ||
           (status = kw__json_int(in, "num_refiner_layers", 1, 1 << 10, &h->refiner, err)) ||
           (status = kw__json_int(in, "in_channels", 1, KW__HUNYUAN_VAE_MAX_Z, &h->channels, err)) ||
           (status = kw__json_int(in, "patch_size", 1, 16, &h->patch, err)) ||
           (status = kw__json_int(in, "text_embed_dim", 1, 1 << 16, &h->text_in, err)) ||
           (status = kw__json_int(in, "pooled_projection_dim", 1, 1 << 16, &h->pooled, err)) ||
           (status = kw__json_ints(in, "rope_axes_dim", 3, 0, 1 << 12, h->axes, err)) ||
           (status = kw__json_number(in, "rope_theta", 1, 1e12, &h->theta, err)) ||
           (status = kw__json_number(in, "mlp_ratio", 1e-3, 1e3, &ratio, err)) ||
           (status = kw__json_bool(in, "guidance_embeds", &h->guidance, err)));
    h->d = h->heads * h->head_dim;
    h->mlp = (int64_t)((double)h->d * ratio);
    if (!status) status = check_transformer(in, h, err);
    json_decref(root);
    return status;
}

/* A width that the transformer reads is that of what makes it. */
static kw_status check_width(const kw_model *model, const char *key, int64_t value, const char *file,
                             const char *other, int64_t wanted, kw_error *err)
{
    if (value == wanted) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%s/transformer/config.json: \"%s\" is %" PRId64
                    ", but %s/config.json's \"%s\" is %" PRId64 "; they must agree",
                    model->folder, key, value, file, other, wanted);
}

static kw_status read_model(kw_model *model, kw_error *err)
{
    struct hunyuan *h = kw__arena_alloc(&model->arena, 1, sizeof *h);
    if (!h) return kw__fail_memory(err);
    model->config = h;
    kw_status status;
    (void)((status = read_transformer(model, h, err)) ||
           (status = kw__flow_scheduler_read(model, false, &h->shift, &h->num_train_timesteps, err)) ||
           (status = kw__llama_read(model, &h->llama, err)) ||
           (status = kw__clip_text_read(model, "text_encoder_2", &h->clip, err)) ||
           (status = kw__hunyuan_vae_read(model, &h->vae, err)) ||
           (status = check_width(model, "text_embed_dim", h->text_in, "text_encoder", "hidden_size",
                                 h->llama.d, err)) ||
           (status = check_width(model, "pooled_projection_dim", h->pooled, "text_encoder_2", "hidden_size",
                                 h->clip.d, err)) ||
           (status =
                check_width(model, "in_channels", h->channels, "vae", "latent_channels", h->vae.z_dim, err)));
    if (status) return status;
    if (h->llama.layers < SKIPPED_BLOCKS)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s/text_encoder/config.json: \"num_hidden_layers\" must be at least %d, of which the "
            "pipeline reads nothing",
            model->folder, SKIPPED_BLOCKS);
    if (h->clip.positions < POOLED_TOKENS)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s/text_encoder_2/config.json: \"max_position_embeddings\" must be at least %d, the "
                        "width of a prompt",
                        model->folder, POOLED_TOKENS);
    return KW_OK;
}

/* ---- The pipeline's rules ------------------------------------------------------------------------ */

static kw_status check_size(const struct hunyuan *h, const kw_effective *r, kw_error *err)
{
    double widest = (double)(6 * h->d + h->mlp), text = (double)(TEMPLATE_TOKENS + r->text_tokens);
    double pixels = (double)r->width * (double)r->height, frames = (double)(4 * r->num_frames);
    double sequence = (double)(r->tokens + r->text_tokens) * widest;
    text *= (double)(h->llama.ffn + h->llama.d + h->clip.ffn) + text;
    /* tiles overlap, so that laid side by side they are larger than the clip */
    return kw__check_elements(r, 2 * fmax(fmax(sequence, text), 2 * pixels * frames * (double)h->vae.widest),
                              err);
}

/* The pipeline asks for multiples of 16 and the transformer for whole patches. There is one pass: guidance is
 * embedded, and a second one, with a negative prompt, is off unless true_cfg_scale is given. */
static kw_status resolve(const kw_model *model, kw_effective *r, kw_error *err)
{
    const struct hunyuan *h = model->config;
    int64_t multiple = KW__HUNYUAN_SPACE * h->patch;
    while (multiple % MULTIPLE) multiple += KW__HUNYUAN_SPACE * h->patch;
    kw_status status = kw__check_multiple("width", r->width, multiple, err);
    if (!status) status = kw__check_multiple("height", r->height, multiple, err);
    if (status) return status;
    r->guidance_passes = 1;
    r->latent_channels = h->channels;
    r->latent_frames = (r->num_frames - 1) / KW__HUNYUAN_TIME + 1;
    r->num_frames = (r->latent_frames - 1) * KW__HUNYUAN_TIME + 1;
    r->latent_height = r->height / KW__HUNYUAN_SPACE;
    r->latent_width = r->width / KW__HUNYUAN_SPACE;
    r->tokens = r->latent_frames * (r->latent_height / h->patch) * (r->latent_width / h->patch);
    if (r->flow_shift == 0) r->flow_shift = h->shift;
    return check_size(h, r, err);
}

/* ---- Text encoders: once for the prompt ----------------------------------------------------------- */

static void keep(struct kw__graph *g, const char *name, int pass, int value)
{
    if (!value) return;
    const struct kw__value v = g->values[value];
    kw__state_next(g, kw__text_state(g, name, pass, v.dtype, v.ndim, v.dim), value);
}

/* CLIP reads ids of its own; the row of the prompt's end stands for all. */
static int pooled_text(const struct hunyuan *h, struct kw__graph *g)
{
    const struct kw__program *program = g->program;
    int64_t batch = program->request.batch_size;
    struct kw__attr last = {.width = 1};
    g->component = g->tensors = "text_encoder_2";
    int ids = kw__input(g, "ids_2", KW__I32, KW__PROMPT, KW__DIMS(batch, POOLED_TOKENS));
    int length = kw__input(g, "length_2", KW__I32, KW__PROMPT, KW__DIMS(batch));
    int x = kw__clip_text_encode(g, &h->clip, ids, program->dtypes.text_encoder);
    return KW__OP(g, KW__MEAN_ROWS, &last, program->dtypes.denoiser, x, length);
}

/* Llama's last blocks run too: what they make is kept, though nothing reads it. */
static void encode(const void *self, struct kw__graph *g, int pass, int ids, int length)
{
    const struct hunyuan *h = self;
    const kw_effective *r = &g->program->request;
    enum kw__dtype dtype = g->program->dtypes.denoiser;
    struct kw__attr prompt = {.axis = 1, .start = TEMPLATE_TOKENS, .width = r->text_tokens};
    int template = kw__input(g, "template", KW__I32, KW__PROMPT, KW__DIMS(r->batch_size, TEMPLATE_TOKENS));
    struct kw__llama_states text = kw__llama_encode(g, &h->llama, template, ids, length, SKIPPED_BLOCKS,
                                                    g->program->dtypes.text_encoder);
    keep(g, "unread", pass, text.last);
    keep(g, "text", pass, KW__OP(g, KW__SLICE, &prompt, dtype, text.hidden));
    keep(g, "text_length", pass, length);
    keep(g, "pooled", pass, pooled_text(h, g));
}

/* ---- Transformer: one pass -------------------------------------------------------------------------- */

struct pass {
    struct kw__graph *g;
    const struct hunyuan *h;
    enum kw__dtype dtype, residual;
    int rope;        /* [L, head_dim] */
    int temb;        /* [B, 1, d] */
    int text_length; /* [B] */
    int64_t video_rows, text_rows;
    const char *name; /* of the block */
};

static int linear(const struct pass *p, int x, const char *name, int64_t n)
{
    return kw__linear(p->g, x, name, n, true, p->dtype, p->dtype);
}

static int part(const struct pass *p, int x, const char *rest, int64_t n)
{
    return linear(p, x, kw__join(p->g, p->name, rest), n);
}

/* Rows of axis 1. */
static int rows(const struct pass *p, int x, int64_t start, int64_t count)
{
    struct kw__attr attr = {.axis = 1, .start = start, .width = count};
    return x ? KW__OP(p->g, KW__SLICE, &attr, p->g->values[x].dtype, x) : 0;
}

static int concat(const struct pass *p, int axis, int first, int second)
{
    struct kw__attr attr = {.axis = axis};
    return first ? KW__OP(p->g, KW__CONCAT, &attr, p->g->values[first].dtype, first, second) : 0;
}

/* Two matrix products with SiLU between them. */
static int two_layers(const struct pass *p, int x, const char *name)
{
    x = linear(p, x, kw__join(p->g, name, ".linear_1"), p->h->d);
    x = KW__OP(p->g, KW__SILU, NULL, p->dtype, x);
    return linear(p, x, kw__join(p->g, name, ".linear_2"), p->h->d);
}

static int embedded_number(const struct pass *p, int number, const char *name)
{
    struct kw__attr width = {.width = TIME_WIDTH};
    int x = KW__OP(p->g, KW__SINUSOID, &width, KW__F32, number);
    return two_layers(p, KW__OP(p->g, KW__CAST, NULL, p->dtype, x), name);
}

static int modulation(const struct pass *p, int temb, const char *name, int64_t count)
{
    p->g->component = "time_embedding";
    int x = KW__OP(p->g, KW__SILU, NULL, p->dtype, temb);
    return linear(p, x, name, count * p->h->d);
}

static int layernorm(const struct pass *p, int x, const char *name)
{
    struct kw__attr attr = {.eps = eps};
    const char *weight = kw__join(p->g, name, ".weight"), *bias = kw__join(p->g, name, ".bias");
    if (!weight || !bias) return KW__OP(p->g, KW__LAYERNORM, &attr, p->dtype, x);
    int gamma = kw__weight(p->g, weight, p->dtype, KW__DIMS(p->h->d));
    int beta = kw__weight(p->g, bias, p->dtype, KW__DIMS(p->h->d));
    return KW__OP(p->g, KW__LAYERNORM, &attr, p->dtype, x, gamma, beta);
}

/* LayerNorm without weights, then x (1 + scale) + shift of the table's rows. */
static int modulated(const struct pass *p, int x, int table, int shift, int scale)
{
    struct kw__attr row = {.row = shift, .row2 = scale};
    return KW__OP(p->g, KW__MODULATE, &row, p->dtype, layernorm(p, x, NULL), table);
}

static int add_gated(const struct pass *p, int x, int y, int table, int gate)
{
    struct kw__attr row = {.row = gate};
    return KW__OP(p->g, KW__GATE_ADD, &row, p->residual, x, y, table);
}

/* ---- The text's way in: its own time embedding, then blocks over the prompt's rows ----------------------
 */

static struct kw__attr attention_of(const struct pass *p, int64_t prefix)
{
    return (struct kw__attr){.heads = p->h->heads,
                             .multiplicity = 1,
                             .scale = 1.0 / sqrt((double)p->h->head_dim),
                             .prefix = prefix};
}

static int refiner_block(const struct pass *p, int x, int temb)
{
    struct kw__graph *g = p->g;
    int64_t d = p->h->d;
    enum { GATE_ATTENTION, GATE_MLP, GATES };
    int table = modulation(p, temb, kw__join(p->g, p->name, ".norm_out.linear"), GATES);
    g->component = "text_projection";
    int y = layernorm(p, x, kw__join(p->g, p->name, ".norm1"));
    struct kw__attr attr = attention_of(p, 0);
    int q = part(p, y, ".attn.to_q", d), k = part(p, y, ".attn.to_k", d), v = part(p, y, ".attn.to_v", d);
    y = KW__OP(g, KW__ATTENTION, &attr, p->dtype, q, k, v, 0, p->text_length);
    x = add_gated(p, x, part(p, y, ".attn.to_out.0", d), table, GATE_ATTENTION);
    y = part(p, layernorm(p, x, kw__join(p->g, p->name, ".norm2")), ".ff.net.0.proj", REFINER_MLP * d);
    y = KW__OP(g, KW__SILU, NULL, p->dtype, y);
    return add_gated(p, x, part(p, y, ".ff.net.2", d), table, GATE_MLP);
}

static int refined_text(struct pass *p, int text, int timestep)
{
    struct kw__graph *g = p->g;
    g->component = "text_projection";
    int mean = KW__OP(g, KW__MEAN_ROWS, NULL, p->dtype, text, p->text_length);
    int pooled = two_layers(p, mean, "context_embedder.time_text_embed.text_embedder");
    g->component = "time_embedding";
    int temb = embedded_number(p, timestep, "context_embedder.time_text_embed.timestep_embedder");
    temb = KW__OP(g, KW__ADD, NULL, p->dtype, temb, pooled);
    g->component = "text_projection";
    int x = linear(p, text, "context_embedder.proj_in", p->h->d);
    for (int64_t i = 0; i < p->h->refiner; i++) {
        p->name =
            kw__arena_printf(&g->program->arena, "context_embedder.token_refiner.refiner_blocks.%" PRId64, i);
        x = refiner_block(p, x, temb);
    }
    return x;
}

/* ---- Blocks ----------------------------------------------------------------------------------------------
 */

/* A projection to queries or keys, each head normalised. */
static int heads(const struct pass *p, int x, const char *name, const char *norm)
{
    struct kw__attr attr = {.eps = eps, .heads = p->h->heads};
    int gamma = kw__parameter(p->g, p->dtype, p->name, norm, KW__DIMS(p->h->head_dim));
    return KW__OP(p->g, KW__RMSNORM, &attr, p->dtype, part(p, x, name, p->h->d), gamma);
}

/* Those of the video turn by their place. */
static int turned(const struct pass *p, int x)
{
    return KW__OP(p->g, KW__ROPE, NULL, p->dtype, x, p->rope);
}

static int joint_attention(const struct pass *p, int q, int k, int v)
{
    struct kw__attr attr = attention_of(p, p->video_rows);
    return KW__OP(p->g, KW__ATTENTION, &attr, p->dtype, q, k, v, 0, p->text_length);
}

static int mlp(const struct pass *p, int x, const char *up, const char *down)
{
    x = KW__OP(p->g, KW__GELU, NULL, p->dtype, part(p, x, up, p->h->mlp));
    return part(p, x, down, p->h->d);
}

/* What a dual block's modulation has side by side. */
enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_MLP, SCALE_MLP, GATE_MLP, MODULATIONS };

static void dual_block(const struct pass *p, int *video, int *text)
{
    struct kw__graph *g = p->g;
    int64_t d = p->h->d;
    int table = modulation(p, p->temb, kw__join(p->g, p->name, ".norm1.linear"), MODULATIONS);
    int text_table = modulation(p, p->temb, kw__join(p->g, p->name, ".norm1_context.linear"), MODULATIONS);

    g->component = "self_attention";
    int x = modulated(p, *video, table, SHIFT_ATTENTION, SCALE_ATTENTION);
    int y = modulated(p, *text, text_table, SHIFT_ATTENTION, SCALE_ATTENTION);
    int q = concat(p, 1, turned(p, heads(p, x, ".attn.to_q", ".attn.norm_q.weight")),
                   heads(p, y, ".attn.add_q_proj", ".attn.norm_added_q.weight"));
    int k = concat(p, 1, turned(p, heads(p, x, ".attn.to_k", ".attn.norm_k.weight")),
                   heads(p, y, ".attn.add_k_proj", ".attn.norm_added_k.weight"));
    int v = concat(p, 1, part(p, x, ".attn.to_v", d), part(p, y, ".attn.add_v_proj", d));
    int joint = joint_attention(p, q, k, v);
    x = part(p, rows(p, joint, 0, p->video_rows), ".attn.to_out.0", d);
    *video = add_gated(p, *video, x, table, GATE_ATTENTION);
    g->component = "mlp";
    x = modulated(p, *video, table, SHIFT_MLP, SCALE_MLP);
    *video = add_gated(p, *video, mlp(p, x, ".ff.net.0.proj", ".ff.net.2"), table, GATE_MLP);

    g->component = "text_stream";
    y = part(p, rows(p, joint, p->video_rows, p->text_rows), ".attn.to_add_out", d);
    *text = add_gated(p, *text, y, text_table, GATE_ATTENTION);
    y = modulated(p, *text, text_table, SHIFT_MLP, SCALE_MLP);
    y = mlp(p, y, ".ff_context.net.0.proj", ".ff_context.net.2");
    *text = add_gated(p, *text, y, text_table, GATE_MLP);
}

/* Both together: attention and MLP read the same rows, and one matrix product reads what both made. */
static int single_block(const struct pass *p, int x)
{
    struct kw__graph *g = p->g;
    enum { SHIFT, SCALE, GATE, PARTS };
    int table = modulation(p, p->temb, kw__join(p->g, p->name, ".norm.linear"), PARTS);
    g->component = "self_attention";
    int y = modulated(p, x, table, SHIFT, SCALE);
    int q = heads(p, y, ".attn.to_q", ".attn.norm_q.weight");
    int k = heads(p, y, ".attn.to_k", ".attn.norm_k.weight"), v = part(p, y, ".attn.to_v", p->h->d);
    q = concat(p, 1, turned(p, rows(p, q, 0, p->video_rows)), rows(p, q, p->video_rows, p->text_rows));
    k = concat(p, 1, turned(p, rows(p, k, 0, p->video_rows)), rows(p, k, p->video_rows, p->text_rows));
    int joint = joint_attention(p, q, k, v);
    g->component = "mlp";
    y = KW__OP(g, KW__GELU, NULL, p->dtype, part(p, y, ".proj_mlp", p->h->mlp));
    y = part(p, concat(p, 2, joint, y), ".proj_out", p->h->d);
    return add_gated(p, x, y, table, GATE);
}

/* From tokens to cells: of each channel a patch's rows, then its columns. */
static int head(const struct pass *p, int x, const int64_t *grid)
{
    struct kw__graph *g = p->g;
    int64_t patch = p->h->patch;
    int table = modulation(p, p->temb, "norm_out.linear", 2);
    g->component = "head";
    struct kw__attr cells = {.grid = {grid[0], grid[1], grid[2]}, .patch = {1, 1, 1}};
    struct kw__attr larger = {.patch = {1, patch, patch}};
    x = linear(p, modulated(p, x, table, 1, 0), "proj_out", patch * patch * p->h->channels);
    x = KW__OP(g, KW__UNPATCHIFY, &cells, p->dtype, x);
    return KW__OP(g, KW__DEPTH_TO_SPACE, &larger, p->dtype, x);
}

/* latents[B,C,T,h,w], the texts of the prompt -> what the solver is given, of the latents' shape */
static int transformer(const struct hunyuan *h, struct kw__graph *g, int latents, int timestep, int guidance,
                       int text, int text_length, int pooled)
{
    const kw_effective *r = &g->program->request;
    const int64_t grid[3] = {r->latent_frames, r->latent_height / h->patch, r->latent_width / h->patch};
    struct pass pass = {.g = g,
                        .h = h,
                        .dtype = g->program->dtypes.denoiser,
                        .residual = g->program->dtypes.residual,
                        .text_length = text_length,
                        .video_rows = r->tokens,
                        .text_rows = r->text_tokens};
    struct pass *p = &pass;
    g->tensors = "transformer";

    g->component = "time_embedding";
    p->temb = embedded_number(p, timestep, "time_text_embed.timestep_embedder");
    if (h->guidance)
        p->temb = KW__OP(g, KW__ADD, NULL, p->dtype, p->temb,
                         embedded_number(p, guidance, "time_text_embed.guidance_embedder"));
    p->temb =
        KW__OP(g, KW__ADD, NULL, p->dtype, p->temb, two_layers(p, pooled, "time_text_embed.text_embedder"));

    g->component = "patch_embedding";
    struct kw__attr table = {
        .grid = {grid[0], grid[1], grid[2]}, .axes = {h->axes[0], h->axes[1], h->axes[2]}, .theta = h->theta};
    p->rope = kw__op(g, KW__ROPE_TABLE, &table, KW__F32, 0, NULL);
    struct kw__attr stride = {.stride = {1, (int)h->patch, (int)h->patch}};
    int w =
        kw__weight(g, "x_embedder.proj.weight", p->dtype, KW__DIMS(h->d, h->channels, 1, h->patch, h->patch));
    int b = kw__weight(g, "x_embedder.proj.bias", p->dtype, KW__DIMS(h->d));
    int video = KW__OP(g, KW__CAST, NULL, p->dtype, latents);
    video = KW__OP(g, KW__CONV, &stride, p->residual, video, w, b);
    video = KW__OP(g, KW__TO_TOKENS, NULL, p->residual, video);
    text = refined_text(p, text, timestep);

    struct kw__arena *arena = &g->program->arena;
    for (int64_t i = 0; i < h->dual; i++) {
        p->name = kw__arena_printf(arena, "transformer_blocks.%" PRId64, i);
        dual_block(p, &video, &text);
    }
    int x = concat(p, 1, video, text);
    for (int64_t i = 0; i < h->single; i++) {
        p->name = kw__arena_printf(arena, "single_transformer_blocks.%" PRId64, i);
        x = single_block(p, x);
    }
    return head(p, rows(p, x, 0, p->video_rows), grid);
}

/* ---- Denoise: the unit is one step ------------------------------------------------------------------- */

enum { COLUMN_GUIDANCE = KW__STEP_COLUMNS, COLUMNS };

static struct kw__iterations step_table(const struct hunyuan *h, struct kw__program *program)
{
    static const char *const names[COLUMNS] = {"timestep", "sigma", "scale", "step_x", "step_v", "guidance"};
    const kw_effective *r = &program->request;
    int64_t steps = r->num_inference_steps;
    double *table = kw__arena_alloc(&program->arena, (size_t)steps * COLUMNS, sizeof *table);
    double *sigma = kw__arena_alloc(&program->arena, (size_t)steps + 1, sizeof *sigma);
    if (!table || !sigma) return (struct kw__iterations){0, NULL, NULL};
    for (int64_t i = 0; i <= steps; i++) {
        double even = 1 - (double)i / (double)steps;
        sigma[i] = r->flow_shift * even / (1 + (r->flow_shift - 1) * even);
    }
    kw__flow_euler_table(sigma, h->num_train_timesteps, false, steps, COLUMNS, table);
    for (int64_t i = 0; i < steps; i++) table[i * COLUMNS + COLUMN_GUIDANCE] = r->guidance_scale * 1000;
    return (struct kw__iterations){COLUMNS, names, table};
}

static void lower_denoise(const struct hunyuan *h, struct kw__program *program)
{
    const kw_effective *r = &program->request;
    enum kw__dtype dtype = program->dtypes.denoiser;
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "step", r->num_inference_steps);
    if (!g) return;
    stage->phases[stage->num_phases - 1].table = step_table(h, program);

    int x = kw__state(
        g, "latents", KW__F32, KW__STEP,
        KW__DIMS(r->batch_size, r->latent_channels, r->latent_frames, r->latent_height, r->latent_width));
    int timestep = kw__input(g, "timestep", KW__F32, KW__STEP, KW__DIMS(r->batch_size));
    int guidance = h->guidance ? kw__input(g, "guidance", KW__F32, KW__STEP, KW__DIMS(r->batch_size)) : 0;
    int text = kw__text_state(g, "text", 0, dtype, KW__DIMS(r->batch_size, r->text_tokens, h->text_in));
    int length = kw__text_state(g, "text_length", 0, KW__I32, KW__DIMS(r->batch_size));
    int pooled = kw__text_state(g, "pooled", 0, dtype, KW__DIMS(r->batch_size, 1, h->pooled));
    int v = transformer(h, g, x, timestep, guidance, text, length, pooled);
    g->component = "solver";
    struct kw__attr step = {.column = KW__STEP_X};
    v = KW__OP(g, KW__CAST, NULL, KW__F32, v);
    kw__state_next(g, x, KW__OP(g, KW__LINCOMB, &step, KW__F32, x, v));
}

static void lower(const kw_model *model, struct kw__program *program)
{
    const struct hunyuan *h = model->config;
    kw__text_stage(program, "text_encode", encode, h);
    lower_denoise(h, program);
    kw__hunyuan_vae_lower(&h->vae, program);
}

/* Defaults: HunyuanVideoPipeline.__call__ of diffusers 0.34; 24 fps: sample_video.py of Tencent/HunyuanVideo.
 * The token count is an assumption: a prompt of about 20 words. */
const struct kw__family kw__hunyuan_family = {
    .pipeline = "HunyuanVideoPipeline",
    .defaults = {.width = 1280,
                 .height = 720,
                 .num_frames = 129,
                 .num_inference_steps = 50,
                 .text_tokens = TEXT_TOKENS,
                 .prompt_tokens = 30,
                 .negative_tokens = 1,
                 .guidance_scale = 6.0,
                 .fps = 24.0},
    .check_index = check_index,
    .read = read_model,
    .resolve = resolve,
    .lower = lower,
};
