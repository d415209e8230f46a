/* sentencepiece behind C functions; unigram.h is the manual. */
#include "text/unigram.h"

#include <new>
#include <vector>

#include <sentencepiece_processor.h>

struct kw__unigram {
    sentencepiece::SentencePieceProcessor processor;
};

kw__unigram_result kw__unigram_open(const void *bytes, size_t size, kw__unigram **out)
{
    kw__unigram *unigram = nullptr;
    kw__unigram_result result = KW__UNIGRAM_NO_MODEL;
    try {
        unigram = new kw__unigram;
        const absl::string_view model(static_cast<const char *>(bytes), size);
        if (unigram->processor.LoadFromSerializedProto(model).ok()) result = KW__UNIGRAM_OK;
    } catch (const std::bad_alloc &) {
        result = KW__UNIGRAM_NO_MEMORY;
    } catch (...) {
        result = KW__UNIGRAM_NO_MODEL;
    }
    if (result == KW__UNIGRAM_OK)
        *out = unigram;
    else
        kw__unigram_close(unigram);
    return result;
}

void kw__unigram_close(kw__unigram *unigram)
{
    try {
        delete unigram;
    } catch (...) {
        /* a destructor that throws has nothing left to say */
    }
}

int kw__unigram_size(const kw__unigram *unigram)
{
    return unigram->processor.GetPieceSize();
}

int kw__unigram_end(const kw__unigram *unigram)
{
    return unigram->processor.eos_id();
}

kw__unigram_result kw__unigram_encode(const kw__unigram *unigram, const char *text, size_t length,
                                      int32_t *ids, size_t room, size_t *count)
{
    try {
        std::vector<int> all;
        if (!unigram->processor.Encode(absl::string_view(text, length), &all).ok()) return KW__UNIGRAM_FAILED;
        *count = all.size();
        for (size_t i = 0; i < all.size() && i < room; i++) ids[i] = all[i];
        return KW__UNIGRAM_OK;
    } catch (const std::bad_alloc &) {
        return KW__UNIGRAM_NO_MEMORY;
    } catch (...) {
        return KW__UNIGRAM_FAILED;
    }
}
