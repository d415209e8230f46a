#include "engine/exec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "graph/count.h"

/* A state of the program: one memory under one name. Phases are numbered through all stages. */
struct state {
    const char *name;
    size_t bytes, offset;
    int first, last; /* phases */
    bool started;
    float *pending; /* what it goes on from; NULL: nothing was written */
    size_t pending_count;
};

struct entry {
    char *name;
    float *data;
    size_t count;
};

struct kw__exec {
    struct kw__arena arena;
    const struct kw__backend *backend;
    struct kw__exec_options options;
    const struct kw__program *program;
    struct kw__device *device;
    struct kw__plan *plans[KW__MAX_STAGES][KW__MAX_PHASES];
    bool prepared[KW__MAX_STAGES];
    size_t num_states;
    struct state *states;
    size_t num_inputs;
    struct entry *inputs;
    size_t states_bytes, workspace_bytes;
    char *memory; /* the states, then the workspace */
    int position; /* the last phase that began, -1: none */
    const char *dump;
    float *buffer; /* of the largest value, when dumping */
    /* what is under way, for progress */
    struct kw__progress at;
    double stage_flop, done_flop;
    kw_error *err; /* where after_op puts an error of its own */
    bool failed;
    kw_status failure;
};

/* ---- Opening ------------------------------------------------------------------------------------------ */

static int phase_number(const struct kw__program *program, int stage, int phase)
{
    for (int s = 0; s < stage; s++) phase += program->stages[s].num_phases;
    return phase;
}

static struct state *find_state(const struct kw__exec *run, const char *name)
{
    for (size_t i = 0; i < run->num_states; i++)
        if (strcmp(run->states[i].name, name) == 0) return &run->states[i];
    return NULL;
}

static size_t storage_bytes(const struct kw__plan *plan, int v)
{
    return plan->memory.storage[v] < 0 ? 0 : plan->memory.storages[plan->memory.storage[v]].bytes;
}

/* Enters the states of a phase, or checks that they are those that were entered before. Those of phases
 * that alternate live as long as their stage. */
static kw_status enter_states(struct kw__exec *run, const struct kw__plan *plan, int s, int p, kw_error *err)
{
    const struct kw__stage *stage = &run->program->stages[s];
    int first = phase_number(run->program, s, stage->num_turns ? 0 : p);
    int last = phase_number(run->program, s, stage->num_turns ? stage->num_phases - 1 : p);
    const struct kw__graph *g = plan->phase->graph;
    for (size_t v = 1; v < g->num_values; v++) {
        if (g->values[v].kind != KW__STATE) continue;
        struct state *state = find_state(run, g->values[v].name);
        size_t bytes = storage_bytes(plan, (int)v);
        if (!state) {
            struct state *more = realloc(run->states, (run->num_states + 1) * sizeof *more);
            if (!more) return kw__fail_memory(err);
            run->states = more;
            state = &more[run->num_states++];
            *state = (struct state){.name = g->values[v].name, .bytes = bytes, .first = first};
        }
        if (state->bytes != bytes)
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "state %s changes its size or dtype between phases",
                            state->name);
        state->last = last;
    }
    return KW_OK;
}

static kw_status place_states(struct kw__exec *run, kw_error *err)
{
    struct kw__storage *storages = kw__arena_alloc(&run->arena, run->num_states + 1, sizeof *storages);
    if (!storages) return kw__fail_memory(err);
    for (size_t i = 0; i < run->num_states; i++)
        storages[i] = (struct kw__storage){
            .bytes = run->states[i].bytes, .first = run->states[i].first, .last = run->states[i].last};
    run->states_bytes = kw__place_storages(storages, run->num_states, &run->arena);
    for (size_t i = 0; i < run->num_states; i++) run->states[i].offset = storages[i].offset;
    return run->arena.failed ? kw__fail_memory(err) : KW_OK;
}

