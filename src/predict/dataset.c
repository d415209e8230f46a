#include "predict/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/csv.h"
#include "base/error.h"
#include "base/number.h"
#include "graph/stack.h"
#include "model/catalog.h"
#include "model/family.h"

enum { MAX_COLUMNS = 24, LARGEST_FILE = 16 << 20 };

/* ---- What the files hold -------------------------------------------------------------------------- */

enum kind { SKIPPED, TEXT, COUNT, GUIDANCE, FIGURE };

struct column {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct kw__row */
    double factor; /* to the row's unit */
};

#define AT(field) offsetof(struct kw__row, field)
#define ENERGY(name, device, factor)                                                                         \
    {                                                                                                        \
        name, FIGURE, AT(energy_wh) + (device) * sizeof(double), factor                                      \
    }
#define ENERGY_SD(name, device)                                                                              \
    {                                                                                                        \
        name, FIGURE, AT(energy_sd_wh) + (device) * sizeof(double), 1.0                                      \
    }

struct format {
    const char *name, *source;
    const char *stack;  /* NULL: of none that there is */
    const char *stages; /* what its pipelines timed; NULL: all */
    const char *folder; /* below the data folder; NULL: "published" */
    bool size_of_clip;  /* its sizes are those that came out */
    struct column columns[MAX_COLUMNS];
};

static const struct format formats[] = {
    {"delavande2025_wan_sweeps",
     "arXiv 2509.19222",
     "diffusers-0.34",
     NULL,
     NULL,
     false,
     {{"sweep", TEXT, AT(sweep), 0},
      {"model", TEXT, AT(model), 0},
      {"gpu", TEXT, AT(gpu), 0},
      {"width", COUNT, AT(width), 0},
      {"height", COUNT, AT(height), 0},
      {"frames_requested", COUNT, AT(frames), 0},
      {"steps", COUNT, AT(steps), 0},
      {"latency_s", FIGURE, AT(latency_s), 1},
      ENERGY("gpu_energy_wh", KW_GPU, 1),
      ENERGY("cpu_energy_wh", KW_CPU, 1),
      ENERGY("ram_energy_wh", KW_RAM, 1)}},
    {"delavande2025_models",
     "arXiv 2509.19222",
     "diffusers-0.34",
     NULL,
     NULL,
     false,
     {{"model", TEXT, AT(model), 0},
      {"gpu", TEXT, AT(gpu), 0},
      {"width", COUNT, AT(width), 0},
      {"height", COUNT, AT(height), 0},
      {"frames_requested", COUNT, AT(frames), 0},
      {"frames_out", COUNT, AT(frames_out), 0},
      {"steps", COUNT, AT(steps), 0},
      {"guidance_scale", GUIDANCE, AT(guidance_scale), 1},
      {"n_prompts", COUNT, AT(repeats), 0},
      {"latency_mean_s", FIGURE, AT(latency_s), 1},
      {"latency_std_s", FIGURE, AT(latency_sd_s), 1},
      ENERGY("gpu_energy_mean_wh", KW_GPU, 1),
      ENERGY_SD("gpu_energy_std_wh", KW_GPU),
      ENERGY("cpu_energy_mean_wh", KW_CPU, 1),
      ENERGY_SD("cpu_energy_std_wh", KW_CPU),
      ENERGY("ram_energy_mean_wh", KW_RAM, 1),
      ENERGY_SD("ram_energy_std_wh", KW_RAM),
      {"note", TEXT, AT(note), 0}}},
    {"mlenergy_v3_one_gpu",
     "ML.ENERGY leaderboard v3.0, xDiT 0.4.5",
     NULL,
     NULL,
     NULL,
     false,
     {{"model", TEXT, AT(model), 0},
      {"gpu", TEXT, AT(gpu), 0},
      {"n_gpu", SKIPPED, 0, 0},
      {"batch_size", COUNT, AT(batch_size), 0},
      {"width", COUNT, AT(width), 0},
      {"height", COUNT, AT(height), 0},
      {"frames", COUNT, AT(frames), 0},
      {"steps", COUNT, AT(steps), 0},
      {"latency_s", FIGURE, AT(latency_s), 1},
      ENERGY("gpu_energy_j", KW_GPU, 1.0 / 3600)}},
    {"h200_diffusers040",
     "one H200, 2026-11-23, random weights",
     "diffusers-0.40",
     "denoise+decode", /* random text rows; the encoder did not run */
     NULL,
     false,
     {{"model", TEXT, AT(model), 0},
      {"gpu", TEXT, AT(gpu), 0},
      {"what", TEXT, AT(what), 0},
      {"width", COUNT, AT(width), 0},
      {"height", COUNT, AT(height), 0},
      {"frames", COUNT, AT(frames), 0},
      {"steps", COUNT, AT(steps), 0},
      {"guidance_scale", GUIDANCE, AT(guidance_scale), 1},
      {"latency_s", FIGURE, AT(latency_s), 1},
      ENERGY("gpu_energy_j", KW_GPU, 1.0 / 3600),
      {"source", TEXT, AT(source), 0},
      {"note", TEXT, AT(note), 0}}},
    {"h200_diffusers_full",
     "two H200s, 2026-11-24, random weights",
     "diffusers-0.40",
     NULL,
     "measured/h200-diffusers",
     true,
     {{"model", TEXT, AT(model), 0},
      {"hardware", TEXT, AT(gpu), 0},
      {"stack", TEXT, AT(stack), 0},
      {"width", COUNT, AT(width), 0},
      {"height", COUNT, AT(height), 0},
      {"num_frames", COUNT, AT(frames_out), 0},
      {"guidance_scale", GUIDANCE, AT(guidance_scale), 1},
      {"batch_size", COUNT, AT(batch_size), 0},
      {"weights", TEXT, AT(weights), 0},
      {"vae_dtype", TEXT, AT(vae_dtype), 0},
      {"tiling", TEXT, AT(tiling), 0},
      {"offload", TEXT, AT(offload), 0},
      {"num_frames_asked", COUNT, AT(frames), 0},
      {"num_inference_steps", COUNT, AT(steps), 0},
      {"basis", TEXT, AT(basis), 0},
      {"runs", COUNT, AT(repeats), 0},
      {"latency_s", FIGURE, AT(latency_s), 1},
      {"latency_sd_s", FIGURE, AT(latency_sd_s), 1},
      ENERGY("gpu_energy_wh", KW_GPU, 1),
      ENERGY_SD("gpu_energy_sd_wh", KW_GPU),
      {"note", TEXT, AT(note), 0}}},
};
enum { NUM_FORMATS = sizeof formats / sizeof formats[0] };

