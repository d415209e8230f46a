/* The prompt is padded to text_tokens rows (512 for WAN). The text encoder masks the padding, and what
 * leaves it is zero there, so every padded row of the denoiser's text is the same row. */
#include <string.h>

#include "graph/rewrite.h"

static struct kw__stage *find_stage(struct kw__program *program, const char *name)
{
    for (int s = 0; s < program->num_stages; s++)
        if (strcmp(program->stages[s].name, name) == 0) return &program->stages[s];
    return NULL;
}

/* Tokens of the prompt that a phase of text_encode encodes, 0 when it encodes none. */
static int64_t real_tokens(const struct kw__program *program, const struct kw__phase *phase)
{
    if (strcmp(phase->name, "prompt") == 0) return program->request.prompt_tokens;
    if (strcmp(phase->name, "negative_prompt") == 0) return program->request.negative_tokens;
    return 0;
}

/* ---- real_text_tokens ------------------------------------------------------------------------ */

/* Whether no row depends on a row at or after the length: every attention masks its keys, and what
 * leaves the graph is cut and padded again. */
static bool masks_padding(const struct kw__graph *g)
{
    for (size_t i = 0; i < g->num_ops; i++)
        if (g->ops[i].code == KW__ATTENTION && !kw__operand(&g->ops[i], 4)) return false;
    for (size_t v = 1; v < g->num_values; v++) {
        int next = g->values[v].next;
        if (next && (g->values[next].producer < 0 || g->ops[g->values[next].producer].code != KW__PAD_ROWS))
            return false;
    }
    return true;
}

void kw__rewrite_real_text_tokens(struct kw__program *program)
{
    struct kw__stage *stage = find_stage(program, "text_encode");
    for (int p = 0; stage && p < stage->num_phases; p++) {
        struct kw__graph *g = stage->phases[p].graph;
        int64_t n = real_tokens(program, &stage->phases[p]), padded = program->request.text_tokens;
        if (n < 1 || n >= padded || !masks_padding(g)) continue;
        for (size_t v = 1; v < g->num_values; v++) {
            struct kw__value *ids = &g->values[v];
            if (ids->kind == KW__INPUT && ids->ndim == 2 && ids->dim[1] == padded) ids->dim[1] = n;
        }
        for (size_t i = 0; i < g->num_ops; i++)
            if (g->ops[i].code == KW__RELATIVE_BIAS) g->ops[i].attr.width = n;
        kw__graph_infer(g);
    }
}

/* ---- one_pad_key ------------------------------------------------------------------------------ */

/* Follows one prompt's text from the states that hold it to the attentions whose keys and values come
 * from it and from weights alone. First only to see that nothing else reads its rows, then to change
 * the shapes. */
struct walk {
    struct kw__program *program;
    int64_t rows, multiplicity; /* real rows + 1; what the last one counts */
    const char **states;        /* those that hold text so far */
    size_t num_states, capacity;
    int attentions;
    bool possible, apply;
};

static bool holds_text(const struct walk *w, const char *state)
{
    for (size_t i = 0; i < w->num_states; i++)
        if (strcmp(w->states[i], state) == 0) return true;
    return false;
}

static void add_state(struct walk *w, const char *state)
{
    const char **states =
        kw__arena_grow(&w->program->arena, w->states, w->num_states, &w->capacity, sizeof *states);
    if (!states) return;
    w->states = states;
    w->states[w->num_states++] = state;
}

/* Whether equal rows of the text give equal rows of the result. */
static bool row_by_row(const struct kw__op *op, const bool *text)
{
    switch (op->code) {
    case KW__LINEAR: return text[op->input[0]] && !kw__operand(op, 3) && !kw__operand(op, 4);
    case KW__LAYERNORM:
    case KW__RMSNORM:
    case KW__SILU:
    case KW__GELU:
    case KW__TANH:
    case KW__GLU:
    case KW__CAST: return true;
    case KW__ADD:
    case KW__MUL:
    case KW__GELU_MUL: return text[op->input[0]] && text[op->input[1]];
    default: return false;
    }
}

static void walk_op(struct walk *w, struct kw__op *op, bool *text)
{
    bool reads = false;
    for (int k = 0; k < op->num_inputs; k++) reads |= op->input[k] && text[op->input[k]];
    if (!reads) return;
    if (op->code == KW__ATTENTION) {
        w->possible &= !text[op->input[0]] && text[op->input[1]] && text[op->input[2]] &&
                       !kw__operand(op, 3) && !kw__operand(op, 4) && op->attr.multiplicity <= 1;
        w->attentions++;
        if (w->apply) op->attr.multiplicity = w->multiplicity;
        return; /* its rows are the query's */
    }
    w->possible &= row_by_row(op, text);
    for (int k = 0; k < op->num_outputs; k++) text[op->output[k]] = true;
}

static void walk_graph(struct walk *w, struct kw__graph *g)
{
    bool *text = kw__arena_alloc(&w->program->arena, g->num_values, sizeof *text);
    if (!text) return;
    for (size_t v = 1; v < g->num_values; v++) {
        text[v] = g->values[v].kind == KW__STATE && holds_text(w, g->values[v].name);
        if (text[v] && w->apply) g->values[v].dim[1] = w->rows;
    }
    for (size_t i = 0; i < g->num_ops; i++)
        if (!g->ops[i].dead) walk_op(w, &g->ops[i], text);
    if (w->apply) kw__graph_infer(g);
    for (size_t v = 1; v < g->num_values; v++) {
        struct kw__value *state = &g->values[v];
        if (!state->next || !text[state->next]) continue;
        if (w->apply) memcpy(state->dim, g->values[state->next].dim, sizeof state->dim);
        if (!holds_text(w, state->name)) add_state(w, state->name);
    }
}

/* From the padded rows that leave the text encoder's graph `g` on. */
static void walk_from(struct walk *w, struct kw__graph *g)
{
    w->num_states = 0;
    for (size_t v = 1; v < g->num_values; v++) {
        struct kw__value *state = &g->values[v];
        struct kw__op *pad = state->next && g->values[state->next].producer >= 0
                                 ? &g->ops[g->values[state->next].producer]
                                 : NULL;
        if (!pad || pad->code != KW__PAD_ROWS || pad->attr.width < w->rows + 1) continue;
        if (w->apply) {
            pad->attr.width = state->dim[1] = w->rows;
            kw__infer(g, pad);
        }
        add_state(w, state->name);
    }
    if (!w->num_states) return;
    for (int s = 0; s < w->program->num_stages; s++) {
        struct kw__stage *stage = &w->program->stages[s];
        for (int p = 0; p < stage->num_phases; p++)
            if (strcmp(stage->name, "text_encode") != 0) walk_graph(w, stage->phases[p].graph);
    }
}

void kw__rewrite_one_pad_key(struct kw__program *program)
{
    struct kw__stage *stage = find_stage(program, "text_encode");
    int64_t padded = program->request.text_tokens;
    for (int p = 0; stage && p < stage->num_phases; p++) {
        int64_t n = real_tokens(program, &stage->phases[p]);
        if (n < 1) continue;
        struct walk w = {.program = program, .rows = n + 1, .multiplicity = padded - n, .possible = true};
        walk_from(&w, stage->phases[p].graph);
        if (!w.possible || !w.attentions || program->arena.failed) continue;
        w.apply = true;
        walk_from(&w, stage->phases[p].graph);
    }
}
