#include "support/interp.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/random.h"
#include "support/interp_ops.h"

/* An input or a state, by name. */
struct entry {
    char *name;
    struct interp_array array;
    double *data;
};

struct store {
    struct entry *entries;
    size_t count;
};

struct interp {
    const struct kw__program *program;
    interp_weights *weights;
    void *user;
    double **tensors; /* by index in the program, NULL until it is asked for */
    struct store inputs, states;
    const struct kw__graph *graph; /* the last that ran, with its values */
    double **values;
    interp_observer *observer;
    void *observer_user;
    char error[256];
};

void *interp_allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fprintf(stderr, "interp: out of memory\n");
        exit(1);
    }
    return memory;
}

static char *copy_name(const char *name)
{
    size_t bytes = strlen(name) + 1;
    return memcpy(interp_allocate(bytes, 1), name, bytes);
}

__attribute__((format(printf, 2, 3))) static bool fail_run(struct interp *it, const char *format, ...)
{
    if (it->error[0]) return false; /* the first one is the cause */
    va_list args;
    va_start(args, format);
    vsnprintf(it->error, sizeof it->error, format, args);
    va_end(args);
    return false;
}

/* ---- Weights -------------------------------------------------------------------------------- */

bool interp_random_weights(void *user, const struct kw__tensor *tensor, double *out)
{
    struct kw__random stream = kw__random_stream(tensor->component, tensor->name, *(const uint64_t *)user);
    struct kw__random_law law = kw__random_law(tensor->name, tensor->ndim, tensor->dim);
    size_t count = 1;
    for (int i = 0; i < tensor->ndim; i++) count *= (size_t)tensor->dim[i];
    float *elements = interp_allocate(count, sizeof *elements);
    kw__random_fill(&stream, law.mean, law.scale, 0, count, elements);
    for (size_t i = 0; i < count; i++) out[i] = elements[i];
    free(elements);
    return true;
}

static int64_t tensor_elements(const struct kw__tensor *tensor)
{
    int64_t n = 1;
    for (int i = 0; i < tensor->ndim; i++) n *= tensor->dim[i];
    return n;
}

static const double *tensor_data(struct interp *it, int index)
{
    const struct kw__tensor *tensor = &it->program->tensors[index];
    if (it->tensors[index]) return it->tensors[index];
    double *data = interp_allocate((size_t)tensor_elements(tensor), sizeof *data);
    if (!it->weights(it->user, tensor, data)) {
        fail_run(it, "there is no weight %s of %s", tensor->name, tensor->component);
        free(data);
        return NULL;
    }
    return it->tensors[index] = data;
}

/* A row of a 3x3 kernel over the upsampled image as the two taps that the pixel of one parity has on
 * the image: tap `tap` is the sum of these columns of the three. */
static double fold_tap(int parity, int tap, int column)
{
    return (column + 1 - parity) / 2 == tap;
}

/* w[O,C,3,3] -> y[4,O,C,2,2] */
static void fold_upsample(const double *w, int64_t kernels, double *y)
{
    for (int parity = 0; parity < 4; parity++)
        for (int64_t k = 0; k < kernels; k++)
            for (int tap = 0; tap < 4; tap++) {
                double sum = 0;
                for (int at = 0; at < 9; at++)
                    sum += w[k * 9 + at] * fold_tap(parity / 2, tap / 2, at / 3) *
                           fold_tap(parity % 2, tap % 2, at % 3);
                y[(parity * kernels + k) * 4 + tap] = sum;
            }
}

static bool make_weight(struct interp *it, const struct kw__value *v, double *out)
{
    int64_t filled = 0, count = kw__elements(v);
    for (int i = 0; i < v->num_tensors; i++) {
        const struct kw__tensor *tensor = &it->program->tensors[v->tensor[i]];
        const double *data = tensor_data(it, v->tensor[i]);
        int64_t n = tensor_elements(tensor);
        if (!data) return false;
        if (v->recipe == KW__RECIPE_FOLD_UPSAMPLE) {
            if (n / 9 * 16 != count) return fail_run(it, "weight %s is not 16/9 of its tensor", v->name);
            fold_upsample(data, n / 9, out);
            return true;
        }
        if (filled + n > count) break;
        memcpy(out + filled, data, (size_t)n * sizeof *out);
        filled += n;
    }
    return filled == count || fail_run(it, "weight %s has not the elements of its tensors", v->name);
}

/* ---- Inputs and states ------------------------------------------------------------------------ */

static struct entry *find(const struct store *store, const char *name)
{
    for (size_t i = 0; i < store->count; i++)
        if (strcmp(store->entries[i].name, name) == 0) return &store->entries[i];
    return NULL;
}

/* The entry with this name and room for `count` elements, made when it is not there. */
static struct entry *entry_for(struct store *store, const char *name, size_t count)
{
    struct entry *e = find(store, name);
    if (!e) {
        struct entry *more = interp_allocate(store->count + 1, sizeof *more);
        if (store->count) memcpy(more, store->entries, store->count * sizeof *more);
        free(store->entries);
        store->entries = more;
        e = &store->entries[store->count++];
        e->name = copy_name(name);
    }
    if (!e->data || e->array.count != count) {
        free(e->data);
        e->data = interp_allocate(count, sizeof *e->data);
        e->array = (struct interp_array){1, {(int64_t)count}, count, e->data};
    }
    return e;
}

