/* From a prompt to the token ids that the text encoder reads.
 *
 * Three tokenizers:
 *   Unigram      a model folder's tokenizer/spiece.model, through sentencepiece. The ids are those of
 *                transformers' T5 tokenizer but for two things. A character that no piece has is its
 *                bytes if the model has pieces for them (as umT5 was trained), where a fast tokenizer
 *                may say <unk>; without them a run of such characters is one <unk>. A special token
 *                spelled out in a prompt ("</s>") is text like any other.
 *   BPE          a model folder's tokenizer/vocab.json and merges.txt, CLIP's (bpe.h)
 *   bytes        the stand-in for random weights, which come without a tokenizer: token id = 3 + byte
 *                of the UTF-8 text (modulo the vocabulary less 3), as ByT5 has it. It gives four to
 *                five times as many tokens as Unigram, so a result made with it says so.
 * Unigram and bytes end with </s> (id 1 in T5's vocabularies and for bytes) and pad with 0; BPE begins with
 * <|startoftext|>, ends with <|endoftext|> and pads with that.
 *
 * Of diffusers' pipelines only WanPipeline cleans a prompt before its tokenizer sees it (prompt.c). Of ftfy,
 * which it applies first, curved quotes become straight here too; ligatures and wide letters the tokenizer
 * makes plain itself; text decoded wrongly stays as it is. */
#ifndef KW_TEXT_TOKENIZER_H
#define KW_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kinowatt.h"

struct kw__tokenizer;

/* Opens a spiece.model for a text encoder with `vocab` embeddings (a vocabulary that is larger is
 * another model's: KW_ERROR_FORMAT). */
kw_status kw__tokenizer_open(const char *path, int64_t vocab, struct kw__tokenizer **out, kw_error *err);
/* Opens a folder with vocab.json and merges.txt. */
kw_status kw__tokenizer_open_bpe(const char *folder, int64_t vocab, struct kw__tokenizer **out,
                                 kw_error *err);
/* The stand-in; `vocab` is at least 4. */
kw_status kw__tokenizer_open_bytes(int64_t vocab, struct kw__tokenizer **out, kw_error *err);
void kw__tokenizer_close(struct kw__tokenizer *tokenizer);

/* "unigram", "bpe" or "bytes": stored with results. */
const char *kw__tokenizer_name(const struct kw__tokenizer *tokenizer);

/* What a prompt is padded with. */
int32_t kw__tokenizer_pad(const struct kw__tokenizer *tokenizer);

/* Encodes a text that is valid UTF-8: at most `most` >= 2 ids, </s> the last of them; where there are
 * more, the last ones before </s> are dropped. `count` is the number of ids written, `whole` the
 * number without the limit. The empty text is </s> alone, after the beginning of a text
 * where there is that. */
kw_status kw__tokenizer_encode(const struct kw__tokenizer *tokenizer, const char *text, size_t most,
                               int32_t *ids, size_t *count, size_t *whole, kw_error *err);

/* Cleans a prompt: HTML character references are replaced, twice, by the rules of HTML 5 (those of
 * Python's html.unescape), runs of white space become one space, and both ends are stripped. Text that
 * is not UTF-8 is KW_ERROR_USAGE, with the place and with `what` ("the negative prompt") in front. The
 * caller frees *out. */
kw_status kw__prompt_clean(const char *what, const char *prompt, char **out, kw_error *err);

/* Encodes a prompt, cleaned first if `clean` says so. ids[0 .. width-1] become the tokens and then padding;
 * `count` is the number of tokens among them, `whole` that of all. When tokens were dropped, `warning` (n
 * bytes) says how many and what to do; else it is "". */
kw_status kw__prompt_encode(const struct kw__tokenizer *tokenizer, const char *what, const char *prompt,
                            bool clean, size_t width, int32_t *ids, size_t *count, size_t *whole,
                            char *warning, size_t n, kw_error *err);

/* The version of sentencepiece that this was built with, which says it nowhere at run time. */
const char *kw__sentencepiece_version(void);

#endif
