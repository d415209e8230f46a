/* Every allocation fails once in turn: whatever is asked for either still gives the same result or is
 * KW_ERROR_MEMORY with a message, hands nothing out and leaks nothing.
 *
 * malloc and its kin are wrapped (Makefile), jansson's go through json_set_alloc_funcs. The arena is
 * compiled into this test with blocks of one byte, so that each of its allocations is one that can fail.
 *
 * Coverage. A scenario of at most EXHAUSTIVE allocations is run once for each of them. A longer one (a
 * whole prediction) is run with every stride-th failing; what it is made of (each kind of file, the graph
 * with its rewrites, JSON) are scenarios of their own and run with all of theirs. Under a sanitizer, where
 * malloc is slow, all scenarios have a stride: `make check` and `make check-sanitize` together see each
 * allocation fail, and a few of every hundred under ASan. KINOWATT_ALLOC_ALL=1 takes every one
 * everywhere, which is minutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define KW__ARENA_BLOCK_BYTES 1
#include "../../src/base/arena.c"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "graph/rewrite.h"
#include "hardware/hardware.h"
#include "kinowatt.h"
#include "predict/calibration.h"
#include "predict/dataset.h"
#include "predict/reproduction.h"
#include "predict/scaling.h"
#include "predict/priors.h"
#include "predict/select.h"
#include "predict/validate_shipped.h"
#include "predict/workload.h"
#include "engine/safetensors.h"
#include "store/import.h"
#include "store/json_split.h"
#include "store/run_json.h"
#include "support/folder.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1, EXHAUSTIVE = 100, RUNS_OF_A_LONG_ONE = 60 };
#else
enum { SANITIZED = 0, EXHAUSTIVE = 4000, RUNS_OF_A_LONG_ONE = 100 };
#endif

/* ---- The allocator ------------------------------------------------------------------------------- */

static bool armed;                /* counting and failing */
static long allocations, fail_at; /* fail_at 0: none */
static long live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t most);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t most);

static bool refuse(void)
{
    if (!armed || ++allocations != fail_at) return false;
    errno = ENOMEM; /* as the real one does */
    return true;
}

static void *counted(void *memory)
{
    if (armed && memory) live++;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (refuse()) return NULL;
    return memory ? __real_realloc(memory, size) : counted(__real_realloc(memory, size));
}

void __wrap_free(void *memory)
{
    if (armed && memory) live--;
    __real_free(memory);
}

char *__wrap_strdup(const char *text)
{
    return refuse() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t most)
{
    return refuse() ? NULL : counted(__real_strndup(text, most));
}

static void *jansson_malloc(size_t size)
{
    return malloc(size);
}

static void jansson_free(void *memory)
{
    free(memory);
}

/* ---- Running a scenario --------------------------------------------------------------------------- */

/* What a scenario leaves: text that tells one result from another. */
static char digest[1 << 16];

typedef kw_status scenario_fn(kw_error *err);

static kw_status run_once(scenario_fn *scenario, long fail, kw_error *err)
{
    *err = (kw_error){KW_OK, ""};
    digest[0] = '\0';
    allocations = live = 0;
    fail_at = fail;
    armed = true;
    kw_status status = scenario(err);
    armed = false;
    return status;
}

/* `runs`: how often a scenario of more than EXHAUSTIVE allocations is run. */
static void fail_allocations(scenario_fn *scenario, long runs)
{
    static char wanted[sizeof digest];
    clock_t start = clock();
    kw_error err;
    if (run_once(scenario, 0, &err)) fail_msg("without failures: %s", err.message);
    if (live) run_once(scenario, 0, &err); /* the first may fill what a library keeps */
    assert_int_equal(live, 0);
    memcpy(wanted, digest, sizeof wanted);
    long count = allocations, stride = 1;
    assert_true(count > 0);
    if (count > EXHAUSTIVE && !getenv("KINOWATT_ALLOC_ALL")) stride = count / runs + 1;
    for (long k = 1; k <= count; k += stride) {
        kw_status status = run_once(scenario, k, &err);
        if (live) fail_msg("allocation %ld of %ld: %ld blocks leak", k, count, live);
        if (status == KW_OK) {
            size_t same = 0;
            while (digest[same] && digest[same] == wanted[same]) same++;
            if (digest[same] != wanted[same])
                fail_msg("allocation %ld of %ld, another result in silence: %.60s, not %.60s", k, count,
                         digest + (same > 30 ? same - 30 : 0), wanted + (same > 30 ? same - 30 : 0));
        } else if (status != KW_ERROR_MEMORY || err.code != status || !strstr(err.message, "memory")) {
            fail_msg("allocation %ld of %ld: %s: %s", k, count, kw_status_name(status), err.message);
        }
    }
    fprintf(stderr, "# %ld allocations, every %ld, %.1f s of CPU\n", count, stride,
            (double)(clock() - start) / CLOCKS_PER_SEC);
}

