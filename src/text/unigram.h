/* The part of sentencepiece that is used, behind C functions: no exception leaves them. */
#ifndef KW_TEXT_UNIGRAM_H
#define KW_TEXT_UNIGRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kw__unigram;

enum kw__unigram_result { KW__UNIGRAM_OK, KW__UNIGRAM_NO_MODEL, KW__UNIGRAM_NO_MEMORY, KW__UNIGRAM_FAILED };

/* KW__UNIGRAM_NO_MODEL unless the bytes are a protocol buffer whose character map stays inside itself
 * (charsmap.c); sentencepiece trusts that. To be asked before kw__unigram_open. */
enum kw__unigram_result kw__unigram_check(const void *bytes, size_t size);

/* From the bytes of a spiece.model. */
enum kw__unigram_result kw__unigram_open(const void *bytes, size_t size, struct kw__unigram **out);
void kw__unigram_close(struct kw__unigram *unigram);

/* Pieces of the vocabulary, and the id of </s>, negative when it has none. */
int kw__unigram_size(const struct kw__unigram *unigram);
int kw__unigram_end(const struct kw__unigram *unigram);

/* The first `room` ids into `ids` and the number of all of them into `count`; no </s> is added. */
enum kw__unigram_result kw__unigram_encode(const struct kw__unigram *unigram, const char *text, size_t length,
                                           int32_t *ids, size_t room, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
