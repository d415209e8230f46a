#include "graph/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "graph/rewrite.h"
#include "model/catalog.h"

static kw_status read_dtype(struct kw__json in, const char *key, enum kw__dtype *out, kw_error *err)
{
    const char *text = NULL;
    kw_status status = kw__json_string(in, key, &text, err);
    bool known =
        !status && kw__dtype_parse(text, out) && (*out == KW__F32 || *out == KW__BF16 || *out == KW__F16);
    if (!status && !known)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: dtype \"%s\" of \"%s\" is not known; f32, bf16 and f16 are", in.path, text, key);
    return status;
}

/* What the file does not say is done as the pipeline does it. */
static kw_status read_choice(struct kw__json in, const char *key, enum kw__choice *out, kw_error *err)
{
    bool yes = false;
    if (!kw__json_has(in, key)) return KW_OK;
    kw_status status = kw__json_bool(in, key, &yes, err);
    if (!status) *out = yes ? KW__ALWAYS : KW__NEVER;
    return status;
}

static kw_status read_dtypes(struct kw__json in, struct kw__dtypes *out, kw_error *err)
{
    const json_t *object = NULL;
    kw_status status = kw__json_object(in, "dtypes", &object, err);
    struct kw__json dtypes = {in.path, object};
    (void)(status || (status = read_dtype(dtypes, "text_encoder", &out->text_encoder, err)) ||
           (status = read_dtype(dtypes, "denoiser", &out->denoiser, err)) ||
           (status = read_dtype(dtypes, "residual", &out->residual, err)) ||
           (status = read_dtype(dtypes, "vae", &out->vae, err)) ||
           (status = read_choice(in, "batched_guidance", &out->batched_guidance, err)) ||
           (status = read_choice(in, "tiled_decode", &out->tiled_decode, err)));
    return status;
}

static kw_status read_keeping(struct kw__json in, struct kw__keeping *out, kw_error *err)
{
    kw_status status = KW_OK;
    if (kw__json_has(in, "weights")) {
        status = read_dtype(in, "weights", &out->dtype, err);
        out->own_dtype = true;
    }
    if (!status && kw__json_has(in, "offload")) status = kw__json_bool(in, "offload", &out->offload, err);
    return status;
}

static kw_status check_rewrite(const char *path, const char *name, kw_error *err)
{
    for (size_t i = 0; i < kw__rewrite_count(); i++)
        if (strcmp(kw__rewrite_name(i), name) == 0) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT, "%s: \"rewrites\" has \"%s\", which is none", path, name);
}

static kw_status read_rewrites(struct kw__stack *stack, struct kw__json in, kw_error *err)
{
    const json_t *array;
    kw_status status = kw__json_array(in, "rewrites", &array, err);
    if (status) return status;
    stack->rewrites = kw__arena_alloc(&stack->arena, json_array_size(array) + 1, sizeof *stack->rewrites);
    for (size_t i = 0; stack->rewrites && i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));
        if (!name) return kw__fail(err, KW_ERROR_FORMAT, "%s: \"rewrites\" must hold strings", in.path);
        status = check_rewrite(in.path, name, err);
        if (status) return status;
        stack->rewrites[stack->num_rewrites++] = kw__arena_strdup(&stack->arena, name);
    }
    return KW_OK;
}

/* What a kernel's bytes are counted by; scores are those of attention alone. */
static kw_status read_per(struct kw__json in, const struct kw__op_info *op, const char *per, int *out,
                          kw_error *err)
{
    if (strcmp(per, "output") == 0)
        *out = KW__PER_OUTPUT;
    else if (strcmp(per, "scores") == 0 && op->class == KW__CLASS_ATTENTION)
        *out = KW__PER_SCORES;
    else if (strncmp(per, "input", 5) == 0 && per[5] >= '0' && per[5] < '0' + op->most_inputs && !per[6])
        *out = per[5] - '0';
    else
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"per\" is \"%s\"; of %s it must be output%s or input0 to input%d", in.path, per,
                        op->name, op->class == KW__CLASS_ATTENTION ? ", scores" : "", op->most_inputs - 1);
    return KW_OK;
}