/* ---- Scenarios -------------------------------------------------------------------------------------- */

#define TINY "tests/golden/wan-tiny"

/* Made once, without failures. */
static kw_catalog *catalog;
static kw_model *tiny;
static kw_prediction *prediction;

static json_t *runs; /* an export's */
static const json_t *kept_run;

/* A copy of the data in which the tiny model is the paper's, with rows of its own. */
static char folder[FOLDER_BYTES];
static kw_catalog *copied;
static kw_model *copied_tiny;

static int copy_data(void)
{
    static char rows[1 << 12], models[1 << 10];
    char root[256], from[FOLDER_BYTES], to[FOLDER_BYTES + 32];
    folder_copy("data", folder);
    snprintf(to, sizeof to, "%s/models/wan-tiny", folder);
    snprintf(from, sizeof from, "%s/" TINY, getcwd(root, sizeof root) ? root : "");
    if (symlink(from, to)) return 1;
    size_t used = (size_t)snprintf(rows, sizeof rows,
                                   "sweep,model,gpu,width,height,frames_requested,steps,latency_s,"
                                   "gpu_energy_wh,cpu_energy_wh,ram_energy_wh\n");
    for (int i = 1; i <= 4; i++) /* resolution, frames, steps: one of 32 x 32, 9 frames, 2 steps in each */
        used += (size_t)snprintf(rows + used, sizeof rows - used,
                                 "resolution,wan-tiny,H100-SXM-80GB,32,%d,9,2,%g,%g,.1,.1\n"
                                 "frames,wan-tiny,H100-SXM-80GB,32,32,%d,2,%g,%g,.1,.1\n"
                                 "steps,wan-tiny,H100-SXM-80GB,32,32,9,%d,%g,%g,.1,.1\n",
                                 16 * (i + 1), 0.1 * i, 0.01 * i, 4 * i + 1, 0.1 * i, 0.01 * i, i, 0.1 * i,
                                 0.01 * i);
    folder_write(folder, "published/delavande2025_wan_sweeps.csv", rows);
    snprintf(
        models, sizeof models,
        "model,gpu,width,height,frames_requested,frames_out,steps,guidance_scale,n_prompts,latency_mean_s,"
        "latency_std_s,gpu_energy_mean_wh,gpu_energy_std_wh,cpu_energy_mean_wh,cpu_energy_std_wh,"
        "ram_energy_mean_wh,ram_energy_std_wh,note\n"
        "wan-tiny,H100-SXM-80GB,32,32,9,9,2,5,1,.1,.01,.01,.001,.1,.01,.1,.01,\n");
    folder_write(folder, "published/delavande2025_models.csv", models);
    folder_set(folder, "published/delavande2025_paper.json", "model", "\"wan-tiny\"");
    folder_set(folder, "published/delavande2025_paper.json", "models.rows.0.model", "\"wan-tiny\"");
    return kw_catalog_open(folder, &copied, NULL) || kw_model_open(copied, "wan-tiny", &copied_tiny, NULL);
}

static int setup(void **state)
{
    (void)state;
    json_set_alloc_funcs(jansson_malloc, jansson_free);
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    request.width = request.height = 32;
    runs = json_load_file("tests/fuzz/corpus/fuzz_import/ours", 0, NULL);
    kept_run = json_array_get(json_object_get(runs, "runs"), 0);
    return !kept_run || kw_catalog_open("data", &catalog, NULL) ||
           kw_model_open(catalog, TINY, &tiny, NULL) ||
           kw_predict(catalog, tiny, &request, &options, &prediction, NULL) || copy_data();
}

