/* The operators that move elements about, in float64, in the order of graph/ops.def. */
#include <stdlib.h>

#include "support/interp_ops.h"

static void run_embedding(struct interp_call *c)
{
    int64_t vocabulary = c->in[1]->dim[0], d = c->in[1]->dim[1];
    for (int64_t i = 0; i < kw__elements(c->in[0]); i++) {
        int64_t id = (int64_t)c->x[0][i];
        if (!expect(c, id >= 0 && id < vocabulary, "0 <= id < V")) return;
        memcpy(c->y[0] + i * d, c->x[1] + id * d, (size_t)d * sizeof(double));
    }
}

/* Half of T5's buckets for each direction: half of those are single distances, the rest grow by equal
 * factors up to the largest distance. Offset is key minus query. */
static int64_t relative_bucket(int64_t offset, int64_t buckets, int64_t largest)
{
    int64_t half = buckets / 2, single = half / 2, start = offset > 0 ? half : 0;
    int64_t distance = offset < 0 ? -offset : offset;
    if (distance < single) return start + distance;
    double step = log((double)distance / (double)single) / log((double)largest / (double)single);
    int64_t bucket =
        single + (int64_t)(step * (double)(half - single) + 1e-9); /* log(2) / log(16) * 8 is 2 */
    return start + (bucket < half ? bucket : half - 1);
}

static void run_relative_bias(struct interp_call *c)
{
    int64_t buckets = c->in[0]->dim[0], heads = c->in[0]->dim[1], l = c->a->width;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t query = 0; query < l; query++)
            for (int64_t key = 0; key < l; key++)
                c->y[0][(h * l + query) * l + key] =
                    c->x[0][relative_bucket(key - query, buckets, c->a->distance) * heads + h];
}

static void run_pad_rows(struct interp_call *c)
{
    int64_t batch = c->in[0]->dim[0], rows = c->in[0]->dim[1], d = c->in[0]->dim[2];
    if (!expect(c, kw__elements(c->in[1]) == batch, "length[B]")) return;
    for (int64_t b = 0; b < batch; b++) {
        if (!expect(c, (int64_t)c->x[1][b] <= rows && (int64_t)c->x[1][b] <= c->a->width, "length <= L"))
            return;
        for (int64_t r = 0; r < c->a->width; r++)
            for (int64_t i = 0; i < d; i++)
                c->y[0][(b * c->a->width + r) * d + i] =
                    r < (int64_t)c->x[1][b] ? c->x[0][(b * rows + r) * d + i] : 0;
    }
}

/* y[b][j][i] = x[b][i][j] */
static void transpose(const double *x, double *y, int64_t batch, int64_t rows, int64_t columns)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                y[(b * columns + j) * rows + i] = x[(b * rows + i) * columns + j];
}

static void run_to_tokens(struct interp_call *c)
{
    transpose(c->x[0], c->y[0], c->in[0]->dim[0], c->in[0]->dim[1], inner(c->in[0], 2));
}

static void run_unpatchify(struct interp_call *c)
{
    const int64_t *grid = c->a->grid, *patch = c->a->patch, *d = c->out[0]->dim;
    int64_t width = kw__last_dim(c->in[0]), tokens = grid[0] * grid[1] * grid[2];
    if (!expect(c, c->in[0]->dim[1] == tokens && width == d[1] * patch[0] * patch[1] * patch[2],
                "x[B,T*H*W,p*q*r*C]"))
        return;
    double *y = c->y[0];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t w = 0; w < d[4]; w++) {
                        int64_t token = (t / patch[0] * grid[1] + h / patch[1]) * grid[2] + w / patch[2];
                        int64_t place = (t % patch[0] * patch[1] + h % patch[1]) * patch[2] + w % patch[2];
                        *y++ = c->x[0][(b * tokens + token) * width + place * d[1] + ch];
                    }
}

static void run_split_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t block = d[1] / c->a->parts, pixels = d[3] * d[4];
    if (!expect(c, c->a->parts >= 1 && c->a->parts <= c->op->num_outputs, "a part for each output")) return;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < block * c->a->parts; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[ch / block][((b * d[2] + t) * pixels + p) * block + ch % block] =
                        c->x[0][((b * d[1] + ch) * d[2] + t) * pixels + p];
}

