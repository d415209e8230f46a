/* parity.h is the manual. */
#include "support/parity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec.h"
#include "support/interp.h"

/* In the interpreter sums of float64 are in another order, or the file is rounded to float32 once. On the CPU
 * the project's own bound for f32 holds. */
static const double tolerance_f64 = 1e-12, tolerance_f32 = 1e-7, tolerance_cpu = 1e-4;
static uint64_t seed = GOLDEN_SEED;

/* Values of the run, one after the other. */
struct kept {
    const struct kw__graph *graph; /* one operator's output of this graph, or */
    size_t op;
    bool latents; /* the states of this name, and of those it begins, after each step */
    double elements[1 << 14];
    size_t count;
};

/* A case on either side. */
struct side {
    struct golden_case golden;
    struct interp *it;
    struct kw__exec *run; /* NULL: in the interpreter */
    struct kept kept;
};

static double *room(struct kept *kept, size_t count)
{
    assert_true(kept->count + count <= sizeof kept->elements / sizeof kept->elements[0]);
    double *out = kept->elements + kept->count;
    kept->count += count;
    return out;
}

/* The value that is kept, or becomes a kept state, is one of `op`'s outputs: it, or 0. */
static int wanted(const struct kept *kept, const struct kw__phase *phase, size_t op)
{
    const struct kw__graph *g = phase->graph;
    int out = g->ops[op].output[0];
    if (!kept->latents) return g == kept->graph && op == kept->op ? out : 0;
    size_t length = strlen(phase->name);
    bool step = length >= 4 && strcmp(phase->name + length - 4, "step") == 0;
    for (size_t v = 1; step && v < g->num_values; v++)
        if (g->values[v].kind == KW__STATE && g->values[v].next == out &&
            strncmp(g->values[v].name, "latents", 7) == 0)
            return out;
    return 0;
}

static void keep_interp(void *user, struct interp *it, const struct kw__phase *phase, int64_t iteration)
{
    struct kept *kept = user;
    (void)iteration;
    for (size_t i = 0; i < phase->graph->num_ops; i++) {
        int v = wanted(kept, phase, i);
        if (!v) continue;
        struct interp_array x = interp_get(it, phase->graph->values[v].name);
        assert_non_null(x.data);
        memcpy(room(kept, x.count), x.data, x.count * sizeof *x.data);
    }
}

static bool keep_cpu(void *user, struct kw__plan *plan, size_t op)
{
    struct kept *kept = user;
    int v = wanted(kept, plan->phase, op);
    if (!v) return true;
    size_t count = (size_t)kw__elements(&plan->phase->graph->values[v]);
    float *x = malloc(count * sizeof *x);
    assert_non_null(x);
    kw__backend_cpu.read(plan, v, x, count);
    double *out = room(kept, count);
    for (size_t i = 0; i < count; i++) out[i] = x[i];
    free(x);
    return true;
}

static void write_values(struct side *s, const char *name, const double *x, size_t count)
{
    if (!s->run) {
        interp_set(s->it, name, x, count);
        return;
    }
    kw_error err;
    float *narrow = malloc(count * sizeof *narrow);
    assert_non_null(narrow);
    for (size_t i = 0; i < count; i++) narrow[i] = (float)x[i];
    if (kw__exec_write(s->run, name, narrow, count, &err)) fail_msg("%s: %s", name, err.message);
    free(narrow);
}

static void write_noise(struct side *s, const char *name, const char *stream, size_t count)
{
    float *noise = malloc(count * sizeof *noise);
    double *elements = malloc(count * sizeof *elements);
    assert_true(noise && elements);
    golden_noise(stream, count, noise);
    for (size_t i = 0; i < count; i++) elements[i] = noise[i];
    write_values(s, name, elements, count);
    free(elements);
    free(noise);
}

/* What a clip begins from: the states whose names begin with "latents", and the inputs with "noise". A state
 * is written once, though many phases have it. */
static void write_noises(struct side *s)
{
    enum { MOST = 8 };
    const struct kw__program *program = s->golden.program;
    const char *written[MOST];
    int num_written = 0;
    for (int i = 0; i < program->num_stages; i++) {
        for (int p = 0; p < program->stages[i].num_phases; p++) {
            const struct kw__graph *g = program->stages[i].phases[p].graph;
            for (size_t v = 1; v < g->num_values; v++) {
                const struct kw__value *value = &g->values[v];
                bool noise = value->kind == KW__INPUT && strncmp(value->name, "noise", 5) == 0;
                bool latents = value->kind == KW__STATE && strncmp(value->name, "latents", 7) == 0;
                int known = 0;
                while (known < num_written && strcmp(written[known], value->name) != 0) known++;
                if (known < num_written || !(noise || latents)) continue;
                assert_true(num_written < MOST);
                written[num_written++] = value->name;
                write_noise(s, value->name, value->name, (size_t)kw__elements(value));
            }
        }
    }
}

