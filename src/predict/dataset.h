/* Measured rows: the CSV files of data/published and others like them, read strictly; rows of the store
 * are made the same (store/measured.h).
 *
 * - A file's header is exactly the one known here; every row has as many fields, and each number is a
 *   finite one in its range. What is wrong is said with file, line and column.
 * - An empty field is absent: NaN for a figure, NULL for a text. A row without a latency is refused.
 * - Fields are quoted as RFC 4180 says; lines end in LF or CRLF, also the last. */
#ifndef KW_PREDICT_DATASET_H
#define KW_PREDICT_DATASET_H

#include <stdbool.h>

#include "base/arena.h"
#include "kinowatt.h"

struct kw__row {
    const char *sweep; /* "resolution", "frames", "steps"; NULL outside sweeps */
    const char
        *session;       /* rows of one machine state have it in common, as those of a sweep; NULL: not said */
    const char *what;   /* "forward", "vae_decode", a stage, "pipeline"; NULL: a whole pipeline */
    const char *stages; /* of a pipeline: what was timed, "denoise+decode"; NULL: all of it */
    const char *model;  /* a slug of the catalog where there is one, else the file's own name */
    const char *stack;  /* NULL: not said */
    const char *gpu;    /* as published, "H100-SXM-80GB"; of the store: a profile's name */
    const char *source; /* of the row, or of its file */
    const char *note;
    const char *basis;         /* NULL, "measured": it was; else how it was computed from other runs */
    const char *decoder_dtype; /* "f32"; NULL: not said, as the stack has it */
    const char *weights, *vae_dtype, *tiling, *offload; /* as a file has them: "random:0:normal", "float32",
                                                           "True"; NULL: not said */
    int64_t width, height, frames, steps, batch_size;   /* as asked for; frames before any rounding */
    int64_t frames_out;                                 /* that came out; 0: not said */
    int64_t prompt_tokens, negative_tokens;             /* -1: not said */
    int64_t repeats;                /* runs whose mean it is, or from which it was computed; 0: not said */
    double guidance_scale;          /* NaN: not said */
    double latency_s, latency_sd_s; /* sd: of one such run */
    double energy_wh[KW_NUM_DEVICES], energy_sd_wh[KW_NUM_DEVICES];
    bool size_of_clip; /* width and height are those that came out, not as asked for */
    int whole;         /* the row of the pipeline that this is a stage of; -1: none */
    int line;          /* of the file, from 1 */
};

/* Rows that are in no fit and in no score. */
struct kw__left_out {
    const char *why;
    int count;
};
struct kw__left_outs {
    struct kw__left_out *list;
    size_t count, capacity;
};
/* Counts one more; no memory shows in the arena. Beyond a few dozen reasons they are counted together. */
void kw__leave_out(struct kw__left_outs *all, struct kw__arena *arena, const char *why);
/* Why most of them are; NULL: none is. */
const char *kw__most_left_out(const struct kw__left_outs *all);

struct kw__dataset {
    struct kw__arena arena;
    const char *name, *path;
    struct kw__row *rows;
    size_t num_rows, capacity;
    struct kw__left_outs left_out;
};

/* Reads <data>/published/<name>.csv: "delavande2025_wan_sweeps", "delavande2025_models",
 * "mlenergy_v3_one_gpu", "h200_diffusers040"; or "h200_diffusers_full" of
 * <data>/measured/h200-diffusers. KW_ERROR_NOT_FOUND for another name. */
kw_status kw__dataset_open(const kw_catalog *catalog, const char *name, struct kw__dataset **out,
                           kw_error *err);
/* The same from any path, in the format of the named one; name NULL: in the format whose header it has. What
 * the format's file is known for, its source and its stack, is only said of that file: of another with the
 * same columns the source is its name, and the stack what a column says. */
kw_status kw__dataset_read(const kw_catalog *catalog, const char *name, const char *path,
                           struct kw__dataset **out, kw_error *err);
/* Reads what is good of a file in any of these formats: `bad` is told of each row that is not. Models are
 * named as the file does. Times and energies may be 0, of which the linter says what is wrong; the functions
 * above refuse them. */
kw_status kw__dataset_read_good(const kw_catalog *catalog, const char *path,
                                void (*bad)(void *user, const kw_error *why), void *user,
                                struct kw__dataset **out, kw_error *err);
void kw__dataset_close(struct kw__dataset *dataset);
/* Whether the file of a data set is there: an installation without it has no rows. */
kw_status kw__dataset_exists(const kw_catalog *catalog, const char *name, bool *out, kw_error *err);

/* Whether a row was measured, not computed. */
bool kw__row_measured(const struct kw__row *row);
/* What a row asks for; what it does not say is the model's default. */
kw_request kw__row_request(const struct kw__row *row);
/* The catalog's slug of a model that the Hub names so ("Wan-AI/Wan2.1-T2V-14B-Diffusers"), in the arena; the
 * name itself where the catalog has none. */
kw_status kw__slug_of(const kw_catalog *catalog, const char *hub_id, struct kw__arena *arena,
                      const char **out, kw_error *err);
/* Whether two requests of one model run the same: size, frames, steps, guidance passes and batch. */
bool kw__same_run(const kw_effective *a, const kw_effective *b);
/* Whether a file's or a setting's text says that weights waited in host memory; NULL: it says nothing, no. */
bool kw__offloaded(const char *offload);

/* Whether a run with or without CPU offload, "True" or "False", ran as a stack runs that model; true when it
 * does not say (NULL). Of no stack: without. */
bool kw__offloads_as(const char *offload, const kw_catalog *catalog, const kw_model *model,
                     const char *stack_name);

#endif
