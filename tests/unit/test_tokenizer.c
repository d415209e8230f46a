/* Tokenizers and prompt cleaning, against tests/golden/tokenizer.json: what sentencepiece's own Python
 * package and Python's html module make of the same text. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/prompts.h"
#include "text/tokenizer.h"

#define MODEL "tests/data/tiny-spiece.model"
enum { VOCAB = 400 };

static struct kw__tokenizer *open_model(void)
{
    struct kw__tokenizer *t = NULL;
    kw_error err;
    if (kw__tokenizer_open(MODEL, VOCAB, &t, &err)) fail_msg("%s", err.message);
    return t;
}

/* What the model's own package makes of the texts. */
static void check_golden(const char *model, int64_t vocabulary, const char *key)
{
    struct kw__tokenizer *t = NULL;
    assert_int_equal(kw__tokenizer_open(model, vocabulary, &t, NULL), KW_OK);
    json_t *golden = json_load_file("tests/golden/tokenizer.json", 0, NULL);
    const json_t *cases = json_object_get(golden, key);
    assert_true(json_array_size(cases) > 5);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *entry = json_array_get(cases, c), *wanted = json_object_get(entry, "ids");
        int32_t ids[512];
        size_t count, whole;
        const char *text = json_string_value(json_object_get(entry, "text"));
        assert_int_equal(kw__tokenizer_encode(t, text, 512, ids, &count, &whole, NULL), KW_OK);
        if (count != json_array_size(wanted)) fail_msg("\"%s\": %zu ids", text, count);
        assert_int_equal(whole, count);
        for (size_t i = 0; i < count; i++)
            if (ids[i] != json_integer_value(json_array_get(wanted, i))) fail_msg("\"%s\": id %zu", text, i);
    }
    json_decref(golden);
    assert_string_equal(kw__tokenizer_name(t), "unigram");
    kw__tokenizer_close(t);
}

static void test_unigram_golden(void **state)
{
    (void)state;
    check_golden(MODEL, VOCAB, "encode");
}

/* Without pieces for bytes: a run of unknown characters is one <unk>. */
static void test_unknown_golden(void **state)
{
    (void)state;
    check_golden("tests/data/tiny-spiece-unk.model", 100, "encode_unk");
}

static void test_clean_golden(void **state)
{
    (void)state;
    json_t *golden = json_load_file("tests/golden/tokenizer.json", 0, NULL);
    const json_t *cases = json_object_get(golden, "clean");
    assert_true(json_array_size(cases) > 20);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *entry = json_array_get(cases, c);
        char *cleaned = NULL;
        assert_int_equal(
            kw__prompt_clean("the prompt", json_string_value(json_object_get(entry, "text")), &cleaned, NULL),
            KW_OK);
        assert_string_equal(cleaned, json_string_value(json_object_get(entry, "cleaned")));
        free(cleaned);
    }
    json_decref(golden);
}

/* What is longer keeps its first tokens and ends with </s>. */
static void test_truncation(void **state)
{
    (void)state;
    struct kw__tokenizer *t = open_model();
    const char *text = "a small boat on a calm lake, filmed from above";
    int32_t whole_ids[64], ids[64];
    size_t whole, count, again;
    kw__tokenizer_encode(t, text, 64, whole_ids, &whole, &again, NULL);
    assert_true(whole > 6 && whole == again);
    for (size_t most = 1; most <= whole; most++) {
        ids[most] = -7;
        assert_int_equal(kw__tokenizer_encode(t, text, most, ids, &count, &again, NULL), KW_OK);
        assert_int_equal(count, most);
        assert_int_equal(again, whole);
        assert_memory_equal(ids, whole_ids, (most - 1) * sizeof *ids);
        assert_int_equal(ids[most - 1], 1);
        assert_int_equal(ids[most], -7);
    }
    kw__tokenizer_close(t);
}

