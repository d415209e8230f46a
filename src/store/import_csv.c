/* CodeCarbon's emissions.csv, and the CSV of published measurements. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "base/time.h"
#include "report/out.h"
#include "store/import_forms.h"

enum { LARGEST_CSV = 1 << 30 };

static const double j_per_kwh = 3.6e6, j_per_wh = 3600;

/* ---- CodeCarbon --------------------------------------------------------------------------------------- */

/* Columns that become figures and names of the run. All but the run's id are kept as they stand, too. */
enum column {
    TIMESTAMP,
    DURATION,
    CPU_POWER,
    GPU_POWER,
    RAM_POWER,
    CPU_ENERGY,
    GPU_ENERGY,
    RAM_ENERGY,
    RUN_ID,
    GPU_COUNT,
    GPU_MODEL,
    NUM_COLUMNS
};
static const char *const column_names[NUM_COLUMNS] = {"timestamp", "duration",   "cpu_power",  "gpu_power",
                                                      "ram_power", "cpu_energy", "gpu_energy", "ram_energy",
                                                      "run_id",    "gpu_count",  "gpu_model"};

/* Columns that say what ran and on what, which repeats have in common; the others tell of one run. CodeCarbon
 * has a name for a project that nobody named, and an id for such an experiment: these say nothing. */
static const struct {
    const char *column, *setting, *unnamed;
} common[] = {{"cpu_model", "cpu", NULL},
              {"cpu_count", "cpu.cores", NULL},
              {"codecarbon_version", "version.codecarbon", NULL},
              {"project_name", "codecarbon.project_name", "codecarbon"},
              {"experiment_id", "codecarbon.experiment_id", "5b0fa12a-3dd7-45bb-9766-cc326314d9f1"}};
enum { NUM_COMMON = sizeof common / sizeof common[0], LONGEST_NAME = 96 };

/* The setting of this run alone that keeps a column. Returns `buffer`. */
static const char *own_setting(const char *column, char buffer[LONGEST_NAME])
{
    (void)snprintf(buffer, LONGEST_NAME, "run.codecarbon.%.64s", column);
    return buffer;
}

const char *kw__import_column(const struct kw__run *run, const char *column)
{
    char name[LONGEST_NAME];
    if (!run->source || strcmp(run->source, "CodeCarbon") != 0) return NULL;
    if (strcmp(column, column_names[RUN_ID]) == 0) return run->session;
    for (int i = 0; i < NUM_COMMON; i++) {
        const char *text =
            strcmp(column, common[i].column) == 0 ? kw__run_setting(run, common[i].setting) : NULL;
        if (text) return text;
    }
    return kw__run_setting(run, own_setting(column, name));
}

static int find(const struct kw__csv *header, const char *name)
{
    for (size_t i = 0; i < header->num_fields; i++)
        if (strcmp(header->fields[i], name) == 0) return (int)i;
    return -1;
}

bool kw__import_is_codecarbon(const struct kw__csv *header)
{
    return find(header, "timestamp") >= 0 && find(header, "duration") >= 0 &&
           find(header, "emissions") >= 0 && find(header, "gpu_energy") >= 0;
}

struct carbon {
    struct kw__csv csv;
    size_t num_columns;
    int places[NUM_COLUMNS]; /* of the columns used; -1: not there */
    const char *names[KW__CSV_COLUMNS];
};

/* The field; "" when there is no such column. */
static const char *field(const struct carbon *c, enum column column)
{
    return c->places[column] < 0 ? "" : c->csv.fields[c->places[column]];
}

/* NaN when it is empty. */
static kw_status number(const struct carbon *c, enum column column, double *out, kw_error *err)
{
    const char *text = field(c, column);
    *out = NAN;
    if (!*text) return KW_OK;
    if (kw__number_parse(text, out) && isfinite(*out) && *out >= 0) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %s is \"%.40s\"; it must be a number of at least 0",
                    c->csv.path, c->csv.line, column_names[column], text);
}

/* CodeCarbon's moment is the run's end, of a clock whose zone it does not say. */
static kw_status began(const struct carbon *c, double duration_s, char out[32], kw_error *err)
{
    const char *text = field(c, TIMESTAMP);
    char whole[40];
    double end_s;
    (void)snprintf(whole, sizeof whole, "%.19s.000Z", text);
    if (strlen(text) >= 19 && text[10] == ' ') whole[10] = 'T';
    if (strlen(text) < 19 || !kw__time_parse(whole, &end_s))
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s:%d: timestamp is \"%.40s\"; it must be like 2026-11-24T17:20:00", c->csv.path,
                        c->csv.line, text);
    kw__time_format(end_s - duration_s, out, 32);
    return KW_OK;
}

