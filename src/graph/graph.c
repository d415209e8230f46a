#include "graph/graph.h"

#include <string.h>

static const struct kw__op_info infos[KW__NUM_OPCODES] = {
#define X(NAME, text, class, least, most, outputs) {text, KW__CLASS_##class, least, most, outputs},
#include "graph/ops.def"
#undef X
};

const struct kw__op_info *kw__op_info(enum kw__opcode code)
{
    return &infos[code];
}

static const struct {
    const char *name;
    double bytes;
} dtypes[KW__NUM_DTYPES] = {{"f32", 4}, {"bf16", 2}, {"f16", 2}, {"f64", 8}, {"i32", 4}, {"u8", 1}};

double kw__dtype_bytes(enum kw__dtype dtype)
{
    return dtypes[dtype].bytes;
}

const char *kw__dtype_name(enum kw__dtype dtype)
{
    return dtypes[dtype].name;
}

bool kw__dtype_parse(const char *name, enum kw__dtype *out)
{
    for (int i = 0; i < KW__NUM_DTYPES; i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        *out = (enum kw__dtype)i;
        return true;
    }
    return false;
}

const char *kw__class_name(enum kw__class class)
{
    static const char *const names[KW__NUM_CLASSES] = {"gemm", "attention", "conv", "norm", "elementwise",
                                                       "copy", "transfer",  "host", "comm"};
    return names[class];
}

const char *kw__scope_name(enum kw__scope scope)
{
    switch (scope) {
    case KW__MODEL: return "model";
    case KW__REQUEST: return "request";
    case KW__PROMPT: return "prompt";
    case KW__STEP: return "step";
    default: return "pass";
    }
}

bool kw__choose(enum kw__choice choice, bool pipeline)
{
    return choice == KW__AS_PIPELINE ? pipeline : choice == KW__ALWAYS;
}

/* ---- Programs ------------------------------------------------------------------------------- */

struct kw__program *kw__program_new(const kw_effective *request, const struct kw__dtypes *dtypes_wanted)
{
    struct kw__arena arena;
    kw__arena_init(&arena);
    struct kw__program *program = kw__arena_alloc(&arena, 1, sizeof *program);
    if (!program) return NULL;
    program->arena = arena; /* the program lives in its own arena */
    program->request = *request;
    program->dtypes = *dtypes_wanted;
    return program;
}

void kw__program_free(struct kw__program *program)
{
    if (!program) return;
    struct kw__arena arena = program->arena;
    kw__arena_free(&arena);
}

struct kw__stage *kw__program_stage(struct kw__program *program, const char *name)
{
    struct kw__stage *stage = &program->stages[program->num_stages++];
    stage->name = name;
    return stage;
}

struct kw__graph *kw__stage_phase(struct kw__program *program, struct kw__stage *stage, const char *name,
                                  int64_t calls)
{
    struct kw__graph *g = kw__arena_alloc(&program->arena, 1, sizeof *g);
    if (!g) return NULL;
    g->program = program;
    g->num_values = 1; /* value 0 is absent; its room is made with the first real value */
    stage->phases[stage->num_phases++] = (struct kw__phase){name, g, calls, {0, NULL, NULL}};
    return g;
}

struct kw__turn kw__stage_turn(const struct kw__stage *stage, size_t i)
{
    return stage->num_turns ? stage->turns[i] : (struct kw__turn){(int)i, stage->phases[i].calls};
}

size_t kw__stage_turns(const struct kw__stage *stage)
{
    return stage->num_turns ? stage->num_turns : (size_t)stage->num_phases;
}

/* ---- Values ----------------------------------------------------------------------------------- */

int kw__value_add(struct kw__graph *g, struct kw__value value)
{
    struct kw__value *values = kw__arena_grow(&g->program->arena, g->values, g->values ? g->num_values : 0,
                                              &g->value_capacity, sizeof *values);
    if (!values) return 0;
    g->values = values; /* before anything else fails: its capacity counts already */
    if (g->program->arena.failed) return 0;
    if (g->num_values == 1) values[0] = (struct kw__value){.name = "absent", .producer = -1};
    values[g->num_values] = value;
    return (int)g->num_values++;
}

