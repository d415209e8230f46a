/* From a prompt to a clip: text encoding, denoising and decoding on a backend, under a meter.
 *
 *     struct kw__pipeline *pipeline;
 *     struct kw__clip clip;
 *     kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err);   // tokens, plans, memory
 *     kw__pipeline_load(pipeline, &err);                                        // the weights
 *     kw__pipeline_run(pipeline, seed, &clip, &err);                            // any number of times
 *     clip.frames, clip.stages[1].seconds, clip.stages[1].energy_j[KW_CPU] ...
 *     kw__clip_free(&clip);
 *     kw__pipeline_close(pipeline);
 *
 * What runs is the program that `kinowatt predict` counts with the same stack, the prompts' real token
 * counts in the request. The noise is engine/random.h's stream "noise" / "latents" of the seed, scaled to
 * standard deviation 1, so one seed gives one clip on one backend.
 *
 * Tokens come from tokenizer/spiece.model or vocab.json of the weights' folder, else of the model's. Random
 * weights without any take bytes (text/tokenizer.h); a checkpoint without a tokenizer is refused.
 *
 * A meter that fails stops nothing: figures become absent, with the reason. */
#ifndef KW_ENGINE_PIPELINE_H
#define KW_ENGINE_PIPELINE_H

#include "engine/cpu/memory.h"
#include "engine/exec.h"
#include "meter/meter.h"

struct kw__pipeline;

struct kw__pipeline_options {
    const struct kw__backend *backend; /* NULL: cpu */
    struct kw__device_options device;
    const char *stack;   /* NULL: "kinowatt-cpu" where the device has its dtypes, else "kinowatt-cpu-f32" */
    const char *weights; /* as kw__weights_open has it; NULL: "random" */
    const char *prompt, *negative_prompt; /* NULL: "" */
    double memory_limit_bytes;            /* 0: what is available on this machine */
    /* After each operator, instead of after each step alone: the first value with NaN or infinity. */
    bool check;
    kw_meter *meter; /* NULL: no energies */
    void *user;
    /* NULL, or: false stops with KW_ERROR_CANCELLED. While weights are read, `stage` is "weights". */
    bool (*progress)(void *user, const struct kw__progress *at);
    /* NULL, or: told what a person who waits should know; a line without its end. */
    void (*note)(void *user, const char *text);
    /* NULL, or: given the denoised latents [B, C, T, h, w] before they are decoded. */
    kw_status (*latents)(void *user, const int64_t dim[5], const float *latents, kw_error *err);
};

/* A window of a run. */
struct kw__clip_stage {
    const char *name;
    double seconds;
    int64_t window; /* the meter's, -1: none */
    kw_reading energy_j[KW_NUM_DEVICES], power_w[KW_NUM_DEVICES];
    kw_reading idle_power_w[KW_NUM_DEVICES]; /* of the baseline before the run; never subtracted */
    int64_t failed_reads;                    /* of the meter */
    double gap_s;                            /* the longest time that it did not answer */
    double cpu_clock_mhz; /* as it ended, mean over the cores; NaN: the system does not tell */
    double other_cores;   /* that other processes kept busy, mean; NaN likewise, and in less than 0.1 s */
};

struct kw__clip {
    uint8_t *frames;                              /* [B, F, H, W, 3] */
    struct kw__clip_stage stages[KW__MAX_STAGES]; /* in the order they ran */
    int num_stages;
    struct kw__clip_stage total; /* from the first to the last, what lies between them included */
    int cores;                   /* of this machine */
    double peak_anonymous_bytes; /* of this process, from the load on; NaN: the system does not tell */
    double peak_resident_bytes;  /* the same with mapped files, since the process began */
};

enum { KW__PIPELINE_WARNINGS = 6 };

/* What is known once a pipeline is open. Strings belong to it. */
struct kw__pipeline_info {
    kw_effective request;
    const char *stack, *backend, *tokenizer;
    const char *weights; /* "checkpoint", "random:0:normal" */
    struct kw__dtypes dtypes;
    size_t tokens[2], whole_tokens[2]; /* of prompt and negative prompt: as used, without the limit */
    struct kw__cpu_need memory;
    double needed_bytes; /* all of `memory`: what kinowatt predict says too */
    double load_s;       /* NaN until loaded */
    size_t num_warnings;
    const char *warnings[KW__PIPELINE_WARNINGS];
};

/* KW_ERROR_MEMORY, with the figures, when it needs more memory than is available: nothing of that size has
 * been allocated then. `model` and `catalog` may be closed afterwards, what options point to may not. */
kw_status kw__pipeline_open(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                            const struct kw__pipeline_options *options, struct kw__pipeline **out,
                            kw_error *err);
void kw__pipeline_close(struct kw__pipeline *pipeline);

struct kw__pipeline_info kw__pipeline_info(const struct kw__pipeline *pipeline);

kw_status kw__pipeline_load(struct kw__pipeline *pipeline, kw_error *err);

/* When the latents are no longer finite the stages run once more, each operator checked, and the message
 * names the first that made such a value; `note` is told before. */
kw_status kw__pipeline_run(struct kw__pipeline *pipeline, uint64_t seed, struct kw__clip *out, kw_error *err);
void kw__clip_free(struct kw__clip *clip);

#endif
