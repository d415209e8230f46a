/* The operator graph: what a model computes for one request, and the one description that counting,
 * predicting and running read.
 *
 * A *program* is a list of stages. A stage is a schedule, a list of phases; a phase is a graph and
 * how many times it runs, with one row of an iteration table for each time. A graph is a list of
 * operators in an order that can be executed; its values are
 *   weight   a recipe over checkpoint tensors
 *   input    known when the phase starts
 *   state    carried from iteration to iteration and from phase to phase under its name, with an
 *            initial value; `next` names the value that replaces it after the iteration
 *   temporary
 *
 * Scope. How often a value changes is derived: the join of the scopes of an operator's inputs. A
 * prompt and a step are independent of each other; what depends on both changes with every pass:
 *
 *     MODEL < REQUEST < PROMPT, STEP < PASS         join(PROMPT, STEP) = PASS, so join is bitwise or
 *
 * Invariants: value 0 is "absent" and never used by name; the operators before an operator produce
 * its inputs; names are unique in a graph. Memory is the program's arena: a failed allocation sets
 * arena.failed, builders return 0, and whoever lowers checks once at the end. */
#ifndef KW_GRAPH_GRAPH_H
#define KW_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "kinowatt.h"

enum kw__dtype { KW__F32, KW__BF16, KW__F16, KW__F64, KW__I32, KW__U8, KW__NUM_DTYPES };
double kw__dtype_bytes(enum kw__dtype dtype);
const char *kw__dtype_name(enum kw__dtype dtype);
/* Returns false for an unknown name. */
bool kw__dtype_parse(const char *name, enum kw__dtype *out);

enum kw__class {
    KW__CLASS_GEMM,
    KW__CLASS_ATTENTION,
    KW__CLASS_CONV,
    KW__CLASS_NORM,
    KW__CLASS_ELEMENTWISE,
    KW__CLASS_COPY,
    KW__CLASS_TRANSFER,
    KW__CLASS_HOST,
    KW__CLASS_COMM,
    KW__NUM_CLASSES
};
const char *kw__class_name(enum kw__class class);

enum kw__opcode {
#define X(NAME, text, class, least, most, outputs) KW__##NAME,
#include "graph/ops.def"
#undef X
    KW__NUM_OPCODES
};
struct kw__op_info {
    const char *name;
    enum kw__class class;
    int least_inputs, most_inputs, outputs;
};
const struct kw__op_info *kw__op_info(enum kw__opcode code);

enum kw__scope { KW__MODEL = 0, KW__REQUEST = 1, KW__PROMPT = 3, KW__STEP = 5, KW__PASS = 7 };
const char *kw__scope_name(enum kw__scope scope);

enum { KW__MAX_DIMS = 5, KW__MAX_INPUTS = 6, KW__MAX_OUTPUTS = 3, KW__MAX_RECIPE = 3 };

enum kw__activation { KW__NO_ACTIVATION, KW__ACT_SILU, KW__ACT_GELU, KW__ACT_GELU_ERF, KW__ACT_GELU_QUICK };

/* Where a table of positions has its cos and sin. */
enum kw__layout {
    KW__COS_SIN,              /* axis by axis; of each frequency cos, sin */
    KW__SIN_COS,              /* axis by axis; of each frequency sin, cos */
    KW__SINES_COSINES,        /* axis by axis; all its sin, then all its cos */
    KW__COS_SIN_BY_FREQUENCY, /* frequency by frequency; of each axis cos, sin */
};

/* A tensor of the checkpoint. */
struct kw__tensor {
    const char *component, *name; /* "transformer", "blocks.0.attn1.to_q.weight" */
    int ndim;
    int64_t dim[KW__MAX_DIMS];
};

enum kw__recipe_kind {
    KW__RECIPE_PLAIN,
    KW__RECIPE_CONCAT,        /* along the first axis */
    KW__RECIPE_FOLD_UPSAMPLE, /* 3x3 kernel after nearest x2 -> four 2x2 kernels [4,O,C,2,2] */
};

