#include "support/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine/exec.h"
#include "graph/count.h"
#include "support/interp.h"

/* ---- The program ----------------------------------------------------------------------------------- */

static int num_dims(const struct op_operand *operand)
{
    int n = 0;
    while (n < KW__MAX_DIMS && operand->dim[n]) n++;
    return n;
}

static int add_operand(struct kw__graph *g, const struct op_operand *operand, int i, enum kw__dtype dtype)
{
    static const char *const names[KW__MAX_INPUTS] = {"in0", "in1", "in2", "in3", "in4", "in5"};
    static const char *const gammas[KW__MAX_INPUTS] = {"w0", "w1", "w2.bias", "w3", "w4", "w5"};
    int n = num_dims(operand);
    switch (operand->kind) {
    case 'x': return kw__input(g, names[i], dtype, KW__PASS, n, operand->dim);
    case 'f': return kw__input(g, names[i], KW__F32, KW__PASS, n, operand->dim);
    case 'i':
    case 'l': return kw__input(g, names[i], KW__I32, KW__PASS, n, operand->dim);
    case 's': return kw__state(g, names[i], dtype, KW__STEP, n, operand->dim);
    case 'w': return kw__weight(g, gammas[i], dtype, n, operand->dim);
    case 'g': return kw__weight(g, gammas[i], KW__F32, n, operand->dim);
    case 'F': {
        struct kw__value value = g->values[kw__weight(g, gammas[i], dtype, n, operand->dim)];
        const int64_t *d = operand->dim, dim[] = {4, d[0], d[1], 2, 2};
        value.name = "folded";
        value.recipe = KW__RECIPE_FOLD_UPSAMPLE;
        memcpy(value.dim, dim, sizeof dim);
        return kw__value_add(g, value);
    }
    default: return 0;
    }
}

struct kw__program *op_program(const struct op_case *c, enum kw__dtype dtype)
{
    static const char *const columns[] = {"c0", "c1", "c2", "c3", "c4", "c5", "t", "h", "w"};
    static const double row[] = {2, -0.5, 0.75, 0, 1.5, -3, 3, 1, 1};
    const kw_effective request = {0};
    const struct kw__dtypes dtypes = {.text_encoder = dtype, .denoiser = dtype, .vae = dtype};
    struct kw__program *program = kw__program_new(&request, &dtypes);
    if (!program) return NULL;
    struct kw__stage *stage = kw__program_stage(program, "run");
    struct kw__graph *g = kw__stage_phase(program, stage, "one", 1);
    stage->phases[0].table = (struct kw__iterations){9, columns, row};
    g->component = g->tensors = "test";
    int inputs[KW__MAX_INPUTS], count = kw__op_info(c->code)->most_inputs;
    for (int i = 0; i < count; i++) inputs[i] = add_operand(g, &c->in[i], i, dtype);
    while (count > kw__op_info(c->code)->least_inputs && !inputs[count - 1]) count--;
    int y = kw__op(g, c->code, &c->attr, c->out == 'y' ? dtype : KW__F32, count, inputs);
    for (int i = 0; i < count; i++) /* a causal convolution's cache */
        if (c->in[i].kind == 's') kw__state_next(g, inputs[i], kw__output(g, y, 1));
    return program;
}

/* ---- Correctness ----------------------------------------------------------------------------------- */

static float to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Element i of an operand: smooth, without symmetry, not 0, and one that its dtype can hold. A fresh cache
 * counts as zeros. */
static double element(const struct op_case *c, const struct kw__value *value, int64_t i, int which)
{
    char kind = c->in[which].kind;
    if (kind == 'i') return (double)((7 * i + 3) % 50);
    if (kind == 'l') return (double)(i == 0 ? value->dim[0] + 5 : 3);
    if (kind == 's' && c->attr.fresh) return 0;
    double x = sin(1.7 * (double)i + which + 0.5) + 0.3 * sin(0.13 * (double)i) + 0.1 * which;
    return value->dtype == KW__BF16 ? to_bf16((float)x) : (float)x;
}

/* The weights of the random law, rounded to the dtype that the case tests. */
static bool rounded_weights(void *user, const struct kw__tensor *tensor, double *out)
{
    uint64_t seed = 1;
    const struct kw__program *program = user;
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    int64_t n = 1;
    for (int i = 0; i < tensor->ndim; i++) n *= tensor->dim[i];
    interp_random_weights(&seed, tensor, out);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__WEIGHT && &program->tensors[g->values[v].tensor[0]] == tensor &&
            g->values[v].dtype == KW__BF16 && g->values[v].recipe == KW__RECIPE_PLAIN)
            for (int64_t i = 0; i < n; i++) out[i] = to_bf16((float)out[i]);
    return true;
}

struct keeping {
    const struct kw__backend *backend;
    float *y[KW__MAX_OUTPUTS];
    size_t count[KW__MAX_OUTPUTS];
};

static bool keep_outputs(void *user, struct kw__plan *plan, size_t i)
{
    struct keeping *k = user;
    const struct kw__op *op = &plan->phase->graph->ops[i];
    for (int o = 0; o < op->num_outputs; o++) {
        k->count[o] = (size_t)kw__elements(&plan->phase->graph->values[op->output[o]]);
        if (!k->count[o]) continue;
        k->y[o] = malloc(k->count[o] * sizeof(float));
        if (!k->y[o]) return false;
        k->backend->read(plan, op->output[o], k->y[o], k->count[o]);
    }
    return true;
}