static kw_status compile_phases(struct kw__exec *run, kw_error *err)
{
    const struct kw__program *program = run->program;
    size_t largest = 1;
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__phase *phase = &program->stages[s].phases[p];
            if (phase->calls < 1) continue;
            kw_status status = run->backend->compile(run->device, phase, &run->plans[s][p], err);
            if (!status) status = enter_states(run, run->plans[s][p], s, p, err);
            if (status) return status;
            size_t bytes = run->plans[s][p]->memory.workspace_bytes;
            if (bytes > run->workspace_bytes) run->workspace_bytes = bytes;
            for (size_t v = 1; v < phase->graph->num_values; v++) {
                size_t count = (size_t)kw__elements(&phase->graph->values[v]);
                if (phase->graph->values[v].kind != KW__WEIGHT && count > largest) largest = count;
            }
        }
    run->dump = getenv("KINOWATT_DUMP");
    if (run->dump && !*run->dump) run->dump = NULL;
    if (run->dump && !(run->buffer = malloc(largest * sizeof *run->buffer))) return kw__fail_memory(err);
    return place_states(run, err);
}

struct kw__exec_memory kw__exec_memory(const struct kw__exec *run)
{
    struct kw__exec_memory m = {.states = (double)run->states_bytes,
                                .workspace = (double)run->workspace_bytes};
    for (int s = 0; s < KW__MAX_STAGES; s++)
        for (int p = 0; p < KW__MAX_PHASES; p++)
            if (run->plans[s][p]) m.weights += run->plans[s][p]->weight_bytes;
    return m;
}

kw_status kw__exec_open(const struct kw__backend *backend, const struct kw__exec_options *options,
                        const struct kw__program *program, struct kw__exec **out, kw_error *err)
{
    if (backend->abi != KW__BACKEND_ABI)
        return kw__fail(err, KW_ERROR_DEVICE, "backend %s has interface %d, this program %d", backend->name,
                        backend->abi, KW__BACKEND_ABI);
    struct kw__exec *run = calloc(1, sizeof *run);
    if (!run) return kw__fail_memory(err);
    kw__arena_init(&run->arena);
    run->backend = backend;
    if (options) run->options = *options;
    run->program = program;
    run->position = -1;
    kw_status status = backend->open(&run->options.device, &run->device, err);
    if (!status) status = compile_phases(run, err);
    if (status) {
        kw__exec_close(run);
        return status;
    }
    *out = run;
    return KW_OK;
}

void kw__exec_close(struct kw__exec *run)
{
    if (!run) return;
    for (int s = 0; s < KW__MAX_STAGES; s++)
        for (int p = 0; p < KW__MAX_PHASES; p++) run->backend->free_plan(run->plans[s][p]);
    if (run->device && run->memory) run->backend->release(run->device, run->memory);
    run->backend->close(run->device);
    for (size_t i = 0; i < run->num_states; i++) free(run->states[i].pending);
    for (size_t i = 0; i < run->num_inputs; i++) {
        free(run->inputs[i].name);
        free(run->inputs[i].data);
    }
    free(run->states);
    free(run->inputs);
    free(run->buffer);
    kw__arena_free(&run->arena);
    free(run);
}

const struct kw__program *kw__exec_program(const struct kw__exec *run)
{
    return run->program;
}

struct kw__device *kw__exec_device(const struct kw__exec *run)
{
    return run->device;
}

struct kw__plan *kw__exec_plan(const struct kw__exec *run, int stage, int phase)
{
    return run->plans[stage][phase];
}

/* ---- Weights --------------------------------------------------------------------------------------- */

static kw_status find_stage(const struct kw__exec *run, const char *name, int *out, kw_error *err)
{
    for (int s = 0; s < run->program->num_stages; s++)
        if (strcmp(run->program->stages[s].name, name) == 0) {
            *out = s;
            return KW_OK;
        }
    return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no stage %s", name);
}

static kw_status bind_phase(struct kw__exec *run, struct kw__plan *plan, kw_error *err)
{
    const struct kw__graph *g = plan->phase->graph;
    void **states = calloc(g->num_values, sizeof(void *));
    if (!states) return kw__fail_memory(err);
    for (size_t v = 1; v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE)
            states[v] = run->memory + find_state(run, g->values[v].name)->offset;
    kw_status status = run->backend->bind(plan, run->memory + run->states_bytes, states, err);
    free(states);
    return status;
}

static kw_status prepare_stage(struct kw__exec *run, int s, const struct kw__weights *weights, kw_error *err)
{
    kw_status status = KW_OK;
    for (int p = 0; p < run->program->stages[s].num_phases && !status; p++) {
        struct kw__plan *plan = run->plans[s][p];
        if (!plan) continue;
        status = run->backend->weights(plan, weights, err);
        if (!status) status = bind_phase(run, plan, err);
    }
    run->prepared[s] = !status;
    return status;
}