static void run_join_frames(struct interp_call *c)
{
    const int64_t *d = c->out[0]->dim;
    int64_t pixels = d[3] * d[4];
    if (!expect(c, has_shape(c->in[0], KW__DIMS(d[0] * d[2], pixels, d[1])), "x[B*T,H*W,C]")) return;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[0][((b * d[1] + ch) * d[2] + t) * pixels + p] =
                        c->x[0][((b * d[2] + t) * pixels + p) * d[1] + ch];
}

static void run_upsample(struct interp_call *c)
{
    int64_t h = c->in[0]->dim[3], w = c->in[0]->dim[4], planes = kw__elements(c->in[0]) / (h * w);
    for (int64_t p = 0; p < planes; p++)
        for (int64_t i = 0; i < 2 * h; i++)
            for (int64_t j = 0; j < 2 * w; j++)
                c->y[0][(p * 2 * h + i) * 2 * w + j] = c->x[0][(p * h + i / 2) * w + j / 2];
}

static void run_interleave_time(struct interp_call *c)
{
    const int64_t *d = c->out[0]->dim; /* [B,C,2T,H,W] */
    int64_t pixels = d[3] * d[4], frames = d[2] / 2;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++) {
                int64_t source = (b * 2 + t % 2) * d[1] + ch;
                memcpy(c->y[0] + ((b * d[1] + ch) * d[2] + t) * pixels,
                       c->x[0] + (source * frames + t / 2) * pixels, (size_t)pixels * sizeof(double));
            }
}

static void run_take_frame(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4], frame = (int64_t)column(c, c->a->column);
    if (!expect(c, frame >= 0 && frame < d[2], "the frame is one of x")) return;
    for (int64_t image = 0; image < d[0] * d[1]; image++)
        memcpy(c->y[0] + image * pixels, c->x[0] + (image * d[2] + frame) * pixels,
               (size_t)pixels * sizeof(double));
}

static void run_put_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4], count = c->in[1]->dim[2], frame = (int64_t)column(c, c->a->column);
    if (!expect(c, kw__elements(c->in[1]) == d[0] * d[1] * count * pixels,
                "x is like clip but for its frames") ||
        !expect(c, frame >= 0 && frame + count <= d[2], "the frames are some of the clip's"))
        return;
    memcpy(c->y[0], c->x[0], (size_t)kw__elements(c->in[0]) * sizeof(double));
    for (int64_t image = 0; image < d[0] * d[1]; image++)
        memcpy(c->y[0] + (image * d[2] + frame) * pixels, c->x[1] + image * count * pixels,
               (size_t)(count * pixels) * sizeof(double));
}

/* [B,C,T,H,W] and [B*H*W,T,C], either way. */
static void run_tracks(struct interp_call *c)
{
    bool join = c->op->code == KW__JOIN_TRACKS;
    const int64_t *d = join ? c->out[0]->dim : c->in[0]->dim;
    int64_t pixels = d[3] * d[4];
    const struct kw__value *tracks = join ? c->in[0] : c->out[0];
    if (!expect(c, has_shape(tracks, KW__DIMS(d[0] * pixels, d[2], d[1])), "x[B*H*W,T,C]")) return;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++) {
                    int64_t image = ((b * d[1] + ch) * d[2] + t) * pixels + p;
                    int64_t track = ((b * pixels + p) * d[2] + t) * d[1] + ch;
                    c->y[0][join ? image : track] = c->x[0][join ? track : image];
                }
}

