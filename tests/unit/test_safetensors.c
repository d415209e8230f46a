/* The safetensors reader: against a file of the safetensors package and casts of torch
 * (tests/data/casts.safetensors), and against files that are damaged in each way there is. */
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

#include "engine/safetensors.h"

#define CASTS "tests/data/casts.safetensors"

/* ---- A file of the reference implementation ---- */

static void expect_cast(const struct kw__safetensors *file, const char *from, enum kw__dtype wanted,
                        const char *same_as, enum kw__dtype raw)
{
    const struct kw__stored_tensor *a = kw__safetensors_find(file, from),
                                   *b = kw__safetensors_find(file, same_as);
    assert_non_null(a);
    assert_non_null(b);
    size_t bytes = (size_t)(b->end - b->begin);
    assert_true(bytes > 1000);
    void *x = malloc(bytes), *y = malloc(bytes);
    assert_int_equal(kw__safetensors_read(file, a, wanted, x, NULL), KW_OK);
    assert_int_equal(kw__safetensors_read(file, b, raw, y, NULL), KW_OK);
    assert_memory_equal(x, y, bytes);
    free(x);
    free(y);
}

static void test_casts(void **state)
{
    (void)state;
    struct kw__safetensors *file = NULL;
    kw_error err;
    if (kw__safetensors_open(CASTS, &file, &err)) fail_msg("%s", err.message);
    assert_int_equal(kw__safetensors_count(file), 8);
    assert_string_equal(kw__safetensors_at(file, 0)->name, "half.bf16");
    expect_cast(file, "wide.f32", KW__BF16, "wide.bf16", KW__BF16);
    expect_cast(file, "half.f16", KW__F32, "half.f32", KW__F32);
    expect_cast(file, "half.f16", KW__BF16, "half.bf16", KW__BF16);
    const struct kw__stored_tensor *half = kw__safetensors_find(file, "half.f16");
    assert_int_equal(half->ndim, 2);
    assert_int_equal(half->dim[1], 7);
    /* bf16 to f32 puts 16 zero bits behind */
    const struct kw__stored_tensor *narrow = kw__safetensors_find(file, "wide.bf16");
    size_t count = (size_t)(narrow->end - narrow->begin) / 2;
    uint16_t *bits = malloc(count * sizeof *bits);
    uint32_t *wide = malloc(count * sizeof *wide);
    assert_int_equal(kw__safetensors_read(file, narrow, KW__BF16, bits, NULL), KW_OK);
    assert_int_equal(kw__safetensors_read(file, narrow, KW__F32, wide, NULL), KW_OK);
    for (size_t i = 0; i < count; i++) assert_int_equal(wide[i], (uint32_t)bits[i] << 16);
    free(bits);
    free(wide);
    float scalar;
    const struct kw__stored_tensor *one = kw__safetensors_find(file, "scalar");
    assert_int_equal(one->ndim, 0);
    assert_int_equal(kw__safetensors_read(file, one, KW__F32, &scalar, NULL), KW_OK);
    assert_true(scalar == 2.5f);
    assert_int_equal(kw__safetensors_read(file, kw__safetensors_find(file, "none"), KW__F32, NULL, NULL),
                     KW_OK);
    assert_null(kw__safetensors_find(file, "wide"));
    assert_int_equal(kw__safetensors_read(file, kw__safetensors_find(file, "int"), KW__F32, NULL, &err),
                     KW_ERROR_FORMAT);
    assert_non_null(strstr(err.message, CASTS ": tensor \"int\" has dtype I64"));
    kw__safetensors_close(file);
}

/* NaN stays NaN, whichever half its bits are in. */
static void test_nan(void **state)
{
    (void)state;
    const char header[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}";
    const uint32_t values[3] = {0x7F800001, 0xFFFFFFFF, 0x7FC00000};
    unsigned char bytes[8 + sizeof header - 1 + sizeof values];
    uint64_t length = sizeof header - 1;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, values, sizeof values);
    struct kw__safetensors *file = NULL;
    assert_int_equal(kw__safetensors_parse("x", bytes, sizeof bytes, &file, NULL), KW_OK);
    uint16_t out[3];
    assert_int_equal(kw__safetensors_read(file, kw__safetensors_at(file, 0), KW__BF16, out, NULL), KW_OK);
    for (int i = 0; i < 3; i++) assert_true((out[i] & 0x7FFF) > 0x7F80);
    kw__safetensors_close(file);
}