static struct kw__value plain_value(const char *name, enum kw__value_kind kind, enum kw__dtype dtype,
                                    enum kw__scope scope, int ndim, const int64_t *dim)
{
    struct kw__value value = {
        .name = name, .kind = kind, .dtype = dtype, .scope = scope, .ndim = ndim, .producer = -1};
    memcpy(value.dim, dim, (size_t)ndim * sizeof *dim);
    return value;
}

int kw__input(struct kw__graph *g, const char *name, enum kw__dtype dtype, enum kw__scope scope, int ndim,
              const int64_t *dim)
{
    return kw__value_add(g, plain_value(name, KW__INPUT, dtype, scope, ndim, dim));
}

int kw__state(struct kw__graph *g, const char *name, enum kw__dtype dtype, enum kw__scope scope, int ndim,
              const int64_t *dim)
{
    return kw__value_add(g, plain_value(name, KW__STATE, dtype, scope, ndim, dim));
}

void kw__state_next(struct kw__graph *g, int state, int value)
{
    if (state && value) g->values[state].next = value;
}

static uint32_t hash_name(const char *component, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = component; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash;
}

/* The slot that holds the tensor's index + 1, or the free one where it belongs. */
static uint32_t *tensor_slot(struct kw__program *program, const char *component, const char *name)
{
    size_t mask = program->hash_capacity - 1, i = hash_name(component, name) & mask;
    for (;; i = (i + 1) & mask) {
        uint32_t index = program->tensor_hash[i];
        if (!index) return &program->tensor_hash[i];
        const struct kw__tensor *t = &program->tensors[index - 1];
        if (strcmp(t->name, name) == 0 && strcmp(t->component, component) == 0)
            return &program->tensor_hash[i];
    }
}

static bool grow_hash(struct kw__program *program)
{
    if (2 * (program->num_tensors + 1) <= program->hash_capacity) return true;
    size_t capacity = program->hash_capacity ? 2 * program->hash_capacity : 1024;
    uint32_t *hash = kw__arena_alloc(&program->arena, capacity, sizeof *hash);
    if (!hash) return false;
    program->tensor_hash = hash;
    program->hash_capacity = capacity;
    for (size_t i = 0; i < program->num_tensors; i++)
        *tensor_slot(program, program->tensors[i].component, program->tensors[i].name) = (uint32_t)i + 1;
    return true;
}

/* Declares a tensor once; returns its index, or -1. */
static int declare_tensor(struct kw__program *program, const char *component, const char *name, int ndim,
                          const int64_t *dim)
{
    if (!grow_hash(program)) return -1;
    uint32_t *slot = tensor_slot(program, component, name);
    if (*slot) return (int)*slot - 1;
    struct kw__tensor *tensors = kw__arena_grow(&program->arena, program->tensors, program->num_tensors,
                                                &program->tensor_capacity, sizeof *tensors);
    if (!tensors) return -1;
    program->tensors = tensors;
    const char *copy = kw__arena_strdup(&program->arena, name);
    if (!copy) return -1;
    struct kw__tensor *t = &tensors[program->num_tensors];
    *t = (struct kw__tensor){.component = component, .name = copy, .ndim = ndim};
    memcpy(t->dim, dim, (size_t)ndim * sizeof *dim);
    *slot = (uint32_t)++program->num_tensors;
    return (int)program->num_tensors - 1;
}

