/* Every JSON file that the library reads. The first byte of an input names the file (a letter of `files`
 * below), the rest is its text. What opens is used: a model is lowered, rewritten and counted, a stack
 * counts a tiny model, hardware and calibrations price it. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/family.h"
#include "predict/price.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    char letter;
    const char *path;
} files[] = {
    {'t', "transformer/config.json"},
    {'e', "text_encoder/config.json"},
    {'v', "vae/config.json"},
    {'s', "scheduler/scheduler_config.json"},
    {'i', "model_index.json"},
    {'d', "defaults.json"},
    {'S', "stack.json"},
    {'H', "hardware.json"},
    {'C', "calibration.json"},
};
enum { NUM_FILES = sizeof files / sizeof files[0], NUM_MODEL_FILES = 6, PATH_BYTES = 512 };

/* Made at the first input, kept to the end. */
static char folder[PATH_BYTES];
static kw_catalog *catalog;
static kw_model *tiny;
static struct kw__stack *fused;
static kw_hardware *card;
static struct kw__calibration *calibration;
static struct kw__workload *workload;

/* A failure of the set-up, or of something that an input must never reach. */
static void require(bool good, const char *what)
{
    if (good) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void path_of(int file, char *path)
{
    snprintf(path, PATH_BYTES, "%.400s/%s", folder, files[file].path);
}

static void write_file(int file, const void *data, size_t size)
{
    char path[PATH_BYTES];
    path_of(file, path);
    FILE *out = fopen(path, "wb");
    require(out && fwrite(data, 1, size, out) == size && fclose(out) == 0, "cannot write");
}

/* The good file of a tiny model, small enough to lower it for each input. */
static void restore(int file)
{
    char path[PATH_BYTES], text[1 << 14];
    snprintf(path, sizeof path, "tests/golden/wan-tiny/%s", files[file].path);
    FILE *in = fopen(path, "rb");
    size_t size = in ? fread(text, 1, sizeof text, in) : 0;
    if (in) fclose(in);
    if (!size) size = (size_t)snprintf(text, sizeof text, "{}"); /* defaults.json */
    write_file(file, text, size);
}

static struct kw__workload *count(const kw_model *model, const struct kw__stack *stack)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective effective;
    kw_error err;
    struct kw__workload *w = NULL;
    kw_status status = kw_request_resolve(model, &request, &effective, &err);
    if (status) { /* a patch of 3 needs another size */
        request.width = request.height = 48 * 40;
        status = kw_request_resolve(model, &request, &effective, &err);
    }
    if (status) return NULL;
    kw__workload_new(model, &effective, stack, &w, &err);
    return w;
}

static void clean_up(void)
{
    char path[PATH_BYTES];
    for (int i = 0; i < NUM_FILES; i++) {
        path_of(i, path);
        remove(path);
        if (i >= 4) continue;
        *strrchr(path, '/') = '\0';
        rmdir(path);
    }
    rmdir(folder);
    kw__workload_free(workload);
    kw__calibration_close(calibration);
    kw_hardware_close(card);
    kw__stack_close(fused);
    kw_model_close(tiny);
    kw_catalog_close(catalog);
}

static void set_up(void)
{
    kw_error err;
    const char *base = getenv("TMPDIR");
    char path[PATH_BYTES];
    snprintf(folder, sizeof folder, "%.400s/kinowatt-fuzz-XXXXXX", base && *base ? base : "/tmp");
    require(mkdtemp(folder) != NULL, "cannot make a folder");
    for (int i = 0; i < NUM_MODEL_FILES; i++) {
        path_of(i, path);
        *strrchr(path, '/') = '\0';
        mkdir(path, 0755);
        restore(i);
    }
    require(!kw_catalog_open("data", &catalog, &err) &&
                !kw_model_open(catalog, "tests/golden/wan-tiny", &tiny, &err) &&
                !kw__stack_open(catalog, "kinowatt", &fused, &err) &&
                !kw_hardware_open(catalog, "h200", &card, &err) &&
                !kw__calibration_open(catalog, "kinowatt@h200", &calibration, &err),
            "run me in the repository");
    workload = count(tiny, fused);
    require(workload != NULL, "the tiny model cannot be counted");
    atexit(clean_up);
}

