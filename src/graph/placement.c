#include "graph/placement.h"

#include <string.h>

static int component_of(struct kw__placement *p, const char *name)
{
    for (int i = 0; i < p->count; i++)
        if (p->components[i].name == name) return i; /* mostly the very constant */
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->components[i].name, name) == 0) return i;
    if (p->count == KW__MAX_PLACED) return -1;
    p->components[p->count].name = name;
    return p->count++;
}

/* A weight that no phase before has; its tensors count with it. */
static bool count_weight(struct kw__placement *p, const struct kw__program *program,
                         const struct kw__value *value, const struct kw__keeping *keeping, int stage,
                         bool used, bool *counted)
{
    int c = component_of(p, program->tensors[value->tensor[0]].component);
    if (c < 0) return false;
    if (used) p->components[c].used[stage] = true;
    if (counted[value->tensor[0]]) return true;
    for (int i = 0; i < value->num_tensors; i++) counted[value->tensor[i]] = true;
    enum kw__dtype dtype = keeping->own_dtype ? keeping->dtype : value->dtype;
    p->components[c].bytes += (double)kw__elements(value) * kw__dtype_bytes(dtype);
    return true;
}

bool kw__placement_make(struct kw__program *program, const struct kw__stack *stack, struct kw__placement *out)
{
    const struct kw__keeping *keeping = kw__stack_keeping(stack, program->pipeline);
    bool *counted = kw__arena_alloc(&program->arena, program->num_tensors + 1, sizeof *counted);
    *out = (struct kw__placement){.offload = keeping->offload};
    bool good = counted != NULL;
    for (int s = 0; good && s < program->num_stages; s++)
        for (int p = 0; good && p < program->stages[s].num_phases; p++) {
            const struct kw__phase *phase = &program->stages[s].phases[p];
            for (size_t v = 1; good && v < phase->graph->num_values; v++) {
                const struct kw__value *value = &phase->graph->values[v];
                if (value->kind == KW__WEIGHT)
                    good = count_weight(out, program, value, keeping, s, phase->calls > 0, counted);
            }
        }
    return good;
}

double kw__placement_bytes(const struct kw__placement *p, int stage)
{
    double bytes = 0;
    for (int i = 0; i < p->count; i++)
        if (!p->offload || p->components[i].used[stage]) bytes += p->components[i].bytes;
    return bytes;
}

/* Whether a component is on the device when `stage` has begun: it is used there, or nothing else was since it
 * came. */
static bool resides(const struct kw__placement *p, int component, int stage)
{
    for (int s = stage; s >= 0; s--) {
        if (p->components[component].used[s]) return true;
        for (int i = 0; i < p->count; i++)
            if (p->components[i].used[s]) return false;
    }
    return false;
}

int kw__placement_moves(const struct kw__placement *p, int stage, int num_stages,
                        struct kw__move moves[KW__MAX_MOVES])
{
    int count = 0;
    for (int i = 0; p->offload && i < p->count; i++) {
        bool before = resides(p, i, stage - 1), now = stage < num_stages && resides(p, i, stage);
        if (before != now)
            moves[count++] = (struct kw__move){p->components[i].name, p->components[i].bytes, before};
    }
    return count;
}
