#include "predict/scaling.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "hardware/hardware.h"
#include "model/catalog.h"
#include "model/family.h"

/* ---- Axes and values ------------------------------------------------------------------------------ */

static const char *const axis_names[KW__NUM_AXES] = {"resolution", "frames", "steps"};

const char *kw__scaling_axis_name(enum kw__scaling_axis axis)
{
    return axis_names[axis];
}

kw_status kw__scaling_axis_parse(const char *text, enum kw__scaling_axis *out, kw_error *err)
{
    for (int i = 0; i < KW__NUM_AXES; i++)
        if (strcmp(text, axis_names[i]) == 0) {
            *out = (enum kw__scaling_axis)i;
            return KW_OK;
        }
    return kw__fail(err, KW_ERROR_USAGE, "unknown axis '%.80s'; resolution, frames and steps are", text);
}

/* Sizes: the 14 of arXiv 2509.19222, then three larger of 16:9 whose sides are multiples of 16. */
static const struct kw__scaling_value sizes[] = {
    {256, 256, 0},  {320, 240, 0},   {448, 256, 0},   {384, 384, 0},   {576, 320, 0},   {512, 512, 0},
    {704, 384, 0},  {768, 432, 0},   {832, 480, 0},   {1024, 576, 0},  {1088, 608, 0},  {1280, 720, 0},
    {1536, 864, 0}, {1792, 1008, 0}, {2048, 1152, 0}, {2304, 1296, 0}, {2560, 1440, 0},
};
static const int16_t step_counts[] = {1,  2,  3,  4,  6,  8,   10,  12,  16,  20,  25,
                                      30, 40, 50, 60, 80, 100, 120, 140, 160, 180, 200};
enum {
    NUM_SIZES = sizeof sizes / sizeof sizes[0],
    NUM_STEP_COUNTS = sizeof step_counts / sizeof step_counts[0]
};
enum { NUM_FRAME_COUNTS = 41 }; /* 1, 5, ... 161 */

static kw_status default_values(enum kw__scaling_axis axis, struct kw__arena *arena,
                                struct kw__scaling_value **values, size_t *count, kw_error *err)
{
    static const size_t counts[KW__NUM_AXES] = {NUM_SIZES, NUM_FRAME_COUNTS, NUM_STEP_COUNTS};
    *count = counts[axis];
    *values = kw__arena_alloc(arena, *count, sizeof **values);
    if (!*values) return kw__fail_memory(err);
    for (size_t i = 0; i < *count; i++) {
        if (axis == KW__AXIS_RESOLUTION)
            (*values)[i] = sizes[i];
        else
            (*values)[i].count = axis == KW__AXIS_FRAMES ? 1 + 4 * (int64_t)i : step_counts[i];
    }
    return KW_OK;
}

/* Digits at *at, a number of 1 to 10^9; moves *at behind them. */
static bool read_count(const char **at, int64_t *out)
{
    size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 10) return false;
    *out = strtoll(*at, NULL, 10);
    *at += digits;
    return *out >= 1 && *out <= 1000000000;
}

kw_status kw__scaling_parse(enum kw__scaling_axis axis, const char *text, struct kw__arena *arena,
                            struct kw__scaling_value **values, size_t *count, kw_error *err)
{
    const char *wanted =
        axis == KW__AXIS_RESOLUTION ? "sizes such as 832x480,1280x720" : "whole numbers such as 1,5,81";
    *values = kw__arena_alloc(arena, KW__MAX_SCALING_VALUES, sizeof **values);
    if (!*values) return kw__fail_memory(err);
    *count = 0;
    for (const char *at = text;; at++) {
        struct kw__scaling_value value = {0};
        const char *start = at;
        bool good = axis == KW__AXIS_RESOLUTION
                        ? read_count(&at, &value.width) && *at++ == 'x' && read_count(&at, &value.height)
                        : read_count(&at, &value.count);
        if (!good || (*at != ',' && *at != '\0'))
            return kw__fail(err, KW_ERROR_USAGE, "--values: '%.*s' is not valid for the axis %s; give %s",
                            (int)strcspn(start, ",") < 80 ? (int)strcspn(start, ",") : 80, start,
                            axis_names[axis], wanted);
        if (*count == KW__MAX_SCALING_VALUES)
            return kw__fail(err, KW_ERROR_USAGE, "--values has more than %d values", KW__MAX_SCALING_VALUES);
        (*values)[(*count)++] = value;
        if (!*at) return KW_OK;
    }
}

static void set_value(kw_request *request, enum kw__scaling_axis axis, const struct kw__scaling_value *value)
{
    switch (axis) {
    case KW__AXIS_FRAMES: request->num_frames = value->count; return;
    case KW__AXIS_STEPS: request->num_inference_steps = value->count; return;
    default: request->width = value->width; request->height = value->height;
    }
}

static double value_of(const kw_effective *r, enum kw__scaling_axis axis)
{
    switch (axis) {
    case KW__AXIS_FRAMES: return (double)r->num_frames;
    case KW__AXIS_STEPS: return (double)r->num_inference_steps;
    default: return (double)r->width * (double)r->height;
    }
}

