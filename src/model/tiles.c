/* Decoding in tiles: the latent video is cut to tiles that overlap, each is decoded on its own, chunk of
 * frames by chunk, and they are blended where they overlap, as diffusers' VAEs do with enable_tiling.
 *
 * A graph is made for each shape of a tile (those at the right and lower edge are smaller) and each variant
 * of a chunk (the first has no history); the stage's turns are tile by tile, chunk by chunk. The decoded
 * tiles, and chunks that overlap, lie side by side in the state "tiles" until the last phase blends them. One
 * tile is the whole clip.
 */
#include <inttypes.h>

#include "model/family.h"

int64_t kw__tile_count(const struct kw__tiling *t, int axis)
{
    return (t->latent[axis] + t->step[axis] - 1) / t->step[axis];
}

static int64_t size_of(const struct kw__tiling *t, int axis, int64_t i)
{
    int64_t left = t->latent[axis] - i * t->step[axis];
    return left < t->tile[axis] ? left : t->tile[axis];
}

double kw__tile_work(const struct kw__tiling *t)
{
    double work = 1;
    for (int axis = 0; axis < 2; axis++) {
        int64_t cells = 0;
        for (int64_t i = 0; i < kw__tile_count(t, axis); i++) cells += size_of(t, axis, i);
        work *= (double)cells / (double)t->latent[axis];
    }
    return work;
}

/* ---- The tiles' values --------------------------------------------------------------------------- */

static bool is_whole(const struct kw__tiling *t)
{
    return kw__tile_count(t, 0) == 1 && kw__tile_count(t, 1) == 1;
}

/* All tiles but the last of an axis have room for a full one. */
static int tiles_state(struct kw__graph *g, const struct kw__tiling *t)
{
    int64_t side[2];
    for (int axis = 0; axis < 2; axis++) {
        int64_t last = kw__tile_count(t, axis) - 1;
        side[axis] = (last * t->tile[axis] + size_of(t, axis, last)) * t->scale;
    }
    return kw__state(
        g, "tiles", g->program->dtypes.vae, KW__STEP,
        KW__DIMS(g->program->request.batch_size, t->out_channels, t->out_frames, side[0], side[1]));
}

int kw__tiles_joined(struct kw__graph *g, const struct kw__tiling *t)
{
    int tiles = tiles_state(g, t);
    if (is_whole(t) && !t->time_tile) return tiles;
    struct kw__attr attr = {
        .grid = {g->program->request.num_frames, t->latent[0] * t->scale, t->latent[1] * t->scale},
        .tile = {0, 0, t->time_tile},
        .tile_step = {0, 0, t->time_step},
        .blend = {0, 0, t->time_blend}};
    for (int axis = 0; axis < 2; axis++) {
        attr.tile[axis] = t->tile[axis] * t->scale;
        attr.tile_step[axis] = t->step[axis] * t->scale;
        attr.blend[axis] = t->blend[axis];
    }
    return KW__OP(g, KW__BLEND_TILES, &attr, g->program->dtypes.vae, tiles);
}

/* ---- The schedule ---------------------------------------------------------------------------------- */

enum { COLUMNS = 6, MOST_SHAPES = 9 }; /* along an axis: full, cut by the edge, and the last */

struct schedule {
    struct kw__program *program;
    struct kw__stage *stage;
    const struct kw__tiling *t;
    int first_phase, num_shapes, phase[MOST_SHAPES][KW__MAX_VARIANTS]; /* phase + 1; 0: none yet */
    int64_t shape[MOST_SHAPES][2];
    struct kw__turn *turns;
    size_t num_turns;
};

static int shape_of(struct schedule *s, int64_t height, int64_t width)
{
    int i = 0;
    while (i < s->num_shapes && (s->shape[i][0] != height || s->shape[i][1] != width)) i++;
    if (i == s->num_shapes) {
        s->shape[i][0] = height;
        s->shape[i][1] = width;
        s->num_shapes++;
    }
    return i;
}

