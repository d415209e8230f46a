/* Operators that join, cut and rearrange arrays that lie as cpu.h says: all of them move runs of
 * elements. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/vec.h"

struct blocks {
    const struct kw__cpu_step *step;
    int64_t from[3];           /* TAKE_BLOCK, PUT_BLOCK: where the block begins in this iteration */
    int64_t total, run, start; /* CONCAT, SLICE: elements of y, of x behind the axis; where x begins. REPEAT:
                                * run, of what is repeated */
    int which;                 /* CONCAT: the input under way */
};

static void put(const struct kw__cpu_step *s, int input, int64_t x_at, int64_t y_at, int64_t n)
{
    kw__cpu_move(s->in_type[input], s->x[input], x_at, s->out_type[0], s->y[0], y_at, n);
}

/* ---- One axis ------------------------------------------------------------------------------------ */

/* Elements of one index of the axes before `axis`, as they lie: [B,T,H,W,C] when channels are last. */
static int64_t behind(const struct kw__value *v, bool channels_last, int axis)
{
    static const int order[5] = {0, 2, 3, 4, 1};
    int64_t n = 1;
    int at = axis;
    if (channels_last)
        for (at = 0; order[at] != axis;) at++;
    for (int i = at; i < v->ndim; i++) n *= v->dim[channels_last ? order[i] : i];
    return n;
}

static void concat_runs(void *argument, int64_t from, int64_t to)
{
    const struct blocks *j = argument;
    for (int64_t i = from; i < to; i++) put(j->step, j->which, i * j->run, i * j->total + j->start, j->run);
}

static void slice_runs(void *argument, int64_t from, int64_t to)
{
    const struct blocks *j = argument;
    for (int64_t i = from; i < to; i++) put(j->step, 0, i * j->total + j->start, i * j->run, j->run);
}

static void run_axis(struct kw__cpu_plan *plan, struct blocks *j)
{
    const struct kw__cpu_step *s = j->step;
    const struct kw__op *op = s->op;
    bool last = kw__cpu_channels_last(plan->graph, op->output[0]);
    bool slice = op->code == KW__SLICE;
    const struct kw__value *whole = slice ? s->in[0] : s->out[0];
    j->total = behind(whole, last, s->a->axis);
    int64_t runs = kw__elements(whole) / j->total;
    j->start = slice ? j->total / whole->dim[s->a->axis] * s->a->start : 0;
    for (int i = 0; i < (slice ? 1 : op->num_inputs); i++) {
        j->which = i;
        j->run = behind(slice ? s->out[0] : s->in[i], last, s->a->axis);
        kw__cpu_parallel(plan->device, runs, 1 + 16384 / j->run, slice ? slice_runs : concat_runs, j);
        j->start += j->run;
    }
}

static void repeat_runs(void *argument, int64_t from, int64_t to)
{
    const struct blocks *j = argument;
    for (int64_t i = from; i < to; i++) put(j->step, 0, i / j->step->a->width * j->run, i * j->run, j->run);
}

static void run_repeat(struct kw__cpu_plan *plan, struct blocks *j)
{
    const struct kw__cpu_step *s = j->step;
    bool last = kw__cpu_channels_last(plan->graph, s->op->output[0]);
    j->run = s->a->heads ? kw__last_dim(s->in[0]) / s->a->heads
                         : behind(s->in[0], last, s->a->axis) / s->in[0]->dim[s->a->axis];
    kw__cpu_parallel(plan->device, kw__elements(s->out[0]) / j->run, 1 + 16384 / j->run, repeat_runs, j);
}

/* ---- Images ---------------------------------------------------------------------------------------- */

/* A row is one pixel's channels; tracks are [B,H*W,T,C], images [B,T,H*W,C]. */
static void track_rows(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct blocks *)argument)->step;
    bool join = s->op->code == KW__JOIN_TRACKS;
    const int64_t *d = join ? s->out[0]->dim : s->in[0]->dim;
    int64_t pixels = d[3] * d[4], c = d[1];
    for (int64_t row = from; row < to; row++) { /* of the image */
        int64_t b = row / pixels / d[2], t = row / pixels % d[2], p = row % pixels;
        int64_t track = (b * pixels + p) * d[2] + t;
        put(s, 0, (join ? track : row) * c, (join ? row : track) * c, c);
    }
}