/* Whether two requests run the same, but for the axis. */
static bool same_but(const kw_effective *a, const kw_effective *b, enum kw__scaling_axis axis)
{
    kw_effective moved = *a;
    switch (axis) {
    case KW__AXIS_FRAMES: moved.num_frames = b->num_frames; break;
    case KW__AXIS_STEPS: moved.num_inference_steps = b->num_inference_steps; break;
    default: moved.width = b->width; moved.height = b->height;
    }
    return kw__same_run(&moved, b);
}

/* Clips have 1 + k n frames of 1 + k latent frames, n even. CogVideoX alone decodes an even number of latent
 * frames to n - 1 more: its 8 frames are 2 latent frames, its 9 are 3, a step of cost for one frame. */
static bool beside_grid(const kw_effective *r)
{
    return r->num_frames % 2 == 0 && r->num_frames != r->latent_frames;
}

/* ---- Points ----------------------------------------------------------------------------------------- */

static int by_x(const void *a, const void *b)
{
    const struct kw__scaling_point *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return (p->prediction->request.width > q->prediction->request.width) -
           (p->prediction->request.width < q->prediction->request.width);
}

static kw_status add_points(struct kw__scaling *s, const kw_catalog *catalog, const kw_model *model,
                            const kw_request *request, const kw_predict_options *options,
                            const struct kw__scaling_value *values, size_t count, bool given, kw_error *err)
{
    s->points = kw__arena_alloc(&s->arena, count, sizeof *s->points);
    if (!s->points) return kw__fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        kw_request one = *request;
        kw_effective effective;
        bool known = false;
        set_value(&one, s->axis, &values[i]);
        kw_status status = kw_request_resolve(model, &one, &effective, err);
        if (status == KW_ERROR_USAGE && !given) continue;
        if (status) return status;
        if (!given && s->axis == KW__AXIS_FRAMES && beside_grid(&effective)) continue;
        for (size_t j = 0; j < s->num_points && !known; j++)
            known = kw__same_run(&effective, &s->points[j].prediction->request);
        if (known) continue;
        struct kw__scaling_point *point = &s->points[s->num_points];
        status = kw_predict(catalog, model, &one, options, &point->prediction, err);
        if (status) return status;
        point->x = value_of(&point->prediction->request, s->axis);
        s->num_points++;
    }
    if (s->num_points == 0) /* the last refusal is in `err` */
        return err && err->code ? err->code
                                : kw__fail(err, KW_ERROR_USAGE, "the model takes none of the values");
    qsort(s->points, s->num_points, sizeof *s->points, by_x);
    return KW_OK;
}

/* ---- Exponents -------------------------------------------------------------------------------------- */

/* The nearest point before (step -1) or behind (step 1) that a slope can be drawn to; `count`: none. */
static size_t neighbour(const double *x, const double *y, size_t count, size_t i, int step)
{
    for (size_t j = i + (size_t)step; j < count; j += (size_t)step)
        if (x[j] != x[i] && y[j] > 0) return j;
    return count;
}

static double slope(const double *x, const double *y, size_t i, size_t j)
{
    return log(y[j] / y[i]) / log(x[j] / x[i]);
}

/* At i, of the parabola in logarithms through it and a point on each side. It is a mean of the two slopes,
 * the nearer point's with more weight, and so never outside them; at an end it would be an extrapolation. */
static double tangent(const double *x, const double *y, size_t before, size_t i, size_t after)
{
    double from = log(x[i] / x[before]), to = log(x[after] / x[i]);
    return (slope(x, y, before, i) * to + slope(x, y, i, after) * from) / (from + to);
}

void kw__local_exponents(const double *x, const double *y, size_t count, double *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = NAN;
        if (!(y[i] > 0)) continue;
        size_t before = neighbour(x, y, count, i, -1), after = neighbour(x, y, count, i, 1);
        if (before < count && after < count)
            out[i] = tangent(x, y, before, i, after);
        else if (before < count || after < count)
            out[i] = slope(x, y, i, before < count ? before : after);
    }
}

static kw_status add_exponents(struct kw__scaling *s, kw_error *err)
{
    size_t n = s->num_points;
    double *x = kw__arena_alloc(&s->arena, n, sizeof *x), *y = kw__arena_alloc(&s->arena, n, sizeof *y);
    double *exponent = kw__arena_alloc(&s->arena, n, sizeof *exponent);
    if (!x || !y || !exponent) return kw__fail_memory(err);
    for (int energy = 0; energy < 2; energy++)
        for (int beside = 0; beside < 2; beside++) { /* each kind of clip by itself */
            for (size_t i = 0; i < n; i++) {
                const kw_cost *total = &s->points[i].prediction->total;
                x[i] = s->points[i].x;
                y[i] = energy ? total->energy_j[KW_GPU].value : total->latency_s.value;
                if (beside_grid(&s->points[i].prediction->request) != beside) y[i] = NAN;
            }
            kw__local_exponents(x, y, n, exponent);
            for (size_t i = 0; i < n; i++)
                if (beside_grid(&s->points[i].prediction->request) == beside)
                    *(energy ? &s->points[i].energy_exponent : &s->points[i].latency_exponent) = exponent[i];
        }
    return KW_OK;
}