static int teardown(void **state)
{
    (void)state;
    kw_prediction_free(prediction);
    kw_model_close(tiny);
    kw_catalog_close(catalog);
    kw_model_close(copied_tiny);
    kw_catalog_close(copied);
    json_decref(runs);
    folder_remove(folder);
    return 0;
}

static kw_status open_catalog(kw_error *err)
{
    kw_catalog *c = NULL;
    kw_status status = kw_catalog_open("data", &c, err);
    if (!status)
        for (int kind = 0; kind < 4; kind++)
            snprintf(digest + strlen(digest), 16, "%zu ", kw_catalog_count(c, (kw_kind)kind));
    kw_catalog_close(c);
    return status;
}

static kw_status open_found_catalog(kw_error *err)
{
    kw_catalog *c = NULL;
    kw_status status = kw_catalog_open(NULL, &c, err);
    kw_catalog_close(c);
    return status;
}

static kw_status open_model_called(const char *name, kw_error *err)
{
    kw_model *model = NULL;
    kw_model_info info = {.struct_size = sizeof info};
    kw_status status = kw_model_open(catalog, name, &model, err);
    if (!status && strncmp(name, "tests/", 6) == 0) status = kw_model_info_get(model, &info, err);
    if (!status)
        snprintf(digest, sizeof digest, "%lld %s", (long long)info.parameters[3],
                 model->hub_id ? model->hub_id : "");
    kw_model_close(model);
    return status;
}

/* Its configs have keys that may have one value only. */
static kw_status open_strict(kw_error *err)
{
    return open_model_called("ltx-video-0.9.7-dev", err);
}

/* Two text encoders, blocks of several kinds, a decoder in chunks. */
static kw_status open_and_count_others(kw_error *err)
{
    return open_model_called("tests/golden/hunyuan-tiny", err);
}

static kw_status open_slug(kw_error *err)
{
    return open_model_called("wan2.1-t2v-1.3b", err);
}

static kw_status open_folder_and_count(kw_error *err)
{
    return open_model_called(TINY, err);
}

static kw_status open_hardware_called(const char *name, kw_error *err)
{
    kw_hardware *h = NULL;
    kw_status status = kw_hardware_open(catalog, name, &h, err);
    if (!status) {
        snprintf(digest, sizeof digest, "%s %zu", kw_hardware_name(h), kw_hardware_count(h));
        for (size_t i = 0; strcmp(name, "cpu") != 0 && i < kw_hardware_count(h); i++) {
            const kw_hardware_value *v = kw_hardware_at(h, i);
            size_t used = strlen(digest);
            snprintf(digest + used, sizeof digest - used, "%s %g %s %s\n", v->key, v->value, v->unit,
                     v->note ? v->note : "");
        }
    }
    kw_hardware_close(h);
    return status;
}

static kw_status open_hardware(kw_error *err)
{
    return open_hardware_called("h100-sxm", err);
}

static kw_status open_alias(kw_error *err)
{
    return open_hardware_called("NVIDIA A100-SXM4-80GB", err);
}

static kw_status open_cpu(kw_error *err)
{
    return open_hardware_called("cpu", err);
}

static kw_status open_stack_called(const char *name, kw_error *err)
{
    struct kw__stack *stack = NULL;
    kw_status status = kw__stack_open(catalog, name, &stack, err);
    for (size_t i = 0; !status && i < stack->num_lists; i++)
        for (size_t k = 0; k < stack->lists[i].num_kernels; k++) {
            size_t used = strlen(digest);
            snprintf(digest + used, sizeof digest - used, "%s %s %g\n", stack->lists[i].key,
                     stack->lists[i].kernels[k].name, stack->lists[i].kernels[k].read);
        }
    kw__stack_close(stack);
    return status;
}

static kw_status open_eager_stack(kw_error *err)
{
    return open_stack_called("diffusers-0.34", err);
}

static kw_status open_fused_stack(kw_error *err)
{
    return open_stack_called("kinowatt", err);
}

static kw_status open_calibration_called(const char *name, kw_error *err)
{
    struct kw__calibration *c = NULL;
    kw_status status = kw__calibration_open(catalog, name, &c, err);
    if (!status) snprintf(digest, sizeof digest, "%d %d %s", c->num_parameters, c->num_rates, c->basis);
    for (int i = 0; !status && i < c->num_rates; i++) {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %g\n", c->rates[i].key,
                 c->rates[i].efficiency.base);
    }
    kw__calibration_close(c);
    return status;
}