/* The phase of a shape and variant; its graph is made with it. NULL without memory. */
static struct kw__phase *phase_of(struct schedule *s, int shape, const struct kw__chunk *chunk, int64_t most)
{
    static const char *const names[COLUMNS] = {"latent_frame", "latent_row", "latent_column",
                                               "frame",        "tile_row",   "tile_column"};
    int *known = &s->phase[shape][chunk->variant];
    if (*known) return &s->stage->phases[*known - 1];
    const struct kw__tiling *t = s->t;
    const int64_t *size = s->shape[shape];
    struct kw__arena *arena = &s->program->arena;
    const char *label = kw__arena_printf(arena, "%" PRId64 "x%" PRId64, size[0], size[1]);
    const char *name = kw__arena_printf(arena, "tile %s %s", label ? label : "", chunk->name);
    double *rows = kw__arena_alloc(arena, (size_t)most * COLUMNS, sizeof *rows);
    struct kw__graph *g = name && rows ? kw__stage_phase(s->program, s->stage, name, 0) : NULL;
    if (!g) return NULL;
    *known = s->stage->num_phases;
    struct kw__phase *phase = &s->stage->phases[*known - 1];
    phase->table = (struct kw__iterations){COLUMNS, names, rows};
    g->component = "vae_decoder";
    g->tensors = "vae";
    const kw_effective *r = &s->program->request;
    enum kw__dtype dtype = s->program->dtypes.vae;
    struct kw__attr take = {.column = 0, .grid = {chunk->frames, size[0], size[1]}}, put = {.column = 3};
    int z = kw__state(g, "z", dtype, KW__REQUEST,
                      KW__DIMS(r->batch_size, t->z_channels, t->z_frames, t->latent[0], t->latent[1]));
    int x = t->decode(t->self, g, KW__OP(g, KW__TAKE_BLOCK, &take, dtype, z), chunk->variant, label);
    int tiles = tiles_state(g, t);
    kw__state_next(g, tiles, KW__OP(g, KW__PUT_BLOCK, &put, dtype, tiles, x));
    return phase;
}

static void add_call(struct schedule *s, struct kw__phase *phase, const double row[COLUMNS])
{
    double *to = (double *)phase->table.rows + phase->calls * COLUMNS;
    for (int i = 0; i < COLUMNS; i++) to[i] = row[i];
    phase->calls++;
    int which = (int)(phase - s->stage->phases);
    if (s->num_turns && s->turns[s->num_turns - 1].phase == which)
        s->turns[s->num_turns - 1].calls++;
    else
        s->turns[s->num_turns++] = (struct kw__turn){which, 1};
}

void kw__tiles_lower(struct kw__program *program, struct kw__stage *stage, const struct kw__tiling *t,
                     int64_t num_chunks, const struct kw__chunk *chunks)
{
    int64_t rows = kw__tile_count(t, 0), columns = kw__tile_count(t, 1), most = rows * columns * num_chunks;
    struct schedule s = {.program = program, .stage = stage, .t = t, .first_phase = stage->num_phases};
    s.turns = kw__arena_alloc(&program->arena, (size_t)(most + KW__MAX_PHASES), sizeof *s.turns);
    if (!s.turns) return;
    for (int p = 0; p < s.first_phase; p++)
        s.turns[s.num_turns++] = (struct kw__turn){p, stage->phases[p].calls};
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t k = 0; k < num_chunks; k++) {
                const struct kw__chunk *c = &chunks[k];
                int shape = shape_of(&s, size_of(t, 0, i), size_of(t, 1, j));
                struct kw__phase *phase = phase_of(&s, shape, c, most);
                if (!phase) return;
                const double row[COLUMNS] = {(double)c->from,
                                             (double)(i * t->step[0]),
                                             (double)(j * t->step[1]),
                                             (double)c->out,
                                             (double)(i * t->tile[0] * t->scale),
                                             (double)(j * t->tile[1] * t->scale)};
                add_call(&s, phase, row);
            }
    stage->turns = s.turns;
    stage->num_turns = s.num_turns;
}

struct kw__graph *kw__tiles_output(struct kw__program *program, struct kw__stage *stage)
{
    struct kw__graph *g = kw__stage_phase(program, stage, "output", 1);
    if (!g) return NULL;
    g->component = "output";
    g->tensors = "vae";
    if (stage->num_turns) /* there is room for it */
        ((struct kw__turn *)stage->turns)[stage->num_turns++] = (struct kw__turn){stage->num_phases - 1, 1};
    return g;
}

void kw__hand_over_frames(struct kw__graph *g, int x)
{
    if (!x) return; /* there was no memory */
    const kw_effective *r = &g->program->request;
    struct kw__attr range = {.low = -1.0, .high = 1.0};
    enum kw__dtype dtype = g->values[x].dtype;
    x = KW__OP(g, KW__CLAMP, &range, dtype, x);
    x = KW__OP(g, KW__TO_HOST, NULL, dtype, x);
    x = KW__OP(g, KW__HOST_FRAMES, NULL, KW__F32, x);
    int frames = kw__state(g, "frames", KW__F32, KW__REQUEST,
                           KW__DIMS(r->batch_size, r->num_frames, r->height, r->width, 3));
    kw__state_next(g, frames, x);
}
