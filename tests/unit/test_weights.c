/* The providers of weights: random ones, and checkpoint folders that the tests write. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/random.h"
#include "engine/weights.h"
#include "report/out.h"

/* A program with these tensors: transformer a [2,3], transformer b [4], text_encoder t [2]. */
static struct kw__program *small_program(void)
{
    const kw_effective request = {.width = 16};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    assert_non_null(program);
    struct kw__stage *stage = kw__program_stage(program, "denoise");
    struct kw__graph *g = kw__stage_phase(program, stage, "step", 1);
    g->tensors = "transformer";
    assert_int_not_equal(kw__weight(g, "a", KW__F32, KW__DIMS(2, 3)), 0);
    assert_int_not_equal(kw__weight(g, "b", KW__F32, KW__DIMS(4)), 0);
    g->tensors = "text_encoder";
    assert_int_not_equal(kw__weight(g, "t", KW__F32, KW__DIMS(2)), 0);
    return program;
}

/* ---- Random --------------------------------------------------------------------------------- */

static void expect_label(const char *spec, const char *label)
{
    struct kw__program *program = small_program();
    struct kw__weights w = {0};
    kw_error err = {KW_OK, ""};
    kw_status status = kw__weights_open(spec, program, &w, &err);
    if (label) {
        if (status) fail_msg("%s: %s", spec, err.message);
        assert_string_equal(kw__weights_label(&w), label);
        kw__weights_close(&w);
    } else {
        if (status != KW_ERROR_USAGE) fail_msg("%s is taken", spec);
        assert_non_null(strstr(err.message, "random[:SEED][:DISTRIBUTION]"));
        assert_null(w.self);
    }
    kw__program_free(program);
}

