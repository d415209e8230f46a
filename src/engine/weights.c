/* The two providers of weights; weights.h is the manual. */
#include "engine/weights.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/random.h"
#include "engine/safetensors.h"

/* text_encoder, transformer, transformer_2, vae, ... */
enum { MAX_COMPONENTS = 8 };

enum distribution { NORMAL, UNIFORM, CONSTANT, NUM_DISTRIBUTIONS };
static const char *const distribution_names[NUM_DISTRIBUTIONS] = {"normal", "uniform", "constant"};

struct provider {
    char label[48];
    /* random */
    uint64_t seed;
    enum distribution distribution;
    /* a checkpoint */
    int num_components;
    struct {
        const char *name; /* the program's */
        struct kw__checkpoint *checkpoint;
    } components[MAX_COMPONENTS];
};

static size_t elements_of(const struct kw__tensor *tensor)
{
    size_t n = 1;
    for (int i = 0; i < tensor->ndim; i++) n *= (size_t)tensor->dim[i];
    return n;
}

/* ---- Random -------------------------------------------------------------------------------- */

/* A part of a tensor, for one thread. */
struct part {
    const struct provider *provider;
    const struct kw__tensor *tensor;
    enum kw__dtype wanted;
    void *out;
    size_t first, count;
};

static uint16_t to_bf16(float value) /* never NaN here */
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

static void fill(const struct part *p, const struct kw__random *stream, struct kw__random_law law,
                 size_t first, size_t count, float *out)
{
    switch (p->provider->distribution) {
    case NORMAL: kw__random_fill(stream, law.mean, law.scale, first, count, out); break;
    case UNIFORM: kw__random_fill_uniform(stream, law.mean, law.scale, first, count, out); break;
    default:
        for (size_t i = 0; i < count; i++) out[i] = law.mean;
    }
}

static void *fill_part(void *argument)
{
    const struct part *p = argument;
    const struct kw__tensor *t = p->tensor;
    struct kw__random stream = kw__random_stream(t->component, t->name, p->provider->seed);
    struct kw__random_law law = kw__random_law(t->name, t->ndim, t->dim);
    if (p->wanted == KW__F32) {
        fill(p, &stream, law, p->first, p->count, (float *)p->out + p->first);
        return NULL;
    }
    enum { BLOCK = 4096 };
    float block[BLOCK];
    uint16_t *out = (uint16_t *)p->out + p->first;
    for (size_t done = 0; done < p->count; done += BLOCK) {
        size_t n = p->count - done < BLOCK ? p->count - done : BLOCK;
        fill(p, &stream, law, p->first + done, n, block);
        for (size_t i = 0; i < n; i++) out[done + i] = to_bf16(block[i]);
    }
    return NULL;
}

/* An element takes about 2 ns; umT5-XXL and WAN2.1-1.3B have seven thousand million of them, so large
 * tensors are made by all cores. Which core makes an element does not change it. */
static kw_status random_get(void *self, const struct kw__tensor *tensor, enum kw__dtype wanted, void *out,
                            kw_error *err)
{
    enum { MAX_THREADS = 64, WORTH_A_THREAD = 1 << 18 };
    if (wanted != KW__F32 && wanted != KW__BF16)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "random weights are made as f32 or bf16, not as %s",
                        kw__dtype_name(wanted));
    size_t count = elements_of(tensor);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (size_t)cores;
    if (threads > count / WORTH_A_THREAD + 1) threads = count / WORTH_A_THREAD + 1;
    struct part parts[MAX_THREADS];
    pthread_t thread[MAX_THREADS];
    size_t each = (count + threads - 1) / threads, started = 0;
    for (size_t i = 0; i < threads; i++) {
        size_t first = i * each < count ? i * each : count;
        parts[i] =
            (struct part){self, tensor, wanted, out, first, count - first < each ? count - first : each};
    }
    while (started + 1 < threads && pthread_create(&thread[started], NULL, fill_part, &parts[started]) == 0)
        started++;
    for (size_t i = started; i < threads; i++) fill_part(&parts[i]); /* the last, and what got no thread */
    for (size_t i = 0; i < started; i++) pthread_join(thread[i], NULL);
    return KW_OK;
}

static kw_status bad_spec(const char *spec, kw_error *err)
{
    return kw__fail(err, KW_ERROR_USAGE,
                    "weights \"%.80s\": give random[:SEED][:DISTRIBUTION] with a seed of 0 to 2^64-1 and "
                    "normal, uniform or constant, or a folder",
                    spec);
}

