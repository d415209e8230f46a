/* How the tile unit is kept busy. Four tiles of results (32 x 32) take two tiles of x and two of w in
 * each step of 32 along K: four products of 16 cycles for four loads of 1 KiB, which the second-level
 * cache can just deliver. So a block of rows of x stays there while panels of w, in the order they lie
 * in memory, go by; the next panel is asked for in time; and the vector units do bias, activation, gate
 * and residual of one block of results in between the products of the next. */
#include "engine/cpu/tiles.h"

#if defined(__x86_64__)

#include <string.h>

#include "engine/cpu/avx512.h"
#include "engine/cpu/vec.h"

enum {
    SIDE = 32,            /* rows and columns of a block of results; K of a step */
    PANELS = 8,           /* of a piece of work: 256 columns */
    MOST_K = 1792,        /* K of a pass; more are added up in memory */
    MOST_ROWS = 512,      /* of a piece of work */
    ROWS_BYTES = 1 << 20, /* of x, for one pass: half of a second-level cache */
    TILE = 16 * SIDE,     /* elements of a tile of w */
    BLOCK = SIDE * SIDE,  /* of a block of results */
};

#define AMX __attribute__((target(KW__AVX512_FEATURES ",amx-tile,amx-bf16")))

static int64_t panels_of(int64_t n)
{
    return (n + SIDE - 1) / SIDE;
}

/* K as the tiles have it. */
static int64_t filled(int64_t k)
{
    return panels_of(k) * SIDE;
}

size_t kw__cpu_tiles_bytes(int64_t n, int64_t k)
{
    return (size_t)(filled(n) * filled(k)) * sizeof(uint16_t);
}

/* Passes over K, each of `step` at most. */
struct passes {
    int64_t count, k;
};

static struct passes passes_of(int64_t k)
{
    int64_t count = (k + MOST_K - 1) / MOST_K;
    int64_t each = (k + count * SIDE - 1) / (count * SIDE) * SIDE;
    return (struct passes){(k + each - 1) / each, each};
}

static int64_t rows_of_piece(int64_t k)
{
    int64_t rows = ROWS_BYTES / (passes_of(k).k * (int64_t)sizeof(uint16_t)) / SIDE * SIDE;
    return rows < SIDE ? SIDE : rows < MOST_ROWS ? rows : MOST_ROWS;
}

/* A thread's own: sums over the passes, two blocks of results, rows of x beyond the last whole block. */
static size_t own_bytes(int64_t k)
{
    size_t sums = passes_of(k).count > 1 ? (size_t)(rows_of_piece(k) * PANELS * SIDE) * sizeof(float) : 0;
    return sums + 2 * BLOCK * sizeof(float) + (size_t)(SIDE * k) * sizeof(uint16_t);
}

/* Of all threads, and then x when its rows must be filled up. */
size_t kw__cpu_tiles_scratch(const struct kw__device *device, int64_t rows, int64_t k)
{
    size_t x = k == filled(k) ? 0 : (size_t)(rows * filled(k)) * sizeof(uint16_t);
    return (size_t)device->threads * own_bytes(filled(k)) + x;
}

/* ---- Packing --------------------------------------------------------------------------------------- */

struct packing {
    const uint16_t *w;
    uint16_t *out;
    int64_t n, k;
};

static void pack_panels(void *argument, int64_t from, int64_t to)
{
    const struct packing *p = argument;
    for (int64_t panel = from; panel < to; panel++) {
        uint16_t *out = p->out + panel * SIDE * filled(p->k);
        for (int64_t k = 0; k < p->k; k += SIDE)
            for (int64_t column = 0; column < SIDE; column++) {
                int64_t row = panel * SIDE + column; /* of w */
                uint16_t *tile = out + k * SIDE + column / 16 * TILE + column % 16 * 2;
                for (int64_t pair = 0; pair < 16; pair++)
                    for (int64_t half = 0; half < 2; half++) {
                        int64_t at = k + 2 * pair + half;
                        tile[pair * SIDE + half] = row < p->n && at < p->k ? p->w[row * p->k + at] : 0;
                    }
            }
    }
}

void kw__cpu_pack_tiles(const struct kw__device *device, const uint16_t *w, int64_t n, int64_t k,
                        uint16_t *out)
{
    struct packing p = {w, out, n, k};
    kw__cpu_parallel(device, panels_of(n), 1, pack_panels, &p);
}

/* ---- What follows the products --------------------------------------------------------------------- */

/* A block of results that waits for its last treatment. */
struct pending {
    const float *block;                 /* [SIDE, SIDE] */
    int64_t row, column, rows, columns; /* where it belongs in y; how much of it does */
};

