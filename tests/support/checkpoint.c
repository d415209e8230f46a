/* checkpoint.h is the manual. */
#include "support/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/random.h"
#include "model/family.h"
#include "report/out.h"
#include "support/folder.h"

static size_t elements_of(const struct kw__tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= (size_t)t->dim[i];
    return n;
}

static void put_header(struct kw__out *out, const struct kw__program *program, const char *component)
{
    size_t offset = 0;
    bool first = true;
    kw__out_puts(out, "{");
    for (size_t i = 0; i < program->num_tensors; i++) {
        const struct kw__tensor *t = &program->tensors[i];
        if (strcmp(t->component, component) != 0) continue;
        kw__out_printf(out, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", first ? "" : ",", t->name);
        for (int d = 0; d < t->ndim; d++) kw__out_printf(out, "%s%" PRId64, d ? "," : "", t->dim[d]);
        size_t end = offset + 4 * elements_of(t);
        kw__out_printf(out, "],\"data_offsets\":[%zu,%zu]}", offset, end);
        offset = end;
        first = false;
    }
    kw__out_puts(out, "}");
    assert_false(out->failed);
}

static void put_tensor(FILE *file, const struct kw__tensor *t, uint64_t seed, bool poisoned)
{
    size_t n = elements_of(t);
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    struct kw__random stream = kw__random_stream(t->component, t->name, seed);
    struct kw__random_law law = kw__random_law(t->name, t->ndim, t->dim);
    kw__random_fill(&stream, law.mean, law.scale, 0, n, x);
    if (poisoned) x[0] = NAN;
    assert_int_equal(fwrite(x, sizeof *x, n, file), n);
    free(x);
}

static void write_component(const char *folder, const struct kw__program *program, const char *component,
                            uint64_t seed, const char *poisoned)
{
    char path[1024];
    struct kw__out header;
    snprintf(path, sizeof path, "%s/%s", folder, component);
    (void)mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", folder, component,
             strcmp(component, "text_encoder") == 0 ? "model" : "diffusion_pytorch_model");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    kw__out_init(&header);
    put_header(&header, program, component);
    for (int i = 0; i < 8; i++) assert_int_not_equal(fputc((int)(header.len >> 8 * i & 0xFF), file), EOF);
    assert_int_equal(fwrite(header.data, 1, header.len, file), header.len);
    kw__out_free(&header);
    for (size_t i = 0; i < program->num_tensors; i++) {
        const struct kw__tensor *t = &program->tensors[i];
        if (strcmp(t->component, component) == 0)
            put_tensor(file, t, seed, poisoned && strcmp(poisoned, t->name) == 0);
    }
    assert_int_equal(fclose(file), 0);
}

void checkpoint_write(const char *folder, const struct kw__program *program, uint64_t seed,
                      const char *poisoned)
{
    static const char *const components[] = {"text_encoder", "transformer", "vae"};
    for (int i = 0; i < 3; i++) write_component(folder, program, components[i], seed, poisoned);
}

static void copy_tokenizer(const char *folder)
{
    char path[FOLDER_BYTES + 64];
    int byte;
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/tokenizer/spiece.model", folder);
    FILE *from = fopen("tests/data/tiny-spiece.model", "rb"), *to = fopen(path, "wb");
    assert_true(from && to);
    while ((byte = fgetc(from)) != EOF) assert_int_not_equal(fputc(byte, to), EOF);
    fclose(from);
    assert_int_equal(fclose(to), 0);
}

void checkpoint_folder(const kw_catalog *catalog, char *folder, const char *poisoned)
{
    const struct kw__dtypes dtypes = KW__ALL_F32;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    kw_model *model;
    struct kw__program *program;
    kw_error err;
    request.width = request.height = 16;
    folder_copy("tests/golden/wan-tiny", folder);
    folder_set(folder, "text_encoder/config.json", "vocab_size", "400");
    copy_tokenizer(folder);
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    if (kw_request_resolve(model, &request, &r, &err)) fail_msg("%s", err.message);
    if (kw__lower(model, &r, &dtypes, &program, &err)) fail_msg("%s", err.message);
    checkpoint_write(folder, program, 0, poisoned);
    kw__program_free(program);
    kw_model_close(model);
}
