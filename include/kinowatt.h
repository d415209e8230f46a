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
    double guidance_scale;   /* < 0: default; <= 1 runs one pass, as diffusers does */
    double guidance_scale_2; /* of the second transformer of models that have two; < 0: guidance_scale */
    int64_t prompt_tokens, negative_tokens; /* real tokens before padding; < 0: assumed */
    double flow_shift, fps;                 /* 0: default */
    double power_limit_w;                   /* 0: the hardware's */
    int64_t
        size_of_clip; /* 1: width and height must come out, as a finished clip has them, not be asked for */
} kw_request;
#define KW_REQUEST_INIT                                                                                      \
    {                                                                                                        \
        sizeof(kw_request), 0, 0, 0, 0, 0, -1.0, -1.0, -1, -1, 0.0, 0.0, 0.0, 0                              \
    }

/* A request after the pipeline's own rules (WAN: frames become 4n+1, sizes must be multiples of 16;
 * LTX-Video: twice two thirds of the size, down to a multiple of 32), every default filled in, and what
 * follows from it. */
typedef struct kw_effective {
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    int64_t requested_width, requested_height, requested_frames;
    int64_t guidance_passes; /* 1 or 2 */
    double guidance_scale;
    double guidance_scale_2;                             /* NaN: the model has one transformer */
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

/* What bounds a stage: the dispatch of kernels, memory bandwidth, arithmetic, the power limit, or the host:
 * copies from and to it, and what it computes. */
typedef enum kw_regime {
    KW_REGIME_LAUNCHES,
    KW_REGIME_MEMORY,
    KW_REGIME_COMPUTE,
    KW_REGIME_POWER,
    KW_REGIME_HOST
} kw_regime;
KW_API const char *kw_regime_name(kw_regime regime);

typedef struct kw_predict_options {
    size_t struct_size;
    kw_method method;
    const char *hardware; /* NULL: the calibration's; without one "h100-sxm", "cpu" with a stack of the CPU */
    /* NULL: the calibration's; without one "diffusers-0.34", on a CPU "kinowatt-cpu" or, without bf16,
     * "kinowatt-cpu-f32" */
    const char *stack;
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
    double bytes;    /* moved through device memory by what the stack runs, offloaded weights too */
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

/* ---- Meters ------------------------------------------------------------------------------- */

/* A meter says how much energy this machine used between two moments, device by device:
 *
 *     kw_meter *meter;
 *     kw_meter_options options = KW_METER_OPTIONS_INIT;
 *     kw_meter_open(&options, &meter, &err);      // never fails because a counter is missing
 *     kw_meter_begin(meter, "generate", &err);
 *     kw_meter_begin(meter, "denoise", &err);     // windows nest
 *     ...
 *     kw_meter_switch(meter, "decode", &err);     // ends "denoise" at the instant "decode" begins
 *     ...
 *     kw_meter_end(meter, "decode", &err);
 *     kw_meter_end(meter, "generate", &err);
 *     kw_meter_window w = {.struct_size = sizeof w};
 *     kw_meter_window_get(meter, 1, &w, &err);    // "denoise": w.energy_j[KW_GPU].value ...
 *     kw_meter_close(meter);
 *
 * Sources: nvml (GPUs, through libnvidia-ml.so.1), rapl (CPU packages and memory, through the Linux
 * powercap folder), replay (a recorded trace), null (nothing, and says so). Each is read by a thread of
 * its own: one that does not answer delays neither the program nor the other sources. Its windows
 * become absent, or, when it answers again, measured with their gap stated.
 *
 * Energy is read from cumulative counters. A counter moves in steps (NVML: every 100 ms, 70 J at
 * 700 W), so its value at the edge of a window is known to lie between two steps and is taken from the
 * straight line through them; low and high are what the steps and the power limit leave open. They do
 * not hold the sensor's own calibration error. Where there is no usable counter the power reading is
 * integrated instead, and `method` says so.
 *
 * The value at an instant is the same for all windows that begin or end there: windows that touch add
 * up exactly, and what is nested is never more than what holds it. Nothing is ever subtracted: an idle
 * baseline stands beside the figures.
 *
 * Reading costs processor time (NVML: 1 to 4 ms). A source whose reads are dear is read less often, and at
 * its full rate only around the edges of windows: in all it takes 2 % of one core at most, whatever runs
 * beside it.
 *
 * kw_meter_begin, _switch and _end neither allocate nor wait for a device. One thread at a time calls
 * a meter. */

typedef struct kw_meter kw_meter;

typedef struct kw_meter_options {
    size_t struct_size;
    const char *sources;         /* comma-separated names; NULL: "nvml,rapl" */
    const char *visible_devices; /* as CUDA_VISIBLE_DEVICES, which NULL reads */
    const char *trace;           /* the file replay reads */
    double period_s;             /* between two reads at least, 0.001 to 10; 0: 0.02 for nvml, 0.1 for rapl */
    double start_timeout_s;      /* how long kw_meter_open waits for a source; 0: 20 */
    double settle_s;             /* how long after its end a window waits for its last reading; 0: 1 */
    size_t max_windows;          /* 0: 4096 */
    size_t trace_samples;        /* kept for kw_meter_trace_csv, newest win; 0: 8192 */
    const char *nvml_library;    /* NULL: "libnvidia-ml.so.1" */
    const char *powercap;        /* NULL: "/sys/class/powercap" */
} kw_meter_options;
#define KW_METER_OPTIONS_INIT                                                                                \
    {                                                                                                        \
        sizeof(kw_meter_options), NULL, NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL                                \
    }

/* Opens the sources and takes a first reading of each. A source that is missing or silent leaves its
 * devices absent; only a bad option, a bad trace or a lack of memory or threads fails. */
KW_API kw_status kw_meter_open(const kw_meter_options *options, kw_meter **out, kw_error *err);

/* Waits for the sources to stop, for a second at most: one that hangs is left behind and frees its
 * memory should it ever return. */
KW_API void kw_meter_close(kw_meter *meter);

/* Seconds since the meter was opened, by the monotonic clock; for replay, the trace's time. */
KW_API double kw_meter_now_s(kw_meter *meter);

/* Begins a window inside the one begun last. `name` (1 to 63 bytes) is copied. KW_ERROR_USAGE: 32
 * windows are open already; KW_ERROR_UNSUPPORTED: max_windows are used up. The program can go on. */
KW_API kw_status kw_meter_begin(kw_meter *meter, const char *name, kw_error *err);

/* Ends the window begun last, which `name` must name: KW_ERROR_USAGE otherwise, and it stays open. */
KW_API kw_status kw_meter_end(kw_meter *meter, const char *name, kw_error *err);

/* Ends the window begun last and begins another at the same instant. */
KW_API kw_status kw_meter_switch(kw_meter *meter, const char *name, kw_error *err);

/* Windows of several threads or processes, which need not nest, and whose edges one hears of a little later
 * than they were: begin and end lie at `at_s` on kw_meter_now_s's clock. `parent` is the window it is
 * said to be nested in, -1: none. Any number may be open. Energies are as exact as if the call had come
 * in time while the readings of that moment are kept, which is half a second at least and 10 s as a rule; an
 * older edge is moved to the oldest reading, one in the future or before the window's beginning likewise,
 * and `moved_s` says by how much. What stands beside the energies (samples, clocks, maxima) is of the
 * readings that came between the two calls. */
KW_API kw_status kw_meter_open_window(kw_meter *meter, const char *name, int64_t parent, double at_s,
                                      size_t *window, kw_error *err);
KW_API kw_status kw_meter_close_window(kw_meter *meter, size_t window, double at_s, kw_error *err);

/* The time on the meter's clock at a moment of CLOCK_MONOTONIC, in seconds. */
KW_API double kw_meter_at_s(kw_meter *meter, double monotonic_s);

/* Measures the machine as it is for `seconds`, as a window named "idle"; from then on each window's
 * `idle_power_w` says what was drawn. */
KW_API kw_status kw_meter_idle(kw_meter *meter, double seconds, kw_error *err);

typedef struct kw_meter_window {
    size_t struct_size; /* set by the caller */
    const char *name;
    int64_t parent;        /* the window this one is nested in, -1: none */
    double begin_s, end_s; /* on kw_meter_now_s's clock */
    double duration_s;
    kw_reading energy_j[KW_NUM_DEVICES];
    kw_reading power_w[KW_NUM_DEVICES];      /* mean: energy over duration */
    kw_reading max_power_w[KW_NUM_DEVICES];  /* the highest reading, which is itself a mean over a period */
    kw_reading idle_power_w[KW_NUM_DEVICES]; /* of kw_meter_idle; never subtracted */
    int64_t failed_reads;                    /* of all its channels */
    double gap_s;                            /* the longest time that one of its channels went unread */
    double moved_s;                          /* how far its edges were moved, as they came too late */
} kw_meter_window;

/* Windows count from 0 in the order of the calls that began them. _get waits until the last reading of an
 * ended window has come, settle_s after its end at most. KW_ERROR_USAGE: no such window, or it is still open.
 * Strings belong to the meter. */
KW_API size_t kw_meter_window_count(kw_meter *meter);
KW_API kw_status kw_meter_window_get(kw_meter *meter, size_t window, kw_meter_window *out, kw_error *err);

/* A channel is one counter: a GPU, a CPU package, a memory zone. */
typedef struct kw_meter_channel {
    size_t struct_size; /* set by the caller */
    const char *source; /* "nvml" */
    const char *label;  /* a GPU's UUID; "package-0" */
    const char *name;   /* the device's, "NVIDIA H200"; NULL: none */
    const char *note;   /* what to know about its figures; NULL: nothing */
    int device;         /* KW_GPU, ... */
    double limit_w;     /* its power limit; NaN: not known */
} kw_meter_channel;
KW_API size_t kw_meter_channel_count(kw_meter *meter);
KW_API kw_status kw_meter_channel_get(kw_meter *meter, size_t channel, kw_meter_channel *out, kw_error *err);

/* What was found on a channel during a window. */
enum {
    KW_METER_GAP = 1,      /* reads failed or came late; energies by counter stay right across it */
    KW_METER_FROZEN = 2,   /* the counter stood still while power was drawn: it was not used */
    KW_METER_DISAGREES = 4 /* counter and integrated power differ by more than both allow and 5 %;
                            * not asked of a window with fewer than ten readings */
};

typedef enum kw_meter_method { KW_METER_NONE, KW_METER_BY_COUNTER, KW_METER_BY_POWER } kw_meter_method;

typedef struct kw_meter_detail {
    size_t struct_size; /* set by the caller */
    kw_meter_method method;
    unsigned flags;
    kw_reading energy_j; /* by `method` */
    kw_reading by_counter_j, by_power_j;
    int64_t samples, failed_reads, gaps;
    double gap_s;
    kw_reading sm_clock_mhz, memory_clock_mhz, temperature_c; /* mean; low and high are the extremes */
    uint64_t throttle_reasons; /* NVML's clock event reasons, all that were seen */
    int throttle_known;        /* 0: the channel does not tell */
    int64_t other_processes;   /* the most that used it and are not ours or our children's; -1: not known */
} kw_meter_detail;
KW_API kw_status kw_meter_detail_get(kw_meter *meter, size_t window, size_t channel, kw_meter_detail *out,
                                     kw_error *err);

/* "power cap, hardware thermal slowdown", or "none". Returns `buffer`. */
KW_API const char *kw_meter_throttle_text(uint64_t reasons, char *buffer, size_t size);

/* The samples kept so far as a trace that replay reads (docs/METERS.md). *lost, when not NULL, counts
 * the older ones that no longer fitted. The caller frees *out with free(). */
KW_API kw_status kw_meter_trace_csv(kw_meter *meter, char **out, int64_t *lost, kw_error *err);

/* ---- Marks -------------------------------------------------------------------------------- */

/* A program that `kinowatt record` runs tells it where its stages begin and end:
 *
 *     kw_mark_begin("denoise");
 *     ...                          // work that is finished when it returns: wait for the GPU
 *     kw_mark_end("denoise");
 *
 * Stages nest, those of a process's threads as if there were one, and those of several processes overlap
 * freely. Without a record (the environment has no KINOWATT_SOCKET) the calls do nothing. They never fail,
 * allocate or keep anything, may be called from any thread, and take some 5 us. Names have 1 to 63 bytes;
 * NULL is no mark. docs/RECORD.md has the protocol. */
KW_API void kw_mark_begin(const char *name);
KW_API void kw_mark_end(const char *name);

/* Ends the stage that this call began last in this process and begins the next. */
KW_API void kw_mark_next(const char *name);

/* A setting of the run: "attention", "cudnn". Names have letters, digits, '_', '-' and '.'; the last value of
 * a name stands. */
KW_API void kw_mark_set(const char *name, const char *value);

#ifdef __cplusplus
}
#endif
#endif