/* ---- Damage ---- */

static void expect_bad(const char *header, size_t data, const char *words)
{
    size_t length = strlen(header);
    unsigned char *bytes = calloc(1, 8 + length + data);
    uint64_t prefix = length;
    memcpy(bytes, &prefix, 8);
    memcpy(bytes + 8, header, length);
    struct kw__safetensors *file = NULL;
    kw_error err;
    assert_int_equal(kw__safetensors_parse("some/file", bytes, 8 + length + data, &file, &err),
                     KW_ERROR_FORMAT);
    assert_null(file);
    assert_memory_equal(err.message, "some/file", 9);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    free(bytes);
}

#define TENSOR(name, dtype, shape, begin, end)                                                               \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void test_damage(void **state)
{
    (void)state;
    expect_bad("", 0, "not valid JSON");
    expect_bad("{", 0, "not valid JSON");
    expect_bad("[]", 0, "no JSON object");
    expect_bad("{\"a\":1}", 0, "needs dtype, shape and two data_offsets");
    expect_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "needs dtype, shape");
    expect_bad("{" TENSOR("a", "F31", "[1]", 0, 4) "}", 4, "dtype \"F31\" is not known");
    expect_bad("{" TENSOR("a", "F32", "[1.5]", 0, 4) "}", 4, "\"shape\" must hold whole numbers");
    expect_bad("{" TENSOR("a", "F32", "[-1]", 0, 4) "}", 4, "\"shape\" must hold whole numbers");
    expect_bad("{" TENSOR("a", "F32", "[1]", -4, 0) "}", 4, "\"data_offsets\" must hold whole numbers");
    expect_bad("{" TENSOR("a", "F32", "[1]", 4, 0) "}", 4, "ends before it begins");
    expect_bad("{" TENSOR("a", "F32", "[2]", 0, 8) "}", 7, "is truncated: tensor \"a\" ends at byte 8 of 7");
    expect_bad("{" TENSOR("a", "F32", "[2]", 0, 4) "}", 4, "4 bytes are not what its shape needs in F32");
    expect_bad("{" TENSOR("a", "BF16", "[2]", 0, 8) "}", 8, "8 bytes are not what its shape needs in BF16");
    /* 2^62 * 4 is 0 modulo 2^64 */
    expect_bad("{" TENSOR("a", "F32", "[4611686018427387904]", 0, 0) "}", 0, "not what its shape needs");
    expect_bad("{" TENSOR("a", "U8", "[4294967296,4294967296]", 0, 0) "}", 0, "not what its shape needs");
    expect_bad("{" TENSOR("a", "U8", "[4]", 0, 4) "," TENSOR("b", "U8", "[4]", 3, 7) "}", 7,
               "tensors \"a\" and \"b\" overlap");
    expect_bad("{" TENSOR("b", "U8", "[4]", 0, 4) "," TENSOR("a", "U8", "[4]", 0, 4) "}", 4, "overlap");
    expect_bad("{" TENSOR("a", "U8", "[4]", 0, 4) "," TENSOR("b", "U8", "[4]", 5, 9) "}", 9,
               "1 bytes before tensor \"b\" belong to no tensor");
    expect_bad("{" TENSOR("a", "U8", "[4]", 0, 4) "}", 6, "2 bytes behind the last tensor");
    expect_bad("{" TENSOR("a", "U8", "[4]", 0, 4) "," TENSOR("a", "U8", "[4]", 4, 8) "}", 8, "duplicate");
    /* control characters of a name do not reach the terminal */
    expect_bad("{" TENSOR("a\\u001b[2J", "U8", "[4]", 0, 5) "}", 5, "tensor \"a?[2J\"");
}

