#include "store/measured.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "store/import.h"
#include "store/lint.h"
#include "store/stages.h"

struct reading {
    struct kw__store *store;
    struct kw__dataset *set;
};

/* ---- What is left out ------------------------------------------------------------------------------- */

/* "random:0:zeros" */
static bool is_odd(const char *weights)
{
    const char *law = weights && strncmp(weights, "random:", 7) == 0 ? strrchr(weights + 7, ':') : NULL;
    return law && strcmp(law, ":normal") != 0;
}

/* NULL: the run can be fitted, as far as it tells. */
static const char *unfit(const struct kw__run *run)
{
    const char *why = kw__run_unmeasured(run);
    if (why) return why;
    if (!run->model) return "no model is named";
    if (run->request.num_gpus > 1) return "on several GPUs";
    if (is_odd(run->weights)) return "random weights of another law than normal";
    return NULL;
}

/* The first finding that excludes the run; NULL: none. */
static const char *fault(struct kw__dataset *set, const struct kw__finding *findings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (findings[i].excludes)
            return kw__arena_printf(&set->arena, "the linter found %s", findings[i].code);
    return NULL;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

static const char *copy(struct kw__arena *arena, const char *text)
{
    return text ? kw__arena_strdup(arena, text) : NULL;
}

/* The decoder's dtype as the engine and as PyTorch call it; NULL: not said. */
static const char *decoder_dtype(const struct kw__run *run)
{
    static const char *const names[][2] = {{"float32", "f32"}, {"bfloat16", "bf16"}, {"float16", "f16"}};
    const char *value = kw__run_setting(run, "dtype.decoder");
    if (!value) value = kw__run_setting(run, "dtype.vae");
    for (size_t i = 0; value && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(value, names[i][0]) == 0) return names[i][1];
    return value;
}

static bool is_whole(const bool *has)
{
    return has[KW__RUN_TEXT_ENCODE] && has[KW__RUN_DENOISE] && has[KW__RUN_DECODE] &&
           has[KW__RUN_UPSCALE] == has[KW__RUN_REFINE];
}

/* A mean of several runs comes with the standard deviation of one (import_csv.c); NaN: not said. */
static double sd_of_mean(const struct kw__run *run, const char *name)
{
    char setting[64];
    (void)snprintf(setting, sizeof setting, "run.%s", name);
    const char *value = kw__run_setting(run, setting), *repeats = kw__run_setting(run, "repeats");
    double runs = repeats ? kw__number_read(repeats, NULL) : 1;
    return value ? kw__number_read(value, NULL) / sqrt(runs) : NAN;
}

static struct kw__row row_of(struct kw__dataset *set, const struct kw__run *run)
{
    const struct kw__run_request *q = &run->request;
    struct kw__arena *a = &set->arena;
    const char *source = run->source ? run->source : run->dataset ? run->dataset : "runs of the store";
    struct kw__row row = {.session = copy(a, run->session),
                          .what = copy(a, run->what),
                          .model = copy(a, run->model),
                          .stack = copy(a, run->stack),
                          .gpu = copy(a, run->hardware),
                          .source = copy(a, source),
                          .note = copy(a, run->note),
                          .decoder_dtype = copy(a, decoder_dtype(run)),
                          .offload = copy(a, kw__run_setting(run, "offload")),
                          .width = q->width,
                          .height = q->height,
                          .size_of_clip = true,
                          .frames = q->num_frames_asked ? q->num_frames_asked : q->num_frames,
                          .frames_out = q->num_frames,
                          .steps = q->num_inference_steps,
                          .batch_size = q->batch_size ? q->batch_size : 1,
                          .prompt_tokens = q->prompt_tokens ? q->prompt_tokens : -1,
                          .negative_tokens = q->negative_tokens ? q->negative_tokens : -1,
                          .guidance_scale = q->guidance_scale,
                          .latency_sd_s = sd_of_mean(run, "latency_sd_s"),
                          .whole = -1,
                          .line = (int)run->id};
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        char name[48];
        (void)snprintf(name, sizeof name, "%s_energy_sd_wh", kw_device_name(d));
        row.energy_sd_wh[d] = sd_of_mean(run, name);
    }
    return row;
}

