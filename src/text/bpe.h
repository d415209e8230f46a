/* CLIP's tokenizer: byte-pair encoding (Sennrich et al., arXiv 1508.07909) of bytes, from the vocab.json
 * and merges.txt of a model's tokenizer folder.
 *
 * A text is lowered and cut to words: the endings 's 't 're 've 'm 'll 'd, runs of letters, single
 * numbers, runs of anything else that is no space. The bytes of a word are its first pieces, the last one
 * marked as the end of a word; of two neighbours that the merges have, those with the earliest merge become
 * one, until there are none. What is letter, number and lower case beyond ASCII is what the C library says;
 * characters are taken as they are, where transformers composes accents first. */
#ifndef KW_TEXT_BPE_H
#define KW_TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "kinowatt.h"

struct kw__bpe;

/* From <folder>/vocab.json and <folder>/merges.txt. */
kw_status kw__bpe_open(const char *folder, struct kw__bpe **out, kw_error *err);
void kw__bpe_close(struct kw__bpe *bpe);

/* Pieces of the vocabulary, and the ids of <|startoftext|> and <|endoftext|>. */
int64_t kw__bpe_size(const struct kw__bpe *bpe);
int32_t kw__bpe_begin(const struct kw__bpe *bpe);
int32_t kw__bpe_end(const struct kw__bpe *bpe);

/* The first `room` ids into `ids` and the number of all of them into `count`; neither begin nor end is
 * added. The text is UTF-8. */
kw_status kw__bpe_encode(const struct kw__bpe *bpe, const char *text, int32_t *ids, size_t room,
                         size_t *count, kw_error *err);

#endif
