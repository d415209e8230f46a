/* kinowatt: latency and energy of text-to-video models, predicted from their config files.
 *
 * Usage, in the order a program makes the calls (examples/predict.c is this, compiled by the tests):
 *
 *     kw_error err;
 *     kw_catalog *catalog;      // the data folder: models, hardware, stacks, calibrations
 *     kw_model *model;          // a built-in slug, or a folder in Hugging Face diffusers layout
 *     kw_prediction *p;
 *     kw_catalog_open(NULL, &catalog, &err);
 *     kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, &err);
 *     kw_request request = KW_REQUEST_INIT;       // zeros: the model's own defaults hold
 *     request.num_frames = 49;
 *     kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
 *     options.hardware = "h100-sxm";
 *     kw_predict(catalog, model, &request, &options, &p, &err);
 *     p->total.latency_s.value, p->total.energy_j[KW_GPU].value ...
 *     kw_prediction_free(p); kw_model_close(model); kw_catalog_close(catalog);
 *
 * What happens inside. A model and a request are *lowered* to a graph of operators that means what
 * diffusers computes (the reference). A *stack*, the software that runs it, is a data file of named
 * rewrites, dtypes and eager kernel lists applied to that graph. The result is *counted* (FLOPs,
 * bytes, launches, memory) and *priced* by a predictor on a hardware profile with a calibration.
 *
 * Errors. Every function that can fail returns a kw_status and, when `err` is not NULL, fills it
 * with the same code and one line that says what to do. On failure no output is written and nothing
 * is left allocated. The library never prints, exits or aborts, and keeps no process state: handles
 * may be used from several threads as long as each handle is used by one at a time.
 *
 * Ownership. What a call returns through a `**out` belongs to the caller, who releases it with the
 * matching close or free (NULL is allowed there). Strings inside structs belong to the struct.
 *
 * Units are in the names: _s seconds, _j joules, _wh watt-hours, _w watts, _bytes, _flop (one
 * multiply-add is 2; matrix products, convolutions and the two products of attention are counted,
 * as PyTorch's FlopCounterMode does).
 *
 * Absence is never 0. A figure is a kw_reading: when its status is KW_ABSENT, value, low and high
 * are NaN and `reason` says why.
 */
#ifndef KINOWATT_H
#define KINOWATT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KW_VERSION_MAJOR 0
#define KW_VERSION_MINOR 1
#define KW_VERSION_PATCH 0

#if defined(__GNUC__)
#define KW_API __attribute__((visibility("default")))
#else
#define KW_API
#endif

/* The version of the library that is loaded, "0.1.0". */
KW_API const char *kw_version(void);

/* ---- Errors ------------------------------------------------------------------------------- */

typedef enum kw_status {
    KW_OK = 0,
    KW_ERROR_USAGE = 1,       /* an argument or request is not valid: the caller mends it */
    KW_ERROR_NOT_FOUND = 2,   /* what the caller names is not there: a model, a stack, a file, a folder */
    KW_ERROR_FORMAT = 3,      /* a file or folder is there but broken, incomplete or another model's */
    KW_ERROR_UNSUPPORTED = 4, /* valid, but this version cannot do it */
    KW_ERROR_IO = 5,          /* the system refused to read or write */
    KW_ERROR_MEMORY = 6,      /* out of memory */
    KW_ERROR_DEVICE = 7,      /* a device or permission is missing */
    KW_ERROR_CANCELLED = 8    /* the caller's callback asked to stop */
} kw_status;

typedef struct kw_error {
    kw_status code;
    char message[512]; /* one line, no newline */
} kw_error;

/* A short name of a status, "not found". */
KW_API const char *kw_status_name(kw_status status);

/* ---- Readings ----------------------------------------------------------------------------- */

typedef enum kw_reading_status { KW_ABSENT = 0, KW_MODELLED = 1, KW_MEASURED = 2 } kw_reading_status;

/* A figure with its 90 % interval. low and high are NaN where a method states none (`paper`). */
typedef struct kw_reading {
    double value, low, high;
    kw_reading_status status;
    const char *reason; /* why it is absent; NULL otherwise */
} kw_reading;

/* Energy is always by device. */
enum { KW_GPU = 0, KW_CPU = 1, KW_RAM = 2, KW_NUM_DEVICES = 3 };
KW_API const char *kw_device_name(int device); /* "gpu", "cpu", "ram" */

/* ---- The catalog: what this installation knows -------------------------------------------- */

typedef struct kw_catalog kw_catalog;

/* Opens a data folder (models/, hardware/, stacks/, calibrations/, published/). With NULL: the
 * environment's KINOWATT_DATA, else the data beside the running program, else where `make install`
 * put it. KW_ERROR_NOT_FOUND names the folder that was tried. */
KW_API kw_status kw_catalog_open(const char *data_dir, kw_catalog **out, kw_error *err);
KW_API void kw_catalog_close(kw_catalog *catalog);

typedef enum kw_kind { KW_MODELS, KW_HARDWARE, KW_STACKS, KW_CALIBRATIONS } kw_kind;