static struct side *open_side(enum parity_on on, const struct parity_model *model, struct golden_size size)
{
    struct side *s = calloc(1, sizeof *s);
    assert_non_null(s);
    size.resolved = true;
    s->golden = golden_lower(model->folder, size);
    if (on == ON_INTERPRETER) {
        s->it = interp_new(s->golden.program, interp_random_weights, &seed);
        interp_observe(s->it, keep_interp, &s->kept);
    } else {
        const struct kw__exec_options options = {.user = &s->kept, .after = keep_cpu};
        struct kw__weights weights;
        kw_error err;
        if (kw__exec_open(&kw__backend_cpu, &options, s->golden.program, &s->run, &err))
            fail_msg("%s", err.message);
        if (kw__weights_open("random:1", s->golden.program, &weights, &err)) fail_msg("%s", err.message);
        if (kw__exec_prepare(s->run, NULL, &weights, &err)) fail_msg("%s", err.message);
        kw__weights_close(&weights);
    }
    write_noises(s);
    return s;
}

static void close_side(struct side *s)
{
    kw__exec_close(s->run);
    interp_free(s->it);
    golden_release(&s->golden);
    free(s);
}

static void run_stage(struct side *s, const char *stage)
{
    kw_error err;
    if (s->run) {
        if (kw__exec_stage(s->run, stage, &err)) fail_msg("%s, %s: %s", stage, s->golden.how, err.message);
    } else if (!interp_run(s->it, stage)) {
        fail_msg("%s, %s: %s", stage, s->golden.how, interp_error(s->it));
    }
}

static void compare(const struct side *s, const char *golden, const double *got, size_t count)
{
    double *expected = golden_read(golden, count);
    double error = interp_relative_error(got, expected, count);
    double allowed = s->run ? tolerance_cpu : strstr(golden, ".f32") ? tolerance_f32 : tolerance_f64;
    const char *where = s->run ? "on the CPU" : "in the interpreter";
    free(expected);
    if (getenv("VERBOSE")) print_message("%s, %s, %s: %.3g\n", golden, s->golden.how, where, error);
    if (!(error <= allowed))
        fail_msg("%s, %s, %s: relative error %.3g, allowed %.3g", golden, s->golden.how, where, error,
                 allowed);
}

static void set_timestep(const struct kw__phase *phase, double timestep)
{
    double *rows = (double *)phase->table.rows; /* of the program's arena */
    for (int c = 0; c < phase->table.columns; c++)
        if (strcmp(phase->table.names[c], "timestep") == 0) {
            rows[c] = timestep;
            return;
        }
    fail_msg("the step's table has no timestep");
}

/* Elements of a value of a stage, 0: it has none of that name. */
static size_t state_elements(const struct kw__program *program, const char *stage, const char *name)
{
    size_t count = 0;
    for (int i = 0; i < program->num_stages; i++)
        for (int p = 0; strcmp(program->stages[i].name, stage) == 0 && p < program->stages[i].num_phases;
             p++) {
            const struct kw__graph *g = program->stages[i].phases[p].graph;
            for (size_t v = 1; v < g->num_values; v++)
                if (strcmp(g->values[v].name, name) == 0) count = (size_t)kw__elements(&g->values[v]);
        }
    return count;
}

void parity_denoiser(enum parity_on on, const struct parity_model *model, const char *golden,
                     struct golden_size size, const double *lengths, double timestep)
{
    size.guidance = 1;
    struct side *s = open_side(on, model, size);
    size_t batch = (size_t)s->golden.program->request.batch_size;
    write_noise(s, "text.0", "text", batch * (size_t)(size.text_tokens * model->text_dim));
    if (lengths) write_values(s, "text_length.0", lengths, batch);
    size_t pooled = state_elements(s->golden.program, "denoise", "pooled.0");
    if (pooled) write_noise(s, "pooled.0", "pooled", pooled);
    struct kw__phase *phase = golden_phase(&s->golden, "denoise", "step");
    assert_non_null(phase);
    set_timestep(phase, timestep);
    for (size_t i = 0; i < phase->graph->num_ops; i++) {
        if (phase->graph->ops[i].code != model->output) continue;
        s->kept.graph = phase->graph;
        s->kept.op = i;
    }
    run_stage(s, "denoise");
    compare(s, golden, s->kept.elements, s->kept.count);
    close_side(s);
}