/* Any result must be a number or said to be absent. */
static void price(const struct kw__calibration *c, const kw_hardware *hardware)
{
    kw_error err;
    struct kw__arena arena;
    struct kw__binding binding;
    struct kw__prices prices;
    double values[KW__MAX_PARAMETERS], latency_s, energy_j;
    kw__arena_init(&arena);
    struct kw__bundles bundles;
    for (int k = 0; k < c->num_parameters; k++) values[k] = c->parameters[k].log_value;
    if (!kw__bind_rates(workload, c, &arena, &binding, &err) &&
        !kw__prices_of(c, hardware, workload, &binding, 0, values, &prices, &err) &&
        !kw__bundle_items(workload, &binding, NULL, &arena, &bundles, &err)) {
        kw__price_total(&bundles, &prices, &latency_s, &energy_j);
        require(latency_s > 0 && isfinite(latency_s), "no latency");
        require(isnan(energy_j) || energy_j > 0, "no energy");
    }
    kw__arena_free(&arena);
}

/* Whether a count of layers is so large that lowering would take its time. */
static bool is_deep(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"num_layers", "num_res_blocks"};
    char text[1 << 13];
    size_t length = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, length);
    for (size_t i = 0; i < length; i++)
        if (!text[i]) text[i] = ' ';
    text[length] = '\0';
    for (int k = 0; k < 2; k++)
        for (const char *at = text; (at = strstr(at, keys[k])) != NULL;) {
            at += strlen(keys[k]);
            at += strcspn(at, "0123456789");
            if (strtod(at, NULL) > 6) return true;
        }
    return size > length; /* what is not looked at may be deep */
}

static void try_model(const uint8_t *data, size_t size)
{
    kw_error err;
    kw_model *model = NULL;
    if (kw_model_open(catalog, folder, &model, &err)) {
        require(!model && err.message[0] && !strpbrk(err.message, "\n\r"), "no message");
        return;
    }
    struct kw__workload *w = is_deep(data, size) ? NULL : count(model, fused);
    for (int s = 0; w && s < w->num_stages; s++)
        require(isfinite(w->stage_flop[s].flop) && w->stage_flop[s].flop >= 0, "no FLOPs");
    kw__workload_free(w);
    kw_model_close(model);
}

static void try_stack(const char *path)
{
    kw_error err;
    struct kw__stack *stack;
    if (kw__stack_open(catalog, path, &stack, &err)) return;
    struct kw__workload *w = count(tiny, stack);
    kw__workload_free(w);
    kw__stack_close(stack);
}

static void try_hardware(const char *path)
{
    kw_error err;
    kw_hardware *hardware;
    kw_thresholds thresholds;
    if (kw_hardware_open(catalog, path, &hardware, &err)) return;
    if (!kw_hardware_thresholds(hardware, &thresholds, &err))
        require(thresholds.ridge_flop_per_byte > 0, "no ridge");
    price(calibration, hardware);
    kw_hardware_close(hardware);
}

static void try_calibration(const char *path)
{
    kw_error err;
    struct kw__calibration *c;
    if (kw__calibration_open(catalog, path, &c, &err)) return;
    price(c, card);
    kw__calibration_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[PATH_BYTES];
    if (!catalog) set_up();
    if (!size) return 0;
    int file = 0;
    while (file < NUM_FILES && files[file].letter != (char)data[0]) file++;
    if (file == NUM_FILES) return 0;
    path_of(file, path);
    write_file(file, data + 1, size - 1);
    switch (data[0]) {
    case 'S': try_stack(path); break;
    case 'H': try_hardware(path); break;
    case 'C': try_calibration(path); break;
    default: try_model(data + 1, size - 1);
    }
    if (file < NUM_MODEL_FILES) restore(file);
    return 0;
}