/* All of them, one after the other. */
static kw_status open_calibrations(kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < kw_catalog_count(catalog, KW_CALIBRATIONS); i++)
        status = open_calibration_called(kw_catalog_name(catalog, KW_CALIBRATIONS, i), err);
    return status;
}

static kw_status find_calibration(kw_error *err)
{
    kw_hardware *h = NULL;
    kw_error skipped;
    struct kw__calibration *c = NULL;
    enum kw__distance distance;
    kw_status status = kw_hardware_open(catalog, "b200", &h, err);
    if (!status) status = kw__calibration_find(catalog, "kinowatt", h, &c, &distance, &skipped, err);
    if (!status) snprintf(digest, sizeof digest, "%s %d", c->name, (int)distance);
    kw__calibration_close(c);
    kw_hardware_close(h);
    return status;
}

static kw_status open_dataset(kw_error *err)
{
    struct kw__dataset *d = NULL;
    kw_status status = kw__dataset_open(catalog, "delavande2025_models", &d, err);
    if (!status) snprintf(digest, sizeof digest, "%zu", d->num_rows);
    kw__dataset_close(d);
    return status;
}

/* A small request of the tiny model: the graph's size is that of its layers. */
static kw_request small_request(void)
{
    kw_request request = KW_REQUEST_INIT;
    request.width = request.height = 32;
    request.num_frames = 9;
    request.num_inference_steps = 2;
    return request;
}

/* Lowering, every rewrite, counting. */
static kw_status make_workload(const char *stack_name, kw_error *err)
{
    kw_request request = small_request();
    kw_effective effective;
    struct kw__stack *stack = NULL;
    struct kw__workload *w = NULL;
    armed = false; /* the stack is another scenario's */
    kw_status status = kw__stack_open(catalog, stack_name, &stack, err);
    armed = true;
    if (!status) status = kw_request_resolve(tiny, &request, &effective, err);
    if (!status) status = kw__workload_new(tiny, &effective, stack, &w, err);
    for (size_t i = 0; !status && i < w->num_items; i++) {
        const struct kw__item *item = &w->items[i];
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %s %g %g %g\n", w->components[item->component],
                 item->op, item->count, item->work.flop, item->work.main_bytes + item->work.memory_bytes);
    }
    kw__workload_free(w);
    armed = false;
    kw__stack_close(stack);
    armed = true;
    return status;
}

static kw_status eager_workload(kw_error *err)
{
    return make_workload("diffusers-0.34", err);
}

static kw_status rewritten_workload(kw_error *err)
{
    return make_workload("kinowatt", err);
}

static kw_status predict_with(const kw_model *model, kw_method method, const char *hardware,
                              const char *stack, kw_error *err)
{
    kw_request request = model == tiny ? small_request() : (kw_request)KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_prediction *p = NULL;
    char *json = NULL;
    options.method = method;
    options.hardware = hardware;
    options.stack = stack;
    kw_status status = kw_predict(catalog, model, &request, &options, &p, err);
    if (!status) status = kw_prediction_to_json(p, &json, err);
    if (!status) snprintf(digest, sizeof digest, "%s", json);
    free(json);
    kw_prediction_free(p);
    return status;
}

static kw_status predict_kernel(kw_error *err)
{
    return predict_with(tiny, KW_METHOD_KERNEL, "h200", "diffusers-0.40", err);
}

static kw_status predict_far_away(kw_error *err)
{
    return predict_with(tiny, KW_METHOD_KERNEL, "L40S", "kinowatt", err);
}

static kw_status predict_flops(kw_error *err)
{
    return predict_with(tiny, KW_METHOD_FLOPS, "h200", "diffusers-0.40", err);
}

/* The closed form is of the real model alone: its folder is opened here, and its graph is long. */
static kw_status predict_paper(kw_error *err)
{
    kw_model *model = NULL;
    kw_status status = kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, err);
    if (!status) status = predict_with(model, KW_METHOD_PAPER, "h100-sxm", "diffusers-0.34", err);
    kw_model_close(model);
    return status;
}