static void add_row(struct kw__dataset *set, struct kw__row row, const struct kw__run_sum *sum)
{
    struct kw__row *rows =
        kw__arena_grow(&set->arena, set->rows, set->num_rows, &set->capacity, sizeof *rows);
    const double per_wh = 3600;
    if (!rows) return;
    row.latency_s = sum->seconds;
    for (int d = 0; d < KW_NUM_DEVICES; d++) row.energy_wh[d] = sum->energy_j[d] / per_wh;
    if (!isnan(sum->gpu_variance)) row.energy_sd_wh[KW_GPU] = sqrt(sum->gpu_variance) / per_wh;
    set->rows = rows;
    rows[set->num_rows++] = row;
}

/* A pipeline and its stages. */
static void add_pipeline(struct kw__dataset *set, const struct kw__run *run, const struct kw__run_sum *stages)
{
    struct kw__row row = row_of(set, run);
    struct kw__run_sum whole = {0};
    bool has[KW__RUN_STAGES] = {false};
    int count = 0;
    for (int s = 0; s < KW__RUN_STAGES; s++) {
        if (!(stages[s].seconds > 0)) continue;
        kw__run_sum_add(&whole, &stages[s]);
        row.stages = count++ ? kw__arena_printf(&set->arena, "%s+%s", row.stages, kw__run_stage_names[s])
                             : kw__run_stage_names[s];
        has[s] = true;
    }
    if (!count) {
        kw__run_sum_window(&whole, &run->windows[kw__run_work(run)]);
        row.stages = copy(&set->arena, kw__run_setting(run, "stages"));
    }
    if (is_whole(has)) row.stages = NULL; /* all of it */
    int index = (int)set->num_rows;
    add_row(set, row, &whole);
    row.whole = index;
    row.stages = NULL;
    for (int s = 0; s < KW__RUN_STAGES && count > 1; s++) {
        if (!has[s]) continue;
        row.what = kw__run_stage_names[s];
        add_row(set, row, &stages[s]);
    }
}

static kw_status add_run(struct kw__dataset *set, const struct kw__run *run,
                         const struct kw__finding *findings, size_t count, kw_error *err)
{
    struct kw__run_sum stages[KW__RUN_STAGES];
    const char *why = unfit(run);
    bool pipeline = !run->what || strcmp(run->what, "pipeline") == 0, several = kw__run_stages(run, stages);
    if (!why) why = fault(set, findings, count);
    if (!why && pipeline && several) why = "a stage was timed several times in one run";
    if (!why && (!run->num_windows || !(run->windows[0].duration_s > 0))) why = "no time is known";
    if (!why && pipeline && !stages[KW__RUN_TEXT_ENCODE].windows && !stages[KW__RUN_DENOISE].windows &&
        !stages[KW__RUN_DECODE].windows && isnan(kw__run_work_s(run)))
        why = "no window divides the program's start from the model's work";
    if (why) {
        kw__leave_out(&set->left_out, &set->arena, why);
    } else if (pipeline) {
        add_pipeline(set, run, stages);
    } else {
        struct kw__run_sum whole = {0};
        kw__run_sum_window(&whole, &run->windows[0]);
        add_row(set, row_of(set, run), &whole);
    }
    return set->arena.failed ? kw__fail_memory(err) : KW_OK;
}

/* ---- From a store, from a file ------------------------------------------------------------------------ */

static kw_status add_stored(void *user, struct kw__run *run, kw_error *err)
{
    struct reading *r = user;
    struct kw__finding *findings;
    size_t count;
    kw_status status = kw__store_get_findings(r->store, run->id, &run->arena, &findings, &count, err);
    return status ? status : add_run(r->set, run, findings, count, err);
}

static kw_status make_set(const char *path, struct kw__dataset **out, kw_error *err)
{
    struct kw__dataset *set = calloc(1, sizeof *set);
    if (!set) return kw__fail_memory(err);
    kw__arena_init(&set->arena);
    set->path = kw__arena_strdup(&set->arena, path);
    *out = set;
    return set->path ? KW_OK : kw__fail_memory(err);
}