static kw_status read_kernel(struct kw__stack *stack, struct kw__json in, const struct kw__op_info *op,
                             struct kw__kernel *out, kw_error *err)
{
    const char *name = NULL, *per = "output";
    kw_status status;
    out->launches = 1;
    (void)((status = kw__json_string(in, "kernel", &name, err)) ||
           (status = kw__json_number(in, "read", 0, 1e6, &out->read, err)) ||
           (status = kw__json_number(in, "written", 0, 1e6, &out->written, err)));
    if (!status && kw__json_has(in, "launches"))
        status = kw__json_number(in, "launches", 0, 1e6, &out->launches, err);
    if (!status && kw__json_has(in, "per")) status = kw__json_string(in, "per", &per, err);
    if (!status && kw__json_has(in, "walks")) {
        status = kw__json_bool(in, "walks", &out->walks, err);
        if (!status && strcmp(op->name, "groupnorm") && strcmp(op->name, "layernorm") &&
            strcmp(op->name, "rmsnorm"))
            status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"walks\" says nothing of %s", in.path, op->name);
    }
    if (status) return status;
    out->name = kw__arena_strdup(&stack->arena, name);
    return read_per(in, op, per, &out->per, err);
}

/* The operator that the part before '.' and '@' names, or KW__NUM_OPCODES. */
static enum kw__opcode operator_of(const char *key)
{
    size_t length = strcspn(key, ".@");
    int i = 0;
    for (; i < KW__NUM_OPCODES; i++) {
        const char *name = kw__op_info((enum kw__opcode)i)->name;
        if (strlen(name) == length && strncmp(name, key, length) == 0) break;
    }
    return (enum kw__opcode)i;
}

/* Keys that only some operators have. */
static kw_status read_own(struct kw__json in, const struct kw__op_info *op, struct kw__kernel_list *out,
                          kw_error *err)
{
    kw_status status = KW_OK;
    bool moves = op->class == KW__CLASS_TRANSFER || op->class == KW__CLASS_HOST;
    const char *bad = kw__json_has(in, "tile") && op->class != KW__CLASS_ATTENTION ? "tile"
                      : kw__json_has(in, "host") && !moves                         ? "host"
                      : kw__json_has(in, "frames_at_once") && strcmp(op->name, "groupnorm") != 0
                          ? "frames_at_once"
                          : NULL;
    if (bad) return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" says nothing of %s", in.path, bad, op->name);
    if (kw__json_has(in, "tile")) status = kw__json_ints(in, "tile", 3, 1, 1 << 16, out->tile, err);
    if (!status && kw__json_has(in, "host")) status = kw__json_number(in, "host", 0, 1e6, &out->host, err);
    if (!status && kw__json_has(in, "frames_at_once"))
        status = kw__json_int(in, "frames_at_once", 1, 1 << 16, &out->frames_at_once, err);
    return status;
}

static kw_status read_list(struct kw__stack *stack, struct kw__json in, const char *key,
                           struct kw__kernel_list *out, kw_error *err)
{
    const json_t *array;
    out->code = operator_of(key);
    if (out->code == KW__NUM_OPCODES)
        return kw__fail(err, KW_ERROR_FORMAT, "%s in \"kernels\" is no operator", in.path);
    const struct kw__op_info *op = kw__op_info(out->code);
    kw_status status = kw__json_array(in, "list", &array, err);
    if (!status && kw__json_has(in, "temporary"))
        status = kw__json_number(in, "temporary", 0, 1e6, &out->temporary, err);
    if (!status) status = read_own(in, op, out, err);
    if (status) return status;
    size_t count = json_array_size(array);
    struct kw__kernel *kernels = kw__arena_alloc(&stack->arena, count + 1, sizeof *kernels);
    out->key = kw__arena_strdup(&stack->arena, key);
    if (!kernels || !out->key) return kw__fail_memory(err);
    for (size_t i = 0; !status && i < count; i++) {
        const json_t *object = json_array_get(array, i);
        if (!json_is_object(object))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"list\" must hold objects", in.path);
        status = read_kernel(stack, (struct kw__json){in.path, object}, op, &kernels[i], err);
    }
    out->kernels = kernels;
    out->num_kernels = count;
    return status;
}