static kw_status write_json(kw_error *err)
{
    char *json = NULL;
    kw_status status = kw_prediction_to_json(prediction, &json, err);
    if (!status) snprintf(digest, sizeof digest, "%s", json);
    free(json);
    return status;
}

static kw_status explain(kw_error *err)
{
    kw_request request = small_request();
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_bill *bill = NULL;
    options.hardware = "h200";
    options.stack = "kinowatt";
    kw_status status = kw_explain(catalog, tiny, &request, &options, &bill, err);
    for (size_t i = 0; !status && i < bill->num_lines; i++) {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %s %g\n", bill->lines[i].component,
                 bill->lines[i].op, bill->lines[i].latency_s);
    }
    kw_bill_free(bill);
    return status;
}

static kw_status validate_parts(unsigned parts, kw_error *err)
{
    struct kw__shipped *v = NULL;
    kw_status status = kw__validate_shipped(catalog, NULL, parts, &v, err);
    for (int i = 0; !status && i < KW__NUM_TARGETS; i++) {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %g\n", v->targets[i].what, v->targets[i].value);
    }
    kw__shipped_free(v);
    return status;
}

static kw_status validate_h200(kw_error *err)
{
    return validate_parts(KW__VALIDATE_H200, err);
}

static kw_status validate_sweeps(kw_error *err)
{
    return validate_parts(KW__VALIDATE_SWEEPS, err);
}

static kw_status open_priors(kw_error *err)
{
    kw_hardware *hardware = NULL;
    struct kw__priors priors = {0};
    kw_status status = kw_hardware_open(catalog, "b200", &hardware, err);
    if (!status) status = kw__priors_open(catalog, "diffusers-0.34", hardware, NULL, &priors, err);
    if (!status && priors.skipped.code) status = kw__fail(err, KW_ERROR_FORMAT, "%s", priors.skipped.message);
    if (!status)
        snprintf(digest, sizeof digest, "%s %g\n", priors.calibration->basis,
                 priors.calibration->rates[0].efficiency.base);
    kw__priors_close(&priors);
    kw_hardware_close(hardware);
    return status;
}

/* Any rows of a file: which they are, which runs are chosen, and the fit to them. */
static kw_status fit_rows(kw_error *err)
{
    const struct kw__selection selection = {.model = "wan2.1-t2v-1.3b"};
    struct kw__dataset *set = NULL;
    kw_hardware *hardware = NULL;
    struct kw__stack *stack = NULL;
    struct kw__calibration *priors = NULL;
    struct kw__samples *samples = NULL;
    struct kw__kernel_fit *fit = malloc(sizeof *fit);
    const char *of;
    bool marks[16] = {false};
    kw_status status;
    (void)((status = fit ? KW_OK : kw__fail_memory(err)) ||
           (status = kw__dataset_read(catalog, NULL, "data/published/h200_diffusers040.csv", &set, err)) ||
           (status = kw__dataset_select(catalog, &selection, set, &of, &hardware, err)) ||
           (status = kw__stack_open(catalog, of, &stack, err)) ||
           (status = kw__calibration_open(catalog, "diffusers-0.40@h200", &priors, err)) ||
           (status = kw__samples_new(catalog, set, stack, priors, hardware, &samples, err)) ||
           (status = kw__choose_runs(samples, 3, 120, marks, err)) ||
           (status = kw__kernel_fit(samples, marks, fit, err)));
    for (int i = 0; !status && i < fit->num_parameters; i++) {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%g\n", fit->x[i]);
    }
    free(fit);
    kw__samples_free(samples);
    kw__calibration_close(priors);
    kw__stack_close(stack);
    kw_hardware_close(hardware);
    kw__dataset_close(set);
    return status;
}

static kw_status scale(kw_error *err)
{
    static const struct kw__scaling_value values[] = {{32, 32, 0}, {64, 32, 0}, {64, 64, 0}};
    const kw_request request = small_request();
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    struct kw__scaling *s = NULL;
    kw_status status =
        kw__scaling_new(copied, copied_tiny, &request, &options, KW__AXIS_RESOLUTION, values, 3, &s, err);
    for (size_t i = 0; !status && i < s->num_points; i++) {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%g %g %g %g %zu\n", s->points[i].x,
                 s->points[i].prediction->total.latency_s.value, s->points[i].latency_exponent,
                 s->points[i].published_latency_s, s->num_rows);
    }
    kw__scaling_free(s);
    return status;
}

