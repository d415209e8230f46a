/* Operators that move elements about, between arrays that lie as cpu.h says. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/vec.h"

struct copy {
    const struct kw__cpu_step *step;
    int64_t frame; /* of this iteration */
};

void kw__cpu_move(enum kw__dtype from, const void *x, int64_t x_at, enum kw__dtype to, void *y, int64_t y_at,
                  int64_t n)
{
    if (from == to) {
        size_t size = (size_t)kw__dtype_bytes(to);
        memmove((char *)y + (size_t)y_at * size, (const char *)x + (size_t)x_at * size, (size_t)n * size);
        return;
    }
    float buffer[KW__PIECE], out[KW__PIECE];
    for (int64_t i = 0; i < n; i += KW__PIECE) {
        int64_t m = n - i < KW__PIECE ? n - i : KW__PIECE;
        const float *piece = kw__load(from, x, x_at + i, m, buffer);
        float *target = kw__target(to, y, y_at + i, out);
        memcpy(target, piece, (size_t)m * sizeof *target);
        kw__store(to, y, y_at + i, m, target);
    }
}

/* Elements of the operator's first input to its output k. */
static void put(const struct kw__cpu_step *s, int input, int64_t x_at, int output, int64_t y_at, int64_t n)
{
    kw__cpu_move(s->in_type[input], s->x[input], x_at, s->out_type[output], s->y[output], y_at, n);
}

struct whole {
    enum kw__dtype from, to;
    const void *x;
    void *y;
};

static void copy_pieces(void *argument, int64_t from, int64_t to)
{
    const struct whole *w = argument;
    kw__cpu_move(w->from, w->x, from, w->to, w->y, from, to - from);
}

void kw__cpu_copy(const struct kw__device *device, enum kw__dtype from, const void *x, enum kw__dtype to,
                  void *y, int64_t count)
{
    if (x == y && from == to) return;
    struct whole w = {from, to, x, y};
    kw__cpu_parallel(device, count, 32768, copy_pieces, &w);
}

const float *kw__cpu_floats(struct kw__cpu_plan *plan, struct kw__cpu_step *step, int input)
{
    if (step->in_type[input] == KW__F32) return step->x[input];
    kw__cpu_copy(plan->device, step->in_type[input], step->x[input], KW__F32, step->scratch,
                 kw__elements(step->in[input]));
    return step->scratch;
}

size_t kw__cpu_floats_scratch(const struct kw__cpu_step *step, int input)
{
    return step->in_type[input] == KW__F32 ? 0 : (size_t)kw__elements(step->in[input]) * sizeof(float);
}

/* ---- Text ------------------------------------------------------------------------------------------- */

static void embedding_rows(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    int64_t vocabulary = s->in[1]->dim[0], d = s->in[1]->dim[1];
    for (int64_t row = from; row < to; row++) {
        float buffer;
        int64_t id = (int64_t)*kw__load(s->in_type[0], s->x[0], row, 1, &buffer);
        id = id < 0 ? 0 : id < vocabulary ? id : vocabulary - 1; /* the runner has checked it */
        put(s, 1, id * d, 0, row * d, d);
    }
}

/* T5's rule. Half of the buckets for each direction; of those, half for single distances, the rest grow
 * by equal factors up to the largest distance. */
static int64_t relative_bucket(int64_t offset, int64_t buckets, int64_t largest)
{
    int64_t half = buckets / 2, single = half / 2, start = offset > 0 ? half : 0;
    int64_t distance = offset < 0 ? -offset : offset;
    if (distance < single) return start + distance;
    double step = log((double)distance / (double)single) / log((double)largest / (double)single);
    int64_t bucket = single + (int64_t)(step * (double)(half - single) + 1e-9); /* exact powers count */
    return start + (bucket < half ? bucket : half - 1);
}

static void relative_bias_rows(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    int64_t heads = s->in[0]->dim[1], l = s->a->width;
    const int32_t *bucket = s->scratch;
    float row[KW__PIECE];
    for (int64_t r = from; r < to; r++) {
        int64_t h = r / l, query = r % l;
        for (int64_t i = 0; i < l; i += KW__PIECE) {
            int64_t n = l - i < KW__PIECE ? l - i : KW__PIECE;
            for (int64_t k = 0; k < n; k++)
                row[k] = ((const float *)s->x[0])[bucket[l - 1 + i + k - query] * heads + h];
            float *y = kw__target(s->out_type[0], s->y[0], r * l + i, row);
            if (y != row) memcpy(y, row, (size_t)n * sizeof *y);
            kw__store(s->out_type[0], s->y[0], r * l + i, n, y);
        }
    }
}