static void test_prompt_encode(void **state)
{
    (void)state;
    struct kw__tokenizer *t = open_model();
    enum { WIDTH = 512 };
    int32_t ids[WIDTH];
    size_t count, whole;
    char warning[256];
    /* the empty prompt is </s> and padding */
    assert_int_equal(kw__prompt_encode(t, "the prompt", " ", true, WIDTH, ids, &count, &whole, warning,
                                       sizeof warning, NULL),
                     0);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 1);
    for (int i = 1; i < WIDTH; i++) assert_int_equal(ids[i], 0);
    assert_string_equal(warning, "");
    /* 100 kB: cut at the width, and said */
    enum { LONG = 100000 };
    char *text = malloc(LONG + 1);
    for (int i = 0; i < LONG; i++) text[i] = "a boat "[i % 7];
    text[LONG] = '\0';
    assert_int_equal(kw__prompt_encode(t, "the prompt", text, true, WIDTH, ids, &count, &whole, warning,
                                       sizeof warning, NULL),
                     KW_OK);
    assert_int_equal(count, WIDTH);
    assert_int_equal(ids[WIDTH - 1], 1);
    assert_non_null(strstr(warning, "the prompt has "));
    assert_non_null(strstr(warning, "reads 512"));
    assert_true(whole > WIDTH);
    /* as many tokens as the model reads are all there, one more is said */
    kw__tokenizer_close(t);
    assert_int_equal(kw__tokenizer_open_bytes(1000, &t, NULL), KW_OK);
    for (int more = 0; more < 2; more++) {
        memset(text, 'a', WIDTH);
        text[WIDTH - 1 + more] = '\0'; /* and </s> */
        assert_int_equal(kw__prompt_encode(t, "the prompt", text, true, WIDTH, ids, &count, &whole, warning,
                                           sizeof warning, NULL),
                         KW_OK);
        assert_int_equal(count, WIDTH);
        assert_int_equal(whole, WIDTH + more);
        assert_int_equal(strstr(warning, "the last 1 are left out") != NULL, more);
    }
    kw__tokenizer_close(t);
    t = open_model();
    /* and one that makes the search for references work hard */
    memset(text, '&', LONG);
    assert_int_equal(kw__prompt_encode(t, "the prompt", text, true, WIDTH, ids, &count, &whole, warning,
                                       sizeof warning, NULL),
                     KW_OK);
    free(text);
    kw__tokenizer_close(t);
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    static const char *const texts[] = {"caf\xE9", "\xC0\x80", "ab\xED\xA0\x80", "\xF4\x90\x80\x80",
                                        "x\xE2\x82"};
    static const char *const places[] = {"0xE9 at position 3", "0xC0 at position 0", "0xED at position 2",
                                         "0xF4 at position 0", "0xE2 at position 1"};
    for (int i = 0; i < 5; i++) {
        char *out = NULL;
        kw_error err;
        assert_int_equal(kw__prompt_clean("the negative prompt", texts[i], &out, &err), KW_ERROR_USAGE);
        assert_null(out);
        assert_non_null(strstr(err.message, "the negative prompt is not valid UTF-8"));
        assert_non_null(strstr(err.message, places[i]));
    }
    /* U+FFFD itself is a character */
    char *out = NULL;
    /* as ftfy 6 has it: a cat’s “wave”, ‘x‛ ʼ ‟y */
    assert_int_equal(kw__prompt_clean("p",
                                      "a cat\xE2\x80\x99s \xE2\x80\x9Cwave\xE2\x80\x9D, "
                                      "\xE2\x80\x98x\xE2\x80\x9B \xCA\xBC \xE2\x80\x9Fy",
                                      &out, NULL),
                     KW_OK);
    assert_string_equal(out, "a cat's \"wave\", 'x' ' \"y");
    free(out);
    assert_int_equal(kw__prompt_clean("p", "\xEF\xBF\xBD", &out, NULL), KW_OK);
    assert_string_equal(out, "\xEF\xBF\xBD");
    free(out);
}

static void test_bytes(void **state)
{
    (void)state;
    struct kw__tokenizer *t = NULL;
    int32_t ids[16];
    size_t count, whole;
    assert_int_equal(kw__tokenizer_open_bytes(256384, &t, NULL), KW_OK);
    assert_int_equal(kw__tokenizer_encode(t, "A\xC3\xA9", 16, ids, &count, &whole, NULL), KW_OK);
    const int32_t wanted[] = {3 + 0x41, 3 + 0xC3, 3 + 0xA9, 1};
    assert_int_equal(count, 4);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_string_equal(kw__tokenizer_name(t), "bytes");
    kw__tokenizer_close(t);
    /* a vocabulary of 100: 0x41 = 65, 0x7A = 122 = 97 + 25 */
    assert_int_equal(kw__tokenizer_open_bytes(100, &t, NULL), KW_OK);
    assert_int_equal(kw__tokenizer_encode(t, "Az", 16, ids, &count, &whole, NULL), KW_OK);
    assert_int_equal(ids[0], 68);
    assert_int_equal(ids[1], 28);
    assert_int_equal(kw__tokenizer_encode(t, "", 1, ids, &count, &whole, NULL), KW_OK);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 1);
    kw__tokenizer_close(t);
    assert_int_equal(kw__tokenizer_open_bytes(3, &t, NULL), KW_ERROR_UNSUPPORTED);
}