static kw_status find_format(const char *name, const struct format **out, kw_error *err)
{
    const char *names[NUM_FORMATS];
    for (size_t i = 0; i < NUM_FORMATS; i++) {
        names[i] = formats[i].name;
        if (strcmp(name, names[i]) == 0) {
            *out = &formats[i];
            return KW_OK;
        }
    }
    const char *nearest = kw__nearest_name(name, names, NUM_FORMATS);
    return kw__fail(err, KW_ERROR_NOT_FOUND, "unknown data set \"%s\"; did you mean \"%s\"?", name,
                    nearest ? nearest : names[0]);
}

/* ---- What is left out ------------------------------------------------------------------------------- */

void kw__leave_out(struct kw__left_outs *all, struct kw__arena *arena, const char *why)
{
    enum { MOST = 40 };
    if (all->count >= MOST) why = "other reasons";
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->list[i].why, why) == 0) {
            all->list[i].count++;
            return;
        }
    struct kw__left_out *list =
        kw__arena_grow(arena, all->list, all->count, &all->capacity, sizeof *all->list);
    if (!list) return;
    all->list = list;
    list[all->count] = (struct kw__left_out){kw__arena_strdup(arena, why), 1};
    if (list[all->count].why) all->count++;
}

const char *kw__most_left_out(const struct kw__left_outs *all)
{
    const struct kw__left_out *most = NULL;
    for (size_t i = 0; i < all->count; i++)
        if (!most || all->list[i].count > most->count) most = &all->list[i];
    return most ? most->why : NULL;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

static size_t count_columns(const struct format *format)
{
    size_t columns = 0;
    while (columns < MAX_COLUMNS && format->columns[columns].name) columns++;
    return columns;
}

static kw_status check_header(const struct kw__csv *r, const struct format *format, size_t *columns,
                              kw_error *err)
{
    *columns = count_columns(format);
    for (size_t i = 0; i < *columns; i++)
        if (i >= r->num_fields || strcmp(r->fields[i], format->columns[i].name) != 0)
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: column %zu must be \"%s\"", r->path, r->line, i + 1,
                            format->columns[i].name);
    if (r->num_fields > *columns)
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %zu columns instead of %zu", r->path, r->line,
                        r->num_fields, *columns);
    return KW_OK;
}

