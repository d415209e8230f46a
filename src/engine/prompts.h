/* The prompts of a run as token ids. */
#ifndef KW_ENGINE_PROMPTS_H
#define KW_ENGINE_PROMPTS_H

#include "model/family.h"
#include "text/tokenizer.h"

struct kw__encoded_prompt {
    int32_t *ids; /* as many as the encoder reads: the real ones, then padding */
    size_t count, whole;
    char warning[256]; /* of tokens that were dropped; "": none were */
};

enum { KW__TEXT_ENCODERS = 2 }; /* at most: the second reads ids_2 */

struct kw__prompts {
    int encoders, count; /* 2 prompts with guidance */
    int64_t vocabulary;  /* of the first encoder */
    struct kw__tokenizer *tokenizers[KW__TEXT_ENCODERS];
    struct kw__encoded_prompt prompts[KW__TEXT_ENCODERS][2];
    char warning[256]; /* of the tokenizers; "": none */
};

/* Finds the tokenizers and encodes, prompts cleaned where the pipeline does so. One that is NULL is empty. On
 * failure there is nothing to close. */
kw_status kw__prompts_open(const kw_model *model, const kw_effective *request, const char *weights,
                           const char *prompt, const char *negative_prompt, struct kw__prompts *out,
                           kw_error *err);
void kw__prompts_close(struct kw__prompts *prompts);

#endif