/* What else a phase reads: tokens before the prompt's, and the prompt's of a second text encoder. */
static void write_other_ids(struct side *s, const char *phase, const double *tokens, int length,
                            int vocabulary)
{
    char name[64];
    double ids[256] = {0}, real = length;
    size_t before = golden_input(&s->golden, phase, "template"),
           width = golden_input(&s->golden, phase, "ids_2");
    assert_in_range(before, 0, 256);
    assert_in_range(width, 0, 256);
    for (size_t i = 0; i < before; i++) ids[i] = (double)((int)i % vocabulary);
    snprintf(name, sizeof name, "%s/template", phase);
    if (before) write_values(s, name, ids, before);
    if (!width) return;
    memset(ids, 0, sizeof ids);
    memcpy(ids, tokens, (size_t)length * sizeof *ids);
    snprintf(name, sizeof name, "%s/ids_2", phase);
    write_values(s, name, ids, width);
    snprintf(name, sizeof name, "%s/length_2", phase);
    write_values(s, name, &real, 1);
}

void parity_denoise(enum parity_on on, const struct parity_model *model, const char *golden,
                    struct golden_size size)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    struct side *s = open_side(on, model, size);
    const struct kw__program *program = s->golden.program;
    for (int i = 0; i < program->request.guidance_passes; i++) {
        char name[64];
        double ids[256], length = (double)size.prompt_tokens[i];
        size_t width = golden_tokens(&s->golden, phases[i], (int)length, 3 + i, 7, model->vocabulary, ids);
        snprintf(name, sizeof name, "%s/ids", phases[i]);
        write_values(s, name, ids, width);
        snprintf(name, sizeof name, "%s/length", phases[i]);
        write_values(s, name, &length, 1);
        write_other_ids(s, phases[i], ids, (int)length, model->vocabulary);
    }
    s->kept.latents = true;
    for (int i = 0; i < program->num_stages && strcmp(program->stages[i].name, "decode") != 0; i++)
        run_stage(s, program->stages[i].name);
    compare(s, golden, s->kept.elements, s->kept.count);
    close_side(s);
}

/* A state of the case, of `count` elements; the caller frees it. */
static double *read_state(struct side *s, const char *name, size_t count)
{
    double *out = calloc(count, sizeof *out);
    assert_non_null(out);
    if (!s->run) {
        struct interp_array x = interp_get(s->it, name);
        assert_non_null(x.data);
        assert_int_equal(x.count, count);
        memcpy(out, x.data, count * sizeof *out);
        return out;
    }
    kw_error err;
    float *x = calloc(count, sizeof *x);
    assert_non_null(x);
    if (kw__exec_read(s->run, name, x, count, &err)) fail_msg("%s: %s", name, err.message);
    for (size_t i = 0; i < count; i++) out[i] = x[i];
    free(x);
    return out;
}

void parity_stage(enum parity_on on, const struct parity_model *model, const char *golden,
                  struct golden_size size, const char *stage, const char *out)
{
    if (!size.text_tokens) size.text_tokens = 1;
    struct side *s = open_side(on, model, size);
    size_t count = state_elements(s->golden.program, stage, out);
    run_stage(s, stage);
    double *got = read_state(s, out, count);
    compare(s, golden, got, count);
    free(got);
    close_side(s);
}

void parity_decode(enum parity_on on, const struct parity_model *model, const char *golden,
                   struct golden_size size, int64_t frames, bool ends)
{
    if (!size.text_tokens) size.text_tokens = 1;
    struct side *s = open_side(on, model, size);
    const kw_effective *r = &s->golden.program->request;
    size_t frame = (size_t)(r->batch_size * r->height * r->width * 3), count = frame * (size_t)frames;
    run_stage(s, "decode");
    double *got = read_state(s, "frames", count);
    if (ends) {
        memmove(got + frame, got + count - frame, frame * sizeof *got);
        count = 2 * frame;
    }
    if (size.every) {
        count = (count + size.every - 1) / size.every;
        for (size_t i = 0; i < count; i++) got[i] = got[i * size.every];
    }
    compare(s, golden, got, count);
    free(got);
    close_side(s);
}
