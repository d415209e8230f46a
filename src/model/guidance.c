/* Prompts and classifier-free guidance (Ho and Salimans, arXiv 2207.12598): the text encoder runs once for
 * each prompt, the denoiser once for each at every step, one after the other or both in one batch. */
#include <string.h>

#include "model/family.h"

/* ---- Text ------------------------------------------------------------------------------------ */

void kw__text_stage(struct kw__program *program, const char *name, kw__encode *encode, const void *self)
{
    const kw_effective *r = &program->request;
    static const char *const phases[] = {"prompt", "negative_prompt"};
    struct kw__stage *stage = kw__program_stage(program, name);
    for (int pass = 0; pass < r->guidance_passes; pass++) {
        struct kw__graph *g = kw__stage_phase(program, stage, phases[pass], 1);
        if (!g) return;
        g->component = g->tensors = "text_encoder";
        int ids = kw__input(g, "ids", KW__I32, KW__PROMPT, KW__DIMS(r->batch_size, r->text_tokens));
        int length = kw__input(g, "length", KW__I32, KW__PROMPT, KW__DIMS(r->batch_size));
        encode(self, g, pass, ids, length);
    }
}

int kw__text_state(struct kw__graph *g, const char *name, int pass, enum kw__dtype dtype, int ndim,
                   const int64_t *dim)
{
    const char *full = kw__arena_printf(&g->program->arena, "%s.%d", name, pass);
    return full ? kw__state(g, full, dtype, KW__PROMPT, ndim, dim) : 0;
}

/* ---- Guidance ---------------------------------------------------------------------------------- */

static int both(struct kw__graph *g, int first, int second)
{
    struct kw__attr batch = {.axis = 0};
    return first ? KW__OP(g, KW__CONCAT, &batch, g->values[first].dtype, first, second) : 0;
}

static int half(struct kw__graph *g, int value, int which)
{
    if (!value) return 0;
    int64_t rows = g->values[value].dim[0] / 2;
    struct kw__attr batch = {.axis = 0, .start = which * rows, .width = rows};
    return KW__OP(g, KW__SLICE, &batch, g->values[value].dtype, value);
}

static void one_batch(struct kw__graph *g, const struct kw__guidance *how, int x, int timestep,
                      int texts[2][KW__MAX_TEXTS], int output[2])
{
    int joint[KW__MAX_TEXTS] = {0};
    for (int i = 0; i < how->num_texts; i++) joint[i] = both(g, texts[1][i], texts[0][i]);
    int y = how->forward(how->self, g, both(g, x, x), both(g, timestep, timestep), joint);
    output[0] = half(g, y, 1);
    output[1] = half(g, y, 0);
}

int kw__guide(struct kw__graph *g, const struct kw__guidance *how, int x, int timestep)
{
    const struct kw__program *program = g->program;
    int passes = (int)program->request.guidance_passes, texts[2][KW__MAX_TEXTS], output[2] = {0, 0};
    for (int pass = 0; pass < passes; pass++)
        for (int i = 0; i < how->num_texts; i++) {
            const struct kw__text *t = &how->texts[i];
            texts[pass][i] = kw__text_state(g, t->name, pass, t->dtype, t->ndim, t->dim);
        }
    g->component = "guidance";
    if (passes == 2 && kw__choose(program->dtypes.batched_guidance, how->batched))
        one_batch(g, how, x, timestep, texts, output);
    else
        for (int pass = 0; pass < passes; pass++)
            output[pass] = how->forward(how->self, g, x, timestep, texts[pass]);
    g->component = "solver";
    struct kw__attr weights = {.column = how->column};
    return passes == 2 ? kw__op(g, KW__LINCOMB, &weights, how->dtype, 2, output) : output[0];
}

struct kw__iterations kw__guided_flow(struct kw__program *program, const double *sigma, double num_train,
                                      bool inverted, int64_t steps)
{
    enum { COLUMNS = KW__FLOW_GUIDANCE + 2 };
    static const char *const names[COLUMNS] = {"timestep", "sigma",      "scale",       "step_x",
                                               "step_v",   "guide_cond", "guide_uncond"};
    double *rows = kw__arena_alloc(&program->arena, (size_t)steps * COLUMNS, sizeof *rows);
    if (!sigma || !rows) return (struct kw__iterations){0, NULL, NULL};
    kw__flow_euler_table(sigma, num_train, inverted, steps, COLUMNS, rows);
    for (int64_t i = 0; i < steps; i++)
        kw__guidance_weights(&program->request, rows + i * COLUMNS + KW__FLOW_GUIDANCE);
    return (struct kw__iterations){COLUMNS, names, rows};
}

double *kw__shifted_linear_quadratic(struct kw__program *program, int64_t steps, double threshold)
{
    double *sigma = kw__arena_alloc(&program->arena, (size_t)steps + 1, sizeof *sigma);
    double shift = program->request.flow_shift;
    if (!sigma) return NULL;
    kw__linear_quadratic(steps, threshold, sigma);
    for (int64_t i = 0; i < steps; i++) sigma[i] = shift * sigma[i] / (1 + (shift - 1) * sigma[i]);
    return sigma;
}

void kw__guidance_weights(const kw_effective *request, double *columns)
{
    columns[0] = request->guidance_scale;
    columns[1] = 1.0 - request->guidance_scale;
}