/* The format of a header. */
static kw_status recognise(const struct kw__csv *r, const struct format **out, kw_error *err)
{
    for (size_t i = 0; i < NUM_FORMATS; i++) {
        size_t columns;
        *out = &formats[i];
        if (!check_header(r, *out, &columns, NULL)) return KW_OK;
    }
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%s:%d: the columns are of no data set that is known; the first of %s are %s, %s, %s",
                    r->path, r->line, formats[0].name, formats[0].columns[0].name, formats[0].columns[1].name,
                    formats[0].columns[2].name);
}

static kw_status read_field(const struct kw__csv *r, const struct column *column, bool zeros, char *text,
                            struct kw__row *row, kw_error *err)
{
    char *target = (char *)row + column->offset;
    double value = NAN;
    if (column->kind == SKIPPED) return KW_OK;
    if (column->kind == TEXT) {
        const char *kept = text;
        if (*text) memcpy(target, &kept, sizeof kept);
        return KW_OK;
    }
    if (*text && !(kw__number_parse(text, &value) && isfinite(value)))
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %s is \"%.40s\"; it must be a number", r->path, r->line,
                        column->name, text);
    if (column->kind == COUNT) {
        if (!(value >= 1 && value <= 1e9) || value != floor(value))
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %s is \"%.40s\"; it must be a whole number from 1",
                            r->path, r->line, column->name, text);
        int64_t count = (int64_t)value;
        memcpy(target, &count, sizeof count);
        return KW_OK;
    }
    if (*text && (value < 0 || (column->kind == FIGURE && value == 0 && !zeros)))
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %s is \"%.40s\"; it must be %s 0", r->path, r->line,
                        column->name, text, zeros ? "at least" : "more than");
    value *= column->factor;
    memcpy(target, &value, sizeof value);
    return KW_OK;
}

/* `zeros`: figures may be 0. */
static kw_status read_row(const struct kw__csv *r, const struct format *format, size_t columns, bool zeros,
                          struct kw__row *row, kw_error *err)
{
    if (r->num_fields != columns)
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %zu fields instead of %zu", r->path, r->line,
                        r->num_fields, columns);
    *row = (struct kw__row){.source = format->source,
                            .stack = format->stack,
                            .size_of_clip = format->size_of_clip,
                            .batch_size = 1,
                            .prompt_tokens = -1,
                            .negative_tokens = -1,
                            .whole = -1,
                            .guidance_scale = NAN,
                            .latency_s = NAN,
                            .latency_sd_s = NAN,
                            .line = r->line};
    for (int d = 0; d < KW_NUM_DEVICES; d++) row->energy_wh[d] = row->energy_sd_wh[d] = NAN;
    for (size_t i = 0; i < columns; i++) {
        kw_status status = read_field(r, &format->columns[i], zeros, r->fields[i], row, err);
        if (status) return status;
    }
    if (!row->model || !row->gpu || isnan(row->latency_s))
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: model, gpu and latency must be there", r->path,
                        r->line);
    row->session = row->sweep;
    if (row->what && strcmp(row->what, "pipeline") == 0) row->stages = format->stages;
    return KW_OK;
}