static void set_shape(struct entry *e, const struct kw__value *v)
{
    e->array.ndim = v->ndim;
    memcpy(e->array.dim, v->dim, sizeof v->dim);
}

static void free_store(struct store *store)
{
    for (size_t i = 0; i < store->count; i++) {
        free(store->entries[i].name);
        free(store->entries[i].data);
    }
    free(store->entries);
}

/* What interp_set gives is kept under both kinds: which one the name has, the graph says later. */
void interp_set(struct interp *it, const char *name, const double *data, size_t count)
{
    memcpy(entry_for(&it->inputs, name, count)->data, data, count * sizeof *data);
    memcpy(entry_for(&it->states, name, count)->data, data, count * sizeof *data);
}

void interp_set_scalar(struct interp *it, const char *name, double value)
{
    interp_set(it, name, &value, 1);
}

/* ---- Running ---------------------------------------------------------------------------------- */

static void drop_values(struct interp *it)
{
    for (size_t v = 1; it->graph && v < it->graph->num_values; v++) free(it->values[v]);
    free(it->values);
    it->values = NULL;
    it->graph = NULL;
}

/* The input for this phase, "phase/name", else the one for all, "name". */
static const struct entry *find_input(const struct interp *it, const struct kw__phase *phase,
                                      const char *name)
{
    char qualified[256];
    snprintf(qualified, sizeof qualified, "%s/%s", phase->name, name);
    const struct entry *e = find(&it->inputs, qualified);
    return e ? e : find(&it->inputs, name);
}

static bool start_value(struct interp *it, const struct kw__phase *phase, const struct kw__value *v,
                        double *data)
{
    size_t count = (size_t)kw__elements(v);
    if (v->kind == KW__WEIGHT) return make_weight(it, v, data);
    if (v->kind == KW__INPUT) {
        for (int i = 0; i < phase->table.columns; i++)
            if (strcmp(phase->table.names[i], v->name) == 0) return true;
        const struct entry *e = find_input(it, phase, v->name);
        if (!e) return fail_run(it, "input %s of %s is not set", v->name, phase->name);
        if (e->array.count != count)
            return fail_run(it, "input %s of %s has %zu elements, not %zu", v->name, phase->name,
                            e->array.count, count);
        memcpy(data, e->data, count * sizeof *data);
    }
    if (v->kind == KW__STATE) {
        struct entry *e = find(&it->states, v->name);
        if (!e) {
            e = entry_for(&it->states, v->name, count);
            for (size_t i = 0; i < count; i++) e->data[i] = v->initial;
        }
        if (e->array.count != count)
            return fail_run(it, "state %s of %s has %zu elements, not %zu", v->name, phase->name,
                            e->array.count, count);
        set_shape(e, v);
        memcpy(data, e->data, count * sizeof *data);
    }
    return true;
}

/* Inputs that the iteration table names; temporaries become NaN so that nothing stale is read. */
static void start_iteration(struct interp *it, const struct kw__phase *phase, int64_t iteration)
{
    const struct kw__iterations *table = &phase->table;
    for (size_t i = 1; i < it->graph->num_values; i++) {
        const struct kw__value *v = &it->graph->values[i];
        int64_t count = kw__elements(v);
        for (int64_t k = 0; v->kind == KW__TEMPORARY && k < count; k++) it->values[i][k] = NAN;
        for (int k = 0; v->kind == KW__INPUT && k < table->columns; k++) {
            if (strcmp(table->names[k], v->name) != 0) continue;
            for (int64_t n = 0; n < count; n++)
                it->values[i][n] = table->rows[iteration * table->columns + k];
        }
    }
}

static bool run_op(struct interp *it, const struct kw__phase *phase, int64_t iteration,
                   const struct kw__op *op, bool *ready)
{
    const struct kw__graph *g = phase->graph;
    struct interp_call c = {.op = op, .a = &op->attr, .table = &phase->table, .iteration = iteration};
    const char *name = g->values[op->output[0]].name;
    for (int i = 0; i < op->num_inputs; i++) {
        int v = op->input[i];
        if (!v && i < kw__op_info(op->code)->least_inputs)
            return fail_run(it, "%s: input %d is absent", name, i);
        if (!v) continue;
        if (g->values[v].kind == KW__TEMPORARY && !ready[v])
            return fail_run(it, "%s comes before its input %s", name, g->values[v].name);
        c.in[i] = &g->values[v];
        c.x[i] = it->values[v];
    }
    for (int i = 0; i < op->num_outputs; i++) {
        c.out[i] = &g->values[op->output[i]];
        c.y[i] = it->values[op->output[i]];
        ready[op->output[i]] = true;
    }
    interp_compute(&c);
    return !c.broken || fail_run(it, "%s of %s: not so: %s", name, phase->name, c.broken);
}

