/* The results of arXiv 2509.19222 made again: what the paper prints
 * (data/published/delavande2025_paper.json), its closed form on the authors' rows, and our predictions of the
 * same requests.
 *
 * Every figure but the printed ones is computed here from the data sets, the configs and the hardware
 * profiles. Predictions use the shipped calibration of the paper's stack on its hardware, which is fitted
 * to the sweeps: on them they are in-sample. */
#ifndef KW_PREDICT_REPRODUCTION_H
#define KW_PREDICT_REPRODUCTION_H

#include <jansson.h>

#include "predict/calibration.h"
#include "predict/dataset.h"
#include "predict/paper.h"

enum { KW__REPRO_SWEEPS = 3, KW__REPRO_MODELS = 16, KW__REPRO_ACCELERATORS = 16 };

/* Mean of absolute relative errors, in percent; NaN of none. */
struct kw__repro_error {
    double mean, largest, bias;
    int count;
};

/* A row of a sweep, as the closed form and we predict it. */
struct kw__repro_point {
    const struct kw__row *row;
    double x;    /* pixels of a frame, frames as asked for, steps */
    bool scored; /* by the paper: its frame or step count is a multiple of 4 */
    double paper_flop, paper_latency_s, paper_gpu_wh;
    kw_prediction *ours; /* shared by rows of one request */
};

struct kw__repro_sweep {
    const char *axis, *figure;              /* "resolution", "figure 2" */
    double printed_latency, printed_energy; /* percent */
    struct kw__repro_point *points;         /* x ascends */
    size_t count;
    struct kw__repro_error paper_latency, ours_latency; /* of the rows the paper scored */
    struct kw__repro_error paper_energy, ours_energy;   /* of all rows with a public energy */
    /* ours on the same rows, from fits that have not seen the request, or the sweep */
    struct kw__repro_error group_out_latency, group_out_energy, axis_out_latency, axis_out_energy;
};

/* latency = FLOPs / (mu peak) + overhead, by least squares over all rows of the sweeps */
struct kw__repro_line {
    double mu, overhead_s, r2;
};

enum kw__repro_component {
    KW__REPRO_TEXT,
    KW__REPRO_TIME,
    KW__REPRO_SELF,
    KW__REPRO_CROSS,
    KW__REPRO_MLP,
    KW__REPRO_DECODER,
    KW__REPRO_OTHER, /* what the paper leaves out: patches, head, solver, output, ... */
    KW__REPRO_COMPONENTS
};
extern const char *const kw__repro_component_names[KW__REPRO_COMPONENTS];

/* One request in parts. */
struct kw__repro_breakdown {
    kw_prediction *ours;
    double paper_flop[KW__REPRO_COMPONENTS], flop[KW__REPRO_COMPONENTS], latency_s[KW__REPRO_COMPONENTS];
};

/* A model of table 4. */
struct kw__repro_model {
    const char *model, *title;
    double printed_latency[2], printed_wh[KW_NUM_DEVICES][2], printed_share[2]; /* mean, sd; gpu, cpu */
    int64_t width, height, frames, steps;                                       /* table 2 */
    bool labelled; /* the authors' rows carry another request: */
    int64_t label_width, label_height, label_frames, label_steps;
    const struct kw__row *row; /* what ran; NULL when there is none */
    kw_prediction *ours;       /* NULL: the model is not built in */
};

struct kw__repro_accelerator {
    const char *title, *hardware, *note;                     /* hardware NULL: there is no profile */
    double flop_per_s, bytes_per_s, balance, attention, mlp; /* printed */
    double our_flop_per_s, our_bytes_per_s;                  /* NaN without a profile */
    kw_thresholds ours;
};

/* Constants of the closed form, the paper's and the config's. */
struct kw__repro_constant {
    const char *what;
    double paper, real;
};
enum { KW__REPRO_CONSTANTS = 6 };

struct kw__reproduction {
    struct kw__arena arena;
    json_t *paper;
    struct kw__dataset *sets[3]; /* sweeps, models, and the same models on H200s */
    const char *title, *id, *model, *hardware, *stack, *calibration, *calibration_date, *calibration_basis;
    bool stand_in; /* the calibration is another stack's or hardware's */
    double printed_mu, printed_r2, power_w, peak_flop_per_s;
    struct kw__repro_sweep sweeps[KW__REPRO_SWEEPS];
    struct kw__repro_line through_zero, with_overhead, exact; /* exact: of the graph's FLOPs, through zero */
    struct kw__repro_breakdown breakdowns[3];
    kw_prediction **frames; /* the frame sweep's distinct requests, for the decoder's curve */
    size_t num_frames;
    kw_prediction **on_h200; /* of the rows of sets[2]: NULL where it is no request of the paper's, not built
                                in, or ran with offloading and the stack does not */
    struct kw__repro_model models[KW__REPRO_MODELS];
    size_t num_models;
    struct kw__repro_accelerator accelerators[KW__REPRO_ACCELERATORS];
    size_t num_accelerators;
    struct kw__repro_constant constants[KW__REPRO_CONSTANTS];
    kw_prediction **owned;
    size_t num_owned, owned_capacity;
};

/* `calibration` NULL: the shipped one. */
kw_status kw__reproduction_new(const kw_catalog *catalog, const char *calibration,
                               struct kw__reproduction **out, kw_error *err);
void kw__reproduction_free(struct kw__reproduction *reproduction);

/* A member of the paper's file, by path: ("sweeps", "runs"). NaN when it is not a number. */
double kw__repro_printed(const struct kw__reproduction *reproduction, const char *object, const char *key);
const char *kw__repro_where(const struct kw__reproduction *reproduction, const char *object);

/* Whether the H200's row is of the request that the paper ran: of its size where there is one of that, else
 * (LTX names the size before it is rounded) of the model. */
bool kw__repro_same_request(const struct kw__dataset *set, const struct kw__row *row,
                            const struct kw__row *paper);

/* Least squares of y = slope x + constant (constant 0 when `through_zero`); the files' tests call it. */
void kw__fit_line(const double *x, const double *y, size_t count, bool through_zero, double *slope,
                  double *constant, double *r2);

#endif