static void run_resize(struct interp_call *c)
{
    const int64_t *from = c->in[0]->dim, *to = c->out[0]->dim;
    int64_t alone = c->a->first_alone;
    if (!expect(c, !alone || (from[2] > 1 && to[2] > 1) || (from[2] == 1 && to[2] == 1),
                "frames after the first"))
        return;
    double *y = c->y[0];
    for (int64_t image = 0; image < to[0] * to[1]; image++)
        for (int64_t t = 0; t < to[2]; t++)
            for (int64_t h = 0; h < to[3]; h++)
                for (int64_t w = 0; w < to[4]; w++) {
                    int64_t frame = t < alone ? t : alone + (t - alone) * (from[2] - alone) / (to[2] - alone);
                    *y++ = c->x[0][((image * from[2] + frame) * from[3] + h * from[3] / to[3]) * from[4] +
                                   w * from[4] / to[4]];
                }
}

static void run_depth_to_space(struct interp_call *c)
{
    const int64_t *patch = c->a->patch, *from = c->in[0]->dim, *d = c->out[0]->dim;
    if (!expect(c, from[1] == d[1] * patch[0] * patch[1] * patch[2], "x[B,C*p*q*r,..]")) return;
    double *y = c->y[0];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t h = 0; h < d[3]; h++)
                    for (int64_t w = 0; w < d[4]; w++) {
                        int64_t i = t % patch[0], j = h % patch[1], k = w % patch[2];
                        int64_t place = c->a->transposed ? (i * patch[2] + k) * patch[1] + j
                                                         : (i * patch[1] + j) * patch[2] + k;
                        int64_t channel = ch * patch[0] * patch[1] * patch[2] + place;
                        *y++ = c->x[0][(((b * from[1] + channel) * from[2] + t / patch[0]) * from[3] +
                                        h / patch[1]) *
                                           from[4] +
                                       w / patch[2]];
                    }
}

/* CONCAT, SLICE, REPEAT: whole runs of what lies behind the axis. */
static void run_concat(struct interp_call *c)
{
    int axis = c->a->axis;
    int64_t total = inner(c->out[0], axis), runs = kw__elements(c->out[0]) / total, start = 0;
    for (int k = 0; k < c->op->num_inputs; k++) {
        if (!expect(c, c->in[k] && c->in[k]->ndim == c->out[0]->ndim, "inputs of as many axes")) return;
        for (int i = 0; i < c->in[k]->ndim; i++)
            if (!expect(c, i == axis || c->in[k]->dim[i] == c->out[0]->dim[i], "they differ along one axis"))
                return;
        int64_t n = inner(c->in[k], axis);
        for (int64_t r = 0; r < runs; r++)
            memcpy(c->y[0] + r * total + start, c->x[k] + r * n, (size_t)n * sizeof(double));
        start += n;
    }
    expect(c, start == total, "the result holds all");
}

static void run_slice(struct interp_call *c)
{
    int axis = c->a->axis;
    int64_t n = inner(c->out[0], axis), total = inner(c->in[0], axis), one = inner(c->in[0], axis + 1);
    if (!expect(c, c->a->start >= 0 && c->a->start + c->a->width <= c->in[0]->dim[axis],
                "the indices are there"))
        return;
    for (int64_t r = 0; r < kw__elements(c->out[0]) / n; r++)
        memcpy(c->y[0] + r * n, c->x[0] + r * total + c->a->start * one, (size_t)n * sizeof(double));
}

static void run_repeat(struct interp_call *c)
{
    int64_t n = c->a->heads ? kw__last_dim(c->in[0]) / c->a->heads : inner(c->in[0], (int)c->a->axis + 1);
    for (int64_t b = 0; b < kw__elements(c->out[0]) / n; b++)
        memcpy(c->y[0] + b * n, c->x[0] + b / c->a->width * n, (size_t)n * sizeof(double));
}