kw_status kw__slug_of(const kw_catalog *catalog, const char *hub_id, struct kw__arena *arena,
                      const char **out, kw_error *err)
{
    *out = hub_id;
    for (size_t m = 0; strchr(hub_id, '/') && m < kw_catalog_count(catalog, KW_MODELS); m++) {
        const char *name = kw_catalog_name(catalog, KW_MODELS, m);
        bool is_it;
        kw_status status = kw__model_on_hub(catalog, name, hub_id, arena, &is_it, err);
        if (status) return status;
        if (!is_it) continue;
        *out = kw__arena_strdup(arena, name);
        return *out ? KW_OK : kw__fail_memory(err);
    }
    return KW_OK;
}

/* Replaces Hub names by slugs; those that follow on each other are often the same. */
static kw_status name_models(const kw_catalog *catalog, struct kw__dataset *set, kw_error *err)
{
    const char *before = "", *slug = "";
    kw_status status = KW_OK;
    for (size_t i = 0; i < set->num_rows && !status; i++) {
        if (strcmp(set->rows[i].model, before) != 0) {
            before = set->rows[i].model;
            status = kw__slug_of(catalog, before, &set->arena, &slug, err);
        }
        set->rows[i].model = slug;
    }
    return status;
}

/* Who is told of bad rows; NULL: the first is a failure. */
struct listener {
    void (*bad)(void *user, const kw_error *why);
    void *user;
};

/* The next row into *row; *more is false behind the last. */
static kw_status next_row(struct kw__csv *r, const struct format *format, size_t columns,
                          const struct listener *listener, struct kw__row *row, bool *more, kw_error *err)
{
    for (;;) {
        kw_error why = {0};
        kw_status status = kw__csv_next(r, more, &why);
        if (!status && *more) status = read_row(r, format, columns, listener != NULL, row, &why);
        if (!status) return KW_OK;
        if (!listener || status != KW_ERROR_FORMAT) return kw__fail(err, status, "%s", why.message);
        listener->bad(listener->user, &why);
    }
}

static kw_status read_rows(const kw_catalog *catalog, const struct format *format, struct kw__dataset *set,
                           const struct listener *listener, kw_error *err)
{
    struct kw__csv r;
    size_t columns;
    bool more;
    kw_status status = kw__csv_open(set->path, LARGEST_FILE, &set->arena, &r, err);
    if (!status) status = kw__csv_next(&r, &more, err);
    if (!status && !format) status = recognise(&r, &format, err);
    if (!status) status = check_header(&r, format, &columns, err);
    while (!status) {
        set->rows = kw__arena_grow(&set->arena, set->rows, set->num_rows, &set->capacity, sizeof *set->rows);
        if (!set->rows) return kw__fail_memory(err);
        status = next_row(&r, format, columns, listener, &set->rows[set->num_rows], &more, err);
        if (status || !more) break;
        set->num_rows++;
    }
    set->name = format ? format->name : NULL;
    if (!status && !set->num_rows && !listener)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s has no rows", set->path);
    return status || listener ? status : name_models(catalog, set, err);
}

static char *path_of(const kw_catalog *catalog, const char *name)
{
    const char *folder = "published";
    for (size_t i = 0; i < NUM_FORMATS; i++)
        if (formats[i].folder && strcmp(formats[i].name, name) == 0) folder = formats[i].folder;
    return kw__text("%s/%s/%s.csv", catalog->folder, folder, name);
}

/* Whether the file has the bytes of the format's own; false also when one can't be read. */
static bool same_bytes(const char *path, const char *own)
{
    FILE *a = fopen(path, "rb"), *b = fopen(own, "rb");
    bool same = a && b;
    for (int c = 0; same && c != EOF;) same = (c = getc(a)) == getc(b);
    same = same && !ferror(a) && !ferror(b);
    if (a) fclose(a);
    if (b) fclose(b);
    return same;
}

/* Takes from rows what is known of another file. */
static kw_status disown(const kw_catalog *catalog, struct kw__dataset *set, kw_error *err)
{
    const struct format *format;
    const char *slash = strrchr(set->path, '/');
    kw_status status = find_format(set->name, &format, err);
    char *own = status ? NULL : path_of(catalog, set->name);
    if (!own) return status ? status : kw__fail_memory(err);
    bool same = same_bytes(set->path, own);
    free(own);
    for (size_t i = 0; !same && i < set->num_rows; i++) {
        struct kw__row *row = &set->rows[i];
        if (row->source == format->source) row->source = slash ? slash + 1 : set->path;
        if (row->stack == format->stack) row->stack = NULL;
        if (row->stages == format->stages) row->stages = NULL;
    }
    return KW_OK;
}