kw_status kw__exec_prepare(struct kw__exec *run, const char *stage, const struct kw__weights *weights,
                           kw_error *err)
{
    kw_status status = KW_OK;
    if (!run->memory) {
        void *memory = NULL;
        status = run->backend->allocate(run->device, run->states_bytes + run->workspace_bytes, &memory, err);
        run->memory = memory;
    }
    int only = -1;
    if (!status && stage) status = find_stage(run, stage, &only, err);
    for (int s = 0; s < run->program->num_stages && !status; s++)
        if (only < 0 || s == only) status = prepare_stage(run, s, weights, err);
    return status;
}

/* ---- Inputs and states ----------------------------------------------------------------------------- */

static struct entry *find_input(const struct kw__exec *run, const char *name)
{
    for (size_t i = 0; i < run->num_inputs; i++)
        if (strcmp(run->inputs[i].name, name) == 0) return &run->inputs[i];
    return NULL;
}

static struct entry *add_input(struct kw__exec *run, const char *name)
{
    struct entry *more = realloc(run->inputs, (run->num_inputs + 1) * sizeof *more);
    if (!more) return NULL;
    run->inputs = more;
    struct entry *e = &more[run->num_inputs];
    *e = (struct entry){0};
    size_t bytes = strlen(name) + 1;
    if (!(e->name = malloc(bytes))) return NULL;
    memcpy(e->name, name, bytes);
    run->num_inputs++;
    return e;
}

kw_status kw__exec_write(struct kw__exec *run, const char *name, const float *data, size_t count,
                         kw_error *err)
{
    float *copy = malloc((count ? count : 1) * sizeof *copy);
    if (!copy) return kw__fail_memory(err);
    memcpy(copy, data, count * sizeof *copy);
    struct state *state = find_state(run, name);
    if (state) {
        free(state->pending);
        state->pending = copy;
        state->pending_count = count;
        return KW_OK;
    }
    struct entry *e = find_input(run, name);
    if (!e) e = add_input(run, name);
    if (!e) {
        free(copy);
        return kw__fail_memory(err);
    }
    free(e->data);
    e->data = copy;
    e->count = count;
    return KW_OK;
}

/* The plan of the last phase so far that has the state, and its value there. */
static struct kw__plan *plan_of_state(const struct kw__exec *run, const char *name, int *value)
{
    struct kw__plan *found = NULL;
    for (int s = 0; s < run->program->num_stages; s++)
        for (int p = 0; p < run->program->stages[s].num_phases; p++) {
            struct kw__plan *plan = run->plans[s][p];
            if (!plan || !run->prepared[s] || phase_number(run->program, s, p) > run->position) continue;
            const struct kw__graph *g = plan->phase->graph;
            for (size_t v = 1; v < g->num_values; v++)
                if (g->values[v].kind == KW__STATE && strcmp(g->values[v].name, name) == 0) {
                    found = plan;
                    *value = (int)v;
                }
        }
    return found;
}

kw_status kw__exec_read(struct kw__exec *run, const char *name, float *data, size_t count, kw_error *err)
{
    const struct state *state = find_state(run, name);
    if (!state) return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no state %s", name);
    int value = 0;
    struct kw__plan *plan =
        state->started && run->position <= state->last ? plan_of_state(run, name, &value) : NULL;
    if (!plan) return kw__fail(err, KW_ERROR_USAGE, "state %s is not alive", name);
    if (count != (size_t)kw__elements(&plan->phase->graph->values[value]))
        return kw__fail(err, KW_ERROR_USAGE, "state %s has %lld elements, not %zu", name,
                        (long long)kw__elements(&plan->phase->graph->values[value]), count);
    run->backend->read(plan, value, data, count);
    return KW_OK;
}

void kw__exec_restart(struct kw__exec *run)
{
    run->position = -1;
    for (size_t i = 0; i < run->num_states; i++) {
        run->states[i].started = false;
        free(run->states[i].pending);
        run->states[i].pending = NULL;
    }
}

/* ---- A phase begins -------------------------------------------------------------------------------- */

/* Whether the phase reads a state before it replaces it. A fresh convolution does not read its cache. */
static bool is_read(const struct kw__graph *g, int v)
{
    bool read = !g->values[v].next;
    for (size_t i = 1; i < g->num_values; i++) read |= g->values[i].next == v;
    for (size_t i = 0; i < g->num_ops; i++)
        for (int k = 0; !g->ops[i].dead && k < g->ops[i].num_inputs; k++)
            read |=
                g->ops[i].input[k] == v && !(g->ops[i].code == KW__CONV && k == 3 && g->ops[i].attr.fresh);
    return read;
}