KW__AVX512_INLINE __m512 load_as(enum kw__dtype type, __mmask16 there, const void *array, int64_t at)
{
    if (type == KW__BF16) return kw__load_bf16(there, (const uint16_t *)array + at);
    return _mm512_maskz_loadu_ps(there, (const float *)array + at);
}

KW__AVX512_INLINE void finish_row(const struct kw__cpu_product *p, const struct pending *done, int64_t row)
{
    for (int64_t i = 0; i < done->columns; i += 16) {
        __mmask16 there = kw__first(done->columns - i);
        int64_t column = done->column + i, at = (done->row + row) * p->n + column;
        __m512 z = _mm512_loadu_ps(done->block + row * SIDE + i);
        if (p->bias) z = _mm512_add_ps(z, _mm512_maskz_loadu_ps(there, p->bias + column));
        if (p->activation == KW__ACT_GELU) z = kw__gelu_bf16(z);
        if (p->activation == KW__ACT_SILU) z = kw__silu_bf16(z);
        if (p->gate) z = _mm512_mul_ps(z, _mm512_maskz_loadu_ps(there, p->gate + column));
        if (p->residual) z = _mm512_add_ps(z, load_as(p->residual_type, there, p->residual, at));
        if (p->type == KW__BF16)
            kw__store_bf16(there, (uint16_t *)p->y + at, z);
        else
            _mm512_mask_storeu_ps((float *)p->y + at, there, z);
    }
}

/* ---- The products ---------------------------------------------------------------------------------- */

struct ahead { /* the panel that comes next, and its lines of each step that this block asks for */
    const char *panel;
    int first, lines;
};