/* A row is one row of pixels of y. */
static void resize_lines(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct blocks *)argument)->step;
    const int64_t *x = s->in[0]->dim, *y = s->out[0]->dim;
    int64_t c = x[1], alone = s->a->first_alone;
    for (int64_t line = from; line < to; line++) {
        int64_t b = line / y[3] / y[2], t = line / y[3] % y[2], h = line % y[3] * x[3] / y[3];
        if (t >= alone) t = alone + (t - alone) * (x[2] - alone) / (y[2] - alone);
        int64_t source = ((b * x[2] + t) * x[3] + h) * x[4];
        for (int64_t w = 0; w < y[4]; w++)
            put(s, 0, (source + w * x[4] / y[4]) * c, (line * y[4] + w) * c, c);
    }
}

/* A row is one pixel of x: its channels go to p q r pixels of y, one of each run of p q r. */
static void depth_pixels(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct blocks *)argument)->step;
    const int64_t *x = s->in[0]->dim, *patch = s->a->patch, *y = s->out[0]->dim;
    int64_t places = patch[0] * patch[1] * patch[2], c = y[1];
    float in, out;
    for (int64_t pixel = from; pixel < to; pixel++) {
        int64_t w = pixel % x[4], h = pixel / x[4] % x[3], t = pixel / x[4] / x[3] % x[2];
        int64_t b = pixel / x[4] / x[3] / x[2];
        for (int64_t place = 0; place < places; place++) {
            int64_t i = place / (patch[1] * patch[2]), rest = place % (patch[1] * patch[2]);
            int64_t row = s->a->transposed ? rest % patch[1] : rest / patch[2];
            int64_t column = s->a->transposed ? rest / patch[1] : rest % patch[2];
            int64_t at =
                ((b * y[2] + t * patch[0] + i) * y[3] + h * patch[1] + row) * y[4] + w * patch[2] + column;
            for (int64_t k = 0; k < c; k++) {
                float value = *kw__load(s->in_type[0], s->x[0], (pixel * c + k) * places + place, 1, &in);
                *kw__target(s->out_type[0], s->y[0], at * c + k, &out) = value;
                kw__store(s->out_type[0], s->y[0], at * c + k, 1, &value);
            }
        }
    }
}

/* ---- Tiles ------------------------------------------------------------------------------------------ */

/* A row is one row of pixels of the block. */
static void block_lines(void *argument, int64_t from, int64_t to)
{
    const struct blocks *j = argument;
    const struct kw__cpu_step *s = j->step;
    bool take = s->op->code == KW__TAKE_BLOCK;
    const int64_t *whole = s->in[0]->dim, *block = take ? s->out[0]->dim : s->in[1]->dim;
    int64_t n = block[4] * block[1];
    for (int64_t line = from; line < to; line++) {
        int64_t b = line / block[3] / block[2], t = line / block[3] % block[2], h = line % block[3];
        int64_t at = ((b * whole[2] + j->from[0] + t) * whole[3] + j->from[1] + h) * whole[4] + j->from[2];
        if (take)
            put(s, 0, at * whole[1], line * n, n);
        else
            put(s, 1, line * n, at * whole[1], n);
    }
}

static void run_block(struct kw__cpu_plan *plan, struct blocks *j)
{
    const struct kw__cpu_step *s = j->step;
    const struct kw__iterations *table = &plan->plan.phase->table;
    const struct kw__value *block = s->op->code == KW__TAKE_BLOCK ? s->out[0] : s->in[1];
    for (int i = 0; i < 3; i++)
        j->from[i] = (int64_t)table->rows[plan->iteration * table->columns + s->a->column + i];
    if (s->op->code == KW__PUT_BLOCK)
        kw__cpu_copy(plan->device, s->in_type[0], s->x[0], s->out_type[0], s->y[0], kw__elements(s->in[0]));
    kw__cpu_parallel(plan->device, block->dim[0] * block->dim[2] * block->dim[3], 4, block_lines, j);
}

/* How far a tile reaches along an axis: rows, columns, or the frames after the first. */
static int64_t reach(const struct kw__cpu_step *s, int axis, int64_t tile)
{
    int64_t all = axis < 2 ? s->out[0]->dim[3 + axis] : s->out[0]->dim[2] - 1;
    int64_t left = all - tile * s->a->tile_step[axis];
    return left < s->a->tile[axis] ? left : s->a->tile[axis];
}

/* How many rows, columns or frames of tile i are blended with those of the one before. */
static int64_t overlap(const struct kw__cpu_step *s, int axis, int64_t i)
{
    if (i == 0) return 0;
    int64_t n = s->a->blend[axis], here = reach(s, axis, i), before = reach(s, axis, i - 1);
    n = n < here ? n : here;
    return n < before ? n : before;
}

/* Channel `c` of a pixel (h,w) of the tile (i,j) of an image, blended with the tiles above it (first), and
 * on its left: those are blended themselves. */
