/* T5 v1.1 and umT5 encoders, as transformers' T5EncoderModel and UMT5EncoderModel compute them: pre-norm
 * blocks, no 1/sqrt(d) in attention, an additive bias by relative position, gated GELU.
 *
 * Verified parameter counts: T5 v1.1 XXL 4,762,310,656; umT5-XXL 5,680,910,336. */
#include <string.h>

#include "base/error.h"
#include "model/family.h"

kw_status kw__t5_read(kw_model *model, struct kw__t5 *out, kw_error *err)
{
    json_t *root;
    struct kw__json in;
    kw_status status = kw__component_load(model, "text_encoder", "config.json", NULL, &root, &in, err);
    if (status) return status;
    const char *type = NULL, *activation = NULL;
    struct kw__t5 t5 = {0};
    (void)((status = kw__json_string(in, "model_type", &type, err)) ||
           (status = kw__json_string(in, "feed_forward_proj", &activation, err)) ||
           (status = kw__json_int(in, "vocab_size", 1, 1 << 24, &t5.vocab, err)) ||
           (status = kw__json_int(in, "d_model", 1, 1 << 16, &t5.d_model, err)) ||
           (status = kw__json_int(in, "d_ff", 1, 1 << 18, &t5.d_ff, err)) ||
           (status = kw__json_int(in, "d_kv", 1, 1 << 12, &t5.d_kv, err)) ||
           (status = kw__json_int(in, "num_heads", 1, 1 << 12, &t5.heads, err)) ||
           (status = kw__json_int(in, "num_layers", 1, 1 << 10, &t5.layers, err)) ||
           (status = kw__json_int(in, "relative_attention_num_buckets", 4, 1 << 12, &t5.buckets, err)) ||
           (status = kw__json_int(in, "relative_attention_max_distance", 2, 1 << 20, &t5.distance, err)) ||
           (status = kw__json_number(in, "layer_norm_epsilon", 0, 1, &t5.eps, err)));
    if (!status && strcmp(type, "t5") != 0 && strcmp(type, "umt5") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: model_type \"%s\" is not known; t5 and umt5 are",
                          in.path, type);
    if (!status && strcmp(activation, "gated-gelu") != 0)
        status = kw__fail(err, KW_ERROR_UNSUPPORTED,
                          "%s: feed_forward_proj \"%s\" is not known; gated-gelu is", in.path, activation);
    const char *function = "gelu_new";
    if (!status && kw__json_has(in, "dense_act_fn"))
        status = kw__json_string(in, "dense_act_fn", &function, err);
    if (!status && strcmp(function, "gelu_new") != 0 && strcmp(function, "gelu_pytorch_tanh") != 0)
        status =
            kw__fail(err, KW_ERROR_FORMAT, "%s: dense_act_fn \"%s\" contradicts feed_forward_proj gated-gelu",
                     in.path, function);
    bool gated = true;
    if (!status && kw__json_has(in, "is_gated_act")) status = kw__json_bool(in, "is_gated_act", &gated, err);
    if (!status && !gated)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: is_gated_act false contradicts feed_forward_proj gated-gelu", in.path);
    if (!status && t5.distance <= t5.buckets / 4) /* the logarithm in the bucket rule needs it */
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s: \"relative_attention_max_distance\" must be larger than a quarter of "
                          "\"relative_attention_num_buckets\"",
                          in.path);
    if (!status) {
        t5.bias_per_layer = strcmp(type, "umt5") == 0;
        *out = t5;
    }
    json_decref(root);
    return status;
}

struct t5_builder {
    struct kw__graph *g;
    const struct kw__t5 *config;
    enum kw__dtype dtype;
    int64_t length;
    int layer;
};

static const char *layer_name(const struct t5_builder *b, const char *rest)
{
    return kw__arena_printf(&b->g->program->arena, "encoder.block.%d.layer.%s", b->layer, rest);
}

static int linear(const struct t5_builder *b, int x, const char *rest, int64_t n)
{
    const char *name = layer_name(b, rest);
    return kw__linear(b->g, x, name, n, false, b->dtype, b->dtype);
}

static int rmsnorm(const struct t5_builder *b, int x, const char *name)
{
    struct kw__attr attr = {.eps = b->config->eps};
    int gamma = name ? kw__weight(b->g, name, b->dtype, KW__DIMS(b->config->d_model)) : 0;
    return KW__OP(b->g, KW__RMSNORM, &attr, b->dtype, x, gamma);
}

static int relative_bias(const struct t5_builder *b)
{
    struct kw__attr attr = {.width = b->length, .distance = b->config->distance};
    const char *name = layer_name(b, "0.SelfAttention.relative_attention_bias.weight");
    int table = name ? kw__weight(b->g, name, b->dtype, KW__DIMS(b->config->buckets, b->config->heads)) : 0;
    return KW__OP(b->g, KW__RELATIVE_BIAS, &attr, b->dtype, table);
}

static int block(const struct t5_builder *b, int x, int bias, int key_length)
{
    const struct kw__t5 *c = b->config;
    struct kw__graph *g = b->g;
    int64_t inner = c->heads * c->d_kv;

    int y = rmsnorm(b, x, layer_name(b, "0.layer_norm.weight"));
    int q = linear(b, y, "0.SelfAttention.q", inner);
    int k = linear(b, y, "0.SelfAttention.k", inner);
    int v = linear(b, y, "0.SelfAttention.v", inner);
    struct kw__attr attention = {.heads = c->heads, .scale = 1.0, .multiplicity = 1};
    y = KW__OP(g, KW__ATTENTION, &attention, b->dtype, q, k, v, bias, key_length);
    y = linear(b, y, "0.SelfAttention.o", c->d_model);
    x = KW__OP(g, KW__ADD, NULL, b->dtype, x, y);

    y = rmsnorm(b, x, layer_name(b, "1.layer_norm.weight"));
    int gate = linear(b, y, "1.DenseReluDense.wi_0", c->d_ff);
    int up = linear(b, y, "1.DenseReluDense.wi_1", c->d_ff);
    gate = KW__OP(g, KW__GELU, NULL, b->dtype, gate);
    y = KW__OP(g, KW__MUL, NULL, b->dtype, gate, up);
    y = linear(b, y, "1.DenseReluDense.wo", c->d_model);
    return KW__OP(g, KW__ADD, NULL, b->dtype, x, y);
}

int kw__t5_encode(struct kw__graph *g, const struct kw__t5 *config, int ids, int length, enum kw__dtype dtype)
{
    if (!ids) return 0;
    struct t5_builder b = {g, config, dtype, g->values[ids].dim[1], 0};
    int table = kw__weight(g, "shared.weight", dtype, KW__DIMS(config->vocab, config->d_model));
    int x = KW__OP(g, KW__EMBEDDING, NULL, dtype, ids, table);
    int bias = 0;
    for (; b.layer < config->layers; b.layer++) {
        if (config->bias_per_layer || b.layer == 0) bias = relative_bias(&b);
        x = block(&b, x, bias, length);
    }
    return rmsnorm(&b, x, "encoder.final_layer_norm.weight");
}
