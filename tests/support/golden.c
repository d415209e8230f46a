/* golden.h is the manual. */
#include "support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/random.h"
#include "graph/rewrite.h"
#include "model/family.h"

double *golden_read(const char *name, size_t count)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    bool single = strstr(name, ".f32") != NULL;
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be opened; tests run in the repository's root", path);
    double *out = calloc(count, sizeof *out);
    assert_non_null(out);
    size_t got = 0;
    float element;
    if (single)
        for (; got < count && fread(&element, sizeof element, 1, file) == 1; got++) out[got] = element;
    else
        got = fread(out, sizeof *out, count, file);
    assert_int_equal(got, count);
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
    return out;
}

void golden_noise(const char *name, size_t count, float *out)
{
    struct kw__random stream = kw__random_stream("noise", name, GOLDEN_SEED);
    kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, 0, count, out);
}

static void apply(struct kw__program *program, const char *name)
{
    kw_error err;
    if (kw__rewrite_apply(program, name, &err)) fail_msg("%s", err.message);
}

static void rewrite(struct kw__program *program, const char *name)
{
    size_t count = kw__rewrite_count();
    int rounds = strcmp(name, "all twice") == 0 ? 2 : strncmp(name, "all", 3) == 0 ? 1 : 0;
    bool backwards = strcmp(name, "all backwards") == 0;
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < count; i++) apply(program, kw__rewrite_name(backwards ? count - 1 - i : i));
    if (rounds) return;
    if (strcmp(name, "fold_upsample") == 0) apply(program, "fuse_upsample"); /* which it goes on from */
    apply(program, name);
}

/* WAN's factors, at sizes that its pipeline need not allow. */
static kw_effective of_latents(const kw_model *model, struct golden_size size)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    kw_error err;
    request.width = request.height = 64;
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    r.latent_frames = size.frames;
    r.latent_height = size.height;
    r.latent_width = size.width;
    r.num_frames = 1 + 4 * (size.frames - 1);
    r.height = 8 * size.height;
    r.width = 8 * size.width;
    r.tokens = size.frames * (size.height / 2) * (size.width / 2);
    return r;
}

/* The first number of frames that gives these latents, whose cells are as large as in any clip. */
static kw_effective resolved(const kw_model *model, struct golden_size size)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective r = {0};
    kw_error err;
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    request.width = r.width / r.latent_width * size.width;
    request.height = r.height / r.latent_height * size.height;
    request.size_of_clip = true;
    request.guidance_scale = size.guidance;
    r.latent_frames = 0;
    while (r.latent_frames < size.frames) {
        request.num_frames++;
        if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    }
    assert_true(r.latent_frames == size.frames && r.latent_height == size.height &&
                r.latent_width == size.width);
    return r;
}

struct golden_case golden_lower(const char *model, struct golden_size size)
{
    struct golden_case l = {0};
    kw_error err;
    char folder[256];
    snprintf(folder, sizeof folder, "tests/golden/%s", model);
    if (kw_catalog_open("data", &l.catalog, &err)) fail_msg("%s", err.message);
    if (kw_model_open(l.catalog, folder, &l.model, &err)) fail_msg("%s", err.message);
    kw_effective r = size.resolved ? resolved(l.model, size) : of_latents(l.model, size);
    r.batch_size = size.batch ? size.batch : 1;
    r.text_tokens = size.text_tokens;
    r.prompt_tokens = size.prompt_tokens[0];
    r.negative_tokens = size.prompt_tokens[1];
    r.num_inference_steps = size.steps ? size.steps : 1;
    r.guidance_scale = size.guidance;
    if (!size.resolved) r.guidance_passes = size.guidance > 1 ? 2 : 1;
    if (!isnan(r.guidance_scale_2))
        r.guidance_scale_2 = size.guidance_2 > 0 ? size.guidance_2 : size.guidance;
    struct kw__dtypes dtypes = KW__ALL_F32;
    if (size.tiled) dtypes.tiled_decode = KW__ALWAYS;
    if (kw__lower(l.model, &r, &dtypes, &l.program, &err)) fail_msg("%s", err.message);
    if (size.rewrite) rewrite(l.program, size.rewrite);
    l.how = size.rewrite ? size.rewrite : "the reference graph";
    return l;
}

void golden_release(struct golden_case *c)
{
    kw__program_free(c->program);
    kw_model_close(c->model);
    kw_catalog_close(c->catalog);
}

struct kw__phase *golden_phase(const struct golden_case *c, const char *stage, const char *phase)
{
    for (int s = 0; s < c->program->num_stages; s++) {
        struct kw__stage *in = &c->program->stages[s];
        for (int p = 0; strcmp(in->name, stage) == 0 && p < in->num_phases; p++)
            if (strcmp(in->phases[p].name, phase) == 0) return &in->phases[p];
    }
    return NULL;
}

size_t golden_input(const struct golden_case *c, const char *phase, const char *name)
{
    const struct kw__phase *at = golden_phase(c, "text_encode", phase);
    assert_non_null(at);
    for (size_t v = 1; v < at->graph->num_values; v++)
        if (strcmp(at->graph->values[v].name, name) == 0) return (size_t)kw__elements(&at->graph->values[v]);
    return 0;
}

size_t golden_tokens(const struct golden_case *c, const char *phase, int length, int first, int stride,
                     int vocabulary, double ids[256])
{
    size_t width = golden_input(c, phase, "ids");
    assert_in_range(width, length, 256);
    memset(ids, 0, 256 * sizeof *ids);
    for (int i = 0; i < length; i++) ids[i] = (first + stride * i) % vocabulary;
    return width;
}