static kw_status read_devices(const struct carbon *c, struct kw__run *run, kw_error *err)
{
    static const struct {
        int device;
        enum column energy, power;
        kw_reading_status status;
    } devices[] = {{KW_GPU, GPU_ENERGY, GPU_POWER, KW_MEASURED},
                   /* by RAPL or from the processor's name: the file does not say which */
                   {KW_CPU, CPU_ENERGY, CPU_POWER, KW_MODELLED},
                   {KW_RAM, RAM_ENERGY, RAM_POWER, KW_MODELLED}};
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        double energy_kwh, power_w;
        kw_status status = number(c, devices[i].energy, &energy_kwh, err);
        if (!status) status = number(c, devices[i].power, &power_w, err);
        if (status) return status;
        /* both 0: no meter. An energy of 0 while power was drawn is kept, for the linter to find */
        if (energy_kwh > 0 || power_w > 0)
            kw__import_energy(run, devices[i].device, energy_kwh * j_per_kwh, power_w > 0 ? power_w : NAN,
                              devices[i].status);
    }
    return KW_OK;
}

static kw_status read_settings(const struct carbon *c, struct kw__run *run, kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t i = 0; i < c->num_columns && !status; i++) {
        char own[LONGEST_NAME];
        const char *text = c->csv.fields[i], *name = own_setting(c->names[i], own);
        if ((int)i == c->places[RUN_ID] || !*text) continue;
        for (int k = 0; k < NUM_COMMON; k++)
            if (strcmp(c->names[i], common[k].column) == 0 &&
                !(common[k].unnamed && strcmp(text, common[k].unnamed) == 0))
                name = common[k].setting;
        status = kw__run_set(run, name, text, err);
    }
    return status;
}

static kw_status read_carbon(struct kw__importing *importing, const struct carbon *c, struct kw__run *run,
                             char began_text[32], kw_error *err)
{
    double duration_s, gpus;
    const char *gpu = field(c, GPU_MODEL);
    if (c->csv.num_fields != c->num_columns)
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %zu fields instead of %zu", c->csv.path, c->csv.line,
                        c->csv.num_fields, c->num_columns);
    kw_status status = number(c, DURATION, &duration_s, err);
    if (!status && isnan(duration_s))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s:%d: duration is missing", c->csv.path, c->csv.line);
    if (!status) status = began(c, duration_s, began_text, err);
    run->windows[0].duration_s = duration_s;
    if (!status) status = read_devices(c, run, err);
    if (!status) status = number(c, GPU_COUNT, &gpus, err);
    if (status) return status;
    if (gpus >= 1 && gpus <= 1e6) run->request.num_gpus = (int64_t)gpus;
    if (*gpu) { /* "1 x NVIDIA H100 80GB HBM3" */
        size_t digits = strspn(gpu, "0123456789");
        if (digits && strncmp(gpu + digits, " x ", 3) == 0) gpu += digits + 3;
    }
    if (*field(c, RUN_ID)) run->session = kw__arena_strdup(&run->arena, field(c, RUN_ID));
    run->source = "CodeCarbon";
    status = kw__import_names(importing, run, NULL, *gpu ? gpu : NULL, err);
    return status ? status : read_settings(c, run, err);
}

static kw_status import_carbon(struct kw__importing *importing, const struct carbon *c, kw_error *err)
{
    kw_error why = {0};
    char began_text[32];
    struct kw__run *run = kw__import_new("CodeCarbon measured nothing of it");
    if (!run) return kw__fail_memory(err);
    kw_status status = read_carbon(importing, c, run, began_text, &why);
    if (!status) return kw__import_add_foreign(importing, run, began_text, err);
    kw__run_free(run);
    return kw__import_bad(importing, status, &why, err);
}

static void read_header(struct carbon *c)
{
    c->num_columns = c->csv.num_fields;
    for (int i = 0; i < NUM_COLUMNS; i++) c->places[i] = find(&c->csv, column_names[i]);
    for (size_t i = 0; i < c->num_columns; i++) c->names[i] = c->csv.fields[i];
}

kw_status kw__import_codecarbon(struct kw__importing *importing, kw_error *err)
{
    struct kw__arena arena;
    struct carbon c;
    bool more = false;
    kw__arena_init(&arena);
    kw_status status = kw__csv_open(importing->path, LARGEST_CSV, &arena, &c.csv, err);
    if (!status) status = kw__csv_next(&c.csv, &more, err);
    if (!status) read_header(&c);
    while (!status) {
        kw_error why = {0};
        kw_status read = kw__csv_next(&c.csv, &more, &why);
        if (read)
            status = kw__import_bad(importing, read, &why, err);
        else if (more)
            status = import_carbon(importing, &c, err);
        else
            break;
    }
    kw__arena_free(&arena);
    return status;
}