enum kw__value_kind { KW__WEIGHT, KW__INPUT, KW__STATE, KW__TEMPORARY };

struct kw__value {
    const char *name;
    enum kw__value_kind kind;
    enum kw__dtype dtype;
    enum kw__scope scope;
    int ndim;
    int64_t dim[KW__MAX_DIMS];
    int producer;                /* operator, or -1 */
    int next;                    /* state: the value that replaces it; 0 when it is only read */
    double initial;              /* state: what every element starts at */
    enum kw__recipe_kind recipe; /* weight */
    int num_tensors, tensor[KW__MAX_RECIPE];
};

/* Attributes; an operator uses those that ops.def names for it. */
struct kw__attr {
    int64_t heads, multiplicity, width, distance, prefix, groups, start;
    int row, row2, column, part, parts, axis;
    int stride[3], pad[2], pad_time[2];
    bool upsample, q_joint, k_joint, causal, ragged;
    bool fresh; /* CONV: the cache still holds its initial zeros */
    bool keep, replicate_time, replicate_space, per_frame, first_alone, transposed, inverse, single;
    int64_t grid[3], axes[3], patch[3], tile[3], tile_step[3], blend[3];
    enum kw__activation activation;
    enum kw__layout layout;
    double scale, eps, theta, low, high, attended;
    /* in the program's arena, or that outlive the program */
    const double *constants[2], *positions[3], *frequencies;
};

struct kw__op {
    enum kw__opcode code;
    const char *component;
    int num_inputs, input[KW__MAX_INPUTS];
    int num_outputs, output[KW__MAX_OUTPUTS];
    struct kw__attr attr;
    bool dead; /* removed by a rewrite, gone after kw__graph_compact */
};

struct kw__graph {
    struct kw__program *program;
    const char *component; /* of the operators that builders add next */
    const char *tensors;   /* the checkpoint component that weights are declared in */
    struct kw__value *values;
    size_t num_values, value_capacity;
    struct kw__op *ops;
    size_t num_ops, op_capacity;
    int *weight_of_tensor; /* value of the plain weight of each tensor, 0: none yet */
    size_t weight_capacity;
};

struct kw__iterations {
    int columns;
    const char *const *names;
    const double *rows; /* calls x columns */
};

enum { KW__MAX_PHASES = 40, KW__MAX_STAGES = 8 };

struct kw__phase {
    const char *name;
    struct kw__graph *graph;
    int64_t calls;
    struct kw__iterations table; /* columns 0: none */
};

/* Iterations of one phase, from where its last turn ended. */
struct kw__turn {
    int phase;
    int64_t calls;
};

struct kw__stage {
    const char *name; /* "text_encode", "denoise", "decode" */
    int num_phases;
    struct kw__phase phases[KW__MAX_PHASES];
    /* The order in which the phases run where they alternate: tiles of several shapes, each in several
     * chunks. Each phase's calls are the sum of its turns. None: one phase after the other. */
    size_t num_turns;
    const struct kw__turn *turns;
};

/* The dtypes a stack gives the components, and what it does otherwise than the pipeline: both guidance
 * passes in one batch or one after the other, the decoder in tiles or not. */
enum kw__choice { KW__AS_PIPELINE, KW__NEVER, KW__ALWAYS };
struct kw__dtypes {
    enum kw__dtype text_encoder, denoiser, residual, vae;
    enum kw__choice batched_guidance, tiled_decode;
};
#define KW__ALL_F32                                                                                          \
    {                                                                                                        \
        KW__F32, KW__F32, KW__F32, KW__F32, KW__AS_PIPELINE, KW__AS_PIPELINE                                 \
    }
bool kw__choose(enum kw__choice choice, bool pipeline);

struct kw__program {
    struct kw__arena arena;
    const char *pipeline; /* its class; of a string that outlives the program, or NULL */
    kw_effective request;
    struct kw__dtypes dtypes;
    struct kw__tensor *tensors;
    size_t num_tensors, tensor_capacity;
    uint32_t *tensor_hash; /* open addressing, index + 1 */
    size_t hash_capacity;
    int num_stages;
    struct kw__stage stages[KW__MAX_STAGES];
};