/* What is handed out has rows. */
static kw_status finish(kw_status status, const char *advice, struct kw__dataset *set,
                        struct kw__dataset **out, kw_error *err)
{
    if (!status && !set->num_rows)
        status = kw__fail(err, KW_ERROR_NOT_FOUND, "%s has no run to fit%s%s", set->path,
                          set->left_out.count ? ": " : advice,
                          set->left_out.count ? kw__most_left_out(&set->left_out) : "");
    if (status)
        kw__dataset_close(set);
    else
        *out = set;
    return status;
}

kw_status kw__measured_read(struct kw__store *store, const char *dataset, struct kw__dataset **out,
                            kw_error *err)
{
    struct kw__dataset *set = NULL;
    const struct kw__run_filter filter = {.dataset = dataset};
    kw_status status = make_set(dataset ? dataset : "the store", &set, err);
    struct reading reading = {store, set};
    if (!status) status = kw__store_each(store, &filter, add_stored, &reading, err);
    return finish(status, "; 'kinowatt runs' lists what the store has", set, out, err);
}

/* Runs of a file, kept until all are there: the linter asks how often each was repeated. */
struct taken {
    struct kw__run *run;
    const struct kw__finding *findings; /* NULL: nobody checked it */
    size_t num_findings;
};
struct taking {
    const char *stack, *hardware;
    struct kw__arena arena;
    struct taken *runs;
    size_t count, capacity;
    kw_error bad; /* the first */
};

static kw_status take(void *user, struct kw__run *run, const struct kw__finding *findings,
                      size_t num_findings, kw_error *err)
{
    struct taking *t = user;
    struct taken *runs = kw__arena_grow(&t->arena, t->runs, t->count, &t->capacity, sizeof *runs);
    if (!runs || run->arena.failed) {
        kw__run_free(run);
        return kw__fail_memory(err);
    }
    t->runs = runs;
    runs[t->count++] = (struct taken){run, findings, num_findings};
    if (!run->id) run->id = (int64_t)t->count;
    if (!run->stack) run->stack = t->stack;
    if (!run->hardware) run->hardware = t->hardware;
    return KW_OK;
}

static void note_bad(void *user, const kw_error *why)
{
    struct taking *t = user;
    if (!t->bad.code) t->bad = *why;
}

static kw_status add_taken(const kw_catalog *catalog, const struct taking *t, struct kw__dataset *set,
                           kw_error *err)
{
    struct kw__lint *lint;
    kw_status status = kw__lint_open(catalog, &lint, err);
    if (status) return status;
    for (size_t i = 0; i < t->count && !status; i++) status = kw__lint_count(lint, t->runs[i].run, err);
    for (size_t i = 0; i < t->count && !status; i++) {
        struct kw__run *run = t->runs[i].run;
        struct kw__finding *found;
        size_t count = t->runs[i].num_findings;
        const struct kw__finding *findings = t->runs[i].findings;
        if (!findings) {
            status = kw__lint_run(lint, run, &run->arena, &found, &count, err);
            findings = found;
        }
        if (!status) status = add_run(set, run, findings, count, err);
    }
    kw__lint_close(lint);
    return status;
}

kw_status kw__measured_read_file(const kw_catalog *catalog, const char *path, const char *stack,
                                 const char *hardware, struct kw__dataset **out, kw_error *err)
{
    struct kw__dataset *set = NULL;
    struct taking taking = {.stack = stack, .hardware = hardware};
    const struct kw__import import = {.catalog = catalog, .user = &taking, .bad = note_bad, .take = take};
    struct kw__import_counts counts;
    kw_status status = make_set(path, &set, err);
    kw__arena_init(&taking.arena);
    if (!status) status = kw__import_file(&import, path, &counts, err);
    if (!status && taking.bad.code) status = kw__fail(err, taking.bad.code, "%s", taking.bad.message);
    if (!status) status = add_taken(catalog, &taking, set, err);
    for (size_t i = 0; i < taking.count; i++) kw__run_free(taking.runs[i].run);
    kw__arena_free(&taking.arena);
    return finish(status, "", set, out, err);
}