/* TAKE_BLOCK and PUT_BLOCK: `whole` holds the block [t,h,w] from where the iteration says. */
static void run_block(struct interp_call *c)
{
    bool take = c->op->code == KW__TAKE_BLOCK;
    const int64_t *whole = c->in[0]->dim, *block = take ? c->out[0]->dim : c->in[1]->dim;
    int64_t from[3];
    for (int i = 0; i < 3; i++) {
        from[i] = (int64_t)column(c, c->a->column + i);
        if (!expect(c, from[i] >= 0 && from[i] + block[2 + i] <= whole[2 + i], "the block is inside")) return;
    }
    if (!expect(c, block[0] == whole[0] && block[1] == whole[1], "x is like y but for the block")) return;
    if (!take) memcpy(c->y[0], c->x[0], (size_t)kw__elements(c->in[0]) * sizeof(double));
    int64_t i = 0;
    for (int64_t image = 0; image < whole[0] * whole[1]; image++)
        for (int64_t t = from[0]; t < from[0] + block[2]; t++)
            for (int64_t h = from[1]; h < from[1] + block[3]; h++)
                for (int64_t w = from[2]; w < from[2] + block[4]; w++, i++) {
                    int64_t at = ((image * whole[2] + t) * whole[3] + h) * whole[4] + w;
                    if (take)
                        c->y[0][i] = c->x[0][at];
                    else
                        c->y[0][at] = c->x[1][i];
                }
}

/* The tiles of one image and frame, mosaic[h,w], blended in place. */
struct tiling {
    const struct kw__attr *a;
    int64_t width, size[2]; /* of the mosaic; of the result */
};

static int64_t tile_size(const struct tiling *t, int axis, int64_t i)
{
    int64_t left = t->size[axis] - i * t->a->tile_step[axis];
    return left < t->a->tile[axis] ? left : t->a->tile[axis];
}

static double *tile_pixel(const struct tiling *t, double *mosaic, int64_t i, int64_t j, int64_t h, int64_t w)
{
    return &mosaic[(i * t->a->tile[0] + h) * t->width + j * t->a->tile[1] + w];
}

static void blend_tile(const struct tiling *t, double *mosaic, int64_t i, int64_t j)
{
    int64_t rows = tile_size(t, 0, i), columns = tile_size(t, 1, j);
    int64_t above = i ? tile_size(t, 0, i - 1) : 0, left = j ? tile_size(t, 1, j - 1) : 0;
    int64_t n = t->a->blend[0] < above ? t->a->blend[0] : above;
    if (n > rows) n = rows;
    for (int64_t h = 0; h < n; h++)
        for (int64_t w = 0; w < columns; w++) {
            double *b = tile_pixel(t, mosaic, i, j, h, w), part = (double)h / (double)n;
            *b = *tile_pixel(t, mosaic, i - 1, j, above - n + h, w) * (1 - part) + *b * part;
        }
    n = t->a->blend[1] < left ? t->a->blend[1] : left;
    if (n > columns) n = columns;
    for (int64_t h = 0; h < rows; h++)
        for (int64_t w = 0; w < n; w++) {
            double *b = tile_pixel(t, mosaic, i, j, h, w), part = (double)w / (double)n;
            *b = *tile_pixel(t, mosaic, i, j - 1, h, left - n + w) * (1 - part) + *b * part;
        }
}

/* Frames [t, pixels], already joined in each frame: from the second on they are tiles in time too. */
static void blend_frames(const struct interp_call *c, double *frames, int64_t pixels, double *y)
{
    const struct kw__attr *a = c->a;
    int64_t later = c->out[0]->dim[2] - 1, size = a->tile[2], step = a->tile_step[2];
    memcpy(y, frames, (size_t)pixels * sizeof *y);
    for (int64_t k = 0; k * step < later; k++) {
        int64_t left = later - k * step, before = left + step < size ? left + step : size, n = a->blend[2];
        if (n > left) n = left;
        if (n > before) n = before;
        int64_t first = (1 + k * size) * pixels, back = (size + n - before) * pixels; /* to the same frame */
        double *own = frames + first;
        for (int64_t i = 0; k > 0 && i < n * pixels; i++) {
            double part = (double)(i / pixels) / (double)n;
            own[i] = frames[first - back + i] * (1 - part) + own[i] * part;
        }
        memcpy(y + (1 + k * step) * pixels, own, (size_t)((left < step ? left : step) * pixels) * sizeof *y);
    }
}

