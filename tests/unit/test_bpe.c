/* CLIP's tokenizer against transformers' CLIPTokenizer on a tiny vocabulary (tools/reference/make_bpe.py),
 * its limits, and files that are broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/tokenizer.h"

enum { PIECES = 814, BEGIN = 812, END = 813 };

static struct kw__tokenizer *open_tiny(void)
{
    struct kw__tokenizer *t = NULL;
    kw_error err;
    if (kw__tokenizer_open_bpe("tests/data/tiny-clip", PIECES, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void test_golden(void **state)
{
    (void)state;
    struct kw__tokenizer *t = open_tiny();
    json_t *golden = json_load_file("tests/golden/bpe.json", 0, NULL), *entry;
    size_t c;
    kw_error err;
    json_array_foreach(golden, c, entry)
    {
        const json_t *wanted = json_object_get(entry, "ids");
        const char *text = json_string_value(json_object_get(entry, "text"));
        int32_t ids[512];
        size_t count, whole;
        assert_int_equal(kw__tokenizer_encode(t, text, 512, ids, &count, &whole, &err), KW_OK);
        assert_int_equal(whole, count);
        if (count != json_array_size(wanted)) fail_msg("\"%s\": %zu ids", text, count);
        for (size_t i = 0; i < count; i++)
            if (ids[i] != json_integer_value(json_array_get(wanted, i)))
                fail_msg("\"%s\": id %zu is %d", text, i, (int)ids[i]);
    }
    assert_true(c > 15);
    json_decref(golden);
    assert_string_equal(kw__tokenizer_name(t), "bpe");
    kw__tokenizer_close(t);
}

static void test_limits(void **state)
{
    (void)state;
    struct kw__tokenizer *t = open_tiny();
    int32_t all[64], ids[16];
    size_t count, whole;
    char warning[256];
    kw_error err;
    assert_int_equal(kw__tokenizer_encode(t, "a small boat on a calm lake", 64, all, &count, &whole, &err),
                     0);
    assert_int_equal(count, 9);
    assert_int_equal(kw__prompt_encode(t, "the prompt", "a small boat on a calm lake", false, 6, ids, &count,
                                       &whole, warning, sizeof warning, &err),
                     KW_OK);
    assert_int_equal(count, 6);
    assert_memory_equal(ids, all, 5 * sizeof *ids);
    assert_int_equal(ids[5], END);
    assert_non_null(strstr(warning, "the last 3 are left out"));

    assert_int_equal(kw__prompt_encode(t, "the prompt", "a", false, 16, ids, &count, &whole, warning,
                                       sizeof warning, &err),
                     0);
    assert_int_equal(count, 3);
    assert_string_equal(warning, "");
    assert_int_equal(ids[0], BEGIN);
    for (int i = 2; i < 16; i++) assert_int_equal(ids[i], END); /* the end, then padding */
    assert_int_equal(kw__tokenizer_pad(t), END);
    kw__tokenizer_close(t);
}

/* ---- Broken files ------------------------------------------------------------------------------- */

static void put(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = text ? fopen(path, "w") : NULL;
    if (file) fputs(text, file);
    if (file) fclose(file);
    if (!text) unlink(path);
}

static void expect_refused(const char *folder, const char *vocab, const char *merges, const char *word)
{
    struct kw__tokenizer *t = NULL;
    kw_error err;
    put(folder, "vocab.json", vocab);
    put(folder, "merges.txt", merges);
    kw_status status = kw__tokenizer_open_bpe(folder, 10, &t, &err);
    if (status == KW_OK) fail_msg("%s %s: opened", vocab ? vocab : "-", merges ? merges : "-");
    if (!strstr(err.message, word)) fail_msg("%s: does not say %s", err.message, word);
    assert_null(strchr(err.message, '\n'));
}

#define MARKS "\"<|startoftext|>\": 0, \"<|endoftext|>\": 1"

static void test_broken(void **state)
{
    (void)state;
    char folder[] = "/tmp/kinowatt-bpe-XXXXXX";
    const char *good = "{" MARKS ", \"a\": 2, \"b</w>\": 3, \"ab</w>\": 4}";
    struct kw__tokenizer *t = NULL;
    kw_error err;
    assert_non_null(mkdtemp(folder));
    expect_refused(folder, NULL, "", "vocab.json");
    expect_refused(folder, good, NULL, "merges.txt");
    expect_refused(folder, "[]", "", "vocab.json");
    expect_refused(folder, "{" MARKS ", \"a\": 7}", "", "\"a\"");
    expect_refused(folder, "{" MARKS ", \"a\": -1}", "", "\"a\"");
    expect_refused(folder, "{" MARKS ", \"a\": \"2\"}", "", "\"a\"");
    expect_refused(folder, "{\"a\": 0}", "", "<|endoftext|>");
    expect_refused(folder, good, "#version: 0.2\na b\n", "line 2");
    expect_refused(folder, good, "ab</w>\n", "line 1");
    expect_refused(folder, good, "a a\n", "line 1");
    expect_refused(folder, good, "a b</w>\na b</w>\na b</w>\na b</w>\na b</w>\na b</w>\n", "more merges");
    expect_refused(folder,
                   "{" MARKS
                   ", \"a\": 2, \"b\": 3, \"c\": 4, \"d\": 5, \"e\": 6, \"f\": 7, \"g\": 8, \"h\": 9, "
                   "\"i\": 10}",
                   "", "do not belong together");
    put(folder, "vocab.json", good);
    put(folder, "merges.txt", "a b</w>\n");
    if (kw__tokenizer_open_bpe(folder, 10, &t, &err)) fail_msg("%s", err.message);
    int32_t ids[8];
    size_t count, whole;
    assert_int_equal(kw__tokenizer_encode(t, "AB x", 8, ids, &count, &whole, &err), KW_OK);
    const int32_t wanted[] = {0, 4, 1,
                              1}; /* what the vocabulary lacks is <|endoftext|>, as transformers has it */
    assert_int_equal(count, 4);
    assert_memory_equal(ids, wanted, sizeof wanted);
    kw__tokenizer_close(t);
    put(folder, "vocab.json", NULL);
    put(folder, "merges.txt", NULL);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