/* ---- Published rows ---------------------------------------------------------------------------------- */

static const char *const published[] = {"delavande2025_wan_sweeps", "delavande2025_models"};
static const char published_stack[] = "diffusers-0.34";

static int by_row_x(const void *a, const void *b)
{
    const struct kw__scaling_row *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return (p->row->latency_s > q->row->latency_s) - (p->row->latency_s < q->row->latency_s);
}

/* What the row's request runs as; false when the model does not take it. */
static bool resolve_row(const kw_model *model, const struct kw__row *row, kw_effective *out)
{
    kw_request request = kw__row_request(row);
    return kw_request_resolve(model, &request, out, NULL) == KW_OK;
}

static void add_rows(struct kw__scaling *s, const struct kw__dataset *set, const kw_model *model,
                     const kw_hardware *hardware)
{
    const kw_effective *here = &s->points[0].prediction->request;
    for (size_t i = 0; i < set->num_rows; i++) {
        const struct kw__row *row = &set->rows[i];
        kw_effective r;
        if (row->what || strcmp(row->model, model->name) != 0 || !kw__hardware_is(hardware, row->gpu) ||
            !resolve_row(model, row, &r))
            continue;
        if (same_but(&r, here, s->axis)) {
            s->rows[s->num_rows++] = (struct kw__scaling_row){row, value_of(&r, s->axis)};
        } else if (row->sweep && strcmp(row->sweep, axis_names[s->axis]) == 0) {
            s->elsewhere = row;
            s->num_elsewhere++;
        }
    }
}

/* Means of the rows at each point. */
static void match_rows(struct kw__scaling *s, const kw_model *model)
{
    for (size_t i = 0; i < s->num_points; i++) {
        struct kw__scaling_point *point = &s->points[i];
        double latency = 0, energy = 0, energies = 0;
        for (size_t j = 0; j < s->num_rows; j++) {
            const struct kw__row *row = s->rows[j].row;
            kw_effective r;
            if (!resolve_row(model, row, &r) || !kw__same_run(&r, &point->prediction->request)) continue;
            point->num_published++;
            latency += row->latency_s;
            if (isnan(row->energy_wh[KW_GPU])) continue;
            energy += row->energy_wh[KW_GPU];
            energies++;
        }
        point->published_latency_s = point->num_published ? latency / (double)point->num_published : NAN;
        point->published_gpu_wh = energies > 0 ? energy / energies : NAN;
    }
}

static kw_status add_published(struct kw__scaling *s, const kw_catalog *catalog, const kw_model *model,
                               const kw_request *request, const kw_predict_options *options, kw_error *err)
{
    const kw_prediction *p = s->points[0].prediction;
    kw_hardware *hardware = NULL;
    kw_status status = KW_OK;
    size_t most = 0;
    if (strcmp(p->stack, published_stack) == 0 && request->power_limit_w == 0) {
        for (size_t i = 0; !status && i < 2; i++) {
            status = kw__dataset_open(catalog, published[i], &s->sets[i], err);
            if (!status) most += s->sets[i]->num_rows;
        }
        if (!status)
            status = kw_hardware_open(catalog, options->hardware ? options->hardware : p->hardware, &hardware,
                                      err);
        if (!status && !(s->rows = kw__arena_alloc(&s->arena, most, sizeof *s->rows)))
            status = kw__fail_memory(err);
        for (size_t i = 0; !status && i < 2; i++) add_rows(s, s->sets[i], model, hardware);
        kw_hardware_close(hardware);
    }
    if (!status && s->num_rows) qsort(s->rows, s->num_rows, sizeof *s->rows, by_row_x);
    if (!status) match_rows(s, model);
    return status;
}

/* ---- All together -------------------------------------------------------------------------------------- */

kw_status kw__scaling_new(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                          const kw_predict_options *options, enum kw__scaling_axis axis,
                          const struct kw__scaling_value *values, size_t count, struct kw__scaling **out,
                          kw_error *err)
{
    struct kw__scaling *s = calloc(1, sizeof *s);
    if (!s) return kw__fail_memory(err);
    kw__arena_init(&s->arena);
    s->axis = axis;
    struct kw__scaling_value *all = NULL;
    kw_status status = values ? KW_OK : default_values(axis, &s->arena, &all, &count, err);
    if (!status)
        status = add_points(s, catalog, model, request, options, values ? values : all, count, values, err);
    if (!status) status = add_exponents(s, err);
    if (!status) status = add_published(s, catalog, model, request, options, err);
    if (status)
        kw__scaling_free(s);
    else
        *out = s;
    return status;
}

void kw__scaling_free(struct kw__scaling *scaling)
{
    if (!scaling) return;
    for (size_t i = 0; i < scaling->num_points; i++) kw_prediction_free(scaling->points[i].prediction);
    for (size_t i = 0; i < 2; i++) kw__dataset_close(scaling->sets[i]);
    kw__arena_free(&scaling->arena);
    free(scaling);
}
