/* Tables that are made from positions and times: ROPE_TABLE, SINUSOID. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/vec.h"

/* ---- ROPE_TABLE -------------------------------------------------------------------------------------- */

static double position_of(const struct kw__attr *a, int axis, int64_t n)
{
    return a->positions[axis] ? a->positions[axis][n] : (double)n;
}

/* An angle depends on the place along one axis only, and those are few: sin and cos of each, as pairs, for
 * all places of the first axis, then of the second and the third: [places, channels / 2, 2]. */
static void fill_angles(const struct kw__cpu_step *s)
{
    const struct kw__attr *a = s->a;
    bool sine_first = a->layout == KW__SIN_COS || a->layout == KW__SINES_COSINES;
    float *y = s->scratch;
    for (int axis = 0; axis < 3; axis++)
        for (int64_t n = 0; n < a->grid[axis]; n++)
            for (int64_t i = 0; i < a->axes[axis] / 2; i++) {
                double frequency = a->frequencies ? a->frequencies[i]
                                                  : pow(a->theta, -2 * (double)i / (double)a->axes[axis]);
                double angle = position_of(a, axis, n) * frequency;
                if (a->single) angle = (float)angle;
                *y++ = (float)(sine_first ? sin(angle) : cos(angle));
                *y++ = (float)(sine_first ? cos(angle) : sin(angle));
            }
}

/* Where the pair i of an axis, or one of the two, goes in a row. */
static int64_t place_of(const struct kw__attr *a, int axis, int64_t i, int second)
{
    int64_t start = a->prefix;
    if (a->layout == KW__COS_SIN_BY_FREQUENCY) return start + 2 * (3 * i + axis) + second;
    for (int k = 0; k < axis; k++) start += a->axes[k];
    if (a->layout == KW__SINES_COSINES) return start + second * (a->axes[axis] / 2) + i;
    return start + 2 * i + second;
}

static void store_one(const struct kw__cpu_step *s, int64_t at, float value)
{
    float buffer;
    *kw__target(s->out_type[0], s->y[0], at, &buffer) = value;
    kw__store(s->out_type[0], s->y[0], at, 1, &value);
}

static void table_rows(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = argument;
    const struct kw__attr *a = s->a;
    int64_t e = s->out[0]->dim[1];
    for (int64_t row = from; row < to; row++) {
        int64_t place[3] = {row / (a->grid[1] * a->grid[2]), row / a->grid[2] % a->grid[1], row % a->grid[2]};
        const float *line = s->scratch;
        for (int64_t i = 0; i < a->prefix; i++) store_one(s, row * e + i, i % 2 == 0);
        for (int axis = 0; axis < 3; axis++) {
            const float *angles = line + place[axis] * a->axes[axis];
            for (int64_t i = 0; i < a->axes[axis]; i++)
                store_one(s, row * e + place_of(a, axis, i / 2, i % 2), angles[i]);
            line += a->grid[axis] * a->axes[axis];
        }
    }
}

/* w[3,h,f] */
static void learned_rows(void *argument, int64_t from, int64_t to)
{
    const struct kw__cpu_step *s = argument;
    const struct kw__attr *a = s->a;
    int64_t pairs = s->in[0]->dim[1] * s->in[0]->dim[2];
    float buffer;
    for (int64_t row = from; row < to; row++) {
        int64_t place[3] = {row / (a->grid[1] * a->grid[2]), row / a->grid[2] % a->grid[1], row % a->grid[2]};
        for (int64_t i = 0; i < pairs; i++) {
            double angle = 0;
            for (int axis = 0; axis < 3; axis++)
                angle += position_of(a, axis, place[axis]) *
                         (double)*kw__load(s->in_type[0], s->x[0], axis * pairs + i, 1, &buffer);
            store_one(s, (row * pairs + i) * 2, (float)cos(angle));
            store_one(s, (row * pairs + i) * 2 + 1, (float)sin(angle));
        }
    }
}

/* ---- SINUSOID ----------------------------------------------------------------------------------------- */

static void sinusoid(const struct kw__cpu_step *s)
{
    int64_t half = s->a->width / 2;
    float buffer;
    double scale = s->in[1] ? (double)*kw__load(s->in_type[1], s->x[1], 0, 1, &buffer) : 1;
    for (int64_t b = 0; b < kw__elements(s->in[0]); b++) {
        double t = *kw__load(s->in_type[0], s->x[0], b, 1, &buffer) * scale;
        for (int64_t i = 0; i < half; i++) {
            double angle = t * pow(10000, -(double)i / (double)half);
            store_one(s, b * 2 * half + i, (float)cos(angle));
            store_one(s, b * 2 * half + half + i, (float)sin(angle));
        }
    }
}

/* ---- Compiling ---------------------------------------------------------------------------------------- */

static void run_table(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    int64_t rows = step->out[0]->dim[0];
    if (step->op->code == KW__SINUSOID) {
        sinusoid(step);
    } else if (step->in[0]) {
        kw__cpu_parallel(plan->device, rows, 16, learned_rows, step);
    } else {
        fill_angles(step);
        kw__cpu_parallel(plan->device, rows, 64, table_rows, step);
    }
}

kw_status kw__cpu_compile_tables(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    (void)plan;
    (void)err;
    step->run = run_table;
    if (step->op->code == KW__ROPE_TABLE && !step->in[0])
        for (int axis = 0; axis < 3; axis++)
            step->scratch_bytes += (size_t)(step->a->grid[axis] * step->a->axes[axis]) * sizeof(float);
    return KW_OK;
}