static kw_status read_lists(struct kw__stack *stack, struct kw__json in, const char *pipeline, kw_error *err)
{
    const json_t *object;
    kw_status status = kw__json_object(in, "kernels", &object, err);
    if (status) return status;
    size_t count = stack->num_lists;
    struct kw__kernel_list *lists =
        kw__arena_alloc(&stack->arena, count + json_object_size(object) + 1, sizeof *lists);
    if (!lists) return kw__fail_memory(err);
    for (size_t i = 0; i < count; i++) lists[i] = stack->lists[i];
    stack->lists = lists;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!json_is_object(value))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" in \"kernels\" must be an object", in.path,
                            key);
        struct kw__json each = {kw__arena_printf(&stack->arena, "%s: \"%s\"", in.path, key), value};
        if (!each.path) return kw__fail_memory(err);
        struct kw__kernel_list *list = &lists[stack->num_lists];
        status = read_list(stack, each, key, list, err);
        if (status) return status;
        list->pipeline = pipeline;
        stack->num_lists++;
    }
    return KW_OK;
}

static kw_status read_pipelines(struct kw__stack *stack, struct kw__json in, kw_error *err)
{
    const json_t *object;
    if (!kw__json_has(in, "pipelines")) return KW_OK;
    kw_status status = kw__json_object(in, "pipelines", &object, err);
    if (status) return status;
    struct kw__stack_pipeline *pipelines =
        kw__arena_alloc(&stack->arena, json_object_size(object) + 1, sizeof *pipelines);
    if (!pipelines) return kw__fail_memory(err);
    stack->pipelines = pipelines;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        struct kw__stack_pipeline *p = &pipelines[stack->num_pipelines];
        struct kw__json each = {kw__arena_printf(&stack->arena, "%s: \"%s\"", in.path, key), value};
        p->name = kw__arena_strdup(&stack->arena, key);
        if (!each.path || !p->name) return kw__fail_memory(err);
        if (!json_is_object(value))
            return kw__fail(err, KW_ERROR_FORMAT, "%s in \"pipelines\" must be an object", each.path);
        p->dtypes = stack->dtypes;
        p->keeping = stack->keeping;
        (void)((status = read_dtypes(each, &p->dtypes, err)) ||
               (status = read_keeping(each, &p->keeping, err)) ||
               (status = read_lists(stack, each, p->name, err)));
        if (status) return status;
        stack->num_pipelines++;
    }
    return KW_OK;
}

static kw_status read_stack(struct kw__stack *stack, const char *path, kw_error *err)
{
    json_t *root;
    kw_status status = kw__json_load(path, &root, err);
    if (status) return status;
    struct kw__json in = {path, root};
    const char *schema = NULL, *name = NULL, *title = NULL, *source = NULL, *device = "gpu",
               *diffusers = NULL;
    (void)((status = kw__json_string(in, "schema", &schema, err)) ||
           (status = kw__json_string(in, "name", &name, err)) ||
           (status = kw__json_string(in, "title", &title, err)) ||
           (status = kw__json_string(in, "source", &source, err)) ||
           (status = read_dtypes(in, &stack->dtypes, err)) ||
           (status = read_keeping(in, &stack->keeping, err)) ||
           (status = kw__json_bool(in, "tf32_conv", &stack->tf32_conv, err)) ||
           (status = kw__json_bool(in, "tf32_gemm", &stack->tf32_gemm, err)) ||
           (status =
                kw__json_number(in, "resident_extra_bytes", 0, 1e12, &stack->resident_extra_bytes, err)) ||
           (status = read_rewrites(stack, in, err)) || (status = read_lists(stack, in, NULL, err)) ||
           (status = read_pipelines(stack, in, err)));
    if (!status && kw__json_has(in, "conv_extra_bytes"))
        status = kw__json_number(in, "conv_extra_bytes", 0, 1e9, &stack->conv_extra_bytes, err);
    if (!status && kw__json_has(in, "conv_entry_bytes"))
        status = kw__json_number(in, "conv_entry_bytes", 0, 1e6, &stack->conv_entry_bytes, err);
    if (!status && kw__json_has(in, "device")) status = kw__json_string(in, "device", &device, err);
    if (!status && kw__json_has(in, "diffusers")) status = kw__json_string(in, "diffusers", &diffusers, err);
    stack->on_cpu = strcmp(device, "cpu") == 0;
    if (!status && !stack->on_cpu && strcmp(device, "gpu") != 0)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"device\" must be gpu or cpu", path);
    if (!status && strcmp(schema, "kinowatt.stack/1") != 0)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: schema \"%s\" is not kinowatt.stack/1", path, schema);
    if (!status) {
        stack->name = kw__arena_strdup(&stack->arena, name);
        stack->title = kw__arena_strdup(&stack->arena, title);
        stack->source = kw__arena_strdup(&stack->arena, source);
        if (diffusers) stack->diffusers = kw__arena_strdup(&stack->arena, diffusers);
    }
    if (!status && stack->arena.failed) status = kw__fail_memory(err);
    json_decref(root);
    return status;
}