static kw_status read_set(const kw_catalog *catalog, const struct format *format, const char *path,
                          const struct listener *listener, struct kw__dataset **out, kw_error *err)
{
    struct kw__dataset *set = calloc(1, sizeof *set);
    if (!set) return kw__fail_memory(err);
    kw__arena_init(&set->arena);
    set->path = kw__arena_strdup(&set->arena, path);
    kw_status status = set->path ? read_rows(catalog, format, set, listener, err) : kw__fail_memory(err);
    if (!status && !format) status = disown(catalog, set, err);
    if (status)
        kw__dataset_close(set);
    else
        *out = set;
    return status;
}

kw_status kw__dataset_read(const kw_catalog *catalog, const char *name, const char *path,
                           struct kw__dataset **out, kw_error *err)
{
    const struct format *format = NULL;
    kw_status status = name ? find_format(name, &format, err) : KW_OK;
    return status ? status : read_set(catalog, format, path, NULL, out, err);
}

kw_status kw__dataset_read_good(const kw_catalog *catalog, const char *path,
                                void (*bad)(void *user, const kw_error *why), void *user,
                                struct kw__dataset **out, kw_error *err)
{
    const struct listener listener = {bad, user};
    return read_set(catalog, NULL, path, &listener, out, err);
}

kw_status kw__dataset_exists(const kw_catalog *catalog, const char *name, bool *out, kw_error *err)
{
    struct stat info;
    char *path = path_of(catalog, name);
    if (!path) return kw__fail_memory(err);
    *out = stat(path, &info) == 0 || errno != ENOENT;
    free(path);
    return KW_OK;
}

kw_status kw__dataset_open(const kw_catalog *catalog, const char *name, struct kw__dataset **out,
                           kw_error *err)
{
    const struct format *format;
    kw_status status = find_format(name, &format, err);
    if (status) return status;
    char *path = path_of(catalog, name);
    if (!path) return kw__fail_memory(err);
    status = kw__dataset_read(catalog, name, path, out, err);
    free(path);
    return status;
}

void kw__dataset_close(struct kw__dataset *dataset)
{
    if (!dataset) return;
    kw__arena_free(&dataset->arena);
    free(dataset);
}

bool kw__row_measured(const struct kw__row *row)
{
    return !row->basis || strcmp(row->basis, "measured") == 0;
}

kw_request kw__row_request(const struct kw__row *row)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = row->width;
    request.height = row->height;
    request.size_of_clip = row->size_of_clip;
    request.num_frames = row->frames;
    request.num_inference_steps = row->steps;
    request.batch_size = row->batch_size;
    request.prompt_tokens = row->prompt_tokens;
    request.negative_tokens = row->negative_tokens;
    if (!isnan(row->guidance_scale)) request.guidance_scale = row->guidance_scale;
    return request;
}

bool kw__same_run(const kw_effective *a, const kw_effective *b)
{
    return a->width == b->width && a->height == b->height && a->num_frames == b->num_frames &&
           a->num_inference_steps == b->num_inference_steps && a->batch_size == b->batch_size &&
           a->guidance_passes == b->guidance_passes;
}

bool kw__offloaded(const char *offload)
{
    return offload &&
           (strcmp(offload, "True") == 0 || strcmp(offload, "true") == 0 || strcmp(offload, "1") == 0);
}

bool kw__offloads_as(const char *offload, const kw_catalog *catalog, const kw_model *model,
                     const char *stack_name)
{
    struct kw__stack *stack;
    if (!offload) return true;
    bool did = kw__offloaded(offload);
    if (!stack_name || kw__stack_open(catalog, stack_name, &stack, NULL)) return !did;
    bool does = kw__stack_keeping(stack, model->family->pipeline)->offload;
    kw__stack_close(stack);
    return did == does;
}