/* Opens the program on the backend, with weights and operands in place. NULL: reason says why. */
static struct kw__exec *open_case(const struct op_case *c, const struct kw__backend *backend,
                                  const struct kw__exec_options *options, const struct kw__program *program,
                                  struct interp *it, char reason[256])
{
    struct kw__exec *run = NULL;
    struct kw__weights weights;
    kw_error err;
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    kw_status status = kw__exec_open(backend, options, program, &run, &err);
    if (!status) status = kw__weights_open("random:1", program, &weights, &err);
    if (!status) {
        status = kw__exec_prepare(run, "run", &weights, &err);
        kw__weights_close(&weights);
    }
    for (size_t v = 1; v < g->num_values && !status; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT && value->kind != KW__STATE) continue;
        int which = value->name[2] - '0';
        size_t count = (size_t)kw__elements(value);
        float *x = malloc(count * sizeof *x);
        double *wide = malloc(count * sizeof *wide);
        for (size_t i = 0; x && wide && i < count; i++) {
            wide[i] = element(c, value, (int64_t)i, which);
            x[i] = (float)wide[i];
        }
        if (it) interp_set(it, value->name, wide, count);
        status = kw__exec_write(run, value->name, x, count, &err);
        free(x);
        free(wide);
    }
    if (!status) return run;
    snprintf(reason, 256, "%.255s", err.message);
    kw__exec_close(run);
    return NULL;
}

bool op_meaning(const struct op_case *c, double digest[2], size_t *count, char reason[256])
{
    struct kw__program *program = op_program(c, KW__F32);
    struct interp *it = interp_new(program, rounded_weights, program);
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    for (size_t v = 1; v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT && value->kind != KW__STATE) continue;
        size_t n = (size_t)kw__elements(value);
        double *x = malloc(n * sizeof *x);
        for (size_t i = 0; x && i < n; i++) x[i] = element(c, value, (int64_t)i, value->name[2] - '0');
        if (x) interp_set(it, value->name, x, n);
        free(x);
    }
    bool good = interp_run(it, "run");
    snprintf(reason, 256, "%.255s", interp_error(it));
    struct interp_array y = interp_get(it, g->values[g->ops[0].output[0]].name);
    digest[0] = digest[1] = 0;
    *count = good ? y.count : 0;
    for (size_t i = 0; i < *count; i++) {
        digest[0] += y.data[i];
        digest[1] += y.data[i] * sin(0.37 * (double)i + 1);
    }
    interp_free(it);
    kw__program_free(program);
    return good;
}

double op_error(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype,
                char reason[256])
{
    struct keeping k = {.backend = backend};
    struct kw__exec_options options = {.user = &k, .after = keep_outputs};
    struct kw__program *program = op_program(c, dtype);
    struct interp *it = interp_new(program, rounded_weights, program);
    struct kw__exec *run = open_case(c, backend, &options, program, it, reason);
    double worst = run ? 0 : -1;
    kw_error err;
    if (run && kw__exec_stage(run, "run", &err)) {
        snprintf(reason, 256, "%.255s", err.message);
        worst = -1;
    }
    if (worst == 0 && !interp_run(it, "run")) {
        snprintf(reason, 256, "%.255s", interp_error(it));
        worst = -1;
    }
    const struct kw__graph *g = program->stages[0].phases[0].graph;
    for (int o = 0; worst >= 0 && o < g->ops[0].num_outputs; o++) {
        if (!k.count[o]) continue;
        struct interp_array wanted = interp_get(it, g->values[g->ops[0].output[o]].name);
        double *got = malloc(k.count[o] * sizeof *got);
        for (size_t i = 0; got && i < k.count[o]; i++) got[i] = k.y[o][i];
        double error = got ? interp_relative_error(got, wanted.data, k.count[o]) : NAN;
        if (!(error <= worst)) worst = error;
        free(got);
    }
    for (int o = 0; o < KW__MAX_OUTPUTS; o++) free(k.y[o]);
    kw__exec_close(run);
    interp_free(it);
    kw__program_free(program);
    return worst;
}

/* ---- Speed ----------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool op_time(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype, double seconds,
             struct op_speed *out, char reason[256])
{
    enum { MOST = 400 };
    double times[MOST], begin = 0;
    int n = 0;
    kw_error err;
    struct kw__program *program = op_program(c, dtype);
    struct kw__exec *run = open_case(c, backend, NULL, program, NULL, reason);
    bool good = run != NULL;
    if (good && (kw__exec_stage(run, "run", &err))) {
        snprintf(reason, 256, "%.255s", err.message);
        good = false;
    }
    struct kw__plan *plan = good ? kw__exec_plan(run, 0, 0) : NULL;
    for (begin = kw__monotonic_s(); good && n < MOST && (n < 3 || kw__monotonic_s() < begin + seconds); n++) {
        double t = kw__monotonic_s();
        good = !backend->run(plan, 0, NULL, NULL, &err);
        times[n] = kw__monotonic_s() - t;
    }
    if (good) {
        const struct kw__graph *g = program->stages[0].phases[0].graph;
        qsort(times, (size_t)n, sizeof *times, ascending);
        *out = (struct op_speed){times[n / 10], kw__op_flop(g, &g->ops[0]), 0};
        for (int i = 0; i < g->ops[0].num_inputs; i++)
            if (g->ops[0].input[i]) out->bytes += kw__value_bytes(&g->values[g->ops[0].input[i]]);
        for (int i = 0; i < g->ops[0].num_outputs; i++)
            out->bytes += kw__value_bytes(&g->values[g->ops[0].output[i]]);
    }
    kw__exec_close(run);
    kw__program_free(program);
    return good;
}
