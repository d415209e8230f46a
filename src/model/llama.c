/* Llama as a text encoder, as transformers' LlamaModel computes it: RMSNorm before each part, heads of
 * queries that share those of keys and values, positions that turn the halves of a head, a gated MLP.
 *
 * A template comes before the prompt and is attended to; causal attention sees no padding, which comes after.
 * What HunyuanVideo reads is what is left `skip` blocks before the last. Verified parameter count: Llama 3
 * 8B's trunk with 128,320 words, 7,505,186,816. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/family.h"

static kw_status check_llama(struct kw__json in, const struct kw__llama *c, kw_error *err)
{
    if (c->d % c->heads || c->d / c->heads % 2)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"num_attention_heads\" must divide \"hidden_size\", %" PRId64
                        ", into heads of even width",
                        in.path, c->d);
    if (c->heads % c->kv_heads)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"num_key_value_heads\" must divide \"num_attention_heads\", %" PRId64, in.path,
                        c->heads);
    return KW_OK;
}

/* What has another value is another model. */
static kw_status check_variant(struct kw__json in, const struct kw__llama *c, kw_error *err)
{
    static const char *const off[] = {"attention_bias", "mlp_bias", "rope_scaling"};
    const char *type = NULL, *activation = NULL;
    int64_t width = c->d / c->heads;
    kw_status status;
    (void)((status = kw__json_string(in, "model_type", &type, err)) ||
           (status = kw__json_string(in, "hidden_act", &activation, err)));
    if (!status && kw__json_has(in, "head_dim"))
        status = kw__json_int(in, "head_dim", 1, 1 << 12, &width, err);
    if (status) return status;
    if (strcmp(type, "llama") != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: model_type \"%s\" is not known; llama is", in.path,
                        type);
    if (strcmp(activation, "silu") != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: hidden_act \"%s\" is not known; silu is", in.path,
                        activation);
    if (width != c->d / c->heads)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s: \"head_dim\" must be \"hidden_size\" / \"num_attention_heads\", %" PRId64,
                        in.path, c->d / c->heads);
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        const json_t *value = json_object_get(in.object, off[i]);
        if (value && !json_is_null(value) && !json_is_false(value))
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: \"%s\" must be false or absent", in.path, off[i]);
    }
    return KW_OK;
}

kw_status kw__llama_read(kw_model *model, struct kw__llama *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "text_encoder", "config.json", NULL, &root, &in, err);
    if (status) return status;
    struct kw__llama c = {0};
    (void)((status = kw__json_int(in, "vocab_size", 1, 1 << 24, &c.vocab, err)) ||
           (status = kw__json_int(in, "hidden_size", 1, 1 << 16, &c.d, err)) ||
           (status = kw__json_int(in, "intermediate_size", 1, 1 << 18, &c.ffn, err)) ||
           (status = kw__json_int(in, "num_attention_heads", 1, 1 << 12, &c.heads, err)) ||
           (status = kw__json_int(in, "num_key_value_heads", 1, 1 << 12, &c.kv_heads, err)) ||
           (status = kw__json_int(in, "num_hidden_layers", 1, 1 << 10, &c.layers, err)) ||
           (status = kw__json_number(in, "rope_theta", 1, 1e12, &c.theta, err)) ||
           (status = kw__json_number(in, "rms_norm_eps", 0, 1, &c.eps, err)) ||
           (status = check_llama(in, &c, err)) || (status = check_variant(in, &c, err)));
    if (!status) *out = c;
    json_decref(root);
    return status;
}

struct llama_builder {
    struct kw__graph *g;
    const struct kw__llama *config;
    enum kw__dtype dtype;
    int length, rope;
    int64_t before; /* rows of the template */
    int layer;
};

static const char *layer_name(const struct llama_builder *b, const char *rest)
{
    return kw__arena_printf(&b->g->program->arena, "layers.%d.%s", b->layer, rest);
}