int kw__weight(struct kw__graph *g, const char *name, enum kw__dtype dtype, int ndim, const int64_t *dim)
{
    struct kw__program *program = g->program;
    int tensor = declare_tensor(program, g->tensors, name, ndim, dim);
    if (tensor < 0) return 0;
    while ((size_t)tensor >= g->weight_capacity) {
        int *bigger = kw__arena_grow(&program->arena, g->weight_of_tensor, g->weight_capacity,
                                     &g->weight_capacity, sizeof *bigger);
        if (!bigger) return 0;
        g->weight_of_tensor = bigger;
    }
    if (g->weight_of_tensor[tensor]) return g->weight_of_tensor[tensor];
    struct kw__value value =
        plain_value(program->tensors[tensor].name, KW__WEIGHT, dtype, KW__MODEL, ndim, dim);
    value.num_tensors = 1;
    value.tensor[0] = tensor;
    return g->weight_of_tensor[tensor] = kw__value_add(g, value);
}

/* ---- Operators --------------------------------------------------------------------------------- */

int kw__op(struct kw__graph *g, enum kw__opcode code, const struct kw__attr *attr, enum kw__dtype dtype,
           int num_inputs, const int *inputs)
{
    const struct kw__op_info *info = &infos[code];
    struct kw__program *program = g->program;
    for (int i = 0; i < info->least_inputs; i++)
        if (!inputs[i]) return 0;
    struct kw__op *ops = kw__arena_grow(&program->arena, g->ops, g->num_ops, &g->op_capacity, sizeof *ops);
    if (!ops) return 0;
    g->ops = ops;
    struct kw__op op = {.code = code, .component = g->component};
    if (attr) op.attr = *attr;
    op.num_inputs = num_inputs;
    for (int i = 0; i < num_inputs; i++) op.input[i] = inputs[i];
    op.num_outputs = info->outputs;
    for (int i = 0; i < info->outputs; i++) {
        const char *name = kw__arena_printf(&program->arena, "%s.%zu.%d", info->name, g->num_ops, i);
        op.output[i] = kw__value_add(
            g, (struct kw__value){
                   .name = name, .kind = KW__TEMPORARY, .dtype = dtype, .producer = (int)g->num_ops});
        if (!op.output[i]) return 0;
    }
    kw__infer(g, &op);
    ops[g->num_ops++] = op;
    return op.output[0];
}

int kw__output(const struct kw__graph *g, int value, int i)
{
    return value ? g->ops[g->values[value].producer].output[i] : 0;
}

const char *kw__join(struct kw__graph *g, const char *prefix, const char *rest)
{
    return prefix ? kw__arena_printf(&g->program->arena, "%s%s", prefix, rest) : NULL;
}

int kw__parameter(struct kw__graph *g, enum kw__dtype dtype, const char *prefix, const char *rest, int ndim,
                  const int64_t *dim)
{
    const char *name = kw__join(g, prefix, rest);
    return name ? kw__weight(g, name, dtype, ndim, dim) : 0;
}

