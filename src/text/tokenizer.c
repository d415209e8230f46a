/* The tokenizers; tokenizer.h is the manual. */
#include "text/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "text/bpe.h"
#include "text/unigram.h"

/* umT5's is 4.5 MB, the largest in use (Gemma's) 4.2 MB. */
enum { LARGEST_MODEL = 64 << 20 };
/* ids of the stand-in: 0 pads, 1 is </s>, 2 is unused, then the bytes */
enum { BYTES_END = 1, BYTES_FIRST = 3 };

struct kw__tokenizer {
    struct kw__unigram *unigram; /* one of the two, or NULL: bytes */
    struct kw__bpe *bpe;
    int32_t begin, end, pad; /* begin: -1 without */
    uint32_t letters;        /* bytes: ids from BYTES_FIRST on */
};

/* ---- Opening -------------------------------------------------------------------------------- */

static kw_status read_file(FILE *file, const char *path, char **bytes, size_t *size, kw_error *err)
{
    struct stat info;
    if (fstat(fileno(file), &info) != 0) return kw__fail(err, KW_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size > LARGEST_MODEL)
        return kw__fail(err, KW_ERROR_FORMAT, "%s is no sentencepiece model: not a file of at most %d MiB",
                        path, LARGEST_MODEL >> 20);
    *size = (size_t)info.st_size;
    *bytes = malloc(*size + 1);
    if (!*bytes) return kw__fail_memory(err);
    if (fread(*bytes, 1, *size, file) == *size) return KW_OK;
    free(*bytes);
    return kw__fail(err, KW_ERROR_IO, "cannot read %s to its end", path);
}

static kw_status load_unigram(const char *path, struct kw__unigram **out, kw_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!file)
        return kw__fail(err, errno == ENOENT || errno == ENOTDIR ? KW_ERROR_NOT_FOUND : KW_ERROR_IO,
                        "cannot read the tokenizer %s: %s", path, strerror(errno));
    char *bytes = NULL;
    size_t size = 0;
    kw_status status = read_file(file, path, &bytes, &size, err);
    fclose(file);
    if (status) return status;
    enum kw__unigram_result result = kw__unigram_check(bytes, size);
    if (result == KW__UNIGRAM_OK) result = kw__unigram_open(bytes, size, out);
    free(bytes);
    if (result == KW__UNIGRAM_NO_MEMORY) return kw__fail_memory(err);
    if (result != KW__UNIGRAM_OK)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s is no sentencepiece model; get spiece.model of the model's tokenizer folder again", path);
    return KW_OK;
}

static kw_status new_tokenizer(struct kw__tokenizer value, struct kw__tokenizer **out, kw_error *err)
{
    struct kw__tokenizer *tokenizer = malloc(sizeof *tokenizer);
    if (!tokenizer) return kw__fail_memory(err);
    *tokenizer = value;
    *out = tokenizer;
    return KW_OK;
}

kw_status kw__tokenizer_open(const char *path, int64_t vocab, struct kw__tokenizer **out, kw_error *err)
{
    struct kw__tokenizer t = {.begin = -1};
    kw_status status = load_unigram(path, &t.unigram, err);
    if (status) return status;
    t.end = kw__unigram_end(t.unigram);
    if (t.end < 0)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s has no piece </s>; it is no T5 tokenizer", path);
    else if (kw__unigram_size(t.unigram) > vocab)
        status =
            kw__fail(err, KW_ERROR_FORMAT,
                     "%s has %d pieces, the text encoder %" PRId64 " embeddings; they do not belong together",
                     path, kw__unigram_size(t.unigram), vocab);
    if (!status) status = new_tokenizer(t, out, err);
    if (status) kw__unigram_close(t.unigram);
    return status;
}

kw_status kw__tokenizer_open_bpe(const char *folder, int64_t vocab, struct kw__tokenizer **out, kw_error *err)
{
    struct kw__tokenizer t = {0};
    kw_status status = kw__bpe_open(folder, &t.bpe, err);
    if (status) return status;
    t.begin = kw__bpe_begin(t.bpe);
    t.end = t.pad = kw__bpe_end(t.bpe);
    if (kw__bpe_size(t.bpe) > vocab)
        status = kw__fail(err, KW_ERROR_FORMAT,
                          "%s/vocab.json has %" PRId64 " pieces, the text encoder %" PRId64
                          " embeddings; they do not belong together",
                          folder, kw__bpe_size(t.bpe), vocab);
    if (!status) status = new_tokenizer(t, out, err);
    if (status) kw__bpe_close(t.bpe);
    return status;
}

kw_status kw__tokenizer_open_bytes(int64_t vocab, struct kw__tokenizer **out, kw_error *err)
{
    if (vocab <= BYTES_FIRST)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "the text encoder has %" PRId64 " embeddings; encoding bytes needs %d at least",
                        vocab, BYTES_FIRST + 1);
    int64_t letters = vocab - BYTES_FIRST < 256 ? vocab - BYTES_FIRST : 256;
    struct kw__tokenizer t = {.begin = -1, .end = BYTES_END, .letters = (uint32_t)letters};
    return new_tokenizer(t, out, err);
}

void kw__tokenizer_close(struct kw__tokenizer *tokenizer)
{
    if (!tokenizer) return;
    kw__unigram_close(tokenizer->unigram);
    kw__bpe_close(tokenizer->bpe);
    free(tokenizer);
}

const char *kw__tokenizer_name(const struct kw__tokenizer *tokenizer)
{
    return tokenizer->unigram ? "unigram" : tokenizer->bpe ? "bpe" : "bytes";
}

int32_t kw__tokenizer_pad(const struct kw__tokenizer *tokenizer)
{
    return tokenizer->pad;
}

/* ---- Encoding ------------------------------------------------------------------------------- */

static size_t encode_bytes(uint32_t letters, const char *text, size_t length, int32_t *ids, size_t room)
{
    for (size_t i = 0; i < length && i < room; i++)
        ids[i] = BYTES_FIRST + (int32_t)((unsigned char)text[i] % letters);
    return length;
}

kw_status kw__tokenizer_encode(const struct kw__tokenizer *tokenizer, const char *text, size_t most,
                               int32_t *ids, size_t *count, size_t *whole, kw_error *err)
{
    size_t length = strlen(text), before = tokenizer->begin >= 0, room = most - 1 - before, all = 0;
    if (before) ids[0] = tokenizer->begin;
    ids += before;
    if (tokenizer->unigram) {
        enum kw__unigram_result result =
            kw__unigram_encode(tokenizer->unigram, text, length, ids, room, &all);
        if (result == KW__UNIGRAM_NO_MEMORY) return kw__fail_memory(err);
        if (result != KW__UNIGRAM_OK)
            return kw__fail(err, KW_ERROR_FORMAT, "the tokenizer cannot encode the prompt; is it damaged?");
    } else if (tokenizer->bpe) {
        kw_status status = kw__bpe_encode(tokenizer->bpe, text, ids, room, &all, err);
        if (status) return status;
    } else {
        all = encode_bytes(tokenizer->letters, text, length, ids, room);
    }
    size_t used = all < room ? all : room;
    ids[used] = tokenizer->end;
    *count = before + used + 1;
    *whole = before + all + 1;
    return KW_OK;
}

const char *kw__sentencepiece_version(void)
{
    return KW_SENTENCEPIECE_VERSION;
}