static kw_status reproduce(kw_error *err)
{
    struct kw__reproduction *r = NULL;
    kw_status status = kw__reproduction_new(copied, NULL, &r, err);
    for (int i = 0; !status && i < KW__REPRO_SWEEPS; i++) {
        const struct kw__repro_sweep *sweep = &r->sweeps[i];
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %zu %g %g %g %g\n", sweep->axis, sweep->count,
                 sweep->ours_latency.mean, sweep->ours_energy.mean, sweep->group_out_latency.mean,
                 sweep->axis_out_energy.mean);
    }
    if (!status)
        snprintf(digest + strlen(digest), 200, "%g %g %zu %zu", r->exact.mu, r->constants[0].real,
                 r->num_models, r->num_accelerators);
    kw__reproduction_free(r);
    return status;
}

/* Hundreds of thousands of allocations and a second a run: a handful each. */
static void test_reproduce(void **state)
{
    (void)state;
    fail_allocations(reproduce, SANITIZED ? 4 : 40);
}

/* ---- Checkpoints and exports ---- */

static kw_status open_weights(kw_error *err)
{
    struct kw__safetensors *file = NULL;
    kw_status status = kw__safetensors_open("tests/data/casts.safetensors", &file, err);
    for (size_t i = 0; !status && i < kw__safetensors_count(file); i++) {
        const struct kw__stored_tensor *tensor = kw__safetensors_at(file, i);
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %s %d %llu\n", tensor->name, tensor->dtype,
                 tensor->ndim, (unsigned long long)tensor->end);
    }
    kw__safetensors_close(file);
    return status;
}

/* An export, run by run; of each the texts. */
static kw_status split_export(kw_error *err)
{
    struct kw__json_split split;
    json_t *run = NULL, *value;
    const char *key;
    kw_status status = kw__json_split_open("tests/fuzz/corpus/fuzz_import/ours", &split, err);
    if (status) return status;
    while (!status && !(status = kw__json_split_next(&split, &run, err)) && run) {
        json_object_foreach(run, key, value)
        {
            size_t used = strlen(digest);
            if (json_is_string(value))
                snprintf(digest + used, sizeof digest - used, "%s %s\n", key, json_string_value(value));
        }
        json_decref(run);
    }
    json_object_foreach(split.members, key, value)
    {
        size_t used = strlen(digest);
        snprintf(digest + used, sizeof digest - used, "%s %s\n", key, json_string_value(value));
    }
    kw__json_split_close(&split);
    return status;
}

/* ---- The store ---- */

static void ignore_bad(void *user, const kw_error *why)
{
    (void)user;
    (void)why;
}

static kw_status put_run(void *user, struct kw__run *run, kw_error *err)
{
    struct kw__out *out = user;
    struct kw__finding *findings = NULL;
    size_t count = 0;
    (void)err;
    kw__run_put_json(out, run, 0, findings, count);
    return out->failed ? KW_ERROR_MEMORY : KW_OK;
}

/* Keeps a run, reads it back, and takes it out again. */
static kw_status keep_run(struct kw__store *store, kw_error *err)
{
    struct kw__run *run = NULL, *back = NULL;
    struct kw__finding *findings;
    struct kw__out out;
    size_t count;
    kw__out_init(&out);
    kw_status status = kw__run_from_json(kept_run, &run, &findings, &count, err);
    if (!status) status = kw__store_add(store, run, err);
    if (!status) status = kw__store_set_findings(store, run->id, findings, count, err);
    if (!status) status = kw__store_get(store, run->id, &back, err);
    if (!status) status = kw__store_get_findings(store, run->id, &back->arena, &findings, &count, err);
    if (!status) {
        kw__run_put_json(&out, back, 0, findings, count);
        status = out.failed ? kw__fail_memory(err) : KW_OK;
    }
    if (!status) snprintf(digest, sizeof digest, "%s", out.data);
    if (!status) status = kw__store_delete(store, run->id, err);
    kw__out_free(&out);
    kw__run_free(run);
    kw__run_free(back);
    return status;
}

