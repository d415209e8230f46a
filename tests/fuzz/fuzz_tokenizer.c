/* The tokenizer file and the prompt: any bytes as a spiece.model are refused or make a tokenizer that encodes
 * within its vocabulary and its room; any bytes as a prompt are refused or cleaned and encoded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"
#include "text/unigram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_model(const void *bytes, size_t size)
{
    static const char *const texts[] = {"", "a small boat", "\xEF\xBC\xA1 zz \xE4\xB8\xAD\xF0\x9F\x98\x80",
                                        "</s>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    enum { ROOM = 8 };
    int32_t ids[ROOM + 1];
    struct kw__unigram *unigram = NULL;
    if (kw__unigram_check(bytes, size) || kw__unigram_open(bytes, size, &unigram)) return;
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        size_t count = 0;
        ids[ROOM] = -7;
        if (kw__unigram_encode(unigram, texts[t], strlen(texts[t]), ids, ROOM, &count) != KW__UNIGRAM_OK)
            continue;
        for (size_t i = 0; i < count && i < ROOM; i++)
            if (ids[i] < 0 || ids[i] >= kw__unigram_size(unigram)) abort();
        if (ids[ROOM] != -7) abort();
    }
    kw__unigram_close(unigram);
}

static void as_prompt(const char *text)
{
    enum { WIDTH = 16, VOCABULARY = 100 };
    static struct kw__tokenizer *tokenizer;
    char *clean = NULL, *again = NULL, warning[256];
    int32_t ids[WIDTH];
    size_t count, whole;
    kw_error err = {KW_OK, ""};
    if (!tokenizer && kw__tokenizer_open_bytes(VOCABULARY, &tokenizer, NULL)) abort();
    kw_status status = kw__prompt_clean("the prompt", text, &clean, &err);
    if (status && (!err.message[0] || err.code != status || clean)) abort();
    if (status) return;
    /* white space is gone, and what is valid stays so */
    if (kw__prompt_clean("the prompt", clean, &again, NULL)) abort();
    if (*clean == ' ' || (*clean && clean[strlen(clean) - 1] == ' ')) abort();
    if (kw__prompt_encode(tokenizer, "the prompt", text, true, WIDTH, ids, &count, &whole, warning,
                          sizeof warning, NULL))
        abort();
    if (count < 1 || count > WIDTH || ids[count - 1] != 1 || (strlen(clean) >= WIDTH) != (*warning != '\0'))
        abort();
    for (int i = 0; i < WIDTH; i++)
        if (ids[i] < 0 || ids[i] >= VOCABULARY) abort();
    /* each byte is a token, and </s> */
    if (kw__prompt_encode(tokenizer, "the prompt", text, false, WIDTH, ids, &count, &whole, warning,
                          sizeof warning, NULL) ||
        whole != strlen(text) + 1)
        abort();
    free(clean);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    copy[size] = '\0';
    as_prompt(copy);
    char *exact = realloc(copy, size + (size == 0)); /* a read past the end is seen */
    as_model(exact ? exact : copy, size);
    free(exact ? exact : copy);
    return 0;
}