kw_status kw__stack_open(const kw_catalog *catalog, const char *name, struct kw__stack **out, kw_error *err)
{
    char *path = NULL;
    kw_status status = KW_OK;
    if (!kw__catalog_has(catalog, KW_STACKS, name) && strchr(name, '/'))
        path = kw__text("%s", name);
    else
        status = kw__catalog_path(catalog, KW_STACKS, name, &path, err);
    if (status) return status;
    struct kw__stack *stack = path ? calloc(1, sizeof *stack) : NULL;
    if (stack) {
        kw__arena_init(&stack->arena);
        status = read_stack(stack, path, err);
    } else {
        status = kw__fail_memory(err);
    }
    free(path);
    if (status)
        kw__stack_close(stack);
    else
        *out = stack;
    return status;
}

void kw__stack_close(struct kw__stack *stack)
{
    if (!stack) return;
    kw__arena_free(&stack->arena);
    free(stack);
}

const struct kw__dtypes *kw__stack_dtypes(const struct kw__stack *stack, const char *pipeline)
{
    for (size_t i = 0; i < stack->num_pipelines; i++)
        if (strcmp(stack->pipelines[i].name, pipeline) == 0) return &stack->pipelines[i].dtypes;
    return &stack->dtypes;
}

const struct kw__keeping *kw__stack_keeping(const struct kw__stack *stack, const char *pipeline)
{
    for (size_t i = 0; pipeline && i < stack->num_pipelines; i++)
        if (strcmp(stack->pipelines[i].name, pipeline) == 0) return &stack->pipelines[i].keeping;
    return &stack->keeping;
}

/* The variant of an operator, "" when it has none. `room` holds 16 bytes. */
static const char *variant_of(const struct kw__graph *g, const struct kw__op *op, char *room)
{
    room[0] = '\0';
    if (op->code == KW__LAYERNORM && op->num_inputs > 1 && op->input[1]) return "affine";
    if (op->code == KW__RMSNORM && op->attr.heads > 1) return "heads";
    if (op->code == KW__RMSNORM && !kw__operand(op, 1)) return "plain";
    if (op->code == KW__MODULATE || op->code == KW__GATE_ADD) {
        const struct kw__value *x = &g->values[op->input[0]],
                               *table = &g->values[op->input[op->num_inputs - 1]];
        return table->dim[0] != x->dim[0] ? "rows" : "";
    }
    if (op->code == KW__LINCOMB) snprintf(room, 16, "%d", op->num_inputs);
    if (op->code != KW__CONV) return room;
    const struct kw__value *w = &g->values[op->input[1]];
    if (op->num_inputs > 3 && op->input[3])
        return op->attr.fresh ? "fresh" : kw__last_dim(w) == 1 ? "time" : "causal";
    return w->ndim == 5 && kw__elements(w) == w->dim[0] * w->dim[1] ? "point" : "";
}

/* How well a list's key fits an operator of its code, 0: not at all. */
static int fit(const char *key, const char *variant, const char *component)
{
    int score = 1;
    key += strcspn(key, ".@");
    if (*key == '.') {
        size_t length = strcspn(++key, "@");
        if (strlen(variant) != length || strncmp(key, variant, length) != 0) return 0;
        key += length;
        score += 2;
    }
    if (*key == '@') {
        if (strcmp(key + 1, component) != 0) return 0;
        score += 1;
    }
    return score;
}

const struct kw__kernel_list *kw__stack_kernels(const struct kw__stack *stack, const struct kw__graph *g,
                                                const struct kw__op *op)
{
    char room[16];
    const char *variant = variant_of(g, op, room);
    const struct kw__kernel_list *best = NULL;
    int score = 0;
    for (size_t i = 0; i < stack->num_lists; i++) {
        const char *pipeline = stack->lists[i].pipeline;
        if (stack->lists[i].code != op->code) continue;
        if (pipeline && (!g->program->pipeline || strcmp(pipeline, g->program->pipeline) != 0)) continue;
        int s = fit(stack->lists[i].key, variant, op->component);
        if (s && pipeline) s += 4; /* more than variant and component together */
        if (s <= score) continue;
        score = s;
        best = &stack->lists[i];
    }
    return best;
}