static kw_status start_state(struct kw__exec *run, struct kw__plan *plan, int v, kw_error *err)
{
    const struct kw__value *value = &plan->phase->graph->values[v];
    struct state *state = find_state(run, value->name);
    size_t count = (size_t)kw__elements(value);
    if (state->pending) {
        if (state->pending_count != count)
            return kw__fail(err, KW_ERROR_USAGE, "state %s has %zu elements, not %zu", value->name, count,
                            state->pending_count);
        run->backend->write(plan, v, state->pending, count);
        free(state->pending);
        state->pending = NULL;
    } else if (!state->started && is_read(plan->phase->graph, v)) {
        run->backend->fill(plan, v, (float)value->initial);
    }
    state->started = true;
    return KW_OK;
}

static bool in_table(const struct kw__phase *phase, const char *name)
{
    for (int c = 0; c < phase->table.columns; c++)
        if (strcmp(phase->table.names[c], name) == 0) return true;
    return false;
}

/* Ids must be rows of the tables that they are looked up in. */
static kw_status check_ids(const struct kw__plan *plan, int v, const struct entry *e, kw_error *err)
{
    const struct kw__graph *g = plan->phase->graph;
    for (size_t i = 0; i < g->num_ops; i++) {
        const struct kw__op *op = &g->ops[i];
        if (op->dead || op->code != KW__EMBEDDING || op->input[0] != v) continue;
        double rows = (double)g->values[op->input[1]].dim[0];
        for (size_t k = 0; k < e->count; k++)
            if (!(e->data[k] >= 0 && e->data[k] < rows))
                return kw__fail(err, KW_ERROR_USAGE, "%s: id %g is not one of the %g of the vocabulary",
                                e->name, e->data[k], rows);
    }
    return KW_OK;
}

static kw_status start_input(struct kw__exec *run, struct kw__plan *plan, int v, kw_error *err)
{
    const struct kw__value *value = &plan->phase->graph->values[v];
    if (in_table(plan->phase, value->name)) return KW_OK;
    char qualified[256];
    snprintf(qualified, sizeof qualified, "%s/%s", plan->phase->name, value->name);
    const struct entry *e = find_input(run, qualified);
    if (!e) e = find_input(run, value->name);
    if (!e) return kw__fail(err, KW_ERROR_USAGE, "input %s is not set", qualified);
    if (e->count != (size_t)kw__elements(value))
        return kw__fail(err, KW_ERROR_USAGE, "input %s has %lld elements, not %zu", qualified,
                        (long long)kw__elements(value), e->count);
    kw_status status = check_ids(plan, v, e, err);
    if (!status) run->backend->write(plan, v, e->data, e->count);
    return status;
}

static kw_status start_phase(struct kw__exec *run, struct kw__plan *plan, kw_error *err)
{
    const struct kw__graph *g = plan->phase->graph;
    kw_status status = KW_OK;
    for (size_t v = 1; v < g->num_values && !status; v++) {
        if (plan->memory.storage[v] < 0) continue;
        if (g->values[v].kind == KW__STATE) status = start_state(run, plan, (int)v, err);
        if (g->values[v].kind == KW__INPUT) status = start_input(run, plan, (int)v, err);
    }
    return status;
}

/* ---- Running --------------------------------------------------------------------------------------- */

static bool stop(struct kw__exec *run, kw_status status)
{
    run->failed = true;
    run->failure = status;
    return false;
}