struct kw__program *kw__program_new(const kw_effective *request, const struct kw__dtypes *dtypes);
void kw__program_free(struct kw__program *program);

/* Adds a stage, a phase with an empty graph. NULL on failure (arena.failed is set). */
struct kw__stage *kw__program_stage(struct kw__program *program, const char *name);
struct kw__graph *kw__stage_phase(struct kw__program *program, struct kw__stage *stage, const char *name,
                                  int64_t calls);

/* Turn i of a stage, those of a stage without turns being its phases; and how many there are. */
struct kw__turn kw__stage_turn(const struct kw__stage *stage, size_t i);
size_t kw__stage_turns(const struct kw__stage *stage);

/* ---- Builders: each returns a value id, 0 on failure or when an input that it needs is 0 ---- */

int kw__input(struct kw__graph *g, const char *name, enum kw__dtype dtype, enum kw__scope scope, int ndim,
              const int64_t *dim);
int kw__state(struct kw__graph *g, const char *name, enum kw__dtype dtype, enum kw__scope scope, int ndim,
              const int64_t *dim);
/* Any value; `next` and `producer` (-1 when it is no operator's) are the caller's to set. */
int kw__value_add(struct kw__graph *g, struct kw__value value);
/* After the iteration the state becomes `value`. */
void kw__state_next(struct kw__graph *g, int state, int value);
/* Declares the checkpoint tensor (once a program) and returns the weight that is it (once a graph). */
int kw__weight(struct kw__graph *g, const char *name, enum kw__dtype dtype, int ndim, const int64_t *dim);
/* `prefix` and `rest` in the program's arena; NULL if there is no prefix or no memory. */
const char *kw__join(struct kw__graph *g, const char *prefix, const char *rest);
/* The weight of the joined name; 0 if that is NULL. */
int kw__parameter(struct kw__graph *g, enum kw__dtype dtype, const char *prefix, const char *rest, int ndim,
                  const int64_t *dim);
#define KW__DIMS(...)                                                                                        \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                       \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

/* Adds an operator; shapes of its outputs are inferred, its scope derived. Returns output 0. */
int kw__op(struct kw__graph *g, enum kw__opcode code, const struct kw__attr *attr, enum kw__dtype dtype,
           int num_inputs, const int *inputs);
#define KW__OP(g, code, attr, dtype, ...)                                                                    \
    kw__op(g, code, attr, dtype, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)),                    \
           (const int[]){__VA_ARGS__})
/* Output i of the operator that made `value`. */
int kw__output(const struct kw__graph *g, int value, int i);

/* y = x w' + b with tensors <name>.weight [n, k] and, unless bias is false, <name>.bias [n]; 0 if `name` is
 * NULL. */
int kw__linear(struct kw__graph *g, int x, const char *name, int64_t n, bool bias, enum kw__dtype weights,
               enum kw__dtype dtype);

/* ---- Reading and rewriting ---- */

/* Input i of an operator, 0 when it is absent. */
int kw__operand(const struct kw__op *op, int i);
int64_t kw__elements(const struct kw__value *value);
double kw__value_bytes(const struct kw__value *value);
int64_t kw__last_dim(const struct kw__value *value);

/* Infers the shapes of an operator's outputs from its inputs and attributes. */
void kw__infer(struct kw__graph *g, struct kw__op *op);
/* Infers all shapes and scopes again, in order, after inputs have changed. */
void kw__graph_infer(struct kw__graph *g);
/* Drops dead operators, those whose outputs nothing reads (what leaves a graph leaves it as the next
 * value of a state), and values that no operator makes or reads, states with a next value excepted.
 * Ids of values change. */
void kw__graph_compact(struct kw__graph *g);
/* Number of operators that read `value`, states' next included. */
int kw__num_uses(const struct kw__graph *g, int value);
/* Every use of `from` reads `to` instead. */
void kw__replace_value(struct kw__graph *g, int from, int to);

#endif