static void test_specs(void **state)
{
    (void)state;
    expect_label("random", "random:0:normal");
    expect_label("random:42", "random:42:normal");
    expect_label("random:18446744073709551615", "random:18446744073709551615:normal");
    expect_label("random:uniform", "random:0:uniform");
    expect_label("random:7:constant", "random:7:constant");
    static const char *const bad[] = {
        "random:",          "random:-1",           "random:18446744073709551616",
        "random:gauss",     "random:7:",           "random::normal",
        "random:normal:7",  "random:7:8",          "random:7:normal:1",
        "random:7:normal:", "random:0x10",         "random: 7",
        "random:7:NORMAL",  "random:normal:normal"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect_label(bad[i], NULL);
}

static struct kw__tensor large_tensor(void)
{
    return (struct kw__tensor){"transformer", "blocks.0.attn1.to_q.weight", 2, {1536, 1536}};
}

/* All elements of a tensor, by a provider with this spec; the caller frees. */
static void *elements(const char *spec, const struct kw__tensor *tensor, enum kw__dtype dtype, size_t count)
{
    struct kw__program *program = small_program();
    struct kw__weights w;
    assert_int_equal(kw__weights_open(spec, program, &w, NULL), KW_OK);
    void *out = calloc(count, 4);
    assert_int_equal(w.get(w.self, tensor, dtype, out, NULL), KW_OK);
    kw__weights_close(&w);
    kw__program_free(program);
    return out;
}

/* However many threads make them, the elements are those of the stream; bf16 is them, rounded. */
static void test_random_normal(void **state)
{
    (void)state;
    const struct kw__tensor tensor = large_tensor();
    enum { COUNT = 1536 * 1536 };
    float *wanted = malloc(COUNT * sizeof *wanted);
    struct kw__random stream = kw__random_stream(tensor.component, tensor.name, 0x123456789);
    struct kw__random_law law = kw__random_law(tensor.name, tensor.ndim, tensor.dim);
    kw__random_fill(&stream, law.mean, law.scale, 0, COUNT, wanted);
    float *f32 = elements("random:4886718345", &tensor, KW__F32, COUNT);
    assert_memory_equal(f32, wanted, COUNT * sizeof *wanted);
    uint16_t *bf16 = elements("random:4886718345", &tensor, KW__BF16, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t bits = (uint32_t)bf16[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        float error = value > f32[i] ? value - f32[i] : f32[i] - value, size = f32[i] < 0 ? -f32[i] : f32[i];
        if (error > size / 256) fail_msg("element %zu: %a became %a", i, (double)f32[i], (double)value);
    }
    free(wanted);
    free(f32);
    free(bf16);
}

/* The Python twin's elements, and the same deviation as the normal ones. */
static void test_random_uniform(void **state)
{
    (void)state;
    const struct kw__tensor tensor = large_tensor();
    enum { COUNT = 1536 * 1536 };
    float *x = elements("random:4886718345:uniform", &tensor, KW__F32, COUNT);
    static const float wanted[] = {0x1.934ep-6f, 0x1.6d82p-6f, -0x1.9e8p-12f, -0x1.84a4p-7f, -0x1.f73ep-6f};
    assert_memory_equal(x, wanted, 4 * sizeof *x);
    assert_memory_equal(x + COUNT - 1, wanted + 4, sizeof *x);
    double sum = 0, squares = 0, limit = 0;
    for (size_t i = 0; i < COUNT; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        if (x[i] > limit) limit = x[i];
    }
    struct kw__random_law law = kw__random_law(tensor.name, tensor.ndim, tensor.dim);
    double variance = (65536.0 * 65536.0 - 1) / 3 * law.scale * law.scale;
    assert_true(limit <= 65535.0 * law.scale && limit > 65500.0 * law.scale);
    assert_true(squares / COUNT > 0.997 * variance && squares / COUNT < 1.003 * variance);
    assert_true(sum * sum < 16.0 * COUNT * variance);
    free(x);
}

static void test_random_constant(void **state)
{
    (void)state;
    const struct kw__tensor gain = {"transformer", "norm.weight", 1, {5}},
                            bias = {"transformer", "x.bias", 1, {5}};
    float *x = elements("random:constant", &gain, KW__F32, 5),
          *y = elements("random:constant", &bias, KW__F32, 5);
    for (int i = 0; i < 5; i++) assert_true(x[i] == 1 && y[i] == 0);
    free(x);
    free(y);
    struct kw__program *program = small_program();
    struct kw__weights w;
    assert_int_equal(kw__weights_open("random", program, &w, NULL), KW_OK);
    assert_int_equal(w.get(w.self, &gain, KW__F16, NULL, NULL), KW_ERROR_UNSUPPORTED);
    kw__weights_close(&w);
    kw__program_free(program);
}

/* ---- Checkpoint folders ----------------------------------------------------------------------- */

static char folder[256];

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *out = fopen(in_folder(name), "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

/* A file with this header and bytes 0, 1, 2, ... as data. */
static void write_tensors(const char *name, const char *header, size_t data)
{
    unsigned char bytes[1024];
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) bytes[8 + length + i] = (unsigned char)i;
    write_bytes(name, bytes, 8 + length + data);
}

#define A_F32 "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define SINGLE "transformer/diffusion_pytorch_model.safetensors"
#define INDEX "transformer/diffusion_pytorch_model.safetensors.index.json"

/* text_encoder in one file; transformer with a in one shard and b, in bf16, in another. */
static void write_good(void)
{
    const char index[] =
        "{\"metadata\":{},\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}";
    write_tensors("text_encoder/model.safetensors",
                  "{\"t\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                  "\"unused\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[4,12]}}",
                  12);
    write_tensors("transformer/s1.safetensors", "{" A_F32 "}", 24);
    write_tensors("transformer/s2.safetensors",
                  "{\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}", 8);
    write_bytes(INDEX, index, sizeof index - 1);
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char below[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        remove_tree(below);
    }
    if (dir) closedir(dir);
    remove(path);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/kinowatt-weights-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    mkdir(in_folder("transformer"), 0700);
    mkdir(in_folder("text_encoder"), 0700);
    write_good();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove_tree(folder);
    return 0;
}

static void test_checkpoint(void **state)
{
    (void)state;
    struct kw__program *program = small_program();
    struct kw__weights w;
    kw_error err;
    if (kw__weights_open(folder, program, &w, &err)) fail_msg("%s", err.message);
    assert_string_equal(kw__weights_label(&w), "checkpoint");
    unsigned char a[24], bytes[24];
    for (int i = 0; i < 24; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(w.get(w.self, &program->tensors[0], KW__F32, a, NULL), KW_OK);
    assert_memory_equal(a, bytes, 24);
    uint16_t b[4];
    assert_int_equal(w.get(w.self, &program->tensors[1], KW__BF16, b, NULL), KW_OK);
    assert_memory_equal(b, bytes, 8);
    /* f16 0x0100 and 0x0302 are subnormal: 256 and 770 times 2^-24 */
    float t[2];
    assert_int_equal(w.get(w.self, &program->tensors[2], KW__F32, t, NULL), KW_OK);
    assert_true(t[0] == 0x1p-16f && t[1] == 770 * 0x1p-24f);
    const struct kw__tensor other = {"transformer", "c", 1, {2}}, vae = {"vae", "c", 1, {2}};
    assert_int_equal(w.get(w.self, &other, KW__F32, t, NULL), KW_ERROR_FORMAT);
    assert_int_equal(w.get(w.self, &vae, KW__F32, t, NULL), KW_ERROR_NOT_FOUND);
    kw__weights_close(&w);
    kw__program_free(program);
}

/* What is wrong inside the folder is one status, whatever it is. */
static void expect_refused(const char *words, const char *more)
{
    struct kw__program *program = small_program();
    struct kw__weights w = {0};
    kw_error err = {KW_OK, ""};
    assert_int_equal(kw__weights_open(folder, program, &w, &err), KW_ERROR_FORMAT);
    assert_null(w.self);
    if (!strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, words, more);
    kw__program_free(program);
    write_good();
}

static void test_checkpoint_faults(void **state)
{
    (void)state;
    unlink(in_folder("transformer/s2.safetensors"));
    expect_refused("index.json names the file s2.safetensors", "not there");
    unlink(in_folder("text_encoder/model.safetensors"));
    expect_refused("text_encoder/model.safetensors nor an index", "get it again");
    /* a tensor that the index has and its file has not, and the other way round */
    write_tensors("transformer/s2.safetensors",
                  "{\"x\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}", 8);
    expect_refused("s2.safetensors has no tensor \"b\"", "this model's");
    write_bytes(INDEX, "{\"weight_map\":{\"a\":\"s1.safetensors\"}}", 37);
    expect_refused("index.json has no tensor \"b\"", "this model's");
    write_tensors("transformer/s2.safetensors",
                  "{\"b\":{\"dtype\":\"I16\",\"shape\":[4],\"data_offsets\":[0,8]}}", 8);
    expect_refused("s2.safetensors: tensor \"b\" has dtype I16", "F32, F16 and BF16 are read");
    write_tensors("transformer/s2.safetensors",
                  "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}", 8);
    expect_refused("s2.safetensors: tensor \"b\" has shape [2, 2]", "needs [4]");
    write_tensors("transformer/s1.safetensors", "{" A_F32 "}", 23);
    expect_refused("s1.safetensors is truncated: tensor \"a\"", "24 of 23");
    /* the index may not lead out of the folder */
    write_bytes(INDEX, "{\"weight_map\":{\"a\":\"../s1.safetensors\"}}", 40);
    expect_refused("tensor \"a\" must name a file of its folder", "index.json");
    write_bytes(INDEX, "{\"weight_map\":{\"a\":1}}", 22);
    expect_refused("tensor \"a\" must name a file", "index.json");
    write_bytes(INDEX, "{}", 2);
    expect_refused("weight_map", "missing");
    write_bytes(INDEX, "{\"weight_map\":{\"a\":", 19);
    expect_refused("index.json is not valid JSON", "");
    /* without an index, one file must have all */
    unlink(in_folder(INDEX));
    expect_refused("neither", SINGLE);
    unlink(in_folder(INDEX));
    write_tensors(SINGLE, "{" A_F32 "}", 24);
    expect_refused(SINGLE " has no tensor \"b\"", "this model's");
    unlink(in_folder(SINGLE));
    struct kw__program *program = small_program();
    struct kw__weights w;
    assert_int_equal(kw__weights_open("/nowhere/at/all", program, &w, NULL), KW_ERROR_NOT_FOUND);
    kw__program_free(program);
}

/* One file for each tensor, as many as a large model has tensors; the index in no order. */
static void test_many_shards(void **state)
{
    (void)state;
    enum { SHARDS = 400 };
    char name[64], header[128];
    struct kw__out index;
    kw__out_init(&index);
    const kw_effective request = {.width = 16};
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program = kw__program_new(&request, &dtypes);
    struct kw__graph *g = kw__stage_phase(program, kw__program_stage(program, "decode"), "step", 1);
    g->tensors = "vae";
    mkdir(in_folder("vae"), 0700);
    kw__out_puts(&index, "{\"weight_map\":{");
    for (int i = 0; i < SHARDS; i++) {
        int k = (i * 7 + 3) % SHARDS;
        snprintf(name, sizeof name, "t%d", k);
        assert_int_not_equal(kw__weight(g, name, KW__F32, KW__DIMS(1)), 0);
        kw__out_printf(&index, "%s\"t%d\":\"f%d.safetensors\"", i ? "," : "", k, SHARDS - k);
        snprintf(header, sizeof header, "{\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                 k);
        snprintf(name, sizeof name, "vae/f%d.safetensors", SHARDS - k);
        write_tensors(name, header, 4);
    }
    kw__out_puts(&index, "}}");
    assert_false(index.failed);
    write_bytes("vae/diffusion_pytorch_model.safetensors.index.json", index.data, index.len);
    kw__out_free(&index);
    struct kw__weights w;
    kw_error err;
    if (kw__weights_open(folder, program, &w, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < program->num_tensors; i++) {
        uint32_t bits = 0;
        assert_int_equal(w.get(w.self, &program->tensors[i], KW__F32, &bits, NULL), KW_OK);
        assert_int_equal(bits, 0x03020100);
    }
    kw__weights_close(&w);
    kw__program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specs),          cmocka_unit_test(test_random_normal),
        cmocka_unit_test(test_random_uniform), cmocka_unit_test(test_random_constant),
        cmocka_unit_test(test_checkpoint),     cmocka_unit_test(test_checkpoint_faults),
        cmocka_unit_test(test_many_shards)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