static void expect_failure(const char *path, int64_t vocab, kw_status wanted, const char *words)
{
    struct kw__tokenizer *t = NULL;
    kw_error err;
    assert_int_equal(kw__tokenizer_open(path, vocab, &t, &err), wanted);
    assert_null(t);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

/* Files that are no tokenizer, among them every beginning of a real one. */
static void test_no_tokenizer(void **state)
{
    (void)state;
    expect_failure("tests/data/nowhere.model", VOCAB, KW_ERROR_NOT_FOUND, "nowhere.model");
    expect_failure("tests/data", VOCAB, KW_ERROR_FORMAT, "no sentencepiece model");
    expect_failure("Makefile", VOCAB, KW_ERROR_FORMAT, "Makefile is no sentencepiece model");
    expect_failure("/dev/null", VOCAB, KW_ERROR_FORMAT, "no sentencepiece model");
    expect_failure(MODEL, VOCAB - 1, KW_ERROR_FORMAT, "do not belong together");
    FILE *in = fopen(MODEL, "rb");
    static char bytes[65536];
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    char path[] = "/tmp/kinowatt-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t length = 0; length < size - 1000; length += 97) { /* its last part holds settings alone */
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bytes, length, 0), length);
        struct kw__tokenizer *t = NULL;
        if (kw__tokenizer_open(path, VOCAB, &t, NULL) == KW_OK)
            fail_msg("%zu bytes of a model are taken", length);
    }
    close(fd);
    unlink(path);
}

/* Any damage ends in a message or in a tokenizer that encodes: sentencepiece alone reads outside of its
 * memory when the character map is damaged. */
static void test_damaged(void **state)
{
    (void)state;
    FILE *in = fopen(MODEL, "rb");
    static char bytes[65536], copy[65536];
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    char path[] = "/tmp/kinowatt-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint64_t random = 1;
    int opened = 0;
    for (int trial = 0; trial < 3000; trial++) {
        memcpy(copy, bytes, size);
        for (int flips = 0; flips <= trial % 4; flips++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            copy[(random >> 33) % size] ^= (char)(1 << (random >> 60) % 8);
        }
        assert_int_equal(pwrite(fd, copy, size, 0), size);
        struct kw__tokenizer *t = NULL;
        if (kw__tokenizer_open(path, 1 << 20, &t, NULL)) continue;
        int32_t ids[64];
        size_t count, whole;
        (void)kw__tokenizer_encode(t, "a small boat \xEF\xBC\xA1 zz \xE4\xB8\xAD", 64, ids, &count, &whole,
                                   NULL);
        kw__tokenizer_close(t);
        opened++;
    }
    assert_in_range(opened, 10, 2990);
    close(fd);
    unlink(path);
}

/* WanPipeline cleans a prompt, the others hand it to their tokenizer as it is. */
static void test_each_pipelines_rule(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        size_t tokens; /* bytes and </s> */
    } cases[] = {{"wan2.1-t2v-nano", sizeof "a & b"},
                 {"cogvideox-nano", sizeof "a &amp;  b"},
                 {"mochi-nano", sizeof "a &amp;  b"}};
    kw_catalog *catalog;
    kw_error err;
    assert_int_equal(kw_catalog_open("data", &catalog, &err), KW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kw_model *model;
        kw_request request = KW_REQUEST_INIT;
        kw_effective r;
        struct kw__prompts prompts;
        if (kw_model_open(catalog, cases[i].model, &model, &err)) fail_msg("%s", err.message);
        assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_OK);
        if (kw__prompts_open(model, &r, "random", "a &amp;  b", " ", &prompts, &err))
            fail_msg("%s", err.message);
        assert_int_equal(prompts.prompts[0][0].count, cases[i].tokens);
        assert_int_equal(prompts.prompts[0][1].count, i == 0 ? 1 : 2);
        kw__prompts_close(&prompts);
        assert_int_equal(kw__prompts_open(model, &r, "random", "\xC3(", NULL, &prompts, &err),
                         KW_ERROR_USAGE);
        kw_model_close(model);
    }
    kw_catalog_close(catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unigram_golden), cmocka_unit_test(test_unknown_golden),
        cmocka_unit_test(test_clean_golden),   cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_prompt_encode),  cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_bytes),          cmocka_unit_test(test_no_tokenizer),
        cmocka_unit_test(test_damaged),        cmocka_unit_test(test_each_pipelines_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