static bool parse_seed(const char *word, uint64_t *seed)
{
    uint64_t value = 0;
    for (const char *c = word; *c; c++) {
        if (*c < '0' || *c > '9') return false;
        uint64_t digit = (uint64_t)(*c - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *seed = value;
    return *word != '\0';
}

static bool is_random(const char *spec)
{
    return strncmp(spec, "random", 6) == 0 && (spec[6] == '\0' || spec[6] == ':');
}

static kw_status read_random(struct provider *p, const char *spec, kw_error *err)
{
    char words[2][32] = {"", ""};
    int num_words = 0;
    for (const char *at = spec + strlen("random"); *at == ':'; num_words++) {
        size_t length = strcspn(++at, ":");
        if (num_words == 2 || length >= sizeof words[0]) return bad_spec(spec, err);
        memcpy(words[num_words], at, length);
        at += length;
    }
    const char *name = distribution_names[NORMAL];
    if (num_words == 2 || (num_words == 1 && !parse_seed(words[0], &p->seed))) name = words[num_words - 1];
    if (num_words == 2 && !parse_seed(words[0], &p->seed)) return bad_spec(spec, err);
    int d = 0;
    while (d < NUM_DISTRIBUTIONS && strcmp(name, distribution_names[d]) != 0) d++;
    if (d == NUM_DISTRIBUTIONS) return bad_spec(spec, err);
    p->distribution = (enum distribution)d;
    snprintf(p->label, sizeof p->label, "random:%" PRIu64 ":%s", p->seed, distribution_names[d]);
    return KW_OK;
}

/* ---- A checkpoint ----------------------------------------------------------------------------- */

/* Opens the component when a tensor of it comes up for the first time. */
static kw_status component_of(struct provider *p, const char *folder, const char *name,
                              struct kw__checkpoint **out, kw_error *err)
{
    for (int i = 0; i < p->num_components; i++) {
        if (strcmp(p->components[i].name, name) != 0) continue;
        *out = p->components[i].checkpoint;
        return KW_OK;
    }
    if (p->num_components == MAX_COMPONENTS)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "the model has more than %d components with weights",
                        MAX_COMPONENTS);
    /* text encoders are transformers' models, the rest are diffusers' */
    const char *base = strncmp(name, "text_encoder", 12) == 0 ? "model" : "diffusion_pytorch_model";
    size_t length = strlen(folder) + strlen(name) + 2;
    char *path = malloc(length);
    if (!path) return kw__fail_memory(err);
    snprintf(path, length, "%s/%s", folder, name);
    kw_status status = kw__checkpoint_open(path, base, out, err);
    free(path);
    if (status) return status;
    p->components[p->num_components].name = name;
    p->components[p->num_components++].checkpoint = *out;
    return KW_OK;
}

static kw_status read_checkpoint(struct provider *p, const char *folder, const struct kw__program *program,
                                 kw_error *err)
{
    struct stat info;
    if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode))
        return kw__fail(err, KW_ERROR_NOT_FOUND,
                        "there is no folder %s with weights; with \"random\" none is needed", folder);
    snprintf(p->label, sizeof p->label, "checkpoint");
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < program->num_tensors; i++) {
        const struct kw__tensor *tensor = &program->tensors[i];
        struct kw__checkpoint *checkpoint;
        const struct kw__safetensors *file;
        const struct kw__stored_tensor *stored;
        status = component_of(p, folder, tensor->component, &checkpoint, err);
        if (!status) status = kw__checkpoint_find(checkpoint, tensor, &file, &stored, err);
    }
    return status;
}

static kw_status checkpoint_get(void *self, const struct kw__tensor *tensor, enum kw__dtype wanted, void *out,
                                kw_error *err)
{
    struct provider *p = self;
    for (int i = 0; i < p->num_components; i++) {
        if (strcmp(p->components[i].name, tensor->component) != 0) continue;
        const struct kw__safetensors *file;
        const struct kw__stored_tensor *stored;
        kw_status status = kw__checkpoint_find(p->components[i].checkpoint, tensor, &file, &stored, err);
        return status ? status : kw__safetensors_read(file, stored, wanted, out, err);
    }
    return kw__fail(err, KW_ERROR_NOT_FOUND, "the checkpoint was opened for a program without %s",
                    tensor->component);
}

/* ---- Both -------------------------------------------------------------------------------------- */

kw_status kw__weights_open(const char *spec, const struct kw__program *program, struct kw__weights *out,
                           kw_error *err)
{
    struct provider *p = calloc(1, sizeof *p);
    if (!p) return kw__fail_memory(err);
    struct kw__weights weights = {p, is_random(spec) ? random_get : checkpoint_get};
    kw_status status = is_random(spec) ? read_random(p, spec, err) : read_checkpoint(p, spec, program, err);
    if (status)
        kw__weights_close(&weights);
    else
        *out = weights;
    return status;
}

void kw__weights_close(struct kw__weights *weights)
{
    struct provider *p = weights->self;
    for (int i = 0; p && i < p->num_components; i++) kw__checkpoint_close(p->components[i].checkpoint);
    free(p);
    *weights = (struct kw__weights){0};
}

const char *kw__weights_label(const struct kw__weights *weights)
{
    return ((const struct provider *)weights->self)->label;
}