int kw__linear(struct kw__graph *g, int x, const char *name, int64_t n, bool bias, enum kw__dtype weights,
               enum kw__dtype dtype)
{
    if (!x) return 0;
    int w = kw__parameter(g, weights, name, ".weight", KW__DIMS(n, kw__last_dim(&g->values[x])));
    int b = bias ? kw__parameter(g, weights, name, ".bias", KW__DIMS(n)) : 0;
    if (!w || (bias && !b)) return 0;
    return KW__OP(g, KW__LINEAR, NULL, dtype, x, w, b);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

int kw__operand(const struct kw__op *op, int i)
{
    return i < op->num_inputs ? op->input[i] : 0;
}

int64_t kw__elements(const struct kw__value *value)
{
    int64_t n = 1;
    for (int i = 0; i < value->ndim; i++) n *= value->dim[i];
    return n;
}

double kw__value_bytes(const struct kw__value *value)
{
    return (double)kw__elements(value) * kw__dtype_bytes(value->dtype);
}

int64_t kw__last_dim(const struct kw__value *value)
{
    return value->dim[value->ndim - 1];
}

/* ---- Shapes and scopes --------------------------------------------------------------------------- */

static void set_dims(struct kw__value *value, int ndim, const int64_t *dim)
{
    value->ndim = ndim;
    memcpy(value->dim, dim, (size_t)ndim * sizeof *dim);
}

static void infer_conv(const struct kw__op *op, const struct kw__value *x, const struct kw__value *w,
                       struct kw__value *y, struct kw__value *cache_out, const struct kw__value *cache)
{
    const struct kw__attr *a = &op->attr;
    if (w->recipe == KW__RECIPE_FOLD_UPSAMPLE) {
        set_dims(y, KW__DIMS(x->dim[0], w->dim[1], x->dim[2], 2 * x->dim[3], 2 * x->dim[4]));
        set_dims(cache_out, KW__DIMS(x->dim[0], x->dim[1], 0, x->dim[3], x->dim[4]));
        return;
    }
    int64_t kt = w->ndim == 5 ? w->dim[2] : 1, kh = w->dim[w->ndim - 2], kw = w->dim[w->ndim - 1];
    int64_t in_t = x->dim[2] + (cache ? kt - 1 : a->pad_time[0] + a->pad_time[1]);
    int64_t in_h = x->dim[3] * (a->upsample ? 2 : 1) + 2 * a->pad[0];
    int64_t in_w = x->dim[4] * (a->upsample ? 2 : 1) + 2 * a->pad[1];
    set_dims(y, KW__DIMS(x->dim[0], w->dim[0], (in_t - kt) / a->stride[0] + 1, (in_h - kh) / a->stride[1] + 1,
                         (in_w - kw) / a->stride[2] + 1));
    bool kept = cache || a->keep; /* else the second output is empty */
    set_dims(cache_out, KW__DIMS(x->dim[0], x->dim[1], kept ? kt - 1 : 0, x->dim[3], x->dim[4]));
}

/* CONCAT, SLICE, REPEAT: one axis changes. */
static void infer_axis(const struct kw__op *op, struct kw__value *const *in, struct kw__value *y)
{
    const struct kw__attr *a = &op->attr;
    set_dims(y, in[0]->ndim, in[0]->dim);
    if (op->code == KW__SLICE) y->dim[a->axis] = a->width;
    if (op->code == KW__REPEAT) y->dim[a->heads ? 2 : a->axis] *= a->width;
    for (int i = 1; op->code == KW__CONCAT && i < op->num_inputs; i++)
        if (in[i]) y->dim[a->axis] += in[i]->dim[a->axis];
}

static void infer_table(const struct kw__attr *a, const struct kw__value *w, struct kw__value *y)
{
    int64_t e = w ? w->dim[1] * 2 * w->dim[2] : a->prefix + a->axes[0] + a->axes[1] + a->axes[2];
    set_dims(y, KW__DIMS(a->grid[0] * a->grid[1] * a->grid[2], e));
}

/* Operators that move values about. */
static void infer_copy(const struct kw__op *op, const struct kw__value *x, struct kw__value *y,
                       struct kw__value *const *outputs)
{
    const struct kw__attr *a = &op->attr;
    const int64_t *d = x->dim;
    switch (op->code) {
    case KW__RELATIVE_BIAS: set_dims(y, KW__DIMS(d[1], a->width, a->width)); break;
    case KW__PAD_ROWS: set_dims(y, KW__DIMS(d[0], a->width, d[2])); break;
    case KW__TO_TOKENS: set_dims(y, KW__DIMS(d[0], d[2] * d[3] * d[4], d[1])); break;
    case KW__UNPATCHIFY:
        set_dims(y, KW__DIMS(d[0], d[2] / (a->patch[0] * a->patch[1] * a->patch[2]), a->grid[0] * a->patch[0],
                             a->grid[1] * a->patch[1], a->grid[2] * a->patch[2]));
        break;
    case KW__SPLIT_FRAMES:
        for (int i = 0; i < op->num_outputs; i++)
            set_dims(outputs[i], KW__DIMS(d[0] * d[2], d[3] * d[4], i < a->parts ? d[1] / a->parts : 0));
        break;
    case KW__JOIN_FRAMES:
        set_dims(y, KW__DIMS(d[0] / a->grid[0], d[2], a->grid[0], a->grid[1], a->grid[2]));
        break;
    case KW__UPSAMPLE: set_dims(y, KW__DIMS(d[0], d[1], d[2], 2 * d[3], 2 * d[4])); break;
    case KW__INTERLEAVE_TIME: set_dims(y, KW__DIMS(d[0], d[1] / 2, 2 * d[2], d[3], d[4])); break;
    case KW__TAKE_FRAME: set_dims(y, KW__DIMS(d[0], d[1], 1, d[3], d[4])); break;
    case KW__TO_TRACKS: set_dims(y, KW__DIMS(d[0] * d[3] * d[4], d[2], d[1])); break;
    case KW__JOIN_TRACKS:
        set_dims(y, KW__DIMS(d[0] / (a->grid[1] * a->grid[2]), d[2], a->grid[0], a->grid[1], a->grid[2]));
        break;
    case KW__RESIZE:
    case KW__TAKE_BLOCK: set_dims(y, KW__DIMS(d[0], d[1], a->grid[0], a->grid[1], a->grid[2])); break;
    case KW__BLEND_TILES:
        set_dims(y, KW__DIMS(d[0], d[1], a->tile[2] ? a->grid[0] : d[2], a->grid[1], a->grid[2]));
        break;
    case KW__DEPTH_TO_SPACE:
        set_dims(y, KW__DIMS(d[0], d[1] / (a->patch[0] * a->patch[1] * a->patch[2]), d[2] * a->patch[0],
                             d[3] * a->patch[1], d[4] * a->patch[2]));
        break;
    default: break;
    }
}

/* Operators with a column of the iteration table. */
static bool reads_iteration(enum kw__opcode code)
{
    return code == KW__LINCOMB || code == KW__TAKE_FRAME || code == KW__PUT_FRAMES ||
           code == KW__TAKE_BLOCK || code == KW__PUT_BLOCK;
}

void kw__infer(struct kw__graph *g, struct kw__op *op)
{
    struct kw__value *in[KW__MAX_INPUTS] = {NULL}, *out[KW__MAX_OUTPUTS] = {NULL};
    enum kw__scope scope = KW__MODEL;
    for (int i = 0; i < op->num_inputs; i++) {
        if (!op->input[i]) continue;
        in[i] = &g->values[op->input[i]];
        scope |= in[i]->scope;
    }
    if (op->code == KW__ROPE_TABLE) scope |= KW__REQUEST; /* its grid is the request's */
    if (op->code == KW__RELATIVE_BIAS) scope |= KW__REQUEST;
    if (reads_iteration(op->code)) scope |= KW__STEP;
    for (int i = 0; i < op->num_outputs; i++) {
        out[i] = &g->values[op->output[i]];
        out[i]->scope = scope;
    }
    const struct kw__attr *a = &op->attr;
    const struct kw__value *x = in[0];
    switch (op->code) {
    case KW__LINEAR: set_dims(out[0], KW__DIMS(x->dim[0], x->dim[1], in[1]->dim[0])); break;
    case KW__CONV: infer_conv(op, x, in[1], out[0], out[1], op->num_inputs > 3 ? in[3] : NULL); break;
    case KW__ATTENTION:
        set_dims(out[0], KW__DIMS(x->dim[0], x->dim[1], x->dim[2] / (a->q_joint ? a->parts : 1)));
        break;
    case KW__RMSNORM:
    case KW__RMSNORM_ROPE: /* x may be a part of its value */
        set_dims(out[0], x->ndim, x->dim);
        if (a->parts > 1) out[0]->dim[x->ndim - 1] /= a->parts;
        break;
    case KW__ADALN_TABLE: /* p may lack its first axis */
        set_dims(out[0], KW__DIMS(in[1]->dim[0], x->dim[x->ndim - 2], x->dim[x->ndim - 1]));
        break;
    case KW__ROPE_TABLE: infer_table(a, x, out[0]); break;
    case KW__CONCAT:
    case KW__SLICE:
    case KW__REPEAT: infer_axis(op, in, out[0]); break;
    case KW__GLU:
        set_dims(out[0], x->ndim, x->dim);
        out[0]->dim[x->ndim - 1] /= 2;
        break;
    case KW__MEAN_ROWS: set_dims(out[0], KW__DIMS(x->dim[0], 1, x->dim[2])); break;
    case KW__SINUSOID: set_dims(out[0], KW__DIMS(x->dim[0], 1, a->width)); break;
    case KW__EMBEDDING: set_dims(out[0], KW__DIMS(x->dim[0], x->dim[1], in[1]->dim[1])); break;
    case KW__HOST_FRAMES:
        set_dims(out[0], KW__DIMS(x->dim[0], x->dim[2], x->dim[3], x->dim[4], x->dim[1]));
        break;
    default:
        set_dims(out[0], x->ndim, x->dim); /* elementwise, norms: the first input's */
        infer_copy(op, x, out[0], out);
    }
}

void kw__graph_infer(struct kw__graph *g)
{
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__op *op = &g->ops[i];
        if (op->dead) continue;
        kw__infer(g, op);
    }
}