/* The names of one kind, sorted. The strings belong to the catalog. Calibrations: first the user's, in
 * ${XDG_DATA_HOME:-$HOME/.local/share}/kinowatt/calibrations, where `kinowatt calibrate --device` puts what
 * holds for this machine, then the data folder's that have other names. */
KW_API size_t kw_catalog_count(const kw_catalog *catalog, kw_kind kind);
KW_API const char *kw_catalog_name(const kw_catalog *catalog, kw_kind kind, size_t index);

/* ---- Models and requests ------------------------------------------------------------------ */

typedef struct kw_model kw_model;

/* Opens a model: a slug of the catalog ("wan2.1-t2v-1.3b") or the path of a folder in diffusers
 * layout (model_index.json and a config.json for each component). Only config files are read.
 * KW_ERROR_NOT_FOUND offers the nearest name; KW_ERROR_FORMAT names file and key. */
KW_API kw_status kw_model_open(const kw_catalog *catalog, const char *name, kw_model **out, kw_error *err);
KW_API void kw_model_close(kw_model *model);

typedef struct kw_model_info {
    size_t struct_size;    /* sizeof(kw_model_info), set by the caller */
    const char *name;      /* slug, or the folder's path */
    const char *pipeline;  /* "WanPipeline" */
    const char *hub_id;    /* NULL when not known */
    int64_t parameters[4]; /* text encoder, denoiser, decoder (the half that runs), all of them */
    const char *note;      /* what to know of it; NULL: nothing */
} kw_model_info;
KW_API kw_status kw_model_info_get(const kw_model *model, kw_model_info *info, kw_error *err);

/* What is asked of a model. 0 (negative for the token counts and the guidance) means "the model's
 * default". width, height in pixels; flow_shift is the scheduler's. */
typedef struct kw_request {
    size_t struct_size;
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    double guidance_scale;                  /* < 0: default; <= 1 runs one pass, as diffusers does */
    int64_t prompt_tokens, negative_tokens; /* real tokens before padding; < 0: assumed */
    double flow_shift, fps;                 /* 0: default */
    double power_limit_w;                   /* 0: the hardware's */
} kw_request;
#define KW_REQUEST_INIT                                                                                      \
    {                                                                                                        \
        sizeof(kw_request), 0, 0, 0, 0, 0, -1.0, -1, -1, 0.0, 0.0, 0.0                                       \
    }

/* A request after the pipeline's own rules (WAN: frames become 4n+1, sizes must be multiples of 16),
 * every default filled in, and what follows from it. */
typedef struct kw_effective {
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    int64_t requested_frames;
    int64_t guidance_passes; /* 1 or 2 */
    double guidance_scale;
    int64_t prompt_tokens, negative_tokens, text_tokens; /* text_tokens: after padding */
    double flow_shift, fps, power_limit_w;
    int64_t latent_channels, latent_frames, latent_height, latent_width;
    int64_t tokens; /* of the denoiser's sequence */
} kw_effective;

/* Fills `out`. KW_ERROR_USAGE names the option and the nearest valid value. */
KW_API kw_status kw_request_resolve(const kw_model *model, const kw_request *request, kw_effective *out,
                                    kw_error *err);

/* ---- Hardware ----------------------------------------------------------------------------- */

typedef struct kw_hardware kw_hardware;

/* Opens a profile by name ("h100-sxm", "cpu" for this machine, found by probing) or the path of a
 * JSON file. */
KW_API kw_status kw_hardware_open(const kw_catalog *catalog, const char *name, kw_hardware **out,
                                  kw_error *err);
KW_API void kw_hardware_close(kw_hardware *hardware);

typedef struct kw_hardware_value {
    const char *key, *unit, *source, *date, *note; /* note may be NULL */
    double value;
} kw_hardware_value;

KW_API const char *kw_hardware_name(const kw_hardware *hardware);
KW_API const char *kw_hardware_title(const kw_hardware *hardware);
KW_API const char *kw_hardware_kind(const kw_hardware *hardware); /* "gpu" or "cpu" */
KW_API size_t kw_hardware_count(const kw_hardware *hardware);
KW_API const kw_hardware_value *kw_hardware_at(const kw_hardware *hardware, size_t index);
/* The value of a key ("bf16_flop_per_s"), or NaN when the profile does not have it. */
KW_API double kw_hardware_get(const kw_hardware *hardware, const char *key);

/* Tokens above which attention and the MLP are bound by compute, as arXiv 2509.19222 (appendix B) puts
 * it. With s = 2 bytes a bf16 scalar, ridge = peak FLOP/s over bytes/s, l tokens of width d:
 *   attention: 4 l^2 d FLOPs over 2 l d s bytes (K and V), 2 l / s FLOPs a byte: l = s ridge / 2
 *   MLP: while l is far below d its weights are its traffic, l / s FLOPs a byte:  l = s ridge */
typedef struct kw_thresholds {
    double ridge_flop_per_byte, attention_tokens, mlp_tokens;
} kw_thresholds;
KW_API kw_status kw_hardware_thresholds(const kw_hardware *hardware, kw_thresholds *out, kw_error *err);

