/* Scaling laws: one request varied along one axis, predicted at each value, with local exponents and the
 * published measurements that were made on the same axis.
 *
 * The exponent of a figure y at x is d ln y / d ln x, the slope in a log-log plot: that of the parabola
 * through a point and the one on each side, at an end the slope to the one neighbour, so that it never leaves
 * the slopes between neighbours. Attention over L tokens makes it tend to 2 in pixels and frames; S
 * equal steps make it tend to 1 in steps. Fixed costs (text encoder, dispatch, decoding in steps) pull it
 * below. */
#ifndef KW_PREDICT_SCALING_H
#define KW_PREDICT_SCALING_H

#include "predict/dataset.h"

enum kw__scaling_axis { KW__AXIS_RESOLUTION, KW__AXIS_FRAMES, KW__AXIS_STEPS, KW__NUM_AXES };

/* "resolution", "frames", "steps" */
const char *kw__scaling_axis_name(enum kw__scaling_axis axis);
kw_status kw__scaling_axis_parse(const char *text, enum kw__scaling_axis *out, kw_error *err);

/* One value of an axis: a size, or a number of frames or steps. */
struct kw__scaling_value {
    int64_t width, height, count;
};
enum { KW__MAX_SCALING_VALUES = 512 };

/* "832x480,1280x720" or "1,5,81". KW_ERROR_USAGE names the value that is wrong. */
kw_status kw__scaling_parse(enum kw__scaling_axis axis, const char *text, struct kw__arena *arena,
                            struct kw__scaling_value **values, size_t *count, kw_error *err);

struct kw__scaling_point {
    double x; /* pixels of a frame, frames, or steps, as run */
    kw_prediction *prediction;
    double latency_exponent, energy_exponent; /* NaN for a single point; frames: see kw__scaling_new */
    size_t num_published;                     /* rows at this point, and their means: NaN without */
    double published_latency_s, published_gpu_wh;
};

struct kw__scaling_row {
    const struct kw__row *row;
    double x;
};

struct kw__scaling {
    struct kw__arena arena;
    enum kw__scaling_axis axis;
    struct kw__scaling_point *points; /* x ascends */
    size_t num_points;
    struct kw__dataset *sets[2];
    struct kw__scaling_row *rows; /* measured at this request in all but the axis; x ascends */
    size_t num_rows;
    const struct kw__row *elsewhere; /* of a published sweep of this axis at another request, if any */
    size_t num_elsewhere;
};

/* Predicts the axis. `values` NULL: the default range of the axis, of which values that the model refuses
 * are left out. Values that the pipeline makes one request of are one point. CogVideoX makes 8 k frames of
 * an even number of latent frames and 8 k + 1 of an odd one, one frame dearer by a whole latent frame: the
 * default range leaves 8 k out, and the slopes of given values are of each kind by itself. */
kw_status kw__scaling_new(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                          const kw_predict_options *options, enum kw__scaling_axis axis,
                          const struct kw__scaling_value *values, size_t count, struct kw__scaling **out,
                          kw_error *err);
void kw__scaling_free(struct kw__scaling *scaling);

/* d ln y / d ln x at each point; x ascends. Neighbours at the same x or without a positive y are passed
 * over; NaN where none is left. Never outside the slopes to the neighbours. */
void kw__local_exponents(const double *x, const double *y, size_t count, double *out);

#endif