/* ---- Rewriting ------------------------------------------------------------------------------------ */

int kw__num_uses(const struct kw__graph *g, int value)
{
    int uses = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        for (int k = 0; !op->dead && k < op->num_inputs; k++) uses += op->input[k] == value;
    }
    for (size_t v = 1; v < g->num_values; v++) uses += g->values[v].next == value;
    return uses;
}

void kw__replace_value(struct kw__graph *g, int from, int to)
{
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; k < g->ops[i].num_inputs; k++)
            if (g->ops[i].input[k] == from) g->ops[i].input[k] = to;
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].next == from) g->values[v].next = to;
}

/* Takes the values out that are not to be kept; ids change. */
static void drop_values(struct kw__graph *g, const bool *keep)
{
    int *new_id = kw__arena_alloc(&g->program->arena, g->num_values, sizeof *new_id);
    if (!new_id) return;
    size_t kept = 1;
    for (size_t v = 1; v < g->num_values; v++) {
        if (!keep[v]) continue;
        g->values[kept] = g->values[v];
        new_id[v] = (int)kept++;
    }
    g->num_values = kept;
    for (size_t v = 1; v < kept; v++) g->values[v].next = new_id[g->values[v].next];
    for (size_t i = 0; i < g->num_ops; i++) {
        struct kw__op *op = &g->ops[i];
        for (int k = 0; k < op->num_inputs; k++) op->input[k] = new_id[op->input[k]];
        for (int k = 0; k < op->num_outputs; k++) op->output[k] = new_id[op->output[k]];
    }
    for (size_t t = 0; t < g->weight_capacity; t++) g->weight_of_tensor[t] = new_id[g->weight_of_tensor[t]];
}

void kw__graph_compact(struct kw__graph *g)
{
    bool *keep = kw__arena_alloc(&g->program->arena, g->num_values, sizeof *keep);
    if (!keep) return;
    for (size_t v = 1; v < g->num_values; v++) {
        if (!g->values[v].next) continue;
        keep[v] = true;
        keep[g->values[v].next] = true;
    }
    for (size_t i = g->num_ops; i-- > 0;) { /* readers come after producers */
        struct kw__op *op = &g->ops[i];
        bool used = false;
        for (int k = 0; k < op->num_outputs; k++) used |= keep[op->output[k]];
        op->dead |= !used;
        for (int k = 0; !op->dead && k < op->num_inputs; k++) keep[op->input[k]] = true;
        for (int k = 0; !op->dead && k < op->num_outputs; k++) keep[op->output[k]] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < g->num_ops; i++) {
        if (g->ops[i].dead) continue;
        g->ops[kept] = g->ops[i];
        for (int k = 0; k < g->ops[kept].num_outputs; k++)
            g->values[g->ops[kept].output[k]].producer = (int)kept;
        kept++;
    }
    g->num_ops = kept;
    drop_values(g, keep);
}
