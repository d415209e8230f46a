#include "store/import.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/number.h"
#include "base/uuid.h"
#include "hardware/hardware.h"
#include "report/out.h"
#include "store/fields.h"
#include "store/import_forms.h"

/* Runs in one transaction: few enough that other writers wait for a moment only. */
enum { RUNS_AT_ONCE = 200, LARGEST_CSV = 1 << 30 };

/* ---- What the content is ------------------------------------------------------------------------------ */

static kw__hash hash_number(kw__hash hash, double value)
{
    char text[KW__FORMAT_SIZE];
    return kw__hash_text(hash, kw__format_exact(text, value));
}

/* Fields that are known, by name and value: what a later version may add changes nothing, nor do names that
 * are the catalog's; the file's own are among the settings. */
static kw__hash hash_fields(kw__hash hash, const struct kw__fields *fields, const void *base)
{
    static const char *const left_out[] = {"uuid", "dataset", "model", "hardware", "stack", "source"};
    for (size_t i = 0; i < fields->count; i++) {
        struct kw__field_value value = kw__field_get(&fields->fields[i], base);
        const char *name = fields->fields[i].name;
        char text[32];
        bool skip = value.type == KW__VALUE_NONE;
        for (size_t k = 0; k < sizeof left_out / sizeof left_out[0]; k++)
            skip = skip || strcmp(name, left_out[k]) == 0;
        if (skip) continue;
        hash = kw__hash_text(hash, name);
        (void)snprintf(text, sizeof text, "%" PRId64, value.whole);
        if (value.type == KW__VALUE_REAL)
            hash = hash_number(hash, value.real);
        else
            hash = kw__hash_text(hash, value.type == KW__VALUE_TEXT ? value.text : text);
    }
    return hash;
}

static void make_uuid(const struct kw__run *run, char out[37])
{
    kw__hash hash = kw__hash_begin;
    hash = hash_fields(hash, &kw__run_fields, run);
    for (size_t i = 0; i < run->num_windows; i++) {
        hash = hash_fields(hash, &kw__window_fields, &run->windows[i]);
        for (int q = 0; q < KW__NUM_QUANTITIES; q++)
            for (int d = 0; d < KW_NUM_DEVICES; d++)
                hash = hash_number(hash, kw__quantity_of(&run->windows[i], q, d)->value);
    }
    for (size_t i = 0; i < run->num_settings; i++)
        hash = kw__hash_text(kw__hash_text(hash, run->settings[i].name), run->settings[i].value);
    kw__hash_uuid(hash, out);
}

/* ---- Adding ------------------------------------------------------------------------------------------- */

kw_status kw__import_bad(struct kw__importing *importing, kw_status status, const kw_error *why,
                         kw_error *err)
{
    if (status != KW_ERROR_FORMAT && status != KW_ERROR_USAGE)
        return kw__fail(err, status, "%s", why->message);
    importing->counts->bad++;
    importing->import->bad(importing->import->user, why);
    return KW_OK;
}

static kw_status add(struct kw__importing *importing, struct kw__run *run, const struct kw__finding *findings,
                     size_t num_findings, kw_error *err)
{
    const struct kw__import *import = importing->import;
    kw_status status = KW_OK;
    if (importing->in_transaction == RUNS_AT_ONCE) {
        status = kw__store_end(import->store, true, err);
        importing->in_transaction = 0;
        if (!status) status = kw__store_begin(import->store, err);
    }
    bool added;
    if (!status) status = kw__store_add_new(import->store, run, &added, err);
    if (status) return status;
    importing->in_transaction++;
    importing->counts->added += added;
    importing->counts->known += !added;
    if (added && num_findings)
        status = kw__store_set_findings(import->store, run->id, findings, num_findings, err);
    if (status || !added || findings || !import->unchecked) return status;
    return import->unchecked(import->user, run, err);
}

kw_status kw__import_add(struct kw__importing *importing, struct kw__run *run,
                         const struct kw__finding *findings, size_t num_findings, kw_error *err)
{
    const struct kw__import *import = importing->import;
    if (!run->dataset && strcmp(run->kind, "import") == 0) run->dataset = importing->dataset;
    if (import->take) {
        importing->counts->added++;
        kw__fields_own(&kw__run_fields, run, &run->arena);
        return import->take(import->user, run, findings, num_findings, err);
    }
    kw_status status = add(importing, run, findings, num_findings, err);
    kw__run_free(run);
    return status;
}

kw_status kw__import_add_foreign(struct kw__importing *importing, struct kw__run *run, const char *began,
                                 kw_error *err)
{
    char uuid[37];
    const char *now = run->began;
    run->began = began;
    kw_status status = began ? KW_OK : kw__run_set(run, "run.began", "not known: that of the import", err);
    make_uuid(run, uuid);
    run->uuid = uuid;
    if (!began) run->began = now;
    if (!status && run->arena.failed) status = kw__fail_memory(err);
    if (!status) return kw__import_add(importing, run, NULL, 0, err);
    kw__run_free(run);
    return status;
}

/* ---- What the forms have in common -------------------------------------------------------------------- */