static int linear(const struct llama_builder *b, int x, const char *rest, int64_t n)
{
    const char *name = layer_name(b, rest);
    return kw__linear(b->g, x, name, n, false, b->dtype, b->dtype);
}

static int rmsnorm(const struct llama_builder *b, int x, const char *name)
{
    struct kw__attr attr = {.eps = b->config->eps};
    int gamma = name ? kw__weight(b->g, name, b->dtype, KW__DIMS(b->config->d)) : 0;
    return KW__OP(b->g, KW__RMSNORM, &attr, b->dtype, x, gamma);
}

/* Keys or values, each head as often as there are heads of queries for it. */
static int shared_heads(const struct llama_builder *b, int x)
{
    const struct kw__llama *c = b->config;
    struct kw__attr each = {.heads = c->kv_heads, .width = c->heads / c->kv_heads};
    return each.width > 1 ? KW__OP(b->g, KW__REPEAT, &each, b->dtype, x) : x;
}

static int block(const struct llama_builder *b, int x)
{
    const struct kw__llama *c = b->config;
    struct kw__graph *g = b->g;
    int64_t width = c->d / c->heads;
    struct kw__attr halves = {.transposed = true};
    struct kw__attr attention = {.heads = c->heads,
                                 .scale = 1.0 / sqrt((double)width),
                                 .multiplicity = 1,
                                 .prefix = b->before,
                                 .causal = true};
    int y = rmsnorm(b, x, layer_name(b, "input_layernorm.weight"));
    int q = linear(b, y, "self_attn.q_proj", c->d);
    int k = linear(b, y, "self_attn.k_proj", c->kv_heads * width);
    int v = linear(b, y, "self_attn.v_proj", c->kv_heads * width);
    q = KW__OP(g, KW__ROPE, &halves, b->dtype, q, b->rope);
    k = KW__OP(g, KW__ROPE, &halves, b->dtype, k, b->rope);
    y = KW__OP(g, KW__ATTENTION, &attention, b->dtype, q, shared_heads(b, k), shared_heads(b, v), 0,
               b->length);
    y = linear(b, y, "self_attn.o_proj", c->d);
    x = KW__OP(g, KW__ADD, NULL, b->dtype, x, y);

    y = rmsnorm(b, x, layer_name(b, "post_attention_layernorm.weight"));
    int gate = linear(b, y, "mlp.gate_proj", c->ffn);
    int up = linear(b, y, "mlp.up_proj", c->ffn);
    gate = KW__OP(g, KW__SILU, NULL, b->dtype, gate);
    y = KW__OP(g, KW__MUL, NULL, b->dtype, gate, up);
    y = linear(b, y, "mlp.down_proj", c->d);
    return KW__OP(g, KW__ADD, NULL, b->dtype, x, y);
}

struct kw__llama_states kw__llama_encode(struct kw__graph *g, const struct kw__llama *config, int template,
                                         int ids, int length, int64_t skip, enum kw__dtype dtype)
{
    struct kw__llama_states out = {0, 0};
    if (!template || !ids) return out;
    struct llama_builder b = {g, config, dtype, length, 0, g->values[template].dim[1], 0};
    struct kw__attr rows = {.axis = 1},
                    places = {.axes = {config->d / config->heads}, .theta = config->theta};
    places.grid[0] = b.before + g->values[ids].dim[1];
    places.grid[1] = places.grid[2] = 1;
    b.rope = kw__op(g, KW__ROPE_TABLE, &places, KW__F32, 0, NULL);
    int table = kw__weight(g, "embed_tokens.weight", dtype, KW__DIMS(config->vocab, config->d));
    int first = KW__OP(g, KW__EMBEDDING, NULL, dtype, template, table);
    int x = KW__OP(g, KW__EMBEDDING, NULL, dtype, ids, table);
    x = KW__OP(g, KW__CONCAT, &rows, dtype, first, x);
    for (; b.layer < config->layers; b.layer++) {
        if (b.layer == config->layers - skip) out.hidden = x;
        x = block(&b, x);
    }
    out.last = rmsnorm(&b, x, "norm.weight");
    return out;
}