static void relative_bias(const struct kw__device *device, struct copy *j)
{
    const struct kw__cpu_step *s = j->step;
    int32_t *bucket = s->scratch;
    int64_t l = s->a->width;
    for (int64_t offset = 1 - l; offset < l; offset++)
        bucket[l - 1 + offset] = (int32_t)relative_bucket(offset, s->in[0]->dim[0], s->a->distance);
    kw__cpu_parallel(device, s->in[0]->dim[1] * l, 1 + 16384 / l, relative_bias_rows, j);
}

static void pad_rows(const struct kw__cpu_step *s)
{
    int64_t rows = s->in[0]->dim[1], d = s->in[0]->dim[2], width = s->a->width;
    size_t row_bytes = (size_t)d * (size_t)kw__dtype_bytes(s->out_type[0]);
    for (int64_t b = 0; b < s->in[0]->dim[0]; b++) {
        float buffer;
        int64_t length = (int64_t)*kw__load(s->in_type[1], s->x[1], b, 1, &buffer);
        if (length > rows) length = rows;
        if (length > width) length = width;
        put(s, 0, b * rows * d, 0, b * width * d, length * d);
        memset(kw__cpu_at(s->y[0], s->out_type[0], (b * width + length) * d), 0,
               (size_t)(width - length) * row_bytes);
    }
}

/* ---- Images ------------------------------------------------------------------------------------------- */

/* A row is one token: its q r C elements of each of the p frames go to r C places in q rows. */
static void unpatchify_tokens(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    const int64_t *grid = s->a->grid, *patch = s->a->patch, *d = s->out[0]->dim; /* [B,C,T,H,W] */
    int64_t tokens = grid[0] * grid[1] * grid[2], c = d[1], line = patch[2] * c;
    for (int64_t row = from; row < to; row++) {
        int64_t b = row / tokens, token = row % tokens;
        int64_t t = token / (grid[1] * grid[2]), h = token / grid[2] % grid[1], w = token % grid[2];
        for (int64_t k = 0; k < patch[0] * patch[1]; k++) {
            int64_t frame = t * patch[0] + k / patch[1], y = h * patch[1] + k % patch[1];
            put(s, 0, (row * patch[0] * patch[1] + k) * line, 0,
                (((b * d[2] + frame) * d[3] + y) * d[4] + w * patch[2]) * c, line);
        }
    }
}

static void split_pixels(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    int64_t c = s->in[0]->dim[1], part = c / s->a->parts;
    for (int64_t pixel = from; pixel < to; pixel++)
        for (int k = 0; k < s->a->parts; k++)
            if (s->y[k]) put(s, 0, pixel * c + k * part, k, pixel * part, part);
}

/* A row is one row of pixels of y. */
static void upsample_lines(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    const int64_t *d = s->in[0]->dim;
    int64_t c = d[1], h = d[3], w = d[4];
    for (int64_t line = from; line < to; line++) {
        int64_t source = line / (2 * h) * h + line % (2 * h) / 2;
        for (int64_t i = 0; i < 2 * w; i++) put(s, 0, (source * w + i / 2) * c, 0, (line * 2 * w + i) * c, c);
    }
}

/* A row is one row of pixels of x; its channels are those of two frames. */
static void interleave_lines(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    const int64_t *d = s->in[0]->dim;
    int64_t c = d[1] / 2, h = d[3], w = d[4];
    for (int64_t line = from; line < to; line++) {
        int64_t frame = line / h, y = line % h;
        for (int64_t i = 0; i < w; i++)
            for (int k = 0; k < 2; k++)
                put(s, 0, ((line * w + i) * 2 + k) * c, 0, (((2 * frame + k) * h + y) * w + i) * c, c);
    }
}

static void take_frame(const struct kw__cpu_step *s, int64_t frame)
{
    const int64_t *d = s->in[0]->dim;
    int64_t n = d[1] * d[3] * d[4];
    for (int64_t b = 0; b < d[0]; b++) put(s, 0, (b * d[2] + frame) * n, 0, b * n, n);
}