static void test_lengths(void **state)
{
    (void)state;
    struct kw__safetensors *file = NULL;
    kw_error err;
    unsigned char bytes[64] = {0};
    for (size_t size = 0; size < 8; size++) {
        assert_int_equal(kw__safetensors_parse("f", bytes, size, &file, &err), KW_ERROR_FORMAT);
        assert_non_null(strstr(err.message, "f is truncated"));
    }
    const uint64_t lengths[] = {57, 100000000, 100000001, UINT64_MAX};
    const char *const words[] = {"f is truncated: its header has 57 bytes", "is truncated",
                                 "beyond the format's 100 MB", "beyond the format's 100 MB"};
    for (int i = 0; i < 4; i++) {
        memcpy(bytes, &lengths[i], 8);
        assert_int_equal(kw__safetensors_parse("f", bytes, sizeof bytes, &file, &err), KW_ERROR_FORMAT);
        assert_non_null(strstr(err.message, words[i]));
    }
    assert_null(file);
}

/* Every beginning of a good file is refused. */
static void test_truncated(void **state)
{
    (void)state;
    static unsigned char bytes[1 << 16];
    FILE *in = fopen(CASTS, "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    for (size_t length = 0; length < size; length++) {
        unsigned char *copy = malloc(length + 1);
        memcpy(copy, bytes, length);
        struct kw__safetensors *file = NULL;
        if (kw__safetensors_parse("f", copy, length, &file, NULL) == KW_OK)
            fail_msg("%zu bytes are taken", length);
        free(copy);
        if (length > 1500) length += 60;
    }
}

static void test_files(void **state)
{
    (void)state;
    struct kw__safetensors *file = NULL;
    kw_error err;
    assert_int_equal(kw__safetensors_open("tests/data/nowhere.safetensors", &file, &err), KW_ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "nowhere.safetensors"));
    assert_int_equal(kw__safetensors_open("tests/data", &file, &err), KW_ERROR_FORMAT);
    assert_int_equal(kw__safetensors_open("/dev/null", &file, &err), KW_ERROR_FORMAT);
    assert_int_equal(kw__safetensors_open("Makefile", &file, &err), KW_ERROR_FORMAT);
    assert_null(file);
}

/* A file that becomes shorter after it was opened: an error for what is gone, the rest is as before. */
static void test_shrinking(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    char path[] = "/tmp/kinowatt-safetensors-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    char header[200];
    int length = snprintf(header, sizeof header,
                          "{\"a\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
                          "\"b\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}",
                          COUNT, 2 * COUNT, COUNT, 2 * COUNT, 4 * COUNT);
    uint64_t prefix = (uint64_t)length;
    assert_int_equal(write(fd, &prefix, 8), 8);
    assert_int_equal(write(fd, header, (size_t)length), length);
    assert_int_equal(ftruncate(fd, 8 + length + 4 * COUNT), 0);
    struct kw__safetensors *file = NULL;
    kw_error err;
    if (kw__safetensors_open(path, &file, &err)) fail_msg("%s", err.message);
    const struct kw__stored_tensor *a = kw__safetensors_find(file, "a"), *b = kw__safetensors_find(file, "b");
    float *out = malloc(COUNT * sizeof *out);
    assert_int_equal(ftruncate(fd, 8 + length + 3 * COUNT), 0);
    for (int w = 0; w < 2; w++) {
        enum kw__dtype wanted = w ? KW__BF16 : KW__F32;
        assert_int_equal(kw__safetensors_read(file, a, wanted, out, &err), KW_OK);
        assert_int_equal(kw__safetensors_read(file, b, wanted, out, &err), KW_ERROR_FORMAT);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, "became shorter"));
    }
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(kw__safetensors_read(file, a, KW__F32, out, &err), KW_ERROR_FORMAT);
    kw__safetensors_close(file);
    free(out);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_casts),     cmocka_unit_test(test_nan),
                                       cmocka_unit_test(test_damage),    cmocka_unit_test(test_lengths),
                                       cmocka_unit_test(test_truncated), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_shrinking)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