static void run_blend_tiles(struct interp_call *c)
{
    const int64_t *from = c->in[0]->dim, *d = c->out[0]->dim, *step = c->a->tile_step;
    struct tiling t = {c->a, from[4], {d[3], d[4]}};
    int64_t rows = (d[3] + step[0] - 1) / step[0], columns = (d[4] + step[1] - 1) / step[1];
    if (!expect(c, from[3] >= (rows - 1) * c->a->tile[0] + tile_size(&t, 0, rows - 1), "rows of the tiles") ||
        !expect(c, from[4] >= (columns - 1) * c->a->tile[1] + tile_size(&t, 1, columns - 1),
                "columns of the tiles"))
        return;
    int64_t later = d[2] - 1, last = c->a->tile[2] && later ? (later - 1) / step[2] : 0;
    if (!expect(c, from[2] >= d[2] + last * (c->a->tile[2] - step[2]), "frames of the tiles")) return;
    double *mosaic = interp_allocate((size_t)(from[3] * from[4]), sizeof *mosaic);
    double *joined = interp_allocate((size_t)(from[2] * d[3] * d[4]), sizeof *joined);
    for (int64_t image = 0; image < d[0] * d[1] * from[2]; image++) {
        int64_t frame = image % from[2], channel = image / from[2];
        memcpy(mosaic, c->x[0] + image * from[3] * from[4], (size_t)(from[3] * from[4]) * sizeof *mosaic);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) blend_tile(&t, mosaic, i, j);
        for (int64_t h = 0; h < d[3]; h++)
            for (int64_t w = 0; w < d[4]; w++)
                joined[(frame * d[3] + h) * d[4] + w] =
                    *tile_pixel(&t, mosaic, h / step[0], w / step[1], h % step[0], w % step[1]);
        double *y = c->y[0] + channel * d[2] * d[3] * d[4];
        if (frame + 1 < from[2]) continue;
        if (c->a->tile[2])
            blend_frames(c, joined, d[3] * d[4], y);
        else
            memcpy(y, joined, (size_t)(d[2] * d[3] * d[4]) * sizeof *y);
    }
    free(joined);
    free(mosaic);
}

/* Transposed as [B*F,H*W,C] is: channels last, frames before them. Values end in 0..1. */
static void run_host_frames(struct interp_call *c)
{
    const int64_t *d = c->in[0]->dim;
    int64_t pixels = d[3] * d[4];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t ch = 0; ch < d[1]; ch++)
            for (int64_t t = 0; t < d[2]; t++)
                for (int64_t p = 0; p < pixels; p++)
                    c->y[0][((b * d[2] + t) * pixels + p) * d[1] + ch] =
                        fmin(fmax(c->x[0][((b * d[1] + ch) * d[2] + t) * pixels + p] / 2 + 0.5, 0), 1);
}

static void (*const functions[KW__NUM_OPCODES])(struct interp_call *) = {
    [KW__TO_TRACKS] = run_tracks,
    [KW__JOIN_TRACKS] = run_tracks,
    [KW__RESIZE] = run_resize,
    [KW__DEPTH_TO_SPACE] = run_depth_to_space,
    [KW__CONCAT] = run_concat,
    [KW__SLICE] = run_slice,
    [KW__REPEAT] = run_repeat,
    [KW__TAKE_BLOCK] = run_block,
    [KW__PUT_BLOCK] = run_block,
    [KW__BLEND_TILES] = run_blend_tiles,
    [KW__EMBEDDING] = run_embedding,
    [KW__RELATIVE_BIAS] = run_relative_bias,
    [KW__PAD_ROWS] = run_pad_rows,
    [KW__TO_TOKENS] = run_to_tokens,
    [KW__UNPATCHIFY] = run_unpatchify,
    [KW__SPLIT_FRAMES] = run_split_frames,
    [KW__JOIN_FRAMES] = run_join_frames,
    [KW__UPSAMPLE] = run_upsample,
    [KW__INTERLEAVE_TIME] = run_interleave_time,
    [KW__TAKE_FRAME] = run_take_frame,
    [KW__PUT_FRAMES] = run_put_frames,
    [KW__HOST_FRAMES] = run_host_frames,
};

void (*interp_copy_function(enum kw__opcode code))(struct interp_call *)
{
    return functions[code];
}