struct kw__run *kw__import_new(const char *reason)
{
    struct kw__run *run = kw__run_new("import");
    struct kw__run_window *whole = run ? kw__arena_alloc(&run->arena, 1, sizeof *whole) : NULL;
    if (!whole) {
        kw__run_free(run);
        return NULL;
    }
    *whole = (struct kw__run_window){.name = "total", .parent = -1, .duration_s = NAN, .gap_s = NAN};
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            *kw__quantity_of(whole, q, d) = (kw_reading){NAN, NAN, NAN, KW_ABSENT, reason};
    run->windows = whole;
    run->num_windows = 1;
    run->state = "done";
    return run;
}

void kw__import_figure(kw_reading *reading, double value, kw_reading_status status)
{
    if (!isnan(value)) *reading = (kw_reading){value, NAN, NAN, status, NULL};
}

void kw__import_energy(struct kw__run *run, int device, double energy_j, double power_w,
                       kw_reading_status status)
{
    struct kw__run_window *whole = &run->windows[0];
    if (isnan(power_w) && whole->duration_s > 0) power_w = energy_j / whole->duration_s;
    kw__import_figure(&whole->energy_j[device], energy_j, status);
    kw__import_figure(&whole->power_w[device], power_w, status);
}

kw_status kw__import_names(struct kw__importing *importing, struct kw__run *run, const char *model,
                           const char *gpu, kw_error *err)
{
    kw_hardware *hardware = NULL;
    const kw_catalog *catalog = importing->import->catalog;
    kw_status status = model ? kw__slug_of(catalog, model, &run->arena, &run->model, err) : KW_OK;
    if (!status && model) status = kw__run_set(run, "run.model_as_named", model, err);
    if (!status && gpu) status = kw__run_set(run, "run.gpu_as_named", gpu, err);
    if (status || !gpu) return status;
    status = kw_hardware_open(catalog, gpu, &hardware, err);
    if (status == KW_ERROR_MEMORY) return status;
    run->hardware = kw__arena_strdup(&run->arena, status ? gpu : kw_hardware_name(hardware));
    kw_hardware_close(hardware);
    return run->hardware ? KW_OK : kw__fail_memory(err);
}

/* ---- Files -------------------------------------------------------------------------------------------- */

/* "runs" of "a/b/runs.json". Returns `buffer`. */
static const char *stem_of(const char *path, char *buffer, size_t size)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    size_t length = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    (void)snprintf(buffer, size, "%.*s", (int)length, name);
    return buffer;
}

/* The first character that says something. */
static kw_status first_char(const char *path, int *out, kw_error *err)
{
    struct stat info;
    bool there = stat(path, &info) == 0;
    if (there && !S_ISREG(info.st_mode)) /* a pipe would be waited for */
        return kw__fail(err, KW_ERROR_FORMAT, "%s is no regular file; name a file of measurements", path);
    FILE *file = there ? fopen(path, "rb") : NULL;
    if (!file)
        return kw__fail(err, errno == ENOENT ? KW_ERROR_NOT_FOUND : KW_ERROR_IO, "cannot read %s: %s", path,
                        strerror(errno));
    do *out = getc(file);
    while (*out == ' ' || *out == '\t' || *out == '\r' || *out == '\n' || *out == 0xEF || *out == 0xBB ||
           *out == 0xBF);
    int bad = ferror(file) ? errno : 0;
    fclose(file);
    return bad ? kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(bad)) : KW_OK;
}

static kw_status import_csv(struct kw__importing *importing, kw_error *err)
{
    struct kw__arena arena;
    struct kw__csv header;
    bool more;
    kw__arena_init(&arena);
    kw_status status = kw__csv_open(importing->path, LARGEST_CSV, &arena, &header, err);
    if (!status) status = kw__csv_next(&header, &more, err);
    bool codecarbon = !status && kw__import_is_codecarbon(&header);
    bool windows = !status && header.num_fields > 1 && strcmp(header.fields[0], "window") == 0 &&
                   strcmp(header.fields[1], "window_name") == 0;
    kw__arena_free(&arena);
    if (status) return status;
    if (windows)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s is a table of windows, which lacks much of a run; export the runs without --csv",
                        importing->path);
    return codecarbon ? kw__import_codecarbon(importing, err) : kw__import_published(importing, err);
}

kw_status kw__import_file(const struct kw__import *import, const char *path, struct kw__import_counts *counts,
                          kw_error *err)
{
    char stem[128];
    int first = EOF;
    *counts = (struct kw__import_counts){0};
    struct kw__importing importing = {.import = import,
                                      .counts = counts,
                                      .path = path,
                                      .dataset = import->dataset ? import->dataset
                                                                 : stem_of(path, stem, sizeof stem)};
    kw_status status = first_char(path, &first, err);
    if (!status && first == EOF) status = kw__fail(err, KW_ERROR_FORMAT, "%s is empty", path);
    if (!status && import->store) status = kw__store_begin(import->store, err);
    if (status) return status;
    status = first == '{' || first == '[' ? kw__import_json(&importing, err) : import_csv(&importing, err);
    if (!import->store) return status;
    /* what was good stays, whatever came after it */
    kw_status ended = kw__store_end(import->store, true, status ? NULL : err);
    return status ? status : ended;
}