static void put_frames(const struct kw__device *device, const struct kw__cpu_step *s, int64_t frame)
{
    const int64_t *d = s->in[0]->dim;
    int64_t n = d[1] * d[3] * d[4], count = s->in[1]->dim[2];
    kw__cpu_copy(device, s->in_type[0], s->x[0], s->out_type[0], s->y[0], kw__elements(s->in[0]));
    for (int64_t b = 0; b < d[0]; b++) put(s, 1, b * count * n, 0, (b * d[2] + frame) * n, count * n);
}

/* Pieces of the frames [B,F,H,W,C], which is how x lies: -1..1 becomes 0..1. */
KW__CLONES static void host_pieces(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = ((struct copy *)argument)->step;
    float in[KW__PIECE], out[KW__PIECE];
    for (int64_t at = from; at < to; at += KW__PIECE) {
        int64_t n = to - at < KW__PIECE ? to - at : KW__PIECE;
        const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
        float *y = kw__target(s->out_type[0], s->y[0], at, out);
        KW__EACH for (int64_t i = 0; i < n; i++)
        {
            float z = x[i] * 0.5f + 0.5f;
            y[i] = z < 0 ? 0 : z > 1 ? 1 : z;
        }
        kw__store(s->out_type[0], s->y[0], at, n, y);
    }
}

/* ---- Compiling ------------------------------------------------------------------------------------- */

bool kw__cpu_is_view(const struct kw__op *op)
{
    const int64_t *patch = op->attr.patch;
    switch (op->code) {
    case KW__TO_TOKENS:
    case KW__JOIN_FRAMES:
    case KW__TO_HOST: return true;
    case KW__SPLIT_FRAMES: return op->attr.parts == 1;
    case KW__UNPATCHIFY: return patch[0] == 1 && patch[1] == 1 && patch[2] == 1;
    default: return false;
    }
}

static void run_copy(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct copy *j = step->kernel;
    const struct kw__device *device = plan->device;
    const struct kw__iterations *table = &plan->plan.phase->table;
    const int64_t *d = step->in[0]->dim;
    int64_t n = kw__elements(step->in[0]);
    switch (step->op->code) {
    case KW__EMBEDDING: kw__cpu_parallel(device, n, 8, embedding_rows, j); break;
    case KW__RELATIVE_BIAS: relative_bias(device, j); break;
    case KW__PAD_ROWS: pad_rows(step); break;
    case KW__UNPATCHIFY: kw__cpu_parallel(device, d[0] * d[1], 64, unpatchify_tokens, j); break;
    case KW__SPLIT_FRAMES: kw__cpu_parallel(device, n / d[1], 64, split_pixels, j); break;
    case KW__UPSAMPLE:
        kw__cpu_parallel(device, kw__elements(step->out[0]) / (d[1] * 2 * d[4]), 4, upsample_lines, j);
        break;
    case KW__INTERLEAVE_TIME: kw__cpu_parallel(device, n / (d[1] * d[4]), 4, interleave_lines, j); break;
    case KW__TAKE_FRAME:
        take_frame(step, (int64_t)table->rows[plan->iteration * table->columns + step->a->column]);
        break;
    case KW__PUT_FRAMES:
        put_frames(device, step, (int64_t)table->rows[plan->iteration * table->columns + step->a->column]);
        break;
    case KW__HOST_FRAMES: kw__cpu_parallel(device, n, 16384, host_pieces, j); break;
    default: kw__cpu_copy(device, step->in_type[0], step->x[0], step->out_type[0], step->y[0], n);
    }
}

kw_status kw__cpu_compile_copy(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct copy *j = kw__arena_alloc(&plan->arena, 1, sizeof *j);
    if (!j) return kw__fail_memory(err);
    j->step = step;
    step->kernel = j;
    step->run = run_copy;
    const struct kw__op *op = step->op;
    if (kw__cpu_is_view(op) && step->in_type[0] == step->out_type[0]) {
        plan->view_of[op->output[0]] = op->input[0];
        step->run = NULL;
        return KW_OK;
    }
    switch (op->code) {
    case KW__RELATIVE_BIAS: step->scratch_bytes = (size_t)(2 * step->a->width - 1) * sizeof(int32_t); break;
    case KW__PUT_FRAMES:
        if (step->in_type[0] == step->out_type[0]) plan->overwrite[op->output[0]] = 1u;
        break;
    case KW__HOST_FRAMES:
        if (step->in_type[0] == step->out_type[0]) plan->overwrite[op->output[0]] = 1u;
        break;
    default: break;
    }
    return KW_OK;
}