static float blended(const struct kw__cpu_step *s, int64_t image, int64_t c, const int64_t tile[2], int64_t h,
                     int64_t w, bool columns)
{
    int64_t rows = overlap(s, 0, tile[0]), across = overlap(s, 1, tile[1]);
    if (columns && w < across) {
        const int64_t left[2] = {tile[0], tile[1] - 1};
        float part = (float)w / (float)across;
        float a = blended(s, image, c, left, h, reach(s, 1, left[1]) - across + w, true);
        return a * (1 - part) + blended(s, image, c, tile, h, w, false) * part;
    }
    float buffer;
    const int64_t *d = s->in[0]->dim;
    int64_t at = (image * d[3] + tile[0] * s->a->tile[0] + h) * d[4] + tile[1] * s->a->tile[1] + w;
    float own = *kw__load(s->in_type[0], s->x[0], at * d[1] + c, 1, &buffer);
    if (h >= rows) return own;
    const int64_t above[2] = {tile[0] - 1, tile[1]};
    float part = (float)h / (float)rows;
    float a = blended(s, image, c, above, reach(s, 0, above[0]) - rows + h, w, true);
    return a * (1 - part) + own * part;
}

/* The same of frame `t` of the k-th tile in time, blended with the tile before it. */
static float blended_in_time(const struct kw__cpu_step *s, int64_t b, int64_t k, int64_t t, int64_t c,
                             int64_t h, int64_t w)
{
    const int64_t *step = s->a->tile_step, tile[2] = {h / step[0], w / step[1]};
    int64_t image = b * s->in[0]->dim[2] + 1 + k * s->a->tile[2] + t, n = overlap(s, 2, k);
    float own = blended(s, image, c, tile, h % step[0], w % step[1], true);
    if (t >= n) return own;
    float part = (float)t / (float)n;
    return blended_in_time(s, b, k - 1, reach(s, 2, k - 1) - n + t, c, h, w) * (1 - part) + own * part;
}

/* A row is one row of pixels of y. */
static void blend_lines(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct blocks *)argument)->step;
    const int64_t *y = s->out[0]->dim, *step = s->a->tile_step;
    float out;
    for (int64_t line = from; line < to; line++) {
        int64_t b = line / y[3] / y[2], t = line / y[3] % y[2], h = line % y[3];
        for (int64_t w = 0; w < y[4]; w++)
            for (int64_t c = 0; c < y[1]; c++) {
                const int64_t tile[2] = {h / step[0], w / step[1]};
                float value =
                    s->a->tile[2] && t > 0
                        ? blended_in_time(s, b, (t - 1) / step[2], (t - 1) % step[2], c, h, w)
                        : blended(s, b * s->in[0]->dim[2] + t, c, tile, h % step[0], w % step[1], true);
                int64_t at = (line * y[4] + w) * y[1] + c;
                *kw__target(s->out_type[0], s->y[0], at, &out) = value;
                kw__store(s->out_type[0], s->y[0], at, 1, &value);
            }
    }
}

/* ---- Compiling --------------------------------------------------------------------------------------- */

static void run_blocks(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct blocks *j = step->kernel;
    const struct kw__device *device = plan->device;
    const int64_t *y = step->out[0]->dim, *x = step->in[0]->dim;
    switch (step->op->code) {
    case KW__CONCAT:
    case KW__SLICE: run_axis(plan, j); break;
    case KW__REPEAT: run_repeat(plan, j); break;
    case KW__TO_TRACKS: kw__cpu_parallel(device, x[0] * x[2] * x[3] * x[4], 64, track_rows, j); break;
    case KW__JOIN_TRACKS: kw__cpu_parallel(device, y[0] * y[2] * y[3] * y[4], 64, track_rows, j); break;
    case KW__RESIZE: kw__cpu_parallel(device, y[0] * y[2] * y[3], 4, resize_lines, j); break;
    case KW__DEPTH_TO_SPACE: kw__cpu_parallel(device, x[0] * x[2] * x[3] * x[4], 64, depth_pixels, j); break;
    case KW__BLEND_TILES: kw__cpu_parallel(device, y[0] * y[2] * y[3], 4, blend_lines, j); break;
    default: run_block(plan, j);
    }
}

kw_status kw__cpu_compile_blocks(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct blocks *j = kw__arena_alloc(&plan->arena, 1, sizeof *j);
    if (!j) return kw__fail_memory(err);
    j->step = step;
    step->kernel = j;
    step->run = run_blocks;
    if (step->op->code == KW__PUT_BLOCK && step->in_type[0] == step->out_type[0])
        plan->overwrite[step->op->output[0]] = 1u;
    return KW_OK;
}