/* ---- Published measurements ---------------------------------------------------------------------------- */

static kw_status set_number(struct kw__run *run, const char *name, double value, kw_error *err)
{
    char text[KW__FORMAT_SIZE];
    return isnan(value) ? KW_OK : kw__run_set(run, name, kw__format_exact(text, value), err);
}

static void put_request(struct kw__run_request *r, const struct kw__row *row)
{
    r->width = row->width;
    r->height = row->height;
    r->num_frames_asked = row->frames;
    r->num_frames = row->frames_out;
    r->num_inference_steps = row->steps;
    r->batch_size = row->batch_size;
    r->guidance_scale = row->guidance_scale;
    r->num_gpus = 1;
    if (row->prompt_tokens > 0) r->prompt_tokens = row->prompt_tokens;
    if (row->negative_tokens > 0) r->negative_tokens = row->negative_tokens;
}

/* Runs are kept with the size of their clip; a row may say what was asked for. Of a model that is not known,
 * that is taken for it. */
static kw_status put_size(const kw_catalog *catalog, struct kw__run *run, const struct kw__row *row,
                          kw_error *err)
{
    const kw_request request = kw__row_request(row);
    kw_effective r;
    kw_model *model;
    kw_error why;
    if (row->size_of_clip || !run->model) return KW_OK;
    kw_status status = kw_model_open(catalog, run->model, &model, &why);
    if (status == KW_ERROR_MEMORY) return kw__fail_memory(err);
    if (status) return KW_OK;
    if (!kw_request_resolve(model, &request, &r, NULL)) {
        run->request.width = r.width;
        run->request.height = r.height;
    }
    kw_model_close(model);
    return KW_OK;
}

static kw_status import_row(struct kw__importing *importing, const struct kw__dataset *set,
                            const struct kw__row *row, kw_error *err)
{
    struct kw__run *run = kw__import_new("it was not published");
    if (!run) return kw__fail_memory(err);
    run->what = row->what;
    run->stack = row->stack;
    run->source = row->source;
    run->note = row->note;
    run->weights = row->weights;
    run->id = row->line; /* until a store gives it another */
    if (row->session) run->session = kw__arena_printf(&run->arena, "%s, %s", set->name, row->session);
    put_request(&run->request, row);
    run->windows[0].duration_s = row->latency_s;
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        kw__import_energy(run, d, row->energy_wh[d] * j_per_wh, NAN,
                          kw__row_measured(row) ? KW_MEASURED : KW_MODELLED);
    const struct kw__run_setting texts[] = {{"basis", row->basis},
                                            {"stages", row->stages},
                                            {"dtype.vae", row->vae_dtype},
                                            {"tiling", row->tiling},
                                            {"offload", row->offload}};
    kw_status status = kw__import_names(importing, run, row->model, row->gpu, err);
    if (!status) status = put_size(importing->import->catalog, run, row, err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && !status; i++)
        if (texts[i].value) status = kw__run_set(run, texts[i].name, texts[i].value, err);
    if (!status && row->repeats) status = set_number(run, "repeats", (double)row->repeats, err);
    if (!status) status = set_number(run, "run.latency_sd_s", row->latency_sd_s, err);
    for (int d = 0; d < KW_NUM_DEVICES && !status; d++) {
        char name[48];
        (void)snprintf(name, sizeof name, "run.%s_energy_sd_wh", kw_device_name(d));
        status = set_number(run, name, row->energy_sd_wh[d], err);
    }
    if (!status) return kw__import_add_foreign(importing, run, NULL, err);
    kw__run_free(run);
    return status;
}

static void on_bad(void *user, const kw_error *why)
{
    struct kw__importing *importing = user;
    (void)kw__import_bad(importing, KW_ERROR_FORMAT, why, NULL);
}

kw_status kw__import_published(struct kw__importing *importing, kw_error *err)
{
    struct kw__dataset *set;
    kw_status status =
        kw__dataset_read_good(importing->import->catalog, importing->path, on_bad, importing, &set, err);
    if (status) return status;
    for (size_t i = 0; i < set->num_rows && !status; i++)
        status = import_row(importing, set, &set->rows[i], err);
    kw__dataset_close(set);
    return status;
}