/* ---- Prediction --------------------------------------------------------------------------- */

typedef enum kw_method { KW_METHOD_KERNEL = 0, KW_METHOD_FLOPS = 1, KW_METHOD_PAPER = 2 } kw_method;
KW_API const char *kw_method_name(kw_method method);
KW_API kw_status kw_method_parse(const char *text, kw_method *out, kw_error *err);

/* What bounds a stage: the dispatch of kernels, memory bandwidth, arithmetic, or the power limit. */
typedef enum kw_regime { KW_REGIME_LAUNCHES, KW_REGIME_MEMORY, KW_REGIME_COMPUTE, KW_REGIME_POWER } kw_regime;
KW_API const char *kw_regime_name(kw_regime regime);

typedef struct kw_predict_options {
    size_t struct_size;
    kw_method method;
    const char *hardware;    /* NULL: "h100-sxm", or "cpu" with a stack that runs there */
    const char *stack;       /* NULL: "diffusers-0.34" */
    const char *calibration; /* NULL: the one for (stack, hardware), else the nearest, with a warning */
} kw_predict_options;
#define KW_PREDICT_OPTIONS_INIT                                                                              \
    {                                                                                                        \
        sizeof(kw_predict_options), KW_METHOD_KERNEL, NULL, NULL, NULL                                       \
    }

typedef struct kw_phase {
    const char *name;
    int64_t calls;
    double flop; /* of one call, of the reference graph */
} kw_phase;

/* One stage, one component, or the whole. */
typedef struct kw_cost {
    const char *name;
    double flop, flop_executed, flop_linear, flop_attention, flop_conv;
    double bytes;    /* moved through device memory by what the stack runs */
    double launches; /* device kernels */
    kw_regime regime;
    kw_reading latency_s, power_w; /* power of the GPU alone, mean over the stage */
    kw_reading energy_j[KW_NUM_DEVICES];
    const kw_phase *phases; /* stages only */
    size_t num_phases;
} kw_cost;

/* What others measured for one request; figures that were not published are NaN. */
typedef struct kw_published {
    const char *source, *gpu, *note; /* note may be NULL */
    const char *hardware;            /* the catalog's profile of that GPU; NULL when it has none */
    int64_t requested_frames;        /* before the pipeline's rounding */
    double latency_s, energy_wh[KW_NUM_DEVICES];
} kw_published;

typedef struct kw_prediction {
    const char *model, *hardware, *stack, *calibration; /* calibration: NULL when none was used */
    kw_method method;
    kw_effective request;
    const kw_cost *stages;
    size_t num_stages;
    const kw_cost *components;
    size_t num_components;
    kw_cost total;
    kw_reading peak_memory_bytes;
    const char *const *assumptions;
    size_t num_assumptions;
    const char *const *warnings;
    size_t num_warnings;
    const kw_published *published; /* rows of the same request on any hardware */
    size_t num_published;
} kw_prediction;

/* Predicts. request and options may be NULL: all defaults. `paper` is defined for WAN2.1-1.3B alone
 * (KW_ERROR_UNSUPPORTED otherwise). */
KW_API kw_status kw_predict(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                            const kw_predict_options *options, kw_prediction **out, kw_error *err);
KW_API void kw_prediction_free(kw_prediction *prediction);

/* The prediction as JSON, schema kinowatt.prediction/1, one trailing newline. The caller frees
 * *out with free(). */
KW_API kw_status kw_prediction_to_json(const kw_prediction *prediction, char **out, kw_error *err);

/* ---- Explanation: the bill, operator by operator ------------------------------------------ */

typedef struct kw_bill_line {
    const char *stage, *component, *op, *kernel_class; /* op: "linear 1536x8960" */
    double calls, flop_executed, bytes, launches;      /* of all calls */
    double intensity;                                  /* executed FLOP per byte; NaN without bytes */
    kw_regime regime;
    double latency_s, gpu_energy_j; /* NaN when the method has none */
} kw_bill_line;

typedef struct kw_bill {
    const kw_bill_line *lines;
    size_t num_lines;
    const kw_prediction *prediction;
} kw_bill;

/* One line for each distinct operator of each component of each stage, largest time first within
 * its component. */
KW_API kw_status kw_explain(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                            const kw_predict_options *options, kw_bill **out, kw_error *err);
KW_API void kw_bill_free(kw_bill *bill);

/* ---- Published measurements --------------------------------------------------------------- */

typedef struct kw_published_list {
    const kw_published *rows;
    size_t num_rows;
} kw_published_list;

/* The published rows of a built-in model whose effective request is this one; none is no error. Prompts
 * and the seed do not count, since no published figure depends on them. */
KW_API kw_status kw_published_find(const kw_catalog *catalog, const kw_model *model,
                                   const kw_effective *request, kw_published_list **out, kw_error *err);
KW_API void kw_published_free(kw_published_list *list);

#ifdef __cplusplus
}
#endif
#endif
