/* CLIP's text encoder, as transformers' CLIPTextModel computes it: token and position embeddings, pre-norm
 * blocks with causal attention, a last norm. What Stable Diffusion reads is its last hidden state,
 * HunyuanVideo of that the row of the prompt's end.
 *
 * Verified parameter count: ViT-L/14's 123,060,480. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

kw_status kw__clip_text_read(kw_model *model, const char *component, struct kw__clip_text *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, component, "config.json", NULL, &root, &in, err);
    if (status) return status;
    const char *type = NULL, *activation = NULL;
    struct kw__clip_text clip = {.activation = KW__ACT_GELU_ERF};
    (void)((status = kw__json_string(in, "model_type", &type, err)) ||
           (status = kw__json_string(in, "hidden_act", &activation, err)) ||
           (status = kw__json_int(in, "vocab_size", 1, 1 << 24, &clip.vocab, err)) ||
           (status = kw__json_int(in, "hidden_size", 1, 1 << 16, &clip.d, err)) ||
           (status = kw__json_int(in, "intermediate_size", 1, 1 << 18, &clip.ffn, err)) ||
           (status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &clip.heads, err)) ||
           (status = kw__json_int(in, "num_hidden_layers", 1, 1 << 10, &clip.layers, err)) ||
           (status = kw__json_int(in, "max_position_embeddings", 1, 1 << 16, &clip.positions, err)) ||
           (status = kw__json_number(in, "layer_norm_eps", 0, 1, &clip.eps, err)));
    if (!status && strcmp(type, "clip_text_model") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: model_type \"%s\" is not known; clip_text_model is",
                          in.path, type);
    if (!status && strcmp(activation, "quick_gelu") == 0)
        clip.activation = KW__ACT_GELU_QUICK;
    else if (!status && strcmp(activation, "gelu") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: hidden_act \"%s\" is not known; quick_gelu and gelu are", in.path, activation);
    if (!status && clip.d % clip.heads)
        status =
            kw__fail(err, KW_ERROR_FORMAT,
                     "%s: \"num_attention_heads\" must divide \"hidden_size\", %" PRId64, in.path, clip.d);
    if (!status) *out = clip;
    json_decref(root);
    return status;
}

struct clip_builder {
    struct kw__graph *g;
    const struct kw__clip_text *config;
    enum kw__dtype dtype;
    int layer;
};

static const char *layer_name(const struct clip_builder *b, const char *rest)
{
    return kw__arena_printf(&b->g->program->arena, "text_model.encoder.layers.%d.%s", b->layer, rest);
}

static int linear(const struct clip_builder *b, int x, const char *rest, int64_t n)
{
    const char *name = layer_name(b, rest);
    return kw__linear(b->g, x, name, n, true, b->dtype, b->dtype);
}

static int norm(const struct clip_builder *b, int x, const char *name)
{
    struct kw__attr attr = {.eps = b->config->eps};
    int gamma = kw__parameter(b->g, b->dtype, name, ".weight", KW__DIMS(b->config->d));
    int beta = kw__parameter(b->g, b->dtype, name, ".bias", KW__DIMS(b->config->d));
    if (!gamma || !beta) return 0;
    return KW__OP(b->g, KW__LAYERNORM, &attr, b->dtype, x, gamma, beta);
}

static int block(const struct clip_builder *b, int x)
{
    const struct kw__clip_text *c = b->config;
    struct kw__graph *g = b->g;
    int y = norm(b, x, layer_name(b, "layer_norm1"));
    int q = linear(b, y, "self_attn.q_proj", c->d);
    int k = linear(b, y, "self_attn.k_proj", c->d);
    int v = linear(b, y, "self_attn.v_proj", c->d);
    struct kw__attr attention = {
        .heads = c->heads, .scale = 1.0 / sqrt((double)(c->d / c->heads)), .multiplicity = 1, .causal = true};
    y = KW__OP(g, KW__ATTENTION, &attention, b->dtype, q, k, v);
    y = linear(b, y, "self_attn.out_proj", c->d);
    x = KW__OP(g, KW__ADD, NULL, b->dtype, x, y);

    struct kw__attr activation = {.activation = c->activation};
    y = norm(b, x, layer_name(b, "layer_norm2"));
    y = linear(b, y, "mlp.fc1", c->ffn);
    y = KW__OP(g, KW__GELU, &activation, b->dtype, y);
    y = linear(b, y, "mlp.fc2", c->d);
    return KW__OP(g, KW__ADD, NULL, b->dtype, x, y);
}

int kw__clip_text_encode(struct kw__graph *g, const struct kw__clip_text *config, int ids,
                         enum kw__dtype dtype)
{
    if (!ids) return 0;
    struct clip_builder b = {g, config, dtype, 0};
    int tokens = kw__weight(g, "text_model.embeddings.token_embedding.weight", dtype,
                            KW__DIMS(config->vocab, config->d));
    int places = kw__weight(g, "text_model.embeddings.position_embedding.weight", dtype,
                            KW__DIMS(config->positions, config->d));
    int x = KW__OP(g, KW__EMBEDDING, NULL, dtype, ids, tokens);
    x = KW__OP(g, KW__ADD_ROWS, NULL, dtype, x, places);
    for (; b.layer < config->layers; b.layer++) x = block(&b, x);
    return norm(&b, x, "text_model.final_layer_norm");
}