/* out[32,32] = in (NULL: 0) + x[32, 32 steps] w; `done` is finished on the way. */
AMX static void multiply_block(const struct kw__cpu_product *p, const uint16_t *x, const uint16_t *w,
                               int64_t steps, const float *in, float *out, const struct ahead *ahead,
                               const struct pending *done)
{
    size_t xs = (size_t)p->k * sizeof *x, line = SIDE * sizeof(float);
    const uint16_t *lower = x + 16 * p->k;
    if (in) {
        _tile_loadd(0, in, line);
        _tile_loadd(1, in + 16, line);
        _tile_loadd(2, in + 16 * SIDE, line);
        _tile_loadd(3, in + 16 * SIDE + 16, line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t t = 0; t < steps; t++) {
        _tile_loadd(4, x + t * SIDE, xs);
        _tile_loadd(6, w + t * 2 * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w + t * 2 * TILE + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + t * SIDE, xs);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        for (int i = 0; i < ahead->lines; i++)
            _mm_prefetch(ahead->panel + t * 4 * TILE + (ahead->first + i) * 64, _MM_HINT_T1);
        if (t < done->rows) finish_row(p, done, t);
    }
    for (int64_t t = steps; t < done->rows; t++) finish_row(p, done, t);
    _tile_stored(0, out, line);
    _tile_stored(1, out + 16, line);
    _tile_stored(2, out + 16 * SIDE, line);
    _tile_stored(3, out + 16 * SIDE + 16, line);
}

struct piece {
    const struct kw__cpu_product *p;
    int64_t row, rows, panel, panels; /* rows of x, panels of w */
    struct passes passes;
    float *sums, *blocks[2];
    uint16_t *rest; /* the rows beyond the last whole block, filled up with zeros */
};

/* Panels panel .. for one pass over K. `done` is what the block before left. */
AMX static void multiply_pass(const struct piece *z, int64_t pass, struct pending *done, int *which)
{
    const struct kw__cpu_product *p = z->p;
    int64_t first_k = pass * z->passes.k, k = p->k - first_k < z->passes.k ? p->k - first_k : z->passes.k;
    int64_t blocks = (z->rows + SIDE - 1) / SIDE;
    bool last = pass + 1 == z->passes.count;
    int lines = (int)((SIDE + blocks - 1) / blocks);
    for (int64_t j = 0; j < z->panels; j++) {
        const uint16_t *w = p->w + (z->panel + j) * SIDE * p->k + first_k * SIDE;
        for (int64_t i = 0; i < blocks; i++) {
            bool whole = (i + 1) * SIDE <= z->rows;
            float *sum = z->sums + (j * blocks + i) * BLOCK;
            const uint16_t *x = (whole ? p->x + (z->row + i * SIDE) * p->k : z->rest) + first_k;
            struct ahead ahead = {(const char *)(w + SIDE * p->k), (int)i * lines, lines};
            if (ahead.first + lines > SIDE) ahead.lines = SIDE > ahead.first ? SIDE - ahead.first : 0;
            multiply_block(p, x, w, k / SIDE, pass ? sum : NULL, last ? z->blocks[*which] : sum, &ahead,
                           done);
            done->rows = 0;
            if (!last) continue;
            int64_t column = (z->panel + j) * SIDE;
            *done = (struct pending){.block = z->blocks[*which], .row = z->row + i * SIDE, .column = column};
            done->rows = whole ? SIDE : z->rows % SIDE;
            done->columns = p->n - column < SIDE ? p->n - column : SIDE;
            *which = !*which;
        }
    }
}

KW__AVX512 static void finish_block(const struct kw__cpu_product *p, const struct pending *done)
{
    for (int64_t row = 0; row < done->rows; row++) finish_row(p, done, row);
}

struct work {
    const struct kw__cpu_product *p;
    char *scratch;
    int64_t rows, row_pieces, column_pieces;
};

/* Pieces in the order in which one after the other reads the same rows of x. */
AMX static void multiply_pieces(void *argument, int64_t from, int64_t to)
{
    const struct work *work = argument;
    const struct kw__cpu_product *p = work->p;
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    struct piece z = {.p = p, .passes = passes_of(p->k)};
    z.blocks[0] = (float *)(work->scratch + (size_t)kw__cpu_thread() * own_bytes(p->k));
    z.blocks[1] = z.blocks[0] + BLOCK;
    z.rest = (uint16_t *)(z.blocks[1] + BLOCK);
    z.sums = (float *)(z.rest + SIDE * p->k);
    struct pending done = {.rows = 0};
    int which = 0;
    for (int64_t i = from; i < to; i++) {
        z.row = i / work->column_pieces * work->rows;
        z.rows = p->rows - z.row < work->rows ? p->rows - z.row : work->rows;
        z.panel = i % work->column_pieces * PANELS;
        z.panels = panels_of(p->n) - z.panel < PANELS ? panels_of(p->n) - z.panel : PANELS;
        int64_t beyond = z.rows % SIDE;
        if (beyond) {
            memcpy(z.rest, p->x + (z.row + z.rows - beyond) * p->k, (size_t)(beyond * p->k) * sizeof *z.rest);
            memset(z.rest + beyond * p->k, 0, (size_t)((SIDE - beyond) * p->k) * sizeof *z.rest);
        }
        for (int64_t pass = 0; pass < z.passes.count; pass++) multiply_pass(&z, pass, &done, &which);
    }
    finish_block(p, &done);
    _tile_release();
}

struct filling {
    const uint16_t *x;
    uint16_t *y;
    int64_t k;
};

static void fill_rows(void *argument, int64_t from, int64_t to)
{
    const struct filling *f = argument;
    int64_t k = filled(f->k);
    for (int64_t row = from; row < to; row++) {
        memcpy(f->y + row * k, f->x + row * f->k, (size_t)f->k * sizeof *f->y);
        memset(f->y + row * k + f->k, 0, (size_t)(k - f->k) * sizeof *f->y);
    }
}

static void multiply(const struct kw__device *device, const struct kw__cpu_product *product, void *scratch)
{
    struct work work = {.p = product, .scratch = scratch, .rows = rows_of_piece(product->k)};
    /* as many pieces as there are rows for, of one size */
    int64_t pieces = (product->rows + work.rows - 1) / work.rows;
    work.rows = ((product->rows + pieces - 1) / pieces + SIDE - 1) / SIDE * SIDE;
    work.row_pieces = (product->rows + work.rows - 1) / work.rows;
    work.column_pieces = (panels_of(product->n) + PANELS - 1) / PANELS;
    kw__cpu_parallel(device, work.row_pieces * work.column_pieces, 1, multiply_pieces, &work);
}

void kw__cpu_multiply_tiles(const struct kw__device *device, const struct kw__cpu_product *product,
                            void *scratch)
{
    struct kw__cpu_product p = *product;
    p.k = filled(product->k);
    if (p.k != product->k) {
        uint16_t *x = (uint16_t *)((char *)scratch + (size_t)device->threads * own_bytes(p.k));
        struct filling filling = {product->x, x, product->k};
        kw__cpu_parallel(device, p.rows, 1 + 16384 / p.k, fill_rows, &filling);
        p.x = x;
    }
    multiply(device, &p, scratch);
}

#else

size_t kw__cpu_tiles_bytes(int64_t n, int64_t k)
{
    return (size_t)(n * k) * sizeof(uint16_t);
}

size_t kw__cpu_tiles_scratch(const struct kw__device *device, int64_t rows, int64_t k)
{
    (void)device, (void)rows, (void)k;
    return 0;
}

void kw__cpu_pack_tiles(const struct kw__device *device, const uint16_t *w, int64_t n, int64_t k,
                        uint16_t *out)
{
    (void)device, (void)w, (void)n, (void)k, (void)out;
}

void kw__cpu_multiply_tiles(const struct kw__device *device, const struct kw__cpu_product *product,
                            void *scratch)
{
    (void)device, (void)product, (void)scratch;
}

#endif