/* The next values of all states are read before any is written: one may be another's old value. */
static void change_states(struct interp *it)
{
    const struct kw__graph *g = it->graph;
    for (size_t i = 1; i < g->num_values; i++) {
        const struct kw__value *v = &g->values[i];
        if (v->kind != KW__STATE || !v->next) continue;
        if (kw__elements(&g->values[v->next]) != kw__elements(v)) {
            fail_run(it, "state %s changes its size", v->name);
            return;
        }
        memcpy(find(&it->states, v->name)->data, it->values[v->next],
               (size_t)kw__elements(v) * sizeof(double));
    }
    for (size_t i = 1; i < g->num_values; i++) {
        const struct kw__value *v = &g->values[i];
        if (v->kind != KW__STATE || !v->next) continue;
        memcpy(it->values[i], find(&it->states, v->name)->data, (size_t)kw__elements(v) * sizeof(double));
    }
}

/* Rewrites may leave weights and inputs that nothing reads. */
static bool *mark_used(const struct kw__graph *g)
{
    bool *used = interp_allocate(g->num_values, sizeof *used);
    for (size_t v = 1; v < g->num_values; v++) {
        used[v] |= g->values[v].kind == KW__STATE;
        used[g->values[v].next] = true;
    }
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        for (int k = 0; !op->dead && k < op->num_inputs; k++) used[op->input[k]] = true;
    }
    return used;
}

/* Iterations first .. first + calls - 1. */
static bool run_phase(struct interp *it, const struct kw__phase *phase, int64_t first, int64_t calls)
{
    const struct kw__graph *g = phase->graph;
    drop_values(it);
    it->graph = g;
    it->values = interp_allocate(g->num_values, sizeof *it->values);
    bool *used = mark_used(g);
    for (size_t i = 1; i < g->num_values && !it->error[0]; i++) {
        it->values[i] = interp_allocate((size_t)kw__elements(&g->values[i]), sizeof(double));
        if (used[i]) start_value(it, phase, &g->values[i], it->values[i]);
    }
    free(used);
    bool *ready = interp_allocate(g->num_values, sizeof *ready);
    for (int64_t n = first; n < first + calls && !it->error[0]; n++) {
        start_iteration(it, phase, n);
        memset(ready, 0, g->num_values * sizeof *ready);
        for (size_t i = 0; i < g->num_ops && !it->error[0]; i++)
            if (!g->ops[i].dead) run_op(it, phase, n, &g->ops[i], ready);
        if (!it->error[0]) change_states(it);
        if (!it->error[0] && it->observer) it->observer(it->observer_user, it, phase, n);
    }
    free(ready);
    return !it->error[0];
}

static bool run_turns(struct interp *it, const struct kw__stage *stage)
{
    int64_t done[KW__MAX_PHASES] = {0};
    for (size_t i = 0; i < kw__stage_turns(stage); i++) {
        struct kw__turn turn = kw__stage_turn(stage, i);
        const struct kw__phase *phase = &stage->phases[turn.phase];
        if (done[turn.phase] + turn.calls > phase->calls)
            return fail_run(it, "%s has more turns than calls", phase->name);
        if (!run_phase(it, phase, done[turn.phase], turn.calls)) return false;
        done[turn.phase] += turn.calls;
    }
    for (int p = 0; p < stage->num_phases; p++)
        if (done[p] < stage->phases[p].calls)
            return fail_run(it, "%s has more calls than turns", stage->phases[p].name);
    return true;
}

bool interp_run(struct interp *it, const char *stage)
{
    const struct kw__program *program = it->program;
    it->error[0] = '\0';
    for (int s = 0; s < program->num_stages; s++) {
        if (strcmp(program->stages[s].name, stage) != 0) continue;
        return run_turns(it, &program->stages[s]);
    }
    return fail_run(it, "there is no stage %s", stage);
}

struct interp *interp_new(const struct kw__program *program, interp_weights *weights, void *user)
{
    struct interp *it = interp_allocate(1, sizeof *it);
    it->program = program;
    it->weights = weights;
    it->user = user;
    it->tensors = interp_allocate(program->num_tensors, sizeof *it->tensors);
    return it;
}

void interp_free(struct interp *it)
{
    if (!it) return;
    drop_values(it);
    for (size_t i = 0; i < it->program->num_tensors; i++) free(it->tensors[i]);
    free(it->tensors);
    free_store(&it->inputs);
    free_store(&it->states);
    free(it);
}

void interp_observe(struct interp *it, interp_observer *observer, void *user)
{
    it->observer = observer;
    it->observer_user = user;
}

const char *interp_error(const struct interp *it)
{
    return it->error;
}

struct interp_array interp_get(const struct interp *it, const char *name)
{
    const struct entry *e = find(&it->states, name);
    if (e) return e->array;
    for (size_t i = 1; it->graph && i < it->graph->num_values; i++) {
        const struct kw__value *v = &it->graph->values[i];
        if (strcmp(v->name, name) != 0) continue;
        struct interp_array array = {v->ndim, {0}, (size_t)kw__elements(v), it->values[i]};
        memcpy(array.dim, v->dim, sizeof v->dim);
        return array;
    }
    return (struct interp_array){0};
}

double interp_relative_error(const double *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference / norm);
}