/* One output to the folder: a file of f32, and a line of the index with its name and shape. */
static bool dump_value(struct kw__exec *run, struct kw__plan *plan, int v)
{
    const struct kw__value *value = &plan->phase->graph->values[v];
    size_t count = (size_t)kw__elements(value);
    if (!count || plan->memory.storage[v] < 0) return true;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.%s.%lld.%s.f32", run->dump, run->at.stage, run->at.phase,
             (long long)run->at.iteration, value->name);
    run->backend->read(plan, v, run->buffer, count);
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(run->buffer, sizeof *run->buffer, count, file) == count;
    if (file && fclose(file) != 0) good = false;
    if (!good)
        return stop(run, kw__fail(run->err, KW_ERROR_IO, "KINOWATT_DUMP: %s: %s", path, strerror(errno)));
    snprintf(path, sizeof path, "%s/index.txt", run->dump);
    file = fopen(path, "a");
    if (!file)
        return stop(run, kw__fail(run->err, KW_ERROR_IO, "KINOWATT_DUMP: %s: %s", path, strerror(errno)));
    fprintf(file, "%s.%s.%lld.%s %s", run->at.stage, run->at.phase, (long long)run->at.iteration, value->name,
            kw__dtype_name(value->dtype));
    for (int i = 0; i < value->ndim; i++) fprintf(file, " %lld", (long long)value->dim[i]);
    fprintf(file, "\n");
    if (fclose(file) != 0)
        return stop(run, kw__fail(run->err, KW_ERROR_IO, "KINOWATT_DUMP: %s: %s", path, strerror(errno)));
    return true;
}

static bool after_op(void *user, struct kw__plan *plan, size_t i)
{
    struct kw__exec *run = user;
    const struct kw__graph *g = plan->phase->graph;
    const struct kw__op *op = &g->ops[i];
    run->at.op = i + 1;
    if (op->dead) return true;
    run->done_flop += kw__op_flop(g, op);
    run->at.done = run->stage_flop > 0 ? run->done_flop / run->stage_flop : 0;
    for (int k = 0; k < op->num_outputs; k++) {
        int v = op->output[k];
        if (run->dump && !dump_value(run, plan, v)) return false;
        if (run->options.check_finite && plan->memory.storage[v] >= 0 && !run->backend->finite(plan, v))
            return stop(run,
                        kw__fail(run->err, KW_ERROR_FORMAT, "%s of %s, call %lld of %s: %s is not finite",
                                 kw__op_info(op->code)->name, op->component, (long long)run->at.iteration + 1,
                                 run->at.phase, g->values[v].name));
    }
    if (run->options.after && !run->options.after(run->options.user, plan, i)) return false;
    return !run->options.progress || run->options.progress(run->options.user, &run->at);
}

/* Iterations first .. first + calls - 1. */
static kw_status run_phase(struct kw__exec *run, struct kw__plan *plan, int64_t first, int64_t calls,
                           kw_error *err)
{
    const struct kw__phase *phase = plan->phase;
    bool watched = run->options.progress || run->options.after || run->options.check_finite || run->dump;
    run->at.phase = phase->name;
    run->at.iterations = phase->calls;
    run->at.ops = phase->graph->num_ops;
    kw_status status = start_phase(run, plan, err);
    for (int64_t n = first; n < first + calls && !status; n++) {
        run->at.iteration = n;
        run->at.op = 0;
        run->failed = false;
        run->err = err;
        kw_error own; /* not to write over the cause that after_op has given */
        status = run->backend->run(plan, n, watched ? after_op : NULL, run, &own);
        if (status && !run->failed) status = kw__fail(err, own.code, "%s", own.message);
        if (status && run->failed) status = run->failure;
    }
    return status;
}

kw_status kw__exec_stage(struct kw__exec *run, const char *stage, kw_error *err)
{
    int s = 0;
    kw_status status = find_stage(run, stage, &s, err);
    if (status) return status;
    if (!run->prepared[s])
        return kw__fail(err, KW_ERROR_USAGE, "stage %s has no weights yet; call kw__exec_prepare first",
                        stage);
    const struct kw__stage *it = &run->program->stages[s];
    run->at = (struct kw__progress){.stage = it->name};
    run->stage_flop = run->done_flop = 0;
    for (int p = 0; p < it->num_phases; p++) {
        struct kw__sums sums = {0};
        kw__graph_flop(it->phases[p].graph, NULL, (double)it->phases[p].calls, &sums);
        run->stage_flop += sums.flop;
    }
    if (run->options.stage) run->options.stage(run->options.user, it->name, true);
    int64_t done[KW__MAX_PHASES] = {0};
    for (size_t i = 0; i < kw__stage_turns(it) && !status; i++) {
        struct kw__turn turn = kw__stage_turn(it, i);
        if (!run->plans[s][turn.phase]) continue;
        run->position = phase_number(run->program, s, it->num_turns ? it->num_phases - 1 : turn.phase);
        status = run_phase(run, run->plans[s][turn.phase], done[turn.phase], turn.calls, err);
        done[turn.phase] += turn.calls;
    }
    if (run->options.stage) run->options.stage(run->options.user, it->name, false);
    return status;
}