static kw_status with_store(kw_status (*use)(struct kw__store *store, kw_error *err), kw_error *err)
{
    struct kw__store *store = NULL;
    char path[FOLDER_BYTES + 16];
    snprintf(path, sizeof path, "%s/runs.db", folder);
    kw_status status = kw__store_open(path, KW__STORE_WRITE, &store, err);
    if (!status) status = use(store, err);
    kw__store_close(store);
    return status;
}

static kw_status keep_runs(kw_error *err)
{
    return with_store(keep_run, err);
}

/* Rows of a date, so that the runs are the same each time. */
static kw_status import_carbon(struct kw__store *store, kw_error *err)
{
    const struct kw__import import = {.catalog = catalog, .store = store, .bad = ignore_bad};
    struct kw__import_counts counts;
    struct kw__out out;
    kw__out_init(&out);
    kw_status status = kw__import_file(&import, "tests/fuzz/corpus/fuzz_import/codecarbon-bad", &counts, err);
    if (!status) status = kw__store_each(store, NULL, put_run, &out, err);
    if (status == KW_ERROR_MEMORY && !err->code) kw__fail_memory(err);
    if (!status) snprintf(digest, sizeof digest, "%s", out.data);
    kw__out_free(&out);
    return status;
}

static kw_status import_runs(kw_error *err)
{
    return with_store(import_carbon, err);
}

static void test_validate_h200(void **state)
{
    (void)state;
    fail_allocations(validate_h200, 12);
}

static void test_fit_rows(void **state)
{
    (void)state;
    fail_allocations(fit_rows, 12);
}

static void test_validate_sweeps(void **state)
{
    (void)state;
    if (SANITIZED && !getenv("KINOWATT_ALLOC_ALL")) skip(); /* half a minute */
    fail_allocations(validate_sweeps, 2);
}

#define SCENARIO(name)                                                                                       \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        (void)state;                                                                                         \
        fail_allocations(name, RUNS_OF_A_LONG_ONE);                                                          \
    }
SCENARIO(open_catalog)
SCENARIO(open_found_catalog)
SCENARIO(open_slug)
SCENARIO(open_strict)
SCENARIO(open_folder_and_count)
SCENARIO(open_and_count_others)
SCENARIO(open_hardware)
SCENARIO(open_alias)
SCENARIO(open_cpu)
SCENARIO(open_eager_stack)
SCENARIO(open_fused_stack)
SCENARIO(open_calibrations)
SCENARIO(find_calibration)
SCENARIO(open_priors)
SCENARIO(open_dataset)
SCENARIO(eager_workload)
SCENARIO(rewritten_workload)
SCENARIO(predict_kernel)
SCENARIO(predict_far_away)
SCENARIO(predict_flops)
SCENARIO(predict_paper)
SCENARIO(write_json)
SCENARIO(explain)
SCENARIO(scale)
SCENARIO(open_weights)
SCENARIO(split_export)
SCENARIO(keep_runs)
SCENARIO(import_runs)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_catalog),
        cmocka_unit_test(test_open_found_catalog),
        cmocka_unit_test(test_open_slug),
        cmocka_unit_test(test_open_strict),
        cmocka_unit_test(test_open_folder_and_count),
        cmocka_unit_test(test_open_and_count_others),
        cmocka_unit_test(test_open_hardware),
        cmocka_unit_test(test_open_alias),
        cmocka_unit_test(test_open_cpu),
        cmocka_unit_test(test_open_eager_stack),
        cmocka_unit_test(test_open_fused_stack),
        cmocka_unit_test(test_open_calibrations),
        cmocka_unit_test(test_find_calibration),
        cmocka_unit_test(test_open_priors),
        cmocka_unit_test(test_open_dataset),
        cmocka_unit_test(test_eager_workload),
        cmocka_unit_test(test_rewritten_workload),
        cmocka_unit_test(test_predict_kernel),
        cmocka_unit_test(test_predict_far_away),
        cmocka_unit_test(test_predict_flops),
        cmocka_unit_test(test_predict_paper),
        cmocka_unit_test(test_write_json),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_open_weights),
        cmocka_unit_test(test_split_export),
        cmocka_unit_test(test_keep_runs),
        cmocka_unit_test(test_import_runs),
        cmocka_unit_test(test_reproduce),
        cmocka_unit_test(test_validate_h200),
        cmocka_unit_test(test_fit_rows),
        cmocka_unit_test(test_validate_sweeps),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
